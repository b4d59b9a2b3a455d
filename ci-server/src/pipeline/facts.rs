//! What the files of derivations say, for those that differ. In: derivations; out: their contents, read when they are first
//! asked for, and held. One whose file is gone or damaged, or for which there is no room within [`FACTS_MAX`] and
//! [`FACTS_BYTES_MAX`], has none: the comparison then says that it could not look. It asks for the two of a pair one after the
//! other, those nearest to a cause first, so that what has no room is what most likely follows from something else.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use ci_model::diff::DrvFacts;
use nix_types::derivation::{self, DRV_BYTES_MAX};
use nix_types::{Derivation, DrvPath};

/// Most derivations whose contents are held.
const FACTS_MAX: usize = 50_000;
/// Most bytes of files whose contents are held. Usual files have 3 kB, so that the number is reached first; what is held
/// takes some times as much memory as the files have bytes.
const FACTS_BYTES_MAX: u64 = 256 << 20;

/// The contents of files.
pub(super) struct Files {
    /// Of each that may be asked for what it says, once it was: `None` when it cannot be read.
    held: HashMap<DrvPath, OnceCell<Option<Box<Derivation>>>>,
    /// How many more are held.
    more: Cell<usize>,
    /// How many bytes more are held.
    room: Cell<u64>,
    left_out: Cell<usize>,
}

impl Files {
    /// Those of these derivations; there are no others.
    pub(super) fn of(drvs: impl Iterator<Item = DrvPath>) -> Self {
        Self::within(drvs, FACTS_MAX, FACTS_BYTES_MAX)
    }

    /// [`Files::of`] with so many files of so many bytes. One that has no room is not read; smaller ones that are asked for
    /// later may have.
    fn within(drvs: impl Iterator<Item = DrvPath>, most: usize, room: u64) -> Self {
        let held = drvs.map(|drv| (drv, OnceCell::new())).collect();
        Self { held, more: Cell::new(most), room: Cell::new(room), left_out: Cell::new(0) }
    }

    /// How many were asked for and could not be read.
    pub(super) fn left_out(&self) -> usize {
        self.left_out.get()
    }

    fn read(&self, drv: &DrvPath) -> Option<Derivation> {
        let is_room = self.more.get() > 0;
        let Some((said, bytes)) = is_room.then(|| contents(drv, self.room.get())).flatten() else {
            self.left_out.set(self.left_out.get() + 1);
            return None;
        };
        self.more.set(self.more.get() - 1);
        self.room.set(self.room.get() - bytes);
        Some(said)
    }
}

impl DrvFacts for Files {
    fn get(&self, drv: &DrvPath) -> Option<Cow<'_, Derivation>> {
        let said = self.held.get(drv)?.get_or_init(|| self.read(drv).map(Box::new));
        said.as_deref().map(Cow::Borrowed)
    }
}

/// What a file says, and how many bytes it has; `None` for one that cannot be read within so many.
fn contents(drv: &DrvPath, room: u64) -> Option<(Derivation, u64)> {
    let most = room.min(DRV_BYTES_MAX as u64);
    let file = File::open(drv.as_str()).ok()?;
    if file.metadata().ok()?.len() > most {
        return None;
    }
    let mut text = Vec::new();
    file.take(most + 1).read_to_end(&mut text).ok()?;
    let bytes = text.len() as u64;
    if bytes > most {
        return None; // it grew
    }
    Some((derivation::parse(&text).ok()?, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files with such a name and so many bytes of an argument, and how many bytes each has.
    fn written(dir: &tempfile::TempDir, files: &[(&str, usize)]) -> (Vec<DrvPath>, Vec<u64>) {
        let write = |(name, bytes): &(&str, usize)| {
            let path = dir.path().join(format!("00000000000000000000000000000000-{name}.drv"));
            let arg = "x".repeat(*bytes);
            let text = format!(r#"Derive([("out","","","")],[],[],"x86_64-linux","/bin/sh",["{arg}"],[])"#);
            std::fs::write(&path, &text).unwrap();
            (path.to_str().unwrap().parse::<DrvPath>().unwrap(), text.len() as u64)
        };
        files.iter().map(write).unzip()
    }

    /// Asks for these in turn; which can be read, and how many are left out.
    fn asked<'a>(files: &Files, drvs: impl IntoIterator<Item = &'a DrvPath>) -> (Vec<&'a str>, usize) {
        let read = drvs.into_iter().filter(|drv| files.get(drv).is_some()).map(|drv| drv.drv_name());
        (read.collect(), files.left_out())
    }

    #[test]
    fn files_without_room_are_left_out_and_smaller_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (drvs, sizes) = written(&dir, &[("one", 1), ("large", 500), ("two", 1)]);
        let within = |room: u64| Files::within(drvs.iter().cloned(), 3, room);
        let all: u64 = sizes.iter().sum();
        assert_eq!(asked(&within(all), &drvs), (vec!["one", "large", "two"], 0));
        assert_eq!(asked(&within(all - 1), &drvs), (vec!["one", "large"], 1));
        assert_eq!(asked(&within(sizes[0] + sizes[2]), &drvs), (vec!["one", "two"], 1));
        assert_eq!(asked(&within(0), &drvs), (vec![], 3));
    }

    #[test]
    fn what_is_asked_for_first_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (drvs, _) = written(&dir, &[("one", 1), ("two", 1), ("three", 1), ("four", 1)]);
        let files = Files::within(drvs[..3].iter().cloned(), 2, u64::MAX);
        assert_eq!(asked(&files, []), (vec![], 0));
        assert_eq!(asked(&files, [&drvs[3], &drvs[2], &drvs[0]]), (vec!["three", "one"], 0));
        drvs.iter().for_each(|drv| std::fs::remove_file(drv.as_str()).unwrap());
        assert_eq!(asked(&files, &drvs), (vec!["one", "three"], 1), "what was read is held");
        assert_eq!(asked(&files, &drvs), (vec!["one", "three"], 1), "each is left out once");
        let gone = Files::within(drvs.iter().cloned(), 9, u64::MAX);
        assert_eq!(asked(&gone, &drvs), (vec![], 4));
    }
}
