//! Roots come in, their closure comes out, references before referrers. The daemon answers about one path at a time,
//! so the paths of one distance from the roots are asked for together, ahead of their answers.

use std::collections::HashMap;

use nix_types::StorePath;

use crate::daemon::Daemon;
use crate::order::references_first;
use crate::store::{CLOSURE_MAX, PathInfo, StoreError};

pub(super) fn of(daemon: &mut Daemon, roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
    let mut known = Known::default();
    let roots: Vec<usize> = roots.iter().map(|root| known.number(root)).collect::<Result<_, _>>()?;
    let mut infos: Vec<Option<PathInfo>> = Vec::new();
    let mut references = Vec::new();
    while infos.len() < known.paths.len() {
        let next = known.paths[infos.len()..].to_vec();
        daemon.path_infos(&next, |path, info| {
            let info = info.ok_or_else(|| StoreError::NotValid { path: path.clone() })?;
            let numbers = info.references.iter().map(|reference| known.number(reference));
            references.push(numbers.collect::<Result<Vec<_>, _>>()?);
            infos.push(Some(info));
            Ok::<_, StoreError>(())
        })?;
    }
    let order = references_first(roots, &references);
    Ok(order.into_iter().filter_map(|number| infos[number].take()).collect())
}

/// The paths met so far, numbered as they came.
#[derive(Default)]
struct Known {
    paths: Vec<StorePath>,
    numbers: HashMap<StorePath, usize>,
}

impl Known {
    fn number(&mut self, path: &StorePath) -> Result<usize, StoreError> {
        if let Some(number) = self.numbers.get(path) {
            return Ok(*number);
        }
        let number = self.paths.len();
        if number >= CLOSURE_MAX {
            return Err(StoreError::ClosureTooLarge);
        }
        self.paths.push(path.clone());
        self.numbers.insert(path.clone(), number);
        Ok(number)
    }
}
