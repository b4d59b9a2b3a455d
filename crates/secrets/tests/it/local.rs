//! Sources on this machine: variables, files, systemd's credentials, profiles. Each is read afresh once its time is over.

use std::fs;
use std::time::Duration;

use secrets::{Class, KEPT};

use crate::support::{Env, manual, read, refused, shown};

const PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIC\n-----END RSA PRIVATE KEY-----";

#[tokio::test]
async fn variables_are_copied_and_unset_ones_named() {
    let env = Env::of(&[("A", "1"), ("B", "-----BEGIN X-----\\nb\\n"), ("EMPTY", ""), ("TOKEN", "t")]);
    let values = read("credentials.env.vars = [\"A\", \"B\"]", &env).await.unwrap();
    assert_eq!(shown(&values), [("A", "1"), ("B", "-----BEGIN X-----\nb\n")]);
    assert_eq!(values.need("A").unwrap().reveal(), "1");
    let error = values.need("C").unwrap_err().to_string();
    assert_eq!(error, "credentials of env, the environment: has no C, or an empty one; it has A, B; add C");
    for name in ["GONE", "EMPTY"] {
        let error = refused(&format!("credentials.env.vars = [\"A\", \"{name}\"]"), &env).await;
        assert!(
            error.starts_with(&format!("credentials of env, the variable {name}: is not set; set {name} in")),
            "{error}"
        );
    }
    let values = read("credentials.cachix-token.env_var = \"TOKEN\"", &env).await.unwrap();
    assert_eq!(shown(&values), [("CACHIX_AUTH_TOKEN", "t")]);
    assert_eq!(values.only().unwrap().reveal(), "t");
    assert_eq!(shown(&read("credentials = \"none\"", &env).await.unwrap()), []);
}

#[tokio::test]
async fn a_file_is_read_again_when_its_time_is_over_and_at_once_when_it_was_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    fs::write(&path, r#"{"A": "1"}"#).unwrap();
    let (reader, clock) = manual(&format!("credentials.file.path = \"{}\"", path.display()), &Env::default());
    let a = || async { reader.read().await.map(|values| values.get("A").unwrap().reveal().to_owned()) };
    assert_eq!(a().await.unwrap(), "1");
    fs::write(&path, "A=2\n").unwrap();
    clock.step(KEPT - Duration::from_millis(1));
    assert_eq!(a().await.unwrap(), "1");
    clock.step(Duration::from_millis(1));
    assert_eq!(a().await.unwrap(), "2");
    fs::write(&path, "A=3\n").unwrap();
    reader.forget().await;
    assert_eq!(a().await.unwrap(), "3");
    fs::remove_file(&path).unwrap();
    clock.step(KEPT);
    let error = a().await.unwrap_err();
    assert_eq!(error.class, Class::Mend);
    assert!(error.to_string().ends_with("/c: cannot be read; write it, or correct the path"), "{error}");
}

#[tokio::test]
async fn files_that_cannot_serve_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display();
    fs::write(dir.path().join("binary"), [0xff, 0xfe]).unwrap();
    fs::write(dir.path().join("large"), vec![b'a'; secrets::CONTENT_MAX + 1]).unwrap();
    fs::write(dir.path().join("words"), "canary\n").unwrap();
    for (name, expected) in [
        ("binary", "is not UTF-8"),
        ("large", "has more than 262144 bytes"),
        ("words", "line 1 is neither KEY=VALUE, empty, nor a remark"),
        ("", "is not a file"),
    ] {
        let error = refused(&format!("credentials.file.path = \"{here}/{name}\""), &Env::default()).await;
        assert!(error.contains(expected) && !error.contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn systemd_credentials_are_json_lines_or_one_value() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::of(&[("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())]);
    for (content, expected) in [
        (r#"{"A":"1","B":"2"}"#, vec![("A", "1"), ("B", "2")]),
        ("A=1\nB='2'\n", vec![("A", "1"), ("B", "2")]),
        ("a token==\n", vec![("app", "a token==")]),
    ] {
        fs::write(dir.path().join("app"), content).unwrap();
        let values = read("credentials.systemd-credential.name = \"app\"", &env).await.unwrap();
        assert_eq!(shown(&values), expected);
    }
    let error = refused("credentials.systemd-credential.name = \"gone\"", &env).await;
    assert!(error.contains("cannot be read; add LoadCredential=gone:FILE to the unit"), "{error}");
    let error = refused("credentials.systemd-credential.name = \"app\"", &Env::default()).await;
    assert!(error.contains("$CREDENTIALS_DIRECTORY is not set; run under systemd"), "{error}");
}

#[tokio::test]
async fn an_app_is_known_by_its_id_and_its_key_however_they_are_given() {
    let dir = tempfile::tempdir().unwrap();
    let (key, pairs) = (dir.path().join("key.pem"), dir.path().join("app"));
    fs::write(&key, format!("{PEM}\n")).unwrap();
    let (key, shown_pairs) = (key.display(), pairs.display());
    let escaped = PEM.replace('\n', "\\n");
    let env = Env::of(&[("GITHUB_APP_ID", "123"), ("GITHUB_APP_PRIVATE_KEY", &escaped)]);
    let of_file = format!("credentials.file.path = \"{shown_pairs}\"");
    for (text, content) in [
        (
            format!(
                "credentials.github-app-key-file = {{ app_id_env = \"GITHUB_APP_ID\", key_file = \"{key}\" }}"
            ),
            String::new(),
        ),
        ("credentials.github-app-key.app_id = \"123\"".to_owned(), String::new()),
        ("credentials.env.vars = [\"GITHUB_APP_ID\", \"GITHUB_APP_PRIVATE_KEY\"]".to_owned(), String::new()),
        (of_file.clone(), format!("GITHUB_APP_ID=123\nGITHUB_APP_PRIVATE_KEY={PEM}\n")),
        (of_file.clone(), format!("GITHUB_APP_ID=123\nGITHUB_APP_PRIVATE_KEY={key}\n")),
        (of_file.clone(), format!("{{\"GITHUB_APP_ID\":123,\"GITHUB_APP_PRIVATE_KEY\":\"{escaped}\"}}")),
    ] {
        fs::write(&pairs, content).unwrap();
        let app = read(&text, &env).await.unwrap().app().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((app.id, app.key.reveal().trim_end()), (123, PEM), "{text}");
    }
    for (content, expected) in [
        ("GITHUB_APP_ID=canary\n", "GITHUB_APP_ID is no number"),
        ("GITHUB_APP_ID=1\n", "has no GITHUB_APP_PRIVATE_KEY"),
        ("GITHUB_APP_ID=1\nGITHUB_APP_PRIVATE_KEY=canary\n", "GITHUB_APP_PRIVATE_KEY is no PEM"),
        ("GITHUB_APP_ID=1\nGITHUB_APP_PRIVATE_KEY=/gone.pem\n", "/gone.pem: cannot be read"),
    ] {
        fs::write(&pairs, content).unwrap();
        let error = read(&of_file, &env).await.unwrap().app().unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn a_profile_gives_its_keys_and_new_ones_once_they_are_written() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".aws")).unwrap();
    let write = |id: &str| {
        let text = format!("[ci]\naws_access_key_id={id}\naws_secret_access_key=s\naws_session_token=t\n");
        fs::write(home.path().join(".aws/credentials"), text).unwrap();
    };
    write("ONE");
    let env = Env::of(&[
        ("HOME", home.path().to_str().unwrap()),
        ("AWS_ACCESS_KEY_ID", "OTHER"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
    ]);
    let (reader, clock) = manual("credentials.aws-profile.profile = \"ci\"", &env);
    let keys = |id| [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")];
    assert_eq!(shown(&reader.read().await.unwrap()), keys("ONE"));
    write("TWO");
    clock.step(KEPT);
    assert_eq!(shown(&reader.read().await.unwrap()), keys("TWO"));
    let error = refused("credentials.aws-profile.profile = \"gone\"", &env).await;
    assert!(
        error.contains("the profile gone: there are no keys; set keys")
            && error.contains("there is no profile gone in"),
        "{error}"
    );
}
