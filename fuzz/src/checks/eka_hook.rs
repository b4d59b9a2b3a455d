//! The hook: Hydra's file, `hook.conf`, and whole calls with every input it has, on a system made of memory.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU32;

use eka_hook::hydra;
use eka_hook::{Fault, Stream, Sys, run};
use hook_wire::{Enqueue, FRAME_MAX, Kind, SPOOL_FILE_MAX, is_printable, shape, split_frame};
use serde_json::Value;

/// Most bytes of a line on standard error, its end included.
const LINE_MAX: usize = 1024;
/// What stands between the parts of a call's input.
const BETWEEN: &[u8] = b"\n%%\n";

/// Hydra's file: what is taken is JSON to another reader as well, and says the same there.
pub fn hydra_json(bytes: &[u8]) {
    let mut room = vec![0; bytes.len()];
    let Ok(build) = hydra::read(bytes, &mut room) else { return };
    let text = str::from_utf8(bytes).expect("what was taken is UTF-8 throughout");
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        // Ours keeps numbers as text and takes those that fit nowhere.
        Err(error) if error.to_string().starts_with("number out of range") => return,
        Err(error) => panic!("taken, but it is not JSON: {error}"),
    };
    assert!(value.is_object());
    assert_eq!(build.drv, value["drvPath"].as_str().map(str::as_bytes));
    let texts = [(build.project, "project"), (build.jobset, "jobset"), (build.job, "job")];
    for (ours, name) in texts {
        assert_eq!(ours, value[name].as_str(), "{name}");
    }
    let outputs = value["outputs"].as_array().map_or(&[][..], Vec::as_slice);
    let paths = outputs.iter().filter_map(|output| output["path"].as_str());
    assert!(build.paths().eq(paths.map(str::as_bytes)));
    if let Some(status) = build.failed {
        let said = &value["buildStatus"];
        assert!((said.is_number() || said.is_string() || said.is_boolean()) && status != b"0");
    }
    if build.unfinished {
        let said = &value["finished"];
        assert!(*said == false || *said == 0 || *said == "0");
    }
}

/// `hook.conf`: whatever it says, the path is acknowledged or in the spool, or lines say why not.
pub fn conf(bytes: &[u8]) {
    call_of(&Call { conf: bytes, out_paths: b"/s/00000000000000000000000000000000-a", ..Call::default() });
}

/// A whole call. The parts, with `%%` on a line between them: arguments one a line, `hook.conf`, `OUT_PATHS`,
/// `DRV_PATH`, standard input, Hydra's file, what the daemon answers.
pub fn call(bytes: &[u8]) {
    let mut rest = bytes;
    let mut next = || {
        let at = rest.windows(BETWEEN.len()).position(|found| found == BETWEEN);
        let (part, behind) = at.map_or((rest, &[][..]), |at| (&rest[..at], &rest[at + BETWEEN.len()..]));
        rest = behind;
        part
    };
    let args = next().split(|b| *b == b'\n').filter(|arg| !arg.is_empty()).collect();
    let (conf, out_paths, drv_path, stdin, hydra) = (next(), next(), next(), next(), next());
    let answer = rest;
    call_of(&Call { args, conf, out_paths, drv_path, stdin, hydra, answer, ..Call::default() });
}

/// Carries the call out and looks at everything that left it.
fn call_of(call: &Call<'_>) {
    let code = run(call);
    let said = call.said.borrow();
    if call.said_out.get() {
        assert_eq!(code, 0, "whoever asks for help gets it");
        return;
    }
    assert!(code <= 3, "exit code {code}");
    assert!(said.is_empty() || said.ends_with('\n'));
    for line in said.lines() {
        assert!(line.starts_with("eka-hook: ") && line.len() < LINE_MAX, "{line:?}");
        assert!(line.chars().all(is_printable), "{line:?}");
    }
    for (frame, max) in [(call.sent.borrow(), FRAME_MAX), (call.spooled.borrow(), SPOOL_FILE_MAX)] {
        if !frame.is_empty() {
            taken_by_the_daemon(&frame, max);
        }
    }
    let queued = !call.spooled.borrow().is_empty() || !call.sent.borrow().is_empty();
    assert!(queued || !said.is_empty(), "nothing was queued, and no word of it");
}

/// The hook sends nothing that the daemon would refuse for its form.
fn taken_by_the_daemon(frame: &[u8], max: usize) {
    assert!(frame.len() <= max);
    let (kind, payload) = split_frame(frame).expect("the hook writes whole frames");
    assert_eq!(kind, Kind::Enqueue);
    let read = Enqueue::parse(payload).expect("the hook writes requests that can be read");
    for path in read.paths().chain(read.drv) {
        assert!(shape::check(path).is_ok(), "{}", path.escape_ascii());
    }
}

/// A system in memory on which nothing fails. Its daemon sends an answer, or nobody listens when there is none.
#[derive(Default)]
struct Call<'a> {
    args: Vec<&'a [u8]>,
    conf: &'a [u8],
    out_paths: &'a [u8],
    drv_path: &'a [u8],
    stdin: &'a [u8],
    hydra: &'a [u8],
    answer: &'a [u8],
    clock: Cell<u64>,
    sent: RefCell<Vec<u8>>,
    spooled: RefCell<Vec<u8>>,
    said: RefCell<String>,
    /// Something was printed on standard output.
    said_out: Cell<bool>,
}

fn bounded(text: &[u8], max: usize) -> Result<Vec<u8>, Fault> {
    if text.len() > max { Err(Fault::TooBig) } else { Ok(text.to_vec()) }
}

impl Sys for Call<'_> {
    type File = bool;
    type Socket = Cell<usize>;
    type Blob = Vec<u8>;

    fn arg(&self, index: usize) -> Option<&[u8]> {
        self.args.get(index).copied()
    }

    fn env(&self, name: &[u8]) -> Option<&[u8]> {
        match name {
            b"OUT_PATHS" => Some(self.out_paths),
            b"DRV_PATH" => Some(self.drv_path),
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
        bytes.fill(0xab);
        Ok(())
    }

    fn print(&self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Out => self.said_out.set(true),
            Stream::Err => {}
        }
        self.said.borrow_mut().push_str(str::from_utf8(bytes).expect("lines are UTF-8"));
    }

    fn room(&self, len: usize) -> Result<Vec<u8>, Fault> {
        Ok(vec![0; len])
    }

    fn read_file(&self, path: &[u8], max: usize) -> Result<Vec<u8>, Fault> {
        bounded(if path.ends_with(b".json") { self.hydra } else { self.conf }, max)
    }

    fn read_stdin(&self, max: usize) -> Result<Vec<u8>, Fault> {
        bounded(self.stdin, max)
    }

    fn connect(&self, path: &[u8], _: NonZeroU32) -> Result<Cell<usize>, Fault> {
        assert!(!path.is_empty() && !path.contains(&0), "a name the system would take");
        if self.answer.is_empty() { Err(Fault::Refused) } else { Ok(Cell::new(0)) }
    }

    fn send(&self, _: &Cell<usize>, bytes: &[u8], _: NonZeroU32) -> Result<usize, Fault> {
        self.sent.borrow_mut().extend(bytes);
        Ok(bytes.len())
    }

    fn receive(&self, got: &Cell<usize>, buffer: &mut [u8], _: NonZeroU32) -> Result<usize, Fault> {
        let rest = &self.answer[got.get()..];
        let now = rest.len().min(buffer.len());
        buffer[..now].copy_from_slice(&rest[..now]);
        got.set(got.get() + now);
        Ok(now)
    }

    fn make_folder(&self, _: &[u8], _: u32) -> Result<(), Fault> {
        Ok(())
    }

    fn open_folder(&self, path: &[u8]) -> Result<bool, Fault> {
        assert!(!path.is_empty() && !path.contains(&0), "a name the system would take");
        Ok(true)
    }

    fn create_in(&self, _: &bool, _: &[u8]) -> Result<bool, Fault> {
        Ok(false)
    }

    fn write(&self, _: &bool, bytes: &[u8]) -> Result<usize, Fault> {
        self.spooled.borrow_mut().extend(bytes);
        Ok(bytes.len())
    }

    fn sync(&self, _: &bool) -> Result<(), Fault> {
        Ok(())
    }

    fn rename_in(&self, _: &bool, _: &[u8], _: &[u8]) -> Result<(), Fault> {
        Ok(())
    }

    fn remove_in(&self, _: &bool, _: &[u8]) -> Result<(), Fault> {
        Ok(())
    }
}
