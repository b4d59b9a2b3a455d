//! What the fuzz targets check, on their corpus, mutations of it, and large inputs (`test_kit::mutate`).

use test_kit::mutate::{Shape, play};

#[expect(unreachable_pub, reason = "the fuzz targets reach them from outside")]
#[path = "../../../../fuzz/src/checks/hook_wire.rs"]
mod checks;

#[test]
fn frames() {
    // A header that promises 1 MiB, then the smallest fields there are.
    let head = "EKAQ\x01\0\x01\0\0\0\x10\0";
    play(
        "hook_frame",
        &[
            Shape { head, part: "\x03\x01\0\0\0/", tail: "" },
            Shape { head, part: "\x04\x05\0\0\0{n}", tail: "" },
            Shape { head, part: "\x05\x05\0\0\0{n}", tail: "" },
            Shape { head, part: "\x06\0\0\0\0", tail: "" },
        ],
        checks::frame,
    );
}

#[test]
fn lists_of_paths() {
    play(
        "out_paths",
        &[Shape { part: " ", ..Shape::default() }, Shape { part: "a ", ..Shape::default() }],
        checks::out_paths,
    );
}
