# SPDX-License-Identifier: Apache-2.0
"""The C ABI of libphantom_token, as ctypes sees it: finding the library, its types and its functions.

Nothing here decides anything. `include/phantom_token.h` says what each function does.

The library is opened as a `CDLL`, so that every call lets go of the global interpreter lock: a call may wait for the
authorization server, or for a lock that the client's thread holds while its log callback waits for the interpreter.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import enum
import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NoReturn, Optional, Tuple

#: The ABI that this package is written for: the same major version, and this minor version or a later one.
ABI_MAJOR, ABI_MINOR = 0, 1

ENVIRONMENT = "PHANTOM_TOKEN_LIBRARY"


class Status(enum.IntEnum):
    """The status of a call: the numbers of `phantom_status`."""

    OK = 0
    PENDING = 1
    NOT_FOUND = 2
    DENIED = 3
    INVALID_ARGUMENT = 10
    INVALID_TOKEN = 11
    CONFIG = 12
    SYSTEM = 13
    UNREACHABLE = 20
    BAD_ANSWER = 21
    CLIENT_REFUSED = 22
    BUSY = 23
    OVERLOADED = 24
    TIMEOUT = 25
    STOPPED = 26
    FORKED = 27
    CIRCUIT_OPEN = 28
    INTERNAL = 30
    PANIC = 31


class CacheStatus(enum.Enum):
    """Where a verdict came from. `str()` of it is the word for a log: `HIT`, `MISS`, `COALESCED`, …"""

    #: It was remembered.
    HIT = 1
    #: The authorization server was asked for it.
    MISS = 2
    #: Another request had already asked; this one shared its answer.
    COALESCED = 3
    #: It was remembered in the store that is shared with others.
    SHARED = 4
    #: It was remembered and is past its time: the authorization server can't be asked, and `stale_if_error` allows it.
    STALE = 5
    #: A later version of the library has a word for it that this package does not know.
    UNKNOWN = -1

    @classmethod
    def _missing_(cls, value: object) -> CacheStatus:
        return cls.UNKNOWN

    def __str__(self) -> str:
        return self.name


class LogLevel(enum.IntEnum):
    """How grave a log line is: the numbers of `phantom_log_level`."""

    ERROR = 1
    WARN = 2
    INFO = 3


class phantom_config(ctypes.Structure):
    """Opaque."""


class phantom_client(ctypes.Structure):
    """Opaque."""


class phantom_result(ctypes.Structure):
    """Opaque."""


class phantom_stats(ctypes.Structure):
    """Opaque."""


class phantom_policy(ctypes.Structure):
    """Opaque."""


class phantom_denial(ctypes.Structure):
    """Opaque."""


class phantom_presentation(ctypes.Structure):
    """`phantom_presentation`: each text with its length, NULL and 0 if it is missing."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("authorization", ctypes.c_char_p),
        ("authorization_length", ctypes.c_size_t),
        ("method", ctypes.c_char_p),
        ("method_length", ctypes.c_size_t),
        ("url", ctypes.c_char_p),
        ("url_length", ctypes.c_size_t),
        ("dpop", ctypes.c_char_p),
        ("dpop_length", ctypes.c_size_t),
        ("dpop_count", ctypes.c_size_t),
        ("client_certificate", ctypes.c_char_p),
        ("client_certificate_length", ctypes.c_size_t),
    ]


class phantom_decision(ctypes.Structure):
    """Opaque."""


class phantom_header(ctypes.Structure):
    """A header of a request."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("name_length", ctypes.c_size_t),
        ("value", ctypes.c_char_p),
        ("value_length", ctypes.c_size_t),
    ]


class phantom_request(ctypes.Structure):
    """A request, as it came from the client: each text with its length, NULL and 0 where there is none."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("method", ctypes.c_char_p),
        ("method_length", ctypes.c_size_t),
        ("target", ctypes.c_char_p),
        ("target_length", ctypes.c_size_t),
        ("headers", ctypes.POINTER(phantom_header)),
        ("header_count", ctypes.c_size_t),
        ("scheme", ctypes.c_char_p),
        ("scheme_length", ctypes.c_size_t),
        ("url", ctypes.c_char_p),
        ("url_length", ctypes.c_size_t),
        ("client_certificate", ctypes.c_char_p),
        ("client_certificate_length", ctypes.c_size_t),
    ]


config_p = ctypes.POINTER(phantom_config)
client_p = ctypes.POINTER(phantom_client)
result_p = ctypes.POINTER(phantom_result)
stats_p = ctypes.POINTER(phantom_stats)
policy_p = ctypes.POINTER(phantom_policy)
denial_p = ctypes.POINTER(phantom_denial)
presentation_p = ctypes.POINTER(phantom_presentation)
decision_p = ctypes.POINTER(phantom_decision)
request_p = ctypes.POINTER(phantom_request)

_status = ctypes.c_int32
_size_p = ctypes.POINTER(ctypes.c_size_t)

Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, _status, result_p)
LogCallback = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_size_t
)

# A text that is part of something else comes out as an address, not as `c_char_p`: ctypes would copy that up to a NUL
# before its length is known.
_text_in = ctypes.c_char_p
_text_out = ctypes.c_void_p
_words = ctypes.c_char_p

#: Result type and argument types of every function that is used.
PROTOTYPES: Dict[str, Tuple[Any, List[Any]]] = {
    "phantom_version": (_words, []),
    "phantom_version_number": (ctypes.c_uint32, []),
    "phantom_constant": (_words, [ctypes.c_size_t, ctypes.POINTER(ctypes.c_int64)]),
    "phantom_status_string": (_words, [ctypes.c_int32]),
    "phantom_status_http": (ctypes.c_int32, [ctypes.c_int32]),
    "phantom_last_error": (_words, []),
    "phantom_last_error_retry_after": (ctypes.c_int64, []),
    "phantom_config_new": (
        _status,
        [_text_in, ctypes.c_size_t, ctypes.POINTER(config_p)],
    ),
    "phantom_config_free": (None, [config_p]),
    "phantom_config_set": (
        _status,
        [config_p, _text_in, ctypes.c_size_t, _text_in, ctypes.c_size_t],
    ),
    "phantom_config_key": (_words, [ctypes.c_size_t]),
    "phantom_config_set_log": (_status, [config_p, LogCallback, ctypes.c_void_p]),
    "phantom_client_start": (_status, [config_p, ctypes.POINTER(client_p)]),
    "phantom_client_resolve": (
        _status,
        [
            client_p,
            _text_in,
            ctypes.c_size_t,
            ctypes.c_uint64,
            ctypes.POINTER(result_p),
        ],
    ),
    "phantom_client_lookup": (
        _status,
        [client_p, _text_in, ctypes.c_size_t, ctypes.POINTER(result_p)],
    ),
    "phantom_client_purge": (_status, [client_p, _text_in, ctypes.c_size_t]),
    "phantom_client_purge_all": (_status, [client_p]),
    "phantom_client_stop": (_status, [client_p]),
    "phantom_client_free": (None, [client_p]),
    "phantom_client_submit": (
        _status,
        [
            client_p,
            _text_in,
            ctypes.c_size_t,
            Callback,
            ctypes.c_void_p,
            ctypes.POINTER(ctypes.c_uint64),
            ctypes.POINTER(result_p),
        ],
    ),
    "phantom_client_fd": (_status, [client_p, ctypes.POINTER(ctypes.c_int)]),
    "phantom_client_dispatch": (_status, [client_p, ctypes.c_size_t, _size_p]),
    "phantom_client_cancel": (_status, [client_p, ctypes.c_uint64]),
    "phantom_client_stats": (_status, [client_p, ctypes.POINTER(stats_p)]),
    "phantom_stats_free": (None, [stats_p]),
    "phantom_stats_json": (_text_out, [stats_p, _size_p]),
    "phantom_result_free": (None, [result_p]),
    "phantom_result_is_active": (ctypes.c_bool, [result_p]),
    "phantom_result_is_bound": (ctypes.c_bool, [result_p]),
    "phantom_result_authorization": (_text_out, [result_p, _size_p]),
    "phantom_result_jwt": (_text_out, [result_p, _size_p]),
    "phantom_result_claims": (_text_out, [result_p, _size_p]),
    "phantom_result_has_scope": (
        ctypes.c_bool,
        [result_p, _text_in, ctypes.c_size_t],
    ),
    "phantom_result_expires_at": (ctypes.c_int64, [result_p]),
    "phantom_result_cache_status": (ctypes.c_int32, [result_p]),
    "phantom_policy_new": (_status, [ctypes.POINTER(policy_p)]),
    "phantom_policy_free": (None, [policy_p]),
    "phantom_policy_set": (
        _status,
        [policy_p, _text_in, ctypes.c_size_t, _text_in, ctypes.c_size_t],
    ),
    "phantom_policy_key": (_words, [ctypes.c_size_t]),
    "phantom_policy_check": (
        _status,
        [policy_p, client_p, result_p, presentation_p, ctypes.POINTER(denial_p)],
    ),
    "phantom_denial_free": (None, [denial_p]),
    "phantom_denial_http_status": (ctypes.c_int32, [denial_p]),
    "phantom_denial_error": (_words, [denial_p]),
    "phantom_denial_reason": (_words, [denial_p]),
    "phantom_denial_challenge": (_text_out, [denial_p, _size_p]),
    "phantom_denial_dpop_nonce": (_words, [denial_p]),
    "phantom_decision_new": (_status, [ctypes.POINTER(decision_p)]),
    "phantom_decision_free": (None, [decision_p]),
    "phantom_policy_token": (
        _status,
        [policy_p, request_p, decision_p, ctypes.POINTER(_text_out), _size_p],
    ),
    "phantom_policy_decide": (
        _status,
        [policy_p, client_p, request_p, ctypes.c_int32, ctypes.c_int64, result_p, decision_p],
    ),
    "phantom_decision_outcome": (_words, [decision_p]),
    "phantom_decision_reason": (_words, [decision_p]),
    "phantom_decision_error": (_words, [decision_p]),
    "phantom_decision_http_status": (ctypes.c_int32, [decision_p]),
    "phantom_decision_request_header": (
        _words,
        [decision_p, ctypes.c_size_t, ctypes.POINTER(_text_out), _size_p],
    ),
    "phantom_decision_answer_header": (
        _words,
        [decision_p, ctypes.c_size_t, ctypes.POINTER(_text_out), _size_p],
    ),
    "phantom_decision_body": (_text_out, [decision_p, _size_p]),
    "phantom_decision_target": (_text_out, [decision_p, _size_p]),
}


def _fail(what: str, cause: Optional[BaseException] = None) -> NoReturn:
    raise ImportError(
        f"{what}. Build libphantom_token with `cargo build --release` or `make build` and install it with "
        f"`make install`, or set {ENVIRONMENT} to its path, or put it where the system's linker finds it (`ldconfig`, "
        "LD_LIBRARY_PATH)"
    ) from cause


def _candidates() -> Iterator[str]:
    """Where the library may be, best first."""
    soname = f"libphantom_token.so.{ABI_MAJOR}"
    names = [soname, "libphantom_token.so", "libphantom_token.dylib"]
    for name in names:
        beside = Path(__file__).parent / name
        if beside.exists():
            yield str(beside)
    yield soname
    # Last: on Linux it runs other programs to find out.
    found = ctypes.util.find_library("phantom_token")
    if found is not None:
        yield found


def _open() -> ctypes.CDLL:
    named = os.environ.get(ENVIRONMENT)
    if named:
        # If a library is named, no other one may be loaded.
        try:
            return ctypes.CDLL(named)
        except OSError as error:
            _fail(f"{ENVIRONMENT} names a library that cannot be loaded: {error}", error)
    first: Optional[OSError] = None
    for candidate in _candidates():
        try:
            return ctypes.CDLL(candidate)
        except OSError as error:
            first = first or error
    _fail(f"libphantom_token cannot be loaded: {first}", first)


def load() -> ctypes.CDLL:
    """Opens the library and declares its functions.

    Raises `ImportError`, with what to do about it, when there is none or it is of another version.
    """
    library = _open()
    path = library._name
    try:
        for name, (result, arguments) in PROTOTYPES.items():
            function = getattr(library, name)
            function.restype = result
            function.argtypes = arguments
    except AttributeError as error:
        _fail(f"{path} is no libphantom_token {ABI_MAJOR}.{ABI_MINOR} or later: {error}", error)
    number: int = library.phantom_version_number()
    major, minor = number >> 16, number >> 8 & 0xFF
    if major != ABI_MAJOR or minor < ABI_MINOR:
        version = library.phantom_version().decode()
        _fail(
            f"{path} is version {version}, and this package needs {ABI_MAJOR}.{ABI_MINOR} or a later {ABI_MAJOR}.x"
        )
    return library


library = load()


class Owned:
    """Something that the library gave us and that has to be freed once: when the last reference to this goes.

    ctypes takes it where the pointer is wanted, and holds a reference during the call. So a thread that is still in a
    call keeps it from being freed under its feet.
    """

    __slots__ = ("_as_parameter_", "_free", "_keep")

    def __init__(self, pointer: Any, free: Callable[[Any], None], keep: object = None) -> None:
        self._as_parameter_ = pointer
        self._free = free
        # Lives as long as what is owned.
        self._keep = keep

    def __del__(self) -> None:
        self._free(self._as_parameter_)

    def __reduce__(self) -> NoReturn:
        # Two copies would free it twice.
        raise TypeError("this belongs to libphantom_token and cannot be copied or pickled")


def copy_text(function: Callable[..., Optional[int]], owner: Owned) -> Optional[str]:
    """Copies out a text that is part of `owner`; `None` if there is none."""
    length = ctypes.c_size_t()
    address = function(owner, ctypes.byref(length))
    if address is None:
        return None
    return ctypes.string_at(address, length.value).decode("utf-8")


def to_bytes(text: str) -> bytes:
    """Encodes a text for the library, which refuses invalid Unicode: an exception of Python would quote the text."""
    return text.encode("utf-8", "surrogatepass")
