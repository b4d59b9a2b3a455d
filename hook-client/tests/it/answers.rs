//! What the hook makes of each answer a daemon can give.

use hook_wire::{Source, Status, TEXT_MAX};

use crate::harness::{DEV, DRV, HELLO, Hook, Program};
use crate::on_both;
use crate::server::{Manner, Server, ack};

fn hook(program: Program) -> Hook {
    Hook::new(program).env("OUT_PATHS", format!("{HELLO} {DEV}")).env("DRV_PATH", DRV)
}

fn queued_is_silent(program: Program) {
    let hook = hook(program).arg("--strict");
    let server = Server::start(&hook.socket(), Manner::ack(Status::Queued, ""));
    hook.run().is_silent();
    let said = server.only();
    assert_eq!((said.source, said.drv.as_deref()), (Source::Hook, Some(DRV)));
    assert_eq!((said.paths, said.destinations, said.tag), (vec![HELLO.into(), DEV.into()], vec![], None));
    assert!(said.made_ms > 1_700_000_000_000, "the clock of this machine, in milliseconds");
    assert!(!hook.spool().exists());
}

fn each_request_has_a_key_of_its_own(program: Program) {
    let hook = hook(program);
    let server = Server::start(&hook.socket(), Manner::ack(Status::Queued, ""));
    hook.run().is_silent();
    hook.run().is_silent();
    let heard = server.heard();
    assert_eq!(heard.len(), 2);
    assert_ne!(heard[0].key, heard[1].key);
    assert_ne!(heard[0].key, [0; 16]);
}

fn an_answer_in_pieces_is_an_answer(program: Program) {
    let hook = hook(program);
    let _server = Server::start(&hook.socket(), Manner::Dribble(ack(Status::Queued, "in time")));
    hook.run().is_silent();
    assert!(!hook.spool().exists());
}

fn refused_and_partly_are_said_and_not_spooled(program: Program) {
    for status in [Status::Refused, Status::Partly] {
        let hook = hook(program);
        let _server = Server::start(&hook.socket(), Manner::ack(status, "uid 7 may not\nask root\n"));
        let outcome = hook.run();
        assert_eq!(outcome.code, 0);
        assert_eq!(outcome.stderr, "eka-hook: uid 7 may not\neka-hook: ask root\n");
        assert_eq!(hook.arg("--strict").run().code, 1);
    }
}

fn a_refusal_without_words_is_said(program: Program) {
    let hook = hook(program);
    let _server = Server::start(&hook.socket(), Manner::ack(Status::Refused, ""));
    let outcome = hook.run();
    assert_eq!(outcome.stderr, "eka-hook: eka-queue refused 1 of the request; its log says why\n");
    assert!(!hook.spool().exists());
}

fn the_daemons_words_cannot_move_the_cursor(program: Program) {
    let hook = hook(program);
    let text = "a\u{1b}[2Jb\rc\u{202e}d\u{7}";
    let _server = Server::start(&hook.socket(), Manner::ack(Status::Refused, text));
    assert_eq!(hook.run().stderr, "eka-hook: a\\x1b[2Jb\\x0dc\\xe2\\x80\\xaed\\x07\n");
}

fn long_words_are_cut(program: Program) {
    let hook = hook(program);
    let text = format!("{}\n{}", "ä".repeat(1000), "x\n".repeat(1000));
    assert!(text.len() < TEXT_MAX);
    let _server = Server::start(&hook.socket(), Manner::ack(Status::Refused, &text));
    let stderr = hook.run().stderr;
    assert_eq!(stderr.lines().count(), 21, "{stderr}");
    assert!(stderr.lines().all(|line| line.len() <= 1024 && line.starts_with("eka-hook: ")));
    assert!(stderr.lines().next().unwrap().ends_with("ä…"));
}

fn busy_goes_into_the_spool(program: Program) {
    let hook = hook(program).arg("--strict");
    let server = Server::start(&hook.socket(), Manner::ack(Status::Busy, "come again"));
    hook.run().is_silent();
    assert_eq!(hook.spooled(), [server.only()], "the same request with the same key");
}

fn what_is_no_answer_goes_into_the_spool_and_is_said(program: Program) {
    let good = ack(Status::Queued, "fine");
    let mut other_version = good.clone();
    other_version[4] = 2;
    let mut other_kind = good.clone();
    other_kind[6] = 1;
    let mut endless = good.clone();
    endless[8..12].copy_from_slice(&70_000_u32.to_le_bytes());
    let mut unknown_field = good.clone();
    unknown_field[12] = 200;
    let mut longer = good;
    longer.push(0);
    for (bytes, words) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "first four bytes"),
        (other_version, "protocol version 2"),
        (other_kind, "kind Enqueue is not expected"),
        (endless, "a message of 70012 bytes"),
        (unknown_field, "unknown field 200"),
        (longer, "1 bytes follow"),
    ] {
        let hook = hook(program).arg("--strict");
        let server = Server::start(&hook.socket(), Manner::Answer(bytes));
        let outcome = hook.run();
        assert_eq!(outcome.code, 0, "it is safe in the spool");
        assert!(outcome.stderr.contains(words) && outcome.stderr.contains("waits in"), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1);
        assert_eq!(hook.spooled(), [server.only()]);
    }
}

fn half_an_answer_goes_into_the_spool(program: Program) {
    let whole = ack(Status::Queued, "fine");
    for len in [0, 5, 12, whole.len() - 1] {
        let hook = hook(program).arg("--strict");
        let server = Server::start(&hook.socket(), Manner::Answer(whole[..len].to_vec()));
        hook.run().is_silent();
        assert_eq!(hook.spooled(), [server.only()], "{len} bytes");
    }
}

fn a_server_that_hangs_up_is_no_answer(program: Program) {
    let hook = hook(program).arg("--strict");
    let _server = Server::start(&hook.socket(), Manner::HangUp);
    hook.run().is_silent();
    assert_eq!(hook.spooled().len(), 1);
}

on_both! {
    queued_is_silent
    each_request_has_a_key_of_its_own
    an_answer_in_pieces_is_an_answer
    refused_and_partly_are_said_and_not_spooled
    a_refusal_without_words_is_said
    the_daemons_words_cannot_move_the_cursor
    long_words_are_cut
    busy_goes_into_the_spool
    what_is_no_answer_goes_into_the_spool_and_is_said
    half_an_answer_goes_into_the_spool
    a_server_that_hangs_up_is_no_answer
}
