//! The lifetime of cached verdicts, and the time of their refresh.

use std::time::Duration;

use headers::{Age, HeaderMapExt};
use http::HeaderMap;

use crate::config::CacheControl;
use crate::{Provider, Verdict};

/// The lifetime of a cached verdict, from when it is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// The time for which it is served normally; zero means that it is not cached.
    pub fresh: Duration,
    /// The time for which it is kept after that, to be served when the authorization server can't be asked.
    pub stale: Duration,
    /// The time after which a hit requests a refresh.
    pub refresh: Option<Duration>,
}

impl From<Duration> for Lifetime {
    fn from(fresh: Duration) -> Self {
        Lifetime {
            fresh,
            stale: Duration::ZERO,
            refresh: None,
        }
    }
}

impl Lifetime {
    /// The lifetime of `verdict`, which is fresh for `whole` in all and for `left` of that from now on.
    pub fn new(provider: &Provider, verdict: &Verdict, whole: Duration, left: Duration) -> Self {
        if matches!(verdict, Verdict::Inactive) {
            return left.into();
        }
        let last_part = whole.saturating_mul(provider.refresh_ahead) / 100;
        Lifetime {
            fresh: left,
            stale: provider.stale_if_error,
            refresh: (provider.refresh_ahead > 0).then(|| left.saturating_sub(last_part)),
        }
    }
}

/// The time for which `verdict` may be cached; zero means not at all.
///
/// It is the shortest of: the time until `exp`; `cache_ttl`, or `cache_inactive_ttl` for an inactive verdict; and the
/// lifetime in the answer's own `Cache-Control` (RFC 9111 §5.2.2), less its `Age`, as far as `cache_control` makes us
/// use it. RFC 7662 §4 allows caching. Most servers put `no-store` on all of their answers, which is why `no-store`
/// counts only under `strict`.
pub fn lifetime(
    provider: &Provider,
    verdict: &Verdict,
    headers: &HeaderMap,
    unix_now: i64,
) -> Duration {
    let (ours, until_exp) = match verdict {
        Verdict::Active(active) => (
            provider.cache_ttl,
            active.exp().map_or(Duration::MAX, |exp| {
                Duration::from_secs(u64::try_from(exp.saturating_sub(unix_now)).unwrap_or(0))
            }),
        ),
        Verdict::Inactive => (provider.cache_inactive_ttl, Duration::MAX),
    };
    ours.min(until_exp)
        .min(most(provider.cache_control, headers))
}

/// The time for which an answer's own headers allow it to be cached, as far as `cache_control` makes us use them.
pub(crate) fn allowed(provider: &Provider, headers: &HeaderMap) -> Duration {
    most(provider.cache_control, headers)
}

/// The lifetime of an answer that is no verdict, by its own headers: metadata, or keys.
pub(crate) fn server_says(headers: &HeaderMap) -> Option<Duration> {
    Some(most(CacheControl::Strict, headers)).filter(|&most| most != Duration::MAX)
}

fn most(mode: CacheControl, headers: &HeaderMap) -> Duration {
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
    // We are a shared cache: its own directive takes precedence over the general one (RFC 9111 §5.2.2.10).
    let shared = if strict { control.s_max_age() } else { None };
    let Some(max_age) = shared.or(control.max_age()) else {
        return Duration::MAX;
    };
    let age = headers
        .typed_get::<Age>()
        .map_or(Duration::ZERO, |age| Duration::from_secs(age.as_secs()));
    max_age.saturating_sub(age)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::jwt::{self, Claims};
    use crate::{Active, Config};

    const NOW: i64 = 1_000_000;

    /// `cache_control`, the answer's headers, and the seconds that follow.
    type Case = (&'static str, &'static [(&'static str, &'static str)], u64);

    fn provider(cache_control: &str) -> Arc<Provider> {
        let mut config = Config::new("main");
        for (key, value) in [
            (
                "introspection_endpoint",
                "https://as.example.com/introspect",
            ),
            ("cache_ttl", "100s"),
            ("cache_inactive_ttl", "10s"),
            ("cache_control", cache_control),
        ] {
            config.set(key, value).unwrap();
        }
        config.build().unwrap()
    }

    fn active(exp: Option<i64>) -> Verdict {
        let mut claims = Claims::empty();
        claims.exp = exp;
        let jwt = jwt::check_compact(b"eyJhbGciOiJFUzI1NiJ9.e30.AAAA").unwrap();
        Verdict::Active(Arc::new(Active::new(&jwt, claims)))
    }

    fn seconds(mode: &str, verdict: &Verdict, headers: &[(&str, &str)]) -> u64 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        lifetime(&provider(mode), verdict, &map, NOW).as_secs()
    }

    #[test]
    fn the_shortest_of_what_is_configured_and_what_remains_until_exp_counts() {
        assert_eq!(seconds("max-age", &active(None), &[]), 100);
        assert_eq!(seconds("max-age", &active(Some(NOW + 30)), &[]), 30);
        assert_eq!(seconds("max-age", &active(Some(NOW + 3000)), &[]), 100);
        assert_eq!(seconds("max-age", &active(Some(NOW)), &[]), 0);
        assert_eq!(seconds("max-age", &active(Some(i64::MIN)), &[]), 0);
        assert_eq!(seconds("max-age", &Verdict::Inactive, &[]), 10);
    }

    #[test]
    fn what_the_server_says_shortens_it_and_never_prolongs_it() {
        let cases: [Case; 13] = [
            ("max-age", &[("cache-control", "max-age=20")], 20),
            ("max-age", &[("cache-control", "max-age=2000")], 100),
            (
                "max-age",
                &[("cache-control", "max-age=20"), ("age", "15")],
                5,
            ),
            (
                "max-age",
                &[("cache-control", "max-age=20"), ("age", "30")],
                0,
            ),
            ("max-age", &[("cache-control", "no-store, max-age=20")], 20),
            (
                "max-age",
                &[("cache-control", "private"), ("pragma", "no-cache")],
                100,
            ),
            ("max-age", &[("cache-control", "nonsense")], 100),
            (
                "max-age",
                &[
                    ("cache-control", "no-store"),
                    ("cache-control", "max-age=20"),
                ],
                20,
            ),
            ("strict", &[("cache-control", "no-cache")], 0),
            (
                "strict",
                &[("cache-control", "max-age=20, s-maxage=40")],
                40,
            ),
            ("strict", &[("cache-control", "max-age=20")], 20),
            ("ignore", &[("cache-control", "no-store, max-age=0")], 100),
            ("ignore", &[], 100),
        ];
        for (mode, headers, expected) in cases {
            assert_eq!(
                seconds(mode, &active(None), headers),
                expected,
                "{mode} {headers:?}"
            );
        }
        let short = [("cache-control", "max-age=3")];
        assert_eq!(seconds("max-age", &Verdict::Inactive, &short), 3);
    }
}
