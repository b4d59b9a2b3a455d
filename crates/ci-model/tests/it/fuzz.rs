//! What the fuzz target checks, on its corpus, mutations of it, and large inputs (`test_kit::mutate`).

use ci_model::config::BYTES_MAX;
use test_kit::mutate::{Shape, play, play_within};

#[expect(unreachable_pub, reason = "the fuzz targets reach them from outside")]
#[path = "../../../../fuzz/src/checks/ci_model.rs"]
pub(crate) mod checks;

#[test]
fn patterns_over_repositories_and_branches() {
    play(
        "name_pattern",
        &[
            Shape { part: "*a", ..Shape::default() },
            Shape { head: "*a*a*a*a*a*a*a*a*a**b\n", part: "a", tail: "" },
            Shape { head: "**/x\n", part: "a/", tail: "" },
        ],
        checks::name_pattern,
    );
}

#[test]
fn repository_configs() {
    play_within(
        "repository_config",
        BYTES_MAX,
        &[
            Shape { head: "{", part: "\"k{n}\": 1,", tail: "\"jobs\": {}}" },
            Shape { head: "{", part: "\"jobs\": {},", tail: "\"jobs\": {}}" },
            Shape {
                head: "{\"jobs\": {",
                part: "\"j{n}\": {\"file\": \"x\"},",
                tail: "\"j\": {\"file\": \"x\"}}}",
            },
            Shape {
                head: "{\"jobs\": {\"j\": {\"file\": \"x\",",
                part: "\"fiel\": 1,",
                tail: "\"enabled\": true}}}",
            },
            Shape { part: "[", ..Shape::default() },
            Shape { head: "{\"branches\": [", part: "\"b{n}\",", tail: "\"b\"]}" },
            Shape { head: "{\"branches\": [\"", part: "\\u0061\\ud83d", tail: "\"]}" },
            Shape { head: "{\"branches\": [", part: "1,", tail: "1]}" },
            Shape { part: "// {n}\n", tail: "{}", ..Shape::default() },
            Shape { head: "{", part: "/* */", tail: "}" },
            Shape {
                head: "{\"jobs\": {\"j\": {\"file\": \"x\", \"post_build_hooks\": [",
                part: "{\"name\": \"h{n}\", \"command\": [\"x\"], \"after\": [\"h\"]},",
                tail: "{\"name\": \"h\", \"command\": [\"x\"]}]}}}",
            },
            Shape {
                head: "{\"change_set\": [{\"effect\": \"no-op\", \"paths\": [",
                part: "\"a*/**/{n}\",",
                tail: "\"b\"]}]}",
            },
        ],
        checks::repository_config,
    );
}
