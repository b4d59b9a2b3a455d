//! Configurations that are taken: the shapes that documents print, and every key with its values.

use ci_model::config::{
    BYTES_MAX, CacheId, Effect, Event, JobSource, PackageChangeSummary, Parsed, RebuildImpact,
    RepositoryConfig, parse,
};

pub(super) fn good(text: &str) -> RepositoryConfig {
    let parsed = taken(text);
    assert_eq!(parsed.warnings, [], "{text}");
    parsed.config
}

fn taken(text: &str) -> Parsed {
    parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn caches(ids: &[&str]) -> Vec<CacheId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

/// The shapes that the documents print, under other names.
pub(super) const PRINTED: [&str; 13] = [
    r#"{"jobs": {"app": {"file": "default.nix", "allow_eval_failures": true, "caches": ["fast"]}},
        "checks": {"style": {"shell": "tools", "command": "style --check **/*.nix", "allow_network": false}}}"#,
    r#"{"jobs": {"app": {"file": "nix/sets/app.nix", "attr_path": "all.the.rest", "allow_eval_failures": false,
                        "caches": ["fast"], "size_check": {"max_increase_percent": 12.0, "base_branch": "main"}}},
        "checks": {"style": {"shell": "tools", "command": "make style", "allow_network": false,
                            "ro_bind": ["/srv/read/only"]}}}"#,
    r#"{"jobs": {"one": {"file": "default.nix", "caches": ["fast", "slow"]},
                "two": {"file": "two.nix", "caches": ["fast"]}}}"#,
    r#"{"jobs": {"app": {"file": "app.nix", "caches": ["try", "real"]}}}"#,
    r#"{"package_change_summary": {"enabled": true, "max_packages_listed": 100, "include_rebuild_only": false},
        "rebuild_impact": {"enabled": true, "max_top_blast_radius": 5, "compute_full_blast_radius": false}}"#,
    r#"{"package_change_summary": {"max_packages_listed": 7}, "rebuild_impact": {}}"#,
    r#"{"jobs": {"app": {"file": "/nix/sets/app.nix", "allow_eval_failures": true}}}"#,
    r#"{"jobs": {"app": {"file": "default.nix", "post_build_hooks": [
            {"name": "send", "command": ["nix", "copy", "--to", "s3://there"], "env": {"AWS_PROFILE": "real"}}],
        "fod_post_build_hooks": [{"name": "send-all", "command": ["cachix", "push", "there"]}]}}}"#,
    r#"{"post_build_hooks": [{"name": "send", "command": ["nix", "copy", "--to", "s3://there?region=x"],
                             "env": {"AWS_PROFILE": "ci"}}]}"#,
    r#"{"post_build_hooks": [{"name": "send", "command": ["cachix", "push", "there", "$OUT_PATHS"],
                             "env": {"CACHIX_AUTH_TOKEN": "printed"}}]}"#,
    r#"{"post_build_hooks": [{"name": "a", "command": ["nix", "copy", "--to", "s3://a"]}],
        "fod_post_build_hooks": [{"name": "b", "command": ["nix", "copy", "--to", "s3://b"]}]}"#,
    r#"{"jobs": {"app": {"file": "default.nix", "post_build_hooks": [{
            "name": "send", "command": ["nix", "copy", "--to", "s3://there/path"],
            "env": {"AWS_ACCESS_KEY_ID": "printed", "AWS_SECRET_ACCESS_KEY": "printed"}}]}}}"#,
    "// In the repository: config.json\n{\"jobs\": {\"app\": {\"file\": \"default.nix\", \"caches\": [\"fast\"]}}}",
];

#[test]
fn what_documents_print_loads() {
    let warned: Vec<usize> = PRINTED.iter().map(|text| taken(text).warnings.len()).collect();
    // Those without a job say so; those with a secret in them as well; a comment is warned of.
    assert_eq!(warned, [0, 0, 0, 0, 1, 1, 0, 0, 1, 2, 1, 1, 1]);
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = taken("{}").config;
    assert_eq!(config, RepositoryConfig::default());
    assert_eq!(
        config.package_change_summary,
        PackageChangeSummary { enabled: true, max_packages_listed: 100, include_rebuild_only: false }
    );
    assert_eq!(
        config.rebuild_impact,
        RebuildImpact { enabled: true, max_top_blast_radius: 5, compute_full_blast_radius: false }
    );
    let config =
        good(r#"{"jobs": {"app": {"file": "default.nix", "size_check": {"max_increase_percent": 3}}}}"#);
    let job = &config.jobs.values().next().unwrap();
    assert!(job.enabled && !job.allow_eval_failures && job.caches.is_empty() && job.systems.is_none());
    assert!(job.attr_path.is_root() && job.priority == 0);
    let sizes = job.size_check.as_ref().unwrap();
    assert_eq!((sizes.max_increase_percent, sizes.base_branch.as_str()), (3.0, "main"));
}

#[test]
fn a_file_is_the_same_however_it_is_written() {
    for file in ["pkgs/all.nix", "./pkgs/all.nix", "/pkgs/all.nix"] {
        let config = good(&format!(r#"{{"jobs": {{"app": {{"file": "{file}"}}}}}}"#));
        assert_eq!(config.jobs.values().next().unwrap().file.as_str(), "pkgs/all.nix");
    }
}

#[test]
fn both_spellings_of_allow_eval_failures() {
    for key in ["allow_eval_failures", "allow-eval-failures"] {
        let config = good(&format!(r#"{{"jobs": {{"app": {{"file": "x.nix", "{key}": true}}}}}}"#));
        assert!(config.jobs.values().next().unwrap().allow_eval_failures, "{key}");
    }
}

#[test]
fn outputs_of_a_flake_are_jobs() {
    let config = good(
        r#"{"flake": {"checks": {"enable": true}, "packages": {"enable": true, "caches": ["fast"], "priority": -1}},
            "jobs": {"app": {"file": "x.nix", "attr_path": "a.\"b.c\""}, "old": {"file": "y.nix", "enabled": false}},
            "post_build_hooks": [{"name": "tell", "command": ["tell"]}]}"#,
    );
    let jobs = config.all_jobs();
    let names: Vec<&str> = jobs.keys().map(ci_model::JobName::as_str).collect();
    assert_eq!(names, ["app", "flake.checks", "flake.packages"]);
    let packages = &jobs[&"flake.packages".parse().unwrap()];
    assert_eq!(packages.source, JobSource::Flake { output: "packages".to_owned() });
    assert_eq!((packages.caches.clone(), packages.priority), (caches(&["fast"]), -1));
    let app = &jobs[&"app".parse().unwrap()];
    let JobSource::File { file, attr_path } = &app.source else { panic!("{app:?}") };
    assert_eq!((file.as_str(), attr_path.components()), ("x.nix", &["a".to_owned(), "b.c".to_owned()][..]));
    assert!(jobs.values().all(|job| job.post_build_hooks.len() == 1), "hooks of every job");
}

#[test]
fn hooks_have_their_keys() {
    let config = good(
        r#"{"jobs": {"app": {"file": "x.nix", "post_build_hooks": [
              {"name": "one", "command": ["one", ""], "env": {"A": ""}, "timeout_seconds": 5, "append_paths": false,
               "conditions": {"branch": ["main", "release/*"], "event": ["push", "pull-request"]}, "after": ["two"]},
              {"name": "two", "command": ["two"]}]}}}"#,
    );
    let hooks = &config.jobs.values().next().unwrap().post_build_hooks;
    assert_eq!(hooks[0].conditions.event.as_deref(), Some(&[Event::Push, Event::PullRequest][..]));
    assert!(hooks[0].conditions.branch.as_ref().unwrap()[1].matches("release/1"));
    assert_eq!(hooks[0].timeout_seconds.map(std::num::NonZeroU32::get), Some(5));
    assert_eq!((hooks[0].append_paths, hooks[1].append_paths), (Some(false), None));
    assert_eq!(hooks[0].after[0].as_str(), "two");
}

#[test]
fn which_pushes_are_built() {
    let config = good(r#"{"jobs": {"app": {"file": "x.nix"}}, "branches": ["main", "release/*"]}"#);
    for (branch, built) in [("main", true), ("release/1", true), ("release-evil", false), ("trunk", false)] {
        assert_eq!(config.builds_push(branch, "trunk"), built, "{branch}");
    }
    let config = good(r#"{"jobs": {"app": {"file": "x.nix"}}}"#);
    assert!(config.builds_push("trunk", "trunk") && !config.builds_push("main", "trunk"));
    let config = good(r#"{"jobs": {"app": {"file": "x.nix"}}, "branches": []}"#);
    assert!(!config.builds_push("main", "main"));
}

#[test]
fn rules_of_changes_are_in_order_of_strength() {
    let effects = ["no-op", "docs-only", "rebuild-only", "evaluate", "rebuild-all"];
    let read = effects.map(|word| serde_json::from_value::<Effect>(word.into()).unwrap());
    assert!(read.is_sorted(), "{read:?}");
}

#[test]
fn everything_is_stored_and_read_back() {
    for text in PRINTED {
        let config = taken(text).config;
        let stored = serde_json::to_vec(&config).unwrap();
        assert_eq!(serde_json::from_slice::<RepositoryConfig>(&stored).unwrap(), config);
        let again = parse(&stored).unwrap_or_else(|error| panic!("{config:?}\n{error}"));
        assert_eq!(again.config, config);
    }
}

#[test]
fn the_largest_file_is_read() {
    let text = format!("{}{{}}", " ".repeat(BYTES_MAX - 2));
    assert_eq!(taken(&text).config, RepositoryConfig::default());
    let error = parse(format!(" {text}").as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "1:1: the file has 262145 bytes, more than 262144; make it smaller");
}
