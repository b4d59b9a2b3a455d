//! A consistent copy of a database in use, in one file, on the disk before it gets its name.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::reader::Reader;

impl Reader {
    /// Copies what is committed now into the file `target`, replacing it when it exists. The copy has no
    /// `-wal` file and is flushed, with its name, when this returns. Writers go on meanwhile. Needs room for
    /// the copy beside `target`, where a file with `.partial` appended is used and removed.
    ///
    /// # Errors
    /// [`Error::Backup`], with `target` untouched.
    pub fn backup(&self, target: &Path) -> Result<(), Error> {
        let partial = partial_name(target);
        let done = self.copy(&partial, target);
        if done.is_err() {
            let _ = fs::remove_file(&partial); // it may never have come to be; the first error says more
        }
        done
    }

    fn copy(&self, partial: &Path, target: &Path) -> Result<(), Error> {
        let failed = |doing, source: Box<dyn std::error::Error + Send + Sync>| Error::Backup {
            path: self.options().path.clone(),
            target: target.to_path_buf(),
            doing,
            source,
        };
        match fs::remove_file(partial) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("remove what an earlier try left", error.into()));
            }
            Ok(()) | Err(_) => {}
        }
        let name = partial.to_str().ok_or_else(|| failed("read the name", "it is not UTF-8".into()))?;
        let copied = self.copier()?.execute("VACUUM INTO ?1", [name]);
        copied.map_err(|error| failed("copy", error.into()))?;
        let flush = |path: &Path| File::open(path).and_then(|file| file.sync_all());
        flush(partial).map_err(|error| failed("flush the copy", error.into()))?;
        fs::rename(partial, target).map_err(|error| failed("name the copy", error.into()))?;
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        flush(folder.unwrap_or(Path::new("."))).map_err(|error| failed("flush the folder", error.into()))
    }
}

fn partial_name(target: &Path) -> PathBuf {
    let mut name = OsString::from(target);
    name.push(".partial");
    name.into()
}
