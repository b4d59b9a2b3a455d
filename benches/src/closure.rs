//! What P5 to P8 push: a private store with a closure of 551 paths and 760 MB as programs have them, and one path of
//! 5 GiB that takes no room. Made once and kept beside the programs, under a name that says what it is made of; the
//! next run finds it there. Out go its paths, references first, all of them valid for Nix itself.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{BenchError, Doing};
use crate::nix::Nix;
use crate::pool::{self, Pool};

/// Changes when the same files make another closure.
const VERSION: &str = "1";
/// Paths that are small, and what is in each.
const SMALL: usize = 500;
const SMALL_TOOL_BYTES: u64 = 6_000;
const SMALL_TEXT_BYTES: u64 = 13_000;
/// Paths that are larger, and what is in each.
const MEDIUM: usize = 50;
const MEDIUM_FILES: u64 = 20;
const MEDIUM_FILE_BYTES: u64 = 250_000;
/// The one that is large, and needs all others.
const LARGE_BYTES: u64 = 500_000_000;
/// The one of P8 alone: a file without a byte on the disk.
const HUGE_BYTES: u64 = 5 << 30;
/// Says that everything is there, and what.
const READY: &str = "ready.json";
/// Who signs.
const KEY_NAME: &str = "bench-1";

/// The store with its paths.
pub(crate) struct Closure {
    pub(crate) nix: Nix,
    folder: PathBuf,
    contents: Contents,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Contents {
    paths: Vec<String>,
    nar_bytes: u64,
    huge: String,
}

impl Closure {
    /// Finds it or makes it, in a folder below `parent`; others that lie there are of older files and go.
    pub(crate) fn find_or_make(parent: &Path) -> Result<Self, BenchError> {
        let pool = Pool::find()?;
        let mut hasher = Sha256::new_with_prefix(VERSION);
        pool.hash(&mut hasher);
        let name: String = hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let folder = parent.join(name);
        let found = fs::read(folder.join(READY)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(contents) = found {
            return Ok(Self { nix: Nix::at(&folder), folder, contents });
        }
        eprintln!("eka-bench: making a closure of 760 MB in {}, once", folder.display());
        match fs::remove_dir_all(parent) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).doing(format!("remove {}", parent.display()));
            }
            Ok(()) | Err(_) => {}
        }
        let nix = Nix::at(&folder);
        fs::create_dir_all(nix.store()).doing("make a private store")?;
        let mut maker = Maker { nix, pool, contents: Contents::default(), records: String::new() };
        maker.make()?;
        maker.nix.register(&maker.records)?;
        let Maker { nix, contents, .. } = maker;
        let closure = Self { nix, folder, contents };
        closure.make_key()?;
        closure.ask_nix()?;
        let text = serde_json::to_vec(&closure.contents).doing("write down what was made")?;
        fs::write(closure.folder.join(READY), text).doing("write down what was made")?;
        Ok(closure)
    }

    /// The closure, references first; the last path needs all others.
    pub(crate) fn paths(&self) -> &[String] {
        &self.contents.paths
    }

    /// Small paths that need nothing but each other.
    pub(crate) fn small(&self, count: usize) -> &[String] {
        &self.contents.paths[..count.min(SMALL)]
    }

    /// Bytes of all its archives before compression.
    pub(crate) fn nar_bytes(&self) -> u64 {
        self.contents.nar_bytes
    }

    /// A path of 5 GiB, none of the closure.
    pub(crate) fn huge(&self) -> &str {
        &self.contents.huge
    }

    /// The file of the key that signs.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.folder.join("key.secret")
    }

    /// Nix forgets what it knows of caches: a port of today may be another server than that of yesterday.
    pub(crate) fn forget_caches(&self) -> Result<(), BenchError> {
        match fs::remove_dir_all(self.nix.home()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing("remove what Nix remembers of caches")
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn make_key(&self) -> Result<(), BenchError> {
        let mut command = self.nix.command(Path::new("nix-store"));
        command.args(["--generate-binary-cache-key", KEY_NAME]);
        command.arg(self.key_file()).arg(self.folder.join("key.public"));
        succeeds(&mut command, "make a key with nix-store")
    }

    /// Nix reads every path of the closure and finds it as registered.
    fn ask_nix(&self) -> Result<(), BenchError> {
        let mut command = self.nix.command(Path::new("nix-store"));
        command.arg("--verify-path").args(self.paths());
        succeeds(&mut command, "have Nix look at the paths that were made")
    }
}

fn succeeds(command: &mut std::process::Command, what: &str) -> Result<(), BenchError> {
    let output = command.output().doing(what)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().escape_debug().to_string();
    Err(BenchError::new(format!("{what}: {}: {said}", output.status)))
}

struct Maker {
    nix: Nix,
    pool: Pool,
    contents: Contents,
    records: String,
}

impl Maker {
    fn make(&mut self) -> Result<(), BenchError> {
        for number in 0..SMALL {
            let references = tree(number);
            self.path("small", number, references, |pool, path| {
                let tool = path.join("bin/tool");
                for folder in ["bin", "share"] {
                    fs::create_dir_all(path.join(folder)).doing("make a folder")?;
                }
                pool::write(pool, &tool, SMALL_TOOL_BYTES)?;
                fs::set_permissions(&tool, fs::Permissions::from_mode(0o755))
                    .doing("make a file a program")?;
                pool::write(pool, &path.join("share/text"), SMALL_TEXT_BYTES)?;
                symlink("bin/tool", path.join("run")).doing("make a symbolic link")
            })?;
        }
        for number in 0..MEDIUM {
            let small = number * (SMALL / MEDIUM)..(number + 1) * (SMALL / MEDIUM);
            let medium = tree(number).into_iter().map(|number| SMALL + number);
            self.path("medium", number, small.chain(medium).collect(), |pool, path| {
                fs::create_dir(path).doing("make a folder")?;
                for file in 0..MEDIUM_FILES {
                    pool::write(pool, &path.join(format!("file-{file:02}")), MEDIUM_FILE_BYTES)?;
                }
                Ok(())
            })?;
        }
        self.path("large", 0, (SMALL..SMALL + MEDIUM).collect(), |pool, path| {
            pool::write(pool, path, LARGE_BYTES)
        })?;
        let closure = (self.contents.paths.len(), self.contents.nar_bytes);
        self.path("huge", 0, Vec::new(), |_, path| {
            let made = fs::File::create(path).and_then(|file| file.set_len(HUGE_BYTES));
            made.doing(format!("make {} of 5 GiB", path.display()))
        })?;
        self.contents.huge = self.contents.paths.split_off(closure.0).remove(0);
        self.contents.nar_bytes = closure.1;
        Ok(())
    }

    /// Makes a path of this name, whose references are given by their place.
    fn path(
        &mut self,
        kind: &str,
        number: usize,
        references: Vec<usize>,
        fill: impl FnOnce(&mut Pool, &Path) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let name = format!("bench-{kind}-{number:03}");
        let place = self.contents.paths.len();
        let path = self.nix.store().join(format!("{place:032}-{name}"));
        fill(&mut self.pool, &path)?;
        let mut hasher = Sha256::new();
        let packed = nix_store::nar::write(
            &path,
            &mut |block| {
                hasher.update(block);
                Ok::<(), std::convert::Infallible>(())
            },
            None,
        );
        let nar_bytes = packed.doing(format!("pack {}", path.display()))?;
        let hash = nix_types::Sha256::from_bytes(hasher.finalize().into()).hex();
        let path = path.to_string_lossy().into_owned();
        // Path, hash and size of the NAR, deriver, number of references, references.
        self.records.push_str(&format!("{path}\nsha256:{hash}\n{nar_bytes}\n\n{}\n", references.len()));
        for reference in references {
            self.records.push_str(&format!("{}\n", self.contents.paths[reference]));
        }
        self.contents.nar_bytes += nar_bytes;
        self.contents.paths.push(path);
        Ok(())
    }
}

/// What the path of this number refers to among its like.
fn tree(number: usize) -> Vec<usize> {
    let mut references = if number == 0 { Vec::new() } else { vec![number / 2, number / 3] };
    references.dedup();
    references
}
