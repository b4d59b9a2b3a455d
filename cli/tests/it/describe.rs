//! What the program says about itself: help, version, wrong usage, completions, man pages.

use std::fs;
use std::path::Path;

use crate::program::{Said, ekaci, ekaci_with};

fn say(arguments: &[&str]) -> Said {
    ekaci(Path::new("/"), arguments)
}

/// Subcommands, as `--help` lists them.
fn subcommands() -> Vec<String> {
    let help = say(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    let lines = help.out.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn every_help_text() {
    insta::assert_snapshot!("help", say(&["--help"]).out);
    let subcommands = subcommands();
    assert!(subcommands.iter().any(|name| name == "check-config"), "{subcommands:?}");
    for subcommand in subcommands {
        let said = say(&[&subcommand, "--help"]);
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        insta::assert_snapshot!(format!("help_{subcommand}"), said.out);
    }
}

#[test]
fn the_version_is_the_packages() {
    let said = say(&["--version"]);
    assert_eq!((said.code, said.out), (0, format!("ekaci {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_usage_is_2_and_says_what_was_wrong() {
    let wrong: [(&[&str], &str); 5] = [
        (&[], "Usage: ekaci"),
        (&["chekc-config"], "a similar subcommand exists: 'check-config'"),
        (&["check-config", "--jsn"], "a similar argument exists: '--json'"),
        (&["check-config", "--color", "blue"], "possible values: auto, always, never"),
        (&["check-config", "--schema", "x.json"], "cannot be used with"),
    ];
    for (arguments, what) in wrong {
        let said = say(arguments);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{arguments:?}");
        assert!(said.err.contains(what), "{arguments:?}: {}", said.err);
    }
    let said = ekaci_with(Path::new("/"), &["check-config", "--schema"], &[("EKA_LOG", "=[")]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("EKA_LOG"), "{said:?}");
}

#[test]
fn every_shell_has_a_script_that_names_every_subcommand() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = say(&["completions", shell]);
        assert_eq!((script.code, script.err.as_str()), (0, ""), "{shell}");
        for subcommand in subcommands() {
            assert!(script.out.contains(&subcommand), "{subcommand} in the script for {shell}");
        }
    }
}

#[test]
fn every_subcommand_has_a_man_page_and_the_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let said = say(&["man", pages.to_str().unwrap()]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""));
    let subcommands = subcommands();
    for subcommand in &subcommands {
        let page = fs::read_to_string(pages.join(format!("ekaci-{subcommand}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains("\\fB66\\fR"), "{page}");
    }
    assert_eq!(fs::read_dir(&pages).unwrap().count(), subcommands.len() + 1);

    let said = say(&["man", "/proc/eka"]);
    assert_eq!(said.code, 73, "{said:?}");
    assert!(said.err.starts_with("ekaci: cannot write man pages to /proc/eka: "), "{said:?}");
}
