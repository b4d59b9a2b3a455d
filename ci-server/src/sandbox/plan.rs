//! What a confined child sees, as arguments of bubblewrap. In: what is bound and where. Out: arguments, in an order in
//! which each folder on the way to a mount is made first and can be looked into. Pure; looks at no file system.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Arguments of bubblewrap, as they grow.
#[derive(Debug, Default)]
pub(super) struct Plan {
    args: Vec<OsString>,
    /// Folders that are there because we made them.
    made: BTreeSet<PathBuf>,
    /// Where something is mounted that brings its own folders.
    covered: BTreeSet<PathBuf>,
}

impl Plan {
    /// Adds one argument as it is.
    pub(super) fn flag(&mut self, flag: &str) {
        self.args.push(flag.into());
    }

    /// Adds an option with its values.
    pub(super) fn option(&mut self, name: &str, values: &[&OsStr]) {
        self.flag(name);
        self.args.extend(values.iter().map(|value| OsString::from(*value)));
    }

    /// Shows a file or folder of the host, read-only, at `at`.
    pub(super) fn show(&mut self, source: &Path, at: &Path) {
        self.way_to(at);
        self.option("--ro-bind", &[source.as_os_str(), at.as_os_str()]);
        self.covered.insert(at.to_owned());
    }

    /// What was mounted at `at` brings its own folders.
    pub(super) fn brings(&mut self, at: &str) {
        self.covered.insert(at.into());
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, target: &Path, at: &Path) {
        self.way_to(at);
        self.option("--symlink", &[target.as_os_str(), at.as_os_str()]);
        self.covered.insert(at.to_owned());
    }

    /// An empty folder that can be written, of at most `bytes`.
    pub(super) fn scratch(&mut self, at: &Path, bytes: u64) {
        self.way_to(at);
        self.option("--perms", &["1777".as_ref()]);
        self.option("--size", &[bytes.to_string().as_ref()]);
        self.option("--tmpfs", &[at.as_os_str()]);
        self.made.insert(at.to_owned());
    }

    /// What is to be executed, last.
    pub(super) fn finish(mut self, command: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
        self.flag("--");
        self.args.extend(command);
        self.args
    }

    /// Makes the folders above `at` that others may look into; bubblewrap by itself makes them for root alone.
    fn way_to(&mut self, at: &Path) {
        let above: Vec<&Path> = at.ancestors().skip(1).collect();
        for folder in above.into_iter().rev().filter(|folder| folder.parent().is_some()) {
            let there = folder.ancestors().any(|one| self.covered.contains(one));
            if !there && self.made.insert(folder.to_owned()) {
                self.option("--perms", &["0755".as_ref()]);
                self.option("--dir", &[folder.as_os_str()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(plan: Plan) -> String {
        let args = plan.finish(["true".into()]);
        args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_folder_on_the_way_is_made_once_and_none_below_a_mount() {
        let mut plan = Plan::default();
        plan.show(Path::new("/usr"), Path::new("/usr"));
        plan.show(Path::new("/usr/x/y"), Path::new("/usr/x/y"));
        plan.show(Path::new("/a"), Path::new("/srv/b/a"));
        plan.show(Path::new("/c"), Path::new("/srv/b/c"));
        plan.scratch(Path::new("/tmp"), 9);
        plan.link(Path::new("usr/bin"), Path::new("/tmp/d/e"));
        assert_eq!(
            shown(plan),
            "--ro-bind /usr /usr --ro-bind /usr/x/y /usr/x/y --perms 0755 --dir /srv --perms 0755 --dir /srv/b \
             --ro-bind /a /srv/b/a --ro-bind /c /srv/b/c --perms 1777 --size 9 --tmpfs /tmp --perms 0755 --dir /tmp/d \
             --symlink usr/bin /tmp/d/e -- true"
        );
    }
}
