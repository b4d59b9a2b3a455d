//! Whole files: the shapes that documented configurations have must parse, and a bad file must be refused with
//! everything that is wrong with it.

use std::path::Path;

use service_kit::config::{
    Document, FILE_BYTES_MAX, FINDINGS_MAX, QUEUE_NAMES, SECURITY_KEYS_OF_SERVER, SERVER_NAMES, TextOrTable,
};

fn parse(text: &str) -> Document {
    Document::parse(Path::new("ekaci.toml"), text).unwrap_or_else(|report| panic!("{report}"))
}

/// The shapes of the server's documented full example: five top-level keys after `[web]`, inline tables over
/// several lines with and without a space before the last brace, comments between.
const FULL: &str = r#"
# The web server
[web]
address = "127.0.0.1"
port = 3031

db_path  = "/srv/ci/state.db"
logs_dir = "/srv/ci/logs"
build_no_output_timeout_seconds = 600   # ten minutes
graph_lru_capacity              = 50000
require_approval                = true

[oauth]
client_id     = "an-id"
redirect_url  = "https://ci.example.org/github/auth/callback"

[security]
max_hook_timeout_seconds = 120
audit_hooks              = false

[[github_apps]]
id = "first"
credentials = { vault = {
    address     = "https://vault.example.org:8200",
    secret_path = "ci/app",
    token_env   = "VAULT_TOKEN"
} }

[github_apps.permissions]
allow_all     = false
allowed_repos = ["team/*"]

[[caches]]
id           = "bucket"
cache_type   = "nix-copy"
destination  = "s3://bucket/path"
credentials  = { aws-secrets-manager = {
    secret_name = "ci/bucket",
    region      = "eu-central-1"  # optional
} }

[caches.permissions]
allow_all       = false
allowed_repos   = ["team/release-*"]
allowed_branches = [
    "main",     # exact
    "v/*",
]
"#;

#[test]
fn the_queue_reads_its_part_of_a_full_file_and_passes_over_the_rest() {
    let doc = parse(FULL);
    let security = doc.section("security");
    security.pass_over(SECURITY_KEYS_OF_SERVER);
    security.finish();
    let queue = doc.section("queue");
    assert!(!queue.is_present());
    queue.finish();
    let mut caches = doc.array("caches");
    let cache = caches.remove(0);
    assert_eq!(cache.line(), Some(33));
    assert_eq!(cache.string("id").unwrap().value, "bucket");
    for key in ["cache_type", "destination"] {
        assert!(cache.string(key).is_some());
    }
    let Some(TextOrTable::Table(credentials)) = cache.text_or_table("credentials") else { panic!("a table") };
    let variant = credentials.rest().remove(0);
    assert_eq!((variant.value.as_str(), variant.line), ("aws-secrets-manager", 37));
    let secret = credentials.table(&variant.value).unwrap();
    assert_eq!(secret.string("region").unwrap().line, 39);
    secret.string("secret_name");
    secret.finish();
    credentials.finish();
    let permissions = cache.table("permissions").unwrap();
    assert!(!permissions.bool("allow_all").unwrap().value);
    permissions.strings("allowed_repos");
    let branches = permissions.strings("allowed_branches").unwrap().value;
    assert_eq!(
        branches.iter().map(|b| (b.value.as_str(), b.line)).collect::<Vec<_>>(),
        [("main", 46), ("v/*", 47)]
    );
    permissions.finish();
    cache.finish();
    assert_eq!(doc.finish(QUEUE_NAMES, SERVER_NAMES).unwrap(), []);
}

/// One small file for each further shape in which documented blocks are printed.
const SHAPES: &[&str] = &[
    "[[github_apps]]\nid = \"m\"\ncredentials = { file = { path = \"/etc/app.json\" } }\n",
    "[[github_apps]]\nid = \"m\"\n\n[github_apps.credentials.vault]\naddress = \"https://v\"\nnamespace = \"n\"  # optional\n",
    "[[caches]]\nid = \"c\"\n[caches.credentials]\nvault = {\n    address = \"https://v\",\n    namespace = \"n\"          # optional\n}\n",
    "[[caches]]\nid = \"c\"\n[caches.credentials]\ninstance-metadata = {}\n",
    "[[caches]]\nid = \"c\"\ncredentials = { none = {} }  # public\npermissions = { allow_all = true }\n",
    "[[caches]]\nid = \"c\"\ncredentials = { vault = {\naddress = \"https://v:8200\",\ntoken_env = \"T\"\n}}\n[caches.permissions]\nallow_all = false\n",
    "[[caches]]\nid = \"a\"\n[caches.permissions]\nallow_all = true\n[[caches]]\nid = \"b\"\ncredentials = { env = { vars = [\"A\", \"B\"] } }\n",
    "[rebuild]\nmax_rebuild_count = 20000\nskip_paths = [\"doc/**\", \"**/CHANGELOG.md\"]\n",
    "[queue]\nsigning_key_files = [\n  \"/etc/k1\",\n  \"/etc/k2\", # trailing comma\n]\n\n[[caches]]\nid = \"n\"\ncommand = [\"/bin/announce\"]\n",
];

#[test]
fn every_documented_shape_parses() {
    for shape in SHAPES {
        let doc = parse(shape);
        let all: Vec<&str> = QUEUE_NAMES.iter().chain(SERVER_NAMES).copied().collect();
        assert_eq!(doc.finish(&[], &all).unwrap(), [], "{shape}");
    }
}

#[test]
fn syntax_errors_come_with_their_lines_and_all_at_once() {
    let text = "[queue]\nsocket = /run/x\nfine = 1\n\nother = = 2\n";
    let report = Document::parse(Path::new("/etc/ekaci/ekaci.toml"), text).unwrap_err();
    let shown = report.to_string();
    let lines: Vec<Option<u32>> = report.problems.iter().map(|p| p.line).collect();
    assert_eq!(lines.first(), Some(&Some(2)), "{shown}");
    assert_eq!(lines.last(), Some(&Some(5)), "{shown}");
    assert!(shown.starts_with("/etc/ekaci/ekaci.toml:2: not valid TOML: "), "{shown}");
    assert_eq!(shown.lines().count(), report.problems.len(), "{shown}");
}

#[test]
fn a_key_given_twice_is_refused() {
    let report = Document::parse(Path::new("f"), "[queue]\na = 1\na = 2\n").unwrap_err();
    assert_eq!(report.problems[0].line, Some(3), "{report}");
}

#[test]
fn unknown_sections_and_keys_name_the_nearest() {
    let text = "scoket_path = \"/x\"\n[qeue]\n[[cache]]\nid = \"x\"\n[nonsense]\n[web]\nport = 1\n";
    let report = parse(text).finish(QUEUE_NAMES, SERVER_NAMES).unwrap_err();
    assert_eq!(
        report.to_string(),
        "ekaci.toml:1: scoket_path: unknown key at the top of the file; did you mean socket_path?\n\
         ekaci.toml:2: [qeue]: unknown section; did you mean queue?\n\
         ekaci.toml:3: [[cache]]: unknown section; did you mean caches?\n\
         ekaci.toml:5: [nonsense]: unknown section; remove it"
    );
}

#[test]
fn a_table_where_an_array_belongs_is_refused_and_the_reverse() {
    let doc = parse("caches = [1]\n[[queue]]\nx = 1\n");
    assert!(doc.array("caches").is_empty());
    doc.section("queue").finish();
    let report = doc.finish(QUEUE_NAMES, SERVER_NAMES).unwrap_err();
    assert_eq!(
        report.to_string(),
        "ekaci.toml:1: [[caches]]: must be a table, found an integer; write [[caches]]\n\
         ekaci.toml:2: [queue]: must be a table, found an array; write [queue]"
    );
    let doc = parse("[caches]\nid = \"x\"\n");
    assert!(doc.array("caches").is_empty());
    let text = doc.finish(QUEUE_NAMES, SERVER_NAMES).unwrap_err().to_string();
    let expected = "ekaci.toml:1: [[caches]]: must be an array of tables, found a table; write [[caches]], with two brackets";
    assert_eq!(text, expected);
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ekaci.toml");
    let refused = || Document::load(&file).unwrap_err().to_string();
    assert!(refused().contains("cannot be read: No such file"), "{}", refused());
    std::fs::write(&file, b"a = \"\xff\"").unwrap();
    assert!(refused().ends_with("is not UTF-8 at byte 5; save it as UTF-8"), "{}", refused());
    std::fs::write(&file, vec![b'#'; usize::try_from(FILE_BYTES_MAX).unwrap() + 1]).unwrap();
    assert!(refused().contains("is larger than 131072 bytes"), "{}", refused());
    std::fs::write(&file, "[queue]\n").unwrap();
    assert!(Document::load(&file).is_ok());
}

#[test]
fn what_is_wrong_in_too_many_places_is_counted() {
    for (text, first) in [
        ((0..150).map(|n| format!("k{n:03} = 1\n")).collect::<String>(), "k000: unknown key"),
        ("= 1\n".repeat(150), "not valid TOML"),
        (format!("[queue]\nlist = [{}]\n", "1,".repeat(150)), "[queue] list: must be strings only"),
        ((0..150).map(|n| format!("[queue.k{n:03}]\n")).collect::<String>(), "[queue] k000: unknown key"),
    ] {
        let report = Document::parse(Path::new("f"), &text).and_then(|doc| {
            let queue = doc.section("queue");
            assert!(queue.strings("list").is_none());
            queue.finish();
            doc.finish(&["queue"], &[])
        });
        let report = report.unwrap_err();
        assert_eq!(report.problems.len(), FINDINGS_MAX + 1, "{text}");
        let (shown, last) = (report.to_string(), report.problems.last().unwrap());
        assert!(shown.lines().next().unwrap().contains(first), "{shown}");
        let more = last.what.strip_suffix(" more problems are not listed").unwrap();
        assert!(more.parse::<usize>().unwrap() >= 50, "{more}");
    }
}

#[test]
fn deep_nesting_is_refused_and_harms_nobody() {
    let brackets = format!("a = {}{}", "[".repeat(30_000), "]".repeat(30_000));
    let braces = format!("a = {}", "{a=".repeat(30_000));
    let dots = format!("{}a = 1", "a.".repeat(30_000));
    let header = format!("[{}a]", "a.".repeat(30_000));
    for text in [brackets, braces, dots, header] {
        assert!(Document::parse(Path::new("f"), &text).is_err(), "{}", &text[..20]);
    }
}

#[test]
#[should_panic(expected = "every configuration section is finished")]
fn a_section_that_is_not_finished_is_our_mistake() {
    let doc = parse("[queue]\n");
    let _section = doc.section("queue");
    let _ = doc.finish(QUEUE_NAMES, SERVER_NAMES); // panics
}

#[test]
#[should_panic(expected = "takes every section it knows, security")]
fn a_known_section_that_is_not_taken_is_our_mistake() {
    let _ = parse("[security]\n").finish(QUEUE_NAMES, SERVER_NAMES); // panics
}
