// SPDX-License-Identifier: Apache-2.0
//
// Generated from src/ffi: change it there.

// libphantom_token: turns opaque OAuth access tokens into JWTs, and remembers them.
//
// A client on the internet holds an opaque access token, which says nothing. The APIs behind a gateway want a JWT,
// which says everything. This library asks the authorization server at its introspection endpoint (RFC 7662) what
// the token stands for, remembers the verdict, and hands the JWT out again at the price of a hash and a lookup.
//
// In short (docs/c-api.md has it in full):
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
// What holds for every function:
//
// - A function that can fail returns a `phantom_status`. 0 is `PHANTOM_OK`. Outputs are written only on success.
// - A NULL where something is needed is `PHANTOM_INVALID_ARGUMENT`, or the neutral answer that is documented.
// - Text goes in as a pointer and a length, without a NUL, unless the function's name ends in `_str`.
// - Text comes out with a NUL behind it, and with its length where it can be long.
// - What a `_new`, `_start`, `_retain` or an output parameter gives you is yours: hand it to its `_free`, once.
//   Every `_free` takes NULL.
// - Clients, results, zones and policies that are set may be used by any number of threads at once; a configuration or a
//   stats snapshot by one at a time. Nothing may be used while, or after, it is freed.
// - Nothing here throws, unwinds or exits; a defect of this library is `PHANTOM_PANIC`.
// - Tokens, JWTs and secrets appear in no message, no log line and no statistics.
// - Numbers are never reused, and new ones may be added: have a default for those that you don't know.

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

// What is set of one authorization server. Made by `phantom_config_new`.
typedef struct phantom_config phantom_config;

// A configuration at work: the cache, and the thread that talks to the authorization server. Made by
// `phantom_client_start`.
typedef struct phantom_client phantom_client;

// A verdict on a token, and where it came from. Made by `phantom_client_resolve`, `phantom_client_lookup` and
// `phantom_client_submit`.
typedef struct phantom_result phantom_result;

// Why a request may not pass, and what it is answered with. Made by `phantom_policy_check`.
typedef struct phantom_denial phantom_denial;

// What is asked of a token beyond being active. Made by `phantom_policy_new`.
typedef struct phantom_policy phantom_policy;

// What to do with a request. Made by `phantom_decision_new`, and used for one request after the other.
typedef struct phantom_decision phantom_decision;

// What a client had done and held at one moment. Made by `phantom_client_stats`.
typedef struct phantom_stats phantom_stats;

// A store in memory that processes share. Made by `phantom_zone_attach`.
typedef struct phantom_zone phantom_zone;

// ---------------------------------------------------------------------------------------------------------
// Version.
// ---------------------------------------------------------------------------------------------------------

// The version that this header is of. This part is raised when programs have to be built anew; the soname has it.
#define PHANTOM_VERSION_MAJOR 0

// Raised when something is added.
#define PHANTOM_VERSION_MINOR 1

// Raised when something is mended.
#define PHANTOM_VERSION_PATCH 0

// Returns the version of the library that is loaded, as text: "0.1.0". It is never NULL, and never freed.
const char *phantom_version(void);

// Returns the version of the library that is loaded, as a number: 65536 × major + 256 × minor + patch.
uint32_t phantom_version_number(void);

// Enumerates the constants of this header, for languages that cannot include it: writes the value of the one at
// `index` to `value` and returns its name ("PHANTOM_TIMEOUT"), or returns NULL when there is none at `index`. Start
// at 0 and go on until NULL. The name is never freed.
//
// `value` may be NULL.
const char *phantom_constant(size_t index,
                             int64_t *value);

// ---------------------------------------------------------------------------------------------------------
// Statuses and errors.
//
// A status says what a program can do about it; `phantom_last_error` says what an operator can. An error never says
// anything of the token: whoever gets one must not let the request through.
// ---------------------------------------------------------------------------------------------------------

// What came of a call.
enum phantom_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Done. Of a resolved token: there is a verdict, active or inactive.
  PHANTOM_OK = 0,
  // Submitted: the answer comes through `phantom_client_dispatch`.
  PHANTOM_PENDING = 1,
  // There is none: memory knows nothing of the token, or no such request is pending.
  PHANTOM_NOT_FOUND = 2,
  // The request may not pass: the policy denies it.
  PHANTOM_DENIED = 3,
  // A pointer is NULL, text is not UTF-8, or a number is out of range: the program is at fault.
  PHANTOM_INVALID_ARGUMENT = 10,
  // The token is empty, longer than 8192 bytes, or has a byte that RFC 6750 does not allow.
  PHANTOM_INVALID_TOKEN = 11,
  // A setting is unknown, missing, contradictory, or names a file that cannot be read.
  PHANTOM_CONFIG = 12,
  // The operating system has no thread or file descriptor left.
  PHANTOM_SYSTEM = 13,
  // No answer: name resolution, connection or TLS failed, or the connection was lost before the answer was whole.
  PHANTOM_UNREACHABLE = 20,
  // The answer cannot be used: not the protocol, not the dialect, too large, not a JWT.
  PHANTOM_BAD_ANSWER = 21,
  // The authorization server refuses the credentials of this client, not the token.
  PHANTOM_CLIENT_REFUSED = 22,
  // The authorization server says that it is busy: see `phantom_last_error_retry_after`.
  PHANTOM_BUSY = 23,
  // As many calls are under way, or requests waiting, as the configuration allows.
  PHANTOM_OVERLOADED = 24,
  // No verdict in time.
  PHANTOM_TIMEOUT = 25,
  // The client has been stopped.
  PHANTOM_STOPPED = 26,
  // The client was started in another process, of which this one is a fork: start one here.
  PHANTOM_FORKED = 27,
  // The authorization server has failed so often (`max_fails`) that it is not asked for a while.
  PHANTOM_CIRCUIT_OPEN = 28,
  // A defect of this library, found in time.
  PHANTOM_INTERNAL = 30,
  // A defect of this library, stopped at its border.
  PHANTOM_PANIC = 31,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum phantom_status phantom_status;
#else
typedef int32_t phantom_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Returns what a status means, in a few words. It is never NULL, also for a number that is no status, and never
// freed.
const char *phantom_status_string(int32_t status);

// Returns the HTTP status (RFC 9110 §15) that a gateway answers a request with for this: 502 when the authorization
// server or its answer is at fault, 503 when trying again later helps, 504 when it was too slow, 400 for a malformed
// token, 500 when this program or its configuration is at fault, as also for a number that is no status. 0 for
// `PHANTOM_OK`, `PHANTOM_PENDING` and `PHANTOM_NOT_FOUND`, which are no failures. 403 for `PHANTOM_DENIED`, of which the
// denial knows better.
//
// An inactive token is not a failure but a verdict: answer 401.
int32_t phantom_status_http(int32_t status);

// Returns what went wrong in the last call on this thread that failed, and what to do about it, for a log; "" if
// none has. It is never NULL. It stays valid until the next call on this thread, and is never freed.
//
// In a callback of `phantom_client_submit` it is about that request.
const char *phantom_last_error(void);

// Returns after how many seconds trying again may help, as the authorization server said along with the failure
// that `phantom_last_error` is about (`Retry-After`, RFC 9110 §10.2.3), or when it is asked again after
// `PHANTOM_CIRCUIT_OPEN`; -1 if that is not known.
int64_t phantom_last_error_retry_after(void);

// ---------------------------------------------------------------------------------------------------------
// Configuration.
//
// A configuration describes one authorization server: where it is, how this client authenticates to it, how it
// answers, and how long its answers are remembered. It is plain data: it starts no thread and opens no socket, so a
// process may make it before it forks.
// ---------------------------------------------------------------------------------------------------------

// Makes a configuration in which nothing is set but the defaults, and writes it to `config`. It is yours: free it
// with `phantom_config_free`, also once a client has been started with it.
//
// `name` is what messages call it.
PHANTOM_MUST_USE
phantom_status phantom_config_new(const char *name,
                                  size_t name_length,
                                  phantom_config **config);

// Frees a configuration. Clients that were started with it keep running.
void phantom_config_free(phantom_config *config);

// Sets one key: `introspection_endpoint`, `client_id`, `client_secret_file`, `timeout`, `cache_ttl`, … Values are
// written as nginx writes them: "5s", "10m", "on". docs/c-api.md lists the keys, `phantom_config_key` enumerates
// them.
//
// `PHANTOM_CONFIG` when there is no such key, or when the value is not one of it; `phantom_last_error` says what
// would be.
PHANTOM_MUST_USE
phantom_status phantom_config_set(phantom_config *config,
                                  const char *key,
                                  size_t key_length,
                                  const char *value,
                                  size_t value_length);

// The same with a key and a value that end in a NUL.
PHANTOM_MUST_USE
phantom_status phantom_config_set_str(phantom_config *config,
                                      const char *key,
                                      const char *value);

// Checks that a client could be started: nothing is missing or contradictory, and every file can be read. Start-up
// code of a root process can call it before it drops its rights.
PHANTOM_MUST_USE
phantom_status phantom_config_check(const phantom_config *config);

// Enumerates the keys: returns the name of the one at `index`, or NULL when there is none. Start at 0 and go on until
// NULL. The name is never freed.
const char *phantom_config_key(size_t index);

// ---------------------------------------------------------------------------------------------------------
// Client.
//
// A client is a configuration at work: it holds the cache and one thread that talks to the authorization server.
// One client serves a whole process, however many threads use it. Start it after the last fork.
// ---------------------------------------------------------------------------------------------------------

// Starts a client and writes it to `client`. It is yours: free it with `phantom_client_free`. From here on the process
// has a thread more, in which all signals are blocked.
//
// The configuration is copied: change it, free it, or start another client with it. What can be allowed but should be
// known, such as a certificate that is not verified, is logged before this returns.
//
// `PHANTOM_CONFIG` as for `phantom_config_check`; `PHANTOM_SYSTEM` when there is no thread or descriptor left.
PHANTOM_MUST_USE
phantom_status phantom_client_start(const phantom_config *config,
                                    phantom_client **client);

// Asks what `token` stands for, and waits: memory, then the store that is shared, then the authorization server. On
// `PHANTOM_OK` there is a verdict, and `result` is yours: free it with `phantom_result_free`. Have `phantom_policy_check`
// decide with it whether the request may pass. Any other status says nothing about the token: let no request through.
//
// It waits `timeout_ms` milliseconds at most, and never longer than the configured `timeout`, which is also what 0
// stands for.
//
// `PHANTOM_INVALID_TOKEN` when it cannot be one (RFC 6750 §2.1). `PHANTOM_UNREACHABLE` to `PHANTOM_FORKED` when there
// is no verdict.
PHANTOM_MUST_USE
phantom_status phantom_client_resolve(const phantom_client *client,
                                      const char *token,
                                      size_t token_length,
                                      uint64_t timeout_ms,
                                      phantom_result **result);

// Asks what the client's own memory knows of `token`, and no store. It never waits, and when it finds something, never
// allocates. On `PHANTOM_OK`,
// `result` is yours; `PHANTOM_NOT_FOUND` when memory knows nothing, which is not remembered as an error.
PHANTOM_MUST_USE
phantom_status phantom_client_lookup(const phantom_client *client,
                                     const char *token,
                                     size_t token_length,
                                     phantom_result **result);

// Forgets what is known of `token`, in the client's memory and in the store that is shared with others. Whoever asks
// after this has returned, through whichever client of that store, gets an answer that the authorization server gave
// after this was called. For a token that was revoked, or whose rights have changed. It never waits for the
// authorization server.
//
// Whether anything was known is not told: `PHANTOM_OK` in either case.
//
// `PHANTOM_INVALID_TOKEN` when it cannot be a token; `PHANTOM_STOPPED`, `PHANTOM_FORKED`.
PHANTOM_MUST_USE
phantom_status phantom_client_purge(const phantom_client *client,
                                    const char *token,
                                    size_t token_length);

// Forgets all that is known of the tokens of this client's authorization server, as `phantom_client_purge` does of one.
PHANTOM_MUST_USE
phantom_status phantom_client_purge_all(const phantom_client *client);

// Stops a client, within two seconds: whoever waits gets `PHANTOM_STOPPED`, as does whoever asks from now on; the
// thread has ended when this returns. What was submitted and not dispatched can still be dispatched. Stopping twice is
// fine.
//
// `PHANTOM_TIMEOUT` when the thread has not ended, because the log callback does not return.
phantom_status phantom_client_stop(const phantom_client *client);

// Stops and frees a client. Callbacks of what was submitted and not dispatched never run. Results stay valid. NULL is
// fine.
//
// In a forked child it returns at once, and leaves the child's copy of the client's memory alone.
void phantom_client_free(phantom_client *client);

// ---------------------------------------------------------------------------------------------------------
// Results.
//
// A result is a verdict on the token of one request, and where it came from. Asking it costs nothing: the JWT is not
// copied, the result and the cache share one. It stays valid until it is freed, whatever becomes of the cache and the
// client.
//
// A token may be bound to a key of its sender (`cnf`, RFC 9449, RFC 8705): whoever presents it must show the key, or a
// copy of the token is as good as the token. The JWT is a plain bearer token again. So the result of such a token hands it
// out only once `phantom_policy_check` has let this request pass; where another party checks the sender, set
// `sender_constraint ignore` in the policy, which says so.
// ---------------------------------------------------------------------------------------------------------

// Where a verdict came from.
enum phantom_cache_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Nowhere: there is no result.
  PHANTOM_CACHE_NONE = 0,
  // It was remembered.
  PHANTOM_CACHE_HIT = 1,
  // The authorization server was asked for it.
  PHANTOM_CACHE_MISS = 2,
  // Another request had already asked; this one shared its answer.
  PHANTOM_CACHE_COALESCED = 3,
  // It was remembered in the store that is shared with others.
  PHANTOM_CACHE_SHARED = 4,
  // It was remembered and is past its time: the authorization server can't be asked, and `stale_if_error` allows it.
  PHANTOM_CACHE_STALE = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum phantom_cache_status phantom_cache_status;
#else
typedef int32_t phantom_cache_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Frees a result. NULL is fine.
void phantom_result_free(phantom_result *result);

// Gives the same result a second owner, and returns it: each has to free it once. NULL gives NULL. It is of the same
// request: what a policy has let pass for one owner has passed for the other.
PHANTOM_MUST_USE
phantom_result *phantom_result_retain(const phantom_result *result);

// Returns whether the token is active. `false` also for NULL: no result lets a request through.
//
// An inactive token is unknown, expired, revoked, or not meant for us; the authorization server does not say which
// (RFC 7662 §2.2). Answer 401.
PHANTOM_MUST_USE
bool phantom_result_is_active(const phantom_result *result);

// Returns whether the token is active and bound to a key of its sender (`cnf`): `phantom_result_authorization` and
// `phantom_result_jwt` return NULL then until `phantom_policy_check` has let the request pass. `false` also for NULL.
PHANTOM_MUST_USE
bool phantom_result_is_bound(const phantom_result *result);

// Returns the value of the `Authorization` header to send upstream, "Bearer eyJ…", and writes its length to `length`.
// NULL and 0 if the token is not active, or if it is bound to a key of its sender (`phantom_result_is_bound`) and
// `phantom_policy_check` has not let this result pass: it would be a bearer token again. It has a NUL behind it, and is
// part of the result: never free it.
//
// `length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_result_authorization(const phantom_result *result,
                                         size_t *length);

// Returns the JWT alone (RFC 7519 §3), like `phantom_result_authorization`.
PHANTOM_MUST_USE const char *phantom_result_jwt(const phantom_result *result, size_t *length);

// Returns all that is claimed of the token, as one JSON object, like `phantom_result_authorization`.
PHANTOM_MUST_USE const char *phantom_result_claims(const phantom_result *result, size_t *length);

// Returns whether the token is active and was granted `scope`, one scope of RFC 6749 §3.3. `false` also for NULL.
// An active token without the scope that you require is worth a 403.
PHANTOM_MUST_USE
bool phantom_result_has_scope(const phantom_result *result,
                              const char *scope,
                              size_t scope_length);

// Returns when the token expires, in seconds since the epoch (`exp`, RFC 7519 §4.1.4), or -1 if it does not say or is
// not active.
PHANTOM_MUST_USE
int64_t phantom_result_expires_at(const phantom_result *result);

// Returns where the verdict came from; `PHANTOM_CACHE_NONE` for NULL.
PHANTOM_MUST_USE phantom_cache_status phantom_result_cache_status(const phantom_result *result);

// Returns the word for it in logs: "HIT", "MISS", "COALESCED", or "-" for `PHANTOM_CACHE_NONE`. It is never NULL, also
// for a number that is no cache status, and never freed.
const char *phantom_cache_status_string(int32_t cache_status);

// ---------------------------------------------------------------------------------------------------------
// Policies.
//
// An active token is not one that may do everything. A policy says what is asked of it beyond that: scopes, an audience,
// claims, how and when its user was authenticated; and that one which is bound to a key of its sender comes from that
// sender. Make one for each thing that is protected, when the program starts, and check it on every request, whether the
// token was remembered or not.
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
// Nothing but `PHANTOM_OK` lets a request through.
// ---------------------------------------------------------------------------------------------------------

// What a request presents, as it came from the client. Set `size`, and leave 0 and NULL what it does not have. Later
// versions may add to its end.
typedef struct {
  // `sizeof(phantom_presentation)`.
  size_t size;
  // The value of its `Authorization` header: "DPoP 8f3c0a…".
  const char *authorization;
  // The length of `authorization`.
  size_t authorization_length;
  // Its method: "GET".
  const char *method;
  // The length of `method`.
  size_t method_length;
  // What it asks for, as its client sees it: `https://api.example.com/orders`. Nothing after the path is looked at.
  // Make it of a host that you have checked: a `Host` in which anything but a host and a port stands is to be answered
  // with 400, or a proof for one path is good for another. A URL without a path is refused, for it is made of such one.
  const char *url;
  // The length of `url`.
  size_t url_length;
  // The value of its `DPoP` header (RFC 9449 §4.1).
  const char *dpop;
  // The length of `dpop`.
  size_t dpop_length;
  // How many `DPoP` headers it has: more than one is not allowed.
  size_t dpop_count;
  // The certificate with which its client has authenticated the connection, as DER. That the client has its key is
  // what your TLS library has made sure of.
  const uint8_t *client_certificate;
  // The length of `client_certificate`.
  size_t client_certificate_length;
} phantom_presentation;

// Makes a policy that asks for nothing but an active token, with its proof if it is bound to a key, and writes it to
// `policy`. It is yours: free it with `phantom_policy_free`.
PHANTOM_MUST_USE
phantom_status phantom_policy_new(phantom_policy **policy);

// Frees a policy. Denials stay valid.
void phantom_policy_free(phantom_policy *policy);

// Sets one key: `scopes`, `audience`, `require`, `realm`, `sender_constraint`, … Values are separated by spaces; one
// with spaces in it stands in quotes. docs/c-api.md lists the keys, `phantom_policy_key` enumerates them. Nobody may be
// checking the policy meanwhile.
//
// `PHANTOM_CONFIG` when there is no such key, or when the value is not one of it; `phantom_last_error` says what
// would be. Nothing is changed then.
PHANTOM_MUST_USE
phantom_status phantom_policy_set(phantom_policy *policy,
                                  const char *key,
                                  size_t key_length,
                                  const char *value,
                                  size_t value_length);

// The same with a key and a value that end in a NUL.
PHANTOM_MUST_USE
phantom_status phantom_policy_set_str(phantom_policy *policy,
                                      const char *key,
                                      const char *value);

// Enumerates the keys: returns the name of the one at `index`, or NULL when there is none. Start at 0 and go on until
// NULL. The name is never freed.
const char *phantom_policy_key(size_t index);

// Decides whether a request may pass whose token `result` is about. Returns
//
// - `PHANTOM_OK`: it may. Nothing was allocated. From now on `result` hands out its JWT, also if its token is bound to a
//   key of its sender: a result belongs to one request, so never check one for another.
// - `PHANTOM_DENIED`: it may not. `*denial` is yours, and says what to answer: free it with `phantom_denial_free`.
// - anything else: an error, and no reason to let it through.
//
// A NULL `result` is a request without a token: that is denied, with the challenge to present one, unless the policy's
// `optional` is `on`. `presentation` is
// what the request presents; NULL is nothing, with which a token that is bound to a key of its sender is denied.
// `client` is the client that has resolved the token: it knows which proofs were used before (RFC 9449 §11.1). NULL is
// none; a token that needs such a proof is denied then. `denial` may be NULL. Any thread may call it, with any policy.
PHANTOM_MUST_USE
phantom_status phantom_policy_check(const phantom_policy *policy,
                                    const phantom_client *client,
                                    const phantom_result *result,
                                    const phantom_presentation *presentation,
                                    phantom_denial **denial);

// Frees a denial. NULL is fine.
void phantom_denial_free(phantom_denial *denial);

// Returns the HTTP status to answer with: 400, 401, 403 or 503; 500 for NULL.
PHANTOM_MUST_USE int32_t phantom_denial_http_status(const phantom_denial *denial);

// Returns the error code: "insufficient_scope", "invalid_token" (RFC 6750 §3.1), "insufficient_user_authentication"
// (RFC 9470 §3), "invalid_dpop_proof" (RFC 9449 §7.1), …; NULL if there is none, which is where there is no token. It is
// part of the denial: never free it.
PHANTOM_MUST_USE
const char *phantom_denial_error(const phantom_denial *denial);

// Returns what is wrong, in one word without spaces, for a log: "scope:write", "claim:tenant", "audience", "inactive";
// NULL for NULL. It is part of the denial: never free it.
PHANTOM_MUST_USE
const char *phantom_denial_reason(const phantom_denial *denial);

// Returns the value of the `WWW-Authenticate` header to answer with, and writes its length to `length`; NULL and 0 if
// there is none. Whatever the policy was set to, it is one line. It is part of the denial: never free it.
//
// `length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_denial_challenge(const phantom_denial *denial,
                                     size_t *length);

// Returns the value of the `DPoP-Nonce` header to answer with (RFC 9449 §9), or NULL if there is none. It is part of the
// denial: never free it.
PHANTOM_MUST_USE
const char *phantom_denial_dpop_nonce(const phantom_denial *denial);

// Enumerates the headers of the answer: returns the name of the one at `index`, and writes its value to `value`; NULL
// past the last. `WWW-Authenticate` and `DPoP-Nonce` are among them, and so is the type of the body. Both are part of
// the denial: never free them.
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
// A gateway need not know where a token may be, what is done to the request that goes on, or what a client is told that
// is denied: it hands over all headers of the request, and does what the decision says. The policy's `source`, `forward`
// and `optional` say how tokens come in and how JWTs go on.
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
// Nothing but `PHANTOM_OK` lets a request through.
// ---------------------------------------------------------------------------------------------------------

// A header: its name and its value, as they came from the client.
typedef struct {
  // Its name, in any case.
  const char *name;
  // The length of `name`.
  size_t name_length;
  // Its value.
  const char *value;
  // The length of `value`.
  size_t value_length;
} phantom_header;

// A request, as it came from the client. Set `size`, and leave 0 and NULL what it does not have. Later versions may add
// to its end.
typedef struct {
  // `sizeof(phantom_request)`.
  size_t size;
  // Its method: "GET".
  const char *method;
  // The length of `method`.
  size_t method_length;
  // What it asks for, as it stands in the request line or in `:path`: "/orders?page=2".
  const char *target;
  // The length of `target`.
  size_t target_length;
  // All of its headers, each field by itself. With HTTP/2 and HTTP/3, `:authority` is `host`.
  const phantom_header *headers;
  // How many there are.
  size_t header_count;
  // The scheme that its client sees, "http" or "https"; NULL is "https". A DPoP proof is for a URL.
  const char *scheme;
  // The length of `scheme`.
  size_t scheme_length;
  // The whole URL that its client sees, for a gateway that knows it better than `Host` and `target` say; else NULL.
  const char *url;
  // The length of `url`.
  size_t url_length;
  // The certificate with which its client has authenticated the connection, as DER. That the client has its key is
  // what your TLS library has made sure of.
  const uint8_t *client_certificate;
  // The length of `client_certificate`.
  size_t client_certificate_length;
} phantom_request;

// Makes a decision, in which nothing is decided yet, and writes it to `decision`. It is yours: free it with
// `phantom_decision_free`. Make one for each thread that decides, or for each connection: it is used for one request at a
// time.
PHANTOM_MUST_USE
phantom_status phantom_decision_new(phantom_decision **decision);

// Frees a decision, and with it all that it has handed out. NULL is fine.
void phantom_decision_free(phantom_decision *decision);

// Finds the token of a request in the places that the policy's `source` names, and forgets what `decision` was about.
//
// - `PHANTOM_OK`: `*token` is to be resolved. It is part of the request or of the decision, and has no NUL behind it.
// - `PHANTOM_NOT_FOUND`: there is nothing to resolve, because there is no token, or none that can be used, or several.
// - anything else: an error, and no reason to let it through.
//
// In each case `phantom_policy_decide` decides, with this status or with that of resolving the token.
PHANTOM_MUST_USE
phantom_status phantom_policy_token(const phantom_policy *policy,
                                    const phantom_request *request,
                                    phantom_decision *decision,
                                    const char **token,
                                    size_t *token_length);

// Decides about a request, and fills in `decision`. Returns
//
// - `PHANTOM_OK`: it goes on, with the changes of `phantom_decision_request_header` and `phantom_decision_target`. From
//   now on `result` hands out its JWT, also if its token is bound to a key of its sender: a result belongs to one
//   request, so never decide with one about another.
// - `PHANTOM_DENIED`: it is answered: with `phantom_decision_http_status`, every `phantom_decision_answer_header`, and
//   `phantom_decision_body`.
// - anything else: an error, and no reason to let it through.
//
// `resolved` is the status of resolving the token that `phantom_policy_token` has found, or that function's own where it
// has found none. `result` is the verdict; NULL if there is none. `retry_after` is what `phantom_last_error_retry_after`
// said on the thread on which resolving failed, or -1. `client` is the client that has resolved the token: it knows which
// proofs were used before (RFC 9449 §11.1); NULL is none, and a token that needs such a proof is denied then. Once it has
// been used for a few requests, a decision that lets one pass allocates nothing, unless something has to be taken out of
// its cookies or its query.
PHANTOM_MUST_USE
phantom_status phantom_policy_decide(const phantom_policy *policy,
                                     const phantom_client *client,
                                     const phantom_request *request,
                                     int32_t resolved,
                                     int64_t retry_after,
                                     const phantom_result *result,
                                     phantom_decision *decision);

// Returns what became of the request, in one word for logs and metrics: "ok", "missing", "malformed", "inactive",
// "invalid", "unproven", "step_up", "forbidden" or "unavailable"; NULL if nothing has been decided. It is part of the
// decision: never free it.
PHANTOM_MUST_USE
const char *phantom_decision_outcome(const phantom_decision *decision);

// Returns one word more than the outcome, without spaces, for logs: "scope:write", "several", "proof_htu", "timeout"; ""
// where the outcome says everything, NULL if nothing has been decided. It is part of the decision: never free it.
PHANTOM_MUST_USE
const char *phantom_decision_reason(const phantom_decision *decision);

// Returns the error code of the challenge: "insufficient_scope", "invalid_token" (RFC 6750 §3.1), …; NULL if there is
// none. It is part of the decision: never free it.
PHANTOM_MUST_USE
const char *phantom_decision_error(const phantom_decision *decision);

// Returns the HTTP status to answer with: 400, 401, 403, 500, 502, 503 or 504; 0 if the request goes on; 500 for NULL and
// if nothing has been decided.
PHANTOM_MUST_USE
int32_t phantom_decision_http_status(const phantom_decision *decision);

// Enumerates the changes to the headers of a request that goes on: returns the name of the one at `index`, NULL past the
// last. Where `*value` is NULL, all headers of this name are to be taken out; else one header with this value takes the
// place of all of this name. Names are compared without case. Make the changes in this order. All of it is part of the
// decision or of the result: never free it.
//
// `value` and `value_length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_decision_request_header(const phantom_decision *decision,
                                            size_t index,
                                            const char **value,
                                            size_t *value_length);

// Enumerates the headers of the answer: returns the name of the one at `index`, NULL past the last, and writes its value.
// They are added to the answer: to that of the API if the request goes on, else to the one that is given instead, which
// has no others but what delimits its body. All of it is part of the decision: never free it.
//
// `value` and `value_length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_decision_answer_header(const phantom_decision *decision,
                                           size_t index,
                                           const char **value,
                                           size_t *value_length);

// Returns the body of the answer to a request that is denied, a JSON object, and writes its length to `length`; NULL and 0
// if there is none. It is part of the decision: never free it.
//
// `length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_decision_body(const phantom_decision *decision,
                                  size_t *length);

// Returns the target of a request that goes on, path and query, without what held its token, and writes its length to
// `length`; NULL and 0 if it stays as it is. It is part of the decision: never free it.
//
// `length` may be NULL.
PHANTOM_MUST_USE
const char *phantom_decision_target(const phantom_decision *decision,
                                    size_t *length);

// ---------------------------------------------------------------------------------------------------------
// Event loops.
//
// A thread that must not wait submits a token and goes on. When the answer has come, a file descriptor becomes
// readable; the loop then calls `phantom_client_dispatch`, which calls back on that same thread:
//
//     switch (phantom_client_submit(client, token, token_length, on_verdict, request, &id, &result)) {
//       case PHANTOM_OK:      // known already: here is the result, and there will be no callback
//       case PHANTOM_PENDING: // there will be exactly one callback, unless it is cancelled
//       default:              // an error, and there will be no callback
//     }
// ---------------------------------------------------------------------------------------------------------

// Takes the answer to one submitted request, on the thread that called `phantom_client_dispatch`.
//
// With `PHANTOM_OK` there is a verdict, and `result` is yours: free it with `phantom_result_free`. With any other
// status, `result` is NULL, and `phantom_last_error` says why.
//
// It may call any function of this library, `phantom_client_free` for this very client included.
typedef void (*phantom_callback)(void *user_data, phantom_status status, phantom_result *result);

// Submits `token`. It never waits.
//
// - `PHANTOM_OK`: the verdict is known, and is written to `result`, which is yours. The callback never runs.
// - `PHANTOM_PENDING`: the request's name is written to `request_id`, for `phantom_client_cancel`. The callback runs
//   once, from `phantom_client_dispatch`, within the configured `timeout`; never, if the request is cancelled or the
//   client freed.
// - Any other status: an error. The callback never runs.
//
// `user_data` is handed to the callback and never looked at; it may be NULL. `request_id` may be NULL if you never
// cancel. A thread other than this one may already run the callback before this returns, if it dispatches.
PHANTOM_MUST_USE
phantom_status phantom_client_submit(const phantom_client *client,
                                     const char *token,
                                     size_t token_length,
                                     phantom_callback callback,
                                     void *user_data,
                                     uint64_t *request_id,
                                     phantom_result **result);

// Writes to `fd` the file descriptor that becomes readable when there is something to dispatch. Watch it with `poll`,
// `epoll` or `kqueue`, level- or edge-triggered. It belongs to the client: never read, write or close it; stop
// watching it before the client is freed.
PHANTOM_MUST_USE
phantom_status phantom_client_fd(const phantom_client *client,
                                 int *fd);

// Calls back for what has been answered, at most `max` times; 0 stands for all that there is now. Writes to `count`
// how many callbacks ran; it may be NULL. It never waits: with nothing to do it returns `PHANTOM_OK`. What is left over
// keeps the descriptor readable.
phantom_status phantom_client_dispatch(const phantom_client *client,
                                       size_t max,
                                       size_t *count);

// Cancels a submitted request. After `PHANTOM_OK` its callback will not run. `PHANTOM_NOT_FOUND` when it has run, is
// running, or was cancelled before. Others who wait for the same token are not disturbed.
phantom_status phantom_client_cancel(const phantom_client *client,
                                     uint64_t request_id);

// ---------------------------------------------------------------------------------------------------------
// Statistics.
//
// What a client has done since it was started, and what it holds now, as of one moment.
// ---------------------------------------------------------------------------------------------------------

// What is counted.
enum phantom_stat
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Verdicts served from memory.
  PHANTOM_STAT_HITS = 0,
  // Requests that started a call to the authorization server.
  PHANTOM_STAT_MISSES = 1,
  // Requests that shared another's call.
  PHANTOM_STAT_COALESCED = 2,
  // Requests answered with an inactive verdict, remembered or not.
  PHANTOM_STAT_INACTIVE = 3,
  // Requests that ended in an error, of whatever kind.
  PHANTOM_STAT_ERRORS = 4,
  // Calls made to the authorization server, repeats included.
  PHANTOM_STAT_CALLS = 5,
  // Calls repeated.
  PHANTOM_STAT_RETRIES = 6,
  // Calls under way now, or queued for their turn.
  PHANTOM_STAT_IN_FLIGHT = 7,
  // Requests waiting now.
  PHANTOM_STAT_WAITING = 8,
  // Verdicts remembered now.
  PHANTOM_STAT_ENTRIES = 9,
  // Inactive verdicts among them.
  PHANTOM_STAT_INACTIVE_ENTRIES = 10,
  // Bytes that they take.
  PHANTOM_STAT_BYTES = 11,
  // Verdicts pushed out of memory before their time.
  PHANTOM_STAT_EVICTIONS = 12,
  // The sum of all latencies, in microseconds.
  PHANTOM_STAT_LATENCY_SUM_US = 13,
  // Verdicts served from the store that is shared.
  PHANTOM_STAT_SHARED_HITS = 14,
  // Requests answered with what is past its time (`stale_if_error`).
  PHANTOM_STAT_STALE = 15,
  // Flights that began in the background (`refresh_ahead`).
  PHANTOM_STAT_REFRESHES = 16,
  // How often calls were stopped after too many failures (`max_fails`), by this client.
  PHANTOM_STAT_BREAKER_OPENINGS = 17,
  // Whether they are stopped now: 1, or 0.
  PHANTOM_STAT_BREAKER_OPEN = 18,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum phantom_stat phantom_stat;
#else
typedef int32_t phantom_stat;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Takes a snapshot of what a client has done, and writes it to `stats`. It is yours: free it with
// `phantom_stats_free`.
PHANTOM_MUST_USE phantom_status phantom_client_stats(const phantom_client *client, phantom_stats **stats);

// Frees a snapshot. NULL is fine.
void phantom_stats_free(phantom_stats *stats);

// Writes to `value` what is counted under `stat`, a number of `phantom_stat`. `PHANTOM_NOT_FOUND` when this library
// does not count that.
PHANTOM_MUST_USE
phantom_status phantom_stats_get(const phantom_stats *stats,
                                 int32_t stat,
                                 uint64_t *value);

// Writes to `count` how many requests ended with `status`, an error from `PHANTOM_UNREACHABLE` to
// `PHANTOM_INTERNAL`. `PHANTOM_NOT_FOUND` for other statuses, which are not counted.
PHANTOM_MUST_USE
phantom_status phantom_stats_errors(const phantom_stats *stats,
                                    int32_t status,
                                    uint64_t *count);

// Writes one bar of the histogram of the authorization server's latency: to `count` how many calls took longer than
// the bar at `index` - 1 allows, and at most `bound_us` microseconds. The last bar has no bound: UINT64_MAX. Start at 0
// and go on until `PHANTOM_NOT_FOUND`.
PHANTOM_MUST_USE
phantom_status phantom_stats_latency(const phantom_stats *stats,
                                     size_t index,
                                     uint64_t *bound_us,
                                     uint64_t *count);

// Returns the whole snapshot as one JSON object, and writes its length to `length`, which may be NULL. It has a NUL
// behind it, and is part of the snapshot: never free it. NULL and 0 for NULL.
PHANTOM_MUST_USE
const char *phantom_stats_json(const phantom_stats *stats,
                               size_t *length);

// Returns the name of what is counted under `stat`: "hits", "misses", …, as in `phantom_stats_json`, or NULL when this
// library does not count that. The numbers run from 0 without a gap: start there and go on until NULL. The name is
// never freed.
const char *phantom_stat_name(int32_t stat);

// ---------------------------------------------------------------------------------------------------------
// Log.
//
// A client says little: that the authorization server fails, why, and what to do about it; and when it answers again.
// A line never repeats without pause, and never holds a token, a JWT or a secret.
// ---------------------------------------------------------------------------------------------------------

// How grave a line is.
enum phantom_log_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // The authorization server or the configuration is at fault: somebody has to act.
  PHANTOM_LOG_ERROR = 1,
  // Something works, but not as it should.
  PHANTOM_LOG_WARN = 2,
  // A change of state worth knowing.
  PHANTOM_LOG_INFO = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum phantom_log_level phantom_log_level;
#else
typedef int32_t phantom_log_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Takes one log line. `line` has no newline, has a NUL behind its `length` bytes, and is gone when the callback
// returns.
//
// It is called on the client's own thread and on threads that call the client, one line at a time. It must not
// block, and must not call the client.
typedef void (*phantom_log_callback)(void *user_data, phantom_log_level level, const char *line, size_t length);

// Sets where the log lines of clients go that are started with this configuration from now on. With a NULL callback,
// which is the default, there is no log.
//
// `user_data` is handed to the callback and never looked at; it may be NULL. It must outlive those clients: until
// `phantom_client_free` has returned for each.
PHANTOM_MUST_USE
phantom_status phantom_config_set_log(phantom_config *config,
                                      phantom_log_callback callback,
                                      void *user_data);

// Returns the name of a level: "error", "warn", "info". It is never NULL, also for a number that is no level, and
// never freed.
const char *phantom_log_level_string(int32_t level);

// ---------------------------------------------------------------------------------------------------------
// Zone.
//
// A zone is a store in memory that processes share, for hosts that fork: what one process finds out, the others know,
// and each token is asked for once, however many processes there are. The memory is the host's. Take it before the
// fork, and start the clients after:
//
//     void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
//     phantom_zone *zone = NULL;
//
//     if (phantom_zone_attach(memory, size, &zone) != PHANTOM_OK || phantom_config_set_zone(config, zone) != PHANTOM_OK)
//       fprintf(stderr, "%s\n", phantom_last_error());
//     // fork(), and in each child phantom_client_start(config, &client)
//
// Up to 64 configurations may share a zone: each authorization server has a part of its own. What is in it is sealed,
// as it is in every store. When it is full, it forgets what was not used for the longest time; and a process that is
// killed while it uses the zone holds up nobody.
// ---------------------------------------------------------------------------------------------------------

// Returns how large a zone's memory must be at least, in bytes. Beyond that, a verdict takes about what its JWT and its
// claims do, and 200 bytes.
PHANTOM_MUST_USE
size_t phantom_zone_min_size(void);

// Takes `size` bytes at `memory` for a zone, and writes it to `zone`. It is yours: free it with `phantom_zone_free`.
//
// The memory is zero, or holds a zone: then what that remembers is still known, unless it was of another size or of an
// incompatible version of this library, which starts anew. It is aligned to a page, as `mmap` gives it. It stays yours,
// and must stay where it is until the zone, every configuration that it is set in, and every client that was started
// with one of them have been freed, in each process.
//
// Attach once, before the fork: children inherit the zone. Other processes may attach to the same memory, not at the
// same moment, and with the same version of this library. The memory must not outlive the system's run: after a reboot,
// its locks and its times mean nothing.
//
// `PHANTOM_INVALID_ARGUMENT` when the memory is not aligned or smaller than `phantom_zone_min_size`; `PHANTOM_SYSTEM`
// when the system has no locks that processes share.
PHANTOM_MUST_USE
phantom_status phantom_zone_attach(void *memory,
                                   size_t size,
                                   phantom_zone **zone);

// Gives a zone up. Configurations that it is set in, and clients that were started with them, keep using it; what it
// remembers stays in the memory. NULL is fine.
void phantom_zone_free(phantom_zone *zone);

// Lets clients that are started with this configuration from now on remember with `zone`. With NULL, which is the
// default, they remember alone. Takes the place of a store or zone that was set before.
PHANTOM_MUST_USE
phantom_status phantom_config_set_zone(phantom_config *config,
                                       const phantom_zone *zone);

// ---------------------------------------------------------------------------------------------------------
// Shared stores.
//
// A client remembers alone. Give it a store, and it remembers together with whoever else uses that store: other
// clients, other processes, other machines. What one has found out, the others need not ask for, and what one purges,
// all forget. The zone (above) is a store in memory that processes share; this section is for hosts that have a shared
// memory of their own.
//
// A store is a table of functions. It keeps bytes under a key, for a time, and need not understand them:
//
// - A key is `PHANTOM_STORE_KEY_LENGTH` bytes, of which every bit is as good as random. The token cannot be had from
//   it. Keys of different configurations are different.
// - A value is at most `PHANTOM_STORE_VALUE_MAX` bytes, sealed with the token that it is about: whoever reads the store
//   learns neither tokens nor JWTs, and whoever writes to it can make clients forget, wait and fail, but no verdict. What
//   was tampered with is as good as not there.
// - Forgetting is always allowed, and there are no errors: a store that cannot do what it is asked to has forgotten.
//
//     phantom_store store = {
//         .size = sizeof store, .context = mine, .get = get, .put = put, .remove = remove_one, .clear = clear};
//
//     if (phantom_config_set_store(config, &store) != PHANTOM_OK)
//       fprintf(stderr, "%s\n", phantom_last_error());
//
// What holds for every callback:
//
// - Any thread may call it, and several at once: threads that call the client, and the client's own.
// - Whoever called the client waits for it, and an event loop with it: it must be short. A store that is a network
//   away needs a copy nearby.
// - It must not call this library with the client that it serves, and it must not throw or unwind.
// - What it is given by address is gone, or no longer its own, when it returns.
//
// Optional callbacks may be NULL, and make the store a better one:
//
// - **Versions.** A client keeps verdicts in its own memory too. So that these end when somebody else purges them,
//   every key has a version, a number that `remove` and `clear` change. Whoever remembers something notes the version
//   from before it began to ask, and believes itself only while the version is the same. Keys may share a version: a
//   counter for each of a few thousand groups of keys will do. Not one for all: `remove` is called for each token that
//   the authorization server calls inactive too, random ones included, and ends what others hold of the same version.
// - **Claims.** Only one of all who share the store asks about a token at a time. It claims the key first; the others
//   wait until the value is there, or the claim has ended: settled, or its time is over.
// - **Words.** A few numbers that all who share the store see, so that they know as one of an authorization server
//   that fails.
// ---------------------------------------------------------------------------------------------------------

// The length of a key, in bytes.
#define PHANTOM_STORE_KEY_LENGTH 32

// The longest value that is stored, in bytes: 1 MiB. Most take less than 4 KiB.
#define PHANTOM_STORE_VALUE_MAX 1048576

// The longest failure that is handed to `settle`, in bytes.
#define PHANTOM_STORE_FAILURE_MAX 512

// How many words `words` has: numbers of 64 bits.
#define PHANTOM_STORE_WORDS 4

// What is stored. Give each class a share of the memory of its own: whoever sends a million random tokens must fill the
// share of the inactive ones and no other.
enum phantom_store_class
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // An active verdict.
  PHANTOM_STORE_ACTIVE = 1,
  // An inactive one.
  PHANTOM_STORE_INACTIVE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum phantom_store_class phantom_store_class;
#else
typedef int32_t phantom_store_class;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What became of a claim.
enum phantom_claimed
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // The key is claimed: ask.
  PHANTOM_CLAIM_GRANTED = 0,
  // The flight in `held_by` is asking already: wait for it.
  PHANTOM_CLAIM_HELD = 1,
  // The flight in `waited_for`, or one since this flight began, has failed, and why is in `failure`.
  PHANTOM_CLAIM_FAILED = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum phantom_claimed phantom_claimed;
#else
typedef int32_t phantom_claimed;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The wish to be the one who asks about a token, and what becomes of it. Later versions may add to its end.
typedef struct {
  // Names the flight that would ask: no two have the same.
  uint64_t flight;
  // The flight that was waited for until now, if `has_waited`: if it failed, so has this one.
  uint64_t waited_for;
  // How many milliseconds ago the flight began. One that failed since then is as good as the one in `waited_for`.
  uint64_t waited_ms;
  // In how many milliseconds from now the flight will have ended: the claim with it, if nobody settles it.
  uint64_t within_ms;
  // The key's version when the flight began; 0 in a store without versions. A claim of another version holds up
  // nobody.
  uint32_t version;
  // Whether there is a flight in `waited_for`: 0 or 1.
  uint32_t has_waited;
  // Write the flight that is asking here, with `PHANTOM_CLAIM_HELD`.
  uint64_t held_by;
  // Write what `settle` was given here, with `PHANTOM_CLAIM_FAILED`: there is room for
  // `PHANTOM_STORE_FAILURE_MAX` bytes.
  uint8_t *failure;
  // And its length here.
  size_t failure_length;
} phantom_claim;

// A table of functions that a client remembers with. Set those that there are, and all else to zero.
typedef struct {
  // `sizeof(phantom_store)`: says which version of this table the program was compiled with.
  size_t size;
  // Handed to each callback, and never looked at. May be NULL.
  void *context;
  // Finds the value of a key: returns 0 when there is none. Otherwise it writes the value's length to `length`, and
  // to `remaining_ms` for how many milliseconds more it is kept, which is more than 0; if the length is not more than
  // `capacity`, it copies the value to `value`; and returns 1. With a value that is too long for the room it is
  // called again, with more. Required.
  int (*get)(void *context,
             const uint8_t *key,
             uint8_t *value,
             size_t capacity,
             size_t *length,
             uint64_t *remaining_ms);
  // Stores a value in the place of what was there, for `keep_ms` milliseconds; unless the key's version is another
  // than `version`, which is 0 in a store without versions. Required.
  void (*put)(void *context,
              const uint8_t *key,
              const uint8_t *value,
              size_t length,
              phantom_store_class store_class,
              uint64_t keep_ms,
              uint32_t version);
  // Forgets a key, and changes its version: it was purged, or its token was called inactive. Claims of the key end.
  // Required.
  void (*remove)(void *context, const uint8_t *key);
  // Forgets all keys, and changes their versions. Claims end. Required.
  void (*clear)(void *context);
  // Returns the version of a key. It is called for every request, and should cost no more than reading a number from
  // memory. With NULL there are no versions, and what somebody else purges may live on until its time is over: in a
  // client's own memory, or in the store, when a client was just being told of it by the authorization server.
  uint32_t (*version)(void *context, const uint8_t *key);
  // Claims a key, and returns what became of it, a number of `phantom_claimed`. Set both this and `settle`, or
  // neither: then several who share the store may ask about one token at once.
  int (*claim)(void *context, const uint8_t *key, phantom_claim *claim);
  // Ends the claim that was granted to `flight`: the value is stored by now; or, with `failure_length` more than 0,
  // it failed, and why is in `failure`, to be kept for those who waited for this flight until the claim's time would
  // have been over. Does nothing when another flight holds the claim by now.
  void (*settle)(void *context,
                 const uint8_t *key,
                 uint64_t flight,
                 const uint8_t *failure,
                 size_t failure_length);
  // Returns the address of `PHANTOM_STORE_WORDS` numbers of 64 bits, aligned to 8 bytes, that all who share the store
  // see, zero at first, and that stay there until `free`. Clients change them with atomic operations; nobody else
  // may change them. May return NULL. It is called once, by `phantom_config_set_store`.
  uint64_t *(*words)(void *context);
  // Called once, when nobody uses this table any more: the configuration, and every client that was started with it,
  // has been freed, or has got another store.
  void (*free)(void *context);
} phantom_store;

// Lets clients that are started with this configuration from now on remember with `store`, which is copied: only what
// `context` points to must stay, until `free` is called. With NULL, which is the default, they remember alone. Takes the
// place of a store or zone that was set before.
//
// `clear` forgets what is in the store, so let the clients of one store all be of the same configuration; give clients
// of another authorization server a `context` of their own.
//
// `PHANTOM_INVALID_ARGUMENT` when a required callback is NULL, or `size` is not that of a `phantom_store`; `free` is
// not called then.
PHANTOM_MUST_USE
phantom_status phantom_config_set_store(phantom_config *config,
                                        const phantom_store *store);

#ifdef __cplusplus
} // extern "C"
#endif

#endif // PHANTOM_TOKEN_H
