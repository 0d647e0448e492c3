//! Remembering verdicts: for how long ([`lifetime`]) and where ([`MemoryCache`]).

mod lifetime;
mod memory;

pub use lifetime::lifetime;
pub use memory::{CacheCounts, MemoryCache};
