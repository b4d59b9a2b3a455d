//! What Nix says: its commands on standard error, its daemon over the socket; and the store URLs handed to it.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix_store::copy::{FaultClass, LINE_MAX, StoreUrl, URL_MAX, classify};
use nix_store::daemon::Daemon;

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
    let (socket, script) = listener();
    script.send(bytes.to_vec()).expect("the scripted daemon listens as long as the process lives");
    let said = Daemon::connect(socket).and_then(|mut daemon| daemon.add_indirect_root(Path::new("/link")));
    if let Err(error) = said {
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
}

/// A daemon that says what it is sent, one conversation each, and hangs up.
fn listener() -> (&'static Path, Sender<Vec<u8>>) {
    static LISTENER: OnceLock<(PathBuf, Sender<Vec<u8>>)> = OnceLock::new();
    let (socket, script) = LISTENER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder for a socket");
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let (script, says) = channel::<Vec<u8>>();
        thread::spawn(move || {
            for bytes in says {
                let (mut stream, _) = listener.accept().expect("the client connects");
                // The client hangs up as soon as it has heard enough.
                let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
                let _ = io::copy(&mut stream, &mut io::sink());
            }
            drop(folder);
        });
        (socket, script)
    });
    (socket, script.clone())
}
