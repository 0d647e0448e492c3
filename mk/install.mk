# The library as a system has it: shared and static, header, pkg-config file; and the tests of all that.
#
#   make install PREFIX=/usr/local DESTDIR=
#   make uninstall PREFIX=/usr/local DESTDIR=
#
# PROFILE=dev installs what `cargo build` made instead of `cargo build --release`; CARGO_BUILD_TARGET cross-compiles.

PREFIX       ?= /usr/local
LIBDIR       ?= $(PREFIX)/lib
INCLUDEDIR   ?= $(PREFIX)/include
PKGCONFIGDIR ?= $(LIBDIR)/pkgconfig
DESTDIR      ?=
PROFILE      ?= release
CARGO        ?= cargo
RUSTC        ?= rustc
INSTALL      ?= install

LIBRARY_VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
LIBRARY_MAJOR   := $(firstword $(subst ., ,$(LIBRARY_VERSION)))
LIBRARY_BUILT   := $(or $(CARGO_TARGET_DIR),target)/$(addsuffix /,$(CARGO_BUILD_TARGET))$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

# What a program that links the static library needs besides: all of it comes from Rust's standard library, so that an
# empty crate needs the same. That it is enough is shown by the tests, which link a program statically.
LIBRARY_NEEDS = $(shell d=$$(mktemp -d) && : > $$d/empty.rs && \
    $(RUSTC) --crate-type staticlib --print native-static-libs --out-dir $$d $$d/empty.rs 2>&1 | \
    sed -n 's/^note: native-static-libs: //p'; rm -r $$d)

.PHONY: library install uninstall test-c test-c-asan

library:
	$(CARGO) build --lib --profile $(PROFILE)

install: library ## Installs the library under $(DESTDIR)$(PREFIX)
	$(INSTALL) -d $(DESTDIR)$(LIBDIR) $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(PKGCONFIGDIR)
	$(INSTALL) -m 755 $(LIBRARY_BUILT)/libphantom_token.so $(DESTDIR)$(LIBDIR)/libphantom_token.so.$(LIBRARY_VERSION)
	ln -sf libphantom_token.so.$(LIBRARY_VERSION) $(DESTDIR)$(LIBDIR)/libphantom_token.so.$(LIBRARY_MAJOR)
	ln -sf libphantom_token.so.$(LIBRARY_MAJOR) $(DESTDIR)$(LIBDIR)/libphantom_token.so
	$(INSTALL) -m 644 $(LIBRARY_BUILT)/libphantom_token.a $(DESTDIR)$(LIBDIR)/
	$(INSTALL) -m 644 include/phantom_token.h bindings/cpp/phantom_token.hpp $(DESTDIR)$(INCLUDEDIR)/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(LIBRARY_VERSION)|' \
	    -e 's|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|' \
	    -e 's|@INCLUDEDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))|' \
	    -e 's|@LIBS_PRIVATE@|$(LIBRARY_NEEDS)|' \
	    phantom_token.pc.in > $(DESTDIR)$(PKGCONFIGDIR)/phantom_token.pc
	chmod 644 $(DESTDIR)$(PKGCONFIGDIR)/phantom_token.pc
	@[ -n "$(DESTDIR)" ] || echo "Installed. The dynamic linker finds it after: ldconfig"

uninstall: ## Removes what install has put there
	rm -f $(DESTDIR)$(LIBDIR)/libphantom_token.so $(DESTDIR)$(LIBDIR)/libphantom_token.so.$(LIBRARY_MAJOR) \
	    $(DESTDIR)$(LIBDIR)/libphantom_token.so.$(LIBRARY_VERSION) $(DESTDIR)$(LIBDIR)/libphantom_token.a \
	    $(DESTDIR)$(INCLUDEDIR)/phantom_token.h $(DESTDIR)$(INCLUDEDIR)/phantom_token.hpp \
	    $(DESTDIR)$(PKGCONFIGDIR)/phantom_token.pc

test-c: packages-test ## C and C++ programs against the installed library
	tests/c/run.sh

test-c-asan: packages-test ## The same under AddressSanitizer and UndefinedBehaviorSanitizer
	tests/c/run.sh --asan
