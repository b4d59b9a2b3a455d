//! A copy of a database in use: complete, alone in its file, and never half there.

use sqlite_kit::{Error, open_foreign_read_only};

use crate::kit::{Db, numbers};

#[test]
fn a_copy_holds_what_was_committed() {
    let db = Db::new();
    for n in 0..100 {
        db.insert(n).unwrap();
    }
    let target = db.dir.path().join("copy");
    std::fs::write(&target, "an older copy").unwrap();
    db.reader().backup(&target).unwrap();
    db.insert(100).unwrap();
    let copy = open_foreign_read_only(&target).unwrap();
    assert_eq!(numbers(&copy).unwrap().len(), 100);
    let id: u32 = copy.query_row("PRAGMA application_id", [], |row| row.get(0)).unwrap();
    assert_eq!(id, crate::kit::ID);
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
            reader.backup(&db.dir.path().join("copy")).unwrap();
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
    let error = db.reader().backup(&target).unwrap_err();
    assert!(matches!(error, Error::Backup { doing: "copy", .. }), "{error:?}");
    let taken = db.dir.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    let error = db.reader().backup(&taken).unwrap_err();
    assert!(matches!(error, Error::Backup { doing: "name the copy", .. }), "{error:?}");
    assert!(!db.dir.path().join("taken.partial").exists());
}
