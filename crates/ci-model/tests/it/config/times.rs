//! Times of schedules.

use ci_model::config::{Cron, Minute};

/// 2024-02-29 was a Thursday.
const LEAP: Minute = Minute { minute: 30, hour: 3, day: 29, month: 2, weekday: 4 };
const SUNDAY: Minute = Minute { minute: 0, hour: 0, day: 1, month: 9, weekday: 0 };

fn is_at(cron: &str, minute: Minute) -> bool {
    cron.parse::<Cron>().unwrap_or_else(|error| panic!("{cron}: {error}")).is_at(minute)
}

#[test]
fn minutes_that_are_meant() {
    for (cron, leap, sunday) in [
        ("* * * * *", true, true),
        ("30 3 * * *", true, false),
        ("*/15 */3 * * *", true, true),
        ("0-29 * * * *", false, true),
        ("1,2,30-31 0-6/3 29 2 *", true, false),
        ("* * 29 2 *", true, false),
        ("* * * feb THU", true, false),
        ("* * * * 7", false, true),
        ("* * * * 0", false, true),
        ("* * * * 4-7", true, true),
        ("@hourly", false, true),
        ("@daily", false, true),
        ("@weekly", false, true),
        ("@monthly", false, true),
        ("@yearly", false, false),
        // A day of the month and one of the week: either is enough.
        ("* * 1 * 4", true, true),
        ("* * 2 * 4", true, false),
        // Not so with a star.
        ("* * 1 * *", false, true),
        ("* * */2 * 0", false, true),
    ] {
        assert_eq!((is_at(cron, LEAP), is_at(cron, SUNDAY)), (leap, sunday), "{cron}");
    }
}

#[test]
fn what_is_no_time_says_why() {
    for cron in [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 * ",
        "* * * * 8",
        "-1 * * * *",
        "1- * * * *",
        "5-1 * * * *",
        "*/0 * * * *",
        "*/x * * * *",
        "1/2 * * * *",
        "1,,2 * * * *",
        "a * * * *",
        "* * * * funday",
        "0 0 31 4,6 *",
        "0 0 30 feb *",
        "@never",
        "001 * * * *",
    ] {
        let error = cron.parse::<Cron>().unwrap_err();
        assert!(!error.what.is_empty() && !error.remedy.is_empty(), "{cron}");
    }
}
