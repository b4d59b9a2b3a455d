//! The whole graph, once through, by id. Rows of derivations go out with what they need, which came before. Only the ids
//! that came are gathered here; whoever asked keeps what they need.

use std::sync::Arc;

use ci_model::diff::OutputHash;
use nix_types::System;
use sqlite_kit::rusqlite::{Connection, Row};

use super::codec::{self, Hash};
use super::words::{self, Read};
use super::{JobError, SqliteStore};
use crate::store::{DrvId, GraphSize, LoadedDrv, LoadedInput, StoreError};

/// Every derivation that is stored whole, by id.
pub(super) const DRVS: &str = "SELECT id, folder, hash, name, system, flags, features, inputs, outputs FROM drv WHERE whole = 1 ORDER BY id";

impl SqliteStore {
    pub(super) fn load(&self, each: &mut dyn FnMut(&LoadedDrv<'_>)) -> Result<GraphSize, StoreError> {
        self.read("load the graph", |conn| load(conn, each))
    }
}

fn load(conn: &Connection, each: &mut dyn FnMut(&LoadedDrv<'_>)) -> Result<GraphSize, JobError> {
    let mut query = conn.prepare_cached(DRVS)?;
    let mut drvs = query.query([])?;
    let mut reading = Reading {
        folders: Read::new(conn, "folder", words::folder),
        systems: Read::new(conn, "system", words::system),
        lists: Read::new(conn, "list", words::list),
        came: Vec::new(),
        hashes: Vec::new(),
    };
    let (mut size, mut inputs) = (GraphSize::default(), Vec::new());
    while let Some(row) = drvs.next()? {
        reading.hand_over(row, &mut inputs, each)?;
        size.drvs += 1;
        size.edges += inputs.len() as u64;
    }
    Ok(size)
}

struct Reading<'c> {
    folders: Read<'c, Arc<str>>,
    systems: Read<'c, System>,
    lists: Read<'c, Arc<[String]>>,
    /// Ids of those that came, so in order.
    came: Vec<i64>,
    /// Of the outputs of one derivation.
    hashes: Vec<OutputHash>,
}

impl Reading<'_> {
    fn hand_over(
        &mut self,
        row: &Row<'_>,
        inputs: &mut Vec<LoadedInput>,
        each: &mut dyn FnMut(&LoadedDrv<'_>),
    ) -> Result<(), JobError> {
        let id: i64 = row.get(0)?;
        self.inputs(id, row.get_ref(7)?.as_blob().unwrap_or_default(), inputs)?;
        self.came.push(id);
        let hash: Hash = row.get(2)?;
        let name = row.get_ref(3)?.as_str().unwrap_or_default();
        let path = codec::drv_path(&self.folders.get(row.get(1)?)?, &hash, name);
        let path = path.ok_or_else(|| JobError::Unreadable(format!("derivation {id} is called {name:?}")))?;
        let features = match row.get::<_, Option<i64>>(6)? {
            Some(features) => self.lists.get(features)?.to_vec(),
            None => Vec::new(),
        };
        let traits = codec::traits(row.get(5)?, features);
        let system = self.systems.get(row.get(4)?)?;
        let packed = row.get_ref(8)?.as_blob().unwrap_or_default();
        let are_known = codec::unpack_output_hashes(packed, &mut self.hashes)
            .ok_or_else(|| JobError::Unreadable(format!("outputs of derivation {id}")))?;
        let outputs = are_known.then_some(&self.hashes[..]);
        each(&LoadedDrv { id: DrvId(id), path: &path, system: &system, traits: &traits, outputs, inputs });
        Ok(())
    }

    /// What a derivation needs, all of which came before it.
    fn inputs(&mut self, id: i64, mut packed: &[u8], inputs: &mut Vec<LoadedInput>) -> Result<(), JobError> {
        inputs.clear();
        let mut last = 0;
        let damaged = || JobError::Unreadable(format!("what derivation {id} needs"));
        while let Some((input, outputs)) = codec::next_input(&mut packed, last).ok_or_else(damaged)? {
            self.came.binary_search(&input).map_err(|_| damaged())?;
            inputs.push(LoadedInput { drv: DrvId(input), outputs: self.lists.get(outputs)? });
            last = input;
        }
        Ok(())
    }
}
