//! Numbers of JSON. In: a reader that stands at one, or at what other languages take for one. Out: the number, whole
//! where it was written so and fits 64 bits.

use super::fault::cut;
use super::json::{Reader, Stop, Value};

/// Reads a number.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Value, Stop> {
    let at = reader.at;
    let rest = &reader.text[at..];
    let end = rest.find(|c: char| !c.is_alphanumeric() && !matches!(c, '+' | '-' | '.' | '_'));
    let text = &rest[..end.unwrap_or(rest.len())];
    reader.at += text.len();
    if let Err(remedy) = shape(text) {
        reader.fault(at, format!("{} is no number of JSON", cut(text)), remedy);
        return Ok(Value::Whole(0));
    }
    // A zero with a sign is no whole number to other readers.
    if text != "-0"
        && !text.contains(['.', 'e', 'E'])
        && let Ok(whole) = text.parse()
    {
        return Ok(Value::Whole(whole));
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Value::Decimal(number)),
        Ok(_) | Err(_) => {
            reader.fault(at, format!("{} is too large", cut(text)), "no number here is");
            Ok(Value::Whole(0))
        }
    }
}

/// Is it a number as JSON writes them? If not, what to do.
fn shape(text: &str) -> Result<(), &'static str> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        None => (unsigned, None),
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        None => (mantissa, None),
        Some((whole, fraction)) => (whole, Some(fraction)),
    };
    if text.starts_with('+') {
        return Err("leave the + out");
    }
    if whole.is_empty() && fraction.is_some_and(digits) {
        return Err("write a 0 before the point");
    }
    if whole.len() > 1 && whole.starts_with('0') && digits(whole) {
        return Err("leave the zeros in front out");
    }
    if digits(whole) && fraction == Some("") {
        return Err("write a digit behind the point");
    }
    let signed = |text: &str| digits(text.strip_prefix(['+', '-']).unwrap_or(text));
    if !digits(whole) || !fraction.is_none_or(digits) || !exponent.is_none_or(signed) {
        return Err("write digits, or put a text in double quotes");
    }
    Ok(())
}
