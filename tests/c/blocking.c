// Blocking: resolve, lookup, results, each kind of error, statistics.

#define _POSIX_C_SOURCE 200809L

#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void verdicts(void) {
  phantom_client *client = start(configure(""));
  phantom_result *first = NULL, *second = NULL, *again, *inactive = NULL, *none = NULL;
  const char *authorization, *jwt, *claims;
  size_t authorization_length = 0, jwt_length = 0, claims_length = 0;

  PROMISE("lookup knows nothing of a token that was never resolved",
          phantom_client_lookup(client, token(10), strlen(token(10)), &none) == PHANTOM_NOT_FOUND && none == NULL);
  NEED(resolve(client, token(10), &first) == PHANTOM_OK);
  PROMISE("an active token is active", phantom_result_is_active(first));
  PROMISE("the authorization server was asked for it", phantom_result_cache_status(first) == PHANTOM_CACHE_MISS);

  authorization = phantom_result_authorization(first, &authorization_length);
  jwt = phantom_result_jwt(first, &jwt_length);
  claims = phantom_result_claims(first, &claims_length);
  PROMISE("its JWT has three parts", jwt != NULL && strncmp(jwt, "eyJ", 3) == 0 && strchr(jwt, '.') != NULL &&
                                         strchr(jwt, '.') != strrchr(jwt, '.'));
  PROMISE("its Authorization header is Bearer and the JWT",
          authorization != NULL && strncmp(authorization, "Bearer ", 7) == 0 && strcmp(authorization + 7, jwt) == 0);
  PROMISE("lengths are those of the text, and a NUL is behind it",
          strlen(authorization) == authorization_length && strlen(jwt) == jwt_length && strlen(claims) == claims_length);
  PROMISE("its claims are a JSON object with a scope",
          claims[0] == '{' && claims[claims_length - 1] == '}' && strstr(claims, "\"scope\"") != NULL);
  PROMISE("a scope that it was granted is found, alone and whole",
          phantom_result_has_scope(first, "read", 4) && !phantom_result_has_scope(first, "rea", 3) &&
              !phantom_result_has_scope(first, "read write", 10) && !phantom_result_has_scope(first, "", 0) &&
              !phantom_result_has_scope(first, "admin", 5));
  PROMISE("it expires in the future", phantom_result_expires_at(first) > (int64_t)time(NULL));

  NEED(resolve(client, token(10), &second) == PHANTOM_OK);
  PROMISE("the second time it is remembered", phantom_result_cache_status(second) == PHANTOM_CACHE_HIT);
  PROMISE("and not copied", phantom_result_jwt(second, NULL) == jwt);
  phantom_result_free(second);
  NEED(phantom_client_lookup(client, token(10), strlen(token(10)), &second) == PHANTOM_OK);
  PROMISE("lookup finds it", phantom_result_is_active(second) && phantom_result_jwt(second, NULL) == jwt &&
                                 phantom_result_cache_status(second) == PHANTOM_CACHE_HIT);

  NEED(resolve(client, "unknown", &inactive) == PHANTOM_OK);
  PROMISE("an unknown token is not active, which is no error", !phantom_result_is_active(inactive));
  PROMISE("and has nothing to send upstream",
          phantom_result_authorization(inactive, &jwt_length) == NULL && jwt_length == 0 &&
              phantom_result_jwt(inactive, NULL) == NULL && phantom_result_claims(inactive, NULL) == NULL &&
              phantom_result_expires_at(inactive) == -1 && !phantom_result_has_scope(inactive, "read", 4));
  PROMISE("the authorization server was asked for it too", phantom_result_cache_status(inactive) == PHANTOM_CACHE_MISS);
  again = phantom_result_retain(inactive);
  phantom_result_free(inactive);
  PROMISE("an inactive result that is retained keeps its cache status",
          phantom_result_cache_status(again) == PHANTOM_CACHE_MISS && !phantom_result_is_active(again));
  phantom_result_free(again);
  NEED(phantom_client_lookup(client, "unknown", 7, &inactive) == PHANTOM_OK);
  PROMISE("inactive is remembered as well",
          !phantom_result_is_active(inactive) && phantom_result_cache_status(inactive) == PHANTOM_CACHE_HIT);
  phantom_result_free(inactive);

  PROMISE("the statistics have counted it",
          counted(client, PHANTOM_STAT_HITS) == 3 && counted(client, PHANTOM_STAT_MISSES) == 2 &&
              counted(client, PHANTOM_STAT_CALLS) == 2 && counted(client, PHANTOM_STAT_ENTRIES) == 2 &&
              counted(client, PHANTOM_STAT_INACTIVE) == 2 && counted(client, PHANTOM_STAT_ERRORS) == 0);

  again = phantom_result_retain(first);
  phantom_result_free(first);
  phantom_result_free(second);
  phantom_client_free(client);
  PROMISE("a result that is retained outlives its first owner and the client",
          phantom_result_is_active(again) && strlen(phantom_result_jwt(again, &jwt_length)) == jwt_length &&
              phantom_result_cache_status(again) == PHANTOM_CACHE_MISS);
  phantom_result_free(again);
}

// Resolves a token where that cannot succeed.
static bool fails(phantom_config *config, size_t n, uint64_t timeout_ms, phantom_status expected) {
  phantom_client *client = start(config);
  phantom_result *result = NULL;
  phantom_status status = phantom_client_resolve(client, token(n), strlen(token(n)), timeout_ms, &result);
  bool good = status == expected && result == NULL && phantom_last_error()[0] != '\0' &&
              !shows_secret(phantom_last_error());
  if (status != expected)
    printf("        got %d: %s\n", (int)status, phantom_last_error());
  phantom_client_free(client);
  return good;
}

// A port on which nobody listens: bound once, so that it was free, and given back.
static unsigned short free_port(void) {
  struct sockaddr_in address;
  socklen_t size = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  NEED(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
  NEED(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
  close(fd);
  return ntohs(address.sin_port);
}

static void errors(void) {
  phantom_config *config;
  phantom_client *client;
  phantom_result *result = NULL;
  char longest[8193];
  char endpoint[64];

  config = configure("");
  snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d/introspect", free_port());
  NEED(phantom_config_set_str(config, "introspection_endpoint", endpoint) == PHANTOM_OK);
  PROMISE("nobody listens: UNREACHABLE", fails(config, 0, 0, PHANTOM_UNREACHABLE));
  PROMISE("the connection is closed in the middle: UNREACHABLE",
          fails(configure("?close=mid_body"), 0, 0, PHANTOM_UNREACHABLE));
  PROMISE("garbage: BAD_ANSWER", fails(configure("?garbage=1"), 0, 0, PHANTOM_BAD_ANSWER));
  PROMISE("a line break in the JWT: BAD_ANSWER", fails(configure("?garbage=crlf"), 0, 0, PHANTOM_BAD_ANSWER));
  PROMISE("a redirect: BAD_ANSWER", fails(configure("?redirect=http://127.0.0.1/"), 0, 0, PHANTOM_BAD_ANSWER));
  config = configure("");
  NEED(phantom_config_set_str(config, "client_id", "nobody") == PHANTOM_OK);
  PROMISE("a client that the server does not know: CLIENT_REFUSED", fails(config, 0, 0, PHANTOM_CLIENT_REFUSED));
  PROMISE("503: BUSY", fails(configure("?status=503&retry_after=7"), 0, 0, PHANTOM_BUSY));
  PROMISE("and the server's Retry-After is known", phantom_last_error_retry_after() == 7);
  PROMISE("429: BUSY", fails(configure("?status=429"), 0, 0, PHANTOM_BUSY));
  PROMISE("and without Retry-After there is none", phantom_last_error_retry_after() == -1);
  PROMISE("the caller's own timeout: TIMEOUT", fails(configure("?latency=60000"), 0, 50, PHANTOM_TIMEOUT));
  config = configure("?latency=60000");
  NEED(phantom_config_set_str(config, "timeout", "100ms") == PHANTOM_OK);
  PROMISE("the configured timeout: TIMEOUT", fails(config, 0, 0, PHANTOM_TIMEOUT));

  client = start(configure(""));
  memset(longest, 'x', sizeof longest);
  PROMISE("a token of 0 bytes: INVALID_TOKEN",
          phantom_client_resolve(client, "", 0, 0, &result) == PHANTOM_INVALID_TOKEN && result == NULL);
  PROMISE("a token of 8193 bytes: INVALID_TOKEN",
          phantom_client_resolve(client, longest, 8193, 0, &result) == PHANTOM_INVALID_TOKEN && result == NULL);
  PROMISE("a token with a zero byte: INVALID_TOKEN",
          phantom_client_resolve(client, "a\0b", 3, 0, &result) == PHANTOM_INVALID_TOKEN && result == NULL);
  PROMISE("a token that would be another form parameter: INVALID_TOKEN",
          resolve(client, "a&token=b", &result) == PHANTOM_INVALID_TOKEN && result == NULL);
  PROMISE("the error does not quote it", strstr(phantom_last_error(), "a&token=b") == NULL);
  PROMISE("lookup and submit refuse it likewise",
          phantom_client_lookup(client, "a b", 3, &result) == PHANTOM_INVALID_TOKEN && result == NULL);
  NEED(phantom_client_resolve(client, longest, 8192, 0, &result) == PHANTOM_OK);
  PROMISE("a token of 8192 bytes is asked for", !phantom_result_is_active(result));
  phantom_result_free(result);
  result = NULL;
  NEED(phantom_client_resolve(client, "x", 1, 0, &result) == PHANTOM_OK);
  PROMISE("a token of 1 byte is asked for", !phantom_result_is_active(result));
  phantom_result_free(result);
  phantom_client_free(client);
}

static void *wait_for_one(void *client) {
  phantom_result *result = NULL;
  phantom_status status = resolve((phantom_client *)client, token(20), &result);
  phantom_result_free(result);
  return (void *)(intptr_t)(status == PHANTOM_OK);
}

static void bounds(void) {
  phantom_config *config = configure("?latency=1000");
  phantom_client *client;
  phantom_result *result = NULL;
  phantom_stats *stats = NULL;
  pthread_t thread;
  void *answered = NULL;
  uint64_t overloaded = 0, timeouts = 7;
  int tries = 0;
  NEED(phantom_config_set_str(config, "max_waiting", "1") == PHANTOM_OK);
  client = start(config);
  NEED(pthread_create(&thread, NULL, wait_for_one, client) == 0);
  while (counted(client, PHANTOM_STAT_WAITING) == 0 && tries++ < 1000)
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  PROMISE("one more than may wait: OVERLOADED", resolve(client, token(21), &result) == PHANTOM_OVERLOADED && result == NULL);
  NEED(pthread_join(thread, &answered) == 0);
  PROMISE("and the one that waited is answered", answered != NULL);
  NEED(phantom_client_stats(client, &stats) == PHANTOM_OK);
  PROMISE("errors are counted by kind", phantom_stats_errors(stats, PHANTOM_OVERLOADED, &overloaded) == PHANTOM_OK &&
                                            overloaded == 1 &&
                                            phantom_stats_errors(stats, PHANTOM_TIMEOUT, &timeouts) == PHANTOM_OK &&
                                            timeouts == 0);
  PROMISE("what is no error is not counted as one",
          phantom_stats_errors(stats, PHANTOM_OK, &timeouts) == PHANTOM_NOT_FOUND &&
              phantom_stats_errors(stats, 4711, &timeouts) == PHANTOM_NOT_FOUND);
  phantom_stats_free(stats);
  phantom_client_free(client);
}

static void statistics(void) {
  phantom_client *client = start(configure(""));
  phantom_result *result = NULL;
  phantom_stats *stats = NULL;
  uint64_t bound = 0, last_bound = 0, count = 0, calls = 0, value = 0;
  size_t index, length = 0;
  bool ascending = true;
  const char *json;
  NEED(resolve(client, token(30), &result) == PHANTOM_OK);
  phantom_result_free(result);
  NEED(phantom_client_stats(client, &stats) == PHANTOM_OK);
  for (index = 0; phantom_stats_latency(stats, index, &bound, &count) == PHANTOM_OK; index++) {
    ascending = ascending && bound > last_bound;
    last_bound = bound;
    calls += count;
  }
  PROMISE("the latency histogram rises to no bound and has every call",
          index > 1 && ascending && last_bound == UINT64_MAX && calls == 1);
  PROMISE("what is not counted is not found",
          phantom_stats_get(stats, 4711, &value) == PHANTOM_NOT_FOUND && phantom_stat_name(4711) == NULL);
  for (index = 0; phantom_stat_name((int32_t)index) != NULL; index++)
    NEED(phantom_stats_get(stats, (int32_t)index, &value) == PHANTOM_OK);
  PROMISE("statistics can be enumerated", index >= 14 && strcmp(phantom_stat_name(PHANTOM_STAT_HITS), "hits") == 0);
  json = phantom_stats_json(stats, &length);
  PROMISE("and had as one JSON object", strlen(json) == length && strstr(json, "\"misses\":1") != NULL &&
                                            strstr(json, "\"unreachable\":0") != NULL && !shows_secret(json));
  phantom_stats_free(stats);
  phantom_client_free(client);
}

int main(void) {
  verdicts();
  errors();
  bounds();
  statistics();
  return broken_promises != 0;
}
