//! Objects in a folder: when they are seen, in which order, and what is left of those that are not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use object_kit::{BodySize, Chunks, Class, File, NewObject, Objects};
use service_kit::clock::Clock;
use test_kit::tmpfs::Tmpfs;

use crate::support::{bytes, meta, told};

fn place(root: &Path) -> File {
    File::new(root, Clock::system(), Vec::new())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn nothing_is_seen_before_it_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a/cache");
    let place = place(&root);
    for i in 0..300 {
        place.put(&format!("nar/{i}"), bytes(i), &meta()).await.unwrap();
    }
    assert_eq!(place.head("nar/7").await.unwrap(), None);
    assert!(names(&root.join("nar")).iter().all(|name| name.starts_with('.')));
    place.settle().await.unwrap();
    assert_eq!(names(&root.join("nar")).len(), 300);
    assert_eq!(fs::read(root.join("nar/299")).unwrap(), bytes(299));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&root), mode(&root.join("nar")), mode(&root.join("nar/7"))), (0o755, 0o755, 0o644));
}

#[tokio::test]
async fn what_is_not_settled_goes_with_its_writer() {
    let dir = tempfile::tempdir().unwrap();
    let one = place(dir.path());
    one.put("x", bytes(5), &meta()).await.unwrap();
    for number in 0..50 {
        one.put(&format!("x{number}"), bytes(5), &meta()).await.unwrap();
    }
    assert_eq!(names(dir.path()).len(), 51);
    drop(one);
    // Not on the thread that runs what tidies up.
    let folder = dir.path().to_owned();
    crate::support::until(move || names(&folder).is_empty()).await;
}

#[tokio::test]
async fn another_writers_object_that_came_between_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (place(dir.path()), place(dir.path()));
    one.put("x", Bytes::from_static(b"one"), &meta().create()).await.unwrap();
    other.put("x", Bytes::from_static(b"other"), &meta().create()).await.unwrap();
    other.settle().await.unwrap();
    one.settle().await.unwrap();
    assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"other");
    assert_eq!(names(dir.path()), ["x"]);
}

#[tokio::test]
async fn a_settle_that_fails_publishes_nothing_more_and_the_next_may_work() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path());
    fs::create_dir(dir.path().join("b")).unwrap();
    for key in ["a", "b", "c"] {
        place.put(key, bytes(5), &meta()).await.unwrap();
    }
    let error = place.settle().await.unwrap_err();
    assert_eq!(error.class, Class::Local, "{}", told(&error));
    assert_eq!(names(dir.path()), ["a", "b"], "in the order of the puts, up to the one that failed");
    place.put("c", bytes(5), &meta()).await.unwrap();
    place.settle().await.unwrap();
    assert_eq!(names(dir.path()), ["a", "b", "c"]);
}

#[tokio::test]
async fn many_at_once_end_behind_the_first_that_fails_and_are_read_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path());
    fs::write(dir.path().join("file"), "").unwrap();
    let new = |key: &str| NewObject { key: key.into(), body: Bytes::from(key.to_owned()), meta: meta() };
    let put = place.put_all(&[new("a"), new("file/below"), new("c")]).await;
    assert!(
        put[0].is_ok() && put[1].as_ref().is_err_and(|error| error.key.as_deref() == Some("file/below")),
        "{put:?}"
    );
    assert_eq!(put.len(), 2, "the third was not tried");
    place.settle().await.unwrap();
    assert_eq!(names(dir.path()), ["a", "file"]);
    // Enough of them for one flush of the whole file system.
    let many: Vec<NewObject> = (0..40).map(|i| new(&format!("n{i}"))).collect();
    assert!(place.put_all(&many).await.iter().all(Result::is_ok));
    place.settle().await.unwrap();
    let keys = ["n39", "absent", "../a", "n0"].map(str::to_owned);
    let found = place.get_all(&keys, 100).await;
    let text = |at: usize| found[at].as_ref().unwrap().as_ref().map(|found| found.bytes.clone());
    assert_eq!((text(0), text(1), text(3)), (Some("n39".into()), None, Some("n0".into())));
    assert!(found[2].is_err(), "no key leads out of the folder");
}

/// A long object is flushed while it comes, and is whole.
#[tokio::test]
async fn a_long_object_is_what_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path());
    let chunk = bytes(1 << 20);
    let mut body = Chunks::new(vec![chunk.clone(); 50]);
    place.put_stream("long", &mut body, &meta(), BodySize::exact(50 << 20)).await.unwrap();
    place.settle().await.unwrap();
    let written = fs::read(dir.path().join("long")).unwrap();
    assert!(written.len() == 50 << 20 && written.chunks(1 << 20).all(|part| part == chunk));
}

#[tokio::test]
async fn left_over_temporary_files_of_the_dead_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, manual) = Clock::manual(Clock::system().now());
    let place = File::new(dir.path(), clock, Vec::new());
    let ours = format!(".x.{}.0.tmp", std::process::id());
    // No process has a number that large.
    for name in [".x.narinfo.4194999.3.tmp", &ours, ".x.1.0.tmp", ".other.tmp", "x.narinfo"] {
        fs::write(dir.path().join(name), "12345").unwrap();
    }
    assert_eq!(place.sweep(&["", "nar"]).await.unwrap().files, 0, "they are young");
    manual.step(std::time::Duration::from_secs(25 * 3600));
    let swept = place.sweep(&["", "nar"]).await.unwrap();
    assert_eq!((swept.files, swept.bytes), (1, 5));
    assert_eq!(names(dir.path()), [".other.tmp", ".x.1.0.tmp", ours.as_str(), "x.narinfo"]);
}

#[tokio::test]
async fn a_full_disk_is_our_own_fault_and_leaves_nothing() {
    let tmpfs = match Tmpfs::mount(1 << 20) {
        Ok(tmpfs) => tmpfs,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let place = place(tmpfs.path());
    place.put("small", bytes(5), &meta()).await.unwrap();
    let mut body = Chunks::new(vec![bytes(300_000); 5]);
    let error = place.put_stream("large", &mut body, &meta(), BodySize::at_most(1 << 30)).await.unwrap_err();
    assert_eq!(error.class, Class::Local);
    assert!(told(&error).contains("No space left on device"), "{}", told(&error));
    place.settle().await.unwrap();
    assert_eq!(names(tmpfs.path()), ["small"]);
}
