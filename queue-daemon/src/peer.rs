//! Who is on the other end of a socket, or owns a spool file, and what they may do.
//!
//! In flow a uid and gid from the kernel and the configured names; out flows yes, or no with a sentence for the client,
//! or that nobody can tell now. Names are looked up at each question, so that a user added to a group need not wait
//! for a restart.

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, geteuid};

use crate::config::QueueConfig;
use crate::model::Answer;

/// The process at the other end of a socket, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its number when it connected; 0 when the kernel does not say.
    pub pid: u32,
}

impl Peer {
    /// Of a connection.
    ///
    /// # Errors
    /// The kernel does not know.
    pub fn of(stream: &tokio::net::UnixStream) -> std::io::Result<Self> {
        let cred = stream.peer_cred()?;
        let pid = cred.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        Ok(Self { uid: cred.uid(), gid: cred.gid(), pid })
    }
}

/// Why somebody may not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The configuration says so; the sentence for the client.
    No(String),
    /// The users and groups of this machine cannot be looked up now: ask again later.
    Unknown(String),
}

impl From<Denied> for Answer {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::No(why) => Self::Refused { why },
            Denied::Unknown(why) => Self::Busy { why },
        }
    }
}

/// Why a name of the configuration stands for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// There is no such user or group.
    Absent,
    /// It cannot be told now whether there is: the look-up failed.
    Unknown(Errno),
}

impl Unnamed {
    /// What is wrong, of a `user` or `group` of this name.
    #[must_use]
    pub fn of(self, kind: &str, name: &str) -> String {
        match self {
            Self::Absent => format!("there is no {kind} `{name}`"),
            Self::Unknown(errno) => {
                format!("whether there is a {kind} `{name}` cannot be told now, the look-up failed: {errno}")
            }
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Absent => "correct the name, or write the number",
            Self::Unknown(_) => {
                "see whether the services that /etc/nsswitch.conf names answer, then try again; or write the number"
            }
        }
    }
}

/// The uid of a user name, or of a number that is one.
///
/// # Errors
/// There is no such user, or it cannot be told now.
pub fn uid_of(name: &str) -> Result<u32, Unnamed> {
    named(find_user(name))
}

/// The gid of a group name, or of a number that is one.
///
/// # Errors
/// There is no such group, or it cannot be told now.
pub fn gid_of(name: &str) -> Result<u32, Unnamed> {
    named(find_group(name))
}

fn named(found: Result<Option<u32>, Errno>) -> Result<u32, Unnamed> {
    found.map_err(Unnamed::Unknown)?.ok_or(Unnamed::Absent)
}

/// The name of a user; none when it has none, or it cannot be told now. May block.
#[must_use]
pub fn name_of(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// Whether this user may enqueue.
///
/// # Errors
/// Why not.
pub fn may_enqueue(config: &QueueConfig, uid: u32, gid: Option<u32>) -> Result<(), Denied> {
    if (config.allowed_users.is_empty() && config.allowed_groups.is_empty()) || is_us(uid) {
        return Ok(());
    }
    let users = config.allowed_users.iter().map(|name| is_user(name, uid));
    let groups = config.allowed_groups.iter().map(|name| in_group(name, uid, gid));
    any(users.chain(groups), || {
        format!("user {uid} may not enqueue; allowed_users and allowed_groups of [queue] decide that")
    })
}

/// Whether this user may speak for the CI.
///
/// # Errors
/// Why not.
pub fn may_speak_for_ci(config: &QueueConfig, uid: u32) -> Result<(), Denied> {
    if is_us(uid) {
        return Ok(());
    }
    any(config.ci_users.iter().map(|name| is_user(name, uid)), || {
        format!("user {uid} may not speak for the CI; ci_users of [queue] decides that")
    })
}

/// One yes is enough; without one, a question that was not answered might have been it.
fn any(
    answers: impl Iterator<Item = Result<bool, Errno>>,
    no: impl FnOnce() -> String,
) -> Result<(), Denied> {
    let mut failed = None;
    for answer in answers {
        match answer {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(errno) => failed = Some(errno),
        }
    }
    Err(match failed {
        None => Denied::No(no()),
        Some(errno) => {
            Denied::Unknown(format!("the users and groups of this machine cannot be looked up now: {errno}"))
        }
    })
}

/// Root and the daemon's own user can do all of it anyway.
fn is_us(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

fn is_user(name: &str, uid: u32) -> Result<bool, Errno> {
    Ok(find_user(name)? == Some(uid))
}

fn in_group(name: &str, uid: u32, gid: Option<u32>) -> Result<bool, Errno> {
    let Some(wanted) = find_group(name)? else { return Ok(false) };
    if gid == Some(wanted) {
        return Ok(true);
    }
    let Some(user) = User::from_uid(Uid::from_raw(uid))? else { return Ok(false) };
    if user.gid.as_raw() == wanted {
        return Ok(true);
    }
    let group = Group::from_gid(Gid::from_raw(wanted))?;
    Ok(group.is_some_and(|group| group.mem.contains(&user.name)))
}

fn find_user(name: &str) -> Result<Option<u32>, Errno> {
    or_number(name, User::from_name(name).map(|user| user.map(|user| user.uid.as_raw())))
}

fn find_group(name: &str) -> Result<Option<u32>, Errno> {
    or_number(name, Group::from_name(name).map(|group| group.map(|group| group.gid.as_raw())))
}

/// What is no name may be a number, which needs nobody to be asked.
fn or_number(name: &str, found: Result<Option<u32>, Errno>) -> Result<Option<u32>, Errno> {
    match found {
        Ok(Some(id)) => Ok(Some(id)),
        Ok(None) => Ok(name.parse().ok()),
        Err(errno) => name.parse().map(Some).map_err(|_| errno),
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
        let denied = may_enqueue(&listed, 9, Some(778)).unwrap_err();
        assert!(matches!(&denied, Denied::No(why) if why.contains("user 9")), "{denied:?}");
        assert!(may_enqueue(&listed, 0, None).is_ok());
    }

    #[test]
    fn only_the_listed_and_root_speak_for_the_ci() {
        let listed = config("ci_users = [\"12345\"]");
        assert!(may_speak_for_ci(&listed, 12_345).is_ok());
        assert!(may_speak_for_ci(&listed, 0).is_ok());
        assert!(matches!(may_speak_for_ci(&listed, 9), Err(Denied::No(_))));
    }

    #[test]
    fn a_question_without_an_answer_is_no_refusal() {
        let no = || "no".to_owned();
        let (yes, not, lost) = (Ok(true), Ok(false), Err(Errno::EMFILE));
        assert_eq!(any([not, lost, yes].into_iter(), no), Ok(()));
        assert_eq!(any([not, not].into_iter(), no), Err(Denied::No("no".into())));
        assert!(matches!(any([lost, not].into_iter(), no), Err(Denied::Unknown(_))));
        assert_eq!(or_number("7", lost.map(|_| None)), Ok(Some(7)));
        assert_eq!(or_number("seven", lost.map(|_| None)), Err(Errno::EMFILE));
    }

    #[test]
    fn a_look_up_that_failed_is_not_called_an_absent_name() {
        assert_eq!(uid_of("no-such-user"), Err(Unnamed::Absent));
        assert_eq!(gid_of("no-such-group"), Err(Unnamed::Absent));
        assert_eq!(named(Ok(Some(7))), Ok(7));
        let absent = named(Ok(None)).unwrap_err();
        assert_eq!(absent.of("user", "kim"), "there is no user `kim`");
        assert!(absent.remedy().contains("correct the name"));
        for errno in [Errno::EIO, Errno::EAGAIN, Errno::EMFILE] {
            let unknown = named(or_number("kim", Err(errno))).unwrap_err();
            let why = unknown.of("group", "kim");
            assert!(why.starts_with("whether there is a group `kim` cannot be told now"), "{why}");
            assert!(why.ends_with(&errno.to_string()), "{why}");
            assert!(unknown.remedy().contains("try again"));
        }
    }
}
