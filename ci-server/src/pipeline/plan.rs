//! What is evaluated. In: what was asked for, and both sides' configurations; out: the jobs, as each side has them, or why
//! nothing needs to be looked at.

use std::collections::BTreeSet;

use ci_model::JobName;
use ci_model::config::{Effect, PlannedJob};
use ci_model::flow::Checkout;
use ci_model::outcome::Side;

use super::configs::{Configs, is_there};
use super::evaluations::Task;
use super::{Request, RunError};

/// What is evaluated.
pub(super) struct Plan {
    pub(super) jobs: Vec<Planned>,
    /// Why nothing is evaluated, where nothing is.
    pub(super) skipped: Option<String>,
    pub(super) warnings: Vec<String>,
}

/// A job, as each side has it: one of them at least.
pub(super) struct Planned {
    pub(super) name: JobName,
    pub(super) head: Option<PlannedJob>,
    pub(super) base: Option<PlannedJob>,
}

impl Planned {
    /// What the configuration of the head says, unless the job is gone there.
    pub(super) fn allows_failures(&self) -> bool {
        self.head.as_ref().or(self.base.as_ref()).is_some_and(|job| job.allow_eval_failures)
    }

    /// The base first: what the head is compared with is often remembered.
    pub(super) fn tasks<'a>(&'a self, checkout: &'a Checkout) -> Vec<Task<'a>> {
        [Side::Base, Side::Head].into_iter().filter_map(|side| self.task(side, checkout)).collect()
    }

    /// This side's.
    pub(super) fn task<'a>(&'a self, side: Side, checkout: &'a Checkout) -> Option<Task<'a>> {
        let (job, source) = match side {
            Side::Head => (self.head.as_ref(), Some(&checkout.head)),
            Side::Base => (self.base.as_ref(), checkout.base.as_ref()),
        };
        Some(Task { side, name: &self.name, job: job?, source: source? })
    }
}

impl Plan {
    pub(super) fn of(request: &Request, checkout: &Checkout) -> Result<Self, RunError> {
        let (configs, mut warnings) = Configs::read(checkout, request.default_systems())?;
        let base = configs.base.as_ref().map(|base| &base.config);
        let holds = configs.holds(request.trust);
        warnings.extend(holds.notices.iter().map(ToString::to_string));
        let head = holds.config.all_jobs();
        let mut base = base.map(|base| base.all_jobs()).unwrap_or_default();
        if let Some(code) = checkout.base.as_ref().filter(|_| configs.is_base_by_head) {
            // A job whose code is as new as it is has nothing before, and did not fail.
            base.retain(|_, job| is_there(&job.source, code));
        }
        let names: BTreeSet<&JobName> = head.keys().chain(base.keys()).collect();
        if let Some(job) = request.jobs.iter().find(|job| !names.contains(job)) {
            let known = names.into_iter().cloned().collect();
            return Err(RunError::NoSuchJob { job: job.clone(), known });
        }
        let is_asked_for = |name: &&&JobName| request.jobs.is_empty() || request.jobs.contains(name);
        let jobs = names.iter().filter(is_asked_for).map(|name| Planned {
            name: (*name).clone(),
            head: head.get(*name).cloned(),
            base: base.get(*name).cloned(),
        });
        let skipped =
            skipped(request, checkout, holds.config.effect_of(checkout.changed.iter().map(String::as_str)));
        let jobs = if skipped.is_some() { Vec::new() } else { jobs.collect() };
        Ok(Self { jobs, skipped, warnings })
    }
}

/// Why nothing is evaluated: only files changed of which the configuration says that they build nothing.
fn skipped(request: &Request, checkout: &Checkout, effect: Effect) -> Option<String> {
    if checkout.base.is_none() || checkout.changed.is_empty() || !request.jobs.is_empty() {
        return None;
    }
    let what = match effect {
        Effect::DocsOnly => "documentation",
        Effect::NoOp => "of no account",
        Effect::RebuildOnly | Effect::RebuildAll | Effect::Evaluate => return None,
    };
    let files = match checkout.changed.len() {
        1 => "The one file that differs is".to_owned(),
        more => format!("All {more} files that differ are"),
    };
    Some(format!("{files} {what}, says the configuration's change_set; nothing was evaluated."))
}
