"""Each directive, in each context that the documentation names, and in no other."""

import re

import pytest

from harness.nginx import ROOT, Configuration

PROVIDER = """
phantom_token_provider acme {
    issuer https://as.example.com;
    introspection_endpoint http://127.0.0.1:1/introspect;
    client_id gateway;
    client_secret not-to-be-shown-0123;
    dialect mint;
    mint_key @dir@/secret.pem;
    mint_issuer https://gateway.example.com;
    cache_zone tokens;
}
phantom_token_zone tokens:1m;
"""

# How each is written. A second one stands for what is said at a level below.
WRITTEN = {
    "phantom_token": ("acme", "off"),
    "phantom_token_introspection_endpoint": ("/introspect", "/other"),
    "phantom_token_cache_key": ('"$host $server_name"', "other"),
    "phantom_token_pass_opaque": ("on", "off"),
    "phantom_token_scopes": ('"read write" admin', "other"),
    "phantom_token_scope": ("read", "other"),
    "phantom_token_scopes_enforce": ("off", "on"),
    "phantom_token_audience": ("orders bills", "other"),
    "phantom_token_issuer": ("https://as.example.com", "https://other.example.com"),
    "phantom_token_client": ("web app", "other"),
    "phantom_token_require": ("tenant $host ~^x", "other"),
    "phantom_token_acr": ("mfa hwk", "other"),
    "phantom_token_max_age": ("5m", "1m"),
    "phantom_token_sender_constraint": ("require", "ignore"),
    "phantom_token_dpop_window": ("2m", "30s"),
    "phantom_token_dpop_nonce": ("on", "off"),
    "phantom_token_dpop_uri": ("https://api.example.com$request_uri", "https://other.example.com$uri"),
    "phantom_token_client_certificate": ("$http_x_client_cert", "$ssl_client_escaped_cert"),
    "phantom_token_phase": ("preaccess", "access"),
    "phantom_token_realm": ('"the api"', "other"),
    "phantom_token_preflight": ("pass", "deny"),
    "phantom_token_source": ("authorization cookie session", "header X-Token"),
    "phantom_token_optional": ("on", "off"),
    "phantom_token_forward": ("header X-JWT", "authorization"),
    "phantom_token_set_header": ("X-User $phantom_token_sub", "X-Other $phantom_token_claim_tenant"),
    "phantom_token_resource": ("https://api.example.com", "https://other.example.com/api"),
    "phantom_token_purge": ("acme", None),
    "phantom_token_jwks": ("acme", None),
    "phantom_token_status": ("", None),
    "phantom_token_resource_metadata": ("", None),
    "phantom_token_zone": ("more:1m", None),
    "phantom_token_provider": ("more { introspection_endpoint http://127.0.0.1:1/; }", None),
}

CONTEXTS = ("http", "server", "location")


def documented():
    """The contexts of each directive in docs/nginx.md."""
    text = (ROOT / "docs/nginx.md").read_text().split("\n## Keys of a provider")[0]
    found = {}
    for syntax, context in re.findall(r"^\| Syntax \| (.*) \|\n\| Default \|.*\|\n\| Context \| (.*) \|$", text, re.M):
        for name in dict.fromkeys(re.findall(r"phantom_token\w*", syntax)):
            found[name] = set(re.findall(r"`(\w+)`", context))
    return found


def implemented():
    """The directives in the module's own table."""
    source = (ROOT / "nginx-module/src/conf.rs").read_text()
    table = source[source.index("pub static mut COMMANDS") :]
    return set(re.findall(r'ngx_string!\("(\w+)"\)', table[: table.index("ngx_command_t::empty()")]))


DOCUMENTED = documented()


def test_every_directive_is_documented_and_tried_here():
    assert set(DOCUMENTED) == implemented() == set(WRITTEN)


def placed(name, at, below=None):
    """A configuration with the directive in these contexts."""
    lines = {context: "" for context in CONTEXTS}
    for context in at:
        lines[context] = f"{name} {WRITTEN[name][0]};".replace("};", "}")
    if below:
        lines[below] = f"{name} {WRITTEN[name][1]};"
    # Most of what can be said is said of a location that has a provider; some of it needs a resource.
    around = "" if name == "phantom_token" else "phantom_token acme;"
    resource = "phantom_token_resource https://api.example.com;" if name == "phantom_token_resource_metadata" else ""
    return f"""
{PROVIDER}
{lines["http"]}
server {{
    listen @listen@;
    {resource}
    {around}
    {lines["server"]}
    location / {{
        {lines["location"]}
    }}
}}
"""


@pytest.fixture
def check(key):
    """Runs `nginx -t` on what belongs into `http`, and gives status and output."""
    made = []

    def run(http):
        configuration = Configuration(http, files={"secret.pem": key})
        made.append(configuration)
        return configuration.check()

    yield run
    for configuration in made:
        configuration.remove()


@pytest.fixture(scope="module")
def key():
    """A key to sign with."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_a_directive_is_allowed_exactly_where_the_documentation_says(check, name, context):
    status, said = check(placed(name, [context]))
    if context in DOCUMENTED[name]:
        assert status == 0, said
    else:
        assert status != 0
        assert f'"{name}" directive is not allowed here' in said


@pytest.mark.parametrize("name", sorted(name for name, (_, other) in WRITTEN.items() if other))
def test_what_is_said_above_may_be_said_otherwise_below(check, name):
    for below in ("server", "location"):
        status, said = check(placed(name, CONTEXTS[: CONTEXTS.index(below)], below))
        assert status == 0, said


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_a_directive_without_its_arguments_or_with_too_many_is_refused(check, name):
    context = "location" if "location" in DOCUMENTED[name] else "http"
    correct = placed(name, [context])
    for wrong in ("", *(["a b c d e f g"] if name in ONE else [])):
        if not wrong and not WRITTEN[name][0]:
            continue
        http = correct.replace(f"{name} {WRITTEN[name][0]}", f"{name} {wrong}{' {}' if '{' in WRITTEN[name][0] else ''}")
        status, said = check(http)
        assert status != 0, http
        assert name in said


# Those that say something where no token is resolved.
ALONE = {
    # It says whether one is.
    "phantom_token",
    # They serve something themselves, or define something.
    "phantom_token_purge",
    "phantom_token_jwks",
    "phantom_token_status",
    "phantom_token_resource_metadata",
    "phantom_token_zone",
    "phantom_token_provider",
    # It is for locations that resolve none.
    "phantom_token_pass_opaque",
}


def unprotected(name, at, around="", inside=""):
    """A configuration with the directive in a context, and no other of the module but those given."""
    lines = {context: "" for context in CONTEXTS} | {at: f"{name} {WRITTEN[name][0]}; #<\n"}
    return f"""
{PROVIDER}
{lines["http"]}
server {{
    listen @listen@;
    {lines["server"]} {around}
    location / {{
        {lines["location"]} {inside}
    }}
}}
"""


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", sorted(set(WRITTEN) - ALONE))
def test_what_asks_something_where_no_token_is_looked_at_is_refused(check, name, context):
    http = unprotected(name, context)
    status, said = check(http)
    assert status != 0, said
    line = next(n for n, line in enumerate(http.splitlines()) if "#<" in line)
    (said,) = [line for line in said.splitlines() if "[emerg]" in line]
    assert f'"{name}" protects nothing, because no "phantom_token" is set' in said
    assert 'write "phantom_token NAME;"' in said and '"phantom_token off;"' in said
    first = re.search(r"nginx\.conf:(\d+)$", said)
    assert first, said
    # The lines before `http` are those of the harness.
    before = next(n for n, line in enumerate(written(http)) if line == "phantom_token_zone tokens:1m;")
    assert int(first[1]) - 1 - before == line - http.splitlines().index("phantom_token_zone tokens:1m;")


def written(http):
    configuration = Configuration(http)
    try:
        return configuration.path.read_text().splitlines()
    finally:
        configuration.remove()


@pytest.mark.parametrize("name", sorted(set(WRITTEN) - ALONE))
def test_what_asks_something_is_taken_where_it_is_open_on_purpose(check, name):
    for context in CONTEXTS:
        for at in CONTEXTS[1 : CONTEXTS.index(context) + 1] or ["server"]:
            words = {"around" if at == "server" else "inside": "phantom_token off;"}
            status, said = check(unprotected(name, context, **words))
            assert status == 0, (context, at, said)
    # One server that is open on purpose says nothing of others.
    other = "} server { listen @listen:other@; phantom_token off;"
    status, said = check(unprotected(name, "http", around=f"phantom_token off; {other}"))
    assert status == 0, said
    status, said = check(unprotected(name, "http", around=other))
    assert status != 0, said


@pytest.mark.parametrize("name", sorted(set(WRITTEN) - ALONE))
def test_what_asks_something_may_be_above_what_looks_at_tokens(check, name):
    for context in ("http", "server"):
        status, said = check(unprotected(name, context, inside="phantom_token acme;"))
        assert status == 0, said
    # But not in a location that has such a one inside: it is open itself.
    inside = "location /inner { phantom_token acme; }"
    status, said = check(unprotected(name, "location", inside=inside))
    assert status != 0, said
    status, said = check(unprotected(name, "location", inside=f"phantom_token off; {inside}"))
    assert status == 0, said


# Those that take one argument, or none.
ONE = {
    "phantom_token_scope",
    "phantom_token_scopes_enforce",
    "phantom_token_introspection_endpoint",
    "phantom_token_cache_key",
    "phantom_token_pass_opaque",
    "phantom_token_max_age",
    "phantom_token_sender_constraint",
    "phantom_token_dpop_window",
    "phantom_token_dpop_nonce",
    "phantom_token_dpop_uri",
    "phantom_token_client_certificate",
    "phantom_token_phase",
    "phantom_token_realm",
    "phantom_token_preflight",
    "phantom_token_optional",
    "phantom_token_forward",
    "phantom_token_set_header",
    "phantom_token_resource",
    "phantom_token_purge",
    "phantom_token_jwks",
    "phantom_token_status",
    "phantom_token_zone",
}
