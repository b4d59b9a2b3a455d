//! Where keys come from. The environment is a table of the test; who we turn out to be is read from the signature that
//! arrives at a bucket.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_kit::aws::{Chain, ChainSettings, Credentials, Look, Runner, find, region};
use object_kit::{BodySize, Chunks, Class, ObjectError, Objects, S3};
use service_kit::clock::Clock;
use test_kit::http_cache::{Cache, Fault, Rule, Seen};

use crate::support::{START, bytes, line, meta, s3_settings, told};

/// A chain in a home folder of its own; what the environment lacks, instance metadata included, is switched off.
pub(crate) fn chain(home: &Path, vars: &[(&str, &str)], clock: Clock) -> ChainSettings {
    let mut table: HashMap<String, String> =
        vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    table.insert("HOME".into(), home.to_str().unwrap().into());
    if !table.contains_key("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        table.insert("AWS_EC2_METADATA_DISABLED".into(), "true".into());
    }
    let lookup = Arc::new(move |name: &str| table.get(name).cloned());
    ChainSettings { lookup, look: Look::Everywhere, runner: None, line: line(clock) }
}

/// A bucket, and a place in it whose credentials are those of a chain.
struct Asked {
    cache: Cache,
    place: S3,
}

impl Asked {
    fn new(settings: ChainSettings) -> Self {
        let cache = Cache::start();
        let line = settings.line.clone();
        let credentials = Credentials::Chain(Chain::new(settings));
        let place = S3::new(&s3_settings(&cache.url(), credentials, line)).unwrap();
        Self { cache, place }
    }

    /// Puts something; gives the key it was signed with.
    async fn who(&self) -> Result<String, ObjectError> {
        self.place.put("x", bytes(1), &meta()).await?;
        Ok(signer(self.cache.log().last().unwrap()))
    }
}

pub(crate) fn signer(seen: &Seen) -> String {
    let (_, rest) = seen.headers["authorization"].split_once("Credential=").unwrap();
    rest.split('/').next().unwrap().to_owned()
}

async fn who(settings: ChainSettings) -> Result<String, ObjectError> {
    Asked::new(settings).who().await
}

fn files(credentials: &str, config: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
    std::fs::write(home.path().join(".aws/config"), config).unwrap();
    home
}

fn profile(settings: ChainSettings, name: &str) -> ChainSettings {
    ChainSettings { look: Look::Profile(name.into()), ..settings }
}

/// Keys as services print them.
fn json(id: &str, ends: &str) -> String {
    format!(
        r#"{{"Code":"Success","AccessKeyId":"{id}","SecretAccessKey":"s","Token":"t","Expiration":"{ends}"}}"#
    )
}

fn sts(id: &str) -> String {
    let keys = format!(
        "<AccessKeyId>{id}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t/+=</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
    );
    format!("<R xmlns=\"x\"><Result><Credentials>{keys}</Credentials></Result></R>")
}

fn ok(body: String) -> Fault {
    Fault::Answer(200, Vec::new(), body)
}

const ENV: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "s")];

#[tokio::test]
async fn the_first_source_that_has_keys_counts() {
    let home = files(
        "[default]\naws_access_key_id=DEF\naws_secret_access_key=s\n[other]\naws_access_key_id=OTHER\naws_secret_access_key=s\n",
        "",
    );
    let clock = Clock::system;
    assert_eq!(who(chain(home.path(), &ENV, clock())).await.unwrap(), "ENV");
    assert_eq!(who(chain(home.path(), &[], clock())).await.unwrap(), "DEF");
    assert_eq!(who(chain(home.path(), &[("AWS_PROFILE", "other")], clock())).await.unwrap(), "OTHER");
    let told_to = profile(chain(home.path(), &ENV, clock()), "other");
    assert_eq!(
        who(told_to).await.unwrap(),
        "OTHER",
        "a profile that was asked for is used whatever else is there"
    );
    let elsewhere = home.path().join(".aws/credentials");
    let empty = tempfile::tempdir().unwrap();
    let vars = [("AWS_SHARED_CREDENTIALS_FILE", elsewhere.to_str().unwrap())];
    assert_eq!(who(chain(empty.path(), &vars, clock())).await.unwrap(), "DEF");
}

#[tokio::test]
async fn what_is_missing_or_broken_is_said() {
    let home = files(
        "[ci]\nregion=x\n[line]\n",
        "[profile sso]\nsso_session=a\n[profile process]\ncredential_process=x\n[profile a]\nrole_arn=r\nsource_profile=b\n[profile b]\nrole_arn=r\nsource_profile=a\n[profile odd]\nrole_arn=r\ncredential_source=Moon\n",
    );
    let empty = tempfile::tempdir().unwrap();
    let at = |name: &str| profile(chain(home.path(), &[], Clock::system()), name);
    let cases = [
        (chain(empty.path(), &[], Clock::system()), "no AWS credentials: looked at AWS_ACCESS_KEY_ID"),
        (
            chain(empty.path(), &ENV[..1], Clock::system()),
            "AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not",
        ),
        (at("gone"), "there is no profile gone in"),
        (at("ci"), "profile ci has no aws_access_key_id"),
        (at("sso"), "profile sso uses single sign-on"),
        (at("process"), "this program runs none"),
        (at("a"), "profile a leads back to itself"),
        (at("odd"), "credential_source of profile odd has a value that is not known here: Moon"),
    ];
    for (settings, expected) in cases {
        let error = who(settings).await.unwrap_err();
        assert!(matches!(error.class, Class::Credentials | Class::Local));
        assert!(told(&error).contains(expected), "{}", told(&error));
    }
    std::fs::write(home.path().join(".aws/config"), "[default]\nnonsense\n").unwrap();
    let error = who(at("ci")).await.unwrap_err();
    assert!(
        told(&error).ends_with("line 2 is neither [section], key = value, nor a remark"),
        "{}",
        told(&error)
    );
}

#[tokio::test]
async fn a_look_at_the_machine_alone_passes_over_environment_and_files() {
    let service = Cache::start();
    service.insert("/creds", json("HERE", "2099-01-01T00:00:00Z").as_bytes());
    let home = files("[default]\naws_access_key_id=DEF\naws_secret_access_key=s\nregion=mars\n", "");
    let url = format!("{}/creds", service.url());
    let vars = [ENV[0], ENV[1], ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str())];
    let machine = |vars| ChainSettings { look: Look::Machine, ..chain(home.path(), vars, Clock::system()) };
    let loaded = find(&machine(&vars)).await.unwrap();
    assert_eq!(loaded.keys.id, "HERE");
    assert_eq!(loaded.expires, Some("2099-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!(region(&machine(&vars)).unwrap().as_deref(), Some("mars"));
    let error = find(&machine(&ENV)).await.unwrap_err();
    assert!(told(&error).contains("switched off by AWS_EC2_METADATA_DISABLED"), "{}", told(&error));
}

#[tokio::test]
async fn a_process_is_run_by_who_was_given_for_it() {
    let home = files("", "[profile p]\ncredential_process = helper --for ci\n");
    let runner: Runner = Arc::new(|command: String| {
        Box::pin(async move {
            assert_eq!(command, "helper --for ci");
            Ok(br#"{"Version":1,"AccessKeyId":"PROC","SecretAccessKey":"s"}"#.to_vec())
        })
    });
    let settings = profile(chain(home.path(), &[], Clock::system()), "p");
    assert_eq!(who(ChainSettings { runner: Some(runner), ..settings.clone() }).await.unwrap(), "PROC");
    for output in ["{}", "\"canary\"", r#"{"AccessKeyId":"i","SecretAccessKey":["canary"]}"#] {
        let broken: Runner = Arc::new(|_| Box::pin(async { Ok(output.as_bytes().to_vec()) }));
        let error = who(ChainSettings { runner: Some(broken), ..settings.clone() }).await.unwrap_err();
        assert!(
            told(&error).contains("the credential_process of profile p gave no keys"),
            "{}",
            told(&error)
        );
        assert!(!told(&error).contains("canary"), "{}", told(&error));
    }
}

/// Whatever a helper prints instead of its object, no word of it is repeated.
#[tokio::test]
async fn what_a_helper_prints_is_never_shown() {
    let home = files("", "[profile p]\ncredential_process = helper\n");
    let printed = [
        ("\"s3cret-word\"", "this JSON has another form at line 1, column 13"),
        ("s3cret-word", "this is no JSON at line 1"),
        (r#"{"AccessKeyId":"s3cret-word"#, "the JSON ends too early"),
        (r#"{"AccessKeyId":7,"s3cret-word":1}"#, "this JSON has another form"),
        (r#"{"AccessKeyId":"a","SecretAccessKey":"b","Expiration":"s3cret-word"}"#, "their end is no time"),
    ];
    for (text, why) in printed {
        let runner: Runner = Arc::new(move |_| Box::pin(async move { Ok(text.as_bytes().to_vec()) }));
        let settings = profile(chain(home.path(), &[], Clock::system()), "p");
        let error = who(ChainSettings { runner: Some(runner), ..settings }).await.unwrap_err();
        assert!(told(&error).contains(why) && !told(&error).contains("s3cret"), "{}", told(&error));
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_role_is_taken_with_the_keys_of_its_source_through_each_profile_on_the_way() {
    let service = Cache::start();
    let home = files(
        "[base]\naws_access_key_id=BASE\naws_secret_access_key=s\n",
        "[profile mid]\nrole_arn=arn:mid\nsource_profile=base\n[profile top]\nrole_arn=arn:top\nsource_profile=mid\nexternal_id=e&1\n",
    );
    service.fault(Rule::once("POST", "", ok(sts("MID"))));
    service.fault(Rule::once("POST", "", ok(sts("TOP"))));
    let url = service.url();
    let settings =
        profile(chain(home.path(), &[("AWS_ENDPOINT_URL_STS", url.as_str())], Clock::system()), "top");
    let asked = Asked::new(settings);
    assert_eq!(asked.who().await.unwrap(), "TOP");
    assert_eq!(asked.cache.log()[0].headers["x-amz-security-token"], "t/+=");
    let signers: Vec<String> = service.log().iter().map(signer).collect();
    assert_eq!(signers, ["BASE", "MID"]);
    assert_eq!(asked.who().await.unwrap(), "TOP");
    assert_eq!(service.log().len(), 2, "keys in force are not asked for again");
}

#[tokio::test]
async fn a_container_asks_its_service_with_its_token() {
    let (service, home) = (Cache::start(), tempfile::tempdir().unwrap());
    let token = home.path().join("token");
    std::fs::write(&token, "tok\n").unwrap();
    service.insert("/creds", json("ECS", "2099-01-01T00:00:00Z").as_bytes());
    service.require("tok");
    let url = format!("{}/creds", service.url());
    let vars = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap()),
    ];
    assert_eq!(who(chain(home.path(), &vars, Clock::system())).await.unwrap(), "ECS");
    for address in
        ["http://10.0.0.1/x", "http://u:p@127.0.0.1/x", "ftp://127.0.0.1/x", "http://metadata.example/x"]
    {
        let vars = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)];
        let error = who(chain(home.path(), &vars, Clock::system())).await.unwrap_err();
        assert!(told(&error).contains("is no address of a credential service"), "{}", told(&error));
    }
}

/// An instance's service that gives these keys.
fn imds(service: &Cache, id: &str, ends: &str) {
    let path = "/latest/meta-data/iam/security-credentials/";
    service.insert(path, b"the role");
    service.insert(&format!("{path}the role"), json(id, ends).as_bytes());
}

#[tokio::test]
async fn keys_of_an_instance_are_renewed_before_they_end() {
    let (service, home) = (Cache::start(), tempfile::tempdir().unwrap());
    imds(&service, "ONE", "2026-01-31T11:00:00Z");
    service.fault(Rule::always("PUT", "/latest/api/token", ok("tok".into())));
    let (clock, manual) = Clock::manual(START);
    let url = service.url();
    let asked = Asked::new(chain(home.path(), &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())], clock));
    assert_eq!(asked.who().await.unwrap(), "ONE");
    assert_eq!(service.log()[0].headers["x-aws-ec2-metadata-token-ttl-seconds"], "300");
    assert!(service.log()[1..].iter().all(|seen| seen.headers["x-aws-ec2-metadata-token"] == "tok"));
    imds(&service, "TWO", "2026-01-31T17:00:00Z");
    manual.step(Duration::from_secs(54 * 60));
    assert_eq!(asked.who().await.unwrap(), "ONE");
    manual.step(Duration::from_secs(2 * 60));
    assert_eq!(asked.who().await.unwrap(), "TWO", "less than five minutes were left");
}

#[tokio::test]
async fn keys_in_force_outlast_a_source_that_is_down_for_a_moment() {
    let (service, home) = (Cache::start(), tempfile::tempdir().unwrap());
    imds(&service, "ONE", "2026-01-31T11:00:00Z");
    service.fault(Rule::once("PUT", "/latest/api/token", ok("tok".into())));
    let (clock, manual) = Clock::manual(START);
    let url = service.url();
    let asked = Asked::new(chain(home.path(), &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())], clock));
    assert_eq!(asked.who().await.unwrap(), "ONE");
    service.fault(Rule::always("PUT", "/latest/api/token", Fault::Answer(404, Vec::new(), String::new())));
    manual.step(Duration::from_secs(57 * 60));
    assert_eq!(asked.who().await.unwrap(), "ONE");
    manual.step(Duration::from_secs(4 * 60));
    assert_eq!(asked.who().await.unwrap_err().class, Class::Credentials, "they have ended");
}

#[tokio::test]
async fn keys_that_a_bucket_calls_expired_are_renewed_once() {
    let home = files("[default]\naws_access_key_id=OLD\naws_secret_access_key=s\n", "");
    let asked = Asked::new(chain(home.path(), &[], Clock::system()));
    assert_eq!(asked.who().await.unwrap(), "OLD");
    let expired = Fault::Answer(400, Vec::new(), "<Error><Code>ExpiredToken</Code></Error>".into());
    asked.cache.fault(Rule::once("PUT", "", expired.clone()));
    let new = "[default]\naws_access_key_id=NEW\naws_secret_access_key=s\n";
    std::fs::write(home.path().join(".aws/credentials"), new).unwrap();
    assert_eq!(asked.who().await.unwrap(), "NEW");
    asked.cache.fault(Rule::always("PUT", "", expired));
    assert_eq!(asked.who().await.unwrap_err().class, Class::Credentials);
}

/// An upload takes hours, and its keys may end before it does.
#[tokio::test]
async fn keys_that_expire_before_the_end_of_an_upload_are_renewed() {
    let home = files("[default]\naws_access_key_id=OLD\naws_secret_access_key=s\n", "");
    let asked = Asked::new(chain(home.path(), &[], Clock::system()));
    assert_eq!(asked.who().await.unwrap(), "OLD");
    let expired = Fault::Answer(400, Vec::new(), "<Error><Code>ExpiredToken</Code></Error>".into());
    asked.cache.fault(Rule::once("POST", "uploadId", expired));
    let new = "[default]\naws_access_key_id=NEW\naws_secret_access_key=s\n";
    std::fs::write(home.path().join(".aws/credentials"), new).unwrap();
    let (mut body, size) = (Chunks::new(vec![bytes(1000); 3]), BodySize::exact(3000));
    asked.place.put_stream("long", &mut body, &meta(), size).await.unwrap();
    assert_eq!(asked.cache.object("/bkt/long").unwrap().bytes.len(), 3000);
    let log = asked.cache.log();
    let ends = log.iter().filter(|seen| seen.method == "POST" && seen.target.contains("uploadId"));
    assert_eq!(ends.map(signer).collect::<Vec<_>>(), ["OLD", "NEW"]);
}

/// Somebody mends the file: the right keys are used without a restart, and wrong ones are not looked for all the time.
#[tokio::test]
async fn keys_that_a_bucket_calls_wrong_are_looked_for_again() {
    for code in ["InvalidAccessKeyId", "SignatureDoesNotMatch"] {
        let home = files("[default]\naws_access_key_id=OLD\naws_secret_access_key=s\n", "");
        let (clock, manual) = Clock::manual(START);
        let asked = Asked::new(chain(home.path(), &[], clock));
        assert_eq!(asked.who().await.unwrap(), "OLD");
        let wrong = Fault::Answer(403, Vec::new(), format!("<Error><Code>{code}</Code></Error>"));
        asked.cache.fault(Rule { times: 2, ..Rule::once("PUT", "", wrong) });
        let new = "[default]\naws_access_key_id=NEW\naws_secret_access_key=s\n";
        std::fs::write(home.path().join(".aws/credentials"), new).unwrap();
        assert_eq!(asked.who().await.unwrap_err().class, Class::Credentials, "{code}: just read");
        manual.step(Duration::from_secs(6));
        assert_eq!(asked.who().await.unwrap(), "NEW", "{code}");
    }
}

#[tokio::test]
async fn a_web_identity_that_is_refused_says_why() {
    let (service, home) = (Cache::start(), tempfile::tempdir().unwrap());
    let token = home.path().join("token");
    std::fs::write(&token, "jwt-of-the-test").unwrap();
    let text =
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>";
    service.fault(Rule::once("POST", "", Fault::Answer(403, Vec::new(), text.into())));
    service.fault(Rule::once("POST", "", ok(sts("WEB"))));
    let url = service.url();
    let vars = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:r"),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
    ];
    let asked = Asked::new(chain(home.path(), &vars, Clock::system()));
    let error = asked.who().await.unwrap_err();
    assert_eq!(error.class, Class::Credentials);
    assert!(
        told(&error).contains("403 AccessDenied: not you") && !told(&error).contains("jwt"),
        "{}",
        told(&error)
    );
    assert_eq!(asked.who().await.unwrap(), "WEB");
}
