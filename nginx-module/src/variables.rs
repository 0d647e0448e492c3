//! `$phantom_token_result`, `$phantom_token_cache` and `$phantom_token_time`.

use std::fmt::Write as _;

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_OK, ngx_conf_t, ngx_http_add_variable,
    ngx_http_request_t, ngx_http_variable_value_t, ngx_int_t, ngx_uint_t,
};
use ngx::ngx_string;

use crate::panic::contained;
use crate::request::Request;

/// What a variable shows, as nginx hands it back to us.
const RESULT: usize = 0;
const CACHE: usize = 1;
const TIME: usize = 2;

/// Makes the variables known.
///
/// # Safety
/// Called by nginx before it reads the `http` block.
pub unsafe fn register(cf: *mut ngx_conf_t) -> bool {
    let variables = [
        (ngx_string!("phantom_token_result"), RESULT),
        (ngx_string!("phantom_token_cache"), CACHE),
        (ngx_string!("phantom_token_time"), TIME),
    ];
    variables.into_iter().all(|(mut name, what)| {
        // Not to be remembered: they may be asked for before the token is resolved and again after it.
        // SAFETY: `cf` is valid; nginx copies the name, and its answer is a valid variable or NULL.
        unsafe {
            let Some(variable) =
                ngx_http_add_variable(cf, &raw mut name, NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t)
                    .as_mut()
            else {
                return false;
            };
            variable.get_handler = Some(get);
            variable.data = what;
        }
        true
    })
}

/// Evaluates a variable.
unsafe extern "C" fn get(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    what: usize,
) -> ngx_int_t {
    contained(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls this with a live request, for the time of the call.
        let Some(request) = (unsafe { Request::new(r) }) else {
            return NGX_ERROR as ngx_int_t;
        };
        let found = request.state().and_then(|state| match what {
            RESULT => state.result.map(|result| result.as_str().as_bytes()),
            CACHE => state.cache.map(|cache| cache.as_str().as_bytes()),
            _ => state.time.and_then(|milliseconds| {
                let mut text = String::with_capacity(16);
                let _ = write!(text, "{}.{:03}", milliseconds / 1000, milliseconds % 1000);
                request.copy(text.as_bytes())
            }),
        });
        // SAFETY: nginx gives a valid place for the value. What is shown is either in the program itself, which
        // stays loaded, or in the request's pool.
        unsafe {
            match found {
                None => (*value).set_not_found(1),
                Some(text) => {
                    // None is longer than a few dozen bytes.
                    (*value).set_len(text.len() as u32);
                    (*value).set_valid(1);
                    (*value).set_no_cacheable(0);
                    (*value).set_not_found(0);
                    (*value).data = text.as_ptr().cast_mut();
                }
            }
        }
        NGX_OK as ngx_int_t
    })
}
