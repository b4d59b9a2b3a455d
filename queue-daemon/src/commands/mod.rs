//! What each subcommand does.
//!
//! In flow arguments; out flow an exit code, and what people (or, with `--json`, programs) read. `serve` runs the
//! daemon; `check-config`, `restore`, `completions` and `man` need none; `backup` takes more than lines; `watch` asks again and again; everything else is one request
//! over the control socket.

mod ask;
mod backup;
mod check_config;
mod describe;
mod draft;
mod print;
mod privacy;
mod restore;
mod serve;
mod watch;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use service_kit::config::find_config_file;
use service_kit::telemetry::chain;

use crate::cli::{Cli, Command, EXIT_BAD, EXIT_CONFIG, EXIT_OK, EXIT_USAGE};
use crate::config::Config;

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
    // What describes the program itself needs no configuration.
    match &cli.command {
        Command::Completions { shell } => return describe::completions(*shell),
        Command::Man { folder } => return describe::man(folder),
        _ => {}
    }
    let file = match find_config_file(cli.config_file.as_deref(), |name| std::env::var_os(name)) {
        Ok(file) => file,
        Err(error) => return fail(&chain(&error), EXIT_CONFIG),
    };
    match &cli.command {
        Command::CheckConfig { file_only } => check_config::run(&file, *file_only, cli.json),
        Command::Serve(arguments) => match load(&file) {
            Ok(config) => serve::run(config, arguments),
            Err(code) => code,
        },
        Command::Watch(arguments) => match load(&file) {
            Ok(config) => watch::run(&config.queue.control_socket, arguments, cli.json),
            Err(code) => code,
        },
        Command::Backup(arguments) => match load(&file) {
            Ok(config) => backup::run(&config, arguments, cli.json),
            Err(code) => code,
        },
        Command::Restore { file: from } => match load(&file) {
            Ok(config) => restore::run(&config, from, cli.json),
            Err(code) => code,
        },
        _ => match load(&file) {
            Ok(config) => ask::run(&config.queue.control_socket, &cli),
            Err(code) => code,
        },
    }
}

fn load(file: &Path) -> Result<Config, ExitCode> {
    Config::load(file).map_err(|report| fail(&report.to_string(), EXIT_CONFIG))
}

/// Says why on stderr.
fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("eka-queue: {message}");
    code.into()
}

/// Our own output may be a pipe that is closed: that ends the command, quietly.
fn out(text: &str) -> io::Result<()> {
    use io::Write;
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(b"\n")
}

/// `EXIT_OK` or `EXIT_BAD`.
fn verdict(good: bool) -> ExitCode {
    if good { EXIT_OK.into() } else { EXIT_BAD.into() }
}
