//! libphantom_token: turns opaque OAuth access tokens into JWTs, and remembers them.
//!
//! A client on the internet holds an opaque access token, which says nothing. The APIs behind a gateway want a JWT,
//! which says everything. This library asks the authorization server at its introspection endpoint (RFC 7662) what
//! the token stands for, remembers the verdict, and hands the JWT out again at the price of a hash and a lookup.
//!
//! In short (docs/c-api.md has it in full):
//!
//! ```c
//! phantom_config *config = NULL;
//! phantom_client *client = NULL;
//! phantom_policy *policy = NULL;
//! phantom_result *result = NULL;
//!
//! // When the program starts: who the authorization server is, and what is asked of a token.
//! if (phantom_config_new("main", 4, &config) != PHANTOM_OK ||
//!     phantom_config_set_str(config, "introspection_endpoint", "https://as.example.com/introspect") != PHANTOM_OK ||
//!     phantom_config_set_str(config, "client_id", "gateway") != PHANTOM_OK ||
//!     phantom_config_set_str(config, "client_secret_file", "/etc/gateway/secret") != PHANTOM_OK ||
//!     phantom_client_start(config, &client) != PHANTOM_OK || phantom_policy_new(&policy) != PHANTOM_OK ||
//!     phantom_policy_set_str(policy, "scopes", "orders:read") != PHANTOM_OK)
//!   fprintf(stderr, "%s\n", phantom_last_error());
//!
//! // For each request: what its token stands for, and whether it may pass.
//! phantom_presentation request = {.size = sizeof request, .authorization = value, .authorization_length = length};
//!
//! if (phantom_client_resolve(client, token, token_length, 0, &result) == PHANTOM_OK &&
//!     phantom_policy_check(policy, client, result, &request, NULL) == PHANTOM_OK)
//!   printf("Authorization: %s\n", phantom_result_authorization(result, NULL));
//! phantom_result_free(result);
//!
//! phantom_policy_free(policy);
//! phantom_client_free(client);
//! phantom_config_free(config);
//! ```
//!
//! What holds for every function:
//!
//! - A function that can fail returns a `phantom_status`. 0 is `PHANTOM_OK`. Outputs are written only on success.
//! - A NULL where something is needed is `PHANTOM_INVALID_ARGUMENT`, or the neutral answer that is documented.
//! - Text goes in as a pointer and a length, without a NUL, unless the function's name ends in `_str`.
//! - Text comes out with a NUL behind it, and with its length where it can be long.
//! - What a `_new`, `_start`, `_retain` or an output parameter gives you is yours: hand it to its `_free`, once.
//!   Every `_free` takes NULL.
//! - Clients, results, zones and policies that are set may be used by any number of threads at once; a configuration or a
//!   stats snapshot by one at a time. Nothing may be used while, or after, it is freed.
//! - Nothing here throws, unwinds or exits; a defect of this library is `PHANTOM_PANIC`.
//! - Tokens, JWTs and secrets appear in no message, no log line and no statistics.
//! - Numbers are never reused, and new ones may be added: have a default for those that you don't know.

// The names are those of C.
#![allow(non_camel_case_types)]
// Types of C are opaque pointers there, and nobody prints them in Rust.
#![allow(missing_debug_implementations)]

pub mod client;
pub mod config;
pub mod decision;
pub mod events;
pub mod log;
pub mod policy;
pub mod result;
pub mod stats;
pub mod status;
pub mod store;
pub mod version;
pub mod zone;

mod boundary;
