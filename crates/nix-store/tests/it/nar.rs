//! NARs: against a plain model of the format, `nix-store --dump`, another implementation, and the listings of
//! `nix copy`; and files that do not hold still or are none.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix_store::nar::{self, DEPTH_MAX, Listing, NarError, Node, READ_BYTES};
use proptest::prelude::*;

use crate::nix::Nix;

/// What a test puts into a folder.
#[derive(Clone, Debug)]
enum Tree {
    File { bytes: Vec<u8>, executable: bool },
    Symlink(Vec<u8>),
    Folder(BTreeMap<Vec<u8>, Tree>),
}

impl Tree {
    fn file(bytes: impl Into<Vec<u8>>) -> Self {
        Self::File { bytes: bytes.into(), executable: false }
    }

    fn folder(entries: impl IntoIterator<Item = (Vec<u8>, Tree)>) -> Self {
        Self::Folder(entries.into_iter().collect())
    }

    fn make(&self, path: &Path) {
        match self {
            Self::File { bytes, executable } => {
                fs::write(path, bytes).unwrap();
                let mode = if *executable { 0o555 } else { 0o444 };
                fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            }
            Self::Symlink(target) => symlink(OsString::from_vec(target.clone()), path).unwrap(),
            Self::Folder(entries) => {
                fs::create_dir(path).unwrap();
                for (name, tree) in entries {
                    tree.make(&path.join(OsString::from_vec(name.clone())));
                }
            }
        }
    }

    /// The format, as plainly as it can be said.
    fn nar(&self, nar: &mut Vec<u8>) {
        let put = |nar: &mut Vec<u8>, texts: &[&[u8]]| {
            for text in texts {
                nar.extend((text.len() as u64).to_le_bytes());
                nar.extend(*text);
                nar.resize(nar.len().next_multiple_of(8), 0);
            }
        };
        match self {
            Self::File { bytes, executable: false } => {
                put(nar, &[b"(", b"type", b"regular", b"contents", bytes, b")"]);
            }
            Self::File { bytes, executable: true } => {
                put(nar, &[b"(", b"type", b"regular", b"executable", b"", b"contents", bytes, b")"]);
            }
            Self::Symlink(target) => put(nar, &[b"(", b"type", b"symlink", b"target", target, b")"]),
            Self::Folder(entries) => {
                put(nar, &[b"(", b"type", b"directory"]);
                for (name, tree) in entries {
                    put(nar, &[b"entry", b"(", b"name", name, b"node"]);
                    tree.nar(nar);
                    put(nar, &[b")"]);
                }
                put(nar, &[b")"]);
            }
        }
    }

    fn expected(&self) -> Vec<u8> {
        let mut nar = b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0".to_vec();
        self.nar(&mut nar);
        nar
    }
}

fn packed(path: &Path) -> (Vec<u8>, Listing) {
    let (mut bytes, mut listing, mut blocks) = (Vec::new(), Listing::default(), Vec::new());
    let mut sink = |block: &[u8]| -> Result<(), Infallible> {
        blocks.push(block.len());
        bytes.extend(block);
        Ok(())
    };
    let size = nar::write(path, &mut sink, Some(&mut listing)).unwrap();
    assert_eq!(size, bytes.len() as u64);
    let (last, full) = blocks.split_last().unwrap();
    assert!(*last > 0 && *last <= READ_BYTES && full.iter().all(|block| *block == READ_BYTES), "{blocks:?}");
    (bytes, listing)
}

/// Every file's bytes are where the listing says.
fn listed(node: &Node, tree: &Tree, nar: &[u8]) {
    match (node, tree) {
        (Node::File { size, executable, nar_offset }, Tree::File { bytes, executable: wanted }) => {
            let start = usize::try_from(*nar_offset).unwrap();
            assert_eq!(&nar[start..start + usize::try_from(*size).unwrap()], bytes);
            assert_eq!(nar[start - 8..start], size.to_le_bytes());
            assert_eq!(executable, wanted);
        }
        (Node::Symlink { target }, Tree::Symlink(wanted)) => assert_eq!(target, wanted),
        (Node::Folder(nodes), Tree::Folder(entries)) => {
            assert!(nodes.iter().map(|(name, _)| name).eq(entries.keys()));
            nodes.iter().zip(entries.values()).for_each(|((_, node), tree)| listed(node, tree, nar));
        }
        other => panic!("{other:?}"),
    }
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => prop::sample::select(b"abAB.~\"\\ ".to_vec()), 1 => 1..=255_u8];
    prop::collection::vec(byte, 1..12)
        .prop_filter("a name", |name| !name.contains(&b'/') && name != b"." && name != b"..")
}

fn trees() -> impl Strategy<Value = Tree> {
    let file = (prop::collection::vec(any::<u8>(), 0..40), any::<bool>())
        .prop_map(|(bytes, executable)| Tree::File { bytes, executable });
    let large = (READ_BYTES - 300..READ_BYTES + 300).prop_map(|size| Tree::file(vec![7; size]));
    let link = prop::collection::vec(1..=255_u8, 1..60).prop_map(Tree::Symlink);
    let leaf = prop_oneof![6 => file, 1 => large, 2 => link];
    leaf.prop_recursive(5, 40, 8, |inner| {
        prop::collection::btree_map(names(), inner, 0..8).prop_map(Tree::Folder)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn any_tree_is_packed_as_the_format_says(tree in trees()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tree");
        tree.make(&path);
        let (nar, listing) = packed(&path);
        assert!(nar == tree.expected(), "{tree:?}");
        listed(listing.root(), &tree, &nar);
    }
}

/// Sizes around every edge, all kinds, odd names.
fn odd() -> Tree {
    let sizes = [0, 1, 7, 8, 9, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 3 * READ_BYTES + 5];
    let mut entries: BTreeMap<Vec<u8>, Tree> =
        sizes.iter().map(|size| (format!("f{size}").into_bytes(), Tree::file(vec![b'x'; *size]))).collect();
    let control: Vec<u8> = (1..=31).collect();
    entries.extend([
        (b"run".to_vec(), Tree::File { bytes: b"#!".to_vec(), executable: true }),
        (b"A".to_vec(), Tree::file("")),
        (b"a".to_vec(), Tree::file("")),
        (b"a~nix~case~hack~1".to_vec(), Tree::file("")),
        ("ü".into(), Tree::folder([])),
        (control.clone(), Tree::Symlink(control)),
        (b"back\\slash \"quote\" \x7f".to_vec(), Tree::Symlink(b"../\"no\\where".to_vec())),
        (vec![b'n'; 255], Tree::Symlink(vec![b't'; 4000])),
        (b"sub".to_vec(), Tree::folder([(b".".repeat(3), Tree::file("three dots"))])),
    ]);
    Tree::Folder(entries)
}

fn dump(nix: &Nix, path: &Path) -> Vec<u8> {
    let output = nix.command("nix-store").arg("--dump").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn the_bytes_are_those_of_nix_and_of_another_implementation() {
    let nix = Nix::new();
    let Tree::Folder(mut entries) = odd() else { panic!("a folder") };
    let plain = Tree::Folder(entries.clone());
    entries.insert(b"\xff\xfe not UTF-8".to_vec(), Tree::Symlink(b"\x80".to_vec()));
    let trees = [
        plain,
        Tree::Folder(entries),
        Tree::file("alone"),
        Tree::Symlink(b"nowhere".to_vec()),
        Tree::folder([]),
    ];
    for (number, tree) in trees.iter().enumerate() {
        let path = nix.path(&format!("tree{number}"));
        tree.make(&path);
        let (nar, listing) = packed(&path);
        assert!(nar == dump(&nix, &path), "nix-store --dump differs for {tree:?}");
        assert!(nar == tree.expected());
        listed(listing.root(), tree, &nar);
        if number != 1 {
            let mut other = Vec::new();
            nix_nar::Encoder::new(&path).unwrap().read_to_end(&mut other).unwrap();
            assert!(nar == other, "nix-nar differs for {tree:?}");
        }
    }
}

#[test]
fn listings_and_debug_files_are_those_of_a_cache_of_nix() {
    let nix = Nix::new();
    let digits = "0123456789abcdef0123456789abcdef012345";
    let file = |name: &str| (format!("{name}.debug").into_bytes(), Tree::file(name));
    let ids = Tree::folder([
        (b"ab".to_vec(), Tree::folder([file(digits), file(&digits.to_uppercase()), file("short")])),
        (
            b"cd".to_vec(),
            Tree::folder([
                file(&digits.replace('0', "1")),
                (format!("{digits}.debug").into(), Tree::Symlink(b"x".to_vec())),
            ]),
        ),
        (b"zz".to_vec(), Tree::folder([file(digits)])),
        (b"abc".to_vec(), Tree::folder([file(digits)])),
        (b"ef".to_vec(), Tree::file("no folder")),
    ]);
    let Tree::Folder(mut entries) = odd() else { panic!("a folder") };
    entries.insert(b"\xff not UTF-8".to_vec(), Tree::Symlink(b"\x80".to_vec()));
    let debug = Tree::folder([(b"debug".to_vec(), Tree::folder([(b".build-id".to_vec(), ids)]))]);
    entries.insert(b"lib".to_vec(), debug);
    for (name, tree) in
        [("odd", Tree::Folder(entries)), ("file", Tree::file("f")), ("none", Tree::folder([]))]
    {
        let source = nix.path(name);
        tree.make(&source);
        let added = nix.run("nix-store", &["--add", source.to_str().unwrap()]).remove(0);
        let cache = nix.path(&format!("cache-{name}"));
        let url =
            format!("file://{}?compression=none&write-nar-listing=1&index-debug-info=1", cache.display());
        nix.run("nix", &["copy", "--to", &url, &added]);
        let (nar, listing) = packed(Path::new(&added));
        let hash = &Path::new(&added).file_name().unwrap().to_str().unwrap()[..32];
        let theirs = fs::read(cache.join(format!("{hash}.ls"))).unwrap();
        assert_eq!(String::from_utf8_lossy(&listing.to_json()), String::from_utf8_lossy(&theirs));
        assert_eq!(listing.to_json(), theirs);
        let nars = fs::read_dir(cache.join("nar")).unwrap().map(|file| file.unwrap().path());
        let stored: Vec<_> = nars.collect();
        assert!(nar == fs::read(&stored[0]).unwrap());
        let mut index: BTreeMap<String, serde_json::Value> = BTreeMap::new();
        for entry in fs::read_dir(cache.join("debuginfo")).unwrap() {
            let entry = entry.unwrap();
            let value = serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap();
            index.insert(entry.file_name().into_string().unwrap(), value);
        }
        let ours = listing.debug_files();
        assert!(ours.iter().map(|file| &file.key).eq(index.keys()), "{ours:?}, {index:?}");
        assert!(ours.iter().zip(index.values()).all(|(file, value)| value["member"] == file.member.as_str()));
        assert_eq!(ours.len(), if name == "odd" { 2 } else { 0 });
    }
}

/// Packs `path` and runs `meanwhile` when the first block is handed on.
fn pack_while(path: &Path, meanwhile: impl FnOnce()) -> Result<u64, NarError<Infallible>> {
    let mut meanwhile = Some(meanwhile);
    nar::write(
        path,
        &mut |_| {
            if let Some(meanwhile) = meanwhile.take() {
                meanwhile();
            }
            Ok(())
        },
        None,
    )
}

#[test]
fn a_file_that_does_not_hold_still_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    let big = Tree::file(vec![1; 3 * READ_BYTES]);
    Tree::folder([(b"a".to_vec(), big), (b"z".to_vec(), Tree::folder([]))]).make(&tree);
    let (file, last) = (tree.join("a"), tree.join("z"));
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let open = || File::options().write(true).open(&file).unwrap();
    let changed = |at: &Path, meanwhile: &dyn Fn()| {
        let error = pack_while(&tree, meanwhile).unwrap_err();
        assert!(matches!(&error, NarError::Changed { path } if path == at), "{error}");
        assert!(error.to_string().contains(at.to_str().unwrap()), "{error}");
    };
    changed(&file, &|| open().set_len(2 * READ_BYTES as u64).unwrap());
    open().set_len(3 * READ_BYTES as u64).unwrap();
    changed(&file, &|| open().set_len(3 * READ_BYTES as u64 + 1).unwrap());
    open().set_len(3 * READ_BYTES as u64).unwrap();
    // A folder that becomes a symlink to another, a file, nothing.
    changed(&last, &|| {
        fs::remove_dir(&last).unwrap();
        symlink("/", &last).unwrap();
    });
    for replacement in [Some(Tree::file("x")), None] {
        drop(fs::remove_file(&last));
        fs::create_dir(&last).unwrap();
        changed(&last, &|| {
            fs::remove_dir(&last).unwrap();
            replacement.iter().for_each(|tree| tree.make(&last));
        });
    }
    // A file that becomes a symlink, a FIFO; a symlink that becomes a file.
    drop(fs::remove_file(&last));
    fs::write(&last, "was a file").unwrap();
    changed(&last, &|| {
        fs::remove_file(&last).unwrap();
        symlink("/etc/passwd", &last).unwrap();
    });
    changed(&last, &|| {
        fs::remove_file(&last).unwrap();
        fs::write(&last, "is a file").unwrap();
    });
    changed(&last, &|| {
        fs::remove_file(&last).unwrap();
        fifo(&last);
    });
}

fn fifo(path: &Path) {
    assert!(crate::support::command("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn what_no_nar_holds_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let of = |path: &Path| pack_while(path, || {}).unwrap_err();
    let socket = folder.path().join("tree\u{1b}[0m/socket");
    fs::create_dir(socket.parent().unwrap()).unwrap();
    let listening = UnixListener::bind(&socket).unwrap();
    let error = of(socket.parent().unwrap());
    assert!(matches!(&error, NarError::Unsupported { path, what: "a socket" } if *path == socket), "{error}");
    assert!(!error.to_string().contains(char::is_control), "{error}");
    drop(listening);
    let pipe = folder.path().join("fifo");
    fifo(&pipe);
    assert!(matches!(of(&pipe), NarError::Unsupported { what: "a FIFO", .. }));
    assert!(matches!(of(Path::new("/dev/null")), NarError::Unsupported { what: "a device", .. }));
    let absent = of(&folder.path().join("absent"));
    assert!(matches!(&absent, NarError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound));
    assert!(matches!(of(Path::new(&OsString::from_vec(b"nul\0".to_vec()))), NarError::Io { .. }));
}

#[test]
fn a_sink_that_fails_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big");
    Tree::file(vec![1; 3 * READ_BYTES]).make(&path);
    let (mut calls, mut listing) = (0, Listing::default());
    let mut sink = |_: &[u8]| {
        calls += 1;
        if calls == 2 { Err("full") } else { Ok(()) }
    };
    assert!(matches!(nar::write(&path, &mut sink, Some(&mut listing)), Err(NarError::Sink("full"))));
    assert_eq!(calls, 2);
    assert_eq!(listing, Listing::default(), "no listing of a part");
}

#[test]
fn folders_may_lie_deep_but_not_too_deep() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    let mut deepest = path.clone();
    (0..DEPTH_MAX).for_each(|_| deepest.push("d"));
    fs::create_dir_all(&deepest).unwrap();
    // A full block, so that the sink is called while they are open.
    fs::write(deepest.join("file"), vec![b'x'; READ_BYTES]).unwrap();
    fs::write(path.join("z"), "and after it").unwrap();
    let mut open_most = 0;
    let mut sink = |_: &[u8]| -> Result<(), Infallible> {
        open_most = open_most.max(open_below(&path));
        Ok(())
    };
    nar::write(&path, &mut sink, None).unwrap();
    assert!((1..40).contains(&open_most), "{open_most} of {DEPTH_MAX} folders were open at once");
    let nix = Nix::new();
    let (nar, listing) = packed(&path);
    assert!(nar == dump(&nix, &path));
    assert!(listing.to_json().starts_with(br#"{"version":1,"root":{"type":"directory","entries":{"d":{"#));
    fs::create_dir(deepest.join("d")).unwrap();
    let error = pack_while(&path, || {}).unwrap_err();
    assert!(matches!(&error, NarError::TooDeep { path } if *path == deepest.join("d")), "{error}");
}

/// How many files of this process lie below the path.
fn open_below(path: &Path) -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    all.filter(|target| target.starts_with(path)).count()
}

#[test]
fn a_sparse_file_beyond_5_gib() {
    // In memory where there is such a folder: what a disk's file lacks would be put into the cache page by page.
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
    let path = folder.path().join("sparse");
    let size = 5 * (1_u64 << 30) + 3;
    File::create(&path).unwrap().set_len(size).unwrap();
    let (mut seen, mut ends) = (0_u64, Vec::new());
    let mut sink = |block: &[u8]| -> Result<(), Infallible> {
        if seen == 0 || block.len() < READ_BYTES {
            ends.push(block.to_vec());
        }
        seen += block.len() as u64;
        Ok(())
    };
    let begun = test_kit::cpu::time();
    let total = nar::write(&path, &mut sink, None).unwrap();
    println!("5 GiB of nothing: {:?} of CPU", test_kit::cpu::time() - begun);
    let head = b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0\x01\0\0\0\0\0\0\0(\0\0\0\0\0\0\0";
    assert_eq!(total, seen);
    assert_eq!(total, 24 + 16 + 16 + 16 + 16 + 8 + size + 5 + 16);
    assert!(ends[0].starts_with(head) && ends[0][88..96] == size.to_le_bytes());
    assert!(ends[1].ends_with(b"\x01\0\0\0\0\0\0\0)\0\0\0\0\0\0\0"));
}
