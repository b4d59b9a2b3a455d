//! Starts logging, once, for a whole program. In: a filter, a format, what stderr is. Out: one line an event on
//! stderr. Text of outsiders in an event cannot forge a line or steer a terminal. Leaves out metrics.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt};

/// What is logged when nobody says otherwise.
const FILTER_DEFAULT: &str = "info";
/// More causes than this are a loop.
const CHAIN_MAX: usize = 32;

/// The shape of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people; for the journal when stderr goes there.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<Self, TelemetryError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(TelemetryError::Format { text: text.to_owned() }),
        }
    }
}

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("log filter {} (from {from}) is not valid; write info, or info,eka_queue=debug", crate::text::one_line(.text))]
    Filter {
        /// Who gave it: the flag or a variable.
        from: &'static str,
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// No such format.
    #[error("log format {} is not known; write text or json", crate::text::one_line(.text))]
    Format {
        /// What was given.
        text: String,
    },
    /// Logging was started before.
    #[error("logging was started twice; this is a bug, please report it")]
    Twice(#[source] Box<dyn Error + Send + Sync>),
}

/// Starts logging on stderr. The filter is `flag`, else `EKA_LOG`, else `RUST_LOG`, else `info`; empty counts as
/// unset. Text has colours only on a terminal; on the journal it has no timestamps and carries the level as the
/// journal reads it.
///
/// # Errors
/// [`TelemetryError`].
pub fn start(flag: Option<&str>, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = filter(flag, |name| std::env::var(name).ok())?;
    let style = match format {
        LogFormat::Json => Style::Json,
        LogFormat::Text if crate::notify::stderr_is_journal() => Style::Journal,
        LogFormat::Text if io::stderr().is_terminal() => Style::Terminal,
        LogFormat::Text => Style::Plain,
    };
    let subscriber = subscriber(filter, style, io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|error| TelemetryError::Twice(error.into()))
}

fn filter(flag: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Result<EnvFilter, TelemetryError> {
    let variables = ["EKA_LOG", "RUST_LOG"].into_iter().map(|name| (name, env(name)));
    let given = std::iter::once(("the command line", flag.map(str::to_owned)))
        .chain(variables)
        .find_map(|(from, text)| text.filter(|text| !text.is_empty()).map(|text| (from, text)));
    let (from, text) = given.unwrap_or(("the default", FILTER_DEFAULT.to_owned()));
    EnvFilter::builder().parse(&text).map_err(|error| TelemetryError::Filter {
        from,
        text,
        source: error.into(),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Terminal,
    Plain,
    Journal,
    Json,
}

fn subscriber<W>(filter: EnvFilter, style: Style, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let text = tracing_subscriber::fmt::layer();
    let layer = match style {
        Style::Json => text.json().flatten_event(true).with_writer(writer).boxed(),
        Style::Terminal => text.with_ansi(true).with_writer(OneLine { writer, colours: true }).boxed(),
        Style::Plain => text.with_ansi(false).with_writer(OneLine { writer, colours: false }).boxed(),
        Style::Journal => text
            .with_ansi(false)
            .event_format(Priority(Format::default().without_time().with_level(false)))
            .with_writer(OneLine { writer, colours: false })
            .boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer)
}

/// Puts the journal's priority in front of a line, such as `<4>` for a warning.
struct Priority<F>(F);

impl<S, N, F> FormatEvent<S, N> for Priority<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(ctx, writer, event)
    }
}

/// Makes writers that keep an event on one line.
struct OneLine<W> {
    writer: W,
    /// Whether the formatter's own colours are let through.
    colours: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLine<W> {
    type Writer = OneLineWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLineWriter { inner: self.writer.make_writer(), colours: self.colours }
    }
}

struct OneLineWriter<W> {
    inner: W,
    colours: bool,
}

impl<W: Write> Write for OneLineWriter<W> {
    /// Takes one whole event: the formatter writes each with a single call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut safe = String::with_capacity(line.len() + 1);
        for (at, c) in line.char_indices() {
            let ours = self.colours && c == '\u{1b}' && is_formatters(&line[at + 1..]);
            if crate::text::steers(c) && !ours {
                safe.extend(c.escape_default());
            } else {
                safe.push(c);
            }
        }
        safe.push('\n');
        self.inner.write_all(safe.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether what follows an escape is one of the few styles the formatter uses: plain, bold, dim, italic and five
/// colours. An outsider's text can at most borrow one of these, not hide or move anything.
fn is_formatters(after_escape: &str) -> bool {
    let styles = ["[0m", "[1m", "[2m", "[3m", "[31m", "[32m", "[33m", "[34m", "[35m"];
    styles.iter().any(|style| after_escape.starts_with(style))
}

/// An error and its causes in one line: `open database queue.db: disk is full`.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    for _ in 0..CHAIN_MAX {
        let Some(error) = cause else { break };
        let said = error.to_string();
        // Some errors of others repeat their cause.
        if !text.ends_with(&said) {
            let _ = write!(text, ": {said}"); // writing to a string cannot fail
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` leaves on the page.
    fn logged(style: Style, log: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = subscriber(EnvFilter::new("info"), style, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const HOSTILE: &str = "x\n<3>forged\r\u{1b}[2J\u{9b}A\u{202e}\0";

    /// Takes the formatter's own styles out; any other escape stays and is found.
    fn without_styles(text: &str) -> String {
        let styles = ["\u{1b}[0m", "\u{1b}[2m", "\u{1b}[3m", "\u{1b}[33m"];
        styles.iter().fold(text.to_owned(), |text, style| text.replace(style, ""))
    }

    #[test]
    fn text_of_outsiders_stays_on_its_line() {
        for style in [Style::Plain, Style::Journal, Style::Terminal] {
            let text = logged(style, || {
                tracing::warn!(display = %HOSTILE, debug = ?HOSTILE, string = HOSTILE, "path {HOSTILE} refused");
            });
            assert_eq!(text.lines().count(), 1, "{style:?}: {text:?}");
            let rest = if style == Style::Terminal { without_styles(&text) } else { text.clone() };
            let bad = |c: char| c != '\n' && crate::text::steers(c);
            assert!(!rest.contains(bad), "{style:?}: {text:?}");
        }
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = logged(Style::Json, || tracing::warn!(path = %HOSTILE, "refused {HOSTILE}"));
        assert_eq!(text.lines().count(), 1, "{text:?}");
        assert!(text.starts_with('{') && text.ends_with("}\n"), "{text:?}");
        assert!(text.contains(r#""path":"x\n<3>forged\r\u001b[2J"#), "{text:?}");
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let text = logged(Style::Journal, || {
            tracing::error!("a");
            tracing::warn!("b");
            tracing::info!("c");
        });
        let target = "service_kit::telemetry::tests";
        assert_eq!(text, format!("<3>{target}: a\n<4>{target}: b\n<6>{target}: c\n"));
    }

    #[test]
    fn colours_are_for_terminals() {
        let hello = || tracing::info!("hello");
        assert!(!logged(Style::Plain, hello).contains('\u{1b}'));
        assert!(logged(Style::Terminal, hello).contains('\u{1b}'));
    }

    #[test]
    fn the_filter_comes_from_the_flag_then_the_variables() {
        let env = |set: &'static [(&str, &str)]| {
            move |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        };
        let both = env(&[("EKA_LOG", "warn"), ("RUST_LOG", "trace")]);
        assert_eq!(filter(Some("debug"), both).unwrap().to_string(), "debug");
        assert_eq!(filter(None, both).unwrap().to_string(), "warn");
        assert_eq!(
            filter(None, env(&[("EKA_LOG", ""), ("RUST_LOG", "trace")])).unwrap().to_string(),
            "trace"
        );
        assert_eq!(filter(None, env(&[])).unwrap().to_string(), "info");
        let error = filter(None, env(&[("EKA_LOG", "eka=loud")])).unwrap_err();
        assert!(
            error.to_string().starts_with("log filter eka=loud (from EKA_LOG) is not valid; write info"),
            "{error}"
        );
    }

    #[test]
    fn a_chain_says_everything_once() {
        let root = io::Error::other("disk is full");
        let error = crate::notify::NotifyError::Inherit(root);
        assert!(chain(&error).ends_with("LISTEN_FDNAMES: disk is full"), "{}", chain(&error));
        // What is wrong with a filter says its cause, and has it as its cause as well.
        let loud = filter(Some("eka=loud"), |_| None).unwrap_err();
        assert_eq!(chain(&loud).matches("error parsing level filter").count(), 1, "{}", chain(&loud));
    }
}
