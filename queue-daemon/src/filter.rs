//! What a destination does not want: names, sizes, fixed outputs, paths an upstream cache has signed.
//!
//! In flow facts about one path; out flows the reason to skip it, or none. Filters choose what is *queued*; a
//! skipped path that a pushed closure needs is sent all the same, and said (see `lane`).

use nix_types::glob::Glob;

/// Which paths a destination takes, by whether their content is fixed in advance (`fod = …`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FixedOutputs {
    /// All paths.
    #[default]
    Both,
    /// Fixed outputs alone.
    Only,
    /// Everything but fixed outputs.
    Never,
}

/// The filter of one destination.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Globs on the name behind the hash (`exclude`).
    pub exclude: Vec<Glob>,
    /// Regular expressions on the same name, unanchored (`exclude_regex`).
    pub exclude_regex: Vec<regex_lite::Regex>,
    /// Largest NAR, in bytes.
    pub max_nar_bytes: Option<u64>,
    /// Fixed outputs.
    pub fixed_outputs: FixedOutputs,
    /// Names of keys (`cache.nixos.org-1`); a path one of them has signed is upstream already.
    pub skip_signed_by: Vec<String>,
}

/// What a filter looks at.
#[derive(Debug, Clone, Copy)]
pub struct PathFacts<'a> {
    /// The name behind the hash.
    pub name: &'a str,
    /// The size of its NAR, in bytes.
    pub nar_bytes: u64,
    /// Its content address, for fixed outputs (`fixed:…`) and content-addressed paths.
    pub content_address: Option<&'a str>,
    /// Its signatures, `key:base64`.
    pub signatures: &'a [String],
}

impl Filter {
    /// True when no rule is set, so that the facts need not be asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exclude.is_empty()
            && self.exclude_regex.is_empty()
            && self.max_nar_bytes.is_none()
            && self.fixed_outputs == FixedOutputs::Both
            && self.skip_signed_by.is_empty()
    }

    /// Why this path is not queued; `None` when it is.
    #[must_use]
    pub fn skips(&self, facts: &PathFacts<'_>) -> Option<String> {
        if let Some(glob) = self.exclude.iter().find(|glob| glob.matches(facts.name)) {
            return Some(format!("its name matches exclude = `{}`", glob.as_str()));
        }
        if let Some(regex) = self.exclude_regex.iter().find(|regex| regex.is_match(facts.name)) {
            return Some(format!("its name matches exclude_regex = `{regex}`"));
        }
        if let Some(max) = self.max_nar_bytes.filter(|max| facts.nar_bytes > *max) {
            return Some(format!("its NAR has {} bytes, above max_nar_size = {max}", facts.nar_bytes));
        }
        let fixed = facts.content_address.is_some_and(|ca| ca.starts_with("fixed:"));
        match self.fixed_outputs {
            FixedOutputs::Only if !fixed => return Some("it is no fixed output (fod = \"only\")".into()),
            FixedOutputs::Never if fixed => return Some("it is a fixed output (fod = \"never\")".into()),
            FixedOutputs::Both | FixedOutputs::Only | FixedOutputs::Never => {}
        }
        let signed_by = |key: &String| {
            facts.signatures.iter().any(|sig| sig.split_once(':').is_some_and(|(name, _)| name == key))
        };
        let key = self.skip_signed_by.iter().find(|key| signed_by(key))?;
        Some(format!("`{key}` has signed it (skip_signed_by)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(name: &'a str, signatures: &'a [String]) -> PathFacts<'a> {
        PathFacts { name, nar_bytes: 100, content_address: None, signatures }
    }

    #[test]
    fn each_rule_names_itself() {
        let signatures = ["cache.nixos.org-1:AAAA".to_owned()];
        let path = facts("web-spec.json", &signatures);
        let glob = Filter { exclude: vec![Glob::parse("*-spec.json").unwrap()], ..Filter::default() };
        assert!(glob.skips(&path).unwrap().contains("`*-spec.json`"));
        assert_eq!(glob.skips(&facts("web-spec.jsonc", &[])), None);
        let regex =
            Filter { exclude_regex: vec![regex_lite::Regex::new("^web").unwrap()], ..Filter::default() };
        assert!(regex.skips(&path).is_some());
        let size = Filter { max_nar_bytes: Some(99), ..Filter::default() };
        assert!(size.skips(&path).unwrap().contains("100 bytes"));
        let signed = Filter { skip_signed_by: vec!["cache.nixos.org-1".into()], ..Filter::default() };
        assert!(signed.skips(&path).is_some());
        assert_eq!(signed.skips(&facts("web", &[])), None);
    }

    #[test]
    fn fixed_outputs_are_told_by_their_content_address() {
        let only = Filter { fixed_outputs: FixedOutputs::Only, ..Filter::default() };
        let never = Filter { fixed_outputs: FixedOutputs::Never, ..Filter::default() };
        let mut path = facts("source", &[]);
        assert!(only.skips(&path).is_some() && never.skips(&path).is_none());
        path.content_address = Some("fixed:r:sha256:0abc");
        assert!(only.skips(&path).is_none() && never.skips(&path).is_some());
        path.content_address = Some("text:sha256:0abc");
        assert!(only.skips(&path).is_some() && never.skips(&path).is_none());
    }
}
