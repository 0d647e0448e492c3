//! A purge request: the form that a host receives, in the format of a revocation request (RFC 7009 §2.1).
//!
//! `token=…` names the token to forget. `token_type_hint` is ignored: it helps authorization servers to search for a
//! token, and no search is needed here. `all=1` is our extension: it requests to forget all tokens of a provider.

use std::borrow::Cow;
use std::fmt;

use zeroize::Zeroizing;

/// The longest form that is read, in bytes.
pub const MAX_FORM_LENGTH: usize = 64 << 10;

/// A form while it is received. It is wiped when dropped.
#[derive(Default)]
pub struct Form(Zeroizing<Vec<u8>>);

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Form(..)")
    }
}

/// The target of a purge request.
pub enum Purge {
    /// This token. If the text can never be presented as a token, there is nothing to forget.
    Token(Zeroizing<String>),
    /// All tokens of the provider.
    All,
}

impl fmt::Debug for Purge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purge::Token(_) => "Token(..)",
            Purge::All => "All",
        })
    }
}

/// The headers of a request that show whether a web page of another site may have made it. Each is the header's value,
/// if there is one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origins<'a> {
    /// `Content-Type`
    pub content_type: Option<&'a [u8]>,
    /// `Sec-Fetch-Site`: the relation between the origin of the request and its target, set by browsers (Fetch
    /// Metadata).
    pub fetch_site: Option<&'a [u8]>,
    /// `Origin` (RFC 6454 §7)
    pub origin: Option<&'a [u8]>,
    /// `Host`
    pub host: Option<&'a [u8]>,
}

impl Origins<'_> {
    /// Decides whether a form may be read at all. A browser may be in a network that may purge, or hold credentials
    /// that may. It sends requests for pages of any site; requests of other sites are refused. A program that is not a
    /// browser sends neither `Sec-Fetch-Site` nor `Origin`.
    ///
    /// # Errors
    /// [`PurgeError::NotAForm`], [`PurgeError::CrossSite`].
    pub fn check(&self) -> Result<(), PurgeError> {
        let own = match (self.fetch_site, self.origin) {
            // Browsers set this header; a page can't set it.
            (Some(site), _) => matches!(site, b"same-origin" | b"none"),
            (None, Some(origin)) => self.is_own(origin),
            (None, None) => true,
        };
        if !own {
            return Err(PurgeError::CrossSite);
        }
        let media_type = self.content_type.unwrap_or_default();
        let media_type = media_type.split(|byte| *byte == b';').next();
        let is_form = media_type.is_some_and(|media_type| {
            media_type
                .trim_ascii()
                .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
        });
        if is_form {
            Ok(())
        } else {
            Err(PurgeError::NotAForm)
        }
    }

    /// Whether an origin is the origin of the request's target. The scheme is not compared: TLS may end before the
    /// host.
    fn is_own(&self, origin: &[u8]) -> bool {
        let authority = ["https://", "http://"]
            .iter()
            .find_map(|scheme| origin.strip_prefix(scheme.as_bytes()));
        matches!((authority, self.host), (Some(authority), Some(host))
            if !host.is_empty() && authority.eq_ignore_ascii_case(host))
    }
}

/// The error about an invalid purge request. Does not contain any value of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeError {
    /// The `Content-Type` is not `application/x-www-form-urlencoded`.
    NotAForm,
    /// A web page of another site made the request.
    CrossSite,
    /// The form is longer than [`MAX_FORM_LENGTH`].
    TooLong,
    /// The form has a percent sign without two hexadecimal digits after it.
    Malformed,
    /// The form has neither `token` nor `all`.
    Missing,
    /// `token` is empty.
    EmptyToken,
    /// `token` or `all` is repeated (RFC 6749 §3.2 allows each parameter once), or the form has both.
    Repeated,
    /// `all` has a value other than `1`.
    BadAll,
}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Sent as an `error_description`, so it must have neither quotes nor backslashes (RFC 6749 §5.2).
        f.write_str(match self {
            PurgeError::NotAForm => "send the form as application/x-www-form-urlencoded",
            PurgeError::CrossSite => "a page of another site cannot purge",
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

impl PurgeError {
    /// The HTTP status of the answer.
    pub fn http_status(self) -> u16 {
        match self {
            PurgeError::NotAForm => 415,
            PurgeError::CrossSite => 403,
            PurgeError::TooLong => 413,
            PurgeError::Malformed
            | PurgeError::Missing
            | PurgeError::EmptyToken
            | PurgeError::Repeated
            | PurgeError::BadAll => 400,
        }
    }
}

impl Form {
    /// An empty form, with memory for the expected `length` in bytes.
    pub fn with_capacity(length: usize) -> Self {
        Form(Zeroizing::new(Vec::with_capacity(
            length.min(MAX_FORM_LENGTH),
        )))
    }

    /// Appends received bytes.
    ///
    /// # Errors
    /// [`PurgeError::TooLong`] when the form would be too long. The form is unchanged then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), PurgeError> {
        let length = self.0.len() + bytes.len();
        if length > MAX_FORM_LENGTH {
            return Err(PurgeError::TooLong);
        }
        if length > self.0.capacity() {
            // A vector that reallocates would leave its old content in memory.
            let mut larger = Zeroizing::new(Vec::with_capacity(
                length.next_power_of_two().min(MAX_FORM_LENGTH),
            ));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// Parses the form. Unknown parameters are ignored, as RFC 6749 §3.2 requires.
    ///
    /// # Errors
    /// [`PurgeError`] when the form is not a valid purge request.
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
            // Wiped in any case.
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

/// Whether every percent sign begins an octet (RFC 3986 §2.1). A lenient parser keeps other percent signs unchanged,
/// and would forget a different token from the one that was meant.
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
    fn a_page_of_another_site_can_not_purge() {
        const FORM: &str = "application/x-www-form-urlencoded";
        let check = |kind: &str, site: &str, origin: &str| {
            let some = |text: &'static str| (!text.is_empty()).then_some(text.as_bytes());
            let leak = |text: &str| some(Box::leak(text.to_owned().into_boxed_str()));
            Origins {
                content_type: leak(kind),
                fetch_site: leak(site),
                origin: leak(origin),
                host: some("gateway.example:8443"),
            }
            .check()
        };
        for (site, origin) in [
            ("", ""),
            ("same-origin", "https://gateway.example:8443"),
            ("none", ""),
            ("same-origin", "https://behind.a.proxy"),
            ("", "https://gateway.example:8443"),
            ("", "http://Gateway.example:8443"),
        ] {
            assert_eq!(check(FORM, site, origin), Ok(()), "{site} {origin}");
        }
        for (site, origin) in [
            ("cross-site", ""),
            ("same-site", ""),
            ("cross-site", "https://gateway.example:8443"),
            ("other", ""),
            ("", "null"),
            ("", "https://gateway.example"),
            ("", "https://evil.example"),
            ("", "https://gateway.example:8443.evil.example"),
            ("", "gateway.example:8443"),
        ] {
            assert_eq!(
                check(FORM, site, origin),
                Err(PurgeError::CrossSite),
                "{site} {origin}"
            );
        }
        for kind in [
            "Application/X-WWW-Form-Urlencoded",
            "application/x-www-form-urlencoded ; charset=utf-8",
        ] {
            assert_eq!(check(kind, "", ""), Ok(()), "{kind}");
        }
        for kind in [
            "",
            "text/plain",
            "multipart/form-data; boundary=a",
            "application/json",
            "x-www-form-urlencoded",
        ] {
            assert_eq!(check(kind, "", ""), Err(PurgeError::NotAForm), "{kind}");
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
