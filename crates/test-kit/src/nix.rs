//! A Nix of a test's own: a folder comes in; the variables with which any Nix command keeps all its things below it come
//! out. Leaves out what a test wants to set besides, and starting Nix.

use std::path::{Path, PathBuf};

/// Lines of a `nix.conf` with which it builds without a network, a sandbox and users of its own.
pub const SETTINGS: &str = "substituters =\nsandbox = false\nbuild-users-group =\n";

/// The store in `store`, its state in `var`, logs in `log`, `nix.conf` in `etc`, and what is kept at home in `home`. Whoever
/// starts Nix with them takes `NIX_REMOTE`, `NIX_PATH` and `NIX_CONFIG` away besides, or sets them.
#[must_use]
pub fn variables(below: &Path) -> [(&'static str, PathBuf); 5] {
    [
        ("NIX_STORE_DIR", "store"),
        ("NIX_STATE_DIR", "var"),
        ("NIX_LOG_DIR", "log"),
        ("NIX_CONF_DIR", "etc"),
        ("HOME", "home"),
    ]
    .map(|(name, folder)| (name, below.join(folder)))
}
