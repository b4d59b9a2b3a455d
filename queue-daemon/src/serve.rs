//! Wires the daemon: the only file that knows every stage.
//!
//! In flows a checked configuration; out flows a running daemon: intake → queue → lanes → destinations, beside the
//! control socket, housekeeping and metrics. `start` is also what tests and benches use, with another clock, store
//! or engine; the process around it (signals, logs, systemd) is `commands::serve`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix_store::collector::Collector;
use nix_store::gcroots::{GcRoots, RootsError};
use nix_store::local::LocalStore;
use nix_store::{Store, StoreDirs, process};
use object_kit::ObjectError;
use service_kit::backoff::Rng;
use service_kit::clock::Clock;
use service_kit::lock::{LockError, StateLock};
use service_kit::shutdown::Stop;
use service_kit::tasks::{TaskFailure, Tasks};
use service_kit::telemetry::chain;
use sqlite_kit::{CallError, Lane as DbLane, Options, Reader, Writer, WriterThread};

use crate::audit::Recorded;
use crate::audit::start::InForce;
use crate::config::{CacheConfig, CacheKind, Config};
use crate::control::metrics_port;
use crate::control::server::{self as control, Control};
use crate::delivery::Policy;
use crate::intake::admit::{Admissions, WakeLanes};
use crate::intake::socket;
use crate::intake::spool::Spool;
use crate::lane::{Lane, LaneStops};
use crate::model::DestinationId;
use crate::pack::{Packer, Recipe};
use crate::push::Push;
use crate::push::command::Command;
use crate::push::credentials::Credentials;
use crate::push::hosted::{self, Attic, Cachix, Hosted};
use crate::push::native::{self, Native};
use crate::push::nix_copy::NixCopy;
use crate::push::sign::SignStore;
use crate::push::ssh::Ssh;
use crate::queue::{Parts, Queue};
use crate::roots::RootKeeper;
use crate::route::Door;
use crate::store::schema::{APPLICATION_ID, MIGRATIONS};
use crate::store::{DestinationRows, RowError, cache, lease};
use crate::{backup, folders, housekeeping, sockets};

/// Makes the engine of a destination.
pub type Engines = Box<dyn Fn(&CacheConfig) -> Result<Arc<dyn Push>, ObjectError> + Send>;

/// What a daemon is started with.
pub struct Setup {
    /// The checked configuration.
    pub config: Config,
    /// The clock.
    pub clock: Clock,
    /// Where the local Nix store is.
    pub dirs: StoreDirs,
    /// The local store; `None` opens the database of `dirs`.
    pub store: Option<Arc<dyn Store>>,
    /// Another way to make engines; `None` for the real ones.
    pub engines: Option<Engines>,
    /// A registered SQLite VFS for `queue.db`; tests and benches inject faults and delays there.
    pub vfs: Option<String>,
    /// Sockets the service manager opened already: enqueue, control.
    pub inherited: sockets::Inherited,
}

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A folder.
    #[error("cannot make or use {what} {}; correct its path or permissions", path.display())]
    Folder {
        /// Which one.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another daemon, or no permission.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database.
    #[error(transparent)]
    Database(#[from] sqlite_kit::Error),
    /// A statement at start.
    #[error("prepare the queue database")]
    Rows(#[source] Box<CallError<RowError>>),
    /// GC roots.
    #[error("no way to keep queued paths from the garbage collector")]
    Roots(#[from] RootsError),
    /// A socket.
    #[error(transparent)]
    Socket(#[from] sockets::SocketError),
    /// A destination whose settings are of no use.
    #[error("cannot use the destination {id}")]
    Destination {
        /// Which one.
        id: DestinationId,
        /// Why.
        #[source]
        source: Box<ObjectError>,
    },
    /// A thread.
    #[error("start a thread")]
    Thread(#[source] io::Error),
}

/// A daemon that runs.
pub struct Running {
    queue: Arc<Queue>,
    control: Arc<Control>,
    tasks: Tasks,
    stop: Stop,
    lane_stops: LaneStops,
    lanes: Vec<tokio::task::JoinHandle<()>>,
    writer: WriterThread,
    /// Socket files to remove at the end: the service manager goes on listening on those it opened.
    own_sockets: Vec<PathBuf>,
    _lock: StateLock,
}

/// Starts everything. When it returns, both sockets accept.
///
/// # Errors
/// See `StartError`.
pub async fn start(setup: Setup) -> Result<Running, StartError> {
    let Setup { config, clock, dirs, store, engines, vfs, inherited } = setup;
    make_folder("state_dir", &config.queue.state_dir, 0o750)?;
    let lock = StateLock::take(&config.queue.state_dir)?;
    if let Err(error) = backup::remove_left(&config.queue.state_dir) {
        tracing::warn!("{}", chain(&error)); // the next backup says so again
    }
    process::withhold(config.withheld());
    let group = sockets::group_of(&config.queue)?;
    sockets::make_spool(&config.queue.spool_dir, group).map_err(|source| StartError::Folder {
        what: "spool_dir",
        path: config.queue.spool_dir.clone(),
        source,
    })?;
    let options = Options {
        path: config.queue.state_dir.join(backup::DATABASE),
        durability: config.queue.durability,
        vfs,
        application_id: APPLICATION_ID,
    };
    let (db, writer) = Writer::open(&options, MIGRATIONS)?;
    let reader = Reader::open(&options, MIGRATIONS)?;
    let (rows, last_token) = prepare(&db, &config, &options.path, &clock).await?;
    let own_roots = config.queue.state_dir.join("gcroots");
    let roots = GcRoots::choose(&dirs, &own_roots)?;
    tracing::info!("queued paths are kept from the garbage collector by {roots}");
    let left = roots.left_by_the_other_kind(&dirs, &own_roots);
    let roots = Arc::new(RootKeeper::new(roots, left, Collector::new(&dirs), reader.clone()));
    let store = store.unwrap_or_else(|| Arc::new(LocalStore::new(dirs.clone())));
    let doors = doors(&config);
    let queue =
        Arc::new(Queue::new(Parts { config, db, reader, clock, store, roots, rows, doors, last_token }));
    let own_sockets = inherited.missing(&queue.config.queue);
    let sockets = sockets::open(&queue.config.queue, group, inherited).await?;

    let stop = Stop::new();
    let lane_stops = LaneStops { leasing: Stop::new(), attempts: Stop::new() };
    let tasks = Tasks::new(stop.clone());
    let engines = engines.unwrap_or_else(|| real_engines(&queue, dirs));
    let (lanes, running_lanes) = start_lanes(&queue, &engines, &lane_stops)?;
    let control = start_intake(&queue, lanes.clone(), &tasks, sockets, &stop)?;
    housekeeping::start(&queue, lanes, &tasks);
    let lanes = running_lanes;
    Ok(Running { queue, control, tasks, stop, lane_stops, lanes, writer, own_sockets, _lock: lock })
}

impl Running {
    /// Ends the daemon when requested; also requested by `drain` and by a task that fails.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// What the stages share.
    #[must_use]
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// The text Prometheus gets; `None` when the table cannot be read.
    #[must_use]
    pub fn metrics(&self) -> Option<String> {
        self.control.metrics_text().ok()
    }

    /// Waits for the stop, then ends in order: no intake, no new attempts, `stop_timeout` for those under way, the
    /// rest are returned to the queue, and the database is closed last.
    ///
    /// # Errors
    /// The failure of the task that brought the daemon down.
    pub async fn finish(self) -> Result<(), TaskFailure> {
        let Self { queue, control, tasks, stop, lane_stops, lanes, writer, own_sockets, _lock } = self;
        stop.requested().await;
        queue.close_intake();
        lane_stops.leasing.request();
        let all = async {
            for lane in lanes {
                let _ = lane.await; // a lane that panicked has nothing left to wait for
            }
        };
        tokio::pin!(all);
        let limit = queue.config.queue.stop_timeout;
        if queue.clock.timeout(limit, all.as_mut()).await.is_err() {
            tracing::warn!(
                "attempts under way did not end within {limit:?}; their paths are back in the queue"
            );
            lane_stops.attempts.request();
            all.await;
        }
        let ended = tasks.finish(&queue.clock, std::time::Duration::from_secs(5)).await;
        for socket in own_sockets {
            let _ = std::fs::remove_file(socket); // gone already
        }
        drop(control);
        drop(queue);
        let closed = tokio::task::spawn_blocking(move || writer.stop()).await;
        closed.expect("closing the database does not panic: it logs its errors");
        ended.map(|_| ())
    }
}

fn make_folder(what: &'static str, path: &Path, mode: u32) -> Result<(), StartError> {
    folders::make(path, mode).map_err(|source| StartError::Folder { what, path: path.to_owned(), source })
}

/// What must be true before anybody asks: destinations have rows, and nobody holds a lease.
async fn prepare(
    db: &Writer,
    config: &Config,
    database: &Path,
    clock: &Clock,
) -> Result<(DestinationRows, u64), StartError> {
    let (read, database) = (config.clone(), database.to_owned());
    let in_force = tokio::task::spawn_blocking(move || InForce::of(&read, &database)).await;
    let in_force = in_force.expect("reading keys does not panic: it names those it cannot read");
    let ids: Vec<DestinationId> = config.caches.iter().map(|cache| cache.id.clone()).collect();
    let identities: Vec<(DestinationId, String)> =
        config.caches.iter().map(|cache| (cache.id.clone(), cache.kind.identity())).collect();
    let (now, mut rng) = (clock.now(), Rng::from_entropy());
    let prepared = db
        .call(DbLane::Urgent, move |tx| {
            let had_rows = DestinationRows::there_are(tx)?;
            let rows = DestinationRows::ensure(tx, &ids)?;
            let mut moved = Vec::new();
            for (id, identity) in &identities {
                let row = rows.row(id).expect("every configured destination has a row: it was just made");
                if cache::identify(tx, row, identity, now)? {
                    tracing::warn!(destination = %id, "{id} is at another place than before: what it has is asked anew");
                    moved.push(id.clone());
                }
            }
            let returned = lease::return_all(tx, now, &Policy::without_waits(), &mut rng)?;
            let recorded = in_force.record(tx, now, had_rows, &moved)?;
            Ok((rows, lease::last_token(tx)?, returned, recorded))
        })
        .await;
    let (rows, last_token, returned, recorded) =
        prepared.map_err(|error| StartError::Rows(Box::new(error)))?;
    recorded.iter().for_each(Recorded::say);
    if returned > 0 {
        tracing::info!(
            "{returned} deliveries were under way when the daemon last ended; they are queued again"
        );
    }
    Ok((rows, last_token))
}

fn doors(config: &Config) -> Vec<Door> {
    let is_default = |id: &DestinationId| match &config.queue.default_destinations {
        None => true,
        Some(defaults) => defaults.contains(id),
    };
    let door = |cache: &CacheConfig| Door {
        id: cache.id.clone(),
        accepts_hook: cache.accept.hook,
        accepts_ci: cache.accept.ci,
        is_default: is_default(&cache.id),
        rights: cache.rights.clone(),
    };
    config.caches.iter().map(door).collect()
}

fn real_engines(queue: &Arc<Queue>, dirs: StoreDirs) -> Engines {
    let native = queue.config.caches.iter().filter_map(|cache| match &cache.kind {
        CacheKind::Native { url } => Some(native::recipe_of(url)),
        CacheKind::Attic { .. } => Some(hosted::attic_recipe()),
        CacheKind::Cachix { .. } => Some(hosted::cachix_recipe()),
        CacheKind::Ssh { .. }
        | CacheKind::NixCopy { .. }
        | CacheKind::Command { .. }
        | CacheKind::Cli { .. }
        | CacheKind::SignStore => None,
    });
    let recipes: Vec<Recipe> = native.collect();
    let settings = &queue.config.queue;
    let threads = settings.cpu_limit.or_else(|| std::thread::available_parallelism().map(usize::from).ok());
    let shares = native::Shares {
        queue: Arc::clone(queue),
        packer: Packer::new(threads.unwrap_or(1), &recipes, queue.clock.clone(), queue.metrics.packs()),
        throttle: settings.bandwidth_limit.map(|rate| Arc::new(native::limit(&queue.clock, rate))),
        dirs,
        destinations: recipes.len(),
    };
    let queue = Arc::clone(queue);
    Box::new(move |cache| {
        Ok(match &cache.kind {
            CacheKind::Native { url } => Arc::new(Native::new(cache, url, &shares)?),
            CacheKind::Ssh { url } => Arc::new(Ssh::new(cache, url, &queue, shares.throttle.clone())),
            CacheKind::NixCopy { url } => {
                Arc::new(NixCopy::new(url, cache.timeout, &queue.config.queue, Arc::clone(&queue.store)))
            }
            CacheKind::Cachix { name, config_file } => {
                let credentials = Credentials::of(cache, &queue.clock);
                let cachix =
                    Cachix::new(name, config_file.clone(), credentials, hosted::line(cache, &shares));
                Arc::new(Hosted::new(cache, name, Box::new(cachix), &shares))
            }
            CacheKind::Attic { named, place } => {
                let credentials = Credentials::of(cache, &queue.clock);
                let attic = Attic::new(place.clone(), credentials, hosted::line(cache, &shares));
                Arc::new(Hosted::new(cache, named, Box::new(attic), &shares))
            }
            CacheKind::Command { argv } => {
                let credentials = Credentials::of(cache, &queue.clock);
                Arc::new(Command::new(argv.clone(), cache.timeout, credentials))
            }
            CacheKind::Cli { kind, argv } => {
                let credentials = Credentials::of(cache, &queue.clock);
                Arc::new(Command::cli(kind, argv.clone(), cache.timeout, credentials))
            }
            CacheKind::SignStore => Arc::new(SignStore::new(cache, &queue)),
        })
    })
}

type RunningLanes = (Vec<Arc<Lane>>, Vec<tokio::task::JoinHandle<()>>);

fn start_lanes(queue: &Arc<Queue>, engines: &Engines, stops: &LaneStops) -> Result<RunningLanes, StartError> {
    let mut lanes = Vec::new();
    let mut running = Vec::new();
    for cache in &queue.config.caches {
        let row = queue.rows.row(&cache.id).expect("every configured destination has a row: prepare made it");
        let engine = engines(cache)
            .map_err(|source| StartError::Destination { id: cache.id.clone(), source: Box::new(source) })?;
        lanes.push(Arc::new(Lane::new(Arc::clone(queue), cache.clone(), row, engine, stops.clone())));
    }
    for lane in &lanes {
        running.push(tokio::spawn(Arc::clone(lane).run()));
    }
    Ok((lanes, running))
}

fn start_intake(
    queue: &Arc<Queue>,
    lanes: Vec<Arc<Lane>>,
    tasks: &Tasks,
    sockets: sockets::Open,
    stop: &Stop,
) -> Result<Arc<Control>, StartError> {
    let wake: WakeLanes = {
        let lanes = lanes.clone();
        Arc::new(move |ids| {
            for lane in lanes.iter().filter(|lane| ids.contains(&lane.config.id)) {
                lane.nudge();
            }
        })
    };
    // Two threads, so that a large push or a full spool holds no hook.
    let Admissions { urgent, bulk } =
        Admissions::start(queue, &queue.store, &wake).map_err(StartError::Thread)?;
    let spool = Arc::new(Spool::new(Arc::clone(queue), bulk.clone()));
    let control = Control::new(Arc::clone(queue), lanes, Arc::clone(&spool), bulk, stop.clone());
    let control = Arc::new(control);
    let sockets::Open { enqueue, control: control_listener, metrics } = sockets;
    let service = |name: &'static str, work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        tasks.spawn(name, async move {
            work.await;
            Ok::<(), std::convert::Infallible>(())
        });
    };
    service("spool", Box::pin(spool.run(stop.clone())));
    service("enqueue socket", Box::pin(socket::serve(Arc::clone(queue), urgent, enqueue, stop.clone())));
    service("control socket", Box::pin(control::serve(Arc::clone(&control), control_listener, stop.clone())));
    if let Some(listener) = metrics {
        service("metrics", Box::pin(metrics_port::serve(Arc::clone(&control), listener, stop.clone())));
    }
    Ok(control)
}
