//! A Vault that keeps state: secrets that change, tokens that end, namespaces, and what it says when it says no.

use std::time::Duration;

use secrets::{Class, KEPT};
use test_kit::vault::{Rules, Vault};

use crate::support::{Env, hurry, manual, read, refused, shown};

const NO_END: Rules =
    Rules { ttl: 0, ttl_max: 0, renewable: false, may_look: true, namespace: String::new() };

fn text(vault: &Vault, more: &str) -> String {
    format!("[caches.credentials.vault]\naddress = \"{}\"\nsecret_path = \"eka-ci/s3\"\n{more}", vault.url())
}

fn env() -> Env {
    Env::of(&[("VAULT_TOKEN", "token-canary")])
}

#[tokio::test]
async fn the_newest_version_of_a_secret_is_read_once_the_last_one_is_old() {
    let vault = Vault::start();
    vault.token("token-canary", NO_END);
    vault.write("", "secret", "eka-ci/s3", r#"{"A":"1","N":2}"#);
    let (reader, clock) = manual(&text(&vault, ""), &env());
    assert_eq!(shown(&reader.read().await.unwrap()), [("A", "1"), ("N", "2")]);
    vault.write("", "secret", "eka-ci/s3", r#"{"A":"rotated"}"#);
    assert_eq!(shown(&reader.read().await.unwrap()), [("A", "1"), ("N", "2")]);
    clock.step(KEPT);
    assert_eq!(shown(&reader.read().await.unwrap()), [("A", "rotated")]);
    let reads = vault.log().iter().filter(|seen| seen.as_str() == "GET /v1/secret/data/eka-ci/s3").count();
    assert_eq!(reads, 2, "{:?}", vault.log());
    let looks = vault.log().iter().filter(|seen| seen.ends_with("lookup-self")).count();
    assert_eq!(looks, 1, "a token without an end is looked at once");
}

#[tokio::test]
async fn mount_namespace_fields_and_a_token_file_are_minded() {
    let vault = Vault::start();
    vault.token("in-a-file", Rules { namespace: "prod".into(), ..NO_END });
    vault.write("prod", "kv/team", "eka-ci/s3", r#"{"id":"i","key":"k","other":"o"}"#);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "in-a-file\n").unwrap();
    let more = |fields: &str| {
        format!(
            "mount = \"kv/team\"\nnamespace = \"prod\"\ntoken_file = \"{}\"\nfields = {fields}",
            file.display()
        )
    };
    let fields = "{ AWS_ACCESS_KEY_ID = \"id\", AWS_SECRET_ACCESS_KEY = \"key\" }";
    let values = read(&text(&vault, &more(fields)), &env()).await.unwrap();
    assert_eq!(shown(&values), [("AWS_ACCESS_KEY_ID", "i"), ("AWS_SECRET_ACCESS_KEY", "k")]);
    let error = refused(&text(&vault, &more("{ A = \"idd\" }")), &env()).await;
    assert!(error.contains("has no field idd; it has id, key, other; correct fields.A"), "{error}");
}

#[tokio::test]
async fn a_token_near_its_end_is_renewed_by_a_read_or_between_reads_until_it_cannot_be() {
    let vault = Vault::start();
    vault.token("token-canary", Rules::renewable(3600, 10_000));
    vault.write("", "secret", "eka-ci/s3", r#"{"A":"1"}"#);
    let (reader, clock) = manual(&text(&vault, ""), &env());
    let pass = |seconds| {
        vault.pass(seconds);
        clock.step(Duration::from_secs(seconds));
    };
    reader.read().await.unwrap();
    pass(2000);
    reader.read().await.unwrap();
    assert_eq!(vault.left("token-canary"), Some(1600), "more than a third is left");
    pass(500);
    reader.read().await.unwrap();
    assert_eq!(vault.left("token-canary"), Some(3600));

    // Nobody reads now; who tends it wakes by itself.
    let tending = reader.clone();
    let tended = tokio::spawn(async move { tending.tend().await });
    clock.sleeping(1).await;
    pass(2500);
    let renewed = {
        let vault = &vault;
        async move {
            while vault.left("token-canary") != Some(3600) {
                tokio::task::yield_now().await;
            }
        }
    };
    service_kit::clock::Clock::system().timeout(Duration::from_secs(20), renewed).await.unwrap();
    tended.abort();
    pass(4000);
    let error = reader.read().await.unwrap_err();
    assert_eq!(error.class, Class::Mend);
    assert!(
        error.to_string().contains("Vault answers 403 permission denied; put a token in force"),
        "{error}"
    );

    // Another token in its place is taken at once.
    vault.token("another", NO_END);
    let other = Env::of(&[("VAULT_TOKEN", "another")]);
    read(&text(&vault, ""), &other).await.unwrap();
}

#[tokio::test]
async fn a_token_that_may_not_look_at_itself_still_reads() {
    let vault = Vault::start();
    vault.token("token-canary", Rules { may_look: false, ..NO_END });
    vault.write("", "secret", "eka-ci/s3", r#"{"A":"1"}"#);
    assert_eq!(shown(&read(&text(&vault, ""), &env()).await.unwrap()), [("A", "1")]);
}

#[tokio::test]
async fn every_no_names_the_place_and_a_remedy() {
    let vault = Vault::start();
    vault.token("token-canary", NO_END);
    vault.write("", "secret", "other", r#"{"A":"canary"}"#);
    vault.write("", "secret", "eka-ci/s3", r#"{"A":["canary"]}"#);
    let place = format!("secret/data/eka-ci/s3 at {}", vault.url());
    let error = refused(&text(&vault, ""), &env()).await;
    assert!(error.contains("the answer is none of a KV engine of version 2"), "{error}");
    vault.write("", "secret", "eka-ci/s3", "null");
    let error = refused(&text(&vault, ""), &env()).await;
    assert!(error.contains(&place) && error.contains("Vault answers 404; correct mount"), "{error}");
    let error = refused(&text(&vault, "mount = \"kv\""), &env()).await;
    assert!(error.contains("404 no handler for route \"kv/data/eka-ci/s3\""), "{error}");
    let error = refused(&text(&vault, "namespace = \"prod\""), &env()).await;
    assert!(error.contains("in namespace prod: Vault answers 403 permission denied"), "{error}");
    let error = refused(&text(&vault, ""), &Env::default()).await;
    assert!(error.contains("the variable VAULT_TOKEN: is not set"), "{error}");

    vault.seal(true);
    let (reader, clock) = manual(&text(&vault, ""), &env());
    let error = hurry(&reader, &clock).await.unwrap_err();
    assert_eq!(error.class, Class::Later);
    assert!(error.to_string().contains("Vault answers 503 Vault is sealed; unseal"), "{error}");
    vault.seal(false);
    let url = text(&vault, "");
    drop(vault);
    let (reader, clock) = manual(&url, &env());
    let error = hurry(&reader, &clock).await.unwrap_err();
    assert_eq!(error.class, Class::Later);
    assert!(object_kit::chain(&error).contains("Vault gives no answer"), "{error}");
}
