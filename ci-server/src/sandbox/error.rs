//! Why a child cannot be confined, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use nix_store::process::ProcessError;

/// Why a child cannot be confined. What to do about it is [`SandboxError::remedy`]'s.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The child's program cannot be found.
    #[error(transparent)]
    Program(#[from] ProcessError),
    /// It is not where the sandbox looks.
    #[error("the sandbox does not show {}", program.display())]
    Hidden {
        /// The program.
        program: PathBuf,
    },
    /// A setting that is not for it.
    #[error("NIX_CONFIG sets {name}, which does not go into the sandbox")]
    Setting {
        /// Its name.
        name: &'static str,
    },
    /// A login in a variable.
    #[error("{variable} has a URL with a login in it, which does not go into the sandbox")]
    Login {
        /// Its name.
        variable: String,
    },
    /// A path that cannot be shown.
    #[error("cannot show {} in the sandbox: it is {}", path.display(), unfit.what())]
    Path {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        unfit: Unfit,
    },
    /// A path cannot be looked at.
    #[error("look at {} for the sandbox", path.display())]
    Look {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The sandbox's own files cannot be written.
    #[error("write the sandbox's files in {}", folder.display())]
    Files {
        /// Where.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It does not begin at the root, or goes up.
    NotPlain,
    /// It is the root, or a folder in it that holds much more than code.
    Everything,
    /// The user inside may not read it.
    Closed,
}

impl Unfit {
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::NotPlain => "not absolute and plain",
            Self::Everything => "much more than code",
            Self::Closed => "closed to the user nobody, as whom root has it read",
        }
    }
}

impl SandboxError {
    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Program(_) | Self::Hidden { .. } => "install it below /usr or in the Nix store".into(),
            Self::Setting { .. } => "do not set it: what it says is not for code of outsiders".into(),
            Self::Login { .. } => {
                "take the login out of it: what it says is not for code of outsiders".into()
            }
            Self::Path { unfit: Unfit::NotPlain, .. } => "name it from the root, without `..`".into(),
            Self::Path { unfit: Unfit::Everything, .. } => "give the code a folder of its own".into(),
            Self::Path { path, unfit: Unfit::Closed } => {
                format!("run `chmod -R o+rX {}`, or run as another user than root", path.display())
            }
            Self::Look { .. } => "see that it is there and may be looked at".into(),
            Self::Files { .. } => "see that the disk has space, or set TMPDIR to another folder".into(),
        }
    }
}

pub(super) fn looking_at(path: &Path) -> impl FnOnce(io::Error) -> SandboxError + use<> {
    let path = path.to_owned();
    move |source| SandboxError::Look { path, source }
}
