//! The worked example of the book: the bytes that `docs/protocol.md` prints are those the code writes and reads.

use std::path::Path;

use hook_wire::{Ack, Enqueue, FieldTag, FrameWriter, Kind, Source, Status, split_frame};

/// The bytes between two markers of the page; what stands behind a `#` is for the reader.
fn printed(name: &str) -> Vec<u8> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, block) = page.split_once(&format!("<!-- {name} -->")).expect("the block's first marker");
    let (block, _) = block.split_once(&format!("<!-- /{name} -->")).expect("the block's last marker");
    let lines = block.lines().filter(|line| !line.starts_with("```"));
    let words = lines.flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
    words.map(|word| u8::from_str_radix(word, 16).unwrap()).collect()
}

#[test]
fn the_request_of_the_book_is_what_a_hook_sends() {
    let key: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
    let drv = b"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello-2.12.drv";
    let path = b"/nix/store/zyxwvsrqpnmlkjihgfdcba9876543210-hello-2.12";
    let mut buffer = [0; 512];
    let mut frame = FrameWriter::new(&mut buffer, Kind::Enqueue);
    frame.field(FieldTag::Key, &key).unwrap();
    frame.field(FieldTag::Source, &[Source::Hook.number()]).unwrap();
    frame.field(FieldTag::MadeMs, &1_700_000_000_000_u64.to_le_bytes()).unwrap();
    frame.field(FieldTag::Tag, b"nightly").unwrap();
    frame.field(FieldTag::Drv, drv).unwrap();
    frame.field(FieldTag::Path, path).unwrap();
    let page = printed("frame");
    assert_eq!(page, frame.finish());

    let (kind, payload) = split_frame(&page).unwrap();
    let read = Enqueue::parse(payload).unwrap();
    assert_eq!((kind, read.tag, read.drv), (Kind::Enqueue, Some("nightly"), Some(&drv[..])));
    assert_eq!(read.paths().collect::<Vec<_>>(), [path]);
}

#[test]
fn the_answer_of_the_book_is_what_the_daemon_sends() {
    let ack = Ack { status: Status::Queued, accepted: 2, refused: 0, text: "" };
    let mut buffer = [0; 64];
    let page = printed("ack");
    assert_eq!(page, ack.encode(&mut buffer).unwrap());
    assert_eq!(Ack::parse(split_frame(&page).unwrap().1), Ok(ack));
}
