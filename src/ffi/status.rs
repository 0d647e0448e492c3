//! Statuses and errors.
//!
//! A status is for the program; the message of `phantom_last_error` is for the operator. An error says nothing about
//! the token: after an error, do not let the request through.

use std::ffi::{CStr, c_char};

use super::boundary::{boundary_or, last_message, last_retry_after};
use crate::ErrorKind;

/// The status of a call.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum phantom_status {
    /// Success. After resolving a token: there is a verdict, active or inactive.
    PHANTOM_OK = 0,
    /// The request was submitted: `phantom_client_dispatch` delivers the answer.
    PHANTOM_PENDING = 1,
    /// Not found: the token is not in memory, or no such request is pending.
    PHANTOM_NOT_FOUND = 2,
    /// The policy denies the request.
    PHANTOM_DENIED = 3,

    /// A pointer is NULL, text is not UTF-8, or a number is out of range: a bug in the calling program.
    PHANTOM_INVALID_ARGUMENT = 10,
    /// The token is empty, longer than 8192 bytes, or has a byte that RFC 6750 does not allow.
    PHANTOM_INVALID_TOKEN = 11,
    /// A setting is unknown, missing, contradictory, or names a file that cannot be read.
    PHANTOM_CONFIG = 12,
    /// The operating system has no thread or file descriptor left.
    PHANTOM_SYSTEM = 13,

    /// No answer: name resolution, connection or TLS failed, or the connection was lost before the answer was
    /// complete.
    PHANTOM_UNREACHABLE = 20,
    /// The answer cannot be used: wrong protocol, wrong dialect, too large, or not a JWT.
    PHANTOM_BAD_ANSWER = 21,
    /// The authorization server rejects the credentials of this client, not the token.
    PHANTOM_CLIENT_REFUSED = 22,
    /// The authorization server reports that it is busy: see `phantom_last_error_retry_after`.
    PHANTOM_BUSY = 23,
    /// The configured limit of calls in progress, or of waiting requests, is reached.
    PHANTOM_OVERLOADED = 24,
    /// There was no verdict within the timeout.
    PHANTOM_TIMEOUT = 25,
    /// The client has been stopped.
    PHANTOM_STOPPED = 26,
    /// The client was started before a fork, in the parent process: start one in this process.
    PHANTOM_FORKED = 27,
    /// The authorization server has failed so often (`max_fails`) that it is not called for a while.
    PHANTOM_CIRCUIT_OPEN = 28,

    /// A bug in this library, detected by a check.
    PHANTOM_INTERNAL = 30,
    /// A bug in this library: a panic, stopped at the C boundary.
    PHANTOM_PANIC = 31,
}

use phantom_status::*;

impl phantom_status {
    /// All statuses.
    pub(super) const ALL: [phantom_status; 19] = [
        PHANTOM_OK,
        PHANTOM_PENDING,
        PHANTOM_NOT_FOUND,
        PHANTOM_DENIED,
        PHANTOM_INVALID_ARGUMENT,
        PHANTOM_INVALID_TOKEN,
        PHANTOM_CONFIG,
        PHANTOM_SYSTEM,
        PHANTOM_UNREACHABLE,
        PHANTOM_BAD_ANSWER,
        PHANTOM_CLIENT_REFUSED,
        PHANTOM_BUSY,
        PHANTOM_OVERLOADED,
        PHANTOM_TIMEOUT,
        PHANTOM_STOPPED,
        PHANTOM_FORKED,
        PHANTOM_CIRCUIT_OPEN,
        PHANTOM_INTERNAL,
        PHANTOM_PANIC,
    ];

    /// The status with this number. C may pass any number.
    fn from_number(number: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|status| *status as i32 == number)
    }

    /// The core's error kind for this status, if there is one.
    pub(super) fn kind(number: i32) -> Option<ErrorKind> {
        ErrorKind::ALL
            .iter()
            .copied()
            .find(|kind| phantom_status::from(*kind) as i32 == number)
    }

    fn description(self) -> &'static CStr {
        match self {
            PHANTOM_OK => c"done",
            PHANTOM_PENDING => c"the answer is still to come",
            PHANTOM_NOT_FOUND => c"there is none",
            PHANTOM_DENIED => c"the policy denies it",
            PHANTOM_INVALID_ARGUMENT => c"an argument is invalid",
            PHANTOM_INVALID_TOKEN => c"the access token is malformed",
            PHANTOM_CONFIG => c"the configuration is invalid",
            PHANTOM_SYSTEM => c"the operating system has no thread or file descriptor left",
            PHANTOM_UNREACHABLE => c"the authorization server cannot be reached",
            PHANTOM_BAD_ANSWER => c"the authorization server's answer cannot be used",
            PHANTOM_CLIENT_REFUSED => c"the authorization server refuses this client's credentials",
            PHANTOM_BUSY => c"the authorization server is busy",
            PHANTOM_OVERLOADED => c"too many requests are waiting",
            PHANTOM_TIMEOUT => c"the authorization server did not answer in time",
            PHANTOM_STOPPED => c"the client has been stopped",
            PHANTOM_FORKED => c"the client belongs to another process",
            PHANTOM_CIRCUIT_OPEN => {
                c"the authorization server has failed too often and is not asked for a while"
            }
            PHANTOM_INTERNAL => c"a defect of libphantom_token",
            PHANTOM_PANIC => c"a defect of libphantom_token: it panicked",
        }
    }

    fn http(self) -> u16 {
        match self {
            PHANTOM_OK | PHANTOM_PENDING | PHANTOM_NOT_FOUND => 0,
            PHANTOM_DENIED => 403,
            PHANTOM_INVALID_TOKEN => 400,
            PHANTOM_INVALID_ARGUMENT | PHANTOM_CONFIG | PHANTOM_SYSTEM => 500,
            PHANTOM_PANIC => ErrorKind::Internal.http_status(),
            PHANTOM_UNREACHABLE
            | PHANTOM_BAD_ANSWER
            | PHANTOM_CLIENT_REFUSED
            | PHANTOM_BUSY
            | PHANTOM_OVERLOADED
            | PHANTOM_TIMEOUT
            | PHANTOM_STOPPED
            | PHANTOM_FORKED
            | PHANTOM_CIRCUIT_OPEN
            | PHANTOM_INTERNAL => Self::kind(self as i32).map_or(500, ErrorKind::http_status),
        }
    }
}

impl From<ErrorKind> for phantom_status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Unreachable => PHANTOM_UNREACHABLE,
            ErrorKind::BadAnswer => PHANTOM_BAD_ANSWER,
            ErrorKind::ClientRefused => PHANTOM_CLIENT_REFUSED,
            ErrorKind::Busy => PHANTOM_BUSY,
            ErrorKind::Overloaded => PHANTOM_OVERLOADED,
            ErrorKind::Timeout => PHANTOM_TIMEOUT,
            ErrorKind::Stopped => PHANTOM_STOPPED,
            ErrorKind::Forked => PHANTOM_FORKED,
            ErrorKind::Internal => PHANTOM_INTERNAL,
            ErrorKind::CircuitOpen => PHANTOM_CIRCUIT_OPEN,
        }
    }
}

/// Returns a short description of a status. It is never NULL, also for a number that is not a status, and must not be
/// freed.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_status_string(status: i32) -> *const c_char {
    boundary_or(c"".as_ptr(), || {
        phantom_status::from_number(status)
            .map_or(c"not a status", phantom_status::description)
            .as_ptr()
    })
}

/// Returns the HTTP status (RFC 9110 §15) with which a gateway answers a request that ended with this status:
/// - 502: the authorization server or its answer is at fault.
/// - 503: retrying later helps.
/// - 504: the authorization server was too slow.
/// - 400: the token is malformed.
/// - 500: this program or its configuration is at fault, or the number is not a status.
/// - 403: `PHANTOM_DENIED`; prefer the status of the denial, which is more exact.
/// - 0: `PHANTOM_OK`, `PHANTOM_PENDING` and `PHANTOM_NOT_FOUND`, which are not failures.
///
/// An inactive token is a verdict, not a failure: answer 401.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_status_http(status: i32) -> i32 {
    boundary_or(500, || {
        phantom_status::from_number(status).map_or(500, |status| i32::from(status.http()))
    })
}

/// Returns the message of the last failed call on this thread, for a log: the cause, and how to fix it. It is "" if
/// no call has failed, and never NULL. It stays valid until the next call on this thread, and must not be freed.
///
/// In a callback of `phantom_client_submit` it is the message of that request.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_last_error() -> *const c_char {
    boundary_or(c"".as_ptr(), last_message)
}

/// Returns after how many seconds a retry may succeed, for the failure that `phantom_last_error` describes. The value
/// is the `Retry-After` of the authorization server (RFC 9110 §10.2.3), or after `PHANTOM_CIRCUIT_OPEN` the time
/// until the server is called again. It is -1 if not known.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_last_error_retry_after() -> i64 {
    boundary_or(-1, || {
        last_retry_after().map_or(-1, |after| {
            // Rounded up: a retry that is too early fails.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            i64::try_from(seconds).unwrap_or(i64::MAX)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_a_status_of_its_own_and_keeps_its_http_status() {
        let mut seen = Vec::new();
        for &kind in ErrorKind::ALL {
            let status = phantom_status::from(kind);
            assert!(!seen.contains(&status), "{status:?}");
            seen.push(status);
            assert_eq!(phantom_status::kind(status as i32), Some(kind));
            assert_eq!(
                phantom_status_http(status as i32),
                i32::from(kind.http_status())
            );
        }
    }

    #[test]
    fn a_number_that_is_no_status_has_words_and_fails_closed() {
        for number in [-1, 4, 99, i32::MIN, i32::MAX] {
            // SAFETY: terminated and static.
            let words = unsafe { CStr::from_ptr(phantom_status_string(number)) };
            assert_eq!(words, c"not a status");
            assert_eq!(phantom_status_http(number), 500);
        }
    }
}
