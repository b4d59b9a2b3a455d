//! Whole runs over real repositories with a real Nix: what is remembered, what is written again, what is not looked at.
#![expect(clippy::disallowed_methods, reason = "tests start what they test")]

mod base;
mod compared;
mod failing;
mod leaves;
mod outsiders;
mod record;
mod remembered;
mod told;
mod written;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ci_model::change::{ChangeKind, Difference};
use ci_model::flow::{Trust, Verdict};
use ci_model::outcome::{Outcome, Progress, Side};
use ci_server::evaluate::confine::Bare;
use ci_server::evaluate::{Engine, Limits, Nix, Share};
use ci_server::pipeline::{self, Base, Head, Request, RunError};
use ci_server::store::{RunKey, SqlitePlace, SqliteStore};
use service_kit::clock::Clock;
use service_kit::shutdown::Stop;

const PACKAGES: &str = r#"
let
  pkg = name: version: extra: derivation ({
    inherit name version; pname = name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "exit 1" ];
  } // extra) // { inherit version; pname = name; };
  zlib = pkg "zlib" "1.2" { };
in rec {
  inherit zlib;
  curl = pkg "curl" "8.0" { inherit zlib; };
  git = pkg "git" "2.0" { inherit curl; };
  alone = pkg "alone" "1.0" { };
}
"#;
const CONFIG: &str = r#"{ "jobs": { "all": { "file": "default.nix" } },
  "change_set": [ { "paths": ["**/*.md"], "effect": "docs-only" } ] }"#;

/// A repository, a store and a memory of their own.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(world.path("etc")).unwrap();
        fs::write(world.path("etc/nix.conf"), test_kit::nix::SETTINGS).unwrap();
        world.git(&["init", "-q", "-b", "main", "."]);
        world.git(&["config", "maintenance.auto", "false"]); // which goes on after a commit
        world.write("default.nix", PACKAGES);
        world.write(".ekaci/config.json", CONFIG);
        world.commit("base");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path("repository").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, args: &[&str]) {
        fs::create_dir_all(self.path("repository")).unwrap();
        let mut git = Command::new("git");
        git.args(["-c", "user.name=A", "-c", "user.email=a@example.org"]).args(args);
        git.current_dir(self.path("repository")).env("HOME", self.dir.path());
        assert!(git.status().unwrap().success(), "git {args:?}");
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    fn env(&self) -> [(&'static str, PathBuf); 5] {
        test_kit::nix::variables(self.dir.path())
    }

    fn request(&self) -> Request {
        let clock = Clock::system();
        let place = SqlitePlace { path: self.path("ci.db"), clock: clock.clone(), vfs: None };
        let env = self.env().into_iter().map(|(name, value)| (name.into(), value.into()));
        let limits = Limits { workers: 2, memory_bytes: 1 << 30, ..Limits::default() };
        Request {
            key: RunKey::random().unwrap(),
            path: self.path("repository"),
            head: Head::Worktree,
            base: Base::WhereItBegan,
            jobs: Vec::new(),
            systems: Vec::new(),
            local_system: "x86_64-linux".parse().unwrap(),
            trust: Trust::TrustedPush,
            allowed_uris: Vec::new(),
            share: Share::new(2, 4 << 30, clock.clone()),
            limits,
            nix: Nix { env: env.collect(), options: Vec::new(), engine: Engine::Walk },
            engine: "test".into(),
            fleeting: None,
            confine: Arc::new(Bare),
            store: Arc::new(SqliteStore::open(&place).unwrap()),
            clock,
            checkouts: self.path("checkouts"),
            results_bytes_max: pipeline::RESULTS_BYTES_MAX,
            afresh: false,
            quick: false,
            max_rebuild_count: 20_000,
        }
    }

    fn run(&self, change: impl FnOnce(&mut Request)) -> Result<Outcome, RunError> {
        self.run_told(change, &mut |_| {})
    }

    fn run_told(
        &self,
        change: impl FnOnce(&mut Request),
        told: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Outcome, RunError> {
        let mut request = self.request();
        change(&mut request);
        runtime().block_on(pipeline::run(&request, &Stop::new(), told))
    }

    fn bump_zlib(&self) {
        self.write("default.nix", &PACKAGES.replace("\"1.2\"", "\"1.3\""));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn kinds(outcome: &Outcome) -> Vec<(String, &'static str)> {
    let kind = |kind: &ChangeKind| match kind {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Renamed { .. } => "renamed",
        ChangeKind::Bumped { .. } => "bumped",
        ChangeKind::Rebuilt => "rebuilt",
        ChangeKind::Metadata => "metadata",
    };
    outcome
        .comparison
        .changes
        .iter()
        .map(|change| (change.attr.path.to_string(), kind(&change.kind)))
        .collect()
}

fn assert_zlib_is_why(outcome: &Outcome) {
    let seen = kinds(outcome);
    let seen: Vec<(&str, &str)> = seen.iter().map(|(attr, kind)| (attr.as_str(), *kind)).collect();
    assert!(outcome.comparison.errors.new.is_empty(), "{:?}", outcome.comparison.errors);
    assert_eq!(seen, [("curl", "rebuilt"), ("git", "rebuilt"), ("zlib", "bumped")]);
    let totals = outcome.comparison.totals();
    assert_eq!((totals.unchanged, totals.to_build()), (1, 3));
    let [cause] = &outcome.comparison.root_causes[..] else { panic!("{:?}", outcome.comparison.root_causes) };
    assert_eq!((cause.after.drv_name(), cause.attrs, cause.drvs), ("zlib", 3, 3));
    let version =
        Difference::Env { name: "version".into(), from: Some("1.2".into()), to: Some("1.3".into()) };
    assert!(cause.differences.contains(&version), "{:?}", cause.differences);
    assert_eq!(outcome.verdict, Verdict::Good, "{:?}", outcome.reasons);
}
