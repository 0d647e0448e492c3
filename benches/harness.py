"""Common part of the benchmarks of a whole gateway: nginx, wrk, CPU time by thread, and figures with confidence intervals.

A machine is never quiet: its clock changes, others use it, caches are warm or not. So no variant is measured by itself.
All of them run in turn, in short slices and in another order each round. The result is the *difference* to
`plain` within a round, where both have the same conditions: the median of the differences, and its
95 % confidence interval (a bootstrap: the rounds are drawn again, with replacement, many times).

CPU time is the kernel's accounting of each thread (/proc/PID/task/TID/schedstat). A single worker can be given a
processor for itself: it is busy all the time then, takes as many events at once for one variant as for the other, and
what a request costs it does not depend on how fast the client is.
"""

import base64
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NGINX = os.environ.get("NGINX_BINARY", "nginx")
# The connections between nginx and what is behind it stay open, and requests on them are not counted.
KEPT = "keepalive_requests 1000000000; keepalive_timeout 1h;"


def require(*programs: str) -> Path:
    """Ends the program unless these others are there, and the module. Returns the module's path."""
    for program in (NGINX, *programs):
        if not shutil.which(program):
            sys.exit(f"{program} is missing: apt-get install {program}")
    module = os.environ.get("MODULE")
    if not module or not Path(module).is_file():
        sys.exit("MODULE must name the built module (make module)")
    return Path(module).resolve()


def kilobyte_jwt(**more: object) -> str:
    """A JWT of about 1 KB. Nobody here verifies it."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = {
        "iss": "https://as.example.com",
        "sub": "alice",
        "scope": "openid read",
        "padding": "x" * 600,
        **more,
    }
    header = {"alg": "ES256", "typ": "at+jwt"}
    return ".".join((part(json.dumps(header).encode()), part(json.dumps(claims).encode()), part(bytes(64))))


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Nginx:
    """A master process and its workers, until `stop`."""

    def __init__(self, folder: Path, http: str, top: str = "", workers: int = 1, wrapper: Sequence[str] = ()) -> None:
        folder.mkdir()
        folder.chmod(0o755)
        self.folder = folder
        self.http = http
        self.top = top
        self.wrapped = bool(wrapper)
        self.port = int(re.search(r"listen 127\.0\.0\.1:(\d+)", http)[1])
        self.configure(workers)
        self.process = subprocess.Popen(
            [*wrapper, NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.settle(workers)

    def configure(self, workers: int) -> None:
        (self.folder / "nginx.conf").write_text(
            f"""
            {self.top}
            daemon off;
            worker_processes {workers};
            pid {self.folder}/pid;
            error_log {self.folder}/error.log warn;
            worker_rlimit_nofile 8192;
            events {{ worker_connections 2048; }}
            http {{
                access_log off;
                client_body_temp_path {self.folder}/body;
                proxy_temp_path {self.folder}/proxy;
                fastcgi_temp_path {self.folder}/fastcgi;
                uwsgi_temp_path {self.folder}/uwsgi;
                scgi_temp_path {self.folder}/scgi;
                {self.http}
            }}
            """
        )

    def reload(self, workers: int) -> None:
        """Goes on with so many new workers. Zones stay, what workers remember by themselves goes."""
        former = self.workers()
        self.configure(workers)
        self.process.send_signal(signal.SIGHUP)
        self.wait("its workers are not exchanged", lambda: not set(former) & set(self.children()))
        self.settle(workers)

    def settle(self, workers: int) -> None:
        self.wait("its workers are not there", lambda: len(self.workers()) == workers)
        self.wait("it does not listen", self.listens)

    def wait(self, otherwise: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not done():
            if self.process.poll() is not None:
                sys.exit(f"nginx ({self.folder.name}) ended: {self.process.stderr.read()}{self.log()}")
            if time.monotonic() > deadline:
                sys.exit(f"nginx ({self.folder.name}): {otherwise}\n{self.log()}")
            time.sleep(0.02)

    def listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def children(self) -> list[int]:
        master = self.process.pid
        return [int(child) for child in Path(f"/proc/{master}/task/{master}/children").read_text().split()]

    def workers(self) -> list[int]:
        """The processes that serve requests."""
        found = []
        for child in self.children():
            try:
                title = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            # Under a wrapper the title is the wrapper's, and there is nobody but workers.
            if self.wrapped or (b"worker process" in title and b"shutting down" not in title):
                found.append(child)
        return found

    def log(self) -> str:
        path = self.folder / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def status(self, path: str, token: str = "trial") -> int:
        """The status of one answer."""
        request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as stream:
            stream.sendall(request.encode())
            return int(stream.makefile("rb").readline().split()[1])

    def expect(self, *paths: str) -> None:
        """Ends the program unless each of these is answered with 200."""
        for path in paths:
            if (status := self.status(path)) != 200:
                sys.exit(f"{path} answers {status}; see below\n{self.log()}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


class Site:
    """A folder, free ports, and an API and an authorization server behind the gateway that is to be measured: nginx
    too, and so fast that the gateway is what is measured."""

    def __init__(self, folder: Path, answers: str = "") -> None:
        self.folder = folder
        self.jwt = kilobyte_jwt()
        self.gateway_port, api_port, server_port = free_ports(3)
        self.endpoint = f"http://127.0.0.1:{server_port}/introspect"
        self.upstreams = f"""
            upstream api {{ server 127.0.0.1:{api_port};    keepalive 256; {KEPT} }}
            upstream as  {{ server 127.0.0.1:{server_port}; keepalive 256; {KEPT} }}
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        """
        # Sends what the module sends, without the module.
        self.plain = f"""
            location = /plain {{
                proxy_set_header Connection "";
                proxy_set_header Authorization "Bearer {self.jwt}";
                proxy_pass http://api/;
            }}
        """
        self.running = [
            Nginx(
                folder / "backends",
                f"""
                {KEPT}
                server {{ listen 127.0.0.1:{api_port}; location / {{ return 200 "hello"; }} }}
                server {{
                    listen 127.0.0.1:{server_port};
                    default_type application/jwt;
                    location / {{
                        add_header Cache-Control max-age=36000;
                        add_header X-JWT "{self.jwt}";
                        return 200 "{self.jwt}";
                    }}
                    {answers}
                }}
                """,
            )
        ]

    def gateway(
        self, module: Path, http: str, locations: str, listen: str = "", top: str = "", wrapper: Sequence[str] = ()
    ) -> Nginx:
        """An nginx with the module and one worker. `http` is part of its `http` block, `locations` of its one server."""
        gateway = Nginx(
            self.folder / "gateway",
            f"""
            {self.upstreams}
            {http}
            server {{ listen 127.0.0.1:{self.gateway_port} {listen}; {KEPT} {self.plain} {locations} }}
            """,
            f"load_module {module}; {top}",
            wrapper=wrapper,
        )
        self.running.append(gateway)
        return gateway

    def stop(self) -> None:
        for nginx in reversed(self.running):
            nginx.stop()


@contextmanager
def site(answers: str = "") -> Iterator[Site]:
    """A place to measure in, gone afterwards. `answers` are further locations of the authorization server."""
    with tempfile.TemporaryDirectory(prefix="phantom-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        made = Site(folder, answers)
        try:
            yield made
        finally:
            made.stop()


@dataclass
class Slice:
    """The measurements of one variant under load."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    # CPU time per request, in microseconds: of the threads that run nginx, and of the others.
    worker_us: float
    thread_us: float

    @property
    def cpu_us(self) -> float:
        return self.worker_us + self.thread_us


@dataclass
class Load:
    """Requests of one kind: `path`, each with a token named by a number below `tokens`."""

    path: str
    tokens: int
    # Each token once, from here on, rather than in a random order.
    begin: int | None = None


class Client:
    """wrk, and the accounting of the workers that it loads."""

    def __init__(self, gateway: Nginx, connections: int) -> None:
        self.gateway = gateway
        self.connections = connections
        self.script = gateway.folder / "wrk.lua"
        self.random = random.Random(1)

    def pin(self, wanted: bool = True) -> None:
        """Gives a single worker a processor for itself, and the others to all else. With several workers, or if it is not
        wanted, the system decides."""
        everywhere = os.sched_getaffinity(0)
        workers = self.gateway.workers()
        if not wanted or len(workers) != 1 or len(everywhere) < 2:
            self.others = everywhere
            return
        own = max(everywhere)
        self.others = everywhere - {own}
        for thread in threads(workers[0]):
            os.sched_setaffinity(thread, {own} if thread == workers[0] else self.others)

    def slice(self, load: Load, seconds: float, script: str | None = None) -> Slice:
        """Loads the gateway for so long, with requests that `script` makes if not with the usual ones."""
        before = cpu_times(self.gateway.workers())
        output = self.wrk(load, seconds, script or REQUESTS)
        after = cpu_times(self.gateway.workers())
        requests = int(re.search(r"(\d+) requests in", output)[1])

        def percentile(which: str) -> float:
            value, unit = re.search(rf"{which}%\s+([\d.]+)(us|ms|s)", output).groups()
            return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]

        worker, thread = (
            sum(after[key] - before.get(key, 0) for key in after if (key[0] == key[1]) == own) / 1000 / requests
            for own in (True, False)
        )
        return Slice(
            requests,
            float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]),
            percentile("50"),
            percentile("99"),
            worker,
            thread,
        )

    def each_once(self, path: str, begin: int, end: int) -> Slice:
        """Asks for the tokens from `begin` on, up to `end`, once each."""
        if begin >= end:
            raise ValueError("nothing to ask for")
        return self.slice(Load(path, end, begin), 3600)

    def said(self, load: Load, seconds: float) -> dict[str, float]:
        """Which part of the answers says what in their header `X-Cache`."""
        output = self.wrk(load, seconds, REQUESTS + ANSWERS)
        counts = {name: int(count) for name, count in re.findall(r"^X-Cache (\S+) (\d+)$", output, re.MULTILINE)}
        return {name: count / sum(counts.values()) for name, count in counts.items()}

    def wrk(self, load: Load, seconds: float, script: str) -> str:
        done = self.gateway.folder / "done"
        done.unlink(missing_ok=True)
        values = {
            "path": load.path,
            "tokens": load.tokens,
            "begin": -1 if load.begin is None else load.begin,
            "seed": self.random.randrange(1 << 30),
            "done": done,
        }
        self.script.write_text(re.sub(r"\$(\w+)", lambda name: str(values[name[1]]), script))
        process = subprocess.Popen(
            [
                "wrk",
                "--latency",
                "--threads=1",
                f"--connections={self.connections}",
                f"--duration={seconds:.0f}s",
                "--timeout=30s",
                f"--script={self.script}",
                f"http://127.0.0.1:{self.gateway.port}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, self.others),
        )
        try:
            while load.begin is not None and process.poll() is None:
                # It has no end of its own.
                if done.exists():
                    process.send_signal(signal.SIGINT)
                    break
                time.sleep(0.05)
            output, _ = process.communicate(timeout=seconds + 60)
        finally:
            process.kill()
        if process.returncode != 0 or "Non-2xx" in output or "Socket errors" in output:
            sys.exit(f"requests failed:\n{output}\n{self.gateway.log()}")
        return output


# Random numbers differ from slice to slice: with the same ones, the same few tokens would be asked for each time.
REQUESTS = """
local head = "GET $path HTTP/1.1\\r\\nHost: bench\\r\\nAuthorization: Bearer "
local tokens, next, format = $tokens, $begin, string.format
math.randomseed($seed)
if next < 0 then
    function request()
        return head .. format("%032d", math.random(0, tokens - 1)) .. "\\r\\n\\r\\n"
    end
else
    function request()
        if next == tokens + 1000 then
            io.open("$done", "w"):close()
        end
        next = next + 1
        return head .. format("%032d", (next - 1) % tokens) .. "\\r\\n\\r\\n"
    end
end
"""

ANSWERS = """
local all = {}
function setup(thread) table.insert(all, thread) end
counts = ""
local seen = {}
function response(status, headers)
    local what = headers["X-Cache"] or "none"
    seen[what] = (seen[what] or 0) + 1
    counts = ""
    for name, count in pairs(seen) do counts = counts .. "X-Cache " .. name .. " " .. count .. "\\n" end
end
function done()
    for _, thread in ipairs(all) do print(thread:get("counts")) end
end
"""


def threads(process: int) -> list[int]:
    return [int(task.name) for task in Path(f"/proc/{process}/task").iterdir()]


def cpu_times(processes: Sequence[int]) -> dict[tuple[int, int], int]:
    """Nanoseconds of CPU time, by process and thread."""
    return {
        (process, thread): int(Path(f"/proc/{process}/task/{thread}/schedstat").read_text().split()[0])
        for process in processes
        for thread in threads(process)
    }


def rounds(count: int, variants: Sequence[str], measure: Callable[[str], Slice]) -> list[dict[str, Slice]]:
    """Measures each variant once a round, in another order each time: nobody is always first."""
    done = []
    for number in range(count):
        turn = number % len(variants)
        order = [*variants[turn:], *variants[:turn]]
        if number // len(variants) % 2:
            order.reverse()
        done.append({variant: measure(variant) for variant in order})
    return done


@dataclass
class Difference:
    """The cost over `plain`, in microseconds per request: the median and its 95 % confidence interval."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, done: Sequence[dict[str, Slice]], variant: str, figure: str, plain: str = "plain") -> "Difference":
        found = [getattr(one[variant], figure) - getattr(one[plain], figure) for one in done]
        chance = random.Random(1)
        medians = sorted(statistics.median(chance.choices(found, k=len(found))) for _ in range(2000))
        return cls(statistics.median(found), medians[50], medians[-51])

    def __str__(self) -> str:
        return f"{self.median:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def median(done: Sequence[dict[str, Slice]], variant: str, figure: str) -> float:
    return statistics.median(getattr(one[variant], figure) for one in done)


def ratio(done: Sequence[dict[str, Slice]], variant: str, figure: str, plain: str = "plain") -> float:
    """The median of the ratios to `plain` within the rounds."""
    return statistics.median(getattr(one[variant], figure) / getattr(one[plain], figure) for one in done)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in (header, *rows))
