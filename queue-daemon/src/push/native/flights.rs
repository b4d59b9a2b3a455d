//! Which paths are on their way to a destination, over all batches.
//!
//! In flows a batch's wish to send a path; out flows that it may, or word of the batch that sends it already, or that
//! sent it since this batch asked what is there: the narinfo it read back, which nobody needs to read again, and whether its
//! archive is there too. A batch that ends without having sent a path, for whatever reason, leaves it to those who waited.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix_types::{NarInfo, StorePath};
use tokio::sync::watch;

type Word = Option<Arrived>;

/// What is said of a path that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrived {
    /// What was read back.
    pub(super) narinfo: Arc<NarInfo>,
    /// Its archive was sent, or looked for: it is there too.
    pub(super) with_archive: bool,
}

/// All of a destination.
#[derive(Debug, Default, Clone)]
pub(super) struct Flights(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    under_way: HashMap<StorePath, watch::Receiver<Word>>,
    /// What arrived while a batch was under way that asked what is there before it did, and when.
    landed: HashMap<StorePath, (u64, watch::Receiver<Word>)>,
    /// When each batch under way began.
    began: BTreeSet<u64>,
    /// Counts what begins and what arrives.
    now: u64,
}

/// A batch that may claim paths, until it is dropped. It is made before the batch asks what is there.
#[derive(Debug)]
pub(super) struct Onlooker {
    all: Flights,
    began: u64,
}

/// A batch's hold on a path; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Flight {
    all: Flights,
    path: StorePath,
    arrived: watch::Sender<Word>,
}

/// What became of a wish.
#[derive(Debug)]
pub(super) enum Claim {
    /// It is ours to send.
    Ours(Flight),
    /// Another batch sends it.
    Theirs(Waiting),
}

/// Word of another batch.
#[derive(Debug)]
pub(super) struct Waiting(watch::Receiver<Word>);

impl Flights {
    /// A batch begins.
    pub(super) fn begin(&self) -> Onlooker {
        let mut state = self.state();
        state.now += 1;
        let began = state.now;
        state.began.insert(began);
        Onlooker { all: self.clone(), began }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Onlooker {
    /// Claims a path. `distrusts` what arrived meanwhile: it was looked at, and something was missing.
    pub(super) fn claim(&self, path: &StorePath, distrusts: bool) -> Claim {
        let mut state = self.all.state();
        if let Some(theirs) = state.under_way.get(path) {
            return Claim::Theirs(Waiting(theirs.clone()));
        }
        if let Some((at, theirs)) = state.landed.get(path)
            && *at > self.began
            && !distrusts
        {
            return Claim::Theirs(Waiting(theirs.clone()));
        }
        let (arrived, word) = watch::channel(None);
        state.under_way.insert(path.clone(), word);
        Claim::Ours(Flight { all: self.all.clone(), path: path.clone(), arrived })
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        let mut state = self.all.state();
        state.began.remove(&self.began);
        match state.began.first().copied() {
            None => state.landed.clear(),
            Some(oldest) => state.landed.retain(|_, (at, _)| *at > oldest),
        }
    }
}

impl Flight {
    /// The path is there: this was read back. The archive at the key `archive` is there as well.
    pub(super) fn arrived(self, narinfo: &NarInfo, archive: Option<&str>) {
        // Somebody else's narinfo may name another archive.
        let with_archive = archive.is_some_and(|key| key == narinfo.url);
        let word = Arrived { narinfo: Arc::new(narinfo.clone()), with_archive };
        let _ = self.arrived.send(Some(word)); // nobody may be waiting
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.all.state();
        state.now += 1;
        let at = state.now;
        if let Some(word) = state.under_way.remove(&self.path)
            && word.borrow().is_some()
            && state.began.len() > 1
        {
            state.landed.insert(self.path.clone(), (at, word));
        }
    }
}

impl Waiting {
    /// Waits for the other batch; what it says when the path is there, `None` when it is left to us.
    pub(super) async fn arrives(mut self) -> Option<Arrived> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narinfo() -> NarInfo {
        let hash = "0".repeat(32);
        let text = format!(
            "StorePath: /nix/store/{hash}-a\nURL: nar/x.nar\nCompression: none\nNarHash: sha256:{hash}{}\nNarSize: 1\n\
             References: \n",
            "0".repeat(20)
        );
        NarInfo::parse(&text, "/nix/store").unwrap()
    }

    #[tokio::test]
    async fn an_archive_is_there_that_was_sent_and_that_the_narinfo_names() {
        let (flights, narinfo) = (Flights::default(), narinfo());
        for (sent, is_there) in [(Some("nar/x.nar"), true), (Some("nar/y.nar"), false), (None, false)] {
            let (one, other) = (flights.begin(), flights.begin());
            let Claim::Ours(flight) = one.claim(&narinfo.store_path, false) else { panic!("it is free") };
            let Claim::Theirs(waiting) = other.claim(&narinfo.store_path, false) else {
                panic!("it is taken")
            };
            flight.arrived(&narinfo, sent);
            assert_eq!(waiting.arrives().await.unwrap().with_archive, is_there, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn one_sends_and_the_others_hear_of_it() {
        let flights = Flights::default();
        let narinfo = narinfo();
        let path = narinfo.store_path.clone();
        let (one, other) = (flights.begin(), flights.begin());
        let Claim::Ours(flight) = one.claim(&path, false) else { panic!("nobody else sends it") };
        let Claim::Theirs(waiting) = other.claim(&path, false) else { panic!("it is taken") };
        let Claim::Theirs(late) = other.claim(&path, true) else { panic!("it is taken") };
        flight.arrived(&narinfo, Some("nar/x.nar"));
        let word = Some(Arrived { narinfo: Arc::new(narinfo.clone()), with_archive: true });
        assert_eq!(waiting.arrives().await, word);
        assert_eq!(late.arrives().await, word, "each who waited hears it, at any time");
        let Claim::Theirs(since) = other.claim(&path, false) else {
            panic!("it arrived since `other` looked")
        };
        assert_eq!(since.arrives().await, word);
        let Claim::Ours(flight) = other.claim(&path, true) else { panic!("it was looked at in vain") };
        let Claim::Theirs(waiting) = one.claim(&path, false) else { panic!("it is taken") };
        drop(flight);
        assert_eq!(waiting.arrives().await, None, "it ended without the path");
        let later = flights.begin();
        assert!(matches!(later.claim(&path, false), Claim::Ours(_)), "a later batch asks for itself");
        drop((one, other));
        assert!(flights.state().landed.is_empty(), "nobody is left who could take it for absent");
    }
}
