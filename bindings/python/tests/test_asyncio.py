# SPDX-License-Identifier: Apache-2.0
"""The client for asyncio."""

from __future__ import annotations

import asyncio
import gc
import threading
from datetime import timedelta
from typing import Any, Coroutine, TypeVar

import phantom_token
import pytest
from conftest import LONG, AuthorizationServer, settings
from phantom_token import AsyncClient, CacheStatus

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a test's coroutine, not for ever."""

    async def bounded() -> T:
        return await asyncio.wait_for(main, 4 * LONG)

    return asyncio.run(bounded())


async def until(condition: Any) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass")


def test_a_miss_a_hit_and_an_inactive_token(server: AuthorizationServer) -> None:
    async def main() -> None:
        async with AsyncClient(**settings(server)) as client:
            token = server.issue(scope="read")
            assert client.lookup(token) is None
            first = await client.resolve(token)
            assert first.active and first.cache is CacheStatus.MISS and first.has_scope("read")
            second = await client.resolve(token.encode())
            assert second.cache is CacheStatus.HIT and second.jwt == first.jwt
            assert not (await client.resolve("unknown")).active
            assert client.stats().hits == 1

    run(main())


def test_what_is_purged_is_asked_for_anew(server: AuthorizationServer) -> None:
    async def main() -> None:
        async with AsyncClient(**settings(server)) as client:
            one, two = server.issue(), server.issue()
            await asyncio.gather(client.resolve(one), client.resolve(two))
            client.purge(one)
            assert client.lookup(one) is None and client.lookup(two) is not None
            assert (await client.resolve(one)).cache is CacheStatus.MISS
            client.purge_all()
            assert client.lookup(one) is None and client.lookup(two) is None

    run(main())


def test_a_purge_while_a_task_waits_is_not_undone_by_its_answer(server: AuthorizationServer) -> None:
    async def main() -> None:
        async with AsyncClient(**settings(server)) as client:
            token = server.issue()
            server.set_knobs(latency=300)
            waiting = asyncio.ensure_future(client.resolve(token))
            await until(lambda: server.introspections(token) == 1)
            client.purge(token)
            later = asyncio.ensure_future(client.resolve(token))
            assert (await waiting).active
            assert (await later).active
            assert server.introspections(token) == 2

    run(main())


def test_1000_tokens_at_once_on_one_thread(server: AuthorizationServer) -> None:
    async def main() -> None:
        tokens = [server.issue() for _ in range(50)] + [f"unknown-{number}" for number in range(950)]
        async with AsyncClient(**settings(server, timeout=LONG)) as client:
            server.set_knobs(latency=200)
            before = threading.active_count()
            waiting = [asyncio.ensure_future(client.resolve(token)) for token in tokens]
            await until(lambda: client.stats().waiting == 1000)
            assert threading.active_count() == before
            results = await asyncio.gather(*waiting)
            assert [result.active for result in results] == [True] * 50 + [False] * 950
            assert {result.cache for result in results} == {CacheStatus.MISS}
            assert client.stats().waiting == 0

    run(main())


def test_1000_tasks_on_one_token_cost_one_introspection(server: AuthorizationServer) -> None:
    async def main() -> None:
        async with AsyncClient(**settings(server)) as client:
            token = server.issue()
            server.set_knobs(latency=300)
            results = await asyncio.gather(*(client.resolve(token) for _ in range(1000)))
            assert all(result.active for result in results)
            caches = [result.cache for result in results]
            assert caches.count(CacheStatus.MISS) == 1 and caches.count(CacheStatus.COALESCED) == 999
            assert server.introspections(token) == 1

    run(main())


def test_the_loop_goes_on_while_a_task_waits(server: AuthorizationServer) -> None:
    async def main() -> None:
        server.set_knobs(latency=500)
        async with AsyncClient(**settings(server)) as client:
            waiting = asyncio.ensure_future(client.resolve("token"))
            turns = 0
            while not waiting.done():
                turns += 1
                await asyncio.sleep(0.001)
            assert turns > 10

    run(main())


def test_cancelling_a_task_cancels_its_request_and_disturbs_nobody(server: AuthorizationServer) -> None:
    async def main() -> None:
        token = server.issue()
        server.set_knobs(latency=1000)
        async with AsyncClient(**settings(server, timeout=LONG)) as client:
            alone = asyncio.ensure_future(client.resolve("alone"))
            first, second = (asyncio.ensure_future(client.resolve(token)) for _ in range(2))
            await until(lambda: client.stats().waiting == 3)
            alone.cancel()
            first.cancel()
            for cancelled in (alone, first):
                with pytest.raises(asyncio.CancelledError):
                    await cancelled
            assert client.stats().waiting == 1
            assert (await second).active

    run(main())


def test_a_task_that_is_cancelled_when_its_verdict_has_come_is_cancelled(server: AuthorizationServer) -> None:
    async def main() -> None:
        async with AsyncClient(**settings(server, cache_ttl=0, cache_inactive_ttl=0)) as client:
            for _ in range(20):
                task = asyncio.ensure_future(client.resolve("token"))
                await asyncio.sleep(0)
                while client.stats().waiting:
                    pass
                # The completion is in the queue, and the loop has not seen it.
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert not (await client.resolve("token")).active

    run(main())


@pytest.mark.parametrize("timeout", [0.05, timedelta(milliseconds=50)])
def test_a_callers_own_timeout_ends_the_wait_and_the_request(server: AuthorizationServer, timeout: Any) -> None:
    async def main() -> None:
        server.set_knobs(latency=60_000)
        async with AsyncClient(**settings(server, timeout=LONG)) as client:
            with pytest.raises(phantom_token.DeadlineExceeded) as caught:
                await client.resolve("token", timeout=timeout)
            assert caught.value.http_status == 504
            assert client.stats().waiting == 0
            with pytest.raises(ValueError, match="more than zero"):
                await client.resolve("token", timeout=0)

    run(main())


def test_wait_for_works(server: AuthorizationServer) -> None:
    async def main() -> None:
        server.set_knobs(latency=60_000)
        async with AsyncClient(**settings(server, timeout=LONG)) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.resolve("token"), 0.05)
            assert client.stats().waiting == 0

    run(main())


def test_failures_are_typed_as_they_are_for_threads(server: AuthorizationServer) -> None:
    async def main() -> None:
        endpoint = server.endpoint(status=429, retry_after=9)
        async with AsyncClient(**settings(server, introspection_endpoint=endpoint, log=None)) as client:
            with pytest.raises(phantom_token.BusyError) as caught:
                await client.resolve("token")
            assert (caught.value.http_status, caught.value.retry_after) == (503, 9)
            with pytest.raises(phantom_token.InvalidTokenError):
                await client.resolve("not a token")
        with pytest.raises(phantom_token.ConfigError, match="there is no key"):
            AsyncClient(**settings(server, colour="blue"))

    run(main())


def test_closing_tells_tasks_that_wait(server: AuthorizationServer) -> None:
    async def main() -> None:
        server.set_knobs(latency=60_000)
        client = AsyncClient(**settings(server, timeout=2 * LONG))
        async with client:
            waiting = [asyncio.ensure_future(client.resolve(f"token-{number % 10}")) for number in range(100)]
            await until(lambda: client.stats().waiting == 100)
        assert client.closed
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, phantom_token.StoppedError)
        await client.close()
        with pytest.raises(phantom_token.StoppedError):
            await client.resolve("token")

    run(main())


def test_closing_that_is_cancelled_still_tells_tasks_that_wait(server: AuthorizationServer) -> None:
    async def main() -> None:
        server.set_knobs(latency=60_000)
        client = AsyncClient(**settings(server, timeout=2 * LONG))
        waiting = asyncio.ensure_future(client.resolve("token"))
        await until(lambda: client.stats().waiting == 1)
        closing = asyncio.ensure_future(client.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(phantom_token.StoppedError):
            await waiting

    run(main())


def test_a_client_belongs_to_one_loop(server: AuthorizationServer) -> None:
    client = AsyncClient(**settings(server))

    async def ask() -> bool:
        return (await client.resolve("token")).active

    async def ask_from_another_loop() -> None:
        # Not even a hit, which would need no loop: it should not work on some days only.
        for call in (ask, client.close):
            with pytest.raises(RuntimeError, match="another event loop"):
                await asyncio.get_running_loop().run_in_executor(None, asyncio.run, call())
        await client.close()

    async def main() -> None:
        assert not await ask()
        await ask_from_another_loop()

    run(main())


def test_an_unclosed_client_warns_once_its_loop_is_gone(server: AuthorizationServer) -> None:
    async def main() -> None:
        client = AsyncClient(**settings(server, name="forgotten"))
        await client.resolve("token")

    with pytest.warns(ResourceWarning, match="unclosed <phantom_token.AsyncClient 'forgotten'>"):
        run(main())
        gc.collect()


def test_a_client_that_was_never_used_closes(server: AuthorizationServer) -> None:
    async def main() -> None:
        await AsyncClient(**settings(server)).close()

    run(main())
