//! What a disk may hold after the power went. In flows a recorded [`Log`]; out flow images, one for each cut
//! and each way the disk may have treated what was not flushed; [`verify`] opens one as SQLite would after the
//! restart and says whether everything acknowledged before the cut is there.
//!
//! The model, on purpose harsher than most file systems:
//! - a write or a length change is certain after a flush of its file, and only then; before, any subset may
//!   have reached the disk, whole or in sectors of 512 bytes, in any order between files;
//! - a name that was created or deleted is certain after a flush of the folder, and only then; before, each
//!   name may have got any number of its changes, in their order;
//! - SQLite flushes the folder where [`Op::Sync`] and [`Op::Delete`] say so; a flush of a file alone does not
//!   make its name certain.
//!
//! Left out: rot of what was flushed, and disks that lie about flushes. The `-shm` file is not in an image.

mod disk;
mod verify;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use verify::{Verdict, check, fast_dir, verify};

use crate::seed::Rng;
use crate::vfs::{Log, Op};
use disk::Disk;

/// How the disk treated what was not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// None of it arrived.
    DropUnsynced,
    /// All of it arrived; this is also what `kill -9` leaves.
    KeepAll,
    /// A random subset of operations arrived.
    Subset,
    /// A random subset of the sectors of writes arrived.
    Torn,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 4] = [Variant::DropUnsynced, Variant::KeepAll, Variant::Subset, Variant::Torn];

    fn is_random(self) -> bool {
        matches!(self, Variant::Subset | Variant::Torn)
    }
}

/// Which images to make.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Cut after every n-th operation; 1 is every one. Not 0.
    pub every_cut: usize,
    /// The variants made at each cut.
    pub variants: Vec<Variant>,
    /// Random images of each random variant at each cut.
    pub seeds: u64,
    /// Where their seeds start.
    pub seed: u64,
}

impl Plan {
    /// Every cut, every variant, `seeds` random images each.
    pub fn exhaustive(seed: u64, seeds: u64) -> Plan {
        Plan { every_cut: 1, variants: Variant::ALL.to_vec(), seeds, seed }
    }
}

/// How many random images a test makes at each cut: `usual`, or what `EKA_TEST_POWERCUT_SEEDS` says, for the
/// long runs.
///
/// # Panics
/// When the variable is not a number.
pub fn seeds_wanted(usual: u64) -> u64 {
    let wanted = std::env::var("EKA_TEST_POWERCUT_SEEDS");
    wanted.map_or(usual, |text| text.parse().expect("EKA_TEST_POWERCUT_SEEDS is a number"))
}

/// The folder as a restarted machine may find it.
#[derive(Debug, Clone)]
pub struct Image {
    /// Operations before the cut.
    pub cut: usize,
    /// How what was not flushed was treated.
    pub variant: Variant,
    /// The seed of a random variant.
    pub seed: u64,
    files: BTreeMap<OsString, Vec<u8>>,
    acks: Arc<[u64]>,
    acked: usize,
}

impl Image {
    /// The numbers acknowledged before the cut, oldest first.
    pub fn acked(&self) -> &[u64] {
        &self.acks[..self.acked]
    }

    /// Empties the folder, creating it if need be, and puts the image's files there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn materialise(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        for entry in std::fs::read_dir(folder)? {
            std::fs::remove_file(entry?.path())?;
        }
        for (name, content) in &self.files {
            std::fs::write(folder.join(name), content)?;
        }
        Ok(())
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cut after operation {}, {:?}, seed {}", self.cut, self.variant, self.seed)
    }
}

/// All images of a plan, cut by cut. Before the first operation and after the last are cuts too.
///
/// # Panics
/// When `every_cut` is 0.
pub fn images(log: &Log, plan: &Plan) -> impl Iterator<Item = Image> {
    let acks: Arc<[u64]> = log.ops.iter().filter_map(ack).collect();
    let variants: Vec<(Variant, u64)> = plan.variants.iter().flat_map(|v| seeds(*v, plan)).collect();
    let (ops, step) = (&log.ops, plan.every_cut);
    let (mut disk, mut acked) = (Disk::default(), 0);
    (0..=ops.len()).flat_map(move |cut| {
        if let Some(op) = cut.checked_sub(1).map(|last| &ops[last]) {
            disk.apply(op);
            acked += usize::from(ack(op).is_some());
        }
        let wanted = cut.is_multiple_of(step) || cut == ops.len();
        let made = variants.iter().filter(|_| wanted).map(|(variant, seed)| Image {
            cut,
            variant: *variant,
            seed: *seed,
            files: disk.after_cut(*variant, &mut Rng::new(seed ^ (cut as u64).rotate_left(32))),
            acks: Arc::clone(&acks),
            acked,
        });
        made.collect::<Vec<_>>()
    })
}

fn ack(op: &Op) -> Option<u64> {
    if let Op::Ack(number) = op { Some(*number) } else { None }
}

fn seeds(variant: Variant, plan: &Plan) -> Vec<(Variant, u64)> {
    let count = if variant.is_random() { plan.seeds } else { 1 };
    (0..count).map(|i| (variant, plan.seed.wrapping_add(i))).collect()
}
