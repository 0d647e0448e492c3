"""The module against oidc-provider with dialects and keys of ours: what reaches the API, and how we authenticate."""

import time

import pytest

from harness.client import get
from harness.keys import header_of, private_pem, public_jwk, verified

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
FORM = [("Content-Type", "application/x-www-form-urlencoded")]
# Keys of the provider for one that mints, and the file they name.
MINT = {"mint_key": "mint.pem", "mint_issuer": "https://gateway.example"}
FILES = {"mint.pem": private_pem("ES256", "mint")}


@pytest.fixture
def minting(guarded):
    """A gateway that mints."""

    def start(method="client_secret_basic", files=None, **words):
        return guarded(method, files={**FILES, **(files or {})}, **{"dialect": "mint", **MINT, **words})

    return start


@pytest.fixture
def signed(guarded, secrets):
    """A gateway whose introspection responses are signed with an algorithm."""

    def start(algorithm, **words):
        client_id = f"signed-{algorithm}"
        secret = secrets.add_client(client_id, "0123456789-secret-of-the-gateway")
        words = {"client_id": client_id, "client_secret": secret, "dialect": "signed", **words}
        return guarded(files=FILES, **(words if words.get("forward") == "signed" else {**MINT, **words}))

    return start


def bearer(request):
    """The token that a request carries."""
    scheme, _, token = request.value("authorization").partition(" ")
    assert scheme == "Bearer"
    return token


def claims_of_minted(api, token):
    """The claims of the one minted JWT that the API has received."""
    jwt = bearer(api.only())
    api.never_saw(token)
    header = header_of(jwt)
    assert (header["typ"], header["alg"]) == ("at+jwt", "ES256")
    keys = {"keys": [public_jwk("ES256", header["kid"], "mint")]}
    return verified(jwt, keys, issuer="https://gateway.example")


def purge(nginx, token):
    answer = get(nginx.port, "/purge", method="POST", headers=FORM, body=f"token={token}".encode())
    assert answer.status == 200


def test_an_issuer_and_credentials_are_enough_to_mint(minting, oidc_provider, api, secrets):
    nginx = minting()
    token = secrets.add(oidc_provider.issue())
    assert get(nginx.port, token=token).status == 200
    claims = claims_of_minted(api, token)
    assert claims["client_id"] == "app"
    assert claims["scope"] == "read"
    assert "active" not in claims
    assert abs(claims["iat"] - time.time()) < 60


@pytest.mark.parametrize("dialect", ["mint", "signed", "signed as it is"])
def test_a_refresh_token_opens_no_api(minting, signed, oidc_provider, api, secrets, dialect):
    """The server lets every client introspect it, and says nothing of what it is."""
    nginx = {
        "mint": minting,
        "signed": lambda: signed("ES256"),
        "signed as it is": lambda: signed("ES256", forward="signed"),
    }[dialect]()
    token = secrets.add(oidc_provider.issue_refresh_token())
    _, said = oidc_provider.call(
        "/token/introspection", {"token": token}, basic=oidc_provider.secrets["client_secret_basic"]
    )
    assert said["active"] is True and said["sub"] == "alice"
    assert not said.keys() & {"token_type", "token_use", "aud"}
    for _ in range(2):
        answer = get(nginx.port, token=token)
        assert answer.status == 401
        assert 'error="invalid_token"' in answer.value("www-authenticate")
    assert "may be a refresh token" in nginx.only_line(r"\[warn\].*an active token is refused")
    assert api.requests == []
    # It is this that is new, and not the server.
    assert get(nginx.port, token=secrets.add(oidc_provider.issue())).status == 200


def test_what_is_minted_ends_with_the_token(minting, oidc_provider, api, secrets):
    nginx = minting(mint_ttl="1d")
    token = secrets.add(oidc_provider.issue())
    assert get(nginx.port, token=token).status == 200
    _, answer = oidc_provider.call(
        "/token/introspection", {"token": token}, basic=oidc_provider.secrets["client_secret_basic"]
    )
    assert claims_of_minted(api, token)["exp"] == answer["exp"]


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "client_secret_jwt"])
def test_a_secret_authenticates_in_each_way(minting, oidc_provider, api, secrets, method):
    nginx = minting(method, client_auth=method)
    for _ in range(2):
        assert get(nginx.port, token=secrets.add(oidc_provider.issue())).status == 200


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_private_key_authenticates_with_each_algorithm(minting, oidc_provider, secrets, algorithm):
    nginx = minting(
        client_id=f"gateway-{algorithm}",
        client_secret=None,
        client_auth="private_key_jwt",
        private_key="client.pem",
        private_key_id="key of the gateway",
        private_key_alg=algorithm,
        files={"client.pem": private_pem(algorithm)},
    )
    # Each assertion is new: the server takes none twice.
    for _ in range(3):
        assert get(nginx.port, token=secrets.add(oidc_provider.issue())).status == 200


@pytest.mark.parametrize("audience, status", [("/token/introspection", 200), ("/another", 502)])
def test_an_assertion_is_for_whom_is_set(minting, oidc_provider, api, secrets, audience, status):
    nginx = minting(
        client_id="gateway-ES256",
        client_secret=None,
        client_auth="private_key_jwt",
        private_key="client.pem",
        private_key_id="key of the gateway",
        assertion_audience=f"{oidc_provider.base}{audience}",
        files={"client.pem": private_pem("ES256")},
    )
    assert get(nginx.port, token=secrets.add(oidc_provider.issue())).status == status
    assert len(api.requests) == (status == 200)


def test_another_private_key_is_502(minting, oidc_provider, api, secrets):
    nginx = minting(
        client_id="gateway-ES256",
        client_secret=None,
        client_auth="private_key_jwt",
        private_key="client.pem",
        private_key_id="key of the gateway",
        files={"client.pem": private_pem("ES256", "another")},
    )
    assert get(nginx.port, token=secrets.add(oidc_provider.issue())).status == 502
    assert api.requests == []


def test_a_certificate_authenticates(minting, oidc_provider, secrets):
    nginx = minting(
        client_id="gateway-tls",
        client_secret=None,
        client_auth="tls_client_auth",
        ssl_certificate="client-certificate.pem",
        ssl_certificate_key="client-key.pem",
        files={
            "client-certificate.pem": oidc_provider.certificates.client_certificate,
            "client-key.pem": oidc_provider.certificates.client_key,
        },
    )
    assert get(nginx.port, token=secrets.add(oidc_provider.issue())).status == 200


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signed_answer_is_minted_from(signed, oidc_provider, api, secrets, algorithm):
    nginx = signed(algorithm)
    token = secrets.add(oidc_provider.issue())
    assert get(nginx.port, token=token).status == 200
    claims = claims_of_minted(api, token)
    assert (claims["client_id"], claims["scope"]) == ("app", "read")
    assert "token_introspection" not in claims
    assert get(nginx.port, token=secrets.token()).status == 401


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signed_answer_goes_upstream_as_it_came_if_asked_for(signed, oidc_provider, api, secrets, algorithm):
    nginx = signed(algorithm, forward="signed")
    token = secrets.add(oidc_provider.issue())
    assert get(nginx.port, token=token).status == 200
    jwt = bearer(api.only())
    api.never_saw(token)
    header = header_of(jwt)
    assert (header["typ"], header["alg"]) == ("token-introspection+jwt", algorithm)
    claims = verified(jwt, oidc_provider.jwks(), issuer=oidc_provider.base, audience=f"signed-{algorithm}")
    assert claims["token_introspection"]["client_id"] == "app"


def test_answers_signed_with_new_keys_are_taken_at_once(signed, oidc_provider, secrets):
    nginx = signed("ES256")
    assert get(nginx.port, token=secrets.add(oidc_provider.issue())).status == 200
    oidc_provider.rotate()
    assert get(nginx.port, token=secrets.add(oidc_provider.issue())).status == 200
    assert nginx.log_lines(r"\[error\]") == []


@pytest.mark.parametrize("dialect", ["mint", "signed"])
def test_a_revocation_is_seen_when_the_token_has_to_be_asked_about_again(
    minting, signed, oidc_provider, secrets, dialect
):
    nginx = minting(cache_ttl="1s") if dialect == "mint" else signed("EdDSA", cache_ttl="1s")
    token = secrets.add(oidc_provider.issue())
    assert get(nginx.port, token=token).status == 200
    oidc_provider.revoke(token)
    time.sleep(1.1)
    assert get(nginx.port, token=token).status == 401


@pytest.mark.parametrize("dialect", ["mint", "signed"])
def test_a_revocation_is_seen_at_once_after_a_purge(minting, signed, oidc_provider, secrets, dialect):
    nginx = minting(cache_ttl="300s") if dialect == "mint" else signed("EdDSA", cache_ttl="300s")
    token = secrets.add(oidc_provider.issue())
    assert get(nginx.port, token=token).status == 200
    oidc_provider.revoke(token)
    assert get(nginx.port, token=token).value("x-cache") == "HIT"
    purge(nginx, token)
    assert get(nginx.port, token=token).status == 401
