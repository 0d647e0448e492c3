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
        # A claim that would become two lines, or two values, is empty.
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


# --- values that nginx keeps --------------------------------------------------------------------------------------

# A location's headers that say what the gateway says.
USER = "phantom_token_set_header X-User $phantom_token_sub;"
FORGED = [("X-User", "root")]

# How a request presents a token other than in `Authorization`.
SOURCES = {
    "cookie session": lambda token: {"headers": [("cookie", f"session={token}")]},
    "header X-Token": lambda token: {"headers": [("x-token", token)]},
    "query access_token": lambda token: {"target": f"/?access_token={token}"},
}


def by_name(ugly):
    """The subject of a token is how it begins, up to the hyphen."""
    ugly.answer = lambda exchange: exchange.active(sub=exchange.token.partition("-")[0])


def ask(nginx, how):
    how = dict(how)
    return get(nginx.port, how.pop("target", "/"), **how)


@pytest.mark.parametrize("cold", [True, False], ids=["miss", "hit"])
@pytest.mark.parametrize("source", SOURCES)
def test_an_empty_authorization_from_before_the_swap_is_forgotten(gateway, ugly, api, secrets, source, cold):
    nginx = gateway(
        http='map $http_authorization $mapped { "" none; default $http_authorization; } map "$mapped" $twice { default $mapped; }',
        location=f"""
            phantom_token_source {source};
            if ($http_authorization = "nope") {{ return 418; }}
            if ($twice = "nope") {{ return 418; }}
            proxy_set_header Authorization $http_authorization;
            proxy_set_header X-Twice $twice;
        """,
    )
    token = secrets.token()
    for _ in range(1 if cold else 2):
        assert ask(nginx, SOURCES[source](token)).status == 200
    for request in api.requests:
        assert request.value("authorization") == f"Bearer {ugly.jwt_for(token)}"
        assert request.value("x-twice") == f"Bearer {ugly.jwt_for(token)}"


@pytest.mark.parametrize("early", [True, False], ids=["evaluated-before", "not"])
@pytest.mark.parametrize(
    "forward, key",
    [
        ("", "$http_authorization"),
        ("", "$phantom_token_id"),
        ("phantom_token_forward header X-Jwt;", "$http_x_jwt"),
        ("phantom_token_forward header X-Jwt;", "$phantom_token_id"),
    ],
)
@pytest.mark.parametrize("source", ["authorization", *SOURCES])
def test_nobody_gets_what_was_cached_for_somebody_else(gateway, ugly, api, secrets, source, forward, key, early):
    """The keys are those of docs/nginx.md, "Caches"."""
    nginx = gateway(
        http="proxy_cache_path @dir@/cache keys_zone=cache:1m;",
        location=f"""
            phantom_token_source {source};
            {forward}
            {f'if ({key} = "nope") {{ return 418; }}' if early else ""}
            proxy_cache cache;
            proxy_cache_key "$scheme$proxy_host$uri {key}";
            proxy_cache_valid 1h;
        """,
    )
    api.answer = lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (
        len(jwt_in(request)),
        jwt_in(request),
    )
    alice, bob = secrets.token(), secrets.token()
    how = SOURCES.get(source, lambda token: {"token": token})
    for token in (alice, bob, alice, bob):
        assert ask(nginx, how(token)).body == ugly.jwt_for(token).encode()
    # It has been cached, by the token.
    assert len(api.requests) == 2


def jwt_in(request):
    return "".join(request.values("authorization") + request.values("x-jwt")).removeprefix("Bearer ").encode()


@pytest.mark.parametrize("forged", [FORGED, []], ids=["forged", "not"])
@pytest.mark.parametrize("present", [True, False], ids=["token", "anonymous"])
@pytest.mark.parametrize("place", ["http", "server", "location"])
def test_every_reader_of_a_header_of_ours_sees_what_we_say(start_nginx, ugly, api, secrets, place, present, forged):
    """Directly, by `map`, by `map` of `map`, `geo` and `split_clients`; evaluated early by `if`, or not."""
    here = {name: USER if name == place else "" for name in ("http", "server", "location")}
    readers = 'X-Remote-User "<$http_x_user>"; proxy_set_header X-Admin "$is_admin$really"; proxy_set_header X-Net $net; proxy_set_header X-Half $half'
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
map $http_x_user $is_admin {{ default no; root admin; 10.0.0.1 admin; }}
map "$is_admin" $really {{ default no; admin admin; }}
geo $http_x_user $net {{ default none; 10.0.0.0/8 inside; }}
split_clients "$http_x_user" $half {{ 50% a; * b; }}
log_format seen '<$http_x_user> $is_admin $really $net';
{here["http"]}
server {{
    listen @listen@;
    {here["server"]}
    access_log seen.log seen;
    location / {{
        phantom_token acme;
        phantom_token_optional on;
        {here["location"]}
        set $early "$http_x_user$is_admin$really$net$half";
        proxy_set_header {readers};
        proxy_pass {api.url};
    }}
}}
"""
    )
    how = {"token": secrets.token()} if present else {}
    user = f"of {how['token'][-8:]}" if present else ""
    for value in ("root", "10.0.0.1"):
        assert get(nginx.port, headers=[(name, value) for name, _ in forged], **how).status == 200
    halves = set()
    for request in api.requests:
        assert request.values("x-user") == ([user] if present else [])
        assert request.value("x-remote-user") == f"<{user}>"
        assert request.value("x-admin") == "nono"
        assert request.value("x-net") == "none"
        halves.add(request.value("x-half"))
    assert len(halves) == 1
    nginx.quit()
    nginx.wait_gone()
    assert set((nginx.dir / "seen.log").read_text().splitlines()) == {f"<{user or '-'}> no no none"}


@pytest.mark.parametrize(
    "place, seen",
    [("http", "|"), ("server", "|"), ("location", "root|")],
)
def test_rewrite_sees_no_header_of_ours_once_the_owner_is_known(start_nginx, ugly, api, secrets, place, seen):
    """An `if` of the location never does; one of the server does not where all of its locations fill the header."""
    here = {name: USER if name == place else "" for name in ("http", "server", "location")}
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
{here["http"]}
server {{
    listen @listen@;
    {here["server"]}
    set $in_server $http_x_user;
    location / {{
        phantom_token acme;
        {here["location"]}
        set $in_location $http_x_user;
        if ($http_x_user = root) {{ return 418; }}
        proxy_set_header X-Seen "$in_server|$in_location";
        proxy_pass {api.url};
    }}
    location /other {{ proxy_pass {api.url}; }}
}}
"""
    )
    assert get(nginx.port, token=secrets.token(), headers=FORGED).status == 200
    # A value of `set` stays.
    assert api.only().value("x-seen") == seen


def test_a_location_that_does_not_own_a_header_gets_the_clients(start_nginx, ugly, api, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
{USER}
server {{
    listen @listen@;
    phantom_token off;
    set $in_server $http_x_user;
    location / {{ proxy_pass {api.url}; }}
    location /other {{
        phantom_token_set_header X-Other 1;
        proxy_set_header X-Seen "$in_server|$http_x_user";
        proxy_pass {api.url};
        location /other/nested {{ {USER} proxy_pass {api.url}; }}
    }}
}}
"""
    )
    assert get(nginx.port, "/", headers=FORGED).status == 200
    assert get(nginx.port, "/other", headers=FORGED).status == 200
    assert get(nginx.port, "/other/nested", headers=FORGED).status == 200
    plain, other, nested = api.requests
    assert (plain.values("x-user"), nested.values("x-user")) == ([], [])
    assert (other.value("x-user"), other.value("x-seen")) == ("root", "root|root")


def test_limits_by_a_header_of_ours_are_not_the_clients_to_choose(gateway, ugly, api, secrets):
    by_name(ugly)
    nginx = gateway(
        http="limit_req_zone $http_x_user zone=users:1m rate=1r/m;",
        location=f"{USER} phantom_token_phase preaccess; limit_req zone=users; limit_req_status 429;",
    )
    alice = secrets.add("alice-" + secrets.token())
    forged = [[("X-User", f"user{n}")] for n in range(3)]
    assert [get(nginx.port, token=alice, headers=headers).status for headers in forged] == [200, 429, 429]
    bob = secrets.add("bob-" + secrets.token())
    assert get(nginx.port, token=bob, headers=[("X-User", "alice")]).status == 200


def test_limits_in_the_access_phase_see_no_header_of_the_clients(gateway, ugly, api, secrets):
    nginx = gateway(
        http="limit_req_zone $http_x_user zone=users:1m rate=1r/m;",
        location=f"{USER} limit_req zone=users; limit_req_status 429;",
    )
    token = secrets.token()
    # An empty key limits nobody.
    assert [get(nginx.port, token=token, headers=FORGED).status for _ in range(3)] == [200, 200, 200]
    assert {request.value("x-user") for request in api.requests} == {f"of {token[-8:]}"}


def test_a_forged_jwt_is_seen_by_nobody(gateway, ugly, api, secrets):
    nginx = gateway(
        http='map $http_x_jwt $kind { default other; "" none; a.b.c forged; }',
        location="""
            phantom_token_optional on;
            phantom_token_forward header X-Jwt;
            if ($kind = forged) { return 418; }
            proxy_set_header X-Seen "$http_x_jwt $kind";
        """,
    )
    token = secrets.token()
    forged = [("X-Jwt", "a.b.c")]
    assert get(nginx.port, token=token, headers=forged).status == 200
    assert get(nginx.port, headers=forged).status == 200
    assert [request.value("x-seen") for request in api.requests] == [f"{ugly.jwt_for(token)} other", "none"]


CHAIN = """
map $phantom_token_sub $uid { default "uid-$phantom_token_sub"; }
map "$uid" $again { default "again-$uid"; }
"""


@pytest.mark.parametrize("how", ["try_files /nowhere @two;", "error_page 404 = @two; proxy_intercept_errors on; proxy_pass @api@/404;"])
def test_after_a_redirect_a_map_of_a_claim_is_of_the_new_verdict(start_nginx, ugly, api, secrets, how):
    """Of two providers, each of which knows the token by another user."""
    by = {"one": "alice", "two": "bob"}
    ugly.answer = lambda exchange: exchange.active(sub=by[exchange.request.target.rpartition("/")[2]])
    api.answer = lambda request: (
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" if request.target == "/404" else None
    )
    nginx = start_nginx(
        f"""
{config.provider(ugly.url + "/one", secrets, name="one")}
{config.provider(ugly.url + "/two", secrets, name="two")}
{CHAIN}
server {{
    listen @listen@;
    {USER}
    phantom_token_set_header X-Uid $uid;
    proxy_set_header X-Again "$again $http_x_user";
    location / {{ phantom_token one; {how.replace("@api@", api.url)} }}
    location @two {{ phantom_token two; set $kept $again; proxy_pass {api.url}; proxy_set_header X-Kept $kept; proxy_set_header X-Again "$again $http_x_user"; }}
}}
"""
    )
    assert get(nginx.port, token=secrets.token()).status == 200
    request = api.requests[-1]
    assert [request.value(name) for name in ("x-user", "x-uid", "x-again")] == ["bob", "uid-bob", "again-uid-bob bob"]
    # Before the second provider had been asked, the request was Alice's.
    assert request.value("x-kept") == "again-uid-alice"


def test_a_requirement_does_not_see_the_claims_of_an_earlier_provider(start_nginx, ugly, api, secrets):
    by = {"one": "alice", "two": "bob"}
    ugly.answer = lambda exchange: exchange.active(sub=by[exchange.request.target.rpartition("/")[2]], owner="alice")
    nginx = start_nginx(
        f"""
{config.provider(ugly.url + "/one", secrets, name="one")}
{config.provider(ugly.url + "/two", secrets, name="two")}
map $phantom_token_sub $user {{ default $phantom_token_sub; }}
server {{
    listen @listen@;
    location / {{ phantom_token one; phantom_token_set_header X-User $user; try_files /nowhere @two; }}
    location @two {{ phantom_token two; phantom_token_require owner $user; proxy_pass {api.url}; }}
}}
"""
    )
    assert get(nginx.port, token=secrets.token()).status == 403
    assert api.requests == []


def test_a_map_of_the_result_is_right_on_a_page_for_refusals(gateway, ugly, api, secrets):
    ugly.answer = lambda exchange: exchange.inactive()
    nginx = gateway(
        http='map $phantom_token_result $why { default "why-$phantom_token_result"; }',
        server=f"""
            error_page 401 = @refused;
            location @refused {{ phantom_token off; proxy_pass {api.url}; proxy_set_header X-Why $why; }}
        """,
        location='if ($why = "nope") { return 418; }',
    )
    assert get(nginx.port, token=secrets.token()).status == 200
    assert api.only().value("x-why") == "why-inactive"


def test_what_set_has_set_stays(start_nginx, ugly, api, secrets):
    """Also in a variable that a `map` computes otherwise, and in one that is named as a header's is."""
    api.answer = lambda request: (
        b"HTTP/1.1 200 OK\r\nX-Found: by-auth\r\nContent-Length: 0\r\n\r\n" if request.target == "/auth" else None
    )
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
map $http_x_user $mapped {{ default mapped; }}
map $http_x_user $computed_first {{ default mapped; }}
map $http_x_user $unset {{ default "<$http_x_user>"; }}
server {{
    listen @listen@;
    server_name ~^(?<host_name>\\w+)$;
    if ($computed_first = mapped) {{ set $computed_first set; }}
    {USER}
    location ~ ^/(?<named>\\w+)/(\\w+)$ {{
        phantom_token acme;
        auth_request /auth;
        auth_request_set $found $upstream_http_x_found;
        set $plain "plain$arg_x";
        set $empty "";
        set $mapped "set";
        set $http_x_other "set";
        if ($unset = nope) {{ return 418; }}
        proxy_set_header X-Seen "$plain,$empty,$mapped,$computed_first,$http_x_other,$unset,$named,$2,$host_name,$found";
        try_files /nowhere @next;
    }}
    location = /auth {{ proxy_pass {api.url}/auth; }}
    location @next {{
        phantom_token acme;
        proxy_set_header X-Seen "$plain,$empty,$mapped,$computed_first,$http_x_other,$unset,$named,$host_name,$found";
        proxy_pass {api.url};
    }}
}}
"""
    )
    token = secrets.token()
    assert get(nginx.port, "/a/b?x=1", token=token, headers=[*FORGED, ("X-Other", "forged")]).status == 200
    user = f"of {token[-8:]}"
    assert api.requests[-1].value("x-seen") == f"plain1,,set,set,set,<{user}>,a,gateway,by-auth"


def test_a_request_has_one_id(gateway, ugly, api, secrets):
    nginx = gateway(
        http="log_format seen '$request_id $id';  map $request_id $id { default $request_id; }",
        server="access_log seen.log seen; set $early $request_id;",
        location=f"{USER} proxy_set_header X-Ids '$early $request_id $id';",
    )
    assert get(nginx.port, token=secrets.token(), headers=FORGED).status == 200
    ids = api.only().value("x-ids").split()
    nginx.quit()
    nginx.wait_gone()
    assert len({*ids, *(nginx.dir / "seen.log").read_text().split()}) == 1


def test_captures_stay_what_they_were(gateway, start_nginx, ugly, api, secrets):
    """A `map` with a regular expression is evaluated again after the swap; the location's captures are not its."""
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
map $http_x_user $mapped {{ default none; "~^(?<whole>(\\w+)( \\w+)?)$" "$whole"; }}
map $host $tenant_is {{ default none; "~^(?<tenant>\\w+)" yes; }}
server {{
    listen @listen@;
    set $early "$mapped $tenant_is";
    location ~ ^/users/(\\w+)$ {{
        phantom_token acme;
        {USER}
        proxy_set_header X-Seen "$mapped,$1,$tenant";
        proxy_pass {api.url}/of/$1;
    }}
}}
"""
    )
    token = secrets.token()
    assert get(nginx.port, "/users/anna", token=token, headers=FORGED).status == 200
    request = api.only()
    assert (request.target, request.value("x-seen")) == ("/of/anna", f"of {token[-8:]},anna,gateway")


@pytest.mark.parametrize("forged", [FORGED, []], ids=["forged", "not"])
def test_what_a_map_has_captured_is_of_the_header_as_it_is(start_nginx, ugly, api, secrets, forged):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
map $http_x_user $mapped {{ default none; "~^(?<who>.+)$" some; }}
server {{
    listen @listen@;
    set $early "$mapped";
    location / {{
        phantom_token acme;
        phantom_token_optional on;
        {USER}
        proxy_set_header X-Seen "<$who> <$1>";
        proxy_pass {api.url};
    }}
}}
"""
    )
    token = secrets.token()
    assert get(nginx.port, token=token, headers=forged).status == 200
    assert get(nginx.port, headers=forged).status == 200
    user = f"of {token[-8:]}" if forged else ""
    assert [request.value("x-seen") for request in api.requests] == [f"<{user}> <{user}>", "<> <>"]


def test_the_user_of_basic_credentials_that_gave_way_is_forgotten(gateway, ugly, api, secrets):
    nginx = gateway(
        location="""
            phantom_token_source cookie session;
            if ($remote_user = nope) { return 418; }
            proxy_set_header X-Seen "<$remote_user>";
        """,
    )
    # user:password
    how = {"authorization": "Basic dXNlcjpwYXNzd29yZA==", "headers": [("cookie", f"session={secrets.token()}")]}
    assert get(nginx.port, **how).status == 200
    assert api.only().value("x-seen") == "<>"


def test_a_server_without_locations_rewrites_once(start_nginx, ugly, secrets):
    """Its rewrite phase is skipped by nginx's rewrite module if that comes first in it."""
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
log_format seen '$uri';
phantom_token acme;
{USER}
server {{ listen @listen@; access_log seen.log seen; rewrite ^(.*)$ /once$1; }}
"""
    )
    assert get(nginx.port, "/a").status == 401
    nginx.quit()
    nginx.wait_gone()
    assert (nginx.dir / "seen.log").read_text() == "/once/a\n"


def test_a_subrequest_does_not_see_the_header_that_its_parent_lets_through(start_nginx, ugly, api, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
server {{
    listen @listen@;
    set $early $http_x_user;
    location / {{ phantom_token acme; mirror /mirror; proxy_pass {api.url}/main; }}
    location = /mirror {{ internal; phantom_token acme; {USER} proxy_set_header X-Seen "<$http_x_user>"; proxy_pass {api.url}/mirror; }}
}}
"""
    )
    token = secrets.token()
    assert get(nginx.port, token=token, headers=FORGED).status == 200
    main, mirror = sorted(api.wait(2), key=lambda request: request.target)
    assert main.value("x-user") == "root"
    assert (mirror.value("x-user"), mirror.value("x-seen")) == (f"of {token[-8:]}", f"<of {token[-8:]}>")
