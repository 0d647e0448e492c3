// Many threads share one client: each blocks, looks up, submits, dispatches and cancels as it likes.

#define _POSIX_C_SOURCE 200809L

#include "support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { THREADS = 8, ROUNDS = 50, TOKENS_SHARED = 40 };

static phantom_client *client;
static phantom_result *shared_result;
static atomic_size_t resolved, submitted, called, cancelled, wrong;

static void on_verdict(void *user_data, phantom_status status, phantom_result *result) {
  (void)user_data;
  atomic_fetch_add(&called, 1);
  if (status != PHANTOM_OK || !phantom_result_is_active(result))
    atomic_fetch_add(&wrong, 1);
  phantom_result_free(result);
}

static void *work(void *number) {
  size_t offset = *(size_t *)number, round;
  for (round = 0; round < ROUNDS; round++) {
    const char *text = token(200 + (offset + round) % TOKENS_SHARED);
    const char *other = token(300 + (offset * ROUNDS + round) % 150);
    phantom_result *result = NULL, *copy;
    uint64_t id = 0;
    if (resolve(client, text, &result) == PHANTOM_OK && phantom_result_is_active(result))
      atomic_fetch_add(&resolved, 1);
    phantom_result_free(result);
    result = NULL;
    if (phantom_client_lookup(client, text, strlen(text), &result) != PHANTOM_OK)
      atomic_fetch_add(&wrong, 1);
    phantom_result_free(result);
    result = NULL;
    switch (phantom_client_submit(client, other, strlen(other), on_verdict, NULL, &id, &result)) {
    case PHANTOM_OK:
      phantom_result_free(result);
      break;
    case PHANTOM_PENDING:
      atomic_fetch_add(&submitted, 1);
      if (round % 3 == 0 && phantom_client_cancel(client, id) == PHANTOM_OK)
        atomic_fetch_add(&cancelled, 1);
      break;
    default:
      atomic_fetch_add(&wrong, 1);
    }
    phantom_client_dispatch(client, 3, NULL);
    copy = phantom_result_retain(shared_result);
    if (strncmp(phantom_result_jwt(copy, NULL), "eyJ", 3) != 0)
      atomic_fetch_add(&wrong, 1);
    phantom_result_free(copy);
  }
  return NULL;
}

int main(void) {
  pthread_t threads[THREADS];
  size_t numbers[THREADS], n;
  int rounds = 0;
  token(0);
  client = start(configure(""));
  NEED(resolve(client, token(0), &shared_result) == PHANTOM_OK);
  for (n = 0; n < THREADS; n++) {
    numbers[n] = n;
    NEED(pthread_create(&threads[n], NULL, work, &numbers[n]) == 0);
  }
  for (n = 0; n < THREADS; n++)
    NEED(pthread_join(threads[n], NULL) == 0);
  PROMISE("every thread had a verdict on every token that it waited for", resolved == THREADS * ROUNDS);
  while (called + cancelled < submitted && rounds++ < 2000) {
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    NEED(phantom_client_dispatch(client, 0, NULL) == PHANTOM_OK);
  }
  PROMISE("what was submitted was either called back or cancelled, and once", called + cancelled == submitted);
  PROMISE("and nothing went wrong", wrong == 0);
  PROMISE("the authorization server was asked once for each token that threads waited for",
          counted(client, PHANTOM_STAT_ERRORS) == 0 && counted(client, PHANTOM_STAT_CALLS) <= 1 + TOKENS_SHARED + submitted);
  phantom_result_free(shared_result);
  phantom_client_free(client);
  return broken_promises != 0;
}
