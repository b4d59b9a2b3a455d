//! One batch on its way to another Nix.
//!
//! In flows a batch and its closure; out flow reports. What is missing is asked in one question and sent in one go. A path
//! that cannot be read, or is refused, takes with it what needs it and nothing else; when that cost the connection, the
//! rest goes over a new one. At the end what is registered there is read back, path by path of the batch.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nix_store::PathInfo;
use nix_store::remote::{Broken, End, Item, ReadEnd, Sent, Stopped};
use nix_types::{SecretKey, Sha256, StorePath, fingerprint};
use serde_json::json;
use tokio::runtime::Handle;

use super::pool::Lent;
use super::read::Blocks;
use super::{Ssh, faults};
use crate::delivery::FaultClass;
use crate::push::native::unless_gone;
use crate::push::{Batch, Fault, Pushed, Reports};

/// So many connections in a row that brought nothing there, and the rest is left for later.
const FRUITLESS_MAX: usize = 3;

/// Runs a batch.
pub(super) async fn run(engine: &Ssh, batch: Batch<'_>, reports: &Reports) -> Result<Pushed, Fault> {
    let ring = Arc::clone(&engine.keys);
    let read = tokio::task::spawn_blocking(move || ring.read());
    let keys = read.await.expect("reading a key does not panic: it returns its errors")?;
    let mut session = Session {
        engine,
        batch,
        reports,
        keys: Arc::new(keys),
        there: HashSet::new(),
        sent: HashSet::new(),
        failed: HashMap::new(),
        reported: HashSet::new(),
        sizes: HashMap::new(),
    };
    let result = session.drive().await;
    session.report_failures();
    result?;
    let bytes_of = |info: &&PathInfo| session.sent.contains(&info.path) && !session.is_leased(&info.path);
    Ok(Pushed {
        present: batch
            .closure
            .iter()
            .filter(|info| session.is_there(&info.path))
            .map(|info| info.path.clone())
            .collect(),
        bytes: batch.closure.iter().filter(bytes_of).map(|info| info.nar_size).sum(),
    })
}

struct Session<'a> {
    engine: &'a Ssh,
    batch: Batch<'a>,
    reports: &'a Reports,
    keys: Arc<Vec<SecretKey>>,
    /// What was valid there before.
    there: HashSet<StorePath>,
    /// What we brought.
    sent: HashSet<StorePath>,
    /// What cannot be brought, and why.
    failed: HashMap<StorePath, Fault>,
    /// Of those, what has been told.
    reported: HashSet<StorePath>,
    /// Of NARs, where Nix did not note it, in bytes.
    sizes: HashMap<StorePath, u64>,
}

impl Session<'_> {
    async fn drive(&mut self) -> Result<(), Fault> {
        let mut fruitless = 0;
        loop {
            let paths = self.batch.closure.iter().map(|info| info.path.clone()).collect();
            let (returned, valid) = self.engine.pool.ask(paths, true).await?;
            self.there.extend(valid.into_iter().filter(|path| !self.sent.contains(path)));
            self.count_sizes().await;
            let items = self.items();
            if items.is_empty() {
                self.reports.sent();
                return self.read_back(returned.take()).await;
            }
            let Some(lent) = returned.take() else { return Err(Fault::Cancelled) };
            let before = self.sent.len();
            match self.send(lent, items).await? {
                Sending::Done(lent) => {
                    self.reports.sent();
                    return self.read_back(Some(*lent)).await;
                }
                Sending::Again(fault) => {
                    fruitless = if self.sent.len() > before { 0 } else { fruitless + 1 };
                    if fruitless >= FRUITLESS_MAX {
                        return Err(fault);
                    }
                }
            }
        }
    }

    /// What is to be sent: references first, and nothing that needs what failed.
    fn items(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        for info in self.batch.closure {
            if self.is_there(&info.path) || self.failed.contains_key(&info.path) {
                continue;
            }
            if let Some(fault) = self.lacks(info) {
                self.failed.insert(info.path.clone(), fault);
                continue;
            }
            let mut info = info.clone();
            info.nar_size = self.sizes.get(&info.path).copied().unwrap_or(info.nar_size);
            items.push(Item { signatures: signatures(&info, &self.keys), info });
        }
        items
    }

    /// Learns the sizes that an old Nix did not note: the other side wants them, and they are signed.
    async fn count_sizes(&mut self) {
        for info in self.batch.closure {
            let path = &info.path;
            if info.nar_size > 0 || self.is_there(path) || self.sizes.contains_key(path) {
                continue;
            }
            let unsized_info = info.clone();
            let counted = tokio::task::spawn_blocking(move || Blocks::default().count(&unsized_info));
            match counted.await.expect("reading a path does not panic: it returns its errors") {
                Ok(size) => drop(self.sizes.insert(path.clone(), size)),
                Err(fault) => drop(self.failed.insert(path.clone(), fault)),
            }
        }
    }

    /// Why a path cannot be sent: it needs one that failed.
    fn lacks(&self, info: &PathInfo) -> Option<Fault> {
        let others = info.references.iter().filter(|path| **path != info.path);
        others
            .filter_map(|path| Some((path, self.failed.get(path)?)))
            .map(|(path, fault)| needs(path, fault))
            .next()
    }

    /// Sends what is missing.
    async fn send(&mut self, mut lent: Lent, items: Vec<Item>) -> Result<Sending, Fault> {
        let (progress, throttles) = (Arc::clone(&self.engine.progress), Arc::clone(&self.engine.throttles));
        let runtime = Handle::current();
        let (items, Sent { ends, unread, broken }) = lent
            .do_with(move |remote| {
                let mut blocks = Blocks::default();
                let sizes: Vec<u64> = items.iter().map(|item| item.info.nar_size).collect();
                let infos: Vec<PathInfo> = items.iter().map(|item| item.info.clone()).collect();
                let sent = remote.send(&items, &mut |place, sink| {
                    let Some(info) = infos.get(place) else { return Err(ReadEnd::Stopped) };
                    let transfer = progress.begin(&info.path, sizes[place]);
                    let ear = transfer.ear();
                    blocks.read(info, &mut |block| -> Result<(), Stopped> {
                        for throttle in &*throttles {
                            runtime.block_on(throttle.take(block.len() as u64));
                        }
                        sink(block)?;
                        ear(block.len() as u64);
                        Ok(())
                    })
                });
                (items, sent)
            })
            .await?;
        self.note(&items, &ends, unread);
        match broken {
            None => Ok(Sending::Done(Box::new(lent))),
            Some(Broken::Cut) => {
                drop(lent);
                Ok(Sending::Again(Fault::failed(
                    FaultClass::Failed,
                    "what was sent turned out to be damaged",
                )))
            }
            Some(Broken::Peer(error)) => {
                let fault = self.engine.pool.fault(lent, error).await;
                let in_hand =
                    ends.iter().position(|end| *end == End::Open).and_then(|place| items.get(place));
                match (&fault, in_hand) {
                    // It gave up over the path it had in hand.
                    (Fault::Failed { class: FaultClass::Failed, .. }, Some(item)) => {
                        self.failed.insert(item.info.path.clone(), fault.clone());
                        Ok(Sending::Again(fault))
                    }
                    (_, _) => Err(fault),
                }
            }
        }
    }

    fn note(&mut self, items: &[Item], ends: &[End], unread: Vec<(usize, Fault)>) {
        for (place, fault) in unread {
            let Some(item) = items.get(place) else { continue };
            if matches!(fault, Fault::Failed { class: FaultClass::Corrupt, .. }) {
                self.engine.queue.metrics.corrupt();
            }
            let fault = unless_gone(fault, &item.info.path, &*self.engine.store);
            self.failed.insert(item.info.path.clone(), fault);
        }
        for (item, end) in items.iter().zip(ends) {
            match end {
                End::Taken => drop(self.sent.insert(item.info.path.clone())),
                End::Refused(message) => {
                    let fault = faults::of_refusal(self.engine.pool.url(), message);
                    self.failed.insert(item.info.path.clone(), fault);
                }
                End::Unread | End::Lacking | End::Open => {}
            }
        }
    }

    /// The destination's own word on each path of the batch.
    async fn read_back(&mut self, lent: Option<Lent>) -> Result<(), Fault> {
        let Some(mut lent) = lent else { return Err(Fault::Cancelled) };
        let _ = self.items(); // what needs what failed has failed
        let is_there = |place: &usize| self.is_there(&self.batch.leased[*place].path);
        let places: Vec<usize> = (0..self.batch.leased.len()).filter(is_there).collect();
        let paths: Vec<StorePath> =
            places.iter().map(|place| self.batch.leased[*place].path.clone()).collect();
        let infos = match lent.do_with(move |remote| remote.infos(&paths)).await? {
            Ok(infos) => infos,
            Err(error) => return Err(self.engine.pool.fault(lent, error).await),
        };
        self.engine.pool.keep(lent);
        let meant: HashMap<&str, &PathInfo> =
            self.batch.closure.iter().map(|info| (info.path.as_str(), info)).collect();
        for (place, found) in places.into_iter().zip(infos) {
            let leased = &self.batch.leased[place];
            let was_there = self.there.contains(&leased.path);
            match meant.get(leased.path.as_str()).map(|meant| self.judge(meant, found.as_ref(), was_there)) {
                Some(Ok(receipt)) if was_there => self.reports.was_there(place, receipt),
                Some(Ok(receipt)) => self.reports.delivered(place, receipt, leased.nar_bytes),
                Some(Err(fault)) => self.reports.failed(place, fault),
                None => {} // not of its own closure: the lane says what that is
            }
            self.reported.insert(leased.path.clone());
        }
        Ok(())
    }

    /// Whether what is registered there is what was meant. What was there before may be another build of the path: the
    /// first one stays.
    fn judge(
        &self,
        meant: &PathInfo,
        found: Option<&PathInfo>,
        was_there: bool,
    ) -> Result<serde_json::Value, Fault> {
        let (to, path) = (&self.engine.shown, &meant.path);
        let fail = |why: String| Err(Fault::failed(FaultClass::Failed, why));
        let Some(found) = found else {
            return fail(format!("{to} took {path} and then does not have it"));
        };
        let size_fits = meant.nar_size == 0 || meant.nar_size == found.nar_size;
        let fits = same_hash(meant, found) && size_fits && meant.references == found.references;
        if !fits && !was_there {
            return fail(format!("{to} says something else of {path} than what was sent"));
        }
        let names = found.signatures.iter().filter_map(|signature| signature.split(':').next());
        Ok(json!({
            "kind": "nix-copy", "to": to, "asked": "path-info", "was_there": was_there,
            "nar_hash": Sha256::parse(&found.nar_hash).map_or_else(|_| found.nar_hash.clone(), |hash| hash.to_string()),
            "nar_bytes": found.nar_size, "signed_by": names.collect::<Vec<_>>(),
        }))
    }

    fn is_there(&self, path: &StorePath) -> bool {
        self.there.contains(path) || self.sent.contains(path)
    }

    fn is_leased(&self, path: &StorePath) -> bool {
        self.batch.leased.iter().any(|leased| leased.path == *path)
    }

    /// Tells of what failed, and of what needs it.
    fn report_failures(&mut self) {
        let _ = self.items(); // what needs what failed has failed
        for (place, leased) in self.batch.leased.iter().enumerate() {
            if let Some(fault) = self.failed.get(&leased.path)
                && self.reported.insert(leased.path.clone())
            {
                self.reports.failed(place, fault.clone());
            }
        }
    }
}

/// What became of a sending.
enum Sending {
    /// Something was heard of every path that could be sent.
    Done(Box<Lent>),
    /// The rest needs another connection; what cost this one.
    Again(Fault),
}

/// The store's signatures and ours.
fn signatures(info: &PathInfo, keys: &[SecretKey]) -> Vec<String> {
    let mut signatures = info.signatures.clone();
    // What is no hash is not sent: whoever reads the path says so.
    let Ok(hash) = Sha256::parse(&info.nar_hash) else { return signatures };
    let text = fingerprint(&info.path, &hash, info.nar_size, &info.references);
    for key in keys {
        let signature = key.sign(&text).to_string();
        if !signatures.contains(&signature) {
            signatures.push(signature);
        }
    }
    signatures
}

fn same_hash(one: &PathInfo, other: &PathInfo) -> bool {
    match (Sha256::parse(&one.nar_hash), Sha256::parse(&other.nar_hash)) {
        (Ok(one), Ok(other)) => one == other,
        (_, _) => false,
    }
}

/// Why a path that needs another cannot be sent.
fn needs(path: &StorePath, fault: &Fault) -> Fault {
    match fault {
        Fault::Failed { class, why, output } => {
            // The first of a chain is the one to be told of.
            let why = if why.starts_with("it needs ") {
                why.clone()
            } else {
                format!("it needs {path}, which could not be sent: {why}")
            };
            Fault::Failed { class: *class, why, output: output.clone() }
        }
        Fault::Gone(path) => Fault::Gone(path.clone()),
        Fault::Cancelled => Fault::Cancelled,
    }
}
