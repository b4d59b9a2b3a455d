//! Which paths does the destination have?
//!
//! In flow paths nobody remembers anything of; out flows, for each, whether its narinfo is there, read where it is
//! needed. Many paths are looked up in a listing as long as that is cheaper than a question each: one page of a listing
//! costs about as much as one narinfo. The answer is the destination's, past every cache on the way.

use std::collections::HashSet;

use nix_types::narinfo::NARINFO_BYTES_MAX;
use nix_types::{NarInfo, StorePath};
use object_kit::{Found, Objects};

use super::{Native, encoding, faults};
use crate::push::Fault;

/// Files that are read together, and held in memory: each may have [`NARINFO_BYTES_MAX`].
const READ_TOGETHER: usize = 64;
/// From this many paths on a listing is tried.
const LIST_FROM: usize = 64;
/// Keys of one page.
const PAGE_KEYS: usize = 1000;
/// A page has to spare so many questions to be worth it.
const SPARED_BY_PAGE: usize = 8;
/// Pages without keys after which a listing is left.
const EMPTY_PAGES_MAX: usize = 16;

/// What is known of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// The destination does not have it.
    Absent,
    /// It has something there that is no narinfo of it: why, as the end of a sentence.
    Useless(String),
    /// It is there; what it says was not read.
    There,
    /// It is there and says this.
    Says(Box<NarInfo>),
}

impl Native {
    /// Asks for each path; `read` tells which are to be read even when a listing has them.
    pub(super) async fn ask_presence(
        &self,
        objects: &dyn Objects,
        paths: &[&StorePath],
        read: &[bool],
    ) -> Result<Vec<Seen>, Fault> {
        let lists = paths.len() >= LIST_FROM && !objects.is_local();
        let listed = if lists { list(objects, paths).await? } else { Listed::default() };
        let told = |(path, read): (&&StorePath, &bool)| match listed.has(&NarInfo::key_of(path)) {
            Some(false) => Some(Seen::Absent),
            Some(true) if !read => Some(Seen::There),
            Some(true) | None => None,
        };
        let told: Vec<Option<Seen>> = paths.iter().zip(read).map(told).collect();
        let untold = paths.iter().zip(&told).filter(|(_, told)| told.is_none());
        let untold: Vec<&StorePath> = untold.map(|(path, _)| *path).collect();
        let mut asked = Vec::with_capacity(untold.len());
        for paths in untold.chunks(READ_TOGETHER) {
            for seen in self.read_narinfos(objects, paths).await {
                asked.push(seen?);
            }
        }
        let mut asked = asked.into_iter();
        let seen =
            |told: Option<Seen>| told.or_else(|| asked.next()).expect("what is not told of was asked for");
        Ok(told.into_iter().map(seen).collect())
    }

    /// Reads the narinfo of a path.
    pub(super) async fn read_narinfo(&self, objects: &dyn Objects, path: &StorePath) -> Result<Seen, Fault> {
        let key = &NarInfo::key_of(path);
        let found = objects.get(key, NARINFO_BYTES_MAX).await.map_err(|error| faults::of_object(&error))?;
        Ok(self.seen(found, path))
    }

    /// Reads the narinfo files of many paths: one answer for each, in their order.
    pub(super) async fn read_narinfos(
        &self,
        objects: &dyn Objects,
        paths: &[&StorePath],
    ) -> Vec<Result<Seen, Fault>> {
        let mut all: Vec<Result<Seen, Fault>> = Vec::with_capacity(paths.len());
        for chunk in paths.chunks(READ_TOGETHER) {
            let keys: Vec<String> = chunk.iter().map(|path| NarInfo::key_of(path)).collect();
            let found = objects.get_all(&keys, NARINFO_BYTES_MAX).await;
            let is_whole = found.len() == keys.len();
            for (path, found) in chunk.iter().zip(found) {
                all.push(
                    found.map(|found| self.seen(found, path)).map_err(|error| faults::of_object(&error)),
                );
            }
            if !is_whole {
                break; // a place that does not answer is not asked for the rest
            }
        }
        if let Some(Err(why)) = all.last().cloned() {
            all.resize(paths.len(), Err(why));
        }
        all
    }

    pub(super) fn seen(&self, found: Option<Found>, path: &StorePath) -> Seen {
        let Some(found) = found else { return Seen::Absent };
        let text = encoding::undo(&found, self.url.params.transport.narinfo_compression, NARINFO_BYTES_MAX);
        let parsed =
            text.and_then(|text| NarInfo::parse(&text, self.store_dir()).map_err(|error| error.to_string()));
        match parsed {
            Ok(narinfo) if narinfo.store_path == *path => Seen::Says(Box::new(narinfo)),
            Ok(_) => Seen::Useless("is of another path".into()),
            Err(why) => Seen::Useless(why),
        }
    }
}

/// Looks paths up in the listing, as far as that is worth it.
async fn list(objects: &dyn Objects, paths: &[&StorePath]) -> Result<Listed, Fault> {
    let mut asked: Vec<String> = paths.iter().map(|path| NarInfo::key_of(path)).collect();
    asked.sort_unstable();
    let mut listed = Listed::default();
    let mut cursor: Option<String> = None;
    let (mut answered_before, mut empty) = (0, 0);
    loop {
        let page = objects.list(cursor.as_deref(), PAGE_KEYS).await;
        let Some(page) = page.map_err(|error| faults::of_object(&error))? else { return Ok(listed) };
        let last = page.entries.last().map(|entry| entry.key.clone());
        listed.keys.extend(page.entries.into_iter().map(|entry| entry.key));
        cursor = page.next;
        if cursor.is_none() {
            listed.complete = true;
            return Ok(listed);
        }
        // What is below folders, or no more there, counts for a page and is not told.
        let Some(last) = last else {
            empty += 1;
            if empty == EMPTY_PAGES_MAX {
                return Ok(listed);
            }
            continue;
        };
        let answered = asked.partition_point(|key| *key <= last);
        listed.upto = last;
        if answered == asked.len() || answered.saturating_sub(answered_before) < SPARED_BY_PAGE {
            return Ok(listed);
        }
        answered_before = answered;
    }
}

/// What a listing, or its beginning, told.
#[derive(Debug, Default)]
struct Listed {
    keys: HashSet<String>,
    /// The last key it came to.
    upto: String,
    /// It came to its end.
    complete: bool,
}

impl Listed {
    /// Whether a key is there; `None` when the listing did not come so far.
    fn has(&self, key: &str) -> Option<bool> {
        (self.complete || key <= self.upto.as_str()).then(|| self.keys.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use object_kit::aws::Credentials;
    use object_kit::{Line, S3, S3Settings};
    use service_kit::clock::Clock;
    use service_kit::http::Reach;
    use test_kit::http_cache::{Cache, Fault as ServerFault, Rule};

    use super::*;

    fn page(entries: &str, next: Option<&str>) -> ServerFault {
        let next = next.map(|token| format!("<NextContinuationToken>{token}</NextContinuationToken>"));
        let text = format!(
            "<ListBucketResult>{entries}<IsTruncated>{}</IsTruncated>{}</ListBucketResult>",
            next.is_some(),
            next.unwrap_or_default()
        );
        ServerFault::Answer(200, Vec::new(), text)
    }

    fn bucket(cache: &Cache) -> S3 {
        let line = Line { proxies: false, ..Line::new(Clock::system(), "test/0", Reach::Private) };
        let settings = S3Settings {
            endpoint: Some(cache.url()),
            ..S3Settings::new("bkt", Credentials::Anonymous, line)
        };
        S3::new(&settings).expect("good settings")
    }

    fn path() -> StorePath {
        StorePath::parse_str("/nix/store/00000000000000000000000000000001-p").expect("well-formed")
    }

    /// S3 may give pages without keys before others that have some.
    #[tokio::test]
    async fn an_empty_page_is_not_the_end_of_a_listing() {
        let (cache, path) = (Cache::start(), path());
        let key = NarInfo::key_of(&path);
        cache.insert(&format!("/bkt/{key}"), b"x");
        cache.fault(Rule { times: 3, ..Rule::once("GET", "list-type", page("", Some("0"))) });
        let listed = list(&bucket(&cache), &[&path]).await.expect("a listing");
        assert_eq!((listed.has(&key), listed.complete), (Some(true), true));
    }

    #[tokio::test]
    async fn a_listing_that_does_not_end_is_left_and_not_believed() {
        let (cache, path) = (Cache::start(), path());
        cache.fault(Rule::always("GET", "list-type", page("", Some("0"))));
        let listed = list(&bucket(&cache), &[&path]).await.expect("a listing");
        assert_eq!(listed.has(&NarInfo::key_of(&path)), None);
        assert_eq!(cache.log().len(), EMPTY_PAGES_MAX);
    }
}
