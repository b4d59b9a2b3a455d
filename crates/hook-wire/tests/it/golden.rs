//! Bytes that were right once and must stay so: daemons and spool files of other releases depend on them.

use hook_wire::{
    Ack, Claim, Enqueue, FieldTag, FrameWriter, Kind, Source, Status, Trust, Unclaim, split_frame,
};

const ENQUEUE: &str = "454b4151 0100 0100 7c000000 \
    01 10000000 000102030405060708090a0b0c0d0e0f 02 01000000 01 \
    03 0d000000 2f732f3030302d6f6e652d6578 04 08000000 2f732f782e647276 \
    05 04000000 6d61696e 06 03000000 746167 07 03000000 6f2f72 08 01000000 62 09 02000000 6331 \
    0a 01000000 02 0b 04000000 feffffff 0c 08000000 0068e5cf8b010000";
const CLAIM: &str = "454b4151 0100 0300 35000000 01 10000000 09090909090909090909090909090909 \
    0a 01000000 03 04 08000000 2f732f782e647276 0d 08000000 100e000000000000";
const UNCLAIM: &str = "454b4151 0100 0400 15000000 01 10000000 09090909090909090909090909090909";
const ACK: &str = "454b4151 0100 0200 22000000 20 01000000 01 \
    21 04000000 02000000 22 04000000 01000000 23 05000000 6e6f706521";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn written(kind: Kind, fields: &[(FieldTag, &[u8])]) -> Vec<u8> {
    let mut buffer = [0xAA; 512];
    let mut frame = FrameWriter::new(&mut buffer, kind);
    for (tag, value) in fields {
        frame.field(*tag, value).unwrap();
    }
    frame.finish().to_vec()
}

#[test]
fn an_enqueue_is_these_bytes() {
    let key: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
    let frame = written(
        Kind::Enqueue,
        &[
            (FieldTag::Key, &key),
            (FieldTag::Source, &[Source::Hook.number()]),
            (FieldTag::Path, b"/s/000-one-ex"),
            (FieldTag::Drv, b"/s/x.drv"),
            (FieldTag::Destination, b"main"),
            (FieldTag::Tag, b"tag"),
            (FieldTag::Repository, b"o/r"),
            (FieldTag::Branch, b"b"),
            (FieldTag::Commit, b"c1"),
            (FieldTag::Trust, &[Trust::ApprovedPr.number()]),
            (FieldTag::Priority, &(-2_i32).to_le_bytes()),
            (FieldTag::MadeMs, &1_700_000_000_000_u64.to_le_bytes()),
        ],
    );
    assert_eq!(frame, bytes(ENQUEUE));

    let (kind, payload) = split_frame(&frame).unwrap();
    let read = Enqueue::parse(payload).unwrap();
    assert_eq!(kind, Kind::Enqueue);
    assert_eq!((read.key, read.source, read.made_ms), (key, Source::Hook, 1_700_000_000_000));
    assert_eq!((read.drv, read.tag, read.repository), (Some(&b"/s/x.drv"[..]), Some("tag"), Some("o/r")));
    assert_eq!((read.branch, read.commit), (Some("b"), Some("c1")));
    assert_eq!((read.trust, read.priority), (Some(Trust::ApprovedPr), Some(-2)));
    assert_eq!(read.paths().collect::<Vec<_>>(), [b"/s/000-one-ex"]);
    assert_eq!(read.destinations().collect::<Vec<_>>(), ["main"]);
}

#[test]
fn a_claim_is_these_bytes() {
    let frame = written(
        Kind::Claim,
        &[
            (FieldTag::Key, &[9; 16]),
            (FieldTag::Trust, &[Trust::UntrustedPr.number()]),
            (FieldTag::Drv, b"/s/x.drv"),
            (FieldTag::TtlSeconds, &3600_u64.to_le_bytes()),
        ],
    );
    assert_eq!(frame, bytes(CLAIM));
    let read = Claim::parse(split_frame(&frame).unwrap().1).unwrap();
    assert_eq!((read.key, read.trust, read.ttl_seconds), ([9; 16], Trust::UntrustedPr, 3600));
    assert_eq!(read.drvs().collect::<Vec<_>>(), [b"/s/x.drv"]);
    assert_eq!(read.destinations().count(), 0);
}

#[test]
fn an_unclaim_is_these_bytes() {
    let frame = written(Kind::Unclaim, &[(FieldTag::Key, &[9; 16])]);
    assert_eq!(frame, bytes(UNCLAIM));
    let read = Unclaim::parse(split_frame(&frame).unwrap().1).unwrap();
    assert_eq!((read.key, read.drvs().count()), ([9; 16], 0));
}

#[test]
fn an_ack_is_these_bytes() {
    let ack = Ack { status: Status::Partly, accepted: 2, refused: 1, text: "nope!" };
    let mut buffer = [0; 64];
    let frame = ack.encode(&mut buffer).unwrap();
    assert_eq!(frame, bytes(ACK));
    assert_eq!(Ack::parse(split_frame(frame).unwrap().1), Ok(ack));
}

#[test]
fn numbers_on_the_wire_never_move() {
    let kinds: Vec<u16> = Kind::ALL.iter().map(|k| k.number()).collect();
    let fields: Vec<u8> = FieldTag::ALL.iter().map(|f| f.number()).collect();
    assert_eq!(kinds, [1, 2, 3, 4]);
    assert_eq!(fields, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 32, 33, 34, 35]);
    assert_eq!(Status::ALL.iter().map(|s| s.number()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(Source::ALL.iter().map(|s| s.number()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(Trust::ALL.iter().map(|t| t.number()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(
        format!("{:?} {:?} {:?}", FieldTag::Key, FieldTag::TtlSeconds, FieldTag::Text),
        "Key TtlSeconds Text"
    );
}
