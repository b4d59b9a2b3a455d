//! A path comes in, what Nix noted about the content-addressed outputs that were built to it comes out: the tables of
//! Nix 2.4 to 2.34, which are there once the feature was on. The build trace of later ones is not read here.

use nix_types::StorePath;

use super::Database;
use crate::store::{Realisation, StoreError};

impl Database<'_> {
    pub(super) fn realisations_of(&self, path: &StorePath) -> Result<Vec<Realisation>, StoreError> {
        if !self.has_table("Realisations")? {
            return Ok(Vec::new());
        }
        let with_dependents = self.has_table("RealisationsRefs")?;
        let sql = "SELECT r.id, r.drvPath || '!' || r.outputName, r.signatures FROM Realisations r \
                   JOIN ValidPaths v ON v.id = r.outputPath WHERE v.path = ?1 ORDER BY 2";
        let rows: Vec<(i64, String, Option<String>)> =
            self.all("realisations", sql, [path.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        let mut realisations = Vec::new();
        for (row, id, signatures) in rows {
            let mut realisation = Realisation {
                id,
                out_path: path.clone(),
                signatures: signatures.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
                dependent_realisations: std::collections::BTreeMap::new(),
            };
            if with_dependents {
                realisation.dependent_realisations = self.dependents(row)?.into_iter().collect();
            }
            realisations.push(realisation);
        }
        Ok(realisations)
    }

    fn dependents(&self, realisation: i64) -> Result<Vec<(String, StorePath)>, StoreError> {
        let sql = "SELECT r.drvPath || '!' || r.outputName, v.path FROM RealisationsRefs d \
                   JOIN Realisations r ON r.id = d.realisationReference \
                   JOIN ValidPaths v ON v.id = r.outputPath WHERE d.referrer = ?1";
        let rows: Vec<(String, String)> =
            self.all("dependent realisations", sql, [realisation], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.into_iter().map(|(id, path)| Ok((id, self.path(&path)?))).collect()
    }
}
