//! Statistics of a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::failures::Failures;
use crate::{Error, ErrorKind, Verdict, clock};

const BUCKETS: usize = Stats::LATENCY_BOUNDS.len() + 1;

/// Statistics of a client: counters since it was started, and its current sizes.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Verdicts served from memory.
    pub hits: u64,
    /// Verdicts served from the store that is shared.
    pub shared_hits: u64,
    /// Requests that started a call to the authorization server.
    pub misses: u64,
    /// Requests that shared another's call.
    pub coalesced: u64,
    /// Requests answered with a stale verdict, because the authorization server could not be asked.
    pub stale: u64,
    /// Requests answered with an inactive verdict, cached or not.
    pub inactive: u64,
    /// Requests that ended in an error, by [`ErrorKind::index`].
    pub errors: [u64; ErrorKind::ALL.len()],
    /// Calls made to the authorization server, repeats included.
    pub calls: u64,
    /// Calls repeated.
    pub retries: u64,
    /// Flights that began in the background, before a cached verdict expired (`refresh_ahead`).
    pub refreshes: u64,
    /// The number of times that this client stopped calls after too many failures (`max_fails`).
    pub breaker_openings: u64,
    /// Whether calls are stopped now: 1, or 0.
    pub breaker_open: u64,
    /// Tokens being asked about now, queued ones included.
    pub in_flight: u64,
    /// Requests waiting now.
    pub waiting: u64,
    /// Verdicts cached now.
    pub entries: u64,
    /// Inactive verdicts among them.
    pub inactive_entries: u64,
    /// The size of the cached verdicts, in bytes.
    pub bytes: u64,
    /// Verdicts evicted before their lifetime ended.
    pub evictions: u64,
    /// Calls by latency: how many took at most the bound of the same index in [`Stats::LATENCY_BOUNDS`] and more
    /// than the one before; the last counts those beyond all.
    pub latency: [u64; BUCKETS],
    /// The sum of all latencies, in microseconds.
    pub latency_sum_us: u64,
}

impl Stats {
    /// Upper bounds of the latency histogram, in microseconds.
    pub const LATENCY_BOUNDS: [u64; 14] = [
        500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
        2_500_000, 5_000_000, 10_000_000,
    ];
}

/// The counters behind [`Stats`] that are not the cache's or the flights' own.
#[derive(Default)]
pub(super) struct Counters {
    shared_hits: AtomicU64,
    misses: AtomicU64,
    stale: AtomicU64,
    refreshes: AtomicU64,
    breaker_openings: AtomicU64,
    coalesced: AtomicU64,
    inactive: AtomicU64,
    errors: [AtomicU64; ErrorKind::ALL.len()],
    calls: AtomicU64,
    retries: AtomicU64,
    latency: [AtomicU64; BUCKETS],
    latency_sum_us: AtomicU64,
    failures: Arc<Failures>,
}

impl Counters {
    pub(super) fn new(failures: Arc<Failures>) -> Self {
        Counters {
            failures,
            ..Counters::default()
        }
    }

    pub(super) fn started(&self) {
        add(&self.misses, 1);
    }

    pub(super) fn joined(&self) {
        add(&self.coalesced, 1);
    }

    /// Found in the store.
    pub(super) fn shared(&self, verdict: &Verdict) {
        add(&self.shared_hits, 1);
        add(
            &self.inactive,
            u64::from(matches!(verdict, Verdict::Inactive)),
        );
    }

    pub(super) fn refreshing(&self) {
        add(&self.refreshes, 1);
    }

    pub(super) fn opened(&self) {
        add(&self.breaker_openings, 1);
    }

    pub(super) fn stale(&self, requests: usize) {
        add(&self.stale, requests as u64);
    }

    pub(super) fn called(&self, again: bool) {
        add(&self.calls, 1);
        add(&self.retries, u64::from(again));
    }

    pub(super) fn answered(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = Stats::LATENCY_BOUNDS.partition_point(|&bound| bound < micros);
        add(&self.latency[bucket], 1);
        add(&self.latency_sum_us, micros);
    }

    /// Counts `requests` that ended with this error, none of them from memory.
    pub(super) fn ended(&self, outcome: &Result<Verdict, Error>, requests: usize) {
        match outcome {
            Ok(Verdict::Active(_)) => {}
            Ok(Verdict::Inactive) => add(&self.inactive, requests as u64),
            Err(error) => self.failed(error, requests),
        }
    }

    pub(super) fn failed(&self, error: &Error, requests: usize) {
        add(&self.errors[error.kind().index()], requests as u64);
        if requests > 0 {
            self.failures.note(error, clock::now().unix);
        }
    }

    pub(super) fn read_into(&self, stats: &mut Stats) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.shared_hits = read(&self.shared_hits);
        stats.stale = read(&self.stale);
        stats.refreshes = read(&self.refreshes);
        stats.breaker_openings = read(&self.breaker_openings);
        stats.misses = read(&self.misses);
        stats.coalesced = read(&self.coalesced);
        stats.inactive += read(&self.inactive);
        stats.errors = std::array::from_fn(|kind| read(&self.errors[kind]));
        stats.calls = read(&self.calls);
        stats.retries = read(&self.retries);
        stats.latency = std::array::from_fn(|bucket| read(&self.latency[bucket]));
        stats.latency_sum_us = read(&self.latency_sum_us);
    }
}

// Relaxed everywhere: the numbers order nothing.
fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
