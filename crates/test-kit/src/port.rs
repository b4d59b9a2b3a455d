//! Ports for programs that cannot choose one themselves. In: nothing; out: a number that nobody listens on and that the
//! kernel gives to no one. Leaves out the listening.

use std::net::TcpListener;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that Linux gives to whoever asks for any (`net.ipv4.ip_local_port_range`): between the look at a port and
/// the moment in which the program listens there, no server of another test can be given it.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A port of the loopback interface which nobody listens on, another one each time. Processes begin in different
/// places.
///
/// # Panics
/// When all are taken.
#[must_use]
pub fn free() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let start =
        || AtomicU16::new(u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap_or(0));
    let next = NEXT.get_or_init(start);
    (0..COUNT)
        .map(|_| FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_another_one_and_can_be_listened_on() {
        let ports = [free(), free(), free()];
        let held: Vec<_> =
            ports.iter().map(|port| TcpListener::bind(("127.0.0.1", *port)).unwrap()).collect();
        assert!(ports.windows(2).all(|two| two[0] != two[1]) && held.len() == 3);
        assert!((FIRST..FIRST + COUNT).contains(&free()));
    }
}
