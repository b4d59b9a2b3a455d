//! `eka-queue backup`: a copy of the queue, taken while it is in use, into a file.
//!
//! In flows a target; out flows the file, complete or not at all. The daemon takes the snapshot and sends it; without
//! one the state folder is locked and read here. The file is written by this process, as whoever started it.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use service_kit::clock::{Clock, Time};
use service_kit::telemetry::chain;
use sha2::{Digest, Sha256};
use sqlite_kit::{Durability, Options};

use super::draft::Draft;
use super::{ask, fail, out};
use crate::backup::{self, DATABASE, Snapshot, Source};
use crate::cli::{BackupArgs, EXIT_BAD, EXIT_OK, EXIT_UNAVAILABLE};
use crate::config::Config;
use crate::control::client::{ClientError, Patience, ask_with, fetch};
use crate::control::protocol::Request;
use crate::store::schema::APPLICATION_ID;

/// How long the daemon may take to note that a backup is kept.
const NOTE_TIME: Duration = Duration::from_secs(10);
/// Bytes copied at a time.
const CHUNK_BYTES: usize = 1 << 16;

/// Why there is no backup. Nothing is left of it.
enum Trouble {
    /// The daemon.
    Ask(ClientError),
    /// Anything else, with the code.
    Said(String, u8),
}

pub(super) fn run(config: &Config, arguments: &BackupArgs, json: bool) -> ExitCode {
    let target = target_of(&arguments.target);
    match back_up(config, arguments, &target) {
        Ok((snapshot, by_daemon)) => {
            let _ = out(&told(&target, &snapshot, by_daemon, json)); // nobody reads it; the file is there
            EXIT_OK.into()
        }
        Err(Trouble::Ask(error)) => ask::failed(&error, json),
        Err(Trouble::Said(message, code)) => {
            if json {
                let _ = super::print::error_json(&message); // the exit code says the rest
            }
            fail(&message, code)
        }
    }
}

/// A folder gets a file that is named after the moment.
fn target_of(named: &Path) -> PathBuf {
    if !named.is_dir() {
        return named.to_owned();
    }
    named.join(format!("eka-queue-{}.db", backup::time_in_name(Clock::system().now())))
}

fn back_up(config: &Config, arguments: &BackupArgs, target: &Path) -> Result<(Snapshot, bool), Trouble> {
    let cannot_write = |error| Trouble::Said(cannot_write(target, &error), EXIT_BAD);
    let mut draft = Draft::begin(target, arguments.force).map_err(cannot_write)?;
    let socket = &config.queue.control_socket;
    let (snapshot, by_daemon) = match from_daemon(socket, arguments, target, &mut draft) {
        Err(Trouble::Ask(error @ ClientError::Unreachable { .. })) => {
            (at_rest(config, target, &mut draft, error)?, false)
        }
        snapshot => (snapshot?, true),
    };
    draft.finish().map_err(cannot_write)?;
    if by_daemon {
        let kept = Request::BackedUp { taken_ms: snapshot.taken_ms };
        if let Err(error) = ask_with(socket, &kept, Patience::Silence(NOTE_TIME), |_| Ok(())) {
            eprintln!("eka-queue: the backup is complete, but its time was not noted: {}", chain(&error));
        }
    }
    Ok((snapshot, by_daemon))
}

fn from_daemon(
    socket: &Path,
    arguments: &BackupArgs,
    target: &Path,
    draft: &mut Draft,
) -> Result<Snapshot, Trouble> {
    let mut ours = None;
    let received = fetch(socket, Patience::Silence(arguments.timeout), |snapshot, body| {
        let copied = copy(body, snapshot, draft);
        copied.map_err(|error| match error {
            Copying::Read(error) => error,
            Copying::Write(error) => {
                ours = Some(cannot_write(target, &error));
                error
            }
            Copying::Differs => {
                ours = Some("the backup came over damaged and was thrown away; try again".to_owned());
                ErrorKind::InvalidData.into()
            }
        })
    });
    match (ours, received) {
        (Some(message), _) => Err(Trouble::Said(message, EXIT_BAD)),
        (None, received) => received.map_err(Trouble::Ask),
    }
}

/// No daemon runs; `unreachable` is what is said when there is nothing to read either, or one does run.
fn at_rest(
    config: &Config,
    target: &Path,
    draft: &mut Draft,
    unreachable: ClientError,
) -> Result<Snapshot, Trouble> {
    let state_dir = &config.queue.state_dir;
    let path = state_dir.join(DATABASE);
    if !path.is_file() {
        return Err(Trouble::Ask(unreachable));
    }
    let Ok(_lock) = backup::lock(state_dir) else { return Err(Trouble::Ask(unreachable)) };
    let options = Options { path, durability: Durability::Full, vfs: None, application_id: APPLICATION_ID };
    let now = Clock::system().now();
    let taken = backup::take(&Source::AtRest(&options), state_dir, &config.queue.spool_dir, now);
    let (mut file, snapshot) = taken
        .map_err(|error| Trouble::Said(format!("no backup was made: {}", chain(&error)), EXIT_UNAVAILABLE))?;
    match copy(&mut file, &snapshot, draft) {
        Ok(()) => Ok(snapshot),
        Err(Copying::Write(error)) => Err(Trouble::Said(cannot_write(target, &error), EXIT_BAD)),
        Err(Copying::Read(error)) => {
            Err(Trouble::Said(format!("no backup was made: its snapshot cannot be read: {error}"), EXIT_UNAVAILABLE))
        }
        Err(Copying::Differs) => Err(Trouble::Said(
            "no backup was made: its snapshot does not read as it was written; see to the disk of the state folder"
                .to_owned(),
            EXIT_UNAVAILABLE,
        )),
    }
}

/// Which side of a copy failed.
enum Copying {
    Read(io::Error),
    Write(io::Error),
    Differs,
}

/// Exactly the bytes of the snapshot, checked.
fn copy(from: &mut dyn Read, snapshot: &Snapshot, to: &mut Draft) -> Result<(), Copying> {
    let (mut hash, mut chunk, mut left) = (Sha256::new(), vec![0; CHUNK_BYTES], snapshot.bytes);
    while left > 0 {
        let most = CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES));
        match from.read(&mut chunk[..most]) {
            Ok(0) => return Err(Copying::Read(ErrorKind::UnexpectedEof.into())),
            Ok(n) => {
                to.write_all(&chunk[..n]).map_err(Copying::Write)?;
                hash.update(&chunk[..n]);
                left -= n as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Copying::Read(error)),
        }
    }
    if backup::hex(&hash.finalize()) == snapshot.sha256 { Ok(()) } else { Err(Copying::Differs) }
}

fn cannot_write(target: &Path, error: &io::Error) -> String {
    let target = target.display();
    match error.kind() {
        ErrorKind::AlreadyExists => {
            format!("{target} exists; name another file, or say --force to replace it")
        }
        _ => format!("cannot write the backup {target}; nothing is left of it: {error}"),
    }
}

fn told(target: &Path, snapshot: &Snapshot, by_daemon: bool, json: bool) -> String {
    let Snapshot { bytes, sha256, schema, version, taken_ms, push_since_ms } = snapshot;
    let (taken, since) = (Time::from_ms(*taken_ms), Time::from_ms(*push_since_ms));
    if json {
        let file = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        return json!({
            "file": file, "bytes": bytes, "sha256": sha256, "schema": schema, "version": version,
            "taken_at": taken.to_string(), "push_since": since.to_string(), "by_daemon": by_daemon,
        })
        .to_string();
    }
    let by = if by_daemon { "" } else { ", read from the state folder: no daemon runs" };
    format!("{}: {bytes} bytes, schema {schema}, taken at {taken}{by}\nsha256 {sha256}", target.display())
}
