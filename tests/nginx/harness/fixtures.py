"""The fixtures of the suites; a conftest imports them."""

import os

import pytest

from . import config
from .api import Api
from .authserver import AuthorizationServer
from .fastcgi import FastCgi
from .nginx import MODULE, NGINX, NginxServer, which
from .secrets import Secrets
from .ugly import UglyServer

__all__ = [
    "api",
    "authorization_server",
    "fastcgi",
    "gateway",
    "pytest_xdist_auto_num_workers",
    "secrets",
    "server_as",
    "start_nginx",
    "ugly",
]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Tests mostly wait: twice as many processes as there are processors."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.fixture
def secrets():
    """The secrets of a test, which no log may show."""
    return Secrets()


@pytest.fixture
def api(secrets):
    """The API behind the gateway."""
    server = Api(secrets)
    yield server
    server.stop()


@pytest.fixture
def ugly(secrets):
    """An authorization server that answers with whatever bytes the test likes; the JWT by default."""
    server = UglyServer(secrets)
    yield server
    server.stop()


@pytest.fixture
def fastcgi():
    """A FastCGI responder."""
    server = FastCgi()
    yield server
    server.stop()


@pytest.fixture
def server_as(secrets):
    """Starts the example authorization server with the flags given."""
    started = []

    def start(*flags, **how):
        server = AuthorizationServer(secrets, *flags, **how)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def authorization_server(server_as):
    """The example authorization server."""
    return server_as()


@pytest.fixture
def start_nginx(secrets):
    """Starts nginx with what belongs into `http { }`."""
    assert MODULE.exists(), f"{MODULE} is missing: build it with `make module`"
    assert which(NGINX), f"{NGINX} is missing"
    started = []

    def start(http, **settings):
        server = NginxServer(http, secrets=secrets, **settings)
        started.append(server)
        return server

    yield start
    problems = []
    for server in started:
        try:
            server.stop()
        except AssertionError as problem:
            problems.append(str(problem))
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def gateway(start_nginx, secrets, ugly, api):
    """Starts nginx with one provider, which is `ugly` unless another endpoint is given, in front of `api`.

    `location` and `server` add to those blocks, `http` to the outermost; the other words are keys of the
    provider, or settings of `NginxServer` where they are known there.
    """
    nginx_settings = {
        "main",
        "events",
        "workers",
        "master",
        "daemon",
        "level",
        "files",
        "quiet",
        "alarms_allowed",
    }

    def start(*, endpoint=None, location="", server="", http="", listen="", **words):
        settings = {key: words.pop(key) for key in nginx_settings & words.keys()}
        block = config.provider(endpoint or ugly.url, secrets, **words)
        return start_nginx(
            f"""
{block}
{http}
server {{
    listen @listen@ {listen};
    {server}
    location / {{
        phantom_token {config.PROVIDER};
        proxy_pass {api.url};
        proxy_http_version 1.1;
        {location}
    }}
}}
""",
            **settings,
        )

    return start
