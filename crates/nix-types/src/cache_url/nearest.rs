//! Which known parameter a mistyped one probably means: its name and the known ones in, the nearest out, if it is near
//! enough to be a slip.

/// Longer names are not compared: no known one is that long.
const NAME_BYTES_MAX: usize = 64;

/// The known name with the fewest slips, if those are at most a third of the name.
pub(crate) fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let slips_max = (name.len() / 3).max(1);
    let slips = known.map(|candidate| (slips(name, candidate), candidate));
    slips.filter(|(slips, _)| *slips <= slips_max).min().map(|(_, candidate)| candidate)
}

/// How many bytes must be put in, taken out or replaced; case and `_` for `-` cost nothing.
fn slips(from: &str, to: &str) -> usize {
    let normal = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, byte) in from.bytes().map(normal).enumerate() {
        let mut before = last[0];
        last[0] = row + 1;
        for (column, wanted) in to.bytes().map(normal).enumerate() {
            let here = (before + usize::from(byte != wanted)).min(last[column] + 1).min(last[column + 1] + 1);
            before = std::mem::replace(&mut last[column + 1], here);
        }
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_none() {
        let near =
            |name: &str| nearest(name, ["compression", "secret-key", "secret-keys", "region"].into_iter());
        assert_eq!(near("compresion"), Some("compression"));
        assert_eq!(near("secret_key"), Some("secret-key"));
        assert_eq!(near("SecretKey"), Some("secret-key"));
        assert_eq!(near("regoin"), Some("region"));
        assert_eq!(near("token"), None);
        assert_eq!(near(""), None);
        assert_eq!(near(&"region".repeat(1000)), None);
    }
}
