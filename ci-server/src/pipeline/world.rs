//! What code reads of this machine beside its repository. In: the environment of the evaluators. Out: a text that differs
//! when something of it did: where `NIX_PATH`, the settings or else the channels lead, with all that lies there, the files
//! of settings, what is allowed of nixpkgs. What is in the store never changes, so its path says it all. Leaves out what
//! code finds by itself.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::evaluate::Nix;

/// Most files and folders that are looked at below one folder: three times those of nixpkgs.
const LISTED_MAX: usize = 300_000;
/// Most files of settings that others include.
const INCLUDED_MAX: usize = 32;
/// Most bytes of a file of settings that are looked at for what it includes.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;

/// What lies outside of the repository and is read by many.
pub(super) fn world(nix: &Nix) -> String {
    let world = World { nix };
    let settings = world.settings();
    let mut places = world.nixpkgs();
    let mut lines: Vec<String> = nix
        .env
        .iter()
        .filter(|(name, _)| name.to_string_lossy().starts_with("NIXPKGS_"))
        .map(|(name, value)| format!("{}={value:?}", name.display()))
        .collect();
    for entry in world.path(&settings) {
        match entry.strip_prefix('/') {
            Some(_) => places.push(entry.into()),
            // Nix fetches it, now and then anew, or it depends on where it is read.
            None => lines.push(format!("{entry} {}", never_the_same())),
        }
    }
    let store = world.store();
    lines.extend(settings.files.iter().map(|file| seen(file, &store)));
    lines.extend(places.iter().map(|place| seen(place, &store)));
    lines.join("\n")
}

/// Files of settings, and what they say of the path.
#[derive(Default)]
struct Settings {
    files: Vec<PathBuf>,
    path: Vec<String>,
}

struct World<'a> {
    nix: &'a Nix,
}

impl World<'_> {
    fn of(&self, name: &str) -> Option<&OsStr> {
        let set = self.nix.env.iter().rfind(|(key, _)| key.to_str() == Some(name));
        set.map(|(_, value)| value.as_os_str())
    }

    fn folder(&self, name: &str) -> Option<PathBuf> {
        self.of(name).map(PathBuf::from)
    }

    fn store(&self) -> PathBuf {
        self.folder("NIX_STORE_DIR").unwrap_or_else(|| "/nix/store".into())
    }

    fn config(&self) -> Option<PathBuf> {
        self.folder("XDG_CONFIG_HOME").or_else(|| Some(self.folder("HOME")?.join(".config")))
    }

    fn settings(&self) -> Settings {
        let mut files =
            vec![self.folder("NIX_CONF_DIR").unwrap_or_else(|| "/etc/nix".into()).join("nix.conf")];
        match self.of("NIX_USER_CONF_FILES") {
            Some(told) => {
                let told = told.as_bytes().split(|byte| *byte == b':').filter(|file| !file.is_empty());
                files.extend(told.map(|file| PathBuf::from(OsStr::from_bytes(file))));
            }
            None => {
                files.extend(self.config().map(|config| config.join("nix/nix.conf")));
                files.push("/etc/xdg/nix/nix.conf".into());
            }
        }
        let mut settings = Settings::default();
        if let Some(text) = self.of("NIX_CONFIG") {
            files.extend(settings.read(&text.to_string_lossy(), Path::new("/")));
        }
        while let Some(file) = files.pop() {
            if settings.files.len() < INCLUDED_MAX && !settings.files.contains(&file) {
                let folder = file.parent().unwrap_or(Path::new("/"));
                files.extend(settings.read(&text_of(&file), folder));
                settings.files.push(file);
            }
        }
        settings
    }

    /// What nixpkgs reads by itself.
    fn nixpkgs(&self) -> Vec<PathBuf> {
        let names = ["nixpkgs/config.nix", "nixpkgs/overlays.nix", "nixpkgs/overlays"];
        let mut places: Vec<PathBuf> =
            self.config().iter().flat_map(|config| names.map(|name| config.join(name))).collect();
        places.extend(self.folder("NIXPKGS_CONFIG"));
        places
    }

    /// What `<name>` is looked for in: `NIX_PATH`, or else what the settings say and the channels.
    fn path(&self, settings: &Settings) -> Vec<String> {
        if let Some(path) = self.of("NIX_PATH") {
            return entries(&path.to_string_lossy()).collect();
        }
        let state = self.folder("NIX_STATE_DIR").unwrap_or_else(|| "/nix/var/nix".into());
        let channels = self.folder("HOME").map(|home| home.join(".nix-defexpr/channels"));
        let channels = channels.into_iter().chain([state.join("profiles/per-user/root/channels")]);
        let channels = channels.map(|channel| channel.to_string_lossy().into_owned());
        settings.path.iter().cloned().chain(channels).collect()
    }
}

impl Settings {
    /// Takes what a text of settings says of the path; gives what it includes.
    fn read(&mut self, text: &str, folder: &Path) -> Vec<PathBuf> {
        let mut included = Vec::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split('#').next().unwrap_or("").split_whitespace().collect();
            match words[..] {
                ["include" | "!include", file] => included.push(folder.join(file)),
                ["nix-path" | "extra-nix-path", "=", ref entries @ ..] => {
                    self.path.extend(entries.iter().map(|entry| leads_to(entry)));
                }
                _ => {}
            }
        }
        included
    }
}

/// The entries of a `NIX_PATH`, without their names. A colon parts them, unless it belongs to a URL.
fn entries(path: &str) -> impl Iterator<Item = String> + '_ {
    let parts = path.split(':').collect::<Vec<_>>();
    let mut whole: Vec<String> = Vec::new();
    for part in parts {
        let continues = whole.last().is_some_and(|last| {
            let scheme = last.rsplit('=').next().unwrap_or_default();
            part.starts_with("//") || ["channel", "flake", "github"].contains(&scheme)
        });
        match whole.last_mut().filter(|_| continues) {
            Some(last) => *last = format!("{last}:{part}"),
            None => whole.push(part.to_owned()),
        }
    }
    whole.into_iter().filter(|entry| !entry.is_empty()).map(|entry| leads_to(&entry))
}

fn leads_to(entry: &str) -> String {
    match entry.split_once('=') {
        Some((name, place)) if !name.contains(['/', ':']) => place.to_owned(),
        _ => entry.to_owned(),
    }
}

fn text_of(file: &Path) -> String {
    let is_small = fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= SETTINGS_BYTES_MAX);
    let bytes = if is_small { fs::read(file).unwrap_or_default() } else { Vec::new() };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is at a place now.
fn seen(place: &Path, store: &Path) -> String {
    let what = match fs::canonicalize(place) {
        Err(_) => "nothing".into(),
        Ok(real) if real.starts_with(store) => real.display().to_string(),
        Ok(real) => format!("{} {}", real.display(), listing(&real).unwrap_or_else(never_the_same)),
    };
    format!("{} {what}", place.display())
}

/// All that lies at a path and below it, by names, sizes and times; git's own folders aside. `None` where that is too much, or
/// cannot be read.
fn listing(root: &Path) -> Option<String> {
    let (mut hash, mut count) = (Sha256::new(), 0);
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        count += 1;
        if count > LISTED_MAX {
            return None;
        }
        let meta = fs::symlink_metadata(&path).ok()?;
        hash.update(path.as_os_str().as_bytes());
        // A folder's own time changes with what nobody evaluates, such as `.git`.
        let (size, time, part) = match meta.is_dir() {
            true => (0, 0, 0),
            false => (meta.len(), meta.mtime(), meta.mtime_nsec()),
        };
        hash.update(format!("\0{:o} {size} {time} {part}\0", meta.mode()));
        if meta.is_dir() {
            let inside = fs::read_dir(&path).ok()?.map(|entry| Some(entry.ok()?.path()));
            let mut inside = inside.collect::<Option<Vec<_>>>()?;
            inside.retain(|path| path.file_name() != Some(OsStr::new(".git")));
            inside.sort_unstable();
            waiting.extend(inside);
        }
    }
    Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What nothing else is: nothing is found by it again.
fn never_the_same() -> String {
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid");
    random.unwrap_or_else(|_| format!("process {}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nix(env: &[(&str, &Path)]) -> Nix {
        let env = env.iter().map(|(name, value)| ((*name).into(), value.as_os_str().to_owned()));
        Nix { env: env.collect(), options: Vec::new(), engine: crate::evaluate::Engine::Walk }
    }

    #[test]
    fn entries_are_parted_and_urls_are_not() {
        let all = |path| entries(path).collect::<Vec<_>>();
        assert_eq!(all("/a:b=/c::d=e"), ["/a", "/c", "e"]);
        assert_eq!(
            all("n=https://example.org/a=b.tar.gz:m=channel:nixos-unstable:o=flake:nixpkgs:/d:p=github:x/y"),
            ["https://example.org/a=b.tar.gz", "channel:nixos-unstable", "flake:nixpkgs", "/d", "github:x/y"]
        );
    }

    /// A checkout of nixpkgs that somebody works in, or pulls.
    #[test]
    fn what_changes_below_a_folder_changes_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        fs::create_dir_all(dir.path().join("pkgs/a/.git")).unwrap();
        fs::create_dir_all(&store).unwrap();
        let file = dir.path().join("pkgs/a/default.nix");
        fs::write(&file, "1").unwrap();
        let nix =
            nix(&[("NIX_PATH", &dir.path().join("pkgs")), ("NIX_STORE_DIR", &store), ("HOME", dir.path())]);
        let first = world(&nix);
        fs::write(dir.path().join("pkgs/a/.git/index"), "anything").unwrap();
        assert_eq!(world(&nix), first, "what git keeps is not evaluated");
        let mut all = vec![first];
        fs::write(&file, "22").unwrap();
        all.push(world(&nix));
        fs::write(dir.path().join("pkgs/a/more"), "").unwrap();
        all.push(world(&nix));
        fs::rename(dir.path().join("pkgs/a/more"), dir.path().join("pkgs/a/other")).unwrap();
        all.push(world(&nix));
        all.push(world(&self::nix(&[("NIX_PATH", Path::new("https://example.org/x.tar.gz"))])));
        all.push(world(&self::nix(&[("NIX_PATH", Path::new("https://example.org/x.tar.gz"))])));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "{all:?}");
    }

    #[test]
    fn settings_lead_on() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("etc")).unwrap();
        fs::create_dir_all(at("n")).unwrap();
        fs::write(at("etc/nix.conf"), "# include no.conf\n!include more.conf\n").unwrap();
        fs::write(
            at("etc/more.conf"),
            format!("include nix.conf\nnix-path = nixpkgs={}\n", at("n").display()),
        )
        .unwrap();
        let nix = nix(&[("NIX_CONF_DIR", &at("etc")), ("HOME", dir.path()), ("NIX_STATE_DIR", dir.path())]);
        let mut all = vec![world(&nix)];
        fs::write(at("etc/more.conf"), fs::read_to_string(at("etc/more.conf")).unwrap() + "a = b\n").unwrap();
        all.push(world(&nix));
        fs::write(at("n/default.nix"), "").unwrap();
        all.push(world(&nix));
        assert_eq!(world(&nix), all[2]);
        all.dedup();
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(!all[0].contains("no.conf"), "{}", all[0]);
    }
}
