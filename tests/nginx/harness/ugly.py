"""An authorization server that answers with any bytes that a test chooses."""

import base64
import socket
import struct
import threading
import time
import urllib.parse

import jwt as pyjwt

from .api import Connection, TcpServer
from .wait import until

_KEY = "a key of the ugly authorization server, of no worth"


class Exchange:
    """One call to the introspection endpoint and the way to answer it."""

    def __init__(self, server, sock, request):
        self.server = server
        self.sock = sock
        self.request = request
        self.finished = False
        self.form = urllib.parse.parse_qs(request.body.decode("latin-1"), keep_blank_values=True)
        self.token = self.form.get("token", [""])[0]

    def send(self, data):
        """Sends bytes as they are."""
        self.sock.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))

    def drip(self, data, pause):
        """Sends one byte at a time."""
        for byte in data:
            self.send(bytes([byte]))
            if self.server.stopping.wait(pause):
                return

    def reply(self, status=200, body=b"", content_type="application/jwt", headers=(), length=True):
        """Sends a well-formed answer."""
        body = body if isinstance(body, bytes) else body.encode()
        lines = [f"HTTP/1.1 {status} Whatever"]
        if content_type:
            lines.append(f"Content-Type: {content_type}")
        if length:
            lines.append(f"Content-Length: {len(body)}")
        lines += headers
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode() + body)

    def jwt(self, **claims):
        """A JWT for the token of this call."""
        return self.server.jwt_for(self.token, **claims)

    def active(self, headers=(), **claims):
        """Answers with the JWT."""
        self.reply(body=self.jwt(**claims), headers=headers)

    def inactive(self, headers=()):
        """Answers as RFC 7662 does for a token that is not active."""
        self.reply(body=b'{"active":false}', content_type="application/json", headers=headers)

    def close(self):
        """Closes the connection in order."""
        self.finished = True

    def reset(self):
        """Closes the connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.finished = True

    def hang(self):
        """Never answers."""
        self.server.stopping.wait(120)
        self.finished = True


class UglyServer(TcpServer):
    """Gives every call to `answer(exchange)`, which may be exchanged at any time."""

    def __init__(self, secrets, answer=Exchange.active):
        self.secrets = secrets
        self.answer = answer
        self.calls = []
        self.released = threading.Event()
        self._jwts = {}
        super().__init__()

    @property
    def url(self):
        return f"http://{self.address}/introspect"

    def serve(self, sock):
        connection = Connection(sock)
        while True:
            exchange = Exchange(self, sock, connection.request())
            with self._lock:
                self.calls.append(exchange)
            self.answer(exchange)
            if exchange.finished:
                return

    def jwt_for(self, token, **claims):
        """The JWT that stands for `token`: always the same for the same claims."""
        key = (token, repr(sorted(claims.items())))
        with self._lock:
            if key not in self._jwts:
                payload = {"iss": "ugly", "sub": f"of {token[-8:]}", "exp": int(time.time()) + 3600, "scope": "read"}
                # A claim of None is left out.
                payload = {name: value for name, value in (payload | claims).items() if value is not None}
                self._jwts[key] = pyjwt.encode(payload, _KEY, algorithm="HS256")
            jwt = self._jwts[key]
        self.secrets.add_jwt(jwt)
        return jwt

    def calls_for(self, token):
        """How often `token` was asked about."""
        with self._lock:
            return sum(1 for call in self.calls if call.token == token)

    def wait_calls(self, count=1):
        """Waits until the endpoint has been called `count` times."""
        until(lambda: len(self.calls) >= count, f"the authorization server has been asked {count} times")

    def holding(self, then=Exchange.active):
        """An answer that comes only after `release`."""
        self.released.clear()

        def answer(exchange):
            deadline = time.monotonic() + 60
            while not self.released.wait(0.05):
                if self.stopping.is_set() or time.monotonic() > deadline:
                    exchange.finished = True
                    return
            then(exchange)

        return answer

    def release(self):
        """Lets the answers of `holding` go."""
        self.released.set()


class FullBacklog:
    """Listens, but the kernel has no room for one more connection: connecting takes for ever."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        self._fill = []
        # One or two fit; further ones stay in SYN-SENT, as the module's will.
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", self.port))
            self._fill.append(sock)
        time.sleep(0.05)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/introspect"

    def stop(self):
        for sock in (*self._fill, self.listener):
            sock.close()


def basic_credentials(exchange):
    """Who called, by the Authorization header of HTTP Basic, form-decoded (RFC 6749 §2.3.1)."""
    scheme, _, value = exchange.request.value("authorization").partition(" ")
    assert scheme == "Basic", scheme
    client_id, _, secret = base64.b64decode(value).decode().partition(":")
    return urllib.parse.unquote_plus(client_id), urllib.parse.unquote_plus(secret)
