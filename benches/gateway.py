#!/usr/bin/env python3
"""Cost of the module in a gateway: CPU time per request, throughput and latency, against plain nginx in the same run.

One nginx with one worker is the gateway; see harness.py for how it is measured. All variants get the same requests, and
what they send to the API is the same to the byte.

    plain         proxy_pass that sends the JWT, set in the configuration
    hit           the module, every token cached
    miss          the module, nothing remembered (cache_ttl 0): every request asks the authorization server
    auth_request  nginx's own means: a subrequest to the introspection endpoint, its answer remembered in proxy_cache
    subrequest    the same, nothing remembered

The JWT of `plain` is one string, hot in every cache of the processor; `hit` sends one of as many as there are tokens.

The system decides what runs where, as it does in use. With --pinned the worker has a processor for itself, which makes
the difference between `plain` and `hit` clearer; but then the client's thread never runs on it, and each of the two wakes
the other across processors, which costs `miss` several microseconds more.

    MODULE=path/to/module.so benches/gateway.py [--rounds N] [--seconds S] [--tokens N] [--pinned] [--json FILE]
"""

import argparse
import dataclasses
import json
from pathlib import Path

import harness
from harness import Difference, Load, median, ratio

VARIANTS = ("plain", "hit", "miss", "auth_request", "subrequest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=int, default=1, help="how long each variant is loaded in a round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=1000, help="how many tokens the clients hold")
    parser.add_argument("--pinned", action="store_true", help="give the worker a processor for itself")
    parser.add_argument("--json", type=Path, help="write every slice there too")
    options = parser.parse_args()
    module = harness.require("wrk")
    with harness.site() as site:
        gateway = site.gateway(module, *configuration(site))
        gateway.expect(*(f"/{variant}" for variant in VARIANTS))
        client = harness.Client(gateway, options.connections)
        client.pin(options.pinned)
        asked = 0

        def measure(variant: str) -> harness.Slice:
            nonlocal asked
            if variant in ("miss", "subrequest"):
                # New ones each time, so that no two requests share a flight.
                asked += 1
                return client.slice(Load(f"/{variant}", 1_000_000_000), options.seconds)
            return client.slice(Load(f"/{variant}", options.tokens), options.seconds)

        for variant in ("hit", "auth_request"):
            client.each_once(f"/{variant}", 0, options.tokens)
        # Fills the pools of connections.
        for variant in VARIANTS:
            measure(variant)
        done = harness.rounds(options.rounds, VARIANTS, measure)
    report(done, options, len(site.jwt))


def configuration(site: harness.Site) -> tuple[str, str]:
    introspect = """
        internal;
        proxy_method POST;
        proxy_pass_request_headers off;
        proxy_set_header Connection "";
        proxy_set_header Content-Type application/x-www-form-urlencoded;
        proxy_set_body "token=$http_authorization";
    """
    swap = """
        auth_request_set $jwt $upstream_http_x_jwt;
        proxy_set_header Connection "";
        proxy_set_header Authorization "Bearer $jwt";
        proxy_pass http://api/;
    """
    http = f"""
        phantom_token_provider remembering {{ introspection_endpoint {site.endpoint}; cache_ttl 1h; }}
        phantom_token_provider forgetting  {{ introspection_endpoint {site.endpoint}; cache_ttl 0; }}
        proxy_cache_path {site.folder}/cache keys_zone=tokens:10m max_size=100m;
    """
    locations = f"""
        location = /hit  {{ phantom_token remembering; proxy_pass http://api/; }}
        location = /miss {{ phantom_token forgetting;  proxy_pass http://api/; }}
        location = /auth_request {{ auth_request /remembered; {swap} }}
        location = /subrequest   {{ auth_request /asked;      {swap} }}
        location = /asked      {{ {introspect} proxy_pass http://as/introspect; }}
        location = /remembered {{
            {introspect}
            proxy_cache tokens;
            proxy_cache_key $http_authorization;
            proxy_cache_methods POST;
            proxy_pass http://as/introspect;
        }}
    """
    return http, locations


def report(done: list[dict[str, harness.Slice]], options: argparse.Namespace, length: int) -> None:
    print(
        f"{options.rounds} rounds of {options.seconds} s for each variant, {options.connections} connections, "
        f"{options.tokens} tokens, JWT of {length} bytes. CPU µs per request; medians, and 95 % confidence of the\n"
        "differences to plain within a round\n"
    )
    rows = [
        (
            variant,
            f"{median(done, variant, 'worker_us'):.2f}",
            f"{median(done, variant, 'thread_us'):.2f}",
            "" if variant == "plain" else str(Difference.of(done, variant, "worker_us")),
            "" if variant == "plain" else str(Difference.of(done, variant, "cpu_us")),
            f"{ratio(done, variant, 'cpu_us'):.2f}",
            f"{median(done, variant, 'per_second'):.0f}",
            f"{ratio(done, variant, 'per_second'):.2f}",
            f"{median(done, variant, 'p50_ms'):.2f}",
            f"{median(done, variant, 'p99_ms'):.2f}",
        )
        for variant in VARIANTS
    ]
    header = ("", "worker", "thread", "worker over plain", "all over plain", "ratio", "requests/s", "ratio", "p50 ms", "p99 ms")
    print(harness.table(header, rows))
    if options.json:
        slices = [{name: dataclasses.asdict(one) for name, one in each.items()} for each in done]
        options.json.write_text(json.dumps(slices, indent=1) + "\n")


if __name__ == "__main__":
    main()
