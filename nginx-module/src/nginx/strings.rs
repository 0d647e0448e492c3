//! nginx's strings: a pointer and a length, without a lifetime in their type.

use std::slice;

use ngx::ffi::ngx_str_t;

/// The bytes of a string.
///
/// # Safety
/// `string` must be empty, or point to as many bytes as it says, which nobody changes during `'a`.
pub unsafe fn bytes<'a>(string: &ngx_str_t) -> &'a [u8] {
    if string.len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(string.data, string.len) }
}

/// An nginx string of these bytes, valid only as long as they live. nginx's type has no `const`: a string that
/// nginx writes to must not come from here.
pub fn string(bytes: &[u8]) -> ngx_str_t {
    ngx_str_t {
        len: bytes.len(),
        data: bytes.as_ptr().cast_mut(),
    }
}
