# SPDX-License-Identifier: Apache-2.0
"""Verdicts and statistics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from types import MappingProxyType
from typing import Any, Callable, Mapping, Optional, Tuple

from ._abi import CacheStatus, Owned, copy_text, library, result_p, to_bytes
from ._errors import UncheckedSenderError


# Of the year 9999, after which `datetime` knows no more.
_LAST_SECOND = 253_402_300_799


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A verdict on the token of one request, and where it came from. Any thread may use it.

    Clients make these. A result is true when the token is active, and false when it is not. Of a token that is bound to a
    key of its sender there is a JWT only once a `Policy` has let its request pass; with `sender_constraint="ignore"` in it,
    that is when another party checks the sender.
    """

    _handle: Owned

    @cached_property
    def active(self) -> bool:
        """Whether the token is active. An inactive one is unknown, expired, revoked, or not meant for us; the
        authorization server does not say which (RFC 7662 §2.2). Answer 401."""
        return bool(library.phantom_result_is_active(self._handle))

    def __bool__(self) -> bool:
        return self.active

    @cached_property
    def bound(self) -> bool:
        """Whether the token is active and bound to a key of its sender (`cnf`)."""
        return bool(library.phantom_result_is_bound(self._handle))

    @cached_property
    def authorization(self) -> Optional[str]:
        """The value of the `Authorization` header to send upstream, `Bearer eyJ…`; `None` if not active.

        Raises `UncheckedSenderError` if the token is bound and no `Policy` has let it pass."""
        return self._admitted(library.phantom_result_authorization)

    @cached_property
    def jwt(self) -> Optional[str]:
        """The JWT alone, likewise."""
        return self._admitted(library.phantom_result_jwt)

    def _admitted(self, part: Callable[..., Optional[int]]) -> Optional[str]:
        text = copy_text(part, self._handle)
        if text is None and self.bound:
            raise UncheckedSenderError()
        return text

    @cached_property
    def claims(self) -> Mapping[str, Any]:
        """All that is claimed of the token, read when first asked for; empty if not active."""
        text = copy_text(library.phantom_result_claims, self._handle)
        return MappingProxyType(json.loads(text) if text is not None else {})

    @cached_property
    def expires_at(self) -> Optional[datetime]:
        """When the token expires, in UTC; `None` if that is not said, or the token is not active."""
        seconds: int = library.phantom_result_expires_at(self._handle)
        if seconds < 0:
            return None
        return datetime.fromtimestamp(min(seconds, _LAST_SECOND), timezone.utc)

    @cached_property
    def cache(self) -> CacheStatus:
        """Where the verdict came from."""
        return CacheStatus(library.phantom_result_cache_status(self._handle))

    def has_scope(self, name: str) -> bool:
        """Whether the token is active and was granted the scope `name`. If you require it, answer 403 without."""
        scope = to_bytes(name)
        return bool(library.phantom_result_has_scope(self._handle, scope, len(scope)))

    def __repr__(self) -> str:
        # No JWT, and no claims: they are somebody's.
        state = "active" if self.active else "inactive"
        return f"<phantom_token.Result {state} cache={self.cache}>"


def take_result(pointer: Any) -> Result:
    """Takes over a result that the library has handed out."""
    return Result(Owned(pointer, library.phantom_result_free))


def new_result_pointer() -> Any:
    """Where the library writes a result to."""
    return result_p()


@dataclass(frozen=True)
class LatencyBar:
    """One bar of the histogram of the authorization server's latency."""

    #: Its upper bound in microseconds; `None` for the last, which has none.
    le_us: Optional[int]
    #: How many calls took longer than the bar before allows, and at most this long.
    count: int


@dataclass(frozen=True)
class Stats:
    """A snapshot of a client's statistics."""

    #: Verdicts served from memory.
    hits: int
    #: Requests that started a call to the authorization server.
    misses: int
    #: Requests that shared another's call.
    coalesced: int
    #: Requests answered with an inactive verdict, remembered or not.
    inactive: int
    #: Requests that ended in an error, by kind: `unreachable`, `timeout`, …
    errors: Mapping[str, int]
    #: Calls made to the authorization server, repeats included.
    calls: int
    #: Calls repeated.
    retries: int
    #: Calls under way, or queued for their turn.
    in_flight: int
    #: Requests waiting.
    waiting: int
    #: Verdicts remembered.
    entries: int
    #: Inactive verdicts among them.
    inactive_entries: int
    #: Bytes that they take.
    bytes: int
    #: Verdicts pushed out of memory before their time.
    evictions: int
    #: The sum of all latencies of the authorization server, in microseconds.
    latency_sum_us: int
    #: Verdicts served from the store that is shared.
    shared_hits: int
    #: Requests answered with what is past its time (`stale_if_error`).
    stale: int
    #: Calls that began in the background (`refresh_ahead`).
    refreshes: int
    #: How often this client stopped calls after too many failures (`max_fails`).
    breaker_openings: int
    #: 1 if they are stopped now, else 0.
    breaker_open: int
    #: How many calls took how long.
    latency: Tuple[LatencyBar, ...]

    @classmethod
    def _of_json(cls, text: str) -> Stats:
        snapshot = json.loads(text)
        # A later version of the library may count more.
        values = {name: snapshot[name] for name in cls.__dataclass_fields__}
        values["errors"] = MappingProxyType(values["errors"])
        values["latency"] = tuple(LatencyBar(bar["le_us"], bar["count"]) for bar in values["latency"])
        return cls(**values)
