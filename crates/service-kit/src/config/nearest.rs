//! Which known name a mistyped one probably means. In: the name and the known ones. Out: the nearest, if it is
//! near enough to be a slip. Leaves out guessing by meaning.

/// "did you mean X" when a known name is near, else `otherwise`.
pub(super) fn remedy<'a>(name: &str, known: impl Iterator<Item = &'a str>, otherwise: &str) -> String {
    match nearest(name, known) {
        Some(near) => format!("did you mean {near}?"),
        None => otherwise.to_owned(),
    }
}

/// Longer names are not compared: no known name is that long.
const NAME_CHARS_MAX: usize = 64;

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(NAME_CHARS_MAX).map(normal).collect();
    let slips_max = (name.len() / 3).max(1);
    known
        .map(|candidate| (distance(&name, &candidate.chars().map(normal).collect::<Vec<_>>()), candidate))
        .filter(|(slips, _)| *slips <= slips_max)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Case and `-` for `_` are the commonest slips and cost nothing.
fn normal(c: char) -> char {
    if c == '-' { '_' } else { c.to_ascii_lowercase() }
}

/// Insertions, deletions, replacements and swaps of neighbours between two names.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let mut cost = (last[j] + usize::from(from != to)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                cost = cost.min(before_last[j - 1] + 1);
            }
            row.push(cost);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_none() {
        let known = ["socket", "spool_dir", "state_dir", "id", "exclude", "exclude_regex"];
        let long = "x".repeat(100_000);
        let near = |name| nearest(name, known.into_iter());
        assert_eq!(near("sokcet"), Some("socket"));
        assert_eq!(near("spool-dir"), Some("spool_dir"));
        assert_eq!(near("StateDir"), Some("state_dir"));
        assert_eq!(near("di"), Some("id"));
        assert_eq!(near("excludes"), Some("exclude"));
        assert_eq!(near("concurrency"), None);
        assert_eq!(near(long.as_str()), None);
        assert_eq!(near(""), None);
    }
}
