//! Attributes of one job that are gone and attributes of it that are new come in; those that are the same thing at
//! another place come out, as pairs. Two are paired when they are of one system and have the same derivation, or else
//! the same package in the same version, by what both of them say of it, and when no third attribute could be meant.

use super::names::{Package, Says, package_by};
use super::only;
use crate::attr::Attr;

/// Pairs of what is gone and what is new, taken out of the two lists.
pub(super) fn take_pairs<'a>(gone: &mut Vec<&'a Attr>, new: &mut Vec<&'a Attr>) -> Vec<(&'a Attr, &'a Attr)> {
    let mut pairs = only::take_pairs(gone, new, |attr| Some((&attr.system, &attr.drv)));
    // A package without a version is too little to go by.
    let same = |attr: &'a Attr, other: Says| match package_by(attr, Says::of(attr).and(other)) {
        Package { pname, version: Some(version) } => Some((&attr.system, pname, version)),
        Package { version: None, .. } => None,
    };
    pairs.extend(only::take_pairs_of_kinds(gone, new, Says::of, same));
    pairs
}
