//! `ekaci completions` and `ekaci man`: what shells and people learn of the command line.
//!
//! In flows the command line's own definition; out flow a shell's script on stdout, or man pages in a folder. Changes
//! nothing but those pages.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use service_kit::text::one_line;

use super::{fail, out};
use crate::cli::{Cli, EXIT_CODES, EXIT_NO_OUTPUT, EXIT_OK};

pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ekaci", &mut script);
    let _ = out(String::from_utf8_lossy(&script).trim_end()); // nobody reads it
    EXIT_OK.into()
}

pub(super) fn man(folder: &Path) -> ExitCode {
    let mut command = Cli::command();
    command.build();
    let written = fs::create_dir_all(folder).and_then(|()| {
        write_page(folder, &command)?;
        command.get_subcommands().try_for_each(|subcommand| write_page(folder, subcommand))
    });
    match written {
        Ok(()) => EXIT_OK.into(),
        Err(error) => {
            let shown = folder.display().to_string();
            fail(&format!("cannot write man pages to {}: {error}", one_line(&shown)), EXIT_NO_OUTPUT)
        }
    }
}

/// One page: what `--help` says, and the exit codes, which all commands share.
fn write_page(folder: &Path, command: &clap::Command) -> io::Result<()> {
    // The section on exit codes is ours: the generator would make one paragraph of its lines.
    let man = Man::new(command.clone().after_help("").after_long_help(""));
    let man = man.source(concat!("ekaci ", env!("CARGO_PKG_VERSION"))).manual("ekaci");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    writeln!(page, ".SH \"EXIT STATUS\"")?;
    for (code, meaning) in EXIT_CODES.lines().filter_map(|line| line.trim().split_once(' ')) {
        if code.parse::<u8>().is_ok() {
            writeln!(page, ".TP\n\\fB{code}\\fR\n{}", meaning.trim())?;
        }
    }
    fs::write(folder.join(man.get_filename()), page)
}
