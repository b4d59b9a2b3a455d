//! Somebody else's code through the real program: what it reads and reaches, what it may fetch when a person allows it, and
//! where nothing of it is evaluated at all.

mod fetches;
mod reads;
mod refused;
mod world;
