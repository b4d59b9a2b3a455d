//! Several threads over one list of what is still to be read. Each takes a handful, reads and parses it without holding
//! the lock, and puts back what it found that nobody had seen. A derivation that cannot be used is put aside, and
//! nothing below it is looked at on its account. What is held is bounded by number, and by the bytes of the names in it;
//! large files are read one at a time.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use ci_model::drv::DrvRecord;
use nix_types::DrvPath;
use nix_types::derivation::{self, DRV_BYTES_MAX};

use super::{DRVS_MAX, DrvsError, Unusable};

/// Derivations that a thread takes at once: few enough that no thread starves at a narrow place.
const HANDFUL: usize = 16;
/// A larger file is read by one thread at a time, and its buffer is not kept for the next: what a file says takes some
/// times as much memory as it has bytes.
const LARGE_BYTES: usize = 4 << 20;

/// What there is, in no order.
#[derive(Default)]
pub(super) struct Found {
    pub(super) read: Vec<DrvRecord>,
    pub(super) unusable: Vec<Unusable>,
    /// Bytes of files that were read.
    pub(super) bytes: u64,
}

#[derive(Default)]
struct State {
    waiting: Vec<DrvPath>,
    seen: HashSet<DrvPath>,
    found: Found,
    held: u64,
    busy: usize,
    failed: Option<DrvsError>,
}

struct Shared<'a> {
    state: Mutex<State>,
    news: Condvar,
    is_known: &'a (dyn Fn(&DrvPath) -> bool + Sync),
    cancelled: &'a AtomicBool,
    held_max: u64,
    /// Held by who reads a large file.
    large: Mutex<()>,
}

/// Everything below `roots` that is not known, with at most so many bytes of names.
pub(super) fn read_all(
    threads: usize,
    roots: &[DrvPath],
    is_known: &(dyn Fn(&DrvPath) -> bool + Sync),
    cancelled: &AtomicBool,
    held_max: u64,
) -> Result<Found, DrvsError> {
    let (state, news) = (Mutex::new(State::default()), Condvar::new());
    let shared = Shared { state, news, is_known, cancelled, held_max, large: Mutex::default() };
    shared.add(roots.iter().cloned());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| shared.work());
        }
        shared.work();
    });
    let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match state.failed {
        Some(error) => Err(error),
        None => Ok(state.found),
    }
}

impl Shared<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, found: impl Iterator<Item = DrvPath>) {
        let mut state = self.state();
        for drv in found {
            if !state.seen.contains(&drv) && !(self.is_known)(&drv) {
                state.seen.insert(drv.clone());
                state.waiting.push(drv);
            }
        }
        if state.seen.len() > DRVS_MAX {
            state.failed.get_or_insert(DrvsError::TooMany);
        }
        drop(state);
        self.news.notify_all();
    }

    fn work(&self) {
        let mut buffer = Vec::new();
        while let Some(handful) = self.take() {
            let mut found = Found { read: Vec::with_capacity(handful.len()), ..Found::default() };
            let (mut held, mut failed) = (0, None);
            for drv in handful {
                match self.record(&drv, &mut buffer) {
                    Ok(record) => {
                        held += names_bytes(&record);
                        found.read.push(record);
                    }
                    Err(why) if is_of_one(&why) => found.unusable.push(Unusable { drv, why }),
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
                found.bytes += buffer.len() as u64;
                if buffer.capacity() > LARGE_BYTES {
                    buffer = Vec::new();
                }
            }
            self.put(found, held, failed);
        }
    }

    fn record(&self, drv: &DrvPath, buffer: &mut Vec<u8>) -> Result<DrvRecord, DrvsError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => DrvsError::Gone(drv.clone()),
            _ => DrvsError::Read { drv: drv.clone(), source },
        };
        buffer.clear();
        let file = File::open(drv.as_str()).map_err(failed)?;
        let is_large = file.metadata().map_err(failed)?.len() > LARGE_BYTES as u64;
        let _alone = is_large.then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
        file.take(DRV_BYTES_MAX as u64 + 1).read_to_end(buffer).map_err(failed)?;
        let view =
            derivation::view(buffer).map_err(|source| DrvsError::Parse { drv: drv.clone(), source })?;
        DrvRecord::of(drv.clone(), &view).map_err(|source| DrvsError::Record { drv: drv.clone(), source })
    }

    /// Puts back what a handful came to.
    fn put(&self, mut found: Found, held: u64, failed: Option<DrvsError>) {
        let inputs: Vec<DrvPath> =
            found.read.iter().flat_map(|record| record.inputs.keys().cloned()).collect();
        self.add(inputs.into_iter());
        let mut state = self.state();
        state.found.read.append(&mut found.read);
        state.found.unusable.append(&mut found.unusable);
        state.found.bytes += found.bytes;
        state.held += held;
        state.busy -= 1;
        if let Some(error) = failed {
            state.failed.get_or_insert(error);
        }
        if state.held > self.held_max {
            state.failed.get_or_insert(DrvsError::TooLarge);
        }
        drop(state);
        self.news.notify_all();
    }

    /// The next few; `None` at the end, of whatever kind.
    fn take(&self) -> Option<Vec<DrvPath>> {
        let mut state = self.state();
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                state.failed.get_or_insert(DrvsError::Cancelled);
            }
            if state.failed.is_some() || (state.waiting.is_empty() && state.busy == 0) {
                drop(state);
                self.news.notify_all();
                return None;
            }
            if !state.waiting.is_empty() {
                let from = state.waiting.len() - state.waiting.len().min(HANDFUL);
                let handful = state.waiting.split_off(from);
                state.busy += 1;
                return Some(handful);
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Is only this derivation at fault, and no other try mends it?
fn is_of_one(error: &DrvsError) -> bool {
    match error {
        DrvsError::Read { .. } | DrvsError::Parse { .. } | DrvsError::Record { .. } | DrvsError::Cycle(_) => {
            true
        }
        DrvsError::Gone(_) | DrvsError::TooMany | DrvsError::TooLarge | DrvsError::Cancelled => false,
    }
}

/// Bytes of the names that are held of it.
fn names_bytes(drv: &DrvRecord) -> u64 {
    let inputs = drv
        .inputs
        .iter()
        .map(|(input, outputs)| input.as_str().len() + outputs.iter().map(String::len).sum::<usize>());
    let outputs = drv
        .outputs
        .iter()
        .map(|(name, path)| name.len() + path.as_ref().map_or(0, |path| path.as_str().len()));
    let features = drv.traits.required_features.iter().map(String::len);
    let own = drv.path.as_str().len() + drv.system.as_str().len();
    (own + inputs.chain(outputs).chain(features).sum::<usize>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &std::path::Path, name: &str, inputs: &str) -> DrvPath {
        let path = folder.join(format!("00000000000000000000000000000000-{name}.drv"));
        std::fs::write(
            &path,
            format!(r#"Derive([("out","","","")],[{inputs}],[],"x86_64-linux","/bin/sh",[],[])"#),
        )
        .unwrap();
        path.to_str().unwrap().parse().unwrap()
    }

    #[test]
    fn names_beyond_the_bound_end_the_walk() {
        let dir = tempfile::tempdir().unwrap();
        let below = write(dir.path(), "below", "");
        let root = write(dir.path(), "root", &format!(r#"("{below}",["out"])"#));
        let walk = |held| read_all(2, std::slice::from_ref(&root), &|_| false, &AtomicBool::new(false), held);
        let names =
            2 * below.as_str().len() + root.as_str().len() + 3 * "out".len() + 2 * "x86_64-linux".len();
        assert_eq!(walk(names as u64).unwrap().read.len(), 2);
        assert!(matches!(walk(names as u64 - 1), Err(DrvsError::TooLarge)));
    }

    #[test]
    fn large_files_among_small_ones_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut roots = Vec::new();
        for n in 0..8 {
            let path = dir.path().join(format!("0000000000000000000000000000000{n}-d.drv"));
            let arg = "x".repeat(if n % 2 == 0 { LARGE_BYTES + 1 } else { 1 });
            let text = format!(r#"Derive([("out","","","")],[],[],"x86_64-linux","/bin/sh",["{arg}"],[])"#);
            std::fs::write(&path, text).unwrap();
            roots.push(path.to_str().unwrap().parse().unwrap());
        }
        let found = read_all(4, &roots, &|_| false, &AtomicBool::new(false), 1 << 20).unwrap();
        assert_eq!((found.read.len(), found.unusable.len()), (8, 0));
    }
}
