"""One server for many tenants: `phantom_token $variable NAME…` chooses the provider by the request."""

import pytest

from harness import config
from harness.client import get, get2
from harness.ugly import UglyServer


@pytest.fixture
def other(secrets):
    """The authorization server of another tenant."""
    server = UglyServer(secrets)
    yield server
    server.stop()


@pytest.fixture
def tenants(start_nginx, ugly, other, api, secrets):
    """Starts a gateway that chooses between the providers one and two; there is a third that it may not choose."""

    def start(location="", chosen="$arg_tenant one two", http="", listen=""):
        return start_nginx(
            f"""
{config.provider(ugly.url, secrets, name="one")}
{config.provider(other.url, secrets, name="two")}
{config.provider(ugly.url, secrets, name="three")}
{http}
server {{
    listen @listen@ {listen};
    location / {{
        phantom_token {chosen};
        {location}
        add_header X-Reason $phantom_token_reason always;
        add_header X-Result $phantom_token_result always;
        proxy_pass {api.url};
    }}
}}
"""
        )

    return start


@pytest.mark.parametrize("phase", ["access", "preaccess"])
@pytest.mark.parametrize("get_, listen", [(get, ""), (get2, "http2")], ids=["http1", "http2"])
def test_each_tenant_has_its_provider(tenants, ugly, other, api, secrets, get_, listen, phase):
    nginx = tenants(f"phantom_token_phase {phase};", listen=listen)
    token = secrets.token()
    for _ in range(2):
        for tenant, server in (("one", ugly), ("two", other)):
            assert get_(nginx.port, f"/?tenant={tenant}", token=token).status == 200
            assert api.requests[-1].value("authorization") == f"Bearer {server.jwt_for(token)}"
    assert (ugly.calls_for(token), other.calls_for(token)) == (1, 1)


@pytest.mark.parametrize("phase", ["access", "preaccess"])
@pytest.mark.parametrize("tenant", ["", "three", "nobody", "One", "one%20", "one%00", "$arg_tenant", "off", "on"])
def test_another_value_lets_nobody_in(tenants, ugly, other, api, secrets, tenant, phase):
    nginx = tenants(f"phantom_token_phase {phase};")
    answer = get(nginx.port, f"/?tenant={tenant}", token=secrets.token())
    assert (answer.status, answer.value("x-result"), answer.value("x-reason")) == (401, "invalid", "provider")
    assert 'error="invalid_token"' in answer.value("www-authenticate")
    assert (ugly.calls, other.calls, api.requests) == ([], [], [])


def test_an_optional_token_does_not_make_the_tenant_optional(tenants, api):
    nginx = tenants("phantom_token_optional on;")
    assert get(nginx.port, "/?tenant=nobody").status == 401
    assert get(nginx.port, "/?tenant=one").status == 200
    assert len(api.requests) == 1


def test_the_value_may_be_a_text_with_variables(tenants, ugly, other, api, secrets):
    nginx = tenants(chosen='"$prefix${arg_b}" one two', http="map $arg_a $prefix { default $arg_a; }")
    assert get(nginx.port, "/?a=t&b=wo", token=secrets.token()).status == 200
    assert get(nginx.port, "/?a=t&b=hree", token=secrets.token()).status == 401
    assert (len(ugly.calls), len(other.calls)) == (0, 1)


def test_the_choice_does_not_change_while_a_request_is_on_its_way(tenants, ugly, other, secrets):
    # The choice depends on the cache status, which changes after the first answer.
    nginx = tenants(
        "phantom_token_phase preaccess;",
        chosen="$fickle one two",
        http="map $phantom_token_cache $fickle { volatile; default two; '' one; }",
    )
    token = secrets.token()
    assert get(nginx.port, token=token).status == 200
    assert (ugly.calls_for(token), other.calls_for(token)) == (1, 0)


def test_the_choice_is_inherited_and_overridden(start_nginx, ugly, other, api, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets, name="one")}
{config.provider(other.url, secrets, name="two")}
phantom_token $arg_tenant one two;
server {{
    listen @listen@;
    location /http {{ proxy_pass {api.url}; }}
    location /own {{ phantom_token $arg_tenant two; proxy_pass {api.url}; }}
    location /one {{ phantom_token one; proxy_pass {api.url}; }}
    location /off {{ phantom_token off; proxy_pass {api.url}; }}
    location /if {{ if ($arg_x) {{ proxy_pass {api.url}; }} }}
}}
"""
    )
    token = secrets.token()

    def status(path, tenant):
        return get(nginx.port, f"{path}?x=1&tenant={tenant}", token=token).status

    assert [status("/http", "one"), status("/http", "two"), status("/http", "x")] == [200, 200, 401]
    assert [status("/own", "one"), status("/own", "two")] == [401, 200]
    assert [status("/one", "x"), status("/off", "x")] == [200, 200]
    assert [status("/if", "two"), status("/if", "x")] == [200, 401]


def test_a_redirect_chooses_anew(start_nginx, ugly, other, api, secrets):
    nginx = start_nginx(
        f"""
{config.provider(ugly.url, secrets, name="one")}
{config.provider(other.url, secrets, name="two")}
map $uri $tenant {{ volatile; default one; /second two; }}
server {{
    listen @listen@;
    location /first {{ phantom_token $tenant one two; try_files /nowhere /second; }}
    location /second {{ phantom_token $tenant one two; proxy_pass {api.url}; }}
}}
"""
    )
    token = secrets.token()
    assert get(nginx.port, "/first", token=token).status == 200
    assert (ugly.calls_for(token), other.calls_for(token)) == (1, 1)
    assert api.only().value("authorization") == f"Bearer {other.jwt_for(token)}"
