//! The audit log: every privileged act is a row that says who did it, in the same transaction; and whatever is changed
//! afterwards is found.

use std::fs;

use hook_wire::{Status, Trust};
use serde_json::Value;
use sqlite_kit::rusqlite::Connection;
use test_kit::wait;

use crate::chaos::open_queue_db;
use crate::crash::dying_daemon;
use crate::frames::Frame;
use crate::nobody::{Nobody, UID};
use crate::world::{FOLDER_CACHE, SOON, World, same_world, tool};

/// The rows with these flags.
fn audit(world: &World, flags: &[&str]) -> Vec<Value> {
    let said = world.ask(&[&["audit", "--json"], flags].concat());
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn acts(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["act"].as_str().unwrap()).collect()
}

/// The exit code of `audit --verify`, its verdict.
fn verdict(world: &World, flags: &[&str]) -> (i32, Value) {
    let said = world.ask(&[&["audit", "--verify", "--json"], flags].concat());
    (said.code, serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}")))
}

/// Makes a key of this name in `$W/sign.sec`, in the place of the one that is there.
fn make_key(world: &World, name: &str) -> String {
    let (secret, public) = (world.path("sign.sec"), world.path("sign.pub"));
    for file in [&secret, &public] {
        let _ = fs::remove_file(file); // not there the first time
    }
    let mut make = world.tool("nix-store");
    let made = make.arg("--generate-binary-cache-key").arg(name).args([&secret, &public]).status();
    assert!(made.unwrap().success());
    fs::read_to_string(public).unwrap().trim().to_owned()
}

#[test]
fn every_privileged_act_is_a_row_that_says_who_did_it() {
    let fails = World::command_cache("fails", "exit 65", "");
    let caches = [FOLDER_CACHE, &fails].concat();
    let mut world = World::with_queue("signing_key_files = [\"$W/sign.sec\"]", &caches);
    let first_key = make_key(&world, "first-1");
    let paths = world.valid_paths(2);
    world.start();
    let ask = |arguments: &[&str], code: i32| {
        let said = world.ask(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
    };
    ask(&["pause", "fails"], 0);
    ask(&["push", &paths[0], "--tag", "by-hand", "--priority", "3"], 0);
    world.until("main", "done", 1);
    ask(&["resume"], 0);
    world.until("fails", "dead", 1);
    ask(&["retry", "--state", "dead"], 0);
    world.until("fails", "dead", 1);
    ask(&["drop", "--destination", "fails", &paths[0]], 0);
    let second_key = make_key(&world, "second-1");
    assert_eq!(world.hook(&paths[1], "").err, "");
    world.until("main", "done", 2);
    fs::remove_dir_all(world.path("cache")).unwrap();
    ask(&["pause", "main"], 0);
    ask(&["verify", "--destination", "main"], 1);
    ask(&["drain", "--timeout", "10ms"], 2);
    wait::until(SOON, || acts(&audit(&world, &[])).contains(&"call-off-drain"));
    let drv = format!("{}/00000000000000000000000000000000-claimed.drv", world.path("nix/store").display());
    let claim = Frame::claim(b'1', Trust::TrustedPush, 60).drv(&drv).to("main");
    assert_eq!(claim.send(&world).status, Status::Queued);
    assert_eq!(Frame::unclaim(b'1').send(&world).status, Status::Queued);

    let rows = audit(&world, &[]);
    let expected = [
        "start",
        "pause",
        "push",
        "keys",
        "resume",
        "retry",
        "drop",
        "keys",
        "pause",
        "requeue",
        "drain",
        "call-off-drain",
        "claim",
        "unclaim",
    ];
    assert_eq!(acts(&rows), expected, "{rows:#?}");
    for (at, (row, act)) in rows.iter().zip(expected).enumerate() {
        assert_eq!(row["seq"].as_u64(), Some(at as u64 + 1));
        let of_the_daemon = ["start", "keys"].contains(&act);
        let pid = row["pid"].as_u64().unwrap();
        assert_eq!(pid == u64::from(world.daemon_pid()), of_the_daemon, "{row}");
        assert!(pid > 0 && row["uid"].as_u64().is_some() && row["at"].as_str().unwrap().ends_with('Z'));
    }
    let me = tool("id").arg("-un").output().unwrap().stdout;
    assert_eq!(rows[1]["user"], String::from_utf8(me).unwrap().trim());
    let detail = |at: usize| &rows[at]["detail"];
    assert_eq!(detail(0)["keys"][0], first_key);
    assert_eq!(detail(0)["database"], "new");
    assert_eq!(detail(1)["destination"], "fails");
    assert_eq!((&detail(2)["tag"], &detail(2)["paths"][0]), (&"by-hand".into(), &paths[0].as_str().into()));
    assert_eq!((&detail(3)["now"][0], &detail(3)["before"]), (&first_key.as_str().into(), &Value::Null));
    assert_eq!(detail(5)["count"], 1);
    assert_eq!(detail(6)["selected"]["destination"], "fails");
    assert_eq!(detail(7)["before"][0], first_key);
    assert_eq!(detail(7)["now"][0], second_key);
    assert_eq!(detail(9)["count"], 2);
    assert_eq!(detail(12)["trust"], "trusted-push");
    assert_eq!((&detail(12)["drvs"][0], &detail(12)["to"][0]), (&drv.into(), &"main".into()));
    // Each row's head is in the log, where whoever keeps logs elsewhere has it.
    for row in &rows {
        let line = format!("audit {}: {} by ", row["head"].as_str().unwrap(), row["act"].as_str().unwrap());
        assert!(world.log().contains(&line), "no {line:?} in {}", world.log());
    }
    let said = world.ask(&["audit", "--verify"]);
    let head = rows[13]["head"].as_str().unwrap();
    assert_eq!(
        (said.code, said.out),
        (0, format!("14 rows, all as they were written; the head is {head}\n"))
    );

    assert_eq!(acts(&audit(&world, &["--act", "pause"])), ["pause", "pause"]);
    assert_eq!(acts(&audit(&world, &["--limit", "2"])), ["claim", "unclaim"]);
    assert_eq!(acts(&audit(&world, &["--act", "pause", "--limit", "1"])), ["pause"]);
    assert_eq!(audit(&world, &["--since", "@1"]).len(), 14);
    assert_eq!(audit(&world, &["--since", "2099-01-01"]).len(), 0);
    assert_eq!(world.ask(&["audit", "--act", "explode"]).code, 64);
    assert_eq!(world.ask(&["audit", "--since", "soon"]).code, 64);
    assert_eq!(world.ask(&["audit", "--verify", "--head", "7"]).code, 64);
    let line = world.ask(&["audit", "--limit", "1"]).out;
    assert!(line.contains("unclaim") && line.contains("process "), "{line}");
}

#[test]
fn a_start_with_another_configuration_or_database_says_so() {
    let mut world = World::new(FOLDER_CACHE);
    for caches in [FOLDER_CACHE, FOLDER_CACHE, &World::command_cache("other", "", "")] {
        world.configure("", caches);
        world.start();
        assert_eq!(world.stop(), 0);
    }
    // A copy that is put back.
    let (database, copy) = (world.path("state/queue.db"), world.path("copy"));
    fs::copy(&database, &copy).unwrap();
    fs::rename(&copy, &database).unwrap();
    world.start();
    let rows = audit(&world, &[]);
    let expected = ["start", "start", "start", "configure", "remove-destination", "add-destination", "start"];
    assert_eq!(acts(&rows), expected, "{rows:#?}");
    assert_eq!(rows[1]["detail"]["database"], "the same file as at the last start");
    assert_eq!(rows[4]["detail"]["destination"], "main");
    assert_eq!(rows[6]["detail"]["database"], "another file than at the last start: restored or moved");
    assert_eq!(verdict(&world, &[]).0, 0);
}

/// The triggers are for our own mistakes; whoever can write the file can drop them.
fn tamper(world: &World, sql: &str) {
    let conn = open_queue_db(world);
    assert!(conn.execute("UPDATE audit SET uid = 7", []).is_err(), "rows stay as they are");
    assert!(conn.execute("DELETE FROM audit", []).is_err(), "rows stay");
    conn.execute_batch(&format!("DROP TRIGGER audit_update; DROP TRIGGER audit_delete; {sql}")).unwrap();
}

/// The database as it was, without what a daemon that was killed left beside it.
fn put_back(world: &World) {
    for beside in ["state/queue.db-wal", "state/queue.db-shm"] {
        let _ = fs::remove_file(world.path(beside)); // not there when it ended by itself
    }
    fs::copy(world.path("whole.db"), world.path("state/queue.db")).unwrap();
}

#[test]
fn a_row_that_was_changed_taken_away_or_put_in_is_named() {
    let mut world = World::new(FOLDER_CACHE);
    world.start();
    for command in ["pause", "resume", "pause", "resume"] {
        assert_eq!(world.ask(&[command]).code, 0);
    }
    let head = audit(&world, &[])[4]["head"].as_str().unwrap().to_owned();
    assert_eq!(world.stop(), 0);
    fs::copy(world.path("state/queue.db"), world.path("whole.db")).unwrap();
    let cases = [
        ("UPDATE audit SET at_ms = at_ms + 1 WHERE seq = 3", 3),
        ("UPDATE audit SET act = 'Pause' WHERE seq = 2", 2),
        ("UPDATE audit SET uid = uid + 1 WHERE seq = 4", 4),
        ("UPDATE audit SET uid = -1 WHERE seq = 4", 4),
        ("UPDATE audit SET user = user || ' ' WHERE seq = 3", 3),
        ("UPDATE audit SET pid = 0 WHERE seq = 5", 5),
        ("UPDATE audit SET detail = replace(detail, '1', '2') WHERE seq = 3", 3),
        ("UPDATE audit SET detail = detail || x'00' WHERE seq = 3", 3),
        ("UPDATE audit SET detail = CAST(x'ff' AS TEXT) WHERE seq = 3", 3),
        ("UPDATE audit SET hash = zeroblob(32) WHERE seq = 4", 4),
        ("UPDATE audit SET hash = x'00' WHERE seq = 5", 5),
        ("DELETE FROM audit WHERE seq = 1", 1),
        ("DELETE FROM audit WHERE seq = 3", 3),
        ("DELETE FROM audit WHERE seq = 3; UPDATE audit SET seq = seq - 1 WHERE seq > 3", 3),
        ("INSERT INTO audit SELECT 0, at_ms, act, uid, user, pid, detail, hash FROM audit WHERE seq = 2", 1),
        (
            "UPDATE audit SET seq = seq + 100 WHERE seq > 2; UPDATE audit SET seq = seq - 99 WHERE seq > 100;
             INSERT INTO audit SELECT 3, at_ms, act, uid, user, pid, detail, hash FROM audit WHERE seq = 2",
            3,
        ),
        (
            "UPDATE audit SET seq = 100 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3;
             UPDATE audit SET seq = 3 WHERE seq = 100",
            2,
        ),
    ];
    for (sql, bad) in cases {
        put_back(&world);
        tamper(&world, sql);
        world.start();
        let (code, found) = verdict(&world, &[]);
        assert_eq!((code, found["bad_row"].as_u64()), (1, Some(bad)), "{sql}: {found}");
        let said = world.ask(&["audit", "--verify"]);
        assert!(said.out.starts_with("the audit log was tampered with: row "), "{said:?}");
        world.kill();
    }
    // The end alone is not missed, unless somebody noted it; and then also after new rows.
    put_back(&world);
    tamper(&world, "DELETE FROM audit WHERE seq > 4");
    world.start();
    assert_eq!(audit(&world, &[]).len(), 5, "with the row of this start");
    assert_eq!(verdict(&world, &[]).0, 0);
    let (code, found) = verdict(&world, &["--head", &head]);
    assert_eq!((code, found["bad_row"].as_u64()), (1, Some(5)), "{found}");
    assert!(found["why"].as_str().unwrap().contains("the log was written anew"), "{found}");
    let (code, found) = verdict(&world, &["--head", &head.replacen("5:", "9:", 1)]);
    assert!(code == 1 && found["why"].as_str().unwrap().contains("cut off the end"), "{found}");
    let now = verdict(&world, &[]).1["head"].as_str().unwrap().to_owned();
    assert_eq!(world.ask(&["pause"]).code, 0);
    assert_eq!(verdict(&world, &["--head", &now]).0, 0);
}

fn paused(conn: &Connection) -> bool {
    conn.query_row("SELECT paused FROM destination", [], |row| row.get(0)).unwrap()
}

fn last_act(conn: &Connection) -> String {
    conn.query_row("SELECT act FROM audit ORDER BY seq DESC", [], |row| row.get(0)).unwrap()
}

/// A database that takes the one and not the other takes neither.
#[test]
fn an_act_without_its_row_is_not_done_and_a_row_without_its_act_is_not_written() {
    let mut world = World::new(FOLDER_CACHE);
    let path = world.valid_paths(1).remove(0);
    world.start();
    let conn = open_queue_db(&world);
    let refuse = "CREATE TRIGGER no BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no row'); END";
    conn.execute_batch(refuse).unwrap();
    for arguments in [&["pause"][..], &["push", &path], &["drain"]] {
        let said = world.ask(arguments);
        assert_eq!(said.code, 69, "{arguments:?}: {said:?}");
    }
    assert_eq!((paused(&conn), world.list(&[]).len()), (false, 0));
    assert_eq!(world.status()["draining"], false);
    conn.execute_batch("DROP TRIGGER no").unwrap();
    let refuse =
        "CREATE TRIGGER no BEFORE UPDATE OF paused ON destination BEGIN SELECT RAISE(ABORT, 'no'); END";
    conn.execute_batch(refuse).unwrap();
    assert_eq!(world.ask(&["pause"]).code, 69);
    assert_eq!((paused(&conn), last_act(&conn)), (false, "start".to_owned()));
    conn.execute_batch("DROP TRIGGER no").unwrap();
    assert_eq!(world.ask(&["pause"]).code, 0);
    assert_eq!((paused(&conn), last_act(&conn)), (true, "pause".to_owned()));
}

/// A daemon that dies before its n-th change of a file, for every n: the act and its row are both there, or neither.
#[test]
fn killed_at_each_write_the_act_and_its_row_stay_together() {
    let mut world = World::new(FOLDER_CACHE);
    let mut seen = [0, 0];
    for point in 0.. {
        let _ = fs::remove_dir_all(world.path("state")); // not there the first time
        let _ = fs::remove_file(world.path("control.sock")); // likewise
        let mut daemon = dying_daemon(&world, point);
        let mut dead = || daemon.child().try_wait().unwrap().is_some();
        wait::until(SOON, || world.path("control.sock").exists() || dead());
        let asked = world.ask(&["pause"]).code;
        let survived = asked == 0 && !dead();
        daemon.kill().unwrap();
        world.start();
        let conn = open_queue_db(&world);
        let rows = acts(&audit(&world, &["--act", "pause"])).len();
        assert_eq!(usize::from(paused(&conn)), rows, "at {point}");
        assert!(asked != 0 || rows == 1, "what was acknowledged is there");
        assert_eq!(verdict(&world, &[]).0, 0);
        drop(conn);
        assert_eq!(world.stop(), 0);
        seen[rows] += 1;
        if survived {
            break;
        }
    }
    assert!(seen[0] > 5 && seen[1] > 0, "{seen:?}");
}

/// Another user whom the group lets in: its user is in the row, and it cannot choose which.
#[test]
fn the_row_names_the_user_that_the_kernel_names() {
    let mut world = World::new(FOLDER_CACHE);
    world.start();
    if Nobody::in_world(&world).is_none() {
        return;
    }
    for file in ["control.sock", "ekaci.toml"] {
        let given = tool("chown").arg(UID.to_string()).arg(world.path(file)).status();
        assert!(given.unwrap().success());
    }
    let program = world.path("eka-queue");
    crate::nobody::copy_program(crate::world::queue_program(), &program);
    let mut command = same_world(&world.tool("true"), "setpriv");
    command.args([&format!("--reuid={UID}"), &format!("--regid={UID}"), "--clear-groups"]).arg(program);
    let said = command.arg("--config-file").arg(world.config_file()).arg("pause").output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let rows = audit(&world, &["--act", "pause"]);
    assert_eq!(rows[0]["uid"], UID, "{rows:?}");
}
