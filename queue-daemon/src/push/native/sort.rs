//! From what a destination has to what is to be done: pure.
//!
//! In flow the paths of a closure, references first, and what is known of each; out flows, for each, that nothing is
//! to be done, that it is to be sent or signed, or that it only has to wait: it is there, but something it needs is
//! not, so that nobody could have it from there yet.

use std::collections::HashSet;

use nix_store::PathInfo;
use nix_types::NarInfo;

use super::presence::Seen;

/// What is to be done about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Todo {
    /// It is there with all it needs; what it says, where that was read.
    Nothing(Option<Box<NarInfo>>),
    /// Its archive and its narinfo are to be sent.
    Send,
    /// It is there and lacks a signature.
    Sign(Box<NarInfo>),
    /// It is there, and counts once what it needs is there.
    Wait(Option<Box<NarInfo>>),
}

/// Says it for each path of a closure; `is_unsigned` tells whether a narinfo lacks a signature of ours.
pub(super) fn sort(
    closure: &[PathInfo],
    seen: Vec<Seen>,
    is_unsigned: impl Fn(&PathInfo, &NarInfo) -> bool,
) -> Vec<Todo> {
    let mut open: HashSet<&str> = HashSet::new();
    let mut todos = Vec::with_capacity(closure.len());
    for (info, seen) in closure.iter().zip(seen) {
        let waits = info
            .references
            .iter()
            .any(|reference| *reference != info.path && open.contains(reference.as_str()));
        let todo = match seen {
            Seen::Absent | Seen::Useless(_) => Todo::Send,
            Seen::Says(narinfo) if is_unsigned(info, &narinfo) => Todo::Sign(narinfo),
            Seen::Says(narinfo) if waits => Todo::Wait(Some(narinfo)),
            Seen::Says(narinfo) => Todo::Nothing(Some(narinfo)),
            Seen::There if waits => Todo::Wait(None),
            Seen::There => Todo::Nothing(None),
        };
        if !matches!(todo, Todo::Nothing(_)) {
            open.insert(info.path.as_str());
        }
        todos.push(todo);
    }
    todos
}

#[cfg(test)]
mod tests {
    use nix_types::StorePath;

    use super::*;

    fn info(number: usize, references: &[usize]) -> PathInfo {
        let path =
            |number: usize| StorePath::parse_str(&format!("/nix/store/{number:032}-p")).expect("well-formed");
        PathInfo {
            path: path(number),
            nar_hash: String::new(),
            nar_size: 1,
            references: references.iter().map(|reference| path(*reference)).collect(),
            deriver: None,
            registration_time: 0,
            ultimate: false,
            signatures: Vec::new(),
            ca: None,
        }
    }

    #[test]
    fn what_is_there_waits_for_what_it_needs_however_far_away() {
        let closure = [info(0, &[]), info(1, &[0, 1]), info(2, &[1]), info(3, &[3])];
        let seen = vec![Seen::Absent, Seen::There, Seen::There, Seen::There];
        let want = [Todo::Send, Todo::Wait(None), Todo::Wait(None), Todo::Nothing(None)];
        assert_eq!(sort(&closure, seen, |_, _| false), want);
    }

    #[test]
    fn what_is_no_narinfo_is_sent_in_its_place() {
        let seen = vec![Seen::Useless("is no text".into())];
        assert_eq!(sort(&[info(0, &[])], seen, |_, _| false), [Todo::Send]);
    }
}
