//! What the fuzz targets check, on their corpus, mutations of it, and large inputs (`test_kit::mutate`).

use test_kit::mutate::{Shape, play};

#[expect(unreachable_pub, reason = "the fuzz targets reach them from outside")]
#[path = "../../../../fuzz/src/checks/nix_types.rs"]
mod checks;

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
