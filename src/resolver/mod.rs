//! The one path from token to verdict: memory, then the flight that is already under way for this token, then the
//! authorization server.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `client.rs` | the path itself, and the ways to call it |
//! | `breaker.rs` | when the authorization server is not asked at all, and on what evidence |
//! | `tokens.rs` | which tokens it has called active, and on which it has failed lately |
//! | `retries.rs` | how many calls may be made a second time |
//! | `discovery.rs` | what the authorization server says of itself |
//! | `keys.rs` | the keys that it publishes |
//! | `endpoints.rs` | which of its addresses is asked first |
//! | `flights.rs` | who waits for what: one call per token at a time |
//! | `runtime.rs` | the thread, and a call's life on it |
//! | `credentials.rs` | what calls authenticate with, and secrets that rotate |
//! | `access_token.rs` | an access token of our own: fetched, kept, refreshed |
//! | `transport.rs` | HTTP and TLS |
//! | `host.rs` | calls that the host makes |
//! | `queue.rs` | how an event loop learns of a verdict |
//! | `report.rs` | what is logged, and how often |
//! | `stats.rs` | what is counted |
//! | `failures.rs` | what went wrong last |
//! | `fork.rs` | noticing that the process is not the one that started the thread |

mod access_token;
mod breaker;
mod client;
mod credentials;
mod discovery;
mod endpoints;
mod failures;
mod flights;
mod fork;
mod host;
mod keys;
mod queue;
mod report;
mod retries;
mod runtime;
mod stats;
mod tokens;
mod transport;

pub use client::{Client, ClientOptions, StartError, Submitted};
pub use failures::{LastError, LastErrors};
pub use flights::RequestId;
pub use host::{Answer, Call, CallFailure, CallSink};
pub use queue::{Completion, CompletionQueue};
pub use report::{LogLevel, LogSink};
pub use stats::Stats;
