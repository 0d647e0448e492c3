//! What stands between C and Rust: no panic gets out, no NULL gets in, and what went wrong is remembered for
//! `phantom_last_error`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::status::phantom_status;
use crate::gateway::requirements::PolicyError;
use crate::{ConfigError, Error, TokenError};

/// Why a function did not do what it was asked.
pub(super) struct Failure {
    status: phantom_status,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
}

/// What a function that can fail comes to: `Ok` also for the statuses that are no failure.
pub(super) type Outcome = Result<phantom_status, Failure>;

impl Failure {
    pub(super) fn new(status: phantom_status, message: impl Into<Cow<'static, str>>) -> Self {
        Failure {
            status,
            message: message.into(),
            retry_after: None,
        }
    }

    /// A pointer that must not be NULL is.
    fn null(argument: &str) -> Self {
        Failure::new(
            phantom_status::PHANTOM_INVALID_ARGUMENT,
            format!("{argument} is NULL"),
        )
    }

    /// Leaves the message for `phantom_last_error` on this thread, and returns the status.
    pub(super) fn record(self) -> phantom_status {
        let mut message = self.message.into_owned();
        // A message names what an operator wrote; a NUL in it must not cut it short.
        if message.contains('\0') {
            message = message.replace('\0', "\u{fffd}");
        }
        let message = CString::new(message).unwrap_or_default();
        // A thread that is ending has no place for it any more; the status says enough then.
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

/// The text of this thread's last failure: stays where it is until the next one.
pub(super) fn last_message() -> *const c_char {
    LAST_FAILURE
        .try_with(|last| last.borrow().as_ref().map(|last| last.message.as_ptr()))
        .ok()
        .flatten()
        .unwrap_or(c"".as_ptr())
}

/// When trying again may help, by this thread's last failure.
pub(super) fn last_retry_after() -> Option<Duration> {
    LAST_FAILURE
        .try_with(|last| last.borrow().as_ref().and_then(|last| last.retry_after))
        .ok()
        .flatten()
}

/// Runs the body of a function that returns a status. A panic ends here.
pub(super) fn boundary(body: impl FnOnce() -> Outcome) -> phantom_status {
    match guard(body) {
        Ok(Ok(status)) => status,
        Ok(Err(failure)) | Err(failure) => failure.record(),
    }
}

/// Runs the body of a function that returns a plain value; `default` if it panics.
pub(super) fn boundary_or<T>(default: T, body: impl FnOnce() -> T) -> T {
    guard(body).unwrap_or_else(|failure| {
        failure.record();
        default
    })
}

fn guard<T>(body: impl FnOnce() -> T) -> Result<T, Failure> {
    // Unwind safety: what a panic may have left half done is either a local of `body`, which is gone, or behind
    // locks and atomics of the core, which keep their invariants at every point that can panic.
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        // Dropping a payload may panic in turn; and its text is not ours to show, as it might quote a token.
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
    // No object is larger; such a length is a negative number that lost its sign on the way here.
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

/// What `pointer` points to.
///
/// # Safety
/// `pointer` is NULL, or a `T` at it is alive and nobody has it exclusively during `'a`.
pub(super) unsafe fn shared<'a, T>(pointer: *const T, argument: &str) -> Result<&'a T, Failure> {
    // SAFETY: `as_ref` answers `None` for NULL; otherwise the contract is the same.
    unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(argument))
}

/// What `pointer` points to, to change it.
///
/// # Safety
/// `pointer` is NULL, or a `T` at it is alive and nobody else uses it during `'a`.
pub(super) unsafe fn exclusive<'a, T>(
    pointer: *mut T,
    argument: &str,
) -> Result<&'a mut T, Failure> {
    // SAFETY: `as_mut` answers `None` for NULL; otherwise the contract is the same.
    unsafe { pointer.as_mut() }.ok_or_else(|| Failure::null(argument))
}

/// Where an output goes: known not to be NULL before anything is done, written once all has been done.
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

    /// For an output that the caller may not want: NULL is fine.
    ///
    /// # Safety
    /// As for [`Output::required`].
    pub(super) unsafe fn optional(pointer: *mut T) -> Self {
        Output(pointer)
    }

    pub(super) fn write(self, value: T) {
        self.write_with(|| value);
    }

    /// The same with a value that is only made if it is wanted.
    pub(super) fn write_with(self, value: impl FnOnce() -> T) {
        if !self.0.is_null() {
            let value = value();
            // SAFETY: storage for a `T` by the contract of the constructor. What was there is not dropped: to C it
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
