//! What S3 has beside plain objects: uploads in parts, and lists of them and of objects. The bucket is the first part of
//! the path.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::wire::{Answer, Request};
use super::{State, etag};

/// An upload that was begun.
#[derive(Debug)]
pub(super) struct Upload {
    path: String,
    /// Headers of the request that began it: they are the object's.
    headers: BTreeMap<String, String>,
    parts: BTreeMap<u32, Vec<u8>>,
    /// When it was begun, as a listing says it.
    initiated: String,
}

impl State {
    /// The answer to a request that is S3's own; none to any other.
    pub(super) fn answer_s3(&mut self, request: &Request) -> Option<Answer> {
        if request.method == "POST" && request.query("uploads").is_some() {
            let id = self.begin_upload(&request.path(), request.headers.clone(), now());
            let text = format!(
                "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            );
            return Some(Answer::xml(text));
        }
        if request.query("list-type").is_some() {
            return Some(self.list(request));
        }
        if request.method == "GET" && request.query("uploads").is_some() {
            return Some(self.list_uploads(request));
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

    /// Begins an upload; gives its id.
    pub(super) fn begin_upload(
        &mut self,
        path: &str,
        headers: BTreeMap<String, String>,
        initiated: String,
    ) -> String {
        self.uploads_begun += 1;
        let id = format!("upload-{:05}", self.uploads_begun);
        let upload = Upload { path: path.to_owned(), headers, parts: BTreeMap::new(), initiated };
        self.uploads.insert(id.clone(), upload);
        id
    }

    /// Uploads that have not ended, by key and id.
    fn list_uploads(&self, request: &Request) -> Answer {
        let root = format!("/{}/", request.path().trim_matches('/'));
        let word = |name| request.query(name).unwrap_or_default();
        let (prefix, behind) = (word("prefix"), (word("key-marker"), word("upload-id-marker")));
        let max: usize = word("max-uploads").parse().unwrap_or(1000);
        let mut found: Vec<(String, String, &str)> = self
            .uploads
            .iter()
            .filter_map(|(id, upload)| Some((upload.path.strip_prefix(&root)?, id, upload)))
            .filter(|(key, id, _)| key.starts_with(&prefix) && (*key, id.as_str()) > (&*behind.0, &*behind.1))
            .map(|(key, id, upload)| (key.to_owned(), id.clone(), upload.initiated.as_str()))
            .collect();
        found.sort_unstable();
        let more = found.len() > max;
        found.truncate(max);
        let mut text = format!("<ListMultipartUploadsResult><IsTruncated>{more}</IsTruncated>");
        if let Some((key, id, _)) = found.last().filter(|_| more) {
            text +=
                &format!("<NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>");
        }
        for (key, id, initiated) in &found {
            text += &format!(
                "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{initiated}</Initiated></Upload>"
            );
        }
        Answer::xml(text + "</ListMultipartUploadsResult>")
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

/// Now, as S3 writes it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a server has a clock of its own, as real ones do")]
pub fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days counted from 0000-03-01, where a leap day is the last one of its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z")
}
