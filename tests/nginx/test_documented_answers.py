"""Authorization servers that can't be run here, played as their vendors' documentation and source describe them.

Each is asked by a provider block as docs/authorization-servers.md has it, knows who asks in the way that it wants, and
answers in its own words: a token that is active, and one that is not.
"""

import json
import re
import time

import jwt as pyjwt
import pytest

from harness.client import get
from harness.keys import header_of, private_key, private_pem, public_jwk, verified
from harness.nginx import ROOT, Configuration
from harness.ugly import basic_credentials

GATEWAY = "https://gateway.example.com"
SECRET = "0123456789-secret-of-the-gateway"
MINT = {"dialect": "mint", "mint_key": "mint.pem", "mint_issuer": GATEWAY}
SIGNED = {**MINT, "dialect": "signed"}
TYPE = "urn:ietf:params:oauth:token-type"


def json_reply(exchange, status=200, **words):
    exchange.reply(
        status,
        body=json.dumps(words),
        content_type="application/json;charset=UTF-8",
        headers=["Cache-Control: no-store", "Pragma: no-cache"],
    )


def accepts(exchange, media_type):
    assert exchange.request.value("accept") == media_type


def by_secret(exchange):
    assert basic_credentials(exchange) == ("gateway", SECRET)


def assertion(exchange):
    """The client assertion of a call (RFC 7523 §2.2)."""
    assert exchange.request.values("authorization") == []
    [kind] = exchange.form["client_assertion_type"]
    assert kind == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    [jwt] = exchange.form["client_assertion"]
    return jwt


def check_assertion(jwt, key, algorithm, client_id, audience):
    claims = pyjwt.decode(jwt, key, algorithms=[algorithm], audience=audience, options={"require": ["exp", "jti"]})
    assert claims["iss"] == claims["sub"] == client_id


class Played:
    """An authorization server. The paths are those under which it has its things."""

    issuer = ""
    # Where its metadata are, beside the issuer's path.
    well_known = "{issuer}/.well-known/openid-configuration"
    endpoint = "/introspect"
    token_endpoint = "/token"
    metadata = {"token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"]}
    # Keys of the provider.
    keys = {"client_id": "gateway", "client_secret": SECRET}
    # The claims of the JWT that reaches the API.
    claims = {}
    minted = True
    # Whether it is asked about a token before that is exchanged.
    introspected = False

    def __init__(self, base):
        self.base = base

    def serve(self, exchange):
        path = exchange.request.target
        issuer = self.issuer.removesuffix("/")
        if path == self.well_known.format(issuer=issuer):
            json_reply(
                exchange,
                issuer=self.base + self.issuer,
                introspection_endpoint=self.base + self.endpoint,
                token_endpoint=self.base + self.token_endpoint,
                jwks_uri=f"{self.base}/jwks",
                **self.metadata,
            )
        elif path == "/jwks":
            json_reply(exchange, keys=[public_jwk("RS256", "of the server", "server")])
        elif path == self.endpoint and self.introspected and "token" in exchange.form:
            # Before it is exchanged.
            by_secret(exchange)
            token = exchange.form["token"][0]
            json_reply(exchange, active=token.startswith("good"), token_type="Bearer")
        elif path not in (self.endpoint, self.token_endpoint):
            exchange.reply(404, content_type="text/html")
        else:
            try:
                self.knows(exchange)
            except (AssertionError, KeyError, ValueError, pyjwt.PyJWTError) as refusal:
                # Where the test can read it.
                self.refusal = refusal
                json_reply(exchange, 400, error="unexpected")
                return
            token = (exchange.form.get("token") or exchange.form["subject_token"])[0]
            (self.active if token.startswith("good") else self.inactive)(exchange)

    refusal = None

    def provider(self):
        return {"introspection_endpoint": None, "issuer": self.base + self.issuer, **self.keys}

    def knows(self, exchange):
        """Fails unless the call is as the server wants it."""
        accepts(exchange, "application/json")
        by_secret(exchange)

    def active(self, exchange):
        raise NotImplementedError

    def inactive(self, exchange):
        json_reply(exchange, active=False)


class Curity(Played):
    """The JWT is the answer; 204 if there is none."""

    issuer = "/oauth/v2/oauth-anonymous"
    endpoint = "/oauth/v2/oauth-introspect"
    claims = {"iss": "ugly", "scope": "read"}
    minted = False

    def knows(self, exchange):
        accepts(exchange, "application/jwt")
        by_secret(exchange)

    def active(self, exchange):
        exchange.reply(body=exchange.jwt(), content_type="application/jwt")

    def inactive(self, exchange):
        exchange.reply(204, content_type=None, length=False)


class CurityWithTokenProcedure(Curity):
    """A claim of the answer has the JWT."""

    keys = {**Played.keys, "dialect": "json"}

    def knows(self, exchange):
        accepts(exchange, "application/json")
        by_secret(exchange)

    def active(self, exchange):
        json_reply(exchange, active=True, sub="johndoe", scope="read", phantom_token=exchange.jwt())

    inactive = Played.inactive


class Keycloak(Played):
    """A claim of the answer has the JWT if exactly this is accepted."""

    issuer = "/realms/acme"
    endpoint = "/realms/acme/protocol/openid-connect/token/introspect"
    claims = {"iss": "ugly", "scope": "read"}
    minted = False

    def knows(self, exchange):
        accepts(exchange, "application/jwt")
        by_secret(exchange)

    def active(self, exchange):
        json_reply(exchange, active=True, client_id="app", token_type="Bearer", scope="read", jwt=exchange.jwt())


class KeycloakExchange(Played):
    """Gives an access token only, which is a JWT."""

    issuer = "/realms/acme"
    token_endpoint = "/realms/acme/protocol/openid-connect/token"
    keys = {
        **Played.keys,
        "dialect": "exchange",
        "exchange_token_type": "access_token",
        "exchange_audience": "orders",
    }
    # It binds tokens to certificates and to keys, and says so.
    metadata = {
        **Played.metadata,
        "tls_client_certificate_bound_access_tokens": True,
        "dpop_signing_alg_values_supported": ["ES256"],
    }
    introspected = True
    claims = {"iss": "ugly", "scope": "read"}
    minted = False

    def knows(self, exchange):
        by_secret(exchange)
        assert exchange.form["grant_type"] == ["urn:ietf:params:oauth:grant-type:token-exchange"]
        assert exchange.form["subject_token_type"] == [f"{TYPE}:access_token"]
        assert exchange.form["requested_token_type"] == [f"{TYPE}:access_token"]
        assert exchange.form["audience"] == ["orders"]

    def active(self, exchange):
        json_reply(
            exchange,
            access_token=exchange.server.jwt_for(exchange.form["subject_token"][0]),
            expires_in=300,
            refresh_expires_in=0,
            token_type="Bearer",
            scope="read",
            issued_token_type=f"{TYPE}:access_token",
            **{"not-before-policy": 0},
        )

    def inactive(self, exchange):
        json_reply(exchange, 400, error="invalid_request", error_description="Invalid token")


class ZitadelExchange(KeycloakExchange):
    """`jwt` is its name for an access token as a JWT."""

    issuer = ""
    metadata = Played.metadata
    introspected = False
    token_endpoint = "/oauth/v2/token"
    keys = {**Played.keys, "dialect": "exchange"}

    def knows(self, exchange):
        by_secret(exchange)
        assert exchange.form["subject_token_type"] == [f"{TYPE}:access_token"]
        assert exchange.form["requested_token_type"] == [f"{TYPE}:jwt"]
        assert "audience" not in exchange.form

    def active(self, exchange):
        json_reply(
            exchange,
            access_token=exchange.server.jwt_for(exchange.form["subject_token"][0]),
            expires_in=43199,
            token_type="Bearer",
            issued_token_type=f"{TYPE}:jwt",
        )


class Zitadel(Played):
    """Knows a key by its name."""

    endpoint = "/oauth/v2/introspect"
    metadata = {"token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt", "none"]}
    keys = {
        "client_id": "301245678901234567",
        "client_secret": None,
        "private_key": "client.pem",
        "private_key_id": "3012456001",
        **MINT,
    }
    claims = {"sub": "3012450001", "urn:zitadel:iam:user:resourceowner:name": "ACME"}

    def knows(self, exchange):
        accepts(exchange, "application/json")
        jwt = assertion(exchange)
        assert header_of(jwt)["kid"] == "3012456001"
        check_assertion(jwt, private_key("RS256", "client").public_key(), "RS256", "301245678901234567", self.base)

    def active(self, exchange):
        now = int(time.time())
        json_reply(
            exchange,
            active=True,
            aud=["301245678901234567", "3012"],
            client_id="3012@acme",
            exp=now + 600,
            iat=now,
            iss=self.base,
            jti="V2_1",
            nbf=now,
            scope="openid profile",
            sub="3012450001",
            token_type="Bearer",
            username="alice@acme",
            **{"urn:zitadel:iam:user:resourceowner:name": "ACME"},
        )


class Duende(Played):
    """Plain claims, for a resource."""

    endpoint = "/connect/introspect"
    # The answer has no token_type.
    keys = {**Played.keys, **MINT, "token_type": "any", "verify_audience": "gateway"}
    claims = {"client_id": "client", "scope": "api1"}

    def introspection(self):
        now = int(time.time())
        return {
            "iss": self.base,
            "nbf": now,
            "iat": now,
            "exp": now + 3600,
            "aud": ["gateway"],
            "client_id": "client",
            "jti": "44FD2DE9E9F8E9F4",
            "scope": "api1",
            "active": True,
        }

    def active(self, exchange):
        json_reply(exchange, **self.introspection())


class DuendeSigned(Duende):
    """The same in a signed response, for the client that asks."""

    keys = {**Duende.keys, **SIGNED}

    def knows(self, exchange):
        accepts(exchange, "application/token-introspection+jwt")
        by_secret(exchange)

    def signed(self, exchange, introspection):
        claims = {"iss": self.base, "iat": int(time.time()), "aud": "gateway", "token_introspection": introspection}
        headers = {"kid": "of the server", "typ": "token-introspection+jwt"}
        jwt = pyjwt.encode(claims, private_key("RS256", "server"), algorithm="RS256", headers=headers)
        exchange.reply(body=jwt, content_type="application/token-introspection+jwt")

    def active(self, exchange):
        self.signed(exchange, self.introspection())

    def inactive(self, exchange):
        self.signed(exchange, {"active": False})


class Connect2id(DuendeSigned):
    """Says so in its metadata."""

    endpoint = "/token/introspect"
    keys = {**Played.keys, **SIGNED}
    metadata = {
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt", "tls_client_auth"],
        "introspection_signing_alg_values_supported": ["RS256", "ES256"],
    }
    claims = {"sub": "alice", "scope": "read write"}

    def introspection(self):
        now = int(time.time())
        return {
            "active": True,
            "scope": "read write",
            "client_id": "izad7cqy34bg4",
            "token_type": "Bearer",
            "iat": now,
            "exp": now + 600,
            "sub": "alice",
            "iss": self.base,
        }


class Hydra(Played):
    """Asks nobody who they are, and has nothing to discover."""

    endpoint = "/admin/oauth2/introspect"
    keys = {"client_id": None, "client_secret": None, "client_auth": "none", **MINT}
    claims = {"sub": "alice", "ext": {"tenant": "acme"}, "token_use": "access_token"}

    def provider(self):
        return {"introspection_endpoint": self.base + self.endpoint, **self.keys}

    def knows(self, exchange):
        accepts(exchange, "application/json")
        assert exchange.request.values("authorization") == []
        assert exchange.form.keys() <= {"token", "token_type_hint"}

    def active(self, exchange):
        now = int(time.time())
        json_reply(
            exchange,
            active=True,
            scope="read offline",
            client_id="app",
            sub="alice",
            exp=now + 3600,
            iat=now,
            nbf=now,
            aud=[],
            iss=self.base,
            token_type="Bearer",
            token_use="access_token",
            ext={"tenant": "acme"},
        )


class Authentik(Played):
    """An issuer that ends with a slash, whose endpoints are elsewhere."""

    issuer = "/application/o/orders/"
    endpoint = "/application/o/introspect/"
    # The answer has no token_type.
    keys = {**Played.keys, **MINT, "token_type": "any"}
    claims = {"sub": "3f6d", "aud": "gateway", "scope": "openid orders"}

    def active(self, exchange):
        now = int(time.time())
        json_reply(
            exchange,
            iss=self.base + self.issuer,
            sub="3f6d",
            aud="gateway",
            exp=now + 300,
            iat=now,
            auth_time=now,
            acr="goauthentik.io/providers/oauth2/default",
            active=True,
            scope="openid orders",
            client_id="gateway",
        )


class Okta(Played):
    """An assertion is for the endpoint and not for the issuer."""

    issuer = "/oauth2/default"
    well_known = "/.well-known/oauth-authorization-server{issuer}"
    endpoint = "/oauth2/default/v1/introspect"
    claims = {"username": "alice@acme.example", "uid": "00u1", "client_id": "0oa1"}

    def provider(self):
        return {
            **super().provider(),
            **MINT,
            "client_auth": "client_secret_jwt",
            "assertion_audience": self.base + self.endpoint,
        }

    def knows(self, exchange):
        accepts(exchange, "application/json")
        check_assertion(assertion(exchange), SECRET, "HS256", "gateway", self.base + self.endpoint)

    def active(self, exchange):
        now = int(time.time())
        json_reply(
            exchange,
            active=True,
            scope="orders",
            username="alice@acme.example",
            exp=now + 3600,
            iat=now,
            sub="alice@acme.example",
            aud="api://default",
            iss=self.base + self.issuer,
            jti="AT.1",
            token_type="Bearer",
            client_id="0oa1",
            uid="00u1",
        )


class PingFederate(Played):
    """Says little that was not mapped."""

    endpoint = "/as/introspect.oauth2"
    keys = {**Played.keys, **MINT}
    claims = {"client_id": "app", "scope": "orders", "OrgName": "ACME"}

    def active(self, exchange):
        json_reply(
            exchange,
            scope="orders",
            active=True,
            OrgName="ACME",
            token_type="Bearer",
            exp=int(time.time()) + 600,
            client_id="app",
        )


class PingFederateWithoutSecret(PingFederate):
    """A client that says who it is, and nothing to prove it."""

    keys = {"client_id": "gateway", "client_secret": None, "client_auth": "none", **MINT}

    def knows(self, exchange):
        accepts(exchange, "application/json")
        assert exchange.request.values("authorization") == []
        assert exchange.form["client_id"] == ["gateway"]
        assert "client_secret" not in exchange.form


class Spring(Played):
    """Plain claims."""

    well_known = "/.well-known/oauth-authorization-server{issuer}"
    endpoint = "/oauth2/introspect"
    keys = {**Played.keys, **MINT}
    metadata = {
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "client_secret_jwt"],
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    }
    claims = {"sub": "alice", "aud": ["app"], "scope": "orders"}

    def active(self, exchange):
        now = int(time.time())
        json_reply(
            exchange,
            active=True,
            sub="alice",
            aud=["app"],
            nbf=now,
            scope="orders",
            iss=self.base,
            exp=now + 300,
            iat=now,
            jti="4a7d",
            client_id="app",
            token_type="Bearer",
        )


class SpringExchange(ZitadelExchange):
    """Says `invalid_grant` of a token that is not active."""

    well_known = "/.well-known/oauth-authorization-server{issuer}"
    token_endpoint = "/oauth2/token"
    # From 1.4 on, too.
    metadata = {
        **Played.metadata,
        "tls_client_certificate_bound_access_tokens": True,
        "dpop_signing_alg_values_supported": ["ES256"],
    }
    introspected = True

    def inactive(self, exchange):
        json_reply(exchange, 400, error="invalid_grant")


SERVERS = [
    Curity,
    CurityWithTokenProcedure,
    Keycloak,
    KeycloakExchange,
    ZitadelExchange,
    Zitadel,
    Duende,
    DuendeSigned,
    Connect2id,
    Hydra,
    Authentik,
    Okta,
    PingFederate,
    PingFederateWithoutSecret,
    Spring,
    SpringExchange,
]


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.__name__)
def test_a_server_that_does_as_documented_is_understood(gateway, ugly, api, secrets, kind):
    server = kind(f"http://{ugly.address}")
    ugly.answer = server.serve
    secrets.add_client("gateway", SECRET)
    files = {"mint.pem": private_pem("ES256", "mint"), "client.pem": private_pem("RS256", "client")}
    nginx = gateway(files=files, **server.provider())
    good, bad = secrets.token("good"), secrets.token("bad")

    answer = get(nginx.port, token=good)
    assert server.refusal is None, repr(server.refusal)
    assert answer.status == 200
    api.never_saw(good)
    jwt = api.only().value("authorization").removeprefix("Bearer ")
    if server.minted:
        header = header_of(jwt)
        assert header["typ"] == "at+jwt"
        claims = verified(jwt, {"keys": [public_jwk("ES256", header["kid"], "mint")]}, issuer=GATEWAY)
        assert not claims.keys() & {"active", "token_introspection"}
    else:
        claims = pyjwt.decode(jwt, options={"verify_signature": False})
    assert {name: claims.get(name) for name in server.claims} == server.claims

    answer = get(nginx.port, token=bad)
    assert server.refusal is None, repr(server.refusal)
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.value("www-authenticate")
    assert len(api.requests) == 1
    assert nginx.log_lines(r"\[error\].*acme") == []


def test_keycloak_without_the_switch_is_502_and_the_log_names_it(gateway, ugly, api, secrets):
    class WithoutSwitch(Keycloak):
        def active(self, exchange):
            json_reply(exchange, active=True, client_id="app", token_type="Bearer", scope="read")

    server = WithoutSwitch(f"http://{ugly.address}")
    ugly.answer = server.serve
    nginx = gateway(**server.provider())
    assert get(nginx.port, token=secrets.token("good")).status == 502
    assert "support jwt claim in introspection response" in nginx.only_line(r"\[error\].*acme").lower()
    assert api.requests == []


def test_keycloak_asked_for_a_jwt_is_502_and_the_log_names_the_key(gateway, ugly, api, secrets):
    """It says `invalid_request`, as it does of a token that is not valid."""

    class AskedForJwt(KeycloakExchange):
        keys = {**Played.keys, "dialect": "exchange"}

        def knows(self, exchange):
            by_secret(exchange)

        def active(self, exchange):
            assert exchange.form["requested_token_type"] == [f"{TYPE}:jwt"]
            description = "requested_token_type unsupported"
            json_reply(exchange, 400, error="invalid_request", error_description=description)

    server = AskedForJwt(f"http://{ugly.address}")
    ugly.answer = server.serve
    nginx = gateway(**server.provider())
    assert get(nginx.port, token=secrets.token("good")).status == 502
    assert "exchange_token_type" in nginx.only_line(r"\[error\].*acme")
    assert get(nginx.port, token=secrets.token("bad")).status == 401
    assert api.requests == []


BLOCKS = re.findall(
    r"^```nginx\n(phantom_token_provider .*?)^```$",
    (ROOT / "docs/authorization-servers.md").read_text(),
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split()[1])
def test_what_is_to_be_pasted_is_taken(block):
    files = {name: SECRET for name in re.findall(r"client_secret_file +([\w.]+);", block)}
    files |= {name: private_pem("ES256", "mint") for name in re.findall(r"(?:mint_key|private_key) +([\w.]+);", block)}
    block = block.replace("…", "elided").replace("server {", "server { listen @listen@;")
    configuration = Configuration(block, files=files)
    code, words = configuration.check()
    configuration.remove()
    assert code == 0, words
