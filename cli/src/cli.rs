//! The command line of `ekaci`, and its exit codes.
//!
//! In flow arguments; out flow typed commands. What they do is in `commands`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use service_kit::describe::Shell;

use crate::run::RunArgs;

/// It was done, and the answer is good.
pub const EXIT_OK: u8 = 0;
/// It was done and the answer is bad, or a person has to look first.
pub const EXIT_BAD: u8 = 1;
/// A configuration is refused.
pub const EXIT_CONFIG: u8 = 2;
/// The command line makes no sense.
pub const EXIT_USAGE: u8 = 2;
/// It could not be finished.
pub const EXIT_UNFINISHED: u8 = 3;
/// What was to be read is not there, or cannot be read.
pub const EXIT_NO_INPUT: u8 = 66;
/// Something cannot be written.
pub const EXIT_NO_OUTPUT: u8 = 73;
/// Somebody interrupted it.
pub const EXIT_INTERRUPTED: u8 = 130;

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done, and good
  1    done, and bad, or a person has to look first
  2    wrong usage, or a configuration that is refused
  3    it could not be finished
  66   what was to be read is not there, or cannot be read
  73   something cannot be written
  130  interrupted";

/// The command line of Eka CI: what a change touches, in any checkout, with no server.
#[derive(Debug, Parser)]
#[command(name = "ekaci", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    /// What holds for every subcommand.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every subcommand.
#[derive(Debug, Clone, Copy, Args)]
pub struct Global {
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours; `auto`: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// Say on stderr what is done; twice for more [default: $EKA_LOG, else $RUST_LOG, else warnings]
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Wherever the output goes.
    Always,
    /// Not at all.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what a change touches: evaluate a git checkout and what it is compared with, and print what differs and why
    ///
    /// Needs a git repository and Nix; no server and no forge. Without a configuration, a flake's packages and checks for
    /// this machine are evaluated, else default.nix.
    Run(RunArgs),
    /// Check a repository's configuration; changes nothing
    ///
    /// In a checkout, .ekaci/config.json counts, else .eka-ci/config.json. Each mistake is told with file, line, column and
    /// what to do about it, and so is each job's file that is not there. Exit code 0: it is good, though there may be
    /// warnings; 2: it is refused; 66: there is none.
    CheckConfig(CheckConfigArgs),
    /// Print a shell's completions of this command line
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Write the man pages of ekaci and its subcommands
    Man {
        /// Folder to write them to; made when missing
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// `check-config`
#[derive(Debug, Args)]
pub struct CheckConfigArgs {
    /// A configuration, or a folder of a checkout
    #[arg(value_name = "PATH", default_value = ".")]
    pub path: PathBuf,
    /// Print the JSON Schema of configurations instead
    #[arg(long, conflicts_with = "path")]
    pub schema: bool,
}
