//! The sandbox as an evaluation's [`Confine`]. In: an evaluator and what it says it needs. Out: the same inside. What all
//! evaluators of a run have in common, bounds and the daemon, is held here.

use std::path::PathBuf;
use std::sync::Arc;

use nix_store::process::Spec;

use super::proxy::Proxy;
use super::{Confinement, Group, Limits, Sandbox, StoreAccess};
use crate::evaluate::confine::{Confine, Needs, NotConfined, StoreUse};

/// Where the daemon is, and what it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonStore {
    /// The folder of its socket.
    pub socket_folder: PathBuf,
    /// The store, to read.
    pub store: PathBuf,
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
    /// Their way out; `None` where `[eval] allowed_uris` is empty.
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
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
