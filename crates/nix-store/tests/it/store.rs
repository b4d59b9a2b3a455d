//! The store: the same questions to the real one and to the fake, then what only a database can do.
#![expect(clippy::disallowed_methods, reason = "makes and damages databases of tests")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Instant;

use nix_store::store::{Class, Cursor, all_valid};
use nix_store::{FakeStore, Filter, PathInfo, Realisation, SqliteStore, Store, StoreError, WorkerStore};
use nix_types::{DrvPath, StorePath};
use rusqlite::{Connection, params};

use crate::nix::Nix;
use crate::support::again;

/// What the suite knows of the store it asks.
pub(crate) struct World {
    pub(crate) a: StorePath,
    pub(crate) b: StorePath,
    pub(crate) c: StorePath,
    pub(crate) c_dev: StorePath,
    pub(crate) a_drv: DrvPath,
    pub(crate) c_drv: DrvPath,
    pub(crate) unbuilt_drv: DrvPath,
}

pub(crate) fn real() -> (Nix, World) {
    let nix = Nix::new();
    let drvs = nix.drvs(&["a", "c", "fod"]);
    let built = nix.build(&["a", "b", "c", "c.dev"]);
    let [a, b, c, c_dev] = built.try_into().unwrap();
    let [a_drv, c_drv, unbuilt_drv] = drvs.try_into().unwrap();
    (nix, World { a, b, c, c_dev, a_drv, c_drv, unbuilt_drv })
}

/// The same world in memory.
fn fake() -> (FakeStore, World) {
    let store = FakeStore::new("/fake/store");
    let path = |digit: char, name: &str| {
        StorePath::parse_str(&format!("/fake/store/{}-{name}", digit.to_string().repeat(32))).unwrap()
    };
    let drv = |digit, name| DrvPath::try_from(path(digit, name)).unwrap();
    let world = World {
        a: path('a', "a"),
        b: path('b', "b"),
        c: path('c', "c"),
        c_dev: path('d', "c-dev"),
        a_drv: drv('1', "a.drv"),
        c_drv: drv('2', "c.drv"),
        unbuilt_drv: drv('3', "fod.drv"),
    };
    let info = |path: &StorePath, references: &[&StorePath], deriver: Option<&DrvPath>| PathInfo {
        path: path.clone(),
        nar_hash: format!("sha256:{}", "0".repeat(64)),
        nar_size: 120,
        references: references
            .iter()
            .map(|path| (*path).clone())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        deriver: deriver.map(|drv| drv.store_path().clone()),
        registration_time: 1_700_000_000,
        ultimate: deriver.is_some(),
        signatures: vec![],
        ca: deriver.is_none().then(|| "text:sha256:0".to_owned()),
    };
    let World { a, b, c, c_dev, a_drv, c_drv, unbuilt_drv } = &world;
    for drv in [a_drv, c_drv, unbuilt_drv] {
        store.add(info(drv.store_path(), &[], None)).unwrap();
    }
    store.add(info(a, &[], Some(a_drv))).unwrap();
    store.add(info(b, &[a, b], Some(a_drv))).unwrap();
    store.remove(b).unwrap();
    store.add(info(b, &[a, b], Some(&drv('4', "b.drv")))).unwrap();
    store.add(info(c, &[b], Some(c_drv))).unwrap();
    store.add(info(c_dev, &[c], Some(c_drv))).unwrap();
    store.set_outputs(a_drv, std::slice::from_ref(a));
    store.set_outputs(c_drv, &[c.clone(), c_dev.clone()]);
    store.set_outputs(unbuilt_drv, &[path('f', "fod")]);
    (store, world)
}

#[test]
fn the_real_store_conforms() {
    let (nix, world) = real();
    conforms(&SqliteStore::new(nix.dirs()), &world);
}

#[test]
fn the_fake_store_conforms() {
    let (store, world) = fake();
    conforms(&store, &world);
}

/// What every store must answer.
pub(crate) fn conforms(store: &dyn Store, world: &World) {
    let World { a, b, c, c_dev, a_drv, c_drv, unbuilt_drv } = world;
    validity(store, world);

    let info = store.path_info(b).unwrap().unwrap();
    assert_eq!(info.references, BTreeSet::from([a.clone(), b.clone()]).into_iter().collect::<Vec<_>>());
    assert!(info.ultimate && info.nar_size > 100 && info.registration_time > 1_600_000_000, "{info:?}");
    assert!(info.nar_hash.starts_with("sha256:") && info.nar_hash.len() == 7 + 64, "{info:?}");
    assert_eq!((info.signatures.len(), info.ca), (0, None));
    let of_c = store.path_info(c).unwrap().unwrap();
    assert_eq!(of_c.deriver.as_ref(), Some(c_drv.store_path()));
    let of_drv = store.path_info(a_drv.store_path()).unwrap().unwrap();
    assert!(!of_drv.ultimate && of_drv.ca.is_some_and(|ca| ca.starts_with("text:")));

    let names = |roots: &[&StorePath]| -> Vec<String> {
        let roots: Vec<_> = roots.iter().map(|root| (*root).clone()).collect();
        store.closure(&roots).unwrap().iter().map(|info| info.path.name().to_owned()).collect()
    };
    assert_eq!(names(&[]), [""; 0]);
    assert_eq!(names(&[a]), ["a"]);
    assert_eq!(names(&[c_dev]), ["a", "b", "c", "c-dev"]);
    assert_eq!(names(&[c_dev, b, a, c]), ["a", "b", "c", "c-dev"]);
    assert_eq!(names(&[b, c_dev]), ["a", "b", "c", "c-dev"]);
    assert_eq!(store.closure(std::slice::from_ref(b)).unwrap()[1], info_of(store, b));

    assert_eq!(store.outputs_of(a_drv).unwrap(), std::slice::from_ref(a));
    let both: Vec<_> = BTreeSet::from([c.clone(), c_dev.clone()]).into_iter().collect();
    assert_eq!(store.outputs_of(c_drv).unwrap(), both);
    assert_eq!(store.outputs_of(unbuilt_drv).unwrap(), []);
    let unknown = sibling(a, '7', "unknown.drv");
    assert_eq!(store.outputs_of(&DrvPath::try_from(unknown).unwrap()).unwrap(), []);
    listings(store, world);
}

fn info_of(store: &dyn Store, path: &StorePath) -> PathInfo {
    store.path_info(path).unwrap().unwrap()
}

/// A path of the same store.
fn sibling(of: &StorePath, digit: char, name: &str) -> StorePath {
    StorePath::parse_str(&format!("{}/{}-{name}", of.store_dir(), digit.to_string().repeat(32))).unwrap()
}

fn validity(store: &dyn Store, world: &World) {
    for path in [&world.a, &world.b, &world.c, &world.c_dev, world.a_drv.store_path()] {
        assert!(store.is_valid(path).unwrap(), "{path}");
        assert_eq!(path.store_dir(), store.store_dir());
    }
    let absent = sibling(&world.a, '7', "a");
    assert!(!store.is_valid(&absent).unwrap());
    let some = [&world.c, &absent, &world.a, &world.c].map(StorePath::clone);
    let valid = [&world.c, &world.a, &world.c].map(StorePath::clone);
    assert_eq!(store.valid_among(&some).unwrap(), valid, "in the order they were asked for");
    assert_eq!(store.valid_among(&[]).unwrap(), []);
    assert_eq!(store.realisations_of(&absent).unwrap(), []);
    assert_eq!(store.realisations_of(world.a_drv.store_path()).unwrap(), []);
    assert_eq!(store.path_info(&absent).unwrap(), None);
    let gone = store.closure(&[world.a.clone(), absent.clone()]).unwrap_err();
    assert!(matches!(&gone, StoreError::NotValid { path } if *path == absent), "{gone}");
    assert_eq!(gone.class(), Class::GiveUp);

    let foreign = StorePath::parse_str("/elsewhere/00000000000000000000000000000000-x.drv").unwrap();
    let foreign_drv = DrvPath::try_from(foreign.clone()).unwrap();
    let answers = [
        store.is_valid(&foreign).map(drop),
        store.path_info(&foreign).map(drop),
        store.closure(std::slice::from_ref(&foreign)).map(drop),
        store.outputs_of(&foreign_drv).map(drop),
        store.valid_among(&[world.a.clone(), foreign.clone()]).map(drop),
        store.realisations_of(&foreign).map(drop),
    ];
    for answer in answers {
        let error = answer.unwrap_err();
        assert!(matches!(&error, StoreError::NotInThisStore { .. }), "{error}");
        assert!(error.to_string().contains(store.store_dir()), "{error}");
    }
}

fn listings(store: &dyn Store, world: &World) {
    let built = Filter { ultimate_only: true, ..Filter::default() };
    let list = |filter: &Filter, limit| -> Vec<StorePath> {
        let (mut all, mut after) = (Vec::new(), Some(Cursor::default()));
        while let Some(cursor) = after {
            let page = store.valid_page(filter, cursor, limit).unwrap();
            assert!(page.paths.len() <= limit);
            all.extend(page.paths);
            after = page.next;
        }
        all
    };
    let everything = list(&Filter::default(), 1000);
    for limit in [1, 2, 3, everything.len()] {
        assert_eq!(list(&Filter::default(), limit), everything);
    }
    assert!(everything.contains(world.a_drv.store_path()));
    let own = list(&built, 2);
    let place = |path: &StorePath| own.iter().position(|one| one == path).unwrap();
    assert!(place(&world.a) < place(&world.b) && place(&world.b) < place(&world.c));
    assert_eq!(own.len(), 4, "{own:?}");
    assert!(own.iter().all(|path| everything.contains(path)));
    let since = |registered_since| Filter { registered_since: Some(registered_since), ..built };
    assert_eq!(list(&since(1_600_000_000), 10), own);
    assert_eq!(list(&since(u64::MAX), 10), []);
    let mut pages = Vec::new();
    all_valid(store, &built, |page| -> Result<(), StoreError> {
        pages.extend(page);
        Ok(())
    })
    .unwrap();
    assert_eq!(pages, own);
}

#[test]
fn the_fake_refuses_what_nix_refuses_and_can_be_down() {
    let (store, world) = fake();
    assert!(matches!(
        store.add_simple(&world.c, &[sibling(&world.a, '8', "x")]),
        Err(StoreError::NotValid { .. })
    ));
    assert!(store.remove(&world.a).is_err(), "b refers to it");
    store.remove(&world.c_dev).unwrap();
    assert_eq!(store.outputs_of(&world.c_drv).unwrap(), std::slice::from_ref(&world.c));
    store.set_down(Some("disk on fire"));
    let error = store.is_valid(&world.a).unwrap_err();
    assert!(error.to_string().contains("disk on fire") && error.class() == Class::Retry);
    store.set_down(None);
    assert!(store.is_valid(&world.a).unwrap());
}

#[test]
fn it_sees_what_was_committed_a_moment_ago() {
    let nix = Nix::new();
    let store = SqliteStore::new(nix.dirs());
    let error = store
        .is_valid(&StorePath::parse_str(&format!("{}/{}-x", nix.dirs().store(), "0".repeat(32))).unwrap());
    let error = error.unwrap_err();
    assert!(matches!(error, StoreError::NoDatabase { .. }), "{error}");
    assert_eq!(error.class(), Class::Retry);
    let daemon = nix.daemon(); // keeps the write-ahead log alive
    for seed in ["1", "2", "3"] {
        let path = nix.build_seeded(seed, &["seeded"]).remove(0);
        assert!(store.is_valid(&path).unwrap());
        assert_eq!(store.path_info(&path).unwrap().unwrap().path, path);
    }
    drop(daemon);
}

#[test]
fn a_replaced_database_is_opened_anew() {
    let (nix, world) = real();
    let store = SqliteStore::new(nix.dirs());
    assert!(store.is_valid(&world.c).unwrap());
    let db = nix.path("var/db");
    fs::rename(&db, nix.path("var/old-db")).unwrap();
    assert!(matches!(store.is_valid(&world.c), Err(StoreError::NoDatabase { .. })));
    nix.run("nix-store", &["--init"]);
    assert!(!store.is_valid(&world.c).unwrap());
}

#[test]
fn the_closure_is_what_nix_says() {
    let (nix, world) = real();
    let roots = [world.c_drv.store_path().clone(), world.c_dev.clone()];
    let ours: Vec<_> = SqliteStore::new(nix.dirs()).closure(&roots).unwrap();
    let mut theirs = nix.run("nix-store", &["-qR", roots[0].as_str(), roots[1].as_str()]);
    theirs.sort();
    theirs.dedup();
    let mut names: Vec<_> = ours.iter().map(|info| info.path.as_str().to_owned()).collect();
    names.sort();
    assert_eq!(names, theirs);
    in_order(&ours);
}

/// Each path comes once and after all it refers to.
pub(crate) fn in_order(closure: &[PathInfo]) {
    let place: HashMap<_, _> = closure.iter().enumerate().map(|(n, info)| (&info.path, n)).collect();
    assert_eq!(place.len(), closure.len());
    for info in closure {
        for reference in &info.references {
            assert!(place[reference] <= place[&info.path], "{reference} after {}", info.path);
        }
    }
}

#[test]
fn outputs_of_every_kind() {
    let nix = Nix::new();
    finds_outputs(&nix, &SqliteStore::new(nix.dirs()));
}

/// Outputs known before and after the build, of what is collected in part, and by their deriver alone.
pub(crate) fn finds_outputs(nix: &Nix, store: &dyn Store) {
    let [fod, ca, user, c]: [DrvPath; 4] = nix.drvs(&["fod", "ca", "user", "c"]).try_into().unwrap();
    for drv in [&fod, &ca, &user, &c] {
        assert_eq!(store.outputs_of(drv).unwrap(), [], "nothing is built yet");
    }
    for (attribute, drv) in [("fod", &fod), ("ca", &ca), ("user", &user)] {
        // The user is built from another derivation, with the content-addressed path filled in; it still is the output
        // of the one it was asked for by.
        let built = nix.one(attribute);
        assert_eq!(store.outputs_of(drv).unwrap(), [built], "{attribute}");
    }
    let built = nix.build(&["c", "c.dev"]);
    assert_eq!(
        store.outputs_of(&c).unwrap().into_iter().collect::<BTreeSet<_>>(),
        built.iter().cloned().collect()
    );
    nix.run("nix-store", &["--delete", built[1].as_str()]);
    assert_eq!(store.outputs_of(&c).unwrap(), [built[0].clone()], "one of two was collected");
    nix.run("nix-store", &["--delete", "--ignore-liveness", c.as_str()]);
    assert!(!store.is_valid(c.store_path()).unwrap());
    assert_eq!(store.outputs_of(&c).unwrap(), [built[0].clone()], "known by its deriver alone");
}

/// Sorted by id, without what they depend on.
fn ids(realisations: &[Realisation]) -> Vec<&str> {
    realisations.iter().map(|realisation| realisation.id.as_str()).collect()
}

#[test]
fn realisations_are_those_that_nix_copies() {
    let nix = Nix::new();
    let (ca, top, plain) = (nix.one("ca"), nix.one("catop"), nix.one("a"));
    let store = SqliteStore::new(nix.dirs());
    let cache = nix.path("cache");
    let url = format!("file://{}?compression=none", cache.display());
    let set = nix.path("set.nix");
    nix.run("nix", &["copy", "--to", &url, "--file", set.to_str().unwrap(), "catop"]);
    let mut theirs = BTreeMap::new();
    for entry in fs::read_dir(cache.join("realisations")).unwrap() {
        let value: serde_json::Value =
            serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        theirs.insert(value["id"].as_str().unwrap().to_owned(), value);
    }
    assert_eq!(theirs.len(), 2);
    let base = |path: &StorePath| serde_json::Value::from(path.base_name());
    let mut met = 0;
    for path in [&ca, &top] {
        let ours = store.realisations_of(path).unwrap();
        assert!(ids(&ours).is_sorted() && !ours.is_empty());
        for one in ours.iter().filter(|one| theirs.contains_key(&one.id)) {
            met += 1;
            let (value, dependents) = (&theirs[&one.id], &one.dependent_realisations);
            assert_eq!(
                (base(path), base(&one.out_path)),
                (value["outPath"].clone(), value["outPath"].clone())
            );
            let dependents: serde_json::Map<_, _> =
                dependents.iter().map(|(id, path)| (id.clone(), base(path))).collect();
            assert_eq!(serde_json::Value::from(dependents), value["dependentRealisations"]);
            assert_eq!(one.signatures, [""; 0]);
        }
    }
    assert_eq!(met, 2);
    // The daemon is asked by the deriver: for the top one that is the resolved derivation.
    let daemon = nix.daemon();
    let worker = WorkerStore::new(nix.dirs());
    assert_eq!(worker.realisations_of(&ca).unwrap(), store.realisations_of(&ca).unwrap());
    let by_deriver = worker.realisations_of(&top).unwrap();
    assert!(by_deriver.len() == 1 && store.realisations_of(&top).unwrap().contains(&by_deriver[0]));
    drop(daemon);
    // An older or a newer Nix has no such tables.
    let db = Connection::open(nix.dirs().database()).unwrap();
    db.execute_batch("DROP TABLE RealisationsRefs").unwrap();
    let bare = store.realisations_of(&top).unwrap();
    assert!(!bare.is_empty() && bare.iter().all(|one| one.dependent_realisations.is_empty()));
    db.execute_batch("DROP TABLE Realisations").unwrap();
    assert_eq!(store.realisations_of(&ca).unwrap(), []);
    assert_eq!(store.realisations_of(&plain).unwrap(), []);
}

#[test]
fn the_fake_knows_realisations() {
    let (store, world) = fake();
    let realisation = |id: &str, path: &StorePath| Realisation {
        id: id.to_owned(),
        out_path: path.clone(),
        signatures: vec![],
        dependent_realisations: BTreeMap::new(),
    };
    for id in ["sha256:b!out", "sha256:a!out"] {
        store.add_realisation(realisation(id, &world.c_dev)).unwrap();
    }
    let found = store.realisations_of(&world.c_dev).unwrap();
    assert_eq!(ids(&found), ["sha256:a!out", "sha256:b!out"]);
    let absent = realisation("sha256:c!out", &sibling(&world.a, '7', "a"));
    assert!(matches!(store.add_realisation(absent), Err(StoreError::NotValid { .. })));
    store.remove(&world.c_dev).unwrap();
    store.add_simple(&world.c_dev, &[]).unwrap();
    assert_eq!(store.realisations_of(&world.c_dev).unwrap(), [], "they went with their path");
}

#[test]
fn outputs_of_a_content_addressed_drv_in_a_newer_database() {
    let nix = Nix::new();
    let ca = nix.drvs(&["ca"]).remove(0);
    let built = nix.one("ca");
    let other = nix.one("a");
    let db = Connection::open(nix.dirs().database()).unwrap();
    db.execute_batch(
        "DROP TABLE RealisationsRefs; DROP TABLE Realisations; UPDATE ValidPaths SET deriver = NULL",
    )
    .unwrap();
    let store = SqliteStore::new(nix.dirs());
    assert_eq!(store.outputs_of(&ca).unwrap(), [], "no table of either kind, no deriver: nothing to go by");
    db.execute_batch(
        "CREATE TABLE BuildTrace (id integer primary key, drvPath text not null, outputName text not null, \
         outputPath integer not null, signatures text)",
    )
    .unwrap();
    for name in [ca.as_str(), ca.store_path().base_name()] {
        db.execute("DELETE FROM BuildTrace", []).unwrap();
        let insert = "INSERT INTO BuildTrace(drvPath, outputName, outputPath) \
                      SELECT ?1, ?2, id FROM ValidPaths WHERE path = ?3";
        db.execute(insert, params![name, "out", built.as_str()]).unwrap();
        db.execute(insert, params![name, "other", other.as_str()]).unwrap();
        assert_eq!(store.outputs_of(&ca).unwrap(), std::slice::from_ref(&built));
    }
}

#[test]
fn a_damaged_drv_is_named() {
    let nix = Nix::new();
    let a = nix.drvs(&["a"]).remove(0);
    let store = SqliteStore::new(nix.dirs());
    nix.run("chmod", &["u+w", a.as_str()]);
    fs::write(a.as_str(), "Derive(junk").unwrap();
    let error = store.outputs_of(&a).unwrap_err();
    assert!(
        matches!(&error, StoreError::Derivation { .. }) && error.to_string().contains(a.as_str()),
        "{error}"
    );
    // The form of newer Nix says nothing to us, so what the database notes must do.
    fs::write(a.as_str(), "DrvWithVersion(\"xp-dyn-drv\",").unwrap();
    assert_eq!(store.outputs_of(&a).unwrap(), []);
}

#[test]
fn a_foreign_database_is_refused_by_what_it_lacks() {
    let nix = Nix::new();
    nix.run("nix-store", &["--init"]);
    let store = SqliteStore::new(nix.dirs());
    let path = StorePath::parse_str(&format!("{}/{}-x", nix.dirs().store(), "0".repeat(32))).unwrap();
    assert!(!store.is_valid(&path).unwrap());
    let file = nix.dirs().database();
    let refusal = |sql: &str| {
        fs::remove_file(&file).unwrap();
        Connection::open(&file).unwrap().execute_batch(sql).unwrap();
        let error = store.is_valid(&path).unwrap_err();
        assert_eq!(error.class(), Class::GiveUp);
        error.to_string()
    };
    assert!(refusal("CREATE TABLE x(y)").contains("has no table ValidPaths"));
    assert!(refusal("CREATE TABLE ValidPaths(id, path)").contains("has no column ValidPaths.hash"));
    fs::remove_file(&file).unwrap();
    fs::write(&file, "no database at all, but long enough to look at: ".repeat(50)).unwrap();
    let error = store.is_valid(&path).unwrap_err();
    assert!(matches!(error, StoreError::Schema { .. }), "{error}");
}

#[test]
fn a_very_long_chain_and_many_paths() {
    const PATHS: u32 = 10_000;
    let nix = Nix::new();
    nix.run("nix-store", &["--init"]);
    let dirs = nix.dirs();
    let path = |n: u32| StorePath::parse_str(&format!("{}/{n:032}-p", dirs.store())).unwrap();
    let mut db = Connection::open(dirs.database()).unwrap();
    let tx = db.transaction().unwrap();
    for n in 0..PATHS {
        let insert = "INSERT INTO ValidPaths(id, path, hash, registrationTime, narSize, ultimate) \
                      VALUES (?1, ?2, 'sha256:0', ?1, 1, ?1 % 2)";
        tx.execute(insert, params![n + 1, path(n).as_str()]).unwrap();
        if n > 0 {
            tx.execute("INSERT INTO Refs VALUES (?1, ?2)", params![n + 1, n]).unwrap();
        }
    }
    tx.commit().unwrap();
    drop(db);
    let store = SqliteStore::new(dirs.clone());
    let begun = Instant::now();
    let closure = store.closure(&[path(PATHS - 1)]).unwrap();
    println!("closure of a chain of {PATHS}: {:?}", begun.elapsed());
    assert_eq!(closure.len(), PATHS as usize);
    in_order(&closure);
    let mut listed = 0;
    let begun = Instant::now();
    let filter = Filter { ultimate_only: true, registered_since: Some(1001) };
    all_valid(&store, &filter, |page| -> Result<(), StoreError> {
        listed += page.len();
        Ok(())
    })
    .unwrap();
    println!("listing {listed} of {PATHS}: {:?}", begun.elapsed());
    assert_eq!(listed, (PATHS as usize - 1000) / 2);
}

#[test]
fn several_threads_ask_while_nix_writes() {
    let (nix, world) = real();
    let store = SqliteStore::new(nix.dirs());
    let done = std::sync::atomic::AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let ask = || {
            let mut asked = 0_u32;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(store.closure(std::slice::from_ref(&world.c_dev)).unwrap().len(), 4);
                asked += 1;
            }
            asked
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(ask)).collect();
        for seed in 0..8 {
            nix.build_seeded(&format!("w{seed}"), &["seeded"]);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
    });
    assert!(asked > 6, "{asked}");
}

const STORE: &str = "NIX_STORE_TEST_STORE";
const ASKED: &str = "NIX_STORE_TEST_PATH";

/// Asks as a user who may not write the database's folder; prints what came of it.
#[test]
#[ignore = "the other process of a_user_without_rights_reads_while_a_daemon_runs"]
fn ask_without_rights() {
    let folder = std::env::var(STORE).unwrap();
    let folder = Path::new(&folder);
    let store =
        SqliteStore::new(nix_store::StoreDirs::new(folder.join("store"), folder.join("var")).unwrap());
    let path = StorePath::parse_str(&std::env::var(ASKED).unwrap()).unwrap();
    for _ in 0..2 {
        match store.is_valid(&path) {
            Ok(valid) => println!("\nanswer {valid}"),
            Err(error) => println!("\nanswer {error}: {}", std::error::Error::source(&error).unwrap()),
        }
    }
}

#[test]
fn a_user_without_rights_reads_while_a_daemon_runs() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let (nix, world) = real();
    let ask = || {
        let copy = nix.path("asker");
        test_kit::script::copy(&std::env::current_exe().unwrap(), &copy);
        let mut command = again("store::ask_without_rights", Some(&copy));
        command.env(STORE, nix.path("")).env(ASKED, world.a.as_str()).uid(65534).gid(65534);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let answers: Vec<_> =
            said.lines().filter_map(|line| line.strip_prefix("answer ")).map(str::to_owned).collect();
        assert_eq!(answers.len(), 2, "{said}");
        answers
    };
    for answer in ask() {
        assert!(answer.contains("start nix-daemon") && answer.contains("cannot reach"), "{answer}");
    }
    let daemon = nix.daemon();
    assert_eq!(ask(), ["true", "true"]);
    drop(daemon);
}
