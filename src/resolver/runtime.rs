//! The thread that talks to the authorization server, and a call's life on it.
//!
//! One thread per client with a single-threaded tokio runtime: there is nothing to compute, only to wait. It has
//! every signal blocked, so that a host's signals are delivered to the host's threads; and it is started only in
//! the process that uses it, because a thread does not survive a fork.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::client::Shared;
use super::transport::{self, Transport};
use crate::token::{Key, Token};
use crate::verdict::Verdict;
use crate::{Error, ErrorKind, cache, clock, introspection};

/// How long [`Runtime::stop`] waits for the thread.
const STOP: Duration = Duration::from_secs(2);

/// A token to ask about.
pub(super) struct Departure {
    pub key: Key,
    pub token: Zeroizing<String>,
    pub deadline: Instant,
}

/// The running thread.
pub(super) struct Runtime {
    departures: mpsc::UnboundedSender<Departure>,
    thread: JoinHandle<()>,
    ended: Receiver<()>,
}

impl Runtime {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        // Unbounded in type only: there is one departure per flight, and flights are bounded by who may wait.
        let (departures, arrivals) = mpsc::unbounded_channel();
        let (alive, ended) = sync_channel::<()>(0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Threads for name resolution: few, and gone soon.
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
            departures,
            thread,
            ended,
        })
    }

    /// Hands a token over to the thread. An error means that the thread has ended.
    pub(super) fn depart(
        departures: &mpsc::UnboundedSender<Departure>,
        departure: Departure,
    ) -> Result<(), Departure> {
        departures.send(departure).map_err(|refused| refused.0)
    }

    pub(super) fn departures(&self) -> mpsc::UnboundedSender<Departure> {
        self.departures.clone()
    }

    pub(super) fn thread_id(&self) -> ThreadId {
        self.thread.thread().id()
    }

    /// Joins the thread, which has been told to end. Returns whether it did in time.
    pub(super) fn join(self) -> bool {
        drop(self.departures);
        match self.ended.recv_timeout(STOP) {
            Err(RecvTimeoutError::Timeout) => false,
            // The other side is dropped as the last thing the thread does: all that is left is to leave.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => self.thread.join().is_ok(),
        }
    }
}

/// Runs `spawn` with all signals blocked on this thread, so that what it spawns inherits that.
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

async fn run(shared: Arc<Shared>, mut arrivals: mpsc::UnboundedReceiver<Departure>) {
    let desk = Arc::new(Desk {
        transport: Transport::new(&shared.provider),
        slots: Semaphore::new(shared.provider.max_concurrent.min(Semaphore::MAX_PERMITS)),
        shared,
    });
    loop {
        tokio::select! {
            // Stopping goes before starting.
            biased;
            () = desk.shared.stop.notified() => break,
            departure = arrivals.recv() => match departure {
                Some(departure) => drop(tokio::spawn(Arc::clone(&desk).fly(departure))),
                None => break,
            },
        }
    }
}

/// What calls share on the thread.
struct Desk {
    shared: Arc<Shared>,
    transport: Transport,
    slots: Semaphore,
}

impl Desk {
    async fn fly(self: Arc<Self>, departure: Departure) {
        let flight = Flight {
            shared: &self.shared,
            key: departure.key,
        };
        let provider = &self.shared.provider;
        let outcome = match timeout_at(departure.deadline, self.ask(&departure)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(transport::timed_out(provider)),
        };
        let now = std::time::Instant::now();
        match &outcome {
            Ok(_) => self.shared.reporter.succeeded(&provider.name, now),
            Err(error) => self.shared.reporter.failed(error, now),
        }
        flight.land(outcome);
    }

    /// Asks the authorization server, repeats where that is safe and may help, and remembers the verdict.
    async fn ask(&self, departure: &Departure) -> Result<Verdict, Error> {
        let shared = &self.shared;
        let provider = &shared.provider;
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        let request = match Token::parse(departure.token.as_bytes()) {
            Ok(token) => introspection::request(provider, token),
            // It was a token when it came.
            Err(error) => return Err(Error::new(ErrorKind::Internal, error.to_string())),
        };
        let mut attempt = 0;
        let response = loop {
            shared.counters.called(attempt > 0);
            let started = Instant::now();
            let result = self.transport.call(provider, &request, attempt > 0).await;
            shared.counters.answered(started.elapsed());
            match result {
                Ok(response) => break response,
                // Introspection changes nothing at the authorization server: it is safe to ask again.
                Err(failure) if failure.again && attempt < provider.retries => attempt += 1,
                Err(failure) => return Err(failure.error),
            }
        };
        let now = clock::now();
        let verdict = introspection::read(
            provider,
            response.status,
            &response.headers,
            &response.body,
            now.unix,
        )?;
        let ttl = cache::lifetime(provider, &verdict, &response.headers, now.unix);
        shared.cache.put(departure.key, &verdict, ttl, now);
        Ok(verdict)
    }
}

/// A flight under way. Whatever ends it, a panic included, those who wait are told.
struct Flight<'a> {
    shared: &'a Shared,
    key: Key,
}

impl Flight<'_> {
    fn land(self, outcome: Result<Verdict, Error>) {
        self.shared.complete(&self.key, &outcome);
        // It has landed: `drop` has nothing left to tell.
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let error = Error::new(
                ErrorKind::Internal,
                format!(
                    "provider {:?}: a defect of phantom-token ended a call; please report it",
                    self.shared.provider.name
                ),
            );
            self.shared
                .reporter
                .failed(&error, std::time::Instant::now());
            self.shared.complete(&self.key, &Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::resolver::flights::{Joined, Notify};
    use crate::token::Fingerprint;
    use crate::{CacheStatus, Config, Surroundings};

    #[test]
    fn a_panic_in_a_call_answers_those_who_wait() {
        let mut config = Config::new("main");
        config
            .set("introspection_endpoint", "http://127.0.0.1:1/introspect")
            .unwrap();
        let shared = Shared::new(config.build().unwrap(), Surroundings::default());
        let key = Key::new(&Fingerprint([0; 32]), Token::parse(b"opaque").unwrap());
        let (sender, receiver) = mpsc::channel();
        let notify = Notify::Call(Box::new(move |outcome| sender.send(outcome).unwrap()));
        let joined = shared.flights.join(key, notify, || None);
        assert!(matches!(joined, Joined::Started(_)));

        let ended = thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _flight = Flight {
                        shared: &shared,
                        key,
                    };
                    panic!("a defect");
                })
                .join()
        });
        assert!(ended.is_err());
        let error = receiver.try_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.message().contains("please report"), "{error}");

        // The next one starts anew.
        let (sender, receiver) = mpsc::channel();
        let notify = Notify::Call(Box::new(move |outcome| sender.send(outcome).unwrap()));
        let joined = shared.flights.join(key, notify, || None);
        assert!(matches!(joined, Joined::Started(_)));
        Flight {
            shared: &shared,
            key,
        }
        .land(Ok(Verdict::Inactive));
        let resolution = receiver.try_recv().unwrap().unwrap();
        assert_eq!(resolution.cache, CacheStatus::Miss);
    }
}
