# SPDX-License-Identifier: Apache-2.0
"""Turns opaque OAuth access tokens into JWTs, and remembers them: libphantom_token for Python.

    import phantom_token

    client = phantom_token.Client(
        introspection_endpoint="https://as.example.com/introspect",
        client_id="gateway",
        client_secret_file="/etc/gateway/secret",
    )
    policy = phantom_token.Policy(scopes="orders:read")

    result = client.resolve(token)
    policy.check(result, client=client, authorization=authorization, method=method, url=url, dpop=proofs)
    headers["Authorization"] = result.authorization

`AsyncClient` is the same for asyncio. docs/python.md has everything.
"""

from ._abi import CacheStatus, Status, library
from ._asyncio import AsyncClient
from ._client import Client
from ._decision import Decision, Request
from ._errors import (
    BadAnswerError,
    BusyError,
    CircuitOpenError,
    ClientRefusedError,
    ConfigError,
    DeadlineExceeded,
    DeniedError,
    ForkedError,
    InternalError,
    InvalidArgumentError,
    InvalidTokenError,
    OverloadedError,
    PanicError,
    PhantomTokenError,
    StoppedError,
    SystemResourceError,
    UncheckedSenderError,
    UnavailableError,
    UnreachableError,
)
from ._policy import Policy
from ._result import LatencyBar, Result, Stats
from ._keys import ProviderSettings
from ._settings import Setting

__version__ = "0.1.0"


def library_version() -> str:
    """The version of the library that is loaded."""
    version: bytes = library.phantom_version()
    return version.decode()


__all__ = [
    "AsyncClient",
    "BadAnswerError",
    "BusyError",
    "CacheStatus",
    "CircuitOpenError",
    "Client",
    "ClientRefusedError",
    "ConfigError",
    "DeadlineExceeded",
    "Decision",
    "DeniedError",
    "ForkedError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidTokenError",
    "LatencyBar",
    "OverloadedError",
    "PanicError",
    "PhantomTokenError",
    "Policy",
    "Request",
    "Result",
    "ProviderSettings",
    "Setting",
    "Stats",
    "Status",
    "StoppedError",
    "SystemResourceError",
    "UnavailableError",
    "UncheckedSenderError",
    "UnreachableError",
    "library_version",
]
