//! AWS Secrets Manager and EC2's metadata as moto has them. Installed by `scripts/test-tools`; without it these tests say
//! that they are skipped.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use object_kit::Line;
use object_kit::ask::Question;
use object_kit::aws::Keys;
use secrets::{Class, Reader, Secret};
use service_kit::clock::Clock;
use service_kit::http::Reach;
use test_kit::proc::Guard;

use crate::support::{Env, means, parsed, read, refused, shown};

/// How long the server may take to listen.
const START_MAX: Duration = Duration::from_secs(60);

struct Moto {
    _guard: Guard,
    url: String,
}

fn moto() -> Option<Moto> {
    let exe = std::env::current_exe().unwrap();
    let ready = exe.ancestors().nth(3).unwrap().join("tools/moto/ready");
    if !ready.exists() {
        println!("skipped: {} is not there, scripts/test-tools installs it", ready.display());
        return None;
    }
    let port = test_kit::port::free();
    #[expect(clippy::disallowed_methods, reason = "tests start servers under a guard that ends them")]
    let mut command = Command::new(ready.with_file_name("bin").join("python"));
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut guard = Guard::spawn(&mut command).unwrap();
    test_kit::wait::until(START_MAX, || {
        assert!(guard.child().try_wait().unwrap().is_none(), "moto ended");
        answers(port)
    });
    Some(Moto { _guard: guard, url: format!("http://127.0.0.1:{port}") })
}

/// Whether it has an instance's metadata, which it makes when it is first asked: later than a reader would wait.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let asked =
        stream.write_all(b"GET /latest/meta-data/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    asked.is_ok() && stream.read_to_end(&mut answer).is_ok() && !answer.is_empty()
}

impl Moto {
    async fn call(&self, target: &'static str, body: String) {
        let keys = Keys { id: "AKIATEST".into(), secret: Secret::new("s"), session: None };
        let line = Line { proxies: false, ..Line::new(Clock::system(), "secrets-test/0", Reach::Private) };
        let reply = Question::post(&self.url, Bytes::from(body))
            .header("content-type", Secret::new("application/x-amz-json-1.1"))
            .header("x-amz-target", Secret::new(target))
            .signed(keys, "eu-central-1", "secretsmanager")
            .ask(&line, 1 << 20)
            .await
            .unwrap();
        assert!(reply.is_success(), "{reply:?} {}", String::from_utf8_lossy(&reply.body));
    }

    /// The source for a secret.
    fn text(&self, name: &str) -> String {
        format!(
            "credentials.aws-secrets-manager = {{ secret_name = \"{name}\", region = \"eu-central-1\", endpoint = \"{}\" }}",
            self.url
        )
    }
}

fn json(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name:?}:{value:?}")).collect();
    format!("{{{}}}", pairs.join(","))
}

fn env() -> Env {
    Env::of(&[("AWS_ACCESS_KEY_ID", "AKIATEST"), ("AWS_SECRET_ACCESS_KEY", "canary-secret")])
}

#[tokio::test]
async fn secrets_manager_gives_objects_lines_raw_texts_and_binaries_and_what_they_are_changed_to() {
    let Some(moto) = moto() else { return };
    let create = "secretsmanager.CreateSecret";
    for (name, content) in [("eka-ci/s3", r#"{"A":"1"}"#), ("lines", "A=1\nB=2"), ("raw", "a token")] {
        moto.call(
            create,
            json(&[
                ("Name", name),
                ("SecretString", content),
                ("ClientRequestToken", "0123456789abcdef0123456789abcdef"),
            ]),
        )
        .await;
    }
    moto.call(
        create,
        json(&[
            ("Name", "binary"),
            ("SecretBinary", "QT0x"),
            ("ClientRequestToken", "0123456789abcdef0123456789abcdef"),
        ]),
    )
    .await;
    for (name, expected) in [
        ("eka-ci/s3", vec![("A", "1")]),
        ("lines", vec![("A", "1"), ("B", "2")]),
        ("raw", vec![("raw", "a token")]),
        ("binary", vec![("A", "1")]),
    ] {
        assert_eq!(shown(&read(&moto.text(name), &env()).await.unwrap()), expected, "{name}");
    }
    let reader = crate::support::reader(&moto.text("raw"), &env());
    reader.read().await.unwrap();
    moto.call(
        "secretsmanager.PutSecretValue",
        json(&[
            ("SecretId", "raw"),
            ("SecretString", "rotated"),
            ("ClientRequestToken", "1123456789abcdef0123456789abcdef"),
        ]),
    )
    .await;
    reader.forget().await;
    assert_eq!(shown(&reader.read().await.unwrap()), [("raw", "rotated")]);
    let error = refused(&moto.text("gone"), &env()).await;
    assert!(error.contains("credentials of aws-secrets-manager, the secret gone: AWS Secrets Manager in eu-central-1 answers 404 ResourceNotFoundException"), "{error}");
    assert!(error.contains("; correct secret_name or region") && !error.contains("canary"), "{error}");
    let nobody = Env::of(&[("AWS_EC2_METADATA_DISABLED", "true")]);
    let error = refused(&moto.text("raw"), &nobody).await;
    assert!(error.contains("the secret raw: there are no keys"), "{error}");
    let nowhere = "credentials.aws-secrets-manager.secret_name = \"raw\"";
    let error = refused(nowhere, &env()).await;
    assert!(error.contains("the secret raw: has no region; write region, or set AWS_REGION"), "{error}");
}

#[tokio::test]
async fn an_instance_has_the_keys_of_its_role_and_what_they_open() {
    let Some(moto) = moto() else { return };
    let text =
        format!("credentials.instance-metadata = {{ endpoint = \"{0}\", provider = \"aws\" }}", moto.url);
    let values = read(&text, &Env::default()).await.unwrap();
    let names: Vec<_> = values.names().collect();
    assert_eq!(names, ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]);
    assert!(values.ends().is_some(), "keys of a role end");
    let found = read(&text.replace(", provider = \"aws\"", ""), &Env::default()).await.unwrap();
    assert_eq!(found.names().count(), 3, "AWS is found out");
    moto.call(
        "secretsmanager.CreateSecret",
        json(&[
            ("Name", "eka-ci/github-app"),
            ("SecretString", "GITHUB_APP_ID=7"),
            ("ClientRequestToken", "0123456789abcdef0123456789abcdef"),
        ]),
    )
    .await;
    let text = format!(
        "credentials.instance-metadata = {{ endpoint = \"{0}\", secrets_manager_endpoint = \"{0}\", region = \"eu-central-1\" }}",
        moto.url
    );
    let (source, end) = parsed(&text, secrets::Owner::GithubApp);
    end.unwrap();
    let reader = Reader::new(source.unwrap(), means(&Env::default(), &Clock::system()));
    assert_eq!(shown(&reader.read().await.unwrap()), [("GITHUB_APP_ID", "7")]);
}

#[tokio::test]
async fn a_service_that_is_away_may_come_back() {
    let port = test_kit::port::free();
    let text = format!(
        "credentials.aws-secrets-manager = {{ secret_name = \"x\", region = \"r\", endpoint = \"http://127.0.0.1:{port}\" }}"
    );
    let (reader, clock) = crate::support::manual(&text, &env());
    let error = crate::support::hurry(&reader, &clock).await.unwrap_err();
    assert_eq!(error.class, Class::Later);
    let told = object_kit::chain(&error);
    assert!(
        told.contains("AWS Secrets Manager gives no answer; check the network") && !told.contains("canary"),
        "{told}"
    );
}
