//! `ekaci run` on the example repository, as its README says: what people read at two widths, what programs and pull
//! requests get, and the exit codes. Times, sizes, commits, paths and the release of Nix are left out of what is compared.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use test_kit::proc::Guard;
use test_kit::wait;

use crate::example::made;
use crate::program::Said;
use crate::stage::{Stage, marked, page};

/// How long anything that should happen soon may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Runs it on the changed example.
fn run(stage: &Stage, columns: usize, more: &[&str]) -> Said {
    let mut command = stage.command("ekaci", "my-packages");
    command.args(["run", "--eval-only", "--base", "main"]).args(more).env("COLUMNS", columns.to_string());
    stage.run(command)
}

/// A report without what differs from machine to machine.
fn redacted(report: &str) -> String {
    let (rest, took) = report.split_once("\nTook ").unwrap();
    let mut text = format!("{}\nTook TIME\n", without_place(rest));
    for line in took.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (named, values) = words.split_at(words.len().min(if words.contains(&"head") { 3 } else { 2 }));
        let values = match values.first() {
            Some(&"reused") => "reused NIX".to_owned(),
            Some(value) if value.ends_with('s') && value.contains('.') => "TIME RATE MEMORY NIX".to_owned(),
            _ => values.join(" "),
        };
        text.push_str(&format!("{} {values}\n", named.join(" ")));
    }
    text
}

/// A report whose first part does not say where the repository lies, nor which commit the base is.
fn without_place(report: &str) -> String {
    let (verdict, rest) = report.split_once("\n\n").unwrap();
    // The path decides where the lines of this part end.
    let words = verdict.split_whitespace().map(|word| match word.strip_suffix(':') {
        Some(path) if path.ends_with("/my-packages") => "…/my-packages:",
        _ if word.len() == 13 && word[..12].bytes().all(|c| c.is_ascii_hexdigit()) => "COMMIT;",
        _ => word,
    });
    format!("{}\n\n{rest}", words.collect::<Vec<_>>().join(" "))
}

#[test]
fn what_people_read() {
    let stage = Stage::new();
    made(&stage);
    for columns in [80, 120] {
        let said = run(&stage, columns, &[]);
        assert_eq!(said.code, 1, "vim evaluates no more: {said:?}");
        assert!(said.out.lines().all(|line| line.chars().count() <= columns), "{}", said.out);
        insta::assert_snapshot!(format!("the_example_in_{columns}_columns"), redacted(&said.out));
    }
}

/// The block between the marks of a page.
fn printed(name: &str) -> String {
    let page = page(name);
    let (_, rest) = page.split_once("<!-- report -->\n```text\n").unwrap();
    rest.split_once("```\n<!-- /report -->").unwrap().0.to_owned()
}

#[test]
fn the_pages_print_what_it_says() {
    let stage = Stage::new();
    made(&stage);
    for name in ["README.md", "docs/howto/run.md"] {
        let commands = marked(&page("examples/README.md"), "run it");
        assert_eq!(marked(&page(name), "run it"), commands, "{name}");
    }
    let said = run(&stage, 80, &[]);
    assert_eq!(redacted(&printed("docs/howto/run.md")), redacted(&said.out));
    // The first page has the beginning.
    let (beginning, _) = said.out.split_once("\nMost dependants").unwrap();
    assert_eq!(without_place(&printed("README.md")), without_place(beginning));
}

#[test]
fn what_programs_and_pull_requests_read() {
    let stage = Stage::new();
    made(&stage);
    let said = run(&stage, 80, &["--json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let value: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&value["version"], &value["verdict"], &value["exit_code"]),
        (&1.into(), &"bad".into(), &1.into())
    );
    let names = |of: &Value| {
        of.as_array().unwrap().iter().map(|error| error[1]["path"].to_string()).collect::<Vec<_>>()
    };
    let errors = &value["comparison"]["errors"];
    assert_eq!(names(&errors["new"]), [r#"["aarch64-linux","vim"]"#, r#"["x86_64-linux","vim"]"#]);
    assert_eq!(names(&errors["still"]), [r#"["aarch64-linux","rlogin"]"#, r#"["x86_64-linux","rlogin"]"#]);

    let said = run(&stage, 80, &["--markdown"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.starts_with("## Change summary\n\n✗ **Bad:** "), "{}", said.out);
    for row in ["| Added | `packages: zstd` |", "| Bump | `packages: zlib` | `1.2.13` → `1.3.1` |"] {
        assert!(said.out.contains(row), "{row} in {}", said.out);
    }
}

#[test]
fn a_tree_compared_with_itself_is_neutral_or_good() {
    let stage = Stage::new();
    made(&stage);
    let said = run(&stage, 80, &["--head", "main"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("compared with") && !said.out.contains("\nChanges\n"), "{}", said.out);
}

/// As a linked work tree is in a container that has nothing but it.
#[test]
fn the_folder_that_it_is_started_in_may_be_of_a_repository_that_is_gone() {
    let stage = Stage::new();
    made(&stage);
    std::fs::create_dir(stage.path("elsewhere")).unwrap();
    std::fs::write(stage.path("elsewhere/.git"), "gitdir: /nonexistent/.git/worktrees/elsewhere\n").unwrap();
    let mut command = stage.command("ekaci", "elsewhere");
    command.args(["run", "../my-packages", "--eval-only", "--base", "main", "--head", "main"]);
    let said = stage.run(command);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn a_report_that_cannot_be_written_is_said_so() {
    let stage = Stage::new();
    made(&stage);
    let mut command = stage.command("ekaci", "my-packages");
    command.args(["run", "--eval-only", "--base", "main", "--head", "main"]);
    let said = stage.run_into(command, std::fs::File::create("/dev/full").unwrap());
    assert_eq!(said.code, 73, "{said:?}");
    assert!(said.err.contains("cannot write the report"), "{said:?}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let stage = Stage::new();
    made(&stage);
    let refused = |folder: &str, arguments: &[&str]| {
        let mut command = stage.command("ekaci", folder);
        command.arg("run").args(arguments);
        let said = stage.run(command);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{arguments:?}: {said:?}");
        said.err
    };
    assert!(refused("my-packages", &[]).contains("pass --eval-only"));
    assert!(refused("my-packages", &["--eval-only", "--base", "nowhere"]).contains("nowhere"));
    assert!(
        refused("my-packages", &["--eval-only", "--base", "main", "--job", "nothing"]).contains("nothing")
    );
    assert!(refused("my-packages", &["--eval-only", "--json", "--markdown"]).contains("cannot be used with"));
    std::fs::create_dir(stage.path("empty")).unwrap();
    refused("empty", &["--eval-only"]);
    assert!(refused("empty", &["--eval-only", "nothing-here"]).contains("no such file or folder"));
    stage.script("", "git clone --quiet --bare my-packages bare.git");
    assert!(refused("bare.git", &["--eval-only"]).contains("bare git repository"));
    std::fs::write(
        stage.path("my-packages/.ekaci/config.json"),
        "{ \"jobs\": { \"a\": { \"fiel\": \"x.nix\" } } }",
    )
    .unwrap();
    let said = refused("my-packages", &["--eval-only", "--base", "main"]);
    assert!(said.contains("fiel") && said.contains("file"), "{said}");
}

/// No commit yet, a file without a word in it, a set without anything, a configuration without a job.
#[test]
fn what_is_empty_gets_an_answer() {
    let stage = Stage::new();
    stage.script("", "mkdir new && cd new && git init --quiet --initial-branch=main");
    let write = |name: &str, text: &str| std::fs::write(stage.path("new").join(name), text).unwrap();
    let said = || {
        let mut command = stage.command("ekaci", "new");
        command.args(["run", "--eval-only"]);
        stage.run(command)
    };
    let nothing = said();
    assert_eq!((nothing.code, nothing.out.as_str()), (2, ""), "{nothing:?}");
    assert!(nothing.err.contains("no flake.nix or default.nix to go by; write one of them"), "{nothing:?}");
    for (text, code, parts) in [
        ("", 1, ["compared with nothing", "unexpected end of file at default.nix:1:1"]),
        ("{ }", 0, ["compared with nothing", "Good: Nothing changes."]),
    ] {
        write("default.nix", text);
        let said = said();
        assert_eq!(said.code, code, "{text:?}: {said:?}");
        assert!(parts.iter().all(|part| said.out.contains(part)), "{text:?}: {}", said.out);
    }
    std::fs::create_dir(stage.path("new/.ekaci")).unwrap();
    for (text, code, part) in [("", 2, "config.json:1:1: the file ends"), ("{}", 0, "there is no job")] {
        write(".ekaci/config.json", text);
        let said = said();
        assert_eq!(said.code, code, "{text:?}: {said:?}");
        assert!([said.out, said.err].concat().contains(part), "{text:?}: {part}");
    }
}

/// What a person allows of nixpkgs their own code sees, and what was evaluated under another leave is evaluated again.
#[test]
fn own_code_sees_what_is_allowed_of_nixpkgs() {
    let stage = Stage::new();
    stage.script("", "mkdir own && cd own && git init --quiet --initial-branch=main");
    let code = r#"{ a = derivation { name = "a-${builtins.getEnv "NIXPKGS_ALLOW_UNFREE"}-${builtins.getEnv "SECRET"}";
        system = "x86_64-linux"; builder = "/bin/sh"; }; }"#;
    std::fs::write(stage.path("own/default.nix"), code).unwrap();
    for value in ["1", "0"] {
        let mut command = stage.command("ekaci", "own");
        command.args(["run", "--eval-only", "--no-base", "--json", "--engine", "walker"]);
        command.env("NIXPKGS_ALLOW_UNFREE", value).env("SECRET", "word");
        let said = stage.run(command);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.out.contains(&format!("-a-{value}-")) && !said.out.contains("word"), "{said:?}");
    }
}

/// A login in an argument that is refused is not said again.
#[test]
fn a_login_is_not_repeated() {
    let stage = Stage::new();
    stage.script("", "mkdir own && cd own && git init --quiet --initial-branch=main");
    let mut command = stage.command("ekaci", "own");
    command.args(["run", "--eval-only", "--untrusted", "--allow-uri", "https://me:word@a.example/"]);
    let said = stage.run(command);
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(said.err.contains("***@a.example") && !said.err.contains("word"), "{said:?}");
}

#[test]
fn an_interrupted_run_ends_its_evaluators() {
    let stage = Stage::new();
    stage.script("", "mkdir endless && cd endless && git init --quiet --initial-branch=main");
    let endless = "{ endless = let again = n: again (n + 1); in again 0; }";
    std::fs::write(stage.path("endless/default.nix"), endless).unwrap();
    let mut command = stage.command("ekaci", "endless");
    let err = std::fs::File::create(stage.path("err")).unwrap();
    command.args(["run", "--eval-only", "--no-base", "--engine", "walker"]).stdout(Stdio::null()).stderr(err);
    let mut run = Guard::spawn(&mut command).unwrap();
    let evaluators = || processes_of(&stage).len();
    // The program itself, and at least one evaluator.
    wait::until(SOON, || evaluators() >= 2);
    let pid = Pid::from_raw(i32::try_from(run.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(run.wait(SOON).code(), Some(130));
    wait::until(SOON, || evaluators() == 0);
    let said = std::fs::read_to_string(stage.path("err")).unwrap();
    assert!(said.ends_with("ekaci: interrupted\n"), "{said}");
}

/// Processes with this place's home in their environment.
fn processes_of(stage: &Stage) -> Vec<String> {
    let home = format!("HOME={}", stage.path("home").display());
    let is_ours = |process: &String| {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == home.as_bytes())
    };
    let all =
        std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    all.filter(|name| name.bytes().all(|c| c.is_ascii_digit())).filter(is_ours).collect()
}
