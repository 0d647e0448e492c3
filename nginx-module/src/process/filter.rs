//! A filter that collects the answers to our subrequests (`subrequest.rs`), from any kind of upstream, of any size and
//! in any number of pieces. No part of them goes to a client.
//!
//! Its position is that of third-party filters: after the filter that reads files into memory, before all that change
//! or send the response.

use std::slice;

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_NO_CONTENT, NGX_HTTP_SPECIAL_RESPONSE, NGX_OK, ngx_chain_t,
    ngx_http_output_body_filter_pt, ngx_http_output_header_filter_pt, ngx_http_request_t,
    ngx_http_top_body_filter, ngx_http_top_header_filter, ngx_int_t, ngx_uint_t,
};
use phantom_token::{Answer, CallFailure};

use crate::nginx::bits;
use crate::nginx::headers::Headers;
use crate::nginx::panic::contained;
use crate::process::subrequest::Subrequest;

const DONE: ngx_int_t = NGX_OK as ngx_int_t;
const FAILED: ngx_int_t = NGX_ERROR as ngx_int_t;

/// The filters below this one.
static mut NEXT_HEADER: ngx_http_output_header_filter_pt = None;
static mut NEXT_BODY: ngx_http_output_body_filter_pt = None;

/// Adds the filters on top of the existing ones.
///
/// # Safety
/// Called on nginx's thread, once each time that it has read its configuration: nginx starts without filters then.
pub unsafe fn install() {
    // SAFETY: nginx's own variables and ours, which only its one thread uses.
    unsafe {
        NEXT_HEADER = ngx_http_top_header_filter;
        ngx_http_top_header_filter = Some(header);
        NEXT_BODY = ngx_http_top_body_filter;
        ngx_http_top_body_filter = Some(body);
    }
}

unsafe extern "C" fn header(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls this with a live request; the next filter, set before any came, is called as this one was. Every
    // answer of the server comes here, and nearly none is to a subrequest that somebody waits for.
    if unsafe { (*r).post_subrequest.is_null() } {
        // SAFETY: as above.
        return unsafe { NEXT_HEADER.map_or(FAILED, |next| next(r)) };
    }
    contained(FAILED, || {
        // SAFETY: nginx calls this with a live request.
        let Some(subrequest) = (unsafe { Subrequest::of(r) }) else {
            // SAFETY: set before any request comes; the next filter is called as this one was.
            return unsafe { NEXT_HEADER.map_or(FAILED, |next| next(r)) };
        };
        // SAFETY: the request lives. That the head has been sent is what nginx wants to see. Its upstream is NULL or
        // valid: what is not cached need not be gathered, and written to a file if it is large, before it comes here.
        let (status, length) = unsafe {
            bits::request::set_header_sent(r, 1);
            bits::request::set_filter_need_in_memory(r, 1);
            let upstream = (*r).upstream;
            if !upstream.is_null()
                && bits::upstream::cacheable(upstream) == 0
                && bits::upstream::store(upstream) == 0
            {
                bits::upstream::set_buffering(upstream, 0);
            }
            ((*r).headers_out.status, (*r).headers_out.content_length_n)
        };
        let Some(answer) = subrequest.begin(u16::try_from(status).unwrap_or(500)) else {
            return DONE;
        };
        // SAFETY: as above.
        unsafe { read_headers(r, answer) };
        if status == NGX_HTTP_NO_CONTENT as ngx_uint_t || length == 0 {
            subrequest.end();
            // SAFETY: as above. nginx would log an alert about a body that is made of nothing.
            unsafe {
                if (*r).upstream.is_null() {
                    bits::request::set_header_only(r, 1);
                }
            }
        } else if !answer.has_room_for(usize::try_from(length).unwrap_or(0)) {
            subrequest.fail(CallFailure::TooLarge);
        }
        DONE
    })
}

/// The relevant headers of an answer.
///
/// # Safety
/// `r` must be a live request whose head is complete.
unsafe fn read_headers(r: *mut ngx_http_request_t, answer: &mut Answer) {
    // SAFETY: the caller's promise: strings are of the request's memory, the list is one of headers.
    unsafe {
        let headers_out = &raw mut (*r).headers_out;
        let kind = (*headers_out).content_type;
        if kind.len > 0 {
            answer.header(b"content-type", slice::from_raw_parts(kind.data, kind.len));
        }
        // The lifetime of an answer from a cache must not start again each time.
        let left = if (*headers_out).status < NGX_HTTP_SPECIAL_RESPONSE as ngx_uint_t {
            cached_for(r)
        } else {
            // An error that is remembered has no file to look at.
            None
        };
        for header in Headers::of(&raw mut (*headers_out).headers) {
            let (name, value) = (header.name(), header.value());
            if !header.is_valid() || name.is_empty() || value.is_empty() {
                continue;
            }
            let replaced = left.is_some() && name.eq_ignore_ascii_case(b"cache-control");
            if Answer::matters(name) && !replaced {
                answer.header(name, value);
            }
        }
        if let Some(left) = left {
            answer.header(b"cache-control", format!("max-age={left}").as_bytes());
        }
    }
}

/// The remaining lifetime of this answer in nginx's cache, in seconds, if it comes from there.
///
/// # Safety
/// As [`read_headers`].
#[cfg(http_cache)]
unsafe fn cached_for(r: *mut ngx_http_request_t) -> Option<i64> {
    use ngx::ffi::{
        NGX_HTTP_CACHE_HIT, NGX_HTTP_CACHE_REVALIDATED, NGX_HTTP_CACHE_STALE,
        NGX_HTTP_CACHE_UPDATING, ngx_http_file_cache_header_t, ngx_time,
    };
    // SAFETY: the caller's promise; all are NULL or valid. What is read of a file of the cache begins with this header, and
    // stays where it is.
    unsafe {
        let cache = (*r).cache.as_ref()?;
        let until = match bits::upstream::cache_status((*r).upstream.as_ref()?) as u32 {
            // nginx has by now updated the cache's own copy from the answer's `Cache-Control`.
            NGX_HTTP_CACHE_HIT => {
                let start = cache.buf.as_ref()?.start;
                start
                    .cast::<ngx_http_file_cache_header_t>()
                    .read_unaligned()
                    .valid_sec
            }
            NGX_HTTP_CACHE_REVALIDATED => cache.valid_sec,
            NGX_HTTP_CACHE_STALE | NGX_HTTP_CACHE_UPDATING => 0,
            _ => return None,
        };
        Some((until - ngx_time()).max(0))
    }
}

#[cfg(not(http_cache))]
unsafe fn cached_for(_: *mut ngx_http_request_t) -> Option<i64> {
    None
}

unsafe extern "C" fn body(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    // SAFETY: as in `header`.
    if unsafe { (*r).post_subrequest.is_null() } {
        // SAFETY: as above.
        return unsafe { NEXT_BODY.map_or(FAILED, |next| next(r, chain)) };
    }
    contained(FAILED, || {
        // SAFETY: nginx calls this with a live request.
        let Some(subrequest) = (unsafe { Subrequest::of(r) }) else {
            // SAFETY: set before any request comes; the next filter is called as this one was.
            return unsafe { NEXT_BODY.map_or(FAILED, |next| next(r, chain)) };
        };
        // SAFETY: the chain is NULL or a list of valid buffers, which are ours to use up: in memory from `pos` to
        // `last`, unless they are in a file alone.
        unsafe {
            let mut next = chain;
            while let Some(link) = next.as_ref() {
                next = link.next;
                let buffer = link.buf;
                let in_memory = bits::buffer::temporary(buffer) != 0
                    || bits::buffer::memory(buffer) != 0
                    || bits::buffer::mmap(buffer) != 0;
                if in_memory {
                    if let Ok(length @ 1..) =
                        usize::try_from((*buffer).last.offset_from((*buffer).pos))
                    {
                        subrequest.push(slice::from_raw_parts((*buffer).pos, length));
                    }
                    (*buffer).pos = (*buffer).last;
                } else if bits::buffer::in_file(buffer) != 0
                    && (*buffer).file_pos < (*buffer).file_last
                {
                    // The filter above has been told to read it.
                    subrequest.fail(CallFailure::Failed);
                }
                if bits::buffer::in_file(buffer) != 0 {
                    (*buffer).file_pos = (*buffer).file_last;
                }
                if bits::buffer::last_buf(buffer) != 0 || bits::buffer::last_in_chain(buffer) != 0 {
                    subrequest.end();
                }
            }
        }
        DONE
    })
}
