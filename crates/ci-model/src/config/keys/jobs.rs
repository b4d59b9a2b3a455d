//! The keys of a job, and of an output of a flake, which is one.

use super::work::HOOKS;
use super::{Absent, From, KEY, Key, Shape};
use crate::config::text;

pub(super) static JOB: Shape = Shape::Keys(&[
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

pub(super) const SYSTEMS: Key = Key {
    name: "systems",
    shape: Shape::List { of: &Shape::Text(text::SYSTEM), min: 1, max: 32, unique: true },
    absent: Absent::Means("all that the evaluation gives"),
    from: From::Head,
    about: "For which systems to build; attributes of others are left out.",
    examples: [r#"["x86_64-linux"]"#, r#"["aarch64-linux", "aarch64-darwin"]"#],
    ..KEY
};

pub(super) const ALLOW_EVAL_FAILURES: Key = Key {
    name: "allow_eval_failures",
    alias: Some("allow-eval-failures"),
    shape: Shape::Flag,
    absent: Absent::Is("false"),
    from: From::Base,
    about: "May attributes fail to evaluate without making the check fail?",
    examples: ["true", "true"],
};

pub(super) const CACHES: Key = Key {
    name: "caches",
    shape: Shape::List { of: &Shape::Text(text::CACHE_ID), min: 0, max: 64, unique: true },
    absent: Absent::Is("[]"),
    from: From::Base,
    about: "Where to push what was built: ids of caches of the server's configuration. One that is not there, or may not be \
            pushed to, is skipped with a warning.",
    examples: [r#"["internal"]"#, r#"["internal", "public"]"#],
    ..KEY
};

pub(super) const PRIORITY: Key = Key {
    name: "priority",
    shape: Shape::Whole(-100, 100),
    absent: Absent::Is("0"),
    from: From::Base,
    about: "Higher goes first among the jobs of this repository.",
    examples: ["10", "-5"],
    ..KEY
};

pub(super) const POST_BUILD_HOOKS: Key = Key {
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

pub(super) const FOD_POST_BUILD_HOOKS: Key = Key {
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

pub(super) const ENABLED: Key = Key {
    name: "enabled",
    shape: Shape::Flag,
    absent: Absent::Is("true"),
    from: From::Base,
    about: "`false`: it stays in the file and is passed over.",
    examples: ["false", "false"],
    ..KEY
};

pub(super) static SIZE_CHECK: [Key; 2] = [
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

pub(super) static FLAKE: [Key; 2] = [
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

pub(super) static FLAKE_OUTPUT: [Key; 7] = [
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
