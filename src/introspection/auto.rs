//! Dialect `auto`: a bare JWT, or an RFC 7662 response that carries one in a claim.

use http::HeaderMap;

use super::answer::{Reader, is_json};
use super::{json, jwt};
use crate::{Error, Verdict};

pub(super) fn read(
    reader: &Reader<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Verdict, Error> {
    if is_json(body) {
        json::read(reader, headers, body)
    } else {
        jwt::bare(reader, headers, body)
    }
}
