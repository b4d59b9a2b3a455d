//! Dates as HTTP and AWS write them. In: `Sun, 06 Nov 1994 08:49:37 GMT`, or a [`Time`]. Out: a [`Time`], or
//! `19941106T084937Z`. Leaves out the two obsolete forms that no server sends.

use service_kit::clock::Time;

/// A text that is no HTTP date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a date such as Sun, 06 Nov 1994 08:49:37 GMT")]
pub struct DateError;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads the `Date` of an answer. The day of the week is not compared with the date.
///
/// # Errors
/// [`DateError`]
pub fn parse_http_date(text: &str) -> Result<Time, DateError> {
    let (day_name, rest) = text.split_once(", ").ok_or(DateError)?;
    let words: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, clock, "GMT"] = words[..] else { return Err(DateError) };
    let whole = day_name.len() == 3 && day.len() == 2 && year.len() == 4 && clock.len() == 8;
    let month = MONTHS.iter().position(|name| *name == month).ok_or(DateError)? + 1;
    if !whole {
        return Err(DateError);
    }
    format!("{year}-{month:02}-{day}T{clock}Z").parse().map_err(|_| DateError)
}

/// `YYYYMMDDTHHMMSSZ`, as signatures have it.
pub(crate) fn amz(time: Time) -> String {
    let text = time.to_string();
    let whole = text.split('.').next().unwrap_or(&text);
    format!("{}Z", whole.replace(['-', ':'], ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_answers_are_read() {
        let time = parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(time.to_string(), "1994-11-06T08:49:37.000Z");
        assert_eq!(amz(time), "19941106T084937Z");
        for bad in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
        ] {
            assert_eq!(parse_http_date(bad), Err(DateError), "{bad}");
        }
    }
}
