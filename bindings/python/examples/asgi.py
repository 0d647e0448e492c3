# SPDX-License-Identifier: Apache-2.0
"""ASGI middleware: the application behind it sees the JWT where the client sent an opaque access token.

With any ASGI server, for example: `uvicorn myapp:app`, where myapp.py says

    app = PhantomToken(application, phantom_token.AsyncClient(introspection_endpoint=..., ...), scope="read")
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Dict, Optional

import phantom_token

Scope = Dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class PhantomToken:
    def __init__(self, app: App, client: phantom_token.AsyncClient, scope: Optional[str] = None) -> None:
        self.app, self.client, self.scope = app, client, scope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = b"".join(values).partition(b" ")
        if scope["type"] != "http" or len(values) > 1:
            return await refuse(scope, send, 400, 'Bearer error="invalid_request"')
        if scheme.lower() != b"bearer":
            return await refuse(scope, send, 401, "Bearer")
        try:
            result = await self.client.resolve(token.strip(b" "))
        except phantom_token.InvalidTokenError:
            return await refuse(scope, send, 400, 'Bearer error="invalid_request"')
        except phantom_token.PhantomTokenError as error:  # No verdict: it lets nobody through.
            return await refuse(scope, send, error.http_status)
        if not result.active:
            return await refuse(scope, send, 401, 'Bearer error="invalid_token"')
        if self.scope is not None and not result.has_scope(self.scope):
            return await refuse(scope, send, 403, f'Bearer error="insufficient_scope", scope="{self.scope}"')
        headers = [header for header in scope["headers"] if header[0] != b"authorization"]
        headers.append((b"authorization", str(result.authorization).encode()))
        await self.app({**scope, "headers": headers}, receive, send)


async def refuse(scope: Scope, send: Send, status: int, challenge: str = "") -> None:
    if scope["type"] == "websocket":
        return await send({"type": "websocket.close", "code": 1008})
    headers = [(b"www-authenticate", challenge.encode())] if challenge else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
