//! The enqueue socket: frames in, acknowledgements out, nothing else.
//!
//! In flow connections; out flow requests to `admit` and one ack per frame, after the commit. The kernel says who
//! is there. Every read has a deadline and a size, every answer a deadline; one slow or hostile client holds a
//! connection, and not for long.

use std::sync::Arc;
use std::time::Duration;

use hook_wire::{ACK_MAX, Ack, FRAME_MAX, HEADER_LEN, Header, Kind, Source, Status};
use service_kit::shutdown::Stop;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::admit::Admission;
use super::commit::{end_claim, write_claim};
use super::parse;
use crate::model::{Answer, Origin, Request, Via};
use crate::peer::{self, Denied, Peer};
use crate::queue::Queue;

/// Connections served at once; further ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 1_024;
/// From the first byte of a frame to its last, and for the answer.
const FRAME_TIME: Duration = Duration::from_secs(1);
/// Between two frames of one connection.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Serves the enqueue socket until `stop`.
pub(crate) async fn serve(queue: Arc<Queue>, admission: Admission, listener: UnixListener, stop: Stop) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Some(accepted) = stop.or(listener.accept()).await else { return };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: the clients wait, or go to the spool.
                tracing::error!("enqueue socket cannot accept: {error}");
                queue.clock.sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (queue, admission, stop) = (Arc::clone(&queue), admission.clone(), stop.clone());
        tokio::spawn(async move {
            converse(&queue, &admission, stream, &stop).await;
            drop(slot);
        });
    }
}

async fn converse(queue: &Queue, admission: &Admission, mut stream: UnixStream, stop: &Stop) {
    let Ok(peer) = Peer::of(&stream) else { return };
    let mut buffer = Vec::new();
    let mut first = true;
    loop {
        let wait = if first { FRAME_TIME } else { IDLE_TIME };
        let read = queue.clock.timeout(wait, read_frame(&queue.clock, &mut stream, &mut buffer));
        let Some(read) = stop.or(read).await else { return };
        let mut is_late = false;
        let mut late = || {
            is_late = true;
            // The machine may have stopped the client in the middle: what it has to say is as good as before.
            Answer::Busy { why: format!("no whole frame within {FRAME_TIME:?}") }
        };
        let answer = match read {
            Ok(Ok(Some(kind))) => answer(queue, admission, kind, &buffer, peer).await,
            Ok(Ok(None)) => return,
            Ok(Err(NoFrame::Bad(why))) => Answer::Refused { why },
            Ok(Err(NoFrame::Late)) => late(),
            Err(_) if first => late(),
            Err(_) => return,
        };
        let refused = matches!(answer, Answer::Refused { .. });
        if refused {
            queue.metrics.refused_frame();
        }
        let give_up = refused || is_late;
        let sent = queue.clock.timeout(FRAME_TIME, send(&mut stream, &answer)).await;
        if !matches!(sent, Ok(Ok(()))) || give_up {
            return; // the client is gone, does not read, or is out of step with us
        }
        first = false;
    }
}

/// Why there is no frame.
enum NoFrame {
    /// What came is none.
    Bad(String),
    /// It began and did not end within `FRAME_TIME`.
    Late,
}

/// Reads one frame into `buffer` (its payload alone); `None` at the end of the stream.
async fn read_frame(
    clock: &service_kit::clock::Clock,
    stream: &mut UnixStream,
    buffer: &mut Vec<u8>,
) -> Result<Option<Kind>, NoFrame> {
    let mut head = [0; HEADER_LEN];
    let got = stream.read(&mut head).await.map_err(|error| NoFrame::Bad(format!("read: {error}")))?;
    if got == 0 {
        return Ok(None);
    }
    let rest = async {
        stream
            .read_exact(&mut head[got..])
            .await
            .map_err(|_| "the frame ends inside its header".to_owned())?;
        let header = Header::parse(&head).and_then(|header| header.within(FRAME_MAX));
        let header = header.map_err(|error| error.to_string())?;
        buffer.resize(header.payload_len as usize, 0);
        stream
            .read_exact(buffer)
            .await
            .map_err(|_| "the frame ends before its announced length".to_owned())?;
        Ok(Some(header.kind))
    };
    match clock.timeout(FRAME_TIME, rest).await {
        Ok(result) => result.map_err(NoFrame::Bad),
        Err(_) => Err(NoFrame::Late),
    }
}

async fn answer(queue: &Queue, admission: &Admission, kind: Kind, payload: &[u8], peer: Peer) -> Answer {
    let taken = take(queue, admission, kind, payload, peer).await;
    taken.unwrap_or_else(Answer::from)
}

async fn take(
    queue: &Queue,
    admission: &Admission,
    kind: Kind,
    payload: &[u8],
    peer: Peer,
) -> Result<Answer, Denied> {
    let Peer { uid, gid, .. } = peer;
    peer::may_enqueue(&queue.config.queue, uid, Some(gid))?;
    if queue.intake_is_closed() {
        return Ok(Answer::Busy { why: "the daemon is stopping".into() });
    }
    Ok(match kind {
        Kind::Enqueue => {
            let parsed = parse::enqueue(payload, uid, Via::Socket).map_err(Denied::No)?;
            may_say(queue, &parsed.request)?;
            admission.admit(parsed).await
        }
        Kind::Claim => {
            peer::may_speak_for_ci(&queue.config.queue, uid)?;
            let claim = parse::claim(payload, uid, queue.clock.now()).map_err(Denied::No)?;
            write_claim(queue, claim, peer).await
        }
        Kind::Unclaim => {
            peer::may_speak_for_ci(&queue.config.queue, uid)?;
            let (key, drvs) = parse::unclaim(payload).map_err(Denied::No)?;
            end_claim(queue, key, drvs, peer).await
        }
        Kind::Ack => Answer::Refused { why: "an acknowledgement is not for the daemon".into() },
    })
}

/// What a request says of itself is a right: only the CI says `ci`, goes in front of others, and names a commit and
/// its trust; the operator's `cli` comes over the control socket.
pub(crate) fn may_say(queue: &Queue, request: &Request) -> Result<(), Denied> {
    let Request { source, priority, origin, trust, uid, .. } = request;
    let of_the_ci = *priority != 0 || *origin != Origin::default() || trust.is_some();
    match source {
        Source::Hook | Source::Hydra if !of_the_ci => Ok(()),
        Source::Hook | Source::Hydra => {
            peer::may_speak_for_ci(&queue.config.queue, *uid).map_err(|denied| match denied {
                Denied::No(why) => Denied::No(format!(
                    "priority, repository, branch, commit and trust are for the CI: {why}"
                )),
                Denied::Unknown(why) => Denied::Unknown(why),
            })
        }
        Source::Ci => peer::may_speak_for_ci(&queue.config.queue, *uid),
        Source::Cli => Err(Denied::No(
            "source `cli` is taken over the control socket alone: use `eka-queue push`".into(),
        )),
    }
}

async fn send(stream: &mut UnixStream, answer: &Answer) -> std::io::Result<()> {
    let ack = match answer {
        Answer::Queued { accepted } => {
            Ack { status: Status::Queued, accepted: *accepted, refused: 0, text: "" }
        }
        Answer::Partly { accepted, refused, why } => {
            Ack { status: Status::Partly, accepted: *accepted, refused: *refused, text: why }
        }
        Answer::Refused { why } => Ack { status: Status::Refused, accepted: 0, refused: 1, text: why },
        Answer::Busy { why } => Ack { status: Status::Busy, accepted: 0, refused: 0, text: why },
    };
    let mut buffer = [0; ACK_MAX];
    let bytes = ack.encode(&mut buffer).expect("ACK_MAX bytes hold every ack: encode cuts the text");
    stream.write_all(bytes).await
}
