//! What the hook prints when asked about itself.

use crate::harness::{Hook, Program};
use crate::on_both;

fn help(program: Program) {
    for flag in ["--help", "-h"] {
        let outcome = Hook::new(program).args(["--strict", flag, "--nonsense"]).run();
        assert_eq!(outcome.code, 0);
        insta::assert_snapshot!("help", outcome.stdout);
    }
}

fn version(program: Program) {
    for flag in ["--version", "-V"] {
        let outcome = Hook::new(program).arg(flag).run();
        outcome_is(&outcome.stdout, outcome.code);
        assert_eq!(outcome.stderr, "");
    }
}

fn outcome_is(stdout: &str, code: i32) {
    assert_eq!(code, 0);
    let number = env!("CARGO_PKG_VERSION");
    insta::allow_duplicates! {
        insta::assert_snapshot!(stdout.replace(number, "NUMBER"), @"eka-hook NUMBER (protocol 1)");
    }
}

fn help_names_every_setting_and_code(program: Program) {
    let text = Hook::new(program).arg("--help").run().stdout;
    for word in [
        "/run/eka-queue/enqueue.sock",
        "/var/lib/eka-queue/spool",
        "/etc/eka/hook.conf",
        "EKA_HOOK_SOCKET",
        "EKA_HOOK_SPOOL",
        "EKA_HOOK_TIMEOUT_MS",
        "EKA_HOOK_TAG",
        "EKA_HOOK_STRICT",
        "timeout_ms",
        "--destination",
        "--config-file",
    ] {
        assert!(text.contains(word), "{word}");
    }
    assert!(text.lines().all(|line| line.len() <= 110));
}

on_both! { help version help_names_every_setting_and_code }
