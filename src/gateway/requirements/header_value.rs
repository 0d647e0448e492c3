//! Which texts a header carries unchanged.

/// Whether a text arrives unchanged when it is sent as the value of a header: whoever reads it there reads these bytes.
///
/// Not one with a control character, which may end the header, nor one that begins or ends with white space: that is no
/// part of a field value (RFC 9110 §5.5), so the next reader takes `" admin"` for `admin`. White space is that of
/// Unicode, because some frameworks strip it. Other characters beyond ASCII stand as the bytes of their UTF-8.
pub fn is_exact_header_value(value: &[u8]) -> bool {
    match std::str::from_utf8(value) {
        Ok(text) => text.trim().len() == text.len() && !text.contains(char::is_control),
        Err(_) => {
            value.trim_ascii().len() == value.len() && !value.iter().any(u8::is_ascii_control)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_would_arrive_changed_is_told_from_one_that_would_not() {
        for value in ["", "admin", "a b", "a  b", "jörg", "日本", "\"a\""] {
            assert!(is_exact_header_value(value.as_bytes()), "{value:?}");
        }
        assert!(is_exact_header_value(b"\xe9\xff"));
        for value in [
            " admin",
            "admin ",
            "\tadmin",
            "admin\t",
            " ",
            "a\r\nb",
            "a\0",
            "a\x7fb",
            "a\u{85}b",
            "\u{a0}admin",
            "admin\u{3000}",
        ] {
            assert!(!is_exact_header_value(value.as_bytes()), "{value:?}");
        }
        for value in [&b" \xff"[..], b"\xff ", b"\xff\n\xff"] {
            assert!(!is_exact_header_value(value), "{value:?}");
        }
    }
}
