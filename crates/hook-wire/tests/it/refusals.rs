//! Every way to be wrong has its own error, and every error says something of its own.

use std::collections::BTreeSet;

use hook_wire::{
    Ack, Claim, DESTINATIONS_MAX, Enqueue, FRAME_MAX, FieldTag, Fields, FrameWriter, Full, HEADER_LEN,
    Header, Kind, SPOOL_FILE_MAX, Source, Status, Unclaim, WireError, check_destination, check_origin,
    check_tag, split_frame,
};

use crate::{DRV, PATH, payload};

const KEY: (FieldTag, &[u8]) = (FieldTag::Key, &[1; 16]);
const SOURCE: (FieldTag, &[u8]) = (FieldTag::Source, &[1]);
const MADE: (FieldTag, &[u8]) = (FieldTag::MadeMs, &[0; 8]);
const ONE: (FieldTag, &[u8]) = (FieldTag::Path, PATH);

fn enqueue(fields: &[(FieldTag, &[u8])]) -> Result<(), WireError> {
    Enqueue::parse(&payload(fields)).map(|_| ())
}

fn ack(fields: &[(FieldTag, &[u8])]) -> Result<(), WireError> {
    Ack::parse(&payload(fields)).map(|_| ())
}

fn claim(fields: &[(FieldTag, &[u8])]) -> Result<(), WireError> {
    Claim::parse(&payload(fields)).map(|_| ())
}

#[test]
fn headers() {
    let good = Header { kind: Kind::Enqueue, payload_len: 5 }.encode();
    assert_eq!(Header::parse(&good), Ok(Header { kind: Kind::Enqueue, payload_len: 5 }));
    assert_eq!(Header::parse(&good[..11]), Err(WireError::Truncated));
    assert_eq!(Header::parse(b"GET / HTTP/1.1\r\n"), Err(WireError::Magic));
    let mut bytes = good;
    bytes[4] = 2;
    assert_eq!(Header::parse(&bytes), Err(WireError::Version(2)));
    let mut bytes = good;
    bytes[7] = 1;
    assert_eq!(Header::parse(&bytes), Err(WireError::Kind(257)));
}

#[test]
fn lengths_of_frames() {
    let biggest = u32::try_from(FRAME_MAX - HEADER_LEN).unwrap();
    let fits = Header { kind: Kind::Ack, payload_len: biggest };
    assert_eq!(fits.within(FRAME_MAX), Ok(fits));
    let over = Header { kind: Kind::Ack, payload_len: biggest + 1 };
    assert_eq!(
        over.within(FRAME_MAX),
        Err(WireError::TooLong { frame: FRAME_MAX as u64 + 1, max: FRAME_MAX })
    );
    assert_eq!(Header::parse(&over.encode()), Ok(over));
    let huge = Header { kind: Kind::Ack, payload_len: u32::MAX }.encode();
    let frame = u64::from(u32::MAX) + 12;
    assert_eq!(Header::parse(&huge), Err(WireError::TooLong { frame, max: SPOOL_FILE_MAX }));
}

#[test]
fn frames_with_too_few_or_too_many_bytes() {
    let mut frame = Header { kind: Kind::Unclaim, payload_len: 3 }.encode().to_vec();
    frame.extend(b"abc");
    assert_eq!(split_frame(&frame), Ok((Kind::Unclaim, &b"abc"[..])));
    assert_eq!(split_frame(&frame[..14]), Err(WireError::Truncated));
    frame.extend(b"de");
    assert_eq!(split_frame(&frame), Err(WireError::Trailing(2)));
}

#[test]
fn fields_end_after_the_first_error() {
    let mut bytes = payload(&[KEY]);
    bytes.extend([99, 0, 0, 0, 0]);
    bytes.extend(payload(&[SOURCE]));
    let seen: Vec<_> = Fields::new(&bytes).collect();
    assert_eq!(seen, [Ok(KEY), Err(WireError::UnknownField(99))]);
    let cut = payload(&[KEY]);
    for len in 1..cut.len() {
        assert_eq!(Fields::new(&cut[..len]).last(), Some(Err(WireError::Truncated)), "{len} bytes");
    }
}

#[test]
fn an_enqueue_without_its_needed_fields() {
    assert_eq!(enqueue(&[KEY, SOURCE, MADE, ONE]), Ok(()));
    assert_eq!(enqueue(&[SOURCE, MADE, ONE]), Err(WireError::Missing(FieldTag::Key)));
    assert_eq!(enqueue(&[KEY, MADE, ONE]), Err(WireError::Missing(FieldTag::Source)));
    assert_eq!(enqueue(&[KEY, SOURCE, ONE]), Err(WireError::Missing(FieldTag::MadeMs)));
    assert_eq!(enqueue(&[KEY, SOURCE, MADE]), Err(WireError::Nothing));
    assert_eq!(enqueue(&[KEY, SOURCE, MADE, (FieldTag::Drv, DRV)]), Ok(()));
    assert_eq!(enqueue(&[]), Err(WireError::Nothing));
}

#[test]
fn single_fields_given_twice() {
    let once: [(FieldTag, &[u8]); 10] = [
        KEY,
        SOURCE,
        MADE,
        (FieldTag::Drv, DRV),
        (FieldTag::Tag, b"t"),
        (FieldTag::Repository, b"o/r"),
        (FieldTag::Branch, b"b"),
        (FieldTag::Commit, b"c"),
        (FieldTag::Trust, &[1]),
        (FieldTag::Priority, &[0; 4]),
    ];
    let mut fields = vec![ONE];
    fields.extend(once);
    assert_eq!(enqueue(&fields), Ok(()));
    for again in once {
        let mut twice = fields.clone();
        twice.push(again);
        assert_eq!(enqueue(&twice), Err(WireError::Repeated(again.0)));
    }
    let answer: [(FieldTag, &[u8]); 4] = [
        (FieldTag::Status, &[0]),
        (FieldTag::Accepted, &[0; 4]),
        (FieldTag::RefusedCount, &[0; 4]),
        (FieldTag::Text, b"x"),
    ];
    for again in answer {
        let mut twice = answer.to_vec();
        twice.push(again);
        assert_eq!(ack(&twice), Err(WireError::Repeated(again.0)));
    }
}

#[test]
fn fields_in_the_wrong_kind_of_message() {
    for (tag, value) in [
        (FieldTag::TtlSeconds, &[0; 8][..]),
        (FieldTag::Status, &[0]),
        (FieldTag::Accepted, &[0; 4]),
        (FieldTag::RefusedCount, &[0; 4]),
        (FieldTag::Text, b"x"),
    ] {
        assert_eq!(enqueue(&[KEY, SOURCE, MADE, ONE, (tag, value)]), Err(WireError::Misplaced(tag)));
    }
    assert_eq!(claim(&[KEY, ONE]), Err(WireError::Misplaced(FieldTag::Path)));
    assert_eq!(ack(&[KEY]), Err(WireError::Misplaced(FieldTag::Key)));
    let bytes = payload(&[KEY, SOURCE]);
    assert_eq!(Unclaim::parse(&bytes).map(|_| ()), Err(WireError::Misplaced(FieldTag::Source)));
}

#[test]
fn claims_without_their_needed_fields() {
    let (trust, ttl, drv) =
        ((FieldTag::Trust, &[3][..]), (FieldTag::TtlSeconds, &[1; 8][..]), (FieldTag::Drv, DRV));
    let ci = (FieldTag::Source, &[Source::Ci.number()][..]);
    assert_eq!(claim(&[KEY, trust, ttl, drv, drv, ci, MADE]), Ok(()));
    assert_eq!(claim(&[trust, ttl, drv]), Err(WireError::Missing(FieldTag::Key)));
    assert_eq!(claim(&[KEY, ttl, drv]), Err(WireError::Missing(FieldTag::Trust)));
    assert_eq!(claim(&[KEY, trust, drv]), Err(WireError::Missing(FieldTag::TtlSeconds)));
    assert_eq!(claim(&[KEY, trust, ttl]), Err(WireError::Nothing));
    assert_eq!(claim(&[SOURCE]), Err(WireError::Number { field: FieldTag::Source, number: 1 }));
    let bytes = payload(&[drv]);
    assert_eq!(Unclaim::parse(&bytes).map(|_| ()), Err(WireError::Missing(FieldTag::Key)));
}

#[test]
fn values_of_a_wrong_length() {
    let wrong: [(FieldTag, &[u8]); 11] = [
        (FieldTag::Key, &[0; 15]),
        (FieldTag::Source, &[1, 1]),
        (FieldTag::Path, b""),
        (FieldTag::Path, &[b'/'; 4097]),
        (FieldTag::Drv, b""),
        (FieldTag::Destination, &[b'd'; 129]),
        (FieldTag::Tag, &[b't'; 257]),
        (FieldTag::Branch, &[b'b'; 1025]),
        (FieldTag::Trust, b""),
        (FieldTag::Priority, &[0; 8]),
        (FieldTag::MadeMs, &[0; 4]),
    ];
    for (field, value) in wrong {
        assert_eq!(enqueue(&[(field, value)]), Err(WireError::Length { field, len: value.len() }));
    }
    let long = [b'x'; 4097];
    assert_eq!(ack(&[(FieldTag::Text, &long)]), Err(WireError::Length { field: FieldTag::Text, len: 4097 }));
    assert_eq!(
        ack(&[(FieldTag::Accepted, &[0; 8])]),
        Err(WireError::Length { field: FieldTag::Accepted, len: 8 })
    );
}

#[test]
fn numbers_out_of_their_set() {
    for (field, number) in
        [(FieldTag::Source, 0), (FieldTag::Source, 5), (FieldTag::Trust, 0), (FieldTag::Trust, 4)]
    {
        assert_eq!(enqueue(&[(field, &[number])]), Err(WireError::Number { field, number }));
    }
    assert_eq!(
        ack(&[(FieldTag::Status, &[4])]),
        Err(WireError::Number { field: FieldTag::Status, number: 4 })
    );
}

#[test]
fn words_that_are_not_allowed() {
    let tag = Err(WireError::Characters(FieldTag::Tag));
    assert_eq!(check_tag("Grüße 1 #2".as_bytes()), Ok("Grüße 1 #2"));
    for bad in ["a\nb", "a\u{1b}[31m", "a\u{7f}", "a\u{85}", "\u{202e}gnp", "a\u{2028}b"] {
        assert_eq!(check_tag(bad.as_bytes()), tag, "{bad:?}");
    }
    assert_eq!(check_tag(b"\xff"), tag);
    assert_eq!(check_destination(b"Main-1_x.y"), Ok("Main-1_x.y"));
    for bad in ["a b", "a/b", "ä", "a*", "a\n"] {
        assert_eq!(
            check_destination(bad.as_bytes()),
            Err(WireError::Characters(FieldTag::Destination)),
            "{bad:?}"
        );
    }
    assert_eq!(check_origin(FieldTag::Branch, b"feature/x y"), Ok("feature/x y"));
    assert_eq!(check_origin(FieldTag::Commit, b"a\tb"), Err(WireError::Characters(FieldTag::Commit)));
    assert_eq!(ack(&[(FieldTag::Text, b"\xc3")]), Err(WireError::Characters(FieldTag::Text)));
}

#[test]
fn too_many_destinations() {
    let mut fields = vec![KEY, SOURCE, MADE, ONE];
    fields.extend(vec![(FieldTag::Destination, &b"d"[..]); DESTINATIONS_MAX]);
    assert_eq!(enqueue(&fields), Ok(()));
    fields.push((FieldTag::Destination, b"d"));
    let expected = WireError::TooMany { field: FieldTag::Destination, max: DESTINATIONS_MAX };
    assert_eq!(enqueue(&fields), Err(expected));
}

#[test]
fn a_writer_without_room_stays_as_it_was() {
    let mut buffer = [0; HEADER_LEN + 5 + 3];
    let mut frame = FrameWriter::new(&mut buffer, Kind::Ack);
    assert!(frame.is_empty());
    assert_eq!(frame.field(FieldTag::Text, b"four"), Err(Full));
    assert_eq!(frame.field(FieldTag::Text, b"yes"), Ok(()));
    assert_eq!(frame.field(FieldTag::Text, b""), Err(Full));
    assert_eq!(frame.len(), 20);
    assert_eq!(frame.finish()[HEADER_LEN..], payload(&[(FieldTag::Text, b"yes")]));

    let mut tiny = [0; HEADER_LEN - 1];
    let mut frame = FrameWriter::new(&mut tiny, Kind::Ack);
    assert_eq!(frame.field(FieldTag::Text, b""), Err(Full));
    assert_eq!(frame.finish(), b"");
    let ack = Ack { status: Status::Busy, accepted: 0, refused: 0, text: "" };
    assert_eq!(ack.encode(&mut [0; 20]), Err(Full));
}

#[test]
fn every_error_reads_differently() {
    let all = [
        WireError::Magic,
        WireError::Version(9),
        WireError::Kind(9),
        WireError::UnexpectedKind(Kind::Ack),
        WireError::TooLong { frame: 70_000, max: FRAME_MAX },
        WireError::Truncated,
        WireError::Trailing(3),
        WireError::UnknownField(77),
        WireError::Misplaced(FieldTag::Key),
        WireError::Repeated(FieldTag::Key),
        WireError::Missing(FieldTag::Key),
        WireError::Length { field: FieldTag::Key, len: 3 },
        WireError::Number { field: FieldTag::Trust, number: 9 },
        WireError::Characters(FieldTag::Tag),
        WireError::TooMany { field: FieldTag::Path, max: 5 },
        WireError::Nothing,
    ];
    let said: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), all.len());
    assert!(said.iter().all(|line| !line.contains('\n') && line.len() > 10), "{said:?}");
    assert!(WireError::Version(9).to_string().contains("same release"));
}
