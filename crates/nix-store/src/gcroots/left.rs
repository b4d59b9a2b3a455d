//! Roots of the kind that is not in use any more: a service that got, or lost, the right to write among Nix' own roots
//! leaves those of before behind, and nobody would ever take them away.
//!
//! In flow the roots in use and where the other kind would lie; out flows the folder without what is ours in it. To be
//! removed only once everything that must be kept has a root of the kind in use.

use std::path::Path;

use super::links::Links;
use super::marks::Marks;
use super::{FOLDER, GcRoots, RootsError, is_real_folder, name_of};
use crate::dirs::StoreDirs;

/// Where roots of the other kind may lie.
pub struct LeftRoots {
    kind: Left,
}

enum Left {
    Links(Links),
    Marks(Marks),
}

impl GcRoots {
    /// What an earlier start for the same `own_folder` may have left, of the kind that was not chosen. `None` when it
    /// has no folder, or one that the collector does not look into.
    #[must_use]
    pub fn left_by_the_other_kind(&self, dirs: &StoreDirs, own_folder: &Path) -> Option<LeftRoots> {
        let kind = match self {
            Self::Direct(_) => {
                is_real_folder(own_folder).ok()?;
                Left::Links(Links::new(own_folder.canonicalize().ok()?, dirs.store()))
            }
            Self::Indirect(_) => {
                let shared = dirs.gcroots().join(FOLDER);
                let folder = shared.join(name_of(own_folder));
                is_real_folder(&shared).and_then(|()| is_real_folder(&folder)).ok()?;
                Left::Marks(Marks::new(folder, dirs.store()))
            }
        };
        Some(LeftRoots { kind })
    }
}

impl LeftRoots {
    /// Their folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match &self.kind {
            Left::Links(links) => links.folder(),
            Left::Marks(marks) => marks.folder(),
        }
    }

    /// Removes them, and the folder when nothing else is in it. Gives their number.
    ///
    /// # Errors
    /// [`RootsError`] at the first that cannot be removed.
    pub fn remove(&self) -> Result<u64, RootsError> {
        let mut removed = 0;
        match &self.kind {
            Left::Links(links) => {
                for path in links.list()? {
                    removed += u64::from(links.remove(&path)?);
                }
            }
            Left::Marks(marks) => {
                for path in marks.list()? {
                    removed += u64::from(marks.remove(&path)?);
                }
                marks.tidy();
            }
        }
        let _ = std::fs::remove_dir(self.folder()); // somebody else's files may be in it: it stays then
        Ok(removed)
    }
}
