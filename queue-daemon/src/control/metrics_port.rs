//! Prometheus over HTTP: on its own TCP address, and for a `GET` on the control socket.
//!
//! In flows the head of a request, which is read and not understood; out flows the text of `metrics`. Whoever reaches
//! the port may ask and do nothing else: few at once, briefly, with a short head.

use std::sync::Arc;
use std::time::Duration;

use service_kit::shutdown::Stop;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::server::{Control, Trouble};

/// Connections to the port served at once; further ones wait in the kernel's backlog, where they cost us no descriptor.
const CONNECTIONS_MAX: usize = 16;
/// For one question and its answer together.
const EXCHANGE_TIME: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: u64 = 16 << 10;

/// Serves Prometheus over TCP until `stop`.
pub(crate) async fn serve(control: Arc<Control>, listener: TcpListener, stop: Stop) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Some(slot) = stop.or(Arc::clone(&slots).acquire_owned()).await else { return };
        let Some(accepted) = stop.or(listener.accept()).await else { return };
        match accepted {
            Ok((stream, _)) => {
                let (control, stop) = (Arc::clone(&control), stop.clone());
                tokio::spawn(async move {
                    stop.or(exchange(&control, stream)).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::error!("metrics address cannot accept: {error}");
                control.queue.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn exchange(control: &Arc<Control>, stream: TcpStream) {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = BufReader::new(reader);
    let exchange = async {
        let mut start = [0; 4];
        if reader.read_exact(&mut start).await.is_ok() && start == *b"GET " {
            answer(control, &mut reader, &mut writer).await;
        }
    };
    // Too late, or the scraper hung up: it asks again at its next interval.
    let _ = control.queue.clock.timeout(EXCHANGE_TIME, exchange).await;
}

/// Answers a `GET` whose first word, or first line, was read.
pub(super) async fn answer(
    control: &Arc<Control>,
    reader: &mut (impl AsyncBufRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) {
    let answered = async {
        pass_over_head(reader).await?;
        let body = control.look(Control::metrics_text).await?;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        writer.write_all(head.as_bytes()).await?;
        writer.write_all(body.as_bytes()).await?;
        Ok::<(), Trouble>(writer.shutdown().await?)
    };
    let _ = control.queue.clock.timeout(EXCHANGE_TIME, answered).await; // as above
}

/// The rest of the head says nothing we need, but must be read before the answer.
async fn pass_over_head(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<(), Trouble> {
    let mut head = reader.take(HEAD_BYTES_MAX);
    let mut line = Vec::new();
    loop {
        line.clear();
        if head.read_until(b'\n', &mut line).await? == 0 {
            return Err(Trouble::Hangup);
        }
        if line == b"\r\n" || line == b"\n" {
            return Ok(());
        }
    }
}
