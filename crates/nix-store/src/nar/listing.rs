//! What a NAR holds comes in, the text of a cache's `.ls` file and the entries of its index of debug information come
//! out, as `nix copy` makes them for `write-nar-listing` and `index-debug-info`. Only names and places: no contents.

use std::io::Write;

/// What lies where in one NAR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    root: Node,
}

/// A file, folder or symlink in a NAR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// Has its owner the right to execute it?
        executable: bool,
        /// Where its contents begin, in bytes from the NAR's first.
        nar_offset: u64,
    },
    /// A folder: its entries' names and what they are, in the order of the names' bytes.
    Folder(Vec<(Vec<u8>, Node)>),
    /// A symlink.
    Symlink {
        /// What it points to, as written there.
        target: Vec<u8>,
    },
}

/// A file with debug information, as a cache's index names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DebugFile {
    /// The last part of the index object's key, `debuginfo/<this>`: the 40 digits of the build id and `.debug`.
    pub key: String,
    /// The file's path in the NAR, without a slash in front.
    pub member: String,
}

impl Default for Listing {
    /// That of an empty folder.
    fn default() -> Self {
        Self::new(Node::Folder(Vec::new()))
    }
}

impl Listing {
    pub(super) fn new(root: Node) -> Self {
        Self { root }
    }

    /// What the path itself is.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The `.ls` file's bytes, as Nix 2.8 writes them (newer ones sort the keys). They are UTF-8 when all names and
    /// targets are: Nix 2.8 writes other names as they are, and so does this; newer ones refuse to write or read such a
    /// listing.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = br#"{"version":1,"root":"#.to_vec();
        node_to_json(&mut json, &self.root);
        json.push(b'}');
        json
    }

    /// The regular files at `lib/debug/.build-id/xx/yyy….debug`, with 2 and 38 lower-case hexadecimal digits, in the
    /// order of their keys.
    #[must_use]
    pub fn debug_files(&self) -> Vec<DebugFile> {
        let place = ["lib", "debug", ".build-id"];
        let mut folder = Some(&self.root);
        for name in place {
            folder = folder.and_then(|node| node.entry(name.as_bytes()));
        }
        let mut found = Vec::new();
        for (first, node) in folder.into_iter().flat_map(Node::entries) {
            let Some(first) = hex(first, 2) else { continue };
            for (rest, node) in node.entries() {
                let digits = rest.strip_suffix(b".debug").and_then(|digits| hex(digits, 38));
                if let (Some(digits), Node::File { .. }) = (digits, node) {
                    let member = format!("lib/debug/.build-id/{first}/{digits}.debug");
                    found.push(DebugFile { key: format!("{first}{digits}.debug"), member });
                }
            }
        }
        found
    }
}

impl Node {
    /// A folder's entries; nothing else has any.
    fn entries(&self) -> &[(Vec<u8>, Node)] {
        match self {
            Self::Folder(entries) => entries,
            Self::File { .. } | Self::Symlink { .. } => &[],
        }
    }

    fn entry(&self, name: &[u8]) -> Option<&Node> {
        let entries = self.entries();
        let place = entries.binary_search_by(|(entry, _)| entry.as_slice().cmp(name)).ok()?;
        Some(&entries[place].1)
    }
}

/// The text when it is `length` lower-case hexadecimal digits.
fn hex(text: &[u8], length: usize) -> Option<&str> {
    let all = text.iter().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit));
    std::str::from_utf8(text).ok().filter(|_| all && text.len() == length)
}

fn node_to_json(json: &mut Vec<u8>, node: &Node) {
    match node {
        Node::File { size, executable, nar_offset } => {
            let executable = if *executable { r#","executable":true"# } else { "" };
            put(
                json,
                format_args!(r#"{{"type":"regular","size":{size}{executable},"narOffset":{nar_offset}}}"#),
            );
        }
        Node::Folder(entries) => {
            json.extend_from_slice(br#"{"type":"directory","entries":{"#);
            for (place, (name, node)) in entries.iter().enumerate() {
                if place > 0 {
                    json.push(b',');
                }
                text_to_json(json, name);
                json.push(b':');
                // As deep as what was packed: DEPTH_MAX.
                node_to_json(json, node);
            }
            json.extend_from_slice(b"}}");
        }
        Node::Symlink { target } => {
            json.extend_from_slice(br#"{"type":"symlink","target":"#);
            text_to_json(json, target);
            json.push(b'}');
        }
    }
}

/// A string as Nix escapes it: not more than JSON asks for, and bytes that are no UTF-8 as they are.
fn text_to_json(json: &mut Vec<u8>, text: &[u8]) {
    json.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => json.extend_from_slice(&[b'\\', *byte]),
            b'\n' => json.extend_from_slice(b"\\n"),
            b'\r' => json.extend_from_slice(b"\\r"),
            b'\t' => json.extend_from_slice(b"\\t"),
            0..=31 => put(json, format_args!("\\u{byte:04x}")),
            other => json.push(*other),
        }
    }
    json.push(b'"');
}

fn put(json: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    json.write_fmt(text).expect("memory takes every byte");
}
