"""Configurations of the known phantom-token module (2.x) keep working: `phantom_token on` with an internal location that
introspects."""

import base64
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.client import Http1, Http2, get
from harness.nginx import Configuration, resident_bytes
from harness.ugly import Exchange
from harness.wait import until

CREDENTIALS = base64.b64encode(b"introspector:s3cr3t-of-the-location").decode()

# As the 2.x documentation has it.
HEADERS = f"""
        internal;
        proxy_pass_request_headers off;
        proxy_set_header Accept "application/jwt";
        proxy_set_header Content-Type "application/x-www-form-urlencoded";
        proxy_set_header Authorization "Basic {CREDENTIALS}";
"""


def servers(ugly, api, *, location=HEADERS, api_location="", server="", http="", listen="", name="curity", passes=None):
    """A server with an API at /api, and the location that introspects for it."""
    return f"""
{http}
server {{
    listen @listen@ {listen};
    server_name api.example.com;
    {server}
    location /api {{
        phantom_token on;
        phantom_token_introspection_endpoint {name};
        {api_location}
        proxy_pass {api.url};
    }}
    location {name} {{
        {location}
        {passes or f"proxy_pass {ugly.url};"}
    }}
}}
"""


@pytest.fixture
def old(start_nginx, ugly, api, secrets):
    """Starts nginx with such a configuration."""
    secrets.add(CREDENTIALS)
    settings = {"workers", "master", "daemon", "level", "files", "alarms_allowed", "main"}

    def start(**words):
        how = {key: words.pop(key) for key in settings & words.keys()}
        return start_nginx(servers(ugly, api, **words), **how)

    return start


def test_the_simple_configuration_turns_tokens_into_jwts(old, ugly, api, secrets):
    nginx = old()
    token = secrets.token()
    for _ in range(3):
        assert get(nginx.port, "/api/things", token=token).status == 200
    assert ugly.calls_for(token) == 1, "it is remembered"
    assert [request.value("authorization") for request in api.requests] == [f"Bearer {ugly.jwt_for(token)}"] * 3
    api.never_saw(token)
    refused = get(nginx.port, "/api/things")
    assert refused.status == 401
    assert refused.value("www-authenticate") == 'Bearer realm="api"'
    # The location is not for clients.
    assert get(nginx.port, "/curity").status == 404


def test_the_authorization_server_is_sent_what_it_wants_and_nothing_of_the_client(old, ugly, secrets):
    nginx = old()
    token = secrets.token()
    body = b"the client's own body"
    headers = [("Content-Type", "text/plain"), ("Cookie", "c=1"), ("X-Of-The-Client", "1"), ("Accept-Encoding", "gzip")]
    assert get(nginx.port, "/api", "POST", token=token, headers=headers, body=body).status == 200
    call = ugly.calls[0].request
    assert call.method == "POST"
    assert call.target == "/introspect"
    assert call.body == f"token={token}&token_type_hint=access_token".encode()
    assert call.value("content-length") == str(len(call.body))
    assert call.value("content-type") == "application/x-www-form-urlencoded"
    assert call.value("accept") == "application/jwt"
    assert call.value("authorization") == f"Basic {CREDENTIALS}"
    assert not call.chunked
    for name in ("cookie", "x-of-the-client", "accept-encoding", "transfer-encoding"):
        assert call.values(name) == [], name


def test_with_the_clients_headers_passed_on_what_is_its_own_stays_behind(old, ugly, api, secrets):
    nginx = old(location=f'internal; proxy_set_header Authorization "Basic {CREDENTIALS}";')
    token = secrets.token()
    sent = [
        ("Cookie", "c=1"),
        ("Content-Type", "text/plain"),
        ("Content-Encoding", "identity"),
        ("Accept", "text/html"),
        ("Accept-Encoding", "gzip"),
        ("If-None-Match", '"x"'),
        ("If-Modified-Since", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ("Range", "bytes=0-1"),
        ("DPoP", "proof"),
        ("Cache-Control", "no-cache"),
        ("X-HTTP-Method-Override", "GET"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Real-IP", "192.0.2.1"),
        ("Forwarded", "for=192.0.2.1"),
        ("X-Api-Key", "of-the-client"),
        ("Proxy", "http://evil.example"),
        ("X-Request-Id", "42"),
        ("User-Agent", "app"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]
    assert get(nginx.port, "/api", "PUT", token=token, headers=sent, body=b"the body").status == 200
    call = ugly.calls[0].request
    assert call.value("content-type") == "application/x-www-form-urlencoded"
    assert call.value("accept") == "application/jwt"
    assert call.value("content-length") == str(len(call.body))
    assert call.value("authorization") == f"Basic {CREDENTIALS}"
    assert call.value("x-request-id") == "42"
    assert call.value("user-agent") == "app"
    goes_along = {"x-request-id", "user-agent", "traceparent"}
    ours = {"content-type", "accept"}
    for name, value in sent:
        if name.lower() not in ours:
            assert call.values(name) == ([value] if name.lower() in goes_along else []), name
    # And the API sees all of it, with the JWT.
    received = api.only()
    assert received.method == "PUT"
    assert received.body == b"the body"
    for name, value in sent:
        assert received.value(name) == value
    assert received.value("authorization") == f"Bearer {ugly.jwt_for(token)}"


def test_without_credentials_in_the_location_the_clients_token_does_not_become_ours(old, ugly, secrets):
    nginx = old(location="internal;")
    assert get(nginx.port, "/api", token=secrets.token()).status == 200
    assert ugly.calls[0].request.values("authorization") == []


@pytest.mark.parametrize("evaluated", [False, True], ids=["", "body_seen_before"])
def test_the_configuration_with_a_cache_gives_each_token_its_own_jwt(old, ugly, api, secrets, evaluated):
    nginx = old(
        http="proxy_cache_path @dir@/cache levels=1:2 keys_zone=my_cache:10m max_size=1g inactive=60m use_temp_path=off;"
        'log_format bodies "$request_uri body=[$request_body]"; access_log @dir@/bodies.log bodies;',
        location=HEADERS
        + """
        proxy_cache_methods POST;
        proxy_cache my_cache;
        proxy_cache_key $request_body;
        proxy_ignore_headers Set-Cookie;
        """,
        # A value that was remembered for the client's request would be the key of all tokens.
        server='if ($request_body = "x") { return 418; }' if evaluated else "",
    )
    cached = ["Cache-Control: max-age=300", "Set-Cookie: a=b"]
    ugly.answer = lambda exchange: exchange.active(headers=cached)
    tokens = [secrets.token() for _ in range(4)]
    for token in tokens * 2:
        assert get(nginx.port, "/api", token=token).status == 200
    nginx.reload()
    for token in tokens * 2:
        assert get(nginx.port, "/api", token=token).status == 200
    seen = [request.value("authorization") for request in api.requests]
    assert seen == [f"Bearer {ugly.jwt_for(token)}" for token in tokens] * 4
    # After the reload nginx's own cache answered: from a file.
    assert len(ugly.calls) == 4
    logged = (nginx.dir / "bodies.log").read_text()
    assert not any(token in logged for token in tokens), "the client's log shows what was asked of the server"


def test_what_the_cache_gives_is_remembered_only_as_long_as_the_cache_would_give_it(old, ugly, secrets):
    nginx = old(
        http="proxy_cache_path @dir@/cache keys_zone=my_cache:1m;",
        location=HEADERS + "proxy_cache_methods POST; proxy_cache my_cache; proxy_cache_key $request_body;",
        workers=1,
    )
    ugly.answer = lambda exchange: exchange.active(headers=["Cache-Control: max-age=3"])
    token = secrets.token()
    assert get(nginx.port, "/api", token=token).status == 200
    nginx.reload()
    assert get(nginx.port, "/api", token=token).status == 200
    statuses = []
    until(
        lambda: statuses.append(get(nginx.port, "/api", token=token).status) or ugly.calls_for(token) > 1,
        "it is asked anew",
        5,
    )
    assert set(statuses) == {200}


def test_realm_and_scopes_are_advertised_and_enforced(old, ugly, secrets):
    nginx = old(api_location='phantom_token_realm "myGoodAPI"; phantom_token_scopes "scope_a scope_b scope_c";')
    missing = get(nginx.port, "/api")
    assert missing.status == 401
    assert missing.value("www-authenticate") == 'Bearer realm="myGoodAPI", scope="scope_a scope_b scope_c"'
    assert get(nginx.port, "/api", token=secrets.token()).status == 403
    ugly.answer = lambda exchange: exchange.active(scope="scope_c scope_b scope_a")
    assert get(nginx.port, "/api", token=secrets.token()).status == 200


def test_scopes_can_be_advertised_alone_as_before(old, secrets):
    nginx = old(
        api_location='phantom_token_scope "scope_a"; phantom_token_scope "scope_b"; phantom_token_scopes_enforce off;'
    )
    assert get(nginx.port, "/api").value("www-authenticate") == 'Bearer realm="api", scope="scope_a scope_b"'
    assert get(nginx.port, "/api", token=secrets.token()).status == 200


@pytest.mark.parametrize("name", ["curity", "/introspect", "= /curity"])
def test_the_name_of_the_location_is_with_or_without_a_slash(start_nginx, ugly, api, secrets, name):
    text = servers(ugly, api).replace("location curity", f"location {name}")
    nginx = start_nginx(text.replace("endpoint curity", f"endpoint {name.split()[-1]}"))
    assert get(nginx.port, "/api", token=secrets.token()).status == 200


def test_several_locations_and_servers_share_what_is_remembered_where_the_server_is_the_same_only(
    start_nginx, ugly, api, secrets
):
    def server(name):
        return f"""
server {{
    listen @listen@;
    server_name {name};
    phantom_token_introspection_endpoint curity;
    location /a {{ phantom_token on; proxy_pass {api.url}; }}
    location /b {{ phantom_token on; proxy_pass {api.url}; }}
    location /c {{ phantom_token on; phantom_token_introspection_endpoint other; proxy_pass {api.url}; }}
    location /open {{ proxy_pass {api.url}; }}
    location curity {{ internal; proxy_pass {ugly.url}/{name}/curity; }}
    location other {{ internal; proxy_pass {ugly.url}/{name}/other; }}
}}
"""

    nginx = start_nginx("phantom_token_zone tokens:1m;" + server("one") + server("two"), workers=2)
    token = secrets.token()
    ask = "GET {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer " + token + "\r\nConnection: close\r\n\r\n"

    def status(path, host):
        with Http1(nginx.port) as client:
            client.sock.sendall(ask.format(path, host).encode())
            return client.read().status

    for _ in range(3):
        for host in ("one", "two"):
            for path in ("/a", "/b", "/c", "/open"):
                assert status(path, host) == 200
    targets = sorted(call.request.target for call in ugly.calls)
    assert targets == [f"/introspect/{host}/{name}" for host in ("one", "two") for name in ("curity", "other")]


def test_what_one_server_takes_for_active_another_does_not(start_nginx, ugly, api, secrets):
    text = servers(ugly, api)
    other = text.replace("api.example.com", "other.example.com").replace(ugly.url, f"{ugly.url}/other")
    nginx = start_nginx(f"phantom_token_zone tokens:1m; {text} {other}")
    ugly.answer = lambda exchange: exchange.inactive() if "/other" in exchange.request.target else exchange.active()
    token = secrets.token()

    def status(host):
        with Http1(nginx.port) as client:
            client.sock.sendall(
                f"GET /api HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            )
            return client.read().status

    for _ in range(2):
        assert status("api.example.com") == 200
        assert status("other.example.com") == 401
    # Nor after a reload in which they have changed places.
    nginx.write(f"phantom_token_zone tokens:1m; {other} {text}")
    nginx.reload()
    assert status("other.example.com") == 401
    assert status("api.example.com") == 200
    # It is another text, so that both are asked again.
    assert len(ugly.calls) == 4


def test_all_workers_remember_together_in_the_zone(old, ugly, secrets):
    nginx = old(http="phantom_token_zone tokens:1m;", workers=4)
    token = secrets.token()
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda _: get(nginx.port, "/api", token=token).status, range(60)))
    assert statuses == [200] * 60
    assert ugly.calls_for(token) == 1


def chunked(exchange, body, size):
    exchange.send("HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nTransfer-Encoding: chunked\r\n\r\n")
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        exchange.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    exchange.send("0\r\n\r\n")


def large(exchange, size=40_000):
    return exchange.jwt(padding="x" * size)


ANSWERS = {
    "one byte at a time": lambda e: e.drip(
        f"HTTP/1.1 200 OK\r\nContent-Length: {len(e.jwt())}\r\n\r\n{e.jwt()}".encode(), 0.0005
    ),
    "chunks": lambda e: chunked(e, e.jwt().encode(), 50),
    "chunks of one byte": lambda e: chunked(e, e.jwt().encode(), 1),
    "until the end of the connection": lambda e: (e.send(f"HTTP/1.0 200 OK\r\n\r\n{e.jwt()}"), e.close()),
    "larger than all buffers": lambda e: e.reply(body=large(e)),
    "larger than all buffers, in chunks": lambda e: chunked(e, large(e).encode(), 1000),
    "json": lambda e: e.reply(
        body=f'{{"active":true,"phantom_token":"{e.jwt()}"}}', content_type="application/json; charset=utf-8"
    ),
}
CACHED = "proxy_cache_methods POST; proxy_cache c; proxy_cache_key $request_body; proxy_cache_valid 1m;"
WAYS = {
    "plain": "",
    "unbuffered": "proxy_buffering off;",
    "small buffers": "proxy_buffer_size 1k; proxy_buffers 2 1k; proxy_busy_buffers_size 1k; proxy_max_temp_file_size 0;",
    "HTTP/1.1": 'proxy_http_version 1.1; proxy_set_header Connection "";',
    "cached": CACHED,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_an_answer_may_come_in_any_number_of_pieces(old, ugly, api, secrets, way):
    nginx = old(location=HEADERS + way, http="proxy_cache_path @dir@/cache keys_zone=c:1m;")
    for name, answer in ANSWERS.items():
        ugly.answer = answer
        token = secrets.token()
        expected = "Bearer " + ugly.jwt_for(token, **({"padding": "x" * 40_000} if "larger" in name else {}))
        # A second request of it, and another token, show that nothing was left behind.
        for _ in range(2):
            assert get(nginx.port, "/api", token=token).status == 200, name
            assert api.requests[-1].value("authorization") == expected, name
        assert ugly.calls_for(token) == 1, name


@pytest.mark.parametrize("way", [WAYS["plain"], WAYS["cached"]], ids=["plain", "cached"])
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_an_answer_that_is_too_large_is_refused_and_not_kept(old, ugly, api, secrets, way, announced):
    nginx = old(location=HEADERS + way, http="proxy_cache_path @dir@/cache keys_zone=c:1m;")
    token = secrets.token()
    assert get(nginx.port, "/api", token=token).status == 200
    before = resident_bytes(nginx.worker())
    body = b"x" * (10 << 20)
    ugly.answer = (lambda e: e.reply(body=body)) if announced else (lambda e: chunked(e, body, 1 << 16))
    for _ in range(5):
        assert get(nginx.port, "/api", token=secrets.token()).status == 502
    assert nginx.log_lines("larger than 65536 bytes")
    assert resident_bytes(nginx.worker()) - before < 8 << 20
    ugly.answer = Exchange.active
    assert get(nginx.port, "/api", token=secrets.token()).status in (200, 503)
    api.never_saw("xxxxxxxx")


def test_an_answer_without_end_is_cut_off(old, ugly, secrets):
    nginx = old()
    stopped = threading.Event()

    def endless(exchange):
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while not exchange.server.stopping.is_set():
                exchange.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        finally:
            stopped.set()

    ugly.answer = endless
    with Http1(nginx.port) as client:
        assert client.request(target="/api", token=secrets.token()).status == 502
        assert stopped.wait(5), "nginx closes the connection to the authorization server"
        # The client's connection goes on.
        ugly.answer = Exchange.active
        assert client.request(target="/api", token=secrets.token()).status == 200


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_an_answer_that_ends_early_lets_nobody_in(old, ugly, api, secrets, way):
    nginx = old(
        location=HEADERS + way,
        http="proxy_cache_path @dir@/cache keys_zone=c:1m; ",
        alarms_allowed="prematurely",
    )

    def short(exchange):
        jwt = exchange.jwt().encode()
        exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(jwt) + 10}\r\n\r\n".encode() + jwt)
        exchange.close()

    def cut(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n" + exchange.jwt().encode())
        exchange.reset()

    def silent(exchange):
        exchange.close()

    for answer in (short, silent) if "HTTP/1.1" not in way and way else (short, cut, silent):
        ugly.answer = answer
        assert get(nginx.port, "/api", token=secrets.token()).status == 502
    assert api.requests == []


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda e: e.reply(status=204), 401),
        (Exchange.inactive, 401),
        (lambda e: e.reply(status=401), 502),
        (lambda e: e.reply(status=403), 502),
        (lambda e: e.reply(status=404, body="<html>"), 502),
        (lambda e: e.reply(status=500), 502),
        (lambda e: e.reply(status=302, headers=["Location: /login"]), 502),
        (lambda e: e.reply(status=503, headers=["Retry-After: 7"]), 503),
        (lambda e: e.reply(status=200, body="<html>login</html>", content_type="text/html"), 502),
        (lambda e: e.reply(status=200, body=b"", content_type=None), 502),
        (lambda e: e.reply(body=e.jwt(), headers=["Content-Encoding: gzip"]), 502),
        (lambda e: e.send("garbage\r\n\r\n") or e.close(), 502),
        (lambda e: e.reply(status=101, headers=["Upgrade: x", "Connection: upgrade"], body=e.jwt()), 502),
    ],
)
def test_every_other_answer_is_refused_with_the_status_of_any_provider(old, ugly, api, secrets, answer, status):
    nginx = old()
    ugly.answer = answer
    with Http1(nginx.port) as client:
        refused = client.request(target="/api", token=secrets.token())
        assert refused.status == status
        if status == 503:
            assert refused.value("retry-after") == "7"
        # The client's connection goes on.
        assert client.request(target="/api").status == 401
    assert api.requests == []


# --- what names a verdict -----------------------------------------------------------------------------------------


def only(credentials):
    """Active to whom has these credentials."""
    return lambda exchange: (
        exchange.active() if exchange.request.value("authorization") == credentials else exchange.inactive()
    )


TWO_CREDENTIALS = """
phantom_token_zone tokens:1m;
server {{
    listen @listen@;
    phantom_token_introspection_endpoint /introspect;
    {server}
    location /a {{ set $cred QQ==; phantom_token on; {a} proxy_pass {api.url}; }}
    location /b {{ set $cred Qg==; phantom_token on; proxy_pass {api.url}; }}
    location = /introspect {{
        internal;
        proxy_set_header Authorization "Basic $cred";
        proxy_pass {ugly.url};
    }}
}}
"""


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_what_the_location_sets_names_the_verdict(start_nginx, ugly, api, secrets, order):
    nginx = start_nginx(TWO_CREDENTIALS.format(api=api, ugly=ugly, server="", a=""))
    ugly.answer = only("Basic QQ==")
    token = secrets.token()
    for _ in range(2):
        for path in order:
            assert get(nginx.port, f"/{path}", token=token).status == (200 if path == "a" else 401)
    assert len(ugly.calls) == 2


def test_after_an_internal_redirect_what_is_set_then_names_the_verdict(start_nginx, ugly, api, secrets):
    nginx = start_nginx(
        TWO_CREDENTIALS.format(
            api=api, ugly=ugly, server="", a="error_page 404 = /b; proxy_intercept_errors on; recursive_error_pages on;"
        )
    )
    ugly.answer = only("Basic QQ==")
    api.answer = lambda _: b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    assert get(nginx.port, "/a", token=secrets.token()).status == 401
    assert [request.target for request in api.requests] == ["/a"]
    assert [call.request.value("authorization") for call in ugly.calls] == ["Basic QQ==", "Basic Qg=="]


@pytest.mark.parametrize("zone", ["", "phantom_token_zone tokens:1m;"])
def test_the_host_names_the_verdict(start_nginx, ugly, api, secrets, zone):
    nginx = start_nginx(
        f"""
{zone}
map $host $as {{ a.example.com {ugly.address}/a; b.example.com {ugly.address}/b; }}
server {{
    listen @listen@;
    location /api {{
        phantom_token on;
        phantom_token_introspection_endpoint curity;
        proxy_pass {api.url};
    }}
    location curity {{ internal; proxy_pass http://$as; }}
}}
"""
    )
    ugly.answer = lambda exchange: exchange.active() if exchange.request.target == "/a" else exchange.inactive()
    token = secrets.token()
    for _ in range(2):
        for host, expected in (("a.example.com", 200), ("b.example.com", 401)):
            with Http1(nginx.port) as client:
                client.sock.sendall(
                    f"GET /api HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
                )
                assert client.read().status == expected, host
    assert [call.request.target for call in ugly.calls] == ["/a", "/b"]


@pytest.mark.parametrize("included", [False, True], ids=["", "included"])
def test_after_a_reload_that_changes_something_the_server_is_asked_again(start_nginx, ugly, api, secrets, included):
    def text(target):
        passes = f"proxy_pass {ugly.url}/{target};"
        return (passes, "include @dir@/*.of-the-location;") if included else ("", passes)

    file, passes = text("one")
    http = "phantom_token_zone tokens:1m;" + servers(ugly, api, passes=passes)
    nginx = start_nginx(http, files={"as.of-the-location": file})
    ugly.answer = lambda exchange: exchange.active() if "/one" in exchange.request.target else exchange.inactive()
    token = secrets.token()
    assert get(nginx.port, "/api", token=token).status == 200
    # One that changes nothing starts warm.
    nginx.reload()
    assert get(nginx.port, "/api", token=token).status == 200
    assert "cache=SHARED" in nginx.wait_access("/api", count=2)[1]
    file, passes = text("two")
    (nginx.dir / "as.of-the-location").write_text(file)
    nginx.write("phantom_token_zone tokens:1m;" + servers(ugly, api, passes=passes))
    nginx.reload()
    assert get(nginx.port, "/api", token=token).status == 401
    assert [call.request.target for call in ugly.calls] == ["/introspect/one", "/introspect/two"]


def test_what_is_said_to_name_the_verdict_does_and_nothing_else(start_nginx, ugly, api, secrets):
    http = TWO_CREDENTIALS.format(api=api, ugly=ugly, server='phantom_token_cache_key "$arg_tenant";', a="")
    nginx = start_nginx(http)
    token = secrets.token()
    for path in ("/a?tenant=1", "/b?tenant=1", "/a?tenant=2", "/b?tenant=2"):
        assert get(nginx.port, path, token=token).status == 200
    assert len(ugly.calls) == 2
    # Nor does the rest of the configuration.
    nginx.write(f"{http} # changed")
    nginx.reload()
    assert get(nginx.port, "/a?tenant=1", token=token).status == 200
    assert get(nginx.port, "/a?tenant=3", token=token).status == 200
    assert len(ugly.calls) == 3


def test_a_key_that_is_never_the_same_ends_all_the_same(old, ugly, secrets):
    nginx = old(api_location='phantom_token_cache_key "$request_id$msec"; phantom_token_phase preaccess;')
    token = secrets.token()
    for _ in range(2):
        assert get(nginx.port, "/api", token=token).status == 200


def test_what_the_client_has_asked_for_chooses_nobody(old, ugly, secrets):
    nginx = old(location='internal; proxy_set_header X-Asked "$request_uri $request <$args>";')
    assert get(nginx.port, "/api?secret=1", token=secrets.token()).status == 200
    assert ugly.calls[0].request.value("x-asked") == "curity POST curity HTTP/1.1 <>"


# --- where it leads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "location", "meant"),
    [
        ("/introspct", "= /introspect", None),
        ("/Introspect", "= /introspect", "/introspect"),
        ("/curity", "curity", "curity"),
        ("curity", "^~ /curity", "/curity"),
        ("/introspect", "~ ^/introspect$", None),
        ("/introspect/it", "/introspect", None),
        ("/introspect", "@introspect", None),
    ],
)
def test_a_location_that_is_not_there_is_an_error(ugly, api, endpoint, location, meant):
    passes = f"proxy_pass http://{ugly.address};"
    text = servers(ugly, api, server=f"location / {{ proxy_pass {api.url}; }}", location="", passes=passes)
    text = text.replace("location curity", f"location {location}").replace("endpoint curity", f"endpoint {endpoint}")
    configuration = Configuration(text)
    try:
        code, words = configuration.check()
        line = next(n for n, line in enumerate(configuration.path.read_text().splitlines(), 1) if "_endpoint" in line)
    finally:
        configuration.remove()
    assert code != 0, words
    assert f'there is no location "{endpoint}" in this server' in words
    assert words.splitlines()[0].endswith(f"nginx.conf:{line}")
    assert (f'there is "{meant}"' in words) == (meant is not None)


def test_a_location_of_another_server_is_none(ugly, api):
    one = servers(ugly, api)
    other = one.replace("api.example.com", "other.example.com").replace("location curity", "location /other")
    configuration = Configuration(one + other)
    try:
        code, words = configuration.check()
    finally:
        configuration.remove()
    assert code != 0, words
    assert 'there is no location "curity" in this server' in words


@pytest.mark.parametrize(
    "before",
    [
        "location ~ ^/intro {{ {passes} }}",
        "location ~ /introspect {{ {passes} }}",
        "location ~ ^/intro {{ set $x 1; rewrite ^ /api-of-all last; }} location = /api-of-all {{ {passes} }}",
        "location ~ ^/intro {{ error_page 500 502 = @other; {passes} }} location @other {{ {passes} }}",
        "location ~ ^/intro {{ client_max_body_size 1; error_page 413 = @other; }} location @other {{ {passes} }}",
        "rewrite ^/introspect$ /api-of-all; location = /api-of-all {{ {passes} }}",
    ],
    ids=["regex", "regex of the same text", "rewrite", "error_page", "too large", "rewrite of the server"],
)
def test_what_comes_to_another_location_goes_nowhere(start_nginx, ugly, api, secrets, before):
    text = servers(ugly, api, server=before.format(passes=f"proxy_pass {api.url};"), name="/introspect")
    nginx = start_nginx(text)
    token = secrets.token()
    with Http1(nginx.port) as client:
        assert client.request(target="/api", token=token).status == 502
        # The client's connection goes on.
        assert client.request(target="/api").status == 401
    assert api.requests == []
    assert ugly.calls == []
    assert len(nginx.log_lines('what is for location "/introspect" comes to "')) == 1


@pytest.mark.parametrize(
    ("location", "status"),
    [
        ("internal; return 204;", 401),
        ("internal; return 444;", 502),
        ("internal; return 500;", 502),
        ("internal; return 302 /login;", 502),
        ('internal; return 200 "no jwt";', 502),
        ("internal; deny all; return 204;", 401),
        ("internal; proxy_pass http://127.0.0.1:1;", 502),
        ("internal; proxy_read_timeout 200ms; proxy_pass @ugly@;", 504),
        ("internal; proxy_pass http://127.0.0.1:1; error_page 502 = /fallback;", 401),
        ("internal; proxy_pass http://127.0.0.1:1; error_page 502 /fallback;", 502),
        ("internal; proxy_pass http://127.0.0.1:1; error_page 502 = @named;", 200),
        ("internal; try_files /nothing @named;", 200),
        ("internal; rewrite ^ /real last;", 200),
    ],
)
def test_whatever_the_location_does_is_read_as_an_answer(start_nginx, ugly, api, secrets, location, status):
    if "@ugly@" in location:
        ugly.answer = Exchange.hang
    server = f"""
    location = /fallback {{ internal; default_type application/json; return 200 '{{"active":false}}'; }}
    location = /real {{ internal; proxy_pass {ugly.url}; }}
    location @named {{ internal; proxy_pass http://{ugly.address}; }}
"""
    nginx = start_nginx(
        servers(ugly, api, location=location.replace("@ugly@", ugly.url), server=server, passes=" "),
        alarms_allowed="connect",
    )
    with Http1(nginx.port) as client:
        assert client.request(target="/api", token=secrets.token()).status == status
        assert client.request(target="/api").status == 401
    assert len(api.requests) == (1 if status == 200 else 0)


def test_one_client_that_leaves_disturbs_none_of_those_who_wait_for_the_same_token(old, ugly, api, secrets):
    nginx = old()
    ugly.answer = ugly.holding()
    token = secrets.token()
    asking = Http1(nginx.port)
    asking.send(target="/api/asking", token=token)
    ugly.wait_calls()
    others = [Http1(nginx.port) for _ in range(5)]
    for client in others:
        client.send(target="/api/other", token=token)
    # When this is answered, earlier requests have been read.
    assert get(nginx.port, "/api").status == 401
    asking.close()
    assert "499" in nginx.wait_access("/api/asking")[0]
    ugly.wait_calls(2)
    ugly.release()
    for client in others:
        assert client.read().status == 200
        client.close()
    assert ugly.calls_for(token) == 2
    assert [request.target for request in api.requests] == ["/api/other"] * 5


def test_all_clients_may_leave_and_the_next_is_served(old, ugly, api, secrets):
    nginx = old(listen="http2")
    ugly.answer = ugly.holding()
    token = secrets.token()
    with Http2(nginx.port) as client:
        streams = [client.send(target="/api/left", token=token) for _ in range(5)]
        ugly.wait_calls()
        for stream in streams:
            client.reset(stream)
        nginx.wait_access("/api/left 499", count=5)
        ugly.release()
        ugly.answer = Exchange.active
        assert client.request(target="/api/next", token=token).status == 200
    assert [request.target for request in api.requests] == ["/api/next"]


def test_many_who_wait_for_one_token_are_one_subrequest(old, ugly, secrets):
    nginx = old()
    ugly.answer = ugly.holding()
    token = secrets.token()
    clients = [Http1(nginx.port) for _ in range(100)]
    for client in clients:
        client.send(target="/api", token=token)
    ugly.wait_calls()
    assert get(nginx.port, "/api").status == 401
    ugly.release()
    assert [client.read().status for client in clients] == [200] * 100
    for client in clients:
        client.close()
    assert ugly.calls_for(token) == 1


def test_over_http2_many_streams_of_one_connection_are_served(old, ugly, api, secrets):
    nginx = old(listen="http2")
    tokens = [secrets.token() for _ in range(20)]
    with Http2(nginx.port) as client:
        streams = {client.send(target="/api", token=token, method="POST", body=b"a" * 100): token for token in tokens}
        for stream in streams:
            assert client.read(stream).status == 200
    assert {request.value("authorization") for request in api.requests} == {
        f"Bearer {ugly.jwt_for(token)}" for token in tokens
    }


def test_connections_to_the_authorization_server_are_kept_where_the_location_keeps_them(old, ugly, secrets):
    nginx = old(
        http=f"upstream as {{ server {ugly.address}; keepalive 4; }}",
        location=HEADERS + 'proxy_http_version 1.1; proxy_set_header Connection "";',
        passes="proxy_pass http://as/introspect;",
    )
    for _ in range(10):
        assert get(nginx.port, "/api", token=secrets.token()).status == 200
    # One more may be made while nginx opens its listening port.
    assert ugly.connections <= 2


def test_pipelined_and_kept_connections_of_clients_work(old, ugly, secrets):
    nginx = old()
    with Http1(nginx.port) as client:
        tokens = [secrets.token() for _ in range(5)]
        for token in tokens:
            client.send(target="/api", token=token)
        for _ in tokens:
            assert client.read().status == 200
        assert client.request("POST", "/api", token=secrets.token(), body=b"b" * 100_000).status == 200


def test_a_variable_that_was_set_for_the_client_is_there_and_no_other_is_shared(start_nginx, ugly, api, secrets):
    nginx = start_nginx(
        servers(
            ugly,
            api,
            http='map $content_type $mapped { default "$content_type"; }',
            api_location='set $tenant acme; if ($mapped = "x") { return 418; }',
            location="internal; proxy_set_header X-Tenant $tenant; proxy_set_header X-Mapped $mapped;",
        )
    )
    assert get(nginx.port, "/api", token=secrets.token()).status == 200
    call = ugly.calls[0].request
    assert call.value("x-tenant") == "acme"
    assert call.value("x-mapped") == "application/x-www-form-urlencoded"


def test_fastcgi_is_another_way_to_the_server(start_nginx, api, ugly, secrets, fastcgi):
    token = secrets.token()
    fastcgi.answer = b"Content-Type: application/jwt\r\n\r\n" + ugly.jwt_for(token).encode()
    nginx = start_nginx(
        servers(
            ugly,
            api,
            location="""internal;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param CONTENT_TYPE $content_type;""",
            passes=f"fastcgi_pass {fastcgi.address};",
        )
    )
    assert get(nginx.port, "/api", "PUT", token=token, body=b"the client's").status == 200
    [parameters] = fastcgi.requests
    sent = dict(parameters)
    assert sent["CONTENT_TYPE"] == "application/x-www-form-urlencoded"
    assert sent["CONTENT_LENGTH"] == str(len(f"token={token}&token_type_hint=access_token"))
    assert sent["HTTP_ACCEPT"] == "application/jwt"
    assert "HTTP_AUTHORIZATION" not in sent


@pytest.mark.parametrize("phase", ["access", "preaccess"])
def test_the_directives_may_stand_at_the_server_and_the_location_that_introspects_inherits_them(
    start_nginx, ugly, api, secrets, phase
):
    nginx = start_nginx(
        f"""
phantom_token on;
phantom_token_introspection_endpoint /introspect;
phantom_token_phase {phase};
server {{
    listen @listen@;
    location / {{ proxy_pass {api.url}; }}
    location /off {{ phantom_token off; proxy_pass {api.url}; }}
    location = /introspect {{ internal; proxy_pass {ugly.url}; }}
}}
"""
    )
    assert get(nginx.port, "/").status == 401
    assert get(nginx.port, "/", token=secrets.token()).status == 200
    assert get(nginx.port, "/off").status == 200
    assert len(ugly.calls) == 1


def test_the_limits_count_the_clients_requests_and_not_ours(start_nginx, ugly, api, secrets):
    nginx = start_nginx(
        servers(
            ugly,
            api,
            http="limit_req_zone $binary_remote_addr zone=each:1m rate=1r/m;",
            server="limit_req zone=each burst=3 nodelay; phantom_token_phase preaccess;",
        )
    )
    # One and a burst of three; each of them is asked about, and none of the questions is counted.
    statuses = [get(nginx.port, "/api", token=secrets.token()).status for _ in range(8)]
    assert statuses == [200] * 4 + [503] * 4
    assert len(ugly.calls) == 8


def test_with_satisfy_any_an_address_may_let_in_and_a_good_token_is_swapped(old, ugly, api, secrets):
    nginx = old(api_location="satisfy any; allow 127.0.0.1; deny all;")
    token = secrets.token()
    assert get(nginx.port, "/api").status == 200
    assert get(nginx.port, "/api", token=token).status == 200
    ugly.answer = Exchange.inactive
    bad = secrets.token()
    assert get(nginx.port, "/api", token=bad).status == 200
    api.never_saw(token)
    api.never_saw(bad)


def test_beside_auth_request_and_mirror_each_subrequest_keeps_to_itself(old, ugly, api, secrets):
    nginx = old(
        api_location="auth_request /auth; mirror /mirror;",
        server=f"""
    location = /auth {{ internal; proxy_pass {api.url}/auth; proxy_pass_request_body off;
                        proxy_set_header Content-Length ""; }}
    location = /mirror {{ internal; proxy_pass {api.url}/mirror; }}
""",
    )
    token = secrets.token()
    assert get(nginx.port, "/api", "POST", token=token, body=b"client").status == 200
    requests = {request.target: request for request in api.wait(3)}
    assert set(requests) == {"/auth", "/mirror", "/api"}
    assert requests["/api"].body == b"client"
    assert requests["/auth"].value("authorization") == f"Bearer {ugly.jwt_for(token)}"
    api.never_saw(token)


def test_a_worker_that_ends_lets_those_who_wait_have_their_answer(old, ugly, secrets):
    nginx = old()
    ugly.answer = ugly.holding()
    with Http1(nginx.port) as client:
        client.send(target="/api", token=secrets.token())
        ugly.wait_calls()
        before = nginx.worker()
        nginx.signal(signal.SIGHUP)
        until(lambda: set(nginx.workers()) - {before}, "there is a new worker")
        ugly.release()
        assert client.read().status == 200
    until(lambda: before not in nginx.children(), "the former worker has gone")


def test_in_one_process_it_works_as_well(old, secrets):
    nginx = old(master=False, workers=1)
    assert get(nginx.port, "/api", token=secrets.token()).status == 200


def test_clients_that_come_and_go_leave_nothing_behind(old, ugly, secrets):
    """Clients that close or reset at any moment of a call; then all is as it was."""
    nginx = old(http="proxy_cache_path @dir@/cache keys_zone=c:1m;")
    ugly.answer = lambda exchange: exchange.drip(
        f"HTTP/1.1 200 OK\r\nContent-Length: {len(exchange.jwt())}\r\n\r\n{exchange.jwt()}".encode(), 0.0002
    )
    tokens = [secrets.token() for _ in range(10)]

    def come_and_go(number):
        client = Http1(nginx.port)
        client.send(target="/api", token=tokens[number % len(tokens)])
        client.sock.settimeout(number % 7 * 0.01 + 0.001)
        try:
            client.sock.recv(1000)
        except OSError:
            pass
        if number % 2:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(come_and_go, range(300)))
    for token in tokens:
        assert get(nginx.port, "/api", token=token).status == 200
    assert nginx.log_lines("exited on signal") == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("phantom_token on;", r"write \"phantom_token_introspection_endpoint NAME;\" beside it"),
        (
            "phantom_token on; phantom_token_introspection_endpoint https://as.example.com/introspect;",
            "for a URL define a phantom_token_provider",
        ),
        ("phantom_token on; phantom_token_introspection_endpoint @curity;", "and no named one"),
        ('phantom_token on; phantom_token_introspection_endpoint "";', "needs the name of a location"),
        ("phantom_token_introspection_endpoint a; phantom_token_introspection_endpoint b;", "is duplicate"),
        ("phantom_token_scopes_enforce maybe;", "write it as on or off"),
    ],
)
def test_what_cannot_be_meant_is_an_error_with_the_mend(text, complaint):
    configuration = Configuration(f"server {{ listen @listen@; location / {{\n{text}\n}} }}")
    try:
        code, words = configuration.check()
    finally:
        configuration.remove()
    assert code != 0
    assert complaint.replace("\\", "") in words.replace("\\", ""), words
    assert "nginx.conf:" in words


def test_with_several_zones_it_cannot_be_said_which():
    configuration = Configuration(
        """
phantom_token_zone a:1m; phantom_token_zone b:1m;
server { listen @listen@; location / { phantom_token on; phantom_token_introspection_endpoint c; } }
"""
    )
    try:
        code, words = configuration.check()
    finally:
        configuration.remove()
    assert code != 0
    assert "there are several zones" in words
