//! What the intake promises: an acknowledged path stays, one request holds no other, and nobody says more than he may.

mod bad_days;
mod collection;
mod rights;
