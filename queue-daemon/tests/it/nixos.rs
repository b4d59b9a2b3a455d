//! The NixOS modules and the daemon agree. In: what `nixos/tests` renders, the tables of docs/operations.md, and the real
//! programs. Out: a failure for each file that the daemon refuses, each key or default that only one side has, and each
//! system that is built with settings it should not be built with. Leaves out what `make check-modules` checks alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::pages;
use crate::world::{Said, World, hook_program, queue_program, run, tool};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// An attribute of `nixos/tests`, evaluated with the stand-in for nixpkgs.
pub(crate) fn evaluated(attribute: &str) -> Value {
    evaluated_with(attribute, &[])
}

fn evaluated_with(attribute: &str, more: &[&str]) -> Value {
    let world = World::new("");
    let mut command = world.tool("nix-instantiate");
    command.args(["--eval", "--strict", "--json", "--readonly-mode", "-A", attribute]).args(more);
    let said = run(command.arg(root().join("nixos/tests")), b"");
    assert_eq!(said.code, 0, "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

fn check(file: &Path) -> Said {
    let mut command = tool(queue_program());
    run(command.args(["check-config", "--file-only", "--config-file"]).arg(file), b"")
}

#[test]
fn what_the_modules_render_is_good_to_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let files = evaluated("toml");
    let files = files.as_object().unwrap();
    assert!(files.contains_key("everything") && files.contains_key("oldSsh"), "{:?}", files.keys());
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::write(&file, text.as_str().unwrap()).unwrap();
        let said = check(&file);
        assert_eq!(said.code, 0, "{name}: {text}\n{said:?}");
        let nowhere = "there is no destination";
        let fine = !said.out.contains("warning") || (name == "signing" && said.out.contains(nowhere));
        assert!(fine, "{name}: {said:?}");
    }
}

/// Whether they are accepted at all is for `make check-modules`.
#[test]
fn the_settings_that_pages_print_are_good_to_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let (module, file) = (folder.path().join("example.nix"), folder.path().join("ekaci.toml"));
    let mut checked = 0;
    for (name, page) in pages::all() {
        for block in pages::blocks(&page) {
            let sets = |line: &str| line.trim_start().starts_with("services.");
            if block.info != "nix" || !block.text.lines().any(sets) {
                continue;
            }
            fs::write(&module, &block.text).unwrap();
            let text = evaluated_with("exampleToml", &["--arg", "file", module.to_str().unwrap()]);
            fs::write(&file, text.as_str().unwrap()).unwrap();
            let said = check(&file);
            assert_eq!(said.code, 0, "{name}:{}: {text}\n{said:?}", block.line);
            checked += 1;
        }
    }
    assert!(checked > 6, "the pages print settings: {checked}");
}

#[test]
fn what_the_modules_render_is_good_to_the_hook() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hook.conf");
    let say = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut command = tool(hook_program());
        run(command.arg("--config-file").arg(&file).env_remove("OUT_PATHS").env_remove("DRV_PATH"), b"")
    };
    let text = evaluated("hookConf");
    let text = text.as_str().unwrap();
    let said = say(text);
    assert!(!said.err.contains("hook.conf"), "{text}\n{said:?}");
    let wrong = say(&text.replace("timeout_ms", "timeout"));
    assert!(wrong.err.contains("hook.conf") && wrong.err.contains("timeout"), "it does look: {wrong:?}");
}

/// Builds what a system with these settings would have as its ekaci.toml.
fn build(settings: &str) -> Said {
    let world = World::new("");
    // A store path, as a package is: `$out/bin/eka-queue`.
    let package = world.path("package");
    fs::create_dir_all(package.join("bin")).unwrap();
    std::os::unix::fs::symlink(queue_program(), package.join("bin/eka-queue")).unwrap();
    let expression = format!(
        "(import {}/nixos/tests {{ }}).configFile {{ package = \"{}\"; settings = {settings}; }}",
        root().display(),
        package.display()
    );
    let said = run(world.tool("nix-build").args(["--no-out-link", "-E", &expression]), b"");
    if said.code == 0 {
        let text = fs::read_to_string(said.out.trim()).unwrap();
        assert!(text.contains("[queue]"), "{text}");
    }
    said
}

#[test]
fn a_system_is_built_only_with_settings_that_the_daemon_takes() {
    let cache = r#"{ id = "main"; cache_type = "nix-copy"; destination = "https://cache.example.org"; }"#;
    let good = build(&format!("{{ caches = [ {cache} ]; web.port = 3030; }}"));
    assert_eq!(good.code, 0, "{good:?}");
    let unknown = build(&format!("{{ caches = [ {cache} ]; queue.sokcet = \"/run/q\"; }}"));
    assert!(unknown.code != 0 && unknown.err.contains("sokcet: unknown key"), "{unknown:?}");
    let twice = build(&format!("{{ caches = [ {cache} {cache} ]; }}"));
    assert!(twice.code != 0 && twice.err.contains("`main` is used twice"), "{twice:?}");
    let unsigned = build(r#"{ queue.sign_store = true; }"#);
    assert!(unsigned.code != 0 && unsigned.err.contains("there is no key to sign with"), "{unsigned:?}");
}

/// The rows of the first table behind a heading: cells without the outer bars.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, rest) = page.split_once(heading).unwrap_or_else(|| panic!("the page has {heading}"));
    let lines =
        rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    lines.skip(2).map(cells).collect()
}

/// What stands between backticks.
fn words(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_of_the_book_has_an_option_and_no_option_is_without_a_key() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let keys = evaluated("keys");
    for (heading, options) in
        [("\n### `[queue]`", "queue"), ("\n### `[[caches]]`", "cache"), ("\n### `[security]`", "security")]
    {
        let options = keys[options].as_object().unwrap();
        let rows = rows(&page, heading);
        let printed: BTreeSet<String> = rows.iter().flat_map(|row| words(&row[0])).collect();
        let offered: BTreeSet<String> = options.keys().cloned().collect();
        assert_eq!(
            printed, offered,
            "left: docs/operations.md {heading}, right: nixos/modules/queue-settings.nix"
        );
        for row in &rows {
            for key in words(&row[0]) {
                let description = options[&key].as_str().unwrap();
                assert!(description.len() > 15, "{key} has a description: {description}");
                for default in words(&row[1]).iter().filter(|word| !word.starts_with(['[', '{'])) {
                    let said = default == "false" || description.contains(default);
                    assert!(said, "{key}: the default is {default}, the option says: {description}");
                }
            }
        }
    }
    let hook: BTreeSet<String> = rows(&page, "\n## The hook").iter().flat_map(|row| words(&row[3])).collect();
    let offered: BTreeSet<String> = keys["hook"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(hook, offered, "left: docs/operations.md, right: the options of hook.conf");
}

#[test]
fn the_types_of_caches_are_those_of_the_book() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let rows = rows(&page, "\n### `[[caches]]`");
    let row = rows.iter().find(|row| row[0] == "`cache_type`").unwrap();
    let offered = evaluated("cacheTypes");
    let offered: BTreeSet<String> =
        offered.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect();
    assert_eq!(words(&row[2]), offered);
}
