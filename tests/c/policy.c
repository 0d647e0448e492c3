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

int main(void) {
  phantom_client *client = start(configure(""));
  phantom_result *active = NULL, *inactive = NULL;
  NEED(resolve(client, token(0), &active) == PHANTOM_OK);
  NEED(resolve(client, "unknown", &inactive) == PHANTOM_OK);
  keys();
  verdicts(client, active, inactive);
  senders(client);
  phantom_result_free(active);
  phantom_result_free(inactive);
  phantom_client_free(client);
  return broken_promises != 0;
}
