//! `eka-bench`: our figures beside the machine's own floor, in one run. Flags come in; one line per figure goes out,
//! with its floor, their ratio, the goal of `docs/performance.md`, and whether it is met. Machines are noisy: a floor
//! is taken between the samples it is compared with, medians count, and ratios rather than times.

mod acks;
mod change;
mod closure;
mod error;
mod evaluate;
mod floor;
mod graph;
mod hook_call;
mod hook_faults;
mod ingest;
mod latency;
mod machine;
mod memory;
mod nix;
mod pool;
mod pushing;
mod remote;
mod report;
mod small;
mod stats;
mod store;
mod sys;
mod whole;
mod wire;
mod world;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::Parser;

use crate::closure::Closure;
use crate::error::BenchError;
use crate::report::{Line, Verdict};
use crate::world::World;

/// It ran through; with --strict, every figure was measured and is met.
const EXIT_OK: u8 = 0;
/// With --strict: a figure is not met, or could not be measured.
const EXIT_NOT_MET: u8 = 1;
/// It did not run: the store, a program or a flag.
const EXIT_TROUBLE: u8 = 2;

/// Measures our figures beside the machine's own floor
#[derive(Debug, Parser)]
#[command(name = "eka-bench", version, after_help = EXIT_CODES)]
struct Flags {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the table of docs/performance.md with its markers, ready to be put there
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Measure these goals alone, such as P1,P9
    #[arg(long, value_name = "GOALS", value_delimiter = ',', value_parser = goal)]
    only: Vec<&'static str>,
    /// Take so many times as many samples; once takes about eight minutes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    times: u16,
    /// Work in a folder in this one; its disk is the one that is measured [default: the folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Exit with 1 when a figure is not met, or could not be measured
    #[arg(long)]
    strict: bool,
}

const EXIT_CODES: &str = "\
Exit codes:
  0   it ran through; with --strict: and every figure is met
  1   with --strict: a figure is not met, or could not be measured
  2   it did not run";

/// What every measurement gets.
pub(crate) struct Run<'w> {
    pub(crate) world: &'w World,
    pub(crate) times: usize,
    closure: OnceLock<Closure>,
}

impl Run<'_> {
    /// The closure that is pushed; made by the first run that wants it.
    pub(crate) fn closure(&self) -> Result<&Closure, BenchError> {
        if let Some(closure) = self.closure.get() {
            return Ok(closure);
        }
        let closure = Closure::find_or_make(&self.world.programs.kept())?;
        Ok(self.closure.get_or_init(|| closure))
    }
}

type Measure = fn(&Run<'_>) -> Result<Vec<Line>, BenchError>;

/// All there is, in the order it is measured and printed.
const PARTS: [(&str, Measure); 12] = [
    ("P1", hook_call::run),
    ("P2", hook_faults::run),
    ("P3", acks::run),
    ("P4", memory::run),
    ("P5", small::run),
    ("P6", whole::one),
    ("P7", whole::three),
    ("P8", remote::run),
    ("P9", latency::run),
    ("P10", ingest::run),
    ("P14", evaluations),
    ("P15", change::run),
];

/// Measures P14: what evaluations cost, and what a second one of the same tree does.
fn evaluations(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let mut lines = evaluate::run(run)?;
    lines.extend(store::again(run)?);
    Ok(lines)
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == latency::STAMP) {
        let called = arguments.next().map(|socket| latency::stamp(socket.as_ref()));
        return if matches!(called, Some(Ok(()))) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let flags = Flags::parse();
    match measure(&flags) {
        Ok(lines) => exit_code(&lines, flags.strict).into(),
        Err(why) => {
            eprintln!("eka-bench: {}", chain(&why));
            EXIT_TROUBLE.into()
        }
    }
}

fn measure(flags: &Flags) -> Result<Vec<Line>, BenchError> {
    let parent = flags.dir.clone().unwrap_or_else(std::env::temp_dir);
    eprintln!("eka-bench: filling a private store in {}", parent.display());
    let world = World::new(&parent)?;
    let run = Run { world: &world, times: flags.times.into(), closure: OnceLock::new() };
    let before = machine::Machine::look(&world)?;
    if flags.markdown {
        eprint!("{before}"); // for the paragraph above the table
    } else if !flags.json {
        print(&format!("{before}\n"));
    }
    let mut lines = Vec::new();
    for (goal, measure) in PARTS.iter().filter(|(goal, _)| flags.only.is_empty() || flags.only.contains(goal))
    {
        eprintln!("eka-bench: measuring {goal}");
        match measure(&run) {
            Ok(measured) => lines.extend(measured),
            Err(why) => lines.push(Line::not_measured(goal, "everything", chain(&why))),
        }
    }
    if flags.json {
        let all = serde_json::json!({ "machine": before, "figures": lines.iter().map(Line::json).collect::<Vec<_>>() });
        print(&format!("{all:#}\n"));
    } else if flags.markdown {
        print(&report::markdown(&lines));
    } else {
        print(&report::table(&lines));
    }
    Ok(lines)
}

fn exit_code(lines: &[Line], strict: bool) -> u8 {
    let all_met = lines.iter().all(|line| matches!(line.verdict, Verdict::Met | Verdict::NoGoal));
    if strict && !all_met { EXIT_NOT_MET } else { EXIT_OK }
}

fn goal(text: &str) -> Result<&'static str, String> {
    let known = || PARTS.map(|(goal, _)| goal).join(", ");
    let found = PARTS.iter().find(|(goal, _)| goal.eq_ignore_ascii_case(text));
    found.map(|(goal, _)| *goal).ok_or_else(|| format!("goals measured here are {}", known()))
}

fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes()); // the reader hung up
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    service_kit::telemetry::chain(error)
}
