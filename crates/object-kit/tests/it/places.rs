//! What holds for every kind of place.

use bytes::Bytes;
use object_kit::{BodySize, Chunks, Class, File, Meta, Objects, Outcome, Secret};
use service_kit::clock::Clock;
use test_kit::http_cache::Cache;

use crate::support::{NAR, Odd, WrongHash, bytes, http, line, meta, s3, told};

type Named = (&'static str, Box<dyn Objects>);

/// A place of each kind; the server and the folder live as long as they are held.
fn places() -> (Cache, tempfile::TempDir, Vec<Named>) {
    let (cache, dir) = (Cache::start(), tempfile::tempdir().unwrap());
    let line = line(Clock::system());
    let file = File::new(&dir.path().join("cache"), Clock::system(), Vec::new());
    let all: Vec<Named> = vec![
        ("file", Box::new(file)),
        ("http", Box::new(http(&cache, object_kit::Auth::None, line.clone()))),
        ("s3", Box::new(s3(&cache, line))),
    ];
    (cache, dir, all)
}

#[tokio::test]
async fn what_is_put_is_found_and_goes_again() {
    let (_cache, _dir, places) = places();
    for (name, place) in places {
        assert_eq!(place.get("a.narinfo", 10).await.unwrap(), None, "{name}");
        assert_eq!(place.head("a.narinfo").await.unwrap(), None, "{name}");
        let put = place.put("a.narinfo", Bytes::from_static(b"hello"), &meta()).await.unwrap();
        assert_eq!((put.outcome, put.bytes), (Outcome::Stored, 5), "{name}");
        place.settle().await.unwrap();
        let found = place.get("a.narinfo", 5).await.unwrap().unwrap();
        assert_eq!(&found.bytes[..], b"hello", "{name}");
        let head = place.head("a.narinfo").await.unwrap().unwrap();
        assert_eq!((head.size, &head.tag), (Some(5), &found.tag), "{name}");
        assert!(head.tag.is_some(), "{name}");
        place.put("a.narinfo", Bytes::new(), &meta()).await.unwrap();
        place.settle().await.unwrap();
        let empty = place.get("a.narinfo", 5).await.unwrap().unwrap();
        assert!(empty.bytes.is_empty() && empty.tag != head.tag, "{name}: another object has another tag");
        place.delete("a.narinfo").await.unwrap();
        place.delete("a.narinfo").await.unwrap();
        assert_eq!(place.head("a.narinfo").await.unwrap(), None, "{name}");
    }
}

#[tokio::test]
async fn creating_leaves_what_is_there() {
    let (_cache, _dir, places) = places();
    let create = meta().create();
    for (name, place) in places {
        for (text, outcome) in [("one", Outcome::Stored), ("two", Outcome::Existed)] {
            let put = place.put("nar/x", Bytes::from_static(text.as_bytes()), &create).await.unwrap();
            place.settle().await.unwrap();
            assert_eq!(put.outcome, outcome, "{name}");
        }
        let mut body = Chunks::new([bytes(700), bytes(700), bytes(700)]);
        let put = place.put_stream("nar/x", &mut body, &create, BodySize::at_most(9999)).await.unwrap();
        assert_eq!(put.outcome, Outcome::Existed, "{name}");
        place.settle().await.unwrap();
        assert_eq!(&place.get("nar/x", 9999).await.unwrap().unwrap().bytes[..], b"one", "{name}");
    }
}

#[tokio::test]
async fn matching_replaces_what_was_seen_and_nothing_else() {
    let (_cache, _dir, places) = places();
    for (name, place) in places {
        let put = async |text: &'static str, meta: &Meta| {
            let put = place.put("a", Bytes::from_static(text.as_bytes()), meta).await.unwrap();
            place.settle().await.unwrap();
            put.outcome
        };
        put("one", &meta()).await;
        let one = place.get("a", 99).await.unwrap().unwrap();
        assert_eq!(put("two", &meta().matching(&one)).await, Outcome::Stored, "{name}");
        assert_eq!(put("three!", &meta().matching(&one)).await, Outcome::Existed, "{name}: that one is gone");
        assert_eq!(&place.get("a", 99).await.unwrap().unwrap().bytes[..], b"two", "{name}");
        place.delete("a").await.unwrap();
        assert_eq!(put("four", &meta().matching(&one)).await, Outcome::Existed, "{name}: there is none");
        assert_eq!(place.head("a").await.unwrap(), None, "{name}");
    }
}

#[tokio::test]
async fn long_bodies_arrive_whole_whether_their_length_is_known_or_not() {
    let (cache, _dir, places) = places();
    for (name, place) in places {
        for (len, exact) in [
            (0, true),
            (0, false),
            (999, false),
            (1000, true),
            (1001, false),
            (300_000, true),
            (300_000, false),
        ] {
            let all = bytes(len);
            let mut body = Chunks::new(all.chunks(777).map(Bytes::copy_from_slice));
            let size = if exact { BodySize::exact(len as u64) } else { BodySize::at_most(1 << 20) };
            let put = place.put_stream("nar/long", &mut body, &meta(), size).await.unwrap();
            assert_eq!(put.bytes, len as u64, "{name}");
            place.settle().await.unwrap();
            let found = place.get("nar/long", len).await.unwrap().unwrap();
            assert!(found.bytes == all, "{name}: {len} bytes, exact: {exact}");
        }
    }
    assert_eq!(cache.open_uploads(), 0);
}

#[tokio::test]
async fn a_body_that_fails_or_lies_about_its_length_leaves_nothing() {
    let (cache, dir, places) = places();
    for (name, place) in places {
        let chunks = || vec![bytes(700); 5];
        let mut failing = Odd { chunks: chunks(), then_fail: true };
        let error =
            place.put_stream("nar/x", &mut failing, &meta(), BodySize::at_most(9999)).await.unwrap_err();
        assert_eq!(error.class, Class::Body, "{name}: {}", told(&error));
        assert!(error.cause::<WrongHash>().is_some(), "{name}: the body's own error comes back");
        for size in [BodySize::exact(3400), BodySize::exact(3600), BodySize::at_most(3400)] {
            let error =
                place.put_stream("nar/x", &mut Chunks::new(chunks()), &meta(), size).await.unwrap_err();
            assert_eq!(error.class, Class::Body, "{name} {size:?}: {}", told(&error));
        }
        place.settle().await.unwrap();
        assert_eq!(place.head("nar/x").await.unwrap(), None, "{name}");
    }
    let cache = std::sync::Arc::new(cache);
    let server = std::sync::Arc::clone(&cache);
    crate::support::until(move || server.open_uploads() == 0).await;
    assert!(cache.objects().is_empty());
    let folder = dir.path().join("cache/nar");
    crate::support::until(move || std::fs::read_dir(&folder).unwrap().count() == 0).await;
}

#[tokio::test]
async fn a_future_that_is_dropped_leaves_nothing() {
    let (cache, dir, places) = places();
    for (_, place) in places {
        for chunks in [vec![bytes(10)], vec![bytes(100_000); 5]] {
            let mut body = Odd { chunks, then_fail: false };
            let (whole, soon) = (meta(), Clock::system());
            let put = place.put_stream("nar/x", &mut body, &whole, BodySize::at_most(1 << 20));
            assert!(soon.timeout(std::time::Duration::from_secs(1), put).await.is_err());
        }
        place.settle().await.unwrap();
    }
    let cache = std::sync::Arc::new(cache);
    let server = std::sync::Arc::clone(&cache);
    crate::support::until(move || server.open_uploads() == 0).await;
    assert!(cache.objects().is_empty(), "a body that was cut off looked complete");
    let folder = dir.path().join("cache/nar");
    crate::support::until(move || std::fs::read_dir(&folder).unwrap().count() == 0).await;
}

#[tokio::test]
async fn an_object_larger_than_expected_is_not_read_on() {
    let (_cache, _dir, places) = places();
    for (name, place) in places {
        place.put("x", bytes(100), &meta()).await.unwrap();
        place.settle().await.unwrap();
        let error = place.get("x", 99).await.unwrap_err();
        assert_eq!(error.class, Class::Server, "{name}: {}", told(&error));
    }
}

#[tokio::test]
async fn keys_that_lead_elsewhere_are_refused_everywhere() {
    let (cache, dir, places) = places();
    for (name, place) in places {
        for key in ["../x", "a/../../x", "/x", "", "a\nb"] {
            let error = place.put(key, Bytes::new(), &meta()).await.unwrap_err();
            assert_eq!(error.class, Class::Local, "{name} {key:?}");
            assert!(!told(&error).contains('\n'), "{name} {key:?}");
            assert!(
                place.get(key, 1).await.is_err()
                    && place.head(key).await.is_err()
                    && place.delete(key).await.is_err()
            );
            let stream =
                place.put_stream(key, &mut Chunks::default(), &Meta::new(NAR), BodySize::at_most(1)).await;
            assert!(stream.is_err(), "{name} {key:?}");
        }
    }
    assert!(cache.log().is_empty() && !dir.path().join("x").exists());
}

#[tokio::test]
async fn names_with_odd_characters_are_the_same_objects_again() {
    let (cache, _dir, places) = places();
    let key = "log/a+b=c?d#e&f%41 größe.drv";
    for (name, place) in places {
        place.put(key, Bytes::from_static(b"log"), &meta()).await.unwrap();
        place.settle().await.unwrap();
        assert!(place.head(key).await.unwrap().is_some(), "{name}");
    }
    assert!(
        cache.object(&format!("/base/{key}")).is_some() && cache.object(&format!("/bkt/{key}")).is_some()
    );
}

#[tokio::test]
async fn pages_of_keys_are_in_order_and_whole() {
    let (_cache, _dir, places) = places();
    let mut listed = 0;
    for (name, place) in places {
        if place.list(None, 10).await.unwrap().is_none() {
            assert_eq!(name, "http");
            continue;
        }
        let keys: Vec<String> = (0..25).map(|i| format!("{i:02}.narinfo")).collect();
        for key in keys.iter().rev() {
            place.put(key, bytes(key.len()), &meta()).await.unwrap();
        }
        place.put("nar/not-this", bytes(1), &meta()).await.unwrap();
        place.settle().await.unwrap();
        let (mut found, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
        loop {
            let page = place.list(cursor.as_deref(), 10).await.unwrap().unwrap();
            assert!(
                page.entries.len() <= 10 && page.entries.iter().all(|e| e.size == e.key.len() as u64),
                "{name}"
            );
            found.extend(page.entries.into_iter().map(|entry| entry.key));
            pages += 1;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, keys, "{name}");
        assert!(pages <= 4, "{name}: {pages} pages");
        listed += 1;
    }
    assert_eq!(listed, 2);
}

#[tokio::test]
async fn errors_and_settings_show_no_credentials() {
    let line = object_kit::Line { attempts_max: 1, ..line(Clock::system()) };
    let base = Secret::new("http://ann-name:pass-word@127.0.0.1:1/x");
    let settings =
        object_kit::HttpSettings { base, auth: object_kit::Auth::Bearer(Secret::new("pass-word")), line };
    assert!(!format!("{settings:?}").contains("pass-word"));
    let place = object_kit::Http::new(&settings).unwrap();
    let error = place.delete("x").await.unwrap_err();
    assert_eq!(error.class, Class::Unreachable);
    let text = format!("{} {error:?} {place:?}", told(&error));
    assert!(!text.contains("pass-word") && !text.contains("ann-name"), "{text}");
    assert!(told(&error).starts_with("delete x at http://127.0.0.1:1/x: "), "{text}");
}
