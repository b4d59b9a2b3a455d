//! Does the service still have what it was brought?
//!
//! In flow paths; out flows, for each, whether its narinfo is there and those of everything it needs. Only reads. The
//! archives are the service's own matter and are not looked at.

use std::collections::{HashMap, HashSet};

use futures_util::StreamExt;
use nix_types::StorePath;

use super::{Hosted, session};
use crate::push::{Check, Checked, Fault, Whole, Work};

/// Paths that one check looks at, closures included; what is beyond them is taken to be there.
const PATHS_MAX: usize = 200_000;

/// What a path refers to; `None` when it is not there.
type Found = Option<Vec<StorePath>>;

/// Looks at paths and everything they need, as far as that is not known to be whole.
pub(super) async fn look_at(
    engine: &Hosted,
    paths: &[StorePath],
    whole: &mut Whole,
) -> Result<Checked, Fault> {
    let cache = engine.open().await?;
    let mut found: HashMap<StorePath, Found> = HashMap::new();
    let mut next: Vec<StorePath> = paths.to_vec();
    while !next.is_empty() && found.len() < PATHS_MAX {
        let cache = &*cache;
        let reads: Vec<Work<'_, Result<(StorePath, Found), Fault>>> = next
            .drain(..)
            .map(|path| -> Work<'_, _> {
                Box::pin(async move {
                    let narinfo = cache.narinfo(&path).await?;
                    Ok((path, narinfo.map(|narinfo| narinfo.references)))
                })
            })
            .collect();
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(session::READS_MAX);
        let mut learned = Vec::new();
        while let Some(read) = reads.next().await {
            learned.push(read?);
        }
        found.extend(learned.iter().cloned());
        let references: HashSet<StorePath> =
            learned.into_iter().filter_map(|(_, found)| found).flatten().collect();
        next = references.into_iter().filter(|path| !found.contains_key(path) && !whole.has(path)).collect();
    }
    Ok(judge(paths, &found, whole))
}

fn judge(paths: &[StorePath], found: &HashMap<StorePath, Found>, whole: &mut Whole) -> Checked {
    let mut checked = Checked::default();
    for path in paths {
        let (seen, absent) = reach(path, found);
        checked.checks.push(match &absent {
            None => Check::There,
            Some(absent) if absent == path => Check::Missing("it has no narinfo there".into()),
            Some(absent) => Check::Missing(format!("{absent}, which it needs, has no narinfo there")),
        });
        match absent {
            None => seen.iter().for_each(|path| whole.add(path)),
            Some(absent) => {
                for lost in [absent, path.clone()] {
                    if !checked.lost.contains(&lost) {
                        checked.lost.push(lost);
                    }
                }
            }
        }
    }
    checked
}

/// What a path needs, and the first of it that is absent.
fn reach(path: &StorePath, found: &HashMap<StorePath, Found>) -> (HashSet<StorePath>, Option<StorePath>) {
    let (mut seen, mut next) = (HashSet::new(), vec![path.clone()]);
    while let Some(path) = next.pop() {
        match found.get(&path) {
            Some(None) => return (seen, Some(path)),
            Some(Some(references)) if seen.insert(path.clone()) => next.extend(references.iter().cloned()),
            Some(Some(_)) | None => {} // seen, or known to be whole
        }
    }
    (seen, None)
}
