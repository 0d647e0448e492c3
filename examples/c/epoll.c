// Resolves many tokens at once, on one thread, in an epoll loop.
//
//   cc -o epoll epoll.c $(pkg-config --cflags --libs phantom_token)
//   ./epoll ENDPOINT CLIENT_ID CLIENT_SECRET_FILE < tokens
//
// Reads one token a line, a thousand of them at most, and submits them all before it waits for the first answer; then
// the same once more, to show what the cache is for.

#define _POSIX_C_SOURCE 200809L

#include <phantom_token.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { TOKENS = 1000, TOKEN_ROOM = 8192 + 2 };

// The counters of the callbacks. In a server, this would be the connection that waits for the verdict.
struct round {
  size_t active, inactive, failed, cached, pending;
};

static void count(struct round *round, phantom_result *result) {
  if (phantom_result_is_active(result))
    round->active++;
  else
    round->inactive++;
  if (phantom_result_cache_status(result) == PHANTOM_CACHE_HIT)
    round->cached++;
  phantom_result_free(result);
}

// Runs on this program's one thread, from phantom_client_dispatch: it needs no lock.
static void on_verdict(void *user_data, phantom_status status, phantom_result *result) {
  struct round *round = user_data;
  round->pending--;
  if (status == PHANTOM_OK) {
    count(round, result);
  } else {
    if (round->failed++ == 0)
      fprintf(stderr, "%s\n", phantom_last_error());
  }
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int resolve_all(phantom_client *client, int epoll, char *const *tokens, size_t number) {
  struct round round = {0};
  double begin = seconds(), took;
  size_t n;

  for (n = 0; n < number; n++) {
    phantom_result *result = NULL;
    switch (phantom_client_submit(client, tokens[n], strlen(tokens[n]), on_verdict, &round, NULL, &result)) {
    case PHANTOM_OK: // It was known.
      count(&round, result);
      break;
    case PHANTOM_PENDING: // The callback will tell.
      round.pending++;
      break;
    default: // There will be no callback.
      if (round.failed++ == 0)
        fprintf(stderr, "%s\n", phantom_last_error());
    }
  }

  // In a server, the descriptor is one of those that the loop watches anyway.
  while (round.pending > 0) {
    struct epoll_event event;
    if (epoll_wait(epoll, &event, 1, -1) == 1 && phantom_client_dispatch(client, 0, NULL) != PHANTOM_OK) {
      fprintf(stderr, "%s\n", phantom_last_error());
      return 1;
    }
  }

  took = seconds() - begin;
  printf("%zu tokens: %zu active, %zu inactive, %zu failed; %zu from the cache; %.1f ms\n", number, round.active,
         round.inactive, round.failed, round.cached, took * 1e3);
  return round.failed > 0;
}

int main(int argc, char **argv) {
  static char line[TOKEN_ROOM];
  char *tokens[TOKENS];
  size_t number = 0;
  phantom_config *config = NULL;
  phantom_client *client = NULL;
  struct epoll_event event = {.events = EPOLLIN};
  int fd = -1, epoll = -1, failed = 1;

  if (argc != 4) {
    fprintf(stderr, "usage: %s ENDPOINT CLIENT_ID CLIENT_SECRET_FILE < tokens\n", argv[0]);
    return 2;
  }
  while (number < TOKENS && fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    if ((tokens[number] = strdup(line)) == NULL)
      return 2;
    number++;
  }

  if (phantom_config_new("main", 4, &config) != PHANTOM_OK ||
      phantom_config_set_str(config, "introspection_endpoint", argv[1]) != PHANTOM_OK ||
      phantom_config_set_str(config, "client_id", argv[2]) != PHANTOM_OK ||
      phantom_config_set_str(config, "client_secret_file", argv[3]) != PHANTOM_OK ||
      phantom_client_start(config, &client) != PHANTOM_OK || phantom_client_fd(client, &fd) != PHANTOM_OK) {
    fprintf(stderr, "%s\n", phantom_last_error());
  } else if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
    perror("epoll");
  } else {
    failed = resolve_all(client, epoll, tokens, number) || resolve_all(client, epoll, tokens, number);
  }

  if (epoll >= 0)
    close(epoll);
  phantom_client_free(client);
  phantom_config_free(config);
  while (number > 0)
    free(tokens[--number]);
  return failed;
}
