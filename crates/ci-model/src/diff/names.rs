//! An attribute comes in, the package people know it as comes out: `pname` and `version` where its author says them,
//! else its name, split as Nix splits names. Two attributes are compared by what both of them say: of one that does not
//! tell its `pname`, as not every evaluator does, no difference to one that does is made up. No order between versions:
//! another version is another version.

use crate::attr::Attr;

/// A package, as people tell packages apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Package<'a> {
    /// `hello`
    pub(super) pname: &'a str,
    /// `2.12`; `None` where nothing says one.
    pub(super) version: Option<&'a str>,
}

/// The name and the version in a derivation's name, as `builtins.parseDrvName` finds them: the version begins behind
/// the first dash that something else than a letter follows.
pub(super) fn split_name(name: &str) -> (&str, Option<&str>) {
    let bytes = name.as_bytes();
    let dash = bytes.windows(2).position(|pair| pair[0] == b'-' && !pair[1].is_ascii_alphabetic());
    match dash {
        Some(at) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    }
}

/// Which of `pname` and `version` an attribute says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Says {
    pname: bool,
    version: bool,
}

impl Says {
    pub(super) fn of(attr: &Attr) -> Self {
        Self {
            pname: said(attr.pname.as_deref()).is_some(),
            version: said(attr.version.as_deref()).is_some(),
        }
    }

    /// What both say.
    pub(super) fn and(self, other: Self) -> Self {
        Self { pname: self.pname && other.pname, version: self.version && other.version }
    }
}

/// The packages that two attributes are, to be compared: by `pname` where both say it, by `version` where both say it, and
/// else by their names.
pub(super) fn packages<'a>(one: &'a Attr, other: &'a Attr) -> (Package<'a>, Package<'a>) {
    let both = Says::of(one).and(Says::of(other));
    (package_by(one, both), package_by(other, both))
}

/// The package that an attribute is, when of `pname` and `version` only these are looked at. What they do not say is taken
/// from the name.
pub(super) fn package_by(attr: &Attr, looked_at: Says) -> Package<'_> {
    let (split_pname, split_version) = split_name(&attr.name);
    let pname = said(attr.pname.as_deref()).filter(|_| looked_at.pname);
    let version = said(attr.version.as_deref()).filter(|_| looked_at.version);
    match (pname, version) {
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
