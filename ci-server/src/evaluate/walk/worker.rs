//! One worker: takes a span, starts an evaluator for it, hears it to its end, and puts back what is left.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ci_model::attr::{Attr, ErrorKind, TRACE_BYTES_MAX};
use nix_store::process::{Exit, Limit, Outcome, Stream, run_followed};
use nix_types::AttrPath;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::hall::{Hall, Work};
use super::{Phase, lock};
use crate::evaluate::command::{self, Task};
use crate::evaluate::mark::{Mark, Marks};
use crate::evaluate::place::Place;
use crate::evaluate::share::{NeverFits, Permit};
use crate::evaluate::trail::{End, Heard, Trail};
use crate::evaluate::{EvaluateError, Event, message, record, resident};

/// How often an evaluator's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often a span is tried again after an evaluator was lost with it that had not come to anything.
const TRIES_MAX: u32 = 2;

/// How often one is tried again that found the database of Nix busy.
const BUSY_MAX: u32 = 8;

/// Why we ended an evaluator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It came to the end of its span.
    Beyond,
    /// It printed too much.
    Output,
    /// It held too much memory.
    Memory,
    /// All stop.
    Stop,
    /// Another evaluation has its turn.
    Interrupted,
}

/// Works until nothing is left.
pub(super) async fn work(
    at: usize,
    phase: Phase<'_>,
    hall: &Mutex<Hall<'_>>,
    news: &Notify,
) -> Result<(), EvaluateError> {
    while let Some(permit) = turn(phase, hall, news).await? {
        let work = lock(hall).take(at); // somebody else may have been faster
        if let Some(work) = work {
            evaluate(at, phase, hall, news, work, &permit).await?;
            drop(permit);
            news.notify_waiters();
        }
    }
    Ok(())
}

/// Waits until there is something to do and it is our turn to do it; `None` when there never will be.
async fn turn(phase: Phase<'_>, hall: &Mutex<Hall<'_>>, news: &Notify) -> Result<Option<Permit>, NeverFits> {
    let mut permit = pin!(phase.place.permit(phase.request.limits.memory_bytes));
    loop {
        let mut changed = pin!(news.notified());
        changed.as_mut().enable();
        let (is_done, has_work) = {
            let hall = lock(hall);
            (hall.is_done(), hall.has_work())
        };
        if is_done || phase.quit.is_requested() {
            return Ok(None);
        }
        tokio::select! {
            () = phase.quit.requested() => return Ok(None),
            permit = &mut permit, if has_work => return Ok(Some(permit?)),
            () = changed => {}
        }
    }
}

/// One evaluator, from its start to what follows from its end.
async fn evaluate(
    at: usize,
    phase: Phase<'_>,
    hall: &Mutex<Hall<'_>>,
    news: &Notify,
    work: Work,
    permit: &Permit,
) -> Result<(), EvaluateError> {
    let nonce = nonce()?;
    let task = Task {
        request: phase.request,
        lo: &work.span.lo,
        nonce: &nonce,
        paths: phase.paths,
        is_bare: phase.is_bare,
        writes: phase.writes || lock(hall).writes(),
        tells_way: phase.tells_way,
    };
    let writes = task.writes;
    let spec = command::evaluator(&task, phase.confine)?;
    let killer = Killer::default();
    let pid = OnceLock::new();
    let mut ear = Ear::new(at, phase, hall, news, &killer, permit, &nonce);
    let outcome = {
        let mut judge = |stream: Stream, line: &str| ear.hear(stream, line);
        let mut started = |number: u32| {
            limit_address_space(number, command::address_space(phase.request));
            let _ = pid.set(number); // it is told once
        };
        let asked = async {
            tokio::select! {
                () = killer.asked.notified() => {}
                () = phase.quit.requested() => killer.end(Ended::Stop),
            }
        };
        let run = run_followed(&spec, asked, &mut judge, &mut started);
        tokio::select! {
            outcome = run => outcome?,
            never = watch(at, phase, hall, &killer, &pid) => match never {},
        }
    };
    let outcome = Outcome { exit: phase.confine.exit(outcome.exit), ..outcome };
    let (said, job) = (ear.said.text(), ear.job.take());
    if !ear.has_heard {
        is_nix_well(&outcome, killer.why(), &said)?;
    }
    let trail = lock(hall).leave(at, outcome.usage);
    match trail {
        Some(trail) => {
            let end = Ending { exit: outcome.exit, ended: killer.why(), said: &said, job };
            follow(Phase { writes, ..phase }, hall, &work, &trail, end)
        }
        None => Ok(()),
    }
}

/// An evaluator that never told that it began has not looked at any code. It is Nix that did not work, or this machine,
/// unless it is known to be soon over.
fn is_nix_well(outcome: &Outcome, ended: Option<Ended>, said: &str) -> Result<(), EvaluateError> {
    let failed = ended.is_none() && matches!(outcome.exit, Exit::Exited(code) if code != 0);
    let error = message::error(AttrPath::root(), None, said);
    if !failed || message::is_busy(&error) || message::is_out_of_memory(said) {
        return Ok(());
    }
    Err(EvaluateError::Machine { said: error.message })
}

/// The end of an evaluator.
struct Ending<'a> {
    exit: Exit,
    ended: Option<Ended>,
    said: &'a str,
    /// The job that it told last, if it did not come to tell its meta.
    job: Option<Box<Attr>>,
}

/// What follows from the end of an evaluator.
fn follow(
    phase: Phase<'_>,
    hall: &Mutex<Hall<'_>>,
    work: &Work,
    trail: &Trail,
    Ending { exit, ended, said, job }: Ending<'_>,
) -> Result<(), EvaluateError> {
    // Without a net, an author's own text is printed as Nix's is.
    let may_be_machine = ended.is_none() && !phase.is_bare && matches!(exit, Exit::Exited(_));
    if let Some(said) = may_be_machine.then(|| message::machine(said)).flatten() {
        let store = phase.request.store();
        return Err(EvaluateError::Machine { said: format!("{said} (Nix' store is {store})") });
    }
    let (end, kind) = judge(trail, exit, ended, said);
    let mut hall = lock(hall);
    let came_to_nothing = trail.results() == 0 && end == End::Unclear;
    if came_to_nothing && work.tries + 1 < TRIES_MAX && matches!(exit, Exit::Signaled(_)) {
        hall.put(Some(work.span.clone()), work.tries + 1);
        return Ok(());
    }
    // Somebody else, or who was killed before, holds the database of Nix: no code was looked at.
    let is_busy = || message::is_busy(&message::error(AttrPath::root(), None, said));
    if end == End::Fatal && trail.results() == 0 && work.busy < BUSY_MAX && is_busy() {
        hall.put_busy(work);
        return Ok(());
    }
    if !trail.has_begun() && end != End::Through {
        lost_root(&mut hall, work, kind, said);
        return Ok(());
    }
    let verdict = trail.end(end);
    if let Some(job) = job.filter(|_| verdict.keeps_job) {
        hall.tell(Event::Attr(job));
    }
    if verdict.culprit.is_some() || matches!(end, End::Fatal | End::TooLong) {
        hall.count_restart();
    }
    if let Some((place, names)) = verdict.culprit {
        match path_of(phase, &place, names) {
            Ok(path)
                if !phase.writes
                    && message::needs_store(said, &phase.request.store(), phase.request.allow_ifd) =>
            {
                hall.unwritten.push(path);
            }
            Ok(path) => {
                // Nonsense in the midst of it is no Nix that does not work.
                let is_inside = !path.is_root();
                let kind =
                    kind.map(
                        |kind| {
                            if kind == ErrorKind::Garbage && is_inside { ErrorKind::Crashed } else { kind }
                        },
                    );
                let mut error = message::error(path, kind, said);
                if ended == Some(Ended::Output) {
                    let most = phase.request.limits.output_bytes >> 20;
                    error.message = format!("it prints more than {most} MiB while it is evaluated");
                }
                hall.tell(Event::Error(Box::new(error)));
            }
            Err(error) => hall.tell(Event::Error(error)),
        }
    }
    hall.put(verdict.rest, 0);
    Ok(())
}

/// An evaluator that was to go on where another was, and did not come there: the root is not what it was.
fn lost_root(hall: &mut Hall<'_>, work: &Work, kind: Option<ErrorKind>, said: &str) {
    if work.tries + 1 < TRIES_MAX {
        hall.put(Some(work.span.clone()), work.tries + 1);
    } else {
        hall.tell(Event::Error(Box::new(message::error(AttrPath::root(), kind, said))));
    }
}

/// How it ended, and which kind of error that is where it does not say so itself.
fn judge(trail: &Trail, exit: Exit, ended: Option<Ended>, said: &str) -> (End, Option<ErrorKind>) {
    match (ended, exit) {
        (Some(Ended::Beyond | Ended::Stop), _) => (End::Through, None),
        (Some(Ended::Interrupted), _) => (End::Interrupted, None),
        (Some(Ended::Output), _) => (End::Fatal, Some(ErrorKind::TooLarge)),
        (Some(Ended::Memory), _) => (End::Unclear, Some(ErrorKind::OutOfMemory)),
        (None, Exit::TimedOut { which: Limit::Silent | Limit::Wall, .. }) => {
            (End::TooLong, Some(ErrorKind::TimedOut))
        }
        (None, Exit::Cancelled) => (End::Through, None),
        (None, Exit::Signaled(libc::SIGSEGV | libc::SIGBUS | libc::SIGABRT | libc::SIGILL)) => {
            (End::Fatal, Some(ErrorKind::Crashed))
        }
        (None, Exit::Signaled(_)) => (End::Unclear, Some(ErrorKind::Crashed)),
        (None, Exit::Exited(0)) if trail.ended() => (End::Through, None),
        (None, Exit::Exited(0)) => (End::Unclear, Some(ErrorKind::Garbage)),
        (None, Exit::Exited(_)) if message::is_out_of_memory(said) => (End::Unclear, None),
        (None, Exit::Exited(_)) => (End::Fatal, None),
    }
}

/// The path of a place.
fn path_of(
    phase: Phase<'_>,
    place: &Place,
    names: Vec<String>,
) -> Result<AttrPath, Box<ci_model::attr::AttrError>> {
    let names = match (phase.paths, place.0.first()) {
        (Some(paths), Some(at)) => {
            let chosen = paths.get(*at as usize).map(AttrPath::components).unwrap_or_default();
            chosen.iter().cloned().chain(names.into_iter().skip(1)).collect()
        }
        (Some(_) | None, _) => names,
    };
    AttrPath::new(names).map_err(|error| {
        let why = format!("{error}, at place {place}");
        Box::new(message::ours(AttrPath::root(), ErrorKind::TooLarge, &why))
    })
}

/// Hears one evaluator.
struct Ear<'a, 's> {
    at: usize,
    phase: Phase<'a>,
    hall: &'a Mutex<Hall<'s>>,
    news: &'a Notify,
    killer: &'a Killer,
    permit: &'a Permit,
    marks: Marks,
    /// A job whose meta is still to come.
    job: Option<Box<Attr>>,
    said: Said,
    /// Bytes since it began with a place, its results aside.
    printed: u64,
    /// Has it told anything at all?
    has_heard: bool,
}

impl<'a, 's> Ear<'a, 's> {
    fn new(
        at: usize,
        phase: Phase<'a>,
        hall: &'a Mutex<Hall<'s>>,
        news: &'a Notify,
        killer: &'a Killer,
        permit: &'a Permit,
        nonce: &str,
    ) -> Self {
        let (marks, job, said) = (Marks::of(nonce), None, Said::default());
        Self { at, phase, hall, news, killer, permit, marks, job, said, printed: 0, has_heard: false }
    }

    /// Is this line a sign of progress?
    fn hear(&mut self, stream: Stream, line: &str) -> bool {
        let marked = match stream {
            Stream::Stdout => None,
            Stream::Stderr => self.marks.read(line),
        };
        if let Some((place, mark)) = marked {
            self.has_heard = true;
            self.take(&place, &mark);
            return true;
        }
        self.printed = self.printed.saturating_add(line.len() as u64 + 1);
        if self.printed > self.phase.request.limits.output_bytes {
            self.killer.end(Ended::Output);
        }
        if stream == Stream::Stderr {
            self.said.push(line);
        }
        false
    }

    fn take(&mut self, place: &Place, mark: &Mark<'_>) {
        if self.killer.why().is_some() {
            return; // what it tells after we ended it, another one tells
        }
        let mut hall = lock(self.hall);
        let Some(heard) = hall.hear(self.at, |trail| trail.hear(place, mark)) else { return };
        hall.count(&heard);
        if hall.stop.is_some() {
            self.killer.end(Ended::Stop);
        }
        match heard {
            Heard::Noted => {}
            Heard::Beyond => self.killer.end(Ended::Beyond),
            Heard::Holds(count) if hall.is_large(count) => self.news.notify_waiters(),
            Heard::Holds(_) => {}
            Heard::Begins(_)
                if self.permit.is_asked_back() && hall.hear(self.at, |trail| trail.results()) > Some(0) =>
            {
                self.killer.end(Ended::Interrupted);
            }
            Heard::Begins(names) => {
                self.said.clear();
                self.printed = 0;
                if let Ok(path) = path_of(self.phase, place, names)
                    && !path.is_root()
                {
                    hall.tell(Event::Begin(path));
                }
            }
            Heard::Result(names) if *mark == Mark::Throws => match path_of(self.phase, place, names) {
                Ok(path) => hall.hide(path),
                Err(error) => hall.tell(Event::Error(error)),
            },
            Heard::Result(names) => {
                if let Some(event) = self.event(place, names, mark) {
                    hall.tell(event);
                }
            }
        }
    }

    /// What a result is to others.
    fn event(&mut self, place: &Place, names: Vec<String>, mark: &Mark<'_>) -> Option<Event> {
        let path = match path_of(self.phase, place, names) {
            Ok(path) => path,
            Err(error) => return Some(Event::Error(error)),
        };
        let wrong = |kind, why: &str| Some(Event::Error(Box::new(message::ours(path.clone(), kind, why))));
        match mark {
            Mark::Job(text) => match record::job(path.clone(), text) {
                Ok(attr) => {
                    self.job = Some(Box::new(attr));
                    None
                }
                Err(why) => wrong(ErrorKind::Garbage, &why),
            },
            Mark::Meta(text) => {
                let mut attr = self.job.take()?;
                record::add_meta(&mut attr, text, &self.phase.request.folder);
                Some(Event::Attr(attr))
            }
            Mark::OtherSystem => Some(Event::OtherSystem(path)),
            Mark::TooLarge(what) => wrong(ErrorKind::TooLarge, &format!("{what} is beyond what is taken")),
            Mark::Begins(_) | Mark::Holds(_) | Mark::Throws | Mark::Nothing | Mark::End => None,
        }
    }
}

/// The end of what an evaluator said since it began with a place.
#[derive(Default)]
struct Said {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Said {
    fn clear(&mut self) {
        self.lines.clear();
        self.bytes = 0;
    }

    fn push(&mut self, line: &str) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line.to_owned());
        while self.bytes > 2 * TRACE_BYTES_MAX && self.lines.len() > 1 {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len() + 1);
        }
    }

    fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

/// Ends an evaluator from where it is heard.
#[derive(Default)]
struct Killer {
    asked: Notify,
    why: Mutex<Option<Ended>>,
}

impl Killer {
    /// The first reason counts.
    fn end(&self, why: Ended) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.asked.notify_one();
    }

    fn why(&self) -> Option<Ended> {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at an evaluator's memory for as long as it is asked. One that still has too much a look after it was asked to
/// end is killed: it may grow faster than it hears.
async fn watch(
    at: usize,
    phase: Phase<'_>,
    hall: &Mutex<Hall<'_>>,
    killer: &Killer,
    pid: &OnceLock<u32>,
) -> Infallible {
    let mut is_asked = false;
    loop {
        sleep_until(Instant::now() + LOOK_EVERY).await;
        let Some(pid) = pid.get() else { continue };
        let bytes = resident::bytes(*pid);
        lock(hall).tell(Event::Memory { worker: at, bytes });
        if bytes > phase.request.limits.memory_bytes {
            if is_asked {
                resident::kill_group(*pid);
            }
            killer.end(Ended::Memory);
            is_asked = true;
        }
    }
}

/// The second wall behind [`watch`]. A child that has ended already needs none.
fn limit_address_space(pid: u32, bytes: u64) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    if let Err(error) = prlimit(Some(pid), Resource::As, limit) {
        tracing::debug!(
            pid = pid.as_raw_nonzero().get(),
            "no limit of address space for an evaluator: {error}"
        );
    }
}

/// A word that no expression can know.
fn nonce() -> Result<String, EvaluateError> {
    use std::io::Read as _;
    let mut bytes = [0; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| EvaluateError::Machine { said: format!("/dev/urandom: {error}") })?;
    Ok(bytes.iter().fold(String::new(), |out, byte| format!("{out}{byte:02x}")))
}
