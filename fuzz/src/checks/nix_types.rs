//! Nix' own forms: store paths, derivation files, and the patterns over names.

use hook_wire::shape::{self, HASH_LEN, NAME_MAX};
use hook_wire::split_out_paths;
use nix_types::{Derivation, DrvPath, Glob, StorePath, derivation};

/// Store paths, the whole input as one and each of its words: what is taken is the text itself, in parts that make it
/// up, and never holds what a shell, a terminal or a list would stumble over. What is refused has its reason.
pub fn store_path(bytes: &[u8]) {
    one_path(bytes);
    split_out_paths(bytes).for_each(one_path);
}

fn one_path(bytes: &[u8]) {
    match StorePath::parse(bytes) {
        Ok(path) => {
            assert_eq!(path.as_str().as_bytes(), bytes);
            assert_eq!(format!("{}/{}-{}", path.store_dir(), path.hash_part(), path.name()), path.as_str());
            assert_eq!((path.hash_part().len(), path.name().is_empty()), (HASH_LEN, false));
            assert!(path.name().len() <= NAME_MAX && !path.name().contains('/'));
            assert!(path.as_str().starts_with('/') && !path.as_str().contains("/../"));
            assert!(!path.as_str().contains(|c: char| c.is_control() || c == ' '));
            let drv = DrvPath::parse(bytes);
            assert_eq!(drv.is_ok(), path.is_drv());
            assert!(drv.is_ok_and(|drv| drv.store_path() == &path) || !path.is_drv());
        }
        Err(error) => {
            assert_eq!(shape::check(bytes).err(), Some(error.fault()));
            assert!(DrvPath::parse(bytes).is_err());
            assert!(!error.to_string().contains(char::is_control), "errors can be shown: {error}");
        }
    }
}

/// A derivation file: what was read is written in Nix' own form, which reads as the same again and no longer than what
/// it came from.
pub fn derivation(bytes: &[u8]) {
    view_says_the_same(bytes);
    match derivation::parse(bytes) {
        Ok(read) => {
            let written = read.print();
            assert!(written.len() <= bytes.len() + bytes.len(), "each byte needs at most an escape");
            assert_eq!(derivation::parse(&written).as_ref(), Ok(&read));
            asked(&read);
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "errors can be shown: {error}"),
    }
}

/// The borrowed reading takes and refuses what the owned one does, and says the same.
fn view_says_the_same(bytes: &[u8]) {
    let (owned, view) = match (derivation::parse(bytes), derivation::view(bytes)) {
        (Ok(owned), Ok(view)) => (owned, view),
        (Err(_), Err(_)) => return,
        (owned, view) => panic!("owned: {owned:?}, borrowed: {view:?}"),
    };
    assert_eq!(view.is_fixed_output(), owned.is_fixed_output());
    assert_eq!(view.has_unknown_paths(), owned.has_unknown_paths());
    assert_eq!(view.env_str("name"), owned.env_str("name"));
    let outputs = view.outputs.into_iter().map(|output| {
        let path = output.path.map(|path| path.parse().expect("checked while it was read"));
        let (hash_algo, hash) = (output.hash_algo.into_owned(), output.hash.into_owned());
        (output.name.into_owned(), derivation::Output { path, hash_algo, hash })
    });
    let input_drvs = view.input_drvs.into_iter().map(|(drv, outputs)| {
        let outputs = outputs.into_iter().map(std::borrow::Cow::into_owned).collect();
        (drv.parse().expect("checked while it was read"), outputs)
    });
    let variables = view.env.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned()));
    let again = Derivation {
        outputs: outputs.collect(),
        input_drvs: input_drvs.collect(),
        input_srcs: view.input_srcs.iter().map(|path| path.parse().expect("checked")).collect(),
        system: view.system.into_owned(),
        builder: view.builder.into_owned(),
        args: view.args.into_iter().map(std::borrow::Cow::into_owned).collect(),
        env: variables.collect(),
    };
    assert_eq!(again, owned);
}

fn asked(read: &Derivation) {
    assert!(!read.outputs.is_empty());
    assert!(!read.is_fixed_output() || read.outputs.contains_key("out"));
    assert_eq!(read.has_unknown_paths(), read.outputs.values().any(|output| output.path.is_none()));
    assert!(read.env_str("name").is_none_or(|name| read.env[b"name".as_slice()] == name.as_bytes()));
}

/// A pattern in the first line, a name in the second: whether they match is what the same pattern as a regular
/// expression says.
pub fn name_glob(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (pattern, name) = text.split_once('\n').unwrap_or((&text, "hello-2.12"));
    let Ok(glob) = Glob::parse(pattern) else { return };
    assert_eq!(glob.as_str(), pattern);
    // Only what can be a name is ever asked for.
    if name.len() <= NAME_MAX && name.is_ascii() {
        let expected = regex_lite::Regex::new(&as_regex(pattern)).expect("the translation is an expression");
        assert_eq!(glob.matches(name), expected.is_match(name), "{pattern:?} on {name:?}");
    }
}

/// The pattern as a regular expression, made byte by byte and without the parser's help.
fn as_regex(pattern: &str) -> String {
    let mut regex = String::from(r"(?s)\A");
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        rest = &rest[1..];
        match first {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => {
                let negated = rest.starts_with(['!', '^']);
                rest = &rest[usize::from(negated)..];
                // A bracket right at the start stands for itself.
                let end = 1 + rest[1..].find(']').expect("the parser found the closing bracket");
                regex.push_str(if negated { "[^" } else { "[" });
                set(&mut regex, &rest[..end]);
                regex.push(']');
                rest = &rest[end + 1..];
            }
            plain => regex.push_str(&regex_lite::escape(plain.encode_utf8(&mut [0; 4]))),
        }
    }
    regex + r"\z"
}

/// Single characters and ranges; a dash at the end is itself.
fn set(regex: &mut String, members: &str) {
    let mut rest = members.as_bytes();
    while let [low, more @ ..] = rest {
        let (high, more) = match more {
            [b'-', high, more @ ..] => (high, more),
            more => (low, more),
        };
        regex.push_str(&format!(r"\x{low:02x}-\x{high:02x}"));
        rest = more;
    }
}
