//! What the fuzz targets check, on their corpus, mutations of it, and inputs of 1 MiB (`test_kit::mutate`).

use test_kit::mutate::{Shape, play};

#[expect(unreachable_pub, reason = "the fuzz targets reach them from outside")]
#[path = "../../../fuzz/src/checks/eka_queue.rs"]
mod checks;

#[test]
fn configurations() {
    let cache = "[[caches]]\nid = \"a\"\ncache_type = \"command\"\ncommand = [\"/a\"]\n";
    play(
        "config",
        &[
            // Blocks, good and bad; names that repeat or are compared with known ones.
            Shape {
                part: "[[caches]]\nid=\"{n}\"\ncache_type=\"command\"\ncommand=[\"/a\"]\n",
                ..Shape::default()
            },
            Shape { part: "[[caches]]\n", ..Shape::default() },
            Shape { part: "k{n}=1\n", ..Shape::default() },
            Shape { part: "state_dix{n}=1\n", ..Shape::default() },
            Shape { head: "[queue]\n", part: "k{n}=1\n", tail: "" },
            Shape { head: "[queue]\ndefault_destinations=[", part: "\"{n}\",", tail: "]\n" },
            Shape { head: "[queue]\nallowed_users=[", part: "1,", tail: "]\n" },
            // Patterns that are much work to read.
            Shape { head: "x=1\n[[caches]]\nexclude=[", part: "\"*[a-z]\",", tail: "]\n" },
            Shape { head: "[[caches]]\nexclude_regex=[", part: "\"\\\\w{9}{9}{9}\",", tail: "]\n" },
            Shape { head: cache, part: "[[caches]]\nexclude_regex=['a{1000}{1000}']\n", tail: "" },
            Shape { head: "[[caches]]\nexclude_regex=['", part: "(a|", tail: "']\n" },
            Shape { head: "[[caches]]\nexclude_regex=['", part: "a", tail: "']\n" },
            // Depth, and other ways to be no TOML.
            Shape { head: "a=", part: "[", tail: "" },
            Shape { head: "a=", part: "{a=", tail: "" },
            Shape { part: "a.", tail: "a=1\n", ..Shape::default() },
            Shape { head: "[", part: "a.", tail: "a]\n" },
            Shape { part: "[a{n}.b]\n", ..Shape::default() },
            Shape { part: "\"", ..Shape::default() },
            Shape { part: "=\n", ..Shape::default() },
            Shape { part: "\n", ..Shape::default() },
        ],
        checks::config,
    );
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
