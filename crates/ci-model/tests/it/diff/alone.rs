//! Promises about time: these run last, one by one.

use ci_model::diff::attrs;

use super::packages::{Packages, World, package};
use super::support::{attr, drv, evaluation};

#[test]
fn ten_times_the_attributes_take_little_more_than_ten_times_as_long() {
    let side = |count: usize, changed: usize, letter: char| {
        let name = |at: usize| {
            format!("a{:07}", if at < changed { at } else { at + usize::from(letter == 'a') * count })
        };
        let attrs = (0..count).map(|at| attr(&name(at), drv(letter, "x-1"))).collect();
        evaluation(attrs, vec![])
    };
    let took = |count: usize| {
        // Two thirds rebuilt, a third gone and as many new, all candidates for a rename.
        let (base, head) = ([side(count, count * 2 / 3, 'a')], [side(count, count * 2 / 3, 'b')]);
        let once = || {
            let start = std::time::Instant::now();
            assert_eq!(attrs(&base, &head).changes.len(), count + count - count * 2 / 3);
            start.elapsed()
        };
        (0..3).map(|_| once()).min().unwrap()
    };
    let (few, many) = (took(3_000), took(30_000));
    assert!(many < few * 40, "{few:?} for 3,000, {many:?} for 30,000");
}

/// A chain of derivations of one name, each attribute of which is another one further down at the head: laid side by
/// side in every way there is, they would make as many pairs as the square of their number.
#[test]
fn a_chain_that_is_shifted_is_not_compared_with_all_of_itself() {
    let chain = |length: usize, flags: &str| -> Packages {
        let one = |at: usize| {
            let one = package("x", "1").with("flags", flags).with("at", &at.to_string());
            (format!("x{at:05}"), if at > 0 { one.needs(&format!("x{:05}", at - 1)) } else { one })
        };
        (0..length).map(one).collect()
    };
    let took = |length: usize| {
        let mut world = World::default();
        let base = world.evaluate(&chain(length, "a"));
        let mut head = world.evaluate(&chain(length, "b"));
        let drvs: Vec<_> = head.attrs.iter().map(|attr| attr.drv.clone()).collect();
        for (at, attr) in head.attrs.iter_mut().enumerate() {
            attr.drv = drvs[(at * 7 + 3) % length].clone();
        }
        let start = std::time::Instant::now();
        let comparison = world.compare(base, head);
        assert_eq!(comparison.root_causes_total, length);
        start.elapsed()
    };
    let (few, many) = (took(300), took(3_000));
    assert!(many < few * 60, "{few:?} for 300, {many:?} for 3,000");
}

/// What needs thousands of things that are all called the same takes no more than their number, and a little.
#[test]
fn many_inputs_of_one_name_are_told_apart_in_time() {
    let side = |count: usize, flags: &str| -> Packages {
        let key = |at: usize| format!("source{at:05}");
        let one = |at: usize| {
            let one = package("source", "").fixed(&format!("{flags}{at}")).with("url", &at.to_string());
            (key(at), one.hidden())
        };
        let mut side: Packages = (0..count).map(one).collect();
        side.push(("all".into(), (0..count).fold(package("all", "1"), |all, at| all.needs(&key(at)))));
        side
    };
    let took = |count: usize| {
        let mut world = World::default();
        let (base, head) = (world.evaluate(&side(count, "a")), world.evaluate(&side(count, "b")));
        let start = std::time::Instant::now();
        assert_eq!(world.compare(base, head).root_causes_total, count);
        start.elapsed()
    };
    let (few, many) = (took(200), took(2_000));
    assert!(many < few * 60, "{few:?} for 200, {many:?} for 2,000");
}
