//! Two connections, joined. In: a client, a server, what the client said already. Out: nothing; both are closed when one
//! has no more to say, or at a bound.

use std::io;

use service_kit::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::head::Request;
use super::{CONNECTION_BYTES, CONNECTION_TIME, IDLE_TIME};

const CHUNK: usize = 32 * 1024;
/// What opens a tunnel.
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// Joins them. Of a request that is no tunnel nothing goes to the server but what was judged, and the answer comes back.
pub(super) async fn relay(
    mut client: TcpStream,
    mut server: TcpStream,
    request: &Request,
    rest: &[u8],
    clock: &Clock,
) {
    let tunnel = request.target.path.is_none();
    let work = async {
        if tunnel {
            client.write_all(ESTABLISHED).await?;
            server.write_all(rest).await?;
        } else {
            server.write_all(&request.opening).await?;
        }
        join(&mut client, &mut server, tunnel, clock).await
    };
    match clock.timeout(CONNECTION_TIME, work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!("a connection of the sandbox to {} broke off: {error}", request.target);
        }
        Err(_) => {
            tracing::info!("a connection of the sandbox to {} was ended at its time limit", request.target);
        }
    }
}

async fn join(
    client: &mut TcpStream,
    server: &mut TcpStream,
    both_ways: bool,
    clock: &Clock,
) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let (mut up, mut down) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut open = both_ways;
    let mut left = CONNECTION_BYTES;
    loop {
        let step = async {
            tokio::select! {
                size = from_client.read(&mut up), if open => match size? {
                    0 => {
                        open = false;
                        to_server.shutdown().await.map(|()| Some(0))
                    }
                    size => to_server.write_all(&up[..size]).await.map(|()| Some(size)),
                },
                size = from_server.read(&mut down) => match size? {
                    0 => Ok(None),
                    size => to_client.write_all(&down[..size]).await.map(|()| Some(size)),
                },
            }
        };
        let Some(moved) = clock.timeout(IDLE_TIME, step).await.map_err(io::Error::other)?? else {
            return to_client.shutdown().await;
        };
        left = left.saturating_sub(u64::try_from(moved).unwrap_or(u64::MAX));
        if left == 0 {
            return Err(io::Error::other("it moved more than a connection may"));
        }
    }
}
