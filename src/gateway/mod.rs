//! The gateway's decisions about a request: what every host needs to let it pass or to answer it. No I/O happens here.
//!
//! | module | what it has |
//! | --- | --- |
//! | [`gate`] | the decision about a request, and the answer to a refused one |
//! | [`source`] | where a request may have its token |
//! | [`policy`] | requirements on a token: scopes, audience, claims |
//! | [`sender`] | sender-constrained tokens: DPoP (RFC 9449), certificates (RFC 8705) |
//! | [`challenge`] | `WWW-Authenticate` |
//! | [`resource`] | protected resource metadata (RFC 9728) |
//! | [`purge`] | the form of a purge request |
//! | [`metrics`] | counters that several processes share |
//! | [`status`] | the status page, JSON and Prometheus metrics |

pub mod challenge;
pub mod gate;
pub mod metrics;
pub mod policy;
pub mod purge;
pub mod resource;
pub mod sender;
pub mod source;
pub mod status;
