//! Locations whose content the module generates.

pub mod jwks;
pub mod metadata;
pub mod purge;
pub mod status;
