//! The other engine: `nix-eval-jobs`, where it is on `PATH`. A request comes in; events and what it took come out. Where
//! it does not come to its end, the walk goes on, and tells what was not told yet. When others wait for what it was given,
//! it is ended, and run again for the rest once its turn has come.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ci_model::flow::EvaluationCost;
use futures_util::FutureExt as _;
use nix_store::process::{Exit, Limit, ProcessError, Spec, Stream, run as run_process, run_followed};
use service_kit::shutdown::Stop as Quit;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::share::{Permit, Place};
use super::{
    Doors, EvaluateError, Event, Limits, Pass, Request, Sink, What, command, message, release, resident, walk,
};

mod done;
mod row;
mod told;

use done::Done;
use row::Reader;
use told::Told;

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
pub(super) async fn find(request: &Request, pass: &Pass, quit: &Quit) -> Result<Option<Tool>, EvaluateError> {
    let only = matches!(pass, Pass::Instantiate { only: Some(_) });
    if only {
        return Ok(None); // it evaluates all of a value, or nothing
    }
    let mut spec = Spec::new("nix-eval-jobs").arg("--version").limits(Some(Duration::from_secs(30)), None);
    command::bare_environment(&mut spec, request);
    let outcome = match run_process(&spec, quit.requested()).await {
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
    Ok((!reads || release::number(&version) >= READ_ONLY_SINCE).then_some(Tool { version }))
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
    /// By us, for another evaluation has its turn.
    Interrupted,
}

/// See [`super::run`]. Attributes are looked at until `until`.
pub(super) async fn run(
    tool: &Tool,
    request: &Request,
    pass: &Pass,
    doors: Doors<'_>,
    (until, quit): (Instant, &Quit),
    sink: Sink<'_>,
) -> Result<EvaluationCost, EvaluateError> {
    let begun = Instant::now();
    let mut told = Told::new(request, sink);
    let (mut cost, end) = in_turns(tool, request, pass, doors, (until, quit), &mut told).await?;
    if quit.is_requested() {
        return Ok(cost); // nobody wants the rest
    }
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
        let rest =
            walk::run(request, &pass, doors, (until, quit), &mut |event| told.tell_rest(event)).await?;
        cost.engine = format!("{}, then {}", cost.engine, rest.engine);
        add(&mut cost, &rest);
    }
    cost.wall_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(cost)
}

/// As many permits as nobody else waits for, but one at least; `None` when that one did not come in time.
async fn permits(
    place: &Place,
    limits: &Limits,
    (until, quit): (Instant, &Quit),
) -> Result<Option<Vec<Permit>>, EvaluateError> {
    let first = timeout_at(until, quit.or(place.permit(limits.memory_bytes))).await;
    let Ok(Some(first)) = first else { return Ok(None) };
    let mut permits = vec![first?];
    for _ in 1..limits.workers {
        match place.permit(limits.memory_bytes).now_or_never() {
            Some(permit) => permits.push(permit?),
            None => break,
        }
    }
    Ok(Some(permits))
}

fn add(cost: &mut EvaluationCost, more: &EvaluationCost) {
    cost.cpu_ms = cost.cpu_ms.saturating_add(more.cpu_ms);
    cost.memory_peak_bytes = cost.memory_peak_bytes.max(more.memory_peak_bytes);
    cost.processes = cost.processes.saturating_add(more.processes);
}

/// Runs it until it is not interrupted any more.
async fn in_turns(
    tool: &Tool,
    request: &Request,
    pass: &Pass,
    doors: Doors<'_>,
    (until, quit): (Instant, &Quit),
    told: &mut Told<'_>,
) -> Result<(EvaluationCost, End), EvaluateError> {
    let engine = format!("nix-eval-jobs {}", tool.version).trim_end().to_owned();
    let mut cost = EvaluationCost { engine, ..EvaluationCost::default() };
    let place = doors.share.join();
    loop {
        let permits = permits(&place, &request.limits, (until, quit)).await?;
        let Some(permits) = permits else { return Ok((cost, End::TooLong)) };
        let done = told.done().map_err(|error| EvaluateError::Machine {
            said: format!("cannot write what is evaluated to a temporary file: {error}"),
        })?;
        let spec = spec(request, pass, &permits, doors, done.as_ref())?;
        let (of_run, end) = evaluate(spec, request, pass, &permits, (until, quit), told).await?;
        add(&mut cost, &of_run);
        match (end, &request.what) {
            (End::Interrupted, What::File { .. } | What::Flake { .. }) => {}
            // What is evaluated purely reads no list of what is done; the walk gives turns as well.
            (End::Interrupted, What::LockedFlake { .. }) => return Ok((cost, End::Early)),
            (end, _) => return Ok((cost, end)),
        }
    }
}

/// Runs it once.
async fn evaluate(
    mut spec: Spec,
    request: &Request,
    pass: &Pass,
    permits: &[Permit],
    (until, quit): (Instant, &Quit),
    told: &mut Told<'_>,
) -> Result<(EvaluationCost, End), EvaluateError> {
    let limits = &request.limits;
    spec.wall = Some(until.saturating_duration_since(Instant::now()));
    let reads = (*pass == Pass::ReadOnly).then(|| (request.store(), request.allow_ifd));
    let mut reader = Reader::new(&request.folder, reads);
    let (pid, over) = (OnceLock::new(), Arc::new(Notify::new()));
    let (rows_told, is_interrupted) = (AtomicU64::new(0), AtomicBool::new(false));
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
            rows_told.fetch_add(rows.len() as u64, Ordering::Relaxed);
            rows.into_iter().for_each(|row| told.take(row));
            if noise > limits.output_bytes || told.count > limits.attrs_max {
                sink_over.notify_one();
            }
            is_progress
        };
        let mut started = |number: u32| {
            let _ = pid.set(number); // it is told once
        };
        let asked = async {
            tokio::select! {
                () = over.notified() => {}
                () = quit.requested() => {}
            }
        };
        let is_asked_back = || {
            // As many evaluations as wait at once can interrupt it, but each time it gets on.
            let is_asked_back =
                rows_told.load(Ordering::Relaxed) > 0 && permits.iter().any(Permit::is_asked_back);
            is_interrupted.fetch_or(is_asked_back, Ordering::Relaxed);
            is_asked_back
        };
        tokio::select! {
            outcome = run_followed(&spec, asked, &mut judge, &mut started) => outcome?,
            never = watch(&pid, memory_max, is_asked_back, &over) => match never {},
        }
    };
    let cost = EvaluationCost {
        cpu_ms: u64::try_from(outcome.usage.cpu.as_millis()).unwrap_or(u64::MAX),
        memory_peak_bytes: outcome.usage.memory_peak_bytes,
        processes: 1,
        ..EvaluationCost::default()
    };
    let end = match outcome.exit {
        Exit::TimedOut { which: Limit::Wall, .. } => End::TooLong,
        _ if reader.root_failed() => End::Through,
        Exit::Exited(0) if reader.is_whole() => End::Through,
        Exit::Cancelled if is_interrupted.load(Ordering::Relaxed) => End::Interrupted,
        _ => End::Early,
    };
    Ok((cost, end))
}

fn spec(
    request: &Request,
    pass: &Pass,
    permits: &[Permit],
    doors: Doors<'_>,
    done: Option<&Done>,
) -> Result<Spec, EvaluateError> {
    let writes = *pass != Pass::ReadOnly;
    let mut spec = Spec::new("nix-eval-jobs")
        .args(["--meta", "--workers"])
        .arg(permits.len().to_string())
        .arg("--max-memory-size")
        .arg((request.limits.memory_bytes >> 20).max(1).to_string());
    if !writes {
        spec = spec.arg("--no-instantiate");
    }
    spec = spec.args(command::options(request));
    let done = done.map(Done::file);
    if let Some(done) = &done {
        spec = spec.arg("-I").arg(done.clone()); // so that it may be read where little may be
    }
    spec = spec.arg("--expr").arg(command::root_expression(request, done.as_deref())?);
    // It opens the store whether it writes or not.
    command::finish(spec, request, super::confine::StoreUse::Writes, done, doors.confine)
}

/// Looks at the memory of all its workers, and whether others wait, for as long as it is asked.
async fn watch(
    pid: &OnceLock<u32>,
    most: u64,
    is_asked_back: impl Fn() -> bool,
    over: &Notify,
) -> Infallible {
    let mut is_asked = false;
    loop {
        sleep_until(Instant::now() + LOOK_EVERY).await;
        let large = pid.get().filter(|pid| resident::bytes(**pid) > most);
        if let Some(pid) = large.filter(|_| is_asked) {
            resident::kill_group(*pid);
        }
        is_asked |= large.is_some();
        if large.is_some() || is_asked_back() {
            over.notify_one();
        }
    }
}
