// SPDX-License-Identifier: Apache-2.0

// libphantom_token for C++17: ownership, exceptions and string_view over phantom_token.h, and nothing else.
//
//     phantom_token::Config config;
//     config.set("introspection_endpoint", "https://as.example.com/introspect")
//         .set("client_id", "gateway")
//         .set("client_secret_file", "/etc/gateway/secret");
//     phantom_token::Client client(config);
//
//     phantom_token::Policy policy;
//     policy.set("scopes", "orders:read");
//
//     const auto result = client.resolve(token);
//     if (const auto denial = policy.denial(client, result, presentation))
//       answer(denial->http_status, denial->challenge);
//     else
//       request.set("Authorization", result.authorization());
//
// - A failure throws `phantom_token::Error`: there is no verdict, let no request through. An inactive token is a
//   result. A `Policy` has the requirements for a token beyond being active, and gives the response if it denies.
// - Any number of threads may use a client or a result at once, only one at a time a configuration.
// - Link with libphantom_token: `pkg-config --cflags --libs phantom_token`.
//
// For event loops, use the functions of phantom_token.h with `client.get()`; `Result` takes over a callback's result. For
// a shared store or a zone, use them with `config.get()`.

#ifndef PHANTOM_TOKEN_HPP
#define PHANTOM_TOKEN_HPP

#include <phantom_token.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace phantom_token {

// An error: there is no verdict. `what()` describes the error and what to do about it, for a log; it contains no token,
// JWT or secret.
class Error : public std::runtime_error {
public:
  // The error of the call that has just failed on this thread with `status`.
  explicit Error(phantom_status status) : std::runtime_error(phantom_last_error()), status_(status) {
    if (const std::int64_t seconds = phantom_last_error_retry_after(); seconds >= 0)
      retry_after_ = std::chrono::seconds(seconds);
  }

  phantom_status status() const noexcept { return status_; }
  // The status of a gateway's response: 400, 500, 502, 503 or 504.
  int http_status() const noexcept { return phantom_status_http(status_); }
  // The time after which a retry may help: from the authorization server, or until the next call to it.
  std::optional<std::chrono::seconds> retry_after() const noexcept { return retry_after_; }

private:
  phantom_status status_;
  std::optional<std::chrono::seconds> retry_after_;
};

// Throws unless `status` is `PHANTOM_OK`.
inline void check(phantom_status status) {
  if (status != PHANTOM_OK)
    throw Error(status);
}

namespace detail {

struct Free {
  void operator()(phantom_config *config) const noexcept { phantom_config_free(config); }
  void operator()(phantom_client *client) const noexcept { phantom_client_free(client); }
  void operator()(phantom_result *result) const noexcept { phantom_result_free(result); }
  void operator()(phantom_stats *stats) const noexcept { phantom_stats_free(stats); }
  void operator()(phantom_policy *policy) const noexcept { phantom_policy_free(policy); }
  void operator()(phantom_denial *denial) const noexcept { phantom_denial_free(denial); }
  void operator()(phantom_decision *decision) const noexcept { phantom_decision_free(decision); }
};

template <typename T> using Owner = std::unique_ptr<T, Free>;

// Calls `function(arguments…, &output)`, and owns the output.
template <typename T, typename Function, typename... Arguments>
Owner<T> make(Function function, Arguments... arguments) {
  T *made = nullptr;
  check(function(arguments..., &made));
  return Owner<T>(made);
}

// A view of a C text; empty for NULL.
inline std::string_view view(const char *text, std::size_t length) noexcept {
  return text == nullptr ? std::string_view() : std::string_view(text, length);
}

// The address of a text, never NULL: an empty view is an empty text for C, not a missing one.
inline const char *begin(std::string_view text) noexcept { return text.data() == nullptr ? "" : text.data(); }

} // namespace detail

// The verdict on the token of one request, with its cache status. Copies share it. Returned texts belong to the result:
// they stay valid while a copy exists, even without the client, and a temporary result does not give them out.
//
// The JWT of a token that is bound to a key of its sender is available only after a `Policy` has let the request pass. Set
// `sender_constraint` to `ignore` if another party checks the sender.
class Result {
public:
  // Takes over a result of the C functions.
  explicit Result(phantom_result *result) noexcept : result_(result) {}
  Result(const Result &other) noexcept : result_(phantom_result_retain(other.get())) {}
  Result(Result &&) noexcept = default;
  Result &operator=(Result other) noexcept {
    result_.swap(other.result_);
    return *this;
  }
  ~Result() = default;

  // Whether the token is active. An inactive one is unknown, expired, revoked, or not meant for us: respond with 401.
  bool active() const noexcept { return phantom_result_is_active(get()); }
  explicit operator bool() const noexcept { return active(); }

  // Whether it is active and bound to a key of its sender (`cnf`).
  bool bound() const noexcept { return phantom_result_is_bound(get()); }

  // The value of `Authorization` to send upstream, "Bearer eyJ…"; empty if not active. Throws `std::logic_error` if the
  // token is bound and no `Policy` has accepted this result.
  std::string_view authorization() const & { return admitted(phantom_result_authorization); }
  // The JWT alone, under the same conditions.
  std::string_view jwt() const & { return admitted(phantom_result_jwt); }
  // All claims of the token as one JSON object; empty if not active.
  std::string_view claims() const & noexcept {
    std::size_t length = 0;
    const char *text = phantom_result_claims(get(), &length);
    return detail::view(text, length);
  }
  std::string_view authorization() const && = delete;
  std::string_view jwt() const && = delete;
  std::string_view claims() const && = delete;

  // Whether the token is active and has this scope. If you require it and it is missing, respond with 403.
  bool has_scope(std::string_view scope) const noexcept {
    return phantom_result_has_scope(get(), detail::begin(scope), scope.size());
  }
  // The expiry of the token, if known.
  std::optional<std::chrono::time_point<std::chrono::system_clock, std::chrono::seconds>> expires_at() const noexcept {
    const std::int64_t seconds = phantom_result_expires_at(get());
    if (seconds < 0)
      return std::nullopt;
    return std::chrono::time_point<std::chrono::system_clock, std::chrono::seconds>(std::chrono::seconds(seconds));
  }
  // The cache status; `phantom_cache_status_string` has the word for a log.
  phantom_cache_status cache_status() const noexcept { return phantom_result_cache_status(get()); }

  const phantom_result *get() const noexcept { return result_.get(); }

private:
  std::string_view admitted(const char *(*part)(const phantom_result *, std::size_t *)) const {
    std::size_t length = 0;
    const char *text = part(get(), &length);
    if (text == nullptr && bound())
      throw std::logic_error("the token is bound to a key of its sender: let a Policy decide first");
    return detail::view(text, length);
  }

  detail::Owner<phantom_result> result_;
};

// Receives a log line. It is called on the client's own thread and on threads that call the client: it must not block, and
// must not call the client. Its exceptions are dropped.
using Log = std::function<void(phantom_log_level level, std::string_view line)>;

// The configuration of one authorization server. It starts no thread and opens no socket.
class Config {
public:
  // `name` is its name in messages.
  explicit Config(std::string_view name = "main")
      : config_(detail::make<phantom_config>(phantom_config_new, detail::begin(name), name.size())) {}

  // Sets one key to a value in nginx's format. Throws if the key is unknown or the value is invalid.
  Config &set(std::string_view key, std::string_view value) {
    check(phantom_config_set(get(), detail::begin(key), key.size(), detail::begin(value), value.size()));
    return *this;
  }
  // Sets the log of clients that are started later.
  Config &log(Log log) {
    auto shared = std::make_shared<Log>(std::move(log));
    check(phantom_config_set_log(
        get(),
        [](void *user_data, phantom_log_level level, const char *line, std::size_t length) {
          try {
            (*static_cast<const Log *>(user_data))(level, std::string_view(line, length));
          } catch (...) {
            // An exception must not pass through C.
          }
        },
        shared.get()));
    log_ = std::move(shared);
    return *this;
  }
  // Throws unless a client could be started.
  void validate() const { check(phantom_config_check(get())); }

  phantom_config *get() const noexcept { return config_.get(); }

private:
  friend class Client;
  detail::Owner<phantom_config> config_;
  std::shared_ptr<const Log> log_;
};

// A client: the cache, and the thread that calls the authorization server. Start it after the last
// fork. The destructor stops it, within two seconds; no other thread may use it then.
class Client {
public:
  explicit Client(const Config &config)
      : log_(config.log_), client_(detail::make<phantom_client>(phantom_client_start, config.get())) {}

  Client(Client &&) noexcept = default;
  // By swapping: this one's log must not go before its client does.
  Client &operator=(Client &&other) noexcept {
    log_.swap(other.log_);
    client_.swap(other.client_);
    return *this;
  }
  ~Client() = default;

  // Resolves `token`, and waits at most `timeout`, never longer than the configured `timeout`;
  // zero means the configured one. Throws if there is no verdict.
  Result resolve(std::string_view token, std::chrono::milliseconds timeout = {}) const {
    if (timeout.count() < 0)
      throw std::invalid_argument("a timeout must not be negative");
    const auto wait = static_cast<std::uint64_t>(timeout.count());
    auto result = detail::make<phantom_result>(phantom_client_resolve, get(), detail::begin(token), token.size(), wait);
    return Result(result.release());
  }
  // Looks `token` up in memory. It never waits.
  std::optional<Result> lookup(std::string_view token) const {
    phantom_result *result = nullptr;
    const phantom_status status = phantom_client_lookup(get(), detail::begin(token), token.size(), &result);
    if (status == PHANTOM_NOT_FOUND)
      return std::nullopt;
    check(status);
    return Result(result);
  }
  // Removes `token` from this client's memory and from the shared store: a request that starts after this function has
  // returned gets an answer that the authorization server gave after the call of this function. It never waits for the
  // authorization server.
  void purge(std::string_view token) const {
    check(phantom_client_purge(get(), detail::begin(token), token.size()));
  }
  // Removes all tokens of the authorization server in the same way.
  void purge_all() const { check(phantom_client_purge_all(get())); }
  // Statistics as one JSON object.
  std::string stats() const {
    const auto stats = detail::make<phantom_stats>(phantom_client_stats, get());
    std::size_t length = 0;
    const char *text = phantom_stats_json(stats.get(), &length);
    return std::string(detail::view(text, length));
  }
  // Stops the client: waiting threads get an `Error` of `PHANTOM_STOPPED`.
  void stop() const { check(phantom_client_stop(get())); }

  phantom_client *get() const noexcept { return client_.get(); }

private:
  // Before the client, so that it goes after it.
  std::shared_ptr<const Log> log_;
  detail::Owner<phantom_client> client_;
};

// The reason why a policy denies a request, and the response.
struct Denial {
  // 400, 401, 403 or 503.
  int http_status;
  // The error code: "insufficient_scope", "invalid_token", …; empty where there is no token.
  std::string error;
  // The reason in one word, for a log: "scope:write", "audience", "inactive".
  std::string reason;
  // The value of `WWW-Authenticate` in the response; empty if there is none.
  std::string challenge;
  // The value of `DPoP-Nonce` in the response; empty if there is none.
  std::string dpop_nonce;
};

// The parts of a request that a policy needs, unchanged from the client. A missing part stays empty.
struct Presentation {
  // The value of its `Authorization` header.
  std::optional<std::string_view> authorization;
  std::string_view method;
  // The URL as its client sees it: "https://api.example.com/orders". Check that the `Host` in it is a
  // host with or without a port.
  std::string_view url;
  // The value of its `DPoP` header, and how many it has.
  std::string_view dpop;
  std::size_t dpop_count = 0;
  // The certificate with which its client has authenticated the connection, as DER.
  std::optional<std::string_view> client_certificate;
};

// A request, as it came from the client. What it does not have stays empty.
struct Request {
  std::string_view method;
  // What it asks for, as it stands in the request line or in `:path`.
  std::string_view target;
  // All of its headers, each field by itself; with HTTP/2 and HTTP/3, `:authority` is `host`.
  std::vector<std::pair<std::string_view, std::string_view>> headers;
  // What its client sees: "https" or "http".
  std::string_view scheme = "https";
  // The whole URL that its client sees, for a gateway that knows it better than `Host` and `target` say.
  std::optional<std::string_view> url;
  // The certificate with which its client has authenticated the connection, as DER.
  std::optional<std::string_view> client_certificate;
};

// What to do with a request. Make one for each thread or connection, and have a `Policy` fill it in for one request after the
// other; texts are part of it and of the result, and are gone with the next request.
class Decision {
public:
  Decision() : decision_(detail::make<phantom_decision>(phantom_decision_new)) {}

  // One word for logs and metrics: "ok", "missing", "malformed", …; and one more, where that does not say everything.
  std::string_view outcome() const noexcept { return word(phantom_decision_outcome(get())); }
  std::string_view reason() const noexcept { return word(phantom_decision_reason(get())); }
  // The error code of the challenge; empty if there is none.
  std::string_view error() const noexcept { return word(phantom_decision_error(get())); }
  // The status to answer with; 0 if the request goes on.
  int http_status() const noexcept { return phantom_decision_http_status(get()); }
  // The body of the answer; empty if the request goes on.
  std::string_view body() const noexcept { return text(phantom_decision_body); }
  // The target of a request that goes on; empty if it stays as it is.
  std::string_view target() const noexcept { return text(phantom_decision_target); }

  // Calls `change(name, value)` for each change to the headers of a request that goes on: without a value, all of this name
  // are taken out, else one with this value takes their place.
  template <typename Change> void change_request(Change change) const {
    const char *value = nullptr;
    std::size_t length = 0;
    for (std::size_t i = 0; const char *name = phantom_decision_request_header(get(), i, &value, &length); i++)
      change(std::string_view(name),
             value == nullptr ? std::nullopt : std::optional<std::string_view>(detail::view(value, length)));
  }
  // Calls `add(name, value)` for each header of the answer: that of the API if the request goes on, else the one that is given.
  template <typename Add> void add_to_answer(Add add) const {
    const char *value = nullptr;
    std::size_t length = 0;
    for (std::size_t i = 0; const char *name = phantom_decision_answer_header(get(), i, &value, &length); i++)
      add(std::string_view(name), detail::view(value, length));
  }

  phantom_decision *get() const noexcept { return decision_.get(); }

private:
  static std::string_view word(const char *text) noexcept { return text == nullptr ? std::string_view() : text; }
  std::string_view text(const char *(*part)(const phantom_decision *, std::size_t *)) const noexcept {
    std::size_t length = 0;
    const char *found = part(get(), &length);
    return detail::view(found, length);
  }

  detail::Owner<phantom_decision> decision_;
};

// The requirements for a token beyond being active. Any number of threads may check a policy that is no longer changed.
class Policy {
public:
  Policy() : policy_(detail::make<phantom_policy>(phantom_policy_new)) {}

  // Sets one key: `scopes`, `audience`, `require`, `realm`, … Values are separated by spaces; one with spaces in it
  // is quoted. Throws if the key is unknown or the value is invalid.
  Policy &set(std::string_view key, std::string_view value) {
    check(phantom_policy_set(get(), detail::begin(key), key.size(), detail::begin(value), value.size()));
    return *this;
  }

  // Decides about the request whose token `result` is about: its denial, or nothing if it may pass. Throws if that
  // can't be decided.
  //
  // `client` is the client that has resolved the token: it records which proofs were used. Without a presentation, a
  // token that is bound to a key of its sender is denied.
  [[nodiscard]] std::optional<Denial> denial(const Client &client, const Result &result,
                                             const Presentation &presentation) const {
    return denial(client.get(), result.get(), presentation);
  }
  // The denial of a request without a token.
  [[nodiscard]] Denial denial(const Presentation &presentation = {}) const {
    // There is always one.
    return denial(nullptr, nullptr, presentation).value();
  }

  // The token of a request, in the places that `source` names; nothing if there is nothing to resolve, which `decide` takes
  // care of. It is part of the request or of the decision.
  [[nodiscard]] std::optional<std::string_view> token(const Request &request, Decision &decision) const {
    const char *token = nullptr;
    std::size_t length = 0;
    const phantom_status status =
        with(request, [&](const phantom_request &c) { return phantom_policy_token(get(), &c, decision.get(), &token, &length); });
    if (status == PHANTOM_NOT_FOUND)
      return std::nullopt;
    check(status);
    return detail::view(token, length);
  }
  // Decides about a request, of whose token `result` is the verdict, and fills in `decision`. Returns whether it goes on.
  [[nodiscard]] bool decide(const Client &client, const Request &request, const Result &result, Decision &decision) const {
    return decide(client.get(), request, PHANTOM_OK, -1, result.get(), decision);
  }
  // The same of a request whose token could not be resolved.
  [[nodiscard]] bool decide(const Client &client, const Request &request, const Error &error, Decision &decision) const {
    const auto after = error.retry_after();
    return decide(client.get(), request, error.status(), after ? after->count() : -1, nullptr, decision);
  }
  // The same of a request without a token that could be resolved.
  [[nodiscard]] bool decide(const Client &client, const Request &request, Decision &decision) const {
    return decide(client.get(), request, PHANTOM_NOT_FOUND, -1, nullptr, decision);
  }

  phantom_policy *get() const noexcept { return policy_.get(); }

private:
  bool decide(const phantom_client *client, const Request &request, phantom_status resolved, std::int64_t retry_after,
              const phantom_result *result, Decision &decision) const {
    const phantom_status status = with(request, [&](const phantom_request &c) {
      return phantom_policy_decide(get(), client, &c, resolved, retry_after, result, decision.get());
    });
    if (status == PHANTOM_DENIED)
      return false;
    check(status);
    return true;
  }
  // Calls a function with a request as C has it.
  template <typename Function> static phantom_status with(const Request &request, Function function) {
    std::vector<phantom_header> headers;
    headers.reserve(request.headers.size());
    for (const auto &[name, value] : request.headers)
      headers.push_back({detail::begin(name), name.size(), detail::begin(value), value.size()});
    phantom_request c = {};
    c.size = sizeof c;
    c.method = detail::begin(request.method);
    c.method_length = request.method.size();
    c.target = detail::begin(request.target);
    c.target_length = request.target.size();
    c.headers = headers.data();
    c.header_count = headers.size();
    c.scheme = detail::begin(request.scheme);
    c.scheme_length = request.scheme.size();
    if (request.url) {
      c.url = detail::begin(*request.url);
      c.url_length = request.url->size();
    }
    if (request.client_certificate) {
      c.client_certificate = reinterpret_cast<const std::uint8_t *>(detail::begin(*request.client_certificate));
      c.client_certificate_length = request.client_certificate->size();
    }
    return function(c);
  }
  std::optional<Denial> denial(const phantom_client *client, const phantom_result *result,
                               const Presentation &presentation) const {
    phantom_presentation request = {};
    request.size = sizeof request;
    if (presentation.authorization) {
      request.authorization = detail::begin(*presentation.authorization);
      request.authorization_length = presentation.authorization->size();
    }
    request.method = detail::begin(presentation.method);
    request.method_length = presentation.method.size();
    request.url = detail::begin(presentation.url);
    request.url_length = presentation.url.size();
    request.dpop = presentation.dpop_count == 0 ? presentation.dpop.data() : detail::begin(presentation.dpop);
    request.dpop_length = presentation.dpop.size();
    request.dpop_count = presentation.dpop_count;
    if (presentation.client_certificate) {
      request.client_certificate =
          reinterpret_cast<const std::uint8_t *>(detail::begin(*presentation.client_certificate));
      request.client_certificate_length = presentation.client_certificate->size();
    }
    phantom_denial *made = nullptr;
    const phantom_status status = phantom_policy_check(get(), client, result, &request, &made);
    if (status == PHANTOM_OK)
      return std::nullopt;
    if (status != PHANTOM_DENIED)
      throw Error(status);
    const detail::Owner<phantom_denial> denial(made);
    const auto text = [](const char *text) { return std::string(text == nullptr ? "" : text); };
    return Denial{phantom_denial_http_status(made), text(phantom_denial_error(made)),
                  text(phantom_denial_reason(made)), text(phantom_denial_challenge(made, nullptr)),
                  text(phantom_denial_dpop_nonce(made))};
  }

  detail::Owner<phantom_policy> policy_;
};

} // namespace phantom_token

#endif // PHANTOM_TOKEN_HPP
