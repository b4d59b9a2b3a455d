//! P14: what an evaluation costs beside the evaluator it is made with. A generated set of attributes comes in, each as
//! heavy as a package of nixpkgs; out go the time on processors of our walk beside that of plain `nix-instantiate` for
//! the same attributes and, where it is installed, of `nix-eval-jobs`; and the time of a pass that writes what changed
//! beside one that writes everything.

use std::fmt::Write as _;
use std::future::pending;
use std::path::{Path, PathBuf};

use ci_server::evaluate::confine::Bare;
use ci_server::evaluate::{self, Doors, Engine, Event, Limits, Nix, Pass, Request, Share, What};
use nix_store::process::{Spec, run as run_process};
use nix_types::AttrPath;
use service_kit::clock::Clock;

use crate::Run;
use crate::error::{BenchError, Doing};
use crate::report::{Floor, Line, Unit, Verdict};
use crate::stats::{median, ms};
use crate::sys::{Whose, computed};

mod peer;

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
/// How often our walk and plain `nix-instantiate` take turns; the median of their ratios counts.
const PAIRS: usize = 7;
/// Evaluators of the passes whose time from start to end is compared, as the goal has them.
const WORKERS: usize = 2;

/// Measures P14.
pub(crate) fn run(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start a runtime")?;
    let folder = run.world.fresh("evaluate")?;
    std::fs::create_dir_all(folder.join("checkout")).doing("make a checkout")?;
    std::fs::write(folder.join("checkout/default.nix"), set()).doing("write a set of attributes")?;
    let mut lines = vec![runtime.block_on(overhead(&folder, PAIRS * run.times))?];
    lines.push(runtime.block_on(peer::line(&folder, ROUNDS * run.times)));
    lines.push(runtime.block_on(changed(&folder, ROUNDS * run.times))?);
    let _ = std::fs::remove_dir_all(&folder); // the world's folder goes at the end anyway
    Ok(lines)
}

/// Our walk and plain `nix-instantiate`, in turns, each first as often as the other.
async fn overhead(folder: &Path, pairs: usize) -> Result<Line, BenchError> {
    let stage = Stage::new(folder, "read")?;
    let (mut ours, mut own, mut plain, mut percents) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for pair in 0..pairs {
        let before = if pair % 2 == 0 { Some(stage.plain().await?) } else { None };
        let (walk, _) = stage.read(1).await?;
        let alone = match before {
            Some(before) => before,
            None => stage.plain().await?,
        };
        percents.push((walk.all() / alone.all() - 1.0) * 100.0);
        ours.push(walk.all());
        own.push(walk.own);
        plain.push(alone.all());
    }
    let percent = median(&percents);
    let least = |costs: &[f64]| costs.iter().copied().fold(f64::MAX, f64::min);
    let least = (least(&ours) / least(&plain) - 1.0) * 100.0;
    let plain = median(&plain);
    Ok(Line {
        goal: GOAL,
        what: format!("{ATTRS} attributes by our walk, time on processors"),
        figure: median(&ours),
        unit: Unit::Ms,
        floor: Some(Floor { what: "nix-instantiate for the same", value: plain }),
        bound: format!("at most {OVERHEAD_MAX} % more"),
        verdict: Verdict::of(percent <= OVERHEAD_MAX),
        note: format!(
            "{percent:.1} % more, the median of {pairs} pairs; {least:.1} % between the least of each; {:.0} µs an attribute, \
             {:.0} of them in our own process",
            plain * percent * 10.0 / ATTRS as f64,
            median(&own) * 1_000.0 / ATTRS as f64,
        ),
    })
}

/// A pass that computes all paths and one that writes what changed, and one that writes all.
async fn changed(folder: &Path, rounds: usize) -> Result<Line, BenchError> {
    let (mut all, mut few) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        all.push(Stage::new(folder, &format!("all-{round}"))?.write(None).await?);
        few.push(Stage::new(folder, &format!("few-{round}"))?.change().await?);
    }
    Ok(change(median(&few), median(&all)))
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

/// Time on processors, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Of this process.
    own: f64,
    /// Of those that it started.
    children: f64,
}

impl Cost {
    /// So far.
    fn now() -> Result<Self, BenchError> {
        let so_far = |whose| computed(whose).doing("ask for the time on processors").map(ms);
        Ok(Self { own: so_far(Whose::Own)?, children: so_far(Whose::Children)? })
    }

    /// What came since then.
    fn since(before: Self) -> Result<Self, BenchError> {
        let now = Self::now()?;
        Ok(Self { own: now.own - before.own, children: now.children - before.children })
    }

    fn all(self) -> f64 {
        self.own + self.children
    }
}

/// A store of its own.
struct Stage {
    checkout: PathBuf,
    nix: Nix,
}

impl Stage {
    fn new(folder: &Path, name: &str) -> Result<Self, BenchError> {
        let own = folder.join(name);
        std::fs::create_dir_all(own.join("etc")).doing("make a store")?;
        std::fs::write(own.join("etc/nix.conf"), test_kit::nix::SETTINGS).doing("configure a store")?;
        let env = test_kit::nix::variables(&own);
        let env = env.map(|(name, place)| (name.into(), place.into_os_string()));
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

    /// What `nix-instantiate` takes that tells the same of each attribute.
    async fn plain(&self) -> Result<Cost, BenchError> {
        let expression = format!(
            "map (x: {{ inherit (x) name system drvPath outPath meta; }}) (builtins.attrValues (import {}/default.nix))",
            self.checkout.display()
        );
        let mut spec = Spec::new("nix-instantiate").args(["--eval", "--strict", "--json", "-E", &expression]);
        self.set_environment(&mut spec);
        spec.stdout_tail = 0;
        let before = Cost::now()?;
        let outcome = run_process(&spec, pending()).await.doing("run nix-instantiate")?;
        let cost = Cost::since(before)?;
        if !outcome.success() {
            return Err(BenchError::new(format!("evaluate plainly: {}", outcome.stderr_tail.text())));
        }
        Ok(cost)
    }

    /// What a child is told of this store.
    fn set_environment(&self, spec: &mut Spec) {
        spec.env.changes.extend(self.nix.env.iter().map(|(name, value)| (name.clone(), Some(value.clone()))));
    }

    /// What our own first pass takes, all of it; and its time from start to end, in milliseconds.
    async fn read(&self, workers: usize) -> Result<(Cost, f64), BenchError> {
        self.measure(&Pass::ReadOnly, workers).await
    }

    /// The same of any pass over the whole set.
    async fn measure(&self, pass: &Pass, workers: usize) -> Result<(Cost, f64), BenchError> {
        let before = Cost::now()?;
        let (attrs, wall_ms) = self.evaluate(pass, workers).await?;
        let cost = Cost::since(before)?;
        if attrs != ATTRS {
            return Err(BenchError::new(format!("evaluate {ATTRS} attributes: there came {attrs}")));
        }
        Ok((cost, wall_ms))
    }

    /// Time from start to end of a pass that writes.
    async fn write(&self, only: Option<Vec<AttrPath>>) -> Result<f64, BenchError> {
        Ok(self.evaluate(&Pass::Instantiate { only }, WORKERS).await?.1)
    }

    /// The same of both passes, where few attributes changed.
    async fn change(&self) -> Result<f64, BenchError> {
        let only =
            (0..CHANGED).map(|number| name(number * (ATTRS / CHANGED)).parse().doing("name an attribute"));
        let only = only.collect::<Result<Vec<_>, _>>()?;
        Ok(self.evaluate(&Pass::ReadOnly, WORKERS).await?.1 + self.write(Some(only)).await?)
    }

    /// How many jobs came, and the time from start to end, in milliseconds.
    async fn evaluate(&self, pass: &Pass, workers: usize) -> Result<(usize, f64), BenchError> {
        let share = Share::new(workers, u64::MAX, Clock::system());
        let doors = Doors { confine: &Bare, share: &share };
        let mut attrs = 0;
        let mut sink = |event| attrs += usize::from(matches!(event, Event::Attr(_)));
        let cost = evaluate::run(&self.request(workers), pass, doors, pending(), &mut sink)
            .await
            .doing("evaluate")?;
        Ok((attrs, cost.wall_ms as f64))
    }
}
