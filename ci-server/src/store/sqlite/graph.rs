//! The whole graph, once through. Two readings go side by side over one view: derivations by id, and edges by the id of
//! who has them. Nothing is gathered here; whoever asked keeps what they need.

use std::sync::Arc;

use nix_types::System;
use sqlite_kit::rusqlite::{Connection, Row, Rows};

use super::codec::{self, Hash};
use super::words::{self, Read};
use super::{JobError, SqliteStore};
use crate::store::{DrvId, GraphSize, LoadedDrv, LoadedInput, StoreError};

/// Every derivation that is stored whole, by id.
pub(super) const DRVS: &str =
    "SELECT id, folder, hash, name, system, flags, features FROM drv WHERE whole = 1 ORDER BY id";
/// Every edge, by who has it.
pub(super) const EDGES: &str = "SELECT user, input, outputs FROM edge ORDER BY user, input";

impl SqliteStore {
    pub(super) fn load(&self, each: &mut dyn FnMut(&LoadedDrv<'_>)) -> Result<GraphSize, StoreError> {
        self.read("load the graph", |conn| load(conn, each))
    }
}

fn load(conn: &Connection, each: &mut dyn FnMut(&LoadedDrv<'_>)) -> Result<GraphSize, JobError> {
    let (mut drvs, mut edges) = (conn.prepare_cached(DRVS)?, conn.prepare_cached(EDGES)?);
    let mut drvs = drvs.query([])?;
    let mut edges = Edges { rows: edges.query([])?, next: None, lists: Read::new(conn, "list", words::list) };
    edges.step()?;
    let mut reading = Reading {
        folders: Read::new(conn, "folder", words::folder),
        systems: Read::new(conn, "system", words::system),
        lists: Read::new(conn, "list", words::list),
    };
    let (mut size, mut inputs) = (GraphSize::default(), Vec::new());
    while let Some(row) = drvs.next()? {
        let id: i64 = row.get(0)?;
        edges.of(id, &mut inputs)?;
        size.drvs += 1;
        size.edges += inputs.len() as u64;
        reading.hand_over(id, row, &inputs, each)?;
    }
    match edges.next {
        None => Ok(size),
        Some((user, ..)) => {
            Err(JobError::Unreadable(format!("an edge of derivation {user}, which is not there")))
        }
    }
}

struct Reading<'c> {
    folders: Read<'c, Arc<str>>,
    systems: Read<'c, System>,
    lists: Read<'c, Arc<[String]>>,
}

impl Reading<'_> {
    fn hand_over(
        &mut self,
        id: i64,
        row: &Row<'_>,
        inputs: &[LoadedInput],
        each: &mut dyn FnMut(&LoadedDrv<'_>),
    ) -> Result<(), JobError> {
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
        each(&LoadedDrv { id: DrvId(id), path: &path, system: &system, traits: &traits, inputs });
        Ok(())
    }
}

struct Edges<'c> {
    rows: Rows<'c>,
    next: Option<(i64, i64, i64)>,
    lists: Read<'c, Arc<[String]>>,
}

impl Edges<'_> {
    fn step(&mut self) -> Result<(), JobError> {
        self.next = match self.rows.next()? {
            Some(row) => Some((row.get(0)?, row.get(1)?, row.get(2)?)),
            None => None,
        };
        Ok(())
    }

    /// Those of a derivation, which all lead to lower ids.
    fn of(&mut self, id: i64, inputs: &mut Vec<LoadedInput>) -> Result<(), JobError> {
        inputs.clear();
        while let Some((user, input, outputs)) = self.next {
            if user > id {
                break;
            }
            if user < id || input >= id {
                return Err(JobError::Unreadable(format!("an edge from derivation {user} to {input}")));
            }
            inputs.push(LoadedInput { drv: DrvId(input), outputs: self.lists.get(outputs)? });
            self.step()?;
        }
        Ok(())
    }
}
