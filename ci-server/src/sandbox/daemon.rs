//! Does the Nix daemon confine what it builds? In: how it is spoken to. Out: yes, or what is open and how to close it. It is
//! found out and not read from a configuration: builds that Nix itself brings along try to read a file that is on the
//! daemon's machine for certain, the number of its database's layout, and that no sandbox shows. A sandbox that cannot be
//! judged counts as none. What outsiders wrote is neither evaluated nor built before [`DaemonGate::check`] said yes.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::future::pending;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix_store::process::{Outcome, ProcessError, Spec, run};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::{Confinement, Keeper, NOBODY, SandboxError, StoreAccess};

/// Longest one of the builds may take.
pub(super) const BUILD_MAX: Duration = Duration::from_secs(60);

/// Two builds: of a file that every build may read, and of the canary. Both copy a file whose content is known beforehand;
/// what differs is whether they can. Their outputs are fixed, so that `sandbox = relaxed` lets them out as well.
const EXPRESSION: &str = r#"
{ name, text, hash, canary }:
let
  copy = outputHash: url: derivation {
    inherit name url outputHash;
    system = "builtin";
    builder = "builtin:fetchurl";
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
  };
in {
  control = copy (builtins.hashString "sha256" text) "file://${builtins.toFile "control" text}";
  canary = copy hash canary;
}
"#;

/// Stands between outsiders' code and a Nix daemon.
#[derive(Debug)]
pub struct DaemonGate {
    /// The daemon's state folder: `/nix/var/nix`.
    state_dir: PathBuf,
    /// Variables of the client, beside ours.
    variables: Vec<(OsString, OsString)>,
    /// Was it shown?
    shown: Mutex<bool>,
}

/// Why nothing of outsiders is evaluated or built.
#[derive(Debug, thiserror::Error)]
pub enum Unconfined {
    /// Builds read files of the machine.
    #[error(
        "what the Nix daemon builds can read files of this machine: set `sandbox = true`, not `relaxed`, in its nix.conf and restart nix-daemon"
    )]
    Open,
    /// Evaluations can turn the sandbox off.
    #[error(
        "the Nix daemon lets evaluations turn its sandbox off: take {user} out of `trusted-users` in its nix.conf, the `@group`s they are in and `*` as well, and restart nix-daemon"
    )]
    Trusted {
        /// As whom evaluations ask.
        user: String,
    },
    /// No answer.
    #[error("cannot tell whether the Nix daemon confines its builds: see that nix-daemon runs ({said})")]
    Unknown {
        /// The end of what was said.
        said: String,
    },
    /// The daemon's canary cannot be read.
    #[error("cannot tell whether the Nix daemon confines its builds: it has no {}", file.display())]
    NoCanary {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The client cannot be started.
    #[error("cannot ask the Nix daemon to build")]
    Start(#[source] ProcessError),
    /// The client cannot be confined.
    #[error("cannot ask the Nix daemon as an evaluation would")]
    Confine(#[source] SandboxError),
}

/// Who asks the daemon.
#[derive(Clone, Copy)]
enum Asker<'a> {
    /// We, as for builds.
    Ourselves,
    /// A confined evaluation, which says that it wants no sandbox.
    Evaluation(&'a Keeper),
}

impl DaemonGate {
    /// A gate that is closed until it is asked. `variables` are for the clients that ask the daemon, beside our own ones.
    #[must_use]
    pub fn new(state_dir: PathBuf, variables: Vec<(OsString, OsString)>) -> Self {
        Self { state_dir, variables, shown: Mutex::new(false) }
    }

    /// Finds out, also as an evaluation of this keeper's would ask; a yes is remembered, so that later calls cost nothing.
    ///
    /// # Errors
    /// [`Unconfined`]
    pub async fn check(&self, keeper: &Keeper) -> Result<(), Unconfined> {
        let mut shown = self.shown.lock().await;
        if *shown {
            return Ok(());
        }
        let trusted = Unconfined::Trusted { user: asks_as() };
        for (asker, open) in [(Asker::Ourselves, Unconfined::Open), (Asker::Evaluation(keeper), trusted)] {
            self.can_read("control", asker, true).await?;
            if self.can_read("canary", asker, false).await? {
                return Err(open);
            }
        }
        *shown = true;
        Ok(())
    }

    /// Can this build read its file? Only a build that was tried says no: where it `must`, no is no answer.
    async fn can_read(&self, attribute: &str, asker: Asker<'_>, must: bool) -> Result<bool, Unconfined> {
        // The daemon makes it when it is asked for the first time, which is for the control.
        let file = self.state_dir.join("db/schema");
        let content = match fs::read(&file) {
            Ok(content) => content,
            Err(_) if must => Vec::new(), // the control needs none
            Err(source) => return Err(Unconfined::NoCanary { file, source }),
        };
        let outcome = self.build(attribute, asker, &file, &content).await?;
        match outcome.success() {
            false if must => Err(Unconfined::Unknown { said: super::detect::said(&outcome) }),
            success => Ok(success),
        }
    }

    async fn build(
        &self,
        attribute: &str,
        asker: Asker<'_>,
        canary: &Path,
        content: &[u8],
    ) -> Result<Outcome, Unconfined> {
        let hash = Sha256::digest(content).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}"); // to memory
            hex
        });
        // Each build is a new one: what is in the store already would be taken from there.
        let unique = RandomState::new().build_hasher().finish();
        let mut url = OsString::from("file://");
        url.push(canary);
        let name = format!("eka-canary-{unique:016x}");
        let text = format!("{unique:016x}\n");
        let words = [("name", name.into()), ("text", text.into()), ("hash", hash.into()), ("canary", url)];
        let mut spec = Spec::new("nix-build").args(["--no-out-link", "-E", EXPRESSION, "-A", attribute]);
        // No cache has what never was before, and one that is out of reach would be waited for.
        spec = spec.args(["--option", "substitute", "false"]);
        for (name, value) in words {
            spec = spec.args(["--argstr", name]).arg(value);
        }
        for (name, value) in &self.variables {
            spec = spec.env(name, value);
        }
        let spec = spec.env("NIX_REMOTE", "daemon").limits(Some(BUILD_MAX), None);
        let spec = match asker {
            Asker::Ourselves => spec,
            Asker::Evaluation(keeper) => confined(keeper, &spec.args(["--option", "sandbox", "false"]))?,
        };
        run(&spec, pending()).await.map_err(Unconfined::Start)
    }
}

/// As whom the daemon sees evaluations: root has them run by nobody.
fn asks_as() -> String {
    let ourselves = rustix::process::geteuid();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default(); // numbers are names enough
    if ourselves.is_root() {
        format!("the user {}, as whom root has code evaluated,", name_of(NOBODY, &users))
    } else {
        format!("the user {}", name_of(ourselves.as_raw(), &users))
    }
}

/// What a list of users calls one, or else the number.
fn name_of(user: u32, users: &str) -> String {
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(user)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| user.to_string())
}

fn confined(keeper: &Keeper, spec: &Spec) -> Result<Spec, Unconfined> {
    let store = keeper.daemon.as_ref().map_or(StoreAccess::None, |daemon| StoreAccess::Daemon {
        socket_folder: daemon.socket_folder.clone(),
        store: daemon.store.clone(),
    });
    let confinement =
        Confinement { reads: Vec::new(), store, limits: keeper.limits, door: None, groups: Vec::new() };
    keeper.sandbox.confine(spec, &confinement).map_err(Unconfined::Confine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_as_the_list_says() {
        let users = "root:x:0:0::/root:/bin/sh\n\nodd\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!([0, 1000, 7].map(|user| name_of(user, users)), ["root", "ann", "7"]);
    }
}
