"""The API behind the gateway: records the exact bytes of requests."""

import socket
import threading
from dataclasses import dataclass, field

from .wait import until


@dataclass
class Received:
    """One request as it arrived."""

    head: bytes
    body: bytes = b""
    chunked: bool = False
    headers: list = field(default_factory=list)

    @property
    def method(self):
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self):
        return self.head.split(b" ", 2)[1].decode()

    def values(self, name):
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def value(self, name):
        """The value of a header that must be there exactly once."""
        values = self.values(name)
        assert len(values) == 1, f"{name}: {values}"
        return values[0]


class Connection:
    """A buffered reader of HTTP/1.1 messages."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""

    def more(self):
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self.buffer += data

    def until(self, mark):
        while mark not in self.buffer:
            self.more()
        text, _, self.buffer = self.buffer.partition(mark)
        return text

    def exactly(self, count):
        parts, have = [self.buffer], len(self.buffer)
        while have < count:
            data = self.sock.recv(min(1 << 20, count - have + 65536))
            if not data:
                raise EOFError
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self.buffer = whole[count:]
        return whole[:count]

    def chunks(self):
        body = b""
        while True:
            size = int(self.until(b"\r\n").split(b";")[0], 16)
            body += self.exactly(size)
            if size:
                assert self.exactly(2) == b"\r\n"
            else:
                while self.until(b"\r\n"):
                    pass
                return body

    def headers(self, head):
        found = []
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            found.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
        return found

    def request(self):
        head = self.until(b"\r\n\r\n")
        received = Received(head + b"\r\n\r\n", headers=self.headers(head))
        lengths = received.values("content-length")
        if any("chunked" in value.lower() for value in received.values("transfer-encoding")):
            received.chunked = True
            received.body = self.chunks()
        elif lengths:
            received.body = self.exactly(int(lengths[0]))
        return received


class TcpServer:
    """Accepts on a free port and serves each connection on a thread."""

    def __init__(self, backlog=512):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.port = self.listener.getsockname()[1]
        self.stopping = threading.Event()
        self.connections = 0
        self._open = set()
        self._lock = threading.Lock()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(sock)
            threading.Thread(target=self._guard, args=(sock,), daemon=True).start()

    def _guard(self, sock):
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.serve(sock)
        except (OSError, EOFError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def stop_listening(self):
        """Takes no connection any more, and ends those that there are: what connects is refused."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self.listener.close()
        self.drop_connections()

    def listen_again(self):
        """The same port takes connections again."""
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def serve(self, sock):
        raise NotImplementedError

    def drop_connections(self):
        """Closes every connection that is open."""
        with self._lock:
            sockets = list(self._open)
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self):
        self.stopping.set()
        try:
            # Wakes the thread that accepts; closing alone would not.
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.drop_connections()


class Api(TcpServer):
    """Answers every request with 200 and `hello`, or as `answer` says: bytes by the request."""

    def __init__(self, secrets, answer=None):
        self.secrets = secrets
        self.requests = []
        self.answer = answer
        super().__init__()

    @property
    def url(self):
        return f"http://{self.address}"

    def serve(self, sock):
        connection = Connection(sock)
        while True:
            head = connection.until(b"\r\n\r\n")
            connection.buffer = head + b"\r\n\r\n" + connection.buffer
            if b"100-continue" in head.lower():
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            request = connection.request()
            for value in request.values("authorization"):
                _, _, jwt = value.partition(" ")
                if jwt.count(".") == 2:
                    self.secrets.add_jwt(jwt)
            with self._lock:
                self.requests.append(request)
            answer = self.answer(request) if self.answer else None
            sock.sendall(answer or b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            if answer is None and (
                "close" in " ".join(request.values("connection")) or request.head.split(b"\r\n")[0].endswith(b"1.0")
            ):
                return

    def wait(self, count=1):
        """Waits for `count` requests and gives them all."""
        until(lambda: len(self.requests) >= count, f"the API has received {count} requests")
        return list(self.requests)

    def only(self):
        """The one request that has arrived."""
        assert len(self.requests) == 1, [request.head for request in self.requests]
        return self.requests[0]

    def never_saw(self, token):
        """Fails if `token` is in any byte that arrived."""
        token = token.encode() if isinstance(token, str) else token
        for request in self.requests:
            assert token not in request.head and token not in request.body, request.head
