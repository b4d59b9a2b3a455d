//! Opens what the daemon listens on, and the spool folder.
//!
//! In flow the configuration and what the service manager passed; out flow listeners. The state folder's lock is
//! held by now, so a socket file that is there belongs to a daemon that was killed, and is replaced.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, chown, geteuid};
use service_kit::notify::{NamedFd, NotifyError};
use tokio::net::{TcpListener, UnixListener};

use crate::config::QueueConfig;
use crate::folders;
use crate::peer::{self, Unnamed};

/// The enqueue socket: whoever may write to it may queue paths.
const ENQUEUE_MODE: u32 = 0o660;
/// The control socket: root and the daemon's own user.
const CONTROL_MODE: u32 = 0o600;
/// Whoever is in the group may add files, which get the group, so that the daemon can read what root's hook wrote;
/// only their owner and the daemon may remove them.
const SPOOL_MODE: u32 = 0o3770;

/// Sockets the service manager opened already.
#[derive(Debug, Default)]
pub struct Inherited {
    /// The enqueue socket.
    pub enqueue: Option<std::os::unix::net::UnixListener>,
    /// The control socket.
    pub control: Option<std::os::unix::net::UnixListener>,
}

/// What the daemon listens on.
pub(crate) struct Open {
    pub(crate) enqueue: UnixListener,
    pub(crate) control: UnixListener,
    pub(crate) metrics: Option<TcpListener>,
}

/// Why there is nothing to listen on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A unix socket.
    #[error("cannot listen on {}; correct its path, or the permissions of its folder", path.display())]
    Listen {
        /// The socket file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else lies there.
    #[error("{} is there already and is no socket; remove it, or configure another path", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
    /// The group of `socket_group`.
    #[error("{} (socket_group); {}", why.of("group", name), why.remedy())]
    NoGroup {
        /// Its name.
        name: String,
        /// Why it cannot be given.
        why: Unnamed,
    },
    /// The metrics address.
    #[error("cannot listen on metrics_address {address}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A descriptor with a name that means nothing.
    #[error(
        "the service manager passed a socket named `{0}`; name them `enqueue` and `control` (FileDescriptorName=)"
    )]
    UnknownFd(String),
    /// A descriptor that is no socket.
    #[error(transparent)]
    Inherit(#[from] NotifyError),
}

impl Inherited {
    /// Sorts the descriptors of socket activation by their names.
    ///
    /// # Errors
    /// A name that means nothing, or a descriptor that is no unix socket.
    pub fn sort(fds: Vec<NamedFd>) -> Result<Self, SocketError> {
        let mut inherited = Self::default();
        for fd in fds {
            let place = match fd.name.as_str() {
                "enqueue" => &mut inherited.enqueue,
                "control" => &mut inherited.control,
                other => return Err(SocketError::UnknownFd(other.to_owned())),
            };
            *place = Some(fd.into_unix_listener()?);
        }
        Ok(inherited)
    }

    /// The socket files that nobody opened for us.
    pub(crate) fn missing(&self, config: &QueueConfig) -> Vec<PathBuf> {
        let enqueue = self.enqueue.is_none().then(|| config.socket.clone());
        let control = self.control.is_none().then(|| config.control_socket.clone());
        enqueue.into_iter().chain(control).collect()
    }
}

/// Opens both sockets and the metrics address; the enqueue socket gets this group.
pub(crate) async fn open(
    config: &QueueConfig,
    group: Option<u32>,
    inherited: Inherited,
) -> Result<Open, SocketError> {
    let enqueue = match inherited.enqueue {
        Some(listener) => adopt(listener, &config.socket)?,
        None => listen(&config.socket, ENQUEUE_MODE, group)?,
    };
    let control = match inherited.control {
        Some(listener) => adopt(listener, &config.control_socket)?,
        None => listen(&config.control_socket, CONTROL_MODE, None)?,
    };
    let metrics = match config.metrics_address {
        None => None,
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.map_err(|source| SocketError::Metrics { address, source })?)
        }
    };
    Ok(Open { enqueue, control, metrics })
}

/// Makes the spool folder, or gives the one there is its mode and this group.
pub(crate) fn make_spool(folder: &Path, group: Option<u32>) -> io::Result<()> {
    folders::make(folder, 0o700)?;
    let prepared = prepare_spool(folder, group).and_then(|()| fs::read_dir(folder).map(drop));
    prepared.map_err(|error| {
        let (us, owner) = (geteuid().as_raw(), fs::metadata(folder).map(|meta| meta.uid()));
        match owner {
            Ok(owner) if owner != us && error.kind() == io::ErrorKind::PermissionDenied => {
                let why = format!(
                    "it belongs to user {owner} and the daemon runs as user {us}: a hook that ran before the daemon's \
                     first start made it; `chown -R {us} {}`, then start again",
                    folder.display()
                );
                io::Error::new(error.kind(), why)
            }
            Ok(_) | Err(_) => error,
        }
    })
}

fn prepare_spool(folder: &Path, group: Option<u32>) -> io::Result<()> {
    // Not asked of the system when it is so already: a service manager may forbid it (SystemCallFilter=~@chown).
    if let Some(group) = group
        && fs::metadata(folder)?.gid() != group
    {
        chown(folder, None, Some(Gid::from_raw(group)))?;
    }
    if fs::metadata(folder)?.permissions().mode() & 0o7777 == SPOOL_MODE {
        return Ok(());
    }
    match fs::set_permissions(folder, Permissions::from_mode(SPOOL_MODE)) {
        // A service manager may forbid the setgid bit (RestrictSUIDSGID=, which DynamicUser= implies).
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            fs::set_permissions(folder, Permissions::from_mode(SPOOL_MODE & 0o1777))?;
            tracing::warn!(
                "spool {} cannot have mode {SPOOL_MODE:o}, so files that others than root leave there may be unreadable here; \
                 make it before the daemon starts (tmpfiles): {error}",
                folder.display()
            );
            Ok(())
        }
        done => done,
    }
}

/// The gid of `socket_group`, where there is one.
pub(crate) fn group_of(config: &QueueConfig) -> Result<Option<u32>, SocketError> {
    match &config.socket_group {
        None => Ok(None),
        Some(name) => match peer::gid_of(name) {
            Ok(gid) => Ok(Some(gid)),
            Err(why) => Err(SocketError::NoGroup { name: name.clone(), why }),
        },
    }
}

fn adopt(listener: std::os::unix::net::UnixListener, path: &Path) -> Result<UnixListener, SocketError> {
    UnixListener::from_std(listener).map_err(|source| SocketError::Listen { path: path.to_owned(), source })
}

fn listen(path: &Path, mode: u32, group: Option<u32>) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Listen { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(SocketError::InTheWay { path: path.to_owned() }),
        Err(_) => {} // nothing there
    }
    // Bound under another name and moved into place, so that it never stands there with the wrong mode.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let _ = fs::remove_file(&fresh); // left over from a start that was killed, or not there
    let listener = UnixListener::bind(&fresh).map_err(failed)?;
    if let Some(group) = group {
        chown(&fresh, None, Some(Gid::from_raw(group))).map_err(|errno| failed(errno.into()))?;
    }
    fs::set_permissions(&fresh, Permissions::from_mode(mode)).map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)?;
    Ok(listener)
}
