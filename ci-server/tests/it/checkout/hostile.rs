//! Repositories that want to run something, to write elsewhere or to be read as something else. For each: nothing is
//! run, nothing is written outside, and it is refused by name or comes to no harm.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ci_model::id::CommitId;
use ci_server::checkout::{CheckoutError, Class};

use super::support::{Repo, World, everything, set_mode};

const HOOKS: [&str; 18] = [
    "applypatch-msg",
    "fsmonitor-watchman",
    "p4-pre-submit",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-receive",
    "post-rewrite",
    "post-update",
    "pre-auto-gc",
    "pre-commit",
    "pre-push",
    "pre-receive",
    "proc-receive",
    "reference-transaction",
    "sendemail-validate",
    "update",
];

/// Everything in a repository's configuration that names a program.
fn programs(trap: &Path) -> Vec<(&'static str, String)> {
    let trap = trap.display().to_string();
    let keys = [
        "core.fsmonitor",
        "core.sshCommand",
        "core.gitProxy",
        "core.pager",
        "core.editor",
        "core.askPass",
        "core.alternateRefsCommand",
        "credential.helper",
        "diff.external",
        "diff.trap.textconv",
        "diff.trap.command",
        "diff.trap.cachetextconv",
        "merge.trap.driver",
        "filter.trap.clean",
        "filter.trap.smudge",
        "filter.trap.process",
        "filter.lfs.process",
        "filter.lfs.smudge",
        "filter.lfs.clean",
        "uploadpack.packObjectsHook",
        "gpg.program",
        "pager.ls-tree",
        "pager.ls-files",
        "pager.cat-file",
        "pager.rev-parse",
        "pager.diff-tree",
        "alias.ls-files",
        "remote.origin.uploadpack",
        "remote.origin.vcs",
        "trailer.x.command",
        "gc.recentObjectsHook",
        "hook.trap.command",
    ];
    let mut all: Vec<_> = keys.map(|key| (key, trap.clone())).to_vec();
    all.push(("alias.rev-parse", format!("!{trap}")));
    all.push(("remote.origin.url", format!("ext::{trap}")));
    all.push(("remote.origin.promisor", "true".into()));
    all.push(("remote.origin.partialCloneFilter", "blob:none".into()));
    all.push(("extensions.partialClone", "origin".into()));
    all.push(("protocol.ext.allow", "always".into()));
    all.push(("protocol.allow", "always".into()));
    all
}

/// A repository in which all of git's doors lead to a trap, committed beforehand.
fn trapped(world: &World, repo: &Repo) {
    let trap = world.trap();
    let hooks = world.path("hooks");
    for folder in [repo.path.join(".git/hooks"), hooks.clone()] {
        fs::create_dir_all(&folder).unwrap();
        for hook in HOOKS {
            fs::copy(&trap, folder.join(hook)).unwrap();
        }
    }
    let mut config = fs::read_to_string(repo.path.join(".git/config")).unwrap();
    let included: String = programs(&trap)
        .into_iter()
        .map(|(key, value)| {
            let (section, name) = key.rsplit_once('.').unwrap();
            let head =
                section.split_once('.').map_or(format!("[{section}]"), |(a, b)| format!("[{a} \"{b}\"]"));
            format!("{head}\n\t{name} = \"{value}\"\n")
        })
        .collect();
    fs::write(world.path("included"), included).unwrap();
    config.push_str(&format!(
        "[include]\n\tpath = {}\n[core]\n\thooksPath = {}\n\tuntrackedCache = true\n",
        world.path("included").display(),
        hooks.display()
    ));
    fs::write(repo.path.join(".git/config"), config).unwrap();
    fs::write(repo.path.join(".git/info/attributes"), "* filter=trap diff=trap merge=trap\n").unwrap();
}

#[tokio::test]
async fn hooks_filters_helpers_pagers_and_aliases_are_not_run() {
    let world = World::new();
    let repo = world.repo("r");
    repo.write(".gitattributes", "* filter=trap diff=trap merge=trap\n*.bin filter=lfs diff=lfs -text\n");
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n", "0".repeat(64));
    repo.write("x.bin", &pointer);
    repo.write("a", "1");
    let base = repo.commit("base");
    repo.write("a", "2");
    let head = repo.commit("head");
    trapped(&world, &repo);
    repo.write("a", "3");
    repo.write("untracked", "3");
    let before = everything(&repo.path);

    let worktree = world.worktree(&repo).await;
    let snapshot = worktree.snapshot(&world.places).await.unwrap();
    worktree.default_base(None, &snapshot.placed.source.tree).await.unwrap();
    worktree.resolve(&"HEAD~1".parse().unwrap()).await.unwrap();
    let mirror = world.fetch(&repo, &head).await.unwrap().mirror;
    assert_eq!(mirror.changed_paths(&base, &head).await.unwrap(), ["a"]);
    mirror.blob(&head, "x.bin", 1000).await.unwrap().unwrap();
    let placed = mirror.materialise(&head, &world.places).await.unwrap();
    world.branch(&repo, "main").await.unwrap();
    assert_eq!(fs::read_to_string(placed.source.folder.join("x.bin")).unwrap(), pointer);
    world.expect_no_canary();
    assert_eq!(everything(&repo.path), before, "the repository is not as it was");
}

/// The traps are real: git itself steps into them.
#[tokio::test]
async fn the_traps_are_no_dummies() {
    let world = World::new();
    let repo = world.repo("r");
    repo.write(".gitattributes", "* filter=trap\n");
    repo.write("a", "1");
    repo.commit("c");
    trapped(&world, &repo);
    repo.write("a", "2");
    let out = super::support::git(&repo.path).args(["status"]).output().unwrap();
    let said =
        fs::read_to_string(world.canary()).unwrap_or(String::from_utf8_lossy(&out.stderr).into_owned());
    assert!(said.contains("trap"), "{said}");
}

#[tokio::test]
async fn objects_that_a_partial_clone_lacks_are_not_fetched() {
    let world = World::new();
    let repo = world.repo("r");
    repo.write("a", "1");
    let commit = repo.commit("c");
    let blob = repo.git(&["rev-parse", "HEAD:a"]);
    trapped(&world, &repo);
    fs::remove_file(repo.path.join(".git/objects").join(&blob[..2]).join(&blob[2..])).unwrap();
    let error = world.checkout(&repo, &commit).await.unwrap_err();
    assert!(error.to_string().contains("partial or damaged clone"), "{error}");
    assert_eq!(error.class(), Class::Permanent);
    world.expect_no_canary();
}

#[tokio::test]
async fn a_submodule_is_an_empty_folder_whatever_its_address_says() {
    let world = World::new();
    let repo = world.repo("r");
    let trap = world.trap();
    repo.write(
        ".gitmodules",
        format!("[submodule \"x\"]\n\tpath = x\n\turl = ext::{0}\n\tupdate = !{0}\n", trap.display()),
    );
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},x", "1".repeat(40))]);
    repo.git(&["add", ".gitmodules"]);
    repo.git(&["commit", "-qm", "c"]);
    let placed = world.checkout(&repo, &repo.head()).await.unwrap();
    assert_eq!(fs::read_dir(placed.source.folder.join("x")).unwrap().count(), 0);
    let error = world
        .fetch(&repo, &repo.head())
        .await
        .unwrap()
        .mirror
        .blob(&repo.head(), "x/y", 10)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("is a submodule"), "{error}");
    world.expect_no_canary();
}

/// What is refused, by the words it is refused with; nothing of it is on disk.
async fn expect_refused(world: &World, repo: &Repo, commit: &CommitId, words: &str) {
    let error = world.checkout(repo, commit).await.unwrap_err();
    assert!(error.to_string().contains(words), "{words}: {error}");
    assert_eq!(error.class(), Class::Permanent, "{error}");
    let left: Vec<_> =
        fs::read_dir(world.path("places")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".ekaci-checkouts"], "{words}");
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused() {
    let world = World::new();
    let repo = world.repo("r");
    let blob = repo.blob(b"x");
    let inner = repo.tree(&[("100644", b"evil", &blob)]);
    let names: [&[u8]; 11] = [
        b"..",
        b".",
        b".git",
        b".GIT",
        b".Git",
        b"git~1",
        b"GIT~1",
        b".git ",
        b".git.",
        b"/etc",
        b"a/../../b",
    ];
    for name in names {
        for (mode, id) in [("100644", &blob), ("40000", &inner)] {
            let commit = repo.commit_of(mode, name, id);
            expect_refused(&world, &repo, &commit, "checkout of").await;
        }
    }
    let long = vec![b'n'; 300];
    expect_refused(&world, &repo, &repo.commit_of("100644", &long, &blob), "more than 255 bytes").await;
}

#[tokio::test]
async fn links_that_lead_out_are_refused_and_nothing_is_written_through_any() {
    let world = World::new();
    let repo = world.repo("r");
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    for target in ["/etc/passwd", "..", "../../../../etc", "a/../../x", outside.to_str().unwrap()] {
        let link = repo.blob(target.as_bytes());
        expect_refused(
            &world,
            &repo,
            &repo.commit_of("120000", b"link", &link),
            "\"link\" is a link that leads out",
        )
        .await;
    }
    // The same name once as a link, once as a folder with a file in it.
    let within = repo.blob(b"real");
    let file = repo.blob(b"x");
    let folder = repo.tree(&[("100644", b"f", &file)]);
    let tree = repo.tree(&[("120000", b"a", &within), ("40000", b"a", &folder), ("40000", b"real", &folder)]);
    expect_refused(&world, &repo, &repo.commit_tree(&tree), "\"a/f\" stands where").await;
    let tree = repo.tree(&[("100644", b"a", &file), ("100644", b"a", &within)]);
    expect_refused(&world, &repo, &repo.commit_tree(&tree), "\"a\" stands where").await;
    let empty = repo.blob(b"");
    expect_refused(&world, &repo, &repo.commit_of("120000", b"link", &empty), "without a target").await;
    let long = repo.blob(&[b'x'; 5000]);
    expect_refused(&world, &repo, &repo.commit_of("120000", b"link", &long), "4095 bytes").await;
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn kinds_that_git_does_not_know_are_refused() {
    let world = World::new();
    let repo = world.repo("r");
    let blob = repo.blob(b"x");
    for mode in ["104755", "20666", "60000", "140777", "10644"] {
        let commit = repo.commit_of(mode, b"device", &blob);
        match world.checkout(&repo, &commit).await {
            Err(error) => assert_eq!(error.class(), Class::Permanent, "{mode}: {error}"),
            Ok(placed) => {
                use std::os::unix::fs::MetadataExt;
                // Git takes what it does not know for a submodule.
                let meta = fs::symlink_metadata(placed.source.folder.join("device")).unwrap();
                assert!(
                    matches!(meta.mode(), 0o100_444 | 0o100_555 | 0o40_555),
                    "{mode} became {:o}",
                    meta.mode()
                );
            }
        }
    }
}

#[tokio::test]
async fn a_configuration_that_is_a_link_is_not_followed() {
    let world = World::new();
    let repo = world.repo("r");
    fs::create_dir(repo.path.join(".ekaci")).unwrap();
    symlink("/etc/passwd", repo.path.join(".ekaci/config.json")).unwrap();
    let commit = repo.commit("c");
    let mirror = world.fetch(&repo, &commit).await.unwrap().mirror;
    let error = mirror.blob(&commit, ".ekaci/config.json", 1000).await.unwrap_err();
    assert!(error.to_string().contains("links are not followed"), "{error}");
}

#[tokio::test]
async fn branches_that_look_like_options_are_refused_or_are_branches() {
    let world = World::new();
    let repo = world.repo("r");
    let commit = repo.commit("c");
    for name in ["--upload-pack=x", "-x", "--output=x"] {
        fs::write(repo.path.join(".git/refs/heads").join(name), format!("{commit}\n")).unwrap();
        assert!(name.parse::<ci_server::checkout::Rev>().is_err(), "{name}");
        let rev = format!("refs/heads/{name}").parse().unwrap();
        assert_eq!(world.worktree(&repo).await.resolve(&rev).await.unwrap(), commit);
    }
    assert!(!repo.path.join("x").exists());
}

#[tokio::test]
async fn replaced_and_grafted_objects_count_for_nothing() {
    let world = World::new();
    let repo = world.repo("r");
    repo.write("a", "true");
    let one = repo.commit("one");
    repo.write("a", "false");
    let two = repo.commit("two");
    repo.git(&["replace", two.as_str(), one.as_str()]);
    let placed = world.checkout(&repo, &two).await.unwrap();
    assert_eq!(fs::read(placed.source.folder.join("a")).unwrap(), b"false");
}

#[tokio::test]
async fn a_gitdir_file_that_leads_astray_is_no_repository() {
    let world = World::new();
    let path = world.path("astray");
    fs::create_dir(&path).unwrap();
    for text in ["gitdir: /etc", "gitdir: ../../../../../../etc\n", "nonsense", "gitdir:", ""] {
        fs::write(path.join(".git"), text).unwrap();
        let opened = ci_server::checkout::Worktree::open(&path, &world.mirrors).await;
        assert!(matches!(opened, Err(CheckoutError::NoRepository { .. })), "{text:?}");
    }
    fs::remove_file(path.join(".git")).unwrap();
    symlink("/dev/zero", path.join(".git")).unwrap();
    assert!(ci_server::checkout::Worktree::open(&path, &world.mirrors).await.is_err());
}

#[tokio::test]
async fn files_below_links_of_a_work_tree_are_not_read() {
    let world = World::new();
    let repo = world.repo("r");
    repo.write("d/secret", "mine");
    repo.commit("c");
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "theirs").unwrap();
    fs::remove_dir_all(repo.path.join("d")).unwrap();
    symlink(&outside, repo.path.join("d")).unwrap();
    let snapshot = world.worktree(&repo).await.snapshot(&world.places).await.unwrap();
    assert!(!snapshot.placed.source.folder.join("d").exists());
    assert_eq!(snapshot.left_out.len(), 1, "{:?}", snapshot.left_out);
    set_mode(&outside, 0o755);
}
