// The zone: clients in forked processes share what they know, and ask once.

#define _POSIX_C_SOURCE 200809L

#include "support.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILDREN 2

static size_t size;
static char *memory;
static phantom_config *config;

// Messages between parent and children.
static struct {
  atomic_int ready, step, active, asked, shared, found_after_purge;
  atomic_uint_least64_t calls;
} *told;

static void *map(size_t bytes) {
  void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  NEED(mapped != MAP_FAILED);
  return mapped;
}

static void wait_until(atomic_int *number, int least) {
  int rounds = 0;
  while (*number < least && rounds++ < 60000)
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  NEED(*number >= least);
}

static bool holds(const char *text, size_t length) {
  size_t at;
  for (at = 0; at + length <= size; at++)
    if (memory[at] == text[0] && memcmp(memory + at, text, length) == 0)
      return true;
  return false;
}

static int source(phantom_client *client, const char *token) {
  phantom_result *result = NULL;
  int cache = -1;
  if (resolve(client, token, &result) == PHANTOM_OK && phantom_result_is_active(result))
    cache = (int)phantom_result_cache_status(result);
  phantom_result_free(result);
  return cache;
}

static void never(void *user_data, phantom_status status, phantom_result *result) {
  (void)user_data, (void)status;
  phantom_result_free(result);
}

static int child(void) {
  phantom_client *client = start(config);
  phantom_result *none = NULL;
  const char *known = token(1560);
  int cache;
  told->ready++;
  wait_until(&told->step, 1);
  cache = source(client, known);
  told->active += cache >= 0;
  told->asked += cache == PHANTOM_CACHE_MISS;
  // It waited for the other, or came when that one had its answer.
  told->shared += cache == PHANTOM_CACHE_COALESCED || cache == PHANTOM_CACHE_SHARED;
  told->calls += counted(client, PHANTOM_STAT_CALLS);
  told->ready++;
  wait_until(&told->step, 2);
  // Purged by the parent meanwhile.
  told->found_after_purge += phantom_client_lookup(client, known, strlen(known), &none) != PHANTOM_NOT_FOUND;
  phantom_result_free(none);
  phantom_client_free(client);
  return 0;
}

static bool ended_well(pid_t pid) {
  int status = 0;
  return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(void) {
  phantom_zone *zone = NULL;
  phantom_client *client;
  phantom_result *result = NULL;
  pid_t pids[CHILDREN], pid;
  const char *jwt;
  size_t n, length = 0;
  bool seen = false, well = true;

  size = 1 << 20;
  memory = map(size);
  told = map(sizeof *told);
  PROMISE("a mebibyte is enough for a zone", size >= phantom_zone_min_size());
  NEED(phantom_zone_attach(memory, size, &zone) == PHANTOM_OK);
  config = configure("?latency=400");
  NEED(phantom_config_set_zone(config, zone) == PHANTOM_OK);
  // The configuration keeps it.
  phantom_zone_free(zone);

  for (n = 0; n < CHILDREN; n++) {
    pids[n] = fork();
    NEED(pids[n] >= 0);
    if (pids[n] == 0)
      _exit(child());
  }
  wait_until(&told->ready, CHILDREN);
  told->step = 1;
  wait_until(&told->ready, 2 * CHILDREN);
  PROMISE("forked processes that ask for one token at once are all told", told->active == CHILDREN);
  PROMISE("and the authorization server is asked once",
          told->calls == 1 && told->asked == 1 && told->shared == CHILDREN - 1);

  NEED(phantom_client_start(config, &client) == PHANTOM_OK);
  NEED(resolve(client, token(1560), &result) == PHANTOM_OK);
  PROMISE("a client that is started later knows it too", phantom_result_is_active(result) &&
                                                             phantom_result_cache_status(result) == PHANTOM_CACHE_SHARED);
  jwt = phantom_result_jwt(result, &length);
  for (n = 0; n + 16 <= length; n += 16)
    seen = seen || holds(jwt + n, 16);
  PROMISE("the memory holds no part of the JWT, nor the token, nor claims",
          length > 100 && !seen && !holds(token(1560), 12) && !holds("\"scope\"", 7));
  phantom_result_free(result);

  NEED(phantom_client_purge(client, token(1560), strlen(token(1560))) == PHANTOM_OK);
  told->step = 2;
  for (n = 0; n < CHILDREN; n++)
    well = ended_well(pids[n]) && well;
  PROMISE("what one process has purged, no other finds", well && told->found_after_purge == 0);
  PROMISE("and it is asked for anew", source(client, token(1560)) == PHANTOM_CACHE_MISS);

  told->ready = 0;
  pid = fork();
  NEED(pid >= 0);
  if (pid == 0) {
    phantom_client *own = start(config);
    uint64_t id;
    told->ready++;
    // It is asking when it is killed.
    if (phantom_client_submit(own, token(1561), strlen(token(1561)), never, NULL, &id, &result) !=
        PHANTOM_PENDING)
      _exit(1);
    while (counted(own, PHANTOM_STAT_CALLS) == 0)
      nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    told->ready++;
    pause();
  }
  wait_until(&told->ready, 2);
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  PROMISE("a process that was killed while it asked holds up nobody", source(client, token(1561)) >= 0);

  phantom_client_free(client);
  phantom_config_free(config);
  NEED(phantom_zone_attach(memory, size, &zone) == PHANTOM_OK);
  config = configure("?latency=400");
  NEED(phantom_config_set_zone(config, zone) == PHANTOM_OK);
  client = start(config);
  PROMISE("a zone that is attached again still knows", source(client, token(1560)) == PHANTOM_CACHE_SHARED);
  phantom_client_free(client);
  phantom_zone_free(zone);
  munmap(memory, size);
  munmap(told, sizeof *told);
  return broken_promises != 0;
}
