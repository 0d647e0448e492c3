"""Secrets in logs. The harness searches the error log of every test; here the levels and the odd paths."""

import base64
from pathlib import Path

from harness.client import Http1, get
from harness.secrets import Secrets, without_header_dumps


def visit_everything(nginx, ugly, secrets):
    """Every outcome, hit and miss, over a connection or two."""
    answers = {
        "inactive": lambda exchange: exchange.inactive(),
        "broken": lambda exchange: exchange.reply(body=exchange.jwt() + "\r\nX: y"),
        "reset": lambda exchange: exchange.reset(),
        "narrow": lambda exchange: exchange.active(scope="other"),
        "good": lambda exchange: exchange.active(),
    }
    ugly.answer = lambda exchange: answers[exchange.token.partition("-")[0]](exchange)
    expected = {"inactive": 401, "broken": 502, "reset": 502, "narrow": 403, "good": 200}
    for kind, status in expected.items():
        token = secrets.token(kind)
        assert [get(nginx.port, token=token).status for _ in range(2)] == [status, status]
    for malformed in (secrets.token("good") + " " + secrets.token("x"), secrets.token("good") + "\x01"):
        assert get(nginx.port, token=malformed).status == 400
    assert get(nginx.port, authorization=secrets.token("Other ")).status == 401


def test_the_search_finds_a_token_that_nginx_itself_logs(gateway, api, secrets):
    nginx = gateway(level="debug")
    api.stop()
    shown = Secrets()
    # nginx logs the request line when it cannot reach the API.
    token = shown.token()
    assert get(nginx.port, f"/?shown={token}", token=secrets.token()).status == 502
    assert shown.found_in(nginx.log()) == [token]
    assert shown.found_in(without_header_dumps(nginx.log())) == [token]


def test_a_debug_log_shows_no_secret_but_in_nginx_s_own_dumps_of_headers(gateway, ugly, api, secrets):
    nginx = gateway(level="debug", location="phantom_token_scope read;")
    visit_everything(nginx, ugly, secrets)
    left = Http1(nginx.port)
    asked = len(ugly.calls)
    ugly.answer = ugly.holding()
    left.send(target="/left", token=secrets.token("good"))
    ugly.wait_calls(asked + 1)
    left.close()
    ugly.release()
    nginx.wait_access("/left")
    nginx.reload()
    log = nginx.log()
    assert " [debug] " in log
    assert secrets.found_in(without_header_dumps(log)) == []


def test_a_debug_log_never_shows_our_credentials_at_all(gateway, ugly, secrets):
    ours = secrets.add_client("gateway", "credential-of-the-gateway-0123")
    nginx = gateway(level="debug", client_secret=ours)
    for answer in (lambda e: e.active(), lambda e: e.reply(401), lambda e: e.reset()):
        ugly.answer = answer
        get(nginx.port, token="a-token-of-no-worth")
    # Not even nginx's own dumps can show them: they never pass through nginx.
    log = nginx.log()
    assert " [debug] " in log
    pair = base64.b64encode(f"gateway:{ours}".encode()).decode()
    assert ours not in log
    assert pair not in log


def test_an_access_log_with_our_variables_shows_no_secret(gateway, ugly, secrets):
    nginx = gateway(location="phantom_token_scope read;")
    visit_everything(nginx, ugly, secrets)
    lines = nginx.wait_access(".", count=13)
    assert secrets.found_in("\n".join(lines)) == []


def test_an_answer_to_the_client_never_shows_the_jwt(gateway, ugly, secrets):
    nginx = gateway(location="phantom_token_scope read;")
    ugly.answer = lambda exchange: (
        exchange.active(scope="other")
        if exchange.token.startswith("narrow")
        else exchange.reply(body=exchange.jwt() + "\r\nX-Admin: 1")
        if exchange.token.startswith("broken")
        else exchange.active()
    )
    for kind in ("narrow", "broken", "good"):
        token = secrets.token(kind)
        answer = get(nginx.port, token=token)
        assert secrets.found_in(f"{answer.headers} {answer.body}") == []


def test_what_an_authorization_server_says_in_an_error_is_not_logged_raw(gateway, ugly, secrets):
    nginx = gateway(level="info")
    token = secrets.token()
    ugly.answer = lambda exchange: exchange.reply(
        500,
        body=f'{{"error":"server_error","error_description":"no such token {exchange.token}\\n2026/01/01 [emerg] forged"}}',
        content_type="application/json",
    )
    assert get(nginx.port, token=token).status == 502
    assert nginx.log_lines(r"^2026/01/01 \[emerg\]") == []
    assert secrets.found_in(nginx.log()) == []


def test_command_line_and_environment_show_no_secret(gateway, secrets):
    nginx = gateway()
    get(nginx.port, token=secrets.token())
    for pid in (nginx.pid, nginx.worker()):
        for name in ("cmdline", "environ"):
            assert secrets.found_in(Path(f"/proc/{pid}/{name}").read_text(errors="replace")) == []
