//! What a run leaves: no process, and a work tree as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ci_model::outcome::Progress;
use ci_server::pipeline;
use ci_server::pipeline::{Base, RunError};
use service_kit::shutdown::Stop;

use super::{World, runtime};

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
