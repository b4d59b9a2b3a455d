//! The sandbox as an evaluation's [`Confine`]. In: an evaluator and what it says it needs. Out: the same inside. What all
//! evaluators of a run have in common, bounds and the daemon, is held here.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use nix_store::process::{Exit, Spec};
use service_kit::telemetry::chain;

use super::proxy::{Proxy, Refused};
use super::{Confinement, Group, Limits, Sandbox, StoreAccess};
use crate::evaluate::confine::{Confine, Needs, NotConfined, StoreUse};

/// What is added to a signal's number to tell it as an exit code.
const BY_SIGNAL: i32 = 128;
/// The highest signal of Linux.
const SIGNAL_MAX: i32 = 64;

/// Where the daemon is, and what it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonStore {
    /// The folder of its socket.
    pub socket_folder: PathBuf,
    /// The store, to read.
    pub store: PathBuf,
}

/// Why there is no daemon to write through.
#[derive(Debug, thiserror::Error)]
#[error("no Nix daemon listens at {} ({failed}); {}", socket.display(), remedy(failed.kind()))]
pub struct NoDaemon {
    /// Where its socket would be.
    pub socket: PathBuf,
    /// What came of connecting to it.
    pub failed: io::Error,
}

impl DaemonStore {
    /// The daemon whose socket lies in this folder, if one listens: a socket alone is left behind by one that has ended.
    ///
    /// # Errors
    /// [`NoDaemon`] when there is nobody to connect to, or we may not.
    pub fn find(socket_folder: PathBuf, store: PathBuf) -> Result<Self, NoDaemon> {
        let socket = socket_folder.join("socket");
        match UnixStream::connect(&socket) {
            Ok(_) => Ok(Self { socket_folder, store }),
            Err(failed) => Err(NoDaemon { socket, failed }),
        }
    }
}

/// What to do about a socket that cannot be connected to.
fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => {
            "its socket is left of one that has ended; start nix-daemon again"
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not connect to it; ask for the right to, or start one"
        }
        _ => "start nix-daemon",
    }
}

/// Confines evaluators.
#[derive(Clone, Debug)]
pub struct Keeper {
    /// By what.
    pub sandbox: Arc<Sandbox>,
    /// What each may take; what an evaluator itself asks for is less or as much.
    pub limits: Limits,
    /// For evaluators that write derivations; `None` where none does.
    pub daemon: Option<DaemonStore>,
    /// Their way out; `None` where nothing may be fetched.
    pub proxy: Option<Arc<Proxy>>,
    /// What bounds them all together; `None` where there is no place for a control group.
    pub group: Option<Arc<Group>>,
}

impl Keeper {
    fn confinement(&self, needs: &Needs) -> Result<Confinement, NotConfined> {
        let store = match (needs.store, &self.daemon) {
            (StoreUse::Nothing, _) => StoreAccess::None,
            (StoreUse::Writes, Some(daemon)) => StoreAccess::Daemon {
                socket_folder: daemon.socket_folder.clone(),
                store: daemon.store.clone(),
            },
            (StoreUse::Writes, None) => {
                return Err(NotConfined {
                    why: "it writes derivations, and there is no Nix daemon to write them through".into(),
                    remedy: "start nix-daemon".into(),
                });
            }
        };
        let asked = needs.memory_bytes.unwrap_or(self.limits.memory_bytes);
        let memory_bytes = asked.min(self.limits.memory_bytes);
        Ok(Confinement {
            reads: needs.reads.clone(),
            store,
            limits: Limits { memory_bytes, ..self.limits },
            door: self.proxy.as_ref().map(|proxy| proxy.door().to_owned()),
            groups: self.group.as_ref().map(|group| group.entrances()).unwrap_or_default(),
        })
    }
}

impl Confine for Keeper {
    fn confine(&self, spec: Spec, needs: &Needs) -> Result<Spec, NotConfined> {
        let confinement = self.confinement(needs)?;
        let confined = self.sandbox.confine(&spec, &confinement);
        confined.map_err(|error| NotConfined { why: chain(&error), remedy: error.remedy() })
    }

    /// Bubblewrap tells a signal as shells do.
    fn exit(&self, exit: Exit) -> Exit {
        match exit {
            Exit::Exited(code) if (BY_SIGNAL + 1..=BY_SIGNAL + SIGNAL_MAX).contains(&code) => {
                Exit::Signaled(code - BY_SIGNAL)
            }
            other => other,
        }
    }

    fn notes(&self) -> Vec<String> {
        let kept = self.proxy.as_ref().map(|proxy| proxy.kept()).unwrap_or_default();
        let sentence = |Refused { why, is_beyond_reach }: &Refused| {
            let remedy = if *is_beyond_reach { "; --allow-private-hosts, if that is meant" } else { "" };
            format!("The way out of the sandbox was closed: {why}{remedy}.")
        };
        kept.iter().map(sentence).collect()
    }
}
