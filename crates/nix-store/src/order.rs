//! Things and what each refers to come in, as numbers; the order in which each comes after all it refers to goes out.
//! A stack of its own instead of recursion: chains of references can be long.

/// All that can be reached from `roots`, each once and after what it refers to (itself apart). References are followed
/// in the order they stand in, so that the order depends on nothing else. `references[n]` are those of `n`; all are
/// below its length.
pub(crate) fn references_first(
    roots: impl IntoIterator<Item = usize>,
    references: &[Vec<usize>],
) -> Vec<usize> {
    let mut order = Vec::new();
    let mut seen = vec![false; references.len()];
    // What is being walked, and which of its references is next.
    let mut open: Vec<(usize, usize)> = Vec::new();
    for root in roots {
        if !std::mem::replace(&mut seen[root], true) {
            open.push((root, 0));
        }
        while let Some((at, next)) = open.last_mut() {
            match references[*at].get(*next) {
                Some(reference) => {
                    *next += 1;
                    if !std::mem::replace(&mut seen[*reference], true) {
                        open.push((*reference, 0));
                    }
                }
                None => {
                    order.push(*at);
                    open.pop();
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_first_and_once() {
        // 3 → 1, 2; 2 → 0, 2; 1 → 0
        let references = [vec![], vec![0], vec![0, 2], vec![1, 2]];
        assert_eq!(references_first([3], &references), [0, 1, 2, 3]);
        assert_eq!(references_first([2, 3, 0], &references), [0, 2, 1, 3]);
        assert_eq!(references_first([], &references), [0; 0]);
    }
}
