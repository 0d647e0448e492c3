//! Decisions.
//!
//! A gateway need not know where a token may be, what is done to the request that goes on, or what a client is told that
//! is denied: it hands over all headers of the request, and does what the decision says. The policy's `source`, `forward`
//! and `optional` say how tokens come in and how JWTs go on.
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
//! Nothing but `PHANTOM_OK` lets a request through.

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

/// A header: its name and its value, as they came from the client.
#[repr(C)]
#[derive(Debug)]
pub struct phantom_header {
    /// Its name, in any case.
    pub name: *const c_char,
    /// The length of `name`.
    pub name_length: usize,
    /// Its value.
    pub value: *const c_char,
    /// The length of `value`.
    pub value_length: usize,
}

/// A request, as it came from the client. Set `size`, and leave 0 and NULL what it does not have. Later versions may add
/// to its end.
#[repr(C)]
#[derive(Debug)]
pub struct phantom_request {
    /// `sizeof(phantom_request)`.
    pub size: usize,
    /// Its method: "GET".
    pub method: *const c_char,
    /// The length of `method`.
    pub method_length: usize,
    /// What it asks for, as it stands in the request line or in `:path`: "/orders?page=2".
    pub target: *const c_char,
    /// The length of `target`.
    pub target_length: usize,
    /// All of its headers, each field by itself. With HTTP/2 and HTTP/3, `:authority` is `host`.
    pub headers: *const phantom_header,
    /// How many there are.
    pub header_count: usize,
    /// The scheme that its client sees, "http" or "https"; NULL is "https". A DPoP proof is for a URL.
    pub scheme: *const c_char,
    /// The length of `scheme`.
    pub scheme_length: usize,
    /// The whole URL that its client sees, for a gateway that knows it better than `Host` and `target` say; else NULL.
    pub url: *const c_char,
    /// The length of `url`.
    pub url_length: usize,
    /// The certificate with which its client has authenticated the connection, as DER. That the client has its key is
    /// what your TLS library has made sure of.
    pub client_certificate: *const u8,
    /// The length of `client_certificate`.
    pub client_certificate_length: usize,
}

/// What to do with a request. Made by `phantom_decision_new`, and used for one request after the other.
#[derive(Default)]
pub struct phantom_decision {
    /// What `text` keeps is in here, each with a NUL behind it.
    arena: Vec<u8>,
    request_headers: Vec<(Text, Option<Text>)>,
    answer_headers: Vec<(Text, Text)>,
    target: Option<Text>,
    body: Option<Text>,
    /// A token that was percent-encoded.
    decoded: OnceCell<Vec<u8>>,
    outcome: Option<Text>,
    reason: Option<Text>,
    error: Option<Text>,
    /// `None`: nothing has been decided.
    http_status: Option<u16>,
}

/// A text of a decision.
enum Text {
    /// In its arena.
    Own(Range<usize>),
    /// The JWT: in the result.
    Lent(*const c_char, usize),
}

impl phantom_decision {
    /// Forgets the last request, and keeps the memory.
    fn clear(&mut self) {
        self.arena.clear();
        self.request_headers.clear();
        self.answer_headers.clear();
        (self.target, self.body) = (None, None);
        (self.outcome, self.reason, self.error) = (None, None, None);
        self.http_status = None;
        self.decoded.take();
    }

    /// Keeps what has been decided.
    fn decide(&mut self, outcome: Outcome, reason: &str, error: Option<ErrorCode>, status: u16) {
        self.outcome = Some(self.text(outcome.as_str().as_bytes()));
        self.reason = Some(self.text(reason.as_bytes()));
        self.error = error.map(|error| self.text(error.as_str().as_bytes()));
        self.http_status = Some(status);
    }

    /// Keeps a text.
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
                    // The byte after it is NUL.
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

/// The request that C hands over.
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
    /// `request` is as `phantom_policy_token` wants it, and does not change during `'a`.
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
        // SAFETY: `new` has looked at each: it can be read up to its length, or is NULL, which stands for nothing.
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

/// Makes a decision, in which nothing is decided yet, and writes it to `decision`. It is yours: free it with
/// `phantom_decision_free`. Make one for each thread that decides, or for each connection: it is used for one request at a
/// time.
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

/// Frees a decision, and with it all that it has handed out. NULL is fine.
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

/// Finds the token of a request in the places that the policy's `source` names, and forgets what `decision` was about.
///
/// - `PHANTOM_OK`: `*token` is to be resolved. It is part of the request or of the decision, and has no NUL behind it.
/// - `PHANTOM_NOT_FOUND`: there is nothing to resolve, because there is no token, or none that can be used, or several.
/// - anything else: an error, and no reason to let it through.
///
/// In each case `phantom_policy_decide` decides, with this status or with that of resolving the token.
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
        // Whatever goes wrong, nothing of the last request is left.
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

/// Decides about a request, and fills in `decision`. Returns
///
/// - `PHANTOM_OK`: it goes on, with the changes of `phantom_decision_request_header` and `phantom_decision_target`. From
///   now on `result` hands out its JWT, also if its token is bound to a key of its sender: a result belongs to one
///   request, so never decide with one about another.
/// - `PHANTOM_DENIED`: it is answered: with `phantom_decision_http_status`, every `phantom_decision_answer_header`, and
///   `phantom_decision_body`.
/// - anything else: an error, and no reason to let it through.
///
/// `resolved` is the status of resolving the token that `phantom_policy_token` has found, or that function's own where it
/// has found none. `result` is the verdict; NULL if there is none. `retry_after` is what `phantom_last_error_retry_after`
/// said on the thread on which resolving failed, or -1. `client` is the client that has resolved the token: it knows which
/// proofs were used before (RFC 9449 §11.1); NULL is none, and a token that needs such a proof is denied then. Once it has
/// been used for a few requests, a decision that lets one pass allocates nothing, unless something has to be taken out of
/// its cookies or its query.
///
/// # Safety
/// - `policy` is NULL, or alive and not being changed.
/// - `client` is NULL, or alive.
/// - `request` is as `phantom_policy_token` wants it.
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
        // Whatever goes wrong, nothing of the last request is left.
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
            for (name, value) in policy.added_headers(admitted, now).headers() {
                decision.add_answer_header(name, value);
            }
            // SAFETY: the caller's promise for `result`.
            unsafe { phantom_result::admit(result) };
        }
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Returns what became of the request, in one word for logs and metrics: "ok", "missing", "malformed", "inactive",
/// "invalid", "unproven", "step_up", "forbidden" or "unavailable"; NULL if nothing has been decided. It is part of the
/// decision: never free it.
///
/// # Safety
/// `decision` is NULL, or from this library and not freed; what is returned is gone when it is used again.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_outcome(
    decision: *const phantom_decision,
) -> *const c_char {
    boundary_or(ptr::null(), || {
        // SAFETY: the caller's promises are those that it wants.
        unsafe {
            lent(decision, ptr::null_mut(), |decision| {
                decision.outcome.as_ref()
            })
        }
    })
}

/// Returns one word more than the outcome, without spaces, for logs: "scope:write", "several", "proof_htu", "timeout"; ""
/// where the outcome says everything, NULL if nothing has been decided. It is part of the decision: never free it.
///
/// # Safety
/// `decision` is NULL, or from this library and not freed; what is returned is gone when it is used again.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_reason(
    decision: *const phantom_decision,
) -> *const c_char {
    boundary_or(ptr::null(), || {
        // SAFETY: the caller's promises are those that it wants.
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
/// `decision` is NULL, or from this library and not freed; what is returned is gone when it is used again.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_error(
    decision: *const phantom_decision,
) -> *const c_char {
    boundary_or(ptr::null(), || {
        // SAFETY: the caller's promises are those that it wants.
        unsafe {
            lent(decision, ptr::null_mut(), |decision| {
                decision.error.as_ref()
            })
        }
    })
}

/// Returns the HTTP status to answer with: 400, 401, 403, 500, 502, 503 or 504; 0 if the request goes on; 500 for NULL and
/// if nothing has been decided.
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

/// Enumerates the changes to the headers of a request that goes on: returns the name of the one at `index`, NULL past the
/// last. Where `*value` is NULL, all headers of this name are to be taken out; else one header with this value takes the
/// place of all of this name. Names are compared without case. Make the changes in this order. All of it is part of the
/// decision or of the result: never free it.
///
/// `value` and `value_length` may be NULL.
///
/// # Safety
/// - `decision` is NULL, or from this library and not freed; what is returned is gone when it is used again, and with the
///   result.
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
        // SAFETY: the caller's promises are those that it wants.
        unsafe {
            header(decision, value, value_length, |decision| {
                let (name, value) = decision.request_headers.get(index)?;
                Some((name, value.as_ref()))
            })
        }
    })
}

/// Enumerates the headers of the answer: returns the name of the one at `index`, NULL past the last, and writes its value.
/// They are added to the answer: to that of the API if the request goes on, else to the one that is given instead, which
/// has no others but what delimits its body. All of it is part of the decision: never free it.
///
/// `value` and `value_length` may be NULL.
///
/// # Safety
/// - `decision` is NULL, or from this library and not freed; what is returned is gone when it is used again.
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
        // SAFETY: the caller's promises are those that it wants.
        unsafe {
            header(decision, value, value_length, |decision| {
                let (name, value) = decision.answer_headers.get(index)?;
                Some((name, Some(value)))
            })
        }
    })
}

/// Returns the body of the answer to a request that is denied, a JSON object, and writes its length to `length`; NULL and 0
/// if there is none. It is part of the decision: never free it.
///
/// `length` may be NULL.
///
/// # Safety
/// - `decision` is NULL, or from this library and not freed; what is returned is gone when it is used again.
/// - `length` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_body(
    decision: *const phantom_decision,
    length: *mut usize,
) -> *const c_char {
    boundary_or(ptr::null(), || {
        // SAFETY: the caller's promises are those that it wants.
        unsafe { lent(decision, length, |decision| decision.body.as_ref()) }
    })
}

/// Returns the target of a request that goes on, path and query, without what held its token, and writes its length to
/// `length`; NULL and 0 if it stays as it is. It is part of the decision: never free it.
///
/// `length` may be NULL.
///
/// # Safety
/// - `decision` is NULL, or from this library and not freed; what is returned is gone when it is used again.
/// - `length` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_decision_target(
    decision: *const phantom_decision,
    length: *mut usize,
) -> *const c_char {
    boundary_or(ptr::null(), || {
        // SAFETY: the caller's promises are those that it wants.
        unsafe { lent(decision, length, |decision| decision.target.as_ref()) }
    })
}

/// A text of a decision, as C wants it.
///
/// # Safety
/// - `decision` is NULL, or from this library and not freed; the pointer returned is good until it is used again.
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

/// A header of a decision, as C wants it.
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

/// The kind of failure that a status stands for, if it says that there is no verdict.
fn kind_of(status: i32) -> Option<ErrorKind> {
    if status == phantom_status::PHANTOM_PANIC as i32 {
        return Some(ErrorKind::Internal);
    }
    phantom_status::kind(status)
}
