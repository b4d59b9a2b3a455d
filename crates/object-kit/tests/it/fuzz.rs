//! What the fuzz targets check, on their corpus, mutations of it, and large inputs (`test_kit::mutate`).

use test_kit::mutate::{Shape, play};

#[expect(unreachable_pub, reason = "the fuzz targets reach them from outside")]
#[path = "../../../../fuzz/src/checks/object_kit.rs"]
mod checks;

#[expect(unreachable_pub, reason = "the fuzz targets reach them from outside")]
#[path = "../../../../fuzz/src/checks/answers.rs"]
mod answers;

#[test]
fn xml_of_s3() {
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

#[test]
fn answers_of_s3() {
    play(
        "s3_answers",
        &[
            Shape {
                head: "list\nHTTP/1.1 200 OK\n\n<ListBucketResult>",
                part: "<Contents><Key>p/{n}</Key><Size>1</Size></Contents>",
                tail: "</ListBucketResult>",
            },
            Shape {
                head: "sweep\nHTTP/1.1 200 OK\n\n<ListMultipartUploadsResult>",
                part: "<Upload><Key>p/a</Key><UploadId>{n}</UploadId><Initiated>2025-01-31T10:00:00Z</Initiated></Upload>",
                tail: "</ListMultipartUploadsResult>",
            },
            Shape {
                head: "stream\nHTTP/1.1 200 OK\n\n<A><UploadId>",
                part: "{n}",
                tail: "</UploadId></A>\n%%\nHTTP/1.1 200 OK\nETag: x",
            },
            Shape { head: "put\nHTTP/1.1 400 No\n\n<Error><Message>", part: "x", tail: "</Message></Error>" },
            Shape { head: "get\nHTTP/1.1 200 OK\n", part: "x{n}: y\n", tail: "" },
            Shape { head: "head\nHTTP/1.1 200 OK\nETag: ", part: "-", tail: "" },
            Shape { head: "get\n", part: "HTTP/1.1 500 No\n\n%%\n", tail: "" },
        ],
        answers::s3_answers,
    );
}

#[test]
fn answers_of_http_servers() {
    play(
        "http_answers",
        &[
            Shape { head: "get\nHTTP/1.1 200 OK\n\n", part: "x", tail: "" },
            Shape { head: "get\nHTTP/1.1 500 No\n\n", part: "\n", tail: "" },
            Shape {
                head: "get\nHTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n",
                part: "1\r\nx\r\n",
                tail: "0\r\n\r\n",
            },
            Shape { head: "get\n", part: "HTTP/1.1 302 Found\nLocation: x\n\n%%\n", tail: "" },
            Shape { head: "head\nHTTP/1.1 200 ", part: "x", tail: "" },
        ],
        answers::http_answers,
    );
}

#[test]
fn answers_of_those_who_give_keys() {
    play(
        "key_answers",
        &[
            Shape { head: "sts\nHTTP/1.1 200 OK\n\n<A>", part: "<B><Credentials/></B>", tail: "</A>" },
            Shape {
                head: "role\nHTTP/1.1 403 No\n\n<A><Error><Message>",
                part: "x",
                tail: "</Message></Error></A>",
            },
            Shape { head: "container\nHTTP/1.1 200 OK\n\n{\"a\":", part: "[", tail: "" },
            Shape { head: "instance\nHTTP/1.1 200 OK\n\n", part: "t", tail: "" },
            Shape { head: "instance\nHTTP/1.1 200 OK\n\nt\n%%\nHTTP/1.1 200 OK\n\n", part: "r/", tail: "" },
        ],
        answers::key_answers,
    );
}

#[test]
fn outputs_of_processes() {
    play(
        "process_output",
        &[
            Shape { head: "{\"AccessKeyId\":\"", part: "A", tail: "\",\"SecretAccessKey\":\"s\"}" },
            Shape {
                head: "{",
                part: "\"k{n}\":1,",
                tail: "\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\"}",
            },
            Shape { head: "{\"a\":", part: "[", tail: "" },
            Shape { head: "{\"SecretAccessKey\":\"", part: "\\u0000", tail: "" },
        ],
        answers::process_output,
    );
}
