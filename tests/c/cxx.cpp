// The header in C++17: it compiles without a warning, and its functions have C linkage.

#include "support.h"

#include <poll.h>

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

struct Free {
  void operator()(phantom_client *client) const { phantom_client_free(client); }
  void operator()(phantom_result *result) const { phantom_result_free(result); }
};

static_assert(std::is_enum_v<phantom_status>, "a status is an enumeration in C++");
static_assert(sizeof(phantom_status) == sizeof(int32_t), "of the size that the library has");

int main() {
  std::unique_ptr<phantom_client, Free> client(start(configure("")));
  const std::string_view known = token(480);
  phantom_result *raw = nullptr;
  NEED(phantom_client_resolve(client.get(), known.data(), known.size(), 0, &raw) == PHANTOM_OK);
  std::unique_ptr<phantom_result, Free> result(raw);
  PROMISE("a C++17 program resolves a token", phantom_result_is_active(result.get()));

  // A lambda without captures is a C callback.
  phantom_result *at_once = nullptr;
  std::string authorization;
  NEED(phantom_client_submit(
           client.get(), token(481), known.size(),
           [](void *user_data, phantom_status status, phantom_result *verdict) {
             std::unique_ptr<phantom_result, Free> owned(verdict);
             if (status == PHANTOM_OK)
               *static_cast<std::string *>(user_data) = phantom_result_authorization(owned.get(), nullptr);
           },
           &authorization, nullptr, &at_once) == PHANTOM_PENDING);
  pollfd watched{-1, POLLIN, 0};
  NEED(phantom_client_fd(client.get(), &watched.fd) == PHANTOM_OK);
  NEED(poll(&watched, 1, 60000) == 1 && phantom_client_dispatch(client.get(), 0, nullptr) == PHANTOM_OK);
  PROMISE("and submits one with a lambda", authorization.rfind("Bearer eyJ", 0) == 0);
  return broken_promises != 0;
}
