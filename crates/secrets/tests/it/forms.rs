//! How credentials may be written, and what is said of those that may not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrets::{Cloud, ManagedSecret, Owner, Source, VaultSecret, VaultToken};

use crate::support::{Env, parsed, source};

fn managed(name: &str, region: Option<&str>) -> ManagedSecret {
    ManagedSecret { name: name.into(), region: region.map(str::to_owned), endpoint: None }
}

fn instance(provider: Option<Cloud>) -> Source {
    Source::InstanceMetadata { provider, endpoint: None, resource: None, secret: None }
}

fn vault(path: &str) -> VaultSecret {
    VaultSecret {
        address: "https://vault.example.com:8200".into(),
        mount: "secret".into(),
        path: path.into(),
        namespace: None,
        token: VaultToken::Env("VAULT_TOKEN".into()),
        fields: BTreeMap::new(),
        ca_file: None,
    }
}

#[test]
fn every_documented_spelling_is_taken() {
    let systemd = Source::SystemdCredential { name: "app".into() };
    let app = Source::GithubAppKeyFile {
        app_id: None,
        app_id_env: "GITHUB_APP_ID".into(),
        key_file: Some(PathBuf::from("/etc/eka-ci/key.pem")),
    };
    let app_id = Source::GithubAppKeyFile {
        app_id: Some("7".into()),
        app_id_env: "GITHUB_APP_ID".into(),
        key_file: None,
    };
    let key_file = r#"{ app_id_env = "GITHUB_APP_ID", key_file = "/etc/eka-ci/key.pem" }"#;
    let cases = [
        (r#"credentials = "none""#.to_owned(), Source::None),
        ("credentials = { none = {} }".into(), Source::None),
        ("credentials.env.vars = [\"A\", \"B_2\"]".into(), Source::Env { vars: vec!["A".into(), "B_2".into()] }),
        ("[caches.credentials.file]\npath = \"/c.json\"".into(), Source::File { path: "/c.json".into() }),
        (
            r#"credentials = { aws-profile = { profile = "ci" } }"#.into(),
            Source::AwsProfile { profile: "ci".into(), secret: None },
        ),
        (
            r#"credentials = { cachix-token = { env_var = "T" } }"#.into(),
            Source::CachixToken { env_var: "T".into() },
        ),
        ("credentials = { cachix-token = {} }".into(), Source::CachixToken { env_var: "CACHIX_AUTH_TOKEN".into() }),
        (
            r#"credentials = { aws-secrets-manager = { secret_name = "a/b", region = "us-east-1" } }"#.into(),
            Source::AwsSecretsManager(managed("a/b", Some("us-east-1"))),
        ),
        (r#"credentials = { systemd-credential = { name = "app" } }"#.into(), systemd.clone()),
        (r#"credentials = { systemd = { credential_id = "app" } }"#.into(), systemd),
        (r#"credentials = "instance-metadata""#.into(), instance(None)),
        ("credentials = { instance-metadata = {} }".into(), instance(None)),
        (r#"credentials = { instance-metadata = { provider = "ec2" } }"#.into(), instance(Some(Cloud::Aws))),
        (r#"credentials = { instance-metadata = { provider = "azure" } }"#.into(), instance(Some(Cloud::Azure))),
        (format!("credentials = {{ github-app-key-file = {key_file} }}"), app.clone()),
        (format!("credentials = {{ git-hub-app-key-file = {key_file} }}"), app),
        (r#"credentials = { github-app-key = { app_id = "7" } }"#.into(), app_id),
        // Over several lines, as the guides print it.
        (
            "credentials = { vault = {\naddress = \"https://vault.example.com:8200\",\nsecret_path = \"eka-ci/s3\",\ntoken_env = \"VAULT_TOKEN\"\n}}".into(),
            Source::Vault(vault("eka-ci/s3")),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(source(&text), expected, "{text}");
    }
    assert_eq!(parsed("", Owner::Cache).0, None);
}

#[test]
fn a_vault_path_is_the_same_with_and_without_its_mount() {
    let at = |more: &str| {
        let text =
            format!("[caches.credentials.vault]\naddress = \"https://vault.example.com:8200/\"\n{more}");
        match source(&text) {
            Source::Vault(vault) => vault,
            other => panic!("{other:?}"),
        }
    };
    for path in ["eka-ci/s3", "/eka-ci/s3/", "secret/data/eka-ci/s3", "v1/secret/data/eka-ci/s3"] {
        assert_eq!(at(&format!("secret_path = \"{path}\"")), vault("eka-ci/s3"), "{path}");
    }
    let everything = "mount = \"kv/team\"\nsecret_path = \"kv/team/data/x\"\nnamespace = \"prod/\"\ntoken_file = \"/t\"\nca_file = \"/ca.pem\"\nfields = { AWS_ACCESS_KEY_ID = \"id\" }";
    let expected = VaultSecret {
        mount: "kv/team".into(),
        namespace: Some("prod".into()),
        token: VaultToken::File("/t".into()),
        fields: [("AWS_ACCESS_KEY_ID".to_owned(), "id".to_owned())].into(),
        ca_file: Some("/ca.pem".into()),
        ..vault("x")
    };
    assert_eq!(at(everything), expected);
}

#[test]
fn what_an_app_is_given_by_a_machine_or_profile_opens_secrets_manager() {
    for text in [r#"credentials = "instance-metadata""#, "credentials = { instance-metadata = {} }"] {
        let (source, end) = parsed(text, Owner::GithubApp);
        end.unwrap();
        let secret = Some(managed("eka-ci/github-app", None));
        let expected = Source::InstanceMetadata { provider: None, endpoint: None, resource: None, secret };
        assert_eq!(source, Some(expected));
    }
    let text = r#"credentials = { aws-profile = { profile = "p", secret_name = "x", region = "mars" } }"#;
    let (source, end) = parsed(text, Owner::GithubApp);
    end.unwrap();
    assert_eq!(
        source,
        Some(Source::AwsProfile { profile: "p".into(), secret: Some(managed("x", Some("mars"))) })
    );
}

#[test]
fn what_cannot_be_meant_is_refused_with_place_and_remedy_and_without_the_value() {
    let cases = [
        (
            r#"credentials = "canary""#,
            "f:2: [[caches]] credentials: is no source of credentials; write \"none\"",
        ),
        ("credentials = 3", "[[caches]] credentials: must be a string or a table"),
        ("credentials = {}", "[caches.credentials]: names no source of credentials"),
        ("credentials = { vaults = {} }", "[caches.credentials] vaults: unknown key; did you mean vault?"),
        ("credentials = { aws_profile = {} }", "unknown key; did you mean aws-profile?"),
        ("credentials = { none = {}, env = { vars = [\"A\"] } }", "names more than one source"),
        ("credentials = { none = { x = 1 } }", "[caches.credentials.none] x: unknown key"),
        ("credentials = { env = {} }", "[caches.credentials.env] vars: is missing"),
        ("credentials = { env = { vars = [] } }", "vars: has none"),
        ("credentials = { env = { vars = [\"canary=1\"] } }", "vars: is no name of a variable"),
        ("credentials = { env = { var = [\"A\"] } }", "var: unknown key; did you mean vars?"),
        ("credentials = { file = { path = \"canary\" } }", "path: is not an absolute path"),
        ("credentials = { aws-profile = { profile = \"\" } }", "profile: is empty"),
        (
            "credentials = { aws-profile = { profile = \"p\", region = \"mars\" } }",
            "region: stands without secret_name",
        ),
        ("credentials = { instance-metadata = { region = \"mars\" } }", "region: stands without secret_name"),
        (
            "credentials = { aws-secrets-manager = { secret_name = \"x\", region = \"a.b/canary\" } }",
            "region: is no region",
        ),
        (
            "credentials = { systemd-credential = { name = \"../canary\" } }",
            "name: is no name of a credential",
        ),
        (
            "credentials = { instance-metadata = { provider = \"canary\" } }",
            "provider: is none of the known words",
        ),
        (
            "credentials = { instance-metadata = { provider = \"gcp\", secret_name = \"x\" } }",
            "provider: gives no keys",
        ),
        (
            "credentials = { github-app-key-file = { app_id = \"1\", app_id_env = \"A\" } }",
            "app_id_env: stands beside app_id",
        ),
        ("credentials = { vault = { address = \"https://v\" } }", "secret_path: is missing"),
        (
            "credentials = { vault = { address = \"https://canary:x@v\", secret_path = \"a\" } }",
            "address: is no address",
        ),
        (
            "credentials = { vault = { address = \"https://v\", secret_path = \"a/../b\" } }",
            "secret_path: is no path of a secret",
        ),
        (
            "credentials = { vault = { address = \"https://v\", secret_path = \"a\", token_env = \"A\", token_file = \"/t\" } }",
            "token_file: stands beside token_env",
        ),
        (
            "credentials = { vault = { address = \"https://v\", secret_path = \"a\", fields = { X = 1 } } }",
            "[caches.credentials.vault.fields] X: must be a string",
        ),
        (
            "credentials = { vault = { address = \"https://v\", secret_path = \"a\", adress = \"canary\" } }",
            "adress: unknown key; did you mean address?",
        ),
    ];
    for (text, expected) in cases {
        let (_, end) = parsed(text, Owner::Cache);
        let report = end.expect_err(text).to_string();
        assert!(report.contains(expected), "{text}\n{report}");
        assert!(!report.contains("canary"), "{report}");
    }
}

#[test]
fn what_is_risky_is_taken_with_a_warning() {
    for (text, expected) in [
        (
            "credentials = { vault = { address = \"http://vault:8200\", secret_path = \"a\" } }",
            "tokens and secrets go in the clear",
        ),
        (
            "credentials = { instance-metadata = { endpoint = \"http://127.0.0.1:1\" } }",
            "stands in for the service's own address",
        ),
        (
            "credentials = { aws-secrets-manager = { secret_name = \"x\", endpoint = \"https://h\" } }",
            "stands in for the service's own address",
        ),
    ] {
        let warnings = parsed(text, Owner::Cache).1.unwrap();
        assert!(warnings.iter().any(|warning| warning.to_string().contains(expected)), "{warnings:?}");
    }
}

#[test]
fn a_check_warns_of_what_is_absent_here_and_refuses_what_makes_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    write("good", "A=1\n");
    write("bad", "canary\n");
    let open = write("open", "A=1\n");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let here = dir.path().display();
    let env = Env::of(&[("SET", "1"), ("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())]);
    let file = |name: &str| format!("credentials.file.path = \"{here}/{name}\"");
    let vault = "address = \"https://v\", secret_path = \"a\"";
    for (text, expected) in [
        ("credentials = \"none\"".to_owned(), vec![]),
        (
            "credentials.env.vars = [\"SET\", \"UNSET\"]".into(),
            vec![(false, "the variable UNSET is not set here")],
        ),
        (file("good"), vec![]),
        (file("gone"), vec![(false, "cannot be read: No such file")]),
        (file("bad"), vec![(true, "line 1 is neither KEY=VALUE")]),
        (file("open"), vec![(false, "everybody on this machine can read")]),
        (file(""), vec![(true, "is not a file")]),
        ("credentials.systemd-credential.name = \"bad\"".into(), vec![]),
        ("credentials.systemd-credential.name = \"gone\"".into(), vec![(false, "cannot be read")]),
        (format!("credentials.vault = {{ {vault} }}"), vec![(false, "the variable VAULT_TOKEN is not set")]),
        (format!("credentials.vault = {{ {vault}, token_file = \"{here}/good\" }}"), vec![]),
        ("credentials.aws-secrets-manager.secret_name = \"x\"".into(), vec![(false, "no region is named")]),
        (
            format!("credentials.github-app-key-file.key_file = \"{here}/gone\""),
            vec![(false, "the variable GITHUB_APP_ID"), (false, "cannot be read")],
        ),
    ] {
        let found = source(&text).check(&env.lookup());
        assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
        for (found, (is_error, what)) in found.iter().zip(expected) {
            assert!(found.is_error == is_error && found.what.contains(what), "{text}: {found:?}");
            assert!(!found.what.contains("canary") && !found.remedy.is_empty(), "{found:?}");
        }
    }
    let nowhere = source("credentials.systemd-credential.name = \"x\"").check(&Env::default().lookup());
    assert!(nowhere[0].what.contains("$CREDENTIALS_DIRECTORY is not set"), "{nowhere:?}");
}
