#!/bin/sh
# Prints the directory that an nginx has for modules, or a default if there is no such nginx.
#
#   nginx-modules-path.sh NGINX DEFAULT
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
arguments=$("$1" -V 2>&1) || { printf '%s\n' "$2"; exit; }

# The value of an argument of nginx's configure.
argument() {
    printf '%s\n' "$arguments" | tr ' ' '\n' | sed -n "s/^--$1=//p" | tail -n 1
}

prefix=$(argument prefix)
prefix=${prefix:-/usr/local/nginx}
path=$(argument modules-path)
case "$path" in
    /*) printf '%s\n' "$path" ;;
    *) printf '%s\n' "$prefix/${path:-modules}" ;;
esac
