#!/usr/bin/env python3
"""Cost of policies and bound tokens: CPU time per request, over a bare hit in the same run.

One nginx with one worker is the gateway; see harness.py for how it is measured. In all variants every token is cached.

    plain      proxy_pass that sends the JWT, set in the configuration
    hit        the module, nothing else asked; a log format, a map and a limit hold the module's variables and are not
               used here
    policy     two scopes and a claim are required
    variables  two claims go to the API as headers
    dpop       the token is bound to a key, and each request has a DPoP proof of its own, signed with ES256

    MODULE=path/to/module.so benches/policy.py [--rounds N] [--seconds S] [--tokens N] [--pinned]

The proofs are made before: as many as are needed, each for one request.
"""

import argparse
import base64
import hashlib
import json
import os
import time
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

import harness
from harness import Difference, Load, median, ratio

VARIANTS = ("plain", "hit", "policy", "variables", "dpop")
TOKEN = "0" * 32

# Each line of a file is a proof; each slice begins where the last one ended.
PROOFS = """
local file = io.open("$path_of_proofs", "r")
file:seek("set", $begin)
local head = "GET $path HTTP/1.1\\r\\nHost: bench\\r\\nAuthorization: DPoP %s\\r\\nDPoP: "
function request()
    return head .. file:read("*l") .. "\\r\\n\\r\\n"
end
""" % TOKEN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=int, default=1, help="how long each variant is loaded in a round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=1000, help="how many tokens the clients hold")
    parser.add_argument("--proofs", type=int, default=15_000, help="how many proofs there are for each second")
    parser.add_argument("--pinned", action="store_true", help="give the worker a processor for itself")
    options = parser.parse_args()
    module = harness.require("wrk")
    key = Key()
    bound = harness.kilobyte_jwt(cnf={"jkt": key.thumbprint})
    answer = f'location = /bound {{ add_header Cache-Control max-age=36000; return 200 "{bound}"; }}'
    with harness.site(answer) as site:
        gateway = site.gateway(module, *configuration(site))
        gateway.expect(*(f"/{variant}" for variant in VARIANTS if variant != "dpop"))
        client = harness.Client(gateway, options.connections)
        client.pin(options.pinned)
        each = options.proofs * options.seconds
        proofs = site.folder / "proofs"
        length = key.write(proofs, each * (options.rounds + 1), "http://bench/dpop")
        used = 0

        def measure(variant: str) -> harness.Slice:
            nonlocal used
            if variant != "dpop":
                return client.slice(Load(f"/{variant}", options.tokens), options.seconds)
            script = PROOFS.replace("$path_of_proofs", str(proofs))
            done = client.slice(Load("/dpop", 1, used * length), options.seconds, script)
            used += each
            if done.requests > each - options.connections:
                raise SystemExit(f"{done.requests} requests, and {each} proofs: say --proofs with a larger number")
            return done

        for variant in VARIANTS[1:-1]:
            client.each_once(f"/{variant}", 0, options.tokens)
        for variant in VARIANTS:
            measure(variant)
        done = harness.rounds(options.rounds, VARIANTS, measure)
    report(done, options, len(site.jwt))


class Key:
    """The key of a client."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        numbers = self.key.public_key().public_numbers()
        self.jwk = {
            "crv": "P-256",
            "kty": "EC",
            "x": encode(numbers.x.to_bytes(32, "big")),
            "y": encode(numbers.y.to_bytes(32, "big")),
        }
        # RFC 7638: the members in order, and no space.
        canonical = json.dumps(self.jwk, separators=(",", ":"), sort_keys=True)
        self.thumbprint = encode(hashlib.sha256(canonical.encode()).digest())

    def write(self, path: Path, count: int, uri: str) -> int:
        """Writes so many proofs, a line each. Returns how long a line is."""
        header = encode(json.dumps({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk}).encode())
        ath = encode(hashlib.sha256(TOKEN.encode()).digest())
        now = int(time.time())
        with path.open("w") as file:
            for number in range(count):
                claims = {"htm": "GET", "htu": uri, "iat": now, "ath": ath, "jti": f"{number:012d}{os.urandom(4).hex()}"}
                text = f"{header}.{encode(json.dumps(claims).encode())}"
                r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
                line = f"{text}.{encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}\n"
                file.write(line)
        return len(line)


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def configuration(site: harness.Site) -> tuple[str, str]:
    http = f"""
        phantom_token_zone tokens:512m;
        phantom_token_provider main  {{ introspection_endpoint {site.endpoint}; cache_ttl 1h; cache_zone tokens; }}
        phantom_token_provider bound {{
            introspection_endpoint {site.endpoint.replace("/introspect", "/bound")};
            cache_ttl 1h;
            cache_zone tokens;
        }}
        phantom_token main;
        log_format said '$phantom_token_sub $phantom_token_claim_iss $phantom_token_id $phantom_token_reason';
        map $phantom_token_claim_iss $issuer {{ default 0; https://as.example.com 1; }}
        limit_req_zone $phantom_token_sub zone=users:1m rate=1000000r/s;
    """
    policy = """
        phantom_token_scopes "openid read";
        phantom_token_require iss https://as.example.com;
    """
    headers = """
        proxy_set_header Connection "";
        proxy_set_header X-User $phantom_token_sub;
        proxy_set_header X-Issuer $phantom_token_claim_iss;
    """
    locations = f"""
        location = /hit       {{ proxy_pass http://api/; }}
        location = /policy    {{ {policy} proxy_pass http://api/; }}
        location = /variables {{ {headers} proxy_pass http://api/; }}
        location = /dpop      {{ phantom_token bound; phantom_token_dpop_window 10m; proxy_pass http://api/; }}
    """
    return http, locations


def report(done: list[dict[str, harness.Slice]], options: argparse.Namespace, length: int) -> None:
    print(
        f"{options.rounds} rounds of {options.seconds} s for each variant, {options.connections} connections, "
        f"{options.tokens} tokens, JWT of {length} bytes. Worker's CPU µs per request; medians, and 95 % confidence of\n"
        "the differences within a round\n"
    )
    rows = [
        (
            variant,
            f"{median(done, variant, 'worker_us'):.2f}",
            "" if variant == "plain" else str(Difference.of(done, variant, "worker_us")),
            "" if variant in ("plain", "hit") else str(Difference.of(done, variant, "worker_us", "hit")),
            f"{ratio(done, variant, 'worker_us'):.2f}",
            f"{median(done, variant, 'per_second'):.0f}",
            f"{median(done, variant, 'p99_ms'):.2f}",
        )
        for variant in VARIANTS
    ]
    print(harness.table(("", "worker", "over plain", "over hit", "ratio", "requests/s", "p99 ms"), rows))


if __name__ == "__main__":
    main()
