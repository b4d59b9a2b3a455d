//! What places make of the answers they get: of S3, of an HTTP server, of STS and of the services that give keys to
//! containers and instances; and of what a `credential_process` prints. Each input begins with a line that says what is
//! asked; answers follow, with `%%` on a line between two of them, and a server on the loopback interface gives them.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_kit::aws::{Chain, ChainSettings, Credentials, Keys, Look, Runner};
use object_kit::{
    Auth, BodySize, Chunks, Found, Http, HttpSettings, Meta, ObjectError, Objects, Outcome, Put, S3,
    S3Settings, Secret, chain,
};

#[path = "double.rs"]
mod double;
use double::{Asked, Double};

/// What must be in no error. The seeds have it where secrets are.
const HUSH: &str = "hush";
/// Most bytes of an object that are asked for.
const OBJECT_MAX: usize = 64 << 10;
/// Bytes of a part.
const PART: u64 = 10;
/// Longest wait between two attempts: what a server may ask for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Longest error with its causes, in bytes: two texts of an outsider, each cut short, and our own.
const ERROR_MAX: usize = 4000;
/// Most requests for one thing that is asked, sweeps aside.
const REQUESTS_MAX: usize = 60;
/// Most uploads that are said to be ours.
const OURS_MAX: usize = 8;
const TYPE: &str = "application/octet-stream";

thread_local! {
    static DOUBLE: OnceCell<Double> = const { OnceCell::new() };
    static HOME: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
}

fn with_double(check: impl FnOnce(&Double)) {
    DOUBLE.with(|double| check(double.get_or_init(Double::start)));
}

/// The first line, and what is behind it.
fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

fn holds(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}

/// An error can be shown, is no essay, and has no secret of ours.
fn shown(error: &ObjectError, secret: &str) -> String {
    let text = format!("{error}: {}", chain(error));
    assert!(!text.contains(char::is_control), "errors can be shown: {text}");
    assert!(text.len() < ERROR_MAX, "{} bytes of error", text.len());
    assert!(!text.contains(secret) && !format!("{error:?}").contains(secret), "{text}");
    text
}

fn fair<T>(result: &Result<T, ObjectError>, asked: &[Asked], longest: Duration) {
    if let Err(error) = result {
        shown(error, "our-own-secret");
    }
    assert!(longest <= WAIT_MAX, "a wait of {longest:?}");
    assert!(asked.len() <= REQUESTS_MAX, "{} requests", asked.len());
}

fn found_in_bounds(found: &Result<Option<Found>, ObjectError>) {
    if let Ok(Some(found)) = found {
        assert!(found.bytes.len() <= OBJECT_MAX);
    }
}

fn put_is_whole(put: &Result<Put, ObjectError>, meta: &Meta, len: u64) {
    if let Ok(put) = put {
        assert!(put.bytes == len || put.outcome == Outcome::Existed, "{put:?}");
        assert!(put.outcome == Outcome::Stored || !matches!(meta.mode, object_kit::Mode::Replace), "{put:?}");
    }
}

fn meta(op: &[u8]) -> Meta {
    let found =
        Found { bytes: Vec::new().into(), content_encoding: None, tag: Some("\"t\"".into()), modified: None };
    match op {
        _ if op.ends_with(b"create") => Meta::new(TYPE).create(),
        _ if op.ends_with(b"match") => Meta::new(TYPE).matching(&found),
        _ => Meta::new(TYPE),
    }
}

fn body() -> Chunks {
    Chunks::new([b"0123456789".to_vec(), b"0123456789".to_vec(), b"01234".to_vec()].map(Into::into))
}

fn bucket(double: &Double, attempts_max: u32, credentials: Credentials) -> S3 {
    let settings = S3Settings {
        prefix: "p".into(),
        endpoint: Some(double.url()),
        part_min: PART,
        parts_in_flight: 1,
        ..S3Settings::new("bkt", credentials, double.line(attempts_max))
    };
    S3::new(&settings).expect("the settings are good")
}

/// Answers of S3 to `get`, `head`, `put`, `put create`, `put match`, `stream`, `stream create`, `delete`, `sweep` or
/// `list`: what is taken is within its bounds, nothing is removed but what was asked for, every request is signed, and no
/// wait is longer than any server may ask for.
pub fn s3_answers(bytes: &[u8]) {
    let (op, script) = first_line(bytes);
    with_double(|double| {
        let keys = Keys { id: "AKID".into(), secret: Secret::new("our-own-secret"), session: None };
        let place = bucket(double, 2, Credentials::Keys(keys));
        let asked = ask_s3(double, place, op, script);
        for one in &asked {
            assert!(one.headers["authorization"].starts_with("AWS4-HMAC-SHA256 Credential=AKID/"));
            assert!(one.target.starts_with("/bkt/p/") || one.target.starts_with("/bkt?"), "{}", one.target);
            if one.method == "DELETE" && op != b"delete" {
                let id = one.target.split_once("?uploadId=").map_or("", |(_, id)| id);
                assert!(!id.is_empty(), "an abort without an id is a delete: {}", one.target);
            }
        }
    });
}

fn ask_s3(double: &Double, place: S3, op: &[u8], script: &[u8]) -> Vec<Asked> {
    let meta = meta(op);
    match op {
        b"get" => {
            let work = async move { place.get("a", OBJECT_MAX).await };
            let (found, asked, longest) = double.answering(script, work);
            found_in_bounds(&found);
            fair(&found, &asked, longest);
            asked
        }
        b"head" => ask(double, script, async move { place.head("a").await }),
        b"delete" => ask(double, script, async move { place.delete("a").await }),
        b"put" | b"put create" | b"put match" => {
            let sent = meta.clone();
            let work = async move { place.put("a", b"body".to_vec().into(), &sent).await };
            let (put, asked, longest) = double.answering(script, work);
            put_is_whole(&put, &meta, 4);
            fair(&put, &asked, longest);
            asked
        }
        b"stream" | b"stream create" => {
            let sent = meta.clone();
            let work = async move { place.put_stream("a", &mut body(), &sent, BodySize::exact(25)).await };
            let (put, asked, longest) = double.answering(script, work);
            put_is_whole(&put, &meta, 25);
            fair(&put, &asked, longest);
            asked
        }
        b"sweep" => sweep(double, place, script),
        _ => list(double, place, script),
    }
}

fn ask<T>(double: &Double, script: &[u8], work: impl Future<Output = Result<T, ObjectError>>) -> Vec<Asked> {
    let (result, asked, longest) = double.answering(script, work);
    fair(&result, &asked, longest);
    asked
}

fn sweep(double: &Double, place: S3, script: &[u8]) -> Vec<Asked> {
    let mut ours = 0;
    let work = async {
        let place = place;
        let is_ours = |_: &str| {
            ours += 1;
            ours <= OURS_MAX
        };
        let is_ours = std::sync::Mutex::new(is_ours);
        place
            .sweep_uploads("", Duration::from_secs(3600), |key| (is_ours.lock().expect("no panic"))(key))
            .await
    };
    let (swept, asked, _) = double.answering(script, work);
    match swept {
        Ok(swept) => {
            let aborts = asked.iter().filter(|one| one.method == "DELETE").count();
            assert!(swept.aborted <= u64::try_from(aborts.min(OURS_MAX)).expect("few"), "{swept:?}");
        }
        Err(error) => drop(shown(&error, "our-own-secret")),
    }
    asked
}

/// Two pages: what the first says of the second is asked for.
fn list(double: &Double, place: S3, script: &[u8]) -> Vec<Asked> {
    let work = async move {
        let mut cursor: Option<String> = None;
        for _ in 0..2 {
            let Some(page) = place.list(cursor.as_deref(), 1000).await? else { break };
            assert!(page.entries.iter().all(|entry| !entry.key.is_empty()));
            assert!(page.next.as_deref() != Some(""), "a page that begins nowhere would be the first again");
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
    };
    ask(double, script, work)
}

/// Answers of an HTTP server to `get`, `head`, `put`, `put create`, `put match`, `stream` or `delete`.
pub fn http_answers(bytes: &[u8]) {
    let (op, script) = first_line(bytes);
    with_double(|double| {
        let auth = Auth::Basic { user: "u".into(), password: Secret::new("our-own-secret") };
        let base = Secret::new(format!("{}/base", double.url()));
        let place =
            Http::new(&HttpSettings { base, auth, line: double.line(2) }).expect("the settings are good");
        let meta = meta(op);
        let asked = match op {
            b"head" => ask(double, script, async move { place.head("a").await }),
            b"delete" => ask(double, script, async move { place.delete("a").await }),
            b"put" | b"put create" | b"put match" | b"stream" => {
                let (sent, streams) = (meta.clone(), op == b"stream");
                let work = async move {
                    if streams {
                        return place.put_stream("a", &mut body(), &sent, BodySize::exact(25)).await;
                    }
                    place.put("a", b"0123456789012345678901234".to_vec().into(), &sent).await
                };
                let (put, asked, longest) = double.answering(script, work);
                put_is_whole(&put, &meta, 25);
                fair(&put, &asked, longest);
                asked
            }
            _ => {
                let work = async move { place.get("a", OBJECT_MAX).await };
                let (found, asked, longest) = double.answering(script, work);
                found_in_bounds(&found);
                fair(&found, &asked, longest);
                asked
            }
        };
        assert!(asked.iter().all(|one| one.target.starts_with("/base/")));
    });
}

/// A home with what profiles and environment point to.
fn home() -> PathBuf {
    HOME.with(|home| {
        let home = home.get_or_init(|| {
            let home = tempfile::tempdir().expect("a folder can be made");
            let config = "[profile role]\nrole_arn = arn:r\nsource_profile = own\n[profile own]\n\
                          aws_access_key_id = OWN\naws_secret_access_key = our-own-secret\n\
                          [profile process]\ncredential_process = print\n";
            std::fs::write(home.path().join("config"), config).expect("a file can be written");
            std::fs::write(home.path().join("token"), "our-own-secret").expect("a file can be written");
            home
        });
        home.path().to_owned()
    })
}

/// Asks a bucket as whom the source says that we are: `sts`, `role`, `container`, `instance` or `process`.
fn as_found(
    double: &Double,
    source: &str,
    runner: Option<Runner>,
    script: &[u8],
) -> (Result<(), ObjectError>, Vec<Asked>) {
    let (home, url) = (home(), double.url());
    let file = |name: &str| home.join(name).display().to_string();
    let mut vars =
        HashMap::from([("AWS_CONFIG_FILE", file("config")), ("AWS_ENDPOINT_URL_STS", url.clone())]);
    vars.extend(match source {
        "sts" => vec![("AWS_WEB_IDENTITY_TOKEN_FILE", file("token")), ("AWS_ROLE_ARN", "arn:r".into())],
        "container" => vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "our-own-secret".into()),
        ],
        "instance" => vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)],
        _ => Vec::new(),
    });
    let lookup = Arc::new(move |name: &str| vars.get(name).cloned());
    let look = match source {
        "role" | "process" => Look::Profile(source.to_owned()),
        _ => Look::Everywhere,
    };
    // One attempt: the time-outs of what is near are short, so the clock has to stand.
    let settings = ChainSettings { lookup, look, runner, line: double.line(1) };
    let place = bucket(double, 1, Credentials::Chain(Chain::new(settings)));
    let work = async move { place.head("x").await.map(drop) };
    let (result, asked) = double.while_answering(script, work);
    if let Err(error) = &result {
        shown(error, "our-own-secret");
    }
    (result, asked)
}

/// Answers of those who give keys, and then of a bucket: no secret of an answer is in an error, and the bucket is asked
/// with a signature or not at all.
pub fn key_answers(bytes: &[u8]) {
    let (source, script) = first_line(bytes);
    let source = match source {
        b"sts" => "sts",
        b"role" => "role",
        b"container" => "container",
        _ => "instance",
    };
    with_double(|double| {
        let (result, asked) = as_found(double, source, None, script);
        assert!(asked.len() <= 6, "{} requests", asked.len());
        for one in asked.iter().filter(|one| one.target.starts_with("/bkt")) {
            assert!(one.headers["authorization"].starts_with("AWS4-HMAC-SHA256 Credential="));
        }
        let Err(error) = result else { return };
        // What STS and the bucket say of a refusal is shown; nothing else of any answer is.
        let bucket = asked.iter().any(|one| one.target.starts_with("/bkt"));
        let refusal = matches!(source, "sts" | "role") && holds(script, "<Error");
        if !bucket && !refusal {
            shown(&error, HUSH);
        }
    });
}

/// What a `credential_process` prints: keys that go on to the bucket as they are, or an error with not one byte of it.
pub fn process_output(bytes: &[u8]) {
    let output = bytes.to_vec();
    let runner: Runner = Arc::new(move |_| {
        let output = output.clone();
        Box::pin(async move { Ok(output) })
    });
    with_double(|double| {
        let (result, asked) = as_found(double, "process", Some(runner), b"HTTP/1.1 404 Not Found");
        match result {
            Ok(()) => {
                // What is passed over may be no text, or too large a number, which this reader minds.
                let Ok(said) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
                let headers = &asked[0].headers;
                let id = said["AccessKeyId"].as_str().expect("it has an id");
                assert!(headers["authorization"].starts_with(&format!("AWS4-HMAC-SHA256 Credential={id}/")));
                let token = said["SessionToken"].as_str().or_else(|| said["Token"].as_str());
                assert_eq!(headers.get("x-amz-security-token").map(|t| t.trim()), token.map(str::trim));
            }
            Err(error) => {
                assert!(asked.is_empty(), "{}", chain(&error));
                let text: String = chain(&error).chars().filter(|c| !c.is_ascii_digit()).collect();
                let (_, why) = text.split_once("//...:: ").unwrap_or_else(|| panic!("{text}"));
                assert!(PROCESS_ERRORS.contains(&why), "{why}");
            }
        }
    });
}

/// All that may be said of an output that gives no keys, digits left out.
const PROCESS_ERRORS: [&str; 6] = [
    "the credential_process of profile process gave no keys: this is no JSON at line , column ; an object with AccessKeyId and SecretAccessKey is needed",
    "the credential_process of profile process gave no keys: this JSON has another form at line , column ; an object with AccessKeyId and SecretAccessKey is needed",
    "the credential_process of profile process gave no keys: the JSON ends too early at line , column ; an object with AccessKeyId and SecretAccessKey is needed",
    "the credential_process of profile process gave no keys: their end is no time",
    "the session token holds characters that no header can",
    "the access key's id holds characters that no header can",
];
