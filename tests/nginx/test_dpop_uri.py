"""The URI that a DPoP proof must be for (RFC 9449 §4.3): by default, the one that the client requested."""

import json

import pytest

from harness.client import Http1
from harness.dpop import Sender
from harness.protocols import EACH_PROTOCOL, Front

SENDER = Sender()


@pytest.fixture(scope="module")
def front():
    return Front()


@pytest.fixture
def guarded(gateway, front, authorization_server):
    """A gateway whose answers show why a token was refused, and what nginx was asked for."""

    def start(server="", location="", listen=None, **words):
        return gateway(
            endpoint=authorization_server.introspection_endpoint(),
            client_secret=authorization_server.client_secret,
            http="phantom_token_zone tokens:1m;",
            listen=front.listen if listen is None else listen,
            server=(front.server() if listen is None else "") + server,
            files=front.files(),
            location=f"""
                add_header X-Reason $phantom_token_reason always;
                add_header X-Host $host always;
                add_header X-Path $uri always;
                {location}""",
            **words,
        )

    return start


@pytest.fixture
def token(authorization_server):
    """A token that is bound to the key of the sender."""
    return authorization_server.issue(claims={"cnf": json.dumps({"jkt": SENDER.jkt})})


def proof(token, htu, method="GET"):
    return [(name.lower(), value) for name, value in SENDER.headers(method, htu, token)]


def said(answer):
    return answer.status, answer.value("x-reason")


PASSES = (200, None)
OTHER_URI = (401, "proof_htu")


@EACH_PROTOCOL
@pytest.mark.parametrize(
    ("authority", "htu", "other"),
    [
        ("api.example.com", "https://api.example.com/orders", "https://api.example.com:8443/orders"),
        ("api.example.com:443", "https://api.example.com/orders", "https://api.example.com:8443/orders"),
        ("api.example.com:8443", "https://api.example.com:8443/orders", "https://api.example.com/orders"),
        ("api.example.com:80", "https://api.example.com:80/orders", "https://api.example.com/orders"),
        ("api.example.com", "https://API.example.com:443/%6frders", "http://api.example.com/orders"),
        ("127.0.0.1:8443", "https://127.0.0.1:8443/orders", "https://127.0.0.1/orders"),
        ("[::1]:8443", "https://[0::1]:8443/orders", "https://[::1]/orders"),
        ("[2001:db8::1]", "https://[2001:DB8:0::1]/orders", "https://[2001:db8::2]/orders"),
        ("api.example.com.", "https://api.example.com./orders", "https://api.example.org./orders"),
    ],
)
def test_the_uri_is_that_of_the_authority(guarded, front, token, api, protocol, authority, htu, other):
    nginx = guarded()
    with front.connect(nginx, protocol) as client:

        def ask(htu):
            return said(client.request(target="/orders?a=b", headers=proof(token, htu), authority=authority))

        assert ask(htu) == PASSES
        assert ask(other) == OTHER_URI
        assert ask("https://evil.example/orders") == OTHER_URI
    assert len(api.requests) == 1


@EACH_PROTOCOL
def test_the_port_that_nginx_listens_on_is_not_the_clients(guarded, front, token, protocol):
    nginx = guarded()
    with front.connect(nginx, protocol) as client:
        htu = f"https://gateway:{nginx.port}/orders"
        assert said(client.request(target="/orders", headers=proof(token, htu))) == OTHER_URI
        authority = f"gateway:{nginx.port}"
        answer = client.request(target="/orders", headers=proof(token, htu), authority=authority)
        assert said(answer) == PASSES


# Values that are not a host, or contain more than a host.
NO_HOSTS = [
    "gateway?",
    "gateway#",
    "gateway?/",
    "gateway/",
    "gateway/x",
    "gateway:443?",
    "gateway:443#x",
    "gateway:443/x",
    "gateway:x",
    "gateway:65536",
    "gateway:443:443",
    "user@gateway",
    "gateway@evil.example",
    "gateway:443@evil.example",
    "[::1",
    "[::1]x",
    "gate way",
    "gate\\way",
    "gateway,evil.example?",
    "g%61teway?",
]


@EACH_PROTOCOL
@pytest.mark.parametrize("authority", NO_HOSTS)
def test_a_host_that_is_none_is_refused_and_not_compared(guarded, front, token, api, protocol, authority):
    nginx = guarded()
    for htu in ("https://gateway", "https://gateway/", "https://gateway/admin", f"https://{authority}/admin"):
        with front.connect(nginx, protocol) as client:
            answer = client.request(target="/admin", headers=proof(token, htu), authority=authority)
        # Some nginx answers itself, and others leave it to us.
        assert answer.status == 400
        if answer.value("x-reason"):
            assert answer.value("x-reason") == "host"
            assert answer.value("www-authenticate").startswith("DPoP ")
            assert 'error="invalid_request"' in answer.value("www-authenticate")
    assert api.requests == []


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_an_absolute_target_names_the_host_not_a_header(guarded, front, token, api, version):
    nginx = guarded(listen="")

    def ask(target, htu, host):
        with Http1(nginx.port) as client:
            return said(client.request(target=target, headers=proof(token, htu), authority=host, version=version))

    target = "http://api.example.com/pay"
    for host in ("evil.example", "api.example.com"):
        assert ask(target, "http://evil.example/pay", host) == OTHER_URI
        assert ask(target, "http://api.example.com/pay", host) == PASSES
    assert ask("http://api.example.com:8080/pay?a", "http://api.example.com:8080/pay", "evil.example") == PASSES
    assert ask("http://api.example.com:8080/pay?a", "http://api.example.com/pay", "evil.example") == OTHER_URI
    assert ask("HTTP://API.example.com:80/pay", "http://api.example.com/pay", "evil.example") == PASSES
    assert ask("http://[::1]:8080/pay", "http://[::1]:8080/pay", "evil.example") == PASSES
    # Without a path, with and without a query.
    assert ask("http://api.example.com", "http://api.example.com/", "evil.example") == PASSES
    assert ask("http://api.example.com:8080", "http://api.example.com:8080/", "evil.example") == PASSES
    assert ask("http://api.example.com?a=/b", "http://api.example.com/", "evil.example") == PASSES
    assert ask("http://api.example.com?a=/b", "http://evil.example/", "evil.example") == OTHER_URI
    assert all(request.value("authorization").startswith("Bearer ey") for request in api.requests)


@pytest.mark.parametrize("rest", ["", "?access_token=", "?a=b&access_token=", "#a", "?x=1#f"])
@pytest.mark.parametrize("host", ["api.example.com", "[::1]"])
def test_an_absolute_target_keeps_its_port_when_the_query_is_read(guarded, token, api, host, rest):
    nginx = guarded(listen="", location="phantom_token_source authorization query access_token;")
    with Http1(nginx.port) as client:

        def ask(htu):
            headers = proof(token, htu)
            return said(client.request(target=f"http://{host}:8443/pay{rest}", headers=headers, authority="a.example"))

        assert ask(f"http://{host}/pay") == OTHER_URI
        assert ask(f"http://{host}:8443/pay") == PASSES
    assert len(api.requests) == 1


def test_a_long_absolute_target_is_found_in_any_buffer(guarded, token):
    nginx = guarded(listen="", server="client_header_buffer_size 64; large_client_header_buffers 8 6k;")
    path = "/" + "a" * 3000
    with Http1(nginx.port) as client:
        for port in ("", ":8080"):
            headers = proof(token, f"http://api.example.com{port}{path}")
            padding = [(f"x-{number}", "b" * 4000) for number in range(6)]
            answer = client.request(
                target=f"http://api.example.com{port}{path}", headers=[*padding, *headers], authority="evil.example"
            )
            assert said(answer) == PASSES


def test_without_a_host_it_is_the_name_and_port_of_the_server(guarded, token, api):
    nginx = guarded(listen="", server="server_name api.example.com other.example.com;")

    def ask(htu):
        with Http1(nginx.port) as client:
            return said(client.request(target="/pay", headers=proof(token, htu), authority=None, version="HTTP/1.0"))

    assert ask(f"http://api.example.com:{nginx.port}/pay") == PASSES
    assert ask("http://api.example.com/pay") == OTHER_URI
    assert ask(f"http://other.example.com:{nginx.port}/pay") == OTHER_URI
    assert len(api.requests) == 1


def test_where_nobody_names_a_host_no_proof_is_for_it(guarded, token, api):
    nginx = guarded(listen="", server='server_name "";')
    for htu in (f"http://127.0.0.1:{nginx.port}/pay", "http:///pay", "http://_/pay"):
        with Http1(nginx.port) as client:
            answer = client.request(target="/pay", headers=proof(token, htu), authority=None, version="HTTP/1.0")
            assert said(answer) == (400, "host")
    assert api.requests == []


@EACH_PROTOCOL
@pytest.mark.parametrize(
    ("target", "htu", "result"),
    [
        # nginx unescapes the slash first, and takes back another segment: it serves /admin/.
        ("/admin%2Fx/..", "https://gateway/", OTHER_URI),
        ("/admin%2fx/%2e%2e", "https://gateway/", OTHER_URI),
        # It merges slashes first: it serves /b.
        ("/public//../b", "https://gateway/public/b", OTHER_URI),
        ("/public/../admin", "https://gateway/admin", PASSES),
        ("/public/../admin", "https://gateway/public/admin", OTHER_URI),
        ("/admin?x", "https://gateway/", OTHER_URI),
        ("/admin%3Fx", "https://gateway/admin", OTHER_URI),
        ("/admin%23x", "https://gateway/admin", OTHER_URI),
    ],
)
def test_a_proof_is_for_the_path_that_nginx_serves(guarded, front, token, protocol, target, htu, result):
    nginx = guarded()
    assert said(front.ask(nginx, protocol, target=target, headers=proof(token, htu))) == result


@EACH_PROTOCOL
def test_what_is_behind_a_hash_is_no_part_of_the_path(guarded, front, token, protocol):
    nginx = guarded()
    with front.connect(nginx, protocol) as client:
        answer = client.request(target="/admin#x", headers=proof(token, "https://gateway/"))
        assert answer.status in (400, 401)
        answer = client.request(target="/admin#x", headers=proof(token, "https://gateway/admin"))
        assert answer.status == 400 or (said(answer), answer.value("x-path")) == (PASSES, "/admin")


@EACH_PROTOCOL
def test_an_internal_redirect_changes_nothing(guarded, front, token, api, protocol):
    nginx = guarded(
        server=f"""
            location /old {{ rewrite ^/old(.*)$ /new$1 last; }}
            location /new {{
                phantom_token acme;
                add_header X-Reason $phantom_token_reason always;
                proxy_pass {api.url};
            }}"""
    )
    with front.connect(nginx, protocol) as client:
        answer = client.request(target="/old/x", headers=proof(token, "https://gateway/new/x"))
        assert said(answer) == OTHER_URI
        answer = client.request(target="/old/x", headers=proof(token, "https://gateway/old/x"))
        assert said(answer) == PASSES


@EACH_PROTOCOL
def test_what_is_set_is_compared_whatever_the_client_says(guarded, front, token, protocol):
    nginx = guarded(location="phantom_token_dpop_uri https://api.example.com$request_uri;")
    with front.connect(nginx, protocol) as client:
        for authority in ("api.example.com", "evil.example"):
            answer = client.request(
                target="/pay", headers=proof(token, "https://evil.example/pay"), authority=authority
            )
            assert said(answer) == OTHER_URI
            answer = client.request(
                target="/pay", headers=proof(token, "https://api.example.com/pay"), authority=authority
            )
            assert said(answer) == PASSES
