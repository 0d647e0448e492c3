//! Client.
//!
//! A client is the running form of a configuration: it holds the cache and one thread that calls the authorization
//! server. One client serves a whole process, with any number of threads. Start it after the last fork.

use std::ffi::c_char;
use std::sync::Arc;
use std::time::Duration;

use super::boundary::{Failure, Output, boundary, boundary_or, bytes, shared};
use super::config::phantom_config;
use super::events::Events;
use super::log::{LogTarget, phantom_log_level};
use super::result::phantom_result;
use super::status::phantom_status;
use crate::{Client, ClientOptions, CompletionQueue, Error, ErrorKind, Token};

/// A client: the cache, and the thread that calls the authorization server. Created by `phantom_client_start`.
pub struct phantom_client {
    pub(super) client: Client,
    pub(super) events: Events,
    process: u32,
}

impl phantom_client {
    /// Rejects calls in a forked child: a lock that the client's thread held at the fork is never released there.
    /// This check is for functions that are not called for every request; for the others the core checks, without a
    /// system call.
    pub(super) fn check_process(&self) -> Result<(), Failure> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Forked,
            "this client was started before a fork: start one in the process that uses it",
        )
        .into())
    }
}

/// Starts a client and writes it to `client`. It is yours: free it with `phantom_client_free`. The process gets one
/// more thread, in which all signals are blocked.
///
/// The configuration is copied: you may change it, free it, or start another client with it. Settings that are
/// allowed but risky, such as disabled certificate verification, are logged before this returns.
///
/// Returns `PHANTOM_CONFIG` as `phantom_config_check` does; `PHANTOM_SYSTEM` if the system has no thread or file
/// descriptor left.
///
/// # Safety
/// - `config` is NULL, or alive and not being changed.
/// - `client` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_client_start(
    config: *const phantom_config,
    client: *mut *mut phantom_client,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `config` and `client`.
        let (config, output) = unsafe {
            (
                shared(config, "config")?,
                Output::required(client, "client")?,
            )
        };
        let provider = config.config.build()?;
        let system = |message| Failure::new(phantom_status::PHANTOM_SYSTEM, message);
        let queue = CompletionQueue::new()
            .map_err(|error| system(format!("there is no file descriptor left: {error}")))?;
        if let Some(log) = config.log {
            for warning in provider.warnings() {
                log.write(phantom_log_level::PHANTOM_LOG_WARN, warning);
            }
        }
        let store = config
            .store
            .as_ref()
            .map(|store| store.store(&provider.fingerprint));
        let client = Client::start_with(
            provider,
            ClientOptions {
                log: config.log.map(LogTarget::sink),
                store,
                calls: None,
            },
        )
        .map_err(|error| system(error.to_string()))?;
        let client = Arc::new(phantom_client {
            client,
            events: Events::new(queue),
            process: std::process::id(),
        });
        output.write(Arc::into_raw(client).cast_mut());
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Resolves `token`, and waits for the verdict. It looks in memory, then in the shared store, then calls the
/// authorization server. After `PHANTOM_OK` there is a verdict, and `result` is yours: free it with
/// `phantom_result_free`. Call `phantom_policy_check` with it to decide whether the request may pass. Any other
/// status says nothing about the token: do not let the request through.
///
/// It waits at most `timeout_ms` milliseconds, and never longer than the configured `timeout`. 0 means the configured
/// `timeout`.
///
/// Returns `PHANTOM_INVALID_TOKEN` if the bytes cannot be a token (RFC 6750 §2.1), and a status from
/// `PHANTOM_UNREACHABLE` to `PHANTOM_FORKED` if there is no verdict.
///
/// # Safety
/// - `client` is NULL, or alive.
/// - `token` is NULL, or `token_length` bytes at it can be read.
/// - `result` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_client_resolve(
    client: *const phantom_client,
    token: *const c_char,
    token_length: usize,
    timeout_ms: u64,
    result: *mut *mut phantom_result,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `client`, `token` and `result`.
        let (client, token, result) = unsafe {
            (
                shared(client, "client")?,
                bytes(token, token_length, "token")?,
                Output::required(result, "result")?,
            )
        };
        let timeout = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms));
        let resolution = client.client.resolve(Token::parse(token)?, timeout)?;
        result.write(phantom_result::into_raw(resolution));
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Looks `token` up in the client's own memory, not in a store. It never waits, and does not allocate when it finds a
/// verdict. After `PHANTOM_OK`, `result` is yours. Returns `PHANTOM_NOT_FOUND` if the token is not in memory;
/// `phantom_last_error` does not record that as an error.
///
/// # Safety
/// - `client` is NULL, or alive.
/// - `token` is NULL, or `token_length` bytes at it can be read.
/// - `result` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_client_lookup(
    client: *const phantom_client,
    token: *const c_char,
    token_length: usize,
    result: *mut *mut phantom_result,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `client`, `token` and `result`.
        let (client, token, result) = unsafe {
            (
                shared(client, "client")?,
                bytes(token, token_length, "token")?,
                Output::required(result, "result")?,
            )
        };
        match client.client.lookup(Token::parse(token)?)? {
            None => Ok(phantom_status::PHANTOM_NOT_FOUND),
            Some(resolution) => {
                result.write(phantom_result::into_raw(resolution));
                Ok(phantom_status::PHANTOM_OK)
            }
        }
    })
}

/// Purges `token` from the client's memory and from the shared store. After this has returned, any client of that
/// store that resolves the token gets an answer that the authorization server gave after this was called. Use it for
/// a token that was revoked, or whose rights have changed. It never waits for the authorization server.
///
/// Returns `PHANTOM_OK` whether or not the token was cached.
///
/// Returns `PHANTOM_INVALID_TOKEN` if the bytes cannot be a token; `PHANTOM_STOPPED`, `PHANTOM_FORKED`.
///
/// # Safety
/// - `client` is NULL, or alive.
/// - `token` is NULL, or `token_length` bytes at it can be read.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_client_purge(
    client: *const phantom_client,
    token: *const c_char,
    token_length: usize,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `client` and `token`.
        let (client, token) = unsafe {
            (
                shared(client, "client")?,
                bytes(token, token_length, "token")?,
            )
        };
        client.client.purge(Token::parse(token)?)?;
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Purges all tokens of this client's authorization server, as `phantom_client_purge` purges one.
///
/// # Safety
/// `client` is NULL, or alive.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_client_purge_all(client: *const phantom_client) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promise for `client`.
        let client = unsafe { shared(client, "client")? };
        client.client.purge_all()?;
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Stops a client within two seconds. Calls that wait return `PHANTOM_STOPPED`, and so do later calls that ask for a
/// verdict. The client's thread has ended when this returns. Submitted requests that are not yet dispatched can still
/// be dispatched. It is safe to stop a client twice.
///
/// Returns `PHANTOM_TIMEOUT` if the thread has not ended, because the log callback does not return.
///
/// # Safety
/// `client` is NULL, or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_client_stop(client: *const phantom_client) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promise for `client`.
        let client = unsafe { shared(client, "client")? };
        client.check_process()?;
        if client.client.stop() {
            Ok(phantom_status::PHANTOM_OK)
        } else {
            Err(Failure::new(
                phantom_status::PHANTOM_TIMEOUT,
                "the client's thread has not ended; it ends when the log callback returns",
            ))
        }
    })
}

/// Stops and frees a client. Callbacks of submitted requests that are not yet dispatched never run. Results stay
/// valid. NULL is allowed.
///
/// In a forked child it returns at once, and does not touch the child's copy of the client's memory.
///
/// # Safety
/// `client` is NULL, or alive; and no other thread uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_client_free(client: *mut phantom_client) {
    boundary_or((), || {
        if client.is_null() {
            return;
        }
        // SAFETY: it came from `Arc::into_raw` in `phantom_client_start`, and the caller gives up that reference.
        let client = unsafe { Arc::from_raw(client.cast_const()) };
        if client.check_process().is_err() {
            // State that threads of the parent process were changing at the fork is inconsistent here.
            std::mem::forget(client);
            return;
        }
        client.events.close();
        client.client.stop();
    })
}
