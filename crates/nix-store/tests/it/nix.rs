//! A real Nix with a store, state and configuration of its own in a temporary folder, and a package set that builds
//! in milliseconds without network or sandbox.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix_store::StoreDirs;
use nix_types::{DrvPath, StorePath};
use tempfile::TempDir;
use test_kit::proc::Guard;

use crate::support::{command, until};

const CONFIG: &str = "substituters =\nsandbox = false\nbuild-users-group =\nexperimental-features = nix-command ca-derivations\n";

/// a ← b (refers to itself) ← c (two outputs); a download; a content-addressed one, another that uses it, and its user;
/// one that is told apart by `seed`.
const SET: &str = r#"
{ seed ? "0" }:
let
  bb = builtins.path { path = /usr/bin; name = "bb"; filter = p: t: baseNameOf p == "busybox"; } + "/busybox";
  run = name: extra: script: derivation ({
    inherit name; system = builtins.currentSystem; builder = bb; args = [ "sh" "-euc" script ];
  } // extra);
  fixed = { outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = builtins.hashString "sha256" "hi\n"; };
  floating = { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
in rec {
  a = run "a" {} "echo a > $out";
  b = run "b" {} "echo ${a} $out > $out";
  c = run "c" { outputs = [ "out" "dev" ]; } "echo ${b} > $out; echo $out > $dev";
  fod = run "fod" fixed "echo hi > $out";
  ca = run "ca" floating "echo ca > $out";
  catop = run "catop" floating "${bb} cat ${ca} > $out; echo ${ca} >> $out";
  user = run "user" {} "${bb} cat ${ca} > $out; echo ${ca} >> $out";
  seeded = run "seeded" { inherit seed; } "echo $seed > $out";
}
"#;

pub(crate) struct Nix {
    folder: TempDir,
}

impl Nix {
    pub(crate) fn new() -> Self {
        for (program, package) in [("/usr/bin/nix-store", "nix-bin"), ("/usr/bin/busybox", "busybox-static")]
        {
            assert!(Path::new(program).exists(), "{program} is missing: these tests need Debian's {package}");
        }
        let folder = tempfile::Builder::new().prefix("nix-store-").tempdir().unwrap();
        // Others (the unprivileged reader, the daemon) look in too.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for sub in ["etc", "home"] {
            fs::create_dir(folder.path().join(sub)).unwrap();
        }
        fs::write(folder.path().join("set.nix"), SET).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, sub: &str) -> PathBuf {
        self.folder.path().join(sub)
    }

    pub(crate) fn dirs(&self) -> StoreDirs {
        StoreDirs::new(self.path("store"), self.path("var")).unwrap().with_log(self.path("log")).unwrap()
    }

    /// The variables that make any Nix command use this store.
    pub(crate) fn env(&self) -> BTreeMap<&'static str, PathBuf> {
        let more = [("NIX_CONFIG", PathBuf::from(CONFIG)), ("XDG_CACHE_HOME", self.path("home/cache"))];
        test_kit::nix::variables(self.folder.path()).into_iter().chain(more).collect()
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = command(program);
        command.envs(self.env()).env_remove("NIX_REMOTE").env_remove("NIX_PATH").stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed and gives the lines it printed.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Vec<String> {
        let output = self.command(program).args(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Builds attributes of the set and gives their first outputs.
    pub(crate) fn build(&self, attributes: &[&str]) -> Vec<StorePath> {
        self.build_seeded("0", attributes)
    }

    pub(crate) fn build_seeded(&self, seed: &str, attributes: &[&str]) -> Vec<StorePath> {
        self.on_set("nix-build", &["--no-out-link", "--argstr", "seed", seed], attributes)
    }

    /// The derivations of attributes of the set.
    pub(crate) fn drvs(&self, attributes: &[&str]) -> Vec<DrvPath> {
        let drvs = self.on_set("nix-instantiate", &[], attributes);
        drvs.into_iter().map(|drv| DrvPath::try_from(drv).unwrap()).collect()
    }

    fn on_set(&self, program: &str, options: &[&str], attributes: &[&str]) -> Vec<StorePath> {
        let set = self.path("set.nix");
        let mut args = vec![set.to_str().unwrap()];
        args.extend(options);
        args.extend(attributes.iter().flat_map(|attribute| ["-A", attribute]));
        self.run(program, &args).iter().map(|line| StorePath::parse_str(line).unwrap()).collect()
    }

    /// A path of one attribute.
    pub(crate) fn one(&self, attribute: &str) -> StorePath {
        self.build(&[attribute]).remove(0)
    }

    /// Collects garbage, with no roots but those somebody made.
    pub(crate) fn collect_garbage(&self) {
        self.run("nix-store", &["--gc"]);
    }

    /// A daemon for this store, answering when this returns.
    pub(crate) fn daemon(&self) -> Guard {
        let mut command = self.command("nix-daemon");
        let log = fs::File::create(self.path("daemon.log")).unwrap();
        let daemon = Guard::spawn(command.stdout(log.try_clone().unwrap()).stderr(log)).unwrap();
        let socket = self.path("var/daemon-socket/socket");
        until("the daemon to listen", || UnixStream::connect(&socket).ok());
        daemon
    }
}

/// The processes a daemon began for its conversations.
pub(crate) fn workers_of(daemon: &Guard) -> Vec<u32> {
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let children = fs::read_to_string(children).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

impl Drop for Nix {
    fn drop(&mut self) {
        // Folders of the store are read-only, which stops a user other than root from removing them.
        let _ = command("chmod").args(["-R", "u+w"]).arg(self.folder.path()).status(); // then the removal says so
    }
}
