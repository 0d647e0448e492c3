# SPDX-License-Identifier: Apache-2.0
"""The client, for threads."""

from __future__ import annotations

import atexit
import ctypes
import itertools
import logging
import os
import warnings
import weakref
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence, Type, TypeVar, Union

from . import _abi
from ._abi import LogLevel, Owned, Status, library
from ._errors import PhantomTokenError, check, error, last_error
from ._result import Result, Stats, new_result_pointer, take_result
from ._keys import ProviderSettings
from ._settings import configure, milliseconds

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Where log lines go: a logger, or a function of a level of `logging` and a line; `None` for nowhere.
Log = Union[logging.Logger, Callable[[int, str], object], None]
#: How long to wait: seconds, or a timedelta; `None` for as long as the setting `timeout` says.
Timeout = Union[float, timedelta, None]

LOGGER = logging.getLogger("phantom_token")

_LEVELS = {
    LogLevel.ERROR: logging.ERROR,
    LogLevel.WARN: logging.WARNING,
    LogLevel.INFO: logging.INFO,
}


class _Sink:
    """Where the log lines of one client go."""

    def __init__(self, log: Union[logging.Logger, Callable[[int, str], object]]) -> None:
        self.log = log

    def write(self, level: int, line: str) -> None:
        # A level that a later version of the library has is not known to be harmless.
        number = _LEVELS.get(level, logging.ERROR)  # type: ignore[call-overload]
        if isinstance(self.log, logging.Logger):
            self.log.log(number, "%s", line)
        else:
            self.log(number, line)


# The library holds a number and not an object: a line that comes late finds nothing here, and not freed memory.
# Weak, so that a client whose log function refers to the client can be collected.
_sinks: weakref.WeakValueDictionary[int, _Sink] = weakref.WeakValueDictionary()
_sink_numbers = itertools.count(1)


def _write_line(number: int, level: int, line: bytes, _length: int) -> None:
    sink = _sinks.get(number)
    if sink is not None:
        # ctypes reports exceptions of this as unraisable (`sys.unraisablehook`); the library never sees them.
        sink.write(level, line.decode("utf-8", "replace"))


# For all clients, and for ever: a thread may still be in it when its client is freed.
_write_log = _abi.LogCallback(_write_line)


Self = TypeVar("Self", bound="BaseClient")


class BaseClient:
    """The common part of `Client` and `AsyncClient`."""

    # Set before anything can fail, for `__del__`.
    _handle: Optional[Owned] = None
    _process = 0

    def __init__(
        self,
        *,
        name: str = "main",
        log: Log = LOGGER,
        **settings: Unpack[ProviderSettings],
    ) -> None:
        self._name = name
        config = configure(name, settings)
        sink = None
        if log is not None:
            sink = _Sink(log)
            number = next(_sink_numbers)
            _sinks[number] = sink
            check(library.phantom_config_set_log(config, _write_log, number))
        pointer = _abi.client_p()
        check(library.phantom_client_start(config, ctypes.byref(pointer)))
        self._process = os.getpid()
        self._handle = Owned(pointer, library.phantom_client_free, keep=sink)
        _open.add(self)

    @property
    def name(self) -> str:
        """The name of this client in messages."""
        return self._name

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._handle is None

    def lookup(self, token: Union[str, bytes]) -> Optional[Result]:
        """Looks `token` up in memory; `None` if there is no entry. It never waits."""
        text = token_bytes(token)
        pointer = new_result_pointer()
        status = library.phantom_client_lookup(self._use(), text, len(text), ctypes.byref(pointer))
        if status == Status.NOT_FOUND:
            return None
        check(status)
        return take_result(pointer)

    def purge(self, token: Union[str, bytes]) -> None:
        """Removes `token` from the cache, after it was revoked or its rights have changed. A call that starts after this has
        returned gets an answer that the authorization server gave after the call of this. It never waits for the
        authorization server, and does not tell whether there was an entry."""
        text = token_bytes(token)
        check(library.phantom_client_purge(self._use(), text, len(text)))

    def purge_all(self) -> None:
        """Removes all tokens of the authorization server from the cache, as `purge` does with one."""
        check(library.phantom_client_purge_all(self._use()))

    def stats(self) -> Stats:
        """Counters since the start, and the present state of the cache."""
        pointer = _abi.stats_p()
        check(library.phantom_client_stats(self._use(), ctypes.byref(pointer)))
        snapshot = Owned(pointer, library.phantom_stats_free)
        text = _abi.copy_text(library.phantom_stats_json, snapshot)
        if text is None:
            raise error(Status.INTERNAL, "libphantom_token has given out statistics without a text")
        return Stats._of_json(text)

    def _use(self) -> Owned:
        """The client of the library: it lives as long as the caller holds it."""
        handle = self._handle
        if handle is None:
            raise self._stopped()
        return handle

    def _stopped(self) -> PhantomTokenError:
        return error(Status.STOPPED, f'provider "{self._name}": the client has been closed')

    def _stop(self) -> None:
        """Stops the client, and lets go of it: who waits gets a `StoppedError`."""
        handle, self._handle = self._handle, None
        _open.discard(self)
        if handle is not None:
            # A forked child cannot stop what is not there, and a log function that does not return does not get
            # better by an exception here.
            library.phantom_client_stop(handle)

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<phantom_token.{type(self).__name__} {self._name!r}{state}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._handle is None:
            return
        # A forked child has no client to close.
        if self._process == os.getpid():
            _warn(f"unclosed {self!r}", ResourceWarning, source=self)
        self._stop()


_open: weakref.WeakSet[BaseClient] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    # A client's thread must not log into an interpreter that is no more.
    for client in list(_open):
        client._stop()


class Client(BaseClient):
    """Turns opaque access tokens into JWTs, and remembers them. Any number of threads may share one.

    Keyword arguments are the settings of the library (docs/python.md lists them), and two more:

    - `name`: what messages call this client.
    - `log`: a `logging.Logger` (the default is the one named `phantom_token`), a function of a level and a line, or
      `None`. It is called on the client's own thread and on threads that call the client; it must not use the client.

    Raises `ConfigError` when a setting is unknown, missing or contradictory.

    Use it as a context manager, or call `close`.
    """

    def resolve(self, token: Union[str, bytes], timeout: Timeout = None) -> Result:
        """Asks what `token` stands for, and waits: for `timeout` at most, and never longer than the setting `timeout`.

        An inactive token is a result. Every `PhantomTokenError` means that there is no verdict:
        `InvalidTokenError` when it cannot be a token, `UnavailableError` otherwise.
        """
        text = token_bytes(token)
        wait = wait_ms(timeout)
        pointer = new_result_pointer()
        status = library.phantom_client_resolve(
            self._use(), text, len(text), wait, ctypes.byref(pointer)
        )
        if status != Status.OK:
            raise last_error(status)
        return take_result(pointer)

    def close(self) -> None:
        """Stops the client, within two seconds: threads that wait get a `StoppedError`. Closing twice is fine."""
        self._stop()

    def __enter__(self: Self) -> Self:
        self._use()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._stop()


def token_bytes(token: Union[str, bytes]) -> bytes:
    """A token as the library takes it."""
    if isinstance(token, bytes):
        return token
    if isinstance(token, str):
        return _abi.to_bytes(token)
    raise TypeError(f"a token is a str or bytes, not a {type(token).__name__}")


def wait_ms(timeout: Timeout) -> int:
    """A timeout as the library takes it: 0 stands for the setting's."""
    if timeout is None:
        return 0
    wait = milliseconds(timeout)
    if wait == 0:
        raise ValueError("a timeout must be more than zero: `lookup` is what does not wait")
    return wait
