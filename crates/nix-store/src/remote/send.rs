//! Paths on their way to another Nix. Items come in, references before referrers, and the bytes of each as somebody reads
//! them; out comes what the other side said of each. One thread writes while another hears, so that no answer is waited
//! for before the next path leaves, however far away the machine is. An item whose bytes turn out to be wrong after the
//! first of them left is never completed: the conversation is cut, and the other side throws away what it has of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender as Places, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::serve::Serve;
use super::{Peer, Remote};
use crate::daemon::{Daemon, DaemonError};
use crate::store::PathInfo;
use crate::wire::{Sender, put_number, put_text, put_texts};

const SERVE_ADD_TO_STORE_NAR: u64 = 9;
const WORKER_ADD_TO_STORE_NAR: u64 = 39;
/// Bytes that are gathered before they are sent.
const GATHER_BYTES: usize = 64 * 1024;
/// The first version of the daemon's protocol that takes a NAR in frames.
const FRAMED: u64 = 23;

/// A path to be sent.
#[derive(Clone, Debug)]
pub struct Item {
    /// What is registered about it here; its NAR's size is not 0.
    pub info: PathInfo,
    /// The signatures to be sent along, `name:base64` each.
    pub signatures: Vec<String>,
}

/// What came of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It is registered there.
    Taken,
    /// The other side does not want it: its words, escaped.
    Refused(String),
    /// Its bytes could not be read, or were not the right ones.
    Unread,
    /// It was not sent, for it needs one that failed.
    Lacking,
    /// It was not sent, or nothing was heard of it.
    Open,
}

/// What became of a whole sending.
#[derive(Debug)]
pub struct Sent<E> {
    /// One for each item.
    pub ends: Vec<End>,
    /// Why items could not be read, by their places.
    pub unread: Vec<(usize, E)>,
    /// What ended the conversation. `None` when it can go on.
    pub broken: Option<Broken>,
}

/// What ended a conversation.
#[derive(Debug)]
pub enum Broken {
    /// The other side, or the way to it. When it hung up, the first open item of `ends` is what it had in hand.
    Peer(DaemonError),
    /// We did, in the middle of an item that was not what it should be.
    Cut,
}

/// Whoever reads an item is to stop: the conversation is over.
#[derive(Debug)]
pub struct Stopped;

/// Why the reading of an item ended early.
#[derive(Debug)]
pub enum ReadEnd<E> {
    /// The sink said so.
    Stopped,
    /// The bytes cannot be had, or are not the right ones.
    Bad(E),
}

/// Hands the NAR of an item, by its place, to the sink.
pub type Read<'a, E> =
    &'a mut dyn FnMut(usize, &mut dyn FnMut(&[u8]) -> Result<(), Stopped>) -> Result<(), ReadEnd<E>>;

impl Remote {
    /// Sends the items. `read` is called for one after the other; what it holds back until it has proved it is not
    /// sent. An item that needs one that failed is not sent.
    pub fn send<E>(&mut self, items: &[Item], read: Read<'_, E>) -> Sent<E> {
        match &mut self.0 {
            Peer::Serve(serve) => send(serve, items, read),
            Peer::Worker(daemon) => send(daemon, items, read),
        }
    }
}

/// Who can be sent to.
trait Taker: Send {
    fn sender(&self) -> Result<Sender, DaemonError>;
    /// What stands before the bytes of an item.
    fn head(&self, item: &Item) -> Vec<u8>;
    /// Whether bytes go in frames.
    fn framed(&self) -> bool;
    /// What the other side says of an item.
    fn heard(&mut self) -> Result<(), DaemonError>;
}

impl Taker for Serve {
    fn sender(&self) -> Result<Sender, DaemonError> {
        self.wire.sender()
    }

    fn head(&self, item: &Item) -> Vec<u8> {
        let mut head = Vec::new();
        put_number(&mut head, SERVE_ADD_TO_STORE_NAR);
        put_item(&mut head, item);
        head
    }

    fn framed(&self) -> bool {
        false
    }

    fn heard(&mut self) -> Result<(), DaemonError> {
        self.wire.next_answer();
        match self.wire.number()? {
            1 => Ok(()),
            other => Err(self.wire.strange(format!("it answered {other} to a path"))),
        }
    }
}

impl Taker for Daemon {
    fn sender(&self) -> Result<Sender, DaemonError> {
        self.wire.sender()
    }

    fn head(&self, item: &Item) -> Vec<u8> {
        let mut head = Vec::new();
        put_number(&mut head, WORKER_ADD_TO_STORE_NAR);
        put_item(&mut head, item);
        put_number(&mut head, 0); // no repair of what is valid there
        put_number(&mut head, 0); // signatures are looked at as its configuration says
        head
    }

    fn framed(&self) -> bool {
        true
    }

    fn heard(&mut self) -> Result<(), DaemonError> {
        self.messages()
    }
}

impl Daemon {
    /// Whether it takes paths as we send them.
    pub(super) fn can_be_sent_to(&self) -> Result<(), DaemonError> {
        if self.speaks(FRAMED) {
            return Ok(());
        }
        let what = "it speaks less than 1.23, of Nix 2.4; write ssh:// in the place of ssh-ng:// for it";
        Err(self.wire.strange(what.to_owned()))
    }
}

/// The same in both languages.
fn put_item(head: &mut Vec<u8>, item: &Item) {
    let info = &item.info;
    put_text(head, info.path.as_str().as_bytes());
    put_text(head, info.deriver.as_ref().map_or("", |deriver| deriver.as_str()).as_bytes());
    put_text(head, info.nar_hash.trim_start_matches("sha256:").as_bytes());
    put_texts(head, &info.references);
    put_number(head, info.registration_time);
    put_number(head, info.nar_size);
    put_number(head, 0); // it was not built there
    put_texts(head, &item.signatures);
    put_text(head, info.ca.as_deref().unwrap_or("").as_bytes());
}

fn send<E>(taker: &mut impl Taker, items: &[Item], read: Read<'_, E>) -> Sent<E> {
    let ends = Ends { ends: Mutex::new(vec![End::Open; items.len()]), over: AtomicBool::new(false) };
    let mut unread = Vec::new();
    let sender = match taker.sender() {
        Ok(sender) => sender,
        Err(error) => return Sent { ends: ends.into_inner(), unread, broken: Some(Broken::Peer(error)) },
    };
    let heads: Vec<Vec<u8>> = items.iter().map(|item| taker.head(item)).collect();
    let framed = taker.framed();
    let (places, inbox) = channel();
    let broken = thread::scope(|scope| {
        let hearing = thread::Builder::new().name("ssh-hear".into());
        let (taker, shared) = (&mut *taker, &ends);
        let hearing = hearing.spawn_scoped(scope, move || hear(taker, &inbox, shared));
        let mut writer = Writer { sender, framed, gathered: Vec::new(), places, error: None, cut: false };
        let hearing = match hearing {
            Ok(hearing) => hearing,
            Err(source) => {
                let who = "this machine, which starts no thread: the other side".to_owned();
                return Some(Broken::Peer(DaemonError::Broken { who, source }));
            }
        };
        writer.write(items, heads, &ends, &mut unread, read);
        let Writer { sender, error, cut, places, .. } = writer;
        drop(places); // nothing more is to be heard of
        if cut || error.is_some() {
            sender.cut();
        }
        let heard = hearing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (cut, heard, error) {
            (true, _, _) => Some(Broken::Cut),
            // What it said last explains why nothing could be written any more.
            (false, Err(heard), _) => Some(Broken::Peer(heard)),
            (false, Ok(()), error) => error.map(Broken::Peer),
        }
    });
    Sent { ends: ends.into_inner(), unread, broken }
}

/// What is known of each item, shared by both threads.
struct Ends {
    ends: Mutex<Vec<End>>,
    /// Nothing more will be heard.
    over: AtomicBool,
}

impl Ends {
    fn set(&self, place: usize, end: End) {
        if let Some(slot) = self.ends.lock().unwrap_or_else(PoisonError::into_inner).get_mut(place) {
            *slot = end;
        }
    }

    fn has_failed(&self, place: usize) -> bool {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(ends.get(place), Some(End::Refused(_) | End::Unread | End::Lacking))
    }

    fn into_inner(self) -> Vec<End> {
        self.ends.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears what the other side says of each item that was begun.
fn hear(taker: &mut impl Taker, inbox: &Receiver<usize>, ends: &Ends) -> Result<(), DaemonError> {
    for place in inbox {
        match taker.heard() {
            Ok(()) => ends.set(place, End::Taken),
            Err(DaemonError::Refused { message, .. }) => ends.set(place, End::Refused(message)),
            Err(error) => {
                ends.over.store(true, Ordering::Relaxed);
                if let Ok(sender) = taker.sender() {
                    sender.cut(); // who writes may be waiting
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

struct Writer {
    sender: Sender,
    framed: bool,
    gathered: Vec<u8>,
    places: Places<usize>,
    error: Option<DaemonError>,
    cut: bool,
}

impl Writer {
    fn write<E>(
        &mut self,
        items: &[Item],
        heads: Vec<Vec<u8>>,
        ends: &Ends,
        unread: &mut Vec<(usize, E)>,
        read: Read<'_, E>,
    ) {
        let places: HashMap<&str, usize> =
            items.iter().enumerate().map(|(place, item)| (item.info.path.as_str(), place)).collect();
        for (place, (item, head)) in items.iter().zip(heads).enumerate() {
            let needs = item.info.references.iter().filter_map(|path| places.get(path.as_str()));
            if needs.copied().any(|need| need != place && ends.has_failed(need)) {
                ends.set(place, End::Lacking);
                continue;
            }
            let (mut head, mut begun) = (Some(head), false);
            let end = read(place, &mut |block| {
                if let Some(head) = head.take() {
                    begun = true;
                    self.gather(&head);
                    let _ = self.places.send(place); // nobody hears any more: the next block shows it
                }
                if ends.over.load(Ordering::Relaxed) {
                    return Err(Stopped);
                }
                self.block(block)
            });
            match end {
                Ok(()) if self.framed && begun => self.gather(&0_u64.to_le_bytes()),
                Ok(()) => {}
                Err(ReadEnd::Stopped) => return,
                Err(ReadEnd::Bad(error)) => {
                    ends.set(place, End::Unread);
                    unread.push((place, error));
                    if begun {
                        self.cut = true;
                        return;
                    }
                }
            }
        }
        self.flush();
    }

    fn block(&mut self, block: &[u8]) -> Result<(), Stopped> {
        if self.framed {
            self.gather(&(block.len() as u64).to_le_bytes());
        }
        if block.len() < GATHER_BYTES {
            self.gather(block);
        } else {
            self.flush();
            self.send_now(block);
        }
        if self.error.is_some() { Err(Stopped) } else { Ok(()) }
    }

    fn gather(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHER_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        self.send_now(&gathered);
    }

    fn send_now(&mut self, bytes: &[u8]) {
        if self.error.is_none() {
            self.error = self.sender.send(bytes).err();
        }
    }
}
