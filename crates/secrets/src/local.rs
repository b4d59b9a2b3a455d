//! Sources on this machine: variables and files. In: names and paths. Out: values as they are now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::file::{self, Content};
use crate::parse::tidy;
use crate::{Lookup, ParseError, Secret, SecretError, Values, parse, parse_or_raw};

/// A file, and what was found out about it on the way.
#[derive(Debug)]
pub(crate) struct FromFile<T> {
    pub(crate) value: T,
    /// The file, when everybody can read it.
    pub(crate) open: Option<PathBuf>,
}

/// A variable that is set to something.
pub(crate) fn variable(lookup: &Lookup, name: &str) -> Result<Secret, SecretError> {
    match lookup(name).filter(|value| !value.is_empty()) {
        Some(value) => Ok(tidy(&value)),
        None => {
            let remedy = format!("set {name} in the daemon's environment, as with EnvironmentFile=");
            Err(SecretError::mend(format!("the variable {name}"), "is not set", remedy))
        }
    }
}

pub(crate) fn variables(lookup: &Lookup, names: &[String]) -> Result<Values, SecretError> {
    let map = names.iter().map(|name| variable(lookup, name).map(|value| (name.clone(), value)));
    map.collect::<Result<_, _>>().map(Values::lasting)
}

/// A file's text, without the white space around it.
pub(crate) async fn text(path: PathBuf) -> Result<FromFile<Secret>, SecretError> {
    let from = content(path.clone()).await?;
    let value = Secret::new(from.value.reveal().trim());
    if value.reveal().is_empty() {
        return Err(SecretError::mend(path.display().to_string(), "is empty", "write the secret into it"));
    }
    Ok(FromFile { value, ..from })
}

/// A JSON object or `KEY=VALUE` lines.
pub(crate) async fn pairs(path: PathBuf) -> Result<FromFile<Values>, SecretError> {
    let from = content(path.clone()).await?;
    let map = parse(from.value.reveal()).map_err(|error| unreadable(&path.display().to_string(), &error))?;
    Ok(FromFile { value: Values::lasting(map), open: from.open })
}

/// A credential that systemd laid down for us.
pub(crate) async fn systemd(lookup: &Lookup, name: &str) -> Result<FromFile<Values>, SecretError> {
    let dir = lookup("CREDENTIALS_DIRECTORY").filter(|dir| dir.starts_with('/')).ok_or_else(|| {
        let remedy = format!("run under systemd with LoadCredential={name}:FILE");
        SecretError::mend(format!("the credential {name}"), "$CREDENTIALS_DIRECTORY is not set", remedy)
    })?;
    let path = Path::new(&dir).join(name);
    let from = content(path.clone()).await.map_err(|mut error| {
        error.remedy = format!("add LoadCredential={name}:FILE to the unit, or correct the name");
        error
    })?;
    let map = parse_or_raw(from.value.reveal(), name)
        .map_err(|error| unreadable(&path.display().to_string(), &error))?;
    Ok(FromFile { value: Values::lasting(map), open: from.open })
}

/// An app's id, and its key from a file or, without one, from a variable.
pub(crate) async fn app_key(
    lookup: &Lookup,
    app_id: Option<&str>,
    app_id_env: &str,
    key_file: Option<&Path>,
) -> Result<FromFile<Values>, SecretError> {
    let id = match app_id {
        Some(id) => Secret::new(id),
        None => variable(lookup, app_id_env)?,
    };
    let key = match key_file {
        Some(path) => text(path.to_owned()).await?,
        None => FromFile { value: variable(lookup, "GITHUB_APP_PRIVATE_KEY")?, open: None },
    };
    let map = BTreeMap::from([
        ("GITHUB_APP_ID".to_owned(), id),
        ("GITHUB_APP_PRIVATE_KEY".to_owned(), tidy(key.value.reveal())),
    ]);
    Ok(FromFile { value: Values::lasting(map), open: key.open })
}

pub(crate) fn unreadable(place: &str, error: &ParseError) -> SecretError {
    let remedy = "write a JSON object of texts, or KEY=VALUE lines";
    SecretError::mend(place, error.to_string(), remedy)
}

/// Reads aside: a file may lie on a disk that hangs.
async fn content(path: PathBuf) -> Result<FromFile<Secret>, SecretError> {
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || file::read(&path).map(|content| (content, path)));
    let (Content { text, others_read }, path) = read.await.map_err(|error| {
        SecretError::later(shown, "was not read: the daemon is ending", "start it again").because(error)
    })??;
    Ok(FromFile { value: text, open: others_read.then_some(path) })
}
