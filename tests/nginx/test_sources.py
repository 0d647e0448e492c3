"""Token sources: `phantom_token_source`, and that the header, cookie or parameter with a token is removed."""

import base64
import re
import secrets as random
import urllib.parse

import pytest

from harness import config
from harness.client import Http1, get, get2
from harness.nginx import connection_to_an_api

PROTOCOLS = [pytest.param((get, ""), id="http1"), pytest.param((get2, "http2"), id="http2")]
USER = "Basic " + base64.b64encode(b"user:password").decode()
PASSWORDS = {"passwords": "user:{PLAIN}password\n"}

ALL = "phantom_token_source authorization header X-Token cookie session query access_token;"

# How a request presents a token, by source.
WAYS = {
    "header": lambda token: {"headers": [("x-token", token)]},
    "cookie": lambda token: {"headers": [("cookie", f"theme=dark; session={token}; lang=en")]},
    "query": lambda token: {"target": f"/things?a=1&access_token={token}&b=2"},
}


def jwt_of(ugly, token):
    return f"Bearer {ugly.jwt_for(token)}"


def ask(get_, port, how, **more):
    how = {**how, **more}
    return get_(port, how.pop("target", "/things"), **how)


@pytest.mark.parametrize("cold", [True, False], ids=["miss", "hit"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("way", WAYS)
def test_a_token_is_taken_from_each_source_and_out_of_it(gateway, ugly, api, secrets, way, protocol, cold):
    get_, listen = protocol
    nginx = gateway(location=ALL, listen=listen)
    token = secrets.token()
    for _ in range(1 if cold else 2):
        assert ask(get_, nginx.port, WAYS[way](token)).status == 200
    assert ugly.calls_for(token) == 1
    for request in api.requests:
        assert request.value("authorization") == jwt_of(ugly, token)
        assert request.values("x-token") == []
        assert request.values("cookie") == (["theme=dark; lang=en"] if way == "cookie" else [])
        assert request.target == ("/things?a=1&b=2" if way == "query" else "/things")
    api.never_saw(token)


@pytest.mark.parametrize("way", WAYS)
def test_every_other_header_goes_on_as_it_came(gateway, ugly, api, secrets, way):
    nginx = gateway(location=ALL)
    token = secrets.token()
    others = [(f"X-Header-{n}", f"value {n}") for n in range(40)]
    how = WAYS[way](token)
    how["headers"] = others[:20] + how.get("headers", []) + others[20:]
    assert ask(get, nginx.port, how).status == 200
    expected = [("Host", api.address), *connection_to_an_api(), *others]
    got = [(name, value) for name, value in api.only().headers if name.lower() not in ("authorization", "cookie")]
    assert got == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "headers, left",
    [
        ([("cookie", "session=@")], []),
        ([("cookie", "session=@"), ("cookie", "a=b")], ["a=b"]),
        ([("cookie", "a=b"), ("cookie", "c=d;session=@;e")], ["a=b", "c=d; e"]),
        ([("cookie", 'a="x y"; session="@"')], ['a="x y"']),
        ([("cookie", "session=@; session2=x; xsession=y")], ["session2=x; xsession=y"]),
    ],
)
def test_only_the_cookie_with_the_token_is_taken_out(gateway, api, secrets, headers, left, protocol):
    get_, listen = protocol
    nginx = gateway(
        location='phantom_token_source cookie session; proxy_set_header X-Saw "$http_cookie|$cookie_session|$cookie_a";',
        listen=listen,
    )
    token = secrets.token()
    headers = [(name, value.replace("@", token)) for name, value in headers]
    assert get_(nginx.port, headers=headers).status == 200
    # nginx makes one of the cookies that come in several fields of HTTP/2.
    assert "; ".join(api.only().values("cookie")) == "; ".join(left)
    assert api.only().value("x-saw").startswith("; ".join(left) + "||")
    api.never_saw(token)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("proxy_pass", ["", "/", "/other", "/v$request_uri", "/$is_args$args"])
def test_no_variable_and_no_log_shows_a_token_of_the_query(start_nginx, ugly, api, secrets, proxy_pass, protocol):
    get_, listen = protocol
    seen = "$request_uri|$args|$query_string|$arg_access_token|$request|$mapped|$kept"
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
log_format seen '{seen} $request "$http_referer"';
map $request_uri $mapped {{ default $request_uri; }}
server {{
    listen @listen@ {listen};
    access_log seen.log seen;
    location / {{
        phantom_token acme;
        phantom_token_source query access_token;
        set $kept "$args";
        set $early "$mapped$request$arg_access_token$query_string$request_uri";
        proxy_pass {api.url}{proxy_pass};
        proxy_set_header X-Saw "{seen}";
    }}
}}
"""
    )
    token = secrets.token("short")
    for target in (f"/a%20b?access_token={token}", f"/c?x=%2F&access%5Ftoken={token}&y"):
        assert get_(nginx.port, target).status == 200
    assert get_(nginx.port, f"/d?access_token={token}&access_token=x").status == 400
    api.never_saw(token)
    if not proxy_pass:
        assert [request.target for request in api.requests] == ["/a%20b", "/c?x=%2F&y"]
    nginx.quit()
    nginx.wait_gone()
    log = (nginx.dir / "seen.log").read_text()
    assert token not in log
    assert log.count("\n") == 3
    assert "/c?x=%2F&y|x=%2F&y|x=%2F&y|-|" in log


@pytest.mark.parametrize("token", ["abc", "a-b.c_d~e+f/g=", "%61bc", "a%2Bb%2f%3D"])
def test_a_token_of_the_query_is_decoded(gateway, ugly, api, secrets, token):
    nginx = gateway(location="phantom_token_source query access_token;")
    written = token if "%" in token else urllib.parse.quote(token, safe="")
    assert get(nginx.port, f"/?access_token={written}").status == 200
    assert [call.token for call in ugly.calls] == [urllib.parse.unquote(token)]
    assert api.only().target == "/"


MALFORMED = {
    "a space in the query": {"target": "/?access_token=a+b"},
    "a broken escape": {"target": "/?access_token=a%zz"},
    "an escaped control": {"target": "/?access_token=a%0d%0aX:b"},
    "an escaped NUL": {"target": "/?access_token=a%00"},
    "too long": {"target": "/?access_token=" + 2731 * "%61%62%63"},
    "a scheme in a header": {"headers": [("X-Token", "Bearer abc")]},
    "a comma in a header": {"headers": [("X-Token", "a,b")]},
    "a quote in a cookie": {"headers": [("Cookie", 'session="a')]},
    "a space in a cookie": {"headers": [("Cookie", "session=a b")]},
    "two parameters": {"target": "/?access_token=abc&access_token=abc"},
    "two parameters, one escaped": {"target": "/?access_token=abc&%61ccess_token=def"},
    "two parameters, one empty": {"target": "/?access_token=abc&access_token"},
    "two cookies": {"headers": [("Cookie", "session=abc; session=abc")]},
    "two cookies in two headers": {"headers": [("Cookie", "session=abc"), ("Cookie", "session=def")]},
    "two headers": {"headers": [("X-Token", "abc"), ("X-Token", "abc")]},
    "two headers that CGI takes for one": {"headers": [("X-Token", "abc"), ("x_token", "abc")]},
    "a header and a cookie": {"headers": [("X-Token", "abc"), ("Cookie", "session=abc")]},
    "a cookie and the query": {"target": "/?access_token=abc", "headers": [("Cookie", "session=abc")]},
    "authorization and the query": {"target": "/?access_token=abc", "token": "abc"},
    "a malformed authorization and a cookie": {"authorization": "Bearer", "headers": [("Cookie", "session=abc")]},
    "DPoP and a cookie": {"authorization": "DPoP abc", "headers": [("Cookie", "session=abc")]},
}


@pytest.mark.parametrize("optional", ["", "phantom_token_optional on;"])
@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_token_or_several_is_refused(gateway, ugly, api, name, optional):
    nginx = gateway(
        server="underscores_in_headers on; large_client_header_buffers 4 64k;",
        location=f"{ALL} {optional} add_header X-Reason $phantom_token_reason always;",
    )
    answer = ask(get, nginx.port, MALFORMED[name])
    assert answer.status == 400
    assert answer.json()["code"] == "invalid_request"
    assert 'error="invalid_request"' in answer.value("www-authenticate")
    several = name.startswith("two") or " and " in name
    assert (answer.value("x-reason") == "several") == several
    assert (ugly.calls, api.requests) == ([], [])


def test_the_reason_names_the_place_of_what_is_no_token(gateway):
    nginx = gateway(location=f"{ALL} add_header X-Reason $phantom_token_reason always;")
    assert get(nginx.port, "/?access_token=%20").value("x-reason") == "query"
    assert get(nginx.port, headers=[("cookie", "session=,")]).value("x-reason") == "cookie"
    assert get(nginx.port, headers=[("x-token", ",")]).value("x-reason") == "header"
    assert get(nginx.port, authorization="Bearer ,").value("x-reason") == "token"


@pytest.mark.parametrize(
    "how",
    [{"target": "/?access_token="}, {"headers": [("cookie", "session=")]}, {"headers": [("x-token", "")]}],
    ids=["query", "cookie", "header"],
)
def test_an_empty_place_holds_no_token(gateway, api, how):
    nginx = gateway(location=ALL)
    answer = ask(get, nginx.port, how)
    assert (answer.status, answer.json()["code"]) == (401, "unauthorized_request")


@pytest.mark.parametrize("way", WAYS)
def test_a_source_that_is_not_named_is_neither_read_nor_touched(gateway, ugly, api, secrets, way):
    nginx = gateway()
    plain = "not-a-token-of-ours"
    assert ask(get, nginx.port, WAYS[way](plain)).status == 401
    token = secrets.token()
    assert ask(get, nginx.port, WAYS[way](plain), token=token).status == 200
    assert plain.encode() in api.only().head
    assert [call.token for call in ugly.calls] == [token]


def test_authorization_is_not_read_where_it_is_not_named_and_never_goes_on(gateway, ugly, api, secrets):
    nginx = gateway(location="phantom_token_source cookie session;")
    other = secrets.token()
    assert get(nginx.port, token=other).status == 401
    token = secrets.token()
    assert get(nginx.port, token=other, headers=[("cookie", f"session={token}")]).status == 200
    assert api.only().value("authorization") == jwt_of(ugly, token)
    assert ugly.calls_for(other) == 0
    api.never_saw(other)


def test_credentials_of_another_scheme_give_way_to_the_jwt(gateway, ugly, api, secrets):
    nginx = gateway(location=ALL)
    token = secrets.token()
    assert get(nginx.port, authorization=USER, headers=[("cookie", f"session={token}")]).status == 200
    assert api.only().value("authorization") == jwt_of(ugly, token)


@pytest.mark.parametrize("way", WAYS)
def test_a_refused_token_shows_in_no_log_and_in_no_error_page(gateway, ugly, api, secrets, way):
    ugly.answer = lambda exchange: exchange.inactive()
    nginx = gateway(
        http="log_format seen '$request $request_uri $args $http_cookie $cookie_session $http_x_token';",
        server=f"""
            access_log seen.log seen;
            error_page 401 = @refused;
            location @refused {{
                phantom_token off;
                proxy_pass {api.url};
                proxy_set_header X-Saw "$request_uri $args $http_cookie $http_x_token $request";
            }}
        """,
        location=ALL,
    )
    token = secrets.token()
    assert ask(get, nginx.port, WAYS[way](token)).status == 200
    assert api.only().values("x-saw")
    api.never_saw(token)
    nginx.quit()
    nginx.wait_gone()
    assert token not in (nginx.dir / "seen.log").read_text()


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_leaves_while_its_token_is_asked_about_leaves_no_trace(gateway, ugly, secrets, way):
    nginx = gateway(
        http="log_format seen '$request $request_uri $args $http_cookie $http_x_token';",
        server="access_log seen.log seen;",
        location=ALL,
    )
    ugly.answer = ugly.holding()
    token = secrets.token()
    how = WAYS[way](token)
    with Http1(nginx.port) as client:
        client.send(target=how.pop("target", "/"), **how)
        ugly.wait_calls()
    nginx.quit()
    ugly.release()
    nginx.wait_gone()
    assert token not in (nginx.dir / "seen.log").read_text()


@pytest.mark.parametrize("way", WAYS)
def test_satisfy_any_admits_by_address_and_swaps_or_takes_the_token_off(gateway, ugly, api, secrets, way):
    nginx = gateway(location=f"{ALL} satisfy any; allow 127.0.0.1; deny all;")
    token = secrets.token()
    assert ask(get, nginx.port, WAYS[way](token)).status == 200
    assert api.only().value("authorization") == jwt_of(ugly, token)
    ugly.answer = lambda exchange: exchange.inactive()
    bad = secrets.token()
    assert ask(get, nginx.port, WAYS[way](bad)).status == 200
    assert api.requests[-1].values("authorization") == []
    api.never_saw(token)
    api.never_saw(bad)


def test_satisfy_any_leaves_a_user_whose_cookie_is_not_good(gateway, ugly, api, secrets):
    ugly.answer = lambda exchange: exchange.inactive()
    nginx = gateway(location=f"{ALL} satisfy any; auth_basic x; auth_basic_user_file passwords;", files=PASSWORDS)
    bad = secrets.token()
    assert get(nginx.port, authorization=USER, headers=[("cookie", f"session={bad}")]).status == 200
    assert api.only().value("authorization") == USER
    api.never_saw(bad)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "location, server",
    [
        ("try_files /nowhere @there;", ""),
        ("rewrite ^/things /inner last;", "location /inner { phantom_token acme; proxy_pass @api@; }"),
        ("error_page 418 = @there; if ($arg_x = '') { } auth_request /no;", "location = /no { return 204; }"),
    ],
    ids=["try_files", "rewrite", "auth_request"],
)
def test_an_internal_redirect_keeps_the_jwt_and_shows_no_token(
    start_nginx, ugly, api, secrets, way, location, server
):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
{ALL}
server {{
    listen @listen@;
    location / {{ phantom_token acme; {location} proxy_pass {api.url}; }}
    location @there {{ phantom_token acme; proxy_pass {api.url}; }}
    {server.replace("@api@", api.url)}
}}
"""
    )
    token = secrets.token()
    assert ask(get, nginx.port, WAYS[way](token)).status == 200
    assert api.only().value("authorization") == jwt_of(ugly, token)
    assert ugly.calls_for(token) == 1
    api.never_saw(token)


@pytest.mark.parametrize("guarded", ["phantom_token acme;", "phantom_token off;"])
@pytest.mark.parametrize("way", WAYS)
def test_a_subrequest_carries_the_jwt_and_no_token(start_nginx, ugly, api, secrets, way, guarded):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
{ALL}
server {{
    listen @listen@;
    location / {{ phantom_token acme; mirror /mirror; proxy_pass {api.url}; }}
    location = /mirror {{ internal; {guarded} proxy_pass {api.url}/mirror$is_args$args; }}
}}
"""
    )
    token = secrets.token()
    assert ask(get, nginx.port, WAYS[way](token)).status == 200
    for request in api.wait(2):
        assert request.value("authorization") == jwt_of(ugly, token)
    api.never_saw(token)


@pytest.mark.parametrize("way", ["header", "cookie"])
def test_a_subrequest_of_an_unguarded_location_loses_the_token_and_its_parent_does_not(
    start_nginx, ugly, api, secrets, way
):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
{ALL}
server {{
    listen @listen@;
    location / {{ mirror /mirror; proxy_pass {api.url}/main; }}
    location = /mirror {{ internal; phantom_token acme; proxy_pass {api.url}/mirror; }}
}}
"""
    )
    token = "never-resolved-" + "0123456789"
    assert ask(get, nginx.port, WAYS[way](token)).status == 200
    main, mirror = sorted(api.wait(2), key=lambda request: request.target)
    assert token.encode() in main.head
    assert token.encode() not in mirror.head
    assert mirror.values("cookie") == (["theme=dark; lang=en"] if way == "cookie" else [])
    assert ugly.calls == []


def test_caches_are_told_of_a_token_in_the_query(gateway, ugly, api, secrets):
    nginx = gateway(location=ALL)
    assert get(nginx.port, f"/?access_token={secrets.token()}").values("cache-control") == ["private"]
    assert get(nginx.port, token=secrets.token()).values("cache-control") == []
    ugly.answer = lambda exchange: exchange.inactive()
    assert get(nginx.port, f"/?access_token={secrets.token()}").values("cache-control") == ["no-store"]


def test_sources_are_inherited_and_replaced_as_a_whole(start_nginx, ugly, api, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
phantom_token acme;
phantom_token_source cookie a;
server {{
    listen @listen@;
    location /http {{ proxy_pass {api.url}; }}
}}
server {{
    listen @listen:two@;
    phantom_token_source cookie b;
    phantom_token_source query c;
    location /server {{ proxy_pass {api.url}; }}
    location /location {{ phantom_token_source authorization; proxy_pass {api.url}; }}
}}
"""
    )

    def statuses(port, path):
        return [
            get(port, path, headers=[("cookie", f"a={secrets.token()}")]).status,
            get(port, path, headers=[("cookie", f"b={secrets.token()}")]).status,
            # Where it is no source, nginx's own lines show it.
            get(port, f"{path}?c={random.token_hex(16)}").status,
            get(port, path, token=secrets.token()).status,
        ]

    two = nginx.ports["two"]
    assert statuses(nginx.port, "/http") == [200, 401, 401, 401]
    assert statuses(two, "/server") == [401, 200, 200, 401]
    assert statuses(two, "/location") == [401, 401, 401, 200]


@pytest.mark.parametrize("way", WAYS)
def test_a_token_is_resolved_before_the_limits_from_any_source(gateway, ugly, api, secrets, way):
    nginx = gateway(
        http="limit_req_zone $phantom_token_sub zone=by_user:64k rate=1r/m;",
        location=f"{ALL} phantom_token_phase preaccess; limit_req zone=by_user; limit_req_status 429;",
    )
    token = secrets.token()
    assert ask(get, nginx.port, WAYS[way](token)).status == 200
    assert ask(get, nginx.port, WAYS[way](token)).status == 429
    assert ask(get, nginx.port, WAYS[way](secrets.token())).status == 200
    api.never_saw(token)


@pytest.mark.parametrize("way", WAYS)
def test_a_preflight_that_passes_takes_no_token_along(gateway, api, secrets, way):
    nginx = gateway(location=f"{ALL} phantom_token_preflight pass;")
    token = secrets.token()
    how = WAYS[way](token)
    how["headers"] = [*how.get("headers", []), ("origin", "https://x"), ("access-control-request-method", "GET")]
    assert ask(get, nginx.port, how, method="OPTIONS").status == 200
    api.never_saw(token)


def test_a_preflight_that_is_answered_shows_no_token_in_the_log(gateway, secrets):
    nginx = gateway(http="log_format seen '$request $request_uri';", server="access_log seen.log seen;", location=ALL)
    token = secrets.token()
    headers = [("origin", "https://x"), ("access-control-request-method", "GET")]
    assert get(nginx.port, f"/a?access_token={token}&b", "OPTIONS", headers=headers).status == 204
    nginx.quit()
    nginx.wait_gone()
    assert (nginx.dir / "seen.log").read_text() == "OPTIONS /a?b HTTP/1.1 /a?b\n"


def test_a_page_of_parts_gets_the_jwt_in_each_and_no_token(start_nginx, ugly, api, secrets):
    page = b'<!--# include virtual="/part" --><!--# include virtual="/off" -->'
    api.answer = lambda request: (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page) + page
        if request.target.startswith("/page")
        else None
    )
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
phantom_token acme;
{ALL}
phantom_token_forward header X-Jwt;
phantom_token_set_header X-User $phantom_token_sub;
server {{
    listen @listen@;
    location / {{ ssi on; proxy_pass {api.url}; }}
    location /off {{ phantom_token off; proxy_pass {api.url}; }}
}}
"""
    )
    token = secrets.token()
    answer = get(nginx.port, f"/page?access_token={token}", headers=[("X-User", "root"), ("X-Jwt", "a.b.c")])
    assert answer.body == b"hellohello"
    for request in api.wait(3):
        assert request.values("x-jwt") == [ugly.jwt_for(token)]
        assert request.values("x-user") == [f"of {token[-8:]}"]
        assert request.values("authorization") == []
    api.never_saw(token)


@pytest.mark.parametrize("way", WAYS)
def test_the_error_log_shows_no_token(start_nginx, ugly, secrets, way):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
server {{
    listen @listen@;
    location / {{ phantom_token acme; {ALL} proxy_pass http://127.0.0.1:1; }}
}}
"""
    )
    assert ask(get, nginx.port, WAYS[way](secrets.token())).status == 502
    assert re.search(r"connect\(\) failed .*request: \"GET /things", nginx.log())


FRAGMENTS = {
    "/a?x=1#access_token=@": "/a?x=1",
    "/a#access_token=@": "/a",
    "/a#?access_token=@": "/a",
    "/a?#access_token=@&b": "/a?",
    "/a?x=1#y=2&access%5Ftoken=@": "/a?x=1",
    "/a#/b?c&access_token=@#d": "/a",
}


@pytest.mark.parametrize("proxy_pass", ["", "$request_uri"])
@pytest.mark.parametrize("optional", [True, False], ids=["optional", "needed"])
@pytest.mark.parametrize("target", FRAGMENTS)
def test_a_token_in_the_fragment_is_none_and_goes_nowhere(start_nginx, ugly, api, secrets, target, optional, proxy_pass):
    """A request has no fragment (RFC 9112 §3.2), but nginx lets one pass, to where there is a proxy and to logs."""
    seen = "$request_uri|$request|$mapped|$kept"
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
log_format seen '{seen} "$http_referer"';
map $request_uri $mapped {{ default "<$request_uri>"; }}
server {{
    listen @listen@;
    access_log seen.log seen;
    location / {{
        phantom_token acme;
        phantom_token_source authorization query access_token;
        phantom_token_optional {"on" if optional else "off"};
        set $kept "$request_uri";
        set $early "$mapped$request";
        proxy_pass {api.url}{proxy_pass};
        proxy_set_header X-Saw "{seen}";
    }}
}}
"""
    )
    token = secrets.token()
    assert get(nginx.port, target.replace("@", token)).status == (200 if optional else 401)
    # Beside a token that is one.
    good = secrets.token()
    assert get(nginx.port, target.replace("@", token), token=good).status == 200
    api.never_saw(token)
    assert {request.target for request in api.requests} == {FRAGMENTS[target]}
    assert [call.token for call in ugly.calls] == [good]
    nginx.quit()
    nginx.wait_gone()
    log = (nginx.dir / "seen.log").read_text()
    assert log.count("\n") == 2
    assert token not in log


def test_a_token_in_the_query_and_one_in_the_fragment(gateway, ugly, api, secrets):
    nginx = gateway(http="log_format seen '$request $request_uri';", server="access_log seen.log seen;", location=ALL)
    token, other = secrets.token(), secrets.token()
    assert get(nginx.port, f"/a?b&access_token={token}#access_token={other}").status == 200
    assert (api.only().target, [call.token for call in ugly.calls]) == ("/a?b", [token])
    nginx.quit()
    nginx.wait_gone()
    assert (nginx.dir / "seen.log").read_text() == "GET /a?b HTTP/1.1 /a?b\n"


def test_a_fragment_is_left_alone_where_the_query_is_no_source(gateway, api, secrets):
    nginx = gateway()
    assert get(nginx.port, "/a?b#c", token=secrets.token()).status == 200
    assert api.only().target == "/a?b#c"


@pytest.mark.parametrize("active", [True, False], ids=["active", "inactive"])
@pytest.mark.parametrize("written", ["%61bc", "a%62c", "abc", "%61%62%63%64%65%66%67%68%69%6a%6b%6c"])
def test_a_short_token_stays_in_no_copy_as_it_was_written(start_nginx, ugly, api, secrets, written, active):
    """A `map` of the query, and what `set` has set of it; in the API's headers and in the log."""
    if not active:
        ugly.answer = lambda exchange: exchange.inactive()
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
log_format seen '$mapped|$twice|$kept|$whole';
map $args $mapped {{ default "<$args>"; }}
map $mapped $twice {{ default "<$mapped>"; }}
server {{
    listen @listen@;
    access_log seen.log seen;
    location / {{
        phantom_token acme;
        phantom_token_source query access_token;
        satisfy any;
        allow all;
        set $kept $arg_access_token;
        set $whole {'"<$args>"' if active else '""'};
        set $early "$mapped$twice";
        proxy_pass {api.url};
        proxy_set_header X-Saw "$mapped|$twice|$kept|$whole";
    }}
}}
"""
    )
    assert get(nginx.port, f"/?x=1&access_token={written}").status == 200
    assert [call.token for call in ugly.calls] == [urllib.parse.unquote(written)]
    assert api.only().value("x-saw") == "<x=1>|<<x=1>>||"
    nginx.quit()
    nginx.wait_gone()
    assert (nginx.dir / "seen.log").read_text().replace("-", "") == "<x=1>|<<x=1>>||\n"
