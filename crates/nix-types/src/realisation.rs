//! What a content-addressed derivation was built to: the JSON a cache keeps in `realisations/<id>.doi` comes in, the
//! record comes out, and the same bytes again as Nix 2.4 to 2.34 write them. What is signed of one is its JSON without
//! the signatures. Leaves out the form of Nix 2.35 (`build-trace-v2`), which is keyed by other things.

use std::collections::BTreeMap;
use std::fmt;

use hook_wire::shape::NAME_MAX;
use serde::{Deserialize, Serialize};

use crate::hash::Sha256;
use crate::signature::{self, SecretKey, Signature, SignatureError};
use crate::store_path::{StorePath, StorePathError};
use crate::text::shown;

/// Most bytes of the file.
pub const REALISATION_BYTES_MAX: usize = 1 << 20;

/// One output of a derivation, whose name is the hash of what it means (see [`drv_hash`](crate::drv_hash)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DrvOutput {
    drv_hash: Sha256,
    output: String,
}

/// A text that names no output of a derivation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{shown}` names no output of a derivation; it must be `sha256:`, 64 digits in base 16, `!` and the output's name"
)]
pub struct DrvOutputError {
    shown: String,
}

impl DrvOutput {
    /// An output by its parts.
    ///
    /// # Errors
    /// [`DrvOutputError`] when `output` is no name an output can have.
    pub fn new(drv_hash: Sha256, output: &str) -> Result<Self, DrvOutputError> {
        let allowed =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'_' | b'?' | b'=' | b'-');
        let good =
            (1..=NAME_MAX).contains(&output.len()) && !output.starts_with('.') && output.bytes().all(allowed);
        if good {
            Ok(Self { drv_hash, output: output.to_owned() })
        } else {
            Err(DrvOutputError { shown: shown(output.as_bytes()) })
        }
    }

    /// Reads `sha256:<base 16>!<output>`.
    ///
    /// # Errors
    /// [`DrvOutputError`]
    pub fn parse(text: &str) -> Result<Self, DrvOutputError> {
        let fail = || DrvOutputError { shown: shown(text.as_bytes()) };
        let (hash, output) = text.split_once('!').ok_or_else(fail)?;
        let id = Self::new(Sha256::parse(hash).map_err(|_| fail())?, output).map_err(|_| fail())?;
        // Other forms of the hash would be other keys.
        if id.to_string() == text { Ok(id) } else { Err(fail()) }
    }

    /// The hash of what the derivation means.
    #[must_use]
    pub const fn drv_hash(&self) -> &Sha256 {
        &self.drv_hash
    }

    /// The output's name: `out`.
    #[must_use]
    pub fn output(&self) -> &str {
        &self.output
    }

    /// The name of its file in a cache.
    #[must_use]
    pub fn key(&self) -> String {
        format!("realisations/{self}.doi")
    }
}

impl fmt::Display for DrvOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}!{}", self.drv_hash.hex(), self.output)
    }
}

/// What one output was built to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realisation {
    /// Of what.
    pub id: DrvOutput,
    /// Where it is.
    pub out_path: StorePath,
    /// Who vouches for it; sorted, each once, as [`Realisation::parse`] gives them.
    pub signatures: Vec<Signature>,
    /// The outputs it was built from that had no fixed place either, and where those were.
    pub dependencies: BTreeMap<DrvOutput, StorePath>,
}

/// Why a text is no realisation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RealisationError {
    /// More than [`REALISATION_BYTES_MAX`].
    #[error("the realisation has {0} bytes, more than {REALISATION_BYTES_MAX}")]
    TooLarge(usize),
    /// No JSON, or another shape.
    #[error("the realisation is damaged: {0}")]
    Json(String),
    /// An id that is none.
    #[error("the realisation is damaged")]
    Id(#[from] DrvOutputError),
    /// A path that is none.
    #[error("the realisation is damaged")]
    Path(#[from] StorePathError),
    /// A signature that is none.
    #[error("the realisation is damaged")]
    Signature(#[from] SignatureError),
}

/// The file. The order of the fields is that of their names, which is the order Nix writes them in.
#[derive(Deserialize, Serialize)]
struct File {
    #[serde(default, rename = "dependentRealisations")]
    dependencies: BTreeMap<String, String>,
    id: String,
    #[serde(rename = "outPath")]
    out_path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signatures: Option<Vec<String>>,
}

impl Realisation {
    /// Reads the file of a store in `store_dir` (`/nix/store`).
    ///
    /// # Errors
    /// [`RealisationError`]
    pub fn parse(text: &str, store_dir: &str) -> Result<Self, RealisationError> {
        if text.len() > REALISATION_BYTES_MAX {
            return Err(RealisationError::TooLarge(text.len()));
        }
        let json = |error: serde_json::Error| RealisationError::Json(shown(error.to_string().as_bytes()));
        let file: File = serde_json::from_str(text).map_err(json)?;
        let mut dependencies = BTreeMap::new();
        for (id, path) in &file.dependencies {
            dependencies.insert(DrvOutput::parse(id)?, StorePath::in_store(store_dir, path)?);
        }
        let texts = file.signatures.unwrap_or_default();
        let mut signatures: Vec<Signature> =
            texts.iter().map(|text| Signature::parse(text)).collect::<Result<_, _>>()?;
        signature::sort(&mut signatures);
        let out_path = StorePath::in_store(store_dir, &file.out_path)?;
        Ok(Self { id: DrvOutput::parse(&file.id)?, out_path, signatures, dependencies })
    }

    /// The file's text: one line of JSON, without an end.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.json(Some(signature::sorted_texts(&self.signatures)))
    }

    /// What its signatures sign.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.json(None)
    }

    /// Adds this key's signature, in its place, unless it is there.
    pub fn sign(&mut self, key: &SecretKey) {
        self.signatures.push(key.sign(&self.fingerprint()));
        signature::sort(&mut self.signatures);
    }

    fn json(&self, signatures: Option<Vec<String>>) -> String {
        let dependency = |(id, path): (&DrvOutput, &StorePath)| (id.to_string(), path.base_name().to_owned());
        let file = File {
            dependencies: self.dependencies.iter().map(dependency).collect(),
            id: self.id.to_string(),
            out_path: self.out_path.base_name().to_owned(),
            signatures,
        };
        serde_json::to_string(&file).expect("a map of texts and texts are JSON, and memory takes any length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Nix 2.8 wrote it.
    const NIX: &str = concat!(
        r#"{"dependentRealisations":{"sha256:a5d3f7206ee75b68136f5b0e1d458bdd35818ff9ee4e5f45bcbac37a796d1c2d!dev":"nvxkxmsq7910z3ld3b98lrv0vs72pamf-b-dev","#,
        r#""sha256:a5d3f7206ee75b68136f5b0e1d458bdd35818ff9ee4e5f45bcbac37a796d1c2d!out":"nvxkxmsq7910z3ld3b98lrv0vs72pamf-ca2"},"#,
        r#""id":"sha256:016d07f03c1482fc9bab39ea2d21a0ec7c36fec6bb8790a4d8df82fa0b2657f1!out","outPath":"ks5c5m5vamihvi918vfrgnzxdrngi5zb-ca3","#,
        r#""signatures":["k-1:3O1gpnPynvj9gXiDhwcKpPdeZOnUO+vNM80HXYSG5bARP84Iu6DAHTRiHzOGgnnrV2p28lknrA1HrkkufhG8AQ=="]}"#,
    );

    #[test]
    fn the_file_is_read_and_written() {
        let read = Realisation::parse(NIX, "/nix/store").unwrap();
        assert_eq!(read.id.output(), "out");
        assert!(read.id.drv_hash().hex().starts_with("016d07f0"));
        assert_eq!(read.out_path.as_str(), "/nix/store/ks5c5m5vamihvi918vfrgnzxdrngi5zb-ca3");
        assert_eq!((read.dependencies.len(), read.signatures.len()), (2, 1));
        assert_eq!(read.to_json(), NIX);
        let id = "sha256:016d07f03c1482fc9bab39ea2d21a0ec7c36fec6bb8790a4d8df82fa0b2657f1!out";
        assert_eq!(read.id.key(), format!("realisations/{id}.doi"));
        let end = NIX.find(r#","signatures""#).unwrap();
        assert_eq!(read.fingerprint(), format!("{}}}", &NIX[..end]));
        let unsigned = Realisation { signatures: Vec::new(), ..read };
        assert!(unsigned.to_json().ends_with(r#""signatures":[]}"#));
    }

    #[test]
    fn signing_adds_one_signature_of_the_fingerprint() {
        let text =
            "k:nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";
        let key = SecretKey::parse(text).unwrap();
        let mut read = Realisation::parse(NIX, "/nix/store").unwrap();
        let before = read.fingerprint();
        read.sign(&key);
        read.sign(&key);
        assert_eq!((read.signatures.len(), read.fingerprint()), (2, before.clone()));
        assert!(read.signatures.iter().any(|signature| key.public().verify(&before, signature)));
    }

    #[test]
    fn what_may_be_left_out_and_what_may_not() {
        let id = format!("sha256:{}!out", "0".repeat(64));
        let path = "0".repeat(32) + "-a";
        let parse = |text: String| Realisation::parse(&text, "/nix/store");
        let least = parse(format!(r#"{{"id":"{id}","outPath":"{path}","new":{{"x":[1]}}}}"#)).unwrap();
        assert!(least.signatures.is_empty() && least.dependencies.is_empty());
        for bad in [
            String::new(),
            "[]".into(),
            "[".repeat(10_000),
            format!(r#"{{"id":"{id}"}}"#),
            format!(r#"{{"id":"{id}","id":"{id}","outPath":"{path}"}}"#),
            format!(r#"{{"id":"{id}","outPath":"{path}","signatures":["\u001b"]}}"#),
            format!(r#"{{"id":"{id}","outPath":"/nix/store/{path}"}}"#),
            format!(r#"{{"id":"{id}/../x","outPath":"{path}"}}"#),
            format!(r#"{{"id":"{}","outPath":"{path}"}}"#, id.replace('0', "A")),
            format!(r#"{{"id":"{id}","outPath":"{path}"}}x"#),
        ] {
            let error = parse(bad.clone()).unwrap_err();
            let chain = [Some(error.to_string()), std::error::Error::source(&error).map(ToString::to_string)];
            assert!(!chain.iter().flatten().any(|text| text.contains(char::is_control)), "{bad}: {chain:?}");
        }
        assert_eq!(parse("a".repeat(2 << 20)), Err(RealisationError::TooLarge(2 << 20)));
    }
}
