//! Reads a source when its values are wanted. In: a checked source, and the means to reach it. Out: values not older than
//! a short time; whoever asks meanwhile shares them. A source that fails fails its reader: what was read before is not
//! used beyond its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use object_kit::Line;
use object_kit::aws::Look;
use service_kit::clock::Mono;
use tokio::sync::Mutex;

use crate::aws::{chain, keys, managed};
use crate::check::open_to_others;
use crate::local::{self, FromFile};
use crate::metadata::{self, At};
use crate::source::Source;
use crate::vault::Vault;
use crate::{Cloud, Lookup, Runner, SecretError, Values};

/// How long values are used before their source is asked again, unless something else is configured.
pub const KEPT: Duration = Duration::from_secs(30);
/// Longest that a source may take to be read.
pub const READ_MAX: Duration = Duration::from_secs(30);
/// How long a failure is told to whoever asks behind it: a source that hangs is not waited for by each.
const FAILED_KEPT: Duration = Duration::from_secs(2);
/// How long after values were forgotten they are not forgotten again: what is refused then is refused for good.
const FORGET_AGAIN: Duration = Duration::from_secs(1);
/// How long before their own end values are no longer used.
const EARLY: Duration = Duration::from_secs(60);

/// What a source is read with.
#[derive(Clone)]
pub struct Means {
    /// The environment, read at each use.
    pub lookup: Lookup,
    /// What runs `credential_process` of AWS profiles; none refuses such profiles.
    pub runner: Option<Runner>,
    /// How services are spoken to. Its clock is the reader's.
    pub line: Line,
    /// How long values are used, [`KEPT`] as a rule.
    pub kept: Duration,
}

impl std::fmt::Debug for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Means").field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// Reads one source.
pub struct Reader {
    source: Source,
    means: Means,
    vault: Option<Vault>,
    held: Mutex<Option<Held>>,
    /// The last failure, and when it was.
    failed: Mutex<Option<(Mono, SecretError)>>,
    forgotten: Mutex<Option<Mono>>,
    /// Whether it was said that everybody can read the source's file.
    warned: AtomicBool,
}

struct Held {
    values: Arc<Values>,
    until: Mono,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({:?})", self.source)
    }
}

impl Reader {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(source: Source, means: Means) -> Arc<Self> {
        let vault = match &source {
            Source::Vault(at) => Some(Vault::new(at.clone(), means.lookup.clone(), &means.line)),
            _ => None,
        };
        let (held, failed, forgotten) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { source, means, vault, held, failed, forgotten, warned: AtomicBool::new(false) })
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The values as they are now, or were less than [`Means::kept`] ago. Takes [`READ_MAX`] at most.
    ///
    /// # Errors
    /// [`SecretError`]
    pub async fn read(&self) -> Result<Arc<Values>, SecretError> {
        let clock = &self.means.line.clock;
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| clock.mono() < held.until) {
            return Ok(Arc::clone(&held.values));
        }
        *held = None;
        let mut failed = self.failed.lock().await;
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| clock.mono().since(*at) < FAILED_KEPT) {
            return Err(error.again());
        }
        let kind = self.source.kind();
        let asked = clock.mono();
        let mut values = clock
            .timeout(READ_MAX, self.load())
            .await
            .map_err(|late| {
                let remedy = "check that it answers";
                SecretError::later(self.place(), "is not read in time", remedy).because(late)
            })
            .flatten()
            .map_err(|error| {
                let error = error.of(kind);
                *failed = Some((clock.mono(), error.again()));
                error
            })?;
        (values.kind, values.place) = (kind, self.place());
        let left = values.ends.map(|ends| ends.since(clock.now() + EARLY));
        let kept = left.map_or(self.means.kept, |left| left.min(self.means.kept));
        let values = Arc::new(values);
        *held = Some(Held { values: Arc::clone(&values), until: asked + kept });
        Ok(values)
    }

    /// Forgets what was read: the values were refused, and the next read asks the source. Not again within a second.
    pub async fn forget(&self) {
        let mut forgotten = self.forgotten.lock().await;
        let now = self.means.line.clock.mono();
        if forgotten.is_none_or(|last| now.since(last) >= FORGET_AGAIN) {
            *forgotten = Some(now);
            *self.held.lock().await = None;
        }
    }

    /// Does what has to be done between reads: keeps a Vault's token in force. Ends when it is dropped; for other sources
    /// there is nothing to do.
    pub async fn tend(&self) {
        match &self.vault {
            Some(vault) => vault.tend().await,
            None => std::future::pending().await,
        }
    }

    async fn load(&self) -> Result<Values, SecretError> {
        let means = &self.means;
        match (&self.source, &self.vault) {
            (Source::Vault(_), None) | (Source::None, _) => Ok(Values::default()),
            (Source::Vault(_), Some(vault)) => Ok(self.looked_at(vault.read().await?)),
            (Source::Env { vars }, _) => local::variables(&means.lookup, vars),
            (Source::CachixToken { env_var }, _) => {
                let token = local::variable(&means.lookup, env_var)?;
                Ok(Values::lasting([("CACHIX_AUTH_TOKEN".to_owned(), token)].into()))
            }
            (Source::File { path }, _) => Ok(self.looked_at(local::pairs(path.clone()).await?)),
            (Source::SystemdCredential { name }, _) => {
                Ok(self.looked_at(local::systemd(&means.lookup, name).await?))
            }
            (Source::GithubAppKeyFile { app_id, app_id_env, key_file }, _) => {
                let read = local::app_key(&means.lookup, app_id.as_deref(), app_id_env, key_file.as_deref());
                Ok(self.looked_at(read.await?))
            }
            (Source::AwsProfile { profile, secret }, _) => {
                let settings = chain(means, Look::Profile(profile.clone()));
                match secret {
                    Some(secret) => managed(&settings, secret).await,
                    None => keys(&settings, &format!("the profile {profile}")).await,
                }
            }
            (Source::AwsSecretsManager(secret), _) => managed(&chain(means, Look::Everywhere), secret).await,
            (Source::InstanceMetadata { provider, endpoint, resource, secret }, _) => match secret {
                Some(secret) => managed(&metadata::machine(means, endpoint.as_deref()), secret).await,
                None => {
                    let (endpoint, resource) = (endpoint.as_deref(), resource.as_deref());
                    metadata::read(means, At { provider: *provider, endpoint, resource }).await
                }
            },
        }
    }

    /// Takes what came from a file; says once that everybody can read it.
    fn looked_at<T>(&self, from: FromFile<T>) -> T {
        if let Some(path) = from.open.filter(|_| !self.warned.swap(true, Ordering::Relaxed)) {
            let finding = open_to_others(&path);
            tracing::warn!(file = %path.display(), "{}; {}", finding.what, finding.remedy);
        }
        from.value
    }

    /// Where the source is, for errors.
    fn place(&self) -> String {
        match &self.source {
            Source::None => "nothing".to_owned(),
            Source::Env { .. } => "the environment".to_owned(),
            Source::File { path } => path.display().to_string(),
            Source::AwsProfile { secret: Some(secret), .. }
            | Source::InstanceMetadata { secret: Some(secret), .. }
            | Source::AwsSecretsManager(secret) => format!("the secret {}", secret.name),
            Source::AwsProfile { profile, .. } => format!("the profile {profile}"),
            Source::CachixToken { env_var } => format!("the variable {env_var}"),
            Source::Vault(at) => format!("{}/{} at {}", at.mount, at.path, at.address),
            Source::SystemdCredential { name } => format!("the credential {name}"),
            Source::InstanceMetadata { provider, .. } => match provider {
                Some(Cloud::Aws) => "AWS".to_owned(),
                Some(Cloud::Gcp) => "Google".to_owned(),
                Some(Cloud::Azure) => "Azure".to_owned(),
                None => "the machine's metadata".to_owned(),
            },
            Source::GithubAppKeyFile { key_file, .. } => match key_file {
                Some(path) => path.display().to_string(),
                None => "the environment".to_owned(),
            },
        }
    }
}
