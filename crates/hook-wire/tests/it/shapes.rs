//! Store paths that pass, and hostile ones with the reason they do not.

use std::collections::BTreeSet;

use hook_wire::shape::{self, PathFault};

use crate::PATH;

const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

#[test]
fn a_path_in_three_parts() {
    let parts = shape::check(PATH).unwrap();
    assert_eq!((parts.store_dir, parts.hash, parts.name), ("/nix/store", HASH, "hello-2.12"));
    for dir in ["/s", "/home/a/.local/share/nix/root/nix/store", "/tmp/x*y", "/störe"] {
        assert_eq!(shape::check(format!("{dir}/{HASH}-a").as_bytes()).unwrap().store_dir, dir);
    }
}

#[test]
fn what_is_no_store_path() {
    let long = "n".repeat(212);
    let deep = "/d".repeat(2040);
    let cases: Vec<(String, PathFault)> = vec![
        (String::new(), PathFault::Empty),
        (format!("{deep}/{HASH}-a"), PathFault::TooLong),
        (format!("/nix/store/{HASH}-a b"), PathFault::Unprintable),
        (format!("/nix/store/{HASH}-a\n"), PathFault::Unprintable),
        (format!("/nix/store/{HASH}-a\0"), PathFault::Unprintable),
        (format!("/nix/st\u{1b}ore/{HASH}-a"), PathFault::Unprintable),
        (format!("/nix/st\u{202e}ore/{HASH}-a"), PathFault::Unprintable),
        (format!("/nix/st\u{85}ore/{HASH}-a"), PathFault::Unprintable),
        (format!("nix/store/{HASH}-a"), PathFault::Relative),
        (format!("--option/{HASH}-a"), PathFault::Relative),
        (format!("{HASH}-a"), PathFault::Relative),
        (format!("/{HASH}-a"), PathFault::Folder),
        (format!("//{HASH}-a"), PathFault::Folder),
        (format!("/nix//store/{HASH}-a"), PathFault::Folder),
        (format!("/nix/./store/{HASH}-a"), PathFault::Folder),
        (format!("/nix/store/../{HASH}-a"), PathFault::Folder),
        (format!("/nix/store/{HASH}-a/bin"), PathFault::Form),
        (format!("/nix/store/{HASH}-a/"), PathFault::Form),
        ("/nix/store".into(), PathFault::Form),
        ("/nix/store/*".into(), PathFault::Form),
        (format!("/nix/store/{HASH}"), PathFault::Form),
        (format!("/nix/store/{}é-a", &HASH[..31]), PathFault::Form),
        (format!("/nix/store/{}e-a", &HASH[..31]), PathFault::Hash),
        (format!("/nix/store/{}-a", HASH.to_uppercase()), PathFault::Hash),
        (format!("/nix/store/{HASH}-"), PathFault::Name),
        (format!("/nix/store/{HASH}-.hidden"), PathFault::Name),
        (format!("/nix/store/{HASH}-a*"), PathFault::Name),
        (format!("/nix/store/{HASH}-$(id)"), PathFault::Name),
        (format!("/nix/store/{HASH}-é"), PathFault::Name),
        (format!("/nix/store/{HASH}-{long}"), PathFault::Name),
    ];
    for (path, fault) in &cases {
        assert_eq!(shape::check(path.as_bytes()), Err(*fault), "{path:?}");
    }
    assert_eq!(shape::check(b"/nix/store/\xff-a"), Err(PathFault::Unprintable));
    let seen: BTreeSet<String> = cases.iter().map(|(_, fault)| fault.to_string()).collect();
    assert_eq!(seen.len(), 8, "every fault is met and has its own words");
    assert!(seen.iter().all(|words| words.contains("give")), "each names a remedy: {seen:?}");
}

#[test]
fn the_longest_name_passes() {
    assert!(shape::check(format!("/nix/store/{HASH}-{}", "n".repeat(211)).as_bytes()).is_ok());
}
