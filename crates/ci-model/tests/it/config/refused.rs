//! Configurations that are refused, and in which words.

use ci_model::config::{DEPTH_MAX, FINDINGS_MAX, parse};

/// What is said of a file, one finding a line.
pub(super) fn said(text: &str) -> String {
    parse(text.as_bytes()).expect_err(text).to_string()
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let text = r#"{
  "jobs": {
    "hello": { "fiel": "default.nix", "caches": "fast" },
    "b.c": { "file": "../x.nix", "priority": 1000 }
  },
  "change_set": [ { "paths": ["doc/**"], "effect": "doc-only" } ],
  "caches": []
}"#;
    assert_eq!(
        said(text),
        r#"3:16: jobs.hello.fiel: there is no such key; did you mean file?
3:49: jobs.hello.caches: a list is expected, not a text; write ["fast"]
4:22: jobs."b.c".file: ../x.nix leads out of where it is; write a file of the repository, from its root
4:46: jobs."b.c".priority: 1000 is not allowed here; write a whole number from -100 to 100
6:52: change_set[0].effect: doc-only is none of the words here; did you mean docs-only?
7:3: caches: there is no such key; it belongs to jobs.NAME.caches"#
    );
}

#[test]
fn what_is_no_json_is_told_with_a_remedy() {
    for (text, finding) in [
        ("", "1:1: the file ends where a value is expected; write the value"),
        ("{", "1:1: the file ends inside this object; close it with }"),
        ("{\"branches\": [", "1:15: the file ends where a value is expected; write the value"),
        ("{\"branches\": [\"a\"", "1:14: the file ends inside this list; close it with ]"),
        (
            "{} {}",
            "1:4: something follows behind the end; a file is one object: take away what is behind its closing }",
        ),
        ("{\n  // why\n}", "2:3: JSON has no comments; take it away; a key's name can say much"),
        ("{ /* why */ }", "1:3: JSON has no comments; take it away; a key's name can say much"),
        ("# why\n{}", "1:1: JSON has no comments; take it away; a key's name can say much"),
        ("{} // end", "1:4: JSON has no comments; take it away; a key's name can say much"),
        ("{\"jobs\": {},}", "1:12: nothing follows this comma; take the comma away"),
        ("{\"branches\": [\"a\",\n]}", "1:18: nothing follows this comma; take the comma away"),
        (
            "{\"branches\": [\"a\" \"b\"]}",
            "1:19: no comma stands before this; write one behind what is before it",
        ),
        ("{\"branches\": [1 2]}", "1:17: neither a comma nor an end; write a comma, or close with ]"),
        ("{\"jobs\" {}}", "1:9: no : follows the key jobs; write : and a value behind it"),
        ("{jobs: {}}", "1:2: a key is expected here; keys are in double quotes: \"file\": …"),
        ("{'jobs': {}}", "1:2: a key is expected here; keys are in double quotes: \"file\": …"),
        ("{\"branches\": ['a']}", "1:15: a text begins with '; texts are in double quotes: \""),
        ("{\"branches\": [main]}", "1:15: main is no value; write \"main\""),
        ("{\"jobs\": None}", "1:10: None is no value; write \"None\""),
        ("{\"jobs\": True}", "1:10: True is no value; write true"),
        ("{\"jobs\": NaN}", "1:10: NaN is no value; write a number"),
        (
            "{\"jobs\": ;}",
            "1:10: ';' stands where a value is expected; write a text, a number, true, false, a list or an object",
        ),
        ("{\"jobs\": 01}", "1:10: 01 is no number of JSON; leave the zeros in front out"),
        ("{\"jobs\": +1}", "1:10: +1 is no number of JSON; leave the + out"),
        ("{\"jobs\": .5}", "1:10: .5 is no number of JSON; write a 0 before the point"),
        ("{\"jobs\": 5.}", "1:10: 5. is no number of JSON; write a digit behind the point"),
        ("{\"jobs\": 1e}", "1:10: 1e is no number of JSON; write digits, or put a text in double quotes"),
        ("{\"jobs\": 1e999}", "1:10: 1e999 is too large; no number here is"),
        (
            "{\"jobs\": \"a\n\"}",
            "1:10: this text is not closed; close it with \" on the same line; a line break in it is written \\n",
        ),
        ("{\"a\tb\": 1}", "1:4: a text holds the control character 0x09; write \\u0009"),
        ("{\"a\\xb\": 1}", "1:4: \\x means nothing; a backslash is written \\\\"),
        ("{\"\\ud800\": 1}", "1:3: \\ud800 is half a character; write both halves, or the character itself"),
        (
            "{\"\\udc00\\ud800\": 1}",
            "1:3: \\udc00 is half a character; write both halves, or the character itself",
        ),
        (
            "{\"\\ud83d\\u0041\": 1}",
            "1:3: \\ud83d is half a character; write both halves, or the character itself",
        ),
        ("{\"\\u12\": 1}", "1:3: \\u without four hexadecimal digits; write \\u00fc for ü, or ü itself"),
        ("{\u{a0}}", "1:2: a key is expected here; keys are in double quotes: \"file\": …"),
    ] {
        assert!(said(text).lines().any(|line| line == finding), "{text}\n{}", said(text));
    }
    let error = parse(b"{\"\xc3\xbc\": \"\xff\"}").unwrap_err().to_string();
    assert_eq!(error, "1:8: this is no UTF-8; save the file as UTF-8");
}

#[test]
fn a_key_is_there_once() {
    assert_eq!(
        said("{\n \"jobs\": {},\n \"checks\": {},\n \"jobs\": {}\n}"),
        "4:2: the key jobs is there already, at 2:2; take one of the two away"
    );
    assert_eq!(
        said(r#"{"jobs": {"a": {"file": "x.nix"}, "\u0061": {"file": "x.nix"}}}"#),
        "1:35: the key a is there already, at 1:11; take one of the two away"
    );
    assert_eq!(
        said(
            r#"{"jobs": {"a": {"file": "x.nix", "allow-eval-failures": true, "allow_eval_failures": true}}}"#
        ),
        "1:63: jobs.a.allow_eval_failures: allow_eval_failures is the same key as allow-eval-failures, at 1:34; \
         take one of the two away"
    );
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(said(&nested(DEPTH_MAX)), "1:1: an object is expected, not a list; write an object");
    let deep = said(&nested(DEPTH_MAX + 1));
    assert!(deep.starts_with("1:33: more than 32 lists and objects are within each other"), "{deep}");
    // As deep as a file can be.
    let deep = said(&"[".repeat(ci_model::config::BYTES_MAX));
    assert!(deep.starts_with("1:33: more than 32"), "{deep}");
}

#[test]
fn findings_are_bounded_and_the_rest_is_counted() {
    let keys: Vec<String> = (0..250).map(|n| format!("\"strange{n}\": 1")).collect();
    let refused = parse(format!("{{{}}}", keys.join(",")).as_bytes()).unwrap_err();
    assert_eq!((refused.problems.len(), refused.more), (FINDINGS_MAX, 150));
    assert!(refused.to_string().ends_with("\nand at least 150 more"));
    let long = said(&format!("{{\"{}\": 1}}", "x\\u001b".repeat(10_000)));
    assert!(long.len() < 2000 && !long.contains('\u{1b}'), "{long}");
}

/// One key of one job, and what is said of it.
#[test]
fn values_that_cannot_be_meant() {
    let whole = "write a whole number from -100 to 100";
    for (key, finding) in [
        (
            r#""file": "../x.nix""#,
            "file: ../x.nix leads out of where it is; write a file of the repository, from its root",
        ),
        (
            r#""file": "/../x.nix""#,
            "file: /../x.nix leads out of where it is; write a file of the repository, from its root",
        ),
        (
            r#""file": "a/../../x.nix""#,
            "file: a/../../x.nix leads out of where it is; write a file of the repository, from its root",
        ),
        (
            r#""file": "//x.nix""#,
            "file: //x.nix names no file, or has an empty segment; write it as default.nix or pkgs/all.nix",
        ),
        (
            r#""file": ".""#,
            "file: . names no file, or has an empty segment; write it as default.nix or pkgs/all.nix",
        ),
        (
            r#""file": "a/""#,
            "file: a/ names no file, or has an empty segment; write it as default.nix or pkgs/all.nix",
        ),
        (r#""file": "-x.nix""#, "file: the file begins with -; begin with another character"),
        (r#""file": "./--option""#, "file: the file begins with -; begin with another character"),
        (r#""file": "a\u0000b""#, "file: the file has a control character; take it away"),
        (r#""file": "a\nb""#, "file: the file has a control character; take it away"),
        (r#""file": """#, "file: a file of the repository is expected, and the text is empty; write it"),
        (
            r#""file": "./flake.nix""#,
            "file: a flake is not evaluated as a file; write {\"flake\": {\"packages\": {\"enable\": true}}} instead of this job",
        ),
        (
            r#""file": ["x.nix"]"#,
            "file: a file of the repository is expected, not a list; write one text without the brackets",
        ),
        (
            r#""file": null"#,
            "file: a file of the repository is expected, not null; leave the key out, or write a value",
        ),
        (
            r#""attr_path": "a..b""#,
            "attr_path: \"a..b\" is no attribute path: a name is empty; quote it if it really is; write a.b or a.\"b.c\"",
        ),
        (r#""attr_path": "a\u0000""#, "attr_path: a NUL can be in no argument and no path; take it away"),
        (r#""systems": []"#, "systems: the list is empty; write something into it, or leave the key out"),
        (
            r#""systems": ["--option"]"#,
            "systems[0]: --option is no system; write one as Nix does: x86_64-linux",
        ),
        (r#""systems": ["a", "b", "a"]"#, "systems[2]: a is in the list twice; take one away"),
        (
            r#""allow_eval_failures": "true""#,
            "allow_eval_failures: true or false is expected, not a text; write true without the quotes",
        ),
        (
            r#""allow_eval_failures": 1"#,
            "allow_eval_failures: true or false is expected, not a number; write true or false",
        ),
        (
            r#""priority": "10""#,
            "priority: a whole number is expected, not a text; write 10 without the quotes",
        ),
        (r#""priority": 1.5"#, "priority: a whole number is expected, not a number; write a whole number"),
        (r#""priority": 101"#, &format!("priority: 101 is not allowed here; {whole}")),
        (
            r#""priority": 99999999999999999999"#,
            "priority: a whole number is expected, not a number; write a whole number",
        ),
        (r#""caches": ["-x"]"#, "caches[0]: the id of a cache begins with -; begin with another character"),
        (
            r#""size_check": {}"#,
            "size_check: the key max_increase_percent is missing; write \"max_increase_percent\": 10.0",
        ),
        (
            r#""size_check": {"max_increase_percent": -1}"#,
            "size_check.max_increase_percent: -1 is not allowed here; write a number from 0 to 1000000",
        ),
        (
            r#""size_check": {"max_increase_percent": 1, "base_branch": "refs/heads/main"}"#,
            "size_check.base_branch: a branch is written by its name alone; leave refs/heads/ out",
        ),
        (
            r#""size_check": {"max_increase_percent": 1, "base_branch": "a..b"}"#,
            "size_check.base_branch: a..b is no name git has for a branch; write the branch's name",
        ),
        (
            r#""nixFile": "x.nix""#,
            "nixFile: there is no such key; the keys here are file, attr_path, systems, allow_eval_failures, allow-eval-failures, caches, priority, size_check, post_build_hooks, fod_post_build_hooks, enabled",
        ),
        (
            r#""post_build_hooks": [{"name": "a/b", "command": ["x"]}]"#,
            "post_build_hooks[0].name: a/b cannot be a part of a file's name; write letters, digits, _, - and ., and begin with a letter, a digit or _",
        ),
        (
            r#""post_build_hooks": [{"name": "a", "command": "x y"}]"#,
            "post_build_hooks[0].command: a list is expected, not a text; write [\"x y\"]",
        ),
        (
            r#""post_build_hooks": [{"name": "a", "command": []}]"#,
            "post_build_hooks[0].command: the list is empty; write something into it, or leave the key out",
        ),
        (
            r#""post_build_hooks": [{"name": "a", "command": [""]}]"#,
            "post_build_hooks[0].command: the program has no name; write the program first",
        ),
        (
            r#""post_build_hooks": [{"name": "a", "command": ["x\u0000"]}]"#,
            "post_build_hooks[0].command[0]: a NUL can be in no argument and no path; take it away",
        ),
        (
            r#""post_build_hooks": [{"name": "a", "command": ["x"], "env": {"A=B": ""}}]"#,
            "post_build_hooks[0].env.\"A=B\": A=B is no name of a variable; write letters, digits and _, and no digit in front",
        ),
        (
            r#""post_build_hooks": [{"name": "a", "command": ["x"], "timeout_seconds": 0}]"#,
            "post_build_hooks[0].timeout_seconds: 0 is not allowed here; write a whole number from 1 to 86400",
        ),
        (
            r#""post_build_hooks": [{"name": "a", "command": ["x"], "conditions": {"event": ["pull_request"]}}]"#,
            "post_build_hooks[0].conditions.event[0]: pull_request is none of the words here; did you mean pull-request?",
        ),
        (
            r#""post_build_hooks": [{"name": "a", "command": ["x"], "conditions": {"branch": ["refs/heads/main"]}}]"#,
            "post_build_hooks[0].conditions.branch[0]: refs/heads/main begins with refs/, and branches are written by their name alone: it matches no branch; write main or release/*",
        ),
        (
            r#""post_build_hooks": [{"name": "a", "command": ["x"]}], "fod_post_build_hooks": [{"name": "a", "command": ["x"]}]"#,
            "fod_post_build_hooks[0].name: the hook a is there already, at",
        ),
        (
            r#""post_build_hooks": [{"name": "build", "command": ["x"], "after": ["biuld"]}]"#,
            "post_build_hooks[0].after[0]: no hook here is called biuld; did you mean build?",
        ),
        (
            r#""post_build_hooks": [{"name": "a", "command": ["x"], "after": ["a"]}]"#,
            "post_build_hooks[0].after: a waits for itself, or for hooks that wait for each other; take one of these names away",
        ),
    ] {
        let file = if key.contains("\"file\"") { "" } else { r#""file": "x.nix", "# };
        let text = format!(r#"{{"jobs": {{"app": {{{file}{key}}}}}}}"#);
        let refused = parse(text.as_bytes()).expect_err(&text);
        let first = refused.problems[0].to_string();
        let (_, first) = first.split_once(": jobs.app.").unwrap_or_else(|| panic!("{text}\n{first}"));
        let same = first == finding || (finding.ends_with(", at") && first.starts_with(finding));
        assert!(same, "{text}\nsaid:   {first}\nwanted: {finding}");
        assert_eq!(refused.problems.len(), 1, "{text}\n{refused}");
    }
}

#[test]
fn values_elsewhere_that_cannot_be_meant() {
    for (text, finding) in [
        (
            r#"{"jobs": {"": {"file": "x.nix"}}}"#,
            "1:11: jobs.\"\": the name of a job is expected, and the text is empty; write it",
        ),
        (
            r#"{"jobs": {"-j": {"file": "x.nix"}}}"#,
            "1:11: jobs.-j: the name of a job begins with -; begin with another character",
        ),
        (
            r#"{"jobs": {"flake.checks": {"file": "x.nix"}}}"#,
            "1:11: jobs.\"flake.checks\": flake.checks is what the job of the key flake.checks is called; choose another name",
        ),
        (r#"{"jobs": {"a": "x.nix"}}"#, "1:16: jobs.a: an object is expected, not a text; write an object"),
        (r#"[]"#, "1:1: an object is expected, not a list; write an object"),
        (
            r#"{"changeSummary": {}}"#,
            "1:2: changeSummary: there is no such key; the keys here are jobs, checks, flake, post_build_hooks, fod_post_build_hooks, change_set, branches, schedules, package_change_summary, rebuild_impact, $schema",
        ),
        (
            r#"{"flake": {"package": {"enable": true}}}"#,
            "1:12: flake.package: there is no such key; did you mean packages?",
        ),
        (
            r#"{"checks": {"a": {"shell": "x"}}}"#,
            "1:18: checks.a: the key command is missing; write \"command\": \"nixfmt --check **/*.nix\"",
        ),
        (
            r#"{"checks": {"a": {"command": "x", "ro_bind": ["etc"]}}}"#,
            "1:47: checks.a.ro_bind[0]: etc does not begin with /; write the whole path",
        ),
        (
            r#"{"checks": {"a": {"command": "x", "ro_bind": ["/etc/../root"]}}}"#,
            "1:47: checks.a.ro_bind[0]: /etc/../root has a segment that is empty, . or ..; write the path without detours",
        ),
        (
            r#"{"change_set": [{"paths": ["/doc"], "effect": "no-op"}]}"#,
            "1:28: change_set[0].paths[0]: /doc begins with / or ./; write it from the root of the repository: doc/**",
        ),
        (
            r#"{"change_set": [{"paths": ["doc/"], "effect": "no-op"}]}"#,
            "1:28: change_set[0].paths[0]: doc/ ends with /, and git has no folders; write /** for everything below",
        ),
        (
            r#"{"change_set": [{"paths": ["a**"], "effect": "no-op"}]}"#,
            "1:28: change_set[0].paths[0]: a** has ** within a segment; write ** between slashes, or * for one segment",
        ),
        (
            r#"{"change_set": [{"paths": ["{a,b}"], "effect": "no-op"}]}"#,
            "1:28: change_set[0].paths[0]: {a,b} has '{'; only *, ** and ? stand for others: write ? for this character, or several patterns",
        ),
        (
            r#"{"schedules": {"n": {"cron": "0 3 * *"}}}"#,
            "1:30: schedules.n.cron: 0 3 * * has not five fields; write minute, hour, day of the month, month and day of the week, as in \"30 3 * * 1-5\", or @hourly, @daily, @weekly, @monthly or @yearly",
        ),
        (
            r#"{"schedules": {"n": {"cron": "60 3 * * *"}}}"#,
            "1:30: schedules.n.cron: 60 is no minute; write 0 to 59, a range as 0-59, *, or steps as */2",
        ),
        (
            r#"{"schedules": {"n": {"cron": "0 0 30 2 *"}}}"#,
            "1:30: schedules.n.cron: none of these months has such a day; choose another day or month",
        ),
        (
            r#"{"jobs": {"night": {"file": "x.nix"}}, "schedules": {"n": {"cron": "@daily", "jobs": ["nihgt"]}}}"#,
            "1:87: schedules.n.jobs[0]: no job is called nihgt; did you mean night?",
        ),
    ] {
        assert_eq!(said(text), finding, "{text}");
    }
}

#[test]
fn what_is_wrong_with_hooks_of_every_job_is_told_once() {
    let text = r#"{
  "post_build_hooks": [
    { "name": "a", "command": ["x"], "after": ["own"] },
    { "name": "b", "command": ["x"], "after": ["c"] },
    { "name": "c", "command": ["x"], "after": ["b"] }
  ],
  "jobs": {
    "one": { "file": "x.nix", "post_build_hooks": [{ "name": "own", "command": ["x"], "after": ["c"] }] },
    "two": { "file": "x.nix", "fod_post_build_hooks": [{ "name": "a", "command": ["x"] }] }
  },
  "flake": { "checks": { "enable": true, "post_build_hooks": [{ "name": "d", "command": ["x"], "after": ["earlier"] }] } }
}"#;
    let circle = "waits for itself, or for hooks that wait for each other; take one of these names away";
    assert_eq!(
        said(text).lines().collect::<Vec<_>>(),
        [
            "3:48: post_build_hooks[0].after[0]: no hook here is called own; name a hook of the same job",
            &format!("4:47: post_build_hooks[1].after: b {circle}"),
            &format!("5:47: post_build_hooks[2].after: c {circle}"),
            &format!("8:96: jobs.one.post_build_hooks[0].after: own {circle}"),
            "9:66: jobs.two.fod_post_build_hooks[0].name: the hook a is there already, at 3:15; give one of the two \
             another name",
            "11:106: flake.checks.post_build_hooks[0].after[0]: no hook here is called earlier; name a hook of the same job",
        ]
    );
}
