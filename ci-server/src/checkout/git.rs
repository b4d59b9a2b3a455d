//! The one door to git. A command comes in with the repository it looks at; what git said comes out, whole or as a
//! stream. Git gets an environment of ours alone: no file of the system's, the user's or a foreign repository's
//! configuration is read, no transport but the one asked for, no helper, hook, filter, pager, prompt or repair.

use std::ffi::OsString;
use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix_store::process::{self, Exit, Outcome, Spec};
use service_kit::clock::Clock;
use tokio::task::spawn_blocking;

use super::error::said;
use super::{CheckoutError, Class};

/// Longest short answer, in bytes: a hash, a few lines.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Between the request that git ends and its kill.
const GRACE: Duration = Duration::from_secs(2);
/// Bytes that are read from git at once.
const READ_BYTES: usize = 256 * 1024;

/// What may be the matter with a command that takes too long.
const TOO_MUCH: &str = "the repository is too large or its server too slow for the limit";

/// Variables of ours that git and its helpers get: where programs, proxies and certificates are.
const PASSED: [&str; 13] = [
    "PATH",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "LD_LIBRARY_PATH",
    "LOCALE_ARCHIVE",
];

/// What holds for each command, whatever a configuration says.
const SETTINGS: [(&str, &str); 34] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.autocrlf", "false"),
    ("core.eol", "lf"),
    ("core.safecrlf", "false"),
    ("core.symlinks", "true"),
    ("core.fileMode", "true"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("core.askPass", ""),
    ("core.sshCommand", ""),
    ("core.gitProxy", ""),
    ("core.pager", "cat"),
    ("core.commitGraph", "false"),
    ("core.multiPackIndex", "false"),
    ("core.quotePath", "false"),
    ("core.fsync", "committed,reference"),
    ("credential.helper", ""),
    ("diff.external", ""),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("fetch.fsckObjects", "true"),
    ("transfer.fsckObjects", "true"),
    ("transfer.bundleURI", "false"),
    ("fetch.unpackLimit", "1"),
    ("fetch.writeCommitGraph", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("http.followRedirects", "initial"),
    ("protocol.allow", "never"),
    ("protocol.version", "2"),
];

/// Marks of git's messages that say that it may go better next time.
const PASSING: [&str; 16] = [
    "Could not resolve host",
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "Failed to connect",
    "Couldn't connect",
    "Operation timed out",
    "early EOF",
    "unexpected disconnect",
    "hung up unexpectedly",
    "RPC failed",
    "HTTP 5",
    "error: 5",
    "error: 429",
    "No space left on device",
    "Unable to create",
];

/// A repository as git looks at it: a folder of ours, and the objects of somebody else's beside it.
#[derive(Clone, Debug)]
pub(super) struct Repository {
    /// A bare repository that we made, with a configuration of ours.
    pub(super) git_dir: PathBuf,
    /// A foreign store of objects that is read, never written.
    pub(super) objects: Option<PathBuf>,
    /// Where that one's history was cut off.
    pub(super) shallow: Option<PathBuf>,
    /// As people know it.
    pub(super) name: String,
}

/// A command of git.
#[derive(Clone)]
pub(super) struct Command {
    spec: Spec,
    settings: Vec<(String, OsString)>,
    tried: String,
    limit: Duration,
    /// What may be the matter when the limit is reached.
    matter: &'static str,
}

impl Command {
    /// `git ARGS` at the root of the file system, whatever folder this program was started in: it looks at no repository,
    /// also at none that is broken. `tried` completes "could not …".
    pub(super) fn new(tried: impl Into<String>, limit: Duration) -> Self {
        let mut spec = Spec::new("git");
        spec.cwd = Some(PathBuf::from("/"));
        spec.env.clear = true;
        spec.grace = GRACE;
        spec.stdout_tail = ANSWER_BYTES_MAX;
        for name in PASSED {
            if let Some(value) = std::env::var_os(name) {
                spec = spec.env(name, value);
            }
        }
        let fixed = [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_PROTOCOL_FROM_USER", "0"),
            ("GIT_ALLOW_PROTOCOL", "none"),
            ("GIT_PAGER", "cat"),
            ("GIT_ADVICE", "0"),
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C"),
        ];
        for (name, value) in fixed {
            spec = spec.env(name, value);
        }
        let settings =
            SETTINGS.iter().map(|(key, value)| ((*key).to_owned(), OsString::from(value))).collect();
        Self { spec, settings, tried: tried.into(), limit, matter: TOO_MUCH }
    }

    /// `git ARGS` that looks at this repository and no other.
    pub(super) fn of(repository: &Repository, tried: impl Into<String>, limit: Duration) -> Self {
        let mut command = Self::new(tried, limit).env("GIT_DIR", &repository.git_dir);
        command.spec.cwd = Some(repository.git_dir.clone());
        if let Some(objects) = &repository.objects {
            command = command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted(objects));
        }
        if let Some(shallow) = &repository.shallow {
            command = command.env("GIT_SHALLOW_FILE", shallow);
        }
        command
    }

    pub(super) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.spec.args.push(arg.into());
        self
    }

    pub(super) fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.spec.args.extend(args.into_iter().map(OsString::from));
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.spec = self.spec.env(name, value);
        self
    }

    /// A setting for this command, seen by nobody but git: it travels in the environment.
    pub(super) fn setting(mut self, key: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }

    /// Another limit in time, and what may be the matter when it is reached.
    pub(super) fn within(mut self, limit: Duration, matter: &'static str) -> Self {
        (self.limit, self.matter) = (limit, matter);
        self
    }

    /// Lets it use one transport.
    pub(super) fn transport(self, protocol: &str) -> Self {
        self.env("GIT_ALLOW_PROTOCOL", protocol).setting(format!("protocol.{protocol}.allow"), "always")
    }

    fn finished(&self) -> Spec {
        let mut spec = self.spec.clone().env("GIT_CONFIG_COUNT", self.settings.len().to_string());
        for (index, (key, value)) in self.settings.iter().enumerate() {
            spec = spec.env(format!("GIT_CONFIG_KEY_{index}"), key);
            spec = spec.env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        spec.wall = Some(self.limit);
        spec
    }

    /// Runs it; what it says on success, at most [`ANSWER_BYTES_MAX`], or `None` when it says no with code 1. Whoever
    /// drops this ends git and all that git started.
    pub(super) async fn answer(&self) -> Result<Option<Vec<u8>>, CheckoutError> {
        self.answer_within(ANSWER_BYTES_MAX).await
    }

    /// The same with another bound.
    pub(super) async fn answer_within(&self, bytes_max: usize) -> Result<Option<Vec<u8>>, CheckoutError> {
        let mut command = self.clone();
        command.spec.stdout_tail = bytes_max;
        command.answered().await
    }

    async fn answered(&self) -> Result<Option<Vec<u8>>, CheckoutError> {
        let outcome = self.outcome(std::future::pending()).await?;
        if outcome.exit == Exit::Exited(1) && outcome.stderr_tail.bytes.is_empty() {
            return Ok(None);
        }
        self.judge(&outcome)?;
        if outcome.stdout_tail.dropped > 0 {
            return Err(self.nonsense(&outcome.stdout_tail.bytes));
        }
        Ok(Some(outcome.stdout_tail.bytes))
    }

    /// Runs it to its end, however that is, or until `stop`.
    pub(super) async fn outcome(&self, stop: impl Future<Output = ()>) -> Result<Outcome, CheckoutError> {
        process::run(&self.finished(), stop).await.map_err(|source| self.unstarted(source))
    }

    /// Starts it, gives it `request` on its input, and has `read` take what it says. A `read` that fails ends it.
    pub(super) async fn stream<T: Send + 'static>(
        &self,
        clock: &Clock,
        request: Vec<u8>,
        read: impl FnOnce(&mut BufReader<UnixStream>) -> Result<T, CheckoutError> + Send + 'static,
    ) -> Result<T, CheckoutError> {
        match clock.timeout(self.limit, self.streamed(request, read)).await {
            Ok(result) => result,
            Err(_) => Err(self.too_long(self.limit)),
        }
    }

    async fn streamed<T: Send + 'static>(
        &self,
        request: Vec<u8>,
        read: impl FnOnce(&mut BufReader<UnixStream>) -> Result<T, CheckoutError> + Send + 'static,
    ) -> Result<T, CheckoutError> {
        let lost = |source| self.unstarted(process::ProcessError::Lost { program: "git".into(), source });
        let talk = process::talk(&self.finished()).await.map_err(|source| self.unstarted(source))?;
        let (to, from) = (talk.stream().map_err(lost)?, talk.stream().map_err(lost)?);
        let writing = spawn_blocking(move || ask(to, &request));
        let reading = spawn_blocking(move || {
            let mut from = BufReader::with_capacity(READ_BYTES, from);
            let result = read(&mut from);
            (result, drained(&mut from))
        });
        let (result, is_drained) = reading.await.map_err(|error| lost(io::Error::other(error)))?;
        if result.is_err() && !is_drained {
            return result; // it has more to say that nobody wants: dropping the talk ends it
        }
        let _ = writing.await; // what was not asked is not answered, which `read` has judged
        let outcome = talk.end().await.map_err(|source| self.unstarted(source))?;
        self.judge(&outcome)?;
        result
    }

    /// What a command that did not exit with 0 means.
    pub(super) fn judge(&self, outcome: &Outcome) -> Result<(), CheckoutError> {
        match outcome.exit {
            Exit::Exited(0) => Ok(()),
            Exit::TimedOut { after, .. } => Err(self.too_long(after)),
            Exit::Exited(_) | Exit::Signaled(_) | Exit::Cancelled => {
                Err(self.failed(&outcome.stderr_tail.bytes))
            }
        }
    }

    fn too_long(&self, after: Duration) -> CheckoutError {
        CheckoutError::TooLong { tried: self.tried.clone(), after, matter: self.matter }
    }

    fn failed(&self, stderr: &[u8]) -> CheckoutError {
        let text = String::from_utf8_lossy(stderr);
        let passing = PASSING.iter().any(|mark| text.contains(mark));
        CheckoutError::Git {
            tried: self.tried.clone(),
            said: if text.trim().is_empty() { "nothing".to_owned() } else { said(stderr) },
            remedy: remedy(&text),
            class: if passing { Class::Retry } else { Class::Permanent },
        }
    }

    fn unstarted(&self, source: process::ProcessError) -> CheckoutError {
        CheckoutError::Process { tried: self.tried.clone(), source }
    }

    pub(super) fn nonsense(&self, answer: &[u8]) -> CheckoutError {
        CheckoutError::Answer { tried: self.tried.clone(), answer: said(answer) }
    }

    /// Runs it in another folder.
    pub(super) fn cwd(mut self, folder: &Path) -> Self {
        self.spec.cwd = Some(folder.to_owned());
        self
    }
}

fn ask(mut to: UnixStream, request: &[u8]) -> io::Result<()> {
    to.write_all(request)?;
    to.shutdown(Shutdown::Write)
}

/// Has it said everything?
fn drained(from: &mut BufReader<UnixStream>) -> bool {
    use std::io::BufRead;
    from.fill_buf().is_ok_and(<[u8]>::is_empty)
}

fn remedy(text: &str) -> &'static str {
    let has = |mark: &str| text.contains(mark);
    if has("Authentication failed") || has("could not read Username") || has("Permission denied (publickey") {
        "check the credential that is configured for this repository, and that it may read it"
    } else if has("Host key verification failed") {
        "add the host's key to the configured known_hosts file"
    } else if has("not found") || has("does not exist") || has("does not appear to be a git repository") {
        "check the repository's address, and that the credential may see it"
    } else if has("fsck error") || has("object of unexpected type") {
        "the repository carries an object that git takes for malformed or hostile: remove it there"
    } else if has("unadvertised object") {
        "the server gives no commit by its hash: allow it there (uploadpack.allowReachableSHA1InWant), or name the branch it is on"
    } else if has("tree depth") {
        "the repository has folders nested deeper than git allows: remove them there"
    } else if has("No space left") {
        "make room on the disk of the checkouts"
    } else if has("lazy fetching disabled")
        || has("promisor")
        || has("could not get object info")
        || has("missing")
    {
        "the repository lacks objects (a partial or damaged clone): fetch them there, for example by `git fetch --refetch`"
    } else {
        "see whether the repository can be read with git by hand"
    }
}

/// As git reads it in a list of folders, whatever bytes it has.
fn quoted(path: &Path) -> OsString {
    let mut quoted = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', *byte]),
            0x20..=0x7e => quoted.push(*byte),
            _ => quoted.extend(format!("\\{byte:03o}").into_bytes()),
        }
    }
    quoted.push(b'"');
    OsString::from_vec(quoted)
}
