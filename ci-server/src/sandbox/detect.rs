//! Is there a sandbox on this machine? In: where bubblewrap may be, our own program. Out: a [`Sandbox`] that was tried
//! once, or what is missing, with the remedy. Whether that matters is not decided here.

use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix_store::process::{Outcome, ProcessError, Spec, locate, run};

use super::inside::TRIAL;
use super::view::{EMPTY, EMPTY_FOLDER, FILES};
use super::{Confinement, Helper, INSIDE_WORD, Limits, Sandbox, SandboxError, StoreAccess};

/// Longest the trial may take.
pub(super) const TRIAL_MAX: Duration = Duration::from_secs(20);

/// Where the sandbox's parts are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `bwrap` itself; looked up in `PATH` when `None`.
    pub bubblewrap: Option<PathBuf>,
    /// The program for the inner half.
    pub helper: Helper,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// No bubblewrap.
    #[error(
        "there is no bubblewrap, which confines what outsiders wrote: install the package bubblewrap, and see that bwrap is on the PATH"
    )]
    Bubblewrap(#[source] ProcessError),
    /// Something of the sandbox's own does not work.
    #[error("cannot prepare the sandbox")]
    Prepare(#[source] SandboxError),
    /// It cannot be started.
    #[error("cannot try the sandbox")]
    Try(#[source] ProcessError),
    /// It does not do what it should.
    #[error("bubblewrap does not work here ({said}): {remedy}")]
    Refused {
        /// The end of what it said, or how it ended.
        said: String,
        /// What to do.
        remedy: String,
    },
}

impl Helper {
    /// By its real name, which every comparison is with.
    fn found(&self) -> Result<Self, Missing> {
        let look = |source| Missing::Prepare(SandboxError::Look { path: self.program.clone(), source });
        self.program.canonicalize().map(Self::program).map_err(look)
    }
}

impl Sandbox {
    /// Finds bubblewrap and confines a child that does nothing.
    ///
    /// # Errors
    /// [`Missing`], which names the remedy.
    pub async fn detect(settings: &Settings) -> Result<Self, Missing> {
        let name = settings.bubblewrap.clone().unwrap_or_else(|| PathBuf::from("bwrap"));
        let bubblewrap = locate(name.as_os_str(), &Default::default()).map_err(Missing::Bubblewrap)?;
        let sandbox = Self {
            bubblewrap,
            helper: settings.helper.found()?,
            root: rustix::process::geteuid().is_root(),
            files: files().map_err(Missing::Prepare)?,
        };
        sandbox.try_once().await?;
        Ok(sandbox)
    }

    async fn try_once(&self) -> Result<(), Missing> {
        let confinement = Confinement {
            reads: vec![self.files.path().to_owned()],
            store: StoreAccess::None,
            limits: Limits::default(),
            door: None,
            groups: Vec::new(),
        };
        let spec = Spec::new(&self.helper.program).args([INSIDE_WORD, TRIAL]).limits(Some(TRIAL_MAX), None);
        let confined = self.confine(&spec, &confinement).map_err(Missing::Prepare)?;
        let outcome = run(&confined, pending()).await.map_err(Missing::Try)?;
        if outcome.success() {
            return Ok(());
        }
        let said = said(&outcome);
        let remedy = remedy(&said, &Facts::read());
        Err(Missing::Refused { said, remedy })
    }
}

/// The last line of what it said, or how it ended.
pub(super) fn said(outcome: &Outcome) -> String {
    let text = outcome.stderr_tail.text();
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    let line = last.map_or_else(|| outcome.exit.to_string(), str::to_owned);
    service_kit::text::one_line(&line).to_string()
}

fn files() -> Result<tempfile::TempDir, SandboxError> {
    let failed = |folder: &Path, source| SandboxError::Files { folder: folder.to_owned(), source };
    let make = tempfile::Builder::new().prefix("eka-sandbox-").tempdir();
    let folder = make.map_err(|source| failed(&std::env::temp_dir(), source))?;
    let write = || {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        for (name, content) in FILES.into_iter().chain([(EMPTY, "")]) {
            let file = folder.path().join(name);
            fs::write(&file, content)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
        }
        let nothing = folder.path().join(EMPTY_FOLDER);
        fs::create_dir(&nothing)?;
        fs::set_permissions(&nothing, fs::Permissions::from_mode(0o755))?;
        Ok(())
    };
    write().map_err(|source| failed(folder.path(), source))?;
    Ok(folder)
}

/// What the kernel says about user namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    /// Debian's switch: may users make user namespaces?
    unprivileged_userns_clone: Option<u64>,
    /// How many there may be.
    max_user_namespaces: Option<u64>,
    /// Ubuntu's switch: only programs with a profile.
    apparmor_restricts: Option<u64>,
}

impl Facts {
    fn read() -> Self {
        let number = |file: &str| fs::read_to_string(file).ok()?.trim().parse().ok(); // absent: another kernel
        Self {
            unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        }
    }
}

/// What to do about it.
fn remedy(said: &str, facts: &Facts) -> String {
    let sysctl = |line: &str| format!("run `sysctl -w {line}`, and write it into a file of /etc/sysctl.d");
    if facts.unprivileged_userns_clone == Some(0) {
        return sysctl("kernel.unprivileged_userns_clone=1");
    }
    if facts.max_user_namespaces == Some(0) {
        return sysctl("user.max_user_namespaces=10000");
    }
    if facts.apparmor_restricts.is_some_and(|value| value != 0) {
        return format!(
            "give bwrap an AppArmor profile that allows `userns`, or {}",
            sysctl("kernel.apparmor_restrict_unprivileged_userns=0")
        );
    }
    if said.contains("Unknown option") {
        return "it is too old: install bubblewrap 0.8 or newer".to_owned();
    }
    if said.contains("ermission") || said.contains("not permitted") {
        return "namespaces are forbidden to this process: in a container, start it with the right to make them \
                (docker: --security-opt seccomp=unconfined --cap-add SYS_ADMIN); in a systemd unit, remove RestrictNamespaces="
            .to_owned();
    }
    "run `bwrap --ro-bind / / --unshare-all true` by hand to see more".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_remedy() {
        let facts = |clone, max, apparmor| Facts {
            unprivileged_userns_clone: clone,
            max_user_namespaces: max,
            apparmor_restricts: apparmor,
        };
        let table = [
            ("no permissions", facts(Some(0), Some(9), None), "unprivileged_userns_clone=1"),
            ("no space", facts(Some(1), Some(0), None), "max_user_namespaces=10000"),
            ("setting up uid map: Permission denied", facts(None, Some(9), Some(1)), "AppArmor"),
            ("Operation not permitted", facts(None, Some(9), Some(0)), "container"),
            ("bwrap: Unknown option --size", facts(None, None, None), "0.8 or newer"),
            ("exit code 7", facts(None, None, None), "by hand"),
        ];
        for (said, facts, wanted) in table {
            let remedy = remedy(said, &facts);
            assert!(remedy.contains(wanted), "{said}: {remedy}");
        }
    }
}
