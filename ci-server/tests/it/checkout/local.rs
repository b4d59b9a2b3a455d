//! Repositories on this machine: what is written is what git has, and the repository is as it was.

use std::fs;
use std::os::unix::fs::MetadataExt;

use ci_server::checkout::{Bounds, CheckoutError, Class, Mirrors, Places, RefName, Remote, Rev};
use service_kit::clock::Clock;

use super::support::{World, everything, set_mode};

#[tokio::test]
async fn what_is_written_is_what_git_has_and_nobody_can_change_it() {
    let world = World::new();
    let repo = world.repo("r");
    repo.write("a.nix", "{ }\n");
    repo.write("bin/run", "#!/bin/sh\r\n$Id$ $Format:%H$\r\n");
    set_mode(&repo.path.join("bin/run"), 0o755);
    repo.write("text", "first\r\nsecond\n");
    repo.write(".gitattributes", "* text=auto eol=crlf ident export-subst working-tree-encoding=UTF-16\n");
    std::os::unix::fs::symlink("../a.nix", repo.path.join("bin/link")).unwrap();
    repo.git(&["config", "core.attributesFile", "/dev/null"]);
    fs::write(repo.path.join(".git/info/attributes"), "* -text -ident -working-tree-encoding\n").unwrap();
    let commit = repo.commit("one");
    let before = everything(&repo.path);

    let placed = world.checkout(&repo, &commit).await.unwrap();
    let folder = &placed.source.folder;
    assert_eq!(placed.source.tree.as_str(), repo.git(&["rev-parse", "HEAD^{tree}"]));
    assert_eq!(fs::read(folder.join("text")).unwrap(), b"first\r\nsecond\n");
    assert_eq!(fs::read(folder.join("bin/run")).unwrap(), b"#!/bin/sh\r\n$Id$ $Format:%H$\r\n");
    assert_eq!(fs::read_link(folder.join("bin/link")).unwrap().to_str(), Some("../a.nix"));
    for (path, mode) in [("", 0o40555), ("bin", 0o40555), ("bin/run", 0o100_555), ("a.nix", 0o100_444)] {
        let meta = fs::symlink_metadata(folder.join(path)).unwrap();
        assert_eq!((meta.mode(), meta.mtime()), (mode, 1), "{path}");
    }
    assert!(!folder.join(".git").exists());
    assert_eq!(everything(&repo.path), before, "the repository is not as it was");
}

#[tokio::test]
async fn the_same_tree_lies_in_one_folder_and_goes_when_nobody_uses_it() {
    let world = World::within(Bounds { kept_bytes: 0, ..Bounds::default() });
    let repo = world.repo("r");
    repo.write("a", "1");
    let one = repo.commit("one");
    let two = repo.commit("two, empty");
    let (first, second) = tokio::join!(world.checkout(&repo, &one), world.checkout(&repo, &two));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.source.folder, second.source.folder);
    let tree = world.path("places").join(first.source.tree.as_str());
    assert_eq!(first.source.folder, fs::canonicalize(tree).unwrap().join("source"), "its name is no tree's");
    assert_eq!((first.source.commit.as_ref(), second.source.commit.as_ref()), (Some(&one), Some(&two)));
    let folder = first.source.folder.clone();
    drop(first);
    assert!(folder.join("a").is_file(), "it is still in use");
    drop(second);
    // A child that is just being started elsewhere may hold the lock for a moment; the next look finds it free.
    test_kit::wait::until(std::time::Duration::from_secs(10), || {
        Places::open(&world.path("places"), world.bounds.clone(), Clock::system()).unwrap();
        !folder.exists()
    });
    let left: Vec<_> =
        fs::read_dir(world.path("places")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".ekaci-checkouts"]);
}

#[tokio::test]
async fn what_was_not_used_for_longest_makes_room() {
    let world = World::within(Bounds { kept_bytes: 10_000, ..Bounds::default() });
    let repo = world.repo("r");
    let mut folders = Vec::new();
    for n in 0..4 {
        repo.write("a", n.to_string());
        let placed = world.checkout(&repo, &repo.commit("c")).await.unwrap();
        folders.push(placed.source.folder.clone());
    }
    let there: Vec<_> = folders.iter().map(|folder| folder.exists()).collect();
    assert_eq!(there, [false, false, true, true]);
}

#[tokio::test]
async fn a_start_removes_what_a_killed_process_left_and_nothing_else() {
    let world = World::new();
    let repo = world.repo("r");
    repo.write("d/a", "1");
    let placed = world.checkout(&repo, &repo.commit("c")).await.unwrap();
    let places = world.path("places");
    fs::create_dir_all(places.join("draft-x/d")).unwrap();
    fs::write(places.join("draft-x/d/f"), "").unwrap();
    set_mode(&places.join("draft-x/d"), 0o555);
    fs::write(places.join("draft-x.lock"), "").unwrap();
    let mirrors = world.path("mirrors");
    fs::create_dir_all(mirrors.join("look-x/objects")).unwrap();
    fs::write(mirrors.join("look-x/lock"), "").unwrap();
    fs::create_dir_all(mirrors.join("look-y")).unwrap(); // whose maker was killed before it had a lock
    Places::open(&places, world.bounds.clone(), Clock::system()).unwrap();
    Mirrors::open(&mirrors, world.bounds.clone(), Clock::system()).unwrap();
    assert!(!places.join("draft-x").exists() && !places.join("draft-x.lock").exists());
    assert!(!mirrors.join("look-x").exists() && !mirrors.join("look-y").exists());
    assert!(placed.source.folder.join("d/a").is_file());

    // A power cut may have emptied what was written before the machine was started.
    let (tree, folder) = (placed.source.tree.clone(), placed.source.folder.clone());
    drop(placed);
    set_mode(&folder.join("d"), 0o755);
    fs::remove_file(folder.join("d/a")).unwrap();
    fs::write(folder.join("d/a"), "").unwrap();
    fs::write(places.join(tree.as_str()).with_extension("lock"), "4097\nanother-life\n").unwrap();
    let placed = world.checkout(&repo, &repo.head()).await.unwrap();
    assert_eq!(fs::read_to_string(placed.source.folder.join("d/a")).unwrap(), "1");

    // What has no files is no checkout: it is written anew.
    let (commit, folder) = (repo.head(), placed.source.folder.clone());
    drop(placed);
    set_mode(folder.parent().unwrap(), 0o755);
    set_mode(&folder, 0o755);
    fs::rename(&folder, folder.with_file_name("other")).unwrap();
    let placed = world.checkout(&repo, &commit).await.unwrap();
    assert!(placed.source.folder.join("d/a").is_file() && !folder.with_file_name("other").exists());

    let others = world.path("others");
    fs::create_dir(&others).unwrap();
    fs::write(others.join("precious"), "").unwrap();
    let error = Places::open(&others, world.bounds.clone(), Clock::system()).unwrap_err();
    assert!(matches!(error, CheckoutError::NotOurs { .. }), "{error}");
    assert!(others.join("precious").is_file());
}

#[tokio::test]
async fn changed_files_have_their_names_however_odd() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let repo = world.repo("r");
    let odd: [&[u8]; 5] = [b"a\nb", b"tab\tx", b"-rf", "größe 数".as_bytes(), b"quote\"\\"];
    repo.write("same", "1");
    repo.write("old", "moved");
    let base = repo.commit("base");
    for name in odd {
        repo.write(std::ffi::OsStr::from_bytes(name), "x");
    }
    repo.write(std::ffi::OsStr::from_bytes(b"d/\xff\xfe"), "x");
    fs::rename(repo.path.join("old"), repo.path.join("new")).unwrap();
    let head = repo.commit("head");
    let mirror = world.fetch(&repo, &head).await.unwrap().mirror;
    let mut expected: Vec<String> =
        odd.iter().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect();
    expected.extend(["\"d/\\377\\376\"", "new", "old"].map(str::to_owned));
    expected.sort();
    assert_eq!(mirror.changed_paths(&base, &head).await.unwrap(), expected);
    assert_eq!(mirror.changed_paths(&head, &head).await.unwrap(), [""; 0]);
    let placed = mirror.materialise(&head, &world.places).await.unwrap();
    for name in odd {
        assert!(placed.source.folder.join(std::ffi::OsStr::from_bytes(name)).is_file(), "{name:?}");
    }
}

#[tokio::test]
async fn a_file_is_read_from_the_commit_and_nothing_else_is() {
    let world = World::new();
    let repo = world.repo("r");
    repo.write(".ekaci/config.json", "{}");
    repo.write("big", vec![b'x'; 1000]);
    std::os::unix::fs::symlink(".ekaci", repo.path.join("linked")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", repo.path.join("passwd")).unwrap();
    let commit = repo.commit("c");
    let mirror = world.fetch(&repo, &commit).await.unwrap().mirror;
    let blob = mirror.blob(&commit, ".ekaci/config.json", 100).await.unwrap().unwrap();
    assert_eq!((blob.bytes.as_slice(), blob.id.len()), (&b"{}"[..], 40));
    assert_eq!(mirror.blob(&commit, ".eka-ci/config.json", 100).await.unwrap(), None);
    assert_eq!(mirror.blob(&commit, "big/x", 100).await.unwrap(), None);
    assert_eq!(mirror.blob(&commit, "b*", 100_000).await.unwrap(), None);
    for (path, why) in [
        ("passwd", "is a link"),
        ("linked/config.json", "is a link"),
        (".ekaci", "is a folder"),
        ("big", "has 1000 bytes, more than the limit of 999"),
        ("../x", "leads elsewhere"),
        ("/etc/passwd", "no path within"),
        (".git/config", "git's own"),
        ("a\0b", "NUL"),
    ] {
        let error = mirror.blob(&commit, path, 999).await.unwrap_err();
        assert!(error.to_string().contains(why), "{path}: {error}");
        assert_eq!(error.class(), Class::Permanent);
    }
}

#[tokio::test]
async fn what_is_not_there_is_named_with_the_remedy() {
    let world = World::new();
    let repo = world.repo("r");
    repo.commit("c");
    let none = "1".repeat(40).parse().unwrap();
    let error = world.fetch(&repo, &none).await.unwrap_err();
    assert!(error.to_string().contains(&format!("has no commit {none}; push it there")), "{error}");
    let error = world.branch(&repo, "none").await.unwrap_err();
    assert!(error.to_string().contains("has no refs/heads/none"), "{error}");
    assert_eq!(world.branch(&repo, "main").await.unwrap().commits, [repo.head()]);
    let nowhere = Remote::local(&world.path("nowhere")).unwrap();
    let error = world.mirrors.fetch(&nowhere, None, &[]).await.unwrap_err();
    assert!(matches!(error, CheckoutError::NoRepository { .. }), "{error}");
}

#[tokio::test]
async fn bare_repositories_and_others_with_long_hashes_are_read_too() {
    let world = World::new();
    let repo = world.repo("r");
    repo.write("a", "1");
    let commit = repo.commit("c");
    repo.git(&["clone", "-q", "--bare", ".", "../bare.git"]);
    let remote: Remote = format!("file://{}", world.path("bare.git").display()).parse().unwrap();
    let wanted = ci_server::checkout::Wanted::Ref("refs/heads/main".parse().unwrap());
    assert_eq!(world.mirrors.fetch(&remote, None, &[wanted]).await.unwrap().commits, [commit]);

    let path = world.path("long");
    fs::create_dir(&path).unwrap();
    let long = super::support::Repo { path };
    long.git(&["init", "-q", "-b", "main", "--object-format=sha256"]);
    long.write("a", "1");
    let commit = long.commit("c");
    assert_eq!(commit.as_str().len(), 64);
    let placed = world.checkout(&long, &commit).await.unwrap();
    assert_eq!(fs::read(placed.source.folder.join("a")).unwrap(), b"1");
    let snapshot = world.worktree(&long).await.snapshot(&world.places).await.unwrap();
    assert_eq!(snapshot.placed.source.folder, placed.source.folder);
}

#[test]
fn text_that_could_be_an_option_names_nothing() {
    for text in ["-x", "--upload-pack=x", "", "a..b", "^main", ":/fix", "HEAD:file", "a\nb", "@{-1}..x"] {
        assert!(text.parse::<Rev>().is_err(), "{text:?}");
    }
    for text in ["HEAD", "HEAD~2", "origin/main^", "v1.0", "feature/x", "abc123"] {
        assert!(text.parse::<Rev>().is_ok(), "{text:?}");
    }
    for text in [
        "-x", "a..b", "a b", "a~1", "x.lock", ".x", "a//b", "a/", "x/-y", "a@{1}", "a\\b", "a\nb", "x/../y",
        "",
    ] {
        assert!(RefName::branch(text).is_err(), "{text:?}");
    }
    for text in ["main", "feature/x-y", "größe", "a.b"] {
        assert!(RefName::branch(text).is_ok(), "{text:?}");
    }
}
