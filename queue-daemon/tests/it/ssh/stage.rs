//! A machine that is reached by ssh: its sshd, its keys, its store.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use test_kit::sshd::Sshd;
use test_kit::wait;

use crate::world::{SOON, Said, World, run, tool};

/// Both ways to speak with it.
pub(crate) const SCHEMES: [&str; 2] = ["ssh", "ssh-ng"];

/// The other machine. Its sshd ends with it.
pub(crate) struct Far {
    sshd: Sshd,
    root: tempfile::TempDir,
}

impl Far {
    /// A machine for the paths of `world`, whose Nix is configured like this.
    pub(crate) fn new(world: &World, nix_conf: &str) -> Far {
        let root = tempfile::Builder::new().prefix("far_").tempdir().unwrap();
        let at = |name: &str| root.path().join(name).display().to_string();
        fs::create_dir(at("etc")).unwrap();
        fs::write(at("etc/nix.conf"), format!("{}{nix_conf}\n", test_kit::nix::SETTINGS)).unwrap();
        let config = format!(
            "SetEnv NIX_STORE_DIR={} NIX_CONF_DIR={} NIX_STATE_DIR={} NIX_LOG_DIR={}",
            world.path("nix/store").display(),
            at("etc"),
            at("var"),
            at("log"),
        );
        Far { sshd: Sshd::new(root.path(), &config), root }
    }

    /// Starts its sshd again and waits until it listens.
    pub(crate) fn start(&mut self) {
        self.sshd.start();
    }

    /// Nobody listens any more, and those who are connected are cut off.
    pub(crate) fn stop(&mut self) {
        self.sshd.stop();
        self.cut();
    }

    /// Ends the connections there are. Only processes of this sshd: each has an ancestor that logged its number here.
    pub(crate) fn cut(&self) {
        for pid in self.pids() {
            let _ = tool("kill").arg("-KILL").arg(&pid).stderr(Stdio::null()).status().unwrap(); // gone already
        }
    }

    /// The processes of its connections that still serve somebody.
    fn pids(&self) -> Vec<String> {
        let said = tool("pgrep")
            .args(["-f", "--", &format!("--store {}", self.store().display())])
            .output()
            .unwrap();
        String::from_utf8(said.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Only the key of this name is known to be that of the machine.
    pub(crate) fn know(&self, key: &str) {
        self.sshd.know(key);
    }

    /// How often somebody logged in.
    pub(crate) fn logins(&self) -> usize {
        self.sshd.logins()
    }

    pub(crate) fn log(&self) -> String {
        self.sshd.log()
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// Its store, as Nix names it.
    pub(crate) fn store(&self) -> PathBuf {
        self.path("root")
    }

    /// The URL of its store, with these parameters beside those of the stage.
    pub(crate) fn url(&self, scheme: &str, parameters: &str) -> String {
        let (address, store, key) = (self.sshd.address(), self.store(), self.path("id"));
        format!("{scheme}://{address}?remote-store={}&ssh-key={}{parameters}", store.display(), key.display())
    }

    /// The parameter that believes no key but this.
    pub(crate) fn pin(&self, key: &str) -> String {
        let coded = tool("base64").arg("-w0").arg(self.path(&format!("{key}.pub"))).output().unwrap();
        let coded = String::from_utf8(coded.stdout).unwrap().replace('+', "%2B").replace('=', "%3D");
        format!("&base64-ssh-public-host-key={coded}")
    }

    /// A `[[caches]]` block named by its scheme.
    pub(crate) fn block(&self, scheme: &str, parameters: &str, keys: &str) -> String {
        let url = self.url(scheme, parameters);
        format!("[[caches]]\nid = \"{scheme}\"\ncache_type = \"nix-copy\"\ndestination = \"{url}\"\n{keys}\n")
    }

    /// What ssh needs to know of this stage, and of nothing the tester has configured.
    pub(crate) fn ssh_options(&self) -> String {
        format!(
            "-F /dev/null -oUserKnownHostsFile={} -oGlobalKnownHostsFile=/dev/null",
            self.path("known_hosts").display()
        )
    }

    /// Starts the daemon with them.
    pub(crate) fn start_daemon(&self, world: &mut World) {
        world.start_with(|command| {
            command.env("NIX_SSHOPTS", self.ssh_options());
        });
    }

    /// The same Nix looks into that store without ssh.
    pub(crate) fn nix_store(&self, world: &World, arguments: &[&str]) -> Said {
        let mut command = world.tool("nix-store");
        command.env("NIX_CONF_DIR", self.path("etc")).env_remove("NIX_CONFIG");
        run(command.arg("--store").arg(self.store()).args(arguments), b"")
    }

    /// Nix finds all of these there, each what it is registered to be.
    #[track_caller]
    pub(crate) fn assert_whole(&self, world: &World, paths: &[String]) {
        let arguments: Vec<&str> =
            std::iter::once("--verify-path").chain(paths.iter().map(String::as_str)).collect();
        let said = self.nix_store(world, &arguments);
        assert_eq!(said.code, 0, "{said:?}");
    }

    pub(crate) fn has(&self, world: &World, path: &str) -> bool {
        self.nix_store(world, &["--check-validity", path]).code == 0
    }

    /// The signatures of a path there.
    pub(crate) fn signatures(&self, world: &World, path: &str) -> String {
        let mut command = world.tool("nix");
        command.args(["--extra-experimental-features", "nix-command", "path-info", "--sigs", "--store"]);
        let said = run(command.arg(self.store()).arg(path), b"");
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    }
}

/// What Nix printed that are store paths.
pub(crate) fn closure(world: &World, path: &str) -> Vec<String> {
    let said = run(world.tool("nix-store").args(["--query", "--requisites", path]), b"");
    assert_eq!(said.code, 0, "{said:?}");
    said.out.lines().map(str::to_owned).collect()
}

/// Why each delivery of a destination that failed last did so.
pub(crate) fn last_errors(world: &World, id: &str) -> Vec<String> {
    let rows = world.list(&["--destination", id]);
    rows.iter().filter_map(|row| row["last_error"].as_str().map(str::to_owned)).collect()
}

/// Waits until the last error of some delivery contains all of these.
#[track_caller]
pub(crate) fn told(world: &World, id: &str, parts: &[&str]) {
    let told = wait::comes_true(SOON, || {
        last_errors(world, id).iter().any(|why| parts.iter().all(|part| why.contains(part)))
    });
    assert!(told, "{parts:?}: {:?}\n{}", last_errors(world, id), world.log());
}
