//! What can be seen of a source without asking anybody. In: a source, the environment. Out: findings for `check-config`:
//! what is absent here is a warning, for the file may be meant for another machine; what is there and makes no sense is
//! an error.

use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;

use crate::file::{self, Content};
use crate::source::{Source, VaultToken};
use crate::{Lookup, ParseError, SecretError, parse, parse_or_raw};

/// Something an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether the configuration cannot work as it is, on any machine with these files.
    pub is_error: bool,
    /// What is the matter.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { is_error: false, what: what.into(), remedy: remedy.into() }
}

impl Source {
    /// Looks at variables and files, asks no service, changes nothing.
    #[must_use]
    pub fn check(&self, lookup: &Lookup) -> Vec<Finding> {
        let mut found = Vec::new();
        match self {
            Self::None | Self::InstanceMetadata { .. } => {}
            Self::Env { vars } => vars.iter().for_each(|name| variable(lookup, name, &mut found)),
            Self::CachixToken { env_var } => variable(lookup, env_var, &mut found),
            Self::File { path } => content(path, |text| parse(text).map(drop), &mut found),
            Self::SystemdCredential { name } => match lookup("CREDENTIALS_DIRECTORY") {
                Some(dir) => {
                    let read = |text: &str| parse_or_raw(text, name).map(drop);
                    content(&Path::new(&dir).join(name), read, &mut found);
                }
                None => found.push(warning(
                    "$CREDENTIALS_DIRECTORY is not set",
                    format!("run under systemd with LoadCredential={name}:FILE"),
                )),
            },
            Self::Vault(vault) => match &vault.token {
                VaultToken::Env(name) => variable(lookup, name, &mut found),
                VaultToken::File(path) => content(path, |_| Ok(()), &mut found),
            },
            Self::AwsProfile { secret, .. } => region(secret.as_ref(), lookup, &mut found),
            Self::AwsSecretsManager(secret) => region(Some(secret), lookup, &mut found),
            Self::GithubAppKeyFile { app_id, app_id_env, key_file } => {
                if app_id.is_none() {
                    variable(lookup, app_id_env, &mut found);
                }
                match key_file {
                    Some(path) => content(path, |_| Ok(()), &mut found),
                    None => variable(lookup, "GITHUB_APP_PRIVATE_KEY", &mut found),
                }
            }
        }
        found
    }
}

fn variable(lookup: &Lookup, name: &str, found: &mut Vec<Finding>) {
    if lookup(name).is_none_or(|value| value.is_empty()) {
        found.push(warning(format!("the variable {name} is not set here"), "set it where the daemon runs"));
    }
}

fn region(secret: Option<&crate::ManagedSecret>, lookup: &Lookup, found: &mut Vec<Finding>) {
    let named = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().any(|name| lookup(name).is_some());
    if secret.is_some_and(|secret| secret.region.is_none()) && !named {
        found.push(warning(
            "no region is named, and AWS_REGION is not set here",
            "write region, or set AWS_REGION or the profile's region where the daemon runs",
        ));
    }
}

fn content(path: &Path, read: impl Fn(&str) -> Result<(), ParseError>, found: &mut Vec<Finding>) {
    let shown = path.display();
    match file::read(path) {
        Ok(Content { text, others_read }) => {
            if others_read {
                found.push(open_to_others(path));
            }
            if let Err(error) = read(text.reveal()) {
                let remedy = "write a JSON object or KEY=VALUE lines".to_owned();
                found.push(Finding { is_error: true, what: format!("{shown} {error}"), remedy });
            }
        }
        Err(error) => found.push(Finding { is_error: !is_absent(&error), ..of_error(&error) }),
    }
}

pub(crate) fn open_to_others(path: &Path) -> Finding {
    let shown = path.display();
    warning(format!("everybody on this machine can read {shown}"), format!("chmod o-rwx {shown}"))
}

fn of_error(error: &SecretError) -> Finding {
    let why = error.source().map(|why| format!(": {why}")).unwrap_or_default();
    warning(format!("{} {}{why}", error.place, error.what), error.remedy.clone())
}

/// Whether a file is absent here, or not ours to read: it may be there where the daemon runs.
fn is_absent(error: &SecretError) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| {
        matches!(io.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied)
    })
}
