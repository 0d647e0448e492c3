# SPDX-License-Identifier: Apache-2.0
"""ASGI middleware: the application behind it sees the JWT where the client sent an opaque access token.

With any ASGI server, for example: `uvicorn myapp:app`, where myapp.py says

    client = phantom_token.AsyncClient(introspection_endpoint=..., ...)
    policy = phantom_token.Policy(realm="orders", scope="orders:read")
    app = PhantomToken(application, client, policy, "https://api.example.com")
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Dict, Optional
from urllib.parse import quote

import phantom_token

Scope = Dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MALFORMED = 'Bearer error="invalid_request"'


class PhantomToken:
    def __init__(
        self, app: App, client: phantom_token.AsyncClient, policy: phantom_token.Policy, base_url: str
    ) -> None:
        """`base_url` is what clients call this server. It is not taken from the request: a DPoP proof is for one server,
        and `Host` is what the client says."""
        self.app, self.client, self.policy, self.base_url = app, client, policy, base_url.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        if scope["type"] != "http" or len(values) > 1:
            return await refuse(scope, send, 400, MALFORMED)
        authorization = values[0] if values else None
        scheme, _, token = (authorization or b"").partition(b" ")
        path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
        try:
            result = None
            if scheme.lower() in (b"bearer", b"dpop"):
                result = await self.client.resolve(token.strip(b" "))
            # Also a token that is bound to a key of its sender passes only with its proof.
            self.policy.check(
                result,
                client=self.client,
                authorization=authorization,
                method=scope["method"],
                url=self.base_url + path,
                dpop=[value for name, value in scope["headers"] if name == b"dpop"],
            )
        except phantom_token.DeniedError as denial:
            return await refuse(scope, send, denial.http_status, denial.challenge, denial.dpop_nonce)
        except phantom_token.InvalidTokenError:
            return await refuse(scope, send, 400, MALFORMED)
        except phantom_token.PhantomTokenError as error:  # No verdict: it lets nobody through.
            return await refuse(scope, send, error.http_status)
        assert result is not None
        headers = [header for header in scope["headers"] if header[0] not in (b"authorization", b"dpop")]
        headers.append((b"authorization", str(result.authorization).encode()))
        await self.app({**scope, "headers": headers}, receive, send)


async def refuse(
    scope: Scope, send: Send, status: int, challenge: Optional[str] = None, nonce: Optional[str] = None
) -> None:
    if scope["type"] == "websocket":
        return await send({"type": "websocket.close", "code": 1008})
    headers = [(b"www-authenticate", challenge.encode())] if challenge else []
    if nonce:
        headers.append((b"dpop-nonce", nonce.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
