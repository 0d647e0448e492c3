// NULL in every pointer of every function. tests/c_abi.rs checks against the sources that none is missing here.

#include "support.h"

static phantom_result *const UNTOUCHED = (phantom_result *)&broken_promises;

// `call` has NULL for `argument` and is good otherwise.
#define NULL_IN(function, argument, call) PROMISE(#function " survives NULL for " #argument, call)

static void callback(void *user_data, phantom_status status, phantom_result *result) {
  (void)user_data;
  (void)status;
  phantom_result_free(result);
}

static bool refused(phantom_status status, const char *argument) {
  char message[64];
  snprintf(message, sizeof message, "%s is NULL", argument);
  return status == PHANTOM_INVALID_ARGUMENT && strcmp(phantom_last_error(), message) == 0;
}

static bool freed(void) { return true; }

static int get(void *context, const uint8_t *key, uint8_t *value, size_t capacity, size_t *length, uint64_t *remaining_ms) {
  (void)context, (void)key, (void)value, (void)capacity, (void)length, (void)remaining_ms;
  return 0;
}

static void put(void *context, const uint8_t *key, const uint8_t *value, size_t length, phantom_store_class store_class,
                uint64_t keep_ms, uint32_t version) {
  (void)context, (void)key, (void)value, (void)length, (void)store_class, (void)keep_ms, (void)version;
}

static void remove_one(void *context, const uint8_t *key) { (void)context, (void)key; }

static void clear(void *context) { (void)context; }

int main(void) {
  static char memory[2 * 4096];
  char *const page = memory + 4096 - (uintptr_t)memory % 4096;
  phantom_store store = {.size = sizeof store, .get = get, .put = put, .remove = remove_one, .clear = clear};
  phantom_zone *zone = NULL;
  phantom_config *config = configure("");
  phantom_client *client = NULL;
  phantom_result *result = UNTOUCHED;
  phantom_result *active = NULL, *inactive = NULL;
  phantom_stats *stats = NULL;
  const char *known = token(0);
  const char *text;
  size_t length = 7, known_length = strlen(known);
  uint64_t id = 7, number = 7;
  int fd = -7;
  phantom_policy *policy = NULL;
  phantom_denial *denial = NULL;
  phantom_presentation presentation = {.size = sizeof presentation};
  phantom_decision *decision = NULL;
  phantom_request request = {.size = sizeof request};
  char authorization[512];
  phantom_header header = {"Authorization", 13, authorization, 0};
  const char *untouched = "untouched", *value = untouched;

  NULL_IN(phantom_constant, value, strcmp(phantom_constant(0, NULL), "PHANTOM_OK") == 0);

  NULL_IN(phantom_config_new, name, refused(phantom_config_new(NULL, 0, &config), "name"));
  NULL_IN(phantom_config_new, config, refused(phantom_config_new("x", 1, NULL), "config"));
  NULL_IN(phantom_config_free, config, (phantom_config_free(NULL), freed()));
  NULL_IN(phantom_config_set, config, refused(phantom_config_set(NULL, "timeout", 7, "1s", 2), "config"));
  NULL_IN(phantom_config_set, key, refused(phantom_config_set(config, NULL, 7, "1s", 2), "key"));
  NULL_IN(phantom_config_set, value, refused(phantom_config_set(config, "timeout", 7, NULL, 2), "value"));
  NULL_IN(phantom_config_set_str, config, refused(phantom_config_set_str(NULL, "timeout", "1s"), "config"));
  NULL_IN(phantom_config_set_str, key, refused(phantom_config_set_str(config, NULL, "1s"), "key"));
  NULL_IN(phantom_config_set_str, value, refused(phantom_config_set_str(config, "timeout", NULL), "value"));
  NULL_IN(phantom_config_check, config, refused(phantom_config_check(NULL), "config"));
  NULL_IN(phantom_config_set_log, config, refused(phantom_config_set_log(NULL, NULL, &id), "config"));
  NULL_IN(phantom_config_set_log, callback, phantom_config_set_log(config, NULL, &id) == PHANTOM_OK);
  NULL_IN(phantom_config_set_log, user_data, phantom_config_set_log(config, NULL, NULL) == PHANTOM_OK);

  NULL_IN(phantom_config_set_store, config, refused(phantom_config_set_store(NULL, &store), "config"));
  NULL_IN(phantom_config_set_store, store, phantom_config_set_store(config, NULL) == PHANTOM_OK);
  PROMISE("a store of which all that is not required is NULL is taken", phantom_config_set_store(config, &store) == PHANTOM_OK);
  store.get = NULL;
  PROMISE("a store without a required callback is refused, and what is missing is named",
          phantom_config_set_store(config, &store) == PHANTOM_INVALID_ARGUMENT &&
              strstr(phantom_last_error(), "store.get") != NULL);
  NULL_IN(phantom_zone_attach, memory, refused(phantom_zone_attach(NULL, phantom_zone_min_size(), &zone), "memory") && zone == NULL);
  NULL_IN(phantom_zone_attach, zone, refused(phantom_zone_attach(page, phantom_zone_min_size(), NULL), "zone"));
  PROMISE("a zone in too little memory is refused, or in memory that is not aligned to a page",
          phantom_zone_attach(page, 4096, &zone) == PHANTOM_INVALID_ARGUMENT && zone == NULL &&
              phantom_zone_attach(page + 8, phantom_zone_min_size(), &zone) == PHANTOM_INVALID_ARGUMENT && zone == NULL);
  NULL_IN(phantom_zone_free, zone, (phantom_zone_free(NULL), freed()));
  NULL_IN(phantom_config_set_zone, config, refused(phantom_config_set_zone(NULL, zone), "config"));
  NULL_IN(phantom_config_set_zone, zone, phantom_config_set_zone(config, NULL) == PHANTOM_OK);

  NULL_IN(phantom_client_start, config, refused(phantom_client_start(NULL, &client), "config") && client == NULL);
  NULL_IN(phantom_client_start, client, refused(phantom_client_start(config, NULL), "client"));
  client = start(config);
  NEED(phantom_client_resolve(client, known, known_length, 0, &active) == PHANTOM_OK);
  NEED(phantom_client_resolve(client, "unknown", 7, 0, &inactive) == PHANTOM_OK);

  NULL_IN(phantom_client_resolve, client, refused(phantom_client_resolve(NULL, known, known_length, 0, &result), "client"));
  NULL_IN(phantom_client_resolve, token, refused(phantom_client_resolve(client, NULL, 0, 0, &result), "token"));
  NULL_IN(phantom_client_resolve, result, refused(phantom_client_resolve(client, known, known_length, 0, NULL), "result"));
  NULL_IN(phantom_client_lookup, client, refused(phantom_client_lookup(NULL, known, known_length, &result), "client"));
  NULL_IN(phantom_client_lookup, token, refused(phantom_client_lookup(client, NULL, 0, &result), "token"));
  NULL_IN(phantom_client_lookup, result, refused(phantom_client_lookup(client, known, known_length, NULL), "result"));
  NULL_IN(phantom_client_purge, client, refused(phantom_client_purge(NULL, known, known_length), "client"));
  NULL_IN(phantom_client_purge, token, refused(phantom_client_purge(client, NULL, 0), "token"));
  NULL_IN(phantom_client_purge_all, client, refused(phantom_client_purge_all(NULL), "client"));
  NULL_IN(phantom_client_submit, client,
          refused(phantom_client_submit(NULL, known, known_length, callback, NULL, &id, &result), "client"));
  NULL_IN(phantom_client_submit, token, refused(phantom_client_submit(client, NULL, 1, callback, NULL, &id, &result), "token"));
  NULL_IN(phantom_client_submit, callback,
          refused(phantom_client_submit(client, known, known_length, NULL, NULL, &id, &result), "callback"));
  NULL_IN(phantom_client_submit, result,
          refused(phantom_client_submit(client, known, known_length, callback, NULL, &id, NULL), "result"));
  PROMISE("what was refused wrote no output", result == UNTOUCHED && id == 7);
  NULL_IN(phantom_client_submit, user_data,
          phantom_client_submit(client, known, known_length, callback, NULL, &id, &result) == PHANTOM_OK);
  phantom_result_free(result);
  NULL_IN(phantom_client_submit, request_id,
          phantom_client_submit(client, token(1), known_length, callback, NULL, NULL, &result) == PHANTOM_PENDING);
  NULL_IN(phantom_client_fd, client, refused(phantom_client_fd(NULL, &fd), "client") && fd == -7);
  NULL_IN(phantom_client_fd, fd, refused(phantom_client_fd(client, NULL), "fd"));
  NULL_IN(phantom_client_dispatch, client, refused(phantom_client_dispatch(NULL, 0, &length), "client") && length == 7);
  NULL_IN(phantom_client_dispatch, count, phantom_client_dispatch(client, 0, NULL) == PHANTOM_OK);
  NULL_IN(phantom_client_cancel, client, refused(phantom_client_cancel(NULL, 1), "client"));

  NULL_IN(phantom_result_retain, result, phantom_result_retain(NULL) == NULL);
  NULL_IN(phantom_result_is_active, result, !phantom_result_is_active(NULL));
  NULL_IN(phantom_result_is_bound, result, !phantom_result_is_bound(NULL));
  NULL_IN(phantom_result_authorization, result, phantom_result_authorization(NULL, &length) == NULL && length == 0);
  text = phantom_result_authorization(active, NULL);
  NULL_IN(phantom_result_authorization, length, text != NULL && strncmp(text, "Bearer ", 7) == 0);
  length = 7;
  NULL_IN(phantom_result_jwt, result, phantom_result_jwt(NULL, &length) == NULL && length == 0);
  text = phantom_result_jwt(active, NULL);
  NULL_IN(phantom_result_jwt, length, text != NULL && strncmp(text, "eyJ", 3) == 0);
  length = 7;
  NULL_IN(phantom_result_claims, result, phantom_result_claims(NULL, &length) == NULL && length == 0);
  text = phantom_result_claims(active, NULL);
  NULL_IN(phantom_result_claims, length, text != NULL && text[0] == '{');
  NULL_IN(phantom_result_has_scope, result, !phantom_result_has_scope(NULL, "read", 4));
  NULL_IN(phantom_result_has_scope, scope, !phantom_result_has_scope(active, NULL, 0));
  NULL_IN(phantom_result_expires_at, result, phantom_result_expires_at(NULL) == -1);
  NULL_IN(phantom_result_cache_status, result, phantom_result_cache_status(NULL) == PHANTOM_CACHE_NONE);
  NULL_IN(phantom_result_free, result, (phantom_result_free(NULL), freed()));

  NULL_IN(phantom_policy_new, policy, refused(phantom_policy_new(NULL), "policy"));
  NEED(phantom_policy_new(&policy) == PHANTOM_OK);
  NULL_IN(phantom_policy_set, policy, refused(phantom_policy_set(NULL, "scope", 5, "read", 4), "policy"));
  NULL_IN(phantom_policy_set, key, refused(phantom_policy_set(policy, NULL, 5, "read", 4), "key"));
  NULL_IN(phantom_policy_set, value, refused(phantom_policy_set(policy, "scope", 5, NULL, 4), "value"));
  NULL_IN(phantom_policy_set_str, policy, refused(phantom_policy_set_str(NULL, "scope", "read"), "policy"));
  NULL_IN(phantom_policy_set_str, key, refused(phantom_policy_set_str(policy, NULL, "read"), "key"));
  NULL_IN(phantom_policy_set_str, value, refused(phantom_policy_set_str(policy, "scope", NULL), "value"));
  NULL_IN(phantom_policy_check, policy,
          refused(phantom_policy_check(NULL, client, active, &presentation, &denial), "policy") && denial == NULL);
  NULL_IN(phantom_policy_check, client, phantom_policy_check(policy, NULL, active, &presentation, &denial) == PHANTOM_OK);
  NULL_IN(phantom_policy_check, presentation, phantom_policy_check(policy, client, active, NULL, &denial) == PHANTOM_OK);
  NULL_IN(phantom_policy_check, denial, phantom_policy_check(policy, client, inactive, NULL, NULL) == PHANTOM_DENIED);
  PROMISE("a request that may pass has no denial", denial == NULL);
  NULL_IN(phantom_policy_check, result,
          phantom_policy_check(policy, client, NULL, &presentation, &denial) == PHANTOM_DENIED && denial != NULL);
  NULL_IN(phantom_denial_http_status, denial, phantom_denial_http_status(NULL) == 500);
  NULL_IN(phantom_denial_error, denial, phantom_denial_error(NULL) == NULL);
  NULL_IN(phantom_denial_reason, denial, phantom_denial_reason(NULL) == NULL);
  length = 7;
  NULL_IN(phantom_denial_challenge, denial, phantom_denial_challenge(NULL, &length) == NULL && length == 0);
  text = phantom_denial_challenge(denial, NULL);
  NULL_IN(phantom_denial_challenge, length, text != NULL && strncmp(text, "Bearer", 6) == 0);
  NULL_IN(phantom_denial_dpop_nonce, denial, phantom_denial_dpop_nonce(NULL) == NULL);
  value = untouched;
  NULL_IN(phantom_denial_header, denial, phantom_denial_header(NULL, 0, &value) == NULL && value == NULL);
  NULL_IN(phantom_denial_header, value, phantom_denial_header(denial, 0, NULL) != NULL);
  length = 7;
  NULL_IN(phantom_denial_body, denial, phantom_denial_body(NULL, &length) == NULL && length == 0);
  text = phantom_denial_body(denial, NULL);
  NULL_IN(phantom_denial_body, length, text != NULL && text[0] == '{');
  NULL_IN(phantom_denial_free, denial, (phantom_denial_free(NULL), freed()));

  snprintf(authorization, sizeof authorization, "Bearer %s", known);
  header.value_length = strlen(authorization);
  request.headers = &header;
  request.header_count = 1;
  NULL_IN(phantom_decision_new, decision, refused(phantom_decision_new(NULL), "decision"));
  NEED(phantom_decision_new(&decision) == PHANTOM_OK);
  value = untouched;
  length = 7;
  NULL_IN(phantom_policy_token, policy,
          refused(phantom_policy_token(NULL, &request, decision, &value, &length), "policy") && value == untouched);
  NULL_IN(phantom_policy_token, request, refused(phantom_policy_token(policy, NULL, decision, &value, &length), "request"));
  NULL_IN(phantom_policy_token, decision, refused(phantom_policy_token(policy, &request, NULL, &value, &length), "decision"));
  NULL_IN(phantom_policy_token, token, refused(phantom_policy_token(policy, &request, decision, NULL, &length), "token"));
  NULL_IN(phantom_policy_token, token_length,
          refused(phantom_policy_token(policy, &request, decision, &value, NULL), "token_length"));
  NULL_IN(phantom_policy_decide, policy,
          refused(phantom_policy_decide(NULL, client, &request, PHANTOM_OK, -1, active, decision), "policy"));
  NULL_IN(phantom_policy_decide, client, phantom_policy_decide(policy, NULL, &request, PHANTOM_OK, -1, active, decision) == PHANTOM_OK);
  NULL_IN(phantom_policy_decide, request,
          refused(phantom_policy_decide(policy, client, NULL, PHANTOM_OK, -1, active, decision), "request"));
  NULL_IN(phantom_policy_decide, decision,
          refused(phantom_policy_decide(policy, client, &request, PHANTOM_OK, -1, active, NULL), "decision"));
  NEED(phantom_policy_decide(policy, client, &request, PHANTOM_OK, -1, active, decision) == PHANTOM_OK);
  NULL_IN(phantom_decision_outcome, decision, phantom_decision_outcome(NULL) == NULL);
  NULL_IN(phantom_decision_reason, decision, phantom_decision_reason(NULL) == NULL);
  NULL_IN(phantom_decision_error, decision, phantom_decision_error(NULL) == NULL);
  NULL_IN(phantom_decision_http_status, decision, phantom_decision_http_status(NULL) == 500);
  NULL_IN(phantom_decision_request_header, decision,
          phantom_decision_request_header(NULL, 0, &value, &length) == NULL && value == NULL && length == 0);
  NULL_IN(phantom_decision_request_header, value, phantom_decision_request_header(decision, 0, NULL, &length) != NULL && length > 7);
  NULL_IN(phantom_decision_request_header, value_length,
          phantom_decision_request_header(decision, 0, &value, NULL) != NULL && strncmp(value, "Bearer ey", 9) == 0);
  NULL_IN(phantom_policy_decide, result,
          phantom_policy_decide(policy, client, &request, PHANTOM_TIMEOUT, -1, NULL, decision) == PHANTOM_DENIED &&
              phantom_decision_http_status(decision) == 504);
  value = untouched;
  NULL_IN(phantom_decision_answer_header, decision,
          phantom_decision_answer_header(NULL, 0, &value, &length) == NULL && value == NULL && length == 0);
  NULL_IN(phantom_decision_answer_header, value, phantom_decision_answer_header(decision, 0, NULL, &length) != NULL && length == 16);
  NULL_IN(phantom_decision_answer_header, value_length,
          phantom_decision_answer_header(decision, 0, &value, NULL) != NULL && strcmp(value, "application/json") == 0);
  length = 7;
  NULL_IN(phantom_decision_body, decision, phantom_decision_body(NULL, &length) == NULL && length == 0);
  text = phantom_decision_body(decision, NULL);
  NULL_IN(phantom_decision_body, length, text != NULL && text[0] == '{');
  length = 7;
  NULL_IN(phantom_decision_target, decision, phantom_decision_target(NULL, &length) == NULL && length == 0);
  NULL_IN(phantom_decision_target, length, phantom_decision_target(decision, NULL) == NULL);
  NULL_IN(phantom_decision_free, decision, (phantom_decision_free(NULL), freed()));
  phantom_decision_free(decision);
  NULL_IN(phantom_policy_free, policy, (phantom_policy_free(NULL), freed()));
  phantom_denial_free(denial);
  phantom_policy_free(policy);

  NULL_IN(phantom_client_stats, client, refused(phantom_client_stats(NULL, &stats), "client") && stats == NULL);
  NULL_IN(phantom_client_stats, stats, refused(phantom_client_stats(client, NULL), "stats"));
  NEED(phantom_client_stats(client, &stats) == PHANTOM_OK);
  NULL_IN(phantom_stats_get, stats, refused(phantom_stats_get(NULL, 0, &number), "stats") && number == 7);
  NULL_IN(phantom_stats_get, value, refused(phantom_stats_get(stats, 0, NULL), "value"));
  NULL_IN(phantom_stats_errors, stats, refused(phantom_stats_errors(NULL, PHANTOM_BUSY, &number), "stats") && number == 7);
  NULL_IN(phantom_stats_errors, count, refused(phantom_stats_errors(stats, PHANTOM_BUSY, NULL), "count"));
  NULL_IN(phantom_stats_latency, stats, refused(phantom_stats_latency(NULL, 0, &number, &id), "stats") && number == 7);
  NULL_IN(phantom_stats_latency, bound_us, refused(phantom_stats_latency(stats, 0, NULL, &number), "bound_us"));
  NULL_IN(phantom_stats_latency, count, refused(phantom_stats_latency(stats, 0, &number, NULL), "count") && number == 7);
  length = 7;
  NULL_IN(phantom_stats_json, stats, phantom_stats_json(NULL, &length) == NULL && length == 0);
  text = phantom_stats_json(stats, NULL);
  NULL_IN(phantom_stats_json, length, text != NULL && text[0] == '{');
  NULL_IN(phantom_stats_free, stats, (phantom_stats_free(NULL), freed()));
  phantom_stats_free(stats);

  NULL_IN(phantom_client_stop, client, refused(phantom_client_stop(NULL), "client"));
  NULL_IN(phantom_client_free, client, (phantom_client_free(NULL), freed()));
  phantom_result_free(active);
  phantom_result_free(inactive);
  phantom_client_free(client);
  return broken_promises != 0;
}
