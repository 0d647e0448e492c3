//! What a purge asks for: the form that a host receives, shaped as a revocation request (RFC 7009 §2.1).
//!
//! `token=…` names the token to forget. `token_type_hint` is for authorization servers, which may look for a token
//! where it says; there is nothing to look for here. `all=1` is ours: it asks to forget everything of a provider.

use std::borrow::Cow;
use std::fmt;

use zeroize::Zeroizing;

/// The longest form that is read, in bytes.
pub const MAX_FORM_LENGTH: usize = 64 << 10;

/// A form while it arrives: wiped when dropped.
#[derive(Default)]
pub struct Form(Zeroizing<Vec<u8>>);

/// What is to be forgotten.
pub enum Purge {
    /// This token. It may be none that could ever be presented: then there is nothing to forget.
    Token(Zeroizing<String>),
    /// Everything of the provider.
    All,
}

/// Why a form is no purge. Says nothing of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeError {
    /// It is longer than [`MAX_FORM_LENGTH`].
    TooLong,
    /// A percent sign without two hexadecimal digits after it.
    Malformed,
    /// Neither `token` nor `all`.
    Missing,
    /// `token` with nothing in it.
    EmptyToken,
    /// `token` or `all` more than once (RFC 6749 §3.2 has each parameter once), or both.
    Repeated,
    /// `all` is something else than `1`.
    BadAll,
}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Sent as an `error_description`: neither quotes nor backslashes (RFC 6749 §5.2).
        f.write_str(match self {
            PurgeError::TooLong => "the form is longer than 64 KiB",
            PurgeError::Malformed => "the form is not percent-encoded as it should be",
            PurgeError::Missing => "token is missing: send it as application/x-www-form-urlencoded",
            PurgeError::EmptyToken => "token is empty",
            PurgeError::Repeated => "send one token, or all=1, and each once",
            PurgeError::BadAll => "all can only be 1",
        })
    }
}

impl std::error::Error for PurgeError {}

impl Form {
    /// A form of which `length` bytes are expected.
    pub fn with_capacity(length: usize) -> Self {
        Form(Zeroizing::new(Vec::with_capacity(
            length.min(MAX_FORM_LENGTH),
        )))
    }

    /// Appends what has arrived.
    ///
    /// # Errors
    /// [`PurgeError::TooLong`] when it is too much; the form stays as it was.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), PurgeError> {
        let length = self.0.len() + bytes.len();
        if length > MAX_FORM_LENGTH {
            return Err(PurgeError::TooLong);
        }
        if length > self.0.capacity() {
            // A vector that grows by itself would leave what it held behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(
                length.next_power_of_two().min(MAX_FORM_LENGTH),
            ));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// Reads the form. Parameters that are not known are ignored, as RFC 6749 §3.2 wants it.
    ///
    /// # Errors
    /// [`PurgeError`] when it does not say what to forget.
    pub fn read(&self) -> Result<Purge, PurgeError> {
        if !is_percent_encoded(&self.0) {
            return Err(PurgeError::Malformed);
        }
        let mut token = None;
        let mut all = None;
        for (name, value) in form_urlencoded::parse(&self.0) {
            let place = match &*name {
                "token" => &mut token,
                "all" => &mut all,
                _ => continue,
            };
            // Wiped whatever comes of it.
            let value = Zeroizing::new(Cow::into_owned(value));
            if place.replace(value).is_some() {
                return Err(PurgeError::Repeated);
            }
        }
        match (token, all) {
            (None, None) => Err(PurgeError::Missing),
            (Some(_), Some(_)) => Err(PurgeError::Repeated),
            (Some(token), None) if token.is_empty() => Err(PurgeError::EmptyToken),
            (Some(token), None) => Ok(Purge::Token(token)),
            (None, Some(all)) if *all == "1" => Ok(Purge::All),
            (None, Some(_)) => Err(PurgeError::BadAll),
        }
    }
}

/// Whether every percent sign begins an octet (RFC 3986 §2.1): a reader that lets others pass takes them for
/// themselves, and would forget another token than the one that was meant.
fn is_percent_encoded(form: &[u8]) -> bool {
    form.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| {
            form.get(at + 1..at + 3)
                .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(form: &[u8]) -> Result<String, PurgeError> {
        let mut whole = Form::default();
        whole.push(form)?;
        whole.read().map(|purge| match purge {
            Purge::Token(token) => token.to_string(),
            Purge::All => "*".to_owned(),
        })
    }

    #[test]
    fn a_form_names_a_token_or_everything() {
        for (form, expected) in [
            ("token=abc", "abc"),
            ("token=abc&", "abc"),
            ("token_type_hint=access_token&token=abc", "abc"),
            ("token=abc&token_type_hint=a&token_type_hint=b", "abc"),
            ("token=a%2Bb%3D%3d", "a+b=="),
            ("%74oken=abc", "abc"),
            ("token=a+b", "a b"),
            ("token=a=b", "a=b"),
            ("token=%00", "\0"),
            ("all=1", "*"),
            ("x=%C3%A4&all=1", "*"),
        ] {
            assert_eq!(read(form.as_bytes()).as_deref(), Ok(expected), "{form}");
        }
    }

    #[test]
    fn anything_else_is_an_error_that_says_what() {
        for (form, expected) in [
            ("", PurgeError::Missing),
            ("Token=abc", PurgeError::Missing),
            ("{\"token\":\"abc\"}", PurgeError::Missing),
            ("token_type_hint=access_token", PurgeError::Missing),
            ("token", PurgeError::EmptyToken),
            ("token=", PurgeError::EmptyToken),
            ("token=a&token=a", PurgeError::Repeated),
            ("token=a&token=", PurgeError::Repeated),
            ("token=a&all=1", PurgeError::Repeated),
            ("all=1&all=1", PurgeError::Repeated),
            ("all", PurgeError::BadAll),
            ("all=0", PurgeError::BadAll),
            ("all=true", PurgeError::BadAll),
            ("token=%", PurgeError::Malformed),
            ("token=a%2", PurgeError::Malformed),
            ("token=a&x=%zz", PurgeError::Malformed),
        ] {
            assert_eq!(read(form.as_bytes()), Err(expected), "{form}");
            let said = expected.to_string();
            assert!(!said.contains(['"', '\\']) && said.is_ascii(), "{said}");
        }
    }

    #[test]
    fn a_form_is_bounded_however_it_arrives() {
        let mut form = Form::with_capacity(usize::MAX);
        let piece = [b'a'; 1000];
        while form.push(&piece).is_ok() {}
        assert_eq!(form.0.len(), 65_000);
        assert_eq!(form.push(&[b'a'; 536]), Ok(()));
        assert_eq!(form.push(b"a"), Err(PurgeError::TooLong));
        assert_eq!(form.push(b""), Ok(()));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_in_pieces_as_it_is_in_one(
            form in prop::collection::vec(any::<u8>(), 0..200),
            size in 1..50_usize,
        ) {
            let mut pieces = Form::default();
            for piece in form.chunks(size) {
                pieces.push(piece).unwrap();
            }
            let token = |purge| match purge {
                Purge::Token(token) => token.to_string(),
                Purge::All => "*".to_owned(),
            };
            prop_assert_eq!(pieces.read().map(token), read(&form));
        }

        #[test]
        fn a_token_that_was_encoded_is_read_as_it_was(token in ".{1,200}") {
            let form = form_urlencoded::Serializer::new(String::new())
                .append_pair("token", &token)
                .finish();
            prop_assert_eq!(read(form.as_bytes()), Ok(token));
        }
    }
}
