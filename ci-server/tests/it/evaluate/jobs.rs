//! The engine that is not ours, played by a program that prints what releases of it print.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ci_model::attr::ErrorKind;
use ci_server::evaluate::share::{SLICE, Share};
use ci_server::evaluate::{self, Engine, Event, Pass, Request, What, may_pass};
use service_kit::clock::{Clock, Time};

use super::failures;
use super::repository::{Expected, Repository};
use super::support::{Told, World, command, doors};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nix-eval-jobs")
}

/// A `nix-eval-jobs` of this version that does this, first on `PATH`. What it is asked for is in the file `asked`.
fn play(world: &World, request: &mut Request, version: &str, body: &str) {
    let bin = world.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let asked = world.path("asked");
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo nix-eval-jobs {version}; exit; fi\nprintf '%s\\n' \"$@\" > {}\n{body}\n",
        asked.display()
    );
    let program = bin.join("nix-eval-jobs");
    test_kit::script::write(&program, &script);
    let path = format!("{}:/usr/bin:/bin", bin.display());
    request.nix.env.push(("PATH".into(), path.into()));
}

#[tokio::test]
async fn the_rows_of_all_releases_are_understood() {
    let mut seen = 0;
    for entry in fs::read_dir(data()).unwrap() {
        let file = entry.unwrap().path();
        let version = file.file_stem().unwrap().to_str().unwrap().split('-').next().unwrap();
        let world = World::new();
        world.write("default.nix", "{ }");
        let mut request = world.request();
        request.systems = Some(vec!["x86_64-linux".parse().unwrap()]);
        let cat = format!("sed s,/checkout,{}, {}", request.folder.display(), file.display());
        play(&world, &mut request, version, &cat);
        let told = world.evaluate(&request, &Pass::Instantiate { only: None }).await;
        let name = file.display();
        assert_eq!(told.cost.engine, format!("nix-eval-jobs {version}"), "{name}");
        assert_eq!(told.paths(), ["ca", "hello", "set.\"a.b\""], "{name}");
        assert_eq!(told.other, ["arm"], "{name}");
        let errors: Vec<_> = told
            .errors
            .values()
            .map(|error| (error.path.to_string(), error.kind, error.message.clone()))
            .collect();
        let wanted = [
            ("bad".to_owned(), ErrorKind::Thrown, "not today".to_owned()),
            ("gone".to_owned(), ErrorKind::Fatal, "attribute 'gone' missing".to_owned()),
        ];
        assert_eq!(errors, wanted, "{name}");
        let hello = &told.attrs["hello"];
        assert_eq!(hello.meta.licenses[0].shown(), "GPL-3.0-or-later");
        assert_eq!(hello.meta.maintainers[0].github_id, Some(7));
        assert_eq!(hello.meta.position.as_ref().unwrap().file, "pkgs/hello.nix");
        assert_eq!(hello.outputs.len(), 2);
        assert_eq!(told.attrs["ca"].outputs["out"], None, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[tokio::test]
async fn each_release_is_asked_for_what_it_can_do() {
    let world = World::new();
    world.write("default.nix", "{ }");
    let ask = async |version: &str, pass: &Pass, engine| {
        let mut request = world.request();
        request.nix.engine = engine;
        play(&world, &mut request, version, "true");
        let _ = fs::remove_file(world.path("asked")); // it may not be there
        let told = world.evaluate(&request, pass).await;
        (told.cost.engine, fs::read_to_string(world.path("asked")).unwrap_or_default())
    };
    let (engine, asked) = ask("2.31.0", &Pass::ReadOnly, Engine::Any).await;
    assert_eq!(engine, "nix-eval-jobs 2.31.0");
    assert!(asked.contains("--no-instantiate\n") && asked.contains("--workers\n2\n"), "{asked}");
    assert!(asked.contains("--max-memory-size\n1024\n"), "{asked}");
    let (engine, asked) = ask("2.31.0", &Pass::Instantiate { only: None }, Engine::Any).await;
    assert_eq!(engine, "nix-eval-jobs 2.31.0");
    assert!(!asked.contains("--no-instantiate"), "{asked}");
    let only = Pass::Instantiate { only: Some(Vec::new()) };
    for (version, pass, engine) in [
        ("2.30.1", &Pass::ReadOnly, Engine::Any),
        ("2.31.0", &only, Engine::Any),
        ("2.31.0", &Pass::ReadOnly, Engine::Walk),
    ] {
        let (engine, asked) = ask(version, pass, engine).await;
        assert!(engine.starts_with("walker") && asked.is_empty(), "{engine}: {asked}");
    }
}

#[tokio::test]
async fn where_it_does_not_come_to_its_end_the_walk_goes_on() {
    let world = World::new();
    world.write(
        "default.nix",
        &format!(
            "let {} in {{ a = drv \"a\" {{ }}; b = drv \"b\" {{ }}; c = throw \"c\"; }}",
            super::support::LIB
        ),
    );
    for body in ["kill -9 $$", "echo garbage", "exit 1", "printf '{\"attr\":'", "kill -SEGV $$"] {
        let mut request = world.request();
        play(&world, &mut request, "2.33.0", &format!("echo '{}'\n{body}", row("a")));
        let told = world.evaluate(&request, &Pass::ReadOnly).await;
        assert_eq!(told.paths(), ["a", "b"], "{body}");
        assert_eq!((told.attrs["a"].name.as_str(), told.attrs["b"].name.as_str()), ("told", "b"), "{body}");
        assert_eq!(told.errors["c"].message, "c", "{body}");
        assert!(told.cost.engine.starts_with("nix-eval-jobs 2.33.0, then walker"), "{}", told.cost.engine);
    }
}

#[tokio::test]
async fn a_root_that_fails_is_an_error_at_the_root() {
    let world = World::new();
    world.write("default.nix", "throw \"nothing\"");
    let mut request = world.request();
    play(&world, &mut request, "2.33.0", r#"echo '{"error":"error: nothing"}'; exit 1"#);
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(told.errors[""].message, "nothing");
    request.nix.engine = Engine::Walk;
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!((told.errors[""].message.as_str(), told.errors[""].kind), ("nothing", ErrorKind::Thrown));
}

fn row(name: &str) -> String {
    let drv = format!("/nix/store/0c6kzph7l0dcbfmjap64f0czdafn3b7x-{name}.drv");
    format!(
        r#"{{"attr":"{name}","attrPath":["{name}"],"drvPath":"{drv}","name":"told","outputs":{{}},"system":"x86_64-linux"}}"#
    )
}

#[tokio::test]
async fn two_rows_of_one_path_are_both_told() {
    let world = World::new();
    world.write("default.nix", "{ }");
    let mut request = world.request();
    play(&world, &mut request, "2.33.0", &format!("echo '{}'\necho '{}'", row("a"), row("a")));
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(
        (told.paths(), told.errors["\"a#2\""].kind),
        (vec!["a"], ErrorKind::TooLarge),
        "{:?}",
        told.errors
    );
}

#[tokio::test]
async fn its_time_is_bounded_and_what_is_left_is_the_walks() {
    let world = World::new();
    world.write(
        "default.nix",
        &format!("let {} in {{ a = drv \"a\" {{ }}; b = drv \"b\" {{ }}; }}", super::support::LIB),
    );
    let mut request = world.request();
    play(&world, &mut request, "2.33.0", &format!("echo '{}'\nexec sleep 600", row("a")));
    request.limits.wall = Duration::from_secs(5);
    request.limits.attr_wall = Duration::from_secs(60);
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!((told.paths(), told.errors.len()), (vec!["a"], 1), "{:?}", told.errors);
    assert_eq!(told.errors[""].kind, ErrorKind::TimedOut);
    assert!(told.errors[""].message.contains("longer than 5s"), "{:?}", told.errors);
    assert_eq!(told.cost.engine, "nix-eval-jobs 2.33.0");
    (request.limits.wall, request.limits.attr_wall) = (Duration::from_secs(60), Duration::from_secs(5));
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!((told.paths(), told.errors.len()), (vec!["a", "b"], 0), "{:?}", told.errors);
}

/// Others need not wait until it is through; and it goes on where it was, nothing twice.
#[tokio::test]
async fn whoever_waits_for_it_has_a_turn_and_nothing_is_evaluated_twice() {
    let world = World::new();
    world.write("default.nix", &format!(
        r#"{{ }}: let {} in {{ a = drv "a" {{ }}; b = {{ recurseForDerivations = true; c = drv "c" {{ }}; d = {{ recurseForDerivations = true; e = drv "e" {{ }}; }}; "f.g" = drv "fg" {{ }}; }}; bad = throw "bad"; h = drv "h" {{ }}; }}"#,
        super::support::LIB
    ));
    // It evaluates what it is given, prints three rows of it the first time, and would never end.
    let rows = r#"(root: let
  row = path: let v = builtins.foldl' (set: name: set.${name}) root path; in
    if path == [ "bad" ] then { attrPath = path; error = "error: bad"; }
    else { attrPath = path; attr = "x"; inherit (v) name system drvPath; outputs.out = v.outPath; };
  paths = path: set: builtins.concatMap (name:
    if path ++ [ name ] == [ "bad" ] then [ [ "bad" ] ]
    else if !(builtins.isAttrs set.${name}) then [ ]
    else if set.${name} ? drvPath then [ (path ++ [ name ]) ]
    else paths (path ++ [ name ]) set.${name}) (builtins.attrNames set);
  in builtins.concatStringsSep "\n" (map (path: builtins.toJSON (row path)) (paths [ ] root)))"#;
    let runs = world.path("runs");
    fs::write(world.path("rows.nix"), rows).unwrap();
    let body = format!(
        r#"echo run >> {runs}
for last; do :; done
/usr/bin/nix-instantiate --eval --strict --json -E "$(cat {rows}) ($last)" > {out} || exit 1
sed 's/^"//; s/"$//; s/\\n/\n/g; s/\\"/"/g; s/\\\\/\\/g' {out} > {out}.rows
if [ "$(wc -l < {runs})" = 1 ]; then head -3 {out}.rows; exec sleep 600; fi
cat {out}.rows"#,
        runs = runs.display(),
        rows = world.path("rows.nix").display(),
        out = world.path("out").display(),
    );
    let (mut request, mut other) = (world.request(), world.request());
    play(&world, &mut request, "2.33.0", &body);
    other.nix.engine = Engine::Walk;
    let (clock, time) = Clock::manual(Time::from_ms(0));
    let share = Share::new(1, 8 << 30, clock);
    let (mut told, mut of_other) = (Told::default(), Told::default());
    let seen = tokio::sync::Notify::new();
    let mut sink = |event| {
        if matches!(event, Event::Attr(_) | Event::Error(_)) && told.attrs.len() == 2 {
            seen.notify_one();
        }
        told.take(event);
    };
    let long = evaluate::run(&request, &Pass::ReadOnly, doors(&share), std::future::pending(), &mut sink);
    let mut other_sink = |event| of_other.take(event);
    let short = async {
        seen.notified().await;
        time.step(SLICE);
        evaluate::run(&other, &Pass::ReadOnly, doors(&share), std::future::pending(), &mut other_sink).await
    };
    let (long, short) = tokio::join!(long, short);
    let (cost, of_short) = (long.unwrap(), short.unwrap());
    assert_eq!(cost.engine, "nix-eval-jobs 2.33.0");
    assert_eq!((cost.processes, fs::read_to_string(&runs).unwrap().lines().count()), (2, 2));
    assert!(of_short.engine.starts_with("walker"), "{of_short:?}");
    let paths = ["a", "b.\"f.g\"", "b.c", "b.d.e", "h"];
    assert_eq!((told.paths(), of_other.paths()), (paths.to_vec(), paths.to_vec()));
    assert_eq!(told.errors.keys().collect::<Vec<_>>(), ["bad"]);
    let left = fs::read_to_string(world.path("out.rows")).unwrap();
    assert_eq!(left.lines().count(), 3, "{left}");
}

/// Its next run could not read what is done, where an outsider's flake is evaluated purely.
#[tokio::test]
async fn who_waits_for_an_outsiders_flake_has_a_turn_and_the_walk_goes_on() {
    let world = World::new();
    let jobs = r#"{ a = drv "a" { }; b = drv "b" { }; c = drv "c" { }; }"#;
    let lib = super::support::LIB;
    world.write(
        "flake.nix",
        &format!("{{ outputs = {{ self }}: let {lib} in {{ packages.x86_64-linux = {jobs}; }}; }}"),
    );
    let runs = world.path("runs");
    let row = row("a").replace(r#"["a"]"#, r#"["packages","x86_64-linux","a"]"#);
    let body = format!("echo run >> {}\necho '{row}'\nexec sleep 600", runs.display());
    let (mut request, mut other) = (world.request(), world.request());
    request.is_trusted = false;
    request.what = What::Flake { outputs: vec!["packages".to_owned()] };
    play(&world, &mut request, "2.33.0", &body);
    world.write("default.nix", "{ }");
    other.nix.engine = Engine::Walk;
    let (clock, time) = Clock::manual(Time::from_ms(0));
    let share = Share::new(1, 8 << 30, clock);
    let (mut told, seen) = (Told::default(), tokio::sync::Notify::new());
    let mut sink = |event| {
        if matches!(event, Event::Attr(_)) && told.attrs.is_empty() {
            seen.notify_one();
        }
        told.take(event);
    };
    let long = evaluate::run(&request, &Pass::ReadOnly, doors(&share), std::future::pending(), &mut sink);
    let mut nothing = |_| {};
    let short = async {
        seen.notified().await;
        time.step(SLICE);
        evaluate::run(&other, &Pass::ReadOnly, doors(&share), std::future::pending(), &mut nothing).await
    };
    let (long, short) = tokio::join!(long, short);
    let (cost, _) = (long.unwrap(), short.unwrap());
    assert!(cost.engine.starts_with("nix-eval-jobs 2.33.0, then walker"), "{cost:?}");
    assert_eq!(fs::read_to_string(&runs).unwrap().lines().count(), 1);
    let paths = ["a", "b", "c"].map(|name| format!("packages.x86_64-linux.{name}"));
    assert_eq!(told.paths(), paths, "{:?}", told.errors);
    assert!(told.errors.is_empty(), "{:?}", told.errors);
}

/// What a pass that writes nothing cannot know, the walk finds out; where it may not, it is forbidden.
#[tokio::test]
async fn what_it_cannot_know_without_writing_the_walk_does() {
    let world = World::new();
    world.write("sub/answer.nix", "\"answer\"");
    world.write("default.nix", &format!(r#"let {} in {{
  a = drv "a" {{ }};
  built = drv (import (derivation {{ name = "name.nix"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo '\"built\"' > $out" ]; }})) {{ }};
  copied = drv (import "${{./sub}}/answer.nix") {{ }};
}}"#, super::support::LIB));
    let mut request = world.request();
    let store = world.path("store");
    let failed = |name: &str, said: &str| {
        let said = said.replace("STORE", &store.display().to_string());
        serde_json::json!({ "attr": name, "attrPath": name.split_terminator('.').collect::<Vec<_>>(), "error": format!("error: {said}") }).to_string()
    };
    let hash = "0c6kzph7l0dcbfmjap64f0czdafn3b7x";
    let rows = [
        row("a"),
        failed("built", &format!("path 'STORE/{hash}-name.nix.drv' is not valid")),
        failed("copied", &format!("opening file 'STORE/{hash}-sub/answer.nix': No such file or directory")),
    ];
    fs::write(world.path("rows"), rows.map(|row| row + "\n").concat()).unwrap();
    play(&world, &mut request, "2.33.0", &format!("cat {}", world.path("rows").display()));
    request.allow_ifd = true;
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(told.paths(), ["a", "built", "copied"], "{:?}", told.errors);
    assert_eq!((told.attrs["built"].name.as_str(), told.attrs["copied"].name.as_str()), ("built", "answer"));
    assert!(told.errors.is_empty() && told.cost.engine.contains(", then walker"), "{:?}", told.errors);
    // Or all of it.
    let root = failed("", &format!("path 'STORE/{hash}-name.nix.drv' is not valid"));
    play(&world, &mut request, "2.33.0", &format!("echo '{}'; exit 1", root.replace("'", "'\\''")));
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(told.paths(), ["a", "built", "copied"], "{:?}", told.errors);
    assert!(told.errors.is_empty(), "{:?}", told.errors);
    play(&world, &mut request, "2.33.0", &format!("cat {}", world.path("rows").display()));
    request.allow_ifd = false;
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(told.paths(), ["a", "copied"], "{:?}", told.errors);
    assert_eq!(told.errors["built"].kind, ErrorKind::Forbidden);
}

/// What could not be fetched is no fault of the code.
#[tokio::test]
async fn what_the_network_did_may_pass() {
    let world = World::new();
    world.write("default.nix", "{ }");
    let mut request = world.request();
    let rows = r#"echo '{"attrPath":["a"],"error":"error: unable to download x"}'
echo '{"attrPath":["b"],"error":"error: program '"'git'"' failed with exit code 128"}'"#;
    play(&world, &mut request, "2.33.0", rows);
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(
        (may_pass(&told.errors["a"]), may_pass(&told.errors["b"])),
        (false, true),
        "{:?}",
        told.errors
    );
}

/// The rows of the other engine for the repository of failures: jobs as plain Nix knows them, errors as they read.
#[tokio::test]
async fn both_engines_agree_on_a_bad_repository() {
    let world = World::new();
    let mut repository = Repository::write(&world, 2_000);
    // These end its workers, so there are no rows of them.
    let ends =
        |what: &Expected| matches!(what, Expected::Error(ErrorKind::OutOfMemory | ErrorKind::TimedOut, _));
    repository.expected.retain(|(_, what)| !ends(what));
    let rows = world.path("rows");
    fs::write(&rows, rows_of(&world, &repository)).unwrap();
    let mut request = world.request();
    request.systems = Some(vec!["x86_64-linux".parse().unwrap()]);
    play(&world, &mut request, "2.33.0", &format!("cat {}", rows.display()));
    let theirs = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(theirs.cost.engine, "nix-eval-jobs 2.33.0");
    failures::check(&theirs, &repository);
    let ours = failures::walked(&world).await;
    let jobs = |told: &Told| -> Vec<_> {
        let known = |path: &&String| !path.starts_with("nested");
        let job = |path: &String| {
            let attr = &told.attrs[path];
            (path.clone(), attr.drv.clone(), attr.name.clone(), attr.system.clone(), attr.outputs.clone())
        };
        told.attrs.keys().filter(known).map(job).collect()
    };
    assert_eq!(jobs(&theirs), jobs(&ours));
    let errors = |told: &Told| -> Vec<_> {
        let ends = [ErrorKind::TooLarge, ErrorKind::OutOfMemory, ErrorKind::TimedOut];
        let top = told.errors.values().filter(|error| error.path.components().len() == 1);
        top.filter(|error| !ends.contains(&error.kind))
            .map(|error| (error.path.to_string(), error.kind))
            .collect()
    };
    assert_eq!(errors(&theirs), errors(&ours));
}

fn rows_of(world: &World, repository: &Repository) -> String {
    let names: Vec<String> = repository
        .expected
        .iter()
        .filter(|(_, what)| matches!(what, Expected::Job | Expected::OtherSystem))
        .map(|(name, _)| name.parse::<nix_types::AttrPath>().unwrap().components()[0].clone())
        .collect();
    let names = serde_json::to_string(&names).unwrap();
    fs::write(world.path("names.json"), names).unwrap();
    let expression = format!(
        r#"let root = import {}/default.nix; call = v: if builtins.isFunction v then v {{ }} else v; in
  builtins.map (n: let v = call root.${{n}}; in {{ attrPath = [ n ]; attr = n; inherit (v) name system drvPath; outputs.out = v.outPath; }})
    (builtins.fromJSON (builtins.readFile {}))"#,
        world.path("checkout").display(),
        world.path("names.json").display()
    );
    let mut nix = command("nix-instantiate");
    nix.args(["--eval", "--strict", "--json", "-E", &expression]).env_clear().envs(world.nix().env);
    let output = nix.env("PATH", "/usr/bin:/bin").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let jobs: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let errors = repository.expected.iter().filter_map(|(name, what)| {
        let Expected::Error(kind, text) = what else { return None };
        if *kind == ErrorKind::Garbage {
            let fake = serde_json::json!({ "attrPath": [name], "name": "fake", "system": "x86_64-linux", "drvPath": "/etc/passwd" });
            return Some(fake);
        }
        let text = text.split('|').next().unwrap();
        Some(serde_json::json!({ "attrPath": [name], "attr": name, "error": format!("error: x\n       error: {text}") }))
    });
    jobs.into_iter().chain(errors).map(|row| format!("{row}\n")).collect()
}
