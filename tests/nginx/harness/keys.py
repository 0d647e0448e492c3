"""Keys, and JWTs read with libraries that are not ours."""

import base64
import json
import threading
from functools import cache

import jwt as pyjwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm


_lock = threading.Lock()


def private_key(algorithm, name=""):
    """A private key for an algorithm; another one for each name."""
    # Servers ask on threads of their own, and two keys of one name would be one too many.
    with _lock:
        return _private_key(algorithm, name)


@cache
def _private_key(algorithm, name):
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


def private_pem(algorithm, name=""):
    """The same key as PEM (PKCS #8)."""
    return private_key(algorithm, name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_jwk(algorithm, kid, name=""):
    """Its public half as a JWK."""
    kind = {"ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}.get(algorithm, RSAAlgorithm)
    jwk = json.loads(kind.to_jwk(private_key(algorithm, name).public_key()))
    return {**jwk, "kid": kid, "use": "sig", "alg": algorithm}


def verified(jwt, jwks, **wanted):
    """The claims of a JWT that one of the keys of a JWKS has signed; a failure if none has."""
    kid = pyjwt.get_unverified_header(jwt)["kid"]
    key = next(key for key in pyjwt.PyJWKSet.from_dict(jwks).keys if key.key_id == kid)
    algorithms = [pyjwt.get_unverified_header(jwt)["alg"]]
    assert algorithms[0] in ("ES256", "EdDSA", "PS256", "RS256")
    options = {"verify_aud": "audience" in wanted}
    # The bare key: PyJWT would take an RSA key of no named algorithm for one of RS256 alone.
    return pyjwt.decode(jwt, key.key, algorithms=algorithms, options=options, **wanted)


def header_of(jwt):
    """The header of a JWT."""
    part = jwt.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
