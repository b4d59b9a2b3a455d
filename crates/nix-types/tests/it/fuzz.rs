//! What the fuzz targets check, on their corpus, mutations of it, and large inputs (`test_kit::mutate`).

use nix_types::cache_url::URL_MAX;
use test_kit::mutate::{Shape, play, play_within};

#[expect(unreachable_pub, reason = "the fuzz targets reach them from outside")]
#[path = "../../../../fuzz/src/checks/nix_types.rs"]
mod checks;

#[expect(unreachable_pub, reason = "the fuzz targets reach them from outside")]
#[path = "../../../../fuzz/src/checks/nix_caches.rs"]
mod caches;

#[test]
fn store_paths() {
    play(
        "store_path",
        &[
            Shape { part: "/", ..Shape::default() },
            Shape { part: "/nix/store/00000000000000000000000000000000-x ", ..Shape::default() },
            Shape { part: "/.. ", ..Shape::default() },
        ],
        checks::store_path,
    );
}

#[test]
fn derivations() {
    let store = r#"Derive([("out","","","")],[],["/s/00000000000000000000000000000000-a""#;
    let end = r#"],"s","b",[],[])"#;
    let env = r#"Derive([("out","","","")],[],[],"s","b",[],[("a","1")"#;
    play(
        "derivation",
        &[
            Shape { head: env, part: r#",("{n}","")"#, tail: "])" },
            Shape { head: store, part: r#","/s/000000000000000000000000000{n}-a""#, tail: end },
            Shape {
                head: r#"Derive([("out","","","")],[("/s/00000000000000000000000000000000-a.drv",["out""#,
                part: r#","{n}""#,
                tail: r#"])],[],"s","b",[],[])"#,
            },
            Shape { head: r#"Derive([("out","","","")],[],[],"s","b",[""#, part: r"\\", tail: r#""],[])"# },
            Shape { head: r#"Derive([("out","","","")],[],[],"s","b",["""#, part: r#","""#, tail: "],[])" },
            Shape { head: r#"Derive([("out","#, part: "[", tail: "" },
        ],
        checks::derivation,
    );
}

#[test]
fn patterns_over_names() {
    play(
        "name_glob",
        &[
            Shape { part: "*a", ..Shape::default() },
            Shape { part: "[", ..Shape::default() },
            Shape { head: "*aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\n", part: "a", tail: "" },
        ],
        checks::name_glob,
    );
}

#[test]
fn hashes() {
    play(
        "hash",
        &[
            Shape { part: "0", ..Shape::default() },
            Shape { head: "sha256:", part: "z", tail: "" },
            Shape { head: "sha256-", part: "\u{202e}", tail: "" },
        ],
        caches::hash,
    );
}

#[test]
fn signatures_and_public_keys() {
    play(
        "signature",
        &[
            Shape { part: "k:", ..Shape::default() },
            Shape { head: "k:", part: "A", tail: "==" },
            Shape { part: "\n", ..Shape::default() },
        ],
        caches::signature,
    );
}

#[test]
fn secret_keys() {
    play(
        "secret_key",
        &[
            Shape { part: "k:", ..Shape::default() },
            Shape { head: "k:", part: "A", tail: "==" },
            Shape { head: "k:", part: "\n", tail: "" },
        ],
        caches::secret_key,
    );
}

#[test]
fn narinfos() {
    let least = "StorePath: /nix/store/00000000000000000000000000000000-a\nURL: x\n\
        NarHash: sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73\nNarSize: 1\n";
    let sig = "Sig: k{n}:5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc+bRr0lv18FlbviRlVUFDjnoQCw==\n";
    let references = "StorePath: /nix/store/00000000000000000000000000000000-a\nURL: x\n\
        NarHash: sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73\nNarSize: 1\nReferences:";
    play(
        "narinfo",
        &[
            Shape { head: least, part: sig, tail: "" },
            Shape { head: least, part: "Unknown: {n}\n", tail: "" },
            Shape { head: least, part: "Compression:\n", tail: "" },
            Shape { head: references, part: " 000000000000000000000000000{n}-a", tail: "\n" },
            Shape { head: references, part: " ", tail: "\n" },
            Shape { head: least, part: ":\n", tail: "" },
            Shape { part: "\n", ..Shape::default() },
        ],
        caches::narinfo,
    );
}

#[test]
fn cache_infos() {
    play(
        "cache_info",
        &[
            Shape { part: ":\n", ..Shape::default() },
            Shape { head: "StoreDir:", part: " ", tail: "\n" },
            Shape { head: "StoreDir: ", part: "/", tail: "\n" },
        ],
        caches::cache_info,
    );
}

#[test]
fn realisations() {
    let id = r#""sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855!"#;
    let head = r#"{"id":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855!out","outPath":"00000000000000000000000000000000-a","#;
    let dependency = r#","sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855!{n}":"000000000000000000000000000{n}-a""#;
    let first = r#""dependentRealisations":{"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855!o":"00000000000000000000000000000000-a""#;
    let both: &'static str = Box::leak(format!("{head}{first}").into_boxed_str());
    assert!(dependency[1..].starts_with(id));
    play(
        "realisation",
        &[
            Shape { head: both, part: dependency, tail: "}}" },
            Shape { head, part: "[", tail: "" },
            Shape { head: r#"{"x":"#, part: "[", tail: "" },
            Shape { head: r#"{"x":[0"#, part: ",0", tail: "]}" },
            Shape { head: r#"{"id":""#, part: r"\u001b", tail: r#""}"# },
        ],
        caches::realisation,
    );
}

#[test]
fn ssh_urls() {
    play_within(
        "ssh_url",
        nix_types::ssh_url::URL_MAX,
        &[
            Shape { head: "ssh://h?", part: "priority=1&", tail: "" },
            Shape { head: "ssh://", part: "a@", tail: "h" },
            Shape { head: "ssh://h?remote-store=/", part: "%41", tail: "" },
        ],
        caches::ssh_url,
    );
}

#[test]
fn cache_urls() {
    play_within(
        "cache_url",
        URL_MAX,
        &[
            Shape { head: "file:///c?", part: "a=&", tail: "" },
            Shape { head: "file:///c?", part: "&", tail: "" },
            Shape { head: "file://", part: "/a", tail: "" },
            Shape { head: "https://h", part: "/%41", tail: "" },
            Shape { head: "https://h?secret-keys=/k", part: ",/{n}", tail: "" },
            Shape { head: "https://", part: "@", tail: "h" },
        ],
        caches::cache_url,
    );
    // What is longer is looked at as well, but not closely.
    play("cache_url", &[Shape { part: "a@", ..Shape::default() }], caches::cache_url);
}
