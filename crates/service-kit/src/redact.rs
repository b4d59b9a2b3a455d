//! Takes secrets out of text. In: the secrets at hand, bytes chunk by chunk. Out: the same bytes with every occurrence
//! of a secret as `***`, wherever the chunks are cut: as it is, a line of it, in base 64 or hexadecimal, and with any of its
//! characters written as URLs, JSON and XML write them, or wrapped. Occurrences that overlap or touch are one. A byte costs
//! the same whatever the secrets are.

mod forms;
mod machine;
mod view;

use std::collections::VecDeque;

use zeroize::Zeroizing;

use crate::secret::Secret;
pub use forms::{ENCODED_MAX, PATTERN_MIN};
use machine::Machine;
use view::{ESCAPE_MAX, Kind, Step};

/// What stands in a secret's place.
const STARS: &[u8] = b"***";
/// Shortest beginning of a secret that is taken out where a text was cut, in bytes: fewer say nothing.
const BEGINNING_MIN: usize = 4;

/// Takes secrets out of a stream of bytes.
pub struct Redactor {
    machine: Machine,
    /// Of the bytes as they are.
    state: u32,
    /// Of the bytes as others read them.
    views: [View; Kind::ALL.len()],
    /// What came and may be the beginning of a secret.
    held: Zeroizing<Vec<u8>>,
    /// How many bytes left before these.
    left: usize,
    /// Bytes of the longest secret, as it is written, that ends at each of them.
    found: Vec<usize>,
    /// Whether the last byte that left belonged to one.
    in_secret: bool,
}

/// A reading in which escapes are undone. It differs from the bytes as they are for a while after each escape only.
struct View {
    kind: Kind,
    differs: bool,
    state: u32,
    /// Where each of the last bytes that may be the beginning of a secret is written.
    places: VecDeque<usize>,
    /// What may be an escape.
    pending: Vec<u8>,
    /// Where that begins.
    pending_at: usize,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor(***)")
    }
}

impl Redactor {
    /// Knows these secrets. Texts shorter than [`PATTERN_MIN`] are not looked for; base 64 and hexadecimal are of secrets
    /// of at most [`ENCODED_MAX`] bytes.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut patterns = Vec::new();
        for secret in secrets {
            forms::forms(secret.reveal(), &mut patterns);
        }
        let machine = Machine::new(&patterns);
        let views = Kind::ALL.map(View::new);
        let held = Zeroizing::default();
        Self { machine, state: 0, views, held, left: 0, found: Vec::new(), in_secret: false }
    }

    /// Most bytes of a text that is taken out; 0 when there is none.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.machine.longest().saturating_mul(ESCAPE_MAX)
    }

    /// Takes a chunk; appends to `out` what cannot be part of a secret any more. Holds back at most [`Self::longest`]
    /// bytes.
    pub fn feed(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        for byte in chunk {
            self.take(*byte);
        }
        let open = self.open_from(0);
        self.release(open - self.left, out);
    }

    /// Ends the stream: appends what was held back.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(self.held.len(), out);
        self.begin_anew();
    }

    /// Ends a stream that was cut: what may be the beginning of a secret is taken out too.
    pub fn finish_cut(&mut self, out: &mut Vec<u8>) {
        let open = self.open_from(BEGINNING_MIN);
        self.release(open - self.left, out);
        if !self.held.is_empty() && !self.in_secret {
            out.extend_from_slice(STARS);
        }
        self.held.clear();
        self.found.clear();
        self.begin_anew();
    }

    /// A whole text at once.
    #[must_use]
    pub fn text(&mut self, text: &str) -> String {
        let mut out = Vec::with_capacity(text.len());
        self.feed(text.as_bytes(), &mut out);
        self.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn begin_anew(&mut self) {
        (self.state, self.left, self.in_secret) = (0, 0, false);
        self.views.iter_mut().for_each(View::end);
    }

    fn take(&mut self, byte: u8) {
        let Self { machine, state, views, held, left, found, .. } = self;
        let (at, before) = (*left + held.len(), *state);
        held.push(byte);
        *state = machine.step(before, byte);
        found.push(machine.found(*state));
        for view in views {
            if view.differs {
                view.take(byte, at, machine, found, *left);
                view.compare(*state, at + 1, machine);
            } else if view.kind.begins(byte) {
                view.begin(before, at, machine);
                view.take(byte, at, machine, found, *left);
                view.compare(*state, at + 1, machine);
            }
        }
    }

    /// Where the first begins that may be a secret, and of which so many bytes have come; else the end.
    fn open_from(&self, least: usize) -> usize {
        let end = self.left + self.held.len();
        let depth = self.machine.depth(self.state);
        let mut open = if depth >= least { end - depth } else { end };
        for view in self.views.iter().filter(|view| view.differs) {
            if view.places.len() >= least {
                open = open.min(view.places.front().copied().unwrap_or(end));
            }
            if least == 0 && !view.pending.is_empty() {
                open = open.min(view.pending_at);
            }
        }
        open
    }

    fn release(&mut self, bytes: usize, out: &mut Vec<u8>) {
        if bytes == 0 {
            return;
        }
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
        self.left += bytes;
    }
}

impl View {
    fn new(kind: Kind) -> Self {
        let (places, pending) = (VecDeque::new(), Vec::with_capacity(ESCAPE_MAX));
        Self { kind, differs: false, state: 0, places, pending, pending_at: 0 }
    }

    /// Until here the bytes were read as they are.
    fn begin(&mut self, state: u32, at: usize, machine: &Machine) {
        (self.differs, self.state) = (true, state);
        self.places.clear();
        self.places.extend(at - machine.depth(state)..at);
    }

    fn end(&mut self) {
        self.differs = false;
        self.pending.clear();
    }

    /// Whether from here on the bytes are read as they are.
    fn compare(&mut self, state: u32, end: usize, machine: &Machine) {
        let depth = machine.depth(state);
        let same = self.pending.is_empty() && self.state == state;
        if same && self.places.front().is_none_or(|first| *first == end - depth) {
            self.end();
        }
    }

    fn take(&mut self, byte: u8, at: usize, machine: &Machine, found: &mut [usize], left: usize) {
        if self.pending.is_empty() {
            self.pending_at = at;
        }
        self.pending.push(byte);
        while !self.pending.is_empty() {
            let len = match self.kind.step(&self.pending) {
                Step::More => return,
                Step::Plain => {
                    self.meant(self.pending[0], 1, machine, found, left);
                    1
                }
                Step::Escape(len, meant) => {
                    for byte in meant.as_slice() {
                        self.meant(*byte, len, machine, found, left);
                    }
                    len
                }
            };
            self.pending.drain(..len);
            self.pending_at += len;
        }
    }

    /// A byte that is written in the first `len` of those that are pending.
    fn meant(&mut self, byte: u8, len: usize, machine: &Machine, found: &mut [usize], left: usize) {
        self.state = machine.step(self.state, byte);
        self.places.push_back(self.pending_at);
        let gone = self.places.len().saturating_sub(machine.depth(self.state));
        self.places.drain(..gone);
        let bytes = machine.found(self.state);
        if bytes == 0 {
            return;
        }
        let (first, end) = (self.places[self.places.len() - bytes], self.pending_at + len);
        let found = &mut found[end - 1 - left];
        *found = (*found).max(end - first);
    }
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
            (format!("{{\"k\":\"{}\"}}", pem.replace('\n', "\\n")), "{\"k\":\"***\\n\"}"),
            ("only fedcba9876543210 of it".to_owned(), "only *** of it"),
            ("GET /?t=p%2Fw%20d%2B%22x&abc".to_owned(), "GET /?t=***&abc"),
            ("p/w d+\"xp/w d+\"x abc".to_owned(), "*** abc"),
            ("-----BEGIN X-----\nother".to_owned(), "-----BEGIN X-----\nother"),
        ] {
            assert_eq!(redactor.text(&text), expected);
        }
    }

    /// A way to write a text.
    type Writer = fn(&str) -> String;

    fn each_char(text: &str, write: impl Fn(char) -> String) -> String {
        text.chars().map(write).collect()
    }

    fn percent(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02x}")).collect()
    }

    fn utf16(text: &str) -> String {
        text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect()
    }

    fn base64_of_login(text: &str, url: bool) -> String {
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
        let login = format!("user:{text}");
        if url { URL_SAFE_NO_PAD.encode(login) } else { STANDARD.encode(login) }
    }

    fn wrapped(text: &str) -> String {
        let chars: Vec<char> = text.chars().collect();
        chars.chunks(7).map(|line| line.iter().collect::<String>() + "\n").collect()
    }

    const WRITERS: [Writer; 14] = [
        |text| text.to_owned(),
        percent,
        |text| percent(text).to_uppercase(),
        |text| {
            each_char(text, |c| if c.is_ascii_alphanumeric() { c.into() } else { percent(&c.to_string()) })
        },
        utf16,
        |text| each_char(text, |c| if c.is_ascii_alphanumeric() { c.into() } else { utf16(&c.to_string()) }),
        |text| text.replace('\\', "\\\\").replace('/', "\\/").replace('"', "\\\""),
        |text| each_char(text, |c| format!("&#{};", u32::from(c))),
        |text| each_char(text, |c| format!("&#x{:X};", u32::from(c))),
        |text| text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;"),
        |text| text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        |text| base64_of_login(text, false),
        |text| base64_of_login(text, true),
        wrapped,
    ];
    /// A shorter piece of a secret may be left: that which shares a character of base 64 with what is beside it.
    const RUN: usize = 8;

    /// The chunks of a text, of these sizes in turn.
    fn chunks<'t>(mut text: &'t [u8], sizes: &[usize]) -> Vec<&'t [u8]> {
        let mut chunks = Vec::new();
        let mut sizes = sizes.iter().cycle();
        while let (false, Some(size)) = (text.is_empty(), sizes.next()) {
            let (chunk, behind) = text.split_at((*size).min(text.len()));
            chunks.push(chunk);
            text = behind;
        }
        chunks
    }

    fn has_a_run_of(out: &[u8], written: &[u8]) -> bool {
        written.windows(RUN).any(|run| out.windows(RUN).any(|window| window == run))
    }

    proptest! {
        #[test]
        fn however_it_is_written_and_cut_no_piece_of_a_secret_is_left(
            secrets in prop::collection::vec("[a-zA-Z0-9+/=_.&<\"%\\\\-]{8,40}|[a-zé€😀/]{8,20}", 1..4),
            around in prop::collection::vec("[~! |]{0,9}", 1..5),
            ways in prop::collection::vec(0..WRITERS.len(), 1..9),
            sizes in prop::collection::vec(1_usize..30, 1..9),
            cut in any::<prop::sample::Index>(),
        ) {
            let known: Vec<Secret> = secrets.iter().map(Secret::new).collect();
            let mut redactor = Redactor::new(&known);
            let mut text = Vec::new();
            let mut written: Vec<String> = Vec::new();
            for (number, way) in ways.iter().enumerate() {
                let piece = WRITERS[*way](secrets[number % secrets.len()].trim());
                text.extend_from_slice(around[number % around.len()].as_bytes());
                text.push(b'~'); // what stands beside it belongs to no word of base 64
                text.extend_from_slice(piece.as_bytes());
                text.push(b'~');
                written.push(piece);
            }
            let mut out = Vec::new();
            chunks(&text, &sizes).into_iter().for_each(|chunk| redactor.feed(chunk, &mut out));
            redactor.finish(&mut out);
            // The user's name in front of a password is no secret.
            let login = base64_of_login("", false);
            for piece in &written {
                let piece = piece.strip_prefix(&login[..4]).unwrap_or(piece);
                prop_assert!(!has_a_run_of(&out, piece.as_bytes()), "{piece} in {}", String::from_utf8_lossy(&out));
            }
            // A text that was cut anywhere.
            let mut out = Vec::new();
            chunks(&text[..cut.index(text.len())], &sizes).into_iter().for_each(|chunk| redactor.feed(chunk, &mut out));
            redactor.finish_cut(&mut out);
            for secret in secrets.iter().map(|secret| secret.trim()) {
                prop_assert!(!has_a_run_of(&out, secret.as_bytes()), "{secret} in {}", String::from_utf8_lossy(&out));
            }
        }
    }

    #[test]
    fn what_a_cut_left_of_a_secret_is_taken_out() {
        let mut redactor = Redactor::new(&[Secret::new("canary/0123456789")]);
        for (text, expected) in [
            ("no canary/01", "no ***"),
            ("no can", "no can"),
            ("no canary%2F0", "no ***"),
            ("no canary%2", "no ***"),
            ("no canary/0123456789", "no ***"),
            ("no canary/0123456789canary/", "no ***"),
            ("nothing of it", "nothing of it"),
        ] {
            let mut out = Vec::new();
            redactor.feed(text.as_bytes(), &mut out);
            redactor.finish_cut(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{text}");
        }
    }

    /// Many secrets, written in many ways, take as long as one: the automaton has one node a byte.
    #[test]
    fn a_megabyte_costs_no_more_than_its_bytes() {
        let secrets: Vec<Secret> =
            (0..20).map(|i| Secret::new(format!("canary-{i:02}/+{}", "x".repeat(40)))).collect();
        let line = "{\"message\":\"no %2B such \\u002b key &amp; canary-07/+xxx\"} 0123456789 abcdefghijk\n";
        let text = line.repeat((1 << 20) / line.len());
        let cost = |secrets: &[Secret]| {
            let mut redactor = Redactor::new(secrets);
            let begun = test_kit::cpu::time();
            let mut out = Vec::with_capacity(text.len());
            text.as_bytes().chunks(64 << 10).for_each(|chunk| redactor.feed(chunk, &mut out));
            redactor.finish(&mut out);
            assert_eq!(out.len(), text.len());
            test_kit::cpu::time() - begun
        };
        // Side by side, so that both meet the same machine.
        let runs: Vec<_> = (0..3).map(|_| (cost(&secrets[..1]), cost(&secrets))).collect();
        let one = runs.iter().map(|(one, _)| *one).min().unwrap();
        let all = runs.iter().map(|(_, all)| *all).min().unwrap();
        println!("1 MiB: 1 secret {one:?}, 20 secrets {all:?}");
        assert!(all < 3 * one, "{one:?} with one secret, {all:?} with 20");
        // A build that is not optimised is ten times as slow, and a busy machine twice as slow again.
        let limit = if cfg!(debug_assertions) { 2_000 } else { 200 };
        assert!(all.as_millis() < limit, "{all:?}");
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
