//! What a batch finds at the destination before it sends anything.
//!
//! In flows a closure; out flows what is there of each path, as far as it is of any use: what was remembered, what the
//! destination says where it was asked, and doubt where that cannot be: it contradicts the store, or has no archive.
//! What is to be done about it is not decided here.

use futures_util::{StreamExt, TryStreamExt, stream};
use nix_store::PathInfo;
use nix_types::{Sha256, StorePath};
use object_kit::Objects;

use super::check::archive_fault;
use super::memory::Archive;
use super::presence::Seen;
use super::{Native, join};
use crate::push::{Fault, Work};
use crate::store::cache::Remembered;

/// Archives that are looked for at once.
const LOOKED_FOR_MAX: usize = 32;

impl Native {
    /// What is known of each path of a closure, and which of them the destination was asked for. `is_leased` tells which
    /// are to be delivered.
    pub(super) async fn look(
        &self,
        objects: &dyn Objects,
        closure: &[PathInfo],
        is_leased: &(dyn Fn(&PathInfo) -> bool + Sync),
    ) -> Result<(Vec<bool>, Vec<Seen>), Fault> {
        let known = self.memory.of_paths(closure.iter().map(|info| info.path.clone()).collect()).await;
        // What is to be delivered is asked for whatever is remembered, unless that is that it was lost.
        let is_asked = |(info, known): (&PathInfo, &Remembered)| match known {
            Remembered::Nothing => true,
            Remembered::There => is_leased(info),
            Remembered::Lost => false,
        };
        let asked: Vec<bool> = closure.iter().zip(&known).map(is_asked).collect();
        let infos: Vec<&PathInfo> =
            closure.iter().zip(&asked).filter(|(_, asked)| **asked).map(|(info, _)| info).collect();
        let mut answers = self.answers(objects, &infos, is_leased).await?.into_iter();
        let mut seen = Vec::with_capacity(closure.len());
        for ((info, known), asked) in closure.iter().zip(&known).zip(&asked) {
            let answer = if *asked { answers.next() } else { None };
            if let Some(Seen::Useless(why)) = &answer {
                let (path, shown) = (&info.path, &self.shown);
                tracing::warn!(destination = %self.id, "the narinfo of {path} at {shown} is written anew: it {why}");
            }
            seen.push(answer.unwrap_or(match known {
                Remembered::There => Seen::There,
                Remembered::Nothing | Remembered::Lost => Seen::Absent,
            }));
        }
        Ok((asked, seen))
    }

    /// What the destination says of each path.
    async fn answers(
        &self,
        objects: &dyn Objects,
        infos: &[&PathInfo],
        is_leased: &(dyn Fn(&PathInfo) -> bool + Sync),
    ) -> Result<Vec<Seen>, Fault> {
        let paths: Vec<&StorePath> = infos.iter().map(|info| &info.path).collect();
        let leased: Vec<bool> = infos.iter().map(|info| is_leased(info)).collect();
        let answers = self.ask_presence(objects, &paths, &leased).await?;
        let mut doubts: Vec<Work<'_, Result<Seen, Fault>>> = Vec::with_capacity(infos.len());
        for ((info, seen), leased) in infos.iter().zip(answers).zip(leased) {
            doubts.push(Box::pin(doubt(objects, info, seen, leased)));
        }
        stream::iter(doubts).buffered(LOOKED_FOR_MAX).try_collect().await
    }

    /// The archive of each path that was sent some time, as far as that is remembered.
    pub(super) async fn archives_of(&self, infos: &[&PathInfo]) -> Vec<Option<Archive>> {
        // A hash that cannot be read has no archive; the upload says so.
        let key = |info: &&PathInfo| Sha256::parse(&info.nar_hash).ok().map(|hash| self.archive_key(&hash));
        self.memory.archives(infos.iter().map(|info| key(info).unwrap_or_default()).collect()).await
    }
}

/// Whether what is there is of any use: it contradicts the store, or what would get a receipt has no archive.
async fn doubt(objects: &dyn Objects, info: &PathInfo, seen: Seen, is_leased: bool) -> Result<Seen, Fault> {
    let Seen::Says(narinfo) = seen else { return Ok(seen) };
    if let Some(why) = join::contradiction(&narinfo, info) {
        return Ok(Seen::Useless(why.to_owned()));
    }
    if is_leased && let Some(why) = archive_fault(objects, &narinfo).await? {
        return Ok(Seen::Useless(format!("cannot be had: {why}")));
    }
    Ok(Seen::Says(narinfo))
}
