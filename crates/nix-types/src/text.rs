//! Text of outsiders made fit to be shown: any bytes in, a short piece of text out, without anything a terminal would
//! act on. Leaves out hiding secrets: whoever holds one does not come here with it.

/// How many bytes of a refused text an error repeats.
const SHOWN_MAX: usize = 200;

/// At most [`SHOWN_MAX`] bytes of `bytes`, escaped.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN_MAX)];
    let mut text: String = String::from_utf8_lossy(cut).escape_debug().collect();
    if cut.len() < bytes.len() {
        text.push('…');
    }
    text
}

/// Printable ASCII without spaces, and some of it: what may stand in a line of a cache's files.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
