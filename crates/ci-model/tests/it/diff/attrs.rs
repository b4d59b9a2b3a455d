//! What became of attributes.

use ci_model::attr::{Attr, AttrError, ErrorKind, License, Maintainer};
use ci_model::change::{AttrChange, ChangeKind, MetaChange, SystemCounts};
use ci_model::diff::attrs;
use ci_model::flow::Evaluation;
use nix_types::System;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::support::{attr, drv, error, error_lines, evaluation, job, lines};

/// A base whose evaluator was killed says nothing of what its code does.
#[test]
fn what_the_machine_did_to_the_base_does_not_hide_what_the_head_does() {
    let machine = |path: &str| AttrError { kind: ErrorKind::TimedOut, ..error(path) };
    let base = [evaluation(vec![], vec![machine("a"), machine("b"), machine("c.d"), error("e")])];
    let head = [evaluation(vec![], vec![error("a"), machine("b"), error("c"), machine("e")])];
    assert_eq!(error_lines(&attrs(&base, &head)), ["new a", "new c", "still b", "still e"]);
    // That some attributes fail does not tell that nobody looks at any.
    let [some, whole] = [error("a"), error("")].map(|error| [evaluation(vec![], vec![error])]);
    for base in [some, whole] {
        for kind in [ErrorKind::TimedOut, ErrorKind::TooLarge] {
            let head = [evaluation(vec![], vec![AttrError { kind, ..error("") }])];
            assert_eq!(error_lines(&attrs(&base, &head))[0], "new ", "{kind:?}");
            assert_eq!(error_lines(&attrs(&head, &head)), ["still "], "{kind:?}");
        }
    }
}

fn compared(base: Vec<Attr>, head: Vec<Attr>) -> ci_model::diff::AttrDiff {
    attrs(&[evaluation(base, vec![])], &[evaluation(head, vec![])])
}

#[test]
fn each_kind_of_change_is_told_apart() {
    let diff = compared(
        vec![
            attr("bumped", drv('a', "tool-1.0")),
            attr("gone", drv('b', "gone-1.0")),
            attr("moved", drv('c', "moved-1.0")),
            attr("moved-and-rebuilt", drv('d', "other-1.0")),
            attr("package", drv('f', "left-1.0")),
            attr("rebuilt", drv('g', "lib-1.0")),
            attr("same", drv('h', "same-1.0")),
        ],
        vec![
            attr("bumped", drv('1', "tool-1.1")),
            attr("new", drv('2', "new-1.0")),
            attr("package", drv('3', "right-1.0")),
            attr("rebuilt", drv('4', "lib-1.0")),
            attr("same", drv('h', "same-1.0")),
            attr("where.it.is", drv('c', "moved-1.0")),
            attr("where.it.is-rebuilt", drv('5', "other-1.0")),
        ],
    );
    assert_eq!(
        lines(&diff),
        [
            r#"bumped Bumped { from: "1.0", to: "1.1" }"#,
            "gone Removed",
            "new Added",
            r#"package Bumped { from: "left-1.0", to: "right-1.0" }"#,
            "rebuilt Rebuilt",
            r#"where.it.is Renamed { from: AttrPath(["moved"]) }"#,
            r#"where.it.is-rebuilt Renamed { from: AttrPath(["moved-and-rebuilt"]) }"#,
        ]
    );
    let counts = SystemCounts {
        added: 1,
        removed: 1,
        renamed: 2,
        bumped: 2,
        rebuilt: 1,
        unchanged: 1,
        ..SystemCounts::default()
    };
    assert_eq!(diff.systems.into_values().collect::<Vec<_>>(), [counts]);
}

#[test]
fn among_several_no_rename_is_guessed() {
    // Two that are gone, one that is new, all the same package.
    let diff = compared(
        vec![attr("a", drv('a', "x-1")), attr("b", drv('a', "x-1"))],
        vec![attr("c", drv('a', "x-1"))],
    );
    assert_eq!(lines(&diff), ["a Removed", "b Removed", "c Added"]);
    // The derivation says it where the package would not.
    let diff = compared(
        vec![attr("a", drv('a', "x-1")), attr("b", drv('b', "x-1"))],
        vec![attr("c", drv('a', "x-1"))],
    );
    assert_eq!(lines(&diff), ["b Removed", r#"c Renamed { from: AttrPath(["a"]) }"#]);
    // A name without a version is too little.
    let diff = compared(vec![attr("a", drv('a', "source"))], vec![attr("c", drv('b', "source"))]);
    assert_eq!(lines(&diff), ["a Removed", "c Added"]);
    // Another system is another thing, and so is another job.
    let mut other = attr("c", drv('a', "x-1"));
    other.system = "aarch64-linux".parse().unwrap();
    assert_eq!(lines(&compared(vec![attr("a", drv('a', "x-1"))], vec![other])), ["a Removed", "c Added"]);
    let elsewhere = |name: &str, path: &str| {
        vec![job("one", vec![], vec![]), job(name, vec![attr(path, drv('a', "x-1"))], vec![])]
    };
    assert_eq!(lines(&attrs(&elsewhere("two", "a"), &elsewhere("three", "c"))), ["c Added", "a Removed"]);
}

#[test]
fn an_error_hides_what_lies_below_it() {
    let base = evaluation(
        vec![attr("breaks", drv('a', "a-1")), attr("set.a", drv('b', "b-1")), attr("set.b", drv('c', "c-1"))],
        vec![
            error("mends"),
            error("mends-as-set"),
            error("stays"),
            error("stays-as-set.a"),
            error("vanishes"),
        ],
    );
    let head = evaluation(
        vec![attr("mends", drv('d', "d-1")), attr("mends-as-set.a", drv('f', "e-1"))],
        vec![error("appears"), error("breaks"), error("set"), error("stays"), error("stays-as-set")],
    );
    let diff = attrs(&[base], &[head]);
    assert_eq!(lines(&diff), [""; 0]);
    assert_eq!(
        error_lines(&diff),
        ["new appears", "new breaks", "new set", "still stays", "still stays-as-set"]
            .into_iter()
            .chain(["fixed mends", "fixed mends-as-set.a", "removed vanishes"])
            .collect::<Vec<_>>()
    );
    let counts = SystemCounts { failing: 3, fixed: 2, ..SystemCounts::default() };
    assert_eq!(diff.systems.into_values().collect::<Vec<_>>(), [counts]);
}

#[test]
fn a_job_that_does_not_evaluate_lost_nothing() {
    let base = [evaluation(vec![attr("a", drv('a', "a-1")), attr("b", drv('b', "b-1"))], vec![])];
    let broken = [evaluation(vec![], vec![error("")])];
    let diff = attrs(&base, &broken);
    assert!(diff.changes.is_empty());
    assert_eq!(error_lines(&diff), ["new "]);
    assert_eq!(error_lines(&attrs(&broken, &base)), ["fixed a", "fixed b"]);
    assert_eq!(error_lines(&attrs(&broken, &broken)), ["still "]);
}

#[test]
fn what_failed_and_is_not_there_any_more_is_removed() {
    let failed = |paths: &[&str]| evaluation(vec![], paths.iter().map(|path| error(path)).collect());
    let base = [failed(&["a", "b.x", "c", "d", "e.y.z", "f"])];
    let attrs_of_head =
        vec![attr("b", drv('1', "b-1")), attr("c.deep.down", drv('2', "c-1")), attr("e.x", drv('3', "e-1"))];
    let head = [evaluation(attrs_of_head, vec![error("d.below"), error("e.y"), error("g")])];
    let diff = attrs(&base, &head);
    // Below a derivation nothing is looked at; and nobody knows what an error hides.
    assert_eq!(
        error_lines(&diff),
        ["new g", "still d.below", "still e.y", "fixed c.deep.down", "removed a", "removed b.x", "removed f"]
    );
    assert!(diff.systems.values().all(|of| of.removed == 0), "where it would have been built is not known");
    // A job that is gone takes what failed in it along, and one that evaluates to nothing now, too.
    let nothing = [evaluation(vec![], vec![])];
    assert_eq!(error_lines(&attrs(&base, &[])).len(), 6);
    assert_eq!(error_lines(&attrs(&[failed(&[""])], &nothing)), ["removed "]);
    let comparison = ci_model::diff::compare(
        &base,
        &nothing,
        &Default::default(),
        &Default::default(),
        &ci_model::diff::NoFacts,
    );
    assert!(!comparison.is_empty());
    assert_eq!(ci_model::diff::judge(&comparison, &[], 1).verdict, ci_model::flow::Verdict::Neutral);
}

#[test]
fn an_error_that_hides_more_than_before_is_new() {
    let base = [evaluation(vec![attr("a", drv('a', "a-1"))], vec![error("b")])];
    let head = [evaluation(vec![], vec![error("")])];
    assert_eq!(error_lines(&attrs(&base, &head)), ["new "]);
}

#[test]
fn without_a_base_everything_is_new() {
    let head = [job("one", vec![attr("a", drv('a', "a-1"))], vec![error("b")])];
    let diff = attrs(&[], &head);
    assert_eq!((lines(&diff), error_lines(&diff)), (vec!["a Added".to_owned()], vec!["new b".to_owned()]));
    let back = attrs(&head, &[]);
    assert_eq!(
        (lines(&back), error_lines(&back)),
        (vec!["a Removed".to_owned()], vec!["removed b".to_owned()])
    );
}

#[test]
fn what_meta_says_is_compared_as_people_mean_it() {
    let license = |name: &str| License { name: name.into(), ..License::default() };
    let login =
        |login: &str, id| Maintainer { github: Some(login.into()), github_id: id, ..Maintainer::default() };
    let mut before = attr("a", drv('a', "a-1"));
    before.meta.licenses = vec![license("mit"), license("asl20")];
    before.meta.maintainers = vec![login("ann", Some(1)), login("bob", None), login("eve", Some(3))];
    let mut after = before.clone();
    after.meta.licenses.reverse();
    after.meta.maintainers = vec![login("Bob", None), login("eve", Some(3)), login("ann-renamed", Some(1))];
    assert!(compared(vec![before.clone()], vec![after.clone()]).changes.is_empty());

    after.meta.licenses = vec![license("gpl3Only")];
    after.meta.maintainers = vec![login("eve", Some(4)), login("bob", None), login("ann", Some(1))];
    after.meta.description = Some("it does things".into());
    (after.meta.broken, after.meta.insecure) = (true, true);
    let diff = compared(vec![before.clone()], vec![after.clone()]);
    assert_eq!(lines(&diff), ["a Metadata"]);
    let expected = [
        MetaChange::Licenses { from: before.meta.licenses.clone(), to: vec![license("gpl3Only")] },
        MetaChange::Maintainers { added: vec![login("eve", Some(4))], removed: vec![login("eve", Some(3))] },
        MetaChange::Description,
        MetaChange::Broken { now: true },
        MetaChange::Insecure { now: true },
    ];
    assert_eq!(diff.changes[0].meta, expected);
    // The same beside another change.
    after.drv = drv('b', "a-1");
    let diff = compared(vec![before], vec![after]);
    assert_eq!((lines(&diff), &diff.changes[0].meta[..]), (vec!["a Rebuilt".to_owned()], &expected[..]));
}

/// Whether a package may be shared is what people look at a licence for.
#[test]
fn a_licence_that_is_free_no_more_is_another_one() {
    let license = |free| License { spdx: Some("A".into()), name: "a".into(), free };
    let with = |free| {
        let mut one = attr("a", drv('a', "a-1"));
        one.meta.licenses = vec![license(free)];
        one
    };
    let (said, unsaid, unfree) = (Some(true), None, Some(false));
    for (before, after) in [(said, unfree), (unsaid, unfree), (unfree, said)] {
        let diff = compared(vec![with(before)], vec![with(after)]);
        let expected = MetaChange::Licenses { from: vec![license(before)], to: vec![license(after)] };
        assert_eq!(
            (lines(&diff), &diff.changes[0].meta[..]),
            (vec!["a Metadata".to_owned()], &[expected][..])
        );
    }
    assert!(compared(vec![with(said)], vec![with(unsaid)]).changes.is_empty(), "what says nothing is free");
}

#[test]
fn versions_are_what_the_author_says_before_what_the_name_says() {
    let said = |letter, name: &str, pname: Option<&str>, version: Option<&str>| Attr {
        pname: pname.map(Into::into),
        version: version.map(Into::into),
        ..attr("a", drv(letter, name))
    };
    for (before, after, kind) in [
        // The name would say nothing.
        (
            said('a', "env", Some("x"), Some("1")),
            said('b', "env", Some("x"), Some("2")),
            r#"Bumped { from: "1", to: "2" }"#,
        ),
        // One side says it, the other only in its name.
        (said('a', "x-1", Some("x"), Some("1")), said('b', "x-1", None, None), "Rebuilt"),
        (said('a', "py-x-1", Some("x"), Some("1")), said('b', "py-x-1", None, None), "Rebuilt"),
        (said('a', "py-x-1", None, None), said('b', "py-x-1", Some("x"), Some("1")), "Rebuilt"),
        (said('a', "py-x-v1", Some("x"), Some("v1")), said('b', "py-x-v1", None, Some("v1")), "Rebuilt"),
        (
            said('a', "py-x-1", Some("x"), Some("1")),
            said('b', "py-x-2", None, None),
            r#"Bumped { from: "1", to: "2" }"#,
        ),
        (
            said('a', "py-x-v1", None, Some("v1")),
            said('b', "py-x-v2", Some("x"), Some("v2")),
            r#"Bumped { from: "v1", to: "v2" }"#,
        ),
        // Both say it, so that the name does not matter.
        (said('a', "py3-x-1", Some("x"), Some("1")), said('b', "py4-x-1", Some("x"), Some("1")), "Rebuilt"),
        (said('a', "x-y-z", Some("x"), None), said('b', "x-y-z", None, Some("y-z")), "Rebuilt"),
        (
            said('a', "x-1", None, Some("")),
            said('b', "x-2", Some(""), None),
            r#"Bumped { from: "1", to: "2" }"#,
        ),
        // It lost its version.
        (said('a', "x-1", None, None), said('b', "x", None, None), r#"Bumped { from: "x-1", to: "x" }"#),
    ] {
        assert_eq!(lines(&compared(vec![before], vec![after])), [format!("a {kind}")]);
    }
}

/// As when one side was evaluated by a program that tells neither `pname` nor `version`.
#[test]
fn a_rename_is_seen_where_only_one_side_says_the_package() {
    let silent = |path: &str, letter, name: &str| attr(path, drv(letter, name));
    let said = |path: &str, letter, name: &str| Attr {
        pname: Some("x".into()),
        version: Some("1".into()),
        ..silent(path, letter, name)
    };
    let renamed = [r#"c Renamed { from: AttrPath(["a"]) }"#];
    let (old, new) = (said("a", 'a', "py-x-1"), silent("c", 'b', "py-x-1"));
    assert_eq!(lines(&compared(vec![old.clone()], vec![new.clone()])), renamed);
    let (silent_old, said_new) = (silent("a", 'a', "py-x-1"), said("c", 'b', "py-x-1"));
    assert_eq!(lines(&compared(vec![silent_old.clone()], vec![said_new])), renamed);
    // Both say it, so that the name does not matter.
    assert_eq!(lines(&compared(vec![old.clone()], vec![said("c", 'b', "py4-x-1")])), renamed);
    // What one says is not what the other is called.
    let diff = compared(vec![old.clone()], vec![silent("c", 'b', "x-1")]);
    assert_eq!(lines(&diff), ["a Removed", "c Added"]);
    // Two are meant, one by what it says and one by its name.
    let diff = compared(vec![old], vec![new.clone(), said("d", 'c', "x-1")]);
    assert_eq!(lines(&diff), ["a Removed", "c Added", "d Added"]);
    let diff = compared(vec![silent_old, said("b", 'c', "py-x-1")], vec![new]);
    assert_eq!(lines(&diff), ["a Removed", "b Removed", "c Added"]);
}

const PATHS: [&str; 10] = ["", "a", "a.x", "a.y", "b", "b.x", "b.x.y", "c", "d", "e"];

/// A job's side: each path an attribute, an error, or not there.
fn side() -> impl Strategy<Value = Evaluation> {
    let thing = (0..4_u8, select(vec!['1', '2', '3']), select(vec!["p-1", "p-2", "q-1", "q"]), any::<bool>());
    (subsequence(&PATHS[..], 0..=PATHS.len()), prop::collection::vec(thing, PATHS.len())).prop_map(
        |(paths, things)| {
            let (mut attrs, mut errors): (Vec<Attr>, Vec<AttrError>) = (vec![], vec![]);
            for (path, (what, letter, name, broken)) in paths.into_iter().zip(things) {
                if what == 0 {
                    errors.push(error(path));
                    continue;
                }
                let mut one = attr(path, drv(letter, name));
                one.meta.broken = broken;
                one.system = system_of(path);
                attrs.push(one);
            }
            evaluation(attrs, errors)
        },
    )
}

fn system_of(path: &str) -> System {
    if path.ends_with(['x', 'd']) { "aarch64-linux" } else { "x86_64-linux" }.parse().unwrap()
}

fn mirrored(change: &AttrChange) -> AttrChange {
    let mut mirrored = change.clone();
    std::mem::swap(&mut mirrored.before, &mut mirrored.after);
    mirrored.kind = match change.kind.clone() {
        ChangeKind::Added => ChangeKind::Removed,
        ChangeKind::Removed => ChangeKind::Added,
        ChangeKind::Renamed { from } => {
            mirrored.attr.path = from;
            ChangeKind::Renamed { from: change.attr.path.clone() }
        }
        ChangeKind::Bumped { from, to } => ChangeKind::Bumped { from: to, to: from },
        kind @ (ChangeKind::Rebuilt | ChangeKind::Metadata) => kind,
    };
    for meta in &mut mirrored.meta {
        if let MetaChange::Broken { now } = meta {
            *now = !*now;
        }
    }
    mirrored
}

proptest! {
    #[test]
    fn nothing_differs_from_itself(one in side()) {
        let diff = attrs(std::slice::from_ref(&one), std::slice::from_ref(&one));
        prop_assert!(diff.changes.is_empty() && diff.errors.new.is_empty() && diff.fixed.is_empty());
        prop_assert!(diff.errors.removed.is_empty());
        prop_assert_eq!(diff.errors.still.len(), one.errors.len());
    }

    #[test]
    fn the_way_back_is_the_mirror_image((base, head) in (side(), side())) {
        let there = attrs(std::slice::from_ref(&base), std::slice::from_ref(&head));
        let back = attrs(&[head], &[base]);
        let mut image: Vec<_> = there.changes.iter().map(mirrored).collect();
        image.sort_by(|a, b| a.attr.cmp(&b.attr));
        prop_assert_eq!(image, back.changes);
        for (system, counts) in there.systems {
            prop_assert_eq!(counts.failing, back.systems[&system].fixed);
        }
    }

    #[test]
    fn numbers_add_up_to_all_attributes((base, head) in (side(), side())) {
        let diff = attrs(std::slice::from_ref(&base), std::slice::from_ref(&head));
        for (system, of) in &diff.systems {
            let on = |side: &Evaluation| side.attrs.iter().filter(|attr| attr.system == *system).count();
            let both = of.renamed + of.bumped + of.rebuilt + of.metadata + of.unchanged;
            prop_assert_eq!(both + of.added + of.fixed, on(&head));
            prop_assert_eq!(both + of.removed + of.failing, on(&base));
        }
        let of_kind = |wanted: &str| lines(&diff).iter().filter(|line| line.contains(wanted)).count();
        let sum = |count: fn(&SystemCounts) -> usize| diff.systems.values().map(count).sum::<usize>();
        prop_assert_eq!(of_kind("Added"), sum(|of| of.added));
        prop_assert_eq!(of_kind("Removed"), sum(|of| of.removed));
        prop_assert_eq!(of_kind("Renamed"), sum(|of| of.renamed));
        prop_assert_eq!(of_kind("Bumped"), sum(|of| of.bumped));
        prop_assert_eq!(of_kind("Rebuilt"), sum(|of| of.rebuilt));
        prop_assert_eq!(of_kind("Metadata"), sum(|of| of.metadata));
        prop_assert_eq!(diff.errors.new.len() + diff.errors.still.len(), head.errors.len());
        prop_assert_eq!(diff.errors.fixed.len(), sum(|of| of.fixed));
        let is_gone = |before: &&AttrError| {
            let is_other = |now: &AttrError| !now.path.starts_with(&before.path) && !before.path.starts_with(&now.path);
            head.errors.iter().all(is_other) && !head.attrs.iter().any(|attr| attr.path.starts_with(&before.path))
        };
        let gone: Vec<_> = base.errors.iter().filter(is_gone).map(|error| &error.path).collect();
        prop_assert_eq!(diff.errors.removed.iter().map(|attr| &attr.path).collect::<Vec<_>>(), gone);
    }
}
