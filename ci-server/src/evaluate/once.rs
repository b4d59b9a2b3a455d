//! What an engine tells of attributes comes in; the same goes out with each path told once, as a store wants it. Two
//! attributes can have one path as it is printed: names that are no UTF-8, and names that stand in for others. The second
//! becomes an error beside the first, so that neither is lost. What is wrong with all of it, at the root, is held
//! back to the end and told as one error.

use std::collections::HashMap;

use ci_model::attr::{AttrError, ErrorKind, MESSAGE_BYTES_MAX};
use nix_types::AttrPath;

use super::{Event, Sink, may_pass, message};

/// Most different messages in the error at the root; of the others it says how many there are.
const ROOT_MESSAGES_MAX: usize = 8;

/// Makes paths unique.
pub(super) struct Once<'s> {
    sink: Sink<'s>,
    /// How often each path was told.
    told: HashMap<AttrPath, u64>,
    root: Option<Root>,
}

/// Errors at the root.
struct Root {
    error: AttrError,
    messages: Vec<String>,
    more: u64,
}

impl<'s> Once<'s> {
    pub(super) fn new(sink: Sink<'s>) -> Self {
        Self { sink, told: HashMap::new(), root: None }
    }

    pub(super) fn tell(&mut self, event: Event) {
        let path = match &event {
            Event::Error(error) if error.path.is_root() => return self.merge(error),
            Event::Attr(attr) => &attr.path,
            Event::Error(error) => &error.path,
            Event::OtherSystem(path) => path,
            Event::Known(_) | Event::Begin(_) | Event::Held(_) | Event::Memory { .. } => {
                return (self.sink)(event);
            }
        };
        if let Some(path) = self.is_again(path) {
            self.tell_second(&path, event);
        } else {
            (self.sink)(event);
        }
    }

    /// The path, if something was told of it before.
    fn is_again(&mut self, path: &AttrPath) -> Option<AttrPath> {
        if self.told.contains_key(path) {
            return Some(path.clone());
        }
        self.told.insert(path.clone(), 1);
        None
    }

    /// Tells what comes second at a path: as an error at a path that nothing else has.
    fn tell_second(&mut self, path: &AttrPath, event: Event) {
        let (kind, what, trace) = match event {
            Event::Error(error) => (error.kind, error.message, error.trace),
            Event::Attr(attr) => (ErrorKind::TooLarge, format!("it is {}", attr.drv), String::new()),
            _ => (ErrorKind::TooLarge, "it is for another system".to_owned(), String::new()),
        };
        let free = self.free(path);
        let error = |path: AttrPath| {
            let why = format!(
                "another attribute is printed as '{path}' too, for instance one whose name is no UTF-8; rename one of them. Of this one is known: {what}"
            );
            message::ours(path, kind, &why)
        };
        match free {
            Some(free) => {
                let error = AttrError { path: free, trace, ..error(path.clone()) };
                (self.sink)(Event::Error(Box::new(error)));
            }
            None => self.merge(&AttrError { path: AttrPath::root(), ..error(path.clone()) }),
        }
    }

    /// The path with the first number behind it that nothing else has; `None` where that is too long.
    fn free(&mut self, path: &AttrPath) -> Option<AttrPath> {
        loop {
            let number = self.told.get_mut(path)?;
            *number += 1;
            let mut names = path.components().to_vec();
            let last = names.pop().unwrap_or_default();
            names.push(format!("{last}#{number}"));
            let free = AttrPath::new(names).ok()?;
            if !self.told.contains_key(&free) {
                self.told.insert(free.clone(), 1);
                return Some(free);
            }
        }
    }

    fn merge(&mut self, error: &AttrError) {
        let Some(root) = &mut self.root else {
            let messages = vec![error.message.clone()];
            self.root = Some(Root { error: error.clone(), messages, more: 0 });
            return;
        };
        // What may be gone the next time must be seen.
        if may_pass(error) && !may_pass(&root.error) {
            root.error = error.clone();
            root.messages.retain(|message| *message != error.message);
            root.messages.insert(0, error.message.clone());
        } else if !root.messages.contains(&error.message) {
            if root.messages.len() < ROOT_MESSAGES_MAX {
                root.messages.push(error.message.clone());
            } else {
                root.more += 1;
            }
        }
    }

    /// There is no more: tells what was held back.
    pub(super) fn finish(mut self) {
        let Some(Root { error, messages, more }) = self.root.take() else { return };
        let more = if more == 0 { String::new() } else { format!("\nand {more} more errors of this kind") };
        let text = messages.join("\n");
        let room = MESSAGE_BYTES_MAX.saturating_sub(more.len());
        let message = format!("{}{more}", &text[..text.floor_char_boundary(room)]);
        let error = AttrError { message, ..error };
        let path = self.is_again(&error.path);
        // Where the root is a job, its error lies beside it.
        let path = path.map_or(Some(AttrPath::root()), |path| self.free(&path));
        (self.sink)(Event::Error(Box::new(AttrError { path: path.unwrap_or_default(), ..error })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(kind: ErrorKind, text: &str) -> Event {
        Event::Error(Box::new(message::ours(AttrPath::root(), kind, text)))
    }

    /// What comes out, as `path kind message`.
    fn told(events: Vec<Event>) -> Vec<String> {
        let mut out = Vec::new();
        let mut sink = |event| {
            out.push(match event {
                Event::Error(error) => format!("{} {} {}", error.path, error.kind, error.message),
                Event::OtherSystem(path) => format!("{path} other"),
                _ => String::new(),
            });
        };
        let mut once = Once::new(&mut sink);
        events.into_iter().for_each(|event| once.tell(event));
        once.finish();
        out
    }

    #[test]
    fn errors_at_the_root_are_one_and_what_may_pass_gives_its_kind() {
        let mut events: Vec<_> = (0..20).map(|at| root(ErrorKind::TooLarge, &format!("long {at}"))).collect();
        events.insert(3, root(ErrorKind::TimedOut, "no time"));
        events.push(root(ErrorKind::TimedOut, "no time"));
        let wanted: String = (0..7).map(|at| format!("\nlong {at}")).collect();
        assert_eq!(told(events), [format!(" timed-out no time{wanted}\nand 13 more errors of this kind")]);
        let long = "x".repeat(MESSAGE_BYTES_MAX - 2);
        let out = told(
            ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
                .map(|text| root(ErrorKind::Fatal, &format!("{text}{long}")))
                .into(),
        );
        assert!(out.len() == 1 && out[0].ends_with("\nand 1 more errors of this kind"), "{out:?}");
        assert!(out[0].len() <= MESSAGE_BYTES_MAX + " fatal ".len());
    }

    #[test]
    fn no_path_is_told_twice_and_no_attribute_is_lost() {
        let path = |text: &str| text.parse::<AttrPath>().unwrap();
        let mut events: Vec<_> =
            ["a", "\"a#2\"", "a", "a", "\"a#2\""].map(|text| Event::OtherSystem(path(text))).into();
        events.push(Event::OtherSystem(AttrPath::root()));
        events.push(root(ErrorKind::TimedOut, "no time"));
        let out = told(events);
        let paths: Vec<_> = out.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(paths, ["a", "\"a#2\"", "\"a#3\"", "\"a#4\"", "\"a#2#2\"", "", "\"#2\""]);
        // Where there is no room for a number, it goes to the root.
        let full = AttrPath::new(vec!["x".repeat(nix_types::ATTR_PATH_BYTES_MAX)]).unwrap();
        let out = told(vec![Event::OtherSystem(full.clone()), Event::OtherSystem(full)]);
        assert!(out.len() == 2 && out[1].starts_with(" too-large another attribute"), "{out:?}");
    }
}
