// Helpers of the test programs: assertions, tokens, and clients of the authorization server that run.sh started.

#ifndef SUPPORT_H
#define SUPPORT_H

#include <phantom_token.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNUSED __attribute__((unused))

static int broken_promises;

// One line for each promise; run.sh counts them.
#define PROMISE(sentence, kept) promise(sentence, kept, __FILE__, __LINE__)

static UNUSED bool promise(const char *sentence, bool kept, const char *file, int line) {
  if (kept) {
    printf("ok      %s\n", sentence);
  } else {
    printf("FAILED  %s (%s:%d; last error: %s)\n", sentence, file, line, phantom_last_error());
    broken_promises++;
  }
  fflush(stdout);
  return kept;
}

// For what has to go well before anything can be promised.
#define NEED(condition)                                                                             \
  do {                                                                                              \
    if (!(condition)) {                                                                             \
      printf("FAILED  needs %s (%s:%d; last error: %s)\n", #condition, __FILE__, __LINE__,          \
             phantom_last_error());                                                                 \
      exit(1);                                                                                      \
    }                                                                                               \
  } while (0)

static UNUSED const char *environment(const char *name) {
  const char *value = getenv(name);
  if (value == NULL) {
    printf("FAILED  %s is not set: start this through run.sh\n", name);
    exit(1);
  }
  return value;
}

// The n-th of the active tokens that run.sh has fetched. Different programs use different ranges.
static UNUSED const char *token(size_t n) {
  static char *tokens;
  static size_t count, length;
  if (tokens == NULL) {
    FILE *file = fopen(environment("TOKENS"), "r");
    char line[512];
    NEED(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
      size_t used = strcspn(line, "\n") + 1;
      line[used - 1] = '\0';
      if (length == 0)
        length = used;
      NEED(used == length);
      tokens = (char *)realloc(tokens, (count + 1) * length);
      NEED(tokens != NULL);
      memcpy(tokens + count * length, line, length);
      count++;
    }
    fclose(file);
  }
  NEED(n < count);
  return tokens + n * length;
}

// A configuration for the authorization server, with `query` behind its introspection endpoint.
static UNUSED phantom_config *configure(const char *query) {
  phantom_config *config = NULL;
  char endpoint[512];
  snprintf(endpoint, sizeof endpoint, "%s%s", environment("ENDPOINT"), query);
  NEED(phantom_config_new("test", 4, &config) == PHANTOM_OK);
  NEED(phantom_config_set_str(config, "introspection_endpoint", endpoint) == PHANTOM_OK);
  NEED(phantom_config_set_str(config, "client_id", environment("CLIENT_ID")) == PHANTOM_OK);
  NEED(phantom_config_set_str(config, "client_secret_file", environment("CLIENT_SECRET_FILE")) == PHANTOM_OK);
  // Longer than any machine needs: what is about time sets its own.
  NEED(phantom_config_set_str(config, "timeout", "60s") == PHANTOM_OK);
  return config;
}

// Starts a client and frees its configuration.
static UNUSED phantom_client *start(phantom_config *config) {
  phantom_client *client = NULL;
  NEED(phantom_client_start(config, &client) == PHANTOM_OK);
  phantom_config_free(config);
  return client;
}

static UNUSED phantom_status resolve(phantom_client *client, const char *token, phantom_result **result) {
  return phantom_client_resolve(client, token, strlen(token), 0, result);
}

static UNUSED uint64_t counted(phantom_client *client, phantom_stat stat) {
  phantom_stats *stats = NULL;
  uint64_t value = 0;
  NEED(phantom_client_stats(client, &stats) == PHANTOM_OK);
  NEED(phantom_stats_get(stats, stat, &value) == PHANTOM_OK);
  phantom_stats_free(stats);
  return value;
}

// Secrets that no message, log line or statistic may show.
static UNUSED bool shows_secret(const char *text) {
  size_t n;
  if (strstr(text, environment("CLIENT_SECRET")) != NULL || strstr(text, "eyJ") != NULL)
    return true;
  for (n = 0; n < 100; n++)
    if (strstr(text, token(n)) != NULL)
      return true;
  return false;
}

#endif
