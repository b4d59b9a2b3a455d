//! Outcomes made by hand, for the tests of every report: what is usual, what is large, and what is meant badly.

use std::collections::BTreeMap;

use ci_model::JobName;
use ci_model::attr::{AttrError, ErrorKind, License, Maintainer};
use ci_model::change::{
    AttrChange, ChangeKind, Comparison, Difference, ErrorChanges, JobAttr, MetaChange, Reach, RootCause,
    SystemCounts,
};
use ci_model::flow::{EvaluationCost, Verdict};
use ci_model::outcome::{JobOutcome, Outcome};
use nix_types::{AttrPath, DrvPath, System};

pub(crate) const X86: &str = "x86_64-linux";
pub(crate) const ARM: &str = "aarch64-linux";

pub(crate) fn system(text: &str) -> System {
    text.parse().unwrap()
}

pub(crate) fn job(text: &str) -> JobName {
    text.parse().unwrap()
}

pub(crate) fn drv(name: &str) -> DrvPath {
    DrvPath::parse_str(&format!("/nix/store/{}-{name}.drv", "a".repeat(32))).unwrap()
}

pub(crate) fn attr(components: &[&str]) -> JobAttr {
    let path = AttrPath::new(components.iter().map(|&text| text.to_owned()).collect()).unwrap();
    JobAttr { job: job("packages"), path }
}

pub(crate) fn change(on: &str, name: &str, kind: ChangeKind) -> AttrChange {
    let (before, after) = match &kind {
        ChangeKind::Added => (None, Some(drv(&format!("{name}-1.0")))),
        ChangeKind::Removed => (Some(drv(&format!("{name}-1.0"))), None),
        ChangeKind::Renamed { .. } | ChangeKind::Metadata => (Some(drv(name)), Some(drv(name))),
        ChangeKind::Bumped { from, to } => {
            (Some(drv(&format!("{name}-{from}"))), Some(drv(&format!("{name}-{to}"))))
        }
        ChangeKind::Rebuilt => (Some(drv(name)), Some(drv(&format!("{name}-1.0")))),
    };
    AttrChange { attr: attr(&[on, name]), system: system(on), kind, meta: Vec::new(), before, after }
}

pub(crate) fn error(components: &[&str], kind: ErrorKind, message: &str) -> (JobName, AttrError) {
    let JobAttr { job, path } = attr(components);
    (job, AttrError { path, kind, message: message.into(), trace: String::new() })
}

fn bump(from: &str, to: &str) -> ChangeKind {
    ChangeKind::Bumped { from: from.into(), to: to.into() }
}

fn cost(wall_ms: u64, reused: bool) -> EvaluationCost {
    EvaluationCost {
        engine: "walker (Nix 2.8.0)".into(),
        wall_ms,
        cpu_ms: wall_ms * 2,
        memory_peak_bytes: 45 << 20,
        processes: 2,
        reused,
    }
}

/// Nothing changes.
pub(crate) fn nothing() -> Outcome {
    let counts = |unchanged| SystemCounts { unchanged, ..SystemCounts::default() };
    Outcome {
        repository: "/home/ann/packages".parse().unwrap(),
        head: None,
        base: Some("0c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f60718293".parse().unwrap()),
        files_changed: 1,
        jobs: vec![JobOutcome {
            job: job("packages"),
            allows_failures: false,
            attrs: 48,
            errors: 0,
            systems: vec![system(ARM), system(X86)],
            head: Some(cost(800, false)),
            base: Some(cost(790, true)),
        }],
        comparison: Comparison {
            systems: BTreeMap::from([(system(ARM), counts(24)), (system(X86), counts(24))]),
            ..Comparison::default()
        },
        verdict: Verdict::Neutral,
        reasons: Vec::new(),
        warnings: Vec::new(),
        wall_ms: 950,
    }
}

/// A change of every kind, an error of every kind of change, on two systems.
pub(crate) fn few() -> Outcome {
    let mut outcome = nothing();
    outcome.head = Some("f00dfeedf00dfeedf00dfeedf00dfeedf00dfeed".parse().unwrap());
    outcome.files_changed = 7;
    outcome.verdict = Verdict::Bad;
    outcome.reasons = vec![
        "Newly fails to evaluate in packages: x86_64-linux.editor.".into(),
        "1 attribute of checks newly fails to evaluate, which this job allows.".into(),
    ];
    outcome.warnings =
        vec!["both .ekaci/config.json and .eka-ci/config.json exist; the first one is used".into()];
    outcome.comparison = Comparison {
        changes: [ARM, X86].into_iter().flat_map(few_changes).collect(),
        systems: [ARM, X86].map(|on| (system(on), few_counts())).into_iter().collect(),
        root_causes: few_causes(),
        root_causes_total: 103,
        unseen: 0,
        reach_total: 3,
        reach: ["zlib", "curl", "shell"]
            .into_iter()
            .zip([19, 7, 1])
            .map(|(name, dependants)| reach(name, dependants))
            .collect(),
        errors: ErrorChanges {
            new: vec![error(
                &[X86, "editor"],
                ErrorKind::Thrown,
                "error: editor needs a toolkit\n(in packages/editor.nix)",
            )],
            still: vec![error(&[X86, "game"], ErrorKind::TimedOut, "it took longer than 30m")],
            fixed: vec![attr(&[X86, "viewer"])],
            removed: vec![attr(&[X86, "abandoned"])],
        },
    };
    outcome
}

fn few_changes(on: &'static str) -> Vec<AttrChange> {
    let mut changes = vec![
        change(on, "zstd", ChangeKind::Added),
        change(on, "telnet", ChangeKind::Removed),
        change(on, "ripgrep", ChangeKind::Renamed { from: attr(&[on, "rg"]).path }),
        change(on, "zlib", bump("1.2.13", "1.3.1")),
        change(on, "shell", ChangeKind::Metadata),
    ];
    changes[4].meta = vec![
        MetaChange::Licenses { from: vec![license("MIT")], to: vec![license("Apache-2.0"), license("MIT")] },
        MetaChange::Maintainers { added: vec![maintainer("bob")], removed: vec![maintainer("ann")] },
        MetaChange::Description,
        MetaChange::Broken { now: true },
    ];
    let rebuilt = ["curl", "git", "openssl", "python", "ruby", "tar", "vim"];
    changes.extend(rebuilt.map(|name| change(on, name, ChangeKind::Rebuilt)));
    if on == X86 {
        changes.push(change(on, "grub", ChangeKind::Rebuilt));
    }
    changes
}

fn few_counts() -> SystemCounts {
    SystemCounts {
        added: 1,
        removed: 1,
        renamed: 1,
        bumped: 1,
        rebuilt: 7,
        metadata: 1,
        unchanged: 12,
        failing: 1,
        fixed: 1,
        drvs: 1_206,
        same_outputs: 2,
    }
}

fn license(spdx: &str) -> License {
    License { spdx: Some(spdx.into()), name: spdx.to_lowercase(), free: Some(true) }
}

fn maintainer(github: &str) -> Maintainer {
    Maintainer { github: Some(github.into()), ..Maintainer::default() }
}

fn reach(name: &str, dependants: usize) -> Reach {
    Reach { attr: attr(&[X86, name]), system: system(X86), dependants }
}

fn few_causes() -> Vec<RootCause> {
    let rebuilt = ["curl", "git", "openssl", "python", "ruby", "tar", "vim", "zlib"];
    let cause = |on: &str| RootCause {
        before: Some(drv("zlib-1.2.13")),
        after: drv("zlib-1.3.1"),
        system: system(on),
        differences: vec![
            Difference::Env {
                name: "name".into(),
                from: Some("zlib-1.2.13".into()),
                to: Some("zlib-1.3.1".into()),
            },
            Difference::Source { name: "zlib.tar.gz".into() },
            Difference::Env { name: "version".into(), from: Some("1.2.13".into()), to: Some("1.3.1".into()) },
            Difference::InputAdded { name: "hook".into() },
            Difference::FixedHash { from: "sha256-aaa=".into(), to: "sha256-bbb=".into() },
            Difference::Args,
        ],
        attrs: 312,
        examples: rebuilt.map(|name| attr(&[on, name])).to_vec(),
        drvs: 1_203,
        attrs_alone: 290,
    };
    let new = RootCause {
        before: None,
        after: drv("zstd-1.0"),
        system: system(X86),
        differences: vec![Difference::New],
        attrs: 1,
        examples: vec![attr(&[X86, "zstd"])],
        drvs: 1,
        attrs_alone: 1,
    };
    vec![cause(ARM), cause(X86), new]
}

/// A low-level library: 20,000 packages are rebuilt.
pub(crate) fn mass() -> Outcome {
    let mut outcome = few();
    outcome.verdict = Verdict::NeedsAction;
    outcome.reasons =
        vec!["It is a wide change: 62408 derivations are to be built, more than the 20000 that are built for one change.".into()];
    let rebuilt = (0..20_000).map(|number| change(X86, &format!("package-{number:05}"), ChangeKind::Rebuilt));
    outcome.comparison.changes.extend(rebuilt);
    let counts = outcome.comparison.systems.get_mut(&system(X86)).unwrap();
    (counts.rebuilt, counts.drvs) = (20_007, 61_204);
    outcome.comparison.errors = ErrorChanges::default();
    (outcome.comparison.unseen, outcome.comparison.reach_total) = (3, 1_204);
    outcome.warnings.splice(0..0, ci_model::diff::incomplete(&outcome.comparison));
    outcome
}

/// Nothing evaluates.
pub(crate) fn only_errors() -> Outcome {
    let mut outcome = nothing();
    outcome.verdict = Verdict::Bad;
    outcome.reasons = vec!["Newly fails to evaluate in packages: p0, p1, p2 and 9 more.".into()];
    outcome.jobs[0].errors = 25;
    outcome.comparison.systems.clear();
    outcome.comparison.errors.new = ErrorKind::ALL
        .into_iter()
        .chain([ErrorKind::Fatal, ErrorKind::Fatal])
        .enumerate()
        .map(|(place, kind)| error(&[&format!("p{place}")], kind, "error: attribute 'version' missing"))
        .collect();
    outcome.comparison.errors.new.push(error(&[], ErrorKind::Crashed, ""));
    outcome
}

/// There is nothing to compare with, and several jobs.
pub(crate) fn no_base() -> Outcome {
    let mut outcome = nothing();
    (outcome.base, outcome.verdict) = (None, Verdict::Good);
    outcome.jobs[0].base = None;
    let mut checks = outcome.jobs[0].clone();
    (checks.job, checks.attrs, checks.head) = (job("checks"), 2, Some(cost(61_000, false)));
    outcome.jobs.insert(0, checks);
    outcome.comparison.changes =
        vec![change(X86, "curl", ChangeKind::Added), change(X86, "zlib", ChangeKind::Added)];
    let counts = SystemCounts { added: 2, drvs: 9, ..SystemCounts::default() };
    outcome.comparison.systems = BTreeMap::from([(system(X86), counts)]);
    outcome
}

/// More systems than any terminal is wide.
pub(crate) fn wide() -> Outcome {
    let mut outcome = few();
    outcome.comparison.systems = (0..20)
        .map(|number| {
            (
                system(&format!("architecture{number:02}-linux")),
                SystemCounts { drvs: number * 7, ..few_counts() },
            )
        })
        .collect();
    outcome
}

/// Text that is meant to be taken for something else.
pub(crate) const HOSTILE: [&str; 10] = [
    "\u{1b}[2J\u{1b}[31mred",
    "\u{202e}txt.exe",
    "line\nbreak\r",
    "@everyone #1 GH-1 !secret",
    "</details><img src=x onerror=alert(1)>",
    "`code` | cell | **bold** [link](http://evil)",
    "数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数数",
    "e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{9b}31m",
    "",
    "\\|` \\",
];

/// Names, versions and messages of an attacker.
pub(crate) fn hostile() -> Outcome {
    let mut outcome = few();
    outcome.reasons = HOSTILE.iter().map(|text| (*text).to_owned()).collect();
    outcome.warnings = outcome.reasons.clone();
    outcome.comparison.changes = HOSTILE.iter().map(|name| named(name, bump(name, name))).collect();
    outcome
        .comparison
        .changes
        .extend(HOSTILE.iter().map(|name| named(name, ChangeKind::Renamed { from: attr(&[name]).path })));
    let meta = &mut outcome.comparison.changes[3].meta;
    meta.push(MetaChange::Licenses { from: vec![], to: vec![license("</td>@all")] });
    meta.push(MetaChange::Maintainers {
        added: vec![maintainer("x|@all"), Maintainer::default()],
        removed: vec![],
    });
    let cause = &mut outcome.comparison.root_causes[0];
    cause.examples = HOSTILE.iter().map(|name| attr(&[name])).collect();
    cause.differences =
        HOSTILE.map(|text| Difference::Env { name: text.into(), from: Some(text.into()), to: None }).to_vec();
    outcome.comparison.reach[0].attr = attr(&[HOSTILE[0]]);
    outcome.comparison.errors.new =
        HOSTILE.iter().map(|text| error(&[text], ErrorKind::Fatal, text)).collect();
    outcome.comparison.errors.removed = HOSTILE.iter().map(|text| attr(&[text])).collect();
    outcome.jobs[0].head.as_mut().unwrap().engine = HOSTILE[0].into();
    outcome
}

fn named(name: &str, kind: ChangeKind) -> AttrChange {
    AttrChange { attr: attr(&[name]), kind, ..change(X86, "x", ChangeKind::Rebuilt) }
}
