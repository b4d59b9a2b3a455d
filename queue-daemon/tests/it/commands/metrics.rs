//! What Prometheus reads, and that it is the same over TCP and over the control socket.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::world::World;

fn get(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer); // whoever is refused may be cut off
    answer
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";

fn stage() -> (World, u16) {
    let port = test_kit::port::free();
    let caches = [
        World::command_cache("main", "case $OUT_PATHS in *-p1*) exit 65;; esac", ""),
        World::command_cache("down", "exit 69", "breaker = { failures = 1, probe = \"1h\" }"),
        World::command_cache("held", "", "exclude = [ \"p2\" ]"),
    ];
    let mut world = World::with_queue(&format!("metrics_address = \"127.0.0.1:{port}\""), &caches.concat());
    let paths = world.valid_paths(3);
    world.start();
    assert_eq!(world.ask(&["pause", "held"]).code, 0);
    let is_open = |world: &World| world.status()["destinations"]["down"]["breaker"] == "open";
    for path in &paths {
        assert_eq!(world.hook(path, "").err, "");
        // The others find it in doubt: else one might be leased, and given back.
        test_kit::wait::until(crate::world::SOON, || is_open(&world));
    }
    world.until("main", "done", 2);
    world.until("main", "dead", 1);
    // Outcomes are counted after they are in the database, one number at a time.
    test_kit::wait::until(crate::world::SOON, || {
        let page = get(tcp(port), GET);
        TOLD.iter().all(|(series, count)| found(&page, series) == Some(*count))
    });
    (world, port)
}

/// What is counted of the outcomes that the stage waits for.
const TOLD: [(&str, f64); 6] = [
    ("eka_queue_outcomes_total{destination=\"main\",state=\"done\"}", 2.0),
    ("eka_queue_outcomes_total{destination=\"main\",state=\"dead\"}", 1.0),
    ("eka_queue_outcomes_total{destination=\"down\",state=\"waiting\"}", 1.0),
    ("eka_queue_failures_total{class=\"refused\",destination=\"main\"}", 1.0),
    ("eka_queue_failures_total{class=\"unreachable\",destination=\"down\"}", 1.0),
    ("eka_queue_lag_seconds_count{destination=\"main\"}", 2.0),
];

fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn value(text: &str, series: &str) -> f64 {
    found(text, series).unwrap_or_else(|| panic!("no {series} in:\n{text}"))
}

fn found(text: &str, series: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}

#[test]
fn the_numbers_are_those_of_the_queue() {
    let (world, port) = stage();
    let text = get(tcp(port), GET);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"), "{head}");
    let is = |series: &str, wanted: f64| assert_eq!(value(body, series), wanted, "{series}");
    is("eka_queue_deliveries{destination=\"main\",state=\"done\"}", 2.0);
    is("eka_queue_deliveries{destination=\"main\",state=\"dead\"}", 1.0);
    is("eka_queue_deliveries{destination=\"held\",state=\"queued\"}", 2.0);
    is("eka_queue_skipped_total{destination=\"held\"}", 1.0);
    is("eka_queue_breaker_open{destination=\"down\"}", 1.0);
    is("eka_queue_breaker_open{destination=\"main\"}", 0.0);
    is("eka_queue_paused{destination=\"held\"}", 1.0);
    is("eka_queue_outcomes_total{destination=\"main\",state=\"done\"}", 2.0);
    is("eka_queue_lag_seconds_count{destination=\"main\"}", 2.0);
    // A hook that had to wait too long asks once more through the spool, and is answered again.
    assert!(value(body, "eka_queue_requests_total{answer=\"queued\"}") >= 3.0);
    is("eka_queue_spool_files", 0.0);
    assert!(value(body, "eka_queue_pushed_bytes_total{destination=\"main\"}") > 0.0);
    drop(world);
}

/// Dashboards and alerts are written against these names.
#[test]
fn the_names_types_and_labels() {
    let (world, _) = stage();
    let text = get(UnixStream::connect(world.path("control.sock")).unwrap(), GET);
    let body = text.split_once("\r\n\r\n").unwrap().1;
    let mut series: Vec<&str> = body
        .lines()
        .map(|line| if line.starts_with('#') { line } else { line.rsplit_once(' ').unwrap().0 })
        .filter(|line| !line.contains("_bucket{") || line.contains("destination=\"main\""))
        .collect();
    series.dedup();
    insta::assert_snapshot!(series.join("\n"));
}

#[test]
fn the_control_socket_gives_the_same_text() {
    let (world, port) = stage();
    let names = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("eka_queue_"));
        lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    let over_socket = get(UnixStream::connect(world.path("control.sock")).unwrap(), GET);
    let over_tcp = get(tcp(port), GET);
    assert_eq!(names(&over_socket), names(&over_tcp));
}

/// The port gives metrics and takes nothing else: neither commands nor endless heads.
#[test]
fn nothing_but_a_get_is_answered_on_the_port() {
    let (world, port) = stage();
    assert_eq!(get(tcp(port), "{\"command\":\"drop\",\"selection\":{}}\n"), "");
    assert_eq!(get(tcp(port), "POST /metrics HTTP/1.1\r\n\r\n"), "");
    assert_eq!(get(tcp(port), "\r\n"), "");
    let mut half = tcp(port);
    half.write_all(b"GET /metrics").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let mut nothing = String::new();
    let _ = half.read_to_string(&mut nothing);
    assert_eq!(nothing, "");
    assert_eq!(world.list(&[]).len(), 8, "nothing was dropped");
    assert!(get(tcp(port), GET).starts_with("HTTP/1.1 200"));
}
