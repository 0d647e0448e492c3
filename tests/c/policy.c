// Policies: requirements for a token, denials, and senders of tokens that are bound to a key.

#include "support.h"

static phantom_policy *policy_of(const char *key, const char *value) {
  phantom_policy *policy = NULL;
  NEED(phantom_policy_new(&policy) == PHANTOM_OK);
  if (key != NULL)
    NEED(phantom_policy_set_str(policy, key, value) == PHANTOM_OK);
  return policy;
}

static bool is(const char *text, const char *expected) {
  return text == NULL ? expected == NULL : expected != NULL && strcmp(text, expected) == 0;
}

// Whether the policy, which is freed, denies it with these words.
static bool denies(phantom_policy *policy, const phantom_client *client, const phantom_result *result,
                   const phantom_presentation *presentation, int status, const char *error, const char *reason,
                   const char *challenge) {
  phantom_denial *denial = NULL;
  size_t length = 0;
  bool as_expected = phantom_policy_check(policy, client, result, presentation, &denial) == PHANTOM_DENIED;
  phantom_policy_free(policy);
  as_expected = as_expected && phantom_denial_http_status(denial) == status && is(phantom_denial_error(denial), error) &&
                is(phantom_denial_reason(denial), reason) && is(phantom_denial_challenge(denial, &length), challenge) &&
                length == (challenge == NULL ? 0 : strlen(challenge));
  if (!as_expected)
    printf("        %d %s %s: %s\n", phantom_denial_http_status(denial), phantom_denial_error(denial),
           phantom_denial_reason(denial), phantom_denial_challenge(denial, NULL));
  phantom_denial_free(denial);
  return as_expected;
}

static bool allows(phantom_policy *policy, const phantom_client *client, const phantom_result *result,
                   const phantom_presentation *presentation) {
  phantom_denial *denial = NULL;
  bool allowed = phantom_policy_check(policy, client, result, presentation, &denial) == PHANTOM_OK && denial == NULL;
  phantom_policy_free(policy);
  return allowed;
}

static void keys(void) {
  phantom_policy *policy = policy_of(NULL, NULL);
  size_t count = 0;
  bool found = false;
  for (; phantom_policy_key(count) != NULL; count++)
    found = found || strcmp(phantom_policy_key(count), "require") == 0;
  PROMISE("the keys are enumerated", found && count > 8 && phantom_policy_key(SIZE_MAX) == NULL);
  PROMISE("a key that is not one is refused, and what was meant is named",
          phantom_policy_set_str(policy, "scop", "read") == PHANTOM_CONFIG &&
              strstr(phantom_last_error(), "did you mean \"scope\"") != NULL);
  PROMISE("so is a value that is not one",
          phantom_policy_set(policy, "max_age", 7, "soon", 4) == PHANTOM_CONFIG &&
              strstr(phantom_last_error(), "max_age: \"soon\" is not a time") != NULL);
  phantom_policy_free(policy);
}

static void verdicts(const phantom_client *client, const phantom_result *active, const phantom_result *inactive) {
  phantom_presentation dpop = {.size = sizeof dpop, .authorization = "DPoP", .authorization_length = 4};
  phantom_presentation odd = {.size = sizeof odd - 1};
  phantom_policy *policy;

  PROMISE("an active token passes where nothing is asked", allows(policy_of(NULL, NULL), client, active, NULL));
  PROMISE("no token is a challenge without an error",
          denies(policy_of("realm", "the \"api\""), client, NULL, NULL, 401, NULL, "missing",
                 "Bearer realm=\"the api\""));
  PROMISE("what is no token is malformed",
          denies(policy_of(NULL, NULL), client, NULL, &dpop, 400, "invalid_request", "malformed",
                 "Bearer error=\"invalid_request\""));
  PROMISE("an inactive token is invalid",
          denies(policy_of(NULL, NULL), client, inactive, NULL, 401, "invalid_token", "inactive",
                 "Bearer error=\"invalid_token\""));
  PROMISE("the scopes of one line suffice", allows(policy_of("scopes", "write read"), client, active, NULL));
  policy = policy_of("scopes", "admin");
  NEED(phantom_policy_set_str(policy, "scopes", "read") == PHANTOM_OK);
  PROMISE("those of another line too", allows(policy, client, active, NULL));
  policy = policy_of("scopes", "read admin");
  NEED(phantom_policy_set_str(policy, "realm", "a\"b") == PHANTOM_OK);
  NEED(phantom_policy_set_str(policy, "resource_metadata", "https://api.example.com/meta") == PHANTOM_OK);
  PROMISE("a scope that is lacking is named, and what is asked for is advertised",
          denies(policy, client, active, NULL, 403, "insufficient_scope", "scope:admin",
                 "Bearer realm=\"a\\\"b\", error=\"insufficient_scope\", scope=\"read admin\", "
                 "resource_metadata=\"https://api.example.com/meta\""));
  PROMISE("a token for others is invalid here",
          denies(policy_of("audience", "nobody"), client, active, NULL, 401, "invalid_token", "audience",
                 "Bearer error=\"invalid_token\""));
  PROMISE("a claim is required", denies(policy_of("require", "tenant acme"), client, active, NULL, 403,
                                        "insufficient_scope", "claim:tenant", "Bearer error=\"insufficient_scope\""));
  PROMISE("a claim that is as required passes", allows(policy_of("require", "scope ~read"), client, active, NULL));
  PROMISE("an authentication that is required is asked for",
          denies(policy_of("acr", "gold silver"), client, active, NULL, 401, "insufficient_user_authentication", "acr",
                 "Bearer error=\"insufficient_user_authentication\", acr_values=\"gold silver\""));
  policy = policy_of(NULL, NULL);
  PROMISE("a presentation of another size is refused",
          phantom_policy_check(policy, client, active, &odd, NULL) == PHANTOM_INVALID_ARGUMENT &&
              strstr(phantom_last_error(), "size") != NULL);
  dpop.dpop_count = 1;
  PROMISE("so is one that has a proof and has none",
          phantom_policy_check(policy, client, active, &dpop, NULL) == PHANTOM_INVALID_ARGUMENT &&
              strstr(phantom_last_error(), "dpop_count") != NULL);
  phantom_policy_free(policy);
}

// Whether the JWT of an active token is not handed out.
static bool withheld(const phantom_result *result) {
  size_t length = 7, jwt_length = 7;
  return phantom_result_is_active(result) && phantom_result_authorization(result, &length) == NULL && length == 0 &&
         phantom_result_jwt(result, &jwt_length) == NULL && jwt_length == 0;
}

static void senders(phantom_client *client) {
  const char *certified = environment("CERTIFIED_TOKEN"), *keyed = environment("KEYED_TOKEN");
  const char *certificate = environment("CERTIFICATE");
  char bearer[512], dpop[512];
  phantom_result *by_certificate = NULL, *by_key = NULL, *second = NULL;
  phantom_presentation request = {.size = sizeof request, .method = "GET", .method_length = 3, .authorization = bearer};
  phantom_policy *ignoring, *nonce;
  phantom_denial *denial = NULL;

  NEED(resolve(client, certified, &by_certificate) == PHANTOM_OK && phantom_result_is_active(by_certificate));
  NEED(resolve(client, keyed, &by_key) == PHANTOM_OK && phantom_result_is_active(by_key));
  snprintf(bearer, sizeof bearer, "Bearer %s", certified);
  snprintf(dpop, sizeof dpop, "DPoP %s", keyed);
  request.authorization_length = strlen(bearer);

  PROMISE("of a token that is bound nothing is handed out that opens an API",
          phantom_result_is_bound(by_key) && phantom_result_is_bound(by_certificate) && withheld(by_key) &&
              withheld(by_certificate) && phantom_result_claims(by_key, NULL) != NULL);
  PROMISE("a token that is bound is denied where nobody says how it was presented",
          denies(policy_of(NULL, NULL), client, by_certificate, NULL, 401, "invalid_token", "presentation_missing",
                 "Bearer error=\"invalid_token\""));
  PROMISE("one that is bound to a certificate is denied on a connection without",
          denies(policy_of(NULL, NULL), client, by_certificate, &request, 401, "invalid_token", "certificate_missing",
                 "Bearer error=\"invalid_token\", error_description=\"The token is bound to a certificate, and the "
                 "connection has none\""));
  PROMISE("and nothing is handed out of it then", withheld(by_certificate));
  second = phantom_result_retain(by_certificate);
  request.client_certificate = (const uint8_t *)certificate;
  request.client_certificate_length = strlen(certificate);
  PROMISE("and passes on one that has it", allows(policy_of(NULL, NULL), client, by_certificate, &request));
  PROMISE("its JWT is handed out from then on, to each owner of the result",
          strncmp(phantom_result_authorization(by_certificate, NULL), "Bearer ey", 9) == 0 &&
              strncmp(phantom_result_jwt(second, NULL), "ey", 2) == 0);
  phantom_result_free(second);
  PROMISE("but not of the next request's",
          resolve(client, certified, &second) == PHANTOM_OK &&
              phantom_result_cache_status(second) == PHANTOM_CACHE_HIT && withheld(second));
  request.client_certificate_length--;
  PROMISE("but not on one that has another",
          phantom_policy_check(ignoring = policy_of(NULL, NULL), client, by_certificate, &request, NULL) == PHANTOM_DENIED);
  NEED(phantom_policy_set_str(ignoring, "sender_constraint", "ignore") == PHANTOM_OK);
  PROMISE("unless somebody else has looked, as the policy says",
          allows(ignoring, client, second, NULL) && !withheld(second));
  phantom_result_free(second);

  request.authorization = dpop;
  request.authorization_length = strlen(dpop);
  request.url = "https://api.example.com/";
  request.url_length = strlen(request.url);
  nonce = policy_of("dpop_nonce", "on");
  PROMISE("a token that is bound to a key is denied without a proof",
          phantom_policy_check(nonce, client, by_key, &request, &denial) == PHANTOM_DENIED &&
              phantom_denial_http_status(denial) == 401 && is(phantom_denial_reason(denial), "proof_missing") &&
              strncmp(phantom_denial_challenge(denial, NULL), "DPoP ", 5) == 0);
  PROMISE("a nonce goes with it where one is needed", phantom_denial_dpop_nonce(denial) != NULL);
  phantom_denial_free(denial);
  request.dpop = "eyJ";
  request.dpop_length = 3;
  request.dpop_count = 1;
  PROMISE("or with what is no proof",
          phantom_policy_check(nonce, client, by_key, &request, &denial) == PHANTOM_DENIED &&
              is(phantom_denial_error(denial), "invalid_dpop_proof"));
  phantom_denial_free(denial);
  phantom_policy_free(nonce);
  PROMISE("and nothing has been handed out of it", withheld(by_key));
  phantom_result_free(by_certificate);
  phantom_result_free(by_key);
}

static phantom_header header(const char *name, const char *value) {
  return (phantom_header){name, strlen(name), value, strlen(value)};
}

// The value that a decision gives to a header of the request or of the answer; NULL if it gives none.
static const char *given(const phantom_decision *decision,
                         const char *(*headers)(const phantom_decision *, size_t, const char **, size_t *),
                         const char *wanted) {
  const char *name, *value;
  for (size_t i = 0; (name = headers(decision, i, &value, NULL)) != NULL; i++)
    if (strcmp(name, wanted) == 0)
      return value;
  return NULL;
}

// Resolves the token of a request, and decides about it.
static phantom_status decide(const phantom_policy *policy, const phantom_client *client, const phantom_request *request,
                             phantom_result **result, phantom_decision *decision) {
  const char *found;
  size_t length;
  int64_t retry_after = -1;
  phantom_status status = phantom_policy_token(policy, request, decision, &found, &length);

  *result = NULL;
  if (status == PHANTOM_OK && (status = phantom_client_resolve(client, found, length, 0, result)) != PHANTOM_OK)
    retry_after = phantom_last_error_retry_after();
  return phantom_policy_decide(policy, client, request, status, retry_after, *result, decision);
}

static void decisions(const phantom_client *client) {
  phantom_policy *policy = policy_of("realm", "api");
  phantom_decision *decision = NULL;
  phantom_result *result;
  char cookies[512], target[512], authorization[512];
  phantom_header headers[3];
  phantom_request request = {.size = sizeof request, .method = "GET", .method_length = 3, .headers = headers};
  const char *jwt;
  bool removed = false;
  size_t length;

  NEED(phantom_decision_new(&decision) == PHANTOM_OK);
  PROMISE("a decision that has not been made lets nothing through",
          phantom_decision_http_status(decision) == 500 && phantom_decision_outcome(decision) == NULL &&
              phantom_decision_body(decision, NULL) == NULL);
  NEED(phantom_policy_set_str(policy, "source", "cookie session query access_token header X-Token") == PHANTOM_OK);
  NEED(phantom_policy_set_str(policy, "forward", "header X-Jwt") == PHANTOM_OK);

  snprintf(cookies, sizeof cookies, "theme=dark; session=%s", token(0));
  headers[0] = header("cookie", cookies);
  headers[1] = header("X_JWT", "forged");
  request.header_count = 2;
  PROMISE("a token in a cookie lets a request pass", decide(policy, client, &request, &result, decision) == PHANTOM_OK);
  jwt = phantom_result_jwt(result, &length);
  PROMISE("the JWT goes on where the policy says, and is not copied",
          given(decision, phantom_decision_request_header, "X-Jwt") == jwt && jwt != NULL);
  PROMISE("the cookie goes on without it",
          is(given(decision, phantom_decision_request_header, "Cookie"), "theme=dark"));
  for (size_t i = 0; (jwt = phantom_decision_request_header(decision, i, NULL, NULL)) != NULL; i++)
    removed = removed || strcmp(jwt, "X_JWT") == 0;
  PROMISE("a header of the client's with nearly that name is taken out", removed);
  PROMISE("and the outcome is ok", is(phantom_decision_outcome(decision), "ok") &&
                                      phantom_decision_http_status(decision) == 0 &&
                                      phantom_decision_target(decision, NULL) == NULL);
  phantom_result_free(result);

  snprintf(target, sizeof target, "/orders?a=b&access_token=%s", token(0));
  request.target = target;
  request.target_length = strlen(target);
  request.header_count = 0;
  PROMISE("a token in the query lets a request pass", decide(policy, client, &request, &result, decision) == PHANTOM_OK);
  PROMISE("the target goes on without it", is(phantom_decision_target(decision, NULL), "/orders?a=b"));
  PROMISE("no cache that many share keeps the answer",
          is(given(decision, phantom_decision_answer_header, "Cache-Control"), "private"));
  phantom_result_free(result);
  headers[0] = header("X-Token", "other");
  request.header_count = 1;
  PROMISE("two tokens are one too many", decide(policy, client, &request, &result, decision) == PHANTOM_DENIED &&
                                             phantom_decision_http_status(decision) == 400 &&
                                             is(phantom_decision_outcome(decision), "malformed") &&
                                             is(phantom_decision_reason(decision), "several") &&
                                             is(phantom_decision_error(decision), "invalid_request"));
  PROMISE("and the answer has all that it needs",
          is(given(decision, phantom_decision_answer_header, "WWW-Authenticate"),
             "Bearer realm=\"api\", error=\"invalid_request\"") &&
              is(given(decision, phantom_decision_answer_header, "Cache-Control"), "no-store") &&
              is(given(decision, phantom_decision_answer_header, "Content-Type"), "application/json") &&
              is(phantom_decision_body(decision, NULL), "{\"code\":\"invalid_request\",\"message\":\"The request "
                                                        "presents more than one access token\"}"));
  request.target_length = 1;
  request.header_count = 0;
  PROMISE("a request without a token is denied", decide(policy, client, &request, &result, decision) == PHANTOM_DENIED &&
                                                     phantom_decision_http_status(decision) == 401);
  NEED(phantom_policy_set_str(policy, "optional", "on") == PHANTOM_OK);
  headers[0] = header("X-Jwt", "forged");
  request.header_count = 1;
  PROMISE("unless none is needed", decide(policy, client, &request, &result, decision) == PHANTOM_OK &&
                                       is(phantom_decision_outcome(decision), "missing"));
  PROMISE("and then nothing of the client's takes the place of the JWT",
          is(phantom_decision_request_header(decision, 0, NULL, NULL), "X-Jwt") &&
              given(decision, phantom_decision_request_header, "X-Jwt") == NULL);
  phantom_policy_free(policy);

  policy = policy_of(NULL, NULL);
  snprintf(authorization, sizeof authorization, "Bearer %s", token(0));
  headers[0] = header("Authorization", authorization);
  PROMISE("without a verdict the client is told when to try again",
          phantom_policy_decide(policy, client, &request, PHANTOM_BUSY, 7, NULL, decision) == PHANTOM_DENIED &&
              phantom_decision_http_status(decision) == 503 &&
              is(given(decision, phantom_decision_answer_header, "Retry-After"), "7") &&
              given(decision, phantom_decision_answer_header, "WWW-Authenticate") == NULL);
  PROMISE("a token that nobody has asked about lets nothing through",
          phantom_policy_decide(policy, client, &request, PHANTOM_NOT_FOUND, -1, NULL, decision) == PHANTOM_DENIED &&
              phantom_decision_http_status(decision) == 500);
  PROMISE("an active token passes", decide(policy, client, &request, &result, decision) == PHANTOM_OK &&
                                        phantom_decision_http_status(decision) == 0);
  headers[0].name = NULL;
  PROMISE("a header that has no name is the program's fault",
          phantom_policy_decide(policy, client, &request, PHANTOM_OK, -1, NULL, decision) == PHANTOM_INVALID_ARGUMENT);
  PROMISE("and nothing is left of the last decision",
          phantom_decision_http_status(decision) == 500 && phantom_decision_outcome(decision) == NULL &&
              phantom_decision_request_header(decision, 0, NULL, NULL) == NULL);
  phantom_result_free(result);
  request.size--;
  PROMISE("so is a request of another size",
          phantom_policy_decide(policy, client, &request, PHANTOM_OK, -1, NULL, decision) == PHANTOM_INVALID_ARGUMENT);
  phantom_policy_free(policy);
  phantom_decision_free(decision);
}

int main(void) {
  phantom_client *client = start(configure(""));
  phantom_result *active = NULL, *inactive = NULL;
  NEED(resolve(client, token(0), &active) == PHANTOM_OK);
  NEED(resolve(client, "unknown", &inactive) == PHANTOM_OK);
  keys();
  verdicts(client, active, inactive);
  senders(client);
  decisions(client);
  phantom_result_free(active);
  phantom_result_free(inactive);
  phantom_client_free(client);
  return broken_promises != 0;
}
