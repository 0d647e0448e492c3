"""A FastCGI responder that keeps the parameters it is given."""

import struct

from .api import TcpServer

_BEGIN, _END, _PARAMS, _STDIN, _STDOUT = 1, 3, 4, 5, 6


class FastCgi(TcpServer):
    """Answers every request with 200 and `hello`, or with the bytes in `answer`."""

    def __init__(self):
        self.requests = []
        self.answer = None
        super().__init__()

    def serve(self, sock):
        stream = sock.makefile("rb")
        params = b""
        while True:
            header = stream.read(8)
            if len(header) < 8:
                return
            _, kind, request, length, padding = struct.unpack(">BBHHBx", header)
            content = stream.read(length)
            stream.read(padding)
            if kind == _BEGIN:
                params = b""
            elif kind == _PARAMS:
                params += content
            elif kind == _STDIN and not content:
                self.requests.append(_pairs(params))
                out = self.answer or b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"
                sock.sendall(
                    _record(_STDOUT, request, out)
                    + _record(_STDOUT, request, b"")
                    + _record(_END, request, struct.pack(">IB3x", 0, 0))
                )
                return


def _record(kind, request, content):
    return struct.pack(">BBHHBx", 1, kind, request, len(content), 0) + content


def _pairs(data):
    """Name-value pairs as a list, for a name can come twice."""
    found, at = [], 0

    def length():
        nonlocal at
        if data[at] < 128:
            at += 1
            return data[at - 1]
        at += 4
        return struct.unpack(">I", data[at - 4 : at])[0] & 0x7FFF_FFFF

    while at < len(data):
        name, value = length(), length()
        found.append((data[at : at + name].decode("latin-1"), data[at + name : at + name + value].decode("latin-1")))
        at += name + value
    return found
