//! Turns opaque OAuth access tokens into the JWTs that internal APIs want.
//!
//! A gateway receives an *opaque access token*: a random string that says nothing. The APIs behind it want a
//! JWT. This crate stands between them: it asks the authorization server at its introspection endpoint
//! (RFC 7662), remembers the verdict, and hands the JWT out again at the price of a hash and a lookup.
//!
//! ```no_run
//! use phantom_token::{Client, Config, Token, Verdict};
//!
//! let mut config = Config::new("main");
//! config.set("introspection_endpoint", "https://as.example.com/introspect")?;
//! config.set("client_id", "gateway")?;
//! config.set("client_secret_file", "/etc/gateway/secret")?;
//! let client = Client::start(config.build()?)?;
//!
//! let token = Token::parse(b"8f3c0a...")?;
//! match client.resolve(token, None)?.verdict {
//!     Verdict::Active(active) => match active.authorization() {
//!         Some(authorization) => println!("send {} bytes upstream", authorization.len()),
//!         // It is bound to a key of its sender: a `gate` checks that, and hands out the JWT.
//!         None => println!("the sender has to be checked"),
//!     },
//!     Verdict::Inactive => println!("no"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The modules depend on one another in one direction only:
//! `ffi → resolver → {cache, introspection, jwt} → {token, config}`, `challenge → policy → {jwt, config}`,
//! `sender → {cache, jwt} → token`, `status → tally → resolver`, and `ffi → gate → {challenge, policy, sender}`.

pub mod cache;
pub mod challenge;
pub mod clock;
pub mod config;
pub mod error;
#[cfg(feature = "c-abi")]
pub mod ffi;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gate;
pub mod introspection;
pub mod jwt;
pub mod policy;
mod process;
pub mod purge;
pub mod resolver;
pub mod resource;
pub mod sender;
pub mod server;
pub mod source;
pub mod status;
pub mod tally;
pub mod token;
pub mod verdict;

pub use config::{Config, ConfigError, Provider};
pub use error::{Error, ErrorKind};
pub use resolver::{
    Answer, Call, CallFailure, CallSink, Client, Completion, CompletionQueue, LastError,
    LastErrors, LogLevel, LogSink, RequestId, StartError, Stats, Submitted, Surroundings,
};
pub use token::{Token, TokenError};
pub use verdict::{Active, CacheStatus, Resolution, Verdict};
