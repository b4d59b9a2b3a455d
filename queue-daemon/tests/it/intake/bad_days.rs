//! Requests that cannot be taken in, and machines in no good state: what is hopeless is refused, what may pass waits,
//! and neither holds anybody else.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eka_queue::config::Config;
use eka_queue::serve::{Setup, start};
use eka_queue::sockets::Inherited;
use hook_wire::{Source, Status};
use nix_store::store::{Cursor, Filter, Page, Realisation};
use nix_store::{FakeStore, PathInfo, Store, StoreDirs, StoreError};
use nix_types::{DrvPath, StorePath};
use service_kit::clock::Clock;
use test_kit::wait;

use crate::frames::{Frame, connect, hear};
use crate::inside::ask;
use crate::nobody::{UID, copy_program};
use crate::world::{SOON, World, queue_program, run, same_world, tool};

/// A derivation that Nix calls valid and whose file a bad disk has cut off, in front of others of the same user.
#[test]
fn a_derivation_that_cannot_be_understood_is_refused_and_holds_nobody() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let path = world.valid_paths(1).remove(0);
    let built =
        world.build_with_hook(r#"run "p" { } "echo p > $out""#, &world.path("no-hook.sh"), "#!/bin/sh\n");
    let drv = world.tool("nix-store").args(["-q", "--deriver", built.out.trim()]).output().unwrap();
    let drv = String::from_utf8(drv.stdout).unwrap().trim().to_owned();
    fs::set_permissions(&drv, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&drv, "Derive([(").unwrap();
    fs::create_dir(world.path("spool")).unwrap();
    let put = |name: &str, frame: Frame| fs::write(world.path("spool").join(name), frame.bytes()).unwrap();
    put("1-poison.req", Frame::enqueue(Source::Hook).drv(&drv));
    put("2-good.req", Frame::enqueue(Source::Hook).path(&path));
    world.start();
    world.until("main", "done", 1);
    wait::until(SOON, || world.status()["spool_files"] == 0);
    assert!(world.path("state/refused/1-poison.req").exists(), "kept for the operator");
    let log = world.log();
    assert!(log.contains("1-poison.req") && log.contains("cannot understand the derivation"), "{log}");
    // Over the socket a refusal as well: to ask again would not help.
    let answer = Frame::enqueue(Source::Hook).drv(&drv).send(&world);
    assert_eq!(answer.status, Status::Refused, "{answer:?}");
    assert!(answer.text.contains("cannot understand the derivation"), "{answer:?}");
}

/// A machine that freezes in the middle of a call: what the hook has to say is as good as before.
#[test]
fn who_is_late_with_a_message_is_told_to_keep_it() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let path = world.valid_paths(1).remove(0);
    world.start();
    let bytes = Frame::enqueue(Source::Hook).path(&path).bytes();
    for sent in [0, 5, bytes.len() - 1] {
        let begun = Instant::now();
        let mut frozen = connect(&world);
        frozen.write_all(&bytes[..sent]).unwrap();
        let answer = hear(&mut frozen).expect("an answer, and not only the end");
        assert_eq!(answer.status, Status::Busy, "{answer:?}");
        assert_eq!(answer.text, "no whole frame within 1s");
        assert!(begun.elapsed() > Duration::from_millis(500));
        assert_eq!(hear(&mut frozen), None, "it is out of step, so that was all");
    }
    assert_eq!(world.list(&[]).len(), 0);
}

/// A hook of root's that ran before the daemon ever did made the spool. A daemon that is not root says what to do.
#[test]
fn a_spool_of_roots_is_told_with_its_remedy() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    if fs::metadata(world.path("")).unwrap().uid() != 0 {
        return println!("skipped: only root can give folders away");
    }
    let path = world.valid_paths(1).remove(0);
    // The machine is the daemon's user's, but for the spool.
    let user = format!("{UID}:{UID}");
    let give =
        |what: &Path| assert!(tool("chown").arg("-R").arg(&user).arg(what).status().unwrap().success());
    fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    give(&world.path(""));
    assert_eq!(world.hook(&path, "").err, "");
    let spool = world.path("spool");
    let meta = fs::metadata(&spool).unwrap();
    assert_eq!((meta.uid(), meta.permissions().mode() & 0o7777), (0, 0o700), "the hook made it");

    let program = world.path("eka-queue");
    copy_program(queue_program(), &program);
    let demoted = [&format!("--reuid={UID}"), &format!("--regid={UID}"), "--clear-groups"];
    let mut serve = world.tool("setpriv");
    serve.args(demoted).arg(&program).arg("serve").arg("--config-file").arg(world.config_file());
    let said = run(&mut serve, b"");
    let remedy = format!("chown -R {UID} {}", spool.display());
    assert_ne!(said.code, 0);
    assert!(said.err.contains("it belongs to user 0 and the daemon runs as user 65534"), "{said:?}");
    assert!(said.err.contains(&remedy), "{said:?}");

    assert!(tool("sh").args(["-c", &remedy]).status().unwrap().success());
    let log = fs::File::create(world.path("daemon.log")).unwrap();
    chown(world.path("daemon.log"), Some(UID), Some(UID)).unwrap();
    world.start_with(|serve| {
        let arguments: Vec<_> = serve.get_args().map(ToOwned::to_owned).collect();
        let mut inner = same_world(serve, "setpriv");
        inner.args(demoted).arg(&program).args(arguments).stderr(log);
        *serve = inner;
    });
    world.until("main", "done", 1);
    wait::until(SOON, || world.status()["spool_files"] == 0);
}

/// The store has to be read from end to end to say what came of a derivation that is no more. Hooks do not wait for
/// that.
#[test]
fn a_question_that_takes_long_holds_no_hook() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("nix/gcroots")).unwrap();
    let text = "[queue]\nstate_dir = \"$W/state\"\nsocket = \"$W/enqueue.sock\"\n\
                control_socket = \"$W/control.sock\"\nspool_dir = \"$W/spool\"\n";
    let text = text.replace("$W", folder.path().to_str().unwrap());
    let (asked, hears) = channel();
    let (answers, waits) = channel();
    let store =
        Arc::new(SlowStore { store: FakeStore::new("/nix/store"), asked, answers: Mutex::new(waits) });
    let path = "/nix/store/00000000000000000000000000000000-p";
    store.store.add_simple(&StorePath::parse_str(path).unwrap(), &[]).unwrap();
    let setup = Setup {
        config: Config::parse(Path::new("ekaci.toml"), &text).unwrap(),
        clock: Clock::system(),
        dirs: StoreDirs::new("/nix/store", folder.path().join("nix")).unwrap(),
        store: Some(store),
        engines: None,
        vfs: None,
        inherited: Inherited::default(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let running = runtime.block_on(start(setup)).unwrap();
    let connect = || std::os::unix::net::UnixStream::connect(folder.path().join("enqueue.sock")).unwrap();
    let drv = Frame::enqueue(Source::Hook).drv("/nix/store/00000000000000000000000000000000-d.drv");
    let (mut slow, mut hook) = (connect(), connect());
    slow.write_all(&drv.bytes()).unwrap();
    hears.recv_timeout(SOON).unwrap();
    hook.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(ask(&mut hook, &Frame::enqueue(Source::Hook).path(path)), Status::Queued);
    answers.send(()).unwrap();
    assert_eq!(hear(&mut slow).unwrap().status, Status::Refused);
    running.stop().request();
    runtime.block_on(running.finish()).unwrap();
}

/// A store that answers what came of a derivation when the test says so.
struct SlowStore {
    store: FakeStore,
    asked: Sender<()>,
    answers: Mutex<Receiver<()>>,
}

impl Store for SlowStore {
    fn store_dir(&self) -> &str {
        self.store.store_dir()
    }

    fn is_valid(&self, path: &StorePath) -> Result<bool, StoreError> {
        self.store.is_valid(path)
    }

    fn path_info(&self, path: &StorePath) -> Result<Option<PathInfo>, StoreError> {
        self.store.path_info(path)
    }

    fn closure(&self, roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
        self.store.closure(roots)
    }

    fn outputs_of(&self, drv: &DrvPath) -> Result<Vec<StorePath>, StoreError> {
        self.asked.send(()).unwrap();
        self.answers.lock().unwrap().recv_timeout(SOON).unwrap();
        self.store.outputs_of(drv)
    }

    fn realisations_of(&self, path: &StorePath) -> Result<Vec<Realisation>, StoreError> {
        self.store.realisations_of(path)
    }

    fn valid_page(&self, filter: &Filter, after: Cursor, limit: usize) -> Result<Page, StoreError> {
        self.store.valid_page(filter, after, limit)
    }
}
