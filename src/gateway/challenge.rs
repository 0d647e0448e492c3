//! The value of `WWW-Authenticate`. All code here is pure.
//!
//! A [`Challenge`] has the syntax of RFC 6750 §3, with the parameters of RFC 9728 §5.1 (`resource_metadata`), RFC 9470
//! §3 (`acr_values`, `max_age`) and RFC 9449 §7.1 (`algs`). For any input, the value is one challenge on one line: no
//! byte of a realm, a scope or a URL can end its quotes, or the header.
//!
//! ```
//! use phantom_token::gateway::challenge::Challenge;
//! use phantom_token::gateway::outcome::ErrorCode;
//! use phantom_token::gateway::requirements::TokenRequirements;
//! use phantom_token::token::Scheme;
//!
//! let mut requirements = TokenRequirements::default();
//! requirements.set("scopes", &["read", "write"])?;
//! let challenge = Challenge {
//!     realm: Some("api"),
//!     ..Challenge::new(Scheme::Bearer, Some(ErrorCode::InsufficientScope), &requirements)
//! };
//! assert_eq!(
//!     challenge.to_string(),
//!     r#"Bearer realm="api", error="insufficient_scope", scope="read write""#
//! );
//! # Ok::<(), phantom_token::gateway::requirements::PolicyError>(())
//! ```

use std::fmt::{self, Write};
use std::time::Duration;

use crate::gateway::outcome::ErrorCode;
use crate::gateway::requirements::TokenRequirements;
use crate::token::Scheme;

/// One challenge. A part that is `None` is left out. So is an empty text, except for the realm.
///
/// Several challenges may stand in one field, with commas between (RFC 9110 §11.6.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// The authentication scheme for the token.
    pub scheme: Scheme,
    /// The name of the protected resource (RFC 9110 §11.5).
    pub realm: Option<&'a str>,
    /// The error code; `None` when the request presented no token (RFC 6750 §3.1).
    pub error: Option<ErrorCode>,
    /// A sentence for the developers of the client.
    pub error_description: Option<&'a str>,
    /// The required scopes, separated by spaces.
    pub scope: Option<&'a str>,
    /// Authentication context classes, one of which is required, separated by spaces (RFC 9470 §3).
    pub acr_values: Option<&'a str>,
    /// The maximum age of the user's authentication, in whole seconds (RFC 9470 §3).
    pub max_age: Option<Duration>,
    /// The URL of the resource's metadata (RFC 9728 §5.1).
    pub resource_metadata: Option<&'a str>,
    /// The accepted signature algorithms for proofs, separated by spaces (RFC 9449 §7.1).
    pub algs: Option<&'a str>,
}

impl<'a> Challenge<'a> {
    /// The challenge for an error code, with the parameters that the requirements add to it. Scopes are added where
    /// they are insufficient or where no token was presented, requirements on the user's authentication where that is
    /// insufficient.
    pub fn new(
        scheme: Scheme,
        error: Option<ErrorCode>,
        requirements: &'a TokenRequirements,
    ) -> Self {
        let with_scope = matches!(error, None | Some(ErrorCode::InsufficientScope));
        let step_up = error == Some(ErrorCode::InsufficientUserAuthentication);
        Challenge {
            scheme,
            error,
            scope: with_scope.then(|| requirements.scopes_advertised()),
            acr_values: step_up.then(|| requirements.acr_values()),
            max_age: requirements.max_age().filter(|_| step_up),
            ..Challenge::default()
        }
    }
}

impl fmt::Display for Challenge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme.as_str())?;
        let mut separator = " ";
        let mut parameter = |name: &str, value: &dyn fmt::Display| {
            write!(f, "{separator}{name}=\"{value}\"")?;
            separator = ", ";
            Ok(())
        };
        if let Some(realm) = self.realm {
            parameter("realm", &Quoted(realm))?;
        }
        for (name, value) in [
            ("error", self.error.map(ErrorCode::as_str)),
            ("error_description", self.error_description),
            ("scope", self.scope),
            ("acr_values", self.acr_values),
        ] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                parameter(name, &Plain(value))?;
            }
        }
        if let Some(max_age) = self.max_age {
            parameter("max_age", &max_age.as_secs())?;
        }
        if let Some(url) = self.resource_metadata.filter(|url| !url.is_empty()) {
            parameter("resource_metadata", &Url(url))?;
        }
        if let Some(algs) = self.algs.filter(|algs| !algs.is_empty()) {
            parameter("algs", &Plain(algs))?;
        }
        Ok(())
    }
}

/// Text of a quoted string (RFC 9110 §5.6.4): quotes and backslashes are escaped with a backslash. A control character
/// becomes a space, since no quoting makes it safe.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '"' | '\\' => write!(f, "\\{character}"),
            character if character.is_control() => f.write_char(' '),
            character => f.write_char(character),
        })
    }
}

/// Text for which RFC 6750 §3 forbids quotes, backslashes and characters outside of ASCII, even if they are quoted.
/// Each of these is replaced.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '"' => f.write_char('\''),
            '\\' => f.write_char('/'),
            ' ' | '!'..='~' => f.write_char(character),
            character if character.is_control() => f.write_char(' '),
            _ => f.write_char('?'),
        })
    }
}

/// A URL in which characters that are not allowed are percent-encoded (RFC 3986 §2.1).
struct Url<'a>(&'a str);

impl fmt::Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'"' | b'\\' => write!(f, "%{byte:02X}"),
            byte if byte.is_ascii_graphic() => f.write_char(char::from(byte)),
            byte => write!(f, "%{byte:02X}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(parts: &[(&str, &[&str])]) -> TokenRequirements {
        let mut policy = TokenRequirements::default();
        for (key, values) in parts {
            policy.set(key, values).unwrap();
        }
        policy
    }

    #[test]
    fn a_client_without_a_token_is_told_where_it_is_and_what_is_needed_but_no_error() {
        let nothing = TokenRequirements::default();
        assert_eq!(Challenge::default().to_string(), "Bearer");
        assert_eq!(
            Challenge::new(Scheme::Dpop, None, &nothing).to_string(),
            "DPoP"
        );
        let policy = policy(&[
            ("scopes", &["read", "write"]),
            ("scopes", &["admin"]),
            ("acr", &["gold"]),
            ("max_age", &["5m"]),
        ]);
        let challenge = Challenge {
            realm: Some("api"),
            resource_metadata: Some("https://api.example.com/.well-known/oauth-protected-resource"),
            ..Challenge::new(Scheme::Bearer, None, &policy)
        };
        assert_eq!(
            challenge.to_string(),
            "Bearer realm=\"api\", scope=\"read write\", \
             resource_metadata=\"https://api.example.com/.well-known/oauth-protected-resource\""
        );
    }

    #[test]
    fn each_error_says_what_would_mend_it() {
        let policy = policy(&[
            ("scope", &["read"]),
            ("acr", &["gold", "urn:mace:silver"]),
            ("max_age", &["5m"]),
        ]);
        for (error, text) in [
            (
                ErrorCode::InvalidRequest,
                r#"Bearer error="invalid_request""#,
            ),
            (ErrorCode::InvalidToken, r#"Bearer error="invalid_token""#),
            (
                ErrorCode::InsufficientScope,
                r#"Bearer error="insufficient_scope", scope="read""#,
            ),
            (
                ErrorCode::InsufficientUserAuthentication,
                r#"Bearer error="insufficient_user_authentication", acr_values="gold urn:mace:silver", max_age="300""#,
            ),
        ] {
            assert_eq!(
                Challenge::new(Scheme::Bearer, Some(error), &policy).to_string(),
                text
            );
        }
        let proof = Challenge {
            error_description: Some("The proof is too old"),
            algs: Some("ES256 EdDSA"),
            ..Challenge::new(Scheme::Dpop, Some(ErrorCode::InvalidDpopProof), &policy)
        };
        assert_eq!(
            proof.to_string(),
            r#"DPoP error="invalid_dpop_proof", error_description="The proof is too old", algs="ES256 EdDSA""#
        );
    }

    #[test]
    fn what_is_empty_is_left_out_but_for_a_realm() {
        let challenge = Challenge {
            realm: Some(""),
            error_description: Some(""),
            scope: Some(""),
            acr_values: Some(""),
            resource_metadata: Some(""),
            algs: Some(""),
            ..Challenge::default()
        };
        assert_eq!(challenge.to_string(), r#"Bearer realm="""#);
    }

    #[test]
    fn nothing_gets_out_of_its_quotes() {
        let evil = "a\"b\\c\r\nX: 1\0\u{7f}\u{85}é";
        let challenge = Challenge {
            realm: Some(evil),
            error_description: Some(evil),
            resource_metadata: Some(evil),
            ..Challenge::default()
        };
        assert_eq!(
            challenge.to_string(),
            "Bearer realm=\"a\\\"b\\\\c  X: 1   é\", error_description=\"a'b/c  X: 1   ?\", \
             resource_metadata=\"a%22b%5Cc%0D%0AX:%201%00%7F%C2%85%C3%A9\""
        );
    }

    /// The parameters, parsed as a client does (RFC 9110 §11.2); `None` when they are not a valid list.
    fn read(challenge: &str) -> Option<Vec<(String, String)>> {
        let mut parameters = Vec::new();
        let mut rest = challenge
            .strip_prefix("Bearer")
            .or(challenge.strip_prefix("DPoP"))?;
        while !rest.is_empty() {
            rest = rest.strip_prefix(if parameters.is_empty() { " " } else { ", " })?;
            let (name, quoted) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut characters = quoted.chars();
            loop {
                match characters.next()? {
                    '"' => break,
                    '\\' => value.push(characters.next()?),
                    character => value.push(character),
                }
            }
            rest = characters.as_str();
            parameters.push((name.to_owned(), value));
        }
        Some(parameters)
    }

    proptest! {
        #[test]
        fn whatever_is_put_in_a_client_reads_as_many_parameters_on_one_line(
            texts in proptest::collection::vec(proptest::option::of(any::<String>()), 6),
            error in proptest::option::of(proptest::sample::select(ErrorCode::ALL)),
            max_age in proptest::option::of(any::<Duration>()),
        ) {
            let [realm, error_description, scope, acr_values, resource_metadata, algs] =
                std::array::from_fn(|at| texts[at].as_deref());
            let challenge = Challenge {
                scheme: Scheme::Dpop,
                realm, error, error_description, scope, acr_values, max_age, resource_metadata, algs,
            };
            let text = challenge.to_string();
            prop_assert!(!text.contains(char::is_control), "{:?}", text);
            prop_assert!(http::HeaderValue::from_bytes(text.as_bytes()).is_ok());
            let read = read(&text);
            prop_assert!(read.is_some(), "{}", text);
            let expected: Vec<_> = [
                ("realm", realm.is_some()),
                ("error", error.is_some()),
                ("error_description", error_description.is_some_and(|text| !text.is_empty())),
                ("scope", scope.is_some_and(|text| !text.is_empty())),
                ("acr_values", acr_values.is_some_and(|text| !text.is_empty())),
                ("max_age", max_age.is_some()),
                ("resource_metadata", resource_metadata.is_some_and(|text| !text.is_empty())),
                ("algs", algs.is_some_and(|text| !text.is_empty())),
            ]
            .into_iter()
            .filter_map(|(name, there)| there.then_some(name))
            .collect();
            let read = read.unwrap_or_default();
            prop_assert_eq!(read.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn a_realm_of_any_printable_text_is_read_back(realm in "\\PC{0,40}") {
            let challenge = Challenge { realm: Some(&realm), ..Challenge::default() };
            prop_assert_eq!(read(&challenge.to_string()), Some(vec![("realm".to_owned(), realm)]));
        }
    }
}
