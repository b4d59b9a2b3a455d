//! A store of another machine, over one connection that stays open. The URL of it comes in, and ssh is started; out comes
//! a [`Remote`] that is asked which paths are valid there and what is registered about them, and is sent paths. Speaks
//! what `nix-store --serve` and `nix-daemon --stdio` speak. Blocks, but for opening and closing. Which paths to send, what
//! their bytes are and whether a failure is worth another try is for the caller.

mod command;
mod open;
mod send;
mod serve;

pub use open::{HANDSHAKE_MAX, LastWords, Link, OpenError, OpenWith};
pub use send::{Broken, End, Item, Read, ReadEnd, Sent, Stopped};

use std::os::unix::net::UnixStream;

use nix_types::StorePath;
use nix_types::ssh_url::Speech;

use crate::daemon::{Daemon, DaemonError};
use crate::store::PathInfo;
use serve::Serve;

/// A conversation with the Nix of another machine. After an error other than [`DaemonError::Refused`] it is of no use.
pub struct Remote(Peer);

enum Peer {
    Serve(Serve),
    Worker(Daemon),
}

impl Remote {
    /// Begins a conversation with whom is at the other end of a stream. When this returns it has opened its store.
    ///
    /// # Errors
    /// [`DaemonError`] when nobody is there that speaks so.
    pub fn greet(stream: UnixStream, speech: Speech, who: String) -> Result<Self, DaemonError> {
        match speech {
            Speech::Serve => Serve::greet(stream, who).map(Peer::Serve).map(Self),
            Speech::Worker => {
                let daemon = Daemon::greet(stream, who)?;
                daemon.can_be_sent_to()?;
                Ok(Self(Peer::Worker(daemon)))
            }
        }
    }

    /// The valid ones of the paths, in its own order. It fetches none that is missing; with `keep` it keeps those it
    /// has from its garbage collector as long as the conversation lasts, where it can.
    ///
    /// # Errors
    /// [`DaemonError`]
    pub fn valid_among(&mut self, paths: &[StorePath], keep: bool) -> Result<Vec<StorePath>, DaemonError> {
        match &mut self.0 {
            Peer::Serve(serve) => serve.valid_among(paths, keep),
            Peer::Worker(daemon) => daemon.valid_among(paths),
        }
    }

    /// What is registered there about each path, in their order; `None` for one that is not valid.
    ///
    /// # Errors
    /// [`DaemonError`]
    pub fn infos(&mut self, paths: &[StorePath]) -> Result<Vec<Option<PathInfo>>, DaemonError> {
        match &mut self.0 {
            Peer::Serve(serve) => serve.infos(paths),
            Peer::Worker(daemon) => {
                let mut infos = Vec::with_capacity(paths.len());
                daemon.path_infos(paths, |_, info| -> Result<(), DaemonError> {
                    infos.push(info);
                    Ok(())
                })?;
                Ok(infos)
            }
        }
    }
}
