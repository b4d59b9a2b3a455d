//! Which configuration file to read. In: the flag and the environment. Out: the file, or where it was looked
//! for. Leaves out reading it.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

const SYSTEM_FILES: [&str; 2] = ["/etc/ekaci/ekaci.toml", "/etc/eka-ci/ekaci.toml"];
const VARIABLE: &str = "EKA_CI_CONFIG_FILE";

/// No configuration file was found, or the one that was asked for is not there.
#[derive(Debug)]
pub struct NoConfigFile {
    /// Where it was looked for, in order.
    pub looked: Vec<PathBuf>,
    /// Who named the file, when somebody did.
    pub named_by: Option<&'static str>,
    source: Option<io::Error>,
}

impl std::error::Error for NoConfigFile {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl fmt::Display for NoConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let looked: Vec<String> = self.looked.iter().map(|path| path.display().to_string()).collect();
        let looked = looked.join(", ");
        match self.named_by {
            Some(who) => {
                write!(f, "configuration file {looked} (named by {who}) cannot be used; name another")
            }
            None if self.source.is_some() => {
                write!(f, "configuration file {looked} cannot be used; name another with --config-file")
            }
            None => write!(
                f,
                "no configuration file; looked for {looked}; write one of them, or name yours with --config-file"
            ),
        }
    }
}

/// The file `--config-file` names, else `EKA_CI_CONFIG_FILE`, else the first that exists of
/// `$XDG_CONFIG_HOME/ekaci/ekaci.toml` (`~/.config` when that is unset), `/etc/ekaci/ekaci.toml` and
/// `/etc/eka-ci/ekaci.toml`. Empty variables count as unset. `env` is usually `|name| std::env::var_os(name)`.
///
/// # Errors
/// [`NoConfigFile`] when none exists. A file that was named and is absent is an error and not passed over; so is
/// one that exists but cannot be looked at.
pub fn find_config_file(
    flag: Option<&Path>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, NoConfigFile> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    if let Some(flag) = flag {
        return named(flag.to_owned(), "--config-file");
    }
    if let Some(file) = env(VARIABLE) {
        return named(file.into(), VARIABLE);
    }
    let home = env("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| env("HOME").map(|home| Path::new(&home).join(".config")));
    let places = home.map(|home| home.join("ekaci/ekaci.toml"));
    first(places.into_iter().chain(SYSTEM_FILES.map(PathBuf::from)).collect())
}

fn named(file: PathBuf, who: &'static str) -> Result<PathBuf, NoConfigFile> {
    match std::fs::metadata(&file) {
        Ok(_) => Ok(file),
        Err(source) => Err(NoConfigFile { looked: vec![file], named_by: Some(who), source: Some(source) }),
    }
}

fn first(places: Vec<PathBuf>) -> Result<PathBuf, NoConfigFile> {
    for place in &places {
        match std::fs::metadata(place) {
            Ok(_) => return Ok(place.clone()),
            Err(error) if absent(&error) => {}
            Err(source) => {
                return Err(NoConfigFile {
                    looked: vec![place.clone()],
                    named_by: None,
                    source: Some(source),
                });
            }
        }
    }
    Err(NoConfigFile { looked: places, named_by: None, source: None })
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn env<'a>(set: &'a [(&'a str, &'a Path)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        move |name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_os_str().to_owned())
    }

    #[test]
    fn the_flag_wins_over_the_variable_over_the_home() {
        let dir = tempfile::tempdir().unwrap();
        let [flag, variable] = ["flag.toml", "variable.toml"].map(|name| dir.path().join(name));
        let home = dir.path().join("ekaci/ekaci.toml");
        fs::create_dir(dir.path().join("ekaci")).unwrap();
        for file in [&flag, &variable, &home] {
            fs::write(file, "").unwrap();
        }
        let set = [(VARIABLE, variable.as_path()), ("XDG_CONFIG_HOME", dir.path())];
        assert_eq!(find_config_file(Some(&flag), env(&set)).unwrap(), flag);
        assert_eq!(find_config_file(None, env(&set)).unwrap(), variable);
        assert_eq!(find_config_file(None, env(&set[1..])).unwrap(), home);
        let emptied = [(VARIABLE, Path::new("")), ("XDG_CONFIG_HOME", dir.path())];
        assert_eq!(find_config_file(None, env(&emptied)).unwrap(), home);
    }

    #[test]
    fn the_home_folder_stands_in_for_its_configuration_folder() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".config/ekaci/ekaci.toml");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        assert_eq!(find_config_file(None, env(&[("HOME", dir.path())])).unwrap(), file);
    }

    #[test]
    fn a_named_file_that_is_absent_is_not_passed_over() {
        let absent = Path::new("/nonexistent/ekaci.toml");
        let error = find_config_file(None, env(&[(VARIABLE, absent)])).unwrap_err();
        let text = "configuration file /nonexistent/ekaci.toml (named by EKA_CI_CONFIG_FILE) cannot be used; name another";
        assert_eq!(error.to_string(), text);
        assert!(std::error::Error::source(&error).is_some());
        assert!(find_config_file(Some(absent), env(&[])).unwrap_err().to_string().contains("--config-file"));
    }

    #[test]
    fn nothing_found_says_where_it_was_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let places: Vec<PathBuf> = ["x/ekaci.toml", "y/ekaci.toml"].map(|p| dir.path().join(p)).into();
        let error = first(places.clone()).unwrap_err();
        assert_eq!(error.looked, places);
        let text = error.to_string();
        assert!(
            text.contains("x/ekaci.toml, ") && text.contains("y/ekaci.toml; write one of them"),
            "{text}"
        );
    }
}
