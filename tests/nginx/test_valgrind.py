"""A worker's life from start to quit under valgrind: no access to memory that is not ours, nothing read that was never
written, and nothing of ours left behind."""

import re
import shutil
import signal
import subprocess
import urllib.parse

import pytest

from harness import config
from harness.client import get
from harness.nginx import NginxServer
from harness.wait import until

# Where an error of this project shows: in the module itself, or in nginx on its behalf.
OURS = re.compile(r"ngx_http_phantom_token_module|phantom_token")


class UnderValgrind(NginxServer):
    """nginx, master and workers, each with a report of its own."""

    def command(self, *arguments):
        return [
            shutil.which("valgrind"),
            "--trace-children=yes",
            "--leak-check=full",
            "--show-leak-kinds=definite",
            "--num-callers=40",
            "--log-file=" + str(self.dir / "valgrind.%p"),
            *super().command(*arguments),
        ]

    def workers(self):
        # Under valgrind a process keeps the title that it was started with.
        return list(self.children())


def reports(nginx):
    """What valgrind says of each process: its blocks, an error or a leak each."""
    blocks = {}
    for path in nginx.dir.glob("valgrind.*"):
        text = re.sub(r"^==\d+== ?", "", path.read_text(errors="replace"), flags=re.M)
        blocks[path.name] = [block.strip() for block in text.split("\n\n") if block.strip()]
    return blocks


@pytest.mark.skipif(not shutil.which("valgrind"), reason="there is no valgrind")
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
}}
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


@pytest.mark.skipif(not shutil.which("valgrind"), reason="there is no valgrind")
def test_valgrind_would_tell(tmp_path):
    """The search above finds what there is to find."""
    source = tmp_path / "leak.c"
    source.write_text("#include <stdlib.h>\nvoid phantom_token_leak(void) { *(volatile char **)malloc(8) = malloc(9); }\n"
                      "int main(void) { phantom_token_leak(); return 0; }\n")
    subprocess.run(["cc", "-g", "-O0", "-o", tmp_path / "leak", source], check=True)
    done = subprocess.run(
        ["valgrind", "--leak-check=full", "--show-leak-kinds=definite", tmp_path / "leak"],
        capture_output=True, text=True, check=False,
    )
    text = re.sub(r"^==\d+== ?", "", done.stderr, flags=re.M)
    assert any(OURS.search(block) and re.search(r"\b(at|by) 0x", block) for block in text.split("\n\n"))
