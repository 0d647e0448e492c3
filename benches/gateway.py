#!/usr/bin/env python3
"""What the module costs a gateway: worker CPU per request, throughput and latency, as ratios to plain nginx.

One nginx with one worker is the gateway. In each round every variant is loaded once, in turn, so that whatever else
the machine does falls on all of them; the figures are medians over the rounds.

    plain         proxy_pass that sends the same Authorization header, set in the configuration
    hit           the module, every token remembered
    miss          the module, nothing remembered (cache_ttl 0): every request asks the authorization server
    auth_request  nginx's own means: a subrequest to the introspection endpoint, its answer in proxy_cache

CPU time is the worker's own, from the kernel's accounting of its threads (/proc/PID/task/TID/schedstat): the thread
that runs nginx and, for the module, the one that talks to the authorization server.

    MODULE=path/to/module.so benches/gateway.py [--rounds N] [--seconds S] [--json FILE]
"""

import argparse
import base64
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NGINX = os.environ.get("NGINX_BINARY", "nginx")
VARIANTS = ("plain", "hit", "miss", "auth_request")


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="phantom-bench-") as folder:
        os.chmod(folder, 0o755)
        bench = Bench(Path(folder), options)
        try:
            bench.start()
            rounds = [bench.round(number) for number in range(options.rounds)]
        finally:
            bench.stop()
    report(rounds, options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3, help="how long each variant is loaded in a round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=1000, help="how many tokens the clients hold")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    for program in (NGINX, "wrk"):
        if not shutil.which(program):
            sys.exit(f"{program} is missing: apt-get install {program}")
    options.module = os.environ.get("MODULE")
    if not options.module or not Path(options.module).is_file():
        sys.exit("MODULE must name the built module (make module)")
    return options


def kilobyte_jwt() -> str:
    """A JWT of about 1 KB. Nobody here verifies it."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = {
        "iss": "https://as.example.com",
        "sub": "alice",
        "scope": "openid read",
        "padding": "x" * 600,
    }
    header = {"alg": "ES256", "typ": "at+jwt"}
    return ".".join((part(json.dumps(header).encode()), part(json.dumps(claims).encode()), part(bytes(64))))


class Bench:
    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        self.jwt = kilobyte_jwt()
        self.gateway_port, self.api_port, self.server_port = free_ports(3)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        # The API and the authorization server are nginx too: fast, so that the gateway is what is measured.
        self.nginx(
            "backends",
            f"""
            server {{
                listen 127.0.0.1:{self.api_port};
                keepalive_requests 1000000000;
                location / {{ return 200 "hello"; }}
            }}
            server {{
                listen 127.0.0.1:{self.server_port};
                keepalive_requests 1000000000;
                default_type application/jwt;
                location / {{ add_header Cache-Control max-age=3600; add_header X-JWT "{self.jwt}"; return 200 "{self.jwt}"; }}
            }}
            """,
        )
        provider = f"introspection_endpoint http://127.0.0.1:{self.server_port}/introspect;"
        self.gateway = self.nginx(
            "gateway",
            f"""
            phantom_token_provider remembering {{ {provider} cache_ttl 1h; }}
            phantom_token_provider forgetting  {{ {provider} cache_ttl 0; }}
            upstream api     {{ server 127.0.0.1:{self.api_port};    keepalive 64; keepalive_requests 1000000000; }}
            upstream as      {{ server 127.0.0.1:{self.server_port}; keepalive 64; keepalive_requests 1000000000; }}
            proxy_cache_path {self.folder}/cache keys_zone=tokens:10m max_size=100m;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            server {{
                listen 127.0.0.1:{self.gateway_port};
                keepalive_requests 1000000000;
                location /plain {{
                    proxy_set_header Connection "";
                    proxy_set_header Authorization "Bearer {self.jwt}";
                    proxy_pass http://api;
                }}
                location /hit  {{ phantom_token remembering; proxy_pass http://api; }}
                location /miss {{ phantom_token forgetting;  proxy_pass http://api; }}
                location /auth_request {{
                    auth_request /introspect;
                    auth_request_set $jwt $upstream_http_x_jwt;
                    proxy_set_header Connection "";
                    proxy_set_header Authorization "Bearer $jwt";
                    proxy_pass http://api;
                }}
                location = /introspect {{
                    internal;
                    proxy_method POST;
                    proxy_pass_request_headers off;
                    proxy_set_header Connection "";
                    proxy_set_header Content-Type application/x-www-form-urlencoded;
                    proxy_set_body "token=$http_authorization";
                    proxy_cache tokens;
                    proxy_cache_key $http_authorization;
                    proxy_cache_methods POST;
                    proxy_pass http://as;
                }}
            }}
            """,
            f"load_module {Path(self.options.module).resolve()};",
        )
        for variant in VARIANTS:
            status = fetch_status(self.gateway_port, f"/{variant}")
            if status != 200:
                sys.exit(f"/{variant} answers {status}; see below\n{self.log('gateway')}")

    def nginx(self, name: str, http: str, top: str = "") -> subprocess.Popen[bytes]:
        folder = self.folder / name
        folder.mkdir()
        os.chmod(folder, 0o755)
        config = folder / "nginx.conf"
        config.write_text(
            f"""
            {top}
            daemon off;
            worker_processes 1;
            pid {folder}/pid;
            error_log {folder}/error.log warn;
            worker_rlimit_nofile 8192;
            events {{ worker_connections 2048; }}
            http {{
                access_log off;
                client_body_temp_path {folder}/body;
                proxy_temp_path {folder}/proxy;
                fastcgi_temp_path {folder}/fastcgi;
                uwsgi_temp_path {folder}/uwsgi;
                scgi_temp_path {folder}/scgi;
                {http}
            }}
            """
        )
        process = subprocess.Popen(
            [NGINX, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.processes.append(process)
        port = int(re.search(r"listen 127\.0\.0\.1:(\d+)", http)[1])
        deadline = time.monotonic() + 10
        while True:
            if process.poll() is not None:
                sys.exit(f"nginx ({name}) ended: {process.stderr.read().decode()}{self.log(name)}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return process
            except OSError:
                if time.monotonic() > deadline:
                    sys.exit(f"nginx ({name}) does not listen:\n{self.log(name)}")
                time.sleep(0.02)

    def log(self, name: str) -> str:
        path = self.folder / name / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(timeout=10)

    def round(self, number: int) -> dict[str, dict[str, float]]:
        # Another order each time: nobody is always first.
        order = VARIANTS[number % len(VARIANTS) :] + VARIANTS[: number % len(VARIANTS)]
        return {variant: self.load(variant, number) for variant in order}

    def load(self, variant: str, number: int) -> dict[str, float]:
        # Tokens for `miss` are new each time, so that no two requests share a flight.
        script = self.folder / "tokens.lua"
        fresh = "true" if variant == "miss" else "false"
        script.write_text(
            f"""
            local count = 0
            function request()
                count = count + 1
                local name = {fresh} and count or count % {self.options.tokens}
                wrk.headers["Authorization"] = string.format("Bearer %032d", name)
                return wrk.format("GET", "/{variant}")
            end
            """
        )
        worker = self.worker()
        if number == 0:
            # Fills caches and connection pools.
            self.wrk(script, 1)
        before = cpu_by_thread(worker)
        figures = self.wrk(script, self.options.seconds)
        after = cpu_by_thread(worker)
        spent = {thread: after[thread] - before.get(thread, 0) for thread in after}
        own = spent.pop(worker)
        figures["worker_us"] = own / 1000 / figures["requests"]
        figures["other_us"] = sum(spent.values()) / 1000 / figures["requests"]
        figures["cpu_us"] = figures["worker_us"] + figures["other_us"]
        return figures

    def worker(self) -> int:
        children = Path(f"/proc/{self.gateway.pid}/task/{self.gateway.pid}/children").read_text().split()
        for child in children:
            title = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"worker process" in title:
                return int(child)
        sys.exit("the gateway has no worker")

    def wrk(self, script: Path, seconds: int) -> dict[str, float]:
        output = subprocess.run(
            [
                "wrk",
                "--latency",
                "--threads=1",
                f"--connections={self.options.connections}",
                f"--duration={seconds}s",
                f"--script={script}",
                f"http://127.0.0.1:{self.gateway_port}",
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds + 30,
        ).stdout
        if "Non-2xx" in output or "Socket errors" in output:
            sys.exit(f"requests failed:\n{output}\n{self.log('gateway')}")

        def percentile(which: str) -> float:
            value, unit = re.search(rf"{which}%\s+([\d.]+)(us|ms|s)", output).groups()
            return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]

        return {
            "requests": int(re.search(r"(\d+) requests in", output)[1]),
            "per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]),
            "p50_ms": percentile("50"),
            "p99_ms": percentile("99"),
        }


def cpu_by_thread(process: int) -> dict[int, int]:
    """Nanoseconds of CPU time of each thread."""
    times = {}
    for task in Path(f"/proc/{process}/task").iterdir():
        times[int(task.name)] = int((task / "schedstat").read_text().split()[0])
    return times


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def fetch_status(port: int, path: str) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        stream.sendall(
            f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer trial\r\nConnection: close\r\n\r\n".encode()
        )
        return int(stream.makefile("rb").readline().split()[1])


def report(rounds: list[dict[str, dict[str, float]]], options: argparse.Namespace) -> None:
    def median(variant: str, figure: str) -> float:
        return statistics.median(one[variant][figure] for one in rounds)

    def over_plain(variant: str, figure: str) -> float:
        return statistics.median(one[variant][figure] - one["plain"][figure] for one in rounds)

    print(
        f"{options.rounds} rounds of {options.seconds} s for each variant, {options.connections} connections, "
        f"{options.tokens} tokens, JWT of {len(kilobyte_jwt())} bytes; medians\n"
    )
    header = ("", "CPU µs", "worker", "thread", "over plain", "ratio", "requests/s", "ratio", "p50 ms", "p99 ms")
    rows = []
    figures = {}
    for variant in VARIANTS:
        figures[variant] = {
            figure: median(variant, figure)
            for figure in ("cpu_us", "worker_us", "other_us", "per_second", "p50_ms", "p99_ms")
        }
        own = figures[variant]
        own["cpu_over_plain_us"] = over_plain(variant, "cpu_us")
        own["worker_over_plain_us"] = over_plain(variant, "worker_us")
        plain = figures["plain"]
        rows.append(
            (
                variant,
                f"{own['cpu_us']:.2f}",
                f"{own['worker_us']:.2f}",
                f"{own['other_us']:.2f}",
                f"{own['cpu_over_plain_us']:+.2f}",
                f"{own['cpu_us'] / plain['cpu_us']:.2f}",
                f"{own['per_second']:.0f}",
                f"{own['per_second'] / plain['per_second']:.2f}",
                f"{own['p50_ms']:.2f}",
                f"{own['p99_ms']:.2f}",
            )
        )
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths)))
    print()
    for variant in ("hit", "miss", "auth_request"):
        own = figures[variant]
        print(
            f"{variant}: {own['cpu_over_plain_us']:+.2f} µs over plain, "
            f"{own['worker_over_plain_us']:+.2f} µs of them on the worker"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
