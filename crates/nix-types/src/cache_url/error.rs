//! What can be wrong with the URL of a cache. None of the sentences shows a login.

use super::{Codec, Kind, URL_MAX};

/// Why a text is no URL of a binary cache.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheUrlError {
    /// Empty, too long, or with characters a URL cannot have.
    #[error(
        "`{shown}` is not a URL: it must have 1 to {URL_MAX} printable ASCII characters and no space (write %20)"
    )]
    Form {
        /// The start of the text, escaped.
        shown: String,
    },
    /// Something else than a binary cache.
    #[error(
        "`{shown}` is not the URL of a binary cache; those begin with file://, http://, https:// or s3://"
    )]
    Scheme {
        /// The start of the text, escaped.
        shown: String,
    },
    /// What is before the parameters.
    #[error("`{shown}` is not the URL of a cache: {why}")]
    Address {
        /// The start of the text, escaped.
        shown: String,
        /// Why, and what to write.
        why: &'static str,
    },
    /// A parameter that Nix does not know.
    #[error("a cache has no parameter `{name}`; {}", remedy(*.near))]
    Unknown {
        /// Its name, escaped.
        name: String,
        /// The known one it is nearest to.
        near: Option<&'static str>,
    },
    /// A parameter without `=`, or one that cannot be decoded.
    #[error(
        "the parameter `{name}` is not a name, `=` and a value; in a value, write %26 for `&` and %25 for `%`"
    )]
    NoValue {
        /// What there is of its name, escaped.
        name: String,
    },
    /// A parameter of another kind of cache.
    #[error("the parameter {name} means nothing for a cache of the kind {kind}; remove it")]
    OtherKind {
        /// Its name.
        name: &'static str,
        /// This kind.
        kind: Kind,
    },
    /// A parameter that is there twice.
    #[error("the parameter {name} is there twice; remove one")]
    Twice {
        /// Its name.
        name: &'static str,
    },
    /// A value that is none for its parameter.
    #[error("the parameter {name} is `{value}`, but must be {wanted}")]
    Value {
        /// Its name.
        name: &'static str,
        /// Its value, escaped.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// A level that the codec does not have.
    #[error("compression-level is {level}, but {codec} {}", codec.levels_shown())]
    Level {
        /// What the archives are compressed with.
        codec: Codec,
        /// The level.
        level: i32,
    },
    /// Parameters that do not go together.
    #[error("{what}")]
    Together {
        /// Which, and what to write.
        what: &'static str,
    },
}

fn remedy(near: Option<&str>) -> String {
    match near {
        Some(near) => format!("did you mean {near}?"),
        None => {
            "remove it, or look it up among the parameters Nix documents for this kind of store".to_owned()
        }
    }
}
