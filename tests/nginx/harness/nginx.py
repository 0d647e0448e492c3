"""A real nginx with the module, in a folder of its own, on free ports."""

import functools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from .secrets import without_header_dumps
from .wait import PATIENCE, until

ROOT = Path(__file__).resolve().parents[3]

# The root folder that nginx runs in, if that is not this system's: of another release of Debian, say. It has /tmp, /proc
# and this checkout at the same paths, so that everything but the binary is the same.
NGINX_ROOT = os.environ.get("NGINX_ROOT") or "/"

# A command that runs in there.
IN_ROOT = [] if NGINX_ROOT == "/" else ["chroot", NGINX_ROOT]


def which(program):
    """Where a program is in that root folder, if it is there."""
    done = subprocess.run(
        [*IN_ROOT, "/bin/sh", "-c", 'command -v -- "$1"', "sh", program], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None


# The full path: for an upgrade, nginx starts itself again by the name that it was started with.
NGINX = which(os.environ.get("NGINX_BINARY") or "nginx") or "/usr/sbin/nginx"
MODULE = Path(os.environ.get("PHANTOM_TOKEN_MODULE", ROOT / "build/modules/ngx_http_phantom_token_module.so")).resolve()

# How much a server logs unless its test says otherwise. At `debug` every log of the suite is searched for secrets too.
LEVEL = os.environ.get("PHANTOM_LOG_LEVEL", "info")

_ALARMS = re.compile(r"\[(?:alert|emerg|crit)\]|exited on signal|panicked at|AddressSanitizer")
_LISTEN = re.compile(r"@(listen|port)(?::(\w+))?@")
_LISTEN_HTTP2 = re.compile(r"(\blisten\s[^;]*?)\s+http2\b([^;]*;)")


@functools.cache
def version():
    """The version of nginx: `(1, 22, 1)`. What differs between versions is asserted by it."""
    said = subprocess.run([*IN_ROOT, NGINX, "-v"], capture_output=True, text=True, timeout=60, check=True).stderr
    return tuple(int(part) for part in re.search(r"nginx/([0-9.]+)", said)[1].split("."))


def connection_to_an_api():
    """The `Connection` header of a request to an API, if there is one: connections are kept by default since 1.29.7."""
    return [] if version() >= (1, 29, 7) else [("Connection", "close")]


@functools.cache
def has_http3():
    """Whether this nginx speaks HTTP/3: Debian 12's does not."""
    done = subprocess.run([*IN_ROOT, NGINX, "-V"], capture_output=True, text=True, timeout=60, check=False)
    return "--with-http_v3_module" in done.stderr


def free_port():
    """A port that nothing listens on, below the range from which the kernel takes those of connections."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def processes(parent):
    """The children of a process: `{pid: title}`."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return {}
    titles = {}
    for pid in children:
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        if title:
            titles[int(pid)] = title
    return titles


def unread(port):
    """How many bytes have come for a port of this machine, and wait for its process to read them."""
    count = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if local.endswith(f":{port:04X}") and state == "01":
            count += int(queues.partition(":")[2], 16)
    return count


def threads(pid):
    """How many threads a process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def descriptors(pid):
    """The target of each open file descriptor of a process."""
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
    return found


def resident_bytes(pid):
    """The resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no VmRSS for process {pid}")


class Configuration:
    """A folder with an nginx.conf.

    In `http` and `main`, `@listen@` stands for the address and port of the server under test, `@listen:name@`
    for further ones, `@port@` and `@port:name@` for the port alone, and `@dir@` for the folder itself.
    """

    def __init__(
        self, http, *, main="", events="", workers=1, master=True, daemon=False, level=LEVEL, files=None, quiet=False
    ):
        self.dir = Path(tempfile.mkdtemp(prefix="phantom-nginx-"))
        # The worker is an unprivileged user and reads what a test puts here.
        self.dir.chmod(0o755)
        self.path = self.dir / "nginx.conf"
        self.error_log = self.dir / "error.log"
        self.access_log = self.dir / "access.log"
        self.pid_file = self.dir / "nginx.pid"
        self.ports = {}
        self._parts = (http, main, events, workers, master, daemon, level, quiet)
        (self.dir / "html").mkdir()
        for name, content in (files or {}).items():
            path = self.dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            if "secret" in name:
                path.chmod(0o600)
        self.write()

    def write(self, http=None):
        """Writes nginx.conf, for a reload with another `http` if one is given."""
        parts = list(self._parts)
        if http is not None:
            parts[0] = http
            self._parts = tuple(parts)
        http, main, events, workers, master, daemon, level, quiet = parts
        log = f"access_log {'off' if quiet else 'access.log combined_phantom'};"
        text = f"""\
load_module {MODULE};
worker_processes {workers};
daemon {"on" if daemon else "off"};
master_process {"on" if master else "off"};
pid nginx.pid;
error_log error.log {level};
{main}
events {{ worker_connections 1024; {events} }}
http {{
    log_format combined_phantom '$request_method $uri $status result=$phantom_token_result '
                                'cache=$phantom_token_cache time=$phantom_token_time '
                                'sent=$body_bytes_sent protocol=$server_protocol';
    {log}
    client_body_temp_path temp_body;
    proxy_temp_path temp_proxy;
    fastcgi_temp_path temp_fastcgi;
    scgi_temp_path temp_scgi;
    uwsgi_temp_path temp_uwsgi;
    root html;
    keepalive_timeout 60s;
    lingering_timeout 1s;
{http}
}}
"""
        # Tests say it in the way that every version knows; later ones complain of it.
        if version() >= (1, 25, 1):
            text = _LISTEN_HTTP2.sub(r"\1\2 http2 on;", text)
        self.path.write_text(self.expand(text))

    def expand(self, text):
        """`text` with the placeholders of this configuration filled in."""

        def address(match):
            kind, name = match.groups()
            port = self.ports.setdefault(name, 0) or free_port()
            self.ports[name] = port
            return f"127.0.0.1:{port}" if kind == "listen" else str(port)

        return _LISTEN.sub(address, text).replace("@dir@", str(self.dir))

    def command(self, *arguments):
        return [*IN_ROOT, *self.runner(), NGINX, "-p", f"{self.dir}/", "-c", str(self.path), "-e", str(self.error_log), *arguments]

    def runner(self):
        """The command prefix that runs nginx: it takes nginx and its arguments."""
        return []

    def check(self):
        """Runs `nginx -t`: its exit code and its output."""
        done = subprocess.run(self.command("-t"), capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stderr

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


class NginxServer(Configuration):
    """A running nginx. `alarms_allowed` is a pattern of log lines at `alert` and above that a test brings about."""

    # For how long its start is waited for, in seconds.
    patience = PATIENCE

    def __init__(self, http, *, secrets, alarms_allowed=None, **settings):
        super().__init__(http, **settings)
        self.secrets = secrets
        self.alarms_allowed = alarms_allowed
        self.process = None
        self.pid = None
        self._daemon = settings.get("daemon", False)
        self._start()

    @property
    def port(self):
        return self.ports[None]

    def _start(self):
        for _ in range(5):
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            if self._daemon:
                _, stderr = self.process.communicate(timeout=60)
                if self.process.returncode == 0:
                    self.pid = until(self._read_pid, "the daemon has written its pid file")
            else:
                stderr = b"" if self._wait_listening() else self.process.stderr.read()
                self.pid = self.process.pid if self.process.poll() is None else None
            if self.pid:
                self._wait_listening()
                return
            if b"Address already in use" not in stderr:
                break
            # Somebody else took the port between our look and nginx's bind.
            self.ports.clear()
            self.error_log.unlink(missing_ok=True)
            self.write()
        words = stderr.decode(errors="replace")
        self.remove()
        raise AssertionError(f"nginx did not start:\n{words}")

    def _read_pid(self):
        try:
            return int(self.pid_file.read_text())
        except (OSError, ValueError):
            return None

    def _wait_listening(self):
        def listening():
            if self.process.poll() is not None and not self._daemon:
                return "gone"
            for port in self.ports.values():
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                except OSError:
                    return None
            return "listening"

        return until(listening, "nginx listens", self.patience) == "listening"

    def alive(self):
        return os.path.exists(f"/proc/{self.pid}") and not self._is_zombie()

    def _is_zombie(self):
        return not self._daemon and self.process.poll() is not None

    def children(self):
        return processes(self.pid)

    def workers(self):
        """The pids of the workers that serve, without those that are on their way out."""
        titles = self.children()
        return [pid for pid, title in titles.items() if title == "nginx: worker process"]

    def worker(self):
        """The pid of the only worker."""
        return until(
            lambda: (lambda found: found[0] if len(found) == 1 else None)(self.workers()), "there is one worker"
        )

    def signal(self, number):
        os.kill(self.pid, number)

    def reload(self):
        """Reloads and waits until the former workers have gone."""
        # By the process and not by its title, which a worker gives itself a moment after it is there.
        before = set(until(self.children, "there is a worker"))
        self.signal(signal.SIGHUP)
        until(
            lambda: (after := set(self.children())) and not (before & after) and self.workers(),
            "the former workers have gone",
        )

    def quit(self):
        """Asks for a graceful end, as `nginx -s quit` does."""
        self.signal(signal.SIGQUIT)

    def upgrade(self):
        """Starts another master from the binary, as nginx does for a daemon only. It is looked after from now on;
        gives the pid of the former one, which still serves.
        """
        former = self.pid
        self.signal(signal.SIGUSR2)
        self.pid = until(
            lambda: (pid := self._read_pid()) and pid != former and processes(pid) and pid, "there is a new master"
        )
        return former

    def wait_gone(self, timeout=30):
        if self._daemon:
            until(lambda: not os.path.exists(f"/proc/{self.pid}"), "nginx has ended", timeout)
        else:
            self.process.wait(timeout)

    def log(self):
        """All of the error log so far."""
        try:
            return self.error_log.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def log_lines(self, pattern):
        """The lines of the error log in which `pattern` is found."""
        return [line for line in self.log().splitlines() if re.search(pattern, line)]

    def only_line(self, pattern):
        """The one line of the error log in which `pattern` is found. It may come a moment after the answer."""
        until(lambda: self.log_lines(pattern), f"the error log has a line with {pattern!r}")
        lines = self.log_lines(pattern)
        assert len(lines) == 1, lines
        return lines[0]

    def access_lines(self):
        try:
            return self.access_log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def wait_access(self, pattern, count=1):
        """Waits until `count` lines of the access log match, and gives them."""

        def enough():
            lines = [line for line in self.access_lines() if re.search(pattern, line)]
            return lines if len(lines) >= count else None

        return until(enough, f"the access log has {count} of {pattern!r}")

    def stop(self):
        """Ends nginx; fails if it does not end, or if what it logged is not fit to be read."""
        problems = []
        if self.alive():
            self.signal(signal.SIGTERM)
            try:
                self.wait_gone()
            except (subprocess.TimeoutExpired, AssertionError):
                problems.append("nginx did not end within 30 s of SIGTERM")
                for pid in [*self.children(), self.pid]:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                time.sleep(0.2)
        if self.process is not None:
            if self.process.stderr:
                self.process.stderr.close()
            self.process.poll()
        log = self.log()
        for line in log.splitlines():
            if _ALARMS.search(line) and not (self.alarms_allowed and re.search(self.alarms_allowed, line)):
                problems.append(f"logged: {line}")
        found = self.secrets.found_in(without_header_dumps(log))
        if found:
            problems.append(f"the error log shows secrets: {found}")
            problems.extend(
                f"here: {line}" for line in without_header_dumps(log).splitlines() if any(one in line for one in found)
            )
        self.remove()
        assert not problems, "\n".join(problems)
