//! Sizes, rates and times as people read them: pure.

/// Bytes in the largest unit that leaves a number above one.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1_024 {
        return format!("{count} B");
    }
    let (mut unit, mut rest) = (0, count);
    while unit + 1 < UNITS.len() && rest >= 1_024 * 1_024 {
        (unit, rest) = (unit + 1, rest / 1_024);
    }
    let tenths = u128::from(rest) * 10 / 1_024;
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A span of time, in its two largest units.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// At most so many characters; what was cut ends with a `~`.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        kept.push('~');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let shown = [0, 1_023, 1_024, 1_536, 1_048_575, 1_048_576, 5 << 30, u64::MAX].map(bytes).join(", ");
        assert_eq!(shown, "0 B, 1023 B, 1.0 KiB, 1.5 KiB, 1023.9 KiB, 1.0 MiB, 5.0 GiB, 15.9 EiB");
    }

    #[test]
    fn times_are_short() {
        let shown = [0, 59, 61, 3_599, 3_660, 90_000].map(span).join(", ");
        assert_eq!(shown, "0s, 59s, 1m01s, 59m59s, 1h01m, 1d01h");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!([cut("größe", 5), cut("größe", 4), cut("größe", 0)], ["größe", "grö~", ""]);
    }
}
