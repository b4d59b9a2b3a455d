//! What the fuzz target checks, on its corpus, mutations of it, and large inputs (`test_kit::mutate`).

use test_kit::mutate::{Shape, play};

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
