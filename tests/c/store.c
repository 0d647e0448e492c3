// A shared store of the host: an array behind a mutex. Clients that share it share verdicts, flights,
// purges and what they know of the authorization server's health; and the store learns nothing.

#define _POSIX_C_SOURCE 200809L

#include "support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 64
#define GROUPS 16
#define ROOM 16384

typedef struct {
  uint8_t key[PHANTOM_STORE_KEY_LENGTH];
  uint8_t value[ROOM];
  size_t length;
  phantom_store_class store_class;
  uint64_t until_ms;

  // The claim of the key, and why the flight before has failed.
  uint64_t flight, failed_flight, claimed_until_ms, failed_until_ms;
  uint32_t claimed_version;
  uint8_t failure[PHANTOM_STORE_FAILURE_MAX];
  size_t failure_length;
} slot;

// All of it may be in memory that processes share: it holds no address.
typedef struct {
  pthread_mutex_t lock;
  _Atomic uint32_t versions[GROUPS];
  uint64_t words[PHANTOM_STORE_WORDS];
  slot slots[SLOTS];
  size_t used;
  atomic_int gets, puts, granted, held, failures, freed, kept_too_long;
} host;

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

// A key is as good as random: any part of it chooses a group.
static _Atomic uint32_t *version_of(host *host, const uint8_t *key) { return &host->versions[key[0] % GROUPS]; }

// The slot of a key, made if there is none. The lock is held.
static slot *find(host *host, const uint8_t *key) {
  size_t n;
  for (n = 0; n < host->used; n++)
    if (memcmp(host->slots[n].key, key, PHANTOM_STORE_KEY_LENGTH) == 0)
      return &host->slots[n];
  NEED(host->used < SLOTS);
  memcpy(host->slots[n].key, key, PHANTOM_STORE_KEY_LENGTH);
  return &host->slots[host->used++];
}

static int get(void *context, const uint8_t *key, uint8_t *value, size_t capacity, size_t *length, uint64_t *remaining_ms) {
  host *host = context;
  int found = 0;
  slot *slot;
  host->gets++;
  pthread_mutex_lock(&host->lock);
  slot = find(host, key);
  if (slot->until_ms > now_ms()) {
    found = 1;
    *length = slot->length;
    *remaining_ms = slot->until_ms - now_ms();
    if (slot->length <= capacity)
      memcpy(value, slot->value, slot->length);
  }
  pthread_mutex_unlock(&host->lock);
  return found;
}

static void put(void *context, const uint8_t *key, const uint8_t *value, size_t length, phantom_store_class store_class,
                uint64_t keep_ms, uint32_t version) {
  host *host = context;
  slot *slot;
  pthread_mutex_lock(&host->lock);
  slot = find(host, key);
  if (length <= ROOM && *version_of(host, key) == version) {
    memcpy(slot->value, value, length);
    slot->length = length;
    slot->store_class = store_class;
    slot->until_ms = now_ms() + keep_ms;
    host->puts++;
    // A minute is the default of `cache_ttl`.
    if (keep_ms > 60000)
      host->kept_too_long++;
  }
  pthread_mutex_unlock(&host->lock);
}

// As a store does that keeps no versions.
static void put_always(void *context, const uint8_t *key, const uint8_t *value, size_t length,
                       phantom_store_class store_class, uint64_t keep_ms, uint32_t version) {
  NEED(version == 0);
  put(context, key, value, length, store_class, keep_ms, *version_of(context, key));
}

static void remove_one(void *context, const uint8_t *key) {
  host *host = context;
  slot *slot;
  pthread_mutex_lock(&host->lock);
  slot = find(host, key);
  slot->until_ms = slot->claimed_until_ms = slot->failed_until_ms = 0;
  ++*version_of(host, key);
  pthread_mutex_unlock(&host->lock);
}

static void clear(void *context) {
  host *host = context;
  size_t n;
  pthread_mutex_lock(&host->lock);
  host->used = 0;
  memset(host->slots, 0, sizeof host->slots);
  for (n = 0; n < GROUPS; n++)
    host->versions[n]++;
  pthread_mutex_unlock(&host->lock);
}

static uint32_t version(void *context, const uint8_t *key) { return *version_of(context, key); }

static int claim_key(void *context, const uint8_t *key, phantom_claim *claim) {
  host *host = context;
  int claimed = PHANTOM_CLAIM_GRANTED;
  slot *slot;
  pthread_mutex_lock(&host->lock);
  slot = find(host, key);
  if (claim->has_waited && slot->failed_flight == claim->waited_for && slot->failed_until_ms > now_ms()) {
    memcpy(claim->failure, slot->failure, slot->failure_length);
    claim->failure_length = slot->failure_length;
    claimed = PHANTOM_CLAIM_FAILED;
    host->failures++;
  } else if (slot->claimed_until_ms > now_ms() && slot->claimed_version == claim->version) {
    claim->held_by = slot->flight;
    claimed = PHANTOM_CLAIM_HELD;
    host->held++;
  } else {
    slot->flight = claim->flight;
    slot->claimed_version = claim->version;
    slot->claimed_until_ms = now_ms() + claim->within_ms;
    host->granted++;
  }
  pthread_mutex_unlock(&host->lock);
  return claimed;
}

static void settle(void *context, const uint8_t *key, uint64_t flight, const uint8_t *failure, size_t failure_length) {
  host *host = context;
  slot *slot;
  pthread_mutex_lock(&host->lock);
  slot = find(host, key);
  if (slot->flight == flight && slot->claimed_until_ms != 0) {
    if (failure_length > 0) {
      memcpy(slot->failure, failure, failure_length);
      slot->failure_length = failure_length;
      slot->failed_flight = flight;
      slot->failed_until_ms = slot->claimed_until_ms;
    }
    slot->claimed_until_ms = 0;
  }
  pthread_mutex_unlock(&host->lock);
}

static uint64_t *words(void *context) { return ((host *)context)->words; }

static void count_free(void *context) { ((host *)context)->freed++; }

static host *new_host(void) {
  pthread_mutexattr_t shared;
  host *host = mmap(NULL, sizeof *host, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  NEED(host != MAP_FAILED);
  NEED(pthread_mutexattr_init(&shared) == 0 && pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED) == 0);
  NEED(pthread_mutex_init(&host->lock, &shared) == 0);
  return host;
}

static void free_host(host *host) {
  pthread_mutex_destroy(&host->lock);
  munmap(host, sizeof *host);
}

static phantom_store table_of(host *host) {
  return (phantom_store){.size = sizeof(phantom_store),
                         .context = host,
                         .get = get,
                         .put = put,
                         .remove = remove_one,
                         .clear = clear,
                         .version = version,
                         .claim = claim_key,
                         .settle = settle,
                         .words = words,
                         .free = count_free};
}

static phantom_config *configure_with(host *host, const char *query) {
  phantom_store store = table_of(host);
  phantom_config *config = configure(query);
  NEED(phantom_config_set_store(config, &store) == PHANTOM_OK);
  return config;
}

// Two of one configuration, as two processes would start them.
static void start_two(phantom_config *config, phantom_client **first, phantom_client **second) {
  NEED(phantom_client_start(config, first) == PHANTOM_OK);
  NEED(phantom_client_start(config, second) == PHANTOM_OK);
  phantom_config_free(config);
}

// Where an active verdict came from; -1 if there is none.
static int source(phantom_client *client, const char *token) {
  phantom_result *result = NULL;
  int cache = -1;
  if (resolve(client, token, &result) == PHANTOM_OK && phantom_result_is_active(result))
    cache = (int)phantom_result_cache_status(result);
  phantom_result_free(result);
  return cache;
}

static bool holds(const host *host, const char *text, size_t length) {
  const char *at = (const char *)host->slots, *end = (const char *)(host->slots + host->used) - length;
  for (; at <= end; at++)
    if (*at == *text && memcmp(at, text, length) == 0)
      return true;
  return false;
}

static void verdicts(void) {
  host *host = new_host();
  phantom_client *first, *second;
  phantom_result *asked = NULL, *shared = NULL;
  const char *jwt, *payload;
  size_t n, length = 0;
  bool seen = false;
  start_two(configure_with(host, ""), &first, &second);

  NEED(resolve(first, token(1500), &asked) == PHANTOM_OK && resolve(second, token(1500), &shared) == PHANTOM_OK);
  PROMISE("what one client was told, another is told by the store",
          phantom_result_is_active(shared) && phantom_result_cache_status(asked) == PHANTOM_CACHE_MISS &&
              phantom_result_cache_status(shared) == PHANTOM_CACHE_SHARED);
  PROMISE("the authorization server was asked once",
          counted(first, PHANTOM_STAT_CALLS) == 1 && counted(second, PHANTOM_STAT_CALLS) == 0);
  PROMISE("JWT, claims and expiry are the same",
          strcmp(phantom_result_jwt(asked, NULL), phantom_result_jwt(shared, NULL)) == 0 &&
              strcmp(phantom_result_claims(asked, NULL), phantom_result_claims(shared, NULL)) == 0 &&
              phantom_result_expires_at(asked) == phantom_result_expires_at(shared) &&
              phantom_result_has_scope(shared, "read", 4));
  PROMISE("from then on it is in the other's own memory", source(second, token(1500)) == PHANTOM_CACHE_HIT);
  PROMISE("what was shared is counted", counted(second, PHANTOM_STAT_SHARED_HITS) == 1 && host->puts == 1);
  PROMISE("nothing is kept for longer than cache_ttl", host->kept_too_long == 0);

  jwt = phantom_result_jwt(asked, &length);
  payload = strchr(jwt, '.') + 1;
  for (n = 0; n + 16 <= length; n += 4)
    seen = seen || holds(host, jwt + n, 16);
  PROMISE("the store holds no part of the JWT", !seen && strlen(payload) > 16);
  PROMISE("nor the token, nor claims, nor our secret",
          !holds(host, token(1500), strlen(token(1500))) && !holds(host, token(1500), 12) && !holds(host, "\"scope\"", 7) &&
              !holds(host, "scope", 5) && !holds(host, environment("CLIENT_SECRET"), 8));
  phantom_result_free(asked);
  phantom_result_free(shared);

  asked = shared = NULL;
  NEED(resolve(first, "unknown-to-all", &asked) == PHANTOM_OK && resolve(second, "unknown-to-all", &shared) == PHANTOM_OK);
  PROMISE("an inactive verdict is shared too, and is of a class of its own",
          !phantom_result_is_active(shared) && phantom_result_cache_status(shared) == PHANTOM_CACHE_SHARED &&
              host->slots[0].store_class == PHANTOM_STORE_ACTIVE && host->slots[1].store_class == PHANTOM_STORE_INACTIVE);
  phantom_result_free(asked);
  phantom_result_free(shared);

  PROMISE("a verdict that is longer than most is shared too", source(first, environment("LARGE_TOKEN")) == PHANTOM_CACHE_MISS &&
                                                                  host->slots[2].length > 8192 &&
                                                                  source(second, environment("LARGE_TOKEN")) == PHANTOM_CACHE_SHARED);

  PROMISE("nobody has given the store up", host->freed == 0);
  phantom_client_free(first);
  PROMISE("nor when one of its clients has been freed", host->freed == 0);
  phantom_client_free(second);
  PROMISE("with the last one it is given up, once", host->freed == 1);
  free_host(host);
}

static void tampering(void) {
  host *host = new_host();
  phantom_config *config = configure_with(host, ""), *other = configure_with(host, "");
  phantom_client *writer = NULL;
  size_t n, places = 0, misses = 0;
  slot *target = &host->slots[0], *foreign = &host->slots[1], saved;
  NEED(phantom_client_start(config, &writer) == PHANTOM_OK);
  NEED(source(writer, token(1510)) == PHANTOM_CACHE_MISS && source(writer, token(1511)) == PHANTOM_CACHE_MISS);
  saved = *target;

  // Each reader begins with an empty memory of its own. A new answer is stored again.
  for (n = 0; n < saved.length; n += n < 16 ? 1 : 61) {
    phantom_client *reader = NULL;
    NEED(phantom_client_start(config, &reader) == PHANTOM_OK);
    *target = saved;
    target->value[n] ^= 1;
    places++;
    misses += source(reader, token(1510)) == PHANTOM_CACHE_MISS && counted(reader, PHANTOM_STAT_CALLS) == 1;
    phantom_client_free(reader);
  }
  PROMISE("a value with one bit changed, wherever it is, is as good as not there", places > 16 && misses == places);
  for (n = 0, misses = 0; n < 4; n++) {
    phantom_client *reader = NULL;
    NEED(phantom_client_start(config, &reader) == PHANTOM_OK);
    *target = saved;
    if (n == 0)
      target->length = 0;
    else if (n == 1)
      target->length--;
    else if (n == 2)
      target->length++;
    else
      memcpy(target->value, foreign->value, target->length = foreign->length);
    misses += source(reader, token(1510)) == PHANTOM_CACHE_MISS;
    phantom_client_free(reader);
  }
  PROMISE("so is one that is empty, cut short, longer, or another token's", misses == n);

  {
    // The same token at what may be another authorization server: another key, and so nothing of the first one's.
    phantom_client *reader;
    NEED(phantom_config_set_str(other, "dialect", "jwt") == PHANTOM_OK);
    NEED(phantom_client_start(other, &reader) == PHANTOM_OK);
    PROMISE("a client that is configured differently shares nothing", source(reader, token(1511)) == PHANTOM_CACHE_MISS);
    // Not even when the store gives it out.
    memcpy(host->slots[host->used - 1].value, foreign->value, foreign->length);
    host->slots[host->used - 1].length = foreign->length;
    phantom_client_free(reader);
    NEED(phantom_client_start(other, &reader) == PHANTOM_OK);
    PROMISE("not even if the store mixes them up", source(reader, token(1511)) == PHANTOM_CACHE_MISS);
    phantom_client_free(reader);
  }
  phantom_config_free(other);
  phantom_config_free(config);
  phantom_client_free(writer);
  PROMISE("each table is given up once", host->freed == 2);
  free_host(host);
}

static void purges(void) {
  host *host = new_host();
  phantom_client *first, *second;
  phantom_result *none = NULL;
  const char *purged = token(1520), *kept = token(1521);
  int kept_from;
  start_two(configure_with(host, ""), &first, &second);
  NEED(source(first, purged) == PHANTOM_CACHE_MISS && source(second, purged) == PHANTOM_CACHE_SHARED);
  NEED(source(first, kept) == PHANTOM_CACHE_MISS && source(second, kept) == PHANTOM_CACHE_SHARED);
  NEED(source(second, purged) == PHANTOM_CACHE_HIT);

  NEED(phantom_client_purge(first, purged, strlen(purged)) == PHANTOM_OK);
  PROMISE("what one client purges, another finds no more in its own memory",
          phantom_client_lookup(second, purged, strlen(purged), &none) == PHANTOM_NOT_FOUND && none == NULL);
  PROMISE("and asks for anew", source(second, purged) == PHANTOM_CACHE_MISS);
  PROMISE("which the one that purged it is told", source(first, purged) == PHANTOM_CACHE_SHARED);
  // Its key may be of the same group: then it is looked for in the store.
  kept_from = source(second, kept);
  PROMISE("another token need not be asked for anew",
          kept_from == PHANTOM_CACHE_HIT || kept_from == PHANTOM_CACHE_SHARED);

  PROMISE("to purge what nobody knows is fine", phantom_client_purge(first, "never-seen", 10) == PHANTOM_OK);
  PROMISE("what is no token cannot be purged", phantom_client_purge(first, "a b", 3) == PHANTOM_INVALID_TOKEN);

  NEED(phantom_client_purge_all(second) == PHANTOM_OK);
  PROMISE("after purge_all nothing is known to anybody",
          phantom_client_lookup(first, purged, strlen(purged), &none) == PHANTOM_NOT_FOUND &&
              phantom_client_lookup(second, kept, strlen(kept), &none) == PHANTOM_NOT_FOUND &&
              source(first, kept) == PHANTOM_CACHE_MISS && source(first, purged) == PHANTOM_CACHE_MISS);
  phantom_client_stop(first);
  PROMISE("a client that was stopped purges no more", phantom_client_purge(first, kept, strlen(kept)) == PHANTOM_STOPPED &&
                                                          phantom_client_purge_all(first) == PHANTOM_STOPPED);
  phantom_client_free(first);
  phantom_client_free(second);
  free_host(host);
}

typedef struct {
  phantom_client *client;
  phantom_status status;
  int cache;
} asker;

static void *ask(void *argument) {
  asker *asker = argument;
  phantom_result *result = NULL;
  asker->status = resolve(asker->client, token(1530), &result);
  asker->cache = (int)phantom_result_cache_status(result);
  phantom_result_free(result);
  return NULL;
}

// Both clients ask for one token at once.
static void ask_both(asker *first, asker *second) {
  pthread_t one, two;
  NEED(pthread_create(&one, NULL, ask, first) == 0 && pthread_create(&two, NULL, ask, second) == 0);
  NEED(pthread_join(one, NULL) == 0 && pthread_join(two, NULL) == 0);
}

static uint64_t calls_of(const asker *first, const asker *second) {
  return counted(first->client, PHANTOM_STAT_CALLS) + counted(second->client, PHANTOM_STAT_CALLS);
}

static void flights(void) {
  host *host = new_host();
  asker first = {0}, second = {0};
  phantom_config *config = configure_with(host, "?latency=400");
  start_two(config, &first.client, &second.client);
  ask_both(&first, &second);
  PROMISE("two clients that ask for one token at once ask the authorization server once",
          first.status == PHANTOM_OK && second.status == PHANTOM_OK && calls_of(&first, &second) == 1 && host->granted == 1 &&
              host->held > 0);
  PROMISE("and the one that waited has it of the store",
          first.cache + second.cache == PHANTOM_CACHE_MISS + PHANTOM_CACHE_COALESCED && host->puts == 1);
  phantom_client_free(first.client);
  phantom_client_free(second.client);
  free_host(host);

  host = new_host();
  config = configure_with(host, "?status=503&latency=400");
  NEED(phantom_config_set_str(config, "retries", "0") == PHANTOM_OK);
  start_two(config, &first.client, &second.client);
  ask_both(&first, &second);
  PROMISE("a failure is shared by who waited for it", first.status == PHANTOM_BUSY && second.status == PHANTOM_BUSY &&
                                                          calls_of(&first, &second) == 1 && host->failures == 1);
  phantom_client_free(first.client);
  phantom_client_free(second.client);
  free_host(host);
}

static void health(void) {
  host *host = new_host();
  phantom_client *first, *second;
  phantom_result *none = NULL;
  phantom_stats *stats = NULL;
  uint64_t open = 0;
  phantom_config *config = configure_with(host, "");
  // Nothing listens there.
  NEED(phantom_config_set_str(config, "introspection_endpoint", "http://127.0.0.1:1/introspect") == PHANTOM_OK);
  NEED(phantom_config_set_str(config, "retries", "0") == PHANTOM_OK);
  NEED(phantom_config_set_str(config, "max_fails", "2") == PHANTOM_OK);
  NEED(phantom_config_set_str(config, "fail_timeout", "60s") == PHANTOM_OK);
  start_two(config, &first, &second);
  NEED(resolve(first, token(1540), &none) == PHANTOM_UNREACHABLE && resolve(first, token(1541), &none) == PHANTOM_UNREACHABLE);
  PROMISE("after max_fails calls without connection the authorization server is not asked: CIRCUIT_OPEN",
          resolve(first, token(1542), &none) == PHANTOM_CIRCUIT_OPEN && phantom_status_http(PHANTOM_CIRCUIT_OPEN) == 503);
  PROMISE("and it is known when trying again may help",
          phantom_last_error_retry_after() > 0 && phantom_last_error_retry_after() <= 120);
  PROMISE("the statistics say so",
          counted(first, PHANTOM_STAT_BREAKER_OPENINGS) == 1 && counted(first, PHANTOM_STAT_BREAKER_OPEN) == 1);
  PROMISE("another client knows it by the store's words, without having asked once",
          resolve(second, token(1543), &none) == PHANTOM_CIRCUIT_OPEN && counted(second, PHANTOM_STAT_CALLS) == 0 &&
              counted(second, PHANTOM_STAT_BREAKER_OPEN) == 1);
  NEED(phantom_client_stats(second, &stats) == PHANTOM_OK);
  PROMISE("it is an error of a kind of its own",
          phantom_stats_errors(stats, PHANTOM_CIRCUIT_OPEN, &open) == PHANTOM_OK && open == 1 &&
              strstr(phantom_stats_json(stats, NULL), "\"circuit_open\":1") != NULL);
  phantom_stats_free(stats);
  phantom_client_free(first);
  phantom_client_free(second);
  free_host(host);
}

static void plain(void) {
  host *host = new_host(), *unused = new_host();
  phantom_store replaced = table_of(unused);
  phantom_store store = {
      .size = sizeof store, .context = host, .get = get, .put = put_always, .remove = remove_one, .clear = clear};
  phantom_config *config = configure("");
  phantom_client *first, *second;
  NEED(phantom_config_set_store(config, &replaced) == PHANTOM_OK);
  NEED(phantom_config_set_store(config, &store) == PHANTOM_OK);
  PROMISE("a store in whose place another was set is given up", unused->freed == 1);
  start_two(config, &first, &second);
  PROMISE("four callbacks are enough to share",
          source(first, token(1550)) == PHANTOM_CACHE_MISS && source(second, token(1550)) == PHANTOM_CACHE_SHARED);
  NEED(phantom_client_purge(first, token(1550), strlen(token(1550))) == PHANTOM_OK);
  PROMISE("a client that purges forgets, and so does the store",
          source(first, token(1550)) == PHANTOM_CACHE_MISS && host->puts == 2);
  phantom_client_free(first);
  phantom_client_free(second);
  PROMISE("without `free` nobody is told that it is given up", host->freed == 0);
  free_host(host);
  free_host(unused);
}

static void processes(void) {
  host *host = new_host();
  phantom_config *config = configure_with(host, "");
  phantom_client *client = NULL;
  int status = 0;
  pid_t pid = fork();
  NEED(pid >= 0);
  if (pid == 0) {
    client = start(config);
    status = source(client, token(1555)) == PHANTOM_CACHE_MISS ? 0 : 1;
    phantom_client_free(client);
    _exit(status);
  }
  NEED(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  client = start(config);
  PROMISE("a store in memory that processes share is shared by their clients",
          source(client, token(1555)) == PHANTOM_CACHE_SHARED && counted(client, PHANTOM_STAT_CALLS) == 0);
  phantom_client_free(client);
  free_host(host);
}

int main(void) {
  verdicts();
  tampering();
  purges();
  flights();
  health();
  plain();
  processes();
  return broken_promises != 0;
}
