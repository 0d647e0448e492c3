// Verifies JWTs that we sign with jose. Run by `make test-jose`; $MINTED is the program that mints.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import test from 'node:test';
import { calculateJwkThumbprint, createLocalJWKSet, jwtVerify } from 'jose';

const { issuer, audience, jwks, jwts, thumbprints } = JSON.parse(execFileSync(process.env.MINTED));
const keys = createLocalJWKSet(jwks);
const algorithms = ['ES256', 'ES384', 'EdDSA', 'PS256', 'PS384', 'PS512', 'RS256', 'RS384', 'RS512'];
const verify = (jwt, alg) => jwtVerify(jwt, keys, {
  issuer, audience, subject: 'alice', typ: 'at+jwt', algorithms: [alg],
  requiredClaims: ['exp', 'iat', 'jti', 'client_id'],
});

test('every algorithm is there', () => {
  assert.deepEqual(Object.keys(jwts).sort(), algorithms);
});

for (const alg of algorithms) {
  test(`jose verifies what we sign with ${alg}, and nothing that was changed`, async () => {
    const { payload, protectedHeader } = await verify(jwts[alg], alg);
    assert.deepEqual(protectedHeader, { alg, kid: alg, typ: 'at+jwt' });
    assert.equal(payload.scope, 'read write');
    assert.equal(payload.role.name, '\u00e9\u{1f600}');
    assert.equal(payload.exp - payload.iat, 300);
    assert.equal('active' in payload, false);
    const [header, claims, signature] = jwts[alg].split('.');
    const changed = Buffer.from(signature, 'base64url');
    changed[7] ^= 1;
    await assert.rejects(verify(`${header}.${claims}.${changed.toString('base64url')}`, alg), {
      code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED',
    });
  });
}

test('a key is named by the thumbprint that jose reckons', async () => {
  for (const jwk of jwks.keys) {
    assert.equal(await calculateJwkThumbprint(jwk), thumbprints[jwk.alg]);
  }
});
