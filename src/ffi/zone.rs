//! Zone.
//!
//! A zone is a store in memory that processes share, for hosts that fork: what one process finds out, the others know,
//! and each token is asked for once, however many processes there are. The memory is the host's. Take it before the
//! fork, and start the clients after:
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
//! Up to 64 configurations may share a zone: each authorization server has a part of its own. What is in it is sealed,
//! as it is in every store. When it is full, it forgets what was not used for the longest time; and a process that is
//! killed while it uses the zone holds up nobody.

use std::ffi::c_void;
use std::sync::Arc;

use super::boundary::{Failure, Output, boundary, boundary_or, exclusive, shared};
use super::config::phantom_config;
use super::status::phantom_status;
use super::store::StoreSource;
use crate::cache::Zone;

/// The smallest page that there is.
const PAGE: usize = 4096;

/// A store in memory that processes share. Made by `phantom_zone_attach`.
pub struct phantom_zone {
    zone: Arc<Zone>,
}

/// Returns how large a zone's memory must be at least, in bytes. Beyond that, a verdict takes about what its JWT and its
/// claims do, and 200 bytes.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn phantom_zone_min_size() -> usize {
    boundary_or(0, || Zone::MIN_SIZE)
}

/// Takes `size` bytes at `memory` for a zone, and writes it to `zone`. It is yours: free it with `phantom_zone_free`.
///
/// The memory is zero, or holds a zone: then what that remembers is still known, unless it was of another size or of an
/// incompatible version of this library, which starts anew. It is aligned to a page, as `mmap` gives it. It stays yours,
/// and must stay where it is until the zone, every configuration that it is set in, and every client that was started
/// with one of them have been freed, in each process.
///
/// Attach once, before the fork: children inherit the zone. Other processes may attach to the same memory, not at the
/// same moment, and with the same version of this library. The memory must not outlive the system's run: after a reboot,
/// its locks and its times mean nothing.
///
/// `PHANTOM_INVALID_ARGUMENT` when the memory is not aligned or smaller than `phantom_zone_min_size`; `PHANTOM_SYSTEM`
/// when the system has no locks that processes share.
///
/// # Safety
/// - `memory` is NULL, or `size` bytes at it can be read and written for as long as is said above. They are zero, or were
///   last used by a zone since the system was started, and nothing but zones uses them. Nobody else attaches to them at
///   the same time; who does later has the same version of this library.
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
        // SAFETY: aligned (checked above: 4096 is the smallest page that there is, and all that a zone needs); readable
        // and writable for as long as the zone or a store made of it is used, as configurations and clients do; zero or
        // last used by a zone, not from before a reboot; nobody else attaches now, nor ever with another version (the
        // caller's promises).
        let (zone, _) = unsafe { Zone::attach(memory.cast(), size) }
            .map_err(|error| Failure::new(phantom_status::PHANTOM_SYSTEM, error.to_string()))?;
        output.write(Box::into_raw(Box::new(phantom_zone { zone })));
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Gives a zone up. Configurations that it is set in, and clients that were started with them, keep using it; what it
/// remembers stays in the memory. NULL is fine.
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

/// Lets clients that are started with this configuration from now on remember with `zone`. With NULL, which is the
/// default, they remember alone. Takes the place of a store or zone that was set before.
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
