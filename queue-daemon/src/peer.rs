//! Who is on the other end of a socket, or owns a spool file, and what they may do.
//!
//! In flow a uid and gid from the kernel and the configured names; out flows yes or a sentence for the client.
//! Names are looked up at each question, so that a user added to a group need not wait for a restart.

use nix::unistd::{Gid, Group, Uid, User, geteuid};

use crate::config::QueueConfig;

/// The uid of a user name, or of a number that is one.
#[must_use]
pub fn uid_of(name: &str) -> Option<u32> {
    match User::from_name(name) {
        Ok(Some(user)) => Some(user.uid.as_raw()),
        Ok(None) | Err(_) => name.parse().ok(),
    }
}

/// The gid of a group name, or of a number that is one.
#[must_use]
pub fn gid_of(name: &str) -> Option<u32> {
    match Group::from_name(name) {
        Ok(Some(group)) => Some(group.gid.as_raw()),
        Ok(None) | Err(_) => name.parse().ok(),
    }
}

/// Whether this user may enqueue.
///
/// # Errors
/// The sentence for the client.
pub fn may_enqueue(config: &QueueConfig, uid: u32, gid: Option<u32>) -> Result<(), String> {
    let open = config.allowed_users.is_empty() && config.allowed_groups.is_empty();
    if open || is_us(uid) || config.allowed_users.iter().any(|name| uid_of(name) == Some(uid)) {
        return Ok(());
    }
    if config.allowed_groups.iter().any(|group| in_group(group, uid, gid)) {
        return Ok(());
    }
    Err(format!("user {uid} may not enqueue; allowed_users and allowed_groups of [queue] decide that"))
}

/// Whether this user may speak for the CI.
///
/// # Errors
/// The sentence for the client.
pub fn may_speak_for_ci(config: &QueueConfig, uid: u32) -> Result<(), String> {
    if is_us(uid) || config.ci_users.iter().any(|name| uid_of(name) == Some(uid)) {
        return Ok(());
    }
    Err(format!("user {uid} may not speak for the CI; ci_users of [queue] decides that"))
}

/// Root and the daemon's own user can do all of it anyway.
fn is_us(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

fn in_group(name: &str, uid: u32, gid: Option<u32>) -> bool {
    let Some(wanted) = gid_of(name) else { return false };
    if gid == Some(wanted) {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return false };
    if user.gid.as_raw() == wanted {
        return true;
    }
    match Group::from_gid(Gid::from_raw(wanted)) {
        Ok(Some(group)) => group.mem.contains(&user.name),
        Ok(None) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn config(text: &str) -> QueueConfig {
        Config::parse(Path::new("ekaci.toml"), &format!("[queue]\n{text}")).unwrap().queue
    }

    #[test]
    fn empty_lists_let_everybody_in_and_a_list_only_those_on_it() {
        assert!(may_enqueue(&config(""), 12_345, None).is_ok());
        let listed = config("allowed_users = [\"12345\"]\nallowed_groups = [\"777\"]");
        assert!(may_enqueue(&listed, 12_345, None).is_ok());
        assert!(may_enqueue(&listed, 9, Some(777)).is_ok());
        assert!(may_enqueue(&listed, 9, Some(778)).unwrap_err().contains("user 9"));
        assert!(may_enqueue(&listed, 0, None).is_ok());
    }

    #[test]
    fn only_the_listed_and_root_speak_for_the_ci() {
        let listed = config("ci_users = [\"12345\"]");
        assert!(may_speak_for_ci(&listed, 12_345).is_ok());
        assert!(may_speak_for_ci(&listed, 0).is_ok());
        assert!(may_speak_for_ci(&listed, 9).is_err());
    }
}
