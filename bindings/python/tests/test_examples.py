# SPDX-License-Identifier: Apache-2.0
"""The examples."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import Any, Dict, List, Tuple

from conftest import ROOT, AuthorizationServer, settings
from phantom_token import AsyncClient, Policy

_spec = importlib.util.spec_from_file_location("asgi", ROOT / "bindings" / "python" / "examples" / "asgi.py")
assert _spec is not None and _spec.loader is not None
asgi = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(asgi)

Headers = List[Tuple[bytes, bytes]]

#: What is said of the body of an answer.
JSON = (b"content-type", b"application/json")


def ask(server: AuthorizationServer, headers: Headers, required: str = "read", kind: str = "http") -> Any:
    """Sends one request through the middleware: what the application got, and what the client got."""
    reached: List[Headers] = []
    sent: List[Dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["headers"])
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def receive() -> Any:
        raise AssertionError("the body is the application's")

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        async with AsyncClient(**settings(server, log=None)) as client:
            request = {"type": kind, "method": "GET", "path": "/orders", "headers": headers}
            middleware = asgi.PhantomToken(application, client, Policy(scope=required), "https://api.example.com")
            await middleware(request, receive, send)

    asyncio.run(main())
    return reached, sent


def test_the_application_gets_the_jwt_instead_of_the_token(server: AuthorizationServer) -> None:
    token = server.issue(scope="read").encode()
    reached, sent = ask(server, [(b"host", b"api"), (b"authorization", b"bEaReR  " + token)], "read")
    assert sent[0]["status"] == 204
    (headers,) = reached
    assert headers[0] == (b"host", b"api")
    assert [name for name, _ in headers].count(b"authorization") == 1
    assert headers[1][1].startswith(b"Bearer ey") and headers[1][1].count(b".") == 2
    assert token not in repr(headers).encode()


def test_nobody_else_gets_in(server: AuthorizationServer) -> None:
    token = server.issue(scope="read").encode()
    good = (b"authorization", b"Bearer " + token)
    cases: List[Tuple[Headers, int, bytes]] = [
        ([], 401, b'Bearer scope="write"'),
        ([(b"authorization", b"Basic eA==")], 401, b'Bearer scope="write"'),
        ([(b"authorization", b"Bearer")], 400, b'Bearer error="invalid_request"'),
        ([(b"authorization", b"Bearer a b")], 400, b'Bearer error="invalid_request"'),
        ([good, good], 400, b'Bearer error="invalid_request"'),
        ([(b"authorization", b"Bearer unknown")], 401, b'Bearer error="invalid_token"'),
        ([good], 403, b'Bearer error="insufficient_scope", scope="write"'),
    ]
    for headers, status, challenge in cases:
        reached, sent = ask(server, headers, "write")
        assert reached == []
        assert (sent[0]["status"], sent[0]["headers"]) == (status, [(b"www-authenticate", challenge), JSON]), headers
        assert b'"message"' in sent[1]["body"]
    reached, sent = ask(server, [good], kind="websocket")
    assert reached == [] and sent[0]["type"] == "websocket.close"


def test_a_token_that_is_bound_to_a_key_is_no_bearer_token(server: AuthorizationServer) -> None:
    token = server.issue(scope="read", **{"claim.cnf": '{"jkt": "x"}'}).encode()
    for headers, reason in [
        ([(b"authorization", b"Bearer " + token)], b"present it with DPoP"),
        ([(b"authorization", b"DPoP " + token)], b"no DPoP header"),
        ([(b"authorization", b"DPoP " + token), (b"dpop", b"eyJ")], b"is malformed"),
        ([(b"authorization", b"DPoP " + token), (b"dpop", b"a"), (b"dpop", b"b")], b"more than one DPoP header"),
    ]:
        reached, sent = ask(server, headers)
        assert reached == []
        ((_, challenge), kind) = sent[0]["headers"]
        assert kind == JSON
        assert (sent[0]["status"], challenge[:5]) == (401, b"DPoP "), headers
        assert reason in challenge


def test_when_the_authorization_server_fails_nobody_gets_in(server: AuthorizationServer) -> None:
    server.set_knobs(status=500)
    reached, sent = ask(server, [(b"authorization", b"Bearer token")])
    assert reached == []
    assert sent[0] == {"type": "http.response.start", "status": 502, "headers": [JSON]}
