//! The graph of all derivations that are known, and how it grows. In: roots whose files were written; out: a graph with
//! their closures. What the store remembers is loaded first and not read again; what is new is read from its files and
//! remembered. What cannot be used stays out of the graph, with whatever needs it, and is remembered by this run alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ci_model::diff::{Outputs, output_hashes};
use ci_model::drv::DrvRecord;
use ci_model::graph::{Graph, NodeFacts, NodeId};
use nix_types::DrvPath;
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;
use tokio::task::spawn_blocking;

use super::RunError;
use crate::drvs::{self, DrvsError, Walked};
use crate::store::{CHUNK_MAX, DrvId, Store};

/// A graph that is also in the store.
pub(super) struct Known {
    pub(super) graph: Graph,
    /// What each node of the graph makes.
    pub(super) outputs: Outputs,
    store: Arc<dyn Store>,
    /// What was left out of the graph, and the derivation that is why.
    left_out: HashMap<DrvPath, DrvPath>,
    /// Derivations that cannot be used, and why.
    unusable: BTreeMap<DrvPath, String>,
}

impl Known {
    /// What the store remembers.
    pub(super) async fn load(store: &Arc<dyn Store>) -> Result<Self, RunError> {
        let store = Arc::clone(store);
        let loading = spawn_blocking(move || {
            let (mut graph, mut outputs) = (Graph::default(), Outputs::default());
            let (mut nodes, mut inputs) = (HashMap::<DrvId, NodeId>::new(), Vec::new());
            store.load_graph(&mut |drv| {
                inputs.clear();
                inputs.extend(drv.inputs.iter().filter_map(|input| nodes.get(&input.drv).copied()));
                let facts = NodeFacts {
                    system: drv.system.clone(),
                    is_fod: drv.traits.is_fod,
                    is_content_addressed: drv.traits.is_content_addressed,
                    prefers_local: drv.traits.prefers_local,
                    features: drv.traits.required_features.clone(),
                };
                let id = graph.insert(drv.path, facts, &inputs);
                outputs.add(id, drv.outputs);
                nodes.insert(drv.id, id);
            })?;
            Ok(Self { graph, outputs, store, left_out: HashMap::new(), unusable: BTreeMap::new() })
        });
        loading.await.expect("loading a graph does not panic: it returns its errors")
    }

    /// Is it known that it has no place in the graph?
    pub(super) fn is_left_out(&self, drv: &DrvPath) -> bool {
        self.left_out.contains_key(drv)
    }

    /// Derivations that cannot be used, and why.
    pub(super) fn unusable(&self) -> &BTreeMap<DrvPath, String> {
        &self.unusable
    }

    /// Why it was left out: the derivation that cannot be used.
    pub(super) fn at_fault(&self, drv: &DrvPath) -> Option<&DrvPath> {
        self.left_out.get(drv)
    }

    /// Adds these and all they need, but for what cannot be used and what needs that. Nothing of them when some are gone.
    pub(super) async fn add(&mut self, roots: Vec<DrvPath>, stop: &Stop) -> Result<(), RunError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let (seen, store) = (Arc::clone(&cancelled), Arc::clone(&self.store));
        let (mut graph, mut outputs) = (std::mem::take(&mut self.graph), std::mem::take(&mut self.outputs));
        let mut work = spawn_blocking(move || {
            let added = add((&mut graph, &mut outputs), &*store, &roots, &seen);
            (graph, outputs, added)
        });
        let done = tokio::select! {
            done = &mut work => done,
            () = stop.requested() => {
                cancelled.store(true, Ordering::Relaxed);
                work.await
            }
        };
        let (graph, outputs, added) =
            done.expect("reading derivations does not panic: it returns its errors");
        (self.graph, self.outputs) = (graph, outputs);
        match added {
            Err(RunError::Drvs(DrvsError::Cancelled)) => Err(RunError::Cancelled),
            Err(error) => Err(error),
            Ok(walked) => {
                self.pass_over(walked);
                Ok(())
            }
        }
    }

    fn pass_over(&mut self, walked: Walked) {
        let Walked { unusable, left_out, .. } = walked;
        self.left_out.extend(left_out.into_iter().map(|(drv, why)| (drv, unusable[why].drv.clone())));
        self.unusable.extend(unusable.into_iter().map(|unusable| (unusable.drv, chain(&unusable.why))));
    }
}

/// Adds to the graph and the store; what was left out is in what is given back.
fn add(
    (graph, outputs): (&mut Graph, &mut Outputs),
    store: &dyn Store,
    roots: &[DrvPath],
    cancelled: &AtomicBool,
) -> Result<Walked, RunError> {
    let mut walked = drvs::walk(roots, &|drv| graph.id(drv).is_some(), cancelled)?;
    for chunk in walked.drvs.chunks(CHUNK_MAX) {
        if let Err(error) = store.add_drvs(chunk) {
            // They are read again the next time.
            tracing::warn!("derivations are not remembered: {}", chain(&error));
            break;
        }
    }
    std::mem::take(&mut walked.drvs).iter().for_each(|drv| insert(graph, outputs, drv));
    Ok(walked)
}

/// Inputs come before users, so each of them has its node.
fn insert(graph: &mut Graph, outputs: &mut Outputs, drv: &DrvRecord) {
    let inputs: Vec<NodeId> = drv.inputs.keys().filter_map(|input| graph.id(input)).collect();
    let facts = NodeFacts {
        system: drv.system.clone(),
        is_fod: drv.traits.is_fod,
        is_content_addressed: drv.traits.is_content_addressed,
        prefers_local: drv.traits.prefers_local,
        features: drv.traits.required_features.clone(),
    };
    let id = graph.insert(&drv.path, facts, &inputs);
    outputs.add(id, output_hashes(&drv.outputs).as_deref());
}
