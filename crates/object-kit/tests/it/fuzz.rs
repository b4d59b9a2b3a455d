//! What the fuzz targets check, on their corpus, mutations of it, and large inputs (`test_kit::mutate`).

use test_kit::mutate::{Shape, play};

#[expect(unreachable_pub, reason = "the fuzz targets reach them from outside")]
#[path = "../../../../fuzz/src/checks/object_kit.rs"]
mod checks;

#[test]
fn answers_of_s3() {
    play(
        "s3_xml",
        &[
            Shape { head: "<a>", part: "<b>{n}</b>", tail: "</a>" },
            Shape { head: "", part: "<a>", tail: "" },
            Shape { head: "<a>", part: "&amp;", tail: "</a>" },
            Shape { head: "<a>", part: "&", tail: "</a>" },
            Shape { head: "<a ", part: "b='>' ", tail: "/>" },
            Shape { head: "<a>", part: "<!-- -->", tail: "</a>" },
            Shape { head: "<a>", part: "<![CDATA[", tail: "</a>" },
        ],
        checks::s3_xml,
    );
}

#[test]
fn netrc_files() {
    play(
        "netrc",
        &[
            Shape { part: "machine h{n} login l password p\n", ..Shape::default() },
            Shape { part: "\"", ..Shape::default() },
            Shape { part: "\" ", ..Shape::default() },
            Shape { part: "\"\\", ..Shape::default() },
            Shape { part: "#", ..Shape::default() },
            Shape { part: "macdef x\n", ..Shape::default() },
        ],
        checks::netrc,
    );
}

#[test]
fn profile_files() {
    play(
        "aws_profiles",
        &[
            Shape { part: "[p{n}]\nregion=x\n", ..Shape::default() },
            Shape { head: "[default]\n", part: "k{n}=v\n", tail: "" },
            Shape { head: "[default]\nregion=", part: "x#", tail: "" },
            Shape { part: "[", ..Shape::default() },
        ],
        checks::aws_profiles,
    );
}

#[test]
fn dates() {
    play("http_date", &[Shape { head: "Sun, ", part: "0 ", tail: "GMT" }], checks::http_date);
}
