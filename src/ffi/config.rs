//! Configuration.
//!
//! A configuration describes one authorization server: its address, how this client authenticates to it, the format
//! of its answers, and how long they are cached. It is plain data: it starts no thread and opens no socket, so a
//! process may create it before it forks.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use super::boundary::{Output, boundary, boundary_or, exclusive, shared, text, text_to_nul};
use super::log::LogTarget;
use super::status::phantom_status;
use super::store::StoreSource;
use crate::Config;

/// The settings for one authorization server. Created by `phantom_config_new`.
pub struct phantom_config {
    pub(super) config: Config,
    pub(super) log: Option<LogTarget>,
    pub(super) store: Option<StoreSource>,
}

/// Creates a configuration with default settings, and writes it to `config`. It is yours: free it with
/// `phantom_config_free`, even after a client has been started with it.
///
/// Messages refer to the configuration by `name`.
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

/// Sets one key: `introspection_endpoint`, `client_id`, `client_secret_file`, `timeout`, `cache_ttl`, … Values have
/// the nginx format: "5s", "10m", "on". docs/c-api.md lists the keys; `phantom_config_key` enumerates them.
///
/// Returns `PHANTOM_CONFIG` if there is no such key, or if the value is not valid for it; `phantom_last_error` names
/// the valid values.
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

/// Like `phantom_config_set`, with a key and a value that end in a NUL.
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

/// Checks that a client can be started with this configuration: no setting is missing or contradictory, and every
/// file can be read. A root process can call it before it drops its privileges.
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

/// Enumerates the keys. It returns the name of the key at `index`, or NULL if there is none. Call it with 0, 1, 2, …
/// until it returns NULL. The name must not be freed.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_config_key(index: usize) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        static KEYS: OnceLock<Vec<CString>> = OnceLock::new();
        KEYS.get_or_init(|| {
            Config::keys()
                .iter()
                // A key contains no NUL. If one did, C could not set it, and it would not be listed.
                .filter_map(|key| CString::new(*key).ok())
                .collect()
        })
        .get(index)
        .map_or(std::ptr::null(), |key| key.as_ptr())
    })
}
