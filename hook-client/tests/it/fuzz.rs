//! What the fuzz targets check, on their corpus, mutations of it, and large inputs (`test_kit::mutate`).

use test_kit::mutate::{Shape, play, play_within};

/// A larger `hook.conf` is refused unread.
const CONF_MAX: usize = 64 << 10;

#[expect(unreachable_pub, reason = "the fuzz targets reach them from outside")]
#[path = "../../../fuzz/src/checks/eka_hook.rs"]
mod checks;

#[test]
fn hydra_files() {
    play(
        "hydra_json",
        &[
            Shape { head: "{", part: "\"{n}\":[],", tail: "\"job\":\"x\"}" },
            Shape { head: "{\"outputs\":[{}", part: ",{\"path\":\"\"}", tail: "]}" },
            Shape { head: "{\"job\":\"", part: "\\u00e4", tail: "\"}" },
            Shape { head: "{\"a\":", part: "[", tail: "" },
            Shape { head: "{\"a\":", part: "{\"a\":", tail: "" },
            Shape { head: "{\"a\":1", part: "0", tail: "}" },
            Shape { part: " ", ..Shape::default() },
        ],
        checks::hydra_json,
    );
}

#[test]
fn settings() {
    let shapes = [
        Shape { part: "tag = x # \n", ..Shape::default() },
        Shape { part: "x\n", ..Shape::default() },
        Shape { head: "tag = \"", part: "\u{1}", tail: "\"\n" },
    ];
    play_within("hook_conf", CONF_MAX, &shapes, checks::conf);
}

#[test]
fn calls() {
    let stdin = "-\n%%\n\n%%\n\n%%\n\n%%\n";
    play(
        "hook_call",
        &[
            Shape { head: stdin, part: "/s/000000000000000000000000000{n}-a\n", tail: "" },
            Shape { head: stdin, part: "x\n", tail: "" },
            Shape { part: "/s/000000000000000000000000000{n}-a\n", ..Shape::default() },
            Shape { part: "--tag=a\n", ..Shape::default() },
            Shape { part: "--destination=a\n", ..Shape::default() },
        ],
        checks::call,
    );
}
