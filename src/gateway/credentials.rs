//! The access token that a request presents, and the places where it may be (RFC 6750 §2).
//!
//! ```
//! use phantom_token::gateway::credentials::{Credentials, Source};
//! use phantom_token::gateway::outcome::Malformation;
//!
//! let sources = Source::parse("source", &["authorization", "cookie", "session"]).unwrap();
//! let headers = [(&b"Cookie"[..], &b"theme=dark; session=8f3c0a"[..])];
//! let decoded = Default::default();
//! let presented = Credentials::read(&sources, headers.into_iter(), b"/orders", &decoded);
//! assert_eq!(presented.token().unwrap().unwrap().expose(), "8f3c0a");
//!
//! // A second token makes the request malformed, wherever it is.
//! let both = [headers[0], (b"Authorization", b"Bearer 77e1b2")];
//! let presented = Credentials::read(&sources, both.into_iter(), b"/orders", &decoded);
//! assert_eq!(presented.token().err(), Some(Malformation::Several));
//! ```

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use super::outcome::Malformation;
use super::requirements::PolicyError;
use super::source::{Form, decode, trim, values, without};
use crate::Token;
use crate::token::{self, Scheme};

/// A header of a request: its name and its value.
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// A place where a request may present its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `Authorization`, with its scheme.
    Authorization,
    /// A header that holds only the token.
    Header(Box<str>),
    /// The cookie of this name.
    Cookie(Box<str>),
    /// The query parameter of this name.
    Query(Box<str>),
}

impl Source {
    /// Parses a list of sources: `authorization`, `header NAME`, `cookie NAME`, `query NAME`, in any number. `setting`
    /// is the name of the setting in messages.
    ///
    /// # Errors
    /// [`PolicyError`] for anything else, for a place that is named twice, and for a name that is invalid or reserved.
    pub fn parse(setting: &str, words: &[&str]) -> Result<Vec<Source>, PolicyError> {
        let mut sources = Vec::new();
        Source::parse_into(&mut sources, setting, words)?;
        Ok(sources)
    }

    /// [`Source::parse`], for a list that is set in several parts. After an error the list is unchanged.
    ///
    /// # Errors
    /// As [`Source::parse`].
    pub fn parse_into(
        known: &mut Vec<Source>,
        setting: &str,
        words: &[&str],
    ) -> Result<(), PolicyError> {
        let mut sources = known.clone();
        let mut rest = words;
        while let [kind, after @ ..] = rest {
            let source = match (*kind, after) {
                ("authorization", _) => {
                    rest = after;
                    Source::Authorization
                }
                ("header" | "cookie" | "query", [name, after @ ..]) => {
                    rest = after;
                    match *kind {
                        "header" => Source::Header(header_name(setting, name)?.into()),
                        "cookie" => Source::Cookie(cookie_name(setting, name)?.into()),
                        _ => Source::Query(parameter_name(setting, name)?.into()),
                    }
                }
                ("header" | "cookie" | "query", []) => {
                    return Err(PolicyError::plain(format!(
                        "\"{setting}\" needs a name after \"{kind}\", such as \"{kind} access_token\""
                    )));
                }
                _ => {
                    return Err(PolicyError::plain(format!(
                        "invalid value \"{kind}\" in \"{setting}\": it is authorization, header NAME, cookie NAME or \
                         query NAME"
                    )));
                }
            };
            if sources.iter().any(|known| known.is_same(&source)) {
                return Err(PolicyError::plain(format!(
                    "\"{setting}\" names one place twice: remove one of them"
                )));
            }
            sources.push(source);
        }
        if sources.is_empty() {
            return Err(PolicyError::plain(format!(
                "\"{setting}\" needs a place: authorization, header NAME, cookie NAME or query NAME"
            )));
        }
        *known = sources;
        Ok(())
    }

    fn is_same(&self, other: &Source) -> bool {
        match (self, other) {
            (Source::Header(one), Source::Header(other)) => {
                is_same_name(one.as_bytes(), other.as_bytes())
            }
            _ => self == other,
        }
    }

    /// The malformation of a request that has something other than a token in this place.
    fn malformation(&self) -> Malformation {
        match self {
            Source::Authorization => Malformation::Authorization,
            Source::Header(_) => Malformation::Header,
            Source::Cookie(_) => Malformation::Cookie,
            Source::Query(_) => Malformation::Query,
        }
    }
}

/// The credentials of a request: the token in the places where it may be. Empty by default.
///
/// Read by [`Credentials::read`], or built place by place by a host that has its own lists of headers.
// This type is small, because a host that decides several times about a request copies it each time.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// The first token.
    token: Option<Token<'a>>,
    /// The scheme of the first token.
    scheme: Scheme,
    malformation: Option<Malformation>,
    /// The number of places that hold something; numbers above 255 count as 255.
    places: u8,
    in_query: bool,
}

const _: () = assert!(size_of::<Credentials>() <= 24);

impl<'a> Credentials<'a> {
    /// Reads all sources of a request. `target` is its path and query. `decoded` stores a token that is percent-encoded
    /// in the query. Nothing else is allocated.
    pub fn read(
        sources: &[Source],
        headers: impl Iterator<Item = Field<'a>> + Clone,
        target: &'a [u8],
        decoded: &'a OnceCell<Vec<u8>>,
    ) -> Self {
        let mut credentials = Credentials::default();
        for source in sources {
            let headers = headers.clone();
            match source {
                Source::Authorization => credentials.add_authorization(
                    headers
                        .filter(|(name, _)| name.eq_ignore_ascii_case(b"authorization"))
                        .map(|(_, value)| value),
                ),
                Source::Header(wanted) => credentials.add(
                    source,
                    headers
                        .filter(|(name, _)| is_same_name(name, wanted.as_bytes()))
                        .map(|(_, value)| Some(trim(value))),
                ),
                Source::Cookie(wanted) => credentials.add(
                    source,
                    headers
                        .filter(|(name, _)| is_cookie(name))
                        .flat_map(|(_, value)| values(Form::Cookie, value, wanted.as_bytes()))
                        .map(Some),
                ),
                Source::Query(wanted) => credentials.add(
                    source,
                    values(Form::Query, query(target), wanted.as_bytes()).map(|value| {
                        match decode(Form::Query, value)? {
                            Cow::Borrowed(value) => Some(value),
                            // A second token is an error, whatever its value.
                            Cow::Owned(value) => Some(decoded.get_or_init(|| value).as_slice()),
                        }
                    }),
                ),
            }
        }
        credentials
    }

    /// Adds the values of `Authorization`, one for each field.
    pub fn add_authorization(&mut self, mut values: impl Iterator<Item = &'a [u8]>) {
        let Some(value) = values.next() else {
            return;
        };
        if values.next().is_some() {
            self.places = self.places.saturating_add(2);
            return;
        }
        match token::Credentials::from_authorization(value) {
            token::Credentials::Missing => return,
            token::Credentials::Malformed => self.blame(Malformation::Authorization),
            token::Credentials::Token(scheme, token) => self.keep(scheme, token),
        }
        self.places = self.places.saturating_add(1);
    }

    /// Adds the values of another place, decoded; `None` for a value that can't be decoded. A single empty value counts
    /// as absent.
    pub fn add(&mut self, source: &Source, values: impl IntoIterator<Item = Option<&'a [u8]>>) {
        let mut values = values.into_iter();
        let Some(value) = values.next() else {
            return;
        };
        self.in_query |= matches!(source, Source::Query(_));
        let more = values.count();
        if more == 0 && value.is_some_and(<[u8]>::is_empty) {
            return;
        }
        let places = u8::try_from(more).unwrap_or(u8::MAX).saturating_add(1);
        self.places = self.places.saturating_add(places);
        match value.map(Token::parse) {
            Some(Ok(token)) => self.keep(Scheme::Bearer, token),
            _ => self.blame(source.malformation()),
        }
    }

    fn keep(&mut self, scheme: Scheme, token: Token<'a>) {
        if self.token.is_none() {
            (self.scheme, self.token) = (scheme, Some(token));
        }
    }

    fn blame(&mut self, malformation: Malformation) {
        self.malformation.get_or_insert(malformation);
    }

    /// The token; `None` if there is none.
    ///
    /// # Errors
    /// [`Malformation`] when the request presents something that is not a token, or several tokens.
    pub fn token(&self) -> Result<Option<Token<'a>>, Malformation> {
        if self.places > 1 {
            // This error says more than that one of them is not a token.
            return Err(Malformation::Several);
        }
        match self.malformation {
            Some(malformation) => Err(malformation),
            None => Ok(self.token),
        }
    }

    /// The first token, whatever else the request presents: for messages, and for code that must remove the token.
    pub fn first_token(&self) -> Option<Token<'a>> {
        self.token
    }

    /// The scheme of the token.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The number of places that hold something.
    pub fn places(&self) -> u8 {
        self.places
    }

    /// Whether the query held something: then caches must not store the answer (RFC 6750 §2.3).
    pub fn is_in_query(&self) -> bool {
        self.in_query
    }
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value holds the token.
        f.write_str("Credentials(..)")
    }
}

/// A `Cookie` header, or all of them as one, without the cookies that are sources. `None` if there is nothing to
/// remove.
pub(super) fn cookies_without<'a>(
    sources: &[Source],
    cookies: impl Iterator<Item = &'a [u8]> + Clone,
) -> Option<Vec<u8>> {
    let names = || {
        sources.iter().filter_map(|source| match source {
            Source::Cookie(name) => Some(name.as_bytes()),
            _ => None,
        })
    };
    let is_held = |name| {
        let mut cookies = cookies.clone();
        cookies.any(|cookies| values(Form::Cookie, cookies, name).next().is_some())
    };
    if !names().any(is_held) {
        return None;
    }
    let mut rest = cookies.collect::<Vec<_>>().join(&b"; "[..]);
    for name in names() {
        let mut left = Vec::with_capacity(2 * rest.len());
        without(Form::Cookie, &rest, name, &mut |piece| {
            left.extend_from_slice(piece);
        });
        rest = left;
    }
    Some(rest)
}

/// A target without the parameters that are sources, and without its fragment. `None` if there is nothing to remove.
pub(super) fn target_without(sources: &[Source], target: &[u8]) -> Option<Vec<u8>> {
    let mut left: Option<Vec<u8>> = None;
    for source in sources {
        let Source::Query(name) = source else {
            continue;
        };
        let now = left.as_deref().unwrap_or(target);
        let query = query(now);
        if values(Form::Query, query, name.as_bytes()).next().is_none() {
            continue;
        }
        let path = now.iter().position(|byte| *byte == b'?').unwrap_or(0);
        let mut rest = now[..=path].to_vec();
        without(Form::Query, query, name.as_bytes(), &mut |piece| {
            rest.extend_from_slice(piece);
        });
        if rest.len() == path + 1 {
            rest.pop();
        }
        left = Some(rest);
    }
    left
}

/// The query of a target, without the fragment.
fn query(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| *byte == b'#');
    let target = &target[..end.unwrap_or(target.len())];
    match target.iter().position(|byte| *byte == b'?') {
        Some(at) => &target[at + 1..],
        None => &[],
    }
}

/// Whether this is the name of the `Cookie` header, as an application may read it.
pub fn is_cookie(name: &[u8]) -> bool {
    is_same_name(name, b"cookie")
}

/// Whether two header names differ only in case and punctuation. CGI does not distinguish `-` and `_` (RFC 3875
/// §4.1.18). Applications that receive `HTTP_…` replace any byte that is neither letter nor digit by `_`; PHP, for
/// example, replaces the dot.
pub fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let plain = |byte: &u8| match byte {
        byte if byte.is_ascii_alphanumeric() => byte.to_ascii_lowercase(),
        _ => b'-',
    };
    one.iter().map(plain).eq(other.iter().map(plain))
}

/// Reserved header names, which the gateway must neither read nor set: headers of the connection or of the message, and
/// headers that a proxy itself acts upon. `-` at the end stands for any suffix.
const RESERVED: [&str; 30] = [
    "Host",
    "Connection",
    "Content-",
    "Transfer-Encoding",
    "TE",
    "Trailer",
    "Upgrade",
    "Keep-Alive",
    "Proxy-",
    "Expect",
    "Cookie",
    "DPoP",
    "If-",
    "Range",
    "User-Agent",
    "Referer",
    "Via",
    "Accept",
    "Accept-",
    "X-Forwarded-For",
    "X-Real-IP",
    "Depth",
    "Destination",
    "Overwrite",
    "Date",
    "Origin",
    "Access-Control-",
    "HTTP2-Settings",
    "Max-Forwards",
    "Sec-WebSocket-",
];

/// Checks the name of a header (RFC 9110 §5.1) that may hold a token, or carry the JWT upstream. `setting` is the name
/// of the setting in messages.
///
/// # Errors
/// [`PolicyError`] for an invalid name, for `Authorization`, which is a source of its own, and for a reserved header.
pub fn header_name<'n>(setting: &str, name: &'n str) -> Result<&'n str, PolicyError> {
    if !is_name(name) {
        return Err(PolicyError::plain(format!(
            "\"{name}\" in \"{setting}\" is no name of a header"
        )));
    }
    if is_same_name(name.as_bytes(), b"authorization") {
        return Err(PolicyError::plain(format!(
            "write \"authorization\" instead of \"header {name}\" in \"{setting}\""
        )));
    }
    let is_reserved = RESERVED.iter().any(|reserved| {
        let reserved = reserved.as_bytes();
        match reserved.strip_suffix(b"-") {
            Some(start) => name
                .as_bytes()
                .get(..=start.len())
                .is_some_and(|beginning| is_same_name(beginning, reserved)),
            None => is_same_name(name.as_bytes(), reserved),
        }
    });
    if is_reserved {
        return Err(PolicyError::plain(format!(
            "\"{setting}\" cannot have \"{name}\", which has a meaning of its own: choose another header, such as X-Token"
        )));
    }
    Ok(name)
}

/// Checks the name of a cookie (RFC 6265 §4.1.1).
fn cookie_name<'n>(setting: &str, name: &'n str) -> Result<&'n str, PolicyError> {
    if is_name(name) {
        return Ok(name);
    }
    Err(PolicyError::plain(format!(
        "\"{name}\" in \"{setting}\" is no name of a cookie"
    )))
}

/// Checks the name of a query parameter in its decoded form.
fn parameter_name<'n>(setting: &str, name: &'n str) -> Result<&'n str, PolicyError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if !name.is_empty() && name.bytes().all(is_plain) {
        return Ok(name);
    }
    Err(PolicyError::plain(format!(
        "\"{name}\" in \"{setting}\" is no name of a parameter: use letters, digits and - . _ ~"
    )))
}

/// Whether a text is a `token` of RFC 9110 §5.6.2.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYWHERE: [&str; 7] = [
        "authorization",
        "header",
        "X-Token",
        "cookie",
        "session",
        "query",
        "access_token",
    ];

    /// The credentials of a request with all sources: the token, nothing (`-`), or the malformation.
    fn presented(headers: &[(&str, &str)], target: &str) -> String {
        let sources = Source::parse("source", &EVERYWHERE).unwrap();
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let decoded = OnceCell::new();
        match Credentials::read(&sources, headers, target.as_bytes(), &decoded).token() {
            Ok(None) => "-".to_owned(),
            Ok(Some(token)) => token.expose().to_owned(),
            Err(malformation) => malformation.as_str().to_owned(),
        }
    }

    #[test]
    fn a_token_is_found_in_each_place() {
        for (headers, target, expected) in [
            (&[][..], "/", "-"),
            (&[("authorization", "Bearer abc")], "/", "abc"),
            (&[("Authorization", "dpop abc")], "/", "abc"),
            (&[("Authorization", "Basic YTpi")], "/", "-"),
            (&[("x_token", " abc ")], "/", "abc"),
            (&[("Cookie", "a=b; session=\"abc\"")], "/", "abc"),
            (&[("Cookie", "a=b"), ("cookie", "session=abc")], "/", "abc"),
            (&[], "/?a=b&access_token=abc#x", "abc"),
            (&[], "/?access_token=a%62c", "abc"),
            (&[], "/#?access_token=abc", "-"),
            (&[("X-Token", "")], "/?access_token=", "-"),
            (
                &[("Authorization", "Basic YTpi"), ("X-Token", "abc")],
                "/",
                "abc",
            ),
        ] {
            assert_eq!(presented(headers, target), expected, "{headers:?} {target}");
        }
    }

    #[test]
    fn what_is_no_token_is_named_by_its_place() {
        for (headers, target, expected) in [
            (&[("Authorization", "Bearer")][..], "/", "token"),
            (&[("Authorization", "Bearer a b")], "/", "token"),
            (&[("X-Token", "a b")], "/", "header"),
            (&[("Cookie", "session=a,b")], "/", "cookie"),
            (&[], "/?access_token=a%20b", "query"),
            (&[], "/?access_token=%", "query"),
        ] {
            assert_eq!(presented(headers, target), expected, "{headers:?} {target}");
        }
    }

    #[test]
    fn more_than_one_token_is_malformed_wherever_they_are() {
        for (headers, target) in [
            (
                &[("Authorization", "Bearer a"), ("authorization", "Bearer a")][..],
                "/",
            ),
            (
                &[
                    ("Authorization", "Basic YTpi"),
                    ("authorization", "Basic YTpi"),
                ],
                "/",
            ),
            (&[("Authorization", "Bearer a"), ("X-Token", "b")], "/"),
            (&[("Authorization", "Bearer"), ("X-Token", "a b")], "/"),
            (&[("X-Token", "a"), ("X_Token", "a")], "/"),
            (&[("X-Token", ""), ("X_Token", "a")], "/"),
            (&[("Cookie", "session=a; session=b")], "/"),
            (&[("Cookie", "session=a"), ("Cookie", "session=a")], "/"),
            (&[], "/?access_token=a&access_token="),
            (&[("X-Token", "a")], "/?access_token=a"),
        ] {
            assert_eq!(
                presented(headers, target),
                "several",
                "{headers:?} {target}"
            );
        }
    }

    #[test]
    fn what_holds_the_token_is_taken_out_and_the_rest_is_left() {
        let sources = Source::parse("source", &EVERYWHERE).unwrap();
        for (target, left) in [
            ("/a?b", None),
            ("/a?access_token=x", Some("/a")),
            ("/a?b&access_token=x&c#d", Some("/a?b&c")),
            ("/a?b#access_token=x", None),
        ] {
            let found = target_without(&sources, target.as_bytes());
            assert_eq!(found.as_deref(), left.map(str::as_bytes), "{target}");
        }
        for (cookies, left) in [
            (&["a=b"][..], None),
            (&["session=x"], Some("")),
            (&["a=b; session=x", "c=d"], Some("a=b; c=d")),
        ] {
            let cookies = cookies.iter().map(|text| text.as_bytes());
            let found = cookies_without(&sources, cookies);
            assert_eq!(found.as_deref(), left.map(str::as_bytes));
        }
    }

    #[test]
    fn a_source_that_cannot_be_is_refused_with_the_fix() {
        for (words, message) in [
            (
                &[][..],
                r#""source" needs a place: authorization, header NAME, cookie NAME or query NAME"#,
            ),
            (
                &["body"],
                r#"invalid value "body" in "source": it is authorization, header NAME, cookie NAME or query NAME"#,
            ),
            (
                &["cookie"],
                r#""source" needs a name after "cookie", such as "cookie access_token""#,
            ),
            (
                &["header", "X-A", "header", "x_a"],
                r#""source" names one place twice: remove one of them"#,
            ),
            (
                &["header", "a b"],
                r#""a b" in "source" is no name of a header"#,
            ),
            (
                &["header", "Authorization"],
                r#"write "authorization" instead of "header Authorization" in "source""#,
            ),
            (
                &["header", "content_type"],
                r#""source" cannot have "content_type", which has a meaning of its own: choose another header, such as X-Token"#,
            ),
            (
                &["cookie", "a=b"],
                r#""a=b" in "source" is no name of a cookie"#,
            ),
            (
                &["query", "a b"],
                r#""a b" in "source" is no name of a parameter: use letters, digits and - . _ ~"#,
            ),
        ] {
            let error = Source::parse("source", words).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let mut credentials = Credentials::default();
        credentials.add_authorization([&b"Bearer abc"[..]].into_iter());
        assert_eq!(format!("{credentials:?}"), "Credentials(..)");
    }
}
