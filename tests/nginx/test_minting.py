"""Dialect `mint`: refresh tokens, and authorization servers whose users must not be confused."""

import json

import pytest

from harness.client import get
from harness.keys import private_pem
from harness.nginx import Configuration

KEYS = {"one.pem": private_pem("ES256", "one"), "two.pem": private_pem("ES256", "two")}


def minting(name, key="one.pem", mint_issuer="https://gateway.example", **words):
    keys = {"client_id": "gateway", "client_auth": "none", **words}
    lines = "\n".join(f"    {key} {value};" for key, value in keys.items())
    return f"""phantom_token_provider {name} {{
{lines}
    dialect mint;
    mint_key {key};
    mint_issuer {mint_issuer};
}}"""


def check(*blocks, used=("one", "two")):
    locations = "\n".join(f"location /{name} {{ phantom_token {name}; }}" for name in used)
    configuration = Configuration("\n".join([*blocks, f"server {{ listen @listen@; {locations} }}"]), files=KEYS)
    code, words = configuration.check()
    configuration.remove()
    return code, words


A, B = "http://127.0.0.1:1/a", "http://127.0.0.1:1/b"


@pytest.mark.parametrize(
    "one, two",
    [
        ({"introspection_endpoint": A}, {"introspection_endpoint": B}),
        ({"issuer": A}, {"issuer": B}),
        ({"introspection_endpoint": A}, {"introspection_endpoint": B, "key": "two.pem"}),
        ({"introspection_endpoint": A}, {"issuer": A}),
    ],
)
def test_two_authorization_servers_do_not_mint_under_one_name(one, two):
    """`alice` of one would be `alice` of the other to every API."""
    code, words = check(minting("one", **one), minting("two", **two))
    assert code != 0
    line = next(line for line in words.splitlines() if "[emerg]" in line)
    for word in ("mint_issuer", "https://gateway.example", '"one"', '"two"', "give each its own mint_issuer", "nginx.conf:"):
        assert word in line, line


@pytest.mark.parametrize(
    "one, two",
    [
        # The same server for two kinds of clients.
        ({"introspection_endpoint": A}, {"introspection_endpoint": A, "client_id": "other"}),
        ({"issuer": A}, {"issuer": A, "mint_claims": "sub"}),
        ({"issuer": A}, {"issuer": A, "introspection_endpoint": B}),
        ({"introspection_endpoint": A}, {"introspection_endpoint": B, "mint_issuer": "https://other.example"}),
    ],
)
def test_one_authorization_server_may_be_configured_twice(one, two):
    code, words = check(minting("one", **one), minting("two", **two))
    assert code == 0, words


def test_a_provider_that_no_location_uses_mints_nothing():
    code, words = check(
        minting("one", introspection_endpoint=A), minting("two", introspection_endpoint=B), used=("one",)
    )
    assert code == 0, words


def test_token_type_any_is_a_warning_that_says_what_it_opens():
    code, words = check(minting("one", introspection_endpoint=A, token_type="any"), used=("one",))
    assert code == 0
    line = next(line for line in words.splitlines() if "[warn]" in line and "token_type any" in line)
    assert "refresh token" in line and '"one"' in line


@pytest.fixture
def refresh_token(authorization_server, secrets):
    form = {"grant_type": "password", "username": "alice", "password": "wonderland", "scope": "read offline_access"}
    status, body = authorization_server.call("POST", "/token", form=form)
    assert status == 200
    body = json.loads(body)
    secrets.add(body["access_token"])
    return secrets.add(body["refresh_token"])


@pytest.fixture
def minted(gateway, authorization_server):
    def start(**words):
        return gateway(
            endpoint=authorization_server.introspection_endpoint(jwt_claim=""),
            client_id=authorization_server.client_id,
            client_secret=authorization_server.client_secret,
            dialect="mint",
            mint_key="one.pem",
            mint_issuer="https://gateway.example",
            files=KEYS,
            location="add_header X-Result $phantom_token_result always; add_header X-Cache $phantom_token_cache always;",
            **words,
        )

    return start


def test_a_refresh_token_opens_no_api(minted, authorization_server, refresh_token, api):
    nginx = minted()
    for cache in ("MISS", "HIT"):
        answer = get(nginx.port, token=refresh_token)
        assert (answer.status, answer.value("x-result"), answer.value("x-cache")) == (401, "inactive", cache)
        assert 'error="invalid_token"' in answer.value("www-authenticate")
    line = nginx.only_line(r"\[warn\].*an active token is refused")
    assert "may be a refresh token" in line and "token_type any" in line
    assert api.requests == []
    assert authorization_server.introspections(refresh_token) == 1
    assert get(nginx.port, token=authorization_server.issue()).status == 200


def test_an_operator_can_let_in_what_the_server_does_not_name(minted, refresh_token, api):
    nginx = minted(token_type="any")
    assert get(nginx.port, token=refresh_token).status == 200
    assert len(api.requests) == 1


def test_an_audience_can_be_asked_for(minted, authorization_server, api):
    nginx = minted(verify_audience="https://api.example other")
    for audience, status in [("https://api.example", 200), ("https://elsewhere.example", 401)]:
        assert get(nginx.port, token=authorization_server.issue(audience=audience)).status == status
    assert len(api.requests) == 1


def test_names_that_stand_twice_and_numbers_that_are_too_large_are_502(gateway, ugly, api, secrets):
    nginx = gateway(dialect="json")
    for body in [
        '{"active":true,"jwt":"%s","cnf":{"jkt":"a","jkt":"b"}}',
        '{"active":true,"jwt":"%s","account":18446744073709551616}',
        '{"active":true,"jwt":"%s","account":1e300}',
    ]:
        ugly.answer = lambda exchange, body=body: exchange.reply(body=body % exchange.jwt(), content_type="application/json")
        assert get(nginx.port, token=secrets.token()).status == 502
    assert api.requests == []
