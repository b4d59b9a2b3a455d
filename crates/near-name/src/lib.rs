//! Which known name a mistyped one probably means. In: the name and the known ones, whether these are keys of a
//! configuration, parameters of a URL or names that somebody gave. Out: the nearest, if it is near enough to be a slip, and
//! the sentence that says so. Leaves out guessing by meaning, and what else an error says.
#![forbid(unsafe_code)]

/// Most characters of a name that is compared: none that a person mistyped is longer.
pub const NAME_CHARS_MAX: usize = 64;

/// The known name with the fewest slips, if those are at most a third of the name, or one; of several the first by the
/// alphabet. `None` for a name of more than [`NAME_CHARS_MAX`] characters.
///
/// A slip is a character put in, left out or replaced, or two neighbours swapped. Case, and `-` for `_`, are the commonest
/// slips and count as none.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(NAME_CHARS_MAX + 1).map(normal).collect();
    if name.len() > NAME_CHARS_MAX {
        return None;
    }
    let slips_max = (name.len() / 3).max(1);
    let slips = known.into_iter().filter_map(|one| {
        let to: Vec<char> = one.chars().take(NAME_CHARS_MAX + slips_max + 1).map(normal).collect();
        // The difference in length alone is more, and a very long name costs nothing.
        (to.len().abs_diff(name.len()) <= slips_max).then(|| (slips(&name, &to), one))
    });
    slips.filter(|(slips, _)| *slips <= slips_max).min().map(|(_, one)| one)
}

/// `did you mean X?` when a known name is near, else `otherwise`.
pub fn remedy<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
    otherwise: impl Into<String>,
) -> String {
    match nearest(name, known) {
        Some(near) => format!("did you mean {near}?"),
        None => otherwise.into(),
    }
}

fn normal(c: char) -> char {
    if c == '-' { '_' } else { c.to_ascii_lowercase() }
}

/// How many characters must be put in, taken out, replaced or swapped with their neighbour.
fn slips(from: &[char], to: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, c) in from.iter().enumerate() {
        let mut here = vec![row + 1];
        for (column, wanted) in to.iter().enumerate() {
            let mut cost = (last[column] + usize::from(c != wanted)).min(last[column + 1] + 1);
            cost = cost.min(here[column] + 1);
            if row > 0 && column > 0 && *c == to[column - 1] && from[row - 1] == *wanted {
                cost = cost.min(before_last[column - 1] + 1);
            }
            here.push(cost);
        }
        before_last = std::mem::replace(&mut last, here);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::{NAME_CHARS_MAX, nearest, remedy};

    const KEYS: [&str; 7] =
        ["socket", "spool_dir", "state_dir", "id", "exclude", "exclude_regex", "concurrency"];

    #[test]
    fn a_slip_finds_its_name() {
        let near = |name: &str| nearest(name, KEYS);
        for (slip, meant) in [
            ("sokcet", "socket"),
            ("spool-dir", "spool_dir"),
            ("StateDir", "state_dir"),
            ("di", "id"),
            ("excludes", "exclude"),
            ("excluderegex", "exclude_regex"),
        ] {
            assert_eq!(near(slip), Some(meant), "{slip}");
        }
        let parameters = |name: &str| nearest(name, ["compression", "secret-key", "secret-keys", "region"]);
        for (slip, meant) in [
            ("compresion", "compression"),
            ("secret_key", "secret-key"),
            ("SecretKey", "secret-key"),
            ("regoin", "region"),
        ] {
            assert_eq!(parameters(slip), Some(meant), "{slip}");
        }
        for key in KEYS {
            assert_eq!(near(key), Some(key));
        }
    }

    #[test]
    fn a_stranger_finds_none() {
        for name in ["presence", "token", "", &"x".repeat(100_000), &"socket".repeat(1000)] {
            assert_eq!(nearest(name, KEYS), None, "{name}");
        }
        assert_eq!(nearest("socket", []), None);
    }

    #[test]
    fn of_two_that_are_as_near_the_first_by_the_alphabet() {
        assert_eq!(nearest("bat", ["cat", "bit", "hat"]), Some("bit"));
    }

    #[test]
    fn names_at_the_bound_are_compared_and_known_ones_may_be_longer() {
        let name = "n".repeat(NAME_CHARS_MAX);
        let (longer, much_longer) = (format!("{name}s"), name.repeat(1000));
        assert_eq!(nearest(&name, [much_longer.as_str(), longer.as_str()]), Some(longer.as_str()));
        assert_eq!(nearest(&longer, [longer.as_str()]), None);
    }

    #[test]
    fn the_remedy_names_it_or_says_something_else() {
        assert_eq!(remedy("sokcet", KEYS, "remove it"), "did you mean socket?");
        assert_eq!(remedy("presence", KEYS, "remove it"), "remove it");
    }
}
