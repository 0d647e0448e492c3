//! A text of the configuration that may hold nginx's variables.

use std::ptr;
use std::slice;

use ngx::ffi::{
    NGX_OK, ngx_conf_t, ngx_http_compile_complex_value, ngx_http_compile_complex_value_t,
    ngx_http_complex_value, ngx_http_complex_value_t, ngx_int_t, ngx_pnalloc, ngx_str_t,
};

use super::Complaint;
use crate::request::Request;

/// What nginx makes of such a text. It lives in the configuration, which outlives its requests.
pub struct Value(ngx_http_complex_value_t);

impl Value {
    /// Reads a text. That a variable in it does not exist is nginx's to say.
    pub fn compile(cf: *mut ngx_conf_t, text: &str) -> Result<Self, Complaint> {
        // SAFETY: `cf` is what nginx gave to the handler of the directive that is being read. The text is copied into
        // the configuration's pool, where what is compiled may point to it, and zeroes are what nginx expects of both
        // structures.
        unsafe {
            let copy = ngx_pnalloc((*cf).pool, text.len().max(1)).cast::<u8>();
            if copy.is_null() {
                return Err("there is no memory for it".into());
            }
            copy.copy_from_nonoverlapping(text.as_ptr(), text.len());
            let mut source = ngx_str_t {
                len: text.len(),
                data: copy,
            };
            let mut value: ngx_http_complex_value_t = std::mem::zeroed();
            let mut compile: ngx_http_compile_complex_value_t = std::mem::zeroed();
            compile.cf = cf;
            compile.value = &raw mut source;
            compile.complex_value = &raw mut value;
            if ngx_http_compile_complex_value(&raw mut compile) != NGX_OK as ngx_int_t {
                return Err(Complaint::Said);
            }
            Ok(Value(value))
        }
    }

    /// Whether it holds no variable.
    pub fn is_constant(&self) -> bool {
        self.0.lengths.is_null()
    }

    /// The text for a request, in its memory or in the configuration's. `None` when there is no memory.
    pub fn evaluate<'a>(&self, request: Request) -> Option<&'a [u8]> {
        let mut text = ngx_str_t {
            len: 0,
            data: ptr::null_mut(),
        };
        // SAFETY: the request lives, and what was compiled is read only. nginx's answer is as many bytes as it says, in
        // the request's pool or in the configuration.
        unsafe {
            let value = (&raw const self.0).cast_mut();
            if ngx_http_complex_value(request.as_ptr(), value, &raw mut text) != NGX_OK as ngx_int_t
            {
                return None;
            }
            if text.len == 0 {
                return Some(&[]);
            }
            Some(slice::from_raw_parts(text.data, text.len))
        }
    }
}
