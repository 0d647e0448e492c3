"""docs/install.md as a newcomer follows it: every block is run unchanged, in a throw-away copy of the system that it is for."""

import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

import walk
from page import CHECKOUT, blocks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root folders of systems are entered by root")

MODULE = "/usr/lib/nginx/modules/ngx_http_phantom_token_module.so"
RELEASE = "1.28.3"

# How nginx.org configures its packages for Debian, without what says where they were compiled.
NGINX_ORG = (
    "--prefix=/etc/nginx --sbin-path=/usr/sbin/nginx --modules-path=/usr/lib/nginx/modules "
    "--conf-path=/etc/nginx/nginx.conf --error-log-path=/var/log/nginx/error.log "
    "--http-log-path=/var/log/nginx/access.log --pid-path=/run/nginx.pid --lock-path=/run/nginx.lock "
    "--http-client-body-temp-path=/var/cache/nginx/client_temp --http-proxy-temp-path=/var/cache/nginx/proxy_temp "
    "--http-fastcgi-temp-path=/var/cache/nginx/fastcgi_temp --http-uwsgi-temp-path=/var/cache/nginx/uwsgi_temp "
    "--http-scgi-temp-path=/var/cache/nginx/scgi_temp --user=www-data --group=www-data --with-compat --with-file-aio "
    "--with-threads --with-http_addition_module --with-http_auth_request_module --with-http_dav_module "
    "--with-http_flv_module --with-http_gunzip_module --with-http_gzip_static_module --with-http_mp4_module "
    "--with-http_random_index_module --with-http_realip_module --with-http_secure_link_module --with-http_slice_module "
    "--with-http_ssl_module --with-http_stub_status_module --with-http_sub_module --with-http_v2_module "
    "--with-http_v3_module --with-mail --with-mail_ssl_module --with-stream --with-stream_realip_module "
    "--with-stream_ssl_module --with-stream_ssl_preread_module "
    "--with-cc-opt='-g -O2 -fstack-protector-strong -Wformat -Wp,-D_FORTIFY_SOURCE=2 -fPIC' "
    "--with-ld-opt='-Wl,-z,relro -Wl,-z,now -Wl,--as-needed -pie'"
)


@pytest.fixture(scope="session")
def releases(tmp_path_factory):
    """A folder with a release of nginx as nginx.org has it for download, made of the crate that has its sources."""
    source = subprocess.run([CHECKOUT / "scripts/nginx-source.sh"], stdout=subprocess.PIPE, text=True, check=True)
    tree = Path(source.stdout.strip())
    folder = tmp_path_factory.mktemp("releases")
    name = f"nginx-{RELEASE}"
    assert f'"{RELEASE}"' in (tree / "src/core/nginx.h").read_text(), "another release: name it in the page and here"

    # nginx's own build uses the checkout's target folder too.
    objs = folder / "objs"
    objs.mkdir()
    (objs / "phantom_token").symlink_to(CHECKOUT / "target")
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz", compresslevel=1) as release:
        release.add(tree, name)
        # A release has it at the top.
        release.add(tree / "auto/configure", f"{name}/configure", filter=executable)
        release.add(objs, f"{name}/objs")
    return folder


def executable(member):
    member.mode = 0o755
    return member


# Debian's releases, and how the versions of their nginx begin.
SUITES = [("bookworm", "1.22."), ("trixie", "1.26."), ("forky", "1.30.")]

# The walks to take, all of them unless some are chosen.
CHOSEN = os.environ.get("PHANTOM_INSTALL_WALKS", "").split()


def chosen(name):
    if CHOSEN and name not in CHOSEN:
        pytest.skip("another walk is chosen: PHANTOM_INSTALL_WALKS")



def refuses(output):
    """The response to the request without a token, as curl has printed it."""
    assert "test is successful" in output
    answer = output.split(">>> Load 2")[1]
    assert re.search(r"^HTTP/1.1 401 ", answer, re.M), answer
    assert re.search(r"^WWW-Authenticate: Bearer", answer, re.M), answer


def debian(suite):
    steps = walk.Walk(suite)
    if suite == "trixie":
        steps.block("Rust")
    steps.block("Debian's nginx")
    steps.block("Which nginx is it?")
    steps.command(f"! readelf -S {MODULE} | grep debug_info")
    if suite == "bookworm":
        steps.block("The library")
        steps.block("Debug information")
    steps.block("Load", 0, offline=True)
    steps.block("Load", 2, offline=True)
    return steps


def nginx_org(releases):
    steps = walk.Walk("bookworm", "1.28")
    # In place of nginx.org's package: the release, configured as they do, instead of Debian's.
    steps.command(
        f"""bash -eu >/tmp/package.log 2>&1 <<'END' || {{ tail -n 30 /tmp/package.log; exit 1; }}
sudo apt-get purge nginx nginx-common nginx-dev 'libnginx-mod-*'
sudo rm -rf /etc/nginx /usr/share/nginx /usr/lib/nginx
mkdir /tmp/package
cd /tmp/package
tar -xzf {releases}/nginx-{RELEASE}.tar.gz
cd nginx-{RELEASE}
./configure {NGINX_ORG}
make
sudo make install
sudo mkdir -p /etc/nginx/conf.d /usr/lib/nginx/modules /var/cache/nginx
sudo ln -s /usr/lib/nginx/modules /etc/nginx/modules
sudo sed -i 's|^http {{|http {{ include /etc/nginx/conf.d/*.conf;|' /etc/nginx/nginx.conf
END
"""
    )
    steps.block("Which nginx is it?")
    steps.block("nginx.org's packages")
    # Debian's would take the place of that nginx.
    steps.command("! dpkg-query --status nginx-dev")
    steps.block("Load", 1, offline=True)
    steps.block("Load", 2, offline=True)
    return steps


def own_build(number):
    steps = walk.Walk("bookworm", "1.28")
    steps.block("Your own build", number)
    # The trial of the page is for a configuration that includes conf.d, as packages have it, and a system that starts it.
    load = ["load_module modules/ngx_http_phantom_token_module.so;", "# It is a part of nginx."][number]
    steps.command(
        f"""
mkdir -p /etc/nginx/conf.d
sed -i -e '1i {load}' -e '1i pid /run/nginx.pid;' -e 's|^http {{|http {{ include /etc/nginx/conf.d/*.conf;|' \
    /usr/local/nginx/conf/nginx.conf
ln -sf /usr/local/nginx/sbin/nginx /usr/sbin/nginx
"""
    )
    steps.block("Load", 2, offline=True)
    return steps


@pytest.mark.parametrize("suite, version", SUITES)
def test_debians_nginx_loads_the_module(suite, version, tmp_path):
    chosen(suite)
    output = debian(suite).run(tmp_path)
    assert f"nginx version: nginx/{version}" in output
    refuses(output)
    if suite == "bookworm":
        assert re.search(r"^\S*src/ffi/client\.rs:[1-9]", output, re.M), "addr2line finds no line"


def test_nginx_orgs_package_loads_the_module(releases, tmp_path):
    chosen("nginx.org")
    output = nginx_org(releases).run(tmp_path, served=releases)
    assert f"nginx version: nginx/{RELEASE}" in output
    refuses(output)


@pytest.mark.parametrize("number, name", enumerate(["add-dynamic-module", "add-module"]))
def test_nginxs_own_build_has_the_module(number, name, releases, tmp_path):
    chosen(name)
    refuses(own_build(number).run(tmp_path, served=releases))


def test_every_block_of_the_page_is_run():
    walks = [*(debian(suite) for suite, _ in SUITES), nginx_org("/"), own_build(0), own_build(1)]
    run = {block for each in walks for block in each.blocks}
    assert {(heading, number) for heading, number, _ in blocks("sh")} == run
