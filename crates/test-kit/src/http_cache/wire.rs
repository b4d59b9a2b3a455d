//! HTTP/1.1 as far as the test server needs it. In: a connection's bytes. Out: requests; answers go the other way.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;

use super::Stored;

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Bytes of the body that were read. More than are in `body` when that is not kept.
    pub(crate) body_bytes: usize,
}

/// Reads the head of the next request; none when the client is gone.
pub(crate) fn head(from: &mut BufReader<&TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(ErrorKind::InvalidData.into());
    };
    let (method, target) = (method.to_owned(), target.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        if from.read_line(&mut line)? <= 2 {
            return Ok(Some(Request { method, target, headers, body: Vec::new(), body_bytes: 0 }));
        }
        let (name, value) = line.split_once(':').ok_or(ErrorKind::InvalidData)?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

impl Request {
    pub(crate) fn chunked(&self) -> bool {
        self.headers.get("transfer-encoding").is_some_and(|coding| coding.contains("chunked"))
    }

    pub(crate) fn expects_continue(&self) -> bool {
        self.headers.get("expect").is_some_and(|what| what.eq_ignore_ascii_case("100-continue"))
    }

    /// Reads the body, or its first `limit` bytes, and keeps none of it when there are more than `keep`. A body that
    /// ends early is an error, and never an object.
    pub(crate) fn read_body(
        &mut self,
        from: &mut BufReader<&TcpStream>,
        limit: usize,
        keep: usize,
    ) -> io::Result<()> {
        if !self.chunked() {
            let length: usize = self
                .headers
                .get("content-length")
                .map_or(Ok(0), |l| l.parse())
                .map_err(|_| ErrorKind::InvalidData)?;
            return self.take(from, length.min(limit), keep);
        }
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(|_| ErrorKind::UnexpectedEof)?;
            if size == 0 {
                from.read_line(&mut line)?;
                return Ok(());
            }
            self.take(from, size.min(limit.saturating_sub(self.body_bytes)), keep)?;
            if self.body_bytes >= limit {
                return Ok(());
            }
            from.read_line(&mut line)?;
        }
    }

    fn take(&mut self, from: &mut BufReader<&TcpStream>, bytes: usize, keep: usize) -> io::Result<()> {
        let mut part = from.take(bytes as u64);
        let got = if self.body_bytes.saturating_add(bytes) <= keep {
            part.read_to_end(&mut self.body)?
        } else {
            self.body = Vec::new();
            usize::try_from(io::copy(&mut part, &mut io::sink())?).unwrap_or(usize::MAX)
        };
        self.body_bytes += got;
        if got == bytes { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    /// The path, decoded.
    pub(crate) fn path(&self) -> String {
        decoded(self.target.split('?').next().unwrap_or_default())
    }

    /// A part of the query, decoded.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(found, _)| *found == name).map(|(_, value)| decoded(value))
    }
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16)).unwrap_or(0);
            let code = digit() * 16 + digit();
            out.push(u8::try_from(code).unwrap_or(b'?'));
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An answer.
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn refusal(status: u16, headers: Vec<(String, String)>, body: &str) -> Self {
        Self { status, headers, body: body.as_bytes().to_vec() }
    }

    /// 404 with S3's word for it.
    pub(crate) fn missing(code: &str) -> Self {
        Self::refusal(404, Vec::new(), &format!("<Error><Code>{code}</Code></Error>"))
    }

    pub(crate) fn xml(text: String) -> Self {
        Self {
            status: 200,
            headers: vec![("Content-Type".into(), "application/xml".into())],
            body: text.into_bytes(),
        }
    }

    /// JSON with a status.
    pub(crate) fn json(status: u16, text: &str) -> Self {
        Self::refusal(status, vec![("Content-Type".into(), "application/json".into())], text)
    }

    pub(crate) fn object(stored: &Stored) -> Self {
        let mut answer = Self { status: 200, headers: Vec::new(), body: stored.bytes.clone() };
        answer.set("ETag", &stored.etag);
        for (name, shown) in [("content-type", "Content-Type"), ("content-encoding", "Content-Encoding")] {
            if let Some(value) = stored.headers.get(name) {
                answer.set(shown, value);
            }
        }
        answer
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(there, _)| there != name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn is_success(&self) -> bool {
        self.status < 300
    }

    fn head(&self) -> String {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("HTTP/1.1 {} Said\r\n{headers}Content-Length: {}\r\n\r\n", self.status, self.body.len())
    }

    pub(crate) fn write(&self, mut client: &TcpStream, head_only: bool) -> io::Result<()> {
        let body = if head_only || self.status == 204 { &[][..] } else { &self.body };
        client.write_all(&[self.head().as_bytes(), body].concat())
    }

    pub(crate) fn write_part(&self, mut client: &TcpStream, bytes: usize) -> io::Result<()> {
        client.write_all(&[self.head().as_bytes(), &self.body[..bytes]].concat())
    }

    pub(crate) fn write_slowly(
        &self,
        mut client: &TcpStream,
        bytes: usize,
        wait: impl Fn() -> bool,
    ) -> io::Result<()> {
        client.write_all(self.head().as_bytes())?;
        for part in self.body.chunks(bytes.max(1)) {
            if !wait() {
                return Err(ErrorKind::NotConnected.into());
            }
            client.write_all(part)?;
        }
        Ok(())
    }
}
