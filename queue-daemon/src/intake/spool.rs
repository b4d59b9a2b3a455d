//! The spool: what `eka-hook` could not hand over.
//!
//! In flow files of the spool folder, oldest name first; out flow the same requests to `admit`. A file is removed
//! only after its request is on disk; one that can never be taken in is moved aside, never deleted. The folder is
//! read at start, when it changes, and every few seconds: a lost wake-up costs a poll.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hook_wire::{Kind, SPOOL_FILE_MAX, split_frame};
use inotify::{Inotify, WatchMask};
use nix::fcntl::OFlag;
use service_kit::shutdown::Stop;
use tokio::sync::{Mutex, Notify};

use super::admit::Admission;
use super::parse::{self, Parsed};
use super::socket::may_say;
use crate::model::{Answer, Via};
use crate::peer::{self, Denied};
use crate::queue::Queue;

/// The pause between two looks when nothing wakes the spool.
const POLL: Duration = Duration::from_secs(5);

/// After this many users must wait, the trouble is ours (the disk is full), and a pass ends.
const STUCK_USERS_MAX: usize = 16;

/// The spool folder.
pub(crate) struct Spool {
    queue: Arc<Queue>,
    admission: Admission,
    folder: PathBuf,
    refused: PathBuf,
    nudge: Notify,
    /// One pass at a time: order is kept, and no file is taken twice.
    pass: Mutex<()>,
}

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Requests taken in.
    pub(crate) taken: u64,
    /// Files moved aside.
    pub(crate) refused: u64,
    /// True when something must wait: the disk is full, a quota is reached, the store cannot be asked.
    pub(crate) stuck: bool,
}

enum Fate {
    Taken,
    Refused(String),
    Later(String),
}

impl Spool {
    pub(crate) fn new(queue: Arc<Queue>, admission: Admission) -> Self {
        let folder = queue.config.queue.spool_dir.clone();
        let refused = queue.config.queue.state_dir.join("refused");
        Self { queue, admission, folder, refused, nudge: Notify::new(), pass: Mutex::new(()) }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: Stop) {
        let watching = watch(&self);
        if let Err(error) = &watching {
            tracing::warn!("spool {} is polled, not watched: {error}", self.folder.display());
        }
        while !stop.is_requested() {
            let pass = self.pass().await;
            // What is stuck is tried again at the next poll, not at each new file.
            let woken = async {
                if !pass.stuck {
                    self.nudge.notified().await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = stop.requested() => {}
                () = woken => {}
                () = self.queue.clock.sleep(POLL) => {}
            }
        }
    }

    /// Takes in whatever is there now.
    pub(crate) async fn pass(&self) -> Pass {
        let _one = self.pass.lock().await;
        let mut pass = Pass::default();
        let names = match finished_names(&self.folder) {
            Ok(names) => names,
            Err(error) => {
                tracing::error!("spool {} cannot be read: {error}", self.folder.display());
                return Pass { stuck: true, ..pass };
            }
        };
        let mut stuck_users = HashSet::new();
        for name in names {
            if self.queue.intake_is_closed() || stuck_users.len() >= STUCK_USERS_MAX {
                break;
            }
            let file = self.folder.join(&name);
            // Order is kept for each user; one that must wait holds no other.
            let Ok(uid) = fs::symlink_metadata(&file).map(|meta| meta.uid()) else { continue };
            if stuck_users.contains(&uid) {
                continue;
            }
            match self.take(&file).await {
                Fate::Taken => {
                    pass.taken += 1;
                    self.remove(&file);
                }
                Fate::Refused(why) => {
                    pass.refused += 1;
                    self.set_aside(&file, &name, &why);
                }
                Fate::Later(why) => {
                    tracing::warn!("spool file {} waits: {why}", file.display());
                    pass.stuck = true;
                    stuck_users.insert(uid);
                }
            }
        }
        if pass.taken > 0 {
            tracing::info!("took {} request(s) from the spool", pass.taken);
        }
        pass
    }

    /// Number of finished files.
    pub(crate) fn files(&self) -> u64 {
        finished_names(&self.folder).map_or(0, |names| names.len() as u64)
    }

    async fn take(&self, file: &Path) -> Fate {
        let owned = file.to_owned();
        let read = tokio::task::spawn_blocking(move || read(&owned)).await;
        let (uid, bytes) = match read.expect("reading a spool file does not panic: it returns its errors") {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Fate::Refused(error.to_string());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Fate::Taken, // somebody removed it
            Err(error) => return Fate::Later(error.to_string()),
        };
        let parsed = match self.parse(&bytes, uid) {
            Ok(parsed) => parsed,
            Err(Denied::No(why)) => return Fate::Refused(why),
            Err(Denied::Unknown(why)) => return Fate::Later(why),
        };
        match self.admission.admit(parsed).await {
            Answer::Queued { .. } => Fate::Taken,
            Answer::Partly { why, .. } => {
                tracing::warn!("spool file {}: some paths were refused: {why}", file.display());
                Fate::Taken
            }
            Answer::Refused { why } => Fate::Refused(why),
            Answer::Busy { why } => Fate::Later(why),
        }
    }

    fn parse(&self, bytes: &[u8], uid: u32) -> Result<Parsed, Denied> {
        peer::may_enqueue(&self.queue.config.queue, uid, None)?;
        let (kind, payload) = split_frame(bytes).map_err(|error| Denied::No(error.to_string()))?;
        if kind != Kind::Enqueue {
            return Err(Denied::No("holds no enqueue".into()));
        }
        let parsed = parse::enqueue(payload, uid, Via::Spool).map_err(Denied::No)?;
        may_say(&self.queue, &parsed.request)?;
        Ok(parsed)
    }

    fn remove(&self, file: &Path) {
        if let Err(error) = fs::remove_file(file) {
            // It is taken in again and found to be known.
            tracing::error!("spool file {} cannot be removed: {error}", file.display());
        }
    }

    fn set_aside(&self, file: &Path, name: &OsStr, why: &str) {
        self.queue.metrics.refused_spool_file();
        let shown = file.display();
        match self.move_aside(file, name) {
            Ok(target) => tracing::error!("spool file {shown} refused, kept as {}: {why}", target.display()),
            Err(error) => {
                tracing::error!("spool file {shown} refused ({why}), but it cannot be moved aside: {error}");
            }
        }
    }

    /// Into the folder for refused files; if that is on another disk or in no good state, out of sight where it lies.
    /// Never by copying: it may be a link to a file of somebody else's, or a pipe.
    fn move_aside(&self, file: &Path, name: &OsStr) -> io::Result<PathBuf> {
        let aside = self.refused.join(name);
        if fs::create_dir_all(&self.refused).and_then(|()| fs::rename(file, &aside)).is_ok() {
            return Ok(aside);
        }
        let mut hidden = OsString::from(".refused-");
        hidden.push(name);
        let hidden = self.folder.join(hidden);
        fs::rename(file, &hidden).map(|()| hidden)
    }
}

/// True when no finished file lies in a spool folder; false when that cannot be told.
pub(crate) fn is_empty(folder: &Path) -> bool {
    finished_names(folder).is_ok_and(|names| names.is_empty())
}

/// Finished files in the order they were written: names begin with the time, and those with a dot are unfinished.
fn finished_names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The owner and the bytes of a spool file. Links, pipes and folders are refused: only the client's own file counts.
/// Whoever may write here may also replace a file while we look at it, so what was opened is looked at again.
fn read(file: &Path) -> io::Result<(u32, Vec<u8>)> {
    let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let ordinary = |meta: &Metadata| if meta.is_file() { Ok(()) } else { Err(refuse("is no ordinary file")) };
    ordinary(&fs::symlink_metadata(file)?)?;
    // Opening a link fails, and opening a pipe does not wait for its writer.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let open = fs::OpenOptions::new().read(true).custom_flags(flags).open(file)?;
    let meta = open.metadata()?;
    ordinary(&meta)?;
    if meta.len() > SPOOL_FILE_MAX as u64 {
        return Err(refuse("is larger than a request can be"));
    }
    let mut bytes = Vec::new();
    open.take(SPOOL_FILE_MAX as u64).read_to_end(&mut bytes)?; // it may be growing
    Ok((meta.uid(), bytes))
}

/// A thread that turns the kernel's events into nudges. It ends with the process.
fn watch(spool: &Arc<Spool>) -> io::Result<()> {
    let mut inotify = Inotify::init()?;
    inotify.watches().add(&spool.folder, WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE)?;
    let spool = Arc::downgrade(spool);
    std::thread::Builder::new().name("spool-watch".into()).spawn(move || {
        let mut buffer = [0; 4_096];
        while inotify.read_events_blocking(&mut buffer).is_ok() {
            let Some(spool) = spool.upgrade() else { return };
            spool.nudge.notify_one();
        }
    })?;
    Ok(())
}
