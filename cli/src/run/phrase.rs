//! Sentences in which our words and other people's stand side by side. Pieces of either kind come in; text for a terminal
//! comes out, or Markdown in which nothing of other people's is a link, a mention, a tag or the end of a table's cell.
//! Pure.

use super::text::safe;

/// A piece of a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Piece {
    /// Our words.
    Ours(String),
    /// Anybody's: names, versions, messages, values.
    Theirs(String),
}

/// A sentence in the making.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Phrase(Vec<Piece>);

impl Phrase {
    pub(crate) fn ours(text: impl Into<String>) -> Self {
        Self::default().and(text)
    }

    pub(crate) fn theirs(text: impl Into<String>) -> Self {
        Self::default().and_theirs(text)
    }

    pub(crate) fn and(mut self, text: impl Into<String>) -> Self {
        self.0.push(Piece::Ours(text.into()));
        self
    }

    pub(crate) fn and_theirs(mut self, text: impl Into<String>) -> Self {
        self.0.push(Piece::Theirs(text.into()));
        self
    }

    /// On one line of a terminal.
    pub(crate) fn text(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Ours(text) => text.clone(),
            Piece::Theirs(text) if text.is_empty() => "\"\"".to_owned(),
            Piece::Theirs(text) => safe(text),
        };
        self.0.iter().map(piece).collect()
    }

    /// In a paragraph or a table's cell of Markdown.
    pub(crate) fn markdown(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Ours(text) => text.clone(),
            Piece::Theirs(text) => code(text),
        };
        self.0.iter().map(piece).collect()
    }
}

/// Longest piece of other people's text in Markdown, in bytes.
const CODE_BYTES_MAX: usize = 400;

/// As code, in which no forge looks for mentions, issue numbers, links, tags or formulas. What could end the code, or the
/// cell it stands in, is written as an escape.
pub(crate) fn code(text: &str) -> String {
    let shown = super::text::cut_bytes(&safe(text), CODE_BYTES_MAX);
    let shown = shown.replace('`', "\\u{60}").replace('|', "\\u{7c}");
    if shown.trim().is_empty() { "`\"\"`".into() } else { format!("`{shown}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_is_shown_as_what_it_is() {
        let phrase = Phrase::ours("needs ").and_theirs("a\u{1b}[2J|`@all` <b>").and(" now");
        assert_eq!(phrase.text(), "needs a\\u{1b}[2J|`@all` <b> now");
        assert_eq!(phrase.markdown(), "needs `a\\u{1b}[2J\\u{7c}\\u{60}@all\\u{60} <b>` now");
        assert_eq!(code(""), "`\"\"`");
    }
}
