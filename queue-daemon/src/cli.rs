//! The command line of `eka-queue`, and its exit codes.
//!
//! In flow arguments; out flow typed commands. What they do is in `commands`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use service_kit::describe::Shell;

/// It was done; for `wait`: all delivered.
pub const EXIT_OK: u8 = 0;
/// It was done and the answer is bad: dead or vanished paths, refused paths, a configuration with problems.
pub const EXIT_BAD: u8 = 1;
/// The time was over first.
pub const EXIT_TIME_OUT: u8 = 2;
/// There is no such path, tag or destination.
pub const EXIT_NOT_FOUND: u8 = 3;
/// The command line makes no sense.
pub const EXIT_USAGE: u8 = 64;
/// The daemon cannot be reached, does not answer, or cannot do it now.
pub const EXIT_UNAVAILABLE: u8 = 69;
/// The daemon could not start, or ended by a fault of its own.
pub const EXIT_SOFTWARE: u8 = 70;
/// There is no usable configuration.
pub const EXIT_CONFIG: u8 = 78;

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0   done; for wait: all delivered
  1   done, with a bad answer: dead, vanished, missing or refused paths, problems in the configuration
  2   the time was over first
  3   no such path, tag or destination
  64  wrong usage
  69  the daemon cannot be reached, does not answer, or cannot do it now
  70  the daemon could not start, or failed
  78  no usable configuration";

/// Signs store paths and pushes them to binary caches, and never forgets one.
#[derive(Debug, Parser)]
#[command(name = "eka-queue", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    /// Configuration file [default: $EKA_CI_CONFIG_FILE, else $XDG_CONFIG_HOME/ekaci/ekaci.toml, else
    /// /etc/ekaci/ekaci.toml, else /etc/eka-ci/ekaci.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    Serve(ServeArgs),
    /// Show what is queued, by destination
    Status(StatusArgs),
    /// List deliveries, oldest first
    List(ListArgs),
    /// Show everything about one path
    Show(ShowArgs),
    /// Queue paths that the hook never fired for
    Push(PushArgs),
    /// Wait until nothing selected is owed any more
    Wait(WaitArgs),
    /// Try waiting, dead and vanished deliveries again now
    Retry(SelectArgs),
    /// Forget deliveries (those an attempt holds are left alone)
    Drop(SelectArgs),
    /// Start nothing new at one destination, or at all
    Pause {
        /// Destination id [default: all]
        destination: Option<String>,
    },
    /// Go on at one destination, or at all
    Resume {
        /// Destination id [default: all]
        destination: Option<String>,
    },
    /// Take nothing more in, finish what is owed, then end the daemon
    Drain {
        /// Give up after this time, such as 10m [default: never]
        #[arg(long, value_name = "TIME", value_parser = duration)]
        timeout: Option<std::time::Duration>,
    },
    /// Compare receipts with the destinations themselves, and queue again what is missing
    ///
    /// Each delivery that is done is asked for at its destination: its narinfo must be there, the archive it names must
    /// be there with the size it names, and so must everything the path needs. What is missing, or damaged in one of
    /// these ways, is queued again and really sent again; the bytes of archives are not read back. A destination is
    /// asked to its end before anything of it is queued: when it cannot be reached, or you end the command, nothing is.
    /// A `command` has nobody to ask; in the local store the signatures are looked at.
    ///
    /// Exit code 0: all there; 1: something is missing; 69: a destination could not be asked.
    Verify(VerifyArgs),
    /// Show what is under way, live
    ///
    /// On a terminal a picture that is drawn anew each interval, elsewhere a line for each change; with --json one
    /// object each interval. Ctrl-C ends it, with exit code 0. A bar shows, in bytes of NARs before compression, how
    /// much is delivered of all that was owed since the watch began. The time left is that of what is queued at the
    /// rate of the last ten seconds, if it can be compressed as well as what was sent lately; paths that are sent only
    /// because others need them are not in it. Where bytes cannot be counted as they leave (`nix copy`, a command)
    /// there is neither a rate nor a time.
    Watch(WatchArgs),
    /// Copy the queue's database into a file, while it is in use
    ///
    /// The copy is what is committed at one moment: every request that was acknowledged before is in it. It is checked, has
    /// mode 0600, and gets its name when it is complete and on the disk; nothing is left of one that fails. The daemon
    /// makes it in the state folder and sends it; the target is written by this command, as whoever runs it. Without a
    /// daemon the state folder is read directly. Files in the spool are not part of it.
    Backup(BackupArgs),
    /// Put a backup in the place of the queue; no daemon may run
    ///
    /// The file is checked first, and what the queue was is kept beside it as queue.db.before-restore-TIME. What to do
    /// next is printed.
    Restore {
        /// What `backup` wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// List who did what, or check that nobody has changed that list
    ///
    /// Every act over the control socket that changes something, every claim of the CI and every start of the daemon is a
    /// row, written in the transaction of the act; a hash in each covers all rows before it. With --verify every row is
    /// looked at, and the first that was changed, taken away or put in is named. Rows that were cut off the end are
    /// missed only with --head: give the head that the log line of a late act shows.
    ///
    /// Exit code 0: all rows are as they were written; 1: one is not.
    Audit(AuditArgs),
    /// Check the configuration and what it points to; changes nothing
    CheckConfig {
        /// Check the file alone: keys, users and programs belong to another machine
        #[arg(long)]
        file_only: bool,
    },
    /// Print a shell's completions of this command line
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Write the man pages of eka-queue and its subcommands
    Man {
        /// Folder to write them to; made when missing
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// How the daemon talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text each.
    Text,
    /// One JSON object each.
    Json,
}

/// `serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// What to log, such as `info` or `eka_queue=debug` [default: $EKA_LOG, else $RUST_LOG, else info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How to log
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// How long a command that only looks waits for the daemon.
#[derive(Debug, Clone, Copy, Args)]
pub struct LookArgs {
    /// Give up, with exit code 69, when the daemon says nothing for this time, such as 1m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = patience)]
    pub timeout: std::time::Duration,
}

/// `status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// How long to wait.
    #[command(flatten)]
    pub look: LookArgs,
}

/// `show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Store path
    pub path: String,
    /// How long to wait.
    #[command(flatten)]
    pub look: LookArgs,
}

/// `list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// In this state: queued, leased, pushing, verifying, waiting, done, dead, gone (may be repeated)
    #[arg(long = "state", value_name = "STATE", value_parser = state)]
    pub states: Vec<String>,
    /// At this destination
    #[arg(long, value_name = "ID")]
    pub destination: Option<String>,
    /// Asked for under this tag
    #[arg(long)]
    pub tag: Option<String>,
    /// Queued longer ago than this, such as 2h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub older_than: Option<std::time::Duration>,
    /// Queued within this time, such as 10m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub newer_than: Option<std::time::Duration>,
    /// At most so many; 0 means all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: u64,
    /// Of these store paths
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,
    /// How long to wait.
    #[command(flatten)]
    pub look: LookArgs,
}

/// `push`
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Store paths; `-` reads them from standard input
    #[arg(value_name = "PATH", required_unless_present = "all_valid", conflicts_with = "all_valid")]
    pub paths: Vec<String>,
    /// Queue everything the paths need as deliveries of their own
    #[arg(long, requires = "paths", conflicts_with = "all_valid")]
    pub closure: bool,
    /// Queue every path of the store but derivations
    #[arg(long)]
    pub all_valid: bool,
    /// With --all-valid: only what was built on this machine
    #[arg(long, requires = "all_valid", conflicts_with = "paths")]
    pub ultimate: bool,
    /// With --all-valid: only what was registered since, such as 2h, 2026-01-31 or @1700000000
    #[arg(long, value_name = "TIME", requires = "all_valid", conflicts_with = "paths")]
    pub since: Option<String>,
    /// Push there (may be repeated) [default: the default destinations]
    #[arg(long = "to", value_name = "ID")]
    pub to: Vec<String>,
    /// A name to wait for
    #[arg(long)]
    pub tag: Option<String>,
    /// Higher goes first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i32,
}

/// `wait`
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Wait for these store paths
    #[arg(value_name = "PATH", required_unless_present_any = ["tag", "all"])]
    pub paths: Vec<String>,
    /// Wait for what was asked for under this tag
    #[arg(long)]
    pub tag: Option<String>,
    /// Wait for everything
    #[arg(long, conflicts_with_all = ["paths", "tag"])]
    pub all: bool,
    /// Only at this destination
    #[arg(long, value_name = "ID")]
    pub destination: Option<String>,
    /// Give up after this time, such as 10m [default: never]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<std::time::Duration>,
    /// How long a daemon may be away (a restart) before that counts as unreachable
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub reconnect: std::time::Duration,
}

/// `retry`, `drop`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
pub struct SelectArgs {
    /// These store paths
    #[arg(value_name = "PATH", group = "which")]
    pub paths: Vec<String>,
    /// In this state (may be repeated)
    #[arg(long = "state", value_name = "STATE", group = "which", value_parser = state)]
    pub states: Vec<String>,
    /// At this destination
    #[arg(long, value_name = "ID", group = "which")]
    pub destination: Option<String>,
    /// Asked for under this tag
    #[arg(long, group = "which")]
    pub tag: Option<String>,
    /// All of them
    #[arg(long, group = "which")]
    pub all: bool,
}

/// `verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Only these store paths [default: all that were delivered]
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,
    /// Only at this destination
    #[arg(long, value_name = "ID")]
    pub destination: Option<String>,
    /// Only say what is missing
    #[arg(long)]
    pub dry_run: bool,
}

/// `backup`
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// File to write, or a folder for a file named after the moment
    #[arg(value_name = "TARGET")]
    pub target: PathBuf,
    /// Replace the file when it exists
    #[arg(long)]
    pub force: bool,
    /// Give up, with exit code 69, when the daemon says nothing for this time, such as 1h
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = patience)]
    pub timeout: std::time::Duration,
}

/// `audit`
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only since, such as 2h, 2026-01-31 or @1700000000
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only this act, such as pause
    #[arg(long, value_name = "ACT", value_parser = act)]
    pub act: Option<String>,
    /// At most so many, the newest; 0 means all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: u64,
    /// Look at every row instead of listing them
    #[arg(long, conflicts_with_all = ["since", "act", "limit"])]
    pub verify: bool,
    /// With --verify: a head that was noted, NUMBER:HASH, and that the list has to hold
    #[arg(long, value_name = "HEAD", requires = "verify")]
    pub head: Option<String>,
    /// How long to wait.
    #[command(flatten)]
    pub look: LookArgs,
}

/// `watch`
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Time between two looks, at least 100ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub interval: std::time::Duration,
    /// Show how it stands, once, and end
    #[arg(long)]
    pub once: bool,
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    service_kit::config::parse_duration(text).map_err(|error| error.to_string())
}

/// A time in which something can be said.
fn patience(text: &str) -> Result<std::time::Duration, String> {
    match duration(text)? {
        std::time::Duration::ZERO => Err("nothing can be answered in no time; the least is 1ms".to_owned()),
        time => Ok(time),
    }
}

fn act(text: &str) -> Result<String, String> {
    use crate::audit::Act;
    let words = Act::ALL.map(Act::as_str);
    match words.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("the acts are {}", words.join(", "))),
    }
}

fn state(text: &str) -> Result<String, String> {
    use crate::delivery::StateName;
    match StateName::from_word(text) {
        Some(state) => Ok(state.as_str().to_owned()),
        None => Err(format!("the states are {}", StateName::ALL.map(StateName::as_str).join(", "))),
    }
}
