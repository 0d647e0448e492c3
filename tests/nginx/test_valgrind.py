"""A worker's life from start to quit under valgrind: no access to memory that is not ours, nothing read that was never
written, and nothing of ours left behind."""

import re
import signal
import subprocess
import urllib.parse

import pytest

from harness import config
from harness.client import Http1, get
from harness.nginx import IN_ROOT, NginxServer, which
from harness.wait import until

VALGRIND = which("valgrind")

# Where an error of this project shows: in the module itself, or in nginx on its behalf.
OURS = re.compile(r"ngx_http_phantom_token_module|phantom_token")


class UnderValgrind(NginxServer):
    """nginx, master and workers, each with a report of its own."""

    # It starts many times as slowly.
    patience = 180.0

    def runner(self):
        return [
            VALGRIND,
            "--trace-children=yes",
            "--leak-check=full",
            "--show-leak-kinds=definite",
            "--num-callers=40",
            "--log-file=" + str(self.dir / "valgrind.%p"),
        ]

    def workers(self):
        # Under valgrind a process keeps the title that it was started with.
        return list(self.children())


def reports(nginx):
    """Valgrind's report about each process: its blocks, an error or a leak each."""
    blocks = {}
    for path in nginx.dir.glob("valgrind.*"):
        text = re.sub(r"^==\d+== ?", "", path.read_text(errors="replace"), flags=re.M)
        blocks[path.name] = [block.strip() for block in text.split("\n\n") if block.strip()]
    return blocks


def by_location(nginx, ugly, secrets):
    """Tokens that a location introspects: from the server and its cache, too large, cut off, and with clients that leave."""
    active = type(ugly.calls[0]).active
    ugly.answer = lambda exchange: exchange.active(headers=["Cache-Control: max-age=1"])
    cached = secrets.token()
    for _ in range(3):
        assert get(nginx.port, "/old", token=cached).status == 200
    ugly.answer = lambda exchange: exchange.reply(body=b"x" * 200_000)
    assert get(nginx.port, "/old", token=secrets.token()).status == 502
    ugly.answer = lambda exchange: (exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na"), exchange.close())
    assert get(nginx.port, "/old", token=secrets.token()).status == 502
    ugly.answer = ugly.holding()
    token = secrets.token()
    before = len(ugly.calls)
    left, stays = Http1(nginx.port), Http1(nginx.port)
    left.send(target="/old/left", token=token)
    ugly.wait_calls(before + 1)
    stays.send(target="/old", token=token)
    assert get(nginx.port, "/old").status == 401
    left.close()
    ugly.wait_calls(before + 2)
    ugly.release()
    assert stays.read().status == 200
    stays.close()
    ugly.answer = active


@pytest.mark.skipif(not VALGRIND, reason="there is no valgrind")
def test_a_workers_life_touches_nothing_that_is_not_its_own_and_leaves_nothing_behind(ugly, api, secrets):
    block = config.provider(ugly.url, secrets, timeout="30s", cache_ttl="1s", refresh_ahead="50", stale_if_error="1m")
    nginx = UnderValgrind(
        f"""
phantom_token_zone tokens:1m;
{block}
server {{
    listen @listen@;
    phantom_token acme;
    location / {{ proxy_pass {api.url}; }}
    location /scoped {{ phantom_token_scopes write; proxy_pass {api.url}; }}
    location = /purge {{ phantom_token off; phantom_token_purge acme; }}
    location /old {{
        phantom_token on;
        phantom_token_introspection_endpoint curity;
        proxy_pass {api.url};
    }}
    location curity {{
        internal;
        proxy_pass {ugly.url};
        proxy_cache c;
        proxy_cache_methods POST;
        proxy_cache_key $request_body;
    }}
}}
proxy_cache_path @dir@/cache keys_zone=c:1m;
""",
        secrets=secrets,
    )
    try:
        tokens = [secrets.token() for _ in range(10)]
        for token in tokens * 2:
            assert get(nginx.port, "/", token=token).status == 200
        assert get(nginx.port, "/scoped", token=tokens[0]).status == 403
        assert get(nginx.port, "/").status == 401
        assert get(nginx.port, "/", authorization="Bearer").status == 400
        form = [("Content-Type", "application/x-www-form-urlencoded")]
        body = urllib.parse.urlencode({"token": tokens[0]}).encode()
        assert get(nginx.port, "/purge", method="POST", headers=form, body=body).status == 200
        by_location(nginx, ugly, secrets)
        ugly.answer = lambda exchange: exchange.inactive()
        assert get(nginx.port, "/", token=tokens[0]).status == 401
        ugly.answer = lambda exchange: exchange.reply(status=500)
        assert get(nginx.port, "/", token=secrets.token()).status == 502
        ugly.answer = type(ugly.calls[0]).active

        before = set(nginx.children())
        nginx.signal(signal.SIGHUP)
        until(lambda: not before & set(nginx.children()) and nginx.children(), "the former worker has gone", 60)
        assert get(nginx.port, "/", token=tokens[1]).status == 200
        nginx.quit()
        nginx.wait_gone(60)
        found = reports(nginx)
    finally:
        nginx.stop()

    # The master, and a worker before and after the reload.
    assert len(found) >= 3, found.keys()
    for name, blocks in found.items():
        summary = [block for block in blocks if "ERROR SUMMARY" in block]
        assert summary, f"{name} has not ended: {blocks[-3:]}"
        ours = [block for block in blocks if OURS.search(block) and re.search(r"\b(at|by) 0x", block)]
        assert not ours, f"{name}:\n" + "\n\n".join(ours)


@pytest.mark.skipif(not VALGRIND, reason="there is no valgrind")
def test_valgrind_would_tell(tmp_path):
    """The search above finds what there is to find."""
    source = tmp_path / "leak.c"
    source.write_text("#include <stdlib.h>\nvoid phantom_token_leak(void) { *(volatile char **)malloc(8) = malloc(9); }\n"
                      "int main(void) { phantom_token_leak(); return 0; }\n")
    subprocess.run([*IN_ROOT, "cc", "-g", "-O0", "-o", tmp_path / "leak", source], check=True)
    done = subprocess.run(
        [*IN_ROOT, VALGRIND, "--leak-check=full", "--show-leak-kinds=definite", tmp_path / "leak"],
        capture_output=True, text=True, check=False,
    )
    text = re.sub(r"^==\d+== ?", "", done.stderr, flags=re.M)
    assert any(OURS.search(block) and re.search(r"\b(at|by) 0x", block) for block in text.split("\n\n"))
