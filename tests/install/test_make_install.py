"""`make install`: installed files, and that it needs no Rust."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from page import CHECKOUT

LIBRARY = "libphantom_token.so.0.1.0"
MODULE = "ngx_http_phantom_token_module.so"
NOBODY = 65534


def make(*arguments, path="/usr/bin:/bin", user=None, cwd=CHECKOUT):
    # The tests may themselves be started by make.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=cwd,
        env=dict(environment, PATH=path),
        user=user,
        extra_groups=[] if user else None,
        capture_output=True,
        text=True,
        check=False,
    )


def contents(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture
def tmp_path():
    """A folder that other users may enter. pytest closes its own to them, at the start of every session."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def no_rust(tmp_path):
    """A PATH whose cargo and rustc note that somebody ran them, and fail."""
    folder = tmp_path / "no-rust"
    folder.mkdir()
    for name in ("cargo", "rustc"):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/ran\nexit 1\n")
        program.chmod(0o755)
    yield f"{folder}:/usr/bin:/bin"
    assert not (tmp_path / "ran").exists(), "make install runs Rust"


@pytest.fixture
def checkout(tmp_path):
    """A checkout of small files in place of those that are built: they are copied, whatever they are."""
    tree = tmp_path / "checkout"
    for name in ("Makefile", "Cargo.toml", "phantom_token.pc.in", "mk", "scripts", "include", "bindings/cpp", "nginx-module"):
        source = CHECKOUT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        copy(source, tree / name)
    return tree


@pytest.fixture
def built(checkout):
    """The same with a library and a module that a C compiler has made, debug information included."""
    for folder in ("target/release", "build/modules"):
        (checkout / folder).mkdir(parents=True)
    source = checkout / "probe.c"
    source.write_text("int phantom_probe(void);\n\nint phantom_probe(void) {\n  return 7;\n}\n")
    for file in ("target/release/libphantom_token.so", f"build/modules/{MODULE}"):
        subprocess.run(["cc", "-g", "-shared", "-fPIC", "-o", checkout / file, source], check=True)
    subprocess.run(["cc", "-g", "-c", "-o", checkout / "probe.o", source], check=True)
    subprocess.run(["ar", "rc", checkout / "target/release/libphantom_token.a", checkout / "probe.o"], check=True)
    (checkout / "target/release/libphantom_token.needs").write_text("-lgcc_s -lc\n")
    return checkout


def test_it_needs_neither_rust_nor_a_checkout_that_can_be_written(built, no_rust, tmp_path):
    """As another user than the one who built, who has no Rust; then `uninstall` leaves nothing."""
    target = tmp_path / "target"
    target.mkdir()
    user = None
    if os.geteuid() == 0:
        os.chown(target, NOBODY, NOBODY)
        user = NOBODY
    else:
        subprocess.run(["chmod", "-R", "a-w", built], check=True)
    before = contents(built)
    settings = [f"DESTDIR={target}", "PREFIX=/opt/phantom", "NGINX_BINARY=/nowhere/nginx"]
    done = make("install", *settings, path=no_rust, user=user, cwd=built)
    assert done.returncode == 0, done.stderr
    lib = "opt/phantom/lib"
    assert contents(target) == {
        f"{lib}/libphantom_token.so",
        f"{lib}/libphantom_token.so.0",
        f"{lib}/{LIBRARY}",
        f"{lib}/.debug/{LIBRARY}.debug",
        f"{lib}/libphantom_token.a",
        f"{lib}/pkgconfig/phantom_token.pc",
        f"{lib}/nginx/modules/{MODULE}",
        f"{lib}/nginx/modules/.debug/{MODULE}.debug",
        "opt/phantom/include/phantom_token.h",
        "opt/phantom/include/phantom_token.hpp",
    }
    assert "Libs.private: -lgcc_s -lc" in (target / f"{lib}/pkgconfig/phantom_token.pc").read_text()
    assert contents(built) == before

    done = make("uninstall", *settings, path=no_rust, user=user, cwd=built)
    assert done.returncode == 0, done.stderr
    assert contents(target) == set()
    assert not (target / lib / ".debug").exists()


@pytest.mark.parametrize(
    "goal, command", [("install", "make build"), ("install-lib", "make build"), ("install-module", "make module")]
)
def test_what_is_not_built_is_named_with_the_command_that_builds_it(goal, command, checkout, no_rust, tmp_path):
    done = make(goal, f"DESTDIR={tmp_path}/target", path=no_rust, cwd=checkout)
    assert done.returncode != 0
    assert f'run "{command}" first, without sudo' in done.stderr
    assert not (tmp_path / "target").exists()


def test_the_library_alone_is_installed_where_no_module_is_built(built, tmp_path):
    (built / f"build/modules/{MODULE}").unlink()
    done = make("install", f"DESTDIR={tmp_path}/target", cwd=built)
    assert done.returncode == 0, done.stderr
    assert not any("nginx" in name for name in contents(tmp_path / "target"))


@pytest.mark.parametrize(
    "arguments, folder",
    [
        ("--prefix=/usr/share/nginx --modules-path=/usr/lib/nginx/modules", "usr/lib/nginx/modules"),
        ("--with-cc-opt='-g -O2' --prefix=/opt/nginx", "opt/nginx/modules"),
        ("--prefix=/opt/nginx --modules-path=more", "opt/nginx/more"),
        ("--with-threads", "usr/local/nginx/modules"),
    ],
)
def test_the_module_goes_where_that_nginx_looks(arguments, folder, built, tmp_path):
    nginx = tmp_path / "nginx"
    nginx.write_text(f"#!/bin/sh\ncat >&2 <<'END'\nnginx version: nginx/1.28.3\nconfigure arguments: {arguments}\nEND\n")
    nginx.chmod(0o755)
    target = tmp_path / "target"
    done = make("install-module", f"DESTDIR={target}", f"NGINX_BINARY={nginx}", cwd=built)
    assert done.returncode == 0, done.stderr
    assert f"{folder}/{MODULE}" in contents(target)
    assert f"load_module /{folder}/{MODULE};" in done.stdout


def test_installed_objects_are_stripped_and_debuggers_find_the_rest(built, tmp_path):
    target = tmp_path / "target"
    done = make("install", f"DESTDIR={target}", "MODULESDIR=/modules", cwd=built)
    assert done.returncode == 0, done.stderr
    # Through the link, as programs open it.
    for file in (target / "usr/local/lib/libphantom_token.so", target / "modules" / MODULE):
        sections = subprocess.run(["readelf", "-SW", file], capture_output=True, text=True, check=True).stdout
        assert ".debug_info" not in sections and ".symtab" not in sections
        assert ".gnu_debuglink" in sections
        symbols = subprocess.run(["nm", "-D", file], capture_output=True, text=True, check=True).stdout
        address = re.search(r"^(\w+) T phantom_probe$", symbols, re.M)[1]
        line = subprocess.run(["addr2line", "-e", file, address], capture_output=True, text=True, check=True).stdout
        assert line.rstrip().endswith("probe.c:3")
        if shutil.which("gdb"):
            command = ["gdb", "-nx", "-batch", "-ex", "info line phantom_probe", file]
            assert 'Line 3 of "' in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_packager_gets_the_files_as_they_were_built(built, tmp_path):
    target = tmp_path / "target"
    done = make("install", f"DESTDIR={target}", "MODULESDIR=/modules", "STRIP=", cwd=built)
    assert done.returncode == 0, done.stderr
    assert (target / "modules" / MODULE).read_bytes() == (built / "build/modules" / MODULE).read_bytes()
    assert not [name for name in contents(target) if ".debug" in name]


def test_an_installation_replaces_files_that_are_in_use(built, tmp_path):
    """A program that has the old file mapped keeps it: the new one is another file."""
    target = tmp_path / "target"
    installed = target / "modules" / MODULE
    numbers = []
    for _ in range(2):
        assert make("install-module", f"DESTDIR={target}", "MODULESDIR=/modules", cwd=built).returncode == 0
        keep = installed.open("rb")
        numbers.append((installed.stat().st_ino, keep))
    assert numbers[0][0] != numbers[1][0]
    assert contents(target) == {f"modules/{MODULE}", f"modules/.debug/{MODULE}.debug"}


def test_nginxs_own_make_install_runs_no_cargo_after_make(tmp_path):
    """The rule in config.make, as nginx's configure writes it into its Makefile."""
    (tmp_path / "objs").mkdir()
    (tmp_path / "objs/ngx_auto_config.h").touch()
    archive = "objs/phantom_token/release/libmodule.a"
    cargo = tmp_path / "cargo"
    cargo.write_text(f"#!/bin/sh\necho ran >>ran\nmkdir -p {Path(archive).parent}\n: >{archive}\n")
    cargo.chmod(0o755)
    (tmp_path / "Makefile").write_text(f"install: {archive}\n")
    module = CHECKOUT / "nginx-module"
    script = (
        f"NGX_MAKEFILE=Makefile NGX_OBJS=objs NGX_AUTO_CONFIG_H=objs/ngx_auto_config.h ngx_addon_dir={module}\n"
        f"phantom_token_archive={archive} phantom_token_cargo={cargo}\n. {module}/config.make\n"
    )
    subprocess.run(["sh", "-euc", script], cwd=tmp_path, check=True)

    def times_run(*arguments):
        (tmp_path / "ran").write_text("")
        done = make(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return len((tmp_path / "ran").read_text().splitlines())

    assert times_run() == 1
    cargo.unlink()
    assert times_run("install") == 0
    cargo.write_text("#!/bin/sh\necho ran >>ran\n")
    cargo.chmod(0o755)
    sources = [f"{module}/{name}" for name in ("src/lib.rs", "../src/lib.rs", "../Cargo.lock")]
    for changed in (*sources, "objs/ngx_auto_config.h"):
        assert times_run("--what-if", changed) == 1
