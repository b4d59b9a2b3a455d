//! Where a walk is, in positions and not in names, so that no name, however odd, has to be found again. A place is the
//! way from the root; places are in the order in which a walk comes by. A span is a part of that order, so any walk can
//! be cut anywhere.

use std::fmt;
use std::str::FromStr;

/// The way from the root in positions; the root is empty. A set comes before what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) Vec<u32>);

/// What lies at `lo` or behind it, and before `hi`. What `lo` lies in comes before `lo`, so it is not in the span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first place.
    pub(crate) lo: Place,
    /// The first place that is not in it any more; `None` for all that comes.
    pub(crate) hi: Option<Place>,
}

/// Text that is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAPlace;

impl Place {
    /// The next place that does not lie in this one; `None` behind the root.
    pub(crate) fn after(&self) -> Option<Self> {
        let (last, above) = self.0.split_last()?;
        Some(Self([above, &[last.checked_add(1)?]].concat()))
    }

    /// The child at this position.
    pub(crate) fn child(&self, at: u32) -> Self {
        Self([&self.0[..], &[at]].concat())
    }

    /// How many sets it lies in.
    pub(crate) fn depth(&self) -> usize {
        self.0.len()
    }

    /// Does it lie at `other`, or in it?
    pub(crate) fn is_in(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl Span {
    /// Everything.
    pub(crate) fn all() -> Self {
        Self::default()
    }

    /// What is left of it from `lo` on; `None` when nothing is.
    pub(crate) fn from(&self, lo: Option<Place>) -> Option<Self> {
        let lo = lo?;
        if self.hi.as_ref().is_some_and(|hi| lo >= *hi) {
            return None;
        }
        Some(Self { lo, hi: self.hi.clone() })
    }
}

/// `3.17`; the root is `-`.
impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        if text == "-" {
            return Ok(Self::default());
        }
        text.split('.').map(|part| part.parse().map_err(|_| NotAPlace)).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        for (place, at) in self.0.iter().enumerate() {
            write!(f, "{}{at}", if place == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}
