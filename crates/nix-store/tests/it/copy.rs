//! Nix' own commands against real stores: what they send, what they say, what we make of it.

use std::fs;
use std::future::pending;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix_store::copy::{CopyError, FaultClass, NixCommands, OUTPUT_BYTES_MAX, StoreUrl};
use nix_store::process::{Exit, Limit};
use nix_store::{SqliteStore, Store};
use nix_types::StorePath;

use crate::http::{Destination, Pace};
use crate::nix::Nix;

fn commands(nix: &Nix) -> NixCommands {
    let mut commands = NixCommands::new(nix.path("scratch"));
    commands.env = nix.env().into_iter().map(|(name, value)| (name.into(), Some(value.into()))).collect();
    commands.env.push(("NIX_REMOTE".into(), None));
    commands.wall = Some(Duration::from_secs(60));
    commands
}

fn file_url(path: &Path) -> StoreUrl {
    StoreUrl::parse(&format!("file://{}?compression=none", path.display())).unwrap()
}

fn class_of(result: Result<(), CopyError>) -> FaultClass {
    match result.unwrap_err() {
        CopyError::Fault { fault, .. } => fault.class,
        other => panic!("no fault: {other}"),
    }
}

async fn copy(commands: &NixCommands, to: &StoreUrl, paths: &[StorePath]) -> Result<(), CopyError> {
    commands.copy(to, paths, pending(), &mut |_, _| {}).await
}

async fn missing(commands: &NixCommands, at: &StoreUrl, paths: &[StorePath]) -> Vec<StorePath> {
    commands.missing(at, paths, pending()).await.unwrap()
}

#[tokio::test]
async fn a_closure_is_copied_signed_and_found_again() {
    let nix = Nix::new();
    let commands = commands(&nix);
    let built = nix.build(&["c", "fod", "a"]);
    let drv = nix.drvs(&["c"]).remove(0);
    let all = [built.clone(), vec![drv.store_path().clone()]].concat();
    let cache = nix.path("cache");
    let key = nix.path("my key&.sec");
    let public = nix.path("key.pub");
    nix.run(
        "nix-store",
        &["--generate-binary-cache-key", "k-1", key.to_str().unwrap(), public.to_str().unwrap()],
    );
    let url = file_url(&cache);
    assert_eq!(missing(&commands, &url, &all).await, all);

    let mut said = Vec::new();
    let signing = url.with_secret_key(&key).unwrap();
    commands.copy(&signing, &built, pending(), &mut |_, line| said.push(line.to_owned())).await.unwrap();
    assert!(said.iter().any(|line| line.starts_with("copying path")), "{said:?}");
    assert_eq!(missing(&commands, &url, &all).await, [drv.store_path().clone()]);
    let narinfo = fs::read_to_string(cache.join(format!("{}.narinfo", built[0].hash_part()))).unwrap();
    assert!(narinfo.contains("\nSig: k-1:"), "{narinfo}");

    copy(&commands, &url, &[drv.store_path().clone()]).await.unwrap();
    assert_eq!(missing(&commands, &url, &all).await, []);
    copy(&commands, &url, &all).await.unwrap(); // again changes nothing
    fs::remove_file(cache.join(format!("{}.narinfo", built[1].hash_part()))).unwrap();
    assert_eq!(missing(&commands, &url, &all).await, [built[1].clone()], "asked afresh, not remembered");
    assert!(!nix.path("home/cache").exists(), "Nix' own cache was not used");
    assert_eq!(fs::read_dir(nix.path("scratch")).unwrap().count(), 0, "and ours is gone");
}

#[tokio::test]
async fn the_local_store_is_signed() {
    let nix = Nix::new();
    let (key, public) = (nix.path("sec"), nix.path("pub"));
    nix.run(
        "nix-store",
        &["--generate-binary-cache-key", "k-2", key.to_str().unwrap(), public.to_str().unwrap()],
    );
    let paths = [nix.one("c"), nix.drvs(&["c"]).remove(0).into()];
    commands(&nix).sign(&key, &paths, pending()).await.unwrap();
    let store = SqliteStore::new(nix.dirs());
    for info in store.closure(&paths).unwrap() {
        assert!(info.signatures.len() == 1 && info.signatures[0].starts_with("k-2:"), "{info:?}");
    }
    fs::write(&key, "junk").unwrap();
    assert_eq!(class_of(commands(&nix).sign(&key, &paths, pending()).await), FaultClass::Refused);
}

#[tokio::test]
async fn a_path_that_is_gone_is_named() {
    let nix = Nix::new();
    let (a, c) = (nix.one("a"), nix.one("c"));
    let url = file_url(&nix.path("cache"));
    let gone = StorePath::parse_str(&format!("{}/{}-x", a.store_dir(), "0".repeat(32))).unwrap();
    let result = copy(&commands(&nix), &url, &[a.clone(), gone.clone()]).await;
    assert_eq!(class_of(result), FaultClass::PathGone(gone));
    // Registered, but its file is not there.
    fs::rename(a.as_str(), nix.path("moved")).unwrap();
    assert_eq!(class_of(copy(&commands(&nix), &url, &[c]).await), FaultClass::PathGone(a));
}

#[tokio::test]
async fn destinations_that_do_not_answer() {
    let nix = Nix::new();
    let a = [nix.one("a")];
    let mut commands = commands(&nix);
    let config = nix.env()["NIX_CONFIG"].to_str().unwrap().to_owned() + "download-attempts = 1\n";
    commands.env.push(("NIX_CONFIG".into(), Some(config.into())));
    let port = test_kit::port::free();
    let http = StoreUrl::parse(&format!("http://127.0.0.1:{port}")).unwrap();
    assert_eq!(class_of(copy(&commands, &http, &a).await), FaultClass::Unreachable);
    let asked = commands.missing(&http, &a, pending()).await.map(drop);
    assert_eq!(class_of(asked), FaultClass::Unreachable);
    // Given twice, the first counts for ssh: the port of the test before anything a machine has configured.
    commands.env.push(("NIX_SSHOPTS".into(), Some(format!("-F /dev/null -p {port}").into())));
    for scheme in ["ssh", "ssh-ng"] {
        let url = StoreUrl::parse(&format!("{scheme}://127.0.0.1")).unwrap();
        assert_eq!(class_of(copy(&commands, &url, &a).await), FaultClass::Unreachable, "{scheme}");
    }
}

#[tokio::test]
async fn destinations_that_do_not_want() {
    let nix = Nix::new();
    let a = [nix.one("a")];
    let url = file_url(&nix.path("cache")).with_secret_key(&nix.path("junk")).unwrap();
    fs::write(nix.path("junk"), "junk").unwrap();
    assert_eq!(class_of(copy(&commands(&nix), &url, &a).await), FaultClass::Refused);
    let unknown = StoreUrl::parse("gopher://b").unwrap();
    assert_eq!(class_of(copy(&commands(&nix), &unknown, &a).await), FaultClass::Refused);
    fs::write(nix.path("file"), "").unwrap();
    assert_eq!(class_of(copy(&commands(&nix), &file_url(&nix.path("file")), &a).await), FaultClass::Failed);
}

#[tokio::test]
async fn limits_cancel_and_a_missing_nix() {
    let nix = Nix::new();
    let a = [nix.one("a")];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap(); // takes connections, answers nothing
    let url = StoreUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let mut commands = commands(&nix);
    commands.silent = Some(Duration::from_millis(300));
    let error = copy(&commands, &url, &a).await.unwrap_err();
    assert!(matches!(error, CopyError::TimedOut { .. }), "{error}");
    assert!(error.to_string().starts_with("nix copy was ended after 300ms without progress"), "{error}");
    let cancelled = commands.copy(&url, &a, async {}, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(cancelled, CopyError::Cancelled { .. }), "{cancelled}");
    commands.nix = "no-nix-here".into();
    let error = copy(&commands, &url, &a).await.unwrap_err();
    assert!(matches!(error, CopyError::Process { .. }), "{error}");
    drop(listener);
}

/// A store path with this content.
fn added(nix: &Nix, content: &[u8]) -> StorePath {
    let file = nix.path("large");
    fs::write(&file, content).unwrap();
    StorePath::parse_str(&nix.run("nix-store", &["--add", file.to_str().unwrap()])[0]).unwrap()
}

/// More than the queues of a connection hold.
const LARGE: usize = 32 * 1024 * 1024;
const LIMIT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn an_upload_that_stands_still_is_ended_at_the_limit() {
    let nix = Nix::new();
    let path = added(&nix, &vec![b'x'; LARGE]);
    let stuck = Destination::new(path.store_dir(), Pace::Never);
    let mut commands = commands(&nix);
    commands.silent = Some(LIMIT);
    // Until it stands still it may take its time; from there Nix repeats itself every second.
    let error = copy(&commands, &stuck.url, &[path]).await.unwrap_err();
    let CopyError::TimedOut { exit, .. } = &error else { panic!("{error}") };
    assert_eq!(*exit, Exit::TimedOut { after: LIMIT, which: Limit::Silent });
    assert!(error.output().contains("copying path"), "{}", error.output());
    assert!(!error.output().contains("@nix"), "{}", error.output());
}

#[tokio::test]
async fn a_failure_comes_with_its_last_lines() {
    let nix = Nix::new();
    let a = nix.one("a");
    fs::rename(a.as_str(), nix.path("moved")).unwrap();
    let error =
        copy(&commands(&nix), &file_url(&nix.path("cache")), std::slice::from_ref(&a)).await.unwrap_err();
    let output = error.output();
    assert!(output.contains(&format!("copying path '{a}'")), "{output}");
    assert!(
        output.ends_with(&format!("error: getting status of '{a}': No such file or directory\n")),
        "{output}"
    );
    assert!(output.len() <= OUTPUT_BYTES_MAX);
    assert!(
        error.to_string().starts_with("nix copy failed (exit code 1): error: getting status of"),
        "{error}"
    );
}

#[test]
fn command_lines() {
    let commands = NixCommands::new("/scratch");
    let path = |n: usize, name: &str| StorePath::parse_str(&format!("/nix/store/{n:032}-{name}")).unwrap();
    let url = StoreUrl::parse("ssh://h").unwrap();
    let text = |spec: &nix_store::process::Spec| {
        spec.args.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    let specs = commands.copy_commands(&url, &[path(1, "a.drv"), path(2, "b")]);
    let offline = "--option narinfo-cache-positive-ttl 0 --option narinfo-cache-negative-ttl 0 --option substitute false --option connect-timeout 15";
    let start = "--extra-experimental-features nix-command copy --log-format internal-json --to ssh://h";
    assert_eq!(
        specs.iter().map(text).collect::<Vec<_>>(),
        [
            format!("{start} {offline} -- {}", path(2, "b")),
            format!("{start} --derivation {offline} -- {}", path(1, "a.drv")),
        ]
    );
    assert!(commands.copy_commands(&url, &[]).is_empty());
    let mut limited = commands.clone();
    limited.silent = Some(Duration::from_secs(600));
    let specs = limited.copy_commands(&url, &[path(2, "b")]);
    let stalled = "--option stalled-download-timeout 660";
    assert_eq!(text(&specs[0]), format!("{start} {offline} {stalled} -- {}", path(2, "b")));

    let many: Vec<_> = (0..20_000).map(|n| path(n, "with-a-name-of-some-length")).collect();
    for specs in [
        commands.copy_commands(&url, &many),
        commands.missing_commands(&url, &many),
        commands.sign_commands(Path::new("/k"), &many),
    ] {
        assert!(specs.len() > 2);
        let named =
            specs.iter().flat_map(|spec| &spec.args).filter(|arg| arg.to_str().unwrap().starts_with("/nix/"));
        assert!(named.eq(many.iter().map(|path| path.as_str())), "each once, in order");
        let longest = specs.iter().map(|spec| text(spec).len()).max().unwrap();
        assert!(longest < 300_000, "{longest}");
    }
}

/// Where a limit of a few seconds must not be over: on a machine that does nothing else.
mod alone {
    use super::*;

    #[tokio::test]
    async fn an_upload_that_moves_outlives_the_limit() {
        let nix = Nix::new();
        let path = added(&nix, &vec![b'x'; LARGE]);
        let slow = Destination::new(path.store_dir(), Pace::SlowFor(3 * LIMIT));
        let mut commands = commands(&nix);
        commands.silent = Some(LIMIT);
        let begun = Instant::now();
        let mut said = Vec::new();
        let copied = commands
            .copy(&slow.url, std::slice::from_ref(&path), pending(), &mut |_, line| {
                said.push((begun.elapsed(), line.to_owned()));
            })
            .await;
        copied.unwrap();
        let took = begun.elapsed();
        // What this is about: it was silent for longer than it may be, and not for want of moving.
        let last = said.last().unwrap();
        assert!(took - last.0 > LIMIT, "{took:?}, {said:?}");
        assert!(last.1.starts_with("copying path"), "no noise, no JSON: {said:?}");
        let sizes = slow.sizes();
        assert!(sizes.iter().any(|(file, size)| file.starts_with("/nar/") && *size > LARGE), "{sizes:?}");
    }

    /// Nix 2.8 says nothing while it compresses.
    #[tokio::test]
    async fn compressing_is_progress() {
        let nix = Nix::new();
        // What does not compress takes longest: some seconds.
        let noise = (0..LARGE / 8).scan(1_u32, |state, _| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some(state.to_be_bytes()[0])
        });
        let path = added(&nix, &noise.collect::<Vec<u8>>());
        let mut commands = commands(&nix);
        commands.silent = Some(LIMIT / 3);
        let url = StoreUrl::parse(&format!("file://{}?compression=xz", nix.path("cache").display())).unwrap();
        let begun = Instant::now();
        copy(&commands, &url, &[path]).await.unwrap();
        assert!(begun.elapsed() > LIMIT / 3, "{:?}", begun.elapsed());
    }
}
