//! The cache of verdicts.
//!
//! | file | contents |
//! | --- | --- |
//! | `tiers.rs` | all caches, as a client sees them |
//! | `lifetime.rs` | the lifetime of verdicts |
//! | `memory.rs` | the cache in the memory of one process |
//! | `proofs.rs` | the record of used proofs of senders |
//! | `store.rs` | the trait of the store that clients share |
//! | `versions.rs` | versions of keys for purges, where the store has none |
//! | `sealed.rs` | the format in which a verdict leaves the process |
//! | `zone/` | the store in memory that processes share |

mod lifetime;
mod memory;
mod proofs;
pub(crate) mod sealed;
mod store;
mod tiers;
mod versions;
mod zone;

pub use lifetime::{Lifetime, lifetime};
pub(crate) use lifetime::{allowed, server_says};
pub use memory::{CacheCounts, Hit, MemoryCache};
pub(crate) use proofs::Proofs;
pub(crate) use store::NO_PROOF;
pub use store::{
    Class, FetchLease, FirstUse, LeaseOutcome, PROOF_AHEAD, ProofId, ProofTime, SharedAtomics,
    Store, Version,
};
pub(crate) use tiers::{TieredCache, VersionedKey};
pub(crate) use versions::Versions;
pub use zone::{Attached, Zone, ZoneCounts, ZoneError, ZoneStore};
