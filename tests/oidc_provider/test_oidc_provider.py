"""The module against oidc-provider, a certified authorization server whose introspection gives no JWT.

Where our own key is not needed, that is: how each client authentication looks to a strict server, how an inactive token
and refused credentials come out, discovery from an issuer, and that the log says what to set.
"""

import re
import shutil
from pathlib import Path

import pytest

from harness import config
from harness.client import get
from harness.foreign import Certificates, ForeignServer

HERE = Path(__file__).resolve().parent

# Printable ASCII (RFC 6749 appendix A) that §2.3.1 wants form-encoded before base64.
CLIENTS = {
    "client_secret_basic": ("gate way+1%:", "s&cret/+ %41:=?~-0123456789"),
    "client_secret_post": ("gate-way&post=1", "p&st/+ %41:=?~-0123456789"),
}


class OidcProvider(ForeignServer):
    """The running server."""

    def __init__(self, certificates):
        self.certificates = certificates
        clients = [
            {"client_id": client_id, "client_secret": secret, "token_endpoint_auth_method": method}
            for method, (client_id, secret) in CLIENTS.items()
        ]
        super().__init__(
            ["node", "server.mjs"],
            {"clients": clients, "tls": certificates.server},
            cwd=HERE,
            tls=certificates.context,
        )

    def as_client(self, path, method, form):
        """A call as the client of that authentication method."""
        client_id, secret = CLIENTS[method]
        if method == "client_secret_basic":
            status, body = self.call(path, form, basic=(client_id, secret))
        else:
            status, body = self.call(path, {**form, "client_id": client_id, "client_secret": secret})
        assert status == 200, body
        return body

    def issue(self, method):
        form = {"grant_type": "client_credentials", "scope": "read"}
        return self.as_client("/token", method, form)["access_token"]

    def revoke(self, method, token):
        self.as_client("/token/revocation", method, {"token": token})


@pytest.fixture(scope="module")
def oidc_provider():
    assert shutil.which("node"), "node is missing"
    assert (HERE / "node_modules/oidc-provider").is_dir(), "run `npm ci` in tests/oidc_provider first"
    server = OidcProvider(Certificates())
    yield server
    server.stop()


@pytest.fixture
def guarded(start_nginx, api, secrets, oidc_provider):
    """Starts a gateway that knows the issuer, and authenticates by a method, with the right secret or another."""

    def start(method, secret=None, **keys):
        client_id, right = CLIENTS[method]
        keys = {
            "introspection_endpoint": None,
            "issuer": oidc_provider.base,
            "client_id": client_id,
            "client_secret": secrets.add_client(client_id, secret or right),
            "client_auth": method,
            "ssl_trusted_certificate": "as-ca.pem",
            **keys,
        }
        block = config.provider(None, secrets, **keys)
        return start_nginx(
            f"""
phantom_token_zone tokens:1m;
{block}
server {{
    listen @listen@;
    location / {{ phantom_token acme; proxy_pass {api.url}; }}
    location = /purge {{ phantom_token_purge acme; }}
}}
""",
            files={"as-ca.pem": oidc_provider.certificates.authority},
        )

    return start


def test_the_server_itself_knows_its_tokens(oidc_provider):
    for method in CLIENTS:
        token = oidc_provider.issue(method)
        assert "." not in token
        answer = oidc_provider.as_client("/token/introspection", method, {"token": token})
        assert answer["active"] is True
        assert "jwt" not in answer


@pytest.mark.parametrize("method", CLIENTS)
def test_an_active_token_without_a_jwt_is_502_and_the_log_says_what_to_set(
    guarded, oidc_provider, api, secrets, method
):
    nginx = guarded(method)
    token = secrets.add(oidc_provider.issue(method))
    answer = get(nginx.port, token=token)
    assert answer.status == 502
    assert answer.json()["code"] == "server_error"
    assert answer.value("www-authenticate") is None
    line = nginx.only_line("502|acme.*error|dialect")
    assert re.search(r"\bdialect\b|\bjwt_claim\b", line), line
    assert api.requests == []


@pytest.mark.parametrize("method", CLIENTS)
@pytest.mark.parametrize("dialect", ["auto", "json", "jwt"])
def test_an_unknown_token_is_401_invalid_token(guarded, api, secrets, method, dialect):
    nginx = guarded(method, dialect=dialect)
    answer = get(nginx.port, token=secrets.token())
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.value("www-authenticate")
    assert nginx.log_lines(r"\[(warn|error)\].*acme") == []
    assert api.requests == []


def test_what_is_set_wins_over_what_was_discovered(guarded, oidc_provider, secrets):
    nginx = guarded("client_secret_basic", introspection_endpoint=f"{oidc_provider.base}/nowhere")
    assert get(nginx.port, token=secrets.token()).status == 502


def test_an_issuer_of_another_name_is_refused(guarded, oidc_provider, secrets):
    """The same server by its address has metadata that name another issuer (RFC 8414 §3.3)."""
    nginx = guarded("client_secret_basic", issuer=oidc_provider.base.replace("localhost", "127.0.0.1"), timeout="2s")
    assert get(nginx.port, token=secrets.token()).status in (502, 504)
    assert nginx.only_line(r"\[error\].*acme.*issuer")


def test_a_revoked_token_is_401(guarded, oidc_provider, secrets):
    nginx = guarded("client_secret_basic")
    token = secrets.add(oidc_provider.issue("client_secret_basic"))
    oidc_provider.revoke("client_secret_basic", token)
    assert get(nginx.port, token=token).status == 401


@pytest.mark.parametrize("method", CLIENTS)
def test_a_wrong_secret_is_502_and_the_log_names_client_authentication(guarded, oidc_provider, api, secrets, method):
    nginx = guarded(method, secret="not-the-secret-0123456789")
    answer = get(nginx.port, token=secrets.add(oidc_provider.issue(method)))
    assert answer.status == 502
    line = nginx.only_line(r"\[error\].*acme")
    assert re.search(r"client_id|client_secret|client_auth|client authentication", line), line
    assert api.requests == []


def test_many_tokens_are_asked_about_over_kept_connections(guarded, secrets):
    nginx = guarded("client_secret_basic")
    assert {get(nginx.port, token=secrets.token()).status for _ in range(30)} == {401}
