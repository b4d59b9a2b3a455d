//! Which paths are on their way to a destination, over all batches.
//!
//! In flows a batch's wish to send a path; out flows that it may, or word of the batch that sends it already: the narinfo
//! it read back, which nobody needs to read again. A batch that ends without having sent a path, for whatever reason,
//! leaves it to those who waited.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use nix_types::{NarInfo, StorePath};
use tokio::sync::watch;

/// The narinfo of a path that is there.
type Word = Option<Arc<NarInfo>>;

/// All of a destination.
#[derive(Debug, Default, Clone)]
pub(super) struct Flights(Arc<Mutex<HashMap<StorePath, watch::Receiver<Word>>>>);

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
    /// Claims a path.
    pub(super) fn claim(&self, path: &StorePath) -> Claim {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(theirs) = flights.get(path) {
            return Claim::Theirs(Waiting(theirs.clone()));
        }
        let (arrived, word) = watch::channel(None);
        flights.insert(path.clone(), word);
        Claim::Ours(Flight { all: self.clone(), path: path.clone(), arrived })
    }
}

impl Flight {
    /// The path is there: this was read back.
    pub(super) fn arrived(self, narinfo: &NarInfo) {
        let _ = self.arrived.send(Some(Arc::new(narinfo.clone()))); // nobody may be waiting
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

impl Waiting {
    /// Waits for the other batch; what it read back when the path is there, `None` when it is left to us.
    pub(super) async fn arrives(mut self) -> Option<Arc<NarInfo>> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_sends_and_the_others_hear_of_it() {
        let flights = Flights::default();
        let hash = "0".repeat(32);
        let text = format!(
            "StorePath: /nix/store/{hash}-a\nURL: nar/x.nar\nCompression: none\nNarHash: sha256:{hash}{}\nNarSize: 1\n\
             References: \n",
            "0".repeat(20)
        );
        let narinfo = NarInfo::parse(&text, "/nix/store").unwrap();
        let path = narinfo.store_path.clone();
        let Claim::Ours(flight) = flights.claim(&path) else { panic!("nobody else sends it") };
        let Claim::Theirs(waiting) = flights.claim(&path) else { panic!("it is taken") };
        let Claim::Theirs(late) = flights.claim(&path) else { panic!("it is taken") };
        flight.arrived(&narinfo);
        assert_eq!(waiting.arrives().await.as_deref(), Some(&narinfo));
        assert_eq!(late.arrives().await.as_deref(), Some(&narinfo), "each who waited hears it, at any time");
        let Claim::Ours(flight) = flights.claim(&path) else { panic!("it is over") };
        let Claim::Theirs(waiting) = flights.claim(&path) else { panic!("it is taken") };
        drop(flight);
        assert_eq!(waiting.arrives().await, None, "it ended without the path");
        assert!(matches!(flights.claim(&path), Claim::Ours(_)));
    }
}
