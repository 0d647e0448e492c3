//! The gateway's decisions about a request: what every host needs to let it pass or to answer it. No I/O happens here.
//!
//! | module | what it has |
//! | --- | --- |
//! | [`access_policy`] | the decision about a request, and the answer to one that is denied |
//! | [`credentials`] | the access token that a request presents, and where it may be |
//! | [`outcome`] | the vocabulary of decisions: outcomes, error codes, reasons |
//! | [`source`] | cookies and queries: what is in them, and what is left without the token |
//! | [`requirements`] | requirements on a token: scopes, audience, claims |
//! | [`sender`] | sender-constrained tokens: DPoP (RFC 9449), certificates (RFC 8705) |
//! | [`challenge`] | `WWW-Authenticate` |
//! | [`resource`] | protected resource metadata (RFC 9728) |
//! | [`purge`] | the form of a purge request |
//! | [`metrics`] | counters that several processes share |
//! | [`status`] | the status page, JSON and Prometheus metrics |

pub mod access_policy;
pub mod challenge;
pub mod credentials;
pub mod metrics;
pub mod outcome;
pub mod purge;
pub mod requirements;
pub mod resource;
pub mod sender;
pub mod source;
pub mod status;
