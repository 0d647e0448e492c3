"""nginx's processes and ways to run, with the module inside."""

import os
import pwd
import resource
import signal

import pytest

from harness.client import Http1, get
from harness.nginx import threads
from harness.ugly import basic_credentials
from harness.wait import until


def test_the_master_runs_no_thread_of_ours(gateway, secrets):
    nginx = gateway()
    get(nginx.port, token=secrets.token())
    assert threads(nginx.pid) == 1


def test_the_helpers_of_the_cache_run_no_thread_of_ours(gateway, secrets):
    nginx = gateway(http="proxy_cache_path @dir@/cache keys_zone=cache:1m;", location="proxy_cache cache;")
    get(nginx.port, token=secrets.token())

    def named():
        # A process gives itself its title a moment after it is there.
        found = {pid: title for pid, title in nginx.children().items() if "cache" in title}
        return found if any("cache manager" in title for title in found.values()) else None

    helpers = until(named, "the cache has a manager")
    assert {title: threads(pid) for pid, title in helpers.items()} == dict.fromkeys(helpers.values(), 1)
    assert threads(nginx.worker()) == 2


def test_it_works_without_a_master(gateway, ugly, api, secrets):
    nginx = gateway(master=False)
    token = secrets.token()
    assert [get(nginx.port, token=token).status for _ in range(2)] == [200, 200]
    assert ugly.calls_for(token) == 1
    assert get(nginx.port).status == 401
    assert threads(nginx.pid) == 2
    api.never_saw(token)


def test_without_a_master_a_quit_with_a_suspended_request_ends_in_order(gateway, ugly, secrets):
    nginx = gateway(master=False, timeout="60s")
    ugly.answer = ugly.holding()
    with Http1(nginx.port) as client:
        client.send(token=secrets.token())
        ugly.wait_calls()
        # A single process does not wait for its requests, whatever they do.
        nginx.quit()
        nginx.wait_gone()
        assert nginx.process.returncode == 0


def test_it_works_as_a_daemon(gateway, secrets):
    nginx = gateway(daemon=True)
    assert [get(nginx.port, token=secrets.token()).status for _ in range(3)] == [200] * 3
    assert threads(nginx.pid) == 1
    nginx.reload()
    assert get(nginx.port, token=secrets.token()).status == 200
    nginx.quit()
    nginx.wait_gone()


def test_every_worker_serves(gateway, ugly, secrets):
    nginx = gateway(workers=4)
    workers = until(lambda: (found := nginx.workers()) and len(found) == 4 and found, "there are four workers")
    token = secrets.token()
    assert {get(nginx.port, token=token).status for _ in range(100)} == {200}
    assert 1 <= ugly.calls_for(token) <= 4
    assert {threads(pid) for pid in workers} == {2}


@pytest.mark.parametrize("method", ["epoll", "poll", "select"])
def test_it_works_with_every_event_method(gateway, ugly, secrets, method):
    try:
        nginx = gateway(events=f"use {method};")
    except AssertionError as problem:
        if "invalid event type" in str(problem):
            pytest.skip(f"this nginx is built without {method}")
        raise
    token = secrets.token()
    assert [get(nginx.port, token=token).status for _ in range(2)] == [200, 200]
    ugly.answer = lambda exchange: exchange.inactive()
    assert get(nginx.port, token=secrets.token()).status == 401


@pytest.mark.parametrize("events", ["accept_mutex on;", "multi_accept on;"])
def test_it_works_with_other_settings_of_events(gateway, secrets, events):
    nginx = gateway(events=events, workers=2)
    assert {get(nginx.port, token=secrets.token()).status for _ in range(20)} == {200}


def test_it_works_beside_a_thread_pool(gateway, secrets):
    nginx = gateway(
        main="thread_pool default threads=2;",
        server="location /file { phantom_token acme; aio threads; sendfile off; output_buffers 1 4k; }",
        files={"html/file": "f" * 100_000},
    )
    for _ in range(5):
        assert len(get(nginx.port, "/file", token=secrets.token()).body) == 100_000


def test_a_new_secret_is_used_after_a_reload(gateway, ugly, secrets):
    first, second = (secrets.add_client("gateway", f"secret-number-{number}-0123") for number in (1, 2))
    nginx = gateway(client_secret_file="@dir@/secret", files={"secret": first}, cache_ttl="0")
    assert get(nginx.port, token=secrets.token()).status == 200
    (nginx.dir / "secret").write_text(second)
    nginx.reload()
    assert get(nginx.port, token=secrets.token()).status == 200
    assert [basic_credentials(call)[1] for call in ugly.calls] == [first, second]


def test_a_secret_file_that_only_root_can_read_is_read_by_the_master(gateway, ugly, secrets):
    if os.geteuid() != 0:
        pytest.skip("needs root to have a worker of another user")
    secret = secrets.add_client("gateway", "secret-of-root-0123456")
    nginx = gateway(client_secret_file="@dir@/private/secret", files={"private/secret": secret})
    (nginx.dir / "private/secret").chmod(0o400)
    (nginx.dir / "private").chmod(0o700)
    nginx.reload()
    assert get(nginx.port, token=secrets.token()).status == 200


def test_a_reload_that_fails_leaves_the_former_configuration_at_work(gateway, ugly, secrets):
    nginx = gateway(
        client_secret_file="@dir@/secret", files={"secret": "some-secret-0123"}, alarms_allowed=r"\[emerg\]"
    )
    assert get(nginx.port, token=secrets.token()).status == 200
    before = nginx.worker()
    (nginx.dir / "secret").unlink()
    nginx.signal(signal.SIGHUP)
    until(lambda: nginx.log_lines(r"\[emerg\]"), "the reload has failed")
    assert get(nginx.port, token=secrets.token()).status == 200
    assert nginx.worker() == before


def test_a_reload_may_take_the_module_out_of_use_and_back_in(gateway, ugly, secrets):
    nginx = gateway()
    before = nginx.path.read_text()
    get(nginx.port, token=secrets.token())
    nginx.path.write_text(before.replace("phantom_token acme;", "phantom_token off;"))
    nginx.reload()
    assert get(nginx.port).status == 200
    nginx.path.write_text(before)
    nginx.reload()
    assert get(nginx.port).status == 401
    assert get(nginx.port, token=secrets.token()).status == 200


def test_a_configuration_without_providers_runs_no_thread(start_nginx):
    nginx = start_nginx("server { listen @listen@; location / { return 200 plain; } }")
    assert get(nginx.port).body == b"plain"
    assert threads(nginx.worker()) == 1


def test_the_variables_are_empty_where_no_token_is_asked_for(start_nginx):
    nginx = start_nginx(
        'server { listen @listen@; location / { return 200 "[$phantom_token_result$phantom_token_cache]"; } }'
    )
    assert get(nginx.port).body in (b"[]", b"[--]")


NO_THREAD = r"the client's thread could not be started"


def a_user_of_its_own():
    """A user that has no other process, with what a limit of processes can be tried out."""
    busy = {os.stat(f"/proc/{pid}").st_uid for pid in os.listdir("/proc") if pid.isdigit() and os.path.exists(f"/proc/{pid}")}
    known = [user for user in pwd.getpwall() if 0 < user.pw_uid < 100 and user.pw_uid not in busy]
    return known[0].pw_name if known and os.getuid() == 0 else None


def test_a_worker_that_cannot_start_its_thread_tries_again(gateway, ugly, secrets):
    """The limit of processes is reached as long as the former worker is there."""
    user = a_user_of_its_own()
    if user is None:
        pytest.skip("only a master of root has workers of another user, whom a limit binds")
    nginx = gateway(main=f"user {user};", alarms_allowed=NO_THREAD, timeout="60s")
    ugly.answer = ugly.holding()
    former = nginx.worker()
    with Http1(nginx.port) as waiting:
        waiting.send(token=secrets.token())
        ugly.wait_calls()
        assert threads(former) == 2
        # Of processes and threads of this user.
        _, hard = resource.prlimit(nginx.pid, resource.RLIMIT_NPROC)
        resource.prlimit(nginx.pid, resource.RLIMIT_NPROC, (2, hard))
        nginx.signal(signal.SIGHUP)
        nginx.only_line(rf"\[emerg\].*{NO_THREAD}")
        until(lambda: former not in nginx.workers(), "the former worker takes no request any more")
        worker = nginx.worker()
        for _ in range(3):
            refused = get(nginx.port, token=secrets.token())
            assert refused.status == 503 and int(refused.value("Retry-After")) >= 1
        assert get(nginx.port).status == 401, "what needs no answer is answered"
        assert threads(worker) == 1
        ugly.release()
        assert waiting.read().status == 200
    until(lambda: former not in nginx.children(), "the former worker has gone")
    until(lambda: get(nginx.port, token=secrets.token()).status == 200, "the worker has its thread")
    assert threads(worker) == 2
    nginx.only_line("thread has been started now")
