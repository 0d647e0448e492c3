//! Policies.
//!
//! An active token does not allow everything. A policy states further requirements: scopes, an audience, claims, how
//! and when the user was authenticated. It also checks that a bound token comes from the sender that has the key.
//! Create one policy for each protected resource when the program starts. Check it on every request, whether the
//! verdict came from the cache or not.
//!
//! ```c
//! phantom_policy *policy = NULL;
//!
//! if (phantom_policy_new(&policy) != PHANTOM_OK ||
//!     phantom_policy_set_str(policy, "realm", "orders") != PHANTOM_OK ||
//!     phantom_policy_set_str(policy, "scopes", "orders:read orders:write") != PHANTOM_OK ||
//!     phantom_policy_set_str(policy, "require", "tenant acme ~^test-") != PHANTOM_OK)
//!   fprintf(stderr, "%s\n", phantom_last_error());
//!
//! phantom_presentation request = {.size = sizeof request, .authorization = value, .authorization_length = length};
//! phantom_denial *denial = NULL;
//!
//! switch (phantom_policy_check(policy, client, result, &request, &denial)) {
//! case PHANTOM_OK:
//!   forward(phantom_result_authorization(result, NULL));
//!   break;
//! case PHANTOM_DENIED:
//!   answer(phantom_denial_http_status(denial), phantom_denial_challenge(denial, NULL));
//!   phantom_denial_free(denial);
//!   break;
//! default:
//!   answer(500, NULL);
//! }
//! ```
//!
//! Only `PHANTOM_OK` lets a request through.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use super::boundary::{
    Failure, Output, boundary, boundary_or, bytes, exclusive, shared, text, text_to_nul,
};
use super::client::phantom_client;
use super::result::phantom_result;
use super::status::phantom_status;
use crate::cache::{FirstUse, ProofId, ProofTime};
use crate::clock;
use crate::gateway::access_policy::{AccessPolicy, Answer, Decision, Denial};
use crate::gateway::credentials::Credentials;
use crate::gateway::outcome::{DenialReason, ErrorCode, Malformation};
use crate::gateway::sender::{Proof, RequestContext, Thumbprint, Uri};

/// The requirements on a token. Created by `phantom_policy_new`.
pub struct phantom_policy {
    pub(super) policy: AccessPolicy,
}

/// The reason why a request is denied, and the answer to send. Created by `phantom_policy_check`.
pub struct phantom_denial {
    http_status: u16,
    error: Option<CString>,
    reason: CString,
    challenge: Option<CString>,
    dpop_nonce: Option<CString>,
    headers: Vec<(CString, CString)>,
    body: CString,
}

/// The credentials of a request, unchanged from the client. Set `size`, and leave absent fields 0 and NULL. Later
/// versions may add fields at the end.
#[repr(C)]
#[derive(Debug)]
pub struct phantom_presentation {
    /// `sizeof(phantom_presentation)`.
    pub size: usize,
    /// The value of the `Authorization` header: "DPoP 8f3c0a…".
    pub authorization: *const c_char,
    /// The length of `authorization`.
    pub authorization_length: usize,
    /// The request method: "GET".
    pub method: *const c_char,
    /// The length of `method`.
    pub method_length: usize,
    /// The URL of the request as the client sees it: `https://api.example.com/orders`. The query and the fragment are
    /// ignored. Build it from a checked host: if `Host` contains anything but a host and a port, answer 400, or a
    /// proof for one path is valid for another. A URL without a path is refused, because such a `Host` produces it.
    pub url: *const c_char,
    /// The length of `url`.
    pub url_length: usize,
    /// The value of the `DPoP` header (RFC 9449 §4.1).
    pub dpop: *const c_char,
    /// The length of `dpop`.
    pub dpop_length: usize,
    /// The number of `DPoP` headers in the request: more than one is not allowed.
    pub dpop_count: usize,
    /// The client certificate of the TLS connection, as DER. Your TLS library must have verified that the client has
    /// its private key.
    pub client_certificate: *const u8,
    /// The length of `client_certificate`.
    pub client_certificate_length: usize,
}

/// Creates a policy, and writes it to `policy`. It requires only an active token, with a proof if the token is bound
/// to a key. It is yours: free it with `phantom_policy_free`.
///
/// # Safety
/// `policy` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_policy_new(policy: *mut *mut phantom_policy) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promise for `policy`.
        let policy = unsafe { Output::required(policy, "policy")? };
        policy.write(Box::into_raw(Box::new(phantom_policy {
            policy: AccessPolicy::default(),
        })));
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Frees a policy. Denials stay valid.
///
/// # Safety
/// `policy` is NULL, or from `phantom_policy_new` and not freed, and no other thread is using it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_policy_free(policy: *mut phantom_policy) {
    boundary_or((), || {
        if !policy.is_null() {
            // SAFETY: it came out of a box in `phantom_policy_new`, is freed once, and nobody else uses it (the caller's
            // promises).
            drop(unsafe { Box::from_raw(policy) });
        }
    })
}

/// Sets one key: `scopes`, `audience`, `require`, `realm`, `sender_constraint`, … Values are separated by spaces; put
/// a value that contains spaces in quotes. docs/c-api.md lists the keys; `phantom_policy_key` enumerates them. No
/// thread may check the policy at the same time.
///
/// Returns `PHANTOM_CONFIG` if there is no such key, or if the value is not valid for it; `phantom_last_error` names
/// the valid values. The policy is then unchanged.
///
/// # Safety
/// - `policy` is NULL, or alive and used by no other thread.
/// - `key` and `value` are NULL, or as many bytes at them as their lengths say can be read.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_policy_set(
    policy: *mut phantom_policy,
    key: *const c_char,
    key_length: usize,
    value: *const c_char,
    value_length: usize,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `policy`, `key` and `value`.
        let (policy, key, value) = unsafe {
            (
                exclusive(policy, "policy")?,
                text(key, key_length, "key")?,
                text(value, value_length, "value")?,
            )
        };
        policy.policy.set(key, value)?;
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Like `phantom_policy_set`, with a key and a value that end in a NUL.
///
/// # Safety
/// - `policy` is NULL, or alive and used by no other thread.
/// - `key` and `value` are NULL, or end in a NUL up to which they can be read.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_policy_set_str(
    policy: *mut phantom_policy,
    key: *const c_char,
    value: *const c_char,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `policy`, `key` and `value`.
        let (policy, key, value) = unsafe {
            (
                exclusive(policy, "policy")?,
                text_to_nul(key, "key")?,
                text_to_nul(value, "value")?,
            )
        };
        policy.policy.set(key, value)?;
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Enumerates the keys. It returns the name of the key at `index`, or NULL if there is none. Call it with 0, 1, 2, …
/// until it returns NULL. The name must not be freed.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_policy_key(index: usize) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        static KEYS: OnceLock<Vec<CString>> = OnceLock::new();
        KEYS.get_or_init(|| {
            AccessPolicy::keys()
                .iter()
                // A key contains no NUL. If one did, C could not set it, and it would not be listed.
                .filter_map(|key| CString::new(*key).ok())
                .collect()
        })
        .get(index)
        .map_or(std::ptr::null(), |key| key.as_ptr())
    })
}

/// Decides whether a request may pass, from the `result` of its token. Returns
///
/// - `PHANTOM_OK`: it may pass. Nothing was allocated. From now on `result` returns its JWT, even if the token is
///   bound to a key of its sender. A result belongs to one request: never use it to check another request.
/// - `PHANTOM_DENIED`: it may not pass. `*denial` is yours, and contains the answer to send: free it with
///   `phantom_denial_free`.
/// - any other status: an error. Do not let the request through.
///
/// A NULL `result` means a request without a token. It is denied, with the challenge to present one, unless the
/// policy's `optional` is `on`.
///
/// `presentation` has the credentials of the request. NULL means none: a token that is bound to a key of its sender
/// is then denied.
///
/// `client` is the client that resolved the token: it knows which proofs were used before (RFC 9449 §11.1). NULL
/// means no client: a token that needs such a proof is then denied.
///
/// `denial` may be NULL. Any thread may call this function, with any policy.
///
/// # Safety
/// - `policy` is NULL, or alive and not being changed.
/// - `client` is NULL, or alive.
/// - `result` is NULL, or from this library and not freed.
/// - `presentation` is NULL, or `size` can be read at it, and if that is right, all of it; each text in it is NULL, or as
///   many bytes at it as its length says can be read.
/// - `denial` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_policy_check(
    policy: *const phantom_policy,
    client: *const phantom_client,
    result: *const phantom_result,
    presentation: *const phantom_presentation,
    denial: *mut *mut phantom_denial,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `policy`, `client` and `denial`.
        let (policy, client, denial) = unsafe {
            (
                shared(policy, "policy")?,
                client.as_ref(),
                Output::optional(denial),
            )
        };
        // SAFETY: the caller's promise for `presentation`.
        let presented = unsafe { presented(presentation)? };
        let credentials = presented.credentials();
        let certificate = || presented.client_certificate.map(Thumbprint::of_der);
        let request = RequestContext {
            scheme: credentials.scheme(),
            method: presented.method,
            uri: Uri::Composed(presented.url),
            proof: presented.proof,
            certificate: &certificate,
        };
        let now = clock::now().unix;
        let mut first_use = first_use(client);
        let policy = &policy.policy;
        let decision = if result.is_null() {
            match policy.token(&credentials) {
                Ok(None) => Decision::Anonymous,
                Ok(Some(_)) => Decision::Denied(Denial::new(DenialReason::Missing, &credentials)),
                Err(denial) => Decision::Denied(denial),
            }
        } else {
            // SAFETY: the caller's promise for `result`.
            let active = unsafe { phantom_result::active(result) };
            policy.decide_verdict(&credentials, active, &request, now, &mut first_use)
        };
        match decision {
            Decision::Admitted(_) => {
                // SAFETY: the caller's promise for `result`.
                unsafe { phantom_result::admit(result) };
                Ok(phantom_status::PHANTOM_OK)
            }
            Decision::Anonymous => Ok(phantom_status::PHANTOM_OK),
            Decision::Denied(denied) => {
                denial.write_with(|| {
                    let answer = policy.answer(&denied, now);
                    Box::into_raw(Box::new(phantom_denial::new(&denied, &answer)))
                });
                Ok(phantom_status::PHANTOM_DENIED)
            }
        }
    })
}

/// Frees a denial. NULL is allowed.
///
/// # Safety
/// `denial` is NULL, or from `phantom_policy_check` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_denial_free(denial: *mut phantom_denial) {
    boundary_or((), || {
        if !denial.is_null() {
            // SAFETY: it came out of a box in `phantom_policy_check`, and is freed once (the caller's promise).
            drop(unsafe { Box::from_raw(denial) });
        }
    })
}

/// Returns the HTTP status to answer with: 400, 401, 403 or 503; 500 for NULL.
///
/// # Safety
/// `denial` is NULL, or from this library and not freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_denial_http_status(denial: *const phantom_denial) -> i32 {
    boundary_or(500, || {
        // SAFETY: the caller's promise for `denial`.
        unsafe { denial.as_ref() }.map_or(500, |denial| i32::from(denial.http_status))
    })
}

/// Returns the error code: "insufficient_scope", "invalid_token" (RFC 6750 §3.1), "insufficient_user_authentication"
/// (RFC 9470 §3), "invalid_dpop_proof" (RFC 9449 §7.1), … It is NULL if there is none, as for a request without a
/// token. It is part of the denial: never free it.
///
/// # Safety
/// `denial` is NULL, or from this library and not freed; the returned pointer is valid until `denial` is freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_denial_error(denial: *const phantom_denial) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        // SAFETY: the caller's promise for `denial`.
        pointer(unsafe { denial.as_ref() }.and_then(|denial| denial.error.as_ref()))
    })
}

/// Returns the reason for a log, in one word without spaces: "scope:write", "claim:tenant", "audience", "inactive";
/// NULL for NULL. It is part of the denial: never free it.
///
/// # Safety
/// `denial` is NULL, or from this library and not freed; the returned pointer is valid until `denial` is freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_denial_reason(denial: *const phantom_denial) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        // SAFETY: the caller's promise for `denial`.
        pointer(unsafe { denial.as_ref() }.map(|denial| &denial.reason))
    })
}

/// Returns the value of the `WWW-Authenticate` header to answer with, and writes its length to `length`; NULL and 0
/// if there is none. It is always one line, whatever the policy's settings. It is part of the denial: never free it.
///
/// `length` may be NULL.
///
/// # Safety
/// - `denial` is NULL, or from this library and not freed; the returned pointer is valid until `denial` is freed.
/// - `length` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_denial_challenge(
    denial: *const phantom_denial,
    length: *mut usize,
) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        // SAFETY: the caller's promise for `denial`.
        let challenge = unsafe { denial.as_ref() }.and_then(|denial| denial.challenge.as_ref());
        // SAFETY: the caller's promise for `length`.
        unsafe { Output::optional(length) }
            .write(challenge.map_or(0, |challenge| challenge.as_bytes().len()));
        pointer(challenge)
    })
}

/// Returns the value of the `DPoP-Nonce` header to answer with (RFC 9449 §9), or NULL if there is none. It is part of the
/// denial: never free it.
///
/// # Safety
/// `denial` is NULL, or from this library and not freed; the returned pointer is valid until `denial` is freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_denial_dpop_nonce(denial: *const phantom_denial) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        // SAFETY: the caller's promise for `denial`.
        pointer(unsafe { denial.as_ref() }.and_then(|denial| denial.dpop_nonce.as_ref()))
    })
}

/// Enumerates the headers of the answer. It returns the name of the header at `index`, and writes its value to
/// `value`; NULL past the last. The headers include `WWW-Authenticate`, `DPoP-Nonce` and the content type of the
/// body. Name and value are part of the denial: never free them.
///
/// `value` may be NULL.
///
/// # Safety
/// - `denial` is NULL, or from this library and not freed; the returned pointer is valid until `denial` is freed.
/// - `value` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_denial_header(
    denial: *const phantom_denial,
    index: usize,
    value: *mut *const c_char,
) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        // SAFETY: the caller's promise for `denial`.
        let header = unsafe { denial.as_ref() }.and_then(|denial| denial.headers.get(index));
        // SAFETY: the caller's promise for `value`.
        unsafe { Output::optional(value) }.write(pointer(header.map(|(_, value)| value)));
        pointer(header.map(|(name, _)| name))
    })
}

/// Returns the body of the answer, a JSON object, and writes its length to `length`; NULL and 0 for NULL. It is part of
/// the denial: never free it.
///
/// `length` may be NULL.
///
/// # Safety
/// - `denial` is NULL, or from this library and not freed; the returned pointer is valid until `denial` is freed.
/// - `length` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_denial_body(
    denial: *const phantom_denial,
    length: *mut usize,
) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        // SAFETY: the caller's promise for `denial`.
        let body = unsafe { denial.as_ref() }.map(|denial| &denial.body);
        // SAFETY: the caller's promise for `length`.
        unsafe { Output::optional(length) }.write(body.map_or(0, |body| body.as_bytes().len()));
        pointer(body)
    })
}

fn pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(std::ptr::null(), |text| text.as_ptr())
}

/// A lookup of used proofs in the client; without a client, nothing is known about earlier uses.
pub(super) fn first_use(
    client: Option<&phantom_client>,
) -> impl FnMut(&ProofId, ProofTime) -> FirstUse {
    move |proof, time| {
        client.map_or(FirstUse::Lost, |client| {
            client.client.first_use(proof, time)
        })
    }
}

/// The fields of a [`phantom_presentation`] as slices.
struct Presented<'a> {
    authorization: Option<&'a [u8]>,
    method: &'a [u8],
    url: &'a [u8],
    proof: Proof<'a>,
    client_certificate: Option<&'a [u8]>,
}

impl<'a> Presented<'a> {
    fn credentials(&self) -> Credentials<'a> {
        let mut credentials = Credentials::default();
        credentials.add_authorization(self.authorization.into_iter());
        credentials
    }
}

/// The fields of a [`phantom_presentation`] as slices.
///
/// # Safety
/// `presentation` is as `phantom_policy_check` requires it, and does not change during `'a`.
unsafe fn presented<'a>(
    presentation: *const phantom_presentation,
) -> Result<Presented<'a>, Failure> {
    if presentation.is_null() {
        return Ok(Presented {
            authorization: None,
            method: b"",
            url: b"",
            proof: Proof::None,
            client_certificate: None,
        });
    }
    // SAFETY: not NULL, and `size`, which is at its beginning, can be read by this function's own contract.
    let size = unsafe { presentation.cast::<usize>().read() };
    if size != size_of::<phantom_presentation>() {
        return Err(Failure::new(
            phantom_status::PHANTOM_INVALID_ARGUMENT,
            "presentation.size is not sizeof(phantom_presentation)",
        ));
    }
    // SAFETY: of the size that it says it has, so all of it can be read by this function's own contract.
    let fields = unsafe { &*presentation };
    // SAFETY: each text can be read up to its length by this function's own contract.
    let (authorization, method, url, dpop, client_certificate) = unsafe {
        (
            part(
                fields.authorization,
                fields.authorization_length,
                "presentation.authorization",
            )?,
            part(fields.method, fields.method_length, "presentation.method")?,
            part(fields.url, fields.url_length, "presentation.url")?,
            part(fields.dpop, fields.dpop_length, "presentation.dpop")?,
            part(
                fields.client_certificate.cast(),
                fields.client_certificate_length,
                "presentation.client_certificate",
            )?,
        )
    };
    let proof = match (dpop, fields.dpop_count) {
        (None, 0) => Proof::None,
        (Some(proof), 1) => Proof::One(proof),
        (_, 2..) => Proof::Several,
        (Some(_), 0) | (None, 1) => {
            return Err(Failure::new(
                phantom_status::PHANTOM_INVALID_ARGUMENT,
                "presentation.dpop_count is not the number of DPoP headers in presentation.dpop",
            ));
        }
    };
    Ok(Presented {
        authorization,
        method: method.unwrap_or_default(),
        url: url.unwrap_or_default(),
        proof,
        client_certificate,
    })
}

/// The bytes at `pointer`; `None` for NULL.
///
/// # Safety
/// As for [`bytes`].
pub(super) unsafe fn part<'a>(
    pointer: *const c_char,
    length: usize,
    argument: &str,
) -> Result<Option<&'a [u8]>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the contract is the same.
    unsafe { bytes(pointer, length, argument) }.map(Some)
}

impl phantom_denial {
    fn new(denial: &Denial<'_>, answer: &Answer<'_>) -> Self {
        // None of these texts contains a NUL. If one did, it would be left out of the answer.
        let text = |text: &str| CString::new(text).ok();
        phantom_denial {
            http_status: answer.status,
            error: denial.reason.error().map(ErrorCode::as_str).and_then(text),
            reason: text(word(denial)).unwrap_or_default(),
            challenge: answer.challenge.as_deref().and_then(text),
            dpop_nonce: answer.dpop_nonce.as_deref().and_then(text),
            headers: answer
                .headers()
                .filter_map(|(name, value)| Some((text(name)?, text(&value)?)))
                .collect(),
            body: text(answer.body).unwrap_or_default(),
        }
    }
}

/// The reason for the denial, in one word.
fn word<'p>(denial: &Denial<'p>) -> &'p str {
    match (denial.reason, denial.reason.detail()) {
        (DenialReason::Malformed(Malformation::Authorization), _) | (_, "") => {
            denial.outcome().as_str()
        }
        (_, detail) => detail,
    }
}
