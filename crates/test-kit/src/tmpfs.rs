//! Small disks that can be filled: a tmpfs mounted for one test. Needs root; without it the caller gets the
//! reason to print as it skips.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs; dropping it unmounts it and removes its mount point.
#[derive(Debug)]
pub struct Tmpfs {
    dir: tempfile::TempDir,
}

impl Tmpfs {
    /// Mounts one that holds `bytes`.
    ///
    /// # Errors
    /// Why there is none, in words: mostly that the test does not run as root.
    pub fn mount(bytes: u64) -> Result<Tmpfs, String> {
        let dir = tempfile::tempdir().map_err(|error| format!("no folder to mount a tmpfs on: {error}"))?;
        let options = format!("size={bytes},mode=0700");
        let output = tool("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output();
        let output = output.map_err(|error| format!("no tmpfs: mount cannot be started: {error}"))?;
        if output.status.success() {
            return Ok(Tmpfs { dir });
        }
        Err(format!("no tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file named `ballast` until nothing more fits; gives its path. Remove it to make space again.
    ///
    /// # Errors
    /// What the system says, other than that the disk is full.
    pub fn fill(&self) -> io::Result<PathBuf> {
        let path = self.path().join("ballast");
        let mut file = std::fs::File::create(&path)?;
        loop {
            match io::Write::write(&mut file, &[0; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(path),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let done = tool("umount").arg("--lazy").arg(self.dir.path()).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("{} could not be unmounted", self.dir.path().display());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "mount(8) and umount(8) end at once; tests alone run them")]
fn tool(name: &str) -> Command {
    Command::new(name)
}
