//! The text of a narinfo comes in, as Nix wrote it and as nobody should; what is read and written again, and what is refused,
//! is compared with what Nix does.

use proptest::prelude::*;

use super::*;

/// As Nix 2.8 wrote it.
const NIX: &str = "\
StorePath: /tmp/store/81gn5c1byd6xccqdjdz4nhp9ywdaxx5g-ca2
URL: nar/188ydznzd2xkq19v7pmjcclqnccv5mjrb275rbjdqnip5md6bpag.nar.xz
Compression: xz
FileHash: sha256:188ydznzd2xkq19v7pmjcclqnccv5mjrb275rbjdqnip5md6bpag
FileSize: 248
NarHash: sha256:0pwis6h5rhmxzq3jqqn2r24dkj53jh0ggk9967qkg1kckv5vhncn
NarSize: 296
References: 81gn5c1byd6xccqdjdz4nhp9ywdaxx5g-ca2 d0ddk2wlynrlk72h4gi41rycgd88y4aa-ca1
Deriver: x0s0w899h6pgvrmcvl4ch0q274ja20k1-ca2.drv
Sig: k-1:jG/3FKlZQey9OSkRqCXLpsRInjhyV5N263wi7Hg6wxOVZdraMsQwW9T6sh1lUqjFJvRk7BB5zfQw4MRn233xBw==
CA: fixed:r:sha256:0zphwlrfj098hvgqs35vwhww2a5c0h8khalsqansq1yfdf70zc5s
";

const MINIMAL: &str = "\
StorePath: /nix/store/00000000000000000000000000000000-a
URL: x
NarHash: sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
NarSize: 1
";

fn parse(text: &str) -> Result<NarInfo, NarInfoError> {
    NarInfo::parse(text, "/nix/store")
}

#[test]
fn every_field_is_read_and_written() {
    let info = NarInfo::parse(NIX, "/tmp/store").unwrap();
    assert_eq!(info.store_path.name(), "ca2");
    assert_eq!((info.compression.as_str(), info.file_size, info.nar_size), ("xz", Some(248), 296));
    assert_eq!(info.references.len(), 2);
    assert!(info.references.contains(&info.store_path));
    assert_eq!(
        info.deriver.as_ref().unwrap().as_str(),
        "/tmp/store/x0s0w899h6pgvrmcvl4ch0q274ja20k1-ca2.drv"
    );
    assert_eq!(info.signatures[0].name(), "k-1");
    assert!(info.ca.as_ref().unwrap().starts_with("fixed:r:sha256:"));
    assert_eq!(info.to_text(), NIX);
    assert_eq!(NarInfo::key_of(&info.store_path), "81gn5c1byd6xccqdjdz4nhp9ywdaxx5g.narinfo");
}

#[test]
fn what_may_be_left_out() {
    let info = parse(MINIMAL).unwrap();
    assert_eq!((info.compression.as_str(), info.file_hash, info.file_size), ("bzip2", None, None));
    assert_eq!((info.references.len(), info.signatures.len()), (0, 0));
    assert_eq!((info.deriver.as_ref(), info.ca.as_ref()), (None, None));
    let text = info.to_text();
    assert!(text.contains("\nCompression: bzip2\n") && text.ends_with("\nReferences: \n"), "{text}");
    assert_eq!(parse(&text).as_ref(), Ok(&info));
    for same in [
        "References:\n",
        "References:  \n",
        "Deriver: unknown-deriver\n",
        "CA: \n",
        "System: any thing\n",
        "X:\n",
        "Compression: \n",
    ] {
        assert_eq!(parse(&format!("{MINIMAL}{same}")).as_ref(), Ok(&info), "{same}");
    }
}

#[test]
fn lists_are_sorted_and_have_each_member_once() {
    let (a, b) = ("0".repeat(32) + "-a", "1".repeat(32) + "-b");
    let sig = |letter: &str| format!("Sig: k:{}Q==\n", letter.repeat(85));
    let text = format!("{MINIMAL}{}References: {b} {a}  {b}\n{}{}", sig("b"), sig("A"), sig("b"));
    let info = parse(&text).unwrap();
    assert_eq!(info.references.iter().map(StorePath::base_name).collect::<Vec<_>>(), [&a, &b]);
    assert_eq!(info.signatures.len(), 2);
    assert!(info.to_text().ends_with(&format!("References: {a} {b}\n{}{}", sig("A"), sig("b"))));
}

#[test]
fn what_is_damaged_says_where() {
    let fault = |text: &str| parse(text).unwrap_err();
    let with = |line: &str| fault(&format!("{MINIMAL}{line}\n"));
    assert_eq!(fault(""), NarInfoError::Missing("StorePath"));
    assert_eq!(fault(MINIMAL.trim_end()), NarInfoError::CutOff);
    for (key, at) in [("StorePath", 1), ("URL", 2), ("NarHash", 3), ("NarSize", 4)] {
        let lines: Vec<&str> = MINIMAL.lines().collect();
        let rest = [&lines[..at - 1], &lines[at..]].concat().join("\n") + "\n";
        assert_eq!(fault(&rest), NarInfoError::Missing(key));
        assert_eq!(with(lines[at - 1]), NarInfoError::Twice { key, line: 5 });
    }
    assert_eq!(with("no line"), NarInfoError::Line { line: 5 });
    assert_eq!(with("FileSize:1"), NarInfoError::Line { line: 5 });
    assert_eq!(fault(&MINIMAL.replace("Size: 1", "Size: 0")), NarInfoError::Missing("NarSize"));
    for bad in [
        "FileSize: -1",
        "FileSize: +1",
        "FileSize: 1 ",
        "FileSize: 99999999999999999999",
        "FileSize: ",
        "CA: a b",
        "Compression: \u{1b}",
    ] {
        let error = with(bad);
        assert!(matches!(error, NarInfoError::Value { line: 5, .. }), "{bad}: {error}");
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
    assert!(matches!(with("References: a"), NarInfoError::Path { key: "References", .. }));
    assert!(matches!(with("Deriver: /nix/store/x"), NarInfoError::Path { key: "Deriver", .. }));
    assert!(matches!(with("FileHash: md5:x"), NarInfoError::Hash { key: "FileHash", line: 5, .. }));
    assert!(matches!(with("Sig: x"), NarInfoError::Signature { line: 5, .. }));
    assert!(matches!(NarInfo::parse(MINIMAL, "/gnu/store"), Err(NarInfoError::OtherStore { .. })));
    assert_eq!(fault(&"a".repeat(2 << 20)), NarInfoError::TooLarge(2 << 20));
}

#[test]
fn thousands_of_references_fit() {
    let names: String = (0..10_000).map(|n| format!(" {n:032}-some-reference-1.2.3")).collect();
    let info = parse(&format!("{MINIMAL}References:{names}\n")).unwrap();
    assert_eq!(info.references.len(), 10_000);
    assert_eq!(parse(&info.to_text()), Ok(info));
}

#[test]
fn signing_twice_is_signing_once() {
    let key = SecretKey::parse(&format!(
        "k-1:{}",
        "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg=="
    ))
    .unwrap();
    let mut info = NarInfo::parse(NIX, "/tmp/store").unwrap();
    info.sign(&key);
    let once = info.clone();
    info.sign(&key);
    assert_eq!(info, once);
    assert_eq!(info.signatures.len(), 2);
    assert!(info.signatures.iter().any(|signature| key.public().verify(&info.fingerprint(), signature)));
}

fn path() -> impl Strategy<Value = StorePath> {
    "[0-9a-df-np-s]{32}-[A-Za-z0-9+_?=-][A-Za-z0-9+._?=-]{0,20}"
        .prop_map(|base| StorePath::in_store("/nix/store", &base).unwrap())
}

prop_compose! {
    fn narinfo()(
        store_path in path(),
        url in "[!-~]{1,30}",
        compression in "[!-~]{1,8}",
        file_hash in prop::option::of(any::<[u8; 32]>().prop_map(Sha256::from_bytes)),
        file_size in any::<Option<u64>>(),
        nar_hash in any::<[u8; 32]>().prop_map(Sha256::from_bytes),
        nar_size in 1..u64::MAX,
        references in prop::collection::btree_set(path(), 0..5),
        deriver in prop::option::of(path()),
        names in prop::collection::vec("[a-c]{1,2}", 0..3),
        ca in prop::option::of("[!-~]{1,30}"),
    ) -> NarInfo {
        let sig = |name: String| Signature::parse(&format!("{name}:{}==", "A".repeat(86))).unwrap();
        let mut signatures: Vec<Signature> = names.into_iter().map(sig).collect();
        signature::sort(&mut signatures);
        let references = references.into_iter().collect();
        NarInfo { store_path, url, compression, file_hash, file_size, nar_hash, nar_size, references, deriver, signatures, ca }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(info in narinfo()) {
        prop_assert_eq!(parse(&info.to_text()), Ok(info));
    }
}
