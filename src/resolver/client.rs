//! The client: the path of a token, and the ways to call it.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::{self, ThreadId};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify as Signal, mpsc, oneshot};
use zeroize::Zeroizing;

use super::breaker::{Breaker, Policy};
use super::failures::{Failures, LastErrors};
use super::flights::{Flights, Joined, Landing, Notify};
use super::fork::Process;
use super::report::Reporter;
use super::runtime::{Departure, Runtime};
use super::stats::{Counters, Stats};
use super::{CallSink, CompletionQueue, LogSink, RequestId};
use crate::cache::{FirstUse, Levels, ProofId, ProofTime, Store, Subject};
use crate::clock::{self, Now};
use crate::token::Context;
use crate::verdict::{CacheStatus, Resolution, Verdict};
use crate::{Error, ErrorKind, Provider, Token};

/// A started provider: the cache, the flights and the thread that talks to the authorization server. Threads share
/// one; dropping the last handle stops it.
#[derive(Clone)]
pub struct Client(Arc<Handle>);

/// What the host holds: when the last of these goes, the thread ends.
struct Handle {
    shared: Arc<Shared>,
    departures: mpsc::UnboundedSender<Departure>,
    runtime: Mutex<Option<Runtime>>,
    thread: ThreadId,
    process: Process,
    stopped: AtomicBool,
}

/// What the host's threads and the client's own have in common.
pub(super) struct Shared {
    pub provider: Arc<Provider>,
    pub levels: Levels,
    pub counters: Counters,
    pub reporter: Reporter,
    pub failures: Arc<Failures>,
    /// Tells the thread to end.
    pub stop: Signal,
    pub flights: Flights,
    /// Where calls go that the host makes.
    pub calls: Option<CallSink>,
}

impl Shared {
    pub(super) fn new(provider: Arc<Provider>, surroundings: Surroundings) -> Self {
        let Surroundings { log, store, calls } = surroundings;
        let failures = Arc::<Failures>::default();
        Shared {
            levels: Levels::new(&provider, store),
            counters: Counters::new(Arc::clone(&failures)),
            reporter: Reporter::new(log, Arc::clone(&failures)),
            failures,
            stop: Signal::new(),
            flights: Flights::new(provider.max_waiting),
            calls,
            provider,
        }
    }

    /// Ends a flight: all who wait are told, and counted.
    pub(super) fn complete(&self, subject: &Subject, landing: &Landing) {
        self.flights.complete(subject, landing, |waiting| {
            self.counters.ended(&landing.outcome, waiting);
            if landing.cache == Some(CacheStatus::Stale) {
                self.counters.stale(waiting);
            }
        });
    }

    /// What decides whether the authorization server is asked at all.
    pub(super) fn breaker(&self) -> Breaker<'_> {
        Breaker {
            words: self.levels.words(),
            policy: Policy::of(&self.provider),
        }
    }

    /// That it is not asked now. Trying again may help in so many milliseconds.
    pub(super) fn not_asked(&self, after: u64) -> Error {
        Error::new(
            ErrorKind::CircuitOpen,
            format!(
                "provider {:?}: the authorization server has failed too often and is not asked for a while",
                self.provider.name
            ),
        )
        .with_retry_after(Some(Duration::from_millis(after)))
    }
}

/// What a client works in: everything that a host may bring along.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// Where its log lines go.
    pub log: Option<LogSink>,
    /// What it remembers in together with others, behind its own memory.
    pub store: Option<Arc<dyn Store>>,
    /// What makes its calls, for a provider whose calls are the host's to make ([`crate::Config::host_endpoint`]).
    pub calls: Option<CallSink>,
}

/// A client that could not be started.
#[derive(Debug)]
pub struct StartError(io::Error);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the client's thread could not be started: {}", self.0)
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// What became of a submitted request.
#[derive(Debug)]
pub enum Submitted {
    /// It is answered already.
    Ready(Result<Resolution, Error>),
    /// The answer will be in the completion queue.
    Pending(RequestId),
}

impl Client {
    /// Starts a client that logs nothing and remembers alone.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor left.
    pub fn start(provider: Arc<Provider>) -> Result<Self, StartError> {
        Self::start_with(provider, Surroundings::default())
    }

    /// Starts a client: from here on there is a thread, so call it after fork. The thread has all signals blocked.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor left.
    pub fn start_with(
        provider: Arc<Provider>,
        surroundings: Surroundings,
    ) -> Result<Self, StartError> {
        let shared = Arc::new(Shared::new(provider, surroundings));
        let process = Process::current();
        let runtime = Runtime::start(Arc::clone(&shared)).map_err(StartError)?;
        Ok(Client(Arc::new(Handle {
            shared,
            departures: runtime.departures(),
            thread: runtime.thread_id(),
            runtime: Mutex::new(Some(runtime)),
            process,
            stopped: AtomicBool::new(false),
        })))
    }

    /// The provider.
    pub fn provider(&self) -> &Arc<Provider> {
        &self.0.shared.provider
    }

    /// What memory knows of the token: `Ok(None)` when nothing. Never blocks; allocates nothing on a hit.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`], [`ErrorKind::Stopped`].
    pub fn lookup(&self, token: Token<'_>) -> Result<Option<Resolution>, Error> {
        self.0.check()?;
        let shared = &self.0.shared;
        let subject = self.0.subject(token, None);
        let hit = shared.levels.own(&subject, clock::now());
        Ok(hit.map(|hit| {
            if hit.refresh {
                self.0.refresh(subject, token);
            }
            remembered(hit.verdict)
        }))
    }

    /// Resolves on this thread, which may wait: up to `deadline`, if given, and never longer than the provider's
    /// `timeout`. Not for the client's own thread, that is: not from a [`LogSink`].
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub fn resolve(
        &self,
        token: Token<'_>,
        deadline: Option<Duration>,
    ) -> Result<Resolution, Error> {
        let (sender, receiver) = sync_channel(1);
        let id = match self.0.begin(token, None, || {
            Notify::Call(Box::new(move |outcome| {
                // The receiver is gone if its deadline passed.
                let _ = sender.try_send(outcome);
            }))
        }) {
            Submitted::Ready(outcome) => return outcome,
            Submitted::Pending(id) => id,
        };
        let timeout = self.provider().timeout;
        // A flight ends itself in time; the slack only guards against a machine that stands still.
        let wait = deadline.map_or(timeout + Duration::from_secs(2), |own| own.min(timeout));
        match receiver.recv_timeout(wait) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                self.cancel(id);
                // It may have come at the last moment.
                receiver.try_recv().unwrap_or_else(|_| {
                    Err(self.0.fail(
                        ErrorKind::Timeout,
                        "no verdict within the caller's deadline",
                    ))
                })
            }
        }
    }

    /// Resolves in any async runtime. Dropping the future cancels the wait.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub fn resolve_async(
        &self,
        token: Token<'_>,
    ) -> impl Future<Output = Result<Resolution, Error>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let submitted = self.0.begin(token, None, || {
            Notify::Call(Box::new(move |outcome| {
                // The receiver is gone if the future was dropped.
                let _ = sender.send(outcome);
            }))
        });
        let client = self.clone();
        // Made here and not inside the block: a future that is dropped before its first poll must cancel too.
        let wait = match submitted {
            Submitted::Ready(outcome) => Err(outcome),
            Submitted::Pending(id) => Ok(CancelOnDrop { client, id }),
        };
        async move {
            let guard = match wait {
                Err(outcome) => return outcome,
                Ok(guard) => guard,
            };
            let outcome = receiver.await.unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Internal,
                    "a flight ended without an outcome",
                ))
            });
            drop(guard);
            outcome
        }
    }

    /// Starts resolving; the answer comes at once or in `queue`, with `tag`. An answer that is there at once cost
    /// no allocation.
    pub fn submit(&self, token: Token<'_>, queue: &Arc<CompletionQueue>, tag: u64) -> Submitted {
        self.0
            .begin(token, None, || Notify::Queue(Arc::clone(queue), tag))
    }

    /// The same in a context: verdicts are shared with requests of the same context only. [`Client::purge`] does not reach
    /// them, [`Client::purge_all`] does.
    pub fn submit_within(
        &self,
        context: &Context,
        token: Token<'_>,
        queue: &Arc<CompletionQueue>,
        tag: u64,
    ) -> Submitted {
        self.0.begin(token, Some(context), || {
            Notify::Queue(Arc::clone(queue), tag)
        })
    }

    /// Forgets a submitted request. Returns whether it was still pending; if not, its completion is in the queue or
    /// has been drained. Others who wait for the same token are not disturbed.
    pub fn cancel(&self, id: RequestId) -> bool {
        self.0.process.is_current() && self.0.shared.flights.leave(id)
    }

    /// Forgets what is known of a token, here and in the store that is shared: whoever asks after this has returned,
    /// anywhere, gets an answer that the authorization server gave after this was called. Whether anything was known
    /// is not told.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`], [`ErrorKind::Stopped`].
    pub fn purge(&self, token: Token<'_>) -> Result<(), Error> {
        self.0.check()?;
        let shared = &self.0.shared;
        shared.levels.purge(&shared.provider.keys.key(token));
        Ok(())
    }

    /// Forgets all that is known of this provider's tokens, as [`Client::purge`] does of one.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`], [`ErrorKind::Stopped`].
    pub fn purge_all(&self) -> Result<(), Error> {
        self.0.check()?;
        self.0.shared.levels.purge_all();
        Ok(())
    }

    /// Notes that the proof of a sender is used (see [`crate::sender`]): in the store that is shared, and where there is
    /// none, or it notes no proofs, in this client's own memory. Any thread may call it; it never blocks for long. No purge
    /// forgets a proof. A client that has been stopped, or was started before a fork, knows of none: [`FirstUse::Lost`].
    /// It is noted for as long as the longest window that this client was asked about accepts it; whoever knows a longer
    /// one says so with [`Client::expect_proof_window`].
    pub fn first_use(&self, proof: &ProofId, time: ProofTime) -> FirstUse {
        if self.0.check().is_err() {
            return FirstUse::Lost;
        }
        self.0.shared.levels.first_use(proof, time, clock::now())
    }

    /// Says that there are rules that accept a proof for as long as this from its `iat` on: proofs are noted for as long.
    /// Where that is not said, a proof that was noted for a shorter time passes no second time either, but neither do
    /// others that are as old: [`FirstUse::Lost`].
    pub fn expect_proof_window(&self, window: Duration) {
        self.0.shared.levels.expect_window(window);
    }

    /// What it has done. In a forked child: nothing.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        if !self.0.process.is_current() {
            return stats;
        }
        let shared = &self.0.shared;
        let cache = shared.levels.counts();
        let (flights, waiting) = shared.flights.counts();
        stats.hits = cache.hits;
        stats.inactive = cache.inactive_hits;
        stats.entries = cache.entries;
        stats.inactive_entries = cache.inactive_entries;
        stats.bytes = cache.bytes;
        stats.evictions = cache.evictions;
        stats.in_flight = flights as u64;
        stats.waiting = waiting as u64;
        stats.breaker_open = shared.breaker().is_open().into();
        shared.counters.read_into(&mut stats);
        stats
    }

    /// The last error of each kind: one that a request ended with, or one behind which something older was served. In a
    /// forked child: none.
    pub fn last_errors(&self) -> LastErrors {
        if !self.0.process.is_current() {
            return LastErrors::default();
        }
        self.0.shared.failures.read()
    }

    /// Ends all flights with [`ErrorKind::Stopped`] and joins the thread, within 2 seconds. Returns whether the
    /// thread has ended. Everything that is asked afterwards answers [`ErrorKind::Stopped`].
    pub fn stop(&self) -> bool {
        self.0.stop()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("provider", &self.provider().name)
            .finish_non_exhaustive()
    }
}

impl Handle {
    /// The one path: memory, store, flight, authorization server.
    fn begin(
        &self,
        token: Token<'_>,
        context: Option<&Context>,
        notify: impl FnOnce() -> Notify,
    ) -> Submitted {
        if let Err(error) = self.check() {
            return Submitted::Ready(Err(error));
        }
        let shared = &self.shared;
        let now = clock::now();
        let subject = self.subject(token, context);
        if let Some(hit) = shared.levels.own(&subject, now) {
            if hit.refresh {
                self.refresh(subject, token);
            }
            return Submitted::Ready(Ok(remembered(hit.verdict)));
        }
        if let Some(hit) = shared.levels.shared(&subject, token, now) {
            if hit.refresh {
                self.refresh(subject, token);
            }
            shared.counters.shared(&hit.verdict);
            return Submitted::Ready(Ok(Resolution {
                verdict: hit.verdict,
                cache: CacheStatus::Shared,
            }));
        }
        if let Some(after) = shared.breaker().refuses(now.monotonic) {
            let error = shared.not_asked(after);
            return Submitted::Ready(self.without_asking(subject, token, now, error));
        }
        let known = || {
            let hit = shared.levels.own(&subject, now)?;
            Some(hit.verdict)
        };
        match shared.flights.join(subject, notify(), known) {
            Joined::Known(verdict) => Submitted::Ready(Ok(remembered(verdict))),
            Joined::Waiting(id) => {
                shared.counters.joined();
                Submitted::Pending(id)
            }
            Joined::Started(id) => {
                shared.counters.started();
                self.depart(subject, token, false);
                Submitted::Pending(id)
            }
            Joined::Full => {
                let error = self.error(
                    ErrorKind::Overloaded,
                    "as many requests wait for the authorization server as max_waiting allows",
                );
                shared.reporter.failed(&error, std::time::Instant::now());
                Submitted::Ready(self.without_asking(subject, token, now, error))
            }
            Joined::Closed => Submitted::Ready(Err(self.stopped_error())),
        }
    }

    /// What is answered when the authorization server is not asked, because of `error`.
    fn without_asking(
        &self,
        subject: Subject,
        token: Token<'_>,
        now: Now,
        error: Error,
    ) -> Result<Resolution, Error> {
        let shared = &self.shared;
        match shared.levels.stale(&subject, token, now) {
            Some(verdict) => {
                shared.counters.stale(1);
                Ok(Resolution {
                    verdict,
                    cache: CacheStatus::Stale,
                })
            }
            None => {
                shared.counters.failed(&error, 1);
                Err(error)
            }
        }
    }

    /// Finds out anew in the background, if nobody does already.
    fn refresh(&self, subject: Subject, token: Token<'_>) {
        let shared = &self.shared;
        if shared.flights.begin_unasked(subject) {
            shared.counters.refreshing();
            self.depart(subject, token, true);
        }
    }

    /// Hands a flight that has been started over to the thread.
    fn depart(&self, subject: Subject, token: Token<'_>, refresh: bool) {
        let shared = &self.shared;
        let now = tokio::time::Instant::now();
        let departure = Departure {
            subject,
            token: Zeroizing::new(token.expose().to_owned()),
            departed: now,
            deadline: now + shared.provider.timeout,
            refresh,
        };
        if Runtime::depart(&self.departures, departure).is_err() {
            let error = self.error(ErrorKind::Stopped, "the client has been stopped");
            shared.complete(&subject, &Err(error).into());
        }
    }

    fn subject(&self, token: Token<'_>, context: Option<&Context>) -> Subject {
        let shared = &self.shared;
        let keys = &shared.provider.keys;
        let key = match context {
            None => keys.key(token),
            Some(context) => keys.within(context).key(token),
        };
        shared.levels.subject(key)
    }

    /// Whether anything may be asked of this client here and now.
    fn check(&self) -> Result<(), Error> {
        if !self.process.is_current() {
            return Err(Error::new(
                ErrorKind::Forked,
                "this client was started before a fork: start one in the process that uses it",
            ));
        }
        if self.stopped.load(Ordering::Relaxed) {
            return Err(self.stopped_error());
        }
        Ok(())
    }

    fn stopped_error(&self) -> Error {
        self.fail(ErrorKind::Stopped, "the client has been stopped")
    }

    /// An error of one request, counted.
    fn fail(&self, kind: ErrorKind, what: &str) -> Error {
        let error = self.error(kind, what);
        self.shared.counters.failed(&error, 1);
        error
    }

    fn error(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(
            kind,
            format!("provider {:?}: {what}", self.shared.provider.name),
        )
    }

    fn stop(&self) -> bool {
        if !self.process.is_current() {
            return false;
        }
        self.stopped.store(true, Ordering::Relaxed);
        let Some(runtime) = self.runtime.lock().take() else {
            return true;
        };
        let error = Error::new(
            ErrorKind::Stopped,
            format!(
                "provider {:?}: the client was stopped while the request waited",
                self.shared.provider.name
            ),
        );
        self.shared.flights.close(&error, |waiting| {
            self.shared.counters.failed(&error, waiting);
        });
        // Kept until it is asked for: the thread need not be waiting at this moment.
        self.shared.stop.notify_one();
        if thread::current().id() == self.thread {
            // The last handle went on the client's own thread: it ends by itself, and cannot wait for itself.
            return false;
        }
        runtime.join()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.process.is_current() {
            self.stop();
            return;
        }
        // A forked child: the thread is not here, and what it shared with us may be half changed. Nothing of it is
        // touched; the memory is the child's copy and goes with the child.
        std::mem::forget(self.runtime.get_mut().take());
        std::mem::forget(Arc::clone(&self.shared));
    }
}

fn remembered(verdict: Verdict) -> Resolution {
    Resolution {
        verdict,
        cache: CacheStatus::Hit,
    }
}

struct CancelOnDrop {
    client: Client,
    id: RequestId,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.client.cancel(self.id);
    }
}
