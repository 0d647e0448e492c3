//! libphantom_token: exchanges opaque OAuth access tokens for JWTs, and caches them.
//!
//! A client on the internet holds an opaque access token, which carries no information. The APIs behind a gateway
//! want a JWT, which carries all claims. This library calls the introspection endpoint of the authorization server
//! (RFC 7662) and caches the verdict. The next request with the same token gets the JWT for the price of a hash and a
//! lookup.
//!
//! An example (docs/c-api.md is the full reference):
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
//! Rules for every function:
//!
//! - A function that can fail returns a `phantom_status`. 0 is `PHANTOM_OK`. Outputs are written only on success.
//! - A NULL for a required argument gives `PHANTOM_INVALID_ARGUMENT`, or the neutral return value that is documented.
//! - Input text is a pointer and a length, without a NUL, unless the function's name ends in `_str`.
//! - Output text ends with a NUL. Its length is returned too where it can be long.
//! - An object that a `_new`, `_start`, `_retain` or an output parameter gives you is yours: pass it to its `_free`,
//!   once. Every `_free` accepts NULL.
//! - Any number of threads may use clients, results, zones and finished policies at the same time. Only one thread at
//!   a time may use a configuration or a stats snapshot. Nothing may be used while, or after, it is freed.
//! - No function throws, unwinds or exits. A bug in this library gives `PHANTOM_PANIC`.
//! - No message, log line or statistic contains a token, a JWT or a secret.
//! - Numbers are never reused, and new ones may be added: have a default case for unknown numbers.

// C names.
#![allow(non_camel_case_types)]
// C sees these types as opaque pointers, and no Rust code prints them.
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
