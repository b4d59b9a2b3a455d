//! `completions` and `man`: what shells and people learn of the command line, without configuration or daemon.

use std::fs;

use crate::world::{Said, queue_program, run, tool};

fn say(arguments: &[&str]) -> Said {
    let mut command = tool(queue_program());
    command.args(arguments).env("EKA_CI_CONFIG_FILE", "/nowhere");
    run(&mut command, b"")
}

/// A real shell is asked what it would offer.
#[test]
fn bash_completes_subcommands_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    let script = say(&["completions", "bash"]);
    assert_eq!((script.code, script.err.as_str()), (0, ""));
    let file = folder.path().join("eka-queue.bash");
    fs::write(&file, &script.out).unwrap();
    let offered = |words: &str| {
        let ask = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$(({} - 1)); \
             $(complete -p eka-queue | grep -o '_eka[^ ]*') eka-queue \"${{COMP_WORDS[COMP_CWORD]}}\" \"\"; echo \"${{COMPREPLY[*]}}\"",
            file.display(),
            words.split(' ').count(),
        );
        let said = run(tool("bash").args(["--norc", "-c", &ask]), b"");
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        said.out
    };
    assert_eq!(offered("eka-queue dr"), "drop drain\n");
    assert_eq!(offered("eka-queue wait --ti"), "--timeout\n");
}

#[test]
fn every_shell_has_a_script_that_names_every_subcommand() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = say(&["completions", shell]);
        assert_eq!((script.code, script.err.as_str()), (0, ""), "{shell}");
        for subcommand in ["serve", "wait", "check-config", "completions"] {
            assert!(script.out.contains(subcommand), "{subcommand} in the script for {shell}");
        }
    }
}

#[test]
fn every_subcommand_has_a_man_page_and_the_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let said = say(&["man", pages.to_str().unwrap()]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""));
    let help = say(&["--help"]).out;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<_> = commands
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(commands.contains(&"drain") && commands.contains(&"man"), "{commands:?}");
    for command in &commands {
        let page = fs::read_to_string(pages.join(format!("eka-queue-{command}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains("\\fB69\\fR"), "{page}");
    }
    assert_eq!(fs::read_dir(&pages).unwrap().count(), commands.len() + 1);
    let page = fs::read_to_string(pages.join("eka-queue.1")).unwrap();
    assert!(commands.iter().all(|command| page.contains(&command.replace('-', "\\-"))), "{page}");

    let said = say(&["man", "/proc/eka"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.starts_with("eka-queue: cannot write man pages to /proc/eka: "), "{said:?}");
}
