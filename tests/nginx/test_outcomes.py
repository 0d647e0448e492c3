"""Each outcome, as the client, the API and the log see it."""

import hashlib
import random
import re
import time

import pytest

import jwt as pyjwt
from harness import config
from harness.client import Http1, get, get2
from harness.ugly import basic_credentials
from harness.wait import until

UNAUTHORIZED = "unauthorized_request"


def verified(authorization, jwks):
    """The claims of the JWT in an `Authorization` header; fails unless a key of `jwks` has signed it."""
    scheme, _, token = authorization.partition(" ")
    assert scheme == "Bearer"
    key_id = pyjwt.get_unverified_header(token)["kid"]
    key = pyjwt.PyJWKSet.from_dict(jwks)[key_id]
    return pyjwt.decode(token, key, algorithms=["ES256"], options={"verify_aud": False})


def error_of(answer):
    """The code of an error body, which must be the JSON that is promised."""
    assert answer.value("content-type") == "application/json"
    body = answer.json()
    assert set(body) == {"code", "message"}, body
    assert body["message"]
    return body["code"]


def test_an_active_token_reaches_the_api_as_a_jwt_that_verifies(gateway, authorization_server, api):
    nginx = gateway(
        endpoint=authorization_server.introspection_endpoint(),
        client_id=authorization_server.client_id,
        client_secret=authorization_server.client_secret,
    )
    token = authorization_server.issue(scope="read write", claims={"department": "accounts"})
    answer = get(nginx.port, token=token)
    assert (answer.status, answer.body) == (200, b"hello")
    claims = verified(api.only().value("authorization"), authorization_server.jwks())
    assert claims["department"] == "accounts"
    api.never_saw(token)
    assert answer.value("www-authenticate") is None


def test_a_revoked_token_is_refused_once_it_is_no_longer_remembered(gateway, authorization_server, api):
    nginx = gateway(
        endpoint=authorization_server.introspection_endpoint(),
        client_id=authorization_server.client_id,
        client_secret=authorization_server.client_secret,
        cache_ttl="0",
    )
    token = authorization_server.issue(scope="read")
    assert get(nginx.port, token=token).status == 200
    authorization_server.revoke(token)
    assert get(nginx.port, token=token).status == 401
    assert len(api.requests) == 1


def test_a_second_request_is_answered_from_the_cache(gateway, authorization_server, api):
    nginx = gateway(
        endpoint=authorization_server.introspection_endpoint(),
        client_id=authorization_server.client_id,
        client_secret=authorization_server.client_secret,
        location="add_header X-Cache $phantom_token_cache; add_header X-Result $phantom_token_result;",
    )
    token = authorization_server.issue(scope="read")
    seen = [get(nginx.port, token=token) for _ in range(3)]
    assert [answer.value("x-cache") for answer in seen] == ["MISS", "HIT", "HIT"]
    assert {answer.value("x-result") for answer in seen} == {"ok"}
    assert authorization_server.introspections(token) == 1
    assert len({request.value("authorization") for request in api.wait(3)}) == 1


def test_the_variables_tell_the_log_what_happened(gateway, ugly):
    nginx = gateway(location="phantom_token_scope read;")
    ugly.answer = lambda exchange: (
        exchange.inactive()
        if exchange.token.startswith("inactive")
        else exchange.reply(500)
        if exchange.token.startswith("broken")
        else exchange.active(scope="other")
        if exchange.token.startswith("narrow")
        else exchange.active()
    )
    for target, token in (
        ("/missing", None),
        ("/malformed", "a b"),
        ("/inactive", "inactive-token"),
        ("/forbidden", "narrow-token"),
        ("/unavailable", "broken-token"),
        ("/ok", "good-token"),
        ("/again", "good-token"),
    ):
        get(nginx.port, target, token=token)
    lines = {line.split()[1]: line for line in nginx.wait_access(".", count=7)}
    for target in ("missing", "malformed", "inactive", "forbidden", "unavailable", "ok"):
        assert f"result={target} " in lines[f"/{target}"]
    assert "cache=MISS " in lines["/ok"]
    assert "cache=HIT " in lines["/again"]
    assert "cache=- " in lines["/missing"]
    assert re.search(r"time=\d+\.\d+ ", lines["/ok"]), lines["/ok"]


def test_the_authorization_server_is_asked_as_rfc_7662_says(gateway, ugly, secrets):
    secret = secrets.add_client("gate&way é", "s3cret/with+all&sorts=of% é:~")
    nginx = gateway(client_id="gate&way é", client_secret=secret, dialect="jwt")
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    call = ugly.calls[0]
    assert call.request.method == "POST"
    assert call.request.target == "/introspect"
    assert call.request.value("content-type") == "application/x-www-form-urlencoded"
    assert call.request.value("accept").startswith("application/jwt")
    assert call.form == {"token": [token], "token_type_hint": ["access_token"]}
    assert basic_credentials(call) == ("gate&way é", secret)


def test_client_secret_post_sends_the_credentials_in_the_form(gateway, ugly, secrets):
    secret = secrets.add_client("gate&way", "s3cret/with+all&sorts=of% é")
    nginx = gateway(client_id="gate&way", client_secret=secret, client_auth="client_secret_post")
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    call = ugly.calls[0]
    assert call.request.values("authorization") == []
    assert call.form["client_id"] == ["gate&way"]
    assert call.form["client_secret"] == [secret]
    assert call.form["token"] == [token]


def test_a_static_bearer_token_authenticates_us(gateway, ugly, secrets):
    ours = secrets.token("gateway")
    nginx = gateway(client_id=None, client_secret=None, client_auth="bearer", bearer_token=ours)
    assert get(nginx.port, token=secrets.token()).status == 200
    assert ugly.calls[0].request.value("authorization") == f"Bearer {ours}"


def test_without_client_authentication_nothing_is_sent_of_it(gateway, ugly, secrets):
    nginx = gateway(client_id=None, client_secret=None, client_auth="none")
    assert get(nginx.port, token=secrets.token()).status == 200
    assert ugly.calls[0].request.values("authorization") == []
    assert "client_secret" not in ugly.calls[0].form


def test_a_secret_file_loses_one_trailing_newline(gateway, ugly, secrets):
    secret = secrets.add_client("gateway", "secret-from-a-file-0123")
    nginx = gateway(client_secret_file="@dir@/secret", files={"secret": f"{secret}\n"})
    assert get(nginx.port, token=secrets.token()).status == 200
    assert basic_credentials(ugly.calls[0]) == ("gateway", secret)


def test_a_json_answer_gives_the_jwt_of_the_configured_claim(gateway, ugly, api, secrets):
    nginx = gateway(dialect="json", jwt_claim="inner")
    ugly.answer = lambda exchange: exchange.reply(
        body=f'{{"active": true, "scope": "read", "inner": "{exchange.jwt()}"}}', content_type="application/json"
    )
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert api.only().value("authorization") == f"Bearer {ugly.jwt_for(token)}"


@pytest.mark.parametrize("claim", ["jwt", "phantom_token"])
def test_auto_takes_the_jwt_of_a_known_claim(gateway, ugly, api, secrets, claim):
    nginx = gateway(dialect="auto")
    ugly.answer = lambda exchange: exchange.reply(
        body=f'{{"active": true, "{claim}": "{exchange.jwt()}"}}', content_type="application/json"
    )
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert api.only().value("authorization") == f"Bearer {ugly.jwt_for(token)}"


def test_a_json_answer_without_a_jwt_is_502_and_the_log_says_what_to_set(gateway, ugly, api, secrets):
    nginx = gateway()
    ugly.answer = lambda exchange: exchange.reply(
        body='{"active": true, "scope": "read"}', content_type="application/json"
    )
    assert get(nginx.port, token=secrets.token()).status == 502
    assert api.requests == []
    line = nginx.only_line("acme")
    assert "dialect" in line or "jwt_claim" in line


def test_a_request_without_a_token_is_challenged_without_an_error_code(gateway, ugly, api):
    nginx = gateway(location='phantom_token_realm "the api";')
    answer = get(nginx.port)
    assert answer.status == 401
    assert answer.value("www-authenticate") == 'Bearer realm="the api"'
    assert error_of(answer) == UNAUTHORIZED
    assert (ugly.calls, api.requests) == ([], [])


def test_a_challenge_names_the_scopes_that_are_asked_for(gateway):
    nginx = gateway(location='phantom_token_realm r; phantom_token_scopes "read write";')
    assert get(nginx.port).value("www-authenticate") == 'Bearer realm="r", scope="read write"'


def test_a_realm_is_quoted(gateway):
    nginx = gateway(location=r"""phantom_token_realm 'a "quoted" \\ realm';""")
    assert get(nginx.port).value("www-authenticate") == r'Bearer realm="a \"quoted\" \\ realm"'


def test_an_inactive_token_is_401_invalid_token(gateway, ugly, api, secrets):
    nginx = gateway(location="phantom_token_realm r;")
    ugly.answer = lambda exchange: exchange.inactive()
    answer = get(nginx.port, token=secrets.token())
    assert answer.status == 401
    assert re.fullmatch(
        r'Bearer realm="r", error="invalid_token"(, error_description="[^"\\]+")?', answer.value("www-authenticate")
    )
    assert error_of(answer) == UNAUTHORIZED
    assert api.requests == []


def test_an_inactive_token_is_remembered_for_a_while(gateway, ugly, secrets):
    nginx = gateway()
    ugly.answer = lambda exchange: exchange.inactive()
    token = secrets.token()
    assert [get(nginx.port, token=token).status for _ in range(3)] == [401, 401, 401]
    assert ugly.calls_for(token) == 1


def test_a_malformed_token_is_400_invalid_request(gateway, ugly, api):
    nginx = gateway(location="phantom_token_realm r;")
    answer = get(nginx.port, token="not a token")
    assert answer.status == 400
    assert re.fullmatch(
        r'Bearer realm="r", error="invalid_request"(, error_description="[^"\\]+")?', answer.value("www-authenticate")
    )
    assert error_of(answer)
    assert (ugly.calls, api.requests) == ([], [])


@pytest.mark.parametrize(
    "granted", ["read", "readwrite write2", "", ["read"], None], ids=["less", "alike", "empty", "array", "absent"]
)
def test_a_token_that_lacks_a_scope_is_403_insufficient_scope(gateway, ugly, api, secrets, granted):
    nginx = gateway(location='phantom_token_realm r; phantom_token_scopes "read write";')
    ugly.answer = lambda exchange: exchange.active(scope=granted)
    answer = get(nginx.port, token=secrets.token())
    assert answer.status == 403
    assert re.fullmatch(
        r'Bearer realm="r", error="insufficient_scope"(, error_description="[^"\\]+")?, scope="read write"',
        answer.value("www-authenticate"),
    )
    assert error_of(answer)
    assert api.requests == []


@pytest.mark.parametrize(
    "claims",
    [{"scope": "write other read"}, {"scope": ["write", "read"]}, {"scope": None, "scp": ["read", "write"]}],
    ids=["string", "array", "scp"],
)
def test_a_token_with_every_scope_is_let_through(gateway, ugly, secrets, claims):
    nginx = gateway(location="phantom_token_scope read; phantom_token_scope write;")
    ugly.answer = lambda exchange: exchange.active(**claims)
    assert get(nginx.port, token=secrets.token()).status == 200


def test_scopes_are_judged_for_each_location_and_not_remembered(gateway, ugly, secrets, api):
    nginx = gateway(
        server=f"""
    location /free {{ phantom_token acme; proxy_pass {api.url}; }}
    location /narrow {{ phantom_token acme; phantom_token_scope admin; proxy_pass {api.url}; }}
"""
    )
    token = secrets.token()
    statuses = [get(nginx.port, target, token=token).status for target in ("/free", "/narrow", "/free", "/narrow")]
    assert statuses == [200, 403, 200, 403]
    assert ugly.calls_for(token) == 1


@pytest.mark.parametrize(
    ("status", "expected", "code"), [(500, 502, "server_error"), (503, 503, "server_error"), (429, 503, "server_error")]
)
def test_an_unavailable_authorization_server_does_not_blame_the_client(
    gateway, ugly, api, secrets, status, expected, code
):
    nginx = gateway()
    ugly.answer = lambda exchange: exchange.reply(status)
    answer = get(nginx.port, token=secrets.token())
    assert answer.status == expected
    assert answer.value("www-authenticate") is None
    assert error_of(answer) == code
    assert api.requests == []


def test_retry_after_is_handed_on(gateway, ugly, secrets):
    nginx = gateway()
    ugly.answer = lambda exchange: exchange.reply(429, headers=["Retry-After: 7"])
    answer = get(nginx.port, token=secrets.token())
    assert (answer.status, answer.value("retry-after")) == (503, "7")


def test_a_failure_is_not_remembered(gateway, ugly, secrets):
    nginx = gateway()
    token = secrets.token()
    ugly.answer = lambda exchange: exchange.reply(500)
    assert get(nginx.port, token=token).status == 502
    ugly.answer = lambda exchange: exchange.active()
    assert get(nginx.port, token=token).status == 200


def test_what_is_cached_keeps_working_while_the_authorization_server_is_away(gateway, ugly, secrets):
    nginx = gateway()
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    ugly.stop()
    assert get(nginx.port, token=token).status == 200
    assert get(nginx.port, token=secrets.token()).status == 502


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("a b", 400)])
def test_a_head_request_gets_the_headers_of_a_refusal_and_no_body(gateway, token, status):
    nginx = gateway()
    with Http1(nginx.port) as client:
        answer = client.request("HEAD", token=token)
        assert answer.status == status
        assert answer.value("www-authenticate").startswith("Bearer ")
        # Were there a body, it would be read as the start of this answer.
        assert client.request("GET").status == 401


def test_over_http2_a_head_request_gets_no_body(gateway):
    nginx = gateway(listen="http2")
    answer = get2(nginx.port, method="HEAD")
    assert (answer.status, answer.body) == (401, b"")


@pytest.mark.parametrize("size", [10, 100_000, 3_000_000])
@pytest.mark.parametrize("token", [None, "inactive-token-00000000"])
def test_a_connection_stays_usable_after_a_refused_post(gateway, ugly, api, token, size):
    nginx = gateway(server="client_max_body_size 0; client_body_buffer_size 8k;")
    ugly.answer = lambda exchange: exchange.inactive() if exchange.token.startswith("inactive") else exchange.active()
    with Http1(nginx.port) as client:
        assert client.request("POST", token=token, body=b"x" * size).status == 401
        assert client.request("GET", token="active-token-0000000000").status == 200
    assert [request.method for request in api.requests] == ["GET"]


def test_a_connection_stays_usable_after_a_refused_chunked_post(gateway):
    nginx = gateway()
    with Http1(nginx.port) as client:
        for _ in range(2):
            client.send(
                "POST", headers=[("Transfer-Encoding", "chunked")], body=b"4\r\nabcd\r\n0\r\n\r\n", length=False
            )
            assert client.read().status == 401


def test_many_requests_share_one_connection(gateway, ugly, secrets):
    nginx = gateway()
    ugly.answer = lambda exchange: exchange.inactive() if exchange.token.startswith("bad") else exchange.active()
    with Http1(nginx.port) as client:
        for _ in range(5):
            assert client.request(token=secrets.token("good")).status == 200
            assert client.request(token=secrets.token("bad")).status == 401
            assert client.request().status == 401


def test_headers_other_than_authorization_arrive_untouched(gateway, api, secrets):
    nginx = gateway(location="proxy_set_header Connection ''; proxy_set_header Host $http_host;")
    headers = [("X-First", "1"), ("Cookie", "a=b; c=d"), ("X-First", "2"), ("X-Latin", "é"), ("Accept", "*/*")]
    assert get(nginx.port, "/path?q=%20a&b=c", token=secrets.token(), headers=headers).status == 200
    request = api.only()
    assert request.target == "/path?q=%20a&b=c"
    others = [(name, value) for name, value in request.headers if name != "Authorization"]
    expected = [(name, value.encode().decode("latin-1")) for name, value in headers]
    assert others == [("Host", "gateway"), *expected]


@pytest.mark.parametrize("warm", [False, True], ids=["miss", "hit"])
@pytest.mark.parametrize("buffering", ["on", "off"])
def test_a_large_upload_arrives_whole(gateway, api, secrets, warm, buffering):
    nginx = gateway(
        server="client_max_body_size 0;",
        location=f"proxy_request_buffering {buffering}; proxy_set_header Connection '';",
    )
    token = secrets.token()
    if warm:
        get(nginx.port, token=token)
    body = random.Random(1).randbytes(5_000_000)
    assert get(nginx.port, method="POST", token=token, body=body).status == 200
    request = api.wait(2 if warm else 1)[-1]
    assert hashlib.sha256(request.body).digest() == hashlib.sha256(body).digest()
    assert request.value("authorization").startswith("Bearer ey")


@pytest.mark.parametrize("warm", [False, True], ids=["miss", "hit"])
def test_a_chunked_upload_arrives_whole(gateway, api, secrets, warm):
    nginx = gateway()
    token = secrets.token()
    if warm:
        get(nginx.port, token=token)
    with Http1(nginx.port) as client:
        client.send("POST", token=token, headers=[("Transfer-Encoding", "chunked")])
        for piece in (b"6\r\nhello \r\n", b"5\r\nworld\r\n", b"0\r\n\r\n"):
            client.sock.sendall(piece)
        assert client.read().status == 200
    assert api.wait(2 if warm else 1)[-1].body == b"hello world"


def test_a_body_that_comes_while_the_request_is_suspended_arrives_whole(gateway, ugly, api, secrets):
    nginx = gateway()
    ugly.answer = ugly.holding()
    with Http1(nginx.port) as client:
        client.send("POST", token=secrets.token(), headers=[("Content-Length", "11")])
        ugly.wait_calls()
        client.sock.sendall(b"hello ")
        ugly.release()
        client.sock.sendall(b"world")
        assert client.read().status == 200
    assert api.only().body == b"hello world"


def test_expect_100_continue_is_answered_once_the_token_is_known(gateway, api, secrets):
    nginx = gateway()
    with Http1(nginx.port) as client:
        client.send("POST", token=secrets.token(), headers=[("Content-Length", "5"), ("Expect", "100-continue")])
        assert client.read().status == 100
        client.sock.sendall(b"12345")
        assert client.read().status == 200
    assert api.only().body == b"12345"


def test_expect_100_continue_without_a_token_is_refused(gateway, api):
    nginx = gateway()
    with Http1(nginx.port) as client:
        client.send("POST", headers=[("Content-Length", "5"), ("Expect", "100-continue")])
        answer = client.read()
        if answer.status == 100:
            # nginx asks for a body that it will discard to keep the connection.
            client.sock.sendall(b"12345")
            answer = client.read()
        assert answer.status == 401
    assert api.requests == []


@pytest.mark.parametrize(("status", "answer"), [(401, "inactive"), (502, "reply")])
def test_error_page_wins_over_our_body(gateway, ugly, secrets, status, answer):
    nginx = gateway(
        server=f"error_page {status} /sorry.html; location = /sorry.html {{ internal; phantom_token off; }}",
        files={"html/sorry.html": "so sorry"},
    )
    ugly.answer = lambda exchange: exchange.inactive() if answer == "inactive" else exchange.reply(500)
    got = get(nginx.port, token=secrets.token())
    assert (got.status, got.body) == (status, b"so sorry")
    assert (got.value("www-authenticate") is not None) == (status == 401)


def test_error_page_of_another_status_leaves_our_body(gateway):
    nginx = gateway(server="error_page 404 502 /sorry.html;")
    assert error_of(get(nginx.port)) == UNAUTHORIZED


def test_a_jwt_of_10_kb_reaches_the_api(gateway, ugly, api, secrets):
    nginx = gateway()
    ugly.answer = lambda exchange: exchange.active(padding="x" * 8000)
    assert get(nginx.port, token=secrets.token()).status == 200
    assert len(api.only().value("authorization")) > 10_000


def test_a_token_is_asked_about_again_when_its_jwt_has_expired(gateway, ugly, secrets):
    nginx = gateway()
    ugly.answer = lambda exchange: exchange.active(exp=int(time.time()) + 2)
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    until(lambda: get(nginx.port, token=token).status == 200 and ugly.calls_for(token) >= 2, "it was asked again")


def test_an_active_answer_with_a_jwt_that_has_expired_lets_nobody_in(gateway, ugly, api, secrets):
    nginx = gateway()
    ugly.answer = lambda exchange: exchange.active(exp=1_000_000_000)
    assert get(nginx.port, token=secrets.token()).status == 401
    assert api.requests == []


def test_a_location_that_is_switched_off_costs_nothing(gateway, ugly, api, secrets):
    nginx = gateway(server=f"location /open {{ phantom_token off; proxy_pass {api.url}; }}")
    assert get(nginx.port, "/open").status == 200
    assert ugly.calls == []


def test_phantom_token_is_inherited_from_the_outside(start_nginx, ugly, api, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets)}
phantom_token acme;
phantom_token_realm outer;
server {{
    listen @listen@;
    location / {{ proxy_pass {api.url}; }}
    location /inner {{ phantom_token_realm inner; location /inner/open {{ phantom_token off; proxy_pass {api.url}; }} }}
}}
"""
    )
    assert get(nginx.port).value("www-authenticate") == 'Bearer realm="outer"'
    assert get(nginx.port, "/inner").value("www-authenticate") == 'Bearer realm="inner"'
    assert get(nginx.port, "/inner/open").status == 200


def test_two_providers_do_not_share_what_they_remember(start_nginx, ugly, secrets, api):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets, "one")}
{config.provider(ugly.url + "?two", secrets, "two")}
server {{
    listen @listen@;
    location /one {{ phantom_token one; proxy_pass {api.url}; }}
    location /two {{ phantom_token two; proxy_pass {api.url}; }}
}}
"""
    )
    ugly.answer = lambda exchange: exchange.inactive() if "two" in exchange.request.target else exchange.active()
    token = secrets.token()
    assert [get(nginx.port, target, token=token).status for target in ("/one", "/two", "/one")] == [200, 401, 200]
    assert ugly.calls_for(token) == 2
