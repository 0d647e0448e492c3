//! The budget of repeated calls.
//!
//! A call that failed after the token was sent is repeated, at the same address or another, since one connection or one
//! address may be the cause. But the token may be the cause, and a stranger's tokens must not double the load on the
//! authorization server. So there is a budget: an answer adds one repetition, time adds one per second, and up to 100
//! are saved. Half of that is kept for the repetitions that are most likely to help: at another address that is not
//! known to fail. A call whose token was not sent may be repeated without using the budget.

use parking_lot::Mutex;

/// The maximum number of saved repetitions.
const MOST: u64 = 100;
/// The time in milliseconds in which one repetition is added.
const EARNED: u64 = 1000;

/// The remaining repetitions.
pub(super) struct Retries(Mutex<State>);

struct State {
    left: u64,
    /// The time up to which repetitions have been added, in milliseconds on the monotonic clock.
    paid: u64,
}

impl Retries {
    pub(super) fn new(now: u64) -> Self {
        Retries(Mutex::new(State {
            left: MOST,
            paid: now,
        }))
    }

    /// Records an answer.
    pub(super) fn answered(&self) {
        let mut state = self.0.lock();
        state.left = (state.left + 1).min(MOST);
    }

    /// Takes one repetition, if there is one left; one of the second half only if a repetition is `likely` to help.
    pub(super) fn take(&self, likely: bool, now: u64) -> bool {
        let mut state = self.0.lock();
        let earned = now.saturating_sub(state.paid) / EARNED;
        state.left = state.left.saturating_add(earned).min(MOST);
        state.paid += earned * EARNED;
        let kept = if likely { 0 } else { MOST / 2 };
        let is_left = state.left > kept;
        state.left -= u64::from(is_left);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_alone_is_repeated_a_hundred_times_and_once_a_second() {
        let retries = Retries::new(5_000);
        let taken = (0..1000).filter(|_| retries.take(true, 5_000)).count();
        assert_eq!(taken, 100);
        assert!(!retries.take(true, 5_999));
        assert!(retries.take(true, 6_000));
        assert!(!retries.take(true, 6_999));
        assert!(retries.take(true, 7_000));
    }

    #[test]
    fn each_answer_pays_for_one_and_no_more_is_saved_up_than_there_was() {
        let retries = Retries::new(0);
        (0..50).for_each(|_| retries.answered());
        assert_eq!((0..1000).filter(|_| retries.take(true, 0)).count(), 100);
        assert!(!retries.take(true, 0));
        (0..7).for_each(|_| retries.answered());
        assert_eq!((0..1000).filter(|_| retries.take(true, 0)).count(), 7);
        assert_eq!(
            (0..1000).filter(|_| retries.take(true, 1_000_000)).count(),
            100
        );
    }

    #[test]
    fn half_of_them_is_kept_for_what_is_likely_to_help() {
        let retries = Retries::new(0);
        assert_eq!((0..1000).filter(|_| retries.take(false, 0)).count(), 50);
        assert_eq!((0..1000).filter(|_| retries.take(true, 0)).count(), 50);
    }
}
