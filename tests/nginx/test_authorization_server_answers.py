"""Answers of authorization servers, and their effect: the status, one line in the log, and nothing else.

Whatever the answer is, no request reaches the API without a JWT, none waits past the deadline, and the next
request is served as if nothing had happened.
"""

import functools
import gzip
import re
import time

import pytest

from harness.client import Http1, get
from harness.nginx import free_port, resident_bytes
from harness.ugly import Exchange, FullBacklog

# Between two of them lies what a loaded machine may take.
DEADLINE = 2
SLACK = 8

GATEWAY_FAULTS = {502, 503, 504}


def raw(head, body=b""):
    """An answer of exactly these bytes."""

    def answer(exchange):
        exchange.send(head)
        exchange.send(body)
        exchange.close()

    return answer


def reply(*arguments, **words):
    return lambda exchange: exchange.reply(*arguments, **words)


def jwt_with(change):
    """A well-formed answer whose JWT was changed."""
    return lambda exchange: exchange.reply(body=change(exchange.jwt()))


def close_mid_body(exchange):
    jwt = exchange.jwt()
    exchange.send(f"HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nContent-Length: {len(jwt) + 10}\r\n\r\n{jwt}")
    exchange.close()


def close_mid_chunk(exchange):
    jwt = exchange.jwt()
    exchange.send("HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nTransfer-Encoding: chunked\r\n\r\n")
    exchange.send(f"{len(jwt):x}\r\n{jwt}\r\n")
    exchange.close()


def close_mid_headers(exchange):
    exchange.send("HTTP/1.1 200 OK\r\nContent-Type: applic")
    exchange.close()


def reset_after_headers(exchange):
    exchange.send("HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nContent-Length: 500\r\n\r\neyJ")
    exchange.reset()


def endless_headers(exchange):
    exchange.send("HTTP/1.1 200 OK\r\n")
    try:
        while not exchange.server.stopping.is_set():
            exchange.send("X-More: of the same\r\n" * 100)
    finally:
        exchange.finished = True


def endless_body(exchange):
    exchange.send("HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\n\r\n")
    try:
        while not exchange.server.stopping.is_set():
            exchange.send("e" * 65536)
    finally:
        exchange.finished = True


def huge_body(exchange):
    size = 100_000_000
    exchange.send(f"HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nContent-Length: {size}\r\n\r\n")
    for _ in range(size // 100_000):
        exchange.send("e" * 100_000)


def huge_chunked_body(exchange):
    exchange.send("HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(1000):
        exchange.send(f"{100_000:x}\r\n" + "e" * 100_000 + "\r\n")
    exchange.send("0\r\n\r\n")


def slow_headers(exchange):
    exchange.drip(b"HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nX-Padding: " + b"p" * 200, 0.1)
    exchange.close()


def slow_body(exchange):
    jwt = exchange.jwt().encode()
    exchange.send(f"HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nContent-Length: {len(jwt)}\r\n\r\n")
    exchange.drip(jwt, 0.1)


def headers_and_silence(exchange):
    exchange.send("HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nContent-Length: 300\r\n\r\n")
    exchange.hang()


def interim_answers_for_ever(exchange):
    try:
        while not exchange.server.stopping.wait(0.001):
            exchange.send("HTTP/1.1 103 Early Hints\r\n\r\n")
    finally:
        exchange.finished = True


@functools.cache
def bomb():
    return gzip.compress(b"e" * 50_000_000, 1)


def gzip_bomb(exchange):
    exchange.reply(body=bomb(), headers=["Content-Encoding: gzip"])


def gzipped_jwt(exchange):
    exchange.reply(body=gzip.compress(exchange.jwt().encode()), headers=["Content-Encoding: gzip"])


def redirect(exchange):
    exchange.reply(302, headers=[f"Location: http://{exchange.server.address}/elsewhere"])


def json(text, **words):
    return reply(body=text, content_type="application/json", **words)


def json_of(text):
    return lambda exchange: exchange.reply(body=text(exchange.jwt()), content_type="application/json")


# name: what is answered, and the statuses that may come of it.
UGLY = {
    "status 201": (reply(201, body="a.b.c"), {502}),
    "status 302": (redirect, {502}),
    "status 307": (reply(307, headers=["Location: /introspect"]), {502}),
    "status 304": (reply(304, length=False), {502}),
    "status 400": (reply(400, body='{"error":"invalid_request"}', content_type="application/json"), {502}),
    "status 401": (reply(401, headers=['WWW-Authenticate: Basic realm="as"']), {502}),
    "status 403": (reply(403), {502}),
    "status 404": (reply(404, body="<html>not here</html>", content_type="text/html"), {502}),
    "status 429": (reply(429), {503}),
    "status 500": (reply(500), {502}),
    "status 502": (reply(502), {502}),
    "status 503": (reply(503), {503}),
    "status 504": (reply(504), {502, 504}),
    "an html page": (reply(body="<html>please log in</html>", content_type="text/html"), {502}),
    "an empty 200": (reply(body=b""), {502}),
    "an empty 200 of JSON": (json(b""), {502}),
    "no content type": (reply(body=b"garbage", content_type=None), {502}),
    "binary garbage": (reply(body=bytes(range(256))), {502}),
    "a JWT with CR LF inside": (jwt_with(lambda jwt: jwt[:20] + "\r\nX-Admin: 1\r\n" + jwt[20:]), {502}),
    "a JWT and a header after it": (jwt_with(lambda jwt: jwt + "\r\nX-Admin: 1"), {502}),
    "a JWT with LF inside": (jwt_with(lambda jwt: jwt.replace(".", ".\n", 1)), {502}),
    "a JWT with a space": (jwt_with(lambda jwt: jwt.replace(".", " .", 1)), {502}),
    "a JWT with NUL": (jwt_with(lambda jwt: jwt + "\0"), {502}),
    "a JWT with a byte above 127": (jwt_with(lambda jwt: jwt + "é"), {502}),
    "a JWT with padding": (jwt_with(lambda jwt: jwt + "="), {502}),
    "two dots short": (jwt_with(lambda jwt: jwt.replace(".", "")), {502}),
    "one dot short": (jwt_with(lambda jwt: jwt.rpartition(".")[0]), {502}),
    "one dot too many": (jwt_with(lambda jwt: jwt + ".abc"), {502}),
    "an empty signature": (jwt_with(lambda jwt: jwt.rpartition(".")[0] + "."), {502}),
    "an empty header": (jwt_with(lambda jwt: jwt[jwt.index(".") :]), {502}),
    "only dots": (reply(body=".."), {502}),
    "a payload that is not JSON": (reply(body="eyJhbGciOiJub25lIn0.bm90IGpzb24.c2ln"), {502}),
    "a payload that is an array": (reply(body="eyJhbGciOiJub25lIn0.WzEsMl0.c2ln"), {502}),
    "a JWT in quotes": (jwt_with(lambda jwt: f'"{jwt}"'), {502}),
    "two JWTs": (jwt_with(lambda jwt: f"{jwt}\n{jwt}"), {502}),
    "JSON cut short": (json('{"active": tr'), {502}),
    "JSON that is an array": (json('[{"active": true}]'), {502}),
    "JSON that is a string": (json('"active"'), {502}),
    "JSON without active": (json('{"jwt": "a.b.c"}'), {502}),
    "active as a string": (json_of(lambda jwt: f'{{"active": "true", "jwt": "{jwt}"}}'), {401, 502}),
    "active as a number": (json_of(lambda jwt: f'{{"active": 1, "jwt": "{jwt}"}}'), {401, 502}),
    "active null": (json_of(lambda jwt: f'{{"active": null, "jwt": "{jwt}"}}'), {401, 502}),
    "active twice": (json_of(lambda jwt: f'{{"active": false, "active": true, "jwt": "{jwt}"}}'), {200, 401, 502}),
    "a claim that is no JWT": (json('{"active": true, "jwt": "not a jwt"}'), {502}),
    "a claim that is an object": (json('{"active": true, "jwt": {"a": "b.c.d"}}'), {502}),
    "a claim with CR LF": (json('{"active": true, "jwt": "aaaa.bbbb.cccc\\r\\nX-Admin: 1"}'), {502}),
    "JSON a million levels deep": (json('{"active": true, "x": ' + "[" * 30_000 + "]" * 30_000 + "}"), {502}),
    "a body of 100 MB": (huge_body, {502}),
    "a chunked body of 100 MB": (huge_chunked_body, {502}),
    "a body without end": (endless_body, {502}),
    "headers without end": (endless_headers, {502}),
    "interim answers without end": (interim_answers_for_ever, {502, 504}),
    "a gzip bomb": (gzip_bomb, {502}),
    "a JWT in gzip that nobody asked for": (gzipped_jwt, {502}),
    "slow headers": (slow_headers, {504}),
    "a slow body": (slow_body, {504}),
    "silence": (Exchange.hang, {504}),
    "headers and then silence": (headers_and_silence, {504}),
    "closed before the headers": (Exchange.close, {502}),
    "reset before the headers": (Exchange.reset, {502}),
    "closed in the headers": (close_mid_headers, {502}),
    "closed in the body": (close_mid_body, {502}),
    "closed in a chunk": (close_mid_chunk, {502}),
    "reset in the body": (reset_after_headers, {502}),
    "not HTTP at all": (raw(b"SSH-2.0-OpenSSH_9.2p1\r\n"), {502}),
    "HTTP/0.9": (raw(b"eyJhbGciOiJub25lIn0.e30.c2ln"), {502}),
    "two content lengths": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\na.b.c"), {502}),
    "a chunk size that overflows": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc"),
        {502},
    ),
    "a negative content length": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\na.b.c"), {502}),
    "a status of four digits": (raw(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"), {502}),
}


def served(nginx, ugly, secrets):
    """Whether a request is served right now, with an authorization server that is well again."""
    ugly.answer = Exchange.active
    return get(nginx.port, token=secrets.token("well")).status == 200


@pytest.mark.parametrize("name", UGLY)
def test_an_ugly_answer_lets_nobody_in_and_leaves_one_line_in_the_log(gateway, ugly, api, secrets, name):
    ugly.answer, expected = UGLY[name]
    # Made before the clock runs.
    bomb()
    nginx = gateway(timeout=f"{DEADLINE}s", location="add_header X-Cache $phantom_token_cache always;")
    token = secrets.token()
    begin = time.monotonic()
    answer = get(nginx.port, token=token)
    took = time.monotonic() - begin
    assert answer.status in expected
    assert took < DEADLINE + SLACK
    if answer.status in GATEWAY_FAULTS:
        assert api.requests == []
        assert answer.value("www-authenticate") is None
        assert re.search(r"\[(error|warn|crit)\]", nginx.only_line("acme"))
    else:
        assert answer.status == 200 or api.requests == []
        assert nginx.log_lines("acme") == []
    assert served(nginx, ugly, secrets)


@pytest.mark.parametrize("token_known", [False, True])
def test_a_failure_leaves_other_tokens_alone(gateway, ugly, secrets, token_known):
    nginx = gateway(timeout=f"{DEADLINE}s")
    good = secrets.token("good")
    if token_known:
        assert get(nginx.port, token=good).status == 200
    ugly.answer = lambda exchange: exchange.reset() if exchange.token.startswith("bad") else exchange.active()
    assert get(nginx.port, token=secrets.token("bad")).status == 502
    assert get(nginx.port, token=good).status == 200


# Answers that look odd and are right.
ODD = {
    "200 active:false where a JWT was asked for": (lambda e: e.inactive(), 401),
    "204": (reply(204, length=False, content_type=None), 401),
    "active:false with no-store": (lambda e: e.inactive(headers=["Cache-Control: no-store"]), 401),
    "a JWT with a body that ends with the connection": (
        lambda e: (e.reply(body=e.jwt(), length=False), e.close()),
        200,
    ),
    "content type in capitals with parameters": (
        lambda e: e.reply(body=e.jwt(), content_type="Application/JWT; charset=UTF-8"),
        200,
    ),
    "no-store on an active token": (lambda e: e.active(headers=["Cache-Control: no-store, no-cache"]), 200),
    "exp as a float": (lambda e: e.active(exp=time.time() + 100.5), 200),
    "scope as an array": (lambda e: e.active(scope=["a", "b"]), 200),
    "aud as an array": (lambda e: e.active(aud=["a", "b"]), 200),
    "no exp": (lambda e: e.active(exp=None), 200),
    "an interim answer first": (lambda e: (e.send("HTTP/1.1 103 Early Hints\r\n\r\n"), e.active()), 200),
    "a header of 4 KB": (lambda e: e.active(headers=["X-Padding: " + "p" * 4096]), 200),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_answer_that_is_right_is_taken(gateway, ugly, api, secrets, name):
    ugly.answer, expected = ODD[name]
    nginx = gateway()
    assert get(nginx.port, token=secrets.token()).status == expected
    assert len(api.requests) == (expected == 200)
    assert nginx.log_lines("acme") == []


def test_an_answer_may_be_split_anywhere(gateway, ugly, api, secrets):
    nginx = gateway(cache_ttl="0")
    token = secrets.token()
    jwt = ugly.jwt_for(token)
    whole = f"HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nContent-Length: {len(jwt)}\r\n\r\n{jwt}".encode()
    splits = [1, 9, 15, 17, 30, 40, 60, 75, 76, 77, 78, 79, 80, 81, 100, len(whole) - 1]

    def answer(exchange):
        at = splits[len(ugly.calls) - 1]
        exchange.send(whole[:at])
        ugly.stopping.wait(0.01)
        exchange.send(whole[at:])

    ugly.answer = answer
    for _ in splits:
        assert get(nginx.port, token=token).status == 200
    assert {request.value("authorization") for request in api.requests} == {f"Bearer {jwt}"}


def test_an_answer_may_come_byte_by_byte(gateway, ugly, api, secrets):
    nginx = gateway()
    token = secrets.token()
    jwt = ugly.jwt_for(token)
    whole = f"HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nContent-Length: {len(jwt)}\r\n\r\n{jwt}".encode()
    ugly.answer = lambda exchange: exchange.drip(whole, 0.001)
    assert get(nginx.port, token=token).status == 200
    assert api.only().value("authorization") == f"Bearer {jwt}"


def test_an_answer_may_be_chunked(gateway, ugly, api, secrets):
    nginx = gateway()
    token = secrets.token()
    jwt = ugly.jwt_for(token)

    def answer(exchange):
        exchange.send("HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(jwt), 10):
            part = jwt[at : at + 10]
            exchange.send(f"{len(part):x};ext=1\r\n{part}\r\n")
        exchange.send("0\r\nX-Trailer: 1\r\n\r\n")

    ugly.answer = answer
    assert get(nginx.port, token=token).status == 200
    assert api.only().value("authorization") == f"Bearer {jwt}"


def test_an_answer_behind_a_204_is_never_taken_for_the_next_one(gateway, ugly, api, secrets):
    nginx = gateway(retries="0", cache_inactive_ttl="0")
    planted = ugly.jwt_for("planted")
    ugly.answer = lambda exchange: exchange.send(
        "HTTP/1.1 204 No Content\r\n\r\n"
        f"HTTP/1.1 200 OK\r\nContent-Type: application/jwt\r\nContent-Length: {len(planted)}\r\n\r\n{planted}"
    )
    for _ in range(10):
        assert get(nginx.port, token=secrets.token()).status in (401, 502)
    assert api.requests == []


@pytest.mark.parametrize("pause", [0, 0.001, 0.01])
def test_a_204_with_a_body_does_not_disturb_the_next_request(gateway, ugly, secrets, pause):
    nginx = gateway(cache_inactive_ttl="0")

    def answer(exchange):
        if exchange.token.startswith("good"):
            exchange.active()
        else:
            head = b"HTTP/1.1 204 No Content\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n"
            body = b'{"active":false}'
            if pause:
                exchange.send(head)
                ugly.stopping.wait(pause)
                exchange.send(body)
            else:
                exchange.send(head + body)

    ugly.answer = answer
    for _ in range(10):
        assert get(nginx.port, token=secrets.token("bad")).status == 401
        assert get(nginx.port, token=secrets.token("good")).status == 200


@pytest.mark.parametrize("answer", [huge_body, huge_chunked_body, gzip_bomb, endless_headers, endless_body])
def test_a_huge_answer_takes_no_memory(gateway, ugly, secrets, answer):
    nginx = gateway(timeout=f"{DEADLINE}s", retries="0")
    assert get(nginx.port, token=secrets.token()).status == 200
    before = resident_bytes(nginx.worker())
    ugly.answer = answer
    for _ in range(3):
        assert get(nginx.port, token=secrets.token()).status == 502
    assert resident_bytes(nginx.worker()) - before < 20_000_000


def test_max_response_size_bounds_the_answer(gateway, ugly, api, secrets):
    nginx = gateway(max_response_size="4k")
    ugly.answer = lambda exchange: exchange.active(padding="p" * 2000)
    assert get(nginx.port, token=secrets.token()).status == 200
    ugly.answer = lambda exchange: exchange.active(padding="p" * 4000)
    assert get(nginx.port, token=secrets.token()).status == 502
    assert len(api.requests) == 1


def test_a_redirect_is_not_followed(gateway, ugly, secrets):
    nginx = gateway()
    ugly.answer = redirect
    assert get(nginx.port, token=secrets.token()).status == 502
    assert {call.request.target for call in ugly.calls} == {"/introspect"}


def test_a_refused_connection_is_502(gateway, api, secrets):
    nginx = gateway(endpoint=f"http://127.0.0.1:{free_port()}/introspect", timeout=f"{DEADLINE}s")
    assert get(nginx.port, token=secrets.token()).status == 502
    assert nginx.only_line("acme")
    assert api.requests == []


def test_a_name_that_does_not_resolve_is_502(gateway, api, secrets):
    nginx = gateway(endpoint="https://no-such-host.invalid/introspect", timeout=f"{DEADLINE}s")
    # A resolver that cannot be reached at all may take longer than the deadline.
    assert get(nginx.port, token=secrets.token()).status in (502, 504)
    assert nginx.only_line("acme")
    assert api.requests == []


def test_a_server_that_does_not_accept_ends_at_the_connect_timeout(gateway, api, secrets):
    full = FullBacklog()
    try:
        nginx = gateway(endpoint=full.url, connect_timeout="1s", timeout="30s", retries="0")
        begin = time.monotonic()
        assert get(nginx.port, token=secrets.token()).status == 504
        assert time.monotonic() - begin < 1 + SLACK
        assert nginx.only_line("acme")
        assert api.requests == []
    finally:
        full.stop()


def test_refused_credentials_are_502_and_the_log_names_client_authentication(gateway, authorization_server, api):
    nginx = gateway(endpoint=authorization_server.introspection_endpoint(), client_secret="not-the-secret-0123")
    assert get(nginx.port, token=authorization_server.issue()).status == 502
    line = nginx.only_line("acme")
    assert re.search(r"client_id|client_secret|client_auth|client authentication|credentials", line), line
    assert api.requests == []


def test_a_kept_connection_that_was_closed_meanwhile_does_not_fail_a_request(gateway, ugly, secrets):
    nginx = gateway()
    for _ in range(5):
        assert get(nginx.port, token=secrets.token()).status == 200
        ugly.drop_connections()


def test_a_connection_lost_before_the_answer_is_tried_once_more(gateway, ugly, secrets):
    nginx = gateway(retries="1")

    def answer(exchange):
        if len(ugly.calls) == 1:
            exchange.reset()
        else:
            exchange.active()

    ugly.answer = answer
    assert get(nginx.port, token=secrets.token()).status == 200
    assert len(ugly.calls) == 2


def test_without_retries_nothing_is_tried_again(gateway, ugly, secrets):
    nginx = gateway(retries="0")
    ugly.answer = Exchange.reset
    assert get(nginx.port, token=secrets.token()).status == 502
    assert len(ugly.calls) == 1


def test_connections_to_the_authorization_server_are_kept(gateway, ugly, secrets):
    nginx = gateway()
    for _ in range(10):
        assert get(nginx.port, token=secrets.token()).status == 200
    assert ugly.connections == 1


def test_proxy_variables_of_the_environment_are_ignored(gateway, ugly, api, secrets, monkeypatch):
    elsewhere = f"http://127.0.0.1:{free_port()}"
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, elsewhere)
    nginx = gateway(main="env http_proxy; env HTTP_PROXY; env ALL_PROXY; env all_proxy;")
    assert get(nginx.port, token=secrets.token()).status == 200
    assert len(ugly.calls) == 1


def test_more_waiting_requests_than_allowed_are_503_with_retry_after(gateway, ugly, api, secrets):
    nginx = gateway(max_concurrent="1", max_waiting="2", timeout="30s")
    ugly.answer = ugly.holding()
    waiting = [Http1(nginx.port) for _ in range(2)]
    for client in waiting:
        client.send(token=secrets.token())
    ugly.wait_calls(1)
    # Whether both wait already is seen by a third one being refused.
    answers = []
    for _ in range(20):
        client = Http1(nginx.port)
        client.sock.settimeout(0.5)
        client.send(token=secrets.token())
        try:
            answers.append(client.read())
            client.close()
            break
        except TimeoutError:
            waiting.append(client)
    assert [answer.status for answer in answers] == [503]
    assert answers[0].value("retry-after") is not None
    assert len(ugly.calls) == 1
    ugly.release()
    assert {client.read().status for client in waiting} == {200}
    for client in waiting:
        client.close()


@pytest.mark.parametrize(
    ("cache_control", "header", "asked"),
    [
        ("max-age", "max-age=0", 2),
        ("max-age", "no-store", 1),
        ("max-age", "private, max-age=300", 1),
        ("strict", "no-store", 2),
        ("strict", "max-age=300", 1),
        ("ignore", "max-age=0", 1),
        ("ignore", "no-store", 1),
    ],
)
def test_cache_control_is_honoured_as_configured(gateway, ugly, secrets, cache_control, header, asked):
    nginx = gateway(cache_control=cache_control)
    ugly.answer = lambda exchange: exchange.active(headers=[f"Cache-Control: {header}"])
    token = secrets.token()
    assert [get(nginx.port, token=token).status for _ in range(2)] == [200, 200]
    assert ugly.calls_for(token) == asked
