//! The keys of a repository's configuration: one table. Reading, the search for the nearest key, the JSON Schema, the
//! page for people and the question which branch a key is read from all come from it. Holds no values: those are
//! [`super::RepositoryConfig`]'s.

mod jobs;
mod rules;
mod work;

use jobs::{FLAKE, JOB};
use rules::{CHANGE_RULE, IMPACT, SCHEDULE, SUMMARY};
use work::{CHECK, HOOKS};

use super::text::{self, Text};

/// What may stand at a place.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// An object with these keys.
    Keys(&'static [Key]),
    /// An object with keys of the author's choice.
    Named {
        /// What the keys are.
        name: Text,
        /// What stands behind each.
        each: &'static Shape,
        /// Most of them.
        max: usize,
    },
    /// A list.
    List {
        /// Of these.
        of: &'static Shape,
        /// Fewest.
        min: usize,
        /// Most.
        max: usize,
        /// May none of them be there twice?
        unique: bool,
    },
    /// `true` or `false`.
    Flag,
    /// A whole number, in these bounds.
    Whole(i64, i64),
    /// Any number, in these bounds.
    Decimal(f64, f64),
    /// A text of this kind.
    Text(Text),
    /// One of these texts.
    Word(&'static [&'static str]),
}

/// A key of an object.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Another spelling of it.
    pub alias: Option<&'static str>,
    /// What stands behind it.
    pub shape: Shape,
    /// What holds when it is not there.
    pub absent: Absent,
    /// Where it is read for a pull request.
    pub from: From,
    /// What it is for, in Markdown.
    pub about: &'static str,
    /// Two values, as JSON; none of them the default. Empty where the keys within have their own.
    pub examples: [&'static str; 2],
}

/// What holds when a key is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The file is refused.
    Refused,
    /// As if this stood there; JSON.
    Is(&'static str),
    /// This, in words.
    Means(&'static str),
}

/// Which side of a pull request a key is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The branch that it would be merged into.
    Base,
    /// The pull request itself.
    Head,
    /// Each key within says so for itself.
    Within,
    /// On if either side says so.
    Either,
    /// Together with the key that it is within.
    Whole,
    /// Nobody: it is for editors.
    Nobody,
}

const KEY: Key = Key {
    name: "",
    alias: None,
    shape: Shape::Flag,
    absent: Absent::Refused,
    from: From::Whole,
    about: "",
    examples: ["", ""],
};

/// A whole configuration.
pub static ROOT: Shape = Shape::Keys(&[
    Key {
        name: "jobs",
        shape: Shape::Named { name: text::JOB_NAME, each: &JOB, max: 1000 },
        absent: Absent::Is("{}"),
        from: From::Within,
        about: "What to evaluate and build, by name.",
        ..KEY
    },
    Key {
        name: "checks",
        shape: Shape::Named { name: text::CHECK_NAME, each: &CHECK, max: 200 },
        absent: Absent::Is("{}"),
        from: From::Within,
        about: "Commands to run in a sandbox, by name.",
        ..KEY
    },
    Key {
        name: "flake",
        shape: Shape::Keys(&FLAKE),
        absent: Absent::Means("no output of a flake is a job"),
        from: From::Within,
        about: "Which outputs of `flake.nix` are jobs. The job of `checks` is called `flake.checks`, that of `packages` \
                `flake.packages`; their attributes are `SYSTEM.NAME`.",
        ..KEY
    },
    Key {
        name: "post_build_hooks",
        shape: HOOKS,
        absent: Absent::Is("[]"),
        from: From::Base,
        about: "Hooks of every job, before its own.",
        examples: [
            r#"[{"name": "tell", "command": ["./tell", "$OUT_PATHS"]}]"#,
            r#"[{"name": "list", "command": ["ls"]}]"#,
        ],
        ..KEY
    },
    Key {
        name: "fod_post_build_hooks",
        shape: HOOKS,
        absent: Absent::Is("[]"),
        from: From::Base,
        about: "Hooks of every job, before its own, for derivations whose content is fixed.",
        examples: [
            r#"[{"name": "mirror", "command": ["./mirror"]}]"#,
            r#"[{"name": "store", "command": ["./store"]}]"#,
        ],
        ..KEY
    },
    Key {
        name: "change_set",
        shape: Shape::List { of: &Shape::Keys(&CHANGE_RULE), min: 0, max: 200, unique: false },
        absent: Absent::Is("[]"),
        from: From::Base,
        about: "What a change of which files comes to, without looking into them. The strongest effect of all changed \
                files counts; a file that no rule covers has `evaluate`, and the configuration itself at least that.",
        examples: [
            r#"[{"paths": ["doc/**", "*.md"], "effect": "docs-only"}]"#,
            r#"[{"paths": ["flake.lock"], "effect": "rebuild-all"}]"#,
        ],
        ..KEY
    },
    Key {
        name: "branches",
        shape: Shape::List { of: &Shape::Text(text::BRANCH_PATTERN), min: 0, max: 100, unique: true },
        absent: Absent::Means("pushes to the default branch are built"),
        from: From::Base,
        about: "Pushes to which branches are built. Pull requests are, whatever this says. An empty list: no pushes.",
        examples: [r#"["main", "release/*"]"#, r#"["*"]"#],
        ..KEY
    },
    Key {
        name: "schedules",
        shape: Shape::Named { name: text::SCHEDULE_NAME, each: &Shape::Keys(&SCHEDULE), max: 50 },
        absent: Absent::Is("{}"),
        from: From::Base,
        about: "What to run at which times, by name.",
        examples: [r#"{"nightly": {"cron": "30 3 * * *"}}"#, r#"{"weekly": {"cron": "@weekly"}}"#],
        ..KEY
    },
    Key {
        name: "package_change_summary",
        shape: Shape::Keys(&SUMMARY),
        absent: Absent::Means("the defaults of its keys"),
        from: From::Within,
        about: "The part of the change summary that lists packages.",
        ..KEY
    },
    Key {
        name: "rebuild_impact",
        shape: Shape::Keys(&IMPACT),
        absent: Absent::Means("the defaults of its keys"),
        from: From::Within,
        about: "The part of the change summary that counts rebuilds.",
        ..KEY
    },
    Key {
        name: "$schema",
        shape: Shape::Text(text::ADDRESS),
        absent: Absent::Means("nothing"),
        from: From::Nobody,
        about: "Where an editor finds the schema of this file.",
        examples: [r#""https://example.org/schema.json""#, r#""./schema.json""#],
        ..KEY
    },
]);
