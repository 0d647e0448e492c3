#!/usr/bin/env bash
# Builds nginx itself with the module, in both of the ways that nginx's own configure has, and tries the results: the
# module must be known, in its place among the modules, and refuse a request without a token.
#
#   configure.sh [SOURCE]
#
# SOURCE is an unpacked nginx source tree; without it, the one in the crate nginx-src is used. Slow: it compiles nginx
# and the module twice.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

source=${1:-$("$root/scripts/nginx-source.sh")}
[ -d "$source/src/core" ] || fail "$source is no nginx source tree"
version=$(sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' "$source/src/core/nginx.h")
system=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
# The folder that cargo has compiled the rest of this project in: what does not know nginx is not compiled again.
target=${CARGO_TARGET_DIR:-$root/target}

nginx_pid=
stop() {
    [ -z "$nginx_pid" ] || kill "$nginx_pid" 2>/dev/null || true
    nginx_pid=
}
trap stop EXIT

# Starts the nginx of a build directory on a free port, and asks for what needs a token.
try() {
    local binary=$1 load=$2 methods=$3 method port status directory
    for method in $methods; do
        directory=$(mktemp -d)
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        cat >"$directory/nginx.conf" <<EOF
$load
daemon off;
pid $directory/nginx.pid;
error_log $directory/error.log info;
events { use $method; }
http {
    access_log off;
    client_body_temp_path $directory/body;
    proxy_temp_path $directory/proxy;
    fastcgi_temp_path $directory/fastcgi;
    uwsgi_temp_path $directory/uwsgi;
    scgi_temp_path $directory/scgi;
    phantom_token_provider main {
        introspection_endpoint http://127.0.0.1:1/introspect;
        client_id gateway;
        client_secret secret;
        retries 0;
    }
    server {
        listen 127.0.0.1:$port;
        location / {
            phantom_token main;
            proxy_pass http://127.0.0.1:1;
        }
        location /denied {
            phantom_token main;
            deny all;
            add_header X-Result "<\$phantom_token_result>" always;
        }
    }
}
EOF
        "$binary" -t -q -e stderr -p "$directory" -c "$directory/nginx.conf"
        "$binary" -e "$directory/error.log" -p "$directory" -c "$directory/nginx.conf" &
        nginx_pid=$!
        for _ in $(seq 100); do
            [ ! -s "$directory/nginx.pid" ] || break
            sleep 0.1
        done
        status=$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/")
        [ "$status" = 401 ] || fail "$method: without a token: $status"
        # Nothing listens there: the request waits, is woken by the client's thread, and gets an error.
        status=$(curl -s -m 30 -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer token' "http://127.0.0.1:$port/")
        [ "$status" = 502 ] || fail "$method: without an authorization server: $status"
        # "deny" comes first: the module has not looked at the request.
        curl -s -i -H 'Authorization: Bearer token' "http://127.0.0.1:$port/denied" | tr -d '\r' |
            grep -qx 'X-Result: <>' || fail "$method: the module does not run after deny"
        kill -QUIT "$nginx_pid"
        wait "$nginx_pid" || fail "$method: nginx ended with $?"
        nginx_pid=
        ! grep -E '\[(emerg|alert|crit)\]' "$directory/error.log" || fail "$method: see above"
        rm -rf "$directory"
        echo "works with the event method $method"
    done
}

# HTTP/3 is there since 1.25, and with it nginx's headers are in one folder more.
http3=()
[ ! -d "$source/src/http/v3" ] || http3=(--with-http_v3_module)
for way in add-module add-dynamic-module; do
    tree=$root/build/configure/$version-$system/$way
    echo "== ./configure --$way, nginx $version"
    mkdir -p "$tree/objs" "$target"
    # Earlier builds stay: only changed files are built again.
    cp -R --update "$source/." "$tree/"
    ln -sfn "$target" "$tree/objs/phantom_token"
    (
        cd "$tree"
        configure=./configure
        [ -x "$configure" ] || configure=auto/configure
        bash "$configure" --prefix="$tree/run" --with-compat --with-debug --with-threads --with-poll_module \
            --with-select_module --with-http_ssl_module --with-http_v2_module "${http3[@]}" \
            --with-http_realip_module --with-http_auth_request_module "--$way=$root/nginx-module" >configure.log 2>&1 ||
            { tail -n 20 configure.log >&2; exit 1; }
        make -j"$(nproc)" >make.log 2>&1 || { tail -n 40 make.log >&2; exit 1; }
        [ "$way" = add-module ] || make modules >>make.log 2>&1 || { tail -n 40 make.log >&2; exit 1; }
    )
    load=
    [ "$way" = add-module ] || load="load_module $tree/objs/ngx_http_phantom_token_module.so;"
    try "$tree/objs/nginx" "$load" "epoll poll select"
done
