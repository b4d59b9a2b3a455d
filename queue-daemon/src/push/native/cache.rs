//! The cache as a whole: is it one, is it for our store, and is it the one we know?
//!
//! In flows the object `nix-cache-info`; out flows that paths may be sent, or why not. It is made where there is none.
//! When it is gone or another one than last time, somebody has put another cache in its place: what was remembered of
//! the old one is forgotten, so that nothing is taken to be there which is not.

use bytes::Bytes;
use nix_types::cache_info::{CACHE_INFO, CACHE_INFO_BYTES_MAX, CacheInfo};
use object_kit::{Found, Meta, Objects};
use service_kit::telemetry::chain;

use super::{Native, faults};
use crate::delivery::FaultClass;
use crate::push::Fault;

/// How long the last look counts.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(10);
/// What Nix takes a cache to have that does not say.
const PRIORITY: u32 = 50;

impl Native {
    /// Looks at the cache, unless that was done a moment ago.
    pub(super) async fn look_at_cache(&self, objects: &dyn Objects) -> Result<(), Fault> {
        let mut looked = self.looked.lock().await;
        let now = self.clock.mono();
        if looked.is_some_and(|at| now.since(at) < LOOK_AGAIN) {
            return Ok(());
        }
        let known = self.memory.mark().await;
        let found = objects.get(CACHE_INFO, CACHE_INFO_BYTES_MAX).await;
        let (mark, is_new) = match found.map_err(|error| faults::of_object(&error))? {
            Some(found) => {
                self.check(&String::from_utf8_lossy(&found.bytes))?;
                (mark_of(&found), false)
            }
            None => (self.make(objects).await?, true),
        };
        // A new one may have the old one's mark: what says the same has the same tag.
        if is_new || known.as_ref() != Some(&mark) {
            let is_another = known.is_some();
            if is_another {
                tracing::warn!(
                    destination = %self.id,
                    "the cache at {} is another one than before: what it has is asked anew", self.shown
                );
            }
            let written = self.memory.now_it_is(Some(mark), is_another).await;
            written.map_err(|error| Fault::failed(FaultClass::Unreachable, chain(&error)))?;
        }
        *looked = Some(now);
        drop(looked);
        self.place.sweep_once(&self.id).await;
        Ok(())
    }

    /// The next batch looks again.
    pub(super) async fn doubt_cache(&self) {
        *self.looked.lock().await = None;
    }

    fn check(&self, text: &str) -> Result<(), Fault> {
        let refuse = |why: String| Fault::failed(FaultClass::Unreachable, why);
        let info = CacheInfo::parse(text).map_err(|error| refuse(format!("{}: {error}", self.shown)))?;
        let ours = self.store_dir();
        match info.store_dir {
            Some(theirs) if theirs != ours => Err(refuse(format!(
                "the cache at {} holds paths of {theirs}, and ours are of {ours}: nothing of ours belongs there",
                self.shown
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Makes the cache; gives its mark.
    async fn make(&self, objects: &dyn Objects) -> Result<String, Fault> {
        let params = &self.url.params;
        let info = CacheInfo {
            store_dir: Some(self.store_dir().to_owned()),
            want_mass_query: Some(params.want_mass_query.unwrap_or(true)),
            priority: Some(params.priority.unwrap_or(PRIORITY)),
        };
        let meta = Meta::new("text/x-nix-cache-info").create();
        let failed = |error| faults::of_object(&error);
        objects.put(CACHE_INFO, Bytes::from(info.to_text()), &meta).await.map_err(failed)?;
        objects.settle().await.map_err(failed)?;
        tracing::info!(destination = %self.id, "made a new cache at {}", self.shown);
        // Read again: another program may have been quicker, and its store may be another.
        let found = objects.get(CACHE_INFO, CACHE_INFO_BYTES_MAX).await.map_err(failed)?;
        let Some(found) = found else {
            let why = format!("{} takes {CACHE_INFO} and then does not have it", self.shown);
            return Err(Fault::failed(FaultClass::Failed, why));
        };
        self.check(&String::from_utf8_lossy(&found.bytes))?;
        Ok(mark_of(&found))
    }

    /// The folder of the store whose paths are sent.
    pub(super) fn store_dir(&self) -> &str {
        self.url.params.store_dir.as_deref().unwrap_or_else(|| self.store.store_dir())
    }
}

/// What tells this cache from another with the same name and, perhaps, the same words.
fn mark_of(found: &Found) -> String {
    [&found.tag, &found.modified].map(|word| word.as_deref().unwrap_or("-")).join(" ")
}
