"""Many connections at once, and load that goes on while a test does something else."""

import base64
import json
import resource
import selectors
import socket
import threading
import time

from .client import Answer, Http1


def allow_files(count):
    """Lets this process, and those that it starts, have so many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard))


def claims_of(authorization):
    """The claims of the JWT in a header's value."""
    payload = authorization.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


class _Member:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.sock.setblocking(False)
        self.buffer = b""
        # The process at the other end, once it has said so.
        self.worker = None

    def answer(self):
        """The answer, once it is whole."""
        head, mark, rest = self.buffer.partition(b"\r\n\r\n")
        if not mark:
            return None
        lines = head.decode("latin-1").split("\r\n")
        headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:]]
        answer = Answer(int(lines[0].split(" ")[1]), headers)
        length = int(answer.value("Content-Length") or 0)
        if len(rest) < length:
            return None
        answer.body, self.buffer = rest[:length], rest[length:]
        return answer


class Crowd:
    """Connections that are kept open, and asked all at once."""

    def __init__(self, port, count):
        allow_files(count + 500)
        self.members = [_Member(port) for _ in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            member.sock.close()

    def ask(self, target="/", token=None, method="GET", body=b"", members=None, meanwhile=None, timeout=60):
        """One request on each connection; the answers in the same order, None where the connection was lost.
        `meanwhile` is called once all have been sent.
        """
        members = self.members if members is None else members
        request = f"{method} {target} HTTP/1.1\r\nHost: gateway\r\n"
        if token is not None:
            request += f"Authorization: Bearer {token}\r\n"
        if body:
            request += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        request = request.encode() + b"\r\n" + body
        answers = dict.fromkeys(members)
        with selectors.DefaultSelector() as selector:
            waiting = 0
            for member in members:
                try:
                    member.sock.sendall(request)
                except OSError:
                    continue
                selector.register(member.sock, selectors.EVENT_READ, member)
                waiting += 1
            if meanwhile:
                meanwhile()
            deadline = time.monotonic() + timeout
            while waiting:
                ready = selector.select(deadline - time.monotonic())
                assert ready, f"{waiting} connections have no answer after {timeout} s"
                for key, _ in ready:
                    member = key.data
                    try:
                        data = member.sock.recv(65536)
                    except BlockingIOError:
                        continue
                    except OSError:
                        data = b""
                    member.buffer += data
                    answers[member] = member.answer()
                    if answers[member] or not data:
                        selector.unregister(member.sock)
                        waiting -= 1
        return [answers[member] for member in members]

    def find_workers(self, target="/who"):
        """Asks each connection which process is at its other end: the body of the answer."""
        for member, answer in zip(self.members, self.ask(target), strict=True):
            member.worker = int(answer.body)
        return {member.worker for member in self.members}

    def one_per_worker(self):
        """A connection to each worker."""
        return list({member.worker: member for member in self.members}.values())


class Load:
    """Threads that ask again and again until `stop`. `ask(number)` is one request by the thread of that number; what
    it raises beyond a lost connection ends the test that stops the load.
    """

    def __init__(self, ask, threads=2):
        self.asked = 0
        self.lost = 0
        self._ask = ask
        self._problems = []
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, number):
        try:
            while not self._ended.is_set():
                lost = 0
                try:
                    self._ask(number)
                except (ConnectionError, EOFError):
                    lost = 1
                with self._lock:
                    self.asked += 1
                    self.lost += lost
        except BaseException as problem:  # noqa: BLE001
            self._problems.append(problem)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
        # Also when the test has failed: it may have waited in vain for what these threads no longer did.
        if self._problems:
            raise self._problems[0]


class Caller:
    """A connection for each thread, which is opened again when it is lost."""

    def __init__(self, port):
        self._port = port
        self._local = threading.local()

    def request(self, *arguments, **how):
        if getattr(self._local, "client", None) is None:
            self._local.client = Http1(self._port)
        try:
            return self._local.client.request(*arguments, **how)
        except (ConnectionError, EOFError):
            self._local.client.close()
            self._local.client = None
            raise
