//! An nginx module that turns opaque access tokens into JWTs.
//!
//! A client sends an opaque access token; the API behind nginx receives the JWT that it stands for. Everything about
//! tokens, authorization servers and caches is in the core crate, `phantom-token`; everything about nginx is here.
//!
//! | room | what it has |
//! | --- | --- |
//! | `variables.rs` | `$phantom_token_…` |
//! | `content/` | the locations that publish keys and metadata, show the status, and purge tokens |
//! | `phases/` | the phases of a request |
//! | `process/` | a worker process, and the requests that wait in it |
//! | `conf/` | the directives |
//! | `nginx/` | nginx's structures |
//!
//! Each room may use those below it, and none above: `tests/layers.rs` of the core crate checks it.

mod conf;
mod content;
mod nginx;
mod phases;
mod process;
mod variables;

use std::ffi::{c_char, c_void};
use std::ptr;

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_MODULE, NGX_OK, NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, ngx_array_push,
    ngx_conf_t, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_core_main_conf_t, ngx_http_core_module,
    ngx_http_handler_pt, ngx_http_module_t, ngx_http_phases_NGX_HTTP_ACCESS_PHASE,
    ngx_http_phases_NGX_HTTP_PREACCESS_PHASE, ngx_http_phases_NGX_HTTP_PRECONTENT_PHASE,
    ngx_http_phases_NGX_HTTP_REWRITE_PHASE, ngx_http_phases_NGX_HTTP_SERVER_REWRITE_PHASE,
    ngx_int_t, ngx_module_t, ngx_process, ngx_uint_t,
};

use crate::conf::{ContentHandlers, MainConf};
use crate::content::{jwks, metadata, purge};
use crate::nginx::core_main;
use crate::nginx::panic::contained;
use crate::phases::access;
use crate::process::{Process, filter};

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
    create_main_conf: Some(process::create),
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: None,
    merge_loc_conf: None,
};

/// A module that must stand late among nginx's modules: nginx's phases are gone through in the reverse order, so that this comes
/// before `limit_req` and `limit_conn`, and before the server's `set`, `if` and `return`.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mut ngx_http_phantom_token_filter_module: ngx_module_t = ngx_module_t {
    ctx: ptr::addr_of!(LATE_CONTEXT) as *mut c_void,
    commands: ptr::null_mut(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    ..ngx_module_t::default()
};

/// The symbols that nginx looks for in a module that it loads. When nginx's own build links the module it makes these itself.
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

unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    contained(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls this before it reads the block; nobody else looks at the main configuration.
        status(unsafe {
            MainConf::of_conf(cf).is_some_and(|mut main| {
                let main = main.as_mut();
                main.handlers = ContentHandlers {
                    jwks: Some(jwks::handler),
                    metadata: Some(metadata::handler),
                    purge: Some(purge::handler),
                    status: Some(content::status::handler),
                };
                main.variables.register(cf) && variables::register(cf)
            })
        })
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

/// Completes what can be done only when nginx has completed the configuration: its variables have their handlers then, and
/// its phases.
unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    contained(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls this with a valid cycle, before there is a process that serves requests with it: nobody else
        // looks at it.
        unsafe {
            if let Some(mut conf) = MainConf::of_cycle(cycle) {
                let conf = conf.as_mut();
                conf.variables.prepare(cycle, conf::variables);
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
        // SAFETY: nginx calls this with a valid cycle, before any request comes.
        unsafe { Process::start(cycle) };
        NGX_OK as ngx_int_t
    })
}

/// Ends the threads: right after this the module is unloaded.
unsafe extern "C" fn exit_process(cycle: *mut ngx_cycle_t) {
    contained((), || {
        // SAFETY: nginx calls this with a valid cycle, when it handles no more requests.
        unsafe { Process::stop(cycle) };
    });
}

fn status(done: bool) -> ngx_int_t {
    if done {
        NGX_OK as ngx_int_t
    } else {
        NGX_ERROR as ngx_int_t
    }
}
