# SPDX-License-Identifier: Apache-2.0
"""Log lines."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from typing import Any, List, Tuple

import phantom_token
import pytest
from conftest import CLIENT_SECRET, AuthorizationServer, settings, until
from phantom_token import Client


def fail(client: Client, token: str) -> None:
    with pytest.raises(phantom_token.UnavailableError):
        client.resolve(token)


def test_failures_are_logged_by_the_logger_named_phantom_token(
    server: AuthorizationServer, caplog: pytest.LogCaptureFixture
) -> None:
    token = server.issue()
    with caplog.at_level(logging.INFO, "phantom_token"), Client(**settings(server, name="orders")) as client:
        server.set_knobs(status=401)
        fail(client, token)
        server.set_knobs()
        assert client.resolve(token).active
        until(lambda: len(caplog.records) >= 2)
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.INFO]
    assert {record.name for record in caplog.records} == {"phantom_token"}
    assert all('"orders"' in record.getMessage() for record in caplog.records)


def test_no_line_holds_a_secret(server: AuthorizationServer) -> None:
    lines: List[str] = []
    for knobs in ({"status": 401}, {"garbage": "crlf"}, {"status": 503}, {"close": "mid_body"}, {"dialect": "json"}):
        token, endpoint = server.issue(), server.endpoint(**knobs)
        arguments = settings(server, introspection_endpoint=endpoint, dialect="jwt")
        with Client(**arguments, log=lambda level, line: lines.append(line)) as client:
            fail(client, token)
            until(lambda: bool(lines))
        text = "\n".join(lines)
        assert token not in text and CLIENT_SECRET not in text and "eyJ" not in text, knobs
        lines.clear()


def test_a_function_gets_level_and_line(server: AuthorizationServer) -> None:
    lines: List[Tuple[int, str]] = []
    endpoint = server.endpoint(status=503)
    with Client(
        **settings(server, introspection_endpoint=endpoint, log=lambda level, line: lines.append((level, line)))
    ) as client:
        fail(client, "token")
        until(lambda: bool(lines))
    level, line = lines[0]
    assert level == logging.WARNING
    assert "\n" not in line and "503" in line


def test_no_log_is_no_log(server: AuthorizationServer, caplog: pytest.LogCaptureFixture) -> None:
    with Client(**settings(server, introspection_endpoint=server.endpoint(status=500), log=None)) as client:
        fail(client, "token")
    assert caplog.records == []


def test_what_a_log_function_raises_disturbs_nobody(
    server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: List[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))

    def log(level: int, line: str) -> None:
        raise KeyError("a defect")

    with Client(**settings(server, introspection_endpoint=server.endpoint(status=500), log=log)) as client:
        fail(client, "token")
        until(lambda: bool(seen))
        fail(client, "another")
    assert seen == [KeyError]


def test_a_client_closes_while_its_log_function_runs(server: AuthorizationServer) -> None:
    entered, leave = threading.Event(), threading.Event()

    def log(level: int, line: str) -> None:
        entered.set()
        leave.wait(1)

    client = Client(**settings(server, introspection_endpoint=server.endpoint(status=500), log=log))
    fail(client, "token")
    assert entered.wait(30)
    threading.Timer(0.1, leave.set).start()
    client.close()


def test_a_client_that_its_log_function_refers_to_is_collected(server: AuthorizationServer) -> None:
    class Service:
        def __init__(self) -> None:
            self.client = Client(**settings(server, log=self.log))

        def log(self, level: int, line: str) -> None:
            pass

    gone = weakref.ref(Service().client)
    with pytest.warns(ResourceWarning):
        gc.collect()
    assert gone() is None
