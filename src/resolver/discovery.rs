//! Finding out what the authorization server says of itself, and keeping up with it.
//!
//! Its metadata is fetched when the client starts, and again when its time is over. A request that comes before it is
//! there waits, within its deadline, until fetching it has failed [`EVIDENCE`] times in a row: from then on requests fail at
//! once, as the last fetch did, until one succeeds. When newer metadata can't be fetched, the last that could goes on being
//! used.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::breaker::span;
use super::report::Reporter;
use super::transport::Transport;
use crate::oauth::Request;
use crate::oauth::{Endpoint, Metadata, Purpose, Server, well_known};
use crate::{Error, ErrorKind, LogLevel, Provider, cache};

/// For how long metadata is good that does not say.
const USUAL: Duration = Duration::from_secs(3600);
/// However short or long it says: it is asked for this often at most, and at least.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(86_400);
/// How soon to ask again after the first failure, in milliseconds; it doubles up to a minute.
const AGAIN: u64 = 500;
/// … or up to this as long as nothing is known, and requests fail for it.
const AGAIN_AT_LEAST: Duration = Duration::from_secs(10);
/// How many fetches have to fail before no request waits for the next.
const EVIDENCE: u32 = 2;

/// The current metadata of the server and its state.
#[derive(Clone)]
enum Known {
    /// Nothing that would do, and why, once that has been tried, and how often in a row.
    Nothing(Option<Error>, u32),
    Server(Arc<Server>),
}

pub(super) struct Discovery {
    known: watch::Sender<Known>,
}

impl Discovery {
    pub(super) fn new(provider: &Provider) -> Self {
        let configured = &provider.server;
        // Who says where tokens are introspected, and where the keys are if they are needed, need not wait for what else
        // the metadata may say.
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

    /// The server, as soon as it is known.
    ///
    /// # Errors
    /// Why it is not known, once that is not expected to change soon.
    pub(super) async fn server(&self) -> Result<Arc<Server>, Error> {
        self.wait(EVIDENCE).await
    }

    /// The server, however long it takes to know it.
    pub(super) async fn server_at_last(&self) -> Result<Arc<Server>, Error> {
        self.wait(u32::MAX).await
    }

    async fn wait(&self, evidence: u32) -> Result<Arc<Server>, Error> {
        // Nearly always: no need to wait, nor to be told of changes.
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
                // The sender is ours: it is there as long as we are.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Why it is not known yet.
    pub(super) fn failure(&self) -> Option<Error> {
        match &*self.known.borrow() {
            Known::Nothing(error, _) => error.clone(),
            Known::Server(_) => None,
        }
    }

    /// Keeps up with what the server says of itself: returns at once when it is not to be asked, and never otherwise.
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
                        // Of introspection: where tokens are exchanged, the server says so when it refuses us.
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

    /// Returns the server as it is known now, where that is news.
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

/// Fetches the metadata of an issuer, from the first place that has it, and tells for how long it is good.
async fn fetch(
    provider: &Provider,
    transport: &Transport,
    issuer: &str,
) -> Result<(Metadata, Duration), Error> {
    // It was read as one when it was configured.
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
