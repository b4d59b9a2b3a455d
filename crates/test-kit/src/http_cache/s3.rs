//! What S3 has beside plain objects: uploads in parts, and lists. The bucket is the first part of the path.

use std::collections::BTreeMap;

use super::wire::{Answer, Request};
use super::{State, etag};

/// An upload that was begun.
#[derive(Debug)]
pub(super) struct Upload {
    path: String,
    /// Headers of the request that began it: they are the object's.
    headers: BTreeMap<String, String>,
    parts: BTreeMap<u32, Vec<u8>>,
}

impl State {
    /// The answer to a request that is S3's own; none to any other.
    pub(super) fn answer_s3(&mut self, request: &Request) -> Option<Answer> {
        if request.method == "POST" && request.query("uploads").is_some() {
            self.uploads_begun += 1;
            let id = format!("upload-{}", self.uploads_begun);
            let upload =
                Upload { path: request.path(), headers: request.headers.clone(), parts: BTreeMap::new() };
            self.uploads.insert(id.clone(), upload);
            let text = format!(
                "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            );
            return Some(Answer::xml(text));
        }
        if request.query("list-type").is_some() {
            return Some(self.list(request));
        }
        let id = request.query("uploadId")?;
        let Some(upload) = self.uploads.get_mut(&id) else { return Some(Answer::missing("NoSuchUpload")) };
        match request.method.as_str() {
            "PUT" => {
                let number = request.query("partNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
                upload.parts.insert(number, request.body.clone());
                let mut answer = Answer::status(200);
                answer.set("ETag", &etag(&request.body));
                Some(answer)
            }
            "POST" => Some(self.complete(&id, request)),
            "DELETE" => {
                self.uploads.remove(&id);
                Some(Answer::status(204))
            }
            _ => Some(Answer::status(405)),
        }
    }

    /// Takes the parts that are named, each with the tag it has; anything else is refused.
    fn complete(&mut self, id: &str, request: &Request) -> Answer {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let upload = &self.uploads[id];
        let mut bytes = Vec::new();
        let mut count = 0;
        for part in text.split("<Part>").skip(1) {
            let inside = |name: &str| {
                let (_, rest) = part.split_once(&format!("<{name}>"))?;
                Some(rest.split_once('<')?.0.replace("&quot;", "\""))
            };
            let number = inside("PartNumber").and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
            let found =
                upload.parts.get(&number).filter(|part| inside("ETag").is_some_and(|tag| tag == etag(part)));
            let Some(part) = found else {
                return Answer::refusal(400, Vec::new(), "<Error><Code>InvalidPart</Code></Error>");
            };
            bytes.extend_from_slice(part);
            count += 1;
        }
        let tag = format!("\"{}-{count}\"", etag(&bytes).trim_matches('"'));
        let (path, headers) = (upload.path.clone(), upload.headers.clone());
        let condition = request.headers.get("if-none-match").cloned();
        let made = Request {
            method: "PUT".into(),
            target: String::new(),
            headers: headers
                .into_iter()
                .chain(condition.map(|tag| ("if-none-match".to_owned(), tag)))
                .collect(),
            body: Vec::new(),
            body_bytes: 0,
        };
        let done = self.put(&path, &made, bytes, tag);
        if done.is_success() {
            self.uploads.remove(id);
            return Answer::xml("<CompleteMultipartUploadResult/>".into());
        }
        done
    }

    fn list(&self, request: &Request) -> Answer {
        let bucket = request.path().trim_matches('/').to_owned();
        let prefix = request.query("prefix").unwrap_or_default();
        let after = request.query("continuation-token").unwrap_or_default();
        let max: usize = request.query("max-keys").and_then(|max| max.parse().ok()).unwrap_or(1000);
        let flat = request.query("delimiter").is_some();
        let root = format!("/{bucket}/");
        let mut keys = self.objects.iter().filter_map(|(path, stored)| {
            let key = path.strip_prefix(&root)?;
            let rest = key.strip_prefix(&prefix)?;
            (key > after.as_str() && !(flat && rest.contains('/'))).then_some((key, stored))
        });
        let mut text = String::from("<?xml version=\"1.0\"?><ListBucketResult>");
        let mut last = "";
        for (key, stored) in keys.by_ref().take(max) {
            last = key;
            let size = stored.bytes.len();
            text += &format!(
                "<Contents><Key>{key}</Key><Size>{size}</Size><ETag>{}</ETag></Contents>",
                stored.etag
            );
        }
        let more = keys.next().is_some();
        text += &format!("<IsTruncated>{more}</IsTruncated>");
        if more {
            text += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
        }
        Answer::xml(text + "</ListBucketResult>")
    }
}
