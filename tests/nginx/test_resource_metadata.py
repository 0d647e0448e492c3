"""Protected resource metadata (RFC 9728): `phantom_token_resource` and `phantom_token_resource_metadata`."""

import pytest

from harness import config
from harness.client import get, get2

PROTOCOLS = [pytest.param((get, ""), id="http1"), pytest.param((get2, "http2"), id="http2")]
WELL_KNOWN = "/.well-known/oauth-protected-resource"
RESOURCE = "https://api.example.com/orders"


@pytest.fixture
def publish(start_nginx, ugly, api, secrets):
    """Starts a gateway that publishes metadata; `server` holds what applies to all of it."""

    def start(server="phantom_token acme;", parameters="", location="", listen="", issuer="https://as.example.com"):
        keys = {"issuer": issuer} if issuer else {}
        return start_nginx(
            f"""
{config.provider(ugly.url, secrets, **keys)}
{config.provider(ugly.url, secrets, name="other", issuer="https://other.example.com")}
server {{
    listen @listen@ {listen};
    phantom_token_resource {RESOURCE};
    {server}
    location / {{ proxy_pass {api.url}; }}
    location {WELL_KNOWN} {{ phantom_token_resource_metadata {parameters}; {location} }}
}}
"""
        )

    return start


def checks(document):
    """The part that says which proofs of senders are checked."""
    return {
        name: document.pop(name)
        for name in ("dpop_signing_alg_values_supported", "tls_client_certificate_bound_access_tokens")
        if name in document
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_document_says_what_applies_where_it_is_published(publish, ugly, api, protocol):
    get_, listen = protocol
    nginx = publish(listen=listen)
    answer = get_(nginx.port, f"{WELL_KNOWN}/orders")
    assert answer.status == 200
    assert answer.value("content-type") == "application/json"
    assert answer.value("cache-control") == "public, max-age=3600"
    assert answer.value("access-control-allow-origin") == "*"
    document = answer.json()
    proofs = checks(document)
    assert "ES256" in proofs["dpop_signing_alg_values_supported"]
    assert proofs["tls_client_certificate_bound_access_tokens"] is True
    assert document == {
        "resource": RESOURCE,
        "authorization_servers": ["https://as.example.com"],
        "bearer_methods_supported": ["header"],
    }
    assert (ugly.calls, api.requests) == ([], [])


def test_it_is_public_whatever_is_asked_of_a_token(publish, secrets):
    nginx = publish("phantom_token acme; phantom_token_scopes a;")
    for how in ({}, {"token": secrets.token()}, {"authorization": "Bearer"}):
        assert get(nginx.port, WELL_KNOWN, **how).status == 200
    assert get(nginx.port, "/").status == 401


def test_scopes_are_those_that_are_asked_for_around_it(publish):
    nginx = publish('phantom_token acme; phantom_token_scopes "b a"; phantom_token_scopes c;')
    assert sorted(get(nginx.port, WELL_KNOWN).json()["scopes_supported"]) == ["a", "b", "c"]


def test_what_is_said_goes_before_what_applies(publish):
    nginx = publish(
        "phantom_token acme; phantom_token_scopes a;",
        parameters='"scopes=read write" "authorization_servers=https://one.example https://two.example" '
        '"name=Orders \\"and\\" bills" documentation=https://api.example.com/docs '
        "policy_uri=https://api.example.com/policy tos_uri=https://api.example.com/tos "
        "jwks_uri=https://api.example.com/jwks",
        issuer=None,
    )
    document = get(nginx.port, WELL_KNOWN).json()
    checks(document)
    assert document == {
        "resource": RESOURCE,
        "authorization_servers": ["https://one.example", "https://two.example"],
        "scopes_supported": ["read", "write"],
        "bearer_methods_supported": ["header"],
        "resource_name": 'Orders "and" bills',
        "resource_documentation": "https://api.example.com/docs",
        "resource_policy_uri": "https://api.example.com/policy",
        "resource_tos_uri": "https://api.example.com/tos",
        "jwks_uri": "https://api.example.com/jwks",
    }


@pytest.mark.parametrize(
    "source, methods",
    [
        ("authorization query access_token", ["header", "query"]),
        ("query access_token", ["query"]),
        ("query token", []),
        ("cookie session header X-Token", []),
    ],
)
def test_bearer_methods_are_those_of_rfc_6750(publish, source, methods):
    nginx = publish(f"phantom_token acme; phantom_token_source {source};")
    assert get(nginx.port, WELL_KNOWN).json()["bearer_methods_supported"] == methods


def test_proofs_are_not_promised_where_nobody_looks_at_them(publish):
    nginx = publish("phantom_token acme; phantom_token_sender_constraint ignore;")
    assert checks(get(nginx.port, WELL_KNOWN).json()) == {}


def test_all_providers_that_may_be_chosen_are_named(publish):
    nginx = publish("phantom_token $arg_tenant acme other;")
    servers = get(nginx.port, WELL_KNOWN).json()["authorization_servers"]
    assert servers == ["https://as.example.com", "https://other.example.com"]


def test_other_methods(publish):
    nginx = publish()
    answer = get(nginx.port, WELL_KNOWN, "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.value("content-length")) > 0
    preflight = [("Origin", "https://x"), ("Access-Control-Request-Method", "GET")]
    answer = get(nginx.port, WELL_KNOWN, "OPTIONS", headers=preflight)
    assert (answer.status, answer.value("access-control-allow-headers")) == (204, "*")
    assert answer.value("access-control-allow-methods") == "GET, HEAD"
    answer = get(nginx.port, WELL_KNOWN, "POST", body=b"x")
    assert (answer.status, answer.value("allow")) == (405, "GET, HEAD, OPTIONS")


def test_other_checks_of_the_location_apply(publish):
    assert get(publish(location="deny all;").port, WELL_KNOWN).status == 403


def test_a_part_of_the_location_publishes_the_same(publish):
    nginx = publish(location="if ($arg_x) { set $y 1; } limit_except GET { deny all; }")
    plain = get(nginx.port, WELL_KNOWN).json()
    assert get(nginx.port, f"{WELL_KNOWN}?x=1").json() == plain
    assert get(nginx.port, WELL_KNOWN, "POST").status == 403


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_challenges_name_it(start_nginx, ugly, api, secrets, protocol):
    get_, listen = protocol
    ugly.answer = lambda exchange: exchange.inactive()
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
phantom_token acme;
phantom_token_resource https://api.example.com/;
server {{
    listen @listen@ {listen};
    location / {{ proxy_pass {api.url}; }}
    location /own {{ phantom_token_resource https://api.example.com/own?x; proxy_pass {api.url}; }}
}}
"""
    )
    url = f"https://api.example.com{WELL_KNOWN}"
    for path, where in (("/", url), ("/own", f"{url}/own?x")):
        for how in ({}, {"token": secrets.token()}):
            assert f'resource_metadata="{where}"' in get_(nginx.port, path, **how).value("www-authenticate")
