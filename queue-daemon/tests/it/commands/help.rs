//! What the programs say about themselves, and the exit codes of wrong usage and absent daemons.

use crate::world::{World, queue_program, run, tool};

const SUBCOMMANDS: [&str; 19] = [
    "serve",
    "status",
    "list",
    "show",
    "push",
    "wait",
    "retry",
    "drop",
    "pause",
    "resume",
    "drain",
    "verify",
    "watch",
    "backup",
    "restore",
    "audit",
    "check-config",
    "completions",
    "man",
];

/// Runs it with these arguments and no configuration at all.
fn say(arguments: &[&str]) -> crate::world::Said {
    let mut command = tool(queue_program());
    command.args(arguments).env_remove("EKA_CI_CONFIG_FILE");
    run(&mut command, b"")
}

#[test]
fn every_help_text() {
    let help = say(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    insta::assert_snapshot!("help", help.out);
    for subcommand in SUBCOMMANDS {
        let said = say(&[subcommand, "--help"]);
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        insta::assert_snapshot!(format!("help_{subcommand}"), said.out);
        assert!(help.out.contains(&format!("\n  {subcommand} ")), "--help names {subcommand}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let said = say(&["--version"]);
    assert_eq!((said.code, said.out), (0, format!("eka-queue {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_usage_is_64_and_says_what_was_wrong() {
    let wrong: [(&[&str], &str); 24] = [
        (&[], "Usage: eka-queue"),
        (&["sttaus"], "similar subcommands exist: 'pause', 'status'"),
        (&["status", "--jsn"], "a similar argument exists: '--json'"),
        (&["list", "--state", "asleep"], "queued, leased, pushing, verifying, waiting, done, dead, gone"),
        (&["list", "--older-than", "yesterday"], "not a whole number with a unit"),
        (&["show"], "<PATH>"),
        (&["status", "--timeout", "soon"], "not a whole number with a unit"),
        (&["status", "--timeout", "0"], "the least is 1ms"),
        (&["push"], "<PATH>"),
        (&["push", "--all-valid", "/nix/store/x"], "cannot be used with"),
        (&["push", "--closure", "--all-valid"], "cannot be used with"),
        (&["push", "--ultimate", "/nix/store/x"], "cannot be used with"),
        (&["push", "--since", "2h", "/nix/store/x"], "cannot be used with"),
        (&["wait"], "<PATH>"),
        (&["wait", "--all", "--tag", "x"], "cannot be used with"),
        (&["verify", "--state", "done"], "unexpected argument"),
        (&["watch", "--interval", "soon"], "not a whole number with a unit"),
        (&["backup"], "<TARGET>"),
        (&["restore"], "<FILE>"),
        (&["retry"], "--all"),
        (&["drop"], "--all"),
        (&["serve", "--log-format", "xml"], "text, json"),
        (&["completions", "tcsh"], "bash, elvish, fish, powershell, zsh"),
        (&["man"], "<DIR>"),
    ];
    for (arguments, hint) in wrong {
        let said = say(arguments);
        assert_eq!((said.code, said.out.as_str()), (64, ""), "{arguments:?}: {said:?}");
        assert!(said.err.contains(hint), "{arguments:?}: {said:?}");
    }
}

#[test]
fn without_a_daemon_every_command_ends_with_69_and_names_the_socket() {
    let world = World::new("");
    let path = world.valid_paths(1).remove(0);
    let commands: [&[&str]; 13] = [
        &["status"],
        &["list"],
        &["show", &path],
        &["push", &path],
        &["wait", "--all", "--reconnect", "0"],
        &["retry", "--all"],
        &["drop", "--all"],
        &["pause"],
        &["resume"],
        &["drain"],
        &["verify"],
        &["watch"],
        &["backup", "/tmp"],
    ];
    let socket = world.path("control.sock");
    for command in commands {
        let said = world.ask(command);
        let begin = format!(
            "eka-queue: no daemon answers at {}; see that `eka-queue serve` runs, and that you may open its control socket: ",
            socket.display()
        );
        assert_eq!((said.code, said.out.as_str()), (69, ""), "{command:?}: {said:?}");
        assert!(said.err.starts_with(&begin), "{command:?}: {said:?}");
        let said = world.ask(&[&["--json"], command].concat());
        let object: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert!(object["error"].as_str().unwrap().starts_with("no daemon answers at"), "{said:?}");
        assert_eq!(said.code, 69);
    }
}
