//! `ekaci check-config`: files and checkouts, good and bad, for people and for programs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::program::{Said, ekaci, ekaci_with};

const GOOD: &str = r#"{ "jobs": { "app": { "file": "default.nix" } } }"#;
const BAD: &str = r#"{
  "jobs": {
    "app": { "fiel": "default.nix", "caches": "fast" },
    "docs": { "file": "../docs.nix" },
  },
  "post_build_hooks": [
    { "name": "tell", "command": ["./tell"], "env": { "API_TOKEN": "x" } }
  ]
}
"#;

/// A checkout with these files.
fn checkout(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let file = folder.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    folder
}

fn check(folder: &Path) -> Said {
    ekaci(folder, &["check-config"])
}

fn seen(said: &Said) -> (i32, &str, &str) {
    (said.code, said.out.as_str(), said.err.as_str())
}

#[test]
fn a_good_checkout() {
    let folder = checkout(&[(".ekaci/config.json", GOOD), ("default.nix", "{}")]);
    assert_eq!(seen(&check(folder.path())), (0, "./.ekaci/config.json: good\n", ""));
    let folder = checkout(&[(".eka-ci/config.json", GOOD), ("default.nix", "{}")]);
    assert_eq!(seen(&check(folder.path())), (0, "./.eka-ci/config.json: good\n", ""));
}

#[test]
fn findings_as_people_read_them() {
    let folder = checkout(&[(".ekaci/config.json", BAD)]);
    let said = check(folder.path());
    assert_eq!((said.code, said.err.as_str()), (2, ""));
    insta::assert_snapshot!(said.out);
}

#[test]
fn findings_as_programs_read_them() {
    let folder = checkout(&[("one.json", BAD), ("two.json", GOOD)]);
    let said = ekaci(folder.path(), &["check-config", "one.json", "--json"]);
    assert_eq!((said.code, said.err.as_str()), (2, ""));
    let value: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    insta::assert_snapshot!(format!("{value:#}"));
    let said = ekaci(folder.path(), &["--json", "check-config", "two.json"]);
    let good = r#"{"file":"two.json","more":0,"ok":true,"problems":[],"warnings":[]}"#;
    assert_eq!(seen(&said), (0, format!("{good}\n").as_str(), ""));
}

#[test]
fn the_first_of_both_files_counts_and_the_other_is_told_of() {
    let folder =
        checkout(&[(".ekaci/config.json", GOOD), (".eka-ci/config.json", BAD), ("default.nix", "{}")]);
    let told = "./.ekaci/config.json:1:1: warning: .eka-ci/config.json is there as well, and is passed over; take one \
                of the two away\n./.ekaci/config.json: good\n";
    assert_eq!(seen(&check(folder.path())), (0, told, ""));
}

#[test]
fn a_jobs_file_has_to_be_there() {
    let folder = checkout(&[(".ekaci/config.json", GOOD)]);
    let told = "./.ekaci/config.json:1:30: error: jobs.app.file: there is no file default.nix in this checkout; write \
                it, or name another\n./.ekaci/config.json: 1 error\n";
    assert_eq!(seen(&check(folder.path())), (2, told, ""));
    // As `run` takes it: a folder stands for its `default.nix`, and no link leads out.
    fs::create_dir(folder.path().join("default.nix")).unwrap();
    assert_eq!(seen(&check(folder.path())), (2, told, ""));
    fs::write(folder.path().join("default.nix/default.nix"), "{}").unwrap();
    assert_eq!(check(folder.path()).code, 0);
    let out = "./.ekaci/config.json:1:30: error: jobs.app.file: default.nix leads out of this checkout; put the file \
               itself there, or name another\n./.ekaci/config.json: 1 error\n";
    fs::remove_file(folder.path().join("default.nix/default.nix")).unwrap();
    symlink("/etc/passwd", folder.path().join("default.nix/default.nix")).unwrap();
    assert_eq!(seen(&check(folder.path())), (2, out, ""));
    fs::remove_dir_all(folder.path().join("default.nix")).unwrap();
    symlink("/etc/passwd", folder.path().join("default.nix")).unwrap();
    assert_eq!(seen(&check(folder.path())), (2, out, ""));
    // A file alone says nothing about a checkout.
    let said = ekaci(folder.path(), &["check-config", ".ekaci/config.json"]);
    assert_eq!(seen(&said), (0, ".ekaci/config.json: good\n", ""));
}

#[test]
fn links_are_refused_as_a_server_does() {
    let folder = checkout(&[("elsewhere/config.json", GOOD), ("default.nix", "{}")]);
    symlink("elsewhere", folder.path().join(".ekaci")).unwrap();
    let said = check(folder.path());
    assert_eq!(said.code, 2);
    assert!(said.out.contains("is, or lies behind, a symbolic link (.ekaci)"), "{said:?}");
}

#[test]
fn what_is_not_there_is_told() {
    let folder = checkout(&[("default.nix", "{}")]);
    let told =
        "ekaci: .: there is neither .ekaci/config.json nor .eka-ci/config.json; write one, or name a file\n";
    assert_eq!(seen(&check(folder.path())), (66, "", told));
    let said = ekaci(folder.path(), &["check-config", "nowhere\u{1b}[2J"]);
    let told = "ekaci: cannot read nowhere\\u{1b}[2J: No such file or directory (os error 2)\n";
    assert_eq!(seen(&said), (66, "", told));
}

/// More than is ever read, and nothing that ends.
#[test]
fn large_files_are_not_read_to_their_end() {
    let said = ekaci(Path::new("/"), &["check-config", "/dev/zero"]);
    let told = "/dev/zero:1:1: error: the file has 262145 bytes, more than 262144; make it smaller\n/dev/zero: 1 error\n";
    assert_eq!(seen(&said), (2, told, ""));
}

#[test]
fn what_is_done_is_told_when_it_is_asked_for() {
    let folder = checkout(&[("good.json", GOOD)]);
    let said = ekaci(folder.path(), &["-v", "check-config", "good.json"]);
    assert_eq!((said.code, said.out.as_str()), (0, "good.json: good\n"));
    assert!(said.err.contains("read 48 bytes of good.json"), "{said:?}");
    let said = ekaci_with(folder.path(), &["check-config", "good.json"], &[("EKA_LOG", "info")]);
    assert!(said.err.contains("read 48 bytes of good.json"), "{said:?}");
}

#[test]
fn colours_when_they_are_asked_for() {
    let folder = checkout(&[("good.json", GOOD)]);
    let coloured = "good.json: \u{1b}[32mgood\u{1b}[0m\n";
    for (arguments, out) in [
        (&["check-config", "good.json"][..], "good.json: good\n"),
        (&["check-config", "good.json", "--color", "never"], "good.json: good\n"),
        (&["--color=always", "check-config", "good.json"], coloured),
    ] {
        assert_eq!(
            seen(&ekaci_with(folder.path(), arguments, &[("TERM", "xterm")])),
            (0, out, ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn the_schema_is_the_published_one() {
    let said = ekaci(Path::new("/"), &["check-config", "--schema"]);
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/repository-config.json");
    assert_eq!((said.code, said.out), (0, fs::read_to_string(published).unwrap()));
}
