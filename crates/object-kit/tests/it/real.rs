//! Servers that others wrote: s3s-fs, which checks signatures, and moto with AWS' own ways to get keys. Installed by
//! `scripts/test-tools`; without them these tests say that they are skipped.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use object_kit::aws::{Chain, Credentials, Keys};
use object_kit::{BodySize, Chunks, Class, Objects, Outcome, S3, S3Settings, Secret, SweptUploads};
use service_kit::clock::Clock;
use test_kit::proc::Guard;

use crate::aws::chain;
use crate::support::{Odd, bytes, keys, line, meta, s3_settings, told};

/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_secs(60);

/// A program of `scripts/test-tools`; says so when it is not there.
fn tool(path: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().nth(3).unwrap();
    let tool = target.join("tools").join(path);
    if tool.exists() {
        return Some(tool);
    }
    println!("skipped: {} is not there, scripts/test-tools installs it", tool.display());
    None
}

/// The Python of moto's own folder, once that is complete.
pub(crate) fn python() -> Option<PathBuf> {
    tool("moto/ready").map(|ready| ready.with_file_name("bin").join("python"))
}

/// Starts a server on a free port; waits until it listens.
fn server(program: &PathBuf, args: impl Fn(&str) -> Vec<String>) -> (Guard, String) {
    let port = test_kit::port::free();
    #[expect(clippy::disallowed_methods, reason = "tests start servers under a guard that ends them")]
    let mut command = Command::new(program);
    command.args(args(&port.to_string())).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut guard = Guard::spawn(&mut command).unwrap();
    test_kit::wait::until(START_MAX, || {
        assert!(guard.child().try_wait().unwrap().is_none(), "{} ended", program.display());
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    (guard, format!("http://127.0.0.1:{port}"))
}

struct S3sFs {
    _guard: Guard,
    dir: tempfile::TempDir,
    url: String,
}

fn s3s_fs() -> Option<S3sFs> {
    let program = tool("bin/s3s-fs")?;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("bkt")).unwrap();
    let (keys, root) = (keys(), dir.path().to_str().unwrap().to_owned());
    let (_guard, url) = server(&program, |port| {
        let args = [
            "--host",
            "127.0.0.1",
            "--port",
            port,
            "--access-key",
            &keys.id,
            "--secret-key",
            keys.secret.reveal(),
            &root,
        ];
        args.map(str::to_owned).to_vec()
    });
    Some(S3sFs { _guard, dir, url })
}

fn settings(server: &S3sFs, keys: Keys) -> S3Settings {
    let settings = s3_settings(&server.url, Credentials::Keys(keys), line(Clock::system()));
    S3Settings { part_min: 5 << 20, ..settings }
}

#[tokio::test]
async fn a_strict_server_takes_every_kind_of_request() {
    let Some(server) = s3s_fs() else { return };
    let place = S3::new(&settings(&server, keys())).unwrap();
    for key in ["x.narinfo", "nar/a+b=c d&e~f.nar", "log/größe%41?#.drv"] {
        assert_eq!(place.head(key).await.unwrap(), None, "{key}");
        assert_eq!(place.get(key, 10).await.unwrap(), None, "{key}");
        place.put(key, Bytes::from_static(b"hello"), &meta()).await.unwrap();
        assert_eq!(place.head(key).await.unwrap().unwrap().size, Some(5), "{key}");
        assert_eq!(&place.get(key, 10).await.unwrap().unwrap().bytes[..], b"hello", "{key}");
    }
    assert!(server.dir.path().join("bkt/nar/a+b=c d&e~f.nar").exists());
    let again = place.put("x.narinfo", bytes(3), &meta().create()).await.unwrap();
    assert_eq!(again.outcome, Outcome::Existed);
    let page = place.list(None, 10).await.unwrap().unwrap();
    assert_eq!(page.entries.iter().map(|e| (e.key.as_str(), e.size)).collect::<Vec<_>>(), [("x.narinfo", 5)]);
    place.delete("x.narinfo").await.unwrap();
    assert_eq!(place.head("x.narinfo").await.unwrap(), None);
}

#[tokio::test]
async fn a_strict_server_takes_a_body_in_parts() {
    let Some(server) = s3s_fs() else { return };
    let place = S3::new(&settings(&server, keys())).unwrap();
    let all = bytes(12 << 20);
    let mut body = Chunks::new(all.chunks(100_000).map(Bytes::copy_from_slice));
    place.put_stream("nar/x", &mut body, &meta(), BodySize::at_most(20 << 20)).await.unwrap();
    assert!(place.get("nar/x", 20 << 20).await.unwrap().unwrap().bytes == all);
}

#[tokio::test]
async fn a_strict_server_refuses_another_secret() {
    let Some(server) = s3s_fs() else { return };
    let wrong = Keys { secret: Secret::new("another"), ..keys() };
    let place = S3::new(&settings(&server, wrong)).unwrap();
    let error = place.put("x", bytes(1), &meta()).await.unwrap_err();
    assert_eq!(error.class, Class::Credentials, "{}", told(&error));
    assert!(!told(&error).contains("another"), "{}", told(&error));
    assert_eq!(place.get("x", 1).await.unwrap_err().class, Class::Credentials);
}

/// It has no listing of uploads, and says so.
#[tokio::test]
async fn a_server_without_a_listing_of_uploads_is_a_refusal() {
    let Some(server) = s3s_fs() else { return };
    let place = S3::new(&settings(&server, keys())).unwrap();
    let error = place.sweep_uploads("nar/", Duration::ZERO, |_| true).await.unwrap_err();
    assert_eq!(error.class, Class::Refused, "{}", told(&error));
    assert!(told(&error).contains("501") && told(&error).contains("NotImplemented"), "{}", told(&error));
}

/// Starts moto with a bucket `bkt`.
async fn moto() -> Option<(Guard, String)> {
    let program = python()?;
    let (guard, url) = server(&program, |port| {
        ["-m", "moto.server", "-H", "127.0.0.1", "-p", port].map(str::to_owned).to_vec()
    });
    // PUT of the bucket's name makes the bucket.
    let base = object_kit::HttpSettings {
        base: Secret::new(url.clone()),
        auth: object_kit::Auth::None,
        line: line(Clock::system()),
    };
    object_kit::Http::new(&base).unwrap().put("bkt", Bytes::new(), &meta()).await.unwrap();
    Some((guard, url))
}

#[tokio::test]
async fn uploads_of_a_process_that_ended_are_listed_and_aborted() {
    let Some((_guard, url)) = moto().await else { return };
    let settings = || {
        let settings = s3_settings(&url, Credentials::Keys(keys()), line(Clock::system()));
        S3Settings { part_min: 5 << 20, ..settings }
    };
    // One that never ends: to another process, here another value, it is left over.
    let (ended, left) = (S3::new(&settings()).unwrap(), S3::new(&settings()).unwrap());
    let mut body = Odd { chunks: vec![bytes(6 << 20)], then_fail: false };
    let whole = meta();
    let put = left.put_stream("nar/x", &mut body, &whole, BodySize::at_most(20 << 20));
    tokio::pin!(put);
    let sweep = |folder, ours| ended.sweep_uploads(folder, Duration::from_secs(24 * 3600), move |_| ours);
    let seen = async { while sweep("nar/", false).await.unwrap().left == 0 {} };
    tokio::select! { put = &mut put => panic!("it never ends: {put:?}"), () = seen => {} };
    assert_eq!(sweep("other/", true).await.unwrap(), SweptUploads::default());
    // It says of every upload that it was begun in 2010.
    assert_eq!(sweep("nar/", true).await.unwrap().aborted, 1);
    assert_eq!(sweep("nar/", true).await.unwrap(), SweptUploads::default());
}

#[tokio::test]
async fn keys_come_from_aws_own_services() {
    let Some((_guard, url)) = moto().await else { return };
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, "some.web.token").unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    std::fs::write(
        home.path().join(".aws/config"),
        "[profile base]\naws_access_key_id=AKIABASE\naws_secret_access_key=s\n\
         [profile role]\nrole_arn=arn:aws:iam::123456789012:role/ci\nsource_profile=base\n",
    )
    .unwrap();
    let web = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/ci"),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
    ];
    let role = [("AWS_PROFILE", "role"), ("AWS_ENDPOINT_URL_STS", url.as_str())];
    let instance = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())];
    for (name, vars) in [("web identity", &web[..]), ("role", &role), ("instance", &instance)] {
        let chain = Chain::new(chain(home.path(), vars, Clock::system()));
        let settings = s3_settings(&url, Credentials::Chain(chain), line(Clock::system()));
        let place = S3::new(&settings).unwrap();
        place.put(name, bytes(9), &meta()).await.unwrap_or_else(|error| panic!("{name}: {}", told(&error)));
        assert_eq!(place.head(name).await.unwrap().unwrap().size, Some(9), "{name}");
    }
}
