//! P14: what an evaluation costs beside the evaluator it is made with. A generated set of attributes comes in, each as
//! heavy as a package of nixpkgs; out go the time on processors of our walk beside that of plain `nix-instantiate` for
//! the same attributes, and the time of a pass that writes what changed beside one that writes everything.

use std::fmt::Write as _;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ci_server::evaluate::confine::Bare;
use ci_server::evaluate::{self, Doors, Engine, Event, Limits, Nix, Pass, Request, Share, What};
use nix_store::process::{Spec, run as run_process};
use nix_types::AttrPath;
use service_kit::clock::Clock;

use crate::Run;
use crate::error::{BenchError, Doing};
use crate::report::{Floor, Line, Unit, Verdict};
use crate::stats::{median, ms};

const GOAL: &str = "P14";
/// Of the set.
const ATTRS: usize = 1_000;
/// Attributes that a change touches.
const CHANGED: usize = 20;
/// Most that the walk may take beyond the evaluator itself, in percent.
const OVERHEAD_MAX: f64 = 5.0;
/// Most that a change may take of what all takes.
const SHARE_MAX: f64 = 0.5;
/// Rounds, of which the median counts.
const ROUNDS: usize = 3;
/// Evaluators of the passes whose time from start to end is compared, as the goal has them.
const WORKERS: usize = 2;

/// Measures P14.
pub(crate) fn run(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start a runtime")?;
    let folder = run.world.fresh("evaluate")?;
    std::fs::create_dir_all(folder.join("checkout")).doing("make a checkout")?;
    std::fs::write(folder.join("checkout/default.nix"), set()).doing("write a set of attributes")?;
    let rounds = ROUNDS * run.times;
    let (mut ours, mut plain, mut all, mut few) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let stage = Stage::new(&folder, round)?;
        plain.push(ms(runtime.block_on(stage.plain())?));
        ours.push(runtime.block_on(stage.read())?);
        all.push(runtime.block_on(stage.write(None))?);
        let stage = Stage::new(&folder, rounds + round)?;
        few.push(runtime.block_on(stage.change())?);
    }
    let _ = std::fs::remove_dir_all(&folder); // the world's folder goes at the end anyway
    Ok(vec![overhead(median(&ours), median(&plain)), change(median(&few), median(&all))])
}

fn overhead(ours: f64, plain: f64) -> Line {
    let percent = (ours / plain - 1.0) * 100.0;
    Line {
        goal: GOAL,
        what: format!("{ATTRS} attributes by our walk, time on processors"),
        figure: ours,
        unit: Unit::Ms,
        floor: Some(Floor { what: "nix-instantiate for the same", value: plain }),
        bound: format!("at most {OVERHEAD_MAX} % more"),
        verdict: Verdict::of(percent <= OVERHEAD_MAX),
        note: format!("{percent:.1} % more, {:.0} µs an attribute", (ours - plain) * 1_000.0 / ATTRS as f64),
    }
}

fn change(few: f64, all: f64) -> Line {
    Line {
        goal: GOAL,
        what: format!("{ATTRS} attributes of which {CHANGED} changed: paths, then those written"),
        figure: few,
        unit: Unit::Ms,
        floor: Some(Floor { what: "all of them written by the same engine and evaluators", value: all }),
        bound: format!("at most {SHARE_MAX} of that"),
        verdict: Verdict::of(few <= SHARE_MAX * all),
        note: format!("{WORKERS} evaluators each time"),
    }
}

/// Attributes that take some milliseconds each, with 4 derivations of their own, as packages of nixpkgs do.
fn set() -> String {
    let mut text = String::from(
        r#"let
  inherit (builtins) genList toString concatStringsSep foldl' hashString;
  drv = name: more: derivation ({ inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; } // more);
  work = n: foldl' (all: m: hashString "sha256" "${all}${toString (n * m)}") "" (genList (m: m) 5000);
  package = n: drv "package-${toString n}" {
    heavy = work n;
    inputs = map (m: (drv "input-${toString n}-${toString m}" { text = concatStringsSep " " (genList toString 200); }).outPath) [ 1 2 3 ];
  } // { meta = { description = "package ${toString n}"; license = { spdxId = "MIT"; shortName = "mit"; free = true; }; maintainers = [ { name = "A"; github = "a"; githubId = 1; } ]; }; };
in {
"#,
    );
    for number in 0..ATTRS {
        let _ = writeln!(text, "  {} = package {number};", name(number)); // a String takes all
    }
    text.push_str("}\n");
    text
}

fn name(number: usize) -> String {
    format!("p{number}")
}

/// A store of its own for one round.
struct Stage {
    checkout: PathBuf,
    nix: Nix,
}

impl Stage {
    fn new(folder: &Path, round: usize) -> Result<Self, BenchError> {
        let own = folder.join(format!("round-{round}"));
        std::fs::create_dir_all(own.join("conf")).doing("make a store")?;
        std::fs::write(own.join("conf/nix.conf"), "substituters =\nsandbox = false\nbuild-users-group =\n")
            .doing("configure a store")?;
        let places = [
            ("NIX_STORE_DIR", "store"),
            ("NIX_STATE_DIR", "state"),
            ("NIX_LOG_DIR", "log"),
            ("NIX_CONF_DIR", "conf"),
            ("HOME", "home"),
        ];
        let env = places.map(|(name, place)| (name.into(), own.join(place).into_os_string()));
        let nix = Nix { env: env.into(), engine: Engine::Walk, ..Nix::default() };
        Ok(Self { checkout: folder.join("checkout"), nix })
    }

    fn request(&self, workers: usize) -> Request {
        Request {
            folder: self.checkout.clone(),
            what: What::File { path: "default.nix".into(), attr_path: AttrPath::root() },
            systems: None,
            skip: Vec::new(),
            is_trusted: true,
            allow_ifd: false,
            allowed_uris: Vec::new(),
            limits: Limits { workers, ..Limits::default() },
            nix: self.nix.clone(),
        }
    }

    /// Time on processors of `nix-instantiate` that tells the same of each attribute.
    async fn plain(&self) -> Result<Duration, BenchError> {
        let expression = format!(
            "map (x: {{ inherit (x) name system drvPath outPath meta; }}) (builtins.attrValues (import {}/default.nix))",
            self.checkout.display()
        );
        let mut spec = Spec::new("nix-instantiate").args(["--eval", "--strict", "--json", "-E", &expression]);
        spec.env.changes.extend(self.nix.env.iter().map(|(name, value)| (name.clone(), Some(value.clone()))));
        spec.stdout_tail = 0;
        let outcome = run_process(&spec, pending()).await.doing("run nix-instantiate")?;
        if !outcome.success() {
            return Err(BenchError::new(format!("evaluate plainly: {}", outcome.stderr_tail.text())));
        }
        Ok(outcome.usage.cpu)
    }

    /// Time on processors of our own first pass, ours included.
    async fn read(&self) -> Result<f64, BenchError> {
        let before = own_cpu();
        let (attrs, cpu_ms, _) = self.evaluate(&Pass::ReadOnly, 1).await?;
        if attrs != ATTRS {
            return Err(BenchError::new(format!("evaluate {ATTRS} attributes: there came {attrs}")));
        }
        Ok(cpu_ms + ms(own_cpu().saturating_sub(before)))
    }

    /// Time from start to end of a pass that writes.
    async fn write(&self, only: Option<Vec<AttrPath>>) -> Result<f64, BenchError> {
        Ok(self.evaluate(&Pass::Instantiate { only }, WORKERS).await?.2)
    }

    /// The same of both passes, where few attributes changed.
    async fn change(&self) -> Result<f64, BenchError> {
        let only =
            (0..CHANGED).map(|number| name(number * (ATTRS / CHANGED)).parse().doing("name an attribute"));
        let only = only.collect::<Result<Vec<_>, _>>()?;
        Ok(self.evaluate(&Pass::ReadOnly, WORKERS).await?.2 + self.write(Some(only)).await?)
    }

    /// How many jobs came, and the time on processors of evaluators and from start to end, in milliseconds.
    async fn evaluate(&self, pass: &Pass, workers: usize) -> Result<(usize, f64, f64), BenchError> {
        let share = Share::new(workers, u64::MAX, Clock::system());
        let doors = Doors { confine: &Bare, share: &share };
        let mut attrs = 0;
        let mut sink = |event| attrs += usize::from(matches!(event, Event::Attr(_)));
        let cost = evaluate::run(&self.request(workers), pass, doors, pending(), &mut sink)
            .await
            .doing("evaluate")?;
        Ok((attrs, cost.cpu_ms as f64, cost.wall_ms as f64))
    }
}

/// What this thread, which is all that the walk runs on here, has computed.
fn own_cpu() -> Duration {
    test_kit::cpu::time()
}
