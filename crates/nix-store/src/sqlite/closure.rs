//! Roots come in, their closure comes out, references before referrers. Two questions to the database per path, on
//! statements prepared once (microseconds each), and a stack of its own instead of recursion: chains of references
//! can be long.

use std::collections::HashSet;

use nix_types::StorePath;

use super::Database;
use crate::store::{CLOSURE_MAX, PathInfo, StoreError};

/// A path whose references are being walked.
struct Open {
    info: PathInfo,
    /// Ids of the references not walked yet, the next one last.
    left: Vec<i64>,
}

struct Walk<'a> {
    database: &'a Database<'a>,
    seen: HashSet<i64>,
    open: Vec<Open>,
}

pub(super) fn of(database: &Database<'_>, roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
    let mut closed = Vec::new();
    let mut walk = Walk { database, seen: HashSet::new(), open: Vec::new() };
    for root in roots {
        let not_valid = || StoreError::NotValid { path: root.clone() };
        walk.visit(database.id_of(root)?.ok_or_else(not_valid)?)?;
        while let Some(top) = walk.open.last_mut() {
            match top.left.pop() {
                Some(reference) => walk.visit(reference)?,
                None => closed.extend(walk.open.pop().map(|done| done.info)),
            }
        }
    }
    Ok(closed)
}

impl Walk<'_> {
    /// Opens a path that was not seen before. One that is open already refers to itself, or is part of a circle, which
    /// no store has; either way it is not opened again.
    fn visit(&mut self, id: i64) -> Result<(), StoreError> {
        if !self.seen.insert(id) {
            return Ok(());
        }
        if self.seen.len() > CLOSURE_MAX {
            return Err(StoreError::ClosureTooLarge);
        }
        let (mut left, references): (Vec<i64>, Vec<StorePath>) =
            self.database.references_of(id)?.into_iter().unzip();
        left.reverse();
        // The id was read in this same snapshot, so its record is there.
        self.open.extend(self.database.info(id, references)?.map(|info| Open { info, left }));
        Ok(())
    }
}
