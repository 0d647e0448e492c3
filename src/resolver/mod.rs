//! The path from token to verdict: memory, then the flight in progress for this token, then the authorization server.
//!
//! | file | contents |
//! | --- | --- |
//! | `client.rs` | the path itself, and the ways to call it |
//! | `breaker.rs` | the circuit breaker, and its evidence |
//! | `tokens.rs` | the tokens that the authorization server has called active, or on which it has failed lately |
//! | `retries.rs` | the budget of repeated calls |
//! | `discovery.rs` | the metadata of the authorization server |
//! | `keys.rs` | the keys that it publishes |
//! | `endpoints.rs` | the order of its addresses |
//! | `flights.rs` | flights and their waiting requests: one call per token at a time |
//! | `runtime.rs` | the thread, and the life of a call on it |
//! | `credentials.rs` | the credentials of calls, and their rotation |
//! | `access_token.rs` | an access token of our own: fetched, kept, refreshed |
//! | `transport.rs` | HTTP and TLS |
//! | `host.rs` | calls that the host makes |
//! | `queue.rs` | the completion queue of an event loop |
//! | `report.rs` | logging and its rate limits |
//! | `stats.rs` | statistics |
//! | `failures.rs` | the last error of each kind |
//! | `fork.rs` | fork detection |

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
