//! Repositories that are too much: each bound is met before anything is written, in little time and memory, and said.

use std::fs;
use std::time::{Duration, Instant};

use ci_model::id::CommitId;
use ci_server::checkout::{Bounds, CheckoutError};

use super::support::{Repo, World};

fn few() -> Bounds {
    Bounds {
        tree_bytes: 10_000,
        file_bytes: 5_000,
        entries: 50,
        depth: 5,
        path_bytes: 60,
        changed_bytes: 200,
        ..Bounds::default()
    }
}

async fn expect(world: &World, repo: &Repo, commit: &CommitId, words: &str) {
    let error = world.checkout(repo, commit).await.unwrap_err();
    assert!(error.to_string().contains(words), "{words}: {error}");
    let left: Vec<_> =
        fs::read_dir(world.path("places")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".ekaci-checkouts"], "{words}");
}

#[tokio::test]
async fn each_bound_is_said_and_nothing_is_written() {
    let world = World::within(few());
    let repo = world.repo("r");
    let large = repo.blob(&[b'x'; 5_001]);
    expect(
        &world,
        &repo,
        &repo.commit_of("100644", b"large", &large),
        "\"large\" has 5001 bytes, more than the limit of 5000",
    )
    .await;
    let half = repo.blob(&[b'x'; 4_000]);
    let rows: [(&str, &[u8], &str); 3] =
        [("100644", b"a", &half), ("100644", b"b", &half), ("100644", b"c", &half)];
    expect(&world, &repo, &repo.commit_tree(&repo.tree(&rows)), "more than 10000 bytes").await;
    let mut deep = repo.tree(&[("100644", b"f", &half)]);
    for _ in 0..6 {
        deep = repo.tree(&[("40000", b"d", &deep)]);
    }
    expect(&world, &repo, &repo.commit_tree(&deep), "lies more than 5 folders deep").await;
    let long = vec![b'n'; 61];
    expect(&world, &repo, &repo.commit_of("100644", &long, &half), "60 bytes").await;
}

/// Ten of ten of ten …: ten thousand million files in a hundred objects.
#[tokio::test]
async fn a_tree_that_contains_itself_many_times_ends_at_the_bound() {
    let world = World::new();
    let repo = world.repo("r");
    let blob = repo.blob(b"boom");
    for (kind, leaf) in [("files", ("100644", blob)), ("folders", ("40000", repo.tree(&[])))] {
        let mut tree = leaf.1;
        let mut mode = leaf.0;
        for _ in 0..10 {
            let names: Vec<_> = (0..10).map(|n| vec![b'0' + n]).collect();
            let rows: Vec<_> = names.iter().map(|name| (mode, name.as_slice(), tree.as_str())).collect();
            tree = repo.tree(&rows);
            mode = "40000";
        }
        let commit = repo.commit_tree(&tree);
        let read = Duration::from_secs(if kind == "files" { 60 } else { 2 });
        let bounds = Bounds { read, ..Bounds::default() };
        let world = World::within(bounds);
        let begun = Instant::now();
        let error = world.checkout(&repo, &commit).await.unwrap_err();
        match kind {
            "files" => assert!(error.to_string().contains("more than 500000 files and folders"), "{error}"),
            _ => assert!(matches!(error, CheckoutError::TooLong { .. }), "{error}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{kind}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn folders_nested_deeper_than_git_allows_are_refused() {
    let world = World::new();
    let repo = world.repo("r");
    let mut stream =
        String::from("commit refs/heads/deep\ncommitter T <t@example.org> 0 +0000\ndata 0\nM 100644 inline ");
    stream.push_str(&"d/".repeat(1_500));
    stream.push_str("f\ndata 1\nx\n\n");
    repo.git_with(&["fast-import", "--quiet"], stream.as_bytes());
    let commit = repo.git(&["rev-parse", "deep"]).parse().unwrap();
    expect(&world, &repo, &commit, "1024 bytes").await;
}

#[tokio::test]
async fn a_change_of_too_many_files_is_said_so() {
    let world = World::within(few());
    let repo = world.repo("r");
    let base = repo.commit("base");
    for n in 0..40 {
        repo.write(format!("file-{n:03}"), "x");
    }
    let head = repo.commit("head");
    let mirror = world.fetch(&repo, &head).await.unwrap().mirror;
    let error = mirror.changed_paths(&base, &head).await.unwrap_err();
    assert!(error.to_string().contains("more than 200 bytes of names"), "{error}");
}

/// A branch with so many files, a hundred in each folder.
fn many(repo: &Repo, files: usize) -> CommitId {
    let mut stream = String::from("commit refs/heads/many\ncommitter T <t@example.org> 0 +0000\ndata 0\n");
    for n in 0..files {
        stream.push_str(&format!("M 100644 inline d{}/f{n}\ndata 2\n{}\n\n", n / 100, n % 10));
    }
    repo.git_with(&["fast-import", "--quiet"], stream.as_bytes());
    repo.git(&["rev-parse", "many"]).parse().unwrap()
}

#[tokio::test]
async fn two_hundred_thousand_files_are_too_many_for_a_hundred_thousand() {
    let world = World::within(Bounds { entries: 100_000, ..Bounds::default() });
    let repo = world.repo("r");
    let commit = many(&repo, 200_000);
    let begun = Instant::now();
    expect(&world, &repo, &commit, "more than 100000 files and folders").await;
    println!("refused after {:?}", begun.elapsed());
}

#[tokio::test]
async fn as_many_files_as_nixpkgs_has_are_written() {
    let world = World::within(Bounds { kept_bytes: 0, ..Bounds::default() });
    let repo = world.repo("r");
    let commit = many(&repo, 45_000);
    let begun = Instant::now();
    let placed = world.checkout(&repo, &commit).await.unwrap();
    println!("45000 files written in {:?}", begun.elapsed());
    assert_eq!(fs::read_dir(&placed.source.folder).unwrap().count(), 450);
    assert_eq!(fs::read(placed.source.folder.join("d449/f44999")).unwrap(), b"9\n");
}
