//! No secret shows: ten sources, each with a canary; whatever is printed of them, of their errors and in the log is
//! searched.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex};

use secrets::Redactor;
use test_kit::cloud::Metadata;
use test_kit::vault::{Rules, Vault};

use crate::support::{Env, reader};

/// What the log was told.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn ten_canaries_stay_in_their_cages() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);

    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display();
    fs::create_dir(dir.path().join(".aws")).unwrap();
    fs::write(
        dir.path().join(".aws/credentials"),
        "[p]\naws_access_key_id=canary-id\naws_secret_access_key=canary-profile\n",
    )
    .unwrap();
    // Open to everybody: a warning has to be said, and not what is in them.
    fs::write(dir.path().join("file"), "A=canary-file\n").unwrap();
    fs::write(dir.path().join("broken"), "A=canary-broken\ncanary-broken\n").unwrap();
    fs::write(dir.path().join("odd.json"), "{\"A\":[\"canary-odd\"]}").unwrap();
    fs::write(dir.path().join("credential"), "canary-credential").unwrap();
    fs::write(dir.path().join("key.pem"), "-----BEGIN X-----\ncanary-pem\n-----END X-----\n").unwrap();
    let (vault, google) = (Vault::start(), Metadata::google());
    vault.token("canary-token", Rules::renewable(30, 30));
    vault.write("", "secret", "a", r#"{"A":"canary-vault"}"#);
    google.give("canary-google");
    let sent_back = test_kit::http_cache::Cache::start();
    let echo = r#"{"__type":"X","message":"you signed with canary-aws","errors":["no canary-token"]}"#;
    for method in ["GET", "POST"] {
        let fault = test_kit::http_cache::Fault::Answer(400, Vec::new(), echo.into());
        sent_back.fault(test_kit::http_cache::Rule::always(method, "", fault));
    }
    let env = Env::of(&[
        ("HOME", dir.path().to_str().unwrap()),
        ("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap()),
        ("A", "canary-variable"),
        ("VAULT_TOKEN", "canary-token"),
        ("AWS_ACCESS_KEY_ID", "canary-id"),
        ("AWS_SECRET_ACCESS_KEY", "canary-aws"),
    ]);
    let (url, back) = (vault.url(), sent_back.url());
    let good = [
        "credentials = \"none\"".to_owned(),
        "credentials.env.vars = [\"A\"]".into(),
        "credentials.cachix-token.env_var = \"A\"".into(),
        format!("credentials.file.path = \"{here}/file\""),
        "credentials.aws-profile.profile = \"p\"".into(),
        format!("credentials.vault = {{ address = \"{url}\", secret_path = \"a\" }}"),
        "credentials.systemd-credential.name = \"credential\"".into(),
        format!("credentials.instance-metadata = {{ endpoint = \"{}\", provider = \"gcp\" }}", google.url()),
        format!("credentials.github-app-key-file = {{ app_id = \"1\", key_file = \"{here}/key.pem\" }}"),
    ];
    let bad = [
        format!("credentials.file.path = \"{here}/broken\""),
        format!("credentials.file.path = \"{here}/odd.json\""),
        "credentials.systemd-credential.name = \"odd.json\"".into(),
        format!("credentials.vault = {{ address = \"{url}\", secret_path = \"b\" }}"),
        format!("credentials.vault = {{ address = \"{back}\", secret_path = \"b\" }}"),
        format!(
            "credentials.aws-secrets-manager = {{ secret_name = \"x\", region = \"r\", endpoint = \"{back}\" }}"
        ),
        format!("credentials.instance-metadata = {{ endpoint = \"{back}\", provider = \"azure\" }}"),
    ];
    let (mut printed, mut canaries) = (String::new(), 0);
    for text in good.iter().chain(&bad) {
        let reader = reader(text, &env);
        let read = reader.read().await;
        let is_bad = bad.contains(text);
        assert_eq!(read.is_err(), is_bad, "{text}: {read:?}");
        writeln!(printed, "{reader:?} {:?} {read:?}", reader.source()).unwrap();
        writeln!(printed, "{:?}", reader.source().check(&env.lookup())).unwrap();
        match read {
            Ok(values) => {
                writeln!(printed, "{values:?} {:?} {:?}", values.app(), values.need("none")).unwrap();
                for (_, value) in values.iter().filter(|(_, value)| value.reveal().contains("canary")) {
                    canaries += 1;
                    writeln!(printed, "{value} {value:?} {:?}", Redactor::new([value])).unwrap();
                }
            }
            Err(error) => writeln!(printed, "{error} {error:?} {}", object_kit::chain(&error)).unwrap(),
        }
    }
    assert!(canaries >= 8, "{canaries}");
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("everybody on this machine can read"), "{logged}");
    for text in [&printed, &logged] {
        assert!(!text.contains("canary"), "{text}");
    }
}
