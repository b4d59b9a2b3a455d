//! How paths, outputs and build traits lie in a row. Store paths come in and are taken apart into hash, name and
//! folder; rows go out as the same paths. Whatever cannot be read back is an error that says what was found.

use std::collections::BTreeMap;

use ci_model::attr::BuildTraits;
use ci_model::diff::OutputHash;
use nix_types::{DrvPath, StorePath, nix32};

/// A store path's hash.
pub(crate) type Hash = [u8; HASH_BYTES];
/// Bytes of a store path's hash.
pub(crate) const HASH_BYTES: usize = 20;

const NO_PATH: u8 = 0;
/// The path is called as Nix calls outputs: the derivation's name, and the output's unless it is `out`.
const USUAL: u8 = 1;
/// In the derivation's folder, under another name.
const NAMED: u8 = 2;
/// Anywhere.
const ELSEWHERE: u8 = 3;

const FIXED: i64 = 1;
const LOCAL: i64 = 2;
const BUILT_HERE: i64 = 4;
const CONTENT_ADDRESSED: i64 = 8;

/// The bytes of a path's hash; none when its 32 characters are no number.
pub(crate) fn hash_of(path: &StorePath) -> Option<Hash> {
    nix32::decode_array(path.hash_part()).ok()
}

/// The path of a derivation whose name is given without `.drv`.
pub(crate) fn drv_path(folder: &str, hash: &[u8], name: &str) -> Option<DrvPath> {
    DrvPath::parse_str(&path_of(folder, hash, &[name, ".drv"])).ok()
}

/// A path whose name is these texts together.
fn path_of(folder: &str, hash: &[u8], name: &[&str]) -> String {
    let parts = name.iter().map(|part| part.len()).sum::<usize>();
    let mut path = String::with_capacity(folder.len() + nix32::encoded_len(hash.len()) + parts + 2);
    path.push_str(folder);
    path.push('/');
    nix32::push(&mut path, hash);
    path.push('-');
    name.iter().for_each(|part| path.push_str(part));
    path
}

/// Traits without their features.
pub(crate) fn flags(traits: &BuildTraits) -> i64 {
    let bits = [
        (traits.is_fod, FIXED),
        (traits.prefers_local, LOCAL),
        (traits.forbids_substitutes, BUILT_HERE),
        (traits.is_content_addressed, CONTENT_ADDRESSED),
    ];
    bits.into_iter().filter(|(is, _)| *is).map(|(_, bit)| bit).sum()
}

/// Traits of their flags and features.
pub(crate) fn traits(flags: i64, required_features: Vec<String>) -> BuildTraits {
    BuildTraits {
        is_fod: flags & FIXED != 0,
        required_features,
        prefers_local: flags & LOCAL != 0,
        forbids_substitutes: flags & BUILT_HERE != 0,
        is_content_addressed: flags & CONTENT_ADDRESSED != 0,
    }
}

/// Outputs of a derivation as bytes.
pub(crate) fn pack_outputs(drv: &DrvPath, outputs: &BTreeMap<String, Option<StorePath>>) -> Vec<u8> {
    let folder = drv.store_path().store_dir();
    let mut packed = Vec::new();
    for (name, path) in outputs {
        put(&mut packed, name.as_bytes());
        let Some(path) = path else {
            packed.push(NO_PATH);
            continue;
        };
        match hash_of(path) {
            Some(hash) if path.store_dir() == folder => {
                let usual = is_usual(drv.drv_name(), name, path.name());
                packed.push(if usual { USUAL } else { NAMED });
                packed.extend_from_slice(&hash);
                if !usual {
                    put(&mut packed, path.name().as_bytes());
                }
            }
            _ => {
                packed.push(ELSEWHERE);
                put(&mut packed, path.as_str().as_bytes());
            }
        }
    }
    packed
}

/// The outputs in the bytes; none when they are damaged.
pub(crate) fn unpack_outputs(
    folder: &str,
    drv_name: &str,
    mut packed: &[u8],
) -> Option<BTreeMap<String, Option<StorePath>>> {
    let mut outputs = BTreeMap::new();
    while !packed.is_empty() {
        let name = text(&mut packed)?;
        let path = match byte(&mut packed)? {
            NO_PATH => None,
            USUAL => {
                let hash = take(&mut packed, HASH_BYTES)?;
                let text = match name {
                    "out" => path_of(folder, hash, &[drv_name]),
                    other => path_of(folder, hash, &[drv_name, "-", other]),
                };
                Some(StorePath::parse_str(&text).ok()?)
            }
            NAMED => {
                let hash = take(&mut packed, HASH_BYTES)?;
                Some(StorePath::parse_str(&path_of(folder, hash, &[text(&mut packed)?])).ok()?)
            }
            ELSEWHERE => Some(StorePath::parse_str(text(&mut packed)?).ok()?),
            _ => return None,
        };
        outputs.insert(name.to_owned(), path);
    }
    Some(outputs)
}

/// What a derivation needs as bytes: from each to the next by how much the id is higher, the first from 0, and which list
/// of outputs. They come in order of their ids, none twice.
pub(crate) fn pack_inputs(inputs: impl ExactSizeIterator<Item = (i64, i64)>) -> Vec<u8> {
    let (mut packed, mut last) = (Vec::with_capacity(3 * inputs.len()), 0);
    for (input, outputs) in inputs {
        put_number(&mut packed, (input - last).cast_unsigned());
        put_number(&mut packed, outputs.cast_unsigned());
        last = input;
    }
    packed
}

/// The next of what was packed by [`pack_inputs`], behind the one with the id `last`, or behind 0. `Some(None)` at the end,
/// none when the bytes are damaged.
pub(crate) fn next_input(packed: &mut &[u8], last: i64) -> Option<Option<(i64, i64)>> {
    if packed.is_empty() {
        return Some(None);
    }
    let higher = i64::try_from(number(packed)?).ok().filter(|higher| *higher > 0)?;
    let outputs = i64::try_from(number(packed)?).ok()?;
    Some(Some((last.checked_add(higher)?, outputs)))
}

/// The hashes of the paths of all outputs in the bytes take the place of what is in `hashes`; is each path known? None when
/// they are damaged.
pub(crate) fn unpack_output_hashes(mut packed: &[u8], hashes: &mut Vec<OutputHash>) -> Option<bool> {
    hashes.clear();
    let mut are_known = true;
    while !packed.is_empty() {
        text(&mut packed)?;
        let hash: Option<OutputHash> = match byte(&mut packed)? {
            NO_PATH => None,
            USUAL => Some(take(&mut packed, HASH_BYTES)?.try_into().ok()?),
            NAMED => {
                let hash = take(&mut packed, HASH_BYTES)?.try_into().ok()?;
                text(&mut packed)?;
                Some(hash)
            }
            ELSEWHERE => hash_of(&StorePath::parse_str(text(&mut packed)?).ok()?),
            _ => return None,
        };
        are_known &= hash.is_some();
        hashes.extend(hash);
    }
    Some(are_known)
}

fn is_usual(drv_name: &str, output: &str, name: &str) -> bool {
    match (output, name.strip_prefix(drv_name)) {
        ("out", Some(rest)) => rest.is_empty(),
        (output, Some(rest)) => rest.strip_prefix('-') == Some(output),
        (_, None) => false,
    }
}

fn put(packed: &mut Vec<u8>, bytes: &[u8]) {
    put_number(packed, bytes.len() as u64);
    packed.extend_from_slice(bytes);
}

fn text<'b>(packed: &mut &'b [u8]) -> Option<&'b str> {
    let length = usize::try_from(number(packed)?).ok()?;
    std::str::from_utf8(take(packed, length)?).ok()
}

/// Seven bits a byte, the lowest first.
fn put_number(packed: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        packed.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    packed.push(number.to_le_bytes()[0]);
}

fn number(packed: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0_u64, 0);
    loop {
        let next = byte(packed)?;
        number |= u64::from(next & 0x7f).checked_shl(shift)?;
        if next & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

fn byte(packed: &mut &[u8]) -> Option<u8> {
    take(packed, 1)?.first().copied()
}

fn take<'b>(packed: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (taken, rest) = packed.split_at_checked(count)?;
    *packed = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use ci_model::diff::output_hashes;
    use proptest::prelude::*;

    use super::*;

    const DRV: &str = "/nix/store/00000000000000000000000000000000-hello-1.drv";

    fn path() -> impl Strategy<Value = Option<StorePath>> {
        let folder = prop_oneof!["/nix/store", "/other/store"];
        let name = prop_oneof!["hello-1", "hello-1-dev", "hello-1-", "other", "hello-1-a-b"];
        let hash = "[0-9a-dfg]{32}".prop_map(|text| text);
        proptest::option::of((folder, hash, name).prop_map(|(folder, hash, name)| {
            StorePath::parse_str(&format!("{folder}/{hash}-{name}")).unwrap()
        }))
    }

    proptest! {
        #[test]
        fn outputs_are_read_back(outputs in prop::collection::btree_map(
            prop_oneof!["out", "dev", "a-b", ".{0,300}"], path(), 0..5,
        )) {
            let drv = DrvPath::parse_str(DRV).unwrap();
            let packed = pack_outputs(&drv, &outputs);
            let (mut hashes, expected) = (Vec::new(), output_hashes(&outputs));
            let are_known = unpack_output_hashes(&packed, &mut hashes).unwrap();
            prop_assert_eq!(are_known.then_some(hashes), expected);
            prop_assert_eq!(unpack_outputs("/nix/store", "hello-1", &packed), Some(outputs));
        }

        #[test]
        fn any_bytes_are_outputs_or_damaged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack_outputs("/nix/store", "hello-1", &bytes); // it came back
            let _ = unpack_output_hashes(&bytes, &mut Vec::new()); // so did it
        }
    }

    /// All of them; none when the bytes are damaged.
    fn inputs(mut packed: &[u8]) -> Option<Vec<(i64, i64)>> {
        let mut inputs = Vec::new();
        while let Some(input) = next_input(&mut packed, inputs.last().map_or(0, |(id, _)| *id))? {
            inputs.push(input);
        }
        Some(inputs)
    }

    proptest! {
        #[test]
        fn inputs_are_read_back(inputs_of in prop::collection::btree_map(1..=i64::MAX, 0..=i64::MAX, 0..20)) {
            let some: Vec<_> = inputs_of.into_iter().collect();
            prop_assert_eq!(inputs(&pack_inputs(some.iter().copied())), Some(some));
        }

        #[test]
        fn any_bytes_are_inputs_in_order_or_damaged(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let found = inputs(&bytes).unwrap_or_default();
            prop_assert!(found.is_sorted_by(|(one, _), (next, _)| 0 < *one && one < next), "{found:?}");
        }
    }

    #[test]
    fn near_inputs_take_two_bytes_and_damaged_ones_are_none() {
        let packed = pack_inputs([(100, 3), (101, 3), (227, 4)].into_iter());
        assert_eq!(packed.len(), 6);
        assert_eq!(inputs(&packed[..5]), None, "cut short");
        assert_eq!(inputs(&[5, 1, 0, 1]), None, "twice");
        assert_eq!(inputs(&[0xff; 12]), None, "no number");
    }

    #[test]
    fn the_usual_output_takes_little() {
        let drv = DrvPath::parse_str(DRV).unwrap();
        let path = |name: &str| StorePath::parse_str(&DRV.replace("hello-1.drv", name)).ok();
        let outputs = BTreeMap::from([("dev".into(), path("hello-1-dev")), ("out".into(), path("hello-1"))]);
        assert_eq!(pack_outputs(&drv, &outputs).len(), 2 * (1 + 3 + 1 + HASH_BYTES));
    }

    #[test]
    fn traits_are_read_back() {
        for bits in 0..16 {
            assert_eq!(flags(&traits(bits, Vec::new())), bits);
        }
    }
}
