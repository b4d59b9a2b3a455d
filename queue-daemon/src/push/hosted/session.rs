//! One batch on its way to a service.
//!
//! In flows a batch and its closure; out flow reports. The service is asked in one go what it lacks; what it has is read
//! and gets its receipt, what it lacks is sent, references first, several at once. What fails takes with it what needs
//! it, and nothing else.

use std::collections::HashMap;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use nix_store::PathInfo;
use nix_types::{NarInfo, Sha256, Signature, StorePath};
use serde_json::json;

use super::{Cache, Hosted, UPLOADS_MAX};
use crate::delivery::FaultClass;
use crate::push::native::join::contradiction;
use crate::push::native::plan::Plan;
use crate::push::native::session::outcome::{ends_the_batch, needs};
use crate::push::{Batch, Fault, Pushed, Reports, Work};
use crate::store::cache::Remembered;

/// So many failures with nothing that got through, and the rest is left for later.
const FRUITLESS_MAX: usize = 8;
/// Narinfo files that are read at once.
pub(super) const READS_MAX: usize = 16;

/// A path that was brought: what readers are told of it, and how many bytes left.
type Brought = (usize, Result<(NarInfo, u64), Fault>);

/// What was read of a path, by its place.
type Read = (usize, Result<Option<NarInfo>, Fault>);

/// What is to be done about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Todo {
    Nothing,
    /// It is there, it is said.
    Read,
    Send,
    /// It can be had elsewhere.
    Upstream,
}

struct Session<'a> {
    engine: &'a Hosted,
    reports: &'a Reports,
    leased: HashMap<&'a str, usize>,
    pushed: Pushed,
    fruitless: usize,
    fruitful: bool,
}

/// Runs a batch.
pub(super) async fn run(engine: &Hosted, batch: Batch<'_>, reports: &Reports) -> Result<Pushed, Fault> {
    let cache = engine.open().await?;
    let leased = batch.leased.iter().enumerate().map(|(place, leased)| (leased.path.as_str(), place));
    let mut session = Session {
        engine,
        reports,
        leased: leased.collect(),
        pushed: Pushed::default(),
        fruitless: 0,
        fruitful: false,
    };
    let mut todos = session.sort(&*cache, batch.closure).await?;
    session.read_those_there(&*cache, batch.closure, &mut todos).await?;
    let to_send = batch.closure.iter().zip(&todos).filter(|(_, todo)| **todo == Todo::Send);
    let infos: Vec<&PathInfo> = to_send.map(|(info, _)| info).collect();
    session.send(&*cache, &infos).await?;
    Ok(session.pushed)
}

impl Session<'_> {
    /// What is to be done about each path of the closure.
    async fn sort(&self, cache: &dyn Cache, closure: &[PathInfo]) -> Result<Vec<Todo>, Fault> {
        let known = self.engine.memory.of_paths(closure.iter().map(|info| info.path.clone()).collect()).await;
        let is_leased = |info: &PathInfo| self.leased.contains_key(info.path.as_str());
        let is_asked = |info: &PathInfo, known: Remembered| match known {
            Remembered::There => is_leased(info),
            Remembered::Nothing => true,
            Remembered::Lost => false,
        };
        let asked = closure.iter().zip(&known).filter(|(info, known)| is_asked(info, **known));
        let paths: Vec<&StorePath> = asked.map(|(info, _)| &info.path).collect();
        let missing = cache.missing(&paths).await?;
        let todo = |(info, known): (&PathInfo, Remembered)| {
            if is_upstream(info, cache.upstream_keys()) {
                return Todo::Upstream;
            }
            match known {
                Remembered::There if !is_leased(info) => Todo::Nothing,
                Remembered::There | Remembered::Nothing if missing.contains(info.path.hash_part()) => {
                    Todo::Send
                }
                Remembered::There | Remembered::Nothing if is_leased(info) => Todo::Read,
                Remembered::There | Remembered::Nothing => Todo::Nothing,
                Remembered::Lost => Todo::Send,
            }
        };
        Ok(closure.iter().zip(known).map(todo).collect())
    }

    /// Reports on what is there. What turns out not to be, or contradicts the store, is sent.
    async fn read_those_there(
        &mut self,
        cache: &dyn Cache,
        closure: &[PathInfo],
        todos: &mut [Todo],
    ) -> Result<(), Fault> {
        let mut reads: Vec<Work<'_, Read>> = Vec::new();
        for (place, info) in closure.iter().enumerate() {
            match todos[place] {
                Todo::Nothing => self.pushed.present.push(info.path.clone()),
                Todo::Upstream => self.is_upstream(info),
                Todo::Send => {}
                Todo::Read => {
                    reads.push(Box::pin(async move { (place, cache.narinfo(&info.path).await) }));
                }
            }
        }
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(READS_MAX);
        while let Some((place, read)) = reads.next().await {
            match read? {
                Some(narinfo) if contradiction(&narinfo, &closure[place]).is_none() => {
                    self.delivered(&closure[place], &narinfo, None);
                }
                Some(_) | None => todos[place] = Todo::Send,
            }
        }
        Ok(())
    }

    /// Sends paths, each after what it refers to.
    async fn send(&mut self, cache: &dyn Cache, infos: &[&PathInfo]) -> Result<(), Fault> {
        let mut plan = Plan::new(infos);
        (0..infos.len()).for_each(|place| plan.archived(place));
        let mut under_way: FuturesUnordered<Work<'_, Brought>> = FuturesUnordered::new();
        let engine = self.engine;
        while !plan.is_over() {
            for place in plan.take_ready(UPLOADS_MAX.saturating_sub(under_way.len()), false) {
                let info = infos[place];
                under_way.push(Box::pin(async move { (place, bring(engine, cache, info).await) }));
            }
            let Some((place, brought)) = under_way.next().await else {
                let why = "paths are left that wait for nothing: a fault of this program";
                return Err(Fault::failed(FaultClass::Failed, why));
            };
            match brought {
                Ok((narinfo, bytes)) => {
                    plan.published(place);
                    self.delivered(infos[place], &narinfo, Some(bytes));
                }
                Err(fault) => self.failed(&mut plan, infos, place, fault)?,
            }
        }
        self.reports.sent();
        Ok(())
    }

    fn failed(
        &mut self,
        plan: &mut Plan,
        infos: &[&PathInfo],
        place: usize,
        fault: Fault,
    ) -> Result<(), Fault> {
        if ends_the_batch(&fault) {
            return Err(fault);
        }
        let path = &infos[place].path;
        for other in plan.failed(place) {
            self.report_failure(&infos[other].path, needs(path, &fault));
        }
        if let Fault::Failed { class, .. } = &fault {
            match class {
                FaultClass::Corrupt => self.engine.memory.count_corrupt(),
                FaultClass::Local => {} // the destination was not asked
                FaultClass::Unreachable | FaultClass::Stuck | FaultClass::Failed | FaultClass::Refused => {
                    self.fruitless += 1;
                }
            }
        }
        self.report_failure(path, fault);
        if self.fruitless >= FRUITLESS_MAX && !self.fruitful {
            return Err(Fault::Cancelled); // the breaker has heard of these; the rest keeps its place in line
        }
        Ok(())
    }

    /// The destination has the path: bytes that left for it, or `None` when it was there.
    fn delivered(&mut self, info: &PathInfo, narinfo: &NarInfo, bytes: Option<u64>) {
        self.fruitful |= bytes.is_some();
        self.pushed.present.push(info.path.clone());
        let Some(place) = self.leased.get(info.path.as_str()) else {
            self.pushed.bytes += bytes.unwrap_or(0);
            return;
        };
        let signed_by: Vec<&str> = narinfo.signatures.iter().map(Signature::name).collect();
        let receipt = json!({
            "kind": self.engine.service.kind(), "to": self.engine.shown, "asked": "narinfo",
            "was_there": bytes.is_none(), "url": narinfo.url, "nar_hash": narinfo.nar_hash.to_string(),
            "signed_by": signed_by,
        });
        match bytes {
            Some(bytes) => self.reports.delivered(*place, receipt, bytes),
            None => self.reports.was_there(*place, receipt),
        }
    }

    fn is_upstream(&self, info: &PathInfo) {
        if let Some(place) = self.leased.get(info.path.as_str()) {
            let signed_by: Vec<&str> = info.signatures.iter().map(|text| key_name(text)).collect();
            let receipt = json!({
                "kind": self.engine.service.kind(), "to": self.engine.shown, "asked": "upstream_cache_key_names",
                "was_there": true, "signed_by": signed_by,
            });
            self.reports.was_there(*place, receipt);
        }
    }

    fn report_failure(&self, path: &StorePath, fault: Fault) {
        if let Some(place) = self.leased.get(path.as_str()) {
            self.reports.failed(*place, fault);
        }
    }
}

/// Sends a path and reads what readers are told of it.
async fn bring(engine: &Hosted, cache: &dyn Cache, info: &PathInfo) -> Result<(NarInfo, u64), Fault> {
    let bytes = cache.bring(info, &engine.hands).await?;
    let read = cache.narinfo(&info.path).await?;
    let (path, shown) = (&info.path, &engine.shown);
    let Some(narinfo) = read else {
        let why = format!("{shown} took {path} and then does not have it");
        return Err(Fault::failed(FaultClass::Failed, why));
    };
    let same = Sha256::parse(&info.nar_hash).is_ok_and(|hash| hash == narinfo.nar_hash);
    match contradiction(&narinfo, info) {
        None if same && narinfo.store_path == info.path => Ok((narinfo, bytes)),
        None => {
            let why = format!("{shown} took {path} and then has another build of it");
            Err(Fault::failed(FaultClass::Failed, why))
        }
        Some(says) => {
            let why = format!("the narinfo of {path} at {shown} {says}");
            Err(Fault::failed(FaultClass::Failed, why))
        }
    }
}

pub(super) fn is_upstream(info: &PathInfo, keys: &[String]) -> bool {
    info.signatures.iter().any(|text| keys.iter().any(|key| key == key_name(text)))
}

/// The name in `name:base64`.
fn key_name(text: &str) -> &str {
    text.split(':').next().unwrap_or_default()
}
