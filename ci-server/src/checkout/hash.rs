//! Contents and entries come in; the names that git gives them come out, without a repository being written to.

use std::collections::BTreeMap;

use ci_model::id::TreeId;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::CheckoutError;

/// How a repository names its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Sha1,
    Sha256,
}

/// An object's name under way: git hashes `KIND SIZE\0` and the content.
pub(super) enum Hasher {
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Format {
    /// Digits of a name.
    pub(super) fn hex_len(self) -> usize {
        match self {
            Self::Sha1 => 40,
            Self::Sha256 => 64,
        }
    }

    pub(super) fn start(self, kind: &str, size: u64) -> Hasher {
        let mut hasher = match self {
            Self::Sha1 => Hasher::Sha1(Sha1::new()),
            Self::Sha256 => Hasher::Sha256(Sha256::new()),
        };
        hasher.update(format!("{kind} {size}\0").as_bytes());
        hasher
    }

    pub(super) fn of(self, kind: &str, content: &[u8]) -> Vec<u8> {
        let mut hasher = self.start(kind, content.len() as u64);
        hasher.update(content);
        hasher.finish()
    }
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha1(hasher) => hasher.finalize().to_vec(),
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
        }
    }
}

/// A folder on its way to a tree object.
#[derive(Default)]
pub(super) struct Folder {
    entries: BTreeMap<Vec<u8>, Node>,
}

enum Node {
    Folder(Folder),
    Leaf { mode: &'static str, id: Vec<u8> },
}

impl Folder {
    /// Adds a file, link or submodule; `mode` as git writes it in trees.
    pub(super) fn add(&mut self, path: &[u8], mode: &'static str, id: Vec<u8>) {
        match path.iter().position(|byte| *byte == b'/') {
            None => {
                self.entries.insert(path.to_vec(), Node::Leaf { mode, id });
            }
            Some(slash) => {
                let node = self.entries.entry(path[..slash].to_vec());
                if let Node::Folder(folder) = node.or_insert_with(|| Node::Folder(Self::default())) {
                    folder.add(&path[slash + 1..], mode, id);
                }
            }
        }
    }

    /// The tree's name.
    pub(super) fn tree_id(&self, format: Format) -> Result<TreeId, CheckoutError> {
        let text = hex(&self.id(format));
        text.parse().map_err(|_| CheckoutError::name(&text, "tree", "git names it by 40 or 64 digits"))
    }

    fn id(&self, format: Format) -> Vec<u8> {
        // Git sorts folders as if their names ended with a slash.
        let key = |(name, node): &(&Vec<u8>, &Node)| match node {
            Node::Folder(_) => [name.as_slice(), b"/"].concat(),
            Node::Leaf { .. } => name.to_vec(),
        };
        let mut rows: Vec<_> = self.entries.iter().collect();
        rows.sort_by_cached_key(key);
        let mut content = Vec::new();
        for (name, node) in rows {
            let (mode, id) = match node {
                Node::Folder(folder) => ("40000", folder.id(format)),
                Node::Leaf { mode, id } => (*mode, id.clone()),
            };
            content.extend_from_slice(mode.as_bytes());
            content.push(b' ');
            content.extend_from_slice(name);
            content.push(0);
            content.extend_from_slice(&id);
        }
        format.of("tree", &content)
    }
}

/// In digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes all
        text
    })
}

/// From digits.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_objects_have_the_names_everybody_knows() {
        assert_eq!(
            Folder::default().tree_id(Format::Sha1).unwrap().as_str(),
            "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
        );
        assert_eq!(hex(&Format::Sha1.of("blob", b"")), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    }
}
