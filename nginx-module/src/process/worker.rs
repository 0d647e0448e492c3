//! The state of a worker process: a client for each provider that is used, and one queue by which the clients wake the
//! event loop.

use std::cell::{Cell, RefCell};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;

use ngx::ffi::{
    NGX_LOG_EMERG, NGX_OK, NGX_PROCESS_WORKER, NGX_USE_CLEAR_EVENT, ngx_connection_t, ngx_cycle,
    ngx_event_flags, ngx_event_t, ngx_free_connection, ngx_get_connection, ngx_handle_read_event,
    ngx_int_t, ngx_log_t, ngx_process, ngx_uint_t,
};
use ngx::ngx_log_error;
use phantom_token::cache::Store;
use phantom_token::{Client, ClientOptions, Completion, CompletionQueue};

use crate::conf::{MainConf, ProviderEntry};
use crate::nginx::bits;
use crate::nginx::log::{Lines, LogThrottle};
use crate::nginx::panic::contained;
use crate::process::subrequest::Calls;
use crate::process::suspend::{self, WaiterTable};

/// The maximum number of verdicts that are delivered before the event loop continues.
const BATCH: usize = 256;

/// The clients and the queue of a worker process.
pub struct Worker {
    /// The clients, by the provider's index in the configuration; `None` if a provider is not used.
    clients: Vec<Option<Client>>,
    /// The queue in which verdicts arrive.
    pub queue: Arc<CompletionQueue>,
    /// The requests that wait for verdicts.
    pub slots: RefCell<WaiterTable>,
    /// Limits the log line that DPoP proofs can't be recorded.
    pub unnoted_proofs: LogThrottle,
    lines: Arc<Lines>,
    /// The calls of clients whose provider introspects by a location.
    calls: Arc<Calls>,
    connection: Option<NonNull<ngx_connection_t>>,
    batch: Cell<Vec<Completion>>,
}

impl Worker {
    /// Starts the clients, in the process that will use them. If one can't be started, that is logged, and the requests that
    /// need it are refused: a worker that ended itself here would take all other locations down too. If a client's thread
    /// can't be started, the worker tries again when a request needs it, at most once a second.
    ///
    /// # Safety
    /// Called on nginx's thread when its event loop is ready; `log` is a log of nginx.
    pub unsafe fn start(main: &MainConf, log: *mut ngx_log_t) -> Option<Box<Self>> {
        let queue = match CompletionQueue::new() {
            Ok(queue) => queue,
            Err(error) => {
                ngx_log_error!(
                    NGX_LOG_EMERG,
                    log,
                    "phantom_token: no file descriptor to be woken by: {error}; requests with tokens are refused"
                );
                return None;
            }
        };
        let lines = Arc::<Lines>::default();
        let mut worker = Box::new(Worker {
            clients: Vec::with_capacity(main.providers.len()),
            queue,
            slots: RefCell::default(),
            unnoted_proofs: LogThrottle::default(),
            lines,
            calls: Arc::default(),
            connection: None,
            batch: Cell::default(),
        });
        // SAFETY: the caller's promises. The worker is in a box: it stays where it is as long as it lives.
        if !unsafe { worker.listen(log) } {
            ngx_log_error!(
                NGX_LOG_EMERG,
                log,
                "phantom_token: the event loop takes no event; requests with tokens are refused"
            );
            return None;
        }
        for (index, defined) in main.providers.iter().enumerate() {
            if !defined.used {
                worker.clients.push(None);
                continue;
            }
            let provider = &defined.provider;
            let surroundings = ClientOptions {
                log: Some(Lines::sink(&worker.lines, &worker.queue)),
                store: store(defined),
                calls: defined
                    .introspection
                    .as_ref()
                    .map(|_| Calls::sink(&worker.calls, &worker.queue, index)),
            };
            let (client, started) = Client::start_or_retry(Arc::clone(provider), surroundings);
            if let Err(error) = started {
                ngx_log_error!(
                    NGX_LOG_EMERG,
                    log,
                    "phantom_token: provider \"{}\": {error}; its requests are refused until it can be, which is tried \
                     again once a second at most; raise the limit of processes or of descriptors",
                    provider.name()
                );
            }
            // A proof that one location has noted is not new to one with a longer window.
            client.expect_proof_window(main.proof_window);
            worker.clients.push(Some(client));
        }
        Some(worker)
    }

    /// The provider's client.
    pub fn client(&self, index: usize) -> Option<&Client> {
        self.clients.get(index)?.as_ref()
    }

    /// Registers the queue's descriptor with the event loop.
    ///
    /// # Safety
    /// As [`Worker::start`]; `self` stays where it is until [`Worker::stop`].
    unsafe fn listen(&mut self, log: *mut ngx_log_t) -> bool {
        // SAFETY: the event loop is ready; nginx's answer is NULL or a connection with valid events. `data` stays
        // valid as long as the connection is in use.
        unsafe {
            let Some(connection) =
                NonNull::new(ngx_get_connection(self.queue.fd().as_raw_fd(), log))
            else {
                return false;
            };
            let c = connection.as_ptr();
            (*c).data = (&raw mut *self).cast();
            let read = (*c).read;
            (*read).handler = Some(on_wakeup);
            (*read).log = log;
            (*(*c).write).log = log;
            // nginx closes such a one neither early nor with a complaint when the worker is to end.
            bits::event::set_channel(read, 1);
            self.connection = Some(connection);
            // In the way that the event method wants: NGX_READ_EVENT is not in the bindings.
            if ngx_handle_read_event(read, 0) != NGX_OK as ngx_int_t {
                self.leave();
                return false;
            }
        }
        true
    }

    /// Gives the connection back to nginx; the descriptor is the queue's to close.
    fn leave(&mut self) {
        if let Some(connection) = self.connection.take() {
            // SAFETY: it is ours, from `listen`; nginx looks at no connection without a descriptor.
            unsafe {
                ngx_free_connection(connection.as_ptr());
                (*connection.as_ptr()).fd = -1;
            }
        }
    }

    /// Ends all threads, and writes their last log lines. The worker process is about to end.
    ///
    /// # Safety
    /// Called on nginx's thread; `log` is a log of nginx.
    pub unsafe fn stop(&mut self, log: *mut ngx_log_t) {
        for client in self.clients.iter().flatten() {
            client.stop();
        }
        // SAFETY: the caller's promise.
        unsafe { self.lines.write(log) };
        self.leave();
    }

    /// Delivers the verdicts that have arrived.
    fn wake(&self) {
        // SAFETY: nginx's own flags and log, read on its thread.
        let (flags, log) = unsafe { (ngx_event_flags, (*ngx_cycle).log) };
        if flags & NGX_USE_CLEAR_EVENT as ngx_uint_t == 0 {
            // Watched by level: it would wake us again and again.
            self.queue.acknowledge();
        }
        // SAFETY: this is nginx's thread, and that is its log.
        unsafe { self.lines.write(log) };
        let mut batch = self.batch.take();
        self.queue.drain(&mut batch, BATCH);
        for completion in batch.drain(..) {
            suspend::complete(self, completion);
        }
        self.batch.set(batch);
        for _ in 0..self.calls.len() {
            if let Some((provider, call)) = self.calls.next() {
                suspend::carry(self, provider, call);
            }
        }
        if self.calls.len() > 0 {
            // The event loop gets its turn.
            self.queue.wake();
        }
    }
}

/// Whether this process may use nginx's shared memory. A process that is both master and worker
/// (`master_process off`) shares with no other, and may unmap memory at a reload that clients of the former configuration still
/// use.
pub fn shares_memory() -> bool {
    // SAFETY: nginx's own variable, read on its thread.
    unsafe { ngx_process == NGX_PROCESS_WORKER as ngx_uint_t }
}

/// The provider's part of its zone, for workers.
fn store(defined: &ProviderEntry) -> Option<Arc<dyn Store>> {
    if !shares_memory() {
        return None;
    }
    let memory = defined.zone.as_ref()?.memory()?;
    Some(Arc::new(memory.store(defined.provider.fingerprint())))
}

/// The event handler of the queue's descriptor: it became readable.
unsafe extern "C" fn on_wakeup(event: *mut ngx_event_t) {
    contained((), || {
        // SAFETY: the event is that of the connection made in `listen`, whose data is the worker. It is shared only:
        // what changes of it is in cells.
        let worker = unsafe {
            let connection = (*event).data.cast::<ngx_connection_t>();
            &*(*connection).data.cast::<Worker>()
        };
        worker.wake();
    });
}
