# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests: a real authorization server, and clients of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional

import pytest

ROOT = Path(__file__).resolve().parents[3]

#: No call of a test takes anywhere near as long.
LONG = 30.0


def _built(environment: str, name: str) -> Path:
    named = os.environ.get(environment)
    candidates = [Path(named)] if named else [ROOT / "target" / kind / name for kind in ("release", "debug")]
    for path in candidates:
        if path.exists():
            return path
    raise pytest.UsageError(f"{name} is not built: run cargo build --release, or set {environment}")


# Before the package is imported: it looks for the library then.
os.environ["PHANTOM_TOKEN_LIBRARY"] = str(_built("PHANTOM_TOKEN_LIBRARY", "libphantom_token.so"))

import phantom_token  # noqa: E402

CLIENT_ID = "gateway"
CLIENT_SECRET = "s3cret-that-must-not-show"


class AuthorizationServer:
    """The example authorization server, on a port of its own."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        # No proxy that the environment may name.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def endpoint(self, **knobs: object) -> str:
        """The introspection endpoint, misbehaving as told."""
        query = urllib.parse.urlencode(knobs)
        return f"{self.url}/introspect" + (f"?{query}" if query else "")

    def issue(self, **parameters: str) -> str:
        """A new opaque access token."""
        form = {"grant_type": "client_credentials", **parameters}
        token = json.loads(self._call("POST", "/token", urllib.parse.urlencode(form).encode()))["access_token"]
        assert isinstance(token, str)
        return token

    def revoke(self, token: str) -> None:
        self._call("POST", "/revoke", urllib.parse.urlencode({"token": token}).encode())

    def stats(self) -> Dict[str, Any]:
        stats = json.loads(self._call("GET", "/stats"))
        assert isinstance(stats, dict)
        return stats

    def introspections(self, token: str) -> int:
        """How often the server was asked about `token`."""
        return int(self.stats()["by_token"].get(hashlib.sha256(token.encode()).hexdigest(), 0))

    def wait_for_introspections(self, count: int) -> None:
        """Waits until that many have arrived since the start."""
        until(lambda: self.stats()["introspections"] >= count)

    def set_knobs(self, **knobs: object) -> None:
        self._call("PUT", "/knobs", json.dumps(knobs).encode())

    def reset(self) -> None:
        self._call("DELETE", "/knobs")
        self._call("DELETE", "/stats")

    def _call(self, method: str, path: str, body: Optional[bytes] = None) -> bytes:
        request = urllib.request.Request(self.url + path, data=body, method=method)
        credentials = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        request.add_header("Authorization", f"Basic {credentials}")
        with self._opener.open(request, timeout=LONG) as response:
            answer = response.read()
        assert isinstance(answer, bytes)
        return answer


def until(condition: Callable[[], bool]) -> None:
    """Waits until `condition` holds."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthorizationServer]:
    port_file = tmp_path_factory.mktemp("as") / "port"
    binary = _built("PHANTOM_TOKEN_AS", "authorization_server")
    process = subprocess.Popen(
        [
            str(binary),
            *("--listen", "127.0.0.1:0", "--port-file", str(port_file)),
            *("--client", f"{CLIENT_ID}:{CLIENT_SECRET}"),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        until(lambda: port_file.exists() or process.poll() is not None)
        assert process.poll() is None, "the authorization server has ended"
        yield AuthorizationServer(int(port_file.read_text()))
    finally:
        process.terminate()
        process.wait(LONG)


@pytest.fixture
def server(_server: AuthorizationServer) -> AuthorizationServer:
    """The authorization server, well-behaved, with all counters at zero."""
    _server.reset()
    return _server


def settings(server: AuthorizationServer, **others: Any) -> Dict[str, Any]:
    """The settings of a client of the server."""
    return {
        "introspection_endpoint": server.endpoint(),
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        **others,
    }


@pytest.fixture
def client(server: AuthorizationServer) -> Iterator[phantom_token.Client]:
    with phantom_token.Client(**settings(server)) as client:
        yield client
