//! A worker process: its clients, its counters, and the requests that wait in it.
//!
//! | file | what it has |
//! | --- | --- |
//! | `worker.rs` | the clients, and the queue that wakes the event loop |
//! | `metrics.rs` | the counters of this process |
//! | `state.rs` | the state of a request, across internal redirects |
//! | `suspend.rs` | a request that waits: suspension, resumption, giving up |
//! | `subrequest.rs`, `filter.rs` | introspection by a location, and the filter that reads its response |

pub mod filter;
pub mod metrics;
pub mod state;
pub mod subrequest;
pub mod suspend;
pub mod worker;

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use ngx::ffi::{ngx_conf_t, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_module};

use crate::conf::MainConf;
use crate::nginx::panic::contained;
use crate::nginx::request::Request;
use crate::nginx::{core_main, filter_index, pool};
use metrics::WorkerMetrics;
use worker::Worker;

/// The state of a worker process, in the place of the filter module's main configuration: the configuration itself knows
/// nothing of processes.
#[derive(Default)]
pub struct Process {
    /// The clients; `None` outside a worker process, and if it could not be started.
    pub worker: Option<Box<Worker>>,
    /// The counters; `None` outside a worker process.
    pub metrics: Option<Box<WorkerMetrics>>,
    /// The places of those of nginx's variables that `set` writes.
    pub set_variables: Vec<usize>,
}

/// Makes the place of the process in a configuration.
pub unsafe extern "C" fn create(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx gives a valid configuration with its pool.
    contained(ptr::null_mut(), || unsafe {
        pool::emplace((*cf).pool, Process::default())
            .map_or(ptr::null_mut(), |process| process.as_ptr().cast())
    })
}

impl Process {
    /// The process, by the configuration of a request.
    pub fn of<'a>(request: Request) -> Option<&'a Self> {
        // SAFETY: nginx has a slot per module, and the filter module's holds what `create` made. It does not change while
        // the worker serves requests, and the configuration outlives its requests.
        unsafe {
            let process = *(*request.as_ptr()).main_conf.add(filter_index());
            process.cast::<Process>().as_ref()
        }
    }

    /// The place of the process in a cycle; `None` when it has no `http`.
    ///
    /// # Safety
    /// `cycle` must be valid.
    unsafe fn of_cycle(cycle: *mut ngx_cycle_t) -> Option<NonNull<Self>> {
        // SAFETY: a cycle has a slot per module, and that of `http` is NULL or of this type.
        unsafe {
            let http = (*ptr::addr_of!(ngx_http_module)).index;
            let context = (*(*cycle).conf_ctx.add(http)).cast::<ngx_http_conf_ctx_t>();
            NonNull::new((*context.as_ref()?.main_conf.add(filter_index())).cast())
        }
    }

    /// Starts the clients and the counters of a worker process.
    ///
    /// # Safety
    /// `cycle` must be valid, and no request served with it yet.
    pub unsafe fn start(cycle: *mut ngx_cycle_t) {
        // SAFETY: the caller's promise: nobody else looks at either.
        unsafe {
            let (Some(conf), Some(mut process)) =
                (MainConf::of_cycle(cycle), Process::of_cycle(cycle))
            else {
                return;
            };
            let (conf, process) = (conf.as_ref(), process.as_mut());
            if conf.providers.iter().any(|entry| entry.used) {
                process.set_variables = core_main(cycle)
                    .map_or(Vec::new(), |core| subrequest::variables_of_set(&*core));
                process.worker = Worker::start(conf, (*cycle).log);
                process.metrics =
                    WorkerMetrics::start(conf, process.worker.as_deref(), (*cycle).log);
            }
        }
    }

    /// Ends the threads.
    ///
    /// # Safety
    /// `cycle` must be valid, and no request handled any more.
    pub unsafe fn stop(cycle: *mut ngx_cycle_t) {
        // SAFETY: the caller's promise.
        unsafe {
            let Some(mut process) = Process::of_cycle(cycle) else {
                return;
            };
            let process = process.as_mut();
            if let Some(worker) = process.worker.as_deref_mut() {
                worker.stop((*cycle).log);
            }
            if let Some(metrics) = &process.metrics {
                metrics.stop();
            }
        }
    }
}
