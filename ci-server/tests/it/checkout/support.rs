//! A world for checkouts: repositories made with the real git, mirrors and places of their own, and a canary that
//! nobody may wake.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ci_model::id::CommitId;
use ci_server::checkout::{
    Bounds, CheckoutError, Fetched, Mirrors, Placed, Places, RefName, Remote, Wanted, Worktree,
};
use service_kit::clock::Clock;
use tempfile::TempDir;

pub(super) struct World {
    dir: TempDir,
    pub(super) bounds: Bounds,
    pub(super) mirrors: Mirrors,
    pub(super) places: Places,
}

/// A repository that a test made.
pub(super) struct Repo {
    pub(super) path: PathBuf,
}

impl World {
    pub(super) fn new() -> Self {
        Self::within(Bounds::default())
    }

    pub(super) fn within(bounds: Bounds) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mirrors = Mirrors::open(&dir.path().join("mirrors"), bounds.clone(), Clock::system()).unwrap();
        let places = Places::open(&dir.path().join("places"), bounds.clone(), Clock::system()).unwrap();
        Self { dir, bounds, mirrors, places }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file that only code of a hostile repository makes.
    pub(super) fn canary(&self) -> PathBuf {
        self.path("canary")
    }

    /// A program that makes it.
    pub(super) fn trap(&self) -> PathBuf {
        let trap = self.path("trap");
        let text = format!("#!/bin/sh\necho \"$0 $*\" >>'{}'\ncat\n", self.canary().display());
        test_kit::script::write(&trap, &text);
        trap
    }

    #[track_caller]
    pub(super) fn expect_no_canary(&self) {
        if let Ok(said) = fs::read_to_string(self.canary()) {
            panic!("something of the repository was run: {said}");
        }
    }

    pub(super) fn repo(&self, name: &str) -> Repo {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        let repo = Repo { path };
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    pub(super) async fn worktree(&self, repo: &Repo) -> Worktree {
        Worktree::open(&repo.path, &self.mirrors).await.unwrap()
    }

    pub(super) async fn fetch(&self, repo: &Repo, commit: &CommitId) -> Result<Fetched, CheckoutError> {
        let remote = Remote::local(&repo.path).unwrap();
        let wanted = Wanted::Commit { id: commit.clone(), seen_on: None };
        self.mirrors.fetch(&remote, None, &[wanted]).await
    }

    pub(super) async fn branch(&self, repo: &Repo, name: &str) -> Result<Fetched, CheckoutError> {
        let remote = Remote::local(&repo.path).unwrap();
        self.mirrors.fetch(&remote, None, &[Wanted::Ref(RefName::branch(name).unwrap())]).await
    }

    pub(super) async fn checkout(&self, repo: &Repo, commit: &CommitId) -> Result<Placed, CheckoutError> {
        self.fetch(repo, commit).await?.mirror.materialise(commit, &self.places).await
    }
}

impl Repo {
    pub(super) fn git(&self, args: &[&str]) -> String {
        self.git_with(args, &[])
    }

    pub(super) fn git_with(&self, args: &[&str], input: &[u8]) -> String {
        use std::io::Write;
        let mut command = git(&self.path);
        let mut child = command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
    }

    pub(super) fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// All that lies there, as a commit; nothing of the repository's configuration is used for it.
    pub(super) fn commit(&self, message: &str) -> CommitId {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.head()
    }

    pub(super) fn head(&self) -> CommitId {
        self.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    pub(super) fn blob(&self, content: &[u8]) -> String {
        self.git_with(&["hash-object", "-w", "--stdin", "--literally", "-t", "blob"], content)
    }

    /// A tree with these rows of mode, name and id, whatever git thinks of it.
    pub(super) fn tree(&self, rows: &[(&str, &[u8], &str)]) -> String {
        let mut content = Vec::new();
        for (mode, name, id) in rows {
            content.extend_from_slice(mode.as_bytes());
            content.push(b' ');
            content.extend_from_slice(name);
            content.push(0);
            content
                .extend((0..id.len()).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()));
        }
        self.git_with(&["hash-object", "-w", "--stdin", "--literally", "-t", "tree"], &content)
    }

    pub(super) fn commit_tree(&self, tree: &str) -> CommitId {
        self.git(&["commit-tree", "-m", "hostile", tree]).parse().unwrap()
    }

    /// A commit whose root has this one row.
    pub(super) fn commit_of(&self, mode: &str, name: &[u8], id: &str) -> CommitId {
        self.commit_tree(&self.tree(&[(mode, name, id)]))
    }
}

#[expect(clippy::disallowed_methods, reason = "tests make repositories with git itself")]
pub(super) fn git(cwd: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(cwd).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("HOME", "/nonexistent");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "T").env(format!("GIT_{who}_EMAIL"), "t@example.org");
        command.env(format!("GIT_{who}_DATE"), "2001-01-01T00:00:00Z");
    }
    command
}

pub(super) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Everything below a folder: path, mode, and content or target. To be compared with what was there before.
pub(super) fn everything(folder: &Path) -> Vec<(PathBuf, u32, Vec<u8>, std::time::SystemTime)> {
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::MetadataExt;
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else if meta.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_vec()
            } else if meta.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            all.push((
                path.strip_prefix(folder).unwrap().to_owned(),
                meta.mode(),
                content,
                meta.modified().unwrap(),
            ));
        }
    }
    all.sort();
    all
}
