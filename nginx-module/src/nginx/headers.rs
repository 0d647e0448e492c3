//! Changes to a request's headers before it goes upstream: removal, insertion, and replacement of cookies.
//!
//! nginx keeps them in a list of arrays, and has pointers of its own to some of them. A subrequest begins with its parent's
//! list, down to the same arrays. So no header is ever moved or copied here: a new list is built of slices of those arrays,
//! which skip the removed headers. Other users of the arrays see no change, and nginx's pointers stay valid; the caller
//! clears those to removed headers.

use std::ptr::{self, NonNull};

use ngx::ffi::{
    ngx_hash_key, ngx_list_part_t, ngx_list_push, ngx_list_t, ngx_palloc, ngx_table_elt_t,
    ngx_uint_t,
};
use phantom_token::gateway::credentials::{self, is_same_name};

use crate::nginx::request::Request;
use crate::nginx::strings::{self, string};

/// A header of a live request or of its answer, under the same promise as [`Request`].
#[derive(Clone, Copy)]
pub struct Header(NonNull<ngx_table_elt_t>);

impl Header {
    /// Wraps nginx's pointer; `None` if it is NULL.
    ///
    /// # Safety
    /// `header` is NULL or in a list of a request that lives as long as the handle, and its copies, are used; all on
    /// nginx's thread. Its name and its value are as many bytes as they say, in memory that stays as long as the request.
    pub unsafe fn new(header: *mut ngx_table_elt_t) -> Option<Self> {
        NonNull::new(header).map(Header)
    }

    /// nginx's pointer.
    pub fn as_ptr(self) -> *mut ngx_table_elt_t {
        self.0.as_ptr()
    }

    /// The name, as the client wrote it.
    pub fn name<'a>(self) -> &'a [u8] {
        // SAFETY: promised when the handle was made.
        unsafe { strings::bytes(&(*self.as_ptr()).key) }
    }

    /// The value.
    pub fn value<'a>(self) -> &'a [u8] {
        // SAFETY: as above.
        unsafe { strings::bytes(&(*self.as_ptr()).value) }
    }

    /// The address of the value, even of an empty one.
    pub fn value_start(self) -> *const u8 {
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).value.data.cast_const() }
    }

    /// Whether nginx has not marked it as deleted.
    pub fn is_valid(self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).hash != 0 }
    }
}

/// The headers of a list, one after the other.
pub struct Headers {
    part: *mut ngx_list_part_t,
    next: usize,
}

impl Headers {
    /// The headers of a list.
    ///
    /// # Safety
    /// `list` must be one of `ngx_table_elt_t` that is valid while this is used, and its headers as [`Header::new`] wants
    /// them.
    pub unsafe fn of(list: *mut ngx_list_t) -> Self {
        Headers {
            // SAFETY: the caller's promise.
            part: unsafe { &raw mut (*list).part },
            next: 0,
        }
    }
}

impl Iterator for Headers {
    type Item = Header;

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: made from a list that is valid while this is used; a part is NULL or valid and holds `nelts`
        // headers, which are as the maker has promised.
        unsafe {
            loop {
                let part = self.part.as_ref()?;
                if self.next < part.nelts {
                    self.next += 1;
                    return Header::new(part.elts.cast::<ngx_table_elt_t>().add(self.next - 1));
                }
                self.part = part.next;
                self.next = 0;
            }
        }
    }
}

/// The name of a header, ready for nginx's lists. It is part of the configuration or of the program, which outlive the
/// requests.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderName {
    name: Box<str>,
    lower: Box<str>,
    hash: ngx_uint_t,
}

impl HeaderName {
    /// The name, which the caller has checked.
    pub fn new(name: &str) -> Self {
        let lower = name.to_ascii_lowercase();
        // SAFETY: nginx reads as many bytes as it is told.
        let hash = unsafe { ngx_hash_key(lower.as_ptr().cast_mut(), lower.len()) };
        HeaderName {
            name: name.into(),
            lower: lower.into(),
            hash,
        }
    }

    /// The name, as it is written in the configuration.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether a header has this name for an application that may read it: see [`same`].
    pub fn is_of(&self, header: Header) -> bool {
        is_same_name(header.name(), self.lower.as_bytes())
    }

    /// Whether a header is spelled as the name is, but for case.
    pub fn is_spelled_by(&self, header: Header) -> bool {
        header.name().eq_ignore_ascii_case(self.lower.as_bytes())
    }

    /// Whether it is this name in that sense.
    pub fn is(&self, name: &str) -> bool {
        is_same_name(name.as_bytes(), self.lower.as_bytes())
    }

    /// Whether two names are the same in that sense.
    pub fn is_same(&self, other: &HeaderName) -> bool {
        is_same_name(self.lower.as_bytes(), other.lower.as_bytes())
    }
}

/// Removes headers from the request. Returns `false` when there is no memory.
pub fn remove(request: Request, unwanted: impl Fn(Header) -> bool) -> bool {
    let any = request.headers_in().any(&unwanted);
    !any || rebuild(request, |header| !unwanted(header))
}

/// Builds a new list of the headers that stay. Returns `false` when there is no memory.
fn rebuild(request: Request, stays: impl Fn(Header) -> bool) -> bool {
    /// The initial capacity of an empty list.
    const ROOM: usize = 4;
    // SAFETY: the request lives, and its list is one of `ngx_table_elt_t`: each part has `nelts` of them. What is made is
    // in the request's pool. A part that says that it is full is never written to beyond its end: nginx looks at `nalloc`
    // for the last one only, and makes a new part. No part is empty but the only one, which nginx expects.
    unsafe {
        let list = &raw mut (*request.as_ptr()).headers_in.headers;
        let mut first = ngx_list_part_t {
            elts: ptr::null_mut(),
            nelts: 0,
            next: ptr::null_mut(),
        };
        // NULL while there is none, and while the first is the last.
        let mut last: *mut ngx_list_part_t = ptr::null_mut();
        let mut next = Some((*list).part);
        while let Some(part) = next {
            let headers = part.elts.cast::<ngx_table_elt_t>();
            let mut at = 0;
            while at < part.nelts {
                let start = at;
                while at < part.nelts && Header::new(headers.add(at)).is_some_and(&stays) {
                    at += 1;
                }
                if at > start {
                    let piece = ngx_list_part_t {
                        elts: headers.add(start).cast(),
                        nelts: at - start,
                        next: ptr::null_mut(),
                    };
                    if first.nelts == 0 {
                        first = piece;
                    } else {
                        let place = ngx_palloc(request.pool(), size_of::<ngx_list_part_t>()).cast();
                        let Some(place) = NonNull::<ngx_list_part_t>::new(place) else {
                            return false;
                        };
                        place.write(piece);
                        if last.is_null() {
                            first.next = place.as_ptr();
                        } else {
                            (*last).next = place.as_ptr();
                        }
                        last = place.as_ptr();
                    }
                }
                // The one that does not stay, or the end.
                at += 1;
            }
            next = part.next.as_ref().copied();
        }
        let mut room = ROOM;
        if first.nelts == 0 {
            first.elts = ngx_palloc(request.pool(), ROOM * size_of::<ngx_table_elt_t>());
            if first.elts.is_null() {
                return false;
            }
        } else {
            room = last.as_ref().map_or(first.nelts, |last| last.nelts);
        }
        (*list).part = first;
        (*list).last = if last.is_null() {
            &raw mut (*list).part
        } else {
            last
        };
        (*list).nalloc = room;
    }
    true
}

/// Adds a header. The value must live as long as the request, and a NUL should follow it, as it does in nginx's own.
/// `None` when there is no memory.
pub fn put(
    request: Request,
    name: &HeaderName,
    value: &'static [u8],
) -> Option<NonNull<ngx_table_elt_t>> {
    // The end of a subrequest's list may be its parent's.
    if !request.is_main() && !rebuild(request, |_| true) {
        return None;
    }
    // SAFETY: the request lives, its list is one of `ngx_table_elt_t`, and nginx does not clear what it returns. nginx's
    // types have no const; nothing in nginx writes to the name or the value of a header.
    unsafe {
        let headers = &raw mut (*request.as_ptr()).headers_in.headers;
        let header = NonNull::new(ngx_list_push(headers).cast::<ngx_table_elt_t>())?;
        header.write_bytes(0, 1);
        let fields = header.as_ptr();
        (*fields).hash = name.hash;
        (*fields).key = string(name.name.as_bytes());
        (*fields).lowcase_key = name.lower.as_ptr().cast_mut();
        (*fields).value = string(value);
        Some(header)
    }
}

/// Copies a value into the request's memory, with a NUL after it.
pub fn copy(request: Request, value: &[u8]) -> Option<&'static [u8]> {
    let mut text = Vec::with_capacity(value.len() + 1);
    text.extend_from_slice(value);
    text.push(0);
    let copy = request.copy(&text)?;
    copy.get(..value.len())
}

/// Replaces the values of all `Cookie` headers; no value removes them. Values must live as long as those of
/// [`put`]. Returns `false` when there is no memory.
pub fn set_cookies(request: Request, values: &[&'static [u8]]) -> bool {
    let name = HeaderName::new("Cookie");
    if !remove(request, is_cookie) {
        return false;
    }
    let mut made = Vec::with_capacity(values.len());
    for value in values {
        let header = put(request, &name, value);
        let Some(header) = header else { return false };
        // The name must outlive the request, which this one does not.
        // SAFETY: the header is in the request's list.
        unsafe {
            (*header.as_ptr()).key = string(b"Cookie");
            (*header.as_ptr()).lowcase_key = b"cookie".as_ptr().cast_mut();
        }
        made.push(header);
    }
    point_to_cookies(request, &made)
}

/// Whether it is a `Cookie` header.
pub fn is_cookie(header: Header) -> bool {
    credentials::is_cookie(header.name())
}

/// Whether it is an `Authorization` header.
pub fn is_authorization(header: Header) -> bool {
    header.name().eq_ignore_ascii_case(b"authorization")
}

/// Tells nginx which headers are the cookies.
#[cfg(chained_headers)]
fn point_to_cookies(request: Request, cookies: &[NonNull<ngx_table_elt_t>]) -> bool {
    // SAFETY: the request lives, and these are in its list.
    unsafe {
        let mut next = ptr::null_mut();
        for header in cookies.iter().rev() {
            (*header.as_ptr()).next = next;
            next = header.as_ptr();
        }
        (*request.as_ptr()).headers_in.cookie = next;
    }
    true
}

/// Tells nginx which headers are the cookies.
#[cfg(not(chained_headers))]
fn point_to_cookies(request: Request, cookies: &[NonNull<ngx_table_elt_t>]) -> bool {
    use ngx::ffi::ngx_array_create;

    // SAFETY: the request lives, and these are in its list. The array is one of as many pointers, in the request's pool.
    unsafe {
        let room = cookies.len().max(1);
        let array = ngx_array_create(request.pool(), room, size_of::<*mut ngx_table_elt_t>());
        let Some(array) = array.as_mut() else {
            return false;
        };
        let places = array.elts.cast::<*mut ngx_table_elt_t>();
        for (at, header) in cookies.iter().enumerate() {
            places.add(at).write(header.as_ptr());
        }
        array.nelts = cookies.len();
        (*request.as_ptr()).headers_in.cookies = *array;
    }
    true
}
