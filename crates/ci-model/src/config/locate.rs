//! Which configuration holds for a checkout. In: what lies in it at the known places. Out: the one that counts and where it
//! is from; for a person's own checkout a default where there is none. Reads nothing itself, and judges no links: who has
//! the checkout hands in what it found.

use nix_types::System;

use super::fault::{Finding, Refused};
use super::model::{Flake, FlakeOutput, Job, RepositoryConfig};
use super::{Parsed, parse};

/// Where a configuration can be, from the root of the repository; the first that is there counts.
pub const PATHS: [&str; 2] = [".ekaci/config.json", ".eka-ci/config.json"];

/// What lies in a checkout.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    /// What is at each of [`PATHS`].
    pub configs: [Option<&'a [u8]>; 2],
    /// Is there a `flake.nix` at its root?
    pub flake_nix: bool,
    /// Is there a `default.nix` at its root?
    pub default_nix: bool,
}

/// A configuration, and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// One of [`PATHS`]; for a default `flake.nix` or `default.nix`.
    pub origin: &'static str,
    /// Is it a default, with nothing written by anybody?
    pub is_default: bool,
    /// What it says.
    pub config: RepositoryConfig,
    /// What a person should know about it.
    pub warnings: Vec<Finding>,
}

/// Why no configuration holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLocated {
    /// There is none.
    #[error("there is neither {} nor {}", PATHS[0], PATHS[1])]
    Absent,
    /// There is none, and nothing that could be built without one.
    #[error(
        "there is neither {} nor {}, and no flake.nix or default.nix to go by; write one of them",
        PATHS[0],
        PATHS[1]
    )]
    Nothing,
    /// It is not taken.
    #[error("{path} is not taken")]
    Refused {
        /// One of [`PATHS`].
        path: &'static str,
        /// Why not.
        #[source]
        refused: Refused,
    },
}

/// The configuration of a checkout.
///
/// # Errors
/// [`NotLocated::Absent`], or [`NotLocated::Refused`].
pub fn locate(files: Files<'_>) -> Result<Located, NotLocated> {
    let [first, second] = files.configs;
    let (origin, bytes) = match (first, second) {
        (Some(bytes), _) => (PATHS[0], bytes),
        (None, Some(bytes)) => (PATHS[1], bytes),
        (None, None) => return Err(NotLocated::Absent),
    };
    let both = (first.is_some() && second.is_some()).then(|| Finding {
        line: 1,
        column: 1,
        key: String::new(),
        what: format!("{} is there as well, and is passed over", PATHS[1]),
        remedy: "take one of the two away".to_owned(),
    });
    match parse(bytes) {
        Ok(Parsed { config, warnings }) => {
            let warnings = both.into_iter().chain(warnings).collect();
            Ok(Located { origin, is_default: false, config, warnings })
        }
        Err(mut refused) => {
            refused.warnings = both.into_iter().chain(refused.warnings).collect();
            Err(NotLocated::Refused { path: origin, refused })
        }
    }
}

/// The configuration of a person's own checkout: with none, a `flake.nix` means its `packages` and `checks` of `systems`,
/// and else a `default.nix` means one job, `default`. A server takes no default: repositories ask to be built.
///
/// # Errors
/// [`NotLocated::Nothing`], or [`NotLocated::Refused`].
pub fn locate_or_default(files: Files<'_>, systems: &[System]) -> Result<Located, NotLocated> {
    match locate(files) {
        Err(NotLocated::Absent) => default_of(files, systems).ok_or(NotLocated::Nothing),
        other => other,
    }
}

fn default_of(files: Files<'_>, systems: &[System]) -> Option<Located> {
    let (origin, config) = if files.flake_nix {
        let output = FlakeOutput { enable: true, systems: Some(systems.to_vec()), ..FlakeOutput::default() };
        let flake = Flake { checks: output.clone(), packages: output };
        ("flake.nix", RepositoryConfig { flake, ..RepositoryConfig::default() })
    } else if files.default_nix {
        let job = Job::of_file("default.nix".parse().ok()?);
        let jobs = [("default".parse().ok()?, job)].into();
        ("default.nix", RepositoryConfig { jobs, ..RepositoryConfig::default() })
    } else {
        return None;
    };
    Some(Located { origin, is_default: true, config, warnings: Vec::new() })
}
