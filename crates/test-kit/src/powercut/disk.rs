//! A folder as the disk has it: what is certain, and what is on its way. Operations flow in, one at a time;
//! out flows, at any moment, what a power cut would leave under a variant.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use super::Variant;
use crate::seed::Rng;
use crate::vfs::{FileId, Op};

/// What a disk writes as one.
const SECTOR: usize = 512;

#[derive(Default)]
pub(super) struct Disk {
    files: BTreeMap<FileId, File>,
    names: BTreeMap<OsString, FileId>,
    /// Changes of names that are not certain: the file a name now means, or none.
    renames: BTreeMap<OsString, Vec<Option<FileId>>>,
}

#[derive(Default)]
struct File {
    certain: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write { offset: usize, data: Arc<[u8]> },
    Len(usize),
}

impl Disk {
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Found { file, name, content } => {
                self.files.insert(*file, File { certain: content.to_vec(), pending: Vec::new() });
                self.names.insert(name.clone(), *file);
            }
            Op::Create { file, name } => {
                self.files.insert(*file, File::default());
                self.renames.entry(name.clone()).or_default().push(Some(*file));
            }
            Op::Write { file, offset, data } => {
                let change = Change::Write { offset: size(*offset), data: Arc::clone(data) };
                self.file(*file).pending.push(change);
            }
            Op::Truncate { file, len } => self.file(*file).pending.push(Change::Len(size(*len))),
            Op::Sync { file, folder } => {
                self.file(*file).flush();
                if *folder {
                    self.flush_names();
                }
            }
            Op::Delete { name, folder } => {
                self.renames.entry(name.clone()).or_default().push(None);
                if *folder {
                    self.flush_names();
                }
            }
            Op::Ack(_) => {}
        }
    }

    pub(super) fn after_cut(&self, variant: Variant, rng: &mut Rng) -> BTreeMap<OsString, Vec<u8>> {
        let mut names = self.names.clone();
        for (name, changes) in &self.renames {
            let kept = match variant {
                Variant::DropUnsynced => 0,
                Variant::KeepAll => changes.len(),
                Variant::Subset | Variant::Torn => rng.index(changes.len() + 1),
            };
            if let Some(last) = changes[..kept].last() {
                set_name(&mut names, name, *last);
            }
        }
        let content = |file: &FileId, rng: &mut Rng| self.files[file].after_cut(variant, rng);
        names.iter().map(|(name, file)| (name.clone(), content(file, rng))).collect()
    }

    fn flush_names(&mut self) {
        for (name, changes) in std::mem::take(&mut self.renames) {
            if let Some(last) = changes.last() {
                set_name(&mut self.names, &name, *last);
            }
        }
    }

    fn file(&mut self, file: FileId) -> &mut File {
        self.files.get_mut(&file).expect("a log names a file before it uses it")
    }
}

impl File {
    fn flush(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.certain, &change);
        }
    }

    fn after_cut(&self, variant: Variant, rng: &mut Rng) -> Vec<u8> {
        let mut content = self.certain.clone();
        // Drawn per file: one may have been written back long before the other.
        let share = *rng.pick(&[0, 25, 50, 75, 100]);
        for change in &self.pending {
            match (variant, change) {
                (Variant::DropUnsynced, _) => {}
                (Variant::KeepAll, _) => apply(&mut content, change),
                (Variant::Torn, Change::Write { offset, data }) => {
                    for (offset, sector) in sectors(*offset, data) {
                        if rng.chance(share) {
                            write(&mut content, offset, sector);
                        }
                    }
                }
                (Variant::Subset | Variant::Torn, _) => {
                    if rng.chance(share) {
                        apply(&mut content, change);
                    }
                }
            }
        }
        content
    }
}

fn set_name(names: &mut BTreeMap<OsString, FileId>, name: &OsString, file: Option<FileId>) {
    match file {
        Some(file) => names.insert(name.clone(), file),
        None => names.remove(name),
    };
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, data } => write(content, *offset, data),
        Change::Len(len) => content.resize(*len, 0),
    }
}

fn write(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(data);
}

/// The parts of a write that lie in one sector each.
fn sectors(mut offset: usize, mut data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    std::iter::from_fn(move || {
        let len = (SECTOR - offset % SECTOR).min(data.len());
        let (sector, rest) = data.split_at(len);
        let part = (offset, sector);
        (offset, data) = (offset + len, rest);
        (len > 0).then_some(part)
    })
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a recorded file fits into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_cut_at_the_sectors_of_the_disk_not_at_its_own() {
        let data = [7; 1200];
        let parts: Vec<(usize, usize)> = sectors(500, &data).map(|(at, part)| (at, part.len())).collect();
        assert_eq!(parts, [(500, 12), (512, 512), (1024, 512), (1536, 164)]);
        assert_eq!(sectors(0, &[]).count(), 0);
    }

    #[test]
    fn a_name_is_certain_only_after_its_folder_was_flushed() {
        let (file, name) = (FileId(0), OsString::from("db"));
        let mut disk = Disk::default();
        disk.apply(&Op::Create { file, name: name.clone() });
        disk.apply(&Op::Write { file, offset: 0, data: (*b"abc").into() });
        disk.apply(&Op::Sync { file, folder: false });
        let after = |disk: &Disk| disk.after_cut(Variant::DropUnsynced, &mut Rng::new(0));
        assert!(after(&disk).is_empty());
        disk.apply(&Op::Sync { file, folder: true });
        assert_eq!(after(&disk)[&name], b"abc");
        disk.apply(&Op::Delete { name: name.clone(), folder: false });
        assert_eq!(after(&disk)[&name], b"abc");
        disk.apply(&Op::Delete { name, folder: true });
        assert!(after(&disk).is_empty());
    }
}
