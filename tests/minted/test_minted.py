"""Minted JWTs and published keys, read by the JOSE libraries that APIs use, in three languages.

Each gets the JWT as the API received it and the JWKS as nginx serves it: jose and PyJWT fetch the keys themselves,
jwt-simple reads them from a file. The programs are beside the tests of what the library signs, in tests/jose.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import jwt as pyjwt
import pytest

from harness.client import get
from harness.keys import header_of, private_pem
from harness.nginx import ROOT

JOSE = ROOT / "tests/jose"
ISSUER = "https://gateway.example/one"
# The algorithm, and the provider's settings beside the key.
ALGORITHMS = {"ES256": {}, "EdDSA": {}, "RS256": {}, "PS256": {"mint_alg": "PS256"}}


class Refused(Exception):
    """A library has refused a JWT."""


def run(command, jwt):
    done = subprocess.run(command, input=jwt, capture_output=True, text=True, cwd=JOSE, timeout=60, check=False)
    if done.returncode != 0:
        raise Refused(done.stderr)
    return json.loads(done.stdout)


def with_jose(jwt, url, file):
    return run(["node", "verify.mjs", url, ISSUER], jwt)


def with_jwt_simple(jwt, url, file):
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return run([target / "debug/examples/verify", file, ISSUER], jwt)


def with_pyjwt(jwt, url, file):
    try:
        key = pyjwt.PyJWKClient(url).get_signing_key_from_jwt(jwt)
        options = {"require": ["iss", "iat", "exp", "jti"], "verify_aud": False}
        return pyjwt.decode(jwt, key, algorithms=list(ALGORITHMS), issuer=ISSUER, options=options)
    except pyjwt.PyJWTError as refusal:
        raise Refused(str(refusal)) from refusal


LIBRARIES = {"jose": with_jose, "jwt-simple": with_jwt_simple, "pyjwt": with_pyjwt}


@pytest.fixture
def minting(gateway, ugly):
    """A gateway that mints, and serves its keys."""

    def start(**words):
        now = int(time.time())
        words = {"dialect": "mint", "mint_issuer": ISSUER, **words}
        ugly.answer = lambda exchange: exchange.reply(
            content_type="application/json",
            body=json.dumps(
                {
                    "active": True,
                    "token_type": "Bearer",
                    "sub": "Zoë",
                    "aud": ["https://api.example", "https://another.example"],
                    "scope": "read write",
                    "client_id": "app",
                    "exp": now + 200,
                    "iss": "https://as.example",
                    "roles": [{"name": "admin", "since": 1.5}],
                }
            ),
        )
        return gateway(server="location = /jwks { phantom_token_jwks acme; }", **words)

    return start


@pytest.fixture
def read(api, secrets, tmp_path):
    """Has the gateway mint for one more token; gives the JWT, and what a library makes of it."""

    def minted(nginx):
        before = len(api.requests)
        assert get(nginx.port, token=secrets.token()).status == 200
        return api.wait(before + 1)[before].value("authorization").removeprefix("Bearer ")

    def with_library(library, nginx, jwt=None):
        file = tmp_path / "jwks.json"
        file.write_bytes(get(nginx.port, "/jwks").body)
        jwt = jwt or minted(nginx)
        return jwt, LIBRARIES[library](jwt, f"http://127.0.0.1:{nginx.port}/jwks", file)

    return with_library


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_library_verifies_what_is_minted(minting, read, algorithm):
    nginx = minting(mint_key="mint.pem", files={"mint.pem": private_pem(algorithm, "mint")}, **ALGORITHMS[algorithm])
    for library in LIBRARIES:
        jwt, claims = read(library, nginx)
        header = header_of(jwt)
        assert (header["alg"], header["typ"]) == (algorithm, "at+jwt"), library
        assert claims["iss"] == ISSUER
        assert claims["sub"] == "Zoë"
        assert set(claims["aud"]) == {"https://api.example", "https://another.example"}
        assert claims["scope"] == "read write"
        assert claims["roles"] == [{"name": "admin", "since": 1.5}]
        assert 0 < claims["exp"] - claims["iat"] <= 200
        assert "active" not in claims
        # None takes whatever it is given.
        for other in (f"{jwt[:-8]}AAAAAAAA", pyjwt.encode({"iss": ISSUER}, None, algorithm="none")):
            with pytest.raises(Refused):
                read(library, nginx, jwt=other)


def test_every_library_verifies_across_a_change_of_keys(minting, read):
    """As operators do it: the new key is published first, then it signs, then the former one goes."""
    files = {"former.pem": private_pem("RS256", "former"), "new.pem": private_pem("ES256", "new")}
    nginx = minting(mint_key=["former.pem", "new.pem"], files=files)
    configuration = nginx.path.read_text()
    before = {library: read(library, nginx)[0] for library in LIBRARIES}

    nginx.path.write_text(configuration.replace('"former.pem" "new.pem"', '"new.pem" "former.pem"'))
    nginx.reload()
    for library in LIBRARIES:
        assert header_of(read(library, nginx, jwt=before[library])[0])["alg"] == "RS256"
        assert header_of(read(library, nginx)[0])["alg"] == "ES256"

    nginx.path.write_text(configuration.replace('"former.pem" "new.pem"', '"new.pem"'))
    nginx.reload()
    for library in LIBRARIES:
        read(library, nginx)
        with pytest.raises(Refused):
            read(library, nginx, jwt=before[library])


def test_the_keys_are_public_and_may_be_kept_for_a_while(minting):
    files = {"a.pem": private_pem("ES256", "a"), "b.pem": private_pem("RS256", "b"), "c.pem": private_pem("EdDSA", "c")}
    nginx = minting(mint_key=["a.pem", "b.pem", "c.pem"], files=files)
    answer = get(nginx.port, "/jwks")
    assert answer.status == 200
    assert answer.value("content-type").split(";")[0] in ("application/json", "application/jwk-set+json")
    assert answer.value("cache-control").startswith("public, max-age=")
    keys = answer.json()["keys"]
    assert [key["kty"] for key in keys] == ["EC", "RSA", "OKP"]
    assert [key["alg"] for key in keys] == ["ES256", "RS256", "EdDSA"]
    assert len({key["kid"] for key in keys}) == 3
    for key in keys:
        assert not key.keys() & {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}, key["kid"]
