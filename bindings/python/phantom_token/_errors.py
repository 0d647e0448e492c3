# SPDX-License-Identifier: Apache-2.0
"""One exception for each status that is an error."""

from __future__ import annotations

from typing import Dict, Optional, Type

from ._abi import Status, library


class PhantomTokenError(Exception):
    """Something failed, or there is no verdict, or it is a denial: let no request through.

    The text says what went wrong and what to do about it; it holds no token, no JWT and no secret.
    """

    #: The number of the C ABI, one of `Status` if this package knows it.
    status: int
    #: The HTTP status that a gateway answers with for this: 400, 401, 403, 500, 502, 503 or 504.
    http_status: int
    #: After how many seconds trying again may help, if that is known: the authorization server said so (`Retry-After`),
    #: or is asked again then (`CircuitOpenError`).
    retry_after: Optional[int]

    def __init__(
        self, message: str, *, status: int = Status.INTERNAL, retry_after: Optional[int] = None
    ) -> None:
        super().__init__(message)
        self.status = Status(status) if status in _CLASSES else status
        self.http_status = library.phantom_status_http(status)
        self.retry_after = retry_after


class InvalidArgumentError(PhantomTokenError, ValueError):
    """An argument is no Unicode text."""


class InvalidTokenError(PhantomTokenError, ValueError):
    """The token is empty, longer than 8192 bytes, or has a byte that RFC 6750 does not allow."""


class ConfigError(PhantomTokenError, ValueError):
    """A setting is unknown, missing, contradictory, or names a file that cannot be read."""


class DeniedError(PhantomTokenError):
    """A policy denies the request. Here, `http_status` is 400, 401, 403 or 503."""

    #: What is wrong, in one word, for a log: `scope:write`, `audience`, `inactive`.
    reason: str = "denied"
    #: The error code of the challenge: `insufficient_scope`, `invalid_token`, …; `None` where there is no token.
    error: Optional[str] = None
    #: The value of `WWW-Authenticate` to answer with, if there is one.
    challenge: Optional[str] = None
    #: The value of `DPoP-Nonce` to answer with (RFC 9449 §9), if there is one.
    dpop_nonce: Optional[str] = None


class UncheckedSenderError(PhantomTokenError):
    """The token is bound to a key of its sender, and no policy has let its request pass: there is no JWT."""

    def __init__(self) -> None:
        super().__init__(
            "the token is bound to a key of its sender (cnf): check a Policy first; "
            "sender_constraint=\"ignore\" in it says that another party checks the sender",
            status=Status.INVALID_ARGUMENT,
        )


class SystemResourceError(PhantomTokenError):
    """The operating system has no thread or file descriptor left."""


class UnavailableError(PhantomTokenError):
    """There is no verdict, and it is not the token's fault. The base of all that follow."""


class UnreachableError(UnavailableError):
    """No answer: name resolution, connection or TLS failed, or the connection was lost before the answer was whole."""


class BadAnswerError(UnavailableError):
    """The authorization server's answer cannot be used: not the protocol, not the dialect, too large, not a JWT."""


class ClientRefusedError(UnavailableError):
    """The authorization server refuses the credentials of this client, not the token."""


class BusyError(UnavailableError):
    """The authorization server says that it is busy: see `retry_after`."""


class OverloadedError(UnavailableError):
    """As many calls are under way, or requests waiting, as the settings allow."""


class DeadlineExceeded(UnavailableError, TimeoutError):
    """No verdict in time."""


class StoppedError(UnavailableError):
    """The client has been closed."""


class ForkedError(UnavailableError):
    """The client was started in another process, of which this one is a fork: start one here."""


class CircuitOpenError(UnavailableError):
    """The authorization server has failed so often (`max_fails`) that it is not asked for a while: see
    `retry_after`."""


class InternalError(UnavailableError):
    """A defect of libphantom_token, found in time."""


class PanicError(InternalError):
    """A defect of libphantom_token, stopped at its border."""


_CLASSES: Dict[int, Type[PhantomTokenError]] = {
    Status.DENIED: DeniedError,
    Status.INVALID_ARGUMENT: InvalidArgumentError,
    Status.INVALID_TOKEN: InvalidTokenError,
    Status.CONFIG: ConfigError,
    Status.SYSTEM: SystemResourceError,
    Status.UNREACHABLE: UnreachableError,
    Status.BAD_ANSWER: BadAnswerError,
    Status.CLIENT_REFUSED: ClientRefusedError,
    Status.BUSY: BusyError,
    Status.OVERLOADED: OverloadedError,
    Status.TIMEOUT: DeadlineExceeded,
    Status.STOPPED: StoppedError,
    Status.FORKED: ForkedError,
    Status.CIRCUIT_OPEN: CircuitOpenError,
    Status.INTERNAL: InternalError,
    Status.PANIC: PanicError,
}


def error(status: int, message: str, retry_after: Optional[int] = None) -> PhantomTokenError:
    """The exception of a status."""
    # A number that a later version of the library has is an error of a kind not known here, and no verdict either.
    kind = _CLASSES.get(status, UnavailableError)
    return kind(message, status=status, retry_after=retry_after)


def last_error(status: int) -> PhantomTokenError:
    """The exception of the call that has just failed on this thread with `status`."""
    message: bytes = library.phantom_last_error()
    retry_after: int = library.phantom_last_error_retry_after()
    return error(status, message.decode("utf-8", "replace"), retry_after if retry_after >= 0 else None)


def check(status: int) -> None:
    """Raises unless the call that returned `status` succeeded."""
    if status != Status.OK:
        raise last_error(status)
