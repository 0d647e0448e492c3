"""The module against oidc-provider with tokens that it binds to a key or to a certificate of its client."""

import urllib.parse

import pytest

from harness.client import get
from harness.dpop import Sender, certificate_thumbprint
from harness.keys import private_pem
from harness.load import claims_of

SENDER = Sender()
URI = "http://gateway/"


@pytest.fixture
def minting(guarded):
    """A gateway that mints: this server hands out no JWT."""

    def start(location=""):
        return guarded(
            files={"mint.pem": private_pem("ES256", "mint")},
            dialect="mint",
            mint_key="mint.pem",
            mint_issuer="https://gateway.example",
            location=f"add_header X-Reason $phantom_token_reason always; {location}",
        )

    return start


def said_of(oidc_provider, token):
    status, answer = oidc_provider.call(
        "/token/introspection", {"token": token}, basic=oidc_provider.secrets["client_secret_basic"]
    )
    assert status == 200 and answer["active"] is True
    return answer


def refused(answer, reason):
    return (answer.status, answer.value("X-Reason")) == (401, reason)


def test_a_token_that_was_asked_for_with_a_proof_passes_with_one(minting, oidc_provider, api, secrets):
    token = secrets.add(oidc_provider.issue_to(SENDER))
    said = said_of(oidc_provider, token)
    assert (said["cnf"], said["token_type"]) == ({"jkt": SENDER.jkt}, "DPoP")

    nginx = minting()
    assert refused(get(nginx.port, token=token), "scheme")
    assert refused(get(nginx.port, authorization=f"DPoP {token}"), "proof_missing")
    thief = Sender(name="a thief")
    assert refused(get(nginx.port, headers=thief.headers("GET", URI, token)), "proof_key")
    assert api.requests == []
    for cache in ("HIT", "HIT"):
        headers = SENDER.headers("GET", URI, token)
        answer = get(nginx.port, headers=headers)
        assert (answer.status, answer.value("X-Cache")) == (200, cache)
        assert refused(get(nginx.port, headers=headers), "proof_replayed")
    assert claims_of(api.requests[0].value("authorization"))["client_id"] == "app"


def test_a_token_that_was_asked_for_with_a_certificate_passes_with_it(minting, oidc_provider, api, secrets):
    token = secrets.add(oidc_provider.issue_to_certificate())
    own = oidc_provider.certificates.client_certificate
    thumbprint = certificate_thumbprint(own.encode())
    assert said_of(oidc_provider, token)["cnf"] == {"x5t#S256": thumbprint}

    nginx = minting("phantom_token_client_certificate $http_x_client_cert;")
    assert refused(get(nginx.port, token=token), "certificate_missing")
    other = urllib.parse.quote(oidc_provider.certificates.server["certificate"])
    assert refused(get(nginx.port, token=token, headers=[("X-Client-Cert", other)]), "certificate_other")
    assert api.requests == []
    shown = [("X-Client-Cert", urllib.parse.quote(own))]
    assert get(nginx.port, token=token, headers=shown).status == 200


def test_a_token_that_is_bound_to_nothing_is_a_bearer_token(minting, oidc_provider, secrets):
    token = secrets.add(oidc_provider.issue())
    assert "cnf" not in said_of(oidc_provider, token)
    nginx = minting()
    assert get(nginx.port, token=token).status == 200
    assert refused(get(nginx.port, headers=SENDER.headers("GET", URI, token)), "not_bound")
