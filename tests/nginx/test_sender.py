"""Tokens that are bound to their sender: a DPoP proof with each request (RFC 9449), or a certificate (RFC 8705)."""

import email.utils
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.parse

import pytest
import trustme

from harness.client import Http1, Http2, get, get2
from harness.dpop import Sender, certificate_thumbprint, sha256
from harness.wait import until

SENDER = Sender()
URI = "http://gateway/orders"
PROTOCOLS = pytest.mark.parametrize("protocol", ["HTTP/1.1", "HTTP/2"])


@pytest.fixture
def guarded(gateway, authorization_server):
    """A gateway whose answers show what became of the token, and why."""

    def start(location="", **words):
        return gateway(
            endpoint=authorization_server.introspection_endpoint(),
            client_secret=authorization_server.client_secret,
            http=f"phantom_token_zone {words.pop('zone', 'tokens:4m')}; {words.pop('http', '')}",
            location=f"""
                add_header X-Cache $phantom_token_cache always;
                add_header X-Reason $phantom_token_reason always;
                add_header X-Result $phantom_token_result always;
                add_header X-Worker $pid always;
                {location}""",
            **words,
        )

    return start


def bound(authorization_server, sender=SENDER, **cnf):
    """A token that is bound to the key of a sender, or to what is said."""
    cnf = cnf or {"jkt": sender.jkt}
    return authorization_server.issue(claims={"cnf": json.dumps(cnf)})


def ask(nginx, headers, protocol="HTTP/1.1", target="/orders", method="GET"):
    """One request with these headers."""
    if protocol == "HTTP/2":
        return get2(nginx.port, target, method, headers=[(name.lower(), value) for name, value in headers])
    return get(nginx.port, target, method, headers=headers)


def refused(answer, reason, error="invalid_dpop_proof", scheme="DPoP"):
    """Whether it is, for this reason, and the client can tell."""
    assert (answer.status, answer.value("X-Reason")) == (401, reason)
    challenge = answer.value("WWW-Authenticate")
    assert challenge.startswith(f"{scheme} ") and f'error="{error}"' in challenge, challenge
    return True


@pytest.fixture
def listen(request):
    """The parameters of a listener for the protocol of the test."""
    return "http2" if request.getfixturevalue("protocol") == "HTTP/2" else ""


@PROTOCOLS
@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256", "PS256"])
def test_with_a_proof_each_request_passes_and_the_api_is_sent_a_bearer_token(
    guarded, authorization_server, api, protocol, listen, algorithm
):
    nginx = guarded(listen=listen)
    sender = Sender(algorithm)
    token = bound(authorization_server, sender)
    for cache in ("MISS", "HIT", "HIT"):
        answer = ask(nginx, sender.headers("GET", URI, token), protocol)
        assert (answer.status, answer.value("X-Cache"), answer.value("X-Result")) == (200, cache, "ok")
    assert len(api.requests) == 3
    for request in api.requests:
        assert request.value("authorization").startswith("Bearer ey")
    api.never_saw(token)


@PROTOCOLS
def test_a_proof_is_used_once(guarded, authorization_server, api, protocol, listen):
    nginx = guarded(listen=listen)
    token = bound(authorization_server)
    headers = SENDER.headers("GET", URI, token)
    assert ask(nginx, headers, protocol).status == 200
    for _ in range(2):
        assert refused(ask(nginx, headers, protocol), "proof_replayed")
    assert len(api.requests) == 1
    assert ask(nginx, SENDER.headers("GET", URI, token), protocol).status == 200


def test_not_on_another_worker_either_and_not_after_a_purge_or_a_reload(guarded, authorization_server, api):
    nginx = guarded(
        listen="reuseport", workers=2, server="location = /purge { phantom_token_purge acme; allow 127.0.0.1; deny all; }"
    )
    until(lambda: len(nginx.workers()) == 2, "both workers are there")
    token = bound(authorization_server)

    def on_each_worker(headers):
        answers = {}
        for _ in range(200):
            answer = ask(nginx, headers)
            answers.setdefault(answer.value("X-Worker"), answer)
            if len(answers) == 2:
                return list(answers.values())
        raise AssertionError("one worker answers all")

    headers = SENDER.headers("GET", URI, token)
    first, other = on_each_worker(headers)
    assert first.status == 200
    assert refused(other, "proof_replayed")

    purged = get(
        nginx.port,
        "/purge",
        "POST",
        headers=[("Content-Type", "application/x-www-form-urlencoded")],
        body=f"token={token}".encode(),
    )
    assert purged.status == 200
    assert all(refused(answer, "proof_replayed") for answer in on_each_worker(headers))
    old = set(nginx.workers())
    nginx.reload()
    until(lambda: not old & set(nginx.workers()), "the workers are others")
    assert all(refused(answer, "proof_replayed") for answer in on_each_worker(headers))
    assert len(api.requests) == 1


@PROTOCOLS
def test_without_a_proof_or_as_a_bearer_token_a_bound_token_is_worth_nothing(
    guarded, authorization_server, api, protocol, listen
):
    nginx = guarded(listen=listen)
    token = bound(authorization_server)
    for _ in ("a miss", "a hit"):
        assert refused(ask(nginx, [("Authorization", f"DPoP {token}")], protocol), "proof_missing")
        bearer = [("Authorization", f"Bearer {token}")]
        assert refused(ask(nginx, bearer, protocol), "scheme", "invalid_token")
        proof = ("DPoP", SENDER.proof("GET", URI, token))
        assert refused(ask(nginx, [*bearer, proof], protocol), "scheme", "invalid_token")
    two = [*SENDER.headers("GET", URI, token), ("DPoP", SENDER.proof("GET", URI, token))]
    assert refused(ask(nginx, two, protocol), "proof_several")
    assert api.requests == []


OTHER = Sender(name="another sender")

WRONG = {
    "proof_malformed": [
        {"iat": None},
        {"iat": "now"},
        {"header": {"crit": ["x"]}},
        # Nothing stands where the signature would.
        {"header": {"alg": "none"}, "key": ""},
    ],
    "proof_typ": [{"header": {"typ": "JWT"}}, {"header": {"typ": None}}],
    "proof_alg": [{"header": {"alg": "HS256"}, "key": "0123456789" * 4}],
    "proof_jwk": [
        {"header": {"jwk": None}},
        {"header": {"jwk": {**SENDER.jwk, "d": "AAAA"}}},
        {"header": {"jwk": {"kty": "oct", "k": "AAAA"}}},
    ],
    "proof_signature": [{"key": OTHER.key}],
    "proof_htm": [{"htm": "POST"}, {"htm": "get"}, {"htm": None}],
    "proof_htu": [
        {"htu": "http://gateway/"},
        {"htu": "http://gateway/orders/"},
        {"htu": "https://gateway/orders"},
        {"htu": "http://other/orders"},
        {"htu": "http://user@gateway/orders"},
        {"htu": "/orders"},
        {"htu": None},
    ],
    "proof_iat": [{"iat": int(time.time()) - 3600}, {"iat": int(time.time()) + 3600}],
    "proof_jti": [{"jti": None}, {"jti": ""}, {"jti": "x" * 257}],
    "proof_ath": [{"ath": None}, {"ath": sha256("another token")}],
}


@pytest.mark.parametrize("reason", WRONG)
def test_a_proof_with_one_thing_wrong_is_refused_by_a_word_of_its_own(guarded, authorization_server, api, reason):
    nginx = guarded()
    token = bound(authorization_server)
    for changes in WRONG[reason]:
        headers = SENDER.headers("GET", URI, token, **changes)
        assert refused(ask(nginx, headers), reason), changes
    assert api.requests == []


@pytest.mark.parametrize("proof", ["", "junk", "a.b.c", "ey" * 3000, "ey" * 5000, "\xff.\xff.\xff"])
def test_what_is_no_proof_at_all_is_refused(guarded, authorization_server, api, proof):
    nginx = guarded(http="large_client_header_buffers 4 32k;")
    token = bound(authorization_server)
    headers = [("Authorization", f"DPoP {token}"), ("DPoP", proof.encode("latin-1"))]
    answer = ask(nginx, headers)
    assert (answer.status, answer.value("X-Reason")) in [(401, "proof_malformed"), (401, "proof_missing")]
    assert api.requests == []


def test_a_proof_of_another_key_is_refused(guarded, authorization_server, api):
    nginx = guarded()
    token = bound(authorization_server)
    assert refused(ask(nginx, OTHER.headers("GET", URI, token)), "proof_key", "invalid_token")
    assert api.requests == []


@pytest.mark.parametrize("cnf", [{}, "x", {"jwk": {"kty": "EC"}}, {"jkt": 1}, {"x5t#S256": "short"}])
def test_a_token_that_is_bound_to_what_is_not_known_is_refused(guarded, authorization_server, api, cnf):
    nginx = guarded()
    token = authorization_server.issue(claims={"cnf": json.dumps(cnf)})
    for headers in ([("Authorization", f"Bearer {token}")], SENDER.headers("GET", URI, token)):
        assert refused(ask(nginx, headers), "confirmation_unknown", "invalid_token", "Bearer")
    assert api.requests == []


def test_a_token_that_is_not_bound_is_a_bearer_token(guarded, authorization_server, api):
    nginx = guarded()
    token = authorization_server.issue()
    assert ask(nginx, [("Authorization", f"Bearer {token}")]).status == 200
    assert refused(ask(nginx, SENDER.headers("GET", URI, token)), "not_bound", "invalid_token")


def test_where_only_bound_tokens_are_let_in_others_are_not(guarded, authorization_server, api):
    nginx = guarded(location="phantom_token_sender_constraint require;")
    answer = ask(nginx, [("Authorization", f"Bearer {authorization_server.issue()}")])
    assert (answer.status, answer.value("X-Reason")) == (401, "not_bound")
    assert api.requests == []
    token = bound(authorization_server)
    assert ask(nginx, SENDER.headers("GET", URI, token)).status == 200


def test_where_nobody_looks_a_bound_token_passes(guarded, authorization_server):
    nginx = guarded(location="phantom_token_sender_constraint ignore;")
    token = bound(authorization_server)
    for headers in ([("Authorization", f"Bearer {token}")], [("Authorization", f"DPoP {token}")]):
        assert ask(nginx, headers).status == 200


@PROTOCOLS
@pytest.mark.parametrize(
    ("target", "htu"),
    [
        ("/orders?a=b", URI),
        ("/orders", "HTTP://GATEWAY:80/%6frders?x#y"),
        ("/a/../orders", URI),
        ("/%7Euser/a%2fb", "http://gateway/~user/a%2Fb"),
        ("/", "http://gateway"),
    ],
)
def test_a_uri_is_the_same_however_it_is_written(guarded, authorization_server, protocol, listen, target, htu):
    nginx = guarded(listen=listen)
    token = bound(authorization_server)
    answer = ask(nginx, SENDER.headers("GET", htu, token), protocol, target=target)
    assert answer.value("X-Reason") is None
    assert answer.status == 200


def test_behind_a_load_balancer_the_uri_is_the_one_that_is_set(guarded, authorization_server):
    nginx = guarded(location="phantom_token_dpop_uri https://api.example.com/v1$request_uri;")
    token = bound(authorization_server)
    assert refused(ask(nginx, SENDER.headers("GET", URI, token)), "proof_htu")
    assert ask(nginx, SENDER.headers("GET", "https://api.example.com/v1/orders", token)).status == 200


def test_the_window_is_the_one_that_is_set(guarded, authorization_server):
    nginx = guarded(location="phantom_token_dpop_window 10m;")
    token = bound(authorization_server)
    ago = int(time.time())
    assert ask(nginx, SENDER.headers("GET", URI, token, iat=ago - 500)).status == 200
    assert refused(ask(nginx, SENDER.headers("GET", URI, token, iat=ago - 700)), "proof_iat")


TWO_WINDOWS = """
    location /short { phantom_token acme; phantom_token_dpop_window 2s; phantom_token_dpop_uri http://gateway/orders;
        proxy_pass http://127.0.0.1:@port@/ok; }
    location /long { phantom_token acme; phantom_token_dpop_window 60s; phantom_token_dpop_uri http://gateway/orders;
        add_header X-Reason $phantom_token_reason always; proxy_pass http://127.0.0.1:@port@/ok; }
    location /ok { return 200; }
"""


def is_over(iat, window):
    """Waits until a proof of then is no longer accepted in this window, nor noted for it."""
    until(lambda: time.time() > iat + window + 4, "the time of the proof is over")


@pytest.mark.parametrize("zone", ["tokens:1m", None])
def test_a_proof_passes_once_where_two_windows_differ(guarded, authorization_server, zone):
    nginx = guarded(server=TWO_WINDOWS) if zone else guarded(server=TWO_WINDOWS, cache_zone="off")
    token = bound(authorization_server)
    iat = int(time.time())
    headers = SENDER.headers("GET", URI, token, iat=iat)
    of_then = SENDER.headers("GET", URI, token, iat=iat)
    assert ask(nginx, headers, target="/short").status == 200
    is_over(iat, 2)
    assert refused(ask(nginx, headers, target="/long"), "proof_replayed")
    assert ask(nginx, of_then, target="/long").status == 200
    assert ask(nginx, SENDER.headers("GET", URI, token), target="/long").status == 200


def test_a_proof_passes_once_after_a_longer_window(guarded, authorization_server):
    nginx = guarded(location="phantom_token_dpop_window 2s;")
    token = bound(authorization_server)
    iat = int(time.time())
    headers = SENDER.headers("GET", URI, token, iat=iat)
    assert ask(nginx, headers).status == 200
    nginx.write(nginx._parts[0].replace("dpop_window 2s", "dpop_window 60s"))
    nginx.reload()
    is_over(iat, 2)
    # Another one makes room in the shard of the first, or not.
    for _ in range(20):
        assert ask(nginx, SENDER.headers("GET", URI, token)).status == 200
    answer = ask(nginx, headers)
    assert (answer.status, answer.value("X-Reason")) in [(401, "proof_replayed"), (503, "replays_lost")]


# Moves the clocks that tell the time of day by as many seconds as a file says, and leaves the others alone.
CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *offset;

__attribute__((constructor)) static void attach(void) {
  int file = open(getenv("CLOCK_OFFSET"), O_RDONLY);
  void *memory = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
  if (memory != MAP_FAILED) offset = memory;
  close(file);
}

int clock_gettime(clockid_t id, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, id, now);
  if (!failed && offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
  return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
  struct timespec exact;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timeval now;
  gettimeofday(&now, NULL);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
"""


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """Sets the clock of an nginx that is started after this, by seconds."""
    library, offset = tmp_path / "clock.so", tmp_path / "offset"
    (tmp_path / "clock.c").write_text(CLOCK)
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "clock.c"], check=True)

    def change(seconds):
        # In place: nginx has it mapped.
        with open(offset, "r+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))

    offset.write_bytes(bytes(8))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_OFFSET", str(offset))
    yield change


@pytest.mark.parametrize("zone", ["tokens:1m", None])
def test_a_proof_passes_once_when_the_clock_is_set_back(clock, guarded, authorization_server, monkeypatch, zone):
    nginx = guarded(location="phantom_token_dpop_window 2s;", **({} if zone else {"cache_zone": "off"}))
    monkeypatch.delenv("LD_PRELOAD")
    token = bound(authorization_server)
    iat = int(time.time())
    headers = SENDER.headers("GET", URI, token, iat=iat)
    assert ask(nginx, headers).status == 200
    is_over(iat, 2)
    assert refused(ask(nginx, headers), "proof_iat")
    # Where there is no zone, these make the worker forget what has ended.
    for _ in range(2):
        assert ask(nginx, SENDER.headers("GET", URI, token)).status == 200
    clock(int(iat - 1 - time.time()))
    date = email.utils.parsedate_to_datetime(ask(nginx, []).value("Date")).timestamp()
    if time.time() - date < 4:
        pytest.skip("this nginx can't be given a clock of its own")
    answer = ask(nginx, headers)
    # On a machine that is very slow its time is over once more.
    again = [(401, "proof_replayed"), (503, "replays_lost"), (401, "proof_iat")]
    assert (answer.status, answer.value("X-Reason")) in again
    # One that was made after those that are forgotten passes.
    assert ask(nginx, SENDER.headers("GET", URI, token, iat=int(date) + 9)).status == 200


def test_a_proof_is_for_the_resource_by_its_name_whatever_host_the_client_claims(guarded, authorization_server):
    nginx = guarded(location="phantom_token_resource https://api.example.com:443/ignored?x;")
    token = bound(authorization_server)
    assert refused(ask(nginx, SENDER.headers("GET", URI, token)), "proof_htu")
    assert ask(nginx, SENDER.headers("GET", "https://api.example.com/orders", token)).status == 200
    assert refused(ask(nginx, SENDER.headers("GET", "https://other.example.com/orders", token)), "proof_htu")
    assert refused(ask(nginx, SENDER.headers("GET", "https://api.example.com/ignored", token)), "proof_htu")


@PROTOCOLS
def test_a_nonce_is_handed_out_and_asked_for(guarded, authorization_server, api, protocol, listen):
    nginx = guarded(listen=f"reuseport {listen}", workers=2, location="phantom_token_dpop_nonce on;")
    token = bound(authorization_server)
    answer = ask(nginx, SENDER.headers("GET", URI, token), protocol)
    assert refused(answer, "proof_nonce", "use_dpop_nonce")
    nonce = answer.value("DPoP-Nonce")
    assert api.requests == []
    # Whichever worker has handed it out.
    for _ in range(20):
        assert ask(nginx, SENDER.headers("GET", URI, token, nonce=nonce), protocol).status == 200
    for wrong in ("", "x", nonce[:-1], nonce.swapcase()):
        answer = ask(nginx, SENDER.headers("GET", URI, token, nonce=wrong), protocol)
        assert refused(answer, "proof_nonce", "use_dpop_nonce")
        assert answer.value("DPoP-Nonce")


def test_when_no_more_proofs_can_be_noted_it_is_503_and_nobody_passes_twice(guarded, authorization_server, api):
    nginx = guarded(
        zone="tokens:512k", http="keepalive_requests 10000;", location="phantom_token_dpop_window 10m;", quiet=True
    )
    token = bound(authorization_server)
    used, statuses = [], []
    with Http1(nginx.port) as client:
        for _ in range(6000):
            headers = SENDER.headers("GET", URI, token)
            answer = client.request("GET", "/orders", headers=headers)
            statuses.append(answer.status)
            if answer.status == 503:
                break
            used.append(headers)
    assert statuses[-1] == 503 and set(statuses[:-1]) == {200}
    assert answer.value("X-Reason") == "replays_full"
    assert answer.value("WWW-Authenticate") is None
    assert answer.value("Retry-After")
    line = nginx.only_line("no room to note DPoP proofs")
    assert "[warn]" in line and "phantom_token_zone" in line
    for headers in used[:20] + used[-20:]:
        assert refused(ask(nginx, headers), "proof_replayed")
    assert len(api.requests) == len(used)
    # Others are served as before.
    assert ask(nginx, [("Authorization", f"Bearer {authorization_server.issue()}")]).status == 200


@pytest.fixture(scope="module")
def ca():
    return trustme.CA()


def pem(certificate):
    return b"".join(blob.bytes() for blob in certificate.cert_chain_pems)


@pytest.fixture
def tls_guarded(guarded, ca):
    """The gateway with TLS, which asks clients for a certificate and takes any."""
    own = ca.issue_cert("localhost")

    def start(verify="optional_no_ca", protocol="HTTP/1.1", **words):
        return guarded(
            listen=f"ssl {'http2' if protocol == 'HTTP/2' else ''}",
            server=f"""
                ssl_certificate own.pem;
                ssl_certificate_key own.key;
                ssl_client_certificate ca.pem;
                ssl_verify_client {verify};""",
            files={
                "own.pem": pem(own),
                "own.key": own.private_key_pem.bytes(),
                "ca.pem": ca.cert_pem.bytes(),
            },
            **words,
        )

    return start


def context_of(certificate, ca, protocol):
    context = ssl.create_default_context()
    ca.configure_trust(context)
    context.set_alpn_protocols(["h2" if protocol == "HTTP/2" else "http/1.1"])
    if certificate:
        certificate.configure_cert(context)
    return context


@PROTOCOLS
@pytest.mark.parametrize("verify", ["optional_no_ca", "optional"])
def test_a_token_that_is_bound_to_a_certificate_passes_over_its_connections_alone(
    tls_guarded, authorization_server, api, ca, protocol, verify
):
    nginx = tls_guarded(verify, protocol)
    own, other = ca.issue_cert("client"), ca.issue_cert("client")
    token = bound(authorization_server, **{"x5t#S256": certificate_thumbprint(own.cert_chain_pems[0].bytes())})

    def over(certificate):
        kind = Http2 if protocol == "HTTP/2" else Http1
        with kind(nginx.port, tls=context_of(certificate, ca, protocol)) as client:
            return [client.request("GET", "/orders", token=token) for _ in range(2)]

    for _ in ("misses", "hits"):
        for answer in over(other):
            assert refused(answer, "certificate_other", "invalid_token", "Bearer")
        for answer in over(None):
            assert refused(answer, "certificate_missing", "invalid_token", "Bearer")
        assert [answer.status for answer in over(own)] == [200, 200]
    assert len(api.requests) == 4


def test_a_token_that_is_bound_to_both_needs_both(tls_guarded, authorization_server, api, ca):
    nginx = tls_guarded()
    own = ca.issue_cert("client")
    thumbprint = certificate_thumbprint(own.cert_chain_pems[0].bytes())
    token = bound(authorization_server, **{"x5t#S256": thumbprint, "jkt": SENDER.jkt})
    uri = "https://gateway/orders"

    def over(certificate, headers):
        with Http1(nginx.port, tls=context_of(certificate, ca, "HTTP/1.1")) as client:
            return client.request("GET", "/orders", headers=headers)

    missing = over(None, SENDER.headers("GET", uri, token))
    assert refused(missing, "certificate_missing", "invalid_token", "Bearer")
    assert refused(over(own, [("Authorization", f"DPoP {token}")]), "proof_missing")
    assert api.requests == []
    assert over(own, SENDER.headers("GET", uri, token)).status == 200


@pytest.mark.parametrize("escape", [urllib.parse.quote, lambda text: urllib.parse.quote(text, safe="")])
def test_where_tls_ends_before_nginx_the_certificate_is_what_the_header_says(guarded, authorization_server, ca, escape):
    nginx = guarded(location="phantom_token_client_certificate $http_x_client_cert;")
    own, other = (ca.issue_cert("client").cert_chain_pems[0].bytes() for _ in range(2))
    token = bound(authorization_server, **{"x5t#S256": certificate_thumbprint(own)})
    bearer = ("Authorization", f"Bearer {token}")
    assert ask(nginx, [bearer, ("X-Client-Cert", escape(own.decode()))]).status == 200
    answer = ask(nginx, [bearer, ("X-Client-Cert", escape(other.decode()))])
    assert refused(answer, "certificate_other", "invalid_token", "Bearer")
    for nothing in ([], [("X-Client-Cert", "")], [("X-Client-Cert", "junk")], [("X-Client-Cert", "%")]):
        answer = ask(nginx, [bearer, *nothing])
        assert refused(answer, "certificate_missing", "invalid_token", "Bearer")


def test_a_certificate_in_another_spelling_of_its_header_is_none(guarded, authorization_server, ca, api):
    """A load balancer that sets the header may let another spelling pass, beside its own, or if it has no certificate to set."""
    nginx = guarded(
        server="underscores_in_headers on; ignore_invalid_headers off;",
        location="phantom_token_client_certificate $http_x_client_cert;",
    )
    own, other = (ca.issue_cert("client").cert_chain_pems[0].bytes() for _ in range(2))
    token = bound(authorization_server, **{"x5t#S256": certificate_thumbprint(own)})
    bearer = ("Authorization", f"Bearer {token}")
    own, other = (urllib.parse.quote(pem.decode()) for pem in (own, other))
    for forged in (
        [("X_Client_Cert", own)],
        [("X-Client_Cert", own)],
        [("X_Client_Cert", own), ("X-Client-Cert", other)],
        [("X-Client-Cert", other), ("X_Client_Cert", own)],
        [("X-Client-Cert", own), ("X-Client-Cert", other)],
        [("X-Client-Cert", own), ("X.Client.Cert", other)],
    ):
        answer = ask(nginx, [bearer, *forged])
        assert refused(answer, "certificate_missing", "invalid_token", "Bearer")
    assert api.requests == []
    assert ask(nginx, [bearer, ("x-CLIENT-cert", own)]).status == 200


def test_a_certificate_is_read_before_its_header_is_ours(guarded, authorization_server, ca, api):
    nginx = guarded(
        location="""
            phantom_token_client_certificate $http_x_client_cert;
            phantom_token_set_header X-Client-Cert verified;
        """,
    )
    own = ca.issue_cert("client").cert_chain_pems[0].bytes()
    token = bound(authorization_server, **{"x5t#S256": certificate_thumbprint(own)})
    answer = ask(nginx, [("Authorization", f"Bearer {token}"), ("X-Client-Cert", urllib.parse.quote(own.decode()))])
    assert answer.status == 200
    assert api.only().value("x-client-cert") == "verified"


def test_no_log_shows_a_proof(guarded, authorization_server, secrets):
    nginx = guarded(level="debug")
    token = bound(authorization_server)
    for _ in range(2):
        headers = SENDER.headers("GET", URI, token)
        secrets.add_jwt(headers[1][1])
        assert ask(nginx, headers).status == 200
        assert refused(ask(nginx, headers), "proof_replayed")
