//! The bytes of a path as another Nix gets them.
//!
//! In flows what Nix registered about a path; out flows its NAR, block by block, each held back until the next is there:
//! the last one leaves only when all of them together are what was registered. So nothing else is ever complete at the
//! other side, and what fits into one block is proved before any of it leaves. Blocks.

use std::io;
use std::path::Path;

use nix_store::PathInfo;
use nix_store::nar::{self, NarError};
use nix_store::remote::{ReadEnd, Stopped};
use nix_types::Sha256;
use sha2::{Digest, Sha256 as Hasher};

use crate::delivery::FaultClass;
use crate::pack::PackError;
use crate::push::Fault;
use crate::push::native::of_pack;

/// What paths are read with, one after the other.
#[derive(Default)]
pub(super) struct Blocks {
    read: Vec<u8>,
    held: Vec<u8>,
}

impl Blocks {
    /// Reads a path into the sink. The size of its NAR must be known.
    pub(super) fn read(
        &mut self,
        info: &PathInfo,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Stopped>,
    ) -> Result<(), ReadEnd<Fault>> {
        let registered = Sha256::parse(&info.nar_hash).map_err(|error| {
            let why = format!("what Nix registered as the hash of {} is none: {error}", info.path);
            ReadEnd::Bad(Fault::failed(FaultClass::Failed, why))
        })?;
        let (mut hasher, mut found, mut stopped) = (Hasher::new(), 0_u64, false);
        let Self { read, held } = self;
        held.clear();
        let written = nar::write_through(
            read,
            Path::new(info.path.as_str()),
            &mut |block| {
                hasher.update(block);
                found += block.len() as u64;
                if found > info.nar_size {
                    let (path, registered) = (info.path.clone(), info.nar_size);
                    return Err(io::Error::other(PackError::Size { path, registered, found }));
                }
                if !held.is_empty() && sink(held).is_err() {
                    stopped = true;
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                held.clear();
                held.extend_from_slice(block);
                Ok(())
            },
            None,
        );
        match written {
            _ if stopped => return Err(ReadEnd::Stopped),
            Ok(_) => {}
            Err(error) => return Err(ReadEnd::Bad(of_pack(&pack_error(info, error)))),
        }
        let hash = Sha256::from_bytes(hasher.finalize().into());
        if hash != registered || found != info.nar_size {
            let error = PackError::Hash { path: info.path.clone(), registered, found: hash };
            return Err(ReadEnd::Bad(of_pack(&error)));
        }
        sink(held).map_err(|Stopped| ReadEnd::Stopped)
    }

    /// The size of a NAR that Nix did not note, in bytes.
    pub(super) fn count(&mut self, info: &PathInfo) -> Result<u64, Fault> {
        let path = Path::new(info.path.as_str());
        let counted = nar::write_through(&mut self.read, path, &mut |_| Ok::<(), io::Error>(()), None);
        counted.map_err(|error| of_pack(&pack_error(info, error)))
    }
}

fn pack_error(info: &PathInfo, error: NarError<io::Error>) -> PackError {
    let source = match error {
        NarError::Sink(error) => match error.downcast::<PackError>() {
            Ok(error) => return error,
            Err(error) => NarError::Sink(error),
        },
        other => other,
    };
    PackError::Nar { path: info.path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix_types::StorePath;

    use super::*;

    fn info(folder: &Path, content: &[u8]) -> (PathInfo, Vec<u8>) {
        let path = folder.join("00000000000000000000000000000000-p");
        fs::write(&path, content).unwrap();
        let mut nar = Vec::new();
        let mut keep = |block: &[u8]| {
            nar.extend_from_slice(block);
            Ok::<(), io::Error>(())
        };
        nar::write(&path, &mut keep, None).unwrap();
        let info = PathInfo {
            path: StorePath::parse_str(path.to_str().unwrap()).unwrap(),
            nar_hash: format!("sha256:{}", Sha256::of(&nar).hex()),
            nar_size: nar.len() as u64,
            references: Vec::new(),
            deriver: None,
            registration_time: 0,
            ultimate: false,
            signatures: Vec::new(),
            ca: None,
        };
        (info, nar)
    }

    /// What comes of reading, and what left.
    fn read(info: &PathInfo) -> (Result<(), ReadEnd<Fault>>, Vec<u8>) {
        let mut left = Vec::new();
        let ended = Blocks::default().read(info, &mut |block| {
            left.extend_from_slice(block);
            Ok(())
        });
        (ended, left)
    }

    #[test]
    fn what_is_not_what_was_registered_never_leaves_whole() {
        let folder = tempfile::tempdir().unwrap();
        for size in [0, 100, nar::READ_BYTES - 1, nar::READ_BYTES, 3 * nar::READ_BYTES + 7] {
            let (info, nar) = info(folder.path(), &vec![7; size]);
            let (ended, left) = read(&info);
            assert!(ended.is_ok() && left == nar, "{size}");
            let mut counter = Blocks::default();
            assert_eq!(counter.count(&info).unwrap(), info.nar_size);
            let grown = [vec![7; size], vec![1]].concat();
            for other in [vec![8; size.max(1)], grown, Vec::new()] {
                if other.len() == size && size == 0 {
                    continue;
                }
                fs::write(info.path.as_str(), &other).unwrap();
                let (ended, left) = read(&info);
                assert!(
                    matches!(ended, Err(ReadEnd::Bad(Fault::Failed { class: FaultClass::Corrupt, .. }))),
                    "{size}: {ended:?}"
                );
                assert!(left.len() < nar.len(), "{size}: {}", left.len());
                assert!(nar.len() > nar::READ_BYTES || left.is_empty(), "{size}");
            }
        }
    }
}
