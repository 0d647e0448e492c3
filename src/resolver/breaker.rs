//! Not asking an authorization server that does not answer.
//!
//! After `max_fails` failures in a row calls stop for `fail_timeout`. Then one call goes out, a probe: if it succeeds
//! all go out again, if it fails they stop for twice as long, up to a minute. Each span is jittered, so that gateways
//! that were cut off together do not come back together.
//!
//! The state is four words that all processes of a node share where there is a store that shares them; every step is
//! one atomic operation on them, so that a process may die between any two. Time is the monotonic clock's, which is the
//! same for all of them.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use crate::Provider;
use crate::cache::SharedWords;

/// The longest that calls stop, in milliseconds, unless `fail_timeout` is longer.
const LONGEST: u64 = 60_000;

// The words.
/// How many calls have failed in a row.
const FAILURES: usize = 0;
/// Until when calls stop; 0 when they go out.
const OPEN_UNTIL: usize = 1;
/// How often in a row they have been stopped.
const OPENINGS: usize = 2;
/// Until when a probe is under way.
const PROBE_UNTIL: usize = 3;

/// What is set of it.
#[derive(Clone, Copy)]
pub(super) struct Policy {
    /// How many failures in a row it takes; 0: it never opens.
    pub max_fails: u32,
    /// How long calls stop the first time, in milliseconds.
    pub first: u64,
    /// How long a probe may take, in milliseconds.
    pub probe: u64,
}

impl Policy {
    pub(super) fn of(provider: &Provider) -> Self {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Policy {
            max_fails: provider.max_fails,
            first: millis(provider.fail_timeout),
            probe: millis(provider.timeout),
        }
    }
}

/// Whether a call may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes.
    Go,
    /// No, and trying again helps after so many milliseconds at the earliest.
    Wait(u64),
}

/// A moment at which calls stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    /// For how many milliseconds.
    pub span: u64,
    /// Whether they went out until now: this is news, and a probe that has failed is not.
    pub news: bool,
}

/// The breaker, over the words that hold its state.
#[derive(Clone, Copy)]
pub(super) struct Breaker<'a> {
    pub words: &'a SharedWords,
    pub policy: Policy,
}

impl Breaker<'_> {
    /// Whether a request need not even try: true only while nobody would be let through. `now` is in milliseconds on
    /// the monotonic clock, here and below.
    pub(super) fn refuses(&self, now: u64) -> Option<u64> {
        let until = self.words[OPEN_UNTIL].load(Acquire);
        if until == 0 || self.policy.max_fails == 0 {
            return None;
        }
        if now < until {
            return Some(until - now);
        }
        let probe = self.words[PROBE_UNTIL].load(Acquire);
        (now < probe).then(|| self.policy.first.min(probe - now))
    }

    /// Whether a call may go out now. When it is the time for a probe, one caller is let through.
    pub(super) fn admit(&self, now: u64) -> Admission {
        if let Some(after) = self.refuses(now) {
            return Admission::Wait(after);
        }
        if self.words[OPEN_UNTIL].load(Acquire) == 0 || self.policy.max_fails == 0 {
            return Admission::Go;
        }
        let probe = self.words[PROBE_UNTIL].load(Acquire);
        let until = now.saturating_add(self.policy.probe.max(1));
        let mine = now >= probe
            && self.words[PROBE_UNTIL]
                .compare_exchange(probe, until, AcqRel, Acquire)
                .is_ok();
        if mine {
            Admission::Go
        } else {
            Admission::Wait(self.policy.first.min(self.policy.probe))
        }
    }

    /// A call was answered. Returns whether calls were stopped until now.
    pub(super) fn succeeded(&self) -> bool {
        // A look first: the word is everybody's, and most of the time there is nothing to change.
        if self.words[FAILURES].load(Relaxed) != 0 {
            self.words[FAILURES].store(0, Relaxed);
        }
        if self.words[OPEN_UNTIL].load(Acquire) == 0 {
            return false;
        }
        self.words[OPENINGS].store(0, Relaxed);
        self.words[PROBE_UNTIL].store(0, Relaxed);
        self.words[OPEN_UNTIL].swap(0, AcqRel) != 0
    }

    /// A call that was let through has not been made after all: the next may be the probe.
    pub(super) fn withdrawn(&self) {
        self.words[PROBE_UNTIL].store(0, Release);
    }

    /// A call has failed. `jitter` is any number. Returns whether calls stop now.
    pub(super) fn failed(&self, now: u64, jitter: u64) -> Option<Opened> {
        if self.policy.max_fails == 0 {
            return None;
        }
        let until = self.words[OPEN_UNTIL].load(Acquire);
        if until == 0 {
            let failures = self.words[FAILURES].fetch_add(1, Relaxed) + 1;
            if failures < u64::from(self.policy.max_fails) {
                return None;
            }
        } else if now < until {
            // Calls that went out before they were stopped come back in their own time.
            return None;
        }
        let openings = self.words[OPENINGS].load(Relaxed);
        let span = span(self.policy.first, openings, jitter);
        let opened = self.words[OPEN_UNTIL]
            .compare_exchange(until, now.saturating_add(span).max(1), AcqRel, Acquire)
            .is_ok();
        if !opened {
            return None;
        }
        self.words[OPENINGS].fetch_add(1, Relaxed);
        self.words[FAILURES].store(0, Relaxed);
        self.words[PROBE_UNTIL].store(0, Release);
        Some(Opened {
            span,
            news: until == 0,
        })
    }

    /// Whether calls are stopped.
    pub(super) fn is_open(&self) -> bool {
        self.words[OPEN_UNTIL].load(Relaxed) != 0
    }
}

/// For how long to stop after having stopped `times` times in a row already: `first`, doubled each time up to a minute,
/// and up to a quarter less, as `jitter` has it.
pub(super) fn span(first: u64, times: u64, jitter: u64) -> u64 {
    let doubled = first
        .saturating_mul(1 << times.min(20))
        .min(LONGEST.max(first));
    doubled - jitter % (doubled / 4 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        max_fails: 3,
        first: 1000,
        probe: 5000,
    };

    fn breaker(words: &SharedWords) -> Breaker<'_> {
        Breaker {
            words,
            policy: POLICY,
        }
    }

    #[test]
    fn it_opens_after_as_many_failures_in_a_row_as_are_set_and_says_so_once() {
        let words = SharedWords::default();
        let breaker = breaker(&words);
        assert_eq!(breaker.failed(10, 0), None);
        assert_eq!(breaker.failed(11, 0), None);
        assert!(!breaker.succeeded());
        assert_eq!(breaker.failed(12, 0), None);
        assert_eq!(breaker.failed(13, 0), None);
        assert_eq!(breaker.admit(14), Admission::Go);
        let opened = breaker.failed(14, 0).unwrap();
        assert_eq!((opened.span, opened.news), (1000, true));
        // Those that were under way come back.
        assert_eq!(breaker.failed(15, 0), None);
        assert_eq!(breaker.admit(1013), Admission::Wait(1));
        assert_eq!(breaker.refuses(15), Some(999));
    }

    #[test]
    fn one_probe_goes_out_at_a_time_and_its_success_lets_all_go() {
        let words = SharedWords::default();
        let breaker = breaker(&words);
        (0..3).for_each(|_| {
            breaker.failed(0, 0);
        });
        assert_eq!(breaker.refuses(1000), None, "a probe is due");
        assert_eq!(breaker.admit(1000), Admission::Go);
        assert_eq!(breaker.admit(1000), Admission::Wait(1000));
        assert_eq!(breaker.refuses(1001), Some(1000));
        assert!(breaker.succeeded());
        assert!(!breaker.succeeded());
        assert_eq!(breaker.admit(1002), Admission::Go);
        assert_eq!(breaker.admit(1002), Admission::Go);
    }

    #[test]
    fn a_probe_that_fails_doubles_the_time_up_to_a_minute_and_is_no_news() {
        let words = SharedWords::default();
        let breaker = breaker(&words);
        (0..3).for_each(|_| {
            breaker.failed(0, 0);
        });
        let mut now = 1000;
        let mut spans = Vec::new();
        for _ in 0..8 {
            assert_eq!(breaker.admit(now), Admission::Go);
            let opened = breaker.failed(now, 0).unwrap();
            assert!(!opened.news);
            spans.push(opened.span);
            now += opened.span;
        }
        assert_eq!(
            spans,
            [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]
        );
        assert!(breaker.succeeded());
        (0..2).for_each(|_| assert_eq!(breaker.failed(now, 0), None));
        assert_eq!(breaker.failed(now, 0).unwrap().span, 1000, "as at first");
    }

    #[test]
    fn a_probe_whose_process_died_is_followed_by_another() {
        let words = SharedWords::default();
        let breaker = breaker(&words);
        (0..3).for_each(|_| {
            breaker.failed(0, 0);
        });
        assert_eq!(breaker.admit(2000), Admission::Go);
        assert_eq!(breaker.admit(6999), Admission::Wait(1));
        assert_eq!(breaker.admit(7000), Admission::Go);
        breaker.withdrawn();
        assert_eq!(breaker.admit(7001), Admission::Go);
    }

    #[test]
    fn spans_are_jittered_by_a_quarter_and_never_nothing() {
        for jitter in [0, 1, 17, u64::MAX] {
            let span = span(1000, 2, jitter);
            assert!((3000..=4000).contains(&span), "{span}");
        }
        assert_eq!(span(1, 0, 3), 1);
        assert_eq!(span(120_000, 5, 0), 120_000, "what is set is kept");
    }

    #[test]
    fn with_max_fails_0_it_never_opens() {
        let words = SharedWords::default();
        let breaker = Breaker {
            words: &words,
            policy: Policy {
                max_fails: 0,
                ..POLICY
            },
        };
        (0..100).for_each(|_| assert_eq!(breaker.failed(0, 0), None));
        assert_eq!(breaker.admit(1), Admission::Go);
    }
}
