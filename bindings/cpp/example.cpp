// Asks an authorization server what one opaque access token stands for, and waits for the answer; then has a policy decide
// whether the request that presented it may pass.
//
//   c++ -std=c++17 -o example example.cpp $(pkg-config --cflags --libs phantom_token)
//   ./example ENDPOINT CLIENT_ID CLIENT_SECRET_FILE < token
//
// Prints the Authorization header to send upstream. Ends with 0 if the request may pass, 1 if it may not, 2 if there is
// no verdict.

#include "phantom_token.hpp"

#include <iostream>
#include <string>

int main(int argc, char **argv) {
  if (argc != 4) {
    std::cerr << "usage: " << argv[0] << " ENDPOINT CLIENT_ID CLIENT_SECRET_FILE < token\n";
    return 2;
  }
  std::string token;
  std::getline(std::cin, token);
  try {
    phantom_token::Config config;
    config.set("introspection_endpoint", argv[1]).set("client_id", argv[2]).set("client_secret_file", argv[3]);
    config.log([](phantom_log_level, std::string_view line) { std::cerr << "log: " << line << '\n'; });

    // A program starts one client and keeps it: it holds the cache and the connections.
    const phantom_token::Client client(config);
    // This policy requires only an active token and, if the token is bound to a key, its sender.
    const phantom_token::Policy policy;
    const auto result = client.resolve(token);
    // A gateway fills in what its request presents: headers, method, URL, the certificate of its client.
    const phantom_token::Presentation request;
    if (const auto denial = policy.denial(client, result, request)) {
      std::cout << "HTTP " << denial->http_status << " (" << denial->reason << ")\n";
      return 1;
    }
    std::cout << "Authorization: " << result.authorization() << '\n';
    return 0;
  } catch (const phantom_token::Error &error) {
    std::cerr << "no verdict (HTTP " << error.http_status() << "): " << error.what() << '\n';
    return 2;
  }
}
