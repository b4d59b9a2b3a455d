//! Answers the control socket.
//!
//! In flows one request line per connection; out flow its reply lines. A connection that begins with `GET` is
//! Prometheus and gets its text. Whoever can open the socket may do all of it: its file mode is the permission. What
//! asks the table or a folder does so on a thread that may block; `wait`, `push`, `verify`, `backup`, `status` and `watch` have files of their own.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use rustix::net::RecvFlags;
use serde_json::json;
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;
use sqlite_kit::{CallError, Lane as DbLane};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};

use super::protocol::{End, Failure, FailureKind, REQUEST_BYTES_MAX, Reply, Request, Selection};
use super::push::Asked;
use super::{audit, backup, metrics_port, verify, wait};
use crate::audit::{Act, selection as told_selection, text};
use crate::delivery::{Policy, StateName};
use crate::intake::admit::Admission;
use crate::intake::spool::Spool;
use crate::lane::Lane;
use crate::peer::Peer;
use crate::queue::Queue;
use crate::store::audit::{Wanted, append};
use crate::store::{RowError, admin, inspect};

/// How long a client may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Rows read at a time.
const PAGE: u32 = 500;
/// Looks at the table at once, for all who ask here; the rest wait their turn. Lanes use the same few readers.
const LOOKS_MAX: usize = 2;

/// What the control socket steers.
pub(crate) struct Control {
    pub(crate) queue: Arc<Queue>,
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) admission: Admission,
    /// Ends the whole daemon.
    pub(crate) stop: Stop,
    /// Held by the one drain that may be under way.
    pub(super) drain: Mutex<()>,
    /// Held by the one verify that may be under way.
    pub(super) verify: Mutex<()>,
    /// One backup at a time: each takes up room on the disk of the queue.
    pub(super) backups: Arc<Semaphore>,
    looks: Arc<Semaphore>,
}

/// Why a request was not carried out.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The client is gone.
    Hangup,
    /// It is told why.
    Said(Failure),
}

impl Trouble {
    pub(crate) fn said(kind: FailureKind, message: impl Into<String>) -> Self {
        Self::Said(Failure { kind, message: message.into() })
    }

    pub(crate) fn unavailable(error: &dyn std::error::Error) -> Self {
        Self::said(FailureKind::Unavailable, format!("the queue cannot be read or written: {}", chain(error)))
    }
}

impl From<std::io::Error> for Trouble {
    fn from(_: std::io::Error) -> Self {
        Self::Hangup
    }
}

impl From<RowError> for Trouble {
    fn from(error: RowError) -> Self {
        Self::unavailable(&error)
    }
}

/// Serves the control socket until `stop`.
pub(crate) async fn serve(control: Arc<Control>, listener: UnixListener, stop: Stop) {
    loop {
        let Some(accepted) = stop.or(listener.accept()).await else { return };
        match accepted {
            Ok((stream, _)) => {
                let (control, stop) = (Arc::clone(&control), stop.clone());
                tokio::spawn(async move { stop.or(converse(&control, stream)).await });
            }
            Err(error) => {
                tracing::error!("control socket cannot accept: {error}");
                control.queue.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(control: &Arc<Control>, mut stream: UnixStream) {
    let Ok(peer) = Peer::of(&stream) else { return };
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let Ok(line) = read_line(control, &mut reader, REQUEST_BYTES_MAX).await else { return };
    if line.starts_with(b"GET ") {
        metrics_port::answer(control, &mut reader, &mut writer).await;
        return;
    }
    let request = serde_json::from_slice::<Request>(&line);
    let drains = matches!(request, Ok(Request::Drain { .. }));
    if drains && has_hung_up(reader.get_ref().as_ref()) {
        return; // while we could not listen: nobody wants it any more
    }
    let done = match request {
        Ok(request) => answer(control, request, peer, &mut reader, &mut writer).await,
        Err(error) => {
            Err(Trouble::said(FailureKind::BadRequest, format!("the request cannot be read: {error}")))
        }
    };
    let drained = drains && done.as_ref().is_ok_and(|end| !end.timed_out);
    let last = match done {
        Ok(end) => Reply::End(end),
        Err(Trouble::Said(failure)) => Reply::Error(failure),
        Err(Trouble::Hangup) => return,
    };
    let _ = say(&mut writer, &last).await; // the client hung up; what was done stays done
    if drained {
        // Only now: the stop ends this conversation too.
        control.stop.request();
    }
}

async fn read_line(
    control: &Control,
    reader: &mut (impl AsyncBufRead + Unpin),
    bytes_max: usize,
) -> Result<Vec<u8>, Trouble> {
    let mut line = Vec::new();
    let mut bounded = reader.take(bytes_max as u64);
    let read = bounded.read_until(b'\n', &mut line);
    match control.queue.clock.timeout(REQUEST_TIME, read).await {
        Ok(Ok(n)) if n > 0 => Ok(line),
        Ok(Ok(_) | Err(_)) | Err(_) => Err(Trouble::Hangup),
    }
}

pub(crate) async fn say(writer: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

async fn answer(
    control: &Arc<Control>,
    request: Request,
    peer: Peer,
    reader: &mut (impl AsyncBufRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<End, Trouble> {
    match request {
        Request::Status => {
            let status = control.look(Control::status).await?;
            say(writer, &Reply::Status(Box::new(status))).await?;
            Ok(End::default())
        }
        Request::Watch => {
            let watched = control.look(Control::watched).await?;
            say(writer, &Reply::Watched(Box::new(watched))).await?;
            Ok(End::default())
        }
        Request::Verify { destination, paths, dry_run } => {
            let wish = verify::Wish { destination, paths, dry_run };
            until_hangup(reader, verify::verify(control, wish, peer, writer)).await
        }
        Request::List { selection, limit } => {
            list(control, checked(control, selection).await?, limit, writer).await
        }
        Request::Show { path } => show(control, path, writer).await,
        Request::Push { what, destinations, tag, priority } => {
            let asked = Asked { what, destinations, tag, priority };
            super::push::push(control, asked, audit::who(peer).await, writer).await
        }
        Request::Wait { selection, timeout_ms } => {
            let waited = wait::wait(control, checked(control, selection).await?, timeout_ms);
            told(until_hangup(reader, waited).await?, writer).await
        }
        Request::Retry { selection } => retry(control, checked(control, selection).await?, peer).await,
        Request::Drop { selection } => drop_selected(control, checked(control, selection).await?, peer).await,
        Request::Pause { destination } => set_paused(control, destination, true, peer).await,
        Request::Resume { destination } => set_paused(control, destination, false, peer).await,
        Request::Audit { since_ms, act, limit } => {
            audit::list(control, Wanted { since_ms, act }, limit, writer).await
        }
        Request::VerifyAudit { head } => until_hangup(reader, audit::verify(control, head, writer)).await,
        Request::Backup => until_hangup(reader, backup::backup(control, writer)).await,
        Request::BackedUp { taken_ms } => backup::kept(control, taken_ms).await,
        Request::Drain { timeout_ms } => {
            told(until_hangup(reader, wait::drain(control, timeout_ms, peer)).await?, writer).await
        }
    }
}

/// What a verdict leaves out is said beside it.
async fn told(waited: wait::Waited, writer: &mut (impl AsyncWrite + Unpin)) -> Result<End, Trouble> {
    if waited.spool_left {
        let left = "files in the spool could not be taken in yet; what they ask for is not counted";
        say(writer, &Reply::Note(left.into())).await?;
    }
    Ok(waited.end)
}

/// Whether a client that has sent its request is gone.
fn has_hung_up(stream: &UnixStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(rustix::net::recv(stream, &mut [0_u8; 1], flags), Ok((_, 0)))
}

/// A client that hangs up ends its wait.
async fn until_hangup<T>(
    reader: &mut (impl AsyncBufRead + Unpin),
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    let mut rest = Vec::new();
    tokio::select! {
        done = work => done,
        _ = reader.read_until(b'\n', &mut rest) => Err(Trouble::Hangup),
    }
}

async fn checked(control: &Arc<Control>, selection: Selection) -> Result<Selection, Trouble> {
    if let Some(name) = selection.destination.clone() {
        destination_is_there(control, name).await?;
    }
    match selection.states.iter().find(|word| StateName::from_word(word).is_none()) {
        None => Ok(selection),
        Some(word) => {
            let known = StateName::ALL.map(StateName::as_str).join(", ");
            Err(Trouble::said(
                FailureKind::BadRequest,
                format!("`{word}` is no state; the states are {known}"),
            ))
        }
    }
}

async fn list(
    control: &Arc<Control>,
    selection: Selection,
    limit: u64,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<End, Trouble> {
    let selection = Arc::new(selection);
    let (mut after, mut count) = (0, 0);
    let all = if limit == 0 { u64::MAX } else { limit };
    while count < all {
        let page = u32::try_from(all - count).unwrap_or(PAGE).min(PAGE);
        let selection = Arc::clone(&selection);
        let rows = control.ask(move |conn| inspect::list(conn, &selection, after, page)).await?;
        let Some((last, _)) = rows.last() else { break };
        after = *last;
        count += rows.len() as u64;
        for (_, listed) in rows {
            say(writer, &Reply::Listed(Box::new(listed))).await?;
        }
    }
    Ok(End { count, ..End::default() })
}

async fn show(
    control: &Arc<Control>,
    path: String,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<End, Trouble> {
    let named = path.clone();
    let rows = control.ask(move |conn| inspect::show(conn, &named)).await?;
    if rows.is_empty() {
        let message =
            format!("{path} was never queued here, or is no longer remembered (keep_done, keep_dead)");
        return Err(Trouble::said(FailureKind::NotFound, message));
    }
    let count = rows.len() as u64;
    for shown in rows {
        say(writer, &Reply::Shown(Box::new(shown))).await?;
    }
    Ok(End { count, ..End::default() })
}

async fn retry(control: &Control, selection: Selection, peer: Peer) -> Result<End, Trouble> {
    let queue = &control.queue;
    let (who, told) = (audit::who(peer).await, told_selection(&selection));
    let (mut after, mut count) = (0, 0);
    loop {
        let (selection, now, mut rng) = (selection.clone(), queue.clock.now(), queue.rng());
        let (who, told) = (who.clone(), told.clone());
        let chunk = queue
            .db
            .call(DbLane::Normal, move |tx| {
                let policy = Policy::without_waits();
                let (moved, next) = admin::retry(tx, &selection, after, now, &policy, &mut rng)?;
                let entry = || who.did(Act::Retry, now, &json!({ "selected": told, "count": moved }));
                Ok((moved, next, (moved > 0).then(|| append(tx, entry())).transpose()?))
            })
            .await;
        let (moved, next, recorded) =
            chunk.map_err(|error: CallError<RowError>| Trouble::unavailable(&error))?;
        audit::said(recorded);
        count += moved;
        let Some(next) = next else { break };
        after = next;
    }
    control.queue.say_changed();
    control.nudge_all();
    Ok(End { count, ..End::default() })
}

async fn drop_selected(control: &Control, selection: Selection, peer: Peer) -> Result<End, Trouble> {
    let queue = &control.queue;
    let (who, told) = (audit::who(peer).await, told_selection(&selection));
    let (mut after, mut count) = (0, 0);
    loop {
        let (selection, now) = (selection.clone(), queue.clock.now());
        let (who, told) = (who.clone(), told.clone());
        let chunk = queue
            .db
            .call(DbLane::Normal, move |tx| {
                let (paths, next) = admin::drop_selected(tx, &selection, after)?;
                let count = paths.len();
                let entry = || who.did(Act::Drop, now, &json!({ "selected": told, "count": count }));
                let recorded = (count > 0).then(|| append(tx, entry())).transpose()?;
                Ok((paths, next, recorded))
            })
            .await;
        let (paths, next, recorded) =
            chunk.map_err(|error: CallError<RowError>| Trouble::unavailable(&error))?;
        audit::said(recorded);
        count += paths.len() as u64;
        let paths =
            paths.iter().filter_map(|path| nix_types::StorePath::parse(path.as_bytes()).ok()).collect();
        crate::roots::release_all(&queue.roots, paths).await;
        let Some(next) = next else { break };
        after = next;
    }
    queue.say_changed();
    Ok(End { count, ..End::default() })
}

async fn set_paused(
    control: &Arc<Control>,
    destination: Option<String>,
    paused: bool,
    peer: Peer,
) -> Result<End, Trouble> {
    if let Some(name) = destination.clone() {
        destination_is_there(control, name).await?;
    }
    let (who, now) = (audit::who(peer).await, control.queue.clock.now());
    let act = if paused { Act::Pause } else { Act::Resume };
    let set = control
        .queue
        .db
        .call(DbLane::Normal, move |tx| {
            let count = admin::set_paused(tx, destination.as_deref(), paused)?;
            let detail = json!({ "destination": destination.as_deref().map(text), "count": count });
            Ok((count as u64, append(tx, who.did(act, now, &detail))?))
        })
        .await;
    let (count, recorded) = set.map_err(|error: CallError<RowError>| Trouble::unavailable(&error))?;
    recorded.say();
    control.nudge_all();
    Ok(End { count, ..End::default() })
}

async fn destination_is_there(control: &Arc<Control>, name: String) -> Result<(), Trouble> {
    let message = no_destination(&name);
    match control.ask(move |conn| admin::destination_exists(conn, &name)).await? {
        true => Ok(()),
        false => Err(Trouble::said(FailureKind::NotFound, message)),
    }
}

/// What is said to whoever names one that is not there.
pub(super) fn no_destination(name: &str) -> String {
    format!("there is no destination `{name}`; `eka-queue status` shows those there are")
}

impl Control {
    pub(crate) fn new(
        queue: Arc<Queue>,
        lanes: Vec<Arc<Lane>>,
        spool: Arc<Spool>,
        admission: Admission,
        stop: Stop,
    ) -> Self {
        let (drain, verify) = (Mutex::new(()), Mutex::new(()));
        let (backups, looks) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(LOOKS_MAX)));
        Self { queue, lanes, spool, admission, stop, drain, verify, backups, looks }
    }

    /// Looks at something that may block, on a thread where that holds nobody up.
    pub(super) async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&Self) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let turn = Arc::clone(&self.looks).acquire_owned().await.expect("nobody closes the semaphore");
        let control = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            let _turn = turn; // ends with the look, also when nobody waits for it any more
            look(&control)
        })
        .await;
        looked.expect("a look does not panic: it returns its errors")
    }

    /// Asks the table.
    pub(super) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Connection) -> Result<T, RowError> + Send + 'static,
    ) -> Result<T, Trouble> {
        self.look(move |control| Ok(control.queue.reader.with(question)?)).await
    }

    fn nudge_all(&self) {
        for lane in &self.lanes {
            lane.nudge();
        }
    }
}
