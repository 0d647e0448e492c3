// A certified OpenID provider as an authorization server with opaque access tokens, for the tests beside it.
//
// Usage: node server.mjs CLIENTS.json
// CLIENTS.json is an array of client metadata (RFC 7591). The port is chosen by the kernel and written to standard
// output as one line of JSON; the server ends when its standard input does.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const clients = JSON.parse(readFileSync(process.argv[2], 'utf8')).map((client) => ({
  redirect_uris: [],
  response_types: [],
  grant_types: ['client_credentials'],
  ...client,
}));

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const provider = new Provider(`http://127.0.0.1:${port}`, {
    clients,
    scopes: ['read', 'write'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
    },
  });
  server.on('request', provider.callback());
  process.stdout.write(`${JSON.stringify({ port })}\n`);
});

process.stdin.on('end', () => process.exit(0)).resume();
