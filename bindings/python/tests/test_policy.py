# SPDX-License-Identifier: Apache-2.0
"""Policies: requirements for a token and its sender."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from datetime import timedelta
from typing import Any, Dict, Iterator, List, Optional, Tuple

import phantom_token
import pytest
from conftest import AuthorizationServer, settings
from phantom_token import (
    Client,
    ConfigError,
    Decision,
    DeniedError,
    PhantomTokenError,
    Policy,
    Request,
    UncheckedSenderError,
)

URL = "https://api.example.com/orders"


@pytest.fixture(scope="module")
def client(_server: AuthorizationServer) -> Iterator[Client]:
    with Client(**settings(_server)) as client:
        yield client


def issue(server: AuthorizationServer, scope: str = "read", **claims: Any) -> str:
    return server.issue(scope=scope, **{f"claim.{name}": json.dumps(value) for name, value in claims.items()})


def denied(policy: Policy, result: Optional[phantom_token.Result], **presented: Any) -> DeniedError:
    with pytest.raises(DeniedError) as caught:
        policy.check(result, **presented)
    return caught.value


def test_an_active_token_passes_where_nothing_is_asked(client: Client, server: AuthorizationServer) -> None:
    Policy().check(client.resolve(issue(server)))


def test_a_denial_has_everything_that_an_answer_needs(client: Client, server: AuthorizationServer) -> None:
    policy = Policy(realm='the "api"', scopes="read write", resource_metadata="https://api.example.com/meta")
    end = ', resource_metadata="https://api.example.com/meta"'
    for result, status, error, reason, challenge in (
        (None, 401, None, "missing", ', scope="read write"'),
        (client.resolve("unknown"), 401, "invalid_token", "inactive", ', error="invalid_token"'),
        (
            client.resolve(issue(server)),
            403,
            "insufficient_scope",
            "scope:write",
            ', error="insufficient_scope", scope="read write"',
        ),
    ):
        denial = denied(policy, result)
        assert (denial.http_status, denial.error, denial.reason) == (status, error, reason)
        assert denial.challenge == f'Bearer realm="the \\"api\\""{challenge}{end}'
        assert denial.status == phantom_token.Status.DENIED and str(denial) == reason
        assert denial.dpop_nonce is None
    malformed = denied(policy, None, authorization=b"Bearer a b")
    assert (malformed.http_status, malformed.error) == (400, "invalid_request")


def test_keyword_arguments_are_what_is_asked(client: Client, server: AuthorizationServer) -> None:
    now = int(time.time())
    result = client.resolve(
        issue(
            server, "read write", tenant="big corp", level=7, beta=True, roles=["user", "ad\\min"], acr="gold", auth_time=now - 60
        )
    )
    claims = result.claims
    asked: Tuple[Tuple[Dict[str, Any], Dict[str, Any], str], ...] = (
        ({"scopes": ["admin", "write read"]}, {"scopes": ["admin", "x"]}, "scope:admin"),
        ({"scope": ["read", "write"]}, {"scope": "read admin"}, "scope:admin"),
        ({"audience": ["x", claims["aud"]]}, {"audience": "x"}, "audience"),
        ({"issuer": claims["iss"]}, {"issuer": ["x", "y"]}, "issuer"),
        ({"client": "gateway"}, {"client": "gateway x"}, "client"),
        ({"require": {"tenant": ["x", "big corp"]}}, {"require": {"tenant": ["big", "corp"]}}, "claim:tenant"),
        ({"require": {"tenant": "~^big"}}, {"require": {"tenant": "~^corp"}}, "claim:tenant"),
        ({"require": {"level": 7, "beta": True}}, {"require": {"level": 7, "beta": False}}, "claim:beta"),
        ({"require": {"roles": "ad\\min"}}, {"require": {"roles": "ad"}}, "claim:roles"),
        ({"require": {"roles": r"~^ad\\m"}}, {"require": {"roles": r"~^\d"}}, "claim:roles"),
        ({"require": {"tenant": None}}, {"require": {"other": None}}, "claim:other"),
        ({"acr": ["silver", "gold"]}, {"acr": "silver"}, "acr"),
        ({"max_age": timedelta(minutes=5)}, {"max_age": 5}, "max_age"),
    )
    for good, bad, reason in asked:
        Policy(**good).check(result)
        assert denied(Policy(**bad), result).reason == reason


def test_what_is_no_policy_is_a_configuration_error_that_names_the_mend() -> None:
    wrong: Tuple[Tuple[Dict[str, Any], str], ...] = (
        ({"scop": "read"}, 'did you mean "scope"'),
        ({"max_age": "soon"}, "is not a time"),
        ({"require": {"tenant": "~("}}, "unclosed group"),
        ({"realm": "a\nb"}, "control character"),
        ({"sender_constraint": "off"}, "enforce, require or ignore"),
    )
    for arguments, mend in wrong:
        with pytest.raises(ConfigError, match=mend.replace("(", "\\(")):
            Policy(**arguments)
    with pytest.raises(TypeError):
        Policy(require={"tenant": [object()]})  # type: ignore[list-item]
    with pytest.raises(phantom_token.InvalidArgumentError):
        Policy(realm="\ud800")


def test_a_token_that_is_bound_to_a_certificate_passes_on_a_connection_that_has_it(
    client: Client, server: AuthorizationServer
) -> None:
    certificate = b"\x30\x00 what stands for a certificate"
    thumbprint = encoded(hashlib.sha256(certificate).digest())
    token = issue(server, cnf={"x5t#S256": thumbprint})
    result = client.resolve(token)
    authorization = f"Bearer {token}"
    assert denied(Policy(), result).reason == "presentation_missing"
    assert denied(Policy(), result, authorization=authorization).reason == "certificate_missing"
    assert (
        denied(Policy(), result, authorization=authorization, client_certificate=b"other").reason == "certificate_other"
    )
    Policy().check(result, authorization=authorization, client_certificate=certificate)
    Policy(sender_constraint="ignore").check(result)
    unbound = issue(server)
    denial = denied(
        Policy(sender_constraint="require"), client.resolve(unbound), authorization=f"Bearer {unbound}"
    )
    assert denial.reason == "not_bound"


def test_a_token_that_is_bound_to_a_key_passes_with_a_proof_once(client: Client, server: AuthorizationServer) -> None:
    key = Key()
    token = issue(server, cnf={"jkt": key.thumbprint})
    result = client.resolve(token)
    policy = Policy(realm="api")

    def presented(proof: str, **others: Any) -> Dict[str, Any]:
        return {
            "client": client, "authorization": f"DPoP {token}", "method": "GET", "url": URL, "dpop": proof, **others
        }

    proof = key.proof(token)
    assert denied(policy, result, **presented(proof, client=None)).http_status == 503, "nobody knows whether it was used"
    assert denied(policy, result, **presented(proof, method="POST")).reason == "proof_htm"
    assert denied(policy, result, **presented(proof, dpop=[proof, proof])).reason == "proof_several"
    assert denied(policy, result, **presented(proof, dpop=[])).reason == "proof_missing"
    policy.check(result, **presented(proof))
    replayed = denied(policy, result, **presented(proof))
    assert (replayed.http_status, replayed.error, replayed.reason) == (401, "invalid_dpop_proof", "proof_replayed")
    assert replayed.challenge is not None and replayed.challenge.startswith('DPoP realm="api", error="invalid_dpop_proof"')
    policy.check(result, **presented(key.proof(token), dpop=[key.proof(token).encode()]))
    assert denied(policy, result, **presented(Key().proof(token))).reason == "proof_key"

    policy = Policy(dpop_nonce=True)
    denial = denied(policy, result, **presented(key.proof(token)))
    assert denial.error == "use_dpop_nonce" and denial.dpop_nonce
    policy.check(result, **presented(key.proof(token, nonce=denial.dpop_nonce)))


def test_a_client_that_is_closed_lets_nobody_in(server: AuthorizationServer) -> None:
    with Client(**settings(server)) as client:
        result = client.resolve(issue(server))
    with pytest.raises(phantom_token.StoppedError):
        Policy().check(result, client=client)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    """A key of a sender, which makes proofs (RFC 9449 §4.2)."""

    def __init__(self) -> None:
        ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
        self._ec = ec
        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        x, y = (encoded(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        self._jwk = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
        text = json.dumps(self._jwk, separators=(",", ":"))
        self.thumbprint = encoded(hashlib.sha256(text.encode()).digest())

    def proof(self, token: str, **others: Any) -> str:
        hashes = pytest.importorskip("cryptography.hazmat.primitives.hashes")
        utils = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.utils")
        header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": self._jwk}
        ath = encoded(hashlib.sha256(token.encode()).digest())
        claims = {"jti": str(uuid.uuid4()), "htm": "GET", "htu": URL, "iat": int(time.time()), "ath": ath, **others}
        signed = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
        r, s = utils.decode_dss_signature(self._key.sign(signed.encode(), self._ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def test_a_bound_token_has_a_jwt_only_once_a_policy_has_let_it_pass(client: Client, server: AuthorizationServer) -> None:
    token = issue(server, cnf={"jkt": "x"})
    result = client.resolve(token)
    assert result.active and result.bound and result.claims["cnf"] == {"jkt": "x"}
    for _ in range(2):
        for part in ("jwt", "authorization"):
            with pytest.raises(UncheckedSenderError) as refused:
                getattr(result, part)
            assert refused.value.http_status == 500 and "sender_constraint" in str(refused.value)
        with pytest.raises(DeniedError):
            Policy().check(result, client=client, authorization=f"Bearer {token}")
    Policy(sender_constraint="ignore").check(result)
    assert result.authorization == f"Bearer {result.jwt}"
    # Another request with the same token has not been checked.
    with pytest.raises(UncheckedSenderError):
        _ = client.resolve(token).jwt
    assert not client.resolve(issue(server)).bound


def decide(policy: Policy, client: Client, headers: List[Tuple[bytes, bytes]], target: str = "/orders") -> Decision:
    """Resolves the token of a request, and decides about it."""
    request = Request(method="GET", target=target, headers=[(b"host", b"api.example.com"), *headers])
    token = policy.token(request)
    resolved: Any = None
    try:
        resolved = None if token is None else client.resolve(token)
    except PhantomTokenError as error:
        resolved = error
    return policy.decide(request, resolved, client=client)


def test_a_decision_says_all_that_is_done_with_a_request(client: Client, server: AuthorizationServer) -> None:
    policy = Policy(realm="api", source=["cookie", "session", "query", "access_token"])
    token = issue(server).encode()
    cookies = [(b"cookie", b"theme=dark; session=" + token)]
    decision = decide(policy, client, cookies)
    assert (decision.admitted, decision.outcome, decision.http_status) == (True, "ok", 0)
    theme, jwt = decision.changed(cookies)
    assert theme == (b"cookie", b"theme=dark") and jwt[0] == b"authorization" and jwt[1].startswith(b"Bearer ey")
    assert token.decode() not in repr(decision) and "ey" not in repr(decision)

    decision = decide(policy, client, [], f"/orders?a=b&access_token={token.decode()}")
    assert (decision.admitted, decision.target) == (True, b"/orders?a=b")
    assert decision.answer_headers == (("Cache-Control", "private"),)

    decision = decide(policy, client, cookies, "/orders?access_token=x")
    assert not decision.admitted
    assert (decision.http_status, decision.outcome, decision.reason) == (400, "malformed", "several")
    assert dict(decision.answer_headers) == {
        "WWW-Authenticate": 'Bearer realm="api", error="invalid_request"',
        "Cache-Control": "no-store",
        "Content-Type": "application/json",
    }
    assert json.loads(decision.body)["code"] == "invalid_request"


def test_without_a_verdict_a_decision_says_when_to_try_again(client: Client) -> None:
    request = Request(method="GET", target="/", headers=[(b"authorization", b"Bearer x")])
    error = phantom_token.BusyError("busy", status=phantom_token.Status.BUSY, retry_after=7)
    decision = Policy().decide(request, error, client=client)
    assert (decision.http_status, dict(decision.answer_headers)["Retry-After"]) == (503, "7")
    # Nor does one let anything through of which nobody has asked.
    assert Policy().decide(request, None, client=client).http_status == 500
    assert "x" not in repr(request)[len("<phantom_token.Request") :]
