//! The `Authorization` of requests. In: as whom. Out: the header, from netrc files as they are now: whoever puts another
//! password there needs no restart.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::HeaderValue;
use service_kit::clock::{Clock, Mono};
use tokio::sync::Mutex;
use tracing::warn;

use super::Auth;
use crate::error::{Fault, chain};
use crate::netrc::{Netrc, NetrcError};
use crate::{Asked, Login, Secret, asked};

/// How long what netrc files said is used without another look.
const KEPT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
#[error("the credentials hold characters that no header can")]
struct CredentialsError;

/// As whom requests are made.
#[derive(Debug)]
pub(super) enum Authorization {
    Fixed(Option<HeaderValue>),
    Asked(Asked<Login>),
    Netrc { files: Arc<Files>, clock: Clock, held: Mutex<Option<(Mono, Option<HeaderValue>)>> },
}

/// Netrc files, and whom they are asked about.
#[derive(Debug)]
pub(super) struct Files {
    files: Vec<PathBuf>,
    host: String,
    /// It was told that some may not be read.
    told: AtomicBool,
}

impl Authorization {
    pub(super) fn new(auth: Auth, host: &str, clock: &Clock) -> Result<Self, Fault> {
        let text = match auth {
            Auth::None => return Ok(Self::Fixed(None)),
            Auth::Basic { user, password } => basic(&user, &password),
            Auth::Bearer(token) => format!("Bearer {}", token.reveal()),
            Auth::Asked(asked) => return Ok(Self::Asked(asked)),
            Auth::Netrc(files) => {
                let files = Files { files, host: host.to_owned(), told: AtomicBool::new(false) };
                return Ok(Self::Netrc {
                    files: Arc::new(files),
                    clock: clock.clone(),
                    held: Mutex::default(),
                });
            }
        };
        sensitive(&text).map(|value| Self::Fixed(Some(value)))
    }

    /// The header as it is now.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, Fault> {
        let (files, clock, held) = match self {
            Self::Fixed(header) => return Ok(header.clone()),
            Self::Asked(asked) => return told(asked).await,
            Self::Netrc { files, clock, held } => (files, clock, held),
        };
        let mut held = held.lock().await;
        if let Some((read, header)) = &*held
            && clock.mono().since(*read) < KEPT
        {
            return Ok(header.clone());
        }
        let files = Arc::clone(files);
        let header = tokio::task::spawn_blocking(move || files.header()).await.map_err(Fault::local)??;
        *held = Some((clock.mono(), header.clone()));
        Ok(header)
    }

    /// After this header was refused: whether there is another one now.
    pub(super) async fn renew(&self, refused: Option<&HeaderValue>) -> Result<bool, Fault> {
        match self {
            Self::Fixed(_) => Ok(false),
            Self::Asked(asked) => {
                // Whoever was refused before us may have asked already.
                if told(asked).await?.as_ref() != refused {
                    return Ok(true);
                }
                asked.0.forget().await;
                Ok(told(asked).await?.as_ref() != refused)
            }
            Self::Netrc { held, .. } => {
                *held.lock().await = None;
                Ok(self.header().await?.as_ref() != refused)
            }
        }
    }
}

async fn told(asked: &Asked<Login>) -> Result<Option<HeaderValue>, Fault> {
    let login = asked.0.tell().await.map_err(asked::untold)?;
    let text = match login {
        Login::Nobody => return Ok(None),
        Login::Basic { user, password } => basic(&user, &password),
        Login::Bearer(token) => format!("Bearer {}", token.reveal()),
    };
    sensitive(&text).map(Some)
}

impl Files {
    fn header(&self) -> Result<Option<HeaderValue>, Fault> {
        let mut denied: Vec<NetrcError> = Vec::new();
        let netrc = Netrc::first(&self.files, &mut |error| denied.push(error)).map_err(Fault::local)?;
        if !denied.is_empty() && !self.told.swap(true, Ordering::Relaxed) {
            for error in denied {
                warn!("{}: it is passed over; let this user read it if it has the password", chain(&error));
            }
        }
        let login = netrc.and_then(|netrc| netrc.login(&self.host));
        login.map(|login| sensitive(&basic(&login.user, &login.password))).transpose()
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Fault::local(CredentialsError))?;
    value.set_sensitive(true);
    Ok(value)
}

fn basic(user: &str, password: &Secret) -> String {
    format!("Basic {}", base64(format!("{user}:{}", password.reveal()).as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let six = usize::try_from(bits >> (18 - 6 * i) & 63).unwrap_or(0);
            out.push(if i <= group.len() { char::from(LETTERS[six]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ];
        for (plain, encoded) in pairs {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
