//! The boundary between C and Rust: it stops panics, rejects NULL, and stores the last error for
//! `phantom_last_error`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::status::phantom_status;
use crate::gateway::requirements::PolicyError;
use crate::{ConfigError, Error, TokenError};

/// The error of a function: status, message, and when to retry.
pub(super) struct Failure {
    status: phantom_status,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
}

/// The result of a function that can fail. `Ok` also holds the statuses that are not failures.
pub(super) type Outcome = Result<phantom_status, Failure>;

impl Failure {
    pub(super) fn new(status: phantom_status, message: impl Into<Cow<'static, str>>) -> Self {
        Failure {
            status,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The error for a required pointer that is NULL.
    fn null(argument: &str) -> Self {
        Failure::new(
            phantom_status::PHANTOM_INVALID_ARGUMENT,
            format!("{argument} is NULL"),
        )
    }

    /// Stores the message for `phantom_last_error` on this thread, and returns the status.
    pub(super) fn record(self) -> phantom_status {
        let mut message = self.message.into_owned();
        // A message quotes the operator's configuration; a NUL in it must not truncate it.
        if message.contains('\0') {
            message = message.replace('\0', "\u{fffd}");
        }
        let message = CString::new(message).unwrap_or_default();
        // A thread that is ending has no thread-local storage any more; then only the status is returned.
        let _ = LAST_FAILURE.try_with(|last| {
            *last.borrow_mut() = Some(Last {
                message,
                retry_after: self.retry_after,
            });
        });
        self.status
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure {
            status: error.kind().into(),
            message: error.message().to_owned().into(),
            retry_after: error.retry_after(),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::new(phantom_status::PHANTOM_CONFIG, error.to_string())
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        Failure::new(phantom_status::PHANTOM_CONFIG, error.to_string())
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Failure::new(phantom_status::PHANTOM_INVALID_TOKEN, error.to_string())
    }
}

struct Last {
    message: CString,
    retry_after: Option<Duration>,
}

thread_local! {
    static LAST_FAILURE: RefCell<Option<Last>> = const { RefCell::new(None) };
}

/// The message of this thread's last failure. The pointer stays valid until the next failure.
pub(super) fn last_message() -> *const c_char {
    LAST_FAILURE
        .try_with(|last| last.borrow().as_ref().map(|last| last.message.as_ptr()))
        .ok()
        .flatten()
        .unwrap_or(c"".as_ptr())
}

/// The retry delay of this thread's last failure, if known.
pub(super) fn last_retry_after() -> Option<Duration> {
    LAST_FAILURE
        .try_with(|last| last.borrow().as_ref().and_then(|last| last.retry_after))
        .ok()
        .flatten()
}

/// Runs the body of a function that returns a status. A panic stops here.
pub(super) fn boundary(body: impl FnOnce() -> Outcome) -> phantom_status {
    match guard(body) {
        Ok(Ok(status)) => status,
        Ok(Err(failure)) | Err(failure) => failure.record(),
    }
}

/// Runs the body of a function that returns a plain value. Returns `default` if it panics.
pub(super) fn boundary_or<T>(default: T, body: impl FnOnce() -> T) -> T {
    guard(body).unwrap_or_else(|failure| {
        failure.record();
        default
    })
}

fn guard<T>(body: impl FnOnce() -> T) -> Result<T, Failure> {
    // Unwind safety: state that a panic may have left half updated is either local to `body`, and dropped, or behind
    // locks and atomics of the core, which keep their invariants at every point that can panic.
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        // Dropping a payload may panic too. Its text must not be shown, as it might quote a token.
        std::mem::forget(payload);
        Failure::new(
            phantom_status::PHANTOM_PANIC,
            "a defect of libphantom_token: it panicked; please report it",
        )
    })
}

/// The bytes at `pointer`.
///
/// # Safety
/// `pointer` is NULL, or `length` bytes at it can be read and do not change during `'a`.
pub(super) unsafe fn bytes<'a>(
    pointer: *const c_char,
    length: usize,
    argument: &str,
) -> Result<&'a [u8], Failure> {
    if pointer.is_null() {
        return Err(Failure::null(argument));
    }
    // No object is larger; such a length is a negative number that was converted to unsigned.
    if isize::try_from(length).is_err() {
        return Err(Failure::new(
            phantom_status::PHANTOM_INVALID_ARGUMENT,
            format!("the length of {argument} is beyond all memory"),
        ));
    }
    // SAFETY: not NULL and not longer than `isize::MAX` (checked above); readable and unchanging for `'a` by this
    // function's own contract; a byte needs no alignment and any value of it is valid.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}

/// The text at `pointer`.
///
/// # Safety
/// As for [`bytes`].
pub(super) unsafe fn text<'a>(
    pointer: *const c_char,
    length: usize,
    argument: &str,
) -> Result<&'a str, Failure> {
    // SAFETY: the contract is the same.
    utf8(unsafe { bytes(pointer, length, argument) }?, argument)
}

/// The text at `pointer`, up to a NUL.
///
/// # Safety
/// `pointer` is NULL, or a NUL follows at it, all bytes up to which can be read and do not change during `'a`.
pub(super) unsafe fn text_to_nul<'a>(
    pointer: *const c_char,
    argument: &str,
) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(Failure::null(argument));
    }
    // SAFETY: not NULL (checked above); terminated, readable and unchanging by this function's own contract.
    utf8(unsafe { CStr::from_ptr(pointer) }.to_bytes(), argument)
}

fn utf8<'a>(bytes: &'a [u8], argument: &str) -> Result<&'a str, Failure> {
    std::str::from_utf8(bytes).map_err(|_| {
        Failure::new(
            phantom_status::PHANTOM_INVALID_ARGUMENT,
            format!("{argument} is not UTF-8"),
        )
    })
}

/// A shared reference to the object at `pointer`.
///
/// # Safety
/// `pointer` is NULL, or a `T` at it is alive and nobody has it exclusively during `'a`.
pub(super) unsafe fn shared<'a, T>(pointer: *const T, argument: &str) -> Result<&'a T, Failure> {
    // SAFETY: `as_ref` returns `None` for NULL; otherwise the contract is the same.
    unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(argument))
}

/// An exclusive reference to the object at `pointer`.
///
/// # Safety
/// `pointer` is NULL, or a `T` at it is alive and nobody else uses it during `'a`.
pub(super) unsafe fn exclusive<'a, T>(
    pointer: *mut T,
    argument: &str,
) -> Result<&'a mut T, Failure> {
    // SAFETY: `as_mut` returns `None` for NULL; otherwise the contract is the same.
    unsafe { pointer.as_mut() }.ok_or_else(|| Failure::null(argument))
}

/// An output parameter: checked for NULL before the function does anything, written once everything has succeeded.
pub(super) struct Output<T>(*mut T);

impl<T> Output<T> {
    /// # Safety
    /// `pointer` is NULL, or aligned storage for a `T` that nobody else uses until the function returns.
    pub(super) unsafe fn required(pointer: *mut T, argument: &str) -> Result<Self, Failure> {
        if pointer.is_null() {
            return Err(Failure::null(argument));
        }
        Ok(Output(pointer))
    }

    /// An optional output: NULL is allowed.
    ///
    /// # Safety
    /// As for [`Output::required`].
    pub(super) unsafe fn optional(pointer: *mut T) -> Self {
        Output(pointer)
    }

    pub(super) fn write(self, value: T) {
        self.write_with(|| value);
    }

    /// Like `write`, but makes the value only if the output is not NULL.
    pub(super) fn write_with(self, value: impl FnOnce() -> T) {
        if !self.0.is_null() {
            let value = value();
            // SAFETY: storage for a `T` by the contract of the constructor. The old content is not dropped: to C it
            // was uninitialised.
            unsafe { self.0.write(value) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> String {
        // SAFETY: terminated, and alive until this thread's next failure.
        unsafe { CStr::from_ptr(last_message()) }
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn a_panic_ends_at_the_boundary_and_its_text_is_not_shown() {
        let status = boundary(|| panic!("quotes a secret"));
        assert_eq!(status, phantom_status::PHANTOM_PANIC);
        assert!(!last().contains("secret"), "{}", last());
        assert!(last().contains("panicked"), "{}", last());
        assert_eq!(boundary_or(7, || panic!("again")), 7);
    }

    #[test]
    fn a_failure_is_remembered_by_its_own_thread_until_the_next_one() {
        std::thread::spawn(|| {
            assert_eq!(last(), "");
            let status = boundary(|| Err(Failure::null("token")));
            assert_eq!(status, phantom_status::PHANTOM_INVALID_ARGUMENT);
            assert_eq!(
                boundary(|| Ok(phantom_status::PHANTOM_OK)),
                phantom_status::PHANTOM_OK
            );
            assert_eq!(last(), "token is NULL");
            std::thread::spawn(|| assert_eq!(last(), ""))
                .join()
                .unwrap();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_nul_in_a_message_does_not_cut_it_short() {
        Failure::new(phantom_status::PHANTOM_CONFIG, "a\0b").record();
        assert_eq!(last(), "a\u{fffd}b");
    }

    #[test]
    fn a_length_beyond_all_memory_is_refused() {
        let byte = b'x';
        // SAFETY: the length is refused before anything is read.
        let refused = unsafe { bytes((&raw const byte).cast(), usize::MAX, "token") };
        assert!(refused.is_err());
    }
}
