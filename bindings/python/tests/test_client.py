# SPDX-License-Identifier: Apache-2.0
"""The client for threads."""

from __future__ import annotations

import copy
import gc
import pickle
import socket
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List, Type

import phantom_token
import pytest
from conftest import LONG, AuthorizationServer, settings, until
from phantom_token import CacheStatus, Client, Status


def test_an_active_token_becomes_a_jwt_with_its_claims(client: Client, server: AuthorizationServer) -> None:
    before = datetime.now(timezone.utc)
    token = server.issue(scope="read write", audience="orders")
    result = client.resolve(token)
    assert result.active and result
    assert result.jwt is not None and result.jwt.count(".") == 2
    assert result.authorization == f"Bearer {result.jwt}"
    assert result.claims["scope"] == "read write"
    assert result.claims["aud"] == "orders"
    assert result.claims["client_id"] == "gateway"
    assert result.has_scope("read") and result.has_scope("write")
    assert not result.has_scope("rea") and not result.has_scope("read write") and not result.has_scope("")
    assert result.expires_at is not None
    assert result.expires_at == datetime.fromtimestamp(result.claims["exp"], timezone.utc)
    assert before < result.expires_at < before + timedelta(hours=1)


def test_an_unknown_token_is_an_inactive_result_that_is_false(client: Client) -> None:
    result = client.resolve("unknown")
    assert not result.active
    assert not result
    assert result.jwt is None
    assert result.authorization is None
    assert result.expires_at is None
    assert dict(result.claims) == {}
    assert not result.has_scope("read")


def test_a_revoked_token_is_inactive_once_it_is_forgotten(server: AuthorizationServer) -> None:
    with Client(**settings(server, cache_ttl=0)) as client:
        token = server.issue()
        assert client.resolve(token).active
        server.revoke(token)
        assert not client.resolve(token).active


def test_the_first_is_a_miss_and_the_second_a_hit(client: Client, server: AuthorizationServer) -> None:
    token = server.issue()
    assert client.lookup(token) is None
    first, second = client.resolve(token), client.resolve(token)
    assert (first.cache, second.cache) == (CacheStatus.MISS, CacheStatus.HIT)
    assert (str(first.cache), str(second.cache)) == ("MISS", "HIT")
    assert second.jwt == first.jwt
    known = client.lookup(token)
    assert known is not None and known.cache is CacheStatus.HIT and known.jwt == first.jwt
    assert server.introspections(token) == 1


def test_inactive_is_remembered_too(client: Client, server: AuthorizationServer) -> None:
    assert client.resolve("unknown").cache is CacheStatus.MISS
    assert client.resolve("unknown").cache is CacheStatus.HIT
    known = client.lookup("unknown")
    assert known is not None and not known.active
    assert server.introspections("unknown") == 1


def test_a_token_may_be_text_or_bytes(client: Client, server: AuthorizationServer) -> None:
    token = server.issue()
    assert client.resolve(token.encode()).active
    assert client.resolve(token).cache is CacheStatus.HIT
    assert client.lookup(token.encode()) is not None


@pytest.mark.parametrize(
    "token",
    ["", "a b", "a\x00b", "a\nb", "ä", "\ud800", "=", "a=b", "x" * 8193, b"", b"a\x00b", b"\xff", b"x" * 8193],
)
def test_what_cannot_be_a_token_is_refused_and_never_sent(
    client: Client, server: AuthorizationServer, token: Any
) -> None:
    for call in (client.resolve, client.lookup):
        with pytest.raises(phantom_token.InvalidTokenError) as caught:
            call(token)
        assert caught.value.status is Status.INVALID_TOKEN
        assert caught.value.http_status == 400
        assert isinstance(caught.value, ValueError)
    assert server.stats()["introspections"] == 0


@pytest.mark.parametrize("token", ["x", "x" * 8192, b"-._~+/x=="])
def test_what_can_be_a_token_is_asked_for(client: Client, token: Any) -> None:
    assert not client.resolve(token).active


@pytest.mark.parametrize("token", [None, 7, bytearray(b"x"), ["x"]])
def test_a_token_of_another_type_is_a_type_error(client: Client, token: Any) -> None:
    with pytest.raises(TypeError, match="a token is a str or bytes"):
        client.resolve(token)


@pytest.mark.parametrize(
    ("knobs", "kind", "status", "http_status"),
    [
        ({"close": "before_headers"}, phantom_token.UnreachableError, Status.UNREACHABLE, 502),
        ({"garbage": "1"}, phantom_token.BadAnswerError, Status.BAD_ANSWER, 502),
        ({"redirect": "http://127.0.0.1/"}, phantom_token.BadAnswerError, Status.BAD_ANSWER, 502),
        ({"status": 401}, phantom_token.ClientRefusedError, Status.CLIENT_REFUSED, 502),
        ({"status": 503}, phantom_token.BusyError, Status.BUSY, 503),
        ({"latency": 60_000}, phantom_token.DeadlineExceeded, Status.TIMEOUT, 504),
    ],
)
def test_each_failure_has_its_exception_and_its_http_status(
    server: AuthorizationServer,
    knobs: Dict[str, object],
    kind: Type[phantom_token.PhantomTokenError],
    status: Status,
    http_status: int,
) -> None:
    arguments = settings(server, introspection_endpoint=server.endpoint(**knobs), timeout=0.5, log=None)
    with Client(**arguments) as client:
        token = server.issue()
        with pytest.raises(kind) as caught:
            client.resolve(token)
        assert type(caught.value) is kind
        assert isinstance(caught.value, phantom_token.UnavailableError)
        assert caught.value.status is status
        assert caught.value.http_status == http_status
        assert caught.value.retry_after is None
        assert str(caught.value)
        assert token not in str(caught.value)
        # A failure is no verdict.
        assert client.lookup(token) is None


def test_a_busy_server_says_when_to_come_back(server: AuthorizationServer) -> None:
    endpoint = server.endpoint(status=429, retry_after=7)
    with Client(**settings(server, introspection_endpoint=endpoint, log=None)) as client:
        with pytest.raises(phantom_token.BusyError) as caught:
            client.resolve("token")
        assert caught.value.retry_after == 7


def test_nobody_at_the_endpoint_is_unreachable() -> None:
    with socket.socket() as unused:
        # Bound but not listening: nobody else gets the port, and nobody answers.
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        endpoint = f"http://127.0.0.1:{port}/introspect"
        with Client(introspection_endpoint=endpoint, client_id="a", client_secret="b", log=None) as client:
            with pytest.raises(phantom_token.UnreachableError):
                client.resolve("token")


def test_more_waiters_than_allowed_are_refused(server: AuthorizationServer) -> None:
    server.set_knobs(latency=60_000)
    with Client(**settings(server, max_waiting=1, log=None)) as client, ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.resolve, "first")
        until(lambda: client.stats().waiting == 1)
        with pytest.raises(phantom_token.OverloadedError) as caught:
            client.resolve("second")
        assert caught.value.http_status == 503
        client.close()
        assert isinstance(waiting.exception(LONG), phantom_token.StoppedError)


@pytest.mark.parametrize("timeout", [0.05, timedelta(milliseconds=50)])
def test_a_callers_own_timeout_ends_the_wait(server: AuthorizationServer, timeout: Any) -> None:
    server.set_knobs(latency=60_000)
    with Client(**settings(server, timeout=LONG, log=None)) as client:
        with pytest.raises(TimeoutError) as caught:
            client.resolve("token", timeout=timeout)
        assert isinstance(caught.value, phantom_token.DeadlineExceeded)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), timedelta(seconds=-1), timedelta(0)])
def test_a_timeout_that_is_none_is_refused(client: Client, timeout: Any) -> None:
    with pytest.raises(ValueError, match="a time"):
        client.resolve("token", timeout=timeout)


def test_64_threads_on_one_token_cost_one_introspection(server: AuthorizationServer) -> None:
    server.set_knobs(latency=200)
    with Client(**settings(server)) as client:
        token = server.issue()
        start = threading.Barrier(64)

        def resolve() -> phantom_token.Result:
            start.wait(LONG)
            return client.resolve(token)

        with ThreadPoolExecutor(64) as pool:
            results = [future.result(LONG) for future in [pool.submit(resolve) for _ in range(64)]]
        assert all(result.active for result in results)
        assert len({result.jwt for result in results}) == 1
        assert server.introspections(token) == 1
        assert [result.cache for result in results].count(CacheStatus.MISS) == 1
        assert CacheStatus.COALESCED in {result.cache for result in results}
        stats = client.stats()
        assert stats.misses == 1 and stats.calls == 1
        assert stats.hits + stats.coalesced == 63


def test_what_is_purged_is_asked_for_anew(client: Client, server: AuthorizationServer) -> None:
    purged, kept = server.issue(), server.issue()
    for token in (purged, kept):
        assert client.resolve(token).active
    server.revoke(purged)
    assert client.resolve(purged).active
    assert client.purge(purged) is None
    assert client.lookup(purged) is None
    assert not client.resolve(purged).active
    client.purge(purged.encode())
    assert client.resolve(purged).cache is CacheStatus.MISS
    assert client.resolve(kept).cache is CacheStatus.HIT
    client.purge_all()
    assert client.lookup(kept) is None and client.lookup(purged) is None
    assert server.introspections(kept) == 1
    client.purge("never-seen")
    with pytest.raises(phantom_token.InvalidTokenError):
        client.purge("a b")
    with pytest.raises(TypeError):
        client.purge(None)  # type: ignore[arg-type]


def test_a_verdict_past_its_time_stands_in_while_the_server_fails(server: AuthorizationServer) -> None:
    with Client(**settings(server, cache_ttl=0.05, stale_if_error="1m", retries=0)) as client:
        token = server.issue()
        jwt = client.resolve(token).jwt
        server.set_knobs(status=503)
        until(lambda: client.lookup(token) is None)
        stale = client.resolve(token)
        assert stale.active and stale.jwt == jwt
        assert stale.cache is CacheStatus.STALE and str(stale.cache) == "STALE"
        assert client.stats().stale == 1
        # Of others nothing is known.
        with pytest.raises(phantom_token.BusyError):
            client.resolve("another")


def test_a_server_that_fails_again_and_again_is_not_asked_for_a_while(server: AuthorizationServer) -> None:
    nobody = {"introspection_endpoint": "http://127.0.0.1:1/introspect"}
    with Client(**settings(server, max_fails=2, fail_timeout=30, retries=0, **nobody)) as client:
        for token in ("one", "two"):
            with pytest.raises(phantom_token.UnreachableError):
                client.resolve(token)
        with pytest.raises(phantom_token.CircuitOpenError) as caught:
            client.resolve("three")
        assert caught.value.http_status == 503
        assert caught.value.retry_after is not None and 0 < caught.value.retry_after <= 60
        stats = client.stats()
        assert stats.calls == 2
        assert (stats.breaker_openings, stats.breaker_open, stats.errors["circuit_open"]) == (1, 1, 1)


def test_a_verdict_is_refreshed_before_it_ends(server: AuthorizationServer) -> None:
    with Client(**settings(server, cache_ttl=1, refresh_ahead=90)) as client:
        token = server.issue()
        client.resolve(token)
        until(lambda: client.resolve(token).cache is CacheStatus.HIT and client.stats().refreshes >= 1)
        until(lambda: server.introspections(token) >= 2)
        assert client.stats().misses == 1


def test_statistics_count_what_was_done(client: Client, server: AuthorizationServer) -> None:
    assert client.stats().misses == 0
    token = server.issue()
    client.resolve(token)
    client.resolve(token)
    client.resolve("unknown")
    server.set_knobs(status=500)
    with pytest.raises(phantom_token.BadAnswerError):
        client.resolve("another")
    stats = client.stats()
    assert (stats.hits, stats.misses, stats.coalesced, stats.inactive) == (1, 3, 0, 1)
    assert stats.errors["bad_answer"] == 1 and sum(stats.errors.values()) == 1
    assert stats.entries == 2 and stats.inactive_entries == 1 and stats.bytes > 0
    assert stats.waiting == 0
    assert sum(bar.count for bar in stats.latency) == stats.calls
    assert stats.latency[-1].le_us is None
    assert stats.latency_sum_us > 0


def test_closing_tells_threads_that_wait(server: AuthorizationServer) -> None:
    server.set_knobs(latency=60_000)
    client = Client(**settings(server, timeout=LONG * 2))
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(client.resolve, token) for token in ("one", "two", "two")]
        until(lambda: client.stats().waiting == 3)
        client.close()
        for future in waiting:
            assert isinstance(future.exception(LONG), phantom_token.StoppedError)


def test_a_closed_client_says_so_and_its_results_stay(server: AuthorizationServer) -> None:
    client = Client(**settings(server))
    with client:
        result = client.resolve(server.issue())
    client.close()
    assert client.closed
    calls: List[Any] = [lambda: client.resolve("token"), lambda: client.lookup("token"), client.stats, client.__enter__]
    calls += [lambda: client.purge("token"), client.purge_all]
    for call in calls:
        with pytest.raises(phantom_token.StoppedError, match='"main"'):
            call()
    assert result.active and result.has_scope("read") and result.claims["client_id"] == "gateway"


def test_a_result_outlives_its_client(server: AuthorizationServer) -> None:
    with Client(**settings(server)) as client:
        result = client.resolve(server.issue())
    del client
    gc.collect()
    assert result.authorization is not None and result.authorization.startswith("Bearer ey")


def test_closing_from_many_threads_while_others_ask_is_safe(server: AuthorizationServer) -> None:
    for _ in range(20):
        client = Client(**settings(server))
        token = server.issue()
        client.resolve(token)

        def ask() -> None:
            while True:
                try:
                    assert client.resolve(token).active
                except phantom_token.StoppedError:
                    return

        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask) for _ in range(4)]
            closing = [pool.submit(client.close) for _ in range(4)]
            for future in asking + closing:
                future.result(LONG)


def test_an_unclosed_client_warns_and_is_stopped(server: AuthorizationServer) -> None:
    client = Client(**settings(server, name="forgotten"))
    client.resolve("token")
    with pytest.warns(ResourceWarning, match="unclosed <phantom_token.Client 'forgotten'>"):
        del client
        gc.collect()


def test_a_closed_client_does_not_warn(server: AuthorizationServer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Client(**settings(server)).close()
        gc.collect()


def test_neither_repr_shows_a_secret(client: Client, server: AuthorizationServer) -> None:
    token = server.issue()
    result = client.resolve(token)
    assert repr(result) == "<phantom_token.Result active cache=MISS>"
    assert repr(client.resolve("unknown")) == "<phantom_token.Result inactive cache=MISS>"
    assert repr(client) == "<phantom_token.Client 'main'>"
    assert result.jwt is not None and result.jwt not in f"{result!s} {result!r} {vars(result)['_handle']!r}"


def test_a_result_is_frozen_and_cannot_be_copied_into_two_owners(client: Client) -> None:
    result = client.resolve("token")
    with pytest.raises(AttributeError):
        result.active = True
    with pytest.raises(TypeError):
        result.claims["sub"] = "somebody"  # type: ignore[index]
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copied(result)
    assert copy.copy(result).cache is CacheStatus.MISS


def test_a_token_that_expires_after_all_calendars_has_the_last_date(
    client: Client, server: AuthorizationServer
) -> None:
    result = client.resolve(server.issue(**{"claim.exp": "99999999999999"}))
    assert result.active
    assert result.expires_at == datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)


def test_waiting_lets_other_threads_run(server: AuthorizationServer) -> None:
    server.set_knobs(latency=500)
    with Client(**settings(server)) as client, ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.resolve, server.issue())
        turns = 0
        while not waiting.done():
            turns += 1
            time.sleep(0.001)
        assert waiting.result().active
        assert turns > 10
