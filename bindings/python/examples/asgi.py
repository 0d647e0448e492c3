# SPDX-License-Identifier: Apache-2.0
"""ASGI middleware: the application behind it sees the JWT where the client sent an opaque access token.

With any ASGI server, for example: `uvicorn myapp:app`, where myapp.py says

    client = phantom_token.AsyncClient(introspection_endpoint=..., ...)
    policy = phantom_token.Policy(realm="orders", scope="orders:read")
    app = PhantomToken(application, client, policy, "https://api.example.com")
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Dict, Union
from urllib.parse import quote

import phantom_token

Scope = Dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


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
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
        query = scope.get("query_string", b"").decode("latin-1")
        request = phantom_token.Request(
            method=scope["method"],
            target=path + (f"?{query}" if query else ""),
            headers=scope["headers"],
            url=self.base_url + path,
        )
        resolved: Union[phantom_token.Result, phantom_token.PhantomTokenError, None] = None
        token = self.policy.token(request)
        if token is not None:
            try:
                resolved = await self.client.resolve(token)
            except phantom_token.PhantomTokenError as error:  # No verdict: it lets nobody through.
                resolved = error
        # Also a token that is bound to a key of its sender passes only with its proof.
        decision = self.policy.decide(request, resolved, client=self.client)
        added = [(name.lower().encode(), value.encode()) for name, value in decision.answer_headers]
        if not decision.admitted:
            await send({"type": "http.response.start", "status": decision.http_status, "headers": added})
            return await send({"type": "http.response.body", "body": decision.body})

        async def send_with_ours(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        changed = {**scope, "headers": decision.changed(scope["headers"])}
        if decision.target is not None:
            changed["query_string"] = decision.target.partition(b"?")[2]
        await self.app(changed, receive, send_with_ours)
