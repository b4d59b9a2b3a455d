//! The other engine: `nix-eval-jobs`, where it is on `PATH`. A request comes in; events and what it took come out. Where
//! it does not come to its end, the walk goes on, and tells what was not told yet.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ci_model::flow::EvaluationCost;
use futures_util::FutureExt as _;
use nix_store::process::{Exit, Limit, ProcessError, Spec, Stream, run as run_process, run_followed};
use nix_types::AttrPath;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::share::{Permit, Place};
use super::{Doors, EvaluateError, Event, Limits, Pass, Request, Sink, command, message, resident, walk};

mod row;

use row::{Reader, Row};

/// How often its memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The first release that can compute paths without writing.
const READ_ONLY_SINCE: (u64, u64) = (2, 31);

/// A `nix-eval-jobs` that can be used.
pub(super) struct Tool {
    version: String,
}

/// The one on `PATH`, if it can do what is asked.
///
/// # Errors
/// [`ProcessError`] when it is there and cannot be started.
pub(super) async fn find(request: &Request, pass: &Pass) -> Result<Option<Tool>, EvaluateError> {
    let only = matches!(pass, Pass::Instantiate { only: Some(_) });
    if only {
        return Ok(None); // it evaluates all of a value, or nothing
    }
    let mut spec = Spec::new("nix-eval-jobs").arg("--version").limits(Some(Duration::from_secs(30)), None);
    command::bare_environment(&mut spec, request);
    let outcome = match run_process(&spec, std::future::pending()).await {
        Ok(outcome) => outcome,
        Err(ProcessError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let said = outcome.stdout_tail.text();
    // The first releases do not know the question.
    let version = match (outcome.exit, said.trim().rsplit(' ').next()) {
        (Exit::Exited(0), Some(version)) => version.to_owned(),
        _ => String::new(),
    };
    let reads = *pass == Pass::ReadOnly;
    Ok((!reads || number(&version) >= READ_ONLY_SINCE).then_some(Tool { version }))
}

fn number(version: &str) -> (u64, u64) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// What was told of an evaluation.
struct Told<'s> {
    sink: Sink<'s>,
    /// How often each path was told, as the walk that follows must not tell it again.
    paths: HashMap<AttrPath, u64>,
    /// What is to be evaluated by somebody who writes.
    unwritten: Vec<AttrPath>,
    count: u64,
    request: &'s Request,
}

impl Told<'_> {
    fn tell(&mut self, event: Event) {
        if let Some(path) = path_of(&event) {
            if self.request.skip.contains(path) {
                return;
            }
            *self.paths.entry(path.clone()).or_default() += 1;
        }
        (self.sink)(event);
    }

    /// What the walk tells that was not told yet.
    fn tell_rest(&mut self, event: Event) {
        let is_news = matches!(&event, Event::Error(error) if error.path.is_root());
        match path_of(&event).and_then(|path| self.paths.get_mut(path)) {
            Some(left) if *left > 0 && !is_news => *left -= 1,
            _ => (self.sink)(event),
        }
    }

    fn take(&mut self, row: Row) {
        self.count += 1;
        let wanted = self.request.systems.as_deref();
        let event = match row {
            Row::Job(attr) if wanted.is_some_and(|systems| !systems.contains(&attr.system)) => {
                Event::OtherSystem(attr.path)
            }
            Row::Job(attr) => Event::Attr(attr),
            Row::Error(error) => Event::Error(error),
            Row::Unwritten(path) if self.request.skip.contains(&path) => return,
            Row::Unwritten(path) => return self.unwritten.push(path),
            Row::NoJob => return,
        };
        self.tell(event);
    }

    /// Which pass of the walk looks at what is left; `None` when nothing is.
    fn rest(&self, pass: &Pass, came_to_end: bool) -> Option<Pass> {
        match (came_to_end, self.unwritten.is_empty()) {
            (false, _) => Some(pass.clone()), // what is unwritten was not told, so it is among the rest
            (true, true) => None,
            (true, false) if self.unwritten.iter().any(AttrPath::is_root) => {
                Some(Pass::Instantiate { only: None })
            }
            (true, false) => Some(Pass::Instantiate { only: Some(self.unwritten.clone()) }),
        }
    }
}

/// Of what it tells, if that is a result.
fn path_of(event: &Event) -> Option<&AttrPath> {
    match event {
        Event::Attr(attr) => Some(&attr.path),
        Event::Error(error) => Some(&error.path),
        Event::OtherSystem(path) => Some(path),
        Event::Known(_) | Event::Begin(_) | Event::Memory { .. } => None,
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It told all there is.
    Through,
    /// By itself, or by us, before it told all.
    Early,
    /// There was no more time.
    TooLong,
}

/// See [`super::run`]. Attributes are looked at until `until`.
pub(super) async fn run(
    tool: &Tool,
    request: &Request,
    pass: &Pass,
    doors: Doors<'_>,
    until: Instant,
    sink: Sink<'_>,
) -> Result<EvaluationCost, EvaluateError> {
    let begun = Instant::now();
    let mut told = Told { sink, paths: HashMap::new(), unwritten: Vec::new(), count: 0, request };
    let (mut cost, end) = evaluate(tool, request, pass, doors, until, &mut told).await?;
    if end == End::TooLong {
        told.tell(Event::Error(Box::new(message::too_long(request.limits.wall))));
    } else if let Some(pass) = told.rest(pass, end == End::Through) {
        if end == End::Early {
            tracing::warn!(
                engine = cost.engine,
                "{} did not come to its end; our own walk looks at what is left",
                cost.engine
            );
        }
        let rest = walk::run(request, &pass, doors, until, &mut |event| told.tell_rest(event)).await?;
        cost.engine = format!("{}, then {}", cost.engine, rest.engine);
        cost.cpu_ms = cost.cpu_ms.saturating_add(rest.cpu_ms);
        cost.memory_peak_bytes = cost.memory_peak_bytes.max(rest.memory_peak_bytes);
        cost.processes = cost.processes.saturating_add(rest.processes);
    }
    cost.wall_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(cost)
}

/// As many permits as nobody else waits for, but one at least; `None` when that one did not come in time.
async fn permits(
    place: &Place,
    limits: &Limits,
    until: Instant,
) -> Result<Option<Vec<Permit>>, EvaluateError> {
    let Ok(first) = timeout_at(until, place.permit(limits.memory_bytes)).await else { return Ok(None) };
    let mut permits = vec![first?];
    for _ in 1..limits.workers {
        match place.permit(limits.memory_bytes).now_or_never() {
            Some(permit) => permits.push(permit?),
            None => break,
        }
    }
    Ok(Some(permits))
}

/// Runs it once.
async fn evaluate(
    tool: &Tool,
    request: &Request,
    pass: &Pass,
    doors: Doors<'_>,
    until: Instant,
    told: &mut Told<'_>,
) -> Result<(EvaluationCost, End), EvaluateError> {
    let engine = format!("nix-eval-jobs {}", tool.version).trim_end().to_owned();
    let mut cost = EvaluationCost { engine, ..EvaluationCost::default() };
    let (place, limits) = (doors.share.join(), &request.limits);
    let Some(permits) = permits(&place, limits, until).await? else { return Ok((cost, End::TooLong)) };
    let mut spec = spec(request, pass, &permits, doors)?;
    spec.wall = Some(until.saturating_duration_since(Instant::now()));
    let reads = (*pass == Pass::ReadOnly).then(|| (request.store(), request.allow_ifd));
    let mut reader = Reader::new(&request.folder, reads);
    let (pid, over) = (OnceLock::new(), Arc::new(Notify::new()));
    let mut noise = 0_u64;
    let sink_over = Arc::clone(&over);
    let memory_max = limits.memory_bytes.saturating_mul(permits.len() as u64 + 1);
    let outcome = {
        let mut judge = |stream: Stream, line: &str| {
            let rows = match stream {
                Stream::Stdout => reader.push(line),
                Stream::Stderr => Vec::new(),
            };
            let is_progress = !rows.is_empty();
            if !is_progress {
                noise = noise.saturating_add(line.len() as u64 + 1);
            }
            rows.into_iter().for_each(|row| told.take(row));
            if noise > limits.output_bytes || told.count > limits.attrs_max {
                sink_over.notify_one();
            }
            is_progress
        };
        let mut started = |number: u32| {
            let _ = pid.set(number); // it is told once
        };
        tokio::select! {
            outcome = run_followed(&spec, over.notified(), &mut judge, &mut started) => outcome?,
            never = watch(&pid, memory_max, &over) => match never {},
        }
    };
    cost.cpu_ms = u64::try_from(outcome.usage.cpu.as_millis()).unwrap_or(u64::MAX);
    cost.memory_peak_bytes = outcome.usage.memory_peak_bytes;
    cost.processes = 1;
    let end = match outcome.exit {
        Exit::TimedOut { which: Limit::Wall, .. } => End::TooLong,
        _ if reader.root_failed() => End::Through,
        Exit::Exited(0) if reader.is_whole() => End::Through,
        _ => End::Early,
    };
    Ok((cost, end))
}

fn spec(request: &Request, pass: &Pass, permits: &[Permit], doors: Doors<'_>) -> Result<Spec, EvaluateError> {
    let writes = *pass != Pass::ReadOnly;
    let mut spec = Spec::new("nix-eval-jobs")
        .args(["--meta", "--workers"])
        .arg(permits.len().to_string())
        .arg("--max-memory-size")
        .arg((request.limits.memory_bytes >> 20).max(1).to_string());
    if !writes {
        spec = spec.arg("--no-instantiate");
    }
    spec = spec.args(command::options(request)).arg("--expr").arg(command::root_expression(request)?);
    // It opens the store whether it writes or not.
    command::finish(spec, request, super::confine::StoreUse::Writes, doors.confine)
}

/// Looks at the memory of all its workers for as long as it is asked.
async fn watch(pid: &OnceLock<u32>, most: u64, over: &Notify) -> Infallible {
    loop {
        sleep_until(Instant::now() + LOOK_EVERY).await;
        if pid.get().is_some_and(|pid| resident::bytes(*pid) > most) {
            over.notify_one();
        }
    }
}
