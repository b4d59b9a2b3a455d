//! Configurations that want to get somewhere: out of the checkout, into a command line, onto a terminal, or to the end of
//! the machine's memory.

use std::path::{Component, Path};
use std::time::Duration;

use ci_model::config::keys::{Key, ROOT, Shape};
use ci_model::config::{BYTES_MAX, JobFile, parse};
use proptest::prelude::*;
use serde_json::json;

/// Files that are never taken.
const NEVER: [&str; 44] = [
    "",
    ".",
    "..",
    "/",
    "//",
    "./",
    "../",
    "/..",
    "/.",
    "./.",
    "./..",
    "../x.nix",
    "/../x.nix",
    "./../x.nix",
    "a/../x.nix",
    "a/../../x.nix",
    "a/..",
    "a/.",
    "a/./x.nix",
    "a//x.nix",
    "//etc/passwd",
    ".//etc/passwd",
    "/./etc/passwd",
    "././x.nix",
    "x.nix/",
    "x.nix/..",
    "-",
    "-x.nix",
    "--option",
    "--expr",
    "/-x.nix",
    "./-x.nix",
    "./--option",
    "x\0.nix",
    "\0",
    "x.nix\n",
    "\nx.nix",
    "x\r\n.nix",
    "x\u{1b}[2J.nix",
    "x\u{7f}.nix",
    "x\u{85}.nix",
    "flake.nix",
    "/flake.nix",
    "sub/flake.nix",
];

/// Files that look worse than they are: names inside the checkout.
const TAKEN: [(&str, &str); 12] = [
    ("/etc/passwd", "etc/passwd"),
    ("..x.nix", "..x.nix"),
    ("x..nix", "x..nix"),
    (".../x.nix", ".../x.nix"),
    ("a/-x.nix", "a/-x.nix"),
    ("<nixpkgs>", "<nixpkgs>"),
    ("~/x.nix", "~/x.nix"),
    ("$HOME/x.nix", "$HOME/x.nix"),
    ("a b.nix", "a b.nix"),
    ("..\\x.nix", "..\\x.nix"),
    ("https:x.nix", "https:x.nix"),
    ("%2e%2e/x.nix", "%2e%2e/x.nix"),
];

/// Texts for every key that takes one.
const TEXTS: [&str; 16] = [
    "",
    "-",
    "--option",
    "-e",
    "../..",
    "/",
    "\0",
    "a\0b",
    "a\nb",
    "a\r",
    "\u{1b}[31mred",
    "\u{202e}gnp.exe",
    "\u{feff}",
    "$(id)",
    "`id`; id",
    "${IFS}",
];

fn with_file(file: &str) -> String {
    json!({ "jobs": { "app": { "file": file } } }).to_string()
}

#[test]
fn no_file_leads_out_of_the_checkout() {
    for file in NEVER {
        let refused = parse(with_file(file).as_bytes()).expect_err(file);
        assert!(refused.problems.iter().all(|problem| problem.key == "jobs.app.file"), "{file:?}: {refused}");
    }
    for (written, file) in TAKEN {
        let config =
            parse(with_file(written).as_bytes()).unwrap_or_else(|error| panic!("{written}: {error}")).config;
        assert_eq!(config.jobs.values().next().unwrap().file.as_str(), file);
    }
}

proptest! {
    #[test]
    fn whatever_file_is_taken_is_inside(file in "[./a~-]{0,12}|(\\.\\.?/){0,4}\\PC{0,8}|\\PC{0,20}|.{0,20}") {
        if let Ok(file) = file.parse::<JobFile>() {
            let path = Path::new(file.as_str());
            prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
            prop_assert!(path.components().count() == file.as_str().split('/').count());
            prop_assert!(!file.as_str().starts_with('-') && !file.as_str().contains(char::is_control));
            let again: JobFile = format!("./{file}").parse().unwrap();
            prop_assert_eq!(again, file);
        }
    }
}

/// Every key that takes a text, with the chain of keys that leads to it, gets every text.
#[test]
fn hostile_texts_are_refused_or_kept_as_they_are() {
    let (mut kept, mut refused) = (0, 0);
    for chain in texts(&ROOT, &[]) {
        for text in TEXTS {
            let document = document(&ROOT, &chain, text).to_string();
            match parse(document.as_bytes()) {
                Ok(parsed) => {
                    kept += 1;
                    assert!(!text.contains('\0'), "{document}");
                    let stored = serde_json::to_value(&parsed.config).unwrap().to_string();
                    // An attribute path may have to be quoted to be kept.
                    let quoted = text.parse::<nix_types::AttrPath>().map(|path| path.to_string());
                    let forms = [Some(text.to_owned()), quoted.ok()];
                    let same =
                        forms.into_iter().flatten().any(|form| stored.contains(&json!(form).to_string()));
                    assert!(same, "{document}\n{stored}");
                    shown(&parsed.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
                }
                Err(error) => {
                    refused += 1;
                    shown(&error.to_string());
                }
            }
        }
    }
    assert!(kept > 50 && refused > 200, "{kept} kept, {refused} refused");
}

/// Nothing that steers a terminal, or turns the direction of writing.
fn shown(said: &str) {
    let steers = |c: char| {
        (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!said.contains(steers), "{said:?}");
}

fn texts(shape: &'static Shape, chain: &[&'static Key]) -> Vec<Vec<&'static Key>> {
    match shape {
        Shape::Keys(keys) => {
            keys.iter().flat_map(|key| texts(&key.shape, &[chain, &[key]].concat())).collect()
        }
        Shape::Named { each, .. } => texts(each, chain),
        Shape::List { of, .. } => texts(of, chain),
        Shape::Text(_) | Shape::Word(_) => vec![chain.to_vec()],
        Shape::Flag | Shape::Whole(..) | Shape::Decimal(..) => Vec::new(),
    }
}

fn document(shape: &Shape, chain: &[&Key], text: &str) -> serde_json::Value {
    match (shape, chain) {
        (Shape::Named { each, .. }, _) => json!({ "A": document(each, chain, text) }),
        (Shape::List { of, .. }, _) => json!([document(of, chain, text)]),
        (Shape::Keys(keys), [key, rest @ ..]) => {
            let required = keys.iter().filter(|key| key.absent == ci_model::config::keys::Absent::Refused);
            let mut object: serde_json::Map<_, _> = required
                .map(|key| (key.name.to_owned(), serde_json::from_str(key.examples[0]).unwrap()))
                .collect();
            object.insert(key.name.to_owned(), document(&key.shape, rest, text));
            object.into()
        }
        _ => json!(text),
    }
}

/// As much as a file can hold of each.
#[test]
fn large_files_are_told_of_in_time() {
    let fill = |head: &str, part: &dyn Fn(usize) -> String, tail: &str| {
        let mut text = head.to_owned();
        for number in 0.. {
            let next = part(number);
            if text.len() + next.len() + tail.len() > BYTES_MAX {
                break;
            }
            text.push_str(&next);
        }
        text + tail
    };
    let job = |n: usize| format!("\"j{n}\":{{\"file\":\"x\"}},");
    let hook = |n: usize| format!("{{\"name\":\"h{n}\",\"command\":[\"x\"],\"after\":[\"h{}\"]}},", n + 1);
    let small_hook = |n: usize| {
        format!("\"j{n}\":{{\"file\":\"x\",\"post_build_hooks\":[{{\"name\":\"a\",\"command\":[\"x\"]}}]}},")
    };
    let of_all = (0..31).map(hook).collect::<String>() + "{\"name\":\"h31\",\"command\":[\"x\"]}";
    let begin = test_kit::cpu::time();
    for text in [
        fill("{\"jobs\":{", &job, "\"j\":{\"file\":\"x\"}}}"),
        fill("{\"post_build_hooks\":[", &hook, "{\"name\":\"h\",\"command\":[\"x\"]}]}"),
        fill(
            &format!("{{\"post_build_hooks\":[{of_all}],\"jobs\":{{"),
            &small_hook,
            "\"j\":{\"file\":\"x\"}}}",
        ),
        fill("{", &|n| format!("\"{n}\":0,"), "\"n\":0}"),
        fill("{", &|_| "\"jobs\":0,".to_owned(), "\"jobs\":0}"),
        fill(
            "{\"jobs\":{\"a\":{",
            &|_| "\"file\":\"x\",\"allow-eval-failures\":true,".to_owned(),
            "\"file\":\"x\"}}}",
        ),
        fill("{\"branches\":[", &|_| "\"*\",".to_owned(), "\"*\"]}"),
        fill("{\"branches\":[\"", &|_| "*".to_owned(), "\"]}"),
        fill("{\"change_set\":[{\"effect\":\"no-op\",\"paths\":[\"", &|_| "**/".to_owned(), "a\"]}]}"),
        fill("{\"schedules\":{\"a\":{\"cron\":\"", &|_| "*,".to_owned(), "* * * * *\"}}}"),
        fill("{\"jobs\":{\"a\":{\"file\":\"x\",\"attr_path\":\"", &|_| "a.".to_owned(), "a\"}}}"),
        fill("{\"jobs\":{\"", &|_| "\\u0061".to_owned(), "\":{}}}"),
        fill("[", &|_| "[".to_owned(), ""),
        fill("{\"a\":", &|_| "{\"a\":".to_owned(), ""),
        fill("", &|_| "/* */".to_owned(), "{}"),
        fill("", &|_| "//\n".to_owned(), "{}"),
        fill("{\"a\":", &|_| "9".to_owned(), "}"),
        fill("{\"a\":0.", &|_| "0".to_owned(), "1}"),
        fill("\"", &|_| "\\ud800".to_owned(), "\""),
        fill("{", &|_| "\n".to_owned(), "\"a\":0}"),
    ] {
        match parse(text.as_bytes()) {
            Ok(parsed) => shown(&format!("{:?}", parsed.warnings)),
            Err(error) => shown(&error.to_string()),
        }
    }
    let took = test_kit::cpu::time() - begin;
    assert!(took < Duration::from_secs(20), "{took:?}");
}
