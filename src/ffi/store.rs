//! Shared stores.
//!
//! By default a client caches verdicts only in its own memory. With a store, it shares them with all clients that use
//! the same store: in this process, in other processes, on other machines. A verdict that one client has obtained is
//! available to the others, and a purge by one client is effective for all. The zone (above) is a store in shared
//! memory; this section is for hosts that have a shared memory of their own.
//!
//! A store is a table of functions. It keeps bytes under a key for a limited time, and need not understand them:
//!
//! - A key is `PHANTOM_STORE_KEY_LENGTH` bytes, which look random in every bit. The token cannot be computed from it.
//!   Different configurations have different keys.
//! - A value is at most `PHANTOM_STORE_VALUE_MAX` bytes, encrypted and authenticated with a key that is derived from
//!   its token. Read access to the store reveals neither tokens nor JWTs. Write access can make clients forget, wait
//!   and fail, but cannot forge a verdict. A value that was tampered with is ignored, as if it were absent.
//! - A store may drop any entry at any time, and there are no errors: a store that cannot do what is requested
//!   behaves as if it had dropped the entry.
//!
//! ```c
//! phantom_store store = {
//!     .size = sizeof store, .context = mine, .get = get, .put = put, .remove = remove_one, .clear = clear};
//!
//! if (phantom_config_set_store(config, &store) != PHANTOM_OK)
//!   fprintf(stderr, "%s\n", phantom_last_error());
//! ```
//!
//! Rules for every callback:
//!
//! - Any thread may call it, and several threads at the same time: threads that call the client, and the client's own
//!   thread.
//! - The caller of the client waits for it, and so does an event loop: it must be short. A store on the network needs
//!   a local copy.
//! - It must not call this library with the client that uses the store, and it must not throw or unwind.
//! - Memory that is passed to it by address is invalid, or no longer its own, after it returns.
//!
//! Optional callbacks may be NULL. They improve a store:
//!
//! - **Versions.** A client keeps verdicts in its own memory too. So that a purge by another client ends these, every
//!   key has a version, a number that `remove` and `clear` change. A client notes the version before it starts to
//!   look a token up, and uses its copy only while the version is the same. Keys may share a version: one counter for
//!   each of a few thousand groups of keys is enough. Do not use one counter for all keys: `remove` is also called
//!   for each token that the authorization server reports as inactive, random tokens included, and invalidates all
//!   copies with the same version.
//! - **Claims.** Only one client of the store introspects a token at a time. It claims the key first. The others wait
//!   until the value is stored, or the claim has ended: it was settled, or its time is over.
//! - **Words.** A few numbers that all clients of the store share, so that all of them know when an authorization
//!   server fails.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::mem::{MaybeUninit, align_of, offset_of};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use super::boundary::{Failure, boundary, exclusive};
use super::config::phantom_config;
use super::status::phantom_status;
use crate::cache::{Class, FetchLease, LeaseOutcome, SharedAtomics, Store, Version, Zone};
use crate::token::{Fingerprint, Key};

/// The length of a key in bytes.
pub const PHANTOM_STORE_KEY_LENGTH: u32 = 32;
/// The maximum length of a value in bytes: 1 MiB. Most values take less than 4 KiB.
pub const PHANTOM_STORE_VALUE_MAX: u32 = 1048576;
/// The maximum length of a failure that is passed to `settle`, in bytes.
pub const PHANTOM_STORE_FAILURE_MAX: u32 = 512;
/// The number of words of `words`, each a number of 64 bits.
pub const PHANTOM_STORE_WORDS: u32 = 4;

const _: () = assert!(
    size_of::<Key>() == PHANTOM_STORE_KEY_LENGTH as usize
        && size_of::<SharedAtomics>() == PHANTOM_STORE_WORDS as usize * size_of::<u64>()
);

/// The class of a stored value. Give each class its own share of the memory: a client that sends a million random
/// tokens must fill only the share of inactive verdicts.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum phantom_store_class {
    /// An active verdict.
    PHANTOM_STORE_ACTIVE = 1,
    /// An inactive verdict.
    PHANTOM_STORE_INACTIVE = 2,
}

use phantom_store_class::*;

impl phantom_store_class {
    /// All values.
    pub(super) const ALL: [phantom_store_class; 2] = [PHANTOM_STORE_ACTIVE, PHANTOM_STORE_INACTIVE];
}

impl From<Class> for phantom_store_class {
    fn from(class: Class) -> Self {
        match class {
            Class::Active => PHANTOM_STORE_ACTIVE,
            Class::Inactive => PHANTOM_STORE_INACTIVE,
        }
    }
}

/// The outcome of a claim.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum phantom_claimed {
    /// The key is claimed: call the authorization server.
    PHANTOM_CLAIM_GRANTED = 0,
    /// The flight in `held_by` is already calling the authorization server: wait for it.
    PHANTOM_CLAIM_HELD = 1,
    /// The flight in `waited_for`, or a flight since this flight began, has failed. The failure is in `failure`.
    PHANTOM_CLAIM_FAILED = 2,
}

use phantom_claimed::*;

impl phantom_claimed {
    /// All values.
    pub(super) const ALL: [phantom_claimed; 3] = [
        PHANTOM_CLAIM_GRANTED,
        PHANTOM_CLAIM_HELD,
        PHANTOM_CLAIM_FAILED,
    ];
}

/// A claim to be the only one that introspects a token, and its outcome. Later versions may add fields at the end.
#[repr(C)]
#[derive(Debug)]
pub struct phantom_claim {
    /// The unique id of the flight that makes the claim.
    pub flight: u64,
    /// The flight that this flight has waited for until now, if `has_waited` is 1. If that flight failed, so has this
    /// one.
    pub waited_for: u64,
    /// The time since the flight began, in milliseconds. A flight that failed since then counts like the one in
    /// `waited_for`.
    pub waited_ms: u64,
    /// The time until the flight will have ended, in milliseconds. The claim ends then too, if it is not settled
    /// before.
    pub within_ms: u64,
    /// The key's version when the flight began; 0 in a store without versions. A claim of another version blocks no
    /// other flight.
    pub version: u32,
    /// Whether `waited_for` is set: 0 or 1.
    pub has_waited: u32,
    /// Output for `PHANTOM_CLAIM_HELD`: the id of the flight that holds the claim.
    pub held_by: u64,
    /// Output for `PHANTOM_CLAIM_FAILED`: copy the failure that was passed to `settle` to this buffer of
    /// `PHANTOM_STORE_FAILURE_MAX` bytes.
    pub failure: *mut u8,
    /// Output for `PHANTOM_CLAIM_FAILED`: the length of the failure.
    pub failure_length: usize,
}

/// A table of functions that implement a store. Set the functions that you have, and all other fields to zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct phantom_store {
    /// `sizeof(phantom_store)`: it identifies the version of this table that the program was compiled with.
    pub size: usize,
    /// Passed to each callback, and never dereferenced. May be NULL.
    pub context: *mut c_void,

    /// Gets the value of a key. Returns 0 if there is none. Otherwise it returns 1. It writes the value's length to
    /// `length`, and the remaining lifetime in milliseconds, more than 0, to `remaining_ms`. If the length is not
    /// more than `capacity`, it copies the value to `value`. If the value is longer than `capacity`, it is called
    /// again with a larger buffer. Required.
    pub get: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            key: *const u8,
            value: *mut u8,
            capacity: usize,
            length: *mut usize,
            remaining_ms: *mut u64,
        ) -> c_int,
    >,
    /// Stores a value for `keep_ms` milliseconds, and replaces the old value. It does nothing if the key's version is
    /// not `version`, which is 0 in a store without versions. Required.
    pub put: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            key: *const u8,
            value: *const u8,
            length: usize,
            store_class: phantom_store_class,
            keep_ms: u64,
            version: u32,
        ),
    >,
    /// Removes a key, and changes its version: the key was purged, or its token was reported as inactive. Claims of
    /// the key end. Required.
    pub remove: Option<unsafe extern "C" fn(context: *mut c_void, key: *const u8)>,
    /// Removes all keys, and changes their versions. All claims end. Required.
    pub clear: Option<unsafe extern "C" fn(context: *mut c_void)>,

    /// Returns the version of a key. It is called for every request, and should cost no more than reading a number
    /// from memory. If it is NULL, there are no versions, and an entry that another client purges may survive until
    /// it expires: in a client's own memory, or in the store, if a client was receiving it from the authorization
    /// server at the time of the purge.
    pub version: Option<unsafe extern "C" fn(context: *mut c_void, key: *const u8) -> u32>,
    /// Claims a key, and returns the outcome, a number of `phantom_claimed`. Set both this and `settle`, or neither.
    /// If neither is set, several clients of the store may introspect the same token at the same time.
    pub claim: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            key: *const u8,
            claim: *mut phantom_claim,
        ) -> c_int,
    >,
    /// Ends the claim that was granted to `flight`. If `failure_length` is 0, the value is stored by now. Otherwise
    /// the flight failed: keep `failure` for the flights that waited for this one, until the claim's time would have
    /// been over. It does nothing if another flight holds the claim by now.
    pub settle: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            key: *const u8,
            flight: u64,
            failure: *const u8,
            failure_length: usize,
        ),
    >,
    /// Returns the address of `PHANTOM_STORE_WORDS` numbers of 64 bits that all clients of the store share. They are
    /// aligned to 8 bytes, initially zero, and stay at that address until `free`. Clients change them with atomic
    /// operations; nothing else may change them. It may return NULL. It is called once, by
    /// `phantom_config_set_store`.
    pub words: Option<unsafe extern "C" fn(context: *mut c_void) -> *mut u64>,
    /// Called once, when this table is no longer used: the configuration, and every client that was started with it,
    /// has been freed, or uses another store.
    pub free: Option<unsafe extern "C" fn(context: *mut c_void)>,
}

/// The shared store of the clients of one configuration.
#[derive(Clone)]
pub(super) enum StoreSource {
    Host(Arc<HostStore>),
    Zone(Arc<Zone>),
}

impl StoreSource {
    pub(super) fn store(&self, provider: &Fingerprint) -> Arc<dyn Store> {
        match self {
            // The keys differ between providers. Whether `clear` separates them too is up to the host.
            StoreSource::Host(store) => Arc::clone(store) as Arc<dyn Store>,
            StoreSource::Zone(zone) => Arc::new(zone.store(provider)),
        }
    }
}

/// Sets the store of the clients that are started with this configuration from now on. The table is copied: only the
/// memory behind `context` must stay valid, until `free` is called. With NULL, which is the default, the clients use
/// no shared store. It replaces a store or zone that was set before.
///
/// `clear` removes everything in the store, so use one store only for clients of the same configuration. Give clients
/// of another authorization server their own `context`.
///
/// Returns `PHANTOM_INVALID_ARGUMENT` if a required callback is NULL, or `size` is not that of a `phantom_store`;
/// `free` is not called then.
///
/// # Safety
/// - `config` is NULL, or alive and used by no other thread.
/// - `store` is NULL, or can be read for as many bytes as its first field, `size`, says. Its callbacks are NULL, or
///   do what their documentation says, with its `context`, on any thread and several at once. They can be called
///   until `free` has been called or, without it, until the configuration and every client that is started with it
///   have been freed. None of them unwinds.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_config_set_store(
    config: *mut phantom_config,
    store: *const phantom_store,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promise for `config`.
        let config = unsafe { exclusive(config, "config")? };
        config.store = if store.is_null() {
            None
        } else {
            // SAFETY: not NULL; otherwise the caller's promise for `store`.
            let store = unsafe { HostStore::new(store)? };
            Some(StoreSource::Host(Arc::new(store)))
        };
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// A store of the host. Its callbacks may write anything to the buffers that they receive, within their capacity;
/// lengths and numbers that they return are checked.
pub(super) struct HostStore {
    context: *mut c_void,
    get:
        unsafe extern "C" fn(*mut c_void, *const u8, *mut u8, usize, *mut usize, *mut u64) -> c_int,
    put: unsafe extern "C" fn(
        *mut c_void,
        *const u8,
        *const u8,
        usize,
        phantom_store_class,
        u64,
        u32,
    ),
    remove: unsafe extern "C" fn(*mut c_void, *const u8),
    clear: unsafe extern "C" fn(*mut c_void),
    version: Option<unsafe extern "C" fn(*mut c_void, *const u8) -> u32>,
    claims: Option<Claims>,
    words: Option<NonNull<SharedAtomics>>,
    free: Option<unsafe extern "C" fn(*mut c_void)>,
}

/// The two callbacks that must be set together.
struct Claims {
    claim: unsafe extern "C" fn(*mut c_void, *const u8, *mut phantom_claim) -> c_int,
    settle: unsafe extern "C" fn(*mut c_void, *const u8, u64, *const u8, usize),
}

// SAFETY: the callbacks are code, `context` is never dereferenced here, only passed to them, and the words are
// atomics. The caller of `phantom_config_set_store` promises that any thread may call the callbacks (# Safety).
unsafe impl Send for HostStore {}
// SAFETY: as above; several threads at once are part of the promise.
unsafe impl Sync for HostStore {}

impl HostStore {
    /// The first buffer size for a value: enough for nearly all.
    const ROOM: usize = 4096;
    /// How often a value is read again if it has grown in the meantime.
    const READS: usize = 4;
    /// The minimum size of a table: `version` is the first field that may be missing.
    const REQUIRED: usize = offset_of!(phantom_store, version);

    /// # Safety
    /// As for `store` of [`phantom_config_set_store`], and not NULL.
    unsafe fn new(store: *const phantom_store) -> Result<Self, Failure> {
        let invalid = |message| Failure::new(phantom_status::PHANTOM_INVALID_ARGUMENT, message);
        // SAFETY: the caller's promise: a size stands at its beginning. A C program's pointer to a table is aligned,
        // but nothing here depends on it.
        let size = unsafe { store.cast::<usize>().read_unaligned() };
        if size < Self::REQUIRED || !size.is_multiple_of(align_of::<phantom_store>()) {
            return Err(invalid(
                "store.size is not sizeof(phantom_store): set it to that, and what is not used to zero",
            ));
        }
        let mut table = MaybeUninit::<phantom_store>::zeroed();
        // SAFETY: `size` bytes at `store` can be read (the caller's promise), and not more are copied than `table` has.
        // The two don't overlap: one is a local.
        unsafe {
            store.cast::<u8>().copy_to_nonoverlapping(
                table.as_mut_ptr().cast(),
                size.min(size_of::<phantom_store>()),
            );
        }
        // SAFETY: each field is a number, a pointer, or an optional function, of which zero is none; what was copied
        // ends between two of them (a multiple of the alignment, which is a pointer's), so that none is half of one.
        let table = unsafe { table.assume_init() };
        let (Some(get), Some(put), Some(remove), Some(clear)) =
            (table.get, table.put, table.remove, table.clear)
        else {
            return Err(invalid(
                "store.get, store.put, store.remove and store.clear are required, and one is NULL",
            ));
        };
        let claims = match (table.claim, table.settle) {
            (Some(claim), Some(settle)) => Some(Claims { claim, settle }),
            (None, None) => None,
            _ => {
                return Err(invalid(
                    "store.claim and store.settle go together, and one is NULL",
                ));
            }
        };
        let words = match table.words {
            // SAFETY: the caller's promise for the callbacks.
            Some(words) => NonNull::new(unsafe { words(table.context) }.cast::<SharedAtomics>()),
            None => None,
        };
        if words.is_some_and(|words| !words.is_aligned()) {
            return Err(invalid(
                "store.words has returned an address that is not aligned to 8 bytes",
            ));
        }
        Ok(HostStore {
            context: table.context,
            get,
            put,
            remove,
            clear,
            version: table.version,
            claims,
            words,
            free: table.free,
        })
    }

    /// The version that the host knows. Without host versions the client counts its own, which the host must not see.
    fn known(&self, version: u32) -> u32 {
        if self.version.is_some() { version } else { 0 }
    }
}

impl Store for HostStore {
    fn version(&self, key: &Key) -> Option<Version> {
        // SAFETY: the promise of the caller of `phantom_config_set_store`; the key is alive during the call.
        let version = self
            .version
            .map(|version| unsafe { version(self.context, key.as_bytes().as_ptr()) });
        version.map(Version::from)
    }

    fn get(&self, key: &Key, value: &mut Vec<u8>) -> Option<Duration> {
        let start = value.len();
        let mut capacity = Self::ROOM;
        for _ in 0..Self::READS {
            // Zeroes and not spare capacity: a callback may report more bytes than it has written.
            value.resize(start + capacity, 0);
            let room = &mut value[start..];
            let mut length = usize::MAX;
            let mut remaining = 0;
            // SAFETY: the promise of the caller of `phantom_config_set_store`; the key, the room of `capacity` bytes
            // and the two outputs are alive during the call, and nobody else uses them.
            let found = unsafe {
                (self.get)(
                    self.context,
                    key.as_bytes().as_ptr(),
                    room.as_mut_ptr(),
                    room.len(),
                    &raw mut length,
                    &raw mut remaining,
                )
            };
            if found == 0 || remaining == 0 || length > PHANTOM_STORE_VALUE_MAX as usize {
                break;
            }
            if length <= capacity {
                value.truncate(start + length);
                return Some(Duration::from_millis(remaining));
            }
            value.truncate(start);
            capacity = length;
        }
        value.truncate(start);
        None
    }

    fn put(&self, key: &Key, value: &[u8], class: Class, keep: Duration, version: Version) -> bool {
        if value.len() > PHANTOM_STORE_VALUE_MAX as usize {
            return true;
        }
        // SAFETY: the promise of the caller of `phantom_config_set_store`; key and value are alive during the call.
        unsafe {
            (self.put)(
                self.context,
                key.as_bytes().as_ptr(),
                value.as_ptr(),
                value.len(),
                class.into(),
                milliseconds(keep),
                self.known(version.epoch),
            );
        }
        // The callback does not report whether it stored the value. But a token that is reported as inactive changes
        // its key's version in any case.
        true
    }

    fn remove(&self, key: &Key) {
        // SAFETY: the promise of the caller of `phantom_config_set_store`; the key is alive during the call.
        unsafe { (self.remove)(self.context, key.as_bytes().as_ptr()) }
    }

    fn clear(&self) {
        // SAFETY: the promise of the caller of `phantom_config_set_store`.
        unsafe { (self.clear)(self.context) }
    }

    fn lease(&self, key: &Key, lease: &FetchLease) -> LeaseOutcome {
        let Some(claims) = &self.claims else {
            return LeaseOutcome::Granted;
        };
        let mut failure = [0; PHANTOM_STORE_FAILURE_MAX as usize];
        let mut table = phantom_claim {
            flight: lease.flight,
            waited_for: lease.waited_for.unwrap_or(0),
            waited_ms: milliseconds(lease.waited),
            within_ms: milliseconds(lease.within),
            version: self.known(lease.version.epoch),
            has_waited: lease.waited_for.is_some().into(),
            held_by: lease.flight,
            failure: failure.as_mut_ptr(),
            failure_length: 0,
        };
        // SAFETY: the promise of the caller of `phantom_config_set_store`; the key, the claim and its room for a
        // failure are alive during the call, and nobody else uses them.
        let claimed =
            unsafe { (claims.claim)(self.context, key.as_bytes().as_ptr(), &raw mut table) };
        if claimed == PHANTOM_CLAIM_HELD as c_int && table.held_by != lease.flight {
            return LeaseOutcome::Held(table.held_by);
        }
        let waited = lease.waited_for.is_some() || !lease.waited.is_zero();
        if claimed == PHANTOM_CLAIM_FAILED as c_int && waited {
            // The buffer belongs to this function, whatever the callback has done with the pointer in the table. A
            // length beyond the buffer is no readable failure: then this flight calls the authorization server.
            match failure.get(..table.failure_length) {
                None | Some([]) => {}
                Some(failure) => return LeaseOutcome::Failed(failure.to_vec()),
            }
        }
        // Any other return value: no other flight is known to call the authorization server, and one call too many is
        // the lesser evil.
        LeaseOutcome::Granted
    }

    fn release(&self, key: &Key, flight: u64, failure: Option<&[u8]>) {
        let Some(claims) = &self.claims else {
            return;
        };
        // A failure that is too long to be read again is dropped: the flights that wait will call the authorization
        // server.
        let failure = failure.filter(|failure| failure.len() <= PHANTOM_STORE_FAILURE_MAX as usize);
        // SAFETY: the promise of the caller of `phantom_config_set_store`; key and failure are alive during the call.
        unsafe {
            (claims.settle)(
                self.context,
                key.as_bytes().as_ptr(),
                flight,
                failure.map_or(std::ptr::null(), <[u8]>::as_ptr),
                failure.map_or(0, <[u8]>::len),
            );
        }
    }

    fn words(&self) -> Option<&SharedAtomics> {
        // SAFETY: not NULL and aligned (checked where it was set); it stays there until `free`, which is called when
        // `self` is dropped, and is changed by atomic operations alone (the promise of the caller of
        // `phantom_config_set_store`).
        self.words.map(|words| unsafe { words.as_ref() })
    }
}

impl Drop for HostStore {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: the promise of the caller of `phantom_config_set_store`; nobody else has this store any more,
            // so that this is the last callback and the only `free`.
            unsafe { free(self.context) }
        }
    }
}

impl fmt::Debug for HostStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostStore").finish_non_exhaustive()
    }
}

/// Whole milliseconds, rounded down: nothing is kept for longer than allowed.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::UnsafeCell;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::Token;

    /// A store that returns false values, and a record of its calls.
    struct Liar {
        found: c_int,
        lengths: Vec<usize>,
        remaining: u64,
        claimed: c_int,
        held_by: u64,
        failure_length: usize,
        words: UnsafeCell<[u64; 5]>,
        /// The offset of the words from their correct address, in bytes.
        words_off: usize,
        calls: usize,
        settled: Vec<usize>,
        freed: usize,
    }

    impl Default for Liar {
        fn default() -> Self {
            Liar {
                found: 1,
                lengths: Vec::new(),
                remaining: 5000,
                claimed: 0,
                held_by: 0,
                failure_length: 0,
                words: UnsafeCell::default(),
                words_off: 0,
                calls: 0,
                settled: Vec::new(),
                freed: 0,
            }
        }
    }

    impl Liar {
        /// # Safety
        /// `context` is a `Liar` that nobody else uses now.
        unsafe fn at<'a>(context: *mut c_void) -> &'a mut Liar {
            // SAFETY: the contract; no test calls from two threads.
            unsafe { &mut *context.cast::<Liar>() }
        }

        unsafe extern "C" fn get(
            context: *mut c_void,
            _key: *const u8,
            value: *mut u8,
            capacity: usize,
            length: *mut usize,
            remaining: *mut u64,
        ) -> c_int {
            // SAFETY: the context of `table`; the outputs and the room are the store's own.
            unsafe {
                let liar = Liar::at(context);
                *length = liar.lengths[liar.calls.min(liar.lengths.len() - 1)];
                *remaining = liar.remaining;
                value.write_bytes(b'x', capacity);
                liar.calls += 1;
                liar.found
            }
        }

        unsafe extern "C" fn put(
            context: *mut c_void,
            _key: *const u8,
            _value: *const u8,
            _length: usize,
            _class: phantom_store_class,
            _keep_ms: u64,
            _version: u32,
        ) {
            // SAFETY: the context of `table`.
            unsafe { Liar::at(context) }.calls += 1;
        }

        unsafe extern "C" fn remove(_context: *mut c_void, _key: *const u8) {}

        unsafe extern "C" fn clear(_context: *mut c_void) {}

        unsafe extern "C" fn claim(
            context: *mut c_void,
            _key: *const u8,
            claim: *mut phantom_claim,
        ) -> c_int {
            // SAFETY: the context of `table`, and the store's own claim with its room.
            unsafe {
                let liar = Liar::at(context);
                (*claim)
                    .failure
                    .write_bytes(b'x', PHANTOM_STORE_FAILURE_MAX as usize);
                (*claim).failure = std::ptr::null_mut();
                (*claim).failure_length = liar.failure_length;
                (*claim).held_by = liar.held_by;
                liar.claimed
            }
        }

        unsafe extern "C" fn settle(
            context: *mut c_void,
            _key: *const u8,
            _flight: u64,
            failure: *const u8,
            length: usize,
        ) {
            assert_eq!(failure.is_null(), length == 0);
            // SAFETY: the context of `table`.
            unsafe { Liar::at(context) }.settled.push(length);
        }

        unsafe extern "C" fn words(context: *mut c_void) -> *mut u64 {
            // SAFETY: the context of `table`.
            let liar = unsafe { Liar::at(context) };
            liar.words
                .get()
                .cast::<u64>()
                .wrapping_byte_add(liar.words_off)
        }

        unsafe extern "C" fn free(context: *mut c_void) {
            // SAFETY: the context of `table`.
            unsafe { Liar::at(context) }.freed += 1;
        }

        fn table(&mut self) -> phantom_store {
            phantom_store {
                size: size_of::<phantom_store>(),
                context: (&raw mut *self).cast(),
                get: Some(Liar::get),
                put: Some(Liar::put),
                remove: Some(Liar::remove),
                clear: Some(Liar::clear),
                version: None,
                claim: Some(Liar::claim),
                settle: Some(Liar::settle),
                words: Some(Liar::words),
                free: Some(Liar::free),
            }
        }
    }

    fn store(table: &phantom_store) -> Result<HostStore, Failure> {
        // SAFETY: it can be read, and its callbacks do what is said of them, but for what they say themselves.
        unsafe { HostStore::new(table) }
    }

    fn key() -> Key {
        Key::new(&Fingerprint::of(b"a"), Token::parse(b"token").unwrap())
    }

    /// The value read from a store that returns these lengths, one after another.
    fn read(lengths: &[usize]) -> (Option<usize>, usize) {
        let mut liar = Liar {
            lengths: lengths.to_vec(),
            ..Liar::default()
        };
        let table = liar.table();
        let mut value = b"before".to_vec();
        let found = store(&table).ok().unwrap().get(&key(), &mut value);
        assert!(value.starts_with(b"before"));
        if found.is_none() {
            assert_eq!(value, b"before");
        }
        (found.map(|_| value.len() - 6), liar.calls)
    }

    #[test]
    fn a_value_that_is_too_long_for_the_room_is_read_again_with_more_up_to_a_mebibyte() {
        assert_eq!(read(&[0]), (Some(0), 1));
        assert_eq!(read(&[4096]), (Some(4096), 1));
        assert_eq!(read(&[4097]), (Some(4097), 2));
        assert_eq!(read(&[1 << 20]), (Some(1 << 20), 2));
        assert_eq!(read(&[(1 << 20) + 1]), (None, 1));
        assert_eq!(read(&[usize::MAX]), (None, 1));
    }

    #[test]
    fn a_value_that_changes_while_it_is_read_is_read_to_its_end_or_not_at_all() {
        assert_eq!(read(&[5000, 10]), (Some(10), 2));
        assert_eq!(read(&[5000, 5001]), (Some(5001), 3));
        assert_eq!(read(&[5000, 5001, 5002, 5003, 5004]), (None, 4));
    }

    #[test]
    fn what_is_not_found_or_is_kept_no_longer_is_not_there() {
        for (found, remaining) in [(0, 5000), (1, 0)] {
            let mut liar = Liar {
                found,
                remaining,
                lengths: vec![3],
                ..Liar::default()
            };
            let table = liar.table();
            let mut value = Vec::new();
            assert_eq!(store(&table).ok().unwrap().get(&key(), &mut value), None);
            assert!(value.is_empty());
        }
    }

    #[test]
    fn a_value_of_more_than_a_mebibyte_is_not_stored() {
        let mut liar = Liar::default();
        let table = liar.table();
        let stores = store(&table).ok().unwrap();
        for length in [0, 1 << 20, (1 << 20) + 1] {
            let value = vec![0; length];
            let _ = stores.put(&key(), &value, Class::Active, Duration::MAX, 0.into());
        }
        drop(stores);
        assert_eq!(liar.calls, 2);
    }

    #[test]
    fn a_claim_that_is_answered_with_nonsense_is_granted() {
        let ask = |claimed, held_by, failure_length, waited_for| {
            let mut liar = Liar {
                claimed,
                held_by,
                failure_length,
                ..Liar::default()
            };
            let table = liar.table();
            store(&table).ok().unwrap().lease(
                &key(),
                &FetchLease {
                    flight: 7,
                    version: 0.into(),
                    within: Duration::from_secs(1),
                    waited_for,
                    waited: Duration::ZERO,
                },
            )
        };
        assert_eq!(ask(0, 0, 0, None), LeaseOutcome::Granted);
        assert_eq!(ask(1, 8, 0, None), LeaseOutcome::Held(8));
        assert_eq!(ask(2, 0, 3, Some(8)), LeaseOutcome::Failed(b"xxx".to_vec()));
        let longest = PHANTOM_STORE_FAILURE_MAX as usize;
        assert_eq!(
            ask(2, 0, longest, Some(8)),
            LeaseOutcome::Failed(vec![b'x'; longest])
        );
        // Held by itself, no such number, failed without having waited, without a failure, with one beyond its room.
        assert_eq!(ask(1, 7, 0, None), LeaseOutcome::Granted);
        assert_eq!(ask(-1, 8, 3, Some(8)), LeaseOutcome::Granted);
        assert_eq!(ask(3, 8, 3, Some(8)), LeaseOutcome::Granted);
        assert_eq!(ask(2, 8, 3, None), LeaseOutcome::Granted);
        assert_eq!(ask(2, 8, 0, Some(8)), LeaseOutcome::Granted);
        assert_eq!(ask(2, 8, longest + 1, Some(8)), LeaseOutcome::Granted);
        assert_eq!(ask(2, 8, usize::MAX, Some(8)), LeaseOutcome::Granted);
    }

    #[test]
    fn a_failure_that_could_not_be_read_again_is_settled_as_none() {
        let mut liar = Liar::default();
        let table = liar.table();
        let stores = store(&table).ok().unwrap();
        let longest = vec![0; PHANTOM_STORE_FAILURE_MAX as usize];
        stores.release(&key(), 7, None);
        stores.release(&key(), 7, Some(&longest));
        stores.release(&key(), 7, Some(&[longest.as_slice(), b"x"].concat()));
        drop(stores);
        assert_eq!(liar.settled, [0, longest.len(), 0]);
    }

    #[test]
    fn a_table_without_what_is_required_is_refused_and_not_freed() {
        let mut liar = Liar::default();
        let good = liar.table();
        let sizes = [0, 1, 40, 41, size_of::<phantom_store>() - 1, usize::MAX];
        let tables = sizes
            .map(|size| phantom_store { size, ..good })
            .into_iter()
            .chain([
                phantom_store { get: None, ..good },
                phantom_store { put: None, ..good },
                phantom_store {
                    remove: None,
                    ..good
                },
                phantom_store {
                    clear: None,
                    ..good
                },
                phantom_store {
                    claim: None,
                    ..good
                },
                phantom_store {
                    settle: None,
                    ..good
                },
            ]);
        for table in tables {
            assert!(store(&table).is_err(), "{}", table.size);
        }
        let mut misaligned = Liar {
            words_off: 4,
            ..Liar::default()
        };
        let table = misaligned.table();
        assert!(store(&table).is_err());
        assert_eq!((liar.freed, misaligned.freed), (0, 0));
    }

    #[test]
    fn a_table_of_an_earlier_or_later_version_has_what_both_know() {
        let mut liar = Liar::default();
        let full = liar.table();
        let early = phantom_store {
            size: offset_of!(phantom_store, version),
            ..full
        };
        let store = store(&early).ok().unwrap();
        assert!(store.words().is_none() && store.claims.is_none());
        drop(store);
        #[repr(C)]
        struct Later {
            table: phantom_store,
            more: [usize; 3],
        }
        let mut later = Later {
            table: full,
            more: [usize::MAX; 3],
        };
        later.table.size = size_of::<Later>();
        // SAFETY: as many bytes as it says can be read.
        let store = unsafe { HostStore::new((&raw const later).cast()) }
            .ok()
            .unwrap();
        assert!(store.words().is_some());
        drop(store);
        assert_eq!(later.more[0], usize::MAX);
        // Of the early one `free` was not known; of the later one it was called.
        assert_eq!(liar.freed, 1);
    }

    #[test]
    fn words_are_the_hosts_own() {
        let mut liar = Liar::default();
        let table = liar.table();
        let store = store(&table).ok().unwrap();
        store.words().unwrap()[3].store(7, Ordering::Relaxed);
        drop(store);
        assert_eq!(liar.words.get_mut()[3], 7);
    }
}
