//! From what went wrong at a place to what it means for deliveries.
//!
//! In flow errors of objects, of packing and of keys; out flow faults with their class: whose matter it is, the
//! path's, the destination's or ours.

use nix_store::Store;
use nix_types::StorePath;
use object_kit::{Class, ObjectError};
use service_kit::telemetry::chain;

use crate::delivery::FaultClass;
use crate::pack::{PackError, ReadError};
use crate::push::Fault;

/// What an operation at a place came to.
pub(super) fn of_object(error: &ObjectError) -> Fault {
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
pub(super) fn of_read(error: &ReadError) -> Fault {
    match error {
        ReadError::Pack(error) => of_pack(error),
        ReadError::Fell(fell) => Fault::failed(FaultClass::Failed, fell.to_string()),
    }
}

fn of_pack(error: &PackError) -> Fault {
    let class = match error {
        PackError::Hash { .. } | PackError::Size { .. } => FaultClass::Corrupt,
        PackError::Nar { .. } => FaultClass::Failed,
        // Ours: no path is to blame.
        PackError::Compress(_) | PackError::Thread(_) => FaultClass::Unreachable,
        PackError::Unread => return Fault::Cancelled,
    };
    Fault::failed(class, chain(error))
}

/// The same fault, unless the path it is about has left the store meanwhile: then that is the reason.
pub(super) fn unless_gone(fault: Fault, path: &StorePath, store: &dyn Store) -> Fault {
    match fault {
        Fault::Failed { .. } if matches!(store.is_valid(path), Ok(false)) => Fault::Gone(path.clone()),
        fault => fault,
    }
}
