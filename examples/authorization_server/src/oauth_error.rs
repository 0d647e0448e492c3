//! Errors as OAuth spells them (RFC 6749 §5.2).

use http::StatusCode;
use http::header::{self, HeaderValue};
use serde_json::json;

use crate::reply::Reply;

/// An OAuth error: its status, its registered code and a description that never quotes the request.
#[derive(Debug, PartialEq, Eq)]
pub struct OAuthError {
    status: StatusCode,
    code: &'static str,
    description: String,
}

impl OAuthError {
    /// The request is refused with 400 and this code.
    pub fn bad_request(code: &'static str, description: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            description: description.into(),
        }
    }

    /// The request misses something, repeats something or is malformed.
    pub fn invalid_request(description: impl Into<String>) -> Self {
        Self::bad_request("invalid_request", description)
    }

    /// Client authentication failed.
    pub fn invalid_client() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: "invalid_client",
            description: "client authentication failed".to_owned(),
        }
    }

    /// The server failed, not the client.
    pub fn server_error() -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "server_error",
            description: "the authorization server failed".to_owned(),
        }
    }

    /// Whether client authentication failed.
    pub fn is_invalid_client(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }
}

impl From<OAuthError> for Reply {
    fn from(error: OAuthError) -> Self {
        let body = json!({ "error": error.code, "error_description": error.description });
        let reply = Self::json(error.status, &body).no_store();
        if error.is_invalid_client() {
            reply.with(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"authorization server\""),
            )
        } else {
            reply
        }
    }
}
