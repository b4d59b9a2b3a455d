//! `watch` as people and programs meet it: in a pipe, on a terminal, as JSON.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use test_kit::http_cache::{Cache, Fault, Rule};
use test_kit::proc::Guard;
use test_kit::wait;

use crate::world::{SOON, World, queue_program, tool};

fn watch(world: &World) -> Command {
    let mut command = world.tool(queue_program());
    command.arg("--config-file").arg(world.config_file()).args(["watch", "--interval", "100ms"]);
    command.stdin(Stdio::null());
    command
}

fn interrupt(begun: &Guard) {
    assert!(tool("kill").args(["-INT", &begun.pid().to_string()]).status().unwrap().success());
}

#[test]
fn in_a_pipe_each_change_is_a_line_and_ctrl_c_is_a_good_end() {
    let mut world = World::new(&World::command_cache("a", "", ""));
    let paths = world.valid_paths(3);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    assert_eq!(world.ask(&["push", &paths[0], &paths[1]]).code, 0);
    let mut watch = Guard::spawn(watch(&world).stdout(Stdio::piped()).stderr(Stdio::null())).unwrap();
    let mut lines = BufReader::new(watch.child().stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "a: 2 queued, paused");
    assert_eq!(world.ask(&["push", &paths[2]]).code, 0);
    assert_eq!(lines.next().unwrap(), "a: 3 queued, paused");
    assert_eq!(world.ask(&["resume"]).code, 0);
    let last = lines.find(|line| line.contains("nothing owed")).unwrap();
    assert_eq!(last, "a: 3 done since the watch began, nothing owed");
    // The daemon may go and come back.
    world.kill();
    // It may have been in the middle of an answer, which is said first.
    assert!(lines.any(|line| line.starts_with("no daemon answers at")));
    world.start();
    assert_eq!(world.ask(&["drop", "--all"]).code, 0);
    assert_eq!(lines.next().unwrap(), "a: 3 done since the watch began, nothing owed");
    interrupt(&watch);
    assert_eq!(watch.wait(SOON).code(), Some(0));
}

#[test]
fn without_a_daemon_it_ends_with_69() {
    let world = World::new("");
    for arguments in [&["watch"][..], &["watch", "--once"], &["watch", "--json"]] {
        let said = world.ask(arguments);
        assert_eq!(said.code, 69, "{said:?}");
        assert!(said.err.starts_with("eka-queue: no daemon answers at"), "{said:?}");
    }
}

#[test]
fn transfers_that_are_under_way_are_seen() {
    let cache = Cache::start();
    cache.fault(Rule::always("PUT", "/c/nar/", Fault::Stall));
    let mut world = World::new(&format!(
        "[[caches]]\nid = \"main\"\ncache_type = \"nix-copy\"\ndestination = \"{}/c\"\n",
        cache.url()
    ));
    let paths = world.valid_paths(2);
    world.start();
    assert_eq!(world.ask(&["push", &paths[0], &paths[1]]).code, 0);
    let look = || {
        let said = world.ask(&["watch", "--json", "--once"]);
        assert_eq!(said.code, 0, "{said:?}");
        serde_json::from_str::<Value>(&said.out).unwrap()["destinations"]["main"].clone()
    };
    wait::until(SOON, || look()["moving"].as_array().unwrap().len() == 2);
    let seen = look();
    let mut moving: Vec<&str> =
        seen["moving"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    moving.sort_unstable();
    let mut want = paths;
    want.sort();
    assert_eq!(moving, want);
    let nar_bytes: u64 =
        seen["moving"].as_array().unwrap().iter().map(|one| one["nar_bytes"].as_u64().unwrap()).sum();
    assert_eq!(seen["owed_nar_bytes"], nar_bytes);
    assert_eq!(seen["eta_seconds"], Value::Null, "nothing was ever packed, so nobody can tell");
    let said = world.ask(&["watch", "--once"]);
    assert!(said.out.contains("  2 under way\n"), "{said:?}");
    let names: Vec<&str> = want.iter().map(|path| &path[path.rfind("-p").unwrap() + 1..]).collect();
    assert!(names.iter().all(|name| said.out.lines().any(|line| line.ends_with(name))), "{said:?}");
    cache.heal();
}

/// A terminal of this size, both ends.
fn terminal(columns: u16, rows: u16) -> (OwnedFd, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};

    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(slave.as_fd(), size).unwrap();
    (master, slave.into())
}

#[test]
fn on_a_terminal_a_picture_is_drawn_over_itself_and_the_cursor_comes_back() {
    let mut world = World::new(&World::command_cache("a", "", ""));
    let paths = world.valid_paths(2);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    assert_eq!(world.ask(&["push", &paths[0], &paths[1]]).code, 0);
    for colours in [true, false] {
        let (master, slave) = terminal(40, 24);
        let mut command = watch(&world);
        command.env("TERM", "xterm").env_remove("NO_COLOR").stdout(Stdio::from(slave)).stderr(Stdio::null());
        if !colours {
            command.env("NO_COLOR", "1");
        }
        let mut watch = Guard::spawn(&mut command).unwrap();
        drop(command); // and with it our end of the terminal
        let shown = Arc::new(Mutex::new(String::new()));
        let reader = std::thread::spawn({
            let shown = Arc::clone(&shown);
            move || {
                let (mut file, mut bytes) = (fs::File::from(master), [0; 4_096]);
                // The other end is closed: an error, on Linux.
                while let Ok(count @ 1..) = file.read(&mut bytes) {
                    shown.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
                }
            }
        });
        // The second picture begins where the first one did.
        wait::until(SOON, || shown.lock().unwrap().contains("A\r"));
        interrupt(&watch);
        assert_eq!(watch.wait(SOON).code(), Some(0));
        reader.join().unwrap();
        let shown = shown.lock().unwrap().clone();
        assert!(shown.starts_with("\x1b[?25l\x1b[?7leka-queue "), "{shown:?}");
        assert!(shown.ends_with("\x1b[J\x1b[?7h\x1b[?7h\x1b[?25h"), "{shown:?}");
        assert_eq!(shown.contains("\x1b[33mpaused"), colours, "{shown:?}");
        assert!(shown.contains("2 queued"), "{shown:?}");
        let widest = shown.split("\r\n").map(|line| visible(line).chars().count()).max().unwrap();
        assert!(widest <= 40, "{widest} columns: {shown:?}");
    }
}

/// A line without control sequences.
fn visible(line: &str) -> String {
    let (mut kept, mut chars) = (String::new(), line.chars());
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                chars.by_ref().skip(1).find(char::is_ascii_alphabetic);
            }
            '\r' | '\n' => {}
            c => kept.push(c),
        }
    }
    kept
}
