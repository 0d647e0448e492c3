// A certified OpenID provider as an authorization server with opaque access tokens, for the tests beside it.
//
// Usage: node server.mjs CONFIGURATION.json
// CONFIGURATION.json has `clients`, an array of client metadata (RFC 7591), and `tls` with `key`, `certificate` and the
// `authority` that client certificates are to be of, all in PEM. The port is chosen by the kernel and written to
// standard output as one line of JSON. Each line on standard input is an order in JSON, which is answered by another line:
// `rotate` has the server take fresh signing keys and forget the former ones, `refresh` has it issue a refresh token to the
// client of that name. The server ends when its standard input does.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const { clients, tls } = JSON.parse(readFileSync(process.argv[2], 'utf8'));

const freshKeys = () => ({
  keys: [
    generateKeyPairSync('rsa', { modulusLength: 2048 }),
    generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    generateKeyPairSync('ed25519'),
  ].map(({ privateKey }) => ({ ...privateKey.export({ format: 'jwk' }), use: 'sig', kid: randomUUID() })),
});

const certificateOf = (ctx) => ctx.req.socket.getPeerX509Certificate();

const start = (issuer) => {
  const provider = new Provider(issuer, {
    clients: clients.map((client) => ({
      redirect_uris: [],
      response_types: [],
      grant_types: ['client_credentials'],
      ...client,
    })),
    clientAuthMethods: [
      'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth', 'none',
    ],
    jwks: freshKeys(),
    scopes: ['read', 'write', 'offline_access'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      dPoP: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      jwtIntrospection: { enabled: true },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        tlsClientAuth: true,
        getCertificate: certificateOf,
        certificateAuthorized: (ctx) => ctx.req.socket.authorized,
        certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_san_dns'
          && certificateOf(ctx).subjectAltName.split(', ').includes(`DNS:${expected}`),
      },
      revocation: { enabled: true },
    },
  });
  return provider;
};

// As it comes of a grant that a person has given to a client.
const refreshToken = async (provider, clientId) => {
  const client = await provider.Client.find(clientId);
  const grant = new provider.Grant({ accountId: 'alice', clientId });
  grant.addOIDCScope('read offline_access');
  const token = new provider.RefreshToken({
    accountId: 'alice', client, grantId: await grant.save(), gty: 'authorization_code', scope: 'read offline_access',
  });
  return token.save();
};

const server = createServer({
  key: tls.key,
  cert: tls.certificate,
  ca: tls.authority,
  requestCert: true,
  rejectUnauthorized: false,
});
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const issuer = `https://localhost:${port}`;
  const say = (words) => process.stdout.write(`${JSON.stringify(words)}\n`);
  // Tokens are in the memory of the process and outlive a provider.
  let provider = start(issuer);
  let answer = provider.callback();
  server.on('request', (...call) => answer(...call));
  createInterface({ input: process.stdin })
    .on('line', async (line) => {
      const order = JSON.parse(line);
      if (order.refresh) {
        say({ token: await refreshToken(provider, order.refresh) });
        return;
      }
      provider = start(issuer);
      answer = provider.callback();
      say({});
    })
    .on('close', () => process.exit(0));
  say({ port });
});
