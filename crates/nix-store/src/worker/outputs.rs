//! A derivation comes in, its valid outputs come out; or a path, and the realisations it is the path of. Paths known
//! before the build are in the `.drv` file; those of content-addressed outputs the daemon works out. What is in neither
//! place, a path may still name as its deriver.

use std::collections::{BTreeMap, BTreeSet};

use nix_types::{DrvPath, StorePath};

use super::{failed, info_of, listing};
use crate::daemon::Daemon;
use crate::drv_file::{hash_of, read};
use crate::store::{Realisation, StoreError};

pub(super) fn of(daemon: &mut Daemon, drv: &DrvPath) -> Result<Vec<StorePath>, StoreError> {
    let mut all_known = false;
    let mut outputs = BTreeSet::new();
    if daemon.is_valid(drv.store_path()).map_err(failed("a derivation"))?
        && let Some(derivation) = read(drv)?
    {
        let built = match derivation.has_unknown_paths() {
            true => daemon.outputs(drv).map_err(failed("the outputs of a derivation"))?.unwrap_or_default(),
            false => BTreeMap::new(),
        };
        let mut named = Vec::new();
        let mut unknown = 0;
        for (name, output) in derivation.outputs {
            let path = output.path.or_else(|| {
                unknown += 1;
                built.get(&name).cloned().flatten().inspect(|_| unknown -= 1)
            });
            named.extend(path);
        }
        all_known = unknown == 0;
        outputs.extend(daemon.valid_among(&named).map_err(failed("valid outputs"))?);
    }
    if !all_known {
        outputs.extend(listing::derived_from(daemon, drv.store_path())?);
    }
    Ok(outputs.into_iter().collect())
}

pub(super) fn realisations(daemon: &mut Daemon, path: &StorePath) -> Result<Vec<Realisation>, StoreError> {
    let deriver = info_of(daemon, path)?.and_then(|info| info.deriver);
    let Some(drv) = deriver.and_then(|deriver| DrvPath::try_from(deriver).ok()) else {
        return Ok(Vec::new());
    };
    let Some(derivation) = read(&drv)? else { return Ok(Vec::new()) };
    let hash = match hash_of(&drv) {
        Ok(hash) => hash,
        // An input of it is gone; nobody can work out the id any more.
        Err(StoreError::DrvHash { .. }) => return Ok(Vec::new()),
        Err(other) => return Err(other),
    };
    let mut found = BTreeMap::new();
    for name in derivation.outputs.keys() {
        let id = format!("sha256:{hash}!{name}");
        let noted = daemon.realisations(&id, path.store_dir()).map_err(failed("realisations"))?;
        found.extend(noted.into_iter().filter(|one| one.out_path == *path).map(|one| (one.id.clone(), one)));
    }
    Ok(found.into_values().collect())
}
