//! A repository's configuration: what is taken, what is refused and in which words, what of a pull request's counts, what
//! a change comes to, and what is published about it.

mod effective;
mod good;
mod hostile;
mod located;
mod paths;
mod published;
mod refused;
mod times;
