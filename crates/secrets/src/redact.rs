//! Takes secrets out of text. In: the secrets at hand, bytes chunk by chunk. Out: the same bytes with every occurrence
//! of a secret, or of a form or line of one, as `***`, wherever the chunks are cut. Occurrences that overlap or touch
//! are one. A byte costs the same whatever the secrets are (Aho and Corasick's automaton).

use std::collections::VecDeque;

use object_kit::ask::encoded;
use zeroize::Zeroizing;

use crate::Secret;

/// Shortest text that is taken out, in bytes: shorter ones would be found everywhere.
pub const PATTERN_MIN: usize = 6;
/// Shortest line of a secret of several lines that is taken out by itself, in bytes.
const LINE_MIN: usize = 16;
/// What stands in a secret's place.
const STARS: &[u8] = b"***";

/// Takes secrets out of a stream of bytes.
pub struct Redactor {
    machine: Machine,
    state: u32,
    /// What came and may be the beginning of a secret.
    held: Zeroizing<Vec<u8>>,
    /// Bytes of the longest secret that ends at each of them.
    found: Vec<usize>,
    /// Whether the last byte that left belonged to one.
    in_secret: bool,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor(***)")
    }
}

impl Redactor {
    /// Knows these secrets: as they are, as JSON and URLs write them, and their long lines. Texts shorter than
    /// [`PATTERN_MIN`] are not looked for.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut patterns = Vec::new();
        for secret in secrets {
            forms(secret.reveal(), &mut patterns);
        }
        patterns.retain(|pattern| pattern.len() >= PATTERN_MIN);
        let machine = Machine::new(&patterns);
        Self { machine, state: 0, held: Zeroizing::default(), found: Vec::new(), in_secret: false }
    }

    /// Bytes of the longest text that is taken out; 0 when there is none.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.machine.longest()
    }

    /// Takes a chunk; appends to `out` what cannot be part of a secret any more. Holds back at most the length of the
    /// longest secret.
    pub fn feed(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        for byte in chunk {
            self.held.push(*byte);
            self.state = self.machine.step(self.state, *byte);
            self.found.push(self.machine.found(self.state));
        }
        let open = self.machine.depth(self.state);
        self.release(self.held.len() - open, out);
    }

    /// Ends the stream: appends what was held back.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(self.held.len(), out);
        (self.state, self.in_secret) = (0, false);
    }

    /// A whole text at once.
    #[must_use]
    pub fn text(&mut self, text: &str) -> String {
        let mut out = Vec::with_capacity(text.len());
        self.feed(text.as_bytes(), &mut out);
        self.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn release(&mut self, bytes: usize, out: &mut Vec<u8>) {
        let mut hidden = vec![false; self.held.len()];
        let mut covers = 0;
        for (hidden, found) in hidden.iter_mut().zip(&self.found).rev() {
            covers = (*found).max(covers);
            *hidden = covers > 0;
            covers = covers.saturating_sub(1);
        }
        self.found.drain(..bytes);
        for (byte, hidden) in self.held.drain(..bytes).zip(hidden) {
            match (hidden, self.in_secret) {
                (false, _) => out.push(byte),
                (true, false) => out.extend_from_slice(STARS),
                (true, true) => {}
            }
            self.in_secret = hidden;
        }
    }
}

/// How a secret may be written.
fn forms(secret: &str, patterns: &mut Vec<Zeroizing<String>>) {
    let trimmed = secret.trim();
    let json = serde_json::Value::from(trimmed).to_string();
    let json = json.trim_matches('"').to_owned();
    let mut add = |form: String| {
        let form = Zeroizing::new(form);
        if !patterns.contains(&form) {
            patterns.push(form);
        }
    };
    add(trimmed.to_owned());
    add(json);
    add(encoded(trimmed));
    let lines = trimmed.lines().map(str::trim).filter(|line| line.len() >= LINE_MIN && *line != trimmed);
    // What marks a PEM block is no secret, and says what was taken out.
    lines.filter(|line| !line.starts_with("-----")).for_each(|line| add(line.to_owned()));
}

/// A node for each beginning of a pattern; the root is 0.
struct Machine {
    /// The byte that leads to each node.
    byte: Zeroizing<Vec<u8>>,
    /// Each node's first child and next sibling; 0 for none.
    child: Vec<u32>,
    sibling: Vec<u32>,
    /// The node of the longest end of this beginning that begins a pattern too.
    fall: Vec<u32>,
    /// Bytes from the root.
    depth: Vec<u32>,
    /// Bytes of the longest pattern that ends here.
    found: Vec<u32>,
}

impl Machine {
    fn longest(&self) -> usize {
        self.found.iter().max().map_or(0, |bytes| *bytes as usize)
    }

    fn new(patterns: &[Zeroizing<String>]) -> Self {
        let room = patterns.iter().map(|pattern| pattern.len()).sum::<usize>() + 1;
        let mut machine = Self {
            byte: Zeroizing::new(Vec::with_capacity(room)),
            child: Vec::new(),
            sibling: Vec::new(),
            fall: Vec::new(),
            depth: Vec::new(),
            found: Vec::new(),
        };
        machine.add(0, 0);
        for pattern in patterns {
            let mut at = 0;
            for byte in pattern.bytes() {
                at = match machine.below(at, byte) {
                    Some(next) => next,
                    None => machine.grow(at, byte),
                };
            }
            machine.found[index(at)] = machine.depth[index(at)];
        }
        machine.link();
        machine
    }

    fn add(&mut self, byte: u8, depth: u32) -> u32 {
        let node = u32::try_from(self.byte.len()).unwrap_or(u32::MAX);
        self.byte.push(byte);
        for list in [&mut self.child, &mut self.sibling, &mut self.fall, &mut self.found] {
            list.push(0);
        }
        self.depth.push(depth);
        node
    }

    fn grow(&mut self, parent: u32, byte: u8) -> u32 {
        let node = self.add(byte, self.depth[index(parent)] + 1);
        self.sibling[index(node)] = self.child[index(parent)];
        self.child[index(parent)] = node;
        node
    }

    fn below(&self, parent: u32, byte: u8) -> Option<u32> {
        let mut node = self.child[index(parent)];
        while node != 0 && self.byte[index(node)] != byte {
            node = self.sibling[index(node)];
        }
        (node != 0).then_some(node)
    }

    /// Finds where each node falls to, nearer ones first.
    fn link(&mut self) {
        let mut due = VecDeque::from([0]);
        while let Some(parent) = due.pop_front() {
            let mut node = self.child[index(parent)];
            while node != 0 {
                let byte = self.byte[index(node)];
                let fall = if parent == 0 { 0 } else { self.step(self.fall[index(parent)], byte) };
                self.fall[index(node)] = fall;
                self.found[index(node)] = self.found[index(node)].max(self.found[index(fall)]);
                due.push_back(node);
                node = self.sibling[index(node)];
            }
        }
    }

    fn step(&self, from: u32, byte: u8) -> u32 {
        let mut at = from;
        loop {
            match self.below(at, byte) {
                Some(next) => return next,
                None if at == 0 => return 0,
                None => at = self.fall[index(at)],
            }
        }
    }

    fn found(&self, node: u32) -> usize {
        index(self.found[index(node)])
    }

    fn depth(&self, node: u32) -> usize {
        index(self.depth[index(node)])
    }
}

fn index(node: u32) -> usize {
    usize::try_from(node).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What it should do, byte by byte, the slow way.
    fn model(secrets: &[String], text: &[u8]) -> Vec<u8> {
        let mut hidden = vec![false; text.len()];
        for secret in secrets.iter().map(|secret| secret.trim().as_bytes()).filter(|s| s.len() >= PATTERN_MIN)
        {
            for at in 0..text.len() {
                if text[at..].starts_with(secret) {
                    hidden[at..at + secret.len()].fill(true);
                }
            }
        }
        let mut out = Vec::new();
        for (at, byte) in text.iter().enumerate() {
            match hidden[at] {
                false => out.push(*byte),
                true if at == 0 || !hidden[at - 1] => out.extend_from_slice(STARS),
                true => {}
            }
        }
        out
    }

    proptest! {
        #[test]
        fn no_cut_lets_a_secret_through(
            secrets in prop::collection::vec("[ab]{1,12}", 0..5),
            text in "[abc]{0,80}",
            cuts in prop::collection::vec(0_usize..9, 0..80),
        ) {
            let known: Vec<Secret> = secrets.iter().map(Secret::new).collect();
            let mut redactor = Redactor::new(&known);
            let (mut out, mut rest) = (Vec::new(), text.as_bytes());
            for cut in cuts {
                let (chunk, behind) = rest.split_at(cut.min(rest.len()));
                redactor.feed(chunk, &mut out);
                rest = behind;
            }
            redactor.feed(rest, &mut out);
            redactor.finish(&mut out);
            let expected = model(&secrets, text.as_bytes());
            prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
            for secret in secrets.iter().filter(|secret| secret.len() >= PATTERN_MIN) {
                prop_assert!(!String::from_utf8_lossy(&out).contains(secret.as_str()));
            }
            prop_assert_eq!(redactor.text(&text).into_bytes(), out, "it can be used again after its end");
        }

        #[test]
        fn what_holds_no_secret_comes_out_as_it_went_in(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut redactor = Redactor::new(&[Secret::new("canary-0123456789")]);
            let mut out = Vec::new();
            redactor.feed(&bytes, &mut out);
            redactor.finish(&mut out);
            prop_assert_eq!(out, bytes);
        }
    }

    #[test]
    fn other_ways_of_writing_a_secret_are_found_and_short_ones_are_not() {
        let pem = "-----BEGIN X-----\nMIIEowIBAAKCAQEA\nfedcba9876543210\n-----END X-----\n";
        let mut redactor = Redactor::new(&[Secret::new(pem), Secret::new("p/w d+\"x"), Secret::new("abc")]);
        for (text, expected) in [
            (format!("key {pem}"), "key ***\n"),
            (format!("{{\"k\":{}}}", serde_json::Value::from(pem)), "{\"k\":\"***\\n\"}"),
            ("only fedcba9876543210 of it".to_owned(), "only *** of it"),
            ("GET /?t=p%2Fw%20d%2B%22x&abc".to_owned(), "GET /?t=***&abc"),
            ("p/w d+\"xp/w d+\"x abc".to_owned(), "*** abc"),
            ("-----BEGIN X-----\nother".to_owned(), "-----BEGIN X-----\nother"),
        ] {
            assert_eq!(redactor.text(&text), expected);
        }
    }

    #[test]
    fn what_cannot_be_a_secret_is_not_held_back() {
        let mut redactor = Redactor::new(&[Secret::new("canary")]);
        let mut out = Vec::new();
        redactor.feed(b"a line\ncan", &mut out);
        assert_eq!(out, b"a line\n");
        redactor.feed(b"ary, cana", &mut out);
        assert_eq!(out, b"a line\n***, ");
        redactor.finish(&mut out);
        assert_eq!(out, b"a line\n***, cana");
    }
}
