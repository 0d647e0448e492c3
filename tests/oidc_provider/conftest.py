import shutil
from pathlib import Path

import pytest

pytest.register_assert_rewrite("harness")

from harness.fixtures import *  # noqa: E402, F403
from harness.foreign import Certificates, ForeignServer  # noqa: E402
from harness.keys import public_jwk  # noqa: E402

HERE = Path(__file__).resolve().parent

# Printable ASCII (RFC 6749 appendix A) that §2.3.1 wants form-encoded before base64.
SECRETS = {
    "client_secret_basic": ("gate way+1%:", "s&cret/+ %41:=?~-0123456789"),
    "client_secret_post": ("gate-way&post=1", "p&st/+ %41:=?~-0123456789"),
    # An HMAC key is no shorter than its hash (RFC 7518 §3.2).
    "client_secret_jwt": ("gateway-hmac", "0123456789-s&cret/+ %41:=?~-0123456789"),
}
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")


def clients():
    """Client metadata (RFC 7591): gateways of every kind, and the application whose tokens they ask about."""
    for method, (client_id, secret) in SECRETS.items():
        yield {"client_id": client_id, "client_secret": secret, "token_endpoint_auth_method": method}
    for algorithm in ALGORITHMS:
        yield {
            "client_id": f"gateway-{algorithm}",
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": {"keys": [public_jwk(algorithm, "key of the gateway")]},
        }
        yield {
            "client_id": f"signed-{algorithm}",
            "client_secret": "0123456789-secret-of-the-gateway",
            "introspection_signed_response_alg": algorithm,
        }
    yield {
        "client_id": "gateway-tls",
        "token_endpoint_auth_method": "tls_client_auth",
        "tls_client_auth_san_dns": Certificates.client_name,
    }
    yield {"client_id": "app", "client_secret": "0123456789-secret-of-the-app"}
    yield {
        "client_id": "app-tls",
        "client_secret": "0123456789-secret-of-the-app",
        "tls_client_certificate_bound_access_tokens": True,
    }


class OidcProvider(ForeignServer):
    """The running server."""

    secrets = SECRETS

    def __init__(self):
        self.certificates = Certificates()
        super().__init__(
            ["node", "server.mjs"],
            {"clients": list(clients()), "tls": self.certificates.server},
            cwd=HERE,
            tls=self.certificates.context,
        )

    def as_app(self, path, *, app="app", headers=None, tls=None, **form):
        status, body = self.call(path, form, basic=(app, "0123456789-secret-of-the-app"), headers=headers, tls=tls)
        assert status == 200, body
        return body

    def issue(self):
        """An opaque token of the application."""
        return self.as_app("/token", grant_type="client_credentials", scope="read")["access_token"]

    def issue_refresh_token(self):
        """One of a person's, to the application."""
        return self.tell(refresh="app")["token"]

    def issue_to(self, sender):
        """One that is bound to the key of a sender (RFC 9449 §5)."""
        proof = {"DPoP": sender.proof("POST", f"{self.base}/token")}
        answer = self.as_app("/token", headers=proof, grant_type="client_credentials", scope="read")
        assert answer["token_type"] == "DPoP"
        return answer["access_token"]

    def issue_to_certificate(self):
        """One that is bound to the client's certificate (RFC 8705 §3)."""
        tls = self.certificates.client_context()
        answer = self.as_app("/token", app="app-tls", tls=tls, grant_type="client_credentials", scope="read")
        return answer["access_token"]

    def revoke(self, token):
        self.as_app("/token/revocation", token=token)

    def rotate(self):
        """Has the server sign with other keys, and forget those it signed with."""
        self.tell(rotate=True)

    def jwks(self):
        return self.get("/jwks")


@pytest.fixture(scope="session")
def oidc_provider():
    assert shutil.which("node"), "node is missing"
    assert (HERE / "node_modules/oidc-provider").is_dir(), "run `npm ci` in tests/oidc_provider first"
    server = OidcProvider()
    yield server
    server.stop()


@pytest.fixture
def guarded(gateway, secrets, oidc_provider):
    """Starts a gateway that knows the issuer and is one of the clients that authenticate by a secret. It has a zone
    and a location that purges. Keys may be changed and added.
    """

    def start(method="client_secret_basic", secret=None, files=None, location="", **words):
        client_id, right = SECRETS[method]
        words = {
            "introspection_endpoint": None,
            "issuer": oidc_provider.base,
            "client_id": client_id,
            "client_secret": secrets.add_client(client_id, secret or right),
            "ssl_trusted_certificate": "as-ca.pem",
            **words,
        }
        return gateway(
            http="phantom_token_zone tokens:1m;",
            location=f"add_header X-Cache $phantom_token_cache always; {location}",
            server="location = /purge { phantom_token_purge acme; }",
            files={"as-ca.pem": oidc_provider.certificates.authority, **(files or {})},
            **words,
        )

    return start
