//! Dialect `auto`: a bare JWT, or an RFC 7662 response that carries one in a claim.

use http::HeaderMap;

use super::answer::{Reader, is_json};
use super::{Answer, json, jwt};
use crate::Error;

pub(super) fn read(reader: &Reader<'_>, headers: &HeaderMap, body: &[u8]) -> Result<Answer, Error> {
    if is_json(body) {
        json::read(reader, headers, body)
    } else {
        jwt::bare(reader, headers, body)
    }
}
