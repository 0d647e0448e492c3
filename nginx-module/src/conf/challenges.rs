//! What a refused client is told in `WWW-Authenticate`, made once per location.

use phantom_token::gateway::challenge::Challenge;
use phantom_token::gateway::requirements::Policy;
use phantom_token::gateway::sender::algorithms;
use phantom_token::token::Scheme;

use super::SenderConfig;

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

    /// The code of this name; `invalid_token` stands for what is not known.
    pub fn of(name: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|code| code.as_str() == name)
            .unwrap_or(ErrorCode::InvalidToken)
    }

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

    pub(super) fn new(
        realm: &str,
        policy: Option<&Policy>,
        sender: &SenderConfig,
        resource_metadata: Option<&str>,
    ) -> Self {
        let nothing = Policy::default();
        let policy = policy.unwrap_or(&nothing);
        let algorithms = algorithms();
        let challenge = |scheme, error: Option<ErrorCode>| {
            let challenge = Challenge {
                realm: Some(realm),
                resource_metadata,
                algs: (scheme == Scheme::Dpop).then_some(&*algorithms),
                ..Challenge::new(scheme, error.map(ErrorCode::as_str), policy)
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
