"""A client whose tokens are bound to its key: proofs as PyJWT makes them (RFC 9449), and thumbprints."""

import base64
import hashlib
import json
import time
import uuid

import jwt as pyjwt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from .keys import private_key, public_jwk

_REQUIRED = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sha256(text):
    """The SHA-256 of a text or of bytes, in base64url."""
    return base64url(hashlib.sha256(text if isinstance(text, bytes) else text.encode()).digest())


class Sender:
    """A client with a key of its own; another one for each name."""

    def __init__(self, algorithm="ES256", name="a sender"):
        self.algorithm = algorithm
        self.key = private_key(algorithm, name)
        jwk = public_jwk(algorithm, "", name)
        self.jwk = {member: jwk[member] for member in _REQUIRED[jwk["kty"]]}

    @property
    def jkt(self):
        """The thumbprint of the key (RFC 7638)."""
        return sha256(json.dumps(self.jwk, separators=(",", ":"), sort_keys=True))

    def proof(self, method, uri, token=None, /, *, header=None, key=None, **claims):
        """A proof for one request. Claims and members of the header may be changed, or taken away with None."""
        payload = {"jti": str(uuid.uuid4()), "htm": method, "htu": uri, "iat": int(time.time())}
        if token is not None:
            payload["ath"] = sha256(token)
        payload = {name: value for name, value in {**payload, **claims}.items() if value is not None}
        header = {"typ": "dpop+jwt", "jwk": self.jwk, **(header or {})}
        header = {name: value for name, value in header.items() if value is not None}
        algorithm = header.pop("alg", self.algorithm)
        return pyjwt.encode(payload, self.key if key is None else key, algorithm=algorithm, headers=header)

    def headers(self, method, uri, token, /, **changes):
        """The headers of a request with the token: `Authorization` and `DPoP`."""
        return [("Authorization", f"DPoP {token}"), ("DPoP", self.proof(method, uri, token, **changes))]


def certificate_thumbprint(pem):
    """The `x5t#S256` of a certificate in PEM (RFC 8705)."""
    return sha256(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER))
