//! Clients against listeners on the loopback interface, with a judge and look-ups of the test's own.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use reqwest::{Method, Url};

use super::*;
use crate::address::{Kind, classify};

fn options() -> Options {
    Options {
        reach: Reach::Public,
        connect_timeout: Duration::from_secs(10),
        user_agent: "test/0".into(),
        roots: Roots::Nobody,
        identity: None,
        redirects: true,
        proxies: false,
    }
}

#[test]
fn a_client_needs_no_certificates_to_speak_plain_http() {
    client(&options()).unwrap();
    client(&options()).unwrap();
}

#[test]
fn files_that_are_absent_or_hold_no_key_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.pem");
    let files = IdentityFiles { cert_file: file.clone(), key_file: file.clone() };
    let with = Options { identity: Some(files), ..options() };
    let error = client(&with).unwrap_err();
    assert!(matches!(&error, HttpError::File { file: named, .. } if *named == file), "{error:?}");
    fs::write(&file, "nothing of use").unwrap();
    let error = client(&with).unwrap_err();
    assert!(matches!(&error, HttpError::Pem { file: named, .. } if *named == file), "{error:?}");
}

/// A server on an address of this machine that counts who connects, and gives one answer to everything.
struct Server {
    port: u16,
    met: Arc<AtomicUsize>,
}

impl Server {
    fn start(address: &str, port: u16, answer: &str) -> Self {
        let listener = TcpListener::bind((address, port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let met = Arc::new(AtomicUsize::new(0));
        let (counted, answer) = (Arc::clone(&met), answer.to_owned());
        // Ends with the process: it waits for others on a port that only this test knows.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let mut seen = Vec::new();
                let mut part = [0; 1024];
                while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut part) {
                        Ok(0) | Err(_) => break,
                        Ok(len) => seen.extend_from_slice(&part[..len]),
                    }
                }
                let _ = stream.write_all(answer.as_bytes()); // whoever hung up was counted
            }
        });
        Self { port, met }
    }

    fn met(&self) -> usize {
        self.met.load(Ordering::SeqCst)
    }
}

const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

/// 127.0.0.1 stands for the internet; everything else is what it is.
fn judge(address: IpAddr) -> Kind {
    if address == IpAddr::from([127, 0, 0, 1]) { Kind::Public } else { classify(address) }
}

/// Looks names up in a table: each time the next answer, the last one for good.
fn names(table: &[(&str, &[&[&str]])]) -> (guard::Lookup, Arc<AtomicUsize>) {
    type Answers = Vec<Vec<IpAddr>>;
    let parse = |list: &&[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    let table: BTreeMap<String, Answers> = table
        .iter()
        .map(|(name, answers)| ((*name).to_owned(), answers.iter().map(parse).collect()))
        .collect();
    let (table, asked) = (Mutex::new(table), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&asked);
    let lookup: guard::Lookup = Arc::new(move |name| {
        counted.fetch_add(1, Ordering::SeqCst);
        let mut table = table.lock().unwrap();
        let answers =
            table.get_mut(&name.to_ascii_lowercase()).unwrap_or_else(|| panic!("nobody knows {name}"));
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(async move { Ok(answer) })
    });
    (lookup, asked)
}

fn guard(reach: Reach) -> Guard {
    Guard { judge, ..Guard::new(reach, Vec::new()) }
}

async fn get(client: &Client, url: &str) -> Result<u16, Failed> {
    let request = Request::new(Method::GET, Url::parse(url).unwrap());
    client.execute(request).await.map(|answer| answer.status().as_u16())
}

#[track_caller]
fn refused(result: Result<u16, Failed>) -> Refused {
    match result {
        Err(Failed::Refused(refused)) => refused,
        other => panic!("not refused: {other:?}"),
    }
}

/// The name has two answers: the first is judged and dialled, and the second one is judged as well before it is.
#[tokio::test]
async fn what_was_judged_is_what_is_dialled() {
    let outside = Server::start("127.0.0.1", 0, FINE);
    let inside = Server::start("127.0.0.2", outside.port, FINE);
    let (lookup, asked) = names(&[("cache.test", &[&["127.0.0.1"], &["127.0.0.2"]])]);
    let client = guarded(&options(), Guard { lookup, ..guard(Reach::Public) }).unwrap();
    let url = format!("http://cache.test:{}/", outside.port);
    assert_eq!(get(&client, &url).await.unwrap(), 200);
    assert_eq!((asked.load(Ordering::SeqCst), outside.met(), inside.met()), (1, 1, 0));
    let refused = refused(get(&client, &url).await);
    assert_eq!(
        refused.to_string(),
        "cache.test is at 127.0.0.2, an address of this machine itself; set [security] allow_private_cache_hosts = \
         true if it is meant"
    );
    assert_eq!((asked.load(Ordering::SeqCst), outside.met(), inside.met()), (2, 1, 0));
}

#[tokio::test]
async fn of_many_addresses_those_in_reach_are_dialled() {
    let outside = Server::start("127.0.0.1", 0, FINE);
    let inside = Server::start("127.0.0.2", outside.port, FINE);
    let (lookup, _) = names(&[
        ("mixed.test", &[&["127.0.0.2", "169.254.169.254", "127.0.0.1"]]),
        ("inside.test", &[&["169.254.169.254", "10.0.0.1"]]),
        ("cloud.test", &[&["fd00:ec2::254"]]),
    ]);
    let client = guarded(&options(), Guard { lookup, ..guard(Reach::Public) }).unwrap();
    assert_eq!(get(&client, &format!("http://mixed.test:{}/", outside.port)).await.unwrap(), 200);
    assert_eq!((outside.met(), inside.met()), (1, 0));
    let said = refused(get(&client, "http://inside.test/").await).to_string();
    assert!(said.starts_with("inside.test is at 10.0.0.1, an address of a private network; set "), "{said}");
    let said = refused(get(&client, "http://cloud.test/").await).to_string();
    assert!(
        said.starts_with("cloud.test is at fd00:ec2::254, the address of a cloud's metadata service; "),
        "{said}"
    );
}

#[tokio::test]
async fn each_redirect_is_judged() {
    let inside = Server::start("127.0.0.2", 0, FINE);
    let (lookup, _) = names(&[
        ("inside.test", &[&["127.0.0.2"]]),
        ("cloud.test", &[&["169.254.169.254"]]),
        ("mapped.test", &[&["::ffff:127.0.0.2"]]),
    ]);
    let port = inside.port;
    for (reach, to) in [
        (Reach::Public, format!("http://127.0.0.2:{port}/")),
        (Reach::Public, format!("http://2130706434:{port}/")),
        (Reach::Public, format!("//[::ffff:127.0.0.2]:{port}/")),
        (Reach::Public, format!("http://inside.test:{port}/")),
        (Reach::Public, format!("http://mapped.test:{port}/")),
        (Reach::Public, "http://10.1.2.3/".to_owned()),
        (Reach::Public, "http://169.254.169.254/latest/meta-data/".to_owned()),
        (Reach::Private, "http://169.254.169.254/latest/meta-data/".to_owned()),
        (Reach::Private, "http://0xa9fea9fe/latest/meta-data/".to_owned()),
        (Reach::Private, "http://cloud.test/latest/meta-data/".to_owned()),
        (Reach::Private, "http://[fd00:ec2::254]/latest/meta-data/".to_owned()),
        (Reach::Metadata, "http://255.255.255.255/".to_owned()),
    ] {
        let last = Server::start("127.0.0.1", 0, &redirect(&to));
        let first = Server::start("127.0.0.1", 0, &redirect(&format!("http://127.0.0.1:{}/", last.port)));
        let judged = Guard { lookup: Arc::clone(&lookup), ..guard(reach) };
        let client = guarded(&options(), judged).unwrap();
        let refused = refused(get(&client, &format!("http://127.0.0.1:{}/", first.port)).await);
        assert_eq!((first.met(), last.met()), (1, 1), "{to}: {refused}");
    }
    assert_eq!(inside.met(), 0);
    // With the reach for it, the same way is gone to its end.
    let first = Server::start("127.0.0.1", 0, &redirect(&format!("http://inside.test:{port}/")));
    let client = guarded(&options(), Guard { lookup, ..guard(Reach::Private) }).unwrap();
    assert_eq!(get(&client, &format!("http://127.0.0.1:{}/", first.port)).await.unwrap(), 200);
    assert_eq!(inside.met(), 1);
}

#[test]
fn every_spelling_of_an_address_is_known() {
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "cache.localhost",
        "127。0。0。1",
        "10.0.0.1",
        "[fd12::1]",
        "192.168.1.5",
    ] {
        for url in [format!("http://{host}/x"), format!("https://user:word@{host}:8443/")] {
            let refused = check_literal(&url, Reach::Public).expect_err(&url);
            assert!(refused.to_string().contains("allow_private_cache_hosts"), "{url}: {refused}");
            assert_eq!(check_literal(&url, Reach::Private), Ok(()), "{url}");
        }
    }
    for host in ["169.254.169.254", "2852039166", "[::ffff:169.254.169.254]", "[fe80::1]", "100.100.100.200"]
    {
        let url = format!("http://{host}/");
        let refused = check_literal(&url, Reach::Private).expect_err(&url);
        assert!(!refused.to_string().contains("allow_private"), "{url}: {refused}");
        assert_eq!(check_literal(&url, Reach::Metadata), Ok(()), "{url}");
    }
    for url in
        ["https://cache.example.org/", "http://1.1.1.1/", "http://[2606:4700::1111]/", "no URL", "file:///x"]
    {
        assert_eq!(check_literal(url, Reach::Public), Ok(()), "{url}");
    }
    let zero = check_literal("http://0/", Reach::Metadata).unwrap_err();
    assert_eq!(zero.to_string(), "0.0.0.0 is the address of no host; correct the host");
}

#[tokio::test]
async fn an_address_in_a_url_is_judged_before_anybody_is_asked() {
    let inside = Server::start("127.0.0.2", 0, FINE);
    let client = client(&options()).unwrap();
    for host in ["127.0.0.2", "2130706434", "[::ffff:127.0.0.2]"] {
        refused(get(&client, &format!("http://{host}:{}/", inside.port)).await);
    }
    refused(get(&client, &format!("http://localhost:{}/", inside.port)).await);
    assert_eq!(inside.met(), 0);
}

/// A proxy may be in a private network; a cache may not have its name for that.
#[tokio::test]
async fn the_proxies_of_the_environment_are_the_operators_choice() {
    let set = |name: &str| match name {
        "HTTPS_PROXY" => Some("http://user:word@Proxy.test:3128".to_owned()),
        "ALL_PROXY" => Some("other.test:8080".to_owned()),
        "http_proxy" => Some(String::new()),
        _ => None,
    };
    let proxies = guard::proxies(set);
    assert_eq!(proxies, ["proxy.test", "other.test"]);
    let proxy = Server::start("127.0.0.2", 0, FINE);
    let (lookup, _) = names(&[("proxy.test", &[&["127.0.0.2"], &["127.0.0.2"], &["169.254.169.254"]])]);
    let guard = Guard { proxies: proxies.into(), lookup, ..guard(Reach::Public) };
    let said = refused(get(&guarded(&options(), guard.clone()).unwrap(), "http://proxy.test:3128/").await);
    assert_eq!(said.why, Why::Proxy);
    // As reqwest resolves the proxy of a request.
    let dialled = |name: &str| {
        let (guard, name) = (guard.clone(), name.parse().unwrap());
        async move { reqwest::dns::Resolve::resolve(&guard, name).await.map(Iterator::count).map_err(|_| ()) }
    };
    assert_eq!(dialled("PROXY.test").await, Ok(1));
    assert_eq!(dialled("proxy.test").await, Ok(1));
    assert_eq!(dialled("proxy.test").await, Err(()), "never a metadata service");
    assert_eq!(proxy.met(), 0);
}
