//! Our walk beside `nix-eval-jobs`, where it is on `PATH`: the set comes in, one line goes out, also when there is nothing
//! to compare with. It runs by itself and not through our own door to it, which would cost time of ours.

use std::future::pending;
use std::path::Path;
use std::time::Duration;

use ci_server::evaluate::Pass;
use nix_store::process::{Environment, Exit, Spec, Stream, locate, run as run_process, run_with_lines};
use serde_json::Value;

use super::{ATTRS, Cost, GOAL, Stage, WORKERS};
use crate::error::{BenchError, Doing};
use crate::report::{Floor, Line, Unit, Verdict};
use crate::stats::{median, ms};

const TOOL: &str = "nix-eval-jobs";
/// The first release that can compute paths without writing.
const READ_ONLY_SINCE: (u64, u64) = (2, 31);
/// Longest wait for its version.
const VERSION_WALL: Duration = Duration::from_secs(30);

/// Measures both, in turns, each into a store of its own.
pub(super) async fn line(folder: &Path, rounds: usize) -> Line {
    let what = format!("{ATTRS} attributes by our walk beside {TOOL}");
    if locate(TOOL.as_ref(), &Environment::default()).is_err() {
        return Line::not_measured(GOAL, &what, format!("{TOOL} is not on PATH: nothing to compare with"));
    }
    let line = compared(folder, rounds).await;
    line.unwrap_or_else(|why| Line::not_measured(GOAL, &what, crate::chain(&why)))
}

async fn compared(folder: &Path, rounds: usize) -> Result<Line, BenchError> {
    let version = version().await?;
    let reads = numbers(&version) >= READ_ONLY_SINCE;
    let pass = if reads { Pass::ReadOnly } else { Pass::Instantiate { only: None } };
    let (mut ours, mut our_wall, mut theirs, mut their_wall) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let stage = Stage::new(folder, &format!("peer-{round}"))?;
        let (cost, wall) = run_tool(&stage, reads).await?;
        theirs.push(cost.all());
        their_wall.push(wall);
        let stage = Stage::new(folder, &format!("beside-{round}"))?;
        let (cost, wall) = stage.measure(&pass, WORKERS).await?;
        ours.push(cost.all());
        our_wall.push(wall);
    }
    let passed = if reads { "paths alone" } else { "all written" };
    Ok(Line {
        goal: GOAL,
        what: format!("{ATTRS} attributes by our walk, {passed}, time on processors"),
        figure: median(&ours),
        unit: Unit::Ms,
        floor: Some(Floor { what: TOOL, value: median(&theirs) }),
        bound: String::new(),
        verdict: Verdict::NoGoal,
        note: format!(
            "{TOOL} {version}; {WORKERS} evaluators each; from start to end {:.0} ms, {TOOL} {:.0} ms",
            median(&our_wall),
            median(&their_wall)
        ),
    })
}

/// What it calls its release; empty for the first ones, which do not know the question.
async fn version() -> Result<String, BenchError> {
    let spec = Spec::new(TOOL).arg("--version").limits(Some(VERSION_WALL), None);
    let outcome = run_process(&spec, pending()).await.doing("ask nix-eval-jobs for its version")?;
    let said = outcome.stdout_tail.text();
    Ok(match outcome.exit {
        Exit::Exited(0) => said.trim().rsplit(' ').next().unwrap_or_default().to_owned(),
        Exit::Exited(_) | Exit::Signaled(_) | Exit::TimedOut { .. } | Exit::Cancelled => String::new(),
    })
}

fn numbers(version: &str) -> (u64, u64) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// What it takes for the whole set, and its time from start to end, in milliseconds.
async fn run_tool(stage: &Stage, reads: bool) -> Result<(Cost, f64), BenchError> {
    let mut spec = Spec::new(TOOL).args(["--meta", "--workers"]).arg(WORKERS.to_string());
    if reads {
        spec = spec.arg("--no-instantiate");
    }
    spec = spec.arg(stage.checkout.join("default.nix"));
    stage.set_environment(&mut spec);
    let mut jobs = 0;
    let mut count =
        |stream: Stream, line: &str| jobs += usize::from(stream == Stream::Stdout && is_job(line));
    let before = Cost::now()?;
    let outcome = run_with_lines(&spec, pending(), &mut count).await.doing("run nix-eval-jobs")?;
    let cost = Cost::since(before)?;
    if !outcome.success() || jobs != ATTRS {
        return Err(BenchError::new(format!(
            "evaluate {ATTRS} attributes by {TOOL}: {jobs} came, and it ended with {}: {}",
            outcome.exit,
            outcome.stderr_tail.text()
        )));
    }
    Ok((cost, ms(outcome.elapsed)))
}

fn is_job(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|row| row.get("drvPath").is_some_and(Value::is_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_counted_and_errors_are_not() {
        assert!(is_job(r#"{"attr":"a","attrPath":["a"],"drvPath":"/nix/store/a.drv","name":"a"}"#));
        for line in [r#"{"attr":"a","error":"error: no"}"#, r#"{"drvPath":null}"#, "warning: drvPath", ""] {
            assert!(!is_job(line), "{line}");
        }
    }

    /// A program that prints rows as a release does.
    fn stand_in(folder: &Path, rows: usize) -> Stage {
        let mut stage = Stage::new(folder, &format!("rows-{rows}")).unwrap();
        let bin = folder.join(format!("bin-{rows}"));
        std::fs::create_dir(&bin).unwrap();
        let row = r#"{"attr":"p","attrPath":["p"],"drvPath":"/nix/store/p.drv","name":"p"}"#;
        let program = bin.join(TOOL);
        test_kit::script::write(&program, &format!("#!/bin/sh\nyes '{row}' | head -n {rows}\n"));
        stage.nix.env.push(("PATH".into(), format!("{}:/usr/bin:/bin", bin.display()).into()));
        stage
    }

    #[tokio::test]
    async fn only_who_tells_all_of_them_is_compared_with() {
        let folder = tempfile::tempdir().unwrap();
        let (cost, wall) = run_tool(&stand_in(folder.path(), ATTRS), true).await.unwrap();
        assert!(cost.all() > 0.0 && wall > 0.0, "{cost:?} {wall}");
        let why = run_tool(&stand_in(folder.path(), ATTRS - 1), true).await.unwrap_err();
        assert!(why.to_string().contains(&format!("{} came", ATTRS - 1)), "{why}");
    }

    #[test]
    fn releases_are_compared_by_number() {
        for (version, reads) in
            [("2.31.0", true), ("2.33", true), ("3.0", true), ("2.9.1", false), ("", false)]
        {
            assert_eq!(numbers(version) >= READ_ONLY_SINCE, reads, "{version}");
        }
    }
}
