//! An attribute comes in, the package people know it as comes out: `pname` and `version` where its author says them,
//! else its name, split as Nix splits names. No order between versions: another version is another version.

use crate::attr::Attr;

/// A package, as people tell packages apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Package<'a> {
    /// `hello`
    pub pname: &'a str,
    /// `2.12`; `None` where nothing says one.
    pub version: Option<&'a str>,
}

/// The name and the version in a derivation's name, as `builtins.parseDrvName` finds them: the version begins behind
/// the first dash that something else than a letter follows.
#[must_use]
pub fn split_name(name: &str) -> (&str, Option<&str>) {
    let bytes = name.as_bytes();
    let dash = bytes.windows(2).position(|pair| pair[0] == b'-' && !pair[1].is_ascii_alphabetic());
    match dash {
        Some(at) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    }
}

/// The package that an attribute is. What `pname` or `version` do not say is taken from the name.
#[must_use]
pub fn package(attr: &Attr) -> Package<'_> {
    let (split_pname, split_version) = split_name(&attr.name);
    match (said(attr.pname.as_deref()), said(attr.version.as_deref())) {
        (Some(pname), Some(version)) => Package { pname, version: Some(version) },
        (Some(pname), None) => Package { pname, version: behind(&attr.name, pname).or(split_version) },
        (None, Some(version)) => {
            Package { pname: before(&attr.name, version).unwrap_or(split_pname), version: Some(version) }
        }
        (None, None) => Package { pname: split_pname, version: split_version },
    }
}

fn said(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn behind<'a>(name: &'a str, pname: &str) -> Option<&'a str> {
    name.strip_prefix(pname)?.strip_prefix('-').filter(|version| !version.is_empty())
}

fn before<'a>(name: &'a str, version: &str) -> Option<&'a str> {
    name.strip_suffix(version)?.strip_suffix('-').filter(|pname| !pname.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_as_nix_splits_them() {
        // What `nix-instantiate --eval -E 'builtins.parseDrvName "…"'` says.
        for (name, pname, version) in [
            ("hello-2.12", "hello", Some("2.12")),
            ("hello", "hello", None),
            ("nix-prefetch-git", "nix-prefetch-git", None),
            ("nix-0.12pre12876", "nix", Some("0.12pre12876")),
            ("python3.12-attrs-23.2.0", "python3.12-attrs", Some("23.2.0")),
            ("unstable-2024-01-01", "unstable", Some("2024-01-01")),
            ("a--b", "a", Some("-b")),
            ("a-_b", "a", Some("_b")),
            ("a-", "a-", None),
            ("-1", "", Some("1")),
            ("", "", None),
            ("é-é", "é", Some("é")),
        ] {
            assert_eq!(split_name(name), (pname, version), "{name}");
        }
    }
}
