//! The store asked through a real daemon, and the choice between it and the database. What every store must answer is
//! in `store.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use nix_store::daemon::DaemonError;
use nix_store::store::{Class, Cursor, all_valid};
use nix_store::{Filter, LocalStore, SqliteStore, Store, StoreDirs, StoreError, WorkerStore};
use nix_types::StorePath;
use rustix::process::{Pid, Signal, kill_process};

use crate::nix::{Nix, workers_of};
use crate::store::{conforms, finds_outputs, in_order, real};
use crate::support::{again, is_alive, until};

#[test]
fn the_store_behind_a_daemon_conforms() {
    let (nix, world) = real();
    let daemon = nix.daemon();
    let store = WorkerStore::new(nix.dirs());
    conforms(&store, &world);
    // Every info is the same by either way, and so is the order.
    let roots = [world.c_drv.store_path().clone(), world.c_dev.clone(), world.a.clone()];
    let closure = store.closure(&roots).unwrap();
    assert_eq!(closure, SqliteStore::new(nix.dirs()).closure(&roots).unwrap());
    in_order(&closure);
    assert!(closure.len() > 6);
    drop(daemon);
}

#[test]
fn the_chosen_store_conforms() {
    let (nix, world) = real();
    conforms(&LocalStore::new(nix.dirs()), &world);
}

#[test]
fn outputs_of_every_kind_by_daemon() {
    let nix = Nix::new();
    let daemon = nix.daemon();
    finds_outputs(&nix, &WorkerStore::new(nix.dirs()));
    drop(daemon);
}

#[test]
fn what_is_built_or_collected_after_it_was_asked_for_is_seen() {
    let nix = Nix::new();
    let daemon = nix.daemon();
    let store = WorkerStore::new(nix.dirs());
    let sub = nix.path("file");
    fs::write(&sub, "x").unwrap();
    let add = || StorePath::parse_str(&nix.run("nix-store", &["--add", sub.to_str().unwrap()])[0]).unwrap();
    let path = add();
    // On one kept conversation all the while.
    for _ in 0..2 {
        assert!(store.is_valid(&path).unwrap() && store.path_info(&path).unwrap().is_some());
        nix.run("nix-store", &["--delete", path.as_str()]);
        assert!(!store.is_valid(&path).unwrap());
        assert_eq!(store.path_info(&path).unwrap(), None);
        add();
    }
    drop(daemon);
}

#[test]
fn a_daemon_that_was_restarted_is_asked_again() {
    let (nix, world) = real();
    let daemon = nix.daemon();
    let store = WorkerStore::new(nix.dirs());
    assert!(store.is_valid(&world.a).unwrap());
    let workers = workers_of(&daemon);
    assert!(!workers.is_empty());
    drop(daemon);
    end(workers);
    let error = store.is_valid(&world.a).unwrap_err();
    assert!(matches!(&error, StoreError::Daemon { source: DaemonError::Connect { .. }, .. }), "{error:?}");
    assert_eq!(error.class(), Class::Retry);
    let daemon = nix.daemon();
    assert!(store.is_valid(&world.a).unwrap());
    end(workers_of(&daemon));
    assert!(store.is_valid(&world.a).unwrap(), "the kept conversation broke, a new one answers");
    drop(daemon);
}

/// Ends a daemon's processes, which may have ended with it.
fn end(workers: Vec<u32>) {
    for worker in workers {
        let pid = Pid::from_raw(i32::try_from(worker).unwrap()).unwrap();
        let _ = kill_process(pid, Signal::KILL); // as said
        until("the process to end", || (!is_alive(worker)).then_some(()));
    }
}

#[test]
fn signatures_are_added_and_stay() {
    let (nix, world) = real();
    let daemon = nix.daemon();
    let store = LocalStore::new(nix.dirs());
    let signature = |name: &str| format!("{name}:{}==", "A".repeat(86));
    let signatures = || store.path_info(&world.a).unwrap().unwrap().signatures;
    store.add_signatures(&world.a, &[signature("one-1"), signature("two-1")]).unwrap();
    store.add_signatures(&world.a, &[signature("one-1")]).unwrap();
    assert_eq!(signatures(), [signature("one-1"), signature("two-1")]);
    assert_eq!(WorkerStore::new(nix.dirs()).path_info(&world.a).unwrap().unwrap().signatures, signatures());
    let absent = StorePath::parse_str(&format!("{}/{}-x", nix.dirs().store(), "7".repeat(32))).unwrap();
    let error = store.add_signatures(&absent, &[signature("one-1")]).unwrap_err();
    assert!(matches!(&error, StoreError::NotValid { path } if *path == absent), "{error:?}");
    assert!(store.add_signatures(&world.b, &[signature("b-1")]).is_ok(), "after a refusal");
    drop(daemon);
}

#[test]
fn many_paths_through_the_daemon() {
    let nix = Nix::new();
    let count = 300;
    let folder = nix.path("many");
    fs::create_dir(&folder).unwrap();
    let files: Vec<_> = (0..count)
        .map(|n| {
            let file = folder.join(format!("f{n}"));
            fs::write(&file, n.to_string()).unwrap();
            file.to_str().unwrap().to_owned()
        })
        .collect();
    let args: Vec<&str> = ["--add"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let added: BTreeSet<String> = nix.run("nix-store", &args).into_iter().collect();
    assert_eq!(added.len(), count);
    let daemon = nix.daemon();
    let store = WorkerStore::new(nix.dirs());
    let roots: Vec<_> = added.iter().map(|path| StorePath::parse_str(path).unwrap()).collect();
    assert_eq!(store.closure(&roots).unwrap().len(), count);
    assert_eq!(store.valid_among(&roots).unwrap(), roots);
    let mut listed = BTreeSet::new();
    // Several listings at once, each on its own place, more than are kept.
    let filters: Vec<Filter> =
        (0..6).map(|since| Filter { registered_since: Some(since), ..Filter::default() }).collect();
    let mut places = vec![Some(Cursor::default()); filters.len()];
    while places.iter().any(Option::is_some) {
        for (filter, place) in filters.iter().zip(&mut places) {
            if let Some(after) = *place {
                let page = store.valid_page(filter, after, 100).unwrap();
                assert!(page.paths.len() <= 100);
                listed.extend(page.paths.into_iter().map(|path| (filter.registered_since, path)));
                *place = page.next;
            }
        }
    }
    assert_eq!(listed.len(), filters.len() * count);
    let mut all = Vec::new();
    all_valid(&store, &Filter::default(), |page| -> Result<(), StoreError> {
        all.extend(page);
        Ok(())
    })
    .unwrap();
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), roots.into_iter().collect());
    drop(daemon);
}

#[test]
fn either_of_database_and_daemon_may_come_later() {
    let nix = Nix::new();
    let store = LocalStore::new(nix.dirs());
    let path = StorePath::parse_str(&format!("{}/{}-x", nix.dirs().store(), "7".repeat(32))).unwrap();
    let error = store.is_valid(&path).unwrap_err();
    assert!(matches!(error, StoreError::NoDatabase { .. }) && error.class() == Class::Retry, "{error}");
    nix.run("nix-store", &["--init"]);
    assert!(!store.is_valid(&path).unwrap());
    let built = nix.one("a");
    assert!(store.is_valid(&built).unwrap());

    // The database becomes one that is not understood. The daemon's process that has our conversation holds the real one
    // open, whatever its name is now.
    let daemon = nix.daemon();
    store.add_signatures(&built, &[]).unwrap();
    let (database, real) = (nix.dirs().database(), nix.path("var/db/real.sqlite"));
    fs::rename(&database, &real).unwrap();
    fs::write(&database, "no database at all, long enough to look at: ".repeat(50)).unwrap();
    assert!(matches!(SqliteStore::new(nix.dirs()).is_valid(&built), Err(StoreError::Schema { .. })));
    assert!(store.is_valid(&built).unwrap());
    // Without a daemon what is wrong with the database is said, and once that is mended it answers.
    let workers = workers_of(&daemon);
    drop(daemon);
    end(workers);
    for _ in 0..2 {
        let error = store.is_valid(&built).unwrap_err();
        assert!(matches!(error, StoreError::Schema { .. }), "{error}");
    }
    fs::rename(&real, &database).unwrap();
    assert!(store.is_valid(&built).unwrap());
    assert!(!store.is_valid(&path).unwrap());
}

const STORE: &str = "NIX_STORE_TEST_STORE";
const ASKED: &str = "NIX_STORE_TEST_PATH";

/// Asks as a user who may not read the database; prints what came of it.
#[test]
#[ignore = "the other process of a_user_who_may_not_read_the_database_asks_the_daemon"]
fn ask_the_local_store_without_rights() {
    let folder = std::env::var(STORE).unwrap();
    let folder = Path::new(&folder);
    let dirs = StoreDirs::new(folder.join("store"), folder.join("var")).unwrap();
    let store = LocalStore::new(dirs);
    let path = StorePath::parse_str(&std::env::var(ASKED).unwrap()).unwrap();
    for _ in 0..2 {
        match store.closure(std::slice::from_ref(&path)) {
            Ok(closure) => println!("\nanswer {}", closure.len()),
            Err(error) => println!("\nanswer {error}"),
        }
    }
    let refused = SqliteStore::new(store.dirs().clone()).is_valid(&path).unwrap_err();
    println!("\nanswer {refused}");
}

#[test]
fn a_user_who_may_not_read_the_database_asks_the_daemon() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let (nix, world) = real();
    fs::set_permissions(nix.path("var/db"), fs::Permissions::from_mode(0o700)).unwrap();
    let copy = nix.path("asker");
    test_kit::script::copy(&std::env::current_exe().unwrap(), &copy);
    let ask = || {
        let mut command = again("worker::ask_the_local_store_without_rights", Some(&copy));
        command.env(STORE, nix.path("")).env(ASKED, world.c_dev.as_str()).uid(65534).gid(65534);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let answers = said.lines().filter_map(|line| line.strip_prefix("answer ").map(str::to_owned));
        <[String; 3]>::try_from(answers.collect::<Vec<_>>()).unwrap()
    };
    for answer in ask() {
        assert!(answer.starts_with("cannot open the store database"), "{answer}");
    }
    let daemon = nix.daemon();
    let [first, second, database] = ask();
    assert_eq!([first, second], ["4", "4"]);
    assert!(database.starts_with("cannot open the store database"), "{database}");
    drop(daemon);
}
