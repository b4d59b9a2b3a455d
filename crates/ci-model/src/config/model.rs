//! A repository's configuration as types. [`super::parse`] makes them, and only from text that was checked; they can be
//! stored as JSON, and read back with the same checks of each value. What each key means is said in [`super::keys`].

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use nix_types::{AttrPath, System};
use serde::{Deserialize, Serialize};

use super::cron::Cron;
use super::glob::PathGlob;
use super::text::{CacheId, CheckName, HookName, JobFile, ScheduleName, attr_path_text};
use crate::{BranchPattern, JobName};

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RepositoryConfig {
    /// What to evaluate and build; see [`RepositoryConfig::all_jobs`] for those of a flake beside.
    pub jobs: BTreeMap<JobName, Job>,
    /// What to run in a sandbox.
    pub checks: BTreeMap<CheckName, Check>,
    /// Outputs of a flake that are jobs.
    pub flake: Flake,
    /// Hooks of every job, before its own.
    pub post_build_hooks: Vec<Hook>,
    /// Hooks of every job for derivations whose content is fixed, in addition.
    pub fod_post_build_hooks: Vec<Hook>,
    /// What a change of which files comes to.
    pub change_set: Vec<ChangeRule>,
    /// Pushes to which branches are built; `None`: to the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<BranchPattern>>,
    /// What to run when.
    pub schedules: BTreeMap<ScheduleName, Schedule>,
    /// The part of the summary that lists packages.
    pub package_change_summary: PackageChangeSummary,
    /// The part of the summary that counts rebuilds.
    pub rebuild_impact: RebuildImpact,
    /// For editors.
    #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
}

/// A job that is evaluated from a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The file.
    pub file: JobFile,
    /// Where in it; the root where nothing is said.
    #[serde(default, with = "attr_path_text", skip_serializing_if = "AttrPath::is_root")]
    pub attr_path: AttrPath,
    /// For which systems; `None`: all that the evaluation gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systems: Option<Vec<System>>,
    /// May attributes fail to evaluate?
    #[serde(default, alias = "allow-eval-failures")]
    pub allow_eval_failures: bool,
    /// Where to push what was built.
    #[serde(default)]
    pub caches: Vec<CacheId>,
    /// Higher goes first; -100 to 100.
    #[serde(default)]
    pub priority: i8,
    /// How much larger outputs and closures may become.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_check: Option<SizeCheck>,
    /// What to run after each build.
    #[serde(default)]
    pub post_build_hooks: Vec<Hook>,
    /// What to run after builds whose content is fixed, in addition.
    #[serde(default)]
    pub fod_post_build_hooks: Vec<Hook>,
    /// Is it a job at all?
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// How much larger outputs and closures may become.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeCheck {
    /// In percent; 0 to 1,000,000.
    pub max_increase_percent: f64,
    /// Whose latest successful build is compared with.
    #[serde(default = "main_branch")]
    pub base_branch: String,
}

/// A command in a sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// For `bash`.
    pub command: String,
    /// The shell's attribute; the root stands for the default one.
    #[serde(default, with = "attr_path_text", skip_serializing_if = "AttrPath::is_root")]
    pub shell: AttrPath,
    /// Is the shell in `shell.nix`, and not in the flake?
    #[serde(default)]
    pub shell_nix: bool,
    /// May it use the network?
    #[serde(default)]
    pub allow_network: bool,
    /// Absolute paths that it may read, if the server allows them.
    #[serde(default)]
    pub ro_bind: Vec<String>,
    /// `None`: the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<NonZeroU32>,
    /// Is it run at all?
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// Outputs of a flake that are jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flake {
    /// `checks`
    pub checks: FlakeOutput,
    /// `packages`
    pub packages: FlakeOutput,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlakeOutput {
    /// Is it a job?
    pub enable: bool,
    /// As in a [`Job`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systems: Option<Vec<System>>,
    /// As in a [`Job`].
    #[serde(alias = "allow-eval-failures")]
    pub allow_eval_failures: bool,
    /// As in a [`Job`].
    pub caches: Vec<CacheId>,
    /// As in a [`Job`].
    pub priority: i8,
    /// As in a [`Job`].
    pub post_build_hooks: Vec<Hook>,
    /// As in a [`Job`].
    pub fod_post_build_hooks: Vec<Hook>,
}

/// A program that is run after a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Once among the hooks of a job.
    pub name: HookName,
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// More variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// `None`: the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<NonZeroU32>,
    /// When it runs.
    #[serde(default)]
    pub conditions: Conditions,
    /// What has to end before it begins: hooks of the same job, in no circle.
    #[serde(default)]
    pub after: Vec<HookName>,
    /// Are the output paths put behind the arguments? `None`: the program decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_paths: Option<bool>,
}

/// When a hook runs: where all that is said holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conditions {
    /// On which branches; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<Vec<BranchPattern>>,
    /// For which events; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Vec<Event>>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Commits were pushed to a branch.
    Push,
    /// A pull request was opened, or has other commits.
    PullRequest,
    /// A merge queue made a commit.
    MergeQueue,
    /// A schedule's time came.
    Schedule,
}

/// What a change of some files comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRule {
    /// Which files; never empty.
    pub paths: Vec<PathGlob>,
    /// What it comes to.
    pub effect: Effect,
}

/// What a change comes to, from the weakest to the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Nothing is evaluated.
    NoOp,
    /// Nothing is evaluated, and the summary says that only documents changed.
    DocsOnly,
    /// Evaluated, compared and built as always; the summary counts and lists no packages.
    RebuildOnly,
    /// Evaluated, compared, and what changed is built.
    Evaluate,
    /// Evaluated and compared, and everything is built, changed or not.
    RebuildAll,
}

/// What runs at which times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// When, in UTC.
    pub cron: Cron,
    /// Whose latest commit; `None`: that of the default branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Which jobs; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<Vec<JobName>>,
}

/// The part of the summary that lists packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PackageChangeSummary {
    /// Is it there?
    pub enabled: bool,
    /// Most rows.
    pub max_packages_listed: u32,
    /// Are packages listed that are only rebuilt?
    pub include_rebuild_only: bool,
}

/// The part of the summary that counts rebuilds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RebuildImpact {
    /// Is it there?
    pub enabled: bool,
    /// How many of the packages that most others need are listed.
    pub max_top_blast_radius: u32,
    /// Are all of them listed?
    pub compute_full_blast_radius: bool,
}

impl Job {
    /// Everything in a file, with the defaults of all keys.
    #[must_use]
    pub fn of_file(file: JobFile) -> Self {
        Self {
            file,
            attr_path: AttrPath::root(),
            systems: None,
            allow_eval_failures: false,
            caches: Vec::new(),
            priority: 0,
            size_check: None,
            post_build_hooks: Vec::new(),
            fod_post_build_hooks: Vec::new(),
            enabled: true,
        }
    }
}

impl Default for PackageChangeSummary {
    fn default() -> Self {
        Self { enabled: true, max_packages_listed: 100, include_rebuild_only: false }
    }
}

impl Default for RebuildImpact {
    fn default() -> Self {
        Self { enabled: true, max_top_blast_radius: 5, compute_full_blast_radius: false }
    }
}

fn yes() -> bool {
    true
}

fn main_branch() -> String {
    "main".to_owned()
}
