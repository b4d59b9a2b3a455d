//! The report for programs: an outcome comes in, one line of JSON comes out, in a shape that stays. Pure.
//!
//! `version` is [`VERSION`]: keys may be added under it, and none is taken away or means something else. Everything is in
//! it, uncut; `totals` sums what `comparison.systems` has by system.

use ci_model::change::SystemCounts;
use ci_model::outcome::Outcome;
use serde::Serialize;

use super::text::steers;

/// The shape's number.
pub(crate) const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    /// What the program ends with.
    exit_code: u8,
    totals: SystemCounts,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// One line. Characters that steer a terminal are written as escapes, which is the same text to whoever reads JSON.
///
/// # Errors
/// When the outcome cannot be serialised, which would be a mistake of ours.
pub(crate) fn report(outcome: &Outcome, exit_code: u8) -> serde_json::Result<String> {
    let document = Document { version: VERSION, exit_code, totals: outcome.comparison.totals(), outcome };
    let text = serde_json::to_string(&document)?;
    if !text.chars().any(steers) {
        return Ok(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            // They stand in strings alone, and are below U+10000.
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    Ok(escaped)
}

#[cfg(test)]
mod tests {
    use super::super::render::samples::{few, hostile};
    use super::*;

    #[test]
    fn its_shape() {
        let text = report(&few(), 1).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&value).unwrap());
    }

    #[test]
    fn what_it_says_is_what_was_put_in() {
        for outcome in [few(), hostile()] {
            let text = report(&outcome, 1).unwrap();
            assert!(!text.chars().any(steers));
            assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
        }
    }
}
