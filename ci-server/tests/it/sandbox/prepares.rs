//! A run's sandbox, made ready: who gets one, and who is refused with which words.

use std::path::PathBuf;

use ci_model::flow::Trust;
use ci_server::evaluate::confine::Confine;
use ci_server::sandbox::{
    DaemonGate, DaemonStore, Limits, Prepared, Refusal, Run, Settings, Share, Wish, prepare,
};
use nix_store::process::Spec;
use service_kit::address::Reach;
use service_kit::clock::Clock;
use service_kit::telemetry::chain;

use super::nix::Daemon;
use super::support::{Stage, helper};

const SHARE: Share = Share { memory_bytes: 4 << 30, processes: 200 };

struct World {
    settings: Settings,
    clock: Clock,
    uris: Vec<String>,
    writes: bool,
}

impl World {
    fn new() -> Self {
        let settings = Settings { bubblewrap: None, helper: helper() };
        Self { settings, clock: Clock::system(), uris: Vec::new(), writes: false }
    }

    async fn prepare(
        &self,
        trust: Trust,
        wish: Wish,
        daemon: Option<(DaemonStore, &DaemonGate)>,
    ) -> Result<Prepared, Refusal> {
        let (settings, clock) = (&self.settings, &self.clock);
        let (limits, reach, allowed_uris) = (Limits::default(), Reach::Public, &self.uris[..]);
        let (share, writes) = (SHARE, self.writes);
        let nobody = || DaemonStore::find("/nonexistent".into(), "/nix/store".into()).unwrap_err();
        let daemon = daemon.ok_or_else(nobody);
        prepare(Run { trust, wish, settings, allowed_uris, reach, limits, share, daemon, writes, clock })
            .await
    }
}

#[tokio::test]
async fn without_bubblewrap_code_of_outsiders_is_refused_and_a_persons_own_runs() {
    let mut world = World::new();
    world.settings.bubblewrap = Some(PathBuf::from("/nonexistent/bwrap"));
    for trust in [Trust::UntrustedPr, Trust::ApprovedPr] {
        let refusal = world.prepare(trust, Wish::AsTrusted, None).await.unwrap_err();
        let said = chain(&refusal);
        assert!(
            matches!(refusal, Refusal::NoSandbox(_)) && said.contains("install the package bubblewrap"),
            "{said}"
        );
    }
    let own = world.prepare(Trust::TrustedPush, Wish::AsTrusted, None).await.unwrap();
    assert!(matches!(own, Prepared::Unconfined));
    let asked = world.prepare(Trust::TrustedPush, Wish::Always, None).await.unwrap_err();
    assert!(matches!(asked, Refusal::NoSandbox(_)), "{asked}");
    let never = world.prepare(Trust::UntrustedPr, Wish::Never, None).await.unwrap_err();
    assert!(matches!(never, Refusal::NotWished), "{never}");
}

#[tokio::test]
async fn a_run_that_writes_is_refused_at_once_where_there_is_no_daemon() {
    let Some(_stage) = Stage::set().await else { return };
    let mut world = World::new();
    let reads = world.prepare(Trust::TrustedPush, Wish::Always, None).await.unwrap();
    assert!(matches!(reads, Prepared::Confined(_)), "{reads:?}");
    world.writes = true;
    let refusal = world.prepare(Trust::TrustedPush, Wish::Always, None).await.unwrap_err();
    let said = chain(&refusal);
    assert!(
        said.contains("at /nonexistent/socket (No such file") && said.ends_with("; start nix-daemon"),
        "{said}"
    );
    let own = world.prepare(Trust::TrustedPush, Wish::AsTrusted, None).await.unwrap();
    assert!(matches!(own, Prepared::Unconfined), "who is not confined needs none");
}

#[tokio::test]
async fn a_socket_that_a_daemon_left_behind_is_no_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let find = || DaemonStore::find(folder.path().to_owned(), "/nix/store".into());
    let listener = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    assert!(find().is_ok());
    // A child that another test starts in this moment holds it open until its exec.
    rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
    drop(listener);
    assert!(folder.path().join("socket").exists());
    let said = chain(&find().unwrap_err());
    assert!(said.contains("its socket is left of one that has ended; start nix-daemon again"), "{said}");
}

#[tokio::test]
async fn a_sandbox_that_does_not_work_is_none_and_says_why() {
    let mut world = World::new();
    // A bubblewrap that fails as one does where namespaces are forbidden.
    let folder = tempfile::tempdir().unwrap();
    let bwrap = folder.path().join("bwrap");
    let text = "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n";
    test_kit::script::write(&bwrap, text);
    world.settings.bubblewrap = Some(bwrap);
    let refusal = world.prepare(Trust::UntrustedPr, Wish::AsTrusted, None).await.unwrap_err();
    let said = chain(&refusal);
    assert!(said.contains("No permissions to create new namespace): namespaces are forbidden"), "{said}");
}

#[tokio::test]
async fn an_outsiders_run_is_confined_where_the_daemon_is_safe_and_refused_where_not() {
    let Some(stage) = Stage::set().await else { return };
    let mut world = World::new();
    world.uris.push("https://cache.example".into());
    for (config, safe) in [("sandbox = true", true), ("sandbox = false", false)] {
        let Some(daemon) = Daemon::start(config) else { return };
        let gate = DaemonGate::new(daemon.state_dir(), daemon.variables());
        let prepared =
            world.prepare(Trust::UntrustedPr, Wish::AsTrusted, Some((daemon.store(), &gate))).await;
        match prepared {
            Ok(Prepared::Confined(keeper)) => {
                assert!(safe && keeper.proxy.is_some() && keeper.daemon.is_some());
                let needs = ci_server::evaluate::confine::Needs {
                    reads: vec![stage.checkout()],
                    store: ci_server::evaluate::confine::StoreUse::Nothing,
                    memory_bytes: None,
                };
                let spec = keeper.confine(Spec::new("/bin/sh").args(["-c", "exit 7"]), &needs).unwrap();
                let outcome = nix_store::process::run(&spec, std::future::pending()).await.unwrap();
                assert_eq!(outcome.exit.to_string(), "exit code 7");
            }
            Ok(Prepared::Unconfined) => panic!("an outsider's run is not confined"),
            Err(refusal) => {
                let said = chain(&refusal);
                assert!(!safe && said.contains("sandbox = true"), "{config}: {said}");
            }
        }
        // A run that is trusted more does not depend on it.
        let approved =
            world.prepare(Trust::ApprovedPr, Wish::AsTrusted, Some((daemon.store(), &gate))).await.unwrap();
        assert!(matches!(approved, Prepared::Confined(_)));
    }
}

#[tokio::test]
async fn a_list_that_is_not_understood_stops_the_run() {
    let mut world = World::new();
    world.uris.push("ftp://cache.example".into());
    let refusal = world.prepare(Trust::UntrustedPr, Wish::AsTrusted, None).await.unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("\"ftp://cache.example\" cannot be allowed: only what is fetched over http"),
        "{refusal}"
    );
}
