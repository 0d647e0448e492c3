"""Policies: requirements for a token beyond being active, and the responses to tokens that do not meet them."""

import time

import pytest

from harness.client import get, get2

# How a request is sent, and what nginx listens for.
PROTOCOLS = [pytest.param((get, ""), id="http1"), pytest.param((get2, "http2"), id="http2")]


def gate(gateway, ugly, location, claims, **how):
    """A gateway whose provider says `claims` of every token."""
    ugly.answer = lambda exchange: exchange.active(**claims)
    return gateway(location=location + " add_header X-Reason $phantom_token_reason always;", **how)


# Directives of a location, what the token claims, and the answer: status, reason, error code.
TABLE = {
    "all scopes of a line": ('phantom_token_scopes "a b";', {"scope": "b x a"}, (200, None, None)),
    "one scope of a line is lacking": (
        'phantom_token_scopes "a b";',
        {"scope": "a"},
        (403, "scope:b", "insufficient_scope"),
    ),
    "the second line is met": (
        'phantom_token_scopes "a b"; phantom_token_scopes c;',
        {"scope": "c"},
        (200, None, None),
    ),
    "no line is met": (
        'phantom_token_scopes "a b"; phantom_token_scopes c;',
        {"scope": "b"},
        (403, "scope:a", "insufficient_scope"),
    ),
    "a single scope is asked for in any case": (
        "phantom_token_scopes a; phantom_token_scopes b; phantom_token_scope z;",
        {"scope": "a b"},
        (403, "scope:z", "insufficient_scope"),
    ),
    "the audience is among those of the token": (
        "phantom_token_audience orders bills;",
        {"aud": ["x", "bills"]},
        (200, None, None),
    ),
    "another audience": (
        "phantom_token_audience orders;",
        {"aud": ["orders-2"]},
        (401, "audience", "invalid_token"),
    ),
    "no audience": ("phantom_token_audience orders;", {}, (401, "audience", "invalid_token")),
    "the issuer": ("phantom_token_issuer https://as;", {"iss": "https://as"}, (200, None, None)),
    "another issuer": (
        "phantom_token_issuer https://as;",
        {"iss": "https://as/"},
        (401, "issuer", "invalid_token"),
    ),
    "the client": ("phantom_token_client web app;", {"client_id": "app"}, (200, None, None)),
    "another client": (
        "phantom_token_client web app;",
        {"client_id": "other"},
        (403, "client", "insufficient_scope"),
    ),
    "a claim is one of several": (
        "phantom_token_require tenant acme umbrella;",
        {"tenant": "umbrella"},
        (200, None, None),
    ),
    "a claim is another": (
        "phantom_token_require tenant acme umbrella;",
        {"tenant": "acm"},
        (403, "claim:tenant", "insufficient_scope"),
    ),
    "a claim is not there": (
        "phantom_token_require tenant acme;",
        {},
        (403, "claim:tenant", "insufficient_scope"),
    ),
    "a list has the value": (
        "phantom_token_require realm_access.roles admin;",
        {"realm_access": {"roles": ["user", "admin"]}},
        (200, None, None),
    ),
    "a list has it not": (
        "phantom_token_require realm_access.roles admin;",
        {"realm_access": {"roles": ["user", "administrator"]}},
        (403, "claim:realm_access.roles", "insufficient_scope"),
    ),
    "a name that is a URL": (
        'phantom_token_require "https://example.com/tier" gold;',
        {"https://example.com/tier": "gold"},
        (200, None, None),
    ),
    "a regular expression": (
        "phantom_token_require email '~@example\\.com$';",
        {"email": "a@example.com"},
        (200, None, None),
    ),
    "a regular expression that does not match": (
        "phantom_token_require email '~@example\\.com$';",
        {"email": "a@example.com.evil"},
        (403, "claim:email", "insufficient_scope"),
    ),
    "a boolean and a number": (
        "phantom_token_require email_verified true; phantom_token_require level 3;",
        {"email_verified": True, "level": 3},
        (200, None, None),
    ),
    "a claim that must be there": (
        "phantom_token_require approved;",
        {"approved": False},
        (403, "claim:approved", "insufficient_scope"),
    ),
    "a claim equal to a variable": (
        "phantom_token_require tenant $http_x_tenant;",
        {"tenant": "acme"},
        (200, None, None),
    ),
    "a claim other than a variable": (
        "phantom_token_require tenant $http_x_tenant;",
        {"tenant": "umbrella"},
        (403, "claim:tenant", "insufficient_scope"),
    ),
    "a variable that is empty is equal to nothing": (
        "phantom_token_require tenant $http_x_none;",
        {"tenant": ""},
        (403, "claim:tenant", "insufficient_scope"),
    ),
    "a variable within a text": (
        "phantom_token_require tenant corp-$http_x_tenant;",
        {"tenant": "corp-acme"},
        (200, None, None),
    ),
    "authenticated lately": (
        "phantom_token_max_age 5m;",
        {"auth_time": int(time.time()) - 100, "iat": 1},
        (200, None, None),
    ),
    "authenticated long ago": (
        "phantom_token_max_age 5m;",
        {"auth_time": int(time.time()) - 400, "iat": int(time.time())},
        (401, "max_age", "insufficient_user_authentication"),
    ),
    "issued long ago, of a token without auth_time": (
        "phantom_token_max_age 5m;",
        {"iat": int(time.time()) - 400},
        (401, "max_age", "insufficient_user_authentication"),
    ),
    "authenticated well enough": ("phantom_token_acr mfa hwk;", {"acr": "hwk"}, (200, None, None)),
    "not authenticated well enough": (
        "phantom_token_acr mfa hwk;",
        {"acr": "pwd"},
        (401, "acr", "insufficient_user_authentication"),
    ),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE.keys())
def test_a_token_passes_exactly_where_it_suffices(gateway, ugly, api, secrets, row, protocol):
    location, claims, (status, reason, error) = row
    request_it, listen = protocol
    nginx = gate(gateway, ugly, location, claims, listen=listen)
    token = secrets.token()
    # Of what is remembered no less is asked than of what is new.
    for _ in range(2):
        answer = request_it(nginx.port, token=token, headers=[("x-tenant", "acme")])
        assert (answer.status, answer.value("x-reason")) == (status, reason)
        challenge = answer.value("www-authenticate")
        if error is None:
            assert challenge is None
        else:
            assert challenge.startswith('Bearer realm="api"')
            assert f'error="{error}"' in challenge
    assert ugly.calls_for(token) == 1
    assert len(api.requests) == (2 if status == 200 else 0)


def test_who_must_log_in_anew_is_told_how(gateway, ugly, secrets):
    nginx = gate(gateway, ugly, "phantom_token_acr mfa hwk; phantom_token_max_age 10m;", {"acr": "pwd"})
    answer = get(nginx.port, token=secrets.token())
    assert answer.status == 401
    assert answer.value("www-authenticate") == (
        'Bearer realm="api", error="insufficient_user_authentication", acr_values="mfa hwk", max_age="600"'
    )
    assert answer.json()["code"] == "insufficient_user_authentication"


def test_parts_are_inherited_one_by_one(gateway, ugly, api, secrets):
    ugly.answer = lambda exchange: exchange.active(
        scope="a", aud="orders", client_id="web", tenant="acme", iss="https://as"
    )
    nginx = gateway(
        http="phantom_token_issuer https://as; phantom_token_require tenant umbrella;",
        server=f"""
        phantom_token_audience orders;
        phantom_token_require  tenant acme;
        phantom_token          acme;
        location = /inherited {{ proxy_pass {api.url}; }}
        location = /scope     {{ phantom_token_scopes b; proxy_pass {api.url}; }}
        location = /audience  {{ phantom_token_audience bills; proxy_pass {api.url}; }}
        location = /require   {{ phantom_token_require client_id other; proxy_pass {api.url}; }}
        location = /issuer    {{ phantom_token_issuer https://other; proxy_pass {api.url}; }}
        location /nested      {{
            phantom_token_client web;
            if ($arg_x) {{ set $y 1; }}
            location = /nested/deeper {{ phantom_token_client other; proxy_pass {api.url}; }}
            proxy_pass {api.url};
        }}
        """,
    )
    token = secrets.token()
    expected = {"/inherited": 200, "/scope": 403, "/audience": 401, "/require": 403, "/issuer": 401, "/nested": 200}
    assert {path: get(nginx.port, path, token=token).status for path in expected} == expected
    assert get(nginx.port, "/nested?x=1", token=token).status == 200
    assert get(nginx.port, "/nested/deeper", token=token).status == 403


def test_a_refusal_is_one_line_at_info_with_its_reason_and_the_tokens_id(gateway, ugly, secrets):
    nginx = gate(
        gateway,
        ugly,
        "phantom_token_scopes write; add_header X-Id $phantom_token_id always;",
        {"scope": "read"},
    )
    token = secrets.token()
    answer = get(nginx.port, token=token)
    identifier = answer.value("x-id")
    assert len(identifier) == 16 and int(identifier, 16) >= 0
    assert get(nginx.port, token=token).value("x-id") == identifier
    lines = nginx.log_lines(f"refused: forbidden scope:write, token {identifier}")
    assert len(lines) == 2
    assert all("[info]" in line for line in lines)
    other = get(nginx.port, token=secrets.token()).value("x-id")
    assert other != identifier


def test_a_policy_of_variables_is_not_one_of_the_first_request(gateway, ugly, api, secrets):
    nginx = gate(gateway, ugly, "phantom_token_require tenant $http_x_tenant;", {"tenant": "acme"})
    token = secrets.token()
    seen = [
        get(nginx.port, token=token, headers=[("X-Tenant", tenant)]).status
        for tenant in ("acme", "umbrella", "acme", "", "ACME", "~.*")
    ]
    assert seen == [200, 403, 200, 403, 403, 403]
    assert len(api.requests) == 2
