//! A flake that is not trusted comes in; the same with the hash of its content goes out, without which Nix does not evaluate
//! it purely. Whatever else is evaluated stays as it is. The folder must not change from here on: Nix compares the hash.

use std::borrow::Cow;
use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix_store::nar;
use service_kit::shutdown::Stop;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use super::{EvaluateError, Request, What};

/// The request as it is evaluated.
///
/// # Errors
/// [`EvaluateError::Machine`] when the folder cannot be read, [`EvaluateError::Cancelled`].
pub(super) async fn locked<'a>(request: &'a Request, quit: &Stop) -> Result<Cow<'a, Request>, EvaluateError> {
    let outputs = match &request.what {
        What::Flake { outputs } if !request.is_trusted => outputs.clone(),
        What::Flake { .. } | What::LockedFlake { .. } | What::File { .. } => {
            return Ok(Cow::Borrowed(request));
        }
    };
    let folder = request.folder.clone();
    let hashed = spawn_blocking(move || {
        let mut hash = Sha256::new();
        let mut take = |bytes: &[u8]| -> Result<(), Infallible> {
            hash.update(bytes);
            Ok(())
        };
        nar::write(&folder, &mut take, None).map(|_| format!("sha256-{}", STANDARD.encode(hash.finalize())))
    });
    let failed =
        |error: &dyn std::error::Error| EvaluateError::Machine { said: service_kit::telemetry::chain(error) };
    let hashed = tokio::select! {
        hashed = hashed => hashed,
        () = quit.requested() => return Err(EvaluateError::Cancelled), // it comes to its end for nobody
    };
    let nar_hash = hashed.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let what = What::LockedFlake { outputs, nar_hash };
    Ok(Cow::Owned(Request { what, ..request.clone() }))
}
