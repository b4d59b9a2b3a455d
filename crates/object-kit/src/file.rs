//! Objects as files below a folder. In: keys and bodies. Out: files that appear whole and flushed, or not at all.
//!
//! A put writes a temporary file beside its place; [`Objects::settle`] flushes all of them together, gives them their
//! names in the order of the puts, and flushes each folder once. Until then nothing of it is seen. So hundreds of small
//! objects cost few flushes, and what is to be seen only after something else is put after a settle.
//!
//! A [`File`] is one writer's: open one for each group of objects that belong together, which costs nothing. When
//! settling fails, everything since the last time is gone and has to be put again.

mod scan;
mod stage;
mod threads;

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use service_kit::clock::Clock;
use tokio::task::JoinHandle;

use crate::body::Counted;
use crate::error::{Class, Fault, ObjectError};
use crate::{
    Body, BodySize, Found, Head, Meta, Mode, NewObject, Objects, Outcome, Page, Put, Throttle, Work,
    key as keys,
};
pub use scan::Swept;
use stage::{Staged, settle};
pub use threads::Threads;

/// A long file goes to the disk by so many bytes while more of it comes, so that its end has no long wait in store.
const FLUSH_EVERY: u64 = 16 << 20;
/// How long one operation may stand still, unless [`File::on`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The objects below a folder, and those of one writer that are not settled yet.
#[derive(Debug)]
pub struct File {
    root: Arc<PathBuf>,
    shown: String,
    clock: Clock,
    throttles: Vec<Arc<Throttle>>,
    threads: Arc<Threads>,
    staged: Mutex<Vec<Staged>>,
    /// One settle after the other. True while what an earlier one came to was told to nobody.
    in_doubt: Arc<tokio::sync::Mutex<bool>>,
}

impl File {
    /// The objects below `root`, which is made when something is put. Touches nothing yet.
    #[must_use]
    pub fn new(root: &Path, clock: Clock, throttles: Vec<Arc<Throttle>>) -> Self {
        Self {
            root: Arc::new(root.to_owned()),
            shown: root.display().to_string(),
            threads: Arc::new(Threads::new(clock.clone(), TIMEOUT)),
            clock,
            throttles,
            staged: Mutex::default(),
            in_doubt: Arc::default(),
        }
    }

    /// The same, whose work is done by these threads: all writers of one folder share them.
    #[must_use]
    pub fn on(mut self, threads: Arc<Threads>) -> Self {
        self.threads = threads;
        self
    }

    /// Removes temporary files of processes that ended, in these folders below the root (`""` is the root itself), when
    /// they are older than a day. Files of other names are not touched.
    ///
    /// # Errors
    /// [`ObjectError`] of [`Class::Local`] when a folder cannot be read. One that is not there has nothing to sweep.
    pub async fn sweep(&self, folders: &[&str]) -> Result<Swept, ObjectError> {
        let folders: Vec<PathBuf> = folders.iter().map(|folder| self.root.join(folder)).collect();
        let now = self.clock.now();
        self.threads.run(move || scan::sweep(&folders, now)).await.map_err(self.error("sweep", ""))
    }

    fn error(&self, tried: &'static str, key: &str) -> impl FnOnce(Fault) -> ObjectError {
        move |fault| ObjectError::new(tried, key, &self.shown, fault)
    }

    fn path(&self, key: &str) -> Result<PathBuf, Fault> {
        keys::check(key)?;
        Ok(self.root.join(key))
    }

    /// Takes a written file to those that the next settle makes visible.
    fn stage(&self, staged: Staged) {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).push(staged);
    }

    /// Writes objects whose bytes are at hand, all in one go; ends behind the first that fails or is left as it was.
    async fn write_all(&self, objects: Vec<NewObject>) -> Vec<Result<Put, ObjectError>> {
        for NewObject { body, .. } in &objects {
            for throttle in &self.throttles {
                throttle.take(u64::try_from(body.len()).unwrap_or(u64::MAX)).await;
            }
        }
        let names: Vec<String> = objects.iter().map(|object| object.key.clone()).collect();
        let (root, threads) = (Arc::clone(&self.root), Arc::clone(&self.threads));
        let written = self.threads.run(move || {
            let mut written = Vec::with_capacity(objects.len());
            for object in objects {
                let one = write_one(&root, &object, &threads);
                let goes_on = one.as_ref().is_ok_and(|(put, _)| put.outcome == Outcome::Stored);
                written.push(one);
                if !goes_on {
                    break;
                }
            }
            Ok(written)
        });
        let written = written.await.unwrap_or_else(|fault| vec![Err(fault)]);
        let mut puts = Vec::with_capacity(written.len());
        for (key, written) in names.iter().zip(written) {
            puts.push(written.map_err(self.error("put", key)).map(|(put, staged)| {
                staged.into_iter().for_each(|staged| self.stage(staged));
                put
            }));
        }
        puts
    }

    async fn write(&self, key: &str, body: &mut dyn Body, meta: &Meta, size: BodySize) -> Result<Put, Fault> {
        let path = self.path(key)?;
        let (root, mode) = (Arc::clone(&self.root), meta.mode.clone());
        let threads = Arc::clone(&self.threads);
        let begun = self.threads.run(move || {
            if stays(&mode, &path) {
                return Ok(None);
            }
            Staged::begin(&root, &path, mode, &threads).map(Some).map_err(Fault::local)
        });
        let Some(mut staged) = begun.await? else {
            return Ok(Put { outcome: Outcome::Existed, bytes: 0 });
        };
        let mut counted = Counted::new(body, size);
        let (mut flushing, mut unflushed) = (None, 0_u64);
        while let Some(chunk) = counted.next().await? {
            let len = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            for throttle in &self.throttles {
                throttle.take(len).await;
            }
            staged = self.threads.run(move || staged.write(&chunk).map_err(Fault::local)).await?;
            if let Some(moved) = &meta.moved {
                moved(len);
            }
            unflushed = unflushed.saturating_add(len);
            if unflushed >= FLUSH_EVERY && flushing.as_ref().is_none_or(JoinHandle::is_finished) {
                flushed(flushing.take()).await?;
                let file = staged.another_handle().map_err(Fault::local)?;
                let threads = Arc::clone(&self.threads);
                let flush = move || file.sync_data().map_err(Fault::local);
                flushing = Some(tokio::spawn(async move { threads.run(flush).await }));
                unflushed = 0;
            }
        }
        let bytes = counted.got();
        // The system tells of a write that failed once, to whoever flushes first.
        flushed(flushing).await?;
        let staged = self.threads.run(move || staged.finish().map_err(Fault::local)).await?;
        self.stage(staged);
        Ok(Put { outcome: Outcome::Stored, bytes })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let staged = std::mem::take(&mut *self.staged.lock().unwrap_or_else(PoisonError::into_inner));
        if !staged.is_empty() {
            self.threads.later(move || drop(staged));
        }
    }
}

impl Objects for File {
    fn get<'a>(&'a self, key: &'a str, bytes_max: usize) -> Work<'a, Result<Option<Found>, ObjectError>> {
        Box::pin(async move {
            let read = async {
                let path = self.path(key)?;
                self.threads.run(move || get(&path, bytes_max)).await
            };
            read.await.map_err(self.error("get", key))
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Work<'a, Result<Option<Head>, ObjectError>> {
        Box::pin(async move {
            let look = async {
                let path = self.path(key)?;
                self.threads.run(move || absent(fs::metadata(&path).map(|meta| head(&meta)))).await
            };
            look.await.map_err(self.error("look for", key))
        })
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, meta: &'a Meta) -> Work<'a, Result<Put, ObjectError>> {
        Box::pin(async move {
            let object = NewObject { key: key.to_owned(), body, meta: meta.clone() };
            self.write_all(vec![object]).await.pop().expect("one object was given")
        })
    }

    fn is_local(&self) -> bool {
        true
    }

    fn get_all<'a>(
        &'a self,
        keys: &'a [String],
        bytes_max: usize,
    ) -> Work<'a, Vec<Result<Option<Found>, ObjectError>>> {
        Box::pin(async move {
            let paths: Vec<Result<PathBuf, Fault>> = keys.iter().map(|key| self.path(key)).collect();
            let read = self.threads.run(move || {
                Ok(paths.into_iter().map(|path| path.and_then(|path| get(&path, bytes_max))).collect())
            });
            // Without a thread for it nothing was read.
            let read: Vec<_> = read.await.unwrap_or_else(|fault| vec![Err(fault)]);
            keys.iter().zip(read).map(|(key, found)| found.map_err(self.error("get", key))).collect()
        })
    }

    fn put_all<'a>(&'a self, objects: &'a [NewObject]) -> Work<'a, Vec<Result<Put, ObjectError>>> {
        Box::pin(self.write_all(objects.to_vec()))
    }

    fn put_stream<'a>(
        &'a self,
        key: &'a str,
        body: &'a mut dyn Body,
        meta: &'a Meta,
        size: BodySize,
    ) -> Work<'a, Result<Put, ObjectError>> {
        Box::pin(async move { self.write(key, body, meta, size).await.map_err(self.error("put", key)) })
    }

    fn list<'a>(
        &'a self,
        cursor: Option<&'a str>,
        keys_max: usize,
    ) -> Work<'a, Result<Option<Page>, ObjectError>> {
        let (root, after) = (Arc::clone(&self.root), cursor.unwrap_or_default().to_owned());
        Box::pin(async move {
            let listed = self.threads.run(move || scan::list(&root, &after, keys_max).map_err(Fault::local));
            listed.await.map(Some).map_err(self.error("list", ""))
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> Work<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            let remove = async {
                let path = self.path(key)?;
                self.threads.run(move || absent(fs::remove_file(&path)).map(drop)).await
            };
            remove.await.map_err(self.error("delete", key))
        })
    }

    fn settle<'a>(&'a self) -> Work<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            // The work goes on when this future is dropped, and keeps its turn until it is done.
            let turn = self.threads.in_time(Arc::clone(&self.in_doubt).lock_owned()).await;
            let mut in_doubt = turn.map_err(self.error("settle", ""))?;
            let failed = std::mem::replace(&mut *in_doubt, false);
            if failed {
                return Err(self.error("settle", "")(Fault::local(LostError)));
            }
            let staged = std::mem::take(&mut *self.staged.lock().unwrap_or_else(PoisonError::into_inner));
            let settled = self.threads.run(move || {
                *in_doubt = true;
                let settled = settle(staged).map_err(Fault::local);
                *in_doubt = settled.is_err();
                drop(in_doubt);
                settled
            });
            let settled = settled.await;
            // One that is stuck still has its turn, and what it came to is told to nobody.
            if settled.as_ref().is_err_and(|fault| fault.class != Class::Stuck) {
                *self.in_doubt.lock().await = false;
            }
            settled.map_err(self.error("settle", ""))
        })
    }
}

/// Whether what is there is to be left.
fn stays(mode: &Mode, path: &Path) -> bool {
    match mode {
        Mode::Replace => false,
        Mode::Create => path.symlink_metadata().is_ok(),
        Mode::Match(tag) => !fs::metadata(path).is_ok_and(|meta| head(&meta).tag.as_ref() == Some(tag)),
    }
}

/// Writes a whole object; gives what is to be settled, unless one was there that stays.
fn write_one(
    root: &Path,
    object: &NewObject,
    threads: &Arc<Threads>,
) -> Result<(Put, Option<Staged>), Fault> {
    let NewObject { key, body, meta } = object;
    keys::check(key)?;
    let path = root.join(key);
    if stays(&meta.mode, &path) {
        return Ok((Put { outcome: Outcome::Existed, bytes: 0 }, None));
    }
    let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
    let staged = Staged::begin(root, &path, meta.mode.clone(), threads);
    let staged = staged.and_then(|staged| staged.write(body)).and_then(Staged::finish);
    let staged = staged.map_err(Fault::local)?;
    if let Some(moved) = &meta.moved {
        moved(bytes);
    }
    Ok((Put { outcome: Outcome::Stored, bytes }, Some(staged)))
}

/// Waits for a flush that was begun.
async fn flushed(flushing: Option<JoinHandle<Result<(), Fault>>>) -> Result<(), Fault> {
    let Some(flushing) = flushing else { return Ok(()) };
    flushing.await.map_err(Fault::local)?
}

/// Nothing there is an answer.
fn absent<T>(result: io::Result<T>) -> Result<Option<T>, Fault> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Fault::local(error)),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("an earlier settle failed after its caller had gone; put everything since the one before it again")]
struct LostError;

#[derive(Debug, thiserror::Error)]
#[error("the file has more than {0} bytes")]
struct FileTooLong(usize);

fn get(path: &Path, bytes_max: usize) -> Result<Option<Found>, Fault> {
    let Some(file) = absent(fs::File::open(path))? else { return Ok(None) };
    let meta = file.metadata().map_err(Fault::local)?;
    if !meta.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Fault::local)?;
    if bytes.len() > bytes_max {
        return Err(Fault::new(Class::Server, FileTooLong(bytes_max)));
    }
    let tag = head(&meta).tag;
    Ok(Some(Found { bytes: bytes.into(), content_encoding: None, tag, modified: None }))
}

fn head(meta: &fs::Metadata) -> Head {
    let tag = format!("{}-{}.{:09}-{}", meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len());
    Head { size: Some(meta.len()), tag: Some(tag) }
}
