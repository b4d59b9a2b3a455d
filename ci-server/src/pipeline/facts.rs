//! What the files of derivations say, for those that differ. In: derivations; out: their contents, read once. One whose file
//! is gone or damaged, or for which there is no room within [`FACTS_MAX`] and [`FACTS_BYTES_MAX`], is left out: the
//! comparison then says that it could not look.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use nix_types::derivation::{self, DRV_BYTES_MAX};
use nix_types::{Derivation, DrvPath};

/// Most derivations whose contents are held.
const FACTS_MAX: usize = 50_000;
/// Most bytes of files whose contents are held. Usual files have 3 kB, so that the number is reached first; what is held
/// takes some times as much memory as the files have bytes.
const FACTS_BYTES_MAX: u64 = 256 << 20;

/// The contents of these, and how many were not looked at.
pub(super) fn read(drvs: impl Iterator<Item = DrvPath>) -> (HashMap<DrvPath, Derivation>, usize) {
    read_within(drvs, FACTS_BYTES_MAX)
}

/// [`read`] with files of so many bytes. One that has no room is not read; smaller ones behind it may have.
fn read_within(drvs: impl Iterator<Item = DrvPath>, mut room: u64) -> (HashMap<DrvPath, Derivation>, usize) {
    let (mut facts, mut left_out) = (HashMap::new(), 0);
    for drv in drvs {
        let said = if facts.len() < FACTS_MAX { contents(&drv, room) } else { None };
        if let Some((said, bytes)) = said {
            room -= bytes;
            facts.insert(drv, said);
        } else {
            left_out += 1;
        }
    }
    (facts, left_out)
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

    #[test]
    fn files_without_room_are_left_out_and_smaller_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut sizes = Vec::new();
        let mut write = |name: &str, args: &str| -> DrvPath {
            let path = dir.path().join(format!("00000000000000000000000000000000-{name}.drv"));
            let text = format!(r#"Derive([("out","","","")],[],[],"x86_64-linux","/bin/sh",["{args}"],[])"#);
            std::fs::write(&path, &text).unwrap();
            sizes.push(text.len() as u64);
            path.to_str().unwrap().parse().unwrap()
        };
        let drvs = [write("one", "1"), write("large", &"x".repeat(500)), write("two", "2")];
        let held = |room: u64| {
            let (facts, left_out) = read_within(drvs.iter().cloned(), room);
            let mut held: Vec<String> = facts.keys().map(|drv| drv.drv_name().to_owned()).collect();
            held.sort_unstable();
            (held, left_out)
        };
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let all: u64 = sizes.iter().sum();
        assert_eq!(held(all), (named(&["large", "one", "two"]), 0));
        assert_eq!(held(all - 1), (named(&["large", "one"]), 1));
        assert_eq!(held(sizes[0] + sizes[2]), (named(&["one", "two"]), 1));
        assert_eq!(held(0), (Vec::new(), 3));
    }
}
