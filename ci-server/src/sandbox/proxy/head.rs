//! The first words of a client of the proxy. In: bytes. Out: what it asks for, and what is to be said to the server; or what
//! is wrong. Pure. Two requests are known: `CONNECT HOST:PORT`, and `GET` or `HEAD` of an `http://` URL. Of the headers of
//! the latter only those in [`FORWARDED`] go on, one request for each connection.

use super::rules::{Target, host_and_port, is_plain};

/// Largest head, in bytes.
pub const HEAD_MAX: usize = 16 * 1024;

/// Headers that a server is told.
const FORWARDED: [&str; 6] =
    ["accept", "accept-encoding", "if-none-match", "if-modified-since", "range", "user-agent"];

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) target: Target,
    /// What is sent to the server first: nothing for a tunnel.
    pub(super) opening: Vec<u8>,
}

/// Where the head ends; `None` when more has to come.
pub(super) fn end_of(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads a whole head.
pub(super) fn parse(head: &[u8]) -> Result<Request, &'static str> {
    let text = std::str::from_utf8(head).map_err(|_| "the request is not text")?;
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.0" | "HTTP/1.1"] = words[..] else {
        return Err("the first line is no request of HTTP/1");
    };
    if method == "CONNECT" {
        let (host, port) = host_and_port(target, 0).ok_or("CONNECT needs HOST:PORT")?;
        return Ok(Request { target: Target { host, port, path: None }, opening: Vec::new() });
    }
    if method != "GET" && method != "HEAD" {
        return Err("only CONNECT, GET and HEAD are passed on");
    }
    let rest = target.strip_prefix("http://").ok_or("only http:// is passed on, and CONNECT for https://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority, 80).ok_or("the URL has no plain host")?;
    let path = if path.is_empty() { "/" } else { path };
    if !is_plain(path) {
        return Err("the URL's path is not plain");
    }
    let mut opening = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a line of the request is no header")?;
        let shown = value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
        if !shown {
            return Err("a header is not plain text");
        }
        if FORWARDED.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            opening.extend([name, ":", value, "\r\n"]);
        }
    }
    opening.push_str("\r\n");
    let target = Target { host, port, path: Some(path.to_owned()) };
    Ok(Request { target, opening: opening.into_bytes() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(request: &Request) -> String {
        String::from_utf8(request.opening.clone()).unwrap()
    }

    #[test]
    fn a_tunnel_is_a_host_and_a_port() {
        let request =
            parse(b"CONNECT A.example:443 HTTP/1.1\r\nHost: evil\r\nProxy-Authorization: x\r\n\r\n").unwrap();
        assert_eq!(request.target, Target { host: "a.example".into(), port: 443, path: None });
        assert!(request.opening.is_empty());
    }

    #[test]
    fn a_request_is_passed_on_with_known_headers_alone() {
        let head = b"GET http://a.example:81/x?y HTTP/1.1\r\nHost: evil\r\nUser-Agent: Nix\r\nCookie: c\r\nConnection: keep-alive\r\nContent-Length: 9\r\n\r\n";
        let request = parse(head).unwrap();
        assert_eq!(request.target, Target { host: "a.example".into(), port: 81, path: Some("/x?y".into()) });
        assert_eq!(
            text(&request),
            "GET /x?y HTTP/1.1\r\nHost: a.example:81\r\nConnection: close\r\nUser-Agent: Nix\r\n\r\n"
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for head in [
            "",
            "\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\n\r\n",
            "GET https://a/ HTTP/1.1\r\n\r\n",
            "GET http://a/../b HTTP/1.1\r\n\r\n",
            "GET http://u:p@a/ HTTP/1.1\r\n\r\n",
            "GET http://a/ HTTP/2\r\n\r\n",
            "GET  http://a/ HTTP/1.1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nno header\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nAccept: a\nX: b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nUser-Agent: \u{202e}\r\n\r\n",
            "CONNECT a HTTP/1.1\r\n\r\n",
            "CONNECT a:b HTTP/1.1\r\n\r\n",
            "CONNECT u@a:1 HTTP/1.1\r\n\r\n",
            "CONNECT http://a:1 HTTP/1.1\r\n\r\n",
        ] {
            assert!(parse(head.as_bytes()).is_err(), "{head:?}");
        }
        assert!(parse(b"GET http://a/\xff HTTP/1.1\r\n\r\n").is_err());
    }

    /// Words that heads are made of, so that many are nearly good.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let words: [&[u8]; 22] = [
            b"GET",
            b"HEAD",
            b"CONNECT",
            b" ",
            b"http://",
            b"a",
            b".b",
            b":80",
            b":443",
            b"/",
            b"..",
            b"%2e",
            b"?",
            b"@",
            b"[::1]",
            b" HTTP/1.1",
            b"\r\n",
            b"\n",
            b"Accept: x",
            b"Range: y",
            b"\r\n\r\n",
            b"\xff",
        ];
        proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..24)
            .prop_map(|words| words.concat())
    }

    proptest! {
        /// Whatever is passed on is one request, to the server that was judged, for the path that was judged.
        #[test]
        fn what_goes_on_is_what_was_judged(head in prop_oneof![pieces(), pieces().prop_map(|rest| {
            [b"GET http://a".as_slice(), &rest, b" HTTP/1.1\r\n\r\n"].concat()
        })]) {
            let Ok(request) = parse(&head) else { return Ok(()) };
            let Some(path) = &request.target.path else {
                prop_assert!(request.opening.is_empty());
                return Ok(());
            };
            let text = text(&request);
            prop_assert_eq!(text.find("\r\n\r\n"), Some(text.len() - 4));
            prop_assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
            let mut lines = text.split("\r\n");
            let first: Vec<&str> = lines.next().unwrap().split(' ').collect();
            prop_assert!(first.len() == 3 && first[1] == path.as_str() && is_plain(path), "{:?}", first);
            let host = lines.next().unwrap().strip_prefix("Host: ").unwrap();
            let (name, port) = host_and_port(host, 80).unwrap();
            prop_assert_eq!((name, port), (request.target.host, request.target.port));
        }
    }
}
