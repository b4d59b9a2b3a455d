//! The corpus of hostile expressions, inside the sandbox alone: no `restrict-eval`, no `pure-eval`. What each comes to, what
//! strace saw of it, and what came to the canaries.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use ci_server::sandbox::Confinement;
use futures_util::{StreamExt, stream};
use nix_store::process::{Exit, Outcome, Spec, run};
use tempfile::TempDir;
use test_kit::wait;

use super::nix::Daemon;
use super::strace::{Call, calls, reaching, traced};
use super::support::{CHILD_MAX, Stage, both, open};

/// How many are evaluated at once.
const AT_ONCE: usize = 3;
/// A variable that cargo gives every test, so that it is in the environment of the process that starts the child.
const VARIABLE: &str = "CARGO_PKG_DESCRIPTION";
const CONFIG: &str = "substituters =\nallow-import-from-derivation = false\n\
                      experimental-features = nix-command flakes\nconnect-timeout = 3\ndownload-attempts = 1\n";

/// What must come of an expression.
enum Expected {
    Refused(String),
    Value(String),
    /// This value or an error.
    AtMost(String),
    Bounded,
    Any,
}

impl Expected {
    fn of(text: &str) -> Self {
        let line = text.lines().next().unwrap().strip_prefix("# ").unwrap();
        match line.split_once(':') {
            Some(("refused", text)) => Self::Refused(text.trim().to_owned()),
            Some(("at most", json)) => Self::AtMost(json.trim().to_owned()),
            Some(("value", json)) => Self::Value(json.trim().to_owned()),
            None if line == "bounded" => Self::Bounded,
            None if line == "any" => Self::Any,
            _ => panic!("unknown expectation: {line}"),
        }
    }

    fn holds(&self, outcome: &Outcome) -> bool {
        let said = outcome.stderr_tail.text();
        match self {
            Self::Refused(texts) => {
                let is_said = texts.split('|').any(|text| said.contains(text.trim()));
                !outcome.success() && said.contains("error:") && is_said
            }
            Self::AtMost(json) => {
                Self::Value(json.clone()).holds(outcome) || Self::Refused(String::new()).holds(outcome)
            }
            Self::Value(json) => outcome.success() && outcome.stdout_tail.text().trim_end() == json,
            // By the limits of its sandbox, not by the test's.
            Self::Bounded => !outcome.success() && !matches!(outcome.exit, Exit::TimedOut { .. }),
            Self::Any => true,
        }
    }
}

/// Where canaries are, and a checkout full of hostile expressions.
struct Trap {
    stage: Stage,
    home: TempDir,
    listeners: [TcpListener; 2],
    socket: UnixListener,
    logs: TempDir,
}

impl Trap {
    async fn set() -> Option<Self> {
        let stage = Stage::set().await?;
        let outside = stage.folder.path();
        let home = PathBuf::from(std::env::var_os("HOME").unwrap());
        let home = tempfile::Builder::new().prefix(".eka-canary-").tempdir_in(home).unwrap();
        open(home.path(), 0o755);
        fs::write(home.path().join("secret"), &stage.canary).unwrap();
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = v4.local_addr().unwrap().port();
        let v6 = TcpListener::bind(("::1", port)).unwrap_or_else(|_| v4.try_clone().unwrap()); // no IPv6 here
        let socket = UnixListener::bind(outside.join("socket")).unwrap();
        open(&outside.join("socket"), 0o777);
        for listener in [&v4, &v6] {
            listener.set_nonblocking(true).unwrap();
        }
        socket.set_nonblocking(true).unwrap();
        let trap = Self { listeners: [v4, v6], socket, home, logs: TempDir::new().unwrap(), stage };
        trap.fill(port);
        Some(trap)
    }

    fn fill(&self, port: u16) {
        let (stage, outside) = (&self.stage, self.stage.folder.path());
        let words = [
            ("@OUTSIDE@", outside.to_str().unwrap().to_owned()),
            ("@HOME@", self.home.path().to_str().unwrap().to_owned()),
            ("@PORT@", port.to_string()),
            ("@VARIABLE@", VARIABLE.to_owned()),
        ];
        for (name, text) in corpus() {
            let text = words.iter().fold(text, |text, (word, value)| text.replace(word, value));
            stage.write(&name, &text);
        }
        let checkout = stage.checkout();
        symlink(stage.secret(), checkout.join("link-to-secret")).unwrap();
        symlink("link-to-secret", checkout.join("link-to-link")).unwrap();
        symlink("..", checkout.join("link-to-outside")).unwrap();
        stage.write("--option", "\"read\"");
        fs::create_dir(checkout.join("odd")).unwrap();
        for name in ["-E", "a\nb", "$(reboot)", "\u{1b}[2J", "\u{202e}", "'\"\\"] {
            stage.write(&format!("odd/{name}"), "");
        }
    }

    fn confinement(&self) -> Confinement {
        let mut confinement = self.stage.confinement();
        confinement.limits.memory_bytes = 384 << 20;
        confinement.limits.cpu_seconds = 4;
        confinement
    }

    fn files(&self) -> Vec<String> {
        let secrets = [self.stage.secret(), self.home.path().to_owned()];
        secrets.iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    fn texts(&self) -> Vec<String> {
        vec![self.stage.canary.clone(), std::env::var(VARIABLE).unwrap()]
    }

    /// Evaluates one inside, with strace around it.
    async fn evaluate(&self, name: &str, spec: &Spec) -> (Outcome, Vec<Call>) {
        let log = self.logs.path().join(name);
        let outcome = run(&traced(spec, &log), std::future::pending()).await.unwrap();
        (outcome, calls(&String::from_utf8_lossy(&fs::read(log).unwrap())))
    }

    /// Who came to the listeners.
    fn visitors(&self) -> usize {
        let came = self.listeners.iter().filter(|listener| listener.accept().is_ok()).count();
        came + usize::from(self.socket.accept().is_ok())
    }
}

fn corpus() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut corpus: Vec<_> = names
        .filter(|path| path.extension().is_some_and(|extension| extension == "nix"))
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
        })
        .collect();
    corpus.sort();
    corpus
}

fn evaluator(file: &str) -> Spec {
    let spec = Spec::new("nix-instantiate").args(["--eval", "--strict", "--json"]).arg(format!("./{file}"));
    spec.env("NIX_CONFIG", CONFIG).limits(Some(8 * CHILD_MAX), None)
}

/// Is strace here? Says so when not.
fn seen_by_strace() -> bool {
    let there = Path::new("/usr/bin/strace").exists();
    if !there {
        println!("SKIPPED: strace is not installed, which shows what is opened and connected to");
    }
    there
}

impl Trap {
    /// Evaluates all of these inside, and looks at what came of it.
    async fn spring(&self, corpus: &[(String, String)], pass: &Pass<'_>) {
        let results = stream::iter(corpus).map(|(name, text)| async move {
            let (spec, confinement) = pass.of(self, name);
            let spec = self.stage.sandbox.confine(&spec, &confinement).unwrap();
            let (outcome, calls) = self.evaluate(name, &spec).await;
            (name, Expected::of(text), outcome, calls)
        });
        let results: Vec<_> = results.buffer_unordered(AT_ONCE).collect().await;
        let wrong: Vec<String> = results
            .into_iter()
            .filter_map(|(name, expected, outcome, calls)| {
                self.judge(name, &expected, &outcome, &calls, pass)
            })
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n---\n"));
        assert_eq!(self.visitors(), 0);
    }

    /// What is wrong with this one?
    fn judge(
        &self,
        name: &str,
        expected: &Expected,
        outcome: &Outcome,
        calls: &[Call],
        pass: &Pass<'_>,
    ) -> Option<String> {
        let said = both(outcome);
        println!("{name}: {:?}, {} calls: {}", outcome.elapsed, calls.len(), said.lines().last().unwrap());
        let begun = |call: &Call| call.name == "execve" && call.arguments.contains("nix-instantiate");
        assert!(calls.iter().any(begun), "{name}: strace saw no evaluator");
        let read = calls.iter().filter(|call| call.reads(&self.files(), &self.texts()));
        let out: Vec<_> = read.chain(reaching(calls, &pass.allowed())).collect();
        let told = self.texts().iter().any(|text| said.contains(text));
        let good = out.is_empty() && !told && expected.holds(outcome);
        (!good).then(|| format!("{name}: {out:?}\n{said}"))
    }
}

/// Which of the two passes an expression is evaluated in.
enum Pass<'a> {
    /// Derivations are computed and not written.
    ReadOnly,
    /// They are written through this daemon.
    Writing(&'a Daemon),
}

impl Pass<'_> {
    fn of(&self, trap: &Trap, name: &str) -> (Spec, Confinement) {
        let mut confinement = trap.confinement();
        match self {
            Self::ReadOnly => (evaluator(name), confinement),
            Self::Writing(daemon) => {
                confinement.store = daemon.access();
                (daemon.client(evaluator(name).arg("--read-write-mode")), confinement)
            }
        }
    }

    /// Addresses it may connect to.
    fn allowed(&self) -> Vec<String> {
        match self {
            Self::ReadOnly => Vec::new(),
            Self::Writing(daemon) => vec![format!("{}/socket\"", daemon.store().socket_folder.display())],
        }
    }
}

#[tokio::test]
async fn no_hostile_expression_reads_a_canary_or_opens_a_connection() {
    if !seen_by_strace() {
        return;
    }
    let Some(trap) = Trap::set().await else { return };
    let corpus = corpus();
    assert!(corpus.len() >= 60, "the corpus has {}", corpus.len());
    trap.spring(&corpus, &Pass::ReadOnly).await;
}

#[tokio::test]
async fn nor_does_one_that_may_write_derivations() {
    if !seen_by_strace() {
        return;
    }
    let Some(trap) = Trap::set().await else { return };
    let Some(daemon) = Daemon::start("sandbox = true") else { return };
    // What has no end is the same in both passes.
    let mut corpus = corpus();
    corpus.retain(|(_, text)| !matches!(Expected::of(text), Expected::Bounded));
    trap.spring(&corpus, &Pass::Writing(&daemon)).await;
}

/// What shows that the tests above could fail.
#[tokio::test]
async fn the_same_is_seen_of_an_evaluator_that_is_not_confined() {
    if !seen_by_strace() {
        return;
    }
    let Some(trap) = Trap::set().await else { return };
    let bare = |name: &str| {
        let mut spec = evaluator(name).env("NIX_REMOTE", "dummy://");
        spec.cwd = Some(trap.stage.checkout());
        spec
    };
    for name in ["read-file.nix", "read-file-home.nix", "read-file-link.nix", "hash-file.nix", "get-env.nix"]
    {
        let (outcome, calls) = trap.evaluate(name, &bare(name)).await;
        let read = calls.iter().any(|call| call.reads(&trap.files(), &trap.texts()));
        let said = both(&outcome);
        assert!(name == "get-env.nix" || read, "{name}: {said}");
        assert!(
            name == "hash-file.nix" || trap.texts().iter().any(|text| said.contains(text)),
            "{name}: {said}"
        );
    }
    assert_eq!(trap.visitors(), 0);
    let log = trap.logs.path().join("fetch-url.nix");
    let listener = trap.listeners[0].try_clone().unwrap();
    let visited = async {
        let wait = move || wait::until(CHILD_MAX, || listener.accept().is_ok());
        tokio::task::spawn_blocking(wait).await.unwrap();
    };
    // It would wait for an answer.
    let outcome = run(&traced(&bare("fetch-url.nix"), &log), visited).await.unwrap();
    assert_eq!(outcome.exit, Exit::Cancelled, "{}", both(&outcome));
    let calls = calls(&String::from_utf8_lossy(&fs::read(log).unwrap()));
    assert!(!reaching(&calls, &[]).is_empty(), "{calls:?}");
}
