//! Ports for programs that cannot choose one themselves. In: nothing; out: a number that nobody listens on and that the
//! kernel gives to no one. Leaves out the listening, even for a moment: a child that another test is just starting
//! holds a copy of each of our sockets until it has become its program, so what listened once may go on for some
//! milliseconds after it was closed, and the program meant for the port would find it taken.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Below those that Linux gives to whoever asks for any (`net.ipv4.ip_local_port_range`): between the look at a port and
/// the moment in which the program listens there, no server of another test can be given it.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A port of the loopback interfaces which nobody listens on, another one each time. It stays this process's until its
/// end: no other one is given it meanwhile. A program may listen there that takes addresses which are bound without
/// being listened on (`SO_REUSEADDR`), as servers do.
///
/// # Panics
/// When all are taken.
#[must_use]
pub fn free() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    /// What keeps the ports ours.
    static HELD: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());
    // Processes begin in different places, so that few ask for the same.
    let start =
        || AtomicU16::new(u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap_or(0));
    let next = NEXT.get_or_init(start);
    let (port, sockets) = (0..COUNT)
        .map(|_| FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT)
        .find_map(|port| Some((port, taken(port)?)))
        .expect("a port is free");
    HELD.lock().unwrap_or_else(PoisonError::into_inner).extend(sockets);
    port
}

/// This port of each loopback interface, bound; `None` when somebody has it, listening or as we do.
fn taken(port: u16) -> Option<Vec<OwnedFd>> {
    let mut sockets = vec![bound(&(Ipv4Addr::LOCALHOST, port).into()).ok()?];
    match bound(&(Ipv6Addr::LOCALHOST, port).into()) {
        Ok(socket) => sockets.push(socket),
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {} // a machine without it
        Err(_) => return None,
    }
    Some(sockets)
}

/// A socket that is bound and never listens.
fn bound(address: &SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // First without it, so that what others hold is refused; then with it, so that the program comes to listen.
    rustix::net::bind(&socket, address)?;
    set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    #[test]
    fn each_is_another_one_and_can_be_listened_on() {
        let ports = [free(), free(), free()];
        let held: Vec<_> =
            ports.iter().map(|port| TcpListener::bind(("127.0.0.1", *port)).unwrap()).collect();
        assert!(ports.windows(2).all(|two| two[0] != two[1]) && held.len() == 3);
        assert!((FIRST..FIRST + COUNT).contains(&free()));
    }

    /// While we hold it, and so do copies of our sockets in children.
    #[test]
    fn a_server_may_listen_wherever_it_likes_to() {
        for host in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
            match TcpListener::bind((host, free())) {
                Ok(_) => {}
                Err(error) if has_no_ip6(host, &error) => println!("skipped: {host}: {error}"),
                Err(error) => panic!("{host}: {error}"),
            }
        }
    }

    #[test]
    fn nobody_answers_there() {
        let error = TcpStream::connect(("127.0.0.1", free())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn one_that_somebody_listens_on_is_passed_over() {
        for host in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
            match TcpListener::bind((host, 0)) {
                Ok(server) => assert!(taken(server.local_addr().unwrap().port()).is_none(), "{host}"),
                Err(error) if has_no_ip6(host, &error) => println!("skipped: {host}: {error}"),
                Err(error) => panic!("{host}: {error}"),
            }
        }
    }

    fn has_no_ip6(host: &str, error: &std::io::Error) -> bool {
        let told = error.raw_os_error();
        host.contains(':')
            && [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL]
                .iter()
                .any(|errno| told == Some(errno.raw_os_error()))
    }

    /// As another process would ask for it.
    #[test]
    fn one_that_was_given_away_is_given_to_nobody_else() {
        let port = free();
        assert!(taken(port).is_none());
        let ports: Vec<u16> = thread::scope(|scope| {
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| [free(), free(), free()])).collect();
            asking.into_iter().flat_map(|asked| asked.join().unwrap()).collect()
        });
        assert_eq!(BTreeSet::from_iter(&ports).len(), ports.len(), "{ports:?}");
    }
}
