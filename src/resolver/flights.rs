//! Who waits for what: one call per token at a time, whatever the number of requests.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Completion, CompletionQueue};
use crate::Error;
use crate::cache::Subject;
use crate::verdict::{CacheStatus, Resolution, Verdict};

/// Names one submitted request, until it completes or is cancelled. Never reused within a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// How one who waits is told.
pub(super) enum Notify {
    /// A completion in an event loop's queue.
    Queue(Arc<CompletionQueue>, u64),
    /// A call, on the thread that completes the flight: it must not block.
    Call(Box<dyn FnOnce(Result<Resolution, Error>) + Send>),
}

/// How a flight ended.
pub(super) struct Landing {
    /// What all who wait are told.
    pub outcome: Result<Verdict, Error>,
    /// Where the verdict came from, if not from the authorization server for this flight.
    pub cache: Option<CacheStatus>,
}

impl From<Result<Verdict, Error>> for Landing {
    fn from(outcome: Result<Verdict, Error>) -> Self {
        Landing {
            outcome,
            cache: None,
        }
    }
}

/// What became of a request that asked to wait.
pub(super) enum Joined {
    /// It is the first: somebody has to ask the authorization server.
    Started(RequestId),
    /// Somebody asks already.
    Waiting(RequestId),
    /// The answer came in between: nothing to wait for.
    Known(Verdict),
    /// Too many wait already.
    Full,
    /// No flight starts any more.
    Closed,
}

/// The flights under way.
pub(super) struct Flights {
    state: Mutex<State>,
    max_waiting: usize,
}

#[derive(Default)]
struct State {
    by_subject: HashMap<Subject, BTreeMap<RequestId, Waiter>>,
    by_request: HashMap<RequestId, Subject>,
    last_id: u64,
    closed: bool,
}

struct Waiter {
    notify: Notify,
    cache: CacheStatus,
}

impl Flights {
    pub(super) fn new(max_waiting: usize) -> Self {
        Flights {
            state: Mutex::default(),
            max_waiting,
        }
    }

    /// Joins the flight for `subject`, or starts it. One that began before a purge is for another subject: whoever comes
    /// after the purge does not get its answer.
    ///
    /// `known` looks once more for a verdict before a flight starts. A flight leaves its verdict in the cache
    /// before it ends here, so that whoever finds no flight finds the verdict: no request that comes at that
    /// moment asks a second time.
    pub(super) fn join(
        &self,
        subject: Subject,
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
        let waiter = Waiter { notify, cache };
        state
            .by_subject
            .entry(subject)
            .or_default()
            .insert(id, waiter);
        if under_way {
            Joined::Waiting(id)
        } else {
            Joined::Started(id)
        }
    }

    /// Forgets one who waits; the flight goes on, for others and for the cache.
    pub(super) fn leave(&self, id: RequestId) -> bool {
        let mut state = self.state.lock();
        let Some(subject) = state.by_request.remove(&id) else {
            return false;
        };
        let waiter = state
            .by_subject
            .get_mut(&subject)
            .and_then(|waiters| waiters.remove(&id));
        drop(state);
        // What it owns is dropped only after the lock is gone: that may run code of the caller's.
        drop(waiter);
        true
    }

    /// Starts a flight that nobody waits for, unless there is one already.
    pub(super) fn begin_unasked(&self, subject: Subject) -> bool {
        let mut state = self.state.lock();
        if state.closed
            || state.by_subject.len() >= self.max_waiting
            || state.by_subject.contains_key(&subject)
        {
            return false;
        }
        state.by_subject.insert(subject, BTreeMap::new());
        true
    }

    /// Ends the flight for `subject` and tells all who wait. `count` learns how many that are before they do, so that
    /// whoever has been told finds itself counted. Nothing happens if the flight has ended already.
    pub(super) fn complete(&self, subject: &Subject, landing: &Landing, count: impl FnOnce(usize)) {
        let mut state = self.state.lock();
        let waiters = state.by_subject.remove(subject).unwrap_or_default();
        for id in waiters.keys() {
            state.by_request.remove(id);
        }
        drop(state);
        count(waiters.len());
        tell(waiters, landing);
    }

    /// Ends every flight with `error`; none starts afterwards. `count` learns how many wait before they are told.
    pub(super) fn close(&self, error: &Error, count: impl FnOnce(usize)) {
        let mut state = self.state.lock();
        state.closed = true;
        state.by_request.clear();
        let flights = std::mem::take(&mut state.by_subject);
        drop(state);
        count(flights.values().map(BTreeMap::len).sum());
        for waiters in flights.into_values() {
            tell(waiters, &Err(error.clone()).into());
        }
    }

    /// Flights under way, and requests that wait for them.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.by_subject.len(), state.by_request.len())
    }
}

fn tell(waiters: BTreeMap<RequestId, Waiter>, landing: &Landing) {
    for (id, waiter) in waiters {
        let outcome = match &landing.outcome {
            Ok(verdict) => Ok(Resolution {
                verdict: verdict.clone(),
                cache: landing.cache.unwrap_or(waiter.cache),
            }),
            Err(error) => Err(error.clone()),
        };
        match waiter.notify {
            Notify::Queue(queue, tag) => queue.push(Completion { id, tag, outcome }),
            Notify::Call(call) => call(outcome),
        }
    }
}
