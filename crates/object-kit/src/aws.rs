//! Who we are at AWS. In: keys, or the places where such programs look for them. Out: keys that are in force, renewed
//! before they expire. Leaves out single sign-on, which needs a person.

mod load;
mod metadata;
mod profile;
mod sts;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use service_kit::clock::{Clock, Mono, Time};
use tokio::sync::Mutex;

use crate::Work;
use crate::error::{BoxError, Fault, ObjectError};
use crate::{Asked, Line, Secret, asked};
pub use load::{ChainError, JsonError};
pub use profile::{Profiles, ProfilesError};

/// How long before their end keys are renewed.
const EARLY: Duration = Duration::from_secs(5 * 60);
/// How long keys without an end are kept before their source is read again.
const KEPT: Duration = Duration::from_secs(5 * 60);
/// How long after a renewal that failed the keys still in force are used without another try.
const RENEW_AGAIN: Duration = Duration::from_secs(30);
/// How long keys that are refused as wrong are not looked for again.
const WRONG_AGAIN: Duration = Duration::from_secs(5);

/// Access keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// Which keys.
    pub id: String,
    /// What signs.
    pub secret: Secret,
    /// What shows that keys for a time are in force.
    pub session: Option<Secret>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(***)")
    }
}

/// As whom a bucket is spoken to.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// With these keys.
    Keys(Keys),
    /// With what the chain finds. Several places may share one.
    Chain(Arc<Chain>),
    /// With what is told at each use.
    Asked(Asked<Keys>),
    /// As nobody: requests are not signed.
    Anonymous,
}

impl Credentials {
    /// The keys that are in force; none for nobody.
    pub(crate) async fn keys(&self) -> Result<Option<Keys>, Fault> {
        match self {
            Self::Keys(keys) => Ok(Some(keys.clone())),
            Self::Chain(chain) => chain.keys().await.map(Some),
            Self::Asked(asked) => told(asked).await.map(Some),
            Self::Anonymous => Ok(None),
        }
    }

    /// After these keys were refused: whether there are others now. Where they were refused as `wrong` and not as
    /// expired, the places are looked at again only from time to time.
    pub(crate) async fn renew(&self, old: &Keys, wrong: bool) -> Result<bool, Fault> {
        match self {
            Self::Chain(chain) => chain.renew(old, wrong).await,
            Self::Asked(asked) => {
                // Whoever was refused before us may have asked already.
                if told(asked).await? != *old {
                    return Ok(true);
                }
                asked.0.forget().await;
                Ok(told(asked).await? != *old)
            }
            Self::Keys(_) | Self::Anonymous => Ok(false),
        }
    }
}

async fn told(asked: &Asked<Keys>) -> Result<Keys, Fault> {
    asked.0.tell().await.map_err(asked::untold)
}

/// Reads a variable of the environment.
pub type Lookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;
/// Runs a command of a profile (`credential_process`) with a shell's rules for words; gives what it printed.
pub type Runner = Arc<dyn Fn(String) -> Work<'static, Result<Vec<u8>, BoxError>> + Send + Sync>;

/// In which places keys are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// In all of them, in their order.
    Everywhere,
    /// In this profile, and nowhere else.
    Profile(String),
    /// In the container's credential service and the instance's metadata, and nowhere else.
    Machine,
}

/// Where a chain looks.
#[derive(Clone)]
pub struct ChainSettings {
    /// The environment.
    pub lookup: Lookup,
    /// In which of the places.
    pub look: Look,
    /// What runs commands of profiles; none refuses such profiles.
    pub runner: Option<Runner>,
    /// How to speak to STS and to metadata services.
    pub line: Line,
}

impl fmt::Debug for ChainSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainSettings").field("look", &self.look).finish_non_exhaustive()
    }
}

/// The places where keys are looked for, in their order: environment, profile files, web identity, container
/// service, instance metadata. The first that has any counts; one that is there but broken is an error.
#[derive(Debug)]
pub struct Chain {
    settings: ChainSettings,
    clock: Clock,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    keys: Keys,
    expires: Option<Time>,
    since: Mono,
    /// Last renewal that failed.
    failed: Option<Mono>,
}

/// Keys, and when they end.
#[derive(Debug)]
pub struct Loaded {
    /// The keys.
    pub keys: Keys,
    /// Their end, where they have one.
    pub expires: Option<Time>,
}

/// Looks for keys now, remembering nothing. A [`Chain`] does so too, and keeps what it found.
///
/// # Errors
/// [`ObjectError`], mostly with a [`ChainError`] as its cause: nothing was found, or the first thing that was there is
/// broken.
pub async fn find(settings: &ChainSettings) -> Result<Loaded, ObjectError> {
    load::load(settings).await.map_err(|fault| ObjectError::new("look for keys", "", "AWS", fault))
}

/// The region that environment and profile files name, if they do.
///
/// # Errors
/// [`ObjectError`] when a profile file is there and cannot be read.
pub fn region(settings: &ChainSettings) -> Result<Option<String>, ObjectError> {
    load::region(settings).map_err(|fault| ObjectError::new("look for the region", "", "AWS", fault))
}

impl Chain {
    /// Looks nowhere yet.
    #[must_use]
    pub fn new(settings: ChainSettings) -> Arc<Self> {
        let clock = settings.line.clock.clone();
        Arc::new(Self { settings, clock, held: Mutex::default() })
    }

    async fn keys(&self) -> Result<Keys, Fault> {
        let mut held = self.held.lock().await;
        let (now, mono) = (self.clock.now(), self.clock.mono());
        let Some(had) = &mut *held else {
            return self.load_into(&mut held).await;
        };
        let fresh = match had.expires {
            Some(end) => now + EARLY < end,
            None => mono.since(had.since) < KEPT,
        };
        let tried = had.failed.is_some_and(|failed| mono.since(failed) < RENEW_AGAIN);
        let in_force = had.expires.is_none_or(|end| now < end);
        if fresh || (tried && in_force) {
            return Ok(had.keys.clone());
        }
        let old = had.keys.clone();
        match self.load_into(&mut held).await {
            // They serve a little longer, and so does whoever has them.
            Err(_) if in_force => {
                if let Some(had) = &mut *held {
                    had.failed = Some(mono);
                }
                Ok(old)
            }
            other => other,
        }
    }

    async fn load_into(&self, held: &mut Option<Held>) -> Result<Keys, Fault> {
        let loaded = load::load(&self.settings).await?;
        let (keys, since) = (loaded.keys.clone(), self.clock.mono());
        *held = Some(Held { keys: loaded.keys, expires: loaded.expires, since, failed: None });
        Ok(keys)
    }

    async fn renew(&self, old: &Keys, wrong: bool) -> Result<bool, Fault> {
        let mut held = self.held.lock().await;
        // Somebody else may have renewed them meanwhile.
        if held.as_ref().is_some_and(|had| had.keys != *old) {
            return Ok(true);
        }
        let now = self.clock.mono();
        if wrong && held.as_ref().is_some_and(|had| now.since(had.since) < WRONG_AGAIN) {
            return Ok(false);
        }
        Ok(self.load_into(&mut held).await? != *old)
    }
}
