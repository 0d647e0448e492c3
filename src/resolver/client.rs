//! The client: the resolution of a token, and the ways to call it.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify as Signal, mpsc, oneshot};
use zeroize::Zeroizing;

use super::breaker::{Breaker, BreakerSettings};
use super::failures::{Failures, LastErrors};
use super::flights::{Flights, Joined, LookupOutcome, Notify, Started};
use super::fork::Process;
use super::report::Reporter;
use super::runtime::{LookupJob, Reason, Runtime};
use super::stats::{Counters, Stats};
use super::tokens::Tokens;
use super::{CallSink, CompletionQueue, LogLevel, LogSink, RequestId};
use crate::cache::{FirstUse, Hit, ProofId, ProofTime, Store, TieredCache, VersionedKey};
use crate::clock::{self, Now};
use crate::token::Context;
use crate::verdict::{CacheStatus, Resolution, Verdict};
use crate::{Error, ErrorKind, Provider, Token};

/// A started provider: the cache, the flights and the thread that calls the authorization server. Threads share one
/// client; dropping the last handle stops it.
#[derive(Clone)]
pub struct Client(Arc<Handle>);

/// The host's handle: when the last one is dropped, the thread ends.
struct Handle {
    shared: Arc<Shared>,
    /// The channel to the thread, once the thread has been started.
    engine: OnceLock<Engine>,
    stage: Mutex<Stage>,
    process: Process,
    stopped: AtomicBool,
    /// The earliest time of the next trial call for a known token, which finds out whether the authorization server
    /// answers again.
    next_trial: AtomicU64,
}

struct Engine {
    jobs: mpsc::UnboundedSender<LookupJob>,
    thread: ThreadId,
}

/// The state of the thread.
enum Stage {
    /// It could not be started yet. The next attempt is at this time.
    Unstarted(u64),
    Running(Runtime),
    Stopped,
}

/// The minimum time between two attempts to start the thread, in milliseconds.
const START_AGAIN: u64 = 1000;
/// The minimum time between two calls that hits cause while the authorization server is in doubt, in milliseconds.
const TRIAL: u64 = 1000;

/// State that the host's threads and the client's own thread share.
pub(super) struct Shared {
    pub provider: Arc<Provider>,
    pub levels: TieredCache,
    pub counters: Counters,
    pub reporter: Reporter,
    pub failures: Arc<Failures>,
    /// Tells the thread to end.
    pub stop: Signal,
    pub flights: Flights,
    pub tokens: Tokens,
    /// Whether requests have been refused because of the breaker since it closed last.
    pub refuses: AtomicBool,
    /// The receiver of calls that the host makes.
    pub calls: Option<CallSink>,
}

impl Shared {
    pub(super) fn new(provider: Arc<Provider>, surroundings: ClientOptions) -> Self {
        let ClientOptions { log, store, calls } = surroundings;
        let failures = Arc::<Failures>::default();
        Shared {
            levels: TieredCache::new(&provider, store),
            counters: Counters::new(Arc::clone(&failures)),
            reporter: Reporter::new(log, Arc::clone(&failures)),
            failures,
            stop: Signal::new(),
            flights: Flights::new(provider.max_waiting, provider.max_concurrent),
            tokens: Tokens::default(),
            refuses: AtomicBool::new(false),
            calls,
            provider,
        }
    }

    /// Ends a flight: all waiting requests are counted and notified.
    pub(super) fn complete(
        &self,
        subject: &VersionedKey,
        flight: u64,
        lookup_outcome: &LookupOutcome,
    ) {
        self.flights
            .complete(subject, flight, lookup_outcome, |waiting| {
                self.counters.ended(&lookup_outcome.outcome, waiting);
                if lookup_outcome.cache == Some(CacheStatus::Stale) {
                    self.counters.stale(waiting);
                }
            });
    }

    /// The circuit breaker, which decides whether the authorization server is asked at all.
    pub(super) fn breaker(&self) -> Breaker<'_> {
        Breaker {
            words: self.levels.words(),
            policy: BreakerSettings::of(&self.provider),
        }
    }

    /// The error of a request for which the server is not asked now. A retry may help after this many milliseconds.
    pub(super) fn not_asked(&self, after: u64) -> Error {
        self.refuses.store(true, Ordering::Relaxed);
        Error::new(
            ErrorKind::CircuitOpen,
            format!(
                "provider {:?}: the authorization server has failed too often and is hardly asked for a while",
                self.provider.name
            ),
        )
        .with_retry_after(Some(Duration::from_millis(after)))
    }
}

/// The environment of a client: everything that a host may provide.
#[derive(Clone, Default)]
pub struct ClientOptions {
    /// The receiver of its log lines.
    pub log: Option<LogSink>,
    /// The store that the client shares with others, behind its own memory.
    pub store: Option<Arc<dyn Store>>,
    /// The sink for its calls, for a provider whose calls the host makes ([`crate::Config::host_endpoint`]).
    pub calls: Option<CallSink>,
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("log", &self.log.is_some())
            .field("store", &self.store.is_some())
            .field("calls", &self.calls.is_some())
            .finish_non_exhaustive()
    }
}

/// The error of a client that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the client's thread could not be started: {0}")]
pub struct StartError(#[source] io::Error);

/// The result of submitting a request.
#[derive(Debug)]
pub enum Submitted {
    /// The request has been answered at once.
    Ready(Result<Resolution, Error>),
    /// The answer will be in the completion queue.
    Pending(RequestId),
}

impl Client {
    /// Starts a client that logs nothing and has no shared store.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor left.
    pub fn start(provider: Arc<Provider>) -> Result<Self, StartError> {
        Self::start_with(provider, ClientOptions::default())
    }

    /// Starts a client. This starts a thread, so call it after fork. The thread has all signals blocked.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor left.
    pub fn start_with(
        provider: Arc<Provider>,
        surroundings: ClientOptions,
    ) -> Result<Self, StartError> {
        let (client, started) = Self::start_or_retry(provider, surroundings);
        started.map(|()| client)
    }

    /// Starts a client as [`Client::start_with`] does, but returns one even when the system has no thread or file
    /// descriptor left, for a host that must continue. Such a client answers [`ErrorKind::Stopped`] to requests that
    /// need the authorization server, with the time after which a retry may help. It tries again to start when a
    /// request needs it, once a second at most.
    pub fn start_or_retry(
        provider: Arc<Provider>,
        surroundings: ClientOptions,
    ) -> (Self, Result<(), StartError>) {
        let handle = Handle {
            shared: Arc::new(Shared::new(provider, surroundings)),
            engine: OnceLock::new(),
            stage: Mutex::new(Stage::Unstarted(0)),
            process: Process::current(),
            stopped: AtomicBool::new(false),
            next_trial: AtomicU64::new(0),
        };
        let started = handle.start(&mut handle.stage.lock(), clock::now().monotonic);
        (Client(Arc::new(handle)), started)
    }

    /// The provider.
    pub fn provider(&self) -> &Arc<Provider> {
        &self.0.shared.provider
    }

    /// Looks up the token in memory: `Ok(None)` when nothing is cached. Never blocks; allocates nothing on a hit.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`], [`ErrorKind::Stopped`].
    pub fn lookup(&self, token: Token<'_>) -> Result<Option<Resolution>, Error> {
        self.0.check()?;
        let shared = &self.0.shared;
        let subject = self.0.subject(token, None);
        let now = clock::now();
        let hit = shared.levels.own(&subject, now);
        Ok(hit.map(|hit| {
            self.0.beside_hit(subject, token, &hit, now);
            remembered(hit.verdict)
        }))
    }

    /// Resolves on this thread, which may block: until `deadline`, if given, and never longer than the provider's
    /// `timeout`. Must not be called on the client's own thread, that is, not from a [`LogSink`].
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
        // A flight ends in time by itself; the slack only guards against a machine that is suspended.
        let wait = deadline.map_or(timeout + Duration::from_secs(2), |own| own.min(timeout));
        match receiver.recv_timeout(wait) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                self.cancel(id);
                // The answer may have arrived at the last moment.
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
        // Created here and not inside the block: a future that is dropped before its first poll must cancel too.
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

    /// Starts resolving. The answer is returned at once or arrives in `queue`, with `tag`. An answer that is returned
    /// at once costs no allocation.
    pub fn submit(&self, token: Token<'_>, queue: &Arc<CompletionQueue>, tag: u64) -> Submitted {
        self.0
            .begin(token, None, || Notify::Queue(Arc::clone(queue), tag))
    }

    /// [`Client::submit`] in a context: verdicts are shared only with requests of the same context. [`Client::purge`]
    /// does not remove them, [`Client::purge_all`] does.
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

    /// Cancels a submitted request. Returns whether it was still pending; if not, its completion is in the queue or has
    /// been drained. Other requests that wait for the same token are not affected.
    pub fn cancel(&self, id: RequestId) -> bool {
        self.0.process.is_current() && self.0.shared.flights.leave(id)
    }

    /// Removes a token's entry from this client's memory and from the shared store. Any request that starts after this
    /// call has returned, in any process, gets an answer that the authorization server gave after this call began. The
    /// result does not say whether there was an entry.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`], [`ErrorKind::Stopped`].
    pub fn purge(&self, token: Token<'_>) -> Result<(), Error> {
        self.0.check()?;
        let shared = &self.0.shared;
        shared.levels.purge(&shared.provider.keys.key(token));
        Ok(())
    }

    /// Removes the entries of all of this provider's tokens, as [`Client::purge`] does for one.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`], [`ErrorKind::Stopped`].
    pub fn purge_all(&self) -> Result<(), Error> {
        self.0.check()?;
        self.0.shared.levels.purge_all();
        Ok(())
    }

    /// Records that a sender's proof is used (RFC 9449 §11.1): in the shared store, or in this client's own memory
    /// where there is no store or the store records no proofs. Any thread may call it; it never blocks for long. No
    /// purge removes a proof. A client that has been stopped, or was started before a fork, knows no proofs:
    /// [`FirstUse::Lost`]. The proof is recorded for as long as the longest window that this client was asked about
    /// accepts it. A caller that knows a longer window announces it with [`Client::expect_proof_window`].
    pub fn first_use(&self, proof: &ProofId, time: ProofTime) -> FirstUse {
        if self.0.check().is_err() {
            return FirstUse::Lost;
        }
        self.0.shared.levels.first_use(proof, time, clock::now())
    }

    /// Announces that there are rules that accept a proof for as long as `window` from its `iat` on. Proofs are then
    /// recorded for as long. Without this call, a proof that was recorded for a shorter time is still not accepted
    /// twice, but other proofs that are as old are refused as well: [`FirstUse::Lost`].
    pub fn expect_proof_window(&self, window: Duration) {
        self.0.shared.levels.expect_window(window);
    }

    /// The client's statistics. Empty in a forked child.
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

    /// The last error of each kind. These are errors that requests ended with, and errors because of which a stale
    /// verdict was served. Empty in a forked child.
    pub fn last_errors(&self) -> LastErrors {
        if !self.0.process.is_current() {
            return LastErrors::default();
        }
        self.0.shared.failures.read()
    }

    /// Ends all flights with [`ErrorKind::Stopped`] and joins the thread, within 2 seconds. Returns whether the thread
    /// has ended. All later requests fail with [`ErrorKind::Stopped`].
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
    /// The path of every request: memory, store, flight, authorization server.
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
            self.beside_hit(subject, token, &hit, now);
            return Submitted::Ready(Ok(remembered(hit.verdict)));
        }
        if let Some(hit) = shared.levels.shared(&subject, token, now) {
            self.beside_hit(subject, token, &hit, now);
            if matches!(hit.verdict, Verdict::Active(_)) {
                shared.tokens.is_active(&subject.key);
            }
            shared.counters.shared(&hit.verdict);
            return Submitted::Ready(Ok(Resolution {
                verdict: hit.verdict,
                cache: CacheStatus::Shared,
            }));
        }
        if let Some(error) = self.refused(&subject, now.monotonic) {
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
            Joined::Started(id, started) => {
                shared.counters.started();
                self.enqueue(subject, started, token, Reason::Unknown);
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

    /// The result when the authorization server is not asked because of `error`.
    fn without_asking(
        &self,
        subject: VersionedKey,
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

    /// The reason why the authorization server is not asked about this token now.
    fn refused(&self, subject: &VersionedKey, now: u64) -> Option<Error> {
        let shared = &self.shared;
        if let Err(error) = self.ensure_started(now) {
            return Some(error);
        }
        if let Some(error) = shared.tokens.held_back(&subject.key, now) {
            return Some(error);
        }
        let trust = shared.tokens.trust(&subject.key);
        let after = shared.breaker().refuses(trust, now)?;
        Some(shared.not_asked(after))
    }

    /// Starts the background work of a hit: its verdict is due for a refresh, or the authorization server has failed on
    /// so many tokens that it must be asked about one that it has called active.
    fn beside_hit(&self, subject: VersionedKey, token: Token<'_>, hit: &Hit, now: Now) {
        if hit.refresh {
            self.in_background(subject, token, Reason::Refresh);
        } else if self.shared.refuses.load(Ordering::Relaxed)
            && matches!(hit.verdict, Verdict::Active(_))
        {
            self.try_with(subject, token, now.monotonic);
        }
    }

    #[cold]
    fn try_with(&self, subject: VersionedKey, token: Token<'_>, now: u64) {
        let shared = &self.shared;
        let next = self.next_trial.load(Ordering::Relaxed);
        // A call that the host makes needs a waiting request on whose behalf it is made.
        if now < next || shared.calls.is_some() {
            return;
        }
        let mine = self.next_trial.compare_exchange(
            next,
            now.saturating_add(TRIAL),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if mine.is_err() {
            return;
        }
        if !shared.breaker().is_open() {
            // Another process has received an answer.
            shared.refuses.store(false, Ordering::Relaxed);
        } else if self.refused(&subject, now).is_none() {
            self.in_background(subject, token, Reason::Trial);
        }
    }

    /// Asks in the background, unless a flight for the token exists.
    fn in_background(&self, subject: VersionedKey, token: Token<'_>, reason: Reason) {
        let shared = &self.shared;
        if self.engine.get().is_some()
            && let Some(started) = shared.flights.begin_unasked(subject)
        {
            shared.counters.refreshing();
            self.enqueue(subject, started, token, reason);
        }
    }

    /// Passes a started flight to the thread.
    fn enqueue(&self, subject: VersionedKey, started: Started, token: Token<'_>, reason: Reason) {
        let shared = &self.shared;
        let now = tokio::time::Instant::now();
        let flight = started.number;
        let job = LookupJob {
            subject,
            flight,
            gone: started.gone,
            token: Zeroizing::new(token.expose().to_owned()),
            departed: now,
            deadline: now + shared.provider.timeout,
            reason,
        };
        let sent = self
            .engine
            .get()
            .is_some_and(|engine| Runtime::enqueue(&engine.jobs, job).is_ok());
        if !sent {
            let error = self.error(ErrorKind::Stopped, "the client has been stopped");
            shared.complete(&subject, flight, &Err(error).into());
        }
    }

    /// Starts the thread if it could not be started before.
    fn ensure_started(&self, now: u64) -> Result<(), Error> {
        if self.engine.get().is_some() {
            return Ok(());
        }
        self.start_again(now)
    }

    #[cold]
    fn start_again(&self, now: u64) -> Result<(), Error> {
        let mut stage = self.stage.lock();
        let due = match &*stage {
            Stage::Unstarted(due) => *due,
            Stage::Running(_) => return Ok(()),
            Stage::Stopped => {
                return Err(self.error(ErrorKind::Stopped, "the client has been stopped"));
            }
        };
        let unstarted = |what: &str, after: u64| {
            self.error(ErrorKind::Stopped, what)
                .with_retry_after(Some(Duration::from_millis(after)))
        };
        if now < due {
            let what = "the client's thread could not be started, and it is too soon to try again";
            return Err(unstarted(what, due - now));
        }
        let reporter = &self.shared.reporter;
        match self.start(&mut stage, now) {
            Ok(()) => {
                let line = format!(
                    "provider {:?}: the client's thread has been started now, and requests are answered",
                    self.shared.provider.name
                );
                reporter.say(LogLevel::Info, &line);
                Ok(())
            }
            Err(error) => {
                let what = format!(
                    "{error}; it is tried again, once a second at most; raise the limit of processes or descriptors"
                );
                let error = unstarted(&what, START_AGAIN);
                reporter.failed(&error, std::time::Instant::now());
                Err(error)
            }
        }
    }

    fn start(&self, stage: &mut Stage, now: u64) -> Result<(), StartError> {
        match Runtime::start(Arc::clone(&self.shared)) {
            Ok(runtime) => {
                // It is set only here, and only once: the stage ensures that.
                let _ = self.engine.set(Engine {
                    jobs: runtime.jobs(),
                    thread: runtime.thread_id(),
                });
                *stage = Stage::Running(runtime);
                Ok(())
            }
            Err(error) => {
                *stage = Stage::Unstarted(now.saturating_add(START_AGAIN));
                Err(StartError(error))
            }
        }
    }

    fn subject(&self, token: Token<'_>, context: Option<&Context>) -> VersionedKey {
        let shared = &self.shared;
        let keys = &shared.provider.keys;
        let key = match context {
            None => keys.key(token),
            Some(context) => keys.within(context).key(token),
        };
        shared.levels.subject(key)
    }

    /// Whether the client can be used now and in this process.
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

    /// Returns the error of one request, and counts it.
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
        let Stage::Running(runtime) = std::mem::replace(&mut *self.stage.lock(), Stage::Stopped)
        else {
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
        // The signal is kept until it is received: the thread need not be waiting at this moment.
        self.shared.stop.notify_one();
        let own = self.engine.get().map(|engine| engine.thread);
        if own == Some(thread::current().id()) {
            // The last handle was dropped on the client's own thread: it ends by itself, and cannot wait for itself.
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
        // A forked child: the thread does not exist here, and the state that it shared with us may be half changed.
        // None of it is touched; the memory is the child's copy and is freed with the child.
        std::mem::forget(std::mem::replace(self.stage.get_mut(), Stage::Stopped));
        std::mem::forget(self.engine.take());
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Instant;

    use super::super::runtime::NO_THREADS;
    use super::*;
    use crate::Config;

    fn provider() -> Arc<Provider> {
        let mut config = Config::new("main");
        let settings = [
            // Nothing listens there.
            ("introspection_endpoint", "http://127.0.0.1:1/introspect"),
            ("max_fails", "0"),
        ];
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        config.build().unwrap()
    }

    fn ask(client: &Client) -> Error {
        let token = Token::parse(b"opaque").unwrap();
        client.resolve(token, None).unwrap_err()
    }

    #[test]
    fn a_client_whose_thread_cannot_be_started_tries_again_when_it_is_needed() {
        let lines = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&lines);
        let surroundings = ClientOptions {
            log: Some(Arc::new(move |_, line: &str| {
                assert!(line.contains("thread"), "{line}");
                count.fetch_add(1, Ordering::SeqCst);
            })),
            ..ClientOptions::default()
        };
        NO_THREADS.set(2);
        let (client, started) = Client::start_or_retry(provider(), surroundings);
        assert!(started.is_err());
        // Too soon to try again.
        for _ in 0..100 {
            let error = ask(&client);
            assert_eq!(error.kind(), ErrorKind::Stopped);
            assert_eq!(error.kind().http_status(), 503);
            assert!(error.retry_after().is_some());
        }
        let begun = Instant::now();
        while NO_THREADS.get() > 0 {
            assert_eq!(ask(&client).kind(), ErrorKind::Stopped);
            assert!(begun.elapsed() < Duration::from_secs(30));
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(
            lines.load(Ordering::SeqCst),
            1,
            "a second attempt, too early"
        );
        thread::sleep(Duration::from_millis(START_AGAIN + 50));
        // It has one now, that finds out that nobody listens; the line of that is no longer looked at.
        let shared = Arc::clone(&client.0.shared);
        assert!(client.0.ensure_started(clock::now().monotonic).is_ok());
        assert_eq!(lines.load(Ordering::SeqCst), 2, "that it has been started");
        drop(shared);
        assert!(client.stop());
        assert_eq!(ask(&client).kind(), ErrorKind::Stopped);
    }

    #[test]
    fn a_client_that_was_never_started_can_be_stopped_and_dropped() {
        NO_THREADS.set(1);
        let (client, started) = Client::start_or_retry(provider(), ClientOptions::default());
        assert!(started.is_err());
        assert!(client.stop());
        let error = ask(&client);
        assert_eq!(error.kind(), ErrorKind::Stopped);
        assert!(error.retry_after().is_none());
        NO_THREADS.set(1);
        assert!(
            Client::start(provider()).is_err(),
            "an error for those who can handle it"
        );
        drop(Client::start_or_retry(provider(), ClientOptions::default()));
    }
}
