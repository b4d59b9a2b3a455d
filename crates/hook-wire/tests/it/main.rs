//! The protocol through its public door: golden bytes, round trips, every error, and arbitrary input.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod book;
mod fuzz;
mod golden;
mod refusals;
mod round_trips;
mod shapes;

use hook_wire::FieldTag;

pub(crate) const PATH: &[u8] = b"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello-2.12";
pub(crate) const DRV: &[u8] = b"/nix/store/zyxwvsrqpnmlkjihgfdcba9876543210-hello-2.12.drv";

/// The bytes of a payload with these fields, made without the crate's own writer.
pub(crate) fn payload(fields: &[(FieldTag, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, value) in fields {
        bytes.push(tag.number());
        bytes.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        bytes.extend(*value);
    }
    bytes
}
