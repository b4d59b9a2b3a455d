//! Where the links of a checkout lead. All links come in with their targets; the first that would leave the checkout,
//! by itself or through others, comes out. Decided before anything is written.

use std::collections::HashMap;

/// As many links as the kernel follows for one path.
const HOPS_MAX: usize = 40;

/// Path and target of each link, in order.
pub(super) type Links = Vec<(Vec<u8>, Vec<u8>)>;

/// Why a link is refused.
pub(super) const LEADS_OUT: &str =
    "is a link that leads out of the repository; let it lead to a file within, or remove it";

/// Which links lead out.
pub(super) fn leading_out(links: &[(Vec<u8>, Vec<u8>)]) -> Vec<usize> {
    let map: HashMap<&[u8], &[u8]> = links.iter().map(|(path, target)| (&path[..], &target[..])).collect();
    let leads_out = |index: &usize| {
        let (path, target) = &links[*index];
        let folder = path.iter().rposition(|byte| *byte == b'/').map_or(&path[..0], |slash| &path[..slash]);
        let mut at: Vec<&[u8]> = parts(folder).collect();
        follow(&map, &mut at, target, &mut HOPS_MAX.clone()) == Err(End::Out)
    };
    (0..links.len()).filter(leads_out).collect()
}

/// Why a link leads to no place within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It leads out.
    Out,
    /// It leads in a circle, and so nowhere.
    Nowhere,
}

/// Goes from the folder `at` where `target` leads, as the kernel does.
fn follow<'a>(
    links: &HashMap<&[u8], &'a [u8]>,
    at: &mut Vec<&'a [u8]>,
    target: &'a [u8],
    hops: &mut usize,
) -> Result<(), End> {
    if target.starts_with(b"/") {
        return Err(End::Out);
    }
    for part in parts(target) {
        match part {
            b"." => {}
            b".." => {
                at.pop().ok_or(End::Out)?;
            }
            name => {
                at.push(name);
                let Some(next) = links.get(at.join(&b'/').as_slice()) else { continue };
                at.pop();
                *hops = hops.checked_sub(1).ok_or(End::Nowhere)?;
                follow(links, at, next, hops)?;
            }
        }
    }
    Ok(())
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
        leading_out(&links)
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
}
