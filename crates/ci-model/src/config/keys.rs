//! The keys of a repository's configuration: one table. Reading, the search for the nearest key, the JSON Schema, the
//! page for people and the question which branch a key is read from all come from it. Holds no values: those are
//! [`super::RepositoryConfig`]'s.

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

static JOB: Shape = Shape::Keys(&[
    Key {
        name: "file",
        shape: Shape::Text(text::JOB_FILE),
        absent: Absent::Refused,
        from: From::Head,
        about: "The file to evaluate, from the root of the repository: `default.nix`, `./default.nix` and \
                `/default.nix` are the same one. It never lies outside.",
        examples: [r#""default.nix""#, r#""./pkgs/all.nix""#],
        ..KEY
    },
    Key {
        name: "attr_path",
        shape: Shape::Text(text::ATTR_PATH),
        absent: Absent::Means("everything in the file"),
        from: From::Head,
        about: "Where in the file the job lies: `packages`, `a.\"b.c\"`.",
        examples: [r#""packages""#, r#""a.\"b.c\"""#],
        ..KEY
    },
    SYSTEMS,
    ALLOW_EVAL_FAILURES,
    CACHES,
    PRIORITY,
    Key {
        name: "size_check",
        shape: Shape::Keys(&SIZE_CHECK),
        absent: Absent::Means("sizes are not compared"),
        from: From::Base,
        about: "How much larger outputs and closures may become.",
        examples: [
            r#"{"max_increase_percent": 10.5}"#,
            r#"{"max_increase_percent": 5, "base_branch": "stable"}"#,
        ],
        ..KEY
    },
    POST_BUILD_HOOKS,
    FOD_POST_BUILD_HOOKS,
    ENABLED,
]);

const SYSTEMS: Key = Key {
    name: "systems",
    shape: Shape::List { of: &Shape::Text(text::SYSTEM), min: 1, max: 32, unique: true },
    absent: Absent::Means("all that the evaluation gives"),
    from: From::Head,
    about: "For which systems to build; attributes of others are left out.",
    examples: [r#"["x86_64-linux"]"#, r#"["aarch64-linux", "aarch64-darwin"]"#],
    ..KEY
};

const ALLOW_EVAL_FAILURES: Key = Key {
    name: "allow_eval_failures",
    alias: Some("allow-eval-failures"),
    shape: Shape::Flag,
    absent: Absent::Is("false"),
    from: From::Base,
    about: "May attributes fail to evaluate without making the check fail?",
    examples: ["true", "true"],
};

const CACHES: Key = Key {
    name: "caches",
    shape: Shape::List { of: &Shape::Text(text::CACHE_ID), min: 0, max: 64, unique: true },
    absent: Absent::Is("[]"),
    from: From::Base,
    about: "Where to push what was built: ids of caches of the server's configuration. One that is not there, or may not be \
            pushed to, is skipped with a warning.",
    examples: [r#"["internal"]"#, r#"["internal", "public"]"#],
    ..KEY
};

const PRIORITY: Key = Key {
    name: "priority",
    shape: Shape::Whole(-100, 100),
    absent: Absent::Is("0"),
    from: From::Base,
    about: "Higher goes first among the jobs of this repository.",
    examples: ["10", "-5"],
    ..KEY
};

const POST_BUILD_HOOKS: Key = Key {
    name: "post_build_hooks",
    shape: HOOKS,
    absent: Absent::Is("[]"),
    from: From::Base,
    about: "What to run after each derivation that was built for this job. A hook never fails a build. Runs only where \
            the server allows hooks of this repository.",
    examples: [
        r#"[{"name": "copy", "command": ["nix", "copy", "--to", "s3://cache"], "env": {"AWS_PROFILE": "ci"}}]"#,
        r#"[{"name": "sign", "command": ["./sign"], "timeout_seconds": 60}]"#,
    ],
    ..KEY
};

const FOD_POST_BUILD_HOOKS: Key = Key {
    name: "fod_post_build_hooks",
    shape: HOOKS,
    absent: Absent::Is("[]"),
    from: From::Base,
    about: "The same for derivations whose content is fixed, in addition.",
    examples: [
        r#"[{"name": "push", "command": ["cachix", "push", "public"], "append_paths": true}]"#,
        r#"[{"name": "archive", "command": ["./archive"], "conditions": {"branch": ["main"], "event": ["push"]}}]"#,
    ],
    ..KEY
};

const ENABLED: Key = Key {
    name: "enabled",
    shape: Shape::Flag,
    absent: Absent::Is("true"),
    from: From::Base,
    about: "`false`: it stays in the file and is passed over.",
    examples: ["false", "false"],
    ..KEY
};

static SIZE_CHECK: [Key; 2] = [
    Key {
        name: "max_increase_percent",
        shape: Shape::Decimal(0.0, 1_000_000.0),
        about: "By how much a size may grow, in percent, before that is a warning.",
        examples: ["10.0", "2.5"],
        ..KEY
    },
    Key {
        name: "base_branch",
        shape: Shape::Text(text::BRANCH),
        absent: Absent::Is("\"main\""),
        about: "The branch whose latest successful build is compared with.",
        examples: ["\"stable\"", "\"release/1\""],
        ..KEY
    },
];

static CHECK: Shape = Shape::Keys(&[
    Key {
        name: "command",
        shape: Shape::Text(text::COMMAND_LINE),
        from: From::Base,
        about: "The command line, for `bash`, at the root of the checkout.",
        examples: [r#""nixfmt --check **/*.nix""#, r#""make lint""#],
        ..KEY
    },
    Key {
        name: "shell",
        shape: Shape::Text(text::ATTR_PATH),
        absent: Absent::Means("the default one"),
        from: From::Head,
        about: "The shell that has the tools: an attribute of the flake's `devShells.SYSTEM`, or of `shell.nix`.",
        examples: [r#""formatting""#, r#""ci.lint""#],
        ..KEY
    },
    Key {
        name: "shell_nix",
        shape: Shape::Flag,
        absent: Absent::Is("false"),
        from: From::Head,
        about: "Is the shell in `shell.nix`?",
        examples: ["true", "true"],
        ..KEY
    },
    Key {
        name: "allow_network",
        shape: Shape::Flag,
        absent: Absent::Is("false"),
        from: From::Base,
        about: "May it use the network?",
        examples: ["true", "true"],
        ..KEY
    },
    Key {
        name: "ro_bind",
        shape: Shape::List { of: &Shape::Text(text::FOLDER), min: 0, max: 64, unique: true },
        absent: Absent::Is("[]"),
        from: From::Base,
        about: "Paths of the server that it may read, out of those that the server's configuration lists.",
        examples: [r#"["/etc/ssl/certs"]"#, r#"["/srv/data", "/srv/more"]"#],
        ..KEY
    },
    Key {
        name: "timeout_seconds",
        shape: Shape::Whole(1, 86_400),
        absent: Absent::Means("the server's"),
        from: From::Base,
        about: "How long it may take; never longer than the server allows.",
        examples: ["600", "30"],
        ..KEY
    },
    ENABLED,
]);

static FLAKE: [Key; 2] = [
    Key {
        name: "checks",
        shape: Shape::Keys(&FLAKE_OUTPUT),
        absent: Absent::Means("`checks` is no job"),
        from: From::Within,
        about: "The output `checks`.",
        ..KEY
    },
    Key {
        name: "packages",
        shape: Shape::Keys(&FLAKE_OUTPUT),
        absent: Absent::Means("`packages` is no job"),
        from: From::Within,
        about: "The output `packages`.",
        ..KEY
    },
];

static FLAKE_OUTPUT: [Key; 7] = [
    Key {
        name: "enable",
        shape: Shape::Flag,
        absent: Absent::Is("false"),
        from: From::Either,
        about: "Is it a job?",
        examples: ["true", "true"],
        ..KEY
    },
    SYSTEMS,
    ALLOW_EVAL_FAILURES,
    CACHES,
    PRIORITY,
    POST_BUILD_HOOKS,
    FOD_POST_BUILD_HOOKS,
];

const HOOKS: Shape = Shape::List { of: &Shape::Keys(&HOOK), min: 0, max: 32, unique: false };

static HOOK: [Key; 7] = [
    Key {
        name: "name",
        shape: Shape::Text(text::HOOK_NAME),
        about: "What it is called in logs; once among the hooks of a job.",
        examples: ["\"push\"", "\"sign-2\""],
        ..KEY
    },
    Key {
        name: "command",
        shape: Shape::List { of: &Shape::Text(text::ARGUMENT), min: 1, max: 256, unique: false },
        about: "Program and arguments; no shell. `$NAME` and `${NAME}` stand for variables, and `$OUT_PATHS` as a whole \
                argument for one argument per path.",
        examples: [r#"["./tell", "$OUT_PATHS"]"#, r#"["cachix", "push", "public"]"#],
        ..KEY
    },
    Key {
        name: "env",
        shape: Shape::Named { name: text::VARIABLE, each: &Shape::Text(text::VALUE), max: 100 },
        absent: Absent::Is("{}"),
        about: "More variables. Whoever reads the repository reads them: no secrets.",
        examples: [r#"{"AWS_PROFILE": "ci"}"#, r#"{"LEVEL": "3"}"#],
        ..KEY
    },
    Key {
        name: "timeout_seconds",
        shape: Shape::Whole(1, 86_400),
        absent: Absent::Means("the server's"),
        about: "How long it may take; never longer than the server allows.",
        examples: ["60", "5"],
        ..KEY
    },
    Key {
        name: "conditions",
        shape: Shape::Keys(&CONDITIONS),
        absent: Absent::Means("always"),
        about: "When it runs. All that are said have to hold.",
        examples: [r#"{"branch": ["main"]}"#, r#"{"event": ["push", "schedule"]}"#],
        ..KEY
    },
    Key {
        name: "after",
        shape: Shape::List { of: &Shape::Text(text::HOOK_NAME), min: 0, max: 32, unique: true },
        absent: Absent::Is("[]"),
        about: "Hooks of the same job that have to end before it begins.",
        examples: [r#"["sign"]"#, r#"["sign", "tell"]"#],
        ..KEY
    },
    Key {
        name: "append_paths",
        shape: Shape::Flag,
        absent: Absent::Means("`true` for `nix`, `cachix` and `attic` where no path is named, else `false`"),
        about: "Are the output paths put behind the arguments?",
        examples: ["true", "false"],
        ..KEY
    },
];

/// What can have happened.
pub(super) const EVENTS: [&str; 4] = ["push", "pull-request", "merge-queue", "schedule"];

static CONDITIONS: [Key; 2] = [
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
pub(super) const EFFECTS: [&str; 5] = ["no-op", "docs-only", "rebuild-only", "evaluate", "rebuild-all"];

static CHANGE_RULE: [Key; 2] = [
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

static SCHEDULE: [Key; 3] = [
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

const JOB_REFERENCE: Text = Text { check: |_| Ok(()), ..text::JOB_NAME };

static SUMMARY: [Key; 3] = [
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

static IMPACT: [Key; 3] = [
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
