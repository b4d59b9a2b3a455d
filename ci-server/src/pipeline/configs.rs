//! What both sides' configurations say. In: the two checkouts. Out: the configuration of each, checked, and what a person
//! should know about it. A configuration that is a link, or lies behind one, is refused: it would be somebody else's file.

use std::fs;
use std::io;
use std::path::Path;

use ci_model::config::{
    BYTES_MAX, Effective, Files, Finding, JobSource, Located, NotLocated, PATHS, RepositoryConfig, effective,
    locate_or_default,
};
use ci_model::flow::{Checkout, Source, Trust};
use nix_types::System;

/// The configurations of a change.
pub(super) struct Configs {
    pub(super) head: Located,
    /// Which jobs of the base are looked at: where it has no configuration that is taken, those of the head's. `None`
    /// where there is no base.
    pub(super) base: Option<Located>,
    /// Does `base` say what the head's configuration says, and not the base's?
    pub(super) is_base_by_head: bool,
    /// The base's own file, which alone grants rights to code that is not trusted. `None` where it has none that is taken.
    pub(super) rights: Option<Located>,
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is none, or it is refused: every mistake with its place.
    #[error("{}", said(fault))]
    Refused {
        /// What is wrong with it.
        fault: NotLocated,
    },
    /// A link, or no file.
    #[error("{path} of the head is a link, or no plain file; make it a file of the repository")]
    NotAFile {
        /// One of the places where configurations lie.
        path: &'static str,
    },
    /// It cannot be read.
    #[error("cannot read {path}; see that the folder of checkouts is there and that this user may read it")]
    Read {
        /// One of the places where configurations lie.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Configs {
    /// Those of a checkout, and what a person should know. A base without a configuration that is taken is looked at as
    /// the head's says.
    pub(super) fn read(checkout: &Checkout, systems: &[System]) -> Result<(Self, Vec<String>), ConfigError> {
        let head = located(&checkout.head, systems)?;
        let mut warnings: Vec<String> =
            head.warnings.iter().map(|warning| finding(head.origin, warning)).collect();
        let own = match checkout.base.as_ref().map(|base| located(base, systems)) {
            None | Some(Err(ConfigError::Refused { fault: NotLocated::Absent | NotLocated::Nothing })) => {
                None
            }
            Some(Ok(base)) => Some(base),
            Some(Err(error)) => {
                warnings.push(format!(
                    "The base's configuration is not taken, the head's jobs are looked at on both sides: {}",
                    in_a_line(&error)
                ));
                None
            }
        };
        // A base from before there was a configuration is looked at as the head wants it.
        let looked_at = own.as_ref().filter(|base| !base.is_default || head.is_default);
        let is_base_by_head = looked_at.is_none();
        let base = checkout.base.as_ref().map(|_| looked_at.unwrap_or(&head).clone());
        let rights = own.filter(|base| !base.is_default);
        Ok((Self { head, base, is_base_by_head, rights }, warnings))
    }

    /// What holds for the change, and what of the head does not count.
    pub(super) fn holds(&self, trust: Trust) -> Effective {
        let rights = self.rights.as_ref().map(|base| &base.config);
        // Who takes the file away asks for nothing: what the base has stays.
        let is_taken_away = self.head.is_default && rights.is_some() && trust != Trust::TrustedPush;
        let nothing = RepositoryConfig::default();
        effective(rights, if is_taken_away { &nothing } else { &self.head.config }, trust)
    }
}

fn located(source: &Source, systems: &[System]) -> Result<Located, ConfigError> {
    let first = config(&source.folder, PATHS[0])?;
    let second = config(&source.folder, PATHS[1])?;
    let files = Files {
        configs: [first.as_deref(), second.as_deref()],
        flake_nix: is_file(&source.folder.join("flake.nix")),
        default_nix: is_file(&source.folder.join("default.nix")),
    };
    locate_or_default(files, systems).map_err(|fault| ConfigError::Refused { fault })
}

/// Is what a job evaluates in this code?
pub(super) fn is_there(job: &JobSource, source: &Source) -> bool {
    match job {
        JobSource::Flake { .. } => is_file(&source.folder.join("flake.nix")),
        JobSource::File { file, .. } => {
            let path = source.folder.join(file.as_str());
            // A link is somebody else's to judge.
            fs::symlink_metadata(&path)
                .is_ok_and(|found| !found.is_dir() || path.join("default.nix").symlink_metadata().is_ok())
        }
    }
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

/// What is at one of the places, if anything is. One byte more than is taken is read, so that the parser can say so.
fn config(folder: &Path, place: &'static str) -> Result<Option<Vec<u8>>, ConfigError> {
    let path = folder.join(place);
    let read = |source| ConfigError::Read { path: place, source };
    let parent = path.parent().unwrap_or(folder);
    for (step, is_last) in [(parent, false), (path.as_path(), true)] {
        match fs::symlink_metadata(step) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(read(error)),
            Ok(found) if found.is_file() != is_last || found.is_dir() == is_last => {
                return Err(ConfigError::NotAFile { path: place });
            }
            Ok(_) => {}
        }
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(&path).map_err(read)?;
    io::Read::read_to_end(&mut io::Read::take(file, BYTES_MAX as u64 + 1), &mut bytes).map_err(read)?;
    Ok(Some(bytes))
}

fn finding(origin: &str, finding: &Finding) -> String {
    format!("{origin}:{finding}")
}

/// The first that is wrong, with its place, and how much more there is.
fn in_a_line(error: &ConfigError) -> String {
    if let ConfigError::Refused { fault: NotLocated::Refused { path, refused } } = error
        && let [first, more @ ..] = &refused.problems[..]
    {
        let more = match (more.len(), refused.more) {
            (0, 0) => String::new(),
            (more, 0) => format!(" (and {more} more)"),
            (more, uncounted) => format!(" (and at least {} more)", more + uncounted),
        };
        return finding(path, first) + &more;
    }
    error.to_string()
}

/// All that is wrong, a line each.
fn said(fault: &NotLocated) -> String {
    match fault {
        NotLocated::Absent | NotLocated::Nothing => fault.to_string(),
        NotLocated::Refused { path, refused } => {
            let mut lines: Vec<String> =
                refused.problems.iter().map(|problem| finding(path, problem)).collect();
            lines.extend((refused.more > 0).then(|| format!("and at least {} more", refused.more)));
            format!("{fault}:\n{}", lines.join("\n"))
        }
    }
}
