//! What a refused client is told in `WWW-Authenticate`, made once per location.

use std::fmt::Write as _;

use phantom_token::policy::Policy;
use phantom_token::token::Scheme;

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
