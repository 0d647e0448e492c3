//! The keys that the authorization server publishes (RFC 7517), for those providers whose answers are read with them.
//!
//! One task fetches them when the client starts, and again when their lifetime is over. All callers that need the keys
//! wait for this task, so there is one fetch at a time. When the keys can't be fetched, the last fetched ones stay in
//! use. An answer that is signed with a key that is not among them causes a fetch at once: the server may have begun to
//! sign with a new key. Anybody who can trigger such an answer could also trigger a fetch, so this is done once a
//! minute at most.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::breaker::span;
use super::discovery::Discovery;
use super::report::Reporter;
use super::transport::{self, Transport};
use crate::clock::{self, Now};
use crate::jwt::KeySet;
use crate::oauth::Request;
use crate::{Error, ErrorKind, LogLevel, Provider, cache};

/// The default lifetime of keys without a stated one.
const USUAL: Duration = Duration::from_secs(3600);
/// The bounds of a stated lifetime.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(86_400);
/// The time until the next fetch after the first failure, in milliseconds; it doubles up to a minute.
const AGAIN: u64 = 500;
/// The minimum time between two fetches because of unknown keys, in milliseconds.
const UNKNOWN: u64 = 60_000;
/// The minimum time after a fetch that failed, in milliseconds.
const UNKNOWN_AFTER_FAILURE: u64 = 1_000;

/// The current key set and its state.
#[derive(Clone)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// The error and the time of the last failed fetch, in milliseconds on the monotonic clock.
    failure: Option<(Error, u64)>,
    /// The time of the last fetch because of an unknown key.
    unknown: Option<u64>,
    /// A fetch is in progress, or about to start.
    fetching: bool,
}

/// The next step of a caller for whom the current keys are not enough.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The current keys differ from the caller's.
    Look,
    Wait,
    Fetch,
    /// No newer keys can be obtained now.
    Give,
}

impl State {
    fn step(&self, than: Option<&Arc<KeySet>>, now: Now) -> Step {
        let same = match (&self.keys, than) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (ours, _) => ours.is_none(),
        };
        if !same {
            return Step::Look;
        }
        if self.fetching {
            return Step::Wait;
        }
        let within = |since: u64, span| now.monotonic.saturating_sub(since) < span;
        let lately = match &self.failure {
            Some((_, at)) => within(*at, UNKNOWN_AFTER_FAILURE),
            None => self.unknown.is_some_and(|at| within(at, UNKNOWN)),
        };
        if lately { Step::Give } else { Step::Fetch }
    }
}

pub(super) struct Keys {
    state: watch::Sender<State>,
    /// Signals that a caller needs newer keys.
    wanted: Notify,
}

impl Keys {
    pub(super) fn new() -> Self {
        Keys {
            state: watch::Sender::new(State {
                keys: None,
                failure: None,
                unknown: None,
                // The task starts with a fetch.
                fetching: true,
            }),
            wanted: Notify::new(),
        }
    }

    /// The current keys, if there are any.
    pub(super) fn known(&self) -> Option<Arc<KeySet>> {
        self.state.borrow().keys.clone()
    }

    /// Returns other keys than these, which are not enough; `None` when no others can be obtained now.
    ///
    /// # Errors
    /// The reason why there are no keys at all.
    pub(super) async fn newer(
        &self,
        than: Option<&Arc<KeySet>>,
    ) -> Result<Option<Arc<KeySet>>, Error> {
        let mut changes = self.state.subscribe();
        let mut asked = false;
        loop {
            let now = clock::now();
            let state = changes.borrow_and_update().clone();
            match state.step(than, now) {
                Step::Look => return Ok(state.keys),
                Step::Fetch if !asked => {
                    asked = true;
                    self.state.send_modify(|state| {
                        state.fetching = true;
                        state.unknown = than.map(|_| now.monotonic);
                    });
                    self.wanted.notify_one();
                }
                Step::Wait => {
                    asked = true;
                    if changes.changed().await.is_err() {
                        // We own the sender: it lives as long as we do.
                        std::future::pending::<()>().await;
                    }
                }
                Step::Fetch | Step::Give => {
                    return match (than, state.failure) {
                        (None, Some((error, _))) => Err(error),
                        _ => Ok(None),
                    };
                }
            }
        }
    }

    /// Keeps the keys current; never returns.
    pub(super) async fn keep_up(
        &self,
        provider: &Provider,
        discovery: &Discovery,
        transport: &Transport,
        reporter: &Reporter,
        jitter: impl Fn() -> u64,
    ) {
        let mut failures = 0;
        loop {
            let pause = match fetch(provider, discovery, transport).await {
                Ok((keys, lifetime)) => {
                    if failures > 0 {
                        reporter.say(
                            LogLevel::Info,
                            &format!(
                                "provider {:?}: the keys of the authorization server can be had again",
                                provider.name
                            ),
                        );
                    }
                    failures = 0;
                    self.state.send_modify(|state| {
                        state.keys = Some(Arc::new(keys));
                        state.failure = None;
                        state.fetching = false;
                    });
                    lifetime
                }
                Err(error) => {
                    reporter.failed(&error, std::time::Instant::now());
                    let now = clock::now().monotonic;
                    self.state.send_modify(|state| {
                        state.failure = Some((error, now));
                        state.fetching = false;
                    });
                    failures += 1;
                    Duration::from_millis(span(AGAIN, failures - 1, jitter()))
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => self.state.send_modify(|state| state.fetching = true),
                () = self.wanted.notified() => {}
            }
        }
    }
}

/// Fetches the keys. Returns their lifetime as well.
async fn fetch(
    provider: &Provider,
    discovery: &Discovery,
    transport: &Transport,
) -> Result<(KeySet, Duration), Error> {
    let server = discovery.server_at_last().await?;
    let Some(endpoint) = &server.jwks else {
        return Err(Error::new(
            ErrorKind::BadAnswer,
            format!(
                "provider {:?}: the metadata of {} does not say where its keys are; set jwks_uri",
                provider.name,
                server.issuer.as_deref().unwrap_or_default()
            ),
        ));
    };
    let bad = |what: &str| {
        Error::new(
            ErrorKind::BadAnswer,
            format!("{}: {what}; check jwks_uri", provider.place(endpoint)),
        )
    };
    let request = Request::get_json();
    let call = transport.call(provider, endpoint, &request, false);
    let response = match tokio::time::timeout(provider.timeout, call).await {
        Ok(Ok(response)) => response,
        Ok(Err(failure)) => return Err(failure.error),
        Err(_) => return Err(transport::timed_out(provider, endpoint, provider.timeout)),
    };
    match response.status {
        200 => {
            let keys = KeySet::parse(&response.body).map_err(|error| bad(&error.to_string()))?;
            let lifetime = cache::server_says(&response.headers)
                .unwrap_or(USUAL)
                .clamp(SHORTEST, LONGEST);
            Ok((keys, lifetime))
        }
        429 | 500..=599 => Err(bad(&format!(
            "there is no JWKS to be had (status {})",
            response.status
        ))
        .with_server_failed()),
        status => Err(bad(&format!("there is no JWKS here (status {status})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::{SigningKey, jwks};

    fn at(monotonic: u64) -> Now {
        Now { unix: 0, monotonic }
    }

    fn set() -> Arc<KeySet> {
        let key = SigningKey::generate().unwrap();
        Arc::new(KeySet::parse(jwks(&[key]).as_bytes()).unwrap())
    }

    fn state(keys: Option<&Arc<KeySet>>) -> State {
        State {
            keys: keys.cloned(),
            failure: None,
            unknown: None,
            fetching: false,
        }
    }

    #[test]
    fn who_has_others_than_those_that_are_known_gets_these() {
        let (old, new) = (set(), set());
        let mut known = state(Some(&new));
        assert_eq!(known.step(Some(&old), at(0)), Step::Look);
        assert_eq!(known.step(None, at(0)), Step::Look);
        known.fetching = true;
        assert_eq!(known.step(Some(&old), at(0)), Step::Look);
        assert_eq!(known.step(Some(&new), at(0)), Step::Wait);
    }

    #[test]
    fn an_unknown_key_has_them_fetched_once_a_minute_at_most() {
        let keys = set();
        let mut known = state(Some(&keys));
        assert_eq!(known.step(Some(&keys), at(5)), Step::Fetch);
        known.unknown = Some(5);
        assert_eq!(known.step(Some(&keys), at(5)), Step::Give);
        assert_eq!(known.step(Some(&keys), at(60_004)), Step::Give);
        assert_eq!(known.step(Some(&keys), at(60_005)), Step::Fetch);
    }

    #[test]
    fn after_a_failure_it_does_so_once_a_second() {
        let keys = set();
        let error = Error::new(ErrorKind::Unreachable, "away");
        for keys in [None, Some(&keys)] {
            let mut known = state(keys);
            known.unknown = Some(0);
            known.failure = Some((error.clone(), 100));
            assert_eq!(known.step(keys, at(1_099)), Step::Give);
            assert_eq!(known.step(keys, at(1_100)), Step::Fetch);
        }
    }
}
