//! The access token of our own with which `client_auth client_credentials` authenticates us. It is fetched on first
//! use, one call at a time, and again in the background when four fifths of its lifetime are over. It is only in
//! memory, and each process has its own.
//!
//! A background fetch that fails has no effect while the token is valid; the next attempt follows after a quarter of
//! the remaining lifetime. Callers that wait for a fetch that fails all receive its error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::client::Shared;
use super::credentials::Files;
use super::transport::{self, Transport};
use crate::introspection::client_credentials::{self, Granted};
use crate::oauth::Server;
use crate::secret::Secret;
use crate::{Error, ErrorKind, clock};

/// The minimum time between two fetches of a token that is refused, in milliseconds.
const REFUSED_AGAIN_AFTER: u64 = 10_000;
/// The minimum time between two attempts of a background fetch, in milliseconds.
const LEAST_PAUSE: u64 = 1_000;

/// A granted token, with times on the monotonic clock.
pub(super) struct Held {
    pub token: Secret,
    /// The time from which to fetch another.
    due: AtomicU64,
    /// The time when it expires.
    ends: u64,
}

impl Held {
    fn new(granted: Granted, asked: u64) -> Self {
        // A token with no lifetime at all is still valid for the callers that wait for it.
        let life = granted.lifetime.max(1) * 1000;
        Held {
            token: granted.token,
            due: AtomicU64::new(asked.saturating_add(life / 5 * 4)),
            ends: asked.saturating_add(life),
        }
    }

    /// Whether the caller is to fetch another token now. True for only one of all callers.
    fn is_due(&self, now: u64) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        if now < due {
            return false;
        }
        let pause = (self.ends.saturating_sub(now) / 4).max(LEAST_PAUSE);
        let next = now.saturating_add(pause);
        self.due
            .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

pub(super) struct AccessToken {
    shared: Arc<Shared>,
    transport: Arc<Transport>,
    files: Arc<Files>,
    known: Mutex<Known>,
    /// The number of fetches that have ended.
    ended: AtomicU64,
    /// Held by the task that fetches. Contains the error of the last fetch, if it failed.
    fetching: tokio::sync::Mutex<Option<Error>>,
}

#[derive(Default)]
struct Known {
    held: Option<Arc<Held>>,
    /// The time until which a refusal causes no fetch.
    refused_until: u64,
}

impl AccessToken {
    pub(super) fn new(shared: Arc<Shared>, transport: Arc<Transport>, files: Arc<Files>) -> Self {
        AccessToken {
            shared,
            transport,
            files,
            known: Mutex::default(),
            ended: AtomicU64::new(0),
            fetching: tokio::sync::Mutex::new(None),
        }
    }

    /// The token. Waits for a token that is being fetched; the caller bounds how long.
    ///
    /// # Errors
    /// When no token can be obtained.
    pub(super) async fn get(self: &Arc<Self>, server: &Arc<Server>) -> Result<Arc<Held>, Error> {
        let ended = self.ended.load(Ordering::Acquire);
        if let Some(held) = self.held() {
            if held.is_due(clock::now().monotonic) {
                drop(tokio::spawn(Arc::clone(self).refresh(Arc::clone(server))));
            }
            return Ok(held);
        }
        let mut last = self.fetching.lock().await;
        if let Some(held) = self.held() {
            return Ok(held);
        }
        if let Some(error) = &*last
            && self.ended.load(Ordering::Acquire) != ended
        {
            return Err(error.clone());
        }
        let outcome = self.fetch(server).await;
        *last = outcome.as_ref().err().cloned();
        self.ended.fetch_add(1, Ordering::Release);
        outcome
    }

    /// Reports that the server has refused a token. Returns whether another token may be accepted: in that case the
    /// token is dropped, unless another has been fetched already.
    pub(super) fn refused(&self, refused: &Arc<Held>, now: u64) -> bool {
        let mut known = self.known.lock();
        let is_current = known
            .held
            .as_ref()
            .is_some_and(|held| Arc::ptr_eq(held, refused));
        if !is_current {
            return true;
        }
        if now < known.refused_until {
            return false;
        }
        known.refused_until = now.saturating_add(REFUSED_AGAIN_AFTER);
        known.held = None;
        true
    }

    fn held(&self) -> Option<Arc<Held>> {
        let now = clock::now().monotonic;
        let known = self.known.lock();
        known.held.clone().filter(|held| now < held.ends)
    }

    /// Fetches another token while there is a valid one.
    async fn refresh(self: Arc<Self>, server: Arc<Server>) {
        let Ok(mut last) = self.fetching.try_lock() else {
            return;
        };
        let provider = &self.shared.provider;
        let outcome = match tokio::time::timeout(provider.timeout, self.fetch(&server)).await {
            Ok(outcome) => outcome,
            Err(_) => match &server.token {
                Some(endpoint) => Err(transport::timed_out(provider, endpoint, provider.timeout)),
                None => return,
            },
        };
        *last = outcome.err();
        self.ended.fetch_add(1, Ordering::Release);
        if let Some(error) = &*last {
            let reporter = &self.shared.reporter;
            reporter.failed(error, std::time::Instant::now());
        }
    }

    /// Fetches a token and stores it. Asking for a token twice does no harm.
    async fn fetch(&self, server: &Server) -> Result<Arc<Held>, Error> {
        let provider = &*self.shared.provider;
        let Some(endpoint) = &server.token else {
            return Err(Error::new(
                ErrorKind::BadAnswer,
                format!(
                    "provider {:?}: the metadata of {} names no token endpoint, which client_auth client_credentials \
                     needs; set token_endpoint",
                    provider.name,
                    server.issuer.as_deref().unwrap_or_default()
                ),
            ));
        };
        let mut fresh = false;
        let mut renewed = false;
        loop {
            let number = provider.credentials.number();
            let now = clock::now();
            let request = client_credentials::request(provider, server, endpoint, now.unix)?;
            let call = self.transport.call(provider, endpoint, &request, fresh);
            let response = match call.await {
                Ok(response) => response,
                Err(failure) if failure.again && !fresh && provider.retries > 0 => {
                    fresh = true;
                    continue;
                }
                Err(failure) => return Err(failure.error),
            };
            let granted = client_credentials::read(
                provider,
                endpoint,
                request.client_auth,
                (response.status, &response.headers, &response.body),
                clock::now().unix,
            );
            match granted {
                Ok(granted) => {
                    let held = Arc::new(Held::new(granted, now.monotonic));
                    self.known.lock().held = Some(Arc::clone(&held));
                    return Ok(held);
                }
                Err(error) => {
                    let refused = error.kind() == ErrorKind::ClientRefused;
                    if renewed || !refused || !self.files.renewed(number).await {
                        return Err(error);
                    }
                    renewed = true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(lifetime: u64) -> Held {
        let token = Secret::new("t");
        Held::new(Granted { token, lifetime }, 0)
    }

    #[test]
    fn one_of_all_who_ask_fetches_another_when_four_fifths_of_its_life_are_over() {
        let held = held(100);
        assert_eq!(held.ends, 100_000);
        assert!(!held.is_due(79_999));
        assert!(held.is_due(80_000));
        assert!(!held.is_due(80_000), "somebody does");
    }

    #[test]
    fn what_failed_is_tried_again_a_quarter_of_what_is_left_later_and_not_all_the_time() {
        let held = held(100);
        assert!(held.is_due(80_000));
        assert!(!held.is_due(84_999));
        assert!(held.is_due(85_000));
        assert!(held.is_due(99_900));
        assert!(!held.is_due(100_899));
        assert!(held.is_due(100_900));
    }

    #[test]
    fn a_token_without_a_life_is_good_for_those_who_wait_for_it() {
        assert_eq!(held(0).ends, 1000);
    }
}
