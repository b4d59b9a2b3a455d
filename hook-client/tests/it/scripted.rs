//! The library on a system made of memory, where any one call can fail. Whatever fails, a request is
//! acknowledged, or whole in the spool, or missed in a line; the spool never keeps a rest; the clock is the
//! test's own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::num::NonZeroU32;

use eka_hook::{Fault, Stream, Sys, run};
use hook_wire::Status;

use crate::harness::{DRV, HELLO, Said};
use crate::server::ack;

/// A system in memory. One folder, one socket, a clock that moves by one millisecond per look.
#[derive(Default)]
struct Scripted {
    args: Vec<&'static str>,
    answer: Option<Vec<u8>>,
    /// The call that fails, counted from 0, and how.
    fails: Option<(usize, Fault)>,
    /// Signals that come while the socket waits.
    interruptions: Cell<usize>,
    calls: Cell<usize>,
    clock: Cell<u64>,
    folder_made: Cell<bool>,
    files: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
    open: RefCell<Vec<u8>>,
    synced: Cell<usize>,
    sent: RefCell<Vec<u8>>,
    said: RefCell<String>,
}

impl Scripted {
    fn call(&self) -> Result<(), Fault> {
        let number = self.calls.replace(self.calls.get() + 1);
        match self.fails {
            Some((at, fault)) if at == number => Err(fault),
            _ => Ok(()),
        }
    }

    fn wait(&self) -> Result<(), Fault> {
        self.call()?;
        match self.interruptions.get().checked_sub(1) {
            None => Ok(()),
            Some(left) => {
                self.interruptions.set(left);
                Err(Fault::Interrupted)
            }
        }
    }
}

impl Sys for Scripted {
    type File = bool;
    type Socket = Cell<usize>;
    type Blob = Vec<u8>;

    fn arg(&self, index: usize) -> Option<&[u8]> {
        self.args.get(index).map(|arg| arg.as_bytes())
    }

    fn env(&self, name: &[u8]) -> Option<&[u8]> {
        match name {
            b"OUT_PATHS" => Some(HELLO.as_bytes()),
            b"DRV_PATH" => Some(DRV.as_bytes()),
            _ => None,
        }
    }

    fn monotonic_ms(&self) -> u64 {
        self.clock.replace(self.clock.get() + 1)
    }

    fn wall_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn pid(&self) -> u32 {
        77
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), Fault> {
        self.call()?;
        bytes.fill(0xab);
        Ok(())
    }

    fn print(&self, _: Stream, bytes: &[u8]) {
        self.said.borrow_mut().push_str(str::from_utf8(bytes).unwrap());
    }

    fn room(&self, len: usize) -> Result<Vec<u8>, Fault> {
        self.call().map(|()| vec![0; len])
    }

    fn read_file(&self, _: &[u8], _: usize) -> Result<Vec<u8>, Fault> {
        Err(Fault::Absent)
    }

    fn read_stdin(&self, _: usize) -> Result<Vec<u8>, Fault> {
        Err(Fault::Absent)
    }

    fn connect(&self, _: &[u8], _: NonZeroU32) -> Result<Cell<usize>, Fault> {
        self.wait()?;
        if self.answer.is_some() { Ok(Cell::new(0)) } else { Err(Fault::Refused) }
    }

    fn send(&self, _: &Cell<usize>, bytes: &[u8], _: NonZeroU32) -> Result<usize, Fault> {
        self.wait()?;
        let now = bytes.len().min(50);
        self.sent.borrow_mut().extend(&bytes[..now]);
        Ok(now)
    }

    fn receive(&self, got: &Cell<usize>, buffer: &mut [u8], _: NonZeroU32) -> Result<usize, Fault> {
        self.wait()?;
        let rest = &self.answer.as_ref().unwrap()[got.get()..];
        let now = rest.len().min(7).min(buffer.len());
        buffer[..now].copy_from_slice(&rest[..now]);
        got.set(got.get() + now);
        Ok(now)
    }

    fn make_folder(&self, _: &[u8], _: u32) -> Result<(), Fault> {
        self.call()?;
        self.folder_made.set(true);
        Ok(())
    }

    fn open_folder(&self, path: &[u8]) -> Result<bool, Fault> {
        self.call()?;
        if path.ends_with(b"spool") && !self.folder_made.get() { Err(Fault::Absent) } else { Ok(true) }
    }

    fn create_in(&self, _: &bool, name: &[u8]) -> Result<bool, Fault> {
        self.call()?;
        self.files.borrow_mut().insert(name.to_vec(), Vec::new());
        *self.open.borrow_mut() = name.to_vec();
        Ok(false)
    }

    fn write(&self, _: &bool, bytes: &[u8]) -> Result<usize, Fault> {
        self.call()?;
        let now = bytes.len().min(64);
        let mut files = self.files.borrow_mut();
        files.get_mut(&*self.open.borrow()).unwrap().extend(&bytes[..now]);
        self.synced.set(0);
        Ok(now)
    }

    fn sync(&self, _: &bool) -> Result<(), Fault> {
        self.call()?;
        self.synced.set(self.synced.get() + 1);
        Ok(())
    }

    fn rename_in(&self, _: &bool, from: &[u8], to: &[u8]) -> Result<(), Fault> {
        self.call()?;
        assert_eq!(self.synced.get(), 1, "a file is synced before it has its name");
        let content = self.files.borrow_mut().remove(from).unwrap();
        self.files.borrow_mut().insert(to.to_vec(), content);
        Ok(())
    }

    fn remove_in(&self, _: &bool, name: &[u8]) -> Result<(), Fault> {
        self.call()?;
        self.files.borrow_mut().remove(name);
        Ok(())
    }
}

fn world(answer: Option<Vec<u8>>) -> Scripted {
    Scripted { args: vec!["--strict", "--spool=/var/spool"], answer, ..Scripted::default() }
}

fn request() -> Said {
    Said {
        key: [0xab; 16],
        source: hook_wire::Source::Hook,
        made_ms: 1_700_000_000_000,
        drv: Some(DRV.into()),
        tag: None,
        paths: vec![HELLO.into()],
        destinations: vec![],
    }
}

#[test]
fn a_request_in_pieces_arrives_whole() {
    let sys = world(Some(ack(Status::Queued, "fine")));
    assert_eq!(run(&sys), 0);
    assert_eq!(Said::read(&sys.sent.borrow()), request());
    assert_eq!(&*sys.said.borrow(), "");
}

#[test]
fn a_spooled_file_has_its_name_and_is_synced_twice() {
    let sys = world(None);
    assert_eq!(run(&sys), 0);
    let files = sys.files.borrow();
    let (name, content) = files.iter().next().unwrap();
    assert_eq!(str::from_utf8(name), Ok("0001700000000000-0000000077-abababab.req"));
    assert_eq!((files.len(), Said::read(content), sys.synced.get()), (1, request(), 2));
}

/// Does the whole run once for each call it makes, with that call failing.
fn each_call_fails(answer: Option<&[u8]>, fault: Fault) {
    let calm = world(answer.map(<[u8]>::to_vec));
    assert_eq!(run(&calm), 0);
    for at in 0..calm.calls.get() {
        let sys = Scripted { fails: Some((at, fault)), ..world(answer.map(<[u8]>::to_vec)) };
        let code = run(&sys);
        let (files, said) = (sys.files.borrow(), sys.said.borrow());
        let whole: Vec<Said> =
            files.values().filter(|file| !file.is_empty()).map(|file| Said::read(file)).collect();
        assert!(files.keys().all(|name| !name.starts_with(b".")), "call {at}: a rest is left");
        match (code, &whole[..]) {
            (0, []) => assert_eq!(Said::read(&sys.sent.borrow()), request(), "call {at}: acknowledged"),
            (0, [one]) => assert_eq!(*one, request(), "call {at}: in the spool"),
            (3, []) => assert!(
                said.contains("not queued") || said.contains("nothing is queued"),
                "call {at}: {said}"
            ),
            (3, [one]) => {
                assert!(said.contains("a power cut may lose it"), "call {at}: {said}");
                assert_eq!(*one, request());
            }
            other => panic!("call {at}: {other:?}"),
        }
        assert!(said.lines().count() <= 1, "call {at}: {said}");
    }
}

#[test]
fn any_one_fault_without_a_daemon() {
    for fault in [Fault::DiskFull, Fault::Denied, Fault::Other(5), Fault::TimedOut] {
        each_call_fails(None, fault);
    }
}

#[test]
fn any_one_fault_with_a_daemon() {
    for fault in [Fault::Gone, Fault::TimedOut, Fault::NoMemory] {
        each_call_fails(Some(&ack(Status::Queued, "")), fault);
    }
}

#[test]
fn any_one_fault_with_a_busy_daemon() {
    each_call_fails(Some(&ack(Status::Busy, "")), Fault::DiskFull);
}

#[test]
fn signals_are_waited_out_but_not_for_ever() {
    let sys = world(Some(ack(Status::Queued, "")));
    sys.interruptions.set(20);
    assert_eq!((run(&sys), sys.files.borrow().len()), (0, 0));
    let sys = world(Some(ack(Status::Queued, "")));
    sys.interruptions.set(usize::MAX);
    assert_eq!((run(&sys), sys.files.borrow().len()), (0, 1), "150 looks at the clock, then the spool");
    assert!(sys.clock.get() < 160);
}
