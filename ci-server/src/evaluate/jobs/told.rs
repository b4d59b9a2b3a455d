//! What `nix-eval-jobs` has told of an evaluation, over all its runs. Rows come in; events go out, and what is left for
//! whoever goes on: its next run, or the walk.

use std::collections::HashMap;
use std::io;

use nix_types::AttrPath;

use super::done::Done;
use super::row::Row;
use crate::evaluate::{Event, Pass, Request, Sink};

/// What was told of an evaluation.
pub(super) struct Told<'s> {
    sink: Sink<'s>,
    /// How often each path was told, as the walk that follows must not tell it again.
    paths: HashMap<AttrPath, u64>,
    /// What is to be evaluated by somebody who writes.
    unwritten: Vec<AttrPath>,
    pub(super) count: u64,
    request: &'s Request,
}

impl<'s> Told<'s> {
    pub(super) fn new(request: &'s Request, sink: Sink<'s>) -> Self {
        Self { sink, paths: HashMap::new(), unwritten: Vec::new(), count: 0, request }
    }

    pub(super) fn tell(&mut self, event: Event) {
        if let Some(path) = path_of(&event) {
            if self.request.skip.contains(path) {
                return;
            }
            *self.paths.entry(path.clone()).or_default() += 1;
        }
        (self.sink)(event);
    }

    /// What need not be evaluated again; `None` when that is nothing.
    pub(super) fn done(&self) -> io::Result<Option<Done>> {
        let mut paths = self.paths.keys().chain(&self.unwritten).peekable();
        paths.peek().is_some().then(|| Done::write(self.paths.keys().chain(&self.unwritten))).transpose()
    }

    /// What the walk tells that was not told yet.
    pub(super) fn tell_rest(&mut self, event: Event) {
        let is_news = matches!(&event, Event::Error(error) if error.path.is_root());
        match path_of(&event).and_then(|path| self.paths.get_mut(path)) {
            Some(left) if *left > 0 && !is_news => *left -= 1,
            _ => (self.sink)(event),
        }
    }

    pub(super) fn take(&mut self, row: Row) {
        self.count += 1;
        let wanted = self.request.systems.as_deref();
        let event = match row {
            Row::Job(attr) if wanted.is_some_and(|systems| !systems.contains(&attr.system)) => {
                Event::OtherSystem(attr.path)
            }
            Row::Job(attr) => Event::Attr(attr),
            Row::Error(error) => Event::Error(error),
            Row::Unwritten(path) if self.request.skip.contains(&path) => return,
            Row::Unwritten(path) => return self.unwritten.push(path),
            Row::NoJob => return,
        };
        self.tell(event);
    }

    /// Which pass of the walk looks at what is left; `None` when nothing is.
    pub(super) fn rest(&self, pass: &Pass, came_to_end: bool) -> Option<Pass> {
        match (came_to_end, self.unwritten.is_empty()) {
            (false, _) => Some(pass.clone()), // what is unwritten was not told, so it is among the rest
            (true, true) => None,
            (true, false) if self.unwritten.iter().any(AttrPath::is_root) => {
                Some(Pass::Instantiate { only: None })
            }
            (true, false) => Some(Pass::Instantiate { only: Some(self.unwritten.clone()) }),
        }
    }
}

/// Of what it tells, if that is a result.
fn path_of(event: &Event) -> Option<&AttrPath> {
    match event {
        Event::Attr(attr) => Some(&attr.path),
        Event::Error(error) => Some(&error.path),
        Event::OtherSystem(path) => Some(path),
        Event::Known(_) | Event::Begin(_) | Event::Held(_) | Event::Memory { .. } => None,
    }
}
