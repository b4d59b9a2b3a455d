//! A confined child, as the tests start it: a checkout, a canary outside of it, the real bubblewrap.

use std::ffi::OsStr;
use std::fs;
use std::future::pending;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ci_server::sandbox::{Confinement, Helper, Limits, Sandbox, Settings, StoreAccess};
use nix_store::process::{Outcome, Spec, run};
use tempfile::TempDir;

/// Longest any child of these tests may take.
pub(crate) const CHILD_MAX: Duration = Duration::from_secs(30);

/// A folder with a checkout, and beside it what nobody inside may see.
pub(crate) struct Stage {
    pub(crate) folder: TempDir,
    pub(crate) sandbox: Arc<Sandbox>,
    /// What stands in the canary file.
    pub(crate) canary: String,
}

impl Stage {
    /// `None` when there is no sandbox on this machine; says so.
    pub(crate) async fn set() -> Option<Self> {
        let settings = Settings { bubblewrap: None, helper: helper() };
        let sandbox = match Sandbox::detect(&settings).await {
            Ok(sandbox) => Arc::new(sandbox),
            Err(missing) => {
                println!("SKIPPED: {missing}");
                return None;
            }
        };
        let folder = tempfile::Builder::new().prefix("eka-stage-").tempdir().unwrap();
        // The user inside may look in: whatever it does not see, it is not kept from by a mode.
        open(folder.path(), 0o755);
        fs::create_dir(folder.path().join("checkout")).unwrap();
        let canary = format!("canary-{:016x}", RandomState::new().build_hasher().finish());
        fs::write(folder.path().join("secret"), &canary).unwrap();
        open(&folder.path().join("secret"), 0o644);
        open(&folder.path().join("checkout"), 0o755);
        Some(Self { folder, sandbox, canary })
    }

    pub(crate) fn checkout(&self) -> PathBuf {
        self.folder.path().join("checkout")
    }

    pub(crate) fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        let file = self.checkout().join(name);
        fs::write(&file, content).unwrap();
        open(&file, 0o644);
    }

    pub(crate) fn confinement(&self) -> Confinement {
        Confinement {
            reads: vec![self.checkout()],
            store: StoreAccess::None,
            limits: Limits { cpu_seconds: 20, memory_bytes: 512 << 20, ..Limits::default() },
            door: None,
            groups: Vec::new(),
        }
    }

    /// Runs a child inside.
    pub(crate) async fn inside(&self, spec: Spec, confinement: &Confinement) -> Outcome {
        let spec = spec.limits(Some(CHILD_MAX), None);
        run(&self.sandbox.confine(&spec, confinement).unwrap(), pending()).await.unwrap()
    }

    /// A shell command inside, with what it printed.
    pub(crate) async fn shell(&self, script: &str) -> String {
        let outcome = self.inside(Spec::new("/bin/sh").args(["-c", script]), &self.confinement()).await;
        both(&outcome)
    }
}

/// What it said on both streams, and how it ended.
pub(crate) fn both(outcome: &Outcome) -> String {
    format!("{}{}[{}]", outcome.stdout_tail.text(), outcome.stderr_tail.text(), outcome.exit)
}

/// Nix' evaluator over a file of the checkout, without a store.
pub(crate) fn evaluator(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Spec {
    let mut spec = Spec::new("nix-instantiate").args(["--eval", "--strict"]);
    spec = spec.args(args.into_iter().map(|arg| arg.as_ref().to_owned()));
    spec.env("NIX_CONFIG", "substituters =\n").env_remove("NIX_PATH")
}

pub(crate) fn helper() -> Helper {
    Helper::program(PathBuf::from(env!("CARGO_BIN_EXE_eka-inside")))
}

pub(crate) fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
