//! Decisions.
//!
//! A decision takes over three tasks of a gateway: to find the token in the request, to change the headers of a
//! request that passes, and to build the answer to a request that is denied. The gateway passes all headers of the
//! request, and does what the decision says. The policy's `source`, `forward` and `optional` set where tokens are
//! read from and how JWTs are sent upstream.
//!
//! ```c
//! phantom_header headers[] = {{"host", 4, host, host_length}, {"authorization", 13, value, value_length}};
//! phantom_request request = {.size = sizeof request, .method = "GET", .method_length = 3, .target = "/orders",
//!                            .target_length = 7, .headers = headers, .header_count = 2};
//! phantom_result *result = NULL;
//! const char *token, *name, *changed;
//! size_t length;
//! int64_t retry_after = -1;
//!
//! // A decision is used for one request after the other: phantom_decision_new(&decision), once for each thread.
//! phantom_status status = phantom_policy_token(policy, &request, decision, &token, &length);
//! if (status == PHANTOM_OK && (status = phantom_client_resolve(client, token, length, 0, &result)) != PHANTOM_OK)
//!   retry_after = phantom_last_error_retry_after();
//!
//! if (phantom_policy_decide(policy, client, &request, status, retry_after, result, decision) == PHANTOM_OK) {
//!   for (size_t i = 0; (name = phantom_decision_request_header(decision, i, &changed, &length)) != NULL; i++)
//!     changed == NULL ? remove_header(name) : set_header(name, changed, length);
//!   forward();
//! } else {
//!   for (size_t i = 0; (name = phantom_decision_answer_header(decision, i, &changed, &length)) != NULL; i++)
//!     add_answer_header(name, changed, length);
//!   answer(phantom_decision_http_status(decision), phantom_decision_body(decision, NULL));
//! }
//! phantom_result_free(result);
//! ```
//!
//! Only `PHANTOM_OK` lets a request through.

use std::cell::OnceCell;
use std::ffi::c_char;
use std::ops::Range;
use std::ptr;
use std::time::Duration;

use super::boundary::{Failure, Output, boundary, boundary_or, exclusive, shared};
use super::client::phantom_client;
use super::policy::{first_use, part, phantom_policy};
use super::result::phantom_result;
use super::status::phantom_status;
use crate::ErrorKind;
use crate::clock;
use crate::gateway::access_policy::{AccessPolicy, Decision, HeaderChange, Resolved};
use crate::gateway::credentials::{Credentials, Field};
use crate::gateway::outcome::{ErrorCode, Outcome};
use crate::gateway::sender::{Proof, RequestContext, Target, Thumbprint, Uri};

/// A header: its name and its value, unchanged from the client.
#[repr(C)]
#[derive(Debug)]
pub struct phantom_header {
    /// The name, in any case (upper or lower).
    pub name: *const c_char,
    /// The length of `name`.
    pub name_length: usize,
    /// The value.
    pub value: *const c_char,
    /// The length of `value`.
    pub value_length: usize,
}

/// A request, unchanged from the client. Set `size`, and leave absent fields 0 and NULL. Later versions may add
/// fields at the end.
#[repr(C)]
#[derive(Debug)]
pub struct phantom_request {
    /// `sizeof(phantom_request)`.
    pub size: usize,
    /// The request method: "GET".
    pub method: *const c_char,
    /// The length of `method`.
    pub method_length: usize,
    /// The request target, as in the request line or in `:path`: "/orders?page=2".
    pub target: *const c_char,
    /// The length of `target`.
    pub target_length: usize,
    /// All headers, one element per field line. With HTTP/2 and HTTP/3, pass `:authority` as `host`.
    pub headers: *const phantom_header,
    /// The number of headers.
    pub header_count: usize,
    /// The scheme that the client sees, "http" or "https"; NULL means "https". It is needed because a DPoP proof
    /// contains the URL.
    pub scheme: *const c_char,
    /// The length of `scheme`.
    pub scheme_length: usize,
    /// The whole URL that the client sees, if the gateway knows it better than from `Host` and `target`; otherwise
    /// NULL.
    pub url: *const c_char,
    /// The length of `url`.
    pub url_length: usize,
    /// The client certificate of the TLS connection, as DER. Your TLS library must have verified that the client has
    /// its private key.
    pub client_certificate: *const u8,
    /// The length of `client_certificate`.
    pub client_certificate_length: usize,
}

/// A decision about a request. Created by `phantom_decision_new`, and reused for one request after another.
#[derive(Default)]
pub struct phantom_decision {
    /// The texts stored by `text`, each followed by a NUL.
    arena: Vec<u8>,
    request_headers: Vec<(Text, Option<Text>)>,
    answer_headers: Vec<(Text, Text)>,
    target: Option<Text>,
    body: Option<Text>,
    /// The decoded form of a token that was percent-encoded.
    decoded: OnceCell<Vec<u8>>,
    outcome: Option<Text>,
    reason: Option<Text>,
    error: Option<Text>,
    /// `None`: nothing is decided.
    http_status: Option<u16>,
}

/// A text of a decision.
enum Text {
    /// In the arena of the decision.
    Own(Range<usize>),
    /// The JWT, in the result.
    Lent(*const c_char, usize),
}

impl phantom_decision {
    /// Clears the last request, and keeps the allocated memory.
    fn clear(&mut self) {
        self.arena.clear();
        self.request_headers.clear();
        self.answer_headers.clear();
        (self.target, self.body) = (None, None);
        (self.outcome, self.reason, self.error) = (None, None, None);
        self.http_status = None;
        self.decoded.take();
    }

    /// Stores the outcome, the reason, the error and the status.
    fn decide(&mut self, outcome: Outcome, reason: &str, error: Option<ErrorCode>, status: u16) {
        self.outcome = Some(self.text(outcome.as_str().as_bytes()));
        self.reason = Some(self.text(reason.as_bytes()));
        self.error = error.map(|error| self.text(error.as_str().as_bytes()));
        self.http_status = Some(status);
    }

    /// Copies a text to the arena.
    fn text(&mut self, text: &[u8]) -> Text {
        let start = self.arena.len();
        self.arena.extend_from_slice(text);
        self.arena.push(0);
        Text::Own(start..start + text.len())
    }

    fn lend(&self, text: Option<&Text>) -> (*const c_char, usize) {
        match text {
            Some(Text::Own(range)) => (self.arena[range.start..].as_ptr().cast(), range.len()),
            Some(Text::Lent(text, length)) => (*text, *length),
            None => (ptr::null(), 0),
        }
    }

    fn change_request<'a>(&mut self, change: HeaderChange<'a>, jwt: Option<[&'a str; 2]>) {
        let (name, value) = match change {
            HeaderChange::Remove(name) => (self.text(name), None),
            HeaderChange::Set(name, value) => {
                let jwt = jwt.into_iter().flatten();
                let mut jwt = jwt.filter(|known| ptr::eq(known.as_bytes(), &*value));
                let value = match jwt.next() {
                    // The byte after the JWT is NUL.
                    Some(jwt) => Text::Lent(jwt.as_ptr().cast(), jwt.len()),
                    None => self.text(&value),
                };
                (self.text(name.as_bytes()), Some(value))
            }
        };
        self.request_headers.push((name, value));
    }

    fn add_answer_header(&mut self, name: &str, value: &str) {
        let header = (self.text(name.as_bytes()), self.text(value.as_bytes()));
        self.answer_headers.push(header);
    }
}

/// The fields of a [`phantom_request`] as slices.
struct Request<'a> {
    method: &'a [u8],
    target: &'a [u8],
    headers: &'a [phantom_header],
    scheme: &'a [u8],
    url: Option<&'a [u8]>,
    client_certificate: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// # Safety
    /// `request` is as `phantom_policy_token` requires it, and does not change during `'a`.
    unsafe fn new(request: *const phantom_request) -> Result<Self, Failure> {
        if request.is_null() {
            return Err(Failure::new(
                phantom_status::PHANTOM_INVALID_ARGUMENT,
                "request is NULL",
            ));
        }
        // SAFETY: not NULL, and `size`, which is at its beginning, can be read by this function's own contract.
        let size = unsafe { request.cast::<usize>().read() };
        if size != size_of::<phantom_request>() {
            return Err(Failure::new(
                phantom_status::PHANTOM_INVALID_ARGUMENT,
                "request.size is not sizeof(phantom_request)",
            ));
        }
        // SAFETY: of the size that it says it has, so all of it can be read by this function's own contract.
        let fields = unsafe { &*request };
        // SAFETY: each text can be read up to its length by this function's own contract.
        let text = |pointer, length, name| unsafe { part(pointer, length, name) };
        let headers = fields.headers;
        let count = fields.header_count;
        let fits = count
            .checked_mul(size_of::<phantom_header>())
            .is_some_and(|size| isize::try_from(size).is_ok());
        let headers = match (headers.is_null(), count) {
            (_, 0) => &[][..],
            // SAFETY: not NULL, not longer than `isize::MAX` bytes, and as many headers by this function's own contract.
            (false, _) if fits => unsafe { std::slice::from_raw_parts(headers, count) },
            _ => {
                return Err(Failure::new(
                    phantom_status::PHANTOM_INVALID_ARGUMENT,
                    "request.header_count is not the number of headers in request.headers",
                ));
            }
        };
        for header in headers {
            for (pointer, length) in [
                (header.name, header.name_length),
                (header.value, header.value_length),
            ] {
                if text(pointer, length, "request.headers")?.is_none() && length > 0 {
                    return Err(Failure::new(
                        phantom_status::PHANTOM_INVALID_ARGUMENT,
                        "request.headers has a text that is NULL",
                    ));
                }
            }
        }
        Ok(Request {
            method: text(fields.method, fields.method_length, "request.method")?
                .unwrap_or_default(),
            target: text(fields.target, fields.target_length, "request.target")?
                .unwrap_or_default(),
            headers,
            scheme: text(fields.scheme, fields.scheme_length, "request.scheme")?
                .unwrap_or(b"https"),
            url: text(fields.url, fields.url_length, "request.url")?,
            client_certificate: text(
                fields.client_certificate.cast(),
                fields.client_certificate_length,
                "request.client_certificate",
            )?,
        })
    }

    fn headers(&self) -> impl Iterator<Item = Field<'a>> + Clone + use<'a> {
        // SAFETY: `new` has checked each text: it can be read up to its length, or is NULL, which stands for no text.
        let text = |pointer, length| unsafe {
            part(pointer, length, "").ok().flatten().unwrap_or_default()
        };
        self.headers.iter().map(move |header| {
            (
                text(header.name, header.name_length),
                text(header.value, header.value_length),
            )
        })
    }

    fn values(&self, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.headers()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn credentials<'d>(
        &self,
        policy: &AccessPolicy,
        decoded: &'d OnceCell<Vec<u8>>,
    ) -> Credentials<'d>
    where
        'a: 'd,
    {
        Credentials::read(policy.sources(), self.headers(), self.target, decoded)
    }
}

/// Creates a decision, in which nothing is decided yet, and writes it to `decision`. It is yours: free it with
/// `phantom_decision_free`. A decision handles one request at a time: create one for each thread that decides, or for
/// each connection.
///
/// # Safety
/// `decision` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_new(
    decision: *mut *mut phantom_decision,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promise for `decision`.
        let decision = unsafe { Output::required(decision, "decision")? };
        decision.write(Box::into_raw(Box::default()));
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Frees a decision, and with it all texts that it has returned. NULL is allowed.
///
/// # Safety
/// `decision` is NULL, or from `phantom_decision_new` and not freed, and no other thread is using it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_free(decision: *mut phantom_decision) {
    boundary_or((), || {
        if !decision.is_null() {
            // SAFETY: it came out of a box in `phantom_decision_new`, is freed once, and nobody else uses it (the caller's
            // promises).
            drop(unsafe { Box::from_raw(decision) });
        }
    })
}

/// Finds the token of a request in the places that the policy's `source` names, and clears the previous request from
/// `decision`.
///
/// - `PHANTOM_OK`: resolve `*token`. It is part of the request or of the decision, and does not end with a NUL.
/// - `PHANTOM_NOT_FOUND`: there is nothing to resolve, because there is no token, no usable token, or more than one
///   token.
/// - any other status: an error. Do not let the request through.
///
/// In each case, call `phantom_policy_decide` next, with this status or with the status of resolving the token.
///
/// # Safety
/// - `policy` is NULL, or alive and not being changed.
/// - `request` is NULL, or `size` can be read at it, and if that is right, all of it; each text in it and in its headers
///   is NULL, or as many bytes at it as its length says can be read; `headers` is NULL, or has `header_count` of them.
/// - `decision` is NULL, or alive and used by no other thread.
/// - `token` and `token_length` are NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_policy_token(
    policy: *const phantom_policy,
    request: *const phantom_request,
    decision: *mut phantom_decision,
    token: *mut *const c_char,
    token_length: *mut usize,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promise for `decision`.
        let decision = unsafe { exclusive(decision, "decision")? };
        // Cleared first, so that an error leaves nothing of the last request.
        decision.clear();
        // SAFETY: the caller's promises for all of them.
        let (policy, token, token_length, request) = unsafe {
            (
                shared(policy, "policy")?,
                Output::required(token, "token")?,
                Output::required(token_length, "token_length")?,
                Request::new(request)?,
            )
        };
        let credentials = request.credentials(&policy.policy, &decision.decoded);
        match policy.policy.token(&credentials) {
            Ok(Some(found)) => {
                token.write(found.expose().as_ptr().cast());
                token_length.write(found.expose().len());
                Ok(phantom_status::PHANTOM_OK)
            }
            Ok(None) | Err(_) => Ok(phantom_status::PHANTOM_NOT_FOUND),
        }
    })
}

/// Decides about a request, and writes the result to `decision`. Returns
///
/// - `PHANTOM_OK`: send the request upstream, with the changes of `phantom_decision_request_header` and
///   `phantom_decision_target`. From now on `result` returns its JWT, even if the token is bound to a key of its
///   sender. A result belongs to one request: never use it to decide about another request.
/// - `PHANTOM_DENIED`: answer the request with `phantom_decision_http_status`, every
///   `phantom_decision_answer_header`, and `phantom_decision_body`.
/// - any other status: an error. Do not let the request through.
///
/// `resolved` is the status of resolving the token that `phantom_policy_token` has found, or the status of
/// `phantom_policy_token` if it has found none. `result` is the verdict; NULL if there is none. `retry_after` is the
/// value of `phantom_last_error_retry_after` on the thread on which resolving failed, or -1.
///
/// `client` is the client that resolved the token: it knows which proofs were used before (RFC 9449 §11.1). NULL
/// means no client: a token that needs such a proof is then denied.
///
/// After a decision object has handled a few requests, a decision that lets a request pass allocates nothing, unless
/// something must be removed from the cookies or the query.
///
/// # Safety
/// - `policy` is NULL, or alive and not being changed.
/// - `client` is NULL, or alive.
/// - `request` is as `phantom_policy_token` requires it.
/// - `result` is NULL, or from this library and not freed as long as `decision` is read.
/// - `decision` is NULL, or alive and used by no other thread.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_policy_decide(
    policy: *const phantom_policy,
    client: *const phantom_client,
    request: *const phantom_request,
    resolved: i32,
    retry_after: i64,
    result: *const phantom_result,
    decision: *mut phantom_decision,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promise for `decision`.
        let decision = unsafe { exclusive(decision, "decision")? };
        // Cleared first, so that an error leaves nothing of the last request.
        decision.clear();
        // SAFETY: the caller's promises for all of them.
        let (policy, client, request) = unsafe {
            (
                &shared(policy, "policy")?.policy,
                client.as_ref(),
                Request::new(request)?,
            )
        };
        if !result.is_null() && resolved != phantom_status::PHANTOM_OK as i32 {
            return Err(Failure::new(
                phantom_status::PHANTOM_INVALID_ARGUMENT,
                "there is a result, and resolved is not PHANTOM_OK",
            ));
        }
        // SAFETY: the caller's promise for `result`.
        let active = unsafe { phantom_result::active(result) };
        let resolved = match (active, kind_of(resolved)) {
            (Some(active), _) => Resolved::Active(active),
            (None, _) if !result.is_null() => Resolved::Inactive,
            (None, Some(kind)) => Resolved::Unavailable {
                kind,
                retry_after: u64::try_from(retry_after).ok().map(Duration::from_secs),
            },
            (None, None) => Resolved::NotAsked,
        };
        let decoded = OnceCell::new();
        let credentials = request.credentials(policy, &decoded);
        let mut proofs = request.values(b"dpop");
        let certificate = || request.client_certificate.map(Thumbprint::of_der);
        let context = RequestContext {
            scheme: credentials.scheme(),
            method: request.method,
            uri: match request.url {
                Some(url) => Uri::Composed(url),
                None => {
                    let hosts = request.values(b"host");
                    Uri::Of(Target::new(request.scheme, hosts, request.target))
                }
            },
            proof: match (proofs.next(), proofs.next()) {
                (None, _) => Proof::None,
                (Some(proof), None) => Proof::One(proof),
                (Some(_), Some(_)) => Proof::Several,
            },
            certificate: &certificate,
        };
        let now = clock::now().unix;
        let mut first_use = first_use(client);
        let decided = policy.decide_request(&credentials, resolved, &context, now, &mut first_use);
        let admitted = match &decided {
            Decision::Denied(denial) => {
                let reason = denial.reason;
                let answer = policy.answer(denial, now);
                decision.decide(
                    reason.outcome(),
                    reason.detail(),
                    reason.error(),
                    answer.status,
                );
                for (name, value) in answer.headers() {
                    decision.add_answer_header(name, &value);
                }
                decision.body = Some(decision.text(answer.body.as_bytes()));
                return Ok(phantom_status::PHANTOM_DENIED);
            }
            Decision::Admitted(admitted) => {
                decision.decide(Outcome::Ok, "", None, 0);
                Some(admitted)
            }
            Decision::Anonymous => {
                decision.decide(Outcome::Missing, "", None, 0);
                None
            }
        };
        let jwt = admitted.map(|admitted| [admitted.authorization(), admitted.jwt()]);
        policy.change_request(admitted, request.headers(), &mut |change| {
            decision.change_request(change, jwt);
        });
        if let Some(target) = policy.change_target(request.target) {
            decision.target = Some(decision.text(&target));
        }
        if let Some(admitted) = admitted {
            if let Some(added) = policy.added_headers(admitted, now) {
                for (name, value) in added.headers() {
                    decision.add_answer_header(name, value);
                }
            }
            // SAFETY: the caller's promise for `result`.
            unsafe { phantom_result::admit(result) };
        }
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Returns the outcome in one word, for logs and metrics: "ok", "missing", "malformed", "inactive", "invalid",
/// "unproven", "step_up", "forbidden" or "unavailable"; NULL if nothing is decided. It is part of the decision: never
/// free it.
///
/// # Safety
/// `decision` is NULL, or from this library and not freed; the returned pointer is valid until `decision` is used
/// again or freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_outcome(
    decision: *const phantom_decision,
) -> *const c_char {
    boundary_or(ptr::null(), || {
        // SAFETY: the caller's promises are those that it requires.
        unsafe {
            lent(decision, ptr::null_mut(), |decision| {
                decision.outcome.as_ref()
            })
        }
    })
}

/// Returns the reason for the outcome in one word without spaces, for logs: "scope:write", "several", "proof_htu",
/// "timeout". It is "" if the outcome says everything, and NULL if nothing is decided. It is part of the decision:
/// never free it.
///
/// # Safety
/// `decision` is NULL, or from this library and not freed; the returned pointer is valid until `decision` is used
/// again or freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_reason(
    decision: *const phantom_decision,
) -> *const c_char {
    boundary_or(ptr::null(), || {
        // SAFETY: the caller's promises are those that it requires.
        unsafe {
            lent(decision, ptr::null_mut(), |decision| {
                decision.reason.as_ref()
            })
        }
    })
}

/// Returns the error code of the challenge: "insufficient_scope", "invalid_token" (RFC 6750 §3.1), …; NULL if there is
/// none. It is part of the decision: never free it.
///
/// # Safety
/// `decision` is NULL, or from this library and not freed; the returned pointer is valid until `decision` is used
/// again or freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_error(
    decision: *const phantom_decision,
) -> *const c_char {
    boundary_or(ptr::null(), || {
        // SAFETY: the caller's promises are those that it requires.
        unsafe {
            lent(decision, ptr::null_mut(), |decision| {
                decision.error.as_ref()
            })
        }
    })
}

/// Returns the HTTP status to answer with: 400, 401, 403, 500, 502, 503 or 504; 0 if the request goes upstream; 500
/// for NULL and if nothing is decided.
///
/// # Safety
/// `decision` is NULL, or from this library and not freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_http_status(decision: *const phantom_decision) -> i32 {
    boundary_or(500, || {
        // SAFETY: the caller's promise for `decision`.
        let status = unsafe { decision.as_ref() }.and_then(|decision| decision.http_status);
        status.map_or(500, i32::from)
    })
}

/// Enumerates the header changes for a request that goes upstream. It returns the name of the header at `index`; NULL
/// past the last. If `*value` is NULL, remove all headers with this name. Otherwise replace all headers with this
/// name by one header with this value. Compare names case-insensitively, and make the changes in this order. Name and
/// value are part of the decision or of the result: never free them.
///
/// `value` and `value_length` may be NULL.
///
/// # Safety
/// - `decision` is NULL, or from this library and not freed; the returned pointers are valid until `decision` is used
///   again or freed, or the result is freed.
/// - `value` and `value_length` are NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_request_header(
    decision: *const phantom_decision,
    index: usize,
    value: *mut *const c_char,
    value_length: *mut usize,
) -> *const c_char {
    boundary_or(ptr::null(), || {
        // SAFETY: the caller's promises are those that it requires.
        unsafe {
            header(decision, value, value_length, |decision| {
                let (name, value) = decision.request_headers.get(index)?;
                Some((name, value.as_ref()))
            })
        }
    })
}

/// Enumerates the headers to add to the answer. It returns the name of the header at `index`, and writes its value to
/// `value`; NULL past the last. If the request goes upstream, add them to the answer of the API. Otherwise add them
/// to your own answer, which has no other headers except those that delimit its body. Name and value are part of the
/// decision: never free them.
///
/// `value` and `value_length` may be NULL.
///
/// # Safety
/// - `decision` is NULL, or from this library and not freed; the returned pointer is valid until `decision` is used
///   again or freed.
/// - `value` and `value_length` are NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_answer_header(
    decision: *const phantom_decision,
    index: usize,
    value: *mut *const c_char,
    value_length: *mut usize,
) -> *const c_char {
    boundary_or(ptr::null(), || {
        // SAFETY: the caller's promises are those that it requires.
        unsafe {
            header(decision, value, value_length, |decision| {
                let (name, value) = decision.answer_headers.get(index)?;
                Some((name, Some(value)))
            })
        }
    })
}

/// Returns the body of the answer to a denied request, a JSON object, and writes its length to `length`; NULL and 0
/// if there is none. It is part of the decision: never free it.
///
/// `length` may be NULL.
///
/// # Safety
/// - `decision` is NULL, or from this library and not freed; the returned pointer is valid until `decision` is used
///   again or freed.
/// - `length` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_body(
    decision: *const phantom_decision,
    length: *mut usize,
) -> *const c_char {
    boundary_or(ptr::null(), || {
        // SAFETY: the caller's promises are those that it requires.
        unsafe { lent(decision, length, |decision| decision.body.as_ref()) }
    })
}

/// Returns the changed target of a request that goes upstream: path and query, with the token removed. It writes the
/// length to `length`; NULL and 0 if the target is unchanged. It is part of the decision: never free it.
///
/// `length` may be NULL.
///
/// # Safety
/// - `decision` is NULL, or from this library and not freed; the returned pointer is valid until `decision` is used
///   again or freed.
/// - `length` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_target(
    decision: *const phantom_decision,
    length: *mut usize,
) -> *const c_char {
    boundary_or(ptr::null(), || {
        // SAFETY: the caller's promises are those that it requires.
        unsafe { lent(decision, length, |decision| decision.target.as_ref()) }
    })
}

/// A text of a decision, as pointer and length.
///
/// # Safety
/// - `decision` is NULL, or from this library and not freed; the returned pointer is valid until `decision` is used
///   again or freed.
/// - `length` is NULL or can be written to.
unsafe fn lent(
    decision: *const phantom_decision,
    length: *mut usize,
    text: impl FnOnce(&phantom_decision) -> Option<&Text>,
) -> *const c_char {
    // SAFETY: this function's contract for `decision`.
    let decision = unsafe { decision.as_ref() };
    let (text, size) = decision.map_or((ptr::null(), 0), |decision| decision.lend(text(decision)));
    // SAFETY: this function's contract for `length`.
    unsafe { Output::optional(length) }.write(size);
    text
}

/// A header of a decision, as pointers and length.
///
/// # Safety
/// As for [`lent`], of both outputs.
unsafe fn header(
    decision: *const phantom_decision,
    value: *mut *const c_char,
    value_length: *mut usize,
    header: impl FnOnce(&phantom_decision) -> Option<(&Text, Option<&Text>)>,
) -> *const c_char {
    // SAFETY: this function's contract for `decision`.
    let found = unsafe { decision.as_ref() }
        .and_then(|decision| header(decision).map(|header| (decision, header)));
    let nothing = ((ptr::null(), 0), (ptr::null(), 0));
    let ((name, _), (text, length)) = found.map_or(nothing, |(decision, (name, value))| {
        (decision.lend(Some(name)), decision.lend(value))
    });
    // SAFETY: this function's contract for `value` and `value_length`.
    unsafe {
        Output::optional(value).write(text);
        Output::optional(value_length).write(length);
    }
    name
}

/// The error kind of a status which says that there is no verdict.
fn kind_of(status: i32) -> Option<ErrorKind> {
    if status == phantom_status::PHANTOM_PANIC as i32 {
        return Some(ErrorKind::Internal);
    }
    phantom_status::kind(status)
}
