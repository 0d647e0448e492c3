#!/bin/sh
# Runs the end-to-end suites: nginx with the module, and oidc-provider as a certified authorization server.
#
#   tests/run-nginx.sh                      everything
#   tests/run-nginx.sh -k suspended -n 0    arguments go to pytest
#
# Builds what is missing: the virtual environment .venv from tests/requirements.txt, and oidc-provider by npm. The
# module and the example authorization server are built by `make module` and `cargo build -p authorization_server`.
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
venv=${VENV:-.venv}
if [ ! -x "$venv/bin/python" ]; then
    "$python" -m venv "$venv"
fi
# Installs only when the requirements are newer than the last time.
if [ ! -e "$venv/.phantom-requirements" ] || [ tests/requirements.txt -nt "$venv/.phantom-requirements" ]; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
    touch "$venv/.phantom-requirements"
fi
if [ ! -e tests/oidc_provider/node_modules/.package-lock.json ] ||
    [ tests/oidc_provider/package-lock.json -nt tests/oidc_provider/node_modules/.package-lock.json ]; then
    (cd tests/oidc_provider && npm ci --no-audit --no-fund --loglevel=error)
fi

# Mostly waiting: twice as many processes as processors.
jobs=${PYTEST_JOBS:-$(($(nproc 2>/dev/null || echo 2) * 2))}
exec "$venv/bin/python" -m pytest -c tests/pytest.ini --rootdir tests -q -n "$jobs" "$@"
