//! Text that many rows share, and its numbers. A word is written in a transaction of its own before the rows that need
//! it, and is never deleted, so what is remembered here is right whatever becomes of those rows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlite_kit::Lane;
use sqlite_kit::rusqlite::{Connection, OptionalExtension, params};

use super::{JobError, SqliteStore};
use crate::store::StoreError;

/// Most words that are remembered; when there are more, remembering begins anew.
const WORDS_MAX: usize = 65_536;

/// Words whose numbers are known.
#[derive(Debug, Default)]
pub(super) struct Words(Mutex<HashMap<Arc<str>, i64>>);

impl Words {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SqliteStore {
    /// The number of a word, which is written when it is new.
    pub(super) fn word(&self, text: &str) -> Result<i64, StoreError> {
        if let Some(id) = self.words.lock().get(text) {
            return Ok(*id);
        }
        let word = text.to_owned();
        let id = self.write("store a word", Lane::Normal, move |tx| {
            if let Some(id) = word_id(tx, &word)? {
                return Ok(id);
            }
            tx.prepare_cached("INSERT INTO word (text) VALUES (?1)")?.execute(params![word])?;
            Ok(tx.last_insert_rowid())
        })?;
        let mut known = self.words.lock();
        if known.len() >= WORDS_MAX {
            known.clear();
        }
        known.insert(text.into(), id);
        Ok(id)
    }

    /// The number of a list of words: features, outputs.
    pub(super) fn list(&self, words: &[impl AsRef<str>]) -> Result<i64, StoreError> {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        self.word(&serde_json::Value::from(words).to_string())
    }
}

/// The number of a word that is there.
pub(super) fn word_id(conn: &Connection, text: &str) -> Result<Option<i64>, JobError> {
    let mut query = conn.prepare_cached("SELECT id FROM word WHERE text = ?1")?;
    Ok(query.query_row(params![text], |row| row.get(0)).optional()?)
}

/// Numbers on their way back to what they stand for, each looked up once.
pub(super) struct Read<'c, T> {
    conn: &'c Connection,
    what: &'static str,
    parse: fn(&str) -> Option<T>,
    known: HashMap<i64, T>,
}

impl<'c, T: Clone> Read<'c, T> {
    /// `parse` gives none for a word that is no such thing.
    pub(super) fn new(conn: &'c Connection, what: &'static str, parse: fn(&str) -> Option<T>) -> Self {
        Self { conn, what, parse, known: HashMap::new() }
    }

    /// What the number stands for.
    pub(super) fn get(&mut self, id: i64) -> Result<T, JobError> {
        if let Some(known) = self.known.get(&id) {
            return Ok(known.clone());
        }
        let mut query = self.conn.prepare_cached("SELECT text FROM word WHERE id = ?1")?;
        let text: Option<String> = query.query_row(params![id], |row| row.get(0)).optional()?;
        let value = text.as_deref().and_then(self.parse);
        let value =
            value.ok_or_else(|| JobError::Unreadable(format!("word {id} is no {}: {text:?}", self.what)))?;
        self.known.insert(id, value.clone());
        Ok(value)
    }
}

/// A system.
pub(super) fn system(text: &str) -> Option<nix_types::System> {
    text.parse().ok()
}

/// A folder.
pub(super) fn folder(text: &str) -> Option<Arc<str>> {
    Some(text.into())
}

/// A list of words.
pub(super) fn list(text: &str) -> Option<Arc<[String]>> {
    serde_json::from_str::<Vec<String>>(text).ok().map(Into::into)
}
