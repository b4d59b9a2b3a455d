//! The daemon in the test's own process: real sockets, tables and lanes, over a store in memory, destinations that
//! do as they are told, and, where wanted, a clock that the test moves and a disk that it records.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eka_queue::config::{CacheConfig, Config};
use eka_queue::control::client;
use eka_queue::control::protocol::{self, Reply, Request};
use eka_queue::delivery::{FaultClass, StateName};
use eka_queue::push::{Batch, Check, Checked, Fault, Push, Pushed, Reports, Rules, Whole, Work};
use eka_queue::serve::{Running, Setup, start};
use eka_queue::sockets::Inherited;
use hook_wire::{FieldTag, Kind, Source, Status};
use nix_store::StoreDirs;
use nix_store::fake::FakeStore;
use nix_types::StorePath;
use service_kit::clock::{Clock, Time};
use service_kit::shutdown::Stop;
use tokio::runtime::Runtime;

use crate::frames::{Frame, hear};

/// The folder of the store in memory; nothing of it is ever on a disk.
const STORE: &str = "/nix/store";

/// A daemon and its world.
pub(crate) struct Inside {
    runtime: Runtime,
    running: Option<Running>,
    folder: tempfile::TempDir,
    caches: String,
    queue: String,
    clock: Clock,
    store: Arc<FakeStore>,
    destinations: Arc<BTreeMap<String, Arc<Destination>>>,
}

impl Inside {
    /// A world with destinations of these ids, in memory where the system has a place for that. Not started.
    pub(crate) fn new(clock: Clock, queue: &str, ids: &[&str]) -> Inside {
        let folder = test_kit::powercut::fast_dir();
        std::fs::create_dir_all(folder.path().join("nix/gcroots")).unwrap();
        let block =
            |id: &&str| format!("[[caches]]\nid = \"{id}\"\ncache_type = \"command\"\ncommand = [\"-\"]\n");
        let destination = |id: &&str| ((*id).to_owned(), Arc::new(Destination::new(clock.clone())));
        let destinations = Arc::new(ids.iter().map(destination).collect());
        Inside {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            running: None,
            folder,
            caches: ids.iter().map(block).collect(),
            queue: queue.to_owned(),
            clock,
            store: Arc::new(FakeStore::new(STORE)),
            destinations,
        }
    }

    /// Starts the daemon, over this VFS of SQLite if one is named.
    pub(crate) fn start(&mut self, vfs: Option<&str>) {
        let destinations = Arc::clone(&self.destinations);
        let engine =
            move |cache: &CacheConfig| Ok(Arc::clone(&destinations[cache.id.as_str()]) as Arc<dyn Push>);
        let setup = Setup {
            config: self.config(),
            clock: self.clock.clone(),
            dirs: StoreDirs::new(STORE, self.folder.path().join("nix")).unwrap(),
            store: Some(self.store.clone()),
            engines: Some(Box::new(engine)),
            vfs: vfs.map(str::to_owned),
            inherited: Inherited::default(),
        };
        self.running = Some(self.runtime.block_on(start(setup)).unwrap());
    }

    /// Ends the daemon in order.
    pub(crate) fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.stop().request();
        self.runtime.block_on(running.finish()).unwrap();
    }

    /// Waits for something asynchronous.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn config(&self) -> Config {
        let folder = self.folder.path().display();
        let text = format!(
            "[queue]\nstate_dir = \"{folder}/state\"\nsocket = \"{folder}/enqueue.sock\"\n\
             control_socket = \"{folder}/control.sock\"\nspool_dir = \"{folder}/spool\"\n{}\n{}",
            self.queue, self.caches
        );
        Config::parse(Path::new("ekaci.toml"), &text).unwrap()
    }

    /// Where the database lies.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// So many new valid paths; the last word of each is its number.
    pub(crate) fn valid_paths(&self, numbers: std::ops::Range<usize>) -> Vec<String> {
        let paths = numbers.map(|i| format!("{STORE}/{i:032}-path-{i}"));
        let paths =
            paths.inspect(|path| self.store.add_simple(&StorePath::parse_str(path).unwrap(), &[]).unwrap());
        paths.collect()
    }

    /// A connection to the enqueue socket.
    pub(crate) fn connect(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("enqueue.sock")).unwrap()
    }

    /// Hands paths to the daemon as the hook does, under this idempotency key; they are acknowledged when this
    /// returns.
    #[track_caller]
    pub(crate) fn enqueue(&self, key: u128, paths: &[&str]) {
        let frame = Frame::empty(Kind::Enqueue)
            .with(FieldTag::Key, key.to_be_bytes())
            .with(FieldTag::Source, [Source::Hook.number()])
            .with(FieldTag::MadeMs, 0_u64.to_le_bytes());
        let frame = paths.iter().fold(frame, |frame, path| frame.path(path));
        assert_eq!(ask(&mut self.connect(), &frame), Status::Queued);
    }

    /// What `eka-queue status` asks for.
    pub(crate) fn status(&self) -> protocol::Status {
        let mut status = None;
        let socket = self.folder.path().join("control.sock");
        let keep = |reply| {
            if let Reply::Status(answer) = reply {
                status = Some(*answer);
            }
            Ok(())
        };
        client::ask(&socket, &Request::Status, keep).unwrap();
        status.unwrap()
    }

    /// How many deliveries of a destination are in a state.
    pub(crate) fn count(&self, id: &str, state: StateName) -> u64 {
        self.status().destinations[id].by_state.of(state)
    }

    pub(crate) fn destination(&self, id: &str) -> &Destination {
        &self.destinations[id]
    }
}

/// Sends a message and hears what became of it.
#[track_caller]
pub(crate) fn ask(client: &mut UnixStream, frame: &Frame) -> Status {
    client.write_all(&frame.bytes()).unwrap();
    hear(client).unwrap().status
}

/// A destination that does as it is told, and remembers what was tried.
pub(crate) struct Destination {
    clock: Clock,
    state: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    fails: Option<FaultClass>,
    vanishing: usize,
    tries: Vec<Try>,
    has: BTreeSet<String>,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Try {
    pub(crate) at: Time,
    pub(crate) paths: usize,
}

impl Destination {
    fn new(clock: Clock) -> Destination {
        Destination { clock, state: Mutex::default() }
    }

    /// From now on every attempt fails in this way; with `None`, none does.
    pub(crate) fn set_failing(&self, class: Option<FaultClass>) {
        self.state.lock().unwrap().fails = class;
    }

    /// The paths of the next so many attempts leave the store while they are sent.
    pub(crate) fn set_vanishing(&self, attempts: usize) {
        self.state.lock().unwrap().vanishing = attempts;
    }

    /// Every attempt so far.
    pub(crate) fn tries(&self) -> Vec<Try> {
        self.state.lock().unwrap().tries.clone()
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.state.lock().unwrap().has.contains(path)
    }
}

impl Push for Destination {
    fn kind(&self) -> &'static str {
        "test"
    }

    fn rules(&self) -> Rules {
        Rules { paths_max: 24, one_drv: false, closure: false, exclusive: false, gather: Duration::ZERO }
    }

    fn push<'a>(
        &'a self,
        batch: Batch<'a>,
        reports: &'a Reports,
        _: &'a Stop,
    ) -> Work<'a, Result<Pushed, Fault>> {
        let mut state = self.state.lock().unwrap();
        state.tries.push(Try { at: self.clock.now(), paths: batch.leased.len() });
        if state.vanishing > 0 {
            state.vanishing -= 1;
            for (place, leased) in batch.leased.iter().enumerate() {
                reports.failed(place, Fault::Gone(leased.path.clone()));
            }
            return Box::pin(std::future::ready(Ok(Pushed::default())));
        }
        let result = match state.fails {
            None => {
                reports.sent();
                for (place, leased) in batch.leased.iter().enumerate() {
                    state.has.insert(leased.path.as_str().to_owned());
                    reports.delivered(place, serde_json::json!({ "kind": "test" }), leased.nar_bytes);
                }
                Ok(Pushed::default())
            }
            Some(class) => Err(Fault::Failed { class, why: "told to fail".into(), output: String::new() }),
        };
        Box::pin(std::future::ready(result))
    }

    fn check<'a>(
        &'a self,
        paths: &'a [StorePath],
        _: &'a mut Whole,
        _: &'a Stop,
    ) -> Work<'a, Result<Checked, Fault>> {
        let state = self.state.lock().unwrap();
        if let Some(class) = state.fails {
            let fault = Fault::Failed { class, why: "told to fail".into(), output: String::new() };
            return Box::pin(std::future::ready(Err(fault)));
        }
        let lost: Vec<StorePath> =
            paths.iter().filter(|path| !state.has.contains(path.as_str())).cloned().collect();
        let check = |path: &StorePath| match state.has.contains(path.as_str()) {
            true => Check::There,
            false => Check::Missing("told to have lost it".into()),
        };
        let checks = paths.iter().map(check).collect();
        Box::pin(std::future::ready(Ok(Checked { checks, lost })))
    }
}
