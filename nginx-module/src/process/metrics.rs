//! Counters of this worker process, and their publication to the others.
//!
//! A request counts when it ends, by a plain number in the worker's own memory. Once a second, if a number has
//! changed, a timer writes all numbers to shared memory: to slots of this process, see
//! [`phantom_token::gateway::metrics`]. An idle worker has no timer; a worker that ends writes once more.

use std::cell::{Cell, RefCell};
use std::mem;
use std::ptr::NonNull;
use std::sync::Arc;

use ngx::ffi::{NGX_LOG_WARN, ngx_connection_t, ngx_event_t, ngx_log_t, ngx_msec_t};
use ngx::ngx_log_error;
use phantom_token::gateway::metrics::{OUTCOMES, ProcessMetrics, SharedMetrics, Slot, Totals};
use phantom_token::gateway::outcome::Outcome;
use phantom_token::{CacheStatus, Client, Stats, clock};

use crate::conf::MainConf;
use crate::nginx::bits;
use crate::nginx::panic::contained;
use crate::process::worker::{Worker, shares_memory};

// There is a place for each, and it is that of the list.
const _: () = {
    assert!(Outcome::ALL.len() <= OUTCOMES);
    let mut index = 0;
    while index < Outcome::ALL.len() {
        assert!(Outcome::ALL[index] as usize == index);
        index += 1;
    }
};

/// The interval of publication.
const INTERVAL: ngx_msec_t = 1000;

/// The counters of this process.
pub struct WorkerMetrics {
    metrics: Arc<SharedMetrics>,
    /// The counters of each provider, by its index in the configuration; `None` if it is not used.
    accounts: Vec<Option<ProviderMetrics>>,
    timer: NonNull<Timer>,
}

/// The counters of a provider.
struct ProviderMetrics {
    name: String,
    client: Option<Client>,
    /// Whether all processes share one breaker, in a zone.
    shares_breaker: bool,
    outcomes: [Cell<u64>; OUTCOMES],
    verdicts: [Cell<u64>; CacheStatus::ALL.len()],
    row: RefCell<Option<Slot>>,
}

/// nginx's timer, and the counters that its handler publishes.
#[repr(C)]
struct Timer {
    /// First, so that its address is that of the structure.
    event: ngx_event_t,
    /// nginx's debug log reads the event's data as a connection.
    connection: ngx_connection_t,
    metrics: *const WorkerMetrics,
}

impl WorkerMetrics {
    /// Starts counting, in the worker process, when its clients are started. `None` if no provider is used.
    ///
    /// # Safety
    /// Called on nginx's thread; `log` is a log of nginx that outlives the metrics.
    pub unsafe fn start(
        main: &MainConf,
        worker: Option<&Worker>,
        log: *mut ngx_log_t,
    ) -> Option<Box<Self>> {
        let used: Vec<&str> = main
            .providers
            .iter()
            .filter(|defined| defined.used)
            .map(|defined| defined.provider.name())
            .collect();
        if used.is_empty() {
            return None;
        }
        let metrics = match main.shared.as_ref().and_then(|shared| shared.metrics()) {
            // A process that is master and worker in one may unmap it at a reload, and shares with nobody.
            Some(metrics) if shares_memory() => Arc::clone(metrics),
            _ => SharedMetrics::alone(clock::now().unix),
        };
        let account = |name: &str, index| {
            let row = metrics.row(name, &used);
            if row.is_none() {
                ngx_log_error!(
                    NGX_LOG_WARN,
                    log,
                    "phantom_token: provider \"{name}\": there are more workers and providers than can be added up: \
                     phantom_token_status does not show what this one does"
                );
            }
            ProviderMetrics {
                name: name.to_owned(),
                client: worker.and_then(|worker| worker.client(index)).cloned(),
                shares_breaker: shares_memory() && main.providers[index].zone.is_some(),
                outcomes: Default::default(),
                verdicts: Default::default(),
                row: RefCell::new(row),
            }
        };
        let accounts = main
            .providers
            .iter()
            .enumerate()
            .map(|(index, defined)| {
                defined
                    .used
                    .then(|| account(defined.provider.name(), index))
            })
            .collect();
        // SAFETY: zeroes are what nginx expects of an event and a connection that are not in use, and a pointer that
        // is not looked at yet.
        let mut timer = Box::new(unsafe { mem::zeroed::<Timer>() });
        timer.connection.fd = -1;
        timer.event.handler = Some(on_timer);
        timer.event.log = log;
        // A worker that is to end does not wait for it.
        // SAFETY: the event is ours, and nobody else knows of it yet.
        unsafe { bits::event::set_cancelable(&raw mut timer.event, 1) };
        timer.event.data = (&raw mut timer.connection).cast();
        let timer = NonNull::from(Box::leak(timer));
        let metrics = Box::new(WorkerMetrics {
            metrics,
            accounts,
            timer,
        });
        // SAFETY: the timer is this one's; the metrics are in a box, and stay where they are as long as they live.
        unsafe { (*timer.as_ptr()).metrics = &raw const *metrics };
        Some(metrics)
    }

    /// Counts a request that has ended.
    pub fn count(&self, provider: usize, outcome: Outcome, cache: Option<CacheStatus>) {
        let Some(account) = self.account(provider) else {
            return;
        };
        let bump = |counter: &Cell<u64>| counter.set(counter.get() + 1);
        bump(&account.outcomes[outcome as usize]);
        if let Some(cache) = cache {
            bump(&account.verdicts[cache.index()]);
        }
        self.remember_to_publish();
    }

    /// Publishes the counters. Returns whether they may change without another request, because calls are in progress.
    pub fn publish(&self) -> bool {
        let mut busy = false;
        for account in self.accounts.iter().flatten() {
            let done = account.done();
            busy |= done.stats.in_flight > 0 || done.stats.waiting > 0;
            if let Some(row) = account.row.borrow_mut().as_mut() {
                row.publish(&done);
            }
        }
        busy
    }

    /// The published counters of all processes for the provider, added up.
    pub fn sum(&self, provider: usize) -> Option<Totals> {
        let account = self.account(provider)?;
        let mut sum = self.metrics.sum(&account.name);
        if account.shares_breaker {
            // The values that other processes have published of it may be old.
            sum.done.stats.breaker_open = account.stats().breaker_open * sum.processes;
        }
        Some(sum)
    }

    /// The shared memory of the counters.
    pub fn metrics(&self) -> &SharedMetrics {
        &self.metrics
    }

    /// Publishes for the last time, and releases the slots. The process is about to end.
    pub fn stop(&self) {
        self.publish();
        self.clear_timer();
        for account in self.accounts.iter().flatten() {
            account.row.take();
        }
    }

    fn account(&self, provider: usize) -> Option<&ProviderMetrics> {
        self.accounts.get(provider)?.as_ref()
    }

    fn remember_to_publish(&self) {
        let timer = self.timer.as_ptr();
        // SAFETY: the timer lives as long as the metrics, and is nginx's while the bit is set.
        unsafe {
            if bits::event::timer_set(&raw const (*timer).event) == 0 {
                bits::add_timer(&raw mut (*timer).event, INTERVAL);
            }
        }
    }

    fn clear_timer(&self) {
        let timer = self.timer.as_ptr();
        // SAFETY: as above; it is in nginx's tree if and only if the bit is set.
        unsafe {
            if bits::event::timer_set(&raw const (*timer).event) != 0 {
                bits::del_timer(&raw mut (*timer).event);
            }
        }
    }
}

impl Drop for WorkerMetrics {
    fn drop(&mut self) {
        self.clear_timer();
        // SAFETY: it was a box, and nginx knows of it no more.
        drop(unsafe { Box::from_raw(self.timer.as_ptr()) });
    }
}

impl ProviderMetrics {
    fn stats(&self) -> Stats {
        self.client.as_ref().map(Client::stats).unwrap_or_default()
    }

    fn done(&self) -> ProcessMetrics {
        ProcessMetrics {
            stats: self.stats(),
            outcomes: self.outcomes.each_ref().map(Cell::get),
            verdicts: self.verdicts.each_ref().map(Cell::get),
            last_errors: self
                .client
                .as_ref()
                .map(Client::last_errors)
                .unwrap_or_default(),
        }
    }
}

/// The timer's handler: publishes the counters.
unsafe extern "C" fn on_timer(event: *mut ngx_event_t) {
    contained((), || {
        // SAFETY: the event is the first field of a `Timer`, whose metrics live while nginx knows of it. It is shared
        // only: what changes of it is in cells.
        let metrics = unsafe { &*(*event.cast::<Timer>()).metrics };
        if metrics.publish() {
            metrics.remember_to_publish();
        }
    });
}
