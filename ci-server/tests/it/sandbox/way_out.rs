//! The way out of the sandbox: a real Nix fetches through the proxy what is allowed, and reaches nothing else.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::thread;

use ci_server::evaluate::{Nix, Pass, What};
use ci_server::sandbox::proxy::{Proxy, Rules};
use ci_server::sandbox::{NOBODY, PROXY_PORT};
use nix_store::process::{Outcome, Spec, run};
use service_kit::address::Reach;
use service_kit::clock::Clock;

use super::nix::Daemon;
use super::strace::{calls, reaching, traced};
use super::support::{CHILD_MAX, Stage, both};

const TEXT: &str = "fetched through the proxy\n";

/// A server of the test's own: `/open/text`, `/open/tree.tar.gz`, and the same below `/closed`. Ends with the process.
fn server(tarball: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = [0; 4096];
            let size = client.read(&mut head).unwrap_or(0);
            let line = String::from_utf8_lossy(&head[..size]).lines().next().unwrap_or_default().to_owned();
            let body = if line.contains(".tar.gz ") { tarball.as_slice() } else { TEXT.as_bytes() };
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = client.write_all(&[answer.as_bytes(), body].concat()); // it hung up
        }
    });
    port
}

/// An archive with one file, `tree/text`.
fn tarball() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tree")).unwrap();
    fs::write(folder.path().join("tree/text"), TEXT).unwrap();
    #[expect(clippy::disallowed_methods, reason = "tests start what they need")]
    let tar = std::process::Command::new("tar").args(["-cz", "tree"]).current_dir(&folder).output().unwrap();
    assert!(tar.status.success());
    tar.stdout
}

struct World {
    stage: Stage,
    daemon: Daemon,
    proxy: Arc<Proxy>,
    port: u16,
    /// Where nobody may come.
    canary: TcpListener,
}

impl World {
    async fn new(reach: Reach) -> Option<Self> {
        let stage = Stage::set().await?;
        let daemon = Daemon::start("sandbox = true")?;
        let port = server(tarball());
        let canary = TcpListener::bind("127.0.0.1:0").unwrap();
        canary.set_nonblocking(true).unwrap();
        let rules = Rules::parse(&[format!("http://127.0.0.1:{port}/open")]).unwrap();
        let proxy = Proxy::start(rules, reach, Clock::system(), Some(NOBODY)).unwrap();
        Some(Self { stage, daemon, proxy: Arc::new(proxy), port, canary })
    }

    fn confined(&self, spec: Spec) -> Spec {
        let mut confinement = self.stage.confinement();
        confinement.store = self.daemon.access();
        confinement.door = Some(self.proxy.door().to_owned());
        let spec = self.daemon.client(spec).limits(Some(CHILD_MAX), None);
        self.stage.sandbox.confine(&spec, &confinement).unwrap()
    }

    fn evaluator(&self, expression: &str) -> Spec {
        let config = "substituters =\nexperimental-features = nix-command flakes\ndownload-attempts = 1\n";
        let spec =
            Spec::new("nix-instantiate").args(["--eval", "--strict", "--read-write-mode", "-E", expression]);
        self.confined(spec.env("NIX_CONFIG", config))
    }

    async fn evaluate(&self, expression: &str) -> Outcome {
        run(&self.evaluator(expression), std::future::pending()).await.unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

fn hashed() -> String {
    r#"sha256 = builtins.hashString "sha256" "fetched through the proxy\n";"#.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_allowed_is_fetched_with_and_without_a_hash() {
    let Some(world) = World::new(Reach::Private).await else { return };
    let text = world.url("/open/text");
    let tree = world.url("/open/tree.tar.gz");
    for expression in [
        format!("builtins.readFile (builtins.fetchurl {{ url = \"{text}\"; {} }})", hashed()),
        format!("builtins.readFile (builtins.fetchurl \"{text}\")"),
        format!("builtins.readFile (builtins.fetchTarball \"{tree}\" + \"/text\")"),
        format!(
            "builtins.readFile (builtins.fetchTree {{ type = \"tarball\"; url = \"{tree}\"; }} + \"/text\")"
        ),
    ] {
        let outcome = world.evaluate(&expression).await;
        assert_eq!(
            outcome.stdout_tail.text().trim(),
            format!("{TEXT:?}"),
            "{expression}: {}",
            both(&outcome)
        );
    }
    assert_eq!(world.proxy.refused(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_else_is_reached() {
    let Some(world) = World::new(Reach::Private).await else { return };
    let canary = world.canary.local_addr().unwrap();
    let metadata = "http://169.254.169.254/latest/meta-data/".to_owned();
    let urls = [
        world.url("/closed/text"),
        world.url("/open/../closed/text"),
        format!("http://{canary}/open/text"),
        metadata,
    ];
    for (url, before) in urls.iter().zip(0..) {
        let outcome = world.evaluate(&format!("builtins.fetchurl {{ url = \"{url}\"; {} }}", hashed())).await;
        assert!(!outcome.success(), "{url}: {}", both(&outcome));
        assert_eq!(world.proxy.refused(), before + 1, "{url}: {}", both(&outcome));
    }
    // One that does not keep to the proxy finds no way at all.
    let around = format!("busybox nc -w 2 {} {} </dev/null", canary.ip(), canary.port());
    let outcome = run(&world.confined(Spec::new("/bin/sh").args(["-c", &around])), std::future::pending())
        .await
        .unwrap();
    assert!(both(&outcome).contains("refused"), "{}", both(&outcome));
    assert!(world.canary.accept().is_err(), "somebody came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_server_in_a_private_network_is_not_dialled_without_leave() {
    let Some(world) = World::new(Reach::Public).await else { return };
    let outcome = world.evaluate(&format!("builtins.fetchurl \"{}\"", world.url("/open/text"))).await;
    assert!(!outcome.success() && both(&outcome).contains("403"), "{}", both(&outcome));
    assert_eq!(world.proxy.refused(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_is_all_that_is_connected_to() {
    if !std::path::Path::new("/usr/bin/strace").exists() {
        println!("SKIPPED: strace is not installed, which shows what is connected to");
        return;
    }
    let Some(world) = World::new(Reach::Private).await else { return };
    let canary = world.canary.local_addr().unwrap();
    let text = world.url("/open/text");
    let expression = format!(
        "builtins.readFile (builtins.fetchurl \"{text}\") + builtins.fetchurl \"http://{canary}/open/text\""
    );
    let log = tempfile::NamedTempFile::new().unwrap();
    let outcome =
        run(&traced(&world.evaluator(&expression), log.path()), std::future::pending()).await.unwrap();
    assert!(!outcome.success() && world.proxy.refused() == 1, "{}", both(&outcome));
    let calls = calls(&String::from_utf8_lossy(&fs::read(log.path()).unwrap()));
    let proxy = format!("sin_port=htons({PROXY_PORT}), sin_addr=inet_addr(\"127.0.0.1\")");
    let daemon = format!("{}/socket\"", world.daemon.store().socket_folder.display());
    let all = reaching(&calls, &[]);
    assert!(all.iter().filter(|call| call.arguments.contains(&proxy)).count() >= 2, "{all:?}");
    assert_eq!(reaching(&calls, &[proxy, daemon, "/run/eka/door\"".into()]), Vec::<&_>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_is_for_who_is_confined_alone() {
    let rules = Rules::default();
    let proxy = Proxy::start(rules, Reach::Public, Clock::system(), None).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(proxy.door()), 0o600);
    assert_eq!(mode(proxy.door().parent().unwrap()), 0o700);
}

/// A flake whose one input is an archive of the server's, locked.
fn flake(world: &World) {
    let url = world.url("/open/tree.tar.gz");
    let flake = format!(
        r#"{{
          inputs.dep = {{ url = "{url}"; flake = false; }};
          outputs = {{ self, dep }}: {{
            packages.x86_64-linux.a = derivation {{
              name = "a"; system = "x86_64-linux"; builder = "/bin/sh"; text = builtins.readFile (dep + "/text");
            }};
          }};
        }}"#
    );
    world.stage.write("flake.nix", &flake);
    #[expect(clippy::disallowed_methods, reason = "tests start what they need")]
    let mut lock = std::process::Command::new("nix");
    lock.args([
        "--extra-experimental-features",
        "nix-command flakes",
        "flake",
        "lock",
        "--flake-registry",
        "",
    ]);
    lock.arg(format!("path:{}", world.stage.checkout().display()));
    // In the store of another Nix: what is locked is not there yet for the evaluation.
    let other = tempfile::tempdir().unwrap();
    lock.envs(test_kit::nix::variables(other.path()));
    let locked = lock.env_remove("NIX_REMOTE").output().unwrap();
    assert!(locked.status.success(), "{}", String::from_utf8_lossy(&locked.stderr));
    super::support::open(&world.stage.checkout().join("flake.lock"), 0o644);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_locked_inputs_of_an_outsiders_flake_are_fetched_through_it_and_through_it_alone() {
    let Some(world) = World::new(Reach::Private).await else { return };
    flake(&world);
    let nix = Nix {
        env: world.daemon.variables(),
        options: vec![("substituters".into(), String::new())],
        ..Nix::default()
    };
    let mut request = super::evaluates::request(&world.stage, nix);
    request.what = What::Flake { outputs: vec!["packages".into()] };
    request.allowed_uris = vec![world.url("/open")];
    let mut keeper = world.daemon.keeper(&world.stage);
    let alone = super::evaluates::told(&request, &Pass::ReadOnly, &keeper).await;
    assert!(alone.values().all(|told| !told.ends_with("-a.drv")), "with no way out: {alone:?}");
    keeper.proxy = Some(world.proxy.clone());
    let told = super::evaluates::told(&request, &Pass::ReadOnly, &keeper).await;
    let drvs: Vec<_> = told.values().filter(|told| told.ends_with("-a.drv")).collect();
    assert_eq!((drvs.len(), told.len()), (1, 1), "{told:?}");
}
