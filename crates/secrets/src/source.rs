//! The checked configuration of a source: which one, and where in it. Holds names, paths and addresses, never a secret.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `none`: there are none, and none are looked for.
    None,
    /// `env`: these variables.
    Env {
        /// Their names.
        vars: Vec<String>,
    },
    /// `file`: a JSON object or `KEY=VALUE` lines.
    File {
        /// Absolute.
        path: PathBuf,
    },
    /// `aws-profile`: the keys of a profile, or what they may read in Secrets Manager.
    AwsProfile {
        /// The profile.
        profile: String,
        /// The secret that is read with its keys; none gives the keys themselves.
        secret: Option<ManagedSecret>,
    },
    /// `cachix-token`: a variable, given as `CACHIX_AUTH_TOKEN`.
    CachixToken {
        /// The variable.
        env_var: String,
    },
    /// `vault`: a secret of the KV engine, version 2.
    Vault(VaultSecret),
    /// `aws-secrets-manager`: a secret, read with the keys that AWS' own programs would use.
    AwsSecretsManager(ManagedSecret),
    /// `systemd-credential`: a file below `$CREDENTIALS_DIRECTORY`.
    SystemdCredential {
        /// Its name.
        name: String,
    },
    /// `instance-metadata`: keys or a token of the machine's own role, or what they may read in Secrets Manager.
    InstanceMetadata {
        /// Whose machine it is; none to find out.
        provider: Option<Cloud>,
        /// Where the service is, for tests; none for its real address.
        endpoint: Option<String>,
        /// What an Azure token is for.
        resource: Option<String>,
        /// The secret that is read with AWS' keys; none gives the keys or token themselves.
        secret: Option<ManagedSecret>,
    },
    /// `github-app-key-file`: an app's id and key.
    GithubAppKeyFile {
        /// The id itself; none to read it from the variable.
        app_id: Option<String>,
        /// The variable with the id.
        app_id_env: String,
        /// The key; none to read it from `GITHUB_APP_PRIVATE_KEY`.
        key_file: Option<PathBuf>,
    },
}

impl Source {
    /// As the configuration calls it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Env { .. } => "env",
            Self::File { .. } => "file",
            Self::AwsProfile { .. } => "aws-profile",
            Self::CachixToken { .. } => "cachix-token",
            Self::Vault(_) => "vault",
            Self::AwsSecretsManager(_) => "aws-secrets-manager",
            Self::SystemdCredential { .. } => "systemd-credential",
            Self::InstanceMetadata { .. } => "instance-metadata",
            Self::GithubAppKeyFile { .. } => "github-app-key-file",
        }
    }

    /// The variables it reads by a name that the configuration gives, or that is its own: what is in them is meant for
    /// whoever has this source, and for nobody else. AWS' own variables are not among them: programs look there by
    /// themselves.
    #[must_use]
    pub fn variables(&self) -> Vec<String> {
        match self {
            Self::Env { vars } => vars.clone(),
            Self::CachixToken { env_var } => vec![env_var.clone()],
            Self::Vault(vault) => match &vault.token {
                VaultToken::Env(name) => vec![name.clone()],
                VaultToken::File(_) => Vec::new(),
            },
            Self::GithubAppKeyFile { app_id, app_id_env, key_file } => {
                let id = app_id.is_none().then(|| app_id_env.clone());
                id.into_iter()
                    .chain(key_file.is_none().then(|| "GITHUB_APP_PRIVATE_KEY".to_owned()))
                    .collect()
            }
            Self::None
            | Self::File { .. }
            | Self::AwsProfile { .. }
            | Self::AwsSecretsManager(_)
            | Self::SystemdCredential { .. }
            | Self::InstanceMetadata { .. } => Vec::new(),
        }
    }
}

/// A secret of AWS Secrets Manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedSecret {
    /// Its name or ARN.
    pub name: String,
    /// Its region; none for that of environment or profile.
    pub region: Option<String>,
    /// Where the service is, for tests; none for its real address.
    pub endpoint: Option<String>,
}

/// A secret of a Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSecret {
    /// `https://HOST:PORT`, without a slash at the end.
    pub address: String,
    /// The mount of the KV engine.
    pub mount: String,
    /// The path below it, without `data`.
    pub path: String,
    /// The namespace.
    pub namespace: Option<String>,
    /// Where the token is.
    pub token: VaultToken,
    /// Which fields are taken, by the name they get; empty for all as they are called.
    pub fields: BTreeMap<String, String>,
    /// Whom to trust; none for the machine's certificates.
    pub ca_file: Option<PathBuf>,
}

/// Where a Vault's token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultToken {
    /// In a variable.
    Env(String),
    /// In a file, such as an agent's sink.
    File(PathBuf),
}

/// Whose machine we run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// EC2, ECS, EKS: gives `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
    Aws,
    /// Gives `GOOGLE_OAUTH_ACCESS_TOKEN`.
    Gcp,
    /// Gives `AZURE_ACCESS_TOKEN`.
    Azure,
}
