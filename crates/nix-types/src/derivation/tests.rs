//! Reading and writing `.drv` files, and the hashes Nix records, against files and figures of a real Nix 2.8.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::drv_hash::{self, HashError};

const DIR: &str = "/srv/stexp/store";
const BB: &str = "/srv/stexp/store/nbdv2r0p3jxk41gw1b04j1ffgdjmr7m7-bb";
const CA_DRV: &str = "/srv/stexp/store/068rc11zavb2r7by6ml7683nlssara2x-ca.drv";
const USER_DRV: &str = "/srv/stexp/store/8n7c61zk6qdwgmlg840gw3wqwxasml5v-user.drv";
const FOD_DRV: &str = "/srv/stexp/store/id9jgr9nxv0541xnj6injim6lc7qjdwk-fod.drv";

/// A content-addressed derivation as Nix wrote it.
fn ca_file() -> String {
    format!(
        r#"Derive([("out","","r:sha256","")],[],["{BB}"],"x86_64-linux","{BB}/busybox",["sh","-euc","echo ca > $out"],[("builder","{BB}/busybox"),("name","ca"),("out","/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"),("outputHashAlgo","sha256"),("outputHashMode","recursive"),("system","x86_64-linux")])"#
    )
}

/// One that uses its output.
fn user_file() -> String {
    format!(
        r#"Derive([("out","","","")],[("{CA_DRV}",["out"])],["{BB}"],"x86_64-linux","{BB}/busybox",["sh","-euc","{BB}/busybox cat /13yqxd4q8f6qx8gbzjamf0v6j7q6r3636y94pblqcrn76spmg1gf > $out"],[("builder","{BB}/busybox"),("name","user"),("out",""),("system","x86_64-linux")])"#
    )
}

fn fod_file() -> String {
    let hash = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4";
    let out = format!("{DIR}/b6p3w01qhh4r73r6h769ad44vilgbcr8-fod");
    format!(
        r#"Derive([("out","{out}","sha256","{hash}")],[],["{BB}"],"x86_64-linux","{BB}/busybox",["sh","-euc","echo hi > $out"],[("builder","{BB}/busybox"),("name","fod"),("out","{out}"),("outputHash","{hash}"),("outputHashAlgo","sha256"),("outputHashMode","flat"),("system","x86_64-linux")])"#
    )
}

fn read(drv: &DrvPath) -> Result<Derivation, String> {
    let file = match drv.as_str() {
        CA_DRV => ca_file(),
        USER_DRV => user_file(),
        FOD_DRV => fod_file(),
        other => return Err(format!("no file {other}")),
    };
    parse(file.as_bytes()).map_err(|error| error.to_string())
}

fn hash_of(drv: &str) -> String {
    drv_hash::of(&DrvPath::parse_str(drv).unwrap(), read).unwrap()
}

#[test]
fn a_real_file_is_read_and_written_back() {
    let drv = parse(fod_file().as_bytes()).unwrap();
    assert!(drv.is_fixed_output());
    assert!(!drv.has_unknown_paths());
    assert_eq!(drv.system, "x86_64-linux");
    assert_eq!(drv.args[0], b"sh");
    assert_eq!(drv.env_str("outputHashMode"), Some("flat"));
    assert_eq!(drv.outputs["out"].path.as_ref().unwrap().name(), "fod");
    assert_eq!(drv.input_srcs.iter().map(StorePath::as_str).collect::<Vec<_>>(), [BB]);
    for file in [ca_file(), user_file(), fod_file()] {
        assert_eq!(String::from_utf8(parse(file.as_bytes()).unwrap().print()).unwrap(), file);
    }
    let user = parse(user_file().as_bytes()).unwrap();
    assert!(user.has_unknown_paths() && !user.is_fixed_output());
    assert_eq!(user.input_drvs[&DrvPath::parse_str(CA_DRV).unwrap()], BTreeSet::from(["out".to_owned()]));
}

#[test]
fn escapes() {
    let file = format!(r#"Derive([("out","","","")],[],[],"s","{BB}",[],[("x","q\"b\\n\nr\rt\t\${{z}}ü")])"#);
    let drv = parse(file.as_bytes()).unwrap();
    assert_eq!(drv.env_str("x"), Some("q\"b\\n\nr\rt\t${z}ü"));
}

#[test]
fn the_hashes_are_those_nix_recorded() {
    assert_eq!(hash_of(CA_DRV), "15e21d57d804baf8df5c474069e9feb7900127d3f872868a8512cf18ee13eb0c");
    assert_eq!(hash_of(USER_DRV), "17c7697e57838931e16c5df9794172d3c86d5e2ff19ff74d8808695caf04221f");
    assert_eq!(hash_of(FOD_DRV), "d4f829b75e2552953cb138c02933e19101ca7413b1b465c48083f6aab2f203e6");
}

#[test]
fn a_missing_input_is_named() {
    let root = DrvPath::parse_str(USER_DRV).unwrap();
    let error = drv_hash::of(&root, |drv| if *drv == root { read(drv) } else { Err("gone".to_owned()) });
    assert!(matches!(error, Err(HashError::Read { drv, .. }) if drv.as_str() == CA_DRV));
}

#[test]
fn a_long_chain_and_a_cycle_end() {
    let path = |n: usize| DrvPath::parse_str(&format!("{DIR}/{n:032}-x.drv")).unwrap();
    let number = |drv: &DrvPath| drv.store_path().hash_part().parse::<usize>().unwrap();
    let make = |input: Option<usize>| Derivation {
        outputs: BTreeMap::from([("out".to_owned(), Output::default())]),
        input_drvs: input.map(|n| (path(n), BTreeSet::from(["out".to_owned()]))).into_iter().collect(),
        ..Derivation::default()
    };
    let chain = |drv: &DrvPath| Ok::<_, String>(make(number(drv).checked_sub(1)));
    assert_eq!(drv_hash::of(&path(50_000), chain).unwrap().len(), 64);
    let circle = |drv: &DrvPath| Ok::<_, String>(make(Some((number(drv) + 1) % 3)));
    assert!(matches!(drv_hash::of(&path(0), circle), Err(HashError::Cycle(_))));
}

#[test]
fn damage_is_named_with_its_place() {
    let good = fod_file();
    for cut in 0..good.len() {
        assert!(parse(&good.as_bytes()[..cut]).is_err(), "{cut} bytes are no derivation");
    }
    assert!(matches!(parse(b"[]"), Err(DerivationError::Expected { wanted: "`Derive(`", at: 0 })));
    assert_eq!(parse(format!("{good} ").as_bytes()), Err(DerivationError::Trailing { at: good.len() }));
    assert_eq!(parse(b"DrvWithVersion(\"xp-dyn-drv\","), Err(DerivationError::Dynamic));
    let empty = br#"Derive([],[],[],"s","b",[],[])"#;
    assert!(matches!(parse(empty), Err(DerivationError::Expected { wanted: "at least one output", .. })));
    let twice = good.replace(r#"("name","fod")"#, r#"("builder","fod")"#);
    assert!(matches!(parse(twice.as_bytes()), Err(DerivationError::Twice { what: "a variable", .. })));
    let path = good.replace(&format!(r#"["{BB}"]"#), r#"["/etc/passwd"]"#);
    assert!(matches!(parse(path.as_bytes()), Err(DerivationError::Path { .. })));
    let input = user_file().replace(CA_DRV, BB);
    assert!(matches!(parse(input.as_bytes()), Err(DerivationError::InputDrv { .. })));
    let mut bytes = good.into_bytes();
    let at = bytes.iter().position(|byte| *byte == b'x').unwrap();
    bytes[at] = 0xff;
    assert!(parse(&bytes).is_err());
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,6}"
}
fn path(suffix: &'static str) -> impl Strategy<Value = StorePath> {
    ("[0-9a-df-np-sv-z]{32}", name()).prop_map(move |(hash, name)| {
        StorePath::parse_str(&format!("/nix/store/{hash}-{name}{suffix}")).unwrap()
    })
}
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..20)
}
fn output() -> impl Strategy<Value = Output> {
    (proptest::option::of(path("")), "(r:)?sha256|", "[0-9a-f]{0,8}")
        .prop_map(|(path, hash_algo, hash)| Output { path, hash_algo, hash })
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(
        outputs in btree_map(name(), output(), 1..4),
        input_drvs in btree_map(path(".drv").prop_map(|p| DrvPath::try_from(p).unwrap()), btree_set(name(), 0..3), 0..4),
        input_srcs in btree_set(path(""), 0..4),
        system in "\\PC{0,12}",
        builder in bytes(),
        args in vec(bytes(), 0..4),
        env in btree_map(bytes(), bytes(), 0..6),
    ) {
        let drv = Derivation { outputs, input_drvs, input_srcs, system, builder, args, env };
        prop_assert_eq!(parse(&drv.print()).unwrap(), drv);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(drv) = parse(&bytes) {
            prop_assert_eq!(parse(&drv.print()).unwrap(), drv);
        }
    }

    #[test]
    fn a_damaged_file_is_read_or_refused(at in 0_usize..600, byte: u8) {
        let mut file = fod_file().into_bytes();
        let at = at % file.len();
        file[at] = byte;
        if let Ok(drv) = parse(&file) {
            prop_assert_eq!(parse(&drv.print()).unwrap(), drv);
        }
    }
}
