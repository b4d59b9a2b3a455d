//! A checkout of somebody else's, a Nix daemon and a private store, and a server on this machine. In: files and arguments; out:
//! what the program said, and who was asked for what.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ci_server::store::{RunEnd, RunId, SqlitePlace, SqliteStore, Store};
use serde_json::Value;
use service_kit::clock::Clock;
use test_kit::proc::Guard;
use test_kit::wait;

use crate::program::Said;
use crate::stage::Stage;

/// How long anything that should happen soon may take, on a busy machine: less than a build of the gate may.
pub(super) const SOON: Duration = Duration::from_secs(30);
/// What the server gives for a text.
pub(super) const TEXT: &str = "fetched through the proxy";

/// A stage with a repository in `theirs`, whose base is a commit, and a daemon beside it.
pub(super) struct World {
    pub(super) stage: Stage,
    daemon: Guard,
}

impl World {
    /// With `sandbox = true`. `None`, with the reason, where this machine cannot have a sandbox of either kind.
    pub(super) fn new() -> Option<Self> {
        Self::with_daemon("sandbox = true")
    }

    /// With these lines in the daemon's configuration.
    pub(super) fn with_daemon(config: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: a Nix daemon with a sandbox needs root");
            return None;
        }
        if !std::path::Path::new("/usr/bin/bwrap").exists() {
            println!("SKIPPED: bubblewrap is not installed");
            return None;
        }
        let stage = Stage::new();
        fs::create_dir_all(stage.path("nix/etc")).unwrap();
        let config = format!("substituters =\nbuild-users-group =\n{config}\n");
        fs::write(stage.path("nix/etc/nix.conf"), config).unwrap();
        let log = fs::File::create(stage.path("daemon.log")).unwrap();
        let mut command = stage.command("nix-daemon", "");
        command.env_remove("NIX_CONFIG").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let daemon = Guard::spawn(&mut command).unwrap();
        let socket = stage.path("nix/var/daemon-socket/socket");
        wait::until(SOON, || UnixStream::connect(&socket).is_ok());
        stage.script("", "mkdir theirs && cd theirs && git init --quiet --initial-branch=main");
        Some(Self { stage, daemon })
    }

    /// Its socket stays.
    pub(super) fn end_daemon(&mut self) {
        self.daemon.kill().unwrap();
        assert!(self.stage.path("nix/var/daemon-socket/socket").exists());
    }

    pub(super) fn write(&self, file: &str, text: &str) {
        let path = self.stage.path("theirs").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn commit(&self) {
        self.stage.script(
            "theirs",
            "git add . && git -c user.name=me -c user.email=me@example.org commit --quiet --message it",
        );
    }

    /// `ekaci run` with nothing of the tester's settings.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.stage.command("ekaci", "theirs");
        command.args(["run", "--eval-only", "--json"]).args(arguments);
        command.env("NIX_CONFIG", "substituters =\ndownload-attempts = 1\n");
        command
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Said {
        self.stage.run(self.command(arguments))
    }

    /// Warnings of the last run, as they are recorded.
    pub(super) fn recorded_warnings(&self) -> Vec<String> {
        let path = self.stage.path("home/.local/state/ekaci/ci.db");
        let store = SqliteStore::open(&SqlitePlace { path, clock: Clock::system(), vfs: None }).unwrap();
        let last = (1..).map_while(|id| store.run(RunId(id)).unwrap()).last().unwrap();
        match last.end {
            Some((RunEnd::Answered(outcome), _)) => outcome.warnings,
            other => panic!("{other:?}"),
        }
    }

    /// What it came to.
    pub(super) fn outcome(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&self.run(arguments))
    }
}

/// What became of the attributes of the head.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Those that evaluate and are new.
    pub(super) added: Vec<String>,
    /// Those that do not, with the kind and the message.
    pub(super) errors: BTreeMap<String, (String, String)>,
    /// Was the head's first job taken from an earlier run?
    pub(super) is_reused: bool,
    pub(super) warnings: Vec<String>,
}

impl Outcome {
    pub(super) fn of(said: &Said) -> Self {
        assert!(matches!(said.code, 0 | 1), "{said:?}");
        let value: Value = serde_json::from_str(&said.out).unwrap();
        let path = |path: &Value| {
            let parts = path.as_array().unwrap().iter().map(|part| part.as_str().unwrap());
            parts.collect::<Vec<_>>().join(".")
        };
        let comparison = &value["comparison"];
        let changes = comparison["changes"].as_array().unwrap();
        let mut added: Vec<String> = changes.iter().map(|change| path(&change["attr"]["path"])).collect();
        added.sort();
        let errors = comparison["errors"]["new"].as_array().unwrap().iter().map(|error| {
            let (error, text) = (&error[1], |value: &Value| value.as_str().unwrap().to_owned());
            (path(&error["path"]), (text(&error["kind"]), text(&error["message"])))
        });
        let is_reused = value["jobs"][0]["head"]["reused"].as_bool().unwrap();
        let warnings = value["warnings"].as_array().unwrap().iter();
        let warnings = warnings.map(|warning| warning.as_str().unwrap().to_owned()).collect();
        Self { added, errors: errors.collect(), is_reused, warnings }
    }

    pub(super) fn kind(&self, attr: &str) -> &str {
        self.errors.get(attr).map_or("no error", |(kind, _)| kind)
    }

    pub(super) fn message(&self, attr: &str) -> &str {
        self.errors.get(attr).map_or("no error", |(_, message)| message)
    }
}

/// A server of the test's own: an archive for what ends in `.tar.gz`, else [`TEXT`]. Ends with the process.
pub(super) struct Server {
    pub(super) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) fn start(tarball: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut head = [0; 4096];
                let size = client.read(&mut head).unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..size]);
                let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
                let body = if path.ends_with(".tar.gz") { &tarball[..] } else { TEXT.as_bytes() };
                note.lock().unwrap().push(path);
                let size = body.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n");
                let _ = client.write_all(&[head.as_bytes(), body].concat()); // it hung up
            }
        });
        Self { port, asked }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it was asked for since the last look, each path once.
    pub(super) fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked.dedup();
        asked
    }
}

/// Text of Nix: jobs by these names, each with more attributes.
pub(super) fn jobs(jobs: &[(&str, &str)]) -> String {
    let job = |(name, more): &(&str, &str)| format!("{name} = job \"{name}\" {{ {more} }};\n");
    let all: String = jobs.iter().map(job).collect();
    format!(
        "let job = name: more: derivation ({{ inherit name; system = \"x86_64-linux\"; builder = \"/bin/sh\"; }} // more);\n\
         in {{\n{all}}}\n"
    )
}
