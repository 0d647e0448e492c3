//! Client.
//!
//! A client is a configuration at work: it holds the cache and one thread that talks to the authorization server.
//! One client serves a whole process, however many threads use it. Start it after the last fork.

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

/// A configuration at work: the cache, and the thread that talks to the authorization server. Made by
/// `phantom_client_start`.
pub struct phantom_client {
    pub(super) client: Client,
    pub(super) events: Events,
    process: u32,
}

impl phantom_client {
    /// Refuses what a forked child must not touch: a lock that the client's thread held at the fork is held for ever.
    /// For what is not asked on every request; there the core asks, without a system call.
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

/// Starts a client and writes it to `client`. It is yours: free it with `phantom_client_free`. From here on the process
/// has a thread more, in which all signals are blocked.
///
/// The configuration is copied: change it, free it, or start another client with it. What can be allowed but should be
/// known, such as a certificate that is not verified, is logged before this returns.
///
/// `PHANTOM_CONFIG` as for `phantom_config_check`; `PHANTOM_SYSTEM` when there is no thread or descriptor left.
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

/// Asks what `token` stands for, and waits: memory, then the store that is shared, then the authorization server. On
/// `PHANTOM_OK` there is a verdict, and `result` is yours: free it with `phantom_result_free`. Have `phantom_policy_check`
/// decide with it whether the request may pass. Any other status says nothing about the token: let no request through.
///
/// It waits `timeout_ms` milliseconds at most, and never longer than the configured `timeout`, which is also what 0
/// stands for.
///
/// `PHANTOM_INVALID_TOKEN` when it cannot be one (RFC 6750 §2.1). `PHANTOM_UNREACHABLE` to `PHANTOM_FORKED` when there
/// is no verdict.
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

/// Asks what the client's own memory knows of `token`, and no store. It never waits, and when it finds something, never
/// allocates. On `PHANTOM_OK`,
/// `result` is yours; `PHANTOM_NOT_FOUND` when memory knows nothing, which is not remembered as an error.
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

/// Forgets what is known of `token`, in the client's memory and in the store that is shared with others. Whoever asks
/// after this has returned, through whichever client of that store, gets an answer that the authorization server gave
/// after this was called. For a token that was revoked, or whose rights have changed. It never waits for the
/// authorization server.
///
/// Whether anything was known is not told: `PHANTOM_OK` in either case.
///
/// `PHANTOM_INVALID_TOKEN` when it cannot be a token; `PHANTOM_STOPPED`, `PHANTOM_FORKED`.
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

/// Forgets all that is known of the tokens of this client's authorization server, as `phantom_client_purge` does of one.
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

/// Stops a client, within two seconds: whoever waits gets `PHANTOM_STOPPED`, as does whoever asks from now on; the
/// thread has ended when this returns. What was submitted and not dispatched can still be dispatched. Stopping twice is
/// fine.
///
/// `PHANTOM_TIMEOUT` when the thread has not ended, because the log callback does not return.
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

/// Stops and frees a client. Callbacks of what was submitted and not dispatched never run. Results stay valid. NULL is
/// fine.
///
/// In a forked child it returns at once, and leaves the child's copy of the client's memory alone.
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
            // What the threads of the other process were changing at the fork is half changed here.
            std::mem::forget(client);
            return;
        }
        client.events.close();
        client.client.stop();
    })
}
