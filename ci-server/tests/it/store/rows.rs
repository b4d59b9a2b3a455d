//! Things to store, made up.

use std::collections::{BTreeMap, BTreeSet};

use ci_model::attr::{Attr, AttrError, BuildTraits, ErrorKind, License, Maintainer, Meta, Position};
use ci_model::change::{AttrChange, ChangeKind, Comparison, JobAttr};
use ci_model::drv::DrvRecord;
use ci_model::flow::{Cause, EvaluationCost, Trigger, Trust, Verdict};
use ci_model::outcome::Outcome;
use ci_server::store::{EvaluationKey, RunKey, SettingsHash};
use nix_types::{AttrPath, DrvPath, StorePath};

pub(crate) fn store_path(number: u64, name: &str) -> StorePath {
    StorePath::parse_str(&format!("/nix/store/{number:032}-{name}")).unwrap()
}

pub(crate) fn drv_path(number: u64) -> DrvPath {
    DrvPath::try_from(store_path(number, &format!("drv-{number}.drv"))).unwrap()
}

pub(crate) fn key(tree: u8, job: &str) -> EvaluationKey {
    EvaluationKey {
        tree: format!("{tree:040x}").parse().unwrap(),
        job: job.parse().unwrap(),
        settings: SettingsHash::of(Trust::TrustedPush, &[b"test"]),
    }
}

pub(crate) fn trigger() -> Trigger {
    Trigger {
        repository: "github.com/ekala-project/corepkgs".parse().unwrap(),
        cause: Cause::PullRequest { number: 7 },
        head: Some("a".repeat(40).parse().unwrap()),
        base: Some("b".repeat(40).parse().unwrap()),
        trust: Trust::UntrustedPr,
    }
}

pub(crate) fn run_key(text: &str) -> RunKey {
    RunKey::new(text).unwrap()
}

pub(crate) fn attr(components: &[&str], number: u64) -> Attr {
    let name = format!("drv-{number}");
    Attr {
        path: path(components),
        drv: drv_path(number),
        outputs: BTreeMap::from([
            ("dev".into(), Some(store_path(number + 1, &format!("{name}-dev")))),
            ("out".into(), Some(store_path(number + 2, &name))),
        ]),
        name,
        pname: Some("drv".into()),
        version: Some(number.to_string()),
        system: "x86_64-linux".parse().unwrap(),
        traits: Some(BuildTraits {
            required_features: vec!["big-parallel".into(), "kvm".into()],
            ..BuildTraits::default()
        }),
        meta: Meta {
            description: Some("what it is".into()),
            licenses: vec![License { spdx: Some("MIT".into()), name: "mit".into(), free: Some(true) }],
            maintainers: vec![Maintainer {
                github: Some("someone".into()),
                github_id: Some(7),
                ..Maintainer::default()
            }],
            position: Some(Position { file: "pkgs/default.nix".into(), line: 12 }),
            ..Meta::default()
        },
    }
}

pub(crate) fn path(components: &[&str]) -> AttrPath {
    AttrPath::new(components.iter().map(|one| (*one).to_owned()).collect()).unwrap()
}

pub(crate) fn error(components: &[&str]) -> AttrError {
    AttrError {
        path: path(components),
        kind: ErrorKind::Thrown,
        message: "error: is marked as broken".into(),
        trace: "error:\n  … while evaluating".into(),
    }
}

pub(crate) fn cost() -> EvaluationCost {
    EvaluationCost {
        engine: "walker (Nix 2.8.0)".into(),
        wall_ms: 1200,
        cpu_ms: 1100,
        memory_peak_bytes: 1 << 30,
        processes: 2,
        reused: false,
    }
}

/// A derivation that needs others: `out` of even ones, `dev` and `lib` of odd ones.
pub(crate) fn drv(number: u64, needs: &[u64]) -> DrvRecord {
    let inputs = needs.iter().map(|need| {
        let outputs: &[&str] = if need.is_multiple_of(2) { &["out"] } else { &["dev", "lib"] };
        (drv_path(*need), outputs.iter().map(|output| (*output).to_owned()).collect::<BTreeSet<_>>())
    });
    DrvRecord {
        path: drv_path(number),
        system: (if number.is_multiple_of(3) { "builtin" } else { "x86_64-linux" }).parse().unwrap(),
        traits: BuildTraits { is_fod: number.is_multiple_of(3), ..BuildTraits::default() },
        outputs: BTreeMap::from([(
            "out".into(),
            Some(store_path(number + 1_000_000, &format!("drv-{number}"))),
        )]),
        inputs: inputs.collect(),
    }
}

/// A chain in which each needs the one before and one far behind it.
pub(crate) fn chain(count: u64) -> Vec<DrvRecord> {
    (0..count)
        .map(|number| match number {
            0 => drv(0, &[]),
            1 => drv(1, &[0]),
            other => drv(other, &[other - 1, other / 2 - 1]),
        })
        .collect()
}

pub(crate) fn comparison(changes: u64) -> Comparison {
    let change = |number: u64| AttrChange {
        attr: JobAttr { job: "packages".parse().unwrap(), path: path(&["set", &format!("p{number:06}")]) },
        system: "x86_64-linux".parse().unwrap(),
        kind: match number % 3 {
            0 => ChangeKind::Added,
            1 => ChangeKind::Removed,
            _ => ChangeKind::Bumped { from: "1".into(), to: "2".into() },
        },
        meta: Vec::new(),
        before: (!number.is_multiple_of(3)).then(|| drv_path(number)),
        after: (number % 3 != 1).then(|| drv_path(number + 1)),
    };
    Comparison { changes: (0..changes).map(change).collect(), ..Comparison::default() }
}

pub(crate) fn outcome(comparison: Comparison) -> Outcome {
    Outcome {
        repository: trigger().repository,
        head: trigger().head,
        base: trigger().base,
        files_changed: 3,
        jobs: Vec::new(),
        comparison,
        verdict: Verdict::Good,
        reasons: vec!["nothing breaks".into()],
        warnings: Vec::new(),
        wall_ms: 5,
    }
}
