# Installation of the library and the nginx module, and its tests.
#
#   make build && sudo make install PREFIX=/usr/local DESTDIR=
#   sudo make uninstall PREFIX=/usr/local DESTDIR=
#
# Installing builds nothing and runs neither cargo nor rustc: it copies the results of `make build` and `make module`.
# PROFILE=dev builds and installs as `cargo build` does instead of `cargo build --release`; CARGO_BUILD_TARGET
# cross-compiles. STRIP= installs the files as they were built, with their debug information in them.

PREFIX       ?= /usr/local
LIBDIR       ?= $(PREFIX)/lib
INCLUDEDIR   ?= $(PREFIX)/include
PKGCONFIGDIR ?= $(LIBDIR)/pkgconfig
# Where the nginx on this machine keeps its modules. Asked once, and only if it is wanted.
MODULESDIR   ?= $(eval MODULESDIR := $$(shell scripts/nginx-modules-path.sh '$$(NGINX_BINARY)' '$$(PREFIX)/lib/nginx/modules'))$(MODULESDIR)
DESTDIR      ?=
PROFILE      ?= release
CARGO        ?= cargo
RUSTC        ?= rustc
NGINX_BINARY ?= nginx
INSTALL      ?= install
OBJCOPY      ?= objcopy
STRIP        ?= strip

LIBRARY_VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
LIBRARY_MAJOR   := $(firstword $(subst ., ,$(LIBRARY_VERSION)))
LIBRARY_BUILT   := $(or $(CARGO_TARGET_DIR),target)/$(addsuffix /,$(CARGO_BUILD_TARGET))$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
LIBRARY_FILES   := $(addprefix $(LIBRARY_BUILT)/libphantom_token.,so a needs)

# nginx takes the path from load_module, so that it has no version.
MODULE_NAME := ngx_http_phantom_token_module.so
MODULE_FILE := build/modules/$(MODULE_NAME)

INSTALL_SHARED = INSTALL='$(INSTALL)' OBJCOPY='$(OBJCOPY)' STRIP='$(STRIP)' scripts/install-shared.sh

.PHONY: library install install-lib install-module uninstall test-c test-c-asan test-install

# The libraries that a program needs in addition to the static library are written beside it, for the pkg-config file. They all come
# from Rust's standard library, so an empty crate needs the same ones. Tests link a program statically with them.
library:
	$(CARGO) build --lib --profile $(PROFILE)
	@empty=$$(mktemp -d) && trap 'rm -r "$$empty"' EXIT && : > "$$empty/empty.rs" && \
	    $(RUSTC) --crate-type staticlib $(addprefix --target ,$(CARGO_BUILD_TARGET)) --print native-static-libs \
	        --out-dir "$$empty" "$$empty/empty.rs" 2>&1 | \
	    sed -n 's/^note: native-static-libs: //p' > $(LIBRARY_BUILT)/libphantom_token.needs && \
    test -s $(LIBRARY_BUILT)/libphantom_token.needs

install: install-lib $(if $(wildcard $(MODULE_FILE)),install-module) ## Installs what is built: the library under $(DESTDIR)$(PREFIX), and the module

install-lib: ## Installs the library alone
	@for file in $(LIBRARY_FILES); do [ -e "$$file" ] || { \
	    echo "The library is not built ($$file is not there): run \"make build\" first, without sudo." >&2; \
	    echo "\"make install-module\" installs the nginx module alone." >&2; exit 1; }; done
	$(INSTALL) -d $(DESTDIR)$(LIBDIR) $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(PKGCONFIGDIR)
	$(INSTALL_SHARED) $(LIBRARY_BUILT)/libphantom_token.so $(DESTDIR)$(LIBDIR)/libphantom_token.so.$(LIBRARY_VERSION)
	ln -sf libphantom_token.so.$(LIBRARY_VERSION) $(DESTDIR)$(LIBDIR)/libphantom_token.so.$(LIBRARY_MAJOR)
	ln -sf libphantom_token.so.$(LIBRARY_MAJOR) $(DESTDIR)$(LIBDIR)/libphantom_token.so
	$(INSTALL) -m 644 $(LIBRARY_BUILT)/libphantom_token.a $(DESTDIR)$(LIBDIR)/
	$(if $(STRIP),$(STRIP) --strip-debug $(DESTDIR)$(LIBDIR)/libphantom_token.a)
	$(INSTALL) -m 644 include/phantom_token.h bindings/cpp/phantom_token.hpp $(DESTDIR)$(INCLUDEDIR)/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(LIBRARY_VERSION)|' \
	    -e 's|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|' \
	    -e 's|@INCLUDEDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))|' \
	    -e "s|@LIBS_PRIVATE@|$$(cat $(LIBRARY_BUILT)/libphantom_token.needs)|" \
	    phantom_token.pc.in > $(DESTDIR)$(PKGCONFIGDIR)/phantom_token.pc
	chmod 644 $(DESTDIR)$(PKGCONFIGDIR)/phantom_token.pc
	@[ -n "$(DESTDIR)" ] || echo "Installed. The dynamic linker finds it after: ldconfig"

install-module: ## Installs the nginx module alone, where nginx keeps its modules (MODULESDIR)
	@[ -e $(MODULE_FILE) ] || { \
	    echo "The module is not built ($(MODULE_FILE) is not there): run \"make module\" first, without sudo." >&2; exit 1; }
	$(INSTALL_SHARED) $(MODULE_FILE) $(DESTDIR)$(MODULESDIR)/$(MODULE_NAME)
	@echo "At the top of nginx.conf: load_module $(MODULESDIR)/$(MODULE_NAME);"

uninstall: ## Removes the installed files
	rm -f $(DESTDIR)$(LIBDIR)/libphantom_token.so $(DESTDIR)$(LIBDIR)/libphantom_token.so.$(LIBRARY_MAJOR) \
	    $(DESTDIR)$(LIBDIR)/libphantom_token.so.$(LIBRARY_VERSION) $(DESTDIR)$(LIBDIR)/libphantom_token.a \
	    $(DESTDIR)$(LIBDIR)/.debug/libphantom_token.so.$(LIBRARY_VERSION).debug \
	    $(DESTDIR)$(INCLUDEDIR)/phantom_token.h $(DESTDIR)$(INCLUDEDIR)/phantom_token.hpp \
	    $(DESTDIR)$(PKGCONFIGDIR)/phantom_token.pc
	rm -f $(DESTDIR)$(MODULESDIR)/$(MODULE_NAME) $(DESTDIR)$(MODULESDIR)/.debug/$(MODULE_NAME).debug
	@rmdir $(DESTDIR)$(LIBDIR)/.debug $(DESTDIR)$(MODULESDIR)/.debug 2>/dev/null || true

# WALKS chooses among bookworm, trixie, forky, nginx.org, add-dynamic-module and add-module. Root folders are shared with
# the matrix.
test-install: packages-matrix $(VENV)/installed module ## make install, and the commands of docs/install.md in clean systems; needs root
	PHANTOM_TOKEN_MODULE=$(abspath $(MODULE)) PHANTOM_INSTALL_WALKS="$(WALKS)" \
	    $(VENV_BIN)/python -m pytest -n 0 tests/install

test-c: packages-test ## C and C++ programs against the installed library
	tests/c/run.sh

test-c-asan: packages-test ## The same under AddressSanitizer and UndefinedBehaviorSanitizer
	tests/c/run.sh --asan
