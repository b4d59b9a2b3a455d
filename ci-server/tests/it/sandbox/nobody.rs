//! The same tests by a user who is not root: bubblewrap then makes a user namespace first, and gives no rights up.
#![expect(clippy::disallowed_methods, reason = "tests start what they test")]

use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

use super::support::open;

/// Tests that need no rights: by the beginning of their names.
const TESTS: [&str; 3] = ["sandbox::sees::", "sandbox::holds::", "sandbox::hostile::no_"];
/// A user who owns nothing.
const USER: u32 = 65534;

#[test]
fn all_of_it_holds_for_a_user_who_is_not_root() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: we are not root, so the tests themselves show it");
        return;
    }
    let home = tempfile::Builder::new().prefix("eka-home-").tempdir().unwrap();
    open(home.path(), 0o700);
    chown(home.path(), Some(USER), Some(USER)).unwrap();
    let ids = [format!("--reuid={USER}"), format!("--regid={USER}"), "--clear-groups".to_owned()];
    let binary = std::env::current_exe().unwrap();
    let reachable = Command::new("setpriv").args(&ids).args(["test", "-x"]).arg(&binary).status().unwrap();
    if !reachable.success() {
        println!("SKIPPED: the user nobody cannot reach {}", binary.display());
        return;
    }
    let mut tests = Command::new("setpriv");
    tests.args(&ids).arg(&binary).args(TESTS).args(["--test-threads=2", "--nocapture"]);
    let output = tests.env("HOME", home.path()).env("TMPDIR", "/tmp").output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // A user has no control groups of its own, unless systemd handed some down.
    let skipped: Vec<&str> = said.lines().filter(|line| line.contains("SKIPPED")).collect();
    assert!(skipped.iter().all(|line| line.contains("no place for control groups")), "{said}");
    assert!(said.contains("test result: ok. 14 passed"), "{said}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "a test left something in its home");
}
