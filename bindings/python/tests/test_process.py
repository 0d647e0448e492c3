# SPDX-License-Identifier: Apache-2.0
"""Forks, and the end of the interpreter."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, List

import phantom_token
import pytest
from conftest import LONG, AuthorizationServer, settings
from phantom_token import Client

PACKAGE = Path(phantom_token.__file__).resolve().parents[1]

# From Python 3.12 on, forking with other threads about is warned of. That it is survived is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def _child(client: Client, arguments: Any, token: str, seen: Any) -> None:
    calls: List[Any] = [lambda: client.resolve(token), lambda: client.lookup(token), client.stats]
    for call in (*calls, lambda: client.purge(token), client.purge_all):
        try:
            call()
            seen.put("no error")
        except phantom_token.ForkedError as error:
            seen.put((error.status, error.http_status))
    client.close()
    with Client(**arguments) as own:
        seen.put(own.resolve(token).active)


def test_a_forked_child_is_told_at_once_and_can_start_its_own(server: AuthorizationServer) -> None:
    context = multiprocessing.get_context("fork")
    arguments = settings(server)
    with Client(**arguments) as client:
        token = server.issue()
        assert client.resolve(token).active
        seen = context.Queue()
        child = context.Process(target=_child, args=(client, arguments, token, seen))
        child.start()
        outcomes: List[Any] = [seen.get(timeout=LONG) for _ in range(6)]
        child.join(LONG)
        assert child.exitcode == 0
        assert outcomes == [(phantom_token.Status.FORKED, 503)] * 5 + [True]
        # The parent's is none the worse.
        assert client.resolve(token).cache is phantom_token.CacheStatus.HIT


def run(
    program: str, server: AuthorizationServer, *options: str, before: str = ""
) -> "subprocess.CompletedProcess[str]":
    prelude = f"{before}\nimport phantom_token, asyncio, os, sys, threading\nSETTINGS = {settings(server)!r}\n"
    return subprocess.run(
        [sys.executable, *options, "-c", prelude + textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        timeout=2 * LONG,
    )


def test_a_forked_child_ends_as_any_other(server: AuthorizationServer) -> None:
    done = run(
        """
        client = phantom_token.Client(**SETTINGS)
        result = client.resolve("token")
        child = os.fork()
        if child == 0:
            # Through all that runs at the end of an interpreter, with the client and a result alive.
            sys.exit(7)
        _, status = os.waitpid(child, 0)
        print(os.WEXITSTATUS(status), client.resolve("token").cache)
        """,
        server,
        *("-W", "ignore::DeprecationWarning"),
    )
    assert (done.stdout, done.stderr, done.returncode) == ("7 HIT\n", "", 0)


def test_an_asyncio_client_is_refused_in_a_forked_child(server: AuthorizationServer) -> None:
    done = run(
        """
        client = phantom_token.AsyncClient(**SETTINGS)
        async def ask():
            return (await client.resolve("token")).active
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(ask())
            except phantom_token.ForkedError:
                sys.exit(7)
            sys.exit(1)
        _, status = os.waitpid(child, 0)
        print(os.WEXITSTATUS(status), asyncio.run(ask()))
        """,
        server,
        *("-W", "ignore::DeprecationWarning"),
    )
    assert (done.stdout, done.stderr, done.returncode) == ("7 False\n", "", 0)


def test_a_program_that_never_closes_its_client_ends(server: AuthorizationServer) -> None:
    done = run(
        """
        client = phantom_token.Client(**SETTINGS)
        print(client.resolve("token").active)
        """,
        server,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("False\n", "", 0)


def test_a_program_ends_while_a_daemon_thread_waits_and_the_log_is_written(server: AuthorizationServer) -> None:
    server.set_knobs(latency=60_000)
    done = run(
        """
        client = phantom_token.Client(**SETTINGS, timeout=120, log=lambda level, line: print(line))
        threading.Thread(target=client.resolve, args=("token",), daemon=True).start()
        while client.stats().waiting == 0:
            pass
        print("ending")
        """,
        server,
    )
    # Whether the thread can still print its StoppedError depends on how far the interpreter is.
    assert done.stdout.startswith("ending\n")
    assert done.returncode == 0, done.stderr


def test_nothing_is_logged_into_an_interpreter_that_ends(server: AuthorizationServer) -> None:
    server.set_knobs(latency=300, status=500)
    done = run(
        """
        client = phantom_token.Client(**SETTINGS, log=lambda level, line: print("log:", line))
        threading.Thread(target=client.resolve, args=("token",), daemon=True).start()
        while client.stats().waiting == 0:
            pass
        """,
        server,
        # Runs after what the package registers, and long enough for the answer to come.
        before="import atexit, time; atexit.register(lambda: (time.sleep(2), print('end')))",
    )
    assert (done.stdout, done.returncode) == ("end\n", 0)


def test_the_library_must_be_there_and_the_error_says_what_to_do(server: AuthorizationServer, tmp_path: Path) -> None:
    def import_with(library: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "import phantom_token"],
            env={**os.environ, "PYTHONPATH": str(PACKAGE), "PHANTOM_TOKEN_LIBRARY": str(library)},
            capture_output=True,
            text=True,
            timeout=LONG,
        )
        assert done.returncode == 1
        return done.stderr.splitlines()[-1]

    absent = tmp_path / "libphantom_token.so"
    message = import_with(absent)
    assert message.startswith("ImportError: PHANTOM_TOKEN_LIBRARY names a library that cannot be loaded")
    assert str(absent) in message and "cargo build --release" in message

    # Another library: that of Python's own extension modules is one.
    import _ctypes

    assert "is no libphantom_token" in import_with(Path(_ctypes.__file__))
