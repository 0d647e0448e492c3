"""Every nginx configuration in docs/migrating.md, theirs and ours, is one that nginx takes with the module loaded."""

import re

import pytest

from harness.keys import private_pem
from harness.nginx import ROOT, Configuration

PAGE = (ROOT / "docs/migrating.md").read_text()
BLOCKS = re.findall(r"^```nginx\n(.*?)^```$", PAGE, flags=re.M | re.S)


def test_the_page_has_configurations_of_each_kind():
    assert len(BLOCKS) >= 7
    assert any("phantom_token on" in re.sub(r" +", " ", block) for block in BLOCKS)
    assert any("auth_request " in block for block in BLOCKS)
    assert any("mint_key" in block for block in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_nginx_takes_it(block):
    # Names that nobody here resolves, ports and folders that a test must not use.
    text = re.sub(r"(proxy_pass\s+https?://)[a-z.]+\b", r"\g<1>127.0.0.1", block)
    text = text.replace("/var/cache/nginx", "@dir@/cache").replace("listen      80;", "listen @listen@;")
    text = text.replace("listen 80;", "listen @listen@;")
    if "server {" not in text:
        text += "server { listen @listen@; }"
    files = {"gateway.secret": "s3cr3t-of-the-gateway", "gateway.pem": private_pem("ES256"), "cache/x": ""}
    configuration = Configuration(text, files=files)
    try:
        code, words = configuration.check()
    finally:
        configuration.remove()
    assert code == 0, words
