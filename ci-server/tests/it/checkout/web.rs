//! Repositories that are elsewhere: a server on this machine's loopback speaks git's protocol by git's own
//! `http-backend`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ci_model::id::CommitId;
use ci_server::checkout::{Bounds, CheckoutError, Class, Credential, Remote, Wanted};
use service_kit::secret::Secret;
use test_kit::wait;

use super::server::Server;
use super::support::{Repo, World};

const TOKEN: &str = "canary-token-4711";
const WAIT: Duration = Duration::from_secs(60);

fn wanted(commit: &CommitId) -> [Wanted; 1] {
    [Wanted::Commit { id: commit.clone(), seen_on: None }]
}

fn login() -> Credential {
    Credential::Login { user: "x-access-token".into(), password: Secret::new(TOKEN) }
}

fn mirrors_of(world: &World) -> Vec<PathBuf> {
    let list = fs::read_dir(world.path("mirrors")).unwrap().map(|entry| entry.unwrap().path());
    list.filter(|path| path.is_dir()).collect()
}

/// A repository with one file and one commit, behind a server.
fn served(world: &World) -> (Repo, Server, Remote) {
    let repo = world.repo("r");
    repo.write("a", "1");
    repo.commit("one");
    let server = Server::start(world.path(""));
    let remote = Remote::http_on_loopback(&format!("{}/r/.git", server.url())).unwrap();
    (repo, server, remote)
}

/// Two more on the one that is there; all of them, oldest first.
fn three_commits(repo: &Repo) -> [CommitId; 3] {
    let first = repo.head();
    repo.write("a", "2");
    let second = repo.commit("two");
    repo.write("a", "3");
    [first, second, repo.commit("three")]
}

#[tokio::test]
async fn exactly_the_commits_that_are_wanted_come_and_come_once() {
    let world = World::new();
    let (repo, server, remote) = served(&world);
    let [first, second, third] = three_commits(&repo);
    let both = [&wanted(&first)[..], &wanted(&third)[..]].concat();
    let fetched = world.mirrors.fetch(&remote, None, &both).await.unwrap();
    assert_eq!(fetched.commits, [first.clone(), third.clone()]);
    assert_eq!(fetched.mirror.changed_paths(&first, &third).await.unwrap(), ["a"]);
    assert!(fetched.mirror.tree(&second).await.is_err(), "nobody asked for the one between");
    let placed = fetched.mirror.materialise(&third, &world.places).await.unwrap();
    assert_eq!(fs::read(placed.source.folder.join("a")).unwrap(), b"3");

    let asked = server.asked();
    world.mirrors.fetch(&remote, None, &both).await.unwrap();
    assert_eq!(server.asked(), asked, "what is here is not asked for again");
    let main = [Wanted::Ref("refs/heads/main".parse().unwrap())];
    assert_eq!(world.mirrors.fetch(&remote, None, &main).await.unwrap().commits, [third]);
    let fourth = repo.commit("four");
    assert_eq!(world.mirrors.fetch(&remote, None, &main).await.unwrap().commits, [fourth]);
}

#[tokio::test]
async fn a_credential_reaches_the_server_and_nothing_else() {
    let world = World::new();
    let (repo, server, remote) = served(&world);
    server.require("eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5LXRva2VuLTQ3MTE=");
    let commit = repo.head();
    let error = world.mirrors.fetch(&remote, None, &wanted(&commit)).await.unwrap_err();
    assert!(error.to_string().contains("check the credential"), "{error}");
    let wrong = Credential::Login { user: "x".into(), password: Secret::new("canary-wrong") };
    let error = world.mirrors.fetch(&remote, Some(&wrong), &wanted(&commit)).await.unwrap_err();
    assert!(!format!("{error:?}").contains("canary-wrong"), "{error:?}");

    server.hold(true);
    let fetching = tokio::spawn({
        let (mirrors, remote, commit) = (world.mirrors.clone(), remote.clone(), commit.clone());
        async move { mirrors.fetch(&remote, Some(&login()), &wanted(&commit)).await.map(drop) }
    });
    let held = server.clone();
    tokio::task::spawn_blocking(move || wait::until(WAIT, || held.holding() > 0)).await.unwrap();
    let mine = std::process::id();
    let lines: Vec<_> =
        descendants(mine).into_iter().map(|pid| fs::read(format!("/proc/{pid}/cmdline"))).collect();
    let lines: Vec<_> =
        lines.into_iter().flatten().map(|line| String::from_utf8_lossy(&line).into_owned()).collect();
    assert!(lines.iter().any(|line| line.contains("fetch")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains(TOKEN) || line.contains("eC1hY2Nl")), "{lines:?}");
    server.hold(false);
    fetching.await.unwrap().unwrap();
    for (path, _, content, _) in super::support::everything(&world.path("mirrors")) {
        let text = String::from_utf8_lossy(&content);
        assert!(!text.contains(TOKEN) && !text.contains("eC1hY2Nl"), "{}", path.display());
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_a_credential() {
    let world = World::new();
    let (repo, server, _) = served(&world);
    let other = Server::start(world.path(""));
    server.redirect_to(&other.url());
    let remote = Remote::http_on_loopback(&format!("{}/r/.git", server.url())).unwrap();
    world.mirrors.fetch(&remote, Some(&login()), &wanted(&repo.head())).await.unwrap_err();
    assert_eq!(other.asked(), 0);
}

#[tokio::test]
async fn what_is_not_there_and_who_is_not_there() {
    let world = World::new();
    let (_repo, server, remote) = served(&world);
    let none: CommitId = "1".repeat(40).parse().unwrap();
    let error = world.mirrors.fetch(&remote, None, &wanted(&none)).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent, "{error}");
    let nowhere = Remote::http_on_loopback(&format!("{}/nowhere", server.url())).unwrap();
    let error = world.mirrors.fetch(&nowhere, None, &wanted(&none)).await.unwrap_err();
    assert!(error.to_string().contains("check the repository's address"), "{error}");
    let dead = Remote::http_on_loopback("http://127.0.0.1:1/r").unwrap();
    let error = world.mirrors.fetch(&dead, None, &wanted(&none)).await.unwrap_err();
    assert_eq!(error.class(), Class::Retry, "{error}");
}

/// Servers that give no commit by its hash: `uploadpack.allowReachableSHA1InWant` and its like are off, and protocol 2 is not
/// spoken.
#[tokio::test]
async fn where_no_commit_is_given_by_its_hash_the_reference_it_was_seen_on_is_fetched() {
    let world = World::new();
    let (repo, server, remote) = served(&world);
    let [first, second, third] = three_commits(&repo);
    server.grow_old();
    let fetch = async |wanted: &[Wanted]| world.mirrors.fetch(&remote, None, wanted).await;
    let seen =
        |id: &CommitId| Wanted::Commit { id: id.clone(), seen_on: Some("refs/heads/main".parse().unwrap()) };

    let error = fetch(&wanted(&second)).await.unwrap_err();
    assert!(error.to_string().contains("allowReachableSHA1InWant"), "{error}");
    assert_eq!(error.class(), Class::Permanent);
    // What a branch names is given by its hash, without what was before it ...
    let tip = fetch(&wanted(&third)).await.unwrap();
    assert!(tip.mirror.tree(&second).await.is_err());
    // ... which must not keep what was before from coming when it is wanted.
    let all = fetch(&[seen(&second), seen(&first), seen(&third)]).await.unwrap();
    assert_eq!(all.commits, [second.clone(), first.clone(), third]);
    let placed = all.mirror.materialise(&second, &world.places).await.unwrap();
    assert_eq!(fs::read(placed.source.folder.join("a")).unwrap(), b"2");
    assert_eq!(all.mirror.changed_paths(&first, &second).await.unwrap(), ["a"]);
    let asked = server.asked();
    fetch(&[seen(&second), seen(&first)]).await.unwrap();
    assert_eq!(server.asked(), asked, "what is here is not asked for again");

    // Pushed away: no reference leads to it.
    repo.git(&["reset", "-q", "--hard", first.as_str()]);
    let away = repo.commit("away");
    repo.git(&["reset", "-q", "--hard", first.as_str()]);
    let error = fetch(&[seen(&away)]).await.unwrap_err();
    assert!(matches!(error, CheckoutError::Absent { .. }), "{error}");
    assert!(error.to_string().contains("force-pushed"), "{error}");
    // What was fetched before stays, wherever the branch is now.
    assert_eq!(fetch(&[seen(&second)]).await.unwrap().commits, [second]);
}

#[tokio::test]
async fn malformed_objects_are_not_taken_in() {
    let world = World::new();
    let (repo, _server, remote) = served(&world);
    let blob = repo.blob(b"x");
    for name in [&b".git"[..], b"..", b".GIT", b"git~1"] {
        let commit = repo.commit_of("100644", name, &blob);
        repo.git(&["update-ref", "refs/heads/evil", commit.as_str()]);
        let error = world.mirrors.fetch(&remote, None, &wanted(&commit)).await.unwrap_err();
        assert!(error.to_string().contains("malformed or hostile"), "{error}");
    }
}

#[tokio::test]
async fn a_repository_that_is_too_large_is_not_fetched_to_its_end() {
    let world = World::within(Bounds { mirror_bytes: 300_000, ..Bounds::default() });
    let (repo, _server, remote) = served(&world);
    let small = repo.head();
    world.mirrors.fetch(&remote, None, &wanted(&small)).await.unwrap();
    let mut noise = vec![0; 2_000_000];
    let mut state = 1_u32;
    for byte in &mut noise {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = state.to_be_bytes()[0];
    }
    repo.write("large", &noise);
    let large = repo.commit("large");
    let error = world.mirrors.fetch(&remote, None, &wanted(&large)).await.unwrap_err();
    assert!(error.to_string().contains("more than 300000 bytes"), "{error}");
    world.mirrors.fetch(&remote, None, &wanted(&small)).await.unwrap();
}

#[tokio::test]
async fn two_fetch_at_once_and_what_a_kill_left_is_mended() {
    let world = World::new();
    let (repo, _server, remote) = served(&world);
    let first = repo.head();
    let second = repo.commit("two");
    let (wanted_first, wanted_second) = (wanted(&first), wanted(&second));
    let (one, two) = tokio::join!(
        world.mirrors.fetch(&remote, None, &wanted_first),
        world.mirrors.fetch(&remote, None, &wanted_second),
    );
    assert_eq!((one.unwrap().commits, two.unwrap().commits), (vec![first], vec![second]));

    let mirror = mirrors_of(&world).pop().unwrap();
    for left in [
        "shallow.lock",
        "packed-refs.lock",
        "objects/pack/tmp_pack_x",
        "refs/ekaci/commit/x.lock",
        "config.lock",
    ] {
        fs::write(mirror.join(left), "half").unwrap();
    }
    fs::write(mirror.join("fetching"), "").unwrap();
    let third = repo.commit("three");
    world.mirrors.fetch(&remote, None, &wanted(&third)).await.unwrap();
    assert!(!mirror.join("objects/pack/tmp_pack_x").exists() && !mirror.join("fetching").exists());

    fs::remove_file(mirror.join("HEAD")).unwrap();
    let placed = world.mirrors.fetch(&remote, None, &wanted(&third)).await.unwrap();
    placed.mirror.tree(&third).await.unwrap();
}

/// Whoever is cut off while git waits for its server leaves no child behind, and the next fetch goes well.
#[tokio::test]
async fn a_fetch_that_is_dropped_ends_all_its_children() {
    let world = World::new();
    let (repo, server, remote) = served(&world);
    let commit = repo.head();
    server.hold(true);
    let fetching = tokio::spawn({
        let (mirrors, remote, commit) = (world.mirrors.clone(), remote.clone(), commit.clone());
        async move { mirrors.fetch(&remote, None, &wanted(&commit)).await.map(drop) }
    });
    let held = server.clone();
    tokio::task::spawn_blocking(move || wait::until(WAIT, || held.holding() > 0)).await.unwrap();
    let url = remote.to_string();
    let mine = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&url))
    };
    let children: Vec<u32> = descendants(std::process::id()).into_iter().filter(mine).collect();
    assert!(children.len() >= 2, "git and its helper: {children:?}");
    fetching.abort();
    let gone = move || children.iter().all(|pid| !mine_is_alive(*pid));
    tokio::task::spawn_blocking(move || wait::until(WAIT, gone)).await.unwrap();
    server.hold(false);
    world.mirrors.fetch(&remote, None, &wanted(&commit)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_after_the_time_limit() {
    let world = World::within(Bounds { fetch: Duration::from_secs(1), ..Bounds::default() });
    let (repo, server, remote) = served(&world);
    server.hold(true);
    let error = world.mirrors.fetch(&remote, None, &wanted(&repo.head())).await.unwrap_err();
    assert!(matches!(error, CheckoutError::TooLong { .. }), "{error}");
    assert_eq!(error.class(), Class::Retry);
    server.hold(false);
}

/// A zombie has no command line.
fn mine_is_alive(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn descendants(root: u32) -> Vec<u32> {
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let here = found[at];
        found.extend(all.iter().filter(|(_, parent)| *parent == here).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}
