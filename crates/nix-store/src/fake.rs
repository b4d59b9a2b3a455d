//! A store for tests of others: paths are added, removed and found as in a real one, which the same tests prove. It
//! keeps state and counts no calls; it can be told to stop answering. Reads and builds nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix_types::{DrvPath, StorePath};

use crate::store::{Cursor, Filter, Page, PathInfo, Realisation, Store, StoreError, ours};

/// A store in memory.
pub struct FakeStore {
    store_dir: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    down: Option<String>,
    last_id: i64,
    ids: BTreeMap<StorePath, i64>,
    paths: BTreeMap<i64, PathInfo>,
    outputs: BTreeMap<DrvPath, BTreeSet<StorePath>>,
    realisations: BTreeMap<String, Realisation>,
}

impl FakeStore {
    /// An empty store whose paths lie in `store_dir`.
    #[must_use]
    pub fn new(store_dir: &str) -> Self {
        Self { store_dir: store_dir.to_owned(), state: Mutex::default() }
    }

    /// Registers a path, as the latest one; a path that is valid already keeps its place.
    ///
    /// # Errors
    /// [`StoreError::NotValid`] for a reference that is not valid, as Nix refuses it too.
    pub fn add(&self, info: PathInfo) -> Result<(), StoreError> {
        ours(&self.store_dir, &info.path)?;
        let mut state = self.state();
        let lacks = |path: &&StorePath| **path != info.path && !state.ids.contains_key(*path);
        if let Some(path) = info.references.iter().find(lacks) {
            return Err(StoreError::NotValid { path: path.clone() });
        }
        let id = state.ids.get(&info.path).copied().unwrap_or(state.last_id + 1);
        state.last_id = state.last_id.max(id);
        state.ids.insert(info.path.clone(), id);
        state.paths.insert(id, info);
        Ok(())
    }

    /// [`FakeStore::add`] of a path about which only its references matter: built here, 1000 bytes, at second 0.
    ///
    /// # Errors
    /// As [`FakeStore::add`].
    pub fn add_simple(&self, path: &StorePath, references: &[StorePath]) -> Result<(), StoreError> {
        let mut references = references.to_vec();
        references.sort_unstable();
        references.dedup();
        self.add(PathInfo {
            path: path.clone(),
            nar_hash: format!("sha256:{}", "0".repeat(64)),
            nar_size: 1000,
            references,
            deriver: None,
            registration_time: 0,
            ultimate: true,
            signatures: Vec::new(),
            ca: None,
        })
    }

    /// Says which outputs a derivation has; they need not be valid.
    pub fn set_outputs(&self, drv: &DrvPath, outputs: &[StorePath]) {
        self.state().outputs.insert(drv.clone(), outputs.iter().cloned().collect());
    }

    /// Notes what a content-addressed output was built to; one of the same id is replaced.
    ///
    /// # Errors
    /// [`StoreError::NotValid`] when that path is not valid.
    pub fn add_realisation(&self, realisation: Realisation) -> Result<(), StoreError> {
        ours(&self.store_dir, &realisation.out_path)?;
        let mut state = self.state();
        if !state.ids.contains_key(&realisation.out_path) {
            return Err(StoreError::NotValid { path: realisation.out_path });
        }
        state.realisations.insert(realisation.id.clone(), realisation);
        Ok(())
    }

    /// Removes a path, as the garbage collector does.
    ///
    /// # Errors
    /// [`StoreError::Down`] naming a path that still refers to it.
    pub fn remove(&self, path: &StorePath) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(referrer) =
            state.paths.values().find(|info| info.path != *path && info.references.contains(path))
        {
            let why = format!("cannot remove {path}: {} refers to it", referrer.path);
            return Err(StoreError::Down { why });
        }
        if let Some(id) = state.ids.remove(path) {
            state.paths.remove(&id);
            state.realisations.retain(|_, realisation| realisation.out_path != *path);
        }
        Ok(())
    }

    /// From now on every question fails with this reason; with `None`, none does.
    pub fn set_down(&self, why: Option<&str>) {
        self.state().down = why.map(str::to_owned);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for a question.
    fn ask(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state();
        match &state.down {
            Some(why) => Err(StoreError::Down { why: why.clone() }),
            None => Ok(state),
        }
    }
}

impl Store for FakeStore {
    fn store_dir(&self) -> &str {
        &self.store_dir
    }

    fn is_valid(&self, path: &StorePath) -> Result<bool, StoreError> {
        ours(&self.store_dir, path)?;
        Ok(self.ask()?.ids.contains_key(path))
    }

    fn path_info(&self, path: &StorePath) -> Result<Option<PathInfo>, StoreError> {
        ours(&self.store_dir, path)?;
        Ok(self.ask()?.get(path).cloned())
    }

    fn closure(&self, roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
        roots.iter().try_for_each(|root| ours(&self.store_dir, root))?;
        let state = self.ask()?;
        let not_valid = |path: &StorePath| StoreError::NotValid { path: path.clone() };
        let (mut closed, mut seen) = (Vec::new(), HashSet::new());
        for root in roots {
            // A path is opened, and closed once all it refers to is.
            let mut steps = vec![(root, false)];
            while let Some((path, all_closed)) = steps.pop() {
                let info = state.get(path).ok_or_else(|| not_valid(path))?;
                if all_closed {
                    closed.push(info.clone());
                } else if seen.insert(path) {
                    steps.push((path, true));
                    steps.extend(info.references.iter().rev().map(|reference| (reference, false)));
                }
            }
        }
        Ok(closed)
    }

    fn outputs_of(&self, drv: &DrvPath) -> Result<Vec<StorePath>, StoreError> {
        ours(&self.store_dir, drv.store_path())?;
        let state = self.ask()?;
        let outputs = state.outputs.get(drv).into_iter().flatten();
        let valid = outputs.filter(|path| state.ids.contains_key(*path)).cloned();
        let derived = state.paths.values().filter(|info| info.deriver.as_ref() == Some(drv.store_path()));
        let all: BTreeSet<_> = valid.chain(derived.map(|info| info.path.clone())).collect();
        Ok(all.into_iter().collect())
    }

    fn realisations_of(&self, path: &StorePath) -> Result<Vec<Realisation>, StoreError> {
        ours(&self.store_dir, path)?;
        let state = self.ask()?;
        Ok(state.realisations.values().filter(|realisation| realisation.out_path == *path).cloned().collect())
    }

    fn add_signatures(&self, path: &StorePath, signatures: &[String]) -> Result<(), StoreError> {
        ours(&self.store_dir, path)?;
        let mut state = self.ask()?;
        let id = state.ids.get(path).copied();
        let Some(info) = id.and_then(|id| state.paths.get_mut(&id)) else {
            return Err(StoreError::NotValid { path: path.clone() });
        };
        for signature in signatures {
            if !info.signatures.contains(signature) {
                info.signatures.push(signature.clone());
            }
        }
        Ok(())
    }

    fn valid_page(&self, filter: &Filter, after: Cursor, limit: usize) -> Result<Page, StoreError> {
        let state = self.ask()?;
        let wanted = |info: &PathInfo| {
            (info.ultimate || !filter.ultimate_only)
                && filter.registered_since.is_none_or(|since| info.registration_time >= since)
        };
        let limit = limit.max(1);
        let found: Vec<_> =
            state.paths.range(after.0 + 1..).filter(|(_, info)| wanted(info)).take(limit).collect();
        let next = found.last().map(|(id, _)| Cursor(**id)).filter(|_| found.len() == limit);
        Ok(Page { paths: found.into_iter().map(|(_, info)| info.path.clone()).collect(), next })
    }
}

impl State {
    fn get(&self, path: &StorePath) -> Option<&PathInfo> {
        self.ids.get(path).and_then(|id| self.paths.get(id))
    }
}
