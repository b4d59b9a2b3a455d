//! Texts of JSON. In: a reader that stands at a quote. Out: the text, the reader behind its closing quote. Escapes that
//! mean nothing are faults behind which reading goes on.

use super::json::{Reader, Stop};

/// Reads a text.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<String, Stop> {
    let open = reader.at;
    reader.at += 1;
    let mut text = String::new();
    loop {
        let rest = &reader.text[reader.at..];
        let plain = rest.bytes().position(|c| c < b' ' || matches!(c, b'"' | b'\\'));
        let plain = plain.unwrap_or(rest.len());
        text.push_str(&rest[..plain]);
        reader.at += plain;
        match reader.peek() {
            Some(b'"') => {
                reader.at += 1;
                return Ok(text);
            }
            Some(b'\\') => escape(reader, &mut text),
            None | Some(b'\n' | b'\r') => {
                let remedy = "close it with \" on the same line; a line break in it is written \\n";
                return Err(reader.stop(open, "this text is not closed", remedy));
            }
            Some(control) => {
                let what = format!("a text holds the control character {control:#04x}");
                reader.fault(reader.at, what, format!("write \\u{control:04x}"));
                reader.at += 1;
                text.push(char::from(control));
            }
        }
    }
}

/// An escape, from its backslash on.
fn escape(reader: &mut Reader<'_>, text: &mut String) {
    let at = reader.at;
    reader.at += 1;
    let Some(c) = reader.text[reader.at..].chars().next() else { return };
    if !c.is_control() {
        reader.at += c.len_utf8();
    }
    let plain = match c {
        '"' | '\\' | '/' => c,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => return text.push(unicode(reader, at)),
        _ => {
            reader.fault(at, format!("\\{} means nothing", c.escape_debug()), "a backslash is written \\\\");
            char::REPLACEMENT_CHARACTER
        }
    };
    text.push(plain);
}

/// The character of `\uXXXX`, or of two of them; the reader stands behind the `u` of the first.
fn unicode(reader: &mut Reader<'_>, at: usize) -> char {
    let Some(first) = hex(reader) else {
        reader.fault(at, "\\u without four hexadecimal digits", "write \\u00fc for ü, or ü itself");
        return char::REPLACEMENT_CHARACTER;
    };
    if let Some(whole) = char::from_u32(first) {
        return whole;
    }
    if (0xd800..0xdc00).contains(&first) && reader.text[reader.at..].starts_with("\\u") {
        let before = reader.at;
        reader.at += 2;
        if let Some(second @ 0xdc00..0xe000) = hex(reader) {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        reader.at = before;
    }
    let what = format!("\\u{first:04x} is half a character");
    reader.fault(at, what, "write both halves, or the character itself");
    char::REPLACEMENT_CHARACTER
}

fn hex(reader: &mut Reader<'_>) -> Option<u32> {
    let digits = reader.text.as_bytes().get(reader.at..reader.at + 4)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let code = u32::from_str_radix(&reader.text[reader.at..reader.at + 4], 16).ok()?;
    reader.at += 4;
    Some(code)
}
