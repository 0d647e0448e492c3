//! Numbers formatted for people.

use std::time::{Duration, UNIX_EPOCH};

/// A number with thousands separators: `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in bytes: `3.4 MiB`.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        // A value that would be rounded up to 1000 or more is shown in the next unit.
        if value < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 9.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// A percentage: `98.7 %`. Less than all is never shown as 100 %, and more than nothing never as 0 %.
pub(super) fn percent(part: f64) -> String {
    let percent = part * 100.0;
    match percent {
        _ if percent >= 100.0 => "100 %".to_owned(),
        _ if percent > 99.9 => "> 99.9 %".to_owned(),
        _ if percent > 0.0 && percent < 0.1 => "< 0.1 %".to_owned(),
        _ => format!("{percent:.1} %"),
    }
}

/// A duration in seconds, in one unit: `12 s`, `3 min`, `5 h`, `8 d`.
pub(super) fn span(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{} s", seconds.max(0)),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A short duration: `500 µs`, `2.5 ms`, `10 s`.
pub(super) fn short_span(micros: u64) -> String {
    let with = |value: f64, unit: &str| format!("{value} {unit}");
    match micros {
        ..1000 => with(micros as f64, "µs"),
        1000..1_000_000 => with(micros as f64 / 1e3, "ms"),
        _ => with(micros as f64 / 1e6, "s"),
    }
}

/// A date as HTTP writes it (RFC 9110 §5.6.7): `Tue, 24 Nov 2026 09:30:00 GMT`. Empty before the epoch and after the
/// year 9999, for which HTTP has no date.
pub(super) fn moment(unix: i64) -> String {
    match u64::try_from(unix) {
        Ok(seconds @ ..253_402_300_800) => {
            httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10_189, "10 KiB"),
            (1_048_575, "1.0 MiB"),
            (64 << 20, "64 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        for (part, text) in [
            (0.0, "0.0 %"),
            (0.0001, "< 0.1 %"),
            (0.5, "50.0 %"),
            (0.99999, "> 99.9 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(percent(part), text);
        }
        for (seconds, text) in [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h")] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(span(i64::MAX), "106751991167300 d");
        for (micros, text) in [(500, "500 µs"), (2500, "2.5 ms"), (10_000_000, "10 s")] {
            assert_eq!(short_span(micros), text);
        }
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (unix, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (253_402_300_800, ""),
            (i64::MAX, ""),
            (-1, ""),
        ] {
            assert_eq!(moment(unix), text);
        }
    }
}
