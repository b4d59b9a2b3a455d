//! What attributes are, one row for each thing that any of them is. Attributes come in and become rows under a hash of
//! all that they say; rows go out as attributes again. So two trees that differ little share nearly all of it.

use std::sync::Arc;

use ci_model::attr::Attr;
use nix_types::{AttrPath, System};
use sha2::{Digest, Sha256};
use sqlite_kit::Tx;
use sqlite_kit::rusqlite::{Connection, OptionalExtension, Row, params};

use super::codec::{self, HASH_BYTES, Hash};
use super::words::{self, Read};
use super::{JobError, SqliteStore};
use crate::store::StoreError;

/// An attribute's value as its row needs it.
pub(super) struct Ready {
    pub(super) path: AttrPath,
    hash: [u8; HASH_BYTES],
    folder: i64,
    drv: Hash,
    drv_name: String,
    name: Option<String>,
    pname: Option<String>,
    version: Option<String>,
    system: i64,
    flags: Option<i64>,
    features: Option<i64>,
    outputs: Vec<u8>,
    meta: String,
}

impl SqliteStore {
    pub(super) fn ready_value(&self, doing: &str, attr: &Attr) -> Result<Ready, StoreError> {
        let features = match attr.traits.as_ref().map(|traits| &traits.required_features) {
            Some(features) if !features.is_empty() => Some(self.list(features)?),
            _ => None,
        };
        let mut ready = Ready {
            path: attr.path.clone(),
            hash: [0; HASH_BYTES],
            folder: self.word(attr.drv.store_path().store_dir())?,
            drv: self.hash_of(doing, &attr.drv)?,
            drv_name: attr.drv.drv_name().to_owned(),
            name: (attr.name != attr.drv.drv_name()).then(|| attr.name.clone()),
            pname: attr.pname.clone(),
            version: attr.version.clone(),
            system: self.word(attr.system.as_str())?,
            flags: attr.traits.as_ref().map(codec::flags),
            features,
            outputs: codec::pack_outputs(&attr.drv, &attr.outputs),
            meta: serde_json::to_string(&attr.meta).map_err(|source| self.unwritable(doing, source))?,
        };
        ready.hash = ready.digest();
        Ok(ready)
    }
}

impl Ready {
    /// Over all of it but the path; words are never deleted, so their numbers stand for them.
    fn digest(&self) -> [u8; HASH_BYTES] {
        let mut hash = Sha256::new();
        let mut text = |text: Option<&[u8]>| {
            hash.update(text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
            hash.update(text.unwrap_or_default());
        };
        text(Some(&self.drv));
        text(Some(self.drv_name.as_bytes()));
        [&self.name, &self.pname, &self.version]
            .into_iter()
            .for_each(|name| text(name.as_deref().map(str::as_bytes)));
        text(Some(&self.outputs));
        text(Some(self.meta.as_bytes()));
        for number in [Some(self.folder), Some(self.system), self.flags, self.features] {
            hash.update(number.unwrap_or(-1).to_le_bytes());
        }
        let mut short = [0; HASH_BYTES];
        short.copy_from_slice(&hash.finalize()[..HASH_BYTES]);
        short
    }

    /// Its row, written or touched.
    pub(super) fn row(&self, tx: &Tx<'_>, today: i64) -> Result<i64, JobError> {
        let mut query = tx.prepare_cached("SELECT id, touched_day FROM attr_value WHERE hash = ?1")?;
        let found: Option<(i64, i64)> =
            query.query_row(params![self.hash], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        if let Some((id, touched)) = found {
            if touched < today {
                let mut touch = tx.prepare_cached("UPDATE attr_value SET touched_day = ?2 WHERE id = ?1")?;
                touch.execute(params![id, today])?;
            }
            return Ok(id);
        }
        let sql = "INSERT INTO attr_value (hash, touched_day, folder, drv, drv_name, name, pname, version, system, flags,
                   features, outputs, meta) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
        tx.prepare_cached(sql)?.execute(params![
            self.hash,
            today,
            self.folder,
            self.drv,
            self.drv_name,
            self.name,
            self.pname,
            self.version,
            self.system,
            self.flags,
            self.features,
            self.outputs,
            self.meta
        ])?;
        Ok(tx.last_insert_rowid())
    }
}

/// The attributes of an evaluation from a path on and before another.
pub(super) const ATTRS: &str =
    "SELECT a.path, v.folder, v.drv, v.drv_name, v.name, v.pname, v.version, v.system,
    v.flags, v.features, v.outputs, v.meta
    FROM attr a LEFT JOIN attr_value v ON v.id = a.value
    WHERE a.evaluation = ?1 AND a.path >= ?2 AND a.path < ?3 ORDER BY a.path";
/// Those from a path on.
pub(super) const ATTRS_FROM: &str =
    "SELECT a.path, v.folder, v.drv, v.drv_name, v.name, v.pname, v.version, v.system,
    v.flags, v.features, v.outputs, v.meta
    FROM attr a LEFT JOIN attr_value v ON v.id = a.value
    WHERE a.evaluation = ?1 AND a.path >= ?2 ORDER BY a.path";

/// Rows of [`ATTRS`] on their way back.
pub(super) struct Values<'c> {
    folders: Read<'c, Arc<str>>,
    systems: Read<'c, System>,
    lists: Read<'c, Arc<[String]>>,
}

impl<'c> Values<'c> {
    pub(super) fn new(conn: &'c Connection) -> Self {
        Self {
            folders: Read::new(conn, "folder", words::folder),
            systems: Read::new(conn, "system", words::system),
            lists: Read::new(conn, "list", words::list),
        }
    }

    pub(super) fn attr(&mut self, row: &Row<'_>) -> Result<Attr, JobError> {
        let path = attr_path(row.get_ref(0)?.as_str().unwrap_or_default())?;
        let damaged = |what| JobError::Unreadable(format!("{what} of attribute {path}"));
        let Some(folder) = row.get::<_, Option<i64>>(1)? else { return Err(damaged("the value")) };
        let folder = self.folders.get(folder)?;
        let drv_name = row.get_ref(3)?.as_str().unwrap_or_default();
        let hash: Hash = row.get(2)?;
        let drv = codec::drv_path(&folder, &hash, drv_name).ok_or_else(|| damaged("the derivation"))?;
        let outputs = row.get_ref(10)?.as_blob().unwrap_or_default();
        let outputs =
            codec::unpack_outputs(&folder, drv_name, outputs).ok_or_else(|| damaged("the outputs"))?;
        let features = match row.get::<_, Option<i64>>(9)? {
            Some(features) => self.lists.get(features)?.to_vec(),
            None => Vec::new(),
        };
        let meta = serde_json::from_str(row.get_ref(11)?.as_str().unwrap_or_default());
        Ok(Attr {
            drv,
            name: row.get::<_, Option<String>>(4)?.unwrap_or_else(|| drv_name.to_owned()),
            pname: row.get(5)?,
            version: row.get(6)?,
            system: self.systems.get(row.get(7)?)?,
            outputs,
            traits: row.get::<_, Option<i64>>(8)?.map(|flags| codec::traits(flags, features)),
            meta: meta.map_err(|_| damaged("`meta`"))?,
            path,
        })
    }
}

pub(super) fn attr_path(text: &str) -> Result<AttrPath, JobError> {
    text.parse().map_err(|_| JobError::Unreadable(format!("the attribute path {text:?}")))
}
