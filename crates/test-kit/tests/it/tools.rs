//! The small tools: they hold what they promise, also when the test they serve fails.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use test_kit::proc::{Guard, this_test_binary};
use test_kit::tmpfs::Tmpfs;
use test_kit::{script, seed, wait};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_child_is_gone_when_its_guard_goes() {
    let mut guard = Guard::spawn(&mut this_test_binary("tools::child_that_waits_for_ever")).unwrap();
    let proc = format!("/proc/{}", guard.pid());
    assert!(std::fs::exists(&proc).unwrap());
    assert!(guard.child().try_wait().unwrap().is_none());
    drop(guard);
    assert!(!std::fs::exists(&proc).unwrap());
}

#[test]
#[ignore = "run as a child by the test above, which kills it"]
fn child_that_waits_for_ever() {
    loop {
        std::thread::park();
    }
}

/// Were it written by the test's own process, one of some hundreds could not be started.
#[test]
fn a_script_can_be_started_at_once_also_while_others_are_started() {
    let folder = tempfile::tempdir().unwrap();
    // Who it is to run as is said, so that it is forked and executes its program only then.
    let own = std::fs::metadata(folder.path()).unwrap().uid();
    let churn = || (0..300).all(|_| program(Path::new("true")).uid(own).status().unwrap().success());
    std::thread::scope(|scope| {
        let others = [scope.spawn(churn), scope.spawn(churn), scope.spawn(churn)];
        while others.iter().any(|other| !other.is_finished()) {
            let path = folder.path().join("script");
            script::write(&path, "#!/bin/sh\nexit 7\n");
            assert_eq!(program(&path).status().unwrap().code(), Some(7));
        }
        assert!(others.into_iter().all(|other| other.join().unwrap()));
    });
}

#[expect(clippy::disallowed_methods, reason = "tests wait for it where they start it")]
fn program(path: &Path) -> Command {
    Command::new(path)
}

#[test]
fn a_tmpfs_fills_and_is_unmounted() {
    let tmpfs = match Tmpfs::mount(256 * 1024) {
        Ok(tmpfs) => tmpfs,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let path = tmpfs.path().to_path_buf();
    let ballast = tmpfs.fill().unwrap();
    assert!(std::fs::write(path.join("more"), [0; 8192]).is_err());
    ballast.remove().unwrap();
    std::fs::write(path.join("more"), [0; 8192]).unwrap();
    drop(tmpfs);
    assert!(!path.exists());
}

#[test]
#[should_panic(expected = "did not come to hold")]
fn waiting_for_what_never_comes_fails() {
    wait::until(Duration::from_millis(10), || false);
}

#[test]
fn waiting_ends_when_the_condition_holds() {
    let mut asked = 0;
    wait::until(SOON, || {
        asked += 1;
        asked == 3
    });
    assert_eq!(asked, 3);
}

#[test]
fn a_failing_test_prints_the_seed_that_repeats_it() {
    let command = || this_test_binary("tools::child_that_fails_with_a_seed");
    let output = command().env("EKA_TEST_SEED", "77").output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("repeat this run with EKA_TEST_SEED=77"), "{text}");
}

#[test]
#[ignore = "run as a child by the test above, which expects it to fail"]
fn child_that_fails_with_a_seed() {
    let mut seeded = seed::start();
    assert_eq!(seeded.rng.next_u64(), 0, "no seed gives this but one");
}
