"""The variables, and where in nginx they can be used."""

import time

import pytest

from harness import config
from harness.client import get, get2

# How a request is sent, and what nginx listens for.
PROTOCOLS = [pytest.param((get, ""), id="http1"), pytest.param((get2, "http2"), id="http2")]

CLAIMS = {
    "sub": "alice",
    "client_id": "web",
    "scope": "read write",
    "tenant": {"id": 7, "name": "acme", "tags": ["a", "b"]},
    "groups": ["x", "y z"],
    "roles": ["admin", "user"],
    "verified": True,
    "evil": "a\r\nX-Injected: 1",
}


def gate(gateway, ugly, **how):
    ugly.answer = lambda exchange: exchange.active(**CLAIMS)
    return gateway(**how)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_claims_go_to_the_api_as_headers(gateway, ugly, api, secrets, protocol):
    request_it, listen = protocol
    nginx = gate(
        gateway,
        ugly,
        listen=listen,
        location="""
        proxy_set_header X-Sub $phantom_token_sub;
        proxy_set_header X-Client $phantom_token_client_id;
        proxy_set_header X-Scope $phantom_token_scope;
        proxy_set_header X-Expires $phantom_token_expires_in;
        proxy_set_header X-Tenant $phantom_token_claim_tenant__name;
        proxy_set_header X-Tenant-Id $phantom_token_claim_tenant__id;
        proxy_set_header X-Tags $phantom_token_claim_tenant__tags;
        proxy_set_header X-Roles $phantom_token_claim_roles;
        proxy_set_header X-Verified $phantom_token_claim_verified;
        proxy_set_header X-Evil "<$phantom_token_claim_evil>";
        proxy_set_header X-Groups "<$phantom_token_claim_groups>";
        proxy_set_header X-None "<$phantom_token_claim_none__at__all>";
        """,
    )
    token = secrets.token()
    for count in (1, 2):
        assert request_it(nginx.port, token=token).status == 200
        request = api.wait(count)[-1]
        seen = {name: request.values(name) for name in request_headers(request)}
        assert seen["x-sub"] == ["alice"]
        assert seen["x-client"] == ["web"]
        assert seen["x-scope"] == ["read write"]
        assert 3590 <= int(seen["x-expires"][0]) <= 3600
        assert seen["x-tenant"] == ["acme"]
        assert seen["x-tenant-id"] == ["7"]
        assert seen["x-tags"] == ["a b"]
        assert seen["x-roles"] == ["admin user"]
        assert seen["x-verified"] == ["true"]
        # What would be two lines, or two values, is none.
        assert seen["x-evil"] == ["<>"] and "x-injected" not in seen
        assert seen["x-groups"] == ["<>"]
        assert seen["x-none"] == ["<>"]


def request_headers(request):
    return {name.lower() for name, _ in request.headers}


def test_of_a_token_that_is_refused_nothing_is_claimed(gateway, ugly, api, secrets):
    shown = 'add_header X-Seen "$phantom_token_sub|$phantom_token_claim_sub|$phantom_token_scope|$phantom_token_expires_in" always;'
    nginx = gate(gateway, ugly, location=f"phantom_token_scopes admin; {shown}")
    answer = get(nginx.port, token=secrets.token())
    assert (answer.status, answer.value("x-seen")) == (403, "|||")


@pytest.mark.parametrize("phase", ["access", "preaccess"])
def test_under_satisfy_any_a_refused_token_claims_nothing_at_the_api(gateway, ugly, api, secrets, phase):
    nginx = gate(
        gateway,
        ugly,
        http="map $phantom_token_sub $who { default $phantom_token_sub; }",
        location=f"""
        phantom_token_phase {phase};
        phantom_token_scopes admin;
        satisfy any;
        allow all;
        proxy_set_header X-User "<$phantom_token_sub$who>";
        """,
    )
    assert get(nginx.port, token=secrets.token()).status == 200
    request = api.only()
    assert request.value("x-user") == "<>"
    assert request.values("authorization") == []


def test_a_map_of_a_claim_chooses_the_upstream(gateway, ugly, api, secrets, start_nginx):
    ugly.answer = lambda exchange: exchange.active(tenant="b" if exchange.token.startswith("of-b") else "a")
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
map $phantom_token_claim_tenant $pool {{ default none; a {api.address}; b {api.address}/of-b; }}
upstream hashed {{ hash $phantom_token_sub consistent; server {api.address}; server {api.address} weight=2; }}
server {{
    listen @listen@;
    phantom_token acme;
    location /mapped {{ proxy_pass http://$pool; }}
    location /hashed {{ proxy_pass http://hashed; }}
}}
"""
    )
    assert get(nginx.port, "/mapped", token=secrets.token("of-a")).status == 200
    assert get(nginx.port, "/mapped", token=secrets.token("of-b")).status == 200
    assert get(nginx.port, "/hashed", token=secrets.token("of-a")).status == 200
    assert [request.target for request in api.wait(3)] == ["/mapped", "/of-b", "/hashed"]


def test_the_access_log_has_them_after_the_answer(gateway, ugly, secrets):
    nginx = gate(
        gateway,
        ugly,
        http="log_format seen '$status $phantom_token_id $phantom_token_sub $phantom_token_result $phantom_token_reason';",
        location="access_log seen.log seen;",
    )
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert get(nginx.port, token="a b").status == 400
    assert get(nginx.port).status == 401
    deadline = time.monotonic() + 10
    while len(lines := (nginx.dir / "seen.log").read_text().splitlines()) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    status, identifier, sub, result, reason = lines[0].split()
    assert (status, sub, result, reason) == ("200", "alice", "ok", "-")
    assert len(identifier) == 16
    assert lines[1].split() == ["400", "-", "-", "malformed", "token"]
    assert lines[2].split() == ["401", "-", "-", "missing", "-"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_requests_are_limited_by_what_a_token_says_when_it_is_resolved_early(
    gateway, ugly, api, secrets, protocol
):
    request_it, listen = protocol
    ugly.answer = lambda exchange: exchange.active(sub=exchange.token[:5])
    nginx = gateway(
        listen=listen,
        http="limit_req_zone $phantom_token_sub zone=users:1m rate=1r/m;",
        location="phantom_token_phase preaccess; limit_req zone=users burst=1 nodelay; limit_req_status 429;",
    )
    first, second = secrets.token("alice"), secrets.token("bobby")
    assert [request_it(nginx.port, token=first).status for _ in range(4)] == [200, 200, 429, 429]
    assert [request_it(nginx.port, token=second).status for _ in range(3)] == [200, 200, 429]
    # Another token of the same user counts for the same user.
    assert request_it(nginx.port, token=secrets.token("alice")).status == 429
    assert len(api.requests) == 4
    # Who has no good token is refused by the access phase as ever.
    assert request_it(nginx.port).status == 401


def test_in_the_access_phase_claims_come_too_late_for_the_limits(gateway, ugly, secrets):
    ugly.answer = lambda exchange: exchange.active(sub="alice")
    nginx = gateway(
        http="limit_req_zone $phantom_token_sub zone=users:1m rate=1r/m;",
        location="limit_req zone=users; limit_req_status 429;",
    )
    token = secrets.token()
    assert [get(nginx.port, token=token).status for _ in range(3)] == [200, 200, 200]


def test_a_token_that_is_resolved_early_is_resolved_once(gateway, ugly, api, secrets):
    nginx = gate(gateway, ugly, location="phantom_token_phase preaccess; add_header X-Cache $phantom_token_cache always;")
    token = secrets.token()
    assert [get(nginx.port, token=token).value("x-cache") for _ in range(2)] == ["MISS", "HIT"]
    assert ugly.calls_for(token) == 1
    assert [request.value("authorization") for request in api.wait(2)] == [f"Bearer {ugly.jwt_for(token, **CLAIMS)}"] * 2


def test_whom_deny_refuses_is_asked_about_only_when_tokens_are_resolved_early(gateway, ugly, secrets):
    nginx = gateway(location="deny all;")
    assert get(nginx.port, token=secrets.token()).status == 403
    assert ugly.calls == []
