//! The names at the top of `ekaci.toml`, and which program each belongs to. In and out: nothing but the lists.
//! Each program checks its own names fully and passes over the other's.

/// Sections that the queue daemon reads. `[security]` and `[[caches]]` are read by the server as well.
pub const QUEUE_NAMES: &[&str] = &["queue", "caches", "security"];

/// Sections and top-level keys that the CI server alone reads.
pub const SERVER_NAMES: &[&str] = &[
    // Sections.
    "web",
    "unix",
    "oauth",
    "github_apps",
    "gitea_instances",
    "gitlab_instances",
    "rebuild",
    "eval",
    "build",
    "builders",
    "trust",
    "hooks",
    // Keys before the first section.
    "db_path",
    "logs_dir",
    "socket_path",
    "require_approval",
    "merge_queue_require_approval",
    "build_no_output_timeout_seconds",
    "build_max_duration_seconds",
    "graph_lru_capacity",
    "default_merge_method",
];

/// Keys of `[security]` that the CI server alone reads.
pub const SECURITY_KEYS_OF_SERVER: &[&str] =
    &["max_hook_timeout_seconds", "audit_hooks", "webhook_secret", "allow_insecure_webhooks", "repo_hooks"];
