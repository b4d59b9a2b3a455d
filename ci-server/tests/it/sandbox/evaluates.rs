//! Whole evaluations of outsiders' code, inside: both passes give what they give outside.

use std::collections::BTreeMap;
use std::time::Duration;

use ci_server::evaluate::{self, Doors, Event, Limits, Nix, Pass, Request, Share, What};
use ci_server::sandbox::Keeper;
use nix_types::AttrPath;
use service_kit::clock::Clock;

use super::nix::Daemon;
use super::support::Stage;
use crate::evaluate::gate::{kill_readers, waits_at_pipes};

pub(crate) fn request(stage: &Stage, nix: Nix) -> Request {
    Request {
        folder: stage.checkout(),
        what: What::File { path: "default.nix".into(), attr_path: AttrPath::root() },
        systems: None,
        skip: Vec::new(),
        is_trusted: false,
        allow_ifd: false,
        allowed_uris: Vec::new(),
        limits: Limits {
            memory_bytes: 1 << 30,
            wall: Duration::from_secs(60),
            attr_wall: Duration::from_secs(20),
            ..Limits::default()
        },
        nix,
    }
}

/// Attributes, each with its derivation or with its error.
pub(crate) async fn told(request: &Request, pass: &Pass, keeper: &Keeper) -> BTreeMap<String, String> {
    let share = Share::new(2, 4 << 30, Clock::system());
    let doors = Doors { confine: keeper, share: &share };
    let mut told = BTreeMap::new();
    let mut hear = |event: Event| match event {
        Event::Attr(attr) => {
            told.insert(attr.path.to_string(), attr.drv.to_string());
        }
        Event::Error(error) => {
            told.insert(error.path.to_string(), error.message);
        }
        Event::Known(_) | Event::Begin(_) | Event::OtherSystem(_) | Event::Held(_) | Event::Memory { .. } => {
        }
    };
    evaluate::run(request, pass, doors, std::future::pending(), &mut hear).await.unwrap();
    told
}

#[tokio::test]
async fn both_passes_give_the_same_inside() {
    let Some(stage) = Stage::set().await else { return };
    let Some(daemon) = Daemon::start("sandbox = true") else { return };
    let secret = stage.secret();
    stage.write(
        "default.nix",
        &format!(
            r#"let job = name: derivation {{ inherit name; system = "x86_64-linux"; builder = "/bin/sh"; src = ./default.nix; }};
            in {{ a = job "a"; b = job "b"; stolen = job (builtins.readFile {}); no = throw "not today"; }}"#,
            secret.display()
        ),
    );
    let keeper = daemon.keeper(&stage);
    let nix = Nix {
        env: daemon.variables(),
        options: vec![("substituters".into(), String::new())],
        ..Nix::default()
    };
    let request = request(&stage, nix);
    let first = told(&request, &Pass::ReadOnly, &keeper).await;
    assert_eq!(first["no"], "not today");
    assert!(first["a"].ends_with("-a.drv") && first["b"].ends_with("-b.drv"), "{first:?}");
    assert!(!first["stolen"].contains(&stage.canary), "{first:?}");
    assert!(!std::path::Path::new(&first["a"]).exists(), "a pass that only reads wrote {}", first["a"]);
    let second = told(&request, &Pass::Instantiate { only: None }, &keeper).await;
    assert_eq!(first["a"], second["a"]);
    assert!(std::path::Path::new(&second["a"]).exists(), "{} is not written", second["a"]);
}

/// Inside as outside: the next evaluator goes on where it was, and the attribute is not blamed for it.
#[tokio::test]
async fn an_evaluator_that_is_killed_inside_is_followed_by_another() {
    if !waits_at_pipes() {
        return;
    }
    let Some(stage) = Stage::set().await else { return };
    let Some(daemon) = Daemon::start("sandbox = true") else { return };
    let pipe = stage.checkout().join("pipe");
    stage.write(
        "default.nix",
        r#"let job = name: derivation { inherit name; system = "x86_64-linux"; builder = "/bin/sh"; };
        in { a = job "a"; b = builtins.trace "x\nerror: writing to file: No space left on device" (job (builtins.readFile ./pipe)); c = job "c"; }"#,
    );
    let readers = kill_readers(&pipe, 1, Some("b"));
    let nix = Nix { env: daemon.variables(), ..Nix::default() };
    let seen = told(&request(&stage, nix), &Pass::ReadOnly, &daemon.keeper(&stage)).await;
    readers.join().unwrap();
    let names = ["a", "b", "c"];
    assert_eq!(seen.keys().collect::<Vec<_>>(), names, "{seen:?}");
    assert!(names.iter().all(|name| seen[*name].ends_with(&format!("-{name}.drv"))), "{seen:?}");
}
