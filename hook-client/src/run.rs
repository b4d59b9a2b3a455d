//! The whole of a call, and the only file that knows every stage: settings, what to queue, its delivery, the
//! socket, the spool, the exit code. Everything that can go wrong ends as a line on standard error and a mark
//! in [`Trouble`]; only `--strict` turns marks into an exit code, for a hook that fails stops Nix' builds.

use core::fmt::Write as _;
use core::sync::atomic::{AtomicU8, Ordering};

use hook_wire::{DESTINATIONS_MAX, TAG_MAX, check_destination, check_tag};

use crate::args::{Flag, HELP, VERSION, Word, Words};
use crate::deliver::deliver;
use crate::gather::Inputs;
use crate::hydra::{self, HYDRA_JSON_MAX, HydraBuild};
use crate::say::{Text, say, shown};
use crate::settings::{self, Given, Setting, Settings};
use crate::{Fault, Stream, Sys};

/// Most bytes on standard input.
const STDIN_MAX: usize = 64 << 20;

/// What a panic exits with: 0 unless `--strict` holds, for a mistake of ours must not stop a build either.
static PANIC_EXIT_CODE: AtomicU8 = AtomicU8::new(0);

/// The code for a panic handler to exit with.
#[must_use]
pub fn panic_exit_code() -> u8 {
    PANIC_EXIT_CODE.load(Ordering::Relaxed)
}

/// Does what the command line and the environment say; gives the exit code.
pub fn run<S: Sys>(sys: &S) -> u8 {
    let mut trouble = Trouble::default();
    let line = CommandLine::read(sys, &mut trouble);
    if let Some(text) = line.print {
        sys.print(Stream::Out, text.as_bytes());
        return 0;
    }
    let conf_file = line.config_file.unwrap_or(settings::CONF_DEFAULT);
    let conf_text = read_conf_file(sys, conf_file, line.config_file.is_some(), &mut trouble);
    let conf = conf_text.as_ref().map(|text| settings::read_conf(sys, conf_file, text.as_ref()));
    let (conf, conf_good) = conf.unwrap_or((Given::default(), true));
    let (settings, settings_good) = settings::decide(sys, &line.settings, &conf);
    trouble.usage |= !conf_good || !settings_good;
    if settings.strict {
        PANIC_EXIT_CODE.store(3, Ordering::Relaxed);
    }
    gather(sys, &line, &settings, &mut trouble);
    trouble.code(settings.strict)
}

/// What went wrong so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    /// A flag or a setting was not understood, or nothing was asked for.
    pub(crate) usage: bool,
    /// Something was not queued, and will not be.
    pub(crate) refused: bool,
    /// Neither the socket nor the spool took the request.
    pub(crate) lost: bool,
}

impl Trouble {
    const fn code(self, strict: bool) -> u8 {
        match self {
            _ if !strict => 0,
            Self { lost: true, .. } => 3,
            Self { refused: true, .. } => 1,
            Self { usage: true, .. } => 2,
            Self { .. } => 0,
        }
    }
}

/// The command line but for its paths.
struct CommandLine<'a> {
    settings: Given<'a>,
    destinations: [&'a str; DESTINATIONS_MAX],
    destination_count: usize,
    /// `--destination` was given, in whatever state.
    restricted: bool,
    hydra_json: Option<&'a [u8]>,
    config_file: Option<&'a [u8]>,
    paths: bool,
    stdin: bool,
    /// What to print instead of all else.
    print: Option<&'static str>,
}

impl<'a> CommandLine<'a> {
    fn read<S: Sys>(sys: &'a S, trouble: &mut Trouble) -> Self {
        let mut line = Self {
            settings: Given::default(),
            destinations: [""; DESTINATIONS_MAX],
            destination_count: 0,
            restricted: false,
            hydra_json: None,
            config_file: None,
            paths: false,
            stdin: false,
            print: None,
        };
        for word in Words::of(sys) {
            let good = match word {
                Word::Flag(Flag::Destination, id) => line.destination(sys, id),
                Word::Flag(flag, value) => {
                    line.flag(flag, value);
                    true
                }
                Word::Path(_) => {
                    line.paths = true;
                    true
                }
                Word::Stdin => {
                    line.stdin = true;
                    true
                }
                Word::Unknown(name) => {
                    let name = shown(name);
                    say(sys, format_args!("flag {name} is left out: it does not exist; see eka-hook --help"));
                    false
                }
                Word::ValueMissing(flag) => {
                    let name = flag.name();
                    say(
                        sys,
                        format_args!("flag {name} is left out: its value is missing; give {name} VALUE"),
                    );
                    false
                }
                Word::ValueUnwanted(flag) => {
                    let name = flag.name();
                    say(sys, format_args!("flag {name} is left out: it takes no value; give {name} alone"));
                    false
                }
            };
            trouble.usage |= !good;
        }
        line
    }

    fn flag(&mut self, flag: Flag, value: &'a [u8]) {
        match flag {
            Flag::Socket => self.settings.flag(Setting::Socket, value),
            Flag::Spool => self.settings.flag(Setting::Spool, value),
            Flag::TimeoutMs => self.settings.flag(Setting::TimeoutMs, value),
            Flag::Tag => self.settings.flag(Setting::Tag, value),
            Flag::Strict => self.settings.flag(Setting::Strict, value),
            Flag::HydraJson => self.hydra_json = Some(value),
            Flag::ConfigFile => self.config_file = Some(value),
            Flag::Help => self.print = Some(HELP),
            Flag::Version => self.print = Some(VERSION),
            // Checked by `destination`, which can say what is wrong.
            Flag::Destination => self.restricted = true,
        }
    }

    fn destination<S: Sys>(&mut self, sys: &S, id: &'a [u8]) -> bool {
        self.restricted = true;
        let shown = shown(id);
        match (check_destination(id), self.destinations.get_mut(self.destination_count)) {
            (Ok(id), Some(place)) => {
                *place = id;
                self.destination_count += 1;
                return true;
            }
            (Ok(_), None) => {
                let max = DESTINATIONS_MAX;
                say(sys, format_args!("--destination '{shown}' is left out: give at most {max} of them"));
            }
            (Err(_), _) => {
                let remedy = "give a cache's id, at most 128 of the characters A-Z a-z 0-9 . _ -";
                say(sys, format_args!("--destination '{shown}' is left out: {remedy}"));
            }
        }
        false
    }

    fn destinations(&self) -> &[&'a str] {
        &self.destinations[..self.destination_count]
    }
}

fn read_conf_file<S: Sys>(sys: &S, file: &[u8], named: bool, trouble: &mut Trouble) -> Option<S::Blob> {
    match sys.read_file(file, settings::CONF_MAX) {
        Ok(text) => Some(text),
        Err(Fault::Absent) if !named => None,
        Err(fault) => {
            let shown = shown(file);
            say(
                sys,
                format_args!("settings {shown} are left out: {fault}; repair the file or --config-file"),
            );
            trouble.usage = true;
            None
        }
    }
}

/// Finds out what is to be queued, and hands it on.
fn gather<S: Sys>(sys: &S, line: &CommandLine<'_>, settings: &Settings<'_>, trouble: &mut Trouble) {
    if line.restricted && line.destination_count == 0 {
        say(
            sys,
            format_args!("nothing is queued: no --destination can be used, and others were not asked for"),
        );
        trouble.refused = true;
        return;
    }
    if !line.paths && !line.stdin && line.hydra_json.is_none() {
        return deliver(sys, settings, line.destinations(), None, &Inputs::environment(sys), trouble);
    }
    let list =
        if line.stdin { taken(sys, "standard input", sys.read_stdin(STDIN_MAX), trouble) } else { None };
    let text = line.hydra_json.map(|file| sys.read_file(file, HYDRA_JSON_MAX));
    let text = text.and_then(|text| taken(sys, "--hydra-json", text, trouble));
    let text = text.as_ref().map(AsRef::as_ref);
    let mut room = text.and_then(|text| taken(sys, "--hydra-json", sys.room(text.len()), trouble));
    let build =
        text.zip(room.as_mut()).and_then(|(text, room)| hydra_build(sys, text, room.as_mut(), trouble));
    let mut tag = Text::<TAG_MAX>::new();
    let tag = build.and_then(|build| hydra_tag(sys, &build, &mut tag));
    if build.is_none() && list.is_none() && !line.paths {
        return;
    }
    let list = list.as_ref().map(AsRef::as_ref).unwrap_or_default();
    let inputs = Inputs::command_line(Words::of(sys), list, build);
    deliver(sys, settings, line.destinations(), tag, &inputs, trouble);
}

/// What was read, or a line about why it was not.
fn taken<S: Sys, T>(sys: &S, what: &str, read: Result<T, Fault>, trouble: &mut Trouble) -> Option<T> {
    if let Err(fault) = &read {
        say(sys, format_args!("{what} cannot be read, so its paths are not queued: {fault}"));
        trouble.refused = true;
    }
    read.ok()
}

fn hydra_build<'a, S: Sys>(
    sys: &S,
    text: &'a [u8],
    room: &'a mut [u8],
    trouble: &mut Trouble,
) -> Option<HydraBuild<'a>> {
    match hydra::read(text, room) {
        Ok(HydraBuild { failed: Some(status), .. }) => {
            say(sys, format_args!("nothing to queue from Hydra: the build's status is {}", shown(status)));
            None
        }
        Ok(HydraBuild { unfinished: true, .. }) => {
            say(sys, format_args!("nothing to queue from Hydra: the build is not finished"));
            None
        }
        Ok(build) => Some(build),
        Err(fault) => {
            say(
                sys,
                format_args!("--hydra-json is not queued: {fault}; give the file Hydra names in HYDRA_JSON"),
            );
            trouble.refused = true;
            None
        }
    }
}

/// `project:jobset:job`, the tag of a Hydra build that was given none.
fn hydra_tag<'t, S: Sys>(sys: &S, build: &HydraBuild<'_>, text: &'t mut Text<TAG_MAX>) -> Option<&'t str> {
    let (project, jobset, job) = (build.project?, build.jobset?, build.job?);
    // A `Text` cuts instead of failing.
    let _ = write!(text, "{project}:{jobset}:{job}");
    let tag = check_tag(text.bytes()).ok().filter(|_| !text.is_cut());
    if tag.is_none() {
        let what = "is left out: it has more than 256 bytes or unprintable characters; give one by --tag";
        say(sys, format_args!("tag '{}' {what}", shown(text.bytes())));
    }
    tag
}
