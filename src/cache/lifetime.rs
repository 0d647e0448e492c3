//! How long a verdict is remembered.

use std::time::Duration;

use headers::{Age, HeaderMapExt};
use http::HeaderMap;

use crate::config::CacheControl;
use crate::{Provider, Verdict};

/// How long `verdict` may be remembered; zero means not at all.
///
/// The shortest of: what remains until `exp`; `cache_ttl`, or `cache_inactive_ttl` for an inactive verdict; and
/// what the answer's own `Cache-Control` says (RFC 9111 §5.2.2), less its `Age`, as far as `cache_control` tells
/// us to listen. RFC 7662 §4 allows caching; most servers put `no-store` on every answer of theirs, which is why
/// it counts only under `strict`.
pub fn lifetime(
    provider: &Provider,
    verdict: &Verdict,
    headers: &HeaderMap,
    unix_now: i64,
) -> Duration {
    let (ours, until_exp) = match verdict {
        Verdict::Active(active) => (
            provider.cache_ttl,
            active.claims().exp.map_or(Duration::MAX, |exp| {
                Duration::from_secs(u64::try_from(exp.saturating_sub(unix_now)).unwrap_or(0))
            }),
        ),
        Verdict::Inactive => (provider.cache_inactive_ttl, Duration::MAX),
    };
    ours.min(until_exp)
        .min(server_says(provider.cache_control, headers))
}

fn server_says(mode: CacheControl, headers: &HeaderMap) -> Duration {
    if mode == CacheControl::Ignore {
        return Duration::MAX;
    }
    let Some(control) = headers.typed_get::<headers::CacheControl>() else {
        return Duration::MAX;
    };
    let strict = mode == CacheControl::Strict;
    if strict && (control.no_store() || control.no_cache() || control.private()) {
        return Duration::ZERO;
    }
    // We are a shared cache: its own directive goes before the general one (RFC 9111 §5.2.2.10).
    let shared = if strict { control.s_max_age() } else { None };
    let Some(max_age) = shared.or(control.max_age()) else {
        return Duration::MAX;
    };
    let age = headers
        .typed_get::<Age>()
        .map_or(Duration::ZERO, |age| Duration::from_secs(age.as_secs()));
    max_age.saturating_sub(age)
}
