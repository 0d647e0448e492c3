# The check of Rust's version. Every target that runs cargo depends on `rust-version`.

CARGO ?= cargo
RUSTC ?= rustc

.PHONY: rust-version

rust-version:
	@CARGO='$(CARGO)' RUSTC='$(RUSTC)' scripts/rust-version.sh
