//! The vocabulary of decisions: [`Outcome`] for logs and metrics, [`ErrorCode`] for clients, [`DenialReason`] for the
//! rest of the gateway.

use std::time::Duration;

use strum::{IntoStaticStr, VariantArray, VariantNames};

use crate::ErrorKind;
use crate::gateway::requirements::{RequirementKind, UnmetRequirement};
use crate::gateway::sender::SenderError;

/// The result of a request, in one word for logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// The token is accepted, and the request goes on with the JWT.
    Ok,
    /// The request presents no access token.
    Missing,
    /// The request presents a malformed access token, or several access tokens.
    Malformed,
    /// The token is not active.
    Inactive,
    /// The token is active, and meant for another audience, issuer or provider.
    Invalid,
    /// The token is bound to a key, and the request does not show that its sender has that key.
    Unproven,
    /// The user must be authenticated again or in another way (RFC 9470).
    StepUp,
    /// The token lacks a scope, or its client or one of its claims is not accepted here.
    Forbidden,
    /// There is no verdict on the token, or the request could not be processed.
    Unavailable,
}

impl Outcome {
    /// Every outcome, in the order in which they are counted.
    pub const ALL: &'static [Outcome] = <Outcome as VariantArray>::VARIANTS;

    /// The words of all outcomes, in the same order.
    pub const WORDS: &'static [&'static str] = <Outcome as VariantNames>::VARIANTS;

    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The `error` of a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
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
    /// Every code.
    pub const ALL: &'static [ErrorCode] = ErrorCode::VARIANTS;

    /// The code as a challenge has it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The reason why the access token of a request can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Malformation {
    /// It presents more than one (RFC 6750 §2).
    Several,
    /// `Authorization` has a supported scheme, and no token after it.
    #[strum(serialize = "token")]
    Authorization,
    /// The header for the token holds something else.
    Header,
    /// The cookie for the token holds something else.
    Cookie,
    /// The query parameter for the token holds something else.
    Query,
}

impl Malformation {
    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The reason why a request is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DenialReason<'p> {
    /// The request presents no access token.
    Missing,
    /// The request presents something that is not an access token.
    Malformed(Malformation),
    /// The token is not active.
    Inactive,
    /// The request selects none of the authorization servers that may be used.
    Provider,
    /// The sender of the request is not shown to be the owner of the token.
    Sender(SenderError),
    /// The token does not meet a requirement.
    Requirement(UnmetRequirement<'p>),
    /// There is no verdict.
    Unavailable {
        /// The kind of failure.
        kind: ErrorKind,
        /// When trying again may help, if that is known.
        retry_after: Option<Duration>,
    },
    /// The host could not process the request, most likely because memory was exhausted.
    Failed,
}

impl<'p> DenialReason<'p> {
    /// The outcome that is logged and counted.
    pub fn outcome(self) -> Outcome {
        match self {
            DenialReason::Missing => Outcome::Missing,
            DenialReason::Malformed(_) | DenialReason::Sender(SenderError::Host) => {
                Outcome::Malformed
            }
            DenialReason::Inactive => Outcome::Inactive,
            DenialReason::Provider => Outcome::Invalid,
            // Without an error code the client is not at fault.
            DenialReason::Sender(error) if error.error().is_none() => Outcome::Unavailable,
            DenialReason::Sender(_) => Outcome::Unproven,
            DenialReason::Requirement(unmet) => match unmet.kind {
                RequirementKind::Audience | RequirementKind::Issuer => Outcome::Invalid,
                RequirementKind::Acr | RequirementKind::MaxAge => Outcome::StepUp,
                RequirementKind::Scope | RequirementKind::Client | RequirementKind::Claim => {
                    Outcome::Forbidden
                }
            },
            DenialReason::Unavailable { .. } | DenialReason::Failed => Outcome::Unavailable,
        }
    }

    /// Details of the outcome for logs, as one word of printable ASCII: `scope:write`, `proof_htu`, `several`,
    /// `timeout`; empty where the outcome says everything.
    pub fn detail(self) -> &'p str {
        match self {
            DenialReason::Missing | DenialReason::Inactive => "",
            DenialReason::Malformed(malformation) => malformation.as_str(),
            DenialReason::Provider => "provider",
            DenialReason::Sender(error) => error.reason(),
            DenialReason::Requirement(unmet) => unmet.reason,
            DenialReason::Unavailable { kind, .. } => kind.as_str(),
            DenialReason::Failed => "failed",
        }
    }

    /// The status of the answer (RFC 9110 §15).
    pub fn http_status(self) -> u16 {
        match self {
            DenialReason::Malformed(_) => 400,
            DenialReason::Missing | DenialReason::Inactive | DenialReason::Provider => 401,
            DenialReason::Sender(error) => error.http_status(),
            DenialReason::Requirement(unmet) => unmet.kind.http_status(),
            DenialReason::Unavailable { kind, .. } => kind.http_status(),
            DenialReason::Failed => 500,
        }
    }

    /// The `error` of the challenge; `None` where no token was presented (RFC 6750 §3.1), or where the client is not at
    /// fault.
    pub fn error(self) -> Option<ErrorCode> {
        match self {
            DenialReason::Malformed(_) => Some(ErrorCode::InvalidRequest),
            DenialReason::Inactive | DenialReason::Provider => Some(ErrorCode::InvalidToken),
            DenialReason::Sender(error) => error.error(),
            DenialReason::Requirement(unmet) => Some(unmet.kind.error()),
            DenialReason::Missing | DenialReason::Unavailable { .. } | DenialReason::Failed => None,
        }
    }

    /// The body of the answer, as JSON. Code and message are the same as those of other gateways for the phantom token
    /// pattern.
    pub fn body(self) -> &'static str {
        match (self, self.outcome()) {
            (DenialReason::Malformed(Malformation::Several), _) => {
                r#"{"code":"invalid_request","message":"The request presents more than one access token"}"#
            }
            (DenialReason::Malformed(Malformation::Authorization), _) => {
                r#"{"code":"invalid_request","message":"The Authorization header is malformed"}"#
            }
            (DenialReason::Malformed(_), _) => {
                r#"{"code":"invalid_request","message":"The access token is malformed"}"#
            }
            (_, Outcome::Malformed) => {
                r#"{"code":"invalid_request","message":"The request names no valid host"}"#
            }
            (_, Outcome::Missing) => {
                r#"{"code":"unauthorized_request","message":"Access denied due to missing bearer token"}"#
            }
            (_, Outcome::Inactive) => {
                r#"{"code":"unauthorized_request","message":"Access denied due to an invalid or expired token"}"#
            }
            (_, Outcome::Invalid) => {
                r#"{"code":"unauthorized_request","message":"Access denied: the token is not for here"}"#
            }
            (_, Outcome::Unproven) => {
                r#"{"code":"unauthorized_request","message":"Access denied: the request does not show that the token is its sender's"}"#
            }
            (_, Outcome::StepUp) => {
                r#"{"code":"insufficient_user_authentication","message":"The user must be authenticated anew or in another way"}"#
            }
            (_, Outcome::Forbidden) => {
                r#"{"code":"insufficient_scope","message":"The token lacks a scope that is required here"}"#
            }
            (_, Outcome::Ok | Outcome::Unavailable) => match self.http_status() {
                502 => {
                    r#"{"code":"server_error","message":"The token could not be verified: the authorization server cannot be used"}"#
                }
                503 => {
                    r#"{"code":"server_error","message":"The token could not be verified now: try again later"}"#
                }
                504 => {
                    r#"{"code":"server_error","message":"The token could not be verified in time"}"#
                }
                _ => r#"{"code":"server_error","message":"The request could not be processed"}"#,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_and_codes_have_the_words_of_logs_and_rfcs() {
        let outcomes: Vec<_> = Outcome::ALL.iter().map(|one| one.as_str()).collect();
        assert_eq!(outcomes, Outcome::WORDS);
        assert_eq!(
            outcomes,
            [
                "ok",
                "missing",
                "malformed",
                "inactive",
                "invalid",
                "unproven",
                "step_up",
                "forbidden",
                "unavailable"
            ]
        );
        let codes: Vec<_> = ErrorCode::ALL.iter().map(|one| one.as_str()).collect();
        assert_eq!(
            codes,
            [
                "invalid_request",
                "invalid_token",
                "insufficient_scope",
                "insufficient_user_authentication",
                "invalid_dpop_proof",
                "use_dpop_nonce"
            ]
        );
        let malformations: Vec<_> = Malformation::VARIANTS
            .iter()
            .map(|one| one.as_str())
            .collect();
        assert_eq!(
            malformations,
            ["several", "token", "header", "cookie", "query"]
        );
    }

    #[test]
    fn only_a_client_that_is_at_fault_is_given_a_code() {
        let failures = ErrorKind::ALL.iter().map(|kind| DenialReason::Unavailable {
            kind: *kind,
            retry_after: None,
        });
        for reason in failures.chain([DenialReason::Failed]) {
            assert_eq!(reason.outcome(), Outcome::Unavailable);
            assert_eq!(reason.error(), None);
            assert!((500..505).contains(&reason.http_status()));
        }
        for reason in [
            DenialReason::Malformed(Malformation::Several),
            DenialReason::Sender(SenderError::Host),
            DenialReason::Inactive,
            DenialReason::Provider,
        ] {
            assert!(reason.error().is_some(), "{reason:?}");
            assert!([400, 401].contains(&reason.http_status()), "{reason:?}");
        }
    }
}
