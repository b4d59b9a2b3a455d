//! What an interrupted run has told already, so that the next one does not evaluate it again. Paths come in; out goes a
//! file for the evaluator to read: sets as they are nested, with `true` for what is done with all that lies below it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix_types::AttrPath;
use serde_json::{Map, Value};
use tempfile::TempDir;

/// The file, in a folder of its own that goes with it.
pub(super) struct Done {
    folder: TempDir,
}

impl Done {
    /// Writes it, in the folder for temporary files. Nobody else can come to it there; within a sandbox, where it is
    /// by itself, its other user can.
    pub(super) fn write<'a>(paths: impl Iterator<Item = &'a AttrPath>) -> io::Result<Self> {
        let done = Self { folder: tempfile::Builder::new().prefix("eka-evaluated-").tempdir()? };
        let file = done.file();
        fs::write(&file, nested(paths).to_string())?;
        fs::set_permissions(&file, Permissions::from_mode(0o644))?;
        Ok(done)
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("done.json")
    }
}

fn nested<'a>(paths: impl Iterator<Item = &'a AttrPath>) -> Value {
    let mut root = Value::Object(Map::new());
    for path in paths.filter(|path| !path.is_root()) {
        let mut here = &mut root;
        for name in path.components() {
            let Value::Object(set) = here else { break }; // done with all below it
            here = set.entry(name.as_str()).or_insert_with(|| Value::Object(Map::new()));
        }
        *here = Value::Bool(true);
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_nested() {
        let paths = ["a", "b.c", "b.d.e", "f.g", "f", "f.h", "\"x.y\".z", ""];
        let paths: Vec<AttrPath> = paths.iter().map(|path| path.parse().unwrap()).collect();
        let want = serde_json::json!({
            "a": true, "b": { "c": true, "d": { "e": true } }, "f": true, "x.y": { "z": true }
        });
        assert_eq!(nested(paths.iter()), want);
        assert_eq!(nested(std::iter::empty()), serde_json::json!({}));
    }
}
