//! The bytes of a conversation with another Nix: numbers, texts and lists come out of a stream, each within its bound,
//! and what is sent goes in. What they mean is in `daemon.rs` and `remote/`. Blocks; a stream with time-outs gives up
//! when for so long nothing moved in either direction.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix_types::StorePath;

use crate::daemon::DaemonError;
use crate::store::CLOSURE_MAX;

/// Most bytes of one answer, messages before it included: room for a list of a million paths.
pub(crate) const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// Longest text taken, in bytes.
pub(crate) const TEXT_MAX: usize = 1 << 20;
/// Most paths taken in one list.
const PATHS_MAX: usize = CLOSURE_MAX;

/// Our end of a conversation.
pub(crate) struct Wire {
    stream: BufReader<UnixStream>,
    who: String,
    speaks: &'static str,
    /// Bytes the answer under way may still have.
    left: u64,
    moved: Arc<AtomicU64>,
}

impl Wire {
    /// With `who` is at the other end and should speak what is named.
    pub(crate) fn new(stream: UnixStream, who: String, speaks: &'static str) -> Self {
        Self { stream: BufReader::new(stream), who, speaks, left: ANSWER_BYTES_MAX, moved: Arc::default() }
    }

    /// Who is at the other end.
    pub(crate) fn who(&self) -> &str {
        &self.who
    }

    /// The stream alone, for one who writes while another reads.
    pub(crate) fn sender(&self) -> Result<Sender, DaemonError> {
        let stream = self.stream.get_ref().try_clone().map_err(|source| self.broken(source))?;
        Ok(Sender { stream, who: self.who.clone(), moved: Arc::clone(&self.moved) })
    }

    /// A new answer begins, with all the room there is.
    pub(crate) fn next_answer(&mut self) {
        self.left = ANSWER_BYTES_MAX;
    }

    pub(crate) fn number(&mut self) -> Result<u64, DaemonError> {
        let mut bytes = [0; 8];
        self.read(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(crate) fn numbers(&mut self, count: usize) -> Result<(), DaemonError> {
        (0..count).try_for_each(|_| self.number().map(drop))
    }

    pub(crate) fn text(&mut self) -> Result<Vec<u8>, DaemonError> {
        let said = self.number()?;
        match usize::try_from(said) {
            Ok(len) if len <= TEXT_MAX => {
                let mut bytes = vec![0; len.next_multiple_of(8)];
                self.read(&mut bytes)?;
                bytes.truncate(len);
                Ok(bytes)
            }
            Ok(_) | Err(_) => Err(self.strange(format!("it sent a text of {said} bytes"))),
        }
    }

    pub(crate) fn string(&mut self) -> Result<String, DaemonError> {
        let text = self.text()?;
        String::from_utf8(text).map_err(|_| self.strange("it sent a text that is not UTF-8".to_owned()))
    }

    pub(crate) fn list<T>(
        &mut self,
        max: usize,
        mut each: impl FnMut(&mut Self) -> Result<T, DaemonError>,
    ) -> Result<Vec<T>, DaemonError> {
        let count = self.number()?;
        match usize::try_from(count) {
            // Grows with what really comes, not with what was said.
            Ok(count) if count <= max => (0..count).map(|_| each(self)).collect(),
            Ok(_) | Err(_) => Err(self.strange(format!("it sent a list of {count}"))),
        }
    }

    pub(crate) fn paths(&mut self) -> Result<Vec<StorePath>, DaemonError> {
        self.list(PATHS_MAX, |wire| {
            let text = wire.text()?;
            wire.path(&text)
        })
    }

    pub(crate) fn path(&self, text: &[u8]) -> Result<StorePath, DaemonError> {
        StorePath::parse(text).map_err(|error| self.strange(format!("it sent a path that is none: {error}")))
    }

    fn read(&mut self, mut bytes: &mut [u8]) -> Result<(), DaemonError> {
        let too_much =
            || self.strange(format!("it sent more than {ANSWER_BYTES_MAX} bytes before and in one answer"));
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(too_much)?;
        while !bytes.is_empty() {
            let before = self.moved.load(Ordering::Relaxed);
            match self.stream.read(bytes) {
                Ok(0) => return Err(self.broken(ErrorKind::UnexpectedEof.into())),
                Ok(size) => {
                    self.moved.fetch_add(size as u64, Ordering::Relaxed);
                    bytes = &mut bytes[size..];
                }
                Err(error) if goes_on(&error, before, &self.moved) => {}
                Err(source) => return Err(self.broken(source)),
            }
        }
        Ok(())
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), DaemonError> {
        send(self.stream.get_mut(), &self.moved, bytes).map_err(|source| self.broken(source))
    }

    pub(crate) fn broken(&self, source: io::Error) -> DaemonError {
        DaemonError::Broken { who: self.who.clone(), source }
    }

    pub(crate) fn strange(&self, what: String) -> DaemonError {
        DaemonError::Protocol { who: self.who.clone(), speaks: self.speaks, what }
    }

    /// What stands where a magic number should; a shell that greets its user is told best by its words.
    pub(crate) fn no_magic(&self, number: u64) -> DaemonError {
        let bytes = number.to_le_bytes();
        if bytes.iter().all(|byte| byte.is_ascii_graphic() || b" \r\n\t".contains(byte)) {
            let words: String = bytes.iter().map(|byte| char::from(*byte)).collect();
            return self.strange(format!("it begins with {words:?}"));
        }
        self.strange(format!("it greets with {number:#x}"))
    }
}

/// The writing end of a conversation.
pub(crate) struct Sender {
    stream: UnixStream,
    who: String,
    moved: Arc<AtomicU64>,
}

impl Sender {
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), DaemonError> {
        let sent = send(&mut self.stream, &self.moved, bytes);
        sent.map_err(|source| DaemonError::Broken { who: self.who.clone(), source })
    }

    /// Ends the conversation for both sides, at once.
    pub(crate) fn cut(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both); // the other end has gone already
    }
}

fn send(stream: &mut UnixStream, moved: &AtomicU64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let before = moved.load(Ordering::Relaxed);
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(size) => {
                moved.fetch_add(size as u64, Ordering::Relaxed);
                bytes = &bytes[size..];
            }
            Err(error) if goes_on(&error, before, moved) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether one that waited is to wait on: it was only woken, or something moved the other way meanwhile.
fn goes_on(error: &io::Error, before: u64, moved: &AtomicU64) -> bool {
    match error.kind() {
        ErrorKind::Interrupted => true,
        ErrorKind::WouldBlock | ErrorKind::TimedOut => moved.load(Ordering::Relaxed) != before,
        _ => false, // it is over
    }
}

pub(crate) fn put_number(order: &mut Vec<u8>, number: u64) {
    order.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_text(order: &mut Vec<u8>, text: &[u8]) {
    put_number(order, text.len() as u64);
    order.extend_from_slice(text);
    order.resize(order.len().next_multiple_of(8), 0);
}

pub(crate) fn put_texts<T: AsRef<str>>(order: &mut Vec<u8>, texts: &[T]) {
    put_number(order, texts.len() as u64);
    texts.iter().for_each(|text| put_text(order, text.as_ref().as_bytes()));
}
