# SPDX-License-Identifier: Apache-2.0
"""Requests, and what to do with them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Iterator, List, Optional, Tuple, Union

from . import _abi
from ._abi import Owned, Status, library
from ._errors import check

#: A header, as ASGI servers have it: its name and its value.
Header = Tuple[bytes, bytes]


@dataclass(frozen=True)
class Request:
    """A request, as it came from the client. What it does not have stays `None`.

    `target` is what it asks for, as it stands in the request line or in `:path`; `headers` are all of its headers, each field
    by itself, with `host` for `:authority`. `scheme` is what the client sees, `https` or `http`; `url` is the whole URL for a
    gateway that knows better than `Host` and `target` say. `client_certificate` is the certificate with which the client has
    authenticated its connection, as DER.
    """

    method: Union[str, bytes]
    target: Union[str, bytes]
    headers: Iterable[Header]
    scheme: Union[str, bytes, None] = None
    url: Union[str, bytes, None] = None
    client_certificate: Optional[bytes] = None

    def __repr__(self) -> str:
        # It holds the token.
        return "<phantom_token.Request>"

    def _as_c(self) -> _abi.phantom_request:
        headers = list(self.headers)
        request = _abi.phantom_request(size=ctypes.sizeof(_abi.phantom_request))
        request.headers = (_abi.phantom_header * len(headers))(
            *(_abi.phantom_header(name, len(name), value, len(value)) for name, value in headers)
        )
        request.header_count = len(headers)
        for field in ("method", "target", "scheme", "url", "client_certificate"):
            text = getattr(self, field)
            if text is not None:
                # As WSGI and ASGI servers have read it from the wire.
                encoded = text.encode("latin-1") if isinstance(text, str) else text
                setattr(request, field, encoded)
                setattr(request, f"{field}_length", len(encoded))
        return request


@dataclass(frozen=True)
class Decision:
    """What to do with a request: it goes on with other headers, or is answered."""

    #: Whether it goes on. Nothing else lets a request through.
    admitted: bool
    #: One word for logs and metrics: `ok`, `missing`, `malformed`, `inactive`, `invalid`, `unproven`, `step_up`, `forbidden`,
    #: `unavailable`. A request that goes on without a token, because none is needed, is `missing`.
    outcome: str
    #: One word more, such as `scope:write`; empty where the outcome says everything.
    reason: str
    #: The error code of the challenge; `None` if there is none.
    error: Optional[str]
    #: The status to answer with; 0 if the request goes on.
    http_status: int
    #: The changes to the headers of a request that goes on: what a header of this name is replaced with, or `None` if all
    #: of them are taken out. See `changed`.
    request_headers: Tuple[Tuple[str, Optional[bytes]], ...]
    #: The headers to add to the answer: to that of the application if the request goes on, else to the one that is given.
    answer_headers: Tuple[Tuple[str, str], ...]
    #: The body of the answer, a JSON object; empty if the request goes on.
    body: bytes
    #: The target of a request that goes on, without what held its token; `None` if it stays as it is.
    target: Optional[bytes]

    def changed(self, headers: Iterable[Header]) -> List[Header]:
        """The headers of a request that goes on, with the changes made."""
        changed = list(headers)
        for name, value in self.request_headers:
            wanted = name.lower().encode("latin-1")
            changed = [header for header in changed if header[0].lower() != wanted]
            if value is not None:
                changed.append((wanted, value))
        return changed

    def __repr__(self) -> str:
        # It holds the JWT.
        return f"<phantom_token.Decision {self.outcome} {self.reason}>"


class Decider:
    """The library's memory of one decision."""

    __slots__ = ("handle",)

    def __init__(self) -> None:
        pointer = _abi.decision_p()
        check(library.phantom_decision_new(ctypes.byref(pointer)))
        self.handle = Owned(pointer, library.phantom_decision_free)

    def read(self, status: int) -> Decision:
        """What has been decided."""
        return Decision(
            admitted=status == Status.OK,
            outcome=_word(library.phantom_decision_outcome(self.handle)) or "unavailable",
            reason=_word(library.phantom_decision_reason(self.handle)) or "",
            error=_word(library.phantom_decision_error(self.handle)),
            http_status=library.phantom_decision_http_status(self.handle),
            request_headers=tuple(self._headers(library.phantom_decision_request_header)),
            answer_headers=tuple(
                (name, (value or b"").decode("utf-8"))
                for name, value in self._headers(library.phantom_decision_answer_header)
            ),
            body=self._text(library.phantom_decision_body) or b"",
            target=self._text(library.phantom_decision_target),
        )

    def _headers(self, part: Callable[..., Optional[bytes]]) -> Iterator[Tuple[str, Optional[bytes]]]:
        value, length = ctypes.c_void_p(), ctypes.c_size_t()
        index = 0
        while True:
            name = part(self.handle, index, ctypes.byref(value), ctypes.byref(length))
            if name is None:
                return
            yield name.decode("latin-1"), None if value.value is None else ctypes.string_at(value.value, length.value)
            index += 1

    def _text(self, part: Callable[..., Optional[int]]) -> Optional[bytes]:
        length = ctypes.c_size_t()
        text: Any = part(self.handle, ctypes.byref(length))
        return None if text is None else ctypes.string_at(text, length.value)


def _word(text: Optional[bytes]) -> Optional[str]:
    return None if text is None else text.decode("utf-8")
