//! Somebody who sees every object before it appears. In: what is there, and what comes. Out: whatever it makes of it.

use std::collections::BTreeMap;
use std::fmt;

use super::Stored;

type See = Box<dyn FnMut(&BTreeMap<String, Stored>, &str, &[u8]) + Send>;

/// A witness, or nobody.
#[derive(Default)]
pub(super) struct Witness(Option<See>);

impl Witness {
    pub(super) fn set(&mut self, see: impl FnMut(&BTreeMap<String, Stored>, &str, &[u8]) + Send + 'static) {
        self.0 = Some(Box::new(see));
    }

    pub(super) fn tell(&mut self, objects: &BTreeMap<String, Stored>, path: &str, bytes: &[u8]) {
        if let Some(see) = &mut self.0 {
            see(objects, path, bytes);
        }
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Witness({})", if self.0.is_some() { "one" } else { "nobody" })
    }
}
