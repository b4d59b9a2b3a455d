//! `eka-queue check-config`: says whether the daemon would start with this file. Changes nothing.
//!
//! In flows the file; out flow its problems and warnings, and a verdict. What the file points to is left out when it is
//! checked for another machine.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use service_kit::config::Problem;

use super::{out, verdict};
use crate::config::{Config, check};

pub(super) fn run(file: &Path, file_only: bool, json: bool) -> ExitCode {
    let (problems, warnings) = match Config::load(file) {
        Ok(config) if file_only => (Vec::new(), config.warnings),
        Ok(mut config) => {
            let found = check(&config);
            // The file may be for another machine.
            config.warnings.extend(found.absent.into_iter().chain(found.warnings));
            (found.problems, config.warnings)
        }
        Err(report) => (report.problems, report.warnings),
    };
    let shown = if json {
        let list = |problems: &[Problem]| -> Vec<serde_json::Value> {
            problems
                .iter()
                .map(|p| json!({ "line": p.line, "place": p.place, "what": p.what, "remedy": p.remedy }))
                .collect()
        };
        json!({ "file": file, "ok": problems.is_empty(), "problems": list(&problems), "warnings": list(&warnings) })
            .to_string()
    } else {
        let mut lines: Vec<String> = problems.iter().map(|p| p.in_file(file)).collect();
        lines.extend(warnings.iter().map(|w| format!("warning: {}", w.in_file(file))));
        lines.push(match problems.len() {
            0 => format!("{}: good", file.display()),
            n => format!("{}: {n} problem(s)", file.display()),
        });
        lines.join("\n")
    };
    let _ = out(&shown); // nobody reads it; the exit code says the rest
    verdict(problems.is_empty())
}
