//! TLS with certificates on both sides, against Python's own. Needs what `scripts/test-tools` installs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use object_kit::{Auth, Class, Http, HttpSettings, Line, Objects, Secret};
use service_kit::clock::Clock;
use service_kit::http::{IdentityFiles, Roots};
use test_kit::proc::Guard;

use crate::real::python;
use crate::support::{bytes, line, meta, told};

fn place(base: &str, dir: &Path, roots: Roots, who: Option<&str>) -> Http {
    let file = |name: &str| dir.join(name);
    let identity = who.map(|who| IdentityFiles {
        cert_file: file(&format!("{who}.pem")),
        key_file: file(&format!("{who}.key")),
    });
    let line = Line { roots, identity, attempts_max: 1, ..line(Clock::system()) };
    Http::new(&HttpSettings { base: Secret::new(base), auth: Auth::None, line }).unwrap()
}

#[tokio::test]
async fn both_sides_show_certificates_and_neither_takes_a_strangers() {
    let Some(program) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls/server.py");
    #[expect(clippy::disallowed_methods, reason = "tests start servers under a guard that ends them")]
    let mut command = Command::new(program);
    command.arg(script).arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut guard = Guard::spawn(&mut command).unwrap();
    let mut port = String::new();
    BufReader::new(guard.child().stdout.take().unwrap()).read_line(&mut port).unwrap();
    let base = format!("https://127.0.0.1:{}/cache", port.trim());
    let trusted = Roots::File(dir.path().join("authority.pem"));

    let ours = place(&base, dir.path(), trusted.clone(), Some("client"));
    ours.put("x", bytes(300_000), &meta()).await.unwrap();
    assert!(ours.get("x", 300_000).await.unwrap().unwrap().bytes == bytes(300_000));

    let strangers = Roots::File(dir.path().join("stranger.pem"));
    let untrusting = place(&base, dir.path(), strangers, Some("client"));
    let error = untrusting.get("x", 1).await.unwrap_err();
    assert_eq!(error.class, Class::Unreachable, "{}", told(&error));
    assert!(told(&error).contains("certificate"), "{}", told(&error));

    for who in [None, Some("stranger")] {
        let error = place(&base, dir.path(), trusted.clone(), who).get("x", 1).await.unwrap_err();
        assert!(matches!(error.class, Class::Unreachable | Class::Server), "{who:?}: {}", told(&error));
    }
}
