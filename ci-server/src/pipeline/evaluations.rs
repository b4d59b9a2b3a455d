//! The jobs of both sides, evaluated once. In: a job as a side has it, and that side's code; out: what it evaluates to,
//! from an earlier run of the same tree where there was one. The first pass writes nothing; derivations are written
//! later, for the attributes that are named.

mod pace;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use ci_model::JobName;
use ci_model::attr::{AttrError, ErrorKind};
use ci_model::config::{JobSource, PlannedJob};
use ci_model::flow::{Evaluation, EvaluationCost, Source};
use ci_model::outcome::{Progress, Side};
use nix_types::{AttrPath, DrvPath, System};
use service_kit::shutdown::Stop;

use self::pace::Pace;
use super::places::Places;
use super::record::Record;
use super::remember::{Kept, remember, remembered};
use super::{Request, RunError, Told};
use crate::evaluate::{self, EvaluateError, Event, Pass, What};
use crate::store::{EvaluationId, EvaluationKey, SettingsHash};

/// How often something is evaluated while others hold the store's database.
pub(super) const BUSY_TRIES: usize = 4;

/// Most messages that are asked for after the comparison.
const LEARNED_MAX: usize = 200;

/// A side's job, and where its code is.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) side: Side,
    pub(super) name: &'a JobName,
    pub(super) job: &'a PlannedJob,
    pub(super) source: &'a Source,
}

/// What tasks of one run come to, where several come to the same: base and head may have one tree.
#[derive(Default)]
pub(super) struct Shared(HashMap<EvaluationKey, Cell>);

/// What has its key comes to; nothing until somebody has evaluated it.
type Cell = tokio::sync::Mutex<Option<(Evaluation, Option<EvaluationId>)>>;

impl Shared {
    pub(super) fn of(request: &Request, tasks: &[Task<'_>]) -> Self {
        let mut counts: HashMap<EvaluationKey, usize> = HashMap::new();
        tasks.iter().for_each(|task| *counts.entry(key(request, *task)).or_default() += 1);
        let shared = counts.into_iter().filter(|(_, count)| *count > 1);
        Self(shared.map(|(key, _)| (key, Cell::default())).collect())
    }
}

/// Evaluates a job without writing derivations, and writes down what the run uses. What another task of the run comes to as
/// well is evaluated by the first of them; the others wait for it.
pub(super) async fn evaluate(
    request: &Request,
    task: Task<'_>,
    (shared, record): (&Shared, &Record),
    stop: &Stop,
    told: &Ear<'_>,
) -> Result<Evaluation, RunError> {
    let key = key(request, task);
    let Some(cell) = shared.0.get(&key) else {
        let done = find_or_evaluate(request, task, key, record, stop, told).await;
        let (evaluation, id) = done.or_else(|error| without_its_file(task, error))?;
        use_it(task, &evaluation, id, record, told).await;
        return Ok(evaluation);
    };
    let mut cell = cell.lock().await;
    let (evaluation, id) = match cell.take() {
        Some((mut known, id)) => {
            known.cost.reused = true;
            (known, id)
        }
        None => match find_or_evaluate(request, task, key, record, stop, told).await {
            Ok(done) => done,
            // The head, which has the same, is still refused.
            Err(error) => {
                let (evaluation, _) = without_its_file(task, error)?;
                ended(task, &evaluation, told);
                return Ok(evaluation);
            }
        },
    };
    *cell = Some((evaluation.clone(), id));
    use_it(task, &evaluation, id, record, told).await;
    Ok(evaluation)
}

/// A base whose job names what is not there, or not in the repository, failed as a whole: somebody has to be able to mend
/// it. It is found out anew each time, for it costs nothing.
fn without_its_file(task: Task<'_>, error: RunError) -> Result<(Evaluation, Option<EvaluationId>), RunError> {
    match error {
        RunError::Evaluate { side: Side::Base, source: source @ EvaluateError::Request { .. }, .. } => {
            let message = source.to_string();
            let (path, kind) = (AttrPath::root(), ErrorKind::Fatal);
            let errors = vec![AttrError { path, kind, trace: message.clone(), message }];
            let (job, tree, cost) = (task.name.clone(), task.source.tree.clone(), EvaluationCost::default());
            Ok((Evaluation { job, tree, attrs: Vec::new(), errors, cost }, None))
        }
        other => Err(other),
    }
}

async fn use_it(
    task: Task<'_>,
    evaluation: &Evaluation,
    id: Option<EvaluationId>,
    record: &Record,
    told: &Ear<'_>,
) {
    if let Some(id) = id {
        record.uses(task.side, id).await;
    }
    ended(task, evaluation, told);
}

/// What it comes to, with its row where it is remembered.
async fn find_or_evaluate(
    request: &Request,
    task: Task<'_>,
    key: EvaluationKey,
    record: &Record,
    stop: &Stop,
    told: &Ear<'_>,
) -> Result<(Evaluation, Option<EvaluationId>), RunError> {
    if !request.afresh
        && request.fleeting.is_none()
        && let Some((id, known)) = remembered(&request.store, key.clone()).await?
    {
        return Ok((known, Some(id)));
    }
    tell(told, Progress::Evaluating { job: task.name.clone(), side: task.side });
    let mut evaluation = read_only(request, task, stop, told).await?;
    for _ in 1..BUSY_TRIES {
        if !evaluation.errors.iter().any(evaluate::is_busy) {
            break;
        }
        evaluation = read_only(request, task, stop, told).await?;
    }
    if request.fleeting.is_some() || evaluation.errors.iter().any(evaluate::may_pass) {
        return Ok((evaluation, None));
    }
    match remember(&request.store, key, evaluation.clone(), request.afresh).await {
        Ok(Kept::As(id)) => return Ok((evaluation, Some(id))),
        Ok(Kept::InPlace(id)) => {
            record.differs(task.name, task.side, "which it takes the place of");
            return Ok((evaluation, Some(id)));
        }
        Ok(Kept::Not) => record.differs(task.name, task.side, "which stays as it is"),
        Err(faults) => faults.iter().for_each(|fault| record.lacks(fault)),
    }
    Ok((evaluation, None))
}

fn ended(task: Task<'_>, evaluation: &Evaluation, told: &Ear<'_>) {
    let progress = Progress::EvaluationEnded {
        job: task.name.clone(),
        side: task.side,
        attrs: evaluation.attrs.len(),
        errors: evaluation.errors.len(),
        cost: evaluation.cost.clone(),
    };
    tell(told, progress);
}

/// Whom several evaluations tell how far they are.
pub(super) type Ear<'a> = Mutex<Told<'a>>;

fn tell(told: &Ear<'_>, progress: Progress) {
    (told.lock().unwrap_or_else(PoisonError::into_inner))(progress);
}

async fn read_only(
    request: &Request,
    task: Task<'_>,
    stop: &Stop,
    told: &Ear<'_>,
) -> Result<Evaluation, RunError> {
    let (mut attrs, mut errors) = (Vec::new(), Vec::new());
    let (mut memory, mut pace) = (Vec::<u64>::new(), Pace::default());
    let (mut held, halt) = (0, stop.child());
    let places = Places::of(task.source);
    let mut sink = |event: Event| {
        held += bytes_of(&event);
        if held > request.results_bytes_max {
            return halt.request(); // what is told until it has stopped is not kept
        }
        match event {
            Event::Attr(attr) => attrs.push(*attr),
            Event::Error(error) => errors.push(places.without(*error)),
            Event::Memory { worker, bytes } => {
                memory.resize(memory.len().max(worker + 1), 0);
                memory[worker] = bytes;
            }
            Event::Known(_) | Event::Begin(_) | Event::OtherSystem(_) | Event::Held(_) => {}
        }
        if pace.is_due(attrs.len() + errors.len(), request.clock.mono()) {
            let progress = Progress::Evaluated {
                job: task.name.clone(),
                side: task.side,
                attrs: attrs.len(),
                errors: errors.len(),
                memory_bytes: memory.iter().sum(),
            };
            tell(told, progress);
        }
    };
    let wanted = wanted(request, task);
    let run = evaluate::run(&wanted, &Pass::ReadOnly, request.doors(), halt.requested(), &mut sink).await;
    let cost = match run {
        // It may have come to its end before it heard that it should.
        Ok(_) | Err(EvaluateError::Cancelled) if held > request.results_bytes_max && !stop.is_requested() => {
            attrs.clear();
            errors = vec![too_large(request.results_bytes_max)];
            run.unwrap_or_default()
        }
        run => run.map_err(|source| fault(task, source))?,
    };
    attrs.sort_by(|a, b| a.path.cmp(&b.path));
    errors.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Evaluation { job: task.name.clone(), tree: task.source.tree.clone(), attrs, errors, cost })
}

/// All of a job is beyond what is kept of it.
fn too_large(limit: u64) -> AttrError {
    let message =
        format!("what it evaluates to takes more than {} MiB; split it into several jobs", limit >> 20);
    AttrError { path: AttrPath::root(), kind: ErrorKind::TooLarge, trace: message.clone(), message }
}

/// What an event takes while it is kept, in bytes, near enough: its texts, and some for what holds each of them.
fn bytes_of(event: &Event) -> u64 {
    const EACH: usize = 64;
    let text = |text: &Option<String>| text.as_ref().map_or(0, |text| text.len() + EACH);
    let bytes = match event {
        Event::Attr(attr) => {
            let meta = &attr.meta;
            let licenses = meta.licenses.iter().map(|of| text(&of.spdx) + of.name.len() + 2 * EACH);
            let maintainers = meta.maintainers.iter();
            let maintainers =
                maintainers.map(|of| text(&of.name) + text(&of.github) + text(&of.email) + EACH);
            let outputs = attr.outputs.iter().map(|(name, path)| {
                name.len() + path.as_ref().map_or(0, |path| path.as_str().len()) + 2 * EACH
            });
            let features = attr.traits.iter().flat_map(|of| &of.required_features).map(|of| of.len() + EACH);
            attr.drv.as_str().len()
                + attr.name.len()
                + text(&attr.pname)
                + text(&attr.version)
                + text(&meta.description)
                + meta.position.as_ref().map_or(0, |of| of.file.len())
                + licenses.chain(maintainers).chain(outputs).chain(features).sum::<usize>()
                + size_of_val(&**attr)
        }
        Event::Error(error) => error.message.len() + error.trace.len() + size_of_val(&**error),
        Event::OtherSystem(_) => 0,
        Event::Held(bytes) => return *bytes,
        Event::Known(_) | Event::Begin(_) | Event::Memory { .. } => return 0,
    };
    // Which paths there were is held as well, to tell each of them once.
    let (paths, path) = match event {
        Event::Attr(attr) => (2, &attr.path),
        Event::Error(error) => (2, &error.path),
        Event::OtherSystem(path) => (1, path),
        Event::Held(_) | Event::Known(_) | Event::Begin(_) | Event::Memory { .. } => return bytes as u64,
    };
    bytes as u64 + paths * evaluate::path_bytes(path)
}

/// Writes the derivations of these attributes. Gives the derivations, and what went wrong this time.
pub(super) async fn instantiate(
    request: &Request,
    task: Task<'_>,
    only: Vec<AttrPath>,
    stop: &Stop,
    told: &mut (dyn FnMut(usize) + Send),
) -> Result<(Vec<DrvPath>, Vec<AttrError>), RunError> {
    let (mut written, mut errors) = (Vec::new(), Vec::new());
    let places = Places::of(task.source);
    let mut sink = |event: Event| match event {
        Event::Attr(attr) => {
            written.push(attr.drv);
            told(written.len());
        }
        Event::Error(error) => errors.push(places.without(*error)),
        Event::Known(_) | Event::Begin(_) | Event::OtherSystem(_) | Event::Held(_) | Event::Memory { .. } => {
        }
    };
    let pass = Pass::Instantiate { only: Some(only) };
    let wanted = wanted(request, task);
    let run = evaluate::run(&wanted, &pass, request.doors(), stop.requested(), &mut sink).await;
    run.map_err(|source| fault(task, source))?;
    Ok((written, errors))
}

fn fault(task: Task<'_>, source: EvaluateError) -> RunError {
    match source {
        EvaluateError::Cancelled => RunError::Cancelled,
        source => RunError::Evaluate { job: task.name.clone(), side: task.side, source },
    }
}

fn wanted(request: &Request, task: Task<'_>) -> evaluate::Request {
    let what = match &task.job.source {
        JobSource::File { file, attr_path } => {
            What::File { path: file.as_str().into(), attr_path: attr_path.clone() }
        }
        JobSource::Flake { output } => What::Flake { outputs: vec![output.clone()] },
    };
    evaluate::Request {
        folder: task.source.folder.clone(),
        what,
        systems: systems(request, task),
        skip: Vec::new(),
        is_trusted: request.is_trusted(),
        allow_ifd: request.is_trusted(),
        allowed_uris: request.allowed_uris.clone(),
        limits: request.limits.clone(),
        nix: request.nix.clone(),
    }
}

/// Those of the job, and of them those that were asked for.
fn systems(request: &Request, task: Task<'_>) -> Option<Vec<System>> {
    match (&task.job.systems, request.systems.is_empty()) {
        (None, true) => None,
        (None, false) => Some(request.systems.clone()),
        (Some(of_job), true) => Some(of_job.clone()),
        (Some(of_job), false) => {
            Some(of_job.iter().filter(|system| request.systems.contains(system)).cloned().collect())
        }
    }
}

/// What the result depends on, beside the tree.
fn key(request: &Request, task: Task<'_>) -> EvaluationKey {
    let what = match &task.job.source {
        JobSource::File { file, attr_path } => format!("file\n{file}\n{attr_path}"),
        JobSource::Flake { output } => format!("flake\n{output}"),
    };
    let systems = systems(request, task).map(|mut systems| {
        systems.sort_unstable();
        systems.iter().map(System::as_str).collect::<Vec<_>>().join("\n")
    });
    let systems = systems.as_deref().unwrap_or("all").as_bytes();
    let nix = format!("{:?}", request.nix);
    let (depth, attrs) = (request.limits.depth_max, request.limits.attrs_max);
    let limits = format!("{depth} {attrs} {}", request.results_bytes_max);
    let ours = concat!(env!("CARGO_PKG_VERSION"), "\n", include_str!("../evaluate/walk.nix"));
    let (ours, engine) = (ours.as_bytes(), request.engine.as_bytes());
    let uris = uris(request);
    let parts = [ours, engine, what.as_bytes(), systems, nix.as_bytes(), limits.as_bytes(), uris.as_bytes()];
    EvaluationKey {
        tree: task.source.tree.clone(),
        job: task.name.clone(),
        settings: SettingsHash::of(request.trust, &parts),
    }
}

/// What may be fetched, whatever the order it was said in.
fn uris(request: &Request) -> String {
    let uris: BTreeSet<&str> = request.allowed_uris.iter().map(String::as_str).collect();
    uris.into_iter().collect::<Vec<_>>().join("\n")
}

/// Asks for the messages of these errors that were not asked for in the pass. What cannot be learned stays as it is.
pub(super) async fn learn_messages(
    request: &Request,
    task: Task<'_>,
    errors: Vec<&mut AttrError>,
    stop: &Stop,
) -> Result<(), RunError> {
    let mut hidden: Vec<&mut AttrError> =
        errors.into_iter().filter(|error| evaluate::is_hidden(error)).take(LEARNED_MAX).collect();
    if hidden.is_empty() {
        return Ok(());
    }
    let paths: Vec<AttrPath> = hidden.iter().map(|error| error.path.clone()).collect();
    let wanted = wanted(request, task);
    let asked = evaluate::explain_all(&wanted, &paths, request.doors(), stop.requested());
    let mut found = asked.await.map_err(|source| fault(task, source))?;
    let places = Places::of(task.source);
    for error in &mut hidden {
        if let Some(said) = found.remove(&error.path).map(|said| places.without(said)) {
            (error.message, error.trace) = (said.message, said.trace);
        }
    }
    Ok(())
}
