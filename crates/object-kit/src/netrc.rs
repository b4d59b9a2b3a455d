//! Netrc files. In: the text of one, a host. Out: the name and password for it. Knows `machine`, `default`, `login`,
//! `password`, `account`, and passes over `macdef` up to its empty line; a word that is none of these is passed over
//! too, as curl does. Leaves out tokens in quotes across lines.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::Secret;

/// Largest netrc file, in bytes.
pub const NETRC_MAX: u64 = 1 << 20;

/// A netrc file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Netrc {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    /// None: the default.
    machine: Option<String>,
    login: Option<String>,
    password: Option<Secret>,
}

/// A name and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name; may be empty.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// A netrc file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the netrc file {}", .file.display())]
pub struct NetrcError {
    /// Which.
    pub file: PathBuf,
    /// Why.
    source: std::io::Error,
}

impl Netrc {
    /// The first of these files that is there and that we may read; none when none is. Tells of those that we may not.
    ///
    /// # Errors
    /// [`NetrcError`] when one cannot be read for another reason, or is larger than [`NETRC_MAX`].
    pub fn first(
        files: &[PathBuf],
        passed_over: &mut dyn FnMut(NetrcError),
    ) -> Result<Option<Self>, NetrcError> {
        for file in files {
            match read(file) {
                Ok(text) => return Ok(Some(Self::parse(&text))),
                Err(source) if source.kind() == ErrorKind::NotFound => {}
                Err(source) => {
                    let denied = source.kind() == ErrorKind::PermissionDenied;
                    let error = NetrcError { file: file.clone(), source };
                    if !denied {
                        return Err(error);
                    }
                    passed_over(error);
                }
            }
        }
        Ok(None)
    }

    /// Reads a file's text. Nothing in it is an error.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        let mut words = Words { rest: text };
        while let Some(word) = words.next() {
            match word.as_str() {
                "machine" => {
                    let Some(name) = words.next() else { break };
                    entries.push(Entry { machine: Some(name), ..Entry::default() });
                }
                "default" => entries.push(Entry::default()),
                "macdef" => words.skip_macro(),
                "login" | "password" | "account" => {
                    let Some(value) = words.next() else { break };
                    match (entries.last_mut(), word.as_str()) {
                        (Some(entry), "login") => entry.login = Some(value),
                        (Some(entry), "password") => entry.password = Some(Secret::new(value)),
                        (Some(_) | None, _) => {}
                    }
                }
                _ => {}
            }
        }
        Self { entries }
    }

    /// What the file says about a host: the first entry that names it, else the default. None without a password.
    #[must_use]
    pub fn login(&self, host: &str) -> Option<Login> {
        let named = |entry: &&Entry| entry.machine.as_deref().is_some_and(|m| m.eq_ignore_ascii_case(host));
        let default = |entry: &&Entry| entry.machine.is_none();
        let entry = self.entries.iter().find(named).or_else(|| self.entries.iter().find(default))?;
        let password = entry.password.clone()?;
        Some(Login { user: entry.login.clone().unwrap_or_default(), password })
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(NETRC_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= NETRC_MAX) {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    Err(std::io::Error::new(ErrorKind::FileTooLarge, "more than 1 MiB"))
}

/// Words between white space; one that begins with `"` goes to the next `"` of its line, with `\` before what is meant
/// literally. `#` at the start of a word is a remark to the end of the line.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    /// Leaves out the lines of a macro, which an empty one ends.
    fn skip_macro(&mut self) {
        self.rest = self.rest.find("\n\n").map_or("", |end| &self.rest[end..]);
    }
}

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                break;
            }
            self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
        }
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let mut word = String::new();
            let mut chars = quoted.char_indices();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        self.rest = &quoted[at + 1..];
                        return Some(word);
                    }
                    '\n' => break,
                    '\\' => word.extend(chars.next().map(|(_, c)| c)),
                    _ => word.push(c),
                }
            }
            // No closing quote on the line: it is part of the word, as read below.
        }
        let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then(|| word.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_for_a_host_counts_then_the_default() {
        let text = "# of the team\nmachine a.example login ann password un0 # not this\nmacdef init\nmachine b.example password no\n\n\
                    machine B.example\n\tpassword \"t w\\\"o\"\nmachine a.example password later\ndefault login any password rest\n";
        let netrc = Netrc::parse(text);
        let login = |host| netrc.login(host).map(|l| (l.user, l.password.reveal().to_owned()));
        assert_eq!(login("a.example"), Some(("ann".into(), "un0".into())));
        assert_eq!(login("b.example"), Some((String::new(), "t w\"o".into())));
        assert_eq!(login("c.example"), Some(("any".into(), "rest".into())));
        assert_eq!(Netrc::parse("machine a login b").login("a"), None);
        assert!(!format!("{netrc:?}").contains("un0"));
    }

    #[test]
    fn the_first_file_that_is_there_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (absent, there) = (dir.path().join("absent"), dir.path().join("netrc"));
        fs::write(&there, "machine h password p").unwrap();
        let mut nobody = |error: NetrcError| panic!("{error}");
        let netrc = Netrc::first(&[absent.clone(), there], &mut nobody).unwrap().unwrap();
        assert!(netrc.login("h").is_some());
        assert_eq!(Netrc::first(&[absent], &mut nobody).unwrap(), None);
        assert!(Netrc::first(&[dir.path().to_owned()], &mut nobody).is_err());
    }
}
