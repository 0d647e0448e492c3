//! The counters and gauges, as words in memory. Each field of [`Stats`] is named here twice; a missing field is a
//! compile error.

use super::{OUTCOMES, ProcessMetrics, VERDICTS};
use crate::{ErrorKind, Stats};

const ERRORS: usize = ErrorKind::ALL.len();
const BUCKETS: usize = Stats::LATENCY_BOUNDS.len() + 1;
const SINGLE: usize = 12;

/// The number of counters, which only grow.
pub(super) const COUNTERS: usize = SINGLE + ERRORS + BUCKETS + OUTCOMES + VERDICTS;
/// The number of gauges, which rise and fall.
pub(super) const GAUGES: usize = 6;

/// A row's numbers.
pub(super) struct Counted {
    pub(super) counters: [u64; COUNTERS],
    pub(super) gauges: [u64; GAUGES],
}

impl Counted {
    pub(super) fn of(done: &ProcessMetrics) -> Self {
        let Stats {
            hits,
            shared_hits,
            misses,
            coalesced,
            stale,
            inactive,
            errors,
            calls,
            retries,
            refreshes,
            breaker_openings,
            breaker_open,
            in_flight,
            waiting,
            entries,
            inactive_entries,
            bytes,
            evictions,
            latency,
            latency_sum_us,
        } = done.stats;
        let single: [u64; SINGLE] = [
            hits,
            shared_hits,
            misses,
            coalesced,
            stale,
            inactive,
            calls,
            retries,
            refreshes,
            breaker_openings,
            evictions,
            latency_sum_us,
        ];
        let mut counters = [0; COUNTERS];
        let all = single
            .into_iter()
            .chain(errors)
            .chain(latency)
            .chain(done.outcomes)
            .chain(done.verdicts);
        for (word, value) in counters.iter_mut().zip(all) {
            *word = value;
        }
        Counted {
            counters,
            gauges: [
                breaker_open,
                in_flight,
                waiting,
                entries,
                inactive_entries,
                bytes,
            ],
        }
    }

    /// The metrics that these numbers represent; there are no error messages among them.
    pub(super) fn done(&self) -> ProcessMetrics {
        let mut rest = self.counters.into_iter();
        let mut next = || rest.next().unwrap_or(0);
        let [
            hits,
            shared_hits,
            misses,
            coalesced,
            stale,
            inactive,
            calls,
            retries,
            refreshes,
            breaker_openings,
            evictions,
            latency_sum_us,
        ] = std::array::from_fn(|_: usize| next());
        let errors = std::array::from_fn(|_| next());
        let latency = std::array::from_fn(|_| next());
        let outcomes = std::array::from_fn(|_| next());
        let verdicts = std::array::from_fn(|_| next());
        let [
            breaker_open,
            in_flight,
            waiting,
            entries,
            inactive_entries,
            bytes,
        ] = self.gauges;
        ProcessMetrics {
            stats: Stats {
                hits,
                shared_hits,
                misses,
                coalesced,
                stale,
                inactive,
                errors,
                calls,
                retries,
                refreshes,
                breaker_openings,
                breaker_open: breaker_open.min(1),
                in_flight,
                waiting,
                entries,
                inactive_entries,
                bytes,
                evictions,
                latency,
                latency_sum_us,
            },
            outcomes,
            verdicts,
            last_errors: Default::default(),
        }
    }
}

/// Adds the metrics of one process to those of others.
pub(super) fn add(all: &mut ProcessMetrics, one: &ProcessMetrics) {
    let mut sum = Counted::of(all);
    let more = Counted::of(one);
    let words = sum.counters.iter_mut().chain(&mut sum.gauges);
    for (word, value) in words.zip(more.counters.into_iter().chain(more.gauges)) {
        *word = word.saturating_add(value);
    }
    let open = sum.gauges[0];
    let mut last_errors = std::mem::take(&mut all.last_errors);
    for (last, other) in last_errors.iter_mut().zip(&one.last_errors) {
        let later = match (&last, other) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(last), Some(other)) => other.at > last.at,
        };
        if later {
            last.clone_from(other);
        }
    }
    *all = sum.done();
    all.stats.breaker_open = open;
    all.last_errors = last_errors;
}
