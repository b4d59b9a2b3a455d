//! Evaluators that are killed, hang or print nonsense, disks that fill, and callers that go away.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ci_model::attr::ErrorKind;
use ci_server::evaluate::{self, EvaluateError, Event, Pass, Request, is_hidden, may_pass};
use service_kit::clock::Clock;
use test_kit::wait;

use super::gate::{kill_readers, waits_at_pipes};
use super::support::{LIB, Told, World, command, doors, share};

/// A `nix-instantiate` that does this first, and then what the real one does.
fn before(world: &World, request: &mut Request, body: &str) {
    let bin = world.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec /usr/bin/nix-instantiate --version\n{body}\nexec /usr/bin/nix-instantiate \"$@\"\n"
    );
    let program = bin.join("nix-instantiate");
    test_kit::script::write(&program, &script);
    request.nix.env.push(("PATH".into(), format!("{}:/usr/bin:/bin", bin.display()).into()));
}

/// Comes when this holds; looks again and again beside what is tested, by whose end it is bounded.
async fn holds(condition: impl Fn() -> bool) {
    while !condition() {
        Clock::system().sleep(Duration::from_millis(5)).await;
    }
}

fn many(world: &World, count: usize) {
    world.write("default.nix", &format!(
        r#"let {LIB} in builtins.listToAttrs (builtins.genList (n: {{ name = "n${{toString n}}"; value = drv "n${{toString n}}" {{ }}; }}) {count})"#
    ));
}

/// The evaluators that run under this world's folder.
fn evaluators(world: &World) -> Vec<u32> {
    let ours = world.path("store").display().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_ours = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        name.starts_with("nix-instantiate") && String::from_utf8_lossy(&environment).contains(&ours)
    };
    pids.filter(is_ours).collect()
}

#[tokio::test]
async fn an_evaluator_that_is_killed_is_followed_by_another() {
    let world = World::new();
    many(&world, 3_000);
    let request = world.request();
    let mut told = Told::default();
    let mut kills = 0;
    let mut sink = |event| {
        if matches!(event, Event::Attr(_)) {
            told.take(event);
            if [100, 700, 1_500].contains(&told.attrs.len()) {
                for pid in evaluators(&world) {
                    let kill = command("kill").args(["-9", &pid.to_string()]).status().unwrap();
                    kills += u32::from(kill.success());
                }
            }
        }
    };
    let share = share();
    let run = evaluate::run(&request, &Pass::ReadOnly, doors(&share), std::future::pending(), &mut sink);
    let cost = run.await.unwrap();
    assert!(kills >= 1 && cost.processes >= 2, "{kills} kills, {cost:?}");
    assert_eq!((told.attrs.len(), told.errors.len()), (3_000, 0));
}

/// What is said of a job is not lost with the evaluator that was about to say it. Where that is lost each time, the job is
/// an error, and none without what is said of it.
#[tokio::test]
async fn an_evaluator_that_is_killed_over_a_meta_takes_it_from_nobody() {
    if !waits_at_pipes() {
        return;
    }
    for (kills, told) in [(1, Some("told")), (2, Some("told")), (3, None)] {
        let world = World::new();
        let pipe = world.path("pipe");
        world.write(
            "default.nix",
            &format!(
                r#"let {LIB} in {{
  b = drv "b" {{ }} // {{ meta.description = builtins.readFile {}; }};
  c = drv "c" {{ }} // {{ meta.description = "c"; }};
}}"#,
                pipe.display()
            ),
        );
        let readers = kill_readers(&pipe, kills, told);
        let seen = world.evaluate(&world.request(), &Pass::ReadOnly).await;
        assert!(readers.join().is_ok(), "{kills}: {:?}, {:?}", seen.errors, seen.cost);
        assert_eq!(seen.attrs["c"].meta.description.as_deref(), Some("c"));
        assert_eq!(seen.attrs.get("b").and_then(|b| b.meta.description.as_deref()), told, "{kills}");
        let errors: Vec<_> = seen.errors.iter().map(|(path, error)| (path.as_str(), error.kind)).collect();
        let wanted = if told.is_none() { vec![("b", ErrorKind::Crashed)] } else { Vec::new() };
        assert_eq!(errors, wanted, "{kills}");
        assert!(seen.errors.values().all(may_pass));
    }
}

/// Another Nix holds the database for a moment: no code was looked at, and none is blamed.
#[tokio::test]
async fn an_evaluator_that_found_the_database_busy_is_followed_by_another() {
    for (busy, errors) in [(6, 0), (1_000, 1)] {
        let world = World::new();
        many(&world, 3);
        let mut request = world.request();
        let tries = world.path("tries").display().to_string();
        let busy = format!(
            "echo try >> {tries}; if [ $(wc -l < {tries}) -le {busy} ]; then echo \"error: SQLite database '/db.sqlite' is busy\" >&2; exit 1; fi"
        );
        before(&world, &mut request, &busy);
        let told = world.evaluate(&request, &Pass::ReadOnly).await;
        assert_eq!(told.errors.len(), errors, "{:?}", told.errors);
        assert_eq!(told.attrs.len(), if errors == 0 { 3 } else { 0 });
        assert!(told.errors.values().all(evaluate::is_busy), "{:?}", told.errors);
    }
}

#[tokio::test]
async fn an_evaluator_that_is_always_killed_is_given_up() {
    let world = World::new();
    many(&world, 3);
    let mut request = world.request();
    before(&world, &mut request, "kill -9 $$");
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!((told.errors.len(), told.errors[""].kind), (1, ErrorKind::Crashed));
}

#[tokio::test]
async fn nonsense_is_garbage_and_silence_is_a_time_out() {
    let world = World::new();
    many(&world, 3);
    for (body, kind) in [
        ("head -c 100000 /dev/urandom; head -c 100000 /dev/urandom >&2; exit 0", ErrorKind::Garbage),
        ("echo null; exit 0", ErrorKind::Garbage),
        ("exec sleep 600", ErrorKind::TimedOut),
        ("kill -SEGV $$", ErrorKind::Crashed),
        ("exec yes noise >&2", ErrorKind::TooLarge),
    ] {
        let mut request = world.request();
        // Only what is silent has to be waited for.
        request.limits.attr_wall = Duration::from_secs(if kind == ErrorKind::TimedOut { 1 } else { 30 });
        request.limits.output_bytes = 1 << 20;
        before(&world, &mut request, body);
        let told = world.evaluate(&request, &Pass::ReadOnly).await;
        assert_eq!((told.errors.len(), told.errors[""].kind), (1, kind), "{body}");
    }
}

#[tokio::test]
async fn a_full_disk_is_the_machines_fault() {
    let world = World::new();
    many(&world, 3);
    let mut request = world.request();
    before(&world, &mut request, "echo \"error: writing to file: No space left on device\" >&2; exit 1");
    let error = world.try_evaluate(&request, &Pass::Instantiate { only: None }).await.err().unwrap();
    assert!(matches!(&error, EvaluateError::Machine { .. }), "{error}");
    assert!(error.to_string().contains("No space left on device"), "{error}");
}

/// Whatever way an expression says so.
#[tokio::test]
async fn an_expression_that_speaks_of_a_full_disk_is_not_believed() {
    let world = World::new();
    world.write(
        "default.nix",
        r#"
let full = "writing to file: No space left on device"; in {
  a = abort "No space left on device";
  b = throw "No space left on device";
  c = throw full;
  d = abort "\nerror: ${full}";
  e = { }."\nerror: ${full}";
  f = builtins.trace "\nerror: ${full}" (abort "f");
}"#,
    );
    let told = world.evaluate(&world.request(), &Pass::ReadOnly).await;
    let kinds: Vec<_> = told.errors.iter().map(|(path, error)| (path.as_str(), error.kind)).collect();
    let (fatal, thrown) = (ErrorKind::Fatal, ErrorKind::Thrown);
    assert_eq!(kinds, [("a", fatal), ("b", thrown), ("c", thrown), ("d", fatal), ("e", fatal), ("f", fatal)]);
    assert_eq!(told.errors["b"].message, "No space left on device");
}

#[tokio::test]
async fn a_cancel_ends_every_evaluator() {
    let world = World::new();
    world.write("default.nix", &format!(
        r#"let {LIB} big = builtins.concatStringsSep "" (builtins.genList (x: "0123456789") 100000); in builtins.listToAttrs (builtins.genList (n: {{ name = "n${{toString n}}"; value = if n == 5 || n == 905 then builtins.foldl' (t: x: builtins.seq t (builtins.hashString "sha256" big)) "" (builtins.genList (x: x) 1000000) else drv "n" {{ }}; }}) 1000)"#
    ));
    let request = world.request();
    let begun = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&begun);
    let mut sink = move |event| {
        if matches!(event, Event::Begin(path) if ["n5", "n905"].contains(&path.to_string().as_str())) {
            *seen.lock().unwrap() += 1;
        }
    };
    let cancel = holds(|| *begun.lock().unwrap() > 0);
    let share = share();
    let error = evaluate::run(&request, &Pass::ReadOnly, doors(&share), cancel, &mut sink).await.unwrap_err();
    assert!(matches!(error, EvaluateError::Cancelled), "{error}");
    wait::until(Duration::from_secs(30), || evaluators(&world).is_empty());
}

/// Builds whose numbers lie in the files `builder` and `worker` of this world: the second is in a session of its own.
fn builds_while_it_evaluates(world: &World) -> Request {
    let [builder, worker] = ["builder", "worker"].map(|name| world.path(name).display().to_string());
    world.write("default.nix", &format!(
        r#"let build = derivation {{ name = "slow"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" ''
  trap "" TERM HUP INT
  export PATH=/usr/bin:/bin
  setsid sh -c 'echo $$ > {worker}; exec sleep 120' &
  echo $$ > {builder}
  wait
'' ]; }}; in {{ a = import build; }}"#
    ));
    let mut request = world.request();
    request.allow_ifd = true;
    request
}

fn pid_in(world: &World, name: &str) -> Option<u32> {
    fs::read_to_string(world.path(name)).ok()?.strip_suffix('\n')?.parse().ok()
}

fn are_over(pids: [u32; 2]) {
    wait::until(Duration::from_secs(30), || {
        pids.iter().all(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        })
    });
}

#[tokio::test]
async fn what_is_built_for_an_evaluation_ends_with_it() {
    let world = World::new();
    let request = builds_while_it_evaluates(&world);
    let both = || Some([pid_in(&world, "builder")?, pid_in(&world, "worker")?]);
    let cancel = holds(|| both().is_some());
    let (share, mut told) = (share(), Told::default());
    let mut sink = |event| told.take(event);
    let run = evaluate::run(&request, &Pass::ReadOnly, doors(&share), cancel, &mut sink).await;
    assert!(matches!(run, Err(EvaluateError::Cancelled)), "{run:?}");
    are_over(both().unwrap());
    // Its time is over; it is silent for too long; and whoever waited for it went away.
    // Three seconds are enough to begin a build, except on a machine that is very busy.
    let mut begun = None;
    for wall in [3, 12, 48] {
        for name in ["builder", "worker"] {
            let _ = fs::remove_file(world.path(name)); // the last one may not have begun
        }
        let mut short = request.clone();
        short.limits.wall = Duration::from_secs(wall);
        let told = world.evaluate(&short, &Pass::ReadOnly).await;
        assert_eq!(told.errors[""].kind, ErrorKind::TimedOut);
        begun = both();
        if begun.is_some() {
            break;
        }
    }
    are_over(begun.expect("a build was begun in time"));
    for name in ["builder", "worker"] {
        fs::remove_file(world.path(name)).unwrap();
    }
    tokio::select! {
        _ = world.try_evaluate(&request, &Pass::ReadOnly) => panic!("it builds for two minutes"),
        () = holds(|| both().is_some()) => {}
    }
    are_over(both().unwrap());
}

/// What was written between the passes and collected is written again.
#[tokio::test]
async fn a_derivation_that_was_collected_is_written_again() {
    let world = World::new();
    many(&world, 3);
    let request = world.request();
    let only = Pass::Instantiate { only: Some(vec!["n1".parse().unwrap()]) };
    let first = world.evaluate(&request, &only).await;
    let drv = first.attrs["n1"].drv.as_str().to_owned();
    let mut collect = command("nix-store");
    collect.args(["--delete", &drv]).env_clear().envs(world.nix().env).env("PATH", "/usr/bin:/bin");
    assert!(collect.output().unwrap().status.success());
    assert!(!fs::exists(&drv).unwrap());
    let again = world.evaluate(&request, &only).await;
    assert_eq!(again.attrs, first.attrs);
    assert!(fs::exists(&drv).unwrap());
}

#[tokio::test]
async fn too_long_for_all_of_it_says_so_at_the_root() {
    let world = World::new();
    many(&world, 10);
    let mut request = world.request();
    request.limits.wall = Duration::from_millis(1);
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(told.errors[""].kind, ErrorKind::TimedOut);
}

/// Somebody who wants no bound gets none, whatever clocks can hold.
#[tokio::test]
async fn the_longest_time_there_is_is_no_fault() {
    let world = World::new();
    world.write("default.nix", &format!("let {LIB} in {{ a = drv \"a\" {{ }}; b = throw \"b\"; }}"));
    let mut request = world.request();
    let limits = &mut request.limits;
    (limits.wall, limits.attr_wall, limits.explain_wall) = (Duration::MAX, Duration::MAX, Duration::MAX);
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!((told.paths(), told.errors["b"].message.as_str()), (vec!["a"], "b"));
    let (share, path) = (share(), "b".parse().unwrap());
    let explained = evaluate::explain(&request, &path, doors(&share), std::future::pending()).await.unwrap();
    assert_eq!(explained.unwrap().message, "b");
}

/// What is not explained at once can be told apart, and is explained when somebody asks.
#[tokio::test]
async fn hidden_messages_are_known_as_such_and_explained_together() {
    let world = World::new();
    world.write(
        "default.nix",
        "{ first = throw \"it throws; its message is shown when it is evaluated by itself\"; } // builtins.listToAttrs (builtins.genList (n: { name = \"n${toString n}\"; value = throw \"no ${toString n}\"; }) 12)",
    );
    let mut request = world.request();
    request.limits.explained_max = 1;
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    let hidden: Vec<_> =
        told.errors.values().filter(|error| is_hidden(error)).map(|error| error.path.clone()).collect();
    assert_eq!((told.errors.len(), hidden.len()), (13, 12));
    assert!(!is_hidden(&told.errors["first"]), "its author said so");
    let share = share();
    let ask = async |request: &Request| {
        evaluate::explain_all(request, &hidden, doors(&share), std::future::pending()).await.unwrap()
    };
    let explained = ask(&request).await;
    assert_eq!(explained.keys().collect::<Vec<_>>(), hidden.iter().collect::<Vec<_>>());
    for (path, error) in &explained {
        assert_eq!(error.message, path.to_string().replace('n', "no "));
        assert!(!is_hidden(error));
    }
    request.limits.explain_wall = Duration::from_millis(1);
    assert!(ask(&request).await.is_empty(), "there was no time");
}

/// One attribute, on demand.
#[tokio::test]
async fn an_error_is_explained_when_somebody_asks() {
    let world = World::new();
    world.write("default.nix", &format!(r#"let {LIB} in {{ a.b = throw "deep down"; ok = drv "ok" {{ }}; c = throw "c"; d = throw "d"; }}"#));
    let mut request = world.request();
    request.limits.explained_max = 1;
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!((told.errors["c"].message.as_str(), told.errors["d"].kind), ("c", ErrorKind::Thrown));
    assert!(told.errors["d"].message.contains("when it is evaluated by itself"));
    let share = share();
    let ask = async |path: &str| {
        evaluate::explain(&request, &path.parse().unwrap(), doors(&share), std::future::pending())
            .await
            .unwrap()
    };
    assert_eq!(ask("d").await.unwrap().message, "d");
    let deep = ask("a.b").await.unwrap();
    assert_eq!((deep.path.to_string().as_str(), deep.message.as_str()), ("a.b", "deep down"));
    assert!(ask("ok").await.is_none());
    assert!(ask("gone").await.unwrap().message.contains("attribute 'gone' missing"));
}
