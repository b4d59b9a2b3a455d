//! Objects behind an HTTP server: as whom, and what each kind of bad day is called.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use object_kit::{
    Asked, Auth, BodySize, Chunks, Class, Line, Login, Meta, Objects, Outcome, Secret, Teller, Work, chain,
};
use service_kit::clock::Clock;
use service_kit::http::Reach;
use test_kit::http_cache::{Cache, Fault, Rule};

use crate::support::{NAR, START, bytes, counter, http, hurried, hurry, hurry_by, line, meta, told};

fn status(status: u16) -> Fault {
    Fault::Answer(status, Vec::new(), "the reason\u{1b}[31m\nmore".into())
}

#[tokio::test]
async fn each_way_to_say_who_we_are() {
    let dir = tempfile::tempdir().unwrap();
    let netrc = dir.path().join("netrc");
    std::fs::write(&netrc, "machine 127.0.0.1 login ann password s3cret").unwrap();
    let basic = Auth::Basic { user: "ann".into(), password: Secret::new("s3cret") };
    let cases = [
        (basic, "Basic YW5uOnMzY3JldA=="),
        (Auth::Netrc(vec![dir.path().join("absent"), netrc]), "Basic YW5uOnMzY3JldA=="),
        (Auth::Bearer(Secret::new("to.ken")), "Bearer to.ken"),
    ];
    for (auth, expected) in cases {
        let cache = Cache::start();
        cache.require(expected);
        http(&cache, auth, line(Clock::system())).put("x", bytes(3), &meta()).await.unwrap();
        let error = http(&cache, Auth::None, line(Clock::system())).head("x").await.unwrap_err();
        assert_eq!(error.class, Class::Credentials);
    }
}

/// Nothing is sent, and nothing is tried again: it would be no other address.
#[tokio::test]
async fn a_place_out_of_reach_is_unreachable_at_once() {
    let cache = Cache::start();
    let (clock, _) = Clock::manual(START);
    let place = http(&cache, Auth::None, Line { reach: Reach::Public, ..line(clock) });
    let error = place.get("x", 9).await.unwrap_err();
    assert_eq!(error.class, Class::Unreachable);
    let said = chain(&error);
    assert!(
        said.contains("127.0.0.1 is an address of this machine itself; set [security] allow_private"),
        "{said}"
    );
    assert!(cache.log().is_empty());
}

#[tokio::test]
async fn another_password_in_netrc_is_used_soon() {
    let dir = tempfile::tempdir().unwrap();
    let netrc = dir.path().join("netrc");
    std::fs::write(&netrc, "machine 127.0.0.1 login ann password s3cret").unwrap();
    let (cache, (clock, manual)) = (Cache::start(), Clock::manual(START));
    cache.require("Basic YW5uOnMzY3JldA==");
    let place = http(&cache, Auth::Netrc(vec![netrc.clone()]), line(clock));
    place.put("x", bytes(3), &meta()).await.unwrap();
    cache.require("Basic YW5uOm90aGVy");
    assert_eq!(place.get("x", 9).await.unwrap_err().class, Class::Credentials);
    std::fs::write(&netrc, "machine 127.0.0.1 login ann password other").unwrap();
    manual.step(Duration::from_secs(11));
    assert!(place.get("x", 9).await.unwrap().is_some());
}

/// Knows a token, and remembers it until it is told to forget.
#[derive(Default)]
struct Knows {
    now: Mutex<Option<&'static str>>,
    remembered: Mutex<Option<&'static str>>,
}

impl Teller<Login> for Knows {
    fn tell(&self) -> Work<'_, Result<Login, Box<dyn std::error::Error + Send + Sync>>> {
        let mut remembered = self.remembered.lock().unwrap();
        let told = remembered.or(*self.now.lock().unwrap());
        *remembered = told;
        let login = told.map(|token| Login::Bearer(Secret::new(token))).ok_or("nobody told us".into());
        Box::pin(std::future::ready(login))
    }

    fn forget(&self) -> Work<'_, ()> {
        *self.remembered.lock().unwrap() = None;
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test]
async fn a_refused_token_is_asked_for_again_once() {
    let (cache, knows) = (Cache::start(), Arc::new(Knows::default()));
    cache.require("Bearer one");
    let place = http(&cache, Auth::Asked(Asked(knows.clone())), line(Clock::system()));
    let error = place.head("x").await.unwrap_err();
    assert_eq!((error.class, told(&error).contains("nobody told us")), (Class::Unreachable, true));
    *knows.now.lock().unwrap() = Some("one");
    place.put("x", bytes(3), &meta()).await.unwrap();
    // Another one is in force, and is used at the first refusal.
    cache.require("Bearer two");
    *knows.now.lock().unwrap() = Some("two");
    assert!(place.get("x", 9).await.unwrap().is_some());
    cache.require("Bearer three");
    let asked = cache.log().len();
    assert_eq!(place.get("x", 9).await.unwrap_err().class, Class::Credentials);
    assert_eq!(cache.log().len(), asked + 1, "the same is not tried again");
}

/// Where reading is public, a write is the first to hear that the token is another.
#[tokio::test]
async fn a_write_that_is_refused_asks_for_another_token() {
    let (cache, knows) = (Cache::start(), Arc::new(Knows::default()));
    *knows.now.lock().unwrap() = Some("one");
    cache.require("Bearer one");
    let place = http(&cache, Auth::Asked(Asked(knows.clone())), line(Clock::system()));
    place.put("x", bytes(3), &meta()).await.unwrap();
    cache.require("Bearer two");
    *knows.now.lock().unwrap() = Some("two");
    place.put("y", bytes(3), &meta()).await.unwrap();
    cache.require("Bearer three");
    let asked = cache.log().len();
    assert_eq!(place.put("z", bytes(3), &meta()).await.unwrap_err().class, Class::Credentials);
    assert_eq!(cache.log().len(), asked + 1, "the same is not tried again");
}

/// A file that this user may not open: one of nobody's, or for root one that the kernel gives to nobody.
fn unreadable(dir: &std::path::Path) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let ours = dir.join("unreadable");
    std::fs::write(&ours, "machine 127.0.0.1 login ann password wrong").unwrap();
    std::fs::set_permissions(&ours, std::fs::Permissions::from_mode(0o0)).unwrap();
    let denied = |file: &std::path::PathBuf| {
        std::fs::File::open(file).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    };
    [ours, "/proc/sys/vm/compact_memory".into()]
        .into_iter()
        .find(denied)
        .expect("a file that is closed to us")
}

#[tokio::test]
async fn a_netrc_that_may_not_be_read_is_passed_over_and_other_faults_are_those_of_requests() {
    let dir = tempfile::tempdir().unwrap();
    let netrc = dir.path().join("netrc");
    std::fs::write(&netrc, "machine 127.0.0.1 login ann password s3cret").unwrap();
    let cache = Cache::start();
    cache.require("Basic YW5uOnMzY3JldA==");
    let files = vec![unreadable(dir.path()), netrc];
    let place = http(&cache, Auth::Netrc(files), line(Clock::system()));
    place.put("x", bytes(3), &meta()).await.unwrap();
    let place = http(&cache, Auth::Netrc(vec![dir.path().to_owned()]), line(Clock::system()));
    let error = place.get("x", 9).await.unwrap_err();
    assert_eq!(error.class, Class::Local, "{}", told(&error));
}

#[tokio::test]
async fn what_goes_over_the_wire() {
    let cache = Cache::start();
    let place = http(&cache, Auth::None, line(Clock::system()));
    let (moved, count) = counter();
    let rich = Meta { content_encoding: Some("zstd"), moved: Some(moved), ..Meta::new(NAR).create() };
    place.put("a", bytes(200_000), &rich).await.unwrap();
    place.put_stream("b", &mut Chunks::new([bytes(9)]), &meta(), BodySize::at_most(9)).await.unwrap();
    place.put_stream("c", &mut Chunks::new([bytes(9)]), &meta(), BodySize::exact(9)).await.unwrap();
    let found = place.get("a", 1 << 20).await.unwrap().unwrap();
    assert_eq!(found.content_encoding.as_deref(), Some("zstd"), "and nothing was undone");
    assert_eq!(count.load(Ordering::Relaxed), 200_000);
    let log = cache.log();
    let header = |at: usize, name: &str| log[at].headers.get(name).map(String::as_str);
    assert_eq!(log[0].target, "/base/a");
    assert_eq!((header(0, "content-type"), header(0, "content-encoding")), (Some(NAR), Some("zstd")));
    assert_eq!((header(0, "if-none-match"), header(0, "content-length")), (Some("*"), Some("200000")));
    assert_eq!(header(0, "user-agent"), Some("object-kit-test/0"));
    assert_eq!((header(1, "content-length"), header(1, "transfer-encoding")), (None, Some("chunked")));
    assert_eq!((header(2, "content-length"), header(2, "transfer-encoding")), (Some("9"), None));
    assert_eq!((header(3, "cache-control"), header(3, "pragma")), (Some("no-cache"), Some("no-cache")));
}

#[tokio::test]
async fn a_server_that_wants_lengths_is_told_apart() {
    let cache = Cache::start();
    cache.fault(Rule::always("PUT", "", Fault::LengthRequired));
    let place = http(&cache, Auth::None, line(Clock::system()));
    let stream = place.put_stream("x", &mut Chunks::new([bytes(9)]), &meta(), BodySize::at_most(9)).await;
    assert_eq!(stream.unwrap_err().class, Class::LengthRequired);
    place.put_stream("x", &mut Chunks::new([bytes(9)]), &meta(), BodySize::exact(9)).await.unwrap();
}

#[tokio::test]
async fn each_refusal_has_its_class_and_is_repeated_only_where_that_helps() {
    let cases = [
        (400, Class::Refused, 1),
        (401, Class::Credentials, 1),
        (403, Class::Credentials, 1),
        (405, Class::Refused, 1),
        (409, Class::Refused, 1),
        (411, Class::LengthRequired, 1),
        (412, Class::Refused, 1),
        (413, Class::TooLarge, 1),
        (429, Class::Busy, 4),
        (500, Class::Server, 4),
        (503, Class::Busy, 4),
        (507, Class::Server, 4),
        (301, Class::Refused, 1),
    ];
    for (code, class, attempts) in cases {
        let cache = Cache::start();
        cache.fault(Rule::always("PUT", "", status(code)));
        let (line, manual) = hurried();
        let place = http(&cache, Auth::None, line);
        let error = hurry(&manual, place.put("x", bytes(9), &meta())).await.unwrap_err();
        assert_eq!((error.class, cache.log().len()), (class, attempts), "{code}: {}", told(&error));
        assert!(!told(&error).contains('\u{1b}') && !told(&error).contains("more"), "{}", told(&error));
    }
}

#[tokio::test]
async fn every_broken_answer_is_repeated_until_it_is_whole() {
    let broken =
        [Fault::Reset, Fault::CutAfter(10), Fault::LostAnswer, Fault::Truncated, status(503), status(500)];
    for fault in broken {
        let cache = Cache::start();
        let (line, manual) = hurried();
        let place = http(&cache, Auth::None, line);
        cache.fault(Rule { times: 2, ..Rule::once("PUT", "/x", fault.clone()) });
        cache.fault(Rule { times: 2, ..Rule::once("GET", "/x", fault.clone()) });
        let put = hurry(&manual, place.put("x", bytes(100_000), &meta())).await.unwrap();
        assert_eq!(put.outcome, Outcome::Stored, "{fault:?}");
        let found = hurry(&manual, place.get("x", 1 << 20)).await.unwrap().unwrap();
        assert!(found.bytes == bytes(100_000), "{fault:?}");
    }
}

#[tokio::test]
async fn a_stream_is_not_repeated_and_its_failure_is_plain() {
    for fault in [Fault::Reset, Fault::CutAfter(10), Fault::LostAnswer, status(503)] {
        let cache = Cache::start();
        cache.fault(Rule::always("PUT", "", fault.clone()));
        let place = http(&cache, Auth::None, line(Clock::system()));
        let mut body = Chunks::new(vec![bytes(100_000); 3]);
        let error = place.put_stream("x", &mut body, &meta(), BodySize::exact(300_000)).await.unwrap_err();
        assert!(matches!(error.class, Class::Server | Class::Busy), "{fault:?}: {}", told(&error));
    }
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_a_body_is_heard() {
    let cache = Cache::start();
    cache.fault(Rule::always("PUT", "", Fault::Early(413)));
    let place = http(&cache, Auth::None, line(Clock::system()));
    let mut body = Chunks::new(vec![bytes(10); 3]);
    let error = place.put_stream("x", &mut body, &meta(), BodySize::at_most(30)).await.unwrap_err();
    assert_eq!(error.class, Class::TooLarge, "{}", told(&error));
}

/// One that stands still costs one time-out, not one for every so many objects.
#[tokio::test]
async fn a_server_that_stands_still_is_not_asked_for_the_rest() {
    let cache = Cache::start();
    cache.fault(Rule::always("GET", "", Fault::Stall));
    let (clock, manual) = Clock::manual(START);
    let place = Arc::new(http(&cache, Auth::None, Line { attempts_max: 1, ..line(clock) }));
    let keys: Vec<String> = (0..100).map(|i| format!("k{i}")).collect();
    let asked = Arc::clone(&place);
    let all = tokio::spawn(async move { asked.get_all(&keys, 10).await });
    manual.sleeping(32).await;
    manual.advance(Duration::from_secs(61)).await;
    let all = all.await.unwrap();
    assert!((1..=32).contains(&all.len()), "{} answers", all.len());
    assert_eq!(all.last().unwrap().as_ref().unwrap_err().class, Class::Stuck);
}

#[tokio::test]
async fn a_server_that_stands_still_is_given_up_after_the_timeout() {
    let cache = Cache::start();
    cache.fault(Rule::always("GET", "", Fault::Stall));
    cache.fault(Rule::always("PUT", "", Fault::Stall));
    let (clock, manual) = Clock::manual(START);
    let place = Arc::new(http(&cache, Auth::None, Line { attempts_max: 1, ..line(clock) }));
    let reader = Arc::clone(&place);
    let get = tokio::spawn(async move { reader.get("x", 10).await });
    manual.sleeping(1).await;
    manual.advance(Duration::from_secs(59)).await;
    assert!(!get.is_finished());
    manual.advance(Duration::from_secs(2)).await;
    assert_eq!(get.await.unwrap().unwrap_err().class, Class::Stuck);
    // More than the sockets between us take without a reader.
    let whole = meta();
    let put = place.put("x", Bytes::from(vec![0; 64 << 20]), &whole);
    let error = hurry_by(Duration::from_secs(20), &manual, put).await.unwrap_err();
    assert_eq!(error.class, Class::Stuck);
}

#[tokio::test]
async fn a_body_that_takes_its_time_is_not_the_servers_fault() {
    use crate::support::Odd;
    let cache = Cache::start();
    let (clock, manual) = Clock::manual(START);
    let place = http(&cache, Auth::None, line(clock));
    let put = tokio::spawn(async move {
        let mut body = Odd { chunks: vec![bytes(10)], then_fail: false };
        place.put_stream("x", &mut body, &meta(), BodySize::at_most(30)).await.map(drop)
    });
    for _ in 0..20 {
        manual.sleeping(1).await;
        manual.advance(Duration::from_secs(61)).await;
    }
    assert!(!put.is_finished());
    put.abort();
}

#[tokio::test]
async fn an_answer_that_trickles_in_is_waited_for() {
    let cache = Cache::start();
    cache.insert("/base/x", &bytes(20));
    cache.fault(Rule::always("GET", "", Fault::Trickle(1, Duration::from_millis(5))));
    let place = http(&cache, Auth::None, Line { timeout: Duration::from_secs(30), ..line(Clock::system()) });
    assert!(place.get("x", 20).await.unwrap().unwrap().bytes == bytes(20));
}

/// A byte at a time is no progress: such a server would hold us for as long as it likes.
#[tokio::test]
async fn a_server_that_gives_a_byte_at_a_time_is_given_up() {
    let cache = Cache::start();
    cache.insert("/base/x", &bytes(10_000));
    cache.fault(Rule::always("GET", "", Fault::Trickle(1, Duration::from_millis(5))));
    let answer = Fault::Answer(403, Vec::new(), "no".into());
    cache.fault(Rule::always("PUT", "", answer));
    let quick = Line { timeout: Duration::from_millis(300), attempts_max: 1, ..line(Clock::system()) };
    let place = http(&cache, Auth::None, quick);
    let error = place.get("x", 1 << 20).await.unwrap_err();
    assert_eq!(error.class, Class::Stuck, "{}", told(&error));
    let place = http(&cache, Auth::None, line(Clock::system()));
    let error = place.put("x", bytes(1), &meta()).await.unwrap_err();
    assert_eq!(error.class, Class::Credentials, "{}", told(&error));
}

#[tokio::test]
async fn an_outage_does_not_multiply_requests() {
    let cache = Cache::start();
    cache.fault(Rule { method: None, ..Rule::always("GET", "", status(500)) });
    let (line, manual) = hurried();
    let place = http(&cache, Auth::None, line);
    for _ in 0..100 {
        let error = hurry(&manual, place.get("x", 10)).await.unwrap_err();
        assert_eq!(error.class, Class::Server);
    }
    assert_eq!(cache.log().len(), 100 + 40, "the budget is used up, each further request is one");
    cache.heal();
    for _ in 0..20 {
        hurry(&manual, place.get("x", 10)).await.unwrap();
    }
    cache.fault(Rule::once("GET", "", status(500)));
    hurry(&manual, place.get("x", 10)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_knows_no_conditions_replaces() {
    let cache = Cache::start();
    cache.ignore_conditions();
    let place = http(&cache, Auth::None, line(Clock::system()));
    for _ in 0..2 {
        let put = place.put("x", bytes(1), &meta().create()).await.unwrap();
        assert_eq!(put.outcome, Outcome::Stored);
    }
}

#[tokio::test]
async fn a_server_that_refuses_conditions_gets_none() {
    let cache = Cache::start();
    cache.fault(Rule::always("PUT", "", Fault::NoConditions(501, "")));
    let (place, create) = (http(&cache, Auth::None, line(Clock::system())), meta().create());
    for key in ["x", "y"] {
        assert_eq!(place.put(key, bytes(1), &create).await.unwrap().outcome, Outcome::Stored);
    }
    assert_eq!(cache.log().len(), 3, "it is remembered");
    // A stream is gone when the answer comes.
    let place = http(&cache, Auth::None, line(Clock::system()));
    let body = Chunks::new([bytes(9)]);
    let error = place.put_stream("z", &mut body.clone(), &create, BodySize::exact(9)).await.unwrap_err();
    assert_eq!(error.class, Class::NoConditions);
    place.put_stream("z", &mut body.clone(), &create, BodySize::exact(9)).await.unwrap();
    assert!(cache.object("/base/z").is_some());
}

#[tokio::test]
async fn what_is_forbidden_to_read_is_absent_and_nothing_else_is() {
    let cache = Cache::start();
    let place = http(&cache, Auth::None, line(Clock::system()));
    for method in ["GET", "HEAD", "DELETE", "PUT"] {
        cache.fault(Rule::always(method, "", status(403)));
    }
    assert_eq!(place.get("x", 9).await.unwrap(), None);
    assert_eq!(place.head("x").await.unwrap(), None);
    assert_eq!(place.put("x", bytes(1), &meta()).await.unwrap_err().class, Class::Credentials);
    assert_eq!(place.delete("x").await.unwrap_err().class, Class::Credentials);
    for code in [401, 407] {
        cache.heal();
        cache.fault(Rule::always("GET", "", status(code)));
        assert_eq!(place.get("x", 9).await.unwrap_err().class, Class::Credentials, "{code}");
    }
}

#[tokio::test]
async fn credentials_do_not_follow_to_another_server() {
    let (cache, other) = (Cache::start(), Cache::start());
    other.insert("/there", b"moved");
    let to = vec![("Location".to_owned(), format!("{}/there", other.url()))];
    cache.fault(Rule::always("GET", "", Fault::Answer(302, to, String::new())));
    let place = http(&cache, Auth::Bearer(Secret::new("to.ken")), line(Clock::system()));
    assert_eq!(&place.get("x", 10).await.unwrap().unwrap().bytes[..], b"moved");
    assert!(cache.log()[0].headers.contains_key("authorization"));
    assert!(!other.log()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn redirects_that_go_round_end() {
    let cache = Cache::start();
    let to = vec![("Location".to_owned(), "/base/x".to_owned())];
    cache.fault(Rule::always("GET", "", Fault::Answer(302, to, String::new())));
    let place = http(&cache, Auth::None, line(Clock::system()));
    let error = place.get("x", 10).await.unwrap_err();
    assert_eq!((error.class, cache.log().len()), (Class::Refused, 6), "{}", told(&error));
}

#[test]
fn addresses_that_are_none_are_refused() {
    for base in ["", "ftp://h/", "http://h/?x=y", "http://h/#x", "/path", "http://"] {
        let settings = object_kit::HttpSettings {
            base: Secret::new(base),
            auth: Auth::None,
            line: line(Clock::system()),
        };
        assert_eq!(object_kit::Http::new(&settings).unwrap_err().class, Class::Local, "{base}");
    }
}

/// A server that quotes what it was told: its words are shown and noted, our password is not.
#[tokio::test]
async fn no_secret_comes_back_in_what_a_server_says() {
    let cache = Cache::start();
    for (auth, secret) in [
        (Auth::Bearer(Secret::new("canary-4711")), "canary-4711"),
        (Auth::Basic { user: "me".into(), password: Secret::new("canary") }, "bWU6Y2FuYXJ5"),
        // As the server has read it.
        (Auth::Basic { user: "me".into(), password: Secret::new("canary") }, "canary"),
    ] {
        let said = format!("bad request; you said: Authorization: Basic {secret}, and {secret} again");
        cache.heal();
        cache.fault(Rule { method: None, ..Rule::always("", "/", Fault::Answer(400, Vec::new(), said)) });
        let place = http(&cache, auth, line(Clock::system()));
        for error in
            [place.get("a", 10).await.unwrap_err(), place.put("a", bytes(3), &meta()).await.unwrap_err()]
        {
            let told = told(&error);
            assert!(told.contains("you said: Authorization: Basic ***, and *** again"), "{told}");
            assert!(!format!("{error:?}").contains(secret), "{error:?}");
        }
    }
}

/// However the server writes it: as URLs, JSON, XML, base 64 and hexadecimal have it.
#[tokio::test]
async fn a_secret_that_comes_back_in_another_spelling_is_found_too() {
    const CANARY: &str = "canary+4711/\"<&0815";
    let cache = Cache::start();
    let spellings = [
        "canary%2B4711%2F%22%3C%260815",
        "canary%2b4711/%22<%260815",
        "canary\\u002b4711\\/\\\"<&0815",
        "canary&#43;4711/&quot;&lt;&amp;0815",
        "canary&#x2B;4711/&quot;&lt;&amp;0815",
        "Y2FuYXJ5KzQ3MTEvIjwmMDgxNQ==",
        "63616e6172792b343731312f223c2630383135",
    ];
    for spelling in spellings {
        cache.heal();
        let fault = Fault::Answer(400, Vec::new(), format!("you said: {spelling}!"));
        cache.fault(Rule { method: None, ..Rule::always("", "/", fault) });
        let place = http(&cache, Auth::Bearer(Secret::new(CANARY)), line(Clock::system()));
        let told = told(&place.get("a", 10).await.unwrap_err());
        // The padding of base 64 is nobody's.
        assert!(told.ends_with("you said: ***!") || told.ends_with("you said: ***==!"), "{spelling}: {told}");
    }
}
