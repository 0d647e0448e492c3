"""The module beside the rest of nginx: access rules, internal redirects, subrequests, kinds of upstream."""

import base64
import secrets as random

import pytest

from harness import config
from harness.api import Api
from harness.client import Http1, Http2, get, get2
from harness.wait import until

USER = "Basic " + base64.b64encode(b"user:password").decode()
# user:password, as `openssl passwd -apr1` writes it.
PASSWORDS = {"passwords": "user:{PLAIN}password\n"}


def jwt_of(ugly, token):
    return f"Bearer {ugly.jwt_for(token)}"


# --- access rules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_request_that_deny_refuses_costs_no_introspection(gateway, ugly, api, secrets, order):
    rules = "deny all;"
    nginx = gateway(**{"server" if order == "before" else "location": rules})
    assert get(nginx.port, token=secrets.token()).status == 403
    assert get(nginx.port).status == 403
    assert (ugly.calls, api.requests) == ([], [])


def test_a_request_that_allow_admits_still_needs_a_token(gateway, ugly, api, secrets):
    nginx = gateway(location="allow 127.0.0.1; deny all;")
    assert get(nginx.port).status == 401
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert api.only().value("authorization") == jwt_of(ugly, token)


def test_a_request_over_its_rate_costs_no_introspection(gateway, ugly, api, secrets):
    nginx = gateway(
        http="limit_req_zone $server_addr zone=slow:64k rate=1r/m;",
        location="limit_req zone=slow; limit_req_status 429;",
    )
    assert get(nginx.port, token=secrets.token()).status == 200
    assert get(nginx.port, token=secrets.token()).status == 429
    assert len(ugly.calls) == 1


def test_a_request_that_limit_req_delays_is_answered(gateway, ugly, api, secrets):
    nginx = gateway(
        http="limit_req_zone $server_addr zone=slow:64k rate=20r/s;", location="limit_req zone=slow burst=5;"
    )
    assert [get(nginx.port, token=secrets.token()).status for _ in range(4)] == [200] * 4
    assert len(ugly.calls) == 4


def test_limit_conn_counts_suspended_requests(gateway, ugly, api, secrets):
    nginx = gateway(
        http="limit_conn_zone $server_addr zone=few:64k;", location="limit_conn few 1; limit_conn_status 429;"
    )
    ugly.answer = ugly.holding()
    with Http1(nginx.port) as client:
        client.send(token=secrets.token())
        ugly.wait_calls()
        assert get(nginx.port, token=secrets.token()).status == 429
        ugly.release()
        assert client.read().status == 200
    assert get(nginx.port, token=secrets.token()).status == 200


def test_satisfy_any_admits_by_address_and_sends_no_opaque_token(gateway, ugly, api, secrets):
    nginx = gateway(location="satisfy any; allow 127.0.0.1; deny all;")
    assert get(nginx.port).status == 200
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert api.requests[-1].value("authorization") == jwt_of(ugly, token)
    api.never_saw(token)


def test_satisfy_any_admits_by_token_where_the_address_is_denied(gateway, ugly, api, secrets):
    nginx = gateway(location="satisfy any; deny all;")
    token = secrets.token()
    answer = get(nginx.port, token=token)
    assert answer.status == 200
    assert answer.value("www-authenticate") is None
    assert api.only().value("authorization") == jwt_of(ugly, token)


@pytest.mark.parametrize("presented", [None, "inactive-token-0123"])
def test_satisfy_any_refuses_who_satisfies_nothing(gateway, ugly, api, presented):
    nginx = gateway(location="satisfy any; deny all;")
    ugly.answer = lambda exchange: exchange.inactive()
    answer = get(nginx.port, token=presented)
    assert answer.status == 401
    assert api.requests == []


def test_satisfy_any_with_an_unavailable_authorization_server_lets_nobody_in(gateway, ugly, api, secrets):
    nginx = gateway(location="satisfy any; deny all;")
    ugly.answer = lambda exchange: exchange.reply(500)
    assert get(nginx.port, token=secrets.token()).status == 502
    assert api.requests == []


def test_satisfy_any_takes_a_user_or_a_token(gateway, ugly, api, secrets):
    nginx = gateway(location='satisfy any; auth_basic "users"; auth_basic_user_file @dir@/passwords;', files=PASSWORDS)
    assert get(nginx.port, authorization=USER).status == 200
    token = secrets.token()
    answer = get(nginx.port, token=token)
    assert answer.status == 200
    assert answer.value("www-authenticate") is None
    assert api.requests[1].value("authorization") == jwt_of(ugly, token)
    ugly.answer = lambda exchange: exchange.inactive()
    assert get(nginx.port, token=secrets.token()).status == 401
    assert get(nginx.port).status == 401
    assert get(nginx.port, authorization="Basic " + base64.b64encode(b"user:wrong").decode()).status == 401
    assert len(api.requests) == 2


def test_satisfy_all_with_auth_basic_lets_nobody_in_for_both_want_the_same_header(gateway, ugly, api, secrets):
    nginx = gateway(location='satisfy all; auth_basic "users"; auth_basic_user_file @dir@/passwords;', files=PASSWORDS)
    assert get(nginx.port, authorization=USER).status == 401
    assert get(nginx.port, token=secrets.token()).status == 401
    assert (ugly.calls, api.requests) == ([], [])


AUTH_REQUEST = """
    location = /auth {{ internal; proxy_pass {auth}; proxy_pass_request_body off; proxy_set_header Content-Length ""; }}
"""


@pytest.fixture
def auth(secrets):
    """The service behind `auth_request`."""
    server = Api(secrets)
    yield server
    server.stop()


@pytest.mark.parametrize("satisfy", ["all", "any"])
def test_auth_request_works_beside_a_token(gateway, ugly, api, auth, secrets, satisfy):
    nginx = gateway(location=f"satisfy {satisfy}; auth_request /auth;", server=AUTH_REQUEST.format(auth=auth.url))
    for _ in range(2):
        token = secrets.token()
        assert get(nginx.port, token=token).status == 200
        api.never_saw(token)
    if satisfy == "all":
        assert api.requests[0].value("authorization").startswith("Bearer ey")
        assert get(nginx.port).status == 401
        assert len(api.requests) == 2


def test_under_satisfy_all_both_auth_request_and_token_must_agree(gateway, ugly, api, auth, secrets):
    nginx = gateway(location="satisfy all; auth_request /auth;", server=AUTH_REQUEST.format(auth=auth.url))
    auth.answer = lambda _: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    assert get(nginx.port, token=secrets.token()).status == 403
    auth.answer = None
    ugly.answer = lambda exchange: exchange.inactive()
    assert get(nginx.port, token=secrets.token()).status == 401
    assert api.requests == []


def test_under_satisfy_any_a_token_is_enough_where_auth_request_refuses(gateway, ugly, api, auth, secrets):
    nginx = gateway(location="satisfy any; auth_request /auth;", server=AUTH_REQUEST.format(auth=auth.url))
    auth.answer = lambda _: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert api.only().value("authorization") == jwt_of(ugly, token)
    ugly.answer = lambda exchange: exchange.inactive()
    assert get(nginx.port, token=secrets.token()).status == 401
    assert len(api.requests) == 1


def test_a_refusal_that_auth_delay_delays_is_still_a_refusal(gateway, ugly, api, secrets):
    nginx = gateway(location="auth_delay 100ms; phantom_token_realm r;")
    ugly.answer = lambda exchange: exchange.inactive()
    answer = get(nginx.port, token=secrets.token())
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.value("www-authenticate")
    assert get(nginx.port).value("www-authenticate") == 'Bearer realm="r"'
    assert api.requests == []


# --- internal redirects -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cold", [True, False], ids=["miss", "hit"])
@pytest.mark.parametrize(
    ("location", "server"),
    [
        ("try_files /nothing /target;", ""),
        ("try_files /nothing @named;", ""),
        ("error_page 404 = /target; recursive_error_pages on;", "status404"),
        ("error_page 404 = @named; proxy_intercept_errors on;", "api404"),
        ("rewrite ^/start$ /target last;", ""),
    ],
    ids=["try_files", "try_files named", "error_page", "error_page named", "rewrite last"],
)
def test_an_internal_redirect_after_the_swap_keeps_the_jwt(start_nginx, ugly, api, secrets, location, server, cold):
    # Where the first location serves files or answers itself, the second one forwards.
    first = f"proxy_pass {api.url};" if server == "api404" else ""
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
server {{
    listen @listen@;
    phantom_token acme;
    location /start {{ {location} {first} }}
    location /target {{ proxy_pass {api.url}; }}
    location @named {{ proxy_pass {api.url}; }}
}}
"""
    )
    api.answer = lambda request: (
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        if server == "api404" and len(api.requests) % 2 == 1
        else None
    )
    token = secrets.token()
    for _ in range(1 if cold else 2):
        answer = get(nginx.port, "/start", token=token)
        assert (answer.status, answer.body) == (200, b"hello")
    assert {request.value("authorization") for request in api.requests} == {jwt_of(ugly, token)}
    assert ugly.calls_for(token) == 1
    api.never_saw(token)


@pytest.mark.parametrize("guarded", ["phantom_token two;", "phantom_token off;"])
def test_a_redirect_to_a_location_of_another_provider_asks_that_one_about_the_token(
    start_nginx, ugly, api, secrets, guarded
):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets, "one")}
{config.provider(ugly.url + "?two", secrets, "two")}
server {{
    listen @listen@;
    location /start {{ phantom_token one; try_files /nothing /target; }}
    location /target {{ {guarded} proxy_pass {api.url}; }}
}}
"""
    )
    ugly.answer = lambda exchange: exchange.active(by=exchange.request.target)
    token = secrets.token()
    assert get(nginx.port, "/start", token=token).status == 200
    api.never_saw(token)
    asked = [call.request.target for call in ugly.calls]
    assert {call.token for call in ugly.calls} == {token}
    if "two" in guarded:
        assert asked == ["/introspect", "/introspect?two"]
        assert api.only().value("authorization") == f"Bearer {ugly.jwt_for(token, by='/introspect?two')}"
    else:
        assert asked == ["/introspect"]


def test_the_second_provider_of_a_redirect_may_refuse(start_nginx, ugly, api, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets, "one")}
{config.provider(ugly.url + "?two", secrets, "two")}
server {{
    listen @listen@;
    location /start {{ phantom_token one; try_files /nothing /target; }}
    location /target {{ phantom_token two; proxy_pass {api.url}; }}
}}
"""
    )
    ugly.answer = lambda exchange: exchange.inactive() if "two" in exchange.request.target else exchange.active()
    assert get(nginx.port, "/start", token=secrets.token()).status == 401
    assert api.requests == []


def test_a_redirect_to_narrower_scopes_is_judged_by_those(start_nginx, ugly, api, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
server {{
    listen @listen@;
    phantom_token acme;
    location /start {{ try_files /nothing /target; }}
    location /target {{ phantom_token_scope admin; proxy_pass {api.url}; }}
}}
"""
    )
    assert get(nginx.port, "/start", token=secrets.token()).status == 403
    assert api.requests == []


def test_a_named_location_for_refused_requests_gets_no_opaque_token(gateway, ugly, api, secrets):
    nginx = gateway(
        location="error_page 401 = @login;", server="location @login { phantom_token off; return 302 /login; }"
    )
    ugly.answer = lambda exchange: exchange.inactive()
    assert get(nginx.port, token=secrets.token()).status == 302
    assert get(nginx.port).status == 302
    assert api.requests == []


def test_an_error_page_that_is_guarded_itself_does_not_loop(gateway, ugly, secrets):
    nginx = gateway(
        server="error_page 401 /sorry; recursive_error_pages on; location /sorry { phantom_token acme; }",
        files={"html/sorry": "sorry"},
    )
    assert get(nginx.port).status in (401, 500)


def test_a_return_in_an_if_comes_before_any_token(gateway, ugly):
    nginx = gateway(location="if ($request_method = OPTIONS) { return 204; }")
    assert get(nginx.port, method="OPTIONS").status == 204
    assert get(nginx.port).status == 401
    assert ugly.calls == []


# --- where a token goes that was refused --------------------------------------------------------------------------

LOGIN = """
    location @login {{ phantom_token off; {login} proxy_pass {auth.url}; }}
"""
SOURCES = "phantom_token_source authorization cookie session query token header X-Token;"


@pytest.mark.parametrize(
    "refused",
    [
        "error_page 401 = @login;",
        "phantom_token_scopes none; error_page 403 = @login;",
        "deny all; error_page 403 = @login;",
        "if ($arg_never = '') { return 402; } error_page 402 = @login;",
        "limit_req zone=never; error_page 503 = @login;",
        "auth_basic users; auth_basic_user_file @dir@/passwords; error_page 401 = @login;",
        "satisfy any; deny all; error_page 401 403 = @login;",
    ],
    ids=["inactive", "scope", "deny", "return", "limit", "basic", "satisfy"],
)
@pytest.mark.parametrize("login", ["", "set $copy $http_authorization; proxy_set_header X-Copy $copy;"])
@pytest.mark.parametrize("source", ["authorization", "cookie", "query", "header"])
def test_a_token_that_is_refused_goes_nowhere(gateway, ugly, auth, secrets, refused, login, source):
    nginx = gateway(
        http="limit_req_zone $server_addr zone=never:64k rate=1r/m;",
        location=f"{SOURCES} {refused}",
        server=LOGIN.format(login=login, auth=auth),
        files=PASSWORDS,
    )
    ugly.answer = lambda exchange: exchange.active() if "scopes" in refused else exchange.inactive()
    # A check that refuses before the token is read logs the unchanged query.
    token = secrets.token() if source != "query" else random.token_hex(16)
    presented = {
        "authorization": {"token": token},
        "cookie": {"headers": [("Cookie", f"session={token}; other=1")]},
        "query": {"target": f"/things?token={token}&other=1"},
        "header": {"headers": [("X-Token", token)]},
    }[source]
    if "limit" in refused:
        get(nginx.port, **presented)
        auth.requests.clear()
    assert get(nginx.port, **presented).status == 200
    auth.only()
    auth.never_saw(token)


def test_a_token_that_is_refused_is_mirrored_nowhere(gateway, ugly, auth, secrets):
    nginx = gateway(
        location="error_page 401 = @login;",
        server=LOGIN.format(login="mirror /mirror;", auth=auth)
        + f"location = /mirror {{ internal; proxy_pass {auth.url}/mirror; }}",
    )
    ugly.answer = lambda exchange: exchange.inactive()
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert {request.target for request in auth.wait(2)} == {"/", "/mirror"}
    auth.never_saw(token)


@pytest.mark.parametrize("active", [True, False])
def test_an_action_after_the_answer_gets_no_opaque_token(gateway, ugly, auth, secrets, active):
    nginx = gateway(
        location="post_action /after;",
        server=f"location = /after {{ internal; proxy_pass {auth.url}; }}",
    )
    if not active:
        ugly.answer = lambda exchange: exchange.inactive()
    token = secrets.token()
    assert get(nginx.port, token=token).status == (200 if active else 401)
    (request,) = auth.wait(1)
    assert request.values("authorization") == ([jwt_of(ugly, token)] if active else [])
    auth.never_saw(token)


def test_auth_request_sees_no_token_that_is_refused(gateway, ugly, api, auth, secrets):
    nginx = gateway(location="satisfy any; auth_request /auth;", server=AUTH_REQUEST.format(auth=auth.url))
    ugly.answer = lambda exchange: exchange.inactive()
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    auth.only()
    auth.never_saw(token)
    api.never_saw(token)


@pytest.mark.parametrize("where", ["location", "server", "http"])
def test_a_token_that_is_refused_goes_on_where_that_is_said(gateway, ugly, api, auth, secrets, where):
    word = {where: "phantom_token_pass_opaque on;"}
    words = {"http": word.get("http", ""), "server": word.get("server", "")}
    words["server"] += LOGIN.format(login=word.get("location", ""), auth=auth)
    nginx = gateway(location="error_page 401 = @login;", **words)
    ugly.answer = lambda exchange: exchange.inactive()
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert auth.only().value("authorization") == f"Bearer {token}"
    # Not from where it is judged.
    assert api.requests == []


def test_a_token_that_nobody_was_to_judge_goes_on(gateway, api, auth, secrets):
    nginx = gateway(
        server=f"""
        location /open {{ try_files /nothing @open; }}
        location @open {{ proxy_pass {auth.url}; }}
        """,
    )
    token = secrets.token()
    assert get(nginx.port, "/open", token=token).status == 200
    assert auth.only().value("authorization") == f"Bearer {token}"


def test_credentials_of_another_scheme_stay_with_a_refused_request(gateway, ugly, auth):
    nginx = gateway(location="error_page 401 = @login;", server=LOGIN.format(login="", auth=auth))
    assert get(nginx.port, authorization=USER).status == 200
    assert auth.only().value("authorization") == USER


# --- $http_authorization ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cold", [True, False], ids=["miss", "hit"])
@pytest.mark.parametrize(
    "early",
    [
        "",
        'if ($http_authorization = "") { return 418; }',
        'if ($has_token = "no") { return 418; }',
        "set $copy $has_token;",
    ],
    ids=["not", "if", "map", "set"],
)
def test_http_authorization_never_holds_the_opaque_token_after_the_swap(gateway, ugly, api, secrets, early, cold):
    nginx = gateway(
        http='map $http_authorization $has_token { "" no; default yes; }',
        location=f'{early} proxy_set_header Authorization $http_authorization; proxy_set_header X-Copy "<$http_authorization>";',
    )
    token = secrets.token()
    for _ in range(1 if cold else 2):
        assert get(nginx.port, token=token).status == 200
    api.never_saw(token)
    for request in api.requests:
        assert request.value("authorization") == jwt_of(ugly, token)
        assert request.value("x-copy") == f"<{jwt_of(ugly, token)}>"


@pytest.mark.parametrize(
    "early",
    [
        "set $copy $http_authorization;",
        'set $copy "<$http_authorization>";',
        'if ($http_authorization ~* "bearer +(.+)") { set $copy $1; }',
        'if ($http_authorization ~* "bearer +(?<copy>.+)") { set $some 1; }',
    ],
)
def test_a_copy_that_the_configuration_made_of_the_token_goes_nowhere(gateway, api, secrets, early):
    nginx = gateway(location=f'{early} proxy_set_header X-Copy "$copy$1";')
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert api.only()
    api.never_saw(token)


def test_http_authorization_in_the_access_log_holds_no_opaque_token(gateway, ugly, secrets):
    nginx = gateway(http="log_format careless '$uri $http_authorization';", server="access_log careless.log careless;")
    ugly.answer = lambda exchange: exchange.inactive() if exchange.token.startswith("bad") else exchange.active()
    good = secrets.token("good")
    assert get(nginx.port, "/good", token=good).status == 200
    log = nginx.dir / "careless.log"
    until(lambda: log.exists() and "/good" in log.read_text(), "the request is logged")
    assert good not in log.read_text()


# --- subrequests --------------------------------------------------------------------------------------------------


def test_a_mirror_gets_the_jwt_and_not_the_token(gateway, ugly, api, auth, secrets):
    nginx = gateway(location="mirror /mirror;", server=f"location = /mirror {{ internal; proxy_pass {auth.url}; }}")
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    mirrored = auth.wait(1)
    assert mirrored[0].value("authorization") == jwt_of(ugly, token)
    auth.never_saw(token)
    api.never_saw(token)


def test_an_ssi_include_gets_the_jwt_and_not_the_token(gateway, ugly, api, secrets):
    nginx = gateway(
        server=f"location /page {{ phantom_token acme; ssi on; ssi_types *; }} location /part {{ proxy_pass {api.url}; }}",
        files={"html/page": '<!--#include virtual="/part" -->'},
    )
    token = secrets.token()
    answer = get(nginx.port, "/page", token=token)
    assert (answer.status, answer.body) == (200, b"hello")
    assert api.only().value("authorization") == jwt_of(ugly, token)
    api.never_saw(token)


def test_an_ssi_include_of_a_guarded_location_costs_no_second_introspection(gateway, ugly, api, secrets):
    nginx = gateway(
        server="location /page { phantom_token acme; ssi on; ssi_types *; }",
        files={"html/page": '<!--#include virtual="/part" --><!--#include virtual="/part2" -->'},
    )
    token = secrets.token()
    assert get(nginx.port, "/page", token=token).body == b"hellohello"
    assert ugly.calls_for(token) == 1
    assert {request.value("authorization") for request in api.wait(2)} == {jwt_of(ugly, token)}


def test_auth_request_to_a_location_of_its_own_sends_no_opaque_token_to_the_api(gateway, ugly, api, auth, secrets):
    nginx = gateway(
        location="auth_request /auth;",
        server=f"location = /auth {{ internal; phantom_token acme; proxy_pass {auth.url}; }}",
    )
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert api.only().value("authorization") == jwt_of(ugly, token)
    api.never_saw(token)


def test_an_addition_to_a_page_gets_the_jwt_and_not_the_token(gateway, ugly, api, secrets):
    nginx = gateway(
        server=f"""
    location /page {{ phantom_token acme; add_before_body /part; addition_types *; }}
    location /part {{ proxy_pass {api.url}; }}
""",
        files={"html/page": " page"},
    )
    token = secrets.token()
    assert get(nginx.port, "/page", token=token).body == b"hello page"
    assert api.only().value("authorization") == jwt_of(ugly, token)
    api.never_saw(token)


def test_every_slice_is_asked_for_with_the_jwt(gateway, ugly, api, secrets):
    nginx = gateway(location="slice 1k; proxy_set_header Range $slice_range;")
    content = bytes(range(256)) * 10

    def answer(request):
        first, _, last = request.value("range").partition("=")[2].partition("-")
        part = content[int(first) : int(last) + 1]
        head = (
            f'HTTP/1.1 206 Partial Content\r\nContent-Length: {len(part)}\r\nETag: "one"\r\n'
            f"Content-Range: bytes {first}-{int(first) + len(part) - 1}/{len(content)}\r\n\r\n"
        )
        return head.encode() + part

    api.answer = answer
    token = secrets.token()
    assert get(nginx.port, token=token).body == content
    assert [request.value("authorization") for request in api.requests] == [jwt_of(ugly, token)] * 3
    assert ugly.calls_for(token) == 1


def test_an_update_of_the_cache_in_the_background_is_asked_for_with_the_jwt(gateway, ugly, api, secrets):
    nginx = gateway(
        http="proxy_cache_path @dir@/cache keys_zone=cache:1m;",
        location="proxy_cache cache; proxy_cache_use_stale updating; proxy_cache_background_update on;"
        "add_header X-Stored $upstream_cache_status;",
    )
    api.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nCache-Control: max-age=1\r\n\r\nhello"
    token = secrets.token()
    assert get(nginx.port, token=token).value("x-stored") == "MISS"
    # A stored response is served only to a client with a token.
    assert get(nginx.port).status == 401
    until(lambda: get(nginx.port, token=token).value("x-stored") in ("STALE", "UPDATING"), "it has become stale")
    assert {request.value("authorization") for request in api.wait(2)} == {jwt_of(ugly, token)}


# --- kinds of upstream --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cold", [True, False], ids=["miss", "hit"])
@pytest.mark.parametrize("protocol", ["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("kind", ["proxy", "grpc", "fastcgi"])
def test_every_kind_of_upstream_gets_the_jwt(start_nginx, ugly, api, fastcgi, secrets, kind, protocol, cold):
    upstream = {
        "proxy": f"proxy_pass {api.url};",
        "grpc": "grpc_pass grpc://@listen:grpc@;",
        "fastcgi": f"fastcgi_pass {fastcgi.address}; fastcgi_param AUTH $http_authorization;",
    }[kind]
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
server {{
    listen @listen@ {"http2" if protocol == "HTTP/2" else ""};
    location / {{ phantom_token acme; {upstream} }}
}}
server {{
    listen @listen:grpc@ http2;
    access_log grpc.log combined_phantom;
    location / {{ add_header X-Got $http_authorization; return 200; }}
}}
"""
    )
    ask = get2 if protocol == "HTTP/2" else get
    token = secrets.token()
    for _ in range(1 if cold else 2):
        answer = ask(nginx.port, token=token)
        assert answer.status == 200
    expected = jwt_of(ugly, token)
    assert ugly.calls_for(token) == 1
    if kind == "proxy":
        assert {request.value("authorization") for request in api.requests} == {expected}
    elif kind == "grpc":
        assert answer.value("x-got") == expected
    else:
        for params in fastcgi.requests:
            assert [value for name, value in params if name == "HTTP_AUTHORIZATION"] == [expected]
            assert [value for name, value in params if name == "AUTH"] == [expected]
    assert ask(nginx.port).status == 401


def test_a_grpc_request_with_a_body_gets_through(start_nginx, ugly, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
server {{ listen @listen@ http2; location / {{ phantom_token acme; grpc_pass grpc://@listen:grpc@; }} }}
server {{ listen @listen:grpc@ http2; location / {{ add_header X-Got $http_authorization; return 200; }} }}
"""
    )
    with Http2(nginx.port) as client:
        token = secrets.token()
        answer = client.request("POST", token=token, body=b"\0\0\0\0\5hello", headers=[("te", "trailers")])
        assert (answer.status, answer.value("x-got")) == (200, jwt_of(ugly, token))


def test_an_upload_over_http2_arrives_whole(gateway, ugly, api, secrets):
    nginx = gateway(listen="http2")
    with Http2(nginx.port) as client:
        assert client.request("POST", token=secrets.token(), body=b"b" * 10_000).status == 200
    assert api.only().body == b"b" * 10_000


def test_the_next_upstream_gets_the_jwt_too(start_nginx, ugly, api, auth, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
upstream apis {{ server {auth.address}; server {api.address} backup; }}
server {{
    listen @listen@;
    location / {{ phantom_token acme; proxy_pass http://apis; proxy_next_upstream http_503; }}
}}
"""
    )
    auth.answer = lambda _: b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert auth.only().value("authorization") == jwt_of(ugly, token)
    assert api.only().value("authorization") == jwt_of(ugly, token)


def test_a_connection_may_be_upgraded(gateway, ugly, api, secrets):
    nginx = gateway(location="proxy_set_header Connection upgrade; proxy_set_header Upgrade $http_upgrade;")
    api.answer = lambda _: b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhi"
    token = secrets.token()
    with Http1(nginx.port) as client:
        client.send(token=token, headers=[("Connection", "upgrade"), ("Upgrade", "echo")])
        assert client.read().status == 101
        assert client._connection.exactly(2) == b"hi"
    assert api.only().value("authorization") == jwt_of(ugly, token)


def test_a_token_in_front_of_a_closed_api_is_502_of_nginx_itself(gateway, ugly, api, secrets):
    nginx = gateway()
    api.stop()
    answer = get(nginx.port, token=secrets.token())
    assert answer.status == 502
    assert nginx.log_lines("acme") == []
    assert nginx.wait_access("result=ok")


def test_static_files_are_guarded(start_nginx, ugly, secrets):
    nginx = start_nginx(
        f"{config.provider(ugly.url, secrets)} server {{ listen @listen@; location / {{ phantom_token acme; }} }}",
        files={"html/page": "a page"},
    )
    assert get(nginx.port, "/page").status == 401
    assert get(nginx.port, "/page", token=secrets.token()).body == b"a page"


# --- preflight ----------------------------------------------------------------------------------------------------

PREFLIGHT = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "POST")]


@pytest.mark.parametrize("setting", ["", "phantom_token_preflight answer;"], ids=["default", "answer"])
def test_a_preflight_is_answered_and_goes_nowhere(gateway, ugly, api, setting):
    nginx = gateway(location=f"{setting} add_header Access-Control-Allow-Origin * always;")
    answer = get(nginx.port, method="OPTIONS", headers=PREFLIGHT)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.value("access-control-allow-origin") == "*"
    assert answer.value("www-authenticate") is None
    assert (ugly.calls, api.requests) == ([], [])


def test_a_preflight_passes_where_the_api_answers_it(gateway, ugly, api, secrets):
    nginx = gateway(location="phantom_token_preflight pass;")
    assert get(nginx.port, method="OPTIONS", headers=PREFLIGHT).status == 200
    assert api.only().method == "OPTIONS"
    assert ugly.calls == []


def test_a_preflight_that_passes_takes_no_opaque_token_along(gateway, api, secrets):
    nginx = gateway(location="phantom_token_preflight pass;")
    token = secrets.token()
    assert get(nginx.port, method="OPTIONS", headers=PREFLIGHT, token=token).status == 200
    assert api.only().values("authorization") == []
    api.never_saw(token)


def test_a_preflight_that_passes_satisfies_nothing(gateway, ugly, api):
    nginx = gateway(location="phantom_token_preflight pass; satisfy any; deny all;")
    assert get(nginx.port, method="OPTIONS", headers=PREFLIGHT).status == 403
    assert api.requests == []


def test_a_preflight_passes_where_another_check_lets_it_in(gateway, ugly, api):
    nginx = gateway(location="phantom_token_preflight pass; satisfy any; allow 127.0.0.1; deny all;")
    assert get(nginx.port, method="OPTIONS", headers=PREFLIGHT).status == 200
    assert api.only().method == "OPTIONS"


def test_a_preflight_is_refused_where_it_is_denied(gateway, ugly, api):
    nginx = gateway(location="phantom_token_preflight deny;")
    assert get(nginx.port, method="OPTIONS", headers=PREFLIGHT).status == 401
    assert (ugly.calls, api.requests) == ([], [])


@pytest.mark.parametrize("setting", ["answer", "pass", "deny"])
@pytest.mark.parametrize("headers", [[], PREFLIGHT[:1], PREFLIGHT[1:]], ids=["bare", "origin", "method"])
def test_an_options_request_that_is_no_preflight_needs_a_token(gateway, ugly, api, secrets, setting, headers):
    nginx = gateway(location=f"phantom_token_preflight {setting};")
    assert get(nginx.port, method="OPTIONS", headers=headers).status == 401
    assert api.requests == []
    token = secrets.token()
    assert get(nginx.port, method="OPTIONS", headers=headers, token=token).status == 200
    assert api.only().value("authorization") == jwt_of(ugly, token)


@pytest.mark.parametrize("setting", ["answer", "pass"])
def test_another_method_with_the_headers_of_a_preflight_needs_a_token(gateway, api, setting):
    nginx = gateway(location=f"phantom_token_preflight {setting};")
    for method in ("GET", "POST", "DELETE"):
        assert get(nginx.port, method=method, headers=PREFLIGHT).status == 401
    # nginx knows no method in lower case.
    assert get(nginx.port, method="options", headers=PREFLIGHT).status == 400
    assert api.requests == []
