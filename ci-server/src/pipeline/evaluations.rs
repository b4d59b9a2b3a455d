//! The jobs of both sides, evaluated once. In: a job as a side has it, and that side's code; out: what it evaluates to,
//! from an earlier run of the same tree where there was one. The first pass writes nothing; derivations are written
//! later, for the attributes that are named.

use std::sync::{Arc, Mutex, PoisonError};

use ci_model::JobName;
use ci_model::attr::{AttrError, ErrorKind};
use ci_model::config::{JobSource, PlannedJob};
use ci_model::flow::{Evaluation, EvaluationCost, Source};
use ci_model::outcome::{Progress, Side};
use nix_types::{AttrPath, DrvPath, System};
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;
use tokio::task::spawn_blocking;

use super::{Request, RunError, Told};
use crate::evaluate::{self, EvaluateError, Event, Pass, What};
use crate::store::{CHUNK_MAX, EvaluationKey, SettingsHash, Store, StoreError};

/// How many attributes may become known between two words about progress.
const TOLD_EVERY: usize = 16;
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

/// Evaluates a job without writing derivations.
pub(super) async fn evaluate(
    request: &Request,
    task: Task<'_>,
    stop: &Stop,
    told: &Ear<'_>,
) -> Result<Evaluation, RunError> {
    let key = key(request, task);
    if !request.afresh
        && let Some(known) = remembered(&request.store, key.clone()).await?
    {
        ended(task, &known.cost, told);
        return Ok(known);
    }
    tell(told, Progress::Evaluating { job: task.name.clone(), side: task.side });
    let mut evaluation = read_only(request, task, stop, told).await?;
    for _ in 1..BUSY_TRIES {
        if !evaluation.errors.iter().any(is_busy) {
            break;
        }
        evaluation = read_only(request, task, stop, told).await?;
    }
    ended(task, &evaluation.cost, told);
    if !evaluation.errors.iter().any(evaluate::may_pass) {
        let kept = remember(&request.store, key, evaluation.clone()).await;
        if let Err(error) = kept {
            // It is only slower the next time.
            tracing::warn!("what {} evaluates to is not remembered: {}", task.name, chain(&error));
        }
    }
    Ok(evaluation)
}

/// Did another Nix get in the way, in the store's database or in making a new store? That is soon over.
pub(super) fn is_busy(error: &AttrError) -> bool {
    let message = error.message.trim_end();
    let of_database = message.starts_with("SQLite database '") && message.ends_with("is busy");
    let of_new_store = message.starts_with("creating symlink from '") && message.ends_with("File exists");
    error.kind == ErrorKind::Fatal && (of_database || of_new_store)
}

fn ended(task: Task<'_>, cost: &EvaluationCost, told: &Ear<'_>) {
    tell(told, Progress::EvaluationEnded { job: task.name.clone(), side: task.side, cost: cost.clone() });
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
    let mut memory: Vec<u64> = Vec::new();
    let (mut held, halt) = (0, stop.child());
    let mut sink = |event: Event| {
        held += bytes_of(&event);
        if held > request.results_bytes_max {
            return halt.request(); // what is told until it has stopped is not kept
        }
        match event {
            Event::Attr(attr) => attrs.push(*attr),
            Event::Error(error) => errors.push(*error),
            Event::Memory { worker, bytes } => {
                memory.resize(memory.len().max(worker + 1), 0);
                memory[worker] = bytes;
            }
            Event::Known(_) | Event::Begin(_) | Event::OtherSystem(_) => return,
        }
        let known = attrs.len() + errors.len();
        if known.is_multiple_of(TOLD_EVERY) {
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
    let path = |path: &AttrPath| path.components().iter().map(|name| name.len() + EACH).sum::<usize>();
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
            path(&attr.path)
                + attr.drv.as_str().len()
                + attr.name.len()
                + text(&attr.pname)
                + text(&attr.version)
                + text(&meta.description)
                + meta.position.as_ref().map_or(0, |of| of.file.len())
                + licenses.chain(maintainers).chain(outputs).chain(features).sum::<usize>()
                + size_of_val(&**attr)
        }
        Event::Error(error) => {
            path(&error.path) + error.message.len() + error.trace.len() + size_of_val(&**error)
        }
        Event::Known(_) | Event::Begin(_) | Event::OtherSystem(_) | Event::Memory { .. } => 0,
    };
    bytes as u64
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
    let mut sink = |event: Event| match event {
        Event::Attr(attr) => {
            written.push(attr.drv);
            told(written.len());
        }
        Event::Error(error) => errors.push(*error),
        Event::Known(_) | Event::Begin(_) | Event::OtherSystem(_) | Event::Memory { .. } => {}
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
        allowed_uris: Vec::new(),
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
    let engine = request.engine.as_bytes();
    let parts = [ours.as_bytes(), engine, what.as_bytes(), systems, nix.as_bytes(), limits.as_bytes()];
    EvaluationKey {
        tree: task.source.tree.clone(),
        job: task.name.clone(),
        settings: SettingsHash::of(request.trust, &parts),
    }
}

async fn remembered(store: &Arc<dyn Store>, key: EvaluationKey) -> Result<Option<Evaluation>, RunError> {
    let store = Arc::clone(store);
    let found = spawn_blocking(move || store.evaluation(&key)).await;
    let found = found.expect("a question to the store does not panic: it returns its errors")?;
    Ok(found.map(|(_, evaluation)| evaluation))
}

async fn remember(
    store: &Arc<dyn Store>,
    key: EvaluationKey,
    evaluation: Evaluation,
) -> Result<(), RunError> {
    let store = Arc::clone(store);
    let kept = spawn_blocking(move || keep(&*store, &key, &evaluation)).await;
    Ok(kept.expect("writing to the store does not panic: it returns its errors")?)
}

fn keep(store: &dyn Store, key: &EvaluationKey, evaluation: &Evaluation) -> Result<(), StoreError> {
    let token = store.begin_evaluation(key)?;
    let mut number = 0;
    for attrs in evaluation.attrs.chunks(CHUNK_MAX) {
        store.add_attrs(token, number, attrs, &[])?;
        number += 1;
    }
    for errors in evaluation.errors.chunks(CHUNK_MAX) {
        store.add_attrs(token, number, &[], errors)?;
        number += 1;
    }
    store.close_evaluation(token, &evaluation.cost)?;
    Ok(())
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
    for error in &mut hidden {
        if let Some(said) = found.remove(&error.path) {
            (error.message, error.trace) = (said.message, said.trace);
        }
    }
    Ok(())
}
