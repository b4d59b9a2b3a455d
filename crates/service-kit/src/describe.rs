//! What shells and people learn of a program's command line. In: its definition. Out: a shell's script, or man pages in a
//! folder. Leaves out what a program says where a page cannot be written.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

pub use clap_complete::Shell;

/// The completions of a command line for a shell, as a script without a line break at its end.
#[must_use]
pub fn completions(shell: Shell, mut command: Command) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, &name, &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if name.contains('-') {
        // The generator for bash spells a program's name with a hyphen in two ways, and then finds no subcommand
        // (clap-rs/clap#6421). With one spelling it does; where there is one already this changes nothing.
        script = script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
    }
    script.truncate(script.trim_end().len());
    script
}

/// Writes the man pages of a program and its subcommands into a folder, which is made when it is not there; what lies there
/// under their names is written over. `exit_codes` has a line `CODE MEANING` for each code; its other lines do not count.
///
/// # Errors
/// Whatever the folder or a page cannot be written for.
pub fn man_pages(folder: &Path, mut command: Command, exit_codes: &str) -> io::Result<()> {
    command.build();
    let program = command.get_name().to_owned();
    let version = command.get_version().unwrap_or_default();
    let source = format!("{program} {version}").trim_end().to_owned();
    fs::create_dir_all(folder)?;
    [&command].into_iter().chain(command.get_subcommands()).try_for_each(|one| {
        // The section on exit codes is ours: the generator would make one paragraph of its lines.
        let man = Man::new(one.clone().after_help("").after_long_help(""));
        let man = man.source(source.as_str()).manual(program.as_str());
        fs::write(folder.join(man.get_filename()), page(&man, one.has_subcommands(), exit_codes)?)
    })
}

/// One page: what `--help` says, and the exit codes, which all commands share.
fn page(man: &Man, has_subcommands: bool, exit_codes: &str) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_subcommands {
        man.render_subcommands_section(&mut page)?;
    }
    writeln!(page, ".SH \"EXIT STATUS\"")?;
    for (code, meaning) in exit_codes.lines().filter_map(|line| line.trim().split_once(' ')) {
        if code.parse::<u8>().is_ok() {
            writeln!(page, ".TP\n\\fB{code}\\fR\n{}", meaning.trim())?;
        }
    }
    Ok(page)
}
