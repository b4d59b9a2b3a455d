//! Small disks that can be filled: a tmpfs mounted for one test. Needs root; without it the caller gets the
//! reason to print as it skips.

use std::fs::File;
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

    /// Writes a file named `ballast` until nothing more fits.
    ///
    /// # Errors
    /// What the system says, other than that the disk is full.
    pub fn fill(&self) -> io::Result<Ballast> {
        let path = self.path().join("ballast");
        let mut file = File::create(&path)?;
        loop {
            match io::Write::write(&mut file, &[0; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    return Ok(Ballast { file, path });
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The file that fills a [`Tmpfs`]. Space is made by cutting it short: a file that is only removed keeps its pages for as
/// long as somebody has it open, and a program that another thread is about to start has, until it runs.
#[derive(Debug)]
pub struct Ballast {
    file: File,
    path: PathBuf,
}

impl Ballast {
    /// Leaves room for `bytes` more.
    ///
    /// # Errors
    /// What the system says.
    pub fn leave(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(self.file.metadata()?.len().saturating_sub(bytes))
    }

    /// Makes room for all that it took, at once, and removes it.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(self) -> io::Result<()> {
        self.file.set_len(0)?;
        std::fs::remove_file(&self.path)
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
