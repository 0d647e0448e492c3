//! What a refused client is told in `WWW-Authenticate`, made once per location.

use std::fmt::Write as _;

use phantom_token::policy::Policy;
use phantom_token::token::Scheme;

use super::Sender;

struct Challenge<'a> {
    scheme: Scheme,
    realm: &'a str,
    error: Option<&'a str>,
    scope: Option<&'a str>,
    acr_values: Option<&'a str>,
    max_age: Option<std::time::Duration>,
}

impl Challenge<'_> {
    fn to_string(&self) -> String {
        let mut quoted = String::with_capacity(self.realm.len());
        for character in self.realm.chars() {
            // quoted-pair, RFC 9110 §5.6.4
            if matches!(character, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(character);
        }
        let mut text = format!("{} realm=\"{quoted}\"", self.scheme.as_str());
        if let Some(error) = self.error {
            let _ = write!(text, ", error=\"{error}\"");
        }
        if let Some(scope) = self.scope.filter(|scope| !scope.is_empty()) {
            let _ = write!(text, ", scope=\"{scope}\"");
        }
        if let Some(acr) = self.acr_values.filter(|acr| !acr.is_empty()) {
            let _ = write!(text, ", acr_values=\"{acr}\"");
        }
        if let Some(age) = self.max_age {
            let _ = write!(text, ", max_age=\"{}\"", age.as_secs());
        }
        text
    }
}

/// What is wrong with a token, in the words of the RFCs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// RFC 6750 §3.1
    InvalidRequest,
    /// RFC 6750 §3.1
    InvalidToken,
    /// RFC 6750 §3.1
    InsufficientScope,
    /// RFC 9470 §3
    InsufficientUserAuthentication,
    /// RFC 9449 §7.1
    InvalidDpopProof,
    /// RFC 9449 §9
    UseDpopNonce,
}

impl ErrorCode {
    const ALL: [ErrorCode; 6] = [
        ErrorCode::InvalidRequest,
        ErrorCode::InvalidToken,
        ErrorCode::InsufficientScope,
        ErrorCode::InsufficientUserAuthentication,
        ErrorCode::InvalidDpopProof,
        ErrorCode::UseDpopNonce,
    ];

    fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidRequest => "invalid_request",
            ErrorCode::InvalidToken => "invalid_token",
            ErrorCode::InsufficientScope => "insufficient_scope",
            ErrorCode::InsufficientUserAuthentication => "insufficient_user_authentication",
            ErrorCode::InvalidDpopProof => "invalid_dpop_proof",
            ErrorCode::UseDpopNonce => "use_dpop_nonce",
        }
    }
}

/// The values of `WWW-Authenticate`.
pub struct Challenges {
    /// There is no token: no error code (RFC 6750 §3.1).
    pub missing: Box<str>,
    /// By error code, of a token that came as a bearer token, and of one that came with a proof.
    refused: [[Box<str>; ErrorCode::ALL.len()]; 2],
}

impl Challenges {
    /// The challenge of a token that was presented in this way.
    pub fn refused(&self, scheme: Scheme, error: ErrorCode) -> &str {
        let by_error = &self.refused[usize::from(scheme == Scheme::Dpop)];
        ErrorCode::ALL
            .iter()
            .zip(by_error)
            .find(|(known, _)| **known == error)
            .map_or(&*self.missing, |(_, text)| text)
    }

    pub(super) fn new(realm: &str, policy: Option<&Policy>, sender: &Sender) -> Self {
        let nothing = Policy::default();
        let policy = policy.unwrap_or(&nothing);
        let challenge = |scheme, error: Option<ErrorCode>| {
            let with_scope = matches!(error, None | Some(ErrorCode::InsufficientScope));
            let step_up = error == Some(ErrorCode::InsufficientUserAuthentication);
            let challenge = Challenge {
                scheme,
                realm,
                error: error.map(ErrorCode::as_str),
                scope: with_scope.then(|| policy.scopes_advertised()),
                acr_values: step_up.then(|| policy.acr_values()),
                max_age: policy.max_age().filter(|_| step_up),
            };
            challenge.to_string().into_boxed_str()
        };
        let mut missing = challenge(Scheme::Bearer, None);
        if sender.advertises_dpop() {
            // Both in one field: it is a list (RFC 9110 §11.6.1).
            missing = format!("{missing}, {}", challenge(Scheme::Dpop, None)).into_boxed_str();
        }
        Challenges {
            missing,
            refused: [Scheme::Bearer, Scheme::Dpop]
                .map(|scheme| ErrorCode::ALL.map(|error| challenge(scheme, Some(error)))),
        }
    }
}
