//! What `nix-store --serve --write` speaks, versions 2.5 to 2.7: a number for an order, then what belongs to it; answers
//! have no frame and no errors: who fails hangs up and tells why on standard error.

use std::os::unix::net::UnixStream;

use nix_types::{Sha256, StorePath};

use crate::daemon::DaemonError;
use crate::store::PathInfo;
use crate::wire::{Wire, put_number, put_texts};

const CLIENT_MAGIC: u64 = 0x390c_9deb;
const SERVER_MAGIC: u64 = 0x5452_eecb;
/// The newest version we speak, and the oldest: the first that takes signatures along with a path.
const NEWEST: u64 = 0x0207;
const OLDEST: u64 = 0x0205;
/// What is missing where somebody else answers.
const SPEAKS: &str = "what `nix-store --serve` of Nix 2.2 or newer does";

const QUERY_VALID_PATHS: u64 = 1;
const QUERY_PATH_INFOS: u64 = 2;

/// Most paths asked about in one question.
const ASKED_MAX: usize = 1000;
/// Most signatures of one path.
const SIGNATURES_MAX: usize = 1000;

/// An open conversation.
pub(super) struct Serve {
    pub(super) wire: Wire,
}

impl Serve {
    pub(super) fn greet(stream: UnixStream, who: String) -> Result<Self, DaemonError> {
        let mut wire = Wire::new(stream, who, SPEAKS);
        let mut hello = Vec::new();
        put_number(&mut hello, CLIENT_MAGIC);
        put_number(&mut hello, NEWEST);
        wire.send(&hello)?;
        let magic = wire.number()?;
        if magic != SERVER_MAGIC {
            return Err(wire.no_magic(magic));
        }
        let theirs = wire.number()?;
        if theirs < OLDEST || theirs >> 8 != NEWEST >> 8 {
            return Err(wire.strange(format!("it speaks {}.{}", theirs >> 8, theirs & 0xff)));
        }
        Ok(Self { wire })
    }

    pub(super) fn valid_among(
        &mut self,
        paths: &[StorePath],
        keep: bool,
    ) -> Result<Vec<StorePath>, DaemonError> {
        let mut valid = Vec::new();
        for part in paths.chunks(ASKED_MAX) {
            let mut order = Vec::new();
            put_number(&mut order, QUERY_VALID_PATHS);
            put_number(&mut order, u64::from(keep));
            put_number(&mut order, 0); // do not fetch what is missing
            put_texts(&mut order, part);
            self.wire.send(&order)?;
            self.wire.next_answer();
            valid.extend(self.wire.paths()?);
        }
        Ok(valid)
    }

    /// It answers of those that are valid, in an order of its own.
    pub(super) fn infos(&mut self, paths: &[StorePath]) -> Result<Vec<Option<PathInfo>>, DaemonError> {
        let mut infos = Vec::with_capacity(paths.len());
        for part in paths.chunks(ASKED_MAX) {
            let mut order = Vec::new();
            put_number(&mut order, QUERY_PATH_INFOS);
            put_texts(&mut order, part);
            self.wire.send(&order)?;
            self.wire.next_answer();
            let mut told = Vec::new();
            loop {
                let path = self.wire.text()?;
                if path.is_empty() {
                    break;
                }
                if told.len() >= part.len() {
                    return Err(self.wire.strange("it told of more paths than it was asked for".to_owned()));
                }
                let path = self.wire.path(&path)?;
                told.push(self.info(path)?);
            }
            infos.extend(part.iter().map(|path| told.iter().find(|info| info.path == *path).cloned()));
        }
        Ok(infos)
    }

    fn info(&mut self, path: StorePath) -> Result<PathInfo, DaemonError> {
        let deriver = self.wire.string()?;
        let mut references = self.wire.paths()?;
        references.sort_unstable();
        self.wire.number()?; // what a download would have
        let nar_size = self.wire.number()?;
        let hash = self.wire.string()?;
        let Ok(nar_hash) = Sha256::parse(&hash) else {
            return Err(self.wire.strange(format!("it says the hash of {path} is {hash:?}")));
        };
        let ca = self.wire.string()?;
        let signatures = self.wire.list(SIGNATURES_MAX, Wire::string)?;
        Ok(PathInfo {
            path,
            nar_hash: format!("sha256:{}", nar_hash.hex()),
            nar_size,
            references,
            deriver: StorePath::parse_str(&deriver).ok(),
            registration_time: 0,
            ultimate: false,
            signatures,
            ca: Some(ca).filter(|ca| !ca.is_empty()),
        })
    }
}
