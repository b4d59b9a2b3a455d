//! Attributes and evaluations for tests, in few words.

use std::collections::BTreeMap;

use ci_model::attr::{Attr, AttrError, ErrorKind, Meta};
use ci_model::diff::AttrDiff;
use ci_model::flow::{Evaluation, EvaluationCost};
use nix_types::{AttrPath, DrvPath};

/// A derivation's path: `letter` makes its hash.
pub(crate) fn drv(letter: char, name: &str) -> DrvPath {
    DrvPath::parse_str(&format!("/nix/store/{}-{name}.drv", letter.to_string().repeat(32))).unwrap()
}

pub(crate) fn attr(path: &str, drv: DrvPath) -> Attr {
    Attr {
        path: path.parse().unwrap(),
        name: drv.drv_name().to_owned(),
        pname: None,
        version: None,
        system: "x86_64-linux".parse().unwrap(),
        outputs: BTreeMap::new(),
        traits: None,
        meta: Meta::default(),
        drv,
    }
}

pub(crate) fn error(path: &str) -> AttrError {
    let path: AttrPath = path.parse().unwrap();
    AttrError { path, kind: ErrorKind::Thrown, message: "it says no".into(), trace: String::new() }
}

/// An evaluation of the job `pkgs`.
pub(crate) fn evaluation(attrs: Vec<Attr>, errors: Vec<AttrError>) -> Evaluation {
    job("pkgs", attrs, errors)
}

pub(crate) fn job(name: &str, mut attrs: Vec<Attr>, mut errors: Vec<AttrError>) -> Evaluation {
    attrs.sort_by(|a, b| a.path.cmp(&b.path));
    errors.sort_by(|a, b| a.path.cmp(&b.path));
    let (job, tree) = (name.parse().unwrap(), "0".repeat(40).parse().unwrap());
    Evaluation { job, tree, attrs, errors, cost: EvaluationCost::default() }
}

/// Changes as lines: `path kind`.
pub(crate) fn lines(diff: &AttrDiff) -> Vec<String> {
    diff.changes.iter().map(|change| format!("{} {:?}", change.attr.path, change.kind)).collect()
}

/// Errors as lines: `new path`, `still path`, `fixed path`, `removed path`.
pub(crate) fn error_lines(diff: &AttrDiff) -> Vec<String> {
    let of = |word: &str, list: &[(ci_model::JobName, AttrError)]| -> Vec<String> {
        list.iter().map(|(_, error)| format!("{word} {}", error.path)).collect()
    };
    let mut lines = of("new", &diff.errors.new);
    lines.extend(of("still", &diff.errors.still));
    lines.extend(diff.errors.fixed.iter().map(|attr| format!("fixed {}", attr.path)));
    lines.extend(diff.errors.removed.iter().map(|attr| format!("removed {}", attr.path)));
    lines
}
