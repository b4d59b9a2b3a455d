//! A GitHub App's id and key. In: the values of any source. Out: both, the key as PEM whatever way it was given: as text,
//! with `\n` for its line breaks, or as the path of its file.

use std::path::PathBuf;

use crate::{Secret, SecretError, Values, file, parse::tidy};

/// The value with the id.
const ID: &str = "GITHUB_APP_ID";
/// The value with the key, or with the path of its file.
const KEY: &str = "GITHUB_APP_PRIVATE_KEY";

/// Who an app is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppKey {
    /// Its number.
    pub id: u64,
    /// Its private key, PEM.
    pub key: Secret,
}

impl Values {
    /// The app that `GITHUB_APP_ID` and `GITHUB_APP_PRIVATE_KEY` stand for. Reads a file when the key is the path of one.
    ///
    /// # Errors
    /// [`SecretError`] when one is absent, the id is no number, or the key no PEM.
    pub fn app(&self) -> Result<AppKey, SecretError> {
        let wrong =
            |what: &str, remedy: &str| SecretError::mend(self.place.clone(), what, remedy).of(self.kind);
        let id = self.need(ID)?.reveal().trim().parse();
        let id = id.map_err(|_| wrong("GITHUB_APP_ID is no number", "write the App ID of the app's page"))?;
        let given = self.need(KEY)?;
        let key = if given.reveal().starts_with('/') && !given.reveal().contains('\n') {
            let content = file::read(&PathBuf::from(given.reveal())).map_err(|error| error.of(self.kind))?;
            tidy(content.text.reveal().trim_start())
        } else {
            given.clone()
        };
        if !key.reveal().trim_start().starts_with("-----BEGIN ") {
            return Err(wrong(
                "GITHUB_APP_PRIVATE_KEY is no PEM",
                "store the file that GitHub gave, or its path",
            ));
        }
        Ok(AppKey { id, key })
    }
}
