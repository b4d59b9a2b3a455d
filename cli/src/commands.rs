//! What each subcommand does.
//!
//! In flow arguments; out flow an exit code, and what people (or, with `--json`, programs) read.

mod check_config;
mod describe;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use service_kit::telemetry::{self, LogFormat};

use crate::cli::{Cli, Color, Command, EXIT_OK, EXIT_USAGE};

/// Runs one command line.
#[must_use]
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_USAGE } else { EXIT_OK };
            let _ = error.print(); // nobody reads it
            return code.into();
        }
    };
    if let Err(error) = telemetry::start(log_filter(cli.global.verbose), LogFormat::Text) {
        return fail(&telemetry::chain(&error), EXIT_USAGE);
    }
    match &cli.command {
        Command::Run(arguments) => crate::run::start::run(arguments, cli.global),
        Command::CheckConfig(arguments) => check_config::run(arguments, cli.global),
        Command::Completions { shell } => describe::completions(*shell),
        Command::Man { folder } => describe::man(folder),
    }
}

/// What is logged: what the flags say, else what a variable says, else warnings.
fn log_filter(verbose: u8) -> Option<&'static str> {
    let said = ["EKA_LOG", "RUST_LOG"]
        .into_iter()
        .any(|name| std::env::var_os(name).is_some_and(|filter| !filter.is_empty()));
    match verbose {
        0 if said => None,
        0 => Some("warn"),
        1 => Some("info"),
        2.. => Some("debug"),
    }
}

/// May what goes to stdout have colours?
fn coloured(color: Color) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}

/// Says why on stderr.
fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("ekaci: {message}");
    code.into()
}

/// Our own output may be a pipe that is closed: that ends the command, quietly.
fn out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(b"\n")
}
