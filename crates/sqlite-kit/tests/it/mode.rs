//! Who may read a database: its owner alone, in whatever umask it is made, the files beside it included; and a mode that
//! somebody chose stays. The umask belongs to a whole process, so each one has a child of its own.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use sqlite_kit::Writer;
use test_kit::proc::{Guard, this_test_binary};

use crate::kit::{Db, MIGRATIONS, SOON, insert, options};

const FOLDER: &str = "EKA_TEST_MODE_FOLDER";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Makes a database in this folder in this umask, in a process that ends without closing it.
#[expect(clippy::disallowed_methods, reason = "a shell sets the umask of a test's child")]
fn make(folder: &Path, umask: &str) {
    let child = this_test_binary("mode::a_database_that_is_left_open");
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask $0; exec \"$@\"", umask]).arg(child.get_program()).args(child.get_args());
    shell.env(FOLDER, folder).stdout(Stdio::null());
    assert!(Guard::spawn(&mut shell).unwrap().wait(SOON).success());
}

#[test]
fn a_new_database_is_its_owners_alone_in_any_umask() {
    for umask in ["0000", "0022", "0077", "0777"] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), umask);
        let modes = ["db", "db-wal", "db-shm"].map(|name| mode(&dir.path().join(name)));
        assert_eq!(modes.map(|mode| format!("{mode:o}")), ["600"; 3], "umask {umask}");
    }
}

/// The child: it ends as a killed one does, so that the files beside the database stay.
#[test]
#[ignore = "the child of a_new_database_is_its_owners_alone_in_any_umask"]
fn a_database_that_is_left_open() {
    let folder = std::env::var_os(FOLDER).unwrap();
    let (writer, _thread) = Writer::open(&options(Path::new(&folder)), MIGRATIONS).unwrap();
    writer.call_blocking(sqlite_kit::Lane::Urgent, |tx| insert(tx, 1)).unwrap();
    std::process::exit(0);
}

#[test]
fn what_is_there_keeps_its_mode() {
    let db = Db::new();
    let file = |suffix: &str| db.dir.path().join(format!("db{suffix}"));
    db.thread.stop();
    fs::set_permissions(file(""), Permissions::from_mode(0o640)).unwrap();
    let (writer, _thread) = Writer::open(&db.options, MIGRATIONS).unwrap();
    writer.call_blocking(sqlite_kit::Lane::Urgent, |tx| insert(tx, 1)).unwrap();
    assert_eq!(["", "-wal", "-shm"].map(|suffix| mode(&file(suffix))), [0o640; 3]);
}

#[test]
fn behind_a_link_the_file_itself_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    symlink("elsewhere/db", dir.path().join("db")).unwrap();
    make(dir.path(), "0000");
    assert_eq!(mode(&dir.path().join("elsewhere/db")), 0o600);
}
