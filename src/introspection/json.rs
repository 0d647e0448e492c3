//! Dialect `json`: an RFC 7662 response that carries the JWT in a claim.

use http::HeaderMap;

use super::answer::{Reader, without_line_break};
use super::kind;
use crate::{Error, Verdict, jwt};

pub(super) fn read(
    reader: &Reader<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Verdict, Error> {
    if jwt::check_compact(without_line_break(body)).is_ok() {
        return Err(reader.bad(
            "the answer is a bare JWT, where dialect json wants JSON with the JWT in a claim; set dialect jwt",
        ));
    }
    let response = reader.object(headers, body)?;
    if !reader.is_active(&response)? {
        return Ok(Verdict::Inactive);
    }
    if let Some(refused) = kind::refused_as_other(reader, &response) {
        return Ok(refused);
    }
    let (jwt, response) = reader.take_jwt(response)?;
    reader.verdict(jwt.as_bytes(), response)
}
