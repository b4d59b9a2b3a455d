//! What Cachix' own tools go by: two variables, and `cachix.dhall`.
//!
//! In flow the environment and a file; out flow who we are, where the API is, and the key that signs, if we hold it. Of
//! Dhall only records and lists of plain texts are understood, as `cachix authtoken` writes them; a value that is anything
//! else is an error and never guessed. Nothing of the content is ever said.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use object_kit::Secret;

use super::Fault;
use super::token::{read, refuse};

/// Where Cachix is unless the file says otherwise.
const HOST: &str = "https://cachix.org";

/// As whom, where, and with which key.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) host: String,
    pub(super) token: Option<Secret>,
    /// Base 64, without a name.
    pub(super) signing_key: Option<Secret>,
}

/// Where Cachix' client keeps its settings.
pub(crate) fn usual_file() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    config.unwrap_or_else(|| PathBuf::from("/root/.config")).join("cachix/cachix.dhall")
}

/// What is known for a cache, by the file if one is to be read. Variables come before the file, as with Cachix' client. Blocks.
pub(super) fn login(cache: &str, file: Option<&Path>) -> Result<Login, Fault> {
    let text = file.map(read).transpose()?.flatten().unwrap_or_default();
    let Some(records) = records(&text) else {
        return Err(refuse(
            file.unwrap_or(Path::new("cachix.dhall")),
            "holds more than records and lists of plain texts; run `cachix authtoken` anew",
        ));
    };
    let variable = |name| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    let top = records.last();
    let of_file = |key: &str| top.and_then(|record| record.get(key)).filter(|text| !text.is_empty()).cloned();
    let is_of_cache =
        |record: &&HashMap<String, String>| record.get("name").is_some_and(|name| name == cache);
    let key_of_file = || records.iter().find(is_of_cache).and_then(|record| record.get("secretKey")).cloned();
    Ok(Login {
        host: of_file("hostname").unwrap_or_else(|| HOST.into()).trim_end_matches('/').to_owned(),
        token: variable("CACHIX_AUTH_TOKEN")
            .or_else(|| of_file("authToken"))
            .map(|text| Secret::new(text.trim())),
        signing_key: variable("CACHIX_SIGNING_KEY").or_else(key_of_file).map(|key| bare(&key)),
    })
}

/// What `check-config` says when Cachix' client has no token for a cache. Blocks.
pub(crate) fn lacks_token(cache: &str, file: Option<&Path>) -> Option<(String, String)> {
    let file = file.map_or_else(usual_file, Path::to_owned);
    let remedy = "set CACHIX_AUTH_TOKEN for the daemon, or name a source in credentials".to_owned();
    match login(cache, Some(&file)) {
        Ok(Login { token: Some(_), .. }) => None,
        Ok(_) => Some((format!("there is no token in CACHIX_AUTH_TOKEN or {}", file.display()), remedy)),
        Err(Fault::Failed { why, .. }) => Some((why, remedy)),
        Err(Fault::Gone(_) | Fault::Cancelled) => None,
    }
}

/// A key may be written with a name before it, which is the cache's in any case.
pub(super) fn bare(key: &str) -> Secret {
    Secret::new(key.rsplit(':').next().unwrap_or_default().trim())
}

/// The records of a text in Dhall, inner ones first; `None` when there is anything else in it.
#[must_use]
pub fn records(text: &str) -> Option<Vec<HashMap<String, String>>> {
    let (mut done, mut open) = (Vec::new(), Vec::<HashMap<String, String>>::new());
    let (mut key, mut assigned) = (String::new(), false);
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { break };
        if let Some(remark) = rest.strip_prefix("--") {
            rest = remark.find('\n').map_or("", |end| &remark[end..]);
            continue;
        }
        rest = match first {
            '{' => {
                open.push(HashMap::new());
                (key, assigned) = (String::new(), false);
                &rest[1..]
            }
            '}' => {
                done.push(open.pop()?);
                &rest[1..]
            }
            '=' => {
                assigned = !key.is_empty();
                &rest[1..]
            }
            ',' | '[' | ']' => &rest[1..],
            '"' => {
                let (word, behind) = quoted(&rest[1..])?;
                if !assigned {
                    return None;
                }
                open.last_mut()?.insert(std::mem::take(&mut key), word);
                assigned = false;
                behind
            }
            c if c.is_ascii_alphabetic() && !assigned => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
                key = rest[..end].to_owned();
                &rest[end..]
            }
            ':' => behind_list_type(&rest[1..])?,
            _ => return None,
        };
    }
    open.is_empty().then_some(done)
}

/// What is behind the type of an empty list of records.
fn behind_list_type(text: &str) -> Option<&str> {
    let fields = text.trim_start().strip_prefix("List")?.trim_start().strip_prefix('{')?;
    let (types, behind) = fields.split_once('}')?;
    (!types.contains(['{', '"'])).then_some(behind)
}

/// A text up to its closing quote, and what is behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((word, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                c @ ('"' | '\\' | '$') => word.push(c),
                _ => return None,
            },
            '$' if text[at + 1..].starts_with('{') => return None,
            '\n' => return None,
            c => word.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_as_cachix_writes_it_is_understood_and_others_are_refused() {
        let text = "{ authToken =\n    \"tok\\\"en\" -- remark\n, hostname = \"https://h/\"\n, binaryCaches =\n  [ { name = \"a\", secretKey = \"a1\" }\n  , { name = \"b\", secretKey = \"b.cachix.org-1:b1\" }\n  ]\n}\n";
        let found = records(text).unwrap();
        assert_eq!(found.last().unwrap()["authToken"], "tok\"en");
        assert_eq!((found.len(), found[1]["secretKey"].as_str()), (3, "b.cachix.org-1:b1"));
        let empty = "{ authToken = \"t\", binaryCaches = [] : List { name : Text, secretKey : Text } }";
        assert_eq!(records(empty).unwrap().last().unwrap()["authToken"], "t");
        for bad in [
            "{ authToken = env:TOKEN as Text }",
            "{ authToken = \"a${b}\" }",
            "{",
            "let a = \"b\" in a",
            "''x''",
        ] {
            assert!(records(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_in_a_bad_file_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cachix.dhall");
        std::fs::write(&file, "{ authToken = canary }").unwrap();
        let told = format!("{:?}", login("a", Some(&file)).unwrap_err());
        assert!(told.contains("cachix authtoken") && !told.contains("canary"), "{told}");
    }
}
