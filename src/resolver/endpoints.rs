//! The order in which the authorization server's addresses are tried.
//!
//! It is the order in which they are configured, but addresses that failed lately come last. An address that fails is
//! put last for `fail_timeout`, and for longer each time in a row, like the breaker's calls. An address has failed if
//! there is no connection to it, or if another address has answered for a token on which it has failed: on some tokens
//! all addresses fail. This state belongs to one process. It only determines the order, and every request tries all
//! addresses if it must.

use std::sync::atomic::{AtomicU64, Ordering};

use super::breaker::span;

/// The health of each address.
pub(super) struct Endpoints {
    states: Box<[State]>,
    /// In milliseconds.
    fail_timeout: u64,
}

#[derive(Default)]
struct State {
    /// The time until which it comes last; 0 when it has not failed.
    down_until: AtomicU64,
    failures: AtomicU64,
}

impl Endpoints {
    pub(super) fn new(count: usize, fail_timeout: u64) -> Self {
        Endpoints {
            states: (0..count).map(|_| State::default()).collect(),
            fail_timeout,
        }
    }

    /// The first `count` addresses, in the order in which to try them. `now` is in milliseconds on the monotonic clock.
    pub(super) fn order(&self, now: u64, count: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..count.min(self.states.len())).collect();
        order.sort_by_key(|&index| {
            let until = self.states[index].down_until.load(Ordering::Relaxed);
            // The address that may recover soonest comes first; the sort is stable.
            if until > now { until } else { 0 }
        });
        order
    }

    /// Whether it comes last.
    pub(super) fn is_last(&self, index: usize, now: u64) -> bool {
        self.states[index].down_until.load(Ordering::Relaxed) > now
    }

    /// Records that it has answered. Returns whether it had failed before.
    pub(super) fn answered(&self, index: usize) -> bool {
        let state = &self.states[index];
        if state.failures.load(Ordering::Relaxed) == 0 {
            return false;
        }
        state.failures.store(0, Ordering::Relaxed);
        state.down_until.swap(0, Ordering::Relaxed) != 0
    }

    /// Records that it has failed. Returns whether it had not failed before.
    pub(super) fn failed(&self, index: usize, now: u64, jitter: u64) -> bool {
        let state = &self.states[index];
        let until = state.down_until.load(Ordering::Relaxed);
        if until > now {
            return false;
        }
        let failures = state.failures.fetch_add(1, Ordering::Relaxed);
        let until = now.saturating_add(span(self.fail_timeout, failures, jitter));
        state.down_until.store(until, Ordering::Relaxed);
        failures == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(endpoints: &Endpoints, now: u64) -> Vec<usize> {
        endpoints.order(now, usize::MAX)
    }

    #[test]
    fn those_that_failed_go_last_until_their_time_is_over() {
        let endpoints = Endpoints::new(3, 1000);
        assert_eq!(order(&endpoints, 0), [0, 1, 2]);
        assert!(endpoints.failed(0, 0, 0));
        assert_eq!(order(&endpoints, 1), [1, 2, 0]);
        assert!(endpoints.is_last(0, 999) && !endpoints.is_last(0, 1000));
        assert!(endpoints.failed(1, 100, 0));
        assert_eq!(order(&endpoints, 101), [2, 0, 1]);
        assert_eq!(order(&endpoints, 1000), [0, 2, 1]);
        assert_eq!(order(&endpoints, 1100), [0, 1, 2]);
    }

    #[test]
    fn failing_again_takes_longer_and_is_no_news_and_an_answer_mends_it() {
        let endpoints = Endpoints::new(2, 1000);
        assert!(endpoints.failed(0, 0, 0));
        assert!(!endpoints.failed(0, 10, 0), "a call that was under way");
        assert!(!endpoints.failed(0, 1000, 0));
        assert_eq!(order(&endpoints, 2999), [1, 0]);
        assert_eq!(order(&endpoints, 3000), [0, 1]);
        assert!(endpoints.answered(0));
        assert!(!endpoints.answered(0));
        assert!(endpoints.failed(0, 3000, 0), "news again");
        assert_eq!(order(&endpoints, 3999), [1, 0]);
        assert_eq!(order(&endpoints, 4000), [0, 1]);
    }
}
