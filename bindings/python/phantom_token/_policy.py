# SPDX-License-Identifier: Apache-2.0
"""Requirements for a token beyond being active."""

from __future__ import annotations

import ctypes
from datetime import timedelta
from typing import Any, Mapping, NoReturn, Optional, Sequence, Union

from . import _abi
from ._abi import Owned, Status, library, to_bytes
from ._client import BaseClient
from ._decision import Decider, Decision, Request
from ._errors import DeniedError, PhantomTokenError, check, last_error
from ._result import Result
from ._settings import Setting, written

#: What a claim must be: one value, or one of several; `None` if it must only be there.
Required = Union[str, int, float, bool, Sequence[Union[str, int, float, bool]], None]
#: A header's value, as a framework has it.
Text = Union[str, bytes, None]


class Policy:
    """The requirements for a token beyond being active. It is immutable, and any thread may use it.

    Keyword arguments are the keys of a policy (docs/python.md lists them). A string is one value, a list is several.
    Of `scopes`, a string is scopes that are all required, and a list is several such strings of which one suffices.
    `require` is a mapping from claims to what they must be.

        policy = Policy(
            realm="orders", scopes=["orders:read orders:write", "admin"], require={"tenant": ["acme", "~^test-"]}
        )

    Raises `ConfigError` when a key is unknown, or a value is not one of it.
    """

    __slots__ = ("_handle",)

    def __init__(
        self,
        *,
        scopes: Union[str, Sequence[str], None] = None,
        scope: Union[str, Sequence[str], None] = None,
        require: Optional[Mapping[str, Required]] = None,
        max_age: Union[str, int, float, timedelta, None] = None,
        **others: Setting,
    ) -> None:
        pointer = _abi.policy_p()
        check(library.phantom_policy_new(ctypes.byref(pointer)))
        self._handle = Owned(pointer, library.phantom_policy_free)
        for alternative in (scopes,) if isinstance(scopes, str) else scopes or ():
            self._set("scopes", alternative)
        for needed in (scope,) if isinstance(scope, str) else scope or ():
            self._set("scope", needed)
        for claim, wanted in (require or {}).items():
            several = isinstance(wanted, Sequence) and not isinstance(wanted, str)
            values: Any = wanted if several else () if wanted is None else (wanted,)
            self._set("require", " ".join(map(_quoted, (claim, *map(_as_json, values)))))
        if max_age is not None:
            self._set("max_age", written("max_age", max_age))
        for key, value in others.items():
            if isinstance(value, (list, tuple)):
                self._set(key, " ".join(map(_quoted, value)))
            elif value is not None:
                self._set(key, _quoted(written(key, value)))

    def _set(self, key: str, value: str) -> None:
        name, text = to_bytes(key), to_bytes(value)
        check(library.phantom_policy_set(self._handle, name, len(name), text, len(text)))

    def check(
        self,
        result: Optional[Result],
        *,
        client: Optional[BaseClient] = None,
        authorization: Text = None,
        method: Text = None,
        url: Text = None,
        dpop: Union[Text, Sequence[Union[str, bytes]]] = None,
        client_certificate: Optional[bytes] = None,
    ) -> None:
        """Returns if a request may pass whose token `result` is about, and raises `DeniedError` if not. `None` is a
        request without a token.

        What the request presents is needed for tokens that are bound to a key of their sender: without, they are
        denied. `authorization` is the value of its `Authorization` header, `url` what it asks for as its client sees
        it, made of a `Host` that was checked to be a host and maybe a port, `dpop` the value of its `DPoP` header, or all of them, and `client_certificate` the certificate with which
        the client has authenticated its connection, as DER. `client` is the one that has resolved the token: it knows
        which proofs were used before.
        """
        proofs = () if dpop is None else (dpop,) if isinstance(dpop, (str, bytes)) else tuple(dpop)
        presentation = _abi.phantom_presentation(size=ctypes.sizeof(_abi.phantom_presentation))
        presentation.dpop_count = len(proofs)
        for field, text in (
            ("authorization", authorization),
            ("method", method),
            ("url", url),
            ("dpop", proofs[0] if proofs else None),
            ("client_certificate", client_certificate),
        ):
            if text is not None:
                encoded = to_bytes(text) if isinstance(text, str) else text
                setattr(presentation, field, encoded)
                setattr(presentation, f"{field}_length", len(encoded))
        pointer = _abi.denial_p()
        status = library.phantom_policy_check(
            self._handle,
            None if client is None else client._use(),
            None if result is None else result._handle,
            ctypes.byref(presentation),
            ctypes.byref(pointer),
        )
        if status == Status.DENIED:
            _raise_denied(Owned(pointer, library.phantom_denial_free))
        if status != Status.OK:
            raise last_error(status)

    def token(self, request: Request) -> Optional[bytes]:
        """The token of a request, in the places that `source` names: have it resolved. `None` if there is nothing to
        resolve; `decide` knows whether that will do."""
        decider = Decider()
        c_request = request._as_c()
        token, length = ctypes.c_void_p(), ctypes.c_size_t()
        status = library.phantom_policy_token(
            self._handle, ctypes.byref(c_request), decider.handle, ctypes.byref(token), ctypes.byref(length)
        )
        if status == Status.NOT_FOUND:
            return None
        check(status)
        return ctypes.string_at(token, length.value)

    def decide(
        self,
        request: Request,
        resolved: Union[Result, PhantomTokenError, None] = None,
        *,
        client: Optional[BaseClient] = None,
    ) -> Decision:
        """Decides about a request, and says everything that is to be done with it.

        `resolved` is what resolving its token has returned, or raised; `None` if `token` has found none. `client` is the one
        that has resolved the token: it knows which DPoP proofs were used before.

            token = policy.token(request)
            try:
                resolved = None if token is None else client.resolve(token)
            except PhantomTokenError as error:
                resolved = error
            decision = policy.decide(request, resolved, client=client)
        """
        status, retry_after = int(Status.OK), -1
        if resolved is None:
            status = Status.NOT_FOUND
        elif isinstance(resolved, PhantomTokenError):
            status = resolved.status
            retry_after = -1 if resolved.retry_after is None else resolved.retry_after
        decider = Decider()
        c_request = request._as_c()
        decided = library.phantom_policy_decide(
            self._handle,
            None if client is None else client._use(),
            ctypes.byref(c_request),
            status,
            retry_after,
            resolved._handle if isinstance(resolved, Result) else None,
            decider.handle,
        )
        if decided not in (Status.OK, Status.DENIED):
            raise last_error(decided)
        return decider.read(decided)

    def __repr__(self) -> str:
        return "<phantom_token.Policy>"


def _raise_denied(denial: Owned) -> NoReturn:
    reason = _word(library.phantom_denial_reason(denial)) or "denied"
    denied = DeniedError(reason, status=Status.DENIED)
    denied.reason = reason
    denied.http_status = library.phantom_denial_http_status(denial)
    denied.error = _word(library.phantom_denial_error(denial))
    denied.challenge = _abi.copy_text(library.phantom_denial_challenge, denial)
    denied.dpop_nonce = _word(library.phantom_denial_dpop_nonce(denial))
    raise denied


def _word(text: Optional[bytes]) -> Optional[str]:
    return None if text is None else text.decode("utf-8")


def _as_json(value: Union[str, int, float, bool]) -> str:
    """A value as the library compares it with a claim."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise TypeError(f"a claim is required to be a {type(value).__name__}: give a str, a number or a bool")


def _quoted(value: str) -> str:
    """One value, whatever is in it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
