//! As whom, told at each use by somebody else. In: whoever knows. Out: what is in force now, or why there is nothing, so
//! that what is changed where it is kept needs no restart here.

use std::fmt;
use std::sync::Arc;

use crate::error::{BoxError, Class, Fault};
use crate::{Secret, Work};

/// Who knows as whom a place is spoken to.
pub trait Teller<T>: Send + Sync {
    /// What is in force now. May be dropped at any time.
    ///
    /// # Errors
    /// An error that can be shown: it holds no secret.
    fn tell(&self) -> Work<'_, Result<T, BoxError>>;

    /// What was told last has been refused: the next answer is not from memory.
    fn forget(&self) -> Work<'_, ()>;
}

/// Somebody who is asked at each use.
pub struct Asked<T>(pub Arc<dyn Teller<T>>);

/// As whom an HTTP server is spoken to, when that is told at each use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// As nobody.
    Nobody,
    /// Name and password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// `Authorization: Bearer …`
    Bearer(Secret),
}

impl<T> Clone for Asked<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Asked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked(***)")
    }
}

/// The same one.
impl<T> PartialEq for Asked<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for Asked<T> {}

/// Without a word from whoever knows the place cannot be spoken to, whatever was to be done there.
pub(crate) fn untold(error: BoxError) -> Fault {
    Fault::new(Class::Unreachable, error)
}
