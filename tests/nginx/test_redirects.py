"""A decision about a token counts in its own location only, whatever way a request takes to another one."""

import pytest

from harness import config
from harness.client import get
from harness.load import claims_of
from harness.ugly import UglyServer


@pytest.fixture
def other(secrets):
    """Another authorization server."""
    server = UglyServer(secrets)
    yield server
    server.stop()


@pytest.fixture
def redirecting(start_nginx, ugly, other, api, secrets):
    """Starts a gateway with the providers one and two, and these locations. Users of two are told apart by their name."""
    ugly.answer = lambda exchange: exchange.active(sub="alice", scope="read")
    other.answer = lambda exchange: exchange.active(sub="bob", scope="read")

    def start(locations, http="", **settings):
        return start_nginx(
            f"""
{config.provider(ugly.url, secrets, name="one")}
{config.provider(other.url, secrets, name="two")}
phantom_token_set_header X-User $phantom_token_sub;
{http}
server {{
    listen @listen@;
    {locations.replace("@api@", api.url)}
}}
""",
            **settings,
        )

    return start


def held(request, name):
    """The value of a header; `None` if it is not there."""
    return request.value(name) if request.values(name) else None


# Ways from /a to the location /b or @b.
WAYS = {
    "try_files": ("try_files /none /b;", "/b"),
    "try_files to a named location": ("try_files /none @b;", "@b"),
    "error_page": ("error_page 404 = /b;", "/b"),
    "error_page of a refusal by address": ("deny all; error_page 403 = /b;", "/b"),
}
SOURCES = {
    "authorization": ("", {"token": None}),
    "cookie": ("phantom_token_source cookie session;", {}),
}


def sent(nginx, token, source):
    if source == "authorization":
        return get(nginx.port, "/a", token=token)
    return get(nginx.port, "/a", headers=[("cookie", f"session={token}")])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("phase", ["access", "preaccess"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("active", [True, False], ids=["active", "inactive"])
def test_another_provider_is_asked_although_another_check_lets_in(
    redirecting, ugly, other, api, secrets, way, phase, source, active
):
    if not active:
        other.answer = lambda exchange: exchange.inactive()
    leads, target = WAYS[way]
    nginx = redirecting(
        f"""
    {SOURCES[source][0]}
    phantom_token_phase {phase};
    location /a {{ phantom_token one; {leads} }}
    location {target} {{
        phantom_token two;
        satisfy any;
        allow all;
        proxy_set_header X-Mapped $user;
        proxy_pass @api@;
    }}
""",
        http="map $phantom_token_sub $user { default $phantom_token_sub; }",
    )
    token = secrets.token()
    assert sent(nginx, token, source).status == 200
    request = api.only()
    if active:
        assert claims_of(request.value("authorization"))["sub"] == "bob"
        assert (held(request, "x-user"), held(request, "x-mapped")) == ("bob", "bob")
    else:
        assert held(request, "authorization") is None
        assert (held(request, "x-user"), held(request, "x-mapped")) == (None, None)
    assert other.calls_for(token) == 1


def test_what_a_location_requires_is_checked_there(redirecting, api, secrets):
    nginx = redirecting(
        """
    location /a { phantom_token one; try_files /none /b; }
    location /b { phantom_token one; phantom_token_scopes admin; satisfy any; allow all; proxy_pass @api@; }
"""
    )
    assert get(nginx.port, "/a", token=secrets.token()).status == 200
    assert (held(api.only(), "authorization"), held(api.only(), "x-user")) == (None, None)


def test_a_preflight_that_passes_says_nothing_of_a_user(redirecting, api, secrets):
    nginx = redirecting(
        """
    location /a { phantom_token one; phantom_token_preflight deny; try_files /none /b; }
    location /b { phantom_token two; phantom_token_preflight pass; proxy_pass @api@; }
"""
    )
    answer = get(
        nginx.port,
        "/a",
        method="OPTIONS",
        token=secrets.token(),
        headers=[("origin", "https://a"), ("access-control-request-method", "GET")],
    )
    assert answer.status in (200, 401)
    for request in api.requests:
        assert (held(request, "authorization"), held(request, "x-user")) == (None, None)


@pytest.mark.parametrize("refused", [False, True], ids=["let in", "refused"])
def test_a_header_that_an_earlier_provider_filled_does_not_stay(redirecting, other, api, secrets, refused):
    if refused:
        other.answer = lambda exchange: exchange.inactive()
    nginx = redirecting(
        """
    location /a { phantom_token one; phantom_token_set_header X-One $phantom_token_sub; try_files /none /b; }
    location /b { phantom_token two; error_page 401 = @c; proxy_pass @api@; }
    location @c { phantom_token off; proxy_pass @api@; }
"""
    )
    get(nginx.port, "/a", token=secrets.token())
    request = api.only()
    assert held(request, "x-one") is None
    assert held(request, "x-user") == (None if refused else "bob")


@pytest.mark.parametrize(
    "copy",
    [
        'if ($http_authorization ~* "^Bearer +(.+)$") { set $tok $1; }',
        "set $tok $bare;",
        "set $tok $http_authorization;",
    ],
)
@pytest.mark.parametrize("why", ["phantom_token_scopes admin; error_page 403 = @login;", "deny all; error_page 403 = @login;"])
def test_a_copy_of_a_refused_token_goes_nowhere(redirecting, api, secrets, copy, why):
    nginx = redirecting(
        f"""
    {copy}
    location /a {{ phantom_token one; {why} proxy_pass @api@; }}
    location @login {{ phantom_token off; proxy_set_header X-Copy $tok; proxy_pass @api@; }}
""",
        http='map $http_authorization $bare { "~*^bearer (?<t>.+)$" $t; }',
        # At its level "debug", nginx itself logs what an `if` matches.
        level="info",
    )
    token = secrets.token()
    get(nginx.port, "/a", token=token)
    assert token not in str(api.only().headers)


def test_a_subrequest_does_not_lead_the_token_past_a_provider(redirecting, api, secrets):
    nginx = redirecting(
        """
    location /page { auth_request /auth; proxy_pass @api@; }
    location = /auth { phantom_token one; rewrite ^ /open last; }
    location /open { phantom_token off; proxy_pass @api@; }
"""
    )
    token = secrets.token()
    get(nginx.port, "/page", token=token)
    opened = [request for request in api.requests if request.target.startswith("/open")]
    assert opened and all(token not in str(request.headers) for request in opened)
