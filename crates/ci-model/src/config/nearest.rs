//! Which known name a mistyped one probably means. In: the name and the known ones. Out: the nearest, if it is near enough
//! to be a slip. Leaves out guessing by meaning.

/// Longer names are not compared: no known name is that long.
const NAME_CHARS_MAX: usize = 64;

/// The known name with the fewest slips, if those are at most a third of the name.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(NAME_CHARS_MAX).map(normal).collect();
    let slips_max = (name.len() / 3).max(1);
    let slips = known.map(|one| (slips(&name, &one.chars().map(normal).collect::<Vec<_>>()), one));
    slips.filter(|(slips, _)| *slips <= slips_max).min().map(|(_, one)| one)
}

/// Case, and `-` for `_`, are the commonest slips and cost nothing.
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
