//! The metadata services of Google's and Azure's machines, and finding out whose machine it is. EC2's is in [`crate::real`].

use std::time::Duration;

use object_kit::Line;
use secrets::{KEPT, Means, Reader};
use service_kit::clock::Clock;
use service_kit::http::Reach;
use test_kit::cloud::Metadata;

use crate::support::{Env, START, manual, means, read, refused, shown, source};

fn text(server: &Metadata, provider: &str) -> String {
    format!("[caches.credentials.instance-metadata]\nendpoint = \"{}\"\n{provider}", server.url())
}

#[tokio::test]
async fn google_and_azure_give_tokens_that_end_and_new_ones() {
    for (server, provider, name, lasts) in [
        (Metadata::google(), "gcp", "GOOGLE_OAUTH_ACCESS_TOKEN", 3599),
        (Metadata::azure(), "azure", "AZURE_ACCESS_TOKEN", 86_399),
    ] {
        let text = text(&server, &format!("provider = \"{provider}\""));
        let error = refused(&text, &Env::default()).await;
        assert!(
            error.contains("credentials of instance-metadata")
                && error.contains("give the machine an identity"),
            "{error}"
        );
        server.give("one");
        let (reader, clock) = manual(&text, &Env::default());
        let values = reader.read().await.unwrap();
        assert_eq!(shown(&values), [(name, "one")]);
        assert_eq!(values.ends(), Some(START + Duration::from_secs(lasts)));
        server.give("two");
        clock.step(KEPT);
        assert_eq!(shown(&reader.read().await.unwrap()), [(name, "two")]);
    }
}

#[tokio::test]
async fn whose_machine_it_is_is_found_out() {
    for (server, name) in
        [(Metadata::google(), "GOOGLE_OAUTH_ACCESS_TOKEN"), (Metadata::azure(), "AZURE_ACCESS_TOKEN")]
    {
        let error = refused(&text(&server, ""), &Env::default()).await;
        for cloud in ["AWS: ", "Google: ", "Azure: "] {
            assert!(error.contains(cloud), "{error}");
        }
        server.give("t");
        assert_eq!(shown(&read(&text(&server, ""), &Env::default()).await.unwrap()), [(name, "t")]);
    }
}

/// The one source that asks a metadata service may, however little else is in reach; a Vault may be in a private network,
/// and is no metadata service.
#[tokio::test]
async fn only_this_source_asks_a_metadata_service() {
    let server = Metadata::google();
    server.give("t");
    let clock = Clock::system();
    let near = means(&Env::default(), &clock);
    let line = Line { reach: Reach::Public, ..near.line.clone() };
    let reader = Reader::new(source(&text(&server, "provider = \"gcp\"")), Means { line, ..near });
    assert_eq!(shown(&reader.read().await.unwrap()), [("GOOGLE_OAUTH_ACCESS_TOKEN", "t")]);

    let vault = "[caches.credentials.vault]\naddress = \"http://169.254.169.254\"\nsecret_path = \"a/b\"\n";
    let error = refused(vault, &Env::of(&[("VAULT_TOKEN", "t")])).await;
    assert!(
        error.contains("169.254.169.254 is the address of a cloud's metadata service; correct"),
        "{error}"
    );
}

#[tokio::test]
async fn another_server_is_not_believed_to_be_google() {
    let server = test_kit::http_cache::Cache::start();
    server.insert(
        "/computeMetadata/v1/instance/service-accounts/default/token",
        br#"{"access_token":"canary","expires_in":1}"#,
    );
    let text =
        format!("credentials.instance-metadata = {{ endpoint = \"{}\", provider = \"gcp\" }}", server.url());
    let error = refused(&text, &Env::default()).await;
    assert!(error.contains("not of Google's metadata service") && !error.contains("canary"), "{error}");
}

#[tokio::test]
async fn the_environment_does_not_move_the_service_and_a_server_that_hangs_is_left() {
    let server = test_kit::http_cache::Cache::start();
    server.fault(test_kit::http_cache::Rule {
        method: None,
        ..test_kit::http_cache::Rule::always("GET", "", test_kit::http_cache::Fault::Stall)
    });
    let moved = Metadata::google();
    let env = Env::of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", moved.url().as_str())]);
    let text = format!("credentials.instance-metadata.endpoint = \"{}\"", server.url());
    let (clock, manual) = Clock::manual(START);
    let reader = Reader::new(source(&text), means(&env, &clock));
    let work = reader.read();
    tokio::pin!(work);
    let error = loop {
        tokio::select! {
            biased;
            done = &mut work => break done.unwrap_err(),
            () = manual.sleeping(1) => {
                manual.step(Duration::from_millis(100));
                tokio::task::yield_now().await;
            }
        }
    };
    assert!(!error.remedy.is_empty(), "{error}");
    assert!(moved.log().is_empty(), "{:?}", moved.log());
}
