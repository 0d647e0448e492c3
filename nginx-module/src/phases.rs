//! The phases of a request: the decision about it, and its consequences.
//!
//! | file | what it has |
//! | --- | --- |
//! | `access.rs` | the handlers of the phases |
//! | `source.rs` | the credentials of a request, extracted from where it has them |
//! | `decide.rs` | the decision about a request |
//! | `context.rs` | the name of a verdict where a location introspects |
//! | `sender.rs` | the facts about the sender of a bound token |
//! | `forward.rs` | the headers of the request that goes upstream |
//! | `respond.rs` | responses that the module sends itself |

pub mod access;
mod context;
mod decide;
mod forward;
pub mod respond;
mod sender;
mod source;
