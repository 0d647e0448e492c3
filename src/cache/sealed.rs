//! Verdicts as bytes that say nothing to whoever does not hold the token.

use std::time::Duration;

use crate::Verdict;
use crate::token::{Fingerprint, Token};

/// A verdict on its way into a store or out of it.
pub(crate) struct Entry {
    /// What was found out.
    pub verdict: Verdict,
    /// For how long it was fresh, from when it was stored.
    pub fresh: Duration,
    /// For how long it is kept after that, to be served when the authorization server can't be asked.
    pub stale: Duration,
}

/// Seals an entry for `token`.
pub(crate) fn seal(_provider: &Fingerprint, _token: Token<'_>, _entry: &Entry) -> Vec<u8> {
    Vec::new()
}

/// Opens what [`seal`] made. `None` for whatever was not sealed for this provider and this token.
pub(crate) fn open(
    _provider: &Fingerprint,
    _token: Token<'_>,
    _sealed: &mut [u8],
) -> Option<Entry> {
    None
}
