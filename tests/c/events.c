// Event loops: submit, descriptor, dispatch, cancel; what callbacks may do; 1,000 tokens in flight on one thread.

#define _POSIX_C_SOURCE 200809L

#include "support.h"

#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <unistd.h>

// The arguments that the callback of one request got.
struct request {
  phantom_client *client;
  phantom_status status;
  bool active;
  phantom_cache_status cache;
  int called;
  pthread_t thread;
  char error[256];
  // An additional action of the callback.
  uint64_t cancels;
  phantom_status cancelled;
  struct request *submits;
  bool frees_client;
};

static void on_verdict(void *user_data, phantom_status status, phantom_result *result);

static phantom_status submit(phantom_client *client, const char *token, struct request *request, uint64_t *id,
                             phantom_result **result) {
  request->client = client;
  return phantom_client_submit(client, token, strlen(token), on_verdict, request, id, result);
}

static void on_verdict(void *user_data, phantom_status status, phantom_result *result) {
  struct request *request = (struct request *)user_data;
  request->called++;
  request->status = status;
  request->active = phantom_result_is_active(result);
  request->cache = phantom_result_cache_status(result);
  request->thread = pthread_self();
  if (status != PHANTOM_OK)
    snprintf(request->error, sizeof request->error, "%s", phantom_last_error());
  phantom_result_free(result);
  if (request->cancels != 0)
    request->cancelled = phantom_client_cancel(request->client, request->cancels);
  if (request->submits != NULL) {
    uint64_t id = 0;
    phantom_result *other = NULL;
    NEED(submit(request->client, token(141), request->submits, &id, &other) == PHANTOM_PENDING);
  }
  if (request->frees_client)
    phantom_client_free(request->client);
}

static int descriptor(phantom_client *client) {
  int fd = -1;
  NEED(phantom_client_fd(client, &fd) == PHANTOM_OK);
  return fd;
}

static bool readable(int fd, int timeout_ms) {
  struct pollfd watched = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&watched, 1, timeout_ms) == 1;
}

// Dispatches until `count` callbacks have run, or too long.
static size_t dispatch(phantom_client *client, size_t count) {
  size_t all = 0;
  while (all < count && readable(descriptor(client), 60000)) {
    size_t some = 0;
    NEED(phantom_client_dispatch(client, 0, &some) == PHANTOM_OK);
    all += some;
  }
  return all;
}

// Waits until everything that was submitted for `token` is in the queue: requests for one token are answered in the
// order of submission, and this one is the last.
static void answered(phantom_client *client, const char *token) {
  phantom_result *result = NULL;
  NEED(resolve(client, token, &result) == PHANTOM_OK);
  NEED(phantom_result_cache_status(result) == PHANTOM_CACHE_COALESCED);
  phantom_result_free(result);
}

static void one_request(void) {
  phantom_client *client = start(configure(""));
  struct request request = {0}, other = {0};
  phantom_result *result = NULL;
  uint64_t id = 0;
  size_t count = 7;
  PROMISE("with nothing to dispatch, dispatch does nothing, and the descriptor is not readable",
          phantom_client_dispatch(client, 0, &count) == PHANTOM_OK && count == 0 && !readable(descriptor(client), 0));
  PROMISE("an unknown token is pending", submit(client, token(100), &request, &id, &result) == PHANTOM_PENDING &&
                                             id != 0 && result == NULL);
  NEED(readable(descriptor(client), 60000));
  PROMISE("no callback runs before dispatch", request.called == 0);
  PROMISE("the descriptor becomes readable, and dispatch calls back once",
          phantom_client_dispatch(client, 0, &count) == PHANTOM_OK && count == 1 && request.called == 1 &&
              request.status == PHANTOM_OK && request.active && request.cache == PHANTOM_CACHE_MISS);
  PROMISE("on the thread that dispatches", pthread_equal(request.thread, pthread_self()));
  PROMISE("after which it is not readable", !readable(descriptor(client), 0));
  PROMISE("a token that is known is answered at once, and never called back",
          submit(client, token(100), &other, &id, &result) == PHANTOM_OK && phantom_result_is_active(result) &&
              phantom_result_cache_status(result) == PHANTOM_CACHE_HIT && !readable(descriptor(client), 100) &&
              other.called == 0);
  phantom_result_free(result);
  PROMISE("cancelling what has been called back finds nothing", phantom_client_cancel(client, id) == PHANTOM_NOT_FOUND);
  PROMISE("nor does cancelling what never was", phantom_client_cancel(client, 4711) == PHANTOM_NOT_FOUND);
  phantom_client_free(client);
}

static void failures(void) {
  phantom_client *client = start(configure("?status=503&retry_after=9"));
  struct request request = {0};
  phantom_result *result = NULL;
  uint64_t id = 0;
  NEED(submit(client, token(100), &request, &id, &result) == PHANTOM_PENDING && dispatch(client, 1) == 1);
  PROMISE("a callback learns of an error, and may ask why",
          request.status == PHANTOM_BUSY && !request.active && request.error[0] != '\0' && !shows_secret(request.error) &&
              phantom_last_error_retry_after() == 9);
  PROMISE("an invalid token is refused at once", submit(client, "a b", &request, &id, &result) == PHANTOM_INVALID_TOKEN);
  phantom_client_free(client);
}

static void sharing(void) {
  phantom_client *client = start(configure("?latency=100"));
  struct request first = {0}, second = {0};
  phantom_result *result = NULL;
  uint64_t first_id = 0, second_id = 0;
  NEED(submit(client, token(110), &first, &first_id, &result) == PHANTOM_PENDING);
  NEED(submit(client, token(110), &second, &second_id, &result) == PHANTOM_PENDING);
  PROMISE("two requests for one token have two names", first_id != second_id);
  NEED(dispatch(client, 2) == 2);
  PROMISE("and one answer", first.active && second.active && first.cache == PHANTOM_CACHE_MISS &&
                                second.cache == PHANTOM_CACHE_COALESCED && counted(client, PHANTOM_STAT_CALLS) == 1);
  phantom_client_free(client);
}

static void cancelling(void) {
  phantom_client *client = start(configure("?latency=200"));
  struct request first = {0}, second = {0}, third = {0};
  phantom_result *result = NULL;
  uint64_t first_id = 0, second_id = 0, third_id = 0;
  NEED(submit(client, token(120), &first, &first_id, &result) == PHANTOM_PENDING);
  NEED(submit(client, token(120), &second, &second_id, &result) == PHANTOM_PENDING);
  PROMISE("what is in flight can be cancelled, once", phantom_client_cancel(client, first_id) == PHANTOM_OK &&
                                                          phantom_client_cancel(client, first_id) == PHANTOM_NOT_FOUND);
  NEED(dispatch(client, 1) == 1);
  PROMISE("then it is not called back, and others who wait for the token are",
          first.called == 0 && second.called == 1 && second.active);

  NEED(submit(client, token(121), &third, &third_id, &result) == PHANTOM_PENDING && readable(descriptor(client), 60000));
  PROMISE("what is answered but not dispatched can be cancelled", phantom_client_cancel(client, third_id) == PHANTOM_OK);
  PROMISE("and is not called back", phantom_client_dispatch(client, 0, NULL) == PHANTOM_OK && third.called == 0);
  phantom_client_free(client);
}

static void portions(void) {
  phantom_client *client = start(configure("?latency=1000"));
  struct request requests[5];
  phantom_result *result = NULL;
  uint64_t id = 0;
  size_t n, count = 0, dispatched = 0;
  memset(requests, 0, sizeof requests);
  for (n = 0; n < 5; n++)
    NEED(submit(client, token(130), &requests[n], &id, &result) == PHANTOM_PENDING);
  answered(client, token(130));
  PROMISE("dispatch calls back at most as often as it was told",
          phantom_client_dispatch(client, 2, &count) == PHANTOM_OK && count == 2);
  PROMISE("what is left over keeps the descriptor readable", readable(descriptor(client), 0));
  dispatched = dispatch(client, 3);
  PROMISE("until all have been called back", dispatched == 3 && !readable(descriptor(client), 0));
  phantom_client_free(client);
}

static void reentrance(void) {
  phantom_client *client = start(configure("?latency=1000"));
  struct request first = {0}, second = {0}, third = {0};
  phantom_result *result = NULL;
  uint64_t first_id = 0, second_id = 0;
  // Whichever of the two is called back first cancels the other: both are answered by then.
  NEED(submit(client, token(140), &first, &first_id, &result) == PHANTOM_PENDING);
  NEED(submit(client, token(140), &second, &second_id, &result) == PHANTOM_PENDING);
  first.cancels = second_id;
  second.cancels = first_id;
  first.submits = second.submits = &third;
  answered(client, token(140));
  NEED(dispatch(client, 2) == 2);
  PROMISE("a callback may cancel another request of the same round", first.called + second.called == 1 &&
                                                                         first.cancelled + second.cancelled == PHANTOM_OK);
  PROMISE("a callback may submit", third.called == 1 && third.active);
  phantom_client_free(client);
}

static void freeing(void) {
  phantom_client *client = start(configure("?latency=1000"));
  struct request first = {0}, second = {0};
  phantom_result *result = NULL;
  uint64_t id = 0;
  size_t count = 0;
  first.frees_client = second.frees_client = true;
  NEED(submit(client, token(150), &first, &id, &result) == PHANTOM_PENDING);
  NEED(submit(client, token(150), &second, &id, &result) == PHANTOM_PENDING);
  answered(client, token(150));
  PROMISE("a callback may free the client, and no other callback runs after it",
          phantom_client_dispatch(client, 0, &count) == PHANTOM_OK && count == 1 && first.called + second.called == 1);

  client = start(configure("?latency=60000"));
  memset(&first, 0, sizeof first);
  NEED(submit(client, token(152), &first, &id, &result) == PHANTOM_PENDING);
  phantom_client_free(client);
  PROMISE("freeing a client with a request in flight calls nobody back", first.called == 0);
}

enum { THOUSAND = 1000 };

static void thousand(void) {
  phantom_client *client = start(configure("?latency=20"));
  static struct request requests[THOUSAND];
  phantom_result *result = NULL;
  struct epoll_event event = {.events = EPOLLIN | EPOLLET};
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  size_t n, called = 0, active = 0, once = 0;
  uint64_t id = 0, in_flight;
  NEED(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor(client), &event) == 0);
  for (n = 0; n < THOUSAND; n++)
    NEED(submit(client, token(500 + n), &requests[n], &id, &result) == PHANTOM_PENDING);
  in_flight = counted(client, PHANTOM_STAT_WAITING);
  while (called < THOUSAND && epoll_wait(epoll, &event, 1, 60000) == 1) {
    size_t some = 0;
    NEED(phantom_client_dispatch(client, 0, &some) == PHANTOM_OK);
    called += some;
  }
  for (n = 0; n < THOUSAND; n++) {
    once += requests[n].called == 1;
    active += requests[n].active;
  }
  PROMISE("a thousand tokens are in flight on one thread", in_flight > THOUSAND / 2);
  PROMISE("and each is called back once, with its verdict, through an edge-triggered epoll",
          called == THOUSAND && once == THOUSAND && active == THOUSAND);
  PROMISE("for which the authorization server was asked once each", counted(client, PHANTOM_STAT_CALLS) == THOUSAND);
  close(epoll);
  phantom_client_free(client);
}

int main(void) {
  one_request();
  failures();
  sharing();
  cancelling();
  portions();
  reentrance();
  freeing();
  thousand();
  return broken_promises != 0;
}
