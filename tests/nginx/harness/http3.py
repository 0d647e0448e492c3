"""A client of HTTP/3 (RFC 9114), on the QUIC of aioquic."""

import socket
import time

from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamReset
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .client import TIMEOUT, Answer


class Http3:
    """One connection of HTTP/3. `ca` is trustme's, whose certificate nginx shows; `certificate` one of its own that the
    client shows. Nothing happens on the connection but while one of the methods runs.
    """

    def __init__(self, port, ca, certificate=None, server_name="localhost"):
        configuration = QuicConfiguration(
            is_client=True, alpn_protocols=H3_ALPN, server_name=server_name, idle_timeout=2 * TIMEOUT
        )
        configuration.load_verify_locations(cadata=ca.cert_pem.bytes())
        if certificate is not None:
            chain = [x509.load_pem_x509_certificate(blob.bytes()) for blob in certificate.cert_chain_pems]
            configuration.certificate, *configuration.certificate_chain = chain
            configuration.private_key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._peer = ("127.0.0.1", port)
        self.sock.connect(self._peer)
        self.quic = QuicConnection(configuration=configuration)
        self.h3 = H3Connection(self.quic)
        self.answers = {}
        self.ended = set()
        self.resets = {}
        self.closed = None
        self._handshaken = False
        self.quic.connect(self._peer, time.monotonic())
        self._flush()
        self.pump_until(lambda: self._handshaken)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the connection and says so (CONNECTION_CLOSE)."""
        if self.sock.fileno() < 0:
            return
        self.quic.close(ErrorCode.H3_NO_ERROR)
        self._flush()
        self.sock.close()

    def vanish(self):
        """Is gone, without a word."""
        self.sock.close()

    def _flush(self):
        for data, _ in self.quic.datagrams_to_send(time.monotonic()):
            try:
                self.sock.send(data)
            except ConnectionRefusedError:
                # Of a datagram before: nobody listens any more. What is lost is sent again.
                pass

    def fields(self, method="GET", target="/", token=None, headers=(), authority="gateway", scheme="https"):
        """The fields of a request. What is None is left out."""
        pseudo = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", target)]
        fields = [(name, value) for name, value in pseudo if value is not None]
        if token is not None:
            fields.append(("authorization", f"Bearer {token}"))
        return [*fields, *headers]

    def send(self, method="GET", target="/", *, body=b"", **how):
        """Sends a request and gives its stream. A long body goes on its way as the gateway takes it, while one waits."""
        return self.send_fields(self.fields(method, target, **how), body)

    def send_fields(self, fields, body=b"", end=True):
        """Sends a request of these fields, whatever they are."""
        stream = self.quic.get_next_available_stream_id()
        encoded = [(_bytes(name), _bytes(value)) for name, value in fields]
        self.h3.send_headers(stream, encoded, end_stream=end and not body)
        if body:
            self.h3.send_data(stream, body, end_stream=end)
        self._flush()
        return stream

    def send_body(self, stream, body, end=True):
        """Sends more of a request's body."""
        self.h3.send_data(stream, body, end_stream=end)
        self._flush()

    def reset(self, stream, sending=True):
        """Gives a stream up: the answer (STOP_SENDING), and what is not sent yet of the request (RESET_STREAM)."""
        if sending:
            self.quic.reset_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
        self.quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
        self._flush()

    def pump(self, timeout=TIMEOUT):
        """Waits for a datagram, or for what QUIC has to do meanwhile, and notes what happened."""
        now = time.monotonic()
        timer = self.quic.get_timer()
        wait = timeout if timer is None else min(timeout, timer - now)
        self.sock.settimeout(max(wait, 0.001))
        try:
            data = self.sock.recv(65536)
            self.quic.receive_datagram(data, self._peer, time.monotonic())
        except TimeoutError:
            pass
        except ConnectionRefusedError:
            time.sleep(0.01)
        timer = self.quic.get_timer()
        if timer is not None and timer <= time.monotonic():
            self.quic.handle_timer(time.monotonic())
        self._note()
        self._flush()

    def _note(self):
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self._handshaken = True
            elif isinstance(event, StreamReset):
                self.resets[event.stream_id] = event.error_code
            elif isinstance(event, ConnectionTerminated):
                self.closed = event
            for message in self.h3.handle_event(event):
                if isinstance(message, HeadersReceived):
                    self._head(message)
                elif isinstance(message, DataReceived):
                    self.answers[message.stream_id].body += message.data
                if getattr(message, "stream_ended", False):
                    self.ended.add(message.stream_id)

    def _head(self, message):
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.headers]
        status = [int(value) for name, value in fields if name == ":status"]
        # Trailers have none; a final answer takes the place of one of 1xx.
        if status:
            headers = [field for field in fields if field[0] != ":status"]
            self.answers[message.stream_id] = Answer(status[0], headers)

    def pump_until(self, done, timeout=TIMEOUT):
        """Waits until `done()`."""
        deadline = time.monotonic() + timeout
        while not done():
            if self.closed is not None:
                raise EOFError(f"the gateway closed the connection: {self.closed}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("nothing has come")
            self.pump(left)

    def head(self, stream):
        """Waits for the headers of the answer."""
        self.pump_until(lambda: stream in self.answers or stream in self.resets)
        return self.answers.get(stream)

    def read(self, stream):
        """Waits for the whole answer; None if the gateway has reset the stream before it began."""
        self.pump_until(lambda: stream in self.ended or stream in self.resets)
        return self.answers.get(stream)

    def request(self, method="GET", target="/", **how):
        return self.read(self.send(method, target, **how))


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")
