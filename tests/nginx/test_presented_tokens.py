"""Tokens as clients send them, well-formed and malformed."""

import pytest

from harness.client import Http1, Http2, get, get2

BUFFERS = "large_client_header_buffers 4 32k;"


@pytest.mark.parametrize("size", [1, 2, 100, 8191, 8192])
def test_a_token_of_up_to_8192_bytes_is_asked_about(gateway, ugly, api, size):
    nginx = gateway(server=BUFFERS)
    token = "t" * size
    assert get(nginx.port, token=token).status == 200
    assert ugly.calls[0].token == token
    assert api.only().value("authorization") == f"Bearer {ugly.jwt_for(token)}"


@pytest.mark.parametrize("size", [8193, 20_000])
def test_a_longer_token_is_malformed(gateway, ugly, api, size):
    nginx = gateway(server=BUFFERS)
    answer = get(nginx.port, token="t" * size)
    assert answer.status == 400
    assert 'error="invalid_request"' in answer.value("www-authenticate")
    assert (ugly.calls, api.requests) == ([], [])


def test_every_byte_of_b64token_is_a_token(gateway, ugly):
    nginx = gateway()
    token = "ABCXYZabcxyz0189-._~+/=="
    assert get(nginx.port, token=token).status == 200
    assert ugly.calls[0].token == token


@pytest.mark.parametrize(
    "token",
    [
        b"abc&token=def",
        b"abc%00def",
        b"abc%26",
        b"abc def",
        b"abc,def",
        b"abc=def",
        b"=",
        b"abc\x01def",
        b"abc\x7fdef",
        b"abc\x1bdef",
        b"abc\tdef",
        "abcédef".encode(),
        b"abc\xff\xfe",
        b'"abc"',
        b"abc;def",
        b"abc\\def",
        b"abc*",
        b"abc, Bearer def",
    ],
    ids=repr,
)
def test_anything_else_is_malformed_and_nobody_is_asked(gateway, ugly, api, token):
    nginx = gateway()
    answer = get(nginx.port, token=token)
    assert answer.status == 400
    assert (ugly.calls, api.requests) == ([], [])


@pytest.mark.parametrize("authorization", [b"abc\x00def", b"Bearer abc\x00def", b"Bearer abc\rdef"], ids=repr)
def test_bytes_that_no_header_may_hold_end_at_nginx(gateway, ugly, api, authorization):
    nginx = gateway()
    assert get(nginx.port, authorization=authorization).status == 400
    assert (ugly.calls, api.requests) == ([], [])


@pytest.mark.parametrize(
    "authorization",
    [
        b"",
        b"Basic dXNlcjpwYXNz",
        b"Digest foo=Bearer x",
        b"Negotiate Bearer",
        b"Bearerabc",
        b"Bearer-Token abc",
        b"XBearer abc",
        b"abc",
    ],
    ids=repr,
)
def test_another_scheme_is_no_token_at_all(gateway, ugly, api, authorization):
    nginx = gateway(location="phantom_token_realm r;")
    answer = get(nginx.port, authorization=authorization)
    assert answer.status == 401
    assert answer.value("www-authenticate") == 'Bearer realm="r"'
    assert (ugly.calls, api.requests) == ([], [])


@pytest.mark.parametrize("authorization", [b"Bearer", b"Bearer ", b"Bearer    ", b"bearer\t"], ids=repr)
def test_bearer_alone_lets_nobody_in(gateway, ugly, api, authorization):
    nginx = gateway()
    answer = get(nginx.port, authorization=authorization)
    assert answer.status == 400
    assert 'error="invalid_request"' in answer.value("www-authenticate")
    assert (ugly.calls, api.requests) == ([], [])


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "BeArEr"])
def test_the_scheme_is_case_insensitive(gateway, ugly, api, scheme):
    nginx = gateway()
    assert get(nginx.port, authorization=f"{scheme} sometoken").status == 200
    assert api.only().value("authorization") == f"Bearer {ugly.jwt_for('sometoken')}"


@pytest.mark.parametrize("authorization", [b"Bearer    sometoken", b"   Bearer sometoken   "], ids=repr)
def test_spaces_around_the_token_do_not_belong_to_it(gateway, ugly, authorization):
    nginx = gateway()
    assert get(nginx.port, authorization=authorization).status == 200
    assert ugly.calls[0].token == "sometoken"


@pytest.mark.parametrize("authorization", [b"Bearer\tsometoken", b"Bearer \tsometoken"], ids=repr)
def test_a_tab_does_not_separate_scheme_and_token(gateway, ugly, api, authorization):
    nginx = gateway()
    assert get(nginx.port, authorization=authorization).status == 400
    assert (ugly.calls, api.requests) == ([], [])


def test_a_tab_behind_the_token_does_not_belong_to_it(gateway, ugly):
    nginx = gateway()
    assert get(nginx.port, authorization=b"Bearer sometoken\t").status == 200
    assert ugly.calls[0].token == "sometoken"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Bearer one", "Bearer two"),
        ("Bearer one", "Bearer one"),
        ("Basic eDp5", "Bearer two"),
        ("Bearer one", "Basic eDp5"),
    ],
)
def test_two_authorization_headers_are_refused(gateway, ugly, api, first, second):
    nginx = gateway()
    assert get(nginx.port, headers=[("Authorization", first), ("authorization", second)]).status == 400
    assert (ugly.calls, api.requests) == ([], [])


def test_two_authorization_headers_are_refused_over_http2(gateway, ugly, api):
    nginx = gateway(listen="http2")
    answer = get2(nginx.port, headers=[("authorization", "Bearer one"), ("authorization", "Bearer two")])
    assert answer.status == 400
    assert (ugly.calls, api.requests) == ([], [])


def test_two_authorization_headers_are_refused_in_a_location_that_is_warm(gateway, api):
    nginx = gateway()
    assert get(nginx.port, token="one").status == 200
    assert get(nginx.port, headers=[("Authorization", "Bearer one"), ("Authorization", "Bearer one")]).status == 400
    assert len(api.requests) == 1


@pytest.mark.parametrize("target", ["/?access_token=sometoken", "/?token=sometoken"])
def test_a_token_in_the_query_is_not_looked_at(gateway, ugly, api, target):
    nginx = gateway()
    assert get(nginx.port, target).status == 401
    assert (ugly.calls, api.requests) == ([], [])


def test_a_header_that_only_looks_like_authorization_is_not_looked_at(gateway, ugly):
    nginx = gateway()
    assert get(nginx.port, headers=[("Authorization_", "Bearer abc"), ("X-Authorization", "Bearer abc")]).status == 401
    assert ugly.calls == []


def test_over_http2_a_token_reaches_the_api_as_a_jwt(gateway, ugly, api):
    nginx = gateway(listen="http2")
    with Http2(nginx.port) as client:
        streams = [client.send(token="cold-token-1234") for _ in range(3)] + [client.send()]
        assert [client.read(stream).status for stream in streams] == [200, 200, 200, 401]
    assert ugly.calls_for("cold-token-1234") == 1
    assert {request.value("authorization") for request in api.requests} == {f"Bearer {ugly.jwt_for('cold-token-1234')}"}


@pytest.mark.parametrize("token", ["abc\x01def", "a" * 9000, "abc&token=x", "abcédef"])
def test_ugly_tokens_are_malformed_over_http2_too(gateway, ugly, api, token):
    nginx = gateway(listen="http2", server=BUFFERS)
    assert get2(nginx.port, token=token).status == 400
    assert (ugly.calls, api.requests) == ([], [])


def test_a_jwt_that_a_client_sends_is_a_token_like_any_other(gateway, ugly, api, secrets):
    nginx = gateway()
    forged = secrets.add_jwt("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.c2lnbmF0dXJlIG9mIG5vIHdvcnRo")
    ugly.answer = lambda exchange: exchange.inactive()
    assert get(nginx.port, token=forged).status == 401
    assert api.requests == []
    assert ugly.calls[0].token == forged


def test_an_http_1_0_request_is_treated_alike(gateway, ugly):
    nginx = gateway()
    with Http1(nginx.port) as client:
        client.sock.sendall(b"GET / HTTP/1.0\r\nAuthorization: Bearer sometoken\r\n\r\n")
        assert client.read().status == 200
    with Http1(nginx.port) as client:
        client.sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.read().status == 401
