//! What is written is read again, and no bytes whatever make a reader fall over.

use hook_wire::{
    ACK_MAX, Ack, Claim, Enqueue, FieldTag, Fields, FrameWriter, Header, Kind, SPOOL_FILE_MAX, Source,
    Status, TEXT_MAX, Trust, Unclaim, field_header, shape, split_frame, split_out_paths,
};
use proptest::prelude::*;

fn words() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9äß€ /:.]{1,60}"
}

proptest! {
    #[test]
    fn enqueues(
        key: [u8; 16],
        source in proptest::sample::select(Source::ALL),
        paths in proptest::collection::vec("[ -~]{1,80}", 1..20),
        drv in proptest::option::of("/[a-z]{1,40}"),
        destinations in proptest::collection::vec("[A-Za-z0-9._-]{1,128}", 0..5),
        tag in proptest::option::of(words()),
        branch in proptest::option::of(words()),
        trust in proptest::option::of(proptest::sample::select(Trust::ALL)),
        priority: Option<i32>,
        made_ms: u64,
    ) {
        let mut buffer = vec![0; 8192];
        let mut frame = FrameWriter::new(&mut buffer, Kind::Enqueue);
        for path in &paths {
            frame.field(FieldTag::Path, path.as_bytes()).unwrap();
        }
        frame.field(FieldTag::MadeMs, &made_ms.to_le_bytes()).unwrap();
        if let Some(drv) = &drv {
            frame.field(FieldTag::Drv, drv.as_bytes()).unwrap();
        }
        for id in &destinations { frame.field(FieldTag::Destination, id.as_bytes()).unwrap(); }
        if let Some(tag) = &tag {
            frame.field(FieldTag::Tag, tag.as_bytes()).unwrap();
        }
        if let Some(branch) = &branch {
            frame.field(FieldTag::Branch, branch.as_bytes()).unwrap();
        }
        if let Some(trust) = trust {
            frame.field(FieldTag::Trust, &[trust.number()]).unwrap();
        }
        if let Some(priority) = priority {
            frame.field(FieldTag::Priority, &priority.to_le_bytes()).unwrap();
        }
        frame.field(FieldTag::Source, &[source.number()]).unwrap();
        frame.field(FieldTag::Key, &key).unwrap();

        let (kind, payload) = split_frame(frame.finish()).unwrap();
        let read = Enqueue::parse(payload).unwrap();
        prop_assert_eq!(kind, Kind::Enqueue);
        prop_assert_eq!((read.key, read.source, read.made_ms), (key, source, made_ms));
        prop_assert_eq!(read.drv, drv.as_ref().map(String::as_bytes));
        prop_assert_eq!((read.tag, read.branch), (tag.as_deref(), branch.as_deref()));
        prop_assert_eq!((read.trust, read.priority), (trust, priority));
        prop_assert_eq!((read.path_count(), read.destination_count()), (paths.len(), destinations.len()));
        prop_assert!(read.paths().eq(paths.iter().map(String::as_bytes)));
        prop_assert!(read.destinations().eq(destinations.iter().map(String::as_str)));
    }

    #[test]
    fn acks(
        status in proptest::sample::select(Status::ALL),
        accepted: u32,
        refused: u32,
        text in "(?s).{0,3000}",
    ) {
        let ack = Ack { status, accepted, refused, text: &text };
        let mut buffer = [0; ACK_MAX];
        let (kind, payload) = split_frame(ack.encode(&mut buffer).unwrap()).unwrap();
        let read = Ack::parse(payload).unwrap();
        prop_assert_eq!((kind, read.status), (Kind::Ack, status));
        prop_assert_eq!((read.accepted, read.refused), (accepted, refused));
        prop_assert!(text.starts_with(read.text));
        prop_assert!(read.text.len() == text.len() || read.text.len() > TEXT_MAX - 4);
    }

    #[test]
    fn headers(
        kind in proptest::sample::select(Kind::ALL),
        payload_len in 0..=u32::try_from(SPOOL_FILE_MAX - 12).unwrap(),
    ) {
        let header = Header { kind, payload_len };
        prop_assert_eq!(Header::parse(&header.encode()), Ok(header));
    }

    #[test]
    fn streamed_fields_are_written_fields(tag in proptest::sample::select(FieldTag::ALL), value: Vec<u8>) {
        let mut streamed = field_header(tag, u32::try_from(value.len()).unwrap()).to_vec();
        streamed.extend(&value);
        prop_assert_eq!(Fields::new(&streamed).collect::<Vec<_>>(), vec![Ok((tag, &value[..]))]);
    }

    #[test]
    fn arbitrary_bytes_are_read_without_a_fall(bytes: Vec<u8>) {
        let fields = Fields::new(&bytes).count();
        prop_assert!(fields <= bytes.len());
        for payload in [&bytes[..], bytes.get(12..).unwrap_or(&[])] {
            if let Ok(read) = Enqueue::parse(payload) {
                prop_assert_eq!(read.paths().count(), read.path_count());
            }
            prop_assert!(Claim::parse(payload).is_err() || fields > 0);
            prop_assert!(Unclaim::parse(payload).is_err() || fields > 0);
            prop_assert!(Ack::parse(payload).is_err() || fields > 0);
        }
        if let Ok((_, payload)) = split_frame(&bytes) {
            prop_assert_eq!(payload.len() + 12, bytes.len());
        }
    }

    #[test]
    fn one_flipped_byte_is_an_error_or_another_value(at in 0_usize..90, bit in 0_u8..8) {
        let mut buffer = [0; 128];
        let mut frame = FrameWriter::new(&mut buffer, Kind::Enqueue);
        frame.field(FieldTag::Key, &[5; 16]).unwrap();
        frame.field(FieldTag::Source, &[1]).unwrap();
        frame.field(FieldTag::MadeMs, &[0; 8]).unwrap();
        frame.field(FieldTag::Path, b"/nix/store/00000000000000000000000000000000-x").unwrap();
        let good = frame.finish().to_vec();
        let at = at % good.len();
        let mut bad = good.clone();
        bad[at] ^= 1 << bit;
        let read = |bytes: &[u8]| split_frame(bytes).and_then(|(kind, payload)| {
            let read = Enqueue::parse(payload)?;
            let paths: Vec<Vec<u8>> = read.paths().map(<[u8]>::to_vec).collect();
            Ok((kind, read.key, read.source, read.made_ms, paths))
        });
        prop_assert_ne!(read(&bad), read(&good));
    }

    #[test]
    fn store_paths(
        dir in "(/[a-zA-Z0-9_-]{1,12}){1,4}",
        hash in "[0-9a-df-np-sv-z]{32}",
        name in "[A-Za-z0-9+_?=-][A-Za-z0-9+._?=-]{0,210}",
    ) {
        let path = format!("{dir}/{hash}-{name}");
        let parts = shape::check(path.as_bytes()).unwrap();
        prop_assert_eq!((parts.store_dir, parts.hash, parts.name), (&dir[..], &hash[..], &name[..]));
    }

    #[test]
    fn whatever_passes_as_a_path_is_put_together_again(
        bytes in "/?[a-z/.]{0,12}/[0-9a-df-np-sv-z]{31,33}-?[ -~]{0,6}",
    ) {
        if let Ok(parts) = shape::check(bytes.as_bytes()) {
            prop_assert_eq!(format!("{}/{}-{}", parts.store_dir, parts.hash, parts.name), bytes);
        }
    }

    #[test]
    fn lists_are_split_at_any_blank(
        words in proptest::collection::vec("[!-~]{1,20}", 0..20),
        blanks in proptest::collection::vec("[ \t\r\n]{1,3}", 21),
    ) {
        let mut list = String::new();
        for (word, blank) in words.iter().zip(&blanks) {
            list.push_str(blank);
            list.push_str(word);
        }
        list.push_str(&blanks[20]);
        prop_assert!(split_out_paths(list.as_bytes()).eq(words.iter().map(String::as_bytes)));
    }
}
