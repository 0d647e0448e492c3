# Rust, which everything that compiles needs. What is built by cargo depends on `rust-version`.

CARGO ?= cargo
RUSTC ?= rustc

.PHONY: rust-version

rust-version:
	@CARGO='$(CARGO)' RUSTC='$(RUSTC)' scripts/rust-version.sh
