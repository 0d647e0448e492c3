// Asks an authorization server what one opaque access token stands for, and waits for the answer; then has a policy decide
// whether the request that presented it may pass.
//
//   cc -o resolve resolve.c $(pkg-config --cflags --libs phantom_token)
//   ./resolve ENDPOINT CLIENT_ID CLIENT_SECRET_FILE < token
//
// Prints the Authorization header to send upstream. Ends with 0 if the request may pass, 1 if it may not, 2 if there is no
// verdict.

#include <phantom_token.h>

#include <stdio.h>
#include <string.h>

// One byte more than a token may have, so that a longer one is noticed; and one for the newline behind it.
enum { TOKEN_ROOM = 8192 + 2 };

static int no_verdict(phantom_status status) {
  // The status is for the program: here, the HTTP status that a gateway would answer with. The text is for the log.
  fprintf(stderr, "no verdict (HTTP %d): %s\n", (int)phantom_status_http(status), phantom_last_error());
  return 2;
}

int main(int argc, char **argv) {
  char token[TOKEN_ROOM];
  size_t length;
  phantom_config *config = NULL;
  phantom_client *client = NULL;
  phantom_policy *policy = NULL;
  phantom_result *result = NULL;
  phantom_denial *denial = NULL;
  // A gateway fills in the request's Authorization and DPoP headers, its method and URL, and its client's certificate.
  phantom_presentation request = {.size = sizeof request};
  phantom_status status;
  int exit_status;

  if (argc != 4) {
    fprintf(stderr, "usage: %s ENDPOINT CLIENT_ID CLIENT_SECRET_FILE < token\n", argv[0]);
    return 2;
  }
  length = fread(token, 1, sizeof token, stdin);
  if (length > 0 && token[length - 1] == '\n')
    length--;

  // Where the authorization server is, and who we are to it. The secret stays in its file.
  if ((status = phantom_config_new("main", 4, &config)) == PHANTOM_OK &&
      (status = phantom_config_set_str(config, "introspection_endpoint", argv[1])) == PHANTOM_OK &&
      (status = phantom_config_set_str(config, "client_id", argv[2])) == PHANTOM_OK &&
      (status = phantom_config_set_str(config, "client_secret_file", argv[3])) == PHANTOM_OK &&
      // A program starts one client and keeps it: it holds the cache and the connections.
      (status = phantom_client_start(config, &client)) == PHANTOM_OK &&
      // This policy requires only an active token and, if the token is bound to a key, its sender.
      (status = phantom_policy_new(&policy)) == PHANTOM_OK &&
      (status = phantom_client_resolve(client, token, length, 0, &result)) == PHANTOM_OK)
    status = phantom_policy_check(policy, client, result, &request, &denial);

  switch (status) {
  case PHANTOM_OK:
    printf("Authorization: %s\n", phantom_result_authorization(result, NULL));
    exit_status = 0;
    break;
  case PHANTOM_DENIED:
    // Not active (the server does not say why: unknown, expired, revoked), or not this request's.
    printf("HTTP %d (%s)\n", (int)phantom_denial_http_status(denial), phantom_denial_reason(denial));
    exit_status = 1;
    break;
  default:
    exit_status = no_verdict(status);
  }

  // Each of them takes NULL, so that there is one way out.
  phantom_denial_free(denial);
  phantom_result_free(result);
  phantom_policy_free(policy);
  phantom_client_free(client);
  phantom_config_free(config);
  return exit_status;
}
