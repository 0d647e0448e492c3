#!/usr/bin/env python3
"""How many instructions a request takes in a gateway's worker, counted by valgrind: the same on a busy machine as on a
quiet one.

    plain  proxy_pass that sends the JWT, set in the configuration
    hit    the module, the token remembered by the worker
    policy the same, and two scopes and a claim are required
    zone   the module, the token remembered in the zone only (cache_size 0)

Valgrind knows no SHA instructions, so that a SHA-256 counts for several times what it is on a processor that has them.

    MODULE=path/to/module.so benches/instructions.py [--requests N] [--functions N]
"""

import argparse
import os
import re
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

import harness

VARIANTS = ("plain", "hit", "policy", "zone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":", maxsplit=1)[0])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--functions", type=int, default=25, help="how many of the functions that differ are listed")
    options = parser.parse_args()
    module = harness.require("valgrind", "callgrind_annotate", "callgrind_control")
    with harness.site() as site:
        # The workers write there, as the user that nginx gives them.
        (site.folder / "out").mkdir()
        (site.folder / "out").chmod(0o777)
        wrapper = [
            "valgrind",
            "--quiet",
            "--tool=callgrind",
            "--trace-children=yes",
            f"--callgrind-out-file={site.folder}/out/%p",
        ]
        provider = f"introspection_endpoint {site.endpoint}; cache_ttl 1h; timeout 1m;"
        gateway = site.gateway(
            module,
            f"""
            phantom_token_zone tokens:8m;
            phantom_token_provider remembering {{ {provider} cache_zone tokens; }}
            phantom_token_provider sharing     {{ {provider} cache_zone tokens; cache_size 0; }}
            """,
            """
            location = /hit  { phantom_token remembering; proxy_pass http://api/; }
            location = /policy {
                phantom_token         remembering;
                phantom_token_scopes  "openid read";
                phantom_token_require iss https://as.example.com;
                proxy_pass            http://api/;
            }
            location = /zone { phantom_token sharing; proxy_pass http://api/; }
            """,
            # Valgrind's pipes belong to the user that started it.
            top="user root;" if os.geteuid() == 0 else "",
            wrapper=wrapper,
        )
        # Also makes the token known.
        gateway.expect("/zone", *(f"/{variant}" for variant in VARIANTS))
        counted = {}
        for variant in VARIANTS:
            ask(gateway.port, variant, 50)
            control("--zero", gateway)
            ask(gateway.port, variant, options.requests)
            counted[variant] = dump(gateway, site.folder / "out", options.requests)
    plain = counted["plain"]
    for variant, functions in counted.items():
        print(f"\n{variant}: {functions.total():.0f} instructions, {functions.total() - plain.total():+.0f} over plain")
        if variant != "plain":
            more = Counter({name: count - plain[name] for name, count in functions.items()})
            for name, count in more.most_common(options.functions):
                if count >= 0.5:
                    print(f"{count:8.0f}  {name}")


def ask(port: int, variant: str, count: int) -> None:
    """So many requests on one connection, one after the other."""
    request = f"GET /{variant} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer trial\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as stream:
        for _ in range(count):
            stream.sendall(request)
            answer = b""
            while not answer.endswith(b"hello"):
                answer += stream.recv(4096)


def control(what: str, gateway: harness.Nginx) -> None:
    worker = gateway.workers()[0]
    subprocess.run(["callgrind_control", what, str(worker)], check=True, capture_output=True, timeout=60)
    time.sleep(0.5)


def dump(gateway: harness.Nginx, folder: Path, requests: int) -> Counter[str]:
    """Instructions per request, by function, since they were last counted."""
    worker = gateway.workers()[0]
    former = set(folder.glob(f"{worker}.*"))
    control("--dump", gateway)
    gateway.wait("nothing was counted", lambda: bool(set(folder.glob(f"{worker}.*")) - former))
    time.sleep(1)
    (written,) = set(folder.glob(f"{worker}.*")) - former
    output = subprocess.run(
        ["callgrind_annotate", "--threshold=100", "--show-percs=no", str(written)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    functions: Counter[str] = Counter()
    total = int(re.search(r"^\s*([\d,]+)\s+PROGRAM TOTALS", output, re.MULTILINE)[1].replace(",", ""))
    for digits, name in re.findall(r"^\s*([\d,]+)\s+\S*?:(\S.*?)(?: \[.*\])?$", output, re.MULTILINE):
        count = int(digits.replace(",", ""))
        # Functions that were active when the counting began are listed with all their callees, which is nearly everything.
        if count < total * 0.9:
            functions[name] += count / requests
    return functions


if __name__ == "__main__":
    main()
