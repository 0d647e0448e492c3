//! Dialect `jwt`: the body of the answer is the JWT.

use http::HeaderMap;
use serde_json::Map;

use super::answer::{Reader, is_json, without_line_break};
use crate::{Error, Verdict};

pub(super) fn read(
    reader: &Reader<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Verdict, Error> {
    if is_json(body) {
        // Servers of this dialect may use JSON to say that there is no JWT. If there is one, they send it as the body.
        let response = reader.object(headers, body)?;
        if !reader.is_active(&response)? {
            return Ok(Verdict::Inactive);
        }
        let carries = reader
            .provider
            .jwt_claims
            .iter()
            .any(|name| response.get(name).is_some_and(|value| value.is_string()));
        return Err(reader.bad(if carries {
            "the token is active, but the answer is JSON that holds the JWT in a claim, where dialect jwt wants \
             the JWT alone; set dialect auto"
        } else {
            "the token is active, but the answer is JSON (RFC 7662), where dialect jwt wants the JWT alone; let \
             the server answer Accept: application/jwt with it, or, if it can hand over the JWT in a claim, set \
             dialect auto and jwt_claim"
        }));
    }
    bare(reader, headers, body)
}

/// A body that is a JWT and nothing else.
pub(super) fn bare(
    reader: &Reader<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Verdict, Error> {
    let jwt = without_line_break(body);
    // No dot, no JWT: a message about its kind is more useful than one about its first wrong byte.
    if !jwt.contains(&b'.') || jwt.trim_ascii_start().starts_with(b"<") {
        return Err(match reader.object(headers, body) {
            Err(error) => error,
            Ok(_) => reader.bad("the answer is not a JWT"),
        });
    }
    reader.verdict(jwt, Map::new())
}
