//! The hook's protocol: what may come over a socket, lie in the spool, or stand in `OUT_PATHS`.

use hook_wire::{
    ACK_MAX, Ack, Claim, DESTINATIONS_MAX, Enqueue, Fields, FrameWriter, HEADER_LEN, Header, Kind, PATH_MAX,
    PATHS_MAX, Unclaim, field_header, split_frame, split_out_paths,
};

/// A frame: the header and the split agree; each kind of message is read from the payload of any other; what was read
/// is within its bounds and comes out again as it went in.
pub fn frame(bytes: &[u8]) {
    let header = Header::parse(bytes);
    let split = split_frame(bytes);
    if let Ok((kind, payload)) = split {
        let header = header.expect("a frame begins with its header");
        assert_eq!((header.kind, header.frame_len()), (kind, bytes.len()));
        assert_eq!([&header.encode(), payload].concat(), bytes);
    }
    // What is no frame may still be a payload to those who find one behind a good header.
    let payload = split.map_or(bytes.get(HEADER_LEN..).unwrap_or(bytes), |(_, payload)| payload);
    fields(payload);
    if let Ok(read) = Enqueue::parse(payload) {
        enqueue(&read);
    }
    if let Ok(read) = Claim::parse(payload) {
        assert!(read.drvs().next().is_some(), "a claim names a derivation");
        assert!(read.drvs().all(|drv| !drv.is_empty() && drv.len() <= PATH_MAX));
        assert!(read.destinations().count() <= DESTINATIONS_MAX);
    }
    if let Ok(read) = Unclaim::parse(payload) {
        assert!(read.drvs().all(|drv| !drv.is_empty() && drv.len() <= PATH_MAX));
    }
    if let Ok(read) = Ack::parse(payload) {
        let mut room = [0; ACK_MAX];
        let again = read.encode(&mut room).expect("ACK_MAX bytes are enough for any acknowledgement");
        let (kind, payload) = split_frame(again).expect("what was written is a frame");
        assert_eq!((kind, Ack::parse(payload)), (Kind::Ack, Ok(read)));
    }
}

/// Fields written again are the same bytes, as far as they could be read.
fn fields(payload: &[u8]) {
    let mut rest = payload;
    for (tag, value) in Fields::new(payload).map_while(Result::ok) {
        let len = u32::try_from(value.len()).expect("a length of four bytes");
        rest = rest.strip_prefix(&field_header(tag, len)).expect("the field's own header");
        rest = rest.strip_prefix(value).expect("the field's own value");
    }
    assert!(rest.is_empty() || Fields::new(payload).any(|field| field.is_err()));
}

fn enqueue(read: &Enqueue<'_>) {
    assert_eq!(read.paths().count(), read.path_count());
    assert_eq!(read.destinations().count(), read.destination_count());
    assert!(read.path_count() <= PATHS_MAX && read.destination_count() <= DESTINATIONS_MAX);
    assert!(read.path_count() > 0 || read.drv.is_some(), "an enqueue names something");
    assert!(read.paths().chain(read.drv).all(|path| !path.is_empty() && path.len() <= PATH_MAX));
    let mut room = [0; 64];
    let mut frame = FrameWriter::new(&mut room, Kind::Enqueue);
    frame.field(hook_wire::FieldTag::Key, &read.key).expect("room for a key");
    assert!(Enqueue::parse(&frame.finish()[HEADER_LEN..]).is_err(), "a key alone is no request");
}

/// A list of paths: its words are those that white space parts, and none of them has any.
pub fn out_paths(bytes: &[u8]) {
    let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
    let words: Vec<&[u8]> = split_out_paths(bytes).collect();
    assert!(words.iter().all(|word| !word.is_empty() && !word.iter().any(blank)));
    let kept: usize = words.iter().map(|word| word.len()).sum();
    assert_eq!(kept, bytes.iter().filter(|b| !blank(b)).count(), "no byte is lost");
    let joined = words.join(&b'\n');
    assert!(split_out_paths(&joined).eq(words));
}
