//! An nginx module that turns opaque access tokens into JWTs.
//!
//! A client sends an opaque access token; the API behind nginx receives the JWT that it stands for. Everything about
//! tokens, authorization servers and caches is in the core crate, `phantom-token`; everything about nginx is here.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `conf.rs`, `conf/…` | the directives, and what they leave behind |
//! | `access.rs` | the way of a request through nginx's phases |
//! | `source.rs` | how a token comes in |
//! | `decide.rs` | whether it may go on |
//! | `context.rs` | what names a verdict where a location introspects |
//! | `forward.rs` | how what it stands for goes on |
//! | `sender.rs` | whether a bound token comes from whom it was issued to |
//! | `subrequest.rs`, `filter.rs` | introspection by a location of the operator's, and what catches its answer |
//! | `suspend.rs` | a request that waits: suspension, resumption, giving up |
//! | `worker.rs` | what a worker process runs, and how it is woken |
//! | `metrics.rs` | what this process counts, and when it tells the others |
//! | `status.rs` | the location that shows what the gateway is doing |
//! | `jwks.rs` | the location that publishes keys |
//! | `metadata.rs` | the location that describes what is protected |
//! | `purge.rs` | the location that forgets tokens |
//! | `respond.rs` | what a refused client is told |
//! | `variables.rs` | `$phantom_token_…` |
//! | `evaluated.rs` | the values of variables that a request keeps, and which of them it must forget |
//! | `state.rs` | what is known of one request, across internal redirects |
//! | `request.rs` | nginx's request: the one place where its fields are touched |
//! | `headers.rs`, `strings.rs` | the request's headers: taken out, put in; nginx's strings |
//! | `bits.rs`, `bits.c`, `layout.rs` | nginx's structures: bit fields by C code, the place of all other fields proven |
//! | `log.rs`, `panic.rs`, `pool.rs` | lines from other threads, where panics end, values in nginx's pools |

mod access;
mod bits;
mod conf;
mod context;
mod decide;
mod evaluated;
mod filter;
mod forward;
mod headers;
mod jwks;
mod layout;
mod log;
mod metadata;
mod metrics;
mod panic;
mod pool;
mod purge;
mod request;
mod respond;
mod sender;
mod source;
mod state;
mod status;
mod strings;
mod subrequest;
mod suspend;
mod variables;
mod worker;

use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_MODULE, NGX_OK, NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, ngx_array_push,
    ngx_conf_t, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t,
    ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_handler_pt, ngx_http_module,
    ngx_http_module_t, ngx_http_phases_NGX_HTTP_ACCESS_PHASE,
    ngx_http_phases_NGX_HTTP_PREACCESS_PHASE, ngx_http_phases_NGX_HTTP_PRECONTENT_PHASE,
    ngx_http_phases_NGX_HTTP_REWRITE_PHASE, ngx_http_phases_NGX_HTTP_SERVER_REWRITE_PHASE,
    ngx_int_t, ngx_module_t, ngx_process, ngx_uint_t,
};

use crate::conf::MainConf;
use crate::metrics::WorkerMetrics;
use crate::panic::contained;
use crate::worker::Worker;

static CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: Some(conf::create_main),
    init_main_conf: Some(conf::init_main),
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(conf::create_location),
    merge_loc_conf: Some(conf::merge_location),
};

/// The module, by the name under which nginx knows it.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mut ngx_http_phantom_token_module: ngx_module_t = ngx_module_t {
    ctx: ptr::addr_of!(CONTEXT) as *mut c_void,
    commands: ptr::addr_of_mut!(conf::COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_module: Some(init_module),
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    ..ngx_module_t::default()
};

static LATE_CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: None,
    postconfiguration: Some(late_postconfiguration),
    create_main_conf: None,
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: None,
    merge_loc_conf: None,
};

/// What must stand late among nginx's modules: nginx's phases are gone through in the reverse order, so that this comes
/// before `limit_req` and `limit_conn`, and before the server's `set`, `if` and `return`.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mut ngx_http_phantom_token_filter_module: ngx_module_t = ngx_module_t {
    ctx: ptr::addr_of!(LATE_CONTEXT) as *mut c_void,
    commands: ptr::null_mut(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    ..ngx_module_t::default()
};

/// What nginx looks for in a module that it loads. When nginx's own build links the module it makes these itself.
#[cfg(feature = "export-modules")]
mod exports {
    use super::{
        c_char, ngx_http_phantom_token_filter_module, ngx_http_phantom_token_module, ngx_module_t,
        ptr,
    };

    #[repr(transparent)]
    pub struct Names<const N: usize>([*const c_char; N]);

    // SAFETY: the pointers are to constants.
    unsafe impl<const N: usize> Sync for Names<N> {}

    #[unsafe(no_mangle)]
    #[allow(non_upper_case_globals)]
    pub static mut ngx_modules: [*const ngx_module_t; 3] = [
        &raw const ngx_http_phantom_token_module,
        &raw const ngx_http_phantom_token_filter_module,
        ptr::null(),
    ];

    #[unsafe(no_mangle)]
    #[allow(non_upper_case_globals)]
    pub static ngx_module_names: Names<3> = Names([
        c"ngx_http_phantom_token_module".as_ptr(),
        c"ngx_http_phantom_token_filter_module".as_ptr(),
        ptr::null(),
    ]);

    /// Each before the first of those that follow its name. Handlers of a phase run in the reverse order of modules:
    /// ours after `allow`, `deny` and `auth_basic`, and before `auth_request`, which sees the JWT therefore.
    /// The filter module is where nginx puts other people's filters.
    #[unsafe(no_mangle)]
    #[allow(non_upper_case_globals)]
    pub static ngx_module_order: Names<8> = Names([
        c"ngx_http_phantom_token_module".as_ptr(),
        c"ngx_http_auth_basic_module".as_ptr(),
        c"ngx_http_access_module".as_ptr(),
        c"ngx_http_limit_conn_module".as_ptr(),
        c"ngx_http_limit_req_module".as_ptr(),
        c"ngx_http_phantom_token_filter_module".as_ptr(),
        c"ngx_http_copy_filter_module".as_ptr(),
        ptr::null(),
    ]);
}

/// The module, as nginx has filled it in.
fn module() -> &'static ngx_module_t {
    // SAFETY: nginx writes to it while it reads its configuration, and nobody reads it then; what it writes at a
    // reload is what is there already.
    unsafe { &*ptr::addr_of!(ngx_http_phantom_token_module) }
}

impl MainConf {
    /// The main configuration while directives are read.
    ///
    /// # Safety
    /// `cf` must be valid, and inside `http`.
    unsafe fn of_conf(cf: *mut ngx_conf_t) -> Option<NonNull<MainConf>> {
        // SAFETY: inside `http`, the context is of this type and has a slot per module.
        unsafe {
            let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
            NonNull::new((*(*context).main_conf.add(module().ctx_index)).cast())
        }
    }

    /// The main configuration of a cycle; `None` when it has no `http`.
    ///
    /// # Safety
    /// `cycle` must be valid.
    unsafe fn of_cycle(cycle: *mut ngx_cycle_t) -> Option<NonNull<MainConf>> {
        // SAFETY: a cycle has a slot per module, and that of `http` is NULL or of this type.
        unsafe {
            let http = (*ptr::addr_of!(ngx_http_module)).index;
            let context = (*(*cycle).conf_ctx.add(http)).cast::<ngx_http_conf_ctx_t>();
            let context = context.as_ref()?;
            NonNull::new((*context.main_conf.add(module().ctx_index)).cast())
        }
    }
}

/// nginx's own configuration of the location in which directives are read or which is merged.
///
/// # Safety
/// `cf` must be valid, and inside `http`.
unsafe fn core_location(cf: *mut ngx_conf_t) -> *mut ngx_http_core_loc_conf_t {
    // SAFETY: inside `http`, the context is of this type and has a slot per module; the core module's is made.
    unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let index = (*ptr::addr_of!(ngx_http_core_module)).ctx_index;
        (*(*context).loc_conf.add(index)).cast()
    }
}

unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    contained(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls this before it reads the block.
        status(unsafe { variables::register(cf) })
    })
}

unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    contained(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls this with a valid configuration when it has read the block.
        status(unsafe {
            push_handler(
                cf,
                ngx_http_phases_NGX_HTTP_ACCESS_PHASE,
                Some(access::access),
            ) && push_handler(
                cf,
                ngx_http_phases_NGX_HTTP_PRECONTENT_PHASE,
                Some(access::after_access),
            ) && conf::finish(cf)
        })
    })
}

unsafe extern "C" fn late_postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    contained(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls this with a valid configuration when it has read the block.
        status(unsafe {
            filter::install();
            // Late, and so before nginx's own.
            push_handler(
                cf,
                ngx_http_phases_NGX_HTTP_SERVER_REWRITE_PHASE,
                Some(access::server_rewrite),
            ) && (has_rewrite_module(cf)
                || push_handler(
                    cf,
                    ngx_http_phases_NGX_HTTP_REWRITE_PHASE,
                    Some(access::rewrite),
                ))
                && push_handler(
                    cf,
                    ngx_http_phases_NGX_HTTP_PREACCESS_PHASE,
                    Some(access::preaccess),
                )
        })
    })
}

/// Whether nginx's rewrite module is there, whose handler ours takes the place of later ([`precede_rewrite`]).
///
/// # Safety
/// As [`push_handler`].
unsafe fn has_rewrite_module(cf: *mut ngx_conf_t) -> bool {
    // SAFETY: as in `push_handler`.
    unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let index = (*ptr::addr_of!(ngx_http_core_module)).ctx_index;
        let core = (*(*context).main_conf.add(index)).cast::<ngx_http_core_main_conf_t>();
        let phase = |phase: u32| {
            let handlers = &(*core).phases[phase as usize].handlers;
            handlers.as_slice::<ngx_http_handler_pt>().iter().flatten()
        };
        phase(ngx_http_phases_NGX_HTTP_REWRITE_PHASE).any(|handler| {
            phase(ngx_http_phases_NGX_HTTP_SERVER_REWRITE_PHASE)
                .any(|other| ptr::fn_addr_eq(*other, *handler))
        })
    }
}

/// Adds a handler to a phase. Returns whether there was memory for it.
///
/// # Safety
/// `cf` must be valid, and inside `http`, whose block has been read.
unsafe fn push_handler(cf: *mut ngx_conf_t, phase: u32, handler: ngx_http_handler_pt) -> bool {
    // SAFETY: inside `http`, the context is of this type and has a slot per module; the core module's is made, with an
    // array of handlers per phase; nginx's answer is NULL or a place in it.
    let place = unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let index = (*ptr::addr_of!(ngx_http_core_module)).ctx_index;
        let core = (*(*context).main_conf.add(index)).cast::<ngx_http_core_main_conf_t>();
        ngx_array_push(&raw mut (*core).phases[phase as usize].handlers)
            .cast::<ngx_http_handler_pt>()
            .as_mut()
    };
    match place {
        Some(place) => {
            *place = handler;
            true
        }
        None => false,
    }
}

/// nginx's own main configuration of a cycle; `None` when it has no `http`.
///
/// # Safety
/// `cycle` must be valid.
unsafe fn core_main(cycle: *mut ngx_cycle_t) -> Option<*mut ngx_http_core_main_conf_t> {
    // SAFETY: a cycle has a slot per module, and that of `http` is NULL or of this type; the core module's is made.
    unsafe {
        let http = (*ptr::addr_of!(ngx_http_module)).index;
        let context = (*(*cycle).conf_ctx.add(http)).cast::<ngx_http_conf_ctx_t>();
        let index = (*ptr::addr_of!(ngx_http_core_module)).ctx_index;
        Some((*context.as_ref()?.main_conf.add(index)).cast())
    }
}

/// Completes what can be done only when nginx has completed the configuration: its variables have their handlers then, and
/// its phases.
unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    contained(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls this with a valid cycle, before there is a process that serves requests with it: nobody else
        // looks at it.
        unsafe {
            if let Some(mut conf) = MainConf::of_cycle(cycle) {
                let conf = conf.as_mut();
                conf.variables.prepare(cycle);
                if conf.strips_headers || !conf.providers.is_empty() {
                    conf.rewrite = precede_rewrite(cycle);
                }
            }
        }
        NGX_OK as ngx_int_t
    })
}

/// Puts our handler into the place of that of nginx's rewrite module in the rewrite phase, and returns that one. It is the
/// one that stands in the server's rewrite phase as well.
///
/// # Safety
/// As [`MainConf::of_cycle`]; the cycle must serve no request yet.
unsafe fn precede_rewrite(cycle: *mut ngx_cycle_t) -> ngx_http_handler_pt {
    // SAFETY: the caller's promise. Phases are arrays of handlers; the engine has as many in a row of the rewrite phase,
    // from this index on.
    unsafe {
        let core = core_main(cycle)?;
        let phase = |phase: u32| &(*core).phases[phase as usize].handlers;
        let servers = phase(ngx_http_phases_NGX_HTTP_SERVER_REWRITE_PHASE);
        let servers = servers.as_slice::<ngx_http_handler_pt>();
        let engine = &(*core).phase_engine;
        for at in 0..phase(ngx_http_phases_NGX_HTTP_REWRITE_PHASE).nelts {
            let entry = engine.handlers.add(engine.location_rewrite_index + at);
            let handler = (*entry).handler?;
            let is_in_both = servers
                .iter()
                .flatten()
                .any(|other| ptr::fn_addr_eq(*other, handler));
            if is_in_both {
                (*entry).handler = Some(access::rewrite);
                return Some(handler);
            }
        }
    }
    None
}

/// Starts what resolves tokens, in processes that serve requests: cache managers and the like come here too.
unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    contained(NGX_OK as ngx_int_t, || {
        // SAFETY: nginx's own variable, read on its thread.
        let process = unsafe { ngx_process };
        if process != NGX_PROCESS_WORKER as ngx_uint_t
            && process != NGX_PROCESS_SINGLE as ngx_uint_t
        {
            return NGX_OK as ngx_int_t;
        }
        // SAFETY: nginx calls this with a valid cycle, before any request comes: nobody else looks at it.
        unsafe {
            if let Some(mut conf) = MainConf::of_cycle(cycle) {
                let conf = conf.as_mut();
                if conf.providers.iter().any(|defined| defined.used) {
                    conf.set_variables = core_main(cycle)
                        .map_or(Vec::new(), |core| subrequest::variables_of_set(&*core));
                    conf.worker = Worker::start(conf, (*cycle).log);
                    conf.metrics = WorkerMetrics::start(conf, (*cycle).log);
                }
            }
        }
        NGX_OK as ngx_int_t
    })
}

/// Ends the threads: right after this the module is unloaded.
unsafe extern "C" fn exit_process(cycle: *mut ngx_cycle_t) {
    contained((), || {
        // SAFETY: nginx calls this with a valid cycle, when it handles no more requests.
        unsafe {
            let Some(mut conf) = MainConf::of_cycle(cycle) else {
                return;
            };
            let conf = conf.as_mut();
            if let Some(worker) = conf.worker.as_deref_mut() {
                worker.stop((*cycle).log);
            }
            if let Some(metrics) = &conf.metrics {
                metrics.stop();
            }
        }
    });
}

fn status(done: bool) -> ngx_int_t {
    if done {
        NGX_OK as ngx_int_t
    } else {
        NGX_ERROR as ngx_int_t
    }
}
