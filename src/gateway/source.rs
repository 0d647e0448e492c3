//! Parsers of cookies (RFC 6265 §4.2) and queries (RFC 6750 §2.3), which may hold a token besides `Authorization`, and
//! the removal of the token from them. All code here is pure.
//!
//! These parsers agree with those behind a gateway, or are stricter: any value that one of those could take as the
//! token is found here, so that it can be counted and removed. Nothing is allocated unless a value is percent-encoded.
//!
//! ```
//! use phantom_token::gateway::source::{Form, values, without};
//!
//! let cookies = b"theme=dark; session=8f3c0a; lang=en";
//! let tokens: Vec<_> = values(Form::Cookie, cookies, b"session").collect();
//! assert_eq!(tokens, [b"8f3c0a".as_slice()]);
//!
//! let mut rest = Vec::new();
//! without(Form::Cookie, cookies, b"session", &mut |piece| rest.extend_from_slice(piece));
//! assert_eq!(rest, b"theme=dark; lang=en");
//! ```

pub use crate::token::trim;
use std::borrow::Cow;

/// The syntax of a list of names and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The value of a `Cookie` header: `name=value` or `name="value"`, separated by semicolons (RFC 6265 §4.2.1).
    Cookie,
    /// A query: `application/x-www-form-urlencoded`, with percent-encoded names and values, separated by `&`. A query
    /// at the end of a URI ends at the fragment.
    Query,
}

impl Form {
    const fn separator(self) -> u8 {
        match self {
            Form::Cookie => b';',
            Form::Query => b'&',
        }
    }

    /// The separator that is written between two pairs.
    const fn joint(self) -> &'static [u8] {
        match self {
            Form::Cookie => b"; ",
            Form::Query => b"&",
        }
    }

    /// The pairs of a text, unchanged.
    fn pairs(self, text: &[u8]) -> impl Iterator<Item = &[u8]> {
        text.split(move |byte| *byte == self.separator())
            .map(move |pair| match self {
                Form::Cookie => trim(pair),
                Form::Query => pair,
            })
    }

    /// The value of a pair, unchanged, if the pair has this name.
    fn value<'a>(self, pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        let (written, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            // Without `=`, a cookie is a value without a name, and a query pair is a name without a value.
            None if self == Form::Cookie => return None,
            None => (pair, &[][..]),
        };
        match self {
            Form::Cookie => (trim(written) == name).then(|| unquoted(trim(value))),
            Form::Query => decoded(written).eq(name.iter().copied()).then_some(value),
        }
    }
}

/// The values of a name, unchanged: values of a query may still be percent-encoded, see [`decode`]. The name is
/// compared byte for byte, in a query after decoding.
pub fn values<'a>(form: Form, text: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let (text, _) = split_fragment(form, text);
    form.pairs(text)
        .filter_map(move |pair| form.value(pair, name))
}

/// Removes all pairs of the name, and passes the rest of the text to `take`, piece by piece. The rest is no longer than
/// the text, except for a space after each semicolon.
pub fn without<'a>(form: Form, text: &'a [u8], name: &[u8], take: &mut dyn FnMut(&'a [u8])) {
    let (text, fragment) = split_fragment(form, text);
    let mut first = true;
    for pair in form.pairs(text) {
        if form.value(pair, name).is_some() || (form == Form::Cookie && pair.is_empty()) {
            continue;
        }
        if !std::mem::take(&mut first) {
            take(form.joint());
        }
        take(pair);
    }
    if !fragment.is_empty() {
        take(fragment);
    }
}

/// The decoded value of a query; values of a cookie are never encoded. `None` for a `%` without two hexadecimal digits
/// after it.
pub fn decode(form: Form, value: &[u8]) -> Option<Cow<'_, [u8]>> {
    if form == Form::Cookie || !value.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(value));
    }
    let mut rest = value;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        escaped(&rest[at..])?;
        rest = &rest[at + 3..];
    }
    Some(Cow::Owned(decoded(value).collect()))
}

/// The decoded bytes of a text (WHATWG URL, "application/x-www-form-urlencoded parsing"). A `%` without two digits
/// after it is kept unchanged.
fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        if let Some(byte) = escaped(rest) {
            rest = &rest[3..];
            return Some(byte);
        }
        rest = after;
        Some(if first == b'+' { b' ' } else { first })
    })
}

/// The byte that is percent-encoded at the beginning of a text (RFC 3986 §2.1).
fn escaped(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| {
        (byte as char)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    match text {
        [b'%', high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

fn split_fragment(form: Form, text: &[u8]) -> (&[u8], &[u8]) {
    match form {
        Form::Cookie => (text, &[]),
        Form::Query => {
            let end = text.iter().position(|byte| *byte == b'#');
            text.split_at(end.unwrap_or(text.len()))
        }
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(form: Form, text: &str, name: &str) -> Vec<String> {
        values(form, text.as_bytes(), name.as_bytes())
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    fn left(form: Form, text: &[u8], name: &[u8]) -> Vec<u8> {
        let mut left = Vec::new();
        without(form, text, name, &mut |piece| left.extend_from_slice(piece));
        left
    }

    #[test]
    fn a_cookie_is_found_wherever_it_stands() {
        for (text, values) in [
            ("session=abc", vec!["abc"]),
            ("a=b; session=abc", vec!["abc"]),
            ("session=abc;a=b", vec!["abc"]),
            ("a=b;\tsession = abc ;c=d", vec!["abc"]),
            ("session=\"abc\"", vec!["abc"]),
            ("session=\"", vec!["\""]),
            ("session=a=b=", vec!["a=b="]),
            ("session=", vec![""]),
            ("session=abc; session=def", vec!["abc", "def"]),
            ("session", vec![]),
            ("=session", vec![]),
            ("Session=abc", vec![]),
            ("xsession=abc; sessionx=def; x=session=ghi", vec![]),
            ("", vec![]),
            (";;;", vec![]),
        ] {
            assert_eq!(found(Form::Cookie, text, "session"), values, "{text}");
        }
    }

    #[test]
    fn a_parameter_is_found_by_the_name_that_it_decodes_to() {
        for (text, values) in [
            ("access_token=abc", vec!["abc"]),
            ("a=b&access_token=abc&c", vec!["abc"]),
            (
                "access%5ftoken=abc&%61ccess_token=d%65f",
                vec!["abc", "d%65f"],
            ),
            ("access_token", vec![""]),
            ("access_token=a=b#&access_token=c", vec!["a=b"]),
            (
                "Access_token=abc&access-token=abc&access_token[]=abc",
                vec![],
            ),
            ("a=b;access_token=c", vec![]),
            (
                "access_token%=abc&access_token%0=abc&%00access_token=abc",
                vec![],
            ),
            ("&&=&", vec![]),
        ] {
            assert_eq!(found(Form::Query, text, "access_token"), values, "{text}");
        }
    }

    #[test]
    fn what_is_left_is_what_was_there() {
        for (form, text, rest) in [
            (Form::Cookie, "a=b; t=x; c=\"d\"", "a=b; c=\"d\""),
            (Form::Cookie, "t=x", ""),
            (Form::Cookie, "t=x; t=y;t=\"z\"", ""),
            (Form::Cookie, "a=b;c;; t=x", "a=b; c"),
            (Form::Query, "a=%20&t=x&&c=+", "a=%20&&c=+"),
            (Form::Query, "t=x", ""),
            (Form::Query, "t&%74=x", ""),
            (Form::Query, "a&t=x#t=y", "a#t=y"),
            (Form::Query, "t=x#y", "#y"),
        ] {
            assert_eq!(
                String::from_utf8(left(form, text.as_bytes(), b"t")).unwrap(),
                rest,
                "{text}"
            );
        }
    }

    #[test]
    fn a_value_is_decoded_as_forms_are_and_copied_only_if_it_must_be() {
        let plain = decode(Form::Query, b"abc/~").unwrap();
        assert!(matches!(plain, Cow::Borrowed(b"abc/~")));
        assert_eq!(&*decode(Form::Query, b"a%2Bb%2fc+d").unwrap(), b"a+b/c d");
        assert_eq!(&*decode(Form::Cookie, b"a%2Bb+c").unwrap(), b"a%2Bb+c");
        for broken in ["%", "%2", "a%zz", "%2%20", "%%20"] {
            assert_eq!(decode(Form::Query, broken.as_bytes()), None, "{broken}");
        }
    }

    fn form() -> impl Strategy<Value = Form> {
        prop_oneof![Just(Form::Cookie), Just(Form::Query)]
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"t".to_vec()),
            Just(b"%74".to_vec()),
            Just(b"=".to_vec()),
            Just(b";".to_vec()),
            Just(b"&".to_vec()),
            Just(b" ".to_vec()),
            Just(b"\"".to_vec()),
            Just(b"#".to_vec()),
            prop::collection::vec(any::<u8>(), 0..3),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nothing_of_the_name_is_left_and_nothing_grows(form in form(), text in text()) {
            let left = left(form, &text, b"t");
            // A space may be added after each semicolon.
            let most = text.len() + text.iter().filter(|byte| **byte == b';').count();
            prop_assert!(left.len() <= most);
            prop_assert_eq!(values(form, &left, b"t").count(), 0);
        }

        #[test]
        fn other_names_keep_their_values(form in form(), text in text()) {
            let left = left(form, &text, b"t");
            for name in [b"u".as_slice(), b"tt", b"%"] {
                prop_assert_eq!(
                    values(form, &text, name).collect::<Vec<_>>(),
                    values(form, &left, name).collect::<Vec<_>>()
                );
            }
        }

        #[test]
        fn a_token_is_read_back_from_where_it_was_put(
            token in "[A-Za-z0-9._~+/-]{1,40}={0,2}",
            before in "[a-s]{0,8}",
        ) {
            let cookies = format!("{before}=x; t={token}; y=z");
            prop_assert_eq!(found(Form::Cookie, &cookies, "t"), vec![token.clone()]);
            let encoded: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let query = format!("{before}=x&t={encoded}&y=z");
            let values: Vec<_> = values(Form::Query, query.as_bytes(), b"t").collect();
            prop_assert_eq!(values.len(), 1);
            prop_assert_eq!(&*decode(Form::Query, values[0]).unwrap(), token.as_bytes());
        }
    }
}
