//! URLs of caches come in as people write them; what is read from each, what each shows and what is refused, with the words of
//! the refusal, is compared with what Nix takes. Nothing is opened.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> CacheUrl {
    CacheUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn fault(text: &str) -> String {
    let error = CacheUrl::parse(text).expect_err(text);
    assert!(error.source().is_none());
    error.to_string()
}

fn base(text: &str) -> String {
    match parse(text).place {
        Place::Http { base, .. } => base,
        other => panic!("{other:?}"),
    }
}

#[test]
fn folders() {
    let root = |text: &str| match parse(text).place {
        Place::File { root } => root,
        other => panic!("{other:?}"),
    };
    assert_eq!(root("file:///srv/cache"), Path::new("/srv/cache"));
    assert_eq!(root("file:///srv//./my%20cache/?priority=1"), Path::new("/srv/my cache"));
    assert_eq!(root("file:///a+b@c:d"), Path::new("/a+b@c:d"));
    for bad in [
        "file://",
        "file:///",
        "file:///.",
        "file://srv/cache",
        "file:///a/../b",
        "file:///%2e%2e/b",
        "file:///a%",
        "file:///a%00b",
        "file:///a#b",
    ] {
        assert!(fault(bad).contains("is not the URL of a cache: "), "{bad}");
    }
}

#[test]
fn web_servers() {
    assert_eq!(base("https://Cache.Example.ORG"), "https://cache.example.org");
    assert_eq!(base("https://h:443/a/b//"), "https://h/a/b");
    assert_eq!(base("http://h:443/"), "http://h:443");
    assert_eq!(base("http://h:080?store=/nix/store"), "http://h");
    assert_eq!(base("http://[::1]:8080/x%7e%2f%c3"), "http://[::1]:8080/x~%2F%C3");
    assert_eq!(base("http://[0:0::1]"), "http://[::1]");
    for bad in [
        "http://",
        "http:///x",
        "https://?a=b",
        "http://:80",
        "http://h:0",
        "http://h:65536",
        "http://h:",
        "http://h:+1",
        "http://h:a",
        "http://a_b c",
        "http://ü",
        "http://-h",
        "http://[::1",
        "http://[x]",
        "http://[::1]x",
        "http://h//x",
        "http://h/../x",
        "http://h/%2E%2e/x",
        "http://h/%",
        "http://h/a@b",
        "http://h/\"",
        "http://h/%0a",
        "http://h/a#b",
    ] {
        CacheUrl::parse(bad).expect_err(bad);
    }
}

#[test]
fn a_login_is_kept_and_never_shown() {
    let url = parse("https://me:pa%40ss%2F@h/x?priority=5");
    let Place::Http { base, login: Some(login) } = &url.place else { panic!("{url:?}") };
    assert_eq!((base.as_str(), login.user(), login.password()), ("https://h/x", "me", Some("pa@ss/")));
    assert_eq!(url.to_string(), "https://***@h/x?priority=5");
    let printed = format!("{url:?} {:?} {}", url.place, url.identity());
    assert!(!printed.contains("ss/") && !printed.contains("\"me") && !printed.contains("me:"), "{printed}");
    let token = parse("https://:token@h");
    let Place::Http { login: Some(login), .. } = &token.place else { panic!("{token:?}") };
    assert_eq!((login.user(), login.password()), ("", Some("token")));
    // Whatever is wrong, and however the password was written.
    for bad in [
        "https://me:secret@h:x/",
        "https://me:sec@ret@h/",
        "https://me:sec/ret@h/",
        "https://me:1/ret@h",
        "https://me:1?ret@h",
        "https://me:sec?ret@h/",
        "https://me:sec#ret@h/",
        "https://me:secret@h/?bogus=1",
        "ftp://me:secret@h",
        "me:secret@h",
        "https://me:sec ret@h",
        "https://me:%zzsecret@h",
        "https://me:secret@h?region=x",
        "s3://me:secret@bucket",
        "file://me:secret@h/x",
        "s3://b?endpoint=https://me:secret@h",
        "https://a:%00secret@h",
        "https://me:1?x=1&ret@h=1",
    ] {
        let error = fault(bad);
        for word in ["secret", "sec", "ret@", "me:"] {
            assert!(!error.replace("secret-key", "").contains(word), "{bad}: {error}");
        }
    }
}

#[test]
fn buckets_and_their_servers() {
    let url = parse("s3://example-nix-cache?region=eu-central-1");
    assert_eq!(url.place, Place::S3 { bucket: "example-nix-cache".into(), prefix: String::new() });
    assert_eq!((url.params.s3.region.as_str(), &url.params.s3.endpoint), ("eu-central-1", &None));
    assert_eq!(parse("s3://b/").params, Params::default());
    let endpoint = |query: &str| parse(&format!("s3://b?{query}")).params.s3.endpoint.unwrap();
    assert_eq!(endpoint("endpoint=Minio.local:9000&scheme=http"), "http://minio.local:9000");
    assert_eq!(endpoint("endpoint=minio.local"), "https://minio.local");
    assert_eq!(endpoint("scheme=https&endpoint=https://h:443/storage/v1/s3/"), "https://h/storage/v1/s3");
    assert_eq!(endpoint("endpoint=http%3A%2F%2F127.0.0.1%3A9"), "http://127.0.0.1:9");
    let prefix = |text: &str| match parse(text).place {
        Place::S3 { bucket, prefix } if bucket == "b" => prefix,
        other => panic!("{other:?}"),
    };
    assert_eq!(prefix("s3://b/nix-cache/?region=eu-central-1"), "nix-cache");
    assert_eq!((prefix("s3://b/a/b"), prefix("s3://b/a%20b%2Bc")), ("a/b".to_owned(), "a b+c".to_owned()));
    CacheUrl::parse(&format!("s3://b/{}", "x".repeat(513))).expect_err("a key would not fit");
    for bad in [
        "s3://",
        "s3:///x",
        "s3://b//nix",
        "s3://b/a//b",
        "s3://b/../x",
        "s3://b/%2e%2e",
        "s3://b/me@x",
        "s3://b/%00",
        "s3://b/%ff",
        "s3://b/a%2F/b",
        "s3://b/a%2F..",
        "s3://b/a%2F",
        "s3://-b",
        "s3://a%20b",
        "s3://b:80",
        "s3://b?endpoint=",
        "s3://b?endpoint=ftp://h",
        "s3://b?endpoint=h/../x",
        "s3://b?endpoint=http://h&scheme=https",
    ] {
        CacheUrl::parse(bad).expect_err(bad);
    }
}

#[test]
fn what_is_not_said_has_its_default() {
    let params = parse("file:///c").params;
    assert_eq!(params, Params::default());
    assert_eq!((params.compression, params.compression_level), (Codec::Zstd, None));
    assert_eq!((params.s3.region.as_str(), params.s3.scheme), ("us-east-1", Scheme::Https));
}

#[test]
fn every_parameter_has_its_value() {
    let common = "compression=xz&compression-level=9&parallel-compression=yes&secret-key=/k%2C1&secret-keys=/a,/b,/a&write-nar-listing=1\
        &index-debug-info=true&want-mass-query=no&priority=30&store=/gnu/store/&local-nar-cache=/x&path-info-cache-size=5&system-features=kvm&trusted=0";
    let params = parse(&format!("file:///c?{common}")).params;
    let keys = ["/k,1", "/a", "/b"].map(PathBuf::from);
    let expected = Params {
        compression: Codec::Xz,
        compression_level: Some(9),
        parallel_compression: Some(true),
        secret_keys: keys.to_vec(),
        write_nar_listing: true,
        index_debug_info: true,
        want_mass_query: Some(false),
        priority: Some(30),
        store_dir: Some("/gnu/store".into()),
        ignored: vec!["local-nar-cache", "path-info-cache-size", "system-features", "trusted"],
        ..Params::default()
    };
    assert_eq!(params, expected);
    let remote = "narinfo-compression=gzip&ls-compression=none&log-compression=gzip&tls-certificate=/c.pem&tls-private-key=/k.pem\
        &retry-attempts=7&retry-delay=100&retry-delay-rate-limited=5000&retry-max-delay=60000";
    let transport = Transport {
        narinfo_compression: Encoding::Gzip,
        ls_compression: Encoding::None,
        log_compression: Encoding::Gzip,
        tls_certificate: Some("/c.pem".into()),
        tls_private_key: Some("/k.pem".into()),
        retry: Retry {
            attempts: Some(7),
            delay: Some(Duration::from_millis(100)),
            delay_rate_limited: Some(Duration::from_secs(5)),
            max_delay: Some(Duration::from_secs(60)),
        },
    };
    let params = parse(&format!("https://h?{common}&{remote}")).params;
    assert_eq!(params, Params { transport: transport.clone(), ..expected.clone() });
    let s3 = "profile=p q&region=r-1&scheme=http&endpoint=h:1&addressing-style=virtual&multipart-upload=true&buffer-size=8M\
        &multipart-threshold=1G&storage-class=STANDARD_IA&versionId=v"
        .replace(' ', "%20");
    let ignored =
        [expected.ignored.clone(), vec!["multipart-upload", "multipart-threshold", "versionId"]].concat();
    let params = parse(&format!("s3://b?{common}&{remote}&{s3}")).params;
    let s3 = S3Params {
        region: "r-1".into(),
        endpoint: Some("http://h:1".into()),
        scheme: Scheme::Http,
        profile: Some("p q".into()),
        addressing_style: AddressingStyle::Virtual,
        multipart_chunk_bytes: Some(8 << 20),
        storage_class: Some("STANDARD_IA".into()),
    };
    assert_eq!(params, Params { transport, s3, ignored, ..expected });
    assert_eq!(parse("s3://b?multipart-chunk-size=5242880").params.s3.multipart_chunk_bytes, Some(5 << 20));
    assert_eq!(parse("file:///c?compression-level=-1").params.compression_level, None);
}

#[test]
fn names_are_known_once_and_for_their_kind() {
    assert_eq!(
        fault("file:///c?secret_key=/k"),
        "a cache has no parameter `secret_key`; did you mean secret-key?"
    );
    assert!(fault("file:///c?token=1").contains("remove it"));
    assert_eq!(fault("s3://b?regoin=x"), "a cache has no parameter `regoin`; did you mean region?");
    assert!(fault("file:///c?region=x").contains("nothing for a cache of the kind file"));
    assert!(fault("https://h?profile=x").contains("kind http"));
    assert!(fault("file:///c?narinfo-compression=gzip").contains("kind file"));
    assert!(fault("file:///c?priority=1&priority=1").contains("twice"));
    assert!(fault("file:///c?priority=1&%70riority=2").contains("twice"));
    assert!(
        fault("s3://b?buffer-size=8M&multipart-chunk-size=8M")
            .contains("multipart-chunk-size is there twice")
    );
    for bad in
        ["file:///c?trusted", "file:///c?=1", "file:///c?priority=%4", "file:///c?%ZZ=1", "file:///c?a?b=1"]
    {
        CacheUrl::parse(bad).expect_err(bad);
    }
    assert_eq!(parse("file:///c?&priority=1&&").params.priority, Some(1));
    for kind in [Kind::File, Kind::Http, Kind::S3] {
        for name in known::names(kind) {
            assert_eq!(near_name::nearest(name, known::names(kind)), Some(name));
        }
    }
}

#[test]
fn values_are_of_their_kind() {
    for bad in [
        "compression=bzip2",
        "compression=br",
        "compression=",
        "compression=ZSTD",
        "compression-level=0",
        "compression-level=23",
        "compression-level=-2",
        "compression=xz&compression-level=10",
        "compression-level=1&compression=none",
        "compression-level=+1",
        "parallel-compression=maybe",
        "secret-key=",
        "secret-key=key.sec",
        "secret-key=~/k",
        "secret-key=/k%0A",
        "secret-keys=/a,,/b",
        "secret-keys=/a,b",
        "write-nar-listing=2",
        "priority=-1",
        "priority=4294967296",
        "priority=1k",
        "store=nix",
        "store=/",
        "store=/a/../b",
        "store=/a%20b",
        "trusted=x",
        "path-info-cache-size=x",
        "narinfo-compression=br",
        "ls-compression=xz",
        "tls-certificate=c.pem",
        "tls-private-key=/k.pem",
        "retry-attempts=0",
        "retry-attempts=1001",
        "retry-delay=1s",
        "retry-max-delay=86400001",
        "profile=",
        "profile=%1b",
        "region=",
        "region=a/b",
        "scheme=ftp",
        "addressing-style=host",
        "multipart-chunk-size=1M",
        "multipart-chunk-size=6G",
        "multipart-threshold=-1",
        "multipart-threshold=99999999999999G",
        "storage-class=standard",
        "storage-class=GLACIER",
        "versionId=",
    ] {
        let error = fault(&format!("s3://b?{bad}"));
        assert!(!error.contains(char::is_control) && error.len() < 400, "{error}");
    }
    assert!(fault("s3://a.b?addressing-style=virtual").contains("dot"));
    assert_eq!(
        fault("file:///c?compression=bzip2"),
        "the parameter compression is `bzip2`, but must be zstd, xz or none: archives are written in these alone, and Nix reads all three"
    );
    assert_eq!(
        fault("file:///c?compression-level=30"),
        "compression-level is 30, but zstd has the levels 1 to 22, and -1 for its usual one"
    );
}

#[test]
fn what_is_no_url_of_a_cache() {
    for other in ["", "a b", "\u{1b}", "file:///ü", &format!("file:///{}", "a".repeat(URL_MAX))] {
        assert!(matches!(CacheUrl::parse(other), Err(CacheUrlError::Form { .. })), "{other}");
    }
    for other in
        ["daemon", "ssh://h", "ssh-ng://h", "/nix/store", "file:/c", "FILE:///c", "://", "local?root=/x"]
    {
        assert!(matches!(CacheUrl::parse(other), Err(CacheUrlError::Scheme { .. })), "{other}");
    }
}

#[test]
fn one_destination_has_one_identity() {
    let identity = |text: &str| parse(text).identity();
    assert_eq!(identity("file:///srv//a%20b/?compression=xz"), "file:///srv/a%20b");
    assert_eq!(identity("https://u:p@H:443/c/?priority=1"), "https://h/c");
    assert_eq!(identity("s3://b"), "s3://b?region=us-east-1");
    assert_eq!(identity("s3://b?profile=x&scheme=http"), "s3://b?region=us-east-1");
    let minio = identity("s3://b?endpoint=h:9000&scheme=http&secret-key=/k");
    assert_eq!(minio, "s3://b?endpoint=http://h:9000&region=us-east-1");
    assert_eq!(minio, identity("s3://b/?endpoint=http://H:9000/&addressing-style=path"));
    assert_eq!(identity("s3://b/a%2Bb/c%7E/"), "s3://b/a%2Bb/c~?region=us-east-1");
    let all = [
        "s3://b",
        "s3://b?region=r",
        "s3://b/x",
        "s3://b/x/y",
        "s3://c",
        "s3://b?endpoint=h",
        "s3://b?endpoint=i",
        "https://b",
        "http://b",
        "https://b/x",
        "file:///b",
    ];
    let distinct: std::collections::BTreeSet<String> = all.iter().map(|text| identity(text)).collect();
    assert_eq!(distinct.len(), all.len());
}

proptest! {
    #[test]
    fn any_folder_and_key_can_be_written(parts in prop::collection::vec("[^/\\p{Cc}]{1,10}", 1..4), key in "/[^/\\p{Cc}]{1,20}") {
        prop_assume!(parts.iter().all(|part| part != "." && part != ".."));
        let root = format!("/{}", parts.join("/"));
        let text = format!("file://{}?secret-key={}", percent::encode(root.as_bytes()), percent::encode(key.as_bytes()));
        let url = CacheUrl::parse(&text).unwrap();
        prop_assert_eq!(&url.place, &Place::File { root: root.into() });
        prop_assert_eq!(&url.params.secret_keys, &[PathBuf::from(key)]);
        prop_assert_eq!(parse(&url.identity()).identity(), url.identity());
    }

    #[test]
    fn what_is_shown_reads_as_the_same(
        host in "[a-z0-9][a-z0-9.-]{0,10}", port in 1_u16.., path in "(/[a-z%A-F0-9]{1,5}){0,3}/?", level in 1..10,
        user in "[a-z]{1,5}", word in "[A-Z]{8}", compression in prop_oneof!["xz", "zstd"],
    ) {
        let text = format!("http://{user}:{word}@{host}:{port}{path}?compression={compression}&compression-level={level}");
        if let Ok(url) = CacheUrl::parse(&text) {
            let printed = format!("{url} {url:?} {:?} {}", url.place, url.identity());
            prop_assert!(!printed.contains(&word), "{}", printed);
            let again = parse(&url.to_string());
            prop_assert_eq!(&again.params, &url.params);
            prop_assert_eq!(again.identity(), url.identity());
            prop_assert_eq!(parse(&url.identity()).identity(), url.identity());
        }
    }
}
