//! No test of the workspace is put aside. In: the sources. Out: a failure for each `#[ignore]` on a test that no other
//! one starts by its name, in a process of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How a test is put aside, or called.
const MARK: &str = "#[ignore";
/// Folders that hold no source of ours.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

#[test]
fn only_tests_that_others_start_are_ignored() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().parent().unwrap();
    let mut sources = Vec::new();
    collect(root, &mut sources);
    assert!(sources.len() > 100, "the sources are here");
    let (mut children, mut wrong) = (0, Vec::new());
    for (file, text) in &sources {
        let lines: Vec<&str> = text.lines().collect();
        let marked = (0..lines.len()).filter(|line| lines[*line].trim_start().starts_with(MARK));
        for line in marked {
            let name = lines[line..].iter().find_map(|line| line.split_once("fn ")?.1.split_once('('));
            let name = name.expect("a test has a name").0;
            let folder = file.parent().unwrap();
            let beside = sources.iter().filter(|(other, _)| other.starts_with(folder));
            if !beside.into_iter().any(|(_, text)| starts(text, name)) {
                wrong.push(format!("{}: {name}", file.display()));
            }
            children += 1;
        }
    }
    assert!(wrong.is_empty(), "ignored, and started by no test beside them: {wrong:#?}");
    assert!(children > 0, "the tests that start others are here");
}

/// Whether this name stands at the end of a text literal, alone or behind its module's.
fn starts(text: &str, name: &str) -> bool {
    text.contains(&format!("\"{name}\"")) || text.contains(&format!("::{name}\""))
}

fn collect(folder: &Path, sources: &mut Vec<(PathBuf, String)>) {
    let Some(entries) = if_there(fs::read_dir(folder)) else { return };
    for entry in entries.map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        if if_there(entry.file_type()).is_some_and(|kind| kind.is_dir()) {
            if !LEFT_OUT.iter().any(|left_out| name == *left_out) {
                collect(&path, sources);
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            sources.extend(if_there(fs::read_to_string(&path)).map(|text| (path, text)));
        }
    }
}

/// What was removed since its folder was listed is passed over: editors and other programs put files there for a moment.
fn if_there<T>(found: io::Result<T>) -> Option<T> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found.unwrap()),
    }
}
