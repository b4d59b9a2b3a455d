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

use super::admit::{Admission, end_claim, write_claim};
use super::parse;
use crate::model::{Answer, Via};
use crate::peer;
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
    let Ok(peer) = stream.peer_cred() else { return };
    let mut buffer = Vec::new();
    let mut first = true;
    loop {
        let wait = if first { FRAME_TIME } else { IDLE_TIME };
        let read = queue.clock.timeout(wait, read_frame(&queue.clock, &mut stream, &mut buffer));
        let Some(read) = stop.or(read).await else { return };
        let answer = match read {
            Ok(Ok(Some(kind))) => answer(queue, admission, kind, &buffer, peer.uid(), peer.gid()).await,
            Ok(Ok(None)) => return,
            Ok(Err(why)) => Answer::Refused { why },
            Err(_) if first => Answer::Refused { why: format!("no whole frame within {FRAME_TIME:?}") },
            Err(_) => return,
        };
        let give_up = matches!(answer, Answer::Refused { .. });
        if give_up {
            queue.metrics.refused_frame();
        }
        let sent = queue.clock.timeout(FRAME_TIME, send(&mut stream, &answer)).await;
        if !matches!(sent, Ok(Ok(()))) || give_up {
            return; // the client is gone, does not read, or is out of step with us
        }
        first = false;
    }
}

/// Reads one frame into `buffer` (its payload alone); `None` at the end of the stream.
async fn read_frame(
    clock: &service_kit::clock::Clock,
    stream: &mut UnixStream,
    buffer: &mut Vec<u8>,
) -> Result<Option<Kind>, String> {
    let mut head = [0; HEADER_LEN];
    let got = stream.read(&mut head).await.map_err(|error| format!("read: {error}"))?;
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
        Ok(result) => result,
        Err(_) => Err(format!("the frame was not complete within {FRAME_TIME:?}")),
    }
}

async fn answer(
    queue: &Queue,
    admission: &Admission,
    kind: Kind,
    payload: &[u8],
    uid: u32,
    gid: u32,
) -> Answer {
    if let Err(why) = peer::may_enqueue(&queue.config.queue, uid, Some(gid)) {
        return Answer::Refused { why };
    }
    if queue.intake_is_closed() {
        return Answer::Busy { why: "the daemon is stopping".into() };
    }
    let ci = || peer::may_speak_for_ci(&queue.config.queue, uid);
    match kind {
        Kind::Enqueue => match parse::enqueue(payload, uid, Via::Socket) {
            Ok(parsed) => match may_say(queue, parsed.request.source, uid) {
                Ok(()) => admission.admit(parsed).await,
                Err(why) => Answer::Refused { why },
            },
            Err(why) => Answer::Refused { why },
        },
        Kind::Claim => match ci().and_then(|()| parse::claim(payload, uid, queue.clock.now())) {
            Ok(claim) => write_claim(queue, claim).await,
            Err(why) => Answer::Refused { why },
        },
        Kind::Unclaim => match ci().and_then(|()| parse::unclaim(payload)) {
            Ok((key, drvs)) => end_claim(queue, key, drvs).await,
            Err(why) => Answer::Refused { why },
        },
        Kind::Ack => Answer::Refused { why: "an acknowledgement is not for the daemon".into() },
    }
}

/// A source is a right: only the CI says `ci`, and the operator's `cli` comes over the control socket.
pub(crate) fn may_say(queue: &Queue, source: Source, uid: u32) -> Result<(), String> {
    match source {
        Source::Hook | Source::Hydra => Ok(()),
        Source::Ci => peer::may_speak_for_ci(&queue.config.queue, uid),
        Source::Cli => {
            Err("source `cli` is taken over the control socket alone: use `eka-queue push`".into())
        }
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
