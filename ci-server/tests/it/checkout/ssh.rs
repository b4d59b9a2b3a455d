//! Repositories that are reached by ssh: an sshd of the test's own and the real git at both ends. It does not pass on that
//! git would speak protocol 2, as many do not, so it gives no commit by its hash.

use std::fs;
use std::path::{Path, PathBuf};

use ci_server::checkout::{CheckoutError, Class, Credential, Remote, Wanted};
use test_kit::sshd::Sshd;

use super::support::{Repo, World};

/// A repository with three commits behind an sshd, in folders whose names a shell would trip over.
struct Stage {
    world: World,
    repo: Repo,
    sshd: Sshd,
}

impl Stage {
    fn new() -> Self {
        let world = World::new();
        let repo = world.repo("r");
        for n in ["1", "2", "3"] {
            repo.write("a", n);
            repo.commit(n);
        }
        let folder = world.path("k e'y$s");
        fs::create_dir(&folder).unwrap();
        let sshd = Sshd::new(&folder, "");
        Self { world, repo, sshd }
    }

    fn remote(&self, path: &Path) -> Remote {
        format!("ssh://{}{}", self.sshd.address(), path.display()).parse().unwrap()
    }

    fn key(&self, name: &str) -> Credential {
        let file = |name: &str| -> PathBuf { self.sshd.path(name) };
        Credential::Key { key_file: file(name), known_hosts_file: file("known_hosts") }
    }

    async fn fetch(
        &self,
        key: &str,
        wanted: &[Wanted],
    ) -> Result<ci_server::checkout::Fetched, CheckoutError> {
        self.world.mirrors.fetch(&self.remote(&self.repo.path), Some(&self.key(key)), wanted).await
    }
}

fn main_branch() -> Wanted {
    Wanted::Ref("refs/heads/main".parse().unwrap())
}

#[tokio::test]
async fn commits_come_by_ssh_by_their_hash_and_by_their_branch() {
    let stage = Stage::new();
    let head = stage.repo.head();
    let base = stage.repo.git(&["rev-parse", "HEAD^^"]).parse().unwrap();
    let seen_on = Some("refs/heads/main".parse().unwrap());
    let wanted = [Wanted::Commit { id: head.clone(), seen_on: None }, Wanted::Commit { id: base, seen_on }];
    let tip = stage.fetch("id", &wanted[..1]).await.unwrap();
    let placed = tip.mirror.materialise(&head, &stage.world.places).await.unwrap();
    assert_eq!(fs::read(placed.source.folder.join("a")).unwrap(), b"3");

    let both = stage.fetch("id", &wanted).await.unwrap();
    assert_eq!(both.mirror.changed_paths(&both.commits[1], &both.commits[0]).await.unwrap(), ["a"]);
    let placed = both.mirror.materialise(&both.commits[1], &stage.world.places).await.unwrap();
    assert_eq!(fs::read(placed.source.folder.join("a")).unwrap(), b"1");
    let logins = stage.sshd.logins();
    stage.fetch("id", &wanted).await.unwrap();
    assert_eq!(stage.sshd.logins(), logins, "what is here is not asked for again");
    assert_eq!(stage.fetch("id", &[main_branch()]).await.unwrap().commits, [head]);
}

#[tokio::test]
async fn only_a_known_server_is_spoken_to_and_only_with_the_given_key() {
    let mut stage = Stage::new();
    let error = stage.fetch("other-id", &[main_branch()]).await.unwrap_err();
    assert!(error.to_string().contains("check the credential"), "{error}");
    assert_eq!(stage.sshd.logins(), 0);

    stage.sshd.know("other-host");
    let error = stage.fetch("id", &[main_branch()]).await.unwrap_err();
    assert!(error.to_string().contains("add the host's key"), "{error}");
    fs::write(stage.sshd.path("known_hosts"), "").unwrap();
    let error = stage.fetch("id", &[main_branch()]).await.unwrap_err();
    assert!(error.to_string().contains("add the host's key"), "{error}");
    assert_eq!((stage.sshd.logins(), error.class()), (0, Class::Permanent));
    assert_eq!(fs::read(stage.sshd.path("known_hosts")).unwrap(), b"", "no key is taken for known");

    stage.sshd.know("host");
    let nowhere = stage.remote(&stage.world.path("nowhere"));
    let wanted = [main_branch()];
    let error = stage.world.mirrors.fetch(&nowhere, Some(&stage.key("id")), &wanted).await.unwrap_err();
    assert!(error.to_string().contains("check the repository's address"), "{error}");
    let error = stage.world.mirrors.fetch(&stage.remote(&stage.repo.path), None, &wanted).await.unwrap_err();
    assert!(error.to_string().contains("ssh needs a key file and a known_hosts file"), "{error}");

    stage.sshd.stop();
    let error = stage.fetch("id", &[main_branch()]).await.unwrap_err();
    assert_eq!(error.class(), Class::Retry, "{error}");
}
