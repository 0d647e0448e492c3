//! Readers of the values of settings: times, sizes, counts and switches, in the syntax of nginx.

use std::time::Duration;

/// The rest of the message about a value that is not a time.
pub const NOT_A_TIME: &str = "is not a time: write it as 500ms, 5s or 1m";
/// The rest of the message about a value that is not a size.
pub(crate) const NOT_A_SIZE: &str = "is not a size: write it as 64k, 10m or 1g";
/// The rest of the message about a value that is not a switch.
pub const NOT_A_SWITCH: &str = "is not a switch: write it as on or off";

/// Units of time from the longest to the shortest, with their length in milliseconds. A month has 30 days and a
/// year 365, as in nginx.
const UNITS: [(&str, u64); 8] = [
    ("y", 365 * DAY),
    ("M", 30 * DAY),
    ("w", 7 * DAY),
    ("d", DAY),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
const DAY: u64 = 86_400_000;
const SECOND: &str = "s";

/// Parses a time such as `500ms`, `5s` or `1h 30m`: the longer unit first, each at most once; a number without a unit
/// is seconds. `None` when it is not a time, or exceeds 64 bits of milliseconds.
pub fn time(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total: u64 = 0;
    loop {
        let (number, unit);
        (number, rest) = split(rest, |byte| byte.is_ascii_digit());
        (unit, rest) = split(rest, |byte| byte.is_ascii_alphabetic());
        let unit = match unit {
            "" => SECOND,
            unit => unit,
        };
        // A unit that `find` has skipped may not follow any more.
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*millis)?)?;
        if rest.is_empty() {
            return Some(Duration::from_millis(total));
        }
        rest = rest.trim_start_matches(' ');
    }
}

/// Parses a size such as `64k`, `10m` or `1g`; a number without a unit is bytes. `None` when it is not a size, or
/// exceeds 64 bits.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text, |byte| byte.is_ascii_digit());
    let factor = match unit {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Parses a number that has digits only.
pub(crate) fn count(text: &str) -> Option<u64> {
    // `parse` would accept a sign as well.
    let (number, rest) = split(text, |byte| byte.is_ascii_digit());
    rest.is_empty().then(|| number.parse().ok())?
}

/// Parses `on` or `off`, in any case as in nginx.
pub fn switch(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("on") {
        Some(true)
    } else if text.eq_ignore_ascii_case("off") {
        Some(false)
    } else {
        None
    }
}

fn split(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text
        .bytes()
        .position(|byte| !belongs(byte))
        .unwrap_or(text.len());
    // `belongs` takes ASCII alone, so this is a character boundary.
    text.split_at(end)
}

/// The message for an unknown key: it names the nearest known key, or lists the known ones.
pub(crate) fn no_key(names: &[&str], name: &str) -> String {
    let nearest = names
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min();
    let mend = match nearest {
        Some((distance, known)) if distance <= known.len().max(3) / 3 => {
            format!("did you mean \"{known}\"?")
        }
        _ => format!("the keys are: {}", names.join(", ")),
    };
    format!("there is no key {}; {mend}", quoted(name))
}

/// A value in quotes, escaped, and truncated if it is too long for a line.
pub(crate) fn quoted(value: &str) -> String {
    const MOST: usize = 80;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_nginx_reads_them() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("0", ms(0)),
            ("5", ms(5_000)),
            ("500ms", ms(500)),
            ("5s", ms(5_000)),
            ("1m", ms(60_000)),
            ("1h30m", ms(5_400_000)),
            ("1h 30m", ms(5_400_000)),
            ("1h  30", ms(3_630_000)),
            ("1d", ms(86_400_000)),
            ("1w", ms(604_800_000)),
            ("1M", ms(2_592_000_000)),
            ("1y", ms(31_536_000_000)),
            ("1s500ms", ms(1_500)),
            ("018446744073709551615ms", ms(u64::MAX)),
        ] {
            assert_eq!(time(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            " ",
            "s",
            "ms",
            "5x",
            "5S",
            "5 s",
            " 5s",
            "5s ",
            "-5s",
            "+5s",
            "1.5s",
            "5s5s",
            "30m1h",
            "5s 3",
            "5ms1s",
            "5s,",
            "5seconds",
            "18446744073709551616",
            "18446744073709551616ms",
            "18446744073709551615s",
            "18446744073709551615ms1",
            "9999999999999y",
            "584942417y365d",
            "５s",
            "5µs",
            "1h\t30m",
            "5s\0",
        ] {
            assert_eq!(time(text), None, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_as_nginx_reads_them() {
        for (text, expected) in [
            ("0", 0),
            ("1", 1),
            ("64k", 65_536),
            ("64K", 65_536),
            ("10m", 10 << 20),
            ("10M", 10 << 20),
            ("2g", 2 << 30),
            ("2G", 2 << 30),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "k",
            "1kb",
            "1 k",
            "1t",
            "-1",
            "+1",
            "1.5m",
            "0x10",
            "1k1",
            "18446744073709551616",
            "18446744073709551615k",
            "99999999999g",
            "１k",
        ] {
            assert_eq!(size(text), None, "{text:?}");
        }
    }

    #[test]
    fn counts_are_digits_alone() {
        assert_eq!(count("256"), Some(256));
        for text in ["", "+1", "-1", "1k", "1 ", "1.0", "18446744073709551616"] {
            assert_eq!(count(text), None, "{text:?}");
        }
    }

    #[test]
    fn switches_are_on_or_off_in_any_case() {
        assert_eq!(switch("on"), Some(true));
        assert_eq!(switch("Off"), Some(false));
        for text in ["", "yes", "true", "1", "on ", "0ff"] {
            assert_eq!(switch(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in "\\PC*|[0-9yMwdhms kKgG]{0,40}") {
            let _ = (time(&text), size(&text), count(&text), switch(&text));
        }

        #[test]
        fn seconds_are_the_same_with_and_without_their_unit(seconds in 0..=u64::MAX / 1000) {
            let expected = Some(Duration::from_secs(seconds));
            prop_assert_eq!(time(&seconds.to_string()), expected);
            prop_assert_eq!(time(&format!("{seconds}s")), expected);
        }
    }
}
