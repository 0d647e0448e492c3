# SPDX-License-Identifier: Apache-2.0
"""The client, for asyncio."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, Optional, Type, TypeVar, Union

from . import _abi
from ._abi import Owned, Status, library
from ._client import LOGGER, BaseClient, Log, Timeout, token_bytes, wait_ms
from ._errors import PhantomTokenError, check, error, last_error
from ._keys import ProviderSettings
from ._result import Result, new_result_pointer, take_result

if TYPE_CHECKING:
    from typing_extensions import Unpack

Self = TypeVar("Self", bound="AsyncClient")


class AsyncClient(BaseClient):
    """Turns opaque access tokens into JWTs, and remembers them. For the tasks of one event loop.

    It takes the same keyword arguments as `Client`. It belongs to the event loop that first uses it; using it on
    another is a `RuntimeError`. No thread waits for it: the loop watches the client's file descriptor.

    Use it as an asynchronous context manager, or await `close`.
    """

    def __init__(
        self,
        *,
        name: str = "main",
        log: Log = LOGGER,
        **settings: Unpack[ProviderSettings],
    ) -> None:
        super().__init__(name=name, log=log, **settings)
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._fd = -1
        self._numbers = itertools.count(1)
        self._waiting: Dict[int, asyncio.Future[Result]] = {}
        waiting = self._waiting

        # Refers to what waits and not to the client, which would otherwise never be collected. It runs inside
        # `phantom_client_dispatch` and nowhere else, so that it lives long enough.
        def on_verdict(number: int, status: int, pointer: Any) -> None:
            result = take_result(pointer) if status == Status.OK else None
            future = waiting.pop(number, None)
            if future is None or future.done():
                # Given up by its task a moment ago.
                return
            if result is not None:
                future.set_result(result)
            else:
                future.set_exception(last_error(status))

        self._on_verdict = _abi.Callback(on_verdict)

    async def resolve(self, token: Union[str, bytes], timeout: Timeout = None) -> Result:
        """Asks what `token` stands for, and waits as `Client.resolve` does. Cancelling the task cancels the request;
        others who wait for the same token are not disturbed."""
        text = token_bytes(token)
        wait = wait_ms(timeout)
        handle = self._use()
        loop = self._bind(handle)
        number = next(self._numbers)
        request = ctypes.c_uint64()
        pointer = new_result_pointer()
        status = library.phantom_client_submit(
            handle,
            text,
            len(text),
            self._on_verdict,
            number,
            ctypes.byref(request),
            ctypes.byref(pointer),
        )
        if status == Status.OK:
            return take_result(pointer)
        if status != Status.PENDING:
            raise last_error(status)
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting[number] = future
        timer = loop.call_later(wait / 1000, self._expire, future) if wait else None
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            # Still there: cancelled, or out of time.
            if self._waiting.pop(number, None) is not None:
                library.phantom_client_cancel(handle, request.value)

    async def close(self) -> None:
        """Stops the client, within two seconds: tasks that wait get a `StoppedError`. Closing twice is fine."""
        handle, loop = self._handle, self._loop
        if handle is None:
            return
        if loop is not None and not loop.is_closed() and loop is not asyncio.get_running_loop():
            raise self._elsewhere()
        # From here on, new calls are refused; waiting ones get their result by the loop, as always.
        self._handle = None
        try:
            # Not on the loop, which has others to serve meanwhile.
            await asyncio.get_running_loop().run_in_executor(None, library.phantom_client_stop, handle)
        finally:
            if loop is not None and not loop.is_closed():
                loop.remove_reader(self._fd)
            library.phantom_client_dispatch(handle, 0, None)
            # Nobody, unless this was cancelled.
            self._fail(self._stopped())

    async def __aenter__(self: Self) -> Self:
        self._bind(self._use())
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.close()

    def _bind(self, handle: Owned) -> asyncio.AbstractEventLoop:
        """The loop of the running task, which is this client's."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            fd = ctypes.c_int()
            check(library.phantom_client_fd(handle, ctypes.byref(fd)))
            loop.add_reader(fd.value, self._dispatch, handle)
            self._fd, self._loop = fd.value, loop
        elif self._loop is not loop:
            raise self._elsewhere()
        return loop

    def _elsewhere(self) -> RuntimeError:
        return RuntimeError(f"{self!r} belongs to another event loop")

    def _dispatch(self, handle: Owned) -> None:
        """Tells those whose verdict has come."""
        status = library.phantom_client_dispatch(handle, 0, None)
        if status != Status.OK:
            # In a forked child, or by a defect: the descriptor would stay readable for ever.
            failure = last_error(status)
            if self._loop is not None:
                self._loop.remove_reader(self._fd)
            self._fail(failure)

    def _expire(self, future: asyncio.Future[Result]) -> None:
        if not future.done():
            future.set_exception(
                error(
                    Status.TIMEOUT,
                    f'provider "{self._name}": no verdict within the caller\'s deadline',
                )
            )

    def _fail(self, failure: PhantomTokenError) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(failure)
        self._waiting.clear()
