// Tests of what the wrapper adds to the C ABI: ownership, exceptions, string_view. test.sh runs it:
//
//   test ENDPOINT CLIENT_ID CLIENT_SECRET TOKEN BOUND_TOKEN

#include "phantom_token.hpp"

#include <iostream>
#include <string>
#include <type_traits>
#include <vector>

using namespace phantom_token;

template <typename T, typename = void> struct lends_from_a_temporary : std::false_type {};
template <typename T>
struct lends_from_a_temporary<T, std::void_t<decltype(std::declval<T>().jwt())>> : std::true_type {};

static_assert(lends_from_a_temporary<const Result &>::value && !lends_from_a_temporary<Result>::value,
              "a text that would dangle does not compile");
static_assert(std::is_nothrow_move_constructible_v<Result> && std::is_copy_assignable_v<Result>);
static_assert(std::is_move_constructible_v<Client> && !std::is_copy_constructible_v<Client>);
static_assert(!std::is_convertible_v<Result, bool>, "a verdict is no number");

static int broken = 0;

static void promise(const char *sentence, bool holds) {
  std::cout << (holds ? "ok      " : "FAILED  ") << sentence << '\n';
  broken += !holds;
}

template <typename Function> static phantom_status failure(Function function) {
  try {
    function();
  } catch (const Error &error) {
    return error.what()[0] == '\0' ? PHANTOM_OK : error.status();
  }
  return PHANTOM_OK;
}

int main(int argc, char **argv) {
  if (argc != 6)
    return 2;
  const std::string endpoint = argv[1], token = argv[4];
  const auto configured = [&](const std::string &knobs) {
    Config config("test");
    config.set("introspection_endpoint", endpoint + knobs).set("client_id", argv[2]).set("client_secret", argv[3]);
    return config;
  };

  std::optional<Result> kept;
  {
    const Client client(configured(""));
    promise("memory knows nothing at first", !client.lookup(token));
    const Result result = client.resolve(token, std::chrono::seconds(30));
    promise("an active token has a JWT",
            result.active() && result.authorization() == "Bearer " + std::string(result.jwt()));
    promise("its claims are JSON", result.claims().front() == '{' && result.claims().back() == '}');
    promise("it has its scopes and no others", result.has_scope("read") && !result.has_scope("admin"));
    promise("it expires", result.expires_at() > std::chrono::system_clock::now());
    promise("the first was a miss", result.cache_status() == PHANTOM_CACHE_MISS);
    kept = client.lookup(token);
    promise("the second is a hit", kept && kept->cache_status() == PHANTOM_CACHE_HIT);
    const Result inactive = client.resolve("unknown");
    promise("an unknown token is inactive and has no texts",
            !inactive && inactive.jwt().empty() && inactive.claims().empty() && !inactive.expires_at());
    promise("statistics are JSON", client.stats().find("\"misses\":2") != std::string::npos);
    promise("a malformed token is refused", failure([&] { client.resolve("a b"); }) == PHANTOM_INVALID_TOKEN);
    promise("so is one that is nowhere", failure([&] { client.resolve({}); }) == PHANTOM_INVALID_TOKEN);
    client.purge(token);
    promise("what is purged is known no more, and asked for anew",
            !client.lookup(token) && client.resolve(token).cache_status() == PHANTOM_CACHE_MISS);
    client.purge_all();
    promise("nor is anything after purge_all", !client.lookup(token) && !client.lookup("unknown"));
    promise("what is no token cannot be purged", failure([&] { client.purge("a b"); }) == PHANTOM_INVALID_TOKEN);
    bool refused = false;
    try {
      client.resolve(token, std::chrono::milliseconds(-1));
    } catch (const std::invalid_argument &) {
      refused = true;
    }
    promise("a negative timeout is refused", refused);
    Policy policy;
    policy.set("realm", "api").set("scopes", "read").set("require", "client_id \"gate way\" gateway");
    Presentation request;
    const std::string bearer = "Bearer " + token;
    request.authorization = bearer;
    promise("a token that a policy has nothing against has no denial", !policy.denial(client, result, request));
    const auto denial = policy.set("scope", "admin").denial(client, result, request);
    promise("one that lacks a scope has one with all that an answer needs",
            denial && denial->http_status == 403 && denial->error == "insufficient_scope" &&
                denial->reason == "scope:admin" && denial->dpop_nonce.empty() &&
                denial->challenge == "Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"read admin\"");
    promise("so has one that is inactive", policy.denial(client, inactive, request)->reason == "inactive");
    promise("and a request without one", policy.denial().http_status == 401 && policy.denial().error.empty());
    request.authorization = "Bearer";
    promise("what is no token is told apart from none", policy.denial(request).http_status == 400);
    request.dpop_count = 2;
    promise("more proofs than one are no error here", policy.denial(client, result, request)->reason == "scope:admin");
    const Result bound = client.resolve(argv[5]);
    const auto withheld = [&](auto text) {
      try {
        text();
      } catch (const std::logic_error &error) {
        return std::string(error.what()).find("Policy") != std::string::npos;
      }
      return false;
    };
    promise("of a token that is bound to a key there is no JWT before a policy has let it pass",
            bound.active() && bound.bound() && !result.bound() && withheld([&] { (void)bound.jwt(); }) &&
                withheld([&] { (void)bound.authorization(); }));
    promise("nor after one has not", Policy().denial(client, bound, request) && withheld([&] { (void)bound.jwt(); }));
    Policy ignoring;
    ignoring.set("sender_constraint", "ignore");
    promise("and there is one where a policy says that another party checks",
            !ignoring.denial(client, bound, request) && bound.jwt().size() > 10);
    Policy gate;
    gate.set("realm", "api").set("source", "cookie session").set("forward", "header X-Jwt");
    Decision decision;
    const std::string cookies = "theme=dark; session=" + token;
    phantom_token::Request whole;
    whole.method = "GET";
    whole.target = "/orders";
    whole.headers = {{"Host", "api.example.com"}, {"Cookie", cookies}};
    const auto found = gate.token(whole, decision);
    promise("a policy finds the token of a request", found && *found == token);
    std::string changes;
    promise("and decides that it goes on", gate.decide(client, whole, client.resolve(*found), decision) &&
                                               decision.outcome() == "ok" && decision.http_status() == 0);
    decision.change_request([&](std::string_view name, std::optional<std::string_view> value) {
      changes += std::string(name) + (value ? "=" + std::string(value->substr(0, 10)) : "") + ";";
    });
    promise("with the JWT where the policy says, and without what held the token",
            changes.find("Cookie=theme=dark;X-Jwt=ey") == 0);
    whole.headers.pop_back();
    promise("a request without a token is answered",
            !gate.token(whole, decision) && !gate.decide(client, whole, decision) && decision.http_status() == 401 &&
                decision.body().find("missing bearer token") != std::string_view::npos);
    std::string headers;
    decision.add_to_answer(
        [&](std::string_view name, std::string_view value) { headers += std::string(name) + ": " + std::string(value) + ";"; });
    promise("with all headers", headers == "WWW-Authenticate: Bearer realm=\"api\";Content-Type: application/json;");
    promise("a policy that cannot be is an error",
            failure([&] { policy.set("max_age", "soon"); }) == PHANTOM_CONFIG);
    client.stop();
    promise("a stopped client says so", failure([&] { client.resolve(token); }) == PHANTOM_STOPPED &&
                                            failure([&] { client.purge(token); }) == PHANTOM_STOPPED &&
                                            failure([&] { client.purge_all(); }) == PHANTOM_STOPPED);
  }
  const Result copy = *kept;
  Result moved = std::move(*kept);
  kept.reset();
  promise("a result outlives client and original", copy.active() && moved.jwt() == copy.jwt());
  moved = copy;
  promise("a copy shares what it is a copy of", moved.jwt().data() == copy.jwt().data());

  std::vector<std::string> lines;
  Config busy = configured("?status=503&retry_after=7");
  busy.log([&](phantom_log_level level, std::string_view line) {
    if (level == PHANTOM_LOG_WARN)
      lines.emplace_back(line);
    throw std::runtime_error("a defect");
  });
  try {
    Client started(busy);
    Client client = std::move(started);
    started = Client(configured(""));
    std::swap(started, client);
    started.resolve(token);
    promise("a busy server is an error", false);
  } catch (const Error &error) {
    promise("a busy server is an error with its HTTP status and its time",
            error.status() == PHANTOM_BUSY && error.http_status() == 503 &&
                error.retry_after() == std::chrono::seconds(7));
  }
  promise("the log function gets the line, and may throw",
          lines.size() == 1 && lines[0].find(token) == std::string::npos);

  promise("a key that does not exist is an error", failure([] { Config().set("colour", "blue"); }) == PHANTOM_CONFIG);
  promise("a configuration without an endpoint is one", failure([] { Config().validate(); }) == PHANTOM_CONFIG);
  promise("so is a client of it", failure([] { Client(Config{}); }) == PHANTOM_CONFIG);
  return broken != 0;
}
