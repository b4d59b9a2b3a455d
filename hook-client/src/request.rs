//! The one message. In flow the gathered inputs and what else the request says; out flow its fields in order,
//! each time the same, for whoever counts, sends or stores them. Paths that are none are left out here and
//! are reported once, by [`survey`].

use hook_wire::{FIELD_HEADER_LEN, FieldTag, HEADER_LEN, KEY_LEN, Source, shape};

use crate::Sys;
use crate::gather::Inputs;
use crate::say::{say, shown};

/// Most bad paths that get a line of their own.
const BAD_SHOWN_MAX: u64 = 20;

/// A request, not yet bytes.
pub(crate) struct Request<'r, 'a, S> {
    pub(crate) key: [u8; KEY_LEN],
    pub(crate) made_ms: u64,
    pub(crate) drv: Option<&'a [u8]>,
    pub(crate) tag: Option<&'r str>,
    pub(crate) destinations: &'r [&'a str],
    pub(crate) inputs: &'r Inputs<'a, S>,
}

impl<S: Sys> Request<'_, '_, S> {
    /// Calls `put` with each field.
    ///
    /// # Errors
    /// The first one of `put`.
    pub(crate) fn fields<E>(&self, mut put: impl FnMut(FieldTag, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let source: Source = self.inputs.source;
        put(FieldTag::Key, &self.key)?;
        put(FieldTag::Source, &[source.number()])?;
        put(FieldTag::MadeMs, &self.made_ms.to_le_bytes())?;
        if let Some(tag) = self.tag {
            put(FieldTag::Tag, tag.as_bytes())?;
        }
        if let Some(drv) = self.drv {
            put(FieldTag::Drv, drv)?;
        }
        for destination in self.destinations {
            put(FieldTag::Destination, destination.as_bytes())?;
        }
        self.inputs
            .paths()
            .filter(|path| shape::check(path).is_ok())
            .try_for_each(|path| put(FieldTag::Path, path))
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame_len(&self) -> usize {
        let mut len = HEADER_LEN;
        let Ok(()) = self.fields(|_, value| {
            len += FIELD_HEADER_LEN + value.len();
            Ok::<(), core::convert::Infallible>(())
        });
        len
    }
}

/// What the inputs hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Survey<'a> {
    /// Store paths.
    pub(crate) good: usize,
    /// Words that are none, the derivation included.
    pub(crate) bad: u64,
    /// The derivation, if there is one and it is one.
    pub(crate) drv: Option<&'a [u8]>,
}

/// Looks at everything once, and says what is wrong with each word that is no store path.
pub(crate) fn survey<'a, S: Sys>(sys: &S, inputs: &Inputs<'a, S>) -> Survey<'a> {
    let mut seen = Survey { good: 0, bad: 0, drv: None };
    for path in inputs.paths() {
        match shape::check(path) {
            Ok(_) => seen.good += 1,
            Err(fault) => {
                seen.bad += 1;
                if seen.bad <= BAD_SHOWN_MAX {
                    say(sys, format_args!("'{}' is no store path and is not queued: {fault}", shown(path)));
                }
            }
        }
    }
    if seen.bad > BAD_SHOWN_MAX {
        say(
            sys,
            format_args!("{} more words are no store paths and are not queued", seen.bad - BAD_SHOWN_MAX),
        );
    }
    if let Some((drv, place)) = inputs.drv {
        match shape::check(drv) {
            Ok(parts) if parts.name.ends_with(".drv") => seen.drv = Some(drv),
            Ok(_) => {
                seen.bad += 1;
                say(sys, format_args!("{place} '{}' is left out: it does not end in .drv", shown(drv)));
            }
            Err(fault) => {
                seen.bad += 1;
                say(sys, format_args!("{place} '{}' is left out: {fault}", shown(drv)));
            }
        }
    }
    seen
}
