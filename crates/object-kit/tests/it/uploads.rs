//! Uploads in parts that nobody will end: which of them a sweep aborts, and what it leaves alone.

use std::time::Duration;

use bytes::Bytes;
use object_kit::aws::Credentials;
use object_kit::{Body, BodyError, BodySize, Class, Objects, S3, SweptUploads, Work};
use service_kit::clock::Clock;
use test_kit::http_cache::{Cache, Fault, Rule};
use tokio::sync::mpsc;

use crate::support::{START, bytes, hurried, hurry, keys, line, meta, s3, s3_settings, told};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A day and a moment before [`START`].
const OLD: &str = "2026-01-30T09:59:59.999Z";
/// A day less a moment before it.
const YOUNG: &str = "2026-01-30T10:00:00.001Z";

fn is_archive(key: &str) -> bool {
    key.ends_with(".nar.zst")
}

fn swept(aborted: u64, left: u64) -> SweptUploads {
    SweptUploads { aborted, left, more: false }
}

#[tokio::test]
async fn old_uploads_of_our_keys_are_aborted_and_no_others() {
    let cache = Cache::start();
    let (clock, _manual) = Clock::manual(START);
    let mut settings = s3_settings(&cache.url(), Credentials::Keys(keys()), line(clock));
    settings.prefix = "team".into();
    let place = S3::new(&settings).unwrap();
    let gone = [
        cache.begin_upload("/bkt/team/nar/a.nar.zst", OLD),
        cache.begin_upload("/bkt/team/nar/a.nar.zst", OLD),
        cache.begin_upload("/bkt/team/nar/z.nar.zst", "2020-02-29T00:00:00Z"),
    ];
    let kept = [
        cache.begin_upload("/bkt/team/nar/a.nar.zst", YOUNG),
        cache.begin_upload("/bkt/team/nar/b.iso", OLD),
        cache.begin_upload("/bkt/team/backup/a.nar.zst", OLD),
        cache.begin_upload("/bkt/nar/a.nar.zst", OLD),
        cache.begin_upload("/other/team/nar/a.nar.zst", OLD),
    ];
    cache.insert("/bkt/team/nar/a.nar.zst", b"whole");
    assert_eq!(place.sweep_uploads("nar/", DAY, is_archive).await.unwrap(), swept(3, 2));
    assert!(gone.iter().all(|id| !cache.has_upload(id)));
    assert!(kept.iter().all(|id| cache.has_upload(id)));
    assert_eq!(cache.object("/bkt/team/nar/a.nar.zst").unwrap().bytes, b"whole");
    assert_eq!(place.sweep_uploads("nar/", DAY, is_archive).await.unwrap(), swept(0, 2));
}

#[tokio::test]
async fn pages_are_followed_and_one_that_stands_still_ends_it() {
    let cache = Cache::start();
    let (clock, _manual) = Clock::manual(START);
    let place = s3(&cache, line(clock));
    for number in 0..2_500 {
        let at = if number % 2 == 0 { OLD } else { YOUNG };
        let _id = cache.begin_upload(&format!("/bkt/nar/{}.nar.zst", number / 4), at);
    }
    assert_eq!(place.sweep_uploads("nar/", DAY, is_archive).await.unwrap(), swept(1_250, 1_250));
    assert_eq!(cache.open_uploads(), 1_250);
    let pages = cache.log().iter().filter(|seen| seen.method == "GET").count();
    assert_eq!(pages, 3);
    let again = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>nar/k</NextKeyMarker>\
                 </ListMultipartUploadsResult>";
    cache.fault(Rule::always("GET", "uploads", Fault::Answer(200, Vec::new(), again.into())));
    assert_eq!(place.sweep_uploads("nar/", DAY, is_archive).await.unwrap(), swept(0, 0));
}

/// A bound is reached: a listing that has no end does not hold us for ever.
#[tokio::test]
async fn a_listing_without_an_end_is_left() {
    let cache = Cache::start();
    for number in 0..101 {
        let page = format!(
            "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>nar/{number}</NextKeyMarker>\
             </ListMultipartUploadsResult>"
        );
        cache.fault(Rule::once("GET", "uploads", Fault::Answer(200, Vec::new(), page)));
    }
    let swept = s3(&cache, line(Clock::system())).sweep_uploads("nar/", DAY, is_archive).await.unwrap();
    assert_eq!((swept, cache.log().len()), (SweptUploads { more: true, ..SweptUploads::default() }, 100));
}

#[tokio::test]
async fn the_servers_clock_says_how_old_an_upload_is() {
    let cache = Cache::start();
    let (clock, manual) = Clock::manual(START);
    manual.step(100 * DAY);
    let id = cache.begin_upload("/bkt/nar/a.nar.zst", YOUNG);
    let page = format!(
        "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><Upload><Key>nar/a.nar.zst</Key>\
         <UploadId>{id}</UploadId><Initiated>{YOUNG}</Initiated></Upload></ListMultipartUploadsResult>"
    );
    let date = vec![("Date".to_owned(), "Sat, 31 Jan 2026 10:00:00 GMT".to_owned())];
    cache.fault(Rule::once("GET", "uploads", Fault::Answer(200, date, page)));
    let place = s3(&cache, line(clock));
    assert_eq!(place.sweep_uploads("nar/", DAY, is_archive).await.unwrap(), swept(0, 1));
    assert!(cache.has_upload(&id), "our clock is wrong, and the upload is young");
}

/// A body that goes on when it is told to.
struct Held(mpsc::Receiver<Bytes>);

impl Body for Held {
    fn next<'a>(&'a mut self) -> Work<'a, Option<Result<Bytes, BodyError>>> {
        Box::pin(async move { self.0.recv().await.map(Ok) })
    }
}

#[tokio::test]
async fn an_upload_of_our_own_is_never_aborted_however_long_it_takes() {
    let cache = Cache::start();
    let place = s3(&cache, line(Clock::system()));
    let (chunks, held) = mpsc::channel(1);
    let uploading = place.clone();
    let put = tokio::spawn(async move {
        let size = BodySize::exact(3_000);
        uploading.put_stream("nar/own.nar.zst", &mut Held(held), &meta(), size).await
    });
    chunks.send(bytes(1_500)).await.unwrap();
    chunks.send(bytes(1_500)).await.unwrap(); // taken once the upload has been begun
    chunks.reserve().await.unwrap();
    assert_eq!(cache.open_uploads(), 1);
    assert_eq!(place.sweep_uploads("nar/", Duration::ZERO, is_archive).await.unwrap(), swept(0, 1));
    drop(chunks);
    put.await.unwrap().unwrap();
    assert_eq!(cache.object("/bkt/nar/own.nar.zst").unwrap().bytes.len(), 3_000);
    let id = cache.begin_upload("/bkt/nar/own.nar.zst", OLD);
    assert_eq!(place.sweep_uploads("nar/", DAY, is_archive).await.unwrap(), swept(1, 0));
    assert!(!cache.has_upload(&id));
}

#[tokio::test]
async fn a_place_that_cannot_list_uploads_says_so_at_once() {
    for (status, class) in [
        (403, Class::Credentials),
        (405, Class::Refused),
        (501, Class::Refused),
        (400, Class::Refused),
        (404, Class::Refused),
    ] {
        let cache = Cache::start();
        cache.fault(Rule::always("GET", "uploads", Fault::Answer(status, Vec::new(), String::new())));
        let place = s3(&cache, line(Clock::system()));
        let error = place.sweep_uploads("nar/", DAY, is_archive).await.unwrap_err();
        assert_eq!((error.class, cache.log().len()), (class, 1), "{status}: {}", told(&error));
        assert!(told(&error).starts_with("list uploads below nar/ at s3://bkt"), "{}", told(&error));
    }
}

#[tokio::test]
async fn answers_that_make_no_sense_abort_nothing() {
    let listing = |inside: &str| format!("<ListMultipartUploadsResult>{inside}</ListMultipartUploadsResult>");
    for answer in [
        String::new(),
        "<html>".into(),
        "<ListBucketResult/>".into(),
        listing(
            "<Upload><Key>nar/a.nar.zst</Key><UploadId>x</UploadId><Initiated>never</Initiated></Upload>",
        ),
    ] {
        let cache = Cache::start();
        cache.fault(Rule::always("GET", "uploads", Fault::Answer(200, Vec::new(), answer)));
        let (line, manual) = hurried();
        let place = s3(&cache, line);
        let error = hurry(&manual, place.sweep_uploads("nar/", DAY, is_archive)).await.unwrap_err();
        assert_eq!(error.class, Class::Server, "{}", told(&error));
        assert!(cache.log().iter().all(|seen| seen.method == "GET"));
    }
}

#[tokio::test]
async fn an_upload_that_ended_meanwhile_is_no_error_and_one_we_may_not_abort_is() {
    let cache = Cache::start();
    let page = format!(
        "<ListMultipartUploadsResult><Upload><Key>nar/a.nar.zst</Key><UploadId>ended</UploadId>\
         <Initiated>{OLD}</Initiated></Upload></ListMultipartUploadsResult>"
    );
    cache.fault(Rule::once("GET", "uploads", Fault::Answer(200, Vec::new(), page)));
    let place = s3(&cache, line(Clock::system()));
    assert_eq!(place.sweep_uploads("nar/", DAY, is_archive).await.unwrap(), swept(1, 0));
    let _id = cache.begin_upload("/bkt/nar/a.nar.zst", OLD);
    cache.fault(Rule::always("DELETE", "uploadId", Fault::Answer(403, Vec::new(), String::new())));
    let error = place.sweep_uploads("nar/", DAY, is_archive).await.unwrap_err();
    assert_eq!(error.class, Class::Credentials);
    assert!(told(&error).starts_with("abort an upload of nar/a.nar.zst at"), "{}", told(&error));
}
