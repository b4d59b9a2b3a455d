//! Progress where nothing can be drawn over: a line when something begins or ends, and now and then one in between. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use ci_model::JobName;
use ci_model::flow::EvaluationCost;
use ci_model::outcome::{Progress, Side};

use super::super::text::{bytes, count, safe, span, thousands};
use super::super::words;

/// Time between two lines about the same evaluation, or the same stage.
const BETWEEN: Duration = Duration::from_secs(10);

/// What was said.
#[derive(Debug, Default)]
pub(super) struct Plain {
    said: BTreeMap<(JobName, Side), Duration>,
    instantiating: Option<Duration>,
    stage: Option<&'static str>,
}

impl Plain {
    /// The lines to say now; often none.
    pub(super) fn hear(&mut self, progress: &Progress, now: Duration) -> Vec<String> {
        match progress {
            Progress::CheckingOut => self.enter("checking out").into_iter().collect(),
            Progress::Comparing => self.enter("comparing").into_iter().collect(),
            Progress::Evaluating { job, side } => {
                self.said.insert((job.clone(), *side), now);
                vec![format!("evaluating {}", of(job, *side))]
            }
            Progress::Evaluated { job, side, attrs, errors, memory_bytes } => {
                let last = self.said.entry((job.clone(), *side)).or_insert(now);
                if now.saturating_sub(*last) < BETWEEN {
                    return Vec::new();
                }
                *last = now;
                let numbers = format!("{}, {}", count(*attrs, "attribute"), count(*errors, "error"));
                vec![format!("evaluating {}: {numbers}, {}", of(job, *side), bytes(*memory_bytes))]
            }
            Progress::EvaluationEnded { job, side, cost, attrs: _, errors: _ } => {
                vec![ended(job, *side, cost)]
            }
            Progress::Instantiating { done, of } => {
                let first = self.enter("instantiating").is_some();
                if !first && self.instantiating.is_some_and(|last| now.saturating_sub(last) < BETWEEN) {
                    return Vec::new();
                }
                self.instantiating = Some(now);
                vec![format!("instantiating: {} of {}", thousands(*done), count(*of, "attribute"))]
            }
        }
    }

    /// Its name, when it was not said.
    fn enter(&mut self, stage: &'static str) -> Option<String> {
        (self.stage.replace(stage) != Some(stage)).then(|| stage.to_owned())
    }
}

fn of(job: &JobName, side: Side) -> String {
    format!("{} ({})", safe(job.as_str()), words::side(side))
}

fn ended(job: &JobName, side: Side, cost: &EvaluationCost) -> String {
    if cost.reused {
        return format!("evaluated {}: taken from earlier", of(job, side));
    }
    let (took, memory) = (span(cost.wall_ms), bytes(cost.memory_peak_bytes));
    format!("evaluated {} in {took}, {memory}, {}", of(job, side), safe(&cost.engine))
}
