//! A checkout and what to look at in it come in; attributes that are derivations, errors of those that are not, and
//! what it took come out, as they become known. Two engines stand behind one door: `nix-eval-jobs` where there is one,
//! else a walk of our own over plain Nix. Whether what comes out differs from what was there before is not asked here.

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use ci_model::attr::{Attr, AttrError};
use ci_model::flow::EvaluationCost;
use nix_store::process::ProcessError;
use nix_types::{AttrPath, System};
use service_kit::shutdown::Stop;
use tokio::time::Instant;

mod command;
pub mod confine;
mod jobs;
mod lock;
mod mark;
mod message;
mod once;
mod place;
mod record;
mod release;
mod resident;
pub mod share;
mod trail;
mod walk;

use confine::{Confine, NotConfined};
pub use message::{is_busy, is_hidden, may_pass};
use once::Once;
use share::NeverFits;
pub use share::Share;

/// What to evaluate, and within which bounds.
#[derive(Clone, Debug)]
pub struct Request {
    /// The checkout: an absolute path.
    pub folder: PathBuf,
    /// What to look at in it.
    pub what: What,
    /// Jobs for other systems are counted and let go; `None` takes all.
    pub systems: Option<Vec<System>>,
    /// What is not looked at.
    pub skip: Vec<AttrPath>,
    /// May it read what we may? If not, it is evaluated in Nix's restricted mode.
    pub is_trusted: bool,
    /// May it build while it is evaluated?
    pub allow_ifd: bool,
    /// What it may fetch when it is not trusted: prefixes of URIs.
    pub allowed_uris: Vec<String>,
    /// Bounds.
    pub limits: Limits,
    /// Which Nix.
    pub nix: Nix,
}

impl Request {
    /// The store's folder.
    fn store(&self) -> String {
        // Of two the later one counts.
        let set = self.nix.env.iter().rfind(|(name, _)| name == "NIX_STORE_DIR");
        set.map_or_else(|| "/nix/store".into(), |(_, value)| value.to_string_lossy().into_owned())
    }
}

/// What to look at in a checkout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// What a file evaluates to. Functions are called as `nix-build` calls them.
    File {
        /// From the root of the checkout.
        path: PathBuf,
        /// Where in its value; the root for all of it.
        attr_path: AttrPath,
    },
    /// Outputs of the flake in the root of the checkout. Paths begin with the output's name.
    Flake {
        /// `checks`, `packages`, …; those that it does not have are no error.
        outputs: Vec<String>,
    },
    /// The same of a flake whose content is known beforehand, evaluated purely: it reads nothing but itself and its locked
    /// inputs, and fetches nothing without a hash. [`run`] makes this of a flake that is not trusted.
    LockedFlake {
        /// As of [`What::Flake`].
        outputs: Vec<String>,
        /// The hash of the folder's NAR, as `sha256-…`.
        nar_hash: String,
    },
}

/// Which Nix, and how it is told where its things are.
#[derive(Clone, Debug, Default)]
pub struct Nix {
    /// All that an evaluator gets of an environment, besides `PATH`.
    pub env: Vec<(OsString, OsString)>,
    /// Settings, as `--option` takes them.
    pub options: Vec<(String, String)>,
    /// Who evaluates.
    pub engine: Engine,
}

/// Who evaluates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// `nix-eval-jobs` where it is on `PATH` and can do what is asked, else the walk.
    #[default]
    Any,
    /// Our own walk over plain Nix.
    Walk,
    /// `nix-eval-jobs`, and it is an error when it is not there or cannot write nothing. Derivations of a few attributes
    /// are written by the walk all the same, for it evaluates all of a value or nothing.
    Tool,
}

/// Bounds of one evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most evaluators at once.
    pub workers: usize,
    /// Most memory of one evaluator, in bytes. One that has more is ended and another goes on where it was.
    pub memory_bytes: u64,
    /// Longest time for all of it. What was not looked at by then is missing, and an error at the root says so.
    pub wall: Duration,
    /// Longest time for one attribute, with what it needs for the first time.
    pub attr_wall: Duration,
    /// Most bytes that one evaluator may print besides its results.
    pub output_bytes: u64,
    /// Most attributes that are looked at.
    pub attrs_max: u64,
    /// Deepest set that is looked into; the root is 0.
    pub depth_max: u32,
    /// Most evaluators that may be lost to attributes that end them.
    pub restarts_max: u32,
    /// Most errors whose message is asked for by itself. [`explain_all`] asks for the others.
    pub explained_max: usize,
    /// Longest time for that, and for what [`explain_all`] asks at once.
    pub explain_wall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 2,
            memory_bytes: 4 << 30,
            wall: Duration::from_secs(3600),
            attr_wall: Duration::from_secs(300),
            output_bytes: 16 << 20,
            attrs_max: 1_000_000,
            depth_max: 16,
            restarts_max: 5_000,
            explained_max: 200,
            explain_wall: Duration::from_secs(60),
        }
    }
}

/// Is anything written?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Paths are computed; no `.drv` file is written. Half the work.
    ReadOnly,
    /// `.drv` files are written.
    Instantiate {
        /// For these alone; `None` for all.
        only: Option<Vec<AttrPath>>,
    },
}

/// What becomes known while an evaluation runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// So many more attributes are known to be looked at.
    Known(u64),
    /// An evaluator looks at this one now.
    Begin(AttrPath),
    /// It is a job.
    Attr(Box<Attr>),
    /// It could not be evaluated.
    Error(Box<AttrError>),
    /// It is a job for a system that was not asked for.
    OtherSystem(AttrPath),
    /// So many more bytes are held here, for what is told later.
    Held(u64),
    /// What one evaluator holds now, in bytes.
    Memory {
        /// Its number among those at work, from 0.
        worker: usize,
        /// How much.
        bytes: u64,
    },
}

/// What a path takes while it is kept, in bytes, near enough: its names, and what holds each of them.
pub(crate) fn path_bytes(path: &AttrPath) -> u64 {
    const EACH: usize = 64;
    path.components().iter().map(|name| name.len() + EACH).sum::<usize>() as u64
}

/// What an evaluation shares with others.
#[derive(Clone, Copy)]
pub struct Doors<'a> {
    /// What keeps evaluators in.
    pub confine: &'a dyn Confine,
    /// What this machine gives to evaluations.
    pub share: &'a Share,
}

/// Where events go. It is called while evaluators wait, so a slow one slows them; it must not take as long as
/// [`Limits::attr_wall`].
pub type Sink<'a> = &'a mut (dyn FnMut(Event) + Send);

/// Why there is no evaluation.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The caller asked for its end.
    #[error("the evaluation was cancelled")]
    Cancelled,
    /// The request makes no sense.
    #[error("cannot evaluate {what}: {why}")]
    Request {
        /// The file or folder.
        what: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// It asks for more memory than there is.
    #[error(transparent)]
    NeverFits(#[from] NeverFits),
    /// It cannot be kept in.
    #[error(transparent)]
    NotConfined(#[from] NotConfined),
    /// The evaluator could not be started or followed.
    #[error("cannot run the evaluator")]
    Process(#[from] ProcessError),
    /// Not the expression's fault: the machine failed the evaluator.
    #[error(
        "the evaluator stopped, for this machine could not go on: {said}; make room or repair it, and evaluate again"
    )]
    Machine {
        /// What the evaluator said.
        said: String,
    },
}

/// Evaluates, and tells `sink` all that becomes known. Each path is told once, as a job, as an error, or as one for
/// another system; what is wrong at the root comes last. When `cancel` completes, evaluators are asked to end and
/// waited for, so that Nix ends what it builds; what is told until then counts for nothing. When the future is dropped
/// they are killed, with all that descends from them.
///
/// # Errors
/// [`EvaluateError`]. What the expression does wrong is none: it is told as an [`Event::Error`].
pub async fn run(
    request: &Request,
    pass: &Pass,
    doors: Doors<'_>,
    cancel: impl Future<Output = ()>,
    sink: Sink<'_>,
) -> Result<EvaluationCost, EvaluateError> {
    let work = async |quit: Stop| {
        let request = lock::locked(request, &quit).await?;
        choose(&request, pass, doors, quit, sink).await
    };
    until_cancelled(cancel, work).await
}

/// Does `work`, which ends soon when it is asked to by the token that it gets, and then counts for nothing.
async fn until_cancelled<T, W: Future<Output = Result<T, EvaluateError>>>(
    cancel: impl Future<Output = ()>,
    work: impl FnOnce(Stop) -> W,
) -> Result<T, EvaluateError> {
    let quit = Stop::new();
    let mut work = pin!(work(quit.clone()));
    tokio::select! {
        done = &mut work => return done,
        () = cancel => quit.request(),
    }
    let _ = work.await; // nobody wants it any more
    Err(EvaluateError::Cancelled)
}

async fn choose(
    request: &Request,
    pass: &Pass,
    doors: Doors<'_>,
    quit: Stop,
    sink: Sink<'_>,
) -> Result<EvaluationCost, EvaluateError> {
    let tool = match request.nix.engine {
        Engine::Any => jobs::find(request, pass, &quit).await?,
        Engine::Walk => None,
        Engine::Tool => match jobs::find(request, pass, &quit).await? {
            None if *pass == Pass::ReadOnly => return Err(no_tool()),
            found => found,
        },
    };
    let mut once = Once::new(sink);
    let until = end_of(Instant::now(), request.limits.wall);
    let mut tell = |event| once.tell(event);
    let cost = match tool {
        Some(tool) => jobs::run(&tool, request, pass, doors, (until, &quit), &mut tell).await?,
        None => walk::run(request, pass, doors, (until, &quit), &mut tell).await?,
    };
    once.finish();
    Ok(cost)
}

/// So long after `begun`; years from it where no clock reaches so far.
fn end_of(begun: Instant, after: Duration) -> Instant {
    const YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    begun.checked_add(after.min(YEARS)).unwrap_or(begun)
}

fn no_tool() -> EvaluateError {
    EvaluateError::Request {
        what: "with nix-eval-jobs".into(),
        why: "it is not on PATH, or is older than 2.31, which cannot evaluate without writing; install it, or choose another engine".into(),
    }
}

/// Why this attribute cannot be evaluated, in the evaluator's words. `None` when it can be, or there was no time to
/// know. As [`explain_all`], for one.
///
/// # Errors
/// As [`run`].
pub async fn explain(
    request: &Request,
    attr: &AttrPath,
    doors: Doors<'_>,
    cancel: impl Future<Output = ()>,
) -> Result<Option<AttrError>, EvaluateError> {
    let mut found = explain_all(request, std::slice::from_ref(attr), doors, cancel).await?;
    Ok(found.remove(attr))
}

/// Why these attributes cannot be evaluated, in the evaluator's words: for errors that are hidden ([`is_hidden`]). Many
/// are asked for at once, by [`Limits::workers`] evaluators, within [`Limits::explain_wall`] for all of them; those that
/// it did not come to are missing, and so are those that can be evaluated. Nothing is caught, so the evaluator does not
/// say what was thrown: whoever knows that keeps the kind, and takes the message and the trace.
///
/// # Errors
/// As [`run`].
pub async fn explain_all(
    request: &Request,
    attrs: &[AttrPath],
    doors: Doors<'_>,
    cancel: impl Future<Output = ()>,
) -> Result<std::collections::BTreeMap<AttrPath, AttrError>, EvaluateError> {
    let work = async |quit: Stop| {
        let request = lock::locked(request, &quit).await?;
        walk::explain(&request, attrs, doors, &quit).await
    };
    until_cancelled(cancel, work).await
}
