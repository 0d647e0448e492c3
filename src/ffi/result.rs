//! Results.
//!
//! A result is a verdict and where it came from. It never changes, and asking it costs nothing: the JWT is not copied,
//! the result and the cache share one. It stays valid until it is freed, whatever becomes of the cache and the client.

use std::ffi::{CStr, c_char};
use std::sync::Arc;

use super::boundary::{Output, boundary_or};
use crate::{Active, CacheStatus, Resolution, Verdict};

/// Where a verdict came from.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum phantom_cache_status {
    /// Nowhere: there is no result.
    PHANTOM_CACHE_NONE = 0,
    /// It was remembered.
    PHANTOM_CACHE_HIT = 1,
    /// The authorization server was asked for it.
    PHANTOM_CACHE_MISS = 2,
    /// Another request had already asked; this one shared its answer.
    PHANTOM_CACHE_COALESCED = 3,
    /// It was remembered in the store that is shared with others.
    PHANTOM_CACHE_SHARED = 4,
    /// It was remembered and is past its time: the authorization server can't be asked, and `stale_if_error` allows it.
    PHANTOM_CACHE_STALE = 5,
}

use phantom_cache_status::*;

impl phantom_cache_status {
    /// All of them, each at the index of its number.
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

/// A verdict on a token, and where it came from. Made by `phantom_client_resolve`, `phantom_client_lookup` and
/// `phantom_client_submit`.
pub struct phantom_result {
    // Never made: what C holds as a pointer to this is a tagged pointer, see `Reference`.
    _never_made: [u8; 0],
}

/// What a pointer to a [`phantom_result`] really is: an `Arc<Active>` turned raw, or the address of [`INACTIVE`], with
/// the [`phantom_cache_status`] in its low bits. So a hit hands out the cache's own verdict without allocating.
struct Reference;

/// What all inactive verdicts point to. Not of size zero, so that no allocation can have its address.
static INACTIVE: Inactive = Inactive(0);

#[repr(align(8))]
struct Inactive(#[allow(dead_code, reason = "only its address is of use")] u8);

/// The bits that hold the cache status.
const TAG: usize = 0b111;

// The bits are free in every address that is tagged, and hold every status.
const _: () = assert!(
    align_of::<Active>() > TAG
        && align_of::<Inactive>() > TAG
        && phantom_cache_status::ALL.len() <= TAG + 1
);

impl Reference {
    fn untagged(result: *const phantom_result) -> *const phantom_result {
        result.map_addr(|address| address & !TAG)
    }

    fn cache(result: *const phantom_result) -> phantom_cache_status {
        // The index is at most `TAG`, and there are as many statuses (asserted above for the other direction).
        phantom_cache_status::ALL
            .get(result.addr() & TAG)
            .copied()
            .unwrap_or(PHANTOM_CACHE_NONE)
    }

    /// The verdict's `Active`, as [`Arc::into_raw`] gave it; `None` for NULL and for an inactive verdict.
    fn active(result: *const phantom_result) -> Option<*const Active> {
        let address = Self::untagged(result);
        let inactive = (&raw const INACTIVE).cast();
        (!address.is_null() && address != inactive).then(|| address.cast())
    }
}

impl phantom_result {
    /// Hands a verdict over to C, to be taken back by `phantom_result_free`.
    pub(super) fn into_raw(resolution: Resolution) -> *mut phantom_result {
        let tag = phantom_cache_status::from(resolution.cache) as usize;
        let address: *const phantom_result = match resolution.verdict {
            Verdict::Active(active) => Arc::into_raw(active).cast(),
            Verdict::Inactive => (&raw const INACTIVE).cast(),
        };
        address.map_addr(|address| address | tag).cast_mut()
    }

    /// The active verdict that C refers to by `result`, if it is one.
    ///
    /// # Safety
    /// `result` is NULL, or from [`phantom_result::into_raw`] and not freed during `'a`.
    pub(super) unsafe fn active<'a>(result: *const phantom_result) -> Option<&'a Active> {
        // SAFETY: neither NULL nor `INACTIVE`, so by the contract it is what `Arc::into_raw` returned (the tag is
        // gone, and `map_addr` keeps the provenance); the reference that `into_raw` took over keeps the `Active` alive
        // until it is freed, and an `Arc` never gives exclusive access while there is another reference.
        Reference::active(result).map(|active| unsafe { &*active })
    }
}

/// Frees a result. NULL is fine.
///
/// # Safety
/// `result` is NULL, or from this library and not freed as often as it was obtained and retained.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_free(result: *mut phantom_result) {
    boundary_or((), || {
        if let Some(active) = Reference::active(result) {
            // SAFETY: it came from `Arc::into_raw` (neither NULL nor `INACTIVE`), and the caller gives up one of the
            // references that were handed out for it.
            drop(unsafe { Arc::from_raw(active) });
        }
    })
}

/// Gives the same result a second owner, and returns it: each has to free it once. NULL gives NULL.
///
/// # Safety
/// `result` is NULL, or from this library and not freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_retain(
    result: *const phantom_result,
) -> *mut phantom_result {
    boundary_or(std::ptr::null_mut(), || {
        if let Some(active) = Reference::active(result) {
            // SAFETY: it came from `Arc::into_raw` (neither NULL nor `INACTIVE`), and the caller's own reference keeps
            // it alive meanwhile.
            unsafe { Arc::increment_strong_count(active) };
        }
        result.cast_mut()
    })
}

/// Returns whether the token is active. `false` also for NULL: no result lets a request through.
///
/// An inactive token is unknown, expired, revoked, or not meant for us; the authorization server does not say which
/// (RFC 7662 §2.2). Answer 401.
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

/// Returns the value of the `Authorization` header to send upstream, "Bearer eyJ…", and writes its length to `length`;
/// NULL and 0 if the token is not active. It has a NUL behind it, and is part of the result: never free it.
///
/// `length` may be NULL.
///
/// # Safety
/// - `result` is NULL, or from this library and not freed; what is returned is gone with it.
/// - `length` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_authorization(
    result: *const phantom_result,
    length: *mut usize,
) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        // SAFETY: the caller's promises for `result` and `length`.
        unsafe { part(result, length, Active::authorization) }
    })
}

/// Returns the JWT alone (RFC 7519 §3), like `phantom_result_authorization`.
///
/// # Safety
/// - `result` is NULL, or from this library and not freed; what is returned is gone with it.
/// - `length` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_result_jwt(
    result: *const phantom_result,
    length: *mut usize,
) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        // SAFETY: the caller's promises for `result` and `length`.
        unsafe { part(result, length, Active::jwt) }
    })
}

/// Returns all that is claimed of the token, as one JSON object, like `phantom_result_authorization`.
///
/// # Safety
/// - `result` is NULL, or from this library and not freed; what is returned is gone with it.
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

/// Returns whether the token is active and was granted `scope`, one scope of RFC 6749 §3.3. `false` also for NULL.
/// An active token without the scope that you require is worth a 403.
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

/// Returns when the token expires, in seconds since the epoch (`exp`, RFC 7519 §4.1.4), or -1 if it does not say or is
/// not active.
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

/// Returns where the verdict came from; `PHANTOM_CACHE_NONE` for NULL.
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

/// Returns the word for it in logs: "HIT", "MISS", "COALESCED", or "-" for `PHANTOM_CACHE_NONE`. It is never NULL, also
/// for a number that is no cache status, and never freed.
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

/// A part of an active verdict, as C wants it.
///
/// # Safety
/// - `result` is NULL, or from [`phantom_result::into_raw`] and not freed; the pointer returned is good as long.
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
    unsafe { Output::optional(length) }.write(text.map_or(0, str::len));
    text.map_or(std::ptr::null(), |text| text.as_ptr().cast())
}
