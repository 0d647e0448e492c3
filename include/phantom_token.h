// SPDX-License-Identifier: Apache-2.0
//
// Generated from src/ffi: change it there.

// libphantom_token: exchanges opaque OAuth access tokens for JWTs, and caches them.
//
// A client on the internet holds an opaque access token, which carries no information. The APIs behind a gateway
// want a JWT, which carries all claims. This library calls the introspection endpoint of the authorization server
// (RFC 7662) and caches the verdict. The next request with the same token gets the JWT for the price of a hash and a
// lookup.
//
// An example (docs/c-api.md is the full reference):
//
//     phantom_config *config = NULL;
//     phantom_client *client = NULL;
//     phantom_policy *policy = NULL;
//     phantom_result *result = NULL;
//
//     // When the program starts: who the authorization server is, and what is asked of a token.
//     if (phantom_config_new("main", 4, &config) != PHANTOM_OK ||
//         phantom_config_set_str(config, "introspection_endpoint", "https://as.example.com/introspect") != PHANTOM_OK ||
//         phantom_config_set_str(config, "client_id", "gateway") != PHANTOM_OK ||
//         phantom_config_set_str(config, "client_secret_file", "/etc/gateway/secret") != PHANTOM_OK ||
//         phantom_client_start(config, &client) != PHANTOM_OK || phantom_policy_new(&policy) != PHANTOM_OK ||
//         phantom_policy_set_str(policy, "scopes", "orders:read") != PHANTOM_OK)
//       fprintf(stderr, "%s\n", phantom_last_error());
//
//     // For each request: what its token stands for, and whether it may pass.
//     phantom_presentation request = {.size = sizeof request, .authorization = value, .authorization_length = length};
//
//     if (phantom_client_resolve(client, token, token_length, 0, &result) == PHANTOM_OK &&
//         phantom_policy_check(policy, client, result, &request, NULL) == PHANTOM_OK)
//       printf("Authorization: %s\n", phantom_result_authorization(result, NULL));
//     phantom_result_free(result);
//
//     phantom_policy_free(policy);
//     phantom_client_free(client);
//     phantom_config_free(config);
//
// Rules for every function:
//
// - A function that can fail returns a `phantom_status`. 0 is `PHANTOM_OK`. Outputs are written only on success.
// - A NULL for a required argument gives `PHANTOM_INVALID_ARGUMENT`, or the neutral return value that is documented.
// - Input text is a pointer and a length, without a NUL, unless the function's name ends in `_str`.
// - Output text ends with a NUL. Its length is returned too where it can be long.
// - An object that a `_new`, `_start`, `_retain` or an output parameter gives you is yours: pass it to its `_free`,
//   once. Every `_free` accepts NULL.
// - Any number of threads may use clients, results, zones and finished policies at the same time. Only one thread at
//   a time may use a configuration or a stats snapshot. Nothing may be used while, or after, it is freed.
// - No function throws, unwinds or exits. A bug in this library gives `PHANTOM_PANIC`.
// - No message, log line or statistic contains a token, a JWT or a secret.
// - Numbers are never reused, and new ones may be added: have a default case for unknown numbers.

#ifndef PHANTOM_TOKEN_H
#define PHANTOM_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// On functions whose answer a program cannot do without.
#ifndef PHANTOM_MUST_USE
#if defined(__GNUC__) || defined(__clang__)
#define PHANTOM_MUST_USE __attribute__((warn_unused_result))
#else
#define PHANTOM_MUST_USE
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

// ---------------------------------------------------------------------------------------------------------
// Types.
// ---------------------------------------------------------------------------------------------------------

// The settings for one authorization server. Created by `phantom_config_new`.
typedef struct phantom_config phantom_config;

// A client: the cache, and the thread that calls the authorization server. Created by `phantom_client_start`.
typedef struct phantom_client phantom_client;

// A verdict on a token, and its cache status. Created by `phantom_client_resolve`, `phantom_client_lookup` and
// `phantom_client_submit`.
typedef struct phantom_result phantom_result;

// The reason why a request is denied, and the answer to send. Created by `phantom_policy_check`.
typedef struct phantom_denial phantom_denial;

// The requirements on a token. Created by `phantom_policy_new`.
typedef struct phantom_policy phantom_policy;

// A decision about a request. Created by `phantom_decision_new`, and reused for one request after another.
typedef struct phantom_decision phantom_decision;

// A snapshot of a client's statistics. Created by `phantom_client_stats`.
typedef struct phantom_stats phantom_stats;

// A store in shared memory. Created by `phantom_zone_attach`.
typedef struct phantom_zone phantom_zone;

// ---------------------------------------------------------------------------------------------------------
// Version.
// ---------------------------------------------------------------------------------------------------------

// The major version of this header. It is raised when programs must be rebuilt; the soname contains it.
#define PHANTOM_VERSION_MAJOR 0

// The minor version. It is raised when something is added.
#define PHANTOM_VERSION_MINOR 1

// The patch version. It is raised when something is fixed.
#define PHANTOM_VERSION_PATCH 0

// Returns the version of the loaded library as text: "0.1.0". It is never NULL, and must not be freed.
const char *phantom_version(void);

// Returns the version of the loaded library as a number: 65536 × major + 256 × minor + patch.
uint32_t phantom_version_number(void);

// Enumerates the constants of this header, for languages that cannot include it. It returns the name of the constant
// at `index` ("PHANTOM_TIMEOUT") and writes its value to `value`. It returns NULL if there is none at `index`. Call
// it with 0, 1, 2, … until it returns NULL. The name must not be freed.
//
// `value` may be NULL.
const char *phantom_constant(size_t index,
                             int64_t *value);

// ---------------------------------------------------------------------------------------------------------
// Statuses and errors.
//
// A status is for the program; the message of `phantom_last_error` is for the operator. An error says nothing about
// the token: after an error, do not let the request through.
// ---------------------------------------------------------------------------------------------------------

// The status of a call.
enum phantom_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Success. After resolving a token: there is a verdict, active or inactive.
  PHANTOM_OK = 0,
  // The request was submitted: `phantom_client_dispatch` delivers the answer.
  PHANTOM_PENDING = 1,
  // Not found: the token is not in memory, or no such request is pending.
  PHANTOM_NOT_FOUND = 2,
  // The policy denies the request.
  PHANTOM_DENIED = 3,
  // A pointer is NULL, text is not UTF-8, or a number is out of range: a bug in the calling program.
  PHANTOM_INVALID_ARGUMENT = 10,
  // The token is empty, longer than 8192 bytes, or has a byte that RFC 6750 does not allow.
  PHANTOM_INVALID_TOKEN = 11,
  // A setting is unknown, missing, contradictory, or names a file that cannot be read.
  PHANTOM_CONFIG = 12,
  // The operating system has no thread or file descriptor left.
  PHANTOM_SYSTEM = 13,
  // No answer: name resolution, connection or TLS failed, or the connection was lost before the answer was
  // complete.
  PHANTOM_UNREACHABLE = 20,
  // The answer cannot be used: wrong protocol, wrong dialect, too large, or not a JWT.
  PHANTOM_BAD_ANSWER = 21,
  // The authorization server rejects the credentials of this client, not the token.
  PHANTOM_CLIENT_REFUSED = 22,
  // The authorization server reports that it is busy: see `phantom_last_error_retry_after`.
  PHANTOM_BUSY = 23,
  // The configured limit of calls in progress, or of waiting requests, is reached.
  PHANTOM_OVERLOADED = 24,
  // There was no verdict within the timeout.
  PHANTOM_TIMEOUT = 25,
  // The client has been stopped.
  PHANTOM_STOPPED = 26,
  // The client was started before a fork, in the parent process: start one in this process.
  PHANTOM_FORKED = 27,
  // The authorization server has failed so often (`max_fails`) that it is not called for a while.
  PHANTOM_CIRCUIT_OPEN = 28,
  // A bug in this library, detected by a check.
  PHANTOM_INTERNAL = 30,
  // A bug in this library: a panic, stopped at the C boundary.
  PHANTOM_PANIC = 31,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum phantom_status phantom_status;
#else
typedef int32_t phantom_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Returns a short description of a status. It is never NULL, also for a number that is not a status, and must not be
// freed.
const char *phantom_status_string(int32_t status);

// Returns the HTTP status (RFC 9110 §15) with which a gateway answers a request that ended with this status:
// - 502: the authorization server or its answer is at fault.
// - 503: retrying later helps.
// - 504: the authorization server was too slow.
// - 400: the token is malformed.
// - 500: this program or its configuration is at fault, or the number is not a status.
// - 403: `PHANTOM_DENIED`; prefer the status of the denial, which is more exact.
// - 0: `PHANTOM_OK`, `PHANTOM_PENDING` and `PHANTOM_NOT_FOUND`, which are not failures.
//
// An inactive token is a verdict, not a failure: answer 401.
int32_t phantom_status_http(int32_t status);

// Returns the message of the last failed call on this thread, for a log: the cause, and how to fix it. It is "" if
// no call has failed, and never NULL. It stays valid until the next call on this thread, and must not be freed.
//
// In a callback of `phantom_client_submit` it is the message of that request.
const char *phantom_last_error(void);

// Returns after how many seconds a retry may succeed, for the failure that `phantom_last_error` describes. The value
// is the `Retry-After` of the authorization server (RFC 9110 §10.2.3), or after `PHANTOM_CIRCUIT_OPEN` the time
// until the server is called again. It is -1 if not known.
int64_t phantom_last_error_retry_after(void);

// ---------------------------------------------------------------------------------------------------------
// Configuration.
//
// A configuration describes one authorization server: its address, how this client authenticates to it, the format
// of its answers, and how long they are cached. It is plain data: it starts no thread and opens no socket, so a
// process may create it before it forks.
// ---------------------------------------------------------------------------------------------------------

// Creates a configuration with default settings, and writes it to `config`. It is yours: free it with
// `phantom_config_free`, even after a client has been started with it.
//
// Messages refer to the configuration by `name`.
PHANTOM_MUST_USE
phantom_status phantom_config_new(const char *name,
                                  size_t name_length,
                                  phantom_config **config);

// Frees a configuration. Clients that were started with it keep running.
void phantom_config_free(phantom_config *config);

// Sets one key: `introspection_endpoint`, `client_id`, `client_secret_file`, `timeout`, `cache_ttl`, … Values have
// the nginx format: "5s", "10m", "on". docs/c-api.md lists the keys; `phantom_config_key` enumerates them.
//
// Returns `PHANTOM_CONFIG` if there is no such key, or if the value is not valid for it; `phantom_last_error` names
// the valid values.
PHANTOM_MUST_USE
phantom_status phantom_config_set(phantom_config *config,
                                  const char *key,
                                  size_t key_length,
                                  const char *value,
                                  size_t value_length);

// Like `phantom_config_set`, with a key and a value that end in a NUL.
PHANTOM_MUST_USE
phantom_status phantom_config_set_str(phantom_config *config,
                                      const char *key,
                                      const char *value);

// Checks that a client can be started with this configuration: no setting is missing or contradictory, and every
// file can be read. A root process can call it before it drops its privileges.
PHANTOM_MUST_USE
phantom_status phantom_config_check(const phantom_config *config);

// Enumerates the keys. It returns the name of the key at `index`, or NULL if there is none. Call it with 0, 1, 2, …
// until it returns NULL. The name must not be freed.
const char *phantom_config_key(size_t index);

// ---------------------------------------------------------------------------------------------------------
// Client.
//
// A client is the running form of a configuration: it holds the cache and one thread that calls the authorization
// server. One client serves a whole process, with any number of threads. Start it after the last fork.
// ---------------------------------------------------------------------------------------------------------

// Starts a client and writes it to `client`. It is yours: free it with `phantom_client_free`. The process gets one
// more thread, in which all signals are blocked.
//
// The configuration is copied: you may change it, free it, or start another client with it. Settings that are
// allowed but risky, such as disabled certificate verification, are logged before this returns.
//
// Returns `PHANTOM_CONFIG` as `phantom_config_check` does; `PHANTOM_SYSTEM` if the system has no thread or file
// descriptor left.
PHANTOM_MUST_USE
phantom_status phantom_client_start(const phantom_config *config,
                                    phantom_client **client);

// Resolves `token`, and waits for the verdict. It looks in memory, then in the shared store, then calls the
// authorization server. After `PHANTOM_OK` there is a verdict, and `result` is yours: free it with
// `phantom_result_free`. Call `phantom_policy_check` with it to decide whether the request may pass. Any other
// status says nothing about the token: do not let the request through.
//
// It waits at most `timeout_ms` milliseconds, and never longer than the configured `timeout`. 0 means the configured
// `timeout`.
//
// Returns `PHANTOM_INVALID_TOKEN` if the bytes cannot be a token (RFC 6750 §2.1), and a status from
// `PHANTOM_UNREACHABLE` to `PHANTOM_FORKED` if there is no verdict.
PHANTOM_MUST_USE
phantom_status phantom_client_resolve(const phantom_client *client,
                                      const char *token,
                                      size_t token_length,
                                      uint64_t timeout_ms,
                                      phantom_result **result);

// Looks `token` up in the client's own memory, not in a store. It never waits, and does not allocate when it finds a
// verdict. After `PHANTOM_OK`, `result` is yours. Returns `PHANTOM_NOT_FOUND` if the token is not in memory;
// `phantom_last_error` does not record that as an error.
PHANTOM_MUST_USE
phantom_status phantom_client_lookup(const phantom_client *client,
                                     const char *token,
                                     size_t token_length,
                                     phantom_result **result);

// Purges `token` from the client's memory and from the shared store. After this has returned, any client of that
// store that resolves the token gets an answer that the authorization server gave after this was called. Use it for
// a token that was revoked, or whose rights have changed. It never waits for the authorization server.
//
// Returns `PHANTOM_OK` whether or not the token was cached.
//
// Returns `PHANTOM_INVALID_TOKEN` if the bytes cannot be a token; `PHANTOM_STOPPED`, `PHANTOM_FORKED`.
PHANTOM_MUST_USE
phantom_status phantom_client_purge(const phantom_client *client,
                                    const char *token,
                                    size_t token_length);

// Purges all tokens of this client's authorization server, as `phantom_client_purge` purges one.
PHANTOM_MUST_USE phantom_status phantom_client_purge_all(const phantom_client *client);

// Stops a client within two seconds. Calls that wait return `PHANTOM_STOPPED`, and so do later calls that ask for a
// verdict. The client's thread has ended when this returns. Submitted requests that are not yet dispatched can still
// be dispatched. It is safe to stop a client twice.
//
// Returns `PHANTOM_TIMEOUT` if the thread has not ended, because the log callback does not return.
phantom_status phantom_client_stop(const phantom_client *client);

// Stops and frees a client. Callbacks of submitted requests that are not yet dispatched never run. Results stay
// valid. NULL is allowed.
//
// In a forked child it returns at once, and does not touch the child's copy of the client's memory.
void phantom_client_free(phantom_client *client);

// ---------------------------------------------------------------------------------------------------------
// Results.
//
// A result is the verdict on the token of one request, and its cache status. Reading a result is cheap: the JWT is
// not copied, because the result and the cache share one copy. A result stays valid until it is freed, even if the
// cache entry is evicted or the client is freed.
//
// A token may be bound to a key of its sender (`cnf`, RFC 9449, RFC 8705). The sender must then prove possession of
// the key; otherwise a copy of the token would work as well as the token. The JWT itself is a plain bearer token. So
// the result of a bound token returns the JWT only after `phantom_policy_check` has let this request pass. If
// another party checks the sender, set `sender_constraint ignore` in the policy.
// ---------------------------------------------------------------------------------------------------------

// The cache status of a verdict.
enum phantom_cache_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // There is no result.
  PHANTOM_CACHE_NONE = 0,
  // The verdict was in the client's memory.
  PHANTOM_CACHE_HIT = 1,
  // The authorization server was called for it.
  PHANTOM_CACHE_MISS = 2,
  // Another request was already waiting for the authorization server; this request shared its answer.
  PHANTOM_CACHE_COALESCED = 3,
  // The verdict was in the shared store.
  PHANTOM_CACHE_SHARED = 4,
  // An expired verdict: the authorization server cannot be reached for a new one, and `stale_if_error` allows the
  // old one.
  PHANTOM_CACHE_STALE = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum phantom_cache_status phantom_cache_status;
#else
typedef int32_t phantom_cache_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Frees a result. NULL is allowed.
void phantom_result_free(phantom_result *result);

// Adds an owner to a result, and returns the same result: each owner must free it once. NULL gives NULL. Both owners
// share one request: if a policy check has let one owner's request pass, that holds for the other owner too.
PHANTOM_MUST_USE
phantom_result *phantom_result_retain(const phantom_result *result);

// Returns whether the token is active. It is also `false` for NULL: a missing result never lets a request through.
//
// An inactive token is unknown, expired, revoked, or issued for another resource server; the authorization server
// does not say which (RFC 7662 §2.2). Answer 401.
PHANTOM_MUST_USE
bool phantom_result_is_active(const phantom_result *result);

// Returns whether the token is active and bound to a key of its sender (`cnf`). If so,
// `phantom_result_authorization` and `phantom_result_jwt` return NULL until `phantom_policy_check` has let the
// request pass. It is `false` for NULL.
PHANTOM_MUST_USE
bool phantom_result_is_bound(const phantom_result *result);

// Returns the value of the `Authorization` header to send upstream, "Bearer eyJ…", and writes its length to
// `length`. It returns NULL and 0 if the token is not active. It also returns NULL and 0 if the token is bound to a
// key of its sender (`phantom_result_is_bound`) and `phantom_policy_check` has not let this result pass, because the
// JWT is a bearer token. The text ends with a NUL. It is part of the result: never free it.
//
// `length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_result_authorization(const phantom_result *result,
                                         size_t *length);

// Returns only the JWT (RFC 7519 §3), under the same rules as `phantom_result_authorization`.
PHANTOM_MUST_USE
const char *phantom_result_jwt(const phantom_result *result,
                               size_t *length);

// Returns all claims of the token as one JSON object, and writes its length to `length`. It returns NULL and 0 if
// the token is not active. A bound token needs no policy check for this. The text ends with a NUL. It is part of the
// result: never free it.
//
// `length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_result_claims(const phantom_result *result,
                                  size_t *length);

// Returns whether the token is active and was granted `scope`, a single scope (RFC 6749 §3.3). It is `false` for
// NULL. If an active token lacks the required scope, answer 403.
PHANTOM_MUST_USE
bool phantom_result_has_scope(const phantom_result *result,
                              const char *scope,
                              size_t scope_length);

// Returns the expiry time of the token, in seconds since the epoch (`exp`, RFC 7519 §4.1.4), or -1 if it has none or
// is not active.
PHANTOM_MUST_USE
int64_t phantom_result_expires_at(const phantom_result *result);

// Returns the cache status of the verdict; `PHANTOM_CACHE_NONE` for NULL.
PHANTOM_MUST_USE phantom_cache_status phantom_result_cache_status(const phantom_result *result);

// Returns the name of a cache status for logs: "HIT", "MISS", "COALESCED", …, or "-" for `PHANTOM_CACHE_NONE`. It is
// never NULL, also for a number that is not a cache status, and must not be freed.
const char *phantom_cache_status_string(int32_t cache_status);

// ---------------------------------------------------------------------------------------------------------
// Policies.
//
// An active token does not allow everything. A policy states further requirements: scopes, an audience, claims, how
// and when the user was authenticated. It also checks that a bound token comes from the sender that has the key.
// Create one policy for each protected resource when the program starts. Check it on every request, whether the
// verdict came from the cache or not.
//
//     phantom_policy *policy = NULL;
//
//     if (phantom_policy_new(&policy) != PHANTOM_OK ||
//         phantom_policy_set_str(policy, "realm", "orders") != PHANTOM_OK ||
//         phantom_policy_set_str(policy, "scopes", "orders:read orders:write") != PHANTOM_OK ||
//         phantom_policy_set_str(policy, "require", "tenant acme ~^test-") != PHANTOM_OK)
//       fprintf(stderr, "%s\n", phantom_last_error());
//
//     phantom_presentation request = {.size = sizeof request, .authorization = value, .authorization_length = length};
//     phantom_denial *denial = NULL;
//
//     switch (phantom_policy_check(policy, client, result, &request, &denial)) {
//     case PHANTOM_OK:
//       forward(phantom_result_authorization(result, NULL));
//       break;
//     case PHANTOM_DENIED:
//       answer(phantom_denial_http_status(denial), phantom_denial_challenge(denial, NULL));
//       phantom_denial_free(denial);
//       break;
//     default:
//       answer(500, NULL);
//     }
//
// Only `PHANTOM_OK` lets a request through.
// ---------------------------------------------------------------------------------------------------------

// The credentials of a request, unchanged from the client. Set `size`, and leave absent fields 0 and NULL. Later
// versions may add fields at the end.
typedef struct {
  // `sizeof(phantom_presentation)`.
  size_t size;
  // The value of the `Authorization` header: "DPoP 8f3c0a…".
  const char *authorization;
  // The length of `authorization`.
  size_t authorization_length;
  // The request method: "GET".
  const char *method;
  // The length of `method`.
  size_t method_length;
  // The URL of the request as the client sees it: `https://api.example.com/orders`. The query and the fragment are
  // ignored. Build it from a checked host: if `Host` contains anything but a host and a port, answer 400, or a
  // proof for one path is valid for another. A URL without a path is refused, because such a `Host` produces it.
  const char *url;
  // The length of `url`.
  size_t url_length;
  // The value of the `DPoP` header (RFC 9449 §4.1).
  const char *dpop;
  // The length of `dpop`.
  size_t dpop_length;
  // The number of `DPoP` headers in the request: more than one is not allowed.
  size_t dpop_count;
  // The client certificate of the TLS connection, as DER. Your TLS library must have verified that the client has
  // its private key.
  const uint8_t *client_certificate;
  // The length of `client_certificate`.
  size_t client_certificate_length;
} phantom_presentation;

// Creates a policy, and writes it to `policy`. It requires only an active token, with a proof if the token is bound
// to a key. It is yours: free it with `phantom_policy_free`.
PHANTOM_MUST_USE
phantom_status phantom_policy_new(phantom_policy **policy);

// Frees a policy. Denials stay valid.
void phantom_policy_free(phantom_policy *policy);

// Sets one key: `scopes`, `audience`, `require`, `realm`, `sender_constraint`, … Values are separated by spaces; put
// a value that contains spaces in quotes. docs/c-api.md lists the keys; `phantom_policy_key` enumerates them. No
// thread may check the policy at the same time.
//
// Returns `PHANTOM_CONFIG` if there is no such key, or if the value is not valid for it; `phantom_last_error` names
// the valid values. The policy is then unchanged.
PHANTOM_MUST_USE
phantom_status phantom_policy_set(phantom_policy *policy,
                                  const char *key,
                                  size_t key_length,
                                  const char *value,
                                  size_t value_length);

// Like `phantom_policy_set`, with a key and a value that end in a NUL.
PHANTOM_MUST_USE
phantom_status phantom_policy_set_str(phantom_policy *policy,
                                      const char *key,
                                      const char *value);

// Enumerates the keys. It returns the name of the key at `index`, or NULL if there is none. Call it with 0, 1, 2, …
// until it returns NULL. The name must not be freed.
const char *phantom_policy_key(size_t index);

// Decides whether a request may pass, from the `result` of its token. Returns
//
// - `PHANTOM_OK`: it may pass. Nothing was allocated. From now on `result` returns its JWT, even if the token is
//   bound to a key of its sender. A result belongs to one request: never use it to check another request.
// - `PHANTOM_DENIED`: it may not pass. `*denial` is yours, and contains the answer to send: free it with
//   `phantom_denial_free`.
// - any other status: an error. Do not let the request through.
//
// A NULL `result` means a request without a token. It is denied, with the challenge to present one, unless the
// policy's `optional` is `on`.
//
// `presentation` has the credentials of the request. NULL means none: a token that is bound to a key of its sender
// is then denied.
//
// `client` is the client that resolved the token: it knows which proofs were used before (RFC 9449 §11.1). NULL
// means no client: a token that needs such a proof is then denied.
//
// `denial` may be NULL. Any thread may call this function, with any policy.
PHANTOM_MUST_USE
phantom_status phantom_policy_check(const phantom_policy *policy,
                                    const phantom_client *client,
                                    const phantom_result *result,
                                    const phantom_presentation *presentation,
                                    phantom_denial **denial);

// Frees a denial. NULL is allowed.
void phantom_denial_free(phantom_denial *denial);

// Returns the HTTP status to answer with: 400, 401, 403 or 503; 500 for NULL.
PHANTOM_MUST_USE int32_t phantom_denial_http_status(const phantom_denial *denial);

// Returns the error code: "insufficient_scope", "invalid_token" (RFC 6750 §3.1), "insufficient_user_authentication"
// (RFC 9470 §3), "invalid_dpop_proof" (RFC 9449 §7.1), … It is NULL if there is none, as for a request without a
// token. It is part of the denial: never free it.
PHANTOM_MUST_USE
const char *phantom_denial_error(const phantom_denial *denial);

// Returns the reason for a log, in one word without spaces: "scope:write", "claim:tenant", "audience", "inactive";
// NULL for NULL. It is part of the denial: never free it.
PHANTOM_MUST_USE
const char *phantom_denial_reason(const phantom_denial *denial);

// Returns the value of the `WWW-Authenticate` header to answer with, and writes its length to `length`; NULL and 0
// if there is none. It is always one line, whatever the policy's settings. It is part of the denial: never free it.
//
// `length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_denial_challenge(const phantom_denial *denial,
                                     size_t *length);

// Returns the value of the `DPoP-Nonce` header to answer with (RFC 9449 §9), or NULL if there is none. It is part of the
// denial: never free it.
PHANTOM_MUST_USE
const char *phantom_denial_dpop_nonce(const phantom_denial *denial);

// Enumerates the headers of the answer. It returns the name of the header at `index`, and writes its value to
// `value`; NULL past the last. The headers include `WWW-Authenticate`, `DPoP-Nonce` and the content type of the
// body. Name and value are part of the denial: never free them.
//
// `value` may be NULL.
PHANTOM_MUST_USE
const char *phantom_denial_header(const phantom_denial *denial,
                                  size_t index,
                                  const char **value);

// Returns the body of the answer, a JSON object, and writes its length to `length`; NULL and 0 for NULL. It is part of
// the denial: never free it.
//
// `length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_denial_body(const phantom_denial *denial,
                                size_t *length);

// ---------------------------------------------------------------------------------------------------------
// Decisions.
//
// A decision takes over three tasks of a gateway: to find the token in the request, to change the headers of a
// request that passes, and to build the answer to a request that is denied. The gateway passes all headers of the
// request, and does what the decision says. The policy's `source`, `forward` and `optional` set where tokens are
// read from and how JWTs are sent upstream.
//
//     phantom_header headers[] = {{"host", 4, host, host_length}, {"authorization", 13, value, value_length}};
//     phantom_request request = {.size = sizeof request, .method = "GET", .method_length = 3, .target = "/orders",
//                                .target_length = 7, .headers = headers, .header_count = 2};
//     phantom_result *result = NULL;
//     const char *token, *name, *changed;
//     size_t length;
//     int64_t retry_after = -1;
//
//     // A decision is used for one request after the other: phantom_decision_new(&decision), once for each thread.
//     phantom_status status = phantom_policy_token(policy, &request, decision, &token, &length);
//     if (status == PHANTOM_OK && (status = phantom_client_resolve(client, token, length, 0, &result)) != PHANTOM_OK)
//       retry_after = phantom_last_error_retry_after();
//
//     if (phantom_policy_decide(policy, client, &request, status, retry_after, result, decision) == PHANTOM_OK) {
//       for (size_t i = 0; (name = phantom_decision_request_header(decision, i, &changed, &length)) != NULL; i++)
//         changed == NULL ? remove_header(name) : set_header(name, changed, length);
//       forward();
//     } else {
//       for (size_t i = 0; (name = phantom_decision_answer_header(decision, i, &changed, &length)) != NULL; i++)
//         add_answer_header(name, changed, length);
//       answer(phantom_decision_http_status(decision), phantom_decision_body(decision, NULL));
//     }
//     phantom_result_free(result);
//
// Only `PHANTOM_OK` lets a request through.
// ---------------------------------------------------------------------------------------------------------

// A header: its name and its value, unchanged from the client.
typedef struct {
  // The name, in any case (upper or lower).
  const char *name;
  // The length of `name`.
  size_t name_length;
  // The value.
  const char *value;
  // The length of `value`.
  size_t value_length;
} phantom_header;

// A request, unchanged from the client. Set `size`, and leave absent fields 0 and NULL. Later versions may add
// fields at the end.
typedef struct {
  // `sizeof(phantom_request)`.
  size_t size;
  // The request method: "GET".
  const char *method;
  // The length of `method`.
  size_t method_length;
  // The request target, as in the request line or in `:path`: "/orders?page=2".
  const char *target;
  // The length of `target`.
  size_t target_length;
  // All headers, one element per field line. With HTTP/2 and HTTP/3, pass `:authority` as `host`.
  const phantom_header *headers;
  // The number of headers.
  size_t header_count;
  // The scheme that the client sees, "http" or "https"; NULL means "https". It is needed because a DPoP proof
  // contains the URL.
  const char *scheme;
  // The length of `scheme`.
  size_t scheme_length;
  // The whole URL that the client sees, if the gateway knows it better than from `Host` and `target`; otherwise
  // NULL.
  const char *url;
  // The length of `url`.
  size_t url_length;
  // The client certificate of the TLS connection, as DER. Your TLS library must have verified that the client has
  // its private key.
  const uint8_t *client_certificate;
  // The length of `client_certificate`.
  size_t client_certificate_length;
} phantom_request;

// Creates a decision, in which nothing is decided yet, and writes it to `decision`. It is yours: free it with
// `phantom_decision_free`. A decision handles one request at a time: create one for each thread that decides, or for
// each connection.
PHANTOM_MUST_USE
phantom_status phantom_decision_new(phantom_decision **decision);

// Frees a decision, and with it all texts that it has returned. NULL is allowed.
void phantom_decision_free(phantom_decision *decision);

// Finds the token of a request in the places that the policy's `source` names, and clears the previous request from
// `decision`.
//
// - `PHANTOM_OK`: resolve `*token`. It is part of the request or of the decision, and does not end with a NUL.
// - `PHANTOM_NOT_FOUND`: there is nothing to resolve, because there is no token, no usable token, or more than one
//   token.
// - any other status: an error. Do not let the request through.
//
// In each case, call `phantom_policy_decide` next, with this status or with the status of resolving the token.
PHANTOM_MUST_USE
phantom_status phantom_policy_token(const phantom_policy *policy,
                                    const phantom_request *request,
                                    phantom_decision *decision,
                                    const char **token,
                                    size_t *token_length);

// Decides about a request, and writes the result to `decision`. Returns
//
// - `PHANTOM_OK`: send the request upstream, with the changes of `phantom_decision_request_header` and
//   `phantom_decision_target`. From now on `result` returns its JWT, even if the token is bound to a key of its
//   sender. A result belongs to one request: never use it to decide about another request.
// - `PHANTOM_DENIED`: answer the request with `phantom_decision_http_status`, every
//   `phantom_decision_answer_header`, and `phantom_decision_body`.
// - any other status: an error. Do not let the request through.
//
// `resolved` is the status of resolving the token that `phantom_policy_token` has found, or the status of
// `phantom_policy_token` if it has found none. `result` is the verdict; NULL if there is none. `retry_after` is the
// value of `phantom_last_error_retry_after` on the thread on which resolving failed, or -1.
//
// `client` is the client that resolved the token: it knows which proofs were used before (RFC 9449 §11.1). NULL
// means no client: a token that needs such a proof is then denied.
//
// After a decision object has handled a few requests, a decision that lets a request pass allocates nothing, unless
// something must be removed from the cookies or the query.
PHANTOM_MUST_USE
phantom_status phantom_policy_decide(const phantom_policy *policy,
                                     const phantom_client *client,
                                     const phantom_request *request,
                                     int32_t resolved,
                                     int64_t retry_after,
                                     const phantom_result *result,
                                     phantom_decision *decision);

// Returns the outcome in one word, for logs and metrics: "ok", "missing", "malformed", "inactive", "invalid",
// "unproven", "step_up", "forbidden" or "unavailable"; NULL if nothing is decided. It is part of the decision: never
// free it.
PHANTOM_MUST_USE
const char *phantom_decision_outcome(const phantom_decision *decision);

// Returns the reason for the outcome in one word without spaces, for logs: "scope:write", "several", "proof_htu",
// "timeout". It is "" if the outcome says everything, and NULL if nothing is decided. It is part of the decision:
// never free it.
PHANTOM_MUST_USE
const char *phantom_decision_reason(const phantom_decision *decision);

// Returns the error code of the challenge: "insufficient_scope", "invalid_token" (RFC 6750 §3.1), …; NULL if there is
// none. It is part of the decision: never free it.
PHANTOM_MUST_USE
const char *phantom_decision_error(const phantom_decision *decision);

// Returns the HTTP status to answer with: 400, 401, 403, 500, 502, 503 or 504; 0 if the request goes upstream; 500
// for NULL and if nothing is decided.
PHANTOM_MUST_USE
int32_t phantom_decision_http_status(const phantom_decision *decision);

// Enumerates the header changes for a request that goes upstream. It returns the name of the header at `index`; NULL
// past the last. If `*value` is NULL, remove all headers with this name. Otherwise replace all headers with this
// name by one header with this value. Compare names case-insensitively, and make the changes in this order. Name and
// value are part of the decision or of the result: never free them.
//
// `value` and `value_length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_decision_request_header(const phantom_decision *decision,
                                            size_t index,
                                            const char **value,
                                            size_t *value_length);

// Enumerates the headers to add to the answer. It returns the name of the header at `index`, and writes its value to
// `value`; NULL past the last. If the request goes upstream, add them to the answer of the API. Otherwise add them
// to your own answer, which has no other headers except those that delimit its body. Name and value are part of the
// decision: never free them.
//
// `value` and `value_length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_decision_answer_header(const phantom_decision *decision,
                                           size_t index,
                                           const char **value,
                                           size_t *value_length);

// Returns the body of the answer to a denied request, a JSON object, and writes its length to `length`; NULL and 0
// if there is none. It is part of the decision: never free it.
//
// `length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_decision_body(const phantom_decision *decision,
                                  size_t *length);

// Returns the changed target of a request that goes upstream: path and query, with the token removed. It writes the
// length to `length`; NULL and 0 if the target is unchanged. It is part of the decision: never free it.
//
// `length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_decision_target(const phantom_decision *decision,
                                    size_t *length);

// ---------------------------------------------------------------------------------------------------------
// Event loops.
//
// A thread that must not block submits a token and continues. When an answer arrives, a file descriptor becomes
// readable. The event loop then calls `phantom_client_dispatch`, which runs the callback on the same thread:
//
//     switch (phantom_client_submit(client, token, token_length, on_verdict, request, &id, &result)) {
//       case PHANTOM_OK:      // known already: here is the result, and there will be no callback
//       case PHANTOM_PENDING: // there will be exactly one callback, unless it is cancelled
//       default:              // an error, and there will be no callback
//     }
// ---------------------------------------------------------------------------------------------------------

// A callback that receives the answer to one submitted request, on the thread that called `phantom_client_dispatch`.
//
// With `PHANTOM_OK` there is a verdict, and `result` is yours: free it with `phantom_result_free`. With any other
// status, `result` is NULL, and `phantom_last_error` has the message.
//
// It may call any function of this library, even `phantom_client_free` for this client.
typedef void (*phantom_callback)(void *user_data, phantom_status status, phantom_result *result);

// Submits `token` for an asynchronous answer. It never waits.
//
// - `PHANTOM_OK`: the verdict is in memory. It is written to `result`, which is yours. The callback never runs.
// - `PHANTOM_PENDING`: the request's id is written to `request_id`, for `phantom_client_cancel`. The callback runs
//   once, from `phantom_client_dispatch`, within the configured `timeout`. It never runs if the request is cancelled
//   or the client freed.
// - Any other status: an error. The callback never runs.
//
// `user_data` is passed to the callback and never dereferenced; it may be NULL. `request_id` may be NULL if you
// never cancel. If another thread dispatches, it may run the callback before this function returns.
PHANTOM_MUST_USE
phantom_status phantom_client_submit(const phantom_client *client,
                                     const char *token,
                                     size_t token_length,
                                     phantom_callback callback,
                                     void *user_data,
                                     uint64_t *request_id,
                                     phantom_result **result);

// Writes to `fd` the file descriptor that becomes readable when there is something to dispatch. Watch it with
// `poll`, `epoll` or `kqueue`, level- or edge-triggered. It belongs to the client: never read, write or close it.
// Stop watching it before the client is freed.
PHANTOM_MUST_USE
phantom_status phantom_client_fd(const phantom_client *client,
                                 int *fd);

// Runs the callbacks of answered requests, at most `max` of them; 0 means all that are ready now. The number of
// callbacks that ran is written to `count`, which may be NULL. It never waits: with nothing to do it returns
// `PHANTOM_OK`. Remaining answers keep the descriptor readable.
phantom_status phantom_client_dispatch(const phantom_client *client,
                                       size_t max,
                                       size_t *count);

// Cancels a submitted request. After `PHANTOM_OK` its callback will not run. Returns `PHANTOM_NOT_FOUND` if the
// callback has run or is running, or if the request was cancelled before. Other requests for the same token are not
// affected.
phantom_status phantom_client_cancel(const phantom_client *client,
                                     uint64_t request_id);

// ---------------------------------------------------------------------------------------------------------
// Statistics.
//
// A client's counters since it was started, and its current state, in one consistent snapshot.
// ---------------------------------------------------------------------------------------------------------

// A counter or gauge of a client.
enum phantom_stat
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Verdicts served from the client's memory.
  PHANTOM_STAT_HITS = 0,
  // Requests that started a call to the authorization server.
  PHANTOM_STAT_MISSES = 1,
  // Requests that shared the call of another request.
  PHANTOM_STAT_COALESCED = 2,
  // Requests answered with an inactive verdict, cached or not.
  PHANTOM_STAT_INACTIVE = 3,
  // Requests that ended in an error of any kind.
  PHANTOM_STAT_ERRORS = 4,
  // Calls made to the authorization server, retries included.
  PHANTOM_STAT_CALLS = 5,
  // Calls that were retries.
  PHANTOM_STAT_RETRIES = 6,
  // Calls in progress now, or queued.
  PHANTOM_STAT_IN_FLIGHT = 7,
  // Requests waiting now.
  PHANTOM_STAT_WAITING = 8,
  // Verdicts in the client's memory now.
  PHANTOM_STAT_ENTRIES = 9,
  // Inactive verdicts in the client's memory now.
  PHANTOM_STAT_INACTIVE_ENTRIES = 10,
  // Bytes used by the verdicts in the client's memory now.
  PHANTOM_STAT_BYTES = 11,
  // Verdicts evicted from memory before they expired.
  PHANTOM_STAT_EVICTIONS = 12,
  // The sum of all latencies, in microseconds.
  PHANTOM_STAT_LATENCY_SUM_US = 13,
  // Verdicts served from the shared store.
  PHANTOM_STAT_SHARED_HITS = 14,
  // Requests answered with an expired verdict (`stale_if_error`).
  PHANTOM_STAT_STALE = 15,
  // Background refreshes that were started (`refresh_ahead`).
  PHANTOM_STAT_REFRESHES = 16,
  // How often this client opened the circuit breaker after too many failures (`max_fails`).
  PHANTOM_STAT_BREAKER_OPENINGS = 17,
  // Whether the circuit breaker is open now: 1 or 0.
  PHANTOM_STAT_BREAKER_OPEN = 18,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum phantom_stat phantom_stat;
#else
typedef int32_t phantom_stat;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Takes a snapshot of a client's statistics, and writes it to `stats`. It is yours: free it with
// `phantom_stats_free`.
PHANTOM_MUST_USE phantom_status phantom_client_stats(const phantom_client *client, phantom_stats **stats);

// Frees a snapshot. NULL is allowed.
void phantom_stats_free(phantom_stats *stats);

// Writes the value of the counter `stat`, a number of `phantom_stat`, to `value`. Returns `PHANTOM_NOT_FOUND` if
// this library does not have that counter.
PHANTOM_MUST_USE
phantom_status phantom_stats_get(const phantom_stats *stats,
                                 int32_t stat,
                                 uint64_t *value);

// Writes to `count` how many requests ended with `status`, an error from `PHANTOM_UNREACHABLE` to
// `PHANTOM_INTERNAL`. Returns `PHANTOM_NOT_FOUND` for other statuses, which are not counted.
PHANTOM_MUST_USE
phantom_status phantom_stats_errors(const phantom_stats *stats,
                                    int32_t status,
                                    uint64_t *count);

// Writes one bucket of the latency histogram of the authorization server. `bound_us` receives the upper bound of the
// bucket at `index`, in microseconds. `count` receives the number of calls that took at most that long, and longer
// than the bound of the bucket at `index` - 1. The last bucket has no bound: UINT64_MAX. Call it with 0, 1, 2, …
// until it returns `PHANTOM_NOT_FOUND`.
PHANTOM_MUST_USE
phantom_status phantom_stats_latency(const phantom_stats *stats,
                                     size_t index,
                                     uint64_t *bound_us,
                                     uint64_t *count);

// Returns the whole snapshot as one JSON object, and writes its length to `length`, which may be NULL. The text ends
// with a NUL. It is part of the snapshot: never free it. NULL and 0 for NULL.
PHANTOM_MUST_USE
const char *phantom_stats_json(const phantom_stats *stats,
                               size_t *length);

// Returns the name of the counter `stat`: "hits", "misses", …, as in `phantom_stats_json`, or NULL if this library
// does not have it. The numbers run from 0 without a gap: call it with 0, 1, 2, … until it returns NULL. The name
// must not be freed.
const char *phantom_stat_name(int32_t stat);

// ---------------------------------------------------------------------------------------------------------
// Log.
//
// A client logs little: that the authorization server fails, why, and how to fix it; and that it answers again. The
// same line is rate limited. No line contains a token, a JWT or a secret.
// ---------------------------------------------------------------------------------------------------------

// The severity of a log line.
enum phantom_log_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // The authorization server or the configuration is at fault: an operator must act.
  PHANTOM_LOG_ERROR = 1,
  // Something works, but not as intended.
  PHANTOM_LOG_WARN = 2,
  // A change of state.
  PHANTOM_LOG_INFO = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum phantom_log_level phantom_log_level;
#else
typedef int32_t phantom_log_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A callback that receives one log line. `line` has no newline, and ends with a NUL after `length` bytes. It is
// valid only during the call.
//
// The client calls it on its own thread and on threads that call the client, one line at a time. It must not block,
// and must not call the client.
typedef void (*phantom_log_callback)(void *user_data, phantom_log_level level, const char *line, size_t length);

// Sets the log callback of the clients that are started with this configuration from now on. With a NULL callback,
// which is the default, there is no log.
//
// `user_data` is passed to the callback and never dereferenced; it may be NULL. It must outlive those clients: until
// `phantom_client_free` has returned for each of them.
PHANTOM_MUST_USE
phantom_status phantom_config_set_log(phantom_config *config,
                                      phantom_log_callback callback,
                                      void *user_data);

// Returns the name of a level: "error", "warn", "info". It is never NULL, also for a number that is not a level, and
// must not be freed.
const char *phantom_log_level_string(int32_t level);

// ---------------------------------------------------------------------------------------------------------
// Zone.
//
// A zone is a store in shared memory, for hosts that fork. All processes use the verdicts that one process has
// obtained, and each token is introspected once, whatever the number of processes. The host provides the memory. Map
// it before the fork, and start the clients after the fork:
//
//     void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
//     phantom_zone *zone = NULL;
//
//     if (phantom_zone_attach(memory, size, &zone) != PHANTOM_OK || phantom_config_set_zone(config, zone) != PHANTOM_OK)
//       fprintf(stderr, "%s\n", phantom_last_error());
//     // fork(), and in each child phantom_client_start(config, &client)
//
// Up to 64 configurations may share a zone: each authorization server has its own part. The content is encrypted, as
// in every store. A full zone evicts the least recently used entries. A process that is killed while it uses the
// zone does not block the others.
// ---------------------------------------------------------------------------------------------------------

// Returns the minimum size of a zone's memory, in bytes. In addition, a verdict takes about the size of its JWT and
// its claims, and 200 bytes.
PHANTOM_MUST_USE
size_t phantom_zone_min_size(void);

// Creates a zone in the `size` bytes at `memory`, and writes it to `zone`. It is yours: free it with
// `phantom_zone_free`.
//
// The memory must be zero, or contain a zone. The entries of that zone are kept, unless it had another size or was
// written by an incompatible version of this library; then the zone starts empty. The memory must be aligned to a
// page, as memory from `mmap` is. It stays yours. It must stay mapped at the same address until the zone, every
// configuration that uses it, and every client that was started with one of them have been freed, in each process.
//
// Attach once, before the fork: children inherit the zone. Other processes may attach to the same memory, with the
// same version of this library, but not at the same moment. Do not keep the memory across a reboot: its locks and
// times are then invalid.
//
// Returns `PHANTOM_INVALID_ARGUMENT` if the memory is not aligned or smaller than `phantom_zone_min_size`;
// `PHANTOM_SYSTEM` if the system has no process-shared locks.
PHANTOM_MUST_USE
phantom_status phantom_zone_attach(void *memory,
                                   size_t size,
                                   phantom_zone **zone);

// Frees a zone. Configurations that use it, and clients that were started with them, keep using it. Its entries stay
// in the memory. NULL is allowed.
void phantom_zone_free(phantom_zone *zone);

// Sets the zone of the clients that are started with this configuration from now on. With NULL, which is the
// default, they use no shared store. It replaces a store or zone that was set before.
PHANTOM_MUST_USE phantom_status phantom_config_set_zone(phantom_config *config, const phantom_zone *zone);

// ---------------------------------------------------------------------------------------------------------
// Shared stores.
//
// By default a client caches verdicts only in its own memory. With a store, it shares them with all clients that use
// the same store: in this process, in other processes, on other machines. A verdict that one client has obtained is
// available to the others, and a purge by one client is effective for all. The zone (above) is a store in shared
// memory; this section is for hosts that have a shared memory of their own.
//
// A store is a table of functions. It keeps bytes under a key for a limited time, and need not understand them:
//
// - A key is `PHANTOM_STORE_KEY_LENGTH` bytes, which look random in every bit. The token cannot be computed from it.
//   Different configurations have different keys.
// - A value is at most `PHANTOM_STORE_VALUE_MAX` bytes, encrypted and authenticated with a key that is derived from
//   its token. Read access to the store reveals neither tokens nor JWTs. Write access can make clients forget, wait
//   and fail, but cannot forge a verdict. A value that was tampered with is ignored, as if it were absent.
// - A store may drop any entry at any time, and there are no errors: a store that cannot do what is requested
//   behaves as if it had dropped the entry.
//
//     phantom_store store = {
//         .size = sizeof store, .context = mine, .get = get, .put = put, .remove = remove_one, .clear = clear};
//
//     if (phantom_config_set_store(config, &store) != PHANTOM_OK)
//       fprintf(stderr, "%s\n", phantom_last_error());
//
// Rules for every callback:
//
// - Any thread may call it, and several threads at the same time: threads that call the client, and the client's own
//   thread.
// - The caller of the client waits for it, and so does an event loop: it must be short. A store on the network needs
//   a local copy.
// - It must not call this library with the client that uses the store, and it must not throw or unwind.
// - Memory that is passed to it by address is invalid, or no longer its own, after it returns.
//
// Optional callbacks may be NULL. They improve a store:
//
// - **Versions.** A client keeps verdicts in its own memory too. So that a purge by another client ends these, every
//   key has a version, a number that `remove` and `clear` change. A client notes the version before it starts to
//   look a token up, and uses its copy only while the version is the same. Keys may share a version: one counter for
//   each of a few thousand groups of keys is enough. Do not use one counter for all keys: `remove` is also called
//   for each token that the authorization server reports as inactive, random tokens included, and invalidates all
//   copies with the same version.
// - **Claims.** Only one client of the store introspects a token at a time. It claims the key first. The others wait
//   until the value is stored, or the claim has ended: it was settled, or its time is over.
// - **Words.** A few numbers that all clients of the store share, so that all of them know when an authorization
//   server fails.
// ---------------------------------------------------------------------------------------------------------

// The length of a key in bytes.
#define PHANTOM_STORE_KEY_LENGTH 32

// The maximum length of a value in bytes: 1 MiB. Most values take less than 4 KiB.
#define PHANTOM_STORE_VALUE_MAX 1048576

// The maximum length of a failure that is passed to `settle`, in bytes.
#define PHANTOM_STORE_FAILURE_MAX 512

// The number of words of `words`, each a number of 64 bits.
#define PHANTOM_STORE_WORDS 4

// The class of a stored value. Give each class its own share of the memory: a client that sends a million random
// tokens must fill only the share of inactive verdicts.
enum phantom_store_class
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // An active verdict.
  PHANTOM_STORE_ACTIVE = 1,
  // An inactive verdict.
  PHANTOM_STORE_INACTIVE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum phantom_store_class phantom_store_class;
#else
typedef int32_t phantom_store_class;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The outcome of a claim.
enum phantom_claimed
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // The key is claimed: call the authorization server.
  PHANTOM_CLAIM_GRANTED = 0,
  // The flight in `held_by` is already calling the authorization server: wait for it.
  PHANTOM_CLAIM_HELD = 1,
  // The flight in `waited_for`, or a flight since this flight began, has failed. The failure is in `failure`.
  PHANTOM_CLAIM_FAILED = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum phantom_claimed phantom_claimed;
#else
typedef int32_t phantom_claimed;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A claim to be the only one that introspects a token, and its outcome. Later versions may add fields at the end.
typedef struct {
  // The unique id of the flight that makes the claim.
  uint64_t flight;
  // The flight that this flight has waited for until now, if `has_waited` is 1. If that flight failed, so has this
  // one.
  uint64_t waited_for;
  // The time since the flight began, in milliseconds. A flight that failed since then counts like the one in
  // `waited_for`.
  uint64_t waited_ms;
  // The time until the flight will have ended, in milliseconds. The claim ends then too, if it is not settled
  // before.
  uint64_t within_ms;
  // The key's version when the flight began; 0 in a store without versions. A claim of another version blocks no
  // other flight.
  uint32_t version;
  // Whether `waited_for` is set: 0 or 1.
  uint32_t has_waited;
  // Output for `PHANTOM_CLAIM_HELD`: the id of the flight that holds the claim.
  uint64_t held_by;
  // Output for `PHANTOM_CLAIM_FAILED`: copy the failure that was passed to `settle` to this buffer of
  // `PHANTOM_STORE_FAILURE_MAX` bytes.
  uint8_t *failure;
  // Output for `PHANTOM_CLAIM_FAILED`: the length of the failure.
  size_t failure_length;
} phantom_claim;

// A table of functions that implement a store. Set the functions that you have, and all other fields to zero.
typedef struct {
  // `sizeof(phantom_store)`: it identifies the version of this table that the program was compiled with.
  size_t size;
  // Passed to each callback, and never dereferenced. May be NULL.
  void *context;
  // Gets the value of a key. Returns 0 if there is none. Otherwise it returns 1. It writes the value's length to
  // `length`, and the remaining lifetime in milliseconds, more than 0, to `remaining_ms`. If the length is not
  // more than `capacity`, it copies the value to `value`. If the value is longer than `capacity`, it is called
  // again with a larger buffer. Required.
  int (*get)(void *context,
             const uint8_t *key,
             uint8_t *value,
             size_t capacity,
             size_t *length,
             uint64_t *remaining_ms);
  // Stores a value for `keep_ms` milliseconds, and replaces the old value. It does nothing if the key's version is
  // not `version`, which is 0 in a store without versions. Required.
  void (*put)(void *context,
              const uint8_t *key,
              const uint8_t *value,
              size_t length,
              phantom_store_class store_class,
              uint64_t keep_ms,
              uint32_t version);
  // Removes a key, and changes its version: the key was purged, or its token was reported as inactive. Claims of
  // the key end. Required.
  void (*remove)(void *context, const uint8_t *key);
  // Removes all keys, and changes their versions. All claims end. Required.
  void (*clear)(void *context);
  // Returns the version of a key. It is called for every request, and should cost no more than reading a number
  // from memory. If it is NULL, there are no versions, and an entry that another client purges may survive until
  // it expires: in a client's own memory, or in the store, if a client was receiving it from the authorization
  // server at the time of the purge.
  uint32_t (*version)(void *context, const uint8_t *key);
  // Claims a key, and returns the outcome, a number of `phantom_claimed`. Set both this and `settle`, or neither.
  // If neither is set, several clients of the store may introspect the same token at the same time.
  int (*claim)(void *context, const uint8_t *key, phantom_claim *claim);
  // Ends the claim that was granted to `flight`. If `failure_length` is 0, the value is stored by now. Otherwise
  // the flight failed: keep `failure` for the flights that waited for this one, until the claim's time would have
  // been over. It does nothing if another flight holds the claim by now.
  void (*settle)(void *context,
                 const uint8_t *key,
                 uint64_t flight,
                 const uint8_t *failure,
                 size_t failure_length);
  // Returns the address of `PHANTOM_STORE_WORDS` numbers of 64 bits that all clients of the store share. They are
  // aligned to 8 bytes, initially zero, and stay at that address until `free`. Clients change them with atomic
  // operations; nothing else may change them. It may return NULL. It is called once, by
  // `phantom_config_set_store`.
  uint64_t *(*words)(void *context);
  // Called once, when this table is no longer used: the configuration, and every client that was started with it,
  // has been freed, or uses another store.
  void (*free)(void *context);
} phantom_store;

// Sets the store of the clients that are started with this configuration from now on. The table is copied: only the
// memory behind `context` must stay valid, until `free` is called. With NULL, which is the default, the clients use
// no shared store. It replaces a store or zone that was set before.
//
// `clear` removes everything in the store, so use one store only for clients of the same configuration. Give clients
// of another authorization server their own `context`.
//
// Returns `PHANTOM_INVALID_ARGUMENT` if a required callback is NULL, or `size` is not that of a `phantom_store`;
// `free` is not called then.
PHANTOM_MUST_USE
phantom_status phantom_config_set_store(phantom_config *config,
                                        const phantom_store *store);

#ifdef __cplusplus
} // extern "C"
#endif

#endif // PHANTOM_TOKEN_H
