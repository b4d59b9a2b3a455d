//! What one evaluator has told of its span so far, and what that means when it ends. Marks come in; results with their
//! names go out, and at the end who is to blame and what is left to do. Pure: it starts nothing and ends nothing.

use super::mark::Mark;
use super::place::{Place, Span};

/// One evaluator's way through its span.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    span: Span,
    /// The place it came to last, with the names on the way and how many children each set on the way has.
    at: Place,
    names: Vec<String>,
    counts: Vec<u32>,
    open: Open,
    /// Where another one has to go on if this one ended now; `None` when all is told.
    next: Option<Place>,
    /// How many places of the span it is through with.
    results: u64,
    ended: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Open {
    /// Between two places.
    None,
    /// This one is looked at.
    Place(Place),
    /// This job is told; its meta is looked at.
    Meta(Place),
}

/// What a mark means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing for anybody else.
    Noted,
    /// It begins with this place of its span.
    Begins(Vec<String>),
    /// So many more are known.
    Holds(u32),
    /// It is through with the place of this path, whose mark says what it is.
    Result(Vec<String>),
    /// It came to the end of its span; what it would tell from here on, somebody else tells.
    Beyond,
}

/// How an evaluator ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It told all, or came to the end of its span.
    Through,
    /// By what it looked at.
    Fatal,
    /// By us: what it looked at took too long.
    TooLong,
    /// By something that need not be the fault of what it looked at: memory that others filled, a signal.
    Unclear,
    /// By us, for somebody else's sake.
    Interrupted,
}

/// What follows from an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What ended it: its place and its names.
    pub(crate) culprit: Option<(Place, Vec<String>)>,
    /// What another evaluator has to do.
    pub(crate) rest: Option<Span>,
    /// Is the job that it told last good without the meta that it did not come to tell?
    pub(crate) keeps_job: bool,
}

impl Trail {
    /// An evaluator that is given this span.
    pub(crate) fn new(span: Span) -> Self {
        let open = if span.lo.depth() == 0 { Open::Place(Place::default()) } else { Open::None };
        Self {
            next: Some(span.lo.clone()),
            span,
            at: Place::default(),
            names: Vec::new(),
            counts: Vec::new(),
            open,
            results: 0,
            ended: false,
        }
    }

    /// Did it come so far that it looked at anything of its span?
    pub(crate) fn has_begun(&self) -> bool {
        self.results > 0 || self.open != Open::None || self.counts.len() >= self.span.lo.depth()
    }

    /// How many places it is through with.
    pub(crate) fn results(&self) -> u64 {
        self.results
    }

    /// Did it say that there is no more?
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Takes a mark.
    pub(crate) fn hear(&mut self, place: &Place, mark: &Mark<'_>) -> Heard {
        if self.span.hi.as_ref().is_some_and(|hi| place >= hi) && *mark != Mark::End {
            return Heard::Beyond;
        }
        let is_ours = *place >= self.span.lo;
        match mark {
            Mark::End => {
                self.ended = true;
                self.next = None;
                Heard::Noted
            }
            Mark::Begins(name) => {
                self.arrive(place, name.clone());
                if !is_ours {
                    return Heard::Noted;
                }
                self.open = Open::Place(place.clone());
                self.next = Some(place.clone());
                Heard::Begins(self.names.clone())
            }
            Mark::Holds(count) => {
                self.counts.truncate(place.depth());
                self.counts.push(*count);
                self.at = place.clone();
                if !is_ours {
                    return Heard::Noted;
                }
                self.open = Open::None;
                self.next = Some(place.child(0));
                self.results += 1;
                Heard::Holds(*count)
            }
            Mark::Job(_) if is_ours => {
                self.open = Open::Meta(place.clone());
                self.next = place.after();
                Heard::Result(self.path_of(place))
            }
            Mark::Meta(_) | Mark::Throws | Mark::Nothing | Mark::OtherSystem | Mark::TooLarge(_)
                if is_ours || self.span.lo.is_in(place) =>
            {
                // A set that is none any more, though the last evaluator found one there: told, so that nothing in it is
                // lost in silence.
                self.open = Open::None;
                self.next = place.after();
                self.results += 1;
                Heard::Result(self.path_of(place))
            }
            Mark::Job(_)
            | Mark::Meta(_)
            | Mark::Throws
            | Mark::Nothing
            | Mark::OtherSystem
            | Mark::TooLarge(_) => Heard::Noted,
        }
    }

    fn arrive(&mut self, place: &Place, name: Option<String>) {
        let above = place.depth().saturating_sub(1);
        self.names.truncate(above);
        if place.depth() > 0 {
            let at = place.0.last().copied().unwrap_or_default();
            self.names.push(name.unwrap_or_else(|| format!("#{at}")));
        }
        self.counts.truncate(place.depth());
        self.at = place.clone();
    }

    /// The names of a place it is at, or lies in; positions for those that were not told.
    fn path_of(&self, place: &Place) -> Vec<String> {
        let name = |(depth, at): (usize, &u32)| match self.names.get(depth) {
            Some(name) if self.at.0.get(depth) == Some(at) => name.clone(),
            _ => format!("#{at}"),
        };
        place.0.iter().enumerate().map(name).collect()
    }

    /// It ended: what follows? What need not be the fault of what it looked at is looked at once more by an evaluator that
    /// begins there, and blamed on it when that one is lost as well.
    pub(crate) fn end(&self, end: End) -> Verdict {
        let open = match &self.open {
            Open::Place(place) => Some(place),
            Open::Meta(_) | Open::None => self.next.as_ref(),
        };
        match (end, &self.open) {
            (End::Through, _) => Verdict { culprit: None, rest: None, keeps_job: false },
            // The code itself made its meta so.
            (End::Fatal, Open::Meta(_)) => {
                Verdict { culprit: None, rest: self.span.from(self.next.clone()), keeps_job: true }
            }
            // Another one may come to tell it.
            (End::Unclear, Open::Meta(place)) if self.results > 0 => {
                Verdict { culprit: None, rest: self.span.from(Some(place.clone())), keeps_job: false }
            }
            (End::Interrupted, Open::Meta(place)) => {
                Verdict { culprit: None, rest: self.span.from(Some(place.clone())), keeps_job: false }
            }
            (End::Unclear | End::TooLong, Open::Meta(place)) => Verdict {
                culprit: Some((place.clone(), self.path_of(place))),
                rest: self.span.from(self.next.clone()),
                keeps_job: false,
            },
            (End::Interrupted, Open::Place(_) | Open::None) => {
                Verdict { culprit: None, rest: self.span.from(open.cloned()), keeps_job: false }
            }
            (End::Unclear, Open::Place(_) | Open::None) if self.results > 0 => {
                Verdict { culprit: None, rest: self.span.from(open.cloned()), keeps_job: false }
            }
            (End::Fatal | End::Unclear | End::TooLong, Open::Place(_) | Open::None) => Verdict {
                culprit: open
                    .filter(|place| self.span.hi.as_ref().is_none_or(|hi| *place < hi))
                    .map(|place| (place.clone(), self.path_of(place))),
                rest: self.span.from(open.and_then(Place::after)),
                keeps_job: false,
            },
        }
    }

    /// Gives half of what is left to somebody else, when that is at least `least` children of one set.
    pub(crate) fn split(&mut self, least: u32) -> Option<Span> {
        let middle = self.middle(least)?;
        Some(Span { lo: middle.clone(), hi: self.span.hi.replace(middle) })
    }

    /// Where [`Self::split`] would cut.
    pub(crate) fn middle(&self, least: u32) -> Option<Place> {
        (0..self.counts.len()).find_map(|depth| {
            let above = Place(self.at.0.get(..depth)?.to_vec());
            let first = match self.at.0.get(depth) {
                Some(at) => at.saturating_add(1),
                None if self.span.lo.is_in(&above) => self.span.lo.0.get(depth).copied().unwrap_or(0),
                None => 0,
            };
            let last = match &self.span.hi {
                Some(hi) if hi.is_in(&above) && hi.depth() > depth => self.counts[depth].min(hi.0[depth]),
                _ => self.counts[depth],
            };
            let left = last.saturating_sub(first);
            let middle = above.child(last - left / 2);
            let is_within = middle > self.span.lo && self.span.hi.as_ref().is_none_or(|hi| middle < *hi);
            // Marks that no walk of ours makes must not cut a span that has no such place.
            (left / 2 >= least && is_within).then_some(middle)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use test_kit::mutate::{Shape, play};

    use super::super::mark;
    use super::*;

    /// The span in the first line, marks in the others; an empty one splits the span. Whatever they say: a result has a name for
    /// each step of its place, what is told lies in the span, what is split off and what is left to do too, and nothing
    /// of the one is in the other.
    fn heard(bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let (first, marks) = text.split_once('\n').unwrap_or((&text, ""));
        let (lo, hi) = first.split_once(' ').unwrap_or((first, ""));
        let span = Span { lo: lo.parse().unwrap_or_default(), hi: hi.parse().ok() };
        if span.hi.as_ref().is_some_and(|hi| *hi <= span.lo) {
            return;
        }
        let within =
            |place: &Place, span: &Span| *place >= span.lo && span.hi.as_ref().is_none_or(|hi| place < hi);
        let mut trail = Trail::new(span.clone());
        for line in marks.lines() {
            if line.is_empty() {
                let before = trail.span.clone();
                if let Some(other) = trail.split(1) {
                    assert!(
                        within(&other.lo, &before) && other.hi == before.hi && trail.span.lo == before.lo
                    );
                    assert_eq!(trail.span.hi.as_ref(), Some(&other.lo));
                }
                continue;
            }
            let Some((place, mark)) = mark::parse(line) else { continue };
            match trail.hear(&place, &mark) {
                Heard::Result(names) => {
                    assert_eq!(names.len(), place.depth());
                    assert!(within(&place, &trail.span) || span.lo.is_in(&place), "{place} of {span:?}");
                }
                Heard::Begins(names) => {
                    assert!(
                        names.len() <= place.depth() && within(&place, &trail.span),
                        "{place} of {span:?}"
                    );
                }
                Heard::Holds(_) => assert!(within(&place, &trail.span), "{place} of {span:?}"),
                Heard::Beyond => assert!(trail.span.hi.as_ref().is_some_and(|hi| place >= *hi)),
                Heard::Noted => {}
            }
        }
        for end in [End::Through, End::Fatal, End::TooLong, End::Unclear, End::Interrupted] {
            let verdict = trail.end(end);
            assert!(
                end != End::Through || verdict == Verdict { culprit: None, rest: None, keeps_job: false }
            );
            if let Some(rest) = &verdict.rest {
                assert!(
                    rest.hi == trail.span.hi && within(&rest.lo, &trail.span),
                    "{rest:?} of {:?}",
                    trail.span
                );
            }
            if let (Some((place, _)), Some(rest)) = (&verdict.culprit, &verdict.rest) {
                assert!(rest.lo > *place, "it would be blamed again: {verdict:?}");
            }
        }
    }

    #[test]
    fn any_marks_leave_what_is_left_to_do_in_the_span() {
        play(
            "walk_marks",
            &[
                Shape { head: "-\n", part: "b {n} \"a\"\ns {n} 5\n", tail: "" },
                Shape { head: "-\ns ", part: "0.", tail: "0 5\n" },
                Shape { head: "-\n", part: "s {n} 9\n\n", tail: "" },
                Shape { head: "", part: "1.", tail: "1\ns - 9\n\n" },
                Shape { head: "-\nb 0 \"", part: "\\u0041", tail: "\"\n" },
            ],
            heard,
        );
    }

    /// A tree: how many children each set has, and which leaves end the evaluator.
    #[derive(Clone, Debug)]
    enum Node {
        Job,
        Fatal,
        Set(Vec<Node>),
    }

    fn tree() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![4 => Just(Node::Job), 1 => Just(Node::Fatal)];
        let set =
            leaf.prop_recursive(3, 60, 6, |inner| prop::collection::vec(inner, 0..6).prop_map(Node::Set));
        prop::collection::vec(set, 0..8).prop_map(Node::Set)
    }

    /// The marks of a walk from `lo` on, as `walk.nix` prints them; up to what ends it.
    fn marks(node: &Node, place: &Place, lo: &[u32], out: &mut Vec<(Place, Mark<'static>)>) -> bool {
        match node {
            Node::Fatal => return false,
            Node::Job => {
                out.push((place.clone(), Mark::Job("")));
                out.push((place.clone(), Mark::Meta("")));
            }
            Node::Set(children) => {
                out.push((place.clone(), Mark::Holds(u32::try_from(children.len()).unwrap())));
                let from = lo.first().copied().unwrap_or(0);
                for (at, child) in children.iter().enumerate().skip(from as usize) {
                    let here = place.child(u32::try_from(at).unwrap());
                    out.push((here.clone(), Mark::Begins(Some(at.to_string()))));
                    let below = if at == from as usize { lo.get(1..).unwrap_or_default() } else { &[] };
                    if !marks(child, &here, below, out) {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn leaves(node: &Node, path: &[String], out: &mut BTreeMap<Vec<String>, bool>) {
        match node {
            Node::Set(children) => {
                for (at, child) in children.iter().enumerate() {
                    leaves(child, &[path, &[at.to_string()]].concat(), out);
                }
            }
            leaf => {
                out.insert(path.to_vec(), matches!(leaf, Node::Job));
            }
        }
    }

    /// What happens to an evaluator after so many marks.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Killed,
        Interrupted,
        Split,
        Nothing,
    }

    proptest! {
        /// Whatever is killed, interrupted and split wherever: each leaf is told once, and as what it is.
        #[test]
        fn each_place_is_told_once(
            tree in tree(),
            events in prop::collection::vec((0..20_usize, prop_oneof![Just(Event::Killed), Just(Event::Interrupted), Just(Event::Split), Just(Event::Nothing)]), 0..30),
        ) {
            let mut events = events.into_iter();
            let (mut told, mut wanted) = (BTreeMap::new(), BTreeMap::new());
            leaves(&tree, &[], &mut wanted);
            let mut left = vec![Span::all()];
            let mut evaluators = 0;
            while let Some(span) = left.pop() {
                evaluators += 1;
                prop_assert!(evaluators < 1_000, "it never ends");
                let mut all = Vec::new();
                let whole = marks(&tree, &Place::default(), &span.lo.0, &mut all);
                if whole {
                    all.push((Place::default(), Mark::End));
                }
                let mut trail = Trail::new(span);
                let (after, event) = events.next().unwrap_or((usize::MAX, Event::Nothing));
                let mut end = None;
                let mut job = None;
                for (number, (place, mark)) in all.iter().enumerate() {
                    if number == after {
                        match event {
                            Event::Killed => end = Some(End::Unclear),
                            Event::Interrupted => end = Some(End::Interrupted),
                            Event::Split => left.extend(trail.split(1)),
                            Event::Nothing => {}
                        }
                    }
                    if end.is_some() {
                        break;
                    }
                    match trail.hear(place, mark) {
                        Heard::Beyond => end = Some(End::Through),
                        Heard::Result(path) if matches!(mark, Mark::Job(_)) => job = Some(path),
                        Heard::Result(path) => {
                            prop_assert_eq!(job.take(), Some(path.clone()));
                            prop_assert!(told.insert(path, true).is_none());
                        }
                        Heard::Noted | Heard::Begins(_) | Heard::Holds(_) => {}
                    }
                }
                let end = end.unwrap_or(if whole { End::Through } else { End::Fatal });
                if !trail.has_begun() && end != End::Through {
                    left.push(trail.span); // it is tried again
                    continue;
                }
                let verdict = trail.end(end);
                if let Some(path) = job.filter(|_| verdict.keeps_job) {
                    prop_assert!(told.insert(path, true).is_none());
                }
                if let Some((_, path)) = verdict.culprit {
                    // Names that were not told are positions, which are the names here.
                    let path: Vec<_> = path.iter().map(|name| name.trim_start_matches('#').to_owned()).collect();
                    // One that was killed before it came to anything is blamed on the first place.
                    prop_assert!(told.insert(path.clone(), wanted.get(&path) == Some(&true) && end == End::Unclear).is_none());
                }
                left.extend(verdict.rest);
            }
            let places: Vec<_> = told.keys().filter(|path| wanted.contains_key(*path)).collect();
            let blamed: Vec<_> = told.keys().filter(|path| !wanted.contains_key(*path)).cloned().collect();
            for path in &places {
                prop_assert_eq!(told.get(*path), wanted.get(*path), "{:?} is not what was told", path);
            }
            for path in wanted.keys() {
                let is_told = places.contains(&path) || blamed.iter().any(|set| path.starts_with(set));
                prop_assert!(is_told, "{:?} was lost", path);
            }
        }
    }
}
