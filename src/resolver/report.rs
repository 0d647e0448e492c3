//! Logging and its rate limits: one line that an operator can act on, never a flood.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::failures::Failures;
use crate::{Error, ErrorKind, clock};

/// The severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// The authorization server or the configuration is at fault: an operator must act.
    Error,
    /// Something works, but not as it should.
    Warn,
    /// A change of state worth knowing.
    Info,
}

/// The receiver of log lines. Called on the client's own thread: it must not block, and must not call back into the
/// client. Lines contain no secret.
pub type LogSink = Arc<dyn Fn(LogLevel, &str) + Send + Sync>;

/// The minimum time before a line of the same kind is written again.
const QUIET: Duration = Duration::from_secs(10);
/// The minimum time before a different line of the same kind.
const QUIET_FOR_NEWS: Duration = Duration::from_secs(1);
/// The minimum time before a line that clients can cause is written again.
const QUIET_FOR_CLIENTS: Duration = Duration::from_secs(60);

/// Writes the lines of one client.
pub(super) struct Reporter {
    sink: Option<LogSink>,
    failures: Arc<Failures>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kinds: [Option<Last>; ErrorKind::ALL.len()],
    failing_since: Option<Instant>,
    failures: u64,
    recovered: Option<Instant>,
    refused: Option<Last>,
}

struct Last {
    at: Instant,
    message: Arc<str>,
    suppressed: u64,
}

impl Reporter {
    pub(super) fn new(sink: Option<LogSink>, failures: Arc<Failures>) -> Self {
        Reporter {
            sink,
            failures,
            state: Mutex::default(),
        }
    }

    /// Logs that a call to the authorization server failed, for any number of requests.
    pub(super) fn failed(&self, error: &Error, now: Instant) {
        self.failures.note(error, clock::now().unix);
        let Some(sink) = &self.sink else { return };
        if let Some(line) = self.state.lock().failed(error, now) {
            sink(level(error.kind()), &line);
        }
    }

    /// Logs that a token is refused which the authorization server calls active. Any client can cause that, so it is
    /// logged at most once a minute.
    pub(super) fn refused(&self, line: &str, now: Instant) {
        let Some(sink) = &self.sink else { return };
        if let Some(line) = self.state.lock().refused(line, now) {
            sink(LogLevel::Warn, &line);
        }
    }

    /// Logs a line that the caller logs rarely.
    pub(super) fn say(&self, level: LogLevel, line: &str) {
        if let Some(sink) = &self.sink {
            sink(level, line);
        }
    }

    /// Records that a call succeeded, where that is logged already.
    pub(super) fn recovered(&self, now: Instant) {
        drop(self.state.lock().succeeded("", now));
    }

    /// Records that a call succeeded.
    pub(super) fn succeeded(&self, provider: &str, now: Instant) {
        let Some(sink) = &self.sink else { return };
        if let Some(line) = self.state.lock().succeeded(provider, now) {
            sink(LogLevel::Info, &line);
        }
    }
}

impl State {
    fn refused(&mut self, line: &str, now: Instant) -> Option<String> {
        let mut suppressed = 0;
        if let Some(last) = &mut self.refused {
            if now.saturating_duration_since(last.at) < QUIET_FOR_CLIENTS {
                last.suppressed += 1;
                return None;
            }
            suppressed = last.suppressed;
        }
        self.refused = Some(Last {
            at: now,
            message: line.into(),
            suppressed: 0,
        });
        Some(with_suppressed(line, suppressed))
    }

    fn failed(&mut self, error: &Error, now: Instant) -> Option<String> {
        // Requests that our own bounds refuse are no evidence about the authorization server.
        if !matches!(error.kind(), ErrorKind::Overloaded | ErrorKind::Stopped) {
            self.failing_since.get_or_insert(now);
            self.failures += 1;
        }
        let last = &mut self.kinds[error.kind().index()];
        let mut suppressed = 0;
        if let Some(last) = last {
            let passed = now.saturating_duration_since(last.at);
            let news = *last.message != *error.message();
            if passed < QUIET && !(news && passed >= QUIET_FOR_NEWS) {
                last.suppressed += 1;
                return None;
            }
            suppressed = last.suppressed;
        }
        *last = Some(Last {
            at: now,
            message: error.message().into(),
            suppressed: 0,
        });
        Some(with_suppressed(error.message(), suppressed))
    }

    fn succeeded(&mut self, provider: &str, now: Instant) -> Option<String> {
        if self
            .recovered
            .is_some_and(|at| now.saturating_duration_since(at) < QUIET)
        {
            return None;
        }
        let since = self.failing_since.take()?;
        let failures = std::mem::take(&mut self.failures);
        self.recovered = Some(now);
        Some(format!(
            "provider {provider:?}: the authorization server answers again, after {failures} failed calls in {} s",
            now.saturating_duration_since(since).as_secs()
        ))
    }
}

fn with_suppressed(line: &str, suppressed: u64) -> String {
    match suppressed {
        0 => line.to_owned(),
        more => format!("{line} ({more} more of this kind since the last line)"),
    }
}

fn level(kind: ErrorKind) -> LogLevel {
    match kind {
        ErrorKind::Busy | ErrorKind::Overloaded | ErrorKind::Stopped => LogLevel::Warn,
        _ => LogLevel::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> Error {
        Error::new(ErrorKind::Unreachable, message)
    }

    #[test]
    fn the_same_failure_is_one_line_and_the_next_says_how_many_were_left_out() {
        let mut state = State::default();
        let start = Instant::now();
        assert_eq!(state.failed(&refused("a"), start).as_deref(), Some("a"));
        for second in 1..10 {
            let now = start + Duration::from_secs(second);
            assert_eq!(state.failed(&refused("a"), now), None);
        }
        let line = state.failed(&refused("a"), start + QUIET).unwrap();
        assert!(line.starts_with("a (9 more"), "{line}");
    }

    #[test]
    fn refused_tokens_are_one_line_a_minute() {
        let mut state = State::default();
        let start = Instant::now();
        assert_eq!(state.refused("a", start).as_deref(), Some("a"));
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            assert_eq!(state.refused("b", now), None);
        }
        let line = state.refused("b", start + QUIET_FOR_CLIENTS).unwrap();
        assert!(line.starts_with("b (60 more"), "{line}");
    }

    #[test]
    fn a_new_reason_is_not_hidden_behind_an_old_one_for_long() {
        let mut state = State::default();
        let start = Instant::now();
        state.failed(&refused("a"), start);
        assert_eq!(state.failed(&refused("b"), start), None);
        let line = state.failed(&refused("b"), start + QUIET_FOR_NEWS).unwrap();
        assert!(line.starts_with("b (1 more"), "{line}");
    }

    #[test]
    fn a_server_that_flaps_a_thousand_times_a_second_does_not_flood_the_log() {
        let mut state = State::default();
        let start = Instant::now();
        let mut lines = 0;
        for milli in 0..1000 {
            let now = start + Duration::from_millis(milli);
            lines += usize::from(state.failed(&refused("a"), now).is_some());
            lines += usize::from(state.succeeded("main", now).is_some());
        }
        assert!(lines <= 2, "{lines}");
    }

    #[test]
    fn recovery_is_said_once() {
        let mut state = State::default();
        let start = Instant::now();
        assert_eq!(state.succeeded("main", start), None);
        state.failed(&refused("a"), start);
        state.failed(&refused("a"), start);
        let line = state
            .succeeded("main", start + Duration::from_secs(30))
            .unwrap();
        assert!(line.contains("after 2 failed calls in 30 s"), "{line}");
        assert_eq!(state.succeeded("main", start), None);
    }
}
