"""HTTP/3: what is promised of the gateway holds over QUIC as it does over TCP."""

import json
import threading
import time

import pytest

from harness import config
from harness.dpop import Sender, certificate_thumbprint
from harness.http3 import Http3
from harness.keys import private_pem
from harness.nginx import descriptors
from harness.protocols import EACH_PROTOCOL, ONLY_WITH_HTTP3, SPOKEN, Front
from harness.ugly import Exchange
from harness.wait import until

PATIENT = "60s"
SENDER = Sender()
MEGABYTES = bytes(range(256)) * (4 << 12)


@pytest.fixture(scope="module")
def front():
    return Front()


@pytest.fixture
def served(gateway, front):
    """Starts the gateway with TLS, for each protocol that this nginx speaks."""

    def start(server="", files=None, quic="reuseport", **words):
        return gateway(
            listen=front.listen,
            server=f"{front.server(quic)} {server}",
            files={**front.files(), **(files or {})},
            **words,
        )

    return start


def by_name(exchange):
    """Answers by what the token is called."""
    kind = exchange.token.split("-")[0]
    answers = {
        "inactive": lambda: exchange.inactive(),
        "narrow": lambda: exchange.active(aud="here", scope="other"),
        "foreign": lambda: exchange.active(aud="elsewhere"),
        "old": lambda: exchange.active(aud="here", auth_time=1),
        "bound": lambda: exchange.active(aud="here", cnf={"jkt": SENDER.jkt}),
        "broken": lambda: exchange.reply(500),
        "busy": lambda: exchange.reply(503, headers=["Retry-After: 7"]),
        "slow": lambda: exchange.hang(),
    }
    answers.get(kind, lambda: exchange.active(aud="here", auth_time=int(time.time())))()


STRICT = """
    phantom_token_scopes read;
    phantom_token_audience here;
    phantom_token_realm orders;
    location /fresh { phantom_token acme; phantom_token_max_age 5m; proxy_pass http://127.0.0.1:1; }
    location /nonce { phantom_token acme; phantom_token_dpop_nonce on; proxy_pass http://127.0.0.1:1; }
"""

# Outcome: target, token, status, what the challenge has, Retry-After.
OUTCOMES = {
    "missing": ("/", None, 401, ['Bearer realm="orders"'], None),
    "malformed": ("/", "a b", 400, ['error="invalid_request"'], None),
    "inactive": ("/", "inactive-token-1", 401, ['error="invalid_token"'], None),
    "forbidden": ("/", "narrow-token-1", 403, ['error="insufficient_scope"', 'scope="read"'], None),
    "invalid": ("/", "foreign-token-1", 401, ['error="invalid_token"'], None),
    "step_up": ("/fresh", "old-token-1", 401, ['error="insufficient_user_authentication"'], None),
    "unproven": ("/", "bound-token-1", 401, ["DPoP", 'error="invalid_token"', "algs="], None),
    "nonce asked for": ("/nonce", None, 401, ["Bearer", "DPoP"], None),
    "unavailable, 502": ("/", "broken-token-1", 502, None, None),
    "unavailable, 503": ("/", "busy-token-1", 503, None, "7"),
    "unavailable, 504": ("/", "slow-token-1", 504, None, None),
}


@pytest.fixture
def strict(served, ugly):
    ugly.answer = by_name
    return served(server=STRICT, timeout="2s", retries="0", max_fails="0")


# Of the connection and the moment, and not of the answer.
PASSING = {"date", "connection", "keep-alive", "transfer-encoding", "content-length", "alt-svc"}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_refusal_is_the_same_over_each_protocol(strict, front, api, outcome):
    target, token, status, challenge, retry_after = OUTCOMES[outcome]
    answers = {}
    for protocol in SPOKEN:
        answer = front.ask(strict, protocol, target=target, token=token)
        assert answer.status == status, protocol
        assert answer.value("retry-after") == retry_after
        told = ", ".join(answer.values("www-authenticate"))
        assert bool(challenge) == bool(told)
        assert all(part in told for part in challenge or []), told
        assert answer.value("content-type") == "application/json"
        assert set(answer.json()) == {"code", "message"}
        headers = sorted((name.lower(), value) for name, value in answer.headers if name.lower() not in PASSING)
        answers[protocol] = (answer.status, headers, answer.body)
    for protocol, answer in answers.items():
        assert answer == answers["HTTP/1.1"], protocol
    assert api.requests == []


@EACH_PROTOCOL
def test_an_active_token_reaches_the_api_as_a_jwt(served, front, ugly, api, secrets, protocol):
    nginx = served(location="add_header X-Cache $phantom_token_cache always;")
    token = secrets.token()
    with front.connect(nginx, protocol) as client:
        answers = [client.request(target="/orders?a=b", token=token) for _ in range(3)]
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"hello")] * 3
    assert [answer.value("x-cache") for answer in answers] == ["MISS", "HIT", "HIT"]
    assert [request.value("authorization") for request in api.requests] == [f"Bearer {ugly.jwt_for(token)}"] * 3
    assert ugly.calls_for(token) == 1
    api.never_saw(token)
    version = {"HTTP/1.1": "HTTP/1.1", "HTTP/2": "HTTP/2.0", "HTTP/3": "HTTP/3.0"}[protocol]
    assert all(f"protocol={version}" in line for line in nginx.wait_access("/orders", count=3))


@EACH_PROTOCOL
def test_two_tokens_let_nobody_in(served, front, ugly, api, secrets, protocol):
    # At `info` nginx itself logs both lines.
    nginx = served(http="underscores_in_headers on;", level="notice")
    one, two = secrets.token(), secrets.token()
    names = [("authorization", "authorization"), ("authorization", "Authorization")]
    for first, second in names if protocol == "HTTP/1.1" else names[:1]:
        with front.connect(nginx, protocol) as client:
            answer = client.request(headers=[(first, f"Bearer {one}"), (second, f"Bearer {two}")])
        assert answer.status == 400
    for joined in (f"Bearer {one}, Bearer {two}", f"Bearer {one}\tBearer {two}", f"Bearer {one} {two}"):
        assert front.ask(nginx, protocol, headers=[("authorization", joined)]).status == 400
    assert (api.requests, ugly.calls) == ([], [])


# Tokens that are bound to their sender.


@pytest.fixture
def guarded(served, authorization_server):
    """A gateway whose answers show what became of the token, and why."""

    def start(location="", **words):
        return served(
            endpoint=authorization_server.introspection_endpoint(),
            client_secret=authorization_server.client_secret,
            http=f"phantom_token_zone tokens:4m; {words.pop('http', '')}",
            location=f"add_header X-Reason $phantom_token_reason always; {location}",
            **words,
        )

    return start


def bound(authorization_server, **cnf):
    return authorization_server.issue(claims={"cnf": json.dumps(cnf or {"jkt": SENDER.jkt})})


@EACH_PROTOCOL
def test_a_bound_token_passes_with_its_proof_and_once(guarded, front, authorization_server, api, protocol):
    nginx = guarded()
    token = bound(authorization_server)
    with front.connect(nginx, protocol) as client:
        for _ in range(2):
            headers = lowercase(SENDER.headers("GET", "https://gateway/orders", token))
            answer = client.request(target="/orders", headers=headers)
            assert (answer.status, answer.value("x-reason")) == (200, None)
            again = client.request(target="/orders", headers=headers)
            assert (again.status, again.value("x-reason")) == (401, "proof_replayed")
        other = lowercase(SENDER.headers("GET", "https://other/orders", token))
        assert client.request(target="/orders", headers=other).value("x-reason") == "proof_htu"
        without = [("authorization", f"DPoP {token}")]
        assert client.request(target="/orders", headers=without).value("x-reason") == "proof_missing"
        assert client.request(target="/orders", token=token).value("x-reason") == "scheme"
    assert len(api.requests) == 2
    assert all(request.value("authorization").startswith("Bearer ey") for request in api.requests)


def lowercase(headers):
    """As HTTP/2 and 3 have the names of fields."""
    return [(name.lower(), value) for name, value in headers]


@EACH_PROTOCOL
def test_a_nonce_is_asked_for_and_handed_out(guarded, front, authorization_server, protocol):
    nginx = guarded(location="phantom_token_dpop_nonce on;")
    token = bound(authorization_server)
    with front.connect(nginx, protocol) as client:
        answer = client.request(headers=lowercase(SENDER.headers("GET", "https://gateway/", token)))
        assert (answer.status, answer.value("x-reason")) == (401, "proof_nonce")
        assert 'error="use_dpop_nonce"' in answer.value("www-authenticate")
        nonce = answer.value("dpop-nonce")
        proof = lowercase(SENDER.headers("GET", "https://gateway/", token, nonce=nonce))
        assert client.request(headers=proof).status == 200


@EACH_PROTOCOL
def test_a_certificate_is_needed_on_the_connection(guarded, front, authorization_server, protocol):
    nginx = guarded(server="ssl_client_certificate ca.pem; ssl_verify_client optional_no_ca;")
    own, other = front.ca.issue_cert("client"), front.ca.issue_cert("client")
    token = bound(authorization_server, **{"x5t#S256": certificate_thumbprint(own.cert_chain_pems[0].bytes())})
    for certificate, status, reason in [
        (other, 401, "certificate_other"),
        (None, 401, "certificate_missing"),
        (own, 200, None),
    ]:
        with front.connect(nginx, protocol, certificate) as client:
            for _ in range(2):
                answer = client.request(token=token)
                assert (answer.status, answer.value("x-reason")) == (status, reason)


# Bodies.


@EACH_PROTOCOL
@pytest.mark.parametrize("buffered", ["on", "off"])
def test_a_large_upload_waits_and_arrives_whole(
    served, front, ugly, api, secrets, protocol, buffered
):
    nginx = served(
        http="client_max_body_size 64m;", location=f"proxy_request_buffering {buffered};", timeout=PATIENT
    )
    ugly.answer = ugly.holding()
    # On a connection of its own, which is read while the other one waits.
    with front.connect(nginx, protocol) as client:
        if protocol == "HTTP/1.1":
            client.sock.settimeout(20)
            answer = in_background(lambda: client.request("POST", "/up", token=secrets.token(), body=MEGABYTES))
            ugly.wait_calls()
            ugly.release()
            answer = answer()
        else:
            stream = send_in_pieces(client, secrets.token(), MEGABYTES)
            ugly.wait_calls()
            ugly.release()
            answer = finish(client, stream, MEGABYTES)
    assert answer.status == 200
    assert api.only().body == MEGABYTES


def in_background(action):
    """Starts something; what is returned waits for it."""
    result = []
    thread = threading.Thread(target=lambda: result.append(action()))
    thread.start()

    def join():
        thread.join(60)
        return result[0]

    return join


def send_in_pieces(client, token, body):
    """Begins an upload: the fields, and over HTTP/3 the first part of the body."""
    fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "gateway"),
        (":path", "/up"),
        ("authorization", f"Bearer {token}"),
        ("content-length", str(len(body))),
    ]
    if isinstance(client, Http3):
        return client.send_fields(fields, body)
    stream = client.h2.get_next_available_stream_id()
    client.h2.send_headers(stream, fields)
    client._flush()
    return stream


def finish(client, stream, body):
    """Sends the rest of an upload and waits for the answer."""
    if isinstance(client, Http3):
        return client.read(stream)
    left = memoryview(body)
    while left and stream not in client.ended | client.resets.keys():
        size = min(client.h2.local_flow_control_window(stream), client.h2.max_outbound_frame_size, len(left))
        if size == 0:
            client.pump()
            continue
        client.h2.send_data(stream, bytes(left[:size]), end_stream=size == len(left))
        left = left[size:]
        client._flush()
    return client.read(stream)


@ONLY_WITH_HTTP3
@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_large_upload_is_refused_and_others_go_on(served, front, ugly, api, secrets, when):
    nginx = served(http="client_max_body_size 64m;", timeout=PATIENT)
    ugly.answer = ugly.holding(then=Exchange.inactive)
    with front.connect(nginx) as client:
        token = None if when == "at once" else secrets.token()
        stream = client.send("POST", "/up", token=token, body=MEGABYTES)
        if when == "later":
            client.pump(0.2)
            ugly.wait_calls()
            ugly.release()
        answer = client.read(stream)
        assert answer.status == 401
        assert answer.value("www-authenticate")
        ugly.answer = Exchange.active
        assert client.request(token=secrets.token()).status == 200
    assert [request.target for request in api.requests] == ["/"]


@EACH_PROTOCOL
@pytest.mark.parametrize(("preflight", "status"), [("answer", 204), ("pass", 200), ("deny", 401)])
def test_a_preflight_is_treated_as_is_set(served, front, ugly, api, protocol, preflight, status):
    nginx = served(location=f"phantom_token_preflight {preflight};")
    headers = [
        ("origin", "https://app.example.com"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization"),
    ]
    answer = front.ask(nginx, protocol, "OPTIONS", "/orders", headers=headers)
    assert answer.status == status
    assert len(api.requests) == (status == 200)
    assert ugly.calls == []


# Clients that leave.


@ONLY_WITH_HTTP3
@pytest.mark.parametrize("body", [b"", b"x" * 100, MEGABYTES], ids=["no body", "a body", "a large one"])
def test_a_stream_that_is_reset_ends_and_the_others_go_on(served, front, ugly, api, secrets, body):
    nginx = served(http="client_max_body_size 64m;", timeout=PATIENT)
    ugly.answer = ugly.holding()
    with front.connect(nginx) as client:
        left = client.send("POST", "/left", token=secrets.token(), body=body)
        kept = client.send(target="/kept", token=secrets.token())
        client.pump(0.2)
        ugly.wait_calls(2)
        client.reset(left)
        assert "/left 499" in pumping(client, lambda: nginx.wait_access("/left"))[0]
        ugly.release()
        assert client.read(kept).status == 200
        assert client.request(token=secrets.token()).status == 200
    assert "/left" not in [request.target for request in api.requests]


@ONLY_WITH_HTTP3
def test_a_client_that_wants_no_answer_disturbs_nobody(served, front, ugly, api, secrets):
    nginx = served(timeout=PATIENT)
    ugly.answer = ugly.holding()
    with front.connect(nginx) as client:
        left = client.send(target="/left", token=secrets.token())
        kept = client.send(target="/kept", token=secrets.token())
        client.pump(0.2)
        ugly.wait_calls(2)
        # STOP_SENDING alone, which a client sends whose request is complete. nginx tells nobody but who writes.
        client.reset(left, sending=False)
        client.pump(0.1)
        ugly.release()
        assert client.read(kept).status == 200
        assert client.request(token=secrets.token()).status == 200
        pumping(client, lambda: nginx.wait_access("/left"))


def pumping(client, action):
    """Does something while the connection goes on."""
    waiting = in_background(action)
    for _ in range(5):
        client.pump(0.05)
    return waiting()


@ONLY_WITH_HTTP3
def test_a_connection_that_closes_ends_all_its_requests(served, front, ugly, api, secrets):
    nginx = served(timeout=PATIENT)
    ugly.answer = ugly.holding()
    before = len(descriptors(nginx.worker()))
    for _ in range(3):
        ugly.calls.clear()
        with front.connect(nginx) as client:
            for _ in range(5):
                client.send(target="/left", token=secrets.token())
            ugly.wait_calls(5)
    # Without a status: nginx ends the requests of a QUIC connection that is closed at once, whatever they do.
    assert all("/left 000" in line for line in nginx.wait_access("/left", count=15))
    ugly.release()
    ugly.answer = Exchange.active
    assert front.ask(nginx, "HTTP/3", token=secrets.token()).status == 200
    assert "/left" not in [request.target for request in api.requests]
    # A connection to the authorization server for each call that was held is kept for the next.
    until(lambda: len(descriptors(nginx.worker())) <= before + 20, "the worker has no more descriptors than before")


@ONLY_WITH_HTTP3
def test_a_client_that_vanishes_is_let_go_in_time(served, front, ugly, api, secrets):
    nginx = served(server="keepalive_timeout 1s; http3_max_concurrent_streams 8;", timeout="5s")
    ugly.answer = ugly.holding()
    client = front.connect(nginx)
    client.send(target="/left", token=secrets.token())
    ugly.wait_calls()
    client.vanish()
    ugly.release()
    ugly.answer = Exchange.active
    nginx.wait_access("/left")
    assert front.ask(nginx, "HTTP/3", token=secrets.token()).status == 200
    nginx.quit()
    nginx.wait_gone(60)


@ONLY_WITH_HTTP3
def test_many_streams_with_one_token_cost_one_call(served, front, ugly, api, secrets):
    nginx = served(http="http3_max_concurrent_streams 128;", timeout=PATIENT)
    ugly.answer = ugly.holding()
    token = secrets.token()
    with front.connect(nginx) as client:
        streams = [client.send(target=f"/{number}", token=token) for number in range(100)]
        ugly.wait_calls()
        # Everything sent before this has been read by the worker when this is answered.
        assert client.request().status == 401
        ugly.release()
        assert [client.read(stream).status for stream in streams] == [200] * 100
    assert ugly.calls_for(token) == 1
    assert len(api.requests) == 100
    caches = [line.split("cache=")[1].split()[0] for line in nginx.wait_access("result=ok", count=100)]
    assert (caches.count("MISS"), caches.count("COALESCED")) == (1, 99)


@ONLY_WITH_HTTP3
@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_answers_what_waits_over_quic(served, front, ugly, secrets, workers):
    nginx = served(workers=workers, server="keepalive_timeout 2s;", timeout=PATIENT)
    ugly.answer = ugly.holding()
    with front.connect(nginx) as client:
        stream = client.send(token=secrets.token())
        ugly.wait_calls()
        former = set(nginx.workers())
        waiting = in_background(nginx.reload)
        until(lambda: set(nginx.workers()) - former, "there is a new worker")
        ugly.release()
        # The former worker answers what it has begun. Unless `quic_bpf` is on, the kernel may give what the client sends
        # meanwhile to a new worker, which knows no such connection and ends it (RFC 9000 §10.3): that is nginx's.
        try:
            assert client.read(stream).status == 200
        except EOFError as error:
            assert "reset" in str(error).lower(), error
    # The former worker may not have been told that the connection is closed: it is idle then.
    waiting()
    ugly.answer = Exchange.active
    assert front.ask(nginx, "HTTP/3", token=secrets.token()).status == 200


# Locations of the module's own, and of nginx around it.


@EACH_PROTOCOL
def test_its_own_locations_answer(served, front, ugly, api, secrets, protocol):
    nginx = served(
        http="phantom_token_zone tokens:1m;",
        server="""
            location = /purge { phantom_token_purge acme; allow 127.0.0.1; deny all; }
            location = /status { phantom_token_status; allow 127.0.0.1; deny all; }
            phantom_token_resource https://api.example.com;
            location = /.well-known/oauth-protected-resource {
                phantom_token_resource_metadata authorization_servers=https://as.example.com;
            }
        """,
        location="add_header X-Cache $phantom_token_cache always;",
    )
    token = secrets.token()
    with front.connect(nginx, protocol) as client:
        assert [client.request(token=token).value("x-cache") for _ in range(2)] == ["MISS", "HIT"]
        purged = client.request(
            "POST",
            "/purge",
            headers=[("content-type", "application/x-www-form-urlencoded")],
            body=f"token={token}".encode(),
        )
        assert purged.status == 200
        assert client.request(token=token).value("x-cache") == "MISS"
        status = client.request(target="/status", headers=[("accept", "application/json")])
        assert (status.status, status.value("content-type")) == (200, "application/json")
        assert "acme" in json.dumps(status.json())
        metadata = client.request(target="/.well-known/oauth-protected-resource")
        assert metadata.json()["resource"] == "https://api.example.com"
        refused = client.request()
        assert "resource_metadata=" in refused.value("www-authenticate")
    assert ugly.calls_for(token) == 2


@EACH_PROTOCOL
def test_keys_are_published(served, front, ugly, protocol):
    nginx = served(
        server="location = /jwks { phantom_token_jwks acme; }",
        dialect="mint",
        mint_issuer="https://gateway.example.com",
        mint_key="mint.pem",
        files={"mint.pem": private_pem("ES256", "mint")},
    )
    answer = front.ask(nginx, protocol, target="/jwks")
    assert (answer.status, len(answer.json()["keys"])) == (200, 1)


@EACH_PROTOCOL
def test_an_error_page_answers_in_place_of_the_refusal(served, front, ugly, api, protocol):
    nginx = served(
        server="""
            error_page 401 /login;
            location = /login { internal; phantom_token off; default_type text/plain; return 200 "log in here"; }
        """
    )
    answer = front.ask(nginx, protocol, target="/orders")
    assert (answer.status, answer.body) == (401, b"log in here")
    assert answer.value("www-authenticate")
    assert api.requests == []


@EACH_PROTOCOL
def test_with_satisfy_any_another_check_suffices(served, front, ugly, api, secrets, protocol):
    ugly.answer = by_name
    nginx = served(
        location="satisfy any; deny all;",
        server=f"location /inside {{ satisfy any; allow 127.0.0.1; deny all; phantom_token {config.PROVIDER}; "
        f"proxy_pass {api.url}; }}",
    )
    assert front.ask(nginx, protocol).status in (401, 403)
    assert front.ask(nginx, protocol, token="inactive-token-2").status in (401, 403)
    assert api.requests == []
    assert front.ask(nginx, protocol, token=secrets.token()).status == 200
    assert front.ask(nginx, protocol, target="/inside").status == 200


@EACH_PROTOCOL
def test_auth_delay_delays_the_refusal(served, front, ugly, api, secrets, protocol):
    ugly.answer = by_name
    nginx = served(location="auth_delay 1s;")
    before = time.monotonic()
    answer = front.ask(nginx, protocol, token="inactive-token-3")
    assert answer.status == 401
    assert time.monotonic() - before >= 0.9
    assert front.ask(nginx, protocol, token=secrets.token()).status == 200


# Hostile requests.


@ONLY_WITH_HTTP3
@pytest.mark.parametrize(
    "change",
    [
        {":method": None},
        {":method": ""},
        {":method": "get"},
        {":method": "GE T"},
        {":scheme": None},
        {":scheme": ""},
        {":scheme": "ht tp"},
        {":path": None},
        {":path": ""},
        {":path": "orders"},
        {":path": "*"},
        {":path": "https://gateway/"},
        {":path": "/a b"},
        {":path": "/\0"},
        {":path": "/../x"},
        {":path": "/%zz"},
        {":authority": ""},
        {":authority": None},
        {":authority": "a/b"},
        {":authority": "a\0b"},
        {":authority": "a b"},
        {":authority": "."},
        {":authority": ":443"},
        {":protocol": "websocket"},
        {":status": "200"},
        {":": "x"},
        {"twice": ":method"},
        {"twice": ":path"},
        {"twice": ":authority"},
        {"twice": ":scheme"},
        {"late": True},
        {"host": "other"},
        {"content-length": "x"},
        {"content-length": "-1"},
        {"content-length": "5"},
        {":method": "CONNECT"},
        {":method": "TRACE"},
    ],
    ids=str,
)
def test_odd_pseudo_headers_let_nobody_in(served, front, ugly, api, secrets, change):
    nginx = served()
    token = secrets.token()
    base = {":method": "GET", ":scheme": "https", ":authority": "gateway", ":path": "/"}
    fields = {**base, **{name: value for name, value in change.items() if name.startswith(":")}}
    fields = [(name, value) for name, value in fields.items() if value is not None]
    authorization = ("authorization", f"Bearer {token}")
    if "twice" in change:
        fields.append((change["twice"], base[change["twice"]]))
    fields = [authorization, *fields] if "late" in change else [*fields, authorization]
    fields += [(name, value) for name, value in change.items() if name in ("host", "content-length")]
    with front.connect(nginx) as client:
        try:
            answer = client.read(client.send_fields(fields))
            status = answer.status if answer else None
        except EOFError:
            status = None
        assert status in (None, 400, 404, 405, 421), status
    assert api.requests == []
    assert front.ask(nginx, "HTTP/3", token=token).status == 200


@EACH_PROTOCOL
def test_a_token_is_found_however_cookies_are_split(served, front, ugly, api, secrets, protocol):
    nginx = served(location="phantom_token_source cookie session;")
    token = secrets.token()
    splits = [
        [f"session={token}"],
        [f"a=1; session={token}; b=2"],
        ["a=1", f"session={token}", "b=2"],
        ["a=1; x=y", f"b=2; session={token}"],
    ]
    # Over HTTP/1.1 a client has one Cookie header (RFC 6265 §5.4).
    for crumbs in splits if protocol != "HTTP/1.1" else splits[:2]:
        answer = front.ask(nginx, protocol, headers=[("cookie", crumb) for crumb in crumbs])
        assert answer.status == 200, crumbs
    other = secrets.token()
    for crumbs in (
        [f"session={token}", f"session={other}"],
        [f"session={token}; session={other}"],
        [f"a=1; session={token}", "b=2", f"session={token}"],
    ):
        answer = front.ask(nginx, protocol, headers=[("cookie", crumb) for crumb in crumbs])
        assert answer.status == 400, crumbs
    for request in api.requests:
        assert token not in " ".join(request.values("cookie"))
        assert request.value("authorization") == f"Bearer {ugly.jwt_for(token)}"
    api.never_saw(token)
    assert len(api.requests) == (4 if protocol != "HTTP/1.1" else 2)
    assert ugly.calls_for(other) == 0


def test_no_log_of_http3_shows_a_secret(served, front, ugly, api, secrets):
    nginx = served(level="debug")
    for protocol in SPOKEN:
        for _ in range(2):
            assert front.ask(nginx, protocol, token=secrets.token()).status == 200
