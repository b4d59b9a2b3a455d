//! A machine that is reached by ssh, on this machine's loopback: an sshd of the test's own. In: a folder for its keys and
//! its log, and lines for its configuration. Out: a port, and who may log in there with which key. It ends with its value.
//! Leaves out what somebody who logs in may do: it is what the tester may do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::proc::Guard;
use crate::wait;

/// How long it may take to listen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The sshd. Its folder has the keys `host` and `other-host`, of which it has the first, and `id` and `other-id`, of which
/// it lets in the first; and `known_hosts`.
#[derive(Debug)]
pub struct Sshd {
    process: Option<Guard>,
    folder: PathBuf,
    port: u16,
    user: String,
}

impl Sshd {
    /// Starts one that keeps its things in `folder`, which is there. `more` are lines of its configuration.
    ///
    /// # Panics
    /// When it does not come to listen; the message has what it said.
    #[must_use]
    pub fn new(folder: &Path, more: &str) -> Self {
        let port = crate::port::free();
        let who = tool("id").arg("-un").output().expect("`id` can be started");
        let user = String::from_utf8_lossy(&who.stdout).trim().to_owned();
        let mut sshd = Self { process: None, folder: folder.to_owned(), port, user };
        for key in ["host", "other-host", "id", "other-id"] {
            let mut generate = tool("ssh-keygen");
            generate.args(["-q", "-t", "ed25519", "-N", "", "-C", "of-a-test", "-f"]).arg(sshd.path(key));
            assert!(generate.status().is_ok_and(|status| status.success()), "ssh-keygen makes the key {key}");
        }
        fs::copy(sshd.path("id.pub"), sshd.path("authorized_keys")).expect("the folder can be written to");
        sshd.know("host");
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey \"{}\"\nAuthorizedKeysFile \"{}\"\nPidFile none\nStrictModes no\n\
             UsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n\
             PrintMotd no\n{more}\n",
            sshd.path("host").display(),
            sshd.path("authorized_keys").display(),
        );
        fs::write(sshd.path("sshd_config"), config).expect("the folder can be written to");
        sshd.start();
        sshd
    }

    /// Starts it again, with its port and keys, and waits until it listens.
    ///
    /// # Panics
    /// As [`Sshd::new`] does.
    pub fn start(&mut self) {
        // As root, sshd insists on this folder, wherever it is configured to be.
        if self.user == "root" {
            fs::create_dir_all("/run/sshd").expect("root can make a folder");
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("sshd.log"));
        let before = self.log().matches("Server listening").count();
        let mut sshd = tool("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f"]).arg(self.path("sshd_config"));
        sshd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("its log can be written"));
        self.process = Some(Guard::spawn(&mut sshd).expect("sshd can be started (package openssh-server)"));
        let listens = wait::comes_true(PATIENCE, || self.log().matches("Server listening").count() > before);
        assert!(listens, "{}", self.log());
    }

    /// Nobody listens any more; who is connected stays so.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Only the key of this name is known to be that of the machine.
    ///
    /// # Panics
    /// When there is no such key.
    pub fn know(&self, key: &str) {
        let public = fs::read_to_string(self.path(&format!("{key}.pub"))).expect("it has such a key");
        let line = format!("[127.0.0.1]:{} {public}", self.port);
        fs::write(self.path("known_hosts"), line).expect("the folder can be written to");
    }

    /// How often somebody logged in.
    #[must_use]
    pub fn logins(&self) -> usize {
        self.log().matches("Accepted publickey").count()
    }

    /// What it said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("sshd.log")).unwrap_or_default()
    }

    /// A file of its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `USER@127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}@127.0.0.1:{}", self.user, self.port)
    }
}

#[expect(clippy::disallowed_methods, reason = "tests start what they test")]
fn tool(program: &str) -> Command {
    Command::new(program)
}
