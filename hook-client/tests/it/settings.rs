//! Flags over environment over file over defaults; and what is not understood is named and left out.

use hook_wire::Status;

use crate::harness::{HELLO, Hook, Outcome, Program, spooled};
use crate::on_both;
use crate::server::{Manner, Server};

/// The tag a hook with these settings sends, and what it said.
fn tag(hook: &Hook) -> (Option<String>, Outcome) {
    let server = Server::start(&hook.socket(), Manner::ack(Status::Queued, ""));
    let outcome = hook.run();
    std::fs::remove_file(hook.socket()).unwrap();
    (server.only().tag, outcome)
}

fn the_file_is_read(program: Program) {
    let hook = Hook::new(program).bare().arg(HELLO);
    let (socket, spool) = (hook.socket(), hook.dir.path().join("s p"));
    let conf = format!(
        "# settings\r\n\r\n  socket   =   {}\r\nspool = \"{}\"  # quoted\n\
         tag = from # file \n\ttimeout_ms=20000\nstrict=yes",
        socket.display(),
        spool.display()
    );
    let hook = hook.conf(&conf);
    hook.run().is_silent();
    assert_eq!(spooled(&spool)[0].tag.as_deref(), Some("from"));
    let server = Server::start(&socket, Manner::ack(Status::Refused, "no"));
    assert_eq!(hook.run().code, 1, "strict");
    assert_eq!(server.heard().len(), 1);
}

fn the_environment_wins_over_the_file_and_flags_win_over_both(program: Program) {
    let hook = Hook::new(program).arg(HELLO).conf("tag = file\n");
    assert_eq!(tag(&hook).0.as_deref(), Some("file"));
    let hook = Hook::new(program).arg(HELLO).conf("tag = file\n").env("EKA_HOOK_TAG", "variable");
    assert_eq!(tag(&hook).0.as_deref(), Some("variable"));
    let hook = Hook::new(program).arg(HELLO).conf("tag = file\n").env("EKA_HOOK_TAG", "variable");
    let hook = hook.args(["--tag", "first", "--tag=flag"]);
    assert_eq!(tag(&hook).0.as_deref(), Some("flag"));
    let hook = Hook::new(program).arg(HELLO).conf("tag = file\n").env("EKA_HOOK_TAG", "");
    assert_eq!(tag(&hook).0.as_deref(), Some("file"), "an empty variable is none");
    let hook = Hook::new(program).arg(HELLO).conf("tag = file\n").arg("--tag=");
    assert_eq!(tag(&hook).0, None, "an empty flag takes the tag away");
}

fn variables_name_socket_spool_and_strictness(program: Program) {
    let hook = Hook::new(program).bare().arg(HELLO);
    let (socket, spool) = (hook.socket(), hook.dir.path().join("elsewhere"));
    let hook =
        hook.env("EKA_HOOK_SOCKET", &socket).env("EKA_HOOK_SPOOL", &spool).env("EKA_HOOK_STRICT", "on");
    hook.run().is_silent();
    assert_eq!(spooled(&spool).len(), 1);
    let _server = Server::start(&socket, Manner::ack(Status::Refused, "no"));
    assert_eq!(hook.run().code, 1);
    assert_eq!(hook.arg("--strict=false").run().code, 0, "the flag wins");
}

fn the_timeout_comes_from_any_place(program: Program) {
    for hook in [
        Hook::new(program).arg("--timeout-ms=600"),
        Hook::new(program).env("EKA_HOOK_TIMEOUT_MS", "600"),
        Hook::new(program).conf("timeout_ms = 600"),
    ] {
        let hook = hook.hurried().arg(HELLO);
        let _server = Server::start(&hook.socket(), Manner::Silent);
        assert!(hook.run().took.as_millis() >= 590);
    }
}

fn bad_values_are_named_and_left_out(program: Program) {
    let hook = Hook::new(program).arg(HELLO).conf("tag = ok\ntimeout_ms = soon\n");
    let hook =
        hook.env("EKA_HOOK_TIMEOUT_MS", "0").env("EKA_HOOK_STRICT", "maybe").env("EKA_HOOK_TAG", "a\tb");
    let (tag, outcome) = tag(&hook.hurried().args(["--timeout-ms", "60001"]));
    assert_eq!((tag.as_deref(), outcome.code), (Some("ok"), 0));
    let stderr = outcome.stderr.replace(hook_conf(&outcome.stderr), "CONF");
    insta::allow_duplicates! { insta::assert_snapshot!(stderr, @r"
    eka-hook: timeout_ms '60001' (--timeout-ms) is left out: give a whole number of milliseconds from 1 to 60000
    eka-hook: timeout_ms '0' (EKA_HOOK_TIMEOUT_MS) is left out: give a whole number of milliseconds from 1 to 60000
    eka-hook: timeout_ms 'soon' (line 2 of CONF) is left out: give a whole number of milliseconds from 1 to 60000
    eka-hook: tag 'a\x09b' (EKA_HOOK_TAG) is left out: give at most 256 bytes of printable UTF-8 in one line
    eka-hook: strict 'maybe' (EKA_HOOK_STRICT) is left out: give true or false
    ") }
}

/// The path of the file of settings as a line names it.
fn hook_conf(stderr: &str) -> &str {
    let rest = &stderr[stderr.find(" of /").unwrap() + 4..];
    &rest[..rest.find("hook.conf").unwrap() + "hook.conf".len()]
}

fn bad_lines_of_the_file_are_named(program: Program) {
    let hook = Hook::new(program).arg(HELLO);
    let hook = hook.conf("tag = ok\nnonsense\nsokcet = /x\nspool = \"/open\ntag = \"a\" b\n");
    let (tag, outcome) = tag(&hook);
    assert_eq!((tag.as_deref(), outcome.code), (Some("ok"), 0));
    let stderr = outcome.stderr.replace(hook_conf(&outcome.stderr), "CONF");
    insta::allow_duplicates! { insta::assert_snapshot!(stderr, @r#"
    eka-hook: 'nonsense' (line 2 of CONF) is left out: write it as key = value
    eka-hook: key 'sokcet' (line 3 of CONF) is left out: the keys are socket, spool, timeout_ms, tag and strict
    eka-hook: 'spool = "/open' (line 4 of CONF) is left out: write it as key = value
    eka-hook: 'tag = "a" b' (line 5 of CONF) is left out: write it as key = value
    "#) }
    assert_eq!(self::tag(&hook.arg("--strict")).1.code, 2);
}

fn a_named_file_has_to_be_there(program: Program) {
    let hook = Hook::new(program).args([HELLO, "--config-file", "/nowhere/hook.conf"]);
    let (_, outcome) = tag(&hook);
    assert_eq!(outcome.code, 0);
    assert_eq!(
        outcome.stderr,
        "eka-hook: settings /nowhere/hook.conf are left out: no such file or folder; \
         repair the file or --config-file\n"
    );
    let hook = Hook::new(program).args([HELLO, "--strict", "--config-file", "/"]);
    assert_eq!(tag(&hook).1.code, 2);
}

fn unknown_flags_are_named(program: Program) {
    let hook = Hook::new(program).args(["--sokcet=/x", "-q", "--help=yes", HELLO, "--spool"]);
    let (_, outcome) = tag(&hook);
    assert_eq!(outcome.code, 0);
    insta::allow_duplicates! { insta::assert_snapshot!(outcome.stderr, @r"
    eka-hook: flag --sokcet is left out: it does not exist; see eka-hook --help
    eka-hook: flag -q is left out: it does not exist; see eka-hook --help
    eka-hook: flag --help is left out: it takes no value; give --help alone
    eka-hook: flag --spool is left out: its value is missing; give --spool VALUE
    ") }
}

fn the_worst_trouble_is_the_code(program: Program) {
    let lost = Hook::new(program).args(["--strict", "--nonsense", "bad", HELLO, "--spool", "/proc/x/y"]);
    assert_eq!(lost.run().code, 3);
    let refused = Hook::new(program).args(["--strict", "--nonsense", "bad", HELLO]);
    assert_eq!(refused.run().code, 1);
    let usage = Hook::new(program).args(["--strict", "--nonsense", HELLO]);
    assert_eq!(usage.run().code, 2);
    assert_eq!(Hook::new(program).args(["--strict", HELLO]).run().code, 0);
}

on_both! {
    the_file_is_read
    the_environment_wins_over_the_file_and_flags_win_over_both
    variables_name_socket_spool_and_strictness
    the_timeout_comes_from_any_place
    bad_values_are_named_and_left_out
    bad_lines_of_the_file_are_named
    a_named_file_has_to_be_there
    unknown_flags_are_named
    the_worst_trouble_is_the_code
}
