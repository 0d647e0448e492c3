//! Texts that a header carries unchanged.

/// Whether a text is unchanged after it is sent as the value of a header: every reader of the header reads these bytes.
///
/// A text with a control character is not, because that may end the header. Nor is a text with white space at its
/// beginning or end: it is not part of a field value (RFC 9110 §5.5), so the next reader reads `" admin"` as `admin`.
/// White space is that of Unicode, because some frameworks strip it. Other characters beyond ASCII are sent as the
/// bytes of their UTF-8.
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
