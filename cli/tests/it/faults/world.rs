//! A repository with a change, and what runs of `ekaci` leave around it. In: what is done to a run. Out: its report
//! without times, what is left on disk, and which processes go on.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Pid;
use serde_json::Value;
use test_kit::powercut;
use test_kit::wait;

use crate::program::Said;
use crate::stage::Stage;

/// How long anything that should happen soon may take on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// What a run on a good day ends with: one attribute evaluates no more.
pub(super) const BAD: i32 = 1;

const PACKAGES: &str = r#"
let
  pkg = name: version: extra: derivation ({
    inherit name version; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "exit 1" ]; src = ./source.txt;
  } // extra) // { inherit version; pname = name; };
in rec {
  zlib = pkg "zlib" "1.2" { };
  curl = pkg "curl" "8.0" { inherit zlib; };
  alone = pkg "alone" "1.0" { };
  vim = pkg "vim" "9.1" { };
  old = throw "it is gone";
}
"#;
const CHECKS: &str = r#"{ works = derivation { name = "works"; system = "x86_64-linux"; builder = "/bin/sh"; needs = (import ./packages.nix).curl; }; }"#;
const CONFIG: &str =
    r#"{ "jobs": { "packages": { "file": "packages.nix" }, "checks": { "file": "checks.nix" } } }"#;

pub(super) struct World {
    pub(super) stage: Stage,
    /// Variables that are set otherwise.
    pub(super) places: Vec<(&'static str, PathBuf)>,
}

/// What a run answers, without what differs from run to run: times, and what was reused.
#[derive(Debug, PartialEq)]
pub(super) struct Report {
    code: i32,
    said: Value,
}

impl World {
    /// A repository whose work tree bumps `zlib` and breaks `vim`.
    pub(super) fn new() -> Self {
        let world = Self { stage: Stage::new(), places: Vec::new() };
        fs::create_dir(world.stage.path("bin")).unwrap();
        fs::create_dir_all(world.stage.path("repository/.ekaci")).unwrap();
        for (file, text) in [
            (".ekaci/config.json", CONFIG),
            ("packages.nix", PACKAGES),
            ("checks.nix", CHECKS),
            ("source.txt", "1"),
        ] {
            fs::write(world.stage.path("repository").join(file), text).unwrap();
        }
        let commit = "git init --quiet --initial-branch=main && git add . \
            && git -c user.name=me -c user.email=me@example.org commit --quiet --message base";
        world.stage.script("repository", commit);
        let head = PACKAGES.replace("\"1.2\"", "\"1.3\"").replace("pkg \"vim\"", "throw \"vim\" \"vim\"");
        fs::write(world.stage.path("repository/packages.nix"), head).unwrap();
        world
    }

    /// `ekaci run` on it, by way of another program where `through` names one.
    pub(super) fn run(&self, through: &[&str]) -> Command {
        let ekaci = ["ekaci", "run", "--eval-only", "--base", "main", "--json", "--engine", "walker"];
        let words = [through, &ekaci[..]].concat();
        let mut command = self.stage.command(words[0], "repository");
        let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_owned();
        let bin = self.stage.path("bin").into_os_string();
        command.args(&words[1..]).env("PATH", [bin, path].join(OsStr::new(":")));
        command.envs(self.places.iter().map(|(name, place)| (name, place)));
        command
    }

    /// From now on a program does this first, and then, unless it has ended by then, what it should: that is `$real "$@"`.
    pub(super) fn fake(&self, program: &str, body: &str) {
        let path = std::env::var_os("PATH").unwrap();
        let real =
            std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
        let real = real.unwrap_or_else(|| panic!("{program} is on the PATH"));
        let script = format!("#!/bin/sh\nreal={}\n{body}\nexec $real \"$@\"\n", real.display());
        let file = self.stage.path("bin").join(program);
        test_kit::script::write(&file, &script);
    }

    /// All programs are what they are again.
    pub(super) fn unfake(&self) {
        self.stage.script("", "rm -rf bin && mkdir bin");
    }

    /// A run to its end; it must have an answer.
    #[track_caller]
    pub(super) fn report(&self) -> Report {
        report(&self.stage.run(self.run(&[])))
    }

    /// All that runs and Nix left, but for the repository.
    pub(super) fn forget(&self) {
        self.stage.script("", "for d in home nix; do [ ! -e $d ] || chmod -R u+w $d; rm -rf $d; done");
    }

    /// The processes that a run started: everything of it names this place, in its folder, its words or its variables.
    pub(super) fn processes(&self) -> Vec<String> {
        let place = self.stage.path("").display().to_string();
        let names = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains(place.trim_end_matches('/'));
        let is_ours = |process: &String| {
            let of = |what: &str| format!("/proc/{process}/{what}");
            ["environ", "cmdline"].iter().any(|file| names(fs::read(of(file)).unwrap_or_default()))
                || fs::read_link(of("cwd"))
                    .is_ok_and(|folder| names(folder.into_os_string().into_encoded_bytes()))
        };
        let all =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        all.filter(|name| name.bytes().all(|c| c.is_ascii_digit())).filter(is_ours).collect()
    }

    /// Those of them with this name.
    pub(super) fn processes_named(&self, name: &str) -> Vec<Pid> {
        let is_named = |pid: &String| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        let named = self.processes().into_iter().filter(is_named);
        named.filter_map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
    }

    /// Has the head's packages have this, too.
    pub(super) fn add(&self, attribute: &str) {
        let file = self.stage.path("repository/packages.nix");
        let text = fs::read_to_string(&file).unwrap().replace("  old =", &format!("  {attribute}\n  old ="));
        fs::write(file, text).unwrap();
    }

    /// Nothing goes on by itself.
    #[track_caller]
    pub(super) fn assert_still(&self) {
        let is_still = wait::comes_true(SOON, || self.processes().is_empty());
        let of = |pid: String| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let left: Vec<String> = self
            .processes()
            .into_iter()
            .map(|pid| format!("{pid}: {}", String::from_utf8_lossy(&of(pid.clone())).replace('\0', " ")))
            .collect();
        assert!(is_still, "{left:#?}");
    }

    /// What lies in the folders of checkouts.
    pub(super) fn checkouts(&self) -> BTreeSet<String> {
        let folder = self.stage.path("home/.cache/ekaci/checkouts");
        ["mirrors", "trees"]
            .iter()
            .flat_map(|kind| fs::read_dir(folder.join(kind)).into_iter().flatten())
            .map(|entry| entry.unwrap().path().strip_prefix(&folder).unwrap().display().to_string())
            .collect()
    }

    pub(super) fn database(&self) -> PathBuf {
        self.stage.path("home/.local/state/ekaci/ci.db")
    }

    /// What lies there is whole, and nobody waits for anything.
    #[track_caller]
    pub(super) fn assert_tidy(&self) {
        self.assert_still();
        self.assert_sound();
        let is_draft = |name: &&String| name.contains("draft-") || name.contains("look-");
        let left = self.checkouts();
        assert_eq!(left.iter().find(is_draft), None, "{left:?}");
    }

    /// The database, where there is one, is in order.
    #[track_caller]
    pub(super) fn assert_sound(&self) {
        if self.database().exists() {
            assert_eq!(powercut::check(&self.database()), Ok(()));
        }
    }
}

/// What a run said, if it had an answer.
#[track_caller]
pub(super) fn report(said: &Said) -> Report {
    assert!([0, BAD].contains(&said.code), "{said:?}");
    let mut value: Value =
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let whole = value.as_object_mut().unwrap();
    whole.remove("wall_ms").unwrap();
    for job in whole["jobs"].as_array_mut().unwrap() {
        for side in ["head", "base"] {
            // What it took; that the side is there is not left out.
            job[side] = job[side].is_object().into();
        }
    }
    Report { code: said.code, said: value }
}

impl Report {
    /// The same without the warnings that begin so; and these.
    pub(super) fn without(mut self, beginning: &str) -> (Self, Vec<String>) {
        let warnings = self.said["warnings"].as_array_mut().unwrap();
        let is_such = |warning: &Value| warning.as_str().unwrap().starts_with(beginning);
        let taken = warnings.extract_if(.., |warning| is_such(warning)).collect::<Vec<_>>();
        (self, taken.into_iter().map(|warning| warning.as_str().unwrap().to_owned()).collect())
    }

    /// Without sentences beside the answer.
    #[track_caller]
    pub(super) fn assert_no_warnings(&self) {
        assert_eq!(self.said["warnings"], Value::Array(Vec::new()), "{self:?}");
    }
}
