//! All jobs of a configuration in one shape, whether they are evaluated from a file or are an output of a flake. In: the
//! checked configuration. Out: what the evaluation needs to know of each, by name.

use std::collections::BTreeMap;

use nix_types::{AttrPath, System};
use serde::{Deserialize, Serialize};

use super::model::{FlakeOutput, Hook, Job, RepositoryConfig, SizeCheck};
use super::text::{CacheId, JobFile};
use crate::JobName;

/// What the job of `flake.checks` is called.
pub const FLAKE_CHECKS: &str = "flake.checks";
/// What the job of `flake.packages` is called.
pub const FLAKE_PACKAGES: &str = "flake.packages";

/// A job, wherever it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedJob {
    /// What is evaluated.
    pub source: JobSource,
    /// For which systems; `None`: all that the evaluation gives.
    pub systems: Option<Vec<System>>,
    /// May attributes fail to evaluate?
    pub allow_eval_failures: bool,
    /// Where to push what was built.
    pub caches: Vec<CacheId>,
    /// Higher goes first.
    pub priority: i8,
    /// How much larger outputs and closures may become.
    pub size_check: Option<SizeCheck>,
    /// What to run after each build: those of every job, then its own.
    pub post_build_hooks: Vec<Hook>,
    /// What to run after builds whose content is fixed, in addition.
    pub fod_post_build_hooks: Vec<Hook>,
}

/// What a job evaluates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobSource {
    /// A file.
    File {
        /// Inside the checkout.
        file: JobFile,
        /// Where in what it gives.
        attr_path: AttrPath,
    },
    /// An output of `flake.nix`, with a set for each system: `checks`, `packages`.
    Flake {
        /// The output's name.
        output: String,
    },
}

impl RepositoryConfig {
    /// All jobs that are enabled.
    #[must_use]
    pub fn all_jobs(&self) -> BTreeMap<JobName, PlannedJob> {
        let own = self.jobs.iter().filter(|(_, job)| job.enabled);
        let own = own.map(|(name, job)| (name.clone(), self.planned(job)));
        let outputs = [
            (FLAKE_CHECKS, "checks", &self.flake.checks),
            (FLAKE_PACKAGES, "packages", &self.flake.packages),
        ];
        let outputs = outputs.into_iter().filter(|(_, _, settings)| settings.enable);
        let outputs = outputs.filter_map(|(name, output, settings)| {
            Some((name.parse().ok()?, self.planned_output(output, settings)))
        });
        own.chain(outputs).collect()
    }

    fn planned(&self, job: &Job) -> PlannedJob {
        PlannedJob {
            source: JobSource::File { file: job.file.clone(), attr_path: job.attr_path.clone() },
            systems: job.systems.clone(),
            allow_eval_failures: job.allow_eval_failures,
            caches: job.caches.clone(),
            priority: job.priority,
            size_check: job.size_check.clone(),
            post_build_hooks: [&self.post_build_hooks[..], &job.post_build_hooks].concat(),
            fod_post_build_hooks: [&self.fod_post_build_hooks[..], &job.fod_post_build_hooks].concat(),
        }
    }

    fn planned_output(&self, output: &str, settings: &FlakeOutput) -> PlannedJob {
        PlannedJob {
            source: JobSource::Flake { output: output.to_owned() },
            systems: settings.systems.clone(),
            allow_eval_failures: settings.allow_eval_failures,
            caches: settings.caches.clone(),
            priority: settings.priority,
            size_check: None,
            post_build_hooks: [&self.post_build_hooks[..], &settings.post_build_hooks].concat(),
            fod_post_build_hooks: [&self.fod_post_build_hooks[..], &settings.fod_post_build_hooks].concat(),
        }
    }

    /// Is a push to this branch built?
    #[must_use]
    pub fn builds_push(&self, branch: &str, default_branch: &str) -> bool {
        match &self.branches {
            None => branch == default_branch,
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches(branch)),
        }
    }
}
