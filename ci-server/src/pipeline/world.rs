//! What code reads of this machine beside its repository. In: the environment of the evaluators. Out: a text that differs
//! when something of it did: what `NIX_PATH`, the settings and the channels lead to, with all that lies there, the files of
//! settings, what is allowed of nixpkgs; and where that cannot be known, why. What is in the store never changes, so its
//! path says it all. Leaves out what code finds by itself.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::look::Look;
use crate::evaluate::Nix;

/// Longest that is looked.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// Most files of settings that others include.
const INCLUDED_MAX: usize = 32;
/// Most bytes of a file of settings or a registry that are read.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;

/// What lies outside of the repository and is read by many.
pub(super) struct Seen {
    pub(super) text: String,
    /// What of it may be another each time.
    pub(super) fleeting: Option<String>,
}

/// Looks at it. Code that is locked in sees the settings alone.
pub(super) fn look(nix: &Nix, is_locked_in: bool) -> Seen {
    let world = World { nix };
    let settings = world.settings();
    let mut look = Look::until(Instant::now() + LOOK_MAX, world.store());
    settings.files.iter().for_each(|file| look.at(file));
    if !is_locked_in {
        for (name, value) in nix.env.iter().filter(|(name, _)| name.to_string_lossy().starts_with("NIXPKGS_"))
        {
            look.lines.push(format!("{}={value:?}", name.display()));
        }
        world.nixpkgs().iter().for_each(|place| look.at(place));
        for entry in world.path(&settings) {
            world.look_at_entry(&entry, &mut look);
        }
    }
    Seen { text: look.lines.join("\n"), fleeting: look.fleeting }
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
        places.extend(self.folder("HOME").map(|home| home.join(".nixpkgs/config.nix")));
        places.extend(self.folder("NIXPKGS_CONFIG"));
        places
    }

    fn look_at_entry(&self, entry: &str, look: &mut Look) {
        if entry.starts_with('/') {
            return look.at(Path::new(entry));
        }
        look.lines.push(entry.to_owned());
        // A registry of this machine or its user may say where a flake lies, and which of it.
        match entry.strip_prefix("flake:").and_then(|id| self.registered(id)) {
            Some(to) => {
                look.lines.push(to.to_string());
                match to["path"].as_str() {
                    Some(path) => look.at(Path::new(path)),
                    None if to["narHash"].is_string() || to["rev"].is_string() => {}
                    None => look.is_fleeting(entry),
                }
            }
            None => look.is_fleeting(entry),
        }
    }

    fn registered(&self, id: &str) -> Option<Value> {
        let of_user = self.config().map(|config| config.join("nix/registry.json"));
        let conf = self.folder("NIX_CONF_DIR").unwrap_or_else(|| "/etc/nix".into());
        let files = of_user.into_iter().chain([conf.join("registry.json")]);
        files.into_iter().find_map(|file| {
            let registry: Value = serde_json::from_str(&text_of(&file)).ok()?;
            let mut flakes = registry["flakes"].as_array()?.iter();
            Some(flakes.find(|flake| flake["from"]["id"] == id)?["to"].clone())
        })
    }

    /// What `<name>` is looked for in: `NIX_PATH`, what the settings say, and the channels. Which of them counts depends on the
    /// release of Nix.
    fn path(&self, settings: &Settings) -> Vec<String> {
        let told = self.of("NIX_PATH").map(OsStr::to_string_lossy);
        let state = self.folder("NIX_STATE_DIR").unwrap_or_else(|| "/nix/var/nix".into());
        let home = self.folder("HOME");
        let of_home = [".nix-defexpr/channels", ".local/state/nix/defexpr/channels"];
        let channels = home.iter().flat_map(|home| of_home.map(|channel| home.join(channel)));
        let channels = channels.chain([state.join("profiles/per-user/root/channels")]);
        let channels = channels.map(|channel| channel.to_string_lossy().into_owned());
        let told = told.iter().flat_map(|path| entries(path));
        told.chain(settings.path.iter().cloned()).chain(channels).collect()
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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

    fn text(nix: &Nix) -> String {
        let Seen { text, fleeting } = look(nix, false);
        assert_eq!(fleeting, None);
        text
    }

    /// A checkout of nixpkgs that somebody works in, or pulls; and links to others.
    #[test]
    fn what_changes_below_a_folder_changes_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["pkgs/a/.git", "other", "store/x", "home"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::write(at("pkgs/a/default.nix"), "1").unwrap();
        symlink(at("other"), at("pkgs/link")).unwrap();
        symlink(at("pkgs"), at("other/back")).unwrap();
        symlink(at("store/x"), at("pkgs/x")).unwrap();
        let nix = nix(&[("NIX_PATH", &at("pkgs")), ("NIX_STORE_DIR", &at("store")), ("HOME", &at("home"))]);
        let first = text(&nix);
        fs::write(at("pkgs/a/.git/index"), "anything").unwrap();
        fs::write(at("store/x/y"), "anything").unwrap();
        assert_eq!(text(&nix), first, "what git keeps is not evaluated, and what is in the store stays");
        assert_eq!(look(&nix, true).text, look(&self::nix(&[("HOME", &at("home"))]), true).text);
        let mut all = vec![first];
        let mut seen = |change: &dyn Fn()| {
            change();
            all.push(text(&nix));
            assert_eq!(text(&nix), *all.last().unwrap());
        };
        seen(&|| fs::write(at("pkgs/a/default.nix"), "22").unwrap());
        seen(&|| fs::write(at("pkgs/a/more"), "").unwrap());
        seen(&|| fs::rename(at("pkgs/a/more"), at("pkgs/a/other")).unwrap());
        seen(&|| fs::write(at("other/behind-the-link"), "").unwrap());
        seen(&|| fs::create_dir_all(at("home/.nixpkgs/config.nix")).unwrap());
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "{all:?}");
    }

    #[test]
    fn what_may_be_another_each_time_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let registry = r#"{"version": 2, "flakes": [
          {"from": {"type": "indirect", "id": "nixpkgs"}, "to": {"type": "path", "path": "/nix/store/x"}},
          {"from": {"type": "indirect", "id": "pinned"}, "to": {"type": "github", "owner": "a", "repo": "b", "rev": "c"}},
          {"from": {"type": "indirect", "id": "moves"}, "to": {"type": "github", "owner": "a", "repo": "b"}}]}"#;
        fs::write(dir.path().join("registry.json"), registry).unwrap();
        for (path, fleeting) in [
            ("nixpkgs=flake:nixpkgs:pinned=flake:pinned", None),
            ("nixpkgs=flake:moves", Some("flake:moves")),
            ("flake:absent", Some("flake:absent")),
            ("a=https://example.org/x.tar.gz:b=channel:nixos-unstable", Some("https://example.org/x.tar.gz")),
            ("nixpkgs=relative", Some("relative")),
        ] {
            let nix = nix(&[("NIX_PATH", Path::new(path)), ("NIX_CONF_DIR", dir.path())]);
            assert_eq!(look(&nix, false).fleeting.as_deref(), fleeting, "{path}");
            assert_eq!(look(&nix, true).fleeting, None, "{path}: who is locked in reads none of it");
        }
        // What cannot be looked through in time is not known.
        let mut late = Look::until(Instant::now(), "/nix/store".into());
        late.at(dir.path());
        assert_eq!(late.fleeting.as_deref(), dir.path().to_str());
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
        let mut all = vec![text(&nix)];
        fs::write(at("etc/more.conf"), fs::read_to_string(at("etc/more.conf")).unwrap() + "a = b\n").unwrap();
        all.push(text(&nix));
        fs::write(at("n/default.nix"), "").unwrap();
        all.push(text(&nix));
        assert_eq!(text(&nix), all[2]);
        all.dedup();
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(!all[0].contains("no.conf"), "{}", all[0]);
    }
}
