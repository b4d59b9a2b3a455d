//! What a person may ask of `ekaci run`: arguments come in, typed wishes come out. What does not make sense together is
//! refused here, before anything is looked at.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ci_model::JobName;
use ci_model::flow::Trust;
use ci_server::sandbox::proxy::Rules;
use clap::{Args, ValueEnum};
use nix_types::System;

/// What `--help` says at its end.
const MORE: &str = "\
The report goes to standard output, progress to standard error. The report fits the terminal; elsewhere it has $COLUMNS
columns, or 80. Exit code 0: good, or nothing changes; 1: bad, or a person has to look first; 2: wrong usage, or a
configuration with errors; 3: the run could not be finished; 73: the report cannot be written; 130: interrupted.

Examples:
  ekaci run --eval-only                          what lies here, against the main branch
  ekaci run --eval-only --head HEAD --base HEAD~1
  ekaci run --eval-only --untrusted --head FETCH_HEAD --base main   somebody else's code, that you fetched
  ekaci run --eval-only --markdown > summary.md  the same for a pull request";

/// Say what a change touches: evaluate a git checkout and what it is compared with, and print what differs and why
///
/// Needs a repository with `.ekaci/config.json`, a `flake.nix` or a `default.nix`, and Nix; no server and no forge.
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
    #[arg(long, value_name = "N", value_parser = workers)]
    pub workers: Option<NonZeroU16>,
    /// Memory of one evaluator, as in 4GiB, at least 64MiB: past it, it is ended, and its attribute is an error
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<Size>,
    /// Time of one evaluation, as in 90s, 30m or 2h
    #[arg(long, value_name = "D", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Evaluate locked in: without network, home and environment. A checkout counts as your own code, unless with
    /// --untrusted: `auto` locks nothing in
    #[arg(long, value_enum, default_value_t = Sandbox::Auto)]
    pub sandbox: Sandbox,
    /// The head is somebody else's code: evaluate it, and what it is compared with, locked in and in Nix's restricted mode,
    /// without builds while evaluating; what the configuration grants is the base's to say
    #[arg(long)]
    pub untrusted: bool,
    /// What code that is locked in may fetch: all that begins with https://HOST/PATH, http://HOST/PATH or github:OWNER (also
    /// gitlab:, sourcehut:); may be given several times [default: nothing]
    #[arg(long = "allow-uri", value_name = "PREFIX")]
    pub allow_uris: Vec<String>,
    /// Those places may be in private networks and on this machine too; a cloud's metadata never
    #[arg(long, requires = "allow_uris")]
    pub allow_private_hosts: bool,
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

impl RunArgs {
    /// Is it a wish that makes no sense, though each of its parts does?
    ///
    /// # Errors
    /// What is wrong, and what to do instead.
    pub fn check(&self) -> Result<(), String> {
        // Not while arguments are taken apart: what is refused there is shown as it is, with the login in it.
        Rules::parse(&self.allow_uris).map_err(|error| format!("--allow-uri: {error}"))?;
        if self.untrusted && self.sandbox == Sandbox::Off {
            return Err("--untrusted code is evaluated in the sandbox alone: leave --sandbox off out".into());
        }
        if !self.allow_uris.is_empty() && !self.untrusted && self.sandbox != Sandbox::On {
            return Err(
                "--allow-uri says what code that is locked in may fetch, and none is: your own code may fetch \
                 anything; leave --allow-uri out, or add --untrusted or --sandbox on"
                    .into(),
            );
        }
        Ok(())
    }

    /// How far the code is trusted.
    #[must_use]
    pub fn trust(&self) -> Trust {
        if self.untrusted { Trust::UntrustedPr } else { Trust::TrustedPush }
    }
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
    /// With --untrusted; your own code is not
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

/// How many evaluators there may be.
fn workers(text: &str) -> Result<NonZeroU16, String> {
    let number: u16 = text.parse().map_err(|_| format!("a number from 1 to {} is expected", u16::MAX))?;
    NonZeroU16::new(number).ok_or_else(|| "at least 1 is needed".to_owned())
}

/// Least memory of an evaluator, in bytes: Nix itself takes some 25 MiB for the smallest of jobs.
const MEMORY_MIN: u64 = 64 << 20;

fn memory(text: &str) -> Result<Size, String> {
    let size: Size = text.parse()?;
    let is_enough = size.0 >= MEMORY_MIN;
    is_enough
        .then_some(size)
        .ok_or_else(|| "at least 64MiB is needed: Nix itself takes a good part of that".to_owned())
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
            &["--memory", "65535KiB"],
            &["--workers", "0"],
            &["--workers", "65536"],
            &["--memory", "99999999999TiB"],
            &["--timeout", "0s"],
            &["--timeout", "18446744073709551615s"],
            &["--timeout", "ü"],
            &["--workers", "0"],
            &["--system", "--x"],
            &["--allow-private-hosts", "--untrusted"],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_is_judged_as_the_proxy_judges_it() {
        let good = parsed(&["--allow-uri", "https://a.example/x", "--allow-uri", "github:NixOS"]).unwrap();
        assert_eq!(good.allow_uris, ["https://a.example/x", "github:NixOS"]);
        for (bad, remedy) in [
            ("ftp://a", "write https://HOST/PATH"),
            ("https://u:p@a/", "leave out what stands before the @"),
            ("https://u:p/x@a/", "its host or port is none"),
            ("https://a/../b", "write it without"),
            ("github:", "write github:OWNER"),
            ("https://a https://b", "its host or port is none"),
        ] {
            for more in [&[][..], &["--untrusted"]] {
                let said = parsed(&[&["--allow-uri", bad], more].concat()).unwrap().check().unwrap_err();
                assert!(said.contains(remedy) && !said.contains("u:p"), "{bad}: {said}");
            }
        }
    }

    #[test]
    fn too_little_is_refused_with_what_is_enough() {
        let said = parsed(&["--workers", "0"]).unwrap_err();
        assert!(said.contains("at least 1 is needed"), "{said}");
        let said = parsed(&["--memory", "63MiB"]).unwrap_err();
        assert!(said.contains("at least 64MiB is needed"), "{said}");
        assert_eq!(parsed(&["--memory", "64MiB"]).unwrap().memory, Some(Size(64 << 20)));
    }

    #[test]
    fn what_would_say_nothing_or_too_much_is_refused() {
        let check = |arguments: &[&str]| parsed(arguments).unwrap().check();
        let uri = ["--allow-uri", "https://a"];
        assert!(check(&uri).unwrap_err().contains("add --untrusted or --sandbox on"));
        assert!(check(&[&uri[..], &["--sandbox", "off"]].concat()).is_err());
        for more in [&["--untrusted"][..], &["--sandbox", "on"], &["--untrusted", "--allow-private-hosts"]] {
            assert_eq!(check(&[&uri[..], more].concat()), Ok(()), "{more:?}");
        }
        let off = check(&["--untrusted", "--sandbox", "off"]).unwrap_err();
        assert!(off.contains("leave --sandbox off out"), "{off}");
        let many: Vec<&str> = ["--untrusted"].into_iter().chain(uri.into_iter().cycle().take(202)).collect();
        assert!(check(&many).unwrap_err().contains("101 prefixes"));
        assert_eq!(parsed(&["--untrusted"]).unwrap().trust(), Trust::UntrustedPr);
        assert_eq!(parsed(&["--sandbox", "on"]).unwrap().trust(), Trust::TrustedPush);
    }
}
