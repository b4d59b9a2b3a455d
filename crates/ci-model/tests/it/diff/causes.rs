//! Why things change, told of packages whose derivations are known.

use ci_model::change::{CONSEQUENCES_LISTED_MAX, VALUE_BYTES_MAX};
use ci_model::diff::{
    COUNTERPARTS_MAX, DIFFERENCES_LISTED_MAX, MAX_REBUILD_COUNT, NoFacts, REACH_LISTED_MAX,
    ROOT_CAUSES_LISTED_MAX,
};

use super::packages::{Package, Packages, World, but, causes, compared, package, set};

/// A compiler, a library with its source, and two programs, one of which needs the library.
fn few() -> Packages {
    set(&[
        ("cc", package("cc", "12")),
        ("lib-src", package("lib-1.0.tar.gz", "").fixed("aa").with("url", "https://a/lib-1.0").hidden()),
        ("lib", package("lib", "1.0").needs("cc").needs("lib-src").with("flags", "-O2")),
        ("app", package("app", "3").needs("cc").needs("lib")),
        ("tool", package("tool", "5").needs("cc")),
    ])
}

#[test]
fn the_same_packages_have_no_cause_to_change() {
    assert_eq!(causes(&compared(&few(), &few())), [""; 0]);
}

#[test]
fn a_bump_begins_at_the_source() {
    let head = but(&few(), "lib-src", |source| {
        *source = package("lib-1.1.tar.gz", "").fixed("bb").with("url", "https://a/lib-1.1").hidden();
    });
    let head = but(&head, "lib", |lib| lib.version = "1.1".into());
    let comparison = compared(&few(), &head);
    assert_eq!(
        causes(&comparison),
        ["lib-1.1.tar.gz 2/0/3 hash sha256:aa sha256:bb, $name, $url", "lib-1.1 2/0/2 $name"]
    );
    let examples: Vec<_> =
        comparison.root_causes[0].examples.iter().map(|attr| attr.path.to_string()).collect();
    assert_eq!(examples, ["app", "lib"]);
    let totals = comparison.totals();
    assert_eq!((totals.drvs, totals.same_outputs, totals.to_build()), (3, 0, 3));
    let reach: Vec<_> =
        comparison.reach.iter().map(|reach| (reach.attr.path.to_string(), reach.dependants)).collect();
    assert_eq!(reach, [("lib".to_owned(), 1)]);
}

#[test]
fn each_field_is_a_cause_and_what_follows_is_none() {
    let head = |change: fn(&mut Package)| causes(&compared(&few(), &but(&few(), "lib", change)));
    assert_eq!(head(|lib| *lib = lib.clone().with("flags", "-O3")), ["lib-1.0 2/2/2 $flags"]);
    assert_eq!(head(|lib| *lib = lib.clone().with("more", "x")), ["lib-1.0 2/2/2 $more"]);
    assert_eq!(head(|lib| lib.args.push("-x".into())), ["lib-1.0 2/2/2 args"]);
    assert_eq!(head(|lib| lib.has_dev = true), ["lib-1.0 2/2/2 outputs"]);
    assert_eq!(
        head(|lib| *lib = lib.clone().source("fix.patch", "1")),
        ["lib-1.0 2/2/2 source fix.patch, $sources"]
    );
    assert_eq!(head(|lib| lib.inputs.truncate(1)), ["lib-1.0 2/2/2 -lib-1.0.tar.gz"]);
    let head = but(&few(), "app", |app| *app = app.clone().needs("tool"));
    let head = {
        let mut head = head;
        head.swap(3, 4);
        head
    };
    assert_eq!(causes(&compared(&few(), &head)), ["app-3 1/1/1 +tool-5"]);
}

#[test]
fn a_source_of_the_same_name_is_told_once() {
    let base = but(&few(), "lib", |lib| *lib = lib.clone().source("fix.patch", "1"));
    let head = but(&few(), "lib", |lib| *lib = lib.clone().source("fix.patch", "2"));
    assert_eq!(causes(&compared(&base, &head)), ["lib-1.0 2/2/2 source fix.patch"]);
}

#[test]
fn a_mass_rebuild_has_one_cause() {
    let head = but(&few(), "cc", |cc| *cc = cc.clone().with("patched", "1"));
    assert_eq!(causes(&compared(&few(), &head)), ["cc-12 4/4/4 $patched"]);
}

#[test]
fn another_way_to_the_same_source_builds_nothing() {
    let head =
        but(&few(), "lib-src", |source| *source = source.clone().with("url", "https://mirror/lib-1.0"));
    let comparison = compared(&few(), &head);
    assert_eq!(causes(&comparison), ["lib-1.0.tar.gz 2/2/3 $url"]);
    let totals = comparison.totals();
    assert_eq!((totals.drvs, totals.same_outputs, totals.to_build()), (3, 3, 0));
}

#[test]
fn stand_ins_for_paths_that_are_not_known_yet_are_no_difference() {
    let content_addressed = |packages: &Packages| {
        packages
            .iter()
            .cloned()
            .map(|(key, package)| {
                let is_content_addressed = package.fixed.is_none();
                (key, Package { is_content_addressed, ..package })
            })
            .collect::<Packages>()
    };
    let base = content_addressed(&few());
    let head = but(&base, "lib", |lib| *lib = lib.clone().with("flags", "-O3"));
    let comparison = compared(&base, &head);
    assert_eq!(causes(&comparison), ["lib-1.0 2/2/2 $flags"]);
    assert_eq!(comparison.totals().same_outputs, 0);
}

#[test]
fn of_structured_attributes_the_topmost_names_are_told() {
    let structured = |packages: &Packages| {
        packages
            .iter()
            .cloned()
            .map(|(key, package)| (key, Package { is_structured: true, ..package }))
            .collect::<Packages>()
    };
    let base = structured(&few());
    let head = but(&base, "cc", |cc| *cc = cc.clone().with("patched", "1"));
    assert_eq!(causes(&compared(&base, &head)), ["cc-12 4/4/4 $patched"]);
    let head = but(&base, "lib", |lib| *lib = lib.clone().with("flags", "-O3"));
    assert_eq!(causes(&compared(&base, &head)), ["lib-1.0 2/2/2 $flags"]);
}

/// Two stages of one compiler, the second built by the first, and what needs both.
fn stages(seed: &str) -> Packages {
    set(&[
        ("seed", package("seed", "1").with("content", seed).hidden()),
        ("stage1", package("cc", "12").needs("seed").with("stage", "1").hidden()),
        ("stage2", package("cc", "12").needs("seed").with("stage", "2").hidden()),
        ("app", package("app", "1").needs("stage1").needs("stage2")),
    ])
}

#[test]
fn inputs_of_one_name_are_told_apart_by_where_texts_speak_of_them() {
    assert_eq!(causes(&compared(&stages("a"), &stages("b"))), ["seed-1 1/1/4 $content"]);
    // Where no text is there to tell, it is said to be unknown.
    let mut world = World::default();
    let (base, head) = (world.evaluate(&stages("a")), world.evaluate(&stages("b")));
    assert_eq!(causes(&world.compare_knowing(base, head, &NoFacts)), ["app-1 1/1/1 unknown"]);
}

#[test]
fn places_say_nothing_where_there_are_more_of_them_than_before() {
    let base = but(&stages("a"), "app", |app| app.inputs.insert(0, ("seed".into(), "out".into())));
    let mut head = but(&stages("b"), "app", |app| app.inputs.insert(0, ("stage0".into(), "out".into())));
    head.insert(1, ("stage0".into(), package("cc", "12").needs("seed").with("stage", "0").hidden()));
    assert_eq!(causes(&compared(&base, &head)), ["app-1 1/1/1 -seed-1, unknown"]);
}

#[test]
fn a_path_that_is_named_and_not_needed_is_no_difference_when_it_follows() {
    let with = |packages: &Packages| {
        let mut packages = packages.clone();
        packages.push(("doc".into(), package("doc", "1").needs("app").with("about", "@lib")));
        packages
    };
    let head = but(&with(&few()), "lib", |lib| *lib = lib.clone().with("flags", "-O3"));
    assert_eq!(causes(&compared(&with(&few()), &head)), ["lib-1.0 3/3/3 $flags"]);
}

#[test]
fn another_name_for_what_changed_is_no_news() {
    let changed = few()[2].1.clone().with("flags", "-O3");
    let mut head = but(&few(), "lib", |lib| *lib = changed.clone());
    head.push(("also".into(), changed));
    assert_eq!(causes(&compared(&few(), &head)), ["lib-1.0 3/3/2 $flags"]);
}

#[test]
fn another_description_has_neither_cause_nor_reach() {
    let mut world = World::default();
    let base = world.evaluate(&few());
    let mut head = base.clone();
    head.attrs.iter_mut().for_each(|attr| attr.meta.description = Some("it does things".into()));
    let comparison = world.compare(base, head);
    assert_eq!((comparison.totals().metadata, comparison.totals().drvs), (4, 0));
    assert!(comparison.root_causes.is_empty() && comparison.reach.is_empty());
}

#[test]
fn more_causes_than_are_followed_at_a_time_or_listed() {
    let side = |flags: &str| -> Packages {
        let many = (0..1100).map(|at| format!("p{at:04}"));
        let mut side: Packages =
            many.clone().map(|key| (key.clone(), package(&key, "1").with("flags", flags))).collect();
        let all = Package { inputs: many.map(|key| (key, "out".into())).collect(), ..package("all", "1") };
        side.push(("all".into(), all));
        side
    };
    let comparison = compared(&side("a"), &side("b"));
    assert_eq!((comparison.root_causes_total, comparison.root_causes.len()), (1100, ROOT_CAUSES_LISTED_MAX));
    let told = causes(&comparison);
    let expected: Vec<_> = (0..1000).map(|at| format!("p{at:04}-1 2/1/2 $flags")).collect();
    assert_eq!(told, expected);
    assert_eq!((comparison.reach.len(), comparison.reach_total), (REACH_LISTED_MAX, 1100));
}

/// A system with little in it is not crowded out by one with much.
#[test]
fn what_reaches_furthest_is_listed_by_system() {
    let mut world = World::default();
    let mut side = |flags: &str| {
        let mut packages = Packages::new();
        for (system, libs, users) in [("amd", 12, 2), ("arm", 3, 1)] {
            let keys: Vec<String> = (0..libs).map(|at| format!("{system}{at:02}")).collect();
            packages.extend(keys.iter().map(|key| (key.clone(), package(key, "1").with("flags", flags))));
            for user in 0..users {
                let name = format!("{system}-user{user}");
                packages
                    .push((name.clone(), keys.iter().fold(package(&name, "1"), |user, key| user.needs(key))));
            }
        }
        let mut side = world.evaluate(&packages);
        for attr in side.attrs.iter_mut().filter(|attr| attr.name.starts_with("arm")) {
            attr.system = "aarch64-linux".parse().unwrap();
        }
        side
    };
    let (base, head) = (side("a"), side("b"));
    let comparison = world.compare(base, head);
    let reach: Vec<_> = comparison.reach.iter().map(|of| (of.system.as_str(), of.dependants)).collect();
    assert_eq!((reach.len(), comparison.reach_total), (REACH_LISTED_MAX + 3, 15));
    assert_eq!(reach[..REACH_LISTED_MAX], [("x86_64-linux", 2); REACH_LISTED_MAX]);
    assert_eq!(reach[REACH_LISTED_MAX..], [("aarch64-linux", 1); 3]);
}

/// The page about it says what the code does.
#[test]
fn the_bounds_are_those_of_the_page() {
    let page = include_str!("../../../../../docs/change-analysis.md").replace('\n', " ");
    for sentence in [
        format!("is compared with {COUNTERPARTS_MAX} of the base at most"),
        format!("At most {ROOT_CAUSES_LISTED_MAX} root causes are listed"),
        format!("{DIFFERENCES_LISTED_MAX} differences of each, values cut at {VALUE_BYTES_MAX} bytes"),
        format!(
            "{CONSEQUENCES_LISTED_MAX} attributes of each; the {REACH_LISTED_MAX} attributes of each system"
        ),
        format!("`max_rebuild_count` ({},{:03})", MAX_REBUILD_COUNT / 1000, MAX_REBUILD_COUNT % 1000),
    ] {
        assert!(page.contains(&sentence), "docs/change-analysis.md lacks: {sentence}");
    }
}

#[test]
fn a_name_that_holds_its_interpreters_version_is_found_again() {
    let python = |version: &str| {
        let named = |name: &str| package(&format!("python{version}-{name}"), "1");
        set(&[
            ("python", package("python3", version)),
            ("wheel", package("wheel", "1").hidden()),
            ("attrs", named("attrs").needs("python")),
            ("x", package("x", "1").needs("attrs")),
        ])
    };
    let head = but(&python("3.13"), "attrs", |attrs| *attrs = attrs.clone().needs("wheel"));
    let expected = ["python3-3.13 3/1/3 $name", "python3.13-attrs-1 2/0/2 +wheel-1, $name"];
    assert_eq!(causes(&compared(&python("3.12"), &head)), expected);
    let mut world = World::default();
    let (base, head) = (world.evaluate(&python("3.12")), world.evaluate(&head));
    assert_eq!(causes(&world.compare_knowing(base, head, &NoFacts)), expected);
}

#[test]
fn who_takes_something_else_that_was_there_is_the_cause() {
    let base = set(&[
        ("ssl1", package("openssl", "1.1")),
        ("ssl3", package("openssl", "3.0")),
        ("lib", package("lib", "1").needs("ssl1")),
        ("app", package("app", "1").needs("lib")),
    ]);
    let head = but(&base, "lib", |lib| lib.inputs[0].0 = "ssl3".into());
    assert_eq!(causes(&compared(&base, &head)), ["lib-1 2/2/2 +openssl-3.0, -openssl-1.1"]);
    // The attribute itself.
    let head = but(&base, "lib", |lib| *lib = package("openssl", "3.0"));
    let head = but(&head, "app", |app| app.inputs.clear());
    let base = but(&base, "app", |app| app.inputs.clear());
    assert_eq!(causes(&compared(&base, &head)), ["openssl-3.0 1/1/0 -openssl-1.1, $name"]);
}

#[test]
fn what_stays_here_and_is_replaced_elsewhere_is_no_difference_here() {
    let base = set(&[
        ("old", package("dep", "1")),
        ("a", package("a", "1").needs("old")),
        ("other", package("other", "1").hidden()),
        ("b", package("b", "1").needs("old").needs("other")),
    ]);
    let mut head = base.clone();
    head.insert(1, ("new".into(), package("dep", "1").with("flags", "x").hidden()));
    let head = but(&head, "a", |a| a.inputs[0].0 = "new".into());
    let head = but(&head, "other", |other| *other = other.clone().with("flags", "y"));
    assert_eq!(causes(&compared(&base, &head)), ["dep-1 1/1/2 $flags", "other-1 1/1/2 $flags"]);
}

#[test]
fn two_that_become_one_differ_from_the_closer_one() {
    let base = set(&[
        ("seed", package("seed", "1")),
        ("z1", package("z", "1").needs("seed").with("shared", "0").hidden()),
        ("z2", package("z", "1").needs("seed").with("shared", "1").hidden()),
        ("a", package("a", "1").needs("z1")),
        ("b", package("b", "1").needs("z2")),
    ]);
    let head = but(&base, "seed", |seed| *seed = seed.clone().with("content", "x"));
    let head = but(&head, "a", |a| a.inputs[0].0 = "z2".into());
    assert_eq!(causes(&compared(&base, &head)), ["seed-1 3/3/4 $content"]);
}

#[test]
fn other_outputs_of_an_input_are_told() {
    let base = but(&few(), "lib", |lib| lib.has_dev = true);
    let head = but(&base, "app", |app| app.inputs[1].1 = "dev".into());
    assert_eq!(causes(&compared(&base, &head)), ["app-3 1/1/1 outputs of lib-1.0, $buildInputs"]);
}

#[test]
fn what_is_new_is_told_from_the_lowest_on() {
    let mut head = few();
    head.push(("plugins".into(), package("plugins", "1").needs("lib")));
    head.push(("suite".into(), package("suite", "1").needs("plugins").needs("tool")));
    head.push(("alias".into(), few()[4].1.clone()));
    assert_eq!(causes(&compared(&few(), &head)), ["plugins-1 2/2/2 new"]);
    // With no base, nothing is explained.
    let mut world = World::default();
    let head = world.evaluate(&head);
    let comparison = ci_model::diff::compare(&[], &[head], &world.graph, &world.outputs, &world.files);
    assert_eq!(causes(&comparison), [""; 0]);
    assert_eq!((comparison.totals().added, comparison.totals().drvs), (7, 7));
}

#[test]
fn what_is_not_there_to_look_at_is_said_to_be_unknown() {
    let head = but(&few(), "lib", |lib| *lib = lib.clone().with("flags", "-O3"));
    let mut world = World::default();
    let (before, after) = (world.evaluate(&few()), world.evaluate(&head));
    // No file: what needs something that differs may follow from it; what does not, is unknown.
    let comparison = world.compare_knowing(before.clone(), after.clone(), &NoFacts);
    assert_eq!(causes(&comparison), ["lib-1.0 2/2/2 unknown"]);
    assert_eq!(comparison.unseen, 0);
    // Not even a node, of one side and of both.
    let mut half = World::default();
    half.evaluate(&head);
    let comparison = half.compare(before.clone(), after.clone());
    assert_eq!(causes(&comparison), ["lib-1.0 2/1/2 unknown", "app-3 1/0/1 unknown"]);
    assert_eq!(comparison.unseen, 2);
    let comparison = World::default().compare(before, after);
    assert_eq!(causes(&comparison), ["app-3 1/1/0 unknown", "lib-1.0 1/1/0 unknown"]);
    assert_eq!((comparison.unseen, comparison.totals().drvs), (8, 0));
}

/// What both sides have is nothing new, whatever it needs.
#[test]
fn where_nothing_can_be_new_nothing_is_missed() {
    let mut world = World::default();
    let before = world.evaluate(&few());
    let (mut fewer, mut renamed) = (before.clone(), before.clone());
    fewer.attrs.remove(0);
    renamed.attrs[0].path = "another".parse().unwrap();
    for head in [before.clone(), fewer, renamed] {
        let comparison = World::default().compare(before.clone(), head);
        assert_eq!((comparison.unseen, comparison.totals().to_build()), (0, 0), "{:?}", comparison.changes);
        assert_eq!(causes(&comparison), [""; 0]);
    }
}
