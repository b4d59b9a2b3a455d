//! A person's own checkout: taken as it lies there, and left as it lies there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use ci_server::checkout::{Bounds, CheckoutError, Worktree};
use ci_server::pipeline::RunError;

use super::support::{Repo, World, everything, set_mode};

/// The tree that git itself makes of a folder, in an index of its own.
fn tree_of(repo: &Repo) -> String {
    let index = repo.path.with_extension("index");
    let mut add = super::support::git(&repo.path);
    assert!(add.env("GIT_INDEX_FILE", &index).args(["add", "-A"]).status().unwrap().success());
    let mut write = super::support::git(&repo.path);
    let out = write.env("GIT_INDEX_FILE", &index).arg("write-tree").output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_snapshot_is_the_tree_that_git_would_make() {
    let world = World::new();
    let repo = world.repo("r");
    for path in ["a", "a-b", "a.b/c", "d/e", "d-f", "d.x", "d/x/y", "gone", "was-dir/x"] {
        repo.write(path, path);
    }
    repo.write(".gitignore", "*.log\n/out\n");
    let head = repo.commit("one");
    repo.write("d/e", "changed");
    repo.write("new/file\nwith line", "n");
    repo.write("new/x.log", "ignored");
    repo.write("out/x", "ignored");
    repo.write(".git/info/exclude", "excluded\n");
    repo.write("excluded", "x");
    fs::remove_file(repo.path.join("gone")).unwrap();
    fs::remove_dir_all(repo.path.join("was-dir")).unwrap();
    symlink("d", repo.path.join("was-dir")).unwrap();
    set_mode(&repo.path.join("d-f"), 0o755);
    let before = everything(&repo.path);

    let worktree = Worktree::open(&repo.path.join("d/x"), &world.mirrors).await.unwrap();
    assert_eq!(worktree.root(), fs::canonicalize(&repo.path).unwrap());
    let snapshot = worktree.snapshot(&world.places).await.unwrap();
    assert_eq!(everything(&repo.path), before, "the repository is not as it was");
    assert_eq!(snapshot.left_out, [""; 0]);
    let source = &snapshot.placed.source;
    assert_eq!(source.tree.as_str(), tree_of(&repo));
    assert_eq!(source.commit, None);
    assert_eq!(fs::read(source.folder.join("d/e")).unwrap(), b"changed");
    assert!(!source.folder.join("new/x.log").exists() && !source.folder.join("excluded").exists());
    assert_eq!(worktree.default_base(None, &source.tree).await.unwrap().commit, Some(head));
}

#[tokio::test]
async fn an_unchanged_work_tree_is_the_checkout_of_its_commit() {
    let world = World::new();
    let repo = world.repo("r");
    repo.write("a/b", "1");
    let commit = repo.commit("one");
    let worktree = world.worktree(&repo).await;
    let placed = worktree.mirror().materialise(&commit, &world.places).await.unwrap();
    let snapshot = worktree.snapshot(&world.places).await.unwrap();
    assert_eq!(snapshot.placed.source.folder, placed.source.folder);
}

#[tokio::test]
async fn what_is_left_out_is_told() {
    let world = World::new();
    let repo = world.repo("r");
    let other = world.repo("other");
    let pinned = other.commit("x");
    repo.write("a", "1");
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{pinned},module")]);
    repo.git(&["add", "a"]);
    repo.git(&["commit", "-qm", "c"]);
    let commit = repo.head();
    repo.write("module/file", "x");
    symlink("/nix/store/x", repo.path.join("result")).unwrap();
    let nested = Repo { path: repo.path.join("nested") };
    fs::create_dir(&nested.path).unwrap();
    nested.git(&["init", "-q"]);
    nested.write("f", "x");
    nested.commit("c");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        repo.path.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let worktree = world.worktree(&repo).await;
    let snapshot = worktree.snapshot(&world.places).await.unwrap();
    let mut left_out = snapshot.left_out.clone();
    left_out.sort();
    let expected = [
        "\"module\" is a submodule; its files are not looked at",
        "\"nested/\" is a repository of its own",
        "\"result\" is a link that leads out of the repository, and is not tracked",
    ];
    // git does not list devices and pipes.
    assert_eq!(left_out, expected);
    assert_eq!(snapshot.placed.source.tree, worktree.mirror().tree(&commit).await.unwrap());
    assert_eq!(fs::read_dir(snapshot.placed.source.folder.join("module")).unwrap().count(), 0);

    symlink("/etc/passwd", repo.path.join("tracked")).unwrap();
    repo.git(&["add", "tracked"]);
    let error = worktree.snapshot(&world.places).await.unwrap_err();
    assert!(error.to_string().contains("\"tracked\" is a link that leads out"), "{error}");
}

#[tokio::test]
async fn the_base_is_what_a_person_expects() {
    let world = World::new();
    let repo = world.repo("r");
    let first = repo.commit("first");
    let mut worktree = world.worktree(&repo).await;
    let tree = |of: &str| repo.git(&["rev-parse", &format!("{of}^{{tree}}")]).parse().unwrap();
    assert_eq!(
        worktree.default_base(None, &tree("HEAD")).await.unwrap().commit,
        None,
        "nothing is before the first"
    );
    let second = repo.commit("second");
    assert_eq!(
        worktree.default_base(None, &tree("HEAD")).await.unwrap().commit,
        Some(first.clone()),
        "clean, on main"
    );
    let dirty = "4".repeat(40).parse().unwrap();
    assert_eq!(
        worktree.default_base(None, &dirty).await.unwrap().commit,
        Some(second.clone()),
        "dirty, on main"
    );
    repo.git(&["checkout", "-qb", "topic"]);
    repo.write("t", "1");
    let third = repo.commit("third");
    worktree = world.worktree(&repo).await;
    assert_eq!(
        worktree.default_base(None, &dirty).await.unwrap().commit,
        Some(second.clone()),
        "on a branch"
    );
    assert_eq!(
        worktree.default_base(Some(&third), &tree("HEAD")).await.unwrap().commit,
        Some(second.clone())
    );
    repo.git(&["update-ref", "refs/remotes/origin/trunk", first.as_str()]);
    repo.git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk"]);
    assert_eq!(
        worktree.default_base(None, &dirty).await.unwrap().commit,
        Some(first),
        "origin's own comes first"
    );
    repo.git(&["pack-refs", "--all"]);
    for (rev, commit) in
        [("HEAD", &third), ("topic~1", &second), ("main", &second), (&third.as_str()[..9], &third)]
    {
        assert_eq!(&worktree.resolve(&rev.parse().unwrap()).await.unwrap(), commit, "{rev}");
    }
    let error = worktree.resolve(&"nonesuch".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("no commit that is called nonesuch; look at"), "{error}");
}

#[tokio::test]
async fn several_work_trees_and_split_sparse_and_unborn_ones() {
    let world = World::new();
    let repo = world.repo("r");
    let worktree = world.worktree(&repo).await;
    repo.write("a/b", "1");
    repo.write("c/d", "2");
    let unborn = worktree.snapshot(&world.places).await.unwrap();
    assert_eq!(worktree.default_base(None, &unborn.placed.source.tree).await.unwrap().commit, None);
    let commit = repo.commit("c");
    repo.git(&["worktree", "add", "-q", "-b", "second", "../second"]);
    let second = Repo { path: world.path("second") };
    second.write("e", "3");
    second.git(&["update-index", "--split-index"]);
    let expected = tree_of(&second);
    let before = (everything(&repo.path), everything(&second.path));
    let worktree = Worktree::open(&second.path.join("a"), &world.mirrors).await.unwrap();
    let snapshot = worktree.snapshot(&world.places).await.unwrap();
    assert_eq!(snapshot.placed.source.tree.as_str(), expected);
    assert_eq!(worktree.resolve(&"second".parse().unwrap()).await.unwrap(), commit);
    assert_eq!((everything(&repo.path), everything(&second.path)), before);

    second.git(&["sparse-checkout", "set", "--cone", "a"]);
    let snapshot = worktree.snapshot(&world.places).await.unwrap();
    assert_eq!(snapshot.left_out, ["\"c/d\" is not there: this work tree is sparse"]);
}

#[tokio::test]
async fn a_shallow_clone_is_read_up_to_where_it_was_cut() {
    let world = World::new();
    let repo = world.repo("r");
    repo.commit("one");
    repo.write("a", "1");
    let two = repo.commit("two");
    let url = format!("file://{}", repo.path.display());
    repo.git(&["clone", "-q", "--depth=1", &url, "../shallow"]);
    let worktree = Worktree::open(&world.path("shallow"), &world.mirrors).await.unwrap();
    let mirror = worktree.mirror();
    assert_eq!(mirror.merge_base(&two, &two).await.unwrap(), Some(two.clone()));
    let tree = mirror.tree(&two).await.unwrap();
    assert_eq!(worktree.default_base(None, &tree).await.unwrap().commit, None);
}

#[tokio::test]
async fn a_repository_of_another_user_is_read_with_nothing_of_it_run() {
    let world = World::new();
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root can give a folder away");
    }
    let repo = world.repo("r");
    repo.write("a", "1");
    let commit = repo.commit("c");
    for (path, ..) in everything(&repo.path) {
        std::os::unix::fs::lchown(repo.path.join(path), Some(65534), Some(65534)).unwrap();
    }
    std::os::unix::fs::chown(&repo.path, Some(65534), Some(65534)).unwrap();
    let snapshot = world.worktree(&repo).await.snapshot(&world.places).await.unwrap();
    let placed = world.checkout(&repo, &commit).await.unwrap();
    assert_eq!(snapshot.placed.source.folder, placed.source.folder);
}

#[tokio::test]
async fn no_repository_is_said_so() {
    let world = World::new();
    let error = Worktree::open(&world.path("mirrors"), &world.mirrors).await.unwrap_err();
    assert!(matches!(error, CheckoutError::NoRepository { .. }), "{error}");
    let error = Worktree::open(&world.path("none"), &world.mirrors).await.unwrap_err();
    assert!(matches!(error, CheckoutError::NoRepository { .. }), "{error}");
    assert!(error.to_string().contains("no such file or folder"), "{error}");
    assert!(RunError::from(error).is_usage());
}

#[tokio::test]
async fn a_bare_repository_is_called_one() {
    let world = World::new();
    let repo = world.repo("r");
    repo.write("a", "1");
    repo.commit("c");
    repo.git(&["clone", "-q", "--bare", ".", "inner.git"]);
    for within in ["inner.git", "inner.git/refs"] {
        let error = Worktree::open(&repo.path.join(within), &world.mirrors).await.unwrap_err();
        assert!(matches!(error, CheckoutError::Bare { .. }), "{error}");
        assert!(error.to_string().contains("name a work tree"), "{error}");
        assert!(RunError::from(error).is_usage());
    }
    let work = Worktree::open(&repo.path.join(".git/refs"), &world.mirrors).await.unwrap();
    assert_eq!(work.root(), fs::canonicalize(&repo.path).unwrap(), "git's own folder of a work tree is none");
}

/// A pipe that nobody writes to.
fn pipe(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o644.into()).unwrap();
}

#[tokio::test]
async fn what_git_would_wait_for_is_refused_at_once() {
    let world = World::new();
    for odd in [".gitignore", "a/.gitignore", "new/[odd] :(top)/.gitignore", "other/.git/HEAD"] {
        let repo = world.repo("r");
        repo.write("a/b", "1");
        repo.commit("c");
        for folder in ["other/.git/objects", "other/.git/refs", "ignored", "a/of-another/.git/objects"] {
            fs::create_dir_all(repo.path.join(folder)).unwrap();
        }
        pipe(&repo.path.join(odd));
        repo.write("new/[odd] :(top)/file", "");
        let begun = Instant::now();
        let error = world.worktree(&repo).await.snapshot(&world.places).await.unwrap_err();
        let expected = format!("{odd:?} is a pipe, where git expects a file; remove it");
        assert!(error.to_string().ends_with(&expected), "{error}");
        assert!(begun.elapsed() < world.bounds.list / 2, "{:?}", begun.elapsed());
        fs::remove_dir_all(&repo.path).unwrap();
    }
}

#[tokio::test]
async fn what_git_does_not_open_may_be_anything() {
    let world = World::new();
    let repo = world.repo("r");
    repo.write(".gitignore", "/ignored/\n");
    repo.write("a/b", "1");
    let commit = repo.commit("c");
    for name in ["ignored/.gitignore", "ignored/deeper/.gitignore", "a/.gitattributes", "a/pipe"] {
        pipe(&repo.path.join(name));
    }
    let nested = Repo { path: repo.path.join("nested") };
    fs::create_dir(&nested.path).unwrap();
    nested.git(&["init", "-q"]);
    pipe(&nested.path.join(".gitignore"));
    let worktree = world.worktree(&repo).await;
    let snapshot = worktree.snapshot(&world.places).await.unwrap();
    assert_eq!(snapshot.placed.source.tree, worktree.mirror().tree(&commit).await.unwrap());
}

#[tokio::test]
async fn a_repository_whose_own_files_are_none_is_refused_at_once() {
    let world = World::new();
    for odd in ["config", "packed-refs", "info/exclude", "objects/info/alternates", "HEAD", "refs/heads/x/y"]
    {
        let repo = world.repo("r");
        repo.commit("c");
        let path = repo.path.join(".git").join(odd);
        let _ = fs::remove_file(&path); // which need not be there
        pipe(&path);
        let error = Worktree::open(&repo.path, &world.mirrors).await.unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(error.to_string().contains(odd), "{odd}: {error}");
        assert!(
            source.contains("is a pipe, where git expects a file; remove it"),
            "{odd}: {error}: {source}"
        );
        fs::remove_dir_all(&repo.path).unwrap();
    }
}

#[tokio::test]
async fn a_listing_that_takes_too_long_ends_and_says_what_may_be_the_matter() {
    let world = World::within(Bounds { list: Duration::ZERO, ..Bounds::default() });
    let repo = world.repo("r");
    repo.commit("c");
    let error = world.worktree(&repo).await.snapshot(&world.places).await.unwrap_err();
    assert!(matches!(error, CheckoutError::TooLong { .. }), "{error}");
    assert!(error.to_string().contains("within 0 s; the work tree is too large"), "{error}");
}
