"""Requests that wait for the authorization server: clients that leave, workers that end, many for one token."""

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.client import Http1, Http2, get
from harness.nginx import descriptors, threads
from harness.ugly import Exchange
from harness.wait import until

PATIENT = "60s"


def test_a_client_that_leaves_is_logged_with_499_at_once(gateway, ugly, api, secrets):
    nginx = gateway(timeout=PATIENT)
    ugly.answer = ugly.holding()
    client = Http1(nginx.port)
    client.send(target="/left", token=secrets.token())
    ugly.wait_calls()
    client.close()
    # The authorization server has still not answered.
    assert "/left 499" in nginx.wait_access("/left")[0]
    ugly.release()
    ugly.answer = Exchange.active
    assert get(nginx.port, token=secrets.token()).status == 200
    assert [request.target for request in api.requests] == ["/"]


def test_a_client_that_resets_its_connection_is_logged_with_499_at_once(gateway, ugly, secrets):
    nginx = gateway(timeout=PATIENT)
    ugly.answer = ugly.holding()
    client = Http1(nginx.port)
    client.send(target="/left", token=secrets.token())
    ugly.wait_calls()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    assert "/left 499" in nginx.wait_access("/left")[0]
    ugly.release()


def test_a_stream_that_is_reset_is_logged_with_499_and_the_connection_goes_on(gateway, ugly, api, secrets):
    nginx = gateway(listen="http2", timeout=PATIENT)
    ugly.answer = ugly.holding()
    with Http2(nginx.port) as client:
        left = client.send(target="/left", token=secrets.token())
        kept = client.send(target="/kept", token=secrets.token())
        ugly.wait_calls(2)
        client.reset(left)
        assert "/left 499" in nginx.wait_access("/left")[0]
        ugly.release()
        assert client.read(kept).status == 200
        assert client.request(token=secrets.token()).status == 200
    assert "/left" not in [request.target for request in api.requests]


def test_an_http2_connection_that_closes_ends_all_its_streams(gateway, ugly, api, secrets):
    nginx = gateway(listen="http2", timeout=PATIENT)
    ugly.answer = ugly.holding()
    with Http2(nginx.port) as client:
        for _ in range(5):
            client.send(target="/left", token=secrets.token())
        ugly.wait_calls(5)
    assert all("/left 499" in line for line in nginx.wait_access("/left", count=5))
    ugly.release()
    assert get_after(nginx, ugly, secrets) == 200
    assert "/left" not in [request.target for request in api.requests]


def get_after(nginx, ugly, secrets):
    """The status of a request over HTTP/2 when all is well again."""
    with Http2(nginx.port) as client:
        return client.request(token=secrets.token()).status


@pytest.mark.parametrize("leaves", ["first", "second"])
def test_one_client_leaving_does_not_disturb_another_with_the_same_token(gateway, ugly, secrets, leaves):
    nginx = gateway(timeout=PATIENT)
    ugly.answer = ugly.holding()
    token = secrets.token()
    with Http1(nginx.port) as first, Http1(nginx.port) as second:
        first.send(target="/first", token=token)
        ugly.wait_calls()
        second.send(target="/second", token=token)
        goes, stays = (first, second) if leaves == "first" else (second, first)
        if leaves == "first":
            # The second must be waiting before the first goes; a third shows that nginx has read so far.
            assert get(nginx.port, "/third").status == 401
        goes.close()
        assert "499" in nginx.wait_access(f"/{leaves}")[0]
        ugly.release()
        assert stays.read().status == 200
    assert ugly.calls_for(token) == 1


def test_many_requests_with_one_cold_token_cost_one_introspection(gateway, ugly, api, secrets):
    nginx = gateway(timeout=PATIENT)
    ugly.answer = ugly.holding()
    token = secrets.token()
    clients = [Http1(nginx.port) for _ in range(200)]
    try:
        for client in clients:
            client.send(token=token)
        ugly.wait_calls()
        # Everything sent before this has been read by the worker when this is answered.
        assert get(nginx.port).status == 401
        ugly.release()
        assert [client.read().status for client in clients] == [200] * 200
    finally:
        for client in clients:
            client.close()
    assert ugly.calls_for(token) == 1
    assert len(api.requests) == 200
    caches = [line.split("cache=")[1].split()[0] for line in nginx.wait_access("result=ok", count=200)]
    assert caches.count("MISS") == 1
    assert caches.count("COALESCED") > 100
    assert set(caches) <= {"MISS", "COALESCED", "HIT"}


def test_many_cold_tokens_are_asked_about_side_by_side(gateway, ugly, api, secrets):
    nginx = gateway(timeout=PATIENT)
    ugly.answer = ugly.holding()
    clients = [Http1(nginx.port) for _ in range(100)]
    try:
        for client in clients:
            client.send(token=secrets.token())
        ugly.wait_calls(100)
        ugly.release()
        assert [client.read().status for client in clients] == [200] * 100
    finally:
        for client in clients:
            client.close()


def test_a_failure_is_shared_by_all_who_wait_for_it(gateway, ugly, api, secrets):
    nginx = gateway(timeout=PATIENT)
    ugly.answer = ugly.holding(then=lambda exchange: exchange.reply(500))
    token = secrets.token()
    clients = [Http1(nginx.port) for _ in range(20)]
    try:
        for client in clients:
            client.send(token=token)
        ugly.wait_calls()
        assert get(nginx.port).status == 401
        ugly.release()
        assert [client.read().status for client in clients] == [502] * 20
    finally:
        for client in clients:
            client.close()
    assert ugly.calls_for(token) == 1
    assert api.requests == []


@pytest.mark.parametrize("protocol", ["HTTP/1.1", "HTTP/2"])
def test_the_time_limits_of_nginx_for_a_client_do_not_end_a_suspended_request(gateway, ugly, secrets, protocol):
    nginx = gateway(
        listen="http2" if protocol == "HTTP/2" else "",
        server="client_header_timeout 1s; client_body_timeout 1s; send_timeout 1s; keepalive_timeout 1s;",
        timeout=PATIENT,
    )

    def slowly(exchange):
        ugly.stopping.wait(1.5)
        exchange.active()

    ugly.answer = slowly
    with (Http2 if protocol == "HTTP/2" else Http1)(nginx.port) as client:
        assert client.request(token=secrets.token()).status == 200


def test_worker_shutdown_timeout_ends_a_suspended_request(gateway, ugly, secrets):
    nginx = gateway(main="worker_shutdown_timeout 1s;", timeout=PATIENT)
    ugly.answer = ugly.holding()
    with Http1(nginx.port) as client:
        client.send(token=secrets.token())
        ugly.wait_calls()
        nginx.quit()
        # Whatever the client gets, nothing waits for the authorization server.
        nginx.wait_gone(20)
    assert nginx.process.returncode == 0


def test_a_client_may_leave_a_worker_that_is_shutting_down(gateway, ugly, secrets):
    nginx = gateway(timeout=PATIENT)
    ugly.answer = ugly.holding()
    before = nginx.worker()
    with Http1(nginx.port) as client:
        client.send(token=secrets.token())
        ugly.wait_calls()
        nginx.signal(signal.SIGHUP)
        until(lambda: set(nginx.workers()) - {before}, "there is a new worker")
    until(lambda: before not in nginx.children(), "the former worker has gone")
    ugly.release()


def test_an_upgrade_of_the_binary_answers_a_suspended_request(gateway, ugly, secrets):
    nginx = gateway(timeout=PATIENT, daemon=True)
    ugly.answer = ugly.holding()
    with Http1(nginx.port) as client:
        client.send(token=secrets.token())
        ugly.wait_calls()
        former = nginx.upgrade()
        os.kill(former, signal.SIGQUIT)
        ugly.stopping.wait(0.3)
        ugly.release()
        assert client.read().status == 200
    until(lambda: not os.path.exists(f"/proc/{former}"), "the former master has gone")
    assert get(nginx.port, token=secrets.token()).status == 200


def test_a_graceful_quit_answers_a_suspended_request(gateway, ugly, secrets):
    nginx = gateway(timeout=PATIENT)
    ugly.answer = ugly.holding()
    with Http1(nginx.port) as client:
        client.send(token=secrets.token())
        ugly.wait_calls()
        nginx.quit()
        until(lambda: refused(nginx.port), "nginx listens no longer")
        ugly.stopping.wait(0.5)
        ugly.release()
        assert client.read().status == 200
    nginx.wait_gone()


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        # The listener was closed while this connection was made.
        return False
    return False


def test_a_fast_stop_does_not_wait_for_a_suspended_request(gateway, ugly, secrets):
    nginx = gateway(timeout=PATIENT)
    ugly.answer = ugly.holding()
    with Http1(nginx.port) as client:
        client.send(token=secrets.token())
        ugly.wait_calls()
        nginx.signal(signal.SIGTERM)
        nginx.wait_gone(20)


def test_a_reload_during_misses_drops_no_request(gateway, ugly, secrets):
    nginx = gateway(timeout=PATIENT, workers=2)

    def slowly(exchange):
        ugly.stopping.wait(0.02)
        exchange.active()

    ugly.answer = slowly
    over = threading.Event()

    def load():
        statuses = []
        while not over.is_set():
            statuses.append(get(nginx.port, token=secrets.token(), headers=[("Connection", "close")]).status)
        return statuses

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load) for _ in range(4)]
        try:
            for _ in range(4):
                nginx.reload()
        finally:
            over.set()
        statuses = [status for done in loads for status in done.result()]
    assert len(statuses) > 20
    assert set(statuses) == {200}


def test_a_request_suspended_before_a_reload_is_answered_after_it(gateway, ugly, secrets):
    nginx = gateway(timeout=PATIENT)
    ugly.answer = ugly.holding()
    before = nginx.worker()
    with Http1(nginx.port) as client:
        client.send(token=secrets.token())
        ugly.wait_calls()
        nginx.signal(signal.SIGHUP)
        until(lambda: set(nginx.workers()) - {before}, "there is a new worker")
        ugly.release()
        assert client.read().status == 200
    until(lambda: before not in nginx.children(), "the former worker has gone")


def test_pipelined_requests_are_answered_in_order(gateway, ugly, secrets, api):
    nginx = gateway()
    token = secrets.token()
    with Http1(nginx.port) as client:
        one = f"GET /{{}} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n"
        bare = "GET /none HTTP/1.1\r\nHost: gateway\r\n\r\n"
        client.sock.sendall((one.format("a") + bare + one.format("b") + one.format("c")).encode())
        assert [client.read().status for _ in range(4)] == [200, 401, 200, 200]
    assert [request.target for request in api.wait(3)] == ["/a", "/b", "/c"]
    assert ugly.calls_for(token) == 1


def test_a_client_that_pipelines_while_suspended_is_not_taken_for_gone(gateway, ugly, secrets):
    nginx = gateway(timeout=PATIENT)
    ugly.answer = ugly.holding()
    with Http1(nginx.port) as client:
        client.send(token=secrets.token())
        ugly.wait_calls()
        client.send()
        assert get(nginx.port).status == 401
        ugly.release()
        assert [client.read().status for _ in range(2)] == [200, 401]


def test_a_client_that_closes_its_side_is_answered_or_logged_as_gone(gateway, ugly, secrets):
    nginx = gateway(timeout=PATIENT)
    ugly.answer = ugly.holding()
    with Http1(nginx.port) as client:
        client.send(target="/half", token=secrets.token())
        ugly.wait_calls()
        client.sock.shutdown(socket.SHUT_WR)
        assert get(nginx.port).status == 401
        ugly.release()
        try:
            status = client.read().status
        except EOFError:
            status = 499
    assert status in (200, 499)
    assert f"/half {status}" in nginx.wait_access("/half")[0]


def test_a_request_for_a_connection_with_a_body_that_leaves_is_forgotten(gateway, ugly, secrets, api):
    nginx = gateway(timeout=PATIENT)
    ugly.answer = ugly.holding()
    for _ in range(20):
        client = Http1(nginx.port)
        client.send(
            "POST", target="/left", token=secrets.token(), headers=[("Content-Length", "1000")], body=b"x", length=False
        )
        client.close()
    nginx.wait_access("/left", count=20)
    ugly.release()
    with Http1(nginx.port) as client:
        assert client.request(token=secrets.token()).status == 200
    assert "/left" not in [request.target for request in api.requests]


def test_a_storm_of_clients_that_leave_harms_nobody(gateway, ugly, secrets):
    nginx = gateway(timeout=PATIENT)

    def slowly(exchange):
        ugly.stopping.wait(0.005)
        exchange.active()

    ugly.answer = slowly
    shared = [secrets.token() for _ in range(5)]

    def leave(number):
        client = Http1(nginx.port)
        client.send(token=shared[number % 5] if number % 2 else secrets.token())
        ugly.stopping.wait((number % 7) * 0.002)
        client.close()

    def stay(number):
        return get(nginx.port, token=shared[number % 5] if number % 2 else secrets.token()).status

    before = nginx.worker()
    with ThreadPoolExecutor(16) as pool:
        leaving = [pool.submit(leave, number) for number in range(300)]
        staying = [pool.submit(stay, number) for number in range(100)]
        assert {done.result() for done in staying} == {200}
        for done in leaving:
            done.result()
    assert nginx.worker() == before


def test_the_worker_joins_its_thread_and_ends(gateway, ugly, secrets):
    nginx = gateway(timeout=PATIENT)
    assert get(nginx.port, token=secrets.token()).status == 200
    assert threads(nginx.worker()) == 2
    nginx.quit()
    nginx.wait_gone(20)
    assert nginx.process.returncode == 0


def test_a_killed_worker_is_replaced_by_one_that_serves(gateway, ugly, secrets):
    nginx = gateway(alarms_allowed="exited on signal 9")
    assert get(nginx.port, token=secrets.token()).status == 200
    killed = nginx.worker()
    os.kill(killed, signal.SIGKILL)
    until(lambda: nginx.workers() and killed not in nginx.children(), "there is a new worker")
    assert get(nginx.port, token=secrets.token()).status == 200


def test_a_worker_killed_with_a_suspended_request_is_replaced(gateway, ugly, secrets):
    nginx = gateway(alarms_allowed="exited on signal 9", timeout=PATIENT)
    ugly.answer = ugly.holding()
    with Http1(nginx.port) as client:
        client.send(token=secrets.token())
        ugly.wait_calls()
        killed = nginx.worker()
        os.kill(killed, signal.SIGKILL)
        until(lambda: nginx.workers() and killed not in nginx.children(), "there is a new worker")
    ugly.release()
    assert get(nginx.port, token=secrets.token()).status == 200


def test_many_reloads_leave_nothing_behind(gateway, ugly, secrets):
    nginx = gateway()

    def state():
        get(nginx.port, token=secrets.token())
        worker = nginx.worker()
        return threads(nginx.pid), len(descriptors(nginx.pid)), len(nginx.children()), threads(worker)

    nginx.reload()
    before = state()
    open_in_worker = len(descriptors(nginx.worker()))
    for _ in range(10):
        nginx.reload()
        assert get(nginx.port, token=secrets.token()).status == 200
    # The master closes its sockets to a worker when it has taken note of its end.
    until(lambda: state() == before, "everything is as it was before")
    assert abs(len(descriptors(nginx.worker())) - open_in_worker) <= 2


def test_requests_leave_no_descriptor_behind(gateway, ugly, secrets):
    nginx = gateway(timeout="1s")
    ugly.answer = lambda exchange: exchange.reset() if exchange.token.startswith("bad") else exchange.active()
    get(nginx.port, token=secrets.token())
    before = len(descriptors(nginx.worker()))
    for _ in range(50):
        get(nginx.port, token=secrets.token("bad"))
        get(nginx.port, token=secrets.token())
    until(lambda: len(descriptors(nginx.worker())) <= before + 3, "the descriptors are closed")


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("a,b", 400), ("inactive-token-0123", 401)])
def test_an_error_body_waits_for_a_window_of_http2(gateway, ugly, token, status):
    nginx = gateway(listen="http2")
    ugly.answer = lambda exchange: exchange.inactive()
    with Http2(nginx.port, initial_window=0) as client:
        stream = client.send(token=token)
        assert client.head(stream).status == status
        # Other requests use and free memory meanwhile.
        for _ in range(20):
            assert get_head(client).status == 401
        assert client.answers[stream].body == b""
        client.open_window(stream, 10)
        until(lambda: client.pump() or len(client.answers[stream].body) == 10, "ten bytes have come")
        client.open_window(stream, 10_000)
        answer = client.read(stream)
        assert set(answer.json()) == {"code", "message"}


def get_head(client):
    return client.request("HEAD")


def test_an_error_body_that_waits_for_a_window_may_be_given_up(gateway):
    nginx = gateway(listen="http2")
    with Http2(nginx.port, initial_window=0) as client:
        for _ in range(10):
            stream = client.send()
            assert client.head(stream).status == 401
            client.reset(stream)
        assert client.request("HEAD").status == 401
