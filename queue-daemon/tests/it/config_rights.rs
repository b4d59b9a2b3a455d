//! What operators are told about who may push where, before anything is started with it: `permissions` as it is
//! documented, what it cannot mean, and what it should not.

use std::fmt::Write as _;
use std::path::Path;

use ci_model::Permissions;
use eka_queue::config::{Accept, CacheConfig, Config};

use crate::config::{CACHE, cache_lines, check};

fn load(lines: &str) -> (CacheConfig, usize) {
    let config = Config::parse(Path::new("ekaci.toml"), &format!("{CACHE}{lines}\n")).unwrap();
    let [cache] = &config.caches[..] else { panic!("{:?}", config.caches) };
    (cache.clone(), config.warnings.len())
}

/// Each block as it is printed in the documentation.
#[test]
fn every_documented_form_loads_and_means_what_it_says() {
    let open = [
        "",
        "[caches.permissions]\nallow_all = true  # Any repository can use this cache",
        "permissions = { allow_all = true }",
    ];
    for lines in open {
        let (cache, warnings) = load(lines);
        assert_eq!((cache.rights.permissions, warnings), (Permissions::Everything, 0), "{lines}");
        assert_eq!(cache.accept, Accept { hook: true, ci: true }, "{lines}");
    }
    // Lists, the number of entries of each, and warnings.
    let restricted = [
        (
            "allow_all = false\nallowed_repos = [\"myorg/*\"]\nallowed_branches = [\"main\", \"release/*\"]",
            1,
            2,
            0,
        ),
        ("allow_all     = false\nallowed_repos = [\"myorg/*\"]", 1, 0, 0),
        (
            "allow_all       = false\nallowed_repos   = [\"myorg/production-*\"]\nallowed_branches = [\"main\"]",
            1,
            1,
            0,
        ),
        (
            "allow_all = false\nallowed_repos = [\n    \"myorg/repo1\",\n    \"myorg/repo2\",\n    \
             \"anotherorg/special-repo\"\n]",
            3,
            0,
            0,
        ),
        (
            "allow_all = false\nallowed_repos = [\"myorg/myrepo\"]\nallowed_branches = [\n    \
             \"main\",           # Exact match\n    \"release/*\",      # Prefix wildcard\n    \
             \"*\"               # Match all branches (if repo is allowed)\n]",
            1,
            3,
            1,
        ),
        (
            "allow_all = false\nallowed_repos = [\"company/backend\", \"company/frontend\"]\n\
             allowed_branches = [\"main\", \"release/*\"]",
            2,
            2,
            0,
        ),
        (
            "allow_all = false\nallowed_repos = [\"company/*\"]\nallowed_branches = [\"develop\", \"feature/*\", \"main\"]",
            1,
            3,
            0,
        ),
        ("allowed_repos = [\"myorg/prod-*\"]", 1, 0, 0),
        ("allow_all = false\nallowed_repos = [\"myorg/myrepo\", \"myorg/*\"]", 2, 0, 0),
    ];
    let inline = ("permissions = { allow_all = false, allowed_repos = [\"company/*\"] }".to_owned(), 1, 0, 0);
    let tables = restricted.map(|(lines, repos, branches, warnings)| {
        (format!("[caches.permissions]\n{lines}"), repos, branches, warnings)
    });
    for (lines, repos, of_branches, warned) in tables.into_iter().chain([inline]) {
        let (cache, warnings) = load(&lines);
        let Permissions::Listed { repositories, branches } = cache.rights.permissions else {
            panic!("{lines}");
        };
        assert_eq!((repositories.len(), branches.len(), warnings), (repos, of_branches, warned), "{lines}");
        assert_eq!(cache.accept, Accept { hook: false, ci: true }, "{lines}");
    }
}

#[test]
fn what_is_written_counts_and_defaults_follow_it() {
    let explicit = load("accept = [ \"hook\" ]\npermissions = { allowed_repos = [ \"a/b\" ] }");
    assert_eq!(explicit.0.accept, Accept { hook: true, ci: false });
    let (cache, _) = load("allow_untrusted = true\nallow_pull_requests = true");
    assert!(cache.rights.allow_untrusted && cache.rights.allow_pull_requests);
    let (cache, _) = load("permissions = { allow_all = false }");
    assert_eq!((cache.rights.permissions, cache.accept.hook), (Permissions::Nothing, false));
    let (cache, _) = load("permissions = { allow_all = true, allowed_repos = [ \"a/b\" ] }");
    assert_eq!((cache.rights.permissions, cache.accept.hook), (Permissions::Everything, true));
}

#[test]
fn permissions_that_cannot_be_meant() {
    let long = format!("permissions = {{ allowed_branches = [ \"{}\" ] }}", "a".repeat(257));
    insta::assert_snapshot!(cache_lines(&[
        "permissions = \"all\"",
        "permissions = { allow = true }",
        "permissions = { allow_all = \"yes\" }",
        "permissions = { allowed_repos = \"myorg/*\" }",
        "permissions = { allowed_repos = [ \"\" ] }",
        &long,
        "allow_untrusted = \"no\"",
        "allow_pull_requests = 1",
    ]));
    let many = format!("permissions = {{ allowed_repos = [ {} ] }}\n", "\"a/b\",".repeat(1001));
    let said = check(format!("{CACHE}{many}"), &[]);
    assert!(said.code == 1 && said.out.contains("has more than 1000 patterns"), "{said:?}");
}

#[test]
fn what_is_unsafe_or_without_effect_is_warned_of() {
    let http = |text: &str| CACHE.replace("file:///srv/cache", text);
    let token = "credentials = { env = { vars = [ \"PATH\" ] } }\n";
    let signed = "[queue]\nsigning_key_files = [ \"/k\" ]\n";
    let branches = "permissions = { allowed_branches = [ \"main\" ] }\n";
    let files = [
        format!("{CACHE}permissions = {{ allow_all = true, allowed_repos = [ \"myorg/*\" ] }}\n"),
        format!("{CACHE}permissions = {{ allow_all = false }}\n"),
        format!("{CACHE}permissions = {{ allowed_repos = [] }}\n"),
        format!("{CACHE}accept = [ \"hook\", \"ci\" ]\n{branches}"),
        format!("{CACHE}permissions = {{ allowed_branches = [ \"*\" ] }}\n"),
        format!(
            "{CACHE}[caches.permissions]\nallowed_repos = [ \"myrepo\", \"/myorg/a\", \"myorg/\", \"a//b\", \"a/b?\" ]\n\
             allowed_branches = [ \"refs/heads/main\", \"../x\" ]\n"
        ),
        format!("{signed}{CACHE}allow_untrusted = true\n"),
        format!("{}allow_untrusted = true\n", http("file:///srv/cache?secret-key=/k")),
        format!("{CACHE}allow_untrusted = true\n{branches}"),
        format!("{}{token}", http("http://cache.example.org/a")),
        http("http://ann:word@cache.example.org/a"),
    ];
    let mut page = String::new();
    for text in &files {
        let said = check(text, &["--file-only"]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{text}\n{said:?}");
        assert!(said.out.contains("warning: "), "{text}");
        for (number, line) in (1..).zip(text.lines()) {
            writeln!(page, "{number:>3} | {line}").unwrap();
        }
        writeln!(page, "{}", said.out).unwrap();
    }
    insta::assert_snapshot!(page);

    let fine = [
        format!("{CACHE}allow_untrusted = true\n"),
        format!("{CACHE}accept = [ \"ci\" ]\n{branches}allow_pull_requests = true\n"),
        format!("[security]\nallow_private_cache_hosts = true\n{}{token}", http("http://127.0.0.1:8080/a")),
        format!("{}{token}", http("https://cache.example.org/a")),
        http("http://cache.example.org/a"),
        format!("{}credentials = \"none\"\n", http("http://cache.example.org/a")),
    ];
    for text in fine {
        let said = check(&text, &["--file-only"]);
        assert_eq!((said.code, said.out.as_str()), (0, "ekaci.toml: good\n"), "{text}");
    }
}
