// Stopping, while requests are in flight; and the log.

#define _POSIX_C_SOURCE 200809L

#include "support.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static phantom_client *client;

static void *wait_for_one(void *status) {
  phantom_result *result = NULL;
  *(phantom_status *)status = resolve(client, token(450), &result);
  return NULL;
}

static void on_verdict(void *status, phantom_status got, phantom_result *result) {
  phantom_result_free(result);
  *(phantom_status *)status = got;
}

static void stopping(void) {
  phantom_status waiting = PHANTOM_OK, called_back = PHANTOM_OK;
  phantom_result *result = NULL, *kept = NULL;
  pthread_t thread;
  struct timespec begin, end;
  struct pollfd watched = {.fd = -1, .events = POLLIN, .revents = 0};
  uint64_t id = 0;
  int rounds = 0;
  client = start(configure("?latency=60000"));
  NEED(pthread_create(&thread, NULL, wait_for_one, &waiting) == 0);
  NEED(phantom_client_submit(client, token(451), strlen(token(451)), on_verdict, &called_back, &id, &result) ==
       PHANTOM_PENDING);
  while (counted(client, PHANTOM_STAT_WAITING) < 2 && rounds++ < 2000)
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  clock_gettime(CLOCK_MONOTONIC, &begin);
  PROMISE("a client with requests in flight stops", phantom_client_stop(client) == PHANTOM_OK);
  clock_gettime(CLOCK_MONOTONIC, &end);
  PROMISE("long before they would have timed out", end.tv_sec - begin.tv_sec < 10);
  NEED(pthread_join(thread, NULL) == 0);
  PROMISE("whoever waited learns it", waiting == PHANTOM_STOPPED);
  NEED(phantom_client_fd(client, &watched.fd) == PHANTOM_OK);
  PROMISE("what was submitted can still be dispatched, and learns it too",
          poll(&watched, 1, 20000) == 1 && phantom_client_dispatch(client, 0, NULL) == PHANTOM_OK &&
              called_back == PHANTOM_STOPPED);
  PROMISE("whoever asks afterwards learns it at once",
          resolve(client, token(450), &kept) == PHANTOM_STOPPED &&
              phantom_client_lookup(client, token(450), strlen(token(450)), &kept) == PHANTOM_STOPPED &&
              phantom_client_submit(client, token(450), strlen(token(450)), on_verdict, &called_back, &id, &kept) ==
                  PHANTOM_STOPPED &&
              kept == NULL);
  PROMISE("stopping twice is fine", phantom_client_stop(client) == PHANTOM_OK);
  phantom_client_free(client);
}

struct log {
  pthread_mutex_t lock;
  size_t lines, bad_lines, errors;
  bool secret;
  sigset_t blocked;
};

static void on_line(void *user_data, phantom_log_level level, const char *line, size_t length) {
  struct log *log = (struct log *)user_data;
  pthread_mutex_lock(&log->lock);
  log->lines++;
  log->errors += level == PHANTOM_LOG_ERROR;
  log->bad_lines += strlen(line) != length || length == 0 || strchr(line, '\n') != NULL;
  log->secret = log->secret || shows_secret(line);
  pthread_sigmask(SIG_BLOCK, NULL, &log->blocked);
  pthread_mutex_unlock(&log->lock);
}

static void logging(void) {
  const char *const misbehaviour[] = {"?garbage=1",    "?garbage=crlf",     "?garbage=space", "?status=503",
                                      "?status=500",   "?close=mid_body",   "?status=404",    "?dialect=json&jwt_claim=",
                                      "?status=401",   "?oversized=1000000"};
  static struct log log = {.lock = PTHREAD_MUTEX_INITIALIZER};
  phantom_config *config;
  phantom_result *result = NULL;
  size_t n, refused = 0;
  for (n = 0; n < sizeof misbehaviour / sizeof *misbehaviour; n++) {
    config = configure(misbehaviour[n]);
    NEED(phantom_config_set_log(config, on_line, &log) == PHANTOM_OK);
    client = start(config);
    refused += resolve(client, token(n), &result) != PHANTOM_OK && result == NULL && !shows_secret(phantom_last_error());
    phantom_client_free(client);
  }
  PROMISE("a server that misbehaves gives no verdict", refused == n);
  PROMISE("each kind of misbehaviour is logged", log.lines >= n && log.errors >= n / 2);
  PROMISE("a line is one line, and as long as it says", log.bad_lines == 0);
  PROMISE("no line shows a token, a JWT or a secret", !log.secret);
  PROMISE("the client's thread has all signals blocked",
          sigismember(&log.blocked, SIGTERM) == 1 && sigismember(&log.blocked, SIGCHLD) == 1);

  log.lines = 0;
  config = configure("");
  NEED(phantom_config_set_log(config, on_line, &log) == PHANTOM_OK);
  NEED(phantom_config_set_str(config, "introspection_endpoint", "https://127.0.0.1:1/introspect") == PHANTOM_OK);
  NEED(phantom_config_set_str(config, "ssl_verify", "off") == PHANTOM_OK);
  client = start(config);
  PROMISE("what is allowed but should be known is logged at the start", log.lines > 0);
  phantom_client_free(client);
}

int main(void) {
  token(0);
  stopping();
  logging();
  return broken_promises != 0;
}
