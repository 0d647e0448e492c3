//! Turns opaque OAuth access tokens into the JWTs that internal APIs need.
//!
//! A gateway receives an *opaque access token*: a random string without content. The APIs behind it need a JWT. This
//! crate is between them: it asks the authorization server at its introspection endpoint (RFC 7662), caches the
//! verdict, and returns the JWT for later requests at the cost of a hash and a lookup.
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
//! Modules of the crate depend on each other in one direction only: `ROOMS` in `tests/layers.rs` is the list, and
//! docs/development.md shows it.
//!
//! # Features
//!
//! - `c-abi` (by default): the C ABI, `ffi`. Its symbols are exported by any shared object that the crate is linked into.
//! - `gateway` (a part of `c-abi`): the decisions of a gateway about requests, and its status page. Without it the
//!   crate resolves tokens, and does not depend on libraries for pages and regular expressions.

#![warn(missing_debug_implementations)]

pub mod cache;
pub mod clock;
pub mod config;
mod error;
#[cfg(feature = "c-abi")]
pub mod ffi;
#[cfg(all(feature = "gateway", any(test, feature = "fuzzing")))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "gateway")]
pub mod gateway;
mod introspection;
pub mod jwt;
mod oauth;
mod process;
mod resolver;
mod secret;
pub mod token;
mod values;
mod verdict;

pub use config::{Config, ConfigError, Provider};
pub use error::{Error, ErrorKind};
pub use resolver::{
    Answer, Call, CallFailure, CallSink, Client, ClientOptions, Completion, CompletionQueue,
    LastError, LastErrors, LogLevel, LogSink, RequestId, StartError, Stats, Submitted,
};
pub use token::{Token, TokenError};
pub use verdict::{Active, CacheStatus, Resolution, Verdict};
