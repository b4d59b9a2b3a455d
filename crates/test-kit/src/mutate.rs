//! A small fuzzer for tests. In: a corpus of `fuzz/corpus`, shapes of large inputs, and a check that must hold for any
//! bytes. Out: the check has seen every seed, mutations of them for a bounded time, and inputs of 1 MiB against the
//! clock; a failure names the input. It follows no coverage: that is what `make fuzz` is for.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cpu;
use crate::seed::{self, Rng};

/// Bytes of a large input.
pub const LARGE: usize = 1 << 20;
/// The longest a check may compute over a large input when it is built for release.
pub const TIME_MAX: Duration = Duration::from_millis(100);
/// How much longer it may take in a debug build. Those are 10 to 30 times slower; what takes quadratic time over 1 MiB
/// is thousands of times above either bound.
pub const DEBUG_SLOWER: u32 = 40;
/// How long mutations are played.
const PLAY: Duration = Duration::from_millis(900);
/// How long seeds are played that were made large at random.
const PLAY_LARGE: Duration = Duration::from_millis(300);
/// Most bytes of a mutated input.
const MUTATED_MAX: usize = 16 << 10;
/// Most mutations of one input.
const STEPS_MAX: u64 = 6;
/// An input that took too long gets this many more chances: caches and clocks of a shared machine vary.
const CHANCES: usize = 3;
/// Bytes of a failed input that are shown.
const SHOWN_MAX: usize = 2000;
/// Numbers at which lengths and counts go wrong.
const EDGES: [u32; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x0100_0000, 0x7fff_ffff, 0xffff_ffff];

/// A large input: a head, a part over and over until there are enough bytes, a tail. Each `{n}` in the part is the
/// number of the repetition, five digits or more.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    /// Once, in front.
    pub head: &'static str,
    /// Many times.
    pub part: &'static str,
    /// Once, behind.
    pub tail: &'static str,
}

impl Shape {
    fn bytes(&self, len_max: usize) -> Vec<u8> {
        let (head, tail) = (self.head.as_bytes(), self.tail.as_bytes());
        filled(head, tail, len_max, |number| self.part.replace("{n}", &format!("{number:05}")).into_bytes())
    }
}

/// Parts between a head and a tail until the next one would be too much. Equal parts are made once.
fn filled(head: &[u8], tail: &[u8], len_max: usize, part: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = head.to_vec();
    let room = len_max.saturating_sub(head.len() + tail.len());
    let first = part(0);
    if first == part(1) {
        bytes.extend(first.repeat(room / first.len().max(1)));
    } else {
        for next in (0..).map(part) {
            if bytes.len() + next.len() + tail.len() > len_max {
                break;
            }
            bytes.extend(next);
        }
    }
    bytes.extend_from_slice(tail);
    bytes
}

/// What was played.
#[derive(Debug)]
pub struct Played {
    /// Inputs of the corpus.
    pub seeds: usize,
    /// Mutations of them.
    pub mutated: usize,
    /// Large inputs.
    pub large: usize,
    /// The longest time over one of those.
    pub slowest: Duration,
}

/// Plays the corpus of a fuzz target, mutations of it, and inputs of [`LARGE`] bytes. Prints what it played.
///
/// # Panics
/// When the check panics, or takes too long over a large input: the input and the seed are printed before. When there
/// is no corpus.
pub fn play(target: &str, shapes: &[Shape], check: impl Fn(&[u8])) -> Played {
    play_within(target, LARGE, shapes, check)
}

/// [`play`] for a parser whose door lets in `len_max` bytes at most: what is larger would never get to it.
///
/// # Panics
/// As [`play`].
pub fn play_within(target: &str, len_max: usize, shapes: &[Shape], check: impl Fn(&[u8])) -> Played {
    let (seeds, tokens) = (corpus(target), tokens(target));
    let mut played = Played { seeds: seeds.len(), mutated: 0, large: 0, slowest: Duration::ZERO };
    let mut large = |name: &str, bytes: &[u8]| {
        played.slowest = played.slowest.max(timed(&format!("{target}: {name}"), bytes, &check));
        played.large += 1;
    };
    for (name, bytes) in &seeds {
        guarded(&format!("{target}: {name}"), bytes, &check);
    }
    for shape in shapes {
        large(&format!("{shape:?}"), &shape.bytes(len_max));
    }
    let mut seeded = seed::start();
    let rng = &mut seeded.rng;
    let end = Instant::now() + PLAY_LARGE;
    while Instant::now() < end {
        let (name, bytes) = rng.pick(&seeds);
        large(&format!("{name}, made large"), &enlarged(rng, bytes, len_max));
    }
    let end = Instant::now() + PLAY;
    while Instant::now() < end {
        let ((name, one), (_, other)) = (rng.pick(&seeds), rng.pick(&seeds));
        guarded(&format!("{target}: {name}, mutated"), &mutated(rng, one, other, &tokens), &check);
        played.mutated += 1;
    }
    println!("{target}: {played:?}");
    played
}

/// Runs the check; says over what when it fails.
fn guarded(name: &str, bytes: &[u8], check: &impl Fn(&[u8])) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(bytes))) {
        let shown = &bytes[..bytes.len().min(SHOWN_MAX)];
        eprintln!("{name} does not hold, {} bytes: {}", bytes.len(), shown.escape_ascii());
        resume_unwind(panic);
    }
}

/// Runs the check against the clock; gives the time it took.
fn timed(name: &str, bytes: &[u8], check: &impl Fn(&[u8])) -> Duration {
    let limit = if cfg!(debug_assertions) { TIME_MAX * DEBUG_SLOWER } else { TIME_MAX };
    within(limit, || guarded(name, bytes, check)).unwrap_or_else(|best| {
        panic!("{name}: {} bytes took {best:?} at best, {limit:?} is the most", bytes.len())
    })
}

/// Does the work once, or again while it takes longer than `limit`; gives the shortest time.
///
/// # Errors
/// That time, when it is above `limit`.
pub fn within(limit: Duration, work: impl Fn()) -> Result<Duration, Duration> {
    let start = Instant::now();
    work();
    // Asking the kernel costs more than most inputs do.
    let first = start.elapsed();
    if first <= limit {
        return Ok(first);
    }
    let computed = || {
        let start = cpu::time();
        work();
        cpu::time() - start
    };
    let best = (0..CHANCES).map(|_| computed()).min().unwrap_or(first);
    if best <= limit { Ok(best) } else { Err(best) }
}

/// The seeds of a target, in the order of their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.expect("a folder of the repository can be listed").path();
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{} has a seed at least", folder.display());
    seeds
}

/// The words of a target's dictionary: `"text"` a line, `\xNN` in it for any byte, `#` in front of remarks.
fn tokens(target: &str) -> Vec<Vec<u8>> {
    let file = fuzz().join("dict").join(format!("{target}.dict"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let inside = line.strip_prefix('"').and_then(|line| line.strip_suffix('"'));
            unescaped(inside.unwrap_or_else(|| panic!("{}: {line} is not in quotes", file.display())))
        })
        .collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (plain, false) => plain,
            (_, true) => match rest.next() {
                Some(b'x') => {
                    let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                    let (high, low) = digit().zip(digit()).expect("two digits behind \\x");
                    u8::try_from(high * 16 + low).expect("two digits are a byte")
                }
                other => other.expect("something behind a backslash"),
            },
        });
    }
    bytes
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// One to [`STEPS_MAX`] changes to `seed`, with parts of `other` and words among them.
fn mutated(rng: &mut Rng, seed: &[u8], other: &[u8], tokens: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=rng.below(STEPS_MAX) {
        let at = rng.index(bytes.len() + 1);
        match rng.below(10) {
            0 => flip(rng, &mut bytes, at),
            1 => overwrite(&mut bytes, at, &[rng.next_u64().to_le_bytes()[0]]),
            2 => overwrite(&mut bytes, at, &rng.pick(&EDGES).to_le_bytes()),
            3 => drop(bytes.drain(part(rng, at, bytes.len()))),
            4 => bytes.truncate(at),
            5 | 6 => insert(&mut bytes, at, other, rng),
            7 => {
                let copy = bytes.clone();
                insert(&mut bytes, at, &copy, rng);
            }
            _ if tokens.is_empty() => {}
            8 => overwrite(&mut bytes, at, &rng.pick(tokens)[..]),
            _ => drop(bytes.splice(at..at, rng.pick(tokens).iter().copied())),
        }
    }
    bytes.truncate(MUTATED_MAX);
    bytes
}

fn flip(rng: &mut Rng, bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << rng.below(8);
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (byte, new) in bytes[at..].iter_mut().zip(with) {
        *byte = *new;
    }
}

/// Puts a part of `from` in.
fn insert(bytes: &mut Vec<u8>, at: usize, from: &[u8], rng: &mut Rng) {
    let start = rng.index(from.len() + 1);
    let part = &from[part(rng, start, from.len())];
    bytes.splice(at..at, part.iter().copied());
}

/// From `start` to anywhere up to `len`, short parts more often than long ones.
fn part(rng: &mut Rng, start: usize, len: usize) -> std::ops::Range<usize> {
    let rest = len - start;
    let max = if rng.chance(50) { rest.min(16) } else { rest };
    start..start + rng.index(max + 1)
}

/// The seed with a part of it repeated until it has `len_max` bytes; in half of the cases, runs of `0` in the part are
/// numbers that grow.
fn enlarged(rng: &mut Rng, seed: &[u8], len_max: usize) -> Vec<u8> {
    let start = rng.index(seed.len() + 1);
    let range = part(rng, start, seed.len());
    let (head, part, tail) = (&seed[..range.start], &seed[range.clone()], &seed[range.end..]);
    let part = if part.is_empty() { b"0" } else { part };
    let run = part.windows(5).position(|run| run == b"00000").filter(|_| rng.chance(50));
    filled(head, tail, len_max, |number| {
        let mut next = part.to_vec();
        if let Some(run) = run {
            overwrite(&mut next, run, format!("{:05}", number % 100_000).as_bytes());
        }
        next
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_enlarged_seeds_have_the_size_they_should() {
        let shape = Shape { head: "[", part: "{n},", tail: "]" };
        let bytes = shape.bytes(LARGE);
        assert!(bytes.starts_with(b"[00000,00001,00002,") && bytes.ends_with(b",]"));
        assert!((LARGE - 8..=LARGE).contains(&bytes.len()));
        let mut rng = Rng::new(7);
        for _ in 0..6 {
            let bytes = enlarged(&mut rng, b"a = \"00000\"\n", LARGE);
            assert!((LARGE - 12..=LARGE).contains(&bytes.len()), "{}", bytes.len());
        }
    }

    #[test]
    fn every_kind_of_change_is_made_within_the_bound() {
        let mut rng = Rng::new(7);
        let (seed, other) = (vec![b'a'; 64], vec![b'b'; 64]);
        let tokens = [b"token".to_vec()];
        let all: Vec<Vec<u8>> = (0..2000).map(|_| mutated(&mut rng, &seed, &other, &tokens)).collect();
        assert!(all.iter().any(|bytes| bytes.len() < 32) && all.iter().any(|bytes| bytes.len() > 128));
        assert!(all.iter().any(|bytes| bytes.windows(5).any(|found| found == b"token")));
        assert!(all.iter().any(|bytes| bytes.windows(9).any(|found| found == b"bbbbbbbbb")));
        assert!(all.iter().any(|bytes| bytes.windows(4).any(|found| found == [0xff; 4])));
        assert!(all.iter().all(|bytes| bytes.len() <= MUTATED_MAX));
        let mut short = Vec::new();
        for _ in 0..200 {
            short = mutated(&mut rng, &short, b"", &[]);
        }
    }

    /// cargo-fuzz builds what the manifest names, and passes over the rest in silence.
    #[test]
    fn every_target_is_built_and_has_seeds_and_words() {
        let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
        let mut targets = 0;
        for entry in fs::read_dir(fuzz().join("fuzz_targets")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let bin = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
            assert!(manifest.contains(&bin), "{name} is in fuzz/Cargo.toml");
            assert!(!corpus(name).is_empty() && !tokens(name).is_empty(), "{name} has seeds and words");
            targets += 1;
        }
        assert_eq!(targets, manifest.matches("[[bin]]").count());
    }

    #[test]
    fn words_of_a_dictionary_are_any_bytes() {
        assert_eq!(unescaped(r#"a\x00\xff\"\\"#), b"a\x00\xff\"\\");
    }

    #[test]
    fn what_takes_too_long_each_time_is_not_within_its_limit() {
        let limit = Duration::from_millis(20);
        let times = std::cell::Cell::new(0);
        let work = |ms| {
            times.set(times.get() + 1);
            let start = cpu::time();
            while cpu::time() - start < Duration::from_millis(ms) {}
        };
        assert!(within(limit, || work(60)).is_err());
        assert_eq!(times.replace(0), 1 + CHANCES);
        assert!(within(limit, || work(if times.get() == 0 { 60 } else { 1 })).is_ok());
    }

    #[test]
    fn a_check_that_fails_is_not_passed_over() {
        let failed = catch_unwind(|| guarded("test", b"x", &|bytes| assert!(bytes.is_empty())));
        assert!(failed.is_err());
    }
}
