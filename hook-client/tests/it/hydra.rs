//! Hydra's file: what is taken out of it, and that no text whatever gets the better of its reader.

use eka_hook::hydra;
use hook_wire::{Source, Status};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{DEV, DRV, HELLO, Hook, Outcome, Program, Said};
use crate::on_both;
use crate::server::{Manner, Server};

fn finished_build() -> Value {
    json!({
        "event": "buildFinished", "build": 42, "finished": true, "timestamp": 1_700_000_000,
        "project": "home",
        "jobset": "main", "job": "hello.x86_64-linux", "drvPath": DRV, "buildStatus": 0, "startTime": 1.5e3,
        "nixName": "hello-2.12", "metrics": [{"name": "m", "unit": null, "value": -0.5}], "products": [],
        "outputs": [{"name": "out", "path": HELLO}, {"path": DEV, "name": "dev", "more": {"path": "/no"}}],
    })
}

/// What a hook with this file says to the daemon and on standard error.
fn queued(program: Program, text: &str, more: &[&str]) -> (Vec<Said>, Outcome) {
    let hook = Hook::new(program).env("OUT_PATHS", "/ignored").args(["--hydra-json", "hydra.json"]);
    let hook = hook.args(more.iter().copied());
    std::fs::write(hook.dir.path().join("hydra.json"), text).unwrap();
    let server = Server::start(&hook.socket(), Manner::ack(Status::Queued, ""));
    let outcome = hook.run();
    (server.heard(), outcome)
}

fn outputs_derivation_and_tag_are_taken(program: Program) {
    for text in [finished_build().to_string(), serde_json::to_string_pretty(&finished_build()).unwrap()] {
        let (heard, outcome) = queued(program, &text, &["--strict"]);
        outcome.is_silent();
        assert_eq!((heard.len(), heard[0].source), (1, Source::Hydra));
        assert_eq!(
            (heard[0].drv.as_deref(), &heard[0].paths[..]),
            (Some(DRV), &[HELLO.into(), DEV.into()][..])
        );
        assert_eq!(heard[0].tag.as_deref(), Some("home:main:hello.x86_64-linux"));
    }
    let (heard, _) = queued(program, &finished_build().to_string(), &["--tag", "mine"]);
    assert_eq!(heard[0].tag.as_deref(), Some("mine"));
}

fn escapes_are_resolved(program: Program) {
    let text = finished_build().to_string().replace("/nix/store", "\\/nix\\u002fst\\u006Fre");
    let text = text.replace("home", "h\\u00f6me \\uD83D\\uDE00").replace("\"path\"", "\"p\\u0061th\"");
    let (heard, outcome) = queued(program, &text, &["--strict"]);
    outcome.is_silent();
    assert_eq!(heard[0].paths, [HELLO, DEV]);
    assert_eq!(heard[0].tag.as_deref(), Some("höme 😀:main:hello.x86_64-linux"));
}

fn a_failed_build_has_nothing_to_queue(program: Program) {
    let mut build = finished_build();
    build["buildStatus"] = json!(2);
    let (heard, outcome) = queued(program, &build.to_string(), &["--strict"]);
    assert_eq!((heard.len(), outcome.code), (0, 0));
    assert_eq!(outcome.stderr, "eka-hook: nothing to queue from Hydra: the build's status is 2\n");
    build["buildStatus"] = Value::Null;
    assert_eq!(queued(program, &build.to_string(), &[]).0.len(), 1);
    for (written, queues) in [(json!("0"), 1), (json!("11"), 0), (json!(6), 0), (json!(0), 1)] {
        build["buildStatus"] = written;
        assert_eq!(queued(program, &build.to_string(), &[]).0.len(), queues, "{build}");
    }
}

fn a_build_that_goes_on_has_nothing_to_queue_yet(program: Program) {
    let mut build = finished_build();
    build["event"] = json!("buildStarted");
    build["buildStatus"] = Value::Null;
    for written in [json!(false), json!(0), json!("0")] {
        build["finished"] = written;
        let (heard, outcome) = queued(program, &build.to_string(), &["--strict"]);
        assert_eq!((heard.len(), outcome.code), (0, 0), "{build}");
        assert_eq!(outcome.stderr, "eka-hook: nothing to queue from Hydra: the build is not finished\n");
    }
    for written in [json!(true), json!(1), Value::Null] {
        build["finished"] = written;
        assert_eq!(queued(program, &build.to_string(), &[]).0.len(), 1, "{build}");
    }
}

fn outputs_without_a_path_are_left_out(program: Program) {
    let mut build = finished_build();
    build["outputs"] = json!([{"name": "out", "path": null}, {"name": "dev"}]);
    let (heard, outcome) = queued(program, &build.to_string(), &["--strict"]);
    outcome.is_silent();
    assert_eq!((heard[0].paths.len(), heard[0].drv.as_deref()), (0, Some(DRV)));
    let (heard, outcome) = queued(program, "{}", &["--strict"]);
    assert_eq!((heard.len(), outcome.code), (0, 0));
    let line =
        "eka-hook: nothing to queue: no path was given (Hydra's file names no output and no derivation)\n";
    assert_eq!(outcome.stderr, line);
}

fn bad_paths_and_tags_are_named(program: Program) {
    let mut build = finished_build();
    build["outputs"] = json!([{"path": "a\u{0}b\nc"}, {"path": DEV}]);
    build["job"] = json!("x".repeat(300));
    let (heard, outcome) = queued(program, &build.to_string(), &["--strict"]);
    assert_eq!((&heard[0].paths[..], &heard[0].tag, outcome.code), (&[DEV.into()][..], &None, 1));
    assert!(outcome.stderr.contains("'a\\x00b\\x0ac' is no store path"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("tag 'home:main:xxx"), "{}", outcome.stderr);
}

fn malformed_files_are_named_with_the_place(program: Program) {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(64), "]".repeat(64));
    for (text, words) in [
        ("", "expected an object at byte 0"),
        ("[]", "expected an object at byte 0"),
        ("{\"outputs\": {}}", "expected an array at byte 12"),
        ("{\"outputs\": [\"/x\"]}", "expected an object at byte 13"),
        ("{\"drvPath\": 1}", "expected a string at byte 12"),
        ("{\"buildStatus\": [0]}", "expected a value at byte 16"),
        ("{\"finished\": nope}", "expected a value at byte 13"),
        ("{\"job\": \"a\", \"job\": \"b\"}", "a second \"job\" at byte 19"),
        ("{\"job\": \"a\\ud800\"}", "a malformed string at byte 9"),
        ("{\"job\": \"a\\x\"}", "a malformed string at byte 9"),
        ("{\"job\": \"a", "a malformed string at byte 9"),
        ("{\"job\": \"a\\", "a malformed string at byte 9"),
        ("{\"a\": 1} {}", "text after the end at byte 9"),
        ("{\"a\": 1,}", "expected a string at byte 8"),
        ("{\"a\": 01}", "expected a comma or the end of the object at byte 7"),
        ("{\"a\": nul}", "expected a value at byte 6"),
        (&deep, "nested deeper than 64"),
    ] {
        let (heard, outcome) = queued(program, text, &["--strict"]);
        assert_eq!((heard.len(), outcome.code), (0, 1), "{text}");
        assert!(outcome.stderr.contains(words), "{words} in {}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1);
    }
}

fn an_absent_file_is_named(program: Program) {
    let hook = Hook::new(program).args(["--hydra-json", "nowhere"]);
    let outcome = hook.run();
    let line = "eka-hook: --hydra-json cannot be read, so its paths are not queued: no such file or folder\n";
    assert_eq!((outcome.code, &*outcome.stderr), (0, line));
    assert_eq!(hook.arg("--strict").run().code, 1);
}

on_both! {
    outputs_derivation_and_tag_are_taken
    escapes_are_resolved
    a_failed_build_has_nothing_to_queue
    a_build_that_goes_on_has_nothing_to_queue_yet
    outputs_without_a_path_are_left_out
    bad_paths_and_tags_are_named
    malformed_files_are_named_with_the_place
    an_absent_file_is_named
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Text that is nearly JSON.
fn nearly() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        "[{}\\[\\],: ]",
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just("\"outputs\":".to_owned()),
        Just("\"path\":".to_owned()),
        Just("\"job\":".to_owned()),
        Just("\"a\"".to_owned()),
        "-?[0-9.eE+]{1,4}",
        Just("null".to_owned()),
        Just("\\u00e4".to_owned()),
        Just("\\ud83d\\ude00".to_owned()),
    ];
    proptest::collection::vec(token, 0..24).prop_map(|tokens| format!("{{{}}}", tokens.concat()))
}

/// Whether the hook's reader takes the text.
fn takes(text: &[u8]) -> bool {
    hydra::read(text, &mut vec![0; text.len()]).is_ok()
}

proptest! {
    #[test]
    fn every_object_is_read(
        extra in proptest::collection::btree_map("[a-z]{1,3}x", values(), 0..6),
        pretty: bool,
    ) {
        let mut build = finished_build();
        build.as_object_mut().unwrap().extend(extra);
        let text = if pretty { format!("{build:#}") } else { format!("{build}") };
        let mut room = vec![0; text.len()];
        let read = hydra::read(text.as_bytes(), &mut room).unwrap();
        prop_assert_eq!((read.drv, read.job), (Some(DRV.as_bytes()), Some("hello.x86_64-linux")));
        prop_assert!(read.paths().eq([HELLO.as_bytes(), DEV.as_bytes()]));
    }

    #[test]
    fn every_string_comes_out_as_it_went_in(paths: Vec<String>, job: String) {
        let outputs: Vec<Value> = paths.iter().map(|path| json!({ "path": path })).collect();
        let text = json!({ "outputs": outputs, "job": job }).to_string();
        let mut room = vec![0; text.len()];
        let read = hydra::read(text.as_bytes(), &mut room).unwrap();
        prop_assert_eq!(read.job, Some(&*job));
        prop_assert!(read.paths().eq(paths.iter().map(String::as_bytes)));
    }

    #[test]
    fn nearly_json_is_taken_only_when_it_is_json(text in nearly()) {
        if takes(text.as_bytes()) {
            let read = serde_json::from_str::<Value>(&text);
            let too_big = |error: &serde_json::Error| error.to_string().starts_with("number out of range");
            let agreed = read.as_ref().is_ok_and(Value::is_object) || read.as_ref().is_err_and(too_big);
            prop_assert!(agreed, "{}", text);
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_danger(bytes: Vec<u8>, cut in 0_usize..400) {
        takes(&bytes);
        let text = finished_build().to_string();
        let cut = cut.min(text.len() - 1);
        prop_assert!(!takes(&text.as_bytes()[..cut]));
    }
}
