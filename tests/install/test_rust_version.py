"""The check of Rust's version: an old or missing Rust is reported before cargo fails to read a manifest."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from page import CHECKOUT, PAGE

MINIMUM = re.search(r'^rust-version = "([0-9.]+)"$', (CHECKOUT / "Cargo.toml").read_text(), re.M)[1]
GOALS = ["build", "library", "test-programs", "module", "module-configure", "demo", "test", "lint", "fmt", "clean", "test-core", "bench-core"]


@pytest.fixture
def rust(tmp_path):
    """Makes a PATH with a cargo and a rustc of these versions, or without them; `ran` has what else they were asked."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def create(cargo, rustc):
        for name, version in (("cargo", cargo), ("rustc", rustc)):
            if version:
                program = folder / name
                program.write_text(
                    f'#!/bin/sh\n[ "$1" = --version ] && echo "{name} {version}" && exit\n'
                    f'echo "{name} $*" >>{tmp_path}/ran\nexit 101\n'
                )
                program.chmod(0o755)
        return f"{folder}:/usr/bin:/bin"

    yield create
    assert not (tmp_path / "ran").exists(), "what is too old is run all the same"


def run(command, path, cwd=CHECKOUT, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "CARGO", "RUST", "SUDO"))}
    return subprocess.run(
        command, cwd=cwd, env=dict(environment, PATH=path, **variables), capture_output=True, text=True, check=False
    )


def says(output, fault):
    """One line says what is needed, what is there, and what to do."""
    lines = [line for line in output.splitlines() if f"Phantom Token needs Rust {MINIMUM} or newer, {fault}: install it" in line]
    assert len(lines) == 1, output
    assert "rustup" in lines[0]


@pytest.mark.parametrize("goal", GOALS)
def test_make_names_a_rust_that_is_too_old(goal, rust):
    done = run(["make", goal], rust("1.65.0", "1.63.0"))
    assert done.returncode != 0
    says(done.stderr, 'but "cargo" is 1.65.0')


@pytest.mark.parametrize(
    "cargo, rustc, fault",
    [
        ("1.87.0 (99624be96 2025-05-06)", "1.95.0", 'but "cargo" is 1.87.0'),
        ("1.95.0", "1.87.1", 'but "rustc" is 1.87.1'),
        ("0.66.0", "1.95.0", 'but "cargo" is 0.66.0'),
        ("1.9.0", "1.9.0", 'but "cargo" is 1.9.0'),
        ("of the day", "1.95.0", 'and "cargo --version" does not say which it is'),
    ],
)
def test_both_cargo_and_rustc_count(cargo, rustc, fault, rust):
    done = run(["make", "rust-version"], rust(cargo, rustc))
    assert done.returncode != 0
    says(done.stderr, fault)


@pytest.mark.parametrize("version", [f"{MINIMUM}.0", f"{MINIMUM}.0-beta.3 (873a06493 2025-05-10)", "1.100.0", "2.0.0"])
def test_a_rust_that_is_new_enough_passes_in_silence(version, rust):
    done = run(["make", "--no-print-directory", "rust-version"], rust(version, version))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(Path("/usr/bin/cargo").exists(), reason="Rust is a package of this system")
def test_a_rust_that_is_missing_is_named(rust):
    done = run(["make", "build"], rust(None, None))
    says(done.stderr, 'and "cargo" is not there')
    assert "without sudo" not in done.stderr
    done = run(["make", "build"], rust(None, None), SUDO_USER="somebody")
    assert "Build without sudo" in done.stderr


def test_cargo_and_rustc_that_are_named_are_the_ones_that_count(rust, tmp_path):
    path = rust("1.65.0", "1.63.0")
    for name in ("cargo", "rustc"):
        program = tmp_path / f"my-{name}"
        program.write_text(f"#!/bin/sh\necho {name} 1.95.0\n")
        program.chmod(0o755)
    cargo, rustc = tmp_path / "my-cargo", tmp_path / "my-rustc"
    says(run(["make", "rust-version", f"CARGO={cargo}"], path).stderr, 'but "rustc" is 1.63.0')
    assert run(["make", "rust-version", f"CARGO={cargo}", f"RUSTC={rustc}"], path).returncode == 0
    assert run(["make", "rust-version"], path, CARGO=str(cargo), RUSTC=str(rustc)).returncode == 0


def test_nginxs_own_configure_names_a_rust_that_is_too_old(rust, tmp_path):
    """`config` of the module, as nginx's configure reads it."""
    script = f"ngx_addon_dir={CHECKOUT}/nginx-module; NGX_OBJS=objs; . {CHECKOUT}/nginx-module/config"
    done = run(["sh", "-c", script, "configure"], rust("1.65.0", "1.63.0"), cwd=tmp_path)
    assert done.returncode == 1
    says(done.stdout, 'but "cargo" is 1.65.0')
    assert "configure: error: " in done.stdout


@pytest.mark.parametrize("file", [PAGE, CHECKOUT / "README.md"], ids=lambda file: file.name)
def test_the_minimum_stands_where_people_look(file):
    assert f"Rust {MINIMUM}" in file.read_text()


@pytest.mark.parametrize("package", ["phantom-token", "ngx_http_phantom_token_module"])
def test_no_crate_that_is_shipped_asks_for_a_newer_rust(package):
    """Crates of tests may: they are compiled on the project's own machines."""
    host = re.search(r"^host: (.*)$", subprocess.check_output(["rustc", "-vV"], text=True), re.M)[1]
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    metadata = json.loads(subprocess.check_output(command, cwd=CHECKOUT))
    crates = {crate["id"]: crate for crate in metadata["packages"]}
    needs = {node["id"]: node["deps"] for node in metadata["resolve"]["nodes"]}
    wanted = [identity for identity, crate in crates.items() if crate["name"] == package]
    shipped = set()
    while wanted:
        identity = wanted.pop()
        if identity not in shipped:
            shipped.add(identity)
            wanted += [need["pkg"] for need in needs[identity] if any(kind["kind"] != "dev" for kind in need["dep_kinds"])]

    def number(version):
        return [int(part) for part in version.split(".")][:2]

    asked = {crates[identity]["name"]: crates[identity]["rust_version"] or "1.0" for identity in shipped}
    assert len(asked) > 50
    assert not {name: version for name, version in asked.items() if number(version) > number(MINIMUM)}
    # Nor is the minimum higher than it has to be.
    others = [version for name, version in asked.items() if name not in ("phantom-token", package)]
    assert max(map(number, others)) == number(MINIMUM)
