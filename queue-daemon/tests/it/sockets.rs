//! Whose socket files they are: what the daemon made it removes at its end, what the service manager made stays.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use eka_queue::config::Config;
use eka_queue::serve::{Setup, start};
use eka_queue::sockets::Inherited;
use nix_store::StoreDirs;
use service_kit::clock::Clock;

/// Starts a daemon in `root` with the given sockets, and ends it.
fn run_once(root: &Path, inherited: Inherited) {
    let text = "[queue]\nstate_dir = \"$W/state\"\nsocket = \"$W/enqueue.sock\"\n\
                control_socket = \"$W/control.sock\"\nspool_dir = \"$W/spool\"\n";
    let config = Config::parse(Path::new("ekaci.toml"), &text.replace("$W", root.to_str().unwrap())).unwrap();
    fs::create_dir_all(root.join("nix/var/gcroots")).unwrap();
    let setup = Setup {
        config,
        clock: Clock::system(),
        dirs: StoreDirs::new(root.join("nix/store"), root.join("nix/var")).unwrap(),
        store: None,
        engines: None,
        vfs: None,
        inherited,
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let running = start(setup).await.unwrap();
        assert!(root.join("enqueue.sock").exists() && root.join("control.sock").exists());
        running.stop().request();
        running.finish().await.unwrap();
    });
}

#[test]
fn sockets_of_its_own_are_removed_at_the_end() {
    let root = tempfile::tempdir().unwrap();
    run_once(root.path(), Inherited::default());
    assert!(!root.path().join("enqueue.sock").exists() && !root.path().join("control.sock").exists());
}

#[test]
fn sockets_of_the_service_manager_outlive_the_daemon() {
    let root = tempfile::tempdir().unwrap();
    let (enqueue, control) = (root.path().join("enqueue.sock"), root.path().join("control.sock"));
    let listeners = [&enqueue, &control].map(|path| UnixListener::bind(path).unwrap());
    for _ in 0..2 {
        let [for_enqueue, for_control] = listeners.each_ref().map(|listener| listener.try_clone().unwrap());
        for_enqueue.set_nonblocking(true).unwrap();
        for_control.set_nonblocking(true).unwrap();
        run_once(root.path(), Inherited { enqueue: Some(for_enqueue), control: Some(for_control) });
        assert!(enqueue.exists() && control.exists(), "the service manager goes on listening there");
    }
}
