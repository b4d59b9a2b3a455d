//! Bytes at the sockets that are no proper message, or come in an improper way.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hook_wire::{ACK_MAX, FRAME_MAX, FieldTag, Kind, Source, Status};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use test_kit::{seed, wait};

use super::{PROMPT, assert_works};
use crate::chaos::factor;
use crate::frames::{Answer, Frame, connect, exchange, hear};
use crate::world::{SOON, World};

fn stage() -> (World, String) {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let path = world.valid_paths(1).remove(0);
    world.start();
    (world, path)
}

/// A header of our magic with these numbers.
fn header(version: u16, kind: u16, len: u32) -> Vec<u8> {
    [b"EKAQ".as_slice(), &version.to_le_bytes(), &kind.to_le_bytes(), &len.to_le_bytes()].concat()
}

#[test]
fn messages_that_are_none_are_refused_with_the_reason() {
    let (world, path) = stage();
    let good = Frame::enqueue(Source::Hook).path(&path);
    let (bytes, other) = (good.bytes(), header(1, 1, 1_000));
    let ack = Frame::empty(Kind::Ack).with(FieldTag::Status, [0]);
    let twice = Frame::enqueue(Source::Hook).path(&path).with(FieldTag::Tag, "a").with(FieldTag::Tag, "b");
    let no_path = Frame::enqueue(Source::Hook);
    let key_alone = Frame::empty(Kind::Enqueue).with(FieldTag::Key, [0; 16]);
    let short_key = Frame::empty(Kind::Enqueue).with(FieldTag::Key, [0; 15]).path(&path);
    let strange_source = Frame::empty(Kind::Enqueue).with(FieldTag::Source, [9]).path(&path);
    let bad_tag = Frame::enqueue(Source::Hook).path(&path).with(FieldTag::Tag, "\u{1b}[2J");
    let long_path = Frame::enqueue(Source::Hook).with(FieldTag::Path, [b'/'; 4_097]);
    let only_bad = Frame::enqueue(Source::Hook).path("/etc/passwd").path("relative");
    let with_ttl = Frame::enqueue(Source::Hook).path(&path).with(FieldTag::TtlSeconds, [0; 8]);
    let mut unknown_field = Frame::enqueue(Source::Hook).path(&path).bytes();
    unknown_field[12] = 200;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            "not a message for eka-queue: the first four bytes are not EKAQ",
        ),
        (vec![0; 4_096], "not a message for eka-queue"),
        (bytes[..5].to_vec(), "the frame ends inside its header"),
        (bytes[..bytes.len() - 1].to_vec(), "the frame ends before its announced length"),
        (other, "the frame ends before its announced length"),
        (
            header(1, 1, u32::try_from(FRAME_MAX).unwrap()),
            "a message of 65548 bytes, where 65536 is the most",
        ),
        (header(1, 1, u32::MAX), "a message of 4294967307 bytes"),
        (header(2, 1, 0), "protocol version 2, but this side speaks version 1"),
        (header(1, 99, 0), "unknown message kind 99"),
        (header(1, 1, 0), "the request cannot be read: the message names no store path and no derivation"),
        (ack.bytes(), "an acknowledgement is not for the daemon"),
        (twice.bytes(), "field Tag is given twice"),
        (no_path.bytes(), "the message names no store path and no derivation"),
        (key_alone.bytes(), "the message names no store path and no derivation"),
        (short_key.bytes(), "field Key cannot have 15 bytes"),
        (strange_source.bytes(), "field Source cannot be 9"),
        (bad_tag.bytes(), "field Tag has characters that are not allowed in it"),
        (long_path.bytes(), "field Path cannot have 4097 bytes"),
        (with_ttl.bytes(), "this kind of message has no field TtlSeconds"),
        (unknown_field, "unknown field 200"),
        (only_bad.bytes(), "no usable path: "),
    ];
    for (bytes, reason) in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        let Some(answer) = exchange(&world, &bytes) else { panic!("no answer to {shown:?} ({reason})") };
        assert_eq!((answer.status, answer.accepted), (Status::Refused, 0), "{shown:?}: {answer:?}");
        assert!(answer.text.contains(reason), "{shown:?}: {answer:?}");
    }
    assert_eq!(exchange(&world, b""), None, "nothing was asked");
    assert_eq!(world.list(&[]).len(), 0);
    assert_works(&world);
}

/// A bad path costs the good ones of the same message nothing, and its text cannot drive a terminal.
#[test]
fn bad_paths_among_good_ones_are_named_and_the_rest_is_taken() {
    let (world, path) = stage();
    let frame = Frame::enqueue(Source::Hook)
        .path("/etc/passwd")
        .with(FieldTag::Path, b"/nix/store/\xff\x1b[31m\r\n")
        .path(&path)
        .path("-rf");
    let answer = frame.send(&world);
    assert_eq!((answer.status, answer.accepted, answer.refused), (Status::Partly, 1, 3));
    assert!(answer.text.chars().all(hook_wire::is_printable), "{answer:?}");
    assert!(answer.text.contains("/etc/passwd: ") && answer.text.contains("-rf: "), "{answer:?}");
    world.until("main", "done", 1);
}

#[test]
fn a_thousand_bad_paths_make_a_short_answer() {
    let (world, path) = stage();
    let frame =
        (0..1_000).fold(Frame::enqueue(Source::Hook).path(&path), |f, i| f.path(&format!("/bad/{i}")));
    let answer = frame.send(&world);
    assert_eq!((answer.accepted, answer.refused), (1, 1_000));
    assert!(answer.text.ends_with("; and 995 more") && answer.text.len() < ACK_MAX, "{answer:?}");
}

/// One connection may carry several messages; the first bad one ends it.
#[test]
fn what_follows_a_good_message_is_judged_by_itself() {
    let (world, path) = stage();
    let good = Frame::enqueue(Source::Hook).path(&path).bytes();
    let mut stream = connect(&world);
    stream.write_all(&[good.as_slice(), &good, b"nonsense and more of it", &good].concat()).unwrap();
    let statuses: Vec<Option<Status>> =
        (0..4).map(|_| hear(&mut stream).map(|answer| answer.status)).collect();
    assert_eq!(statuses, [Some(Status::Queued), Some(Status::Queued), Some(Status::Refused), None]);
    let shown = world.ask(&["show", "--json", &path]).out;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["requests"].as_array().unwrap().len(), 1, "the same message twice is one request");
}

/// A byte now and then: the daemon gives up after its time-out, and nobody else waits for that.
#[test]
fn a_slow_client_is_cut_off_and_delays_nobody() {
    let (world, path) = stage();
    let bytes = Frame::enqueue(Source::Hook).path(&path).bytes();
    let begun = Instant::now();
    let mut slow = connect(&world);
    slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut sent = bytes.iter();
    let answered = loop {
        if let Some(byte) = sent.next() {
            let _ = slow.write_all(&[*byte]); // it may have hung up; its answer is still to be read
        }
        // The wait for an answer sets the pace.
        match slow.read(&mut [0; ACK_MAX]) {
            Ok(_) => break begun.elapsed(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(world.hook(&path, "").took < PROMPT);
    };
    assert!(answered >= Duration::from_secs(1) && answered < SOON, "{answered:?}");
    assert!(sent.len() > 0, "it was cut off before the end");
}

/// Raises the soft limit towards the hard one, for the tests that run at the same time open files too. Out: how many may
/// be open now.
fn let_this_process_open(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = current.unwrap_or(u64::MAX).max(maximum.unwrap_or(u64::MAX).min(wanted as u64));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
    usize::try_from(wanted).unwrap()
}

/// More silent connections than the daemon serves at once: it drops them after their time, and nothing is lost.
#[test]
fn a_crowd_of_silent_connections_passes() {
    const CROWD: usize = 1_500;
    let may_open = let_this_process_open(4 * CROWD);
    let count = CROWD.min(may_open / 2);
    if count < CROWD {
        println!(
            "SKIPPED: {} of {CROWD} connections, for no more than {may_open} files may be open",
            CROWD - count
        );
    }
    let (world, path) = stage();
    world.let_hook_give_up_soon();
    let connect = |_| {
        let stream = UnixStream::connect(world.path("enqueue.sock")).unwrap();
        // A full backlog would hold us, not the daemon.
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let crowd: Vec<UnixStream> = (0..count).map(connect).collect();
    let said = world.hook(&path, "");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.took < PROMPT, "{said:?}");
    world.until("main", "done", 1);
    drop(crowd);
    assert_works(&world);
}

/// A client that never reads its answers holds nothing but itself, and not for long.
#[test]
fn a_client_that_reads_no_answers_is_cut_off() {
    let (world, path) = stage();
    let good = Frame::enqueue(Source::Hook).path(&path).bytes();
    let mut deaf = connect(&world);
    deaf.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    wait::until(SOON, || match deaf.write_all(&good) {
        // The daemon reads no more, because its answers find no room; then it hangs up.
        Err(error) => error.kind() == ErrorKind::BrokenPipe,
        Ok(()) => false,
    });
    assert_works(&world);
}

/// Seeded noise: proper messages with bytes changed, cut off, doubled, and pieces of one put into another.
#[test]
fn changed_messages_never_end_the_daemon() {
    let mut seeded = seed::start();
    let (world, path) = stage();
    let rng = &mut seeded.rng;
    let seeds = [
        Frame::enqueue(Source::Hook).path(&path).with(FieldTag::Tag, "tag").to("main"),
        Frame::enqueue(Source::Hydra).path(&path).drv(&format!("{path}.drv")),
        Frame::claim(b'1', hook_wire::Trust::ApprovedPr, 1).drv(&format!("{path}.drv")).to("main"),
        Frame::unclaim(b'1'),
    ]
    .map(|frame| frame.bytes());
    let mut answered = 0;
    for _ in 0..1_500 * factor() {
        let mut bytes = rng.pick(&seeds).clone();
        for _ in 0..=rng.below(4) {
            let at = rng.index(bytes.len());
            match rng.below(5) {
                0 => bytes[at] ^= 1 << rng.below(8),
                1 => bytes[at] = *rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
                2 => bytes.truncate(at.max(1)),
                3 => bytes.extend(seeds[rng.index(4)].iter().skip(at)),
                _ => bytes.insert(at, rng.next_u64().to_le_bytes()[0]),
            }
        }
        answered += usize::from(exchange(&world, &bytes).is_some());
    }
    assert!(answered > 1_000 * factor(), "{answered} were answered");
    assert!(!world.log().contains("panicked"), "{}", world.log());
    assert_works(&world);
}

fn control(world: &World, line: &[u8]) -> String {
    let mut stream = UnixStream::connect(world.path("control.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = stream.write_all(line); // it may have heard enough
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn the_control_socket_refuses_what_it_does_not_understand() {
    let (world, _) = stage();
    let nested = "[".repeat(100_000);
    let refused: [&[u8]; 8] = [
        b"\n",
        b"status\n",
        b"{\"command\":\"explode\"}\n",
        b"{\"command\":\"drop\"}\n",
        b"{\"command\":\"drop\",\"selection\":{\"path\":[]}}\n",
        b"{\"command\":\"list\",\"selection\":{\"states\":[\"asleep\"]},\"limit\":0}\n",
        b"{\"command\":\"show\",\"path\":\"\xff\"}\n",
        nested.as_bytes(),
    ];
    for line in refused {
        let answer = control(&world, line);
        assert!(
            answer.starts_with("{\"error\":{\"kind\":\"bad-request\""),
            "{:?}: {answer}",
            &line[..line.len().min(60)]
        );
    }
    assert_eq!(control(&world, b""), "");
    assert_works(&world);
}

/// Many that say nothing, one that says a byte now and then, one whose line has no end: others are answered meanwhile.
#[test]
fn idle_slow_and_endless_clients_of_the_control_socket_hold_nobody() {
    let (world, _) = stage();
    let connect = || UnixStream::connect(world.path("control.sock")).unwrap();
    let idle: Vec<UnixStream> = (0..100).map(|_| connect()).collect();
    let mut slow = connect();
    slow.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let begun = Instant::now();
    let cut_off = loop {
        let _ = slow.write_all(b" "); // it may have hung up, which the read tells
        match slow.read(&mut [0; 16]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => break begun.elapsed(),
        }
        assert_eq!(world.ask(&["status"]).code, 0);
        assert!(begun.elapsed() < SOON, "it was never cut off");
    };
    assert!(cut_off > Duration::from_secs(8), "{cut_off:?}");
    drop(idle);
    let answer = control(&world, &vec![b' '; (64 << 20) + 4_096]);
    assert!(answer.is_empty() || answer.starts_with("{\"error\":{\"kind\":\"bad-request\""), "{answer}");
    assert_works(&world);
}

#[test]
fn refused_messages_are_counted() {
    let (world, _) = stage();
    assert!(matches!(exchange(&world, &[7; 64]), Some(Answer { status: Status::Refused, .. })));
    let text = control(&world, b"GET /metrics HTTP/1.1\r\n\r\n");
    assert!(text.contains("\neka_queue_refused_frames_total 1\n"), "{text}");
}
