//! What can be asked of the daemon: a payload comes in, a typed view that borrows from it goes out. Every
//! field is checked for number, length and characters; whether a path has the shape of a store path is *not*
//! decided here ([`crate::shape`]), so that one bad path does not take the good ones with it.

use crate::field::{Counted, Once, exactly, one_of};
use crate::text::length;
use crate::{
    DESTINATIONS_MAX, DRVS_MAX, FieldTag, Fields, KEY_LEN, PATH_MAX, PATHS_MAX, Source, Trust, Values,
    WireError, check_destination, check_origin, check_tag,
};

/// Queue these paths.
#[derive(Clone, Debug)]
pub struct Enqueue<'a> {
    /// Names the request; the same key again is the same request.
    pub key: [u8; KEY_LEN],
    /// Who asks.
    pub source: Source,
    /// The derivation the paths were built from; its outputs are meant when there is no path.
    pub drv: Option<&'a [u8]>,
    /// Free text to find the request by.
    pub tag: Option<&'a str>,
    /// Repository, as `owner/name`.
    pub repository: Option<&'a str>,
    /// Branch.
    pub branch: Option<&'a str>,
    /// Commit.
    pub commit: Option<&'a str>,
    /// Trust class, from the CI.
    pub trust: Option<Trust>,
    /// Priority; higher goes first.
    pub priority: Option<i32>,
    /// Wall clock at the client, milliseconds since 1970.
    pub made_ms: u64,
    payload: &'a [u8],
    path_count: usize,
    destination_count: usize,
}

impl<'a> Enqueue<'a> {
    /// Reads the payload of a [`crate::Kind::Enqueue`] frame. `Key`, `Source` and `MadeMs` are needed, and at
    /// least one `Path` or the `Drv`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut read = Reading::new(1);
        for field in Fields::new(payload) {
            let (tag, value) = field?;
            match tag {
                FieldTag::Source => read.source.put(one_of(tag, value, Source::from_number)?)?,
                FieldTag::Path => {
                    length(tag, value, PATH_MAX)?;
                    read.paths.one_more()?;
                }
                FieldTag::TtlSeconds => return Err(WireError::Misplaced(tag)),
                _ => read.common(tag, value)?,
            }
        }
        if read.paths.count == 0 && read.drvs.count == 0 {
            return Err(WireError::Nothing);
        }
        Ok(Self {
            key: read.key.required()?,
            source: read.source.required()?,
            drv: read.drv,
            tag: read.tag.optional(),
            repository: read.repository.optional(),
            branch: read.branch.optional(),
            commit: read.commit.optional(),
            trust: read.trust.optional(),
            priority: read.priority.optional(),
            made_ms: read.made_ms.required()?,
            payload,
            path_count: read.paths.count,
            destination_count: read.destinations.count,
        })
    }

    /// The paths as they came, 1 to [`PATH_MAX`] bytes each, in order.
    #[must_use]
    pub fn paths(&self) -> Values<'a> {
        Values::new(self.payload, FieldTag::Path)
    }

    /// How many paths there are.
    #[must_use]
    pub const fn path_count(&self) -> usize {
        self.path_count
    }

    /// The wanted destinations; none means the defaults.
    pub fn destinations(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        destinations(self.payload)
    }

    /// How many destinations there are.
    #[must_use]
    pub const fn destination_count(&self) -> usize {
        self.destination_count
    }
}

/// The CI builds these derivations, for whom, and where their outputs may go.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// Names the claim; the same key again replaces it.
    pub key: [u8; KEY_LEN],
    /// Free text to find what comes of it by.
    pub tag: Option<&'a str>,
    /// Repository, as `owner/name`.
    pub repository: Option<&'a str>,
    /// Branch.
    pub branch: Option<&'a str>,
    /// Commit.
    pub commit: Option<&'a str>,
    /// Trust class.
    pub trust: Trust,
    /// Priority; higher goes first.
    pub priority: Option<i32>,
    /// Wall clock at the client, milliseconds since 1970.
    pub made_ms: Option<u64>,
    /// How long the claim holds without being repeated, seconds.
    pub ttl_seconds: u64,
    payload: &'a [u8],
}

impl<'a> Claim<'a> {
    /// Reads the payload of a [`crate::Kind::Claim`] frame. `Key`, `Trust`, `TtlSeconds` and at least one
    /// `Drv` are needed; `Source` may stand there and must then be [`Source::Ci`].
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut read = Reading::new(DRVS_MAX);
        let mut ttl_seconds = Once::new(FieldTag::TtlSeconds);
        for field in Fields::new(payload) {
            let (tag, value) = field?;
            match tag {
                FieldTag::Source => match one_of(tag, value, Source::from_number)? {
                    Source::Ci => read.source.put(Source::Ci)?,
                    other => return Err(WireError::Number { field: tag, number: other.number() }),
                },
                FieldTag::TtlSeconds => ttl_seconds.put(u64::from_le_bytes(exactly(tag, value)?))?,
                FieldTag::Path => return Err(WireError::Misplaced(tag)),
                _ => read.common(tag, value)?,
            }
        }
        if read.drvs.count == 0 {
            return Err(WireError::Nothing);
        }
        Ok(Self {
            key: read.key.required()?,
            tag: read.tag.optional(),
            repository: read.repository.optional(),
            branch: read.branch.optional(),
            commit: read.commit.optional(),
            trust: read.trust.required()?,
            priority: read.priority.optional(),
            made_ms: read.made_ms.optional(),
            ttl_seconds: ttl_seconds.required()?,
            payload,
        })
    }

    /// The claimed derivations as they came, 1 to [`PATH_MAX`] bytes each, in order.
    #[must_use]
    pub fn drvs(&self) -> Values<'a> {
        Values::new(self.payload, FieldTag::Drv)
    }

    /// Where the outputs may go; none means: nowhere.
    pub fn destinations(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        destinations(self.payload)
    }
}

/// The CI is done with a claim, or with some derivations of it.
#[derive(Clone, Debug)]
pub struct Unclaim<'a> {
    /// The claim's key.
    pub key: [u8; KEY_LEN],
    payload: &'a [u8],
}

impl<'a> Unclaim<'a> {
    /// Reads the payload of a [`crate::Kind::Unclaim`] frame: one `Key`, any number of `Drv`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut read = Reading::new(DRVS_MAX);
        for field in Fields::new(payload) {
            let (tag, value) = field?;
            match tag {
                FieldTag::Key | FieldTag::Drv => read.common(tag, value)?,
                _ => return Err(WireError::Misplaced(tag)),
            }
        }
        Ok(Self { key: read.key.required()?, payload })
    }

    /// The derivations to let go; none means all of the claim.
    #[must_use]
    pub fn drvs(&self) -> Values<'a> {
        Values::new(self.payload, FieldTag::Drv)
    }
}

/// What the requests have in common while it is being read.
struct Reading<'a> {
    key: Once<[u8; KEY_LEN]>,
    source: Once<Source>,
    tag: Once<&'a str>,
    repository: Once<&'a str>,
    branch: Once<&'a str>,
    commit: Once<&'a str>,
    trust: Once<Trust>,
    priority: Once<i32>,
    made_ms: Once<u64>,
    drv: Option<&'a [u8]>,
    drvs: Counted,
    paths: Counted,
    destinations: Counted,
}

impl<'a> Reading<'a> {
    const fn new(drvs_max: usize) -> Self {
        Self {
            key: Once::new(FieldTag::Key),
            source: Once::new(FieldTag::Source),
            tag: Once::new(FieldTag::Tag),
            repository: Once::new(FieldTag::Repository),
            branch: Once::new(FieldTag::Branch),
            commit: Once::new(FieldTag::Commit),
            trust: Once::new(FieldTag::Trust),
            priority: Once::new(FieldTag::Priority),
            made_ms: Once::new(FieldTag::MadeMs),
            drv: None,
            drvs: Counted::new(FieldTag::Drv, drvs_max),
            paths: Counted::new(FieldTag::Path, PATHS_MAX),
            destinations: Counted::new(FieldTag::Destination, DESTINATIONS_MAX),
        }
    }

    fn common(&mut self, tag: FieldTag, value: &'a [u8]) -> Result<(), WireError> {
        match tag {
            FieldTag::Key => self.key.put(exactly(tag, value)?),
            FieldTag::Drv => {
                length(tag, value, PATH_MAX)?;
                self.drv = Some(value);
                self.drvs.one_more()
            }
            FieldTag::Destination => {
                check_destination(value)?;
                self.destinations.one_more()
            }
            FieldTag::Tag => self.tag.put(check_tag(value)?),
            FieldTag::Repository => self.repository.put(check_origin(tag, value)?),
            FieldTag::Branch => self.branch.put(check_origin(tag, value)?),
            FieldTag::Commit => self.commit.put(check_origin(tag, value)?),
            FieldTag::Trust => self.trust.put(one_of(tag, value, Trust::from_number)?),
            FieldTag::Priority => self.priority.put(i32::from_le_bytes(exactly(tag, value)?)),
            FieldTag::MadeMs => self.made_ms.put(u64::from_le_bytes(exactly(tag, value)?)),
            FieldTag::Source
            | FieldTag::Path
            | FieldTag::TtlSeconds
            | FieldTag::Status
            | FieldTag::Accepted
            | FieldTag::RefusedCount
            | FieldTag::Text => Err(WireError::Misplaced(tag)),
        }
    }
}

fn destinations<'a>(payload: &'a [u8]) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
    // Each was checked when the view was made, so none is dropped here.
    Values::new(payload, FieldTag::Destination).flat_map(core::str::from_utf8)
}
