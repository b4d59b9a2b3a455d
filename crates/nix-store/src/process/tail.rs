//! Chunks of a child's output come in; the last bytes of it, and its lines as they come, go out. Both are bounded
//! however much the child says.

use std::collections::VecDeque;

use super::{LINE_BYTES_MAX, Tail};

/// Keeps the last `limit` bytes.
pub(super) struct Keeper {
    kept: VecDeque<u8>,
    limit: usize,
    dropped: u64,
}

impl Keeper {
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: VecDeque::new(), limit, dropped: 0 }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        let chunk_start = chunk.len().saturating_sub(self.limit);
        let kept_start = (self.kept.len() + chunk.len() - chunk_start).saturating_sub(self.limit);
        self.kept.drain(..kept_start);
        self.kept.extend(&chunk[chunk_start..]);
        self.dropped += (chunk_start + kept_start) as u64;
    }

    pub(super) fn finish(self) -> Tail {
        Tail { bytes: self.kept.into(), dropped: self.dropped }
    }
}

/// Cuts a stream into lines, without their ends.
#[derive(Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    pub(super) fn push(&mut self, chunk: &[u8], each: &mut dyn FnMut(&str)) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = piece;
            while self.partial.len() + rest.len() > LINE_BYTES_MAX {
                let (now, later) = rest.split_at(LINE_BYTES_MAX - self.partial.len());
                self.partial.extend_from_slice(now);
                // No character is cut in two: its beginning is that of the next piece.
                let begun = self.partial.split_off(self.partial.len() - begun_bytes(&self.partial));
                self.flush(each);
                self.partial = begun;
                rest = later;
            }
            self.partial.extend_from_slice(rest);
            if self.partial.last() == Some(&b'\n') {
                self.partial.pop();
                self.partial.pop_if(|byte| *byte == b'\r');
                let line = std::mem::take(&mut self.partial);
                each(&String::from_utf8_lossy(&line));
            }
        }
    }

    /// Gives what has no line end.
    pub(super) fn flush(&mut self, each: &mut dyn FnMut(&str)) {
        if !self.partial.is_empty() {
            each(&String::from_utf8_lossy(&self.partial));
            self.partial.clear();
        }
    }
}

/// How many bytes at the end begin a character and are not all of it.
fn begun_bytes(text: &[u8]) -> usize {
    let is_begun = |count: &usize| {
        let end = &text[text.len() - count..];
        std::str::from_utf8(end).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=text.len().min(3)).find(is_begun).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_tail_is_the_end_of_all(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20), limit in 0_usize..50) {
            let mut keeper = Keeper::new(limit);
            chunks.iter().for_each(|chunk| keeper.push(chunk));
            let all = chunks.concat();
            let start = all.len().saturating_sub(limit);
            let tail = keeper.finish();
            prop_assert_eq!(&tail.bytes, &all[start..]);
            prop_assert_eq!(tail.dropped, start as u64);
        }

        #[test]
        fn lines_do_not_depend_on_chunks(text in "[ab\n\r]{0,60}", size in 1_usize..10) {
            let mut got = Vec::new();
            let mut lines = Lines::default();
            for chunk in text.as_bytes().chunks(size) {
                lines.push(chunk, &mut |line| got.push(line.to_owned()));
            }
            lines.flush(&mut |line| got.push(line.to_owned()));
            let want: Vec<_> = text.split_inclusive('\n').map(|line| match line.strip_suffix('\n') {
                Some(line) => line.strip_suffix('\r').unwrap_or(line).to_owned(),
                None => line.to_owned(),
            }).collect();
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn a_line_without_an_end_comes_in_pieces() {
        let mut sizes = Vec::new();
        let mut lines = Lines::default();
        for _ in 0..50 {
            lines.push(&[b'x'; 5000], &mut |line| sizes.push(line.len()));
        }
        lines.flush(&mut |line| sizes.push(line.len()));
        assert!(sizes.iter().all(|size| *size <= LINE_BYTES_MAX), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 250_000);
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for text in ["xü", "数", "y🦀z"].map(|text| text.repeat(60_000)) {
            let (mut got, mut sizes) = (String::new(), Vec::new());
            let mut take = |line: &str| {
                sizes.push(line.len());
                got.push_str(line);
            };
            let mut lines = Lines::default();
            text.as_bytes().chunks(4099).for_each(|chunk| lines.push(chunk, &mut take));
            lines.flush(&mut take);
            assert!(got == text && sizes.iter().all(|size| *size <= LINE_BYTES_MAX), "{sizes:?}");
        }
        assert_eq!(begun_bytes(b"\xff\xbf\xbf"), 0, "what is no text is not waited for");
    }
}
