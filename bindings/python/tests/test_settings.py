# SPDX-License-Identifier: Apache-2.0
"""Keyword arguments."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import phantom_token
import pytest
from conftest import CLIENT_SECRET, AuthorizationServer, settings
from phantom_token import CacheStatus, Client
from phantom_token._settings import written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("10m", "10m"),
        (True, "on"),
        (False, "off"),
        (5, "5"),
        (0, "0"),
        (1.5, "1500ms"),
        (0.0004, "1ms"),
        (0.0, "0ms"),
        (timedelta(minutes=2), "120000ms"),
        (timedelta(microseconds=1500), "2ms"),
        (Path("/etc/secret"), "/etc/secret"),
        (["jwt", "token"], "jwt token"),
        (("jwt",), "jwt"),
    ],
)
def test_values_are_written_as_the_library_reads_them(value: Any, text: str) -> None:
    assert written("key", value) == text


@pytest.mark.parametrize("value", [b"secret", object(), {"a": 1}, [1], {"secret"}])
def test_a_value_of_another_type_is_a_type_error_that_does_not_show_it(value: Any) -> None:
    with pytest.raises(TypeError, match="^client_secret is a ") as caught:
        Client(introspection_endpoint="https://as.example.com/", client_id="a", client_secret=value)
    assert "secret'" not in str(caught.value)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_a_time_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="a time must be"):
        Client(introspection_endpoint="https://as.example.com/", timeout=value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cache_tll": "5s"}, ["cache_tll", 'did you mean "cache_ttl"']),
        ({"timeout": "soon"}, ["timeout", '"soon"', "is not a time"]),
        ({"retries": 99}, ["retries", '"99"', "out of range"]),
        ({"retries": 0.5}, ["retries", "is not a number"]),
        ({"refresh_ahead": 100}, ["refresh_ahead", '"100"', "out of range"]),
        ({"ssl_verify": "maybe"}, ["ssl_verify", "on or off"]),
        ({"introspection_endpoint": None}, ["introspection_endpoint", "is missing"]),
        ({"client_secret": None, "client_secret_file": "/nonexistent/file"}, ["/nonexistent/file"]),
        ({"client_secret": f"{CLIENT_SECRET}\n"}, ["client_secret", "line break"]),
    ],
)
def test_a_wrong_setting_is_an_error_in_the_librarys_words(
    server: AuthorizationServer, wrong: Any, words: Any
) -> None:
    with pytest.raises(phantom_token.ConfigError) as caught:
        Client(**{**settings(server, name="orders"), **wrong})
    message = str(caught.value)
    assert '"orders"' in message
    for word in words:
        assert word in message
    assert CLIENT_SECRET not in message
    assert caught.value.status is phantom_token.Status.CONFIG
    assert isinstance(caught.value, ValueError)


def test_text_that_is_no_unicode_is_refused_without_quoting_it(server: AuthorizationServer) -> None:
    with pytest.raises(phantom_token.InvalidArgumentError, match="not UTF-8") as caught:
        Client(**settings(server, client_secret=f"{CLIENT_SECRET}\ud800"))
    assert CLIENT_SECRET not in str(caught.value)


def test_several_endpoints_are_a_list_and_stand_in_for_each_other(server: AuthorizationServer) -> None:
    broken = server.endpoint(status=503)
    token = server.issue()
    for endpoints in ([broken, server.endpoint()], f"{broken} {server.endpoint()}"):
        with Client(**settings(server, introspection_endpoint=endpoints, retries=0)) as client:
            assert client.resolve(token).active


def test_every_kind_of_value_reaches_the_client(server: AuthorizationServer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{CLIENT_SECRET}\n")
    with Client(
        introspection_endpoint=server.endpoint(jwt_claim="token"),
        client_id="gateway",
        client_secret_file=secret,
        client_auth="client_secret_post",
        dialect="json",
        jwt_claim=["jwt", "token"],
        timeout=timedelta(seconds=5),
        connect_timeout=2.5,
        retries=0,
        ssl_verify=True,
        cache_ttl=0,
        refresh_ahead=20,
        stale_if_error=timedelta(minutes=5),
        max_fails=3,
        fail_timeout=0.5,
        client_secret=None,
    ) as client:
        token = server.issue()
        assert client.resolve(token).active
        # Nothing is remembered with a time to live of nothing.
        assert client.resolve(token).cache is CacheStatus.MISS
    assert "client_secret" in server.stats()["last_request"]["parameters"]
