"""One table of requests, decided by nginx and through the C ABI: both find the same answers to the byte.

The C ABI is called through the Python package, which adds nothing to a decision. Each case has the keys of a policy, which
are nginx's directives with `phantom_token_` before them, and a request.
"""

import importlib
import json
import os
import re
import sys
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from harness.client import get
from harness.dpop import Sender, certificate_thumbprint

ROOT = Path(__file__).resolve().parents[2]
SENDER = Sender()
URI = "http://gateway/orders"

#: Every answer has these headers, or none of them; that of a nonce is another each time.
COMPARED = ("WWW-Authenticate", "Retry-After", "Content-Type", "Cache-Control")


@pytest.fixture(scope="module")
def phantom_token():
    """The Python package, on the library that was built."""
    named = os.environ.get("PHANTOM_TOKEN_LIBRARY")
    built = [Path(named)] if named else [ROOT / "target" / kind / "libphantom_token.so" for kind in ("release", "debug")]
    library = next((path for path in built if path.exists()), None)
    if library is None:
        pytest.skip("libphantom_token is not built: run `make build`")
    os.environ["PHANTOM_TOKEN_LIBRARY"] = str(library)
    sys.path.insert(0, str(ROOT / "bindings" / "python"))
    try:
        return importlib.import_module("phantom_token")
    finally:
        sys.path.pop(0)


@dataclass
class Case:
    """A request, and what both are to say to it."""

    name: str
    #: What is answered; 0 if the request goes on.
    status: int
    #: `$phantom_token_result`, and `$phantom_token_reason` if it says more.
    outcome: str
    reason: str = ""
    #: Keys of the policy, each with its values.
    policy: tuple = ()
    #: The claims of the token; `None`: it is unknown to the server.
    claims: dict = field(default_factory=dict)
    #: Headers of the request. `@` stands for the token.
    headers: tuple = (("Authorization", "Bearer @"),)
    target: str = "/orders"
    #: Makes headers of a token: they are proofs, which each side needs one of its own of.
    proof: object = None
    #: How often the request is sent; the last time counts.
    times: int = 1
    #: The certificate with which the client has authenticated its connection: its own, another one, or none.
    certificate: str = ""
    #: How the authorization server misbehaves, and what the provider needs to be told.
    knobs: dict = field(default_factory=dict)
    provider: dict = field(default_factory=dict)


def dpop(**changes):
    """A DPoP header and the token beside it."""
    return lambda token: SENDER.headers("GET", URI, token, **changes)


BOUND = {"cnf": json.dumps({"jkt": SENDER.jkt})}
EVERYWHERE = ("source", "authorization header X-Token cookie session query access_token")
OPTIONAL = ("optional", "on")

CASES = [
    Case("no token", 401, "missing", headers=()),
    Case("no token with scopes", 401, "missing", policy=(("scopes", "read write"),), headers=()),
    Case("another scheme", 401, "missing", headers=(("Authorization", "Basic YTpi"),)),
    Case("dpop is advertised where it is required", 401, "missing", policy=(("sender_constraint", "require"),), headers=()),
    Case("dpop is advertised where it needs a nonce", 401, "missing", policy=(("dpop_nonce", "on"),), headers=()),
    Case("an empty authorization", 400, "malformed", "token", headers=(("Authorization", "Bearer"),)),
    Case("two words", 400, "malformed", "token", headers=(("Authorization", "Bearer a b"),)),
    Case("an empty dpop", 400, "malformed", "token", headers=(("Authorization", "DPoP "),)),
    # Two `Authorization` headers are refused by nginx itself, in the versions that keep but one.
    Case("a header that is no token", 400, "malformed", "header", policy=(EVERYWHERE,), headers=(("X-Token", "a b"),)),
    Case("a cookie that is no token", 400, "malformed", "cookie", policy=(EVERYWHERE,), headers=(("Cookie", "session=a,b"),)),
    Case("a query that is no token", 400, "malformed", "query", policy=(EVERYWHERE,), headers=(), target="/a?access_token=%25"),
    Case("a query that can't be decoded", 400, "malformed", "query", policy=(EVERYWHERE,), headers=(), target="/a?access_token=%"),
    Case(
        "a token in two places", 400, "malformed", "several", policy=(EVERYWHERE,),
        headers=(("Authorization", "Bearer @"), ("Cookie", "session=@")),
    ),
    Case("a token twice in the query", 400, "malformed", "several", policy=(EVERYWHERE,), headers=(), target="/?access_token=a&access_token=b"),
    Case("a header in two spellings", 400, "malformed", "several", policy=(EVERYWHERE,), headers=(("X-Token", "@"), ("X.Token", "@"))),
    Case("an inactive token", 401, "inactive", claims=None),
    Case("an inactive token in the query", 401, "inactive", policy=(EVERYWHERE,), claims=None, headers=(), target="/?access_token=@"),
    Case("an inactive token with a proof", 401, "inactive", claims=None, proof=dpop(), headers=()),
    Case("an active token", 0, "ok"),
    Case("an active token in a header", 0, "ok", policy=(EVERYWHERE,), headers=(("x-token", "@"), ("Accept", "*/*"))),
    Case("an active token in a cookie", 0, "ok", policy=(EVERYWHERE,), headers=(("Cookie", "a=b; session=@; c=d"),)),
    Case("an active token in the only cookie", 0, "ok", policy=(EVERYWHERE,), headers=(("Cookie", "session=@"),)),
    Case("an active token in the query", 0, "ok", policy=(EVERYWHERE,), headers=(), target="/orders?a=%20b&access_token=@&c"),
    Case("an active token in the only parameter", 0, "ok", policy=(EVERYWHERE,), headers=(), target="/orders?access_token=@"),
    Case(
        "an active token forwarded elsewhere", 0, "ok", policy=(("forward", "header X-Jwt"),),
        headers=(("Authorization", "bearer  @"), ("X-Jwt", "forged"), ("x.jwt", "forged")),
    ),
    Case("the scopes suffice", 0, "ok", policy=(("scopes", "read write"),), claims={"scope": "write read"}),
    Case("a scope is lacking", 403, "forbidden", "scope:write", policy=(("scopes", "read write"),), claims={"scope": "read"}),
    Case("a scope is lacking, and realm", 403, "forbidden", "scope:x", policy=(("scope", "x"),), claims={"scope": "read"}),
    Case("a scope that is only advertised", 0, "ok", policy=(("scope", "x"), ("scopes_enforce", "off")), claims={"scope": "read"}),
    Case("another audience", 401, "invalid", "audience", policy=(("audience", "somebody"),)),
    Case("another issuer", 401, "invalid", "issuer", policy=(("issuer", "https://other.example"),)),
    Case("another client", 403, "forbidden", "client", policy=(("client", "another"),)),
    Case("a claim that is required", 0, "ok", policy=(("require", "tenant acme ~^test-"),), claims={"tenant": "test-7"}),
    Case("another claim", 403, "forbidden", "claim:tenant", policy=(("require", "tenant acme"),), claims={"tenant": "other"}),
    Case("another authentication", 401, "step_up", "acr", policy=(("acr", "gold silver"),), claims={"acr": "tin"}),
    Case("an old authentication", 401, "step_up", "max_age", policy=(("max_age", "5m"),), claims={"auth_time": "1000000000"}),
    Case("optional without a token", 0, "missing", policy=(OPTIONAL,), headers=()),
    Case("optional with another scheme", 0, "missing", policy=(OPTIONAL,), headers=(("Authorization", "Basic YTpi"),)),
    Case("optional, and a header that is ours", 0, "missing", policy=(OPTIONAL, ("forward", "header X-Jwt")), headers=(("X-Jwt", "x"),)),
    Case("optional with an inactive token", 401, "inactive", policy=(OPTIONAL,), claims=None),
    Case("optional with what is no token", 400, "malformed", "token", policy=(OPTIONAL,), headers=(("Authorization", "Bearer"),)),
    Case("a bound token with its proof", 0, "ok", claims=BOUND, proof=dpop(), headers=()),
    Case("a bound token as a bearer", 401, "unproven", "scheme", claims=BOUND),
    Case("a bound token without a proof", 401, "unproven", "proof_missing", claims=BOUND, headers=(("Authorization", "DPoP @"),)),
    Case(
        "a bound token with junk", 401, "unproven", "proof_malformed", claims=BOUND,
        headers=(("Authorization", "DPoP @"), ("DPoP", "eyJ")),
    ),
    Case(
        "a bound token with two proofs", 401, "unproven", "proof_several", claims=BOUND,
        headers=(("Authorization", "DPoP @"), ("DPoP", "a"), ("DPoP", "b")),
    ),
    Case("a proof for another url", 401, "unproven", "proof_htu", claims=BOUND, proof=dpop(htu="http://gateway/other"), headers=()),
    Case("a proof for another method", 401, "unproven", "proof_htm", claims=BOUND, proof=dpop(htm="PUT"), headers=()),
    Case("an old proof", 401, "unproven", "proof_iat", claims=BOUND, proof=dpop(iat=1_000_000_000), headers=()),
    Case("a proof that was used", 401, "unproven", "proof_replayed", claims=BOUND, proof=dpop(), headers=(), times=2),
    Case("a proof without a nonce", 401, "unproven", "proof_nonce", policy=(("dpop_nonce", "on"),), claims=BOUND, proof=dpop(), headers=()),
    Case(
        "no proof where it needs a nonce", 401, "unproven", "proof_missing", policy=(("dpop_nonce", "on"),), claims=BOUND,
        headers=(("Authorization", "DPoP @"),),
    ),
    Case("a token of another key", 401, "unproven", "proof_key", claims={"cnf": '{"jkt": "x"}'}, proof=dpop(), headers=()),
    Case("a token that is bound to nothing", 401, "unproven", "not_bound", proof=dpop(), headers=()),
    Case("a bound token is required", 401, "unproven", "not_bound", policy=(("sender_constraint", "require"),)),
    Case("a binding that is not known", 401, "unproven", "confirmation_unknown", claims={"cnf": '{"x": "y"}'}),
    Case("nobody looks at the sender", 0, "ok", policy=(("sender_constraint", "ignore"),), claims=BOUND),
    Case("a certificate", 0, "ok", claims={"cnf": "@certificate"}, certificate="own"),
    Case("another certificate", 401, "unproven", "certificate_other", claims={"cnf": "@certificate"}, certificate="other"),
    Case("no certificate", 401, "unproven", "certificate_missing", claims={"cnf": "@certificate"}),
    Case("the server fails", 502, "unavailable", "bad_answer", knobs={"status": 500}),
    Case("the server refuses us", 502, "unavailable", "client_refused", knobs={"status": 401}),
    Case("the server is busy", 503, "unavailable", "busy", knobs={"status": 503}),
    Case("the server is busy for a while", 503, "unavailable", "busy", knobs={"status": 429, "retry_after": 7}),
    Case("the server is slow", 504, "unavailable", "timeout", knobs={"latency": 20000}, provider={"timeout": "300ms"}),
    Case("the server is slow, and the token in the query", 504, "unavailable", "timeout", policy=(EVERYWHERE,), headers=(), target="/?access_token=@", knobs={"latency": 20000}, provider={"timeout": "300ms"}),
]


@dataclass
class Said:
    """What became of a request."""

    status: int
    #: Of the answer to one that is denied; what is added to the API's answer.
    headers: list
    has_nonce: bool
    body: bytes
    #: What the API got of one that goes on.
    target: str = ""
    upstream: list = field(default_factory=list)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_nginx_and_the_c_abi_say_the_same(gateway, authorization_server, api, phantom_token, case):
    certificates = {}
    claims = dict(case.claims or {})
    if "@certificate" in claims.values():
        ca = trustme.CA()
        pems = {name: ca.issue_cert("client").cert_chain_pems[0].bytes() for name in ("own", "other")}
        claims["cnf"] = json.dumps({"x5t#S256": certificate_thumbprint(pems["own"])})
        certificates = {"": None, **pems}
    certificate = certificates.get(case.certificate)
    scope = {"scope": claims.pop("scope")} if "scope" in claims else {}
    token = "unknown" if case.claims is None else authorization_server.issue(claims=claims, **scope)
    endpoint = authorization_server.introspection_endpoint(**case.knobs)

    by_nginx, outcome = ask_nginx(gateway, authorization_server, api, case, endpoint, token, certificate)
    by_c, decision = ask_c(phantom_token, authorization_server, case, endpoint, token, certificate)

    assert by_nginx == by_c
    assert (by_c.status, decision.outcome, decision.reason) == (case.status, case.outcome, case.reason)
    assert outcome == (case.outcome, case.reason or None)


def headers_of(case, token):
    """The headers of the request."""
    proofs = case.proof(token) if case.proof else ()
    return [("Accept", "*/*"), *((name, value.replace("@", token)) for name, value in (*case.headers, *proofs))]


def ask_nginx(gateway, authorization_server, api, case, endpoint, token, certificate):
    """What nginx says."""
    directives = "".join(f"phantom_token_{key} {value};\n" for key, value in case.policy)
    # It is told of the certificate by who ends TLS.
    told = "phantom_token_client_certificate $http_x_client_cert;\nproxy_set_header X-Client-Cert '';\n"
    nginx = gateway(
        endpoint=endpoint,
        client_secret=authorization_server.client_secret,
        http="phantom_token_zone tokens:4m; ignore_invalid_headers off;",
        location=f"""
            phantom_token_realm table;
            {directives} {told}
            add_header X-Result $phantom_token_result always;
            add_header X-Reason $phantom_token_reason always;
        """,
        alarms_allowed=True,
        **case.provider,
    )
    headers = headers_of(case, token)
    if certificate:
        headers.append(("X-Client-Cert", urllib.parse.quote(certificate.decode())))
    for _ in range(case.times):
        answer = get(nginx.port, case.target.replace("@", token), headers=headers)
    goes_on = answer.value("X-Result") in ("ok", "missing") and answer.status == 200
    # The type of the body is then the API's.
    compared = [name for name in COMPARED if not (goes_on and name == "Content-Type")]
    said = Said(
        status=0 if goes_on else answer.status,
        headers=sorted((name, value) for name in compared for value in answer.values(name)),
        has_nonce=bool(answer.values("DPoP-Nonce")),
        body=b"" if goes_on else answer.body,
    )
    if goes_on:
        said.target = api.requests[-1].target
        said.upstream = upstream(api.requests[-1].headers)
    return said, (answer.value("X-Result"), answer.value("X-Reason"))


def ask_c(phantom_token, authorization_server, case, endpoint, token, certificate):
    """What a host says that uses the library."""
    policy = phantom_token.Policy(realm="table")
    for key, value in case.policy:
        policy._set(key, value)
    der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER) if certificate else None
    headers = [(b"Host", b"gateway"), *((name.encode(), value.encode()) for name, value in headers_of(case, token))]
    request = phantom_token.Request(
        method="GET",
        target=case.target.replace("@", token),
        headers=headers,
        scheme="http",
        client_certificate=der,
    )
    settings = {
        "introspection_endpoint": endpoint,
        "client_id": "gateway",
        "client_secret": authorization_server.client_secret,
        "timeout": "10s",
        **case.provider,
    }
    with phantom_token.Client(**settings) as client:
        for _ in range(case.times):
            found = policy.token(request)
            try:
                resolved = None if found is None else client.resolve(found)
            except phantom_token.PhantomTokenError as error:
                resolved = error
            decision = policy.decide(request, resolved, client=client)
    said = Said(
        status=decision.http_status,
        headers=sorted((name, value) for name, value in decision.answer_headers if name in COMPARED),
        has_nonce=any(name == "DPoP-Nonce" for name, _ in decision.answer_headers),
        body=decision.body,
    )
    assert {name for name, _ in decision.answer_headers} <= {*COMPARED, "DPoP-Nonce"}
    if decision.admitted:
        said.target = (decision.target or request.target.encode()).decode()
        said.upstream = upstream(
            (name.decode(), value.decode()) for name, value in decision.changed(headers)
        )
    return said, decision


def upstream(headers):
    """What the API gets, but for what nginx says for itself. Each side has introspected the token for itself, and has a JWT of
    its own."""
    own = ("host", "connection")
    return sorted(
        (name.lower(), re.sub(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "JWT", value))
        for name, value in headers
        if name.lower() not in own
    )
