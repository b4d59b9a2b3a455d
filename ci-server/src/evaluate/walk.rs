//! Our own engine: `walk.nix` in plain Nix, by several evaluators. A request comes in; events and what it took come out.
//! Whoever has nothing to do takes half of what another has left. What ends an evaluator is named and left behind.
//! At the end, errors that the walk caught are evaluated again without a net, so that their messages are seen.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use ci_model::attr::{AttrError, ErrorKind};
use ci_model::flow::EvaluationCost;
use futures_util::future::try_join_all;
use nix_types::AttrPath;
use service_kit::shutdown::Stop as Quit;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::confine::Confine;
use super::share::Place;
use super::{Doors, EvaluateError, Event, Pass, Request, Sink, end_of, message, release};

mod hall;
mod worker;

use hall::{Hall, Stop};

/// Fewest attributes that are worth another evaluator: each has to evaluate what all have in common again.
const SPLIT_MIN: u32 = 300;
/// Releases that tell the way to an error from the outside, and by themselves no more of it than what leads through our
/// own expression. Older ones tell the place of the error first.
const TELLS_WAY_SINCE: (u64, u64) = (2, 13);

fn tells_way(version: &str) -> bool {
    release::number(version) >= TELLS_WAY_SINCE
}

/// What evaluators of one phase do.
#[derive(Clone, Copy)]
struct Phase<'a> {
    request: &'a Request,
    confine: &'a dyn Confine,
    place: &'a Place,
    /// Evaluators end when this is asked for.
    quit: &'a Quit,
    /// Look at these alone.
    paths: Option<&'a [AttrPath]>,
    /// Catch nothing.
    is_bare: bool,
    writes: bool,
    tells_way: bool,
}

/// See [`super::run`]. Attributes are looked at until `until`, or until `quit`.
pub(super) async fn run(
    request: &Request,
    pass: &Pass,
    doors: Doors<'_>,
    (until, quit): (Instant, &Quit),
    sink: Sink<'_>,
) -> Result<EvaluationCost, EvaluateError> {
    let begun = Instant::now();
    let (writes, paths) = match pass {
        Pass::ReadOnly => (false, None),
        Pass::Instantiate { only } => (true, only.as_deref()),
    };
    let version = release::of_nix(request, quit).await?;
    let hall = Mutex::new(Hall::new(&request.limits, SPLIT_MIN, sink));
    let place = doors.share.join();
    let (confine, is_bare, tells_way) = (doors.confine, false, tells_way(&version));
    let phase = Phase { request, confine, place: &place, quit, paths, is_bare, writes, tells_way };
    all(phase, &hall, until).await?;
    write_unwritten(phase, &hall, until).await?;
    explain_hidden(phase, &hall).await?;
    let mut hall = hall.into_inner().unwrap_or_else(PoisonError::into_inner);
    hall.cost.engine = format!("walker (Nix {version})");
    hall.cost.wall_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(hall.cost)
}

/// See [`super::explain_all`].
pub(super) async fn explain(
    request: &Request,
    attrs: &[AttrPath],
    doors: Doors<'_>,
    quit: &Quit,
) -> Result<BTreeMap<AttrPath, AttrError>, EvaluateError> {
    let place = doors.share.join();
    if attrs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let version = release::of_nix(request, quit).await?;
    let (paths, is_bare, writes, tells_way) = (None, false, false, tells_way(&version));
    let confine = doors.confine;
    let phase = Phase { request, confine, place: &place, quit, paths, is_bare, writes, tells_way };
    Ok(without_net(phase, attrs).await?.0)
}

/// Evaluates these with nothing caught, so that what they throw is seen. What was not looked at in time is missing.
async fn without_net(
    phase: Phase<'_>,
    asked: &[AttrPath],
) -> Result<(BTreeMap<AttrPath, AttrError>, EvaluationCost), EvaluateError> {
    let mut told = BTreeMap::new();
    if asked.is_empty() {
        return Ok((told, EvaluationCost::default()));
    }
    let limits = &phase.request.limits;
    let mut sink = |event| {
        if let Event::Error(error) = event {
            told.entry(error.path.clone()).or_insert(*error);
        }
    };
    // Each that throws ends its evaluator, so it is worth another one wherever there are two.
    let hall = Mutex::new(Hall::new(limits, 2, &mut sink));
    let phase = Phase { paths: Some(asked), is_bare: true, writes: false, ..phase };
    let until = end_of(Instant::now(), limits.explain_wall);
    let mut is_through = all(phase, &hall, until).await?;
    is_through &= write_unwritten(phase, &hall, until).await?;
    let cost = hall.into_inner().unwrap_or_else(PoisonError::into_inner).cost;
    if !is_through {
        told.remove(&AttrPath::root()); // it is of the stop, unless it is known again by a longer look
    }
    Ok((told, cost))
}

/// Evaluators of one phase until nothing is left, or it stops, which it tells. Was nothing left?
async fn all(phase: Phase<'_>, hall: &Mutex<Hall<'_>>, until: Instant) -> Result<bool, EvaluateError> {
    let (news, quit) = (Notify::new(), phase.quit.child());
    let phase = Phase { quit: &quit, ..phase };
    let workers = (0..phase.request.limits.workers.max(1)).map(|at| worker::work(at, phase, hall, &news));
    let mut work = pin!(try_join_all(workers));
    tokio::select! {
        biased;
        done = &mut work => drop(done?),
        () = sleep_until(until) => {
            lock(hall).stop.get_or_insert(Stop::Wall);
            quit.request();
            work.await?;
        }
    }
    let stopped = lock(hall).stop.take();
    if let Some(stop) = stopped {
        lock(hall).tell_stop(stop);
    }
    Ok(stopped.is_none())
}

/// What a pass that writes nothing could not evaluate for that reason is evaluated again by one that does. Was nothing left?
async fn write_unwritten(
    phase: Phase<'_>,
    hall: &Mutex<Hall<'_>>,
    until: Instant,
) -> Result<bool, EvaluateError> {
    let unwritten = std::mem::take(&mut lock(hall).unwritten);
    if unwritten.is_empty() {
        return Ok(true);
    }
    lock(hall).again();
    // At the root it is all of it.
    let paths = (!unwritten.iter().any(AttrPath::is_root)).then_some(&unwritten[..]);
    all(Phase { paths: paths.or(phase.paths), writes: true, ..phase }, hall, until).await
}

/// Asks for the messages of what was caught, as many and as long as the limits say.
async fn explain_hidden(phase: Phase<'_>, hall: &Mutex<Hall<'_>>) -> Result<(), EvaluateError> {
    let hidden = std::mem::take(&mut lock(hall).hidden);
    let limits = &phase.request.limits;
    let (asked, left) = hidden.split_at(hidden.len().min(limits.explained_max));
    let (mut told, cost) = without_net(phase, asked).await?;
    let mut hall = lock(hall);
    hall.add_cost(&cost);
    for path in asked.iter().chain(left) {
        let error = match told.remove(path) {
            Some(error) => AttrError { kind: ErrorKind::Thrown, ..error },
            None => message::hidden(path.clone()),
        };
        hall.tell(Event::Error(Box::new(error)));
    }
    Ok(())
}

fn lock<'m, 's>(hall: &'m Mutex<Hall<'s>>) -> std::sync::MutexGuard<'m, Hall<'s>> {
    hall.lock().unwrap_or_else(PoisonError::into_inner)
}
