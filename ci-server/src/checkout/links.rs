//! Where the links of a checkout lead. All links come in with their targets; the first that would leave the checkout,
//! by itself or through others, comes out. Decided before anything is written.

use std::collections::HashMap;

/// As many links as the kernel follows for one path.
const HOPS_MAX: usize = 40;
/// Most components that are gone through for all links together: some hundreds for each of 100,000 links, and about a
/// second of work. Links that lead through each other can make it many more.
const STEPS_MAX: usize = 1 << 25;

/// Path and target of each link, in order.
pub(super) type Links = Vec<(Vec<u8>, Vec<u8>)>;

const LEADS_OUT: &str =
    "is a link that leads out of the repository; let it lead to a file within, or remove it";
const LEADS_FAR: &str =
    "is a link that leads through too many others to be followed; let it lead to a file, or remove it";

/// Which links are refused, in order, and why: those that lead out, and where following takes too long all that are left.
pub(super) fn refused(links: &[(Vec<u8>, Vec<u8>)]) -> Vec<(usize, &'static str)> {
    refused_within(links, STEPS_MAX)
}

fn refused_within(links: &[(Vec<u8>, Vec<u8>)], mut steps: usize) -> Vec<(usize, &'static str)> {
    let tree = Tree::of(links);
    let end = |index: usize| {
        let (path, target) = &links[index];
        let folder = path.iter().rposition(|byte| *byte == b'/').map_or(&path[..0], |slash| &path[..slash]);
        let mut at = Vec::new();
        parts(folder).for_each(|part| at.push(tree.below(&at, part)));
        match tree.follow(&mut at, target, &mut HOPS_MAX.clone(), &mut steps) {
            Ok(()) | Err(End::Nowhere) => None,
            Err(End::Out) => Some((index, LEADS_OUT)),
            Err(End::Far) => Some((index, LEADS_FAR)),
        }
    };
    (0..links.len()).filter_map(end).collect()
}

/// Why a link leads to no place within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It leads out.
    Out,
    /// It leads in a circle, and so nowhere.
    Nowhere,
    /// Nobody knows.
    Far,
}

/// All links, by the folders that they are in.
struct Tree<'l> {
    /// What lies in a folder under a name.
    below: HashMap<(usize, &'l [u8]), usize>,
    /// Where each leads that is a link; the first is the root.
    targets: Vec<Option<&'l [u8]>>,
}

impl<'l> Tree<'l> {
    fn of(links: &'l [(Vec<u8>, Vec<u8>)]) -> Self {
        let mut tree = Self { below: HashMap::new(), targets: vec![None] };
        for (path, target) in links {
            let mut at = 0;
            for part in parts(path) {
                let next = tree.targets.len();
                at = *tree.below.entry((at, part)).or_insert(next);
                if at == next {
                    tree.targets.push(None);
                }
            }
            tree.targets[at] = Some(target);
        }
        tree
    }

    /// What lies in the last of these folders under a name, if a link does, or a folder with one.
    fn below(&self, at: &[Option<usize>], name: &[u8]) -> Option<usize> {
        let folder = at.last().copied().unwrap_or(Some(0))?;
        self.below.get(&(folder, name)).copied()
    }

    /// Goes from the folder `at`, which is below these, where `target` leads, as the kernel does.
    fn follow(
        &self,
        at: &mut Vec<Option<usize>>,
        target: &[u8],
        hops: &mut usize,
        steps: &mut usize,
    ) -> Result<(), End> {
        if target.starts_with(b"/") {
            return Err(End::Out);
        }
        for part in parts(target) {
            *steps = steps.checked_sub(1).ok_or(End::Far)?;
            match part {
                b"." => {}
                b".." => {
                    at.pop().ok_or(End::Out)?;
                }
                name => {
                    let next = self.below(at, name);
                    match next.and_then(|next| self.targets[next]) {
                        None => at.push(next),
                        Some(target) => {
                            *hops = hops.checked_sub(1).ok_or(End::Nowhere)?;
                            self.follow(at, target, hops, steps)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(links: &[(&str, &str)]) -> Vec<usize> {
        let links: Vec<_> =
            links.iter().map(|(path, to)| (path.as_bytes().to_vec(), to.as_bytes().to_vec())).collect();
        let refused = refused(&links);
        assert!(refused.iter().all(|(_, why)| *why == LEADS_OUT), "{refused:?}");
        refused.into_iter().map(|(index, _)| index).collect()
    }

    #[test]
    fn links_are_followed_as_the_kernel_does() {
        assert_eq!(
            out(&[("a", "b"), ("d/a", "../b"), ("d/e/a", "../../x/./y"), ("d/s", "..")]),
            [] as [usize; 0]
        );
        assert_eq!(out(&[("a", "/etc/passwd")]), [0]);
        assert_eq!(out(&[("a", ".."), ("d/a", "../.."), ("d/b", "x/../../../y")]), [0, 1, 2]);
        // Read as text, `s/..` is the root.
        assert_eq!(out(&[("s", "."), ("t", "s/../x")]), [1]);
        assert_eq!(out(&[("d/e/s", "../.."), ("t", "d/e/s/../x")]), [1]);
        assert_eq!(out(&[("a", "b"), ("b", "a"), ("c", "c/..")]), [] as [usize; 0]);
    }

    /// Each leads through all behind it, and far into folders that are not there.
    #[test]
    fn links_that_lead_through_each_other_take_no_long_time() {
        let far = "/x".repeat(2000);
        let mut links: Vec<_> = (0..HOPS_MAX - 1)
            .map(|link| (format!("l{link}").into_bytes(), format!("l{}{far}", link + 1).into_bytes()))
            .collect();
        links.extend((0..20_000).map(|link| (format!("z{link}").into_bytes(), b"l0".to_vec())));
        let links_of = |links: &[(Vec<u8>, Vec<u8>)], steps| refused_within(links, steps);
        let all = links_of(&links, 1 << 22);
        assert!(all.len() > 10_000 && all.iter().all(|(_, why)| *why == LEADS_FAR), "{}", all.len());
        assert_eq!(links_of(&links[..100], STEPS_MAX), []);
        // What was followed before is right, and what is left is not let through.
        let some = [(b"a".to_vec(), b"b/c".to_vec()), (b"d".to_vec(), b"../x".to_vec())];
        assert_eq!(links_of(&some, 3), [(1, LEADS_OUT)]);
        assert_eq!(links_of(&some, 2), [(1, LEADS_FAR)]);
    }
}
