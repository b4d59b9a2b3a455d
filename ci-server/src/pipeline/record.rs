//! What is written down of a run: that it began, which evaluations it uses, what its change does, how it ended. In: what
//! asked for it, and what the stages come to; out: the same answer, once it is in the store. A step that cannot be written
//! takes no answer away: it becomes a warning of the outcome.

use std::sync::{Arc, Mutex, PoisonError};

use ci_model::JobName;
use ci_model::flow::{Cause, Trigger};
use ci_model::outcome::{Outcome, Side};
use service_kit::telemetry::chain;
use tokio::task::spawn_blocking;

use super::check_out::Code;
use super::{Request, RunError, side_text};
use crate::store::{EvaluationId, RunEnd, RunId, Store, StoreError};

/// A run, as far as the store has it.
pub(super) struct Record {
    store: Arc<dyn Store>,
    /// None when it could not be begun: then nothing else of it is written.
    run: Option<RunId>,
    said: Mutex<Said>,
}

/// What whoever asked should know of the record.
#[derive(Default)]
struct Said {
    /// Steps that could not be written.
    faults: Vec<String>,
    /// A sentence each.
    notes: Vec<String>,
}

impl Record {
    /// Begins the run.
    pub(super) async fn begin(request: &Request, code: &Code) -> Self {
        let mut record = Self { store: Arc::clone(&request.store), run: None, said: Mutex::default() };
        let trigger = Trigger {
            repository: code.repository.clone(),
            cause: Cause::Person,
            head: code.checkout.head.commit.clone(),
            base: code.checkout.base.as_ref().and_then(|base| base.commit.clone()),
            trust: request.trust,
        };
        let key = request.key.clone();
        let begun = record.ask(move |store| store.begin_run(&key, &trigger)).await;
        record.run = begun.map_err(|error| record.lacks(&error)).ok();
        record
    }

    /// A side of the run is this evaluation, new or not.
    pub(super) async fn uses(&self, side: Side, evaluation: EvaluationId) {
        let Some(run) = self.run else { return };
        let noted = self.ask(move |store| store.use_evaluation(run, side, evaluation)).await;
        noted.unwrap_or_else(|error| self.lacks(&error));
    }

    /// Something could not be written.
    pub(super) fn lacks(&self, why: &StoreError) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).faults.push(chain(why));
    }

    /// What a job came to is not what is, or was, remembered under the very same key; what becomes of that.
    pub(super) fn differs(&self, job: &JobName, side: Side, becomes: &str) {
        let side = side_text(side);
        let note = format!(
            "What the job {job} of the {side} evaluates to is not what is remembered of the same tree, {becomes}: its code \
              depends on the time, or on something outside of the repository."
        );
        self.said.lock().unwrap_or_else(PoisonError::into_inner).notes.push(note);
    }

    /// Ends the run with what it came to, and only then gives it.
    pub(super) async fn end(self, answer: Result<Outcome, RunError>) -> Result<Outcome, RunError> {
        let error = match answer {
            Ok(outcome) => return Ok(self.answered(outcome).await),
            Err(error) => error,
        };
        let end = match &error {
            RunError::Cancelled => RunEnd::Cancelled,
            error => RunEnd::Failed(chain(error)),
        };
        self.close(end).await.unwrap_or_else(|error| self.lacks(&error));
        for warning in self.warnings() {
            tracing::warn!("{warning}"); // there is no outcome to carry it
        }
        Err(error)
    }

    async fn answered(&self, outcome: Outcome) -> Outcome {
        let mut outcome = self.compared(outcome).await;
        let said = outcome.warnings.len();
        outcome.warnings.extend(self.warnings());
        let Err(error) = self.close(RunEnd::Answered(Box::new(outcome.clone()))).await else {
            return outcome;
        };
        self.lacks(&error);
        // An end that can be written all the same, unless nothing can be.
        let why = format!("it came to an answer, which could not be recorded: {}", chain(&error));
        self.close(RunEnd::Failed(why)).await.unwrap_or_else(|error| self.lacks(&error));
        outcome.warnings.truncate(said);
        outcome.warnings.extend(self.warnings());
        outcome
    }

    async fn compared(&self, outcome: Outcome) -> Outcome {
        let Some(run) = self.run else { return outcome };
        let record = move |store: &dyn Store| {
            let recorded = store.record_comparison(run, &outcome.comparison);
            (outcome, recorded)
        };
        let (outcome, recorded) = self.ask(record).await;
        recorded.unwrap_or_else(|error| self.lacks(&error));
        outcome
    }

    async fn close(&self, end: RunEnd) -> Result<(), StoreError> {
        let Some(run) = self.run else { return Ok(()) };
        self.ask(move |store| store.close_run(run, &end)).await
    }

    async fn ask<T: Send + 'static>(&self, command: impl FnOnce(&dyn Store) -> T + Send + 'static) -> T {
        let store = Arc::clone(&self.store);
        let done = spawn_blocking(move || command(&*store)).await;
        done.expect("a command of the store does not panic: it returns its errors")
    }

    /// A sentence for each note; and one for all that could not be written: the first of it, and how much more.
    fn warnings(&self) -> Vec<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut warnings = said.notes.clone();
        if let Some((first, more)) = said.faults.split_first() {
            let more = match more.len() {
                0 => String::new(),
                more => format!(" ({more} more could not be done)"),
            };
            warnings.push(format!("This run is not recorded as a whole: {first}{more}."));
        }
        warnings
    }
}
