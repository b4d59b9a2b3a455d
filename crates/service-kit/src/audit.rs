//! A log of privileged acts that cannot be changed unseen. In: what was done, by whom, when; and the end of the log so
//! far. Out: the new end, a number and a hash over this row and all before it; and of rows that were read again, the
//! first that is not as it was written. Leaves out where rows are kept, and who may write there: whoever can write all
//! rows anew can make all hashes anew, and is found only by an end that was noted elsewhere.

use std::fmt::{self, Write};
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::text::one_line;

/// Longest name of an act, in bytes.
pub const ACT_MAX: usize = 64;
/// Longest user name that is kept, in bytes.
pub const USER_MAX: usize = 64;
/// Most bytes of what is told of an act.
pub const DETAIL_MAX: usize = 4096;
/// What every hash begins with, so that no other use of the hash has the same input.
const DOMAIN: &[u8] = b"eka audit row 1\n";

/// What was done, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The act: one word.
    pub act: String,
    /// The user, as the kernel says.
    pub uid: u32,
    /// Its name at that time; empty when nobody could tell.
    pub user: String,
    /// The process; 0 when the kernel did not say.
    pub pid: u32,
    /// The rest, as text that is safe in one line of a log.
    pub detail: String,
}

/// SHA-256 of a row and all before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

/// The end of a log: its last row's number, from 1, and hash. Shown as `NUMBER:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last row's number; 0 before the first.
    pub seq: u64,
    /// Its hash; all zero before the first.
    pub hash: Hash,
}

/// A row as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number and hash, as found.
    pub head: Head,
    /// The rest.
    pub entry: Entry,
}

/// Why a log is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Rows are missing.
    #[error("row {missing} is missing: after row {} comes row {found}", missing - 1)]
    Missing {
        /// The first row that is missing.
        missing: u64,
        /// The row that was found in its place.
        found: u64,
    },
    /// A row comes that has been, or a number below the first.
    #[error("row {found} is not in its place: row {expected} should come there")]
    Misplaced {
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// A row, or one before it that was taken away or put in, is not what was written.
    #[error("row {seq} is not what was written: it, or what stood before it, was changed")]
    Changed {
        /// The first row whose hash does not hold.
        seq: u64,
    },
}

/// What is no end of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "that is no head of an audit log; give NUMBER:HASH as a log line of an act shows it, HASH with 64 digits"
)]
pub struct NoHead;

impl Head {
    /// The end of a log without rows.
    pub const BEGIN: Self = Self { seq: 0, hash: Hash([0; 32]) };

    /// The end of the log with this row behind it.
    #[must_use]
    pub fn with(&self, entry: &Entry) -> Self {
        let seq = self.seq.saturating_add(1);
        Self { seq, hash: hash(&self.hash, seq, entry) }
    }

    /// Goes on over the next row that was read.
    ///
    /// # Errors
    /// [`Broken`], and then the log is not looked at any further.
    pub fn check(&mut self, row: &Row) -> Result<(), Broken> {
        let (expected, found) = (self.seq.saturating_add(1), row.head.seq);
        if found > expected {
            return Err(Broken::Missing { missing: expected, found });
        }
        if found < expected {
            return Err(Broken::Misplaced { expected, found });
        }
        let next = self.with(&row.entry);
        if next != row.head {
            return Err(Broken::Changed { seq: found });
        }
        *self = next;
        Ok(())
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Head {
    type Err = NoHead;

    fn from_str(text: &str) -> Result<Self, NoHead> {
        let (seq, digits) = text.trim().split_once(':').ok_or(NoHead)?;
        let seq = seq.parse().map_err(|_| NoHead)?;
        let digits = digits.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return Err(NoHead);
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            let value = digit(0).zip(digit(1)).map(|(high, low)| high * 16 + low);
            *byte = value.and_then(|value| u8::try_from(value).ok()).ok_or(NoHead)?;
        }
        Ok(Self { seq, hash: Hash(hash) })
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// Every field behind its length, so that no two rows have the same bytes.
fn hash(previous: &Hash, seq: u64, entry: &Entry) -> Hash {
    let Entry { at_ms, act, uid, user, pid, detail } = entry;
    let mut hasher = Sha256::new();
    hasher.update(DOMAIN);
    hasher.update(previous.0);
    hasher.update(seq.to_le_bytes());
    hasher.update(at_ms.to_le_bytes());
    hasher.update(uid.to_le_bytes());
    hasher.update(pid.to_le_bytes());
    for text in [act, user, detail] {
        hasher.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    Hash(hasher.finalize().into())
}

/// A text from outside as it may stand in a row: what could steer a terminal is escaped, and of a long one the beginning
/// is kept, at most `bytes_max` bytes and a mark that it was longer.
#[must_use]
pub fn outside(text: &str, bytes_max: usize) -> String {
    let mut kept = String::new();
    for c in text.chars() {
        let before = kept.len();
        // A String takes whatever is written to it.
        let _ = write!(kept, "{}", one_line(c.encode_utf8(&mut [0; 4])));
        if kept.len() > bytes_max {
            kept.truncate(before);
            kept.push('…');
            break;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let entry = (any::<i64>(), "[a-z-]{0,9}", any::<u32>(), ".{0,9}", any::<u32>(), ".{0,40}");
        let entry = entry.prop_map(|(at_ms, act, uid, user, pid, detail)| Entry {
            at_ms,
            act,
            uid,
            user,
            pid,
            detail,
        });
        prop::collection::vec(entry, 1..12)
    }

    fn written(entries: &[Entry]) -> Vec<Row> {
        let mut head = Head::BEGIN;
        let row = |entry: &Entry| {
            head = head.with(entry);
            Row { head, entry: entry.clone() }
        };
        entries.iter().map(row).collect()
    }

    fn read(rows: &[Row]) -> Result<Head, Broken> {
        let mut head = Head::BEGIN;
        rows.iter().try_for_each(|row| head.check(row)).map(|()| head)
    }

    /// Flips one bit of one field; texts stay texts by changing a character.
    fn change(row: &mut Row, field: u8, bit: u32) {
        let text = |text: &mut String| {
            let mut chars: Vec<char> = text.chars().collect();
            match chars.get_mut(bit as usize % (text.chars().count() + 1)) {
                Some(c) => *c = if *c == 'x' { 'y' } else { 'x' },
                None => chars.push('x'),
            }
            *text = chars.into_iter().collect();
        };
        match field {
            0 => row.head.seq ^= 1 << (bit % 64),
            1 => row.head.hash.0[bit as usize % 32] ^= 1 << (bit % 8),
            2 => row.entry.at_ms ^= 1 << (bit % 64),
            3 => row.entry.uid ^= 1 << (bit % 32),
            4 => row.entry.pid ^= 1 << (bit % 32),
            5 => text(&mut row.entry.act),
            6 => text(&mut row.entry.user),
            _ => text(&mut row.entry.detail),
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(entries in entries()) {
            let rows = written(&entries);
            let head = rows.last().unwrap().head;
            prop_assert_eq!(read(&rows), Ok(head));
            prop_assert_eq!(head.to_string().parse(), Ok(head));
        }

        #[test]
        fn any_change_of_any_row_is_found_at_that_row(
            entries in entries(), at in any::<prop::sample::Index>(), field in 0_u8..8, bit in any::<u32>()
        ) {
            let mut rows = written(&entries);
            let at = at.index(rows.len());
            change(&mut rows[at], field, bit);
            let seq = u64::try_from(at).unwrap() + 1;
            let found = match read(&rows).unwrap_err() {
                Broken::Missing { missing, .. } => missing,
                Broken::Misplaced { expected, .. } => expected,
                Broken::Changed { seq } => seq,
            };
            prop_assert_eq!(found, seq);
        }

        #[test]
        fn a_row_that_was_taken_away_is_missed_also_when_the_rest_is_numbered_anew(
            entries in entries(), at in any::<prop::sample::Index>()
        ) {
            let mut rows = written(&entries);
            let at = at.index(rows.len());
            rows.remove(at);
            if at == rows.len() {
                // The end alone cannot be missed by the chain: that is what a noted head is for.
                prop_assert!(read(&rows).is_ok());
                return Ok(());
            }
            let missing = u64::try_from(at).unwrap() + 1;
            prop_assert_eq!(read(&rows), Err(Broken::Missing { missing, found: missing + 1 }));
            rows[at..].iter_mut().for_each(|row| row.head.seq -= 1);
            prop_assert_eq!(read(&rows), Err(Broken::Changed { seq: missing }));
        }

        #[test]
        fn rows_that_were_swapped_or_put_in_are_found(
            entries in entries(), one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>()
        ) {
            let rows = written(&entries);
            let (one, other) = (one.index(rows.len()), other.index(rows.len()));
            let mut swapped = rows.clone();
            swapped.swap(one, other);
            prop_assert_eq!(read(&swapped).is_err(), one != other);
            // With their numbers left in place, as an UPDATE would do it.
            let (of_one, of_other) = (rows[one].entry.clone(), rows[other].entry.clone());
            let mut exchanged = rows.clone();
            let differ = of_one != of_other;
            (exchanged[one].entry, exchanged[other].entry) = (of_other, of_one);
            prop_assert_eq!(read(&exchanged).is_err(), differ);
            // Put in before another, whose followers are numbered anew.
            let mut more = rows.clone();
            let mut forged = rows[other].clone();
            forged.head.seq = rows[one].head.seq;
            more[one..].iter_mut().for_each(|row| row.head.seq += 1);
            more.insert(one, forged);
            prop_assert!(read(&more).is_err());
        }

        #[test]
        fn a_text_from_outside_is_bounded_and_steers_nothing(text in ".{0,60}", bytes_max in 1_usize..40) {
            let kept = outside(&text, bytes_max);
            prop_assert!(kept.len() <= bytes_max + '…'.len_utf8());
            prop_assert!(!kept.chars().any(crate::text::steers));
        }
    }

    #[test]
    fn the_hash_is_that_of_every_version() {
        let entry = Entry {
            at_ms: 1_700_000_000_000,
            act: "pause".into(),
            uid: 0,
            user: "root".into(),
            pid: 12,
            detail: "{}".into(),
        };
        let head = Head::BEGIN.with(&entry);
        assert_eq!(head.to_string(), "1:3308cabbf01bd7991153a3d55dad8342db1b5ba1e82a21a38a7b9f381c1f2553");
        let moved = Entry { user: "root{".into(), detail: "}".into(), ..entry };
        assert_ne!(Head::BEGIN.with(&moved), head, "where a field ends is part of it");
        assert!("1:00".parse::<Head>().is_err() && "x".parse::<Head>().is_err());
    }
}
