//! Derivations and what they need. Records come in, inputs first; rows go out by path. Ids are given in the order of
//! arrival, so that an id is above those of everything it needs. Which id a hash has is remembered beside the database,
//! for as long as nobody else can have taken the row away.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ci_model::drv::DrvRecord;
use ci_model::flow::BuildState;
use nix_types::DrvPath;
use sqlite_kit::rusqlite::{Connection, OptionalExtension, params};
use sqlite_kit::{Lane, Tx};

use super::codec::{self, Hash};
use super::words::{self, Read};
use super::{JobError, SqliteStore};
use crate::store::{Domain, Refusal, StoreError, StoredDrv};

/// Most ids that are remembered; when there are more, remembering begins anew. About 12 MB.
const IDS_MAX: usize = 262_144;

/// Ids of derivations that are stored whole and were touched today.
#[derive(Debug, Default)]
pub(super) struct Ids(Mutex<Known>);

#[derive(Debug, Default)]
pub(super) struct Known {
    ids: HashMap<Hash, i64>,
    /// Goes up whenever all is forgotten: what was looked up before must not be remembered after.
    generation: u64,
    /// What SQLite says when another connection has written.
    data_version: i64,
    day: i64,
}

impl Ids {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a job that takes derivations away, in its transaction.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn remember(&self, generation: u64, found: impl IntoIterator<Item = (Hash, i64)>) {
        let mut known = self.lock();
        if known.generation != generation {
            return;
        }
        if known.ids.len() >= IDS_MAX {
            known.clear();
        }
        known.ids.extend(found);
    }
}

impl Known {
    fn clear(&mut self) {
        self.ids.clear();
        self.generation += 1;
    }

    fn refresh(&mut self, tx: &Connection, today: i64) -> Result<(), JobError> {
        let version = tx.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if (self.data_version, self.day) != (version, today) {
            self.clear();
            (self.data_version, self.day) = (version, today);
        }
        Ok(())
    }
}

/// A record as its row needs it.
struct Ready {
    path: DrvPath,
    hash: Hash,
    folder: i64,
    system: i64,
    flags: i64,
    features: Option<i64>,
    outputs: Vec<u8>,
    inputs: Vec<(Hash, i64, DrvPath)>,
}

/// What a chunk came to.
struct Inserted {
    new: usize,
    generation: u64,
    ids: Vec<(Hash, i64)>,
}

impl SqliteStore {
    pub(super) fn insert_drvs(&self, drvs: &[DrvRecord]) -> Result<usize, StoreError> {
        let doing = format!("store {} derivations", drvs.len());
        self.check_chunk(&doing, drvs.len())?;
        let mut lists = HashMap::new();
        let ready: Result<Vec<Ready>, StoreError> =
            drvs.iter().map(|drv| self.make_ready(&doing, drv, &mut lists)).collect();
        let (ready, ids, today) = (ready?, Arc::clone(&self.ids), self.today());
        let inserted = self.write(&doing, Lane::Bulk, move |tx| insert(tx, &ids, ready, today))?;
        self.ids.remember(inserted.generation, inserted.ids);
        Ok(inserted.new)
    }

    fn make_ready<'d>(
        &self,
        doing: &str,
        drv: &'d DrvRecord,
        lists: &mut HashMap<&'d BTreeSet<String>, i64>,
    ) -> Result<Ready, StoreError> {
        let features = &drv.traits.required_features;
        let mut inputs = Vec::with_capacity(drv.inputs.len());
        let mut last: Option<(&BTreeSet<String>, i64)> = None; // nearly always `out`, as before
        for (input, outputs) in &drv.inputs {
            let list = if let Some((_, list)) = last.filter(|(before, _)| *before == outputs) {
                list
            } else if let Some(list) = lists.get(outputs) {
                *list
            } else {
                let list = self.list(&outputs.iter().collect::<Vec<_>>())?;
                lists.insert(outputs, list);
                list
            };
            last = Some((outputs, list));
            inputs.push((self.hash_of(doing, input)?, list, input.clone()));
        }
        Ok(Ready {
            path: drv.path.clone(),
            hash: self.hash_of(doing, &drv.path)?,
            folder: self.word(drv.path.store_path().store_dir())?,
            system: self.word(drv.system.as_str())?,
            flags: codec::flags(&drv.traits),
            features: if features.is_empty() { None } else { Some(self.list(features)?) },
            outputs: codec::pack_outputs(&drv.path, &drv.outputs),
            inputs,
        })
    }

    pub(super) fn hash_of(&self, doing: &str, drv: &DrvPath) -> Result<Hash, StoreError> {
        match codec::hash_of(drv.store_path()) {
            Some(hash) => Ok(hash),
            None => self.refused(doing, Refusal::NotAHash(drv.clone())),
        }
    }

    pub(super) fn known(&self, drvs: &[DrvPath]) -> Result<HashSet<DrvPath>, StoreError> {
        self.read("look derivations up", |conn| {
            let mut query =
                conn.prepare_cached("SELECT folder, name FROM drv WHERE hash = ?1 AND whole = 1")?;
            let mut folders = Read::new(conn, "folder", words::folder);
            let mut known = HashSet::new();
            for drv in drvs {
                let Some(hash) = codec::hash_of(drv.store_path()) else { continue };
                let mut rows = query.query(params![hash])?;
                let Some(row) = rows.next()? else { continue };
                let (folder, name) = (row.get(0)?, row.get_ref(1)?);
                if name.as_str().is_ok_and(|name| name == drv.drv_name())
                    && *folders.get(folder)? == *drv.store_path().store_dir()
                {
                    known.insert(drv.clone());
                }
            }
            Ok(known)
        })
    }

    pub(super) fn stored_drv(&self, drv: &DrvPath) -> Result<Option<StoredDrv>, StoreError> {
        let Some(hash) = codec::hash_of(drv.store_path()) else { return Ok(None) };
        self.read("read a derivation", |conn| stored(conn, drv, &hash))
    }
}

fn insert(tx: &Tx<'_>, ids: &Ids, ready: Vec<Ready>, today: i64) -> Result<Inserted, JobError> {
    let mut known = ids.lock();
    known.refresh(tx, today)?;
    let mut next: i64 =
        tx.prepare_cached("SELECT coalesce(max(id), 0) + 1 FROM drv")?.query_row([], |row| row.get(0))?;
    let mut chunk = Chunk { tx, known: &known, found: HashMap::new(), today };
    let mut new = 0;
    for drv in ready {
        let there = chunk.there(&drv)?;
        if let Some((id, true)) = there {
            chunk.found.insert(drv.hash, id);
            continue;
        }
        let mut inputs = Vec::with_capacity(drv.inputs.len());
        for (hash, outputs, input) in &drv.inputs {
            let id = chunk.input(hash)?;
            let id =
                id.ok_or_else(|| Refusal::InputUnknown { drv: drv.path.clone(), input: input.clone() })?;
            inputs.push((id, *outputs, input));
        }
        inputs.sort_by_key(|(id, ..)| *id);
        // Two names of one hash: what is stored is called as one of them at most.
        if let Some([_, (.., input)]) = inputs.array_windows().find(|[(one, ..), (next, ..)]| one == next) {
            let input = DrvPath::clone(input);
            return Err(Refusal::InputUnknown { drv: drv.path.clone(), input }.into());
        }
        let inputs = inputs.iter().map(|(id, outputs, _)| (*id, *outputs));
        chunk.write(&drv, next, there.is_some(), &codec::pack_inputs(inputs))?;
        chunk.found.insert(drv.hash, next);
        next += 1;
        new += 1;
    }
    let found = chunk.found.into_iter().collect();
    Ok(Inserted { new, generation: known.generation, ids: found })
}

/// A chunk on its way into the tables.
struct Chunk<'t> {
    tx: &'t Connection,
    known: &'t Known,
    /// What this transaction looked up, touched or wrote.
    found: HashMap<Hash, i64>,
    today: i64,
}

impl Chunk<'_> {
    /// The row of a derivation, and whether it is whole; then it is touched.
    fn there(&self, drv: &Ready) -> Result<Option<(i64, bool)>, JobError> {
        let mut query =
            self.tx.prepare_cached("SELECT id, whole, touched_day, folder, name FROM drv WHERE hash = ?1")?;
        let mut rows = query.query(params![drv.hash])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (id, whole, touched): (i64, bool, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (folder, name): (i64, String) = (row.get(3)?, row.get(4)?);
        if (folder, name.as_str()) != (drv.folder, drv.path.drv_name()) {
            let folder = Read::new(self.tx, "folder", words::folder).get(folder)?;
            let stored = codec::drv_path(&folder, &drv.hash, &name);
            let stored =
                stored.ok_or_else(|| JobError::Unreadable(format!("derivation {id} is called {name:?}")))?;
            return Err(Refusal::NameDiffers { stored, new: drv.path.clone() }.into());
        }
        drop(rows);
        if whole && touched < self.today {
            self.touch(id)?;
        }
        Ok(Some((id, whole)))
    }

    /// The id of what is needed, which is touched; none when it is not there.
    fn input(&mut self, hash: &Hash) -> Result<Option<i64>, JobError> {
        if let Some(id) = self.known.ids.get(hash).or_else(|| self.found.get(hash)) {
            return Ok(Some(*id));
        }
        let sql = "SELECT id, touched_day FROM drv WHERE hash = ?1 AND whole = 1";
        let row = self.tx.prepare_cached(sql)?.query_row(params![hash], |row| Ok((row.get(0)?, row.get(1)?)));
        let Some((id, touched)): Option<(i64, i64)> = row.optional()? else { return Ok(None) };
        if touched < self.today {
            self.touch(id)?;
        }
        self.found.insert(*hash, id);
        Ok(Some(id))
    }

    fn touch(&self, id: i64) -> Result<(), JobError> {
        let mut touch = self.tx.prepare_cached("UPDATE drv SET touched_day = ?2 WHERE id = ?1")?;
        touch.execute(params![id, self.today])?;
        Ok(())
    }

    /// A new row, or what was missing in the one that an older database left; under a new id, so that ids stay in order.
    fn write(&self, drv: &Ready, id: i64, is_there: bool, inputs: &[u8]) -> Result<(), JobError> {
        let sql = if is_there {
            "UPDATE drv SET id = ?1, folder = ?3, name = ?4, whole = 1, touched_day = ?5, system = ?6,
             flags = ?7, features = ?8, outputs = ?9, inputs = ?10 WHERE hash = ?2"
        } else {
            "INSERT INTO drv (id, hash, folder, name, whole, touched_day, system, flags, features, outputs, inputs)
             VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7, ?8, ?9, ?10)"
        };
        self.tx.prepare_cached(sql)?.execute(params![
            id,
            drv.hash,
            drv.folder,
            drv.path.drv_name(),
            self.today,
            drv.system,
            drv.flags,
            drv.features,
            drv.outputs,
            inputs
        ])?;
        Ok(())
    }
}

fn stored(conn: &Connection, drv: &DrvPath, hash: &Hash) -> Result<Option<StoredDrv>, JobError> {
    let sql =
        "SELECT id, folder, name, whole, system, flags, features, outputs, inputs FROM drv WHERE hash = ?1";
    let mut query = conn.prepare_cached(sql)?;
    let mut rows = query.query(params![hash])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let id: i64 = row.get(0)?;
    let (folder, name): (Arc<str>, String) =
        (Read::new(conn, "folder", words::folder).get(row.get(1)?)?, row.get(2)?);
    if (&*folder, name.as_str()) != (drv.store_path().store_dir(), drv.drv_name()) {
        return Ok(None);
    }
    let states = states(conn, id)?;
    if !row.get::<_, bool>(3)? {
        return Ok(Some(StoredDrv { record: None, states }));
    }
    let features = match row.get::<_, Option<i64>>(6)? {
        Some(features) => Read::new(conn, "list", words::list).get(features)?.to_vec(),
        None => Vec::new(),
    };
    let packed: Vec<u8> = row.get(7)?;
    let outputs = codec::unpack_outputs(&folder, &name, &packed);
    let record = DrvRecord {
        path: drv.clone(),
        system: Read::new(conn, "system", words::system).get(row.get(4)?)?,
        traits: codec::traits(row.get(5)?, features),
        outputs: outputs.ok_or_else(|| JobError::Unreadable(format!("outputs of derivation {id}")))?,
        inputs: inputs(conn, id, &row.get::<_, Vec<u8>>(8)?)?,
    };
    Ok(Some(StoredDrv { record: Some(record), states }))
}

fn inputs(
    conn: &Connection,
    id: i64,
    mut packed: &[u8],
) -> Result<BTreeMap<DrvPath, BTreeSet<String>>, JobError> {
    let mut query = conn.prepare_cached("SELECT folder, hash, name FROM drv WHERE id = ?1")?;
    let mut folders = Read::new(conn, "folder", words::folder);
    let mut lists = Read::new(conn, "list", words::list);
    let (mut inputs, mut last) = (BTreeMap::new(), 0);
    let damaged = || JobError::Unreadable(format!("what derivation {id} needs"));
    while let Some((input, outputs)) = codec::next_input(&mut packed, last).ok_or_else(damaged)? {
        let row = query.query_row(params![input], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let (folder, hash, name): (i64, Hash, String) = row.optional()?.ok_or_else(damaged)?;
        let path = codec::drv_path(&folders.get(folder)?, &hash, &name).ok_or_else(damaged)?;
        inputs.insert(path, lists.get(outputs)?.iter().cloned().collect());
        last = input;
    }
    Ok(inputs)
}

fn states(conn: &Connection, id: i64) -> Result<Vec<(Domain, BuildState)>, JobError> {
    let mut query =
        conn.prepare_cached("SELECT domain, state FROM drv_state WHERE drv = ?1 ORDER BY domain")?;
    let mut rows = query.query(params![id])?;
    let mut states = Vec::new();
    while let Some(row) = rows.next()? {
        let (domain, state) = (row.get(0)?, row.get(1)?);
        match (Domain::of_code(domain), BuildState::of_code(state)) {
            (Some(domain), Some(state)) => states.push((domain, state)),
            _ => {
                return Err(JobError::Unreadable(format!(
                    "state {state} of derivation {id} in domain {domain}"
                )));
            }
        }
    }
    Ok(states)
}
