//! What is to be built, and which files are asked for besides.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;

use ci_model::diff::{DrvFacts, NoFacts, compare};
use nix_types::{Derivation, DrvPath};

use super::packages::{Package, Packages, World, but, causes, package, set};

/// A source, a library of it, and what needs that, one after another.
fn tower(floors: usize) -> Packages {
    let mut packages = set(&[
        ("src", package("lib-1.0.tar.gz", "").fixed("aa").with("url", "https://a/lib-1.0").hidden()),
        ("lib", package("lib", "1.0").needs("src")),
    ]);
    let mut below = "lib".to_owned();
    for floor in 0..floors {
        let key = format!("floor{floor}");
        packages.push((key.clone(), package(&key, "1").needs(&below)));
        below = key;
    }
    packages
}

/// Files of which only the first few that are asked for can be read.
struct First<'a> {
    files: &'a HashMap<DrvPath, Derivation>,
    most: usize,
    asked: RefCell<Vec<DrvPath>>,
}

impl DrvFacts for First<'_> {
    fn get(&self, drv: &DrvPath) -> Option<Cow<'_, Derivation>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(drv) {
            asked.push(drv.clone());
        }
        let is_read = asked.iter().take(self.most).any(|read| read == drv);
        is_read.then(|| self.files.get(drv).map(Cow::Borrowed)).flatten()
    }
}

/// How many are new, how many of them make what the base makes, and how many are to be built, told without a file.
fn counted(base: &Packages, head: &Packages) -> (usize, usize, usize) {
    let mut world = World::default();
    let (base, head) = (world.evaluate(base), world.evaluate(head));
    let totals = world.compare_knowing(base, head, &NoFacts).totals();
    (totals.drvs, totals.same_outputs, totals.to_build())
}

/// Another user of a source fetches it from elsewhere, and the base's derivation stays beside.
#[test]
fn what_a_derivation_of_both_sides_makes_is_not_built_again() {
    let base = tower(1);
    let mut head = base.clone();
    head.extend(set(&[
        ("mirror", package("lib-1.0.tar.gz", "").fixed("aa").with("url", "https://mirror/lib-1.0").hidden()),
        ("other", package("other", "1").needs("mirror")),
    ]));
    assert_eq!(counted(&base, &head), (2, 1, 1));
    // The same hash under another name is another path.
    assert_eq!(counted(&base, &but(&head, "mirror", |source| source.pname = "lib.tar.gz".into())), (2, 0, 2));
    // Where a path is not known, it is not the base's.
    let base = but(&base, "lib", |lib| lib.is_content_addressed = true);
    let flags = |lib: &mut Package| *lib = lib.clone().with("flags", "-O3");
    assert_eq!(counted(&base, &but(&base, "lib", flags)).1, 0);
}

#[test]
fn what_is_to_be_built_is_told_without_a_file() {
    let base = tower(20);
    let head = but(&base, "src", |source| *source = source.clone().with("url", "https://mirror/lib-1.0"));
    assert_eq!(counted(&base, &head), (22, 22, 0));
}

/// Both files of a pair one after the other, and those at the bottom first.
#[test]
fn the_first_files_that_are_asked_for_lead_to_the_cause() {
    let base = tower(20);
    let head = but(&base, "src", |source| *source = source.clone().with("url", "https://mirror/lib-1.0"));
    let mut world = World::default();
    let ((base, before), (head, after)) = (world.instantiate(&base), world.instantiate(&head));
    let first = First { files: &world.files, most: 2, asked: RefCell::default() };
    let comparison = world.compare_knowing(base, head, &first);
    assert_eq!(causes(&comparison), ["lib-1.0.tar.gz 21/21/22 $url"]);
    let asked = first.asked.into_inner();
    let expected = ["src", "lib", "floor0"].map(|key| [before[key].clone(), after[key].clone()]);
    assert_eq!(asked[..6], expected.concat());
    assert_eq!(asked.len(), 2 * 22);
}

#[test]
fn without_a_base_no_file_is_asked_for() {
    let mut world = World::default();
    let head = world.evaluate(&tower(3));
    let none = First { files: &world.files, most: 0, asked: RefCell::default() };
    let comparison = compare(&[], &[head], &world.graph, &world.outputs, &none);
    assert_eq!((comparison.totals().to_build(), none.asked.into_inner()), (5, vec![]));
}
