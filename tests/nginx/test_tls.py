"""TLS to the authorization server. An nginx of its own plays the TLS side, so that both HTTP versions are real."""

import datetime

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness import config
from harness.authserver import trusting
from harness.client import get
from harness.ugly import UglyServer

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def ca():
    return trustme.CA()


def pem(certificate):
    return b"".join(blob.bytes() for blob in certificate.cert_chain_pems)


class SelfSigned:
    """A certificate that is its own issuer, in the shape of trustme's."""

    def __init__(self):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(1))
            .not_valid_after(now + datetime.timedelta(1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.cert_chain_pems = [trustme.Blob(certificate.public_bytes(serialization.Encoding.PEM))]
        self.private_key_pem = trustme.Blob(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


@pytest.fixture
def tls_gateway(start_nginx, ugly, api, secrets):
    """Starts nginx in front of `api`, and as the TLS end of `ugly` with a certificate."""

    def start(certificate, *, http2=False, name="localhost", server="", alarms_allowed=None, files=None, **keys):
        return start_nginx(
            f"""
{config.provider(f"https://{name}:@port:tls@/introspect", secrets, **keys)}
server {{ listen @listen@; location / {{ phantom_token acme; proxy_pass {api.url}; }} }}
server {{
    listen @listen:tls@ ssl {"http2" if http2 else ""};
    ssl_certificate @dir@/as.pem;
    ssl_certificate_key @dir@/as.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    access_log tls.log combined_phantom;
    {server}
    location / {{ proxy_pass {ugly.url}; proxy_set_header X-Version $server_protocol; proxy_set_header X-Tls $ssl_protocol; proxy_set_header X-Sni $ssl_server_name; proxy_set_header X-Client $ssl_client_verify; }}
}}
""",
            files={"as.pem": pem(certificate), "as.key": certificate.private_key_pem.bytes(), **(files or {})},
            alarms_allowed=alarms_allowed,
        )

    return start


@pytest.mark.parametrize(("http2", "version"), [(False, "HTTP/1.1"), (True, "HTTP/2.0")])
def test_a_certificate_of_a_trusted_authority_is_accepted(tls_gateway, ugly, api, secrets, ca, http2, version):
    nginx = tls_gateway(
        ca.issue_cert("localhost"),
        http2=http2,
        ssl_trusted_certificate="@dir@/ca.pem",
        files={"ca.pem": ca.cert_pem.bytes()},
    )
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert api.only().value("authorization") == f"Bearer {ugly.jwt_for(token)}"
    assert ugly.calls[0].request.value("x-version") == version
    assert ugly.calls[0].request.value("x-tls") == "TLSv1.3"


def test_an_address_is_verified_like_a_name(tls_gateway, secrets, ca):
    files = {"ca.pem": ca.cert_pem.bytes()}
    nginx = tls_gateway(
        ca.issue_cert("127.0.0.1"), name="127.0.0.1", ssl_trusted_certificate="@dir@/ca.pem", files=files
    )
    assert get(nginx.port, token=secrets.token()).status == 200


@pytest.mark.parametrize("http2", [False, True])
def test_a_server_that_wants_a_certificate_is_shown_ours(tls_gateway, ugly, secrets, ca, http2):
    ours = ca.issue_cert("gateway")
    nginx = tls_gateway(
        ca.issue_cert("localhost"),
        http2=http2,
        server="ssl_client_certificate @dir@/ca.pem; ssl_verify_client on;",
        # Relative to nginx.conf, as all paths are.
        ssl_trusted_certificate="ca.pem",
        ssl_certificate="ours.pem",
        ssl_certificate_key="ours.key",
        files={
            "ca.pem": ca.cert_pem.bytes(),
            "ours.pem": pem(ours),
            "ours.key": ours.private_key_pem.bytes(),
        },
    )
    assert get(nginx.port, token=secrets.token()).status == 200
    assert ugly.calls[0].request.value("x-client") == "SUCCESS"


def test_the_name_for_tls_may_differ_from_the_host(tls_gateway, ugly, secrets, ca):
    nginx = tls_gateway(
        ca.issue_cert("as.example.com"),
        http2=True,
        name="127.0.0.1",
        ssl_name="as.example.com",
        ssl_protocols="TLSv1.2",
        ssl_trusted_certificate="@dir@/ca.pem",
        files={"ca.pem": ca.cert_pem.bytes()},
    )
    for _ in range(2):
        assert get(nginx.port, token=secrets.token()).status == 200
    request = ugly.calls[0].request
    assert request.value("x-sni") == "as.example.com"
    assert (request.value("x-version"), request.value("x-tls")) == ("HTTP/1.1", "TLSv1.2")


def test_many_misses_share_connections_of_http2(tls_gateway, ugly, secrets, ca):
    nginx = tls_gateway(
        ca.issue_cert("localhost"),
        http2=True,
        ssl_trusted_certificate="@dir@/ca.pem",
        files={"ca.pem": ca.cert_pem.bytes()},
    )
    for _ in range(20):
        assert get(nginx.port, token=secrets.token()).status == 200
    assert len(ugly.calls) == 20


@pytest.mark.parametrize("fault", ["name", "expired", "untrusted", "self-signed", "no list"])
def test_a_certificate_that_cannot_be_trusted_is_502(tls_gateway, ugly, api, secrets, ca, fault):
    issuer = trustme.CA() if fault in ("untrusted", "no list") else ca
    if fault == "expired":
        certificate = issuer.issue_cert("localhost", not_before=LONG_AGO, not_after=LONG_AGO + datetime.timedelta(1))
    elif fault == "name":
        certificate = issuer.issue_cert("elsewhere.example")
    elif fault == "self-signed":
        certificate = SelfSigned()
    else:
        certificate = issuer.issue_cert("localhost")
    trusted = {} if fault == "no list" else {"ssl_trusted_certificate": "@dir@/ca.pem"}
    nginx = tls_gateway(
        certificate,
        files={"ca.pem": ca.cert_pem.bytes()},
        # The TLS end sees our refusal and logs it.
        alarms_allowed="SSL_do_handshake",
        **trusted,
    )
    assert get(nginx.port, token=secrets.token()).status == 502
    assert (ugly.calls, api.requests) == ([], [])
    line = nginx.only_line("acme")
    assert "certificate" in line.lower(), line


@pytest.mark.parametrize("fault", ["name", "untrusted"])
def test_nothing_is_verified_where_that_was_switched_off_by_name(tls_gateway, secrets, ca, fault):
    certificate = ca.issue_cert("elsewhere.example") if fault == "name" else trustme.CA().issue_cert("localhost")
    nginx = tls_gateway(certificate, ssl_verify="off")
    assert get(nginx.port, token=secrets.token()).status == 200


def two_providers(one, two, ends):
    """Providers `one` and `two` in one zone, each behind the location of its name; they ask at the TLS end."""
    locations = "".join(
        f"location = /{name} {{ phantom_token {name}; add_header X-Cache $phantom_token_cache always; "
        "alias @dir@/html/ok; }"
        for name in ("one", "two")
    )
    return f"phantom_token_zone z:1m; {one} {two} server {{ listen @listen@; {locations} }} {ends}"


def tls_end(certificate, url, name="_"):
    return f"""
server {{
    listen @listen:tls@ ssl;
    server_name {name};
    ssl_certificate @dir@/{certificate}.pem;
    ssl_certificate_key @dir@/{certificate}.key;
    location / {{ proxy_pass {url}; }}
}}
"""


def certificate_files(**certificates):
    return {"html/ok": "ok"} | {
        f"{name}.{suffix}": content
        for name, certificate in certificates.items()
        for suffix, content in (("pem", pem(certificate)), ("key", certificate.private_key_pem.bytes()))
    }


def how(nginx, token, *paths):
    given = [get(nginx.port, path, token=token) for path in paths]
    return [(answer.status, answer.value("X-Cache")) for answer in given]


@pytest.mark.parametrize("order", [("/one", "/two"), ("/two", "/one")])
def test_providers_that_ask_under_different_names_share_no_verdict(start_nginx, ugly, secrets, ca, order):
    """One address, at which the name in TLS (SNI) says who answers."""
    second = UglyServer(secrets, answer=lambda exchange: exchange.inactive())
    try:
        # `Host` says the address in both cases.
        route = "map $ssl_server_name $as { one.test " + ugly.address + "; two.test " + second.address + "; }"
        providers = [
            config.provider(
                "https://127.0.0.1:@port:tls@/introspect",
                secrets,
                name,
                client_secret="not-to-be-shown-0123",
                ssl_name=f"{name}.test",
                ssl_trusted_certificate="@dir@/ca.pem",
            )
            for name in ("one", "two")
        ]
        nginx = start_nginx(
            two_providers(*providers, route + tls_end("as", "http://$as")),
            files={"ca.pem": ca.cert_pem.bytes(), **certificate_files(**{"as": ca.issue_cert("one.test", "two.test")})},
        )
        token = secrets.token()
        expected = {"/one": (200, "MISS"), "/two": (401, "MISS")}
        assert how(nginx, token, *order) == [expected[path] for path in order]
        assert (len(ugly.calls), len(second.calls)) == (1, 1)
    finally:
        second.stop()


def test_a_provider_that_verifies_believes_no_verdict_of_one_that_does_not(start_nginx, ugly, secrets, ca):
    files = {"ca.pem": ca.cert_pem.bytes(), **certificate_files(**{"as": trustme.CA().issue_cert("localhost")})}
    trusting_ca = {"ssl_trusted_certificate": "@dir@/ca.pem"}

    def http(**first):
        providers = [
            config.provider(
                "https://localhost:@port:tls@/introspect", secrets, name, client_secret="not-to-be-shown-0123", **keys
            )
            for name, keys in (("one", first), ("two", trusting_ca))
        ]
        return two_providers(*providers, tls_end("as", ugly.url))

    # The TLS end sees our refusal and logs it.
    nginx = start_nginx(http(ssl_verify="off"), files=files, alarms_allowed="SSL_do_handshake")
    token = secrets.token()
    assert [status for status, _ in how(nginx, token, "/one", "/two")] == [200, 502]
    nginx.reload()
    assert how(nginx, token, "/one") == [(200, "SHARED")], "nothing has changed"
    nginx.write(http(**trusting_ca))
    nginx.reload()
    assert [status for status, _ in how(nginx, token, "/one", "/two")] == [502, 502]


def test_clear_text_where_tls_is_expected_is_502(gateway, api, secrets):
    nginx = gateway(
        endpoint="https://127.0.0.1:@port:clear@/introspect",
        http="server { listen @listen:clear@; location / { return 200 clear; } }",
    )
    assert get(nginx.port, token=secrets.token()).status == 502
    assert nginx.only_line("acme")
    assert api.requests == []


def test_tls_where_clear_text_is_expected_is_502(tls_gateway, start_nginx, gateway, ugly, api, secrets, ca):
    tls = tls_gateway(ca.issue_cert("localhost"), ssl_verify="off")
    nginx = gateway(endpoint=f"http://127.0.0.1:{tls.ports['tls']}/introspect")
    assert get(nginx.port, token=secrets.token()).status == 502
    assert (ugly.calls, api.requests) == ([], [])


def test_the_example_authorization_server_works_over_tls(gateway, server_as, secrets, ca, tmp_path, api):
    certificate = ca.issue_cert("localhost", "127.0.0.1")
    (tmp_path / "as.pem").write_bytes(pem(certificate))
    (tmp_path / "as.key").write_bytes(certificate.private_key_pem.bytes())
    (tmp_path / "ca.pem").write_bytes(ca.cert_pem.bytes())
    server = server_as(
        *("--tls-certificate", str(tmp_path / "as.pem"), "--tls-key", str(tmp_path / "as.key")),
        tls=trusting(tmp_path / "ca.pem"),
    )
    nginx = gateway(
        endpoint=server.introspection_endpoint(),
        client_id=server.client_id,
        client_secret=server.client_secret,
        ssl_trusted_certificate=tmp_path / "ca.pem",
    )
    token = server.issue(scope="read")
    assert get(nginx.port, token=token).status == 200
    assert api.only().value("authorization").startswith("Bearer ey")
