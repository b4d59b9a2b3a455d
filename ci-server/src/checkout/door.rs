//! The mark of a folder of ours, as a door. Who makes something in the folder, which is nobody's until it is locked, comes in
//! together with others; who clears away what nobody holds comes in alone. So nothing that is just being made is taken for
//! what a killed process left, and two never clear away the same.

use std::fs::File;
use std::io;
use std::path::Path;

/// To make something; waits for whoever clears away. It is left when the file is dropped.
pub(super) fn enter(folder: &Path, marker: &str) -> io::Result<File> {
    let door = File::open(folder.join(marker))?;
    door.lock_shared()?;
    Ok(door)
}

/// To clear away; waits for whoever makes something, which is over at once, and for others who clear away.
pub(super) fn enter_alone(folder: &Path, marker: &str) -> io::Result<File> {
    let door = File::open(folder.join(marker))?;
    door.lock()?;
    Ok(door)
}

/// Removing what its owner may remove at the same moment.
pub(super) fn removed(how: io::Result<()>) -> io::Result<()> {
    match how {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
