//! A derivation comes in, its valid outputs come out. Paths known before the build are in the `.drv` file and the
//! table of outputs; those of content-addressed outputs are noted apart, under a hash of what the derivation means
//! (Nix up to 2.34) or under its path (later). What is in none of these places, a path may still name as its deriver.

use std::collections::BTreeSet;

use nix_types::{DrvPath, StorePath};
use rusqlite::params;

use super::Database;
use crate::drv_file::{hash_of, read};
use crate::store::StoreError;

pub(super) fn of(database: &Database<'_>, drv: &DrvPath) -> Result<Vec<StorePath>, StoreError> {
    let mut outputs = BTreeSet::new();
    let mut all_known = false;
    if let Some(id) = database.id_of(drv.store_path())? {
        outputs.extend(database.noted(id)?);
        if let Some(derivation) = read(drv)? {
            all_known = true;
            for (name, output) in &derivation.outputs {
                let found = match &output.path {
                    Some(path) => database.id_of(path)?.map(|_| path.clone()).into_iter().collect(),
                    None => {
                        let built = database.built(drv, name)?;
                        all_known &= !built.is_empty();
                        built
                    }
                };
                outputs.extend(found);
            }
        }
    }
    if !all_known {
        outputs.extend(database.derived_from(drv)?);
    }
    Ok(outputs.into_iter().collect())
}

impl Database<'_> {
    /// Valid outputs whose paths Nix knew before the build.
    fn noted(&self, drv: i64) -> Result<Vec<StorePath>, StoreError> {
        let sql =
            "SELECT o.path FROM DerivationOutputs o JOIN ValidPaths v ON v.path = o.path WHERE o.drv = ?1";
        self.paths("outputs", sql, params![drv])
    }

    /// What a content-addressed output was built to.
    fn built(&self, drv: &DrvPath, output: &str) -> Result<Vec<StorePath>, StoreError> {
        let mut found = Vec::new();
        if self.has_table("BuildTrace")? {
            let sql = "SELECT v.path FROM BuildTrace b JOIN ValidPaths v ON v.id = b.outputPath \
                       WHERE b.drvPath IN (?1, ?2) AND b.outputName = ?3";
            found = self.paths(
                "a build trace",
                sql,
                params![drv.as_str(), drv.store_path().base_name(), output],
            )?;
        }
        if found.is_empty() && self.has_table("Realisations")? {
            let sql = "SELECT v.path FROM Realisations r JOIN ValidPaths v ON v.id = r.outputPath \
                       WHERE r.drvPath = ?1 AND r.outputName = ?2";
            let hash = format!("sha256:{}", hash_of(drv)?);
            found = self.paths("a realisation", sql, params![hash, output])?;
        }
        Ok(found)
    }

    /// Valid paths that name the derivation as their deriver. There is no index for this question: it reads the table.
    fn derived_from(&self, drv: &DrvPath) -> Result<Vec<StorePath>, StoreError> {
        self.paths("derived paths", "SELECT path FROM ValidPaths WHERE deriver = ?1", params![drv.as_str()])
    }

    pub(super) fn has_table(&self, name: &str) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
        Ok(self.one("the list of tables", sql, [name], |_| Ok(()))?.is_some())
    }

    fn paths(
        &self,
        what: &'static str,
        sql: &str,
        wanted: impl rusqlite::Params,
    ) -> Result<Vec<StorePath>, StoreError> {
        let texts: Vec<String> = self.all(what, sql, wanted, |row| row.get(0))?;
        texts.iter().map(|text| self.path(text)).collect()
    }
}
