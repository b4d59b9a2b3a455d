//! A conversation with a Nix daemon: an order or a question comes in, the daemon's answer or its own words of refusal
//! come out. Speaks the worker protocol from 1.21 to 1.35, the lower of ours and the daemon's; only what this program
//! needs of it. Blocks, for at most [`ANSWER_MAX`] per read at the local socket. This file holds the greeting and the
//! messages before an answer; bounded reading is in `wire.rs`, the questions are in `ask.rs`.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::copy::words::cleaned;
use crate::wire::Wire;

/// How long the daemon may take to send or take the next bytes.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Most fields of one message.
const FIELDS_MAX: u64 = 1000;
/// Most places and reasons told with one refusal.
const TRACES_MAX: usize = 10_000;
/// Most messages taken before an answer.
const MESSAGES_MAX: usize = 100_000;

const CLIENT_MAGIC: u64 = 0x6e69_7863;
const DAEMON_MAGIC: u64 = 0x6478_696f;
/// The newest protocol we speak, 1.35, and the oldest, 1.21.
const NEWEST: u64 = 0x0123;
const OLDEST: u64 = 0x0115;
/// What is missing where somebody else answers.
const SPEAKS: &str = "the Nix daemon's protocol 1.21 or newer";

mod ask;

/// An open conversation.
pub struct Daemon {
    pub(crate) wire: Wire,
    protocol: u64,
}

/// Why the daemon did not do it.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Nobody listens.
    #[error("cannot reach the Nix daemon at {}; start nix-daemon, or set NIX_DAEMON_SOCKET_PATH", socket.display())]
    Connect {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the conversation with {who} broke off")]
    Broken {
        /// With whom.
        who: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is nobody we can talk to.
    #[error("{who} does not speak {speaks}: {what}")]
    Protocol {
        /// Who.
        who: String,
        /// What it should.
        speaks: &'static str,
        /// What it did.
        what: String,
    },
    /// It said no.
    #[error("{who} refused: {message}")]
    Refused {
        /// Who.
        who: String,
        /// Its words, without colours, escaped.
        message: String,
    },
}

impl Daemon {
    /// Begins a conversation. When this returns the daemon has opened its store.
    ///
    /// # Errors
    /// [`DaemonError`] when nobody listens or it is no daemon of Nix.
    pub fn connect(socket: &Path) -> Result<Self, DaemonError> {
        let refused = |source| DaemonError::Connect { socket: socket.to_owned(), source };
        let stream = UnixStream::connect(socket).map_err(refused)?;
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(refused)?;
        stream.set_write_timeout(Some(ANSWER_MAX)).map_err(refused)?;
        Self::greet(stream, format!("the Nix daemon at {}", socket.display()))
    }

    /// Begins a conversation with `who` is at the other end of a stream, whose time-outs are the caller's.
    pub(crate) fn greet(stream: UnixStream, who: String) -> Result<Self, DaemonError> {
        let mut wire = Wire::new(stream, who, SPEAKS);
        wire.send(&CLIENT_MAGIC.to_le_bytes())?;
        let magic = wire.number()?;
        if magic != DAEMON_MAGIC {
            return Err(wire.no_magic(magic));
        }
        let theirs = wire.number()?;
        if theirs < OLDEST || theirs >> 8 != NEWEST >> 8 {
            return Err(wire.strange(format!("it speaks {}.{}", theirs >> 8, theirs & 0xff)));
        }
        let mut daemon = Self { wire, protocol: theirs.min(NEWEST) };
        // Our version, no processor to stay on, no reserved space.
        let mut hello = NEWEST.to_le_bytes().to_vec();
        hello.extend_from_slice(&[0; 16]);
        daemon.wire.send(&hello)?;
        if daemon.speaks(33) {
            daemon.wire.text()?; // the daemon's own version
        }
        if daemon.speaks(35) {
            daemon.wire.number()?; // whether it trusts us: it says itself when it does not
        }
        daemon.messages()?;
        Ok(daemon)
    }

    /// Takes what the daemon says before an answer, until it says that the answer follows.
    pub(crate) fn messages(&mut self) -> Result<(), DaemonError> {
        self.wire.next_answer();
        for _ in 0..MESSAGES_MAX {
            match self.wire.number()? {
                0x616c_7473 => return Ok(()),
                0x6f6c_6d67 => drop(self.wire.text()?), // a line of log
                0x5354_5254 => {
                    // an activity starts: id, level, type, text, fields, parent
                    self.wire.numbers(3)?;
                    self.wire.text()?;
                    self.fields()?;
                    self.wire.number()?;
                }
                0x5354_4f50 => drop(self.wire.number()?), // and stops
                0x5253_4c54 => {
                    // and has a result: id, type, fields
                    self.wire.numbers(2)?;
                    self.fields()?;
                }
                0x6378_7470 => return Err(self.refusal()?),
                other => return Err(self.wire.strange(format!("it sent a message of kind {other:#x}"))),
            }
        }
        Err(self.wire.strange(format!("it sent more than {MESSAGES_MAX} messages")))
    }

    /// Takes a refusal to its end, so that the conversation can go on.
    fn refusal(&mut self) -> Result<DaemonError, DaemonError> {
        let message = if self.speaks(26) {
            self.wire.text()?; // always "Error"
            self.wire.number()?; // the level
            self.wire.text()?; // a name
            let message = self.wire.text()?;
            self.wire.number()?; // no place
            self.wire.list(TRACES_MAX, |wire| {
                wire.number()?; // no place
                wire.text()
            })?;
            message
        } else {
            let message = self.wire.text()?;
            self.wire.number()?; // the exit code of a program that failed so
            message
        };
        let message = cleaned(&String::from_utf8_lossy(&message));
        Ok(DaemonError::Refused { who: self.wire.who().to_owned(), message })
    }

    fn fields(&mut self) -> Result<(), DaemonError> {
        let count = self.wire.number()?;
        if count > FIELDS_MAX {
            return Err(self.wire.strange(format!("it sent {count} fields")));
        }
        for _ in 0..count {
            match self.wire.number()? {
                0 => drop(self.wire.number()?),
                1 => drop(self.wire.text()?),
                other => return Err(self.wire.strange(format!("it sent a field of type {other}"))),
            }
        }
        Ok(())
    }

    /// Do both sides speak 1.`minor`?
    pub(crate) fn speaks(&self, minor: u64) -> bool {
        self.protocol & 0xff >= minor
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::wire::{ANSWER_BYTES_MAX, TEXT_MAX, put_text};

    /// A daemon that sends these bytes whatever it hears.
    fn scripted(bytes: Vec<u8>) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&bytes).unwrap();
            let _ = io::copy(&mut stream, &mut io::sink()); // until the client has heard enough
        });
        (folder, socket)
    }

    fn numbers(numbers: &[u64]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn text(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_text(&mut bytes, text.as_bytes());
        bytes
    }

    const LAST: u64 = 0x616c_7473;

    fn talk(bytes: Vec<u8>) -> Result<(), DaemonError> {
        let (_folder, socket) = scripted(bytes);
        Daemon::connect(&socket)?.add_indirect_root(Path::new("/link"))
    }

    #[test]
    fn all_kinds_of_messages_are_passed_over() {
        let chatter = [
            numbers(&[0x6f6c_6d67]),
            text("a line of log"),
            numbers(&[0x5354_5254, 1, 2, 3]),
            text("starts"),
            numbers(&[2, 0, 7, 1]),
            text("a field"),
            numbers(&[0, 0x5253_4c54, 1, 2, 0, 0x5354_4f50, 1]),
        ]
        .concat();
        let greeting = |version| numbers(&[DAEMON_MAGIC, version]);
        let answer = numbers(&[LAST, 1]);
        let old =
            [greeting(0x115), chatter.clone(), numbers(&[LAST]), chatter.clone(), answer.clone()].concat();
        talk(old).unwrap();
        let new = [greeting(0x126), text("2.26.3"), numbers(&[1, LAST]), chatter, answer].concat();
        talk(new).unwrap();
    }

    #[test]
    fn a_refusal_is_repeated_without_colours_and_escaped() {
        let greeting = [numbers(&[DAEMON_MAGIC, 0x122]), text("2.8.0"), numbers(&[LAST])].concat();
        let refusal = [
            numbers(&[0x6378_7470]),
            text("Error"),
            numbers(&[0]),
            text("Error"),
            text("no\x1b[0m\x07!"),
            numbers(&[0, 0]),
        ];
        let error = talk([greeting, refusal.concat()].concat()).unwrap_err();
        assert!(matches!(error, DaemonError::Refused { .. }));
        assert!(error.to_string().ends_with("refused: no\\u{7}!"), "{error}");
        let old = [numbers(&[DAEMON_MAGIC, 0x115, LAST, 0x6378_7470]), text("no"), numbers(&[1])].concat();
        assert!(matches!(talk(old), Err(DaemonError::Refused { message, .. }) if message == "no"));
    }

    #[test]
    fn what_is_no_daemon_is_said() {
        let strange = |bytes: Vec<u8>| match talk(bytes).unwrap_err() {
            DaemonError::Protocol { what, .. } => what,
            other => panic!("{other}"),
        };
        assert_eq!(strange(b"HTTP/1.1".to_vec()), "it begins with \"HTTP/1.1\"");
        assert_eq!(strange(numbers(&[DAEMON_MAGIC, 0x10a])), "it speaks 1.10");
        assert_eq!(strange(numbers(&[DAEMON_MAGIC, 0x200])), "it speaks 2.0");
        assert_eq!(
            strange(numbers(&[DAEMON_MAGIC, 0x122, u64::MAX - 6])),
            format!("it sent a text of {} bytes", u64::MAX - 6)
        );
        assert_eq!(strange(numbers(&[DAEMON_MAGIC, 0x115, 5])), "it sent a message of kind 0x5");
        assert_eq!(strange(numbers(&[DAEMON_MAGIC, 0x115, LAST, LAST, 2])), "it answered 2 to a new root");
    }

    /// What comes of a question when the daemon says these bytes behind its greeting.
    fn asked<T>(
        says: &[Vec<u8>],
        question: impl FnOnce(&mut Daemon) -> Result<T, DaemonError>,
    ) -> Result<T, DaemonError> {
        let greeting = [numbers(&[DAEMON_MAGIC, 0x122]), text("2.8.0"), numbers(&[LAST, LAST])].concat();
        let (_folder, socket) = scripted([greeting, says.concat()].concat());
        question(&mut Daemon::connect(&socket)?)
    }

    const PATH: &str = "/nix/store/00000000000000000000000000000000-a";

    #[test]
    fn lists_and_texts_keep_their_bounds() {
        let strange = |says: &[Vec<u8>]| match asked(says, Daemon::all_valid).unwrap_err() {
            DaemonError::Protocol { what, .. } => what,
            other => panic!("{other}"),
        };
        assert_eq!(strange(&[numbers(&[1_000_001])]), "it sent a list of 1000001");
        assert_eq!(strange(&[numbers(&[u64::MAX])]), format!("it sent a list of {}", u64::MAX));
        let no_path = strange(&[numbers(&[1]), text("/tmp/\x1b")]);
        assert!(no_path.starts_with("it sent a path that is none: `/tmp/\\u{1b}`"), "{no_path}");
        let cut = asked(&[numbers(&[2]), text(PATH)], |daemon| daemon.realisations("x", "/nix/store"));
        assert!(matches!(cut, Err(DaemonError::Protocol { .. })), "{cut:?}");
        assert_eq!(asked(&[numbers(&[1]), text(PATH)], Daemon::all_valid).unwrap()[0].as_str(), PATH);
    }

    #[test]
    fn an_answer_has_a_most() {
        let line = [numbers(&[0x6f6c_6d67]), text(&"x".repeat(TEXT_MAX))].concat();
        let lines = usize::try_from(ANSWER_BYTES_MAX).unwrap() / line.len() + 1;
        let (_folder, socket) = scripted(
            [numbers(&[DAEMON_MAGIC, 0x122]), text("2.8.0"), numbers(&[LAST]), line.repeat(lines)].concat(),
        );
        let said = Daemon::connect(&socket).unwrap().all_valid();
        assert!(
            matches!(&said, Err(DaemonError::Protocol { what, .. }) if what.contains("268435456 bytes")),
            "{said:?}"
        );
    }

    #[test]
    fn a_hash_that_is_none_is_not_taken() {
        let path = nix_types::StorePath::parse_str(PATH).unwrap();
        for hash in ["", "sha256:0", &"g".repeat(64), &format!("{}\x1b", "0".repeat(63))] {
            let info = [numbers(&[1]), text(""), text(hash), numbers(&[0, 1, 1, 1, 0]), text("")];
            let said = asked(&info, |daemon| daemon.path_infos(std::slice::from_ref(&path), |_, _| Ok(())));
            let Err(DaemonError::Protocol { what, .. }) = said else { panic!("{said:?}") };
            assert!(what.starts_with("it says the hash of") && !what.contains(char::is_control), "{what}");
        }
    }

    #[test]
    fn realisations_are_read_and_old_daemons_have_none() {
        let json = r#"{"dependentRealisations":{"sha256:1!out":"00000000000000000000000000000000-b"},
            "id":"sha256:0!out","outPath":"00000000000000000000000000000000-a","signatures":["k:s"]}"#;
        let ask = |daemon: &mut Daemon| daemon.realisations("sha256:0!out", "/nix/store");
        let found = asked(&[numbers(&[1]), text(json)], ask).unwrap().remove(0);
        assert_eq!((found.id.as_str(), found.out_path.as_str()), ("sha256:0!out", PATH));
        assert_eq!(found.signatures, ["k:s"]);
        assert_eq!(found.dependent_realisations["sha256:1!out"].name(), "b");
        for wrong in ["", "[]", r#"{"id":"x","outPath":"../x"}"#, r#"{"id":1}"#, "\x1b"] {
            let said = asked(&[numbers(&[1]), text(wrong)], ask);
            assert!(matches!(said, Err(DaemonError::Protocol { .. })), "{wrong}");
        }
        let (_folder, socket) = scripted(numbers(&[DAEMON_MAGIC, 0x11e, LAST]));
        assert_eq!(ask(&mut Daemon::connect(&socket).unwrap()).unwrap(), []);
    }

    #[test]
    fn nobody_there() {
        let folder = tempfile::tempdir().unwrap();
        let error = Daemon::connect(&folder.path().join("socket")).map(drop).unwrap_err();
        assert!(matches!(error, DaemonError::Connect { .. }), "{error}");
    }
}
