//! A derivation in, the bytes of its `.drv` file out; and the two variants of them which Nix hashes to name a
//! derivation by what it means (see `drv_hash`): inputs replaced by their hashes, own output paths blanked.

use std::collections::{BTreeMap, BTreeSet};

use super::Derivation;

/// The file itself.
pub(super) fn file(drv: &Derivation) -> Vec<u8> {
    let inputs = drv.input_drvs.iter().map(|(path, outputs)| (path.as_str(), outputs));
    write(drv, inputs, false)
}

/// The text Nix hashes: `inputs` (hash in base 16 → outputs) instead of the input derivations, and with `masked` no
/// path of its own outputs, neither in the list nor in the environment.
pub(crate) fn hashed_form(
    drv: &Derivation,
    inputs: &BTreeMap<String, BTreeSet<String>>,
    masked: bool,
) -> Vec<u8> {
    write(drv, inputs.iter().map(|(hash, outputs)| (hash.as_str(), outputs)), masked)
}

fn write<'a>(
    drv: &Derivation,
    inputs: impl Iterator<Item = (&'a str, &'a BTreeSet<String>)>,
    masked: bool,
) -> Vec<u8> {
    let mut text = b"Derive(".to_vec();
    list(&mut text, &drv.outputs, |text, (name, output)| {
        let path = output.path.as_ref().filter(|_| !masked).map_or("", |path| path.as_str());
        tuple(text, &[name, path, &output.hash_algo, &output.hash]);
    });
    text.push(b',');
    list(&mut text, inputs, |text, (key, outputs)| {
        text.push(b'(');
        string(text, key.as_bytes());
        text.push(b',');
        list(text, outputs, |text, name| string(text, name.as_bytes()));
        text.push(b')');
    });
    text.push(b',');
    list(&mut text, &drv.input_srcs, |text, path| string(text, path.as_str().as_bytes()));
    text.push(b',');
    string(&mut text, drv.system.as_bytes());
    text.push(b',');
    string(&mut text, &drv.builder);
    text.push(b',');
    list(&mut text, &drv.args, |text, arg| string(text, arg));
    text.push(b',');
    list(&mut text, &drv.env, |text, (name, value)| {
        let own = masked && std::str::from_utf8(name).is_ok_and(|name| drv.outputs.contains_key(name));
        text.push(b'(');
        string(text, name);
        text.push(b',');
        string(text, if own { b"" } else { value });
        text.push(b')');
    });
    text.push(b')');
    text
}

fn list<T>(text: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut item: impl FnMut(&mut Vec<u8>, T)) {
    text.push(b'[');
    for (index, one) in items.into_iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        item(text, one);
    }
    text.push(b']');
}

fn tuple(text: &mut Vec<u8>, fields: &[&str]) {
    for (index, field) in fields.iter().enumerate() {
        text.push(if index == 0 { b'(' } else { b',' });
        string(text, field.as_bytes());
    }
    text.push(b')');
}

fn string(text: &mut Vec<u8>, value: &[u8]) {
    text.push(b'"');
    for byte in value {
        match byte {
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', *byte]),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            b'\t' => text.extend_from_slice(b"\\t"),
            plain => text.push(*plain),
        }
    }
    text.push(b'"');
}
