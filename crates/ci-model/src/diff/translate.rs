//! Store paths of the base and what takes their place at the head come in; a text of the base comes in, and goes out as
//! the head would write it. So a difference that only follows from another one is none. Paths that lie inside the store
//! paths are kept; a hash that stands in for a path which only the build decides is translated too.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use nix_types::{DrvPath, Sha256, StorePath};

/// Characters of the hash of a store path.
const HASH_CHARS: usize = 32;
/// Characters of the hash that stands in for the path of an output.
const PLACEHOLDER_CHARS: usize = 52;

/// What takes the place of what.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    paths: HashMap<[u8; HASH_CHARS], (StorePath, StorePath)>,
    placeholders: HashMap<[u8; PLACEHOLDER_CHARS], [u8; PLACEHOLDER_CHARS]>,
}

impl Dictionary {
    /// Notes a path; false when it has another counterpart already, which it keeps.
    pub(super) fn path(&mut self, from: &StorePath, to: &StorePath) -> bool {
        let Some(hash) = hash_of(from) else { return true };
        let (_, known) = self.paths.entry(hash).or_insert_with(|| (from.clone(), to.clone()));
        known == to
    }

    /// Notes an output whose path is known only after the build; false as [`Dictionary::path`].
    pub(super) fn placeholder(&mut self, output: &str, from: &DrvPath, to: &DrvPath) -> bool {
        let (Some(from), Some(to)) = (placeholder(from, output), placeholder(to, output)) else {
            return true;
        };
        *self.placeholders.entry(from).or_insert(to) == to
    }

    /// What takes the place of this path.
    pub(super) fn of(&self, path: &StorePath) -> Option<&StorePath> {
        let (from, to) = self.paths.get(&hash_of(path)?)?;
        (from == path).then_some(to)
    }
}

fn hash_of(path: &StorePath) -> Option<[u8; HASH_CHARS]> {
    path.hash_part().as_bytes().try_into().ok()
}

/// Store paths that texts may mention.
#[derive(Debug, Default)]
pub(super) struct Mentioned(HashSet<[u8; HASH_CHARS]>);

impl Mentioned {
    pub(super) fn add(&mut self, path: &StorePath) {
        self.0.extend(hash_of(path));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Does the text name one of them?
    pub(super) fn by(&self, text: &[u8]) -> bool {
        !self.is_empty()
            && text
                .split(|c| *c == b'/')
                .any(|part| part.first_chunk().is_some_and(|hash| self.0.contains(hash)))
    }
}

/// What Nix writes for an output of a content-addressed derivation where its path belongs.
fn placeholder(drv: &DrvPath, output: &str) -> Option<[u8; PLACEHOLDER_CHARS]> {
    let suffix = if output == "out" { String::new() } else { format!("-{output}") };
    let (hash, name) = (drv.store_path().hash_part(), drv.drv_name());
    let text = Sha256::of(format!("nix-upstream-output:{hash}:{name}{suffix}").as_bytes()).nix32();
    text.as_bytes().try_into().ok()
}

/// What stands in a text where the hash of a store path would, in order.
pub(super) fn hashes_in(text: &[u8]) -> impl Iterator<Item = &[u8; HASH_CHARS]> {
    text.split(|c| *c == b'/').skip(1).filter_map(|part| part.first_chunk())
}

/// Several dictionaries, the first that knows a word deciding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Translator<'a>(pub(super) &'a [&'a Dictionary]);

impl<'a> Translator<'a> {
    pub(super) fn path<'p>(&self, path: &'p StorePath) -> &'p StorePath
    where
        'a: 'p,
    {
        self.0.iter().find_map(|dictionary| dictionary.of(path)).unwrap_or(path)
    }

    pub(super) fn text<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let mut out = Vec::new();
        let (mut done, mut at) = (0, 0);
        while let Some(slash) = text[at..].iter().position(|c| *c == b'/') {
            at += slash + 1;
            let Some((length, word)) = self.word(&text[at..]) else { continue };
            out.extend_from_slice(&text[done..at]);
            out.extend_from_slice(word);
            at += length;
            done = at;
        }
        if done == 0 {
            return Cow::Borrowed(text);
        }
        out.extend_from_slice(&text[done..]);
        Cow::Owned(out)
    }

    /// How many bytes at the start of `text` are a word that is known, and what takes its place.
    fn word(&self, text: &[u8]) -> Option<(usize, &'a [u8])> {
        let hash: &[u8; HASH_CHARS] = text.first_chunk()?;
        let path = self.0.iter().find_map(|dictionary| dictionary.paths.get(hash));
        if let Some((from, to)) = path {
            let (from, to) = (from.base_name().as_bytes(), to.base_name().as_bytes());
            let whole = text.starts_with(from);
            return Some(if whole { (from.len(), to) } else { (HASH_CHARS, &to[..HASH_CHARS]) });
        }
        let hash: &[u8; PLACEHOLDER_CHARS] = text.first_chunk()?;
        let known = self.0.iter().find_map(|dictionary| dictionary.placeholders.get(hash))?;
        Some((PLACEHOLDER_CHARS, known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(letter: char, name: &str) -> StorePath {
        StorePath::parse_str(&format!("/nix/store/{}-{name}", letter.to_string().repeat(32))).unwrap()
    }

    fn told(dictionary: &Dictionary, text: &str) -> String {
        String::from_utf8(Translator(&[dictionary]).text(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn paths_are_translated_with_their_names_wherever_they_stand() {
        let mut dictionary = Dictionary::default();
        let (old, new, other) = (path('a', "curl-8.1"), path('b', "curl-8.2.0"), path('c', "x"));
        assert!(dictionary.path(&old, &new) && dictionary.path(&old, &new));
        assert!(!dictionary.path(&old, &other));
        for (text, expected) in [
            (format!("{old}"), format!("{new}")),
            (format!("-L{old}/lib:{old}/lib {other}"), format!("-L{new}/lib:{new}/lib {other}")),
            (format!("/{}x", old.hash_part()), format!("/{}x", new.hash_part())),
            (
                format!("/nix/store/{}", &old.hash_part()[1..]),
                format!("/nix/store/{}", &old.hash_part()[1..]),
            ),
            ("/".into(), "/".into()),
            (String::new(), String::new()),
        ] {
            assert_eq!(told(&dictionary, &text), expected);
        }
        assert_eq!(Translator(&[&dictionary]).path(&old), &new);
        assert_eq!(Translator(&[&dictionary]).path(&other), &other);
    }

    #[test]
    fn a_stand_in_for_a_path_is_translated() {
        let drv = |letter| DrvPath::try_from(path(letter, "ca-1.drv")).unwrap();
        let stand_in =
            |letter| format!("/{}", std::str::from_utf8(&placeholder(&drv(letter), "dev").unwrap()).unwrap());
        let mut dictionary = Dictionary::default();
        assert!(dictionary.placeholder("dev", &drv('a'), &drv('b')));
        assert_eq!(told(&dictionary, &format!("{}/bin", stand_in('a'))), format!("{}/bin", stand_in('b')));
    }

    #[test]
    fn the_first_dictionary_that_knows_a_word_decides() {
        let (mut first, mut second) = (Dictionary::default(), Dictionary::default());
        let (old, here, there) = (path('a', "a"), path('b', "b"), path('c', "c"));
        first.path(&old, &here);
        second.path(&old, &there);
        assert_eq!(Translator(&[&first, &second]).path(&old), &here);
    }
}
