"""The module against oidc-provider, a certified authorization server whose introspection gives no JWT.

What needs no key of ours is here: discovery from an issuer, how client authentication by a secret looks to a strict
server, how an inactive token and refused credentials come out, and that the log says what to set.
"""

import re

import pytest

from harness.client import get

METHODS = ("client_secret_basic", "client_secret_post")
OURS = r"\[(warn|error)\].*acme"


def test_the_server_itself_knows_its_tokens(oidc_provider):
    token = oidc_provider.issue()
    assert "." not in token
    status, answer = oidc_provider.call(
        "/token/introspection", {"token": token}, basic=oidc_provider.secrets["client_secret_basic"]
    )
    assert status == 200
    assert answer["active"] is True
    assert "jwt" not in answer


@pytest.mark.parametrize("method", METHODS)
def test_an_active_token_without_a_jwt_is_502_and_the_log_says_what_to_set(
    guarded, oidc_provider, api, secrets, method
):
    nginx = guarded(method, client_auth=method)
    token = secrets.add(oidc_provider.issue())
    answer = get(nginx.port, token=token)
    assert answer.status == 502
    assert answer.json()["code"] == "server_error"
    assert answer.value("www-authenticate") is None
    line = nginx.only_line(OURS)
    assert re.search(r"\bdialect\b|\bjwt_claim\b", line), line
    assert api.requests == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dialect", ["auto", "json", "jwt"])
def test_an_unknown_token_is_401_invalid_token(guarded, api, secrets, method, dialect):
    nginx = guarded(method, client_auth=method, dialect=dialect)
    answer = get(nginx.port, token=secrets.token())
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.value("www-authenticate")
    assert nginx.log_lines(OURS) == []
    assert api.requests == []


def test_what_is_set_wins_over_what_was_discovered(guarded, oidc_provider, secrets):
    nginx = guarded(introspection_endpoint=f"{oidc_provider.base}/nowhere")
    assert get(nginx.port, token=secrets.token()).status == 502


def test_metadata_of_another_issuer_is_refused(guarded, oidc_provider, secrets):
    """By its address the server has metadata of the issuer that has its name (RFC 8414 §3.3)."""
    nginx = guarded(issuer=oidc_provider.base.replace("localhost", "127.0.0.1"), timeout="2s")
    assert get(nginx.port, token=secrets.token()).status in (502, 503, 504)
    assert "issuer" in nginx.only_line(OURS)


def test_a_revoked_token_is_401(guarded, oidc_provider, secrets):
    nginx = guarded()
    token = secrets.add(oidc_provider.issue())
    oidc_provider.revoke(token)
    assert get(nginx.port, token=token).status == 401


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_secret_is_502_and_the_log_names_client_authentication(guarded, oidc_provider, api, secrets, method):
    nginx = guarded(method, secret="not-the-secret-0123456789", client_auth=method)
    answer = get(nginx.port, token=secrets.add(oidc_provider.issue()))
    assert answer.status == 502
    line = nginx.only_line(OURS)
    assert re.search(r"client_id|client_secret|client_auth|client authentication", line), line
    assert api.requests == []


def test_many_tokens_are_asked_about_over_kept_connections(guarded, secrets):
    nginx = guarded()
    assert {get(nginx.port, token=secrets.token()).status for _ in range(30)} == {401}
