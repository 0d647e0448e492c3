//! A text of the configuration that may hold nginx's variables.

use std::ptr;
use std::slice;

use ngx::ffi::{
    NGX_OK, ngx_conf_t, ngx_http_compile_complex_value, ngx_http_compile_complex_value_t,
    ngx_http_complex_value, ngx_http_complex_value_t, ngx_int_t, ngx_pnalloc, ngx_str_t,
};

use super::DirectiveError;
use crate::nginx::headers::HeaderName;
use crate::nginx::request::Request;

/// The compiled text. It lives in the configuration, which outlives its requests.
pub struct Value {
    compiled: ngx_http_complex_value_t,
    /// The names of the headers that variables in it read, as nginx has them in `$http_`.
    headers: Box<[HeaderName]>,
    /// Whether it holds a variable that is not one of ours.
    reads_request: bool,
}

impl Value {
    /// Reads a text. That a variable in it does not exist is nginx's to say.
    pub fn compile(cf: *mut ngx_conf_t, text: &str) -> Result<Self, DirectiveError> {
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
                return Err(DirectiveError::Said);
            }
            let (mut headers, mut reads_request) = (Vec::new(), false);
            for name in variables(text) {
                reads_request |= !name.starts_with("phantom_token_");
                if let Some(name) = name.strip_prefix("http_") {
                    headers.push(HeaderName::new(&name.replace('_', "-")));
                }
            }
            Ok(Value {
                compiled: value,
                headers: headers.into(),
                reads_request,
            })
        }
    }

    /// Whether it holds no variable.
    pub fn is_constant(&self) -> bool {
        self.compiled.lengths.is_null()
    }

    /// The headers that variables in it read, with `-` for each `_` that the variable has.
    pub fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// Whether it may show something else when the request's headers change.
    pub fn reads_request(&self) -> bool {
        self.reads_request
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
            let value = (&raw const self.compiled).cast_mut();
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

/// The names of the variables in a text, in lower case: `$name` or `${name}`.
fn variables(text: &str) -> impl Iterator<Item = String> {
    text.split('$').skip(1).map(|rest| {
        rest.trim_start_matches('{')
            .chars()
            .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
            .collect::<String>()
            .to_ascii_lowercase()
    })
}
