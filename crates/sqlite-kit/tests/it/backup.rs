//! A copy of a database in use: complete, alone in its file, and never half there.

use std::os::unix::fs::{FileExt, PermissionsExt};

use sqlite_kit::{Error, Migration, Options, check, copy, open_foreign_read_only, rusqlite};

use crate::kit::{Db, ID, MIGRATIONS, numbers, options};

#[test]
fn a_copy_holds_what_was_committed() {
    let db = Db::new();
    for n in 0..100 {
        db.insert(n).unwrap();
    }
    let target = db.dir.path().join("copy");
    std::fs::write(&target, "an older copy").unwrap();
    db.reader().backup(&target, |_| Ok(())).unwrap();
    db.insert(100).unwrap();
    let copy = open_foreign_read_only(&target).unwrap();
    assert_eq!(numbers(&copy).unwrap().len(), 100);
    let id: u32 = copy.query_row("PRAGMA application_id", [], |row| row.get(0)).unwrap();
    assert_eq!(id, ID);
    assert!(!db.dir.path().join("copy.partial").exists());
    assert!(!db.dir.path().join("copy-wal").exists());
}

#[test]
fn a_copy_can_be_made_while_others_write() {
    let db = Db::new();
    let reader = db.reader();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| (0..300).for_each(|n| db.insert(n).unwrap()));
        let mut made = 0;
        while !writing.is_finished() || made == 0 {
            reader.backup(&db.dir.path().join("copy"), |_| Ok(())).unwrap();
            let found = numbers(&open_foreign_read_only(&db.dir.path().join("copy")).unwrap()).unwrap();
            let wanted: Vec<i64> = (0..i64::try_from(found.len()).unwrap()).collect();
            assert_eq!(found, wanted, "a copy is a prefix of what was committed");
            made += 1;
        }
    });
}

#[test]
fn a_copy_that_fails_leaves_nothing() {
    let db = Db::new();
    let target = db.dir.path().join("no/such/folder/copy");
    let error = db.reader().backup(&target, |_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Backup { doing: "copy", .. }), "{error:?}");
    let taken = db.dir.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    let error = db.reader().backup(&taken, |_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Backup { doing: "name the copy", .. }), "{error:?}");
    assert!(!db.dir.path().join("taken.partial").exists());
}

#[test]
fn a_copy_is_stamped_and_for_its_owner_alone() {
    let db = Db::new();
    db.insert(1).unwrap();
    let target = db.dir.path().join("copy");
    let stamp =
        |conn: &rusqlite::Connection| conn.execute("INSERT INTO item VALUES (99, zeroblob(1))", []).map(drop);
    let copied = db.reader().backup(&target, stamp).unwrap();
    let meta = std::fs::metadata(&target).unwrap();
    assert_eq!((copied.schema, copied.bytes), (1, meta.len()));
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    let copy = Options { path: target, ..options(db.dir.path()) };
    assert_eq!(check(&copy, MIGRATIONS, numbers).unwrap(), (1, vec![1, 99]));
    assert_eq!(db.items(), [1], "the database itself is as it was");
}

/// A copy of an earlier schema keeps it; what is newer, of others, or damaged is refused by name.
#[test]
fn what_is_no_database_of_ours_is_not_copied() {
    let db = Db::new();
    for n in 0..2_000 {
        db.insert(n).unwrap();
    }
    let (source, target) = (options(db.dir.path()), db.dir.path().join("copy"));
    let later = [MIGRATIONS[0], Migration { version: 2, name: "later", sql: "" }];
    assert_eq!(copy(&source, &later, &target, |_| Ok(())).unwrap().schema, 1);
    assert!(matches!(copy(&source, &[], &target, |_| Ok(())), Err(Error::SchemaNewer { .. })));
    let other = Options { application_id: ID + 1, ..source.clone() };
    assert!(matches!(copy(&other, MIGRATIONS, &target, |_| Ok(())), Err(Error::Foreign { .. })));
    let copied = Options { path: target.clone(), ..source };
    std::fs::write(db.dir.path().join("empty"), "").unwrap();
    let empty = Options { path: db.dir.path().join("empty"), ..copied.clone() };
    assert!(matches!(check(&empty, MIGRATIONS, |_| Ok(())), Err(Error::Foreign { found: 0, .. })));
    std::fs::write(&empty.path, "no database at all, and long enough to be read as one".repeat(100)).unwrap();
    assert!(matches!(check(&empty, MIGRATIONS, |_| Ok(())), Err(Error::NotADatabase { .. })));

    let file = std::fs::OpenOptions::new().write(true).open(&target).unwrap();
    file.write_all_at(&[0xff; 64], 3 * 4096 + 8).unwrap();
    let damaged = check(&copied, MIGRATIONS, |_| Ok(())).unwrap_err();
    assert!(matches!(damaged, Error::Damaged { .. } | Error::Read { .. }), "{damaged:?}");
    file.set_len(2 * 4096).unwrap();
    assert!(check(&copied, MIGRATIONS, |_| Ok(())).is_err(), "cut off");
}
