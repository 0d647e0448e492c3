//! Per-token state beside the verdicts: the tokens that the authorization server has called active, and the tokens on
//! which it has failed lately. The state belongs to this process and has a bounded size; old entries make room for new
//! ones.
//!
//! A token on which the server fails again and again is not asked about for a while. This begins with its second
//! failure in a row and lasts for `fail_timeout`, which doubles, or for as long as the server says in `Retry-After`,
//! but for ten seconds at most. So a client that repeats one such token costs one call in ten seconds and has no effect
//! on others.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::breaker::{Trust, span};
use crate::Error;
use crate::token::Key;

/// The number of tokens that can be recorded as active: 8 bytes each, allocated from the start.
const KNOWN: usize = 8192;
/// The number of tokens that can be recorded as failed.
const FAILED: usize = 1024;
/// The maximum time for which a token is not asked about, in milliseconds.
const LONGEST: u64 = 10_000;
/// The age at which a failure is forgotten, in milliseconds.
const FORGOTTEN: u64 = 60_000;

/// The known tokens.
#[derive(Default)]
pub(super) struct Tokens {
    /// A part of the key of each token that was active, at an index that the key determines.
    active: OnceLock<Box<[AtomicU64]>>,
    failed: Mutex<Vec<Option<Failed>>>,
    /// Whether there is an entry in `failed`.
    any_failed: AtomicBool,
    /// The number of answers: a token's failure counts once between two answers.
    answers: AtomicU64,
}

/// A token whose last call failed.
struct Failed {
    key: Key,
    times: u64,
    /// The time of the failure, in milliseconds on the monotonic clock.
    at: u64,
    /// The time until which the token is not asked about, in milliseconds on the monotonic clock.
    until: u64,
    /// The value of `answers` at that time.
    answers: u64,
    error: Error,
}

impl Tokens {
    /// Records that the authorization server has called this token active.
    pub(super) fn is_active(&self, key: &Key) {
        let active = self
            .active
            .get_or_init(|| (0..KNOWN).map(|_| AtomicU64::new(0)).collect());
        let (place, name) = place(key, active.len());
        active[place].store(name, Ordering::Relaxed);
    }

    /// Records that it has called the token inactive: the token is unknown again.
    pub(super) fn is_inactive(&self, key: &Key) {
        if let Some(active) = self.active.get() {
            let (place, name) = place(key, active.len());
            // If the place holds another token by now, that one stays.
            let _ = active[place].compare_exchange(name, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether it has called the token active lately.
    pub(super) fn trust(&self, key: &Key) -> Trust {
        let is_known = self.active.get().is_some_and(|active| {
            let (place, name) = place(key, active.len());
            active[place].load(Ordering::Relaxed) == name
        });
        if is_known {
            Trust::Known
        } else {
            Trust::Stranger
        }
    }

    /// Records that a call for this token has failed. With `hold_back`, in milliseconds, the token is not asked about
    /// for that time when this happens again, and for longer each time. Returns whether the failure counts: it is the
    /// token's first since the last answer.
    pub(super) fn failed(
        &self,
        key: &Key,
        error: &Error,
        hold_back: Option<u64>,
        now: u64,
    ) -> bool {
        let answers = self.answers.load(Ordering::Relaxed);
        let mut failed = self.failed.lock();
        failed.resize_with(FAILED, || None);
        let (place, _) = place(key, FAILED);
        let former = failed[place]
            .take()
            .filter(|former| former.key == *key && now.saturating_sub(former.at) < FORGOTTEN);
        let times = former.as_ref().map_or(0, |former| former.times) + 1;
        let pause = hold_back.map_or(0, |first| {
            let asked_to = error.retry_after().map_or(0, millis);
            match times {
                1 => 0,
                more => span(first, more - 2, 0).max(asked_to).min(LONGEST),
            }
        });
        let is_news = former.is_none_or(|former| former.answers != answers);
        failed[place] = Some(Failed {
            key: *key,
            times,
            at: now,
            until: now.saturating_add(pause),
            answers,
            error: error.clone(),
        });
        self.any_failed.store(true, Ordering::Relaxed);
        is_news
    }

    /// The error for a request for this token because its last call failed, with the time after which a retry may help.
    pub(super) fn held_back(&self, key: &Key, now: u64) -> Option<Error> {
        if !self.any_failed.load(Ordering::Relaxed) {
            return None;
        }
        let failed = self.failed.lock();
        let (place, _) = place(key, FAILED);
        let entry = failed.get(place)?.as_ref()?;
        let left = entry.until.saturating_sub(now);
        (entry.key == *key && left > 0).then(|| {
            let error = entry.error.clone();
            error.with_retry_after(Some(Duration::from_millis(left)))
        })
    }

    /// Records an answer, for any token: earlier failures may count again.
    pub(super) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that this token had an answer.
    pub(super) fn succeeded(&self, key: &Key) {
        if !self.any_failed.load(Ordering::Relaxed) {
            return;
        }
        let mut failed = self.failed.lock();
        let (place, _) = place(key, FAILED);
        if let Some(entry) = failed.get_mut(place) {
            entry.take_if(|entry| entry.key == *key);
        }
    }

    /// The authorization server had failed and not the tokens: all tokens are asked about again.
    pub(super) fn forgive(&self) {
        let former = std::mem::take(&mut *self.failed.lock());
        self.any_failed.store(false, Ordering::Relaxed);
        drop(former);
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The index of a key's entry among `of` places, and its name there. It is a part of the hash, so a client cannot
/// choose which entry to evict.
fn place(key: &Key, of: usize) -> (usize, u64) {
    let (name, rest) = key.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
    let (number, _) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
    let place = u64::from_le_bytes(*number) % of as u64;
    // 0 marks an empty place.
    (place as usize, u64::from_le_bytes(*name).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn key(number: u64) -> Key {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number + 1).to_le_bytes());
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        Key(bytes)
    }

    fn error() -> Error {
        Error::new(ErrorKind::BadAnswer, "failed (500)").with_server_failed()
    }

    #[test]
    fn a_token_that_was_active_is_known_until_others_take_its_place() {
        let tokens = Tokens::default();
        assert_eq!(tokens.trust(&key(1)), Trust::Stranger);
        tokens.is_active(&key(1));
        assert_eq!(tokens.trust(&key(1)), Trust::Known);
        assert_eq!(tokens.trust(&key(2)), Trust::Stranger);
        tokens.is_inactive(&key(1));
        assert_eq!(tokens.trust(&key(1)), Trust::Stranger);
        tokens.is_active(&key(1));
        tokens.is_inactive(&key(1 + KNOWN as u64));
        assert_eq!(tokens.trust(&key(1)), Trust::Known);
        tokens.is_active(&key(1 + KNOWN as u64));
        assert_eq!(tokens.trust(&key(1)), Trust::Stranger);
    }

    #[test]
    fn a_tokens_failure_is_news_once_between_two_answers() {
        let tokens = Tokens::default();
        assert!(tokens.failed(&key(1), &error(), Some(1000), 0));
        assert!(!tokens.failed(&key(1), &error(), Some(1000), 1));
        assert!(tokens.failed(&key(2), &error(), Some(1000), 1));
        tokens.answered();
        assert!(tokens.failed(&key(1), &error(), Some(1000), 2));
    }

    #[test]
    fn a_token_that_fails_again_and_again_is_held_back_longer_each_time() {
        let tokens = Tokens::default();
        assert!(tokens.held_back(&key(1), 0).is_none());
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            tokens.failed(&key(1), &error(), Some(1000), now);
            let held = tokens.held_back(&key(1), now);
            let pause = held.map_or(0, |error| millis(error.retry_after().unwrap()));
            now += pause;
            assert!(tokens.held_back(&key(1), now).is_none());
            pauses.push(pause);
        }
        assert_eq!(pauses, [0, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert!(
            tokens.held_back(&key(2), now - 1).is_none(),
            "others are not"
        );
        tokens.succeeded(&key(1));
        tokens.failed(&key(1), &error(), Some(1000), now);
        assert!(tokens.held_back(&key(1), now).is_none(), "as at first");
    }

    #[test]
    fn what_the_server_says_of_when_to_ask_again_is_kept_for_this_token() {
        let tokens = Tokens::default();
        let busy = |seconds| error().with_retry_after(Some(Duration::from_secs(seconds)));
        tokens.failed(&key(1), &busy(3), Some(1000), 0);
        assert!(tokens.held_back(&key(1), 0).is_none());
        tokens.failed(&key(1), &busy(3), Some(1000), 0);
        assert!(tokens.held_back(&key(1), 2999).is_some());
        assert!(tokens.held_back(&key(1), 3000).is_none());
        (0..2).for_each(|_| {
            tokens.failed(&key(2), &busy(3600), Some(1000), 0);
            tokens.failed(&key(3), &busy(3600), None, 0);
        });
        assert!(
            tokens.held_back(&key(2), 10_000).is_none(),
            "ten seconds at most"
        );
        assert!(
            tokens.held_back(&key(3), 0).is_none(),
            "unless nobody is to be"
        );
    }

    #[test]
    fn when_it_was_the_server_nobody_is_held_back() {
        let tokens = Tokens::default();
        (0..3).for_each(|_| {
            tokens.failed(&key(1), &error(), Some(1000), 0);
        });
        assert!(tokens.held_back(&key(1), 1).is_some());
        tokens.forgive();
        assert!(tokens.held_back(&key(1), 1).is_none());
    }

    #[test]
    fn however_many_tokens_fail_no_more_are_kept_than_have_room() {
        let tokens = Tokens::default();
        for number in 0..10 * FAILED as u64 {
            tokens.failed(&key(number), &error(), Some(1000), 0);
        }
        assert_eq!(tokens.failed.lock().len(), FAILED);
    }
}
