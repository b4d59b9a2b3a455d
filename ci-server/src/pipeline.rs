//! All stages in a row, for one change: the only file that knows every one of them.
//!
//! In flows what a person (later: a forge) asks about; out flow progress while it lasts, and an [`Outcome`]. The code of
//! both sides is checked out, the jobs of both are evaluated without writing anything (or taken from an earlier run of
//! the same tree), the two are compared, and only for what differs are derivations written, read and explained.

mod check_out;
mod configs;
mod engine;
mod evaluations;
mod explain;
mod facts;
mod graphs;
mod look;
mod places;
mod plan;
mod record;
mod refused;
mod remember;
mod world;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ci_model::attr::{AttrError, ErrorKind};
use ci_model::diff;
use ci_model::flow::{Checkout, Evaluation, Trust, Verdict};
use ci_model::outcome::{JobOutcome, Outcome, Progress, Side};
use ci_model::{JobName, NotAName};
use futures_util::future::try_join_all;
use nix_types::System;
use service_kit::clock::{Clock, Time};
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;

use crate::checkout::CheckoutError;
use crate::drvs::DrvsError;
use crate::evaluate::confine::Confine;
use crate::evaluate::{Doors, EvaluateError, Limits, Nix, Share, may_pass};
use crate::store::{RunKey, Store, StoreError};
use check_out::Code;
use evaluations::{Ear, Shared, Task};
use plan::{Plan, Planned};
use record::Record;

pub use check_out::{Base, Head};
pub use configs::ConfigError;
pub use engine::{Identity, identity};

/// How long evaluations and derivations that no run uses are remembered.
pub const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is kept of what one job evaluates to, unless something else is said: a whole nixpkgs takes some 200 MiB.
pub const RESULTS_BYTES_MAX: u64 = 1 << 30;

/// What a run is about, and within which bounds.
pub struct Request {
    /// What makes it this run and no other: [`RunKey::random`] for a person's.
    pub key: RunKey,
    /// A checkout, or a folder in it.
    pub path: PathBuf,
    /// What wants a verdict.
    pub head: Head,
    /// What it is compared with.
    pub base: Base,
    /// Only these jobs; all where it is empty.
    pub jobs: Vec<JobName>,
    /// Only these systems; those of the configuration where it is empty.
    pub systems: Vec<System>,
    /// This machine's own system: for repositories without a configuration, unless others are asked for.
    pub local_system: System,
    /// How far the code is trusted.
    pub trust: Trust,
    /// What a confined evaluation may fetch: prefixes of URIs. The proxy of what keeps evaluators in has the same.
    pub allowed_uris: Vec<String>,
    /// Bounds of each evaluation.
    pub limits: Limits,
    /// Which Nix.
    pub nix: Nix,
    /// What evaluates, with its version: evaluations are found again by it.
    pub engine: String,
    /// What it reads of this machine that may be another each time. Then nothing is found again, nor remembered.
    pub fleeting: Option<String>,
    /// What keeps evaluators in.
    pub confine: Arc<dyn Confine>,
    /// What this machine gives to evaluations.
    pub share: Share,
    /// Where evaluations and derivations are remembered.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Clock,
    /// Where checkouts are put.
    pub checkouts: PathBuf,
    /// Most bytes that are kept of what one job evaluates to; beyond it is an error of the whole job.
    pub results_bytes_max: u64,
    /// Evaluate again what is remembered.
    pub afresh: bool,
    /// Write no derivations but of what differs: what the base has elsewhere may be counted as new.
    pub quick: bool,
    /// More derivations to build than this make a change wide.
    pub max_rebuild_count: usize,
}

impl Request {
    fn doors(&self) -> Doors<'_> {
        Doors { confine: &*self.confine, share: &self.share }
    }

    /// What a repository without a configuration is evaluated for.
    fn default_systems(&self) -> &[System] {
        if self.systems.is_empty() { std::slice::from_ref(&self.local_system) } else { &self.systems }
    }

    fn is_trusted(&self) -> bool {
        match self.trust {
            Trust::TrustedPush | Trust::ApprovedPr => true,
            Trust::UntrustedPr => false,
        }
    }
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The code cannot be had.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// Both sides are there and cannot be compared.
    #[error(
        "cannot compare {}; see that the folder of checkouts is there and that this user may read it",
        path.display()
    )]
    Compare {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The repository cannot be named.
    #[error(transparent)]
    Name(NotAName),
    /// The configuration is refused, or there is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A job that was asked for does not exist.
    #[error("there is no job {job}; there {}", listed(known))]
    NoSuchJob {
        /// The job.
        job: JobName,
        /// Those that exist.
        known: Vec<JobName>,
    },
    /// A job cannot be evaluated.
    #[error("cannot evaluate the job {job} of the {}", side_text(*side))]
    Evaluate {
        /// Which one.
        job: JobName,
        /// Of which side.
        side: Side,
        /// Why.
        #[source]
        source: EvaluateError,
    },
    /// There is nothing to compare with.
    #[error(
        "the base's job {job} could not be evaluated to its end ({kind}: {message}), so nothing can be said about the head; {}, or choose another --base",
        remedy(*kind)
    )]
    BaseUnfinished {
        /// Which one.
        job: JobName,
        /// How it ended.
        kind: ErrorKind,
        /// In the evaluator's words, or ours.
        message: String,
    },
    /// What was evaluated could not be written, which is no fault of the code.
    #[error(
        "the derivations of the job {job} of the {} could not be written ({kind}: {message}), so nothing can be said about the change; {}",
        side_text(*side), remedy(*kind)
    )]
    Unwritten {
        /// Which one.
        job: JobName,
        /// Of which side.
        side: Side,
        /// How it ended.
        kind: ErrorKind,
        /// In the evaluator's words, or ours.
        message: String,
    },
    /// Nothing is for the systems that were asked for.
    #[error("no job has an attribute for {}; look at the spelling, or leave --system out", system_list(.0))]
    NothingForSystems(Vec<System>),
    /// Derivations cannot be read.
    #[error(transparent)]
    Drvs(#[from] DrvsError),
    /// What is remembered is out of reach.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The caller asked for its end.
    #[error("cancelled")]
    Cancelled,
}

/// Whom to tell how far it is.
pub type Told<'a> = &'a mut (dyn FnMut(Progress) + Send);

impl RunError {
    /// Is it what was asked for, or what the repository says, that makes no sense?
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Config(_) | Self::NoSuchJob { .. } | Self::NothingForSystems(_) => true,
            Self::Checkout(error) => matches!(
                error,
                CheckoutError::Name { .. }
                    | CheckoutError::NoRepository { .. }
                    | CheckoutError::Bare { .. }
                    | CheckoutError::Absent { .. }
            ),
            Self::Evaluate { source, .. } => matches!(source, EvaluateError::Request { .. }),
            Self::BaseUnfinished { .. }
            | Self::Unwritten { .. }
            | Self::Compare { .. }
            | Self::Name(_)
            | Self::Drvs(_)
            | Self::Store(_)
            | Self::Cancelled => false,
        }
    }
}

/// What the jobs of both sides evaluate to.
#[derive(Default)]
struct Sides {
    head: Vec<Evaluation>,
    base: Vec<Evaluation>,
}

impl Sides {
    /// Is there enough to compare?
    fn check(&self, request: &Request) -> Result<(), RunError> {
        let mut ends = self.base.iter().flat_map(|base| base.errors.iter().map(|error| (&base.job, error)));
        let unfinished = |error: &AttrError| {
            error.path.is_root() && (error.kind == ErrorKind::TooLarge || may_pass(error))
        };
        if let Some((job, error)) = ends.find(|(_, error)| unfinished(error)) {
            let (kind, message) = (error.kind, first_line(error));
            return Err(RunError::BaseUnfinished { job: job.clone(), kind, message });
        }
        let mut all = self.head.iter().chain(&self.base).peekable();
        // Where nothing was to be evaluated the systems are not at fault.
        let is_evaluated = all.peek().is_some();
        let is_empty = all.all(|of| of.attrs.is_empty() && of.errors.is_empty());
        if !request.systems.is_empty() && is_evaluated && is_empty {
            return Err(RunError::NothingForSystems(request.systems.clone()));
        }
        Ok(())
    }

    fn of(&self, side: Side) -> &[Evaluation] {
        match side {
            Side::Head => &self.head,
            Side::Base => &self.base,
        }
    }
}

/// Says what a change touches: evaluates, compares, explains. Builds nothing. From the moment when both sides are there
/// it is a run in the store, and how it ends is written down before it is given; what cannot be is a warning of the outcome.
///
/// # Errors
/// [`RunError`]. What does not evaluate is none: it is part of the outcome.
pub async fn run(request: &Request, stop: &Stop, told: Told<'_>) -> Result<Outcome, RunError> {
    let begun = Instant::now();
    told(Progress::CheckingOut);
    let code = check_out::both_sides(request, stop).await?;
    let record = Record::begin(request, &code).await;
    let answer = answer(request, code, begun, &record, stop, told).await;
    record.end(answer).await
}

async fn answer(
    request: &Request,
    mut code: Code,
    begun: Instant,
    record: &Record,
    stop: &Stop,
    told: Told<'_>,
) -> Result<Outcome, RunError> {
    let plan = Plan::of(request, &code.checkout)?;
    code.warnings.extend(plan.warnings);
    engine::make_store(&request.nix, stop).await;
    let sides = evaluate(request, &plan.jobs, &code.checkout, record, stop, told).await?;
    sides.check(request)?;
    let (comparison, more) =
        explain::compare(request, &code.checkout, &plan.jobs, &sides, stop, told).await?;
    if stop.is_requested() {
        return Err(RunError::Cancelled);
    }
    code.warnings.splice(0..0, diff::incomplete(&comparison));
    code.warnings.extend(request.fleeting.as_ref().map(|what| {
        format!(
            "What {what} leads to may be another each time, so nothing that was evaluated is found again; lead NIX_PATH to a folder, a channel or a store path."
        )
    }));
    code.warnings.extend(more);
    code.warnings.extend(refused::notes(request, &comparison));
    let jobs: Vec<JobOutcome> = plan.jobs.iter().map(|job| outcome_of(job, &sides)).collect();
    let judged = match plan.skipped {
        Some(why) => diff::Judgement { verdict: Verdict::Good, reasons: vec![why], wide: false },
        None => diff::judge(&comparison, &jobs, request.max_rebuild_count),
    };
    Ok(Outcome {
        repository: code.repository,
        head: code.checkout.head.commit.clone(),
        base: code.checkout.base.as_ref().and_then(|base| base.commit.clone()),
        files_changed: code.checkout.changed.len(),
        jobs,
        comparison,
        verdict: judged.verdict,
        reasons: judged.reasons,
        warnings: code.warnings,
        wall_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Evaluates every job of both sides, all at once: they take turns at what this machine gives to evaluations.
async fn evaluate(
    request: &Request,
    jobs: &[Planned],
    checkout: &Checkout,
    record: &Record,
    stop: &Stop,
    told: Told<'_>,
) -> Result<Sides, RunError> {
    let mut hear = |progress| told(progress);
    let ear: Ear<'_> = Mutex::new(&mut hear);
    let tasks: Vec<Task<'_>> = jobs.iter().flat_map(|job| job.tasks(checkout)).collect();
    let shared = Shared::of(request, &tasks);
    let all = tasks.iter().map(|task| evaluations::evaluate(request, *task, (&shared, record), stop, &ear));
    let mut sides = Sides::default();
    for (task, evaluation) in tasks.iter().zip(try_join_all(all).await?) {
        match task.side {
            Side::Head => sides.head.push(evaluation),
            Side::Base => sides.base.push(evaluation),
        }
    }
    Ok(sides)
}

/// Lets go of what no run has used for [`REMEMBERED`]. It may take long, and can be cut off at any moment: it goes on the
/// next time where it ended. For after a run, when nobody waits.
pub fn forget(store: &dyn Store, now: Time) {
    if let Err(error) = store.forget(now.minus(REMEMBERED)) {
        tracing::warn!("what is old is not forgotten: {}", chain(&error));
    }
}

fn outcome_of(job: &Planned, sides: &Sides) -> JobOutcome {
    let of = |side: &[Evaluation]| side.iter().find(|evaluation| evaluation.job == job.name).cloned();
    let (head, base) = (of(&sides.head), of(&sides.base));
    let mut systems: Vec<System> =
        head.iter().flat_map(|head| &head.attrs).map(|attr| attr.system.clone()).collect();
    systems.sort_unstable();
    systems.dedup();
    JobOutcome {
        job: job.name.clone(),
        allows_failures: job.allows_failures(),
        attrs: head.as_ref().map_or(0, |head| head.attrs.len() + head.errors.len()),
        errors: head.as_ref().map_or(0, |head| head.errors.len()),
        systems,
        head: head.map(|head| head.cost),
        base: base.map(|base| base.cost),
    }
}

fn system_list(systems: &[System]) -> String {
    systems.iter().map(System::as_str).collect::<Vec<_>>().join(" or ")
}

/// What can be done about an evaluation that did not come to its end.
fn remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::TimedOut => "raise --timeout",
        ErrorKind::OutOfMemory => "raise --memory",
        ErrorKind::TooLarge => "split the job",
        ErrorKind::Crashed => {
            "see what ends evaluators here, a machine short of memory for one, and run it again"
        }
        ErrorKind::Garbage => "see that the Nix on the PATH works",
        ErrorKind::Thrown | ErrorKind::Fatal | ErrorKind::Forbidden | ErrorKind::StackOverflow => {
            "set that right, and run it again"
        }
    }
}

fn first_line(error: &AttrError) -> String {
    error.message.lines().next().unwrap_or_default().to_owned()
}

fn side_text(side: Side) -> &'static str {
    match side {
        Side::Head => "head",
        Side::Base => "base",
    }
}

fn listed(names: &[JobName]) -> String {
    match names {
        [] => "is none".into(),
        [one] => format!("is {one}"),
        more => format!("are {}", more.iter().map(JobName::as_str).collect::<Vec<_>>().join(", ")),
    }
}
