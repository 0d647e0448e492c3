#!/bin/sh
# Installs a shared object without its debug information, which goes into .debug/ beside it: there debuggers find it,
# whatever the prefix.
#
#   install-shared.sh FILE TARGET
#
# INSTALL, OBJCOPY and STRIP name other programs. An empty STRIP installs the file as it is, for packagers whose tools
# strip it.
set -eu
file=$1
target=$2
name=$(basename "$target")
debug=$(dirname "$target")/.debug

${INSTALL:-install} -d "$(dirname "$target")"
${INSTALL:-install} -m 755 "$file" "$target.new"
if [ -n "${STRIP-strip}" ]; then
    ${INSTALL:-install} -d "$debug"
    ${OBJCOPY:-objcopy} --only-keep-debug "$file" "$debug/$name.debug.new"
    chmod 644 "$debug/$name.debug.new"
    mv "$debug/$name.debug.new" "$debug/$name.debug"
    ${STRIP-strip} --strip-unneeded "$target.new"
    ${OBJCOPY:-objcopy} --add-gnu-debuglink="$debug/$name.debug" "$target.new"
fi
# Renamed: a program that runs may have the old one mapped.
mv "$target.new" "$target"
