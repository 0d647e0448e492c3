"""`phantom_token_status`: metrics, JSON and the status page, summed over all workers."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import parser as prometheus
from prometheus_client.openmetrics import parser as openmetrics

from harness import config
from harness.browser import Browser
from harness.client import Http1, get
from harness.load import Caller, Crowd, Load
from harness.wait import until

ROOT = Path(__file__).resolve().parents[2]
OUTCOMES = ["ok", "missing", "malformed", "inactive", "invalid", "unproven", "step_up", "forbidden", "unavailable"]
FORMATS = ["prometheus", "openmetrics", "json", "html"]

KILLED = r"exited on signal 9"


@pytest.fixture
def watched(gateway):
    """A gateway with a location that shows its status."""

    def start(*, server="", zone="tokens:1m", http="", **words):
        zones = f"phantom_token_zone {zone};" if zone else ""
        words = {"cache_ttl": "300s", "cache_inactive_ttl": "300s", **words}
        status = "location = /status { phantom_token_status; } location = /who { return 200 $pid; }"
        return gateway(http=f"{zones}\n{http}", server=f"{server}\n{status}", **words)

    return start


def status(nginx, target="/status?format=json"):
    answer = get(nginx.port, target)
    assert answer.status == 200, answer
    return json.loads(answer.body)


def provider(nginx, name=config.PROVIDER):
    [found] = [one for one in status(nginx)["providers"] if one["name"] == name]
    return found


def samples(families):
    """Every sample by its name and labels; none may be there twice."""
    found = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def read(nginx, form="prometheus"):
    """The metrics, as parsers of others read them."""
    text = get(nginx.port, f"/status?format={form}").body.decode()
    parser = prometheus if form == "prometheus" else openmetrics
    return samples(parser.text_string_to_metric_families(text))


def settled(nginx, requests):
    """The provider when all workers have told of so many requests."""

    def enough():
        found = provider(nginx)
        return found if sum(found["requests"].values()) >= requests else None

    found = until(enough, f"{requests} requests are counted")
    assert sum(found["requests"].values()) == requests, found["requests"]
    return found


def test_what_four_workers_have_done_is_one_sum(watched, secrets):
    nginx = watched(workers=4, listen="reuseport")
    token = secrets.token()
    with Crowd(nginx.port, 40) as crowd:
        assert len(crowd.find_workers()) == 4
        each = crowd.one_per_worker()
        for _ in range(5):
            for member in each:
                crowd.ask("/", token=token, members=[member])
    found = settled(nginx, 20)
    assert found["requests"]["ok"] == 20
    assert found["verdicts"] == {"hit": 16, "shared": 3, "miss": 1, "coalesced": 0, "stale": 0}
    assert found["hit_ratio"] == 19 / 20
    assert found["introspection"]["calls"] == found["introspection"]["seconds"]["count"] == 1
    assert found["workers"] == status(nginx)["workers"] == 4
    assert found["cache"]["entries"] == 4
    assert found["cache"]["capacity"] == 4 * (64 << 20)
    [zone] = status(nginx)["zones"]
    assert (zone["name"], zone["entries"]) == ("tokens", 1)


def test_every_outcome_counts_as_the_access_log_has_it(watched, ugly, secrets):
    unreachable = config.provider("http://127.0.0.1:1/", secrets, name="away", timeout="1s")
    nginx = watched(
        http=unreachable,
        server="""
        location /scope { phantom_token acme; phantom_token_scopes more; empty_gif; }
        location /audience { phantom_token acme; phantom_token_audience other; empty_gif; }
        location /acr { phantom_token acme; phantom_token_acr high; empty_gif; }
        location /away { phantom_token away; empty_gif; }
        location /redirected { phantom_token acme; error_page 403 = /; phantom_token_scopes more; empty_gif; }
        """,
    )
    good, bad, bound = secrets.token(), secrets.token(), secrets.token()
    answers = {
        good: lambda exchange: exchange.active(),
        bad: lambda exchange: exchange.inactive(),
        # Nobody has shown the key.
        bound: lambda exchange: exchange.active(cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
    }
    ugly.answer = lambda exchange: answers[exchange.token](exchange)
    for target, how in [
        ("/", {"token": good}),
        ("/", {"token": good}),
        ("/", {}),
        ("/", {"authorization": "Bearer a b"}),
        ("/", {"token": bad}),
        ("/", {"token": bound}),
        ("/audience", {"token": good}),
        ("/acr", {"token": good}),
        ("/scope", {"token": good}),
        # One request, however often it was decided.
        ("/redirected", {"token": good}),
        ("/away", {"token": good}),
    ]:
        get(nginx.port, target, **how)
    logged = Counter(line.split("result=")[1].split()[0] for line in nginx.wait_access("result=[a-z]", 11))
    both = until(
        lambda: (found := [provider(nginx, name)["requests"] for name in ("acme", "away")])
        and sum(sum(one.values()) for one in found) >= 11
        and found,
        "all requests are counted",
    )
    counted = Counter(both[0]) + Counter(both[1])
    assert counted == logged
    assert list(both[0]) == sorted(OUTCOMES)
    assert counted["ok"] == 3
    assert {outcome for outcome, count in counted.items() if count} == set(OUTCOMES)
    assert both[1]["unavailable"] == 1


def test_a_request_whose_client_leaves_before_there_is_a_verdict_is_no_outcome(watched, ugly, secrets):
    nginx = watched(workers=1)
    ugly.answer = ugly.holding()
    with Http1(nginx.port) as client:
        client.send(token=secrets.token())
        ugly.wait_calls()
        found = provider(nginx)
        assert (found["in_flight"], found["waiting"]) == (1, 1)
    until(lambda: provider(nginx)["waiting"] == 0, "nobody waits")
    ugly.release()
    until(lambda: provider(nginx)["in_flight"] == 0, "nothing is under way")
    assert sum(provider(nginx)["requests"].values()) == 0


def test_what_is_under_way_in_another_worker_is_seen_to_end(watched, ugly, secrets):
    """A flight in the background ends without a request: the worker tells of it all the same."""
    nginx = watched(workers=2, listen="reuseport")
    ugly.answer = ugly.holding()
    with Crowd(nginx.port, 20) as crowd:
        crowd.find_workers()
        one, other = crowd.one_per_worker()

        def flights():
            [answer] = crowd.ask("/status?format=json", members=[other])
            return json.loads(answer.body)["providers"][0]["in_flight"]

        # A first request arms the timer of the one.
        crowd.ask("/", members=[one])
        with Http1(nginx.port) as client:
            for _ in range(50):
                client.send(target="/who")
                if int(client.read().body) == one.worker:
                    break
                client.close()
                client.__init__(nginx.port)
            client.send(token=secrets.token())
            until(lambda: flights() == 1, "the other sees it")
        # The client has left, the flight goes on.
        ugly.release()
        until(lambda: flights() == 0, "the other sees its end")


@pytest.mark.parametrize("zone", ["tokens:1m", None])
def test_the_breaker_is_seen_to_open_and_to_close(watched, ugly, secrets, zone):
    nginx = watched(workers=1, zone=zone, max_fails="2", fail_timeout="4s", retries="0")
    ugly.stop_listening()
    for _ in range(3):
        get(nginx.port, token=secrets.token())
    found = provider(nginx)
    assert found["breaker"] == {"open": 1, "openings": 1}
    assert found["requests"]["unavailable"] == 3
    unreachable = found["errors"]["unreachable"]
    assert unreachable["count"] == 2 and "acme" in unreachable["last_message"]
    assert abs(unreachable["last_at"] - time.time()) < 20
    assert found["errors"]["circuit_open"]["count"] == 1
    ugly.listen_again()
    until(lambda: get(nginx.port, token=secrets.token()).status == 200, "it asks again")
    assert provider(nginx)["breaker"] == {"open": 0, "openings": 1}


def growing(before, after):
    """The counters that have decreased."""
    return {
        key: (value, after.get(key))
        for key, value in before.items()
        if re.search(r"_(total|bucket|count|sum)$", key[0]) and not after.get(key, -1) >= value
    }


def test_counters_never_fall_while_workers_are_exchanged_and_killed(watched, secrets):
    nginx = watched(workers=4, alarms_allowed=KILLED, quiet=True)
    tokens = [secrets.token() for _ in range(20)]
    caller = Caller(nginx.port)
    began = time.monotonic()
    seen = [read(nginx)]
    turns = 0
    with Load(lambda number: caller.request(token=tokens[number * 7 % 20])):
        while time.monotonic() - began < 8:
            turns += 1
            if turns % 20 == 10:
                os.kill(nginx.workers()[0], signal.SIGKILL)
            elif turns % 20 == 0:
                nginx.signal(signal.SIGHUP)
            try:
                now = read(nginx)
            except (ConnectionError, EOFError):
                # The worker that was asked is gone.
                continue
            assert not growing(seen[-1], now)
            seen.append(now)
            time.sleep(0.05)
    key = ("phantom_token_requests_total", frozenset({"provider": "acme", "outcome": "ok"}.items()))
    assert seen[-1][key] > seen[0][key]
    assert len(seen) > 20


def test_a_reload_loses_nothing_and_goes_on_with_what_there_is(watched, secrets):
    nginx = watched(workers=3)
    started = status(nginx)["since"]
    for _ in range(30):
        get(nginx.port, token=secrets.token())
    # At once: the workers tell what they have not told yet when they end.
    nginx.reload()
    assert provider(nginx)["requests"]["ok"] == 30
    get(nginx.port, token=secrets.token())
    found = settled(nginx, 31)
    assert found["workers"] == status(nginx)["workers"] == 3
    assert status(nginx)["since"] == started
    # The entries of the former workers are gone with them.
    assert found["cache"]["entries"] == 1


def test_a_worker_that_was_killed_is_followed_by_one_that_goes_on(watched, secrets):
    nginx = watched(workers=1, alarms_allowed=KILLED)
    get(nginx.port, token=secrets.token())
    settled(nginx, 1)
    worker = nginx.worker()
    os.kill(worker, signal.SIGKILL)
    until(lambda: nginx.workers() and nginx.workers() != [worker], "there is another worker")
    get(nginx.port, token=secrets.token())
    found = settled(nginx, 2)
    assert found["workers"] == 1
    assert found["cache"]["entries"] == 1


def test_a_provider_that_is_changed_counts_on_and_one_that_is_gone_is_not_shown(gateway, ugly, secrets):
    nginx = gateway(server="location = /status { phantom_token_status; }", timeout="10s")
    get(nginx.port, token=secrets.token())
    settled(nginx, 1)

    def configured(name, **keys):
        return f"""
{config.provider(ugly.url, secrets, name=name, **keys)}
server {{
    listen @listen@;
    location / {{ phantom_token {name}; empty_gif; }}
    location = /status {{ phantom_token_status; }}
}}
"""

    nginx.write(configured("acme", timeout="5s", client_id="another"))
    nginx.reload()
    get(nginx.port, token=secrets.token())
    settled(nginx, 2)
    nginx.write(configured("other"))
    nginx.reload()
    assert [one["name"] for one in status(nginx)["providers"]] == ["other"]
    assert sum(provider(nginx, "other")["requests"].values()) == 0


def test_a_worker_that_idles_does_nothing(watched, secrets):
    nginx = watched(workers=1)
    get(nginx.port, token=secrets.token())
    settled(nginx, 1)

    def switches():
        pid = nginx.worker()
        text = Path(f"/proc/{pid}/task/{pid}/status").read_text()
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE).group(1))

    until(lambda: (before := switches()) and time.sleep(2.5) is None and switches() == before, "it sleeps", 60)


def test_without_a_master_it_counts_for_itself(watched, secrets):
    nginx = watched(master=False, zone=None)
    get(nginx.port, token=secrets.token())
    found = settled(nginx, 1)
    assert found["workers"] == 1 and status(nginx)["zones"] == []


def test_tokens_that_a_location_introspects_are_counted_too(start_nginx, ugly, secrets):
    nginx = start_nginx(
        f"""
server {{
    listen @listen@ reuseport;
    server_name gateway;
    location / {{
        phantom_token on;
        phantom_token_introspection_endpoint /introspect;
        empty_gif;
    }}
    location = /introspect {{ internal; proxy_pass {ugly.url}; }}
    location = /status {{ phantom_token_status; }}
    location = /who {{ return 200 $pid; }}
}}
""",
        workers=2,
    )
    with Crowd(nginx.port, 20) as crowd:
        crowd.find_workers()
        for member in crowd.one_per_worker():
            crowd.ask("/", token=secrets.token(), members=[member])

    def found():
        [one] = status(nginx)["providers"]
        return one if one["requests"]["ok"] == 2 else None

    one = until(found, "two workers have told")
    assert one["name"] == "/introspect@gateway"
    assert one["introspection"]["calls"] == 2


def test_without_a_provider_there_is_nothing_to_show(start_nginx):
    nginx = start_nginx("server { listen @listen@; location / { phantom_token_status; } }")
    for form in FORMATS:
        answer = get(nginx.port, f"/?format={form}")
        assert answer.status == 200 and answer.body
    assert json.loads(get(nginx.port, "/?format=json").body)["providers"] == []


def test_both_parsers_read_the_same_and_promtool_finds_nothing_to_mend(watched, ugly, secrets):
    nginx = watched()
    get(nginx.port, token=secrets.token())
    get(nginx.port)
    ugly.answer = lambda exchange: exchange.reply(status=500, body=b"")
    get(nginx.port, token=secrets.token())
    settled(nginx, 3)
    both = [read(nginx, form) for form in ("prometheus", "openmetrics")]
    assert both[0] == both[1]
    assert both[0][("phantom_token_requests_total", frozenset({"provider": "acme", "outcome": "ok"}.items()))] == 1
    text = get(nginx.port, "/status").body
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert done.returncode == 0, done


def test_who_asks_gets_the_format_that_is_asked_for(watched):
    nginx = watched()
    html = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    for target, accept, wanted in [
        ("/status", None, "text/plain; version=0.0.4; charset=utf-8"),
        ("/status", "*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("/status", html, "text/html; charset=utf-8"),
        ("/status", "application/json", "application/json"),
        ("/status", "application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        ("/status?format=json", html, "application/json"),
        ("/status?a&format=openmetrics", html, "application/openmetrics-text; version=1.0.0"),
    ]:
        answer = get(nginx.port, target, headers=[("Accept", accept)] if accept else [])
        assert answer.status == 200
        assert answer.value("Content-Type").startswith(wanted), (target, accept)
        assert answer.value("Cache-Control") == "no-store"
        assert answer.value("X-Content-Type-Options") == "nosniff"
        head = get(nginx.port, target, method="HEAD", headers=[("Accept", accept)] if accept else [])
        assert (head.status, head.body) == (200, b"")
        assert head.value("Content-Type") == answer.value("Content-Type")
    refused = get(nginx.port, "/status?format=xml")
    assert refused.status == 400 and refused.json()["error"] == "invalid_request"
    for method in ("POST", "PUT", "DELETE"):
        refused = get(nginx.port, "/status", method=method)
        assert (refused.status, refused.value("Allow")) == (405, "GET, HEAD")


def test_nginx_protects_it_like_any_location(gateway):
    nginx = gateway(server="location = /status { phantom_token_status; deny all; }")
    assert get(nginx.port, "/status").status == 403


def test_a_charset_and_compression_of_nginx_do_it_no_harm(watched):
    nginx = watched(server="charset koi8-r; gzip on; gzip_types *; gzip_min_length 1;")
    answer = get(nginx.port, "/status?format=html")
    assert answer.value("Content-Type") == "text/html; charset=utf-8"
    packed = get(nginx.port, "/status", headers=[("Accept-Encoding", "gzip")])
    assert packed.value("Content-Encoding") == "gzip"


HOSTILE = [
    '"><script>alert(1)</script>',
    "</title><img src=x onerror=alert(1)>",
    'back\\\\slash " and {braces="x"} 1',
    "dünn & <b>breit</b> 💥",
    "' or 1=1 --",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_any_format(start_nginx, ugly, secrets, name):
    quoted = '"' + name.replace("\\\\", "\\").replace("\\", "\\\\").replace('"', '\\"') + '"'
    plain = name.replace("\\\\", "\\")
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets, name=quoted)}
server {{
    listen @listen@;
    location / {{ phantom_token {quoted}; empty_gif; }}
    location = /status {{ phantom_token_status; }}
}}
"""
    )
    get(nginx.port, token=secrets.token())
    assert [one["name"] for one in status(nginx)["providers"]] == [plain]
    for form in ("prometheus", "openmetrics"):
        names = {dict(labels).get("provider") for _, labels in read(nginx, form)}
        assert names == {plain, None}
    with Browser() as browser:
        browser.open(f"http://127.0.0.1:{nginx.port}/status?format=html")
        assert browser.evaluate("document.querySelector('h2').textContent") == plain
        assert browser.evaluate("document.querySelectorAll('script, img').length") == 0
        assert browser.complaints == []


@pytest.mark.parametrize("form", FORMATS)
def test_no_format_shows_a_token_a_jwt_or_a_secret(watched, ugly, secrets, form):
    nginx = watched(retries="0")
    tokens = [secrets.token() for _ in range(4)]
    answers = [
        lambda exchange: exchange.active(),
        lambda exchange: exchange.inactive(),
        # An answer that cannot be used and holds what must not be shown.
        lambda exchange: exchange.reply(body=f'{{"token":"{exchange.token}"}}', content_type="application/json"),
        lambda exchange: exchange.reply(status=401, body=exchange.token),
    ]
    for token, answer in zip(tokens, answers, strict=True):
        ugly.answer = answer
        get(nginx.port, token=token)
    settled(nginx, 4)
    answer = get(nginx.port, f"/status?format={form}")
    assert secrets.found_in(answer.body.decode() + str(answer.headers)) == []
    assert provider(nginx)["errors"]["client_refused"]["last_message"]


# what is wrong: what stands in a server block, and words of the message.
WRONG = {
    "an argument": ("location / { phantom_token_status on; }", "invalid number of arguments"),
    "outside of a location": ("phantom_token_status;", "not allowed here"),
    "twice": ("location / { phantom_token_status; phantom_token_status; }", "is duplicate"),
    "beside another": ("location / { phantom_token_status; return 200; proxy_pass http://127.0.0.1:1; }", "something else"),
    "beside one of ours": ("location / { phantom_token_jwks acme; phantom_token_status; }", "phantom_token_jwks"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration_is_refused(start_nginx, ugly, secrets, name):
    lines, words = WRONG[name]
    block = config.provider(ugly.url, secrets)
    with pytest.raises(AssertionError, match=words):
        start_nginx(f"{block}\nserver {{ listen @listen@; {lines} }}")


@pytest.fixture
def busy(gateway, ugly, secrets):
    """A gateway that has seen some life: two providers, one of whose servers is away."""
    away = config.provider(
        "https://localhost:9/oauth2/introspect", secrets, name="partners", timeout="2s", max_fails="3", cache_zone="tokens"
    )
    nginx = gateway(
        workers=4,
        listen="reuseport",
        quiet=True,
        cache_ttl="300s",
        cache_zone="tokens",
        http=f"phantom_token_zone tokens:4m;\n{away}",
        server="""
        location /partners { phantom_token partners; empty_gif; }
        location /orders { phantom_token acme; phantom_token_scopes orders; empty_gif; }
        location = /status { phantom_token_status; }
        location = /who { return 200 $pid; }
        """,
    )
    pauses = [0.0004, 0.001, 0.003, 0.003, 0.006, 0.006, 0.012, 0.02, 0.045, 0.09, 0.3]

    def answer(exchange):
        if exchange.token.startswith("bad"):
            exchange.inactive()
            return
        if exchange.token.startswith("odd"):
            exchange.reply(body='{"active":true}', content_type="application/json")
            return
        time.sleep(pauses[hash(exchange.token) % len(pauses)])
        exchange.active()

    ugly.answer = answer
    tokens = [secrets.token() for _ in range(60)]
    with Crowd(nginx.port, 24) as crowd:
        crowd.find_workers()
        for number, token in enumerate(tokens):
            crowd.ask("/", token=token, members=crowd.members[number % 5 :: 5] * 1)
        for number in range(90):
            crowd.ask("/", token=tokens[number % 60])
        crowd.ask("/", members=crowd.members[:9])
        crowd.ask("/orders", token=tokens[1], members=crowd.members[:14])
        for number in range(7):
            crowd.ask("/", token=secrets.token("bad"), members=crowd.members[number : number + 1])
        crowd.ask("/", token=secrets.token("odd"), members=crowd.members[:1])
        for _ in range(6):
            crowd.ask("/partners", token=secrets.token(), members=crowd.members[:1])
    time.sleep(1.5)
    return nginx


def test_the_page_is_read_in_a_real_browser_in_both_schemes(busy):
    url = f"http://127.0.0.1:{busy.port}/status"
    with Browser() as browser:
        colours = []
        for scheme, name in (("light", "status.png"), ("dark", "status-dark.png")):
            browser.scheme(scheme)
            browser.open(f"{url}?format=html&refresh=off")
            colours.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
            text = browser.evaluate("document.body.innerText")
            for word in ("acme", "partners", "tokens", "breaker open", "unreachable", "ago", "nginx 1."):
                assert word in text, (word, text)
            picture = browser.picture()
            assert picture.startswith(b"\x89PNG") and len(picture) > 20_000
            keep(name, picture)
        assert colours == ["rgb(245, 246, 248)", "rgb(16, 20, 26)"], "its own style is applied"
        assert browser.complaints == []
        assert {one.partition("?")[0] for one in browser.asked_for if not one.startswith("data:")} == {url}
        assert browser.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        # Also on a telephone.
        browser.size(390, 800)
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390

        # It reloads itself, unless that is turned off.
        browser.open(f"{url}?format=html")
        browser.wait_load(browser.loads)
        assert browser.complaints == []

        # A violation of the policy would have been reported.
        browser.evaluate("document.body.setAttribute('style', 'color: red')")
        until(lambda: any("Content Security Policy" in one or "ContentSecurityPolicy" in one
                          for one in browser.complaints), "the browser complains")


def keep(name, content):
    """Updates a file of the documentation, if PHANTOM_KEEP is set."""
    if os.environ.get("PHANTOM_KEEP"):
        (ROOT / "docs" / name).write_bytes(content)


OPERATIONS = ROOT / "docs" / "operations.md"


def blocks(language):
    """The fenced blocks of a language in docs/operations.md."""
    return re.findall(rf"^```{language}\n(.*?)^```$", OPERATIONS.read_text(), re.MULTILINE | re.DOTALL)


def test_the_documented_metrics_are_those_that_there_are(busy):
    text = get(busy.port, "/status?format=prometheus").body
    keep("metrics.txt", text)
    kinds = {
        family.name: family.type
        for family in prometheus.text_string_to_metric_families(text.decode())
    }
    labels = {}
    for family in prometheus.text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels.setdefault(family.name, set()).update(set(sample.labels) - {"le"})
    documented = {}
    for name, kind, words in re.findall(
        r"^\| `(phantom_token_\w+)` \| (\w+) \|([^|]*)\|", OPERATIONS.read_text(), re.MULTILINE
    ):
        documented[name.removesuffix("_total")] = (kind, set(re.findall(r"`(\w+)`", words)))
    assert documented == {name: (kind, labels.get(name, set())) for name, kind in kinds.items()}
    example = (ROOT / "docs" / "metrics.txt").read_text()
    assert [line for line in example.splitlines() if line.startswith("#")] == [
        line for line in text.decode().splitlines() if line.startswith("#")
    ], "`make docs-status` updates it"


def test_the_documented_rules_are_rules_about_metrics_that_there_are(busy, tmp_path):
    rules = "".join(blocks("yaml"))
    path = tmp_path / "rules.yml"
    path.write_text(rules)
    assert shutil.which("promtool"), "scripts/packages.sh test installs it"
    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    there = {name for name, _ in read(busy)}
    named = set(re.findall(r"\bphantom_token_\w+", rules))
    assert named and named <= there, named - there


def test_the_documented_log_format_is_taken(start_nginx, ugly, secrets):
    [log_format] = [one for one in blocks("nginx") if "log_format" in one]
    nginx = start_nginx(
        f"{config.provider(ugly.url, secrets)}\n"
        + re.sub(r"access_log \S+", "access_log @dir@/phantom.log", log_format)
        + "\nserver { listen @listen@; location / { phantom_token acme; empty_gif; } }"
    )
    get(nginx.port, token=secrets.token())
    path = nginx.dir / "phantom.log"
    line = until(lambda: path.exists() and path.read_text(), "a line is written")
    assert '"result":"ok"' in line and json.loads(line)["status"] == 200
    assert secrets.found_in(line) == []
