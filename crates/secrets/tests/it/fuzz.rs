//! What the fuzz targets check, on their corpus, mutations of it, and large inputs (`test_kit::mutate`).

use test_kit::mutate::{Shape, play};

#[expect(unreachable_pub, reason = "the fuzz targets reach them from outside")]
#[path = "../../../../fuzz/src/checks/secrets.rs"]
mod checks;

#[test]
fn contents_of_credential_files() {
    play(
        "secret_values",
        &[
            Shape { part: "K{n}=v\n", ..Shape::default() },
            Shape { head: "K=\"", part: "\\n", tail: "\"" },
            Shape { head: "K=\"", part: "\n", tail: "" },
            Shape { head: "K=-----BEGIN X-----\n", part: "AAAA\n", tail: "-----END X-----\n" },
            Shape { head: "{\"K\":\"", part: "\\\\n", tail: "\"}" },
            Shape { head: "{", part: "\"k{n}\":1,", tail: "\"k\":1}" },
            Shape { head: "{\"K\":", part: "[", tail: "" },
            Shape { part: "#\n", ..Shape::default() },
        ],
        checks::secret_values,
    );
}

#[test]
fn what_a_redactor_lets_through() {
    play(
        "redactor",
        &[
            Shape { head: "aaaaaaaaaaaa\n", part: "a", tail: "" },
            Shape { head: "", part: "abcdef", tail: "\nabcdef" },
            Shape { head: "aaaaaab\n", part: "aaaaaa", tail: "" },
        ],
        checks::redactor,
    );
}
