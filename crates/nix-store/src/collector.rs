//! A word with a garbage collection that is under way. Paths that have a root by now come in; when this returns, the
//! collection knows them too, or there is none. Makes no roots and asks nothing about validity: a path may have been
//! deleted the moment before, so ask *after* this.
//!
//! A collector reads the roots once, at its beginning, and then deletes for as long as it takes: a root that is made
//! meanwhile does not stop it. For those it listens on a socket (Nix 2.5 and newer), which it opens before it reads
//! the roots. So with the root made first, nobody listening means that the roots are not read yet, or no longer.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix_types::StorePath;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::dirs::StoreDirs;

/// How long the collector may take to be reached, and for each answer. It answers at once, unless it is just deleting
/// the very path.
pub const ANSWER_MAX: Duration = Duration::from_millis(100);
/// Paths told at a time: their answers, a byte each, fit any socket's buffer.
const CHUNK: usize = 64;
/// What it says to each path that it has noted.
const NOTED: u8 = b'1';
/// How often one that hangs up is looked for again: each time, a collection has ended and another may have begun.
const TRIES_MAX: u32 = 3;

/// Where a running collection of one store listens, and the conversation with it.
///
/// It is the collector that hangs up, at its end: one that accepts a client which is gone already may abort (seen with
/// Nix 2.8: it forgets to join that client's thread).
#[derive(Debug)]
pub struct Collector {
    socket: PathBuf,
    answer_max: Duration,
    talk: Mutex<Option<Talk>>,
}

/// A collection is under way and did not hear of the paths: they may be deleted although they have roots. Ask again
/// later.
#[derive(Debug, thiserror::Error)]
#[error(
    "the garbage collection under way, which listens at {}, could not be told what to keep; it can when it is over",
    socket.display()
)]
pub struct NotTold {
    socket: PathBuf,
    #[source]
    source: io::Error,
}

#[derive(Debug)]
struct Talk {
    stream: UnixStream,
    /// Answers that were late and are still to come.
    owed: usize,
}

impl Collector {
    /// The collector of the store in these folders.
    #[must_use]
    pub fn new(dirs: &StoreDirs) -> Self {
        let socket = dirs.state().join("gc-socket/socket");
        Self { socket, answer_max: ANSWER_MAX, talk: Mutex::default() }
    }

    /// Tells a collection that is under way to keep these paths, each of which has a root by now. Quick when there is
    /// none; else it takes at most [`ANSWER_MAX`] between two answers. May be repeated.
    ///
    /// # Errors
    /// [`NotTold`] when a collection is under way and did not take all of them.
    pub fn keep(&self, paths: &[StorePath]) -> Result<(), NotTold> {
        let told = paths.chunks(CHUNK).try_for_each(|chunk| self.keep_few(chunk));
        told.map_err(|source| NotTold { socket: self.socket.clone(), source })
    }

    fn keep_few(&self, paths: &[StorePath]) -> io::Result<()> {
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tries = 1;
        loop {
            let open = match &mut *talk {
                Some(open) => open,
                none => match connect(&self.socket, self.answer_max)? {
                    Some(stream) => none.insert(Talk { stream, owed: 0 }),
                    None => return Ok(()),
                },
            };
            match open.tell(paths) {
                Ok(()) => return Ok(()),
                Err(error) if is_late(&error) => return Err(error), // the answers are still to come
                Err(error) => {
                    *talk = None;
                    // It was at its end. Is there another?
                    if !hung_up(&error) || tries == TRIES_MAX {
                        return Err(error);
                    }
                    tries += 1;
                }
            }
        }
    }
}

impl Talk {
    fn tell(&mut self, paths: &[StorePath]) -> io::Result<()> {
        self.hear()?; // what was late belongs to paths of an earlier call
        let lines: String = paths.iter().flat_map(|path| [path.as_str(), "\n"]).collect();
        // A line that went out in part cannot be gone on with: that conversation is over.
        let cut_off = |error| if is_late(&error) { io::Error::other(error) } else { error };
        self.stream.write_all(lines.as_bytes()).map_err(cut_off)?;
        self.owed = paths.len();
        self.hear()
    }

    /// Takes all answers that are owed.
    fn hear(&mut self) -> io::Result<()> {
        let mut answers = [0; CHUNK];
        while self.owed > 0 {
            let answers = &mut answers[..self.owed];
            let count = self.stream.read(answers)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if answers[..count].iter().any(|answer| *answer != NOTED) {
                let what = format!("it answered \"{}\"", answers[..count].escape_ascii());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            self.owed -= count;
        }
        Ok(())
    }
}

/// A conversation; `None` when nobody listens.
fn connect(socket: &Path, answer_max: Duration) -> io::Result<Option<UnixStream>> {
    match connect_to(socket, answer_max) {
        Ok(stream) => Ok(Some(stream)),
        // No collection ever, or none now: it leaves its socket file behind.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn connect_to(socket: &Path, answer_max: Duration) -> io::Result<UnixStream> {
    let folder; // open until we are connected
    let address = match SocketAddrUnix::new(socket) {
        Ok(address) => address,
        // Longer than an address can be: Nix gets there as well, so there may be a collector.
        Err(_) => {
            folder = File::open(socket.parent().unwrap_or(socket))?;
            SocketAddrUnix::new(format!("/proc/self/fd/{}/socket", folder.as_raw_fd()))?
        }
    };
    let stream =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Bounds connecting too: the backlog of one that is stopped is full soon.
    set_socket_timeout(&stream, Timeout::Send, Some(answer_max))?;
    set_socket_timeout(&stream, Timeout::Recv, Some(answer_max))?;
    rustix::net::connect(&stream, &address)?;
    Ok(UnixStream::from(stream))
}

fn hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    fn paths(count: usize) -> Vec<StorePath> {
        (0..count).map(|i| StorePath::parse_str(&format!("/nix/store/{i:032}-p")).unwrap()).collect()
    }

    /// For a collector that answers: however busy the machine is, it is not called late.
    const PATIENT: Duration = Duration::from_secs(20);

    fn collector(state: &Path, answer_max: Duration) -> Collector {
        Collector { answer_max, ..Collector::new(&StoreDirs::new("/nix/store", state).unwrap()) }
    }

    /// The folders of a store, and a listener where its collector would be.
    fn listening(answer_max: Duration) -> (tempfile::TempDir, Collector, UnixListener) {
        let folder = tempfile::tempdir().unwrap();
        let collector = collector(folder.path(), answer_max);
        fs::create_dir(folder.path().join("gc-socket")).unwrap();
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let socket = socket.unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&collector.socket).unwrap()).unwrap();
        rustix::net::listen(&socket, 1).unwrap(); // a backlog that few clients fill
        (folder, collector, UnixListener::from(socket))
    }

    /// Answers each line with this byte until the client goes.
    fn answer(stream: UnixStream, byte: u8) -> usize {
        let mut writer = stream.try_clone().unwrap();
        let lines = BufReader::new(stream).lines();
        lines.map(|_| writer.write_all(&[byte]).unwrap()).count()
    }

    #[test]
    fn nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        collector(folder.path(), PATIENT).keep(&paths(1)).unwrap();
        let (_folder, collector, listener) = listening(PATIENT);
        drop(listener); // its file stays, as Nix' does
        assert!(collector.socket.exists());
        collector.keep(&paths(1)).unwrap();
    }

    #[test]
    fn each_path_is_noted() {
        let (_folder, collector, listener) = listening(PATIENT);
        let noting = thread::spawn(move || answer(listener.accept().unwrap().0, NOTED));
        collector.keep(&paths(1_000)).unwrap();
        collector.keep(&paths(1)).unwrap();
        drop(collector);
        assert_eq!(noting.join().unwrap(), 1_001, "all in one conversation");
    }

    #[test]
    fn a_state_folder_with_a_long_name() {
        let (folder, _, listener) = listening(PATIENT);
        let long = folder.path().join("n".repeat(200));
        let collector = collector(&long, PATIENT);
        collector.keep(&paths(1)).unwrap();
        fs::create_dir(&long).unwrap();
        fs::rename(folder.path().join("gc-socket"), long.join("gc-socket")).unwrap();
        let noting = thread::spawn(move || answer(listener.accept().unwrap().0, NOTED));
        collector.keep(&paths(1)).unwrap();
        drop(collector);
        assert_eq!(noting.join().unwrap(), 1);
    }

    #[test]
    fn what_is_no_yes_is_told() {
        let (_folder, collector, listener) = listening(PATIENT);
        thread::spawn(move || answer(listener.accept().unwrap().0, b'0'));
        let error = collector.keep(&paths(2)).unwrap_err();
        assert!(error.source.to_string().starts_with("it answered \"0"), "{}", error.source);
    }

    #[test]
    fn one_that_answers_late_is_listened_to_the_next_time() {
        let (_folder, collector, listener) = listening(ANSWER_MAX);
        let late = |asked: &[StorePath]| collector.keep(asked).unwrap_err().source.kind();
        assert_eq!(late(&paths(3)), io::ErrorKind::WouldBlock);
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&[NOTED; 2]).unwrap();
        assert_eq!(late(&paths(1)), io::ErrorKind::WouldBlock);
        // The third answer is no answer to what is asked now.
        stream.write_all(&[NOTED]).unwrap();
        assert_eq!(late(&paths(1)), io::ErrorKind::WouldBlock);
        stream.write_all(&[NOTED; 2]).unwrap();
        collector.keep(&paths(1)).unwrap();
    }

    #[test]
    fn one_that_takes_no_more_clients_is_not_waited_for() {
        let (_folder, collector, listener) = listening(ANSWER_MAX);
        let client = || connect(&collector.socket, ANSWER_MAX).ok().flatten();
        let crowd: Vec<_> = std::iter::from_fn(client).take(10).collect();
        assert!((1..10).contains(&crowd.len()), "{}", crowd.len());
        assert_eq!(collector.keep(&paths(1)).unwrap_err().source.kind(), io::ErrorKind::WouldBlock);
        drop((crowd, listener));
    }

    #[test]
    fn one_that_ends_in_the_middle_is_looked_for_again() {
        let (_folder, collector, listener) = listening(PATIENT);
        let ending = thread::spawn(move || {
            drop(listener.accept().unwrap());
            answer(listener.accept().unwrap().0, NOTED)
        });
        collector.keep(&paths(3)).unwrap();
        drop(collector);
        assert_eq!(ending.join().unwrap(), 3);
        let (_folder, collector, listener) = listening(PATIENT);
        thread::spawn(move || {
            let client = listener.accept().unwrap();
            drop(listener);
            drop(client);
        });
        collector.keep(&paths(3)).unwrap(); // the second time nobody listens any more
    }
}
