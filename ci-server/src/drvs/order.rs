//! Derivations in any order in; inputs before their users out, without those that cannot be used or that need one of
//! them. Without recursion: chains are as long as somebody likes. An input that is not among them, nor unusable, counts
//! as there already.

use std::collections::HashMap;

use ci_model::drv::DrvRecord;
use nix_types::DrvPath;

use super::walk::Found;
use super::{DrvsError, Unusable, Walked};

pub(super) fn inputs_first(found: Found) -> Walked {
    let Found { read, mut unusable, bytes } = found;
    unusable.sort_unstable_by(|one, other| one.drv.cmp(&other.drv));
    let (order, rest) = sorted(&read);
    let circular = circles(&read, &rest).into_iter().map(|at| read[at].path.clone());
    unusable.extend(circular.map(|drv| Unusable { why: DrvsError::Cycle(drv.clone()), drv }));
    let mut left_out: HashMap<DrvPath, usize> =
        unusable.iter().enumerate().map(|(at, unusable)| (unusable.drv.clone(), at)).collect();
    spread(&read, &rest, &mut left_out);
    let mut read: Vec<Option<DrvRecord>> = read.into_iter().map(Some).collect();
    let mut drvs = Vec::with_capacity(order.len());
    for drv in order.into_iter().filter_map(|at| read[at].take()) {
        let inputs = drv.inputs.keys().filter(|_| !left_out.is_empty()); // nearly always: nothing to look for
        match inputs.filter_map(|input| left_out.get(input)).min() {
            Some(why) => {
                left_out.insert(drv.path, *why);
            }
            None => drvs.push(drv),
        }
    }
    Walked { drvs, unusable, left_out, bytes }
}

/// The places of those whose inputs can all come before them, in such an order, and of the others.
fn sorted(drvs: &[DrvRecord]) -> (Vec<usize>, Vec<usize>) {
    let place = places(drvs, 0..drvs.len());
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); drvs.len()];
    let mut missing = vec![0_usize; drvs.len()];
    for (user, drv) in drvs.iter().enumerate() {
        for input in drv.inputs.keys().filter_map(|input| place.get(input)) {
            users[*input].push(user);
            missing[user] += 1;
        }
    }
    let mut order: Vec<usize> = (0..drvs.len()).filter(|drv| missing[*drv] == 0).collect();
    let mut at = 0;
    while at < order.len() {
        for user in std::mem::take(&mut users[order[at]]) {
            missing[user] -= 1;
            if missing[user] == 0 {
                order.push(user);
            }
        }
        at += 1;
    }
    let mut rest: Vec<usize> = (0..drvs.len()).filter(|drv| missing[*drv] > 0).collect();
    rest.sort_unstable_by_key(|at| &drvs[*at].path); // so that the same is told each time
    (order, rest)
}

fn places(drvs: &[DrvRecord], of: impl Iterator<Item = usize>) -> HashMap<&DrvPath, usize> {
    of.map(|at| (&drvs[at].path, at)).collect()
}

/// One of each circle that a way through the rest, each of which needs another one of it, runs into.
fn circles(drvs: &[DrvRecord], rest: &[usize]) -> Vec<usize> {
    let place = places(drvs, rest.iter().copied());
    let mut circular = Vec::new();
    let mut way_of: HashMap<usize, usize> = HashMap::new();
    for start in rest {
        let mut at = *start;
        while !way_of.contains_key(&at) {
            way_of.insert(at, *start);
            let Some(next) = drvs[at].inputs.keys().find_map(|input| place.get(input)) else { break };
            at = *next;
        }
        if way_of[&at] == *start {
            circular.push(at);
        }
    }
    circular
}

/// Those of the rest are all left out: because of what they need, as far as that leads.
fn spread(drvs: &[DrvRecord], rest: &[usize], left_out: &mut HashMap<DrvPath, usize>) {
    let place = places(drvs, rest.iter().copied());
    let mut users: HashMap<usize, Vec<usize>> = HashMap::new();
    for user in rest {
        for input in drvs[*user].inputs.keys().filter_map(|input| place.get(input)) {
            users.entry(*input).or_default().push(*user);
        }
    }
    let mut next: Vec<usize> =
        rest.iter().copied().filter(|at| left_out.contains_key(&drvs[*at].path)).collect();
    while let Some(at) = next.pop() {
        let why = left_out[&drvs[at].path];
        for user in users.remove(&at).unwrap_or_default() {
            if !left_out.contains_key(&drvs[user].path) {
                left_out.insert(drvs[user].path.clone(), why);
                next.push(user);
            }
        }
    }
}
