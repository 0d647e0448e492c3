//! Flights: one call per token at a time, for any number of waiting requests.
//!
//! A flight that has been sent, or can be sent at once, continues when no request waits for it any more: its answer
//! will be cached. A flight that would have to wait before it is sent ends with its last waiting request, so that
//! clients that send tokens and disconnect do not delay others. So there are at most `max_waiting` flights with waiting
//! requests and `max_concurrent` without. A background flight, which refreshes a verdict and has no waiting requests
//! from the start, is one of `max_waiting`, and only ends by itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RawMutex;
use parking_lot::lock_api;
use tokio::sync::oneshot;

use super::{Completion, CompletionQueue};
use crate::Error;
use crate::cache::VersionedKey;
use crate::verdict::{CacheStatus, Resolution, Verdict};

/// The id of one submitted request, until it completes or is cancelled. Never reused within a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// How a waiting request is notified.
pub(super) enum Notify {
    /// A completion in an event loop's queue.
    Queue(Arc<CompletionQueue>, u64),
    /// A call, on the thread that completes the flight: it must not block.
    Call(Box<dyn FnOnce(Result<Resolution, Error>) + Send>),
}

/// The end of a flight.
pub(super) struct LookupOutcome {
    /// The outcome for all waiting requests.
    pub outcome: Result<Verdict, Error>,
    /// The source of the verdict, if it is not the authorization server's answer to this flight.
    pub cache: Option<CacheStatus>,
}

impl From<Result<Verdict, Error>> for LookupOutcome {
    fn from(outcome: Result<Verdict, Error>) -> Self {
        LookupOutcome {
            outcome,
            cache: None,
        }
    }
}

/// The request on whose behalf a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behalf {
    /// A waiting request with this tag.
    Of(u64),
    /// No particular request: the waiting requests have no tag.
    Any,
    /// A call was made on behalf of every waiting request.
    Exhausted,
    /// No request waits any more: the flight has ended.
    Nobody,
}

/// A new flight, which the caller must run.
pub(super) struct Started {
    /// Its number: no two flights of a client have the same.
    pub number: u64,
    /// Closed when no request waits for it any more and it has not been sent: it has ended then.
    pub gone: oneshot::Receiver<()>,
}

/// The result of a request to join a flight.
pub(super) enum Joined {
    /// The request is the first: the caller must ask the authorization server.
    Started(RequestId, Started),
    /// Another request has asked already.
    Waiting(RequestId),
    /// The answer has arrived in the meantime: nothing to wait for.
    Known(Verdict),
    /// Too many requests wait already.
    Full,
    /// No flight starts any more.
    Closed,
}

/// The flights in progress. `Lock` is another type only in tests, which try all orders in which threads may run.
pub(super) struct Flights<Lock = RawMutex> {
    state: lock_api::Mutex<Lock, State>,
    max_waiting: usize,
    max_concurrent: usize,
}

#[derive(Default)]
struct State {
    by_subject: HashMap<VersionedKey, Entry>,
    by_request: HashMap<RequestId, VersionedKey>,
    last_id: u64,
    last_flight: u64,
    closed: bool,
}

/// A flight in progress.
struct Entry {
    number: u64,
    waiters: BTreeMap<RequestId, Waiter>,
    /// Whether it continues when no request waits for it: a call may have been made for it, or it is a background
    /// flight.
    keeps: bool,
    /// Dropped with the entry. The drop notifies the flight.
    _alive: oneshot::Sender<()>,
}

impl State {
    fn start(&mut self, subject: VersionedKey, waiters: BTreeMap<RequestId, Waiter>) -> Started {
        self.last_flight += 1;
        let number = self.last_flight;
        let (alive, gone) = oneshot::channel();
        let entry = Entry {
            number,
            keeps: waiters.is_empty(),
            waiters,
            _alive: alive,
        };
        self.by_subject.insert(subject, entry);
        Started { number, gone }
    }

    fn entry(&mut self, subject: &VersionedKey, number: u64) -> Option<&mut Entry> {
        let entry = self.by_subject.get_mut(subject)?;
        (entry.number == number).then_some(entry)
    }
}

struct Waiter {
    notify: Notify,
    cache: CacheStatus,
    /// Whether a call was made on its behalf.
    asked: bool,
}

impl<Lock: lock_api::RawMutex> Flights<Lock> {
    pub(super) fn new(max_waiting: usize, max_concurrent: usize) -> Self {
        Flights {
            state: lock_api::Mutex::new(State::default()),
            max_waiting,
            max_concurrent,
        }
    }

    /// Joins the flight for `subject`, or starts one. A flight that began before a purge is for another subject, so a
    /// request that comes after the purge does not get its answer.
    ///
    /// `known` looks up the verdict once more before a flight starts. A flight stores its verdict in the cache before
    /// it ends here, so a request that finds no flight finds the verdict: no request that comes at that moment asks a
    /// second time.
    pub(super) fn join(
        &self,
        subject: VersionedKey,
        notify: Notify,
        known: impl FnOnce() -> Option<Verdict>,
    ) -> Joined {
        let mut state = self.state.lock();
        if state.closed {
            return Joined::Closed;
        }
        let under_way = state.by_subject.contains_key(&subject);
        if !under_way && let Some(verdict) = known() {
            return Joined::Known(verdict);
        }
        if state.by_request.len() >= self.max_waiting {
            return Joined::Full;
        }
        state.last_id += 1;
        let id = RequestId(state.last_id);
        state.by_request.insert(id, subject);
        let cache = if under_way {
            CacheStatus::Coalesced
        } else {
            CacheStatus::Miss
        };
        let waiter = Waiter {
            notify,
            cache,
            asked: false,
        };
        match state.by_subject.get_mut(&subject) {
            Some(entry) => {
                entry.waiters.insert(id, waiter);
                Joined::Waiting(id)
            }
            None => Joined::Started(id, state.start(subject, BTreeMap::from([(id, waiter)]))),
        }
    }

    /// Removes a waiting request. The flight continues for other requests. It continues for the cache if it need not
    /// wait to be sent.
    pub(super) fn leave(&self, id: RequestId) -> bool {
        let mut state = self.state.lock();
        let Some(subject) = state.by_request.remove(&id) else {
            return false;
        };
        let has_room = state.by_subject.len() <= self.max_concurrent;
        let mut waiter = None;
        let mut ended = None;
        if let Some(entry) = state.by_subject.get_mut(&subject) {
            waiter = entry.waiters.remove(&id);
            if entry.waiters.is_empty() && !entry.keeps && !has_room {
                ended = state.by_subject.remove(&subject);
            }
        }
        drop(state);
        // What they own is dropped only after the lock is released: the drop may run code of the caller.
        drop((waiter, ended));
        true
    }

    /// Whether a flight that is to be sent now is still wanted. From here on the flight continues even if all waiting
    /// requests leave.
    pub(super) fn send(&self, subject: &VersionedKey, number: u64) -> bool {
        let mut state = self.state.lock();
        let entry = state.entry(subject, number);
        entry.is_some_and(|entry| {
            entry.keeps = true;
            true
        })
    }

    /// The request on whose behalf the next call of the flight for `subject` may be made. Each waiting request is named
    /// once. If none waits, the flight ends here, so that the next request starts another.
    pub(super) fn behalf(&self, subject: &VersionedKey) -> Behalf {
        let mut state = self.state.lock();
        let Some(entry) = state.by_subject.get_mut(subject) else {
            return Behalf::Nobody;
        };
        if entry.waiters.is_empty() {
            let ended = state.by_subject.remove(subject);
            drop(state);
            drop(ended);
            return Behalf::Nobody;
        }
        let mut unasked = entry.waiters.values_mut().filter(|waiter| !waiter.asked);
        match unasked.next() {
            None => Behalf::Exhausted,
            Some(waiter) => {
                waiter.asked = true;
                match waiter.notify {
                    Notify::Queue(_, tag) => Behalf::Of(tag),
                    Notify::Call(_) => Behalf::Any,
                }
            }
        }
    }

    /// Starts a background flight for `subject`, unless there is a flight already.
    pub(super) fn begin_unasked(&self, subject: VersionedKey) -> Option<Started> {
        let mut state = self.state.lock();
        if state.closed
            || state.by_subject.len() >= self.max_waiting
            || state.by_subject.contains_key(&subject)
        {
            return None;
        }
        Some(state.start(subject, BTreeMap::new()))
    }

    /// Ends the flight of this number for `subject` and notifies all waiting requests. `count` receives their number
    /// before they are notified, so that a notified request is already counted. Does nothing if the flight has ended
    /// already.
    pub(super) fn complete(
        &self,
        subject: &VersionedKey,
        number: u64,
        lookup_outcome: &LookupOutcome,
        count: impl FnOnce(usize),
    ) {
        let mut state = self.state.lock();
        if state.entry(subject, number).is_none() {
            drop(state);
            count(0);
            return;
        }
        let ended = state.by_subject.remove(subject);
        let waiters = ended.map(|entry| entry.waiters).unwrap_or_default();
        for id in waiters.keys() {
            state.by_request.remove(id);
        }
        drop(state);
        count(waiters.len());
        tell(waiters, lookup_outcome);
    }

    /// Ends every flight with `error`; none starts afterwards. `count` receives the number of waiting requests before
    /// they are notified.
    pub(super) fn close(&self, error: &Error, count: impl FnOnce(usize)) {
        let mut state = self.state.lock();
        state.closed = true;
        state.by_request.clear();
        let flights = std::mem::take(&mut state.by_subject);
        drop(state);
        count(flights.values().map(|entry| entry.waiters.len()).sum());
        for entry in flights.into_values() {
            tell(entry.waiters, &Err(error.clone()).into());
        }
    }

    /// The number of flights in progress, and of requests that wait for them.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.by_subject.len(), state.by_request.len())
    }
}

fn tell(waiters: BTreeMap<RequestId, Waiter>, lookup_outcome: &LookupOutcome) {
    for (id, waiter) in waiters {
        let outcome = match &lookup_outcome.outcome {
            Ok(verdict) => Ok(Resolution {
                verdict: verdict.clone(),
                cache: lookup_outcome.cache.unwrap_or(waiter.cache),
            }),
            Err(error) => Err(error.clone()),
        };
        match waiter.notify {
            Notify::Queue(queue, tag) => queue.push(Completion { id, tag, outcome }),
            Notify::Call(call) => call(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use shuttle::thread;

    use super::*;
    use crate::cache::{MemoryCache, TieredCache};
    use crate::clock::Now;
    use crate::jwt::{self, Claims};
    use crate::token::{Fingerprint, Key, Token};
    use crate::{Active, Config, ErrorKind};

    const NOW: Now = Now {
        unix: 1_000_000,
        monotonic: 5_000,
    };

    /// A lock at which the scheduler of the tests may let any other thread continue.
    struct AnyOrder(AtomicBool);

    // SAFETY: `lock` returns, and `try_lock` says true, only to the one whose swap found false; it is false again only
    // after `unlock`, which the contract leaves to the holder. The swap acquires what `unlock`'s store released.
    unsafe impl lock_api::RawMutex for AnyOrder {
        #[allow(clippy::declare_interior_mutable_const, reason = "the trait wants it")]
        const INIT: Self = AnyOrder(AtomicBool::new(false));
        type GuardMarker = lock_api::GuardSend;

        fn lock(&self) {
            while !self.try_lock() {
                thread::yield_now();
            }
        }

        fn try_lock(&self) -> bool {
            !self.0.swap(true, Ordering::SeqCst)
        }

        unsafe fn unlock(&self) {
            self.0.store(false, Ordering::SeqCst);
        }
    }

    fn key() -> Key {
        Key::new(&Fingerprint([0; 32]), Token::parse(b"opaque").unwrap())
    }

    fn subject(version: u32) -> VersionedKey {
        VersionedKey {
            key: key(),
            version: version.into(),
        }
    }

    /// A verdict that was obtained under this version.
    fn verdict_of(version: u32) -> Verdict {
        let mut claims = Claims::empty();
        claims.iat = Some(version.into());
        let jwt = jwt::check_compact(b"eyJhbGciOiJFUzI1NiJ9.e30.AAAA").unwrap();
        Verdict::Active(Arc::new(Active::new(&jwt, claims)))
    }

    fn version_of(verdict: &Verdict) -> u32 {
        match verdict {
            Verdict::Active(active) => active.claims().iat.unwrap() as u32,
            Verdict::Inactive => panic!("they are all active"),
        }
    }

    /// One node's calls for one token: the same steps as the client's, without the network.
    struct Node {
        flights: Flights<AnyOrder>,
        cache: MemoryCache,
        version: AtomicUsize,
        calls: AtomicUsize,
        told: Arc<AtomicUsize>,
    }

    impl Node {
        fn new() -> Arc<Self> {
            Arc::new(Node {
                flights: Flights::new(100, 100),
                cache: MemoryCache::new(1 << 20, 1000),
                version: AtomicUsize::new(0),
                calls: AtomicUsize::new(0),
                told: Arc::default(),
            })
        }

        /// Asks. The result must have been obtained under this version or a later one.
        fn ask(self: &Arc<Self>, since: u32) {
            let subject = subject(self.version.load(Ordering::SeqCst) as u32);
            let known = || {
                let hit = self.cache.get(&subject.key, NOW, subject.version.epoch)?;
                Some(hit.verdict)
            };
            if let Some(verdict) = known() {
                assert!(version_of(&verdict) >= since);
                self.told.fetch_add(1, Ordering::SeqCst);
                return;
            }
            let told = Arc::clone(&self.told);
            let notify = Notify::Call(Box::new(move |outcome| {
                assert!(version_of(&outcome.unwrap().verdict) >= since);
                told.fetch_add(1, Ordering::SeqCst);
            }));
            match self.flights.join(subject, notify, known) {
                Joined::Started(_, started) => {
                    let node = Arc::clone(self);
                    let fly = move || node.run(subject, started.number);
                    thread::spawn(fly).join().unwrap();
                }
                Joined::Waiting(_) => {}
                Joined::Known(verdict) => {
                    assert!(version_of(&verdict) >= since);
                    self.told.fetch_add(1, Ordering::SeqCst);
                }
                Joined::Full | Joined::Closed => panic!("neither full nor closed"),
            }
        }

        fn run(&self, subject: VersionedKey, number: u64) {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let lifetime = std::time::Duration::from_secs(60).into();
            let verdict = verdict_of(subject.version.epoch);
            self.cache
                .put(subject.key, &verdict, lifetime, NOW, subject.version.epoch);
            let lookup_outcome = Ok(verdict).into();
            self.flights
                .complete(&subject, number, &lookup_outcome, |_| ());
        }
    }

    /// The number of orders to try.
    const ORDERS: usize = 3_000;

    #[test]
    fn in_no_order_of_threads_is_a_token_asked_about_twice_or_somebody_left_waiting() {
        let run = || {
            let node = Node::new();
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let node = Arc::clone(&node);
                    thread::spawn(move || node.ask(0))
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(node.calls.load(Ordering::SeqCst), 1);
            assert_eq!(node.told.load(Ordering::SeqCst), 4);
            assert_eq!(node.flights.counts(), (0, 0));
        };
        shuttle::check_random(run, ORDERS);
        shuttle::check_pct(run, ORDERS, 3);
    }

    #[test]
    fn in_no_order_of_threads_does_one_who_asks_after_a_purge_share_a_flight_from_before_it() {
        let run = || {
            let node = Node::new();
            let early: Vec<_> = (0..2)
                .map(|_| {
                    let node = Arc::clone(&node);
                    thread::spawn(move || node.ask(0))
                })
                .collect();
            node.version.fetch_add(1, Ordering::SeqCst);
            node.ask(1);
            for thread in early {
                thread.join().unwrap();
            }
            // One for each version, and one more if a late result replaced a newer one.
            assert!(node.calls.load(Ordering::SeqCst) <= 3);
            assert_eq!(node.told.load(Ordering::SeqCst), 3);
            assert_eq!(node.flights.counts(), (0, 0));
        };
        shuttle::check_random(run, ORDERS);
    }

    #[test]
    fn in_no_order_of_threads_is_one_who_leaves_told_or_one_who_stays_forgotten() {
        let run = || {
            let flights = Arc::new(Flights::<AnyOrder>::new(10, 10));
            let told = Arc::new(AtomicUsize::new(0));
            let count = |told: &Arc<AtomicUsize>| {
                let told = Arc::clone(told);
                Notify::Call(Box::new(move |_| {
                    told.fetch_add(1, Ordering::SeqCst);
                }))
            };
            let joined = flights.join(subject(0), count(&told), || None);
            let Joined::Started(first, started) = joined else {
                panic!("there is no other");
            };
            let Joined::Waiting(_) = flights.join(subject(0), count(&told), || None) else {
                panic!("it has started");
            };
            let leaver = {
                let flights = Arc::clone(&flights);
                thread::spawn(move || flights.leave(first))
            };
            let lookup_outcome = Err(Error::new(ErrorKind::Timeout, "too slow")).into();
            flights.complete(&subject(0), started.number, &lookup_outcome, |_| ());
            let left = leaver.join().unwrap();
            let expected = if left { 1 } else { 2 };
            assert_eq!(told.load(Ordering::SeqCst), expected);
            assert_eq!(flights.counts(), (0, 0));
        };
        shuttle::check_random(run, ORDERS);
    }

    #[test]
    fn a_flight_that_nobody_waits_for_is_joined_by_the_first_who_does() {
        let flights = Flights::<RawMutex>::new(10, 10);
        let started = flights.begin_unasked(subject(0)).unwrap();
        assert!(flights.begin_unasked(subject(0)).is_none());
        let joined = flights.join(subject(0), Notify::Call(Box::new(|_| ())), || None);
        assert!(matches!(joined, Joined::Waiting(_)));
        let mut waited = 0;
        let lookup_outcome = Ok(Verdict::Inactive).into();
        flights.complete(&subject(0), started.number, &lookup_outcome, |count| {
            waited = count;
        });
        assert_eq!(waited, 1);
        assert_eq!(flights.counts(), (0, 0));
    }

    fn nobody() -> Notify {
        Notify::Call(Box::new(|_| ()))
    }

    fn start(flights: &Flights) -> (RequestId, Started) {
        match flights.join(subject(0), nobody(), || None) {
            Joined::Started(id, started) => (id, started),
            _ => panic!("there is no other"),
        }
    }

    #[test]
    fn a_flight_that_waits_to_be_sent_ends_with_the_last_who_waited() {
        let flights = Flights::<RawMutex>::new(10, 0);
        let (first, mut started) = start(&flights);
        let Joined::Waiting(second) = flights.join(subject(0), nobody(), || None) else {
            panic!("it has started");
        };
        assert!(flights.leave(first));
        assert!(started.gone.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        assert!(flights.leave(second));
        assert!(started.gone.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        assert!(!flights.send(&subject(0), started.number));
        assert_eq!(flights.counts(), (0, 0));

        // A request that comes then has its own flight, and does not receive the result of the other.
        let (_, next) = start(&flights);
        let lookup_outcome = Err(Error::new(ErrorKind::Timeout, "too slow")).into();
        flights.complete(&subject(0), started.number, &lookup_outcome, |count| {
            assert_eq!(count, 0);
        });
        assert_eq!(flights.counts(), (1, 1));
        assert!(flights.send(&subject(0), next.number));
    }

    #[test]
    fn one_that_is_sent_or_was_begun_for_nobody_goes_on_when_all_have_left() {
        let flights = Flights::<RawMutex>::new(10, 0);
        let (id, mut started) = start(&flights);
        assert!(flights.send(&subject(0), started.number));
        assert!(flights.leave(id));
        assert!(started.gone.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        assert_eq!(flights.counts(), (1, 0));
        let lookup_outcome = Ok(Verdict::Inactive).into();
        flights.complete(&subject(0), started.number, &lookup_outcome, |_| ());

        let started = flights.begin_unasked(subject(0)).unwrap();
        let Joined::Waiting(id) = flights.join(subject(0), nobody(), || None) else {
            panic!("it has started");
        };
        assert!(flights.leave(id));
        assert!(flights.send(&subject(0), started.number));
    }

    #[test]
    fn clients_that_come_and_go_leave_nothing_behind() {
        let flights = Flights::<RawMutex>::new(8, 4);
        let mut most = 0;
        for version in 0..2000 {
            let joined = flights.join(subject(version), nobody(), || None);
            let Joined::Started(id, _) = joined else {
                panic!("nobody waits");
            };
            assert!(flights.leave(id));
            most = most.max(flights.counts().0);
        }
        assert_eq!((most, flights.counts()), (4, (4, 0)));
    }

    #[test]
    fn in_no_order_of_threads_is_a_flight_both_sent_and_dropped() {
        let run = || {
            let flights = Arc::new(Flights::<AnyOrder>::new(10, 0));
            let joined = flights.join(subject(0), nobody(), || None);
            let Joined::Started(id, mut started) = joined else {
                panic!("there is no other");
            };
            let leaver = {
                let flights = Arc::clone(&flights);
                thread::spawn(move || flights.leave(id))
            };
            let sent = flights.send(&subject(0), started.number);
            assert!(leaver.join().unwrap());
            let gone = started.gone.try_recv() == Err(oneshot::error::TryRecvError::Closed);
            assert!(sent != gone);
        };
        shuttle::check_random(run, ORDERS);
    }

    #[test]
    fn what_a_flight_from_before_a_purge_found_out_is_not_remembered() {
        let mut config = Config::new("main");
        config
            .set("introspection_endpoint", "http://127.0.0.1:1/introspect")
            .unwrap();
        let levels = TieredCache::new(&config.build().unwrap(), None);
        let token = Token::parse(b"opaque").unwrap();
        let before = levels.subject(key());
        levels.purge(&key());
        let minute = std::time::Duration::from_secs(60);
        levels.put(&before, token, &Verdict::Inactive, minute, NOW);
        let after = levels.subject(key());
        assert!(before != after);
        assert!(levels.own(&before, NOW).is_none());
        levels.put(&after, token, &Verdict::Inactive, minute, NOW);
        assert!(levels.own(&after, NOW).is_some());
    }
}
