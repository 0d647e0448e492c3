//! The gateway's decisions about a request: admit it, or answer it. Every host uses them. No I/O happens here.
//!
//! | module | contents |
//! | --- | --- |
//! | [`access_policy`] | the decision about a request, and the answer to a denied request |
//! | [`credentials`] | the access token that a request presents, and the places where it may be |
//! | [`outcome`] | the vocabulary of decisions: outcomes, error codes, reasons |
//! | [`source`] | parsers of cookies and queries, and removal of the token from them |
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
