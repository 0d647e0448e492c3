# The nginx module, for the nginx on this machine or for the source tree that the variables name.

# A configured nginx source tree to build against, and its build directory if that is not objs/ in it. Unset: the
# tree of Debian's nginx-dev.
NGINX_SOURCE_DIR ?=
NGINX_BUILD_DIR  ?=
export NGINX_SOURCE_DIR NGINX_BUILD_DIR CARGO

# Runs a command with the variables that nginx-sys needs.
WITH_NGINX := nginx-module/build.sh with

.PHONY: module nginx-headers module-configure

nginx-headers:
	@nginx-module/build.sh headers

module: packages-module ## Builds the nginx module for the nginx on this machine
	@nginx-module/build.sh module $(abspath $(MODULE))

module-configure: packages-module ## Builds the module with nginx's own configure, both ways (slow)
	@nginx-module/tests/configure.sh
