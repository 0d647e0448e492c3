"""The zone: the cache that workers share, when one of them dies and when all are replaced."""

import os
import random
import re
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from harness import config
from harness.client import Http1, get
from harness.load import Caller, Crowd, Load
from harness.nginx import MODULE, unread
from harness.ugly import UglyServer
from harness.wait import until

# How many workers are killed under load, and for how many seconds there is a reload every second.
KILLS = int(os.environ.get("PHANTOM_KILLS", "60"))
RELOADS = int(os.environ.get("PHANTOM_RELOADS", "20"))

KILLED = r"exited on signal 9"


@pytest.fixture
def together(start_nginx, secrets, ugly):
    """A gateway whose workers share a zone. Responses show the JWT, the worker, and the cache status."""

    def http(*, endpoint=None, zone="tokens:8m", server="", listen="", location="", extra="", **keys):
        keys = {"cache_ttl": "300s", "cache_inactive_ttl": "300s", "client_secret": "not-to-be-shown-0123", **keys}
        zones = [f"phantom_token_zone {one};" for one in zone.split()]
        return f"""
{" ".join(zones)}
{config.provider(endpoint or ugly.url, secrets, **keys)}
keepalive_requests 1000000;
{extra}
server {{
    listen @listen@ {listen};
    {server}
    location / {{
        phantom_token acme;
        add_header X-Sent $http_authorization always;
        add_header X-Cache $phantom_token_cache always;
        add_header X-Worker $pid always;
        {location}
    }}
    location = /who {{ return 200 $pid; }}
}}
"""

    def start(*, workers=4, **words):
        settings = {key: words.pop(key) for key in ("level", "alarms_allowed", "master", "daemon") if key in words}
        nginx = start_nginx(
            http(**words), workers=workers, files={"html/ok": "ok"}, quiet=words.pop("quiet", True), **settings
        )
        until(lambda: len(nginx.workers()) == (workers if settings.get("master", True) else 0), "all workers are there")
        return nginx

    start.http = http
    return start


def seen(nginx, token, count=1):
    """The cache statuses of requests, each on a connection of its own."""
    return [get(nginx.port, "/ok", token=token).value("X-Cache") for _ in range(count)]


def test_what_one_worker_has_found_out_all_know(together, ugly, secrets):
    nginx = together(listen="reuseport")
    tokens = [secrets.token() for _ in range(20)]
    with Crowd(nginx.port, 40) as crowd:
        assert len(crowd.find_workers()) == 4
        each = crowd.one_per_worker()
        for token in tokens:
            how = [crowd.ask("/ok", token=token, members=[member])[0] for member in each]
            assert [answer.value("X-Cache") for answer in how] == ["MISS", "SHARED", "SHARED", "SHARED"]
            assert {answer.value("X-Sent") for answer in how} == {f"Bearer {ugly.jwt_for(token)}"}
            how = [crowd.ask("/ok", token=token, members=[member])[0] for member in each]
            assert [answer.value("X-Cache") for answer in how] == ["HIT"] * 4
    assert len(ugly.calls) == len(tokens)


def test_inactive_tokens_are_known_to_all_as_well(together, ugly, secrets):
    nginx = together(listen="reuseport")
    ugly.answer = lambda exchange: exchange.inactive()
    token = secrets.token()
    with Crowd(nginx.port, 40) as crowd:
        assert {answer.status for answer in crowd.ask("/ok", token=token)} == {401}
    assert ugly.calls_for(token) == 1


@pytest.mark.parametrize("keys", [{"cache_ttl": "0", "cache_inactive_ttl": "0"}, {"cache_zone": "off"}])
def test_a_provider_that_wants_no_zone_gets_none(together, ugly, secrets, keys):
    nginx = together(listen="reuseport", **keys)
    token = secrets.token()
    with Crowd(nginx.port, 40) as crowd:
        crowd.find_workers()
        how = [crowd.ask("/ok", token=token, members=[member])[0].value("X-Cache") for member in crowd.one_per_worker()]
    assert how == ["MISS"] * 4


def test_each_provider_has_the_zone_that_it_names(together, ugly, secrets):
    """Two zones, two providers: a zone that starts empty takes nothing from the other."""
    second = config.provider(ugly.url, secrets, name="second", cache_zone="two", cache_ttl="300s")
    words = {
        "cache_zone": "one",
        "extra": second,
        "server": "location /second { phantom_token second; add_header X-Cache $phantom_token_cache; alias @dir@/html/ok; }",
    }
    nginx = together(zone="one:1m two:1m", **words)
    token = secrets.token()
    get(nginx.port, "/ok", token=token), get(nginx.port, "/second", token=token)
    nginx.write(together.http(zone="one:2m two:1m", **words))
    nginx.reload()
    assert get(nginx.port, "/ok", token=token).value("X-Cache") == "MISS"
    assert get(nginx.port, "/second", token=token).value("X-Cache") == "SHARED"
    nginx.only_line(r"\[notice\].*zone \"one\" starts empty")


def test_without_a_master_it_works_and_remembers_for_itself(together, ugly, secrets):
    nginx = together(master=False)
    token = secrets.token()
    assert seen(nginx, token, 3) == ["MISS", "HIT", "HIT"]


def test_one_cold_token_and_two_thousand_requests_are_one_introspection(together, ugly, secrets):
    nginx = together(workers=8, listen="reuseport backlog=4096")
    token = secrets.token()

    def answer(exchange):
        time.sleep(0.2)
        exchange.active()

    ugly.answer = answer
    with Crowd(nginx.port, 2000) as crowd:
        workers = Counter(member.worker for member in crowd.members) if crowd.find_workers() else {}
        assert len(workers) == 8, workers
        answers = crowd.ask("/ok", token=token)
    assert Counter(answer and answer.status for answer in answers) == {200: 2000}
    assert {answer.value("X-Sent") for answer in answers} == {f"Bearer {ugly.jwt_for(token)}"}
    print(Counter(answer.value("X-Cache") for answer in answers))
    assert len(ugly.calls) == 1


# How an inactive answer may come that is not to be remembered, or for a moment: keys of the provider, and headers.
FORGETTABLE = {
    "ttl": ({"cache_inactive_ttl": "0"}, []),
    "max-age": ({}, ["Cache-Control: max-age=0"]),
    "no-store": ({"cache_control": "strict"}, ["Cache-Control: no-store"]),
    "short": ({"cache_inactive_ttl": "1s"}, []),
}


def failing(exchange):
    exchange.reply(status=500, body=b"", content_type=None)


@pytest.mark.parametrize("how", FORGETTABLE)
def test_an_inactive_token_is_served_stale_by_no_worker(together, ugly, secrets, how):
    """Neither from the zone nor from what another worker remembers itself."""
    keys, headers = FORGETTABLE[how]
    settings = {"cache_ttl": "1s", "stale_if_error": "600s", "max_fails": "0", "retries": "0", **keys}
    nginx = together(workers=2, listen="reuseport", **settings)
    token, other = secrets.token(), secrets.token()
    with Crowd(nginx.port, 40) as crowd:
        assert len(crowd.find_workers()) == 2
        one, two = crowd.one_per_worker()

        def ask(member, token):
            (answer,) = crowd.ask("/ok", token=token, members=[member])
            return answer.status, answer.value("X-Cache")

        for member in (one, two):
            assert ask(member, token)[0] == ask(member, other)[0] == 200
        time.sleep(1.2)
        ugly.answer = lambda exchange: exchange.inactive(headers)
        assert ask(one, token)[0] == 401
        time.sleep(1.6)
        ugly.answer = failing
        for _ in range(6):
            for member in (two, one):
                assert ask(member, token)[0] == 502
                # Of another token nothing else is known.
                assert ask(member, other) == (200, "STALE")


@pytest.mark.parametrize("how", FORGETTABLE)
def test_a_token_that_a_refresh_found_inactive_is_served_by_no_worker(together, ugly, secrets, how):
    keys, headers = FORGETTABLE[how]
    nginx = together(workers=2, listen="reuseport", **{"cache_ttl": "20s", "refresh_ahead": "90", **keys})
    token = secrets.token()
    with Crowd(nginx.port, 40) as crowd:
        assert len(crowd.find_workers()) == 2
        one, two = crowd.one_per_worker()
        for member in (one, two):
            assert crowd.ask("/ok", token=token, members=[member])[0].status == 200
        answered = []

        def inactive(exchange):
            exchange.inactive(headers)
            answered.append(exchange)

        ugly.answer = inactive
        time.sleep(2.2)
        # It begins the refresh.
        assert crowd.ask("/ok", token=token, members=[one])[0].status == 200
        until(lambda: answered, "the refresh is answered")
        time.sleep(0.3)
        for member in (two, one, two):
            assert crowd.ask("/ok", token=token, members=[member])[0].status == 401


def answers(nginx, token, *paths):
    """Status and way of each, asked in this order."""
    return [
        (answer.status, answer.value("X-Cache"))
        for answer in (get(nginx.port, path, token=token) for path in paths)
    ]


@pytest.fixture
def parties(start_nginx, ugly, secrets):
    """A gateway with providers `one` and `two` in one zone; each has the keys that are given, and location `/<name>`."""

    def http(one, two, endpoint=None, more=""):
        blocks = [
            config.provider(endpoint or ugly.url, secrets, name, client_id=None, client_secret=None, **keys)
            for name, keys in (("one", one), ("two", two))
        ]
        locations = "".join(
            f"location = /{name} {{ phantom_token {name}; add_header X-Cache $phantom_token_cache always; "
            "alias @dir@/html/ok; }"
            for name in ("one", "two")
        )
        return f"phantom_token_zone z:1m; {' '.join(blocks)} server {{ listen @listen@; {locations} }} {more}"

    def start(one, two, endpoint=None, more="", files=None, **how):
        return start_nginx(http(one, two, endpoint, more), files={"html/ok": "ok", **(files or {})}, **how)

    start.http = http
    return start


@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize("order", [("/one", "/two"), ("/two", "/one")])
def test_providers_that_ask_with_different_bearer_tokens_share_no_verdict(parties, ugly, secrets, order, file):
    tokens = {"one": secrets.token("rs-one"), "two": secrets.token("rs-two")}
    key = "bearer_token_file" if file else "bearer_token"
    keys = [{key: f"@dir@/{name}" if file else token} for name, token in tokens.items()]

    def answer(exchange):
        known = exchange.request.value("authorization") == f"Bearer {tokens['one']}"
        exchange.active() if known else exchange.inactive()

    ugly.answer = answer
    nginx = parties(*keys, files=tokens)
    token = secrets.token()
    expected = {"/one": (200, "MISS"), "/two": (401, "MISS")}
    assert answers(nginx, token, *order) == [expected[path] for path in order]
    assert len(ugly.calls) == 2
    # Nothing has changed: nothing is asked again.
    nginx.reload()
    assert answers(nginx, token, *order) == [(expected[path][0], "SHARED") for path in order]
    assert len(ugly.calls) == 2


def test_a_bearer_token_file_of_another_party_is_asked_with_after_a_reload(parties, ugly, secrets):
    one, two = secrets.token("rs-one"), secrets.token("rs-two")

    def answer(exchange):
        known = exchange.request.value("authorization") == f"Bearer {one}"
        exchange.active() if known else exchange.inactive()

    ugly.answer = answer
    nginx = parties({"bearer_token_file": "@dir@/one"}, {"bearer_token": two}, files={"one": one})
    token = secrets.token()
    assert answers(nginx, token, "/one") == [(200, "MISS")]
    (nginx.dir / "one").write_text(two)
    nginx.reload()
    assert answers(nginx, token, "/one", "/two") == [(401, "MISS"), (401, "SHARED")]


@pytest.mark.parametrize("order", [("/one", "/two"), ("/two", "/one")])
def test_providers_that_ask_through_different_proxies_share_no_verdict(parties, ugly, secrets, order):
    """Each proxy leads to a server of its own, whatever the URL says."""
    second = UglyServer(secrets, answer=lambda exchange: exchange.inactive())
    try:
        proxies = [{"proxy": f"http://{server.address}"} for server in (ugly, second)]
        nginx = parties(*proxies, endpoint="http://localhost:1/introspect")
        token = secrets.token()
        expected = {"/one": (200, "MISS"), "/two": (401, "MISS")}
        assert answers(nginx, token, *order) == [expected[path] for path in order]
        assert (len(ugly.calls), len(second.calls)) == (1, 1)
    finally:
        second.stop()


def owner(pid, port):
    """Whether a process has the socket of this local port open."""
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            inode = fields[9]
            for fd in os.listdir(f"/proc/{pid}/fd"):
                try:
                    if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]":
                        return True
                except OSError:
                    continue
    return False


def test_when_the_worker_that_asks_is_killed_another_asks_and_all_others_are_answered(together, ugly, secrets):
    nginx = together(workers=8, listen="reuseport backlog=4096", alarms_allowed=KILLED)
    token = secrets.token()
    killed = []

    def answer(exchange):
        if not killed:
            port = exchange.sock.getpeername()[1]
            (worker,) = [pid for pid in nginx.workers() if owner(pid, port)]
            # In the middle: the others have begun to wait.
            time.sleep(0.1)
            killed.append(worker)
            os.kill(worker, signal.SIGKILL)
            exchange.finished = True
            return
        time.sleep(0.2)
        exchange.active()

    ugly.answer = answer
    with Crowd(nginx.port, 2000) as crowd:
        assert len(crowd.find_workers()) == 8
        answers = crowd.ask("/ok", token=token)
    lost = [member for member, answer in zip(crowd.members, answers, strict=True) if answer is None]
    assert {member.worker for member in lost} <= set(killed)
    assert len(killed) == 1
    others = [answer for answer in answers if answer]
    assert len(others) >= 2000 - sum(member.worker == killed[0] for member in crowd.members)
    assert Counter(answer.status for answer in others) == {200: len(others)}
    assert {answer.value("X-Sent") for answer in others} == {f"Bearer {ugly.jwt_for(token)}"}
    assert len(ugly.calls) <= 2


def test_an_error_is_shared_by_all_who_wait(together, ugly, secrets):
    nginx = together(listen="reuseport", retries="0")
    token = secrets.token()
    all_wait = threading.Event()

    def answer(exchange):
        all_wait.wait(60)
        exchange.reply(500)

    def let_it_answer():
        until(lambda: ugly.calls and not unread(nginx.port), "nginx has read every request")
        all_wait.set()

    ugly.answer = answer
    with Crowd(nginx.port, 400) as crowd:
        crowd.find_workers()
        answers = crowd.ask("/ok", token=token, meanwhile=let_it_answer)
    assert Counter(answer.status for answer in answers) == {502: 400}
    assert len(ugly.calls) == 1


def test_known_tokens_stay_known_over_a_reload(together, ugly, secrets):
    nginx = together()
    tokens = [secrets.token() for _ in range(50)]
    for token in tokens:
        assert seen(nginx, token) == ["MISS"]
    for _ in range(3):
        nginx.reload()
        for token in tokens:
            answer = get(nginx.port, "/ok", token=token)
            assert answer.value("X-Cache") == "SHARED"
            assert answer.value("X-Sent") == f"Bearer {ugly.jwt_for(token)}"
    assert len(ugly.calls) == len(tokens)
    assert nginx.log_lines("starts empty") == []


def test_a_provider_that_has_changed_asks_again(together, ugly, secrets):
    nginx = together()
    token = secrets.token()
    assert seen(nginx, token) == ["MISS"]
    nginx.write(together.http(client_id="another"))
    nginx.reload()
    assert seen(nginx, token) == ["MISS"]
    # And is not harmed by the change: both are there.
    nginx.write(together.http())
    nginx.reload()
    assert seen(nginx, token) == ["SHARED"]


def test_a_zone_of_another_size_starts_empty_which_is_logged_once(together, ugly, secrets):
    nginx = together()
    token = secrets.token()
    assert seen(nginx, token) == ["MISS"]
    assert nginx.log_lines("starts empty") == []
    nginx.write(together.http(zone="tokens:9m"))
    nginx.reload()
    assert seen(nginx, token) == ["MISS"]
    nginx.only_line(r"\[notice\].*phantom_token: zone \"tokens\" starts empty: its size has changed")
    nginx.reload()
    assert seen(nginx, token) == ["SHARED"]
    nginx.only_line("starts empty")


def test_a_zone_may_be_taken_away_and_come_back_empty(together, ugly, secrets):
    nginx = together()
    token = secrets.token()
    assert seen(nginx, token) == ["MISS"]
    nginx.write(together.http(zone=""))
    nginx.reload()
    assert seen(nginx, token, 1) == ["MISS"]
    nginx.write(together.http())
    nginx.reload()
    assert seen(nginx, token) == ["MISS"]
    nginx.reload()
    assert seen(nginx, token) == ["SHARED"]


def test_another_file_of_the_module_does_no_harm_at_a_reload(together, ugly, secrets):
    """The dynamic linker binds its names to the module that is there, so that the former build goes on."""
    nginx = together(listen="reuseport")
    waiting, known, other = secrets.token(), secrets.token(), secrets.token()
    assert seen(nginx, known) == ["MISS"]
    ugly.answer = ugly.holding()
    with Http1(nginx.port) as client:
        client.send(target="/ok", token=waiting)
        ugly.wait_calls(2)
        shutil.copy(MODULE, nginx.dir / "another.so")
        nginx.path.write_text(nginx.path.read_text().replace(str(MODULE), str(nginx.dir / "another.so")))
        before = set(nginx.workers())
        nginx.signal(signal.SIGHUP)
        until(lambda: set(nginx.workers()) - before, "there are new workers")
        ugly.answer = lambda exchange: exchange.active()
        until(lambda: get(nginx.port, "/ok", token=other).value("X-Cache") in ("HIT", "SHARED"), "it is remembered")
        ugly.release()
        assert client.read().status == 200
    until(lambda: not before & set(nginx.children()), "the former workers have ended")
    for token in (waiting, known, other):
        assert get(nginx.port, "/ok", token=token).value("X-Sent") == f"Bearer {ugly.jwt_for(token)}"
        assert "MISS" not in seen(nginx, token, 10)
    nginx.reload()
    assert seen(nginx, known) == ["SHARED"]


def test_a_reload_that_fails_leaves_the_zone_as_it_is(together, ugly, secrets):
    nginx = together(alarms_allowed=r"\[emerg\]")
    token = secrets.token()
    assert seen(nginx, token) == ["MISS"]
    for broken in (together.http(zone="tokens:9m", extra="no_such_thing;"), together.http(server="listen 192.0.2.1:1;")):
        before = len(nginx.log_lines(r"\[emerg\]"))
        nginx.write(broken)
        nginx.signal(signal.SIGHUP)
        until(lambda before=before: len(nginx.log_lines(r"\[emerg\]")) > before, "the reload has failed")
        assert "MISS" not in seen(nginx, token, 20)
    nginx.write(together.http())
    nginx.reload()
    assert seen(nginx, token) == ["SHARED"]


def test_a_binary_upgrade_starts_with_a_zone_of_its_own(together, ugly, secrets):
    nginx = together(daemon=True)
    token = secrets.token()
    assert seen(nginx, token) == ["MISS"]
    former = nginx.upgrade()
    os.kill(former, signal.SIGQUIT)
    until(lambda: not os.path.exists(f"/proc/{former}"), "the former master has ended")
    assert seen(nginx, token) == ["MISS"]
    assert "MISS" not in seen(nginx, token, 20)


def test_reload_after_reload_under_load_fails_no_request_and_keeps_what_is_known(together, ugly, secrets):
    nginx = together()
    tokens = [secrets.token() for _ in range(40)]
    expected = {token: f"Bearer {ugly.jwt_for(token)}" for token in tokens}
    how = Counter()

    def ask(number):
        token = random.choice(tokens)
        # A connection of its own: one that is kept may be closed at the moment at which it is used again.
        answer = get(nginx.port, "/ok", token=token)
        assert answer.status == 200
        assert answer.value("X-Sent") == expected[token]
        how[number, answer.value("X-Cache")] += 1

    with Load(ask) as load:
        for _ in range(RELOADS):
            nginx.signal(signal.SIGHUP)
            time.sleep(1)
    asked = sum(how.values())
    misses = sum(count for (_, word), count in how.items() if word in ("MISS", "COALESCED"))
    print(f"{RELOADS} reloads, {asked} requests, {misses} misses, hit ratio {1 - misses / asked:.4%}")
    assert load.lost == 0
    assert asked > 20 * RELOADS
    assert len(ugly.calls) <= len(tokens)
    assert 1 - misses / asked > 0.99


def test_workers_that_are_killed_again_and_again_disturb_nobody_else(together, ugly, secrets):
    """Small zone, short lives, no memory of their own worth mentioning: every request works on the zone."""
    workers = 4
    nginx = together(
        workers=workers, zone="tokens:256k", cache_ttl="1s", cache_size="64k", alarms_allowed=KILLED
    )
    tokens = [secrets.token() for _ in range(300)]
    expected = {token: f"Bearer {ugly.jwt_for(token)}" for token in tokens}
    dead = "inactive-token"
    ugly.answer = lambda exchange: exchange.inactive() if exchange.token.startswith(dead) else exchange.active()
    caller = Caller(nginx.port)
    slowest = [0.0]

    def ask(number):
        began = time.monotonic()
        if random.random() < 0.1:
            answer = caller.request(target="/ok", token=f"{dead}-{random.randrange(10_000)}")
            assert answer.status == 401
        else:
            token = random.choice(tokens)
            answer = caller.request(target="/ok", token=token)
            assert answer.status == 200, answer
            assert answer.value("X-Sent") == expected[token]
        slowest[0] = max(slowest[0], time.monotonic() - began)

    with Load(ask, threads=4) as load:
        for kill in range(KILLS):
            until(lambda: load.asked - load.lost > kill, "requests are answered between the kills")
            victim = random.choice(until(nginx.workers, "there are workers"))
            time.sleep(random.random() / 20)
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
            if random.random() < 0.3:
                until(lambda: len(nginx.workers()) == workers, "all workers are there again")
    until(lambda: len(nginx.workers()) == workers, "all workers are there again")
    print(f"{KILLS} kills, {load.asked} requests, {load.lost} lost with their worker, slowest {slowest[0]:.2f} s")
    # At most one request of each thread was with the worker that was killed.
    assert load.lost <= 4 * KILLS
    for token in tokens:
        assert get(nginx.port, "/ok", token=token).value("X-Sent") == expected[token]
    assert slowest[0] < 10


def test_a_flood_of_random_tokens_pushes_out_no_live_entry(together, server_as, secrets):
    authorization_server = server_as()
    nginx = together(
        endpoint=authorization_server.introspection_endpoint(),
        client_id=authorization_server.client_id,
        client_secret=authorization_server.client_secret,
        workers=2,
        zone="tokens:1m",
        cache_size="512k",
    )
    live = [authorization_server.issue() for _ in range(100)]
    flood = 12_000

    def hit_ratio():
        how = Counter()
        with Http1(nginx.port) as client:
            for token in live:
                answer = client.request(target="/ok", token=token)
                assert answer.status == 200
                how[answer.value("X-Cache")] += 1
        return 1 - (how["MISS"] + how["COALESCED"]) / len(live)

    hit_ratio()
    before = hit_ratio()
    caller = Caller(nginx.port)
    sent = Counter()

    def attack(number):
        sent[number] += 1
        assert caller.request(target="/ok", token=f"random-{random.randbytes(12).hex()}").status == 401

    during = []
    with Load(attack, threads=3):
        until(lambda: during.append(hit_ratio()) or sum(sent.values()) >= flood, "the flood is over", timeout=120)
    after = hit_ratio()
    # In the zone itself, that is: workers that begin know nothing else.
    nginx.reload()
    anew = hit_ratio()
    print(
        f"{sum(sent.values())} random tokens; hit ratio before {before:.2%}, during {min(during):.2%} at least, "
        f"after {after:.2%}, after and a reload {anew:.2%}"
    )
    assert (before, min(during), after, anew) == (1, 1, 1, 1)


# Secrets that must not be in a dump, beside those that the harness knows.
CLAIM = "a-claim-that-nobody-else-may-read"


def zone_of(pid, size):
    """Where a process has a mapping that workers share, of a size or a little more: first and last address."""
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-s .*/dev/zero", line)
        if match:
            first, last = int(match[1], 16), int(match[2], 16)
            if size <= last - first <= size * 1.1:
                found.append((first, last))
    assert len(found) == 1, found
    return found[0]


def memory(pid, first, last):
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(first)
        return memory.read(last - first)


@pytest.fixture
def full_zone(together, ugly, secrets):
    """A gateway whose zone holds verdicts of all kinds. Beside it, a zone of nginx's own that holds `MARKER`."""
    marker = f"marker-{random.randbytes(16).hex()}"
    nginx = together(
        workers=2,
        zone="tokens:4m",
        extra="limit_req_zone $http_x_marker zone=control:5m rate=1000r/s;",
        location="limit_req zone=control burst=1000 nodelay;",
        # Those that fail are to be asked about, each of them.
        max_fails="0",
    )

    def answer(exchange):
        if exchange.token.startswith("inactive"):
            exchange.inactive()
        elif exchange.token.startswith("broken"):
            exchange.reply(500)
        else:
            exchange.active(sub=f"{CLAIM}-sub", scope=f"{CLAIM}-scope", private=f"{CLAIM}-private")

    ugly.answer = answer
    tokens = [secrets.token(kind) for kind in ("active", "inactive", "broken") for _ in range(30)]
    for token in tokens:
        assert get(nginx.port, "/ok", token=token, headers=[("X-Marker", marker)]).status in (200, 401, 502, 503)
    assert get(nginx.port, "/ok", token=tokens[0]).status == 200
    return nginx, marker


def assert_that_nothing_is_shown(dump, secrets):
    text = dump.decode("latin-1")
    assert secrets.found_in(text) == []
    for piece in (CLAIM, "eyJ", "Bearer", '"iss"'):
        assert piece not in text, piece
    # JWT's parts one by one, and a token's second half, as they would be seen where something is cut or overwritten.
    with secrets._lock:
        known = sorted(secrets._known)
    for secret in known:
        for part in secret.split("."):
            if len(part) >= 24:
                assert part[-16:] not in text and part[:16] not in text


def test_a_dump_of_the_zone_s_memory_shows_neither_token_nor_jwt_nor_claim(full_zone, secrets):
    nginx, marker = full_zone
    try:
        pid = nginx.workers()[0]
        control = memory(pid, *zone_of(pid, 5 << 20))
    except PermissionError:
        pytest.skip("may not read the memory of a worker")
    assert marker.encode() in control, "the search is blind"
    dump = memory(pid, *zone_of(pid, 4 << 20))
    # 30 JWTs of some 300 bytes are in there.
    assert len(dump) - dump.count(0) > 30 * 300
    assert_that_nothing_is_shown(dump, secrets)
    # The same, from the master.
    assert memory(nginx.pid, *zone_of(nginx.pid, 4 << 20)) == dump
    # And that is where verdicts come from.
    nginx.reload()
    (again, *_) = [token for token in sorted(secrets._known) if token.startswith("active-")]
    assert seen(nginx, again) == ["SHARED"]


def loaded(core):
    """The memory in a core file (ELF of 64 bits), without its notes: they hold registers, in which a worker may have a
    piece of the last JWT that it copied.
    """
    assert core[:5] == b"\x7fELF\x02"
    (start,) = struct.unpack_from("<Q", core, 32)
    size, count = struct.unpack_from("<HH", core, 54)
    pieces = []
    for number in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", core, start + number * size)
        if kind == 1:  # PT_LOAD
            pieces.append(core[offset : offset + length])
    return b"".join(pieces)


def test_a_core_file_of_the_zones_shows_neither_token_nor_jwt_nor_claim(full_zone, secrets, tmp_path):
    nginx, marker = full_zone
    gcore = shutil.which("gcore")
    assert gcore, "gcore is missing: it is in Debian's package gdb"
    pid = nginx.workers()[0]
    try:
        # Shared memory without a file: the zones, and none of the worker's own memory.
        Path(f"/proc/{pid}/coredump_filter").write_text("0x2")
    except PermissionError:
        pytest.skip("may not read the memory of a worker")
    done = subprocess.run(
        [gcore, "-o", tmp_path / "core", str(pid)], capture_output=True, text=True, timeout=120, check=False
    )
    core = tmp_path / f"core.{pid}"
    if not core.exists() and "ptrace" in done.stderr:
        pytest.skip("may not attach to a worker")
    dump = loaded(core.read_bytes())
    assert marker.encode() in dump, "the search is blind"
    # Both zones, what is counted (2 MB), and little else: the page on which the kernel shows the time, and such.
    assert 11 << 20 <= len(dump) <= 12.5 * (1 << 20)
    assert secrets.found_in(dump.decode("latin-1")) == []
    assert CLAIM.encode() not in dump
    assert get(nginx.port, "/ok", token=secrets.token("active")).status == 200
