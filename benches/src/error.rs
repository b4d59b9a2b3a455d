//! Why a figure could not be measured. What was tried comes in with its cause; a chain for a person goes out.

use std::error::Error;

/// Something that has to work before there is a figure did not.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub(crate) struct BenchError {
    doing: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl BenchError {
    /// What was tried, when there is no cause below it.
    pub(crate) fn new(doing: impl Into<String>) -> Self {
        Self { doing: doing.into(), source: None }
    }
}

/// Says what was tried, where it is known.
pub(crate) trait Doing<T> {
    /// The sentence goes on behind "cannot".
    fn doing(self, what: impl Into<String>) -> Result<T, BenchError>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, BenchError> {
        self.map_err(|source| BenchError { doing: what.into(), source: Some(source.into()) })
    }
}
