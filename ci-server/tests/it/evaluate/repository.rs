//! A generated repository with every way in which an attribute can end, and what is to be said of each.

use ci_model::attr::ErrorKind;

use super::support::{LIB, World};

/// What an attribute is to become.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// A job.
    Job,
    /// An error of this kind, with one of these in its message: releases of Nix differ.
    Error(ErrorKind, &'static str),
    /// Nothing to build.
    Nothing,
    /// A job for another system.
    OtherSystem,
}

/// Names as they are shown, and what becomes of them.
pub(crate) struct Repository {
    pub(crate) expected: Vec<(String, Expected)>,
}

use Expected::{Error, Job, Nothing, OtherSystem};

/// Expressions that are no plain jobs, how often each comes, and what becomes of it. `@` is its number.
const KINDS: &[(&str, usize, &str, Expected)] = &[
    ("throws", 20, r#"throw "number @ says no""#, Error(ErrorKind::Thrown, "says no")),
    ("asserts", 10, r#"assert 1 == 2; good "a@""#, Error(ErrorKind::Thrown, "assertion")),
    ("late", 5, r#"good "late@" // { drvPath = throw "too late"; }"#, Error(ErrorKind::Thrown, "too late")),
    (
        "aborts",
        3,
        r#"abort "gives up @""#,
        Error(ErrorKind::Fatal, "evaluation aborted with the following error message: 'gives up"),
    ),
    ("missing", 3, "{ }.gone@", Error(ErrorKind::Fatal, "missing")),
    ("types", 3, r#"1 + "a@""#, Error(ErrorKind::Fatal, "cannot add a string to an integer")),
    ("recursion", 2, "let x = x; in x", Error(ErrorKind::Fatal, "infinite recursion")),
    ("undefined", 2, "import ./undefined.nix", Error(ErrorKind::Fatal, "undefined variable")),
    ("syntax", 1, "import ./syntax.nix", Error(ErrorKind::Fatal, "syntax error")),
    ("absent", 1, "import ./absent.nix", Error(ErrorKind::Fatal, "No such file|does not exist")),
    (
        "argument",
        2,
        r#"(({ needed }: good needed) { })"#,
        Error(ErrorKind::Fatal, "without required argument 'needed'"),
    ),
    (
        "content",
        2,
        r#"drv "content@" { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; }"#,
        Error(ErrorKind::Fatal, "experimental Nix feature 'ca-derivations' is disabled"),
    ),
    ("stack", 2, "let f = x: 1 + f (x + 1); in f @", Error(ErrorKind::StackOverflow, "stack overflow")),
    ("hog", 2, "builtins.length (builtins.genList (x: x) 200000000)", Error(ErrorKind::OutOfMemory, "")),
    (
        "grows",
        1,
        "builtins.foldl' (all: x: all ++ [ (builtins.toString x) all ]) [ ] (builtins.genList (x: x) 1000000)",
        Error(ErrorKind::OutOfMemory, ""),
    ),
    (
        "endless",
        1,
        r#"builtins.foldl' (text: x: builtins.seq text (builtins.hashString "sha256" big)) "" (builtins.genList (x: x) 1000000)"#,
        Error(ErrorKind::TimedOut, ""),
    ),
    (
        "ifd",
        2,
        r#"import (drv "ifd@" { }).outPath"#,
        Error(ErrorKind::Forbidden, "allow-import-from-derivation"),
    ),
    (
        "fake",
        2,
        r#"{ type = "derivation"; name = "fake"; system = "x86_64-linux"; drvPath = "/etc/passwd"; outPath = "/"; }"#,
        Error(ErrorKind::Garbage, "drvPath"),
    ),
    ("nameless", 2, r#"good "n@" // { name = 5; }"#, Error(ErrorKind::Thrown, "a string is expected")),
    (
        "chatty",
        2,
        r#"builtins.trace "@0123456789abcdef x 0 \ntrace: @ x 3 \nerror: none" (good "chatty@")"#,
        Job,
    ),
    ("meta-throws", 5, r#"good "meta@" // { meta = throw "no meta"; }"#, Job),
    ("meta-fatal", 2, r#"good "meta-fatal@" // { meta.description = { }.gone; }"#, Job),
    ("number", 20, "@", Nothing),
    ("plain-set", 20, r#"{ inner = good "inner@"; bad = throw "never seen"; }"#, Nothing),
    ("function", 5, "x: x", Nothing),
    ("callable", 5, r#"{ x ? "callable@" }: good x"#, Job),
    ("null", 5, "null", Nothing),
    ("other", 10, r#"drv "other@" { system = "aarch64-linux"; }"#, OtherSystem),
];

/// Names that are not easily named, as Nix and as we write them.
const ODD: &[&str] = &[
    r#""a.b""#,
    r#""""#,
    r#"" ""#,
    r#""a\nb""#,
    r#""a\"b""#,
    r#""a\\b""#,
    r#""ü€𝄞""#,
    r#""--option""#,
    r#""\r\t""#,
];

impl Repository {
    /// Writes it: so many attributes at its root.
    pub(crate) fn write(world: &World, size: usize) -> Self {
        world.write("undefined.nix", "nowhere");
        world.write("syntax.nix", "{ a = ; }");
        let (mut text, mut expected) = (String::new(), Vec::new());
        let mut add = |name: String, body: &str, what: Expected| {
            text.push_str(&format!("  {name} = {body};\n"));
            expected.push((name, what));
        };
        for (name, count, body, what) in KINDS {
            for number in 0..*count {
                add(format!("{name}-{number}"), &body.replace('@', &number.to_string()), what.clone());
            }
        }
        for (number, name) in ODD.iter().enumerate() {
            add((*name).to_owned(), &format!("good \"odd{number}\""), Job);
        }
        let length = "n".repeat(5000);
        add(length, "good \"long\"", Nothing);
        add("cycle".into(), "let x = { recurseForDerivations = true; inherit x; }; in x", Nothing);
        add(
            "nested".into(),
            r#"{ recurseForDerivations = true; a = good "nested-a"; b = throw "nested no"; c = abort "nested end"; d = good "nested-d"; }"#,
            Nothing,
        );
        let mut number = 0;
        while expected_len(&text) < size {
            // Names that lie among all the others.
            text.push_str(&format!("  \"{}\" = good \"plain{number}\";\n", plain_name(number)));
            number += 1;
        }
        expected.extend((0..number).map(|number| (plain_name(number), Job)));
        world.write("default.nix", &format!("let {LIB}\n  good = name: drv name {{ }};\n  big = builtins.concatStringsSep \"\" (builtins.genList (x: \"0123456789\") 100000);\nin {{\n{text}}}\n"));
        expected.retain(|(name, _)| name.len() < 5000 && name != "cycle" && name != "nested");
        Self { expected }
    }
}

fn expected_len(text: &str) -> usize {
    text.lines().count()
}

fn plain_name(number: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(number % 26).unwrap());
    format!("{letter}-plain-{number}")
}
