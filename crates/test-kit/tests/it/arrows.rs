//! The workspace keeps its shape. In: `cargo metadata`, the table in `docs/architecture.md`, `deny.toml`. Out: a
//! failure for each arrow, source, ban or licence that they do not allow. Leaves out advisories: `cargo deny` has
//! those.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use toml::de::{DeTable, DeValue};

/// What a pure crate must not have anywhere below it.
const IMPURE: &[&str] = &["tokio", "rusqlite", "libsqlite3-sys", "axum", "reqwest", "octocrab"];
/// Our crate that any other may use in its tests.
const FOR_TESTS: &str = "test-kit";

#[test]
fn arrows_between_our_crates_are_those_of_the_table() {
    let (metadata, rows) = (metadata(), rows());
    let ours: BTreeSet<&str> = metadata.workspace_packages().iter().map(|p| p.name.as_str()).collect();
    let drawn: BTreeSet<&str> = rows.keys().map(String::as_str).collect();
    assert_eq!(ours, drawn, "left: the workspace's crates, right: the rows of docs/architecture.md");
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let allowed = &rows[package.name.as_str()].may_use;
        for dependency in package.dependencies.iter().filter(|d| ours.contains(d.name.as_str())) {
            let in_tests = dependency.kind == DependencyKind::Development && dependency.name == FOR_TESTS;
            if !in_tests && !allowed.contains(&dependency.name) {
                wrong.push(format!("{} -> {}", package.name, dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that docs/architecture.md does not have: {wrong:?}");
}

#[test]
fn pure_crates_have_nothing_impure_below_them() {
    let (metadata, rows) = (metadata(), rows());
    let pure: Vec<&Package> = metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| rows.get(package.name.as_str()).is_some_and(|row| row.kind == "pure"))
        .collect();
    assert!(pure.len() >= 2, "docs/architecture.md names hook-wire and nix-types as pure");
    for package in pure {
        let below = below(&metadata, &package.id);
        let impure: Vec<&&str> = IMPURE.iter().filter(|name| below.contains(**name)).collect();
        assert!(impure.is_empty(), "{} is pure, and has {impure:?} below it", package.name);
    }
}

#[test]
fn every_dependency_has_an_allowed_licence_and_source() {
    let (metadata, rules) = (metadata(), Rules::read());
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        match &package.license {
            Some(licence) if licence_allowed(licence, &rules.licences) => {}
            other => wrong.push(format!("{name}: licence {other:?} is not allowed by deny.toml")),
        }
        match &package.source {
            None if metadata.workspace_members.contains(&package.id) => {}
            Some(source) if source.is_crates_io() => {}
            other => {
                wrong.push(format!("{name}: comes from {other:?}, neither the workspace nor the registry"));
            }
        }
        if rules.banned.contains(package.name.as_str()) {
            wrong.push(format!("{name}: banned by deny.toml"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_licence_expression_is_weighed_as_written() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-2.0",
        "(MIT OR ISC) AND Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(licence_allowed(good, &allowed), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "ISC OR (MIT AND GPL-2.0)",
        "MIT WITH LLVM-exception",
        "MIT OR",
        "(MIT",
    ] {
        assert!(!licence_allowed(bad, &allowed), "{bad}");
    }
}

/// The whole graph of this machine's platform, from what the build has fetched already; asks the registry only
/// when something is not there.
fn metadata() -> Metadata {
    let run = |more: &[&str]| {
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let mut options = vec!["--locked".to_owned(), "--filter-platform".to_owned(), platform];
        options.extend(more.iter().map(|&option| option.to_owned()));
        MetadataCommand::new().manifest_path(root().join("Cargo.toml")).other_options(options).exec()
    };
    run(&["--offline"]).or_else(|_| run(&[])).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

struct Row {
    kind: String,
    may_use: BTreeSet<String>,
}

/// The table of `docs/architecture.md`, by crate.
fn rows() -> BTreeMap<String, Row> {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let (_, table) = page.split_once("<!-- arrows -->").expect("the table's first marker");
    let (table, _) = table.split_once("<!-- /arrows -->").expect("the table's last marker");
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, may_use] = cells[..] else { panic!("a row has three cells: {line}") };
        let row = Row { kind: kind.to_owned(), may_use: names(may_use).collect() };
        (names(name).next().expect("a row names a crate"), row)
    };
    table.lines().filter(|line| line.starts_with("| `")).map(row).collect()
}

/// The names between backticks.
fn names(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The names of everything below a package, development dependencies aside.
fn below(metadata: &Metadata, of: &PackageId) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().expect("metadata has a resolved graph");
    let (mut seen, mut open) = (BTreeSet::new(), vec![of.clone()]);
    while let Some(id) = open.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let node = resolve.nodes.iter().find(|node| node.id == id).expect("each package is a node");
        let built = |kinds: &[cargo_metadata::DepKindInfo]| {
            kinds.iter().any(|k| k.kind != DependencyKind::Development)
        };
        open.extend(node.deps.iter().filter(|dep| built(&dep.dep_kinds)).map(|dep| dep.pkg.clone()));
    }
    seen.remove(of);
    seen.iter().map(|id| metadata[id].name.to_string()).collect()
}

/// What `deny.toml` says.
struct Rules {
    licences: BTreeSet<String>,
    banned: BTreeSet<String>,
}

impl Rules {
    fn read() -> Self {
        let text = fs::read_to_string(root().join("deny.toml")).unwrap();
        let table = DeTable::parse(&text).unwrap().into_inner();
        let list = |section: &str, key: &str| -> Vec<DeValue<'_>> {
            let items = table[section].get_ref()[key].get_ref().as_array().expect("an array in deny.toml");
            items.iter().map(|item| item.get_ref().clone()).collect()
        };
        let text = |value: &DeValue<'_>| value.as_str().expect("a string in deny.toml").to_owned();
        let licences: BTreeSet<String> = list("licenses", "allow").iter().map(text).collect();
        let banned = list("bans", "deny").iter().map(|ban| text(ban["crate"].get_ref())).collect();
        assert!(licences.contains("MIT"), "deny.toml allows MIT");
        Self { licences, banned }
    }
}

/// Whether an SPDX expression (or the old `A/B`) can be met with the allowed licences alone. What does not parse is
/// not allowed.
fn licence_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = words.as_slice();
    any_of(&mut words, allowed) == Some(true) && words.is_empty()
}

fn any_of(words: &mut &[&str], allowed: &BTreeSet<String>) -> Option<bool> {
    let mut met = all_of(words, allowed)?;
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        met |= all_of(words, allowed)?;
    }
    Some(met)
}

fn all_of(words: &mut &[&str], allowed: &BTreeSet<String>) -> Option<bool> {
    let mut met = one(words, allowed)?;
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        met &= one(words, allowed)?;
    }
    Some(met)
}

fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> Option<bool> {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let met = any_of(words, allowed)?;
            *words = words.strip_prefix(&[")"])?;
            Some(met)
        }
        [licence, "WITH", exception, rest @ ..] => {
            *words = rest;
            Some(allowed.contains(&format!("{licence} WITH {exception}")))
        }
        [licence, rest @ ..] if !["OR", "AND", "WITH", ")"].contains(licence) => {
            *words = rest;
            Some(allowed.contains(*licence))
        }
        _ => None,
    }
}
