//! Statistics.
//!
//! A client's counters since it was started, and its current state, in one consistent snapshot.

use std::ffi::{CStr, CString, c_char};

use super::boundary::{Output, boundary, boundary_or, shared};
use super::client::phantom_client;
use super::status::phantom_status;
use crate::{ErrorKind, Stats};

/// A counter or gauge of a client.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum phantom_stat {
    /// Verdicts served from the client's memory.
    PHANTOM_STAT_HITS = 0,
    /// Requests that started a call to the authorization server.
    PHANTOM_STAT_MISSES = 1,
    /// Requests that shared the call of another request.
    PHANTOM_STAT_COALESCED = 2,
    /// Requests answered with an inactive verdict, cached or not.
    PHANTOM_STAT_INACTIVE = 3,
    /// Requests that ended in an error of any kind.
    PHANTOM_STAT_ERRORS = 4,
    /// Calls made to the authorization server, retries included.
    PHANTOM_STAT_CALLS = 5,
    /// Calls that were retries.
    PHANTOM_STAT_RETRIES = 6,
    /// Calls in progress now, or queued.
    PHANTOM_STAT_IN_FLIGHT = 7,
    /// Requests waiting now.
    PHANTOM_STAT_WAITING = 8,
    /// Verdicts in the client's memory now.
    PHANTOM_STAT_ENTRIES = 9,
    /// Inactive verdicts in the client's memory now.
    PHANTOM_STAT_INACTIVE_ENTRIES = 10,
    /// Bytes used by the verdicts in the client's memory now.
    PHANTOM_STAT_BYTES = 11,
    /// Verdicts evicted from memory before they expired.
    PHANTOM_STAT_EVICTIONS = 12,
    /// The sum of all latencies, in microseconds.
    PHANTOM_STAT_LATENCY_SUM_US = 13,
    /// Verdicts served from the shared store.
    PHANTOM_STAT_SHARED_HITS = 14,
    /// Requests answered with an expired verdict (`stale_if_error`).
    PHANTOM_STAT_STALE = 15,
    /// Background refreshes that were started (`refresh_ahead`).
    PHANTOM_STAT_REFRESHES = 16,
    /// How often this client opened the circuit breaker after too many failures (`max_fails`).
    PHANTOM_STAT_BREAKER_OPENINGS = 17,
    /// Whether the circuit breaker is open now: 1 or 0.
    PHANTOM_STAT_BREAKER_OPEN = 18,
}

use phantom_stat::*;

impl phantom_stat {
    /// All of them, each at the index of its number.
    pub(super) const ALL: [phantom_stat; 19] = [
        PHANTOM_STAT_HITS,
        PHANTOM_STAT_MISSES,
        PHANTOM_STAT_COALESCED,
        PHANTOM_STAT_INACTIVE,
        PHANTOM_STAT_ERRORS,
        PHANTOM_STAT_CALLS,
        PHANTOM_STAT_RETRIES,
        PHANTOM_STAT_IN_FLIGHT,
        PHANTOM_STAT_WAITING,
        PHANTOM_STAT_ENTRIES,
        PHANTOM_STAT_INACTIVE_ENTRIES,
        PHANTOM_STAT_BYTES,
        PHANTOM_STAT_EVICTIONS,
        PHANTOM_STAT_LATENCY_SUM_US,
        PHANTOM_STAT_SHARED_HITS,
        PHANTOM_STAT_STALE,
        PHANTOM_STAT_REFRESHES,
        PHANTOM_STAT_BREAKER_OPENINGS,
        PHANTOM_STAT_BREAKER_OPEN,
    ];

    fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|stat| *stat as i32 == number)
    }

    fn name(self) -> &'static CStr {
        match self {
            PHANTOM_STAT_HITS => c"hits",
            PHANTOM_STAT_MISSES => c"misses",
            PHANTOM_STAT_COALESCED => c"coalesced",
            PHANTOM_STAT_INACTIVE => c"inactive",
            PHANTOM_STAT_ERRORS => c"errors",
            PHANTOM_STAT_CALLS => c"calls",
            PHANTOM_STAT_RETRIES => c"retries",
            PHANTOM_STAT_IN_FLIGHT => c"in_flight",
            PHANTOM_STAT_WAITING => c"waiting",
            PHANTOM_STAT_ENTRIES => c"entries",
            PHANTOM_STAT_INACTIVE_ENTRIES => c"inactive_entries",
            PHANTOM_STAT_BYTES => c"bytes",
            PHANTOM_STAT_EVICTIONS => c"evictions",
            PHANTOM_STAT_LATENCY_SUM_US => c"latency_sum_us",
            PHANTOM_STAT_SHARED_HITS => c"shared_hits",
            PHANTOM_STAT_STALE => c"stale",
            PHANTOM_STAT_REFRESHES => c"refreshes",
            PHANTOM_STAT_BREAKER_OPENINGS => c"breaker_openings",
            PHANTOM_STAT_BREAKER_OPEN => c"breaker_open",
        }
    }

    fn of(self, stats: &Stats) -> u64 {
        match self {
            PHANTOM_STAT_HITS => stats.hits,
            PHANTOM_STAT_MISSES => stats.misses,
            PHANTOM_STAT_COALESCED => stats.coalesced,
            PHANTOM_STAT_INACTIVE => stats.inactive,
            PHANTOM_STAT_ERRORS => stats.errors.iter().sum(),
            PHANTOM_STAT_CALLS => stats.calls,
            PHANTOM_STAT_RETRIES => stats.retries,
            PHANTOM_STAT_IN_FLIGHT => stats.in_flight,
            PHANTOM_STAT_WAITING => stats.waiting,
            PHANTOM_STAT_ENTRIES => stats.entries,
            PHANTOM_STAT_INACTIVE_ENTRIES => stats.inactive_entries,
            PHANTOM_STAT_BYTES => stats.bytes,
            PHANTOM_STAT_EVICTIONS => stats.evictions,
            PHANTOM_STAT_LATENCY_SUM_US => stats.latency_sum_us,
            PHANTOM_STAT_SHARED_HITS => stats.shared_hits,
            PHANTOM_STAT_STALE => stats.stale,
            PHANTOM_STAT_REFRESHES => stats.refreshes,
            PHANTOM_STAT_BREAKER_OPENINGS => stats.breaker_openings,
            PHANTOM_STAT_BREAKER_OPEN => stats.breaker_open,
        }
    }
}

/// A snapshot of a client's statistics. Created by `phantom_client_stats`.
pub struct phantom_stats {
    stats: Stats,
    json: CString,
}

/// Takes a snapshot of a client's statistics, and writes it to `stats`. It is yours: free it with
/// `phantom_stats_free`.
///
/// # Safety
/// - `client` is NULL, or alive.
/// - `stats` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_client_stats(
    client: *const phantom_client,
    stats: *mut *mut phantom_stats,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `client` and `stats`.
        let (client, output) =
            unsafe { (shared(client, "client")?, Output::required(stats, "stats")?) };
        client.check_process()?;
        let stats = client.client.stats();
        // JSON escapes control characters, so the text contains no NUL.
        let json = CString::new(json(&stats)).unwrap_or_default();
        output.write(Box::into_raw(Box::new(phantom_stats { stats, json })));
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Frees a snapshot. NULL is allowed.
///
/// # Safety
/// `stats` is NULL, or from `phantom_client_stats` and not freed, and no other thread is using it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_stats_free(stats: *mut phantom_stats) {
    boundary_or((), || {
        if !stats.is_null() {
            // SAFETY: it came out of a box in `phantom_client_stats`, is freed once, and nobody else uses it (the
            // caller's promises).
            drop(unsafe { Box::from_raw(stats) });
        }
    })
}

/// Writes the value of the counter `stat`, a number of `phantom_stat`, to `value`. Returns `PHANTOM_NOT_FOUND` if
/// this library does not have that counter.
///
/// # Safety
/// - `stats` is NULL, or from `phantom_client_stats` and not freed.
/// - `value` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_stats_get(
    stats: *const phantom_stats,
    stat: i32,
    value: *mut u64,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `stats` and `value`.
        let (stats, value) =
            unsafe { (shared(stats, "stats")?, Output::required(value, "value")?) };
        let Some(stat) = phantom_stat::from_number(stat) else {
            return Ok(phantom_status::PHANTOM_NOT_FOUND);
        };
        value.write(stat.of(&stats.stats));
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Writes to `count` how many requests ended with `status`, an error from `PHANTOM_UNREACHABLE` to
/// `PHANTOM_INTERNAL`. Returns `PHANTOM_NOT_FOUND` for other statuses, which are not counted.
///
/// # Safety
/// - `stats` is NULL, or from `phantom_client_stats` and not freed.
/// - `count` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_stats_errors(
    stats: *const phantom_stats,
    status: i32,
    count: *mut u64,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `stats` and `count`.
        let (stats, count) =
            unsafe { (shared(stats, "stats")?, Output::required(count, "count")?) };
        let Some(kind) = phantom_status::kind(status) else {
            return Ok(phantom_status::PHANTOM_NOT_FOUND);
        };
        count.write(stats.stats.errors[kind.index()]);
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Writes one bucket of the latency histogram of the authorization server. `bound_us` receives the upper bound of the
/// bucket at `index`, in microseconds. `count` receives the number of calls that took at most that long, and longer
/// than the bound of the bucket at `index` - 1. The last bucket has no bound: UINT64_MAX. Call it with 0, 1, 2, …
/// until it returns `PHANTOM_NOT_FOUND`.
///
/// # Safety
/// - `stats` is NULL, or from `phantom_client_stats` and not freed.
/// - `bound_us` and `count` are NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_stats_latency(
    stats: *const phantom_stats,
    index: usize,
    bound_us: *mut u64,
    count: *mut u64,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `stats`, `bound_us` and `count`.
        let (stats, bound, count) = unsafe {
            (
                shared(stats, "stats")?,
                Output::required(bound_us, "bound_us")?,
                Output::required(count, "count")?,
            )
        };
        let Some(calls) = stats.stats.latency.get(index) else {
            return Ok(phantom_status::PHANTOM_NOT_FOUND);
        };
        bound.write(
            Stats::LATENCY_BOUNDS
                .get(index)
                .copied()
                .unwrap_or(u64::MAX),
        );
        count.write(*calls);
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Returns the whole snapshot as one JSON object, and writes its length to `length`, which may be NULL. The text ends
/// with a NUL. It is part of the snapshot: never free it. NULL and 0 for NULL.
///
/// # Safety
/// - `stats` is NULL, or from `phantom_client_stats` and not freed; the returned pointer is valid until `stats` is
///   freed.
/// - `length` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_stats_json(
    stats: *const phantom_stats,
    length: *mut usize,
) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        // SAFETY: the caller's promises for `stats` and `length`.
        let (stats, length) = unsafe { (stats.as_ref(), Output::optional(length)) };
        let json = stats.map(|stats| stats.json.as_c_str());
        length.write(json.map_or(0, |json| json.to_bytes().len()));
        json.map_or(std::ptr::null(), CStr::as_ptr)
    })
}

/// Returns the name of the counter `stat`: "hits", "misses", …, as in `phantom_stats_json`, or NULL if this library
/// does not have it. The numbers run from 0 without a gap: call it with 0, 1, 2, … until it returns NULL. The name
/// must not be freed.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_stat_name(stat: i32) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        phantom_stat::from_number(stat).map_or(std::ptr::null(), |stat| stat.name().as_ptr())
    })
}

fn json(stats: &Stats) -> String {
    let mut object = serde_json::Map::new();
    for stat in phantom_stat::ALL {
        if stat != PHANTOM_STAT_ERRORS {
            let name = stat.name().to_string_lossy().into_owned();
            object.insert(name, stat.of(stats).into());
        }
    }
    let errors: serde_json::Map<_, _> = ErrorKind::ALL
        .iter()
        .map(|kind| (kind.as_str().to_owned(), stats.errors[kind.index()].into()))
        .collect();
    object.insert("errors".to_owned(), errors.into());
    let latency: Vec<serde_json::Value> = stats
        .latency
        .iter()
        .enumerate()
        .map(|(index, count)| {
            serde_json::json!({
                "le_us": Stats::LATENCY_BOUNDS.get(index),
                "count": count,
            })
        })
        .collect();
    object.insert("latency".to_owned(), latency.into());
    serde_json::Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_run_from_zero_without_a_gap() {
        for (index, stat) in phantom_stat::ALL.into_iter().enumerate() {
            assert_eq!(stat as usize, index);
        }
    }

    #[test]
    fn the_json_has_every_counter_every_kind_of_error_and_every_bar() {
        let mut stats = Stats {
            hits: 3,
            ..Stats::default()
        };
        stats.errors[ErrorKind::Timeout.index()] = 2;
        stats.latency[0] = 5;
        let value: serde_json::Value = serde_json::from_str(&json(&stats)).unwrap();
        assert_eq!(value["hits"], 3);
        assert_eq!(value["errors"]["timeout"], 2);
        assert_eq!(
            value["latency"][0],
            serde_json::json!({"le_us": 500, "count": 5})
        );
        assert_eq!(value["latency"][14]["le_us"], serde_json::Value::Null);
        for stat in phantom_stat::ALL {
            assert!(!value[stat.name().to_str().unwrap()].is_null(), "{stat:?}");
        }
    }
}
