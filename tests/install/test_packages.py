"""Installing packages is a step of its own, and one line says what it is about to install."""

import os
import subprocess

import pytest

from page import CHECKOUT


@pytest.fixture
def packages(tmp_path):
    """Runs scripts/packages.sh as a user with `sudo`, on a system where only these packages are installed."""
    ran = tmp_path / "ran"
    tmp_path.chmod(0o777)
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in {
        "dpkg-query": 'case " $INSTALLED " in *" ${3} "*) echo "ii " ;; *) exit 1 ;; esac',
        "sudo": f'echo "$*" >>{ran}; cat >/dev/null',
        "apt-get": "exit 101",
        "id": "echo 1000",
        "grep": 'exec /usr/bin/grep "$@"',
        "cat": 'exec /usr/bin/cat "$@"',
        "env": 'exec /usr/bin/env "$@"',
        "bash": 'exec /usr/bin/bash "$@"',
    }.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def run(purpose, installed):
        done = subprocess.run(
            ["/usr/bin/bash", CHECKOUT / "scripts/packages.sh", purpose],
            env={"PATH": str(folder), "INSTALLED": installed},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout, ran.read_text().splitlines() if ran.exists() else []

    return run


def test_nothing_is_said_or_run_when_nothing_is_missing(packages):
    assert packages("build", "build-essential pkg-config") == ("", [])


def test_one_line_names_the_missing_packages(packages):
    said, ran = packages("build", "build-essential")
    assert said.count("\n") == 1
    assert said.endswith(": pkg-config\n") and "build" in said and "sudo" in said
    # With the same names, and no others.
    assert ran[-1].endswith("--no-install-recommends pkg-config")


@pytest.mark.parametrize("purpose, command", [("test", ["make", "-n", "deps"]), ("demo", ["make", "-n", "deps", "FOR=demo"])])
def test_make_deps_installs_for_a_purpose(purpose, command):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "FOR"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True)
    assert f"scripts/packages.sh {purpose}\n" in done.stdout


@pytest.mark.parametrize("goal", ["demo", "test"])
def test_the_step_comes_first(goal):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", "-n", goal], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    first, second = done.stdout.splitlines()[:2]
    assert "rust-version.sh" in first
    assert second == f"scripts/packages.sh {goal}"
