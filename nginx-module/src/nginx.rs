//! nginx's structures and functions: the files here know nginx, and nothing of tokens or directives.
//!
//! | file | what it has |
//! | --- | --- |
//! | `request.rs`, `headers.rs` | a request and its headers: the one place where their fields are read and written |
//! | `evaluated.rs` | the values of variables that a request keeps |
//! | `bits.rs`, `bits.c`, `layout.rs` | bit fields through C functions; the proof of the layout of all other fields |
//! | `strings.rs`, `pool.rs`, `log.rs`, `panic.rs` | nginx's strings, values in its pools, log lines of other threads, the end of panics |

pub mod bits;
pub mod evaluated;
pub mod headers;
mod layout;
pub mod log;
pub mod panic;
pub mod pool;
pub mod request;
pub mod strings;

use std::ptr;

use ngx::ffi::{
    ngx_conf_t, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t,
    ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_module, ngx_module_t,
};

unsafe extern "C" {
    /// Defined in `lib.rs`, where its callbacks are known.
    static mut ngx_http_phantom_token_module: ngx_module_t;
    /// Defined in `lib.rs`.
    static mut ngx_http_phantom_token_filter_module: ngx_module_t;
}

/// The place of the module's configuration and context among those of all modules.
pub fn index() -> usize {
    // SAFETY: nginx writes to it while it reads its configuration, and nobody reads it then; a reload writes the same
    // value again.
    unsafe { (*ptr::addr_of!(ngx_http_phantom_token_module)).ctx_index }
}

/// The place of the filter module's configuration.
pub fn filter_index() -> usize {
    // SAFETY: as in `index`.
    unsafe { (*ptr::addr_of!(ngx_http_phantom_token_filter_module)).ctx_index }
}

/// The module itself, for what nginx keeps by its address.
pub fn module() -> *mut ngx_module_t {
    ptr::addr_of_mut!(ngx_http_phantom_token_module)
}

/// nginx's own configuration of the location in which directives are read or which is merged.
///
/// # Safety
/// `cf` must be valid, and inside `http`.
pub unsafe fn core_location(cf: *mut ngx_conf_t) -> *mut ngx_http_core_loc_conf_t {
    // SAFETY: inside `http`, the context is of this type and has a slot per module; the core module's is made.
    unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let index = (*ptr::addr_of!(ngx_http_core_module)).ctx_index;
        (*(*context).loc_conf.add(index)).cast()
    }
}

/// nginx's own main configuration of a cycle; `None` when it has no `http`.
///
/// # Safety
/// `cycle` must be valid.
pub unsafe fn core_main(cycle: *mut ngx_cycle_t) -> Option<*mut ngx_http_core_main_conf_t> {
    // SAFETY: a cycle has a slot per module, and that of `http` is NULL or of this type; the core module's is made.
    unsafe {
        let http = (*ptr::addr_of!(ngx_http_module)).index;
        let context = (*(*cycle).conf_ctx.add(http)).cast::<ngx_http_conf_ctx_t>();
        let index = (*ptr::addr_of!(ngx_http_core_module)).ctx_index;
        Some((*context.as_ref()?.main_conf.add(index)).cast())
    }
}
