//! A program's name comes in, the file to execute comes out. No shell, no working folder on the way: a name without a
//! slash is looked up in the `PATH` the child will have.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Environment, ProcessError};

/// The file that a child with this environment would execute for a program's name: the name itself when it has a slash,
/// else the first in the child's `PATH` that can be executed.
///
/// # Errors
/// [`ProcessError::NotFound`]
pub fn program(name: &OsStr, environment: &Environment) -> Result<PathBuf, ProcessError> {
    let not_found = |looked_in: String| ProcessError::NotFound {
        program: name.to_string_lossy().escape_debug().collect(),
        looked_in,
    };
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return if is_executable(&path) { Ok(path) } else { Err(not_found("the path itself".into())) };
    }
    let Some(list) = path_of(environment).filter(|_| !name.is_empty()) else {
        return Err(not_found("an empty PATH".into()));
    };
    env::split_paths(&list)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|path| is_executable(path))
        .ok_or_else(|| not_found(format!("PATH={}", list.to_string_lossy())))
}

/// The `PATH` the child will have.
fn path_of(environment: &Environment) -> Option<OsString> {
    let changed = environment.changes.iter().rev().find(|(name, _)| name == "PATH");
    match changed {
        Some((_, value)) => value.clone(),
        None if environment.clear => None,
        None => env::var_os("PATH"),
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(value: &str) -> Environment {
        Environment { clear: true, changes: vec![("PATH".into(), Some(value.into()))] }
    }

    #[test]
    fn a_name_is_found_in_the_childs_path_alone() {
        let found = program(OsStr::new("sh"), &path("/nonexistent:/bin")).unwrap();
        assert_eq!(found, Path::new("/bin/sh"));
        let cleared = Environment { clear: true, changes: vec![] };
        let error = program(OsStr::new("sh"), &cleared).unwrap_err();
        assert!(error.to_string().contains("an empty PATH"), "{error}");
        // A relative folder in PATH would make the answer depend on where we stand.
        assert!(program(OsStr::new("sh"), &path("bin:.")).is_err());
    }

    #[test]
    fn what_cannot_be_executed_is_not_found() {
        assert!(program(OsStr::new("/etc/passwd"), &Environment::default()).is_err());
        assert!(program(OsStr::new("/bin"), &Environment::default()).is_err());
        let error = program(OsStr::new("no-such-program"), &path("/bin")).unwrap_err();
        assert!(error.to_string().contains("no-such-program: looked in PATH=/bin;"), "{error}");
    }
}
