//! What is to be sent, and in which order: pure.
//!
//! In flow the paths of a closure that a destination lacks, references first; out flows which may be published now.
//! A path may be published when its archive is there and everything it refers to has been published; when one fails,
//! whatever needs it fails with it. Nothing is sent here.

use std::collections::HashMap;

use nix_store::PathInfo;

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its archive is not there yet, or some of its references are not.
    Pending,
    /// It is being published.
    Publishing,
    Published,
    Failed,
}

#[derive(Debug)]
struct Node {
    state: State,
    has_archive: bool,
    /// References that are to be published first.
    missing: usize,
    needed_by: Vec<usize>,
}

impl Node {
    /// Whether it may be published when so many of its references come with it.
    fn is_ready(&self, brought: usize) -> bool {
        self.state == State::Pending && self.has_archive && self.missing == brought
    }
}

/// The paths to be sent, by their place in the list the plan was made of.
#[derive(Debug)]
pub(in crate::push) struct Plan {
    nodes: Vec<Node>,
    open: usize,
}

impl Plan {
    /// A plan for these paths, which come references first.
    pub(in crate::push) fn new(infos: &[&PathInfo]) -> Self {
        let places: HashMap<&str, usize> =
            infos.iter().enumerate().map(|(place, info)| (info.path.as_str(), place)).collect();
        let mut nodes: Vec<Node> = infos
            .iter()
            .map(|_| Node { state: State::Pending, has_archive: false, missing: 0, needed_by: Vec::new() })
            .collect();
        for (place, info) in infos.iter().enumerate() {
            for reference in info.references.iter().filter(|reference| **reference != info.path) {
                if let Some(first) = places.get(reference.as_str()) {
                    nodes[*first].needed_by.push(place);
                    nodes[place].missing += 1;
                }
            }
        }
        Self { open: nodes.len(), nodes }
    }

    /// True when every path has been published or has failed.
    pub(in crate::push) fn is_over(&self) -> bool {
        self.open == 0
    }

    /// The archive of a path is there.
    pub(in crate::push) fn archived(&mut self, place: usize) {
        self.nodes[place].has_archive = true;
    }

    /// At most `limit` paths that may be published now, references first; they count as being published. With
    /// `in_order` they may need each other: what comes before becomes visible before.
    pub(in crate::push) fn take_ready(&mut self, limit: usize, in_order: bool) -> Vec<usize> {
        let mut taken = Vec::new();
        // How many references of a path are taken with it, by its place.
        let mut with_it: HashMap<usize, usize> = HashMap::new();
        for place in 0..self.nodes.len() {
            let brought = with_it.get(&place).copied().unwrap_or(0);
            let node = &mut self.nodes[place];
            if !node.is_ready(brought) {
                continue;
            }
            if taken.len() == limit {
                break;
            }
            taken.push(place);
            node.state = State::Publishing;
            if in_order {
                for user in &node.needed_by {
                    *with_it.entry(*user).or_default() += 1;
                }
            }
        }
        taken
    }

    /// What was taken and has neither been published nor failed was not tried, for another failed: it may be taken
    /// again.
    pub(in crate::push) fn give_back(&mut self) {
        let untried = self.nodes.iter_mut().filter(|node| node.state == State::Publishing);
        untried.for_each(|node| node.state = State::Pending);
    }

    /// A path is there.
    pub(in crate::push) fn published(&mut self, place: usize) {
        if !self.close(place, State::Published) {
            return;
        }
        for user in self.nodes[place].needed_by.clone() {
            self.nodes[user].missing -= 1;
        }
    }

    /// A path failed; gives the others that fail with it.
    pub(in crate::push) fn failed(&mut self, place: usize) -> Vec<usize> {
        let mut with_it = Vec::new();
        let mut next = vec![place];
        while let Some(place) = next.pop() {
            if self.close(place, State::Failed) {
                with_it.push(place);
                next.extend(&self.nodes[place].needed_by);
            }
        }
        with_it.retain(|other| *other != place);
        with_it
    }

    /// Ends a node once.
    fn close(&mut self, place: usize, state: State) -> bool {
        let open = matches!(self.nodes[place].state, State::Pending | State::Publishing);
        if open {
            self.nodes[place].state = state;
            self.open -= 1;
        }
        open
    }

    /// Whether something it refers to has not been published.
    pub(in crate::push) fn lacks(&self, place: usize) -> bool {
        self.nodes[place].missing > 0
    }

    /// Whether it has failed already, with something it needs.
    pub(in crate::push) fn has_failed(&self, place: usize) -> bool {
        self.nodes[place].state == State::Failed
    }
}

/// Places in the order in which archives are sent: the largest first, so that it does not end up alone.
pub(in crate::push) fn largest_first(infos: &[&PathInfo]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..infos.len()).collect();
    places.sort_by_key(|place| std::cmp::Reverse(infos[*place].nar_size));
    places
}

#[cfg(test)]
mod tests {
    use nix_types::StorePath;
    use proptest::prelude::*;

    use super::*;

    fn info(number: usize, references: &[usize]) -> PathInfo {
        let path =
            |number: usize| StorePath::parse_str(&format!("/nix/store/{number:032}-p")).expect("well-formed");
        PathInfo {
            path: path(number),
            nar_hash: String::new(),
            nar_size: number as u64,
            references: references.iter().map(|reference| path(*reference)).collect(),
            deriver: None,
            registration_time: 0,
            ultimate: true,
            signatures: Vec::new(),
            ca: None,
        }
    }

    #[test]
    fn a_path_waits_for_its_archive_and_its_references() {
        let infos = [info(0, &[]), info(1, &[0, 1]), info(2, &[1])];
        let mut plan = Plan::new(&infos.iter().collect::<Vec<_>>());
        assert_eq!(plan.take_ready(9, false), Vec::<usize>::new());
        plan.archived(1);
        plan.archived(2);
        assert_eq!(plan.take_ready(9, false), Vec::<usize>::new());
        plan.archived(0);
        assert_eq!(plan.take_ready(9, false), [0]);
        assert_eq!(plan.take_ready(9, false), Vec::<usize>::new(), "it is under way");
        plan.published(0);
        assert_eq!(plan.take_ready(9, false), [1]);
        plan.published(1);
        plan.published(2);
        assert!(plan.is_over());
    }

    #[test]
    fn what_needs_a_failed_path_fails_with_it_and_nothing_else() {
        let infos = [info(0, &[]), info(1, &[0]), info(2, &[1]), info(3, &[])];
        let mut plan = Plan::new(&infos.iter().collect::<Vec<_>>());
        let mut with_it = plan.failed(0);
        with_it.sort_unstable();
        assert_eq!(with_it, [1, 2]);
        assert_eq!(plan.failed(1), Vec::<usize>::new(), "said once");
        assert!(plan.has_failed(2) && !plan.has_failed(3) && !plan.is_over());
        plan.archived(3);
        assert_eq!(plan.take_ready(9, false), [3]);
        plan.published(3);
        assert!(plan.is_over());
    }

    #[test]
    fn where_order_holds_a_path_goes_with_what_it_needs() {
        let infos = [info(0, &[]), info(1, &[0, 1]), info(2, &[1]), info(3, &[2]), info(4, &[0])];
        let mut plan = Plan::new(&infos.iter().collect::<Vec<_>>());
        [0, 1, 3, 4].into_iter().for_each(|place| plan.archived(place));
        assert_eq!(plan.take_ready(9, true), [0, 1, 4], "one archive is missing, and what needs it waits");
        plan.published(0);
        plan.give_back();
        plan.archived(2);
        assert_eq!(plan.take_ready(2, true), [1, 2]);
        plan.failed(1);
        plan.give_back();
        assert_eq!(plan.take_ready(9, true), [4], "what failed with another is not tried again");
        plan.published(4);
        assert!(plan.is_over());
    }

    #[test]
    fn the_largest_goes_first() {
        let infos = [info(1, &[]), info(3, &[]), info(2, &[])];
        assert_eq!(largest_first(&infos.iter().collect::<Vec<_>>()), [1, 2, 0]);
    }

    proptest! {
        /// Whatever the graph and whatever fails: nothing is published before what it refers to, and all comes to an end.
        #[test]
        fn references_are_always_there_first(
            edges in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..40),
            fails in prop::collection::vec(any::<bool>(), 40),
            in_order in any::<bool>(),
        ) {
            let infos: Vec<PathInfo> = edges
                .iter()
                .enumerate()
                .map(|(place, to)| info(place, &to.iter().map(|to| to.index(place + 1)).collect::<Vec<_>>()))
                .collect();
            let mut plan = Plan::new(&infos.iter().collect::<Vec<_>>());
            let mut there = vec![false; infos.len()];
            (0..infos.len()).rev().for_each(|place| plan.archived(place));
            while !plan.is_over() {
                let ready = plan.take_ready(3, in_order);
                prop_assert!(!ready.is_empty(), "it stands still");
                for place in ready {
                    if plan.has_failed(place) {
                        continue; // with one before it
                    }
                    if fails[place] {
                        plan.failed(place);
                        continue;
                    }
                    for reference in infos[place].references.iter().filter(|path| **path != infos[place].path) {
                        let at = infos.iter().position(|info| info.path == *reference).expect("from the list");
                        prop_assert!(there[at]);
                    }
                    there[place] = true;
                    plan.published(place);
                }
            }
        }
    }
}
