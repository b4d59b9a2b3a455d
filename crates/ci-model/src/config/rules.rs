//! What several keys of a configuration say together. In: the checked types, and the tree they came from for places. Out:
//! faults, and warnings about what is allowed and hardly meant.

use std::collections::{BTreeMap, BTreeSet};

use near_name::remedy;

use super::check::{Step, path_text};
use super::fault::{Fault, Faults, cut};
use super::json::Node;
use super::model::{Hook, RepositoryConfig};
use super::plan::{FLAKE_CHECKS, FLAKE_PACKAGES};

/// Ends of names of variables that are mostly secrets.
const SECRET_ENDS: [&str; 6] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "SECRET_ACCESS_KEY", "PRIVATE_KEY"];

/// What was found.
pub(super) struct Judged {
    pub(super) faults: Faults,
    pub(super) warnings: Faults,
}

/// Looks at everything.
pub(super) fn judge(config: &RepositoryConfig, root: &Node) -> Judged {
    let mut judge = Judge { root, faults: Faults::default(), warnings: Faults::default() };
    judge.hooks(config);
    judge.schedules(config);
    judge.something_to_do(config);
    Judged { faults: judge.faults, warnings: judge.warnings }
}

struct Judge<'a> {
    root: &'a Node,
    faults: Faults,
    warnings: Faults,
}

/// A list of hooks, where it is.
type Listed<'a> = (Vec<Step<'a>>, &'a [Hook]);

const REGULAR: &str = "post_build_hooks";
const FOD: &str = "fod_post_build_hooks";

impl Judge<'_> {
    fn hooks(&mut self, config: &RepositoryConfig) {
        let of_all: [Listed<'_>; 2] = [
            (vec![Step::Key(REGULAR)], &config.post_build_hooks),
            (vec![Step::Key(FOD)], &config.fod_post_build_hooks),
        ];
        self.hooks_together(&of_all, 0);
        let jobs = config.jobs.iter().map(|(name, job)| {
            ([Step::Key("jobs"), Step::Key(name.as_str())], &job.post_build_hooks, &job.fod_post_build_hooks)
        });
        let outputs = [("checks", &config.flake.checks), ("packages", &config.flake.packages)];
        let outputs = outputs.into_iter().map(|(name, output)| {
            ([Step::Key("flake"), Step::Key(name)], &output.post_build_hooks, &output.fod_post_build_hooks)
        });
        let own = jobs.chain(outputs).filter(|(_, regular, fod)| !(regular.is_empty() && fod.is_empty()));
        for (path, regular, fod) in own {
            let regular = ([&path[..], &[Step::Key(REGULAR)]].concat(), regular.as_slice());
            let fod = ([&path[..], &[Step::Key(FOD)]].concat(), fod.as_slice());
            self.hooks_together(&[of_all[0].clone(), of_all[1].clone(), regular, fod], 2);
        }
    }

    /// Hooks that run for the same build; what is wrong is said of the lists from `from` on.
    fn hooks_together(&mut self, lists: &[Listed<'_>], from: usize) {
        let names: BTreeSet<&str> =
            lists.iter().flat_map(|(_, hooks)| hooks.iter().map(|hook| hook.name.as_str())).collect();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (list, (path, hooks)) in lists.iter().enumerate() {
            for (place, hook) in hooks.iter().enumerate() {
                let path = |key| [path.as_slice(), &[Step::Item(place), Step::Key(key)]].concat();
                let before = seen.insert(hook.name.as_str(), self.at(&path("name")));
                if list < from {
                    continue;
                }
                if let Some(before) = before {
                    let what = format!("the hook {} is there already, at", hook.name);
                    let fault = self.fault_at(&path("name"), what, "give one of the two another name");
                    self.faults.push(Fault { other: Some(before), ..fault });
                }
                self.one_hook(hook, &names, path);
            }
        }
        self.circles(lists, from);
    }

    fn one_hook<'b>(
        &mut self,
        hook: &'b Hook,
        names: &BTreeSet<&str>,
        path: impl Fn(&'static str) -> Vec<Step<'b>>,
    ) {
        for (place, after) in
            hook.after.iter().enumerate().filter(|(_, after)| !names.contains(after.as_str()))
        {
            let remedy = remedy(after.as_str(), names.iter().copied(), "name a hook of the same job");
            let path = [path("after").as_slice(), &[Step::Item(place)]].concat();
            let fault = self.fault_at(&path, format!("no hook here is called {after}"), remedy);
            self.faults.push(fault);
        }
        if hook.command.first().is_none_or(String::is_empty) {
            let fault = self.fault_at(&path("command"), "the program has no name", "write the program first");
            self.faults.push(fault);
        }
        let secret = |name: &&String| SECRET_ENDS.iter().any(|end| name.to_ascii_uppercase().ends_with(end));
        for name in hook.env.keys().filter(secret) {
            let path = [path("env").as_slice(), &[Step::Key(name)]].concat();
            let what = "whoever reads the repository reads this, and it looks like a secret";
            let remedy = "use `caches`, whose credentials are the server's, and replace what was published";
            let fault = self.fault_at(&path, what, remedy);
            self.warnings.push(fault);
        }
    }

    /// Takes away what waits for nothing that is left, until only circles are.
    fn circles(&mut self, lists: &[Listed<'_>], from: usize) {
        let all = || lists.iter().flat_map(|(_, hooks)| hooks.iter());
        let mut left: BTreeMap<&str, &Hook> = all().map(|hook| (hook.name.as_str(), hook)).collect();
        loop {
            let waits = |hook: &&Hook| hook.after.iter().any(|name| left.contains_key(name.as_str()));
            let free: Vec<&str> =
                left.iter().filter(|(_, hook)| !waits(hook)).map(|(name, _)| *name).collect();
            if free.is_empty() {
                break;
            }
            free.into_iter().for_each(|name| _ = left.remove(name));
        }
        for (path, hooks) in &lists[from..] {
            for (place, hook) in
                hooks.iter().enumerate().filter(|(_, hook)| left.contains_key(hook.name.as_str()))
            {
                let path = [path.as_slice(), &[Step::Item(place), Step::Key("after")]].concat();
                let what = format!("{} waits for itself, or for hooks that wait for each other", hook.name);
                let fault = self.fault_at(&path, what, "take one of these names away");
                self.faults.push(fault);
            }
        }
    }

    fn schedules(&mut self, config: &RepositoryConfig) {
        let known = |name: &str| {
            config.jobs.keys().any(|job| job.as_str() == name)
                || name == FLAKE_CHECKS
                || name == FLAKE_PACKAGES
        };
        for (name, schedule) in &config.schedules {
            for (place, job) in
                schedule.jobs.iter().flatten().enumerate().filter(|(_, job)| !known(job.as_str()))
            {
                let path =
                    [Step::Key("schedules"), Step::Key(name.as_str()), Step::Key("jobs"), Step::Item(place)];
                let jobs = config.jobs.keys().map(crate::JobName::as_str);
                let remedy = remedy(job.as_str(), jobs, "name a job of this file");
                let fault = self.fault_at(&path, format!("no job is called {}", cut(job.as_str())), remedy);
                self.faults.push(fault);
            }
        }
    }

    fn something_to_do(&mut self, config: &RepositoryConfig) {
        if config.all_jobs().is_empty() && !config.checks.values().any(|check| check.enabled) {
            let what = "there is no job and no check: nothing is built";
            let remedy =
                "write {\"jobs\": {\"all\": {\"file\": \"default.nix\"}}} or enable `flake.packages`";
            self.warnings.push(Fault::new(self.root.at, what, remedy));
        }
    }

    fn fault_at(&self, path: &[Step<'_>], what: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { key: path_text(path), ..Fault::new(self.at(path), what, remedy) }
    }

    fn at(&self, path: &[Step<'_>]) -> usize {
        self.root.at_path(path)
    }
}
