//! What the fuzz targets check, on their corpus, mutations of it, and large inputs (`test_kit::mutate`).

use std::io::Write;

use service_kit::config::FILE_BYTES_MAX;
use test_kit::mutate::{Shape, TIME_MAX, play, play_within, within};

#[expect(unreachable_pub, reason = "the fuzz targets reach them from outside")]
#[path = "../../../fuzz/src/checks/eka_queue.rs"]
mod checks;

#[test]
fn configurations() {
    let cache = "[[caches]]\nid = \"a\"\ncache_type = \"command\"\ncommand = [\"/a\"]\n";
    let shapes = [
        // Blocks, good and bad; names that repeat or are compared with known ones.
        Shape {
            part: "[[caches]]\nid=\"{n}\"\ncache_type=\"command\"\ncommand=[\"/a\"]\n",
            ..Shape::default()
        },
        Shape { part: "[[caches]]\n", ..Shape::default() },
        Shape { part: "[[caches]]\nid=1\n", ..Shape::default() },
        Shape { part: "k{n}=1\n", ..Shape::default() },
        Shape { part: "[k{n}]\n", ..Shape::default() },
        Shape { head: "[queue]\n", part: "k{n}=1\n", tail: "" },
        Shape { head: "[queue]\n", part: "quotaxper_uid{n}=1\n", tail: "" },
        Shape { head: "[queue]\ndefault_destinations=[", part: "\"{n}\",", tail: "]\n" },
        Shape { head: "[queue]\nallowed_users=[", part: "1,", tail: "]\n" },
        // Patterns that are much work to read.
        Shape { head: "[[caches]]\nexclude=[", part: "\"*[a-z]\",", tail: "]\n" },
        Shape { head: "[[caches]]\nexclude=[", part: "\"/\",", tail: "]\n" },
        Shape { head: "[[caches]]\nexclude_regex=[", part: "'a{1000}{1000}',", tail: "]\n" },
        Shape { head: cache, part: "[[caches]]\nexclude_regex=['\\w{1000}{1000}']\n", tail: "" },
        Shape { head: cache, part: "[[caches]]\nexclude_regex=['\\w{9}{9}']\n", tail: "" },
        Shape { head: "[[caches]]\nexclude_regex=['", part: "(a|", tail: "']\n" },
        Shape { head: "[[caches]]\nexclude_regex=['", part: "(a)", tail: "']\n" },
        // Depth, and other ways to be no TOML.
        Shape { head: "a=", part: "[", tail: "" },
        Shape { head: "a=", part: "{a=", tail: "" },
        Shape { head: "a=[", part: "{a=1},", tail: "]\n" },
        // Brackets that do not belong together must not hide the depth.
        Shape { head: "a=", part: "{b={{}", tail: "" },
        Shape { head: "a=", part: "{b=[}", tail: "" },
        Shape { head: "a=", part: "[{]", tail: "" },
        Shape { part: "a.", tail: "a=1\n", ..Shape::default() },
        Shape { part: "a{n}.b.c.d.e=1\n", ..Shape::default() },
        Shape { part: "[a{n}.b]\n", ..Shape::default() },
        Shape { part: "\"", ..Shape::default() },
        Shape { part: "=\n", ..Shape::default() },
        Shape { part: "\n", ..Shape::default() },
    ];
    let door = usize::try_from(FILE_BYTES_MAX).unwrap();
    play_within("config", door, &shapes, checks::config);
}

#[test]
fn control_requests() {
    let list = "{\"command\":\"list\",\"limit\":1,\"selection\":{\"paths\":[\"\"";
    play(
        "control_request",
        &[
            Shape { head: list, part: ",\"{n}\"", tail: "]}}" },
            Shape { head: "{\"a\":", part: "[", tail: "" },
            Shape { head: "{", part: "\"{n}\":1,", tail: "\"command\":\"status\"}" },
        ],
        checks::control_request,
    );
}

#[test]
fn dhall() {
    play(
        "dhall",
        &[
            Shape { part: "{ a = \"", ..Shape::default() },
            Shape { part: "{", ..Shape::default() },
            Shape { head: "{ ", part: "a{n} = \"x\", ", tail: "}" },
            Shape { head: "{ a = \"", part: "\\\\", tail: "\" }" },
            Shape { part: "-- \n", ..Shape::default() },
            Shape { head: "{ a = [] ", part: ": List { x : Text } ", tail: "}" },
        ],
        checks::dhall,
    );
}

#[test]
fn stored_files() {
    play(
        "stored_file",
        &[
            Shape { head: "identity\n", part: "StorePath: {n}\n", tail: "" },
            Shape { head: "gzip\n", part: "\0", tail: "" },
            Shape { part: "x", ..Shape::default() },
        ],
        checks::stored_file,
    );
    // A bomb: 256 MiB of zeros.
    let mut bomb = flate2::write::GzEncoder::new(b"gzip\n".to_vec(), flate2::Compression::best());
    for _ in 0..256 {
        bomb.write_all(&[0; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(within(TIME_MAX, || checks::stored_file(&bomb)).is_ok(), "it is not unpacked to its end");
}
