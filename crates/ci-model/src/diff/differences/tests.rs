//! Two derivations come in that differ in little; each difference that is told of them is compared with the one that was made.

use super::*;

fn path(letter: char, name: &str) -> StorePath {
    StorePath::parse_str(&format!("/nix/store/{}-{name}", letter.to_string().repeat(32))).unwrap()
}

fn drv(env: &[(&str, &str)]) -> Derivation {
    let output = Output { path: Some(path('0', "x-1")), ..Output::default() };
    Derivation {
        outputs: [("out".to_owned(), output)].into(),
        system: "x86_64-linux".into(),
        builder: b"/bin/sh".to_vec(),
        args: vec![b"-e".to_vec()],
        env: env.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect(),
        ..Derivation::default()
    }
}

fn env(name: &str, from: Option<&str>, to: Option<&str>) -> Difference {
    Difference::Env { name: name.into(), from: from.map(Into::into), to: to.map(Into::into) }
}

fn compared(before: &Derivation, after: &Derivation) -> Vec<Difference> {
    own(before, after, &[], Unmatched::default())
}

#[test]
fn each_part_is_compared() {
    let before = drv(&[("a", "1"), ("b", "2")]);
    assert_eq!(compared(&before, &before), []);
    let after = drv(&[("a", "3"), ("c", "4")]);
    assert_eq!(
        compared(&before, &after),
        [env("a", Some("1"), Some("3")), env("b", Some("2"), None), env("c", None, Some("4"))]
    );
    let change = |change: fn(&mut Derivation)| {
        let mut after = before.clone();
        change(&mut after);
        compared(&before, &after)
    };
    assert_eq!(change(|drv| drv.builder = b"/bin/bash".to_vec()), [Difference::Builder]);
    assert_eq!(change(|drv| drv.args.push(b"x".to_vec())), [Difference::Args]);
    assert_eq!(change(|drv| drv.args[0] = b"-x".to_vec()), [Difference::Args]);
    let system = |text: &str| text.parse().unwrap();
    assert_eq!(
        change(|drv| drv.system = "aarch64-linux".into()),
        [Difference::System { from: system("x86_64-linux"), to: system("aarch64-linux") }]
    );
    let dev = || Output { path: Some(path('9', "x-1-dev")), ..Output::default() };
    let with_dev = |drv: &mut Derivation| {
        drv.outputs.insert("dev".into(), dev());
    };
    assert_eq!(
        {
            let mut after = before.clone();
            with_dev(&mut after);
            compared(&before, &after)
        },
        [Difference::Outputs]
    );
    assert_eq!(
        change(|drv| {
            drv.input_srcs.insert(path('a', "fix.patch"));
        }),
        [Difference::Source { name: "fix.patch".into() }]
    );
}

#[test]
fn another_path_of_the_output_is_no_difference_and_another_fixed_hash_is() {
    let fixed = |hash: &str, letter| {
        let mut drv = drv(&[("outputHash", hash)]);
        drv.outputs.insert(
            "out".into(),
            Output { path: Some(path(letter, "x")), hash_algo: "sha256".into(), hash: hash.into() },
        );
        drv
    };
    assert_eq!(compared(&fixed("aa", '1'), &fixed("aa", '2')), []);
    let from_to = [Difference::FixedHash { from: "sha256:aa".into(), to: "sha256:bb".into() }];
    assert_eq!(compared(&fixed("aa", '1'), &fixed("bb", '2')), from_to);
    assert_eq!(compared(&drv(&[]), &fixed("bb", '2'))[0], Difference::Outputs);
}

#[test]
fn what_follows_from_an_input_is_no_difference() {
    let (old, new) = (path('a', "dep-1"), path('b', "dep-2"));
    let mut dictionary = Dictionary::default();
    dictionary.path(&old, &new);
    let with = |dep: &StorePath, flags: &str| {
        let json = format!(r#"{{"deps":["{dep}"],"flags":"{flags}"}}"#);
        let mut drv =
            drv(&[("dep", dep.as_str()), ("rpath", &format!("{dep}/lib {flags}")), ("__json", &json)]);
        drv.builder = format!("{dep}/bin/sh").into_bytes();
        drv.args = vec![format!("{dep}/x").into_bytes()];
        drv
    };
    assert_eq!(own(&with(&old, "-O2"), &with(&new, "-O2"), &[&dictionary], Unmatched::default()), []);
    let rpath = |flags: &str| format!("{new}/lib {flags}");
    assert_eq!(
        own(&with(&old, "-O2"), &with(&new, "-O3"), &[&dictionary], Unmatched::default()),
        [
            env("flags", Some("\"-O2\""), Some("\"-O3\"")),
            env("rpath", Some(&rpath("-O2")), Some(&rpath("-O3"))),
        ]
    );
}

#[test]
fn an_input_that_came_is_not_told_again_as_text() {
    let (dep, came) = (path('a', "dep"), path('b', "came"));
    let json = |deps: &str| format!(r#"{{"deps":[{deps}]}}"#);
    let before = drv(&[("deps", dep.as_str()), ("__json", &json(&format!("\"{dep}\"")))]);
    let after =
        drv(&[("deps", &format!("{dep}  {came}/x")), ("__json", &json(&format!("\"{dep}\",\"{came}\"")))]);
    let mut unmatched = Unmatched::default();
    unmatched.after.add(&came);
    assert_eq!(own(&before, &after, &[], unmatched), []);
    assert_eq!(compared(&before, &after).len(), 2);
}

#[test]
fn a_source_of_the_same_name_takes_the_place_of_the_old_one() {
    let with = |letters: &[char]| {
        let paths: Vec<_> = letters.iter().map(|letter| path(*letter, "fix.patch")).collect();
        let text: Vec<_> = paths.iter().map(StorePath::as_str).collect();
        let mut drv = drv(&[("patches", &text.join(" "))]);
        drv.input_srcs = paths.into_iter().collect();
        drv
    };
    let source = [Difference::Source { name: "fix.patch".into() }];
    assert_eq!(compared(&with(&['a']), &with(&['b'])), source);
    // Which of them took whose place cannot be told, and need not be.
    assert_eq!(compared(&with(&['a', 'b']), &with(&['c', 'd'])), source);
    assert_eq!(compared(&with(&['a', 'b']), &with(&['b', 'a'])).len(), 1);
}

#[test]
fn texts_that_cannot_be_read_are_compared_as_they_are() {
    let before = drv(&[("__json", "{")]);
    let after = drv(&[("__json", "{}")]);
    assert_eq!(compared(&before, &after), [env("__json", Some("{"), Some("{}"))]);
    // Another order is another derivation, whatever it says.
    let (one, other) = (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#);
    assert_eq!(
        compared(&drv(&[("__json", one)]), &drv(&[("__json", other)])),
        [env("__json", Some(one), Some(other))]
    );
    let mut bytes = drv(&[]);
    bytes.env.insert(vec![0xff], vec![0xff]);
    assert_eq!(compared(&drv(&[]), &bytes), [env("\u{fffd}", None, Some("\u{fffd}"))]);
}

#[test]
fn no_more_are_listed_than_anybody_reads() {
    let many: Vec<_> = (0..1000).map(|at| format!("v{at:04}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "x")).collect();
    let found = compared(&drv(&[]), &drv(&many));
    assert_eq!(found.len(), DIFFERENCES_LISTED_MAX + 1);
    assert_eq!(found.last(), Some(&Difference::Unknown));
}
