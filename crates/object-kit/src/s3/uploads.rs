//! Uploads in parts that nobody will end, such as those of a process that was killed. In: a folder of keys and an age.
//! Out: those uploads are aborted, so that the bucket's owner no longer pays for their parts. Never touches an upload
//! of this process, nor any object.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::DATE;
use service_kit::clock::Time;

use super::call::Call;
use super::{LIST_MAX, PAGE_MAX, S3};
use crate::date::parse_http_date;
use crate::error::{Class, Fault, ObjectError};
use crate::xml::{self, Element};

/// Pages of one sweep, of [`PAGE_MAX`] uploads each. What is behind them is left to the next sweep.
const PAGES_MAX: usize = 100;
/// Uploads that one sweep aborts. What is behind them is left to the next sweep.
const ABORTS_MAX: u64 = 10_000;

/// What a sweep found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweptUploads {
    /// Uploads that were aborted.
    pub aborted: u64,
    /// Uploads that were left: too young, of other keys, or of this process.
    pub left: u64,
    /// Whether a bound was reached before the end of the listing.
    pub more: bool,
}

/// A page of uploads under way.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    uploads: Vec<Begun>,
    /// Key and id behind which the next page begins, when there is one.
    next: Option<(String, String)>,
}

/// An upload that was begun and has not ended.
#[derive(Debug, PartialEq, Eq)]
struct Begun {
    key: String,
    id: String,
    at: Time,
}

#[derive(Debug, thiserror::Error)]
#[error("the answer is no listing of uploads")]
struct NoListing;

impl S3 {
    /// Aborts uploads in parts that were begun `age_min` ago or earlier, by the server's clock, and have not ended: of
    /// keys below `folder` (`nar/`) for which `is_ours` holds, and never those of this process. Others may upload to
    /// the same keys, so the age has to be longer than an upload takes.
    ///
    /// # Errors
    /// [`ObjectError`]; of [`Class::Refused`] or [`Class::Credentials`] where the bucket does not let us list its
    /// uploads, or abort one.
    pub async fn sweep_uploads(
        &self,
        folder: &str,
        age_min: Duration,
        is_ours: impl Fn(&str) -> bool + Send,
    ) -> Result<SweptUploads, ObjectError> {
        let mut swept = SweptUploads::default();
        let mut after: Option<(String, String)> = None;
        for _ in 0..PAGES_MAX {
            let listed = self.uploads(folder, after.as_ref()).await;
            let (page, now) = listed.map_err(self.error("list uploads below", folder))?;
            for Begun { key, id, at } in page.uploads {
                let is_old = now.as_ms().saturating_sub(at.as_ms()) >= age_ms(age_min);
                if !is_old || !is_ours(&key) || self.core.uploads.has(&id) {
                    swept.left += 1;
                    continue;
                }
                if swept.aborted == ABORTS_MAX {
                    return Ok(SweptUploads { more: true, ..swept });
                }
                self.abort(&key, &id).await.map_err(self.error("abort an upload of", &key))?;
                swept.aborted += 1;
            }
            // A server whose pages do not go on has no more to tell.
            if page.next.is_none() || page.next == after {
                return Ok(swept);
            }
            after = page.next;
        }
        Ok(SweptUploads { more: true, ..swept })
    }

    /// A page of the uploads under way below a folder, and the time at the server.
    async fn uploads(&self, folder: &str, after: Option<&(String, String)>) -> Result<(Page, Time), Fault> {
        let (ours, folder, count) = (self.core.full(""), self.core.full(folder), PAGE_MAX.to_string());
        let mut query = vec![("uploads", ""), ("max-uploads", count.as_str()), ("prefix", folder.as_str())];
        let marker = after.map(|(key, id)| (self.core.full(key), id));
        if let Some((key, id)) = &marker {
            query.extend([("key-marker", key.as_str()), ("upload-id-marker", id.as_str())]);
        }
        let call = Call { query: &query, bytes_max: LIST_MAX, ..Call::new(Method::GET) };
        let answer = self.core.send(call).await?;
        let root = xml::parse(&answer.body).map_err(|error| Fault::new(Class::Server, error))?;
        let page = page(&root, &ours).ok_or_else(|| Fault::new(Class::Server, NoListing))?;
        let theirs = answer.header(DATE.as_str()).and_then(|date| parse_http_date(date).ok());
        Ok((page, theirs.unwrap_or_else(|| self.core.now())))
    }

    async fn abort(&self, key: &str, id: &str) -> Result<(), Fault> {
        let query = [("uploadId", id)];
        let call = Call { key: Some(key), query: &query, ..Call::new(Method::DELETE) };
        self.core.question(call).await.map(drop) // one that is not there has ended
    }
}

fn age_ms(age: Duration) -> i64 {
    i64::try_from(age.as_millis()).unwrap_or(i64::MAX)
}

/// Reads a listing of uploads. Keys that are not below the prefix are left out; none when it is something else.
fn page(root: &Element, prefix: &str) -> Option<Page> {
    if root.name != "ListMultipartUploadsResult" {
        return None;
    }
    let mut uploads = Vec::new();
    for one in root.all("Upload") {
        let (key, id) = (one.text_of("Key")?, one.text_of("UploadId")?.trim());
        let at = one.text_of("Initiated")?.trim().parse().ok()?;
        if let Some(key) = key.strip_prefix(prefix)
            && !id.is_empty()
        {
            uploads.push(Begun { key: key.to_owned(), id: id.to_owned(), at });
        }
    }
    let more = root.text_of("IsTruncated").is_some_and(|text| text.trim() == "true");
    let marker = |name| root.text_of(name).filter(|_| more);
    let next = marker("NextKeyMarker").filter(|key| !key.is_empty()).and_then(|key| {
        let id = marker("NextUploadIdMarker").unwrap_or_default();
        Some((key.strip_prefix(prefix)?.to_owned(), id.to_owned()))
    });
    Some(Page { uploads, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, prefix: &str) -> Option<Page> {
        page(&xml::parse(text.as_bytes()).unwrap(), prefix)
    }

    fn upload(key: &str, id: &str, at: &str) -> String {
        format!(
            "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiator/><Initiated>{at}</Initiated></Upload>"
        )
    }

    #[test]
    fn a_listing_is_read_as_s3_writes_it() {
        let text = format!(
            "<ListMultipartUploadsResult xmlns='x'><Bucket>b</Bucket><KeyMarker/><NextKeyMarker>p/nar/b</NextKeyMarker>\
             <NextUploadIdMarker>2</NextUploadIdMarker><IsTruncated>true</IsTruncated>{}{}{}</ListMultipartUploadsResult>",
            upload("p/nar/a", "1", "2026-01-31T10:00:00.000Z"),
            upload("q/nar/a", "3", "2026-01-31T10:00:00.000Z"),
            upload("p/nar/b", " 2\n", "2026-01-31T10:00:00Z"),
        );
        let at = Time::from_ms(1_769_853_600_000);
        let begun = |key: &str, id: &str| Begun { key: key.into(), id: id.into(), at };
        let want = Page {
            uploads: vec![begun("nar/a", "1"), begun("nar/b", "2")],
            next: Some(("nar/b".into(), "2".into())),
        };
        assert_eq!(read(&text, "p/"), Some(want));
        let end = text.replace("true", "false");
        assert_eq!(read(&end, "p/").unwrap().next, None, "a marker at the end leads nowhere");
    }

    #[test]
    fn what_is_no_listing_of_uploads_is_none() {
        let around =
            |inside: &str| format!("<ListMultipartUploadsResult>{inside}</ListMultipartUploadsResult>");
        assert_eq!(read(&around(""), ""), Some(Page { uploads: Vec::new(), next: None }));
        for bad in [
            "<ListBucketResult/>".to_owned(),
            around(&upload("a", "1", "yesterday")),
            around("<Upload><Key>a</Key><UploadId>1</UploadId></Upload>"),
            around("<Upload><Key>a</Key><Initiated>2026-01-31T10:00:00Z</Initiated></Upload>"),
        ] {
            assert_eq!(read(&bad, ""), None, "{bad}");
        }
        let nameless = around(&upload("a", "", "2026-01-31T10:00:00Z"));
        assert_eq!(read(&nameless, "").unwrap().uploads, [], "an abort without an id would be a delete");
    }
}
