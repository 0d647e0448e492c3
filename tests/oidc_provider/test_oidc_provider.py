"""The module against oidc-provider, a certified authorization server whose introspection gives no JWT.

What can be shown of it is all but the JWT: that our client authentication is what a strict server expects, how
an inactive token and refused credentials come out, and that the log says what to set.
"""

import base64
import http.client
import json
import re
import shutil
import subprocess
import tempfile
import urllib.parse
from pathlib import Path

import pytest

from harness.client import get

HERE = Path(__file__).resolve().parent

# Printable ASCII (RFC 6749 appendix A) that §2.3.1 wants form-encoded before base64.
CLIENTS = {
    "client_secret_basic": ("gate way+1%:", "s&cret/+ %41:=?~-0123456789"),
    "client_secret_post": ("gate-way&post=1", "p&st/+ %41:=?~-0123456789"),
}


class OidcProvider:
    """The running server."""

    def __init__(self, port):
        self.port = port

    @property
    def introspection_endpoint(self):
        return f"http://127.0.0.1:{self.port}/token/introspection"

    def call(self, path, method, form):
        """A call as the client of that authentication method."""
        client_id, secret = CLIENTS[method]
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if method == "client_secret_basic":
            pair = f"{urllib.parse.quote_plus(client_id)}:{urllib.parse.quote_plus(secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form = {**form, "client_id": client_id, "client_secret": secret}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", path, urllib.parse.urlencode(form), headers)
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, body
            return json.loads(body) if body else None
        finally:
            connection.close()

    def issue(self, method):
        return self.call("/token", method, {"grant_type": "client_credentials", "scope": "read"})["access_token"]


@pytest.fixture(scope="module")
def oidc_provider():
    assert shutil.which("node"), "node is missing"
    assert (HERE / "node_modules/oidc-provider").is_dir(), "run `npm ci` in tests/oidc_provider first"
    clients = [
        {"client_id": client_id, "client_secret": secret, "token_endpoint_auth_method": method}
        for method, (client_id, secret) in CLIENTS.items()
    ]
    with tempfile.TemporaryDirectory(prefix="phantom-oidc-") as folder:
        path = Path(folder) / "clients.json"
        path.write_text(json.dumps(clients))
        output = Path(folder) / "stderr"
        with output.open("wb") as stderr:
            process = subprocess.Popen(
                ["node", "server.mjs", str(path)],
                cwd=HERE,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        line = process.stdout.readline()
        assert line, f"oidc-provider did not start:\n{output.read_text()}"
        try:
            yield OidcProvider(json.loads(line)["port"])
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)
            process.stdout.close()


@pytest.fixture
def guarded(gateway, secrets, oidc_provider):
    """Starts a gateway that authenticates by a method, with the right secret or another."""

    def start(method, secret=None, **keys):
        client_id, right = CLIENTS[method]
        secret = secrets.add_client(client_id, secret or right)
        return gateway(
            endpoint=oidc_provider.introspection_endpoint,
            client_id=client_id,
            client_secret=secret,
            client_auth=method,
            **keys,
        )

    return start


def test_the_server_itself_knows_its_tokens(oidc_provider):
    for method in CLIENTS:
        token = oidc_provider.issue(method)
        assert "." not in token
        answer = oidc_provider.call("/token/introspection", method, {"token": token})
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
    line = nginx.only_line("acme")
    assert re.search(r"\bdialect\b|\bjwt_claim\b", line), line
    assert api.requests == []


@pytest.mark.parametrize("method", CLIENTS)
@pytest.mark.parametrize("dialect", ["auto", "json", "jwt"])
def test_an_unknown_token_is_401_invalid_token(guarded, api, secrets, method, dialect):
    nginx = guarded(method, dialect=dialect)
    answer = get(nginx.port, token=secrets.token())
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.value("www-authenticate")
    assert nginx.log_lines("acme") == []
    assert api.requests == []


def test_a_revoked_token_is_401(guarded, oidc_provider, secrets):
    nginx = guarded("client_secret_basic")
    token = secrets.add(oidc_provider.issue("client_secret_basic"))
    oidc_provider.call("/token/revocation", "client_secret_basic", {"token": token})
    assert get(nginx.port, token=token).status == 401


@pytest.mark.parametrize("method", CLIENTS)
def test_a_wrong_secret_is_502_and_the_log_names_client_authentication(guarded, oidc_provider, api, secrets, method):
    nginx = guarded(method, secret="not-the-secret-0123456789")
    answer = get(nginx.port, token=secrets.add(oidc_provider.issue(method)))
    assert answer.status == 502
    line = nginx.only_line("acme")
    assert re.search(r"client_id|client_secret|client_auth|client authentication", line), line
    assert api.requests == []


def test_many_tokens_are_asked_about_over_kept_connections(guarded, secrets):
    nginx = guarded("client_secret_basic")
    assert {get(nginx.port, token=secrets.token()).status for _ in range(30)} == {401}
