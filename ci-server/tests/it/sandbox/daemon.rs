//! The Nix daemon that builds what was evaluated: whether its own sandbox is on is found out, and decides.

use ci_server::sandbox::{DaemonGate, Unconfined};
use nix_store::process::{Spec, run};

use super::nix::Daemon;
use super::support::{CHILD_MAX, Stage, both};

fn gate(daemon: &Daemon) -> DaemonGate {
    DaemonGate::new(daemon.state_dir(), daemon.variables())
}

#[tokio::test]
async fn a_daemon_with_its_sandbox_on_passes_and_is_asked_once() {
    let Some(stage) = Stage::set().await else { return };
    let Some(daemon) = Daemon::start("sandbox = true") else { return };
    let (gate, keeper) = (gate(&daemon), daemon.keeper(&stage));
    gate.check(&keeper).await.unwrap();
    drop(daemon); // a second look would find nobody
    gate.check(&keeper).await.unwrap();
}

#[tokio::test]
async fn a_daemon_whose_builds_see_the_machine_is_refused() {
    let Some(stage) = Stage::set().await else { return };
    for (config, wanted) in [
        ("sandbox = false", "set `sandbox = true`, not `relaxed`, in its nix.conf"),
        ("sandbox = relaxed", "set `sandbox = true`, not `relaxed`, in its nix.conf"),
        ("sandbox = true\ntrusted-users = *", "out of `trusted-users`"),
    ] {
        let Some(daemon) = Daemon::start(config) else { return };
        let refused = gate(&daemon).check(&daemon.keeper(&stage)).await.unwrap_err().to_string();
        assert!(refused.contains(wanted), "{config}: {refused}");
    }
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_refused() {
    let Some(stage) = Stage::set().await else { return };
    let Some(daemon) = Daemon::start("sandbox = true") else { return };
    let (gate, keeper) = (gate(&daemon), daemon.keeper(&stage));
    drop(daemon);
    let refused = gate.check(&keeper).await.unwrap_err();
    assert!(matches!(refused, Unconfined::Unknown { .. }), "{refused}");
}

/// A build while evaluating that reads the canary, or says that it is hidden.
fn escape(stage: &Stage) -> String {
    let secret = stage.secret();
    format!(
        r#"
        let
          bin = builtins.path {{ path = /usr/bin; name = "bin"; filter = path: type: baseNameOf path == "busybox"; }};
          out = derivation {{
            name = "escape"; system = builtins.currentSystem; builder = bin + "/busybox";
            args = [ "sh" "-c" "${{bin}}/busybox cat {} > $out || echo hidden > $out" ];
          }};
        in builtins.readFile out"#,
        secret.display()
    )
}

#[tokio::test]
async fn a_build_while_evaluating_escapes_where_the_gate_is_closed_and_only_there() {
    let Some(stage) = Stage::set().await else { return };
    stage.write("escape.nix", &escape(&stage));
    for (config, open) in [("sandbox = true", true), ("sandbox = false", false)] {
        let Some(daemon) = Daemon::start(config) else { return };
        assert_eq!(gate(&daemon).check(&daemon.keeper(&stage)).await.is_ok(), open, "{config}");
        let mut confinement = stage.confinement();
        confinement.store = daemon.access();
        let spec = Spec::new("nix-instantiate").args(["--eval", "--read-write-mode", "./escape.nix"]);
        let spec = daemon.client(spec).env("NIX_CONFIG", "substituters =\n").limits(Some(CHILD_MAX), None);
        let spec = stage.sandbox.confine(&spec, &confinement).unwrap();
        let said = both(&run(&spec, std::future::pending()).await.unwrap());
        let escaped = said.contains(&stage.canary);
        assert_eq!(escaped, !open, "{config}: {said}");
        assert_eq!(said.contains("\"hidden\\n\""), open, "{config}: {said}");
    }
}
