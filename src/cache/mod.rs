//! Remembering verdicts.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `lifetime.rs` | for how long |
//! | `memory.rs` | in the memory of one process |
//! | `lru.rs` | … and the table that it is kept in |
//! | `store.rs` | what stands behind it, shared with others: the trait |
//! | `sealed.rs` | in what form a verdict leaves the process |
//! | `zone/` | the store in memory that processes share |

mod lifetime;
mod lru;
mod memory;
pub(crate) mod sealed;
mod store;
mod zone;

pub use lifetime::lifetime;
pub use memory::{CacheCounts, MemoryCache};
pub use store::{Claim, Claimed, Class, SharedWords, Store};
pub use zone::{Attached, Zone, ZoneCounts, ZoneStore};
