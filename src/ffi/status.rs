//! Statuses and errors.
//!
//! A status says what a program can do about it; `phantom_last_error` says what an operator can. An error never says
//! anything of the token: whoever gets one must not let the request through.

use std::ffi::{CStr, c_char};

use super::boundary::{boundary_or, last_message, last_retry_after};
use crate::ErrorKind;

/// What came of a call.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum phantom_status {
    /// Done. Of a resolved token: there is a verdict, active or inactive.
    PHANTOM_OK = 0,
    /// Submitted: the answer comes through `phantom_client_dispatch`.
    PHANTOM_PENDING = 1,
    /// There is none: memory knows nothing of the token, or no such request is pending.
    PHANTOM_NOT_FOUND = 2,
    /// The request may not pass: the policy denies it.
    PHANTOM_DENIED = 3,

    /// A pointer is NULL, text is not UTF-8, or a number is out of range: the program is at fault.
    PHANTOM_INVALID_ARGUMENT = 10,
    /// The token is empty, longer than 8192 bytes, or has a byte that RFC 6750 does not allow.
    PHANTOM_INVALID_TOKEN = 11,
    /// A setting is unknown, missing, contradictory, or names a file that cannot be read.
    PHANTOM_CONFIG = 12,
    /// The operating system has no thread or file descriptor left.
    PHANTOM_SYSTEM = 13,

    /// No answer: name resolution, connection or TLS failed, or the connection was lost before the answer was whole.
    PHANTOM_UNREACHABLE = 20,
    /// The answer cannot be used: not the protocol, not the dialect, too large, not a JWT.
    PHANTOM_BAD_ANSWER = 21,
    /// The authorization server refuses the credentials of this client, not the token.
    PHANTOM_CLIENT_REFUSED = 22,
    /// The authorization server says that it is busy: see `phantom_last_error_retry_after`.
    PHANTOM_BUSY = 23,
    /// As many calls are under way, or requests waiting, as the configuration allows.
    PHANTOM_OVERLOADED = 24,
    /// No verdict in time.
    PHANTOM_TIMEOUT = 25,
    /// The client has been stopped.
    PHANTOM_STOPPED = 26,
    /// The client was started in another process, of which this one is a fork: start one here.
    PHANTOM_FORKED = 27,
    /// The authorization server has failed so often (`max_fails`) that it is not asked for a while.
    PHANTOM_CIRCUIT_OPEN = 28,

    /// A defect of this library, found in time.
    PHANTOM_INTERNAL = 30,
    /// A defect of this library, stopped at its border.
    PHANTOM_PANIC = 31,
}

use phantom_status::*;

impl phantom_status {
    /// All of them.
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

    /// The status of a number that came from C, which may be any.
    fn from_number(number: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|status| *status as i32 == number)
    }

    /// The kind of error that it stands for, if it is one of the core's.
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

/// Returns what a status means, in a few words. It is never NULL, also for a number that is no status, and never
/// freed.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_status_string(status: i32) -> *const c_char {
    boundary_or(c"".as_ptr(), || {
        phantom_status::from_number(status)
            .map_or(c"not a status", phantom_status::description)
            .as_ptr()
    })
}

/// Returns the HTTP status (RFC 9110 §15) that a gateway answers a request with for this: 502 when the authorization
/// server or its answer is at fault, 503 when trying again later helps, 504 when it was too slow, 400 for a malformed
/// token, 500 when this program or its configuration is at fault, as also for a number that is no status. 0 for
/// `PHANTOM_OK`, `PHANTOM_PENDING` and `PHANTOM_NOT_FOUND`, which are no failures. 403 for `PHANTOM_DENIED`, of which the
/// denial knows better.
///
/// An inactive token is not a failure but a verdict: answer 401.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_status_http(status: i32) -> i32 {
    boundary_or(500, || {
        phantom_status::from_number(status).map_or(500, |status| i32::from(status.http()))
    })
}

/// Returns what went wrong in the last call on this thread that failed, and what to do about it, for a log; "" if
/// none has. It is never NULL. It stays valid until the next call on this thread, and is never freed.
///
/// In a callback of `phantom_client_submit` it is about that request.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_last_error() -> *const c_char {
    boundary_or(c"".as_ptr(), last_message)
}

/// Returns after how many seconds trying again may help, as the authorization server said along with the failure
/// that `phantom_last_error` is about (`Retry-After`, RFC 9110 §10.2.3), or when it is asked again after
/// `PHANTOM_CIRCUIT_OPEN`; -1 if that is not known.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_last_error_retry_after() -> i64 {
    boundary_or(-1, || {
        last_retry_after().map_or(-1, |after| {
            // Rounded up: too early is of no use.
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
