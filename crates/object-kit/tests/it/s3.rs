//! Objects in a bucket: what S3 says on bad days, and what becomes of it.

use std::sync::Arc;

use bytes::Bytes;
use object_kit::aws::Credentials;
use object_kit::{BodySize, Chunks, Class, Objects, Outcome, S3};
use service_kit::clock::Clock;
use test_kit::http_cache::{Cache, Fault, Rule};

use crate::support::{START, bytes, hurried, hurry, keys, line, meta, s3, s3_settings, told, until};

fn says(status: u16, code: &str) -> Fault {
    let body = format!("<Error><Code>{code}</Code><Message>why\u{1b}[31m</Message></Error>");
    Fault::Answer(status, Vec::new(), body)
}

fn status(status: u16) -> Fault {
    Fault::Answer(status, Vec::new(), String::new())
}

/// A bare 403, as HEAD gets it.
fn denied() -> Fault {
    status(403)
}

#[tokio::test]
async fn each_word_of_s3_has_its_class() {
    let cases = [
        (503, "SlowDown", Class::Busy, 4),
        (400, "RequestTimeout", Class::Busy, 4),
        (409, "ConditionalRequestConflict", Class::Busy, 4),
        (500, "InternalError", Class::Server, 4),
        (403, "AccessDenied", Class::Credentials, 1),
        (403, "InvalidAccessKeyId", Class::Credentials, 1),
        (400, "ExpiredToken", Class::Credentials, 1),
        (400, "EntityTooLarge", Class::TooLarge, 1),
        (404, "NoSuchBucket", Class::Refused, 1),
        (412, "PreconditionFailed", Class::Refused, 1),
    ];
    for (status, code, class, attempts) in cases {
        let cache = Cache::start();
        cache.fault(Rule::always("PUT", "", says(status, code)));
        let (line, manual) = hurried();
        let error = hurry(&manual, s3(&cache, line).put("x", bytes(9), &meta())).await.unwrap_err();
        assert_eq!((error.class, cache.log().len()), (class, attempts), "{code}: {}", told(&error));
        assert!(told(&error).contains(code) && !told(&error).contains('\u{1b}'), "{}", told(&error));
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_no_absent_object() {
    let cache = Cache::start();
    cache.fault(Rule::always("GET", "", says(404, "NoSuchBucket")));
    let error = s3(&cache, line(Clock::system())).get("x", 1).await.unwrap_err();
    assert_eq!(error.class, Class::Refused, "{}", told(&error));
}

#[tokio::test]
async fn a_denied_head_is_decided_by_a_list() {
    let cache = Cache::start();
    cache.insert("/bkt/there", b"12345");
    cache.insert("/bkt/there-too", b"1");
    cache.fault(Rule::always("HEAD", "", denied()));
    let place = s3(&cache, line(Clock::system()));
    assert_eq!(place.head("there").await.unwrap().unwrap().size, Some(5));
    assert_eq!(place.head("ther").await.unwrap(), None);
}

#[tokio::test]
async fn where_neither_head_nor_list_is_allowed_keys_count_as_absent() {
    let cache = Cache::start();
    cache.fault(Rule::always("HEAD", "", denied()));
    cache.fault(Rule::always("GET", "", says(403, "AccessDenied")));
    let place = s3(&cache, line(Clock::system()));
    assert_eq!(place.head("x").await.unwrap(), None);
    assert_eq!(place.get("x", 9).await.unwrap(), None);
    assert_eq!(cache.log().len(), 3, "the list is not asked twice");
    place.put("x", bytes(1), &meta()).await.unwrap();
}

#[tokio::test]
async fn a_bucket_that_may_not_be_listed_says_so_once_and_is_still_read() {
    let cache = Cache::start();
    cache.insert("/bkt/x", b"1");
    cache.fault(Rule::always("GET", "list-type", says(403, "AccessDenied")));
    let place = s3(&cache, line(Clock::system()));
    for _ in 0..2 {
        assert_eq!(place.list(None, 10).await.unwrap(), None);
    }
    assert_eq!(cache.log().len(), 1);
    assert_eq!(&place.get("x", 9).await.unwrap().unwrap().bytes[..], b"1");
}

#[tokio::test]
async fn a_server_without_lists_is_no_fault_and_wrong_keys_are_one() {
    for fault in [says(501, "NotImplemented"), says(405, "MethodNotAllowed"), status(501), status(405)] {
        let cache = Cache::start();
        cache.fault(Rule::always("GET", "list-type", fault.clone()));
        let place = s3(&cache, line(Clock::system()));
        assert_eq!(place.list(None, 10).await.unwrap(), None, "{fault:?}");
        assert_eq!(cache.log().len(), 1, "{fault:?} is not repeated");
    }
    let cache = Cache::start();
    cache.fault(Rule::always("GET", "list-type", says(403, "InvalidAccessKeyId")));
    let error = s3(&cache, line(Clock::system())).list(None, 10).await.unwrap_err();
    assert_eq!(error.class, Class::Credentials);
}

/// Some servers refuse the condition itself: they get the write without it, and from then on all others.
#[tokio::test]
async fn a_server_that_refuses_conditions_gets_none() {
    let words = [
        (501, ""),
        (501, "<Error><Code>NotImplemented</Code></Error>"),
        (400, "<Error><Code>InvalidArgument</Code></Error>"),
    ];
    let create = meta().create();
    for (status, body) in words {
        for long in [false, true] {
            let cache = Cache::start();
            cache.fault(Rule::always("PUT", "", Fault::NoConditions(status, body)));
            cache.fault(Rule::always("POST", "", Fault::NoConditions(status, body)));
            let place = s3(&cache, line(Clock::system()));
            for key in ["x", "y"] {
                let mut chunks = Chunks::new(vec![bytes(1000); if long { 3 } else { 1 }]);
                let put = if long {
                    place.put_stream(key, &mut chunks, &create, BodySize::exact(3000)).await
                } else {
                    place.put(key, bytes(1000), &create).await
                };
                assert_eq!(put.unwrap().outcome, Outcome::Stored, "{status} {body} {long}");
                assert!(cache.object(&format!("/bkt/{key}")).is_some());
            }
            let conditions = cache.log().iter().filter(|s| s.headers.contains_key("if-none-match")).count();
            assert_eq!((conditions, cache.open_uploads()), (1, 0), "{status} {body} {long}");
        }
    }
}

#[tokio::test]
async fn what_is_refused_without_a_condition_too_is_refused() {
    let cache = Cache::start();
    cache.fault(Rule::always("PUT", "", says(400, "InvalidArgument")));
    let place = s3(&cache, line(Clock::system()));
    let error = place.put("x", bytes(1), &meta().create()).await.unwrap_err();
    assert_eq!((error.class, cache.log().len()), (Class::Refused, 2));
    cache.heal();
    place.put("x", bytes(1), &meta().create()).await.unwrap();
    assert!(cache.log()[2].headers.contains_key("if-none-match"), "it was not the condition");
}

#[tokio::test]
async fn a_list_that_has_more_and_does_not_say_where_is_none() {
    let cache = Cache::start();
    let text = "<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents><IsTruncated>true</IsTruncated>\
                <NextMarker>a</NextMarker></ListBucketResult>";
    cache.fault(Rule::always("GET", "list-type", Fault::Answer(200, Vec::new(), text.into())));
    assert_eq!(s3(&cache, line(Clock::system())).list(None, 10).await.unwrap(), None);
}

#[tokio::test]
async fn keys_that_are_wrong_are_no_absence() {
    let cache = Cache::start();
    cache.fault(Rule::always("HEAD", "", denied()));
    cache.fault(Rule::always("GET", "", says(403, "InvalidAccessKeyId")));
    let place = s3(&cache, line(Clock::system()));
    assert_eq!(place.head("x").await.unwrap_err().class, Class::Credentials);
    assert_eq!(place.get("x", 9).await.unwrap_err().class, Class::Credentials);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_corrected_once() {
    let cache = Cache::start();
    let skewed = Fault::Answer(
        403,
        vec![("Date".into(), "Sun, 01 Feb 2026 10:00:00 GMT".into())],
        "<Error><Code>RequestTimeTooSkewed</Code></Error>".into(),
    );
    cache.fault(Rule::once("PUT", "", skewed.clone()));
    let (clock, _manual) = Clock::manual(START);
    let place = s3(&cache, line(clock));
    place.put("x", bytes(1), &meta()).await.unwrap();
    place.put("y", bytes(1), &meta()).await.unwrap();
    let dates: Vec<String> = cache.log().iter().map(|seen| seen.headers["x-amz-date"].clone()).collect();
    assert_eq!(dates, ["20260131T100000Z", "20260201T100000Z", "20260201T100000Z"], "the error is kept");
    cache.fault(Rule::always("PUT", "", skewed));
    assert_eq!(place.put("z", bytes(1), &meta()).await.unwrap_err().class, Class::Credentials);
}

#[tokio::test]
async fn a_clock_that_goes_wrong_before_the_end_of_an_upload_is_corrected() {
    let cache = Cache::start();
    let skewed = Fault::Answer(
        403,
        vec![("Date".into(), "Sun, 01 Feb 2026 10:00:00 GMT".into())],
        "<Error><Code>RequestTimeTooSkewed</Code></Error>".into(),
    );
    cache.fault(Rule::once("POST", "uploadId", skewed));
    let (clock, _manual) = Clock::manual(START);
    let mut body = Chunks::new(vec![bytes(1000); 3]);
    s3(&cache, line(clock)).put_stream("x", &mut body, &meta(), BodySize::exact(3000)).await.unwrap();
    assert_eq!(cache.log().last().unwrap().headers["x-amz-date"], "20260201T100000Z");
    assert_eq!(cache.object("/bkt/x").unwrap().bytes.len(), 3000);
}

#[tokio::test]
async fn a_bucket_of_another_region_is_signed_for_there() {
    let cache = Cache::start();
    let moved = Fault::Answer(
        301,
        vec![("x-amz-bucket-region".into(), "eu-west-3".into())],
        "<Error><Code>PermanentRedirect</Code></Error>".into(),
    );
    cache.fault(Rule::once("PUT", "", moved));
    let place = s3(&cache, line(Clock::system()));
    place.put("x", bytes(1), &meta()).await.unwrap();
    let signed = cache.log().iter().map(|seen| seen.headers["authorization"].clone()).collect::<Vec<_>>();
    assert!(signed[0].contains("/us-east-1/s3/") && signed[1].contains("/eu-west-3/s3/"), "{signed:?}");
}

#[tokio::test]
async fn parts_are_repeated_alone_and_completed_once() {
    let cache = Cache::start();
    let (line, manual) = hurried();
    let place = s3(&cache, line);
    for number in [1, 3] {
        cache.fault(Rule::once("PUT", &format!("partNumber={number}&"), Fault::LostAnswer));
    }
    cache.fault(Rule::once("PUT", "partNumber=2&", says(503, "SlowDown")));
    let all = bytes(4500);
    let mut body = Chunks::new(all.chunks(100).map(Bytes::copy_from_slice));
    let whole = meta();
    let put = place.put_stream("nar/x", &mut body, &whole, BodySize::at_most(9999));
    assert_eq!(hurry(&manual, put).await.unwrap().bytes, 4500);
    assert!(cache.object("/bkt/nar/x").unwrap().bytes == all);
    assert_eq!(cache.object("/bkt/nar/x").unwrap().headers["content-type"], crate::support::NAR);
    let parts = cache.log().iter().filter(|seen| seen.target.contains("partNumber")).count();
    assert_eq!((parts, cache.open_uploads()), (5 + 3, 0));
}

#[tokio::test]
async fn a_part_that_cannot_be_sent_aborts_the_upload() {
    let cache = Arc::new(Cache::start());
    cache.fault(Rule::always("PUT", "partNumber=2&", says(403, "AccessDenied")));
    let place = s3(&cache, line(Clock::system()));
    let mut body = Chunks::new(vec![bytes(1000); 5]);
    let error = place.put_stream("x", &mut body, &meta(), BodySize::at_most(9999)).await.unwrap_err();
    assert_eq!(error.class, Class::Credentials);
    let server = Arc::clone(&cache);
    until(move || server.open_uploads() == 0 && server.log().iter().any(|s| s.method == "DELETE")).await;
    assert!(cache.objects().is_empty());
}

#[tokio::test]
async fn the_end_of_an_upload_is_decided_by_what_is_there() {
    let failed = |code: &str| Fault::Answer(200, Vec::new(), format!("<Error><Code>{code}</Code></Error>"));
    let odd = [
        (Fault::LostAnswer, 1),
        (failed("InternalError"), 2),
        (failed("SlowDown"), 2),
        (says(500, "InternalError"), 2),
        (Fault::Answer(200, Vec::new(), String::new()), 2),
        (Fault::Truncated, 1),
    ];
    for (fault, ends) in odd {
        let cache = Cache::start();
        let (line, manual) = hurried();
        let place = s3(&cache, line);
        cache.fault(Rule::once("POST", "uploadId", fault.clone()));
        let mut body = Chunks::new(vec![bytes(1000); 3]);
        let whole = meta();
        let put = place.put_stream("x", &mut body, &whole, BodySize::exact(3000));
        let put = hurry(&manual, put).await.unwrap();
        assert_eq!((put.outcome, put.bytes), (Outcome::Stored, 3000), "{fault:?}");
        assert_eq!(cache.object("/bkt/x").unwrap().bytes.len(), 3000, "{fault:?}");
        let asked =
            cache.log().iter().filter(|s| s.method == "POST" && s.target.contains("uploadId")).count();
        assert_eq!(asked, ends, "{fault:?}");
    }
}

/// An older object of the same size lies there: it is not what was uploaded.
#[tokio::test]
async fn an_older_object_is_not_taken_for_the_end_of_an_upload() {
    let cache = Cache::start();
    cache.insert("/bkt/x", &[0; 3000]);
    cache.fault(Rule::always("HEAD", "/x", Fault::Header("Last-Modified", "Sat, 31 Jan 2026 09:00:00 GMT")));
    cache.fault(Rule::once("POST", "uploads", Fault::Header("Date", "Sat, 31 Jan 2026 10:00:00 GMT")));
    cache.fault(Rule::once("POST", "uploadId", says(500, "InternalError")));
    let (line, manual) = hurried();
    let (place, mut body, whole) = (s3(&cache, line), Chunks::new(vec![bytes(1000); 3]), meta());
    let put = place.put_stream("x", &mut body, &whole, BodySize::exact(3000));
    hurry(&manual, put).await.unwrap();
    assert!(cache.object("/bkt/x").unwrap().bytes == vec![bytes(1000); 3].concat());
    assert_eq!(cache.open_uploads(), 0);
}

#[tokio::test]
async fn an_end_that_is_refused_is_a_failure_whatever_is_there() {
    let cache = Arc::new(Cache::start());
    cache.insert("/bkt/x", &[0; 3000]);
    cache.fault(Rule::always("POST", "uploadId", says(400, "InvalidPart")));
    let place = s3(&cache, line(Clock::system()));
    let mut body = Chunks::new(vec![bytes(1000); 3]);
    let error = place.put_stream("x", &mut body, &meta(), BodySize::exact(3000)).await.unwrap_err();
    assert_eq!(error.class, Class::Refused, "{}", told(&error));
    let server = Arc::clone(&cache);
    until(move || server.open_uploads() == 0).await;
}

/// Where nothing tells an older object apart, at least no parts are left over.
#[tokio::test]
async fn an_end_that_was_not_told_leaves_no_upload() {
    let cache = Arc::new(Cache::start());
    cache.insert("/bkt/x", &[0; 3000]);
    cache.fault(Rule::once("POST", "uploadId", says(500, "InternalError")));
    let place = s3(&cache, line(Clock::system()));
    let mut body = Chunks::new(vec![bytes(1000); 3]);
    let put = place.put_stream("x", &mut body, &meta(), BodySize::exact(3000)).await.unwrap();
    assert_eq!(put.outcome, Outcome::Stored);
    let server = Arc::clone(&cache);
    until(move || server.open_uploads() == 0).await;
}

#[tokio::test]
async fn an_end_that_never_works_is_a_failure_and_leaves_nothing() {
    let cache = Arc::new(Cache::start());
    let (line, manual) = hurried();
    let place = s3(&cache, line);
    let error = Fault::Answer(200, Vec::new(), "<Error><Code>InternalError</Code></Error>".into());
    cache.fault(Rule::always("POST", "uploadId", error));
    let mut body = Chunks::new(vec![bytes(1000); 3]);
    let whole = meta();
    let put = place.put_stream("x", &mut body, &whole, BodySize::exact(3000));
    assert_eq!(hurry(&manual, put).await.unwrap_err().class, Class::Server);
    let server = Arc::clone(&cache);
    hurry(&manual, until(move || server.open_uploads() == 0)).await;
    assert!(cache.objects().is_empty());
}

#[tokio::test]
async fn parts_grow_with_what_a_body_may_have() {
    let cache = Cache::start();
    let place = s3(&cache, line(Clock::system()));
    let mut body = Chunks::new(vec![bytes(1000); 20]);
    // 9,000 parts of 1,000 bytes are 9 MB: for twice as much they have to be twice as large.
    place.put_stream("x", &mut body, &meta(), BodySize::at_most(18_000_000)).await.unwrap();
    let parts: Vec<usize> =
        cache.log().iter().filter(|s| s.target.contains("partNumber")).map(|s| s.body_bytes).collect();
    assert_eq!(parts, [2000; 10]);
}

#[tokio::test]
async fn classes_prefixes_and_nobody() {
    let cache = Cache::start();
    let mut settings = s3_settings(&cache.url(), Credentials::Anonymous, line(Clock::system()));
    settings.prefix = "team/cache".into();
    settings.storage_class = Some("STANDARD_IA".into());
    let place = S3::new(&settings).unwrap();
    place.put("x", bytes(1), &meta()).await.unwrap();
    place
        .put_stream("y", &mut Chunks::new(vec![bytes(700); 3]), &meta(), BodySize::exact(2100))
        .await
        .unwrap();
    let page = place.list(None, 10).await.unwrap().unwrap();
    assert_eq!(page.entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["x", "y"]);
    assert!(cache.log().iter().all(|seen| !seen.headers.contains_key("authorization")));
    for key in ["x", "y"] {
        let stored = cache.object(&format!("/bkt/team/cache/{key}")).unwrap();
        assert_eq!(stored.headers["x-amz-storage-class"], "STANDARD_IA");
    }
    assert!(place.place().starts_with("s3://bkt/team/cache at http://127.0.0.1:"));
    settings.prefix = "/x".into();
    assert_eq!(S3::new(&settings).unwrap_err().class, Class::Local);
}

#[tokio::test]
async fn with_faults_at_every_turn_receipts_are_objects() {
    let mut seeded = test_kit::seed::start();
    let cache = Cache::start_seeded(seeded.rng.next_u64());
    let faults = [
        Fault::Reset,
        Fault::LostAnswer,
        Fault::Truncated,
        Fault::CutAfter(3),
        says(503, "SlowDown"),
        says(500, "InternalError"),
    ];
    for fault in faults {
        cache.fault(Rule { method: None, target: String::new(), times: u32::MAX, of_thousand: 15, fault });
    }
    let (line, manual) = hurried();
    let place = s3(&cache, line);
    let mut stored = 0;
    for number in 0..200 {
        let key = format!("nar/{number}");
        let all = bytes(seeded.rng.index(5000));
        let mut body = Chunks::new(all.chunks(333).map(Bytes::copy_from_slice));
        let whole = meta();
        let put = place.put_stream(&key, &mut body, &whole, BodySize::at_most(5000));
        if hurry(&manual, put).await.is_ok() {
            stored += 1;
            assert!(
                cache.object(&format!("/bkt/{key}")).unwrap().bytes == all,
                "{key} of {} bytes",
                all.len()
            );
        }
    }
    println!("{stored} of 200 stored, {} requests", cache.log().len());
    assert!(stored > 150, "{stored}");
    for (path, object) in cache.objects() {
        assert!(object.bytes == bytes(object.bytes.len()), "{path} is not what anybody put");
    }
}

#[tokio::test]
async fn keys_are_not_shown() {
    let text = format!("{:?}", s3_settings("h", Credentials::Keys(keys()), line(Clock::system())));
    assert!(!text.contains("secret-of") && !text.contains("AKIDEXAMPLE"), "{text}");
}

/// The end of an upload that begins as a success can be a refusal that quotes our token.
#[tokio::test]
async fn a_refusal_inside_a_success_shows_no_token() {
    const CANARY: &str = "canary-session+4711";
    for spelling in ["canary-session+4711", "canary-session&#43;4711", "canary-session%2B4711"] {
        let cache = Cache::start();
        let (line, manual) = hurried();
        let keys = object_kit::aws::Keys { session: Some(object_kit::Secret::new(CANARY)), ..keys() };
        let place = S3::new(&s3_settings(&cache.url(), Credentials::Keys(keys), line)).unwrap();
        let text = format!("<Error><Code>MalformedXML</Code><Message>you said {spelling}</Message></Error>");
        cache.fault(Rule::always("POST", "uploadId", Fault::Answer(200, Vec::new(), text)));
        let mut body = Chunks::new(vec![bytes(1000); 3]);
        let whole = meta();
        let put = place.put_stream("x", &mut body, &whole, BodySize::exact(3000));
        let told = told(&hurry(&manual, put).await.unwrap_err());
        assert!(told.contains("MalformedXML: you said ***"), "{told}");
    }
}
