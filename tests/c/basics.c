// Functions that need no authorization server: version, statuses, configuration.

#include "support.h"

#include <pthread.h>

static void version(void) {
  char text[32];
  snprintf(text, sizeof text, "%d.%d.%d", PHANTOM_VERSION_MAJOR, PHANTOM_VERSION_MINOR, PHANTOM_VERSION_PATCH);
  PROMISE("the version that is loaded is the version of the header", strcmp(phantom_version(), text) == 0);
  PROMISE("the version as a number says the same",
          phantom_version_number() == (uint32_t)(PHANTOM_VERSION_MAJOR * 65536 + PHANTOM_VERSION_MINOR * 256 +
                                                 PHANTOM_VERSION_PATCH));
}

static void constants(void) {
  size_t index = 0, found = 0;
  int64_t value = -1;
  const char *name;
  while ((name = phantom_constant(index++, &value)) != NULL) {
    found += strcmp(name, "PHANTOM_OK") == 0 && value == PHANTOM_OK;
    found += strcmp(name, "PHANTOM_FORKED") == 0 && value == PHANTOM_FORKED;
    found += strcmp(name, "PHANTOM_CACHE_COALESCED") == 0 && value == PHANTOM_CACHE_COALESCED;
    found += strcmp(name, "PHANTOM_STAT_BYTES") == 0 && value == PHANTOM_STAT_BYTES;
    found += strcmp(name, "PHANTOM_LOG_WARN") == 0 && value == PHANTOM_LOG_WARN;
    found += strcmp(name, "PHANTOM_VERSION_MINOR") == 0 && value == PHANTOM_VERSION_MINOR;
  }
  PROMISE("constants of each enumeration can be found by name", found == 6);
}

static void statuses(void) {
  PROMISE("a status has words", strcmp(phantom_status_string(PHANTOM_OK), "done") == 0 &&
                                    strcmp(phantom_status_string(12345), "not a status") == 0);
  PROMISE("statuses map to 502, 503 and 504", phantom_status_http(PHANTOM_UNREACHABLE) == 502 &&
                                                  phantom_status_http(PHANTOM_BAD_ANSWER) == 502 &&
                                                  phantom_status_http(PHANTOM_CLIENT_REFUSED) == 502 &&
                                                  phantom_status_http(PHANTOM_BUSY) == 503 &&
                                                  phantom_status_http(PHANTOM_OVERLOADED) == 503 &&
                                                  phantom_status_http(PHANTOM_TIMEOUT) == 504);
  PROMISE("a malformed token is the client's fault", phantom_status_http(PHANTOM_INVALID_TOKEN) == 400);
  PROMISE("a number that is no status fails closed", phantom_status_http(-7) == 500);
  PROMISE("cache statuses and levels have words",
          strcmp(phantom_cache_status_string(PHANTOM_CACHE_HIT), "HIT") == 0 &&
              strcmp(phantom_cache_status_string(99), "-") == 0 &&
              strcmp(phantom_log_level_string(PHANTOM_LOG_WARN), "warn") == 0 &&
              strcmp(phantom_log_level_string(0), "not a level") == 0);
}

static void *error_of_another_thread(void *seen) {
  *(bool *)seen = phantom_last_error()[0] != '\0';
  return NULL;
}

static void configuration(void) {
  phantom_config *config = NULL;
  phantom_client *client = NULL;
  pthread_t thread;
  bool seen = true;
  size_t index, keys = 0;
  const char *key;

  PROMISE("before anything failed, the last error is empty", phantom_last_error()[0] == '\0');
  NEED(phantom_config_new("gateway", 7, &config) == PHANTOM_OK);

  PROMISE("an unknown key is refused, and the error names it",
          phantom_config_set_str(config, "introspection_endpiont", "http://as/") == PHANTOM_CONFIG &&
              strstr(phantom_last_error(), "introspection_endpiont") != NULL);
  NEED(pthread_create(&thread, NULL, error_of_another_thread, &seen) == 0 && pthread_join(thread, NULL) == 0);
  PROMISE("another thread does not see this thread's last error", !seen);
  PROMISE("a value that cannot be is refused, and the error names key and value",
          phantom_config_set_str(config, "timeout", "soon") == PHANTOM_CONFIG &&
              strstr(phantom_last_error(), "timeout") != NULL && strstr(phantom_last_error(), "soon") != NULL);
  PROMISE("a call that succeeds leaves the last error alone",
          phantom_config_set(config, "timeoutXXX", 7, "2sYYY", 2) == PHANTOM_OK &&
              strstr(phantom_last_error(), "soon") != NULL);
  PROMISE("text that is not UTF-8 is refused",
          phantom_config_set(config, "client_id", 9, "\xff\xfe", 2) == PHANTOM_INVALID_ARGUMENT);
  PROMISE("a length beyond all memory is refused",
          phantom_config_set(config, "client_id", 9, "x", SIZE_MAX) == PHANTOM_INVALID_ARGUMENT);
  PROMISE("an error that quotes a zero byte is not cut short by it",
          phantom_config_set(config, "a\0bcdef", 7, "x", 1) == PHANTOM_CONFIG &&
              strstr(phantom_last_error(), "bcdef") != NULL);

  PROMISE("a configuration without an endpoint does not pass the check",
          phantom_config_check(config) == PHANTOM_CONFIG &&
              strstr(phantom_last_error(), "introspection_endpoint") != NULL);
  PROMISE("nor does it start", phantom_client_start(config, &client) == PHANTOM_CONFIG && client == NULL);
  NEED(phantom_config_set_str(config, "introspection_endpoint", "https://as.example.com/introspect") == PHANTOM_OK);
  NEED(phantom_config_set_str(config, "client_id", "gateway") == PHANTOM_OK);
  NEED(phantom_config_set_str(config, "client_secret_file", "/nonexistent/secret") == PHANTOM_OK);
  PROMISE("a secret file that cannot be read does not pass the check, and the error names it",
          phantom_config_check(config) == PHANTOM_CONFIG &&
              strstr(phantom_last_error(), "/nonexistent/secret") != NULL);
  phantom_config_free(config);

  NEED(phantom_config_new("gateway", 7, &config) == PHANTOM_OK);
  NEED(phantom_config_set_str(config, "introspection_endpoint", "https://as.example.com/introspect") == PHANTOM_OK);
  NEED(phantom_config_set_str(config, "client_id", "gateway") == PHANTOM_OK);
  NEED(phantom_config_set_str(config, "client_secret", "s3cret") == PHANTOM_OK);
  PROMISE("a complete configuration passes the check", phantom_config_check(config) == PHANTOM_OK);
  phantom_config_free(config);

  for (index = 0; (key = phantom_config_key(index)) != NULL; index++)
    keys += strcmp(key, "introspection_endpoint") == 0 || strcmp(key, "client_secret_file") == 0 ||
            strcmp(key, "cache_ttl") == 0;
  PROMISE("the keys can be enumerated", keys == 3);
}

int main(void) {
  configuration();
  version();
  constants();
  statuses();
  return broken_promises != 0;
}
