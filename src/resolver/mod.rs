//! The one path from token to verdict.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::{Error, ErrorKind, Provider, Resolution, Token};

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// The authorization server or the configuration is at fault: somebody has to act.
    Error,
    /// Something works, but not as it should.
    Warn,
    /// A change of state worth knowing.
    Info,
}

/// Where log lines go. Called on the client's own thread: it must not block, and must not call back into the
/// client. Lines hold no secret.
pub type LogSink = Arc<dyn Fn(LogLevel, &str) + Send + Sync>;

/// A started provider: the cache, the flights and the thread that talks to the authorization server. Threads
/// share one; dropping the last handle stops it.
#[derive(Clone)]
pub struct Client(());

/// A client that could not be started.
#[derive(Debug)]
pub struct StartError(std::io::Error);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the client's thread could not be started: {}", self.0)
    }
}

impl std::error::Error for StartError {}

/// Names one submitted request, until it completes or is cancelled. Never reused within a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// What became of a submitted request.
pub enum Submitted {
    /// It is answered already.
    Ready(Result<Resolution, Error>),
    /// The answer will be in the completion queue.
    Pending(RequestId),
}

/// A finished request.
pub struct Completion {
    /// Which.
    pub id: RequestId,
    /// What the submitter gave along.
    pub tag: u64,
    /// What came of it.
    pub outcome: Result<Resolution, Error>,
}

/// Finished requests, and a file descriptor that becomes readable when there are some. One queue may serve
/// several clients; it belongs to the event loop that drains it.
pub struct CompletionQueue(());

impl CompletionQueue {
    /// An empty queue.
    ///
    /// # Errors
    /// When the system has no file descriptor left.
    pub fn new() -> std::io::Result<Arc<Self>> {
        todo!()
    }

    /// Becomes readable when a completion arrives in the empty queue. Belongs to the queue: don't read, write
    /// or close it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// Makes the descriptor unreadable again. Call it before [`CompletionQueue::drain`] when the descriptor is
    /// watched level-triggered; an edge-triggered one needs it not, and saves a system call.
    pub fn acknowledge(&self) {
        todo!()
    }

    /// Wakes the event loop without a completion.
    pub fn wake(&self) {
        todo!()
    }

    /// Moves what has finished to the end of `into`; what is left for a later call keeps the descriptor readable
    /// (at most `limit` are moved).
    pub fn drain(&self, into: &mut Vec<Completion>, limit: usize) -> usize {
        let _ = (into, limit);
        todo!()
    }
}

/// What a client has done since it was started, and what it holds now.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Verdicts served from memory.
    pub hits: u64,
    /// Requests that started a call to the authorization server.
    pub misses: u64,
    /// Requests that shared another's call.
    pub coalesced: u64,
    /// Requests answered with an inactive verdict, remembered or not.
    pub inactive: u64,
    /// Requests that ended in an error, by [`ErrorKind::index`].
    pub errors: [u64; ErrorKind::ALL.len()],
    /// Calls made to the authorization server, repeats included.
    pub calls: u64,
    /// Calls repeated.
    pub retries: u64,
    /// Calls under way now, or queued for their turn.
    pub in_flight: u64,
    /// Requests waiting now.
    pub waiting: u64,
    /// Verdicts remembered now.
    pub entries: u64,
    /// Inactive verdicts among them.
    pub inactive_entries: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Verdicts pushed out before their time.
    pub evictions: u64,
    /// Calls by latency: how many took at most the [`Stats::LATENCY_BOUNDS`] of the same index; the last counts
    /// those beyond all. Not cumulative.
    pub latency: [u64; Stats::LATENCY_BOUNDS.len() + 1],
    /// The sum of all latencies, in microseconds.
    pub latency_sum_us: u64,
}

impl Stats {
    /// Upper bounds of the latency histogram, in microseconds.
    pub const LATENCY_BOUNDS: [u64; 14] = [
        500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
        2_500_000, 5_000_000, 10_000_000,
    ];
}

impl Client {
    /// Starts a client without a log.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(provider: Arc<Provider>) -> Result<Self, StartError> {
        Self::start_with_log(provider, None)
    }

    /// Starts a client: from here on there is a thread, so call it after fork. The thread has all signals
    /// blocked.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start_with_log(
        provider: Arc<Provider>,
        log: Option<LogSink>,
    ) -> Result<Self, StartError> {
        let _ = (provider, log);
        todo!()
    }

    /// The provider.
    pub fn provider(&self) -> &Arc<Provider> {
        todo!()
    }

    /// What memory knows of the token: `Ok(None)` when nothing. Never blocks, allocates nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`], [`ErrorKind::Stopped`].
    pub fn lookup(&self, token: Token<'_>) -> Result<Option<Resolution>, Error> {
        let _ = token;
        todo!()
    }

    /// Resolves on this thread, which may wait: up to `deadline`, if given, and never longer than the provider's
    /// `timeout`.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub fn resolve(
        &self,
        token: Token<'_>,
        deadline: Option<Duration>,
    ) -> Result<Resolution, Error> {
        let _ = (token, deadline);
        todo!()
    }

    /// Resolves in any async runtime. Dropping the future cancels the wait.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn resolve_async(&self, token: Token<'_>) -> Result<Resolution, Error> {
        let _ = token;
        todo!()
    }

    /// Starts resolving; the answer comes at once or in `queue`.
    pub fn submit(&self, token: Token<'_>, queue: &Arc<CompletionQueue>, tag: u64) -> Submitted {
        let _ = (token, queue, tag);
        todo!()
    }

    /// Forgets a submitted request. Returns whether it was still pending; if not, its completion is in the queue
    /// or has been drained. Others who wait for the same token are not disturbed.
    pub fn cancel(&self, id: RequestId) -> bool {
        let _ = id;
        todo!()
    }

    /// What it has done.
    pub fn stats(&self) -> Stats {
        todo!()
    }

    /// Ends all flights with [`ErrorKind::Stopped`] and joins the thread, within 2 seconds.
    pub fn stop(&self) {
        todo!()
    }
}
