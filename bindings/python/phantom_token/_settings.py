# SPDX-License-Identifier: Apache-2.0
"""From keyword arguments to a configuration of the library."""

from __future__ import annotations

import ctypes
import os
from datetime import timedelta
from typing import Mapping, Sequence, Union

from ._abi import Owned, config_p, library, to_bytes
from ._errors import check

#: What a setting can be. A string is handed on as it is; `None` leaves the default.
Setting = Union[str, int, float, bool, timedelta, "os.PathLike[str]", Sequence[str], None]


def configure(name: str, settings: Mapping[str, object]) -> Owned:
    """Makes a configuration of `settings`. The library decides which keys and values there are."""
    pointer = config_p()
    encoded = to_bytes(name)
    check(library.phantom_config_new(encoded, len(encoded), ctypes.byref(pointer)))
    config = Owned(pointer, library.phantom_config_free)
    for key, value in settings.items():
        if value is not None:
            key_bytes, value_bytes = to_bytes(key), to_bytes(written(key, value))
            check(
                library.phantom_config_set(
                    config, key_bytes, len(key_bytes), value_bytes, len(value_bytes)
                )
            )
    return config


def written(key: str, value: object) -> str:
    """A value as the library reads it, which is as nginx writes it."""
    if isinstance(value, str):
        return value
    # Before int, which bool is one of.
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        # Counts, bytes and seconds alike.
        return str(value)
    if isinstance(value, (float, timedelta)):
        return f"{milliseconds(value)}ms"
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        if isinstance(path, str):
            return path
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    # Not the value: it may be a secret.
    raise TypeError(f"{key} is a {type(value).__name__}: set it to a str, a number, a timedelta or a path")


def milliseconds(time: Union[float, timedelta]) -> int:
    """A time in whole milliseconds, at least one unless it is zero."""
    seconds = time.total_seconds() if isinstance(time, timedelta) else float(time)
    # Also refuses what is no number at all; nothing longer fits in 64 bits.
    if not 0 <= seconds <= 1e16:
        raise ValueError("a time must be a finite number of seconds, and not negative")
    return max(round(seconds * 1000), 1) if seconds > 0 else 0
