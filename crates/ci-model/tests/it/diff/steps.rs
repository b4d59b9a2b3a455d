//! Packages drawn at random, and changed at random: causes are what was changed, and what follows is counted right.

use std::collections::{BTreeMap, BTreeSet};

use ci_model::change::{Difference, RootCause};
use ci_model::graph::NodeId;
use nix_types::DrvPath;
use proptest::prelude::*;

use super::packages::{Package, Packages, World, package};

/// What is done to a package.
#[derive(Clone, Debug)]
enum Step {
    Nothing,
    Version,
    Variable,
    Argument,
    Source,
    Drop,
    Take(usize),
}

fn steps() -> impl Strategy<Value = (Packages, Vec<Step>)> {
    let size = 2..14_usize;
    let needs = prop::collection::vec(prop::collection::vec(0..14_usize, 0..4), 14);
    let step = prop_oneof![
        6 => Just(Step::Nothing),
        1 => Just(Step::Version),
        1 => Just(Step::Variable),
        1 => Just(Step::Argument),
        1 => Just(Step::Source),
        1 => Just(Step::Drop),
        1 => (0..14_usize).prop_map(Step::Take),
    ];
    (size, needs, prop::collection::vec(step, 14), prop::collection::vec(any::<(bool, bool, bool)>(), 14))
        .prop_map(|(size, needs, steps, flags)| {
            let packages = (0..size).map(|at| {
                let (is_structured, is_content_addressed, is_hidden) = flags[at];
                let mut one = package(&format!("p{}", letter(at)), "1");
                one.inputs = needs[at]
                    .iter()
                    .filter(|_| at > 0)
                    .map(|need| (letter(need % at), "out".to_owned()))
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect();
                (
                    letter(at),
                    Package {
                        is_structured,
                        is_content_addressed,
                        is_hidden: is_hidden && at + 1 < size,
                        ..one
                    },
                )
            });
            (packages.collect(), steps[..size].to_vec())
        })
}

fn letter(at: usize) -> String {
    char::from(b'a' + u8::try_from(at).unwrap()).to_string()
}

/// The head, and the keys of those that were changed by themselves.
fn stepped(base: &Packages, steps: &[Step]) -> (Packages, BTreeSet<String>) {
    let mut head = base.clone();
    for (at, step) in steps.iter().enumerate() {
        let one = &mut head[at].1;
        match step {
            Step::Nothing => {}
            Step::Version => one.version = "2".into(),
            Step::Variable => {
                one.env.insert("variable".into(), "x".into());
            }
            Step::Argument => one.args.push("x".into()),
            Step::Source => one.sources.push(("source".into(), "x".into())),
            Step::Drop => {
                one.inputs.pop();
            }
            Step::Take(other) if *other < at && one.inputs.iter().all(|(key, _)| *key != letter(*other)) => {
                one.inputs.push((letter(*other), "out".into()));
            }
            Step::Take(_) => {}
        }
    }
    let differ = base.iter().zip(&head).filter(|(before, after)| before != after);
    let differ = differ.map(|((key, _), _)| key.clone()).collect();
    (head, differ)
}

/// All that a key needs, itself included, by the packages alone.
fn needs(packages: &Packages) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (key, package) in packages {
        let mut mine: BTreeSet<String> =
            package.inputs.iter().flat_map(|(input, _)| all[input].clone()).collect();
        mine.insert(key.clone());
        all.insert(key.clone(), mine);
    }
    all
}

proptest! {
    #[test]
    fn causes_are_what_was_changed_and_nothing_else((base, steps) in steps()) {
        let (head, differ) = stepped(&base, &steps);
        let mut world = World::default();
        let ((before, was), (after, is)) = (world.instantiate(&base), world.instantiate(&head));
        let comparison = world.compare(before, after);
        let (needed, needed_before) = (needs(&head), needs(&base));
        let shown: BTreeSet<&String> = head.iter().filter(|(_, one)| !one.is_hidden).map(|(key, _)| key).collect();
        let changed: BTreeSet<&String> = shown.iter().copied().filter(|key| was[*key] != is[*key]).collect();
        let key_of: BTreeMap<&DrvPath, &String> = is.iter().map(|(key, drv)| (drv, key)).collect();
        // A package that was not there, for all that attributes need, has nothing to be compared with.
        let seen: BTreeSet<&String> = shown.iter().flat_map(|key| &needed_before[*key]).collect();
        let expected: BTreeSet<&String> = differ
            .iter()
            .filter(|key| seen.contains(key) && changed.iter().any(|attr| {
                is_reached(attr, key, &base, &head)
            }))
            .collect();
        let found: BTreeSet<&String> = comparison.root_causes.iter().map(|cause| key_of[&cause.after]).collect();
        prop_assert_eq!(&found, &expected);
        for cause in &comparison.root_causes {
            let key = key_of[&cause.after];
            let attrs: Vec<_> = changed.iter().filter(|attr| needed[**attr].contains(key)).collect();
            let only = |attr: &&&String| needed[**attr].iter().filter(|need| found.contains(need)).count() == 1;
            prop_assert_eq!(cause.attrs, attrs.len());
            prop_assert_eq!(cause.attrs_alone, attrs.iter().filter(|attr| only(attr)).count());
            let in_base: BTreeSet<&DrvPath> = seen.iter().map(|key| &was[*key]).collect();
            let in_head: BTreeSet<&String> = shown.iter().flat_map(|key| &needed[*key]).collect();
            let new = in_head.iter().filter(|one| needed[**one].contains(key) && !in_base.contains(&is[**one]));
            prop_assert_eq!(cause.drvs, new.count());
        }
    }

    #[test]
    fn every_change_has_a_cause_whatever_is_known((base, steps) in steps(), knows in prop::collection::vec(any::<bool>(), 64)) {
        let (head, _) = stepped(&base, &steps);
        let mut world = World::default();
        let (before, after) = (world.evaluate(&base), world.evaluate(&head));
        let mut files: Vec<_> = std::mem::take(&mut world.files).into_iter().collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let known = files.into_iter().zip(knows).filter(|(_, knows)| *knows).map(|(file, _)| file).collect();
        world.files = known;
        let comparison = world.compare(before, after);
        let id = |cause: &RootCause| world.graph.id(&cause.after).unwrap();
        let causes: Vec<NodeId> = comparison.root_causes.iter().map(id).collect();
        for change in &comparison.changes {
            let closure = world.graph.closure_of(&[world.graph.id(change.after.as_ref().unwrap()).unwrap()]);
            prop_assert!(causes.iter().any(|cause| closure.contains(*cause)), "{:?} has no cause", change.attr);
        }
        let has_some = |cause: &RootCause| !cause.differences.is_empty() && !cause.differences.contains(&Difference::New);
        prop_assert!(comparison.root_causes.iter().all(has_some));
    }
}

/// Does a comparison of `attr` come to `key` by way of what both sides need?
fn is_reached(attr: &str, key: &str, base: &Packages, head: &Packages) -> bool {
    let inputs = |packages: &Packages, of: &str| -> BTreeSet<String> {
        let (_, package) = packages.iter().find(|(key, _)| key == of).unwrap();
        package.inputs.iter().map(|(input, _)| input.clone()).collect()
    };
    let mut open = vec![attr.to_owned()];
    while let Some(next) = open.pop() {
        if next == key {
            return true;
        }
        open.extend(inputs(base, &next).intersection(&inputs(head, &next)).cloned());
    }
    false
}
