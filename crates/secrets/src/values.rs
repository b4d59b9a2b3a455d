//! What a source gives: names and secret values. Shows the names, never the values.

use std::collections::BTreeMap;
use std::fmt;

use service_kit::clock::Time;

use crate::{Secret, SecretError};

/// Names and their secret values.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Values {
    pub(crate) map: BTreeMap<String, Secret>,
    /// When the values end by themselves, where they do.
    pub(crate) ends: Option<Time>,
    /// The source they are of, for errors.
    pub(crate) kind: &'static str,
    pub(crate) place: String,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({})", self.names().collect::<Vec<_>>().join(", "))
    }
}

impl Values {
    pub(crate) fn lasting(map: BTreeMap<String, Secret>) -> Self {
        Self { map, ..Self::default() }
    }

    /// A value that is there and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.map.get(name).filter(|value| !value.reveal().is_empty())
    }

    /// A value that has to be there.
    ///
    /// # Errors
    /// [`SecretError`], with the names that are there, when it is absent or empty.
    pub fn need(&self, name: &str) -> Result<&Secret, SecretError> {
        self.get(name).ok_or_else(|| {
            let there = self.names().collect::<Vec<_>>().join(", ");
            let there = if there.is_empty() { "nothing".to_owned() } else { there };
            let what = format!("has no {name}, or an empty one; it has {there}");
            SecretError::mend(self.place.clone(), what, format!("add {name}")).of(self.kind)
        })
    }

    /// The value, where there is exactly one.
    #[must_use]
    pub fn only(&self) -> Option<&Secret> {
        self.map.values().next().filter(|value| self.map.len() == 1 && !value.reveal().is_empty())
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// Names and values, in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.map.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// When the values end by themselves, where they do.
    #[must_use]
    pub fn ends(&self) -> Option<Time> {
        self.ends
    }
}
