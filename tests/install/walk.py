"""Runs the blocks of docs/install.md in throw-away copies of systems."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from page import CHECKOUT, blocks

HERE = Path(__file__).resolve().parent


def codename():
    """The Debian release of this system, if it is one."""
    release = Path("/etc/os-release")
    found = re.search(r"^VERSION_CODENAME=(\w+)", release.read_text(), re.M) if release.exists() else None
    return found[1] if found else None


def system(suite):
    """The root folder of a Debian release: this system's own, if it is that."""
    if suite == codename():
        return "/"
    made = subprocess.run(
        [CHECKOUT / "scripts/debian-root.sh", "make", suite], stdout=subprocess.PIPE, text=True, check=True
    )
    return made.stdout.strip()


def rust():
    """The folder of cargo, unless Debian's packages of Rust are to be tried (PHANTOM_INSTALL_RUST=packages)."""
    if os.environ.get("PHANTOM_INSTALL_RUST") == "packages":
        return ""
    return str(Path(shutil.which(os.environ.get("CARGO") or "cargo")).parent)


def target(entry):
    """The target folder of an entry of the matrix, if `make test-nginx-matrix` has run before: it saves time."""
    folder = CHECKOUT / "build/matrix" / entry / "target"
    return str(folder) if folder.is_dir() and rust() else ""


class Walk:
    """A walk: blocks of the page, and commands of the test between them. It stops at the first that fails."""

    def __init__(self, suite, entry=None):
        self.suite, self.entry = suite, entry or suite
        self.blocks = []
        self.online, self.offline = [], []

    def command(self, script, offline=False):
        """A command that the page does not have."""
        (self.offline if offline else self.online).append(script)

    def block(self, heading, number=0, offline=False):
        """A block of the page, in a shell of its own that begins in the checkout."""
        code = {(h, n): c for h, n, c in blocks("sh")}[heading, number]
        self.blocks.append((heading, number))
        self.command(f"echo {shlex.quote(f'>>> {heading} {number}')}\n(\nset -x\n{code})\n", offline)

    def run(self, folder, served=None):
        """Runs it all, and returns what it printed. `served` has the releases that nginx.org would serve."""
        scripts = []
        for name, parts in (("online.sh", self.online), ("offline.sh", self.offline)):
            script = folder / name
            script.write_text("\n".join(parts))
            scripts.append(str(script))
        environment = dict(os.environ, RUST_BIN=rust(), TARGET=target(self.entry), SERVED=str(served or ""))
        done = subprocess.run(
            [HERE / "enter.sh", system(self.suite), CHECKOUT, *scripts],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            check=False,
        )
        (folder / "output").write_text(done.stdout)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout
