"""A table of hostile requests, none of which reaches the API.

Each row is the bytes of a request, or the fields of one over HTTP/2, and is sent to an nginx in which a good token has
just passed: it is remembered, so whatever is taken for that token would pass as well. What must hold of every row: the
API has received nothing, the client gets no answer but a refusal or none at all, the worker is the one that it was, and
the log shows no token. Afterwards the good token passes again.
"""

import base64
import hashlib
import itertools
import json
import re
import socket
import time

import h2.exceptions
import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from harness.client import Http2, get

# Not told to `secrets`, because some rows put it where nginx itself logs it: `nginx_wrote` knows those places.
GOOD = "good-token-0123456789abcdef"
# The authorization server knows no other, but those that are bound: see `BOUND`.
UNKNOWN = "unknown-token-0123456789abcdef"

# 501 and 505 are what nginx says to a transfer coding and a version that it does not have.
REFUSALS = {*range(400, 500), 501, 505}


def b64(data):
    data = json.dumps(data).encode() if isinstance(data, dict) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def request(authorization=None, *lines, method="GET", target="/api/x", version="HTTP/1.1", host="gateway", body=b""):
    """A request as bytes; `lines` are further lines of its head."""
    head = [f"{method} {target} {version}".encode("latin-1")]
    if host is not None:
        head.append(f"Host: {host}".encode())
    if authorization is not None:
        head.append(b"Authorization: " + bytes_of(authorization))
    head += [bytes_of(line) for line in lines]
    return b"\r\n".join([*head, b"Connection: close", b"", b""]) + body


def bytes_of(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")


# --- Authorization ---------------------------------------------------------------------------------------------------


def control_bytes():
    """Every control byte, before, in and behind the token; what is white space at an end does no harm there."""
    good = GOOD.encode()
    for byte in [*range(0x20), 0x7F]:
        one = bytes([byte])
        name = f"byte {byte:#04x}"
        if byte == 0x0A:
            # It ends the line.
            yield f"{name} in the token", request(b"Bearer unknown\n" + good)
            yield f"{name} before the token", request(b"Bearer \n" + good)
            continue
        yield f"{name} in the token", request(b"Bearer " + good[:9] + one + good[9:])
        yield f"{name} before the token", request(b"Bearer " + one + good)
        yield f"{name} instead of the space", request(b"Bearer" + one + good)
        if byte not in (0x09, 0x0D):
            yield f"{name} behind the token", request(b"Bearer " + good + one)


EIGHT_BIT = {
    "0x80": b"\x80",
    "0xff": b"\xff",
    "é in UTF-8": "é".encode(),
    "no-break space": "\u00a0".encode(),
    "zero-width space": "\u200b".encode(),
    "full-width letter": "ｇ".encode(),
    "overlong slash": b"\xc0\xaf",
    "byte order mark": b"\xef\xbb\xbf",
    "Kelvin sign": "\u212a".encode(),
}

SPELLINGS = {
    "empty": "",
    "spaces alone": "   ",
    "scheme alone": "Bearer",
    "scheme and spaces": "Bearer      ",
    "token alone": GOOD,
    "no space": f"Bearer{GOOD}",
    "colon": f"Bearer:{GOOD}",
    "colon and space": f"Bearer: {GOOD}",
    "equals": f"Bearer={GOOD}",
    "comma": f"Bearer,{GOOD}",
    "slash": f"Bearer/{GOOD}",
    "plus for a space": f"Bearer+{GOOD}",
    "percent-encoded space": f"Bearer%20{GOOD}",
    "percent-encoded token": f"Bearer %67{GOOD[1:]}",
    "NUL percent-encoded": f"Bearer {GOOD}%00",
    "quoted": f'Bearer "{GOOD}"',
    "in single quotes": f"Bearer '{GOOD}'",
    "in angle brackets": f"Bearer <{GOOD}>",
    "as a parameter": f"Bearer token={GOOD}",
    "as a quoted parameter": f'Bearer token="{GOOD}"',
    "a challenge": f'Bearer realm="x", token="{GOOD}"',
    "with a parameter behind": f"Bearer {GOOD};x=y",
    "with a comma behind": f"Bearer {GOOD},",
    "twice in one value": f"Bearer {GOOD} {GOOD}",
    "joined by a comma": f"Bearer {GOOD}, Bearer {GOOD}",
    "joined without a space": f"Bearer {GOOD},Bearer {GOOD}",
    "joined with Basic before": f"Basic eDp5, Bearer {GOOD}",
    "joined with Basic behind": f"Bearer {GOOD}, Basic eDp5",
    "Bearer twice": f"Bearer Bearer {GOOD}",
    "padding before": f"Bearer ={GOOD}",
    "padding inside": f"Bearer {GOOD}=x",
    "padding alone": "Bearer ====",
    "backslash": f"Bearer \\{GOOD}",
    "form": f"Bearer access_token={GOOD}&x=y",
    "form of ours": f"Bearer x&token={GOOD}",
    "JSON": 'Bearer {"token":"' + GOOD + '"}',
    "line break as nginx writes one": f"Bearer {GOOD}\\r\\nX: y",
    "other scheme with Bearer in it": f"Digest token=Bearer {GOOD}",
    "Bear": f"Bear {GOOD}",
    "Bearers": f"Bearers {GOOD}",
    "Bearer with a hyphen": f"Bearer-Token {GOOD}",
    "BearerToken": f"BearerToken {GOOD}",
    "xBearer": f"xBearer {GOOD}",
    "Token": f"Token {GOOD}",
    "OAuth": f"OAuth {GOOD}",
    "JWT": f"JWT {GOOD}",
    "MAC": f'MAC id="{GOOD}"',
    "Negotiate": f"Negotiate {GOOD}",
    "Basic of the token as a name": "Basic " + base64.b64encode(f"{GOOD}:".encode()).decode(),
    "Basic of the token as a password": "Basic " + base64.b64encode(f":{GOOD}".encode()).decode(),
    "Basic of a name and the token": "Basic " + base64.b64encode(f"bearer:{GOOD}".encode()).decode(),
    "another token": f"Bearer {UNKNOWN}",
    "the token in capitals": f"Bearer {GOOD.upper()}",
    "less its last byte": f"Bearer {GOOD[:-1]}",
    "with one byte more": f"Bearer {GOOD}0",
    "with padding": f"Bearer {GOOD}==",
    "a star": "Bearer *",
    "null": "Bearer null",
    "undefined": "Bearer undefined",
    "true": "Bearer true",
    "path": "Bearer ../../etc/passwd",
    "SQL": "Bearer '/**/or/**/1=1--",
    "template": "Bearer ${jndi:ldap://127.0.0.1/x}",
    "variable": "Bearer $http_x",
    "format": "Bearer %s%s%s%n",
    "8193 bytes": "Bearer " + "a" * 8193,
    "40 KiB": "Bearer " + "a" * 40_000,
    "8 KiB of scheme": "B" * 8000 + f" {GOOD}",
    "8 KiB of padding": "Bearer a" + "=" * 8191,
}

good_line = f"Authorization: Bearer {GOOD}"

HEADERS = {
    "no token": request(),
    "the same twice": request(f"Bearer {GOOD}", good_line),
    "twice, in two cases": request(f"Bearer {GOOD}", f"AUTHORIZATION: Bearer {GOOD}"),
    "two tokens": request(f"Bearer {UNKNOWN}", good_line),
    "two tokens, the other first": request(f"Bearer {GOOD}", f"Authorization: Bearer {UNKNOWN}"),
    "Basic before Bearer": request("Basic eDp5", good_line),
    "Bearer before Basic": request(f"Bearer {GOOD}", "authorization: Basic eDp5"),
    "an empty one before": request("", good_line),
    "an empty one behind": request(f"Bearer {GOOD}", "Authorization:"),
    "three": request(f"Bearer {GOOD}", good_line, good_line),
    "folded behind the scheme": request("Bearer\r\n " + GOOD),
    "folded behind the colon": request("\r\n Bearer " + GOOD),
    "folded by a tab": request("Bearer\r\n\t" + GOOD),
    "folded into the header before": request(None, "X: y", " " + good_line),
    "space before the colon": request(None, f"Authorization : Bearer {GOOD}"),
    "tab before the colon": request(None, f"Authorization\t: Bearer {GOOD}"),
    "space before the name": request(None, " " + good_line, host="gateway"),
    "no colon": request(None, f"Authorization Bearer {GOOD}"),
    "colon before the name": request(None, f":Authorization: Bearer {GOOD}"),
    "underscore behind": request(None, f"Authorization_: Bearer {GOOD}"),
    "Proxy-Authorization": request(None, f"Proxy-Authorization: Bearer {GOOD}"),
    "X-Authorization": request(None, f"X-Authorization: Bearer {GOOD}"),
    "X-Forwarded-Authorization": request(None, f"X-Forwarded-Authorization: Bearer {GOOD}"),
    "HTTP_AUTHORIZATION": request(None, f"HTTP_AUTHORIZATION: Bearer {GOOD}"),
    "X-Access-Token": request(None, f"X-Access-Token: {GOOD}"),
    "Access_Token": request(None, f"access_token: {GOOD}"),
    "WWW-Authenticate": request(None, f"WWW-Authenticate: Bearer {GOOD}"),
    "name with a NUL": request(None, b"Authorization\0: Bearer " + GOOD.encode()),
    "name with an 8-bit letter": request(None, f"Authorizati\xf6n: Bearer {GOOD}"),
    "behind the end of the head": request(None, body=f"{good_line}\r\n\r\n".encode()),
    "in a trailer": request(
        None, "Transfer-Encoding: chunked", "Trailer: Authorization", body=f"0\r\n{good_line}\r\n\r\n".encode()
    ),
    "Cookie": request(None, f"Cookie: access_token={GOOD}"),
    "Cookie named Authorization": request(None, f"Cookie: Authorization=Bearer%20{GOOD}"),
    "Cookie2": request(None, f"Cookie2: token={GOOD}"),
    "Referer": request(None, f"Referer: http://gateway/api/?access_token={GOOD}"),
    "From": request(None, f"From: Bearer {GOOD}"),
    "in the form of the body": request(
        None,
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {13 + len(GOOD)}",
        method="POST",
        body=f"access_token={GOOD}".encode(),
    ),
    "in the query": request(target=f"/api/x?access_token={GOOD}"),
    "in the query as token": request(target=f"/api/x?token={GOOD}"),
    "in the query as authorization": request(target=f"/api/x?authorization=Bearer+{GOOD}"),
    "in the query behind a semicolon": request(target=f"/api/x;access_token={GOOD}"),
    "in the fragment": request(target=f"/api/x#access_token={GOOD}"),
    "as user information": request(target=f"http://bearer:{GOOD}@gateway/api/x"),
    "as user information of the Host": request(host=f"bearer:{GOOD}@gateway"),
    "Connection names Authorization, and no token": request(None, "Connection: Authorization"),
    "X-Accel-Redirect": request(None, "X-Accel-Redirect: /api/x", target="/"),
    "X-Original-URL": request(None, "X-Original-URL: /", "X-Rewrite-URL: /"),
    "X-HTTP-Method-Override": request(None, "X-HTTP-Method-Override: OPTIONS", method="POST"),
    "X-Forwarded-For of this machine": request(None, "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1"),
    "X-Client-Cert": request(None, "X-Client-Cert: admin", "X-SSL-Client-Verify: SUCCESS"),
    "claims as headers": request(None, "X-User: admin", "X-Scope: all", "X-Phantom-Token-Result: ok"),
    "our variables as headers": request(None, "phantom-token-result: ok", "Phantom_Token_Sub: admin"),
    "X-Forwarded-Access-Token": request(None, f"X-Forwarded-Access-Token: {GOOD}"),
    "a thousand headers": request(None, *(f"X-{number}: {'y' * 50}" for number in range(1000))),
    "a header of 33 KiB": request(None, f"X: {'y' * 33_000}"),
    "a name of 9 KiB": request(None, f"{'X' * 9000}: y"),
}

# --- JWTs of the client's own ----------------------------------------------------------------------------------------

CLAIMS = {"sub": "admin", "scope": "read write admin", "exp": 4_000_000_000, "iss": "ugly"}


def jwt(header, claims=CLAIMS, signature=b"made up"):
    return f"{b64(header)}.{b64(claims)}.{b64(signature) if signature else ''}"


JWTS = {
    "alg none, no signature": jwt({"alg": "none"}, signature=None),
    "alg none, a signature": jwt({"alg": "none"}),
    "alg None": jwt({"alg": "None"}, signature=None),
    "alg NONE": jwt({"alg": "NONE"}),
    "no alg": jwt({"typ": "JWT"}),
    "empty header": jwt({}),
    "HS256": jwt({"alg": "HS256", "typ": "JWT"}),
    "RS256": jwt({"alg": "RS256", "typ": "JWT", "kid": "1"}, signature=bytes(256)),
    "ES256 with zeroes for a signature": jwt({"alg": "ES256", "typ": "at+jwt"}, signature=bytes(64)),
    "a key of its own": jwt({"alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}}),
    "jku": jwt({"alg": "RS256", "jku": "http://127.0.0.1/jwks"}),
    "x5u": jwt({"alg": "RS256", "x5u": "http://127.0.0.1/cert"}),
    "kid that is a path": jwt({"alg": "HS256", "kid": "../../../../dev/null"}),
    "kid that is SQL": jwt({"alg": "HS256", "kid": "x' union select 'key"}),
    "crit": jwt({"alg": "RS256", "crit": ["exp"]}),
    "not encoded": jwt({"alg": "HS256", "b64": False, "crit": ["b64"]}),
    "introspection response": jwt(
        {"alg": "RS256", "typ": "token-introspection+jwt"}, {"token_introspection": {"active": True}}
    ),
    "expired": jwt({"alg": "RS256"}, {**CLAIMS, "exp": 1}),
    "bound": jwt({"alg": "RS256"}, {**CLAIMS, "cnf": {"jkt": "x"}}),
    "encrypted": ".".join([b64({"alg": "dir", "enc": "A256GCM"}), "", b64(b"iv"), b64(b"text"), b64(b"tag")]),
    "two dots": "..",
    "JSON serialization": b64({"payload": b64(CLAIMS), "signatures": []}),
    "an introspection response in base64": b64({"active": True}),
    "7 KiB of claims": jwt({"alg": "RS256"}, {**CLAIMS, "x": "y" * 5000}),
}

# --- Ways to a protected location ------------------------------------------------------------------------------------

PATHS = [
    "/api/",
    "/api/x/",
    "//api/x",
    "///api///x",
    "/./api/x",
    "/api/./x",
    "/api//x",
    "/public/../api/x",
    "/public/..//api/x",
    "/public/./../api/x",
    "/public/%2e%2e/api/x",
    "/public/%2E%2E/api/x",
    "/public/.%2e/api/x",
    "/public/..%2fapi/x",
    "/public%2f..%2fapi/x",
    "/public/..;/api/x",
    "/public/..%3b/api/x",
    "/public/..%5capi/x",
    "/public/..\\api\\x",
    "/public/..%00/api/x",
    "/public/%252e%252e/api/x",
    "/public/%c0%ae%c0%ae/api/x",
    "/public/..%u002fapi/x",
    "/public/..\x09/api/x",
    "/../api/x",
    "/../../../../api/x",
    "/%2e%2e/api/x",
    "/..%2fapi/x",
    "/public/../../api/x",
    "/%61pi/x",
    "/%61%70%69%2fx",
    "/api%2fx",
    "/api%2Fx",
    "/api/%2e/x",
    "/api/%00",
    "/api/x%00.html",
    "/api/x%0a",
    "/api/x%0d%0aAuthorization:%20Bearer%20x",
    "/api/x%",
    "/api/x%zz",
    "/api/x%2",
    "/api/x\x00",
    "/api/x\x01",
    "/api/x\x7f",
    "/api/\xff",
    "/api;x=y/x",
    "/api/x;.css",
    "/api/x.css",
    "/api/x?.css",
    "/api/x/..",
    "/api/x/../y",
    "/api/x#/public/",
    "/api/x?/public/",
    "/api/x?a=/../../public/",
    "/API/x",
    "/Api/x",
    "/api\\x",
    "\\api\\x",
    "api/x",
    "../api/x",
    "*",
    "/*",
    "?/api/x",
    "#/api/x",
    "http://gateway/api/x",
    "HTTP://GATEWAY/api/x",
    "http://other.example.com/api/x",
    "http://127.0.0.1/api/x",
    "http://gateway//api/x",
    "http://gateway/public/../api/x",
    "http://gateway?/api/x",
    "http:///api/x",
    "http:/api/x",
    "https://gateway/api/x",
    "file:///api/x",
    "gateway:80",
    "//gateway/api/x",
    "@gateway/api/x",
    "/api/" + "x" * 33_000,
    "/" + "../" * 3000 + "api/x",
    "/" + "./" * 3000 + "api/x",
    "/api/" + "%2e%2e/" * 500 + "api/x",
]

HOSTS = {
    "no Host": request(host=None),
    "an empty Host": request(host=""),
    "another Host": request(host="other.example.com"),
    "localhost": request(host="localhost"),
    "a Host with a path": request(host="gateway/public/"),
    "a Host with a space": request(host="gateway public"),
    "a Host with a NUL": request(None, b"Host: gate\0way", host=None),
    "a Host with a question mark": request(host="gateway?"),
    "a Host with a port that is none": request(host="gateway:http"),
    "two Hosts": request(None, "Host: other", host="gateway"),
    "an address of IPv6 that is none": request(host="[::1"),
    "dots": request(host=".."),
    "8 KiB": request(host="a" * 8000),
    "X-Forwarded-Host": request(None, "X-Forwarded-Host: public", "X-Host: public", "Forwarded: host=public"),
}

# --- Methods and versions --------------------------------------------------------------------------------------------

ORIGIN = "Origin: https://app.example.com"
PREFLIGHT = "Access-Control-Request-Method: GET"

METHODS = {
    **{
        f"{method} without a token": request(method=method)
        for method in ("HEAD", "POST", "PUT", "DELETE", "PATCH", "PROPFIND", "MKCOL", "SEARCH", "PURGE", "ACL")
    },
    **{
        f"{name} with the token": request(f"Bearer {GOOD}", method=method)
        for name, method in {
            "TRACE": "TRACE",
            "CONNECT": "CONNECT",
            "lower case": "get",
            "one letter in lower case": "GEt",
            "a method with a NUL": "GET\0",
            "a method with a tab": "GET\t",
            "no method": "",
            "an 8-bit method": "G\xc9T",
            "a method in quotes": '"GET"',
        }.items()
    },
    "OPTIONS": request(method="OPTIONS"),
    "OPTIONS with Origin alone": request(None, ORIGIN, method="OPTIONS"),
    "OPTIONS with the method alone": request(None, PREFLIGHT, method="OPTIONS"),
    "OPTIONS of another token with Origin": request(f"Bearer {UNKNOWN}", ORIGIN, method="OPTIONS"),
    "OPTIONS of everything": request(method="OPTIONS", target="*"),
    "GET like a preflight": request(None, ORIGIN, PREFLIGHT),
    "POST like a preflight": request(None, ORIGIN, PREFLIGHT, method="POST"),
    "options like a preflight": request(None, ORIGIN, PREFLIGHT, method="options"),
    "CONNECT to an authority": request(f"Bearer {GOOD}", method="CONNECT", target="gateway:80"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /api/x\r\n",
    "HTTP/0.9 with a head": b"GET /api/x\r\n" + good_line.encode() + b"\r\n\r\n",
    "HTTP/1.0 without a token": request(version="HTTP/1.0"),
    "HTTP/1.2 without a token": request(version="HTTP/1.2"),
    **{
        f"version {version!r}": request(f"Bearer {GOOD}", version=version)
        for version in ("HTTP/2.0", "HTTP/3", "HTTP/1", "HTTP/.1", "HTTP/1.", "HTTP/1.x", "http/1.1", "HTTP1.1", "ICY")
    },
    "version with more behind it": request(f"Bearer {GOOD}", version="HTTP/1.1 x"),
    "line break before the target": b"GET\r\n /api/x HTTP/1.1\r\nHost: gateway\r\n" + good_line.encode() + b"\r\n\r\n",
    "nothing but line breaks": b"\r\n" * 100,
    "nothing but NUL": bytes(1000),
    "TLS where there is none": bytes.fromhex("1603010200010001fc0303") + bytes(500),
    "PROXY protocol": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + request(f"Bearer {GOOD}"),
}

CONDITIONS = {
    "Range": request(None, "Range: bytes=0-0"),
    "many ranges": request(None, "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(500))),
    "a range that overflows": request(None, "Range: bytes=0-18446744073709551615"),
    "If-Range": request(None, 'If-Range: "x"', "Range: bytes=0-"),
    "If-Match": request(None, "If-Match: *"),
    "If-None-Match": request(None, "If-None-Match: *"),
    "If-Modified-Since": request(None, "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"),
    "If-Unmodified-Since": request(None, "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"),
    "Expect, without a token": request(None, "Expect: 100-continue", "Content-Length: 5", method="POST"),
    "another Expect": request(None, "Expect: 200-ok"),
    "Upgrade to WebSocket": request(None, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: AAAA"),
    "Upgrade to HTTP/2": request(None, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAAA"),
    "Upgrade to TLS": request(None, "Upgrade: TLS/1.2", "Connection: Upgrade", method="OPTIONS"),
    "a token for WebSocket": request(
        None, "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Protocol: bearer, {GOOD}"
    ),
    "Max-Forwards": request(None, "Max-Forwards: 0", method="TRACE"),
    "Cache-Control": request(None, "Cache-Control: only-if-cached"),
    "Accept that is too long": request(None, "Accept: " + "a/b," * 9000),
}

# --- What two readers could read as two requests ---------------------------------------------------------------------

# A body that would be a request to the API if it were taken for a head.
INNER = b"GET /api/inner HTTP/1.1\r\nHost: gateway\r\n" + good_line.encode() + b"\r\n\r\n"


def post(*lines, body=b"", authorization=f"Bearer {GOOD}", version="HTTP/1.1"):
    return request(authorization, *lines, method="POST", version=version, body=body)


CHUNKED = "Transfer-Encoding: chunked"

SMUGGLING = {
    "both lengths": post(CHUNKED, "Content-Length: 5", body=b"0\r\n\r\n" + INNER),
    "both lengths, the other first": post("Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + INNER),
    "both lengths, HTTP/1.0": post("Content-Length: 5", CHUNKED, version="HTTP/1.0", body=b"0\r\n\r\n" + INNER),
    "chunked, HTTP/1.0": post(CHUNKED, version="HTTP/1.0", body=b"0\r\n\r\n" + INNER),
    "two Content-Length": post("Content-Length: 0", f"Content-Length: {len(INNER)}", body=INNER),
    "two Content-Length of one value": post("Content-Length: 1", "Content-Length: 1", body=b"x"),
    "Content-Length as a list": post(f"Content-Length: 0, {len(INNER)}", body=INNER),
    "Content-Length twice in a list": post("Content-Length: 1, 1", body=b"x"),
    "Content-Length with a plus": post("Content-Length: +1", body=b"x"),
    "Content-Length with a minus": post("Content-Length: -1", body=INNER),
    "Content-Length in hexadecimal": post("Content-Length: 0x1", body=b"x"),
    "Content-Length with a point": post("Content-Length: 1.0", body=b"x"),
    "Content-Length with a space in it": post("Content-Length: 1 0", body=b"x"),
    "Content-Length that is empty": post("Content-Length:", body=INNER),
    "Content-Length that is no number": post("Content-Length: x", body=INNER),
    "Content-Length that overflows": post("Content-Length: 18446744073709551616", body=INNER),
    "Content-Length with a NUL": post(b"Content-Length: 1\0", body=b"x"),
    "Content-Length that is too large": post("Content-Length: 9223372036854775807", body=b"x"),
    "Content-Length for a body that does not come": post("Content-Length: 100", body=b"x"),
    "two Transfer-Encoding": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n" + INNER),
    "identity and chunked": post("Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n" + INNER),
    "chunked and identity": post("Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + INNER),
    "chunked and chunked": post("Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + INNER),
    "gzip": post("Transfer-Encoding: gzip", body=INNER),
    "gzip and chunked": post("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n" + INNER),
    "identity": post("Transfer-Encoding: identity", body=INNER),
    "xchunked": post("Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + INNER),
    "chunked in quotes": post('Transfer-Encoding: "chunked"', body=b"0\r\n\r\n" + INNER),
    "chunked with a parameter": post("Transfer-Encoding: chunked;x=y", body=b"0\r\n\r\n" + INNER),
    "chunked behind a vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + INNER),
    "chunked with a NUL": post(b"Transfer-Encoding: chunked\0", body=b"0\r\n\r\n" + INNER),
    "Transfer-Encoding that is empty": post("Transfer-Encoding:", body=INNER),
    **{
        f"a chunk size of {size!r}": post(CHUNKED, body=size + b"\r\nx\r\n0\r\n\r\n")
        for size in (b"", b" ", b"x", b"-1", b"+1", b"0x1", b"1x", b"g", b"\xff", b"\0", b"_1", b"8000000000000000")
    },
    "a chunk size that overflows": post(CHUNKED, body=b"ffffffffffffffff1\r\nx\r\n0\r\n\r\n"),
    "a chunk longer than its size": post(CHUNKED, body=b"1\r\nxx\r\n0\r\n\r\n"),
    "a chunk without its line break": post(CHUNKED, body=b"1\r\nx0\r\n\r\n"),
    "chunks that do not end": post(CHUNKED, body=b"1\r\nx\r\n"),
    "a request in the body of one without a token": request(None, f"Content-Length: {len(INNER)}", body=INNER),
    "a request behind one without a token": request(None, "Content-Length: 0", body=INNER),
    "a request in the chunks of one without a token": request(
        None, CHUNKED, method="POST", body=f"{len(INNER):x}\r\n".encode() + INNER + b"\r\n0\r\n\r\n"
    ),
    "a request in the body of an OPTIONS": request(None, f"Content-Length: {len(INNER)}", method="OPTIONS", body=INNER),
    "a body that is too large": post("Content-Length: 2000000", body=b"x" * 1000),
    "a carriage return for a line break": request(None, b"X: y\r" + good_line.encode()),
    "a line break percent-encoded in the target": request(target=f"/api/x%20HTTP/1.1%0d%0a{good_line}"),
    "a head that does not end": b"GET /api/x HTTP/1.1\r\nHost: gateway\r\n" + good_line.encode() + b"\r\n",
    "a request line that does not end": b"GET /api/x",
    "a name without an end": b"GET /api/x HTTP/1.1\r\nHost: gateway\r\n" + b"X" * 3000,
}

# --- The table -------------------------------------------------------------------------------------------------------

TABLE = {
    "control bytes": dict(control_bytes()),
    "8-bit": {
        f"{name} {where}": request(b"Bearer" + before + it + after)
        for name, it in EIGHT_BIT.items()
        for where, before, after in (
            ("in the token", b" " + GOOD.encode()[:9], GOOD.encode()[9:]),
            ("before the token", b" ", GOOD.encode()),
            ("for the space", b"", GOOD.encode()),
        )
    },
    "spellings": {name: request(value) for name, value in SPELLINGS.items()},
    "headers": HEADERS,
    "JWTs": {name: request(f"Bearer {value}") for name, value in JWTS.items()},
    "paths": {repr(path[:60]): request(target=path) for path in PATHS},
    "paths of another token": {repr(path[:60]): request(f"Bearer {UNKNOWN}", target=path) for path in PATHS[:40]},
    "hosts": HOSTS,
    "methods": METHODS,
    "conditions": CONDITIONS,
    "smuggling": SMUGGLING,
}

# --- Tokens that are bound to a key of their sender ------------------------------------------------------------------


class Key:
    """A key of a client, and the proofs that it makes (RFC 9449 §4.2)."""

    def __init__(self):
        self.private = ec.generate_private_key(ec.SECP256R1())
        numbers = self.private.public_key().public_numbers()
        x, y = (b64(number.to_bytes(32)) for number in (numbers.x, numbers.y))
        self.jwk = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
        self.thumbprint = b64(hashlib.sha256(json.dumps(self.jwk, separators=(",", ":")).encode()).digest())

    def proof(self, header=None, key=None, alg="ES256", token=None, **claims):
        """A proof for a GET of `/api/x`; claims and members of the header that are None are left out."""
        said = {
            "jti": b64(next(JTI).to_bytes(8)),
            "htm": "GET",
            "htu": "http://gateway/api/x",
            "iat": int(time.time()),
            "ath": b64(hashlib.sha256((token or BOUND_TO_KEY).encode()).digest()),
        } | claims
        headers = {"typ": "dpop+jwt", "jwk": self.jwk} | (header or {})
        said = {name: value for name, value in said.items() if value is not None}
        headers = {name: value for name, value in headers.items() if value is not None}
        return pyjwt.encode(said, self.private if key is None else key, algorithm=alg, headers=headers)


JTI = itertools.count(1)
OURS, THEIRS = Key(), Key()

BOUND_TO_KEY = "bound-token-0123456789abcdef"
BOUND_TO_CERTIFICATE = "bound-token-certificate-0123"
BOUND_TO_BOTH = "bound-token-both-0123456789ab"
BOUND_TO_SOMETHING = "bound-token-something-012345"
BOUND_TO_NOTHING = "bound-token-nothing-01234567"
BOUND_BADLY = "bound-token-badly-0123456789"
CERTIFICATE = {"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}
BOUND = {
    BOUND_TO_KEY: {"jkt": OURS.thumbprint},
    BOUND_TO_CERTIFICATE: CERTIFICATE,
    BOUND_TO_BOTH: {"jkt": OURS.thumbprint, **CERTIFICATE},
    BOUND_TO_SOMETHING: {"kid": "x"},
    BOUND_TO_NOTHING: {},
    BOUND_BADLY: "a text",
}
TOKENS = (GOOD, UNKNOWN, *BOUND)


def proofs():
    """The headers of a request with a bound token; made when it is sent, because a proof is valid for a minute."""

    def dpop(proof, token=BOUND_TO_KEY, scheme="DPoP", **how):
        return request(f"{scheme} {token}", b"DPoP: " + bytes_of(proof), **how)

    ours = OURS.proof
    return {
        **{f"{token} as a bearer token": request(f"Bearer {token}") for token in BOUND},
        **{f"{token} as DPoP without a proof": request(f"DPoP {token}") for token in BOUND},
        **{
            f"{token} with a proof": dpop(ours(token=token), token=token)
            for token in BOUND
            if token != BOUND_TO_KEY
        },
        "a bearer token as DPoP": dpop(ours(token=GOOD), token=GOOD),
        "a bearer token as DPoP without a proof": request(f"DPoP {GOOD}"),
        "a bound token as a bearer token with a proof": dpop(ours(), scheme="Bearer"),
        "an unknown token with a proof": dpop(ours(token=UNKNOWN), token=UNKNOWN),
        "DPoP alone": request("DPoP", f"DPoP: {ours()}"),
        "DPoP and a tab": request(f"DPoP\t{BOUND_TO_KEY}", f"DPoP: {ours()}"),
        "DPoP and Bearer": request(f"DPoP {BOUND_TO_KEY}", f"Authorization: Bearer {BOUND_TO_KEY}", f"DPoP: {ours()}"),
        "an empty proof": dpop(""),
        "two proofs": request(f"DPoP {BOUND_TO_KEY}", f"DPoP: {ours()}", f"DPoP: {ours()}"),
        "one proof twice": request(f"DPoP {BOUND_TO_KEY}", *2 * [f"DPoP: {ours()}"]),
        "two proofs in one header": dpop(f"{ours()}, {ours()}"),
        "the proof in another header": request(f"DPoP {BOUND_TO_KEY}", f"X-DPoP: {ours()}"),
        "the proof in a header with an underscore": request(f"DPoP {BOUND_TO_KEY}", f"DPoP_: {ours()}"),
        "the proof in the query": request(f"DPoP {BOUND_TO_KEY}", target=f"/api/x?dpop={ours()}"),
        "the token for a proof": dpop(BOUND_TO_KEY),
        "a proof of another key": dpop(THEIRS.proof()),
        "our key, signed by another": dpop(ours(key=THEIRS.private)),
        "another key in the header": dpop(ours(header={"jwk": THEIRS.jwk})),
        "no key": dpop(ours(header={"jwk": None})),
        "a private key": dpop(ours(header={"jwk": {**OURS.jwk, "d": "AAAA"}})),
        "a shared secret": dpop(ours(header={"jwk": {"kty": "oct", "k": "AAAA"}}, key="x" * 32, alg="HS256")),
        "HS256 with our key for a secret": dpop(ours(key=OURS.jwk["x"], alg="HS256")),
        "not signed": dpop(ours(key="", alg="none")),
        "not signed, with a signature": dpop(ours(key="", alg="none") + "AAAA"),
        "less a byte of its signature": dpop(ours()[:-1]),
        "another signature": dpop(ours().rpartition(".")[0] + "." + ours().rpartition(".")[2]),
        "padded": dpop(ours() + "="),
        "in quotes": dpop(f'"{ours()}"'),
        "with a control byte": dpop(ours().encode() + b"\x01"),
        "typ JWT": dpop(ours(header={"typ": "JWT"})),
        "no typ": dpop(ours(header={"typ": None})),
        "crit": dpop(ours(header={"crit": ["x"], "x": 1})),
        "for another method": dpop(ours(htm="POST")),
        "for the method in lower case": dpop(ours(htm="get")),
        "for no method": dpop(ours(htm=None)),
        "a POST with a proof for GET": dpop(ours(), method="POST"),
        "for another path": dpop(ours(htu="http://gateway/api/y")),
        "for another host": dpop(ours(htu="http://other/api/x")),
        "for another scheme": dpop(ours(htu="https://gateway/api/x")),
        "for another port": dpop(ours(htu="http://gateway:8080/api/x")),
        "for a path alone": dpop(ours(htu="/api/x")),
        "for no URI": dpop(ours(htu=None)),
        "with a user in its URI": dpop(ours(htu="http://x@gateway/api/x")),
        "for the path behind dots": dpop(ours(), target="/api/x/../y"),
        "for a path that is escaped": dpop(ours(), target="/api%2fx"),
        "to another host": dpop(ours(), host="other"),
        "too old": dpop(ours(iat=int(time.time()) - 120)),
        "of the future": dpop(ours(iat=int(time.time()) + 120)),
        "without a time": dpop(ours(iat=None)),
        "with a time that is text": dpop(ours(iat=str(int(time.time())))),
        "expired": dpop(ours(exp=1)),
        "not valid yet": dpop(ours(nbf=4_000_000_000)),
        "without a jti": dpop(ours(jti=None)),
        "with an empty jti": dpop(ours(jti="")),
        "with a jti that is a number": dpop(ours(jti=7)),
        "with a jti of 1000 bytes": dpop(ours(jti="x" * 1000)),
        "for another token": dpop(ours(token=GOOD)),
        "for no token": dpop(ours(ath=None)),
        "with the token for its hash": dpop(ours(ath=BOUND_TO_KEY)),
        "with its hash in hexadecimal": dpop(ours(ath=hashlib.sha256(BOUND_TO_KEY.encode()).hexdigest())),
        "of 9 KiB": dpop(ours(x="y" * 7000)),
        "a certificate as a header": request(f"Bearer {BOUND_TO_CERTIFICATE}", "X-Client-Cert: x"),
    }


# --- Where tokens may be in other places -----------------------------------------------------------------------------

ELSEWHERE = "phantom_token_source authorization cookie session query access_token header X-Token;"


def cookie(*values, **how):
    return request(how.pop("authorization", None), *(b"Cookie: " + bytes_of(value) for value in values), **how)


def query(text, *lines, **how):
    return request(how.pop("authorization", None), *lines, target=f"/api/x?{text}", **how)


PLACES = {
    "nothing": request(),
    "an unknown cookie": cookie(f"session={UNKNOWN}"),
    "a cookie of another name": cookie(f"sessions={GOOD}"),
    "a cookie of that name in capitals": cookie(f"Session={GOOD}"),
    "a cookie with a prefix": cookie(f"__Host-session={GOOD}"),
    "a cookie in a cookie": cookie(f"a=session={GOOD}"),
    "a cookie in a quoted cookie": cookie(f'a="x,session={GOOD}'),
    "a cookie behind a comma": cookie(f"a=b, session={GOOD}"),
    "a cookie without a name": cookie(f"={GOOD}"),
    "a cookie without a value": cookie("session"),
    "an empty cookie": cookie("session="),
    "an empty cookie in quotes": cookie('session=""'),
    "one quotation mark": cookie(f'session="{GOOD}'),
    "two at the end": cookie(f'session={GOOD}""'),
    "quotes within quotes": cookie(f'session=""{GOOD}""'),
    "a cookie with its scheme": cookie(f"session=Bearer {GOOD}"),
    "a cookie that is percent-encoded": cookie(f"session=%67{GOOD[1:]}"),
    "a name that is percent-encoded": cookie(f"%73ession={GOOD}"),
    "a cookie of an array": cookie(f"session[]={GOOD}"),
    "a cookie of RFC 2965": cookie(f'$Version="1"; $session="{GOOD}"'),
    "a cookie behind an attribute": cookie(f'a="b";$Path="/", session="{GOOD}"'),
    "a cookie twice": cookie(f"session={GOOD}; session={GOOD}"),
    "a cookie twice without spaces": cookie(f"session={GOOD};session={UNKNOWN}"),
    "a cookie in two headers": cookie(f"session={GOOD}", f"session={GOOD}"),
    "a cookie that is empty, and another": cookie(f"session=; session={GOOD}"),
    "a cookie in capitals of the header": request(None, f"COOKIE: session={GOOD}", f"cookie: session={GOOD}"),
    "a cookie with a comma behind": cookie(f"session={GOOD},"),
    "two tokens in a cookie": cookie(f"session={GOOD} {GOOD}"),
    "an 8-bit byte in a cookie": cookie(f"session={GOOD}\xff"),
    "a zero-width space in a name": cookie(f"session\u200b={GOOD}".encode()),
    **{
        f"byte {byte:#04x} in a cookie": cookie(f"session={GOOD[:9]}".encode() + bytes([byte]) + GOOD[9:].encode())
        for byte in (0x00, 0x01, 0x09, 0x0B, 0x0C, 0x0D, 0x1B, 0x7F)
    },
    **{
        f"byte {byte:#04x} in the name of a cookie": cookie(b"sess" + bytes([byte]) + f"ion={GOOD}".encode())
        for byte in (0x00, 0x01, 0x09, 0x0B, 0x0C, 0x0D, 0x1B, 0x7F)
    },
    "byte 0x0c behind a cookie": cookie(f"session={GOOD}\x0c"),
    "byte 0x0c before a cookie": cookie(f"session=\x0c{GOOD}"),
    "a cookie and Authorization": cookie(f"session={GOOD}", authorization=f"Bearer {GOOD}"),
    "a cookie and another Authorization": cookie(f"session={GOOD}", authorization=f"Bearer {UNKNOWN}"),
    "a cookie and Bearer alone": cookie(f"session={GOOD}", authorization="Bearer"),
    "a cookie and a malformed Authorization": cookie(f"session={GOOD}", authorization=f"Bearer {GOOD}, x"),
    "a cookie and a parameter": cookie(f"session={GOOD}", target=f"/api/x?access_token={GOOD}"),
    "a cookie and a header": request(None, f"Cookie: session={GOOD}", f"X-Token: {GOOD}"),
    "everything": request(
        f"Bearer {GOOD}", f"Cookie: session={GOOD}", f"X-Token: {GOOD}", target=f"/api/x?access_token={GOOD}"
    ),
    "an unknown parameter": query(f"access_token={UNKNOWN}"),
    "a parameter in capitals": query(f"Access_Token={GOOD}"),
    "a parameter with a hyphen": query(f"access-token={GOOD}"),
    "a parameter of an array": query(f"access_token[]={GOOD}"),
    "a parameter with a dot": query(f"access.token={GOOD}"),
    "a parameter twice": query(f"access_token={GOOD}&access_token={GOOD}"),
    "a parameter twice, once encoded": query(f"access_token={GOOD}&access%5Ftoken={GOOD}"),
    "a parameter twice, once empty": query(f"access_token=&access_token={GOOD}"),
    "a parameter twice, once without a value": query(f"access_token&access_token={GOOD}"),
    "an empty parameter": query("access_token="),
    "a parameter without a value": query("access_token"),
    "a parameter behind a semicolon": query(f"a=b;access_token={GOOD}"),
    "a parameter behind a semicolon that is encoded": query(f"a=b%26access_token={GOOD}"),
    "a parameter behind a question mark": query(f"?access_token={GOOD}"),
    "a second question mark": query(f"access_token={GOOD}?access_token={GOOD}"),
    "a parameter with its scheme": query(f"access_token=Bearer+{GOOD}"),
    "a parameter with a plus behind": query(f"access_token={GOOD}+"),
    "a parameter with a space before": query(f"access_token=%20{GOOD}"),
    "a parameter with a NUL": query(f"access_token={GOOD}%00"),
    "a parameter with a line break": query(f"access_token={GOOD}%0d%0aX:%20y"),
    "a parameter with a form feed": query(f"access_token={GOOD}%0c"),
    "a parameter with half an escape": query(f"access_token={GOOD}%"),
    "a parameter with no escape": query(f"access_token={GOOD}%zz"),
    "a parameter that is encoded twice": query(f"access_token=%2567{GOOD[1:]}"),
    "a parameter with an 8-bit byte": query(f"access_token={GOOD}%ff"),
    "a parameter in quotes": query(f'access_token="{GOOD}"'),
    "a name with a NUL": query(f"access_token%00={GOOD}"),
    "a name with a space": query(f"access_token+={GOOD}"),
    "a parameter in the path": request(target=f"/api/access_token={GOOD}"),
    "a parameter in an encoded query": request(target=f"/api/x%3Faccess_token={GOOD}"),
    "a parameter and Authorization": query(f"access_token={GOOD}", authorization=f"Bearer {GOOD}"),
    "a parameter and Basic twice": query(f"access_token={GOOD}", "Authorization: Basic x", authorization="Basic y"),
    "a token of 9000 bytes in the query": query("access_token=" + "a" * 9000),
    "an unknown header": request(None, f"X-Token: {UNKNOWN}"),
    "an empty header": request(None, "X-Token:"),
    "a header with its scheme": request(None, f"X-Token: Bearer {GOOD}"),
    "a header twice": request(None, f"X-Token: {GOOD}", f"X-Token: {GOOD}"),
    "a header twice, once in capitals": request(None, f"X-Token: {GOOD}", f"X-TOKEN: {UNKNOWN}"),
    "a header that is a list": request(None, f"X-Token: {GOOD}, {GOOD}"),
    "a header and Authorization": request(f"Bearer {GOOD}", f"X-Token: {GOOD}"),
    "a header with a control byte": request(None, f"X-Token: {GOOD}\x01"),
    "a header with a form feed behind": request(None, f"X-Token: {GOOD}\x0c"),
    "a header with a form feed before": request(None, f"X-Token: \x0c{GOOD}"),
    "a header in quotes": request(None, f'X-Token: "{GOOD}"'),
    "a bound token in a cookie": cookie(f"session={BOUND_TO_KEY}"),
    "a bound token in the query": query(f"access_token={BOUND_TO_KEY}"),
    "a bound token in a header": request(None, f"X-Token: {BOUND_TO_CERTIFICATE}"),
    "a JWT in a cookie": cookie("session=" + JWTS["alg none, a signature"]),
    "a form": request(
        None,
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {13 + len(GOOD)}",
        method="PUT",
        body=f"access_token={GOOD}".encode(),
    ),
}


# --- HTTP/2 ----------------------------------------------------------------------------------------------------------


def fields(*more, method="GET", path="/api/x", scheme="http", authority="gateway"):
    """The fields of a request over HTTP/2; those that are None are left out."""
    pseudo = [(":method", method), (":path", path), (":scheme", scheme), (":authority", authority)]
    return [(name, value) for name, value in pseudo if value is not None] + list(more)


AUTHORIZATION = ("authorization", f"Bearer {GOOD}")

# Fields, and a body or None.
TABLE2 = {
    "no token": (fields(), None),
    "another token": (fields(("authorization", f"Bearer {UNKNOWN}")), None),
    "two tokens": (fields(AUTHORIZATION, ("authorization", f"Bearer {UNKNOWN}")), None),
    "the same twice": (fields(AUTHORIZATION, AUTHORIZATION), None),
    "Basic before Bearer": (fields(("authorization", "Basic eDp5"), AUTHORIZATION), None),
    "an empty one before": (fields(("authorization", ""), AUTHORIZATION), None),
    "a name in capitals": (fields(("Authorization", f"Bearer {GOOD}")), None),
    "a name with a space": (fields(("authorization ", f"Bearer {GOOD}")), None),
    "a name with a colon": (fields(("authorization:", f"Bearer {GOOD}")), None),
    "a pseudo-header of that name": (fields((":authorization", f"Bearer {GOOD}")), None),
    "a name with a line break": (fields(("x\r\nauthorization", f"Bearer {GOOD}")), None),
    "an empty name": (fields(("", f"Bearer {GOOD}")), None),
    "a value with a line break": (fields(("x", f"y\r\nauthorization: Bearer {GOOD}")), None),
    "a value with a line feed": (fields(("x", f"y\nauthorization: Bearer {GOOD}")), None),
    "a token with a line break": (fields(("authorization", f"Bearer {GOOD}\r\nx: y")), None),
    "a token with a NUL": (fields(("authorization", f"Bearer {GOOD}\0")), None),
    "a token with a control byte": (fields(("authorization", f"Bearer {GOOD}\x01")), None),
    "a token with an 8-bit byte": (fields(("authorization", f"Bearer {GOOD}é")), None),
    "joined by a comma": (fields(("authorization", f"Bearer {GOOD}, Bearer {GOOD}")), None),
    "a scheme and a tab": (fields(("authorization", f"Bearer\t{GOOD}")), None),
    "a token of 9000 bytes": (fields(("authorization", "Bearer " + "a" * 9000)), None),
    "a cookie in crumbs": (fields(("cookie", "access_token="), ("cookie", GOOD)), None),
    "in the query": (fields(path=f"/api/x?access_token={GOOD}"), None),
    "no path": (fields(AUTHORIZATION, path=None), None),
    "an empty path": (fields(AUTHORIZATION, path=""), None),
    "a path without a slash": (fields(AUTHORIZATION, path="api/x"), None),
    "a star for a path": (fields(path="*"), None),
    "a whole URL for a path": (fields(path="http://gateway/api/x"), None),
    "two paths": (fields((":path", "/public/"), AUTHORIZATION), None),
    "a path with a space": (fields(path=f"/api/x HTTP/1.1\r\nauthorization: Bearer {GOOD}\r\nx: y"), None),
    "a path with a NUL": (fields(AUTHORIZATION, path="/api/x\0"), None),
    "a path with a line break": (fields(AUTHORIZATION, path="/api/x\r\n"), None),
    "a path with dots": (fields(path="/public/../api/x"), None),
    "a path with dots, percent-encoded": (fields(path="/public/%2e%2e/api/x"), None),
    "a path with two slashes": (fields(path="//api/x"), None),
    "no method": (fields(AUTHORIZATION, method=None), None),
    "an empty method": (fields(AUTHORIZATION, method=""), None),
    "two methods": (fields((":method", "OPTIONS"), AUTHORIZATION), None),
    "a method in lower case": (fields(AUTHORIZATION, method="get"), None),
    "a method with a space": (fields(method="GET /api/x HTTP/1.1\r\nx: y\r\n\r\nGET"), None),
    "CONNECT": (fields(AUTHORIZATION, method="CONNECT"), None),
    "CONNECT to an authority": (fields(AUTHORIZATION, method="CONNECT", path=None, scheme=None), None),
    "CONNECT for WebSocket": (fields((":protocol", "websocket"), AUTHORIZATION, method="CONNECT"), None),
    "TRACE": (fields(AUTHORIZATION, method="TRACE"), None),
    "OPTIONS with Origin alone": (fields(("origin", "https://app.example.com"), method="OPTIONS"), None),
    "no scheme": (fields(AUTHORIZATION, scheme=None), None),
    "an empty scheme": (fields(AUTHORIZATION, scheme=""), None),
    "a scheme that is a URL": (fields(AUTHORIZATION, scheme="http://gateway/public/?"), None),
    "no authority": (fields(authority=None), None),
    "another authority": (fields(authority="other.example.com"), None),
    "an authority with a path": (fields(AUTHORIZATION, authority="gateway/public/"), None),
    "an authority with a line break": (fields(authority=f"gateway\r\nauthorization: Bearer {GOOD}"), None),
    "two authorities": (fields((":authority", "other"), AUTHORIZATION), None),
    "another Host": (fields(("host", "other.example.com")), None),
    "a pseudo-header behind the others": ([*fields(path=None), AUTHORIZATION, (":path", "/api/x")][1:], None),
    "a pseudo-header of an answer": (fields((":status", "200"), AUTHORIZATION), None),
    "an unknown pseudo-header": (fields((":token", GOOD), AUTHORIZATION), None),
    "a length with a smaller body": (fields(AUTHORIZATION, ("content-length", "10"), method="POST"), b"x"),
    "a length with a larger body": (fields(AUTHORIZATION, ("content-length", "1"), method="POST"), b"x" * 10),
    "a length that is no number": (fields(AUTHORIZATION, ("content-length", "x"), method="POST"), b"x"),
    "a length that is negative": (fields(AUTHORIZATION, ("content-length", "-1"), method="POST"), b"x"),
    "two lengths": (
        fields(AUTHORIZATION, ("content-length", "1"), ("content-length", "2"), method="POST"),
        b"x",
    ),
    "a request in the body": (fields(("content-length", "0"), method="POST"), INNER),
    "a request in the chunks of the body": (
        fields(("transfer-encoding", "chunked"), method="POST"),
        b"0\r\n\r\n" + INNER,
    ),
    "a range": (fields(("range", "bytes=0-")), None),
    "Expect": (fields(("expect", "100-continue"), method="POST"), b"x"),
    "X-Original-URL": (fields(("x-original-url", "/public/")), None),
    "headers without end": (fields(*((f"x-{number}", "y" * 100) for number in range(500))), None),
}

# Where one begins: what nginx shows of a request may have line breaks.
RECORD = re.compile(r"^(?=\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[)", re.MULTILINE)

CONFIGURATION = {
    "server": """
    large_client_header_buffers 4 32k;
    client_header_timeout 1s;
    client_body_timeout 1s;
    location /public/ { return 404; }
    location = / { return 404; }
    """,
    "location": "proxy_read_timeout 5s;",
    # Every denial is logged; what nginx says of malformed requests as well.
    "level": "info",
}


@pytest.fixture
def hostile(gateway, ugly, api):
    """Starts nginx in front of what the table is about, and gives it and its worker."""

    def answer(exchange):
        if exchange.token == GOOD:
            exchange.active()
        elif exchange.token in BOUND:
            exchange.active(cnf=BOUND[exchange.token])
        else:
            exchange.inactive()

    ugly.answer = answer

    def start(**how):
        nginx = gateway(**(CONFIGURATION | how))
        return nginx, nginx.worker()

    return start


def good_passes(nginx, api, ugly):
    """The control: the good token passes, with its JWT, and is remembered."""
    assert get(nginx.port, "/api/control", token=GOOD).status == 200
    received = api.requests.pop()
    assert received.target == "/api/control"
    assert received.value("authorization") == f"Bearer {ugly.jwt_for(GOOD)}"
    assert api.requests == []


def statuses(answer):
    """The statuses of all answers in what came; that of HTTP/0.9, which has none, is in the page or in our words."""
    found = re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer) or re.findall(rb"<title>(\d{3}) ", answer)
    return [int(status) for status in found] or ([401] if b"Access denied" in answer else [])


def exchange(port, data):
    """Sends bytes and gives all that comes until the connection is closed."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        try:
            sock.sendall(data)
            while part := sock.recv(65536):
                answer += part
        except ConnectionError:
            # Closed while there was more to send.
            pass
    return answer


def exchange2(port, sent, body):
    """The status of the answer over HTTP/2; None when the stream or the connection is closed without one."""
    with Http2(port) as client:
        client.h2.config.normalize_outbound_headers = False
        client.sock.settimeout(10)
        stream = client.h2.get_next_available_stream_id()
        try:
            client.h2.send_headers(stream, sent, end_stream=body is None)
            if body is not None:
                client.h2.send_data(stream, body, end_stream=True)
            client._flush()
            answer = client.read(stream)
        except (EOFError, ConnectionError, h2.exceptions.ProtocolError):
            return None
        return answer.status if answer else None


def without_what_nginx_wrote(log):
    """The error log without the records in which nginx itself complains of a malformed request, and without the request
    that it puts behind every record: both are the operator's choice, and not ours."""
    records = [record for record in RECORD.split(log) if "client sent " not in record]
    return "".join(re.sub(r', (?:request|host|referrer): ".*', "", record, flags=re.DOTALL) for record in records)


def assert_harmless(nginx, worker):
    assert nginx.worker() == worker, "a worker has crashed"
    log = without_what_nginx_wrote(nginx.log())
    assert [token for token in (*TOKENS, *JWTS.values()) if token in log] == [], "the log shows a token"


def what_reaches(nginx, api, rows):
    """Of `rows` those that were let in, or answered with anything but a refusal."""
    failed = []
    for name, data in rows.items():
        answer = exchange(nginx.port, data)
        seen = [received.head for received in api.requests]
        api.requests.clear()
        answered = statuses(answer)
        if seen or not set(answered) <= REFUSALS or (answer and not answered):
            failed.append((name, answered, answer[:200], seen))
    return failed


@pytest.mark.parametrize("group", TABLE)
def test_no_hostile_request_reaches_the_api(hostile, ugly, api, group):
    nginx, worker = hostile()
    good_passes(nginx, api, ugly)
    assert what_reaches(nginx, api, TABLE[group]) == []
    # The JWT that the API has been given opens nothing from outside.
    assert get(nginx.port, "/api/x", token=ugly.jwt_for(GOOD)).status == 401
    assert api.requests == []
    good_passes(nginx, api, ugly)
    assert_harmless(nginx, worker)


def test_no_bound_token_reaches_the_api_without_its_proof(hostile, ugly, api):
    nginx, worker = hostile(http="phantom_token_zone tokens:1m;")

    def proof_passes():
        proof = OURS.proof()
        good = request(f"DPoP {BOUND_TO_KEY}", f"DPoP: {proof}")
        assert statuses(exchange(nginx.port, good)) == [200]
        assert api.requests.pop().value("authorization").startswith("Bearer ey")
        assert api.requests == []
        return {"a proof that was used": good, "the same to another path": good.replace(b"/api/x", b"/api/x?y", 1)}

    used = proof_passes()
    assert what_reaches(nginx, api, used | proofs()) == []
    proof_passes()
    good_passes(nginx, api, ugly)
    assert_harmless(nginx, worker)


def test_no_hostile_request_reaches_the_api_where_tokens_may_be_in_other_places(hostile, ugly, api):
    nginx, worker = hostile(location=ELSEWHERE)

    def all_pass():
        good_passes(nginx, api, ugly)
        for good in (cookie(f"session={GOOD}"), query(f"access_token={GOOD}"), request(None, f"X-Token: {GOOD}")):
            assert statuses(exchange(nginx.port, good)) == [200]
            received = api.requests.pop()
            assert received.value("authorization") == f"Bearer {ugly.jwt_for(GOOD)}"
            assert GOOD.encode() not in received.head, "the token has been taken out"
            assert api.requests == []

    all_pass()
    assert [(row[0], row[1]) for row in what_reaches(nginx, api, PLACES)] == []
    for group in ("spellings", "control bytes", "8-bit"):
        assert what_reaches(nginx, api, TABLE[group]) == []
    all_pass()
    assert_harmless(nginx, worker)


@pytest.mark.parametrize("group", TABLE)
def test_where_a_token_is_optional_no_hostile_request_reaches_the_api_with_credentials(hostile, ugly, api, group):
    nginx, worker = hostile(location="phantom_token_optional on;")
    good_passes(nginx, api, ugly)
    for name, data in TABLE[group].items():
        exchange(nginx.port, data)
        for received in api.requests:
            assert received.values("authorization") == [], (name, received.head)
        api.requests.clear()
    good_passes(nginx, api, ugly)
    assert_harmless(nginx, worker)


def test_no_hostile_request_over_http2_reaches_the_api(hostile, ugly, api):
    nginx, worker = hostile(listen="http2", http="http2_recv_timeout 1s;")
    with Http2(nginx.port) as client:
        assert client.request(target="/api/control", token=GOOD).status == 200
    assert api.requests.pop().value("authorization") == f"Bearer {ugly.jwt_for(GOOD)}"
    failed = []
    for name, (sent, body) in TABLE2.items():
        status = exchange2(nginx.port, sent, body)
        seen = [received.head for received in api.requests]
        api.requests.clear()
        if seen or status is not None and status not in REFUSALS:
            failed.append((name, status, seen))
    assert failed == []
    with Http2(nginx.port) as client:
        assert client.request(target="/api/control", token=GOOD).status == 200
    assert_harmless(nginx, worker)


def test_the_table_has_200_requests_and_no_two_are_the_same():
    sent = [data for group in TABLE.values() for data in group.values()]
    sent += [repr(row) for row in TABLE2.values()]
    sent += proofs().values()
    sent += (data + b"elsewhere" for data in PLACES.values())
    assert len(sent) >= 200
    assert len(set(sent)) == len(sent)
