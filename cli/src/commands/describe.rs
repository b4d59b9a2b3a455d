//! `ekaci completions` and `ekaci man`: what shells and people learn of the command line.
//!
//! In flows the command line's own definition; out flow a shell's script on stdout, or man pages in a folder. Changes
//! nothing but those pages.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use service_kit::describe::{self, Shell};
use service_kit::text::one_line;

use super::{fail, out};
use crate::cli::{Cli, EXIT_CODES, EXIT_NO_OUTPUT, EXIT_OK};

pub(super) fn completions(shell: Shell) -> ExitCode {
    let _ = out(&describe::completions(shell, Cli::command())); // nobody reads it
    EXIT_OK.into()
}

pub(super) fn man(folder: &Path) -> ExitCode {
    match describe::man_pages(folder, Cli::command(), EXIT_CODES) {
        Ok(()) => EXIT_OK.into(),
        Err(error) => {
            let shown = folder.display().to_string();
            fail(&format!("cannot write man pages to {}: {error}", one_line(&shown)), EXIT_NO_OUTPUT)
        }
    }
}
