//! Where paths come from, and what becomes of words that are none.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use hook_wire::{FRAME_MAX, Source, Status};

use crate::harness::{DEV, DRV, HELLO, Hook, Program};
use crate::on_both;
use crate::server::{Manner, Server};

fn queued(hook: &Hook) -> Server {
    Server::start(&hook.socket(), Manner::ack(Status::Queued, ""))
}

fn an_empty_out_paths_sends_the_derivation(program: Program) {
    for out_paths in [Some(""), Some(" \n"), None] {
        let hook = Hook::new(program).env("DRV_PATH", DRV).arg("--strict");
        let hook = out_paths.iter().fold(hook, |hook, list| hook.env("OUT_PATHS", list));
        let server = queued(&hook);
        hook.run().is_silent();
        let said = server.only();
        assert_eq!((said.source, said.drv.as_deref(), said.paths.len()), (Source::Hook, Some(DRV), 0));
    }
}

fn paths_without_a_derivation(program: Program) {
    let hook = Hook::new(program).env("OUT_PATHS", format!("\t{HELLO}  {DEV}\n")).arg("--strict");
    let server = queued(&hook);
    hook.run().is_silent();
    let said = server.only();
    assert_eq!((said.drv, said.paths), (None, vec![HELLO.into(), DEV.into()]));
}

fn nothing_at_all_is_said(program: Program) {
    let hook = Hook::new(program);
    let outcome = hook.run();
    assert_eq!(outcome.code, 0);
    assert_eq!(
        outcome.stderr,
        "eka-hook: nothing to queue: no path was given \
         (OUT_PATHS and DRV_PATH are empty or not set; see eka-hook --help)\n"
    );
    assert_eq!(hook.arg("--strict").run().code, 2);
}

fn arguments_stand_alone(program: Program) {
    let hook = Hook::new(program).env("OUT_PATHS", DEV).env("DRV_PATH", DRV).args(["--strict", HELLO]);
    let server = queued(&hook);
    hook.run().is_silent();
    let said = server.only();
    assert_eq!((said.source, said.drv, said.paths), (Source::Hook, None, vec![HELLO.into()]));
}

fn standard_input_adds_to_arguments(program: Program) {
    let hook = Hook::new(program).args([HELLO, "-", "--strict"]).stdin(format!("  {DEV}\r\n\n{HELLO}\t"));
    let server = queued(&hook);
    hook.run().is_silent();
    assert_eq!(server.only().paths, [HELLO, DEV, HELLO]);
}

fn an_empty_standard_input_is_said(program: Program) {
    let outcome = Hook::new(program).args(["-", "--strict"]).stdin(" \n").run();
    assert_eq!(outcome.code, 0);
    assert_eq!(outcome.stderr, "eka-hook: nothing to queue: no path was given (standard input is empty)\n");
}

fn many(count: usize) -> (String, usize) {
    let mut list = String::new();
    for number in 0..count {
        writeln!(list, "/nix/store/{number:032}-path-number-{number}").unwrap();
    }
    (list, count)
}

fn a_hundred_thousand_paths_wait_as_one_file(program: Program) {
    let (list, count) = many(100_000);
    let hook = Hook::new(program).args(["-", "--strict", "--tag", "many"]).stdin(list.clone());
    let server = queued(&hook);
    hook.run().is_silent();
    let spooled = hook.spooled();
    assert_eq!((spooled.len(), server.heard().len()), (1, 0));
    assert_eq!((spooled[0].paths.len(), spooled[0].tag.as_deref()), (count, Some("many")));
    assert!(spooled[0].paths.iter().map(String::as_str).eq(list.lines()));
}

fn what_just_fits_a_message_is_sent(program: Program) {
    // The fields in front of the paths have 52 bytes: header 12, key 21, source 6, time 13.
    let one = 5 + "/nix/store/-".len() + 32;
    let count = (FRAME_MAX - 52) / 248;
    let path = |number: usize, len: usize| format!("/nix/store/{number:032}-{}", "n".repeat(len + 5 - one));
    let rest = FRAME_MAX - 52 - count * 248;
    for more in [0, 1] {
        let mut list: Vec<String> = (1..count).map(|number| path(number, 243)).collect();
        list.push(path(0, 243 - 100));
        list.push(path(0, rest + 100 - 5 + more));
        let hook = Hook::new(program).args(["-", "--strict"]).stdin(list.join(" "));
        let server = queued(&hook);
        hook.run().is_silent();
        assert_eq!((server.heard().len(), hook.spooled().len()), (1 - more, more));
    }
}

fn the_longest_environment_nix_can_give_is_kept(program: Program) {
    let (list, count) = many(1_800);
    let list = list.replace('\n', " ");
    assert!(list.len() > FRAME_MAX && list.len() < 128 << 10);
    let hook = Hook::new(program).env("OUT_PATHS", list).env("DRV_PATH", DRV).arg("--strict");
    hook.run().is_silent();
    assert_eq!(hook.spooled()[0].paths.len(), count);
}

fn hostile_words_are_named_and_the_good_ones_go(program: Program) {
    let words: [&[u8]; 10] = [
        b"*",
        b"/nix/store/*",
        b"/nix/store/../../etc/shadow",
        b"",
        b"$(touch /tmp/x)",
        b"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a\nb",
        b"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-\xff\xfe",
        b"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello/bin/hello",
        b"./result",
        b"\x1b]0;title\x07",
    ];
    let hook = words.iter().fold(Hook::new(program), |hook, word| hook.arg(OsStr::from_bytes(word)));
    let hook = hook.arg(HELLO).args(["--", "--socket", "-rf", "-"]);
    let server = queued(&hook);
    let outcome = hook.run();
    assert_eq!(outcome.code, 0);
    assert_eq!(server.only().paths, [HELLO]);
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 13, "{}", outcome.stderr);
    assert!(lines.iter().all(|line| line.starts_with("eka-hook: '") && line.contains("' is no store path")));
    assert!(outcome.stderr.contains("-a\\x0ab'") && outcome.stderr.contains("-\\xff\\xfe'"));
    assert!(!outcome.stderr.contains(['\u{1b}', '\u{7}']));
    assert_eq!(hook.env("EKA_HOOK_STRICT", "1").run().code, 1);
}

fn a_bad_derivation_does_not_hold_good_paths(program: Program) {
    for (drv, words) in [(HELLO, "does not end in .drv"), ("hello.drv", "does not begin with a slash")] {
        let hook = Hook::new(program).env("OUT_PATHS", HELLO).env("DRV_PATH", drv);
        let server = queued(&hook);
        let outcome = hook.run();
        assert_eq!(outcome.code, 0);
        assert!(outcome.stderr.starts_with("eka-hook: DRV_PATH '") && outcome.stderr.contains(words));
        assert_eq!((server.only().drv, server.only().paths), (None, vec![HELLO.into()]));
    }
}

fn a_thousand_bad_words_are_not_a_thousand_lines(program: Program) {
    let outcome = Hook::new(program).args(["-", "--strict"]).stdin("nonsense ".repeat(1000)).run();
    assert_eq!(outcome.code, 1);
    assert_eq!(outcome.stderr.lines().count(), 21);
    assert!(outcome.stderr.ends_with("eka-hook: 980 more words are no store paths and are not queued\n"));
}

fn destinations_go_along(program: Program) {
    let hook = Hook::new(program).args([HELLO, "--destination", "main", "--destination=b.2", "--strict"]);
    let server = queued(&hook);
    hook.run().is_silent();
    assert_eq!(server.only().destinations, ["main", "b.2"]);
}

fn a_bad_destination_never_widens_a_request(program: Program) {
    let hook = Hook::new(program).args([HELLO, "--destination", "my cache"]);
    let server = queued(&hook);
    let outcome = hook.run();
    assert_eq!((outcome.code, server.heard().len(), hook.spooled().len()), (0, 0, 0));
    assert_eq!(outcome.stderr.lines().count(), 2, "{}", outcome.stderr);
    let hook = hook.args(["--destination", "good", "--strict"]);
    assert_eq!(hook.run().code, 2);
    assert_eq!(server.only().destinations, ["good"]);
}

fn too_many_destinations_are_named(program: Program) {
    let hook = (0..65).fold(Hook::new(program).arg(HELLO), |hook, n| hook.arg(format!("--destination=d{n}")));
    let server = queued(&hook);
    let outcome = hook.run();
    assert!(
        outcome.stderr.contains("--destination 'd64' is left out: give at most 64"),
        "{}",
        outcome.stderr
    );
    assert_eq!(server.only().destinations.len(), 64);
}

on_both! {
    an_empty_out_paths_sends_the_derivation
    paths_without_a_derivation
    nothing_at_all_is_said
    arguments_stand_alone
    standard_input_adds_to_arguments
    an_empty_standard_input_is_said
    a_hundred_thousand_paths_wait_as_one_file
    what_just_fits_a_message_is_sent
    the_longest_environment_nix_can_give_is_kept
    hostile_words_are_named_and_the_good_ones_go
    a_bad_derivation_does_not_hold_good_paths
    a_thousand_bad_words_are_not_a_thousand_lines
    destinations_go_along
    a_bad_destination_never_widens_a_request
    too_many_destinations_are_named
}
