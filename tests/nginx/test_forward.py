"""Headers to the API: `phantom_token_forward`, `phantom_token_set_header`, `phantom_token_optional`."""

import base64

import pytest

from harness import config
from harness.client import get, get2
from harness.nginx import connection_to_an_api

PROTOCOLS = [pytest.param((get, ""), id="http1"), pytest.param((get2, "http2"), id="http2")]
USER = "Basic " + base64.b64encode(b"user:password").decode()
PASSWORDS = {"passwords": "user:{PLAIN}password\n"}

FORWARD = "phantom_token_forward header X-Jwt;"
SET = "phantom_token_set_header X-User $phantom_token_sub;"
# The same name for a reader that follows CGI.
FORGED = [("x-user", "root"), ("X_User", "root"), ("X-USER", "root"), ("X-User", "")]


def jwt_of(ugly, token):
    return f"Bearer {ugly.jwt_for(token)}"


def named(request, name):
    """The values of all headers that CGI gives the same name."""
    plain = name.lower().replace("_", "-")
    return [value for key, value in request.headers if key.lower().replace("_", "-") == plain]


# --- phantom_token_forward ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cold", [True, False], ids=["miss", "hit"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("source", ["authorization", "cookie session"])
def test_the_jwt_goes_bare_in_a_header_of_its_own(gateway, ugly, api, secrets, source, protocol, cold):
    get_, listen = protocol
    nginx = gateway(location=f"phantom_token_source {source}; {FORWARD}", listen=listen)
    token = secrets.token()
    forged = [("x-jwt", "a.b.c"), ("x-jwt", "")]
    how = {"token": token, "headers": forged}
    if source != "authorization":
        how = {"headers": [("authorization", USER), ("cookie", f"session={token}"), *forged]}
    for _ in range(1 if cold else 2):
        assert get_(nginx.port, **how).status == 200
    for request in api.requests:
        assert named(request, "x-jwt") == [ugly.jwt_for(token)]
        assert request.values("authorization") == []
    api.never_saw(token)


def test_the_whole_request_is_what_it_should_be(gateway, ugly, api, secrets):
    nginx = gateway(location=f"{FORWARD} {SET} phantom_token_set_header X-Client $phantom_token_client_id;")
    token = secrets.token()
    assert get(nginx.port, "/a?b", token=token, headers=[("Accept", "x"), ("X-User", "root"), ("X-Z", "z")]).status == 200
    jwt = ugly.jwt_for(token)
    connection = "".join(f"{name}: {value}\r\n" for name, value in connection_to_an_api())
    assert api.only().head == (
        f"GET /a?b HTTP/1.1\r\nHost: {api.address}\r\n{connection}Accept: x\r\nX-Z: z\r\n"
        f"X-Jwt: {jwt}\r\nX-User: of {token[-8:]}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("location", ["", "satisfy any; allow 127.0.0.1; deny all;", "phantom_token_optional on;"])
def test_no_client_fills_the_header_of_the_jwt(gateway, ugly, api, secrets, location):
    ugly.answer = lambda exchange: exchange.inactive()
    nginx = gateway(server="underscores_in_headers on;", location=f"{FORWARD} {location}")
    forged = [("X-Jwt", "a.b.c"), ("x_jwt", "a.b.c")]
    get(nginx.port, headers=forged)
    get(nginx.port, token=secrets.token(), headers=forged)
    for request in api.requests:
        assert named(request, "x-jwt") == []
        assert request.values("authorization") == []
    assert bool(api.requests) == bool(location)


def test_an_internal_redirect_moves_the_jwt_to_where_the_next_location_wants_it(start_nginx, ugly, api, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
phantom_token acme;
server {{
    listen @listen@;
    location /a {{ {FORWARD} try_files /nowhere @plain; }}
    location @plain {{ proxy_pass {api.url}; }}
    location /b {{ try_files /nowhere @moved; }}
    location @moved {{ {FORWARD} proxy_pass {api.url}; }}
    location /c {{ {FORWARD} try_files /nowhere @other; }}
    location @other {{ phantom_token_forward header X-Other; proxy_pass {api.url}; }}
    location /d {{ {FORWARD} try_files /nowhere @off; }}
    location @off {{ phantom_token off; proxy_pass {api.url}; }}
}}
"""
    )
    token = secrets.token()
    jwt = ugly.jwt_for(token)
    expected = {
        "/a": ([f"Bearer {jwt}"], [], []),
        "/b": ([], [jwt], []),
        "/c": ([], [], [jwt]),
        "/d": ([], [jwt], []),
    }
    for path in expected:
        assert get(nginx.port, path, token=token).status == 200
    found = {
        request.target: tuple(request.values(name) for name in ("authorization", "x-jwt", "x-other"))
        for request in api.requests
    }
    assert found == expected
    api.never_saw(token)


# --- phantom_token_set_header -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cold", [True, False], ids=["miss", "hit"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_header_says_what_the_token_says_and_nothing_of_the_client(gateway, ugly, api, secrets, protocol, cold):
    get_, listen = protocol
    nginx = gateway(
        server="underscores_in_headers on;",
        location=f'{SET} phantom_token_set_header X-Line "user=$phantom_token_sub scope=$phantom_token_scope $arg_x";',
        listen=listen,
    )
    token = secrets.token()
    forged = [(name.lower(), value) for name, value in FORGED] if listen else FORGED
    for _ in range(1 if cold else 2):
        assert get_(nginx.port, "/?x=y", token=token, headers=forged).status == 200
    for request in api.requests:
        assert named(request, "x-user") == [f"of {token[-8:]}"]
        assert request.value("x-line") == f"user=of {token[-8:]} scope=read y"


@pytest.mark.parametrize("sub", [" admin", "admin ", "\tadmin", "\u00a0admin", "admin\r\n", "a\x7fb"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_claim_that_a_header_would_not_carry_unchanged_is_not_sent(gateway, ugly, api, secrets, protocol, sub):
    """The next server takes white space at the ends for none: `" admin"` would arrive as `admin`."""
    get_, listen = protocol
    ugly.answer = lambda exchange: exchange.active(sub=sub, client_id="jörg b")
    nginx = gateway(
        listen=listen,
        location=f"""{SET} phantom_token_set_header X-Claim $phantom_token_claim_sub;
        phantom_token_set_header X-Both "user $phantom_token_sub";
        phantom_token_set_header X-Client $phantom_token_client_id;
        proxy_set_header X-Other $phantom_token_sub; proxy_set_header X-Quoted "<$phantom_token_claim_sub>";""",
    )
    assert get_(nginx.port, token=secrets.token(), headers=[("x-user", "root")]).status == 200
    request = api.only()
    for name in ("x-user", "x-claim", "x-both", "x-other"):
        assert request.values(name) == [], name
    assert request.value("x-quoted") == "<>"
    assert request.value("x-client").encode("latin-1").decode() == "jörg b"


@pytest.mark.parametrize("kind", ["proxy", "grpc", "fastcgi"])
@pytest.mark.parametrize("present", [True, False], ids=["token", "none"])
def test_every_kind_of_upstream_believes_the_gateway(start_nginx, ugly, api, fastcgi, secrets, kind, present):
    upstream = {
        "proxy": f"proxy_pass {api.url};",
        "grpc": "grpc_pass grpc://@listen:grpc@;",
        "fastcgi": f"fastcgi_pass {fastcgi.address};",
    }[kind]
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
underscores_in_headers on;
server {{
    listen @listen@;
    location / {{ phantom_token acme; phantom_token_optional on; {SET} {FORWARD} {upstream} }}
}}
server {{
    listen @listen:grpc@ http2;
    location / {{ add_header X-Got "$http_x_user|$http_x_jwt|$http_authorization"; return 200; }}
}}
"""
    )
    token = secrets.token()
    how = {"token": token} if present else {"authorization": USER}
    answer = get(nginx.port, headers=[*FORGED, ("X-Jwt", "a"), ("x_jwt", "b")], **how)
    assert answer.status == 200
    user, jwt = (f"of {token[-8:]}", ugly.jwt_for(token)) if present else ("", "")
    if kind == "grpc":
        assert answer.value("x-got") == f"{user}|{jwt}|"
    elif kind == "proxy":
        assert named(api.only(), "x-user") == ([user] if present else [])
        assert named(api.only(), "x-jwt") == ([jwt] if present else [])
        assert api.only().values("authorization") == []
    else:
        params = fastcgi.requests[0]
        assert [value for name, value in params if name == "HTTP_X_USER"] == ([user] if present else [])
        assert [value for name, value in params if name == "HTTP_X_JWT"] == ([jwt] if present else [])
        assert [value for name, value in params if name == "HTTP_AUTHORIZATION"] == []


@pytest.mark.parametrize(
    "location",
    [
        "phantom_token_optional on;",
        "satisfy any; allow 127.0.0.1; deny all;",
        "phantom_token off;",
        "phantom_token_preflight pass;",
    ],
)
def test_what_clients_say_is_taken_out_with_a_token_or_without(start_nginx, ugly, api, secrets, location):
    ugly.answer = lambda exchange: exchange.inactive()
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
phantom_token acme;
underscores_in_headers on;
{SET}
server {{ listen @listen@; location / {{ {location} proxy_pass {api.url}; }} }}
"""
    )
    preflight = [("Origin", "https://x"), ("Access-Control-Request-Method", "GET")] if "preflight" in location else []
    get(nginx.port, method="OPTIONS", headers=[*FORGED, *preflight])
    if not preflight:
        get(nginx.port, token=secrets.token(), headers=FORGED)
    assert api.requests
    for request in api.requests:
        assert named(request, "x-user") == []


def test_a_value_that_is_empty_or_has_a_control_character_sets_nothing(gateway, ugly, api, secrets):
    ugly.answer = lambda exchange: exchange.active(name="a\r\nX-Admin: yes", sub="")
    nginx = gateway(
        location="""
            phantom_token_set_header X-Name $phantom_token_claim_name;
            phantom_token_set_header X-None $phantom_token_claim_none;
            phantom_token_set_header X-Arg "$control";
            phantom_token_set_header X-Constant yes;
        """,
        http='map $arg_x $control { default "a\tb"; }',
    )
    assert get(nginx.port, token=secrets.token(), headers=[("X-Name", "root"), ("X-Arg", "root")]).status == 200
    request = api.only()
    assert request.value("x-constant") == "yes"
    for name in ("x-name", "x-none", "x-arg", "x-admin"):
        assert request.values(name) == []
    assert nginx.only_line('"X-Arg" is not set')


def test_headers_are_inherited_all_or_none(start_nginx, ugly, api, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
phantom_token acme;
phantom_token_set_header X-One 1;
phantom_token_set_header X-Two 2;
server {{
    listen @listen@;
    location /http {{ proxy_pass {api.url}; }}
    location /own {{ phantom_token_set_header X-Two own; proxy_pass {api.url}; }}
    location /if {{ if ($arg_x) {{ proxy_pass {api.url}; }} proxy_pass {api.url}; }}
}}
"""
    )
    for target in ("/http", "/own", "/if", "/if?x=1"):
        assert get(nginx.port, target, token=secrets.token(), headers=[("X-One", "forged")]).status == 200
    found = {
        request.target: [request.values(name) for name in ("x-one", "x-two")] for request in api.requests
    }
    assert found == {
        "/http": [["1"], ["2"]],
        # It is no header of the gateway's here.
        "/own": [["forged"], ["own"]],
        "/if": [["1"], ["2"]],
        "/if?x=1": [["1"], ["2"]],
    }


def test_a_subrequest_carries_them_too(start_nginx, ugly, api, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
phantom_token acme;
{SET} {FORWARD}
server {{
    listen @listen@;
    location / {{ mirror /mirror; auth_request /auth; proxy_pass {api.url}/main; }}
    location = /mirror {{ internal; proxy_pass {api.url}/mirror; }}
    location = /auth {{ internal; proxy_pass {api.url}/auth; }}
}}
"""
    )
    token = secrets.token()
    assert get(nginx.port, token=token, headers=[*FORGED, ("X-Jwt", "a")]).status == 200
    requests = api.wait(3)
    assert sorted(request.target for request in requests) == ["/auth", "/main", "/mirror"]
    for request in requests:
        assert named(request, "x-user") == [f"of {token[-8:]}"]
        assert named(request, "x-jwt") == [ugly.jwt_for(token)]
    api.never_saw(token)


def test_a_hundred_headers_survive_that_some_are_taken_out(gateway, ugly, api, secrets):
    nginx = gateway(location=f"{SET} {FORWARD} phantom_token_source authorization header X-Token;")
    token = secrets.token()
    plain = [(f"X-{n}", str(n)) for n in range(100)]
    mixed = [pair for n, header in enumerate(plain) for pair in ([header, FORGED[0]] if n % 3 else [header])]
    headers = [("User-Agent", "ua"), ("X-Forwarded-For", "192.0.2.1"), *mixed, ("Cookie", "a=b"), ("X-Token", token)]
    assert get(nginx.port, headers=headers).status == 200
    request = api.only()
    assert [header for header in request.headers if header[0].startswith("X-") and header[0][2:].isdigit()] == plain
    assert request.value("user-agent") == "ua"
    assert request.value("x-forwarded-for") == "192.0.2.1"
    assert request.value("cookie") == "a=b"
    assert named(request, "x-user") == [f"of {token[-8:]}"]
    assert named(request, "x-jwt") == [ugly.jwt_for(token)]


# --- phantom_token_optional ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("headers", [[], [("authorization", USER)], [("authorization", "Token abc")]])
def test_without_a_token_a_request_goes_on_without_authorization(gateway, ugly, api, headers, protocol):
    get_, listen = protocol
    nginx = gateway(
        location="phantom_token_optional on; proxy_set_header X-Result $phantom_token_result; "
        "proxy_set_header X-Saw $http_authorization;",
        listen=listen,
    )
    answer = get_(nginx.port, headers=headers)
    assert (answer.status, answer.value("www-authenticate")) == (200, None)
    request = api.only()
    assert request.values("authorization") == []
    assert request.values("x-saw") == []
    assert request.value("x-result") == "missing"
    assert ugly.calls == []


def test_a_token_is_still_swapped_or_refused(gateway, ugly, api, secrets):
    nginx = gateway(location="phantom_token_optional on;")
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert api.only().value("authorization") == jwt_of(ugly, token)
    ugly.answer = lambda exchange: exchange.inactive()
    assert get(nginx.port, token=secrets.token()).status == 401
    assert get(nginx.port, authorization="Bearer").status == 400
    assert get(nginx.port, authorization="DPoP ,").status == 400
    ugly.answer = lambda exchange: exchange.reset()
    assert get(nginx.port, token=secrets.token()).status == 502
    assert len(api.requests) == 1


def test_under_satisfy_any_no_token_is_no_reason_to_let_in(gateway, ugly, api, secrets):
    nginx = gateway(location="phantom_token_optional on; satisfy any; deny all;")
    assert get(nginx.port).status == 403
    assert get(nginx.port, authorization=USER).status == 403
    assert api.requests == []
    assert get(nginx.port, token=secrets.token()).status == 200


def test_under_satisfy_any_a_user_is_let_in_as_such(gateway, ugly, api, secrets):
    nginx = gateway(
        location="phantom_token_optional on; satisfy any; auth_basic x; auth_basic_user_file passwords;",
        files=PASSWORDS,
    )
    assert get(nginx.port).status == 401
    assert get(nginx.port, authorization=USER).status == 200
    assert api.only().value("authorization") == USER


def test_optional_is_inherited_and_overridden(start_nginx, ugly, api, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
phantom_token acme;
phantom_token_optional on;
server {{
    listen @listen@;
    location /http {{ proxy_pass {api.url}; }}
    location /off {{ phantom_token_optional off; proxy_pass {api.url}; }}
}}
server {{ listen @listen:two@; phantom_token_optional off; location / {{ proxy_pass {api.url}; }} }}
"""
    )
    statuses = [get(nginx.port, target).status for target in ("/http", "/off")]
    assert statuses == [200, 401]
    assert get(nginx.ports["two"]).status == 401


# --- other spellings of a header that the gateway fills -----------------------------------------------------------

# Names that an application behind CGI, FastCGI or WSGI may take for X-User: it sees HTTP_X_USER, or a name that becomes that.
SPELLINGS = ["X_User", "x-user", "X.User", "x.USER", "X~User", "X|User", "X*User"]


def alike(name):
    """A name in which every character except letters and digits is the same."""
    return "".join(letter.lower() if letter.isalnum() else "_" for letter in name)


@pytest.mark.parametrize("present", [True, False], ids=["token", "anonymous"])
@pytest.mark.parametrize("kind", ["proxy", "fastcgi"])
@pytest.mark.parametrize("place", ["server", "location"])
def test_no_spelling_of_our_header_gets_through(start_nginx, ugly, api, fastcgi, secrets, place, kind, present):
    owned = f"{SET} {FORWARD}"
    upstream = f"proxy_pass {api.url};" if kind == "proxy" else f"fastcgi_pass {fastcgi.address};"
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
server {{
    listen @listen@;
    underscores_in_headers on;
    ignore_invalid_headers off;
    {owned if place == "server" else ""}
    location / {{ phantom_token acme; phantom_token_optional on; {owned if place == "location" else ""} {upstream} }}
}}
"""
    )
    token = secrets.token()
    forged = [(name, "root") for name in SPELLINGS]
    forged += [(name.replace("User", "Jwt").replace("USER", "JWT").replace("user", "jwt"), "a.b.c") for name in SPELLINGS]
    # A name that is another one stays.
    other = [("X.Users", "1"), ("XUser", "2")]
    assert get(nginx.port, headers=[*forged, *other], **({"token": token} if present else {})).status == 200
    headers = api.only().headers if kind == "proxy" else fastcgi.requests[0]
    prefix = "" if kind == "proxy" else "http_"

    def values(name):
        return [value for key, value in headers if alike(key) == prefix + name]

    assert values("x_user") == ([f"of {token[-8:]}"] if present else [])
    assert values("x_jwt") == ([ugly.jwt_for(token)] if present else [])
    assert (values("x_users"), values("xuser")) == (["1"], ["2"])


def test_a_source_is_read_in_no_other_spelling_beside_it(gateway, ugly, api, secrets):
    nginx = gateway(
        server="ignore_invalid_headers off;",
        location="phantom_token_source header X-Token; add_header X-Reason $phantom_token_reason always;",
    )
    answer = get(nginx.port, headers=[("X-Token", secrets.token()), ("X.Token", secrets.token())])
    assert (answer.status, answer.value("x-reason")) == (400, "several")
    assert (ugly.calls, api.requests) == ([], [])


# --- what we read ourselves of a header that we fill --------------------------------------------------------------


def test_a_directive_of_ours_may_read_a_header_that_we_fill(start_nginx, ugly, api, secrets):
    """The client's header chooses its provider and is compared with its claim; the API sees the claim."""
    ugly.answer = lambda exchange: exchange.active(tenant="one")
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets, name="one")}
{config.provider(ugly.url, secrets, name="two")}
phantom_token_set_header X-Tenant "is $phantom_token_claim_tenant";
server {{
    listen @listen@;
    location /choice {{ phantom_token $http_x_tenant one two; proxy_pass {api.url}; }}
    location /require {{ phantom_token one; phantom_token_require tenant $http_x_tenant; proxy_pass {api.url}; }}
}}
"""
    )
    token = secrets.token()
    for target in ("/choice", "/require"):
        assert get(nginx.port, target, token=token, headers=[("X-Tenant", "one")]).status == 200
        assert get(nginx.port, target, token=token).status in (401, 403)
    assert get(nginx.port, "/choice", token=token, headers=[("X-Tenant", "three")]).status == 401
    assert get(nginx.port, "/require", token=token, headers=[("X-Tenant", "two")]).status == 403
    assert [request.value("x-tenant") for request in api.requests] == ["is one"] * 2


def test_a_header_may_say_what_another_of_ours_says(gateway, ugly, api, secrets):
    """Each is set before the next one is worked out."""
    nginx = gateway(
        location=f"""
            {SET}
            phantom_token_set_header X-Copy "<$http_x_user>";
            phantom_token_set_header X-Again "<$http_x_copy>";
            set $early "$http_x_user$http_x_copy";
        """
    )
    token = secrets.token()
    assert get(nginx.port, token=token, headers=[*FORGED, ("X-Copy", "root")]).status == 200
    user = f"of {token[-8:]}"
    assert [api.only().value(name) for name in ("x-copy", "x-again")] == [f"<{user}>", f"<<{user}>>"]
