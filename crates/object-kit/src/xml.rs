//! The little XML that S3 and STS speak. In: an answer's bytes. Out: its elements as a tree, names without prefixes.
//! Attributes, comments and instructions are passed over; a document type, and whatever is not well-formed, is refused.

/// Deepest nesting.
pub const DEPTH_MAX: usize = 16;
/// Most elements.
pub const ELEMENTS_MAX: usize = 50_000;

/// An element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// Its name, without a prefix.
    pub name: String,
    /// Its text, that of its children left out, trimmed only when it has children.
    pub text: String,
    /// What is in it.
    pub children: Vec<Element>,
}

impl Element {
    /// The first child of that name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of that name.
    #[must_use]
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// The children of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// Why a text is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Not UTF-8.
    #[error("the XML is not UTF-8")]
    Encoding,
    /// Cut off, or not well-formed.
    #[error("the XML is cut off or not well-formed")]
    Form,
    /// Deeper than [`DEPTH_MAX`] or more than [`ELEMENTS_MAX`] elements.
    #[error("the XML has more than {ELEMENTS_MAX} elements or is deeper than {DEPTH_MAX}")]
    Size,
}

/// Reads a document.
///
/// # Errors
/// [`XmlError`]
pub fn parse(bytes: &[u8]) -> Result<Element, XmlError> {
    let mut rest = str::from_utf8(bytes).map_err(|_| XmlError::Encoding)?.trim_start_matches('\u{feff}');
    let mut open: Vec<Element> = Vec::new();
    let mut elements = 0;
    loop {
        let at = rest.find('<').ok_or(XmlError::Form)?;
        let (text, tag) = rest.split_at(at);
        add_text(&mut open, text)?;
        if let Some(cdata) = tag.strip_prefix("<![CDATA[") {
            let (raw, behind) = cdata.split_once("]]>").ok_or(XmlError::Form)?;
            open.last_mut().ok_or(XmlError::Form)?.text.push_str(raw);
            rest = behind;
        } else if let Some(comment) = tag.strip_prefix("<!--") {
            rest = comment.split_once("-->").ok_or(XmlError::Form)?.1;
        } else if let Some(instruction) = tag.strip_prefix("<?") {
            rest = instruction.split_once("?>").ok_or(XmlError::Form)?.1;
        } else if let Some(close) = tag.strip_prefix("</") {
            let (name, behind) = close.split_once('>').ok_or(XmlError::Form)?;
            let done = open.pop().filter(|done| done.name == local(name.trim_end())).ok_or(XmlError::Form)?;
            rest = behind;
            if let Some(root) = put_in(&mut open, done) {
                return if only_space(rest) { Ok(root) } else { Err(XmlError::Form) };
            }
        } else {
            let (inside, behind) = start_tag(&tag[1..])?;
            elements += 1;
            if elements > ELEMENTS_MAX || open.len() >= DEPTH_MAX {
                return Err(XmlError::Size);
            }
            let empty = inside.ends_with('/');
            let name = inside.trim_end_matches('/').split(|c: char| c.is_ascii_whitespace()).next();
            let name = name.filter(|name| is_name(name)).ok_or(XmlError::Form)?;
            let element = Element { name: local(name).to_owned(), ..Element::default() };
            rest = behind;
            if !empty {
                open.push(element);
            } else if let Some(root) = put_in(&mut open, element) {
                return if only_space(rest) { Ok(root) } else { Err(XmlError::Form) };
            }
        }
    }
}

/// The inside of a start tag, whose attributes may have `>` in quotes, and what is behind it.
fn start_tag(tag: &str) -> Result<(&str, &str), XmlError> {
    let mut quote = None;
    for (at, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'>') => return Ok((&tag[..at], &tag[at + 1..])),
            (None, b'<') => return Err(XmlError::Form),
            (Some(_) | None, _) => {}
        }
    }
    Err(XmlError::Form)
}

fn add_text(open: &mut [Element], text: &str) -> Result<(), XmlError> {
    match open.last_mut() {
        Some(element) => unescape(text, &mut element.text),
        None if only_space(text) => Ok(()),
        None => Err(XmlError::Form),
    }
}

/// Puts a finished element into the one around it; gives it back when there is none.
fn put_in(open: &mut [Element], mut done: Element) -> Option<Element> {
    if !done.children.is_empty() {
        done.text = done.text.trim().to_owned();
    }
    match open.last_mut() {
        Some(parent) => {
            parent.children.push(done);
            None
        }
        None => Some(done),
    }
}

fn unescape(text: &str, out: &mut String) -> Result<(), XmlError> {
    let mut rest = text;
    while let Some((plain, entity)) = rest.split_once('&') {
        out.push_str(plain);
        // No entity that we know is longer than this.
        let end = entity.bytes().take(12).position(|b| b == b';').ok_or(XmlError::Form)?;
        out.push(character(&entity[..end]).ok_or(XmlError::Form)?);
        rest = &entity[end + 1..];
    }
    out.push_str(rest);
    Ok(())
}

fn character(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

/// A text as it stands between tags.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_alphanumeric() || "-._:".contains(c);
    !local(name).is_empty() && name.chars().all(good)
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

fn only_space(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_trees() {
        let text = b"<?xml version=\"1.0\"?>\n<!-- a > b --><s:List xmlns:s='x>y'>\n <Key>a&amp;b&#x3c;&#62;</Key><Key><![CDATA[<c>]]> </Key><None/></s:List>\n";
        let root = parse(text).unwrap();
        assert_eq!((root.name.as_str(), root.text.as_str()), ("List", ""));
        let keys: Vec<&str> = root.all("Key").map(|key| key.text.as_str()).collect();
        assert_eq!(keys, ["a&b<>", "<c> "]);
        assert_eq!(root.text_of("None"), Some(""));
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for bad in [
            "",
            "a",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a>&none;</a>",
            "<a>&#xd800;</a>",
            "<a",
            "</a>",
            "<a>&",
            "<>x</>",
            "<!DOCTYPE a><a/>",
            "<a/>x",
            "<a><b</a>",
            "<![CDATA[x]]>",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(XmlError::Form), "{bad}");
        }
        assert_eq!(parse(b"\xff"), Err(XmlError::Encoding));
        assert_eq!(parse("<a>".repeat(DEPTH_MAX + 1).as_bytes()), Err(XmlError::Size));
    }
}
