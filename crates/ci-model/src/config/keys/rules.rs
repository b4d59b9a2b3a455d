//! The keys that say when something runs, and how it is told: events, branches, changes, times, the summary.

use super::{Absent, From, KEY, Key, Shape};
use crate::config::text::{self, Text};

/// What can have happened.
const EVENTS: [&str; 4] = ["push", "pull-request", "merge-queue", "schedule"];

pub(super) static CONDITIONS: [Key; 2] = [
    Key {
        name: "branch",
        shape: Shape::List { of: &Shape::Text(text::BRANCH_PATTERN), min: 1, max: 100, unique: true },
        absent: Absent::Means("every branch"),
        about: "The branch that was pushed to, or that a pull request would be merged into.",
        examples: [r#"["main"]"#, r#"["release/*"]"#],
        ..KEY
    },
    Key {
        name: "event",
        shape: Shape::List { of: &Shape::Word(&EVENTS), min: 1, max: 4, unique: true },
        absent: Absent::Means("every event"),
        about: "What happened.",
        examples: [r#"["push"]"#, r#"["pull-request", "merge-queue"]"#],
        ..KEY
    },
];

/// From the weakest to the strongest.
const EFFECTS: [&str; 5] = ["no-op", "docs-only", "rebuild-only", "evaluate", "rebuild-all"];

pub(super) static CHANGE_RULE: [Key; 2] = [
    Key {
        name: "paths",
        shape: Shape::List { of: &Shape::Text(text::PATH_GLOB), min: 1, max: 200, unique: true },
        about: "Patterns over files, from the root of the repository.",
        examples: [r#"["doc/**", "**/*.md"]"#, r#"[".github/**"]"#],
        ..KEY
    },
    Key {
        name: "effect",
        shape: Shape::Word(&EFFECTS),
        about: "What a change of one of them comes to.",
        examples: ["\"docs-only\"", "\"no-op\""],
        ..KEY
    },
];

pub(super) static SCHEDULE: [Key; 3] = [
    Key {
        name: "cron",
        shape: Shape::Text(text::CRON),
        about: "When, in UTC: minute, hour, day of the month, month, day of the week; or `@hourly`, `@daily`, `@weekly`, \
                `@monthly`, `@yearly`.",
        examples: ["\"30 3 * * 1-5\"", "\"@daily\""],
        ..KEY
    },
    Key {
        name: "branch",
        shape: Shape::Text(text::BRANCH),
        absent: Absent::Means("the default branch"),
        about: "Whose latest commit. The schedule is read from the default branch.",
        examples: ["\"main\"", "\"stable\""],
        ..KEY
    },
    Key {
        name: "jobs",
        shape: Shape::List { of: &Shape::Text(JOB_REFERENCE), min: 1, max: 1000, unique: true },
        absent: Absent::Means("all"),
        about: "Which jobs; `flake.checks` and `flake.packages` too.",
        examples: [r#"["nightly"]"#, r#"["flake.packages"]"#],
        ..KEY
    },
];

pub(super) const JOB_REFERENCE: Text = Text { check: |_| Ok(()), ..text::JOB_NAME };

pub(super) static SUMMARY: [Key; 3] = [
    Key {
        name: "enabled",
        shape: Shape::Flag,
        absent: Absent::Is("true"),
        from: From::Base,
        about: "`false` leaves the part out.",
        examples: ["false", "false"],
        ..KEY
    },
    Key {
        name: "max_packages_listed",
        shape: Shape::Whole(0, 100_000),
        absent: Absent::Is("100"),
        from: From::Base,
        about: "Most rows; the rest is counted.",
        examples: ["50", "500"],
        ..KEY
    },
    Key {
        name: "include_rebuild_only",
        shape: Shape::Flag,
        absent: Absent::Is("false"),
        from: From::Base,
        about: "Are packages listed that are only rebuilt? They are counted anyway.",
        examples: ["true", "true"],
        ..KEY
    },
];

pub(super) static IMPACT: [Key; 3] = [
    Key {
        name: "enabled",
        shape: Shape::Flag,
        absent: Absent::Is("true"),
        from: From::Base,
        about: "`false` leaves the part out.",
        examples: ["false", "false"],
        ..KEY
    },
    Key {
        name: "max_top_blast_radius",
        shape: Shape::Whole(0, 10_000),
        absent: Absent::Is("5"),
        from: From::Base,
        about: "How many of the packages that most others need are listed.",
        examples: ["10", "20"],
        ..KEY
    },
    Key {
        name: "compute_full_blast_radius",
        shape: Shape::Flag,
        absent: Absent::Is("false"),
        from: From::Base,
        about: "Are all of them listed?",
        examples: ["true", "true"],
        ..KEY
    },
];
