//! Results.
//!
//! A result is the verdict on the token of one request, and its cache status. Reading a result is cheap: the JWT is
//! not copied, because the result and the cache share one copy. A result stays valid until it is freed, even if the
//! cache entry is evicted or the client is freed.
//!
//! A token may be bound to a key of its sender (`cnf`, RFC 9449, RFC 8705). The sender must then prove possession of
//! the key; otherwise a copy of the token would work as well as the token. The JWT itself is a plain bearer token. So
//! the result of a bound token returns the JWT only after `phantom_policy_check` has let this request pass. If
//! another party checks the sender, set `sender_constraint ignore` in the policy.

use std::ffi::{CStr, c_char};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::boundary::{Output, boundary_or};
use crate::{Active, CacheStatus, Resolution, Verdict};

/// The cache status of a verdict.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum phantom_cache_status {
    /// There is no result.
    PHANTOM_CACHE_NONE = 0,
    /// The verdict was in the client's memory.
    PHANTOM_CACHE_HIT = 1,
    /// The authorization server was called for it.
    PHANTOM_CACHE_MISS = 2,
    /// Another request was already waiting for the authorization server; this request shared its answer.
    PHANTOM_CACHE_COALESCED = 3,
    /// The verdict was in the shared store.
    PHANTOM_CACHE_SHARED = 4,
    /// An expired verdict: the authorization server cannot be reached for a new one, and `stale_if_error` allows the
    /// old one.
    PHANTOM_CACHE_STALE = 5,
}

use phantom_cache_status::*;

impl phantom_cache_status {
    /// All statuses, each at the index of its number.
    pub(super) const ALL: [phantom_cache_status; 6] = [
        PHANTOM_CACHE_NONE,
        PHANTOM_CACHE_HIT,
        PHANTOM_CACHE_MISS,
        PHANTOM_CACHE_COALESCED,
        PHANTOM_CACHE_SHARED,
        PHANTOM_CACHE_STALE,
    ];
}

impl From<CacheStatus> for phantom_cache_status {
    fn from(status: CacheStatus) -> Self {
        match status {
            CacheStatus::Hit => PHANTOM_CACHE_HIT,
            CacheStatus::Miss => PHANTOM_CACHE_MISS,
            CacheStatus::Coalesced => PHANTOM_CACHE_COALESCED,
            CacheStatus::Shared => PHANTOM_CACHE_SHARED,
            CacheStatus::Stale => PHANTOM_CACHE_STALE,
        }
    }
}

/// A verdict on a token, and its cache status. Created by `phantom_client_resolve`, `phantom_client_lookup` and
/// `phantom_client_submit`.
pub struct phantom_result {
    // Never constructed: the pointer that C holds is a tagged pointer, see `Reference`.
    _never_made: [u8; 0],
}

/// The representation of a pointer to [`phantom_result`]: an `Arc<Active>` turned raw, or an `Arc<Bound>` where
/// [`BOUND`] is set, or the address of [`INACTIVE`]. The low bits hold the [`phantom_cache_status`]. So a hit returns
/// the cache's own verdict without allocating, except for a bound token.
struct Reference;

/// The verdict on a token that is bound to a key of its sender, for one request.
#[repr(align(16))]
struct Bound {
    active: Arc<Active>,
    /// Whether a policy check has let the request pass.
    checked: AtomicBool,
}

/// An active verdict that C refers to, by the allocation that keeps it alive.
enum Owned {
    Active(*const Active),
    Bound(*const Bound),
}

/// The target of all pointers to inactive verdicts. It is not of size zero, so that no allocation can have its
/// address.
static INACTIVE: Inactive = Inactive(0);

#[repr(align(16))]
struct Inactive(#[allow(dead_code, reason = "only its address is of use")] u8);

/// The bits that hold the cache status.
const STATUS: usize = 0b0111;
/// The bit that tells [`Bound`] from [`Active`].
const BOUND: usize = 0b1000;
const TAG: usize = STATUS | BOUND;

// The bits are free in every address that is tagged, and hold every status.
const _: () = assert!(
    align_of::<Active>() > TAG
        && align_of::<Bound>() > TAG
        && align_of::<Inactive>() > TAG
        && phantom_cache_status::ALL.len() <= STATUS + 1
);

impl Reference {
    fn cache(result: *const phantom_result) -> phantom_cache_status {
        // The index is at most `STATUS`, and there are as many statuses (asserted above for the other direction).
        phantom_cache_status::ALL
            .get(result.addr() & STATUS)
            .copied()
            .unwrap_or(PHANTOM_CACHE_NONE)
    }

    /// The pointer that [`Arc::into_raw`] returned for an active verdict; `None` for NULL and for an inactive
    /// verdict.
    fn owned(result: *const phantom_result) -> Option<Owned> {
        let address = result.map_addr(|address| address & !TAG);
        let inactive = (&raw const INACTIVE).cast();
        if address.is_null() || address == inactive {
            return None;
        }
        Some(match result.addr() & BOUND {
            0 => Owned::Active(address.cast()),
            _ => Owned::Bound(address.cast()),
        })
    }
}

impl phantom_result {
    /// Converts a verdict to a pointer for C. `phantom_result_free` takes it back.
    pub(super) fn into_raw(resolution: Resolution) -> *mut phantom_result {
        let tag = phantom_cache_status::from(resolution.cache) as usize;
        let (address, kind): (*const phantom_result, usize) = match resolution.verdict {
            Verdict::Active(active) if active.is_bound() => {
                let checked = AtomicBool::new(false);
                let bound = Arc::new(Bound { active, checked });
                (Arc::into_raw(bound).cast(), BOUND)
            }
            Verdict::Active(active) => (Arc::into_raw(active).cast(), 0),
            Verdict::Inactive => ((&raw const INACTIVE).cast(), 0),
        };
        address.map_addr(|address| address | tag | kind).cast_mut()
    }

    /// The active verdict of `result`, if it has one.
    ///
    /// # Safety
    /// `result` is NULL, or from [`phantom_result::into_raw`] and not freed during `'a`.
    pub(super) unsafe fn active<'a>(result: *const phantom_result) -> Option<&'a Active> {
        match Reference::owned(result)? {
            // SAFETY: neither NULL nor `INACTIVE`, so by the contract it is what `Arc::into_raw` returned (the tag is
            // gone, and `map_addr` keeps the provenance), and the tag says of which type; the reference that `into_raw`
            // took over keeps it alive until it is freed, and an `Arc` never gives exclusive access while there is
            // another reference.
            Owned::Active(active) => Some(unsafe { &*active }),
            // SAFETY: as above.
            Owned::Bound(bound) => Some(unsafe { &(*bound).active }),
        }
    }

    /// Like [`phantom_result::active`], but `None` for a bound token that no policy check has admitted: its JWT must
    /// not be returned.
    ///
    /// # Safety
    /// As for [`phantom_result::active`].
    unsafe fn admitted<'a>(result: *const phantom_result) -> Option<&'a Active> {
        // SAFETY: the contract is the same.
        let active = unsafe { phantom_result::active(result) }?;
        match Reference::owned(result)? {
            Owned::Active(_) => Some(active),
            Owned::Bound(bound) => {
                // SAFETY: as in `active`.
                let bound = unsafe { &*bound };
                bound.checked.load(Ordering::Acquire).then_some(active)
            }
        }
    }

    /// Marks that a policy check has let the request of this result pass.
    ///
    /// # Safety
    /// As for [`phantom_result::active`].
    pub(super) unsafe fn admit(result: *const phantom_result) {
        if let Some(Owned::Bound(bound)) = Reference::owned(result) {
            // SAFETY: as in `active`; the flag is atomic.
            unsafe { (*bound).checked.store(true, Ordering::Release) };
        }
    }
}

/// Frees a result. NULL is allowed.
///
/// # Safety
/// `result` is NULL, or from this library and freed fewer times than it was obtained and retained.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_free(result: *mut phantom_result) {
    boundary_or((), || {
        match Reference::owned(result) {
            // SAFETY: it came from `Arc::into_raw` (neither NULL nor `INACTIVE`) and is of this type (the tag), and the
            // caller gives up one of the references that were handed out for it.
            Some(Owned::Active(active)) => drop(unsafe { Arc::from_raw(active) }),
            // SAFETY: as above.
            Some(Owned::Bound(bound)) => drop(unsafe { Arc::from_raw(bound) }),
            None => {}
        }
    })
}

/// Adds an owner to a result, and returns the same result: each owner must free it once. NULL gives NULL. Both owners
/// share one request: if a policy check has let one owner's request pass, that holds for the other owner too.
///
/// # Safety
/// `result` is NULL, or from this library and not freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_retain(
    result: *const phantom_result,
) -> *mut phantom_result {
    boundary_or(std::ptr::null_mut(), || {
        match Reference::owned(result) {
            // SAFETY: it came from `Arc::into_raw` (neither NULL nor `INACTIVE`) and is of this type (the tag), and the
            // caller's own reference keeps it alive meanwhile.
            Some(Owned::Active(active)) => unsafe { Arc::increment_strong_count(active) },
            // SAFETY: as above.
            Some(Owned::Bound(bound)) => unsafe { Arc::increment_strong_count(bound) },
            None => {}
        }
        result.cast_mut()
    })
}

/// Returns whether the token is active. It is also `false` for NULL: a missing result never lets a request through.
///
/// An inactive token is unknown, expired, revoked, or issued for another resource server; the authorization server
/// does not say which (RFC 7662 §2.2). Answer 401.
///
/// # Safety
/// `result` is NULL, or from this library and not freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_is_active(result: *const phantom_result) -> bool {
    boundary_or(false, || {
        // SAFETY: the caller's promise for `result`.
        unsafe { phantom_result::active(result) }.is_some()
    })
}

/// Returns whether the token is active and bound to a key of its sender (`cnf`). If so,
/// `phantom_result_authorization` and `phantom_result_jwt` return NULL until `phantom_policy_check` has let the
/// request pass. It is `false` for NULL.
///
/// # Safety
/// `result` is NULL, or from this library and not freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_is_bound(result: *const phantom_result) -> bool {
    boundary_or(false, || {
        // SAFETY: the caller's promise for `result`.
        unsafe { phantom_result::active(result) }.is_some_and(Active::is_bound)
    })
}

/// Returns the value of the `Authorization` header to send upstream, "Bearer eyJ…", and writes its length to
/// `length`. It returns NULL and 0 if the token is not active. It also returns NULL and 0 if the token is bound to a
/// key of its sender (`phantom_result_is_bound`) and `phantom_policy_check` has not let this result pass, because the
/// JWT is a bearer token. The text ends with a NUL. It is part of the result: never free it.
///
/// `length` may be NULL.
///
/// # Safety
/// - `result` is NULL, or from this library and not freed; the returned pointer is valid until `result` is freed.
/// - `length` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_authorization(
    result: *const phantom_result,
    length: *mut usize,
) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        // SAFETY: the caller's promises for `result` and `length`.
        unsafe { admitted_part(result, length, Active::authorization_after_sender_check) }
    })
}

/// Returns only the JWT (RFC 7519 §3), under the same rules as `phantom_result_authorization`.
///
/// # Safety
/// - `result` is NULL, or from this library and not freed; the returned pointer is valid until `result` is freed.
/// - `length` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_jwt(
    result: *const phantom_result,
    length: *mut usize,
) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        // SAFETY: the caller's promises for `result` and `length`.
        unsafe { admitted_part(result, length, Active::jwt_after_sender_check) }
    })
}

/// Returns all claims of the token as one JSON object, and writes its length to `length`. It returns NULL and 0 if
/// the token is not active. A bound token needs no policy check for this. The text ends with a NUL. It is part of the
/// result: never free it.
///
/// `length` may be NULL.
///
/// # Safety
/// - `result` is NULL, or from this library and not freed; the returned pointer is valid until `result` is freed.
/// - `length` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_claims(
    result: *const phantom_result,
    length: *mut usize,
) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        // SAFETY: the caller's promises for `result` and `length`.
        unsafe { part(result, length, |active| active.claims().json()) }
    })
}

/// Returns whether the token is active and was granted `scope`, a single scope (RFC 6749 §3.3). It is `false` for
/// NULL. If an active token lacks the required scope, answer 403.
///
/// # Safety
/// - `result` is NULL, or from this library and not freed.
/// - `scope` is NULL, or `scope_length` bytes at it can be read.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_has_scope(
    result: *const phantom_result,
    scope: *const c_char,
    scope_length: usize,
) -> bool {
    boundary_or(false, || {
        // SAFETY: the caller's promise for `result`.
        let Some(active) = (unsafe { phantom_result::active(result) }) else {
            return false;
        };
        // SAFETY: the caller's promise for `scope`.
        let Ok(scope) = (unsafe { super::boundary::bytes(scope, scope_length, "scope") }) else {
            return false;
        };
        !scope.is_empty()
            && active
                .claims()
                .scope
                .split(' ')
                .any(|granted| granted.as_bytes() == scope)
    })
}

/// Returns the expiry time of the token, in seconds since the epoch (`exp`, RFC 7519 §4.1.4), or -1 if it has none or
/// is not active.
///
/// # Safety
/// `result` is NULL, or from this library and not freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_expires_at(result: *const phantom_result) -> i64 {
    boundary_or(-1, || {
        // SAFETY: the caller's promise for `result`.
        unsafe { phantom_result::active(result) }
            .and_then(Active::exp)
            .unwrap_or(-1)
    })
}

/// Returns the cache status of the verdict; `PHANTOM_CACHE_NONE` for NULL.
///
/// # Safety
/// `result` is NULL, or from this library.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_cache_status(
    result: *const phantom_result,
) -> phantom_cache_status {
    // NULL has no bit set, and 0 is `PHANTOM_CACHE_NONE`.
    boundary_or(PHANTOM_CACHE_NONE, || Reference::cache(result))
}

/// Returns the name of a cache status for logs: "HIT", "MISS", "COALESCED", …, or "-" for `PHANTOM_CACHE_NONE`. It is
/// never NULL, also for a number that is not a cache status, and must not be freed.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_cache_status_string(cache_status: i32) -> *const c_char {
    boundary_or(c"-".as_ptr(), || {
        let word: &CStr = match phantom_cache_status::ALL
            .into_iter()
            .find(|known| *known as i32 == cache_status)
        {
            Some(PHANTOM_CACHE_HIT) => c"HIT",
            Some(PHANTOM_CACHE_MISS) => c"MISS",
            Some(PHANTOM_CACHE_COALESCED) => c"COALESCED",
            Some(PHANTOM_CACHE_SHARED) => c"SHARED",
            Some(PHANTOM_CACHE_STALE) => c"STALE",
            Some(PHANTOM_CACHE_NONE) | None => c"-",
        };
        word.as_ptr()
    })
}

/// A text of an active verdict, as pointer and length.
///
/// # Safety
/// - `result` is NULL, or from [`phantom_result::into_raw`] and not freed; the returned pointer is valid until
///   `result` is freed.
/// - `length` is NULL or can be written to.
/// - A NUL follows the text that `part` selects.
unsafe fn part(
    result: *const phantom_result,
    length: *mut usize,
    part: impl FnOnce(&Active) -> &str,
) -> *const c_char {
    // SAFETY: this function's contract for `result`.
    let text = unsafe { phantom_result::active(result) }.map(part);
    // SAFETY: this function's contract for `length`.
    unsafe { lent(text, length) }
}

/// Like [`part`], but NULL for a bound token that no policy check has admitted.
///
/// # Safety
/// As for [`part`].
unsafe fn admitted_part(
    result: *const phantom_result,
    length: *mut usize,
    part: impl FnOnce(&Active) -> &str,
) -> *const c_char {
    // SAFETY: this function's contract for `result`.
    let text = unsafe { phantom_result::admitted(result) }.map(part);
    // SAFETY: this function's contract for `length`.
    unsafe { lent(text, length) }
}

/// # Safety
/// `length` is NULL or can be written to.
unsafe fn lent(text: Option<&str>, length: *mut usize) -> *const c_char {
    // SAFETY: this function's contract.
    unsafe { Output::optional(length) }.write(text.map_or(0, str::len));
    text.map_or(std::ptr::null(), |text| text.as_ptr().cast())
}
