//! The settings. In flow flags, environment and the lines of `hook.conf`; out flow values that can be used,
//! and a line for each that cannot, naming it, its place and the remedy. A bad value counts as not given.
//! Never touches the socket or the spool it names.

use core::fmt;
use core::num::NonZeroU32;

use hook_wire::check_tag;

use crate::Sys;
use crate::say::{say, shown};

/// Where the settings are looked for unless `--config-file` says otherwise.
pub(crate) const CONF_DEFAULT: &[u8] = b"/etc/eka/hook.conf";
/// Most bytes of a file of settings.
pub(crate) const CONF_MAX: usize = 64 << 10;
const SOCKET_DEFAULT: &[u8] = b"/run/eka-queue/enqueue.sock";
const SPOOL_DEFAULT: &[u8] = b"/var/lib/eka-queue/spool";
const TIMEOUT_MS_DEFAULT: NonZeroU32 = NonZeroU32::new(150).expect("150 is not 0");
const TIMEOUT_MS_MAX: u32 = 60_000;

/// What holds for this run.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    pub(crate) socket: &'a [u8],
    pub(crate) spool: &'a [u8],
    pub(crate) timeout_ms: NonZeroU32,
    pub(crate) tag: Option<&'a str>,
    pub(crate) strict: bool,
}

/// The settings there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Socket,
    Spool,
    TimeoutMs,
    Tag,
    Strict,
}

impl Setting {
    const ALL: [Self; 5] = [Self::Socket, Self::Spool, Self::TimeoutMs, Self::Tag, Self::Strict];

    const fn key(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Spool => "spool",
            Self::TimeoutMs => "timeout_ms",
            Self::Tag => "tag",
            Self::Strict => "strict",
        }
    }

    const fn variable(self) -> &'static str {
        match self {
            Self::Socket => "EKA_HOOK_SOCKET",
            Self::Spool => "EKA_HOOK_SPOOL",
            Self::TimeoutMs => "EKA_HOOK_TIMEOUT_MS",
            Self::Tag => "EKA_HOOK_TAG",
            Self::Strict => "EKA_HOOK_STRICT",
        }
    }

    const fn flag(self) -> &'static str {
        match self {
            Self::Socket => "--socket",
            Self::Spool => "--spool",
            Self::TimeoutMs => "--timeout-ms",
            Self::Tag => "--tag",
            Self::Strict => "--strict",
        }
    }
}

/// At most one value per setting, as it was written and where.
#[derive(Clone, Copy, Default)]
pub(crate) struct Given<'a>([Option<(&'a [u8], Place<'a>)>; Setting::ALL.len()]);

impl<'a> Given<'a> {
    /// Takes a flag's value; the later of two wins.
    pub(crate) const fn flag(&mut self, setting: Setting, value: &'a [u8]) {
        self.0[setting as usize] = Some((value, Place::Flag(setting)));
    }

    /// From the environment; an empty variable counts as none.
    fn environment<S: Sys>(sys: &'a S) -> Self {
        let value =
            |setting: Setting| sys.env(setting.variable().as_bytes()).filter(|value| !value.is_empty());
        Self(Setting::ALL.map(|setting| value(setting).map(|value| (value, Place::Variable(setting)))))
    }
}

/// Where a value was written, for the line about it.
#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    Flag(Setting),
    Variable(Setting),
    Line(u32, &'a [u8]),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(setting) => f.write_str(setting.flag()),
            Self::Variable(setting) => f.write_str(setting.variable()),
            Self::Line(line, file) => write!(f, "line {line} of {}", shown(file)),
        }
    }
}

/// Decides what holds: flags over environment over file over defaults. The flag says whether every value
/// given was understood.
pub(crate) fn decide<'a, S: Sys>(sys: &'a S, flags: &Given<'a>, conf: &Given<'a>) -> (Settings<'a>, bool) {
    let sources = [flags, &Given::environment(sys), conf];
    let mut good = true;
    let settings = Settings {
        socket: first(sys, &sources, Setting::Socket, file_name, &mut good).unwrap_or(SOCKET_DEFAULT),
        spool: first(sys, &sources, Setting::Spool, file_name, &mut good).unwrap_or(SPOOL_DEFAULT),
        timeout_ms: first(sys, &sources, Setting::TimeoutMs, timeout_ms, &mut good)
            .unwrap_or(TIMEOUT_MS_DEFAULT),
        tag: first(sys, &sources, Setting::Tag, tag, &mut good).flatten(),
        strict: first(sys, &sources, Setting::Strict, boolean, &mut good).unwrap_or(false),
    };
    (settings, good)
}

/// The first value that can be used; a line for each before it that cannot.
fn first<'a, S: Sys, T>(
    sys: &S,
    sources: &[&Given<'a>; 3],
    setting: Setting,
    read: fn(&'a [u8]) -> Result<T, &'static str>,
    good: &mut bool,
) -> Option<T> {
    for (value, place) in sources.iter().filter_map(|given| given.0[setting as usize]) {
        match read(value) {
            Ok(value) => return Some(value),
            Err(remedy) => {
                let key = setting.key();
                say(sys, format_args!("{key} '{}' ({place}) is left out: {remedy}", shown(value)));
                *good = false;
            }
        }
    }
    None
}

fn file_name(value: &[u8]) -> Result<&[u8], &'static str> {
    if value.is_empty() || value.contains(&0) { Err("give the path of a file or folder") } else { Ok(value) }
}

fn timeout_ms(value: &[u8]) -> Result<NonZeroU32, &'static str> {
    let number = str::from_utf8(value).ok().and_then(|text| text.parse::<NonZeroU32>().ok());
    number
        .filter(|ms| ms.get() <= TIMEOUT_MS_MAX)
        .ok_or("give a whole number of milliseconds from 1 to 60000")
}

fn tag(value: &[u8]) -> Result<Option<&str>, &'static str> {
    if value.is_empty() {
        return Ok(None);
    }
    check_tag(value).map(Some).map_err(|_| "give at most 256 bytes of printable UTF-8 in one line")
}

fn boolean(value: &[u8]) -> Result<bool, &'static str> {
    match value {
        b"1" | b"true" | b"yes" | b"on" => Ok(true),
        b"0" | b"false" | b"no" | b"off" => Ok(false),
        _ => Err("give true or false"),
    }
}

/// Reads the lines of a file of settings; says whether all were understood.
pub(crate) fn read_conf<'a, S: Sys>(sys: &S, file: &'a [u8], text: &'a [u8]) -> (Given<'a>, bool) {
    let mut given = Given::default();
    let mut good = true;
    for (number, line) in (1..).zip(text.split(|b| *b == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let place = Place::Line(number, file);
        match entry(line) {
            Ok((setting, value)) => given.0[setting as usize] = Some((value, place)),
            Err(Entry::Form) => {
                let line = shown(line);
                say(sys, format_args!("'{line}' ({place}) is left out: write it as key = value"));
                good = false;
            }
            Err(Entry::Key(key)) => {
                let key = shown(key);
                let keys = "socket, spool, timeout_ms, tag and strict";
                say(sys, format_args!("key '{key}' ({place}) is left out: the keys are {keys}"));
                good = false;
            }
        }
    }
    (given, good)
}

/// What is wrong with a line.
enum Entry<'a> {
    Form,
    Key(&'a [u8]),
}

fn entry(line: &[u8]) -> Result<(Setting, &[u8]), Entry<'_>> {
    let at = line.iter().position(|b| *b == b'=').ok_or(Entry::Form)?;
    let key = line[..at].trim_ascii();
    let value = unquoted(line[at + 1..].trim_ascii()).ok_or(Entry::Form)?;
    let setting = Setting::ALL.into_iter().find(|setting| setting.key().as_bytes() == key);
    Ok((setting.ok_or(Entry::Key(key))?, value))
}

/// A value with its quotes and its comment taken off. Inside quotes every character but the quote stands for
/// itself.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = value.strip_prefix(b"\"") {
        let end = rest.iter().position(|b| *b == b'"')?;
        let after = rest[end + 1..].trim_ascii_start();
        return (after.is_empty() || after.starts_with(b"#")).then_some(&rest[..end]);
    }
    let blank = |b: u8| b == b' ' || b == b'\t';
    let comment = value.windows(2).position(|two| blank(two[0]) && two[1] == b'#');
    let end = if value.starts_with(b"#") { 0 } else { comment.unwrap_or(value.len()) };
    Some(value[..end].trim_ascii_end())
}
