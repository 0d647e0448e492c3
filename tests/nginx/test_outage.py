"""Failures of the authorization server through nginx: responses, log lines, and when it is called again."""

import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.client import Http1, get
from harness.ugly import Exchange, UglyServer
from harness.wait import until

SHOWS = "add_header X-Result $phantom_token_result always; add_header X-Cache $phantom_token_cache always;"


def failing(exchange):
    exchange.reply(status=500, body=b"", content_type=None)


def test_what_is_past_its_time_is_served_while_the_server_fails_and_says_so(gateway, ugly, api, secrets):
    nginx = gateway(location=SHOWS, cache_ttl="300ms", stale_if_error="1m", retries="0")
    token = secrets.token()
    assert get(nginx.port, "/", token=token).value("X-Cache") == "MISS"
    ugly.answer = failing
    time.sleep(0.5)
    answer = get(nginx.port, "/", token=token)
    assert (answer.status, answer.value("X-Result"), answer.value("X-Cache")) == (200, "ok", "STALE")
    assert api.requests[-1].value("authorization") == f"Bearer {ugly.jwt_for(token)}"
    # Of another nothing is known.
    assert get(nginx.port, "/", token=secrets.token()).status == 502


def test_without_connections_misses_are_503_at_once_and_the_log_says_it_once_for_all_workers(
    gateway, ugly, secrets
):
    nginx = gateway(
        workers=2,
        http="phantom_token_zone tokens:1m;",
        location=SHOWS,
        max_fails="3",
        fail_timeout="1s",
        retries="0",
    )
    known = secrets.token()
    assert get(nginx.port, "/", token=known).status == 200
    ugly.stop_listening()
    statuses = [get(nginx.port, "/", token=secrets.token()).status for _ in range(40)]
    assert statuses[:3] == [502, 502, 502]
    # A probe goes out now and then.
    assert statuses.count(503) >= 30
    refused = until(
        lambda: next(iter(a for a in [get(nginx.port, "/", token=secrets.token())] if a.status == 503), None), "a refusal"
    )
    assert int(refused.value("Retry-After")) >= 1
    assert len(ugly.calls) == 1
    assert get(nginx.port, "/", token=known).status == 200, "what is remembered keeps working"
    assert "3 calls in a row have failed" in nginx.only_line("not asked for")

    ugly.listen_again()
    until(lambda: get(nginx.port, "/", token=secrets.token()).status == 200, "the server is asked again")
    nginx.only_line("all requests that need it ask it again")
    assert len(nginx.log_lines("calls in a row")) == 1


def test_a_server_that_fails_on_all_tokens_is_left_alone_whatever_comes(gateway, ugly, secrets):
    nginx = gateway(workers=2, http="phantom_token_zone tokens:1m;", max_fails="1", fail_timeout="1h", retries="0")
    ugly.answer = failing
    statuses = [get(nginx.port, "/", token=secrets.token()).status for _ in range(200)]
    # 20 until it is in doubt, and 10 at once that try.
    assert statuses == [502] * 30 + [503] * 170
    assert len(ugly.calls) == 30
    nginx.only_line("for many different tokens")


def says(status, *headers):
    return lambda exchange: exchange.reply(status=status, body=b"", content_type=None, headers=headers)


FAILS_ON_JUNK = {
    "500": says(500),
    "429": says(429, "Retry-After: 3600"),
    "503": says(503, "Retry-After: 30"),
    "reset": Exchange.reset,
}


def only_good_ones(answer):
    """An authorization server that has `answer` for tokens that it does not know."""
    return lambda exchange: exchange.active() if exchange.token.startswith("good") else answer(exchange)


@pytest.mark.parametrize("how", FAILS_ON_JUNK)
@pytest.mark.parametrize("zone", ["phantom_token_zone tokens:1m;", ""])
def test_junk_that_the_server_fails_on_costs_good_tokens_nothing(gateway, ugly, secrets, how, zone):
    """The default configuration. Five fresh junk tokens for each fresh good one, at the same time."""
    ugly.answer = only_good_ones(FAILS_ON_JUNK[how])
    nginx = gateway(workers=2, http=zone)
    with ThreadPoolExecutor(6) as pool:
        junk = [pool.submit(lambda: get(nginx.port, "/", token=secrets.token("junk")).status) for _ in range(500)]
        good = [get(nginx.port, "/", token=secrets.token("good")).status for _ in range(100)]
        assert {answer.result() for answer in junk} <= {502, 503}
    assert good == [200] * 100
    # Repetitions for junk have a budget: 100 saved by each worker, and one for each answer and second.
    assert len(ugly.calls) <= 600 + 200 + 100 + 100


@pytest.mark.parametrize("how", FAILS_ON_JUNK)
def test_one_junk_token_before_each_good_one_costs_none_even_after_a_flood(gateway, ugly, secrets, how):
    ugly.answer = only_good_ones(FAILS_ON_JUNK[how])
    nginx = gateway(workers=1)
    for _ in range(110):
        get(nginx.port, "/", token=secrets.token("junk"))
    nginx.only_line("for many different tokens")
    for _ in range(40):
        assert get(nginx.port, "/", token=secrets.token("junk")).status in (502, 503)
        assert get(nginx.port, "/", token=secrets.token("good")).status == 200


def test_junk_that_the_server_stalls_on_costs_good_tokens_nothing(gateway, ugly, secrets):
    """As long as `max_concurrent` has room."""
    ugly.answer = only_good_ones(lambda exchange: exchange.hang())
    nginx = gateway(workers=2, timeout="3s", max_concurrent="64")
    with ThreadPoolExecutor(50) as pool:
        junk = [pool.submit(lambda: get(nginx.port, "/", token=secrets.token("junk")).status) for _ in range(100)]
        good = [get(nginx.port, "/", token=secrets.token("good")).status for _ in range(100)]
        assert [answer.result() for answer in junk] == [504] * 100
    assert good == [200] * 100


def test_a_client_that_repeats_a_junk_token_costs_hardly_any_calls(gateway, ugly, secrets):
    ugly.answer = only_good_ones(failing)
    nginx = gateway(workers=1, fail_timeout="1m")
    junk = secrets.token("junk")
    assert {get(nginx.port, "/", token=junk).status for _ in range(100)} == {502}
    assert ugly.calls_for(junk) <= 4
    assert get(nginx.port, "/", token=secrets.token("good")).status == 200


def test_what_else_of_a_request_goes_along_costs_others_nothing(start_nginx, api, ugly, secrets):
    """Where a location introspects, what the client has sent may go along, and the server may fail on it."""

    def answer(exchange):
        if exchange.request.values("x-trace") == ["junk"]:
            exchange.reply(status=500, body=b"", content_type=None)
        else:
            exchange.active()

    ugly.answer = answer
    nginx = start_nginx(
        f"""
server {{
    listen @listen@;
    location / {{
        set $trace $http_x_trace;
        phantom_token on;
        phantom_token_introspection_endpoint introspect;
        proxy_pass {api.url};
    }}
    location introspect {{
        internal;
        proxy_set_header X-Trace $trace;
        proxy_pass {ugly.url};
    }}
}}
"""
    )
    junk = [("X-Trace", "junk")]
    for _ in range(30):
        # With tokens that are good, and with one that is the same each time.
        for _ in range(4):
            assert get(nginx.port, "/", token=secrets.token(), headers=junk).status == 502
        assert get(nginx.port, "/", token=secrets.token()).status == 200
    shared = secrets.token()
    for _ in range(10):
        assert get(nginx.port, "/", token=shared, headers=junk).status == 502
    assert get(nginx.port, "/", token=shared).status == 200, "nobody else who has it is held back"


def test_clients_that_send_tokens_and_leave_make_nobody_wait(gateway, ugly, secrets):
    """Their tokens are asked about only as far as that could be done at once."""
    ugly.answer = ugly.holding()
    nginx = gateway(workers=1, max_concurrent="4", max_waiting="8", timeout="60s")
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", nginx.port)) as sock:
            token = secrets.token("x" * 3000)
            sock.sendall(f"GET / HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ugly.wait_calls(4)
    until(lambda: len(nginx.access_lines()) >= 300, "nginx has seen them leave")
    client = Http1(nginx.port)
    client.send(token=secrets.token("last"))
    time.sleep(0.3)
    ugly.release()
    assert client.read().status == 200
    asked = [call.token for call in ugly.calls]
    place = next(number for number, token in enumerate(asked) if token.startswith("last"))
    assert place <= 4 + 8, "not behind those who have left"


def test_another_address_of_the_server_is_asked_when_one_fails(gateway, ugly, secrets):
    second = UglyServer(secrets)
    try:
        nginx = gateway(endpoint=f"{ugly.url} {second.url}", location=SHOWS, fail_timeout="1m")
        assert get(nginx.port, "/", token=secrets.token()).status == 200
        assert (len(ugly.calls), len(second.calls)) == (1, 0)
        ugly.answer = failing
        for _ in range(10):
            assert get(nginx.port, "/", token=secrets.token()).status == 200
        assert (len(ugly.calls), len(second.calls)) == (2, 10)
        nginx.only_line("other endpoints are asked before this one")
    finally:
        second.stop()


def test_a_hit_late_in_an_entrys_life_does_not_wait_for_the_answer_that_it_asks_for(gateway, ugly, secrets):
    nginx = gateway(location=SHOWS, cache_ttl="2s", refresh_ahead="75%")
    token = secrets.token()
    assert get(nginx.port, "/", token=token).value("X-Cache") == "MISS"
    ugly.answer = ugly.holding()
    time.sleep(0.7)
    started = time.monotonic()
    for _ in range(20):
        assert get(nginx.port, "/", token=token).value("X-Cache") == "HIT"
    assert time.monotonic() - started < 1, "nobody waited"
    until(lambda: ugly.calls_for(token) == 2, "it is asked about again, once")
    ugly.release()
    # The new entry outlives the first.
    time.sleep(1.5)
    assert get(nginx.port, "/", token=token).value("X-Cache") == "HIT"


def test_the_issuer_alone_is_enough(gateway, ugly, secrets):
    def answer(exchange):
        path = exchange.request.target
        if path == "/.well-known/oauth-authorization-server":
            issuer = f"http://{ugly.address}"
            exchange.reply(
                body=f'{{"issuer":"{issuer}","introspection_endpoint":"{issuer}/check"}}',
                content_type="application/json",
            )
        elif path == "/check":
            exchange.active()
        else:
            exchange.reply(status=404)

    ugly.answer = answer
    nginx = gateway(location=SHOWS, introspection_endpoint=None, issuer=f"http://{ugly.address}")
    for _ in range(3):
        assert get(nginx.port, "/", token=secrets.token()).status == 200
    assert [call.request.target for call in ugly.calls].count("/.well-known/oauth-authorization-server") == 1


def test_an_issuer_without_metadata_is_an_error_at_once(gateway, ugly, secrets):
    """After two attempts no request waits for the next one."""
    ugly.answer = lambda exchange: exchange.reply(status=404)
    nginx = gateway(introspection_endpoint=None, issuer=f"http://{ugly.address}", timeout="60s")
    assert [get(nginx.port, "/", token=secrets.token()).status for _ in range(50)] == [502] * 50
    assert len(nginx.log_lines("there is no metadata of")) <= 2
    assert len(ugly.calls) < 40, "it is asked in the background, with pauses"


def test_an_issuer_that_is_none_is_an_error_of_the_configuration(gateway, ugly, secrets, start_nginx):
    for issuer, words in [("as.example.com", "is not an http or https URL"), ("https://a/?b", "has a query")]:
        try:
            gateway(introspection_endpoint=None, issuer=issuer)
        except AssertionError as refused:
            assert words in str(refused) and "nginx.conf:" in str(refused)
        else:
            raise AssertionError(f"{issuer} is taken")
