//! Remembering verdicts.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `tiers.rs` | all of it, as a client sees it |
//! | `lifetime.rs` | for how long |
//! | `memory.rs` | in the memory of one process |
//! | `proofs.rs` | which proofs of senders were used |
//! | `store.rs` | what stands behind it, shared with others: the trait |
//! | `versions.rs` | what tells one process's memory that something was purged, where the store does not |
//! | `sealed.rs` | in what form a verdict leaves the process |
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
