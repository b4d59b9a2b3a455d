//! Amounts with a unit. In: text such as `30s`, `10MiB`, `80Mbit/s`. Out: a duration, bytes, bytes per second.
//! Leaves out fractions and sums: `90m`, not `1.5h` or `1h30m`.

use std::time::Duration;

/// The longest duration a file may ask for: a hundred years.
const SECONDS_MAX: u64 = 100 * 365 * 86_400;

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a whole number followed by a unit.
    #[error("is not a whole number with a unit")]
    Malformed,
    /// The unit is missing or unknown.
    #[error("has no unit that is known here")]
    Unit,
    /// Larger than can be meant.
    #[error("is too large")]
    TooLarge,
}

/// Reads `250ms`, `30s`, `10m`, `2h`, `7d`, `2w`: up to 100 years.
///
/// # Errors
/// [`UnitError`] when the text is anything else; a bare number other than 0 lacks its unit.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text)?;
    let per_unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        "" if number == 0 => 0,
        _ => return Err(UnitError::Unit),
    };
    let ms = number.checked_mul(per_unit_ms).filter(|ms| *ms <= SECONDS_MAX * 1000);
    ms.map(Duration::from_millis).ok_or(UnitError::TooLarge)
}

/// Reads bytes: `1048576`, `1024B`, `10K`/`10KiB`, `10M`/`10MiB`, `5G`/`5GiB`, `1T`/`1TiB` (powers of 1024), `10kB`,
/// `10MB`, `5GB`, `1TB` (powers of 1000).
///
/// # Errors
/// [`UnitError`] when the text is anything else or beyond 2⁶³ bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text)?;
    scaled(number, bytes_of(unit).ok_or(UnitError::Unit)?)
}

/// Reads bytes per second: a size as [`parse_size`] reads it or `bit`, `kbit`, `Mbit`, `Gbit` (powers of 1000), each
/// with or without `/s`.
///
/// # Errors
/// [`UnitError`] when the text is anything else.
pub fn parse_rate(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text.strip_suffix("/s").unwrap_or(text))?;
    let bits = match unit {
        "bit" => Some(1),
        "kbit" => Some(1000),
        "Mbit" => Some(1_000_000),
        "Gbit" => Some(1_000_000_000),
        _ => None,
    };
    match bits {
        Some(bits) => Ok(scaled(number, bits)? / 8),
        None => scaled(number, bytes_of(unit).ok_or(UnitError::Unit)?),
    }
}

fn bytes_of(unit: &str) -> Option<u64> {
    Some(match unit {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    })
}

/// Bounded by `i64`, which is what a database stores.
fn scaled(number: u64, unit: u64) -> Result<u64, UnitError> {
    number.checked_mul(unit).filter(|n| i64::try_from(*n).is_ok()).ok_or(UnitError::TooLarge)
}

fn split(text: &str) -> Result<(u64, &str), UnitError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() || !unit.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err(UnitError::Malformed);
    }
    let number = number.parse().map_err(|_| UnitError::TooLarge)?; // only digits: nothing else can be wrong
    Ok((number, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("2w"), parse_duration("14d"));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("30"), Err(UnitError::Unit));
        assert_eq!(parse_duration("30 s"), Err(UnitError::Malformed));
        assert_eq!(parse_duration("-1s"), Err(UnitError::Malformed));
        assert_eq!(parse_duration("1.5h"), Err(UnitError::Malformed));
        assert_eq!(parse_duration("1h30m"), Err(UnitError::Malformed));
        assert_eq!(parse_duration("s"), Err(UnitError::Malformed));
        assert_eq!(parse_duration("10M"), Err(UnitError::Unit));
        assert_eq!(parse_duration("99999999d"), Err(UnitError::TooLarge));
        assert_eq!(parse_duration("99999999999999999999999s"), Err(UnitError::TooLarge));
    }

    #[test]
    fn sizes_and_rates() {
        assert_eq!(parse_size("10MiB"), Ok(10 << 20));
        assert_eq!(parse_size("5G"), Ok(5 << 30));
        assert_eq!(parse_size("5GB"), Ok(5_000_000_000));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("10mib"), Err(UnitError::Unit));
        assert_eq!(parse_size("9223372036854775808"), Err(UnitError::TooLarge));
        assert_eq!(parse_size("8388608T"), Err(UnitError::TooLarge));
        assert_eq!(parse_size("10MiB/s"), Err(UnitError::Malformed));
        assert_eq!(parse_rate("10MiB/s"), Ok(10 << 20));
        assert_eq!(parse_rate("10MiB"), Ok(10 << 20));
        assert_eq!(parse_rate("80Mbit/s"), Ok(10_000_000));
    }
}
