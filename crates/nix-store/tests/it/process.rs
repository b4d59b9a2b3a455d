//! Children: their ends, limits, groups and bounds.

use std::fs;
use std::future::pending;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use nix_store::process::{
    Exit, Killed, LINE_BYTES_MAX, Limit, Outcome, ProcessError, Progress, Spec, Stdin, Stream, run,
    run_judging_lines, run_with_lines,
};
use test_kit::proc::Guard;

use crate::support::{again, is_alive, until};

fn sh(script: &str) -> Spec {
    Spec::new("sh").args(["-euc", script])
}

async fn calm(spec: &Spec) -> Outcome {
    run(spec, pending()).await.unwrap()
}

fn ms(ms: u64) -> Option<Duration> {
    Some(Duration::from_millis(ms))
}

/// The number a child wrote into a file, once it is there.
fn pid_in(file: &Path) -> u32 {
    until("a number in the file", || {
        fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'))?.trim().parse().ok()
    })
}

#[tokio::test]
async fn ends_and_output_are_told_apart() {
    let outcome = calm(&sh("echo out; echo err >&2; exit 3")).await;
    assert_eq!(outcome.exit, Exit::Exited(3));
    assert_eq!((outcome.stdout_tail.text(), outcome.stderr_tail.text()), ("out\n".into(), "err\n".into()));
    assert!(!outcome.success());
    assert!(calm(&sh(":")).await.success());
    assert_eq!(calm(&sh("kill -11 $$")).await.exit, Exit::Signaled(11));
}

#[tokio::test]
async fn environment_folder_and_input() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec =
        sh("pwd; echo $A-${B-none}-${HOME-none}; cat").env("A", "a b").env("B", "x").env_remove("B");
    spec.cwd = Some(folder.path().to_owned());
    spec.stdin = Stdin::Bytes(b"input\n".to_vec());
    let outcome = calm(&spec.clone().env_remove("HOME")).await;
    let want = format!("{}\na b-none-none\ninput\n", folder.path().display());
    assert_eq!(outcome.stdout_tail.text(), want);
    spec.env.clear = true;
    spec.env.changes = vec![("PATH".into(), Some("/usr/bin:/bin".into())), ("A".into(), Some("1".into()))];
    spec.args = ["-c", "env | sort | grep -v '^_=\\|^PWD='"].map(Into::into).to_vec();
    assert_eq!(calm(&spec).await.stdout_tail.text(), "A=1\nPATH=/usr/bin:/bin\n");
    assert!(!format!("{spec:?}").contains("/usr/bin:/bin"), "values of variables are not shown");
}

#[tokio::test]
async fn an_input_nobody_wants_is_no_failure() {
    let mut spec = sh("exec <&-; echo done");
    spec.stdin = Stdin::Bytes(vec![b'x'; 1 << 20]);
    let outcome = calm(&spec).await;
    assert_eq!((outcome.exit, outcome.stdout_tail.text()), (Exit::Exited(0), "done\n".into()));
    spec.args = ["-c", "cat"].map(Into::into).to_vec();
    spec.stdout_tail = 1 << 21;
    assert_eq!(calm(&spec).await.stdout_tail.bytes.len(), 1 << 20, "a large one goes through whole");
}

#[tokio::test]
async fn wall_limit() {
    let outcome = calm(&sh("while :; do echo x; sleep 0.01; done").limits(ms(200), ms(10_000))).await;
    assert_eq!(outcome.exit, Exit::TimedOut { after: Duration::from_millis(200), which: Limit::Wall });
    assert!(outcome.elapsed < Duration::from_secs(30), "{outcome:?}");
    assert_eq!(outcome.exit.to_string(), "ended after 200ms, its time limit");
}

#[tokio::test]
async fn silent_limit_counts_from_the_last_word() {
    // It talks for longer than it may be silent, with gaps that are far shorter.
    let words = "n=0; while [ $n -lt 30 ]; do sleep 0.1; n=$((n + 1)); echo $n >&2; done; exec sleep 60";
    let outcome = calm(&sh(words).limits(ms(60_000), ms(2_000))).await;
    assert_eq!(outcome.exit, Exit::TimedOut { after: Duration::from_secs(2), which: Limit::Silent });
    assert!(outcome.stderr_tail.text().ends_with("\n30\n"), "{outcome:?}");
}

const SILENT: Exit = Exit::TimedOut { after: Duration::from_secs(3), which: Limit::Silent };

/// A limit of three seconds, and data counts.
fn watched(spec: Spec) -> Spec {
    let mut spec = spec.limits(ms(60_000), ms(3_000));
    spec.progress = Progress::OutputOrIo;
    spec
}

#[tokio::test]
async fn reading_is_progress_where_it_counts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("line");
    fs::write(&file, format!("{}\n", "x".repeat(4000))).unwrap();
    // For more than seven seconds, in a child of the child: the shell itself only waits. The pipe is a clock that
    // starts no process.
    let script = |work: &str| {
        let pipe = folder.path().join("pipe");
        let tick = format!("rm -f {0}; mkfifo {0}; exec 3<>{0}", pipe.display());
        let each = format!("{work}; read -rt 0.05 <&3 || :");
        sh(&format!("bash -c '{tick}; while [ $SECONDS -lt 8 ]; do {each}; done'; :"))
    };
    let reads = format!("read -r x < {}", file.display());
    let outcome = calm(&watched(script(&reads))).await;
    assert_eq!(outcome.exit, Exit::Exited(0), "{outcome:?}");
    assert!(outcome.elapsed > Duration::from_secs(6), "{outcome:?}");
    assert_eq!(calm(&watched(script("x=1"))).await.exit, SILENT, "it is the reading that counts");
    let outcome = calm(&script(&reads).limits(None, ms(3_000))).await;
    assert_eq!(outcome.exit, SILENT, "and only where it was asked for");
}

#[tokio::test]
async fn waiting_is_no_progress() {
    let outcome = calm(&watched(sh("sleep 60; echo"))).await;
    assert_eq!(outcome.exit, SILENT);
    assert!(outcome.elapsed < Duration::from_secs(20), "{outcome:?}");
    assert_eq!(calm(&watched(sh("while :; do :; done"))).await.exit, SILENT, "nor is being busy");
    let talks = "n=0; while [ $n -lt 40 ]; do sleep 0.1; n=$((n + 1)); echo $n >&2; done; exec sleep 60";
    let outcome = calm(&watched(sh(talks))).await;
    assert!(outcome.exit == SILENT && outcome.stderr_tail.text().ends_with("\n40\n"), "{outcome:?}");
}

#[tokio::test]
async fn lines_that_are_noise_do_not_count() {
    let mut noise = 0;
    let spec = sh("while :; do echo noise; sleep 0.1; done").limits(ms(60_000), ms(3_000));
    let judge = &mut |_: Stream, line: &str| {
        noise += u32::from(line == "noise");
        false
    };
    let outcome = run_judging_lines(&spec, pending(), judge).await.unwrap();
    assert_eq!(outcome.exit, SILENT);
    assert!(noise > 1 && outcome.stdout_tail.text().starts_with("noise\nnoise\n"), "{outcome:?}");
    let spec =
        sh("n=0; while [ $n -lt 25 ]; do echo $n; sleep 0.1; n=$((n + 1)); done").limits(None, ms(2_000));
    let outcome = run_judging_lines(&spec, pending(), &mut |_, _| true).await.unwrap();
    assert!(outcome.success(), "{outcome:?}");
}

/// Runs a child and cancels it once `file` holds a number, which is given too.
async fn cancelled_at(spec: &Spec, file: &Path) -> (Outcome, u32) {
    let file = file.to_owned();
    let seen = tokio::task::spawn_blocking(move || pid_in(&file));
    let mut pid = 0;
    let outcome = run(spec, async { pid = seen.await.unwrap() }).await.unwrap();
    (outcome, pid)
}

#[tokio::test]
async fn the_whole_group_is_ended_also_when_it_does_not_want() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("trap '' TERM; sh -c 'echo $$ > {}; exec sleep 60' & wait", file.display());
    let mut spec = sh(&script);
    spec.grace = Duration::from_millis(200);
    let (outcome, grandchild) = cancelled_at(&spec, &file).await;
    assert_eq!(outcome.exit, Exit::Cancelled);
    assert!(outcome.elapsed >= spec.grace, "it was given its time: {outcome:?}");
    until("the grandchild's end", || (!is_alive(grandchild)).then_some(()));
}

#[tokio::test]
async fn a_group_that_ends_when_asked_is_not_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script =
        format!("trap 'echo bye; exit 0' TERM; echo $$ > {}; while :; do sleep 0.01; done", file.display());
    let (outcome, _) = cancelled_at(&sh(&script), &file).await;
    assert_eq!(outcome.stdout_tail.text(), "bye\n");
    assert_eq!(outcome.exit, Exit::Cancelled, "we ended it, whatever it said");
}

#[tokio::test]
async fn what_is_left_of_the_group_ends_with_the_child() {
    let outcome = calm(&sh("sleep 60 & echo $!")).await;
    assert!(outcome.success());
    let left = outcome.stdout_tail.text().trim().parse().unwrap();
    until("the end of what was left", || (!is_alive(left)).then_some(()));
}

#[tokio::test]
async fn a_daemon_that_keeps_the_pipe_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!(
        "setsid sh -c 'echo $$ > {0}; exec sleep 60' & while ! [ -s {0} ]; do :; done",
        file.display()
    );
    let outcome = calm(&sh(&script)).await;
    assert!(outcome.success() && outcome.elapsed < Duration::from_secs(30), "{outcome:?}");
    let daemon = pid_in(&file);
    assert!(is_alive(daemon), "what left the group is not ours to end");
    assert!(sh_kill(daemon).await);
}

/// A child that starts another one in a session of its own, which starts a third. Both write their numbers down.
fn with_a_builder(folder: &Path, on_term: &str) -> (Spec, [PathBuf; 2]) {
    let files = ["builder", "worker"].map(|name| folder.join(name));
    let [builder, worker] = files.each_ref().map(|file| file.display());
    let inner = format!(
        "trap \"\" TERM HUP; sh -c \"echo \\$\\$ > {worker}; exec sleep 60\" & echo $$ > {builder}; wait"
    );
    let mut spec =
        sh(&format!("trap '{on_term}' TERM; setsid sh -c '{inner}' & while :; do sleep 0.01; done"));
    // Nobody waits for it where it ends by itself.
    spec.grace = if on_term.is_empty() { Duration::from_millis(300) } else { Duration::from_secs(60) };
    spec.killed = Killed::Descendants;
    (spec, files)
}

#[tokio::test]
async fn descendants_are_ended_where_they_are_ours_too() {
    // It ends when it is asked to and forgets its own; it does not end.
    for on_term in ["exit 0", ""] {
        let folder = tempfile::tempdir().unwrap();
        let (spec, [builder, worker]) = with_a_builder(folder.path(), on_term);
        let (outcome, worker) = cancelled_at(&spec, &worker).await;
        assert_eq!(outcome.exit, Exit::Cancelled);
        assert_eq!(outcome.elapsed >= spec.grace, on_term.is_empty(), "{outcome:?}");
        for pid in [pid_in(&builder), worker] {
            until("a descendant's end", || (!is_alive(pid)).then_some(()));
        }
    }
}

#[tokio::test]
async fn descendants_end_with_a_dropped_future() {
    let folder = tempfile::tempdir().unwrap();
    let (spec, files) = with_a_builder(folder.path(), "");
    let task = tokio::spawn(async move { run(&spec, pending()).await.map(|_| ()) });
    let pids = tokio::task::spawn_blocking(move || files.map(|file| pid_in(&file))).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    for pid in pids {
        until("a descendant's end", || (!is_alive(pid)).then_some(()));
    }
}

/// A child can be there, with children of its own, before whoever started it hears of it.
#[test]
fn descendants_end_with_a_future_that_is_dropped_before_it_hears_of_its_child() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (spec, files) = with_a_builder(folder.path(), "");
    let pids = runtime.block_on(async {
        let mut start = Box::pin(run(&spec, pending()));
        // It is looked at once, which starts the child, and never again.
        let mut context = Context::from_waker(Waker::noop());
        assert!(start.as_mut().poll(&mut context).is_pending());
        files.map(|file| pid_in(&file))
    });
    for pid in pids {
        until("a descendant's end", || (!is_alive(pid)).then_some(()));
    }
}

async fn sh_kill(pid: u32) -> bool {
    calm(&sh(&format!("kill -9 {pid}"))).await.success()
}

#[tokio::test]
async fn cancel() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut spec = sh(&format!("echo $$ > {}; exec sleep 60", file.display()));
    spec.grace = Duration::from_secs(50);
    let (outcome, pid) = cancelled_at(&spec, &file).await;
    assert_eq!(outcome.exit, Exit::Cancelled);
    assert!(!is_alive(pid));
    assert!(outcome.elapsed < spec.grace, "SIGTERM was enough");
}

#[tokio::test]
async fn a_dropped_future_ends_the_group_and_leaves_no_zombie() {
    let folder = tempfile::tempdir().unwrap();
    let (child, grandchild) = (folder.path().join("child"), folder.path().join("grandchild"));
    let script = format!(
        "echo $$ > {}; trap '' TERM; sh -c 'echo $$ > {}; exec sleep 60'",
        child.display(),
        grandchild.display()
    );
    let task = tokio::spawn(async move { run(&sh(&script), pending()).await.map(|_| ()) });
    let pids = tokio::task::spawn_blocking(move || [pid_in(&child), pid_in(&grandchild)]).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    for pid in pids {
        until("the end", || (!is_alive(pid)).then_some(()));
    }
    until("the child to be waited for", || {
        (!Path::new(&format!("/proc/{}", pids[0])).exists()).then_some(())
    });
}

#[tokio::test]
async fn huge_output_is_bounded() {
    let mut spec = sh("yes 0123456789 | head -c 20000000; echo end; head -c 3000000 /dev/zero >&2");
    spec.stdout_tail = 1000;
    let mut longest = 0;
    let mut count = 0_u64;
    let outcome = run_with_lines(&spec, pending(), &mut |stream, line| {
        longest = longest.max(line.len());
        count += u64::from(stream == Stream::Stdout);
    })
    .await
    .unwrap();
    assert!(outcome.success());
    assert_eq!(outcome.stdout_tail.bytes.len(), 1000);
    assert_eq!(outcome.stdout_tail.dropped, 20_000_000 + 4 - 1000);
    assert!(outcome.stdout_tail.text().ends_with("end\n"));
    assert_eq!(outcome.stderr_tail.bytes.len(), 64 * 1024);
    assert!(longest <= LINE_BYTES_MAX, "{longest}");
    assert!(count > 1_800_000, "{count}");
}

#[tokio::test]
async fn lines_arrive_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("go");
    // The child goes on only once its first line was heard.
    let spec =
        sh(&format!("echo first; while ! [ -e {0} ]; do sleep 0.01; done; printf second", file.display()));
    let mut lines = Vec::new();
    let outcome = run_with_lines(&spec.limits(ms(20_000), None), pending(), &mut |_, line| {
        lines.push(line.to_owned());
        fs::write(&file, "").unwrap();
    })
    .await;
    assert!(outcome.unwrap().success());
    assert_eq!(lines, ["first", "second"]);
}

/// What a child says a little at a time is heard together.
#[tokio::test]
async fn little_is_gathered() {
    const EVERY: Duration = Duration::from_millis(300);
    let spec = sh("for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do echo $i; sleep 0.01; done");
    let spec = Spec { gather: EVERY, ..spec };
    let (mut lines, mut heard) = (Vec::new(), Vec::new());
    let outcome = run_with_lines(&spec, pending(), &mut |_, line| {
        lines.push(line.to_owned());
        heard.push(Instant::now());
    })
    .await
    .unwrap();
    assert!(outcome.success());
    assert_eq!(lines, (0..20).map(|i| i.to_string()).collect::<Vec<_>>());
    let times = 1 + heard.windows(2).filter(|pair| pair[1] - pair[0] > Duration::from_millis(5)).count();
    let times_max = 4 + outcome.elapsed.as_millis() / EVERY.as_millis();
    assert!(times as u128 <= times_max, "{times} times in {:?}", outcome.elapsed);
}

#[tokio::test]
async fn gathering_loses_nothing_and_does_not_hold_up_the_end() {
    let long = Duration::from_secs(20);
    for (gather, script, bytes) in [
        (Duration::from_millis(5), "head -c 3000000 /dev/zero", 3_000_000),
        (long, "echo 1; echo 2 >&2", 2),
        (long, "echo 1; sleep 0.1; echo 2", 4),
        (long, "true", 0),
    ] {
        let begun = Instant::now();
        let outcome = calm(&Spec { gather, ..sh(script) }).await;
        assert!(outcome.success() && begun.elapsed() < long, "{script}: {:?}", begun.elapsed());
        assert_eq!(outcome.stdout_tail.bytes.len() as u64 + outcome.stdout_tail.dropped, bytes, "{script}");
    }
}

#[tokio::test]
async fn what_cannot_start_is_named() {
    let error = run(&Spec::new("no-such-program-here"), pending()).await.unwrap_err();
    assert!(matches!(error, ProcessError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("no-such-program-here"), "{error}");
    let mut spec = sh(":");
    spec.cwd = Some("/no/such/folder".into());
    let error = run(&spec, pending()).await.unwrap_err();
    assert!(matches!(error, ProcessError::NoFolder { .. }), "{error}");
    let error = run(&sh(":").arg("a\0b"), pending()).await.unwrap_err();
    assert!(matches!(error, ProcessError::Start { .. }), "{error}");
}

#[tokio::test]
async fn only_stdio_is_inherited() {
    let file = tempfile::tempfile().unwrap();
    let inherited = rustix_dup_without_cloexec(&file);
    let outcome = calm(&sh("ls /proc/$$/fd")).await;
    let open: Vec<u32> = outcome.stdout_tail.text().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(open, [0, 1, 2], "{inherited:?} must not reach a child");
}

/// A file without the flag that closes it at exec: `try_clone` sets it, standard input has not.
fn rustix_dup_without_cloexec(file: &fs::File) -> std::os::fd::OwnedFd {
    use std::os::fd::AsFd;
    let dup = rustix::io::dup(file.as_fd()).unwrap();
    assert!(!rustix::io::fcntl_getfd(&dup).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    dup
}

/// Runs a child and waits for it; killed by the test below.
#[tokio::test]
#[ignore = "the other process of a_child_dies_with_its_parent"]
async fn parent_to_be_killed() {
    let line = |_: Stream, line: &str| println!("child {line}");
    // From a task on the blocking pool's side the starting thread would be a short-lived one.
    run_with_lines(&sh("echo $$; exec sleep 60"), pending(), &mut { line }).await.unwrap();
}

#[test]
fn a_child_dies_with_its_parent() {
    let mut parent =
        Guard::spawn(again("process::parent_to_be_killed", None).stdout(Stdio::piped())).unwrap();
    let mut lines = BufReader::new(parent.child().stdout.take().unwrap()).lines();
    let child: u32 = lines
        .find_map(|line| line.unwrap().split_once("child ").map(|(_, pid)| pid.parse().unwrap()))
        .unwrap();
    assert!(is_alive(child));
    parent.kill().unwrap();
    until("the child's end", || (!is_alive(child)).then_some(()));
}

#[test]
fn a_child_outlives_the_thread_that_asked_for_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (started, go) = (folder.path().join("started"), folder.path().join("go"));
    let script =
        format!("echo $$ > {}; while ! [ -e {} ]; do sleep 0.01; done", started.display(), go.display());
    let mut child = Box::pin(async move { run(&sh(&script), pending()).await });
    let handle = runtime.handle().clone();
    let child = std::thread::spawn(move || {
        handle.block_on(async {
            let seen = tokio::task::spawn_blocking(move || pid_in(&started));
            tokio::select! {
                _ = &mut child => panic!("it waits for the file"),
                seen = seen => assert!(seen.unwrap() > 0),
            }
        });
        child
    })
    .join()
    .unwrap();
    fs::write(go, "").unwrap();
    assert_eq!(runtime.block_on(child).unwrap().exit, Exit::Exited(0));
}

#[tokio::test]
async fn many_at_once() {
    let all: Vec<_> =
        (0..40).map(|n| tokio::spawn(async move { calm(&sh(&format!("echo {n}"))).await })).collect();
    for (n, one) in all.into_iter().enumerate() {
        assert_eq!(one.await.unwrap().stdout_tail.text(), format!("{n}\n"));
    }
}
