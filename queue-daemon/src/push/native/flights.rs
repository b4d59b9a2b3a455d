//! Which paths are on their way to a destination, over all batches.
//!
//! In flows a batch's wish to send a path; out flows that it may, or word of the batch that sends it already. A batch
//! that ends without having sent a path, for whatever reason, leaves it to those who waited.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use nix_types::StorePath;
use tokio::sync::watch;

/// All of a destination.
#[derive(Debug, Default, Clone)]
pub(super) struct Flights(Arc<Mutex<HashMap<StorePath, watch::Receiver<bool>>>>);

/// A batch's hold on a path; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Flight {
    all: Flights,
    path: StorePath,
    arrived: watch::Sender<bool>,
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
pub(super) struct Waiting(watch::Receiver<bool>);

impl Flights {
    /// Claims a path.
    pub(super) fn claim(&self, path: &StorePath) -> Claim {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(theirs) = flights.get(path) {
            return Claim::Theirs(Waiting(theirs.clone()));
        }
        let (arrived, word) = watch::channel(false);
        flights.insert(path.clone(), word);
        Claim::Ours(Flight { all: self.clone(), path: path.clone(), arrived })
    }
}

impl Flight {
    /// The path is there.
    pub(super) fn arrived(self) {
        let _ = self.arrived.send(true); // nobody may be waiting
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

impl Waiting {
    /// Waits for the other batch; true when the path is there, false when it is left to us.
    pub(super) async fn arrives(mut self) -> bool {
        self.0.wait_for(|arrived| *arrived).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_sends_and_the_others_hear_of_it() {
        let flights = Flights::default();
        let path = StorePath::parse_str("/nix/store/00000000000000000000000000000000-a").unwrap();
        let Claim::Ours(flight) = flights.claim(&path) else { panic!("nobody else sends it") };
        let Claim::Theirs(waiting) = flights.claim(&path) else { panic!("it is taken") };
        flight.arrived();
        assert!(waiting.arrives().await);
        let Claim::Ours(flight) = flights.claim(&path) else { panic!("it is over") };
        let Claim::Theirs(waiting) = flights.claim(&path) else { panic!("it is taken") };
        drop(flight);
        assert!(!waiting.arrives().await, "it ended without the path");
        assert!(matches!(flights.claim(&path), Claim::Ours(_)));
    }
}
