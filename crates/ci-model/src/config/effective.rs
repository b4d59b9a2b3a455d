//! What of a pull request's configuration counts. In: the configuration of the branch it would be merged into, its own, and
//! how far it is trusted. Out: the one that holds, and what a person should be told about the difference. The head says
//! what to build; whatever grants a right, or takes a duty away, is said by the base alone: a pull request cannot give
//! itself anything, approved or not, for an approval is about code.
//!
//! The table of keys says of each which side it is read from ([`super::keys::From`]); a test holds this file to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::check::{Step, path_text};
use super::model::{Check, Flake, FlakeOutput, Hook, Job, RepositoryConfig};
use super::text::CheckName;
use crate::JobName;
use crate::flow::Trust;

/// What holds for a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// The configuration. For a pull request, hooks of every job stand with each job of the base, so that a new job has
    /// none.
    pub config: RepositoryConfig,
    /// What of the head does not count, or not yet, by key.
    pub notices: Vec<Notice>,
}

/// Something that the head says, and that does not count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// The key.
    pub key: String,
    /// What holds instead.
    pub instead: Instead,
}

/// What holds instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instead {
    /// What the base says.
    Base,
    /// It is not there in the head, and stays as the base has it.
    Kept,
    /// It is new, and has none.
    None,
    /// It is new, and does not run yet.
    NotYet,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, instead } = self;
        match instead {
            Instead::Base => {
                write!(f, "{key}: taken from the base branch; what is written here counts once it is merged")
            }
            Instead::Kept => {
                write!(f, "{key}: still there, as on the base branch; it goes once that is merged")
            }
            Instead::None => {
                write!(f, "{key}: not before this is merged, for the base branch has no such job")
            }
            Instead::NotYet => write!(f, "{key}: new, and runs once it is merged"),
        }
    }
}

/// The configuration that holds for a change: `base` is that of the branch it would be merged into, `None` where there is
/// none; `head` is its own, the default where its file was taken away.
#[must_use]
pub fn effective(base: Option<&RepositoryConfig>, head: &RepositoryConfig, trust: Trust) -> Effective {
    match trust {
        Trust::TrustedPush => Effective { config: head.clone(), notices: Vec::new() },
        Trust::ApprovedPr | Trust::UntrustedPr => match base {
            Some(base) => of_pull_request(base, head),
            None => of_pull_request(&RepositoryConfig::default(), head),
        },
    }
}

fn of_pull_request(base: &RepositoryConfig, head: &RepositoryConfig) -> Effective {
    let mut merge = Merge { base, notices: Vec::new() };
    merge.tell_of_base(&base.post_build_hooks, &head.post_build_hooks, &["post_build_hooks"]);
    merge.tell_of_base(&base.fod_post_build_hooks, &head.fod_post_build_hooks, &["fod_post_build_hooks"]);
    merge.tell_of_base(&base.change_set, &head.change_set, &["change_set"]);
    merge.tell_of_base(&base.branches, &head.branches, &["branches"]);
    merge.tell_of_base(&base.schedules, &head.schedules, &["schedules"]);
    let summary = "package_change_summary";
    merge.tell_of_base(&base.package_change_summary, &head.package_change_summary, &[summary]);
    merge.tell_of_base(&base.rebuild_impact, &head.rebuild_impact, &["rebuild_impact"]);
    let config = RepositoryConfig {
        jobs: merge.jobs(&head.jobs),
        checks: merge.checks(&head.checks),
        flake: Flake {
            checks: merge.output("checks", &base.flake.checks, &head.flake.checks),
            packages: merge.output("packages", &base.flake.packages, &head.flake.packages),
        },
        post_build_hooks: Vec::new(),
        fod_post_build_hooks: Vec::new(),
        change_set: base.change_set.clone(),
        branches: base.branches.clone(),
        schedules: base.schedules.clone(),
        package_change_summary: base.package_change_summary.clone(),
        rebuild_impact: base.rebuild_impact.clone(),
        schema: head.schema.clone(),
    };
    merge.notices.sort();
    Effective { config, notices: merge.notices }
}

struct Merge<'a> {
    base: &'a RepositoryConfig,
    notices: Vec<Notice>,
}

impl Merge<'_> {
    fn jobs(&mut self, head: &BTreeMap<JobName, Job>) -> BTreeMap<JobName, Job> {
        let base = &self.base.jobs;
        let names: BTreeSet<&JobName> = base.keys().chain(head.keys()).collect();
        let mut job = |name: &JobName| match (base.get(name), head.get(name)) {
            (Some(base), Some(head)) => Some(self.job(name, base, head)),
            (Some(base), None) => {
                self.tell(&["jobs", name.as_str()], Instead::Kept);
                Some(self.of_base(base.clone()))
            }
            (None, Some(head)) => Some(self.new_job(name, head)),
            (None, None) => None,
        };
        names.into_iter().filter_map(|name| Some((name.clone(), job(name)?))).collect()
    }

    fn job(&mut self, name: &JobName, base: &Job, head: &Job) -> Job {
        let path = |key| ["jobs", name.as_str(), key];
        self.tell_of_base(&base.allow_eval_failures, &head.allow_eval_failures, &path("allow_eval_failures"));
        self.tell_of_base(&base.caches, &head.caches, &path("caches"));
        self.tell_of_base(&base.priority, &head.priority, &path("priority"));
        self.tell_of_base(&base.size_check, &head.size_check, &path("size_check"));
        self.tell_of_base(&base.post_build_hooks, &head.post_build_hooks, &path("post_build_hooks"));
        let fod = path("fod_post_build_hooks");
        self.tell_of_base(&base.fod_post_build_hooks, &head.fod_post_build_hooks, &fod);
        self.tell_of_base(&base.enabled, &head.enabled, &path("enabled"));
        self.of_base(Job {
            file: head.file.clone(),
            attr_path: head.attr_path.clone(),
            systems: head.systems.clone(),
            allow_eval_failures: base.allow_eval_failures,
            caches: base.caches.clone(),
            priority: base.priority,
            size_check: base.size_check.clone(),
            post_build_hooks: base.post_build_hooks.clone(),
            fod_post_build_hooks: base.fod_post_build_hooks.clone(),
            enabled: base.enabled,
        })
    }

    /// A job of the base, with the hooks of every job of the base in front of its own.
    fn of_base(&self, job: Job) -> Job {
        Job {
            post_build_hooks: joined(&self.base.post_build_hooks, &job.post_build_hooks),
            fod_post_build_hooks: joined(&self.base.fod_post_build_hooks, &job.fod_post_build_hooks),
            ..job
        }
    }

    fn new_job(&mut self, name: &JobName, head: &Job) -> Job {
        let plain = Job {
            attr_path: head.attr_path.clone(),
            systems: head.systems.clone(),
            enabled: head.enabled,
            ..Job::of_file(head.file.clone())
        };
        for (key, differs) in [
            ("allow_eval_failures", head.allow_eval_failures != plain.allow_eval_failures),
            ("caches", head.caches != plain.caches),
            ("priority", head.priority != plain.priority),
            ("size_check", head.size_check != plain.size_check),
            ("post_build_hooks", head.post_build_hooks != plain.post_build_hooks),
            ("fod_post_build_hooks", head.fod_post_build_hooks != plain.fod_post_build_hooks),
        ] {
            if differs {
                self.tell(&["jobs", name.as_str(), key], Instead::None);
            }
        }
        plain
    }

    fn checks(&mut self, head: &BTreeMap<CheckName, Check>) -> BTreeMap<CheckName, Check> {
        for (name, _) in head.iter().filter(|(name, _)| !self.base.checks.contains_key(*name)) {
            self.tell(&["checks", name.as_str()], Instead::NotYet);
        }
        let base = &self.base.checks;
        base.iter().map(|(name, base)| (name.clone(), self.check(name, base, head.get(name)))).collect()
    }

    fn check(&mut self, name: &CheckName, base: &Check, head: Option<&Check>) -> Check {
        let Some(head) = head else {
            self.tell(&["checks", name.as_str()], Instead::Kept);
            return base.clone();
        };
        let path = |key| ["checks", name.as_str(), key];
        self.tell_of_base(&base.command, &head.command, &path("command"));
        self.tell_of_base(&base.allow_network, &head.allow_network, &path("allow_network"));
        self.tell_of_base(&base.ro_bind, &head.ro_bind, &path("ro_bind"));
        self.tell_of_base(&base.timeout_seconds, &head.timeout_seconds, &path("timeout_seconds"));
        self.tell_of_base(&base.enabled, &head.enabled, &path("enabled"));
        Check {
            command: base.command.clone(),
            shell: head.shell.clone(),
            shell_nix: head.shell_nix,
            allow_network: base.allow_network,
            ro_bind: base.ro_bind.clone(),
            timeout_seconds: base.timeout_seconds,
            enabled: base.enabled,
        }
    }

    fn output(&mut self, name: &str, base: &FlakeOutput, head: &FlakeOutput) -> FlakeOutput {
        let path = |key| ["flake", name, key];
        if !base.enable {
            let systems = head.systems.clone();
            let plain = FlakeOutput { enable: head.enable, systems, ..FlakeOutput::default() };
            for (key, differs) in [
                ("allow_eval_failures", head.allow_eval_failures != plain.allow_eval_failures),
                ("caches", head.caches != plain.caches),
                ("priority", head.priority != plain.priority),
                ("post_build_hooks", head.post_build_hooks != plain.post_build_hooks),
                ("fod_post_build_hooks", head.fod_post_build_hooks != plain.fod_post_build_hooks),
            ] {
                if differs && head.enable {
                    self.tell(&path(key), Instead::None);
                }
            }
            return plain;
        }
        if !head.enable {
            self.tell(&path("enable"), Instead::Kept);
        }
        self.tell_of_base(&base.allow_eval_failures, &head.allow_eval_failures, &path("allow_eval_failures"));
        self.tell_of_base(&base.caches, &head.caches, &path("caches"));
        self.tell_of_base(&base.priority, &head.priority, &path("priority"));
        self.tell_of_base(&base.post_build_hooks, &head.post_build_hooks, &path("post_build_hooks"));
        let fod = path("fod_post_build_hooks");
        self.tell_of_base(&base.fod_post_build_hooks, &head.fod_post_build_hooks, &fod);
        FlakeOutput {
            enable: true,
            systems: if head.enable { head.systems.clone() } else { base.systems.clone() },
            allow_eval_failures: base.allow_eval_failures,
            caches: base.caches.clone(),
            priority: base.priority,
            post_build_hooks: joined(&self.base.post_build_hooks, &base.post_build_hooks),
            fod_post_build_hooks: joined(&self.base.fod_post_build_hooks, &base.fod_post_build_hooks),
        }
    }

    fn tell_of_base<T: PartialEq>(&mut self, base: &T, head: &T, path: &[&str]) {
        if base != head {
            self.tell(path, Instead::Base);
        }
    }

    fn tell(&mut self, path: &[&str], instead: Instead) {
        let path: Vec<Step<'_>> = path.iter().map(|key| Step::Key(key)).collect();
        self.notices.push(Notice { key: path_text(&path), instead });
    }
}

fn joined(first: &[Hook], second: &[Hook]) -> Vec<Hook> {
    [first, second].concat()
}
