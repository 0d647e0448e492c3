//! The circuit breaker: no calls to an authorization server that does not answer.
//!
//! # Evidence
//!
//! A call is made for a token that any stranger may have sent, and some authorization servers fail on tokens that they
//! do not know: with 500, 429 or 503, with a reset, or with no answer. So a failure after the token was sent is
//! evidence about the token *or* about the server. The results for other tokens tell the two apart:
//!
//! - A failure before any token was sent ([`Evidence::Connection`]: no connection, no TLS, no access token of our own)
//!   is about the server. `max_fails` of them in a row stop the calls.
//! - Any other failure counts once for each token. It counts more if the server has called that token active before
//!   ([`Evidence::Known`]) and less if not ([`Evidence::Stranger`]). One answer ends the count, because it contradicts
//!   all of it. Calls are limited only when the count reaches 20 × `max_fails`, and is more than [`MARGIN`] times the
//!   count that an answer has ended lately: a gateway that sees many strangers' tokens fail between two answers knows
//!   that these failures mean nothing.
//!
//! # Reaction
//!
//! Without connections (*cut off*): calls stop for `fail_timeout`. Then one call is sent, a probe. If the probe does
//! not get through either, calls stop for twice as long, up to a minute.
//!
//! With connections, but without answers (*in doubt*): calls are spread, 20 × `max_fails` of them over `fail_timeout`;
//! half of that at once if none were sent before. The span doubles up to ten seconds, and every other time half as many
//! calls are sent, down to 4 × `max_fails`. A probe with a stranger's token may fail for that reason, but others follow
//! it at once. Known tokens have the same number of calls for themselves.
//!
//! One answer ends either state. Each span is jittered, so that gateways that were cut off together do not return
//! together.
//!
//! # State
//!
//! The state is four words. All processes of a node share them where there is a store that shares them. Every step is
//! one atomic operation on the words, so a process may die between any two steps. Time is that of the monotonic clock,
//! which is the same for all processes.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use crate::Provider;
use crate::cache::SharedAtomics;

/// The maximum time for which calls stop, in milliseconds, unless `fail_timeout` is longer.
const LONGEST: u64 = 60_000;
/// The maximum span over which calls are spread, in milliseconds, unless `fail_timeout` is longer.
const LONGEST_DOUBT: u64 = 10_000;

/// The minimum and maximum number of failures of strangers' tokens that limit calls, as a multiple of `max_fails`.
const LEAST: u64 = 20;
const MOST: u64 = 400;
/// The weight of a failure of a known token, in failures of strangers' tokens.
const KNOWN: u64 = 5;
/// The factor by which a row of failures must be longer than those that an answer has ended lately.
const MARGIN: u64 = 5;
/// The number of calls in the first span while the server is in doubt, and the minimum in later spans, as a multiple of
/// `max_fails`.
const FIRST_PROBES: u64 = 20;
const PROBES: u64 = 4;

// The words.
/// The failure counts: see [`Record`].
const RECORD: usize = 0;
/// The time until which calls stop, or the end of the span over which they are spread; 0 when all calls are sent. The
/// highest bit is set when they are spread.
const OPEN_UNTIL: usize = 1;
/// Cut off: the time until which a probe is in progress. In doubt: the time when the next call of a stranger is due.
const PROBE: usize = 2;
/// In doubt: the time when the next call of a known token is due.
const KNOWN_PROBE: usize = 3;

/// The flag in [`OPEN_UNTIL`] for the state *in doubt*.
const DOUBT: u64 = 1 << 63;

/// Settings of the circuit breaker.
#[derive(Clone, Copy)]
pub(super) struct BreakerSettings {
    /// The number of failures in a row that opens it; 0: it never opens.
    pub max_fails: u32,
    /// The time for which calls stop the first time, in milliseconds.
    pub first: u64,
    /// The maximum duration of a probe, in milliseconds.
    pub probe: u64,
}

impl BreakerSettings {
    pub(super) fn of(provider: &Provider) -> Self {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        BreakerSettings {
            max_fails: provider.max_fails,
            first: millis(provider.fail_timeout),
            probe: millis(provider.timeout),
        }
    }

    /// The failure count that limits calls, if an answer has ended a count of `ended` lately.
    fn needed(&self, ended: u64) -> u64 {
        let fails = u64::from(self.max_fails);
        (MARGIN * ended).clamp(LEAST * fails, (MOST * fails).min(Record::LIMIT))
    }

    /// The state into which the evidence in `record` leads, if any.
    fn judge(&self, record: Record) -> Option<State> {
        if record.cut_off >= u64::from(self.max_fails) {
            Some(State::CutOff)
        } else if record.run >= self.needed(record.ended) {
            Some(State::Doubt)
        } else {
            None
        }
    }
}

/// The evidence that a failed call gives about the authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// No token was sent: the failure is about the server.
    Connection,
    /// The token is one that the server has called active before.
    Known,
    /// Nothing is known about the token.
    Stranger,
}

/// The kind of token for which a call would be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// A token that the authorization server has called active before.
    Known,
    Stranger,
}

impl From<Trust> for Evidence {
    fn from(trust: Trust) -> Self {
        match trust {
            Trust::Known => Evidence::Known,
            Trust::Stranger => Evidence::Stranger,
        }
    }
}

/// The decision whether a call may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// The call may be sent.
    Go,
    /// The call may not be sent. A retry helps after this many milliseconds at the earliest.
    Wait(u64),
}

/// The event that calls stopped, or began to be spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    /// The span in milliseconds.
    pub span: u64,
    /// The number of calls that are sent in the span.
    pub probes: u64,
    /// The number of failures that caused it.
    pub failures: u64,
    /// Whether all calls were sent until now: this is worth a log line, and a failed probe is not.
    pub news: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// All calls are sent.
    Closed,
    /// There is no connection.
    CutOff,
    /// There are connections, but no answers.
    Doubt,
}

fn state(open_until: u64) -> (State, u64) {
    match open_until {
        0 => (State::Closed, 0),
        word if word & DOUBT != 0 => (State::Doubt, word & !DOUBT),
        until => (State::CutOff, until),
    }
}

/// The failure counts, packed into one word: each number saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Record {
    /// The weighted count of failed tokens since the last answer.
    run: u64,
    /// The number of calls in a row that had no connection.
    cut_off: u64,
    /// The largest `run` that an answer has ended lately.
    ended: u64,
    /// The number of times in a row that calls have been stopped, or spread more.
    openings: u64,
}

impl Record {
    /// The widths in bits: they fill the word.
    const RUN: u32 = 20;
    const CUT_OFF: u32 = 16;
    const ENDED: u32 = 20;
    const OPENINGS: u32 = 8;
    /// The maximum of `run` and `ended`.
    const LIMIT: u64 = (1 << Self::RUN) - 1;

    fn read(word: u64) -> Self {
        let part = |at: u32, width: u32| word >> at & ((1 << width) - 1);
        Record {
            run: part(0, Self::RUN),
            cut_off: part(Self::RUN, Self::CUT_OFF),
            ended: part(Self::RUN + Self::CUT_OFF, Self::ENDED),
            openings: part(Self::RUN + Self::CUT_OFF + Self::ENDED, Self::OPENINGS),
        }
    }

    fn word(self) -> u64 {
        let part = |value: u64, at: u32, width: u32| value.min((1 << width) - 1) << at;
        part(self.run, 0, Self::RUN)
            | part(self.cut_off, Self::RUN, Self::CUT_OFF)
            | part(self.ended, Self::RUN + Self::CUT_OFF, Self::ENDED)
            | part(
                self.openings,
                Self::RUN + Self::CUT_OFF + Self::ENDED,
                Self::OPENINGS,
            )
    }

    fn with(mut self, evidence: Evidence) -> Self {
        match evidence {
            Evidence::Connection => self.cut_off += 1,
            Evidence::Known => self.run += KNOWN,
            Evidence::Stranger => self.run += 1,
        }
        if evidence != Evidence::Connection {
            // There was a connection.
            self.cut_off = 0;
        }
        self
    }

    /// The record after an answer. `ended` decays with each answer: half of it after 22.
    fn answered(self) -> Self {
        Record {
            ended: self.run.max(self.ended - self.ended.div_ceil(32)),
            ..Record::default()
        }
    }
}

/// The breaker, on the words that hold its state.
#[derive(Clone, Copy)]
pub(super) struct Breaker<'a> {
    pub words: &'a SharedAtomics,
    pub policy: BreakerSettings,
}

impl Breaker<'_> {
    /// Whether a request need not even try: `Some` only while it would not be let through. `now` is in milliseconds on
    /// the monotonic clock, here and below.
    pub(super) fn refuses(&self, trust: Trust, now: u64) -> Option<u64> {
        if self.policy.max_fails == 0 {
            return None;
        }
        match state(self.words[OPEN_UNTIL].load(Acquire)) {
            (State::Closed, _) => None,
            (State::CutOff, until) if now < until => Some(until - now),
            (State::CutOff, _) => {
                let probe = self.words[PROBE].load(Acquire);
                (now < probe).then(|| self.policy.first.min(probe - now))
            }
            (State::Doubt, _) => {
                let (due, pace) = (self.due(trust).load(Acquire), self.pace());
                pace.next(due, now).err()
            }
        }
    }

    /// Whether a call may be sent now. When a probe is due, one caller is let through.
    pub(super) fn admit(&self, trust: Trust, now: u64) -> Admission {
        if self.policy.max_fails == 0 {
            return Admission::Go;
        }
        match state(self.words[OPEN_UNTIL].load(Acquire)) {
            (State::Closed, _) => Admission::Go,
            (State::CutOff, until) if now < until => Admission::Wait(until - now),
            (State::CutOff, _) => {
                let probe = self.words[PROBE].load(Acquire);
                let until = now.saturating_add(self.policy.probe.max(1));
                let mine = now >= probe
                    && self.words[PROBE]
                        .compare_exchange(probe, until, AcqRel, Acquire)
                        .is_ok();
                if mine {
                    Admission::Go
                } else {
                    let until = self.words[PROBE].load(Acquire);
                    Admission::Wait(self.policy.first.min(until.saturating_sub(now)).max(1))
                }
            }
            (State::Doubt, _) => {
                let pace = self.pace();
                let mut refused = 0;
                let taken = self.due(trust).fetch_update(AcqRel, Acquire, |due| {
                    match pace.next(due, now) {
                        Ok(next) => Some(next),
                        Err(after) => {
                            refused = after;
                            None
                        }
                    }
                });
                match taken {
                    Ok(_) => Admission::Go,
                    Err(_) => Admission::Wait(refused),
                }
            }
        }
    }

    /// A call was answered. Returns whether calls were limited until now.
    pub(super) fn succeeded(&self) -> bool {
        // Reads first: all processes share the word, and most of the time there is nothing to change.
        if self.words[RECORD].load(Relaxed) != 0 {
            self.record(Record::answered);
        }
        if self.words[OPEN_UNTIL].load(Acquire) == 0 {
            return false;
        }
        self.words[OPEN_UNTIL].swap(0, AcqRel) != 0
    }

    /// Records that a call that was let through was not made after all: the next call may be the probe.
    pub(super) fn withdrawn(&self) {
        // Not in doubt: calls that are started and cancelled would take the place of all others.
        if let (State::CutOff, _) = state(self.words[OPEN_UNTIL].load(Acquire)) {
            self.words[PROBE].store(0, Release);
        }
    }

    /// Records that a call has failed. `jitter` is any number. Returns whether calls are limited now, or limited more.
    pub(super) fn failed(&self, evidence: Evidence, now: u64, jitter: u64) -> Option<Opened> {
        if self.policy.max_fails == 0 {
            return None;
        }
        let record = self.record(|record| record.with(evidence));
        let judged = self.policy.judge(record);
        let open = self.words[OPEN_UNTIL].load(Acquire);
        let (next, openings) = match (state(open), evidence) {
            ((State::Closed, _), _) => (judged?, 0),
            // Calls that were sent before calls stopped may still fail later.
            ((State::CutOff, until), _) if now < until => return None,
            ((State::CutOff, _), Evidence::Connection) => (State::CutOff, record.openings),
            // The probe reached the server, so other tokens can be tried with it.
            ((State::CutOff, _), _) => (State::Doubt, 0),
            ((State::Doubt, _), _) if judged == Some(State::CutOff) => (State::CutOff, 0),
            ((State::Doubt, until), _) if now < until => return None,
            ((State::Doubt, _), _) => (State::Doubt, record.openings),
        };
        let (longest, mark) = match next {
            State::Doubt => (LONGEST_DOUBT, DOUBT),
            _ => (LONGEST, 0),
        };
        let span = span_up_to(longest, self.policy.first, openings, jitter);
        let until = now.saturating_add(span).clamp(1, DOUBT - 1) | mark;
        self.words[OPEN_UNTIL]
            .compare_exchange(open, until, AcqRel, Acquire)
            .ok()?;
        self.record(|record| Record {
            openings: openings + 1,
            cut_off: 0,
            ..record
        });
        let changed = state(open).0 != next;
        if changed || next == State::CutOff {
            self.words[PROBE].store(0, Release);
        }
        if changed {
            self.words[KNOWN_PROBE].store(0, Release);
        }
        Some(Opened {
            span,
            probes: match next {
                State::Doubt => self.probes(openings),
                _ => 0,
            },
            failures: match next {
                State::Doubt => record.run,
                _ => record.cut_off,
            },
            news: open == 0,
        })
    }

    /// Whether calls are limited.
    pub(super) fn is_open(&self) -> bool {
        self.words[OPEN_UNTIL].load(Relaxed) != 0
    }

    fn record(&self, change: impl Fn(Record) -> Record) -> Record {
        let mut changed = Record::default();
        // The closure never returns `None`.
        let _ = self.words[RECORD].fetch_update(AcqRel, Acquire, |word| {
            let record = change(Record::read(word)).word();
            changed = Record::read(record);
            Some(record)
        });
        changed
    }

    fn due(&self, trust: Trust) -> &AtomicU64 {
        match trust {
            Trust::Known => &self.words[KNOWN_PROBE],
            Trust::Stranger => &self.words[PROBE],
        }
    }

    /// The number of calls in a span in doubt, after so many earlier spans.
    fn probes(&self, spans: u64) -> u64 {
        (FIRST_PROBES >> (spans / 2).min(63)).max(PROBES) * u64::from(self.policy.max_fails)
    }

    fn pace(&self) -> Pace {
        let openings = Record::read(self.words[RECORD].load(Relaxed)).openings;
        let spans = openings.saturating_sub(1);
        let span = span_up_to(LONGEST_DOUBT, self.policy.first, spans, 0);
        let probes = self.probes(spans);
        let interval = span.div_ceil(probes).max(1);
        Pace {
            interval,
            slack: interval * (probes / 2).saturating_sub(1),
        }
    }
}

/// The schedule of spread calls: one per `interval`, and some of them early, by `slack` in total (the generic cell rate
/// algorithm). In milliseconds.
#[derive(Clone, Copy)]
struct Pace {
    interval: u64,
    slack: u64,
}

impl Pace {
    /// The time when the next call is due after one at `now`, if that one may be sent: `due` is the time when it would
    /// be due. Otherwise the number of milliseconds after which it may be sent.
    fn next(self, due: u64, now: u64) -> Result<u64, u64> {
        let early = due.saturating_sub(now);
        if early > self.slack {
            return Err(early - self.slack);
        }
        Ok(due.max(now).saturating_add(self.interval))
    }
}

/// The time for which calls stop after they have been stopped `times` times in a row already: `first`, doubled each
/// time up to a minute, and up to a quarter less, depending on `jitter`.
pub(super) fn span(first: u64, times: u64, jitter: u64) -> u64 {
    span_up_to(LONGEST, first, times, jitter)
}

fn span_up_to(longest: u64, first: u64, times: u64, jitter: u64) -> u64 {
    let doubled = first
        .saturating_mul(1 << times.min(20))
        .min(longest.max(first));
    doubled - jitter % (doubled / 4 + 1)
}

#[cfg(test)]
mod tests;
