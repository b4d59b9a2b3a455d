//! Whole runs over real repositories with a real Nix: what is remembered, what is written again, what is not looked at.
#![expect(clippy::disallowed_methods, reason = "tests start what they test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ci_model::attr::ErrorKind;
use ci_model::change::{ChangeKind, Difference};
use ci_model::flow::{Trust, Verdict};
use ci_model::outcome::{Outcome, Progress, Side};
use ci_server::evaluate::confine::Bare;
use ci_server::evaluate::{Engine, Limits, Nix, Share};
use ci_server::pipeline::{self, Base, Head, Request, RunError};
use ci_server::store::{SqlitePlace, SqliteStore};
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
        let conf = "substituters =\nsandbox = false\nbuild-users-group =\n";
        fs::write(world.path("etc/nix.conf"), conf).unwrap();
        world.git(&["init", "-q", "-b", "main", "."]);
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

    fn env(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("NIX_STORE_DIR", self.path("store")),
            ("NIX_STATE_DIR", self.path("var")),
            ("NIX_LOG_DIR", self.path("log")),
            ("NIX_CONF_DIR", self.path("etc")),
            ("HOME", self.dir.path().to_owned()),
        ]
    }

    fn request(&self) -> Request {
        let clock = Clock::system();
        let place = SqlitePlace { path: self.path("ci.db"), clock: clock.clone(), vfs: None };
        let env = self.env().into_iter().map(|(name, value)| (name.into(), value.into()));
        let limits = Limits { workers: 2, memory_bytes: 1 << 30, ..Limits::default() };
        Request {
            path: self.path("repository"),
            head: Head::Worktree,
            base: Base::WhereItBegan,
            jobs: Vec::new(),
            systems: Vec::new(),
            local_system: "x86_64-linux".parse().unwrap(),
            trust: Trust::TrustedPush,
            share: Share::new(2, 4 << 30, clock.clone()),
            limits,
            nix: Nix { env: env.collect(), options: Vec::new(), engine: Engine::Walk },
            engine: "test".into(),
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

#[test]
fn a_change_is_led_back_to_what_differs_by_itself() {
    let world = World::new();
    world.bump_zlib();
    let outcome = world.run(|_| {}).unwrap();
    assert_zlib_is_why(&outcome);
    assert_eq!(outcome.files_changed, 1);
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
}

#[test]
fn the_same_tree_is_never_evaluated_twice() {
    let world = World::new();
    world.bump_zlib();
    let reused = |outcome: &Outcome| {
        let [job] = &outcome.jobs[..] else { panic!("{:?}", outcome.jobs) };
        [&job.base, &job.head].map(|cost| cost.as_ref().unwrap().reused)
    };
    assert_eq!(reused(&world.run(|_| {}).unwrap()), [false, false]);
    // The same tree as a commit is the same tree.
    world.commit("zlib: 1.3");
    let again = world.run(|request| request.head = Head::Revision("HEAD".into())).unwrap();
    assert_eq!(reused(&again), [true, true]);
    assert_zlib_is_why(&again);
    // Under other settings it is another evaluation, and of an outsider in any case.
    let other = world.run(|request| request.systems = vec!["x86_64-linux".parse().unwrap()]).unwrap();
    assert_eq!(reused(&other), [false, false]);
    let outsider = world.run(|request| request.trust = Trust::UntrustedPr).unwrap();
    assert_eq!(reused(&outsider), [false, false]);
}

#[test]
fn derivations_that_were_collected_are_written_again() {
    let world = World::new();
    world.bump_zlib();
    world.run(|_| {}).unwrap();
    let mut collect = Command::new("nix-store");
    collect.arg("--gc").envs(world.env());
    assert!(collect.output().unwrap().status.success());
    let left = fs::read_dir(world.path("store")).unwrap().filter_map(Result::ok);
    assert_eq!(left.filter(|file| file.path().extension().is_some_and(|kind| kind == "drv")).count(), 0);
    let outcome = world.run(|_| {}).unwrap();
    assert_zlib_is_why(&outcome);
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
}

/// A collection between the writing and the reading: the files go while the run is told how far it is.
#[test]
fn derivations_that_are_collected_meanwhile_are_written_again() {
    let world = World::new();
    world.bump_zlib();
    let (store, env) = (world.path("store"), world.env());
    let mut collected = false;
    let mut told = |progress: Progress| {
        // The last attribute is written, and nothing has been read.
        if let Progress::Instantiating { done, of } = progress
            && done == of
            && !collected
        {
            collected = true;
            for drv in fs::read_dir(&store).unwrap().filter_map(Result::ok) {
                if drv.file_name().to_string_lossy().ends_with("-git.drv") {
                    let delete =
                        Command::new("nix-store").arg("--delete").arg(drv.path()).envs(env.clone()).output();
                    assert!(delete.unwrap().status.success(), "nothing needs it and nothing holds it");
                }
            }
        }
    };
    let outcome = world.run_told(|_| {}, &mut told).unwrap();
    assert!(collected);
    assert_zlib_is_why(&outcome);
}

#[test]
fn a_change_of_documents_is_not_evaluated() {
    let world = World::new();
    world.write("README.md", "read me");
    let outcome = world.run(|_| {}).unwrap();
    assert!(outcome.jobs.is_empty());
    assert_eq!(outcome.verdict, Verdict::Good);
    assert!(outcome.reasons[0].contains("documentation"), "{:?}", outcome.reasons);
    // Unless somebody asks for a job by its name.
    let asked = world.run(|request| request.jobs = vec!["all".parse().unwrap()]).unwrap();
    assert_eq!(asked.jobs.len(), 1);
}

/// Nix names what it copies after its folder: that one has the same name on both sides, and on a person's own machine.
#[test]
fn a_source_is_the_same_where_only_files_differ_that_it_drops() {
    let world = World::new();
    let source = r#"{
      filtered = derivation {
        name = "filtered"; system = "x86_64-linux"; builder = "/bin/sh";
        src = builtins.filterSource (path: type: baseNameOf path != "README.md") ./.;
      };
      whole = derivation { name = "whole"; system = "x86_64-linux"; builder = "/bin/sh"; src = ./.; };
    }"#;
    world.write("default.nix", source);
    world.write("README.md", "read me");
    world.commit("sources");
    world.write("README.md", "read me again");
    let asked = |request: &mut Request| request.jobs = vec!["all".parse().unwrap()];
    let outcome = world.run(asked).unwrap();
    assert_eq!(kinds(&outcome), [("whole".to_owned(), "rebuilt")]);
    assert_eq!((outcome.files_changed, outcome.comparison.totals().unchanged), (1, 1));
    let copied = fs::read_dir(world.path("store")).unwrap().map(|entry| entry.unwrap().file_name());
    let copied: Vec<String> = copied.map(|name| name.to_string_lossy().into_owned()).collect();
    let sources = copied.iter().filter(|name| !name.ends_with(".drv") && !name.starts_with('.'));
    let names: Vec<&str> = sources.map(|name| &name[33..]).collect();
    assert_eq!(names, ["source"; 3], "the whole of both sides, and what both filter");
}

#[test]
fn what_was_asked_for_and_is_not_there_is_named_with_what_is() {
    let world = World::new();
    let error = world.run(|request| request.jobs = vec!["al".parse().unwrap()]).unwrap_err();
    assert!(error.is_usage());
    assert_eq!(error.to_string(), "there is no job al; there is all");
    let error = world.run(|request| request.base = Base::Revision("nothing".into())).unwrap_err();
    assert!(error.is_usage(), "{error}");
    world.write(".ekaci/config.json", r#"{ "jbos": {} }"#);
    let error = world.run(|_| {}).unwrap_err();
    assert!(error.is_usage());
    let text = error.to_string();
    assert!(text.contains(".ekaci/config.json:1:3") && text.contains("jobs"), "{text}");
    fs::remove_file(world.path("repository/.ekaci/config.json")).unwrap();
    std::os::unix::fs::symlink("../default.nix", world.path("repository/.ekaci/config.json")).unwrap();
    let error = world.run(|_| {}).unwrap_err();
    assert!(error.to_string().contains("is a link"), "{error}");
}

#[test]
fn two_runs_of_the_same_change_at_once_say_the_same() {
    let world = World::new();
    world.bump_zlib();
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| world.run(|_| {}).unwrap())).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for outcome in &outcomes {
        assert_zlib_is_why(outcome);
        assert_eq!(outcome.comparison, outcomes[0].comparison);
    }
}

#[test]
fn what_is_remembered_is_evaluated_again_when_somebody_says_so() {
    let world = World::new();
    world.bump_zlib();
    world.run(|_| {}).unwrap();
    let again = world.run(|request| request.afresh = true).unwrap();
    assert!(!again.jobs[0].head.as_ref().unwrap().reused);
    assert_zlib_is_why(&again);
}

/// The base moved on in the meantime: what is compared is what both are now.
#[test]
fn a_channel_that_was_updated_is_no_change_of_the_repository() {
    let world = World::new();
    let (old, new) = (world.path("old"), world.path("new"));
    for (folder, version) in [(&old, "1"), (&new, "2")] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("default.nix"), format!("\"{version}\"")).unwrap();
    }
    let channel = world.path("channel");
    std::os::unix::fs::symlink(&old, &channel).unwrap();
    world.write("default.nix", &PACKAGES.replace("\"1.2\"", "(import <channel>)"));
    world.commit("from a channel");
    world.write("other.nix", "1");
    let run = || {
        world.run(|request| {
            request.nix.env.push(("NIX_PATH".into(), format!("channel={}", channel.display()).into()));
            request.engine = pipeline::identity(&request.nix).unwrap();
        })
    };
    assert!(run().unwrap().comparison.is_empty());
    fs::remove_file(&channel).unwrap();
    std::os::unix::fs::symlink(&new, &channel).unwrap();
    world.write("other.nix", "2");
    let outcome = run().unwrap();
    assert!(outcome.comparison.is_empty(), "{:?}", kinds(&outcome));
}

/// More errors than are asked for their messages: those that are new have them.
#[test]
fn a_new_error_has_its_message_however_many_there_are() {
    let world = World::new();
    let many: String = (0..8).map(|n| format!("  old{n} = throw \"old {n}\";\n")).collect();
    let packages = PACKAGES.replace("  alone =", &format!("{many}  alone ="));
    world.write("default.nix", &packages);
    world.commit("many");
    world
        .write("default.nix", &packages.replace("  alone =", "  zz-new = throw \"the new one\";\n  alone ="));
    let outcome = world.run(|request| request.limits.explained_max = 2).unwrap();
    let [(_, error)] = &outcome.comparison.errors.new[..] else { panic!("{:?}", outcome.comparison.errors) };
    assert_eq!((error.path.to_string().as_str(), error.message.as_str()), ("zz-new", "the new one"));
    assert_eq!(outcome.comparison.errors.still.len(), 8);
}

/// Whoever writes an expression can name a derivation that nobody wrote.
#[test]
fn a_derivation_that_nobody_wrote_takes_nobody_with_it() {
    let world = World::new();
    let fake = r#"  fake = rec { type = "derivation"; name = "zz"; system = "x86_64-linux"; drvPath = "${builtins.storeDir}/00000000000000000000000000000000-zz.drv"; outPath = drvPath; };"#;
    let packages = PACKAGES.replace("  alone =", &format!("{fake}\n  alone ="));
    world.write("default.nix", &packages.replace("\"1.2\"", "\"1.3\""));
    let outcome = world.run(|_| {}).unwrap();
    assert!(kinds(&outcome).contains(&("zlib".to_owned(), "bumped")), "{:?}", kinds(&outcome));
    assert!(outcome.warnings.iter().any(|warning| warning.contains("-zz.drv")), "{:?}", outcome.warnings);
}

/// What can be evaluated, and not written: no verdict may be good for it.
#[test]
fn an_attribute_whose_derivation_cannot_be_written_fails() {
    let world = World::new();
    let odd = r#"  odd = let p = builtins.toFile "mode" "1"; there = builtins.readDir builtins.storeDir ? ${builtins.unsafeDiscardStringContext (builtins.baseNameOf p)}; in if builtins.seq p there then throw "no, now that it is written" else pkg "odd" "1" { };"#;
    world.write("default.nix", &PACKAGES.replace("  alone =", &format!("{odd}\n  alone =")));
    let outcome = world.run(|_| {}).unwrap();
    assert_eq!(outcome.verdict, Verdict::Bad, "{:?}", outcome.reasons);
    let [(_, error)] = &outcome.comparison.errors.new[..] else { panic!("{:?}", outcome.comparison.errors) };
    assert_eq!(error.path.to_string(), "odd");
    assert!(error.message.contains("now that it is written"), "{}", error.message);
}

#[test]
fn a_base_that_did_not_come_to_its_end_is_not_compared_with() {
    let world = World::new();
    world.write("default.nix", &PACKAGES.replace("in rec {", "in let sum = f: n: builtins.foldl' (a: b: a + f b) 0 (builtins.genList (x: x) n);\nin rec { endless = sum (x: sum (y: y) 10000) 1000000;"));
    world.commit("endless");
    world.write("default.nix", PACKAGES);
    let error = world.run(|request| request.limits.wall = Duration::from_secs(2)).unwrap_err();
    let RunError::BaseUnfinished { job, .. } = &error else { panic!("{error}") };
    assert_eq!(job.as_str(), "all");
    assert!(!error.is_usage());
}

/// Code can make its results as large as it likes; what is kept of them is bounded.
#[test]
fn results_beyond_what_is_kept_are_an_error_of_the_whole_job() {
    let world = World::new();
    let many = r#"  many = { recurseForDerivations = true; } // builtins.listToAttrs (map (n: { name = "a${toString n}"; value = pkg "p${toString n}" "1" { } // { meta.description = text; }; }) (builtins.genList (n: n) 400));"#;
    let text = r#"text = builtins.concatStringsSep "" (builtins.genList (n: "0123456789") 200);"#;
    let packages = PACKAGES
        .replace("  alone =", &format!("{many}\n  alone ="))
        .replace("in rec {", &format!("  {text}\nin rec {{"));
    world.write("default.nix", &packages);
    let outcome = world.run(|request| request.results_bytes_max = 400_000).unwrap();
    let [(_, error)] = &outcome.comparison.errors.new[..] else { panic!("{:?}", outcome.comparison.errors) };
    assert!(error.path.is_root() && error.kind == ErrorKind::TooLarge, "{error:?}");
    assert_eq!((outcome.verdict, outcome.jobs[0].attrs), (Verdict::Bad, 1));
    // With room for all of it, all of it is there.
    let outcome = world.run(|_| {}).unwrap();
    assert_eq!(outcome.comparison.totals().added, 400);
}

#[test]
fn a_system_that_nothing_is_for_is_named() {
    let world = World::new();
    world.bump_zlib();
    let error = world.run(|request| request.systems = vec!["x86_64-linx".parse().unwrap()]).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("x86_64-linx"), "{error}");
}

#[test]
fn a_first_configuration_is_no_change_of_what_is_built() {
    let world = World::new();
    world.git(&["rm", "-rq", ".ekaci"]);
    world.commit("none");
    world.write(".ekaci/config.json", CONFIG);
    let outcome = world.run(|request| request.jobs = vec!["all".parse().unwrap()]).unwrap();
    assert_eq!(outcome.verdict, Verdict::Good, "{:?}", outcome.reasons);
    assert!(outcome.comparison.is_empty(), "{:?}", kinds(&outcome));
}

/// Two versions side by side: what the base has of the one is not new to the other.
#[test]
fn a_version_that_the_base_has_elsewhere_is_not_counted_as_new() {
    let world = World::new();
    let two = |which: &str| {
        PACKAGES
            .replace("in rec {", "  ssl1 = pkg \"openssl\" \"1.1\" { }; ssl3 = pkg \"openssl\" \"3.0\" { };\nin rec {\n  nginx = pkg \"nginx\" \"1\" { inherit ssl3; };")
            .replace("{ inherit zlib; }", &format!("{{ ssl = {which}; }}"))
    };
    world.write("default.nix", &two("ssl1"));
    world.commit("two");
    world.write("default.nix", &two("ssl3"));
    let outcome = world.run(|_| {}).unwrap();
    let totals = outcome.comparison.totals();
    assert_eq!((totals.to_build(), outcome.comparison.unseen), (2, 0), "curl and git");
    let causes: Vec<_> = outcome.comparison.root_causes.iter().map(|cause| cause.after.drv_name()).collect();
    assert_eq!(causes, ["curl"]);
    let quick = world.run(|request| request.checkouts = world.path("elsewhere")).unwrap();
    assert_eq!(quick.comparison, outcome.comparison, "whatever lies in the store");
}

/// What is added needs something that the base has, but not where the two differ: it is not new.
#[test]
fn what_the_base_has_elsewhere_is_not_counted_as_new() {
    let world = World::new();
    let more = PACKAGES.replace("  alone =", "  wget = pkg \"wget\" \"1.0\" { inherit curl; };\n  alone =");
    world.write("default.nix", &more);
    let outcome = world.run(|_| {}).unwrap();
    let seen = kinds(&outcome);
    assert_eq!(seen, [("wget".to_owned(), "added")]);
    assert_eq!(outcome.comparison.totals().to_build(), 1, "curl and zlib are the base's");
    assert_eq!(outcome.comparison.unseen, 0);
}

/// One derivation that makes no sense takes the explanation of what needs it away, and nothing else.
#[test]
fn a_derivation_that_cannot_be_used_is_told_and_the_others_are_explained() {
    let world = World::new();
    let odd = r#"
      strange = pkg "strange" "1.0" { system = "x86_64 linux"; inherit zlib; };
      odd = name: pkg name "1.0" { inherit strange; };
    in rec {
      odd-1 = odd "one"; odd-2 = odd "two"; odd-3 = odd "three"; odd-4 = odd "four"; odd-5 = odd "five";"#;
    let packages = PACKAGES.replace("in rec {", odd);
    world.write("default.nix", &packages);
    world.commit("odd ones");
    world.write("default.nix", &packages.replace("\"1.2\"", "\"1.3\""));
    let first = world.run(|_| {}).unwrap();
    // What is remembered of the first run does not hide it from the second.
    let second = world.run(|_| {}).unwrap();
    for outcome in [&first, &second] {
        let changed: Vec<String> = kinds(outcome).into_iter().map(|(attr, _)| attr).collect();
        assert_eq!(changed, ["curl", "git", "odd-1", "odd-2", "odd-3", "odd-4", "odd-5", "zlib"]);
        let causes = &outcome.comparison.root_causes;
        let zlib = causes.iter().find(|cause| cause.after.drv_name() == "zlib").unwrap();
        assert_eq!((zlib.attrs, zlib.drvs), (3, 3), "as without them");
        assert_eq!(outcome.comparison.unseen, 10, "those five, on either side");
        let [before, after] = &outcome.warnings[..] else { panic!("{:?}", outcome.warnings) };
        for warning in [before, after] {
            assert!(warning.contains("odd-1, odd-2, odd-3 (and 2 more)"), "{warning}");
            assert!(warning.contains("-strange.drv") && warning.contains("x86_64 linux"), "{warning}");
            assert!(warning.contains("correct the code"), "{warning}");
        }
        assert_eq!(outcome.verdict, Verdict::Good, "{:?}", outcome.reasons);
    }
}

#[test]
fn code_that_is_another_each_time_is_told_of() {
    let world = World::new();
    world.write("default.nix", &PACKAGES.replace("\"1.2\"", "(toString builtins.currentTime)"));
    // The first pass and the second are not in the same second.
    let mut told = |progress: Progress| {
        if let Progress::EvaluationEnded { side: Side::Head, .. } = progress {
            let ended = std::time::Instant::now();
            test_kit::wait::until(Duration::from_secs(5), || ended.elapsed() > Duration::from_millis(1_100));
        }
    };
    let outcome = world.run_told(|_| {}, &mut told).unwrap();
    assert!(outcome.warnings.iter().any(|warning| warning.contains("each time")), "{:?}", outcome.warnings);
}

#[test]
fn a_run_that_is_stopped_ends_and_leaves_no_process() {
    let world = World::new();
    world.write("default.nix", "let f = n: f (n + 1); in { a = f 0; }");
    let stop = Stop::new();
    let mut request = world.request();
    request.base = Base::Nothing;
    let mut told = |progress: Progress| {
        if let Progress::Evaluating { .. } = progress {
            stop.request();
        }
    };
    let error = runtime().block_on(pipeline::run(&request, &stop, &mut told)).unwrap_err();
    assert!(matches!(error, RunError::Cancelled), "{error}");
    let here = world.dir.path().to_string_lossy().into_owned();
    test_kit::wait::until(Duration::from_secs(20), || evaluators_of(&here) == 0);
}

/// Evaluators whose command line names this folder.
fn evaluators_of(folder: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let is_ours = |line: &Vec<u8>| {
        let line = String::from_utf8_lossy(line);
        line.contains("nix-instantiate") && line.contains(folder)
    };
    lines.filter(is_ours).count()
}

#[test]
fn a_work_tree_is_not_touched() {
    let world = World::new();
    world.bump_zlib();
    let repository = world.path("repository");
    let before = listing(&repository);
    world.run(|_| {}).unwrap();
    assert_eq!(listing(&repository), before);
}

/// Every file with its size and time.
fn listing(folder: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            all.extend(listing(&entry.path()));
        }
        all.push((entry.path(), meta.len(), meta.modified().unwrap()));
    }
    all.sort();
    all
}
