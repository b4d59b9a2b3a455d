//! Looking for keys, source by source. In: environment, files, and what they point to. Out: keys with their end, or
//! which sources were looked at.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::error::Category;

use super::metadata::{container, instance};
use super::profile::{FILE_MAX, Profiles, ProfilesError};
use super::sts::{assume, web_identity};
use super::{ChainSettings, Keys, Loaded, Look};
use crate::error::{Class, Fault, said};
use crate::{Secret, date};

/// Most profiles that one follows to the next by `source_profile`.
const FOLLOWED_MAX: usize = 5;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// No source has any.
    #[error(
        "no AWS credentials: looked at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, {files}, AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN, AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI, and the instance's metadata ({instance})"
    )]
    Nowhere {
        /// Which profile files.
        files: String,
        /// What became of the question to the instance's metadata.
        instance: String,
    },
    /// Neither a container nor an instance has any.
    #[error(
        "no AWS credentials: neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor _FULL_URI is set, and the instance's metadata has none ({instance}); give the instance a role"
    )]
    NotHere {
        /// What became of the question to the instance's metadata.
        instance: String,
    },
    /// The profile that is to be used is not there.
    #[error("there is no profile {profile} in {files}; there are: {names}")]
    NoProfile {
        /// The profile.
        profile: String,
        /// The files that were read.
        files: String,
        /// Those that are there.
        names: String,
    },
    /// A profile that gives no keys in any way we know.
    #[error(
        "profile {profile} has no aws_access_key_id with aws_secret_access_key, role_arn, web_identity_token_file or credential_process"
    )]
    NoKeys {
        /// The profile.
        profile: String,
    },
    /// A profile that wants a person at a browser.
    #[error(
        "profile {profile} uses single sign-on, which needs a person; use keys, a role, web identity or credential_process"
    )]
    SingleSignOn {
        /// The profile.
        profile: String,
    },
    /// A profile with a command, and nothing to run it.
    #[error("profile {profile} has a credential_process, and this program runs none")]
    NoRunner {
        /// The profile.
        profile: String,
    },
    /// Profiles that lead to each other.
    #[error("profile {profile} leads back to itself, or over more than {FOLLOWED_MAX} others")]
    Circle {
        /// The profile.
        profile: String,
    },
    /// A setting with a value we do not know.
    #[error("{key} of profile {profile} has a value that is not known here: {value}")]
    Value {
        /// The profile.
        profile: String,
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// Part of a setting without the other.
    #[error("{0} is set, and {1} is not")]
    Half(&'static str, &'static str),
    /// A file that cannot be read.
    #[error("read {}", .file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A profile file that makes no sense.
    #[error("read {}", .file.display())]
    Profiles {
        /// Which.
        file: PathBuf,
        /// Where.
        source: ProfilesError,
    },
    /// An answer or output that holds no keys.
    #[error("{from} gave no keys")]
    NoJson {
        /// Who.
        from: String,
        /// Why.
        source: JsonError,
    },
    /// Keys with an end that cannot be read, or a service that says no.
    #[error("{from} gave no keys: {said}")]
    Said {
        /// Who.
        from: String,
        /// What it said.
        said: String,
    },
}

/// Looks everywhere, or at the one profile that is to be used.
pub(super) async fn load(settings: &ChainSettings) -> Result<Loaded, Fault> {
    let world = World::new(settings)?;
    match &settings.look {
        Look::Profile(profile) => return world.profile(profile).await,
        Look::Machine => return world.machine().await,
        Look::Everywhere => {}
    }
    if let Some(loaded) = world.environment()? {
        return Ok(loaded);
    }
    let profile = world.var("AWS_PROFILE").or_else(|| world.var("AWS_DEFAULT_PROFILE"));
    match profile {
        Some(profile) => return world.profile(&profile).await,
        // A default profile may be there for its region alone.
        None if world.gives_keys("default") => return world.profile("default").await,
        None => {}
    }
    if let Some(loaded) = world.web_identity_of_environment().await? {
        return Ok(loaded);
    }
    if let Some(loaded) = container(&world).await? {
        return Ok(loaded);
    }
    match instance(&world).await? {
        Ok(loaded) => Ok(loaded),
        Err(instance) => {
            let files = world.files.clone();
            Err(Fault::new(Class::Credentials, ChainError::Nowhere { files, instance }))
        }
    }
}

/// The region that environment and profile files name.
pub(super) fn region(settings: &ChainSettings) -> Result<Option<String>, Fault> {
    World::new(settings).map(|world| world.named_region())
}

/// What a chain looks at.
pub(super) struct World<'a> {
    pub(super) settings: &'a ChainSettings,
    profiles: Profiles,
    files: String,
}

impl<'a> World<'a> {
    fn new(settings: &'a ChainSettings) -> Result<Self, Fault> {
        let mut world = World { settings, profiles: Profiles::default(), files: String::new() };
        let home = world.var("HOME").map(PathBuf::from);
        let file = |name: &str, usual: &str| {
            world.var(name).map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".aws").join(usual)))
        };
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        let config = file("AWS_CONFIG_FILE", "config");
        let mut profiles = Profiles::default();
        for (file, is_config) in
            credentials.iter().map(|f| (f, false)).chain(config.iter().map(|f| (f, true)))
        {
            let Some(text) = read_if_there(file)? else { continue };
            let added = if is_config { profiles.add_config(&text) } else { profiles.add_credentials(&text) };
            added.map_err(|source| Fault::local(ChainError::Profiles { file: file.clone(), source }))?;
        }
        let names: Vec<String> =
            [credentials, config].iter().flatten().map(|f| f.display().to_string()).collect();
        world.profiles = profiles;
        world.files =
            if names.is_empty() { "no profile file (HOME is not set)".into() } else { names.join(" and ") };
        Ok(world)
    }

    /// A variable that is set to something.
    pub(super) fn var(&self, name: &str) -> Option<String> {
        (self.settings.lookup)(name).filter(|value| !value.is_empty())
    }

    /// The region for STS.
    pub(super) fn region(&self) -> String {
        self.named_region().unwrap_or_else(|| "us-east-1".into())
    }

    fn named_region(&self) -> Option<String> {
        let profile = match &self.settings.look {
            Look::Profile(profile) => Some(profile.clone()),
            Look::Everywhere | Look::Machine => self.var("AWS_PROFILE"),
        };
        let of_profile =
            self.profiles.get(profile.as_deref().unwrap_or("default"), "region").map(str::to_owned);
        self.var("AWS_REGION").or_else(|| self.var("AWS_DEFAULT_REGION")).or(of_profile)
    }

    async fn machine(&self) -> Result<Loaded, Fault> {
        if let Some(loaded) = container(self).await? {
            return Ok(loaded);
        }
        let nothing = |instance| Fault::new(Class::Credentials, ChainError::NotHere { instance });
        instance(self).await?.map_err(nothing)
    }

    fn environment(&self) -> Result<Option<Loaded>, Fault> {
        let half = |has, lacks| Err(Fault::new(Class::Credentials, ChainError::Half(has, lacks)));
        let (id, secret) = (self.var("AWS_ACCESS_KEY_ID"), self.var("AWS_SECRET_ACCESS_KEY"));
        let (id, secret) = match (id, secret) {
            (Some(id), Some(secret)) => (id, Secret::new(secret)),
            (None, None) => return Ok(None),
            (Some(_), None) => return half("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            (None, Some(_)) => return half("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        };
        let session = self.var("AWS_SESSION_TOKEN").map(Secret::new);
        Ok(Some(Loaded { keys: Keys { id, secret, session }, expires: None }))
    }

    async fn web_identity_of_environment(&self) -> Result<Option<Loaded>, Fault> {
        let Some(file) = self.var("AWS_WEB_IDENTITY_TOKEN_FILE") else { return Ok(None) };
        let lacks = ChainError::Half("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN");
        let role = self.var("AWS_ROLE_ARN").ok_or_else(|| Fault::new(Class::Credentials, lacks))?;
        let session = self.var("AWS_ROLE_SESSION_NAME");
        web_identity(self, Path::new(&file), &role, session.as_deref()).await.map(Some)
    }

    fn gives_keys(&self, profile: &str) -> bool {
        let keys = [
            "aws_access_key_id",
            "role_arn",
            "web_identity_token_file",
            "credential_process",
            "sso_session",
            "sso_start_url",
        ];
        keys.iter().any(|key| self.profiles.get(profile, key).is_some())
    }

    /// The keys of a profile: its own, or those of a role that the keys of another profile may take.
    async fn profile(&self, name: &str) -> Result<Loaded, Fault> {
        let mut roles: Vec<Role> = Vec::new();
        let mut at = name.to_owned();
        let mut loaded = loop {
            if !self.profiles.has(&at) {
                let (files, names) = (self.files.clone(), self.profiles.names());
                let profile = said(&at);
                return Err(Fault::new(Class::Credentials, ChainError::NoProfile { profile, files, names }));
            }
            let again = roles.iter().any(|role| role.profile == at);
            let get = |key: &str| self.profiles.get(&at, key).map(str::to_owned);
            // A profile that names itself as its source means its own keys.
            let itself = again && get("source_profile").as_deref() == Some(at.as_str());
            if roles.len() >= FOLLOWED_MAX || (again && !itself) {
                return Err(Fault::local(ChainError::Circle { profile: said(name) }));
            }
            let role = get("role_arn").filter(|_| !itself && get("web_identity_token_file").is_none());
            let Some(arn) = role else { break self.own_keys(&at, itself).await? };
            let role = Role {
                profile: at.clone(),
                arn,
                session: get("role_session_name"),
                external_id: get("external_id"),
            };
            roles.push(role);
            if let Some(source) = get("credential_source") {
                break self.of_source(&at, &source).await?;
            }
            match get("source_profile") {
                Some(source) => at = source,
                None => return Err(Fault::local(ChainError::NoKeys { profile: said(&at) })),
            }
        };
        while let Some(role) = roles.pop() {
            loaded = assume(self, &loaded.keys, &role).await?;
        }
        Ok(loaded)
    }

    /// What a profile gives without another profile's help.
    async fn own_keys(&self, profile: &str, only_keys: bool) -> Result<Loaded, Fault> {
        let get = |key: &str| self.profiles.get(profile, key);
        let shown = || said(profile);
        if let (Some(file), Some(role), false) = (get("web_identity_token_file"), get("role_arn"), only_keys)
        {
            return web_identity(self, Path::new(file), role, get("role_session_name")).await;
        }
        if let (Some(id), Some(secret)) = (get("aws_access_key_id"), get("aws_secret_access_key")) {
            let session = get("aws_session_token").map(Secret::new);
            let keys = Keys { id: id.to_owned(), secret: Secret::new(secret), session };
            return Ok(Loaded { keys, expires: None });
        }
        if let Some(command) = get("credential_process") {
            let none = || Fault::new(Class::Credentials, ChainError::NoRunner { profile: shown() });
            let runner = self.settings.runner.as_ref().ok_or_else(none)?;
            let output = runner(command.to_owned()).await.map_err(|e| Fault::new(Class::Credentials, e))?;
            return from_json(&output, &format!("the credential_process of profile {}", shown()));
        }
        let sso = get("sso_session").is_some() || get("sso_start_url").is_some();
        let profile = shown();
        let error = if sso { ChainError::SingleSignOn { profile } } else { ChainError::NoKeys { profile } };
        Err(Fault::new(Class::Credentials, error))
    }

    /// `credential_source`: keys of the surroundings.
    async fn of_source(&self, profile: &str, source: &str) -> Result<Loaded, Fault> {
        let found = match source {
            "Environment" => self.environment()?,
            "EcsContainer" => container(self).await?,
            "Ec2InstanceMetadata" => instance(self).await?.ok(),
            _ => {
                let (profile, value) = (said(profile), said(source));
                return Err(Fault::local(ChainError::Value { profile, key: "credential_source", value }));
            }
        };
        let none = || Fault::new(Class::Credentials, ChainError::NoKeys { profile: said(profile) });
        found.ok_or_else(none)
    }
}

/// A role that is to be taken.
pub(super) struct Role {
    profile: String,
    pub(super) arn: String,
    pub(super) session: Option<String>,
    pub(super) external_id: Option<String>,
}

/// A file's text, bounded; none when it is not there.
fn read_if_there(file: &Path) -> Result<Option<String>, Fault> {
    match read(file) {
        Ok(text) => Ok(Some(text)),
        Err(source) if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(Fault::local(ChainError::File { file: file.to_owned(), source })),
    }
}

/// A file that must be there, such as a token.
pub(super) fn read_token(file: &Path) -> Result<Secret, Fault> {
    let failed = |source| Fault::new(Class::Credentials, ChainError::File { file: file.to_owned(), source });
    read(file).map(|text| Secret::new(text.trim())).map_err(failed)
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(file)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|len| len <= FILE_MAX) {
        return Ok(text);
    }
    Err(std::io::Error::new(ErrorKind::FileTooLarge, "more than 1 MiB"))
}

/// Where a text stops being the JSON that it should be. Says nothing of the text itself, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at line {line}, column {column}; an object with AccessKeyId and SecretAccessKey is needed")]
pub struct JsonError {
    what: &'static str,
    line: usize,
    column: usize,
}

impl JsonError {
    fn of(error: &serde_json::Error) -> Self {
        let what = match error.classify() {
            Category::Syntax => "this is no JSON",
            Category::Data => "this JSON has another form",
            Category::Eof => "the JSON ends too early",
            Category::Io => "the JSON cannot be read",
        };
        Self { what, line: error.line(), column: error.column() }
    }
}

/// Keys as metadata services and processes print them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct JsonKeys {
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "Token")]
    session_token: Option<String>,
    expiration: Option<String>,
}

/// Reads keys from JSON.
pub(super) fn from_json(json: &[u8], from: &str) -> Result<Loaded, Fault> {
    let wrong = |error: serde_json::Error| {
        let source = JsonError::of(&error);
        Fault::new(Class::Credentials, ChainError::NoJson { from: from.to_owned(), source })
    };
    let read: JsonKeys = serde_json::from_slice(json).map_err(wrong)?;
    let secret = Secret::new(read.secret_access_key);
    let keys = Keys { id: read.access_key_id, secret, session: read.session_token.map(Secret::new) };
    let expires = read.expiration.map(|end| expiry(&end, from)).transpose()?;
    Ok(Loaded { keys, expires })
}

/// The end of keys.
pub(super) fn expiry(text: &str, from: &str) -> Result<service_kit::clock::Time, Fault> {
    let wrong = |_| {
        let said = "their end is no time".to_owned();
        Fault::new(Class::Credentials, ChainError::Said { from: from.to_owned(), said })
    };
    text.trim().parse().or_else(|_| date::parse_http_date(text)).map_err(wrong)
}
