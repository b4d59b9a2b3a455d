//! One push, by us and by `nix copy`. Paths and destinations come in; what it took of processor and clock goes out,
//! once everything has arrived. Each run has a fresh queue and fresh destinations, which go away with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Run;
use crate::closure::Closure;
use crate::error::{BenchError, Doing};
use crate::nix;
use crate::sys::{cpu_of, memory_of};
use crate::wire::{enqueue, enqueue_frame, paths_per_frame};
use crate::world::pause;

/// Work of the daemon that nobody waits for is over by then, and counts.
const AFTERMATH: Duration = Duration::from_millis(300);

/// What a push took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Took {
    /// Of user and system, in our own process and its children.
    pub(crate) cpu: Duration,
    /// From the first request to the last receipt, or to the end of the program.
    pub(crate) wall: Duration,
    /// The most memory the daemon held since its start, in bytes; 0 where it was not asked for.
    pub(crate) peak_bytes: u64,
}

/// How paths are handed to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requests {
    /// One request for each path, as Nix' hook makes them.
    Each,
    /// As few as frames allow.
    Together,
}

/// The caches of one run. When it goes their files are emptied and stay: ext4 looks at every file number that was
/// freed in the last minutes before it gives out another, and the next run would pay for it.
pub(crate) struct Caches {
    folder: PathBuf,
    urls: Vec<String>,
}

impl Caches {
    /// So many `file://` caches with these parameters, below the folder of the run.
    pub(crate) fn files(run: &Run<'_>, count: usize, parameters: &str) -> Result<Self, BenchError> {
        let folder = run.world.fresh("caches")?;
        let url = |number| format!("file://{}/{number}?{parameters}", folder.display());
        Ok(Self { urls: (0..count).map(url).collect(), folder })
    }

    /// The first.
    pub(crate) fn url(&self) -> &str {
        &self.urls[0]
    }

    /// That each cache has so many paths.
    fn check(&self, paths: usize) -> Result<(), BenchError> {
        for number in 0..self.urls.len() {
            let cache = self.folder.join(number.to_string());
            let entries = fs::read_dir(&cache).doing(format!("look into {}", cache.display()))?;
            let is_narinfo = |path: &Path| path.extension().is_some_and(|end| end == "narinfo");
            let found = entries.filter_map(Result::ok).filter(|entry| is_narinfo(&entry.path())).count();
            if found != paths {
                let what = format!("find {paths} paths in {}: there are {found}", cache.display());
                return Err(BenchError::new(what));
            }
        }
        Ok(())
    }
}

impl Drop for Caches {
    fn drop(&mut self) {
        for number in 0..self.urls.len() {
            let archives = fs::read_dir(self.folder.join(number.to_string()).join("nar"));
            for archive in archives.into_iter().flatten().filter_map(Result::ok) {
                // The room is given back when the whole run ends at the latest.
                let _ = fs::File::options().write(true).truncate(true).open(archive.path());
            }
        }
    }
}

/// Pushes with a daemon of its own.
pub(crate) fn ours(
    run: &Run<'_>,
    closure: &Closure,
    caches: &Caches,
    paths: &[String],
    requests: Requests,
) -> Result<Took, BenchError> {
    let took = daemon(run, closure, &caches.urls, &[], |socket| match requests {
        Requests::Each => paths.iter().try_for_each(|path| request(socket, std::slice::from_ref(path))),
        Requests::Together => request(socket, paths),
    })?;
    caches.check(paths.len())?;
    Ok(took)
}

/// A daemon with these destinations, from the first request to all receipts.
pub(crate) fn daemon(
    run: &Run<'_>,
    closure: &Closure,
    urls: &[String],
    variables: &[(&str, &str)],
    enqueue: impl FnOnce(&Path) -> Result<(), BenchError>,
) -> Result<Took, BenchError> {
    let folder = run.world.fresh("queue")?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let key = closure.key_file();
    let keys = format!("signing_key_files = [\"{}\"]", key.display());
    let cache = |(number, url): (usize, &String)| {
        format!("[[caches]]\nid = \"bench-{number}\"\ncache_type = \"nix-copy\"\ndestination = \"{url}\"\n\n")
    };
    let blocks: String = urls.iter().enumerate().map(cache).collect();
    let site = run.world.site_of(&closure.nix, &name, &keys, &blocks)?;
    let daemon = site.start_with(variables)?;
    rustix::fs::sync(); // what others wrote is not written on our time
    let before = cpu_of(daemon.pid()).doing("ask for the daemon's processor time")?;
    let started = Instant::now();
    enqueue(&site.socket())?;
    site.wait_for_all()?;
    let wall = started.elapsed();
    pause(AFTERMATH);
    let after = cpu_of(daemon.pid()).doing("ask for the daemon's processor time")?;
    let peak_bytes = memory_of(daemon.pid()).doing("ask for the daemon's memory")?.peak_bytes;
    Ok(Took { cpu: after.saturating_sub(before), wall, peak_bytes })
}

/// Queues paths, in as few requests as frames allow.
pub(crate) fn request(socket: &Path, paths: &[String]) -> Result<(), BenchError> {
    let per_frame = paths.iter().map(String::len).max().map_or(1, paths_per_frame);
    for paths in paths.chunks(per_frame) {
        let accepted = enqueue(socket, &enqueue_frame(paths)?)?;
        if accepted == 0 {
            return Err(BenchError::new("queue paths: none was accepted"));
        }
    }
    Ok(())
}

/// The `nix copy` of this machine.
pub(crate) struct NixCopy(PathBuf);

impl NixCopy {
    pub(crate) fn find() -> Result<Self, BenchError> {
        nix::find("nix").map(Self)
    }

    /// Pushes to a cache, with one process for all paths or for each.
    pub(crate) fn push(
        &self,
        closure: &Closure,
        caches: &Caches,
        paths: &[String],
        requests: Requests,
    ) -> Result<Took, BenchError> {
        let took = self.to(closure, caches.url(), paths, requests)?;
        caches.check(paths.len())?;
        Ok(took)
    }

    /// The same, to anywhere.
    pub(crate) fn to(
        &self,
        closure: &Closure,
        url: &str,
        paths: &[String],
        requests: Requests,
    ) -> Result<Took, BenchError> {
        let url = format!("{url}&secret-key={}", closure.key_file().display());
        let per_process = match requests {
            Requests::Each => 1,
            Requests::Together => paths.len().max(1),
        };
        let mut all = Took::default();
        rustix::fs::sync();
        for paths in paths.chunks(per_process) {
            let mut arguments = vec!["copy", "--to", &url];
            arguments.extend(paths.iter().map(String::as_str));
            let ended = closure.nix.program(&self.0, &arguments)?.run().doing("start nix copy")?;
            if ended.code != Some(0) {
                return Err(BenchError::new(format!("run nix copy --to {url}: {ended:?}")));
            }
            all.cpu += ended.cpu;
            all.wall += ended.took;
        }
        Ok(all)
    }
}
