//! How deep brackets nest. The text of a file comes in before it is parsed; out comes the line at which it goes deeper
//! than is read, if it does.
//!
//! The TOML parser recurses for every bracket that is open, and what it counts as its own depth can be led astray by
//! brackets that do not belong together. Here nothing but the bracket that fits closes one, so the depth counted is
//! never below the parser's.

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

/// Most brackets open at once. What is documented needs three; the parser's stack has room for hundreds.
pub(super) const DEPTH_MAX: usize = 32;

/// Where the text first has more than [`DEPTH_MAX`] brackets open: a byte offset.
pub(super) fn too_deep(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    for token in Source::new(text).lex() {
        let closes = match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                open.push(token.kind());
                if open.len() > DEPTH_MAX {
                    return Some(token.span().start());
                }
                continue;
            }
            TokenKind::RightSquareBracket => TokenKind::LeftSquareBracket,
            TokenKind::RightCurlyBracket => TokenKind::LeftCurlyBracket,
            _ => continue, // the lexer's other tokens open and close nothing
        };
        if open.last() == Some(&closes) {
            open.pop();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_closed_does_not_count() {
        assert_eq!(too_deep(&"a=[{a=1},{b=[1]}]\n[[x]]\n".repeat(1000)), None);
        assert_eq!(too_deep(&format!("a={}1{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX))), None);
        assert_eq!(too_deep(&format!("a='{}' # {}", "[".repeat(99), "{".repeat(99))), None);
    }

    #[test]
    fn a_bracket_too_many_is_found_where_it_stands() {
        assert_eq!(too_deep(&format!("a={}", "[".repeat(99))), Some(2 + DEPTH_MAX));
        // A bracket that fits nothing takes none away.
        assert_eq!(too_deep(&format!("a={}", "[}".repeat(99))), Some(2 + 2 * DEPTH_MAX));
    }
}
