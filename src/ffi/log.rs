//! Log.
//!
//! A client logs little: that the authorization server fails, why, and how to fix it; and that it answers again. The
//! same line is rate limited. No line contains a token, a JWT or a secret.

use std::ffi::{CStr, CString, c_char, c_void};

use super::boundary::{boundary, boundary_or, exclusive};
use super::config::phantom_config;
use super::status::phantom_status;
use crate::{LogLevel, LogSink};

/// The severity of a log line.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum phantom_log_level {
    /// The authorization server or the configuration is at fault: an operator must act.
    PHANTOM_LOG_ERROR = 1,
    /// Something works, but not as intended.
    PHANTOM_LOG_WARN = 2,
    /// A change of state.
    PHANTOM_LOG_INFO = 3,
}

use phantom_log_level::*;

impl phantom_log_level {
    /// All levels.
    pub(super) const ALL: [phantom_log_level; 3] =
        [PHANTOM_LOG_ERROR, PHANTOM_LOG_WARN, PHANTOM_LOG_INFO];
}

impl From<LogLevel> for phantom_log_level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => PHANTOM_LOG_ERROR,
            LogLevel::Warn => PHANTOM_LOG_WARN,
            LogLevel::Info => PHANTOM_LOG_INFO,
        }
    }
}

/// A callback that receives one log line. `line` has no newline, and ends with a NUL after `length` bytes. It is
/// valid only during the call.
///
/// The client calls it on its own thread and on threads that call the client, one line at a time. It must not block,
/// and must not call the client.
pub type phantom_log_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: phantom_log_level,
        line: *const c_char,
        length: usize,
    ),
>;

/// The log callback of the clients of one configuration.
#[derive(Clone, Copy)]
pub(super) struct LogTarget {
    callback: unsafe extern "C" fn(*mut c_void, phantom_log_level, *const c_char, usize),
    user_data: *mut c_void,
}

// SAFETY: the callback is code, and `user_data` is never dereferenced here, only passed to it. The caller of
// `phantom_config_set_log` promises that any thread may call the callback with `user_data` (# Safety).
unsafe impl Send for LogTarget {}
// SAFETY: as above; a shared reference gives no more than a copy of both.
unsafe impl Sync for LogTarget {}

impl LogTarget {
    pub(super) fn sink(self) -> LogSink {
        std::sync::Arc::new(move |level, line| self.write(level.into(), line))
    }

    pub(super) fn write(self, level: phantom_log_level, line: &str) {
        let line = CString::new(line.replace('\0', "\u{fffd}")).unwrap_or_default();
        // SAFETY: the promise of the caller of `phantom_config_set_log`: callable on any thread with its `user_data`,
        // as long as a client that was started with it lives. The line is alive and terminated during the call.
        unsafe {
            (self.callback)(self.user_data, level, line.as_ptr(), line.as_bytes().len());
        }
    }
}

/// Sets the log callback of the clients that are started with this configuration from now on. With a NULL callback,
/// which is the default, there is no log.
///
/// `user_data` is passed to the callback and never dereferenced; it may be NULL. It must outlive those clients: until
/// `phantom_client_free` has returned for each of them.
///
/// # Safety
/// - `config` is NULL, or alive and used by no other thread.
/// - `callback` is NULL, or can be called with `user_data` on any thread, until every client that is started with
///   this configuration has been freed; it does not unwind.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_config_set_log(
    config: *mut phantom_config,
    callback: phantom_log_callback,
    user_data: *mut c_void,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promise for `config`.
        let config = unsafe { exclusive(config, "config")? };
        config.log = callback.map(|callback| LogTarget {
            callback,
            user_data,
        });
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Returns the name of a level: "error", "warn", "info". It is never NULL, also for a number that is not a level, and
/// must not be freed.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_log_level_string(level: i32) -> *const c_char {
    boundary_or(c"".as_ptr(), || {
        let name: &CStr = match phantom_log_level::ALL
            .into_iter()
            .find(|known| *known as i32 == level)
        {
            Some(PHANTOM_LOG_ERROR) => c"error",
            Some(PHANTOM_LOG_WARN) => c"warn",
            Some(PHANTOM_LOG_INFO) => c"info",
            None => c"not a level",
        };
        name.as_ptr()
    })
}
