"""The module against idpyoidc, which exchanges opaque access tokens for JWTs (RFC 8693)."""

import sys
from pathlib import Path

import pytest

from harness.client import get
from harness.foreign import ForeignServer
from harness.keys import verified

HERE = Path(__file__).resolve().parent
FORM = [("Content-Type", "application/x-www-form-urlencoded")]
# The server takes Basic credentials as they are and does not decode them.
GATEWAY = ("gateway", "0123456789-secret-of-the-gateway")
APP = ("app", "0123456789-secret-of-the-app")


class Exchanging(ForeignServer):
    """The running server."""

    def __init__(self):
        names = ("client_id", "client_secret")
        configuration = {"gateway": dict(zip(names, GATEWAY)), "app": dict(zip(names, APP))}
        super().__init__([sys.executable, "server.py"], configuration, cwd=HERE)

    def issue(self, *scope):
        """An opaque token of a person."""
        return self.tell(issue={"scope": scope or ["read", "write"]})["token"]

    def revoke(self, token):
        self.tell(revoke=token)


@pytest.fixture(scope="module")
def server():
    running = Exchanging()
    yield running
    running.stop()


@pytest.fixture
def exchanging(gateway, secrets, server):
    """A gateway that knows the issuer, and exchanges; with a zone and a location that purges."""

    def start(client=GATEWAY, **words):
        words = {
            "introspection_endpoint": None,
            "issuer": server.base,
            "client_id": client[0],
            "client_secret": secrets.add_client(*client),
            "dialect": "exchange",
            **words,
        }
        return gateway(
            http="phantom_token_zone tokens:1m;",
            server="location = /purge { phantom_token_purge acme; }",
            **words,
        )

    return start


@pytest.mark.parametrize("verify", ["off", "on"])
@pytest.mark.parametrize("kind", ["jwt", "access_token"])
def test_the_jwt_that_a_token_is_exchanged_for_goes_upstream(exchanging, server, api, secrets, kind, verify):
    nginx = exchanging(exchange_token_type=kind, verify=verify)
    token = secrets.add(server.issue())
    assert [get(nginx.port, token=token).status for _ in range(2)] == [200, 200]
    api.never_saw(token)
    first, second = (request.value("authorization").removeprefix("Bearer ") for request in api.requests)
    assert first == second
    claims = verified(first, server.get("/jwks.json"), issuer=server.base)
    assert claims["client_id"] == "gateway"
    assert set(claims["scope"].split()) == {"read", "write"}
    assert claims["sub"]


def test_the_scope_that_is_asked_for_is_the_scope_of_the_jwt(exchanging, server, api, secrets):
    nginx = exchanging(exchange_scope="read")
    assert get(nginx.port, token=secrets.add(server.issue())).status == 200
    jwt = api.only().value("authorization").removeprefix("Bearer ")
    assert verified(jwt, server.get("/jwks.json"))["scope"] == "read"


def test_an_audience_that_the_server_knows_is_granted(exchanging, server, secrets):
    nginx = exchanging(exchange_audience="https://api.example")
    assert get(nginx.port, token=secrets.add(server.issue())).status == 200


def test_an_audience_that_the_server_does_not_know_is_502(exchanging, server, api, secrets):
    """The fault is in our request, not in the token."""
    nginx = exchanging(exchange_audience="https://another.example")
    assert get(nginx.port, token=secrets.add(server.issue())).status == 502
    assert "invalid_target" in nginx.only_line(r"\[error\].*acme")
    assert api.requests == []


def test_a_token_that_is_not_known_is_401(exchanging, secrets, api):
    nginx = exchanging()
    answer = get(nginx.port, token=secrets.token())
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.value("www-authenticate")
    assert api.requests == []


def test_a_revocation_is_seen_at_once_after_a_purge(exchanging, server, secrets):
    nginx = exchanging(cache_ttl="300s")
    token = secrets.add(server.issue())
    assert get(nginx.port, token=token).status == 200
    server.revoke(token)
    assert get(nginx.port, token=token).status == 200
    body = f"token={token.replace('=', '%3D')}".encode()
    assert get(nginx.port, "/purge", method="POST", headers=FORM, body=body).status == 200
    assert get(nginx.port, token=token).status == 401


def test_a_token_that_is_exchanged_for_an_opaque_one_is_502(exchanging, server, api, secrets):
    """As the application the server would have us have another token of its kind."""
    nginx = exchanging(client=APP)
    assert get(nginx.port, token=secrets.add(server.issue())).status == 502
    assert api.requests == []


def test_a_wrong_secret_is_502(exchanging, server, api, secrets):
    nginx = exchanging(client=("gateway", "not-the-secret-0123456789"))
    assert get(nginx.port, token=secrets.add(server.issue())).status == 502
    assert api.requests == []
