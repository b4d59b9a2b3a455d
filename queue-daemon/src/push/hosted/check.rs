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
        upstream_counts_as_there(engine, cache, &mut learned).await;
        found.extend(learned.iter().cloned());
        let references: HashSet<StorePath> =
            learned.into_iter().filter_map(|(_, found)| found).flatten().collect();
        next = references.into_iter().filter(|path| !found.contains_key(path) && !whole.has(path)).collect();
    }
    Ok(judge(paths, &found, whole))
}

/// What the cache was never brought, since it can be had upstream: what one of the cache's upstream keys has signed here,
/// and, where there are such keys, what this machine no longer has and nobody can tell of.
async fn upstream_counts_as_there(
    engine: &Hosted,
    cache: &dyn super::Cache,
    learned: &mut [(StorePath, Found)],
) {
    let keys = cache.upstream_keys().to_vec();
    let absent: Vec<StorePath> =
        learned.iter().filter(|(_, found)| found.is_none()).map(|(path, _)| path.clone()).collect();
    if keys.is_empty() || absent.is_empty() {
        return;
    }
    let store = std::sync::Arc::clone(&engine.hands.store);
    let upstream = move || -> HashSet<StorePath> {
        let is_upstream = |path: &StorePath| match store.path_info(path) {
            Ok(Some(info)) => session::is_upstream(&info, &keys),
            Ok(None) => true,
            Err(_) => false,
        };
        absent.into_iter().filter(is_upstream).collect()
    };
    let upstream = tokio::task::spawn_blocking(upstream).await;
    let upstream = upstream.expect("a store query does not panic: it returns its errors");
    for (_, found) in learned.iter_mut().filter(|(path, _)| upstream.contains(path)) {
        *found = Some(Vec::new());
    }
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
