# Targets for building, testing and measuring. `make` alone lists them.

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo
PYTHON  ?= python3
NGINX_BINARY ?= nginx

# Not NGINX: nginx itself uses that variable for the sockets that it inherits in a binary upgrade.
export NGINX_BINARY

# Debian's nginx is in a folder that is not in the PATH of most users.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin

MODULE   := build/modules/ngx_http_phantom_token_module.so
VENV     := .venv
VENV_BIN := $(VENV)/bin

# All crates that need no nginx, always together: cargo enables the features of a dependency that the named crates need, and would
# compile it again, with everything that depends on it, for another set of crates.
WORKSPACE := --workspace --exclude ngx_http_phantom_token_module

# Which entries of the matrix are run: see scripts/nginx-matrix.sh. Unset: all.
MATRIX ?=

.DEFAULT_GOAL := help
.PHONY: help deps build module demo test docs-status fmt lint deny clean \
        fuzz bench bench-gateway bench-policy bench-zone bench-core bench-instructions \
        test-core test-server test-layout test-python test-jose test-nginx packages-%

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

include mk/rust.mk
include mk/install.mk
include mk/module.mk

# Installing Debian packages is this step, which the other targets call for what they need: packages-build for `make build`,
# packages-demo for `make demo`. It prints one line with what it is about to install, and nothing if nothing is missing.
FOR ?= test
deps: packages-$(FOR) ## Installs missing Debian packages for all of `make test`, or FOR=build, module, demo, bench, matrix

# Rust comes first: it is not a package, and the user should know that it is missing before anything is installed.
packages-%: rust-version
	@scripts/packages.sh $*

library: packages-build

build: library ## Builds the library (target/release/libphantom_token.so and .a)

demo: packages-demo module target/release/authorization_server ## Runs nginx, an authorization server and an API, and shows each step; KEEP=1 stays up
	@MODULE=$(abspath $(MODULE)) AUTHORIZATION_SERVER=$(abspath target/release/authorization_server) \
	    KEEP=$(KEEP) examples/demo/demo.sh

# Cargo knows best whether it is up to date.
.PHONY: target/release/authorization_server
target/release/authorization_server: rust-version
	$(CARGO) build --release -p authorization_server

test: packages-test ## Runs every test
	@MAKE="$(MAKE)" scripts/parts.sh lint test-layout test-rust test-c test-c-asan test-python test-jose test-nginx
	@echo "All tests passed."

lint: packages-module nginx-headers ## Format, clippy, the crate's features, its documentation, and the C header against the code
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy $(WORKSPACE) --all-targets -- -D warnings
	for features in "" gateway; do \
	    $(CARGO) clippy --no-default-features --features "$$features" -- -D warnings || exit 1; \
	done
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --all-features
	$(WITH_NGINX) nginx-module/lint.sh
	git diff --exit-code -- include/phantom_token.h || \
	    { echo "include/phantom_token.h does not match src/ffi: commit what the build wrote" >&2; exit 1; }

deny: packages-build ## Licences, sources and known vulnerabilities of dependencies (deny.toml; installs cargo-deny)
	@CARGO='$(CARGO)' scripts/deny.sh

test-rust: packages-build ## The core crate, the example authorization server, JWTs verified by jwt-simple
	$(CARGO) test $(WORKSPACE)

test-core: packages-build ## The core crate: unit tests, the Rust API, the C ABI's own
	$(CARGO) test

test-server: packages-build ## The example authorization server
	$(CARGO) test -p authorization_server

test-layout: packages-module nginx-headers ## That the build fails where Rust and C differ about nginx's structures
	$(WITH_NGINX) nginx-module/tests/layout.sh

$(VENV)/installed: tests/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV_BIN)/python -m pip install --quiet --requirement tests/requirements.txt
	touch $@

test-python: packages-test $(VENV)/installed build target/release/authorization_server ## The Python package and the C++ wrapper
	PHANTOM_TOKEN_LIBRARY=$(abspath target/release/libphantom_token.so) \
	PHANTOM_TOKEN_AS=$(abspath target/release/authorization_server) \
	PYTHONPATH=bindings/python $(VENV_BIN)/python -m pytest bindings/python/tests
	PHANTOM_TOKEN_LIBRARY=$(abspath target/release/libphantom_token.so) \
	PHANTOM_TOKEN_AS=$(abspath target/release/authorization_server) \
	bindings/cpp/test.sh

# The servers and libraries of npm that the tests use.
NODE_MODULES := $(foreach folder,jose oidc_provider,tests/$(folder)/node_modules/.package-lock.json)
$(NODE_MODULES): %/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --silent --no-audit --no-fund

# The programs of the tests, as `test-rust` has them.
.PHONY: test-programs
test-programs: rust-version
	$(CARGO) build $(WORKSPACE) --bins --examples --tests

test-jose: packages-test $(VENV)/installed $(NODE_MODULES) test-programs ## JWTs that we sign, verified by libraries of three languages
	cd tests/jose && MINTED=$(abspath target/debug/jose_interop) node --test
	MINTED=$(abspath target/debug/jose_interop) $(VENV_BIN)/python -m pytest tests/jose

test-nginx: packages-test $(VENV)/installed $(NODE_MODULES) build module target/release/authorization_server test-programs ## nginx from end to end
	PHANTOM_TOKEN_MODULE=$(abspath $(MODULE)) \
	PHANTOM_TOKEN_AS=$(abspath target/release/authorization_server) \
	PHANTOM_LOG_LEVEL=debug \
	$(VENV_BIN)/python -m pytest \
	    tests/nginx tests/oidc_provider tests/oauth_toolkit tests/token_exchange tests/minted

# Not a part of `make test`: it needs root, and fetches whole systems.
test-nginx-matrix: packages-matrix matrix-possible $(VENV)/installed $(NODE_MODULES) build target/release/authorization_server test-programs ## test-nginx with the nginx of other releases
	@PHANTOM_TOKEN_AS=$(abspath target/release/authorization_server) \
	PYTEST="$(abspath $(VENV_BIN)/python) -m pytest" scripts/nginx-matrix.sh test $(MATRIX)

# As the matrix: the sanitizer watches the oldest nginx and the newest.
test-nginx-asan: packages-matrix matrix-possible $(VENV)/installed build target/release/authorization_server ## nginx with the module under AddressSanitizer
	@scripts/debian-root.sh make forky >/dev/null
	@for nginx in here forky; do \
	    PHANTOM_TOKEN_AS=$(abspath target/release/authorization_server) \
	    PYTEST="$(abspath $(VENV_BIN)/python) -m pytest" scripts/nginx-asan.sh $$nginx || exit 1; \
	done

.PHONY: matrix-possible test-nginx-asan
matrix-possible:
	@scripts/debian-root.sh possible

docs-status: packages-test $(VENV)/installed module target/release/authorization_server ## Updates the pictures and the metrics of docs/operations.md
	PHANTOM_KEEP=1 PHANTOM_TOKEN_MODULE=$(abspath $(MODULE)) \
	PHANTOM_TOKEN_AS=$(abspath target/release/authorization_server) \
	$(VENV_BIN)/python -m pytest -n 0 tests/nginx/test_status.py -k "real_browser or documented"

fuzz: packages-build ## Fuzzes every parser for FUZZ_SECONDS (600) each; needs a nightly compiler
	@scripts/fuzz.sh $(FUZZ_TARGETS)

bench: bench-gateway bench-policy bench-zone bench-core ## All benchmarks but bench-instructions

bench-gateway: packages-bench module ## Cost of a hit and a miss, against plain nginx and auth_request
	MODULE=$(abspath $(MODULE)) $(PYTHON) benches/gateway.py

bench-policy: packages-bench module $(VENV)/installed ## Cost of scopes, claims, variables and DPoP proofs on a hit
	MODULE=$(abspath $(MODULE)) $(VENV_BIN)/python benches/policy.py

bench-zone: packages-bench module ## Cost of the zone, with up to a million tokens
	MODULE=$(abspath $(MODULE)) $(PYTHON) benches/zone.py --chart docs/cost.svg

bench-core: packages-build ## Cost of a lookup, a policy and a DPoP proof in the library, and memory of a token in a zone
	$(CARGO) bench --bench zone_memory
	$(CARGO) bench --bench lookup
	$(CARGO) bench --bench policy
	$(CARGO) bench --bench dpop

bench-instructions: packages-bench module ## Instructions of a hit (needs valgrind)
	MODULE=$(abspath $(MODULE)) $(PYTHON) benches/instructions.py

fmt: rust-version ## Formats the Rust code
	$(CARGO) fmt --all

clean: rust-version ## Removes all build results
	$(CARGO) clean
	rm -rf build $(VENV) tests/oidc_provider/node_modules tests/jose/node_modules
