//! The service manager's protocol against a test's own datagram socket and `systemd-socket-activate`.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

use service_kit::clock::{Clock, Time};
use service_kit::notify;
use service_kit::shutdown::Stop;

use crate::children::{Helper, command, this_binary};

/// Longer than any machine needs; a hang fails instead of lasting.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_manager_hears_of_start_life_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "2000000")];
    let mut child = Helper::start("service_manager::child_tells", &variables);
    let heard: Vec<String> = (0..5).map(|_| receive(&manager)).collect();
    assert_eq!(
        heard,
        [
            "READY=1\nSTATUS=serving 3\\nMAINPID=1 destinations\n",
            "WATCHDOG=1\n",
            "WATCHDOG=1\n",
            "STATUS=ending\n",
            "STOPPING=1\n"
        ]
    );
    assert!(child.wait().success());
}

fn receive(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[tokio::test]
#[ignore = "the child of the_manager_hears_of_start_life_and_end"]
async fn child_tells() {
    assert_eq!(notify::watchdog_period(), Some(Duration::from_secs(1)));
    notify::ready("serving 3\nMAINPID=1 destinations").unwrap();
    let (clock, manual) = Clock::manual(Time::from_ms(0));
    let stop = Stop::new();
    let mut beats = 0;
    let heart = tokio::spawn({
        let stop = stop.clone();
        // The second of three beats fails to come.
        async move {
            let alive = || {
                beats += 1;
                beats != 2
            };
            notify::watchdog(&clock, &stop, alive).await
        }
    });
    manual.advance(Duration::from_secs(2)).await;
    stop.request();
    heart.await.unwrap().unwrap();
    notify::status("ending").unwrap();
    notify::stopping().unwrap();
}

#[test]
fn an_absent_manager_is_an_error_that_names_it() {
    let variables = [("NOTIFY_SOCKET", "/nonexistent/notify")];
    let mut child = Helper::start("service_manager::child_tells_nobody", &variables);
    let said = child.line_after("error: ");
    assert_eq!(said, "cannot tell the service manager STOPPING=1; check NotifyAccess= and NOTIFY_SOCKET");
}

#[test]
#[ignore = "the child of an_absent_manager_is_an_error_that_names_it"]
fn child_tells_nobody() {
    println!("error: {}", notify::stopping().unwrap_err());
}

#[test]
fn sockets_of_the_manager_come_with_their_names() {
    const ACTIVATE: &str = "/usr/bin/systemd-socket-activate";
    if !Path::new(ACTIVATE).exists() {
        println!("skipped: {ACTIVATE} is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [enqueue, control] = ["enqueue", "control"].map(|name| dir.path().join(name));
    let (program, arguments) = this_binary("service_manager::child_is_activated");
    let mut activate = command(ACTIVATE);
    activate.arg("--fdname=enqueue:control");
    activate.args(["-l", enqueue.to_str().unwrap(), "-l", control.to_str().unwrap()]);
    let _child = Helper::spawn({
        activate.arg(program).args(arguments);
        activate
    });
    let [mut first, mut second] = [&enqueue, &control].map(|path| connect(path));
    assert_eq!(said(&mut first), "you reached enqueue");
    assert_eq!(said(&mut second), "you reached control");
}

/// Connects once the socket is there.
fn connect(path: &Path) -> UnixStream {
    let begun = std::time::Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(error) => assert!(begun.elapsed() < PATIENCE, "no socket at {}: {error}", path.display()),
        }
        std::thread::yield_now();
    }
}

fn said(stream: &mut UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
#[ignore = "the child of sockets_of_the_manager_come_with_their_names"]
fn child_is_activated() {
    let sockets = notify::take_listen_fds().unwrap();
    assert!(notify::take_listen_fds().is_err(), "taken twice");
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        for socket in sockets {
            let name = socket.name.clone();
            // Refuses a blocking listener: that it is taken shows that it is not one.
            let listener = tokio::net::UnixListener::from_std(socket.into_unix_listener().unwrap()).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = stream.into_std().unwrap();
            write!(stream, "you reached {name}").unwrap();
        }
    });
}

#[test]
fn without_a_manager_there_are_no_sockets_and_telling_is_nothing() {
    let mut child = Helper::start("service_manager::child_alone", &[]);
    child.line_after("alone");
    assert!(child.wait().success());
}

#[test]
#[ignore = "the child of without_a_manager_there_are_no_sockets_and_telling_is_nothing"]
fn child_alone() {
    assert!(notify::take_listen_fds().unwrap().is_empty());
    assert_eq!(notify::watchdog_period(), None);
    notify::ready("x").unwrap();
    println!("alone");
}
