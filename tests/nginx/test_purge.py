"""`phantom_token_purge`: what it takes, what it answers, and that nobody serves what was purged."""

import os
import random
import time
import urllib.parse

import pytest

from harness import config
from harness.api import Connection
from harness.client import Http1, Http2, get
from harness.load import Caller, Crowd, Load, claims_of
from harness.wait import until

# How many tokens are purged under load.
PURGES = int(os.environ.get("PHANTOM_PURGES", "2000"))

FORM = [("content-type", "application/x-www-form-urlencoded")]


def form(**fields):
    return urllib.parse.urlencode(fields).encode()


@pytest.fixture
def purging(start_nginx, secrets, ugly):
    """A gateway with a zone and a location that purges. Answers show the JWT and the worker."""

    def start(*, workers=1, location="", server="", http="", keys=None, listen="", zone="tokens:4m", **settings):
        block = config.provider(ugly.url, secrets, cache_ttl="300s", cache_inactive_ttl="300s", **(keys or {}))
        return start_nginx(
            f"""
phantom_token_zone {zone};
{block}
keepalive_requests 1000000;
{http}
server {{
    listen @listen@ {listen};
    {server}
    location / {{
        phantom_token acme;
        add_header X-Sent $http_authorization always;
        add_header X-Cache $phantom_token_cache always;
    }}
    location = /who {{ return 200 $pid; }}
    location = /purge {{
        phantom_token_purge acme;
        {location}
    }}
}}
""",
            workers=workers,
            files={"html/ok": "ok"},
            **settings,
        )

    return start


def purge(nginx, body, **how):
    return get(nginx.port, "/purge", method="POST", headers=FORM, body=body, **how)


def test_a_token_that_is_purged_is_asked_about_again(purging, ugly, secrets):
    nginx = purging()
    token, other = secrets.token(), secrets.token()
    for one in (token, other):
        assert [get(nginx.port, "/ok", token=one).value("X-Cache") for _ in range(2)] == ["MISS", "HIT"]
    answer = purge(nginx, form(token=token))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.value("Cache-Control") == "no-store"
    assert answer.value("Content-Length") == "0"
    assert get(nginx.port, "/ok", token=token).value("X-Cache") == "MISS"
    assert get(nginx.port, "/ok", token=other).value("X-Cache") in ("HIT", "SHARED")
    assert (ugly.calls_for(token), ugly.calls_for(other)) == (2, 1)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("Content-Type", "Application/X-WWW-Form-URLencoded; charset=utf-8")], 200),
        ([*FORM, ("Sec-Fetch-Site", "same-origin"), ("Origin", "https://gateway")], 200),
        ([*FORM, ("Origin", "http://gateway")], 200),
        ([], 415),
        ([("Content-Type", "text/plain")], 415),
        ([("Content-Type", "multipart/form-data; boundary=a")], 415),
        ([("Content-Type", "application/json")], 415),
        ([*FORM, ("Sec-Fetch-Site", "cross-site"), ("Origin", "http://gateway")], 403),
        ([*FORM, ("Sec-Fetch-Site", "same-site")], 403),
        ([*FORM, ("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "none")], 403),
        ([*FORM, ("Origin", "https://evil.example")], 403),
        ([*FORM, ("Origin", "null")], 403),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_only_a_form_of_no_other_site_purges(purging, secrets, headers, status, version):
    nginx = purging(listen="http2" if version == 2 else "")
    token = secrets.token()
    with (Http2 if version == 2 else Http1)(nginx.port) as client:
        assert client.request(target="/ok", token=token).value("X-Cache") == "MISS"
        headers = [(name.lower() if version == 2 else name, value) for name, value in headers]
        answer = client.request("POST", "/purge", headers=headers, body=form(token=token))
        assert answer.status == status
        if status != 200:
            assert answer.json()["error"] == "invalid_request"
        assert client.request(target="/ok", token=token).value("X-Cache") == ("MISS" if status == 200 else "HIT")


def test_an_inactive_token_is_forgotten_as_well(purging, ugly, secrets):
    nginx = purging()
    token = secrets.token()
    ugly.answer = lambda exchange: exchange.inactive()
    assert [get(nginx.port, "/ok", token=token).status for _ in range(2)] == [401, 401]
    ugly.answer = lambda exchange: exchange.active()
    assert get(nginx.port, "/ok", token=token).status == 401
    assert purge(nginx, form(token=token)).status == 200
    assert get(nginx.port, "/ok", token=token).status == 200


def test_everything_of_a_provider_can_be_forgotten_and_nothing_of_another(purging, ugly, secrets):
    other = config.provider(ugly.url, secrets, name="other", client_id="another", cache_ttl="300s")
    nginx = purging(
        http=other, server="location = /other { phantom_token other; add_header X-Cache $phantom_token_cache; alias @dir@/html/ok; }"
    )
    tokens = [secrets.token() for _ in range(20)]
    for token in tokens:
        assert get(nginx.port, "/ok", token=token).status == 200
        assert get(nginx.port, "/other", token=token).status == 200
    assert purge(nginx, b"all=1").status == 200
    assert {get(nginx.port, "/ok", token=token).value("X-Cache") for token in tokens} == {"MISS"}
    assert "MISS" not in {get(nginx.port, "/other", token=token).value("X-Cache") for token in tokens}


@pytest.mark.parametrize(
    "body",
    [
        form(token="never-seen"),
        form(token="never-seen", token_type_hint="access_token"),
        form(token_type_hint="refresh_token", token="never-seen", client_id="somebody"),
        b"token=never+seen",
        b"token=%00%ff",
        b"token=" + b"a" * 60_000,
    ],
    ids=lambda body: body[:40].decode(),
)
def test_whatever_is_not_known_is_forgotten_too(purging, body):
    nginx = purging()
    answer = purge(nginx, body)
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "missing"),
        (b"token_type_hint=access_token", "missing"),
        (b'{"token":"some-token-0123"}', "missing"),
        (b"token=", "empty"),
        (b"token=a&token=b", "once"),
        (b"token=a&all=1", "once"),
        (b"all=yes", "all"),
        (b"token=%zz", "encoded"),
    ],
)
def test_a_form_that_is_none_is_refused_with_a_reason(purging, body, words):
    nginx = purging()
    answer = purge(nginx, body)
    assert answer.status == 400
    assert answer.value("Content-Type") == "application/json"
    assert answer.value("Cache-Control") == "no-store"
    assert answer.json()["error"] == "invalid_request"
    assert words in answer.json()["error_description"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_only_post_purges(purging, secrets, method):
    nginx = purging()
    token = secrets.token()
    get(nginx.port, "/ok", token=token)
    with Http1(nginx.port) as client:
        answer = client.request(method, f"/purge?token={token}", body=form(token=token) if method == "PUT" else b"")
        assert answer.status == 405
        assert answer.value("Allow") == "POST"
        if method != "HEAD":
            assert answer.json()["error"] == "invalid_request"
        assert client.request(target="/ok", token=token).value("X-Cache") == "HIT"


def test_a_body_that_is_too_large_is_refused_however_it_arrives(purging):
    nginx = purging(location="client_max_body_size 0;")
    large = b"token=" + b"a" * 65_536
    assert purge(nginx, large).status == 413
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(large), large)
    with Http1(nginx.port) as client:
        client.send("POST", "/purge", headers=[*FORM, ("Transfer-Encoding", "chunked")], body=chunk, length=False)
        assert client.read().status == 413


def test_a_smaller_bound_of_nginx_s_own_stays(purging):
    nginx = purging(location="client_max_body_size 100;")
    assert purge(nginx, form(token="a" * 200)).status == 413
    assert purge(nginx, form(token="a" * 50)).status == 200


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_chunked_body_is_read(purging, ugly, secrets, size):
    nginx = purging()
    token = secrets.token()
    get(nginx.port, "/ok", token=token)
    body = form(padding="x" * 9_000, token=token)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[i : i + size] for i in range(0, len(body), size)))
    with Http1(nginx.port) as client:
        client.send("POST", "/purge", headers=[*FORM, ("Transfer-Encoding", "chunked")], body=chunks + b"0\r\n\r\n", length=False)
        assert client.read().status == 200
        assert client.request(target="/ok", token=token).value("X-Cache") == "MISS"


def test_a_body_that_arrives_byte_by_byte_is_read(purging, secrets):
    nginx = purging()
    token = secrets.token()
    get(nginx.port, "/ok", token=token)
    body = form(token=token)
    with Http1(nginx.port) as client:
        client.send("POST", "/purge", headers=[*FORM, ("Content-Length", str(len(body)))])
        for byte in body:
            client.sock.sendall(bytes([byte]))
        assert client.read().status == 200
        assert client.request(target="/ok", token=token).value("X-Cache") == "MISS"


def test_it_works_over_http2(purging, secrets):
    nginx = purging(listen="http2")
    token = secrets.token()
    with Http2(nginx.port) as client:
        assert client.request(target="/ok", token=token).status == 200
        assert client.request(target="/ok", token=token).value("x-cache") == "HIT"
        answer = client.request("POST", "/purge", headers=FORM, body=form(token=token))
        assert (answer.status, answer.body) == (200, b"")
        assert client.request(target="/ok", token=token).value("x-cache") == "MISS"
        assert client.request("POST", "/purge", headers=FORM, body=b"x=y").status == 400
        assert client.request("GET", "/purge").status == 405
        too_large = [*FORM, ("content-length", "70000")]
        assert client.request("POST", "/purge", headers=too_large, body=b"token=a").status == 413


def test_it_waits_for_100_continue(purging):
    nginx = purging()
    with Http1(nginx.port) as client:
        body = form(token="never-seen")
        client.send("POST", "/purge", headers=[*FORM, ("Expect", "100-continue"), ("Content-Length", str(len(body)))])
        assert client.read().status == 100
        client.sock.sendall(body)
        assert client.read().status == 200


def test_a_client_that_leaves_in_the_middle_of_the_body_disturbs_nobody(purging, secrets):
    nginx = purging()
    token = secrets.token()
    get(nginx.port, "/ok", token=token)
    for _ in range(20):
        with Http1(nginx.port) as client:
            client.send("POST", "/purge", headers=[*FORM, ("Content-Length", "1000")], body=form(token=token), length=False)
    nginx.wait_access("POST /purge (400|499)", count=20)
    assert get(nginx.port, "/ok", token=token).value("X-Cache") == "HIT"


def test_a_body_that_was_written_to_a_file_is_read_from_it(purging, secrets):
    # Whatever is said here, tokens stay off the disk; a location on the way may have another mind.
    nginx = purging(
        server="""
        location = /before {
            client_body_in_file_only clean;
            client_body_buffer_size 1k;
            client_max_body_size 1m;
            mirror /nothing;
            error_page 418 = @purge;
            return 418;
        }
        location = /nothing { internal; return 204; }
        location = /file {
            client_body_in_file_only clean;
            client_max_body_size 1m;
            mirror /copied;
            try_files /ok =404;
        }
        location = /copied { internal; phantom_token_purge acme; }
        location @purge { phantom_token_purge acme; }
        """,
    )
    token = secrets.token()
    for target in ("/before", "/file"):
        get(nginx.port, "/ok", token=token)
        assert get(nginx.port, "/ok", token=token).value("X-Cache") == "HIT"
        get(nginx.port, target, method="POST", headers=FORM, body=form(padding="x" * 9_000, token=token))
        assert get(nginx.port, "/ok", token=token).value("X-Cache") == "MISS", target


def test_no_token_is_written_to_a_disk(purging):
    nginx = purging(location="client_body_in_file_only on; client_body_buffer_size 1k;")
    assert purge(nginx, form(token="a" * 5_000)).status == 200
    assert [path for path in (nginx.dir / "temp_body").rglob("*") if path.is_file()] == []


def test_what_protects_a_location_protects_it(purging, ugly, secrets):
    nginx = purging(
        server="""
        location = /denied { phantom_token_purge acme; deny all; }
        location = /guarded { phantom_token_purge acme; phantom_token acme; phantom_token_scope purge; }
        location = /limited { phantom_token_purge acme; limit_except POST { deny all; } }
        location = /branched { phantom_token_purge acme; if ($arg_x) { set $y 1; } }
        """
    )
    ugly.answer = lambda exchange: exchange.active(scope="purge" if exchange.token.startswith("admin") else "read")
    token, admin = secrets.token(), secrets.token("admin")

    def status(target, **how):
        assert get(nginx.port, "/ok", token=token).status == 200
        answer = get(nginx.port, target, method="POST", headers=FORM, body=form(token=token), **how)
        known = get(nginx.port, "/ok", token=token).value("X-Cache") != "MISS"
        return answer.status, known

    assert status("/denied") == (403, True)
    assert status("/guarded") == (401, True)
    assert status("/guarded", token=token) == (403, True)
    assert status("/guarded", token=admin) == (200, False)
    assert status("/limited") == (200, False)
    assert get(nginx.port, "/limited").status == 403
    assert status("/branched?x=1") == (200, False)
    assert get(nginx.port, "/branched?x=1").status == 405


def test_an_error_page_answers_in_its_own_way(purging):
    nginx = purging(location="error_page 400 405 =422 /own;", server="location = /own { internal; return 422 own; }")
    assert (purge(nginx, b"x=y").status, purge(nginx, b"x=y").body) == (422, b"own")
    assert get(nginx.port, "/purge").status == 422
    assert purge(nginx, form(token="never-seen")).status == 200


def test_a_provider_that_only_a_purge_names_is_started(start_nginx, secrets, ugly):
    nginx = start_nginx(
        f"phantom_token_zone tokens:1m; {config.provider(ugly.url, secrets)}"
        "server { listen @listen@; location /purge { phantom_token_purge acme; } }"
    )
    assert purge(nginx, form(token="never-seen")).status == 200


def test_neither_log_shows_what_was_purged(purging, secrets):
    nginx = purging(level="info")
    token = secrets.token()
    assert purge(nginx, form(token=token)).status == 200
    assert purge(nginx, form(token=token) + b"&token=x").status == 400
    assert secrets.found_in(nginx.log() + "\n".join(nginx.wait_access("/purge", count=2))) == []


def test_a_reply_is_whole_before_the_next_request_on_its_connection(purging):
    nginx = purging()
    body = form(token="never-seen")
    one = (
        b"POST /purge HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    with Http1(nginx.port) as client:
        client.sock.sendall(one * 50)
        assert isinstance(client._connection, Connection)
        assert [client.read().status for _ in range(50)] == [200] * 50


def test_after_the_answer_to_a_purge_no_worker_serves_what_was_known(purging, ugly, secrets):
    workers = 4
    nginx = purging(workers=workers, listen="reuseport", zone="tokens:16m", quiet=True)
    tokens = [secrets.token() for _ in range(8)]
    # The authorization server's answer about a token at a time.
    current = dict.fromkeys(tokens, 0)
    slow = set()
    overtaken = []

    def answer(exchange):
        state = current[exchange.token]
        if exchange.token in slow:
            slow.discard(exchange.token)
            until(lambda: current[exchange.token] != state, "there is a purge meanwhile")
            time.sleep(random.random() / 50)
            overtaken.append(state)
        exchange.active(state=state)

    ugly.answer = answer
    caller = Caller(nginx.port)

    def hammer(_):
        # Its answers are not looked at: they may be older than a purge that is under way.
        assert caller.request(target="/ok", token=random.choice(tokens)).status == 200

    stale = []
    with Crowd(nginx.port, 48) as crowd, Load(hammer, threads=2) as load:
        assert len(crowd.find_workers()) == workers
        asked = crowd.one_per_worker()
        assert len(asked) == workers
        other = next(member for member in crowd.members if member not in asked)

        def purge_by(member, token):
            (done,) = crowd.ask("/purge", method="POST", body=form(token=token), members=[member])
            assert done.status == 200

        def change(token, number):
            current[token] = number
            purge_by(asked[number % workers], token)
            # In any order, and at once: those that come second share what the first finds out.
            random.shuffle(asked)
            for seen in crowd.ask("/ok", token=token, members=asked):
                state = claims_of(seen.value("X-Sent"))["state"]
                if state != number:
                    stale.append((number, state))

        for number in range(1, PURGES + 1):
            token = tokens[number % len(tokens)]
            if number % 5:
                change(token, number)
                continue
            # While somebody waits for an answer that is on its way and is older than the purge.
            slow.add(token)
            purge_by(other, token)

            def overtake(token=token, number=number):
                until(lambda: token not in slow, "the authorization server has been asked")
                change(token, number)

            crowd.ask("/ok", token=token, members=[other], meanwhile=overtake)
    print(
        f"{PURGES} purges, {load.asked} other requests, {len(ugly.calls)} introspections, of which {len(overtaken)} were "
        f"overtaken by a purge; {len(stale)} stale answers"
    )
    assert stale == []
    assert len(overtaken) == PURGES // 5
    assert load.asked > PURGES / 10
    assert load.lost == 0
