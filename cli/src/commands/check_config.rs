//! `ekaci check-config`: says whether a repository's configuration is taken. Changes nothing.
//!
//! In flows a file, or a checkout's folder; out flow its problems and warnings with their places, and a verdict. In a
//! checkout the files of jobs are looked for, too. Leaves out what only a server knows: caches, and what it allows.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ci_model::config::{
    BYTES_MAX, Files, Finding, NotLocated, PATHS, RepositoryConfig, locate, parse, schema,
};
use serde_json::json;
use service_kit::text::one_line;

use super::{coloured, fail, out};
use crate::cli::{CheckConfigArgs, EXIT_CONFIG, EXIT_NO_INPUT, EXIT_OK, Global};

pub(super) fn run(arguments: &CheckConfigArgs, global: Global) -> ExitCode {
    if arguments.schema {
        let _ = out(schema().trim_end()); // nobody reads it
        return EXIT_OK.into();
    }
    let path = &arguments.path;
    let checked = if path.is_dir() { check_checkout(path) } else { check_file(path) };
    let checked = match checked {
        Ok(checked) => checked,
        Err(message) => return fail(&message, EXIT_NO_INPUT),
    };
    let shown = if global.json { checked.json() } else { checked.text(coloured(global.color)) };
    let _ = out(&shown); // nobody reads it; the exit code says the rest
    if checked.problems.is_empty() { EXIT_OK.into() } else { EXIT_CONFIG.into() }
}

/// What was found in a file.
struct Checked {
    file: PathBuf,
    problems: Vec<Finding>,
    more: usize,
    warnings: Vec<Finding>,
}

fn check_file(file: &Path) -> Result<Checked, String> {
    let bytes = read(file).map_err(|error| unreadable(file, &error))?;
    let (problems, more, warnings) = match parse(&bytes) {
        Ok(parsed) => (Vec::new(), 0, parsed.warnings),
        Err(refused) => (refused.problems, refused.more, refused.warnings),
    };
    Ok(Checked { file: file.to_owned(), problems, more, warnings })
}

fn check_checkout(folder: &Path) -> Result<Checked, String> {
    let mut contents = [None, None];
    for (place, path) in PATHS.iter().enumerate() {
        let file = folder.join(path);
        if let Some(link) = link_on_the_way(folder, path) {
            let what =
                format!("{path} is, or lies behind, a symbolic link ({link}), which no server follows");
            let problem = of_file(what, "put the file itself there");
            return Ok(Checked { file, problems: vec![problem], more: 0, warnings: Vec::new() });
        }
        contents[place] = match read(&file) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unreadable(&file, &error)),
        };
    }
    let files = Files { configs: [contents[0].as_deref(), contents[1].as_deref()], ..Files::default() };
    match locate(files) {
        Ok(found) => {
            let bytes = contents.into_iter().flatten().next().unwrap_or_default();
            let problems = absent_files(folder, &found.config, &bytes);
            Ok(Checked { file: folder.join(found.origin), problems, more: 0, warnings: found.warnings })
        }
        Err(NotLocated::Refused { path, refused }) => Ok(Checked {
            file: folder.join(path),
            problems: refused.problems,
            more: refused.more,
            warnings: refused.warnings,
        }),
        Err(error @ (NotLocated::Absent | NotLocated::Nothing)) => {
            let shown = folder.display().to_string();
            Err(format!("{}: {error}; write one, or name a file", one_line(&shown)))
        }
    }
}

/// The first part of a path that is a symbolic link.
fn link_on_the_way(folder: &Path, path: &str) -> Option<String> {
    let mut file = folder.to_owned();
    for part in path.split('/') {
        file.push(part);
        if fs::symlink_metadata(&file).is_ok_and(|found| found.is_symlink()) {
            return Some(part.to_owned());
        }
    }
    None
}

/// Files of jobs that `run` would not look at, at the places where they are named.
fn absent_files(folder: &Path, config: &RepositoryConfig, bytes: &[u8]) -> Vec<Finding> {
    let wrong = |(name, what, remedy): (&str, String, &str)| {
        ci_model::config::finding_at(bytes, &["jobs", name, "file"], &what, remedy)
    };
    let jobs = config.jobs.iter().filter(|(_, job)| job.enabled);
    let found = jobs.filter_map(|(name, job)| {
        let (file, path) = (&job.file, expression(&folder.join(job.file.as_str())));
        if !path.is_file() {
            let what = format!("there is no file {file} in this checkout");
            Some((name.as_str(), what, "write it, or name another"))
        } else if leads_out(folder, &path) {
            let what = format!("{file} leads out of this checkout");
            Some((name.as_str(), what, "put the file itself there, or name another"))
        } else {
            None
        }
    });
    found.map(wrong).collect()
}

/// The file, or the `default.nix` of a folder, as Nix takes it.
fn expression(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("default.nix") } else { path.to_owned() }
}

fn leads_out(folder: &Path, path: &Path) -> bool {
    match (path.canonicalize(), folder.canonicalize()) {
        (Ok(real), Ok(folder)) => !real.starts_with(folder),
        _ => true, // it was there a moment ago
    }
}

fn of_file(what: String, remedy: &str) -> Finding {
    Finding { line: 1, column: 1, key: String::new(), what, remedy: remedy.to_owned() }
}

/// The bytes of a file; of one that is too large no more than it takes to see that.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(file)?.take(most).read_to_end(&mut bytes)?;
    let shown = file.display().to_string();
    tracing::info!(file = %shown, bytes = bytes.len(), "read {} bytes of {}", bytes.len(), one_line(&shown));
    Ok(bytes)
}

fn unreadable(file: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", one_line(&file.display().to_string()))
}

impl Checked {
    fn text(&self, colours: bool) -> String {
        let file = one_line(&self.file.display().to_string()).to_string();
        let paint = |style: &str, text: &str| match colours {
            true => format!("\u{1b}[{style}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        };
        let line = |style: &str, kind: &str, finding: &Finding| {
            let shown = finding.to_string();
            let (place, rest) = shown.split_once(": ").unwrap_or(("", &shown));
            format!("{file}:{place}: {}: {rest}", paint(style, kind))
        };
        let problems = self.problems.iter().map(|problem| line("1;31", "error", problem));
        let warnings = self.warnings.iter().map(|warning| line("1;33", "warning", warning));
        let mut lines: Vec<String> = problems.chain(warnings).collect();
        lines.push(match (self.problems.len(), self.more) {
            (0, _) => format!("{file}: {}", paint("32", "good")),
            (1, 0) => format!("{file}: 1 error"),
            (n, 0) => format!("{file}: {n} errors"),
            (n, more) => format!("{file}: {n} errors, and at least {more} more"),
        });
        lines.join("\n")
    }

    fn json(&self) -> String {
        json!({
            "file": self.file.display().to_string(),
            "ok": self.problems.is_empty(),
            "problems": self.problems,
            "more": self.more,
            "warnings": self.warnings,
        })
        .to_string()
    }
}
