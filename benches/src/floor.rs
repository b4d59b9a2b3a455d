//! What the machine itself takes, whoever asks. A folder comes in; flushes of its disk and spawns of a program that
//! does nothing go out, to be measured between our own samples, so that both have the same weather.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{BenchError, Doing};
use crate::stats::Samples;
use crate::sys::Program;
use crate::world::World;

/// Bytes that one flush brings to the disk, about one record.
const RECORD: [u8; 200] = [7; 200];
/// Flushes behind a median.
const FLUSHES: usize = 101;

/// A file to which records are appended.
pub(crate) struct Disk(File);

impl Disk {
    /// Makes the file in a folder of the disk in question.
    pub(crate) fn new(folder: &Path) -> Result<Self, BenchError> {
        let file = tempfile::tempfile_in(folder);
        Ok(Self(file.doing(format!("make a file in {}", folder.display()))?))
    }

    /// Appends a record and brings it to the disk.
    pub(crate) fn flush(&mut self) -> Result<Duration, BenchError> {
        let started = Instant::now();
        self.0.write_all(&RECORD).and_then(|()| self.0.sync_data()).doing("write and flush a record")?;
        Ok(started.elapsed())
    }

    /// The flushes of a moment.
    pub(crate) fn flushes(&mut self) -> Result<Samples, BenchError> {
        let mut samples = Samples::default();
        for _ in 0..FLUSHES {
            samples.push(self.flush()?);
        }
        Ok(samples)
    }
}

/// A program that does nothing, ready to be started.
pub(crate) fn empty(world: &World) -> Result<Program, BenchError> {
    Program::new(&world.programs.empty, &[], &[]).doing("prepare bench-empty")
}
