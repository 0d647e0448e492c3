//! Zone.
//!
//! A zone is a store in shared memory, for hosts that fork. All processes use the verdicts that one process has
//! obtained, and each token is introspected once, whatever the number of processes. The host provides the memory. Map
//! it before the fork, and start the clients after the fork:
//!
//! ```c
//! void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
//! phantom_zone *zone = NULL;
//!
//! if (phantom_zone_attach(memory, size, &zone) != PHANTOM_OK || phantom_config_set_zone(config, zone) != PHANTOM_OK)
//!   fprintf(stderr, "%s\n", phantom_last_error());
//! // fork(), and in each child phantom_client_start(config, &client)
//! ```
//!
//! Up to 64 configurations may share a zone: each authorization server has its own part. The content is encrypted, as
//! in every store. A full zone evicts the least recently used entries. A process that is killed while it uses the
//! zone does not block the others.

use std::ffi::c_void;
use std::sync::Arc;

use super::boundary::{Failure, Output, boundary, boundary_or, exclusive, shared};
use super::config::phantom_config;
use super::status::phantom_status;
use super::store::StoreSource;
use crate::cache::Zone;

/// The smallest page size of any supported system.
const PAGE: usize = 4096;

/// A store in shared memory. Created by `phantom_zone_attach`.
pub struct phantom_zone {
    zone: Arc<Zone>,
}

/// Returns the minimum size of a zone's memory, in bytes. In addition, a verdict takes about the size of its JWT and
/// its claims, and 200 bytes.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn phantom_zone_min_size() -> usize {
    boundary_or(0, || Zone::MIN_SIZE)
}

/// Creates a zone in the `size` bytes at `memory`, and writes it to `zone`. It is yours: free it with
/// `phantom_zone_free`.
///
/// The memory must be zero, or contain a zone. The entries of that zone are kept, unless it had another size or was
/// written by an incompatible version of this library; then the zone starts empty. The memory must be aligned to a
/// page, as memory from `mmap` is. It stays yours. It must stay mapped at the same address until the zone, every
/// configuration that uses it, and every client that was started with one of them have been freed, in each process.
///
/// Attach once, before the fork: children inherit the zone. Other processes may attach to the same memory, with the
/// same version of this library, but not at the same moment. Do not keep the memory across a reboot: its locks and
/// times are then invalid.
///
/// Returns `PHANTOM_INVALID_ARGUMENT` if the memory is not aligned or smaller than `phantom_zone_min_size`;
/// `PHANTOM_SYSTEM` if the system has no process-shared locks.
///
/// # Safety
/// - `memory` is NULL, or `size` bytes at it can be read and written for as long as is said above. They are zero, or
///   were last used by a zone since the system was started, and nothing but zones uses them. No other thread or
///   process attaches to them at the same time; any that attaches later has the same version of this library.
/// - `zone` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_zone_attach(
    memory: *mut c_void,
    size: usize,
    zone: *mut *mut phantom_zone,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promise for `zone`.
        let output = unsafe { Output::required(zone, "zone")? };
        let invalid = |message| Failure::new(phantom_status::PHANTOM_INVALID_ARGUMENT, message);
        if memory.is_null() {
            return Err(invalid("memory is NULL".to_owned()));
        }
        if !memory.addr().is_multiple_of(PAGE) {
            return Err(invalid(
                "memory is not aligned to a page: take it from mmap".to_owned(),
            ));
        }
        if size < Zone::MIN_SIZE || isize::try_from(size).is_err() {
            return Err(invalid(format!(
                "a zone of {size} bytes cannot be: it needs at least {} bytes",
                Zone::MIN_SIZE
            )));
        }
        // SAFETY: aligned (checked above: 4096 is the smallest page that there is, and all that a zone needs);
        // readable and writable for as long as the zone or a store made of it is used, as configurations and clients
        // do; zero or last used by a zone since the last reboot; no other process attaches now, nor ever with another
        // version (the caller's promises).
        let (zone, _) = unsafe { Zone::attach(memory.cast(), size) }
            .map_err(|error| Failure::new(phantom_status::PHANTOM_SYSTEM, error.to_string()))?;
        output.write(Box::into_raw(Box::new(phantom_zone { zone })));
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Frees a zone. Configurations that use it, and clients that were started with them, keep using it. Its entries stay
/// in the memory. NULL is allowed.
///
/// # Safety
/// `zone` is NULL, or from `phantom_zone_attach` and not freed, and no other thread is using it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_zone_free(zone: *mut phantom_zone) {
    boundary_or((), || {
        if !zone.is_null() {
            // SAFETY: it came out of a box in `phantom_zone_attach`, is freed once, and nobody else uses it (the
            // caller's promises).
            drop(unsafe { Box::from_raw(zone) });
        }
    })
}

/// Sets the zone of the clients that are started with this configuration from now on. With NULL, which is the
/// default, they use no shared store. It replaces a store or zone that was set before.
///
/// # Safety
/// - `config` is NULL, or alive and used by no other thread.
/// - `zone` is NULL, or from `phantom_zone_attach` and not freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_config_set_zone(
    config: *mut phantom_config,
    zone: *const phantom_zone,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promise for `config`.
        let config = unsafe { exclusive(config, "config")? };
        config.store = if zone.is_null() {
            None
        } else {
            // SAFETY: the caller's promise for `zone`.
            let zone = unsafe { shared(zone, "zone")? };
            Some(StoreSource::Zone(Arc::clone(&zone.zone)))
        };
        Ok(phantom_status::PHANTOM_OK)
    })
}
