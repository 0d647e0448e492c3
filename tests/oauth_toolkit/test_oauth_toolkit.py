"""The module against Django OAuth Toolkit, which answers plain RFC 7662 and publishes metadata as RFC 8414 has it."""

import re
import sys
from pathlib import Path

import pytest

from harness.client import get
from harness.foreign import ForeignServer
from harness.keys import header_of, private_pem, public_jwk, verified

HERE = Path(__file__).resolve().parent
FORM = [("Content-Type", "application/x-www-form-urlencoded")]
GATEWAY = ("gate way+1%:", "s&cret/+ %41:=?~-0123456789")
APP = ("app", "0123456789-secret-of-the-app")


class OauthToolkit(ForeignServer):
    """The running server."""

    def __init__(self):
        clients = [{"client_id": client_id, "client_secret": secret} for client_id, secret in (GATEWAY, APP)]
        super().__init__([sys.executable, "server.py"], {"clients": clients, "users": ["alice"]}, cwd=HERE)

    def issue(self):
        """An opaque token of a person."""
        form = {"grant_type": "password", "username": "alice", "password": "password", "scope": "read"}
        status, body = self.call("/token/", form, basic=APP)
        assert status == 200, body
        return body["access_token"]

    def issue_refresh_token(self):
        form = {"grant_type": "password", "username": "alice", "password": "password", "scope": "read"}
        status, body = self.call("/token/", form, basic=APP)
        assert status == 200, body
        return body["refresh_token"]

    def revoke(self, token):
        status, _ = self.call("/revoke_token/", {"token": token}, basic=APP)
        assert status == 200


@pytest.fixture(scope="module")
def oauth_toolkit():
    server = OauthToolkit()
    yield server
    server.stop()


@pytest.fixture
def minting(gateway, secrets, oauth_toolkit):
    """A gateway that knows the issuer, and mints; with a zone and a location that purges."""

    def start(secret=None, **words):
        words = {
            "introspection_endpoint": None,
            "issuer": oauth_toolkit.base,
            "client_id": GATEWAY[0],
            "client_secret": secrets.add_client(GATEWAY[0], secret or GATEWAY[1]),
            "dialect": "mint",
            "mint_key": "mint.pem",
            "mint_issuer": "https://gateway.example",
            # The server says nothing of the kind, and introspects access tokens only.
            "token_type": "any",
            **words,
        }
        return gateway(
            http="phantom_token_zone tokens:1m;",
            server="location = /purge { phantom_token_purge acme; }",
            files={"mint.pem": private_pem("EdDSA", "mint")},
            **words,
        )

    return start


def claims_of(request):
    scheme, _, jwt = request.value("authorization").partition(" ")
    assert scheme == "Bearer"
    header = header_of(jwt)
    assert header["typ"] == "at+jwt"
    keys = {"keys": [public_jwk("EdDSA", header["kid"], "mint")]}
    return verified(jwt, keys, issuer="https://gateway.example")


@pytest.mark.parametrize("path", ["", "/tenant"])
def test_an_issuer_is_enough(minting, oauth_toolkit, api, secrets, path):
    """RFC 8414 §3.1 puts the issuer's path after the well-known one."""
    nginx = minting(issuer=f"{oauth_toolkit.base}{path}")
    token = secrets.add(oauth_toolkit.issue())
    assert get(nginx.port, token=token).status == 200
    claims = claims_of(api.only())
    assert (claims["client_id"], claims["username"], claims["scope"]) == ("app", "alice", "read")
    # The server says nothing of them, and nothing is made up.
    assert not claims.keys() & {"active", "sub", "aud"}
    api.never_saw(token)
    assert get(nginx.port, token=secrets.token()).status == 401


def test_a_refresh_token_opens_no_api(minting, oauth_toolkit, api, secrets):
    """The server does not introspect it: that is what makes `token_type any` safe here."""
    nginx = minting()
    assert get(nginx.port, token=secrets.add(oauth_toolkit.issue_refresh_token())).status == 401
    assert api.requests == []


def test_without_token_type_any_the_log_says_to_set_it(minting, oauth_toolkit, api, secrets):
    nginx = minting(token_type="access_token")
    for _ in range(3):
        answer = get(nginx.port, token=secrets.add(oauth_toolkit.issue()))
        assert answer.status == 401
        assert 'error="invalid_token"' in answer.value("www-authenticate")
    assert "token_type any" in nginx.only_line(r"\[warn\].*an active token is refused")
    assert api.requests == []


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_secret_authenticates_in_each_way(minting, oauth_toolkit, secrets, method):
    nginx = minting(client_auth=method)
    assert get(nginx.port, token=secrets.add(oauth_toolkit.issue())).status == 200


def test_an_access_token_of_ours_authenticates(minting, oauth_toolkit, secrets):
    """Got with the client credentials grant, by a secret."""
    nginx = minting(client_auth="client_credentials", client_credentials_scope="introspection")
    for _ in range(2):
        assert get(nginx.port, token=secrets.add(oauth_toolkit.issue())).status == 200


def test_an_access_token_of_ours_without_the_scope_is_502(minting, oauth_toolkit, api, secrets):
    nginx = minting(client_auth="client_credentials", client_credentials_scope="read")
    assert get(nginx.port, token=secrets.add(oauth_toolkit.issue())).status == 502
    assert api.requests == []


def test_a_wrong_secret_is_502_and_the_log_names_client_authentication(minting, oauth_toolkit, api, secrets):
    """The server says 403 and not 401."""
    nginx = minting(secret="not-the-secret-0123456789")
    assert get(nginx.port, token=secrets.add(oauth_toolkit.issue())).status == 502
    line = nginx.only_line(r"\[error\].*acme")
    assert re.search(r"client_id|client_secret|client_auth|client authentication", line), line
    assert api.requests == []


def test_a_revocation_is_seen_at_once_after_a_purge(minting, oauth_toolkit, secrets):
    nginx = minting(cache_ttl="300s")
    token = secrets.add(oauth_toolkit.issue())
    assert get(nginx.port, token=token).status == 200
    oauth_toolkit.revoke(token)
    assert get(nginx.port, token=token).status == 200
    assert get(nginx.port, "/purge", method="POST", headers=FORM, body=f"token={token}".encode()).status == 200
    assert get(nginx.port, token=token).status == 401
