//! What Nix says: its commands on standard error, its daemon over the socket, the logs it kept; and the store URLs handed
//! to it.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix_store::copy::{FaultClass, LINE_MAX, StoreUrl, URL_MAX, classify};
use nix_store::daemon::Daemon;
use nix_store::log::unpack;
use nix_store::remote::{Broken, End, Item, ReadEnd, Remote};
use nix_store::store::Cursor;
use nix_store::{Filter, PathInfo, Store, StoreDirs, StoreError, WorkerStore};
use nix_types::ssh_url::Speech;
use nix_types::{DrvPath, StorePath};
use tempfile::TempDir;

/// Standard error of a failed command: one line that can be shown comes out, whatever a remote machine printed, and a
/// path only when the text names it.
pub fn copy_stderr(bytes: &[u8]) {
    let fault = classify(bytes);
    assert!(!fault.line.is_empty() && fault.line.chars().count() <= LINE_MAX + 1);
    assert!(!fault.line.contains(char::is_control), "{:?}", fault.line);
    if let FaultClass::PathGone(path) = fault.class {
        let text = String::from_utf8_lossy(bytes);
        assert!(text.contains(path.hash_part()) || text.contains('\u{1b}'), "{path} is not from the text");
    }
}

/// A store URL in the first line, a key's file in the second: what was there stays, the key is added once and is never
/// a second one, and printing shows no password.
pub fn store_url(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (text, key) = text.split_once('\n').unwrap_or((&text, "/key"));
    let Ok(url) = StoreUrl::parse(text) else { return };
    assert!(url.as_str() == text && text.len() <= URL_MAX);
    let authority =
        text.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or(""));
    if let Some((user, _)) = authority.rsplit_once('@')
        && let Some((_, password)) = user.split_once(':')
    {
        let shown = url.to_string();
        assert!(shown.len() <= text.len() - user.len() + "***".len(), "{password} is in {shown}");
    }
    for signed in
        [url.with_secret_key(Path::new(key)), url.with_ssh_key(Path::new(key))].into_iter().flatten()
    {
        assert!(signed.as_str().starts_with(text) && signed.as_str().is_ascii());
        assert_eq!(signed.kind(), url.kind());
        assert!(signed.with_secret_key(Path::new(key)).is_err());
        assert!(signed.with_ssh_key(Path::new(key)).is_err());
    }
}

/// All that a daemon says in one conversation, greeting included: it ends, in an answer or in an error that can be
/// shown.
pub fn nix_daemon(bytes: &[u8]) {
    static SCRIPTED: OnceLock<Scripted> = OnceLock::new();
    let scripted = SCRIPTED.get_or_init(Scripted::new);
    scripted.says(bytes);
    let said =
        Daemon::connect(&scripted.socket).and_then(|mut daemon| daemon.add_indirect_root(Path::new("/link")));
    if let Err(error) = said {
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
}

/// The first byte chooses a question, the others are all the daemon says: it ends, in an answer that holds together or
/// in an error that can be shown.
pub fn nix_worker(bytes: &[u8]) {
    static SCRIPTED: OnceLock<Scripted> = OnceLock::new();
    let scripted = SCRIPTED.get_or_init(Scripted::new);
    let Some((question, says)) = bytes.split_first() else { return };
    scripted.says(says);
    let (store, drv) = (WorkerStore::new(scripted.dirs.clone()), &scripted.drv);
    let path = drv.store_path();
    let error = match question % 8 {
        0 => store.is_valid(path).err(),
        1 => store.valid_among(&[path.clone(), path.clone()]).map(|valid| assert!(valid.len() <= 2)).err(),
        2 => store.path_info(path).map(|info| assert!(info.is_none_or(|info| info.path == *path))).err(),
        3 => store.closure(std::slice::from_ref(path)).map(|closure| closed(&closure)).err(),
        4 => store.outputs_of(drv).map(|outputs| assert!(outputs.is_sorted())).err(),
        5 => store.realisations_of(path).err(),
        6 => store
            .valid_page(&Filter::default(), Cursor::default(), 10)
            .map(|page| assert!(page.paths.len() <= 10))
            .err(),
        _ => store.add_signatures(path, &["a:b".to_owned()]).err(),
    };
    let mut error: Option<&dyn Error> = error.as_ref().map(|error: &StoreError| error as &dyn Error);
    while let Some(cause) = error {
        assert!(!cause.to_string().contains(char::is_control), "{cause}");
        error = cause.source();
    }
}

/// The first byte chooses a language and a question, the others are all that another machine's Nix says: it ends, in an
/// answer that fits the question or in an error that can be shown.
pub fn far_nix(bytes: &[u8]) {
    let Some((question, says)) = bytes.split_first() else { return };
    let (ours, theirs) = UnixStream::pair().expect("two ends");
    thread::scope(|both| {
        // It talks without listening first, but hears everything, or we would wait for that.
        both.spawn(|| drop((&theirs).write_all(says).and_then(|()| theirs.shutdown(Shutdown::Write))));
        both.spawn(|| drop(io::copy(&mut &theirs, &mut io::sink())));
        ask_far(*question, ours);
    });
}

fn ask_far(question: u8, ours: UnixStream) {
    let speech = if question & 1 == 0 { Speech::Serve } else { Speech::Worker };
    let paths = [0, 1]
        .map(|n| StorePath::parse_str(&format!("/nix/store/{n:032}-p")).expect("it has the form of one"));
    let error = match (Remote::greet(ours, speech, "far".to_owned()), question >> 1 & 3) {
        (Err(error), _) => Some(error),
        (Ok(mut far), 0) => far.valid_among(&paths, true).err(),
        (Ok(mut far), 1) => far
            .infos(&paths)
            .map(|infos| {
                assert_eq!(infos.len(), paths.len());
                let right = |(info, path): (&Option<PathInfo>, &StorePath)| {
                    info.as_ref().is_none_or(|info| info.path == *path)
                };
                assert!(infos.iter().zip(&paths).all(right));
            })
            .err(),
        (Ok(mut far), _) => {
            let items = paths.map(|path| Item { info: info_of(path), signatures: vec!["k:s".to_owned()] });
            let sent = far.send(&items, &mut |_, sink| sink(b"12345678").map_err(|_| ReadEnd::<()>::Stopped));
            assert!(sent.ends.len() == items.len() && sent.unread.is_empty());
            let open = sent.ends.contains(&End::Open);
            assert!(!open || sent.broken.is_some(), "{sent:?}");
            for end in &sent.ends {
                if let End::Refused(words) = end {
                    assert!(!words.contains(char::is_control), "{words}");
                }
            }
            match sent.broken {
                Some(Broken::Peer(error)) => Some(error),
                Some(Broken::Cut) => panic!("nothing was wrong with what we sent"),
                None => None,
            }
        }
    };
    let mut error: Option<&dyn Error> = error.as_ref().map(|error| error as &dyn Error);
    while let Some(cause) = error {
        assert!(!cause.to_string().contains(char::is_control), "{cause}");
        error = cause.source();
    }
}

fn info_of(path: StorePath) -> PathInfo {
    PathInfo {
        path,
        nar_hash: format!("sha256:{}", "0".repeat(64)),
        nar_size: 8,
        references: Vec::new(),
        deriver: None,
        registration_time: 0,
        ultimate: false,
        signatures: Vec::new(),
        ca: None,
    }
}

/// Each path once, and all it refers to is there.
fn closed(closure: &[PathInfo]) {
    let paths: BTreeSet<&StorePath> = closure.iter().map(|info| &info.path).collect();
    assert_eq!(paths.len(), closure.len());
    assert!(closure.iter().flat_map(|info| &info.references).all(|reference| paths.contains(reference)));
}

/// A packed build log: not more comes out than asked for.
pub fn build_log(bytes: &[u8]) {
    const MOST: usize = 64 * 1024;
    match unpack(bytes, MOST) {
        Ok(log) => assert!(log.len() <= MOST),
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
}

/// A daemon that says what it is given, one conversation each, and hangs up; and a store that has one derivation.
struct Scripted {
    socket: PathBuf,
    script: Sender<Vec<u8>>,
    dirs: StoreDirs,
    drv: DrvPath,
    _folder: TempDir,
}

impl Scripted {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for a socket");
        let (socket, store) = (folder.path().join("socket"), folder.path().join("store"));
        let dirs = StoreDirs::new(&store, folder.path())
            .and_then(|dirs| dirs.with_daemon_socket(&socket))
            .expect("the folder of a test has a plain name");
        let drv = DrvPath::parse_str(&format!("{}/{}-x.drv", dirs.store(), "0".repeat(32)))
            .expect("it has the form of a derivation's path");
        fs::create_dir(&store).expect("a folder for a store");
        fs::write(drv.as_str(), r#"Derive([("out","","r:sha256","")],[],[],"s","/b",[],[])"#)
            .expect("a file");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let (script, says) = channel::<Vec<u8>>();
        thread::spawn(move || {
            for bytes in says {
                let (stream, _) = listener.accept().expect("the client connects");
                // It talks without listening first, but hears everything, or the client would wait for that.
                thread::scope(|both| {
                    both.spawn(|| {
                        // The client hangs up as soon as it has heard enough.
                        let _ = (&stream).write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
                    });
                    let _ = io::copy(&mut &stream, &mut io::sink());
                });
            }
        });
        Self { socket, script, dirs, drv, _folder: folder }
    }

    fn says(&self, bytes: &[u8]) {
        self.script.send(bytes.to_vec()).expect("the scripted daemon listens as long as the process lives");
    }
}
