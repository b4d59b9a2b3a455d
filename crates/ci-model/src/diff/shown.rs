//! A text of a derivation comes in, what is shown of it comes out: no more than [`VALUE_BYTES_MAX`] bytes, the cut marked.
//! It stays its author's text; whoever shows it takes care of that.

use crate::change::VALUE_BYTES_MAX;

/// Stands where something was left out.
const MARK: &str = "…";
/// Bytes that are shown before the place where two long texts part.
const CONTEXT_BYTES: usize = 40;

/// The start of a text.
pub(super) fn shown(text: &[u8]) -> String {
    shown_from(text, 0)
}

/// A text, from a little before the byte `parts_at` where it is too long to be shown whole.
pub(super) fn shown_from(text: &[u8], parts_at: usize) -> String {
    if text.len() <= VALUE_BYTES_MAX
        && let Ok(text) = std::str::from_utf8(text)
    {
        return text.to_owned();
    }
    let is_start = |at: &usize| text.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let wanted = if text.len() <= VALUE_BYTES_MAX {
        0
    } else {
        parts_at.min(text.len()).saturating_sub(CONTEXT_BYTES)
    };
    let from = (0..=wanted).rev().find(is_start).unwrap_or(0);
    // Enough to fill the room even where every byte of it is worth one of ours.
    let until = text.len().min(from + VALUE_BYTES_MAX + 1);
    let mut shown = String::from(if from > 0 { MARK } else { "" });
    for c in String::from_utf8_lossy(&text[from..until]).chars() {
        if shown.len() + c.len_utf8() + MARK.len() > VALUE_BYTES_MAX {
            shown.push_str(MARK);
            return shown;
        }
        shown.push(c);
    }
    if until < text.len() {
        shown.push_str(MARK);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_text_is_shown_from_where_it_differs() {
        let text = format!("{}HERE{}", "a".repeat(300), "b".repeat(300));
        let shown = shown_from(text.as_bytes(), 300);
        assert!(shown.starts_with("…aaa") && shown.contains("HEREb") && shown.ends_with("b…"), "{shown}");
        assert_eq!(shown_from(b"short", 3), "short");
    }

    proptest! {
        #[test]
        fn it_is_never_longer_than_the_bound(
            text in prop::collection::vec(any::<u8>(), 0..600),
            parts_at in 0..700_usize,
        ) {
            prop_assert!(shown_from(&text, parts_at).len() <= VALUE_BYTES_MAX);
        }

        #[test]
        fn text_that_fits_is_shown_as_it_is(text in "\\PC{0,40}") {
            prop_assert_eq!(shown_from(text.as_bytes(), 7), text);
        }
    }
}
