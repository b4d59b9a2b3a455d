//! The file Hydra's RunCommand names in `$HYDRA_JSON`. Its text comes in, the few facts a request needs go
//! out, with their escapes resolved into a caller's memory. What else Hydra says is checked for form and
//! skipped; whether a path is one is decided later, as for all paths.

use core::ops::Range;

use crate::json::{JsonFault, JsonProblem, Raw, Reader};

/// Most bytes of such a file.
pub const HYDRA_JSON_MAX: usize = 16 << 20;
const LENGTH_BYTES: usize = 4;

/// What a finished Hydra build says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HydraBuild<'a> {
    /// `buildStatus` as it is written, unless it is absent, `null` or 0: the build has no outputs to queue.
    pub failed: Option<&'a [u8]>,
    /// `finished` says no: of an event before the end, when the outputs have names and are not there.
    pub unfinished: bool,
    /// `drvPath`.
    pub drv: Option<&'a [u8]>,
    /// `project`.
    pub project: Option<&'a str>,
    /// `jobset`.
    pub jobset: Option<&'a str>,
    /// `job`.
    pub job: Option<&'a str>,
    paths: &'a [u8],
}

impl<'a> HydraBuild<'a> {
    /// The outputs' paths, in order; an output without one (content-addressed, not yet known) is left out.
    pub fn paths(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        Packed(self.paths)
    }
}

/// Reads the text of the file. `room` is memory for what is kept, at least as long as the text.
///
/// # Errors
/// The text is not JSON, not an object, or one of the members above is there twice or of another type.
pub fn read<'a>(text: &'a [u8], room: &'a mut [u8]) -> Result<HydraBuild<'a>, JsonFault> {
    let mut reader = Reader::new(text);
    let mut kept = Kept { room, used: 0 };
    let mut status = Single::new("buildStatus");
    let mut finished = Single::new("finished");
    let mut texts =
        [Single::new("drvPath"), Single::new("project"), Single::new("jobset"), Single::new("job")];
    let mut outputs = Single::new("outputs");
    reader.object(&mut |reader, name| {
        if name.is(status.name) {
            status.put(reader, Reader::scalar_or_null)
        } else if name.is(finished.name) {
            finished.put(reader, Reader::scalar_or_null)
        } else if name.is(outputs.name) {
            outputs.put(reader, |reader| kept.outputs(reader))
        } else if let Some(text) = texts.iter_mut().find(|text| name.is(text.name)) {
            text.put(reader, |reader| reader.string_or_null()?.map(|raw| kept.keep(reader, raw)).transpose())
        } else {
            reader.skip()
        }
    })?;
    reader.end()?;

    let kept: &'a [u8] = kept.room;
    let texts = texts.map(|text| text.value.flatten().map(|range| &kept[range]));
    // What is kept was written a whole character at a time.
    let [_, project, jobset, job] = texts.map(|text| text.and_then(|text| str::from_utf8(text).ok()));
    let [drv, ..] = texts;
    let failed = status.value.flatten().filter(|number| *number != b"0");
    let unfinished = matches!(finished.value.flatten(), Some(b"false" | b"0"));
    let paths = outputs.value.map_or(&kept[..0], |range| &kept[range]);
    Ok(HydraBuild { failed, unfinished, drv, project, jobset, job, paths })
}

/// A member that may be there once.
struct Single<T> {
    name: &'static str,
    value: Option<T>,
}

impl<T> Single<T> {
    const fn new(name: &'static str) -> Self {
        Self { name, value: None }
    }

    fn put<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, JsonFault>,
    ) -> Result<(), JsonFault> {
        if self.value.is_some() {
            return Err(reader.fault(JsonProblem::Twice(self.name)));
        }
        self.value = Some(read(reader)?);
        Ok(())
    }
}

/// Memory that fills up from its start. What is kept is never longer than the text it came from.
struct Kept<'r> {
    room: &'r mut [u8],
    used: usize,
}

impl Kept<'_> {
    fn keep(&mut self, reader: &Reader<'_>, raw: Raw<'_>) -> Result<Range<usize>, JsonFault> {
        let start = self.used;
        for c in raw.chars() {
            let mut utf8 = [0; 4];
            self.push(reader, c.encode_utf8(&mut utf8).as_bytes())?;
        }
        Ok(start..self.used)
    }

    fn push(&mut self, reader: &Reader<'_>, bytes: &[u8]) -> Result<(), JsonFault> {
        let end = self.used + bytes.len();
        let place = self.room.get_mut(self.used..end);
        place.ok_or(reader.fault(JsonProblem::Expected("less to keep")))?.copy_from_slice(bytes);
        self.used = end;
        Ok(())
    }

    /// The paths of the outputs, each behind its length: `"path":""` is longer than the length's four bytes.
    fn outputs(&mut self, reader: &mut Reader<'_>) -> Result<Range<usize>, JsonFault> {
        let start = self.used;
        reader.array(&mut |reader, ()| {
            let mut path = Single::new("path");
            reader.object(&mut |reader, name| {
                if name.is(path.name) { path.put(reader, Reader::string_or_null) } else { reader.skip() }
            })?;
            let Some(raw) = path.value.flatten() else { return Ok(()) };
            let length_at = self.used;
            self.push(reader, &[0; LENGTH_BYTES])?;
            let kept = self.keep(reader, raw)?;
            let length =
                u32::try_from(kept.len()).map_err(|_| reader.fault(JsonProblem::Expected("a path")))?;
            self.room[length_at..kept.start].copy_from_slice(&length.to_le_bytes());
            Ok(())
        })?;
        Ok(start..self.used)
    }
}

/// Values behind their lengths.
#[derive(Clone)]
struct Packed<'a>(&'a [u8]);

impl<'a> Iterator for Packed<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<LENGTH_BYTES>()?;
        let (path, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        self.0 = rest;
        Some(path)
    }
}
