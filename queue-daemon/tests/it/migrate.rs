//! Databases of earlier versions, of later ones, and of others (R17).

use std::fs;
use std::io::Write;
use std::process::Stdio;

use hook_wire::{FieldTag, Trust};
use serde_json::Value;
use sqlite_kit::rusqlite::Connection;
use test_kit::wait;

use crate::chaos::{assert_sound, open_queue_db};
use crate::crash::dying_daemon;
use crate::frames::Frame;
use crate::world::{SOON, Said, World, queue_program, run};

/// `queue.db` as schema 1 wrote it.
const SCHEMA_1: &str = include_str!("fixtures/schema-1.sql");
/// Everything in the fixture is old, whenever this runs.
const KEEP: &str = "keep_done = \"36500d\"\nkeep_dead = \"36500d\"";

/// The store paths of the fixture that are still valid, as `nix-store --load-db` takes them.
fn register(world: &World, paths: &[&str]) {
    let record = |path: &&str| format!("{path}\nsha256:{:064}\n1000\n\n0\n", 0);
    let records: String = paths.iter().map(record).collect();
    let mut load = world.tool("nix-store");
    let mut load = load.arg("--load-db").stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    load.stdin.take().unwrap().write_all(records.as_bytes()).unwrap();
    assert!(load.wait().unwrap().success(), "nix-store --load-db");
}

/// A world in which an earlier daemon has left this database.
fn left_behind(sql: &str) -> World {
    let caches = ["main", "held"].map(|id| World::command_cache(id, "", "")).concat();
    let world = World::with_queue(KEEP, &caches);
    leave_behind(&world, sql);
    world
}

fn leave_behind(world: &World, sql: &str) {
    fs::create_dir(world.path("state")).unwrap();
    let sql = sql.replace("@STORE@", world.path("nix/store").to_str().unwrap());
    open_queue_db(world).execute_batch(&sql).unwrap();
}

fn row<'r>(rows: &'r [Value], name: &str, destination: &str) -> &'r Value {
    let is =
        |row: &&Value| row["path"].as_str().unwrap().ends_with(name) && row["destination"] == destination;
    rows.iter().find(is).unwrap_or_else(|| panic!("no {name} at {destination} in {rows:?}"))
}

#[test]
fn the_rows_of_schema_1_are_kept_and_go_on() {
    let mut world = left_behind(SCHEMA_1);
    let store = world.path("nix/store");
    let path = |hash: &str| format!("{}/{hash}", store.display());
    let valid = [
        path("rghscqys556z409apfhyyqfimf3hg747-delivered"),
        path("gr4wvvzih422a83bfihyswplbkl509k0-refused"),
        path("x4qlicwqxawzk3d2y9na3a83gkc8fw02-failing"),
        path("yba1cp7j6m7dxg7912189pk2mcw4wn4h-pushing"),
        path("3l6sin46rycm9kvisb5dhfxaaxs2vhbl-queued"),
    ];
    register(&world, &valid.each_ref().map(String::as_str));
    world.start();

    let rows = world.list(&[]);
    assert_eq!(rows.len(), 11);
    let states = ["vanished", "delivered", "refused", "failing", "pushing"].map(|name| {
        let row = row(&rows, name, "main");
        (name, row["state"].as_str().unwrap().to_owned(), row["attempts"].as_u64().unwrap())
    });
    let expected = [
        ("vanished", "gone", 0),
        ("delivered", "done", 0),
        ("refused", "dead", 1),
        ("failing", "waiting", 1),
        ("pushing", "queued", 0), // its lease ended with the daemon that held it
    ];
    assert_eq!(states, expected.map(|(name, state, attempts)| (name, state.to_owned(), attempts)));
    assert!(
        world.log().contains("1 deliveries were under way when the daemon last ended"),
        "{}",
        world.log()
    );
    let refused = row(&rows, "refused", "main");
    assert_eq!(refused["last_error"], "/bin/sh exited 65: no such thing here");
    assert!(refused["drv"].as_str().unwrap().ends_with("-refused.drv"));
    let delivered = row(&rows, "delivered", "main");
    assert_eq!(delivered["receipt"], serde_json::json!({ "kind": "command", "exit": 0 }));
    assert_eq!(delivered["queued_at"], "2026-11-21T14:07:46.201Z");
    assert_eq!(world.list(&["--tag", "nightly"]).len(), 2, "the earlier of two tags is found as well");
    let shown = world.ask(&["show", "--json", &valid[0]]).out;
    let shown: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    assert_eq!(shown["requests"].as_array().unwrap().len(), 2);
    let status = world.status();
    assert_eq!(
        (&status["bytes_pushed"], &status["destinations"]["held"]["paused"]),
        (&128.into(), &true.into())
    );
    wait::until(SOON, || world.status()["gc_roots"] == 5);

    // The claim holds for what is built from now on. It is for an approved pull request and names no commit, so no cache
    // lets the build in until the run says more.
    let claimed = world.valid_paths(1).remove(0);
    let drv = format!("{}/00000000000000000000000000000000-claimed.drv", store.display());
    assert_eq!(world.hook(&claimed, &drv).err, "");
    assert_eq!(world.list(&[&claimed]).len(), 0);
    let more = Frame::claim(b'c', Trust::ApprovedPr, 600).with(FieldTag::Commit, "0123").drv(&drv).to("main");
    assert_eq!(more.send(&world).accepted, 1);
    assert_eq!(world.hook(&claimed, &drv).err, "");
    assert_eq!(world.list(&[&claimed])[0]["destination"], "main");
    assert_eq!(world.list(&[&claimed]).len(), 1);

    assert_eq!(world.ask(&["resume"]).code, 0);
    assert_eq!(world.ask(&["retry", "--state", "dead", "--state", "waiting"]).code, 0);
    world.until("main", "done", 5);
    world.until("held", "done", 5);
    assert_eq!(world.count("main", "gone"), 1);
    assert_eq!(world.stop(), 0);
    assert_sound(&world);
}

/// What the quota counts is in the file, not in the daemon.
#[test]
fn the_usage_of_schema_1_is_kept() {
    let mut world = left_behind(SCHEMA_1);
    world.configure(&format!("{KEEP}\nquota_per_uid = 7"), &World::command_cache("main", "", ""));
    world.start();
    let path = world.valid_paths(1).remove(0);
    assert_eq!(world.hook(&path, "").err, "");
    assert_eq!(world.status()["spool_files"], 1, "seven are owed already");
}

fn schema(world: &World) -> Vec<(String, Option<String>)> {
    let conn = open_queue_db(world);
    let mut found = conn.prepare("SELECT name, sql FROM sqlite_master ORDER BY name").unwrap();
    let rows = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// However old a file was, it ends with the tables that a new one has.
#[test]
fn a_migrated_file_has_the_tables_of_a_new_one() {
    let mut new = World::new("");
    let mut old = left_behind(SCHEMA_1);
    for world in [&mut new, &mut old] {
        world.start();
        assert_eq!(world.stop(), 0);
    }
    assert_eq!(schema(&old), schema(&new));
}

/// The version of the file, and what no version may lose: who is owed what, and what the CI claims.
fn kept(world: &World) -> (u32, Vec<String>) {
    let conn = open_queue_db(world);
    let rows = "SELECT path || ' to ' || destination || ' for ' || uid FROM delivery
                UNION ALL SELECT 'claim of ' || drv || ' for ' || destinations || ' until ' || until_ms FROM claim
                UNION ALL SELECT 'asked: ' || hex(key) FROM request ORDER BY 1";
    let mut rows = conn.prepare(rows).unwrap();
    let rows = rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    (conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap(), rows)
}

/// A daemon that dies before its n-th change of a file of the database, for every n until it gets through its start:
/// it leaves a whole file of one version or the next, and the one after it goes on from there.
#[test]
fn killed_at_each_write_of_the_migrations() {
    let mut world = left_behind(SCHEMA_1);
    let before = kept(&world);
    assert_eq!(before.0, 1);
    world.start();
    assert_eq!(world.stop(), 0);
    let (newest, tables) = (kept(&world).0, schema(&world));
    let mut versions = Vec::new();
    loop {
        fs::remove_dir_all(world.path("state")).unwrap();
        leave_behind(&world, SCHEMA_1);
        let mut daemon = dying_daemon(&world, versions.len());
        let mut dead = false;
        wait::until(SOON, || {
            dead = daemon.child().try_wait().unwrap().is_some();
            dead || world.path("enqueue.sock").exists()
        });
        daemon.kill().unwrap();
        let _ = fs::remove_file(world.path("enqueue.sock")); // not there when it died before
        let (version, rows) = kept(&world);
        assert_eq!(rows, before.1, "after {} writes", versions.len());
        assert!((1..=newest).contains(&version));
        world.start();
        assert_eq!((world.list(&[]).len(), world.stop()), (11, 0));
        assert_eq!(schema(&world), tables, "after {} writes", versions.len());
        assert_eq!(kept(&world), (newest, before.1.clone()));
        assert_sound(&world);
        if !dead {
            break;
        }
        versions.push(version);
    }
    println!("died at {} points, leaving {versions:?}", versions.len());
    assert!(versions.is_sorted() && (1..=newest).all(|version| versions.contains(&version)));
}

fn serve(world: &World) -> Said {
    let mut serve = world.tool(queue_program());
    run(serve.arg("serve").arg("--config-file").arg(world.path("ekaci.toml")), b"")
}

/// A daemon that was set back must not write into what its successor wrote.
#[test]
fn a_file_of_a_later_version_is_refused_and_left_alone() {
    let world = left_behind(&SCHEMA_1.replace("PRAGMA user_version=1;", "PRAGMA user_version=99;"));
    let before = fs::read(world.path("state/queue.db")).unwrap();
    let said = serve(&world);
    assert_eq!(said.code, 70);
    assert!(said.err.contains("99"), "{said:?}");
    assert!(said.err.contains(world.path("state/queue.db").to_str().unwrap()), "{said:?}");
    assert_eq!(fs::read(world.path("state/queue.db")).unwrap(), before);
}

#[test]
fn a_file_of_another_program_is_refused_and_left_alone() {
    let world =
        left_behind("PRAGMA application_id=7; CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);");
    let said = serve(&world);
    assert_eq!(said.code, 70);
    assert!(said.err.contains(world.path("state/queue.db").to_str().unwrap()), "{said:?}");
    let conn: Connection = open_queue_db(&world);
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1, "nothing was added to it");
}
