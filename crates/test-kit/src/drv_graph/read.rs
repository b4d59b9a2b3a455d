//! The files of a graph come in, its rows go out. They are compressed tables with one line of headings: derivations
//! (id, hash, name, system, outputs, flags, features, number of sources, inputs) and jobs (attribute, id or error).

use std::path::Path;

use super::{DrvGraph, DrvRow, Flags, JobRow};

/// Reads both files.
pub(super) fn graph(drvs: &Path, jobs: &Path) -> DrvGraph {
    let drvs: Vec<_> = rows(drvs).iter().enumerate().map(|(index, line)| drv(index, line)).collect();
    let jobs = rows(jobs).iter().map(|line| job(line, drvs.len())).collect();
    DrvGraph { drvs, jobs }
}

fn rows(path: &Path) -> Vec<String> {
    let file = std::fs::File::open(path).unwrap_or_else(|why| panic!("open {}: {why}", path.display()));
    let text = zstd::decode_all(file).unwrap_or_else(|why| panic!("unpack {}: {why}", path.display()));
    let text = String::from_utf8(text).unwrap_or_else(|why| panic!("read {}: {why}", path.display()));
    text.lines().skip(1).map(str::to_owned).collect()
}

fn drv(index: usize, line: &str) -> DrvRow {
    let columns: Vec<_> = line.split('\t').collect();
    let &[id, hash, name, system, outputs, flags, features, ninputsrcs, inputs] = &columns[..] else {
        panic!("{line:?} has not nine columns");
    };
    assert_eq!(number(id), index, "{line:?} is not where its id says");
    let inputs: Vec<_> = inputs.split(',').filter(|input| !input.is_empty()).map(input).collect();
    assert!(inputs.iter().all(|(input, _)| *input < index), "{line:?} comes before something it needs");
    DrvRow {
        hash: hash.into(),
        name: name.into(),
        system: system.into(),
        outputs: words(outputs, ','),
        flags: Flags {
            fixed_output: flags.contains('F'),
            content_addressed: flags.contains('C'),
            prefers_local: flags.contains('L'),
        },
        features: if features == "-" { Vec::new() } else { words(features, ',') },
        ninputsrcs: number(ninputsrcs),
        inputs,
    }
}

/// `12`, or `12:dev+lib`.
fn input(text: &str) -> (usize, Vec<String>) {
    match text.split_once(':') {
        None => (number(text), vec!["out".into()]),
        Some((id, outputs)) => (number(id), words(outputs, '+')),
    }
}

fn job(line: &str, drvs: usize) -> (String, JobRow) {
    let (attr, what) = line.split_once('\t').unwrap_or_else(|| panic!("{line:?} has not two columns"));
    let what = match what {
        "error" => JobRow::Error,
        "error-fatal" => JobRow::ErrorFatal,
        id => JobRow::Drv(number(id)),
    };
    assert!(!matches!(what, JobRow::Drv(drv) if drv >= drvs), "{line:?} names no derivation");
    (attr.into(), what)
}

fn words(text: &str, between: char) -> Vec<String> {
    text.split(between).map(str::to_owned).collect()
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_derivation() {
        let row = drv(13, "13\tq1rm\txz-5.8\tx86_64-linux\tbin,out\tFL\tkvm,big-parallel\t2\t1,12:dev+lib");
        let expected = DrvRow {
            hash: "q1rm".into(),
            name: "xz-5.8".into(),
            system: "x86_64-linux".into(),
            outputs: vec!["bin".into(), "out".into()],
            flags: Flags { fixed_output: true, content_addressed: false, prefers_local: true },
            features: vec!["kvm".into(), "big-parallel".into()],
            ninputsrcs: 2,
            inputs: vec![(1, vec!["out".into()]), (12, vec!["dev".into(), "lib".into()])],
        };
        assert_eq!(row, expected);
        assert_eq!(drv(0, "0\th\tn\tbuiltin\tout\tC\t-\t0\t").features, Vec::<String>::new());
    }

    #[test]
    fn a_job_is_a_derivation_or_an_error() {
        assert_eq!(job("a.\"b.c\"\t7", 8), ("a.\"b.c\"".into(), JobRow::Drv(7)));
        assert_eq!(job("a\terror", 8).1, JobRow::Error);
        assert_eq!(job("a\terror-fatal", 8).1, JobRow::ErrorFatal);
    }

    #[test]
    #[should_panic(expected = "comes before something it needs")]
    fn what_is_needed_comes_first() {
        let _ = drv(3, "3\th\tn\tbuiltin\tout\t-\t-\t0\t3");
    }
}
