//! The keys of what runs beside builds: checks, and hooks behind a build.

use super::jobs::ENABLED;
use super::rules::CONDITIONS;
use super::{Absent, From, KEY, Key, Shape};
use crate::config::text;

pub(super) static CHECK: Shape = Shape::Keys(&[
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

pub(super) const HOOKS: Shape = Shape::List { of: &Shape::Keys(&HOOK), min: 0, max: 32, unique: false };

pub(super) static HOOK: [Key; 7] = [
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
