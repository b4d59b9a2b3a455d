//! From what went wrong at a place to what it means for deliveries.
//!
//! In flow errors of objects, of packing and of keys; out flow faults with their class: whose matter it is, the
//! path's, the destination's or ours.

use std::io::{self, ErrorKind};

use nix_store::Store;
use nix_store::nar::NarError;
use nix_types::StorePath;
use object_kit::{Class, ObjectError};
use service_kit::telemetry::chain;

use crate::delivery::FaultClass;
use crate::pack::{PackError, ReadError};
use crate::push::Fault;

/// What a folder could not make durable is about all that was under way there, not about one path: it ends the batch.
pub(super) fn of_settle(error: &ObjectError) -> Fault {
    match of_object(error) {
        fault if fault.is_unreachable() => fault,
        Fault::Failed { why, output, .. } => Fault::Failed { class: FaultClass::Unreachable, why, output },
        fault => fault,
    }
}

/// What an operation at a place came to.
pub(in crate::push) fn of_object(error: &ObjectError) -> Fault {
    if let Some(read) = error.cause::<ReadError>() {
        return of_read(read);
    }
    let class = match error.class {
        Class::Unreachable => FaultClass::Unreachable,
        Class::Stuck => FaultClass::Stuck,
        Class::TooLarge => FaultClass::Refused,
        // Credentials will be mended by somebody; a broken or busy server mends itself; a refusal may be the path's.
        Class::Credentials
        | Class::LengthRequired
        | Class::NoConditions
        | Class::Busy
        | Class::Server
        | Class::Refused
        | Class::Local
        | Class::Body => FaultClass::Failed,
    };
    Fault::failed(class, object_kit::chain(error))
}

/// Why an archive could not be read to its end.
pub(in crate::push) fn of_read(error: &ReadError) -> Fault {
    match error {
        ReadError::Pack(error) => of_pack(error),
        ReadError::Fell(fell) => Fault::failed(FaultClass::Failed, fell.to_string()),
    }
}

pub(in crate::push) fn of_pack(error: &PackError) -> Fault {
    let class = match error {
        PackError::Hash { .. } | PackError::Size { .. } => FaultClass::Corrupt,
        PackError::Nar { source, .. } => of_nar(source),
        // Ours: no path is to blame.
        PackError::Compress(_) | PackError::Thread(_) => FaultClass::Unreachable,
        PackError::Unread => return Fault::Cancelled,
    };
    Fault::failed(class, chain(error))
}

/// Whose matter it is that files of the store cannot be packed: never the destination's, which was not asked.
fn of_nar(error: &NarError<io::Error>) -> FaultClass {
    match error {
        NarError::Io { source, .. }
            if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
        {
            FaultClass::Corrupt
        }
        // No right to read it, a disk that fails: somebody may mend that.
        NarError::Io { .. } => FaultClass::Local,
        // What Nix registered had neither more nor fewer files, nor other ones.
        NarError::Changed { .. }
        | NarError::Unsupported { .. }
        | NarError::TooLong { .. }
        | NarError::TooDeep { .. } => FaultClass::Corrupt,
        NarError::Sink(_) => FaultClass::Failed,
    }
}

/// The same fault, unless the path it is about has left the store meanwhile: then that is the reason.
pub(in crate::push) fn unless_gone(fault: Fault, path: &StorePath, store: &dyn Store) -> Fault {
    match fault {
        Fault::Failed { .. } if matches!(store.is_valid(path), Ok(false)) => Fault::Gone(path.clone()),
        fault => fault,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn files_that_cannot_be_packed_are_never_held_against_the_destination() {
        let path = PathBuf::from("/nix/store/x");
        let io = |kind: ErrorKind| NarError::Io { path: path.clone(), source: kind.into() };
        let path = || path.clone();
        for (error, class) in [
            (io(ErrorKind::NotFound), FaultClass::Corrupt),
            (io(ErrorKind::NotADirectory), FaultClass::Corrupt),
            (io(ErrorKind::PermissionDenied), FaultClass::Local),
            (io(ErrorKind::Other), FaultClass::Local),
            (NarError::Changed { path: path() }, FaultClass::Corrupt),
            (NarError::Unsupported { path: path(), what: "a FIFO" }, FaultClass::Corrupt),
            (NarError::TooLong { path: path() }, FaultClass::Corrupt),
            (NarError::TooDeep { path: path() }, FaultClass::Corrupt),
        ] {
            assert_eq!(of_nar(&error), class, "{error}");
        }
    }
}
