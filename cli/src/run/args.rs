//! What a person may ask of `ekaci run`: arguments come in, typed wishes come out. What does not make sense together is
//! refused here, before anything is looked at.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ci_model::JobName;
use clap::{Args, ValueEnum};
use nix_types::System;

/// What `--help` says at its end.
const MORE: &str = "\
The report goes to standard output, progress to standard error. The report fits the terminal; elsewhere it has $COLUMNS
columns, or 80. Exit code 0: good, or nothing changes; 1: bad, or a person has to look first; 2: wrong usage, or a
configuration with errors; 3: the run could not be finished; 130: interrupted.

Examples:
  ekaci run --eval-only                          what lies here, against the main branch
  ekaci run --eval-only --head HEAD --base HEAD~1
  ekaci run --eval-only --markdown > summary.md  the same for a pull request";

/// Say what a change touches: evaluate a git checkout and what it is compared with, and print what differs and why
///
/// Needs a repository with `.ekaci/config.json`, and Nix; no server and no forge.
#[derive(Debug, Args)]
#[command(after_help = MORE)]
pub struct RunArgs {
    /// The checkout, or a folder in it
    #[arg(default_value = ".", value_name = "PATH")]
    pub path: PathBuf,
    /// Compare with this commit [default: where the head left the main branch]
    #[arg(long, value_name = "REV", value_parser = revision, conflicts_with = "no_base")]
    pub base: Option<String>,
    /// What to look at: a commit, or `worktree` for the files as they lie there
    #[arg(long, value_name = "REV|worktree", default_value = "worktree")]
    pub head: Head,
    /// Only this job; may be given several times [default: every job of the configuration]
    #[arg(long = "job", value_name = "J")]
    pub jobs: Vec<JobName>,
    /// Evaluate and compare, build nothing
    #[arg(long)]
    pub eval_only: bool,
    /// What evaluates
    #[arg(long, value_enum, default_value_t = Engine::Auto)]
    pub engine: Engine,
    /// Evaluators at a time [default: as many as there are cores, and memory for]
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroU16>,
    /// Memory of one evaluator, as in 4GiB: past it, it is ended, and its attribute is an error
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Time of one evaluation, as in 90s, 30m or 2h
    #[arg(long, value_name = "D", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Evaluate locked in: without network, home and environment. A checkout counts as your own code: `auto` locks nothing in
    #[arg(long, value_enum, default_value_t = Sandbox::Auto)]
    pub sandbox: Sandbox,
    /// Only this system; may be given several times [default: what the configuration says]
    #[arg(long = "system", value_name = "S")]
    pub systems: Vec<System>,
    /// Evaluate again what is remembered of the same files: after something outside of the repository changed
    #[arg(long)]
    pub fresh: bool,
    /// Write derivations of what differs alone: less to do the first time in a large repository, but what the base has
    /// elsewhere may be counted as new
    #[arg(long)]
    pub quick: bool,
    /// Compare with nothing: everything is new
    #[arg(long)]
    pub no_base: bool,
    /// Show every row, however many there are
    #[arg(long)]
    pub full: bool,
    /// Print Markdown, as for a pull request: at most 60,000 bytes, unless with --full
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
}

/// Which code wants a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// The files as they lie there.
    Worktree,
    /// A commit, as git is asked for it.
    Revision(String),
}

/// What evaluates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// nix-eval-jobs where it is on the PATH, else the walker
    Auto,
    /// Our own, over plain Nix
    Walker,
    /// nix-eval-jobs, or nothing
    NixEvalJobs,
}

/// Whether evaluators are locked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sandbox {
    /// As a checkout is your own code, not
    Auto,
    /// Always, or not at all where this machine cannot
    On,
    /// Never
    Off,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(if text == "worktree" { Self::Worktree } else { Self::Revision(revision(text)?) })
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            "t" | "tib" => 40,
            _ => return Err("a number with KiB, MiB, GiB or TiB is expected, as in 4GiB".into()),
        };
        let number: u64 = digits.parse().map_err(|_| "the number is too large, or none".to_owned())?;
        let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes > 0);
        bytes.map(Self).ok_or_else(|| "the size is nothing, or too large".to_owned())
    }
}

/// Longest revision that is taken, in bytes.
const REVISION_BYTES_MAX: usize = 1_024;

/// Text that git may be asked about: no option, and one line.
fn revision(text: &str) -> Result<String, String> {
    if text.is_empty()
        || text.starts_with('-')
        || text.len() > REVISION_BYTES_MAX
        || text.chars().any(char::is_control)
    {
        return Err("a commit, branch or tag is expected, as git names it".into());
    }
    Ok(text.to_owned())
}

/// Longest time of an evaluation.
const TIMEOUT_SECONDS_MAX: u64 = 30 * 24 * 3_600;

/// A number and its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let seconds_each = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err("a number with s, m or h is expected, as in 30m".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "the number is too large, or none".to_owned())?;
    let seconds =
        number.checked_mul(seconds_each).filter(|seconds| (1..=TIMEOUT_SECONDS_MAX).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "the time is nothing, or more than 30 days".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        global: crate::cli::Global,
        #[command(flatten)]
        run: RunArgs,
    }

    fn parsed(arguments: &[&str]) -> Result<RunArgs, String> {
        let all = ["run"].into_iter().chain(arguments.iter().copied());
        Alone::try_parse_from(all).map(|alone| alone.run).map_err(|error| error.to_string())
    }

    #[test]
    fn wishes_are_typed() {
        let run =
            parsed(&["--head", "HEAD", "--memory", "4GiB", "--timeout", "90s", "--job", "a", "--job", "b"])
                .unwrap();
        assert_eq!(run.head, Head::Revision("HEAD".into()));
        assert_eq!((run.memory, run.timeout), (Some(Size(4 << 30)), Some(Duration::from_secs(90))));
        assert_eq!(run.jobs.len(), 2);
        assert_eq!(parsed(&[]).unwrap().head, Head::Worktree);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            &["--base", "a", "--no-base"][..],
            &["--json", "--markdown"],
            &["--base=--upload-pack=x"],
            &["--head="],
            &["--memory", "4"],
            &["--memory", "0GiB"],
            &["--memory", "99999999999TiB"],
            &["--timeout", "0s"],
            &["--timeout", "18446744073709551615s"],
            &["--timeout", "ü"],
            &["--workers", "0"],
            &["--system", "--x"],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }
}
