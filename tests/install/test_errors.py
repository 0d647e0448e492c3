"""The table of errors in docs/install.md: each message is one that nginx, the build or `make install` really has."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from page import CHECKOUT, messages

MODULE = Path(os.environ.get("PHANTOM_TOKEN_MODULE", CHECKOUT / "build/modules/ngx_http_phantom_token_module.so")).resolve()
NGINX = shutil.which(os.environ.get("NGINX_BINARY") or "nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
LOAD = f"load_module {MODULE};\n"

# Where the messages of the build are written, and how they are spelt there.
SOURCES = ["nginx-module/build.sh", "nginx-module/src/nginx/layout.rs", "mk/install.mk", "scripts/rust-version.sh"]
SPELT = {"Phantom Token needs Rust 1.88 or newer": "Phantom Token needs Rust $minimum or newer"}
# Of cargo and of bindgen.
OTHERS = {"expected a boolean or an integer", "Unable to find libclang"}


@pytest.fixture
def nginx(tmp_path):
    """`nginx -t` on a configuration."""

    def check(main, http="", module=None):
        configuration = tmp_path / "nginx.conf"
        if module is not None:
            (tmp_path / "module.so").write_bytes(module)
        temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        configuration.write_text(
            f"{main.replace('@module@', str(tmp_path / 'module.so'))}\npid {tmp_path}/pid;\nerror_log stderr;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{http}\n}}\n"
        )
        done = subprocess.run(
            [NGINX, "-t", "-e", "stderr", "-p", tmp_path, "-c", configuration], capture_output=True, text=True, check=False
        )
        return done.stderr

    return check


@pytest.fixture(scope="session")
def code():
    if not NGINX or not MODULE.exists():
        pytest.skip("there is no nginx, or no module: make module")
    return MODULE.read_bytes()


def other_version(code):
    """The module as if it were for another version of nginx."""
    said = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr
    major, minor, patch = map(int, re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said).groups())
    number = major * 1_000_000 + minor * 1_000 + patch
    assert number.to_bytes(8, "little") in code
    return code.replace(number.to_bytes(8, "little"), (number + 1).to_bytes(8, "little"))


def other_arguments(code):
    """The module as if nginx had been configured in another way."""
    signature = re.search(rb"\d,\d,\d,[01]{20,}", code)[0]
    return code.replace(signature, signature[:-1] + (b"0" if signature.endswith(b"1") else b"1"))


def other_symbol(code):
    """The module as if it called a function that nginx does not have."""
    assert b"\0ngx_http_discard_request_body\0" in code
    return code.replace(b"\0ngx_http_discard_request_body\0", b"\0ngx_http_discard_request_bodx\0")


PROVOKED = {
    "version 1026003 instead of 1028003": lambda nginx, code: nginx("load_module @module@;", module=other_version(code)),
    "is not binary compatible": lambda nginx, code: nginx("load_module @module@;", module=other_arguments(code)),
    "undefined symbol": lambda nginx, code: nginx("load_module @module@;", module=other_symbol(code)),
    "cannot open shared object file": lambda nginx, code: nginx("load_module /nowhere.so;"),
    'module "ngx_http_phantom_token_module" is already loaded': lambda nginx, code: nginx(LOAD * 2),
    '"load_module" directive is specified too late': lambda nginx, code: nginx("", http="}\n" + LOAD + "http {"),
    'unknown directive "phantom_token': lambda nginx, code: nginx("", http="phantom_token_zone a:1m;"),
}


@pytest.mark.parametrize("message", PROVOKED)
def test_nginx_says_what_the_page_explains(message, nginx, code):
    assert message in messages()
    said = PROVOKED[message](nginx, code)
    # Numbers are examples.
    assert re.search(re.sub(r"\d+", r"\\d+", re.escape(message).replace("\\ ", " ")), said), said


def test_the_build_says_what_the_page_explains():
    text = "".join((CHECKOUT / name).read_text() for name in SOURCES)
    # A message may be broken over arguments and lines.
    text = re.sub(r'" \\\n\s*"', " ", text)
    own = set(messages()) - PROVOKED.keys() - OTHERS
    assert not {message for message in own if SPELT.get(message, message) not in text}


def test_the_page_explains_every_message_of_the_build():
    script = re.sub(r'" \\\n\s*"', " ", (CHECKOUT / "nginx-module/build.sh").read_text())
    failures = [said for said in re.findall(r'\bfail (?:\\\n\s*)?"((?:[^"\\]|\\.)*)"', script) if not said.startswith("usage")]
    assert len(failures) > 5
    # The compiler's own words come before this one.
    failures = [said for said in failures if "can't be compiled" not in said]
    assert not [said for said in failures if not any(message in said for message in messages())]
