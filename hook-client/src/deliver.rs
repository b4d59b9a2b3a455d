//! The request on its way. In flow the gathered inputs and the settings; out flows one request to the socket
//! or, failing that, one file into the spool, and marks for what was lost or refused. Whether any of that
//! stops a build is not decided here.

use hook_wire::{ACK_MAX, FRAME_MAX, FrameWriter, KEY_LEN, Kind, PATHS_MAX, SPOOL_FILE_MAX, Source, Status};

use crate::ask::{NoAnswer, ask};
use crate::gather::Inputs;
use crate::request::{Request, Survey, survey};
use crate::run::Trouble;
use crate::say::{say, say_text, shown};
use crate::settings::Settings;
use crate::spool::{self, SpoolError, Step};
use crate::{Fault, Sys};

/// Makes the request and brings it to the socket or, failing that, into the spool.
pub(crate) fn deliver<S: Sys>(
    sys: &S,
    settings: &Settings<'_>,
    destinations: &[&str],
    default_tag: Option<&str>,
    inputs: &Inputs<'_, S>,
    trouble: &mut Trouble,
) {
    let seen = survey(sys, inputs);
    trouble.refused |= seen.bad > 0;
    if seen.good == 0 && seen.drv.is_none() {
        if seen.bad == 0 {
            nothing(sys, inputs, trouble);
        }
        return;
    }
    let mut key = [0; KEY_LEN];
    if let Err(fault) = sys.fill_random(&mut key) {
        say(sys, format_args!("nothing is queued: no random bytes for the request's key: {fault}"));
        trouble.lost = true;
        return;
    }
    let request = Request {
        key,
        made_ms: sys.wall_ms(),
        drv: seen.drv,
        tag: settings.tag.or(default_tag),
        destinations,
        inputs,
    };
    let frame_len = request.frame_len();
    if frame_len > SPOOL_FILE_MAX || seen.good > PATHS_MAX {
        let most = "1000000 paths or 64 MiB are the most";
        say(
            sys,
            format_args!("nothing is queued: {} paths are too many at once ({most}); give fewer", seen.good),
        );
        trouble.refused = true;
        return;
    }
    let delivery = Delivery { sys, settings, request, frame_len, seen };
    match delivery.by_socket(trouble) {
        Ok(()) => {}
        Err(why) => delivery.by_spool(why, trouble),
    }
}

/// Says why there is nothing to do. Only a hook that was given nothing at all was called wrongly.
fn nothing<S: Sys>(sys: &S, inputs: &Inputs<'_, S>, trouble: &mut Trouble) {
    let why = if inputs.are_environment() {
        "OUT_PATHS and DRV_PATH are empty or not set; see eka-hook --help"
    } else if inputs.source == Source::Hydra {
        "Hydra's file names no output and no derivation"
    } else {
        "standard input is empty"
    };
    say(sys, format_args!("nothing to queue: no path was given ({why})"));
    trouble.usage |= inputs.are_environment();
}

/// Why the socket did not take the request.
#[derive(Clone, Copy)]
enum NotTaken {
    TooLong,
    NoMemory(Fault),
    Busy,
    NoAnswer(NoAnswer),
}

impl core::fmt::Display for NotTaken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooLong => f.write_str("the request is too long for a message"),
            Self::NoMemory(fault) => write!(f, "the message cannot be made: {fault}"),
            Self::Busy => f.write_str("it is busy"),
            Self::NoAnswer(why) => write!(f, "{why}"),
        }
    }
}

struct Delivery<'d, 'a, S> {
    sys: &'d S,
    settings: &'d Settings<'d>,
    request: Request<'d, 'a, S>,
    frame_len: usize,
    seen: Survey<'a>,
}

impl<S: Sys> Delivery<'_, '_, S> {
    fn by_socket(&self, trouble: &mut Trouble) -> Result<(), NotTaken> {
        if self.frame_len > FRAME_MAX {
            return Err(NotTaken::TooLong);
        }
        let mut room = self.sys.room(self.frame_len + ACK_MAX).map_err(NotTaken::NoMemory)?;
        let (frame, answer) = room.as_mut().split_at_mut(self.frame_len);
        let mut frame = FrameWriter::new(frame, Kind::Enqueue);
        // `frame_len` counted the same fields.
        self.request.fields(|tag, value| frame.field(tag, value)).map_err(|_| NotTaken::TooLong)?;
        let settings = self.settings;
        let ack = ask(self.sys, settings.socket, settings.timeout_ms, frame.finish(), answer);
        let ack = ack.map_err(NotTaken::NoAnswer)?;
        match ack.status {
            Status::Queued => {}
            Status::Busy => return Err(NotTaken::Busy),
            Status::Partly | Status::Refused => {
                trouble.refused = true;
                if ack.text.trim().is_empty() {
                    let count = ack.refused;
                    say(self.sys, format_args!("eka-queue refused {count} of the request; its log says why"));
                }
                say_text(self.sys, ack.text);
            }
        }
        Ok(())
    }

    fn by_spool(&self, why: NotTaken, trouble: &mut Trouble) {
        let (socket, spool) = (shown(self.settings.socket), shown(self.settings.spool));
        match spool::store(self.sys, self.settings.spool, &self.request, self.frame_len) {
            Ok(()) => {
                if let NotTaken::NoAnswer(answer) = why
                    && !answer.is_ordinary()
                {
                    say(self.sys, format_args!("the request waits in {spool}, because of {socket}: {why}"));
                }
            }
            Err(error @ SpoolError { step: Step::SyncFolder, .. }) => {
                say(
                    self.sys,
                    format_args!("the request is in {spool}, but a power cut may lose it: {error}"),
                );
                trouble.lost = true;
            }
            Err(error) => {
                let (paths, what) =
                    (self.seen.good, if self.seen.good == 1 { "path is" } else { "paths are" });
                let remedy =
                    "Start eka-queue or make the spool writable here, then run eka-hook with the paths";
                say(
                    self.sys,
                    format_args!("{paths} {what} not queued. {socket}: {why}; {spool}: {error}. {remedy}"),
                );
                trouble.lost = true;
            }
        }
    }
}
