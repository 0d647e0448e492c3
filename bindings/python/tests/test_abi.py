# SPDX-License-Identifier: Apache-2.0
"""The package's declarations of the C ABI, compared with the header and the library."""

from __future__ import annotations

import ctypes
import re
import sys
from typing import Dict, List, Tuple

import phantom_token
import pytest
from conftest import ROOT
from phantom_token import _abi, _errors

HEADER = (ROOT / "include" / "phantom_token.h").read_text()

#: What a type of the header may be for ctypes.
TYPES: Dict[str, List[object]] = {
    "void": [None],
    "bool": [ctypes.c_bool],
    "int32_t": [ctypes.c_int32],
    "uint32_t": [ctypes.c_uint32],
    "int64_t": [ctypes.c_int64],
    "uint64_t": [ctypes.c_uint64],
    "size_t": [ctypes.c_size_t],
    "phantom_status": [ctypes.c_int32],
    "phantom_cache_status": [ctypes.c_int32],
    "phantom_callback": [_abi.Callback],
    "phantom_log_callback": [_abi.LogCallback],
    "void *": [ctypes.c_void_p],
    "const char *": [ctypes.c_char_p, ctypes.c_void_p],
    "int *": [ctypes.POINTER(ctypes.c_int)],
    "int64_t *": [ctypes.POINTER(ctypes.c_int64)],
    "uint64_t *": [ctypes.POINTER(ctypes.c_uint64)],
    "size_t *": [ctypes.POINTER(ctypes.c_size_t)],
    "const char **": [ctypes.POINTER(ctypes.c_void_p)],
    **{f"phantom_{it} *": [pointer] for it, pointer in (
        ("config", _abi.config_p), ("client", _abi.client_p), ("result", _abi.result_p), ("stats", _abi.stats_p),
        ("policy", _abi.policy_p), ("denial", _abi.denial_p), ("presentation", _abi.presentation_p), ("decision", _abi.decision_p), ("request", _abi.request_p),
    )},
    **{f"phantom_{it} **": [ctypes.POINTER(pointer)] for it, pointer in (
        ("config", _abi.config_p), ("client", _abi.client_p), ("result", _abi.result_p), ("stats", _abi.stats_p),
        ("policy", _abi.policy_p), ("denial", _abi.denial_p), ("presentation", _abi.presentation_p), ("decision", _abi.decision_p), ("request", _abi.request_p),
    )},
}


def declared() -> Dict[str, Tuple[str, List[str]]]:
    """The functions of the header: their result and argument types."""
    text = re.sub(r"//[^\n]*", "", HEADER).replace("PHANTOM_MUST_USE", "")
    functions = {}
    for result, name, arguments in re.findall(r"^\s*([\w ]+?[ *]+)(phantom_\w+)\(([^)]*)\);", text, re.MULTILINE):
        types = [] if arguments.strip() == "void" else [kind(argument) for argument in arguments.split(",")]
        functions[name] = (kind(result + "it"), types)
    return functions


def kind(declaration: str) -> str:
    """The type in a declaration `const phantom_client *client`."""
    match = re.fullmatch(r"\s*(const )?([\w ]+?)\s*(\**)\s*\w+\s*", declaration.replace("* ", "*"))
    assert match, declaration
    name = match[2].strip() + (f" {match[3]}" if match[3] else "")
    return f"const {name}" if name.startswith("char *") else name


def constants() -> Dict[str, int]:
    """All that the library says of its constants."""
    value = ctypes.c_int64()
    found: Dict[str, int] = {}
    for index in range(1000):
        name = _abi.library.phantom_constant(index, ctypes.byref(value))
        if name is None:
            return found
        found[name.decode()] = value.value
    raise AssertionError("there is no end to the constants")


@pytest.mark.parametrize("name", _abi.PROTOTYPES)
def test_a_function_is_declared_as_the_header_declares_it(name: str) -> None:
    functions = declared()
    assert name in functions
    header_result, header_arguments = functions[name]
    result, arguments = _abi.PROTOTYPES[name]
    assert result in TYPES[header_result]
    assert len(arguments) == len(header_arguments)
    for argument, header_argument in zip(arguments, header_arguments):
        assert argument in TYPES[header_argument]
    # And the library has it.
    assert getattr(_abi.library, name).argtypes == arguments


def test_the_header_was_read() -> None:
    assert len(declared()) >= 30
    assert declared()["phantom_client_cancel"] == ("phantom_status", ["phantom_client *", "uint64_t"])


@pytest.mark.parametrize("name", ["phantom_presentation", "phantom_header", "phantom_request"])
def test_a_struct_has_the_fields_of_the_header(name: str) -> None:
    match = re.search(rf"typedef struct \{{([^}}]*)\}} {name};", HEADER)
    assert match
    text = re.sub(r"//[^\n]*", "", match[1])
    theirs = re.findall(r"(\w+) (\*?)(\w+);", text)
    headers = ctypes.POINTER(_abi.phantom_header)
    kinds = {"size_t ": ctypes.c_size_t, "char *": ctypes.c_char_p, "uint8_t *": ctypes.c_char_p, "phantom_header *": headers}
    assert [(field, kinds[f"{kind} {pointer}"]) for kind, pointer, field in theirs] == getattr(_abi, name)._fields_


def test_statuses_are_those_of_the_library() -> None:
    kinds = ("CACHE", "STAT", "LOG", "VERSION", "STORE", "CLAIM")
    others = tuple(f"PHANTOM_{kind}_" for kind in kinds)
    theirs = {name: value for name, value in constants().items() if not name.startswith(others)}
    assert theirs == {f"PHANTOM_{status.name}": status.value for status in _abi.Status}


def test_cache_statuses_are_those_of_the_library() -> None:
    theirs = {name: value for name, value in constants().items() if name.startswith("PHANTOM_CACHE_")}
    ours = {f"PHANTOM_CACHE_{it.name}": it.value for it in phantom_token.CacheStatus if it.value > 0}
    assert theirs == {"PHANTOM_CACHE_NONE": 0, **ours}
    assert phantom_token.CacheStatus(99) is phantom_token.CacheStatus.UNKNOWN


def test_log_levels_are_those_of_the_library() -> None:
    theirs = {name: value for name, value in constants().items() if name.startswith("PHANTOM_LOG_")}
    assert theirs == {f"PHANTOM_LOG_{level.name}": level.value for level in _abi.LogLevel}


def test_everything_that_the_library_counts_is_in_the_statistics() -> None:
    theirs = {name[len("PHANTOM_STAT_") :].lower() for name in constants() if name.startswith("PHANTOM_STAT_")}
    assert theirs | {"latency"} == set(phantom_token.Stats.__dataclass_fields__)


def test_every_status_that_is_an_error_has_an_exception_of_its_own() -> None:
    no_error = {_abi.Status.OK, _abi.Status.PENDING, _abi.Status.NOT_FOUND}
    classes = [type(_errors.error(status, "")) for status in _abi.Status if status not in no_error]
    assert len(set(classes)) == len(classes)
    for status in set(_abi.Status) - no_error:
        error = _errors.error(status, "words", 3)
        assert (error.status, str(error), error.retry_after) == (status, "words", 3)
        assert error.http_status == _abi.library.phantom_status_http(status) >= 400
        assert getattr(phantom_token, type(error).__name__) is type(error)


def test_a_status_of_a_later_library_is_an_error_and_fails_closed() -> None:
    error = _errors.error(99, "new")
    assert type(error) is phantom_token.UnavailableError
    assert (error.status, error.http_status) == (99, 500)


def test_the_version_is_the_librarys_own() -> None:
    found = constants()
    version = [found[f"PHANTOM_VERSION_{part}"] for part in ("MAJOR", "MINOR", "PATCH")]
    assert phantom_token.library_version() == ".".join(map(str, version))
    assert version[0] == _abi.ABI_MAJOR and version[1] >= _abi.ABI_MINOR


@pytest.mark.parametrize("number", [_abi.ABI_MAJOR + 1 << 16, _abi.ABI_MAJOR << 16 | _abi.ABI_MINOR - 1 << 8])
def test_a_library_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    class Library:
        _name = "/somewhere/libphantom_token.so"

        def __getattr__(self, name: str) -> object:
            answers = {"phantom_version_number": number, "phantom_version": b"9.8.7"}
            function = lambda: answers[name]  # noqa: E731
            setattr(self, name, function)
            return function

    monkeypatch.setattr(_abi, "_open", Library)
    with pytest.raises(ImportError, match="/somewhere/libphantom_token.so is version 9.8.7, and this package needs"):
        _abi.load()


def test_the_types_are_sound() -> None:
    api = pytest.importorskip("mypy.api")
    root = str(ROOT / "bindings" / "python")
    options = ["--config-file", f"{root}/pyproject.toml", "--no-incremental", f"--python-executable={sys.executable}"]
    out, err, code = api.run([*options, f"{root}/phantom_token", f"{root}/examples"])
    assert code == 0, out + err


def test_a_misspelt_setting_fails_type_checking(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    root = str(ROOT / "bindings" / "python")
    program = tmp_path / "program.py"
    program.write_text(
        "import phantom_token\n"
        "phantom_token.Client(introspection_endpoint='https://as/', client_id='g', timeout=2.5, retries=1)\n"
        "phantom_token.Client(introspection_endpoint='https://as/', time_out=2.5)\n"
        "phantom_token.AsyncClient(introspection_endpoint='https://as/', dialect='jtw')\n"
        "phantom_token.Client(introspection_endpoint='https://as/', ssl_verify=2.5)\n"
    )
    options = ["--config-file", f"{root}/pyproject.toml", "--no-incremental", f"--python-executable={sys.executable}"]
    out, _, _ = api.run([*options, f"{root}/phantom_token", str(program)])
    wrong = [line for line in out.splitlines() if "program.py" in line and "error" in line]
    lines = {int(line.split("program.py:")[1].split(":")[0]) for line in wrong}
    assert lines == {3, 4, 5}, out
    assert "time_out" in out
