//! The proxy without a sandbox: this process hands a listener over as the inner half does.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::unix::net::UnixStream as StdUnix;
use std::thread;

use service_kit::clock::ManualClock;

use super::*;

struct World {
    proxy: Proxy,
    door: Option<StdUnix>,
    at: SocketAddr,
}

impl World {
    fn new(uris: &[String], reach: Reach, clock: Clock) -> Self {
        let proxy = Proxy::start(Rules::parse(uris).unwrap(), reach, clock, None).unwrap();
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let door = StdUnix::connect(proxy.door()).unwrap();
        hand_over(&door, &listener).unwrap();
        Self { proxy, door: Some(door), at }
    }

    /// Says this, hears all that is answered.
    async fn ask(&self, words: &str) -> String {
        let (at, words) = (self.at, words.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let mut client = StdStream::connect(at).unwrap();
            client.write_all(words.as_bytes()).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        });
        asked.await.unwrap()
    }
}

/// Answers each connection with what it was sent until an empty line, and counts nothing: whoever comes is served.
fn echo() -> u16 {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the test's process.
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut heard = Vec::new();
            while head::end_of(&heard).is_none() {
                let mut chunk = [0; 512];
                match client.read(&mut chunk).unwrap() {
                    0 => break,
                    size => heard.extend_from_slice(&chunk[..size]),
                }
            }
            client.write_all(&heard).unwrap();
        }
    });
    port
}

fn both(port: u16) -> Vec<String> {
    vec![format!("http://127.0.0.1:{port}/open"), format!("https://127.0.0.1:{port}/")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_listed_is_passed_on_and_nothing_else() {
    let port = echo();
    let world = World::new(&both(port), Reach::Private, Clock::system());
    let answer =
        world.ask(&format!("GET http://127.0.0.1:{port}/open/x HTTP/1.1\r\nCookie: c\r\n\r\n")).await;
    assert_eq!(
        answer,
        format!("GET /open/x HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")
    );
    let answer = world.ask(&format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\nhello\r\n\r\n")).await;
    assert_eq!(answer, "HTTP/1.1 200 Connection established\r\n\r\nhello\r\n\r\n");
    let closed = echo();
    for request in [
        format!("GET http://127.0.0.1:{port}/closed HTTP/1.1\r\n\r\n"),
        format!("GET http://127.0.0.1:{closed}/open HTTP/1.1\r\n\r\n"),
        format!("GET http://localhost:{port}/open HTTP/1.1\r\n\r\n"),
        format!("CONNECT 127.0.0.1:{closed} HTTP/1.1\r\n\r\n"),
    ] {
        let answer = world.ask(&request).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("is not among the URIs that are allowed"),
            "{request}: {answer}"
        );
    }
    assert!(world.ask("GARBAGE\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    assert_eq!(world.proxy.refused(), 5);
    let kept = world.proxy.kept();
    assert!(kept.iter().all(|refused| !refused.is_beyond_reach), "{kept:?}");
    assert!(kept[0].why.starts_with(&format!("127.0.0.1:{port}/closed is not among")), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_beyond_its_reach_is_not_dialled_whatever_is_listed() {
    let port = echo();
    let uris: Vec<String> =
        ["127.0.0.1", "localhost", "169.254.169.254", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433"]
            .map(|host| format!("https://{host}:{port}/"))
            .into();
    let world = World::new(&uris, Reach::Public, Clock::system());
    for host in ["127.0.0.1", "localhost", "169.254.169.254", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433"] {
        let answer = world.ask(&format!("CONNECT {host}:{port} HTTP/1.1\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains(" is at "), "{host}: {answer}");
    }
    let kept = world.proxy.kept();
    assert!(kept.len() == KEPT_MAX && kept.iter().all(|refused| refused.is_beyond_reach), "{kept:?}");
    let world = World::new(&uris, Reach::Private, Clock::system());
    let answer = world.ask(&format!("CONNECT 169.254.169.254:{port} HTTP/1.1\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("metadata"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_end_or_without_words_is_cut_off() {
    let (clock, manual): (Clock, ManualClock) = Clock::manual(service_kit::clock::Time::from_ms(0));
    let world = World::new(&[], Reach::Public, clock);
    let long = format!("GET http://a/ HTTP/1.1\r\nX: {}", "x".repeat(HEAD_MAX));
    assert!(world.ask(&long).await.starts_with("HTTP/1.1 431 "));
    let silent = world.ask("GET ");
    let late = async {
        manual.sleeping(1).await;
        manual.advance(HEAD_TIME).await;
    };
    let (answer, ()) = tokio::join!(silent, late);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_listener_is_closed_when_the_sandbox_is_over() {
    let mut world = World::new(&[], Reach::Public, Clock::system());
    assert!(world.ask("GARBAGE\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    drop(world.door.take());
    let at = world.at;
    let closed = tokio::task::spawn_blocking(move || {
        test_kit::wait::until(Duration::from_secs(10), || StdStream::connect(at).is_err());
    });
    closed.await.unwrap();
}
