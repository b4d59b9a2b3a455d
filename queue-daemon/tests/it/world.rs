//! A machine in a temporary folder: a private Nix store, a configuration, the daemon and the hook.
//!
//! In flow what a test wants to be there; out flow handles on the real programs. Everything ends with the `World`:
//! processes by their pid, files with the folder.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use test_kit::proc::Guard;
use test_kit::wait;

/// How long anything that should happen soon may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A binary cache in a folder of the machine.
pub(crate) const FOLDER_CACHE: &str =
    "[[caches]]\nid = \"main\"\ncache_type = \"nix-copy\"\ndestination = \"file://$W/cache\"\n";

/// A machine.
pub(crate) struct World {
    // Declared first, so that it ends before its folder goes.
    daemon: Option<Guard>,
    root: tempfile::TempDir,
    /// Where its Nix store and everything of it is.
    nix: PathBuf,
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

impl World {
    /// A machine with an empty store and a configuration of these `[[caches]]` blocks.
    pub(crate) fn new(caches: &str) -> World {
        World::with_queue("", caches)
    }

    /// The same with further keys of `[queue]`.
    pub(crate) fn with_queue(queue: &str, caches: &str) -> World {
        // Without a `-`: scripts tell paths by what stands behind one.
        World::in_folder(tempfile::Builder::new().prefix("eka_").tempdir().unwrap(), queue, caches)
    }

    /// A machine whose disk is memory, for tests of many files.
    pub(crate) fn in_memory(caches: &str) -> World {
        World::in_folder(test_kit::powercut::fast_dir(), "", caches)
    }

    fn in_folder(root: tempfile::TempDir, queue: &str, caches: &str) -> World {
        let nix = root.path().join("nix");
        let world = World { daemon: None, root, nix };
        world.configure(queue, caches);
        world.configure_hook("timeout_ms = 5000");
        let made = world.tool("nix-store").arg("--init").output().unwrap();
        assert!(made.status.success(), "nix-store --init: {made:?}");
        world
    }

    /// From now on the hook gives up on the daemon as soon as it does where nobody says otherwise. Until then it waits
    /// longer: on a machine that is busy with other tests a daemon may not answer so soon, and what the hook leaves in
    /// the spool instead comes in when a test does not expect it.
    pub(crate) fn let_hook_give_up_soon(&self) {
        self.configure_hook("");
    }

    fn configure_hook(&self, keys: &str) {
        let (socket, spool) = (self.path("enqueue.sock"), self.path("spool"));
        let text = format!("socket = {}\nspool = {}\n{keys}\n", socket.display(), spool.display());
        fs::write(self.hook_conf(), text).unwrap();
    }

    /// Another daemon on the store of a machine, in a folder of its own.
    pub(crate) fn beside(first: &World) -> World {
        let root = tempfile::Builder::new().prefix("eka_").tempdir().unwrap();
        World { daemon: None, root, nix: first.nix.clone() }
    }

    /// Writes the configuration anew; `$W` in it stands for the world's folder. Caches may be on this machine unless
    /// `caches` begins with a `[security]` of its own.
    pub(crate) fn configure(&self, queue: &str, caches: &str) {
        let own = caches.starts_with("[security]");
        let security = if own { "" } else { "[security]\nallow_private_cache_hosts = true\n" };
        let text = format!(
            "[queue]\nstate_dir = \"$W/state\"\nsocket = \"$W/enqueue.sock\"\ncontrol_socket = \"$W/control.sock\"\n\
             spool_dir = \"$W/spool\"\n{queue}\n{security}\n{caches}\n"
        );
        let text = text.replace("$W", self.path("").to_str().unwrap().trim_end_matches('/'));
        fs::write(self.config_file(), text).unwrap();
    }

    /// A `command` destination that appends `OUT_PATHS | DRV_PATH` to `$W/ID.log` and then runs `script`.
    pub(crate) fn command_cache(id: &str, script: &str, keys: &str) -> String {
        let script = format!("echo \\\"$OUT_PATHS | $DRV_PATH\\\" >> $W/{id}.log; {script}");
        format!(
            "[[caches]]\nid = \"{id}\"\ncache_type = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n{keys}\n"
        )
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.path("ekaci.toml")
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.start_with(|_| {});
    }

    /// The same with a changed command line or environment.
    pub(crate) fn start_with(&mut self, change: impl FnOnce(&mut Command)) {
        self.daemon = Some(self.spawn(change));
        wait::until(SOON, || {
            if let Some(status) = self.daemon.as_mut().unwrap().child().try_wait().unwrap() {
                panic!("the daemon ended at once, {status}:\n{}", self.log());
            }
            self.ask(&["status"]).code == 0
        });
    }

    /// A daemon that the caller holds, not waited for.
    pub(crate) fn spawn(&self, change: impl FnOnce(&mut Command)) -> Guard {
        let mut command = self.tool(queue_program());
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("daemon.log")).unwrap();
        command.arg("serve").arg("--config-file").arg(self.config_file());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        change(&mut command);
        Guard::spawn(&mut command).unwrap()
    }

    /// What the daemon has logged, all its lives together.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    pub(crate) fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().pid()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.daemon.take().unwrap().kill().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        self.signal("TERM");
        self.daemon_end()
    }

    /// Waits for the daemon to end by itself.
    pub(crate) fn daemon_end(&mut self) -> i32 {
        self.daemon.take().unwrap().wait(SOON).code().unwrap_or(-1)
    }

    /// Sends the daemon a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = tool("kill").arg(format!("-{name}")).arg(self.daemon_pid().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// One `eka-queue` subcommand.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Said {
        let mut command = self.tool(queue_program());
        run(command.arg("--config-file").arg(self.config_file()).args(arguments), b"")
    }

    /// The same with something on standard input.
    pub(crate) fn ask_with_input(&self, arguments: &[&str], input: &[u8]) -> Said {
        let mut command = self.tool(queue_program());
        run(command.arg("--config-file").arg(self.config_file()).args(arguments), input)
    }

    /// `status --json`.
    pub(crate) fn status(&self) -> Value {
        let said = self.ask(&["status", "--json"]);
        assert_eq!(said.code, 0, "{said:?}");
        serde_json::from_str(&said.out).unwrap()
    }

    /// How many deliveries of a destination are in a state.
    pub(crate) fn count(&self, destination: &str, state: &str) -> u64 {
        self.status()["destinations"][destination][state].as_u64().unwrap()
    }

    /// `list --json` with these flags.
    pub(crate) fn list(&self, flags: &[&str]) -> Vec<Value> {
        let said = self.ask(&[&["list", "--json"], flags].concat());
        assert_eq!(said.code, 0, "{said:?}");
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until so many deliveries of a destination are in a state.
    #[track_caller]
    pub(crate) fn until(&self, destination: &str, state: &str, count: u64) {
        if !wait::comes_true(SOON, || self.count(destination, state) == count) {
            panic!(
                "not {count} {state} at {destination} within {SOON:?}: {:?}\n{}",
                self.list(&[]),
                self.log()
            );
        }
    }

    /// The hook as Nix calls it.
    pub(crate) fn hook(&self, out_paths: &str, drv_path: &str) -> Said {
        let mut command = self.hook_command();
        run(command.env("OUT_PATHS", out_paths).env("DRV_PATH", drv_path), b"")
    }

    /// The hook with the world's socket and spool.
    pub(crate) fn hook_command(&self) -> Command {
        let mut command = self.tool(hook_program());
        command.env_remove("OUT_PATHS").env_remove("DRV_PATH");
        command.arg("--config-file").arg(self.hook_conf());
        command
    }

    /// A `hook.conf` with the world's socket and spool. It is there before anything runs: a call that found half of
    /// it would go to the machine's own spool.
    pub(crate) fn hook_conf(&self) -> PathBuf {
        self.path("hook.conf")
    }

    /// A program of this name or path, in the world's Nix store.
    pub(crate) fn tool(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.at_home(tool(program))
    }

    /// A command in the world's Nix store, with nothing of the tester's own settings.
    pub(crate) fn at_home(&self, mut command: Command) -> Command {
        command
            .env("NIX_STORE_DIR", self.nix.join("store"))
            .env("NIX_STATE_DIR", self.nix.join("var"))
            .env("NIX_LOG_DIR", self.nix.join("log"))
            .env("NIX_CONF_DIR", self.nix.join("etc"))
            .env("NIX_CONFIG", "substituters =\nsandbox = false\nbuild-users-group =\n")
            .env("HOME", self.path(""))
            .env_remove("NIX_REMOTE")
            .env_remove("EKA_CI_CONFIG_FILE");
        for name in ["SOCKET", "SPOOL", "TIMEOUT_MS", "TAG", "STRICT"] {
            command.env_remove(format!("EKA_HOOK_{name}"));
        }
        command
    }

    /// So many valid store paths without references, made at once.
    pub(crate) fn valid_paths(&self, count: usize) -> Vec<String> {
        let folder = tempfile::tempdir_in(self.path("")).unwrap();
        let salt = folder.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
        for i in 0..count {
            fs::write(folder.path().join(format!("p{i}")), format!("{salt}-{i}")).unwrap();
        }
        let mut files: Vec<PathBuf> = (0..count).map(|i| folder.path().join(format!("p{i}"))).collect();
        files.sort();
        let mut paths = Vec::with_capacity(count);
        for chunk in files.chunks(500) {
            let added = self.tool("nix-store").arg("--add").args(chunk).output().unwrap();
            assert!(added.status.success(), "{added:?}");
            paths.extend(String::from_utf8(added.stdout).unwrap().lines().map(str::to_owned));
        }
        paths
    }

    /// Builds a Nix expression with `eka-hook` as the post-build-hook; gives the printed paths.
    pub(crate) fn build(&self, expression: &str) -> Said {
        let hook = self.path("hook.sh");
        let text = format!(
            "#!/bin/sh\nexec {} --config-file {}\n",
            hook_program().display(),
            self.hook_conf().display()
        );
        self.build_with_hook(expression, &hook, &text)
    }

    /// The same with a hook script of the test's own.
    pub(crate) fn build_with_hook(&self, expression: &str, hook: &Path, text: &str) -> Said {
        test_kit::script::write(hook, text);
        let file = self.path("set.nix");
        fs::write(&file, format!("{PRELUDE}\n{expression}")).unwrap();
        let config = format!(
            "substituters =\nsandbox = false\nbuild-users-group =\npost-build-hook = {}\n",
            hook.display()
        );
        run(self.tool("nix-build").arg(&file).arg("--no-out-link").env("NIX_CONFIG", config), b"")
    }
}

/// `run name extra script`: a derivation built by the static busybox.
const PRELUDE: &str = r#"
let
  bb = builtins.path { path = /usr/bin; name = "bb"; filter = p: t: baseNameOf p == "busybox"; } + "/busybox";
  run = name: extra: script: derivation ({
    inherit name; system = builtins.currentSystem; builder = bb; args = [ "sh" "-euc" script ];
  } // extra);
in
"#;

/// A program of this name or path, with our own environment.
#[expect(clippy::disallowed_methods, reason = "tests start the programs they test")]
pub(crate) fn tool(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

/// Another program with the environment of a command that is about to run.
pub(crate) fn same_world(command: &Command, program: &str) -> Command {
    let mut other = tool(program);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other
}

/// Whether a test may have mounts of its own here; says so when not.
pub(crate) fn may_mount() -> bool {
    let can = tool("unshare").args(["--mount", "true"]).output().unwrap();
    if !can.status.success() {
        println!("skipped: no mount namespaces here: {can:?}");
    }
    can.status.success()
}

/// `eka-queue`.
pub(crate) fn queue_program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_eka-queue"))
}

/// The hook lies beside the daemon when the workspace was built.
pub(crate) fn hook_program() -> PathBuf {
    let hook = queue_program().with_file_name("eka-hook");
    assert!(
        hook.exists(),
        "{} is not built: run `cargo build -p eka-hook`, or test the workspace",
        hook.display()
    );
    hook
}

/// Runs a command with this input to its end.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Said {
    let begun = Instant::now();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input); // the program may not want it
    });
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let took = begun.elapsed();
    writer.join().unwrap();
    Said {
        code: status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
        took,
    }
}

/// The lines of a command destination's log.
pub(crate) fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}
