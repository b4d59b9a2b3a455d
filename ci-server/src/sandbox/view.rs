//! What a confined child sees of the file system. In: its program and what it needs. Out: mounts, or which path cannot be
//! shown. Here are the lists of what programs need of a system.

use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::error::looking_at;
use super::plan::Plan;
use super::{Confinement, DOOR, INSIDE, Sandbox, SandboxError, StoreAccess, Unfit};

/// Folders of a system that hold programs and libraries.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// What this machine's administrator installed by hand: shown where the child's program lies there, and empty otherwise.
const LOCAL: &str = "/usr/local";
/// Files and folders of `/proc` that say something about the machine, and nothing that programs need: they are empty.
const TELLING: [&str; 36] = [
    "acpi",
    "asound",
    "buddyinfo",
    "cmdline",
    "config.gz",
    "consoles",
    "crypto",
    "devices",
    "diskstats",
    "dma",
    "driver",
    "execdomains",
    "fb",
    "fs",
    "interrupts",
    "iomem",
    "ioports",
    "kallsyms",
    "key-users",
    "keys",
    "latency_stats",
    "locks",
    "mdstat",
    "misc",
    "modules",
    "mtrr",
    "pagetypeinfo",
    "partitions",
    "pressure",
    "schedstat",
    "slabinfo",
    "softirqs",
    "swaps",
    "timer_list",
    "vmallocinfo",
    "zoneinfo",
];
/// Where the programs of Nix and NixOS are.
const NIX_STORE: &str = "/nix/store";
/// What programs need of `/etc` as it is: the list of libraries, certificate authorities and where links to them lead.
const ETC: [&str; 4] = ["/etc/ld.so.cache", "/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/static/ssl/certs"];
/// Files that stand in for those of `/etc`: name, content.
pub(super) const FILES: [(&str, &str); 4] = [
    ("passwd", "nobody:x:65534:65534:nobody:/tmp/home:/bin/sh\n"),
    ("group", "nogroup:x:65534:\n"),
    ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
];
/// A file and a folder with nothing in them, among those.
pub(super) const EMPTY: &str = "empty";
pub(super) const EMPTY_FOLDER: &str = "empty-folder";
/// Folders of which only parts may be shown.
const MUCH: [&str; 7] = ["/etc", "/home", "/root", "/run", "/srv", "/tmp", "/var"];
/// Folders of which nothing may be: the sandbox has its own.
const OF_THE_KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Where the certificate authorities lie inside that https is judged by.
pub(super) const CERTIFICATES: &str = "/run/eka/certificates.crt";
/// Where they may lie outside, beside what `NIX_SSL_CERT_FILE` and `SSL_CERT_FILE` say.
const CERTIFICATE_FILES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

/// The same file or folder by a name that is inside, if it has one. The last part stays as it is, for some programs do what
/// they are called; whatever links lead there do not, for profiles of Nix are links from outside.
pub(super) fn as_seen(path: &Path) -> Option<PathBuf> {
    let within = |path: &Path| SYSTEM.iter().chain([&NIX_STORE]).any(|folder| path.starts_with(folder));
    let parent = path.parent()?.canonicalize().ok()?; // absent outside, so absent inside
    let named = parent.join(path.file_name()?);
    match path.canonicalize().ok()? {
        real if within(&real) && within(&named) => Some(named),
        real if within(&real) && real.is_dir() => Some(real),
        _ => None,
    }
}

impl Sandbox {
    /// Programs, libraries, `/proc`, `/dev`, and an `/etc` that says nothing about this machine.
    pub(super) fn system(&self, plan: &mut Plan, program: &Path) {
        for folder in SYSTEM.map(Path::new) {
            match folder.read_link() {
                Ok(target) => plan.link(&target, folder),
                Err(_) if folder.is_dir() => plan.show(folder, folder), // no link: a folder, or absent
                Err(_) => {}
            }
        }
        // Our own program may come from there as well, or its libraries.
        let of_nix = [program, &self.helper.program].iter().any(|program| program.starts_with(NIX_STORE));
        if of_nix || Path::new("/etc/NIXOS").exists() {
            plan.show(Path::new(NIX_STORE), Path::new(NIX_STORE));
        }
        for path in ETC.map(Path::new).into_iter().filter(|path| path.exists()) {
            plan.show(path, path);
        }
        for (name, _) in FILES {
            plan.show(&self.files.path().join(name), &Path::new("/etc").join(name));
        }
        plan.show(&self.helper.program, Path::new(INSIDE));
        plan.option("--proc", &["/proc".as_ref()]);
        plan.brings("/proc");
        for name in TELLING {
            self.cover(plan, &Path::new("/proc").join(name));
        }
        if !program.canonicalize().is_ok_and(|program| program.starts_with(LOCAL)) {
            self.cover(plan, Path::new(LOCAL));
        }
        plan.option("--dev", &["/dev".as_ref()]);
    }

    /// Puts an empty file or folder in the place of one.
    fn cover(&self, plan: &mut Plan, path: &Path) {
        match path.symlink_metadata() {
            Ok(data) if data.is_file() => plan.show(&self.files.path().join(EMPTY), path),
            Ok(data) if data.is_dir() => plan.show(&self.files.path().join(EMPTY_FOLDER), path),
            Ok(_) | Err(_) => {} // a link, which leads nowhere inside; or absent
        }
    }

    /// What this child needs beside.
    pub(super) fn needs(&self, plan: &mut Plan, confinement: &Confinement) -> Result<(), SandboxError> {
        for path in &confinement.reads {
            self.may_be_shown(path)?;
            plan.show(path, path);
            self.without_logins(plan, path);
        }
        if let Some(door) = &confinement.door {
            plan.show(door, Path::new(DOOR));
            if let Some(file) = certificates() {
                plan.show(&file, Path::new(CERTIFICATES));
            }
        }
        if let StoreAccess::Daemon { socket_folder, store } = &confinement.store {
            for path in [socket_folder, store] {
                self.may_be_shown(path)?;
                plan.show(path, path);
            }
        }
        Ok(())
    }

    /// In a work tree of git nothing of its configuration, nor of that of its submodules, is there.
    fn without_logins(&self, plan: &mut Plan, tree: &Path) {
        let git = tree.join(".git");
        if !git.symlink_metadata().is_ok_and(|data| data.is_dir()) {
            return;
        }
        for name in ["config", "config.worktree", "modules"] {
            self.cover(plan, &git.join(name));
        }
    }

    /// Is this a path that the confined user could use, and not everything? Where it leads counts as well.
    fn may_be_shown(&self, path: &Path) -> Result<(), SandboxError> {
        let refused = |unfit| Err(SandboxError::Path { path: path.to_owned(), unfit });
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return refused(Unfit::NotPlain);
        }
        let real = path.canonicalize().map_err(looking_at(path))?;
        for path in [path, &real] {
            let is_system = OF_THE_KERNEL.iter().any(|folder| path.starts_with(folder));
            if is_system || path.parent().is_none() || MUCH.iter().any(|folder| path == Path::new(folder)) {
                return refused(Unfit::Everything);
            }
        }
        let data = path.metadata().map_err(looking_at(path))?;
        let needed = if data.is_dir() { 0o005 } else { 0o004 };
        if self.root && data.permissions().mode() & needed != needed {
            return refused(Unfit::Closed);
        }
        Ok(())
    }
}

/// The file of certificate authorities that holds outside.
fn certificates() -> Option<PathBuf> {
    let named = ["NIX_SSL_CERT_FILE", "SSL_CERT_FILE"].into_iter().filter_map(std::env::var_os);
    let files = named.map(PathBuf::from).chain(CERTIFICATE_FILES.map(PathBuf::from));
    files.into_iter().find_map(|file| file.canonicalize().ok().filter(|file| file.is_file()))
}
