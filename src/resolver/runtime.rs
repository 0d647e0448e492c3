//! The thread that calls the authorization server, and the life of a call on it.
//!
//! There is one thread per client, with a single-threaded tokio runtime: there is nothing to compute, only to wait. It
//! has every signal blocked, so that a host's signals are delivered to the host's threads. It is started only in the
//! process that uses it, because a thread does not survive a fork.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

use super::breaker::{Admission, BreakerSettings, Evidence};
use super::client::Shared;
use super::credentials::{CallCredentials, CredentialSource};
use super::discovery::Discovery;
use super::endpoints::Endpoints;
use super::flights::{Behalf, LookupOutcome};
use super::host;
use super::keys::Keys;
use super::retries::Retries;
use super::transport::{self, Blame, Transport};
use crate::cache::{FetchLease, LeaseOutcome, VersionedKey};
use crate::introspection::subject_token::{self, SubjectToken};
use crate::introspection::{AnswerContext, Reading};
use crate::jwt::KeySet;
use crate::oauth::ClientAuth;
use crate::oauth::Request;
use crate::oauth::{Endpoint, Purpose, Server};
use crate::token::Token;
use crate::verdict::{CacheStatus, Verdict};
use crate::{CallFailure, Error, ErrorKind, LogLevel, cache, clock, introspection};

/// The time for which [`Runtime::stop`] waits for the thread.
const STOP: Duration = Duration::from_secs(2);

/// A request to ask about a token.
pub(super) struct LookupJob {
    pub subject: VersionedKey,
    /// The flight's number.
    pub flight: u64,
    /// Closed when the flight has ended because no request waits for it.
    pub gone: oneshot::Receiver<()>,
    pub token: Zeroizing<String>,
    pub departed: Instant,
    pub deadline: Instant,
    pub reason: Reason,
}

/// The reason to ask about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nothing is cached for it.
    Unknown,
    /// The cached verdict is still valid but due for a background refresh.
    Refresh,
    /// It is known to be active, and the authorization server is in doubt: this call tests whether the server answers.
    Trial,
}

/// The running thread.
pub(super) struct Runtime {
    jobs: mpsc::UnboundedSender<LookupJob>,
    thread: JoinHandle<()>,
    ended: Receiver<()>,
}

#[cfg(test)]
thread_local! {
    /// The number of threads started from this one that are to fail to start.
    pub(super) static NO_THREADS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl Runtime {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        #[cfg(test)]
        if let Some(left) = NO_THREADS.get().checked_sub(1) {
            NO_THREADS.set(left);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // Unbounded in type only: there is one job per flight, and the number of flights is bounded by `max_waiting`.
        let (jobs, arrivals) = mpsc::unbounded_channel();
        let (alive, ended) = sync_channel::<()>(0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Threads for name resolution: few and short-lived.
            .max_blocking_threads(8)
            .thread_keep_alive(Duration::from_secs(2))
            .thread_name("phantom-dns")
            .build()?;
        let thread = with_signals_blocked(|| {
            thread::Builder::new()
                .name("phantom-token".to_owned())
                .spawn(move || {
                    runtime.block_on(run(shared, arrivals));
                    // Tasks are dropped here. A name resolution may hang in the C library; it is not waited for.
                    runtime.shutdown_background();
                    drop(alive);
                })
        })?;
        Ok(Runtime {
            jobs,
            thread,
            ended,
        })
    }

    /// Passes a token to the thread. An error means that the thread has ended.
    pub(super) fn enqueue(
        jobs: &mpsc::UnboundedSender<LookupJob>,
        job: LookupJob,
    ) -> Result<(), LookupJob> {
        jobs.send(job).map_err(|refused| refused.0)
    }

    pub(super) fn jobs(&self) -> mpsc::UnboundedSender<LookupJob> {
        self.jobs.clone()
    }

    pub(super) fn thread_id(&self) -> ThreadId {
        self.thread.thread().id()
    }

    /// Joins the thread, which has been signalled to end. Returns whether it ended in time.
    pub(super) fn join(self) -> bool {
        drop(self.jobs);
        match self.ended.recv_timeout(STOP) {
            Err(RecvTimeoutError::Timeout) => false,
            // The thread drops its end of the channel as its last action: after that it only exits.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => self.thread.join().is_ok(),
        }
    }
}

/// Runs `spawn` with all signals blocked on this thread, so that threads that it starts inherit the mask.
fn with_signals_blocked<T>(spawn: impl FnOnce() -> T) -> T {
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises `all`, which `pthread_sigmask` then reads; it initialises `before`, which
    // is only read below if it said so. Both outlive the calls.
    let blocked = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) == 0
    };
    let spawned = spawn();
    if blocked {
        // SAFETY: `before` was initialised by the call that succeeded above; the old mask is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    }
    spawned
}

async fn run(shared: Arc<Shared>, mut arrivals: mpsc::UnboundedReceiver<LookupJob>) {
    let transport = Arc::new(Transport::new(&shared.provider));
    let desk = Arc::new(Dispatcher {
        passes: CredentialSource::new(Arc::clone(&shared), Arc::clone(&transport)),
        transport,
        discovery: Discovery::new(&shared.provider),
        keys: Keys::new(),
        endpoints: Endpoints::new(
            shared
                .provider
                .endpoints(&shared.provider.server)
                .len()
                .max(1),
            BreakerSettings::of(&shared.provider).first,
        ),
        retries: Retries::new(clock::now().monotonic),
        entropy: Entropy::new(),
        slots: Semaphore::new(shared.provider.max_concurrent.min(Semaphore::MAX_PERMITS)),
        shared,
    });
    if desk.shared.provider.server.issuer.is_some() {
        let desk = Arc::clone(&desk);
        keep_going(move || {
            let desk = Arc::clone(&desk);
            async move { desk.keep_up().await }
        });
    }
    if desk.shared.provider.needs_keys() {
        let desk = Arc::clone(&desk);
        keep_going(move || {
            let desk = Arc::clone(&desk);
            async move { desk.keep_up_with_keys().await }
        });
    }
    loop {
        tokio::select! {
            // Stopping takes precedence over starting.
            biased;
            () = desk.shared.stop.notified() => break,
            job = arrivals.recv() => match job {
                // Its client may have left before the job is read.
                Some(mut job) => if !is_gone(&mut job) {
                    drop(tokio::spawn(Arc::clone(&desk).run(job)));
                },
                None => break,
            },
        }
    }
}

fn is_gone(job: &mut LookupJob) -> bool {
    job.gone.try_recv() == Err(oneshot::error::TryRecvError::Closed)
}

/// Runs a task for as long as the client lives, and restarts it if it panics: the system may have no thread left for a
/// name resolution.
fn keep_going<T: Future<Output = ()> + Send + 'static>(task: impl Fn() -> T + Send + 'static) {
    const PAUSE: Duration = Duration::from_secs(1);
    drop(tokio::spawn(async move {
        while tokio::spawn(task())
            .await
            .is_err_and(|error| error.is_panic())
        {
            tokio::time::sleep(PAUSE).await;
        }
    }));
}

/// State that all calls on the thread share.
struct Dispatcher {
    shared: Arc<Shared>,
    passes: CredentialSource,
    transport: Arc<Transport>,
    discovery: Discovery,
    keys: Keys,
    endpoints: Endpoints,
    retries: Retries,
    entropy: Entropy,
    slots: Semaphore,
}

impl Dispatcher {
    async fn keep_up(&self) {
        let Shared {
            provider, reporter, ..
        } = &*self.shared;
        let jitter = || self.entropy.next();
        self.discovery
            .keep_up(provider, &self.transport, reporter, jitter)
            .await;
    }

    async fn keep_up_with_keys(&self) {
        let Shared {
            provider, reporter, ..
        } = &*self.shared;
        let jitter = || self.entropy.next();
        self.keys
            .keep_up(provider, &self.discovery, &self.transport, reporter, jitter)
            .await;
    }

    async fn run(self: Arc<Self>, mut job: LookupJob) {
        let shared = &*self.shared;
        let id = self.entropy.next();
        let mut flight = Flight::new(shared, job.subject, job.flight, id);
        let Ok(token) = Token::parse(job.token.as_bytes()) else {
            // It was a valid token when it was submitted.
            flight.finish(Err(defect(shared)).into());
            return;
        };
        // Taken out, so that the rest can be borrowed by the lookup.
        let (_, nothing) = oneshot::channel();
        let gone = std::mem::replace(&mut job.gone, nothing);
        let outcome = tokio::select! {
            biased;
            // No request waits, and it has not been sent.
            _ = gone => None,
            outcome = timeout_at(
                job.deadline,
                self.find_out(&mut flight, &job, token),
            ) => Some(outcome),
        };
        let Some(outcome) = outcome.filter(|_| !flight.abandoned) else {
            // No request is to be notified, and there is no new result.
            return;
        };
        let outcome = outcome.unwrap_or_else(|_| Err(self.too_late(&flight)));
        let lookup_outcome = self.learn(&mut flight, token, outcome);
        flight.finish(lookup_outcome);
    }

    /// Obtains the verdict for the token from the first source that has it: another process that is already asking, or
    /// the authorization server.
    async fn find_out(
        &self,
        flight: &mut Flight<'_>,
        job: &LookupJob,
        token: Token<'_>,
    ) -> Result<Verdict, Error> {
        let levels = &self.shared.levels;
        let subject = &job.subject;
        let Some(store) = levels.store().filter(|_| job.reason != Reason::Trial) else {
            return self.ask(flight, job, token).await;
        };
        let started = Instant::now();
        let mut waited_for = None;
        // A cached verdict that is due for a refresh is not a result for the job that refreshes it.
        let mut refresh = job.reason == Reason::Refresh;
        let known = |refresh: bool| {
            let hit = levels.shared(subject, token, clock::now())?;
            (!(refresh && hit.refresh)).then_some(hit.verdict)
        };
        loop {
            let lease = FetchLease {
                flight: flight.id,
                version: subject.version,
                within: job.deadline.saturating_duration_since(Instant::now()),
                waited_for,
                waited: job.departed.elapsed(),
            };
            match store.lease(&subject.key, &lease) {
                LeaseOutcome::Granted => {
                    flight.holds_claim = true;
                    // The previous holder of the lease may have stored the verdict since the last lookup.
                    if let Some(verdict) = known(refresh) {
                        flight.cache = Some(CacheStatus::Coalesced);
                        return Ok(verdict);
                    }
                    return self.ask(flight, job, token).await;
                }
                LeaseOutcome::Held(other) => waited_for = Some(other),
                LeaseOutcome::Failed(bytes) => {
                    flight.others_failure = true;
                    return Err(Error::from_bytes(&bytes).unwrap_or_else(|| defect(&self.shared)));
                }
            }
            tokio::time::sleep(pause(started.elapsed())).await;
            // Another process does the refresh. Requests that started to wait here meanwhile may use the cached
            // verdict.
            refresh = false;
            if let Some(verdict) = known(refresh) {
                flight.cache = Some(CacheStatus::Coalesced);
                return Ok(verdict);
            }
        }
    }

    /// Asks the authorization server, at one address after the other. Repeats the call where that is safe and may help,
    /// and caches the verdict.
    async fn ask(
        &self,
        flight: &mut Flight<'_>,
        job: &LookupJob,
        token: Token<'_>,
    ) -> Result<Verdict, Error> {
        let shared = &*self.shared;
        let provider = &*shared.provider;
        let server = self.discovery.server().await?;
        let endpoints = provider.endpoints(&server);
        if endpoints.is_empty() {
            return Err(Error::new(
                ErrorKind::BadAnswer,
                format!(
                    "provider {:?}: the metadata of {} names no {}; set {}",
                    provider.name,
                    server.issuer.as_deref().unwrap_or_default(),
                    match provider.purpose() {
                        Purpose::Introspection => "introspection endpoint",
                        other => other.as_str(),
                    },
                    provider.purpose().key()
                ),
            ));
        }
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        if !shared.flights.send(&flight.subject, flight.number) {
            flight.abandoned = true;
            return Err(defect(shared));
        }
        let trust = shared.tokens.trust(&flight.subject.key);
        let breaker = shared.breaker();
        if let Admission::Wait(after) = breaker.admit(trust, clock::now().monotonic) {
            return Err(shared.not_asked(after));
        }
        flight.asked = Some((None, Arc::clone(&server)));
        // The first call, which obtains our credentials, contains nothing of the client's.
        flight.blame = Blame::Server;
        let mut pass = self.passes.issue(&server).await?;
        let mut renewed = false;
        // The addresses that have failed for this token.
        let mut failed = Vec::new();
        if subject_token::is_wanted(provider, &server) {
            let known = match self.exchanged(flight, &server, job, token, &pass).await {
                Err(error) if error.kind() == ErrorKind::ClientRefused => {
                    flight.blame = Blame::Server;
                    let Some(another) = self.passes.renew(&server, &pass).await? else {
                        return Err(error);
                    };
                    pass = another;
                    renewed = true;
                    self.exchanged(flight, &server, job, token, &pass).await
                }
                outcome => outcome,
            };
            match known? {
                (SubjectToken::Active(members), fresh) => flight.exchanged = Some((members, fresh)),
                (SubjectToken::Inactive { note }, fresh) => {
                    self.note(note);
                    let fresh = fresh.min(provider.cache_inactive_ttl);
                    let verdict = Verdict::Inactive;
                    let levels = &shared.levels;
                    levels.put(&job.subject, token, &verdict, fresh, clock::now());
                    return Ok(verdict);
                }
            }
        }
        let order = self
            .endpoints
            .order(clock::now().monotonic, endpoints.len());
        let last = order.len() - 1 + provider.retries as usize;
        let mut attempt = 0;
        loop {
            let index = order[attempt % order.len()];
            // Each address that has not been tried yet gets its share of the remaining time.
            let untried = order.len().saturating_sub(attempt + 1);
            let left = job.deadline.saturating_duration_since(Instant::now());
            let budget = left / u32::try_from(untried + 1).unwrap_or(u32::MAX);
            let endpoint = &endpoints[index];
            if let Some((at, _)) = &mut flight.asked {
                *at = Some(index);
            }
            // A second attempt at the same address uses a connection of its own.
            let fresh = attempt >= order.len();
            let budget = (untried > 0).then_some(budget);
            let request = self.request(&server, endpoint, token, &pass)?;
            let again = attempt > 0 || renewed;
            flight.blame = Blame::Token;
            let call = self.call(flight, &server, endpoint, &request, again, fresh, budget);
            let failure = match call.await {
                Ok(answer) => {
                    // Another address has answered for the same token: the token was not the cause.
                    for (other, error) in failed.iter().filter(|(other, _)| *other != index) {
                        self.failed_at(*other, error);
                    }
                    self.answered(index, endpoint);
                    shared.levels.put(
                        &job.subject,
                        token,
                        &answer.verdict,
                        answer.fresh,
                        clock::now(),
                    );
                    return Ok(answer.verdict);
                }
                Err(failure) => failure,
            };
            if failure.error.kind() == ErrorKind::ClientRefused && !renewed {
                flight.blame = Blame::Server;
                if let Some(another) = self.passes.renew(&server, &pass).await? {
                    pass = another;
                    renewed = true;
                    continue;
                }
            }
            flight.blame = failure.blame;
            let elsewhere = failure.error.is_outage() && untried > 0;
            // Introspection changes nothing at the authorization server, so a repeat is safe.
            let again = failure.again && untried == 0 && attempt < last;
            let free = failure.blame == Blame::Server;
            let now = clock::now().monotonic;
            // With a single address there is no better one.
            let next = order[(attempt + 1) % order.len()];
            let likely = order.len() == 1 || elsewhere && !self.endpoints.is_last(next, now);
            let repeat = (elsewhere || again) && (free || self.retries.take(likely, now));
            if failure.error.is_outage() {
                if free {
                    self.failed_at(index, &failure.error);
                } else if repeat {
                    failed.push((index, failure.error.clone()));
                }
            }
            if !repeat {
                return Err(failure.error);
            }
            attempt += 1;
        }
    }

    /// Introspects a token that is to be exchanged, at one address after the other. Returns the server's answer and the
    /// time for which it may be cached.
    async fn exchanged(
        &self,
        flight: &mut Flight<'_>,
        server: &Server,
        job: &LookupJob,
        token: Token<'_>,
        pass: &CallCredentials,
    ) -> Result<(SubjectToken, Duration), Error> {
        let provider = &*self.shared.provider;
        let mut failure = None;
        for (at, endpoint) in server.introspection.iter().enumerate() {
            let left = job.deadline.saturating_duration_since(Instant::now());
            let untried = u32::try_from(server.introspection.len() - at).unwrap_or(u32::MAX);
            let budget = left / untried;
            flight.blame = Blame::Token;
            let failed = match self.introspect(server, endpoint, token, pass, budget).await {
                Ok(known) => return Ok(known),
                Err(failed) => failed,
            };
            flight.blame = failed.blame;
            if !failed.error.is_outage() || (untried > 1 && !self.may_repeat(failed.blame)) {
                return Err(failed.error);
            }
            failure = Some(failed.error);
        }
        Err(failure.unwrap_or_else(|| {
            Error::new(
                ErrorKind::BadAnswer,
                format!(
                    "provider {:?}: the metadata of {} names no introspection endpoint, and without one it can't be known \
                     whether a token that is exchanged is bound to a key of its sender; set introspection_endpoint, or \
                     exchange_introspect off if this server binds no tokens (DPoP, mutual TLS)",
                    provider.name,
                    server.issuer.as_deref().unwrap_or_default(),
                ),
            )
        }))
    }

    /// One call that introspects a token that is to be exchanged.
    async fn introspect(
        &self,
        server: &Server,
        endpoint: &Endpoint,
        token: Token<'_>,
        pass: &CallCredentials,
        budget: Duration,
    ) -> Result<(SubjectToken, Duration), transport::Failure> {
        let unusable = |error| transport::Failure {
            error,
            again: false,
            blame: Blame::Token,
        };
        let provider = &*self.shared.provider;
        let counters = &self.shared.counters;
        let started = Instant::now();
        let mut again = false;
        let (client_auth, response) = loop {
            let now = clock::now().unix;
            let mut request =
                subject_token::request(provider, server, endpoint, token, now).map_err(unusable)?;
            self.passes.show(pass, &mut request).map_err(unusable)?;
            counters.called(again);
            let call = self.transport.call(provider, endpoint, &request, again);
            let left = budget.saturating_sub(started.elapsed());
            let outcome = timeout(left, call).await.unwrap_or_else(|_| {
                Err(unusable(transport::timed_out(
                    provider,
                    endpoint,
                    provider.timeout,
                )))
            });
            counters.answered(started.elapsed());
            match outcome {
                // A connection that was kept open may have been closed by the other side.
                Err(failure) if failure.again && !again && self.may_repeat(failure.blame) => {
                    again = true;
                }
                Err(failure) => return Err(failure),
                Ok(response) => break (request.client_auth, response),
            }
        };
        let asked = AnswerContext {
            provider,
            server,
            endpoint,
            client_auth,
            keys: None,
        };
        let now = clock::now().unix;
        let (status, headers) = (response.status, &response.headers);
        let subject =
            subject_token::read(&asked, status, headers, &response.body, now).map_err(unusable)?;
        Ok((subject, cache::allowed(provider, headers)))
    }

    /// Whether a call that failed in this way may be repeated.
    fn may_repeat(&self, blame: Blame) -> bool {
        blame == Blame::Server || self.retries.take(true, clock::now().monotonic)
    }

    /// Notifies the operator of a token that is refused although the server calls it active.
    fn note(&self, note: Option<String>) {
        if let Some(note) = note {
            let now = std::time::Instant::now();
            self.shared.reporter.refused(&note, now);
        }
    }

    /// The request of one call. Its credentials are valid for this call only.
    fn request(
        &self,
        server: &Server,
        endpoint: &Endpoint,
        token: Token<'_>,
        pass: &CallCredentials,
    ) -> Result<Request, Error> {
        let provider = &self.shared.provider;
        let now = clock::now().unix;
        let mut request = introspection::request(provider, server, endpoint, token, now)?;
        self.passes.show(pass, &mut request)?;
        Ok(request)
    }

    /// One call to one address. The flight's own deadline bounds it, if `budget` does not.
    #[expect(
        clippy::too_many_arguments,
        reason = "it is all that makes up one call"
    )]
    async fn call(
        &self,
        flight: &mut Flight<'_>,
        server: &Server,
        endpoint: &Endpoint,
        request: &Request,
        again: bool,
        fresh: bool,
        budget: Option<Duration>,
    ) -> Result<Answer, transport::Failure> {
        let shared = &*self.shared;
        let provider = &*shared.provider;
        shared.counters.called(again);
        let started = Instant::now();
        let call = async {
            if endpoint.host.is_some() {
                self.host(flight, endpoint, request).await
            } else {
                let transport = &self.transport;
                transport.call(provider, endpoint, request, fresh).await
            }
        };
        let result = match budget {
            Some(budget) => timeout(budget, call).await.unwrap_or_else(|_| {
                Err(transport::Failure {
                    error: transport::timed_out(provider, endpoint, budget),
                    again: false,
                    blame: Blame::Token,
                })
            }),
            None => call.await,
        };
        shared.counters.answered(started.elapsed());
        let response = result?;
        let exchanged = flight.exchanged.as_ref();
        let reading = self
            .read(server, endpoint, request.client_auth, &response, exchanged)
            .await
            .map_err(|(error, blame)| transport::Failure {
                error,
                again: false,
                blame,
            })?;
        self.note(reading.note);
        let verdict = reading.verdict;
        let now = clock::now();
        let mut fresh = cache::lifetime(provider, &verdict, &response.headers, now.unix);
        if let Some((_, bound)) = exchanged {
            fresh = fresh.min(*bound);
        }
        Ok(Answer { verdict, fresh })
    }

    /// One call that the host makes: on behalf of one waiting request, and of another if that one leaves.
    async fn host(
        &self,
        flight: &mut Flight<'_>,
        endpoint: &Endpoint,
        request: &Request,
    ) -> Result<transport::Response, transport::Failure> {
        let shared = &*self.shared;
        let provider = &*shared.provider;
        let Some(sink) = &shared.calls else {
            return Err(host::no_host(provider));
        };
        loop {
            let tag = match shared.flights.behalf(&flight.subject) {
                Behalf::Of(tag) => Some(tag),
                Behalf::Any => None,
                behalf @ (Behalf::Exhausted | Behalf::Nobody) => {
                    flight.abandoned = behalf == Behalf::Nobody;
                    return host::response(provider, endpoint, Err(CallFailure::Gone));
                }
            };
            let (call, answer) = host::call(provider, request, tag);
            sink(call);
            // A call that is dropped ends in the same way.
            let outcome = answer.await.unwrap_or(Err(CallFailure::Gone));
            if !matches!(outcome, Err(CallFailure::Gone)) {
                return host::response(provider, endpoint, outcome);
            }
        }
    }

    /// Reads an answer. Reads it again if newer keys of the authorization server may help and there are any.
    async fn read(
        &self,
        server: &Server,
        endpoint: &Endpoint,
        client_auth: ClientAuth,
        response: &transport::Response,
        exchanged: Option<&(Map<String, Value>, Duration)>,
    ) -> Result<Reading, (Error, Blame)> {
        let read = |keys: Option<&KeySet>| {
            let asked = AnswerContext {
                provider: &self.shared.provider,
                server,
                endpoint,
                client_auth,
                keys,
            };
            let now = clock::now().unix;
            let reading = introspection::read_noting(
                &asked,
                response.status,
                &response.headers,
                &response.body,
                now,
            )?;
            match exchanged {
                Some((subject, _)) => subject_token::applied(&asked, reading, subject, now),
                None => Ok(reading),
            }
        };
        let known = self.keys.known();
        let outcome = read(known.as_deref());
        let outcome = if outcome.as_ref().is_err_and(Error::is_unknown_key) {
            match self.keys.newer(known.as_ref()).await {
                Ok(Some(keys)) => read(Some(&keys)),
                Ok(None) => outcome,
                // The keys are the same for all tokens.
                Err(error) => return Err((error, Blame::Server)),
            }
        } else {
            outcome
        };
        outcome.map_err(|error| (error, Blame::Token))
    }

    fn answered(&self, index: usize, endpoint: &Endpoint) {
        if self.endpoints.answered(index) {
            let place = self.shared.provider.place(endpoint);
            let reporter = &self.shared.reporter;
            reporter.say(LogLevel::Info, &format!("{place}: it answers again"));
        }
    }

    fn failed_at(&self, index: usize, error: &Error) {
        let now = clock::now().monotonic;
        // With a single address there is nothing to choose.
        let provider = &self.shared.provider;
        if provider.endpoints(&provider.server).len() > 1
            && self.endpoints.failed(index, now, self.entropy.next())
        {
            let reporter = &self.shared.reporter;
            reporter.say(
                LogLevel::Warn,
                &format!(
                    "{error}; the provider's other endpoints are asked before this one for a while"
                ),
            );
        }
    }

    /// The error when the flight's time is over.
    fn too_late(&self, flight: &Flight<'_>) -> Error {
        let provider = &self.shared.provider;
        if let Some((index, server)) = &flight.asked {
            // Before the first call, there may have been one to obtain its credentials.
            let endpoint = match (index, &server.token) {
                (None, Some(token)) => token,
                (index, _) => &provider.endpoints(server)[index.unwrap_or(0)],
            };
            return transport::timed_out(provider, endpoint, provider.timeout);
        }
        if let Some(error) = self.discovery.failure() {
            return error;
        }
        let what = if flight.holds_claim || self.shared.levels.store().is_none() {
            "as many calls as max_concurrent allows are under way, and none ended in time"
        } else {
            "another process was asking, and had no answer in time"
        };
        Error::new(
            ErrorKind::Timeout,
            format!("provider {:?}: {what}", provider.name),
        )
    }

    /// Records the evidence that an outcome gives about the authorization server, and replaces an error by a stale
    /// verdict where that is allowed.
    fn learn(
        &self,
        flight: &mut Flight<'_>,
        token: Token<'_>,
        outcome: Result<Verdict, Error>,
    ) -> LookupOutcome {
        let shared = &*self.shared;
        let now = clock::now();
        let error = match outcome {
            Ok(verdict) => {
                if flight.asked.is_some() {
                    self.reached(&flight.subject, &verdict);
                }
                return LookupOutcome {
                    outcome: Ok(verdict),
                    cache: flight.cache,
                };
            }
            Err(error) => error,
        };
        if flight.asked.is_some() {
            if error.is_outage() {
                self.not_reached(flight, &error, now.monotonic);
            } else {
                // Its answer can't be used, but it is an answer.
                self.close_breaker();
            }
        }
        // A failure from another process has been logged there, and the start of a period without calls was logged when
        // it began.
        if !flight.others_failure && error.kind() != ErrorKind::CircuitOpen {
            shared.reporter.failed(&error, std::time::Instant::now());
        }
        flight.failure = Some(error.clone());
        let stale = error
            .is_no_answer()
            .then(|| shared.levels.stale(&flight.subject, token, now))
            .flatten();
        match stale {
            Some(verdict) => LookupOutcome {
                outcome: Ok(verdict),
                cache: Some(CacheStatus::Stale),
            },
            None => Err(error).into(),
        }
    }

    /// Records that the authorization server has answered.
    fn reached(&self, subject: &VersionedKey, verdict: &Verdict) {
        self.retries.answered();
        let tokens = &self.shared.tokens;
        tokens.succeeded(&subject.key);
        match verdict {
            Verdict::Active(_) => tokens.is_active(&subject.key),
            Verdict::Inactive => tokens.is_inactive(&subject.key),
        }
        let reporter = &self.shared.reporter;
        let name = &self.shared.provider.name;
        let now = std::time::Instant::now();
        if self.close_breaker() {
            reporter.recovered(now);
        } else {
            reporter.succeeded(name, now);
        }
    }

    fn close_breaker(&self) -> bool {
        self.shared.tokens.answered();
        let closed = self.shared.breaker().succeeded();
        if closed {
            self.shared.tokens.forgive();
            self.shared.refuses.store(false, Ordering::Relaxed);
            self.shared.reporter.say(
                LogLevel::Info,
                &format!(
                    "provider {:?}: the authorization server answers again, and all requests that need it ask it again",
                    self.shared.provider.name
                ),
            );
        }
        closed
    }

    /// Records that it has not answered.
    fn not_reached(&self, flight: &Flight<'_>, error: &Error, now: u64) {
        let shared = &*self.shared;
        let policy = BreakerSettings::of(&shared.provider);
        let evidence = match flight.blame {
            Blame::Nobody => return,
            Blame::Server => Evidence::Connection,
            Blame::Token => {
                let key = &flight.subject.key;
                let trust = shared.tokens.trust(key);
                // A call that the host makes may have failed because of other parts of its request: that must not delay
                // other clients that have the token.
                let hold_back =
                    (policy.max_fails > 0 && shared.calls.is_none()).then_some(policy.first);
                if !shared.tokens.failed(key, error, hold_back, now) {
                    return;
                }
                trust.into()
            }
        };
        let Some(opened) = shared.breaker().failed(evidence, now, self.entropy.next()) else {
            return;
        };
        shared.counters.opened();
        if opened.news {
            let span = Duration::from_millis(opened.span).as_secs_f64();
            let what = match opened.probes {
                0 => format!(
                    "{} calls in a row have failed: the authorization server is not asked for {span:.1} s, and then by \
                     one request at a time until it answers",
                    opened.failures
                ),
                probes => format!(
                    "all calls have failed lately, for many different tokens: the authorization server is asked {probes} \
                     times in {span:.1} s at most, and less often later, until it answers",
                ),
            };
            let name = &shared.provider.name;
            let line = format!(
                "provider {name:?}: {what}; other requests that need it get 503. The last failure: {error}"
            );
            shared.reporter.say(LogLevel::Error, &line);
        }
    }
}

/// The authorization server's answer about a token.
struct Answer {
    verdict: Verdict,
    /// The time for which it may be cached.
    fresh: Duration,
}

/// The time to wait before the next check whether another process has its answer: a sixteenth of the time waited so
/// far. So the delay of a late check stays small compared with the call itself, and a slow answer is not checked for
/// all the time.
fn pause(waited: Duration) -> Duration {
    (waited / 16).clamp(Duration::from_millis(1), Duration::from_millis(50))
}

fn defect(shared: &Shared) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!(
            "provider {:?}: a defect of phantom-token ended a call; please report it",
            shared.provider.name
        ),
    )
}

/// Numbers that differ from process to process and from call to call. They are not secret.
struct Entropy {
    seed: RandomState,
    count: AtomicU64,
}

impl Entropy {
    fn new() -> Self {
        Entropy {
            seed: RandomState::new(),
            count: AtomicU64::new(0),
        }
    }

    fn next(&self) -> u64 {
        self.seed.hash_one((
            std::process::id(),
            self.count.fetch_add(1, Ordering::Relaxed),
        ))
    }
}

/// A flight in progress. However it ends, by a panic included, the waiting requests are notified, here and in other
/// processes.
struct Flight<'a> {
    shared: &'a Shared,
    subject: VersionedKey,
    /// Its number among the flights of this client.
    number: u64,
    /// Its id among the flights of all processes.
    id: u64,
    /// Whether the store makes other processes wait for it.
    holds_claim: bool,
    /// The endpoint of the last call to the authorization server for this flight, and its number if tokens are
    /// introspected there.
    asked: Option<(Option<usize>, Arc<Server>)>,
    /// The server's answer about a token that is to be exchanged, and for how long it may be cached.
    exchanged: Option<(Map<String, Value>, Duration)>,
    /// The party to blame if the current step fails.
    blame: Blame,
    /// Whether its failure is that of another process's flight.
    others_failure: bool,
    /// The source of the verdict, if it is not the authorization server.
    cache: Option<CacheStatus>,
    /// The failure to report to other processes.
    failure: Option<Error>,
    /// Whether the flight was ended because no request waited for it any more before there was a result.
    abandoned: bool,
    landed: bool,
}

impl<'a> Flight<'a> {
    fn new(shared: &'a Shared, subject: VersionedKey, number: u64, id: u64) -> Self {
        Flight {
            shared,
            subject,
            number,
            id,
            holds_claim: false,
            asked: None,
            exchanged: None,
            blame: Blame::Nobody,
            others_failure: false,
            cache: None,
            failure: None,
            abandoned: false,
            landed: false,
        }
    }

    fn finish(mut self, lookup_outcome: LookupOutcome) {
        self.landed = true;
        self.release();
        self.shared
            .complete(&self.subject, self.number, &lookup_outcome);
    }

    fn release(&mut self) {
        if std::mem::take(&mut self.holds_claim)
            && let Some(store) = self.shared.levels.store()
        {
            let failure = self.failure.take().map(|error| error.to_bytes());
            store.release(&self.subject.key, self.id, failure.as_deref());
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        // The client is being stopped, there was a panic, or no request waits any more.
        self.release();
        if self.asked.is_some() {
            // This call may have been the probe.
            self.shared.breaker().withdrawn();
        }
        if thread::panicking() {
            let error = defect(self.shared);
            self.shared
                .reporter
                .failed(&error, std::time::Instant::now());
            self.shared
                .complete(&self.subject, self.number, &Err(error).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::resolver::flights::{Joined, Notify};
    use crate::token::{Fingerprint, Key};
    use crate::{CacheStatus, ClientOptions, Config};

    #[test]
    fn a_panic_in_a_call_answers_those_who_wait() {
        let mut config = Config::new("main");
        config
            .set("introspection_endpoint", "http://127.0.0.1:1/introspect")
            .unwrap();
        let shared = Shared::new(config.build().unwrap(), ClientOptions::default());
        let key = Key::new(&Fingerprint([0; 32]), Token::parse(b"opaque").unwrap());
        let subject = VersionedKey {
            key,
            version: 0.into(),
        };
        let (sender, receiver) = mpsc::channel();
        let notify = Notify::Call(Box::new(move |outcome| sender.send(outcome).unwrap()));
        let joined = shared.flights.join(subject, notify, || None);
        let Joined::Started(_, started) = joined else {
            panic!("there is no other");
        };

        let ended = thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _flight = Flight::new(&shared, subject, started.number, 1);
                    panic!("a defect");
                })
                .join()
        });
        assert!(ended.is_err());
        let error = receiver.try_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.message().contains("please report"), "{error}");

        // The next thread starts with a new channel.
        let (sender, receiver) = mpsc::channel();
        let notify = Notify::Call(Box::new(move |outcome| sender.send(outcome).unwrap()));
        let joined = shared.flights.join(subject, notify, || None);
        let Joined::Started(_, started) = joined else {
            panic!("it has ended");
        };
        Flight::new(&shared, subject, started.number, 2).finish(Ok(Verdict::Inactive).into());
        let resolution = receiver.try_recv().unwrap().unwrap();
        assert_eq!(resolution.cache, CacheStatus::Miss);
    }
}
