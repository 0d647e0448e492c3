//! An nginx request, as far as this module touches it: the one place where its fields are read and written.

use std::ops::{ControlFlow, Range};
use std::ptr::{self, NonNull};
use std::slice;

use ngx::ffi::{
    NGX_DONE, NGX_HTTP_SATISFY_ANY, NGX_HTTP_SPECIAL_RESPONSE, NGX_OK, ngx_array_t,
    ngx_connection_t, ngx_hash_key, ngx_http_core_loc_conf_t, ngx_http_core_module,
    ngx_http_discard_request_body, ngx_http_err_page_t, ngx_http_get_variable,
    ngx_http_read_client_request_body, ngx_http_request_t, ngx_int_t, ngx_list_push, ngx_log_t,
    ngx_pnalloc, ngx_pool_t, ngx_read_file, ngx_str_t, ngx_uint_t, off_t,
};
use phantom_token::gateway::source::{self, Form};

use super::bits;
use super::evaluated::{Secrets, Variables};
use super::headers::{self, Header, Headers};
use super::strings::{self, string};

/// A live request.
///
/// Whoever holds one holds it on nginx's thread and only while nginx keeps the request: that is promised when it is
/// made ([`Request::new`]), and what every block below relies on. Slices that are handed out are in the request's
/// own memory, which stays until its pool is destroyed.
#[derive(Clone, Copy)]
pub struct Request(NonNull<ngx_http_request_t>);

/// The content of `Authorization`.
pub enum Authorization {
    /// No such header.
    None,
    /// One.
    One(Header),
    /// More than one, of which nginx itself lets none through as of today.
    #[cfg_attr(not(chained_headers), expect(dead_code))]
    Several,
}

/// A header of the request.
pub enum Field<'a> {
    /// It is not there.
    None,
    /// It is there, with this value.
    One(&'a [u8]),
    /// It is there several times.
    Several,
}

/// Parameters that have been taken out of the query.
#[derive(Default)]
pub struct RemovedQuery<'a> {
    /// Their values as they were written, wherever they were. They stay in memory.
    pub values: Vec<&'a [u8]>,
    /// Whether anything has been taken out.
    pub has_changed: bool,
}

impl Request {
    /// Wraps nginx's pointer; `None` if it is NULL.
    ///
    /// # Safety
    /// `r` is NULL or a request that lives as long as the handle, and its copies, are used; all on nginx's thread.
    pub unsafe fn new(r: *mut ngx_http_request_t) -> Option<Self> {
        NonNull::new(r).map(Request)
    }

    /// nginx's pointer.
    pub fn as_ptr(self) -> *mut ngx_http_request_t {
        self.0.as_ptr()
    }

    /// Whether the client asked for it, rather than another request.
    pub fn is_main(self) -> bool {
        // SAFETY: the request lives.
        unsafe { (*self.as_ptr()).main == self.as_ptr() }
    }

    /// The request that the client asked for.
    pub fn main(self) -> Self {
        // SAFETY: the request lives, and its main request at least as long.
        NonNull::new(unsafe { (*self.as_ptr()).main }).map_or(self, Request)
    }

    /// The method, one of nginx's `NGX_HTTP_…`.
    pub fn method(self) -> u32 {
        // SAFETY: the request lives. nginx's methods are bits of 32.
        unsafe { (*self.as_ptr()).method as u32 }
    }

    /// The method, as the client wrote it.
    pub fn method_name<'a>(self) -> &'a [u8] {
        // SAFETY: the request lives.
        unsafe { self.bytes(&(*self.as_ptr()).method_name) }
    }

    /// Path and query, as the client wrote them.
    pub fn target<'a>(self) -> &'a [u8] {
        // SAFETY: the request lives, and so does what its string points to.
        unsafe { self.bytes(&(*self.as_ptr()).unparsed_uri) }
    }

    /// The authority of the request, as the client wrote it: in an absolute target or in `:authority`, which
    /// nginx lets choose the server before it looks at `Host`; else in that.
    pub fn authority<'a>(self) -> Option<&'a [u8]> {
        // SAFETY: the request lives, and its main request at least as long, which alone has these. nginx sets `host_start`
        // and `host_end` around a host, either in the request line, which stays as long as the request does, or around a
        // value of a pseudo-header in the request's memory. A header is NULL or valid.
        unsafe {
            let r = self.main().as_ptr();
            let (start, end) = ((*r).host_start, (*r).host_end);
            if !start.is_null() && !end.is_null() {
                // As it was read: `request_line` may be another text by now.
                let line = (*r).request_start..(*r).request_end;
                if !line.contains(&start) {
                    let length = end.addr().saturating_sub(start.addr());
                    return Some(slice::from_raw_parts(start, length));
                }
                // Before 1.29.3 `host_end` is before the port.
                let rest = line.end.addr() - start.addr();
                let rest = slice::from_raw_parts(start, rest);
                let length = rest.iter().position(|byte| b"/? ".contains(byte));
                return Some(&rest[..length.unwrap_or(rest.len())]);
            }
            let host = (*r).headers_in.host.as_ref()?;
            Some(self.bytes(&host.value))
        }
    }

    /// The connection, which lives at least as long.
    pub fn connection(self) -> *mut ngx_connection_t {
        // SAFETY: the request lives.
        unsafe { (*self.as_ptr()).connection }
    }

    /// Where nginx logs what concerns this request.
    pub fn log(self) -> *mut ngx_log_t {
        // SAFETY: the request lives, and so does its connection.
        unsafe { (*self.connection()).log }
    }

    /// The request's memory.
    pub fn pool(self) -> *mut ngx_pool_t {
        // SAFETY: the request lives.
        unsafe { (*self.as_ptr()).pool }
    }

    /// The bytes of one of the request's strings.
    ///
    /// # Safety
    /// `string` must be of this request: nginx or this module has made it of the request's memory, of a JWT that it holds,
    /// or of the configuration.
    unsafe fn bytes<'a>(self, string: &ngx_str_t) -> &'a [u8] {
        // SAFETY: the caller's promise; those stay as long as the request does.
        unsafe { strings::bytes(string) }
    }

    /// Copies bytes into the request's memory. `None` when there is none left.
    pub fn copy<'a>(self, bytes: &[u8]) -> Option<&'a [u8]> {
        // SAFETY: the pool lives as long as the request; what it returns is `len` bytes that nobody else has.
        unsafe {
            let copy = NonNull::new(ngx_pnalloc(self.pool(), bytes.len()).cast::<u8>())?;
            copy.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            Some(slice::from_raw_parts(copy.as_ptr(), bytes.len()))
        }
    }

    /// The name of the location that the request is in, as it is written. Those of regular expressions have theirs.
    pub fn location_name<'a>(self) -> &'a [u8] {
        // SAFETY: the name is of the configuration.
        self.core_location()
            .map_or(b"", |core| unsafe { self.bytes(&core.name) })
    }

    /// The same of a location that is not a regular expression, a named one, or an `if`.
    pub fn literal_location_name<'a>(self) -> Option<&'a [u8]> {
        let core = self.core_location()?;
        // SAFETY: a reference is a valid pointer.
        let is_literal = unsafe { bits::core_location::is_prefix(core) } != 0;
        is_literal.then(|| self.location_name())
    }

    /// The host that the client has asked for, as nginx's `$host` has it; empty where that is the server's name.
    pub fn host<'a>(self) -> &'a [u8] {
        // SAFETY: the request lives.
        unsafe { self.bytes(&(*self.as_ptr()).headers_in.server) }
    }

    /// The client's `Host` header; empty if there is none.
    pub fn host_header<'a>(self) -> &'a [u8] {
        // SAFETY: the request lives, and the pointer is NULL or one of its headers.
        let header = unsafe { Header::new((*self.as_ptr()).headers_in.host) };
        header.map_or(b"", Header::value)
    }

    /// The name that the client has asked for in TLS, if it has.
    pub fn tls_name<'a>(self) -> &'a [u8] {
        // SAFETY: the request lives; the answer is NULL or a string of its connection, which lives at least as long.
        unsafe {
            bits::tls_name(self.as_ptr())
                .as_ref()
                .map_or(b"", |name| self.bytes(name))
        }
    }

    /// The port at which the connection was accepted; what names a Unix socket otherwise.
    pub fn port<'a>(self) -> &'a [u8] {
        // SAFETY: the connection lives, and what it was accepted by is NULL or of the configuration.
        let address = unsafe {
            let listening = (*self.connection()).listening;
            listening
                .as_ref()
                .map_or(&b""[..], |listening| self.bytes(&listening.addr_text))
        };
        address
            .rsplit(|byte| *byte == b':')
            .next()
            .unwrap_or_default()
    }

    /// The cached value of the variable at this index, which has no way to be evaluated.
    pub fn indexed_variable<'a>(self, index: usize) -> Option<&'a [u8]> {
        // SAFETY: the request lives, and has as many values as the configuration has such variables, of which the place is
        // one; a valid one is as many bytes as it says, in memory that the request keeps.
        unsafe {
            let value = (*self.as_ptr()).variables.add(index);
            if bits::variable::valid(value) == 0 {
                return None;
            }
            let length = bits::variable::len(value);
            if length == 0 {
                return Some(&[]);
            }
            Some(slice::from_raw_parts((*value).data, length))
        }
    }

    /// Whether it is on its way through an internal redirect, or a subrequest.
    pub fn is_internal(self) -> bool {
        // SAFETY: the request lives.
        unsafe { bits::request::internal(self.as_ptr()) != 0 }
    }

    /// nginx's own configuration of the location.
    fn core_location<'a>(self) -> Option<&'a ngx_http_core_loc_conf_t> {
        // SAFETY: as above; the slot belongs to nginx's core module, which is always there.
        unsafe {
            let index = (*ptr::addr_of!(ngx_http_core_module)).ctx_index;
            let conf = *(*self.as_ptr()).loc_conf.add(index);
            conf.cast::<ngx_http_core_loc_conf_t>().as_ref()
        }
    }

    /// Whether one of several access checks suffices (`satisfy any`).
    pub fn satisfies_any(self) -> bool {
        self.core_location()
            .is_some_and(|core| core.satisfy == NGX_HTTP_SATISFY_ANY as ngx_uint_t)
    }

    /// Whether nginx delays answers of 401 here (`auth_delay`).
    pub fn delays_unauthorized(self) -> bool {
        self.core_location().is_some_and(|core| core.auth_delay > 0)
    }

    /// Whether nginx would answer this status with an `error_page`.
    pub fn has_error_page(self, status: ngx_int_t) -> bool {
        // SAFETY: the request lives.
        let (redirected, left) = unsafe {
            let r = self.as_ptr();
            (
                bits::request::error_page(r) != 0,
                bits::request::uri_changes(r),
            )
        };
        if redirected || left == 0 {
            return false;
        }
        self.core_location().is_some_and(|core| {
            // SAFETY: the list is NULL or one of `ngx_http_err_page_t`.
            let pages: Option<&ngx_array_t> = unsafe { core.error_pages.as_ref() };
            pages.is_some_and(|pages| {
                // SAFETY: as above.
                unsafe { pages.as_slice::<ngx_http_err_page_t>() }
                    .iter()
                    .any(|page| page.status == status)
            })
        })
    }

    /// Reads and drops what the client still sends of the body, so that the connection stays usable.
    pub fn discard_body(self) {
        // SAFETY: the request lives.
        unsafe {
            let r = self.as_ptr();
            // No "100 Continue" for what will be thrown away.
            bits::request::set_expect_tested(r, 1);
            if ngx_http_discard_request_body(r) != NGX_OK as ngx_int_t {
                bits::request::set_keepalive(r, 0);
            }
        }
    }

    /// Reads the body, and then calls `then`, in this call or later. Returns what a content handler is to return.
    ///
    /// # Safety
    /// Called once, by the request's content handler. `then` must be sound when nginx calls it with the live request,
    /// which it must finalize.
    pub unsafe fn read_body(
        self,
        then: unsafe extern "C" fn(*mut ngx_http_request_t),
    ) -> ngx_int_t {
        // SAFETY: the request lives, and the caller vouches for `then`.
        let read = unsafe { ngx_http_read_client_request_body(self.as_ptr(), Some(then)) };
        if read >= NGX_HTTP_SPECIAL_RESPONSE as ngx_int_t {
            read
        } else {
            // `then` has finalized the request for its part or will, and the content phase does for its own.
            NGX_DONE as ngx_int_t
        }
    }

    /// How long the body is, as far as the client has said.
    pub fn content_length(self) -> usize {
        // SAFETY: the request lives. It is less than nothing if the client has not said.
        usize::try_from(unsafe { (*self.as_ptr()).headers_in.content_length_n }).unwrap_or(0)
    }

    /// Hands the body that has been read to `take`, piece by piece, until that has enough. Returns whether all could be
    /// had that was asked for.
    pub fn body(self, mut take: impl FnMut(&[u8]) -> ControlFlow<()>) -> bool {
        // SAFETY: the request lives. The body is NULL or a list whose buffers are in memory from `pos` to `last`, or
        // in a file from `file_pos` to `file_last`, where another module or another location wanted it in one.
        unsafe {
            let Some(body) = (*self.as_ptr()).request_body.as_ref() else {
                return true;
            };
            let mut next = body.bufs;
            while let Some(link) = next.as_ref() {
                next = link.next;
                let buffer = link.buf;
                if bits::buffer::temporary(buffer) != 0
                    || bits::buffer::memory(buffer) != 0
                    || bits::buffer::mmap(buffer) != 0
                {
                    let Ok(length) = usize::try_from((*buffer).last.offset_from((*buffer).pos))
                    else {
                        return false;
                    };
                    if length > 0 && take(slice::from_raw_parts((*buffer).pos, length)).is_break() {
                        return true;
                    }
                    continue;
                }
                if bits::buffer::in_file(buffer) == 0 {
                    continue;
                }
                let mut at = (*buffer).file_pos;
                while at < (*buffer).file_last {
                    let mut piece = [0; 4096];
                    let wanted = usize::try_from((*buffer).file_last - at)
                        .map_or(piece.len(), |left| left.min(piece.len()));
                    let read = ngx_read_file((*buffer).file, piece.as_mut_ptr(), wanted, at);
                    let Some(read) = usize::try_from(read).ok().filter(|read| *read > 0) else {
                        return false;
                    };
                    if take(&piece[..read]).is_break() {
                        return true;
                    }
                    at += read as off_t;
                }
            }
        }
        true
    }

    /// The `Authorization` header.
    pub fn authorization(self) -> Authorization {
        // SAFETY: the request lives, and the pointer is NULL or one of its headers.
        let header = unsafe { Header::new((*self.as_ptr()).headers_in.authorization) };
        let Some(header) = header else {
            return Authorization::None;
        };
        // SAFETY: as above.
        #[cfg(chained_headers)]
        if unsafe { !(*header.as_ptr()).next.is_null() } {
            return Authorization::Several;
        }
        Authorization::One(header)
    }

    /// Whether a request header is there. The name is in lower case.
    pub fn has_header(self, name: &[u8]) -> bool {
        !matches!(self.header(name), Field::None)
    }

    /// The values of a request header, joined by commas. The name is in lower case.
    pub fn header_values(self, name: &[u8]) -> Vec<u8> {
        let values = self
            .headers_in()
            .filter(|header| header.is_valid() && header.name().eq_ignore_ascii_case(name))
            .map(Header::value);
        values.collect::<Vec<_>>().join(&b","[..])
    }

    /// The query string, without the question mark.
    pub fn query<'a>(self) -> &'a [u8] {
        // SAFETY: the request lives, and so does what its string points to.
        unsafe { self.bytes(&(*self.as_ptr()).args) }
    }

    /// A request header. The name is in lower case.
    pub fn header<'a>(self, name: &[u8]) -> Field<'a> {
        let mut found = Field::None;
        for header in self.headers_in() {
            if header.is_valid() && header.name().eq_ignore_ascii_case(name) {
                found = match found {
                    Field::None => Field::One(header.value()),
                    Field::One(_) | Field::Several => return Field::Several,
                };
            }
        }
        found
    }

    /// The value of one of nginx's variables; `None` if it has no value, or if there is none of this name, which is in
    /// lower case.
    pub fn variable<'a>(self, name: &'static [u8]) -> Option<&'a [u8]> {
        let mut text = ngx_str_t {
            len: name.len(),
            // nginx's type has no const; it reads the name only.
            data: name.as_ptr().cast_mut(),
        };
        // SAFETY: the request lives; nginx's answer is NULL or a value in the request's memory, of as many bytes as it
        // says.
        unsafe {
            let key = ngx_hash_key(text.data, text.len);
            let value = ngx_http_get_variable(self.as_ptr(), &raw mut text, key).as_ref()?;
            let length = bits::variable::len(value);
            if bits::variable::not_found(value) != 0 || length == 0 {
                return None;
            }
            Some(slice::from_raw_parts(value.data, length))
        }
    }

    /// The request headers.
    pub fn headers_in(self) -> Headers {
        // SAFETY: the request lives.
        unsafe { Headers::of(&raw mut (*self.as_ptr()).headers_in.headers) }
    }

    /// Puts another value into `Authorization`, and makes sure that the value that was there, and the token that the client
    /// has presented, in all its forms, can't be had from a variable any more. Returns whether it could be done.
    ///
    /// # Safety
    /// `value` must be followed by a NUL and live as long as the request.
    pub unsafe fn set_authorization(
        self,
        variables: Option<&Variables>,
        value: &str,
        token: &[&[u8]],
    ) -> bool {
        let value = string(value.as_bytes());
        // SAFETY: the request lives; the pointer is NULL or one of its headers.
        unsafe {
            let headers_in = &raw mut (*self.as_ptr()).headers_in;
            let mut header = (*headers_in).authorization;
            if header.is_null() {
                // It was taken off before, or never there.
                header = ngx_list_push(&raw mut (*headers_in).headers).cast();
                if header.is_null() {
                    return false;
                }
                header.write_bytes(0, 1);
                const NAME: &[u8] = b"Authorization\0";
                const LOWER: &[u8] = b"authorization\0";
                (*header).key.len = NAME.len() - 1;
                (*header).key.data = NAME.as_ptr().cast_mut();
                (*header).lowcase_key = LOWER.as_ptr().cast_mut();
                (*header).hash = ngx_hash_key(LOWER.as_ptr().cast_mut(), LOWER.len() - 1);
                (*header).value = value;
                (*headers_in).authorization = header;
                self.forget_user();
                forget(
                    self,
                    variables,
                    Secrets {
                        token,
                        ..Secrets::default()
                    },
                );
                return true;
            }
            let former = [self.bytes(&(*header).value)];
            (*header).value = value;
            self.forget_user();
            forget(
                self,
                variables,
                Secrets {
                    places: &former,
                    texts: &former,
                    token,
                },
            );
        }
        true
    }

    /// Takes `Authorization` off the request. Only this request's list changes: a subrequest shares the headers
    /// themselves with its parent. Returns whether it could be done.
    pub fn remove_authorization(self, variables: Option<&Variables>) -> bool {
        // SAFETY: the request lives, and the pointer is NULL or one of its headers.
        unsafe {
            let headers_in = &raw mut (*self.as_ptr()).headers_in;
            let Some(removed) = Header::new((*headers_in).authorization) else {
                return true;
            };
            if !headers::remove(self, headers::is_authorization) {
                return false;
            }
            (*headers_in).authorization = ptr::null_mut();
            let value = removed.value();
            // A variable may hold the credentials without the scheme (RFC 9110 §11.4).
            let scheme = value.iter().position(|byte| *byte == b' ');
            let credentials = value[scheme.unwrap_or(0)..].trim_ascii();
            self.forget_user();
            forget(
                self,
                variables,
                Secrets {
                    places: &[value],
                    texts: &[value, credentials],
                    token: &[],
                },
            );
        }
        true
    }

    /// Forgets the user that nginx has read from `Authorization`.
    fn forget_user(self) {
        // SAFETY: the request lives; nginx reads the header again when there is no data.
        unsafe {
            let headers_in = &raw mut (*self.as_ptr()).headers_in;
            (*headers_in).user = string(&[]);
            (*headers_in).user.data = ptr::null_mut();
            (*headers_in).passwd = (*headers_in).user;
        }
    }

    /// Takes all parameters of a name out of the query: of what nginx goes on with, of what the client has asked for, and
    /// of the request line, so that no variable and no log shows them; and with them the fragment, which no request has
    /// (RFC 9112 §3.2) and which would go upstream. `None` when there is no memory to go without them.
    pub fn remove_from_query<'a>(self, name: &[u8]) -> Option<RemovedQuery<'a>> {
        let mut removed = Vec::new();
        // SAFETY: the request lives, and these are its strings.
        let (args, uri, line) = unsafe {
            let r = self.as_ptr();
            (
                self.bytes(&(*r).args),
                self.bytes(&(*r).unparsed_uri),
                self.bytes(&(*r).request_line),
            )
        };
        // Each is some text, a query, and some text: where the query begins and ends.
        let at_end = args.len()..args.len();
        let new_args = self.leave_out(args, at_end, 0..args.len(), name, &mut removed)?;
        let find = |text: &[u8], wanted| text.iter().position(|byte| *byte == wanted);
        let (whole, fragment) = uri.split_at(find(uri, b'#').unwrap_or(uri.len()));
        let new_uri = match find(whole, b'?') {
            Some(at) => {
                self.leave_out(whole, at..at + 1, at + 1..whole.len(), name, &mut removed)?
            }
            None => whole,
        };
        for part in fragment.split(|byte| matches!(byte, b'#' | b'?')) {
            removed.extend(source::values(Form::Query, part, name));
        }
        // The version follows, but for the oldest one.
        let target = find(line, b' ').map_or(line.len(), |at| at + 1);
        let end = line.iter().rposition(|byte| *byte == b' ');
        let mut end = end.filter(|end| *end >= target).unwrap_or(line.len());
        let mut new_line = line;
        if let Some(at) = find(&line[..end], b'#') {
            new_line = headers::copy(self, &[&line[..at], &line[end..]].concat())?;
            end = at;
        }
        if let Some(at) = find(&new_line[..end], b'?') {
            new_line = self.leave_out(new_line, at..at + 1, at + 1..end, name, &mut removed)?;
        }
        // SAFETY: the request lives, and what its strings get is in its memory.
        unsafe {
            let r = self.as_ptr();
            (*r).args = string(new_args);
            (*r).unparsed_uri = string(new_uri);
            (*r).request_line = string(new_line);
        }
        Some(RemovedQuery {
            has_changed: new_args.len() < args.len()
                || new_uri.len() < uri.len()
                || new_line.len() < line.len(),
            values: removed,
        })
    }

    /// A text without the parameters of a name in the query that is part of it, and without what leads to the query if
    /// nothing is left of it: the text itself, if there is none. `None` when there is no memory.
    fn leave_out<'a>(
        self,
        text: &'a [u8],
        lead: Range<usize>,
        query: Range<usize>,
        name: &[u8],
        removed: &mut Vec<&'a [u8]>,
    ) -> Option<&'a [u8]> {
        let before = removed.len();
        removed.extend(source::values(Form::Query, &text[query.clone()], name));
        if removed.len() == before {
            return Some(text);
        }
        let mut rest = Vec::with_capacity(text.len());
        source::without(Form::Query, &text[query.clone()], name, &mut |piece| {
            rest.extend_from_slice(piece);
        });
        let mut left = Vec::with_capacity(text.len());
        if lead.start < query.start {
            left.extend_from_slice(&text[..lead.start]);
            if !rest.is_empty() {
                left.extend_from_slice(&text[lead]);
            }
        }
        left.extend_from_slice(&rest);
        left.extend_from_slice(&text[query.end..]);
        headers::copy(self, &left)
    }
}

fn forget(request: Request, variables: Option<&Variables>, secrets: Secrets) {
    if let Some(variables) = variables {
        variables.forget(request, secrets);
    }
}
