// Verifies a JWT with jose, with keys that it fetches itself, and prints its claims. For tests that read what nginx sends
// and publishes.
//
// Usage: node verify.mjs JWKS ISSUER < JWT
// JWKS is a URL. What does not verify ends with an error.
import { readFileSync } from 'node:fs';
import { createRemoteJWKSet, jwtVerify } from 'jose';

const [jwks, issuer] = process.argv.slice(2);
const { payload } = await jwtVerify(readFileSync(0, 'utf8').trim(), createRemoteJWKSet(new URL(jwks)), {
  issuer,
  typ: 'at+jwt',
  algorithms: ['ES256', 'EdDSA', 'PS256', 'RS256'],
  requiredClaims: ['iat', 'exp', 'jti'],
});
process.stdout.write(`${JSON.stringify(payload)}\n`);
