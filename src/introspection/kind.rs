//! The kind of token that an answer is about.
//!
//! An authorization server may introspect every kind of token that it knows, in spite of the hint (RFC 7662 §2.1), and
//! `active` does not tell the kind. A refresh token lives longer than an access token, is bound to no audience, and is
//! sent only to the authorization server: it must not give access to an API. A server that returns a JWT of its own
//! does so for access tokens. Where the gateway vouches for a plain answer (`mint`, `signed`), the answer must state
//! the kind.
//!
//! # Decision: an audience is no evidence
//!
//! An answer that names an API in `aud` is not necessarily about an access token. Doorkeeper gives a refresh token the
//! audience of its access token and leaves out `token_type` to tell the two apart; authentik gives both the same
//! audience. So `verify_audience` checks whom a token is for, and `token_type` checks its kind, each by itself.
//!
//! # Decision: such a token is inactive, and not an error
//!
//! An answer that does not state the kind may mean that the client has sent a refresh token, or that the server never
//! states it. An error (502) would point at the second, but errors are not cached and count against the server: any
//! client could cause calls at will. So the verdict is inactive and cached as such, and a line in the log tells the
//! operator the reason and the setting to change.

use serde_json::{Map, Value};

use super::answer::Reader;
use crate::Verdict;
use crate::config::TokenKind;

/// The members that servers use: RFC 7662 itself; Ory Hydra and Amazon Cognito; Keycloak; Curity.
const MEMBERS: [&str; 4] = ["token_type", "token_use", "typ", "purpose"];

/// The names of access tokens: by type (RFC 6749 §7.1, RFC 9449 §5), or by name (RFC 8693 §3, RFC 9068 §2.1).
const ACCESS: [&str; 9] = [
    "bearer",
    "dpop",
    "pop",
    "mac",
    "access_token",
    "access",
    "at+jwt",
    "application/at+jwt",
    "urn:ietf:params:oauth:token-type:access_token",
];

/// The names of other kinds of tokens.
const OTHERS: [&str; 9] = [
    "refresh_token",
    "refresh",
    "offline",
    "id_token",
    "id",
    "authorization_code",
    "code",
    "urn:ietf:params:oauth:token-type:refresh_token",
    "urn:ietf:params:oauth:token-type:id_token",
];

/// Whether members say that the token is not an access token.
pub(super) fn is_other(members: &Map<String, Value>) -> bool {
    says(members, &OTHERS)
}

fn says(members: &Map<String, Value>, names: &[&str]) -> bool {
    MEMBERS
        .iter()
        .filter_map(|member| members.get(*member)?.as_str())
        .any(|kind| names.iter().any(|name| kind.eq_ignore_ascii_case(name)))
}

/// The verdict on an active token if `response` says that it is not an access token; `None` for any other.
pub(super) fn refused_as_other(
    reader: &Reader<'_>,
    response: &Map<String, Value>,
) -> Option<Verdict> {
    is_other(response).then(|| {
        reader.refuse(
            "the answer says that it is another token than an access token, such as a refresh token: a client has sent the \
             wrong one",
        )
    })
}

/// The verdict on an active token that is not accepted where only `response` states its kind; `None` for one that is.
pub(super) fn refused_by_answer(
    reader: &Reader<'_>,
    response: &Map<String, Value>,
) -> Option<Verdict> {
    if let Some(refused) = refused_as_other(reader, response) {
        return Some(refused);
    }
    let acceptance = &reader.provider.acquisition.acceptance;
    if let Some(audiences) = &acceptance.audiences {
        let names = |audience: &String| match response.get("aud") {
            Some(Value::String(aud)) => aud == audience,
            Some(Value::Array(list)) => list.iter().any(|aud| aud == audience),
            _ => false,
        };
        if !audiences.iter().any(names) {
            return Some(
                reader.refuse("the answer's aud names none of verify_audience; check that setting"),
            );
        }
    }
    if acceptance.kind == TokenKind::Any || says(response, &ACCESS) {
        return None;
    }
    Some(reader.refuse(
        "nothing in the answer says that it is an access token (token_type, RFC 7662 §2.2), so that it may be a refresh \
         token; set token_type any if this server introspects access tokens only",
    ))
}
