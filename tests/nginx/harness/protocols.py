"""One gateway for HTTP/1.1, HTTP/2 and HTTP/3 over TLS, and a client for each."""

import ssl

import pytest
import trustme

from .client import Http1, Http2
from .http3 import Http3
from .nginx import has_http3

ONLY_WITH_HTTP3 = pytest.mark.skipif(not has_http3(), reason="this nginx is built without HTTP/3")

# The protocols of this nginx.
SPOKEN = ["HTTP/1.1", "HTTP/2", *(["HTTP/3"] if has_http3() else [])]

EACH_PROTOCOL = pytest.mark.parametrize(
    "protocol", ["HTTP/1.1", "HTTP/2", pytest.param("HTTP/3", marks=ONLY_WITH_HTTP3)]
)


class Front:
    """The TLS side of a gateway: its certificate, its listeners, and connections to it."""

    def __init__(self):
        self.ca = trustme.CA()
        self.own = self.ca.issue_cert("localhost")

    @property
    def listen(self):
        """The parameters of the listener on TCP."""
        return "ssl http2"

    def server(self, quic="reuseport"):
        """The directives of the server block."""
        listener = f"listen @listen@ quic {quic};" if has_http3() else ""
        return f"{listener} ssl_certificate own.pem; ssl_certificate_key own.key;"

    def files(self):
        return {
            "own.pem": _pem(self.own),
            "own.key": self.own.private_key_pem.bytes(),
            "ca.pem": self.ca.cert_pem.bytes(),
        }

    def connect(self, nginx, protocol="HTTP/3", certificate=None):
        """A connection over one of the protocols."""
        if protocol == "HTTP/3":
            return Http3(nginx.port, self.ca, certificate)
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        context.set_alpn_protocols(["h2" if protocol == "HTTP/2" else "http/1.1"])
        if certificate is not None:
            certificate.configure_cert(context)
        return (Http2 if protocol == "HTTP/2" else Http1)(nginx.port, tls=context)

    def ask(self, nginx, protocol, method="GET", target="/", **how):
        """One request on a connection of its own."""
        if protocol != "HTTP/1.1":
            how["headers"] = [(name.lower(), value) for name, value in how.get("headers", ())]
        with self.connect(nginx, protocol) as client:
            return client.request(method, target, **how)


def _pem(certificate):
    return b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
