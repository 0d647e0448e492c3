//! Configuration.
//!
//! A configuration describes one authorization server: where it is, how this client authenticates to it, how it
//! answers, and how long its answers are remembered. It is plain data: it starts no thread and opens no socket, so a
//! process may make it before it forks.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use super::boundary::{Output, boundary, boundary_or, exclusive, shared, text, text_to_nul};
use super::log::LogTarget;
use super::status::phantom_status;
use super::store::StoreSource;
use crate::Config;

/// What is set of one authorization server. Made by `phantom_config_new`.
pub struct phantom_config {
    pub(super) config: Config,
    pub(super) log: Option<LogTarget>,
    pub(super) store: Option<StoreSource>,
}

/// Makes a configuration in which nothing is set but the defaults, and writes it to `config`. It is yours: free it
/// with `phantom_config_free`, also once a client has been started with it.
///
/// `name` is what messages call it.
///
/// # Safety
/// - `name` is NULL, or `name_length` bytes at it can be read.
/// - `config` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_config_new(
    name: *const c_char,
    name_length: usize,
    config: *mut *mut phantom_config,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `name` and `config`.
        let (name, config) = unsafe {
            (
                text(name, name_length, "name")?,
                Output::required(config, "config")?,
            )
        };
        config.write(Box::into_raw(Box::new(phantom_config {
            config: Config::new(name),
            log: None,
            store: None,
        })));
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Frees a configuration. Clients that were started with it keep running.
///
/// # Safety
/// `config` is NULL, or from `phantom_config_new` and not freed, and no other thread is using it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_config_free(config: *mut phantom_config) {
    boundary_or((), || {
        if !config.is_null() {
            // SAFETY: it came out of a box in `phantom_config_new`, is freed once, and nobody else uses it (the
            // caller's promises).
            drop(unsafe { Box::from_raw(config) });
        }
    })
}

/// Sets one key: `introspection_endpoint`, `client_id`, `client_secret_file`, `timeout`, `cache_ttl`, … Values are
/// written as nginx writes them: "5s", "10m", "on". docs/c-api.md lists the keys, `phantom_config_key` enumerates
/// them.
///
/// `PHANTOM_CONFIG` when there is no such key, or when the value is not one of it; `phantom_last_error` says what
/// would be.
///
/// # Safety
/// - `config` is NULL, or alive and used by no other thread.
/// - `key` and `value` are NULL, or as many bytes at them as their lengths say can be read.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_config_set(
    config: *mut phantom_config,
    key: *const c_char,
    key_length: usize,
    value: *const c_char,
    value_length: usize,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `config`, `key` and `value`.
        let (config, key, value) = unsafe {
            (
                exclusive(config, "config")?,
                text(key, key_length, "key")?,
                text(value, value_length, "value")?,
            )
        };
        config.config.set(key, value)?;
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// The same with a key and a value that end in a NUL.
///
/// # Safety
/// - `config` is NULL, or alive and used by no other thread.
/// - `key` and `value` are NULL, or end in a NUL up to which they can be read.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_config_set_str(
    config: *mut phantom_config,
    key: *const c_char,
    value: *const c_char,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `config`, `key` and `value`.
        let (config, key, value) = unsafe {
            (
                exclusive(config, "config")?,
                text_to_nul(key, "key")?,
                text_to_nul(value, "value")?,
            )
        };
        config.config.set(key, value)?;
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Checks that a client could be started: nothing is missing or contradictory, and every file can be read. Start-up
/// code of a root process can call it before it drops its rights.
///
/// # Safety
/// `config` is NULL, or alive and not being changed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_config_check(config: *const phantom_config) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promise for `config`.
        let config = unsafe { shared(config, "config")? };
        config.config.build()?;
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Enumerates the keys: returns the name of the one at `index`, or NULL when there is none. Start at 0 and go on until
/// NULL. The name is never freed.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_config_key(index: usize) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        static KEYS: OnceLock<Vec<CString>> = OnceLock::new();
        KEYS.get_or_init(|| {
            Config::keys()
                .iter()
                // A key holds no NUL; if one did, nobody could set it from here, nor should it be listed.
                .filter_map(|key| CString::new(*key).ok())
                .collect()
        })
        .get(index)
        .map_or(std::ptr::null(), |key| key.as_ptr())
    })
}
