//! What a run stands on is broken: its programs, its folders, its database, the files it has just written. It says what is
//! wrong and what to do, and once that is done, all is well.

use std::fs;

use super::world::{BAD, Report, World, report};
use crate::program::Said;

/// Has a run with this fault; it says each of these, and then the fault is mended and all is well.
#[track_caller]
fn says(world: &World, calm: &Report, code: i32, words: &[&str], more: &[&str]) -> Said {
    let mut command = world.run(&[]);
    command.args(more);
    let said = world.stage.run(command);
    assert_eq!(said.code, code, "{said:?}");
    for words in words {
        assert!(said.err.contains(words), "{words:?} in {said:?}");
    }
    world.assert_still();
    world.unfake();
    assert_eq!(world.report(), *calm, "after {said:?}");
    world.assert_tidy();
    world.forget();
    said
}

#[test]
fn an_evaluator_that_is_none() {
    let world = World::new();
    let calm = world.report();
    world.forget();
    let unless_version = |body: &str| format!("case \"$*\" in *--version) ;; *) {body};; esac");
    let when_writing = |body: &str| format!("case \"$*\" in *--read-write-mode*) {body};; esac");
    let cannot = "could not be evaluated to its end";
    let unwritten = "could not be written";
    for (body, words) in [
        ("exit 1".into(), ["nix-instantiate --version", "exit code 1"]),
        ("kill -9 $$".into(), ["nix-instantiate --version", "killed by signal 9"]),
        (unless_version("echo garbage; exit 0"), [cannot, "garbage"]),
        (
            unless_version("head -c 99999 /dev/urandom >&2; exit 0"),
            [cannot, "see that the Nix on the PATH works"],
        ),
        (unless_version("echo error: it is no good >&2; exit 1"), ["it is no good", "repair it"]),
        (unless_version("kill -9 $$"), [cannot, "see what ends evaluators here"]),
        (unless_version("exec sleep 600"), [cannot, "raise --timeout"]),
        (when_writing("echo garbage; exit 0"), [unwritten, "see that the Nix on the PATH works"]),
        (when_writing("kill -9 $$"), [unwritten, "see what ends evaluators here"]),
        (when_writing("exec sleep 600"), [unwritten, "raise --timeout"]),
    ] {
        world.fake("nix-instantiate", &body);
        // Who hangs after the first pass must not be hung up on in it.
        let timeout = match body.contains("sleep") {
            true if body.contains("write-mode") => "10s",
            true => "4s",
            false => "60s",
        };
        let said = says(&world, &calm, 3, &words, &["--timeout", timeout]);
        assert!(said.err.len() < 4_000, "{body}: {}", said.err.len());
    }
}

/// One that is killed once, before it came to anything or in the middle, is followed by another.
#[test]
fn an_evaluator_that_is_killed() {
    let world = World::new();
    let calm = world.report();
    let once = |n: u32| format!("! mkdir {} 2> /dev/null", world.stage.path(&format!("once{n}")).display());
    for (n, body) in [
        (1, "kill -9 $$"),
        (2, "$real \"$@\" 2>&1 > /dev/null | head -c 700 >&2; kill -9 $$"),
        (3, "$real \"$@\" 2>&1 > /dev/null | head -n 5 >&2; kill -9 $$"),
    ] {
        world.forget();
        world.fake(
            "nix-instantiate",
            &format!("case \"$*\" in *--version) ;; *) {} || {{ {body}; }};; esac", once(n)),
        );
        assert_eq!(world.report(), calm, "{body}");
        assert!(world.stage.path(&format!("once{n}")).exists());
        world.assert_tidy();
    }
}

#[test]
fn programs_that_are_missing() {
    let world = World::new();
    let calm = world.report();
    world.forget();
    for program in ["git", "nix-instantiate"] {
        for other in ["git", "nix-instantiate", "nix-store"] {
            world.fake(other, "");
        }
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ekaci"), world.stage.path("bin/ekaci")).unwrap();
        let only = world.stage.path("bin");
        let file = only.join(program);
        let run = || {
            let mut command = world.run(&[]);
            command.env("PATH", &only);
            world.stage.run(command)
        };
        // There, but nothing that can be started.
        world.stage.script("", &format!("chmod -x bin/{program}"));
        let said = run();
        fs::remove_file(&file).unwrap();
        for said in [said, run()] {
            assert_eq!(said.code, 3, "{said:?}");
            assert!(said.err.contains(&format!("cannot find the program {program}")), "{said:?}");
            assert!(said.err.contains("install it"), "{said:?}");
        }
        world.unfake();
        assert_eq!(world.report(), calm);
        world.assert_tidy();
    }
}

#[test]
fn a_git_that_fails_or_talks_nonsense() {
    let world = World::new();
    let calm = world.report();
    world.forget();
    for (body, words) in [
        ("case \"$*\" in *cat-file*) kill -9 $$;; esac", "could not"),
        (
            "case \"$*\" in *cat-file*) $real \"$@\" | head -c 200; exit 0;; esac",
            "git 2.31 or later is needed",
        ),
        ("case \"$*\" in *rev-parse*|*ls-tree*) head -c 5000 /dev/urandom; exit 0;; esac", "could not"),
    ] {
        world.fake("git", body);
        let said =
            says(&world, &calm, 3, &[words, &world.stage.path("repository").display().to_string()][..1], &[]);
        assert!(said.err.len() < 2_000, "{body}: {}", said.err.len());
    }
    world.fake("git", "head -c 5000 /dev/urandom; exit 0");
    let said = world.stage.run(world.run(&[]));
    assert!(said.code != 0 && said.code != BAD && said.err.len() < 2_000, "{said:?}");
}

#[test]
fn folders_that_are_none() {
    let mut world = World::new();
    let calm = world.report();
    let fault = |making: &str| {
        world.forget();
        world.stage.script("", &format!("mkdir -p home/.local/state home/.cache; {making}"));
        let said = world.stage.run(world.run(&[]));
        world.stage.script("", "rm -rf home/.local home/.cache");
        said
    };
    for (making, variable) in [
        ("echo 1 > home/.local/state/ekaci", "XDG_STATE_HOME"),
        ("echo 1 > home/.cache/ekaci", "XDG_CACHE_HOME"),
        ("ln -s nowhere home/.cache/ekaci", "XDG_CACHE_HOME"),
    ] {
        let said = fault(making);
        assert_eq!(said.code, 3, "{said:?}");
        assert!(said.err.contains("cannot make the folder") && said.err.contains(variable), "{said:?}");
    }
    // A link to a folder is a folder, and what is somebody else's is not touched.
    let said = fault("mkdir -p elsewhere; ln -s ../../elsewhere home/.cache/ekaci");
    assert_eq!(report(&said), calm);
    let said =
        fault("mkdir -p home/.cache/ekaci/checkouts/trees; echo 1 > home/.cache/ekaci/checkouts/trees/mine");
    assert!(said.code == 3 && said.err.contains("is no folder of checkouts"), "{said:?}");
    world.places = vec![("HOME", "/proc".into())];
    let said = world.stage.run(world.run(&[]));
    assert!(said.code == 3 && said.err.contains("XDG_STATE_HOME"), "{said:?}");
}

#[test]
fn a_database_that_is_none() {
    let world = World::new();
    let calm = world.report();
    let anew = "once it is moved away, it is made anew";
    let file = world.database();
    let newer = |bytes: &mut Vec<u8>| bytes[60..64].copy_from_slice(&99_u32.to_be_bytes()); // where SQLite has its user_version
    type Harm<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cases: [(Harm<'_>, &[&str]); 4] = [
        (&|bytes| bytes.fill(7), &["is not an SQLite database", anew]),
        (&|bytes| bytes[100..].fill(7), &["is damaged", anew]),
        (&|bytes| bytes.truncate(5_000), &["is damaged", anew]),
        (&newer, &["has schema 99", "start the newer version"]),
    ];
    for (harm, words) in cases {
        let mut bytes = fs::read(&file).unwrap();
        harm(&mut bytes);
        fs::write(&file, bytes).unwrap();
        let said = world.stage.run(world.run(&[]));
        assert_eq!(said.code, 3, "{said:?}");
        for words in words.iter().chain([&file.to_str().unwrap()]) {
            assert!(said.err.contains(words), "{words:?} in {said:?}");
        }
        // As the message says.
        fs::remove_file(&file).unwrap();
        assert_eq!(world.report(), calm);
        world.assert_tidy();
    }
}

/// Derivations are collected after they were written and before they are read.
#[test]
fn derivations_that_are_collected_meanwhile() {
    let world = World::new();
    let calm = world.report();
    for times in [1, 2] {
        world.forget();
        let once: Vec<String> = (0..times)
            .map(|n| format!("mkdir {} 2> /dev/null", world.stage.path(&format!("gone{times}{n}")).display()))
            .collect();
        let body = format!(
            "case \"$*\" in *--read-write-mode*) if {}; then $real \"$@\"; end=$?; nix-store --gc > /dev/null 2>&1; exit $end; fi;; esac",
            once.join(" || ")
        );
        world.fake("nix-instantiate", &body);
        assert_eq!(world.report(), calm, "{times} times");
    }
    // Each time: what could not be looked at is said.
    world.forget();
    let body = "case \"$*\" in *--read-write-mode*) $real \"$@\"; end=$?; nix-store --gc > /dev/null 2>&1; exit $end;; esac";
    world.fake("nix-instantiate", body);
    let said = world.stage.run(world.run(&[]));
    assert_eq!(said.code, BAD, "{said:?}");
    assert!(said.out.contains("were not there to look at"), "{said:?}");
    world.unfake();
    assert_eq!(world.report(), calm);
    world.assert_tidy();
}
