//! The files `credentials` and `config` of AWS' tools. In: their texts. Out: what each profile says. Where both say
//! something, the credentials file counts. Leaves out nested settings and service sections.

use std::collections::BTreeMap;

use crate::error::said;

/// Largest file, in bytes.
pub(super) const FILE_MAX: u64 = 1 << 20;

/// What the files say, by profile.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Profiles {
    profiles: BTreeMap<String, BTreeMap<String, String>>,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is neither [section], key = value, nor a remark")]
pub struct ProfilesError {
    /// From 1 on.
    pub line: usize,
}

impl std::fmt::Debug for Profiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Profiles({} of them)", self.profiles.len())
    }
}

impl Profiles {
    /// Adds what a credentials file says: its sections are profiles.
    ///
    /// # Errors
    /// [`ProfilesError`]
    pub fn add_credentials(&mut self, text: &str) -> Result<(), ProfilesError> {
        self.add(text, true, |section| Some(section))
    }

    /// Adds what a config file says: its profiles are the sections `profile NAME` and `default`.
    ///
    /// # Errors
    /// [`ProfilesError`]
    pub fn add_config(&mut self, text: &str) -> Result<(), ProfilesError> {
        self.add(text, false, |section| {
            let named = section.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t']));
            named.map(str::trim).or((section == "default").then_some(section))
        })
    }

    fn add(
        &mut self,
        text: &str,
        wins: bool,
        profile_of: impl Fn(&str) -> Option<&str>,
    ) -> Result<(), ProfilesError> {
        // None before the first section, and in sections that are no profiles.
        let mut section: Option<Option<String>> = None;
        for (at, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            let wrong = ProfilesError { line: at + 1 };
            if let Some(inside) = trimmed.strip_prefix('[') {
                let (name, rest) = inside.split_once(']').ok_or(wrong.clone())?;
                if !(rest.trim().is_empty() || rest.trim_start().starts_with(['#', ';'])) {
                    return Err(wrong);
                }
                section = Some(profile_of(name.trim()).map(str::to_owned));
                if let Some(Some(name)) = &section {
                    self.profiles.entry(name.clone()).or_default();
                }
                continue;
            }
            // Settings of a setting, as `s3 =` has them.
            let nested = line.starts_with([' ', '\t']);
            let (key, value) = match trimmed.split_once('=') {
                Some(pair) => pair,
                None if nested => continue,
                None => return Err(wrong),
            };
            match &section {
                None => return Err(wrong),
                Some(Some(name)) if !nested => {
                    let profile = self.profiles.entry(name.clone()).or_default();
                    let key = key.trim().to_ascii_lowercase();
                    if wins || !profile.contains_key(&key) {
                        profile.insert(key, without_remark(value).to_owned());
                    }
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Whether there is a profile of that name.
    #[must_use]
    pub fn has(&self, profile: &str) -> bool {
        self.profiles.contains_key(profile)
    }

    /// A setting of a profile; an empty one is none.
    #[must_use]
    pub fn get(&self, profile: &str, key: &str) -> Option<&str> {
        self.profiles.get(profile)?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The names of the profiles, for messages.
    pub(crate) fn names(&self) -> String {
        said(&self.profiles.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
    }
}

/// A value without the remark behind it: ` #` or ` ;`.
fn without_remark(value: &str) -> &str {
    let at =
        value.match_indices(['#', ';']).find(|(at, _)| value[..*at].ends_with([' ', '\t'])).map(|(at, _)| at);
    value[..at.unwrap_or(value.len())].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_one_set_of_profiles() {
        let mut profiles = Profiles::default();
        profiles.add_config("# x\n[default]\nregion = eu-west-1 # home\n[profile ci]\nrole_arn=arn:aws:iam::1:role/r#1\ns3 =\n  max = 3\n[sso-session a]\nregion=no\n").unwrap();
        profiles.add_credentials("[default]\naws_access_key_id = A\nregion=eu-west-2\n\n[ci]\naws_secret_access_key = a/b+c=\n").unwrap();
        assert_eq!(profiles.get("default", "region"), Some("eu-west-2"));
        assert_eq!(profiles.get("ci", "role_arn"), Some("arn:aws:iam::1:role/r#1"));
        assert_eq!(profiles.get("ci", "aws_secret_access_key"), Some("a/b+c="));
        assert_eq!((profiles.get("ci", "s3"), profiles.get("ci", "max")), (None, None));
        assert!(!profiles.has("a") && !profiles.has("sso-session a"));
        assert!(!format!("{profiles:?}").contains("a/b"));
    }

    #[test]
    fn lines_that_mean_nothing_are_named() {
        for (text, line) in [("x=1", 1), ("[a]\nx", 2), ("[a", 1), ("[a] b", 1)] {
            assert_eq!(Profiles::default().add_credentials(text), Err(ProfilesError { line }), "{text}");
        }
    }
}
