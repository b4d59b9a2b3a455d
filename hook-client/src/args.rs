//! The command line. Arguments come in, [`Word`]s go out in their order: a flag with its value, a path, or
//! what is wrong with it. Nothing is kept: whoever needs the paths walks the words again. What a value means
//! is not known here.

use crate::Sys;

/// What the hook understands, for `--help`.
pub(crate) const HELP: &str = include_str!("help.txt");
/// What `--version` prints.
pub(crate) const VERSION: &str = concat!("eka-hook ", env!("CARGO_PKG_VERSION"), " (protocol 1)\n");

/// One thing on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word<'a> {
    /// A flag; with an empty value where it takes none.
    Flag(Flag, &'a [u8]),
    /// A store path, perhaps.
    Path(&'a [u8]),
    /// `-`: paths come on standard input.
    Stdin,
    /// A flag nobody defined, as it was written.
    Unknown(&'a [u8]),
    /// A flag at the end of the line whose value is missing.
    ValueMissing(Flag),
    /// A flag that takes no value was given one.
    ValueUnwanted(Flag),
}

/// The flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    Socket,
    Spool,
    TimeoutMs,
    Tag,
    Strict,
    Destination,
    HydraJson,
    ConfigFile,
    Help,
    Version,
}

impl Flag {
    const ALL: [Self; 10] = [
        Self::Socket,
        Self::Spool,
        Self::TimeoutMs,
        Self::Tag,
        Self::Strict,
        Self::Destination,
        Self::HydraJson,
        Self::ConfigFile,
        Self::Help,
        Self::Version,
    ];

    /// As it is written.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Socket => "--socket",
            Self::Spool => "--spool",
            Self::TimeoutMs => "--timeout-ms",
            Self::Tag => "--tag",
            Self::Strict => "--strict",
            Self::Destination => "--destination",
            Self::HydraJson => "--hydra-json",
            Self::ConfigFile => "--config-file",
            Self::Help => "--help",
            Self::Version => "--version",
        }
    }

    const fn takes(self) -> Takes {
        match self {
            Self::Strict => Takes::Perhaps,
            Self::Help | Self::Version => Takes::Nothing,
            Self::Socket
            | Self::Spool
            | Self::TimeoutMs
            | Self::Tag
            | Self::Destination
            | Self::HydraJson
            | Self::ConfigFile => Takes::Value,
        }
    }

    fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"-h" => Some(Self::Help),
            b"-V" => Some(Self::Version),
            _ => Self::ALL.into_iter().find(|flag| flag.name().as_bytes() == name),
        }
    }
}

enum Takes {
    /// A value, joined by `=` or as the next argument.
    Value,
    /// A value only when joined by `=`.
    Perhaps,
    Nothing,
}

/// The words of the command line.
pub(crate) struct Words<'a, S> {
    sys: &'a S,
    next: usize,
    only_paths: bool,
}

impl<'a, S: Sys> Words<'a, S> {
    pub(crate) const fn of(sys: &'a S) -> Self {
        Self { sys, next: 0, only_paths: false }
    }

    fn argument(&mut self) -> Option<&'a [u8]> {
        let argument = self.sys.arg(self.next)?;
        self.next += 1;
        Some(argument)
    }

    fn flag(&mut self, argument: &'a [u8]) -> Word<'a> {
        let (name, joined) = match argument.iter().position(|b| *b == b'=') {
            Some(at) => (&argument[..at], Some(&argument[at + 1..])),
            None => (argument, None),
        };
        let Some(flag) = Flag::named(name) else { return Word::Unknown(name) };
        match (flag.takes(), joined) {
            (Takes::Value | Takes::Perhaps, Some(value)) => Word::Flag(flag, value),
            (Takes::Value, None) => {
                self.argument().map_or(Word::ValueMissing(flag), |value| Word::Flag(flag, value))
            }
            (Takes::Perhaps, None) => Word::Flag(flag, b"true"),
            (Takes::Nothing, None) => Word::Flag(flag, b""),
            (Takes::Nothing, Some(_)) => Word::ValueUnwanted(flag),
        }
    }
}

impl<S> Clone for Words<'_, S> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'a, S: Sys> Iterator for Words<'a, S> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let argument = self.argument()?;
        match argument {
            _ if self.only_paths => Some(Word::Path(argument)),
            b"--" => {
                self.only_paths = true;
                self.next()
            }
            b"-" => Some(Word::Stdin),
            [b'-', ..] => Some(self.flag(argument)),
            _ => Some(Word::Path(argument)),
        }
    }
}
