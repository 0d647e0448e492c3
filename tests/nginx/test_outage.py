"""An authorization server that fails, through nginx: what clients get, what the log says, and when it is asked again."""

import threading
import time

from harness.api import Connection
from harness.client import get
from harness.ugly import UglyServer
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


def test_after_repeated_failures_misses_are_503_at_once_and_the_log_says_it_once_for_all_workers(
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
    ugly.answer = failing
    statuses = [get(nginx.port, "/", token=secrets.token()).status for _ in range(40)]
    assert statuses[:3] == [502, 502, 502]
    assert set(statuses[3:]) == {503}
    refused = get(nginx.port, "/", token=secrets.token())
    assert refused.status == 503 and int(refused.value("Retry-After")) >= 1
    calls = len(ugly.calls)
    assert calls == 4, "one that succeeded, three that failed"
    assert get(nginx.port, "/", token=known).status == 200, "what is remembered keeps working"
    assert "3 calls in a row have failed" in nginx.only_line("not asked for")

    ugly.answer = type(ugly.calls[0]).active
    until(lambda: get(nginx.port, "/", token=secrets.token()).status == 200, "the server is asked again")
    nginx.only_line("all requests that need it ask it again")
    assert len(nginx.log_lines("calls in a row")) == 1


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


def test_an_issuer_that_is_none_is_an_error_of_the_configuration(gateway, ugly, secrets, start_nginx):
    for issuer, words in [("as.example.com", "is not an http or https URL"), ("https://a/?b", "has a query")]:
        try:
            gateway(introspection_endpoint=None, issuer=issuer)
        except AssertionError as refused:
            assert words in str(refused) and "nginx.conf:" in str(refused)
        else:
            raise AssertionError(f"{issuer} is taken")
