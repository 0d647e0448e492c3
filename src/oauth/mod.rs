//! The nouns of OAuth 2.0: endpoints, server metadata, client authentication and requests. No I/O happens here.
//!
//! | file | contents |
//! | --- | --- |
//! | `endpoint.rs` | an endpoint and its purpose |
//! | `server.rs` | an authorization server: its endpoints and capabilities |
//! | `metadata.rs` | server metadata (RFC 8414) |
//! | `client_auth.rs` | the names of the methods of client authentication |
//! | `client_authentication.rs` | our identity at a server, and its proof |
//! | `request.rs` | a request to an endpoint |

mod client_auth;
mod client_authentication;
mod endpoint;
mod metadata;
mod request;
mod server;

pub use client_auth::ClientAuth;
pub(crate) use client_authentication::{ClientAuthenticator, ClientCredential, SECRET_ALGORITHM};
pub use endpoint::{Endpoint, HostEndpoint, Purpose};
pub use metadata::{Metadata, well_known};
pub use request::Request;
pub use server::Server;
