//! Answers the control socket.
//!
//! In flows one request line per connection; out flow its reply lines. A connection that begins with `GET` is
//! Prometheus and gets its text. Whoever can open the socket may do all of it: its file mode is the permission.

use std::sync::Arc;
use std::time::Duration;

use service_kit::clock::Mono;
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;
use sqlite_kit::Lane as DbLane;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::{TcpListener, UnixListener};

use super::protocol::{End, Failure, FailureKind, REQUEST_BYTES_MAX, Reply, Request, Selection};
use crate::delivery::{Policy, StateName};
use crate::intake::spool::Spool;
use crate::lane::Lane;
use crate::queue::Queue;
use crate::store::{RowError, admin, inspect};

/// How long a client may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Rows read at a time.
const PAGE: u32 = 500;
/// How often a waiting request looks at the table when nothing wakes it.
const POLL: Duration = Duration::from_secs(1);

/// What the control socket steers.
pub(crate) struct Control {
    pub(crate) queue: Arc<Queue>,
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) admission: crate::intake::admit::Admission,
    /// Ends the whole daemon.
    pub(crate) stop: Stop,
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

/// Serves Prometheus over TCP until `stop`.
pub(crate) async fn serve_metrics(control: Arc<Control>, listener: TcpListener, stop: Stop) {
    loop {
        let Some(accepted) = stop.or(listener.accept()).await else { return };
        match accepted {
            Ok((stream, _)) => {
                let control = Arc::clone(&control);
                tokio::spawn(async move {
                    let (reader, mut writer) = tokio::io::split(stream);
                    let mut reader = BufReader::new(reader);
                    let line = read_line(&control, &mut reader, 8 << 10).await;
                    if line.is_ok_and(|line| line.starts_with(b"GET ")) {
                        let _ = metrics(&control, &mut reader, &mut writer).await; // the scraper hung up
                    }
                });
            }
            Err(error) => {
                tracing::error!("metrics address cannot accept: {error}");
                control.queue.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(control: &Control, stream: impl AsyncRead + AsyncWrite) {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = BufReader::new(reader);
    let Ok(line) = read_line(control, &mut reader, REQUEST_BYTES_MAX).await else { return };
    if line.starts_with(b"GET ") {
        let _ = metrics(control, &mut reader, &mut writer).await; // the scraper hung up
        return;
    }
    let request = serde_json::from_slice::<Request>(&line);
    let drains = matches!(request, Ok(Request::Drain { .. }));
    let done = match request {
        Ok(request) => answer(control, request, &mut reader, &mut writer).await,
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
        _ => Err(Trouble::Hangup),
    }
}

pub(crate) async fn say(writer: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

async fn answer(
    control: &Control,
    request: Request,
    reader: &mut (impl AsyncBufRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<End, Trouble> {
    match request {
        Request::Status => {
            say(writer, &Reply::Status(Box::new(control.status()?))).await?;
            Ok(End::default())
        }
        Request::List { selection, limit } => list(control, &checked(selection)?, limit, writer).await,
        Request::Show { path } => show(control, &path, writer).await,
        Request::Push { what, destinations, tag, priority } => {
            super::push::push(control, what, destinations, tag, priority, writer).await
        }
        Request::Wait { selection, timeout_ms } => {
            let wait = wait(control, checked(selection)?, timeout_ms, Scope::Selection);
            until_hangup(reader, wait).await
        }
        Request::Retry { selection } => retry(control, checked(selection)?).await,
        Request::Drop { selection } => drop_selected(control, checked(selection)?).await,
        Request::Pause { destination } => set_paused(control, destination, true).await,
        Request::Resume { destination } => set_paused(control, destination, false).await,
        Request::Drain { timeout_ms } => drain(control, timeout_ms).await,
    }
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

fn checked(selection: Selection) -> Result<Selection, Trouble> {
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
    control: &Control,
    selection: &Selection,
    limit: u64,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<End, Trouble> {
    let (mut after, mut count) = (0, 0);
    let all = if limit == 0 { u64::MAX } else { limit };
    while count < all {
        let page = u32::try_from(all - count).unwrap_or(PAGE).min(PAGE);
        let rows = control.queue.reader.with(|conn| inspect::list(conn, selection, after, page))?;
        let Some((last, _)) = rows.last() else { break };
        after = *last;
        count += rows.len() as u64;
        for (_, listed) in rows {
            say(writer, &Reply::Listed(Box::new(listed))).await?;
        }
    }
    Ok(End { count, ..End::default() })
}

async fn show(control: &Control, path: &str, writer: &mut (impl AsyncWrite + Unpin)) -> Result<End, Trouble> {
    let rows = control.queue.reader.with(|conn| inspect::show(conn, path))?;
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

enum Scope {
    Selection,
    Everything,
}

async fn wait(
    control: &Control,
    selection: Selection,
    timeout_ms: Option<u64>,
    scope: Scope,
) -> Result<End, Trouble> {
    let queue = &control.queue;
    let selection = Selection { states: Vec::new(), ..selection };
    let until: Option<Mono> = timeout_ms.map(|ms| queue.clock.mono() + Duration::from_millis(ms));
    // What a client has left in the spool counts as asked for.
    control.spool.pass().await;
    if let Scope::Selection = scope {
        must_exist(control, &selection)?;
    }
    let mut changes = queue.changes();
    loop {
        changes.mark_unchanged();
        let tally = queue.reader.with(|conn| inspect::tally(conn, &selection))?;
        let over = until.is_some_and(|until| queue.clock.mono() >= until);
        if tally.live() == 0 || over {
            let timed_out = tally.live() > 0;
            return Ok(End { count: tally.total(), tally: Some(tally), timed_out, ..End::default() });
        }
        let rest = until.map_or(POLL, |until| until.since(queue.clock.mono()).min(POLL));
        tokio::select! {
            _ = changes.changed() => {}
            () = queue.clock.sleep(rest) => {}
        }
    }
}

/// To wait for what nobody asked for would say "all delivered" about nothing.
fn must_exist(control: &Control, selection: &Selection) -> Result<(), Trouble> {
    let not_found = |message: String| Err(Trouble::said(FailureKind::NotFound, message));
    if let Some(tag) = &selection.tag
        && !control.queue.reader.with(|conn| inspect::tag_exists(conn, tag))?
    {
        return not_found(format!("no request carries the tag `{tag}`"));
    }
    for path in &selection.paths {
        let of_path = Selection { paths: vec![path.clone()], ..Selection::default() };
        if control.queue.reader.with(|conn| inspect::tally(conn, &of_path))?.total() == 0 {
            return not_found(format!("{path} was never queued here, or is no longer remembered"));
        }
    }
    Ok(())
}

async fn retry(control: &Control, selection: Selection) -> Result<End, Trouble> {
    let queue = &control.queue;
    let (mut after, mut count) = (0, 0);
    loop {
        let (selection, now, mut rng) = (selection.clone(), queue.clock.now(), queue.rng());
        let chunk = queue
            .db
            .call(DbLane::Normal, move |tx| {
                admin::retry(tx, &selection, after, now, &Policy::without_waits(), &mut rng)
            })
            .await;
        let (moved, next) = chunk.map_err(|error| Trouble::unavailable(&error))?;
        count += moved;
        let Some(next) = next else { break };
        after = next;
    }
    control.queue.say_changed();
    control.nudge_all();
    Ok(End { count, ..End::default() })
}

async fn drop_selected(control: &Control, selection: Selection) -> Result<End, Trouble> {
    let queue = &control.queue;
    let (mut after, mut count) = (0, 0);
    loop {
        let selection = selection.clone();
        let chunk =
            queue.db.call(DbLane::Normal, move |tx| admin::drop_selected(tx, &selection, after)).await;
        let (paths, next) = chunk.map_err(|error| Trouble::unavailable(&error))?;
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

async fn set_paused(control: &Control, destination: Option<String>, paused: bool) -> Result<End, Trouble> {
    if let Some(name) = &destination
        && !control.queue.reader.with(|conn| admin::destination_exists(conn, name))?
    {
        return Err(Trouble::said(FailureKind::NotFound, format!("there is no destination `{name}`")));
    }
    let set = control
        .queue
        .db
        .call(DbLane::Normal, move |tx| admin::set_paused(tx, destination.as_deref(), paused))
        .await;
    let count = set.map_err(|error| Trouble::unavailable(&error))? as u64;
    control.nudge_all();
    Ok(End { count, ..End::default() })
}

async fn drain(control: &Control, timeout_ms: Option<u64>) -> Result<End, Trouble> {
    control.queue.close_intake();
    tracing::info!("draining: the intake is closed, the daemon ends when nothing is owed");
    let end = wait(control, Selection::default(), timeout_ms, Scope::Everything).await?;
    if end.timed_out {
        tracing::warn!("not drained in time: the intake is open again");
        control.queue.open_intake();
    }
    Ok(end)
}

async fn metrics(
    control: &Control,
    reader: &mut (impl AsyncBufRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Trouble> {
    // The rest of the head says nothing we need, but must be read before the answer.
    loop {
        let line = read_line(control, reader, 8 << 10).await?;
        if line == b"\r\n" || line == b"\n" {
            break;
        }
    }
    let body = control.metrics_text()?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    writer.write_all(head.as_bytes()).await?;
    writer.write_all(body.as_bytes()).await?;
    Ok(writer.shutdown().await?)
}

impl Control {
    fn nudge_all(&self) {
        for lane in &self.lanes {
            lane.nudge();
        }
    }
}
