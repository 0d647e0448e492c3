#!/usr/bin/env bash
# Shows, step by step, how nginx with the phantom token module turns opaque tokens into JWTs. Each step is checked:
# the demo ends with 0 only if everything went as it says. `make demo` builds what is needed and runs this.
#
#   MODULE                 path to ngx_http_phantom_token_module.so
#   AUTHORIZATION_SERVER   path to the authorization_server binary
#   NGINX_BINARY           the nginx to run (default: nginx)
#   KEEP=1                 stay up until Ctrl-C
#   NGINX_PORT, AS_PORT, API_PORT   ports (default: free ones)
set -euo pipefail

: "${MODULE:?must be the path to ngx_http_phantom_token_module.so}"
: "${AUTHORIZATION_SERVER:?must be the path to the authorization_server binary}"
KEEP=${KEEP:-}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Where nginx is installed is often not in the PATH of ordinary users.
PATH=$PATH:/usr/sbin:/usr/local/sbin
NGINX=${NGINX_BINARY:-nginx}

CACHE_TTL=3
CLIENT=gateway:gateway-secret

if [ -t 1 ]; then BOLD=$'\033[1m' PLAIN=$'\033[0m'; else BOLD='' PLAIN=''; fi
STEP=0
DIR=
PIDS=()

# Saying

say() { printf '   %s\n' "$@"; }
command_line() { printf '   $ %s\n' "$1"; }
step() {
    STEP=$((STEP + 1))
    printf '\n%s%d. %s%s\n' "$BOLD" "$STEP" "$1" "$PLAIN"
}
fail() {
    printf '\nThe demo failed: %s\n' "$1" >&2
    if [ -n "$DIR" ] && [ -s "$DIR/error.log" ]; then
        printf 'The last lines of the error log of nginx:\n' >&2
        tail -n 20 "$DIR/error.log" >&2
    fi
    exit 1
}
expect() { # what, expected, actual
    [ "$2" = "$3" ] || fail "$1 should be \"$2\" but is \"$3\""
}

# Starting and stopping

stop() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
    [ -z "$DIR" ] || rm -rf "$DIR"
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

wait_for_port() { # name, pid, port file
    for _ in $(seq 150); do
        if [ -s "$3" ]; then return; fi
        kill -0 "$2" 2>/dev/null || fail "$1 did not start"
        sleep 0.1
    done
    fail "$1 did not start in time"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

write_nginx_conf() {
    cat >"$DIR/nginx.conf" <<EOF
load_module "$MODULE";
daemon off;
worker_processes 1;
pid "$DIR/nginx.pid";
error_log "$DIR/error.log" notice;
events {}
http {
    access_log off;
    client_body_temp_path "$DIR/client_body";
    proxy_temp_path "$DIR/proxy";
    fastcgi_temp_path "$DIR/fastcgi";
    uwsgi_temp_path "$DIR/uwsgi";
    scgi_temp_path "$DIR/scgi";

    phantom_token_provider main {
        introspection_endpoint $AS/introspect;
        client_id gateway;
        client_secret gateway-secret;
        cache_ttl ${CACHE_TTL}s;
    }

    server {
        listen 127.0.0.1:$NGINX_PORT;

        location / {
            phantom_token main;
            add_header X-Phantom-Cache \$phantom_token_cache always;
            proxy_pass $API;
        }
        location /admin {
            phantom_token main;
            phantom_token_scopes admin;
            proxy_pass $API;
        }
    }
}
EOF
    # It holds the client secret, and the folder is open to all.
    chmod 600 "$DIR/nginx.conf"
}

start_nginx() {
    local pid attempts=5
    # A port that was asked for is taken or it is not.
    [ -z "${NGINX_PORT:-}" ] || attempts=1
    for _ in $(seq "$attempts"); do
        [ "$attempts" = 1 ] || NGINX_PORT=$(free_port)
        write_nginx_conf
        # nginx opens its compiled-in log before it has read the configuration, unless told otherwise by -e.
        # And it takes the variable NGINX for the sockets that it inherits in a binary upgrade.
        env -u NGINX "$NGINX" -e "$DIR/error.log" -p "$DIR" -c "$DIR/nginx.conf" 2>"$DIR/nginx.out" &
        pid=$!
        for _ in $(seq 150); do
            kill -0 "$pid" 2>/dev/null || break
            if [ -s "$DIR/nginx.pid" ] && curl_quiet "http://127.0.0.1:$NGINX_PORT/" -o "$DIR/ready"; then
                PIDS+=("$pid")
                return
            fi
            sleep 0.1
        done
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        grep -q 'Address already in use' "$DIR/error.log" 2>/dev/null || break
    done
    cat "$DIR/nginx.out" >&2
    fail "nginx did not start"
}

# Asking

curl_quiet() { curl --silent --noproxy '*' --max-time 10 "$@"; }

# Asks the gateway for a path, with a token if one is given; sets STATUS, CACHE, CHALLENGE.
ask() {
    local url=http://127.0.0.1:$NGINX_PORT$1
    local arguments=()
    if [ $# -gt 1 ]; then
        command_line "curl -i -H 'Authorization: Bearer $2' $url"
        arguments=(-H "Authorization: Bearer $2")
    else
        command_line "curl -i $url"
    fi
    STATUS=$(curl_quiet "${arguments[@]}" -D "$DIR/headers" -o "$DIR/body" -w '%{http_code}' "$url") ||
        fail "no answer from $url"
    CACHE=$(response_header X-Phantom-Cache)
    CHALLENGE=$(response_header WWW-Authenticate)
}
response_header() {
    awk -v name="$1" 'tolower($0) ~ "^" tolower(name) ":" { sub(/^[^:]*: */, ""); sub(/\r$/, ""); print }' "$DIR/headers"
}

# Gets a token for alice with the given scopes; sets TOKEN.
issue() {
    curl_quiet --fail -u "$CLIENT" -d grant_type=password -d username=alice -d password=wonderland \
        --data-urlencode "scope=$1" "$AS/token" >"$DIR/token" || fail "the authorization server issued no token"
    TOKEN=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])' <"$DIR/token")
}

introspections() {
    curl_quiet --fail "$AS/stats" | python3 -c 'import json, sys; print(json.load(sys.stdin)["introspections"])'
}

# Prints what the API received, and checks that it is a JWT for alice and not the token of the client.
show_received() {
    TOKEN=$TOKEN AS=$AS python3 - "$DIR/body" <<'EOF' || fail "the API did not receive the JWT that belongs to the token"
import json, os, sys

received = json.load(open(sys.argv[1], encoding="utf-8"))
header, claims = received.get("jwt_header"), received.get("jwt_claims")
if not header or not claims or os.environ["TOKEN"] in received["authorization"]:
    sys.exit(1)
if (header["alg"], claims["sub"], claims["iss"]) != ("ES256", "alice", os.environ["AS"]):
    sys.exit(1)
jwt = received["authorization"].split(" ")[1]
print(f"   Authorization: Bearer {jwt[:24]}...{jwt[-8:]}   ({len(jwt)} characters)")
for name, part in ("header", header), ("claims", claims):
    lines = json.dumps(part, indent=2).splitlines()
    print(f"   {name}:", lines[0])
    for line in lines[1:]:
        print("   " + line)
EOF
}

for tool in curl python3 "$NGINX"; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done
for file in "$MODULE" "$AUTHORIZATION_SERVER"; do
    [ -r "$file" ] || fail "$file is not there: build it first (make demo does)"
done
MODULE=$(realpath "$MODULE")

DIR=$(mktemp -d "${TMPDIR:-/tmp}/phantom-token-demo.XXXXXX")
# Started as root, nginx runs its workers as another user: they must reach their folders in here.
chmod 755 "$DIR"

printf '%sPhantom tokens: a demonstration%s\n\n' "$BOLD" "$PLAIN"

"$AUTHORIZATION_SERVER" --listen "127.0.0.1:${AS_PORT:-0}" --port-file "$DIR/as.port" --token-lifetime 3600 >/dev/null &
PIDS+=($!)
wait_for_port "the authorization server" $! "$DIR/as.port"
AS=http://127.0.0.1:$(cat "$DIR/as.port")

python3 "$HERE/api.py" --port "${API_PORT:-0}" --port-file "$DIR/api.port" &
PIDS+=($!)
wait_for_port "the API" $! "$DIR/api.port"
API=http://127.0.0.1:$(cat "$DIR/api.port")

start_nginx
GATEWAY=http://127.0.0.1:$NGINX_PORT

say "Three programs are running on this machine:" \
    "  authorization server  $AS   issues tokens and knows what they mean" \
    "  gateway               $GATEWAY   nginx with the phantom token module" \
    "  API                   $API   behind the gateway; wants JWTs"

step "A client gets a token for the user alice."
command_line "curl -u $CLIENT -d grant_type=password -d username=alice -d password=wonderland $AS/token"
issue 'openid read'
say "access_token: $TOKEN" \
    "It is opaque: a random string that says nothing about alice to whoever finds it."

step "The client calls the API through the gateway, with this token."
ask /hello "$TOKEN"
expect "the status" 200 "$STATUS"
expect "X-Phantom-Cache" MISS "$CACHE"
say "Status $STATUS, X-Phantom-Cache: $CACHE" \
    "The gateway did not know the token. It asked the authorization server, got a JWT for it, and passed" \
    "the request on with the JWT in place of the token. The API received:"
show_received
say "(The client would never see the JWT: this API sends back what it received only so that you can.)"

step "The client calls again."
ask /hello "$TOKEN"
expect "the status" 200 "$STATUS"
expect "X-Phantom-Cache" HIT "$CACHE"
expect "the number of introspections" 1 "$(introspections)"
say "Status $STATUS, X-Phantom-Cache: $CACHE" \
    "This time the gateway knew. The authorization server has still been asked only once."

step "Somebody calls without a token."
ask /hello
expect "the status" 401 "$STATUS"
case $CHALLENGE in Bearer*) ;; *) fail "there should be a Bearer challenge but it is \"$CHALLENGE\"" ;; esac
case $CHALLENGE in *error=*) fail "without a token the challenge should name no error but is \"$CHALLENGE\"" ;; esac
say "Status $STATUS, WWW-Authenticate: $CHALLENGE" \
    "The API never saw the request; neither did the authorization server."
expect "the number of introspections" 1 "$(introspections)"

step "Somebody calls with a token that was never issued."
ask /hello made-up-token
expect "the status" 401 "$STATUS"
case $CHALLENGE in *'error="invalid_token"'*) ;; *) fail "the challenge should say invalid_token but is \"$CHALLENGE\"" ;; esac
say "Status $STATUS, WWW-Authenticate: $CHALLENGE" \
    "The authorization server said that the token is not active."

step "The client calls /admin, where the gateway demands the scope \"admin\"."
ask /admin "$TOKEN"
expect "the status" 403 "$STATUS"
case $CHALLENGE in *'error="insufficient_scope"'*) ;; *) fail "the challenge should say insufficient_scope but is \"$CHALLENGE\"" ;; esac
say "Status $STATUS, WWW-Authenticate: $CHALLENGE" \
    "The token is good, but only for \"openid read\". With a token for \"openid admin\":"
issue 'openid admin'
ask /admin "$TOKEN"
expect "the status" 200 "$STATUS"
say "Status $STATUS"

step "A token is revoked."
issue 'openid read'
ask /hello "$TOKEN"
expect "the status" 200 "$STATUS"
expect "X-Phantom-Cache" MISS "$CACHE"
say "Status $STATUS, X-Phantom-Cache: $CACHE" "A new token, now known to the gateway. It is revoked:"
command_line "curl -u $CLIENT -d token=$TOKEN $AS/revoke"
curl_quiet --fail -u "$CLIENT" -d "token=$TOKEN" "$AS/revoke" || fail "the token could not be revoked"
ask /hello "$TOKEN"
expect "the status" 200 "$STATUS"
expect "X-Phantom-Cache" HIT "$CACHE"
say "Status $STATUS, X-Phantom-Cache: $CACHE" \
    "The gateway still remembers it, for as long as cache_ttl says: $CACHE_TTL seconds in this demo. After that:"
sleep "$CACHE_TTL"
ask /hello "$TOKEN"
for _ in $(seq 20); do
    [ "$STATUS" = 200 ] || break
    sleep 0.5
    ask /hello "$TOKEN"
done
expect "the status" 401 "$STATUS"
say "Status $STATUS, WWW-Authenticate: $CHALLENGE" \
    "The gateway asked again and learned that the token is no longer active."

if [ "$KEEP" = 1 ]; then
    step "Now you."
    issue 'openid read admin'
    say "Everything stays up until you press Ctrl-C. A token that is good for one hour:" \
        "" \
        "  TOKEN=$TOKEN" \
        "" \
        "Try:" \
        "" \
        "  curl -i -H \"Authorization: Bearer \$TOKEN\" $GATEWAY/" \
        "  curl -i -H \"Authorization: Bearer \$TOKEN\" $GATEWAY/admin" \
        "  curl -i $GATEWAY/" \
        "  curl -u $CLIENT -d token=\$TOKEN $AS/introspect" \
        "  curl -u $CLIENT -d token=\$TOKEN $AS/revoke" \
        "  curl -u $CLIENT -d grant_type=password -d username=alice -d password=wonderland $AS/token" \
        "  curl -X PUT -d '{\"status\": 503}' $AS/knobs     # the authorization server fails; DELETE resets it" \
        "" \
        "The configuration of nginx is in $DIR/nginx.conf, its log in $DIR/error.log."
    trap 'printf "\n   Stopping.\n"; exit 0' INT TERM HUP
    # Goes on for ever, unless one of the three ends by itself.
    wait -n "${PIDS[@]}" || true
    fail "one of the three programs has ended"
fi

printf '\n%sThat is all.%s Everything is stopped and cleaned up now.\n' "$BOLD" "$PLAIN"
say "To keep it running and try it yourself: make demo KEEP=1 (and Ctrl-C to stop)."
