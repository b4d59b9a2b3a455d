//! P1: what a build waits for when the daemon is there. A running daemon and one path per call come in; the time of a
//! call beside that of an empty program and of a flush, and the size, memory and instructions of `eka-hook` go out.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Run;
use crate::error::{BenchError, Doing};
use crate::floor::{self, Disk};
use crate::report::{Floor, Line, Unit, Verdict, shown};
use crate::stats::Samples;
use crate::sys::{Ended, Program, peak_memory_bytes};
use crate::world::{Site, World};

const GOAL: &str = "P1";
/// Calls behind a median.
const CALLS: usize = 600;
/// Calls before the first that counts.
const WARM_UP: usize = 50;
/// A call may cost as many spawns, and a flush.
const SPAWNS_MAX: f64 = 3.0;
const INSTRUCTIONS_MAX: f64 = 60_000.0;
const SIZE_KB_MAX: f64 = 100.0;
const MEMORY_MIB_MAX: f64 = 1.0;
/// What the derivation is called that the paths come from.
const DRV: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-bench.drv";

/// Measures P1.
pub(crate) fn run(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let world = run.world;
    let site = world.site("hook-call", "", &["/bin/true"])?;
    let daemon = site.start()?;
    site.pause()?;
    let calls = WARM_UP + CALLS * run.times;
    let mut lines = time_of_a_call(run, &site, calls)?;
    let memory = memory(world, &site, calls);
    lines.push(memory.unwrap_or_else(|why| Line::not_measured(GOAL, "peak memory", why)));
    lines.push(size(world)?);
    lines.extend(instructions(world, &site, calls + 1, "daemon up"));
    drop(daemon);
    lines.extend(instructions(world, &site, calls + 2, "daemon absent, into the spool"));
    Ok(lines)
}

/// What Nix gives its hook.
pub(crate) fn variables(path: &str) -> Vec<String> {
    vec![format!("OUT_PATHS={path}"), format!("DRV_PATH={DRV}"), "PATH=/usr/bin:/bin".into()]
}

/// `eka-hook`, as Nix calls it, for one path.
pub(crate) fn hook(world: &World, site: &Site<'_>, path: &str) -> Result<Program, BenchError> {
    let settings = site.hook_settings();
    let arguments = ["--strict", "--config-file", &settings.to_string_lossy()];
    Program::new(&world.programs.hook, &arguments, &variables(path)).doing("prepare eka-hook")
}

/// Runs a program that has to exit with 0.
fn once(program: &Program, what: &str) -> Result<Ended, BenchError> {
    let ended = program.run().doing(format!("start {what}"))?;
    if ended.code == Some(0) { Ok(ended) } else { Err(BenchError::new(format!("run {what}: {ended:?}"))) }
}

fn time_of_a_call(run: &Run<'_>, site: &Site<'_>, calls: usize) -> Result<Vec<Line>, BenchError> {
    let empty = floor::empty(run.world)?;
    let mut disk = Disk::new(&run.world.path(""))?;
    fs::create_dir(run.world.path("links")).doing("make a folder for links")?;
    let (mut hooks, mut spawns, mut flushes) = (Samples::default(), Samples::default(), Samples::default());
    let (mut hook_cpu, mut spawn_cpu) = (Samples::default(), Samples::default());
    let mut links = Samples::default();
    for (index, path) in run.world.paths.iter().take(calls).enumerate() {
        let hook = hook(run.world, site, path)?;
        // One after the other, so that all three see the same machine.
        let spawned = once(&empty, "bench-empty")?;
        let flushed = disk.flush()?;
        let called = once(&hook, "eka-hook")?;
        let linked = link(run.world, path)?;
        if index >= WARM_UP {
            spawns.push(spawned.took);
            spawn_cpu.push(spawned.cpu);
            flushes.push(flushed);
            hooks.push(called.took);
            hook_cpu.push(called.cpu);
            links.push(linked);
        }
    }
    let counts = site.counts()?;
    if counts.all != calls as u64 {
        return Err(BenchError::new(format!("find all {calls} paths in the queue: it has {}", counts.all)));
    }
    let (call, spawn, flush) = (hooks.median_ms(), spawns.median_ms(), flushes.median_ms());
    let bound = SPAWNS_MAX * spawn + flush;
    let wall = Line {
        goal: GOAL,
        what: "eka-hook, daemon up, acknowledged on disk".into(),
        figure: call,
        unit: Unit::Ms,
        floor: Some(Floor { what: "spawn of an empty program", value: spawn }),
        bound: format!("<= 3 spawns + a flush = {}", shown(bound, Unit::Ms)),
        verdict: Verdict::of(call <= bound),
        note: format!(
            "medians of {}; a flush {}, a symlink (the GC root) {}; the call less a flush is {:.2} spawns; its p95 {}",
            hooks.len(),
            shown(flush, Unit::Ms),
            shown(links.median_ms(), Unit::Ms),
            (call - flush) / spawn,
            shown(hooks.percentile_ms(95), Unit::Ms),
        ),
    };
    let (call, spawn) = (hook_cpu.median_ms(), spawn_cpu.median_ms());
    let cpu = Line {
        goal: GOAL,
        what: "the same, processor time of the hook".into(),
        figure: call,
        unit: Unit::Ms,
        floor: Some(Floor { what: "empty program", value: spawn }),
        bound: format!("<= 3 times = {}", shown(SPAWNS_MAX * spawn, Unit::Ms)),
        verdict: Verdict::of(call <= SPAWNS_MAX * spawn),
        note: String::new(),
    };
    Ok(vec![wall, cpu])
}

/// What the daemon does for every path: a link for the garbage collector.
fn link(world: &World, path: &str) -> Result<Duration, BenchError> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let started = Instant::now();
    symlink(path, world.path("links").join(name)).doing("make a symbolic link")?;
    Ok(started.elapsed())
}

fn memory(world: &World, site: &Site<'_>, path: usize) -> Result<Line, String> {
    let silent = |mut command: Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let peak = peak_memory_bytes(&mut command);
        peak.map(mib).map_err(|why| format!("the memory of a process cannot be asked for: {why}"))
    };
    let peak = silent(hook_command(world, site, &world.programs.hook, path))?;
    let floor = silent(world.command(&world.programs.empty))?;
    Ok(Line {
        goal: GOAL,
        what: "eka-hook, peak memory".into(),
        figure: peak,
        unit: Unit::MiB,
        floor: Some(Floor { what: "empty program", value: floor }),
        bound: format!("<= {}", shown(MEMORY_MIB_MAX, Unit::MiB)),
        verdict: Verdict::of(peak <= MEMORY_MIB_MAX),
        note: "the kernel's VmHWM at exit".into(),
    })
}

fn size(world: &World) -> Result<Line, BenchError> {
    let kb = |path| Ok::<_, io::Error>(fs::metadata(path)?.len() as f64 / 1000.0);
    let size = kb(&world.programs.hook).doing("look at eka-hook")?;
    Ok(Line {
        goal: GOAL,
        what: "eka-hook, size of the program".into(),
        figure: size,
        unit: Unit::Kb,
        floor: Some(Floor {
            what: "empty program",
            value: kb(&world.programs.empty).doing("look at bench-empty")?,
        }),
        bound: format!("<= {}", shown(SIZE_KB_MAX, Unit::Kb)),
        verdict: Verdict::of(size <= SIZE_KB_MAX),
        note: String::new(),
    })
}

/// One line, or why there is none.
fn instructions(world: &World, site: &Site<'_>, path: usize, when: &str) -> Option<Line> {
    let what = format!("eka-hook, instructions, {when}");
    let line = match count_instructions(world, site, path) {
        Ok(count) => Line {
            goal: GOAL,
            what,
            figure: count,
            unit: Unit::Instructions,
            floor: None,
            bound: format!("<= {}", shown(INSTRUCTIONS_MAX, Unit::Instructions)),
            verdict: Verdict::of(count <= INSTRUCTIONS_MAX),
            note: String::new(),
        },
        Err(why) => Line::not_measured(GOAL, &what, why),
    };
    Some(line)
}

fn count_instructions(world: &World, site: &Site<'_>, path: usize) -> Result<f64, String> {
    let mut command = hook_command(world, site, "valgrind".as_ref(), path);
    let output = match command.output() {
        Ok(output) => output,
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            return Err("valgrind is not installed (Debian's package is valgrind)".into());
        }
        Err(why) => return Err(format!("valgrind cannot be started: {why}")),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    match collected.and_then(|(_, count)| count.trim().parse().ok()) {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!("valgrind did not count: {}: {said}", output.status)),
    }
}

/// `eka-hook` for a path, started by std; below `valgrind` when that is the program.
fn hook_command(world: &World, site: &Site<'_>, program: &std::path::Path, path: usize) -> Command {
    let mut command = world.command(program);
    if *program != *world.programs.hook {
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&world.programs.hook);
        // Below it everything takes fifty times as long.
        command.arg("--timeout-ms=10000");
    }
    command.args(["--strict", "--config-file"]).arg(site.hook_settings());
    command.env_clear();
    let path = &world.paths[path % world.paths.len()];
    for variable in variables(path) {
        if let Some((name, value)) = variable.split_once('=') {
            command.env(name, value);
        }
    }
    command
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
