"""Verifies JWTs that we sign with PyJWT. Run by `make test-jose`; $MINTED is the program that mints."""

import base64
import json
import os
import subprocess

import jwt
import pytest

MINTED = json.loads(subprocess.run([os.environ["MINTED"]], check=True, capture_output=True).stdout)
ALGORITHMS = ["ES256", "ES384", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"]


def verified(token, algorithm):
    keys = jwt.PyJWKSet.from_dict(MINTED["jwks"])
    kid = jwt.get_unverified_header(token)["kid"]
    return jwt.decode(
        token,
        keys[kid].key,
        algorithms=[algorithm],
        issuer=MINTED["issuer"],
        audience=MINTED["audience"],
        options={"require": ["exp", "iat", "iss", "aud", "sub", "jti"]},
    )


def test_every_algorithm_is_there():
    assert sorted(MINTED["jwts"]) == ALGORITHMS


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_pyjwt_verifies_what_we_sign_and_nothing_that_was_changed(algorithm):
    token = MINTED["jwts"][algorithm]
    claims = verified(token, algorithm)
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": algorithm, "typ": "at+jwt"}
    assert claims["role"] == {"name": "\u00e9\U0001f600"}
    assert claims["exp"] - claims["iat"] == 300
    message, _, signature = token.rpartition(".")
    changed = bytearray(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
    changed[7] ^= 1
    changed = base64.urlsafe_b64encode(bytes(changed)).rstrip(b"=").decode()
    with pytest.raises(jwt.InvalidSignatureError):
        verified(f"{message}.{changed}", algorithm)
