//! Discovery of the authorization server's metadata, and its refresh.
//!
//! The metadata is fetched when the client starts, and again when its lifetime is over. A request that comes before the
//! metadata is there waits, within its deadline, until the fetch has failed [`EVIDENCE`] times in a row. From then on
//! requests fail at once, with the error of the last fetch, until one succeeds. When newer metadata can't be fetched,
//! the last fetched metadata stays in use.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::breaker::span;
use super::report::Reporter;
use super::transport::Transport;
use crate::oauth::Request;
use crate::oauth::{Endpoint, Metadata, Purpose, Server, well_known};
use crate::{Error, ErrorKind, LogLevel, Provider, cache};

/// The default lifetime of metadata without a stated one.
const USUAL: Duration = Duration::from_secs(3600);
/// The bounds of a stated lifetime.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(86_400);
/// The time until the next fetch after the first failure, in milliseconds; it doubles up to a minute.
const AGAIN: u64 = 500;
/// The bound instead of a minute while there is no metadata, and requests fail because of that.
const AGAIN_AT_LEAST: Duration = Duration::from_secs(10);
/// The number of fetches that must fail before requests stop waiting for the next.
const EVIDENCE: u32 = 2;

/// The current metadata of the server and its state.
#[derive(Clone)]
enum Known {
    /// No usable metadata. Contains the error, once a fetch was attempted, and the number of failures in a row.
    Nothing(Option<Error>, u32),
    Server(Arc<Server>),
}

pub(super) struct Discovery {
    known: watch::Sender<Known>,
}

impl Discovery {
    pub(super) fn new(provider: &Provider) -> Self {
        let configured = &provider.server;
        // If the introspection endpoint is configured, and `jwks_uri` where keys are needed, requests need not wait for
        // the rest of the metadata.
        let enough = configured.issuer.is_none()
            || (!provider.endpoints(configured).is_empty()
                && (configured.jwks.is_some() || !provider.needs_keys()));
        let known = if enough {
            Known::Server(Arc::new(configured.clone()))
        } else {
            Known::Nothing(None, 0)
        };
        Discovery {
            known: watch::Sender::new(known),
        }
    }

    /// Returns the server, as soon as it is known.
    ///
    /// # Errors
    /// The reason why it is not known, once that is not expected to change soon.
    pub(super) async fn server(&self) -> Result<Arc<Server>, Error> {
        self.wait(EVIDENCE).await
    }

    /// Returns the server. Waits for as long as it takes.
    pub(super) async fn server_at_last(&self) -> Result<Arc<Server>, Error> {
        self.wait(u32::MAX).await
    }

    async fn wait(&self, evidence: u32) -> Result<Arc<Server>, Error> {
        // The usual case: no need to wait, nor to subscribe to changes.
        if let Known::Server(server) = &*self.known.borrow() {
            return Ok(Arc::clone(server));
        }
        let mut known = self.known.subscribe();
        loop {
            match &*known.borrow_and_update() {
                Known::Server(server) => return Ok(Arc::clone(server)),
                Known::Nothing(Some(error), failures) if *failures >= evidence => {
                    return Err(error.clone());
                }
                Known::Nothing(..) => {}
            }
            if known.changed().await.is_err() {
                // We own the sender: it lives as long as we do.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The reason why it is not known yet.
    pub(super) fn failure(&self) -> Option<Error> {
        match &*self.known.borrow() {
            Known::Nothing(error, _) => error.clone(),
            Known::Server(_) => None,
        }
    }

    /// Keeps the metadata current. Returns at once when there is no metadata to fetch, and otherwise never.
    pub(super) async fn keep_up(
        &self,
        provider: &Provider,
        transport: &Transport,
        reporter: &Reporter,
        jitter: impl Fn() -> u64,
    ) {
        let Some(issuer) = provider.server.issuer.as_deref() else {
            return;
        };
        let mut failures = 0;
        loop {
            let pause = match fetch(provider, transport, issuer).await {
                Ok((metadata, lifetime)) => {
                    if failures > 0 {
                        reporter.say(
                            LogLevel::Info,
                            &format!(
                                "provider {:?}: the metadata of {issuer} can be had again",
                                provider.name
                            ),
                        );
                    }
                    failures = 0;
                    if let Some(server) = self.learn(provider, &metadata)
                        // For introspection only: where tokens are exchanged, the server reports an error when it
                        // refuses us.
                        && provider.purpose() == Purpose::Introspection
                        && let Some(warning) = provider.credentials.warn_if_unlisted(&server)
                    {
                        reporter.say(LogLevel::Warn, &warning);
                    }
                    lifetime
                }
                Err(error) => {
                    reporter.failed(&error, std::time::Instant::now());
                    let nothing = self.known.send_if_modified(|known| match known {
                        Known::Nothing(why, failures) => {
                            *why = Some(error);
                            *failures = failures.saturating_add(1);
                            true
                        }
                        Known::Server(_) => false,
                    });
                    failures += 1;
                    let pause = Duration::from_millis(span(AGAIN, failures - 1, jitter()));
                    if nothing {
                        pause.min(AGAIN_AT_LEAST)
                    } else {
                        pause
                    }
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns the server as it is known now, if that has changed.
    fn learn(&self, provider: &Provider, metadata: &Metadata) -> Option<Arc<Server>> {
        let server = Arc::new(provider.server.clone().with_metadata(metadata));
        let is_news = self.known.send_if_modified(|known| match known {
            Known::Server(former) if **former == *server => false,
            _ => {
                *known = Known::Server(Arc::clone(&server));
                true
            }
        });
        is_news.then_some(server)
    }
}

/// Fetches the metadata of an issuer, from the first place that has it. Returns its lifetime as well.
async fn fetch(
    provider: &Provider,
    transport: &Transport,
    issuer: &str,
) -> Result<(Metadata, Duration), Error> {
    // It was parsed as a URL when it was configured.
    let base = url::Url::parse(issuer).map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("provider {:?}: issuer: {error}", provider.name),
        )
    })?;
    let mut refused = None;
    for url in well_known(&base) {
        let endpoint = Endpoint::new(Purpose::Metadata, url);
        let bad = |what: &str| {
            Error::new(
                ErrorKind::BadAnswer,
                format!("{}: {what}", provider.place(&endpoint)),
            )
        };
        let request = Request::get_json();
        let call = transport.call(provider, &endpoint, &request, false);
        let response = match tokio::time::timeout(provider.timeout, call).await {
            Ok(Ok(response)) => response,
            Ok(Err(failure)) => return Err(failure.error),
            Err(_) => {
                return Err(super::transport::timed_out(
                    provider,
                    &endpoint,
                    provider.timeout,
                ));
            }
        };
        match response.status {
            200 => {
                let metadata = Metadata::read(&response.body, issuer)
                    .map_err(|error| bad(&format!("{error}; check issuer")))?;
                let lifetime = cache::server_says(&response.headers)
                    .unwrap_or(USUAL)
                    .clamp(SHORTEST, LONGEST);
                return Ok((metadata, lifetime));
            }
            status => {
                refused.get_or_insert_with(|| {
                    bad(&format!(
                        "there is no metadata of {issuer} here (status {status}), nor where OpenID Connect has it; \
                         check issuer, or set introspection_endpoint"
                    ))
                });
            }
        }
    }
    Err(refused.unwrap_or_else(|| {
        Error::new(
            ErrorKind::Internal,
            format!("provider {:?}: issuer has no metadata", provider.name),
        )
    }))
}
