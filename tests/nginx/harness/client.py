"""Clients: HTTP/1.1 by the byte, and HTTP/2 by the frame."""

import json
import socket
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

from .api import Connection

TIMEOUT = 30


@dataclass
class Answer:
    """An answer of the gateway."""

    status: int
    headers: list = field(default_factory=list)
    body: bytes = b""

    def values(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def value(self, name):
        """A header's value; None if it is absent, a failure if it is there twice."""
        values = self.values(name)
        assert len(values) <= 1, f"{name}: {values}"
        return values[0] if values else None

    def json(self):
        return json.loads(self.body)


class Http1:
    """One connection of HTTP/1.1."""

    def __init__(self, port, timeout=TIMEOUT, tls=None):
        self.sock = _connected(port, timeout, tls)
        self._connection = Connection(self.sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(
        self,
        method="GET",
        target="/",
        token=None,
        headers=(),
        body=b"",
        authorization=None,
        length=True,
        authority="gateway",
        version="HTTP/1.1",
    ):
        """Sends a request. `authorization` is the header's raw value; `token` makes it of a bearer token. An `authority`
        of None leaves `Host` out.
        """
        lines = [f"{method} {target} {version}".encode()]
        if authority is not None:
            lines.append(b"Host: " + _bytes(authority))
        if token is not None:
            authorization = b"Bearer " + _bytes(token)
        if authorization is not None:
            lines.append(b"Authorization: " + _bytes(authorization))
        for name, value in headers:
            lines.append(_bytes(name) + b": " + _bytes(value))
        if body and length:
            lines.append(f"Content-Length: {len(body)}".encode())
        self.sock.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    def read(self, method="GET"):
        """Reads one answer; those of 1xx too."""
        connection = self._connection
        head = connection.until(b"\r\n\r\n")
        answer = Answer(int(head.split(b" ", 2)[1]), connection.headers(head))
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return answer
        if "chunked" in " ".join(answer.values("transfer-encoding")):
            answer.body = connection.chunks()
        elif answer.values("content-length"):
            answer.body = connection.exactly(int(answer.value("content-length")))
        else:
            try:
                while True:
                    connection.more()
            except EOFError:
                answer.body, connection.buffer = connection.buffer, b""
        return answer

    def request(self, method="GET", target="/", **how):
        self.send(method, target, **how)
        return self.read(method)

    def closed_by_peer(self):
        """Whether the gateway has closed the connection without another byte."""
        return self._connection.buffer == b"" and self.sock.recv(1) == b""


def get(port, target="/", method="GET", **how):
    """One request on a connection of its own."""
    with Http1(port) as client:
        return client.request(method, target, **how)


class Http2:
    """One connection of HTTP/2: in clear text with prior knowledge, or with TLS if its context is given."""

    def __init__(self, port, initial_window=None, tls=None):
        self.sock = _connected(port, TIMEOUT, tls)
        config = h2.config.H2Configuration(client_side=True, validate_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        if initial_window is not None:
            values = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: initial_window}
            self.h2.local_settings = h2.settings.Settings(client=True, initial_values=values)
        self.h2.initiate_connection()
        self.answers = {}
        self.ended = set()
        self.resets = {}
        self.automatic_window = initial_window is None
        self._flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def _flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def send(self, method="GET", target="/", token=None, headers=(), body=b"", authority="gateway"):
        """Sends a request and gives its stream. An `authority` of None leaves `:authority` out."""
        fields = [(":method", method), (":path", target), (":scheme", "http")]
        if authority is not None:
            fields.append((":authority", authority))
        if token is not None:
            fields.append(("authorization", f"Bearer {token}"))
        fields += headers
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, fields, end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)
        self._flush()
        return stream

    def reset(self, stream):
        """Gives a stream up (RST_STREAM)."""
        self.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self._flush()

    def open_window(self, stream, size):
        """Lets the gateway send `size` bytes more of a stream."""
        self.h2.increment_flow_control_window(size, stream)
        self._flush()

    def pump(self):
        """Reads once and notes what happened."""
        data = self.sock.recv(65536)
        if not data:
            raise EOFError("the gateway closed the connection")
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                fields = [(_text(name), _text(value)) for name, value in event.headers]
                status = next(int(value) for name, value in fields if name == ":status")
                self.answers[event.stream_id] = Answer(status, [f for f in fields if f[0] != ":status"])
            elif isinstance(event, h2.events.DataReceived):
                self.answers[event.stream_id].body += event.data
                if self.automatic_window:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.resets[event.stream_id] = event.error_code
        self._flush()

    def head(self, stream):
        """Waits for the headers of the answer."""
        while stream not in self.answers and stream not in self.resets:
            self.pump()
        return self.answers.get(stream)

    def read(self, stream):
        """Waits for the whole answer."""
        while stream not in self.ended and stream not in self.resets:
            self.pump()
        return self.answers.get(stream)

    def request(self, method="GET", target="/", **how):
        return self.read(self.send(method, target, **how))


def get2(port, target="/", method="GET", **how):
    """One request over HTTP/2 on a connection of its own."""
    with Http2(port) as client:
        return client.request(method, target, **how)


def _connected(port, timeout, tls):
    sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(sock, server_hostname="localhost") if tls else sock


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode()


def _text(value):
    return value.decode("latin-1") if isinstance(value, bytes) else value
