//! One batch on its way.
//!
//! In flows a batch and its closure; out flow reports. Archives are sent largest first, several at once; whenever some
//! paths have all they need, they are published together, while further archives are still on their way. What fails
//! takes with it what needs it, and nothing else; a place that cannot be reached ends the batch.

pub(in crate::push) mod outcome;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use nix_store::PathInfo;
use nix_types::{NarInfo, SecretKey};
use object_kit::Objects;

use super::Native;
use super::check::archive_fault;
use super::flights::{Arrived, Claim, Flight, Onlooker, Waiting};
use super::memory::Archive;
use super::notes::Wanted;
use super::plan::{Plan, largest_first};
use super::publish::{Publication, Published};
use super::sort::{self, Todo};
use super::upload::{Common, Uploaded};
use crate::delivery::FaultClass;
use crate::push::{Batch, Fault, Pushed, Reports, Work};
use outcome::ends_the_batch;

/// Archives of this batch in hand at once; fewer are really sent. Those that another batch sends do not count: two
/// batches that are full of what the other one sends would wait for each other.
const IN_HAND_MAX: usize = 512;
/// Paths that are published together at most.
const GROUP_MAX: usize = 256;

/// What came of an archive.
enum Sent {
    /// It is there.
    Archive(Uploaded, Flight),
    /// Another batch published the path, and read this back.
    There(Arc<NarInfo>),
    /// Another batch had it and did not bring it.
    Left,
}

/// Archives on their way.
#[derive(Default)]
struct OnTheirWay<'a> {
    /// By us.
    ours: FuturesUnordered<Work<'a, (usize, Result<Sent, Fault>)>>,
    /// By other batches.
    theirs: FuturesUnordered<Work<'a, (usize, Result<Sent, Fault>)>>,
}

/// What came of a group.
struct Settled {
    /// Of those that only waited for what they need.
    waited: Vec<(usize, Result<(), Fault>)>,
    published: Published,
}

type Publishing<'a> = Work<'a, Result<Settled, Fault>>;

/// Runs a batch.
pub(super) async fn run(engine: &Native, batch: Batch<'_>, reports: &Reports) -> Result<Pushed, Fault> {
    let ring = Arc::clone(&engine.keys);
    let read = tokio::task::spawn_blocking(move || ring.read());
    let keys = read.await.expect("reading a key does not panic: it returns its errors")?;
    let objects = engine.place.open();
    let result = run_with(engine, &*objects, batch, reports, Arc::new(keys)).await;
    engine.memory.flush_archives();
    if result.is_err() {
        engine.doubt_cache().await;
    }
    result
}

async fn run_with(
    engine: &Native,
    objects: &dyn Objects,
    batch: Batch<'_>,
    reports: &Reports,
    keys: Arc<Vec<SecretKey>>,
) -> Result<Pushed, Fault> {
    engine.look_at_cache(objects).await?;
    let (nodes, mut session) = Session::begin(engine, objects, batch, reports, keys).await?;
    let infos: Vec<&PathInfo> = nodes.iter().map(|node| node.info).collect();
    session.plan = Plan::new(&infos);
    session.order = largest_first(&infos).into();
    session.nodes = nodes;
    session.drive().await
}

/// Waits for another batch that sends a path. What that batch read back after its write is proof enough that it is there:
/// it is of this moment and of this cache. A receipt takes its archive besides, which is looked for if that batch only signed.
async fn wait(objects: &dyn Objects, waiting: Waiting, is_leased: bool) -> Result<Sent, Fault> {
    let Some(Arrived { narinfo, with_archive }) = waiting.arrives().await else { return Ok(Sent::Left) };
    if is_leased && !with_archive && archive_fault(objects, &narinfo).await?.is_some() {
        return Ok(Sent::Left);
    }
    Ok(Sent::There(narinfo))
}

/// A path to be sent, signed or waited for.
struct Node<'a> {
    info: &'a PathInfo,
    /// What is to be done about it: not nothing.
    todo: Todo,
    /// The archive that was sent some time, if one was.
    known: Option<Archive>,
    uploaded: Option<Uploaded>,
    flight: Option<Flight>,
    /// Another batch was to bring it, and did not.
    left: bool,
}

struct Session<'a> {
    engine: &'a Native,
    objects: &'a dyn Objects,
    batch: Batch<'a>,
    reports: &'a Reports,
    keys: Arc<Vec<SecretKey>>,
    /// Places of the batch's own paths.
    leased: HashMap<&'a str, usize>,
    nodes: Vec<Node<'a>>,
    plan: Plan,
    onlooker: Onlooker,
    /// Places whose archives are still to be sent.
    order: VecDeque<usize>,
    common: Arc<Common>,
    pushed: Pushed,
    fruitless: usize,
    fruitful: bool,
}

impl<'a> Session<'a> {
    /// Asks what is there; reports on what is, and gives what is not.
    async fn begin(
        engine: &'a Native,
        objects: &'a dyn Objects,
        batch: Batch<'a>,
        reports: &'a Reports,
        keys: Arc<Vec<SecretKey>>,
    ) -> Result<(Vec<Node<'a>>, Self), Fault> {
        let leased: HashMap<&str, usize> =
            batch.leased.iter().enumerate().map(|(place, leased)| (leased.path.as_str(), place)).collect();
        let mut session = Self {
            engine,
            objects,
            batch,
            reports,
            keys,
            leased,
            nodes: Vec::new(),
            plan: Plan::new(&[]),
            onlooker: engine.flights.begin(),
            order: VecDeque::new(),
            common: Arc::default(),
            pushed: Pushed::default(),
            fruitless: 0,
            fruitful: false,
        };
        let is_leased = |info: &PathInfo| session.leased.contains_key(info.path.as_str());
        let (asked, seen) = engine.look(objects, batch.closure, &is_leased).await?;
        let is_unsigned =
            |info: &PathInfo, narinfo: &NarInfo| Native::lacks_signature(info, narinfo, &session.keys);
        let (mut nodes, mut there) = (Vec::new(), Vec::new());
        let todos = sort::sort(batch.closure, seen, is_unsigned);
        for ((info, todo), asked) in batch.closure.iter().zip(todos).zip(asked) {
            match todo {
                Todo::Nothing(Some(narinfo)) => there.push((info, narinfo)),
                Todo::Nothing(None) if asked => session.pushed.present.push(info.path.clone()),
                Todo::Nothing(None) => {} // remembered already
                Todo::Send | Todo::Sign(_) | Todo::Wait(_) => {
                    nodes.push(Node { info, todo, known: None, uploaded: None, flight: None, left: false });
                }
            }
        }
        session.are_there(there).await?;
        let infos: Vec<&PathInfo> = nodes.iter().map(|node: &Node<'_>| node.info).collect();
        let known = engine.archives_of(&infos).await;
        nodes.iter_mut().zip(known).for_each(|(node, known)| node.known = known);
        Ok((nodes, session))
    }

    /// Nothing is to be done about these but to bring what goes with them.
    async fn are_there(&mut self, there: Vec<(&'a PathInfo, Box<NarInfo>)>) -> Result<(), Fault> {
        let wanted: Vec<Wanted> = there.iter().map(|(info, _)| self.wanted(info)).collect();
        let done = self.engine.add_notes(self.objects, &wanted).await;
        for ((info, narinfo), done) in there.into_iter().zip(done) {
            match done {
                Ok(()) => self.delivered(info, &narinfo, None),
                Err(fault) if ends_the_batch(&fault) => return Err(fault),
                Err(fault) => self.report_failure(&info.path, fault),
            }
        }
        Ok(())
    }

    /// What goes with a path, when it is to be delivered.
    fn wanted(&self, info: &PathInfo) -> Wanted {
        let leased = self.leased.get(info.path.as_str()).map(|place| &self.batch.leased[*place]);
        self.engine.wanted(info, leased.and_then(|leased| leased.drv.clone()), &self.keys)
    }

    /// Drives archives and publications until every path has been published or has failed.
    async fn drive(mut self) -> Result<Pushed, Fault> {
        let mut under_way = OnTheirWay::default();
        let mut publishing: Option<Publishing<'a>> = None;
        while !self.plan.is_over() {
            while under_way.ours.len() < IN_HAND_MAX
                && let Some(place) = self.order.pop_front()
            {
                self.send(place, &under_way);
            }
            if publishing.is_none() {
                publishing = self.next_group();
            }
            if self.plan.is_over() {
                break; // the last ones only waited
            }
            tokio::select! {
                Some((place, sent)) = under_way.ours.next() => self.sent(place, sent, &under_way)?,
                Some((place, sent)) = under_way.theirs.next() => self.sent(place, sent, &under_way)?,
                published = async { publishing.as_mut().expect("guarded by the condition").await },
                    if publishing.is_some() => {
                    publishing = None;
                    self.settled(published?)?;
                }
                else => {
                    let why = "paths are left that wait for nothing: a fault of this program";
                    return Err(Fault::failed(FaultClass::Failed, why));
                }
            }
        }
        Ok(self.pushed)
    }

    /// Sends the archive of a path, or waits for the batch that sends it.
    fn send(&mut self, place: usize, under_way: &OnTheirWay<'a>) {
        let (engine, objects, info) = (self.engine, self.objects, self.nodes[place].info);
        if self.plan.has_failed(place) {
            return; // with something it needs
        }
        if matches!(self.nodes[place].todo, Todo::Wait(_)) {
            return self.plan.archived(place); // it is there, and waits for what it needs
        }
        match self.onlooker.claim(&info.path, self.nodes[place].left) {
            Claim::Ours(flight) if matches!(self.nodes[place].todo, Todo::Sign(_)) => {
                self.nodes[place].flight = Some(flight);
                self.plan.archived(place);
            }
            Claim::Ours(flight) => {
                let (known, common) = (self.nodes[place].known.clone(), Arc::clone(&self.common));
                under_way.ours.push(Box::pin(async move {
                    let uploaded = engine.upload(objects, info, known, &common).await;
                    (place, uploaded.map(|uploaded| Sent::Archive(uploaded, flight)))
                }));
            }
            Claim::Theirs(waiting) => {
                let is_leased = self.leased.contains_key(info.path.as_str());
                let wait = async move { (place, wait(objects, waiting, is_leased).await) };
                under_way.theirs.push(Box::pin(wait));
            }
        }
    }

    fn sent(
        &mut self,
        place: usize,
        sent: Result<Sent, Fault>,
        under_way: &OnTheirWay<'a>,
    ) -> Result<(), Fault> {
        if !self.plan.has_failed(place) {
            match sent {
                Ok(Sent::Archive(uploaded, flight)) => {
                    let node = &mut self.nodes[place];
                    (node.uploaded, node.flight) = (Some(uploaded), Some(flight));
                    self.plan.archived(place);
                }
                Ok(Sent::There(narinfo)) => {
                    // What goes with it is ours to bring.
                    self.nodes[place].todo = Todo::Wait(Some(Box::new((*narinfo).clone())));
                    self.plan.archived(place);
                }
                Ok(Sent::Left) => {
                    self.nodes[place].left = true;
                    self.order.push_front(place);
                }
                Err(fault) => self.failed(place, fault)?,
            }
        } // else with something it needs; the archive stays for the next try
        if under_way.ours.is_empty() && under_way.theirs.is_empty() && self.order.is_empty() {
            self.reports.sent();
        }
        Ok(())
    }

    /// The paths that have all they need, on their way to be published.
    fn next_group(&mut self) -> Option<Publishing<'a>> {
        let in_order = self.objects.is_local();
        // A flush costs about the same for one file and for many, and what is small is there in a moment.
        if in_order && self.common.small.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let (mut group, mut waits) = (Vec::new(), Vec::new());
        while group.is_empty() && waits.is_empty() {
            let ready = self.plan.take_ready(GROUP_MAX, in_order);
            if ready.is_empty() {
                return None;
            }
            for place in ready {
                if self.plan.has_failed(place) {
                    continue; // with one before it
                }
                match &self.nodes[place].todo {
                    Todo::Wait(_) if self.plan.lacks(place) => {} // part of it is in this group: later
                    Todo::Wait(_) => match self.wanted(self.nodes[place].info) {
                        wanted if wanted.is_nothing() => self.waited(place),
                        wanted => waits.push((place, wanted)),
                    },
                    Todo::Nothing(_) | Todo::Send | Todo::Sign(_) => {
                        group.push(self.publication(place));
                        // It meets the one it is to replace, which ends a group where order counts.
                        if in_order && matches!(self.nodes[place].todo, Todo::Sign(_)) {
                            break;
                        }
                    }
                }
            }
        }
        let (engine, objects) = (self.engine, self.objects);
        let (waits, notes): (Vec<usize>, Vec<Wanted>) = waits.into_iter().unzip();
        Some(Box::pin(async move {
            let noted = engine.add_notes(objects, &notes).await;
            let published = engine.publish(objects, group).await?;
            Ok(Settled { waited: waits.into_iter().zip(noted).collect(), published })
        }))
    }

    fn publication(&self, place: usize) -> Publication {
        let (engine, node) = (self.engine, &self.nodes[place]);
        if let Todo::Sign(there) = &node.todo {
            return Native::signed_anew(place, there, self.wanted(node.info));
        }
        let uploaded = node.uploaded.as_ref().expect("a path is ready when its archive is there");
        engine.publication(place, node.info, uploaded, self.wanted(node.info))
    }
}
