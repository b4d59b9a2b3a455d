//! What of a pull request's configuration counts: a table over every key, and rights that no head can widen.

use std::collections::BTreeSet;

use ci_model::config::keys::{Absent, From, Key, ROOT, Shape};
use ci_model::config::{RepositoryConfig, effective, parse};
use ci_model::flow::Trust;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::good::good;

const JOB: &str = "app";
const CHECK: &str = "lint";

fn read(value: &Value) -> RepositoryConfig {
    let text = value.to_string();
    parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}\n{error}")).config
}

/// A configuration as JSON, with every job as it would be planned: there hooks of every job are in each.
fn told(config: &RepositoryConfig) -> Value {
    let mut value = serde_json::to_value(config).unwrap();
    for (name, job) in config.all_jobs() {
        if let Some(own) = value["jobs"].get_mut(name.as_str()) {
            own["post_build_hooks"] = serde_json::to_value(&job.post_build_hooks).unwrap();
            own["fod_post_build_hooks"] = serde_json::to_value(&job.fod_post_build_hooks).unwrap();
        }
    }
    value
}

/// Keys that say which side they are read from, with the path to each in a configuration with one job and one check.
fn sided(shape: &'static Shape, path: &[&'static str]) -> Vec<(Vec<&'static str>, &'static Key)> {
    let keys = match shape {
        Shape::Keys(keys) => keys,
        Shape::Named { each, .. } => {
            let name = if path == ["jobs"] { JOB } else { CHECK };
            return sided(each, &[path, &[name]].concat());
        }
        other => panic!("{path:?}: {other:?} has no sides within"),
    };
    let of_key = |key: &'static Key| {
        let here = [path, &[key.name]].concat();
        match key.from {
            From::Within => sided(&key.shape, &here),
            From::Base | From::Head | From::Either | From::Nobody => vec![(here, key)],
            From::Whole => panic!("{here:?} is within nothing that has a side"),
        }
    };
    keys.iter().flat_map(of_key).collect()
}

/// One job, one check, both outputs, and what is given at a path.
fn with(path: &[&str], value: Option<&str>) -> Value {
    let mut config = json!({
        "jobs": {JOB: {"file": "given.nix"}},
        "checks": {CHECK: {"command": "given"}},
        "flake": {"checks": {"enable": true}, "packages": {"enable": true}},
    });
    let Some(value) = value else { return config };
    let mut place = &mut config;
    for key in path {
        place = place.as_object_mut().unwrap().entry(*key).or_insert(json!({}));
    }
    *place = serde_json::from_str(value).unwrap();
    config
}

fn at(config: &RepositoryConfig, path: &[&str]) -> Value {
    // Hooks of every job are looked for where they end up.
    let told = told(config);
    let path = match path {
        [hooks @ ("post_build_hooks" | "fod_post_build_hooks")] => vec!["jobs", JOB, hooks],
        other => other.to_vec(),
    };
    path.iter().fold(&told, |value, key| value.get(key).unwrap_or(&Value::Null)).clone()
}

#[test]
fn every_key_is_read_from_the_side_that_the_table_says() {
    let keys = sided(&ROOT, &[]);
    assert!(keys.len() > 40, "the table is walked: {}", keys.len());
    for (path, key) in keys {
        let [one, other] = key.examples;
        let absent = (key.absent != Absent::Refused).then_some(None);
        let pairs = [(Some(one), Some(other))].into_iter();
        let pairs = pairs.chain(absent.into_iter().flat_map(|none| [(Some(one), none), (none, Some(one))]));
        for (base, head) in pairs {
            let (base, head) = (read(&with(&path, base)), read(&with(&path, head)));
            for trust in [Trust::ApprovedPr, Trust::UntrustedPr] {
                let effective = effective(Some(&base), &head, trust);
                let from_base = at(&effective.config, &path) == at(&base, &path);
                let from_head = at(&effective.config, &path) == at(&head, &path);
                let right = match key.from {
                    From::Base => from_base,
                    From::Head | From::Nobody => from_head,
                    From::Either => at(&effective.config, &path) == json!(true),
                    From::Within | From::Whole => false,
                };
                assert!(right, "{path:?} of {base:?}\nand {head:?}\nis {:?}", effective.config);
                // Whoever wrote something that does not count hears of it, by its key.
                let differs = at(&base, &path) != at(&head, &path);
                let about = effective.notices.iter().any(|notice| notice.key == path.join("."));
                let expected = differs && key.from == From::Base;
                let summary = |notice: &str| path.len() == 2 && notice == path[0];
                let about = about || effective.notices.iter().any(|notice| summary(&notice.key));
                let kept = key.from == From::Either && !at(&head, &path).as_bool().unwrap();
                assert_eq!(about, expected || kept, "{path:?}: {:?}", effective.notices);
            }
            // A push is its own base.
            let pushed = effective(Some(&base), &head, Trust::TrustedPush);
            assert_eq!((pushed.config, pushed.notices), (head, Vec::new()));
        }
    }
}

#[test]
fn what_is_new_and_what_is_gone() {
    let base = good(
        r#"{"jobs": {"old": {"file": "old.nix", "caches": ["fast"]}, "off": {"file": "off.nix", "enabled": false}},
            "checks": {"style": {"command": "style"}},
            "flake": {"packages": {"enable": true, "caches": ["fast"], "systems": ["aarch64-linux"]}},
            "post_build_hooks": [{"name": "tell", "command": ["tell"]}]}"#,
    );
    let head = good(
        r#"{"jobs": {"new": {"file": "new.nix", "caches": ["fast"], "allow_eval_failures": true, "priority": 9,
                            "systems": ["x86_64-linux"], "post_build_hooks": [{"name": "mine", "command": ["mine"]}]},
                    "off": {"file": "off.nix"}},
            "checks": {"mine": {"command": "mine"}}, "flake": {"checks": {"enable": true, "caches": ["fast"]}}}"#,
    );
    let effective = effective(Some(&base), &head, Trust::ApprovedPr);
    let jobs = effective.config.all_jobs();
    let names: Vec<&str> = jobs.keys().map(ci_model::JobName::as_str).collect();
    assert_eq!(names, ["flake.checks", "flake.packages", "new", "old"]);
    for (name, caches, hooks) in
        [("flake.checks", 0, 0), ("flake.packages", 1, 1), ("new", 0, 0), ("old", 1, 1)]
    {
        let job = &jobs[&name.parse().unwrap()];
        assert_eq!((job.caches.len(), job.post_build_hooks.len()), (caches, hooks), "{name}");
        assert!(!job.allow_eval_failures && job.priority == 0, "{name}");
    }
    let kept = &jobs[&"flake.packages".parse().unwrap()];
    assert_eq!(
        kept.systems.as_deref().map(<[_]>::len),
        Some(1),
        "what is taken away reaches no further than before"
    );
    let checks: Vec<&str> = effective.config.checks.keys().map(ci_model::config::CheckName::as_str).collect();
    assert_eq!(checks, ["style"]);
    let notices: Vec<String> = effective.notices.iter().map(ToString::to_string).collect();
    assert_eq!(
        notices,
        [
            "checks.mine: new, and runs once it is merged",
            "checks.style: still there, as on the base branch; it goes once that is merged",
            "flake.checks.caches: not before this is merged, for the base branch has no such job",
            "flake.packages.caches: taken from the base branch; what is written here counts once it is merged",
            "flake.packages.enable: still there, as on the base branch; it goes once that is merged",
            "jobs.new.allow_eval_failures: not before this is merged, for the base branch has no such job",
            "jobs.new.caches: not before this is merged, for the base branch has no such job",
            "jobs.new.post_build_hooks: not before this is merged, for the base branch has no such job",
            "jobs.new.priority: not before this is merged, for the base branch has no such job",
            "jobs.off.enabled: taken from the base branch; what is written here counts once it is merged",
            "jobs.old: still there, as on the base branch; it goes once that is merged",
            "post_build_hooks: taken from the base branch; what is written here counts once it is merged",
        ]
    );
}

#[test]
fn a_repository_without_a_configuration_grants_nothing() {
    let head = good(
        r#"{"jobs": {"new": {"file": "new.nix", "caches": ["fast"]}}, "checks": {"mine": {"command": "mine"}},
            "change_set": [{"paths": ["**"], "effect": "no-op"}],
            "post_build_hooks": [{"name": "tell", "command": ["tell"]}]}"#,
    );
    let effective = effective(None, &head, Trust::ApprovedPr).config;
    let jobs = effective.all_jobs();
    assert!(
        jobs.len() == 1 && jobs.values().all(|job| job.caches.is_empty() && job.post_build_hooks.is_empty())
    );
    assert!(effective.checks.is_empty() && effective.change_set.is_empty());
}

/// Everything that a configuration lets somebody do, or not have to do, said another way than the crate says it. A duty is
/// one of the `base`: what the base asks for and this one does not is a right to leave it.
fn rights(config: &RepositoryConfig, base: &RepositoryConfig) -> BTreeSet<String> {
    let (jobs, duties) = (config.all_jobs(), base.all_jobs());
    let mut rights = BTreeSet::new();
    for (name, job) in &jobs {
        rights.extend(job.caches.iter().map(|cache| format!("{name} may push to {cache}")));
        for (kind, hooks) in [("any", &job.post_build_hooks), ("fod", &job.fod_post_build_hooks)] {
            rights.extend(hooks.iter().map(|hook| format!("{name} may run {hook:?} after {kind}")));
        }
        if job.allow_eval_failures {
            rights.insert(format!("{name} may fail to evaluate"));
        }
        if job.priority > 0 {
            rights.insert(format!("{name} may go before others: {}", job.priority));
        }
    }
    for (name, duty) in &duties {
        match jobs.get(name) {
            None => _ = rights.insert(format!("{name} need not be there")),
            Some(job) => {
                _ = rights.insert(format!(
                    "{name} may grow {:?} and waits {}",
                    job.size_check,
                    job.priority.min(0)
                ));
                assert_eq!(std::mem::discriminant(&job.source), std::mem::discriminant(&duty.source));
            }
        }
    }
    for (name, check) in config.checks.iter().filter(|(_, check)| check.enabled) {
        let plain = ci_model::config::Check { shell: Default::default(), shell_nix: false, ..check.clone() };
        rights.insert(format!("{name} may run {plain:?}"));
    }
    for (name, _) in base.checks.iter().filter(|(_, check)| check.enabled) {
        if !config.checks.get(name).is_some_and(|check| check.enabled) {
            rights.insert(format!("check {name} need not run"));
        }
    }
    rights.insert(format!("changes come to {:?}", config.change_set));
    rights.insert(format!("pushes and times: {:?}, {:?}", config.branches, config.schedules));
    rights.insert(format!("shown: {:?}, {:?}", config.package_change_summary, config.rebuild_impact));
    rights
}

/// Any configuration that the table allows, of its own examples.
fn any_config() -> impl Strategy<Value = RepositoryConfig> {
    any_value(&ROOT, "").prop_map(|value| read(&value))
}

fn any_value(shape: &'static Shape, path: &str) -> BoxedStrategy<Value> {
    match shape {
        Shape::Keys(keys) => keys
            .iter()
            .map(|key| {
                let value = any_of_key(key, path);
                let present =
                    if key.absent == Absent::Refused { Just(true).boxed() } else { any::<bool>().boxed() };
                (present, value).prop_map(|(present, value)| present.then(|| (key.name.to_owned(), value)))
            })
            .collect::<Vec<_>>()
            .prop_map(|members| Value::Object(members.into_iter().flatten().collect()))
            .boxed(),
        Shape::Named { each, .. } => {
            let member = |name: &'static str| {
                prop::option::of(any_value(each, path).prop_map(move |value| (name.to_owned(), value)))
            };
            (member("a"), member("b"), member("c"))
                .prop_map(|(a, b, c)| Value::Object([a, b, c].into_iter().flatten().collect::<Map<_, _>>()))
                .boxed()
        }
        other => panic!("{path}: {other:?} has examples of its own"),
    }
}

fn any_of_key(key: &'static Key, path: &str) -> BoxedStrategy<Value> {
    let path = format!("{path}.{}", key.name);
    if key.from == From::Within {
        return any_value(&key.shape, &path);
    }
    let examples = key.examples.map(|example| serde_json::from_str::<Value>(example).unwrap());
    let mut values: Vec<Value> = examples.into();
    if let Absent::Is(default) = key.absent {
        values.push(serde_json::from_str(default).unwrap());
    }
    prop::sample::select(values).boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_head_widens_a_right(base in prop::option::of(any_config()), head in any_config(), approved: bool) {
        let trust = if approved { Trust::ApprovedPr } else { Trust::UntrustedPr };
        let effective = effective(base.as_ref(), &head, trust).config;
        let base = base.unwrap_or_default();
        let (before, now) = (rights(&base, &base), rights(&effective, &base));
        prop_assert!(now.is_subset(&before), "more than before: {:#?}", now.difference(&before));
        // The oracle sees rights at all: a head that differs in them is not the effective one.
        if rights(&head, &base) != before {
            prop_assert_ne!(&effective, &head);
        }
    }
}
